//! The chain's own difficulty: a block every interval, whoever mines. Integers only; the time is an argument.
//!
//! Three rules, all on the compact form (`nBits`), so that what is computed is what stands in the header:
//! - after each block the target is multiplied by e^((solve time - interval) / 4 intervals), as ASERT does: half of the
//!   past is forgotten in 2.8 blocks, and the average interval is exact. The power is taken as (8 + x) / (8 - x), where
//!   x counts in intervals: right to 0.1 % for a fast block and to 4 % for one that took four intervals;
//! - four blocks within two fifths of an interval happen by chance once in 1,300 times: somebody much stronger joined,
//!   and the target is quartered instead;
//! - no block for four intervals happens by chance once in 55 times: somebody may have left, and templates ease the
//!   target, at first by 2, an interval later by 4 more, then by 8 more, until a block comes.

use share::{Difficulty, Target};

/// The easiest target: every second hash meets it, as on regtest.
pub const EASIEST: u32 = 0x207f_ffff;

/// The hardest target: 2^128, where [`share::Work`] ends.
const HARDEST: u32 = 0x1101_0000;

/// The intervals of silence after which the target is eased.
const PATIENCE: u64 = 4;

/// The pace that a chain keeps.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    interval_ms: u64,
    /// Without, the bits stay as they are, as on regtest.
    retarget: bool,
}

/// Bits that were handed out for the block after some parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Network target in compact form.
    pub bits: u32,
    /// When they were first handed out, milliseconds since 1970.
    pub since_ms: u64,
}

impl Pace {
    /// An interval of zero counts as a millisecond, one of more than 34 years as these.
    pub fn new(interval_ms: u64, retarget: bool) -> Self {
        Self { interval_ms: interval_ms.clamp(1, 1 << 40), retarget }
    }

    /// The bits for the block after one that was found at `now_ms` on `issue`. `four_before_ms` is when the block four
    /// before it was found, if there is one.
    pub fn after(&self, issue: Issue, now_ms: u64, four_before_ms: Option<u64>) -> u32 {
        if !self.retarget {
            return issue.bits;
        }
        if four_before_ms.is_some_and(|then| now_ms.saturating_sub(then) < self.interval_ms * 2 / 5) {
            return scale(issue.bits, 1, 4);
        }
        let solved = now_ms.saturating_sub(issue.since_ms).min(PATIENCE * self.interval_ms);
        scale(issue.bits, 7 * self.interval_ms + solved, 9 * self.interval_ms - solved)
    }

    /// Eases the target of a parent that has waited too long for its next block: adds to `issues`, what was handed out
    /// so far, and says whether it did. The first of `issues` counts from the parent.
    pub fn ease(&self, issues: &mut Vec<Issue>, now_ms: u64) -> bool {
        let (Some(first), Some(last)) = (issues.first().copied(), issues.last().copied()) else {
            return false;
        };
        let mut bits = first.bits;
        for step in 1..=self.steps(first, now_ms) {
            bits = scale(bits, 1 << step, 1);
        }
        let eased = target(bits) > target(last.bits);
        if eased {
            issues.push(Issue { bits, since_ms: now_ms });
        }
        eased
    }

    /// When the target would next be eased, if no block came.
    pub fn next_ease_ms(&self, issues: &[Issue], now_ms: u64) -> Option<u64> {
        let first = issues.first().filter(|_| self.retarget)?;
        let waited = PATIENCE + self.steps(*first, now_ms);
        Some(first.since_ms.saturating_add(waited.saturating_mul(self.interval_ms)))
    }

    /// How many times the target is eased by `now_ms`. Sixteen times is a factor of 2^136: more than there is.
    fn steps(&self, first: Issue, now_ms: u64) -> u64 {
        let intervals = now_ms.saturating_sub(first.since_ms) / self.interval_ms;
        if self.retarget { (intervals + 1).saturating_sub(PATIENCE).min(16) } else { 0 }
    }
}

/// The bits of a difficulty, within what the chain can have.
pub fn bits(difficulty: Difficulty) -> u32 {
    clamp(difficulty.target().to_compact())
}

/// The target of bits that came out of this module.
pub fn target(bits: u32) -> Target {
    Target::from_compact(bits).unwrap_or(Target::MAX)
}

/// `bits` times `factor` / `divisor`, rounded down to what the compact form can say, and clamped.
fn scale(bits: u32, factor: u64, divisor: u64) -> u32 {
    let (mut size, mantissa) = (bits >> 24, u128::from(bits & 0x007f_ffff));
    // 23 bits of mantissa, 64 of factor: 40 more for the fraction fit into 128 bits.
    let mut mantissa = ((mantissa * u128::from(factor)) << 40) / u128::from(divisor.max(1));
    size = size.saturating_sub(5); // the fraction is five bytes; HARDEST has 17
    while mantissa > 0x007f_ffff {
        mantissa >>= 8;
        size += 1;
    }
    if size > 0x20 { EASIEST } else { clamp(size << 24 | mantissa as u32) }
}

fn clamp(bits: u32) -> u32 {
    let target = target(bits);
    if target > self::target(EASIEST) {
        EASIEST
    } else if target < self::target(HARDEST) {
        HARDEST
    } else {
        bits
    }
}

#[cfg(test)]
mod tests;
