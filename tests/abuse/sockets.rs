//! F-40 to F-44: what can be done with sockets alone.

use std::{
    fs,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::MIB;
use crate::support::{
    address,
    node::{Chain, Login, Node},
    pool::Pool,
    shared::still,
    wait_for,
    wire::Wire,
};

const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What the kernel says of the server's end of each established connection on `port`: which timer runs (2 is keepalive)
/// and for how many hundredths of a second yet.
fn timers(port: u16) -> Vec<(u8, u64)> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let (local, state) = (cells.get(1)?, cells.get(3)?);
        let (timer, when) = cells.get(5)?.split_once(':')?;
        let is_ours = local.ends_with(&format!(":{port:04X}")) && *state == "01";
        is_ours.then(|| (u8::from_str_radix(timer, 16).unwrap(), u64::from_str_radix(when, 16).unwrap()))
    };
    table.lines().filter_map(row).collect()
}

#[test]
fn f40_a_peer_that_vanished_is_looked_for() {
    let pool = still();
    let _wire = Wire::start(pool.port(), &address(Chain::Signet, 40), "x");
    let timers = wait_for("all to be said and acknowledged", Duration::from_secs(10), || {
        let timers = timers(pool.port());
        (!timers.is_empty() && timers.iter().all(|(timer, _)| *timer == 2)).then_some(timers)
    });
    // The first probe after 45 s, so that the last can come within two minutes.
    assert!(timers.iter().all(|(_, hundredths)| *hundredths <= 4_500), "{timers:?}");
}

#[test]
fn f41_who_does_not_read_is_closed_and_keeps_nobody_waiting() {
    const SLOW: usize = 150;
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Regtest, 1), |setup| setup.difficulty = (1e-10, 1e-10));
    let (port, user) = (pool.setup.stratum_port, address(Chain::Regtest, 41));
    let mut honest: Vec<Wire> = (0..20).map(|_| Wire::start(port, &user, "x")).collect();
    let mut slow: Vec<Wire> = (0..SLOW)
        .map(|_| {
            let mut wire = Wire::open_from(HOME, port, Some(4096)).unwrap();
            wire.subscribe();
            wire.authorize(&user, "x");
            wire
        })
        .collect();
    let before = (pool.memory(), pool.closed("not_reading"));
    // Questions with long answers that nobody reads: several times as many as the kernel holds for one that does not
    // read, which is 64 KiB on the pool's side and next to nothing on this.
    let names: Vec<String> = (0..16).map(|number| format!("{number}{}", "x".repeat(60))).collect();
    let question = format!("{}\n", json!({"id": 0, "method": "mining.configure", "params": [names, {}]}));
    let questions = question.repeat(512 * 1024 / question.len());
    for wire in &mut slow {
        wire.stuff(questions.as_bytes(), Duration::from_millis(20));
    }
    // A new block: those who read have it before any of the others is given up.
    let tip = node.generate(1, &user).remove(0);
    let told = Instant::now();
    for wire in &mut honest {
        wire.job_on(&tip);
    }
    let waited = told.elapsed();
    assert!(waited < Duration::from_secs(3), "the last of those who read waited {waited:?}");
    let grown = pool.memory().saturating_sub(before.0);
    assert!(grown < 16 * MIB, "{SLOW} who do not read took {} MiB", grown / MIB);
    pool.wait_closed("not_reading", before.1, SLOW as u64);
    // Ten seconds is the default of `limits.write`.
    assert!(told.elapsed() < Duration::from_secs(20), "closed only after {:?}", told.elapsed());
    for wire in &mut honest {
        wire.nothing_else();
    }
    assert!(pool.is_running());
}

#[test]
fn f42_f44_who_never_gets_to_the_point_is_closed() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.limits = "authorize = 4");
    let port = pool.setup.stratum_port;
    let user = address(Chain::Signet, 44);
    let mut honest = Wire::start(port, &user, "x");
    let before = (pool.memory(), pool.closed("not_authorized"));
    // Some say nothing, some subscribe and no more, one sends a byte now and then, one asks again and again.
    let mut silent: Vec<Wire> = (0..500).map(|_| Wire::open(port)).collect();
    for wire in silent.iter_mut().step_by(2) {
        wire.subscribe();
    }
    let (mut slow, mut busy) = (Wire::open(port), Wire::open(port));
    let mut request =
        br#"{"id":1,"method":"mining.authorize","params":["#.iter().chain([b' '].iter().cycle());
    let start = Instant::now();
    let (mut is_slow, mut is_busy) = (true, true);
    while is_slow || is_busy {
        assert!(start.elapsed() < Duration::from_secs(15), "still open: slow {is_slow}, busy {is_busy}");
        slow.send([*request.next().unwrap()]);
        busy.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
        thread::sleep(Duration::from_millis(100));
        is_slow &= !slow.is_closed();
        is_busy &= !busy.is_closed();
    }
    let grown = pool.memory().saturating_sub(before.0);
    assert!(grown < 32 * MIB, "502 connections took {} MiB", grown / MIB);
    for wire in &mut silent {
        wire.closed();
    }
    pool.wait_closed("not_authorized", before.1, 502);
    honest.nothing_else();
    assert!(pool.is_running());
}

#[test]
fn f43_a_storm_of_reconnects_is_served() {
    const THREADS: usize = 6;
    const EACH: usize = 500;
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.difficulty = (1e-10, 1e-10));
    let port = pool.setup.stratum_port;
    let storm = |sessions: &[String]| -> Vec<String> {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let mine = sessions.chunks(EACH).nth(thread).unwrap_or_default().to_vec();
                    scope.spawn(move || {
                        let user = address(Chain::Signet, 43);
                        let open = |number: usize| {
                            let mut wire = Wire::open(port);
                            wire.subscribe_with(json!(["storm", mine.get(number)]));
                            wire.authorize(&user, "x");
                            assert_eq!(wire.submit(&user, &wire.job().share(number as u64)), 0);
                            // A few stay, the rest is gone at once.
                            (wire.session.clone(), (number.is_multiple_of(20)).then_some(wire))
                        };
                        let all: (Vec<String>, Vec<Option<Wire>>) = (0..EACH).map(open).unzip();
                        all.0
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        })
    };
    let sessions = storm(&[]);
    let first = pool.memory();
    // All of them come back, also to a pool that knows nothing of them.
    let sessions = storm(&sessions);
    pool.kill();
    pool.start_again();
    storm(&sessions);
    wait_for("all to be gone", Duration::from_secs(10), || {
        (pool.api("/api/v1/pool")["connections"] == json!(0)).then_some(())
    });
    let grown = pool.memory().saturating_sub(first);
    assert!(grown < 64 * MIB, "the storm left {} MiB", grown / MIB);
    let account = format!("/api/v1/miners/{}", address(Chain::Signet, 43));
    wait_for("every share in the ledger", Duration::from_secs(20), || {
        (pool.try_api(&account).ok()?["accepted_shares"] == json!(3 * THREADS * EACH)).then_some(())
    });
    assert!(pool.terminate().success());
}
