//! Simulated miners: exponential gaps between shares, from seeds.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;

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

/// A miner for whom `right` gives the wanted rate mines for `minutes`; returns when the difficulty changed, and how many
/// shares it sent.
fn mine(
    vardiff: &mut Vardiff,
    rng: &mut SmallRng,
    right: f64,
    from_ms: u64,
    minutes: u64,
) -> (Vec<u64>, u64) {
    let (mut now, mut tick, mut changes, mut shares) = (from_ms as f64, from_ms + 5_000, Vec::new(), 0);
    let end = from_ms + minutes * 60_000;
    loop {
        let mean_ms = 6_000.0 * vardiff.difficulty().get() / right;
        let next = now - rng.random::<f64>().max(1e-12).ln() * mean_ms;
        let changed = if next > tick as f64 {
            now = tick as f64;
            tick += 5_000;
            vardiff.tick(now as u64)
        } else {
            now = next;
            shares += 1;
            vardiff.share(now as u64)
        };
        if now as u64 > end {
            return (changes, shares);
        }
        if changed {
            changes.push(now as u64);
        }
    }
}

/// How many of 200 seeds satisfy `holds`, in percent.
fn percent(holds: impl Fn(&mut SmallRng) -> bool) -> usize {
    (0..200).filter(|&seed| holds(&mut SmallRng::seed_from_u64(seed))).count() / 2
}

#[test]
fn a_steady_miner_is_left_alone_for_hours() {
    let quiet = percent(|rng| mine(&mut Vardiff::new(config(1000.0), 0), rng, 1000.0, 0, 120).0.is_empty());
    assert!(quiet >= 75, "only {quiet} % of miners had no change in two hours");
}

#[test]
fn a_fast_miner_is_caught_up_with() {
    let good = percent(|rng| {
        let mut vardiff = Vardiff::new(config(1.0), 0);
        let (_, shares) = mine(&mut vardiff, rng, 10_000.0, 0, 2);
        shares < 300 && (0.5..2.0).contains(&(vardiff.difficulty().get() / 10_000.0))
    });
    assert!(good >= 80, "only {good} %");
}

#[test]
fn a_miner_that_slows_down_is_followed() {
    let good = percent(|rng| {
        let mut vardiff = Vardiff::new(config(1000.0), 0);
        mine(&mut vardiff, rng, 1000.0, 0, 30);
        mine(&mut vardiff, rng, 100.0, 30 * 60_000, 10);
        (0.3..3.0).contains(&(vardiff.difficulty().get() / 100.0))
    });
    assert!(good >= 80, "only {good} %");
}

#[test]
fn a_silent_miner_is_eased_without_a_share() {
    let mut vardiff = Vardiff::new(config(1e6), 0);
    let eased = (0..12).filter(|tick| vardiff.tick(tick * 30_000)).count();
    assert!(eased >= 3, "{eased}");
    assert!(vardiff.difficulty().get() < 1e5);
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
        floored.tick(n * 60_000);
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
