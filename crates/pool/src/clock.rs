//! The time, as it is once per turn of a shard's loop.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Milliseconds since 1970, by which shares are dated. An operator may set this clock, which is noticed within
    /// [`CHECK_MS`].
    pub unix_ms: u64,
    /// Milliseconds since the shard began. This clock never goes back: what waits for a time waits by it.
    pub ms: u64,
}

/// How long the two clocks are taken to go alike, in milliseconds: a turn reads one of them.
const CHECK_MS: u64 = 100;

/// The clock of a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    begun: Instant,
    /// What the other clock showed when this one began; modulo 2^64.
    begun_unix_ms: u64,
    /// When that is looked at again.
    check_ms: u64,
}

impl Clock {
    /// A clock that begins now.
    pub fn new() -> Self {
        Self { begun: Instant::now(), begun_unix_ms: unix_ms(), check_ms: 0 }
    }

    /// Now.
    pub fn now(&mut self) -> Moment {
        let ms = millis(self.begun.elapsed());
        if ms >= self.check_ms {
            self.begun_unix_ms = unix_ms().wrapping_sub(ms);
            self.check_ms = ms.saturating_add(CHECK_MS);
        }
        Moment { unix_ms: self.begun_unix_ms.wrapping_add(ms), ms }
    }
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A time in milliseconds, the longest possible if it is longer.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_are_followed() {
        let mut clock = Clock::new();
        let mut before = clock.now();
        for _ in 0..30 {
            std::thread::sleep(Duration::from_millis(7));
            let (from, now, to) = (unix_ms(), clock.now(), unix_ms());
            assert!(now.ms >= before.ms + 7, "{before:?} {now:?}");
            // One rounds down a little earlier than the other.
            assert!((from - 2..=to + 2).contains(&now.unix_ms), "{from} {now:?} {to}");
            before = now;
        }
    }

    #[test]
    fn a_clock_that_was_set_is_followed_soon() {
        let check = |set_by: u64| {
            let mut clock = Clock::new();
            clock.now();
            clock.begun_unix_ms = clock.begun_unix_ms.wrapping_add(set_by);
            std::thread::sleep(Duration::from_millis(CHECK_MS + 1));
            let (from, now, to) = (unix_ms(), clock.now(), unix_ms());
            assert!((from - 2..=to + 2).contains(&now.unix_ms), "{from} {now:?} {to}");
        };
        check(5_000);
        check(5_000u64.wrapping_neg());
        check((unix_ms() + 5_000).wrapping_neg()); // it was before 1970
    }
}
