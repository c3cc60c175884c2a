//! Two miners that share no code with Sluice, nor with each other, mine for a while: through new templates, new blocks
//! and changes of difficulty, and nothing but what came too late is refused. `SLUICE_MINE_SECONDS=600` makes it ten
//! minutes.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{
    Processor, address,
    miner::{Manner, Miner},
    node::{Chain, Login, Node},
    plain::Plain,
    pool::Pool,
    wait_for,
};

/// How long to mine.
fn duration() -> Duration {
    let given = std::env::var("SLUICE_MINE_SECONDS").ok();
    let seconds = given.map_or(20, |text| text.parse().expect("SLUICE_MINE_SECONDS is a number of seconds"));
    Duration::from_secs(seconds)
}

#[test]
fn two_miners_of_other_make_mine_without_one_reject_that_is_not_stale() {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Cookie);
    // Difficulty moves while they mine, and stays below that of a block.
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        (setup.difficulty, setup.shares_per_minute) = ((0.000_01, 0.0008), 300.0);
    });
    let (port, limit) = (pool.setup.stratum_port, duration());
    let users = [2, 3].map(|number| format!("{}.rig", address(Chain::Signet, number)));
    let (backwards, plain) = thread::scope(|scope| {
        let backwards = scope.spawn(|| {
            let mut miner =
                Miner::connect(port, &users[0], Manner::Backwards).unwrap_or_else(|e| panic!("{e}"));
            let start = Instant::now();
            miner.mine(|_| start.elapsed() < limit).unwrap_or_else(|e| panic!("{e}"));
            miner.tally.clone()
        });
        let plain = scope.spawn(|| {
            let mut miner = Plain::start(port, &users[1]);
            miner.mine(limit);
            miner.count
        });
        // They find blocks of their own too, but not for sure.
        scope.spawn(|| {
            for _ in 0..2 {
                thread::sleep(limit / 4);
                node.call("generatetoaddress", json!([1, address(Chain::Signet, 4), 1_000_000_000]));
            }
        });
        let done = (backwards.join(), plain.join());
        (done.0.unwrap(), done.1.unwrap())
    });
    assert_eq!((&backwards.rejects, &plain.refused), (&vec![], &vec![]));
    let seconds = limit.as_secs();
    for (user, accepted, stale, jobs) in [
        (&users[0], backwards.acknowledged, backwards.stale, backwards.jobs),
        (&users[1], plain.accepted, plain.stale, plain.jobs),
    ] {
        println!("{user}: {accepted} shares, {stale} stale, {jobs} jobs in {seconds} s");
        assert!(accepted > seconds, "{user}: {accepted} shares");
        assert!(jobs >= 3, "{user}: {jobs} jobs");
        assert!(stale <= 2 * jobs, "{user}: {stale} stale shares of {jobs} jobs");
        let (address, _) = user.split_once('.').unwrap();
        wait_for("the ledger to have what was acknowledged", Duration::from_secs(20), || {
            let account = pool.try_api(&format!("/api/v1/miners/{address}")).ok()?;
            (account["accepted_shares"] == json!(accepted) && account["rejected_shares"] == json!(stale))
                .then_some(())
        });
    }
    assert!(node.height() >= 2, "blocks came meanwhile");
    assert!(plain.clean >= 3, "and the miners were told: {} clean jobs", plain.clean);
    assert!(pool.terminate().success());
}
