//! The time, read once per turn of a shard's loop.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Milliseconds since 1970, by which shares are dated. An operator may set this clock back.
    pub unix_ms: u64,
    /// Milliseconds since the shard began. This clock never goes back: what waits for a time waits by it.
    pub ms: u64,
}

impl Moment {
    /// Now. `begun`: when the shard began.
    pub fn now(begun: Instant) -> Self {
        Self { unix_ms: unix_ms(), ms: millis(begun.elapsed()) }
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
