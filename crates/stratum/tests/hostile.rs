//! Whatever a peer sends: no panic, and an answer to every request that has an id.

use proptest::{prelude::*, sample::Index};
use stratum::v1::decode;
use v1_decode::run as serve;

#[path = "../../../fuzz/src/cutter.rs"]
mod cutter;
#[path = "../../../fuzz/src/v1_decode.rs"]
mod v1_decode;

const LINES: [&str; 12] = [
    r#"{"id":1,"method":"mining.subscribe","params":["cgminer/4.11.1","f00d"]}"#,
    r#"{"params":["bc1qexample.rig","x"],"id":"two","method":"mining.authorize"}"#,
    r#"{"id":3,"method":"mining.configure","params":[["version-rolling","minimum-difficulty","new"],{"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":2,"minimum-difficulty.value":0.5}]}"#,
    r#"{"id":null,"method":"mining.suggest_difficulty","params":[1e3]}"#,
    r#"{"id":4.5,"method":"mining.suggest_difficulty(42)","params":[]}"#,
    r#"{"id":5,"method":"mining.suggest_target","params":["00000000ffff0000000000000000000000000000000000000000000000000000"]}"#,
    r#"{"id":6,"method":"mining.extranonce.subscribe","params":[]}"#,
    r#"{"id":4,"method":"mining.submit","params":["bc1q%2Erig","0000002a","c708000000000000","64b3f3ec","ed460d91","00002000"]}"#,
    r#"{"id":7,"method":"mining.get_transactions","params":["1"]}"#,
    r#"{"id":8,"result":"pong","error":null}"#,
    r#"{"method":"mining.ping","params":[{"a":[1,{"b":null}]},"\u00e9\ud83d\ude00"]}"#,
    r#"{"id":["\\",{}],"method":"mining.submit","params":null}"#,
];

/// What happens to a byte stream on its way.
#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let telling = prop::sample::select(&b"{}[]\":,\\%\r\n\0 0-.eEnu\xff\xc3"[..]);
    let byte = || prop_oneof![any::<u8>(), telling.clone()];
    prop_oneof![
        (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<Index>(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        (any::<Index>(), 1usize..20).prop_map(|(at, length)| Damage::Remove(at, length)),
        (any::<Index>(), 1usize..80).prop_map(|(at, length)| Damage::Repeat(at, length)),
    ]
}

fn damaged(mut stream: Vec<u8>, damage: Vec<Damage>) -> Vec<u8> {
    for one in damage {
        let end = stream.len();
        let place = |at: Index| at.index(end + 1);
        match one {
            Damage::Set(at, byte) => stream.iter_mut().skip(place(at)).take(1).for_each(|to| *to = byte),
            Damage::Insert(at, byte) => stream.insert(place(at), byte),
            Damage::Remove(at, length) => {
                let from = place(at);
                stream.drain(from..end.min(from + length));
            }
            Damage::Repeat(at, length) => {
                let from = place(at);
                stream.extend_from_within(from..end.min(from + length));
            }
        }
    }
    stream
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn noise(stream in prop::collection::vec(any::<u8>(), 0..400)) {
        serve(&stream);
    }

    #[test]
    fn noise_inside_of_an_object(inside in "[{}\\[\\]\":,\\\\ua-f0-9eE.+ \\-]{0,60}") {
        serve(format!("{{\"id\":1,\"method\":\"mining.submit\",\"params\":[\"{inside}\n").as_bytes());
        serve(format!("{{\"id\":{inside},\"method\":\"mining.ping\"}}\n").as_bytes());
        serve(format!("{{\"id\":1,\"method\":\"mining.configure\",\"params\":[[\"x\"],{inside}]}}\n").as_bytes());
    }

    #[test]
    fn damaged_requests(
        lines in prop::collection::vec(prop::sample::select(&LINES[..]), 1..4),
        damage in prop::collection::vec(damage(), 0..6),
    ) {
        serve(&damaged((lines.join("\r\n") + "\n").into_bytes(), damage));
    }
}

#[test]
fn undamaged_requests_are_all_understood_but_one() {
    let (mut requests, mut refused) = (0, 0);
    for line in LINES {
        match decode(line.as_bytes()) {
            Ok(Some(_)) => requests += 1,
            Ok(None) => (),
            Err(_) => refused += 1,
        }
        serve(line.as_bytes());
    }
    assert_eq!((requests, refused), (10, 1));
}

/// What fuzzing came upon, and what it began with.
#[test]
fn corpus() {
    let files = std::fs::read_dir("../../fuzz/corpus/v1_decode").expect("a corpus");
    let inputs: Vec<_> =
        files.map(|file| std::fs::read(file.expect("a file").path()).expect("bytes")).collect();
    assert!(inputs.len() >= 20, "{} inputs", inputs.len());
    inputs.iter().for_each(|input| serve(input));
}
