//! What a swarm counts, over all its connections.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Histogram, Spread};

/// Different reasons that are kept; what is refused for another one is counted as such.
const MAX_REASONS: usize = 16;

/// Counts, shared by all connections.
pub struct Score {
    epoch: Instant,
    answers: Mutex<Answers>,
    /// Connections that the pool closed.
    pub lost: AtomicUsize,
    /// When a new block's job reached each connection: nanoseconds since the epoch, 0 for not yet.
    arrivals: Box<[AtomicU64]>,
    arrived: AtomicUsize,
}

/// Answers to submissions.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Shares that were accepted.
    pub accepted: u64,
    /// Shares that were refused.
    pub rejected: u64,
    /// Why, with how often.
    pub reasons: BTreeMap<String, u64>,
    /// From sending to the reply, of either kind.
    pub latency: Histogram,
}

impl Score {
    /// For up to `most` connections.
    pub fn new(most: usize) -> Self {
        let arrivals = (0..most).map(|_| AtomicU64::new(0)).collect();
        Self {
            epoch: Instant::now(),
            answers: Mutex::default(),
            lost: AtomicUsize::new(0),
            arrivals,
            arrived: AtomicUsize::new(0),
        }
    }

    /// A submission was answered, after so long, and perhaps refused for this reason.
    pub fn answered(&self, latency: Option<Duration>, refused: Option<String>) {
        let mut answers = self.answers();
        if let Some(latency) = latency {
            answers.latency.add(latency);
        }
        let Some(mut reason) = refused else {
            answers.accepted += 1;
            return;
        };
        answers.rejected += 1;
        if answers.reasons.len() >= MAX_REASONS && !answers.reasons.contains_key(&reason) {
            reason = "other reasons".into();
        }
        *answers.reasons.entry(reason).or_default() += 1;
    }

    /// Takes out the answers so far.
    pub fn take(&self) -> Answers {
        std::mem::take(&mut *self.answers())
    }

    /// A job that ends all earlier ones reached a connection.
    pub fn arrived(&self, index: usize, at: Instant) {
        let nanos = at.saturating_duration_since(self.epoch).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).max(1);
        let Some(arrival) = self.arrivals.get(index) else { return };
        if arrival.compare_exchange(0, nanos, Relaxed, Relaxed).is_ok() {
            self.arrived.fetch_add(1, Relaxed);
        }
    }

    /// Forgets which connections a new block has reached.
    pub fn expect_block(&self) {
        self.arrivals.iter().for_each(|arrival| arrival.store(0, Relaxed));
        self.arrived.store(0, Relaxed);
    }

    /// How many connections a new block has reached.
    pub fn reached(&self) -> usize {
        self.arrived.load(Relaxed)
    }

    /// How the new block came to the first `connections`.
    pub fn spread(&self, connections: usize) -> Spread {
        let arrivals = self.arrivals.iter().take(connections);
        Spread::of(&arrivals.map(|arrival| arrival.load(Relaxed)).collect::<Vec<_>>())
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
