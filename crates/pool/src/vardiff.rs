//! Difficulty that follows a miner's speed without chasing noise.
//!
//! Shares of a steady miner are a Poisson process, so their number in any stretch of time says little, and a test that
//! is repeated at every share and every tick will sooner or later call noise a change. What is weighed here is the
//! evidence of a sequential test instead (Page's CUSUM): for a few suspicions "the rate is r times as wanted" the
//! logarithm of the likelihood ratio against "it is as wanted" is added up, n ln r - (r - 1) e over n shares where e
//! were expected, and starts over whenever it falls below zero. The bars are set by simulation, see the tests: at ten
//! shares a minute a steady miner is left alone for eight hours (median), and one that loses nine tenths of its speed
//! is noticed within two minutes.

use share::Difficulty;

use crate::{VardiffConfig, agent::Needs};

/// The suspicions: how many times the wanted rate, and how much evidence it takes to act on it.
const SUSPICIONS: [(f64, f64); 4] = [(0.1, 8.3), (0.5, 10.0), (2.0, 10.0), (8.0, 11.0)];
/// A change by less than this factor is not worth a new job.
const WORTHWHILE: f64 = 1.25;
/// Before the difficulty is raised, so many shares are counted, for an estimate good to a tenth …
const COUNTED: f64 = 100.0;
/// … or for so long, in milliseconds.
const COUNTED_MS: u64 = 30_000;

/// The most that is asked of who did not name more itself, 2^31 - 1: some firmware reads no larger number (C-36).
const WIDE: f64 = 2_147_483_647.0;

/// The difficulty of one session.
#[derive(Clone, Copy, Debug)]
pub struct Vardiff {
    config: VardiffConfig,
    floor: Difficulty,
    ceiling: Difficulty,
    difficulty: Difficulty,
    needs: &'static Needs,
    /// The miner knows numbers above [`WIDE`].
    is_wide: bool,
    /// The difficulty in force when the last share at it was accepted.
    proven: Option<Difficulty>,
    /// The time up to which the evidence is weighed, in milliseconds of the caller's clock.
    weighed_ms: u64,
    suspicions: [Suspicion; SUSPICIONS.len()],
}

/// What speaks for one rate, since it began to.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    evidence: f64,
    shares: f64,
    since_ms: u64,
}

impl Vardiff {
    /// Starts at the configured difficulty.
    pub fn new(config: VardiffConfig, now_ms: u64) -> Self {
        let difficulty = clamp(config.start, config.min, config.max);
        let (floor, ceiling) = (config.min, config.max);
        Self {
            config,
            floor,
            ceiling,
            difficulty,
            needs: Needs::of(""),
            is_wide: false,
            proven: None,
            weighed_ms: now_ms,
            suspicions: [Suspicion::none(now_ms); SUSPICIONS.len()],
        }
    }

    /// The same for one that reads a number of any size.
    pub fn wide(self) -> Self {
        Self { is_wide: true, ..self }
    }

    /// The miner turned out to need this. Returns whether the difficulty changed.
    pub fn fit(&mut self, needs: &'static Needs, now_ms: u64) -> bool {
        self.needs = needs;
        self.set(self.held(self.difficulty), now_ms)
    }

    /// The difficulty in force.
    pub fn difficulty(&self) -> Difficulty {
        self.difficulty
    }

    /// The last difficulty in force at which a share was accepted: what the miner has shown that it can do.
    pub fn proven(&self) -> Option<Difficulty> {
        self.proven
    }

    /// The miner asks to start at `start` and not to go below `floor`; both are held within the configured bounds.
    /// Returns whether the difficulty changed.
    pub fn suggest(&mut self, start: Option<Difficulty>, floor: Option<Difficulty>, now_ms: u64) -> bool {
        let is_wide = |named: Option<Difficulty>| named.is_some_and(|named| named.get() > WIDE);
        self.is_wide |= is_wide(start) || is_wide(floor);
        if let Some(floor) = floor {
            self.floor = clamp(floor, self.config.min, self.config.max);
        }
        self.set(self.held(start.unwrap_or(self.difficulty)), now_ms)
    }

    /// One share at the difficulty in force was accepted. Returns whether the difficulty changed.
    pub fn share(&mut self, now_ms: u64) -> bool {
        self.proven = Some(self.difficulty);
        self.weigh(1.0, now_ms)
    }

    /// Time has passed. Returns whether the difficulty changed.
    pub fn tick(&mut self, now_ms: u64) -> bool {
        self.weigh(0.0, now_ms)
    }

    /// The network difficulty is `network`: a share above it would be harder to find than a block, so this is the
    /// most that is asked (but never less than the configured minimum). Returns whether the difficulty changed.
    pub fn network(&mut self, network: Difficulty, now_ms: u64) -> bool {
        self.ceiling = clamp(network, self.config.min, self.config.max);
        self.difficulty > self.ceiling && self.set(self.held(self.ceiling), now_ms)
    }

    fn held(&self, difficulty: Difficulty) -> Difficulty {
        let wide = Difficulty::new(WIDE).filter(|_| !self.is_wide).unwrap_or(self.config.max);
        let ceiling = clamp(wide, self.config.min, self.ceiling);
        self.needs.held(difficulty, self.floor, ceiling)
    }

    fn weigh(&mut self, shares: f64, now_ms: u64) -> bool {
        let expected = self.expected(now_ms.saturating_sub(self.weighed_ms));
        self.weighed_ms = now_ms.max(self.weighed_ms);
        // Of those that are strong enough the strongest: it is nearest to the truth, and knows best since when.
        let mut strongest: Option<usize> = None;
        for (at, (ratio, bar)) in SUSPICIONS.into_iter().enumerate() {
            let evidence = self.suspicions[at].weigh(ratio, expected, shares, now_ms);
            let is_strongest = strongest.is_none_or(|other| evidence > self.suspicions[other].evidence);
            if evidence >= bar && is_strongest {
                strongest = Some(at);
            }
        }
        let Some(at) = strongest else { return false };
        let suspicion = self.suspicions[at];
        let elapsed = now_ms.saturating_sub(suspicion.since_ms);
        let expected = self.expected(elapsed).max(1e-9);
        let is_faster = suspicion.shares > expected;
        if is_faster && suspicion.shares < COUNTED && elapsed < COUNTED_MS {
            return false;
        }
        // An observation that a share ended counts one too many; one that silence ended, one too few.
        let factor = if is_faster { suspicion.shares - 1.0 } else { suspicion.shares + 1.0 } / expected;
        let aim = Difficulty::new(self.difficulty.get() * factor).unwrap_or(self.difficulty);
        let aim = self.held(round(aim));
        let change = aim.get() / self.difficulty.get();
        if (1.0 / WORTHWHILE..=WORTHWHILE).contains(&change) {
            // Nothing follows, mostly since there is a bound. Evidence that went on growing there would outweigh all
            // that comes after it.
            self.suspicions[at] = Suspicion::none(now_ms);
            return false;
        }
        self.set(aim, now_ms)
    }

    /// How many shares were wanted in a stretch of time.
    fn expected(&self, elapsed_ms: u64) -> f64 {
        elapsed_ms as f64 / 60_000.0 * self.config.shares_per_minute
    }

    fn set(&mut self, difficulty: Difficulty, now_ms: u64) -> bool {
        let changed = difficulty != self.difficulty;
        if changed {
            self.difficulty = difficulty;
            self.weighed_ms = now_ms;
            self.suspicions = [Suspicion::none(now_ms); SUSPICIONS.len()];
        }
        changed
    }
}

impl Suspicion {
    fn none(now_ms: u64) -> Self {
        Self { evidence: 0.0, shares: 0.0, since_ms: now_ms }
    }

    /// Adds what was seen since the last time; returns the evidence that there is.
    fn weigh(&mut self, ratio: f64, expected: f64, shares: f64, now_ms: u64) -> f64 {
        self.evidence += shares * ratio.ln() - (ratio - 1.0) * expected;
        self.shares += shares;
        if self.evidence <= 0.0 {
            *self = Self::none(now_ms);
        }
        self.evidence
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
