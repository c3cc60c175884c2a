//! Doing something to many, a little at a time.

use std::ops::Range;

/// Goes round a number of places in a set time, evenly: what would wake a timer per place is one cursor instead.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    period_ms: u64,
    begun_ms: u64,
    done: usize,
}

impl Sweep {
    /// Begins the first round now. `period_ms`: how long a round takes.
    pub fn new(period_ms: u64, now_ms: u64) -> Self {
        Self { period_ms: period_ms.max(1), begun_ms: now_ms, done: 0 }
    }

    /// The places whose turn came since the last call, of `places` in all. `now_ms` never goes back.
    pub fn due(&mut self, places: usize, now_ms: u64) -> Range<usize> {
        let elapsed = now_ms.saturating_sub(self.begun_ms).min(self.period_ms);
        let part = elapsed.saturating_mul(places as u64) / self.period_ms;
        let until = usize::try_from(part).unwrap_or(places).max(self.done);
        let due = self.done..until;
        self.done = until;
        if elapsed == self.period_ms {
            (self.begun_ms, self.done) = (now_ms, 0);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_round_is_even() {
        let mut sweep = Sweep::new(1000, 5_000);
        assert_eq!(sweep.due(10, 5_000), 0..0);
        assert_eq!(sweep.due(10, 5_099), 0..0);
        assert_eq!(sweep.due(10, 5_350), 0..3);
        assert_eq!(sweep.due(20, 5_500), 3..10);
        assert_eq!(sweep.due(8, 5_600), 10..10);
        assert_eq!(sweep.due(20, 7_000), 10..20);
        assert_eq!(sweep.due(20, 7_100), 0..2);
    }

    proptest! {
        #[test]
        fn every_place_has_one_turn_a_round(places in 0usize..50, steps in prop::collection::vec(1u64..400, 1..60)) {
            let (mut sweep, mut now, mut turns) = (Sweep::new(1000, 0), 0, vec![0; places]);
            for step in steps {
                now += step;
                sweep.due(places, now).for_each(|place| turns[place] += 1);
            }
            let (most, least) = (turns.iter().max().unwrap_or(&0), turns.iter().min().unwrap_or(&0));
            prop_assert!(most - least <= 1);
            // A round may begin late by a step, never early.
            prop_assert!(*most as u64 <= now / 1000 + 1 && (places == 0 || *least as u64 >= now / 1400));
        }
    }
}
