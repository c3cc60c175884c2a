//! A chain that is reorganised at will.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use async_trait::async_trait;
use ledger::{BlockFees, Chain, Hash, Standing};

/// Height of its first block: halvings are near.
pub const BASE: u32 = 209_700;
/// So many blocks are there from the start.
const BEGIN: u32 = 150;

/// The best chain, the branches that it has left, and what else a node has heard of.
pub struct Blocks(Mutex<State>);

struct State {
    best: Vec<Hash>,
    at: HashMap<Hash, usize>,
    known: HashSet<Hash>,
    left: Vec<Vec<Hash>>,
    made: u64,
}

impl Blocks {
    pub fn new() -> Self {
        let (at, known, left) = Default::default();
        let blocks = Self(Mutex::new(State { best: Vec::new(), at, known, left, made: 0 }));
        blocks.grow(BEGIN);
        blocks
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    pub fn tip(&self) -> (Hash, u32) {
        self.with(|state| (*state.best.last().unwrap(), BASE + state.best.len() as u32 - 1))
    }

    /// Blocks of others.
    pub fn grow(&self, count: u32) {
        self.with(|state| (0..count).for_each(|_| state.foreign()));
    }

    /// A block of ours.
    pub fn append(&self, hash: Hash) {
        self.with(|state| state.push(hash));
    }

    /// A node hears of a block that is not in the best chain.
    pub fn hear(&self, hash: Hash) {
        self.with(|state| state.known.insert(hash));
    }

    /// Others have more work from `depth` blocks below the tip on.
    pub fn reorganise(&self, depth: u32) {
        self.with(|state| {
            let keep = state.best.len() - depth as usize;
            let left = state.best.clone();
            state.switch(keep, &[]);
            (0..=depth).for_each(|_| state.foreign());
            state.left.push(left);
            if state.left.len() > 4 {
                state.left.remove(0);
            }
        });
    }

    /// A branch that was left is the longest again.
    pub fn return_to(&self, pick: u64) {
        self.with(|state| {
            if state.left.is_empty() {
                return;
            }
            let branch = state.left.remove(pick as usize % state.left.len());
            let (keep, goal) = (common(&branch, &state.best), state.best.len());
            if goal - keep > 110 {
                return;
            }
            let left = state.best.clone();
            state.switch(keep, &branch[keep..]);
            while state.best.len() <= goal {
                state.foreign();
            }
            state.left.push(left);
        });
    }

    /// In the best chain, so deep; known; unknown.
    pub fn depth(&self, hash: &Hash) -> Standing {
        self.with(|state| match state.at.get(hash) {
            Some(at) => Standing::OnChain((state.best.len() - at) as u32),
            None if state.known.contains(hash) => Standing::OffChain,
            None => Standing::Unknown,
        })
    }

    /// Fees of the newest blocks, newest first.
    pub fn fees_of_last(&self, count: usize) -> Vec<u64> {
        self.with(|state| state.best.iter().rev().take(count).map(fees_of).collect())
    }
}

impl State {
    fn push(&mut self, hash: Hash) {
        self.known.insert(hash);
        self.at.insert(hash, self.best.len());
        self.best.push(hash);
    }

    fn foreign(&mut self) {
        self.made += 1;
        let mut hash = [0xfe; 32];
        hash[..8].copy_from_slice(&self.made.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        hash[8..16].copy_from_slice(&self.made.to_le_bytes());
        self.push(hash);
    }

    fn switch(&mut self, keep: usize, then: &[Hash]) {
        for hash in self.best.drain(keep..) {
            self.at.remove(&hash);
        }
        then.iter().for_each(|hash| self.push(*hash));
    }
}

fn common(a: &[Hash], b: &[Hash]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Whatever, as long as it is always the same.
fn fees_of(hash: &Hash) -> u64 {
    u64::from(u32::from_le_bytes([hash[0], hash[1], hash[2], 0]))
}

#[async_trait]
impl Chain for Blocks {
    async fn standing(&self, hash: &Hash) -> Standing {
        self.depth(hash)
    }

    async fn fees(&self, hash: Option<&Hash>) -> Option<BlockFees> {
        self.with(|state| {
            let at = hash.map_or(Some(state.best.len() - 1), |hash| state.at.get(hash).copied())?;
            let hash = state.best[at];
            let prev_hash = at.checked_sub(1).map_or([0; 32], |below| state.best[below]);
            Some(BlockFees { hash, prev_hash, height: BASE + at as u32, fees_sats: fees_of(&hash) })
        })
    }
}
