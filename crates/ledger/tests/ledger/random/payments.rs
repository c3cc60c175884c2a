//! Payments of the random world: the pool's payer against the chain, the model behind both.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bitcoin::{
    OutPoint, Psbt, ScriptBuf, Transaction, Txid, consensus::encode::deserialize_hex, hashes::Hash as _,
};
use ledger::{Descriptors, FeeFrom, Ledger, PayError, Payer, PayoutSettings};
use sqlx::Row;

use super::{
    Dice, World,
    chain::{BASE, Manners, stranger},
    model::Policy,
};
use crate::{key::Key, rig::NETWORK};

/// So many addresses of the wallet are looked at: of rewards, and of change.
const ADDRESSES: [u32; 2] = [5, 4_000];

/// What a wallet is paid to.
pub fn scripts(key: &Key) -> impl Iterator<Item = ScriptBuf> {
    let of = move |(branch, count)| (0..count).map(move |index| script(&key.address_at(branch, index)));
    (0..).zip(ADDRESSES).flat_map(of)
}

pub fn script(address: &str) -> ScriptBuf {
    address.parse::<bitcoin::Address<_>>().unwrap().assume_checked().script_pubkey()
}

impl Policy {
    pub fn any(dice: &mut Dice) -> Self {
        Self {
            threshold: dice.one_of(&[1, 20_000, 1_000_000, 2_000_000_000]),
            fee_from: dice.one_of(&[FeeFrom::Pool, FeeFrom::Miners]),
            confirmations: dice.one_of(&[1, 1, 2, 3, 6]),
            max_outputs: dice.one_of(&[2, 4, 500]),
            max_rate: dice.one_of(&[50_000, 20_000]),
            fallback: dice.one_of(&[None, Some(3_000)]),
            by_itself: dice.chance(60),
            signs: dice.chance(70),
        }
    }

    fn settings(&self, halt: ledger::PayHalt) -> PayoutSettings {
        PayoutSettings {
            threshold: self.threshold,
            // No time at all: whenever it looks.
            interval: self.by_itself.then_some(Duration::ZERO),
            confirmations: self.confirmations,
            fee_from: self.fee_from,
            max_rate: self.max_rate,
            fallback_rate: self.fallback,
            max_outputs: self.max_outputs,
            halt: Some(halt),
            ..PayoutSettings::default()
        }
    }

    /// What a payment costs now per 1000 virtual bytes, if any is made.
    fn rate(&self, manners: &Manners) -> Option<u64> {
        let rate = manners.fee_rate.or(self.fallback)?.max(1_000);
        (rate <= self.max_rate).then_some(rate)
    }
}

impl World {
    pub async fn payer(&self, ledger: &Ledger, policy: &Policy) -> Payer {
        let descriptor = if policy.signs { self.key.private() } else { self.key.public() };
        let wallet = Descriptors::parse(&descriptor, None, NETWORK, BASE).unwrap();
        let settings = policy.settings(self.crash.halt());
        ledger.payer(wallet, settings, self.chain.clone(), self.chain.clone()).await.unwrap()
    }

    /// Something happens to payments.
    pub async fn disturb_payments(&mut self) {
        match self.dice.below(100) {
            0..10 => {
                let rates =
                    [None, Some(500), Some(1_000), Some(8_000), Some(19_000), Some(40_000), Some(70_000)];
                self.manners.fee_rate = self.dice.one_of(&rates);
                self.chain.be(self.manners);
            }
            10..15 => {
                let (number, sats) = (1 + self.dice.below(7) as u32, 1 + self.dice.below(1 << 31));
                let desk = ledger::Desk::open(&self.rig.url).await.unwrap();
                assert!(desk.set_threshold(&crate::rig::miner(number), Some(sats)).await.unwrap());
                self.model.payouts.thresholds.insert(self.ids[&number], sats);
            }
            15..20 => self.chain.forget_mempool(),
            20..50 => self.deposit().await,
            50..60 => self.steal().await,
            60..70 => self.bump().await,
            70..75 => self.chain.send_again(),
            75..90 => self.order("run", "").await,
            _ => self.return_dead().await,
        }
    }

    async fn order(&mut self, kind: &str, argument: &str) {
        let sql = "INSERT INTO payout_order (kind, argument, asked_ms) VALUES ($1, $2, 0)";
        let query = sqlx::query(sql).bind(kind.to_owned()).bind(argument.to_owned());
        query.execute(&mut self.raw).await.unwrap();
    }

    async fn bump(&mut self) {
        let open: Vec<usize> = self.model.payouts.open().map(|(id, _)| id).collect();
        if !open.is_empty() {
            let id = self.dice.one_of(&open);
            let rate = self.dice.one_of(&["", " 5", " 15", " 30"]);
            self.order("bump", &format!("{id}{rate}")).await;
        }
    }

    /// The operator gives up what cannot confirm any more; and now and then, in vain, what can.
    async fn return_dead(&mut self) {
        let Some(policy) = self.mode.pays else { return };
        let mut ids = self.model.payouts.dead(&self.chain, policy.confirmations);
        if self.dice.chance(20) {
            ids.extend(self.model.payouts.open().map(|(id, _)| id));
        }
        for id in ids {
            self.order("return", &id.to_string()).await;
        }
    }

    /// Somebody who has the keys spends a coin of a batch otherwise.
    async fn steal(&mut self) {
        let sql = "SELECT t.psbt FROM payout_tx t JOIN payout p ON p.id = t.payout_id \
                   WHERE p.state NOT IN ('paid', 'returned') AND t.version = 0 ORDER BY p.id";
        let psbts: Vec<String> =
            sqlx::query(sql).fetch_all(&mut self.raw).await.unwrap().iter().map(|row| row.get(0)).collect();
        if psbts.is_empty() || self.dice.chance(50) {
            return;
        }
        let psbt = &psbts[self.dice.below(psbts.len() as u64) as usize];
        let coin = psbt.parse::<Psbt>().unwrap().inputs[0].witness_utxo.clone().unwrap();
        if coin.value.to_sat() < 10_000 {
            return; // not worth it
        }
        let to = match self.dice.chance(60) {
            true => self.key.address(),
            false => bitcoin::Address::from_script(&stranger(), NETWORK).unwrap().to_string(),
        };
        let spent: Transaction = deserialize_hex(&self.key.spend_instead(psbt, &to, 2_000)).unwrap();
        // It is in a block already, maybe, or what it spends is not there any more.
        let _ = self.chain.grow_with(spent);
    }

    /// The wallet is given what it lacks.
    async fn deposit(&mut self) {
        let sql = "SELECT CAST(COALESCE(SUM(balance_msat), 0) AS BIGINT) FROM account \
                   WHERE id > 8 AND id % 8 IN (0, 1, 3)";
        let owed: i64 = sqlx::query(sql).fetch_one(&mut self.raw).await.unwrap().get(0);
        let has: u64 = self.chain.wallet().0.values().sum();
        let lacks = (owed as u64 / 1_000).saturating_sub(has);
        if lacks > 0 {
            let index = self.dice.below(ADDRESSES[0].into()) as u32;
            self.chain.deposit(script(&self.key.address_at(0, index)), lacks + self.dice.below(1 << 30));
        }
    }

    /// The offline signer signs what there is.
    async fn sign(&mut self) {
        let sql = "SELECT t.psbt FROM payout_tx t JOIN payout p ON p.id = t.payout_id \
                   WHERE t.raw IS NULL AND p.state NOT IN ('paid', 'returned') ORDER BY p.id, t.version";
        for row in sqlx::query(sql).fetch_all(&mut self.raw).await.unwrap() {
            let signed = self.key.sign(row.get(0));
            self.order("import", &signed).await;
        }
    }

    /// Lets the pool do all that is to be done about payments; killed on the way, it starts again and goes on.
    pub async fn pay(&mut self) {
        let Some(policy) = self.mode.pays else { return };
        if !policy.signs && self.dice.chance(70) {
            self.sign().await;
        }
        let (loses, hears) = (1 + self.dice.below(9), self.dice.chance(50));
        self.trouble = match self.dice.below(100) {
            0..15 => Some(Manners { loses, hears, ..self.manners }),
            15..20 => Some(Manners { disagrees: true, ..self.manners }),
            _ => None,
        };
        self.rounds().await;
        // While a batch is on its way.
        match self.dice.below(10) {
            0..3 => self.bump().await,
            3..5 => self.steal().await,
            5..6 => self.return_dead().await,
            _ => return self.all_is_done().await,
        }
        self.rounds().await;
        self.all_is_done().await;
    }

    /// Until there is nothing more to do: a round that takes a payment back, say, leaves it to the next to pay it otherwise.
    async fn rounds(&mut self) {
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(rounds < 50, "there is no end of it");
            let (before, trouble) = (self.last_payment, self.trouble.take());
            self.chain.be(trouble.unwrap_or(self.manners));
            let is_whole = self.round().await;
            self.chain.be(self.manners);
            if is_whole && before == self.last_payment && trouble.is_none() {
                break;
            }
        }
    }

    /// One round, whatever comes of it. Whether it came to its end.
    pub async fn round(&mut self) -> bool {
        let process = self.process.as_mut().unwrap();
        let Some(payer) = &mut process.payer else { return true };
        let done = tokio::select! {
            done = payer.round() => Some(done),
            () = self.crash.reached.notified() => None,
        };
        self.audit_payments().await;
        match done {
            Some(Ok(())) => true,
            Some(Err(PayError::Wire(_))) => false,
            Some(Err(error)) => panic!("{}: {error}", self.now),
            None => {
                self.restart(self.mode).await;
                false
            }
        }
    }

    /// What the journal says of payments since the last time is held against the chain.
    pub async fn audit_payments(&mut self) {
        let sql = "SELECT id, idem_key FROM txn WHERE id > $1 AND (kind IN ('payout', 'paid', 'return') \
                   OR idem_key LIKE 'reorg:payout:%') ORDER BY id";
        let rows = sqlx::query(sql).bind(self.last_payment).fetch_all(&mut self.raw).await.unwrap();
        let policy = self.mode.pays;
        for row in &rows {
            self.last_payment = row.get(0);
            let key: String = row.get(1);
            let policy = &policy.unwrap_or_else(|| panic!("{}: {key}, and nobody pays", self.now));
            let parts: Vec<&str> = key.split(':').collect();
            let number = |at: usize| parts[at].parse::<u32>().unwrap();
            match parts[0] {
                "payout" => {
                    self.batches += 1;
                    let items = self.items(number(1)).await;
                    self.versions().await;
                    let coins = self.free(policy);
                    self.model.planned(number(1) as usize, items, policy, coins, &self.now);
                }
                "paid" => {
                    self.versions().await;
                    self.model.settled(number(1) as usize, number(2), &self.chain, policy, &self.now);
                }
                "reorg" => self.model.taken_back(number(2) as usize, number(3), &self.chain, &self.now),
                "return" => {
                    self.versions().await;
                    self.model.returned(number(1) as usize, &self.chain, policy, &self.now);
                    // What is on a branch that was left could still come back, and nobody could do anything about it.
                    self.chain.forget_branches();
                }
                _ => panic!("{key}"),
            }
        }
        self.versions().await;
        self.never_more_than_is_owed();
    }

    async fn items(&mut self, batch: u32) -> BTreeMap<i64, u64> {
        let sql = "SELECT miner_id, sats FROM payout_item WHERE payout_id = $1";
        let rows = sqlx::query(sql).bind(i64::from(batch)).fetch_all(&mut self.raw).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get::<i64, _>(1) as u64)).collect()
    }

    /// Which transactions open batches have, as the ledger says; what they do, the chain knows.
    async fn versions(&mut self) {
        let Some(first) = self.model.payouts.open().map(|(id, _)| id as i64).next() else { return };
        let sql = "SELECT t.payout_id, t.txid, i.prev_txid, i.prev_vout FROM payout_tx t \
                   JOIN payout_input i ON i.txid = t.txid \
                   WHERE t.payout_id >= $1 ORDER BY t.payout_id, t.version, i.position";
        let rows = sqlx::query(sql).bind(first).fetch_all(&mut self.raw).await.unwrap();
        let txid = |bytes: Vec<u8>| Txid::from_slice(&bytes).unwrap();
        let mut batches: BTreeMap<i64, Vec<(Txid, Vec<OutPoint>)>> = BTreeMap::new();
        for row in &rows {
            let (own, vout) = (txid(row.get(1)), row.get::<i64, _>(3) as u32);
            let versions = batches.entry(row.get(0)).or_default();
            if versions.last().is_none_or(|(last, _)| *last != own) {
                versions.push((own, Vec::new()));
            }
            versions.last_mut().unwrap().1.push(OutPoint { txid: txid(row.get(2)), vout });
        }
        self.model.payouts.versions(batches);
    }

    /// Whatever has happened: what blocks and mempool pay to a miner has left its balance before, for batches that are not
    /// given up.
    pub fn never_more_than_is_owed(&self) {
        let owed = self.model.payouts.owed();
        for (miner, script) in &self.model.payouts.scripts {
            let ((blocks, _), (mempool, _)) = self.chain.paid_to(script);
            let (given, owed) = (blocks + mempool, owed.get(miner).copied().unwrap_or(0));
            assert!(given <= owed, "{}: miner {miner} is paid {given} of {owed}", self.now);
        }
    }

    /// Nothing is left undone that could be done.
    async fn all_is_done(&mut self) {
        let Some(policy) = self.mode.pays else { return };
        self.model.payouts.check(&self.chain, &policy, &self.now);
        let sql = "SELECT coins_sats, immature_sats, \
                   (SELECT COUNT(*) FROM payout_order WHERE done_ms IS NULL) AS orders FROM payer";
        let row = sqlx::query(sql).fetch_one(&mut self.raw).await.unwrap();
        let [coins, immature, orders] = [0, 1, 2].map(|column| row.get::<i64, _>(column) as u64);
        let (ripe, green) = self.chain.wallet();
        assert_eq!((coins, immature), (ripe.values().sum(), green), "{}: the wallet", self.now);
        assert_eq!(orders, 0, "{}: orders", self.now);
        let due = self.model.due(&policy);
        if policy.by_itself && policy.rate(&self.manners).is_some() {
            let (free, fee) = self.free(&policy);
            let left: Vec<_> = due.iter().filter(|(_, sats)| sats + fee <= free).collect();
            assert!(left.is_empty(), "{}: {left:?} could be paid", self.now);
        }
    }

    /// What the wallet has for a new batch, and the most that it would leave to the network.
    fn free(&self, policy: &Policy) -> (u64, u64) {
        let locked: Vec<_> = self.model.payouts.locked().collect();
        let (ripe, _) = self.chain.wallet();
        let free: Vec<u64> =
            ripe.iter().filter(|(at, _)| !locked.contains(at)).map(|(_, sats)| *sats).collect();
        let rate = policy.rate(&self.manners).unwrap_or(policy.max_rate);
        let outputs = self.model.due(policy).len();
        (free.iter().sum(), (free.len() + outputs + 2) as u64 * 120 * rate / 1_000)
    }

    /// Every batch comes to an end.
    pub async fn conclude(&mut self) {
        let mut policy = self.mode.pays.unwrap_or(Policy::any(&mut self.dice));
        policy.by_itself = false;
        self.restart(super::Mode { direct: None, pays: Some(policy), ..self.mode }).await;
        for _ in 0..60 {
            if self.model.payouts.open().next().is_none() {
                return;
            }
            self.chain.send_again();
            self.sign().await;
            self.pay().await;
            self.chain.grow(3);
            self.pay().await;
            let dead = self.model.payouts.dead(&self.chain, policy.confirmations);
            for id in dead {
                self.order("return", &id.to_string()).await;
            }
            self.pay().await;
        }
        let open: Vec<_> = self.model.payouts.open().collect();
        panic!("{}: in flight for ever: {open:?}", self.now);
    }
}

/// Those who are to be paid.
pub fn addresses(workers: &[ledger::Worker], ids: &BTreeMap<u32, i64>) -> BTreeMap<i64, ScriptBuf> {
    ids.iter().map(|(number, id)| (*id, script(workers[*number as usize - 1].address()))).collect()
}

/// The chain that the world begins with.
pub fn begin(seed: u64, key: &Key) -> Arc<super::chain::Blocks> {
    Arc::new(super::chain::Blocks::new(seed, scripts(key).collect()))
}
