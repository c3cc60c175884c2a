//! `kill -9` under load, with the database there or away: what was acknowledged is in the ledger once.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::support::{
    Processor, address,
    books::Books,
    flood::{DIFFICULTY, Flood},
    miner::{Manner, Miner, Tally},
    node::{Chain, Login, Node},
    pool::Pool,
    postgres::Postgres,
    wait_for,
};

/// Shares a second that the miners send.
const RATE: u32 = 500;

/// What each worker has had acknowledged, and what it has sent.
pub type Expected = BTreeMap<String, (u64, u64)>;

pub fn note(expected: &mut Expected, tallies: Vec<(String, Tally)>) {
    for (worker, tally) in tallies {
        assert!(
            expected.insert(worker, (tally.acknowledged, tally.sent)).is_none(),
            "each round has its own workers"
        );
    }
}

/// Each worker has in the ledger at least what was acknowledged and at most what it sent: a share whose reply got lost
/// with the pool may be there. Most workers send one share at a time, so that at most one of theirs is in doubt.
pub fn compare(expected: &Expected, books: &Books) {
    let found = books.accepted_shares();
    let mut faults = Vec::new();
    for (worker, &(acknowledged, sent)) in expected {
        let count = found.get(worker).copied().unwrap_or_default();
        if !(acknowledged..=sent).contains(&count) {
            faults.push(format!("{worker}: {acknowledged} acknowledged, {sent} sent, {count} in the ledger"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    let strangers: Vec<_> = found.keys().filter(|worker| !expected.contains_key(*worker)).collect();
    assert!(strangers.is_empty(), "workers that nobody was: {strangers:?}");
}

/// Between `least` and twice that, another time at each call: when to kill is left to chance on purpose.
fn some_time(least: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let part = nanos.wrapping_mul(2_654_435_761) >> 16;
    least + least * part / 0x1_0000
}

/// Waits until as many shares more were acknowledged as the miners send in `time`: on a machine that is busy with other
/// things that takes longer, and proves as much.
fn go_on(flood: &Flood, time: Duration) {
    let enough = flood.acknowledged() + u64::from(RATE) * time.as_millis() as u64 / 1000;
    wait_for("shares under load", Duration::from_secs(20) + 4 * time, || {
        (flood.acknowledged() >= enough).then_some(())
    });
}

/// Kills the pool a few times in the middle of a flood, and compares in the end.
fn kill_again_and_again(ledger_url: Option<String>) {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        setup.difficulty = (DIFFICULTY, DIFFICULTY);
        setup.ledger_url = ledger_url.unwrap_or_else(|| setup.ledger_url.clone());
    });
    let books = Books::open(&pool.setup.ledger_url);
    let miner = address(Chain::Signet, 2);
    let mut expected = Expected::new();
    for round in 0..4 {
        let flood = Flood::start(pool.setup.stratum_port, &miner, &format!("round{round}"), RATE);
        wait_for("the flood to begin", Duration::from_secs(20), || {
            (flood.acknowledged() > 100).then_some(())
        });
        go_on(&flood, some_time(Duration::from_secs(3)));
        pool.kill();
        note(&mut expected, flood.broken_off());
        pool.start_again();
    }
    // Once more, while what the last round left is being read: the ledger's own place in it must hold as well.
    pool.kill();
    pool.start_again();
    assert!(pool.terminate().success());
    compare(&expected, &books);
    // And nothing is read twice by the next one.
    pool.start_again();
    assert!(pool.terminate().success());
    compare(&expected, &books);
    books.audit();
}

#[test]
fn acknowledged_shares_survive_kill_9_with_sqlite() {
    kill_again_and_again(None);
}

#[test]
fn acknowledged_shares_survive_kill_9_with_postgres() {
    let postgres = Postgres::start();
    kill_again_and_again(Some(postgres.url()));
}

#[test]
fn shares_go_on_while_postgres_is_away_for_a_minute_and_survive_kill_9_then() {
    let mut postgres = Postgres::start();
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        setup.difficulty = (DIFFICULTY, DIFFICULTY);
        setup.ledger_url = postgres.url();
    });
    let (miner, port) = (address(Chain::Signet, 2), pool.setup.stratum_port);
    let mut expected = Expected::new();

    // Away for a minute, and back: no restart is needed.
    let flood = Flood::start(port, &miner, "minute", RATE);
    wait_for("the flood to begin", Duration::from_secs(20), || (flood.acknowledged() > 1000).then_some(()));
    postgres.stop_immediate();
    let since = Instant::now();
    go_on(&flood, Duration::from_secs(55));
    thread::sleep(Duration::from_secs(60).saturating_sub(since.elapsed()));
    postgres.start_again();
    let back = flood.acknowledged();
    wait_for("shares after the return", Duration::from_secs(20), || {
        (flood.acknowledged() > back + 1000).then_some(())
    });

    // Again and again, for moments: some of these hit a transaction between its end and the answer, when nobody knows
    // whether it counts.
    for _ in 0..8 {
        thread::sleep(some_time(Duration::from_millis(400)));
        postgres.stop_immediate();
        postgres.start_again();
    }
    note(&mut expected, flood.stop());
    let acknowledged: u64 = expected.values().map(|(acknowledged, _)| acknowledged).sum();
    wait_for("the ledger to catch up without a restart", Duration::from_secs(60), || {
        let account = pool.try_api(&format!("/api/v1/miners/{miner}")).ok()?;
        (account["accepted_shares"].as_u64()? == acknowledged).then_some(())
    });

    // Away again, and the pool is killed meanwhile.
    let flood = Flood::start(port, &miner, "killed", RATE);
    wait_for("the flood to begin", Duration::from_secs(20), || (flood.acknowledged() > 1000).then_some(()));
    postgres.stop_immediate();
    go_on(&flood, some_time(Duration::from_secs(5)));
    pool.kill();
    note(&mut expected, flood.broken_off());
    postgres.start_again();
    pool.start_again();
    assert!(pool.terminate().success());

    let books = Books::open(&pool.setup.ledger_url);
    compare(&expected, &books);
    books.audit();
}

#[test]
fn a_block_found_while_the_node_is_away_survives_kill_9() {
    let _processor = Processor::take();
    let mut node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool =
        Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.difficulty = (0.0005, 0.0005));
    let user = format!("{}.finder", address(Chain::Signet, 2));
    let mut miner = Miner::connect(pool.setup.stratum_port, &user, Manner::Cpuminer).unwrap();
    node.stop();
    miner.mine(|tally| tally.blocks.is_empty()).unwrap();
    pool.kill();
    let hash = miner.tally.blocks[0].clone();

    node.start_again();
    pool.start_again();
    wait_for("the block to reach the node and the ledger", Duration::from_secs(40), || {
        let block = pool.blocks().into_iter().find(|block| block.hash == hash)?;
        (block.status == "immature" && node.hash_at(1) == hash).then_some(())
    });
    assert!(pool.terminate().success());
    let books = Books::open(&pool.setup.ledger_url);
    assert_eq!(books.accepted_shares()["finder"], miner.tally.acknowledged);
    books.audit();
}
