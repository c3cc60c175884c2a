//! A group: all channels of a connection that mine the same job, which is said to all of them at once.

use std::{collections::VecDeque, sync::Arc};

use ledger::{Class, Worker};

use crate::board::Work;

/// See the module.
pub(super) struct Group {
    /// One of those whom its coinbase pays.
    pub payee: Arc<Worker>,
    /// Whom it pays, and bytes of the whole extranonce.
    pub key: (Class, usize),
    /// The channels in it. Ids only ever grow, so it is sorted.
    members: Vec<u32>,
    /// The posting that its latest job is of.
    posting: Option<u32>,
    /// Jobs with the number that they count from, the latest last.
    jobs: VecDeque<(u64, Arc<Work>)>,
}

impl Group {
    /// One without a channel.
    pub fn new(key: (Class, usize), payee: Arc<Worker>) -> Self {
        Self { payee, key, members: Vec::new(), posting: None, jobs: VecDeque::new() }
    }

    /// A channel begins, whose id is later than all others.
    pub fn add(&mut self, channel: u32) {
        self.members.push(channel);
    }

    /// A channel has ended.
    pub fn remove(&mut self, channel: u32) {
        if let Ok(at) = self.members.binary_search(&channel) {
            self.members.remove(at);
        }
    }

    /// Whether there is no channel in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The channels in it, the last first: so taking one away moves no other.
    pub fn members(&self) -> impl Iterator<Item = u32> + '_ {
        self.members.iter().rev().copied()
    }

    /// The posting that its latest job is of.
    pub fn posting(&self) -> Option<u32> {
        self.posting
    }

    /// Whether its latest job is of this posting.
    pub fn has(&self, posting: u32) -> bool {
        self.posting == Some(posting)
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

    /// Notes that all of its channels are given `work`, which is of `posting`.
    pub fn give(&mut self, from: u64, work: Arc<Work>, posting: u32) {
        self.posting = Some(posting);
        while self.jobs.len() >= work.remembered() {
            self.jobs.pop_front();
        }
        self.jobs.push_back((from, work));
    }
}
