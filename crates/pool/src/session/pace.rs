//! How fast jobs may follow each other.

/// Holds jobs for one and the same block to one a second, after the first few.
#[derive(Default)]
pub(crate) struct Pace {
    /// When all that were sent would have been, at one a second.
    spent_ms: u64,
}

impl Pace {
    /// Whether a job may be sent, which is then counted. What is the first or for a new block goes out in any case.
    pub(crate) fn allows(&mut self, in_any_case: bool, at_once: u64, now_ms: u64) -> bool {
        let bound = now_ms.saturating_add(1_000 * at_once);
        let has_jumped = self.spent_ms > bound.saturating_add(1_000); // the clock, back
        let spent =
            if has_jumped { now_ms } else { self.spent_ms.clamp(now_ms, bound) }.saturating_add(1_000);
        let is_allowed = in_any_case || spent <= bound;
        if is_allowed {
            self.spent_ms = spent;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_then_one_a_second() {
        let mut pace = Pace::default();
        let mut sent = |from_ms: u64, to_ms: u64| {
            (from_ms..to_ms).step_by(10).filter(|&now| pace.allows(false, 3, now)).count()
        };
        assert_eq!(sent(0, 10), 1);
        assert_eq!(sent(10, 1_000), 2);
        assert_eq!(sent(1_000, 11_000), 10);
        assert_eq!(sent(100_000, 100_050), 3, "after a pause a few again");
        assert_eq!(sent(500, 1_500), 3, "a clock that jumps back stops nothing");
    }

    #[test]
    fn a_new_block_waits_for_nothing_but_counts() {
        let mut pace = Pace::default();
        assert!((0..20).all(|now| pace.allows(true, 1, now)));
        assert!(!pace.allows(false, 1, 1_000));
        assert!(pace.allows(false, 1, 3_000));
    }
}
