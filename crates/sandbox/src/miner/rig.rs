//! The threads that grind, and the pace that they keep.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use share::sha256;
use tokio::sync::mpsc;

use crate::{
    grind::Header,
    miner::work::{Found, Part, Work},
};

/// How often a paced thread looks up, in batches a second: after each it rests, or takes a newer job.
const BATCHES: f64 = 20.0;

/// The most hashes between two looks: some 50 ms without SHA instructions.
const MAX_BATCH: u32 = 1 << 16;

/// The longest rest between two looks.
const MAX_NAP: Duration = Duration::from_millis(50);

/// Grinding threads, which work on one job together. They end soon after this is dropped.
pub struct Rig {
    shared: Arc<Shared>,
}

struct Shared {
    work: Mutex<Option<Arc<Work>>>,
    /// Told when `work` changes or `stop` is set.
    changed: Condvar,
    /// The serial of `work`, to be looked at without the lock; 0 without work.
    serial: AtomicU64,
    stop: AtomicBool,
    hashes: AtomicU64,
    /// Parts of the search are numbered across jobs: two jobs may differ in nothing but their name.
    parts: AtomicU64,
}

impl Rig {
    /// Starts `threads` of them, which together make `hashrate` hashes a second, or all they can. What they find goes
    /// to `found`; while that is full, its finder waits.
    pub fn start(threads: usize, hashrate: Option<f64>, found: mpsc::Sender<Found>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            work: Mutex::new(None),
            changed: Condvar::new(),
            serial: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            hashes: AtomicU64::new(0),
            parts: AtomicU64::new(0),
        });
        let rig = Self { shared };
        for i in 0..threads {
            let (shared, found) = (rig.shared.clone(), found.clone());
            let pace = Pace::new(hashrate.map(|hashrate| hashrate / threads as f64), Instant::now());
            thread::Builder::new().name(format!("grind-{i}")).spawn(move || run(&shared, pace, &found))?;
        }
        Ok(rig)
    }

    /// What to work on from now on; nothing lets the threads rest.
    pub fn set(&self, work: Option<Work>) {
        self.shared.serial.store(work.as_ref().map_or(0, |work| work.serial), Relaxed);
        *self.shared.work.lock().unwrap_or_else(PoisonError::into_inner) = work.map(Arc::new);
        self.shared.changed.notify_all();
    }

    /// How many hashes there were so far.
    pub fn hashes(&self) -> u64 {
        self.shared.hashes.load(Relaxed)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.set(None);
    }
}

impl Shared {
    /// The job to work on, waiting for one; `None` when it is time to end.
    fn work(&self) -> Option<Arc<Work>> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.stop.load(Relaxed) {
                return None;
            }
            if let Some(work) = &*work {
                return Some(work.clone());
            }
            work = self.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One thread, until the rig or the receiver is gone.
fn run(shared: &Shared, mut pace: Pace, found: &mpsc::Sender<Found>) {
    while let Some(work) = shared.work() {
        let Part { extranonce2, root, rolls } = work.part(shared.parts.fetch_add(1, Relaxed));
        // Starting with another roll for each job shows the pool that we mean it.
        for version_bits in rolls.map(|roll| work.version_bits(roll.wrapping_add(work.serial))) {
            let version = work.rolled(version_bits);
            let report = |nonce, header: &Header| Found {
                serial: work.serial,
                job_id: work.job_id.clone(),
                extranonce2: extranonce2.clone(),
                time: work.time,
                nonce,
                version,
                version_bits: (work.mask != 0).then_some(version_bits),
                is_block: work
                    .network_target()
                    .is_some_and(|t| t.is_met_by(&sha256::double(&header.with(nonce)))),
            };
            let header = work.header(&root, version);
            if !exhaust(shared, &work, &Header::new(header), &mut pace, &mut |nonce, header| {
                found.blocking_send(report(nonce, header)).is_ok()
            }) {
                break;
            }
        }
        if found.is_closed() {
            return;
        }
    }
}

/// Tries every nonce of `header`, in batches; false if there is something better to do before the end.
fn exhaust(
    shared: &Shared,
    work: &Work,
    header: &Header,
    pace: &mut Pace,
    found: &mut impl FnMut(u32, &Header) -> bool,
) -> bool {
    let mut start = 0u32;
    loop {
        let end = start.saturating_add(pace.batch() - 1);
        let mut from = Some(start);
        while let Some(first) = from {
            let Some(nonce) = header.grind(first..=end, &work.target) else { break };
            if !found(nonce, header) {
                return false;
            }
            from = nonce.checked_add(1).filter(|next| *next <= end);
        }
        let count = u64::from(end - start) + 1;
        shared.hashes.fetch_add(count, Relaxed);
        let mut rest = pace.after(count, Instant::now());
        loop {
            if shared.serial.load(Relaxed) != work.serial {
                return false;
            }
            if rest.is_zero() {
                break;
            }
            let nap = rest.min(MAX_NAP);
            thread::sleep(nap);
            rest -= nap;
        }
        match end.checked_add(1) {
            Some(next) => start = next,
            None => return true,
        }
    }
}

/// Hashes a second, kept exactly over seconds.
struct Pace {
    /// `None`: as fast as can be.
    hashrate: Option<f64>,
    /// When the hashes so far should have taken until.
    due: Instant,
}

impl Pace {
    fn new(hashrate: Option<f64>, now: Instant) -> Self {
        Self { hashrate, due: now }
    }

    /// How many hashes to make before the next look, at least one.
    fn batch(&self) -> u32 {
        let batch = self.hashrate.map_or(MAX_BATCH, |hashrate| (hashrate / BATCHES) as u32);
        batch.clamp(1, MAX_BATCH)
    }

    /// How long to rest after `count` hashes. What the machine is too slow for, or did not do for want of work, is made
    /// up for one second only.
    fn after(&mut self, count: u64, now: Instant) -> Duration {
        let Some(hashrate) = self.hashrate else { return Duration::ZERO };
        let earliest = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        let takes = Duration::try_from_secs_f64(count as f64 / hashrate).unwrap_or(Duration::MAX);
        self.due = self.due.max(earliest).checked_add(takes).unwrap_or(now);
        self.due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_exact_and_makes_up_for_a_second_at_most() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut pace = Pace::new(Some(10_000.0), start);
        assert_eq!(pace.batch(), 500);
        let mut check = |now_ms: u64, count: u64, expect_ms: u64| {
            assert_eq!(pace.after(count, at(now_ms)), Duration::from_millis(expect_ms), "at {now_ms}");
        };
        check(10, 500, 40);
        check(60, 500, 40); // 10 ms late, and back in step
        check(300, 500, 0); // behind by 150 ms
        check(310, 500, 0);
        check(320, 5_000, 380); // and in step again
        check(60_000, 500, 0); // no work for a minute: that is gone, but for a second
        check(60_000, 9_000, 0);
        check(60_000, 500, 0);
        check(60_000, 500, 50);
    }

    #[test]
    fn batches() {
        let check = |hashrate: Option<f64>, expect: u32| {
            assert_eq!(Pace::new(hashrate, Instant::now()).batch(), expect, "{hashrate:?}");
        };
        check(None, MAX_BATCH);
        check(Some(1e12), MAX_BATCH);
        check(Some(40_000.0), 2_000);
        check(Some(0.001), 1);
    }
}
