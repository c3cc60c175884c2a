//! What came of mining.

use super::work::Share;

/// Counts of one connection.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Shares sent.
    pub sent: u64,
    /// Shares that the pool said yes to.
    pub acknowledged: u64,
    /// Sum of the difficulties of these.
    pub difficulty: f64,
    /// Shares refused with code 21.
    pub stale: u64,
    /// Everything else that was refused: code, text and the share.
    pub rejects: Vec<String>,
    /// Hashes of shares that are blocks too, as people read them: sent.
    pub blocks_sent: Vec<String>,
    /// The same: acknowledged.
    pub blocks: Vec<String>,
    /// Hashes of all shares that the pool said yes to, as people read them.
    pub hashes: Vec<String>,
    /// How many jobs came.
    pub jobs: u64,
    /// How many difficulties came.
    pub retargets: u64,
    /// Shares of a job that another one on the same block had come after.
    pub late: u64,
}

impl Tally {
    pub(super) fn acknowledge(&mut self, share: Share) {
        self.acknowledged += 1;
        self.difficulty += share.difficulty;
        if share.is_block {
            self.blocks.push(share.hash.clone());
        }
        self.hashes.push(share.hash);
    }

    /// Panics if anything was refused that did not merely come too late.
    pub fn must_be_clean(&self) {
        assert!(self.rejects.is_empty(), "refused: {:#?}", self.rejects);
        assert!(self.stale <= 2 + self.jobs, "{} stale shares on {} jobs", self.stale, self.jobs);
    }
}
