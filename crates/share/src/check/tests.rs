//! The share vector of a real miner (Stratum V1, `mining.notify` and `mining.submit` as they went over the wire).

use super::*;
use crate::{Coinbase, Difficulty};

const EXTRANONCE1: &str = "57a6f098";
const PREFIX: &str = "02000000010000000000000000000000000000000000000000000000000000000000000000ffffffff1903c943255c7075626c69632d706f6f6c5c";
const SUFFIX: &str = "ffffffff037a90000000000000160014e6f22ca44dc800e9d049621a3b9a42c509f1c4bc3b0f250000000000160014e6f22ca44dc800e9d049621a3b9a42c509f1c4bc0000000000000000266a24aa21a9edbd3d1d916aa0b57326a2d88ebe1b68a1d7c48585f26d8335fe6a94b62755f64c00000000";
const BRANCH: [&str; 3] = [
    "175335649d5e8746982969ec88f52e85ac9917106fba5468e699c8879ab974a1",
    "d5644ab3e708c54cd68dc5aedc92b8d3037449687f92ec41ed6e37673d969d4a",
    "5c9ec187517edc0698556cca5ce27e54c96acb014770599ed9df4d4937fbf2b0",
];
const HEADER: &str = "00200020f2921517920e7423e6f623d22725ff8b4facf79a1e45462202000000000000006b5d684a704b4abe62b2375c5326d1fc1dbb61168aff84e920ba28968bf1075fecf3b364f8952419910d46ed";
const HASH: &str = "000000000061d52983863e5c424c00d9e0981874fddf6a8493433e73928a3e4e";

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

fn job() -> Job {
    Job {
        version: 0x2000_0000,
        prev_hash: bytes(&HEADER[8..72]),
        coinbase: Coinbase::new(hex::decode(PREFIX).unwrap(), hex::decode(SUFFIX).unwrap(), 8),
        branch: BRANCH.map(bytes).into(),
        min_time: 0x64b3_f000,
        time: 0x64b3_f3ec,
        bits: 0x1924_95f8,
        network_target: Target::from_compact(0x1924_95f8).unwrap(),
        height: 2_442_185,
    }
}

fn submission() -> Submission {
    Submission {
        extranonce: Extranonce::new(&[&bytes::<4>(EXTRANONCE1), &bytes::<4>("c7080000")]).unwrap(),
        time: 0x64b3_f3ec,
        nonce: 0xed46_0d91,
        version: 0x2000_2000,
    }
}

fn rules(difficulty: f64) -> Rules {
    let target = Difficulty::new(difficulty).unwrap().target();
    Rules { target, version_mask: VERSION_MASK, now: 0x64b3_f3ec, stale: false }
}

#[test]
fn the_vector_is_a_share_of_difficulty_669() {
    assert_eq!(hex::encode(job().header(&submission())), HEADER);
    let verdict = check(&job(), &submission(), &rules(512.0));
    let mut shown = verdict.hash;
    shown.reverse();
    assert_eq!(hex::encode(shown), HASH);
    assert_eq!(verdict, Verdict { hash: verdict.hash, is_block: false, share: Ok(()) });
    let difficulty = Target::from_le_bytes(verdict.hash).difficulty().get();
    assert!((669.868..669.869).contains(&difficulty), "{difficulty}");
}

#[test]
fn each_rule() {
    let check = |change: fn(&mut Job, &mut Submission, &mut Rules), expect: Result<(), Reason>| {
        let (mut job, mut submission, mut rules) = (job(), submission(), rules(512.0));
        change(&mut job, &mut submission, &mut rules);
        assert_eq!(check(&job, &submission, &rules).share, expect);
    };
    check(|_, _, _| (), Ok(()));
    check(|_, _, r| *r = rules(669.0), Ok(()));
    check(|_, _, r| *r = rules(670.0), Err(Reason::LowDifficulty));
    check(|_, s, _| s.nonce += 1, Err(Reason::LowDifficulty));
    check(|_, _, r| r.stale = true, Err(Reason::Stale));
    check(|j, _, _| j.min_time = j.time + 1, Err(Reason::TimeTooOld));
    check(|j, _, _| j.time -= TIME_ROLL, Ok(()));
    check(|j, _, _| j.time -= TIME_ROLL + 1, Err(Reason::TimeTooNew));
    check(|j, _, r| (j.time, r.now) = (j.time - 9, r.now - TIME_AHEAD), Ok(()));
    check(|j, _, r| (j.time, r.now) = (j.time - 9, r.now - TIME_AHEAD - 1), Err(Reason::TimeTooNew));
    check(|_, _, r| r.now -= 3 * TIME_AHEAD, Ok(())); // our clock is wrong: what the node handed out stays good
    check(|_, _, r| r.version_mask = 0, Err(Reason::VersionMask));
    check(|_, s, _| s.version |= 1 << 30, Err(Reason::VersionMask));
    check(|_, s, _| s.extranonce = Extranonce::new(&[&[0; 7]]).unwrap(), Err(Reason::ExtranonceLength));
}

#[test]
fn c45_f35_header_times() {
    let judged = |time: u32, job_time: u32, now: u32| {
        let job = Job { time: job_time, min_time: job_time - 3_600, ..job() };
        let submission = Submission { time, ..submission() };
        let rules = Rules { target: Target::MAX, version_mask: VERSION_MASK, now, stale: false };
        check(&job, &submission, &rules).share
    };
    // Midnight, UTC, and a day whose last second is rolled over.
    let midnight = 1_700_006_400;
    assert_eq!(judged(midnight + 5, midnight - 5, midnight - 5), Ok(()));
    assert_eq!(judged(midnight - 5 - 3_600, midnight - 5, midnight), Ok(()));
    assert_eq!(judged(midnight - 6 - 3_600, midnight - 5, midnight), Err(Reason::TimeTooOld));
    assert_eq!(judged(midnight + TIME_ROLL, midnight, midnight), Ok(()));
    assert_eq!(judged(midnight + TIME_ROLL + 1, midnight, midnight), Err(Reason::TimeTooNew));
    // A job that is old already: what the chain takes is reckoned from now, what the miner may roll from the job.
    assert_eq!(judged(midnight + TIME_ROLL, midnight, midnight + 600), Ok(()));
    assert_eq!(judged(midnight + TIME_ROLL + 1, midnight, midnight + 600), Err(Reason::TimeTooNew));
    // At the end of the 32 bits nothing wraps around.
    assert_eq!(judged(u32::MAX, u32::MAX - 5, u32::MAX), Ok(()));
    assert_eq!(judged(5, u32::MAX - 5, u32::MAX), Err(Reason::TimeTooOld));
}

#[test]
fn a_block_is_a_block_whatever_else_is_wrong() {
    let mut job = job();
    job.network_target = Difficulty::new(600.0).unwrap().target();
    let strict = Rules { target: Target::from_le_bytes([0; 32]), version_mask: 0, now: 0, stale: true };
    let verdict = check(&job, &submission(), &strict);
    assert!(verdict.is_block);
    assert_eq!(verdict.share, Err(Reason::Stale));
}

#[test]
fn extranonce_of_at_most_32_bytes() {
    assert!(Extranonce::new(&[&[1; 20], &[2; 12]]).is_some());
    assert_eq!(Extranonce::new(&[&[1; 20], &[2; 13]]), None);
    assert_eq!(Extranonce::new(&[&[1, 2], &[], &[3]]).unwrap().as_bytes(), [1, 2, 3]);
}
