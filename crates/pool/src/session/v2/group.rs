//! A group: all channels of a connection that mine the same job, which is said to all of them at once.

use std::{collections::VecDeque, sync::Arc};

use ledger::{Class, Worker};

use crate::board::Work;

/// How many jobs are remembered, the stale ones too, so that a late share is told apart from nonsense.
const JOBS: usize = 64;

/// See the module.
pub(super) struct Group {
    /// One of those whom its coinbase pays.
    pub payee: Arc<Worker>,
    /// Whom it pays, and bytes of the whole extranonce.
    pub key: (Class, usize),
    /// How many channels there are in it.
    pub channels: usize,
    /// Jobs with the number that they count from, the latest last.
    jobs: VecDeque<(u64, Arc<Work>)>,
}

impl Group {
    /// One without a channel.
    pub fn new(key: (Class, usize), payee: Arc<Worker>) -> Self {
        Self { key, payee, channels: 0, jobs: VecDeque::new() }
    }

    /// Bytes of the whole extranonce.
    pub fn size(&self) -> usize {
        self.key.1
    }

    /// The job that it mines now.
    pub fn current(&self) -> Option<(u64, &Arc<Work>)> {
        self.jobs.back().map(|(from, work)| (*from, work))
    }

    /// The job with this id, and from when on it counts.
    pub fn job(&self, id: u32) -> Option<(u64, &Arc<Work>)> {
        self.jobs.iter().rev().find(|(_, work)| work.id == id).map(|(from, work)| (*from, work))
    }

    /// Notes that all of its channels are given `work`.
    pub fn give(&mut self, from: u64, work: Arc<Work>) {
        if self.jobs.len() == JOBS {
            self.jobs.pop_front();
        }
        self.jobs.push_back((from, work));
    }
}
