//! What is to be done about a block, seen where it stands. Touches neither clock nor database.

use share::Hash;

use crate::{BlockStatus as State, Standing};

/// A coinbase can be spent at this depth.
const MATURE: u32 = 100;
/// Nobody expects a reorganisation beyond this; then a block is not asked about any more.
const SETTLED: u32 = 144;
/// A candidate that no node knows is given up once the chain is this far past it, and it has been
/// waited for long enough.
const PAST: i64 = 6;

/// A watched block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub id: i64,
    pub hash: Hash,
    pub height: i64,
    pub found_ms: i64,
    pub solo: bool,
    pub reward_msat: i64,
    pub subsidy_msat: i64,
    pub fee_msat: i64,
    pub state: State,
    pub credits: i64,
    pub matured: bool,
    pub confirmations: Option<i64>,
}

/// What is to be done about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It came on chain: credit it.
    Credit,
    /// It came back after it had matured: the reserve gets back what it stood in for.
    Restore,
    /// It is deep enough: its credits become available, or are paid.
    Mature,
    /// It left the chain before anybody was paid: take its credits back.
    Reverse,
    /// It left the chain although it was mature: the reserve stands in.
    Cover,
    /// It never came on chain.
    GiveUp,
    /// It is settled, one way or the other.
    Forget,
}

impl Block {
    /// What `standing` asks for. `height` is the highest block that was mined for.
    pub fn step(&self, standing: Standing, height: i64, waited: bool) -> Option<Step> {
        let past = height - self.height;
        match (self.state, standing) {
            (_, Standing::OnChain(0)) => None,
            (State::Candidate, Standing::OnChain(_)) => Some(Step::Credit),
            (State::Orphaned, Standing::OnChain(_)) if self.matured => Some(Step::Restore),
            (State::Orphaned, Standing::OnChain(_)) => Some(Step::Credit),
            (State::Immature, Standing::OnChain(depth)) if depth >= MATURE => Some(Step::Mature),
            (State::Mature, Standing::OnChain(depth)) if depth >= SETTLED => Some(Step::Forget),
            (State::Immature, Standing::OffChain) => Some(Step::Reverse),
            (State::Mature, Standing::OffChain) if self.solo => Some(Step::Reverse),
            (State::Mature, Standing::OffChain) => Some(Step::Cover),
            // Another block is there instead of it. Nothing was credited, and should it win yet, it will be.
            (State::Candidate, Standing::OffChain) if past > 0 => Some(Step::GiveUp),
            (State::Candidate, Standing::Unknown) if waited && past > PAST => Some(Step::GiveUp),
            (State::Orphaned, Standing::OffChain | Standing::Unknown) if past > i64::from(SETTLED) => {
                Some(Step::Forget)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
