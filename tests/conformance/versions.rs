//! C-25 to C-29: configure, and the version bits that miners roll.

use serde_json::{Value, json};

use super::miner;
use crate::support::{shared::still, wire::Wire};

const MASK: u32 = 0x1fff_e000;

/// Asks for this mask; the one that was granted.
fn roll(wire: &mut Wire, mask: &str) -> String {
    let params =
        json!([["version-rolling"], {"version-rolling.mask": mask, "version-rolling.min-bit-count": 2}]);
    let reply = wire.ask(9, "mining.configure", params);
    reply["result"]["version-rolling.mask"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
}

#[test]
fn c25_c26_configure_is_answered_by_what_was_asked_for() {
    let pool = still();
    let mut wire = Wire::open(pool.port());
    let rolling = json!({"version-rolling": true, "version-rolling.mask": "1fffe000"});
    for (params, expect) in [
        (
            json!([["version-rolling"], {"version-rolling.mask": "ffffffff", "version-rolling.min-bit-count": 2}]),
            rolling.clone(),
        ),
        (json!([["version-rolling"]]), rolling.clone()),
        (json!([["version-rolling"], null]), rolling.clone()),
        (json!([["version-rolling"], {"version-rolling.min-bit-count": "0x2"}]), rolling.clone()),
        (json!([["version-rolling"], {"version-rolling.min-bit-count": "02"}]), rolling.clone()),
        (json!([["version-rolling"], {"version-rolling.mask": "FFFFFFFF"}]), rolling.clone()),
        // Eight digits, however few it takes.
        (
            json!([["version-rolling"], {"version-rolling.mask": "6000"}]),
            json!({"version-rolling": true, "version-rolling.mask": "00006000"}),
        ),
        (json!([["version-rolling"], {"version-rolling.mask": "1"}]), json!({"version-rolling": false})),
        (
            json!([["minimum-difficulty"], {"minimum-difficulty.value": 2048}]),
            json!({"minimum-difficulty": true}),
        ),
        (
            json!([["minimum-difficulty"], {"minimum-difficulty.value": 0.5}]),
            json!({"minimum-difficulty": true}),
        ),
        (json!([["subscribe-extranonce"], {}]), json!({"subscribe-extranonce": true})),
        (json!([["info"], {"info.hw-version": "s19"}]), json!({"info": true})),
        (json!([["x-y", "z"], {}]), json!({"x-y": false, "z": false})),
        (
            json!([["version-rolling", "minimum-difficulty", "more"], {"minimum-difficulty.value": 1}]),
            json!({"version-rolling": true, "version-rolling.mask": "1fffe000", "minimum-difficulty": true,
                "more": false}),
        ),
        (json!([[], {}]), json!({})),
    ] {
        let reply = wire.ask(1, "mining.configure", params.clone());
        assert_eq!((&reply["result"], &reply["error"]), (&expect, &Value::Null), "{params}");
    }
}

#[test]
fn c27_configure_may_come_late_and_again_and_each_job_keeps_its_mask() {
    let pool = still();
    let user = miner(27);
    let mut wire = Wire::start(pool.port(), &user, "x");
    let next = |wire: &mut Wire, difficulty: f64| {
        wire.ask(3, "mining.suggest_difficulty", json!([difficulty]));
        wire.next_job()
    };
    let code = |wire: &mut Wire, job: &crate::support::wire::Job, seed, bits| {
        let share = job.find_with(seed, job.time, Some(bits), |hash| {
            crate::support::wire::is_share(hash, job.difficulty)
        });
        wire.submit(&user, &share)
    };
    let without = wire.job();
    assert_eq!(code(&mut wire, &without, 1, 0x2000), 20, "nothing was negotiated");
    assert_eq!(roll(&mut wire, "00006000"), "00006000");
    let narrow = next(&mut wire, 2e-10);
    assert_eq!(code(&mut wire, &narrow, 2, 0x6000), 0);
    assert_eq!(code(&mut wire, &narrow, 3, 0x8000), 20);
    assert_eq!(roll(&mut wire, "ffffffff"), "1fffe000");
    let wide = next(&mut wire, 3e-10);
    assert_eq!(code(&mut wire, &wide, 4, 0x8000), 0);
    assert_eq!(code(&mut wire, &narrow, 5, 0x8000), 20, "the mask that it was given with");
    assert_eq!(roll(&mut wire, "00002000"), "00002000");
    let narrower = next(&mut wire, 4e-10);
    assert_eq!(code(&mut wire, &narrower, 6, 0x4000), 20);
    assert_eq!(code(&mut wire, &wide, 7, 0x4000), 0);
}

#[test]
fn c28_bits_within_the_mask_are_free_and_those_outside_are_not() {
    let pool = still();
    let user = miner(28);
    let mut wire = Wire::open(pool.port());
    roll(&mut wire, "ffffffff");
    wire.subscribe();
    wire.authorize(&user, "x");
    let job = wire.job();
    // So OR, XOR and BIP 310's combination of job and bits agree.
    assert_eq!(job.version & MASK, 0, "{:08x}", job.version);
    for (seed, bits) in [(1, MASK), (2, 0x2000), (3, 0x1555_4000), (4, 0)] {
        let share = job.find_with(seed, job.time, Some(bits), |_| true);
        assert_eq!(wire.submit(&user, &share), 0, "{bits:08x}");
    }
    // Left out it means that no bit was changed, although they could be.
    assert_eq!(wire.submit(&user, &job.share(5)), 0);
    for (seed, bits) in [(6, 0x2000_0000), (7, 0x1000), (8, 1), (9, u32::MAX)] {
        let share = job.find_with(seed, job.time, Some(bits), |_| true);
        wire.request(4, "mining.submit", share.params(&user));
        let reply = wire.reply();
        // Also a bit that the job's own version has, though that is no change.
        assert_eq!(reply["error"], json!([20, "Invalid version mask", null]), "{bits:08x}");
    }
}

#[test]
fn c29_short_forms_of_the_version_bits() {
    let pool = still();
    let user = miner(29);
    let mut wire = Wire::open(pool.port());
    roll(&mut wire, "ffffffff");
    wire.subscribe();
    wire.authorize(&user, "x");
    let job = wire.job();
    for (seed, bits, spelling) in
        [(1, 0x2000, "2000"), (2, 0, "0"), (3, 0x0060_0000, "600000"), (4, 0x1fff_e000, "1FFFe000")]
    {
        let mut share = job.find_with(seed, job.time, Some(bits), |_| true);
        let long = share.clone();
        share.version_bits = Some(spelling.to_owned());
        assert_eq!(wire.submit(&user, &share), 0, "{spelling}");
        assert_eq!(wire.submit(&user, &long), 22, "{spelling} is {bits:08x}");
    }
    for spelling in ["000002000", "0x2000", "2000g", "", "-1"] {
        let mut share = job.share(9);
        share.version_bits = Some(spelling.to_owned());
        assert_eq!(wire.submit(&user, &share), 20, "{spelling:?}");
    }
}
