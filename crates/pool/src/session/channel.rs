//! What mining takes in any protocol: the jobs given, the difficulty they were given at, the judgement of what comes back.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use ledger::{Found, Worker};
use share::{Extranonce, Hash, Reason, Rules, Submission, Target};

use super::Solution;
use crate::{VardiffConfig, board::Work, space::Seat, vardiff::Vardiff};

/// How many jobs are remembered, the stale ones too, so that a late share is told apart from nonsense.
const JOBS: usize = 64;
/// How long after the difficulty was lowered a share of an older job may meet just the new one: some firmware applies
/// the new difficulty to the job that it is mining (C-37). In milliseconds.
const GRACE_MS: u64 = 15_000;

/// One stream of shares.
pub struct Channel {
    seat: Seat,
    /// Difficulty by the miner's speed.
    pub vardiff: Vardiff,
    jobs: VecDeque<Given>,
    /// The tip of the latest job; all of another are stale.
    tip: u64,
    /// Hashes that earned their share on this tip.
    credited: HashSet<Hash>,
    lowered: Option<Lowered>,
    solved: Vec<Hash>,
}

/// A job as it was given: with its own difficulty and rules.
struct Given {
    work: Arc<Work>,
    target: Target,
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
    /// The job, if it was one.
    pub work: Option<Arc<Work>>,
    /// Hash of the header; zero if there was no job to hash.
    pub hash: Hash,
    /// Whether it is a block that this channel did not solve already.
    pub block: Option<Submission>,
    /// The target whose work it earns, and whether this is the difficulty in force.
    pub share: Result<(Target, bool), Reason>,
}

impl Channel {
    /// A channel on `seat`.
    pub fn new(seat: Seat, vardiff: VardiffConfig, now_ms: u64) -> Self {
        let vardiff = Vardiff::new(vardiff, now_ms);
        Self {
            seat,
            vardiff,
            jobs: VecDeque::new(),
            tip: 0,
            credited: HashSet::new(),
            lowered: None,
            solved: Vec::new(),
        }
    }

    /// Its place in the extranonce space.
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Whether the job last given is of this posting's id.
    pub fn has(&self, id: u32) -> bool {
        self.jobs.iter().any(|given| given.work.id == id)
    }

    /// Whether a job of this tip makes all those given before stale.
    pub fn is_new_tip(&self, tip: u64) -> bool {
        self.jobs.is_empty() || tip != self.tip
    }

    /// The target that the next job is given at.
    pub fn target(&self) -> Target {
        self.vardiff.difficulty().target()
    }

    /// Notes that `work` is given at the difficulty in force.
    pub fn give(&mut self, work: Arc<Work>, version_mask: u32, now_ms: u64) {
        let target = self.target();
        if self.is_new_tip(work.tip) {
            self.tip = work.tip;
            self.credited.clear();
            self.lowered = None;
        } else if self.jobs.back().is_some_and(|last| last.target < target) {
            self.lowered = Some(Lowered { until_ms: now_ms + GRACE_MS, target });
        }
        if self.jobs.len() == JOBS {
            self.jobs.pop_front();
        }
        self.jobs.push_back(Given { work, target, version_mask });
    }

    /// Judges `submit`, by C-46: what solves a block is reported whatever else is wrong with it.
    ///
    /// A good share is not yet credited: that is [`Self::credit`].
    pub fn judge(&mut self, submit: &Submit, now_ms: u64) -> Judged {
        let refused = |reason| Judged { work: None, hash: [0; 32], block: None, share: Err(reason) };
        let Some(given) = submit.job.and_then(|id| self.jobs.iter().rev().find(|given| given.work.id == id))
        else {
            return refused(Reason::UnknownJob);
        };
        let Some(extranonce2) = submit.extranonce2 else { return refused(Reason::ExtranonceLength) };
        let Some(extranonce) = Extranonce::new(&[&self.seat.extranonce1, extranonce2.as_bytes()]) else {
            return refused(Reason::ExtranonceLength);
        };
        let job = &given.work.job;
        let submission = Submission {
            extranonce,
            time: submit.time,
            nonce: submit.nonce,
            version: (job.version & !given.version_mask) | submit.version_bits,
        };
        let eased = self.lowered.as_ref().filter(|lowered| now_ms <= lowered.until_ms);
        let easiest = eased.map_or(given.target, |lowered| lowered.target.max(given.target));
        let rules = Rules {
            target: easiest,
            version_mask: given.version_mask,
            now: u32::try_from(now_ms / 1000).unwrap_or(u32::MAX),
            stale: given.work.tip != self.tip,
        };
        let verdict = share::check(job, &submission, &rules);
        let earned = if given.target.is_met_by(&verdict.hash) { given.target } else { easiest };
        let is_current = earned == self.target();
        let is_new_block = verdict.is_block && !self.solved.contains(&verdict.hash);
        let judged = Judged {
            work: Some(given.work.clone()),
            hash: verdict.hash,
            block: is_new_block.then_some(submission),
            share: verdict.share.map(|()| (earned, is_current)),
        };
        if is_new_block {
            self.remember_solved(verdict.hash);
        }
        judged
    }

    /// Takes note that the share with this hash is credited. False: it was before (C-47).
    pub fn credit(&mut self, hash: Hash) -> bool {
        self.credited.insert(hash)
    }

    /// So that a miner repeating its block does not have it sent again and again.
    fn remember_solved(&mut self, hash: Hash) {
        if self.solved.len() == 32 {
            self.solved.remove(0);
        }
        self.solved.push(hash);
    }
}

/// The block that `submission` makes of `work`, with what the ledger must know of it.
pub fn solution(work: &Work, submission: &Submission, hash: Hash, finder: &Worker, now_ms: u64) -> Solution {
    let found = Found {
        time_ms: now_ms,
        worker: finder.id(),
        hash,
        prev_hash: work.job.prev_hash,
        height: work.job.height,
        bits: work.job.bits,
        coinbase_txid: work.job.coinbase.txid(&submission.extranonce),
        value_sats: work.template.coinbase_value,
        outputs: work.outputs.clone(),
    };
    Solution { found, block: work.template.block(&work.job, submission) }
}
