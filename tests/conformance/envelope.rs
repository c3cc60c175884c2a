//! C-06 to C-11: ids, replies, notifications.

use serde_json::{Value, json};

use super::miner;
use crate::support::{shared::still, wire::Wire};

#[test]
fn c06_an_id_is_echoed_as_it_is_spelled() {
    let pool = still();
    let mut wire = Wire::open(pool.port());
    let longest = format!("\"{}\"", "x".repeat(62));
    let ids = [
        "1",
        "0",
        "-7",
        "1.50",
        "1e3",
        "12345678901234567890123",
        "null",
        "true",
        "\"\"",
        "\"abc\"",
        r#""\u00e9 é \" \\""#,
        &longest,
    ];
    for id in ids {
        wire.say(format!(r#"{{"id":{id},"method":"mining.ping","params":[]}}"#));
        assert_eq!(wire.line(), format!(r#"{{"id":{id},"result":"pong","error":null}}"#));
    }
    // Beyond 64 bytes there is an answer, but no echo.
    wire.say(format!(r#"{{"id":"{}","method":"mining.ping","params":[]}}"#, "x".repeat(63)));
    let reply = wire.message();
    assert!(reply["id"].is_null() && reply["error"][0] == 20, "{reply}");
}

#[test]
fn c07_replies_come_in_the_order_of_the_requests_though_all_ids_are_4() {
    let pool = still();
    let user = miner(7);
    let mut wire = Wire::start(pool.port(), &user, "x");
    let job = wire.job();
    let (one, two) = (job.share(1), job.share(2));
    let mut nowhere = job.share(3);
    nowhere.job = "0".into();
    let submit =
        |params: Value| format!("{}\n", json!({"id": 4, "method": "mining.submit", "params": params}));
    let ping = "{\"id\":4,\"method\":\"mining.ping\",\"params\":[]}\n".to_owned();
    let all = [&one, &two, &one, &nowhere].map(|share| submit(share.params(&user))).concat();
    wire.send(all + &ping + &submit(job.share(5).params(&user)));
    let replies: Vec<String> = (0..6).map(|_| wire.reply().to_string()).collect();
    for (reply, expect) in replies.iter().zip(["true", "true", "22", "21", "pong", "true"]) {
        assert!(reply.contains(expect) && reply.contains("\"id\":4"), "{expect}: {replies:#?}");
    }
}

/// Each method, with what is good and what is bad to say.
fn requests(user: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("mining.configure", json!([["version-rolling"], {}])),
        ("mining.configure", json!([[], {}])),
        ("mining.configure", json!([])),
        ("mining.subscribe", json!(["a"])),
        ("mining.subscribe", Value::Null),
        ("mining.authorize", json!(["nobody"])),
        ("mining.authorize", json!([])),
        ("mining.authorize", json!([1, 2])),
        ("mining.authorize", json!([user, "x"])),
        ("mining.authorize", json!([user, "x"])),
        ("mining.suggest_difficulty", json!([1e-10])),
        ("mining.suggest_difficulty", json!([])),
        ("mining.suggest_target", json!(["f".repeat(64)])),
        ("mining.extranonce.subscribe", json!([])),
        ("mining.ping", json!([])),
        ("mining.submit", json!([])),
        ("mining.submit", json!([user, "0", "00", "00", "00"])),
        ("mining.submit", json!({"a": 1})),
        ("mining.get_transactions", json!([])),
        ("mining.teapot", json!("short and stout")),
        ("", json!([])),
    ]
}

#[test]
fn c08_c11_every_request_is_answered_with_all_three_keys() {
    let pool = still();
    let mut wire = Wire::open(pool.port());
    for (number, (method, params)) in requests(&miner(8)).into_iter().enumerate() {
        wire.request(number, method, params.clone());
        let line = wire.reply_line();
        let reply: Value = serde_json::from_str(&line).unwrap();
        let keys: Vec<&String> = reply.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["error", "id", "result"], "{method} {params}: {line}");
        assert_eq!(reply["id"], json!(number), "{line}");
        if reply["result"].is_null() {
            let error = reply["error"].as_array().unwrap_or_else(|| panic!("{method} {params}: {line}"));
            assert!(error.len() == 3 && error[1].is_string() && error[2].is_null(), "{line}");
            assert!(error[0].as_u64().is_some_and(|code| (20..=25).contains(&code)), "{line}");
        } else {
            // Some clients take `[]` and `""` for a failure too.
            assert!(line.ends_with(",\"error\":null}"), "{method} {params}: {line}");
        }
    }
}

#[test]
fn c09_what_a_share_is_answered_to_the_letter() {
    let pool = still();
    let user = miner(9);
    let mut wire = Wire::start(pool.port(), &user, "d=0.00001");
    let job = wire.job();
    let good = job.share(1);
    let bad = job.find(1, |hash| !crate::support::wire::is_share(hash, job.difficulty));
    let mut nowhere = good.clone();
    nowhere.job = "0".into();
    let stranger = miner(10);
    for (who, share, expect) in [
        (&user, &good, r#"{"id":9,"result":true,"error":null}"#),
        (&user, &good, r#"{"id":9,"result":null,"error":[22,"Duplicate share",null]}"#),
        (&user, &bad, r#"{"id":9,"result":null,"error":[23,"Low difficulty share",null]}"#),
        (&user, &nowhere, r#"{"id":9,"result":null,"error":[21,"Job not found",null]}"#),
        (&stranger, &job.share(2), r#"{"id":9,"result":null,"error":[24,"Unauthorized worker",null]}"#),
    ] {
        wire.request(9, "mining.submit", share.params(who));
        assert_eq!(wire.reply_line(), expect);
    }
    let mut wire = Wire::open(pool.port());
    wire.request(9, "mining.submit", good.params(&user));
    assert_eq!(wire.line(), r#"{"id":9,"result":null,"error":[25,"Not subscribed",null]}"#);
}

#[test]
fn c10_notifications_have_a_null_id_and_an_array_of_params() {
    let pool = still();
    let mut wire = Wire::open(pool.port());
    wire.ask(0, "mining.configure", json!([["version-rolling"], {"version-rolling.mask": "ffffffff"}]));
    wire.subscribe();
    wire.request(2, "mining.authorize", json!([miner(10), "x"]));
    assert_eq!(wire.reply()["result"], json!(true));
    for method in ["mining.set_version_mask", "mining.set_difficulty", "mining.notify"] {
        let message = wire.message();
        assert_eq!(message["method"], method);
        assert_eq!(message.get("id"), Some(&Value::Null), "{message}");
        assert!(message["params"].is_array(), "{message}");
        assert_eq!(message.as_object().unwrap().len(), 3, "{message}");
    }
}

#[test]
fn c11_without_an_id_nothing_is_answered_and_replies_of_miners_are_passed_over() {
    let pool = still();
    let mut wire = Wire::open(pool.port());
    for (method, params) in requests(&miner(11)) {
        wire.say(json!({"method": method, "params": params}));
    }
    for reply in [
        json!({"id": 1, "result": "cgminer/4.11.1", "error": null}),
        json!({"id": 2, "result": null, "error": [20, "no", null]}),
        json!({"id": null, "result": "pong", "error": null}),
        json!({"id": 3, "method": null, "result": true, "error": null}),
        json!({"id": 4, "result": true}),
    ] {
        wire.say(reply);
    }
    // The next reply of all is to this.
    wire.nothing_else();
    wire.request(7, "mining.teapot", json!([]));
    assert_eq!(wire.reply_line(), r#"{"id":7,"result":null,"error":[20,"Unsupported method",null]}"#);
}
