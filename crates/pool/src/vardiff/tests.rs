//! Simulated miners: exponential gaps between shares, a tick every five seconds, a thousand seeds.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;

const MINUTE: u64 = 60_000;
const SEEDS: u64 = 1_000;

fn difficulty(value: f64) -> Difficulty {
    Difficulty::new(value).unwrap()
}

fn config(start: f64) -> VardiffConfig {
    VardiffConfig {
        shares_per_minute: 10.0,
        start: difficulty(start),
        min: difficulty(1e-6),
        max: difficulty(1e12),
    }
}

/// A miner at ten shares a minute if its difficulty were `right`.
struct Miner {
    vardiff: Vardiff,
    rng: SmallRng,
    right: f64,
    now_ms: f64,
    tick_ms: f64,
    shares: u64,
}

impl Miner {
    fn new(seed: u64, start: f64, right: f64) -> Self {
        let (vardiff, rng) = (Vardiff::new(config(start), 0), SmallRng::seed_from_u64(seed));
        Self { vardiff, rng, right, now_ms: 0.0, tick_ms: 5_000.0, shares: 0 }
    }

    /// The next share or tick; whether the difficulty changed.
    fn step(&mut self) -> bool {
        let mean_ms = 6_000.0 * self.vardiff.difficulty().get() / self.right;
        let next = self.now_ms - self.rng.random::<f64>().max(1e-300).ln() * mean_ms;
        if next > self.tick_ms {
            self.now_ms = self.tick_ms;
            self.tick_ms += 5_000.0;
            self.vardiff.tick(self.now_ms as u64)
        } else {
            self.now_ms = next;
            self.shares += 1;
            self.vardiff.share(self.now_ms as u64)
        }
    }

    fn until(&mut self, end_ms: u64) -> &mut Self {
        while self.now_ms < end_ms as f64 {
            self.step();
        }
        self
    }

    /// How far the difficulty is from right: 1 is right.
    fn off(&self) -> f64 {
        let ratio = self.vardiff.difficulty().get() / self.right;
        ratio.max(1.0 / ratio)
    }
}

/// How many of the seeds satisfy `holds`, in percent.
fn percent(holds: impl Fn(u64) -> bool) -> f64 {
    (0..SEEDS).filter(|&seed| holds(seed)).count() as f64 * 100.0 / SEEDS as f64
}

#[test]
fn a_steady_miner_is_left_alone_for_eight_hours() {
    let quiet = percent(|seed| {
        let mut miner = Miner::new(seed, 1_000.0, 1_000.0);
        while miner.now_ms < (8 * 60 * MINUTE) as f64 {
            if miner.step() {
                return false;
            }
        }
        true
    });
    assert!(quiet >= 50.0, "only {quiet} % had no change in eight hours");
}

#[test]
fn a_miner_that_loses_nine_tenths_is_followed() {
    let slower = |seed| {
        let mut miner = Miner::new(seed, 1_000.0, 1_000.0);
        // Wait for a time without a spurious change, then slow down.
        miner.until(20 * MINUTE);
        miner.vardiff = Vardiff::new(config(1_000.0), miner.now_ms as u64);
        miner.until(40 * MINUTE);
        miner.right = miner.vardiff.difficulty().get() / 10.0;
        miner
    };
    let lowered = percent(|seed| {
        let mut miner = slower(seed);
        let before = miner.vardiff.difficulty();
        miner.until(42 * MINUTE).vardiff.difficulty() < before
    });
    let close = percent(|seed| slower(seed).until(44 * MINUTE).off() < 3.0);
    assert!(lowered >= 95.0, "only {lowered} % lowered within two minutes");
    assert!(close >= 95.0, "only {close} % within a factor of three after four");
}

#[test]
fn a_miner_that_starts_far_too_easy_is_caught_up_with() {
    let good = percent(|seed| {
        let mut miner = Miner::new(seed, 1.0, 10_000.0);
        miner.until(MINUTE);
        miner.shares <= 200 && miner.off() <= 1.25
    });
    assert!(good >= 95.0, "only {good} % within a quarter after a minute and 200 shares");
}

#[test]
fn a_miner_that_starts_far_too_hard_soon_has_a_share() {
    let good = percent(|seed| Miner::new(seed, 1_000.0, 10.0).until(3 * MINUTE).shares > 0);
    assert!(good >= 95.0, "only {good} % had a share within three minutes");
}

#[test]
fn a_gain_is_followed_too() {
    let good = percent(|seed| {
        let mut miner = Miner::new(seed, 1_000.0, 1_000.0);
        miner.until(20 * MINUTE);
        miner.right = miner.vardiff.difficulty().get() * 3.0;
        miner.until(23 * MINUTE).off() < 2.0
    });
    assert!(good >= 95.0, "only {good} %");
}

#[test]
fn f33_a_proxy_that_gains_a_thousandfold_is_caught_up_with() {
    let good = percent(|seed| {
        let mut miner = Miner::new(seed, 1_000.0, 1_000.0);
        miner.until(20 * MINUTE);
        miner.right = miner.vardiff.difficulty().get() * 1_000.0;
        let before = miner.shares;
        miner.until(21 * MINUTE).off() <= 1.5 && miner.shares - before <= 300
    });
    assert!(good >= 95.0, "only {good} % within a half after a minute and 300 shares");
}

#[test]
fn f33_long_at_a_bound_does_not_make_deaf() {
    let bounded = |seed| {
        let mut miner = Miner::new(seed, 1_000.0, 1_000.0);
        let config = VardiffConfig { min: difficulty(100.0), max: difficulty(10_000.0), ..config(1_000.0) };
        miner.vardiff = Vardiff::new(config, 0);
        miner
    };
    let raised = percent(|seed| {
        let mut miner = bounded(seed);
        miner.right = 0.001; // all but silent
        let at_min = miner.until(600 * MINUTE).vardiff.difficulty() == difficulty(100.0);
        miner.right = 1_000.0;
        at_min && miner.until(603 * MINUTE).off() < 2.0
    });
    assert!(raised >= 95.0, "only {raised} % raised after ten hours at the least");
    let lowered = percent(|seed| {
        let mut miner = bounded(seed);
        miner.right = 100_000.0;
        let at_max = miner.until(60 * MINUTE).vardiff.difficulty() == difficulty(10_000.0);
        miner.right = 1_000.0;
        at_max && miner.until(64 * MINUTE).off() < 3.0
    });
    assert!(lowered >= 95.0, "only {lowered} % lowered after an hour at the most");
}

#[test]
fn c36_c55_powers_of_two_settle() {
    let good = percent(|seed| {
        let mut miner = Miner::new(seed, 1e6, 3e7);
        miner.vardiff.fit(Needs::of("NiceHash/1.0.0"), 0);
        miner.until(10 * MINUTE);
        let (mut changes, mut is_power) = (0, true);
        while miner.now_ms < (70 * MINUTE) as f64 {
            changes += u32::from(miner.step());
            is_power &= miner.vardiff.difficulty().to_string().parse().is_ok_and(u64::is_power_of_two);
        }
        is_power && changes <= 2 && miner.off() <= 2.0
    });
    assert!(good >= 95.0, "only {good} %");
}

#[test]
fn a_silent_miner_is_eased_without_a_share() {
    let mut vardiff = Vardiff::new(config(1e6), 0);
    let eased = (0..12).filter(|tick| vardiff.tick(tick * 30_000)).count();
    assert!(eased >= 3, "{eased}");
    assert!(vardiff.difficulty().get() < 1e5);
}

#[test]
fn a_clock_that_jumps_back_does_no_harm() {
    let mut vardiff = Vardiff::new(config(1.0), 1_000_000);
    for now in [900_000, 0, 1_000_001, 5] {
        assert!(!vardiff.share(now));
    }
}

#[test]
fn bounds_and_wishes() {
    let mut pinned =
        Vardiff::new(VardiffConfig { min: difficulty(5.0), max: difficulty(5.0), ..config(1.0) }, 0);
    assert_eq!(pinned.difficulty(), difficulty(5.0));
    assert!((0..1000).all(|now| !pinned.share(now)));
    assert!(!pinned.suggest(Some(difficulty(9.0)), Some(difficulty(7.0)), 0));

    let mut floored = Vardiff::new(config(64.0), 0);
    assert!(floored.suggest(Some(difficulty(32.0)), Some(difficulty(16.0)), 0));
    (0..100).for_each(|n| {
        floored.tick(n * MINUTE);
    });
    assert_eq!(floored.difficulty(), difficulty(16.0));
    assert!(floored.network(difficulty(0.5), 0));
    assert_eq!(floored.difficulty(), difficulty(0.5));
    assert!(!floored.suggest(Some(difficulty(2.0)), None, 0));
    assert!(!floored.network(difficulty(8.0), 0));
    assert!(floored.suggest(Some(difficulty(2.0)), Some(difficulty(2.0)), 0));
}

#[test]
fn rounding_prints_short() {
    let check = |value: f64, expect: &str| assert_eq!(round(difficulty(value)).to_string(), expect);
    check(1234.4, "1234");
    check(8.5, "8.5");
    check(1.0 / 3.0, "0.333");
    check(1024.0, "1024");
    check(0.001, "0.001");
    check(0.00123456, "0.00123");
    check(1e12, "1000000000000");
}
