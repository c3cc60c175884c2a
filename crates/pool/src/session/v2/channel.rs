//! A channel: one stream of shares, with a difficulty and a part of the extranonce space of its own.

use std::{collections::HashMap, sync::Arc};

use share::{Difficulty, Extranonce, Target};

use super::{acks::Acks, deal::Told};
use crate::{
    board::{EXTRANONCE, Work},
    session::pace::Pace,
    space::EXTRANONCE1,
    vardiff::Vardiff,
};

/// How many targets of before are remembered on a tip. Jobs follow each other by the second at most.
const TARGETS: usize = 32;
/// How many jobs of its own are remembered.
const JOBS: usize = 16;

/// See the module.
pub(super) struct Channel {
    pub kind: Kind,
    pub group: u32,
    /// Whose it is, by its index in the crew.
    pub worker: usize,
    pub vardiff: Vardiff,
    /// The easiest that the client wants.
    pub easiest: Target,
    /// What jobs are given at.
    terms: Terms,
    /// What jobs of before were given at, the latest last.
    earlier: Vec<Terms>,
    /// What it was last told of by itself.
    pub told: Option<Told>,
    /// Jobs that the group does not have.
    own: Vec<(u64, Arc<Work>)>,
    pub pace: Pace,
    pub acks: Acks,
    /// It had a share credited.
    pub has_earned: bool,
    /// Workers that were named beside shares, with their index in the crew. Mostly none.
    pub names: HashMap<Box<[u8]>, usize>,
}

/// What part of the extranonce is whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// All of it is the pool's.
    Standard {
        /// The whole.
        prefix: [u8; EXTRANONCE],
    },
    /// Some of it is the client's.
    Extended {
        /// The pool's.
        prefix: [u8; EXTRANONCE1],
        /// How many bytes the client has.
        size: usize,
    },
}

/// A target, for the jobs that begin to count from `from` on.
#[derive(Clone, Copy)]
struct Terms {
    from: u64,
    target: Target,
    work: share::Work,
}

impl Kind {
    /// Whether all of it is the pool's.
    pub fn is_standard(&self) -> bool {
        matches!(self, Self::Standard { .. })
    }

    /// What the pool has set.
    pub fn prefix(&self) -> &[u8] {
        match self {
            Self::Standard { prefix } => prefix,
            Self::Extended { prefix, .. } => prefix,
        }
    }

    /// Bytes of the whole.
    pub fn full_size(&self) -> usize {
        match self {
            Self::Standard { .. } => EXTRANONCE,
            Self::Extended { size, .. } => EXTRANONCE1 + size,
        }
    }

    /// The whole, of which the client has `rolled`. `None` if that is not what it was given.
    pub fn extranonce(&self, rolled: &[u8]) -> Option<Extranonce> {
        let is_whole = self.prefix().len() + rolled.len() == self.full_size();
        Extranonce::new(&[self.prefix(), rolled]).filter(|_| is_whole)
    }
}

impl Channel {
    /// A channel whose first job counts from `from` on.
    pub fn new(kind: Kind, group: u32, worker: usize, vardiff: Vardiff, easiest: Target, from: u64) -> Self {
        let target = vardiff.difficulty().target().min(easiest);
        Self {
            kind,
            group,
            worker,
            vardiff,
            easiest,
            terms: Terms { from, target, work: target.work() },
            earlier: Vec::new(),
            told: None,
            own: Vec::new(),
            pace: Pace::default(),
            acks: Acks::default(),
            has_earned: false,
            names: HashMap::new(),
        }
    }

    /// The target that the next job is given at, as the client was told.
    pub fn target(&self) -> Target {
        self.terms.target
    }

    /// The difficulty of that.
    pub fn difficulty(&self) -> Difficulty {
        self.terms.target.difficulty()
    }

    /// The target and work of a job that counts from `job` on; `None` if that is forgotten.
    pub fn terms_of(&self, job: u64) -> Option<(Target, share::Work)> {
        let terms = match self.terms.from <= job {
            true => Some(&self.terms),
            false => self.earlier.iter().rev().find(|terms| terms.from <= job),
        };
        terms.map(|terms| (terms.target, terms.work))
    }

    /// Sets the target by the difficulty that it has now, for jobs that count from `next` on; those that the tip did not
    /// have when `tip_from` began are forgotten. Returns whether it is another than before.
    pub fn set_target(&mut self, next: u64, tip_from: u64) -> bool {
        let target = self.vardiff.difficulty().target().min(self.easiest);
        if target == self.terms.target {
            return false;
        }
        if self.terms.from < next {
            // What held only before this tip is of no more use.
            if self.terms.from <= tip_from {
                self.earlier.clear();
            }
            if self.earlier.len() == TARGETS {
                self.earlier.remove(0);
            }
            self.earlier.push(self.terms);
        }
        self.terms = Terms { from: next, target, work: target.work() };
        true
    }

    /// The job of its own with this id, and from when on it counts.
    pub fn job(&self, id: u32) -> Option<(u64, &Arc<Work>)> {
        self.own.iter().rev().find(|(_, work)| work.id == id).map(|(from, work)| (*from, work))
    }

    /// The id of the last job of its own.
    pub fn last_own(&self) -> Option<u32> {
        self.own.last().map(|(_, work)| work.id)
    }

    /// Notes that it alone is given `work`.
    pub fn give(&mut self, from: u64, work: Arc<Work>) {
        while self.own.len() >= work.remembered().min(JOBS) {
            self.own.remove(0);
        }
        self.own.push((from, work));
    }
}
