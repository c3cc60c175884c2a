//! Every scheme, from shares to balances; what changes of scheme do; what coinbases pay.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ledger::{BlockStatus, Coinbases, Direct, Hand, Ledger, Pays, Point, Scheme, Settings, Spool, Worker};

use crate::rig::{NETWORK, Rig, Shard, Tree, balance, execute, hash, newest, quick, terms, worker};

const PPLNS: Scheme = Scheme::Pplns { factor: 50 };
const PPS: Scheme = Scheme::Pps { factor: 50 };
const FPPS: Scheme = Scheme::Fpps { factor: 50 };
const PPS_PLUS: Scheme = Scheme::PpsPlus { factor: 50 };
/// One block's subsidy at the height that the rig mines at, millisatoshi.
const SUBSIDY: i64 = 5_000_000_000_000;
/// What one unit of work is worth there: two make a block. Less the fee of a hundredth.
const UNIT: i64 = SUBSIDY / 2 / 100 * 99;

/// A process whose steps are taken by hand.
struct Process {
    ledger: Ledger,
    hand: Hand,
    spool: Spool,
    shard: Shard,
    scheme: Scheme,
    coinbases: Coinbases,
}

impl Process {
    async fn start(rig: &Rig, scheme: Scheme, chain: &Arc<Tree>) -> Self {
        Self::start_with(rig, scheme, chain, None, quick()).await
    }

    async fn start_with(
        rig: &Rig,
        scheme: Scheme,
        chain: &Arc<Tree>,
        direct: Option<Direct>,
        settings: Settings,
    ) -> Self {
        let spool = rig.spool();
        let ledger =
            Ledger::open_with(&rig.url, spool.clone(), terms(scheme), NETWORK, settings).await.unwrap();
        let coinbases = ledger.coinbases(direct).await.unwrap();
        let (hand, shard) = (ledger.by_hand(chain.clone()), Shard::new(&spool, 0));
        Self { ledger, hand, spool, shard, scheme, coinbases }
    }

    fn shares(&mut self, shares: &[(&Worker, u128)]) {
        shares.iter().for_each(|(worker, work)| self.shard.share(worker, *work));
        self.shard.commit();
    }

    /// A block of what a job made now would be.
    fn found(&mut self, worker: &Worker, number: u8, sats: u64) -> Pays {
        let class = self.coinbases.class(worker, 2_000);
        let pays = self.coinbases.pays(&class, worker, self.shard.height, sats);
        self.found_of(worker, number, sats, &pays);
        pays
    }

    fn found_of(&mut self, worker: &Worker, number: u8, sats: u64, pays: &Pays) {
        let mut found = self.shard.block(self.scheme, worker, number, sats);
        (found.outputs, found.origin) = (pays.outputs.clone(), pays.origin);
        self.shard.writer.worker(worker);
        self.shard.writer.found(&found);
        self.shard.commit();
    }

    /// Drains all there is, and looks at all blocks until nothing moves any more.
    async fn settle(&mut self) {
        while self.hand.drain().await.unwrap() > 0 {}
        for _ in 0..4 {
            self.hand.follow().await.unwrap();
        }
        self.ledger.verify().await.unwrap();
        crate::operator::all_is_proven(&self.ledger).await;
    }

    /// Immature, available and paid of miners 1 to 3.
    async fn balances(&self) -> [(i64, i64, i64); 3] {
        let mut all = [(0, 0, 0); 3];
        for (number, one) in (1..).zip(&mut all) {
            if self.ledger.miner(&crate::rig::miner(number)).await.unwrap().is_some() {
                *one = balance(&self.ledger, number).await;
            }
        }
        all
    }
}

fn crew() -> (Worker, Worker, Worker) {
    (worker(1, "a"), worker(2, "b"), worker(3, "c"))
}

async fn account(rig: &Rig, name: &str) -> i64 {
    rig.number(&format!("SELECT balance_msat FROM account WHERE name = '{name}'")).await
}

async fn reserves(rig: &Rig) -> (i64, i64) {
    (account(rig, "reserve").await, account(rig, "reserve:immature").await)
}

/// Closes the open slot: ten minutes are over.
fn ten_minutes(process: &mut Process, worker: &Worker) {
    process.shard.time_ms += 600_000;
    process.shares(&[(worker, 1)]);
}

pub async fn pps_pays_for_work_and_keeps_the_blocks(rig: Rig) {
    let (a, b, c) = crew();
    let chain = Tree::new();
    let mut process = Process::start(&rig, PPS, &chain).await;
    process.shares(&[(&a, 3), (&b, 4), (&a, 2)]);
    process.settle().await;
    assert_eq!(process.balances().await[0], (0, 0, 0), "the slot is open");
    ten_minutes(&mut process, &c);
    process.settle().await;
    assert_eq!(process.balances().await, [(0, 5 * UNIT, 0), (0, 4 * UNIT, 0), (0, 0, 0)]);
    assert_eq!(reserves(&rig).await, (-9 * UNIT, 0));
    // The block is the reserve's, fees and all, and closes the slot.
    process.found(&c, 1, 5_000_000_700);
    chain.grow(hash(0), hash(1), 1);
    process.settle().await;
    assert_eq!(process.balances().await[2], (0, UNIT, 0));
    assert_eq!(reserves(&rig).await, (-10 * UNIT, 5_000_000_700_000));
    assert_eq!(
        (account(&rig, "pool:fee:immature").await, account(&rig, "rewards").await),
        (0, -5_000_000_700_000)
    );
    chain.grow(hash(0), hash(1), 100);
    process.settle().await;
    assert_eq!(reserves(&rig).await, (5_000_000_700_000 - 10 * UNIT, 0));
    let reserve = process.ledger.reserve().await.unwrap();
    assert_eq!((reserve.available_msat, reserve.immature_msat), (5_000_000_700_000 - 10 * UNIT, 0));
    // 50 coins x ln(1000) / (2 x 0.01): some 345 blocks.
    assert_eq!(reserve.required_msat.unwrap() / SUBSIDY, 345);
    assert!(reserve.is_short());
    let keys = "SELECT COUNT(*) FROM txn WHERE idem_key IN ('slot:1:1', 'slot:2:1') AND kind = 'slot'";
    assert_eq!(rig.number(keys).await, 2);
}

pub async fn fpps_pays_the_mean_fees_too(rig: Rig) {
    let (a, _, c) = crew();
    let mut process = Process::start(&rig, FPPS, &Tree::new()).await;
    // Ahead of the first mean there is none to pay.
    process.shares(&[(&a, 2)]);
    ten_minutes(&mut process, &c);
    process.settle().await;
    assert_eq!(process.balances().await[0], (0, 2 * UNIT, 0));
    let mut raw = rig.raw().await;
    let begin = if rig.is_postgres() { "'\\x" } else { "x'" };
    // The mean, and the blocks that it is of: without a twentieth at either end.
    let rate = |id: u8, fees: &[u8], mean: i64| {
        let hash = |block: usize| format!("{begin}{id:02x}{block:062x}'");
        let blocks = fees.iter().enumerate().map(|(block, fees)| {
            format!("INSERT INTO fee_block VALUES ({}, {}, {block}, {fees});", hash(block), hash(block + 1))
        });
        let (blocks, count) = (blocks.collect::<String>(), fees.len());
        format!(
            "{blocks} INSERT INTO fee_rate VALUES ({id}, {}, {count}, {}, {mean}, 0)",
            hash(0),
            count / 20
        )
    };
    execute(&mut raw, &rate(1, &[1], 1_000)).await.unwrap();
    process.shares(&[(&a, 2)]);
    ten_minutes(&mut process, &c);
    process.settle().await;
    assert_eq!(process.balances().await[0], (0, 4 * UNIT + 990, 0));
    // 3 x 101 / 2 less a hundredth is 149.985: what is below a millisatoshi is not lost.
    // Ten of the ninety-nine that are left have one satoshi.
    let fees: Vec<u8> = (0..109).map(|block| u8::from(block < 15)).collect();
    execute(&mut raw, &rate(2, &fees, 101)).await.unwrap();
    let mut expect = 4 * UNIT + 990;
    for round in 1..=200 {
        process.shares(&[(&a, 3)]);
        process.shard.time_ms += 600_000;
        process.shares(&[(&c, 1)]);
        process.shard.time_ms += 600_000;
        if round % 100 == 0 {
            process.shares(&[(&c, 1)]);
            process.settle().await;
            expect += 100 * 3 * UNIT + 14_998 + round / 200;
            assert_eq!(process.balances().await[0].1, expect, "round {round}");
        }
    }
}

pub async fn a_mean_of_other_fees_is_found(rig: Rig) {
    let process = Process::start(&rig, FPPS, &Tree::new()).await;
    let mut raw = rig.raw().await;
    let one = if rig.is_postgres() { "decode(repeat('01', 32), 'hex')" } else { "zeroblob(32)" };
    let rows = format!(
        "INSERT INTO fee_block VALUES ({one}, {one}, 1, 7); INSERT INTO fee_rate VALUES (1, {one}, 1, 0, 7000, 0)"
    );
    execute(&mut raw, &rows).await.unwrap();
    process.ledger.verify().await.unwrap();
    for (plant, mend) in [
        ("UPDATE fee_block SET fees_sats = 8", "UPDATE fee_block SET fees_sats = 7"),
        ("UPDATE fee_rate SET mean_msat = 7001", "UPDATE fee_rate SET mean_msat = 7000"),
        ("UPDATE fee_rate SET blocks = 3, trimmed = 1", "UPDATE fee_rate SET blocks = 1, trimmed = 0"),
    ] {
        execute(&mut raw, plant).await.unwrap();
        let found = process.ledger.verify().await.unwrap_err().to_string();
        assert!(found.contains("mean 1 of fees is not that of its blocks"), "{plant}: {found}");
        execute(&mut raw, mend).await.unwrap();
        process.ledger.verify().await.unwrap();
    }
}

pub async fn pps_plus_shares_the_fees(rig: Rig) {
    let (a, b, _) = crew();
    let chain = Tree::new();
    let mut process = Process::start(&rig, PPS_PLUS, &chain).await;
    process.shares(&[(&a, 3), (&b, 1)]);
    process.found(&a, 1, 5_000_001_000);
    chain.grow(hash(0), hash(1), 1);
    process.settle().await;
    // Of the fees of 1,000,000 the pool takes a hundredth, the rest goes by work; the subsidy is the reserve's.
    assert_eq!(process.balances().await[..2], [(742_500, 3 * UNIT, 0), (247_500, UNIT, 0)]);
    assert_eq!(reserves(&rig).await, (-4 * UNIT, SUBSIDY));
    assert_eq!(account(&rig, "pool:fee:immature").await, 10_000);
}

/// There and back: every share is paid for what it is worth, once, and the pool's gain is its fee.
pub async fn from_pplns_to_pps_and_back(rig: Rig) {
    let (a, b, c) = crew();
    let chain = Tree::new();
    let sats = 5_000_000_000;
    // A window of 100 of work: 60 under PPLNS …
    let mut process = Process::start(&rig, PPLNS, &chain).await;
    process.shares(&[(&a, 60)]);
    drop(process);
    // … then 40 that are bought: the block is divided between who mined the 60 and the reserve.
    let mut process = Process::start(&rig, PPS, &chain).await;
    process.shares(&[(&b, 40)]);
    process.found(&b, 1, sats);
    chain.grow(hash(0), hash(1), 1);
    process.settle().await;
    let part = |work: i64| SUBSIDY / 100 * work;
    let fee = part(60) / 100;
    assert_eq!(process.balances().await[..2], [(part(60) - fee, 0, 0), (0, 40 * UNIT, 0)]);
    assert_eq!(reserves(&rig).await, (-40 * UNIT, part(40)));
    // 50 more are bought: of the 60, the first 50 have left the window.
    process.shares(&[(&b, 50)]);
    process.found(&b, 2, sats);
    chain.grow(hash(1), hash(2), 1);
    process.settle().await;
    assert_eq!(process.balances().await[0].0, part(60 + 10) / 100 * 99);
    assert_eq!(reserves(&rig).await, (-90 * UNIT, part(40 + 90)));
    drop(process);
    // Back: what was bought is not paid once more. The reserve has its part until it has left the window too.
    let mut process = Process::start(&rig, PPLNS, &chain).await;
    process.shares(&[(&c, 30)]);
    process.found(&c, 3, sats);
    chain.grow(hash(2), hash(3), 1);
    process.settle().await;
    assert_eq!(process.balances().await[2], (part(30) / 100 * 99, 0, 0));
    assert_eq!(process.balances().await[1], (0, 90 * UNIT, 0), "paid when it was mined, and never again");
    assert_eq!(reserves(&rig).await, (-90 * UNIT, part(40 + 90 + 70)));
    process.shares(&[(&c, 70)]);
    process.found(&c, 4, sats);
    chain.grow(hash(3), hash(4), 1);
    process.settle().await;
    assert_eq!(
        reserves(&rig).await.1,
        part(40 + 90 + 70),
        "and now the window is all of those who wait for blocks"
    );
    assert_eq!(process.balances().await[2].0, part(30 + 100) / 100 * 99);
}

/// Windows of two lengths: a share counts for as long as it was told, and in no more than it was told.
pub async fn a_change_of_the_windows_length(rig: Rig) {
    let (a, b, _) = crew();
    let chain = Tree::new();
    let mut process = Process::start(&rig, Scheme::Pplns { factor: 10 }, &chain).await;
    process.shares(&[(&a, 20)]); // 20 of 20: a whole window
    drop(process);
    let mut process = Process::start(&rig, Scheme::Pplns { factor: 20 }, &chain).await;
    process.shares(&[(&b, 10)]); // 10 of 40
    process.found(&b, 1, 1_000);
    chain.grow(hash(0), hash(1), 1);
    process.settle().await;
    // Ten of the twenty are left, for one in twenty each; the ten are for one in forty.
    assert_eq!(process.balances().await[..2], [(660_000, 0, 0), (330_000, 0, 0)]);
    process.shares(&[(&b, 10)]);
    process.found(&b, 2, 1_000);
    chain.grow(hash(1), hash(2), 1);
    process.settle().await;
    assert_eq!(process.balances().await[..2], [(660_000, 0, 0), (330_000 + 990_000, 0, 0)]);
}

/// What was found before a restart and drained after it keeps its terms, also if its record is put in by the later start.
pub async fn terms_outlive_a_restart(rig: Rig) {
    let (a, b, _) = crew();
    let chain = Tree::new();
    let mut process = Process::start(&rig, PPLNS, &chain).await;
    process.shares(&[(&a, 10)]);
    process.found(&a, 1, 1_000);
    let class = process.coinbases.class(&a, 500);
    let pays = process.coinbases.pays(&class, &a, 100, 2_000);
    drop(process); // nothing is drained
    let mut process = Process::start(&rig, Scheme::Solo, &chain).await;
    process.shares(&[(&b, 10)]);
    process.found_of(&a, 2, 2_000, &pays); // left behind by the earlier run
    process.found(&b, 3, 3_000);
    chain.grow(hash(0), hash(1), 1);
    chain.grow(hash(1), hash(2), 1);
    chain.grow(hash(2), hash(3), 1);
    process.settle().await;
    let scheme = |number: u8| format!("SELECT COUNT(*) FROM block WHERE scheme = 'pplns' AND id = {number}");
    assert_eq!(
        [rig.number(&scheme(1)).await, rig.number(&scheme(2)).await, rig.number(&scheme(3)).await],
        [1, 1, 0]
    );
    assert_eq!(process.balances().await[..2], [(990_000 + 1_980_000, 0, 0), (2_970_000, 0, 0)]);
}

/// F-54: a block of any scheme leaves the chain, so deep, and comes back.
pub async fn reorganisations_of_every_scheme(rig: Rig) {
    let (a, b, _) = crew();
    for (round, scheme) in (0u8..).zip([Scheme::Solo, PPLNS, Scheme::Tides, PPS, FPPS, PPS_PLUS]) {
        let chain = Tree::new();
        let mut process = Process::start(&rig, scheme, &chain).await;
        process.shard.time_ms += 3_600_000 * u64::from(round);
        process.shares(&[(&a, 500), (&b, 500)]);
        let number = 10 + round;
        process.found(&a, number, 5_000_100_000);
        process.settle().await;
        let before = (process.balances().await, reserves(&rig).await, account(&rig, "rewards").await);
        for depth in [1, 2, 6, 99] {
            chain.grow(hash(0), hash(number), depth);
            process.settle().await;
            assert_ne!(account(&rig, "rewards").await, before.2, "{scheme:?} {depth}: credited");
            chain.grow(hash(0), hash(200), depth + 1);
            process.settle().await;
            let now = (process.balances().await, reserves(&rig).await, account(&rig, "rewards").await);
            assert_eq!(now, before, "{scheme:?} {depth}: as if it had never been");
        }
        // Mature: nobody gives back what may have been paid out.
        chain.grow(hash(0), hash(number), 101);
        process.settle().await;
        let mature = (process.balances().await, reserves(&rig).await, account(&rig, "rewards").await);
        chain.grow(hash(0), hash(200), 102);
        process.settle().await;
        let (balances, reserve) = (process.balances().await, reserves(&rig).await);
        assert_eq!(account(&rig, "rewards").await, before.2, "{scheme:?}");
        match scheme {
            Scheme::Solo => {
                assert_eq!((balances, reserve), (before.0, before.1), "the coinbase went with it")
            }
            _ => {
                assert_eq!(balances, mature.0, "{scheme:?}");
                assert_eq!(reserve.0, mature.1.0 - 5_000_100_000_000, "{scheme:?}: the reserve stands in");
            }
        }
        chain.grow(hash(0), hash(number), 103);
        process.settle().await;
        let now = (process.balances().await, reserves(&rig).await, account(&rig, "rewards").await);
        assert_eq!(now, mature, "{scheme:?}: as if it had never left");
    }
}

/// TIDES by coinbase: the split of the job is what is paid and what is credited; the rest is balance, which a later
/// coinbase pays; and a block that pays balances and leaves the chain gives them back.
pub async fn coinbases_pay_windows_and_balances(rig: Rig) {
    let (a, b, c) = crew();
    let chain = Tree::new();
    let direct = Some(Direct { min_sats: 1_000, most: 10 });
    let mut process = Process::start_with(&rig, Scheme::Tides, &chain, direct, quick()).await;
    // Nothing is closed yet: the first coinbase pays the pool, which owes.
    process.shares(&[(&a, 8), (&b, 7), (&c, 1)]);
    let first = process.found(&a, 1, 10_000);
    assert_eq!(first.outputs.len(), 1);
    chain.grow(hash(0), hash(1), 1);
    process.settle().await;
    assert_eq!(process.balances().await, [(4_950_000, 0, 0), (4_331_250, 0, 0), (618_750, 0, 0)]);
    // Work after the job was made is not in it.
    process.shard.height = 101;
    let class = process.coinbases.class(&a, 2_000);
    let job = process.coinbases.pays(&class, &a, 101, 10_000);
    let sats = |pays: &Pays| -> Vec<u64> { pays.outputs.iter().map(|(_, sats)| *sats).collect() };
    assert_eq!(
        sats(&job),
        [4_950, 4_331, 719],
        "8 and 7 of 16, and the fee with what is below the threshold"
    );
    process.shares(&[(&c, 16)]);
    process.found_of(&a, 2, 10_000, &job);
    chain.grow(hash(1), hash(2), 1);
    process.settle().await;
    let twice = [(9_900_000, 0, 0), (8_662_500, 0, 0), (1_237_500, 0, 0)];
    assert_eq!(process.balances().await, twice);
    chain.grow(hash(1), hash(2), 110);
    process.settle().await;
    let paid = [(0, 4_950_000, 4_950_000), (0, 4_331_500, 4_331_000), (0, 1_237_500, 0)];
    assert_eq!(process.balances().await, paid);
    // The balances of all three are over the threshold now, and go with the next coinbase, as far as the pool's part goes.
    let job = process.coinbases.pays(&class, &a, 101, 20_000);
    assert_eq!(job.outputs.iter().map(|(_, sats)| sats).sum::<u64>(), 20_000);
    assert!(job.origin.unwrap().split.is_some());
    process.shard.height = 300;
    process.found_of(&a, 3, 20_000, &job);
    let again = process.coinbases.pays(&class, &a, 101, 20_000);
    assert_eq!(sats(&again), [19_800, 200], "while a block is on its way, no balance is paid a second time");
    // 16 of 16 are miner 3's by now: 19,800 and what the pool's 200 can give of its balance; of the others nothing is left.
    assert_eq!(sats(&job), [19_800 + 200]);
    chain.grow(hash(2), hash(3), 1);
    process.settle().await;
    let taken = [(0, 4_950_000, 4_950_000), (0, 4_331_500, 4_331_000), (20_000_000, 1_037_500, 0)];
    assert_eq!(process.balances().await, taken);
    chain.grow(hash(2), hash(77), 2);
    process.settle().await;
    assert_eq!(process.balances().await, paid, "given back");
    chain.grow(hash(2), hash(3), 100);
    process.settle().await;
    let mature = [(0, 4_950_000, 4_950_000), (0, 4_331_500, 4_331_000), (0, 1_037_500, 20_000_000)];
    assert_eq!(process.balances().await, mature);
    chain.grow(hash(2), hash(77), 102);
    process.settle().await;
    assert_eq!(process.balances().await, paid, "what the coinbase paid went with it, to where it came from");
    assert_eq!(reserves(&rig).await.0, -200_000, "and the reserve stands in for the fee");
    chain.grow(hash(2), hash(3), 104);
    process.settle().await;
    assert_eq!(process.balances().await, mature);
}

/// Killed while the block of a split is drained: the credit is of that split still, though the window has moved on.
pub async fn a_split_outlives_kill_9(rig: Rig) {
    let (a, b, c) = crew();
    let chain = Tree::new();
    let direct = Some(Direct { min_sats: 1_000, most: 10 });
    for (number, point) in (1u8..).zip([Point::Applied, Point::Committed, Point::Moved, Point::Settled]) {
        let dead = Arc::new(AtomicBool::new(false));
        let armed = Arc::new(AtomicBool::new(false));
        let (tell, is_armed) = (dead.clone(), armed.clone());
        let halt = move |at: Point| {
            let is_now = is_armed.load(Ordering::SeqCst) && at == point;
            tell.fetch_or(is_now, Ordering::SeqCst);
            is_now
        };
        let settings = Settings { halt: Some(Arc::new(halt)), ..quick() };
        let mut process = Process::start_with(&rig, Scheme::Tides, &chain, direct, settings).await;
        process.shard.time_ms += 3_600_000 * u64::from(number);
        process.shares(&[(&a, 8), (&b, 8)]);
        ten_minutes(&mut process, &c);
        process.settle().await;
        let pays = process.found(&a, number, 10_000);
        process.shares(&[(&c, 16)]);
        process.shard.time_ms += 600_000;
        process.shares(&[(&c, 16)]);
        chain.grow(hash(number - 1), hash(number), 1);
        armed.store(true, Ordering::SeqCst);
        let steps = async {
            while process.hand.drain().await.unwrap() > 0 {}
            process.hand.follow().await.unwrap();
        };
        let killed = async {
            while !dead.load(Ordering::SeqCst) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = steps => panic!("{point:?} was not reached"),
            () = killed => {}
        }
        drop(process);
        let mut process = Process::start_with(&rig, Scheme::Tides, &chain, direct, quick()).await;
        process.settle().await;
        let block = newest(&process.ledger).await.unwrap();
        assert_eq!((block.hash, block.status), (hash(number), BlockStatus::Immature), "{point:?}");
        let split = pays.origin.unwrap().split.unwrap();
        let slot = format!("SELECT slot_id FROM block WHERE id = {number}");
        assert_eq!(rig.number(&slot).await, split.slot, "{point:?}");
        let credit = process.ledger.credits(&crate::rig::miner(1), 1).await.unwrap().pop().unwrap();
        assert_eq!(credit.block_hash, hash(number));
        assert_eq!(credit.work, 8, "{point:?}: half of the window when the job was made");
        drop(process.spool);
    }
}

/// What `verify` says of work that is paid at a fixed rate, and of splits.
pub async fn verify_finds_wrong_slots_and_splits(rig: Rig) {
    let (a, b, _) = crew();
    let chain = Tree::new();
    let mut process = Process::start(&rig, PPS_PLUS, &chain).await;
    process.shares(&[(&a, 3), (&b, 4)]);
    process.found(&a, 1, 5_000_001_000);
    chain.grow(hash(0), hash(1), 1);
    process.settle().await;
    let mut raw = rig.raw().await;
    let cases = [
        (
            "UPDATE miner SET rest = 1 WHERE id = 1",
            "UPDATE miner SET rest = 0 WHERE id = 1",
            "has another rest",
        ),
        (
            "UPDATE slot_rate SET work = '4' WHERE miner_id = 1",
            "UPDATE slot_rate SET work = '3' WHERE miner_id = 1",
            "slot 1 is paid otherwise than its work is worth",
        ),
        (
            "UPDATE slot_rate SET halvings = 1 WHERE miner_id = 1",
            "UPDATE slot_rate SET halvings = 0 WHERE miner_id = 1",
            "slot 1 is paid otherwise than its work is worth",
        ),
        ("UPDATE terms SET fee_ppm = 0", "UPDATE terms SET fee_ppm = 10000", "slot 1 is paid otherwise"),
        ("UPDATE block SET subsidy_msat = 0", "UPDATE block SET subsidy_msat = 5000000000000", "block 0101"),
        (
            "UPDATE block SET bought_subsidy_work = '1'",
            "UPDATE block SET bought_subsidy_work = '7'",
            "block 0101",
        ),
        ("UPDATE terms SET factor = 1", "UPDATE terms SET factor = 50", "other weights than its slots say"),
    ];
    for (tamper, mend, expect) in cases {
        assert!(execute(&mut raw, tamper).await.unwrap() > 0, "{tamper}");
        let error = process.ledger.verify().await.expect_err(tamper);
        assert!(error.to_string().contains(expect), "{tamper}: {error}");
        execute(&mut raw, mend).await.unwrap();
        process.ledger.verify().await.unwrap();
    }
}
