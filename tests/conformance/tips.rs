//! C-46, C-48: blocks, and what is left of a job after one.

use serde_json::{Value, json};

use crate::support::{
    address,
    node::{Chain, Node},
    shared::{hard, moving},
    wait_for,
    wire::{PATIENCE, Share, Wire, is_block},
};

/// Waits until the node has this block, with so many confirmations: -1 is beside the best chain.
fn has(node: &Node, share: &Share, confirmations: i64) {
    wait_for(&format!("the node to give {} {confirmations} confirmations", share.hash), PATIENCE, || {
        let header = node.try_call("getblockheader", json!([share.hash.to_string()])).ok()?;
        (header["confirmations"] == json!(confirmations)).then_some(())
    });
}

#[test]
fn c46_a_block_goes_to_the_node_whatever_else_is_wrong() {
    let pool = hard();
    let (node, user) = (pool.node(), address(Chain::Regtest, 46));
    let mut wire = Wire::start(pool.port(), &user, "x");
    let latest = |wire: &mut Wire| {
        let tip = node.call("getbestblockhash", json!([])).as_str().unwrap().to_owned();
        wire.job_on(&tip)
    };
    let text = |wire: &mut Wire, who: &str, share: &Share| {
        let reply = wire.ask(4, "mining.submit", share.params(who));
        reply["error"][1].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    };
    let block = |job: &crate::support::wire::Job, time, bits| {
        job.find_with(1, time, bits, |hash| is_block(hash, job.bits))
    };

    // A block's difficulty is far below that of a share here.
    let job = latest(&mut wire);
    let easy = block(&job, job.time, None);
    assert_eq!(text(&mut wire, &user, &easy), "Low difficulty share");
    has(node, &easy, 1);

    let job = latest(&mut wire);
    let early = block(&job, job.time + 7100, None);
    assert_eq!(text(&mut wire, &user, &early), "Time too new");
    has(node, &early, 1);

    let job = latest(&mut wire);
    let rolled = block(&job, job.time, Some(0x2000));
    assert_eq!(text(&mut wire, &user, &rolled), "Invalid version mask");
    has(node, &rolled, 1);

    // Late, as it is told; but which of two blocks wins is for the chain to say.
    let job = latest(&mut wire);
    let late = block(&job, job.time, None);
    let tip = node.generate(1, &user).remove(0);
    wire.job_on(&tip);
    assert_eq!(text(&mut wire, &user, &late), "Job not found");
    has(node, &late, -1);
}

#[test]
fn c46_a_block_of_a_worker_that_is_not_authorized_goes_to_the_node() {
    let pool = moving();
    let (node, user) = (pool.node(), address(Chain::Regtest, 46));
    let mut wire = Wire::start(pool.port(), &user, "x");
    let tip = node.call("getbestblockhash", json!([])).as_str().unwrap().to_owned();
    let job = wire.job_on(&tip);
    let block = job.find(1, |hash| is_block(hash, job.bits));
    assert_eq!(wire.submit(&address(Chain::Regtest, 47), &block), 24);
    has(node, &block, 1);
}

#[test]
fn c46_a_block_that_comes_twice_is_one() {
    let pool = moving();
    let (node, user) = (pool.node(), address(Chain::Regtest, 48));
    let mut wire = Wire::start(pool.port(), &user, "x");
    let tip = node.call("getbestblockhash", json!([])).as_str().unwrap().to_owned();
    let job = wire.job_on(&tip);
    let height = node.height();
    let block = job.find(1, |hash| is_block(hash, job.bits));
    let line = json!({"id": 4, "method": "mining.submit", "params": block.params(&user)});
    wire.send(format!("{line}\n{line}\n{line}\n"));
    let replies: Vec<Value> = (0..3).map(|_| wire.reply()).collect();
    let codes: Vec<u64> = replies.iter().map(|reply| wire.code(reply)).collect();
    // The new tip may be known before the second is read.
    assert!(codes[0] == 0 && codes[1..].iter().all(|code| [21, 22].contains(code)), "{codes:?}");
    has(node, &block, 1);
    assert_eq!(node.height(), height + 1);
    let hash = block.hash.to_string();
    let times = || pool.blocks().iter().filter(|known| known.hash == hash).count();
    wait_for("the block in the books", PATIENCE, || (times() == 1).then_some(()));
}

#[test]
fn c48_f34_a_burst_of_late_shares_is_stale_and_no_offence() {
    let pool = moving();
    let (node, user) = (pool.node(), address(Chain::Regtest, 49));
    let (stale, unknown) = (pool.refused("stale"), pool.refused("unknown_job"));
    let mut wire = Wire::start(pool.port(), &user, "x");
    let tip = node.call("getbestblockhash", json!([])).as_str().unwrap().to_owned();
    let old = wire.job_on(&tip);
    let burst: String = (0..300)
        .map(|seed| {
            format!(
                "{}\n",
                json!({"id": 4, "method": "mining.submit", "params": old.share(seed).params(&user)})
            )
        })
        .collect();
    let tip = node.generate(1, &user).remove(0);
    let new = wire.job_on(&tip);
    assert!(new.clean);
    wire.send(burst);
    for _ in 0..300 {
        assert_eq!(wire.reply()["error"], json!([21, "Job not found", Value::Null]));
    }
    assert_eq!(wire.submit(&user, &new.share(1)), 0, "nothing is held against it");
    // Some blocks later it is still known for what it is.
    for _ in 0..5 {
        let tip = node.generate(1, &user).remove(0);
        wire.job_on(&tip);
    }
    assert_eq!(wire.submit(&user, &old.share(1000)), 21);
    wait_for("the counter of the stale", PATIENCE, || (pool.refused("stale") >= stale + 301).then_some(()));
    assert_eq!(pool.refused("unknown_job"), unknown);
}
