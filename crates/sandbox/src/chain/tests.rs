//! The chain as a pool sees it: templates taken, blocks built and handed in, some of them bad.

use bitcoin::{Block, OutPoint, TxMerkleNode, consensus, hashes::Hash as _};
use share::Target;

use super::{
    check::{COMMITMENT, Hashes, merkle_root, witness_commitment},
    *,
};

mod rules;

/// When tests begin, in milliseconds since 1970.
const START: u64 = 1_760_000_000_000;

const EASY: ChainConfig = ChainConfig {
    block_interval: Duration::from_secs(30),
    start_difficulty: 1e-12, // every second hash
    retarget: false,
    transactions: 20,
    template_interval: Duration::from_secs(20),
    start_height: 900_000,
    seed: 7,
};

fn state() -> State {
    State::new(&EASY, START)
}

/// A block on `template`, not ground yet.
fn draft(template: &Template, salt: u64) -> Block {
    let output = Output { script: vec![0x51], sats: template.coinbase_value };
    let coinbase = template::coinbase(template, "/test/", &salt.to_le_bytes(), &[output], 8).unwrap();
    let job = template.job(coinbase);
    let extranonce = Extranonce::new(&[&[1; 8]]).unwrap();
    let submission = Submission { extranonce, time: job.time, nonce: 0, version: job.version };
    consensus::deserialize(&template.block(&job, &submission)).unwrap()
}

/// Gives it a nonce that its bits are content with.
fn grind(block: &mut Block) {
    let target = Target::from_compact(block.header.bits.to_consensus()).unwrap();
    let header = Header::new(consensus::serialize(&block.header).try_into().unwrap());
    block.header.nonce = header.grind(0..=u32::MAX, &target).unwrap();
}

/// A good block on the best template.
fn good(state: &mut State, now_ms: u64) -> Block {
    let mut block = draft(&state.template(now_ms).0, now_ms);
    grind(&mut block);
    block
}

fn submit(state: &mut State, block: &Block, now_ms: u64) -> Submitted {
    state.submit(&consensus::serialize(block), now_ms)
}

fn hash(block: &Block) -> Hash {
    block.block_hash().to_byte_array()
}

/// What is put right again after a block was changed, so that only the rule in question is broken. Each includes those
/// before it.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Mend {
    Nothing,
    Work,
    Root,
    Commitment,
}

fn mend(block: &mut Block, mend: Mend) {
    if mend >= Mend::Commitment {
        let reserved: Hash = block.txdata[0].input[0].witness.nth(0).unwrap().try_into().unwrap();
        let commitment = witness_commitment(&merkle_root(&Hashes::of(block).wtxids).0, &reserved);
        let last = block.txdata[0].output.last_mut().unwrap();
        last.script_pubkey = [&COMMITMENT[..], &commitment].concat().into();
    }
    if mend >= Mend::Root {
        block.header.merkle_root = TxMerkleNode::from_byte_array(merkle_root(&Hashes::of(block).txids).0);
    }
    if mend >= Mend::Work {
        grind(block);
    }
}

#[test]
fn what_is_no_block_and_what_was_there_before() {
    let mut state = state();
    let block = good(&mut state, START);
    let bytes = consensus::serialize(&block);
    let undecodable = Submitted::Refused("Block decode failed".into());
    for bad in [&bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat(), &bytes[..80], &[], &[0xff; 200]] {
        assert_eq!(state.submit(bad, START), undecodable);
    }
    assert_eq!(state.submit(&bytes, START), Submitted::Accepted);
    assert_eq!(state.submit(&bytes, START), Submitted::Known);
    assert!(state.invalidate(&hash(&block), START));
    assert_eq!(state.submit(&bytes, START), Submitted::Refused("duplicate-invalid".into()));
    assert_eq!(state.depth(&hash(&block)), Depth::OffChain);
    assert!(!state.invalidate(&[1; 32], START));
}

#[test]
fn most_work_wins_and_transactions_follow() {
    let mut state = state();
    let (template, _) = state.template(START);
    let [mut first, mut rival] = [1, 2].map(|salt| draft(&template, salt));
    grind(&mut first);
    grind(&mut rival);
    assert_eq!(submit(&mut state, &first, START), Submitted::Accepted);
    assert_eq!(submit(&mut state, &rival, START), Submitted::Unclear("inconclusive".into()));
    assert_eq!(state.tip(), Tip { hash: hash(&first), height: 900_000 });
    assert_eq!(
        (state.depth(&hash(&first)), state.depth(&hash(&rival))),
        (Depth::OnChain(1), Depth::OffChain)
    );

    // On top of the rival a transaction that both have is spent, one that neither has is not.
    let (after_first, _) = state.template(START + 1);
    let mut next = draft(&Template { prev_hash: hash(&rival), ..after_first.clone() }, 3);
    let mut twice = next.clone();
    twice.txdata.push(rival.txdata[1].clone());
    mend(&mut twice, Mend::Commitment);
    let spent = Submitted::Refused("bad-txns-inputs-missingorspent".into());
    assert_eq!(submit(&mut state, &twice, START), spent);
    grind(&mut next);
    assert_eq!(submit(&mut state, &next, START), Submitted::Accepted, "more work");
    assert_eq!(state.tip(), Tip { hash: hash(&next), height: 900_001 });
    assert_eq!(
        (state.depth(&hash(&first)), state.depth(&hash(&rival))),
        (Depth::OffChain, Depth::OnChain(2))
    );

    // Back again, and what the two blocks had waits as before.
    assert!(state.invalidate(&hash(&rival), START));
    assert_eq!(state.tip().hash, hash(&first));
    let mut on_invalid = draft(&Template { prev_hash: hash(&next), ..after_first }, 4);
    grind(&mut on_invalid);
    assert_eq!(submit(&mut state, &on_invalid, START), Submitted::Refused("bad-prevblk".into()));
    assert!(state.invalidate(&hash(&first), START));
    assert_eq!(state.tip().height, 899_999);
    let again = good(&mut state, START + 2);
    let txids = |block: &Block| Hashes::of(block).txids;
    let again_txids = txids(&again);
    assert!(txids(&first)[1..].iter().chain(&txids(&next)[1..]).all(|txid| again_txids.contains(txid)));
    assert_eq!(submit(&mut state, &again, START + 2), Submitted::Accepted);
}

#[test]
fn a_long_chain_forgets_what_is_buried() {
    let mut state = state();
    let mut blocks = Vec::new();
    for i in 0..60 {
        let now = START + i * 30_000;
        let block = good(&mut state, now);
        assert!(block.txdata.len() > 18, "{} transactions", block.txdata.len());
        assert_eq!(submit(&mut state, &block, now), Submitted::Accepted);
        blocks.push(block);
    }
    for (i, block) in blocks.iter().enumerate() {
        assert_eq!(state.depth(&hash(block)), Depth::OnChain(60 - i as u32));
        let stored = state.block(&hash(block)).unwrap();
        assert_eq!(stored.coinbase.as_ref(), Some(&block.txdata[0]));
        assert_eq!(stored.txids.is_empty(), i < 60 - 12, "block {i}");
    }
    // Far back, and on from there.
    assert!(state.invalidate(&hash(&blocks[20]), START));
    assert_eq!(state.tip(), Tip { hash: hash(&blocks[19]), height: 900_019 });
    let block = good(&mut state, START + 60 * 30_000);
    assert_eq!(submit(&mut state, &block, START + 60 * 30_000), Submitted::Accepted);
}

#[test]
fn templates_grow_and_keep_their_name_while_nothing_is_better() {
    let mut state = state();
    let (first, look) = state.template(START);
    assert_eq!((first.height, first.bits, look), (900_000, 0x207f_ffff, START + 20_000));
    assert_eq!((first.time, first.min_time), ((START / 1000) as u32, (START / 1000) as u32 - 599));
    let (same, _) = state.template(START + 19_999);
    assert_eq!((same.long_poll, same.coinbase_value), (first.long_poll.clone(), first.coinbase_value));
    assert_eq!(same.time, first.time + 19, "but its time goes on");
    let (better, look) = state.template(START + 20_000);
    assert_ne!(better.long_poll, first.long_poll);
    assert!(
        better.coinbase_value > first.coinbase_value && better.transaction_count > first.transaction_count
    );
    assert_eq!(look, START + 40_000);
    let block = good(&mut state, START + 20_000);
    assert_eq!(submit(&mut state, &block, START + 20_001), Submitted::Accepted);
    let (next, _) = state.template(START + 20_002);
    assert_eq!((next.height, next.prev_hash), (900_001, hash(&block)));

    // No transactions, nothing better, no other name.
    let mut state = State::new(&ChainConfig { transactions: 0, ..EASY }, START);
    let (first, _) = state.template(START);
    assert_eq!((first.transaction_count, first.coinbase_value), (0, 312_500_000));
    let (same, look) = state.template(START + 25_000);
    assert_eq!((same.long_poll, look), (first.long_poll, START + 45_000));
    let block = good(&mut state, START + 30_000);
    assert_eq!(submit(&mut state, &block, START + 30_000), Submitted::Accepted);
}

#[test]
fn after_silence_old_and_eased_bits_are_both_good() {
    let config = ChainConfig { retarget: true, start_difficulty: 1e-6, ..EASY };
    for eased_wins in [false, true] {
        let mut state = State::new(&config, START);
        let (hard, look) = state.template(START);
        assert_eq!(look, START + 20_000);
        let (same, look) = state.template(START + 115_000);
        assert_eq!((same.bits, look), (hard.bits, START + 120_000), "the easing is told in advance");
        let (eased, _) = state.template(START + 120_000);
        assert!(eased.network_target > hard.network_target);
        assert_ne!(eased.long_poll, same.long_poll);
        let mut block = draft(if eased_wins { &eased } else { &hard }, 1);
        grind(&mut block);
        assert_eq!(submit(&mut state, &block, START + 121_000), Submitted::Accepted);
        // The eased target was met in a second, so it hardens; the hard one took four intervals, so it eases.
        let (next, _) = state.template(START + 121_001);
        let met = Target::from_compact(block.header.bits.to_consensus()).unwrap();
        assert_eq!(next.network_target < met, eased_wins);
    }
}

#[test]
fn the_new_tip_after_an_invalid_one_is_not_late() {
    let mut state = State::new(&ChainConfig { retarget: true, start_difficulty: 1e-6, ..EASY }, START);
    let mut blocks = Vec::new();
    for i in 1..=6 {
        let block = good(&mut state, START + i * 30_000);
        assert_eq!(submit(&mut state, &block, START + i * 30_000), Submitted::Accepted);
        blocks.push(block);
    }
    let bits = blocks[1].header.bits.to_consensus();
    let now = START + 7 * 30_000;
    assert!(state.invalidate(&hash(&blocks[1]), now));
    assert_eq!(state.template(now).0.bits, bits);
    assert_eq!(state.template(now + 119_000).0.bits, bits);
    assert_ne!(state.template(now + 120_000).0.bits, bits);
}

#[tokio::test]
async fn a_full_template_becomes_a_block() {
    let chain = Chain::new(ChainConfig { start_difficulty: 1e-6, ..ChainConfig::default() });
    let template = chain.template(None).await.unwrap();
    assert_eq!(template.height, 900_000);
    assert!((3_000..=4_000).contains(&template.transaction_count), "{}", template.transaction_count);
    assert!(template.coinbase_value > 312_500_000);
    let output = Output { script: vec![0x51], sats: template.coinbase_value };
    let coinbase = template::coinbase(&template, "/test/", &[], &[output], 8).unwrap();
    let job = template.job(coinbase);
    let submission = solve(&job);
    let block = template.block(&job, &submission);
    let hash = share::sha256::double(&job.header(&submission));
    assert_eq!(chain.depth(&hash).await.unwrap(), Depth::Unknown);
    assert_eq!(chain.submit(&block).await.unwrap(), Submitted::Accepted);
    assert_eq!(chain.tip().await.unwrap(), Tip { hash, height: 900_000 });
    assert_eq!(chain.depth(&hash).await.unwrap(), Depth::OnChain(1));
    assert_eq!(chain.coinbase(&hash).unwrap().output[0].value.to_sat(), template.coinbase_value);
    let parsed: Block = consensus::deserialize(&block).unwrap();
    assert!((3_200_000..=4_000_000).contains(&parsed.weight().to_wu()), "{}", parsed.weight());
    assert!(parsed.check_merkle_root() && parsed.check_witness_commitment());
    assert_eq!(parsed.bip34_block_height().unwrap(), 900_000);
    assert!(
        parsed.txdata[1..].iter().all(|tx| tx.input.iter().all(|i| i.previous_output != OutPoint::null()))
    );
}

#[tokio::test]
async fn generates_and_goes_back() {
    let chain = Chain::new(EASY);
    let hashes = chain.generate(105, &[0x51]).await.unwrap();
    assert_eq!(chain.tip().await.unwrap(), Tip { hash: hashes[104], height: 900_104 });
    assert_eq!(chain.depth(&hashes[4]).await.unwrap(), Depth::OnChain(101));
    assert!(chain.invalidate(hashes[3]).await.unwrap());
    assert!(!chain.invalidate([0; 32]).await.unwrap());
    assert_eq!(chain.tip().await.unwrap(), Tip { hash: hashes[2], height: 900_002 });
    assert_eq!(chain.depth(&hashes[4]).await.unwrap(), Depth::OffChain);
    assert_eq!(chain.generate(1, &[0x51]).await.unwrap().len(), 1);
    assert_eq!(chain.tip().await.unwrap().height, 900_003);
}

#[tokio::test]
async fn a_long_poll_ends_when_fees_rise_or_the_tip_changes() {
    // A block, and 30 transactions, each second; templates each 100 ms.
    let config = ChainConfig {
        block_interval: Duration::from_secs(1),
        template_interval: Duration::from_millis(100),
        transactions: 100,
        ..EASY
    };
    let chain = Chain::new(config.clone());
    let first = chain.template(None).await.unwrap();
    let start = Instant::now();
    let second = chain.template(first.long_poll.as_deref()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(second.prev_hash, first.prev_hash);
    assert!(second.coinbase_value > first.coinbase_value);
    let old = chain.template(Some("of another chain")).await.unwrap();
    assert_eq!(old.height, first.height);

    // Templates are an hour apart here: only the tip can end the poll.
    let chain = Chain::new(ChainConfig { template_interval: Duration::from_secs(3_600), ..config });
    let first = chain.template(None).await.unwrap();
    let poll = chain.template(first.long_poll.as_deref());
    let mine = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        chain.generate(1, &[0x51]).await.unwrap()[0]
    };
    let (next, hash) = tokio::join!(poll, mine);
    let next = next.unwrap();
    assert_eq!((next.height, next.prev_hash), (first.height + 1, hash));
}
