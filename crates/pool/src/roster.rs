//! Who is mining, and how fast: figures for people, gathered once a second off the way of a share.
//!
//! What is owed is the ledger's to say; nothing here is money.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ledger::{Named, Worker, WorkerId};
use share::{Reason, Work};
use tokio::sync::watch;

use crate::{Closed, Limited, board::Posting};

/// The window of every hashrate shown, in milliseconds.
pub const WINDOW_MS: u64 = 10 * 60_000;
/// Most workers that a shard shows.
const MOST_WORKERS: usize = 200_000;
/// Most that left without a share and are shown a while longer: names cost nothing, and may come and go by the thousand.
const MOST_NAMES: usize = 1_000;
const BUCKETS: usize = 20;
const BUCKET_MS: u64 = WINDOW_MS / BUCKETS as u64;

/// Where each [`Snapshot`] comes. Cheap to clone.
#[derive(Clone)]
pub struct Roster(watch::Receiver<Arc<Snapshot>>);

/// The pool as it was less than two seconds ago; its workers, and the hashrate that they sum to, as they were less than four
/// seconds ago, and a second longer for each thousand of them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was taken, milliseconds since 1970.
    pub time_ms: u64,
    /// Hashes per second over the last ten minutes, or since there is work.
    pub hashrate: f64,
    /// Open connections, authorized or not.
    pub connections: usize,
    /// Workers that are connected, or were in the last ten minutes.
    pub workers: Arc<[WorkerState]>,
    /// What is being mined on.
    pub tip: Option<Tip>,
    /// Refused submissions by reason since the start.
    pub rejects: Vec<(Reason, u64)>,
    /// Connections that ended, or were not let in, by reason since the start.
    pub closed: Vec<(Closed, u64)>,
    /// How often which limit held somebody back since the start.
    pub limited: Vec<(Limited, u64)>,
    /// Whether the spool takes shares.
    pub storing: bool,
}

/// What is being mined on.
#[derive(Clone, Copy, Debug)]
pub struct Tip {
    /// Height of the block being looked for.
    pub height: u32,
    /// Its difficulty.
    pub network_difficulty: f64,
    /// When its template came, milliseconds since 1970.
    pub template_time_ms: u64,
}

/// One worker, over all its connections.
#[derive(Clone, Debug)]
pub struct WorkerState {
    /// Payout address.
    pub address: Arc<str>,
    /// Worker name; may be empty.
    pub name: Arc<str>,
    /// What the miner calls itself, as it last did.
    pub agent: Arc<str>,
    /// The protocol it speaks, as it last did: `V1` or `V2`.
    pub protocol: &'static str,
    /// Open connections.
    pub connections: usize,
    /// Hashes per second over the last ten minutes, or since it came.
    pub hashrate: f64,
    /// Difficulty last given.
    pub difficulty: f64,
    /// Its last accepted share, milliseconds since 1970.
    pub last_share_ms: Option<u64>,
    /// Highest difficulty of a hash since the start.
    pub best: f64,
}

/// What a shard shows of itself: once a second, its workers less often.
#[derive(Default)]
pub(crate) struct View {
    pub connections: usize,
    /// The list, if it was made anew since it was last taken.
    pub workers: Option<Vec<WorkerState>>,
    pub rejects: [u64; Reason::ALL.len()],
    pub storing: bool,
}

impl Roster {
    /// The latest figures, each second others until the pool stops.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.clone()
    }

    pub(crate) fn channel() -> (watch::Sender<Arc<Snapshot>>, Self) {
        let (sender, receiver) = watch::channel(Arc::default());
        (sender, Self(receiver))
    }
}

/// Joins what the shards show; a worker may be connected to several.
#[derive(Default)]
pub(crate) struct Gathered {
    /// The latest list of each shard.
    lists: Vec<Vec<WorkerState>>,
    workers: Arc<[WorkerState]>,
}

impl Gathered {
    /// The figures of now.
    pub fn snapshot(
        &mut self,
        views: &[Arc<Mutex<View>>],
        closed: &Closings,
        tip: Option<Tip>,
        now_ms: u64,
    ) -> Snapshot {
        let mut snapshot = Snapshot { time_ms: now_ms, tip, storing: true, ..Snapshot::default() };
        let mut rejects = [0; Reason::ALL.len()];
        let mut is_new = false;
        self.lists.resize_with(views.len(), Vec::new);
        for (view, list) in views.iter().zip(&mut self.lists) {
            let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
            snapshot.connections += view.connections;
            snapshot.storing &= view.storing;
            rejects.iter_mut().zip(view.rejects).for_each(|(sum, count)| *sum += count);
            if let Some(workers) = view.workers.take() {
                (*list, is_new) = (workers, true);
            }
        }
        if is_new {
            self.workers = joined(&self.lists);
        }
        snapshot.workers = self.workers.clone();
        snapshot.hashrate = snapshot.workers.iter().fold(0.0, |sum, worker| sum + worker.hashrate);
        snapshot.closed = closed.counts();
        snapshot.limited = closed.limited();
        snapshot.rejects = Reason::ALL.into_iter().zip(rejects).collect();
        snapshot
    }
}

/// In the order of their names.
fn joined(lists: &[Vec<WorkerState>]) -> Arc<[WorkerState]> {
    let mut all: Vec<&WorkerState> = lists.iter().flatten().collect();
    all.sort_unstable_by(|a, b| (&a.address, &a.name).cmp(&(&b.address, &b.name)));
    let mut workers: Vec<WorkerState> = Vec::with_capacity(all.len());
    for state in all {
        match workers.last_mut() {
            Some(last) if last.address == state.address && last.name == state.name => last.add(state),
            _ => workers.push(state.clone()),
        }
    }
    workers.into()
}

/// Counts how connections end and what is held back; shared, since that is no business of the share path.
#[derive(Clone, Default)]
pub(crate) struct Closings(Arc<([AtomicU64; Closed::ALL.len()], [AtomicU64; Limited::ALL.len()])>);

impl Closings {
    pub fn count(&self, why: Closed) {
        self.0.0[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn held_back(&self, what: Limited) {
        self.0.1[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> Vec<(Closed, u64)> {
        Closed::ALL.into_iter().map(|why| (why, self.0.0[why as usize].load(Ordering::Relaxed))).collect()
    }

    fn limited(&self) -> Vec<(Limited, u64)> {
        Limited::ALL.into_iter().map(|what| (what, self.0.1[what as usize].load(Ordering::Relaxed))).collect()
    }
}

impl Tip {
    pub(crate) fn of(posting: &Posting, template_time_ms: u64) -> Self {
        let network_difficulty = posting.network_difficulty().get();
        Self { height: posting.template.height, network_difficulty, template_time_ms }
    }
}

impl WorkerState {
    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.hashrate += other.hashrate;
        self.best = self.best.max(other.best);
        if other.last_share_ms > self.last_share_ms {
            (self.last_share_ms, self.difficulty) = (other.last_share_ms, other.difficulty);
            (self.agent, self.protocol) = (other.agent.clone(), other.protocol);
        }
    }
}

/// A shard's figures of one worker. What each share touches stands together.
#[repr(C)]
pub(crate) struct Tally {
    pub worker: Arc<Worker>,
    /// Where the shard's spool names it.
    pub named: Cell<Named>,
    seen_ms: Cell<u64>,
    last_share_ms: Cell<Option<u64>>,
    best: Cell<f64>,
    meter: RefCell<Meter>,
    agent: RefCell<Arc<str>>,
    protocol: Cell<&'static str>,
    connections: Cell<usize>,
    pub difficulty: Cell<f64>,
    pub unsaved_rejects: Cell<u64>,
}

/// A shard's figures of all its workers.
#[derive(Default)]
pub(crate) struct Tallies(HashMap<WorkerId, Rc<Tally>>);

impl Tallies {
    /// The tally of `worker`, who was seen just now. With more than [`MOST_WORKERS`] the newcomer gets one that is shown
    /// nowhere: its shares count all the same.
    pub fn of(&mut self, worker: &Arc<Worker>, now_ms: u64) -> Rc<Tally> {
        if self.0.len() >= MOST_WORKERS && !self.0.contains_key(&worker.id()) {
            return Rc::new(Tally::new(worker.clone(), now_ms));
        }
        let tally = self.0.entry(worker.id()).or_insert_with(|| Rc::new(Tally::new(worker.clone(), now_ms)));
        tally.seen_ms.set(now_ms);
        tally.clone()
    }

    /// Everyone, without those who left long ago, and without those who left nothing but their name if they are too many.
    pub fn states(&mut self, now_ms: u64) -> Vec<WorkerState> {
        self.0.retain(|_, tally| tally.connections.get() > 0 || now_ms < tally.seen_ms.get() + WINDOW_MS);
        if self.0.values().filter(|tally| tally.is_a_name()).count() > MOST_NAMES {
            self.0.retain(|_, tally| !tally.is_a_name());
        }
        self.0.values().map(|tally| tally.state(now_ms)).collect()
    }

    /// Takes out the refused submissions that are not in the spool yet.
    pub fn take_rejects(&self) -> impl Iterator<Item = (Arc<Worker>, u64)> {
        let unsaved = |tally: &Rc<Tally>| Some(tally.unsaved_rejects.take()).filter(|&count| count > 0);
        self.0.values().filter_map(move |tally| Some((tally.worker.clone(), unsaved(tally)?)))
    }
}

impl Tally {
    fn new(worker: Arc<Worker>, now_ms: u64) -> Self {
        Self {
            worker,
            named: Cell::default(),
            agent: RefCell::new(Arc::from("")),
            protocol: Cell::new(""),
            connections: Cell::new(0),
            difficulty: Cell::new(0.0),
            unsaved_rejects: Cell::new(0),
            seen_ms: Cell::new(now_ms),
            last_share_ms: Cell::new(None),
            best: Cell::new(0.0),
            meter: RefCell::new(Meter::new(now_ms)),
        }
    }

    /// It is on another connection now, whose client calls itself `agent`.
    pub fn come(&self, agent: &Arc<str>, protocol: &'static str) {
        self.connections.set(self.connections.get() + 1);
        *self.agent.borrow_mut() = agent.clone();
        self.protocol.set(protocol);
    }

    /// It is on one connection less.
    pub fn go(&self) {
        self.connections.set(self.connections.get().saturating_sub(1));
    }

    /// Counts an accepted share.
    pub fn share(&self, work: Work, hash_difficulty: f64, now_ms: u64) {
        self.seen_ms.set(now_ms);
        self.last_share_ms.set(Some(now_ms));
        self.best.set(self.best.get().max(hash_difficulty));
        self.meter.borrow_mut().add(work, now_ms);
    }

    /// Whether there is nothing of it but a name: it is here no more, had no share, and none that is to be stored as refused.
    fn is_a_name(&self) -> bool {
        self.connections.get() == 0 && self.last_share_ms.get().is_none() && self.unsaved_rejects.get() == 0
    }

    fn state(&self, now_ms: u64) -> WorkerState {
        let (address, name) = self.worker.shared();
        WorkerState {
            address,
            name,
            agent: self.agent.borrow().clone(),
            protocol: self.protocol.get(),
            connections: self.connections.get(),
            hashrate: self.meter.borrow_mut().rate(now_ms),
            difficulty: self.difficulty.get(),
            last_share_ms: self.last_share_ms.get(),
            best: self.best.get(),
        }
    }
}

/// Work over the last ten minutes, in steps of half a minute. Short floats are fine: this is shown, never paid.
struct Meter {
    since_ms: u64,
    step: u64,
    work: [f32; BUCKETS],
}

impl Meter {
    fn new(now_ms: u64) -> Self {
        Self { since_ms: now_ms, step: now_ms / BUCKET_MS, work: [0.0; BUCKETS] }
    }

    fn advance(&mut self, now_ms: u64) {
        let step = (now_ms / BUCKET_MS).max(self.step);
        for passed in (self.step + 1..=step).take(BUCKETS) {
            self.work[passed as usize % BUCKETS] = 0.0;
        }
        if step - self.step > BUCKETS as u64 {
            self.work = [0.0; BUCKETS];
        }
        self.step = step;
    }

    fn add(&mut self, work: Work, now_ms: u64) {
        self.advance(now_ms);
        self.work[self.step as usize % BUCKETS] += work as f32;
    }

    /// Hashes per second.
    fn rate(&mut self, now_ms: u64) -> f64 {
        self.advance(now_ms);
        let oldest_ms = (self.step + 1).saturating_sub(BUCKETS as u64) * BUCKET_MS;
        // Half a minute at least: one lucky first share is no hashrate.
        let span_ms = now_ms.saturating_sub(oldest_ms.max(self.since_ms)).max(BUCKET_MS);
        self.work.iter().copied().map(f64::from).sum::<f64>() * 1000.0 / span_ms as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_forgets_after_ten_minutes() {
        let mut meter = Meter::new(1_000_000);
        for second in 0..1200 {
            meter.add(5_000, 1_000_000 + second * 1000);
        }
        let end = 1_000_000 + 1_200_000;
        assert!((meter.rate(end) / 5_000.0 - 1.0).abs() < 0.01, "{}", meter.rate(end));
        let half = meter.rate(end + WINDOW_MS / 2);
        assert!((half / 2_500.0 - 1.0).abs() < 0.06, "{half}");
        assert!(meter.rate(end + WINDOW_MS + BUCKET_MS) < 1e-9);
        assert!(meter.rate(end + 1000 * WINDOW_MS) < 1e-9);
        meter.add(1, 0); // a clock that jumps back
        assert!(meter.rate(0) >= 0.0);
    }

    #[test]
    fn every_reason_has_its_counter() {
        let closings = Closings::default();
        for (times, why) in Closed::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| closings.count(why));
        }
        Limited::ALL.into_iter().for_each(|what| closings.held_back(what));
        let limited = closings.limited();
        assert!(
            limited.iter().zip(Limited::ALL).all(|(&(what, count), expect)| (what, count) == (expect, 1))
        );
        let counts = closings.counts();
        assert!(
            counts
                .iter()
                .enumerate()
                .all(|(times, &(why, count))| why == Closed::ALL[times] && count == times as u64 + 1)
        );
    }

    #[test]
    fn who_left_is_remembered_for_work_and_not_for_a_name() {
        let worker = |name: &str| {
            let user = format!("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.{name}");
            Arc::new(Worker::parse(&user, bitcoin::Network::Regtest).unwrap())
        };
        let mut tallies = Tallies::default();
        let mut come = |name: &str| {
            let tally = tallies.of(&worker(name), 0);
            tally.come(&Arc::from(""), "V2");
            tally
        };
        let [_here, worked, refused] = ["here", "worked", "refused"].map(&mut come);
        worked.share(1, 1.0, 1_000);
        refused.unsaved_rejects.set(1);
        [worked, refused].iter().for_each(|tally| tally.go());
        (0..MOST_NAMES).for_each(|number| come(&number.to_string()).go());
        assert_eq!(tallies.states(1_000).len(), MOST_NAMES + 3, "so many are shown a while longer");
        tallies.of(&worker("one more"), 1_000);
        let mut names = |now_ms| -> Vec<String> {
            let states = tallies.states(now_ms);
            tallies.take_rejects().for_each(drop);
            let mut names: Vec<String> = states.iter().map(|state| state.name.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(names(1_000), ["here", "refused", "worked"]);
        assert_eq!(names(WINDOW_MS), ["here", "worked"], "what was refused is in the spool by now");
        assert_eq!(names(1_000 + WINDOW_MS), ["here"]);
    }

    #[test]
    fn a_young_meter_counts_from_its_start() {
        let mut meter = Meter::new(0);
        (0..60).for_each(|second| meter.add(100, second * 1000));
        assert!((meter.rate(60_000) - 100.0).abs() < 1.0);
    }
}
