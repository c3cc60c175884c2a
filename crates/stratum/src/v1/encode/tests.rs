use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::v1::VersionRolling;

const ID: Id<'_> = Id(Some(Cow::Borrowed("7")));

/// The line that `encode` appends behind what is in the buffer already.
fn line(encode: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"before\n".to_vec();
    encode(&mut out);
    let text = String::from_utf8(out).unwrap();
    let line = text.strip_prefix("before\n").unwrap();
    assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
    line.trim_end().to_owned()
}

fn configured_as(wanted: Configure<'_>, version_mask: u32) -> String {
    line(|out| configured(out, &ID, &Configured { wanted: &wanted, version_mask }))
}

#[test]
fn c08_success_says_that_there_is_no_error() {
    assert_eq!(line(|out| accepted(out, &ID)), r#"{"id":7,"result":true,"error":null}"#);
    assert_eq!(line(|out| pong(out, &ID)), r#"{"id":7,"result":"pong","error":null}"#);
}

#[test]
fn c09_refusals() {
    let check = |reason, expect: &str| {
        let expect = format!(r#"{{"id":7,"result":null,"error":[{expect},null]}}"#);
        assert_eq!(line(|out| refused(out, &ID, reason)), expect);
    };
    check(Reason::LowDifficulty, r#"23,"Low difficulty share""#);
    check(Reason::Stale, r#"21,"Job not found""#);
    check(Reason::UnknownMethod, r#"20,"Unsupported method""#);
    let detail = line(|out| refused_with(out, &ID, Reason::Unauthorized, "\"no\" \\ such\nworker"));
    assert_eq!(detail, r#"{"id":7,"result":null,"error":[24,"\"no\" \\ such\nworker",null]}"#);
}

#[test]
fn c11_nothing_is_written_where_no_reply_is_due() {
    let (id, wanted, mut out) = (Id(None), Configure::default(), Vec::new());
    accepted(&mut out, &id);
    refused(&mut out, &id, Reason::Stale);
    refused_with(&mut out, &id, Reason::Stale, "detail");
    subscribed(&mut out, &id, "", &[], 8);
    configured(&mut out, &id, &Configured { wanted: &wanted, version_mask: 0 });
    pong(&mut out, &id);
    assert_eq!(out, b"");
}

#[test]
fn c18_reply_to_subscribe() {
    assert_eq!(
        line(|out| subscribed(out, &ID, "f00d", &[0x57, 0xa6, 0xf0, 0x98], 8)),
        r#"{"id":7,"result":[[["mining.set_difficulty","f00d"],["mining.notify","f00d"]],"57a6f098",8],"error":null}"#
    );
}

#[test]
fn c25_only_what_was_asked_for_is_answered() {
    let check = |wanted: Configure<'_>, mask, expect: &str| {
        let expect = format!(r#"{{"id":7,"result":{expect},"error":null}}"#);
        assert_eq!(configured_as(wanted, mask), expect);
    };
    let rolling = Some(VersionRolling { mask: u32::MAX, min_bits: 2 });
    check(Configure::default(), 0x1fff_e000, "{}");
    check(
        Configure { version_rolling: rolling, ..Configure::default() },
        0x1fff_e000,
        r#"{"version-rolling":true,"version-rolling.mask":"1fffe000"}"#,
    );
    check(
        Configure { version_rolling: rolling, ..Configure::default() },
        0x2000,
        r#"{"version-rolling":true,"version-rolling.mask":"00002000"}"#, // eight digits (C-26)
    );
    check(Configure { version_rolling: rolling, ..Configure::default() }, 0, r#"{"version-rolling":false}"#);
    check(
        Configure {
            version_rolling: rolling,
            minimum_difficulty: Some(Difficulty::new(64.0)),
            subscribe_extranonce: true,
            info: true,
            unknown: vec!["a\"b".into(), "c".into()],
        },
        0x1fff_e000,
        r#"{"version-rolling":true,"version-rolling.mask":"1fffe000","minimum-difficulty":true,"subscribe-extranonce":true,"info":true,"a\"b":false,"c":false}"#,
    );
    check(
        Configure { minimum_difficulty: Some(None), ..Configure::default() },
        0,
        r#"{"minimum-difficulty":false}"#,
    );
}

#[test]
fn c36_difficulty_is_a_plain_number() {
    let check = |value: f64, expect: &str| {
        let line = line(|out| set_difficulty(out, Difficulty::new(value).unwrap()));
        assert_eq!(line, format!(r#"{{"id":null,"method":"mining.set_difficulty","params":[{expect}]}}"#));
    };
    check(512.0, "512");
    check(0.001, "0.001");
    check(1e-7, "0.0000001");
    check(1e12, "1000000000000");
    check(1e22, "10000000000000000000000");
    check(1.5, "1.5");
}

#[test]
fn c10_notifications_have_the_id_null() {
    assert_eq!(
        line(|out| set_version_mask(out, 0x1fff_e000)),
        r#"{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}"#
    );
    assert_eq!(
        line(|out| set_extranonce(out, &[0, 0xAB], 6)),
        r#"{"id":null,"method":"mining.set_extranonce","params":["00ab",6]}"#
    );
}

proptest! {
    #[test]
    fn c08_replies_are_json_whatever_is_in_them(
        session in any::<String>(), text in any::<String>(), names in prop::collection::vec(any::<String>(), 0..4),
        extranonce1 in prop::collection::vec(any::<u8>(), 0..16), size in 0usize..33,
    ) {
        let parse = |line: String| serde_json::from_str::<Value>(&line).unwrap();
        let reply = parse(line(|out| subscribed(out, &ID, &session, &extranonce1, size)));
        let subscriptions = json!([["mining.set_difficulty", session], ["mining.notify", session]]);
        let result = json!([subscriptions, hex::encode(&extranonce1), size]);
        prop_assert_eq!(reply, json!({"id": 7, "result": result, "error": null}));

        let reply = parse(line(|out| refused_with(out, &ID, Reason::Duplicate, &text)));
        prop_assert_eq!(reply, json!({"id": 7, "result": null, "error": [22, text, null]}));

        let unknown = names.iter().map(Cow::from).collect();
        let reply = parse(configured_as(Configure { unknown, ..Configure::default() }, 0));
        let result: Value = names.iter().map(|name| (name.clone(), false)).collect();
        prop_assert_eq!(reply, json!({"id": 7, "result": result, "error": null}));
    }

    #[test]
    fn c36_difficulty_reads_back_as_the_same_float(bits: u64) {
        let Some(difficulty) = Difficulty::new(f64::from_bits(bits)) else { return Ok(()) };
        let line = line(|out| set_difficulty(out, difficulty));
        let number = line.split(['[', ']']).nth(1).unwrap();
        prop_assert!(!number.contains(['e', 'E']));
        prop_assert_eq!(number.parse::<f64>().unwrap().to_bits(), bits);
    }
}
