use proptest::prelude::*;
use serde_json::{Value, json};
use share::{Coinbase, Extranonce, Submission, Target};

use super::*;
use crate::v1::{Call, decode};

/// `mining.notify` as a public pool sent it, and the header and share that a miner made of it.
const NOTIFY: &str = r#"{"id":null,"method":"mining.notify","params":["1","171592f223740e92d223f6e68bff25279af7ac4f2246451e0000000200000000","02000000010000000000000000000000000000000000000000000000000000000000000000ffffffff1903c943255c7075626c69632d706f6f6c5c","ffffffff037a90000000000000160014e6f22ca44dc800e9d049621a3b9a42c509f1c4bc3b0f250000000000160014e6f22ca44dc800e9d049621a3b9a42c509f1c4bc0000000000000000266a24aa21a9edbd3d1d916aa0b57326a2d88ebe1b68a1d7c48585f26d8335fe6a94b62755f64c00000000",["175335649d5e8746982969ec88f52e85ac9917106fba5468e699c8879ab974a1","d5644ab3e708c54cd68dc5aedc92b8d3037449687f92ec41ed6e37673d969d4a","5c9ec187517edc0698556cca5ce27e54c96acb014770599ed9df4d4937fbf2b0"],"20000000","192495f8","64b3f3ec",true]}"#;
const SUBMIT: &str = r#"{"id":9,"method":"mining.submit","params":["bc1q.bitaxe3","1","c7080000","64b3f3ec","ed460d91","00002000"]}"#;
const PREV_HASH: &str = "f2921517920e7423e6f623d22725ff8b4facf79a1e4546220200000000000000";
const HEADER: &str = "00200020f2921517920e7423e6f623d22725ff8b4facf79a1e45462202000000000000006b5d684a704b4abe62b2375c5326d1fc1dbb61168aff84e920ba28968bf1075fecf3b364f8952419910d46ed";

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::from_str_radix(value.as_str().unwrap(), 16).unwrap()
}

/// The job that a notify speaks of, read the way that a miner does; the pool's hash of the previous block is given,
/// since its order is what is tested.
fn job(notify: &Value, prev_hash: [u8; 32]) -> Job {
    let params = notify["params"].as_array().unwrap();
    assert_eq!(params.len(), 9); // C-30
    let bits = number(&params[6]);
    Job {
        version: number(&params[5]),
        prev_hash,
        coinbase: Coinbase::new(bytes(&params[2]), bytes(&params[3]), 8),
        branch: params[4].as_array().unwrap().iter().map(|node| bytes(node).try_into().unwrap()).collect(),
        min_time: 0,
        time: number(&params[7]),
        bits,
        network_target: Target::from_compact(bits).unwrap_or(Target::MAX),
        height: 2_442_185,
    }
}

fn write(job: &Job, job_id: u32, time: u32, clean: bool) -> String {
    let mut out = b"before\n".to_vec();
    Notify::new(job).write(&mut out, job_id, time, clean);
    let text = String::from_utf8(out).unwrap();
    let line = text.strip_prefix("before\n").unwrap().strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'));
    line.to_owned()
}

#[test]
fn c30_the_line_of_the_vector() {
    let prev_hash = hex::decode(PREV_HASH).unwrap().try_into().unwrap();
    let job = job(&serde_json::from_str(NOTIFY).unwrap(), prev_hash);
    assert_eq!(write(&job, 1, job.time, true), NOTIFY.replace("[\"1\"", "[\"00000001\""));

    // And back: what the miner submits for it is the header of the vector.
    let Ok(Some(crate::v1::Request { call: Call::Submit(submit), .. })) = decode(SUBMIT.as_bytes()) else {
        panic!("not a submit")
    };
    assert_eq!(submit.job, Some(1));
    let extranonce = [&[0x57, 0xa6, 0xf0, 0x98], submit.extranonce2.as_ref().unwrap().as_bytes()];
    let submission = Submission {
        extranonce: Extranonce::new(&extranonce).unwrap(),
        time: submit.time,
        nonce: submit.nonce,
        version: job.version | submit.version_bits.unwrap(),
    };
    assert_eq!(hex::encode(job.header(&submission)), HEADER);
}

#[test]
fn c35_a_block_without_transactions_has_an_empty_branch() {
    let mut job = job(&serde_json::from_str(NOTIFY).unwrap(), [0; 32]);
    job.branch = Box::default();
    let line = write(&job, 0xdead_beef, 1, false);
    let params = &serde_json::from_str::<Value>(&line).unwrap()["params"];
    assert_eq!(params[4], json!([]));
    assert_eq!((&params[0], &params[7], &params[8]), (&json!("deadbeef"), &json!("00000001"), &json!(false)));
}

proptest! {
    #[test]
    fn c30_to_c33_a_miner_reads_the_job_back(
        prev_hash: [u8; 32], branch in prop::collection::vec(any::<[u8; 32]>(), 0..14),
        prefix in prop::collection::vec(any::<u8>(), 0..200), suffix in prop::collection::vec(any::<u8>(), 0..200),
        version: u32, bits: u32, job_id: u32, time: u32, clean: bool,
    ) {
        let given = Job {
            version, prev_hash, coinbase: Coinbase::new(prefix, suffix, 8), branch: branch.into(), min_time: 0,
            time: 5, bits, network_target: Target::MAX, height: 0,
        };
        let line = write(&given, job_id, time, clean);
        prop_assert_eq!(line.to_ascii_lowercase(), line.clone());
        let notify: Value = serde_json::from_str(&line).unwrap();
        let params = &notify["params"];
        let hash: Vec<u8> = bytes(&params[1]).chunks(4).flat_map(|word| word.iter().rev().copied()).collect();
        let read = job(&notify, hash.try_into().unwrap());
        prop_assert_eq!((&notify["id"], &notify["method"]), (&json!(null), &json!("mining.notify")));
        prop_assert_eq!(&params[0], &json!(format!("{job_id:08x}")));
        prop_assert_eq!(&params[8], &json!(clean));
        prop_assert_eq!(read.time, time);
        prop_assert_eq!((read.version, read.bits, read.prev_hash), (version, bits, prev_hash));
        prop_assert_eq!(read.branch, given.branch);
        prop_assert_eq!(read.coinbase.prefix(), given.coinbase.prefix());
        prop_assert_eq!(read.coinbase.suffix(), given.coinbase.suffix());
    }
}
