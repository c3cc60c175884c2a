//! The mining interface: the same templates as over RPC, waits, blocks.

use std::{sync::Arc, time::Duration};

use bitcoin::{
    Amount, Block, Network, OutPoint, Sequence, Transaction, TxIn, TxOut, Txid, consensus,
    consensus::Decodable,
};
use serde_json::json;
use template::{Depth, Ipc, Node, NodeError, Output, Rpc, Submitted, Template, Tip, coinbase};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    daemon::Daemon,
    miner::{Coin, block, coinbase_for, payee, solve, spend},
};

mod core30;
mod socket;

const COIN: u64 = 100_000_000;

fn ipc(daemon: &Daemon) -> Arc<Ipc> {
    Arc::new(Ipc::new(daemon.socket(), Network::Regtest))
}

/// The coinbase of a block of ours.
fn coin(block: &[u8]) -> Coin {
    let block: Block = consensus::deserialize(block).unwrap();
    Coin { txid: block.txdata[0].compute_txid(), sats: block.txdata[0].output[0].value.to_sat() }
}

/// A node with `height` blocks, and their coins, the oldest first.
async fn grown(height: u32) -> (Daemon, Vec<Coin>) {
    let daemon = Daemon::regtest().await;
    let rpc = daemon.rpc();
    let mut coins = Vec::new();
    for _ in 0..height {
        let solved = block(&rpc.template(None).await.unwrap(), b"");
        assert_eq!(rpc.submit(&solved.block).await.unwrap(), Submitted::Accepted);
        coins.push(coin(&solved.block));
    }
    (daemon, coins)
}

async fn send(daemon: &Daemon, transaction: &Transaction) {
    daemon.get("sendrawtransaction", json!([consensus::encode::serialize_hex(transaction)])).await;
}

/// A chain of transactions, each spending the one before, for the fees given.
fn chain(mut from: Coin, fees: &[u64]) -> Vec<Transaction> {
    let link = |fee: &u64| {
        let transaction = spend(from.txid, from.sats, *fee);
        from = Coin { txid: transaction.compute_txid(), sats: from.sats - fee };
        transaction
    };
    fees.iter().map(link).collect()
}

/// The template over RPC, once it has that many transactions: for some seconds the node keeps to the one that it has.
async fn over_rpc(rpc: &Rpc, count: usize) -> Template {
    let template = async {
        loop {
            let template = rpc.template(None).await.unwrap();
            if template.transaction_count == count {
                break template;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(Duration::from_secs(30), template).await.unwrap()
}

fn transactions(template: &Template) -> Vec<Transaction> {
    let mut bytes = &template.transactions[..];
    let mut list = Vec::new();
    while !bytes.is_empty() {
        list.push(Transaction::consensus_decode(&mut bytes).unwrap());
    }
    assert_eq!(list.len(), template.transaction_count);
    list
}

/// All that makes a job, but for the clock.
fn assert_same(ipc: &Template, rpc: &Template) {
    for (at, (ipc, rpc)) in transactions(ipc).iter().zip(transactions(rpc)).enumerate() {
        assert_eq!(*ipc, rpc, "transaction {at}");
    }
    assert_eq!(ipc.transactions, rpc.transactions);
    assert_eq!(ipc.transaction_count, rpc.transaction_count);
    assert_eq!((ipc.height, ipc.prev_hash), (rpc.height, rpc.prev_hash));
    assert_eq!((ipc.version, ipc.bits, ipc.network_target), (rpc.version, rpc.bits, rpc.network_target));
    assert_eq!(ipc.coinbase_value, rpc.coinbase_value);
    assert_eq!(ipc.witness_commitment, rpc.witness_commitment);
    assert!(ipc.witness_commitment.is_some());
    assert_eq!(ipc.branch, rpc.branch);
    let times = [ipc.min_time, rpc.time, ipc.time];
    assert!(times.iter().all(|time| *time >= rpc.min_time), "{times:?} {}", rpc.min_time);
    assert!(ipc.time.abs_diff(rpc.time) < 60);
}

#[tokio::test]
async fn the_same_templates_as_over_rpc() {
    let (daemon, coins) = grown(130).await;
    let (ipc, rpc) = (ipc(&daemon), daemon.rpc());
    assert_eq!(ipc.name(), daemon.socket().to_str().unwrap());
    assert_same(&ipc.template().await.unwrap(), &over_rpc(&rpc, 0).await);

    // Parents that only their children's fees bring in, a parent of many, and plain ones.
    let mut sent = Vec::new();
    for (n, coin) in coins[..20].iter().enumerate() {
        let n = n as u64;
        sent.extend(chain(*coin, &[200 + n, 9000 - 100 * n, 150, 40_000 + 7 * n, 1000]));
    }
    let shares = |sats: u64| TxOut { value: Amount::from_sat(sats), script_pubkey: payee() };
    let mut wide = spend(coins[20].txid, coins[20].sats, 0);
    wide.output = (0..20).map(|_| shares(5 * COIN / 2 - 1500)).collect();
    let input = |vout| TxIn {
        previous_output: OutPoint { txid: wide.compute_txid(), vout },
        sequence: Sequence::MAX,
        ..wide.input[0].clone()
    };
    let gathered = Transaction {
        input: (0..10).map(input).collect(),
        output: vec![shares(25 * COIN - 65_000)],
        ..wide.clone()
    };
    sent.extend([wide, gathered]);
    for transaction in &sent {
        send(&daemon, transaction).await;
    }
    let (by_rpc, by_ipc) = (over_rpc(&rpc, sent.len()).await, ipc.template().await.unwrap());
    assert_same(&by_ipc, &by_rpc);
    let mut mined: Vec<Txid> = transactions(&by_ipc).iter().map(Transaction::compute_txid).collect();
    let mut known: Vec<Txid> = sent.iter().map(Transaction::compute_txid).collect();
    mined.sort();
    known.sort();
    assert_eq!(mined, known);
    // The fees, and the subsidy that halves every 150 blocks here.
    let fees = by_ipc.coinbase_value - 50 * COIN;
    assert!(fees > 1_000_000, "{fees}");

    // The same jobs, too.
    let (one, two) = (coinbase_for(&by_ipc, "/t/", b"s"), coinbase_for(&by_rpc, "/t/", b"s"));
    let (one, two) = (by_ipc.job(one), by_rpc.job(two));
    let mut submission = solve(&one);
    submission.time = two.time.max(one.time);
    assert_eq!(one.header(&submission), two.header(&submission));

    let empty = ipc.empty().await.unwrap();
    assert_eq!((empty.transaction_count, empty.transactions.len(), empty.branch.len()), (0, 0, 0));
    assert_eq!((empty.height, empty.prev_hash, empty.bits), (by_rpc.height, by_rpc.prev_hash, by_rpc.bits));
    assert_eq!(empty.coinbase_value, 50 * COIN);
    assert_ne!(empty.witness_commitment, by_rpc.witness_commitment);

    // What a job is made of by IPC is a block to the byte, and the next template is on it.
    let solved = block(&by_ipc, b"");
    assert_eq!(ipc.submit(&solved.block).await.unwrap().unwrap(), Submitted::Accepted);
    let whole: Block = consensus::deserialize(&solved.block).unwrap();
    assert!(whole.check_merkle_root() && whole.check_witness_commitment());
    assert_eq!(whole.txdata.len(), sent.len() + 1);
    let on_chain = daemon.get("getblock", json!([crate::miner::shown(&solved.hash), 0])).await;
    assert_eq!(on_chain, json!(hex::encode(&solved.block)), "the node has what we made");
    assert_same(&ipc.template().await.unwrap(), &over_rpc(&rpc, 0).await);
}

#[tokio::test]
async fn from_the_genesis_on_and_through_a_halving() {
    let daemon = Daemon::regtest().await;
    let ipc = ipc(&daemon);
    // Low heights are opcodes, 17 is a number and 128 has a second byte. The node believes itself in the initial
    // download for the first blocks, which on a test chain is no reason.
    for height in 1..=155 {
        let template = if height % 2 == 0 { ipc.template().await } else { ipc.empty().await }.unwrap();
        assert_eq!(template.height, height);
        assert_eq!(template.coinbase_value, if height < 150 { 50 * COIN } else { 25 * COIN });
        let solved = block(&template, b"");
        assert_eq!(ipc.submit(&solved.block).await.unwrap().unwrap(), Submitted::Accepted, "height {height}");
        assert_eq!(ipc.tip().await.unwrap(), Tip { hash: solved.hash, height });
    }
}

#[tokio::test]
async fn next_wakes_on_a_block_and_on_fees_that_pay() {
    let (daemon, coins) = grown(110).await;
    let (ipc, rpc) = (ipc(&daemon), daemon.rpc());
    let next = |threshold| {
        let ipc = ipc.clone();
        tokio::spawn(async move { ipc.next(threshold).await })
    };
    // Without an earlier template there is nothing to wait for.
    let first = next(1000).await.unwrap().unwrap();
    assert_eq!((first.height, first.transaction_count), (111, 0));

    let waiting = next(10_000);
    send(&daemon, &chain(coins[0], &[6000])[0]).await;
    sleep(Duration::from_secs(3)).await;
    assert!(!waiting.is_finished(), "6000 sat are not worth it");
    send(&daemon, &chain(coins[1], &[5000])[0]).await;
    let paying = timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((paying.transaction_count, paying.coinbase_value), (2, first.coinbase_value + 11_000));
    assert_eq!(paying.prev_hash, first.prev_hash);

    let waiting = next(u64::MAX);
    send(&daemon, &chain(coins[2], &[500_000])[0]).await;
    sleep(Duration::from_secs(2)).await;
    assert!(!waiting.is_finished(), "no fees are worth it");
    let solved = block(&rpc.template(None).await.unwrap(), b"other");
    assert_eq!(rpc.submit(&solved.block).await.unwrap(), Submitted::Accepted);
    let after = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((after.prev_hash, after.height), (solved.hash, 112));

    // Waits that nobody is interested in any more end in the node too, or the last one would be behind a minute of
    // each of them.
    for _ in 0..5 {
        let given_up = next(u64::MAX);
        sleep(Duration::from_millis(100)).await;
        given_up.abort();
    }
    let waiting = next(u64::MAX);
    sleep(Duration::from_millis(500)).await;
    let solved = block(&ipc.empty().await.unwrap(), b"");
    assert_eq!(ipc.submit(&solved.block).await.unwrap().unwrap(), Submitted::Accepted);
    let after = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((after.prev_hash, after.height), (solved.hash, 113));

    // A tip that changed before the question is a reason to answer at once, and a reorganisation too.
    let solved = block(&rpc.template(None).await.unwrap(), b"");
    assert_eq!(rpc.submit(&solved.block).await.unwrap(), Submitted::Accepted);
    let after = timeout(Duration::from_secs(5), next(u64::MAX)).await.unwrap().unwrap().unwrap();
    assert_eq!((after.prev_hash, after.height), (solved.hash, 114));
    let waiting = next(u64::MAX);
    daemon.get("invalidateblock", json!([crate::miner::shown(&solved.hash)])).await;
    let back = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((back.prev_hash, back.height), (rpc.tip().await.unwrap().hash, 113));
}

#[tokio::test]
async fn the_tip_as_soon_as_it_changes() {
    let daemon = Daemon::regtest().await;
    let (ipc, rpc) = (ipc(&daemon), daemon.rpc());
    let genesis = rpc.tip().await.unwrap();
    assert_eq!(ipc.tip().await.unwrap(), genesis);
    // A hash that the node has never heard of is not its best block.
    let now = timeout(Duration::from_secs(5), ipc.tip_changed(&[7; 32])).await.unwrap().unwrap();
    assert_eq!(now, genesis);

    for height in 1..=50 {
        let before = ipc.tip().await.unwrap();
        // Any number may wait, and give up.
        let waiting = [(); 3].map(|()| {
            let ipc = ipc.clone();
            tokio::spawn(async move { ipc.tip_changed(&before.hash).await })
        });
        waiting[2].abort();
        let solved = block(&rpc.template(None).await.unwrap(), b"");
        assert_eq!(rpc.submit(&solved.block).await.unwrap(), Submitted::Accepted);
        // Who has heard of the block elsewhere is not told of the one before.
        let early = timeout(Duration::from_millis(20), ipc.tip_changed(&solved.hash)).await;
        assert!(early.is_err(), "{early:?} after {height}");
        let [one, two, _] = waiting;
        for waiting in [one, two] {
            let tip = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap();
            assert_eq!(tip, Tip { hash: solved.hash, height });
        }
    }
    // Over the end of many slices of the wait, and back to an older block.
    let best = ipc.tip().await.unwrap();
    let waiting = tokio::spawn({
        let ipc = ipc.clone();
        async move { ipc.tip_changed(&best.hash).await }
    });
    sleep(Duration::from_secs(5)).await;
    assert!(!waiting.is_finished());
    daemon.get("invalidateblock", json!([crate::miner::shown(&best.hash)])).await;
    let tip = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(tip.height, 49);
}

#[tokio::test]
async fn blocks_of_known_and_unknown_templates() {
    let (daemon, coins) = grown(101).await;
    let (ipc, rpc) = (ipc(&daemon), daemon.rpc());
    let some = rpc.template(None).await.unwrap();
    assert!(ipc.submit(&block(&some, b"").block).await.is_none(), "there is no connection as yet");
    send(&daemon, &chain(coins[0], &[10_000])[0]).await;
    let template = ipc.template().await.unwrap();
    assert_eq!(template.transaction_count, 1);
    let accept = async |block: &[u8]| ipc.submit(block).await.unwrap().unwrap();
    let refused = |word: &str| Submitted::Refused(word.to_owned());
    let unclear = Submitted::Unclear("inconclusive".to_owned());

    // Nothing that a block can be cut from.
    for junk in [&b""[..], b"no block", &[0; 81], &[0xff; 200]] {
        assert!(ipc.submit(junk).await.is_none());
    }
    let greedy = Template { coinbase_value: template.coinbase_value + 1, ..template.clone() };
    let greedy = block(&greedy, b"");
    assert_eq!(accept(&greedy.block).await, refused("bad-cb-amount"));
    assert_eq!(rpc.depth(&greedy.hash).await.unwrap(), Depth::OffChain);
    let bare = Template { witness_commitment: None, ..template.clone() };
    assert_eq!(accept(&block(&bare, b"").block).await, refused("unexpected-witness"));
    let mut weak = block(&template, b"weak").block;
    while Target::of(&weak) {
        weak[76] = weak[76].wrapping_add(1);
    }
    assert_eq!(accept(&weak).await, refused("high-hash"));

    // Current; the same again; a sibling; and, after one more block, one on a template that is stale.
    let (good, sibling, late) = (block(&template, b"1"), block(&template, b"2"), block(&template, b"3"));
    assert_eq!(accept(&good.block).await, Submitted::Accepted);
    assert_eq!(rpc.depth(&good.hash).await.unwrap(), Depth::OnChain(1));
    assert_eq!(accept(&good.block).await, Submitted::Accepted);
    assert_eq!(accept(&sibling.block).await, unclear);
    assert_eq!(rpc.depth(&sibling.hash).await.unwrap(), Depth::OffChain);
    let template = ipc.template().await.unwrap();
    assert_eq!(template.prev_hash, good.hash);
    let on_good = block(&template, b"");
    assert_eq!(accept(&on_good.block).await, Submitted::Accepted);
    assert_eq!(accept(&late.block).await, unclear);
    assert_eq!(rpc.depth(&late.hash).await.unwrap(), Depth::OffChain);
    assert_eq!(rpc.depth(&on_good.hash).await.unwrap(), Depth::OnChain(1));

    // Of a template that this node never gave: it takes whole blocks too.
    let other = Ipc::new(daemon.socket(), Network::Regtest);
    let template = other.template().await.unwrap();
    let own = Template { time: template.time + 1, ..ipc.template().await.unwrap() };
    let outputs = [
        Output { script: payee().into_bytes(), sats: own.coinbase_value - 1 },
        Output { script: vec![0x51], sats: 1 },
    ];
    let job = own.job(coinbase(&own, "", b"", &outputs, 12).unwrap());
    let split = own.block(&job, &solve(&job));
    drop(other);
    let fresh = Ipc::new(daemon.socket(), Network::Regtest);
    fresh.tip().await.unwrap();
    assert_eq!(fresh.submit(&split).await.unwrap().unwrap(), Submitted::Accepted);
    assert_eq!(fresh.submit(&split).await.unwrap().unwrap(), Submitted::Known);
    let greedy = Template { coinbase_value: u64::MAX / 4, ..rpc.template(None).await.unwrap() };
    let said = fresh.submit(&block(&greedy, b"").block).await.unwrap().unwrap();
    assert!(matches!(said, Submitted::Refused(_)), "{said:?}");
    let orphan = Template { prev_hash: [9; 32], ..own };
    let said = fresh.submit(&block(&orphan, b"").block).await.unwrap().unwrap();
    assert_eq!(said, Submitted::Unclear("prev-blk-not-found".into()));
}

/// Whether the header of `block` meets its own target on this chain of almost none.
struct Target;

impl Target {
    fn of(block: &[u8]) -> bool {
        let target = share::Target::from_compact(0x207f_ffff).unwrap();
        target.is_met_by(&share::sha256::double(&block[..80]))
    }
}

#[tokio::test]
async fn the_node_forgets_old_templates_and_the_chain_goes_on() {
    let daemon = Daemon::start(&["-regtest", "-debug=ipc"]).await;
    let (ipc, rpc) = (ipc(&daemon), daemon.rpc());
    let oldest = ipc.template().await.unwrap();
    for _ in 0..100 {
        ipc.empty().await.unwrap();
    }
    let freed = || {
        let log = daemon.debug_log();
        let is_freed = |line: &&str| line.contains("recv request") && line.contains("BlockTemplate.destroy");
        log.lines().filter(is_freed).count()
    };
    let all = async {
        while freed() < 101 - 32 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), all).await.unwrap();
    ipc.tip().await.unwrap();
    assert_eq!(freed(), 101 - 32, "and no more of them");
    // The oldest is what `next` would wait on, so it is still there; a block on it is taken.
    let solved = block(&oldest, b"");
    assert_eq!(ipc.submit(&solved.block).await.unwrap().unwrap(), Submitted::Accepted);
    assert_eq!(rpc.tip().await.unwrap().hash, solved.hash);
}

/// How a template is fetched and a block handed over.
enum Way {
    Ipc(Arc<Ipc>),
    Rpc(Arc<Rpc>),
}

impl Way {
    async fn template(&self) -> Result<Template, NodeError> {
        match self {
            Way::Ipc(ipc) => ipc.template().await,
            Way::Rpc(rpc) => rpc.template(None).await,
        }
    }

    async fn submit(&self, block: &[u8]) -> Result<Submitted, NodeError> {
        match self {
            Way::Ipc(ipc) => ipc.submit(block).await.expect("a template of this node"),
            Way::Rpc(rpc) => rpc.submit(block).await,
        }
    }
}

/// A thousand blocks one after the other, each with the transactions of its time: none is lost, and no transaction.
async fn a_thousand_blocks(daemon: &Daemon, way: Way) {
    let rpc = daemon.rpc();
    let started = Instant::now();
    let (mut coins, mut tip, mut spent) = (Vec::new(), rpc.tip().await.unwrap().hash, 0);
    for height in 1..=1000 {
        // A coin is spent when it is a hundred blocks deep, and its change in the same block.
        let mature = height > 100 && height % 3 != 0;
        let sends = if mature { chain(coins[height - 101], &[3, 2].map(|n| n * 1000)) } else { vec![] };
        for transaction in &sends {
            send(daemon, transaction).await;
        }
        spent += sends.len();
        let template = way.template().await.unwrap();
        assert_eq!((template.height as usize, template.prev_hash), (height, tip));
        assert_eq!(template.transaction_count, sends.len());
        let solved = block(&template, b"");
        assert_eq!(way.submit(&solved.block).await.unwrap(), Submitted::Accepted, "height {height}");
        coins.push(coin(&solved.block));
        tip = solved.hash;
    }
    assert_eq!(rpc.tip().await.unwrap(), Tip { hash: tip, height: 1000 });
    assert_eq!(spent, 1200);
    let left = daemon.get("getmempoolinfo", json!([])).await["size"].clone();
    assert_eq!(left, json!(0), "every transaction is in a block");
    println!("1000 blocks in {:?}", started.elapsed());
}

#[tokio::test]
async fn a_thousand_blocks_over_ipc() {
    let daemon = Daemon::regtest().await;
    let ipc = ipc(&daemon);
    a_thousand_blocks(&daemon, Way::Ipc(ipc)).await;
}

#[tokio::test]
async fn a_thousand_blocks_over_rpc() {
    let daemon = Daemon::regtest().await;
    let rpc = daemon.rpc();
    a_thousand_blocks(&daemon, Way::Rpc(rpc)).await;
}
