//! F-30, F-31, F-36: shares that are spelled, repeated or piled up.

use std::{
    collections::HashSet,
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
    wire::{Job, PATIENCE, Share, Wire, is_block, is_share},
};

fn rolling(port: u16, session: Option<&str>, user: &str, password: &str) -> Wire {
    let mut wire = Wire::open(port);
    wire.ask(0, "mining.configure", json!([["version-rolling"], {"version-rolling.mask": "ffffffff"}]));
    wire.subscribe_with(json!(["speller", session]));
    wire.authorize(user, password);
    wire
}

/// Ways to write the same share, and ways to write it wrong.
fn spellings(share: &Share) -> [Vec<Share>; 2] {
    let with = |change: &dyn Fn(&mut Share)| {
        let mut other = share.clone();
        change(&mut other);
        other
    };
    let short = |text: &String| text.trim_start_matches('0').to_owned();
    let (nonce, time, bits) = (short(&share.nonce), short(&share.time), share.version_bits.clone());
    let same = vec![
        share.clone(),
        with(&|share| share.extranonce2 = share.extranonce2.to_uppercase()),
        with(&|share| share.nonce = share.nonce.to_uppercase()),
        with(&|share| share.nonce = nonce.clone()),
        with(&|share| share.time = share.time.to_uppercase()),
        with(&|share| share.time = time.clone()),
        with(&|share| share.job = share.job.to_uppercase()),
        with(&|share| share.job = short(&share.job)),
        with(&|share| share.version_bits = bits.as_ref().map(|bits| bits.to_uppercase())),
        with(&|share| share.version_bits = bits.as_ref().map(|bits| format!("0{}", short(bits)))),
    ];
    let wrong = vec![
        with(&|share| share.extranonce2 = format!("{}00", share.extranonce2)),
        with(&|share| share.extranonce2 = format!("00{}", share.extranonce2)),
        with(&|share| share.extranonce2.truncate(14)),
        with(&|share| share.nonce = format!("0{}", share.nonce)),
        with(&|share| share.version_bits = Some("00001000".to_owned())),
        with(&|share| share.version_bits = Some(format!("0{:0>8}", bits.clone().unwrap_or_default()))),
    ];
    [same, wrong]
}

#[test]
fn f30_one_credit_for_a_share_however_it_is_spelled_and_wherever_it_is_sent() {
    let pool = still();
    let address = address(Chain::Signet, 230);
    let user = format!("{address}.rig");
    let mut wire = rolling(pool.port(), None, &user, "d=0.00002");
    let job = wire.job();
    let good = |hash| is_share(hash, job.difficulty) && !is_block(hash, job.bits);
    let find = |seed: u64, bits| job.find_with(0xabcd_0000_0000_0000 | seed, job.time, Some(bits), good);
    // One with bits, and one without any, of which the text may be left out.
    let [rolled, plain] = [find(1, 0x0a00_0000), find(2, 0)];
    let [mut same, wrong] = spellings(&rolled);
    assert_eq!(wire.submit(&user, &same.remove(3)), 0, "the first, in whatever spelling");
    for share in &same {
        assert_eq!(wire.submit(&user, share), 22, "{share:?}");
    }
    for share in &wrong {
        assert_eq!(wire.submit(&user, share), 20, "{share:?}");
    }
    let mut missing = plain.clone();
    missing.version_bits = None;
    assert_eq!(wire.submit(&user, &missing), 0);
    for bits in ["0", "00", "00000000"] {
        missing.version_bits = Some(bits.to_owned());
        assert_eq!(wire.submit(&user, &missing), 22, "{bits}");
    }
    // A bit outside of the mask that the job's version has anyway.
    missing.version_bits = Some("20000000".to_owned());
    assert!([20, 22].contains(&wire.submit(&user, &missing)));

    // On a connection beside it that claims to be the same: it has an extranonce of its own.
    let mut beside = rolling(pool.port(), Some(&wire.session), &user, "d=0.00002");
    assert_eq!(beside.submit(&user, &rolled), 23);
    // On another worker's account.
    let mut other = rolling(pool.port(), None, &format!("{address}.other"), "d=0.00002");
    assert_ne!(other.submit(&format!("{address}.other"), &rolled), 0);

    // On two connections after a resume, of which only the first is the session.
    let (session, extranonce1) = (wire.session.clone(), wire.extranonce1.clone());
    drop(wire);
    let mut back = wait_for("the session to be free", PATIENCE, || {
        let wire = rolling(pool.port(), Some(&session), &user, "d=0.00002");
        (wire.extranonce1 == extranonce1).then_some(wire)
    });
    let mut second = rolling(pool.port(), Some(&session), &user, "d=0.00002");
    assert_ne!(second.extranonce1, extranonce1);
    for share in same.iter().chain([&plain]) {
        assert_eq!(back.submit(&user, share), 22, "{share:?}");
        assert_eq!(second.submit(&user, share), 23, "{share:?}");
    }
    let third = find(3, 0x2000);
    assert_eq!([back.submit(&user, &third), second.submit(&user, &third)], [0, 23]);
    wait_for("three shares in the ledger", PATIENCE, || {
        let account = pool.try_api(&format!("/api/v1/miners/{address}")).ok()?;
        let count = account["accepted_shares"].as_u64()?;
        assert!(count <= 3, "{count} credits for three shares");
        (count == 3).then_some(())
    });
}

#[test]
fn f30_a_share_is_worth_nothing_to_another_process() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    let house = address(Chain::Signet, 1);
    // Both are instance 0, and pay to one address.
    let setup = |setup: &mut crate::support::pool::Setup| setup.difficulty = (0.000_02, 0.000_02);
    let [mut one, two] = [(), ()].map(|()| Pool::start(&node, &house, setup));
    let user = address(Chain::Signet, 231);
    let mut wire = Wire::start(one.setup.stratum_port, &user, "x");
    let shares: Vec<Share> = (0..3).map(|seed| wire.job().share(seed)).collect();
    for share in &shares {
        assert_eq!(wire.submit(&user, share), 0);
    }
    let session = wire.session.clone();
    let refuses = |pool: &Pool| {
        let mut wire = Wire::open(pool.setup.stratum_port);
        wire.subscribe_with(json!(["again", session]));
        wire.authorize(&user, "x");
        let job = wire.job();
        for share in &shares {
            assert_eq!(wire.submit(&user, share), 21);
            // Under the id of a job that is known there.
            let renamed = Share { job: job.id.clone(), ..share.clone() };
            assert_eq!(wire.submit(&user, &renamed), 23);
        }
    };
    refuses(&two);
    one.kill();
    one.start_again();
    refuses(&one);
}

/// One submit a line.
fn lines(user: &str, shares: impl Iterator<Item = Share>) -> String {
    shares
        .map(|share| {
            format!("{}\n", json!({"id": 4, "method": "mining.submit", "params": share.params(user)}))
        })
        .collect()
}

#[test]
fn f31_a_flood_is_slowed_down_or_closed_and_others_are_served_meanwhile() {
    const PER_SECOND: usize = 100;
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        (setup.difficulty, setup.shares_per_minute) = ((1e-10, 1.0), 60_000.0);
        setup.limits = "submits_per_second = 100\nauthorize = 600";
    });
    let port = pool.setup.stratum_port;
    let [user, other, bad] = [2, 3, 4].map(|number| address(Chain::Signet, number));
    let mut honest = Wire::start(port, &user, "x");

    // Good shares, a hundred times as many as are read in a second.
    let mut flood = Wire::start(port, &other, "x");
    let job = flood.job();
    let many = lines(&other, (0..100 * PER_SECOND as u64).map(|seed| job.share(seed)));
    let start = Instant::now();
    let sent = flood.stuff(many.as_bytes(), Duration::from_millis(200));
    for seed in 0..50 {
        assert_eq!(honest.submit(&user, &honest.job().share(seed)), 0);
    }
    // All of the honest ones are answered; of the flood, what it may and what was read at once with that.
    let mut answered = 0;
    while flood.line_within(Duration::ZERO).is_some() {
        answered += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let most = PER_SECOND as f64 * (seconds + 1.0) + 400.0;
    assert!((answered as f64) < most, "{answered} of the flood in {seconds} s, with {sent} bytes sent");
    assert!(answered > 0, "slowed down, not stopped");
    wait_for("the operator to be told", Duration::from_secs(5), || {
        (pool.metric("sluice_limited_total", "submits_per_second") > 0).then_some(())
    });
    drop(flood);

    // Bad ones, of each kind that is told apart.
    let before = pool.closed("bad_submits");
    let mut rogues = 0;
    for kind in ["low", "twice", "malformed", "short"] {
        let mut rogue = Wire::start(port, &bad, if kind == "low" { "d=0.001" } else { "x" });
        let job = rogue.job();
        let share = |seed| job.find(seed, |hash| kind != "low" || !is_share(hash, job.difficulty));
        let line = |seed: u64| match kind {
            "malformed" => "{\"id\":4,\"method\":\"mining.submit\",\"params\":[]}\n".to_owned(),
            "twice" => lines(&bad, std::iter::once(share(1))),
            "short" => lines(&bad, std::iter::once(Share { extranonce2: "00".to_owned(), ..share(seed) })),
            _ => lines(&bad, std::iter::once(share(seed))),
        };
        let text: String = (0..1000).map(line).collect();
        rogue.stuff(text.as_bytes(), Duration::from_secs(1));
        let said = rogue.closed_within(Duration::from_secs(20));
        assert!(said.len() < 500, "{kind}: {} were answered", said.len());
        rogues += 1;
        assert_eq!(honest.submit(&user, &honest.job().share(100 + rogues)), 0, "after {kind}");
    }
    pool.wait_closed("bad_submits", before, rogues);
    assert!(pool.is_running());
}

#[test]
fn f36_a_thousand_jobs_and_no_old_id_means_another() {
    const CROWD: usize = 20;
    const JOBS: usize = 1000;
    let node = Node::start(Chain::Signet, Login::Cookie);
    let pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.difficulty = (1e-10, 1.0));
    let user = address(Chain::Signet, 36);
    // Each time that a session is resumed it gets a job more of one and the same template.
    let resume = |session: &str, jobs: &mut Vec<Job>, count: usize| -> Wire {
        loop {
            let mut wire = Wire::open(pool.setup.stratum_port);
            wire.subscribe_with(json!(["again", session]));
            if wire.session != session {
                // The pool has not seen the last connection go yet.
                continue;
            }
            wire.authorize(&user, "d=0.00001");
            jobs.append(&mut wire.jobs);
            if jobs.len() >= count {
                return wire;
            }
        }
    };
    let start = || {
        let wire = Wire::start(pool.setup.stratum_port, &user, "d=0.00001");
        (wire.session.clone(), wire.jobs.clone())
    };
    let mut crowd: Vec<(String, Vec<Job>)> = (0..CROWD).map(|_| start()).collect();
    let before = pool.memory();
    for (session, jobs) in &mut crowd {
        resume(session, jobs, 100);
    }
    let (session, mut jobs) = crowd.remove(0);
    let mut wire = resume(&session, &mut jobs, JOBS);
    let grown = pool.memory().saturating_sub(before);
    assert!(grown < 32 * MIB, "{} jobs took {} MiB", CROWD * 100 + JOBS, grown / MIB);

    let ids: HashSet<&String> = jobs.iter().map(|job| &job.id).collect();
    assert_eq!(ids.len(), jobs.len(), "an id came twice");
    // Each is judged by what it was, or not at all. (A wrong job would give another hash, and so "low difficulty".)
    let recent = jobs.iter().rev().take(30).step_by(3);
    let old = jobs.iter().rev().skip(200).step_by(50);
    let mut code = |job: &Job, seed: u64| wire.submit(&user, &job.share(seed));
    for (seed, job) in recent.enumerate() {
        assert_eq!(code(job, seed as u64), 0, "one of the latest");
    }
    for (seed, job) in old.enumerate() {
        assert_eq!(code(job, seed as u64), 21, "one that is long forgotten");
    }
}
