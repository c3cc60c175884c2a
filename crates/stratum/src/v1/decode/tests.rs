use proptest::prelude::*;
use serde_json::{Value, json};
use share::{Difficulty, Extranonce};

use super::*;
use crate::v1::encode;

/// The request in `line`, free of it.
fn read(line: &str) -> Request<'static> {
    decode(line.as_bytes()).unwrap_or_else(|e| panic!("{line}: {e}")).expect(line).into_owned()
}

/// What a method with these parameters, as JSON text, is understood as.
fn call_of(method: &str, params: &str) -> Call<'static> {
    read(&format!(r#"{{"id":1,"method":"{method}","params":{params}}}"#)).call
}

/// What is wrong with a method with these parameters; it is answered all the same.
fn fault_of(method: &str, params: &str) -> (Reason, &'static str) {
    let line = format!(r#"{{"id":7,"method":"{method}","params":{params}}}"#);
    let malformed = decode(line.as_bytes()).expect_err(&line);
    assert_eq!(malformed.id, Id(Some("7".into())), "{line}");
    match malformed.fault {
        Fault::BadParams { reason, text } => (reason, text),
        Fault::NotJson => panic!("{line}"),
    }
}

fn some(text: &str) -> Option<Cow<'static, str>> {
    Some(Cow::Owned(text.to_owned()))
}

const SUBMIT: &str = r#"{"id":4,"method":"mining.submit","params":["bc1q.rig","0000002a","c7080000","64b3f3ec","ed460d91","00002000"]}"#;

#[test]
fn c42_the_share_of_the_vector() {
    let expect = Submit {
        worker: "bc1q.rig".into(),
        job: Some(42),
        extranonce2: Extranonce::new(&[&[0xc7, 8, 0, 0]]),
        time: 0x64b3_f3ec,
        nonce: 0xed46_0d91,
        version_bits: Some(0x2000),
    };
    assert_eq!(read(SUBMIT), Request { id: Id(Some("4".into())), call: Call::Submit(expect) });
}

#[test]
fn an_ordinary_submit_borrows_everything() {
    let request = decode(SUBMIT.as_bytes()).unwrap().unwrap();
    assert!(matches!(request.id, Id(Some(Cow::Borrowed("4")))));
    let Call::Submit(submit) = request.call else { panic!("not a submit") };
    assert!(matches!(submit.worker, Cow::Borrowed("bc1q.rig")));
}

#[test]
fn c01_any_order_of_keys_and_any_blanks() {
    let check = |line: &str| assert_eq!(read(line).call, Call::Ping, "{line:?}");
    check(r#"{"id":1,"method":"mining.ping","params":[]}"#);
    check(r#"{"params":[],"method":"mining.ping","id":1}"#);
    check(r#"{"params": [], "id": 1, "method": "mining.ping"}"#);
    check(" \t{ \"method\" :\t\"mining.ping\" , \"params\":[ ] } \r");
    check(r#"{"method":"mining.ping"}"#);
    check(r#"{"method":"mining.ping","params":null}"#);
    check(r#"{"jsonrpc":"2.0","worker":{"a":[{}]},"method":"mining.ping","extra":null}"#);
    check(r#"{"m\u0065thod":"mining\u002eping"}"#);
    check(r#"{"method":"no","method":"mining.ping","params":1,"params":[]}"#);
    for blank in ["", " ", "\r", "\t \r"] {
        assert_eq!(decode(blank.as_bytes()), Ok(None), "{blank:?}");
    }
}

#[test]
fn c04_what_is_not_json_has_no_answer() {
    let check = |line: &[u8]| {
        assert_eq!(decode(line), Err(Malformed { id: Id(None), fault: Fault::NotJson }), "{line:?}");
    };
    check(b"GET / HTTP/1.1");
    check(b"Cookie: mstshash=hello");
    check(b"PROXY TCP4 192.0.2.1 192.0.2.2 5 3333");
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    check(b"\x7f\x01\x00\x00");
    check(b"[]");
    check(b"[1,\"mining.ping\"]");
    check(b"1");
    check(b"null");
    check(b"{");
    check(b"{\"id\":1,}");
    check(b"{\"id\":1}{\"id\":2}");
    check(b"{\"id\":01,\"method\":\"mining.ping\"}");
    check(b"{\"id\":nan,\"method\":\"mining.ping\"}");
    check(b"{\"id\":1,\"method\":\"mining.ping\"}\0");
    check(b"{\"id\":1,\"method\":\"mining\0ping\"}");
    check(b"{\"\xff");
}

#[test]
fn c06_any_id_is_echoed() {
    let check = |token: &str| {
        let line = format!(r#"{{"method":"mining.ping", "id": {token} }}"#);
        let mut out = Vec::new();
        encode::accepted(&mut out, &read(&line).id);
        let expect = format!("{{\"id\":{token},\"result\":true,\"error\":null}}\n");
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    };
    for token in ["0", "4", "-1", "1.50", "1E+2", "18446744073709551616", "null", "true", "[]", "{\"a\":1}"] {
        check(token);
    }
    check(r#""a""#);
    check(r#""""#);
    check(r#""\u00e9\"\ud800""#);
    check(&"1".repeat(64));
    check(&format!("\"{}\"", "x".repeat(62)));
}

#[test]
fn c06_an_id_that_cannot_be_echoed_is_answered_as_null() {
    let check = |token: &str| {
        let line = format!(r#"{{"id":{token},"method":"mining.ping"}}"#);
        let malformed = decode(line.as_bytes()).unwrap_err();
        assert_eq!(malformed.id, Id::NULL);
        assert!(matches!(malformed.fault, Fault::BadParams { reason: Reason::Malformed, .. }));
    };
    check(&"1".repeat(65));
    check(&format!("\"{}\"", "x".repeat(63)));
    check("[1,\n2]"); // would break the reply in two lines
}

#[test]
fn c11_no_id_no_reply() {
    let request = read(r#"{"method":"mining.ping","params":[]}"#);
    assert!(request.id.is_absent());
    assert!(!read(r#"{"id":null,"method":"mining.ping"}"#).id.is_absent());
    let malformed = decode(br#"{"method":"mining.submit","params":[]}"#).unwrap_err();
    assert!(malformed.id.is_absent());
}

#[test]
fn c11_responses_of_miners_are_ignored() {
    let check = |line: &str| assert_eq!(decode(line.as_bytes()), Ok(None), "{line}");
    check(r#"{"id":1,"result":"cgminer/4.11.1","error":null}"#);
    check(r#"{"id":null,"result":true}"#);
    check(r#"{"id":1,"error":[20,"unknown",null]}"#);
    check(r#"{"id":1,"method":null,"result":"pong","error":null}"#);
    // A request is a request, whatever else it carries.
    assert_eq!(read(r#"{"id":1,"method":"mining.ping","result":null}"#).call, Call::Ping);
}

#[test]
fn c11_every_method_is_answered() {
    for method in ["mining.get_transactions", "client.get_version", "", "mining.Submit", "é"] {
        assert_eq!(call_of(method, "[]"), Call::Unknown(Cow::Borrowed(method)));
    }
    for line in [
        r#"{"id":7}"#,
        r#"{"id":7,"method":null}"#,
        r#"{"id":7,"method":5}"#,
        r#"{"id":7,"method":"\ud800"}"#,
    ] {
        let malformed = decode(line.as_bytes()).unwrap_err();
        assert_eq!(malformed.id, Id(Some("7".into())), "{line}");
        assert_eq!(malformed.to_string(), "method is missing or not a string");
        assert!(matches!(malformed.fault, Fault::BadParams { reason: Reason::UnknownMethod, .. }));
    }
}

#[test]
fn c17_shapes_of_subscribe() {
    let check = |params: &str, agent: Option<&str>, session: Option<&str>| {
        let expect = Call::Subscribe { agent: agent.and_then(some), session: session.and_then(some) };
        assert_eq!(call_of("mining.subscribe", params), expect, "{params}");
    };
    check("[]", None, None);
    check("null", None, None);
    check("{}", None, None);
    check(r#"["cgminer/4.11.1"]"#, Some("cgminer/4.11.1"), None);
    check(r#"["ua",null]"#, Some("ua"), None);
    check(r#"["ua","f00d"]"#, Some("ua"), Some("f00d"));
    check(r#"["ua",null,"pool.example",3333]"#, Some("ua"), None);
    check(r#"[null,"f00d",null,null]"#, None, Some("f00d"));
    check(r#"["",""]"#, None, None);
    check(r#"[1,{"a":2}]"#, None, None);
    check(r#"["b\u0007os\nminer\u009b",1,2,3,4,5,6,7,8]"#, Some("bosminer"), None);
    check(&format!(r#"["{}"]"#, "x".repeat(3000)), Some(&"x".repeat(128)), None);
    check(&format!(r#"["{}"]"#, "é".repeat(128)), Some(&"é".repeat(128)), None);
}

#[test]
fn c21_shapes_of_authorize() {
    let check = |params: &str, user: &'static str, password: Option<&str>| {
        let expect = Call::Authorize { user: user.into(), password: password.and_then(some) };
        assert_eq!(call_of("mining.authorize", params), expect, "{params}");
    };
    check(r#"["bc1q.rig"]"#, "bc1q.rig", None);
    check(r#"["bc1q.rig","x"]"#, "bc1q.rig", Some("x"));
    check(r#"["bc1q.rig",null]"#, "bc1q.rig", None);
    check(r#"["bc1q.rig","d=512",1,null,"more","and","more"]"#, "bc1q.rig", Some("d=512"));
    check(r#"["bc1q%2Erig",""]"#, "bc1q%2Erig", Some("")); // an alias, but not for us to say
    check(r#"["r\u00eag\ttab"]"#, "rêg\ttab", None);
    check(r#"["bc1q",123]"#, "bc1q", None);
    for params in ["[]", "null", "{}", "[null]", "[1]", "[[\"a\"]]", "\"bc1q\"", r#"["\udc00"]"#] {
        assert_eq!(
            fault_of("mining.authorize", params),
            (Reason::Malformed, "user name is missing or not a string")
        );
    }
}

#[test]
fn c21_names_that_are_not_utf8() {
    let line = b"{\"id\":\"\xe9\",\"method\":\"mining.authorize\",\"params\":[\"bc1q.r\xeag\",\"x\"]}";
    let request = decode(line).unwrap().unwrap();
    assert_eq!(request.id, Id(some("\"\u{fffd}\"")));
    assert_eq!(request.call, Call::Authorize { user: "bc1q.r\u{fffd}g".into(), password: some("x") });
    // The name must come out the same in each message.
    let line =
        b"{\"params\":[\"bc1q.r\xeag\",\"1\",\"00\",\"0\",\"0\"],\"id\":1,\"method\":\"mining.submit\"}";
    let Call::Submit(submit) = decode(line).unwrap().unwrap().call else { panic!("not a submit") };
    assert_eq!(submit.worker, "bc1q.r\u{fffd}g");
    let malformed = decode(b"{\"id\":7,\"method\":\"mining.submit\",\"params\":[\"\xff\"]}").unwrap_err();
    assert_eq!(malformed.id, Id(some("7")));
}

#[test]
fn c25_shapes_of_configure() {
    let check = |params: &str, mask: u32, min_bits: u32| {
        let version_rolling = Some(VersionRolling { mask, min_bits });
        let expect = Call::Configure(Configure { version_rolling, ..Configure::default() });
        assert_eq!(call_of("mining.configure", params), expect, "{params}");
    };
    let with = |options: &str| format!(r#"[["version-rolling"],{options}]"#);
    check(r#"[["version-rolling"]]"#, u32::MAX, 0);
    check(&with("null"), u32::MAX, 0);
    check(&with("[]"), u32::MAX, 0);
    check(&with(r#"{"version-rolling.mask":"ffffffff","version-rolling.min-bit-count":2}"#), u32::MAX, 2);
    check(
        &with(r#"{"version-rolling.mask":"1FFFE000","version-rolling.min-bit-count":"10"}"#),
        0x1fff_e000,
        16,
    );
    check(&with(r#"{"version-rolling.mask":"2000","version-rolling.min-bit-count":-1}"#), 0x2000, 0);
    check(&with(r#"{"version-rolling.mask":null,"version-rolling.min-bit-count":2.5}"#), u32::MAX, 0);
    check(&with(r#"{"version-rolling.mask":"1ffffffff"}"#), 0, 0);
    check(&with(r#"{"version-rolling.mask":"zz"}"#), 0, 0);
    check(&with(r#"{"version-rolling.mask":536862720}"#), 0, 0);
    check(&with(r#"{"version-rolling.mask":"0","version-rolling.mask":"1"}"#), 1, 0);
    check(r#"[["version-rolling","version-rolling",null,1,["x"]],{}]"#, u32::MAX, 0);
    for params in ["[]", "null", "{}", "[null,{}]", r#"["version-rolling"]"#, "[{}]"] {
        let text = "list of extensions is missing or not an array";
        assert_eq!(fault_of("mining.configure", params), (Reason::Malformed, text), "{params}");
    }
}

#[test]
fn c25_other_extensions() {
    let check = |params: &str, expect: Configure<'static>| {
        assert_eq!(call_of("mining.configure", params), Call::Configure(expect), "{params}");
    };
    let minimum =
        |value: f64| Configure { minimum_difficulty: Some(Difficulty::new(value)), ..Configure::default() };
    check("[[]]", Configure::default());
    check(r#"[["minimum-difficulty"],{"minimum-difficulty.value":2048}]"#, minimum(2048.0));
    check(r#"[["minimum-difficulty"],{"minimum-difficulty.value":0.5}]"#, minimum(0.5));
    check(r#"[["minimum-difficulty"],{"minimum-difficulty.value":"64"}]"#, minimum(64.0));
    check(r#"[["minimum-difficulty"],{"minimum-difficulty.value":-1}]"#, minimum(-1.0));
    check(r#"[["minimum-difficulty"]]"#, minimum(-1.0));
    check(
        r#"[["subscribe-extranonce","info","sn\u00e9w","b","b"],{"info.hw-id":"x"}]"#,
        Configure {
            subscribe_extranonce: true,
            info: true,
            unknown: vec!["snéw".into(), "b".into()],
            ..Configure::default()
        },
    );
}

#[test]
fn c25_names_of_extensions_are_bounded() {
    let mut names: Vec<String> = (0..100).map(|i| format!("x{i}")).collect();
    names.insert(0, "y".repeat(65));
    names.insert(1, "y".repeat(64));
    let Call::Configure(configure) = call_of("mining.configure", &json!([names]).to_string()) else {
        panic!("not a configure")
    };
    assert_eq!(configure.unknown.len(), 16);
    assert_eq!(configure.unknown[0], "y".repeat(64));
}

#[test]
fn c29_c44_shapes_of_submit() {
    let check = |params: &str, expect: (u32, u32, Option<u32>)| {
        let Call::Submit(submit) = call_of("mining.submit", params) else { panic!("{params}") };
        assert_eq!((submit.time, submit.nonce, submit.version_bits), expect, "{params}");
    };
    check(r#"["w","1","00","64b3f3ec","ed460d91"]"#, (0x64b3_f3ec, 0xed46_0d91, None));
    check(r#"["w","1","00","64B3F3EC","ED460D91",null]"#, (0x64b3_f3ec, 0xed46_0d91, None));
    check(r#"["w","1","00","64b3f3ec","1","0"]"#, (0x64b3_f3ec, 1, Some(0)));
    check(r#"["w","1","00","0","00000001","2000"]"#, (0, 1, Some(0x2000)));
    check(r#"["w","1","00","0","1","1FFFe000","extra",7,null,{"more":[]}]"#, (0, 1, Some(0x1fff_e000)));
    let check = |params: &str, text: &str| {
        assert_eq!(fault_of("mining.submit", params), (Reason::Malformed, text), "{params}");
    };
    check("[]", "worker name is missing or not a string");
    check("null", "worker name is missing or not a string");
    check(r#"{"worker":"w"}"#, "worker name is missing or not a string");
    check(r#"[null,"1","00","0","0"]"#, "worker name is missing or not a string");
    check(r#"["w",1,"00","0","0"]"#, "job id is missing or not a string");
    check(r#"["w","1",0,"0","0"]"#, "extranonce2 is missing or not a string");
    check(r#"["w","1","00"]"#, "ntime is not a string of 1 to 8 hex digits");
    check(r#"["w","1","00",1689514988,"0"]"#, "ntime is not a string of 1 to 8 hex digits");
    check(r#"["w","1","00","064b3f3ec","0"]"#, "ntime is not a string of 1 to 8 hex digits");
    check(r#"["w","1","00","0"]"#, "nonce is not a string of 1 to 8 hex digits");
    check(r#"["w","1","00","0",""]"#, "nonce is not a string of 1 to 8 hex digits");
    check(r#"["w","1","00","0","0x1"]"#, "nonce is not a string of 1 to 8 hex digits");
    check(r#"["w","1","00","0","0","200000000"]"#, "version bits are not a string of 1 to 8 hex digits");
    check(r#"["w","1","00","0","0",8192]"#, "version bits are not a string of 1 to 8 hex digits");
}

#[test]
fn c43_job_and_extranonce2_that_cannot_be_ours() {
    let check = |job: &str, extranonce2: &str, expect: (Option<u32>, Option<&[u8]>)| {
        let params = json!(["bc1q.rig", job, extranonce2, "0", "0"]).to_string();
        let Call::Submit(submit) = call_of("mining.submit", &params) else { panic!("{params}") };
        assert_eq!(submit.worker, "bc1q.rig");
        assert_eq!((submit.job, submit.extranonce2.as_ref().map(Extranonce::as_bytes)), expect, "{params}");
    };
    check("0000002a", "c7080000", (Some(42), Some(&[0xc7, 8, 0, 0])));
    check("2A", "C7080000", (Some(42), Some(&[0xc7, 8, 0, 0])));
    check("", "", (None, Some(&[])));
    check("00000002a", "c70", (None, None));
    check("job 1", "zz", (None, None));
    check("1", &"00".repeat(33), (Some(1), None));
}

#[test]
fn c54_ways_to_suggest_a_difficulty() {
    let check = |method: &str, params: &str, expect: Option<f64>| {
        let expect = Call::SuggestDifficulty(expect.and_then(Difficulty::new));
        assert_eq!(call_of(method, params), expect, "{method} {params}");
    };
    let name = "mining.suggest_difficulty";
    check(name, "[42]", Some(42.0));
    check(name, "[0.001]", Some(0.001));
    check(name, "[\"1e3\"]", Some(1000.0));
    check(name, "[512,\"more\"]", Some(512.0));
    check("mining.suggest_difficulty(42)", "[]", Some(42.0));
    check("mining.suggest_difficulty(0.5", "[]", Some(0.5));
    for params in [
        "[0]",
        "[-1]",
        "[1e309]",
        "[1e3080]",
        "[\"NaN\"]",
        "[\"inf\"]",
        "[null]",
        "[]",
        "[[42]]",
        "{}",
        "[true]",
    ] {
        check(name, params, None);
    }
    check("mining.suggest_difficulty()", "[42]", None);
    let target = "00000000ffff0000000000000000000000000000000000000000000000000000";
    check("mining.suggest_target", &json!([target]).to_string(), Some(1.0));
    for params in ["[\"00\"]", "[1]", "[]", "[null]"] {
        check("mining.suggest_target", params, None);
    }
}

#[test]
fn c53_calls_without_parameters() {
    assert_eq!(call_of("mining.extranonce.subscribe", "[]"), Call::ExtranonceSubscribe);
    assert_eq!(call_of("mining.ping", "[1,2]"), Call::Ping);
}

#[test]
fn f42_depth_costs_no_stack() {
    let (open, shut) = ("[".repeat(1_000_000), "]".repeat(1_000_000));
    let objects = "{\"a\":".repeat(1_000_000);
    for start in ["", "{\"id\":", "{\"a\":", "{\"params\":"] {
        for deep in [&open, &objects] {
            let line = format!("{start}{deep}");
            assert_eq!(decode(line.as_bytes()), Err(Malformed { id: Id(None), fault: Fault::NotJson }));
        }
    }
    let deep = format!("{open}{shut}");
    let check = |line: String, text: &str| {
        assert_eq!(decode(line.as_bytes()).unwrap_err().to_string(), text);
    };
    check(
        format!(r#"{{"id":{deep},"method":"mining.ping"}}"#),
        "id is not one JSON token of at most 64 bytes",
    );
    check(format!(r#"{{"id":1,"method":{deep}}}"#), "method is missing or not a string");
    check(
        format!(r#"{{"id":1,"method":"mining.submit","params":{deep}}}"#),
        "worker name is missing or not a string",
    );
    let call = call_of("mining.configure", &format!("[[{deep}],{{\"version-rolling.mask\":{deep}}},{deep}]"));
    assert_eq!(call, Call::Configure(Configure::default()));
    assert_eq!(read(&format!(r#"{{"id":1,"method":"mining.ping","a":{deep}}}"#)).call, Call::Ping);
    assert_eq!(decode(format!(r#"{{"id":1,"result":{deep}}}"#).as_bytes()), Ok(None));
}

#[test]
fn f42_a_string_of_ten_megabytes() {
    let long = "x".repeat(10_000_000);
    assert_eq!(call_of(&long, "[]"), Call::Unknown(Cow::Borrowed(&long)));
    let call = call_of("mining.subscribe", &json!([long]).to_string());
    assert_eq!(call, Call::Subscribe { agent: some(&"x".repeat(128)), session: None });
}

/// JSON tokens that are short enough to be ids.
fn id() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn c42_a_submit_comes_out_as_it_went_in(
        id in id(), worker: String, job: u32, extranonce2 in prop::collection::vec(any::<u8>(), 0..=32),
        time: u32, nonce: u32, bits in prop::option::of(any::<u32>()), upper: bool, padded: bool,
    ) {
        let number = |value: u32| match (upper, padded) {
            (false, false) => format!("{value:x}"),
            (false, true) => format!("{value:08x}"),
            (true, false) => format!("{value:X}"),
            (true, true) => format!("{value:08X}"),
        };
        let bytes = if upper { hex::encode_upper(&extranonce2) } else { hex::encode(&extranonce2) };
        let params = json!([worker, number(job), bytes, number(time), number(nonce), bits.map(number)]);
        let line = json!({"id": id, "method": "mining.submit", "params": params}).to_string();
        let expect = Submit {
            worker: worker.into(), job: Some(job), extranonce2: Extranonce::new(&[&extranonce2]), time, nonce,
            version_bits: bits,
        };
        let expect = Request { id: Id(Some(id.to_string().into())), call: Call::Submit(expect) };
        prop_assert_eq!(read(&line), expect);
    }
}
