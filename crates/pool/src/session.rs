//! One miner's conversation as a pure state machine: lines or frames and events in, an [`Outcome`] out.
//!
//! A protocol has its own session ([`v1`], [`v2`]); both take their work from the same board, set difficulty by the same
//! rules, and come to an [`Outcome`] of the same kind.

pub mod channel;
mod pace;
mod seen;
pub mod v1;
pub mod v2;

pub(crate) use pace::Pace;
pub use seen::Earned;

use std::sync::Arc;

use ledger::{Found, ShareRecord, Worker};
use share::{Difficulty, Reason};

use crate::{board::Posting, closed::Closed, limited::Limited};

/// So many channels have the limits of one connection beside those of their own.
const MINERS: f64 = 1_000.0;

/// The conversation of a connection, in the protocol that its door is for.
pub enum Session {
    /// Of lines.
    V1(v1::Session),
    /// Of frames.
    V2(v2::Session),
}

impl Session {
    /// What it is called.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::V1(_) => "V1",
            Self::V2(_) => "V2",
        }
    }

    /// What the miner calls itself.
    pub fn agent(&self) -> &Arc<str> {
        match self {
            Self::V1(session) => session.agent(),
            Self::V2(session) => session.agent(),
        }
    }

    /// How many times the limits of one miner are allowed: a proxy speaks for many.
    pub fn breadth(&self) -> f64 {
        match self {
            Self::V1(_) => 1.0,
            Self::V2(session) => 1.0 + session.channels() as f64 / MINERS,
        }
    }

    /// The difficulty in force for all of its workers. In V2 each channel has its own: see [`Outcome::shown`].
    pub fn difficulty(&self) -> Option<Difficulty> {
        match self {
            Self::V1(session) => session.difficulty(),
            Self::V2(_) => None,
        }
    }

    /// Whether a worker was authorized, or a channel opened.
    pub fn is_authorized(&self) -> bool {
        match self {
            Self::V1(session) => session.is_authorized(),
            Self::V2(session) => session.is_authorized(),
        }
    }

    /// Whether what was handed in before may well come again: a miner that goes on with its session cannot know what was
    /// answered to the one before (C-50).
    pub fn may_repeat(&self, now_ms: u64) -> bool {
        match self {
            Self::V1(session) => session.may_repeat(now_ms),
            Self::V2(_) => false,
        }
    }

    /// Whether this session is given work, and does not have that of this posting.
    pub fn lacks(&self, posting: u32) -> bool {
        match self {
            Self::V1(session) => session.lacks(posting),
            Self::V2(session) => session.lacks(posting),
        }
    }

    /// There is new work, or none any more.
    pub fn posted(&mut self, now: Now<'_>, out: &mut Outcome) {
        match self {
            Self::V1(session) => session.posted(now, out),
            Self::V2(session) => session.posted(now, out),
        }
    }

    /// Whether it has more to say than it said at once.
    pub fn has_more(&self) -> bool {
        match self {
            Self::V1(_) => false,
            Self::V2(session) => session.has_more(),
        }
    }

    /// Has it say a little more of that.
    pub fn go_on(&mut self, now: Now<'_>, out: &mut Outcome) {
        if let Self::V2(session) = self {
            session.go_on(now, out);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now<'_>, out: &mut Outcome) {
        match self {
            Self::V1(session) => session.tick(now, out),
            Self::V2(session) => session.tick(now, out),
        }
    }

    /// The session ended.
    pub fn end(self, now_ms: u64) {
        match self {
            Self::V1(session) => session.end(now_ms),
            Self::V2(session) => session.end(now_ms),
        }
    }
}

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
    /// Workers that were authorized, with their index in the session.
    pub authorized: Vec<(usize, Arc<Worker>)>,
    /// Indexes of workers that are there no longer: others may have them from now on.
    pub left: Vec<usize>,
    /// What difficulty a worker has now, by its index: for people to see.
    pub shown: Vec<(usize, Difficulty)>,
    /// Shares to store before `reply` is written.
    pub credits: Vec<Credit>,
    /// Refused submissions: whose, where that is known, and why.
    pub refused: Vec<(Option<usize>, Reason)>,
    /// How much else was asked for that counts against the budget of the connection, as submissions do.
    pub asked: usize,
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
    /// Who found it: named in the spool before `found`, which may be all that this worker ever hands in.
    pub finder: Worker,
    /// For the nodes: serialised with witness.
    pub block: Vec<u8>,
}
