//! The pool's process: how it is set up, begun and ended.

use ledger::{Coinbases, Direct, Hand, Ledger, Payer, Scheme, Spool, SpoolConfig};

use super::{
    FEES, World,
    model::{Policy, Terms},
    payments,
};
use crate::rig::{NETWORK, Shard};

/// All that dies with the process.
pub struct Process {
    pub ledger: Ledger,
    pub hand: Hand,
    pub coinbases: Coinbases,
    pub payer: Option<Payer>,
    pub shard: Shard,
    pub _spool: Spool,
}

/// How the operator has set the pool up: coinbases that pay balances and payments exclude each other.
#[derive(Clone, Copy)]
pub struct Mode {
    pub terms: Terms,
    pub direct: Option<Direct>,
    pub pays: Option<Policy>,
}

impl World {
    /// Other terms, and either coinbases that pay balances or payments, as the configuration has it.
    pub fn any_mode(&mut self, schemes: &[Scheme]) -> Mode {
        let terms = Terms { scheme: self.dice.one_of(schemes), fee_ppm: self.dice.one_of(&FEES) };
        let is_direct = !terms.scheme.buys() && terms.scheme != Scheme::Solo && self.dice.chance(50);
        let direct = is_direct.then(|| Direct {
            min_sats: 600 + self.dice.below(1 << 31),
            most: 1 + self.dice.below(6) as usize,
        });
        let pays = (!is_direct && self.dice.chance(90)).then(|| Policy::any(&mut self.dice));
        Mode { terms, direct, pays }
    }

    pub async fn start(&mut self) {
        let Mode { terms, direct, pays } = self.mode;
        let config = SpoolConfig { segment_bytes: 1 << 14, ..SpoolConfig::default() };
        let spool = self.rig.spool_with(config);
        let pool_address = self.key.address();
        let of_ledger = ledger::Terms {
            scheme: terms.scheme,
            fee_ppm: terms.fee_ppm,
            pool_script: payments::script(&pool_address).into_bytes(),
            pool_address,
        };
        let settings = self.crash.settings(4 + self.dice.below(60) as usize);
        let ledger =
            Ledger::open_with(&self.rig.url, spool.clone(), of_ledger, NETWORK, settings).await.unwrap();
        let payer = match &pays {
            Some(policy) => Some(self.payer(&ledger, policy).await),
            None => None,
        };
        let shard = Shard::new(&spool, self.dice.below(3) as u16);
        let coinbases = ledger.coinbases(direct).await.unwrap();
        let hand = ledger.by_hand(self.chain.clone());
        self.process = Some(Process { ledger, hand, coinbases, payer, shard, _spool: spool });
    }

    /// Kills the process and starts it again, maybe set up otherwise.
    pub async fn restart(&mut self, mode: Mode) {
        self.crash.disarm_any();
        self.process = None;
        self.mode = mode;
        self.start().await;
        self.catch_up().await;
    }

    /// The same when all that was to be done is done; whoever pays may then be earlier than the drain.
    pub async fn set_up(&mut self, mode: Mode) {
        self.process = None;
        self.mode = mode;
        self.start().await;
        if self.dice.chance(50) {
            self.round().await;
        }
        self.catch_up().await;
    }

    /// Drains what was left in the spool, and beside it.
    pub async fn catch_up(&mut self) {
        Box::pin(self.drain()).await;
        if let Some((found, pushed)) = self.left_behind.take() {
            let process = self.process.as_mut().unwrap();
            self.workers.iter().for_each(|worker| process.shard.writer.worker(worker));
            process.shard.writer.found(&found);
            process.shard.commit();
            self.pushed.push(pushed);
            Box::pin(self.drain()).await;
        }
        self.fees().await;
    }
}
