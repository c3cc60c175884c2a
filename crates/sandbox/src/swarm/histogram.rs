//! Durations, counted in buckets: bounded in memory however many there are, exact to one part in 64.

use std::time::Duration;

/// Buckets per power of two.
const STEPS: u64 = 64;
/// Powers of two above `STEPS`: up to 2^40 ns, 18 minutes; what is longer counts as that.
const OCTAVES: u64 = 35;

/// How often which duration occurred.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; (STEPS * OCTAVES) as usize].into(), count: 0 }
    }
}

impl Histogram {
    /// Counts `duration`.
    pub fn add(&mut self, duration: Duration) {
        let bucket = bucket(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
        self.counts[bucket.min(self.counts.len() - 1)] += 1;
        self.count += 1;
    }

    /// Counts all that `other` has.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.count += other.count;
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What the given part (0.5: the median) of the durations does not exceed; zero if there are none.
    pub fn percentile(&self, part: f64) -> Duration {
        let rank = ((self.count as f64 * part).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        Duration::from_nanos(found.map_or(0, |bucket| middle(bucket as u64)))
    }
}

/// The bucket of so many nanoseconds: below `STEPS` one each, then `STEPS` for each doubling.
fn bucket(nanos: u64) -> usize {
    let octave = u64::from(nanos.max(1).ilog2()).saturating_sub(u64::from(STEPS.ilog2()));
    (octave * STEPS + (nanos >> octave)) as usize
}

/// The middle of what falls into a bucket, in nanoseconds.
fn middle(bucket: u64) -> u64 {
    let octave = (bucket / STEPS).saturating_sub(1);
    ((bucket - octave * STEPS) << octave) + (1 << octave) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_found_again_within_a_64th() {
        let mut nanos = 1u64;
        while nanos < 1 << 39 {
            let mut histogram = Histogram::default();
            histogram.add(Duration::from_nanos(nanos));
            let found = histogram.percentile(0.5).as_nanos() as f64;
            assert!((found / nanos as f64 - 1.0).abs() <= 1.0 / 64.0, "{nanos} became {found}");
            nanos += nanos / 7 + 1;
        }
    }

    #[test]
    fn percentiles() {
        let check = |histogram: &Histogram, part: f64, expect_us: f64| {
            let found = histogram.percentile(part).as_secs_f64() * 1e6;
            assert!((found - expect_us).abs() <= expect_us / 60.0, "{part}: {found}, not {expect_us}");
        };
        let mut histogram = Histogram::default();
        check(&histogram, 0.5, 0.0);
        (1..=1000).for_each(|us| histogram.add(Duration::from_micros(us)));
        check(&histogram, 0.0, 1.0);
        check(&histogram, 0.5, 500.0);
        check(&histogram, 0.99, 990.0);
        check(&histogram, 1.0, 1000.0);
        let mut both = Histogram::default();
        (0..1000).for_each(|_| both.add(Duration::from_micros(2000)));
        both.merge(&histogram);
        assert_eq!(both.count(), 2000);
        check(&both, 0.25, 500.0);
        check(&both, 0.75, 2000.0);
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::MAX);
        assert!(histogram.percentile(0.5) > Duration::from_secs(1000));
    }
}
