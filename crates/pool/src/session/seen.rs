//! What was handed in before: each hash earns once, each block is sent once.

use ledger::{Found, ShareRecord, Worker, WorkerId};
use share::{Hash, Submission, Verdict};

use super::{Credit, Solution};
use crate::board::Work;

mod tags;

use tags::Tags;

/// So many solved blocks are remembered.
const SOLVED: usize = 32;

/// The hashes that were credited on a tip, and the blocks that were solved.
#[derive(Default)]
pub struct Seen {
    /// The tip of the latest job; all of another are stale.
    tip: u64,
    /// Hashes that earned their share on this tip, by their first bytes: those are random even in a block's hash.
    credited: Tags,
    solved: Vec<Hash>,
}

/// A good share, not yet credited.
#[derive(Clone, Copy, Debug)]
pub struct Earned {
    /// The work that it earns.
    pub work: share::Work,
    /// Whether this is the difficulty in force.
    pub is_current: bool,
    /// Hash of the header.
    pub hash: Hash,
    /// Height of the job.
    pub height: u32,
    /// Its network target, in compact form.
    pub bits: u32,
}

impl Seen {
    /// The tip that is mined on.
    pub fn tip(&self) -> u64 {
        self.tip
    }

    /// There is a new tip: no hash of before can be good any more.
    pub fn begin(&mut self, tip: u64) {
        self.tip = tip;
        self.credited.clear();
    }

    /// Takes note that this share is credited. False: it was before (C-47).
    pub fn credit(&mut self, hash: &Hash) -> bool {
        self.credited.insert(first_bytes(hash))
    }

    /// The block that `submission` makes of `work` for `finder`, by `verdict`, if it makes one; none if it was handed in
    /// before, so that a miner repeating its block does not have it sent again and again.
    ///
    /// Where the coinbase pays the finder, that is whom it pays: a job may outlive the worker that it was given to, in a
    /// session that another one goes on with.
    pub fn solution(
        &mut self,
        verdict: &Verdict,
        work: &Work,
        submission: &Submission,
        finder: Option<&Worker>,
        now_ms: u64,
    ) -> Option<Solution> {
        if !verdict.is_block || self.solved.contains(&verdict.hash) {
            return None;
        }
        if self.solved.len() == SOLVED {
            self.solved.remove(0);
        }
        self.solved.push(verdict.hash);
        let pays =
            |finder: &&Worker| work.payee.as_ref().is_none_or(|payee| payee.script() == finder.script());
        let finder = finder.filter(pays).or(work.payee.as_ref());
        finder.map(|finder| solution(work, submission, verdict.hash, finder, now_ms))
    }
}

impl Earned {
    /// The record of it, for the worker of this index and id.
    pub fn credit(&self, worker: usize, id: WorkerId, now_ms: u64) -> Credit {
        let record = ShareRecord {
            time_ms: now_ms,
            worker: id,
            work: self.work,
            height: self.height,
            bits: self.bits,
            hash_tag: first_bytes(&self.hash),
        };
        let hash_difficulty = share::Target::from_le_bytes(self.hash).difficulty().get();
        Credit { worker, record, hash_difficulty }
    }
}

/// The first eight bytes: random even in the hash of a block, whose zeros stand at the end.
fn first_bytes(hash: &Hash) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(first)
}

/// The block that `submission` makes of `work`, with what the ledger must know of it.
fn solution(work: &Work, submission: &Submission, hash: Hash, finder: &Worker, now_ms: u64) -> Solution {
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
        origin: work.origin,
    };
    Solution { found, finder: finder.clone(), block: work.template.block(&work.job, submission) }
}
