//! C-30 to C-36, C-38, C-40, C-41: jobs on the wire.

use std::{collections::HashSet, time::Duration};

use bitcoin::hex::DisplayHex;
use serde_json::{Value, json};

use super::miner;
use crate::support::{
    address,
    node::Chain,
    shared::{hard, moving, still},
    wire::Wire,
};

/// The line of the first job on a fresh connection, and the connection.
fn notify(port: u16, user: &str) -> (String, Wire) {
    let mut wire = Wire::open(port);
    wire.subscribe();
    wire.request(2, "mining.authorize", json!([user, "x"]));
    let line = loop {
        let line = wire.line();
        if line.contains("mining.notify") {
            break line;
        }
    };
    (line, wire)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

#[test]
fn c30_c31_c32_c33_c35_a_job_to_the_letter() {
    let pool = moving();
    let user = address(Chain::Regtest, 30);
    let tip = pool.node().generate(1, &user).remove(0);
    let mut other = Wire::start(pool.port(), &user, "x");
    other.job_on(&tip);
    let (line, wire) = notify(pool.port(), &user);
    let notify: Value = serde_json::from_str(&line).unwrap();
    let params = notify["params"].as_array().unwrap();
    assert_eq!(params.len(), 9, "{line}");
    let text = |at: usize| params[at].as_str().unwrap_or_else(|| panic!("no text at {at}: {line}"));
    // The hash as people read it, its eight words in reverse order.
    let words: Vec<&str> = (0..8).rev().map(|word| &tip[word * 8..][..8]).collect();
    assert_eq!(text(1), words.concat());
    assert!(is_hex(text(2), text(2).len()) && is_hex(text(3), text(3).len()), "{line}");
    for at in [5, 6, 7] {
        assert!(is_hex(text(at), 8), "{line}");
    }
    assert_eq!(params[4], json!([]), "a block of nothing but its coinbase");
    assert!(params[8].is_boolean());
    // Without witness: it can be read as a transaction, and reads back the same.
    let coinbase = [text(2), &wire.extranonce1.to_lower_hex_string(), "0000000000000000", text(3)].concat();
    let transaction: bitcoin::Transaction =
        bitcoin::consensus::encode::deserialize_hex(&coinbase).unwrap_or_else(|e| panic!("{e}: {coinbase}"));
    assert!(transaction.is_coinbase() && transaction.input[0].witness.is_empty());
    assert_eq!(bitcoin::consensus::encode::serialize_hex(&transaction), coinbase);
}

#[test]
fn c32_c46_a_block_with_transactions_is_the_nodes_next() {
    use bitcoin::{
        Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute::LockTime,
        consensus::encode::serialize_hex, transaction::Version,
    };
    let pool = moving();
    let (node, user) = (pool.node(), address(Chain::Regtest, 32));
    // Coins that anybody may spend who shows the script.
    let script = ScriptBuf::from_bytes(vec![0x51]);
    let open = bitcoin::Address::p2wsh(&script, bitcoin::Network::Regtest);
    let funds = node.generate(5, &open.to_string());
    node.generate(100, &user);
    let mut sent = Vec::new();
    for block in &funds {
        let coinbase: Transaction = {
            let block = node.call("getblock", json!([block, 2]));
            let hex = block["tx"][0]["hex"].as_str().unwrap().to_owned();
            bitcoin::consensus::encode::deserialize_hex(&hex).unwrap()
        };
        let input = TxIn {
            previous_output: OutPoint::new(coinbase.compute_txid(), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[script.as_bytes()]),
        };
        let value = coinbase.output[0].value - Amount::from_sat(10_000);
        let output = vec![TxOut { value, script_pubkey: open.script_pubkey() }];
        let spend =
            Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output };
        sent.push(node.call("sendrawtransaction", json!([serialize_hex(&spend)])));
    }
    // A block without them, after which they are in the template: five and the coinbase make three levels.
    let mut wire = Wire::start(pool.port(), &user, "x");
    let tip = node.call("generateblock", json!([user, []]))["hash"].take();
    let job = wire.job_on(tip.as_str().unwrap());
    assert_eq!(job.branch.len(), 3, "{job:?}");
    let block = job.find(1, |hash| crate::support::wire::is_block(hash, job.bits));
    assert_eq!(wire.submit(&user, &block), 0);
    let hash = block.hash.to_string();
    wire.job_on(&hash);
    assert_eq!(node.call("getbestblockhash", json!([])), json!(hash));
    let mined = node.call("getblock", json!([hash, 1]));
    let mined: HashSet<&str> =
        mined["tx"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert!(sent.iter().all(|id| mined.contains(id.as_str().unwrap())), "{sent:?} in {mined:?}");
}

#[test]
fn c34_no_job_id_comes_twice_and_no_two_jobs_ask_for_the_same() {
    let pool = moving();
    let user = address(Chain::Regtest, 33);
    // Rolled masks, wishes and blocks: all that makes jobs.
    let mut wire = Wire::start(pool.port(), &user, "x");
    for _ in 0..15 {
        let hash = pool.node().generate(1, &user).remove(0);
        wire.job_on(&hash);
    }
    drop(pool);
    let still = still();
    let mut wires = vec![wire, Wire::start(still.port(), &miner(34), "x")];
    for number in 0..7 {
        let difficulty = [1e-10, 2e-10][(number + 1) % 2];
        wires[1].ask(3, "mining.suggest_difficulty", json!([difficulty]));
        wires[1].next_job();
    }
    for wire in &wires {
        assert!(wire.jobs.len() > 7);
        let mut ids = HashSet::new();
        let mut coinbases = HashSet::new();
        for job in &wire.jobs {
            assert!(!job.id.is_empty() && job.id.len() <= 16 && job.id.is_ascii(), "{job:?}");
            assert!(ids.insert(&job.id), "{} twice", job.id);
            assert!(coinbases.insert(&job.before), "one coinbase for two jobs: {job:?}");
        }
    }
    let clean: Vec<bool> = wires[1].jobs.iter().map(|job| job.clean).collect();
    assert!(clean[0] && clean[1..].iter().all(|clean| !clean), "{clean:?}");
}

#[test]
fn c34_only_a_new_block_makes_a_clean_job() {
    let pool = moving();
    let user = address(Chain::Regtest, 34);
    let mut wire = Wire::start(pool.port(), &user, "x");
    for _ in 0..3 {
        let before = wire.jobs.len();
        let hash = pool.node().generate(1, &user).remove(0);
        wire.job_on(&hash);
        let came = &wire.jobs[before..];
        let first = came.iter().position(|job| job.previous.to_string() == hash).unwrap();
        let clean: Vec<bool> = came.iter().map(|job| job.clean).collect();
        assert!(came[first].clean && clean.iter().filter(|clean| **clean).count() == 1, "{clean:?}");
    }
}

#[test]
fn c35_a_job_without_branch_can_be_mined() {
    let pool = still();
    let mut wire = Wire::start(pool.port(), &miner(35), "x");
    let job = wire.job();
    assert!(job.branch.is_empty());
    assert_eq!(wire.submit(&miner(35), &job.share(1)), 0);
}

#[test]
fn c36_a_difficulty_is_a_plain_number() {
    let pool = still();
    for (password, expect) in [
        ("d=0.001", "0.001"),
        ("d=1e-5", "0.00001"),
        ("d=0.000125", "0.000125"),
        ("d=1e-10", "0.0000000001"),
        ("d=1e-11", "0.0000000001"),
    ] {
        let wire = Wire::start(pool.port(), &miner(36), password);
        assert_eq!(wire.difficulty.as_deref(), Some(expect), "{password}");
    }
    drop(pool);
    let pool = hard();
    let wire = Wire::start(pool.port(), &address(Chain::Regtest, 36), "x");
    assert_eq!(wire.difficulty.as_deref(), Some("1024"), "no fraction where there is none");
}

#[test]
fn c38_a_job_comes_at_least_every_minute() {
    let pool = still();
    let mut wire = Wire::start(pool.port(), &miner(38), "x");
    let first = wire.job();
    let line = wire.line_within(Duration::from_secs(60)).expect("a job within a minute");
    assert!(line.contains("mining.notify"), "{line}");
    wire.read(&line);
    // Not the same again: that a miner would do twice.
    assert!(wire.job().id != first.id && wire.job().before != first.before && !wire.job().clean);
}

#[test]
fn c40_c41_coinbase_and_notify_fit_into_small_machines() {
    for (pool, user) in [(still(), miner(40)), (moving(), address(Chain::Regtest, 40))] {
        let (line, _) = notify(pool.port(), &user);
        let notify: Value = serde_json::from_str(&line).unwrap();
        let params = notify["params"].as_array().unwrap();
        let halves = params[2].as_str().unwrap().len() + params[3].as_str().unwrap().len();
        let coinbase = halves / 2 + 12;
        assert!(coinbase <= 500, "a coinbase of {coinbase} bytes");
        // Of a block with 10,000 transactions the branch has 14 hashes.
        let branch = params[4].as_array().unwrap().len();
        let most = line.len() + (14 - branch) * (64 + 3);
        assert!(most < 4096, "a notify of up to {most} bytes");
    }
}
