//! C-37, C-54: difficulty on the wire, and what is asked of it.

use serde_json::{Value, json};

use super::miner;
use crate::support::{
    address,
    node::Chain,
    shared::still,
    wait_for,
    wire::{Job, PATIENCE, Share, Wire, is_block, is_share},
};

/// A share that is good enough for `easy` but not for `hard`.
fn between(job: &Job, seed: u64, easy: f64, hard: f64) -> Share {
    job.find(seed, |hash| is_share(hash, easy) && !is_share(hash, hard))
}

/// Wishes for `difficulty`; the job that follows at once, which must be at it.
fn change(wire: &mut Wire, difficulty: f64) -> Job {
    let ids: Vec<String> = wire.jobs.iter().map(|job| job.id.clone()).collect();
    wire.request(3, "mining.suggest_difficulty", json!([difficulty]));
    assert_eq!(wire.reply()["result"], json!(true));
    loop {
        let message = wire.message();
        if message["method"] == "mining.set_difficulty" {
            break;
        }
        assert_eq!(message["method"], "mining.notify", "work at the old difficulty may come between");
    }
    assert_eq!(wire.difficulty.as_ref().and_then(|text| text.parse().ok()), Some(difficulty));
    assert_eq!(wire.message()["method"], "mining.notify", "and nothing in between");
    let job = wire.job();
    assert!(!ids.contains(&job.id) && !job.clean, "{job:?}");
    job
}

#[test]
fn c37_a_share_is_judged_by_the_difficulty_of_its_job() {
    const EASY: f64 = 0.000_01;
    const HARD: f64 = 0.000_04;
    // A block would move the chain that other tests count on to stand still.
    let at_most_a_share =
        |job: &Job, seed| job.find(seed, |hash| is_share(hash, HARD) && !is_block(hash, job.bits));
    let pool = still();
    let address = address(Chain::Signet, 137);
    let user = format!("{address}.rig");
    let mut wire = Wire::start(pool.port(), &user, "d=0.00001");
    let first = wire.job();
    assert_eq!(wire.submit(&user, &between(&first, 1, EASY, HARD)), 0);

    let raised = change(&mut wire, HARD);
    assert_eq!(wire.submit(&user, &between(&first, 2, EASY, HARD)), 0, "an old job, at its own difficulty");
    assert_eq!(wire.submit(&user, &between(&raised, 3, EASY, HARD)), 23);
    assert_eq!(wire.submit(&user, &at_most_a_share(&raised, 4)), 0);

    // cgminer goes on with the difficulty of the job, other firmware takes the new one at once: both are right.
    let lowered = change(&mut wire, EASY);
    assert_eq!(wire.submit(&user, &between(&raised, 5, EASY, HARD)), 0, "an old job, at the new difficulty");
    assert_eq!(wire.submit(&user, &at_most_a_share(&raised, 6)), 0);
    assert_eq!(wire.submit(&user, &between(&lowered, 7, EASY, HARD)), 0);
    assert_eq!(wire.submit(&user, &lowered.find(8, |hash| !is_share(hash, EASY))), 23);

    // Four at the easy one, two at the hard one: never more than what was asked for.
    let hashes = (4.0 * EASY + 2.0 * HARD) * 4_295_032_833.0;
    wait_for("the ledger to have the work", PATIENCE, || {
        let account = pool.try_api(&format!("/api/v1/miners/{address}")).ok()?;
        if account["accepted_shares"] != json!(6) {
            return None;
        }
        let work: f64 = account["work"].as_str()?.parse().ok()?;
        assert!((work / hashes - 1.0).abs() < 1e-3, "credited {work}, earned {hashes}");
        Some(())
    });
}

#[test]
fn c54_every_way_to_suggest_a_difficulty() {
    let pool = still();
    let target = "000007FFF8".to_owned() + &"0".repeat(54);
    let usual = "0.0000000001";
    for (method, params, expect) in [
        ("mining.suggest_difficulty", json!([0.0005]), "0.0005"),
        ("mining.suggest_difficulty", json!(["0.0005"]), "0.0005"),
        ("mining.suggest_difficulty", json!([5e-4, "more"]), "0.0005"),
        ("mining.suggest_difficulty(0.0005)", json!([]), "0.0005"),
        ("mining.suggest_target", json!([target]), "0.00048828125"),
        ("mining.suggest_difficulty", json!([0]), usual),
        ("mining.suggest_difficulty", json!([-1]), usual),
        ("mining.suggest_difficulty", json!(["NaN"]), usual),
        ("mining.suggest_difficulty", json!(["inf"]), usual),
        ("mining.suggest_difficulty", json!([null]), usual),
        ("mining.suggest_difficulty", json!([]), usual),
        ("mining.suggest_difficulty", json!([1e-300]), usual),
        ("mining.suggest_target", json!(["x"]), usual),
        ("mining.suggest_target", json!(["0".repeat(64)]), usual),
    ] {
        // Before authorize, and after.
        let mut early = Wire::open(pool.port());
        early.subscribe();
        assert_eq!(early.ask(7, method, params.clone())["result"], Value::Bool(true), "{method} {params}");
        early.authorize(&miner(54), "x");
        let mut late = Wire::start(pool.port(), &miner(54), "x");
        assert_eq!(late.ask(7, method, params.clone())["result"], Value::Bool(true), "{method} {params}");
        if expect != usual {
            late.next_job();
        }
        for wire in [early, late] {
            assert_eq!(wire.difficulty.as_deref(), Some(expect), "{method} {params}");
        }
    }
    // JSON has numbers that no float can hold, and they are no reason to hang up.
    let mut wire = Wire::start(pool.port(), &miner(54), "x");
    for number in ["1e308", "1e309", "123456789012345678901234567890", "-0.0"] {
        wire.say(format!(r#"{{"id":7,"method":"mining.suggest_difficulty","params":[{number}]}}"#));
        assert_eq!(wire.reply()["result"], Value::Bool(true), "{number}");
    }
    let difficulty: f64 = wire.difficulty.clone().unwrap().parse().unwrap();
    assert!(difficulty < 0.0012, "held at the difficulty of a block: {difficulty}");
    wire.nothing_else();
}

#[test]
fn a_worker_that_comes_back_without_its_session_begins_where_it_left_off() {
    let pool = still();
    let user = format!("{}.rig", address(Chain::Signet, 138));
    let mut wire = Wire::start(pool.port(), &user, "d=0.00002");
    assert_eq!(wire.submit(&user, &wire.job().share(1)), 0);
    drop(wire);
    wait_for("its difficulty to be remembered", PATIENCE, || {
        let wire = Wire::start(pool.port(), &user, "x");
        (wire.difficulty.as_deref() == Some("0.00002")).then_some(())
    });
    // What it wishes for now counts more; a wish that no share was handed in for is not remembered.
    let wire = Wire::start(pool.port(), &user, "d=0.00004");
    assert_eq!(wire.difficulty.as_deref(), Some("0.00004"));
    let session = wire.session.clone();
    drop(wire);
    wait_for("that one to be gone", PATIENCE, || {
        let mut wire = Wire::open(pool.port());
        wire.subscribe_with(json!(["again", session]));
        (wire.session == session).then_some(())
    });
    let wire = Wire::start(pool.port(), &user, "x");
    assert_eq!(wire.difficulty.as_deref(), Some("0.00002"));
    // Another machine of the same address is another miner.
    let other = Wire::start(pool.port(), &user.replace(".rig", ".other"), "x");
    assert_eq!(other.difficulty.as_deref(), Some("0.0000000001"));
}
