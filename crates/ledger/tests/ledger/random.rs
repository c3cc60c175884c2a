//! Shares, blocks, reorganisations, payments, crashes and changes of scheme at random, ten thousand steps of them; after
//! each, the books are held against a model that keeps them once more by itself.
//!
//! `SLUICE_SEED` chooses the run; without it a seed is taken from the clock and printed. `SLUICE_STEPS` is how many steps.

pub mod chain;
mod coins;
mod crash;
mod mempool;
mod model;
mod node;
pub mod payments;
mod process;
mod view;

use std::{collections::BTreeMap, env, sync::Arc, time::SystemTime};

use ledger::{Found, Hash, Ledger, Scheme, ShareRecord, Worker};
use sqlx::{AnyConnection, Row};

use crate::{
    key::Key,
    rig::{self, NETWORK, Rig, miner},
};
use chain::{Blocks, Manners};
use crash::Crash;
use model::{Model, Pushed, Terms};
use process::{Mode, Process};

const STEPS: u64 = 10_000;
const MINERS: u32 = 7;
const BITS: [u32; 2] = [0x207f_ffff, 0x200f_ffff];
const SCHEMES: [Scheme; 8] = [
    Scheme::Pplns { factor: 50 },
    Scheme::Tides,
    Scheme::Pplns { factor: 20 },
    Scheme::Pps { factor: 30 },
    Scheme::Tides,
    Scheme::Fpps { factor: 30 },
    Scheme::PpsPlus { factor: 25 },
    Scheme::Solo,
];
const FEES: [u32; 3] = [10_000, 0, 25_000];

/// Numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

struct World {
    rig: Rig,
    process: Option<Process>,
    mode: Mode,
    chain: Arc<Blocks>,
    key: Key,
    manners: Manners,
    /// How the nodes answer in the next round only.
    trouble: Option<Manners>,
    model: Model,
    dice: Dice,
    crash: Crash,
    workers: Vec<Worker>,
    /// Number in the database, by number of the test.
    ids: BTreeMap<u32, i64>,
    by_script: BTreeMap<Vec<u8>, i64>,
    time_ms: u64,
    bits: u32,
    steps: u64,
    /// The step, for those who read what went wrong.
    now: String,
    /// Whether blocks are left alone for a while: where some are orphaned, no coinbase pays balances.
    is_calm: bool,
    /// The tip that the mean fees are of.
    fees_of: Option<Hash>,
    /// Blocks that no node has heard of yet.
    unheard: Vec<Hash>,
    /// What is in the spool and not in the model.
    pushed: Vec<Pushed>,
    /// A block that was found before a restart, whose record was left behind.
    left_behind: Option<(Found, Pushed)>,
    balances: BTreeMap<i64, i128>,
    last_txn: i64,
    last_payment: i64,
    /// Batches of payments that were planned.
    batches: u32,
    raw: AnyConnection,
}

pub async fn ten_thousand_steps(rig: Rig) {
    let steps = env::var("SLUICE_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(STEPS);
    take_steps(rig, steps).await;
}

pub async fn take_steps(rig: Rig, steps: u64) {
    let seed = env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!(
        "SLUICE_SEED={seed} SLUICE_STEPS={steps} on {}",
        if rig.is_postgres() { "Postgres" } else { "SQLite" }
    );
    let begun = std::time::Instant::now();
    let mut world = World::new(rig, seed).await;
    for step in 1..=steps {
        world.now = format!("step {step} of SLUICE_SEED={seed}");
        world.step().await;
        world.check().await;
        if step % 1_000 == 0 || step == steps {
            world.settle().await;
            world.conclude().await;
            world.check().await;
            let verified = world.process.as_ref().unwrap().ledger.verify().await;
            assert!(verified.is_ok(), "step {step} of SLUICE_SEED={seed}: {verified:?}");
        }
    }
    let (blocks, carried) = world.model.seen();
    let (batches, seen) = (world.batches, world.model.payouts.seen);
    let (hits, missed) = (world.crash.hits(), world.crash.missed());
    let told = format!(
        "{blocks} blocks, {carried} of which paid balances; {batches} batches, {seen:?}; {hits} crashes, none at {missed:?}"
    );
    println!("{told}; in {:?}", begun.elapsed());
    let is_enough = blocks > 100 && carried > 0 && batches > 30;
    let is_varied =
        seen.taken_back > 2 && seen.returned > 2 && seen.raised > 0 && seen.short > 0 && missed.len() < 4;
    assert!(steps < STEPS || is_enough && is_varied, "{told}");
}

impl World {
    async fn new(rig: Rig, seed: u64) -> Self {
        Ledger::migrate(&rig.url).await.unwrap();
        let raw = rig.raw().await;
        let mut dice = Dice(seed);
        let key = if dice.chance(50) { Key::taproot(NETWORK) } else { Key::wpkh(NETWORK) };
        let terms = Terms { scheme: SCHEMES[0], fee_ppm: FEES[0] };
        let mut world = Self {
            process: None,
            mode: Mode { terms, direct: None, pays: None },
            chain: payments::begin(seed, &key),
            key,
            manners: Manners::default(),
            trouble: None,
            model: Model::default(),
            dice,
            crash: Crash::default(),
            workers: (1..=MINERS).map(|number| rig::worker(number, "rig")).collect(),
            ids: BTreeMap::new(),
            by_script: BTreeMap::new(),
            time_ms: 1_800_000_000_000,
            bits: BITS[0],
            steps: 0,
            now: format!("the beginning of SLUICE_SEED={seed}"),
            is_calm: false,
            fees_of: None,
            unheard: Vec::new(),
            pushed: Vec::new(),
            left_behind: None,
            balances: BTreeMap::new(),
            last_txn: 0,
            last_payment: 0,
            batches: 0,
            rig,
            raw,
        };
        world.start().await;
        // All are known from the start, so that the model can call them by their numbers.
        let process = world.process.as_mut().unwrap();
        for worker in &world.workers {
            process.shard.writer.worker(worker);
            process.shard.rejects(worker, 1);
        }
        process.shard.commit();
        while process.hand.drain().await.unwrap() > 0 {}
        for number in 1..=MINERS {
            let id =
                world.rig.number(&format!("SELECT id FROM miner WHERE address = '{}'", miner(number))).await;
            world.ids.insert(number, id);
            world.by_script.insert(world.workers[number as usize - 1].script().to_vec(), id);
        }
        world.model.payouts.scripts = payments::addresses(&world.workers, &world.ids);
        world
    }

    async fn step(&mut self) {
        self.steps += 1;
        let was_calm = std::mem::replace(&mut self.is_calm, self.steps / 300 % 2 == 1);
        if self.is_calm && !was_calm {
            self.unheard.drain(..).for_each(|hash| self.chain.hear(hash));
            self.chain.grow(160); // what was orphaned before is forgotten
            self.shares();
            let mode = self.any_mode(&SCHEMES[..3]);
            self.set_up(mode).await;
        }
        match self.dice.below(1_000) {
            0..400 => self.shares(),
            400..500 => self.found(),
            500..700 => {
                let count =
                    if self.dice.chance(4) { 30 + self.dice.below(90) } else { 1 + self.dice.below(3) };
                self.chain.grow(count as u32);
            }
            700..800 if self.is_calm => {}
            700..770 => self.chain.reorganise(self.dice.one_of(&[1, 1, 2, 2, 6, 6, 101])),
            770..800 => self.chain.return_to(self.dice.next()),
            800..808 => {
                let mode = self.any_mode(&SCHEMES);
                self.set_up(mode).await;
            }
            808..830 => self.crash.arm(&mut self.dice),
            830..960 => self.disturb_payments().await,
            _ => {}
        }
        if self.dice.chance(25) {
            self.drain().await;
        }
        if self.dice.chance(15) {
            self.drain().await;
            self.follow().await;
        }
        if self.dice.chance(15) {
            self.pay().await;
        }
        if self.dice.chance(8) {
            self.fees().await;
        }
    }

    fn shares(&mut self) {
        if self.dice.chance(1) {
            self.bits = self.dice.one_of(&BITS);
        }
        let height = self.chain.tip().1 + 1;
        let process = self.process.as_mut().unwrap();
        for _ in 0..=self.dice.below(4) {
            self.time_ms += self.dice.below(100_000);
            let number = 1 + self.dice.below(MINERS.into()) as u32;
            let work = 1 + u128::from(self.dice.below(40));
            let worker = &self.workers[number as usize - 1];
            process.shard.writer.worker(worker);
            process.shard.writer.share(&ShareRecord {
                time_ms: self.time_ms,
                worker: worker.id(),
                work,
                height,
                bits: self.bits,
                hash_tag: self.time_ms,
            });
            let (miner, bits, time_ms, terms) = (self.ids[&number], self.bits, self.time_ms, self.mode.terms);
            self.pushed.push(Pushed::Share { miner, work, bits, height, time_ms, terms });
        }
        process.shard.commit();
    }

    /// A job is made on the tip and solved, once or twice.
    fn found(&mut self) {
        let (tip, height) = self.chain.tip();
        let subsidy = 5_000_000_000u64 >> ((height + 1) / 210_000);
        let siblings = if !self.is_calm && self.dice.chance(10) { 2 } else { 1 };
        for sibling in 0..siblings {
            let (transactions, fees) = self.chain.template();
            let value_sats = subsidy + fees + self.dice.below(50_000_000);
            let process = self.process.as_mut().unwrap();
            let number = 1 + self.dice.below(MINERS.into()) as u32;
            let worker = &self.workers[number as usize - 1];
            let class = process.coinbases.class(worker, 500 + self.dice.below(500) as usize);
            let pays = process.coinbases.pays(&class, worker, height + 1, value_sats);
            let sum: u64 = pays.outputs.iter().map(|(_, sats)| sats).sum();
            assert_eq!(sum, value_sats, "{:?}", pays.outputs);
            let (hash, coinbase_txid) = self.chain.solve(&pays.outputs, transactions);
            let found = Found {
                time_ms: self.time_ms,
                worker: worker.id(),
                hash,
                prev_hash: tip,
                height: height + 1,
                bits: self.bits,
                coinbase_txid,
                value_sats,
                outputs: pays.outputs,
                origin: pays.origin,
            };
            let outputs =
                found.outputs.iter().map(|(script, sats)| (self.by_script.get(script).copied(), *sats));
            let pushed = Pushed::Found {
                finder: self.ids[&number],
                found: found.clone(),
                terms: self.mode.terms,
                outputs: outputs.collect(),
            };
            match self.dice.below(10) {
                _ if sibling > 0 => self.chain.hear(found.hash),
                0 if !self.is_calm => self.chain.hear(found.hash),
                1 if !self.is_calm => self.unheard.push(found.hash),
                _ => self.chain.append(found.hash),
            }
            if sibling == 0 && self.left_behind.is_none() && self.dice.chance(3) {
                self.left_behind = Some((found, pushed)); // killed before it was in the spool
                self.crash.arm_any();
                return;
            }
            process.shard.writer.worker(worker);
            process.shard.writer.found(&found);
            process.shard.commit();
            self.pushed.push(pushed);
        }
    }

    /// Drains all there is; killed on the way, it starts again and goes on.
    async fn drain(&mut self) {
        loop {
            let process = self.process.as_mut().unwrap();
            let done = tokio::select! {
                done = process.hand.drain() => Some(done.unwrap()),
                () = self.crash.reached.notified() => None,
            };
            match done {
                Some(0) => break,
                Some(_) => {}
                None => return self.restart(self.mode).await,
            }
        }
        self.pushed.drain(..).for_each(|pushed| self.model.apply(pushed));
    }

    /// Looks at all blocks until nothing moves any more.
    async fn follow(&mut self) {
        for _ in 0..3 {
            let process = self.process.as_mut().unwrap();
            let crashed = tokio::select! {
                done = process.hand.follow() => { done.unwrap(); false }
                () = self.crash.reached.notified() => true,
            };
            if crashed {
                self.restart(self.mode).await;
            }
        }
        for _ in 0..3 {
            self.model.follow(|hash| self.chain.depth(hash));
        }
    }

    async fn fees(&mut self) {
        let process = self.process.as_mut().unwrap();
        let (tip, _) = self.chain.tip();
        if self.fees_of == Some(tip) {
            return;
        }
        self.fees_of = Some(tip);
        for _ in 0..6 {
            assert!(process.hand.fees().await.unwrap());
        }
        let mut fees = self.chain.fees_of_last(144);
        fees.sort_unstable();
        let kept = &fees[7..137];
        self.model.mean = kept.iter().map(|fees| u128::from(*fees)).sum::<u128>() * 1_000 / 130;
    }

    async fn settle(&mut self) {
        self.drain().await;
        self.follow().await;
    }

    /// Every transaction sums to zero; balances are what the entries say, and what the model says; nobody is negative;
    /// all that miners, pool and reserve have is what blocks have given; what coinbases have paid is paid.
    async fn check(&mut self) {
        let when = self.now.clone();
        let rows = sqlx::query("SELECT txn_id, account_id, amount_msat FROM entry WHERE txn_id > $1")
            .bind(self.last_txn)
            .fetch_all(&mut self.raw)
            .await
            .unwrap();
        let mut sums: BTreeMap<i64, i128> = BTreeMap::new();
        for row in rows {
            let (txn, account, amount): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
            *sums.entry(txn).or_default() += i128::from(amount);
            *self.balances.entry(account).or_default() += i128::from(amount);
            self.last_txn = self.last_txn.max(txn);
        }
        assert!(sums.values().all(|sum| *sum == 0), "{when}: {sums:?}");
        self.never_more_than_is_owed();
        let rows = sqlx::query("SELECT id, balance_msat FROM account WHERE balance_msat <> 0")
            .fetch_all(&mut self.raw)
            .await
            .unwrap();
        let stored: BTreeMap<i64, i128> =
            rows.iter().map(|row| (row.get(0), i128::from(row.get::<i64, _>(1)))).collect();
        self.balances.retain(|_, balance| *balance != 0);
        assert_eq!(stored, self.balances, "{when}: balances and entries");
        if !self.pushed.is_empty() {
            return; // the model knows what is drained only
        }
        let mut expect = self.model.accounts.clone();
        expect.retain(|_, balance| *balance != 0);
        assert_eq!(stored, expect, "{when}: balances and model");
        assert!(stored.iter().all(|(account, balance)| *account < 8 || *balance >= 0), "{when}: {stored:?}");
        assert_eq!(self.model.short, 0, "{when}: a balance was paid twice");
        let rewards = stored.get(&1).copied().unwrap_or(0);
        let held: i128 =
            stored.iter().filter(|(account, _)| **account != 1).map(|(_, balance)| balance).sum();
        assert_eq!((held, -rewards), (self.model.rewards(), self.model.rewards()), "{when}: rewards");
        let paid: BTreeMap<i64, i128> = stored
            .iter()
            .filter(|(account, _)| **account >= 8 && **account % 8 == 2)
            .map(|(account, balance)| (account / 8, *balance))
            .collect();
        assert_eq!(paid, self.model.paid(), "{when}: payments");
    }
}
