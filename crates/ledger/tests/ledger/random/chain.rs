//! A chain that is reorganised at will, of real blocks: what is in them spends what is there, and is signed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Witness,
    absolute::LockTime,
    block::{Header, Version},
    blockdata::constants::genesis_block,
    hashes::Hash as _,
    transaction,
};
use ledger::{Hash, Standing};

use super::{
    Dice,
    coins::{Coins, Law},
    mempool::Mempool,
};

/// Height of its first block: halvings are near.
pub const BASE: u32 = 209_700;
/// So many blocks are there from the start.
const BEGIN: u32 = 150;
/// What strangers have from the start, each, for whoever is short.
const RICHES: Amount = Amount::from_sat(1 << 50);

/// The best chain, the branches that it has left, and what else a node has heard of.
pub struct Blocks(pub(super) Mutex<State>);

pub(super) struct State {
    pub best: Vec<Hash>,
    pub at: HashMap<Hash, usize>,
    pub blocks: HashMap<Hash, Arc<Block>>,
    known: HashSet<Hash>,
    left: Vec<Vec<Hash>>,
    made: u64,
    pub coins: Coins,
    pub mempool: Mempool,
    pub law: Law,
    /// What strangers have sent; they send it again.
    strangers: Vec<Transaction>,
    /// All that ever was in a block.
    pub transactions: HashMap<Txid, Transaction>,
    /// What the blocks pay outside of their coinbases: satoshi, and in how many outputs.
    paid: BTreeMap<ScriptBuf, (u64, u64)>,
    /// What strangers do.
    dice: Dice,
    pub manners: Manners,
}

/// How a node answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// The answer to so many questions from now is lost; 0: none.
    pub loses: u64,
    /// Whether what was sent with that question has come through all the same.
    pub hears: bool,
    /// Nodes do not agree where blocks stand.
    pub disagrees: bool,
    /// Satoshi per 1000 virtual bytes.
    pub fee_rate: Option<u64>,
}

impl Blocks {
    pub fn new(seed: u64, wallet: HashSet<ScriptBuf>) -> Self {
        let state = State {
            best: Vec::new(),
            at: HashMap::new(),
            blocks: HashMap::new(),
            known: HashSet::new(),
            left: Vec::new(),
            made: 0,
            coins: Coins::default(),
            mempool: Mempool::default(),
            law: Law::new(wallet),
            strangers: Vec::new(),
            transactions: HashMap::new(),
            paid: BTreeMap::new(),
            dice: Dice(!seed),
            manners: Manners::default(),
        };
        let blocks = Self(Mutex::new(state));
        blocks.grow(BEGIN);
        blocks
    }

    pub(super) fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    pub fn tip(&self) -> (Hash, u32) {
        self.with(|state| (*state.best.last().unwrap(), state.height()))
    }

    /// Blocks of others.
    pub fn grow(&self, count: u32) {
        self.with(|state| (0..count).for_each(|_| state.foreign()));
    }

    /// A block of others that has `transaction`, whatever else the mempool has to say to that.
    pub fn grow_with(&self, transaction: Transaction) -> Result<(), String> {
        self.with(|state| {
            super::coins::View::new(&state.coins, state.height() + 1).check(&transaction, &state.law)?;
            state.strangers.push(transaction.clone());
            let block = state.block(vec![(stranger(), Amount::from_int_btc(25))], vec![transaction]);
            state.push(block);
            state.follow(Vec::new());
            Ok(())
        })
    }

    /// What the next block may have in it, and what that pays: all of the mempool, or nothing.
    pub fn template(&self) -> (Vec<Transaction>, u64) {
        self.with(|state| {
            let transactions = state.chosen();
            let mut view = super::coins::View::new(&state.coins, state.height() + 1);
            let mut fees = 0;
            for transaction in &transactions {
                fees += view.check(transaction, &state.law).unwrap();
                view.enter(transaction);
            }
            (transactions, fees)
        })
    }

    /// A block on the tip, which nobody has heard of; and its coinbase.
    pub fn solve(&self, outputs: &[(Vec<u8>, u64)], transactions: Vec<Transaction>) -> (Hash, Hash) {
        self.with(|state| {
            let script = |bytes: &[u8]| ScriptBuf::from_bytes(bytes.to_vec());
            let pays = outputs.iter().map(|(bytes, sats)| (script(bytes), Amount::from_sat(*sats)));
            let block = state.block(pays.collect(), transactions);
            let (hash, coinbase) = (block.block_hash().to_byte_array(), block.txdata[0].compute_txid());
            state.blocks.insert(hash, Arc::new(block));
            (hash, coinbase.to_byte_array())
        })
    }

    /// The block becomes the tip, on which it builds.
    pub fn append(&self, hash: Hash) {
        self.with(|state| {
            let block = state.blocks[&hash].as_ref().clone();
            state.push(block);
            state.follow(Vec::new());
        });
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

    /// The same, and the first of the new blocks has `transactions`.
    pub fn reorganise_with(&self, depth: u32, transactions: Vec<Transaction>) {
        self.with(|state| {
            let keep = state.best.len() - depth as usize;
            state.switch(keep, &[]);
            let block = state.block(vec![(stranger(), Amount::from_int_btc(25))], transactions);
            state.push(block);
            state.follow(Vec::new());
            (0..depth).for_each(|_| state.foreign());
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

    /// No branch that was left comes back.
    pub fn forget_branches(&self) {
        self.with(|state| state.left.clear());
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

    /// A stranger sends `sats` to `script`.
    pub fn deposit(&self, script: ScriptBuf, sats: u64) {
        self.with(|state| {
            let is_rich = |coin: &super::coins::Coin| {
                coin.out.script_pubkey == stranger() && coin.out.value.to_sat() > sats + 100_000
            };
            let is_free = |at: &OutPoint| {
                !state
                    .mempool
                    .iter()
                    .any(|other| other.input.iter().any(|input| input.previous_output == *at))
            };
            let mut rich: Vec<_> =
                state.coins.all().filter(|(at, coin)| is_rich(coin) && is_free(at)).collect();
            rich.sort_by_key(|(at, coin)| (coin.height, **at));
            let (at, coin) = rich.first().expect("strangers have enough");
            let own = TxOut { value: Amount::from_sat(sats), script_pubkey: script };
            let rest = coin.out.value - own.value - Amount::from_sat(50_000);
            let outputs = vec![own, TxOut { value: rest, script_pubkey: stranger() }];
            let transaction = spending(**at, outputs);
            state.strangers.push(transaction.clone());
            let height = state.height() + 1;
            state.mempool.take(&transaction, &state.coins, height, &state.law);
        });
    }

    /// Strangers send again what is not in the chain.
    pub fn send_again(&self) {
        self.with(|state| {
            for transaction in &state.strangers {
                state.mempool.take(transaction, &state.coins, state.best.len() as u32 + BASE, &state.law);
            }
        });
    }

    pub fn forget_mempool(&self) {
        self.with(|state| state.mempool.forget());
    }

    pub fn be(&self, manners: Manners) {
        self.with(|state| state.manners = manners);
    }

    /// What is paid to `script` by blocks, outside of coinbases: satoshi, and in how many outputs; and the same of what
    /// waits to be paid.
    pub fn paid_to(&self, script: &ScriptBuf) -> ((u64, u64), (u64, u64)) {
        self.with(|state| {
            let outputs = state.mempool.iter().flat_map(|transaction| &transaction.output);
            let own = outputs.filter(|out| out.script_pubkey == *script).map(|out| out.value.to_sat());
            let waiting = own.fold((0, 0), |(sum, count), sats| (sum + sats, count + 1));
            (state.paid.get(script).copied().unwrap_or_default(), waiting)
        })
    }
}

impl State {
    /// Of the tip.
    pub fn height(&self) -> u32 {
        BASE + self.best.len() as u32 - 1
    }

    fn push(&mut self, block: Block) {
        let (hash, height) = (block.block_hash().to_byte_array(), BASE + self.best.len() as u32);
        for transaction in &block.txdata {
            self.coins.enter(transaction, height);
            self.transactions.entry(transaction.compute_txid()).or_insert_with(|| transaction.clone());
        }
        for out in paying(&block) {
            let (sum, count) = self.paid.entry(out.script_pubkey.clone()).or_default();
            (*sum, *count) = (*sum + out.value.to_sat(), *count + 1);
        }
        self.known.insert(hash);
        self.at.insert(hash, self.best.len());
        self.best.push(hash);
        self.blocks.entry(hash).or_insert_with(|| Arc::new(block));
    }

    /// What whoever finds the next block puts into it.
    fn chosen(&mut self) -> Vec<Transaction> {
        let (is_empty, is_old) = (self.dice.chance(60), self.dice.chance(30));
        if is_empty || self.best.is_empty() {
            return Vec::new();
        }
        self.mempool.block(&self.coins, self.height() + 1, &self.law, is_old)
    }

    fn foreign(&mut self) {
        let transactions = self.chosen();
        let value = if self.best.len() < BEGIN as usize { RICHES } else { Amount::from_int_btc(25) };
        let block = self.block(vec![(stranger(), value)], transactions);
        self.push(block);
        self.follow(Vec::new());
    }

    /// A block on the tip.
    fn block(&mut self, pays: Vec<(ScriptBuf, Amount)>, transactions: Vec<Transaction>) -> Block {
        self.made += 1;
        let outputs = pays.into_iter().map(|(script_pubkey, value)| TxOut { value, script_pubkey });
        let mut coinbase = spending(OutPoint::null(), outputs.collect());
        coinbase.input[0].script_sig = ScriptBuf::from_bytes(self.made.to_be_bytes().to_vec());
        let prev = self.best.last().copied().unwrap_or([0xfe; 32]);
        let mut header = Header {
            version: Version::TWO,
            prev_blockhash: BlockHash::from_byte_array(prev),
            merkle_root: TxMerkleNode::all_zeros(),
            time: self.made as u32,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        };
        let txdata: Vec<Transaction> = [coinbase].into_iter().chain(transactions).collect();
        let block = Block { header, txdata };
        header.merkle_root = block.compute_merkle_root().unwrap();
        Block { header, ..block }
    }

    /// Goes back to the first `keep` blocks, and from there on by `then`.
    fn switch(&mut self, keep: usize, then: &[Hash]) {
        let mut back = Vec::new();
        for hash in self.best.split_off(keep).into_iter().rev() {
            self.at.remove(&hash);
            let block = self.blocks[&hash].clone();
            block.txdata.iter().rev().for_each(|transaction| self.coins.leave(transaction));
            for out in paying(&block) {
                let (sum, count) = self.paid.get_mut(&out.script_pubkey).unwrap();
                (*sum, *count) = (*sum - out.value.to_sat(), *count - 1);
            }
            back.splice(0..0, block.txdata[1..].iter().cloned());
        }
        for hash in then {
            let block = self.blocks[hash].as_ref().clone();
            self.push(block);
        }
        if self.dice.chance(25) {
            self.mempool.forget();
            back.clear();
        }
        self.follow(back);
    }

    fn follow(&mut self, back: Vec<Transaction>) {
        let height = self.height() + 1;
        self.mempool.follow(back, &self.coins, height, &self.law);
    }
}

/// The outputs that are not of the coinbase.
fn paying(block: &Block) -> impl Iterator<Item = &TxOut> {
    block.txdata[1..].iter().flat_map(|transaction| &transaction.output)
}

fn spending(coin: OutPoint, output: Vec<TxOut>) -> Transaction {
    let sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
    let input =
        TxIn { previous_output: coin, script_sig: ScriptBuf::new(), sequence, witness: Witness::new() };
    Transaction { version: transaction::Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output }
}

/// Whoever has nothing to do with the pool.
pub fn stranger() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([0x99; 20]))
}

/// The block before all others, which a wallet begins with.
pub fn genesis() -> Hash {
    genesis_block(Network::Signet).block_hash().to_byte_array()
}

fn common(a: &[Hash], b: &[Hash]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Whatever, as long as it is always the same.
pub fn fees_of(hash: &Hash) -> u64 {
    u64::from(u32::from_le_bytes([hash[0], hash[1], hash[2], 0]))
}
