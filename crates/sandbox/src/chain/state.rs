//! The chain, its mempool and its pace together, in plain data: the time is an argument.

use std::collections::HashSet;

use bitcoin::{
    Block as WholeBlock, BlockHash, CompactTarget, TxMerkleNode,
    block::{Header, Version},
    consensus,
    hashes::Hash as _,
};
use share::{Difficulty, Hash, sha256};
use template::{Depth, Submitted, Template, Tip};

use crate::chain::{
    ChainConfig,
    check::{self, Hashes, MAX_WEIGHT, Place, Refusal},
    difficulty::{self, Issue, Pace},
    mempool::Mempool,
    tree::{Block, Change, Tree},
};

/// Kept free in templates for header and coinbase, in weight units; Bitcoin Core does the same.
const RESERVED_WEIGHT: u64 = 8_000;

/// Blocks whose transactions are kept, in case the chain goes back behind them.
const BURIED: usize = 12;

/// A chain in memory.
pub struct State {
    pace: Pace,
    template_interval_ms: u64,
    tree: Tree,
    mempool: Mempool,
    current: Option<Current>,
    /// How many templates there were: part of the long poll id.
    generation: u64,
}

/// The template that is handed out.
struct Current {
    template: Template,
    /// When the mempool was last looked at for it.
    looked_ms: u64,
}

impl State {
    /// A chain of one block, that is older than `now_ms` by ten minutes.
    pub fn new(config: &ChainConfig, now_ms: u64) -> Self {
        let interval_ms = millis(config.block_interval);
        let bits = Difficulty::new(config.start_difficulty).map_or(difficulty::EASIEST, difficulty::bits);
        let header = Header {
            version: Version::NO_SOFT_FORK_SIGNALLING,
            prev_blockhash: BlockHash::all_zeros(),
            merkle_root: TxMerkleNode::from_byte_array(sha256::double(&config.seed.to_le_bytes())),
            time: seconds(now_ms).saturating_sub(600),
            bits: CompactTarget::from_consensus(bits),
            nonce: 0,
        };
        let first = Block {
            header,
            height: config.start_height.saturating_sub(1),
            coinbase: None,
            txids: Vec::new(),
            found_ms: now_ms,
            issues: vec![Issue { bits, since_ms: now_ms }],
            work: difficulty::target(bits).work(),
        };
        Self {
            pace: Pace::new(interval_ms, config.retarget),
            template_interval_ms: millis(config.template_interval),
            tree: Tree::new(first),
            mempool: Mempool::new(config.seed, config.transactions, interval_ms, now_ms),
            current: None,
            generation: 0,
        }
    }

    /// The best block.
    pub fn tip(&self) -> Tip {
        let hash = self.tree.tip();
        Tip { hash, height: self.tree.get(&hash).map_or(0, |block| block.height) }
    }

    /// Where a block stands.
    pub fn depth(&self, hash: &Hash) -> Depth {
        match self.tree.depth(hash) {
            Some(depth) => Depth::OnChain(depth),
            None if self.tree.get(hash).is_some() => Depth::OffChain,
            None => Depth::Unknown,
        }
    }

    /// A block of any branch, while it is remembered.
    pub fn block(&self, hash: &Hash) -> Option<&Block> {
        self.tree.get(hash)
    }

    /// The template to work on, and when there may be a better one on the same tip, in milliseconds since 1970. It has
    /// another long poll id than the one before if the tip changed, the target was eased or the fees rose.
    pub fn template(&mut self, now_ms: u64) -> (Template, u64) {
        let tip = self.tree.tip();
        let mut bits = difficulty::EASIEST;
        let mut ease_ms = None;
        if let Some(block) = self.tree.get_mut(&tip) {
            self.pace.ease(&mut block.issues, now_ms);
            bits = block.issues.last().map_or(bits, |issue| issue.bits);
            ease_ms = self.pace.next_ease_ms(&block.issues, now_ms);
        }
        let current = self.current.take();
        let mut current =
            match current.filter(|old| (old.template.prev_hash, old.template.bits) == (tip, bits)) {
                Some(old) if now_ms < old.looked_ms.saturating_add(self.template_interval_ms) => old,
                old => {
                    self.mempool.advance(now_ms);
                    let new = self.build(&tip, bits);
                    let paid = |current: &Current| current.template.coinbase_value;
                    match old.filter(|old| paid(old) >= new.coinbase_value) {
                        Some(old) => Current { looked_ms: now_ms, ..old },
                        None => {
                            self.generation += 1;
                            let long_poll = Some(format!("{}{:x}", hex::encode(tip), self.generation));
                            Current { template: Template { long_poll, ..new }, looked_ms: now_ms }
                        }
                    }
                }
            };
        current.template.time = seconds(now_ms).max(current.template.min_time);
        let template = current.template.clone();
        let look_ms = current.looked_ms.saturating_add(self.template_interval_ms);
        self.current = Some(current);
        (template, ease_ms.map_or(look_ms, |ease_ms| ease_ms.min(look_ms)))
    }

    fn build(&self, tip: &Hash, bits: u32) -> Template {
        let height = self.tip().height.saturating_add(1);
        let entries = self.mempool.select(MAX_WEIGHT - RESERVED_WEIGHT);
        let fees: u64 = entries.iter().map(|entry| entry.fee).sum();
        let wtxids: Vec<Hash> =
            [[0; 32]].into_iter().chain(entries.iter().map(|entry| entry.wtxid)).collect();
        let commitment = check::witness_commitment(&check::merkle_root(&wtxids).0, &[0; 32]);
        let mut transactions = Vec::with_capacity(entries.iter().map(|entry| entry.bytes.len()).sum());
        for entry in &entries {
            transactions.extend_from_slice(&entry.bytes);
        }
        let min_time = self.tree.median_time(tip).saturating_add(1);
        Template {
            height,
            prev_hash: *tip,
            version: 0x2000_0000,
            bits,
            network_target: difficulty::target(bits),
            time: min_time,
            min_time,
            coinbase_value: check::subsidy(height) + fees,
            witness_commitment: Some([&check::COMMITMENT[..], &commitment].concat()),
            transactions: transactions.into(),
            transaction_count: entries.len(),
            branch: sha256::branch(entries.iter().map(|entry| entry.txid)),
            long_poll: None,
        }
    }

    /// Judges a serialised block, and takes it if it is good. The answers are those of `submitblock`.
    pub fn submit(&mut self, bytes: &[u8], now_ms: u64) -> Submitted {
        let Ok(block) = consensus::deserialize::<WholeBlock>(bytes) else {
            return Submitted::Refused("Block decode failed".into());
        };
        let hash = block.block_hash().to_byte_array();
        if self.tree.is_invalid(&hash) {
            return Submitted::Refused("duplicate-invalid".into());
        }
        if self.tree.get(&hash).is_some() {
            return Submitted::Known;
        }
        match self.accept(&block, now_ms) {
            Ok(change) if change.joined.is_empty() => Submitted::Unclear("inconclusive".into()),
            Ok(_) => Submitted::Accepted,
            Err(refusal) => Submitted::Refused(refusal.to_string()),
        }
    }

    fn accept(&mut self, block: &WholeBlock, now_ms: u64) -> Result<Change, Refusal> {
        let hashes = Hashes::of(block);
        check::alone(block, &hashes)?;
        let (header, parent_hash) = (block.header, block.header.prev_blockhash.to_byte_array());
        let parent = self.tree.get(&parent_hash).ok_or(Refusal::ParentUnknown)?;
        let height = parent.height.saturating_add(1);
        let place = Place {
            height,
            median_time: self.tree.median_time(&parent_hash),
            issues: &parent.issues,
            parent_invalid: self.tree.is_invalid(&parent_hash),
        };
        check::at(block, &hashes, &place, now_ms / 1000)?;
        // What is buried deeper is not known any more, so it cannot be spent again either.
        let before = self.tree.ancestry(&parent_hash).take(2 * BURIED);
        let spent: HashSet<Hash> = before.flat_map(|block| block.txids.iter().copied()).collect();
        check::money(block, &hashes, height, |txid| self.mempool.get(txid).map(|entry| &**entry), spent)?;

        let bits = header.bits.to_consensus();
        let issue = parent.issues.iter().find(|issue| issue.bits == bits).ok_or(Refusal::Bits)?;
        let four_before = self.tree.ancestry(&parent_hash).nth(3).map(|block| block.found_ms);
        let next = Issue { bits: self.pace.after(*issue, now_ms, four_before), since_ms: now_ms };
        let change = self.tree.insert(Block {
            header,
            height,
            coinbase: block.txdata.first().cloned(),
            txids: hashes.txids[1..].to_vec(),
            found_ms: now_ms,
            issues: vec![next],
            work: parent.work.saturating_add(difficulty::target(bits).work()),
        });
        self.follow(&change, now_ms);
        Ok(change)
    }

    /// Makes a block of the chain, and all after it, invalid. False if it is unknown or the first.
    pub fn invalidate(&mut self, hash: &Hash, now_ms: u64) -> bool {
        let Some(change) = self.tree.invalidate(hash) else { return false };
        self.follow(&change, now_ms);
        // The new tip was passed by long ago; its next block is waited for from now on.
        let tip = self.tree.tip();
        if let Some(block) = self.tree.get_mut(&tip)
            && let Some(first) = block.issues.first().copied()
            && !change.left.is_empty()
        {
            block.issues.insert(0, Issue { since_ms: now_ms, ..first });
        }
        true
    }

    /// Lets the mempool follow the chain.
    fn follow(&mut self, change: &Change, now_ms: u64) {
        if *change == Change::default() {
            return;
        }
        let txids = |hashes: &[Hash]| -> Vec<Hash> {
            hashes
                .iter()
                .filter_map(|hash| self.tree.get(hash))
                .flat_map(|block| block.txids.clone())
                .collect()
        };
        let (joined, left) = (txids(&change.joined), txids(&change.left));
        self.mempool.confirm(&joined, &left, now_ms);
        let tip = self.tree.tip();
        let buried: Vec<Hash> = self.tree.ancestry(&tip).skip(BURIED).take(BURIED).map(Block::hash).collect();
        for hash in buried {
            if let Some(block) = self.tree.get_mut(&hash) {
                self.mempool.forget(&std::mem::take(&mut block.txids));
            }
        }
    }
}

/// Header time: seconds since 1970.
fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
