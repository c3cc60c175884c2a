//! What a Stratum V1 pool says, read from the miner's side, and what the miner says to it.

use serde_json::{Value, json};
use share::{Difficulty, Target};

use crate::miner::{
    AGENT,
    work::{Extranonce, Root, Work},
};

/// One line of a pool.
#[derive(Debug, PartialEq)]
pub enum Message {
    /// The answer to our request with this id; the error in the pool's words.
    Reply(u64, Result<Value, String>),
    /// `mining.notify`.
    Notify(Notify),
    /// `mining.set_difficulty`.
    Difficulty(Difficulty),
    /// `mining.set_version_mask`.
    VersionMask(u32),
    /// `mining.set_extranonce`.
    Extranonce(Extranonce),
    /// A request that is answered with this line.
    Ask(String),
    /// `client.show_message`.
    Show(String),
    /// `client.reconnect`.
    Reconnect,
    /// Something that means nothing to us.
    Other(String),
}

/// `mining.notify`, in binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// What the pool calls it.
    pub job_id: String,
    /// Internal order.
    pub prev_hash: [u8; 32],
    /// Coinbase before the extranonce.
    pub prefix: Vec<u8>,
    /// Coinbase behind the extranonce.
    pub suffix: Vec<u8>,
    /// Internal order.
    pub branch: Vec<[u8; 32]>,
    /// Header version.
    pub version: u32,
    /// Network target, compact.
    pub bits: u32,
    /// Header time.
    pub time: u32,
    /// Whether earlier jobs are worthless now.
    pub clean: bool,
}

impl Notify {
    /// As the miner works on it. `target` is that of the difficulty in force when it came.
    pub fn work(self, serial: u64, extranonce: Extranonce, mask: u32, target: Target) -> Work {
        let Self { job_id, prev_hash, prefix, suffix, branch, version, bits, time, .. } = self;
        let root = Root::Rolled { prefix, extranonce, suffix, branch };
        Work { serial, job_id, version, mask, prev_hash, root, time, bits, target }
    }
}

/// Reads one line. The error says what is wrong with it.
pub fn parse(line: &[u8]) -> Result<Message, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("not JSON ({error})"))?;
    let Some(method) = value.get("method").and_then(Value::as_str) else { return Ok(reply(&value)) };
    let params = value.get("params").unwrap_or(&Value::Null);
    let id = value.get("id").unwrap_or(&Value::Null);
    let wrong = |what: &str| format!("{method}: {what} in {params}");
    Ok(match method {
        "mining.notify" => Message::Notify(notify(params).map_err(wrong)?),
        "mining.set_difficulty" => {
            let number = params.get(0).and_then(number).and_then(Difficulty::new);
            Message::Difficulty(number.ok_or_else(|| wrong("no difficulty"))?)
        }
        "mining.set_version_mask" => {
            Message::VersionMask(params.get(0).and_then(hex_u32).ok_or_else(|| wrong("no mask"))?)
        }
        "mining.set_extranonce" => {
            Message::Extranonce(extranonce(params.get(0), params.get(1)).map_err(|what| wrong(&what))?)
        }
        "mining.ping" => Message::Ask(answer(id, "pong")),
        "client.get_version" => Message::Ask(answer(id, AGENT)),
        "client.show_message" => {
            Message::Show(params.get(0).and_then(Value::as_str).unwrap_or_default().to_owned())
        }
        "client.reconnect" => Message::Reconnect,
        other => Message::Other(other.to_owned()),
    })
}

/// What `mining.subscribe` returns: `[subscriptions, extranonce1, extranonce2 size]`.
pub fn subscription(result: &Value) -> Result<Extranonce, String> {
    extranonce(result.get(1), result.get(2))
}

/// The version bits that `mining.configure` lets us roll: none if it says nothing of them.
pub fn version_mask(result: &Value) -> u32 {
    let granted = result.get("version-rolling").and_then(Value::as_bool).unwrap_or(false);
    let mask = result.get("version-rolling.mask").and_then(hex_u32);
    mask.filter(|_| granted).unwrap_or(0)
}

/// A request line.
pub fn request(id: u64, method: &str, params: Value) -> String {
    format!("{}\n", json!({ "id": id, "method": method, "params": params }))
}

fn answer(id: &Value, result: &str) -> String {
    format!("{}\n", json!({ "id": id, "result": result, "error": null }))
}

fn reply(value: &Value) -> Message {
    let Some(id) = value.get("id").and_then(Value::as_u64) else {
        return Message::Other("neither a method nor an id of ours".into());
    };
    let (result, error) = (value.get("result"), value.get("error"));
    let result = result.cloned().unwrap_or_default();
    // ckpool says why in "reject-reason"; some say no more than false.
    let reason = || value.get("reject-reason").map_or_else(|| "no reason given".to_owned(), words);
    let result = match error {
        Some(error) if !error.is_null() => Err(words(error)),
        _ if result == Value::Bool(false) || result.is_null() => Err(reason()),
        _ => Ok(result),
    };
    Message::Reply(id, result)
}

/// An error as a person reads it: `[code, text, …]`, an object with a message, or just text.
fn words(error: &Value) -> String {
    let (code, text) = match error {
        Value::Array(parts) => (parts.first(), parts.get(1)),
        Value::Object(parts) => (parts.get("code"), parts.get("message")),
        other => (None, Some(other)),
    };
    let text =
        text.map_or_else(|| error.to_string(), |text| text.as_str().map_or(text.to_string(), str::to_owned));
    let text: String = text.chars().filter(|char| !char.is_control()).take(200).collect();
    match code.and_then(Value::as_i64) {
        Some(code) => format!("{text} (code {code})"),
        None => text,
    }
}

fn notify(params: &Value) -> Result<Notify, &'static str> {
    let text = |i: usize| params.get(i).and_then(Value::as_str);
    let bytes = |i: usize| text(i).and_then(|text| hex::decode(text).ok());
    let mut prev_hash = text(1).and_then(hash).ok_or("no previous hash of 32 bytes")?;
    for word in prev_hash.chunks_exact_mut(4) {
        word.reverse(); // the wire has each 4 bytes the other way round
    }
    let branch = params.get(4).and_then(Value::as_array).ok_or("no merkle branch")?;
    Ok(Notify {
        job_id: text(0).ok_or("no job id")?.to_owned(),
        prev_hash,
        prefix: bytes(2).ok_or("no first half of the coinbase")?,
        suffix: bytes(3).ok_or("no second half of the coinbase")?,
        branch: branch
            .iter()
            .map(|node| node.as_str().and_then(hash))
            .collect::<Option<_>>()
            .ok_or("a merkle branch that is not of 32 byte hashes")?,
        version: params.get(5).and_then(hex_u32).ok_or("no version")?,
        bits: params.get(6).and_then(hex_u32).ok_or("no bits")?,
        time: params.get(7).and_then(hex_u32).ok_or("no time")?,
        clean: params.get(8).and_then(Value::as_bool).unwrap_or(false),
    })
}

fn extranonce(prefix: Option<&Value>, size: Option<&Value>) -> Result<Extranonce, String> {
    let prefix = prefix.and_then(Value::as_str).and_then(|text| hex::decode(text).ok());
    let prefix = prefix.filter(|prefix| prefix.len() <= 16).ok_or("no extranonce1 of at most 16 bytes")?;
    let size = size.and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| (1..=16).contains(size)).ok_or("no extranonce2 size from 1 to 16")?;
    Ok(Extranonce { prefix, size })
}

fn hash(text: &str) -> Option<[u8; 32]> {
    hex::decode(text).ok()?.try_into().ok()
}

fn hex_u32(value: &Value) -> Option<u32> {
    u32::from_str_radix(value.as_str()?, 16).ok()
}

/// A number, or one in quotes.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let check = |line: &str, expect: Result<Value, &str>| {
            let expect = Message::Reply(4, expect.map_err(str::to_owned));
            assert_eq!(parse(line.as_bytes()), Ok(expect), "{line}");
        };
        check(r#"{"id":4,"result":true,"error":null}"#, Ok(json!(true)));
        check(r#"{"error":null,"id":4,"result":[[],"00",4]}"#, Ok(json!([[], "00", 4])));
        check(r#"{"id":4,"result":null,"error":[21,"Job not found",null]}"#, Err("Job not found (code 21)"));
        check(r#"{"id":4,"result":null,"error":{"code":-1,"message":"no"}}"#, Err("no (code -1)"));
        check(r#"{"id":4,"result":false,"error":"banned"}"#, Err("banned"));
        check(r#"{"id":4,"result":false,"error":null}"#, Err("no reason given"));
        check(r#"{"id":4,"result":false,"error":null,"reject-reason":"Above target"}"#, Err("Above target"));
        check(r#"{"id":4,"result":true,"error":[]}"#, Err("[]"));
        check("{\"id\":4,\"error\":\"red \\u001b[31m\"}", Err("red [31m"));
    }

    #[test]
    fn notifications() {
        let check = |line: &str, expect: Message| assert_eq!(parse(line.as_bytes()), Ok(expect), "{line}");
        let difficulty = |value| Message::Difficulty(Difficulty::new(value).unwrap());
        check(r#"{"id":null,"method":"mining.set_difficulty","params":[512]}"#, difficulty(512.0));
        check(r#"{"params":[0.001],"method":"mining.set_difficulty"}"#, difficulty(0.001));
        check(r#"{"method":"mining.set_difficulty","params":["8.5"]}"#, difficulty(8.5));
        check(
            r#"{"method":"mining.set_version_mask","params":["1fffe000"]}"#,
            Message::VersionMask(0x1fff_e000),
        );
        let extranonce = Extranonce { prefix: vec![1, 2], size: 6 };
        check(r#"{"method":"mining.set_extranonce","params":["0102",6]}"#, Message::Extranonce(extranonce));
        let pong = "{\"error\":null,\"id\":9,\"result\":\"pong\"}\n";
        check(r#"{"id":9,"method":"mining.ping","params":[]}"#, Message::Ask(pong.into()));
        check(r#"{"method":"client.show_message","params":["hello"]}"#, Message::Show("hello".into()));
        check(r#"{"method":"client.reconnect","params":[]}"#, Message::Reconnect);
        check(r#"{"method":"mining.new","params":7}"#, Message::Other("mining.new".into()));
    }

    #[test]
    fn notify_in_binary() {
        let line = json!({"id": null, "method": "mining.notify", "params": [
            "1f", "171592f223740e92d223f6e68bff25279af7ac4f2246451e0000000200000000", "0102", "03",
            ["175335649d5e8746982969ec88f52e85ac9917106fba5468e699c8879ab974a1"],
            "20000000", "192495f8", "64b3f3ec", true,
        ]});
        let Ok(Message::Notify(notify)) = parse(line.to_string().as_bytes()) else { panic!("{line}") };
        let prev_hash = "f2921517920e7423e6f623d22725ff8b4facf79a1e4546220200000000000000";
        assert_eq!(hex::encode(notify.prev_hash), prev_hash);
        assert_eq!((notify.job_id.as_str(), notify.prefix, notify.suffix), ("1f", vec![1, 2], vec![3]));
        assert_eq!((notify.branch.len(), notify.branch[0][0]), (1, 0x17));
        assert_eq!((notify.version, notify.bits, notify.time), (0x2000_0000, 0x1924_95f8, 0x64b3_f3ec));
        assert!(notify.clean);
        for i in 0..8 {
            let mut line = line.clone();
            line["params"][i] = json!({});
            let error = parse(line.to_string().as_bytes()).unwrap_err();
            assert!(error.starts_with("mining.notify: "), "{error}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for line in [
            "",
            "{",
            "HTTP/1.1 400 Bad Request",
            r#"{"method":"mining.set_difficulty","params":[0]}"#,
            r#"{"method":"mining.set_difficulty"}"#,
            r#"{"method":"mining.notify","params":[]}"#,
            r#"{"method":"mining.set_extranonce","params":["01",17]}"#,
            r#"{"method":"mining.set_version_mask","params":["1fffe0000"]}"#,
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        for line in ["[]", "7", "null", "{}", r#"{"id":"x","result":true}"#, r#"{"id":-1,"result":true}"#] {
            assert!(matches!(parse(line.as_bytes()), Ok(Message::Other(_))), "{line}");
        }
        for result in [json!(null), json!([[], "00", 0]), json!([[], "0", 4]), json!([[], "00"])] {
            assert!(subscription(&result).is_err(), "{result}");
        }
    }

    #[test]
    fn the_mask_counts_only_if_granted() {
        let check = |result: Value, expect: u32| assert_eq!(version_mask(&result), expect, "{result}");
        check(json!({"version-rolling": true, "version-rolling.mask": "1fffe000"}), 0x1fff_e000);
        check(json!({"version-rolling": false, "version-rolling.mask": "1fffe000"}), 0);
        check(json!({"version-rolling": true}), 0);
        check(json!(true), 0);
    }
}
