//! Lines out of chunks, for all targets.

use stratum::v1::{Lines, TooLong};

/// The lines of a stream that arrives in chunks.
pub struct Cutter(Lines);

impl Cutter {
    /// `limit`: the longest line, in bytes.
    pub fn new(limit: usize) -> Self {
        Self(Lines::new(limit))
    }

    /// Hands over the lines that `chunk` completes, until `each` has enough. What is kept is bounded.
    pub fn arrive(&mut self, mut chunk: &[u8], mut each: impl FnMut(&[u8]) -> bool) -> Result<(), TooLong> {
        while let Some(line) = self.0.next(&mut chunk)? {
            if !each(line) {
                break;
            }
        }
        Ok(())
    }
}
