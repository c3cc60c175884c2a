//! What a node keeps of transactions that are in no block: by its rules of relay, with replacement.

use std::collections::HashSet;

use bitcoin::{Transaction, Txid};
use ledger::Sent;

use super::coins::{Coins, Law, View};

/// In the order in which blocks may have them.
#[derive(Default)]
pub struct Mempool {
    all: Vec<(Transaction, u64)>,
    /// What was replaced: some miner may have it still.
    replaced: Vec<Transaction>,
}

impl Mempool {
    pub fn iter(&self) -> impl Iterator<Item = &Transaction> {
        self.all.iter().map(|(transaction, _)| transaction)
    }

    pub fn has(&self, txid: &Txid) -> bool {
        self.iter().any(|transaction| transaction.compute_txid() == *txid)
    }

    /// What a block at `height` takes: all there is, and what was replaced before what replaced it if `is_old`.
    pub fn block(&self, coins: &Coins, height: u32, law: &Law, is_old: bool) -> Vec<Transaction> {
        let mut view = View::new(coins, height);
        let mut taken = Vec::new();
        for transaction in self.replaced.iter().filter(|_| is_old).chain(self.iter()) {
            if view.check(transaction, law).is_ok() {
                view.enter(transaction);
                taken.push(transaction.clone());
            }
        }
        taken
    }

    /// Takes a transaction, in the place of others if it pays enough more.
    pub fn take(&mut self, transaction: &Transaction, coins: &Coins, height: u32, law: &Law) -> Sent {
        let txid = transaction.compute_txid();
        if coins.place(&txid).is_some() || self.has(&txid) {
            return Sent::Taken;
        }
        let refused = |why: &str| Sent::Refused(why.to_owned());
        if transaction.output.iter().any(|out| out.value < out.script_pubkey.minimal_non_dust()) {
            return refused("dust");
        }
        let out = self.in_the_way(transaction);
        let mut view = View::new(coins, height);
        self.iter().filter(|other| !out.contains(&other.compute_txid())).for_each(|other| view.enter(other));
        let (fee, size) = match view.check(transaction, law) {
            Ok(fee) => (fee, transaction.vsize() as u64),
            Err(why) => return Sent::Refused(why),
        };
        if fee < size {
            return refused("min relay fee not met");
        }
        let of_those = self.all.iter().filter(|(other, _)| out.contains(&other.compute_txid()));
        let (mut sum, mut is_better) = (0, true);
        for (other, other_fee) in of_those {
            sum += other_fee;
            is_better &= fee * other.vsize() as u64 > other_fee * size;
        }
        if !out.is_empty() && (!is_better || fee < sum + size) {
            return refused("insufficient fee, rejecting replacement");
        }
        let (stay, go) = std::mem::take(&mut self.all)
            .into_iter()
            .partition(|(other, _)| !out.contains(&other.compute_txid()));
        self.all = stay;
        self.replaced.extend(go.into_iter().map(|(transaction, _): (Transaction, u64)| transaction));
        self.all.push((transaction.clone(), fee));
        Sent::Taken
    }

    /// Those that spend what `transaction` spends, and all that build on them.
    fn in_the_way(&self, transaction: &Transaction) -> HashSet<Txid> {
        let mut out: HashSet<Txid> = HashSet::new();
        for other in self.iter() {
            let spends = |at| transaction.input.iter().any(|own| own.previous_output == at);
            let is_out = other
                .input
                .iter()
                .any(|input| spends(input.previous_output) || out.contains(&input.previous_output.txid));
            if is_out {
                out.insert(other.compute_txid());
            }
        }
        out
    }

    /// The chain has changed: `back` are in no block any more, and what cannot be in the next one goes for good.
    pub fn follow(&mut self, back: Vec<Transaction>, coins: &Coins, height: u32, law: &Law) {
        let before = std::mem::take(&mut self.all);
        for transaction in back.into_iter().chain(before.into_iter().map(|(transaction, _)| transaction)) {
            let replaced = std::mem::take(&mut self.replaced);
            self.take(&transaction, coins, height, law);
            self.replaced = replaced;
        }
        let is_spent = |transaction: &Transaction| {
            transaction.input.iter().any(|input| coins.spender(&input.previous_output).is_some())
        };
        self.replaced.retain(|transaction| !is_spent(transaction));
    }

    /// The node was started anew, without its file.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}
