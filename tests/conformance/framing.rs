//! C-01 to C-05: bytes and lines.

use serde_json::json;

use super::miner;
use crate::support::{
    shared::still,
    wait_for,
    wire::{PATIENCE, Wire},
};

#[test]
fn c01_one_object_a_line_with_any_end_any_blanks_and_any_order_of_keys() {
    let pool = still();
    let mut wire = Wire::open(pool.port());
    let pong = r#"{"id":5,"result":"pong","error":null}"#;
    for line in [
        "{\"id\":5,\"method\":\"mining.ping\",\"params\":[]}\n",
        "{\"id\":5,\"method\":\"mining.ping\",\"params\":[]}\r\n",
        "{\"params\": [], \"id\": 5, \"method\": \"mining.ping\"}\n",
        "{\"method\":\"mining.ping\",\"params\":[],\"id\":5}\n",
        " \t {\"id\" : 5 ,\"method\" :\t\"mining.ping\",\"params\":[ ] } \t \n",
        "\n\r\n  \n\t\r\n{\"id\":5,\"method\":\"mining.ping\",\"params\":[]}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"mining.ping\",\"params\":[],\"more\":{\"a\":[1]}}\n",
    ] {
        wire.send(line);
        assert_eq!(wire.line(), pong, "{line:?}");
    }
    // What the pool sends has no other line break than the one at its end: `line` looks at every one that comes.
    wire.subscribe();
    wire.authorize(&miner(1), "x");
}

#[test]
fn c02_requests_may_share_a_segment_and_come_in_any_order() {
    let pool = still();
    let requests = [
        r#"{"id":1,"method":"mining.subscribe","params":["bitaxe/BM1370/v2.6.0"]}"#,
        r#"{"id":2,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#,
        &format!(r#"{{"id":3,"method":"mining.authorize","params":["{}","x"]}}"#, miner(2)),
        r#"{"id":4,"method":"mining.suggest_difficulty","params":[1000]}"#,
    ];
    for order in orders(requests.len()) {
        let mut wire = Wire::open(pool.port());
        let lines: Vec<String> = order.iter().map(|&at| format!("{}\n", requests[at])).collect();
        wire.send(lines.concat());
        for &at in &order {
            let reply = wire.reply();
            assert_eq!(reply["id"], json!(at + 1), "{order:?}");
            assert!(reply["error"].is_null() && !reply["result"].is_null(), "{order:?}: {reply}");
        }
        while wire.jobs.is_empty() {
            wire.message();
        }
    }
}

/// Every order of `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let insert =
        |order: Vec<usize>| (0..count).map(move |at| [&order[..at], &[count - 1], &order[at..]].concat());
    orders(count - 1).into_iter().flat_map(insert).collect()
}

#[test]
fn c02_a_request_may_come_in_many_segments() {
    let pool = still();
    let mut wire = Wire::open(pool.port());
    for request in [
        "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\r\n".to_owned(),
        format!("{{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"{}\",\"x\"]}}\r\n", miner(2)),
    ] {
        request.bytes().for_each(|byte| wire.send([byte]));
        assert!(wire.reply()["error"].is_null());
    }
}

#[test]
fn c03_lines_are_bounded_more_tightly_before_authorize() {
    let pool = still();
    let before = pool.closed("line_too_long");
    let ping = |length: usize| {
        let ping = r#"{"id":5,"method":"mining.ping","params":[]}"#;
        format!("{ping}{}", " ".repeat(length - ping.len()))
    };
    for (is_authorized, limit) in [(false, 4096), (true, 16 * 1024)] {
        let open = || {
            if is_authorized { Wire::start(pool.port(), &miner(3), "x") } else { Wire::open(pool.port()) }
        };
        let mut wire = open();
        for end in ["\n", "\r\n"] {
            wire.send(format!("{}{end}", ping(limit)));
            assert_eq!(wire.reply()["result"], json!("pong"), "{limit} bytes");
        }
        wire.say(ping(limit + 1));
        assert_eq!(wire.closed(), [""; 0]);
        // Nor does the pool wait for the end of it.
        let mut wire = open();
        wire.send(ping(limit + 2));
        assert_eq!(wire.closed(), [""; 0]);
    }
    pool.wait_closed("line_too_long", before, 4);
}

#[test]
fn c04_other_protocols_are_closed_quietly() {
    let pool = still();
    let (before, log) = (pool.closed("not_stratum"), pool.log().len());
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat();
    let noise: Vec<u8> = (1u8..65).map(|n| n.wrapping_mul(151)).collect();
    let others: [(&str, &[u8]); 9] = [
        ("TLS", &hello),
        ("RDP", b"\x03\0\0\x2f\x2a\xe0\0\0\0\0\0Cookie: mstshash=Administr\r\n\x01\0\x08\0\x03\0\0\0"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n"),
        ("HTTP, its first byte", b"P"),
        ("BTCAgent", b"\x7f\x01\x05\0\0"),
        ("PROXY 1", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"),
        ("PROXY 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"),
        ("Stratum V2", &noise),
        ("JSON, but no object", b"[1,2,3]\n"),
    ];
    for (name, bytes) in others {
        let mut wire = Wire::open(pool.port());
        wire.send(bytes);
        assert_eq!(wire.closed(), [""; 0], "{name} was answered");
    }
    pool.wait_closed("not_stratum", before, others.len() as u64);
    let said = pool.log()[log..].to_owned();
    assert!(!said.contains("mstshash") && !said.contains("not Stratum"), "{said}");
}

#[test]
fn c05_a_miner_that_shuts_its_half_is_gone() {
    let pool = still();
    let before = pool.closed("left");
    let mut wire = Wire::start(pool.port(), &miner(5), "x");
    let path = format!("/api/v1/miners/{}/workers", miner(5).trim_end_matches(".rig"));
    let is_online = || pool.try_api(&path).ok()?["workers"][0]["connected"].as_bool();
    wait_for("the worker to be online", PATIENCE, || is_online().filter(|online| *online));
    wire.shut();
    wire.closed();
    pool.wait_closed("left", before, 1);
    wait_for("the worker to be offline", PATIENCE, || is_online().filter(|online| !online));
}
