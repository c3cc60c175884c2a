//! The judgement of one submission.

use crate::{Extranonce, Job, Reason, Target, job::Hash, sha256};

/// The version bits that miners may roll (BIP 320).
pub const VERSION_MASK: u32 = 0x1fff_e000;

/// How far past the time of its job a header's time may be, in seconds (C-45): many ASICs roll it.
pub const TIME_ROLL: u32 = 7_000;

/// How far ahead of the pool's clock a header's time may be, in seconds: what the nodes of the network accept.
pub const TIME_AHEAD: u32 = 7_200;

/// What a miner chose, as it stands in the header and the coinbase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The pool's and the miner's extranonce, joined.
    pub extranonce: Extranonce,
    /// Header time, in seconds since 1970.
    pub time: u32,
    /// Header nonce.
    pub nonce: u32,
    /// The whole header version, rolled bits included.
    pub version: u32,
}

/// What a submission has to keep to, besides having a good hash.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The target that this session was given with this job.
    pub target: Target,
    /// Version bits that this session may change.
    pub version_mask: u32,
    /// The pool's clock, in seconds since 1970.
    pub now: u32,
    /// Whether the job's block has been found by now.
    pub stale: bool,
}

/// What a submission is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Hash of the header; all ones where the extranonce is of another size, and so nothing was hashed.
    pub hash: Hash,
    /// Whether the hash meets the network target. Such a submission goes to the nodes whatever `share` says: the
    /// chain has its own rules, and a block on a stale job may still win.
    pub is_block: bool,
    /// Whether it earns the work of the session's target.
    pub share: Result<(), Reason>,
}

/// Judges `submission`, in the order of C-46: hash, network target, stale, rules, target. The caller looks for
/// duplicates last, by the hash, among what was found good here.
///
/// The extranonce must have the size that the job asks for; it is part of the rules here, since a coinbase with another
/// one would not even parse.
pub fn check(job: &Job, submission: &Submission, rules: &Rules) -> Verdict {
    if submission.extranonce.as_bytes().len() != job.coinbase.extranonce_size() {
        return Verdict { hash: [0xff; 32], is_block: false, share: Err(Reason::ExtranonceLength) };
    }
    let hash = sha256::header(&job.header(submission));
    let is_block = job.network_target.is_met_by(&hash);
    Verdict { hash, is_block, share: judge(job, submission, rules, &hash) }
}

fn judge(job: &Job, submission: &Submission, rules: &Rules, hash: &Hash) -> Result<(), Reason> {
    let latest = job.time.saturating_add(TIME_ROLL).min(rules.now.saturating_add(TIME_AHEAD));
    if rules.stale {
        Err(Reason::Stale)
    } else if submission.time < job.min_time {
        Err(Reason::TimeTooOld)
    } else if submission.time > latest.max(job.time) {
        Err(Reason::TimeTooNew)
    } else if (submission.version ^ job.version) & !rules.version_mask != 0 {
        Err(Reason::VersionMask)
    } else if !rules.target.is_met_by(hash) {
        Err(Reason::LowDifficulty)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
