//! The same accounts kept once more, in the plainest way: every slot is remembered, every window is walked from its end,
//! every amount is divided on paper.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{BlockStatus, Found, Hash, Scheme, Standing};

use BlockStatus::{Candidate, Immature, Mature, Orphaned};

mod payouts;

use payouts::Payouts;
pub use payouts::Policy;

/// Accounts by their numbers: 1 rewards, 2 reserve, 3 and 4 fee, 5 network, 6 reserve:immature, 8 x miner + purse.
pub type Accounts = BTreeMap<i64, i128>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub scheme: Scheme,
    pub fee_ppm: u32,
}

/// A record on its way to the database.
#[derive(Clone, Debug)]
pub enum Pushed {
    Share { miner: i64, work: u128, bits: u32, height: u32, time_ms: u64, terms: Terms },
    Found { finder: i64, found: Found, terms: Terms, outputs: Vec<(Option<i64>, u64)> },
}

#[derive(Debug)]
struct Slot {
    terms: Terms,
    opened_ms: u64,
    work: BTreeMap<i64, u128>,
    rates: BTreeMap<(i64, u32, u32), u128>,
}

#[derive(Debug)]
struct Block {
    hash: Hash,
    height: u32,
    solo: bool,
    reward: i128,
    fee: i128,
    reserve: i128,
    parts: BTreeMap<i64, i128>,
    paid: BTreeMap<i64, i128>,
    state: BlockStatus,
    matured: bool,
    watched: bool,
    /// What stands in the books for it.
    posted: Accounts,
    /// What the reserve did when it left the chain.
    cover: Accounts,
}

#[derive(Default)]
pub struct Model {
    slots: Vec<Slot>,
    is_open: bool,
    blocks: Vec<Block>,
    pub accounts: Accounts,
    rests: BTreeMap<i64, u128>,
    height: u32,
    /// Mean fees in force, millisatoshi.
    pub mean: u128,
    /// What coinbases have paid beyond what there was.
    pub short: i128,
    pub payouts: Payouts,
}

/// The unit of rests: 2^-62 of a millisatoshi.
const ONE: u128 = 1 << 62;

impl Model {
    pub fn apply(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Share { miner, work, bits, height, time_ms, terms } => {
                let is_over =
                    |slot: &Slot| slot.terms != terms || time_ms.saturating_sub(slot.opened_ms) >= 600_000;
                if self.is_open && self.slots.last().is_some_and(is_over) {
                    self.close();
                }
                if !self.is_open {
                    let (work, rates) = Default::default();
                    self.slots.push(Slot { terms, opened_ms: time_ms, work, rates });
                    self.is_open = true;
                }
                let slot = self.slots.last_mut().unwrap();
                *slot.work.entry(miner).or_default() += work;
                *slot.rates.entry((miner, bits, height / 210_000)).or_default() += work;
                self.height = self.height.max(height);
            }
            Pushed::Found { finder, found, terms, outputs } => self.found(finder, &found, terms, &outputs),
        }
    }

    fn close(&mut self) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let slot = self.slots.last().unwrap();
        let mean = match slot.terms.scheme {
            Scheme::Pps { .. } | Scheme::PpsPlus { .. } => 0,
            Scheme::Fpps { .. } => self.mean,
            _ => return,
        };
        for ((miner, bits, halvings), work) in &slot.rates {
            let block = (5_000_000_000u128 >> halvings) * 1_000 + mean;
            let value = block * u128::from(1_000_000 - slot.terms.fee_ppm) * work;
            let divisor = network_work(*bits) * 1_000_000;
            let rest = self.rests.entry(*miner).or_default();
            *rest += ((value % divisor) * ONE).div_ceil(divisor);
            let whole = value / divisor;
            *self.accounts.entry(8 * miner + 1).or_default() += whole as i128;
            *self.accounts.entry(2).or_default() -= whole as i128;
        }
        for (miner, rest) in &mut self.rests {
            let carried = (*rest / ONE) as i128;
            *rest %= ONE;
            *self.accounts.entry(8 * miner + 1).or_default() += carried;
            *self.accounts.entry(2).or_default() -= carried;
        }
    }

    fn found(&mut self, finder: i64, found: &Found, terms: Terms, outputs: &[(Option<i64>, u64)]) {
        if self.blocks.iter().any(|block| block.hash == found.hash) {
            return;
        }
        self.close();
        let mut paid: BTreeMap<i64, i128> = BTreeMap::new();
        for (miner, sats) in outputs {
            if let Some(miner) = miner {
                *paid.entry(*miner).or_default() += i128::from(*sats) * 1_000;
            }
        }
        let all: i128 = outputs.iter().map(|(_, sats)| i128::from(*sats) * 1_000).sum();
        let solo = terms.scheme == Scheme::Solo;
        let (mut fee, mut reserve, mut parts) = (0, 0, BTreeMap::new());
        if solo {
            let own = paid.get(&finder).copied().unwrap_or(0);
            fee = all - own;
            parts.insert(finder, own);
        } else {
            let split = found.origin.unwrap().split;
            let (end, bits) =
                split.map_or((self.slots.len(), found.bits), |split| (split.slot as usize, split.bits));
            let subsidy = ((5_000_000_000u128 >> (found.height / 210_000)) * 1_000).min(all as u128);
            self.divide(
                subsidy,
                all as u128 - subsidy,
                terms,
                end,
                bits,
                finder,
                (&mut fee, &mut reserve, &mut parts),
            );
        }
        self.blocks.push(Block {
            hash: found.hash,
            height: found.height,
            solo,
            reward: all,
            fee,
            reserve,
            parts,
            paid,
            state: Candidate,
            matured: false,
            watched: true,
            posted: Accounts::new(),
            cover: Accounts::new(),
        });
    }

    #[allow(clippy::too_many_arguments)]
    fn divide(
        &self,
        subsidy: u128,
        fees: u128,
        terms: Terms,
        end: usize,
        bits: u32,
        finder: i64,
        (fee, reserve, parts): (&mut i128, &mut i128, &mut BTreeMap<i64, i128>),
    ) {
        let (mut by_fees, mut by_subsidy) = self.window(end, bits);
        if by_fees.is_empty() {
            let whose = if terms.scheme.buys() { 0 } else { finder };
            (by_fees, by_subsidy) = ([(whose, 1)].into(), [(whose, 1)].into());
        }
        let pieces = match by_fees == by_subsidy {
            true => vec![(subsidy + fees, by_fees)],
            false => vec![(subsidy, by_subsidy), (fees, by_fees)],
        };
        let mut gross = Vec::new();
        for (amount, weights) in &pieces {
            let total: u128 = weights.values().sum();
            let ours = weights.get(&0).copied().unwrap_or(0);
            gross.push(amount * (total - ours) / total);
        }
        let sum: u128 = gross.iter().sum();
        let all_fee = sum * u128::from(terms.fee_ppm) / 1_000_000;
        let mut left = all_fee;
        for (at, ((amount, weights), gross)) in pieces.iter().zip(&gross).enumerate() {
            let of_this = if at + 1 == pieces.len() || sum == 0 { left } else { all_fee * gross / sum };
            left -= of_this;
            *reserve += (amount - gross) as i128;
            let miners: BTreeMap<i64, u128> = weights
                .iter()
                .filter(|(miner, _)| **miner != 0)
                .map(|(miner, work)| (*miner, *work))
                .collect();
            for (miner, part) in shared(gross - of_this, &miners) {
                *parts.entry(miner).or_default() += part as i128;
            }
        }
        *fee = all_fee as i128;
    }

    /// Weights for fees and for subsidy; miner 0 is the reserve.
    fn window(&self, end: usize, bits: u32) -> (BTreeMap<i64, u128>, BTreeMap<i64, u128>) {
        let (mut by_fees, mut by_subsidy): (BTreeMap<i64, u128>, BTreeMap<i64, u128>) = Default::default();
        let mut behind = 0;
        for slot in self.slots[..end].iter().rev() {
            let (factor, miner_has_fees, miner_has_subsidy) = match slot.terms.scheme {
                Scheme::Solo => continue,
                Scheme::Pplns { factor } => (factor, true, true),
                Scheme::Tides => (8, true, true),
                Scheme::Pps { factor } | Scheme::Fpps { factor } => (factor, false, false),
                Scheme::PpsPlus { factor } => (factor, true, false),
            };
            let all: u128 = slot.work.values().sum();
            let length = network_work(bits) * u128::from(factor);
            let taken = length.saturating_sub(behind).min(all);
            behind += all;
            // Of all factors that the test has: 8, 20, 25, 30 and 50.
            let scale = 600 / u128::from(factor);
            let parts = match (miner_has_fees, taken == all) {
                (false, _) => [(0, taken)].into(),
                (true, true) => slot.work.clone(),
                (true, false) => shared(taken, &slot.work),
            };
            for (miner, work) in parts.into_iter().filter(|(_, work)| *work > 0) {
                *by_fees.entry(miner).or_default() += work * scale;
                *by_subsidy.entry(if miner_has_subsidy { miner } else { 0 }).or_default() += work * scale;
            }
        }
        (by_fees, by_subsidy)
    }

    /// One look at every block: candidates first, then the newest.
    pub fn follow(&mut self, standing: impl Fn(&Hash) -> Standing) {
        let mut order: Vec<usize> = (0..self.blocks.len()).filter(|at| self.blocks[*at].watched).collect();
        order.sort_by_key(|at| (self.blocks[*at].state != Candidate, std::cmp::Reverse(*at)));
        for at in order {
            let standing = standing(&self.blocks[at].hash);
            self.step(at, standing);
        }
    }

    fn step(&mut self, at: usize, standing: Standing) {
        let past = i64::from(self.height) - i64::from(self.blocks[at].height);
        let block = &mut self.blocks[at];
        match (block.state, standing) {
            (Candidate, Standing::OnChain(_)) | (Orphaned, Standing::OnChain(_)) if !block.matured => {
                block.state = Immature;
                self.credit(at);
            }
            (Orphaned, Standing::OnChain(_)) => {
                block.state = Mature;
                let back = block.cover.iter().map(|(account, amount)| (*account, -amount)).collect();
                self.post(at, back);
            }
            (Immature, Standing::OnChain(depth)) if depth >= 100 => {
                (block.state, block.matured) = (Mature, true);
                self.mature(at);
            }
            (Mature, Standing::OnChain(depth)) if depth >= 144 => block.watched = false,
            (Immature, Standing::OffChain) => {
                block.state = Orphaned;
                let back = block.posted.iter().map(|(account, amount)| (*account, -amount)).collect();
                self.post(at, back);
            }
            (Mature, Standing::OffChain) if block.solo => {
                (block.state, block.matured) = (Orphaned, false);
                let back = block.posted.iter().map(|(account, amount)| (*account, -amount)).collect();
                self.post(at, back);
            }
            (Mature, Standing::OffChain) => {
                block.state = Orphaned;
                self.cover(at);
            }
            (Candidate, Standing::OffChain) if past > 0 => block.state = Orphaned,
            (Orphaned, Standing::OffChain | Standing::Unknown) if past > 144 => block.watched = false,
            _ => {}
        }
    }

    fn credit(&mut self, at: usize) {
        let block = &self.blocks[at];
        let mut entries: Accounts = [(1, -block.reward), (3, block.fee), (6, block.reserve)].into();
        let miners: BTreeSet<i64> = block.parts.keys().chain(block.paid.keys()).copied().collect();
        for miner in miners {
            let part = block.parts.get(&miner).copied().unwrap_or(0);
            let over =
                if block.solo { 0 } else { (block.paid.get(&miner).copied().unwrap_or(0) - part).max(0) };
            entries.insert(8 * miner, part + over);
            entries.insert(8 * miner + 1, -over);
        }
        self.post(at, entries);
    }

    fn mature(&mut self, at: usize) {
        let block = &self.blocks[at];
        let mut entries: Accounts =
            [(3, -block.fee), (4, block.fee), (6, -block.reserve), (2, block.reserve)].into();
        for (account, amount) in
            block.posted.iter().filter(|(account, _)| **account >= 8 && **account % 8 == 0)
        {
            let paid = block.paid.get(&(account / 8)).copied().unwrap_or(0);
            let paid = if block.solo { *amount } else { paid.min(*amount) };
            *entries.entry(*account).or_default() -= amount;
            *entries.entry(account + 2).or_default() += paid;
            *entries.entry(account + 1).or_default() += amount - paid;
        }
        self.post(at, entries);
    }

    /// What the coinbase paid was never paid; what else there was stays, at the reserve's cost.
    fn cover(&mut self, at: usize) {
        let block = &self.blocks[at];
        let mut entries: Accounts = [(1, block.reward)].into();
        for (account, amount) in block.posted.iter().filter(|(account, _)| **account >= 8) {
            if account % 8 == 2 || (account % 8 == 1 && *amount < 0) {
                entries.insert(*account, -amount);
            }
        }
        let sum: i128 = entries.values().sum();
        entries.insert(2, -sum);
        self.blocks[at].cover = entries.clone();
        self.post(at, entries);
    }

    fn post(&mut self, at: usize, entries: Accounts) {
        for (account, amount) in &entries {
            *self.blocks[at].posted.entry(*account).or_default() += amount;
        }
        self.enter(entries);
    }

    fn enter(&mut self, entries: Accounts) {
        assert_eq!(entries.values().sum::<i128>(), 0, "{entries:?}");
        for (account, amount) in entries {
            let balance = self.accounts.entry(account).or_default();
            *balance += amount;
            if account >= 8 {
                self.short = self.short.min(*balance);
            }
        }
    }

    /// What blocks on chain have given, and how many there are in each state.
    pub fn rewards(&self) -> i128 {
        let on_chain = |block: &&Block| matches!(block.state, Immature | Mature);
        self.blocks.iter().filter(on_chain).map(|block| block.reward).sum()
    }

    /// What has been paid to miners: by the coinbases of blocks that are deep enough, and in batches.
    pub fn paid(&self) -> BTreeMap<i64, i128> {
        let mut paid = self.payouts.paid();
        for block in self.blocks.iter().filter(|block| block.state == Mature) {
            for (miner, msat) in &block.paid {
                *paid.entry(*miner).or_default() += msat;
            }
        }
        paid
    }

    /// Blocks, and how many of them have paid a miner more than its part.
    pub fn seen(&self) -> (usize, usize) {
        let carries = |block: &&Block| {
            let over = |(miner, paid): (&i64, &i128)| *paid > block.parts.get(miner).copied().unwrap_or(0);
            !block.solo && block.paid.iter().any(over)
        };
        (self.blocks.len(), self.blocks.iter().filter(carries).count())
    }
}

/// Average hashes for a block, by the textbook, for the targets that the test has.
fn network_work(bits: u32) -> u128 {
    match bits {
        0x207f_ffff => 2,
        0x200f_ffff => 16,
        other => panic!("{other:x}"),
    }
}

/// `amount` in proportion: rounded down, and what is left one each to those who lost most by it, the first of equals.
fn shared(amount: u128, weights: &BTreeMap<i64, u128>) -> BTreeMap<i64, u128> {
    let total: u128 = weights.values().sum();
    if total == 0 {
        return BTreeMap::new();
    }
    let mut lost: Vec<(u128, i64)> =
        weights.iter().map(|(miner, weight)| (amount * weight % total, *miner)).collect();
    lost.sort_by_key(|(lost, miner)| (std::cmp::Reverse(*lost), *miner));
    let mut parts: BTreeMap<i64, u128> =
        weights.iter().map(|(miner, weight)| (*miner, amount * weight / total)).collect();
    let left = amount - parts.values().sum::<u128>();
    for (_, miner) in lost.iter().take(left as usize) {
        *parts.get_mut(miner).unwrap() += 1;
    }
    parts
}
