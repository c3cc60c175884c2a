//! The main job on a real chain: a miner that shares no code with Sluice mines signet through it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Processor, address,
    books::Books,
    miner::{Manner, Miner, Tally},
    node::{Chain, Login, Node},
    pool::Pool,
    wait_for,
};

/// Hashes that one share of difficulty 1 takes on average: 2^256 / (0xffff * 2^208).
const HASHES: f64 = 4_295_032_833.0;

/// The oldest that a template may get, in milliseconds.
const OLDEST_TEMPLATE: u64 = 30_000;

/// Lets `miners` (user and manner) mine until the node is at `height`, asking for the age of the pool's template all
/// the while.
fn mine(pool: &Pool, node: &Node, height: u64, miners: &[(&str, Manner)]) -> Vec<Tally> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = miners
            .iter()
            .map(|&(user, manner)| {
                let (port, over) = (pool.setup.stratum_port, &over);
                scope.spawn(move || {
                    let mut miner =
                        Miner::connect(port, user, manner).unwrap_or_else(|e| panic!("{user}: {e}"));
                    miner.mine(|_| !over.load(Ordering::Relaxed)).unwrap_or_else(|e| panic!("{user}: {e}"));
                    miner.tally.must_be_clean();
                    miner.tally.clone()
                })
            })
            .collect();
        let start = Instant::now();
        while node.height() < height && !threads.iter().any(|thread| thread.is_finished()) {
            check_template_age(pool);
            assert!(
                start.elapsed() < Duration::from_secs(240),
                "only {} blocks in four minutes",
                node.height()
            );
            thread::sleep(Duration::from_millis(100));
        }
        over.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn check_template_age(pool: &Pool) {
    let state = pool.api("/api/v1/pool");
    let age = state["template_age_ms"].as_u64().unwrap_or_else(|| panic!("no template_age_ms in {state}"));
    assert!(age <= OLDEST_TEMPLATE, "the template is {age} ms old");
}

/// The ledger has exactly the shares that were acknowledged, for each of `users`.
fn check_shares(pool: &Pool, users: &BTreeMap<&str, Tally>) {
    for (user, tally) in users {
        let (address, worker) = user.split_once('.').unwrap();
        wait_for("the ledger to have every share", Duration::from_secs(10), || {
            let account = pool.try_api(&format!("/api/v1/miners/{address}")).ok()?;
            let counts = [&account["accepted_shares"], &account["rejected_shares"]].map(|n| n.as_u64());
            (counts == [Some(tally.acknowledged), Some(tally.stale)]).then_some(())
        });
        let workers = pool.api(&format!("/api/v1/miners/{address}/workers"));
        let workers = workers["workers"].as_array().unwrap();
        assert_eq!(workers.len(), 1, "{workers:?}");
        assert_eq!(workers[0]["name"].as_str(), Some(worker));
        assert_eq!(workers[0]["accepted_shares"].as_u64(), Some(tally.acknowledged));
    }
}

/// cpuminer's idea of a job's difficulty is the pool's, so the ledger has its work to the last digits of a float.
fn check_work(pool: &Pool, address: &str, tally: &Tally) {
    let account = pool.api(&format!("/api/v1/miners/{address}"));
    let work: f64 =
        account["work"].as_str().unwrap_or_else(|| panic!("no work in {account}")).parse().unwrap();
    let expected = tally.difficulty * HASHES;
    assert!((work / expected - 1.0).abs() < 1e-4, "work {work}, expected {expected}");
}

#[test]
fn twenty_blocks_of_signet_and_every_one_pays_as_the_ledger_says() {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Cookie);
    let house = address(Chain::Signet, 1);
    let mut pool = Pool::start(&node, &house, |setup| {
        // Difficulty moves while they mine, and always stays below the network's.
        (setup.difficulty, setup.shares_per_minute) = ((0.0001, 0.0008), 240.0);
    });
    let users =
        [format!("{}.cpuminer", address(Chain::Signet, 2)), format!("{}.bitaxe", address(Chain::Signet, 3))];
    let miners = [(users[0].as_str(), Manner::Cpuminer), (users[1].as_str(), Manner::Bitaxe)];
    let tallies = mine(&pool, &node, 20, &miners);

    let height = node.height();
    assert!(height >= 20);
    let chain: BTreeMap<String, u64> = (1..=height).map(|height| (node.hash_at(height), height)).collect();
    let sent: BTreeSet<&String> = tallies.iter().flat_map(|tally| &tally.blocks_sent).collect();
    assert!(chain.keys().all(|hash| sent.contains(hash)), "every block of the chain came from these miners");

    check_shares(&pool, &miners.iter().map(|(user, _)| *user).zip(tallies.clone()).collect());
    // Although the difficulty moved meanwhile, and shares of earlier jobs may have come after it had.
    check_work(&pool, &address(Chain::Signet, 2), &tallies[0]);

    // The ledger's blocks are the chain's; one that lost a race between the two miners is told as such.
    let blocks = wait_for("every block in the ledger, with its standing", Duration::from_secs(30), || {
        let blocks = pool.blocks();
        let known = |hash: &String| blocks.iter().any(|b| b.hash == *hash && b.status == "immature");
        chain.keys().all(known).then_some(blocks)
    });
    let mut rewards = 0;
    for block in &blocks {
        let Some(&height) = chain.get(&block.hash) else {
            assert!(block.status == "orphaned" || block.status == "candidate", "{block:?}");
            continue;
        };
        assert_eq!(block.height, height);
        let pays = node.coinbase(&block.hash);
        assert_eq!(pays, [(house.clone(), block.reward_msat / 1000)], "{block:?}");
        assert_eq!(block.reward_msat, 5_000_000_000_000, "{block:?}");
        assert_eq!(block.fee_msat, 50_000_000_000, "{block:?}");
        rewards += block.reward_msat;
    }
    let owed: u64 = users
        .iter()
        .map(|user| pool.api(&format!("/api/v1/miners/{}", user.split_once('.').unwrap().0)))
        .map(|account| account["balance_msat"]["immature"].as_u64().unwrap())
        .sum();
    assert_eq!(owed, rewards / 100 * 99, "miners get all but one per cent of {rewards}");

    // No block, no new transaction: the template is kept fresh all the same, and so are the miners.
    let mut idle = Miner::connect(pool.setup.stratum_port, &users[0], Manner::Cpuminer).unwrap();
    let (start, jobs) = (Instant::now(), idle.tally.jobs);
    idle.pace = Duration::from_secs(3600);
    idle.mine(|_| {
        check_template_age(&pool);
        start.elapsed() < Duration::from_millis(OLDEST_TEMPLATE + 5_000)
    })
    .unwrap();
    assert!(idle.tally.jobs > jobs, "no new job in 35 seconds");
    // The one share that it sent before it rested may have been a block.
    let rewards = rewards + 5_000_000_000_000 * idle.tally.blocks_sent.len() as u64;

    assert!(pool.terminate().success());
    let books = Books::open(&pool.setup.ledger_url);
    books.audit();
    assert_eq!(books.rewards(), rewards);
}

#[test]
fn solo_pays_the_finder_in_the_coinbase_less_the_fee() {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Password);
    let house = address(Chain::Signet, 1);
    let mut pool = Pool::start(&node, &house, |setup| {
        (setup.scheme, setup.fee_percent, setup.difficulty) = ("solo", 0.7, (0.0002, 0.0002));
    });
    let users = [format!("{}.a", address(Chain::Signet, 2)), format!("{}.b", address(Chain::Signet, 3))];
    let miners = [(users[0].as_str(), Manner::Cgminer), (users[1].as_str(), Manner::Backwards)];
    let tallies = mine(&pool, &node, 4, &miners);
    check_shares(&pool, &miners.iter().map(|(user, _)| *user).zip(tallies.clone()).collect());

    for height in 1..=node.height() {
        let hash = node.hash_at(height);
        let finder =
            tallies.iter().position(|tally| tally.blocks_sent.contains(&hash)).expect("one of them found it");
        let finder = users[finder].split_once('.').unwrap().0;
        let block = wait_for("the block in the ledger", Duration::from_secs(30), || {
            pool.blocks().into_iter().find(|block| block.hash == hash && block.status == "immature")
        });
        assert_eq!(block.reward_msat, 5_000_000_000_000);
        assert_eq!(block.fee_msat, 35_000_000_000);
        let mut pays = node.coinbase(&hash);
        pays.sort_by_key(|(_, satoshi)| *satoshi);
        let [fee, reward] = [block.fee_msat, block.reward_msat - block.fee_msat].map(|msat| msat / 1000);
        assert_eq!(pays, [(house.clone(), fee), (finder.to_owned(), reward)], "{block:?}");
    }
    assert!(pool.terminate().success());
    Books::open(&pool.setup.ledger_url).audit();
}

#[test]
fn a_share_counts_at_the_difficulty_of_its_job_while_difficulty_moves() {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        (setup.difficulty, setup.shares_per_minute) = ((1e-6, 1e-3), 60.0);
    });
    let user = format!("{}.moving", address(Chain::Signet, 2));
    let mut miner = Miner::connect(pool.setup.stratum_port, &user, Manner::Cpuminer).unwrap();
    // Some hundred shares a second where one is wanted: up it goes, and what comes of the job before still counts.
    miner.hashrate = Some(1e6);
    miner.reluctance = Duration::from_millis(300);
    let start = Instant::now();
    let soon = |start: Instant| start.elapsed() < Duration::from_secs(60);
    miner.mine(|tally| (tally.retargets < 2 || tally.late < 20) && soon(start)).unwrap();
    assert!(miner.tally.retargets >= 2 && miner.tally.late >= 20, "up: {:?}", miner.tally);
    // And a fiftieth of that: down it goes.
    miner.hashrate = Some(2e4);
    let (start, before) = (Instant::now(), miner.tally.retargets);
    miner.mine(|tally| tally.retargets == before && soon(start)).unwrap();
    assert!(miner.tally.retargets > before, "down: {:?}", miner.tally);
    miner.hashrate = Some(1e6);
    let from = miner.tally.acknowledged;
    miner.mine(|tally| tally.acknowledged < from + 20).unwrap();
    miner.tally.must_be_clean();
    check_shares(&pool, &BTreeMap::from([(user.as_str(), miner.tally.clone())]));
    check_work(&pool, &address(Chain::Signet, 2), &miner.tally);
    assert!(pool.terminate().success());
    Books::open(&pool.setup.ledger_url).audit();
}
