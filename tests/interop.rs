//! Stratum V2 against the clients of the Stratum Reference Implementation, unmodified, on a real chain; and against our
//! own miner. `SLUICE_MINE_SECONDS=600` makes each run ten minutes.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{
    Processor, address,
    books::Books,
    clients::{Place, Program, Translator, serve_v2},
    node::{Chain, Login, Node},
    period,
    pool::{Block, Pool},
    wait_for,
};

/// The oldest that a template may get, in milliseconds.
const OLDEST_TEMPLATE: u64 = 30_000;

/// How long to mine, where nobody says.
fn duration(usual: u64) -> Duration {
    let given = std::env::var("SLUICE_MINE_SECONDS").ok();
    let seconds =
        given.map_or(usual, |text| text.parse().expect("SLUICE_MINE_SECONDS is a number of seconds"));
    Duration::from_secs(seconds)
}

/// A pool that serves V2, whose difficulty moves below that of a block.
fn pool(node: &Node) -> Pool {
    Pool::start(node, &address(Chain::Signet, 1), |setup| {
        (setup.difficulty, setup.shares_per_minute) = ((0.000_01, 0.0008), 120.0);
        serve_v2(setup);
    })
}

/// Accepted and rejected shares in the ledger, by worker of `address`; empty while there are none.
fn shares(pool: &Pool, address: &str) -> BTreeMap<String, (u64, u64)> {
    let Ok(answer) = pool.try_api(&format!("/api/v1/miners/{address}/workers")) else {
        return BTreeMap::new();
    };
    let workers = answer["workers"].as_array().unwrap_or_else(|| panic!("no workers: {answer}"));
    let row = |worker: &serde_json::Value| {
        let count = |name: &str| worker[name].as_u64().unwrap_or_else(|| panic!("no {name}: {answer}"));
        (worker["name"].as_str().unwrap().to_owned(), (count("accepted_shares"), count("rejected_shares")))
    };
    workers.iter().map(row).collect()
}

/// Waits until each of `workers` has more accepted shares in the ledger than `before`, and returns how many all have.
fn wait_for_shares(
    pool: &Pool,
    address: &str,
    workers: &[&str],
    before: &BTreeMap<String, (u64, u64)>,
) -> BTreeMap<String, (u64, u64)> {
    let accepted = |shares: &BTreeMap<String, (u64, u64)>, worker: &str| {
        shares.get(worker).map_or(0, |(accepted, _)| *accepted)
    };
    wait_for("more shares of each worker in the ledger", Duration::from_secs(30), || {
        let now = shares(pool, address);
        workers.iter().all(|worker| accepted(&now, worker) > accepted(before, worker)).then_some(now)
    })
}

/// Waits until the chain is higher than `height`, and returns how high it is.
fn wait_for_block(node: &Node, height: u64, mut alive: impl FnMut()) -> u64 {
    wait_for("a block", Duration::from_secs(120), || {
        alive();
        Some(node.height()).filter(|now| *now > height)
    })
}

/// Looks now and then, for `time`, that the template stays fresh and `alive` holds.
fn watch(pool: &Pool, time: Duration, mut alive: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < time {
        alive();
        let state = pool.api("/api/v1/pool");
        let age = state["template_age_ms"].as_u64().unwrap_or_else(|| panic!("no template_age_ms: {state}"));
        assert!(age <= OLDEST_TEMPLATE, "the template is {age} ms old");
        thread::sleep(Duration::from_millis(500));
    }
}

/// Every block of the chain after the one at height `begin` is the ledger's, and the books add up.
fn settle(node: &Node, begin: u64, mut pool: Pool) {
    let chain: Vec<String> = (begin + 1..=node.height()).map(|height| node.hash_at(height)).collect();
    wait_for("every block of the chain in the ledger", Duration::from_secs(30), || {
        let blocks = pool.blocks();
        let is_on_chain = |block: &Block| ["immature", "mature"].contains(&block.status.as_str());
        let is_known = |hash: &String| blocks.iter().any(|block| block.hash == *hash && is_on_chain(block));
        // The API gives the newest 500, among them those that lost a race.
        chain.iter().rev().take(400).all(is_known).then_some(())
    });
    assert!(pool.terminate().success());
    Books::open(&pool.setup.ledger_url).audit();
}

/// Accepted and rejected shares by the last line of our miner.
fn report(said: &str) -> (u64, u64) {
    let line = said.lines().rev().find(|line| line.contains(" shares accepted, "));
    let line = line.unwrap_or_else(|| panic!("no report: {said}"));
    let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

/// V1 miners behind SRI's proxy: workers are told apart, a new block every few seconds and restarts of the pool are
/// survived.
fn translate(is_aggregated: bool) {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = pool(&node);
    let payee = address(Chain::Signet, 2);
    let mut translator = Translator::start(&Place::of(&pool), &payee, is_aggregated);
    let names = ["rig-one", "rig-two"];
    let miner = |name: &str| {
        let url = format!("stratum+tcp://127.0.0.1:{}", translator.port);
        Program::sluice_miner(&url, &format!("{payee}.{name}"), "2M", &[])
    };
    let mut miners = names.map(miner);

    let half = duration(24) / 2;
    watch(&pool, half, || {
        translator.program.must_run();
        miners.iter_mut().for_each(Program::must_run);
    });
    let before = wait_for_shares(&pool, &payee, &names, &BTreeMap::new());
    let height = wait_for_block(&node, 0, || translator.program.must_run());

    assert!(pool.terminate().success());
    pool.start_again();
    // The proxy and the miners come back by themselves, each after some seconds.
    let again = wait_for_shares(&pool, &payee, &names, &before);
    watch(&pool, half, || {
        translator.program.must_run();
        miners.iter_mut().for_each(Program::must_run);
    });
    let after = wait_for_shares(&pool, &payee, &names, &again);
    wait_for_block(&node, height, || translator.program.must_run());

    for (name, said) in names.iter().zip(miners.map(Program::stop)) {
        let (accepted, rejected) = report(&said);
        println!("{name}: {accepted} shares by the proxy, {:?} in the ledger", after[*name]);
        assert!(
            accepted > 0 && rejected * 10 <= accepted,
            "{name}: {accepted} accepted, {rejected} rejected"
        );
        let (accepted, rejected) = after[*name];
        // What is not accepted came too late, in the second of a new block.
        assert!(rejected * 5 <= accepted, "{name}: {accepted} accepted in the ledger, {rejected} rejected");
    }
    println!("{} blocks, aggregated: {is_aggregated}", node.height());
    translator.program.must_run();
    drop(translator);
    settle(&node, 0, pool);
}

#[test]
fn v1_miners_behind_the_translator_with_a_channel_each() {
    translate(false);
}

#[test]
fn v1_miners_behind_the_translator_on_one_channel() {
    translate(true);
}

#[test]
fn the_mining_device_of_sri_on_a_standard_channel() {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Cookie);
    // It does not read `min_ntime`: its blocks are a minute ahead of its clock. Were they all that the median of eleven
    // is made of, the next one of the same second would be too old.
    for block in &period::blocks()[..11] {
        assert!(node.call("submitblock", json!([block])).is_null());
    }
    let begin = node.height();
    let pool = pool(&node);
    let payee = address(Chain::Signet, 2);
    let mut device = Program::mining_device(&Place::of(&pool), &format!("{payee}.device"));
    // It measures itself for five seconds first.
    wait_for_block(&node, begin, || device.must_run());
    let before = shares(&pool, &payee);
    watch(&pool, duration(8), || device.must_run());
    let now = wait_for_shares(&pool, &payee, &["device"], &before);
    let (accepted, rejected) = now["device"];
    println!("{accepted} shares, {rejected} rejected, {} blocks", node.height() - begin);
    assert!(rejected * 5 <= accepted, "{accepted} accepted, {rejected} rejected");
    device.must_run();
    drop(device);
    settle(&node, begin, pool);
}

#[test]
fn our_miner_on_both_kinds_of_channel_and_the_ledger_counts_what_it_was_told() {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Password);
    let pool = pool(&node);
    let payee = address(Chain::Signet, 2);
    let url = Place::of(&pool).url;
    let kinds = [("extended", &[][..]), ("standard", &["--standard", "--threads", "2"][..])];
    let mut miners =
        kinds.map(|(name, more)| (name, Program::sluice_miner(&url, &format!("{payee}.{name}"), "2M", more)));
    watch(&pool, duration(10), || miners.iter_mut().for_each(|(_, miner)| miner.must_run()));
    wait_for_block(&node, 0, || miners.iter_mut().for_each(|(_, miner)| miner.must_run()));
    for (name, miner) in miners {
        let said = miner.stop();
        let (accepted, rejected) = report(&said);
        println!("{name}: {accepted} shares, {rejected} rejected");
        assert!(accepted > 3 && rejected * 3 <= accepted, "{name}: {said}");
        wait_for("the ledger to have what the miner was told", Duration::from_secs(20), || {
            (shares(&pool, &payee).get(name) == Some(&(accepted, rejected))).then_some(())
        });
    }
    settle(&node, 0, pool);
}

#[test]
fn our_miner_says_what_is_wrong_with_the_key() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    let pool = pool(&node);
    let Place { port, .. } = Place::of(&pool);
    // The key of another pool, as good as any.
    let other = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";
    let url = format!("stratum2+tcp://127.0.0.1:{port}/{other}");
    let user = address(Chain::Signet, 2);
    let miner = Program::sluice_miner(&url, &user, "1k", &[]);
    let said = wait_for("the miner to say something", Duration::from_secs(20), || {
        let log = miner.log();
        log.contains("sluice:").then_some(log)
    });
    assert!(said.contains("is not the pool of the key in the URL"), "{said}");
}
