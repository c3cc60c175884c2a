//! Sums that forget.

/// A sum whose parts halve every so often: what was done lately counts, what was done long ago does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fading {
    sum: f64,
    at_ms: u64,
}

impl Fading {
    /// Adds to what is left of the earlier parts; returns the sum.
    pub fn add(&mut self, part: f64, half_life_ms: f64, now_ms: u64) -> f64 {
        self.sum = self.left(half_life_ms, now_ms) + part;
        self.at_ms = now_ms;
        self.sum
    }

    /// What is left of it now.
    pub fn left(&self, half_life_ms: f64, now_ms: u64) -> f64 {
        let elapsed = now_ms.saturating_sub(self.at_ms) as f64;
        self.sum * (-elapsed / half_life_ms.max(1.0)).exp2()
    }

    /// The sum when something was last added.
    pub fn last(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_halve() {
        let mut sum = Fading::default();
        let check = |is: f64, expect: f64| assert!((is - expect).abs() < 1e-9, "{is} is not {expect}");
        check(sum.add(8.0, 1000.0, 5_000), 8.0);
        check(sum.add(1.0, 1000.0, 7_000), 3.0);
        check(sum.left(1000.0, 8_000), 1.5);
        check(sum.last(), 3.0);
        check(sum.add(0.0, 1000.0, 0), 3.0); // a clock that jumps back
    }
}
