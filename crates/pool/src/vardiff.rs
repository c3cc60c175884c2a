//! Difficulty that follows a miner's speed without chasing noise.
//!
//! Shares of a steady miner are a Poisson process. After n shares in time T, where e = T x wanted rate were expected,
//! the likelihood ratio of "the rate is n/T" against "the rate is as wanted" has the logarithm n ln(n/e) - (n - e).
//! The difficulty is changed only when that evidence is strong; few shares of a very fast miner suffice, and silence
//! is evidence too. It is weighed at every share and every tick, so the bar is far above that of a single test.

use share::Difficulty;

use crate::VardiffConfig;

/// How much evidence it takes, as the logarithm of a likelihood ratio.
const EVIDENCE: f64 = 8.0;
/// So few shares never raise the difficulty: one that came early says little about the rate.
const FEW: f64 = 8.0;
/// A change by less than this factor is not worth a new job.
const WORTHWHILE: f64 = 1.25;
/// The factor by which silence lowers the difficulty.
const SILENCE: f64 = 4.0;
/// After this many expected shares older ones count half: a miner's speed of long ago is no evidence.
const MEMORY: f64 = 40.0;

/// The difficulty of one session.
#[derive(Clone, Copy, Debug)]
pub struct Vardiff {
    config: VardiffConfig,
    floor: Difficulty,
    ceiling: Difficulty,
    difficulty: Difficulty,
    /// Start of the observation, in milliseconds of the caller's clock.
    since_ms: u64,
    shares: f64,
}

impl Vardiff {
    /// Starts at the configured difficulty.
    pub fn new(config: VardiffConfig, now_ms: u64) -> Self {
        let start = clamp(config.start, config.min, config.max);
        let (floor, ceiling) = (config.min, config.max);
        Self { config, floor, ceiling, difficulty: start, since_ms: now_ms, shares: 0.0 }
    }

    /// The difficulty in force.
    pub fn difficulty(&self) -> Difficulty {
        self.difficulty
    }

    /// The miner asks to start at `start` and not to go below `floor`; both are held within the configured bounds.
    /// Returns whether the difficulty changed.
    pub fn suggest(&mut self, start: Option<Difficulty>, floor: Option<Difficulty>, now_ms: u64) -> bool {
        if let Some(floor) = floor {
            self.floor = clamp(floor, self.config.min, self.config.max);
        }
        self.set(self.held(start.unwrap_or(self.difficulty)), now_ms)
    }

    /// One share at the difficulty in force was accepted. Returns whether the difficulty changed.
    pub fn share(&mut self, now_ms: u64) -> bool {
        self.shares += 1.0;
        self.weigh(now_ms)
    }

    /// Time has passed. Returns whether the difficulty changed.
    pub fn tick(&mut self, now_ms: u64) -> bool {
        self.weigh(now_ms)
    }

    /// The network difficulty is `network`: a share above it would be harder to find than a block, so this is the
    /// most that is asked (but never less than the configured minimum). Returns whether the difficulty changed.
    pub fn network(&mut self, network: Difficulty, now_ms: u64) -> bool {
        self.ceiling = clamp(network, self.config.min, self.config.max);
        self.difficulty > self.ceiling && self.set(self.ceiling, now_ms)
    }

    fn held(&self, difficulty: Difficulty) -> Difficulty {
        clamp(clamp(difficulty, self.floor, self.config.max), self.config.min, self.ceiling)
    }

    fn weigh(&mut self, now_ms: u64) -> bool {
        let minutes = now_ms.saturating_sub(self.since_ms) as f64 / 60_000.0;
        let expected = (minutes * self.config.shares_per_minute).max(1e-9);
        let evidence = match self.shares {
            n if n > 0.0 => n * (n / expected).ln() - (n - expected),
            _ => expected,
        };
        let too_few = self.shares > expected && self.shares < FEW;
        if evidence > EVIDENCE && !too_few {
            // The last share ends the observation if it triggered this, so it does not count towards the rate.
            let factor = if self.shares > 1.0 { (self.shares - 1.0) / expected } else { 1.0 / SILENCE };
            let aim = Difficulty::new(self.difficulty.get() * factor).unwrap_or(self.difficulty);
            let aim = self.held(round(aim));
            let change = aim.get() / self.difficulty.get();
            if !(1.0 / WORTHWHILE..=WORTHWHILE).contains(&change) {
                return self.set(aim, now_ms);
            }
        }
        if expected > MEMORY {
            self.since_ms = now_ms - now_ms.saturating_sub(self.since_ms) / 2;
            self.shares /= 2.0;
        }
        false
    }

    fn set(&mut self, difficulty: Difficulty, now_ms: u64) -> bool {
        let changed = difficulty != self.difficulty;
        if changed {
            (self.difficulty, self.since_ms, self.shares) = (difficulty, now_ms, 0.0);
        }
        changed
    }
}

fn clamp(value: Difficulty, min: Difficulty, max: Difficulty) -> Difficulty {
    if value < min {
        min
    } else if value > max {
        max
    } else {
        value
    }
}

/// To an integer, or below 100 to three digits, so that it prints short.
fn round(value: Difficulty) -> Difficulty {
    let digits = (2.0 - value.get().log10().floor()).max(0.0);
    let scale = 10f64.powf(digits);
    Difficulty::new((value.get() * scale).round() / scale).unwrap_or(value)
}

#[cfg(test)]
mod tests;
