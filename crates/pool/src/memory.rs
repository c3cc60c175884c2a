//! The difficulty that each worker had: where it goes on when it comes back without its session.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use ledger::WorkerId;
use share::Difficulty;

/// How long a difficulty is worth something, in milliseconds: a day. Machines are tuned and replaced.
const KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// How many workers fit into one generation.
const GENERATION: usize = 50_000;

/// The difficulties of workers that left, of the last 50,000 to 100,000 of them: when the younger generation is full the
/// older one is dropped whole, so that no entry costs a search. Touched when a worker comes and when it goes.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<WorkerId, Kept>,
    old: HashMap<WorkerId, Kept>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    difficulty: Difficulty,
    at_ms: u64,
}

impl Memory {
    /// `worker` left at `now_ms`; `difficulty` is one that it has had a share at. What it says of itself, without
    /// work to show for it, must not get here: anybody can give the name of somebody else's worker.
    pub fn keep(&self, worker: WorkerId, difficulty: Difficulty, now_ms: u64) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= GENERATION && !generations.young.contains_key(&worker) {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(worker, Kept { difficulty, at_ms: now_ms });
    }

    /// The difficulty that `worker` had when it left, if that is no longer than a day ago.
    pub fn recall(&self, worker: WorkerId, now_ms: u64) -> Option<Difficulty> {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = generations.young.get(&worker).or_else(|| generations.old.get(&worker))?;
        (now_ms.saturating_sub(kept.at_ms) <= KEPT_MS).then_some(kept.difficulty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(n: usize) -> WorkerId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        WorkerId(id)
    }

    fn difficulty(value: f64) -> Difficulty {
        Difficulty::new(value).unwrap()
    }

    #[test]
    fn the_latest_is_kept_for_a_day() {
        let memory = Memory::default();
        assert_eq!(memory.recall(worker(1), 0), None);
        memory.keep(worker(1), difficulty(8.0), 1_000);
        memory.keep(worker(1), difficulty(9.0), 2_000);
        memory.keep(worker(2), difficulty(5.0), 2_000);
        assert_eq!(memory.recall(worker(1), 2_000 + KEPT_MS), Some(difficulty(9.0)));
        assert_eq!(memory.recall(worker(1), 2_001 + KEPT_MS), None);
        assert_eq!(memory.recall(worker(2), 0), Some(difficulty(5.0)), "a clock that jumps back");
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_youngest_stay() {
        let memory = Memory::default();
        let count = 3 * GENERATION + 7;
        for n in 0..count {
            memory.keep(worker(n), difficulty(1.0), n as u64);
            // One that comes and goes takes no more place than the others.
            memory.keep(worker(0), difficulty(2.0), n as u64);
        }
        let generations = memory.0.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
        drop(generations);
        assert!((count - GENERATION..count).all(|n| memory.recall(worker(n), count as u64).is_some()));
        assert_eq!(memory.recall(worker(0), count as u64), Some(difficulty(2.0)));
        assert_eq!(memory.recall(worker(1), count as u64), None);
    }
}
