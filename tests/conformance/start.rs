//! C-12 to C-20: how a connection begins, and how one goes on.

use std::time::Duration;

use bitcoin::hex::DisplayHex;
use serde_json::{Value, json};

use super::miner;
use crate::support::{
    address,
    node::Chain,
    shared::{moving, still},
    wait_for,
    wire::{PATIENCE, Wire},
};

const ROLLING: &str = "version-rolling";

#[test]
fn c12_the_line_after_a_request_of_the_start_is_its_reply() {
    let pool = still();
    let configure = json!([[ROLLING], {"version-rolling.mask": "1fffe000"}]);
    // With and without configure; configure twice; the session of somebody else.
    for first in [&[][..], &["c"], &["c", "c"], &["c", "s"], &["s", "c"], &["s", "s", "c", "c"]] {
        let mut wire = Wire::open(pool.port());
        for (number, what) in first.iter().chain(&["s"]).enumerate() {
            let (method, params) = if *what == "c" {
                ("mining.configure", configure.clone())
            } else {
                ("mining.subscribe", json!([]))
            };
            wire.request(number, method, params);
            let reply = wire.message();
            assert!(reply["id"] == json!(number) && reply["error"].is_null(), "{first:?}: {reply}");
        }
    }
}

#[test]
fn c13_nothing_but_work_is_said_before_authorize_is_answered() {
    let pool = moving();
    let node = pool.node();
    let allowed = |wire: &Wire| {
        let strange =
            |method: &&String| !matches!(method.as_str(), "mining.set_difficulty" | "mining.notify");
        assert_eq!(wire.told.iter().find(strange), None);
    };
    // With all that could make a pool talkative, and a block meanwhile.
    let mut wire = Wire::open(pool.port());
    wire.ask(
        0,
        "mining.configure",
        json!([[ROLLING, "subscribe-extranonce"], {"version-rolling.mask": "ffffffff"}]),
    );
    wire.subscribe();
    wire.ask(5, "mining.extranonce.subscribe", json!([]));
    wire.ask(6, "mining.suggest_difficulty", json!([1]));
    let mut other = Wire::start(pool.port(), &address(Chain::Regtest, 13), "x");
    let hash = node.generate(1, &address(Chain::Regtest, 13)).remove(0);
    other.job_on(&hash);
    while let Some(line) = wire.line_within(Duration::from_millis(200)) {
        assert!(line.contains("mining.set_difficulty") || line.contains("mining.notify"), "{line}");
    }
    wire.request(2, "mining.authorize", json!(["nobody", "x"]));
    let refused = wire.reply();
    assert_eq!(wire.code(&refused), 24);
    allowed(&wire);
    wire.request(2, "mining.authorize", json!([address(Chain::Regtest, 14), "x"]));
    wire.reply();
    allowed(&wire);
    assert_eq!(wire.next_job().previous.to_string(), hash);
}

#[test]
fn c14_c15_the_order_of_what_follows_authorize() {
    let pool = still();
    for rolls in [false, true] {
        let mut wire = Wire::open(pool.port());
        if rolls {
            wire.ask(0, "mining.configure", json!([[ROLLING], {"version-rolling.mask": "00ffe000"}]));
        }
        wire.subscribe();
        wire.request(2, "mining.authorize", json!([miner(14), "x"]));
        assert_eq!(wire.line(), r#"{"id":2,"result":true,"error":null}"#);
        if rolls {
            assert_eq!(
                wire.line(),
                r#"{"id":null,"method":"mining.set_version_mask","params":["00ffe000"]}"#
            );
        }
        assert_eq!(wire.message()["method"], "mining.set_difficulty");
        let notify = wire.message();
        assert_eq!((&notify["method"], &notify["params"][8]), (&json!("mining.notify"), &json!(true)));
        // Once: not again with the next job, nor for a second worker.
        wire.ask(3, "mining.suggest_difficulty", json!([0.0001]));
        wire.next_job();
        wire.ask(4, "mining.authorize", json!([miner(15), "x"]));
        wire.nothing_else();
        assert!(!wire.told.iter().any(|method| method == "mining.set_version_mask"));
    }
}

#[test]
fn c16_authorize_before_subscribe_and_subscribe_twice() {
    let pool = still();
    let user = miner(16);
    let mut wire = Wire::open(pool.port());
    wire.request(2, "mining.authorize", json!([user, "x"]));
    wire.request(1, "mining.subscribe", json!(["early"]));
    let (mut authorized, mut subscribed) = (Value::Null, Value::Null);
    for _ in 0..2 {
        let reply = wire.reply();
        if reply["id"] == 1 { subscribed = reply } else { authorized = reply }
    }
    assert_eq!(authorized["result"], json!(true), "{authorized}");
    wire.subscribed(&subscribed);
    let job = wire.next_job();
    let share = job.share(1);
    assert_eq!(wire.submit(&user, &share), 0);
    // A second time nothing changes, and nothing else comes of it.
    let again = wire.ask(1, "mining.subscribe", json!(["early"]));
    assert_eq!(again["result"], subscribed["result"]);
    assert_eq!(wire.submit(&user, &share), 22, "the job stands");
}

#[test]
fn c17_every_shape_of_subscribe() {
    let pool = still();
    let lost = "00".repeat(16);
    for params in [
        json!([]),
        json!(["cgminer/4.11.1"]),
        json!(["cgminer/4.11.1", null]),
        json!(["cgminer/4.11.1", lost]),
        json!(["bmminer/2.0.0", lost, "pool.example", 3333]),
        json!(["bmminer/2.0.0", null, "pool.example", "3333"]),
        json!([null]),
        json!([null, null]),
        json!(["", ""]),
        json!(["a", "not a session", null, null, 1, 2, 3, 4]),
        json!(["x".repeat(3000)]),
        Value::Null,
    ] {
        let mut wire = Wire::open(pool.port());
        wire.subscribe_with(params.clone());
        assert_eq!((wire.extranonce1.len(), wire.session.len()), (4, 32), "{params}");
        assert_ne!(wire.session, lost);
    }
    let mut wire = Wire::open(pool.port());
    wire.say(r#"{"id":1,"method":"mining.subscribe"}"#);
    let reply = wire.message();
    wire.subscribed(&reply);
}

#[test]
fn c17_what_a_miner_calls_itself_is_cut_and_cleaned() {
    let pool = still();
    let address = address(Chain::Signet, 117);
    let mut wire = Wire::open(pool.port());
    let agent = format!("<b>miner</b>\u{1b}[31m\r\n\0\u{85}{}", "é".repeat(500));
    wire.subscribe_with(json!([agent]));
    wire.authorize(&format!("{address}.rig"), "x");
    let shown = wait_for("the agent to be shown", PATIENCE, || {
        let workers = pool.try_api(&format!("/api/v1/miners/{address}/workers")).ok()?;
        workers["workers"][0]["agent"].as_str().map(str::to_owned)
    });
    assert!(shown.starts_with("<b>miner</b>[31mé") && shown.chars().count() == 128, "{shown:?}");
    assert!(!shown.contains(char::is_control), "{shown:?}");
}

#[test]
fn c18_c19_the_reply_to_subscribe_to_the_letter() {
    let pool = still();
    let mut wire = Wire::open(pool.port());
    wire.request(1, "mining.subscribe", json!(["cgminer/4.11.1"]));
    let line = wire.line();
    let reply: Value = serde_json::from_str(&line).unwrap();
    wire.subscribed(&reply);
    let (session, extranonce1) = (wire.session.clone(), wire.extranonce1.to_lower_hex_string());
    assert_eq!(
        line,
        format!(
            r#"{{"id":1,"result":[[["mining.set_difficulty","{session}"],["mining.notify","{session}"]],"{extranonce1}",8],"error":null}}"#
        )
    );
    assert_eq!((session.len(), wire.extranonce1.len()), (32, 4), "128 bits, and 4 of 12 bytes");
    // With both extranonces the input script keeps to what consensus allows.
    wire.authorize(&miner(18), "x");
    let script = wire.job().coinbase(&[0xff; 8]).input[0].script_sig.clone();
    assert!((2..=100).contains(&script.len()), "{}", script.len());
    assert!(script.as_bytes().ends_with(&[&wire.extranonce1[..], &[0xff; 8]].concat()));
    // Two miners never search the same space.
    let mut other = Wire::open(pool.port());
    other.subscribe();
    assert_ne!(other.extranonce1, wire.extranonce1);
}

#[test]
fn c20_a_session_is_resumed_by_who_left_it() {
    let pool = still();
    let user = miner(20);
    let mut wire = Wire::start(pool.port(), &user, "d=0.00001");
    let (job, session, extranonce1) = (wire.job(), wire.session.clone(), wire.extranonce1.clone());
    let (credited, late) = (job.share(1), job.share(2));
    assert_eq!(wire.submit(&user, &credited), 0);
    // Not while it is connected.
    let mut thief = Wire::open(pool.port());
    thief.subscribe_with(json!(["thief", session]));
    assert!(thief.extranonce1 != extranonce1 && thief.session != session);
    drop(wire);
    let mut back = wait_for("the session to be free", PATIENCE, || {
        let mut wire = Wire::open(pool.port());
        wire.subscribe_with(json!(["cgminer/4.11.1", session]));
        (wire.extranonce1 == extranonce1).then_some(wire)
    });
    assert_eq!(back.session, session);
    // With its difficulty, its jobs, and what it was credited.
    back.authorize(&user, "x");
    assert_eq!(back.difficulty.as_deref(), Some("0.00001"));
    assert_eq!(back.submit(&user, &late), 0);
    assert_eq!(back.submit(&user, &credited), 22);
    assert_ne!(back.job().id, job.id);
}
