//! Transactions that wait for a block: made up, but real to whoever parses, hashes or weighs them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute::LockTime,
    consensus, hashes::Hash as _, transaction::Version,
};
use rand::{Rng, RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use share::Hash;

/// A transaction, and what a template needs to know of it.
#[derive(Debug)]
pub struct Entry {
    /// Hash without witness.
    pub txid: Hash,
    /// Hash with witness.
    pub wtxid: Hash,
    /// Serialised with witness.
    pub bytes: Vec<u8>,
    /// In weight units (BIP 141).
    pub weight: u64,
    /// In satoshi. Its inputs are made up, so this is the only place that knows.
    pub fee: u64,
}

/// What waits, and what waited lately. The same seed and the same times give the same transactions.
pub struct Mempool {
    rng: Xoshiro256PlusPlus,
    size: usize,
    interval_ms: u64,
    known: HashMap<Hash, Arc<Entry>>,
    waiting: HashSet<Hash>,
    /// When the last block came, and how many arrived since.
    block_ms: u64,
    arrived: usize,
}

impl Mempool {
    /// One that holds about `size` transactions when a block comes each `interval_ms`. Its time begins at `now_ms`.
    pub fn new(seed: u64, size: usize, interval_ms: u64, now_ms: u64) -> Self {
        let mut mempool = Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            size,
            interval_ms: interval_ms.max(1),
            known: HashMap::new(),
            waiting: HashSet::new(),
            block_ms: now_ms,
            arrived: 0,
        };
        mempool.refill();
        mempool
    }

    /// A transaction that waits, or that a recent block has.
    pub fn get(&self, txid: &Hash) -> Option<&Arc<Entry>> {
        self.known.get(txid)
    }

    /// Lets arrive what arrives by `now_ms`: three tenths of the size each interval, and no more than three times the
    /// size until a block comes (nobody mines, so nobody minds).
    pub fn advance(&mut self, now_ms: u64) {
        let elapsed = u128::from(now_ms.saturating_sub(self.block_ms));
        let due = self.size as u128 * 3 * elapsed / (u128::from(self.interval_ms) * 10);
        let due = usize::try_from(due).unwrap_or(usize::MAX).min(self.size * 3);
        while self.arrived < due {
            self.arrive();
            self.arrived += 1;
        }
    }

    /// A block came: those it has no longer wait, those of blocks that it replaced do again.
    pub fn confirm<'a>(
        &mut self,
        confirmed: impl IntoIterator<Item = &'a Hash>,
        returned: impl IntoIterator<Item = &'a Hash>,
        now_ms: u64,
    ) {
        self.waiting.extend(returned.into_iter().filter(|txid| self.known.contains_key(*txid)));
        for txid in confirmed {
            self.waiting.remove(txid);
        }
        (self.block_ms, self.arrived) = (now_ms, 0);
        self.refill();
    }

    /// Forgets transactions that no longer wait: their block is buried too deep to be replaced.
    pub fn forget<'a>(&mut self, txids: impl IntoIterator<Item = &'a Hash>) {
        for txid in txids {
            if !self.waiting.contains(txid) {
                self.known.remove(txid);
            }
        }
    }

    /// The most paying transactions for a block, up to `weight` together, best first.
    pub fn select(&self, weight: u64) -> Vec<Arc<Entry>> {
        let mut entries: Vec<_> = self.waiting.iter().filter_map(|txid| self.known.get(txid)).collect();
        // a.fee / a.weight > b.fee / b.weight, without the division; the txid keeps the order the same each time.
        entries.sort_unstable_by(|a, b| {
            (b.fee * a.weight).cmp(&(a.fee * b.weight)).then_with(|| a.txid.cmp(&b.txid))
        });
        let mut left = weight;
        let fits = |entry: &&Arc<Entry>| match left.checked_sub(entry.weight) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        };
        entries.into_iter().filter(fits).cloned().collect()
    }

    /// There is always a backlog: nine tenths of the size wait when a block has just come.
    fn refill(&mut self) {
        while self.waiting.len() < self.size * 9 / 10 {
            self.arrive();
        }
    }

    fn arrive(&mut self) {
        let transaction = transaction(&mut self.rng);
        let weight = transaction.weight().to_wu();
        // 1 to 41 satoshi a vbyte, mostly the cheaper ones.
        let root = self.rng.random_range(0..=200u64);
        let entry = Entry {
            txid: transaction.compute_txid().to_byte_array(),
            wtxid: transaction.compute_wtxid().to_byte_array(),
            bytes: consensus::serialize(&transaction),
            weight,
            fee: (1_000 + root * root) * weight / 4_000,
        };
        self.waiting.insert(entry.txid);
        self.known.insert(entry.txid, Arc::new(entry));
    }
}

/// One of the shapes that fill blocks: nine in ten are payments with one or two inputs, the tenth gathers 3 to 27; all
/// have two outputs. On average 1,060 weight units: 3,700 fill a block.
fn transaction(rng: &mut Xoshiro256PlusPlus) -> Transaction {
    let inputs = if rng.random_ratio(1, 10) { rng.random_range(3..=27) } else { rng.random_range(1..=2) };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: (0..inputs).map(|_| input(rng)).collect(),
        output: (0..2).map(|_| output(rng)).collect(),
    }
}

fn input(rng: &mut Xoshiro256PlusPlus) -> TxIn {
    // A DER signature with its sighash byte, and a compressed public key: 107 bytes of witness with their lengths.
    let (mut signature, mut key) = ([0; 71], [0; 33]);
    rng.fill_bytes(&mut signature);
    rng.fill_bytes(&mut key);
    (signature[0], signature[70], key[0]) = (0x30, 0x01, 0x02 | (key[0] & 1));
    TxIn {
        previous_output: OutPoint::new(Txid::from_byte_array(rng.random()), rng.random_range(0..4)),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[&signature[..], &key[..]]),
    }
}

fn output(rng: &mut Xoshiro256PlusPlus) -> TxOut {
    // Witness programs of version 0 (a key's hash) and 1 (taproot), evenly.
    let script = if rng.random() {
        [&[0x00, 0x14][..], &rng.random::<[u8; 20]>()].concat()
    } else {
        [&[0x51, 0x20][..], &rng.random::<[u8; 32]>()].concat()
    };
    TxOut { value: Amount::from_sat(rng.random_range(1_000..=100_000_000)), script_pubkey: script.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 30_000;
    const LIMIT: u64 = 3_990_000;

    fn weight(entries: &[Arc<Entry>]) -> u64 {
        entries.iter().map(|entry| entry.weight).sum()
    }

    fn fees(entries: &[Arc<Entry>]) -> u64 {
        entries.iter().map(|entry| entry.fee).sum()
    }

    fn txids(entries: &[Arc<Entry>]) -> Vec<Hash> {
        entries.iter().map(|entry| entry.txid).collect()
    }

    #[test]
    fn transactions_are_what_their_entries_say() {
        let mempool = Mempool::new(1, 1_000, INTERVAL, 0);
        let entries = mempool.select(u64::MAX);
        assert_eq!(entries.len(), 900);
        for entry in &entries {
            let transaction: Transaction = consensus::deserialize(&entry.bytes).unwrap();
            assert_eq!(transaction.compute_txid().to_byte_array(), entry.txid);
            assert_eq!(transaction.compute_wtxid().to_byte_array(), entry.wtxid);
            assert_eq!(transaction.weight().to_wu(), entry.weight);
            assert_eq!(transaction.output.len(), 2);
            assert!(transaction.input.iter().all(|input| input.witness.size() == 107));
            let rate = entry.fee * 4 / entry.weight;
            assert!((0..=41).contains(&rate), "{rate} sat/vB");
        }
        let rates: Vec<_> = entries.iter().map(|entry| entry.fee as f64 / entry.weight as f64).collect();
        assert!(rates.is_sorted_by(|a, b| a >= b), "best first");
    }

    #[test]
    fn blocks_of_mainnet_size() {
        let mut mempool = Mempool::new(2, 3_500, INTERVAL, 0);
        let mut now = 0;
        for _ in 0..10 {
            let first = mempool.select(LIMIT);
            assert!((3_000..=4_000).contains(&first.len()), "{} transactions", first.len());
            assert!((3_200_000..=LIMIT).contains(&weight(&first)), "{} units", weight(&first));
            mempool.advance(now + INTERVAL / 2);
            let middle = mempool.select(LIMIT);
            now += INTERVAL;
            mempool.advance(now);
            let last = mempool.select(LIMIT);
            assert!(fees(&first) < fees(&middle) && fees(&middle) < fees(&last));
            assert!((3_000..=4_000).contains(&last.len()), "{} transactions", last.len());
            assert!((LIMIT - 20_000..=LIMIT).contains(&weight(&last)), "{} units", weight(&last));
            let confirmed = txids(&last);
            mempool.confirm(&confirmed, [], now);
            mempool.forget(&confirmed);
        }
    }

    #[test]
    fn same_seed_and_times_same_transactions() {
        let run = |seed| {
            let mut mempool = Mempool::new(seed, 100, INTERVAL, 5);
            mempool.advance(7_000);
            mempool.advance(19_000);
            let confirmed = txids(&mempool.select(50_000));
            mempool.confirm(&confirmed, [], 20_000);
            mempool.advance(60_000);
            txids(&mempool.select(LIMIT))
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn confirmed_leave_returned_come_back_forgotten_are_gone() {
        let mut mempool = Mempool::new(3, 10, INTERVAL, 0);
        let all = txids(&mempool.select(LIMIT));
        let (a, b) = all.split_at(4);
        mempool.confirm(a, [], 0);
        assert!(txids(&mempool.select(LIMIT)).iter().all(|txid| !a.contains(txid)));
        assert!(mempool.get(&a[0]).is_some());
        mempool.confirm(b, a, 0);
        let waiting = txids(&mempool.select(LIMIT));
        assert!(a.iter().all(|txid| waiting.contains(txid)) && b.iter().all(|txid| !waiting.contains(txid)));
        mempool.forget(&all);
        assert!(mempool.get(&b[0]).is_none());
        assert!(mempool.get(&a[0]).is_some(), "it waits");
        mempool.confirm([], b, 0);
        assert!(mempool.get(&b[0]).is_none());
    }

    #[test]
    fn without_blocks_it_stops_growing() {
        let mut mempool = Mempool::new(4, 100, INTERVAL, 0);
        mempool.advance(u64::MAX);
        assert_eq!(mempool.select(u64::MAX).len(), 90 + 300);
    }
}
