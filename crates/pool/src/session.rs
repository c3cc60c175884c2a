//! One miner's conversation as a pure state machine: lines and events in, an [`Outcome`] out.
//!
//! A protocol has its own session ([`v1`]); what mining itself takes (jobs given, difficulty, judgement of a
//! submission) is the [`channel`], the same for all.

pub mod channel;
pub mod v1;

use std::sync::Arc;

use ledger::{Found, ShareRecord, Worker};
use share::Reason;

use crate::{board::Posting, closed::Closed, limited::Limited};

/// What a session knows of the world at the time of an event.
#[derive(Clone, Copy)]
pub struct Now<'a> {
    /// Milliseconds since 1970.
    pub ms: u64,
    /// The current work; `None` until the first template came.
    pub posting: Option<&'a Arc<Posting>>,
    /// Whether the spool takes shares. If not, none is acknowledged.
    pub storing: bool,
}

/// What events led to. It is carried out in this order: blocks, records, replies.
#[derive(Default)]
pub struct Outcome {
    /// Blocks: for the spool first, then for every node.
    pub solved: Vec<Solution>,
    /// Workers that were authorized, in the order of their index in the session.
    pub authorized: Vec<Arc<Worker>>,
    /// Shares to store before `reply` is written.
    pub credits: Vec<Credit>,
    /// Refused submissions: whose, where that is known, and why.
    pub refused: Vec<(Option<usize>, Reason)>,
    /// What was held back by a limit.
    pub limited: Vec<Limited>,
    /// Bytes for the miner, behind those for others.
    pub reply: Vec<u8>,
    /// Set when the connection is to be closed after `reply`: why.
    pub close: Option<Closed>,
}

/// An accepted share.
#[derive(Clone, Copy, Debug)]
pub struct Credit {
    /// Index of the worker in the session.
    pub worker: usize,
    /// For the spool.
    pub record: ShareRecord,
    /// Difficulty of the hash itself, to show.
    pub hash_difficulty: f64,
}

/// A block.
pub struct Solution {
    /// For the ledger.
    pub found: Found,
    /// For the nodes: serialised with witness.
    pub block: Vec<u8>,
}
