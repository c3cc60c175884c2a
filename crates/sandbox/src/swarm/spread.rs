//! How a new block's job spreads over the connections.

use std::time::Duration;

use super::{HEAVY, HEAVY_EVERY};

/// When a new block's job reached whom, counted from whoever had it first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Connections that it reached.
    pub reached: usize,
    /// When the last had it.
    pub last: Duration,
    /// When those who had it first were half of the hashrate, where a tenth of the connections hold nine tenths.
    pub half: Duration,
}

impl Spread {
    /// Of arrivals by index of the connection; 0: it did not arrive. In nanoseconds of any clock.
    pub(super) fn of(arrivals: &[u64]) -> Self {
        let heavy = arrivals.len().div_ceil(HEAVY_EVERY).max(1);
        let light = arrivals.len().saturating_sub(heavy).max(1);
        let weight = |index: usize| match index % HEAVY_EVERY {
            0 => HEAVY / heavy as f64,
            _ => (1.0 - HEAVY) / light as f64,
        };
        let mut order: Vec<(u64, f64)> =
            arrivals.iter().enumerate().map(|(i, &at)| (at, weight(i))).collect();
        let all: f64 = order.iter().map(|(_, weight)| weight).sum();
        order.retain(|(at, _)| *at > 0);
        order.sort_by_key(|(at, _)| *at);
        let (Some(first), Some(last)) = (order.first(), order.last()) else { return Self::default() };
        let since = |at: u64| Duration::from_nanos(at - first.0);
        let mut served = 0.0;
        let half = order.iter().find(|(_, weight)| {
            served += weight;
            served >= all / 2.0
        });
        Self { reached: order.len(), last: since(last.0), half: since(half.unwrap_or(last).0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrivals: &[u64], reached: usize, last: u64, half: u64) {
        let nanos = Duration::from_nanos;
        let expect = Spread { reached, last: nanos(last), half: nanos(half) };
        assert_eq!(Spread::of(arrivals), expect, "{arrivals:?}");
    }

    #[test]
    fn spreads() {
        check(&[], 0, 0, 0);
        check(&[0, 0], 0, 0, 0);
        check(&[7], 1, 0, 0);
        // One of ten holds nine tenths: half is served when it is.
        check(&[1005, 1001, 1002, 1003, 1004, 1006, 1007, 1008, 1009, 1010], 10, 9, 4);
        check(&[1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010], 10, 9, 0);
        check(&[0, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010], 9, 8, 8);
    }

    #[test]
    fn in_order_of_connecting_half_of_the_hashrate_takes_half_of_the_time() {
        let arrivals: Vec<u64> = (0..1000).map(|i| 1 + i).collect();
        let spread = Spread::of(&arrivals);
        assert!((490..=510).contains(&spread.half.as_nanos()), "{spread:?}");
    }
}
