//! The hashrate of the last hours, for the charts. Kept in memory only, and bounded: after a restart it begins anew.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use pool::Snapshot;
use serde::Serialize;

/// How far back it goes.
pub(crate) const SPAN_MS: u64 = 6 * 3600 * 1000;
/// Most samples in one answer; where there are more, neighbours are averaged.
pub(crate) const MOST_SAMPLES: usize = 720;

/// The pool is sampled this often: 4320 samples of 24 bytes.
const POOL_STEP_MS: u64 = 5_000;
/// Miners are sampled this often: 720 samples of 4 bytes each.
const MINER_STEP_MS: u64 = 30_000;
/// Addresses sampled, 12 MB in all. While there are that many, those that come later have no chart of the past.
const MOST_MINERS: usize = 4096;

/// How much was hashed at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Sample {
    pub time_ms: u64,
    /// Hashes per second.
    pub hashrate: f64,
}

/// Samples of the pool and of each miner.
#[derive(Default)]
pub(crate) struct History {
    pool: VecDeque<Sample>,
    /// When the miners were sampled; the last sample of each belongs to the last of these.
    times: VecDeque<u64>,
    miners: HashMap<Arc<str>, VecDeque<f32>>,
}

impl History {
    /// Takes a sample of `snapshot`, where one is due.
    pub fn record(&mut self, snapshot: &Snapshot) {
        let now = snapshot.time_ms;
        if due(self.pool.back().map(|sample| sample.time_ms), now, POOL_STEP_MS) {
            push(
                &mut self.pool,
                Sample { time_ms: now, hashrate: snapshot.hashrate },
                SPAN_MS / POOL_STEP_MS,
            );
        }
        if due(self.times.back().copied(), now, MINER_STEP_MS) {
            push(&mut self.times, now, SPAN_MS / MINER_STEP_MS);
            self.record_miners(snapshot);
        }
    }

    fn record_miners(&mut self, snapshot: &Snapshot) {
        let mut rates: HashMap<&Arc<str>, f64> = HashMap::new();
        for worker in snapshot.workers.iter() {
            *rates.entry(&worker.address).or_default() += worker.hashrate;
        }
        for (address, samples) in &mut self.miners {
            let rate = rates.remove(address).unwrap_or(0.0);
            push(samples, rate as f32, SPAN_MS / MINER_STEP_MS);
        }
        self.miners.retain(|_, samples| samples.iter().any(|&rate| rate > 0.0));
        let room = MOST_MINERS.saturating_sub(self.miners.len());
        let newcomers = rates.into_iter().filter(|&(_, rate)| rate > 0.0).take(room);
        self.miners.extend(newcomers.map(|(address, rate)| (address.clone(), VecDeque::from([rate as f32]))));
    }

    /// The pool since `since_ms`.
    pub fn pool(&self, since_ms: u64) -> Vec<Sample> {
        thinned(self.pool.iter().copied().filter(|sample| sample.time_ms >= since_ms).collect())
    }

    /// A miner since `since_ms`; nothing for an address that did not hash in all that time.
    pub fn miner(&self, address: &str, since_ms: u64) -> Vec<Sample> {
        let Some(rates) = self.miners.get(address) else { return Vec::new() };
        let times = self.times.iter().skip(self.times.len().saturating_sub(rates.len()));
        let samples = times.zip(rates).map(|(&time_ms, &rate)| Sample { time_ms, hashrate: f64::from(rate) });
        thinned(samples.filter(|sample| sample.time_ms >= since_ms).collect())
    }
}

/// Whether the next sample is due. A clock that jumped back starts over from there.
fn due(last: Option<u64>, now: u64, step: u64) -> bool {
    now > 0 && last.is_none_or(|last| now < last || now - last >= step)
}

fn push<T>(samples: &mut VecDeque<T>, sample: T, most: u64) {
    if samples.len() as u64 >= most {
        samples.pop_front();
    }
    samples.push_back(sample);
}

/// At most [`MOST_SAMPLES`], each the mean of as many neighbours.
fn thinned(samples: Vec<Sample>) -> Vec<Sample> {
    let each = samples.len().div_ceil(MOST_SAMPLES).max(1);
    if each == 1 {
        return samples;
    }
    let mean = |group: &[Sample]| {
        let hashrate = group.iter().map(|sample| sample.hashrate).sum::<f64>() / group.len() as f64;
        group.last().map(|last| Sample { time_ms: last.time_ms, hashrate })
    };
    // Grouped from the newest, so that a short group is the oldest one.
    let mut thinned: Vec<Sample> = samples.rchunks(each).filter_map(mean).collect();
    thinned.reverse();
    thinned
}

#[cfg(test)]
mod tests;
