//! C-42 to C-45, C-47, C-49, C-50: what is handed in.

use serde_json::{Value, json};

use super::miner;
use crate::support::{
    shared::still,
    wait_for,
    wire::{PATIENCE, Share, Wire},
};

/// What `change` makes of a share, submitted: the text of the refusal, or "true".
fn spelled(wire: &mut Wire, user: &str, share: &Share, change: impl FnOnce(&mut Share)) -> String {
    let mut share = share.clone();
    change(&mut share);
    answer(wire, share.params(user))
}

fn answer(wire: &mut Wire, params: Value) -> String {
    let reply = wire.ask(4, "mining.submit", params);
    match wire.code(&reply) {
        0 => "true".to_owned(),
        code => format!("{code} {}", reply["error"][1].as_str().unwrap()),
    }
}

#[test]
fn c42_more_parameters_are_passed_over_and_fewer_refused() {
    let pool = still();
    let user = miner(42);
    let mut wire = Wire::start(pool.port(), &user, "x");
    let params = |seed: u64| wire.job().share(seed).params(&user).as_array().unwrap().clone();
    let (good, more) =
        (params(1), [params(2), vec![json!("00000000"), json!("x"), json!({}), Value::Null]].concat());
    let null = [params(3), vec![Value::Null]].concat();
    assert_eq!(answer(&mut wire, Value::Array(more)), "true");
    assert_eq!(answer(&mut wire, Value::Array(null)), "true", "no version bits");
    for count in 0..5 {
        assert!(answer(&mut wire, json!(good[..count])).starts_with("20 "), "{count} parameters");
    }
    for at in 0..5 {
        let mut odd = good.clone();
        odd[at] = json!(1);
        assert!(answer(&mut wire, Value::Array(odd)).starts_with("20 "), "a number at {at}");
    }
    assert_eq!(answer(&mut wire, Value::Array(good)), "true", "and none of this has spoiled anything");
}

#[test]
fn c43_an_extranonce2_has_the_length_that_was_agreed() {
    let pool = still();
    let user = miner(43);
    let mut wire = Wire::start(pool.port(), &user, "x");
    let share = wire.job().share(0xabcd_ef00_0000_0001);
    for wrong in ["", "00", "abcdef00000001", "abcdef000000000100", "abcdef0000000001abcdef0000000001"] {
        let answer = spelled(&mut wire, &user, &share, |share| share.extranonce2 = wrong.to_owned());
        assert_eq!(answer, "20 Invalid extranonce2 length", "{wrong:?}");
    }
    for wrong in ["abcdef000000000", "abcdef000000000g", "0xabcdef00000001", " abcdef00000001 "] {
        let answer = spelled(&mut wire, &user, &share, |share| share.extranonce2 = wrong.to_owned());
        assert!(answer.starts_with("20 "), "{wrong:?}: {answer}");
    }
    assert_eq!(spelled(&mut wire, &user, &share, |_| ()), "true");
}

#[test]
fn c33_c44_numbers_in_short_and_in_capitals() {
    let pool = still();
    let user = miner(44);
    let mut wire = Wire::start(pool.port(), &user, "d=0.000001");
    let job = wire.job();
    let mut seeds = 0xabcd_ef00_0000_0000..;
    // Leading zeros left out: this nonce is below 2^24.
    let mut next = || job.share(seeds.next().unwrap());
    let (one, two) = (next(), next());
    let short = one.nonce.trim_start_matches('0').to_owned();
    assert!(short.len() < 8 && !short.is_empty(), "{short}");
    assert_eq!(spelled(&mut wire, &user, &one, |share| share.nonce = short), "true");
    assert_eq!(spelled(&mut wire, &user, &one, |_| ()), "22 Duplicate share");
    let shout = |share: &mut Share| {
        for text in [&mut share.extranonce2, &mut share.time, &mut share.nonce] {
            *text = text.to_uppercase();
        }
    };
    assert_ne!(two.extranonce2.to_uppercase(), two.extranonce2);
    assert_eq!(spelled(&mut wire, &user, &two, shout), "true");
    assert_eq!(spelled(&mut wire, &user, &two, |_| ()), "22 Duplicate share");
    let three = next();
    for wrong in ["", "000000001", "0x000001", "-1", "g", " 1"] {
        let nonce = spelled(&mut wire, &user, &three, |share| share.nonce = wrong.to_owned());
        let time = spelled(&mut wire, &user, &three, |share| share.time = wrong.to_owned());
        assert!(nonce.starts_with("20 ") && time.starts_with("20 "), "{wrong:?}: {nonce}, {time}");
    }
    assert_eq!(spelled(&mut wire, &user, &three, |_| ()), "true");
}

#[test]
fn c45_how_far_the_time_may_be_rolled() {
    let pool = still();
    let user = miner(45);
    let mut wire = Wire::start(pool.port(), &user, "x");
    let job = wire.job();
    for (seed, time, expect) in [
        (1, job.time, "true"),
        (2, job.time + 600, "true"),
        (3, job.time + 7000, "true"),
        (4, job.time + 7001, "20 Time too new"),
        (5, u32::MAX, "20 Time too new"),
        // The tip is the first block of the chain, so its time is that of the median too.
        (6, 1_598_918_400 + 1, "true"),
        (7, 1_598_918_400, "20 Time too old"),
        (8, 0, "20 Time too old"),
    ] {
        let share = job.find_with(seed, time, None, |_| true);
        assert_eq!(answer(&mut wire, share.params(&user)), expect, "{time}");
    }
}

#[test]
fn c47_a_share_is_its_hash() {
    let pool = still();
    let user = miner(47);
    let mut wire = Wire::open(pool.port());
    wire.ask(0, "mining.configure", json!([["version-rolling"], {"version-rolling.mask": "ffffffff"}]));
    wire.subscribe();
    wire.authorize(&user, "x");
    let job = wire.job();
    // One nonce, and everything else that can make a difference.
    let shares = [
        job.find_with(1, job.time, Some(0), |_| true),
        job.find_with(1, job.time, Some(0x2000), |_| true),
        job.find_with(1, job.time, Some(0x4000), |_| true),
        job.find_with(1, job.time + 1, Some(0), |_| true),
        job.find_with(2, job.time, Some(0), |_| true),
    ];
    assert!(shares.iter().all(|share| share.nonce == "00000000"));
    for share in &shares {
        assert_eq!(wire.submit(&user, share), 0, "{share:?}");
    }
    for share in &shares {
        assert_eq!(wire.submit(&user, share), 22, "{share:?}");
    }
    // What is not good enough is refused as such however often it comes, and is not remembered.
    let mut wire = Wire::start(pool.port(), &user, "d=0.001");
    let bad = wire.job().find(1, |hash| !crate::support::wire::is_share(hash, 0.001));
    for _ in 0..3 {
        assert_eq!(wire.submit(&user, &bad), 23);
    }
}

#[test]
fn c49_equal_nonces_in_a_row_are_one_share_and_no_offence() {
    let pool = still();
    let user = miner(49);
    let mut wire = Wire::start(pool.port(), &user, "x");
    for seed in 0..20 {
        let share = wire.job().share(seed);
        assert_eq!([wire.submit(&user, &share), wire.submit(&user, &share)], [0, 22]);
    }
}

#[test]
fn c50_shares_sent_again_after_a_resume_are_duplicates_and_no_offence() {
    let pool = still();
    let user = miner(50);
    let mut wire = Wire::start(pool.port(), &user, "x");
    let job = wire.job();
    let shares: Vec<Share> = (0..150).map(|seed| job.share(seed)).collect();
    for share in &shares {
        assert_eq!(wire.submit(&user, share), 0);
    }
    let (session, extranonce1) = (wire.session.clone(), wire.extranonce1.clone());
    drop(wire);
    let mut back = wait_for("the session to be free", PATIENCE, || {
        let mut wire = Wire::open(pool.port());
        wire.subscribe_with(json!(["cgminer/4.11.1", session]));
        (wire.extranonce1 == extranonce1).then_some(wire)
    });
    back.authorize(&user, "x");
    for share in &shares {
        assert_eq!(back.submit(&user, share), 22);
    }
    assert_eq!(back.submit(&user, &job.share(1_000)), 0, "it goes on");
}
