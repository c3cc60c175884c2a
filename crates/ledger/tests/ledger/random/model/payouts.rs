//! Payments: what the journal says of them is held against what the chain has, and is entered here only then.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, ScriptBuf, Txid};
use ledger::{BlockStatus, FeeFrom};

use super::{Accounts, Model, shared};
use crate::random::chain::Blocks;

/// How payments are made.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub threshold: u64,
    pub fee_from: FeeFrom,
    pub confirmations: u32,
    pub max_outputs: u32,
    pub max_rate: u64,
    pub fallback: Option<u64>,
    /// Whether batches are planned without being asked for.
    pub by_itself: bool,
    /// Whether the pool has the keys.
    pub signs: bool,
}

/// What an output to a miner must be worth: P2WPKH.
const DUST: u64 = 294;

#[derive(Default)]
pub struct Payouts {
    batches: Vec<Batch>,
    pub thresholds: BTreeMap<i64, u64>,
    /// Addresses, by miner.
    pub scripts: BTreeMap<i64, ScriptBuf>,
    pub seen: Seen,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub paid: u32,
    pub taken_back: u32,
    pub returned: u32,
    /// Paid by another transaction than the first.
    pub raised: u32,
    /// Batches of some of those who were due, since there were no coins for all.
    pub short: u32,
}

#[derive(Debug)]
pub struct Batch {
    items: BTreeMap<i64, u64>,
    fee_from: FeeFrom,
    /// Its transactions with the coins that they spend.
    versions: Vec<(Txid, Vec<OutPoint>)>,
    state: State,
    settled: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Open,
    Paid(Txid, Accounts),
    Returned,
}

impl Batch {
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    fn txids(&self) -> Vec<Txid> {
        self.versions.iter().map(|(txid, _)| *txid).collect()
    }

    /// Its transaction that is in the chain, how deep it is and what it leaves to the network.
    fn confirmed(&self, chain: &Blocks) -> Option<(Txid, u32, u64)> {
        let at = |(txid, _): &(Txid, _)| chain.confirmed(txid).map(|(depth, fee)| (*txid, depth, fee));
        let all: Vec<_> = self.versions.iter().filter_map(at).collect();
        assert!(all.len() < 2, "two transactions of one batch are in the chain: {all:?}");
        all.first().copied()
    }

    fn is_dead(&self, chain: &Blocks, enough: u32) -> bool {
        let own = self.txids();
        self.versions.iter().all(|(_, inputs)| chain.is_dead(inputs, &own, enough))
    }

    /// What each miner gets where the network takes `fee`.
    fn net(&self, fee: u64) -> BTreeMap<i64, u64> {
        let weights = self.items.iter().map(|(miner, sats)| (*miner, u128::from(*sats))).collect();
        let parts = match self.fee_from {
            FeeFrom::Pool => BTreeMap::new(),
            FeeFrom::Miners => shared(u128::from(fee), &weights),
        };
        let part = |miner| parts.get(miner).map_or(0, |part| *part as u64);
        self.items.iter().map(|(miner, sats)| (*miner, sats - part(miner))).collect()
    }
}

impl Payouts {
    /// What batches have paid, millisatoshi.
    pub fn paid(&self) -> BTreeMap<i64, i128> {
        let mut paid = BTreeMap::new();
        for batch in &self.batches {
            let State::Paid(_, entries) = &batch.state else { continue };
            for (account, amount) in
                entries.iter().filter(|(account, _)| **account >= 8 && **account % 8 == 2)
            {
                *paid.entry(account / 8).or_default() += amount;
            }
        }
        paid
    }

    /// What was taken from balances for batches that pay it or may pay it yet, satoshi.
    pub fn owed(&self) -> BTreeMap<i64, u64> {
        let mut owed = BTreeMap::new();
        for batch in self.batches.iter().filter(|batch| batch.state != State::Returned) {
            for (miner, sats) in &batch.items {
                *owed.entry(*miner).or_default() += sats;
            }
        }
        owed
    }

    pub fn open(&self) -> impl Iterator<Item = (usize, &Batch)> {
        (1..).zip(&self.batches).filter(|(_, batch)| batch.is_open())
    }

    /// The newest batch of a miner that was not given up.
    fn last_paid(&self, miner: i64) -> Option<usize> {
        let is_his = |batch: &Batch| batch.state != State::Returned && batch.items.contains_key(&miner);
        self.batches.iter().rposition(is_his)
    }

    /// Batches that cannot confirm any more.
    pub fn dead(&self, chain: &Blocks, enough: u32) -> Vec<usize> {
        self.open().filter(|(_, batch)| batch.is_dead(chain, enough)).map(|(id, _)| id).collect()
    }

    /// Coins that are not to be spent by others.
    pub fn locked(&self) -> impl Iterator<Item = OutPoint> + '_ {
        let batches = self.batches.iter().filter(|batch| batch.state != State::Returned);
        batches.flat_map(|batch| batch.versions.iter().flat_map(|(_, inputs)| inputs.iter().copied()))
    }

    /// What the transactions of batches are.
    pub fn versions(&mut self, all: BTreeMap<i64, Vec<(Txid, Vec<OutPoint>)>>) {
        for (id, versions) in all {
            if let Some(batch) = self.batches.get_mut(id as usize - 1) {
                batch.versions = versions;
            }
        }
    }

    /// The chain has paid each miner what its batches say, once each, and nobody anything else. To be asked when all is
    /// done that was to be done.
    pub fn check(&self, chain: &Blocks, policy: &Policy, when: &str) {
        let mut expect: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        for (id, batch) in (1..).zip(&self.batches) {
            let confirmed = batch.confirmed(chain);
            match (&batch.state, confirmed) {
                (State::Open, Some((_, depth, _))) => {
                    assert!(depth < policy.confirmations, "{when}: batch {id} is {depth} deep and not paid");
                }
                (State::Paid(txid, _), _) => {
                    assert_eq!(
                        confirmed.map(|at| at.0),
                        Some(*txid),
                        "{when}: batch {id} is not on the chain"
                    );
                }
                (State::Returned, Some(_)) => panic!("{when}: batch {id} was returned and is paid"),
                (_, None) => {}
            }
            let net = confirmed.map(|(_, _, fee)| batch.net(fee)).unwrap_or_default();
            for (miner, sats) in net {
                let (sum, count) = expect.entry(miner).or_default();
                (*sum, *count) = (*sum + sats, *count + 1);
            }
        }
        for (miner, script) in &self.scripts {
            let expect = expect.get(miner).copied().unwrap_or_default();
            assert_eq!(chain.paid_to(script).0, expect, "{when}: satoshi and outputs to miner {miner}");
        }
    }
}

impl Model {
    /// Who is to be paid now, and how much: the largest balances first. Not what a coinbase pays that may yet come to count.
    pub fn due(&self, policy: &Policy) -> Vec<(i64, u64)> {
        let fee = match policy.fee_from {
            FeeFrom::Pool => 0,
            FeeFrom::Miners => (400 * policy.max_rate).div_ceil(1000),
        };
        let mut due = Vec::new();
        for miner in self.payouts.scripts.keys() {
            let held: i128 = self
                .blocks
                .iter()
                .filter(|block| {
                    block.watched
                        && !block.solo
                        && matches!(block.state, BlockStatus::Candidate | BlockStatus::Orphaned)
                })
                .filter_map(|block| block.paid.get(miner))
                .sum();
            let balance = self.accounts.get(&(8 * miner + 1)).copied().unwrap_or(0) - held;
            let threshold = self.payouts.thresholds.get(miner).copied().unwrap_or(policy.threshold);
            if balance >= i128::from(threshold.max(1)) * 1_000 && balance / 1_000 >= i128::from(DUST + fee) {
                due.push((balance, *miner));
            }
        }
        due.sort_by_key(|(balance, miner)| (std::cmp::Reverse(*balance), *miner));
        due.into_iter().map(|(balance, miner)| (miner, (balance / 1_000) as u64)).collect()
    }

    /// `free`: what the wallet has for it. Plan as large as there is room for; else, and only if there are no coins for that,
    /// of those who fit each in his turn.
    pub fn planned(
        &mut self,
        id: usize,
        items: BTreeMap<i64, u64>,
        policy: &Policy,
        (free, fee): (u64, u64),
        when: &str,
    ) {
        assert_eq!(id, self.payouts.batches.len() + 1, "{when}");
        assert!(!items.is_empty(), "{when}: batch {id}");
        let (most, mut due) = (policy.max_outputs as usize, self.due(policy));
        let whole: BTreeMap<i64, u64> = due.iter().take(most).copied().collect();
        if items != whole {
            assert!(free < whole.values().sum::<u64>() + fee, "{when}: batch {id}: {items:?} of {whole:?}");
            due.sort_by_key(|(miner, sats)| (self.payouts.last_paid(*miner), *sats, *miner));
            let (mut room, mut taken) = (free, 0);
            for (miner, sats) in &due {
                match items.get(miner) {
                    Some(paid) => {
                        assert_eq!(paid, sats, "{when}: batch {id}: miner {miner}");
                        (room, taken) = (room - sats, taken + 1);
                    }
                    None => {
                        let fits = taken < most && sats + fee <= room;
                        assert!(
                            !fits,
                            "{when}: batch {id}: miner {miner} is passed over: {items:?} of {due:?}"
                        );
                    }
                }
            }
            assert_eq!(taken, items.len(), "{when}: batch {id}: {items:?} of {due:?}");
            self.payouts.seen.short += 1;
        }
        let mut entries = Accounts::new();
        for (miner, sats) in &items {
            entries.insert(8 * miner + 1, -i128::from(*sats) * 1_000);
            entries.insert(8 * miner + 3, i128::from(*sats) * 1_000);
        }
        self.enter(entries);
        let (versions, settled) = Default::default();
        let (fee_from, state) = (policy.fee_from, State::Open);
        self.payouts.batches.push(Batch { items, fee_from, versions, state, settled });
    }

    /// The chain must have it, deep enough, and pay exactly this.
    pub fn settled(&mut self, id: usize, count: u32, chain: &Blocks, policy: &Policy, when: &str) {
        let batch = &mut self.payouts.batches[id - 1];
        assert_eq!((&batch.state, count), (&State::Open, batch.settled + 1), "{when}: batch {id}");
        let (txid, depth, fee) =
            batch.confirmed(chain).unwrap_or_else(|| panic!("{when}: batch {id} is nowhere"));
        assert!(depth >= policy.confirmations, "{when}: batch {id} is {depth} deep");
        let net = batch.net(fee);
        let transaction = chain.transaction(&txid);
        let outputs = transaction.output.iter().map(|out| (&out.script_pubkey, out.value.to_sat()));
        let outputs: Vec<_> = outputs.take(net.len()).collect();
        let expect: Vec<_> = net.iter().map(|(miner, sats)| (&self.payouts.scripts[miner], *sats)).collect();
        assert_eq!(outputs, expect, "{when}: batch {id}");
        let change = &transaction.output[net.len()..];
        assert!(
            change.len() < 2 && change.iter().all(|out| chain.owns(&out.script_pubkey)),
            "{when}: {change:?}"
        );

        let mut entries: Accounts = [(5, i128::from(fee) * 1_000)].into();
        if batch.fee_from == FeeFrom::Pool {
            entries.insert(4, -i128::from(fee) * 1_000);
        }
        for (miner, sats) in &batch.items {
            entries.insert(8 * miner + 3, -i128::from(*sats) * 1_000);
            entries.insert(8 * miner + 2, i128::from(net[miner]) * 1_000);
        }
        batch.settled = count;
        batch.state = State::Paid(txid, entries.clone());
        self.payouts.seen.raised += u32::from(batch.versions[0].0 != txid);
        self.payouts.seen.paid += 1;
        self.enter(entries);
    }

    /// Its transaction must not be in the chain any more.
    pub fn taken_back(&mut self, id: usize, count: u32, chain: &Blocks, when: &str) {
        let batch = &mut self.payouts.batches[id - 1];
        let State::Paid(txid, entries) = std::mem::replace(&mut batch.state, State::Open) else {
            panic!("{when}: batch {id} was not paid")
        };
        assert_eq!((count, chain.confirmed(&txid)), (batch.settled, None), "{when}: batch {id}");
        self.payouts.seen.taken_back += 1;
        self.enter(entries.into_iter().map(|(account, amount)| (account, -amount)).collect());
    }

    /// None of its transactions can come into the chain any more.
    pub fn returned(&mut self, id: usize, chain: &Blocks, policy: &Policy, when: &str) {
        let batch = &mut self.payouts.batches[id - 1];
        assert_eq!(batch.state, State::Open, "{when}: batch {id}");
        assert!(batch.is_dead(chain, policy.confirmations), "{when}: batch {id} may still confirm");
        batch.state = State::Returned;
        let mut entries = Accounts::new();
        for (miner, sats) in &batch.items {
            entries.insert(8 * miner + 1, i128::from(*sats) * 1_000);
            entries.insert(8 * miner + 3, -i128::from(*sats) * 1_000);
        }
        self.payouts.seen.returned += 1;
        self.enter(entries);
    }
}
