//! What mining takes in V1: the jobs given, the difficulty they were given at, the judgement of what comes back.

use std::{collections::VecDeque, sync::Arc};

use ledger::Worker;
use share::{Difficulty, Extranonce, Hash, Reason, Rules, Submission, Target};

use super::{
    Solution,
    seen::{Earned, Seen},
};
use crate::{VardiffConfig, board::Work, fading::Fading, space::Seat, vardiff::Vardiff};

/// How long after the difficulty was lowered a share of an older job may meet just the new one: some firmware applies
/// the new difficulty to the job that it is mining (C-37). In milliseconds.
const GRACE_MS: u64 = 15_000;
/// How many such shares, of which half is forgotten in [`EASED_HALF_LIFE_MS`]. Who hands in what meets just the new
/// difficulty besides what meets the old one earns up to twice its work: a few shares are a miner's habit, more are a
/// miner's plan.
const EASED: f64 = 8.0;
/// See [`EASED`]. In milliseconds.
const EASED_HALF_LIFE_MS: f64 = 40.0 * 60_000.0;

/// One stream of shares.
pub struct Channel {
    seat: Seat,
    /// Difficulty by the miner's speed.
    pub vardiff: Vardiff,
    /// What it last was when it was asked for, and its target: a division that no share should wait for.
    current: (Difficulty, Target),
    jobs: Jobs,
    /// Id of the latest posting whose work was given, under that id or one of its own.
    posting: Option<u32>,
    seen: Seen,
    lowered: Option<Lowered>,
    /// Shares that met just the new difficulty, lately.
    eased: Fading,
    /// Whose coinbase the last job was: finds what is handed in before anybody is authorized again.
    miner: Option<Arc<Worker>>,
}

/// The jobs that shares may be of.
#[derive(Default)]
struct Jobs {
    /// Nearly all shares are of this one, so it stands here itself.
    last: Option<Given>,
    /// Those before it that are remembered: the last of them last.
    before: VecDeque<Given>,
}

/// A job as it was given.
struct Given {
    work: Arc<Work>,
    /// Shared by jobs that follow each other, since they seldom differ.
    terms: Arc<Terms>,
}

/// A job's own difficulty and rules.
struct Terms {
    target: Target,
    /// The work of the target: a long division.
    work: share::Work,
    version_mask: u32,
}

struct Lowered {
    until_ms: u64,
    target: Target,
}

/// A submission with the words of the protocol taken off.
#[derive(Clone, Copy, Debug)]
pub struct Submit {
    /// Job id; `None` if it cannot be one of ours.
    pub job: Option<u32>,
    /// The miner's part of the extranonce; `None` if it was no such thing.
    pub extranonce2: Option<Extranonce>,
    /// Header time, seconds since 1970.
    pub time: u32,
    /// Header nonce.
    pub nonce: u32,
    /// Version bits that the miner chose (BIP 310).
    pub version_bits: u32,
}

/// The judgement of one submission.
pub struct Judged {
    /// The block that it is, if this channel did not solve it already.
    pub solution: Option<Solution>,
    /// What it earns.
    pub share: Result<Earned, Reason>,
}

impl Channel {
    /// A channel on `seat`.
    pub fn new(seat: Seat, vardiff: VardiffConfig, now_ms: u64) -> Self {
        let vardiff = Vardiff::new(vardiff, now_ms);
        let difficulty = vardiff.difficulty();
        Self {
            seat,
            vardiff,
            current: (difficulty, difficulty.target()),
            jobs: Jobs::default(),
            posting: None,
            seen: Seen::default(),
            lowered: None,
            eased: Fading::default(),
            miner: None,
        }
    }

    /// Its place in the extranonce space.
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Whether the job last given is of this posting, or of a later one, as with a session that comes back to a shard
    /// which has not heard of the latest.
    pub fn has(&self, posting: u32) -> bool {
        self.posting.is_some_and(|last| last >= posting)
    }

    /// Whether its last job was of a later posting: the session comes from a shard that hears of them sooner.
    pub fn is_ahead_of(&self, posting: u32) -> bool {
        self.posting.is_some_and(|last| last > posting)
    }

    /// The latest id of those that jobs were given under; 0 without any.
    pub fn latest_job(&self) -> u32 {
        self.jobs.newest_first().map(|given| given.work.id).max().unwrap_or(0)
    }

    /// Whether a job of this tip makes all those given before stale.
    pub fn is_new_tip(&self, tip: u64) -> bool {
        self.jobs.last.is_none() || tip != self.seen.tip()
    }

    /// The target that the next job is given at.
    pub fn target(&mut self) -> Target {
        let difficulty = self.vardiff.difficulty();
        if self.current.0 != difficulty {
            self.current = (difficulty, difficulty.target());
        }
        self.current.1
    }

    /// Notes that `work` of the posting `posting` is given to `miner` at the difficulty in force.
    pub fn give(
        &mut self,
        work: Arc<Work>,
        posting: u32,
        miner: &Arc<Worker>,
        version_mask: u32,
        now_ms: u64,
    ) {
        let target = self.target();
        let last = self.jobs.last.as_ref().map(|last| last.terms.clone());
        if self.is_new_tip(work.tip) {
            self.seen.begin(work.tip);
            self.lowered = None;
        } else if let Some(last) = last.as_ref().map(|last| last.target) {
            if last < target {
                self.lowered = Some(Lowered { until_ms: now_ms + GRACE_MS, target });
            } else if last > target {
                // Raised: what was given before keeps its own, and the easier one is nobody's any more.
                self.lowered = None;
            }
        }
        let last = last.filter(|last| last.target == target && last.version_mask == version_mask);
        let terms = last.unwrap_or_else(|| Arc::new(Terms { target, work: target.work(), version_mask }));
        self.jobs.push(Given { work, terms });
        self.posting = Some(posting);
        if self.miner.as_ref().is_none_or(|before| !Arc::ptr_eq(before, miner)) {
            self.miner = Some(miner.clone());
        }
    }

    /// Judges `submit`, by C-46: what solves a block is reported, as found by `finder` or else by whom
    /// its job was given to, whatever else is wrong with it.
    ///
    /// A good share is not yet credited: that is [`Self::credit`].
    pub fn judge(&mut self, submit: &Submit, finder: Option<&Worker>, now_ms: u64) -> Judged {
        let refused = |reason| Judged { solution: None, share: Err(reason) };
        let current = self.target();
        let Some(given) =
            submit.job.and_then(|id| self.jobs.newest_first().find(|given| given.work.id == id))
        else {
            return refused(Reason::UnknownJob);
        };
        let Some(extranonce2) = submit.extranonce2 else { return refused(Reason::ExtranonceLength) };
        let Some(extranonce) = Extranonce::new(&[&self.seat.extranonce1, extranonce2.as_bytes()]) else {
            return refused(Reason::ExtranonceLength);
        };
        let (job, &Terms { target, work, version_mask }) = (&given.work.job, &*given.terms);
        let submission = Submission {
            extranonce,
            time: submit.time,
            nonce: submit.nonce,
            version: (job.version & !version_mask) | submit.version_bits,
        };
        let eased = self.lowered.as_ref().filter(|lowered| now_ms <= lowered.until_ms);
        let eased = eased.filter(|_| self.eased.left(EASED_HALF_LIFE_MS, now_ms) < EASED - 0.5);
        let easiest = eased.map_or(target, |lowered| lowered.target.max(target));
        let rules = Rules {
            target: easiest,
            version_mask,
            now: u32::try_from(now_ms / 1000).unwrap_or(u32::MAX),
            stale: given.work.tip != self.seen.tip(),
        };
        let verdict = share::check(job, &submission, &rules);
        let hash = verdict.hash;
        let earned = if target.is_met_by(&hash) { target } else { easiest };
        if earned != target && verdict.share.is_ok() {
            self.eased.add(1.0, EASED_HALF_LIFE_MS, now_ms);
        }
        let (height, bits, is_current) = (job.height, job.bits, earned == current);
        let finder = finder.or(self.miner.as_deref());
        let solution = self.seen.solution(&verdict, &given.work, &submission, finder, now_ms);
        let is_within = submit.version_bits & !version_mask == 0;
        // A bit that the job has set anyway makes no other header, but is outside of the mask all the same (C-28).
        let share = verdict.share.and(if is_within { Ok(()) } else { Err(Reason::VersionMask) });
        let share = share.map(|()| {
            let work = if earned == target { work } else { earned.work() };
            Earned { work, is_current, hash, height, bits }
        });
        Judged { solution, share }
    }

    /// Takes note that this share is credited. False: it was before (C-47).
    pub fn credit(&mut self, hash: &Hash) -> bool {
        self.seen.credit(hash)
    }
}

impl Jobs {
    fn newest_first(&self) -> impl Iterator<Item = &Given> {
        self.last.iter().chain(self.before.iter().rev())
    }

    /// Adds one, and forgets the oldest as its work says.
    fn push(&mut self, given: Given) {
        let most = given.work.remembered();
        self.before.extend(self.last.replace(given));
        while self.before.len() >= most.max(1) {
            self.before.pop_front();
        }
    }
}
