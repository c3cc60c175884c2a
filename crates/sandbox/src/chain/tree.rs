//! Every block that was ever accepted, and which of them are the chain.

use std::collections::HashMap;

use bitcoin::{Transaction, block::Header, hashes::Hash as _};
use share::{Hash, Work};

use crate::chain::difficulty::Issue;

/// A block, without the transactions that it shares with the mempool.
#[derive(Clone, Debug)]
pub struct Block {
    /// As it was hashed.
    pub header: Header,
    /// Height; the parent's and one more.
    pub height: u32,
    /// The coinbase, with witness; the first block of all has none.
    pub coinbase: Option<Transaction>,
    /// Its other transactions, in order. Empty once it is buried.
    pub txids: Vec<Hash>,
    /// When it arrived here, milliseconds since 1970.
    pub found_ms: u64,
    /// The bits that templates on top of it had: the last is in force, and patience is counted from the first.
    pub issues: Vec<Issue>,
    /// Of this block and all before it.
    pub work: Work,
}

/// What a new or an invalid block did to the chain.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Blocks that left the chain, from the tip down.
    pub left: Vec<Hash>,
    /// Blocks that joined it, from below up.
    pub joined: Vec<Hash>,
}

/// The blocks, from one that is given. The chain is the one with most work; of equals, the one seen first.
pub struct Tree {
    blocks: HashMap<Hash, Node>,
    /// The chain from the first block to the tip; never empty.
    chain: Vec<Hash>,
    first_height: u32,
}

struct Node {
    block: Block,
    invalid: bool,
    /// How many came before.
    order: usize,
}

impl Tree {
    /// Blocks that the median time is taken of.
    const MEDIAN_SPAN: usize = 11;

    /// A tree of one block.
    pub fn new(block: Block) -> Self {
        let (hash, first_height) = (block.hash(), block.height);
        let node = Node { block, invalid: false, order: 0 };
        Self { blocks: HashMap::from([(hash, node)]), chain: vec![hash], first_height }
    }

    /// The block that the chain ends with.
    pub fn tip(&self) -> Hash {
        self.chain[self.chain.len() - 1]
    }

    /// A block of any branch, valid or not.
    pub fn get(&self, hash: &Hash) -> Option<&Block> {
        self.blocks.get(hash).map(|node| &node.block)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, hash: &Hash) -> Option<&mut Block> {
        self.blocks.get_mut(hash).map(|node| &mut node.block)
    }

    /// Whether the block, or one before it, was made invalid.
    pub fn is_invalid(&self, hash: &Hash) -> bool {
        self.blocks.get(hash).is_some_and(|node| node.invalid)
    }

    /// How many blocks of the chain end with this one: 1 for the tip; `None` if it is not of the chain.
    pub fn depth(&self, hash: &Hash) -> Option<u32> {
        let height = self.get(hash)?.height;
        let at = usize::try_from(height.checked_sub(self.first_height)?).ok()?;
        (self.chain.get(at) == Some(hash)).then(|| (self.chain.len() - at) as u32)
    }

    /// The block and those before it, back to the first.
    pub fn ancestry(&self, hash: &Hash) -> impl Iterator<Item = &Block> {
        std::iter::successors(self.get(hash), |block| self.get(&block.parent()))
    }

    /// The median of the header times of the block and the ten before it; a block after it must be later.
    pub fn median_time(&self, hash: &Hash) -> u32 {
        let mut times: Vec<u32> =
            self.ancestry(hash).take(Self::MEDIAN_SPAN).map(|block| block.header.time).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }

    /// Adds a block whose parent is here, and moves the chain to it if it has more work.
    pub fn insert(&mut self, block: Block) -> Change {
        let (hash, work) = (block.hash(), block.work);
        let node = Node { block, invalid: false, order: self.blocks.len() };
        self.blocks.insert(hash, node);
        if self.get(&self.tip()).is_some_and(|tip| tip.work >= work) {
            return Change::default();
        }
        self.activate(hash)
    }

    /// Makes a block and all after it invalid, and moves the chain to the best of the rest. `None` if the block is not
    /// here, or is the first.
    pub fn invalidate(&mut self, hash: &Hash) -> Option<Change> {
        let height = self.get(hash).map(|block| block.height).filter(|&height| height > self.first_height)?;
        let mut later: Vec<(u32, Hash, Hash)> = self
            .blocks
            .iter()
            .filter(|(_, node)| node.block.height > height)
            .map(|(hash, node)| (node.block.height, *hash, node.block.parent()))
            .collect();
        later.sort_unstable();
        self.mark(hash);
        for (_, hash, parent) in later {
            if self.is_invalid(&parent) {
                self.mark(&hash);
            }
        }
        let valid = self.blocks.iter().filter(|(_, node)| !node.invalid);
        let best = valid.max_by_key(|(_, node)| (node.block.work, std::cmp::Reverse(node.order)));
        let best = best.map(|(hash, _)| *hash)?;
        Some(self.activate(best))
    }

    fn mark(&mut self, hash: &Hash) {
        if let Some(node) = self.blocks.get_mut(hash) {
            node.invalid = true;
        }
    }

    /// Moves the chain to end with `hash`.
    fn activate(&mut self, hash: Hash) -> Change {
        let mut joined: Vec<Hash> =
            self.ancestry(&hash).map(Block::hash).take_while(|hash| self.depth(hash).is_none()).collect();
        joined.reverse();
        let fork = joined.first().and_then(|hash| self.get(hash)).map_or(hash, Block::parent);
        let keep = self.chain.len() + 1 - self.depth(&fork).unwrap_or(1) as usize;
        let mut left = self.chain.split_off(keep);
        left.reverse();
        self.chain.extend(&joined);
        Change { left, joined }
    }
}

impl Block {
    /// Its hash.
    pub fn hash(&self) -> Hash {
        self.header.block_hash().to_byte_array()
    }

    /// Hash of the block before it.
    pub fn parent(&self) -> Hash {
        self.header.prev_blockhash.to_byte_array()
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{BlockHash, CompactTarget, TxMerkleNode, block::Version};

    use super::*;

    fn block(parent: Option<&Block>, nonce: u32, time: u32, work: Work) -> Block {
        let header = Header {
            version: Version::TWO,
            prev_blockhash: BlockHash::from_byte_array(parent.map_or([0; 32], Block::hash)),
            merkle_root: TxMerkleNode::all_zeros(),
            time,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce,
        };
        let height = parent.map_or(100, |parent| parent.height + 1);
        let work = parent.map_or(work, |parent| parent.work + work);
        Block { header, height, coinbase: None, txids: vec![], found_ms: 0, issues: vec![], work }
    }

    /// Inserts a block each: its name, its parent's name, its own work.
    fn tree(shape: &[(u32, u32, Work)]) -> (Tree, impl Fn(u32) -> Hash) {
        let first = block(None, 0, 0, 1);
        let mut named = HashMap::from([(0, first.clone())]);
        let mut tree = Tree::new(first);
        for &(name, parent, work) in shape {
            let block = block(Some(&named[&parent]), name, name, work);
            tree.insert(block.clone());
            named.insert(name, block);
        }
        (tree, move |name| named[&name].hash())
    }

    #[test]
    fn most_work_wins_and_of_equals_the_first() {
        let check = |shape: &[(u32, u32, Work)], tip: u32| {
            let (tree, hash) = tree(shape);
            assert_eq!(tree.tip(), hash(tip), "{shape:?}");
        };
        check(&[], 0);
        check(&[(1, 0, 1), (2, 1, 1)], 2);
        check(&[(1, 0, 1), (2, 0, 1)], 1);
        check(&[(1, 0, 1), (2, 0, 2)], 2);
        check(&[(1, 0, 1), (2, 1, 1), (3, 0, 1), (4, 3, 1)], 2);
        check(&[(1, 0, 1), (2, 1, 1), (3, 0, 1), (4, 3, 1), (5, 4, 1)], 5);
    }

    #[test]
    fn a_reorganisation_says_what_left_and_what_joined() {
        let (mut tree, hash) = tree(&[(1, 0, 1), (2, 1, 1), (3, 1, 1), (4, 3, 1)]);
        assert_eq!(tree.depth(&hash(4)), Some(1));
        assert_eq!(tree.depth(&hash(1)), Some(3));
        assert_eq!(tree.depth(&hash(2)), None);
        assert_eq!(tree.depth(&[9; 32]), None);
        let change = tree.invalidate(&hash(3)).unwrap();
        assert_eq!(change, Change { left: vec![hash(4), hash(3)], joined: vec![hash(2)] });
        assert_eq!((tree.tip(), tree.depth(&hash(1))), (hash(2), Some(2)));
        assert!(tree.is_invalid(&hash(4)) && !tree.is_invalid(&hash(1)));
        let change = tree.invalidate(&hash(1)).unwrap();
        assert_eq!(change, Change { left: vec![hash(2), hash(1)], joined: vec![] });
        assert_eq!(tree.tip(), hash(0));
        assert_eq!(tree.invalidate(&hash(0)), None);
        assert_eq!(tree.invalidate(&[9; 32]), None);
        assert_eq!(tree.invalidate(&hash(1)), Some(Change::default()));
    }

    #[test]
    fn median_of_up_to_eleven_times() {
        let check = |times: &[u32], expect: u32| {
            let mut last = block(None, 0, times[0], 1);
            let mut tree = Tree::new(last.clone());
            for &time in &times[1..] {
                last = block(Some(&last), 0, time, 1);
                tree.insert(last.clone());
            }
            assert_eq!(tree.median_time(&last.hash()), expect, "{times:?}");
        };
        check(&[5], 5);
        check(&[5, 9], 9);
        check(&[5, 9, 6], 6);
        check(&[100, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 6);
        check(&[1, 2, 3, 4, 5, 11, 10, 9, 8, 7, 6], 6);
    }
}
