use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use super::*;

const INTERVAL: u64 = 30_000;

fn pace() -> Pace {
    Pace::new(INTERVAL, true)
}

#[test]
fn scaling() {
    let check = |bits: u32, factor: u64, divisor: u64, expect: u32| {
        assert_eq!(scale(bits, factor, divisor), expect, "{bits:08x} * {factor} / {divisor}")
    };
    check(0x1d00_ffff, 1, 1, 0x1d00_ffff);
    check(0x1d00_ffff, 4, 1, 0x1d03_fffc);
    check(0x1d00_ffff, 1, 4, 0x1c3f_ffc0);
    check(0x1d7f_ffff, 2, 1, 0x1e00_ffff);
    check(0x207f_ffff, 2, 1, EASIEST);
    check(0x1f00_ffff, 1 << 16, 1, EASIEST);
    check(HARDEST, 1, 4, HARDEST);
    check(0x1d00_ffff, u64::MAX, 1, EASIEST);
}

#[test]
fn the_rule_after_a_block() {
    let check = |solved_ms: u64, four_before_ms: Option<u64>, expect: u32| {
        let issue = Issue { bits: 0x1d00_ffff, since_ms: 1_000_000 };
        let now = issue.since_ms + solved_ms;
        assert_eq!(
            pace().after(issue, now, four_before_ms.map(|ago| now - ago)),
            expect,
            "after {solved_ms} ms"
        );
    };
    check(INTERVAL, None, 0x1d00_ffff);
    check(0, None, scale(0x1d00_ffff, 7, 9));
    check(2 * INTERVAL, None, scale(0x1d00_ffff, 9, 7));
    check(100 * INTERVAL, None, scale(0x1d00_ffff, 11, 5)); // silence counts for four intervals at most
    check(10, Some(INTERVAL * 2 / 5), scale(0x1d00_ffff, 7 * INTERVAL + 10, 9 * INTERVAL - 10));
    check(10, Some(INTERVAL * 2 / 5 - 1), scale(0x1d00_ffff, 1, 4));
    let issue = Issue { bits: 0x1d00_ffff, since_ms: 5_000 };
    assert_eq!(pace().after(issue, 0, None), scale(0x1d00_ffff, 7, 9), "a clock that went back");
    assert_eq!(Pace::new(INTERVAL, false).after(issue, 0, Some(0)), 0x1d00_ffff);
}

#[test]
fn silence_eases_faster_and_faster() {
    let mut issues = vec![Issue { bits: 0x1d00_ffff, since_ms: 0 }];
    let mut check = |intervals: u64, factor: Option<u64>| {
        let now = intervals * INTERVAL;
        assert_eq!(pace().ease(&mut issues, now), factor.is_some(), "after {intervals} intervals");
        assert!(!pace().ease(&mut issues, now), "once per step");
        if let Some(factor) = factor {
            assert_eq!(issues.last().unwrap(), &Issue { bits: scale(0x1d00_ffff, factor, 1), since_ms: now });
        }
        pace().next_ease_ms(&issues, now).unwrap() / INTERVAL
    };
    assert_eq!(check(0, None), 4);
    assert_eq!(check(3, None), 4);
    assert_eq!(check(4, Some(2)), 5);
    assert_eq!(check(5, Some(8)), 6);
    assert_eq!(check(7, Some(1024)), 8); // one asks late: two steps at once
    assert_eq!(check(1000, Some(u64::MAX)), 20);
    assert_eq!(check(2000, None), 20); // it is as easy as can be
    assert_eq!(issues.len(), 5);
    let pinned = Pace::new(INTERVAL, false);
    assert!(!pinned.ease(&mut issues[..1].to_vec(), 1000 * INTERVAL));
    assert_eq!(pinned.next_ease_ms(&issues, 0), None);
}

/// Miners and a chain in virtual time. A block cannot come sooner than `LATENCY` after its parent.
struct Simulation {
    rng: Xoshiro256PlusPlus,
    now_ms: u64,
    issues: Vec<Issue>,
    found: Vec<u64>,
}

impl Simulation {
    const LATENCY: u64 = 50;

    fn new(seed: u64) -> Self {
        let bits = bits(Difficulty::new(0.007).unwrap()); // 30 MH: 30 s of 1 MH/s
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self { rng, now_ms: 0, issues: vec![Issue { bits, since_ms: 0 }], found: vec![0] }
    }

    /// Mines one block at `hashrate` hashes a second and returns how long it took, in milliseconds.
    fn block(&mut self, hashrate: f64) -> u64 {
        let start = self.now_ms;
        loop {
            let issue = *self.issues.last().unwrap();
            let uniform: f64 = self.rng.random();
            let seconds = -(1.0 - uniform).ln() * target(issue.bits).work() as f64 / hashrate;
            let solved = self.now_ms.max(start + Self::LATENCY).saturating_add((seconds * 1000.0) as u64);
            let ease = pace().next_ease_ms(&self.issues, self.now_ms).unwrap();
            if solved < ease {
                self.now_ms = solved;
                let four_before = self.found.iter().rev().nth(3).copied();
                let bits = pace().after(issue, solved, four_before);
                self.found.push(solved);
                self.issues = vec![Issue { bits, since_ms: solved }];
                return solved - start;
            }
            self.now_ms = ease;
            pace().ease(&mut self.issues, ease);
        }
    }

    /// Average time of `count` blocks, in intervals.
    fn average(&mut self, hashrate: f64, count: u64) -> f64 {
        let sum: u64 = (0..count).map(|_| self.block(hashrate)).sum();
        sum as f64 / (count * INTERVAL) as f64
    }
}

#[test]
fn keeps_the_interval_whoever_joins_or_leaves() {
    const SEEDS: u64 = 50;
    let mut sum = 0.0;
    for seed in 0..SEEDS {
        let mut chain = Simulation::new(seed);
        let mut check = |what: &str, average: f64| {
            assert!((0.9..1.1).contains(&average), "{what}: {average}");
            sum += average;
        };
        check("1 MH/s", chain.average(1e6, 500));

        // An ASIC of 1 TH/s joins: a million times as much.
        let start = chain.now_ms;
        let storm = (1..).find(|_| chain.block(1e12) > INTERVAL / 2).unwrap();
        assert!(storm <= 24, "{storm} blocks until the storm was over");
        assert!(chain.now_ms - start < 10 * INTERVAL, "the storm took {} ms", chain.now_ms - start);
        chain.average(1e12, 10);
        check("1 TH/s", chain.average(1e12, 500));

        // It leaves.
        let silence = chain.block(1e6);
        assert!(silence < 12 * INTERVAL, "{silence} ms without a block");
        chain.average(1e6, 10);
        check("1 MH/s again", chain.average(1e6, 500));
    }
    let average = sum / (3 * SEEDS) as f64;
    assert!((0.99..1.01).contains(&average), "{average}");
}

proptest! {
    #[test]
    fn stays_within_its_limits(difficulty in 1e-12f64..1e30, times in prop::collection::vec(0u64..10_000_000, 1..50)) {
        let mut issue = Issue { bits: bits(Difficulty::new(difficulty).unwrap()), since_ms: 0 };
        let mut now = 0u64;
        for time in times {
            now += time;
            let mut issues = vec![issue];
            pace().ease(&mut issues, now);
            let bits = pace().after(*issues.last().unwrap(), now, now.checked_sub(10));
            prop_assert!(target(bits) <= target(EASIEST) && target(bits) >= target(HARDEST));
            prop_assert_eq!(target(bits).to_compact(), bits, "canonical");
            issue = Issue { bits, since_ms: now };
        }
    }

    #[test]
    fn scaling_is_exact_to_one_part_in_32768(bits in 0x1200_8000u32..0x1f7f_ffff, factor in 1u64..1 << 40, divisor in 1u64..1 << 40) {
        prop_assume!(bits & 0x0080_0000 == 0 && bits & 0x007f_8000 != 0 && factor / divisor < 4 && divisor / factor < 4);
        let scaled = target(scale(bits, factor, divisor)).difficulty().get();
        let exact = target(bits).difficulty().get() * divisor as f64 / factor as f64;
        prop_assume!(scaled > 1e-9);
        prop_assert!((1.0 - 1e-9..1.0 + 1.0 / 32_000.0).contains(&(scaled / exact)), "{} for {}", scaled, exact);
    }
}
