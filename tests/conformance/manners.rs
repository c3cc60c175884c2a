//! C-39, C-51 to C-53, C-55: what the pool says of its own accord, to whom, and when it hangs up.

use std::time::{Duration, Instant};

use serde_json::json;

use super::miner;
use crate::support::{
    address,
    node::{Chain, Login, Node},
    pool::Pool,
    shared::{hard, moving, still},
    wait_for,
    wire::Wire,
};

#[test]
fn c39_without_fresh_work_miners_are_let_go_and_come_back() {
    let mut node = Node::start(Chain::Regtest, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Regtest, 1), |setup| {
        (setup.difficulty, setup.limits) = ((1e-10, 1e-10), "no_work = 5");
    });
    let (port, user) = (pool.setup.stratum_port, address(Chain::Regtest, 39));
    let hash = node.generate(1, &user).remove(0);
    let mut wire = Wire::start(port, &user, "x");
    let job = wire.job_on(&hash);
    node.stop();
    // What was sent is good for a while, and its shares are taken: a node that is started anew costs nobody anything.
    assert_eq!(wire.submit(&user, &job.share(1)), 0);
    assert_eq!(pool.closed("no_work"), 0);
    wire.closed_within(Duration::from_secs(20));
    pool.wait_closed("no_work", 0, 1);
    assert!(pool.is_running());
    // Nobody is given what is old.
    let mut late = Wire::open(port);
    late.subscribe();
    late.request(2, "mining.authorize", json!([user, "x"]));
    while let Some(line) = late.line_within(Duration::from_secs(1)) {
        assert!(!line.contains("mining.notify"), "{line}");
    }
    node.start_again();
    let mut back = wait_for("work again", Duration::from_secs(60), || {
        let mut wire = Wire::open(port);
        wire.request(1, "mining.subscribe", json!([]));
        let reply = wire.try_message()?;
        wire.subscribed(&reply);
        wire.request(2, "mining.authorize", json!([user, "x"]));
        while wire.jobs.is_empty() {
            let line = wire.line_within(Duration::from_secs(2))?;
            wire.read(&line);
        }
        Some(wire)
    });
    assert_eq!(back.submit(&user, &back.job().share(1)), 0);
}

#[test]
fn c51_a_pool_that_stops_hangs_up_and_sends_nobody_elsewhere() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.difficulty = (1e-10, 1e-10));
    let port = pool.setup.stratum_port;
    let mut wires: Vec<Wire> = (0..20).map(|_| Wire::start(port, &miner(51), "x")).collect();
    assert!(pool.terminate().success());
    for wire in &mut wires {
        let said = wire.closed();
        let strange = said.iter().find(|line| !line.contains("mining.notify"));
        assert_eq!(strange, None, "no client.reconnect: many miners do not know it");
    }
}

#[test]
fn c52_a_ping_is_answered_by_pong() {
    let pool = still();
    let mut wire = Wire::open(pool.port());
    wire.request(3, "mining.ping", json!([]));
    assert_eq!(wire.line(), r#"{"id":3,"result":"pong","error":null}"#);
}

#[test]
fn c53_extranonce_subscribe_is_answered_and_changes_nothing_by_itself() {
    let pool = still();
    let user = miner(53);
    let mut wire = Wire::open(pool.port());
    wire.subscribe();
    wire.request(7, "mining.extranonce.subscribe", json!([]));
    assert_eq!(wire.line(), r#"{"id":7,"result":true,"error":null}"#);
    wire.authorize(&user, "x");
    assert_eq!(wire.submit(&user, &wire.job().share(1)), 0);
    // Nor is anybody told of an extranonce who did not ask to be.
    let told: Vec<&String> = wire.told.iter().filter(|method| *method == "mining.set_extranonce").collect();
    assert!(told.is_empty());
}

#[test]
fn c55_a_market_for_hashrate_has_its_first_job_at_once_and_no_flood() {
    let pool = moving();
    let user = address(Chain::Regtest, 55);
    let mut wire = Wire::open(pool.port());
    wire.subscribe_with(json!(["NiceHash/1.0.0"]));
    wire.request(2, "mining.extranonce.subscribe", json!([]));
    assert_eq!(wire.line(), r#"{"id":2,"result":true,"error":null}"#);
    wire.request(3, "mining.authorize", json!([user, "x"]));
    assert_eq!(wire.line(), r#"{"id":3,"result":true,"error":null}"#);
    let asked = Instant::now();
    wire.next_job();
    assert!(asked.elapsed() < Duration::from_secs(1), "the first job took {:?}", asked.elapsed());
    // Whatever there is to make new jobs of: masks, in this case.
    let jobs = wire.jobs.len();
    for number in 0..40 {
        let mask = ["1fffe000", "00ffe000"][number % 2];
        wire.ask(4, "mining.configure", json!([["version-rolling"], {"version-rolling.mask": mask}]));
    }
    wire.nothing_else();
    let came = wire.jobs.len() - jobs;
    let seconds = asked.elapsed().as_secs() as usize;
    assert!(came <= seconds + 1, "{came} jobs in {seconds} s");
}

#[test]
fn c36_c55_the_operators_bounds_come_before_what_a_client_needs() {
    let pool = hard();
    for agent in ["NiceHash/1.0.0", "cgminer/4.11.1"] {
        let mut wire = Wire::open(pool.port());
        wire.subscribe_with(json!([agent]));
        wire.authorize(&address(Chain::Regtest, 56), "x");
        assert_eq!(wire.difficulty.as_deref(), Some("1024"), "{agent}");
    }
}
