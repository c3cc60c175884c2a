//! Who is not let in, and who is let go: each with its reason in the metrics.

use std::{net::Ipv4Addr, time::Duration};

use crate::support::{
    address,
    node::{Chain, Login, Node},
    pool::Pool,
    shared::still,
    wire::Wire,
};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const BESIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 5, 5, 5);

/// A connection that is let in, or not.
fn enters(pool: &Pool, from: Ipv4Addr) -> Option<Wire> {
    let mut wire = Wire::open_from(from, pool.setup.stratum_port, None).ok()?;
    wire.request(1, "mining.subscribe", serde_json::json!([]));
    let reply = wire.try_message()?;
    wire.subscribed(&reply);
    Some(wire)
}

#[test]
fn f44_caps_in_all_by_address_and_by_network() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    let pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        setup.limits = "connections = 6\nper_address = 3\nper_network = 4\ntrusted = [\"127.9.0.0/16\"]";
    });
    // The harness's own look whether the pool listens is gone by now, or takes a place for a moment.
    let enter = |from, count| -> Vec<Wire> {
        crate::support::wait_for("the places to be free", Duration::from_secs(10), || {
            let all: Vec<Wire> = (0..count).map_while(|_| enters(&pool, from)).collect();
            (all.len() == count).then_some(all)
        })
    };
    let mut inside = enter(HERE, 3);
    assert!(enters(&pool, HERE).is_none(), "three from one address");
    pool.wait_closed("address", 0, 1);
    inside.extend(enter(BESIDE, 1));
    assert!(enters(&pool, BESIDE).is_none(), "four from one network");
    pool.wait_closed("network", 0, 1);
    inside.extend(enter(ELSEWHERE, 2));
    assert!(enters(&pool, ELSEWHERE).is_none(), "six in all");
    assert!(enters(&pool, Ipv4Addr::new(127, 9, 9, 9)).is_none(), "whoever it is");
    pool.wait_closed("full", 0, 2);
    // Places that are given back can be taken again, and those inside were left alone.
    drop(inside.drain(..3).collect::<Vec<_>>());
    inside.extend(enter(HERE, 3));
    inside.iter_mut().for_each(Wire::nothing_else);
}

#[test]
fn an_address_is_banned_for_what_it_does_but_not_a_farm() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    let pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        setup.difficulty = (1e-10, 1e-10);
        setup.limits = "offences = 3\nban = 6\ntrusted = []";
    });
    let offend = |from| {
        let mut wire = Wire::open_from(from, pool.setup.stratum_port, None).unwrap();
        wire.send("GET / HTTP/1.1\r\n\r\n");
        wire.closed();
    };
    // Behind this address somebody mines: one bad machine beside it does not get it banned.
    let user = address(Chain::Signet, 2);
    let mut miner = enters(&pool, BESIDE).expect("not banned");
    miner.authorize(&user, "x");
    assert_eq!(miner.submit(&user, &miner.job().share(1)), 0);
    (0..10).for_each(|_| offend(BESIDE));
    assert!(enters(&pool, BESIDE).is_some());
    assert_eq!(miner.submit(&user, &miner.job().share(2)), 0);

    (0..3).for_each(|_| offend(ELSEWHERE));
    crate::support::wait_for("the ban", Duration::from_secs(5), || {
        enters(&pool, ELSEWHERE).is_none().then_some(())
    });
    pool.wait_closed("banned", 0, 1);
    crate::support::wait_for("the ban to be counted", Duration::from_secs(5), || {
        (pool.metric("sluice_limited_total", "ban") == 1).then_some(())
    });
    assert!(pool.log().contains("banned"), "the operator is told");
    crate::support::wait_for("the end of the ban", Duration::from_secs(20), || enters(&pool, ELSEWHERE));
    assert!(enters(&pool, BESIDE).is_some());
}

#[test]
fn who_is_silent_for_too_long_is_closed() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    let pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.limits = "idle = 1");
    let mut wire = Wire::start(pool.setup.stratum_port, &address(Chain::Signet, 2), "x");
    wire.closed();
    pool.wait_closed("idle", 0, 1);
}

#[test]
fn a_connection_that_breaks_is_told_from_one_that_is_closed() {
    let pool = still();
    let (left, broken) = (pool.closed("left"), pool.closed("broken"));
    let mut wire = Wire::start(pool.port(), &address(Chain::Signet, 240), "x");
    wire.request(9, "mining.ping", serde_json::json!([]));
    wire.wait_unread();
    // With something unread the system resets the connection instead of closing it.
    drop(wire);
    pool.wait_closed("broken", broken, 1);
    drop(Wire::start(pool.port(), &address(Chain::Signet, 240), "x"));
    pool.wait_closed("left", left, 1);
}
