//! How far the database is behind the spool, for whoever asks while the drain works or waits.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    clock,
    record::Entry,
    spool::{Item, Read},
};

/// How far the database is behind the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// For how long the drain has tried in vain; nothing while what it tries succeeds.
    pub stuck: Option<Duration>,
    /// How old the oldest record is that the database does not have; nothing where it has all, or the drain has not read
    /// any yet.
    pub oldest: Option<Duration>,
}

/// Kept by the drain. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Since when is tried what has not succeeded yet.
    since: Option<Instant>,
    /// The time of the oldest record that was read and is not committed, milliseconds since 1970.
    oldest_ms: Option<u64>,
}

impl Gauge {
    /// Something is tried, maybe for the second time.
    pub fn tries(&self) {
        self.state().since.get_or_insert_with(Instant::now);
    }

    /// `batch` is what is oldest of what the database does not have.
    pub fn has_read(&self, batch: &[Read]) {
        self.state().oldest_ms = batch.iter().find_map(time_ms);
    }

    /// `batch` is in the database; and whether there was more behind it. That is not older than what was.
    pub fn has_written(&self, batch: &[Read], more: bool) {
        let newest = batch.iter().rev().find_map(time_ms);
        let mut state = self.state();
        state.oldest_ms = newest.or(state.oldest_ms).filter(|_| more);
    }

    /// What was tried has succeeded.
    pub fn succeeds(&self) {
        self.state().since = None;
    }

    pub fn lag(&self) -> Lag {
        let now_ms = u64::try_from(clock::now_ms()).unwrap_or_default();
        let state = self.state();
        Lag {
            stuck: state.since.map(|since| since.elapsed()),
            oldest: state.oldest_ms.map(|oldest| Duration::from_millis(now_ms.saturating_sub(oldest))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn time_ms(read: &Read) -> Option<u64> {
    match &read.item {
        Item::Entry(Entry::Share(share)) => Some(share.time_ms),
        Item::Entry(Entry::Rejects(rejects)) => Some(rejects.time_ms),
        Item::Entry(Entry::Found(found)) => Some(found.time_ms),
        _ => None,
    }
}
