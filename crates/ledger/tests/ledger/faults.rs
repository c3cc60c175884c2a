//! Crashes, and a database that goes away.

use std::{
    env,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ledger::{BlockStatus, Point, Scheme, Settings, SpoolConfig};

use crate::{
    postgres::Server,
    rig::{Rig, Running, Shard, Tree, balance, execute, hash, newest, quick, until, until_block, worker},
};

const PPLNS: Scheme = Scheme::Pplns { factor: 50 };

/// Stops dead when `point` is reached for the `nth` time, and counts there.
fn halting(point: Point, nth: u32) -> (Settings, Arc<AtomicU32>) {
    let reached = Arc::new(AtomicU32::new(0));
    let count = reached.clone();
    let halt = move |at: Point| at == point && count.fetch_add(1, Ordering::SeqCst) + 1 >= nth;
    (Settings { batch: 40, halt: Some(Arc::new(halt)), ..quick() }, reached)
}

pub async fn a_crash_at_any_point_counts_each_share_once(rig: Rig) {
    let config = SpoolConfig { segment_bytes: 2_048, ..SpoolConfig::default() };
    let (mut pushed, mut work, mut blocks) = (0u64, 0u128, 0u8);
    let workers: Vec<_> = (1..=4).map(|number| worker(number, "rig")).collect();
    for point in [Point::Applied, Point::Committed] {
        for nth in 1..=4 {
            let spool = rig.spool_with(config.clone());
            let mut shards = [Shard::new(&spool, 0), Shard::new(&spool, 1)];
            for number in 0..100usize {
                let shard = &mut shards[number % 2];
                shard.share(&workers[number % 4], 1 + number as u128);
                (pushed, work) = (pushed + 1, work + 1 + number as u128);
                if number == 60 {
                    blocks += 1;
                    shard.found(PPLNS, &workers[0], blocks, 1_000);
                }
                shard.commit();
            }
            let (settings, reached) = halting(point, nth);
            let ledger = rig.open_with(&spool, PPLNS, settings).await.unwrap();
            let running = Running::start(ledger, &Tree::new());
            until("the point is reached", async || reached.load(Ordering::SeqCst) >= nth).await;
            running.kill().await;
        }
    }
    let spool = rig.spool_with(config);
    let ledger = rig.run(&spool, PPLNS, &Tree::new()).await.stop().await;
    let totals = ledger.totals().await.unwrap();
    assert_eq!((totals.accepted_shares, totals.work, totals.blocks), (pushed, work, u64::from(blocks)));
    assert_eq!(ledger.spooled_bytes(), 0);
    assert_eq!(rig.number("SELECT COUNT(*) FROM set_aside").await, 0);
    ledger.verify().await.unwrap();
}

pub async fn a_crash_while_a_block_moves(rig: Rig) {
    let chain = Tree::new();
    let a = worker(1, "a");
    let mut shard = Shard::new(&rig.spool(), 0);
    shard.share(&a, 100);
    shard.found(PPLNS, &a, 1, 1_000);
    shard.commit();
    drop(shard);
    // Each way is gone twice: killed before its transaction is committed, and after.
    type Way<'a> = (&'a dyn Fn(), BlockStatus, Option<u32>, (i64, i64, i64));
    let ways: [Way; 4] = [
        (&|| chain.grow(hash(0), hash(1), 5), BlockStatus::Immature, Some(5), (990_000, 0, 0)),
        (&|| chain.grow(hash(0), hash(9), 6), BlockStatus::Orphaned, None, (0, 0, 0)),
        (&|| chain.grow(hash(0), hash(1), 7), BlockStatus::Immature, Some(7), (990_000, 0, 0)),
        (&|| chain.grow(hash(0), hash(1), 100), BlockStatus::Mature, Some(100), (0, 990_000, 0)),
    ];
    for (step, (go, status, confirmations, expect)) in ways.into_iter().enumerate() {
        go();
        for point in [Point::Moved, Point::Settled] {
            let spool = rig.spool();
            let (settings, reached) = halting(point, 1);
            let running = Running::start(rig.open_with(&spool, PPLNS, settings).await.unwrap(), &chain);
            until("the point is reached", async || reached.load(Ordering::SeqCst) > 0).await;
            running.kill().await;
            let ledger = rig.open(&spool, PPLNS).await;
            let moved = newest(&ledger).await.unwrap().status == status;
            assert_eq!(moved, point == Point::Settled, "way {step} at {point:?}");
            ledger.verify().await.unwrap();
        }
        let spool = rig.spool();
        let running = rig.run(&spool, PPLNS, &chain).await;
        until_block(&running.ledger, status, confirmations).await;
        assert_eq!(balance(&running.ledger, 1).await, expect, "way {step}");
        assert_eq!(
            rig.number("SELECT COUNT(*) FROM txn").await,
            step as i64 + 1,
            "each way is one transaction"
        );
        running.stop().await;
    }
}

pub async fn crashes_at_random_moments(rig: Rig) {
    let chain = Tree::new();
    let config = SpoolConfig { segment_bytes: 4_096, ..SpoolConfig::default() };
    let workers: Vec<_> = (1..=5).map(|number| worker(number, "rig")).collect();
    let (mut pushed, mut blocks) = (0u64, 0u8);
    for round in 0..12u64 {
        let spool = rig.spool_with(config.clone());
        let settings = Settings {
            batch: 30,
            interval: Duration::from_millis(2),
            follow: Duration::from_millis(3),
            ..quick()
        };
        let running = Running::start(rig.open_with(&spool, PPLNS, settings).await.unwrap(), &chain);
        let mut shard = Shard::new(&spool, (round % 3) as u16);
        shard.time_ms += round * 60_000;
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(7 + round * 13) {
            for worker in &workers {
                shard.share(worker, 3);
                pushed += 1;
            }
            shard.commit();
            tokio::task::yield_now().await;
        }
        blocks += 1;
        shard.found(PPLNS, &workers[0], blocks, 10_000);
        shard.commit();
        chain.grow(hash(blocks - 1), hash(blocks), 1 + round as u32 % 2 * 100);
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        running.kill().await;
    }
    let spool = rig.spool_with(config);
    let running = rig.run(&spool, PPLNS, &chain).await;
    let ledger = &running.ledger;
    until("all is drained", async || ledger.totals().await.unwrap().accepted_shares == pushed).await;
    let last = chain_depth(&chain, blocks).await;
    until_block(ledger, if last >= 100 { BlockStatus::Mature } else { BlockStatus::Immature }, Some(last))
        .await;
    let ledger = running.stop().await;
    let totals = ledger.totals().await.unwrap();
    assert_eq!((totals.accepted_shares, totals.work), (pushed, 3 * u128::from(pushed)));
    assert_eq!(totals.blocks + totals.orphaned, u64::from(blocks));
    ledger.verify().await.unwrap();
}

async fn chain_depth(chain: &Tree, number: u8) -> u32 {
    match ledger::Chain::standing(chain, &hash(number)).await {
        ledger::Standing::OnChain(depth) => depth,
        other => panic!("{other:?}"),
    }
}

/// F-50: killed under load, away for a while, and back. Nobody who writes shares notices.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_goes_away_and_comes_back() {
    let server = Arc::new(Server::start());
    let rig = Rig::on(server.clone());
    let chain = Tree::new();
    let spool = rig.spool();
    let running = rig.run(&spool, PPLNS, &chain).await;
    let mut shard = Shard::new(&spool, 0);
    let workers: Vec<_> = (1..=20).map(|number| worker(number, "rig")).collect();
    let (mut pushed, mut slowest) = (0u64, Duration::ZERO);
    let begun = tokio::time::Instant::now();
    let mut downs = 0;
    while begun.elapsed() < Duration::from_secs(8) {
        for worker in &workers {
            let push = std::time::Instant::now();
            shard.share(worker, 1);
            shard.commit();
            slowest = slowest.max(push.elapsed());
            pushed += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        let due = begun.elapsed().as_secs();
        if due > 3 * downs && downs < 2 {
            downs += 1;
            let server = server.clone();
            tokio::task::spawn_blocking(move || {
                server.down();
                std::thread::sleep(Duration::from_millis(1_500));
                server.up();
            });
        }
    }
    shard.found(PPLNS, &workers[0], 1, 1_000);
    shard.commit();
    chain.grow(hash(0), hash(1), 1);
    let ledger = &running.ledger;
    until("the database has caught up", async || {
        ledger.totals().await.is_ok_and(|totals| totals.accepted_shares == pushed && totals.blocks == 1)
    })
    .await;
    until_block(ledger, BlockStatus::Immature, Some(1)).await;
    assert!(slowest < Duration::from_secs(1), "a commit waited {slowest:?} for the database");
    let ledger = running.stop().await;
    assert_eq!(ledger.totals().await.unwrap().work, u128::from(pushed));
    ledger.verify().await.unwrap();
}

/// The session that writes is lost while the drain has nothing to write, and another process writes before we are back.
/// What the drain remembers is out of date then, though no write of its own has failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_is_a_lost_memory() {
    let rig = Rig::postgres();
    let chain = Tree::new();
    let spool = rig.spool();
    let running = rig.run(&spool, PPLNS, &chain).await;
    let ledger = &running.ledger;
    let mut shard = Shard::new(&spool, 0);
    let a = worker(1, "a");
    shard.share(&a, 1);
    shard.found(PPLNS, &a, 1, 1_000);
    shard.commit();
    until("the block is recorded", async || newest(ledger).await.is_some()).await;

    let mut raw = rig.raw().await;
    let lose = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name = 'sluice ledger'";
    execute(&mut raw, lose).await.unwrap();
    execute(&mut raw, "UPDATE worker SET accepted_shares = 500; UPDATE tally SET accepted_shares = 500")
        .await
        .unwrap();
    chain.grow(hash(0), hash(1), 1);
    until_block(ledger, BlockStatus::Immature, Some(1)).await; // written over a new session

    shard.share(&a, 1);
    shard.commit();
    until("the share counts", async || ledger.totals().await.unwrap().accepted_shares != 500).await;
    assert_eq!(ledger.totals().await.unwrap().accepted_shares, 501);
    running.stop().await;
}

/// Stopped while the database is away: what is in the spool is drained by the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_without_a_database_loses_nothing() {
    let server = Arc::new(Server::start());
    let rig = Rig::on(server.clone());
    let spool = rig.spool();
    let running = rig.run(&spool, PPLNS, &Tree::new()).await;
    server.down();
    let mut shard = Shard::new(&spool, 0);
    (0..100).for_each(|_| shard.share(&worker(1, "a"), 1));
    shard.commit();
    drop(shard);
    let begun = tokio::time::Instant::now();
    drop(running.stop().await);
    assert!(begun.elapsed() < Duration::from_secs(30), "an operator has waited {:?}", begun.elapsed());
    drop(spool);
    server.up();
    let ledger = rig.run(&rig.spool(), PPLNS, &Tree::new()).await.stop().await;
    assert_eq!(ledger.totals().await.unwrap().accepted_shares, 100);
    ledger.verify().await.unwrap();
}

/// SQLite has no server to lose, but somebody else may hold the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_sqlite_file_is_waited_for() {
    let rig = Rig::sqlite();
    let spool = rig.spool();
    let running = rig.run(&spool, PPLNS, &Tree::new()).await;
    let mut raw = rig.raw().await;
    execute(&mut raw, "BEGIN EXCLUSIVE").await.unwrap();
    let mut shard = Shard::new(&spool, 0);
    (0..100).for_each(|_| shard.share(&worker(1, "a"), 1));
    shard.commit();
    tokio::time::sleep(Duration::from_secs(12)).await; // longer than the drain waits for a lock
    execute(&mut raw, "ROLLBACK").await.unwrap();
    let ledger = &running.ledger;
    until("the shares are counted", async || ledger.totals().await.unwrap().accepted_shares == 100).await;
    running.stop().await.verify().await.unwrap();
}

/// A process of its own that drains the spool, and goes on writing to it: each share that was acknowledged is a dot.
struct Drainer {
    process: Child,
    acknowledged: std::thread::JoinHandle<u64>,
}

impl Drainer {
    const URL: &str = "SLUICE_TEST_DRAINS";
    const SPOOL: &str = "SLUICE_TEST_SPOOL";

    /// The test with this name, which calls [`Self::work`] first of all.
    fn start(test: &str, rig: &Rig) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture"]).env(Self::URL, &rig.url);
        command.env(Self::SPOOL, rig.spool_dir()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut dots = process.stderr.take().unwrap();
        let acknowledged = std::thread::spawn(move || {
            let mut all = Vec::new();
            dots.read_to_end(&mut all).unwrap();
            all.iter().filter(|byte| **byte == b'.').count() as u64
        });
        Self { process, acknowledged }
    }

    /// Does the work of the process, if this is one.
    async fn work() {
        let (Ok(url), Ok(spool)) = (env::var(Self::URL), env::var(Self::SPOOL)) else { return };
        let spool = ledger::Spool::open(spool.as_ref(), SpoolConfig::default()).unwrap();
        let settings = Settings { batch: 20_000, ..quick() };
        let terms = crate::rig::terms(PPLNS);
        let ledger = ledger::Ledger::open_with(&url, spool.clone(), terms, crate::rig::NETWORK, settings)
            .await
            .unwrap();
        let _running = Running::start(ledger, &Tree::new());
        let mut shard = Shard::new(&spool, 1);
        let live = worker(99, "live");
        loop {
            shard.share(&live, 1);
            shard.commit();
            std::io::stderr().write_all(b".").unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// `kill -9`; how many shares it had acknowledged.
    fn kill(mut self) -> u64 {
        self.process.kill().unwrap();
        assert_eq!(self.process.wait().unwrap().signal(), Some(9), "it did not end by itself");
        self.acknowledged.join().unwrap()
    }
}

/// F-50: Postgres stops for an hour, by the clock of the records, of 300 shares a second; who writes notices nothing. What
/// the spool has then is replayed by one process after the other, each killed in the middle of it, each writing on.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_without_postgres_is_replayed_once() {
    const RATE: u64 = 300;
    Drainer::work().await;
    let server = Arc::new(Server::start());
    let rig = Rig::on(server.clone());
    let workers: Vec<_> = (1..=20).map(|number| worker(number, "rig")).collect();
    let spool = rig.spool();
    let running = rig.run(&spool, PPLNS, &Tree::new()).await;
    let mut shard = Shard::new(&spool, 0);
    shard.share(&workers[0], 1);
    shard.commit();
    until("the first share is drained", async || {
        running.ledger.totals().await.is_ok_and(|totals| totals.accepted_shares == 1)
    })
    .await;

    server.down();
    let (begin, mut slowest) = (shard.time_ms, Duration::ZERO);
    for number in 0..3_600 * RATE {
        shard.time_ms = begin + number * 1_000 / RATE;
        shard.share(&workers[number as usize % workers.len()], 1);
        if number == 1_800 * RATE {
            shard.found(PPLNS, &workers[0], 1, 1_000_000);
        }
        if number % 4 == 3 {
            let push = std::time::Instant::now();
            shard.commit();
            slowest = slowest.max(push.elapsed());
        }
        if number % (60 * RATE) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await; // the drain asks for the database in vain
        }
    }
    let pushed = 1 + 3_600 * RATE;
    assert!(slowest < Duration::from_secs(1), "a commit waited {slowest:?} for the database");
    running.kill().await;
    drop((shard, spool));
    server.up();

    let mut live = 0;
    for part in [pushed / 10, pushed * 4 / 10, pushed * 7 / 10] {
        let drainer = Drainer::start("faults::an_hour_without_postgres_is_replayed_once", &rig);
        until("a part is replayed", async || {
            rig.number("SELECT accepted_shares FROM tally").await as u64 > part
        })
        .await;
        live += drainer.kill();
        let drained = rig.number("SELECT accepted_shares FROM tally").await as u64;
        assert!(drained < pushed, "it was killed in the middle: {drained}");
    }
    let spool = rig.spool();
    let chain = Tree::new();
    chain.grow(hash(0), hash(1), 1);
    let running = rig.run(&spool, PPLNS, &chain).await;
    until_block(&running.ledger, BlockStatus::Immature, Some(1)).await;
    let ledger = running.stop().await;
    for worker in &workers {
        let account = ledger.miner(worker.address()).await.unwrap().unwrap();
        let own = 3_600 * RATE / workers.len() as u64 + u64::from(worker == &workers[0]);
        assert_eq!(account.accepted_shares, own, "{}", worker.address());
    }
    let more = ledger.totals().await.unwrap().accepted_shares - pushed;
    assert!((live..=live + 3).contains(&more) && live > 0, "{live} acknowledged, {more} in the ledger");
    ledger.verify().await.unwrap();
}
