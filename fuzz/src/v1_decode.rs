//! A stream of bytes, cut into lines and decoded: an answer to every request that has an id.

use serde_json::{Value, json};
use share::Reason;
use stratum::v1::{Fault, Id, decode, encode};

use super::cutter::Cutter;

/// The longest line, in bytes.
const LIMIT: usize = 300;

/// Reads all of `stream`, in one piece and in many: the lines are the same, and every answer is what a miner can read.
pub fn run(stream: &[u8]) {
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let end = Cutter::new(LIMIT).arrive(stream, |line| {
        answer(line);
        whole.push(line.to_vec());
        true
    });
    let mut cutter = Cutter::new(LIMIT);
    let broken = stream.chunks(7).find_map(|chunk| {
        let taken = cutter.arrive(chunk, |line| {
            pieces.push(line.to_vec());
            true
        });
        taken.err()
    });
    assert_eq!((whole, end.err()), (pieces, broken), "the way it arrives makes a difference");
}

fn answer(line: &[u8]) {
    assert!(line.len() <= LIMIT && !line.contains(&b'\n'));
    let mut out = Vec::new();
    let id = match decode(line) {
        Ok(None) => return,
        Ok(Some(request)) => {
            encode::accepted(&mut out, &request.id);
            request.id
        }
        Err(malformed) => match malformed.fault {
            Fault::NotJson => {
                assert!(!is_request(line), "{line:?}");
                assert!(malformed.id.is_absent());
                return;
            }
            Fault::BadParams { reason, text } => {
                encode::refused_with(&mut out, &malformed.id, reason, text);
                malformed.id
            }
        },
    };
    encode::refused(&mut out, &id, Reason::Stale);
    check_replies(line, &out, &id);
}

/// Whether another reader of JSON takes the line for a request.
fn is_request(line: &[u8]) -> bool {
    serde_json::from_slice::<Value>(line).is_ok_and(|message| message["method"].is_string())
}

fn check_replies(line: &[u8], out: &[u8], id: &Id<'_>) {
    let text = std::str::from_utf8(out).expect("replies are text");
    assert_eq!(text.lines().count(), if id.is_absent() { 0 } else { 2 }, "{text}");
    assert!(text.is_empty() || text.ends_with('\n'));
    for reply in text.lines() {
        // Half a surrogate pair in an id is echoed as it came; other readers need not take it.
        let Ok(reply) = serde_json::from_str::<Value>(reply) else {
            assert!(serde_json::from_slice::<Value>(line).is_err(), "{line:?}: {reply}");
            continue;
        };
        let keys: Vec<&String> = reply.as_object().expect("replies are objects").keys().collect();
        assert_eq!(keys, ["error", "id", "result"]);
        if let Ok(request) = serde_json::from_slice::<Value>(line) {
            assert!(reply["id"] == request["id"] || reply["id"] == json!(null), "{line:?}: {reply}");
        }
    }
}
