//! The RPC client: templates, long poll, blocks, credentials.

use std::time::Duration;

use bitcoin::{Block, Network, consensus, hashes::Hash as _};
use serde_json::json;
use template::{Auth, Depth, Node, NodeError, Output, Submitted, Tip, coinbase};
use tokio::time::{Instant, timeout};

use crate::{
    daemon::Daemon,
    miner::{block, coinbase_for, payee, shown, solve, spend},
};

#[tokio::test]
async fn a_chain_from_its_genesis() {
    let daemon = Daemon::regtest().await;
    let rpc = daemon.rpc();
    rpc.check().await.unwrap();
    let genesis = rpc.tip().await.unwrap();
    assert_eq!(genesis.height, 0);
    assert_eq!(rpc.depth(&genesis.hash).await.unwrap(), Depth::OnChain(1));
    assert_eq!(rpc.depth(&[1; 32]).await.unwrap(), Depth::Unknown);

    // Heights up to 16 are written as opcodes, 128 needs a second byte; 101 matures the first coinbase.
    let mut first = None;
    for height in 1..=130 {
        let template = rpc.template(None).await.unwrap();
        assert_eq!(template.height, height);
        assert_eq!(template.prev_hash, rpc.tip().await.unwrap().hash);
        assert_eq!(template.coinbase_value, 50 * 100_000_000);
        assert_eq!(template.transaction_count, 0);
        assert!(template.min_time <= template.time);
        let solved = block(&template, &height.to_be_bytes());
        assert_eq!(rpc.submit(&solved.block).await.unwrap(), Submitted::Accepted, "height {height}");
        assert_eq!(rpc.tip().await.unwrap(), Tip { hash: solved.hash, height });
        first.get_or_insert(solved);
    }
    let first = first.unwrap();
    assert_eq!(rpc.depth(&first.hash).await.unwrap(), Depth::OnChain(130));
    assert_eq!(rpc.submit(&first.block).await.unwrap(), Submitted::Known);

    // Transactions with a witness, each spending the one before.
    let mut coin = consensus::deserialize::<Block>(&first.block).unwrap().txdata.remove(0);
    let (mut sats, mut fees) = (50 * 100_000_000, 0);
    let mut spends = Vec::new();
    for n in 1..=20 {
        let fee = 1000 + n;
        coin = spend(coin.compute_txid(), sats, fee);
        (sats, fees) = (sats - fee, fees + fee);
        daemon.get("sendrawtransaction", json!([consensus::encode::serialize_hex(&coin)])).await;
        spends.push(coin.clone());
    }
    // For some seconds the node keeps to the template that it has.
    let template = async {
        loop {
            let template = rpc.template(None).await.unwrap();
            if template.transaction_count == spends.len() {
                break template;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let template = timeout(Duration::from_secs(30), template).await.unwrap();
    // The subsidy of regtest halves every 150 blocks only.
    assert_eq!(template.coinbase_value, 50 * 100_000_000 + fees);
    let solved = block(&template, b"");
    let whole: Block = consensus::deserialize(&solved.block).unwrap();
    assert_eq!(whole.txdata[1..], spends);
    assert!(whole.check_merkle_root() && whole.check_witness_commitment());
    assert_eq!(rpc.submit(&solved.block).await.unwrap(), Submitted::Accepted);
    let on_chain = daemon.get("getblock", json!([shown(&solved.hash), 0])).await;
    assert_eq!(on_chain, json!(hex::encode(&solved.block)), "the node has what we sent, to the byte");
}

#[tokio::test]
async fn what_a_node_refuses() {
    let daemon = Daemon::regtest().await;
    let rpc = daemon.rpc();
    let template = rpc.template(None).await.unwrap();
    let refused = |word: &str| Submitted::Refused(word.to_owned());

    let mut bytes = block(&template, b"").block;
    bytes[36] ^= 1;
    // A changed merkle root changes the hash: half of all hashes are blocks here.
    let said = rpc.submit(&bytes).await.unwrap();
    assert!([refused("high-hash"), refused("bad-txnmrklroot")].contains(&said), "{said:?}");
    assert_eq!(rpc.submit(b"no block").await.unwrap(), refused("Block decode failed"));
    assert_eq!(rpc.submit(b"").await.unwrap(), refused("Block decode failed"));

    let greedy = template::Template { coinbase_value: template.coinbase_value + 1, ..template.clone() };
    let greedy = block(&greedy, b"");
    assert_eq!(rpc.submit(&greedy.block).await.unwrap(), refused("bad-cb-amount"));
    assert_eq!(rpc.depth(&greedy.hash).await.unwrap(), Depth::OffChain);
    assert_eq!(rpc.submit(&greedy.block).await.unwrap(), refused("duplicate-invalid"));

    // The parent is missing here, and may come.
    let orphan = template::Template { prev_hash: [9; 32], ..template.clone() };
    let said = rpc.submit(&block(&orphan, b"").block).await.unwrap();
    assert_eq!(said, Submitted::Unclear("prev-blk-not-found".into()));

    // Two blocks of one height: the second is known, and off the chain.
    let (one, two) = (block(&template, b"1"), block(&template, b"2"));
    assert_eq!(rpc.submit(&one.block).await.unwrap(), Submitted::Accepted);
    assert_eq!(rpc.submit(&two.block).await.unwrap(), Submitted::Unclear("inconclusive".into()));
    assert_eq!(rpc.submit(&two.block).await.unwrap(), Submitted::Known);
    assert_eq!(rpc.depth(&one.hash).await.unwrap(), Depth::OnChain(1));
    assert_eq!(rpc.depth(&two.hash).await.unwrap(), Depth::OffChain);
}

#[tokio::test]
async fn the_longest_script_and_many_outputs() {
    let daemon = Daemon::regtest().await;
    let rpc = daemon.rpc();
    let template = rpc.template(None).await.unwrap();
    let mut paid: Vec<Output> =
        (0..300).map(|_| Output { script: payee().into_bytes(), sats: 1000 }).collect();
    paid[0].sats = template.coinbase_value - 299 * 1000;
    // 1 byte of height, 9 of salt, 33 of extranonce; a push of 55 bytes has one byte of its own.
    let made = coinbase(&template, &"t".repeat(56), &[7; 8], &paid, 32).unwrap();
    assert!(coinbase(&template, &"t".repeat(57), &[7; 8], &paid, 32).is_err());
    let job = template.job(made);
    let mut submission = solve(&template.job(coinbase_for(&template, "", b"")));
    submission.extranonce = share::Extranonce::new(&[&[0xff; 32]]).unwrap();
    submission.nonce = 0;
    while !job.network_target.is_met_by(&share::sha256::double(&job.header(&submission))) {
        submission.nonce += 1;
    }
    let bytes = template.block(&job, &submission);
    let whole: Block = consensus::deserialize(&bytes).unwrap();
    assert_eq!(whole.txdata[0].input[0].script_sig.len(), 100);
    assert_eq!(rpc.submit(&bytes).await.unwrap(), Submitted::Accepted);
}

#[tokio::test]
async fn signet_with_its_rule() {
    let daemon = Daemon::start(&["-signet", "-signetchallenge=51"]).await;
    let rpc = daemon.rpc();
    let template = rpc.template(None).await.unwrap();
    assert_eq!(template.height, 1);
    assert_eq!(template.bits, 0x1e03_77ae);
    assert!(template.witness_commitment.is_some());
    // Its difficulty is 0.0011: enough work to show that a share is not a block, too little to wait for.
    let (template, solved) =
        tokio::task::spawn_blocking(move || (template.clone(), block(&template, b""))).await.unwrap();
    assert_eq!(rpc.submit(&solved.block).await.unwrap(), Submitted::Accepted);
    assert_eq!(rpc.tip().await.unwrap(), Tip { hash: solved.hash, height: template.height });

    // A node on another chain than configured gives no template.
    let wrong = daemon.rpc_with(Auth::Cookie(daemon.cookie()), Network::Regtest);
    let error = wrong.template(None).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the node is on chain \"signet\", the configuration says \"regtest\": one of them is wrong"
    );
}

#[tokio::test]
async fn a_long_poll_ends_with_the_next_block() {
    let daemon = Daemon::regtest().await;
    let rpc = daemon.rpc();
    let first = rpc.template(None).await.unwrap();
    let waiting = tokio::spawn({
        let (rpc, id) = (rpc.clone(), first.long_poll.clone().unwrap());
        async move { rpc.template(Some(&id)).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "nothing has happened");
    let solved = block(&first, b"");
    let submitted = Instant::now();
    assert_eq!(rpc.submit(&solved.block).await.unwrap(), Submitted::Accepted);
    let next = waiting.await.unwrap().unwrap();
    assert!(submitted.elapsed() < Duration::from_secs(2));
    assert_eq!((next.height, next.prev_hash), (2, solved.hash));
    assert_ne!(next.long_poll, first.long_poll);
}

#[tokio::test]
async fn credentials() {
    let mut daemon = Daemon::regtest().await;
    let wrong = Auth::Password { user: "miner".into(), password: "wrong".into() };
    let error = daemon.rpc_with(wrong, Network::Regtest).tip().await.unwrap_err();
    assert!(matches!(error, NodeError::Credentials { status: 401 }));
    let says =
        "user or password refused (HTTP 401): check rpc_user and rpc_password, or cookie, and rpcallowip";
    assert_eq!(error.to_string(), says);

    // The cookie's user and password are as good as any.
    let cookie = std::fs::read_to_string(daemon.cookie()).unwrap();
    let (user, password) = cookie.split_once(':').unwrap();
    let right = Auth::Password { user: user.into(), password: password.into() };
    daemon.rpc_with(right, Network::Regtest).check().await.unwrap();

    // A node that was started again has written another.
    let rpc = daemon.rpc();
    let before = rpc.template(None).await.unwrap();
    daemon.kill();
    assert!(matches!(rpc.template(None).await, Err(NodeError::Unreachable(_))));
    daemon.restart().await;
    assert_ne!(std::fs::read_to_string(daemon.cookie()).unwrap(), cookie);
    assert_eq!(rpc.template(None).await.unwrap().prev_hash, before.prev_hash);
    let genesis = bitcoin::constants::genesis_block(Network::Regtest).block_hash().to_byte_array();
    assert_eq!(rpc.tip().await.unwrap().hash, genesis);
}
