//! How new work reaches all connections of a shard.
//!
//! A new tip goes to everybody at once, to those who do most work first: until they have it their work is lost. Newer
//! work on the same tip is worth little to each and as much traffic in all, so it is dealt out evenly over the interval.

use std::sync::Arc;

use super::Shard;
use crate::{board::Posting, sweep::Sweep};

/// Connections that are sent a new tip before others are served again.
const AT_ONCE: usize = 256;
/// Of these, so many are written together.
const TOGETHER: usize = 8;

/// The current work of a shard, and who has yet to be sent it.
pub(super) struct Fanout {
    posting: Option<Arc<Posting>>,
    /// Who is to have it at once: the last first.
    urgent: Vec<usize>,
    refresh: Sweep,
}

impl Fanout {
    /// `round_ms`: in this time everybody is sent newer work once.
    pub fn new(round_ms: u64, now_ms: u64) -> Self {
        Self { posting: None, urgent: Vec::new(), refresh: Sweep::new(round_ms, now_ms) }
    }

    /// The current work.
    pub fn posting(&self) -> Option<&Arc<Posting>> {
        self.posting.as_ref()
    }

    /// Whether there is somebody who is to have the current work at once.
    pub fn is_under_way(&self) -> bool {
        !self.urgent.is_empty()
    }
}

impl Shard {
    /// Sends new work to those whose turn it is.
    pub(super) fn fan_out(&mut self) {
        if self.house.postings.has_changed().unwrap_or(false) {
            self.fanout.posting = self.house.postings.borrow_and_update().clone();
            if self.fanout.posting.as_ref().is_some_and(|posting| posting.is_urgent) {
                self.fanout.urgent = self.by_speed();
            }
        }
        let rest = self.fanout.urgent.len().saturating_sub(AT_ONCE);
        let now = self.fanout.urgent.split_off(rest);
        for together in now.rchunks(TOGETHER) {
            together.iter().rev().for_each(|&index| self.refresh(index));
            self.settle();
        }
        for index in self.fanout.refresh.due(self.places, self.now.ms) {
            self.refresh(index);
        }
        self.settle();
    }

    /// Sends the current work to one that does not have it.
    fn refresh(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let id = self.fanout.posting.as_ref().map(|posting| posting.id);
        if !id.is_some_and(|id| connection.session.lacks(id)) {
            return;
        }
        if connection.is_blocked() {
            connection.is_owed = true;
            return;
        }
        self.hear(index, |connection, now, out| connection.session.posted(now, out));
    }

    /// All connections, the fastest last.
    pub(super) fn by_speed(&self) -> Vec<usize> {
        let ms = self.now.ms;
        let mut speeds: Vec<(f64, usize)> =
            self.connections.iter().map(|(index, connection)| (connection.speed(ms), index)).collect();
        speeds.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        speeds.into_iter().map(|(_, index)| index).collect()
    }
}
