//! Ranges of slots come and go: what is old is dropped, what windows need is not, and everything can still be added up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ledger::{
    Audit, Hand, Ledger, LedgerError, Point, Scheme, Settings, Spool, SpoolConfig, Which, Worker,
    proof::check_chain,
};
use sqlx::Connection;

use crate::rig::{
    NETWORK, Rig, Shard, Tree, balance, execute, hash, miner, newest, quick, terms, until, worker,
};

/// Long ago, by any clock: how old a slot is is never said by the clock alone.
const BEGIN_MS: u64 = 1_600_000_000_000;
const HOUR: u64 = 3_600_000;

/// A pool that closes a slot every four hours, with four slots in a range.
struct Pool {
    ledger: Ledger,
    hand: Hand,
    spool: Spool,
    shard: Shard,
    scheme: Scheme,
    chain: Arc<Tree>,
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

fn settings(worker_days: u64, slot_days: u64) -> Settings {
    Settings { span: 4, worker_age: days(worker_days), slot_age: days(slot_days), ..quick() }
}

/// Two of one miner, and one of another.
fn crew() -> [Worker; 3] {
    [worker(1, "a"), worker(1, "b"), worker(2, "c")]
}

impl Pool {
    async fn start(rig: &Rig, scheme: Scheme, settings: Settings, slots: u64) -> Self {
        let spool = rig.spool_with(SpoolConfig { audit: Duration::ZERO, ..SpoolConfig::default() });
        let ledger =
            Ledger::open_with(&rig.url, spool.clone(), terms(scheme), NETWORK, settings).await.unwrap();
        let chain = Tree::new();
        let (hand, mut shard) = (ledger.by_hand(chain.clone()), Shard::new(&spool, 0));
        shard.time_ms = BEGIN_MS + slots * 4 * HOUR;
        Self { ledger, hand, spool, shard, scheme, chain }
    }

    /// Opens the slot `number`, which closes the one before, and drains it. Its work is six.
    async fn slot(&mut self, number: u64) {
        self.shard.time_ms = BEGIN_MS + (number - 1) * 4 * HOUR;
        for (worker, work) in crew().iter().zip(1..) {
            self.shard.share(worker, work);
        }
        self.shard.commit();
        self.drain().await;
    }

    async fn drain(&mut self) {
        while self.hand.drain().await.unwrap() > 0 {}
    }

    async fn tidy(&mut self) -> u32 {
        let mut steps = 0;
        while self.hand.drop_old().await.unwrap() {
            steps += 1;
        }
        steps
    }

    async fn check(&self, slots: u64) {
        let totals = self.ledger.totals().await.unwrap();
        assert_eq!((totals.accepted_shares, totals.work), (slots * 3, u128::from(slots) * 6));
        self.ledger.verify().await.unwrap();
    }
}

/// From which slot on there is work by worker, and by miner.
async fn kept(rig: &Rig) -> (i64, i64) {
    let workers = rig.number("SELECT workers_from FROM slot_kept").await;
    (workers, rig.number("SELECT miners_from FROM slot_kept").await)
}

/// The same as the tables have it.
async fn oldest(rig: &Rig) -> (i64, i64) {
    let workers = rig.number("SELECT MIN(slot_id) FROM slot_work").await;
    (workers, rig.number("SELECT MIN(slot_id) FROM slot_miner").await)
}

pub async fn ranges_come_and_go(rig: Rig) {
    let scheme = Scheme::Pplns { factor: 2 };
    let mut pool = Pool::start(&rig, scheme, settings(1, 2), 0).await;
    let mut weights = Vec::new();
    for number in 1..=40u64 {
        pool.slot(number).await;
        if number == 5 || number == 38 {
            // The window is four long: two thirds of a slot.
            let block = if number == 5 { 1 } else { 2 };
            pool.shard.found(scheme, &crew()[0], block, 1_000);
            pool.shard.commit();
            pool.drain().await;
            pool.chain.grow(hash(block - 1), hash(block), 1);
            pool.hand.follow().await.unwrap();
            weights.push(pool.ledger.block_weights(&hash(block)).await.unwrap().unwrap());
            assert_eq!(balance(&pool.ledger, 1).await.0, 495_000 * i64::from(block), "half of the work");
        }
        pool.tidy().await;
        pool.check(number).await;
        if number % 10 == 0 {
            drop(pool);
            pool = Pool::start(&rig, scheme, settings(1, 2), number).await;
            pool.chain.grow(hash(0), hash(1), 1);
            pool.chain.grow(hash(1), hash(2), 1);
        }
    }
    // The 40th was opened 39 times four hours in; of those that were closed a day before, 33 are in whole ranges. A found
    // block closes a slot too, but shares open the next one.
    let slots = rig.number("SELECT MAX(id) FROM slot").await;
    assert_eq!((slots, kept(&rig).await), (40, (33, 25)));
    assert_eq!(oldest(&rig).await, (33, 25));
    if rig.is_postgres() {
        let parts =
            |table: &str| format!("SELECT COUNT(*) FROM pg_inherits WHERE inhparent = '{table}'::regclass");
        assert_eq!(rig.number(&parts("slot_work")).await, 2);
        assert_eq!(rig.number(&parts("slot_miner")).await, 4);
        assert_eq!(rig.number(&parts("slot_rate")).await, 4);
    }
    let account = pool.ledger.miner(&miner(1)).await.unwrap().unwrap();
    let workers: Vec<_> =
        account.workers.iter().map(|worker| (worker.accepted_shares, worker.work)).collect();
    assert_eq!(workers, [(40, 40), (40, 80)]);
    // What a block was divided by is kept, and done again where its slots are.
    assert_eq!(pool.ledger.block_weights(&hash(1)).await.unwrap().unwrap(), weights[0]);
    weights.iter().for_each(|weights| weights.check().unwrap());
    let audit = Audit::open(&rig.url, &rig.spool_dir()).unwrap();
    let (old, new) = (
        audit.verify(Which::Block(hash(1))).await.unwrap(),
        audit.verify(Which::Block(hash(2))).await.unwrap(),
    );
    assert_eq!((old.findings, new.findings), (Vec::<String>::new(), Vec::<String>::new()));
    let says = |notes: &[String], what: &str| notes.iter().any(|note| note.contains(what));
    let gone = "has a window from before slot 5, which is kept no longer";
    assert!(says(&old.notes, &format!("block {} {gone}", "01".repeat(32))), "{:?}", old.notes);
    assert!(says(&new.notes, "slots before 33 are kept by worker no longer"), "{:?}", new.notes);
    assert!(!says(&new.notes, &format!("block {} has a window", "02".repeat(32))), "{:?}", new.notes);

    // What is tampered with in what was kept of it is found.
    let mut raw = rig.raw().await;
    let plus = |column: &str, number: i64| match rig.is_postgres() {
        true => format!("{column} = {column} + {number}"),
        false => format!("{column} = CAST({column} + {number} AS TEXT)"),
    };
    for (table, column, of, expect) in [
        ("worker", "base_work", "id = 1", "worker 1 has other totals than its slots"),
        ("worker", "base_work", "id = 1", "other sums of the slots before 33"),
        ("slot", "work", "id = 3", "other sums of the slots before 33"),
        (
            "slot_miner",
            "work",
            "slot_id = 26 AND miner_id = 1",
            "slot 26 does not sum to what its miners did",
        ),
        (
            "slot_miner",
            "work",
            "slot_id = 34 AND miner_id = 1",
            "slot 34 has other work by miner than by worker",
        ),
        (
            "slot_work",
            "work",
            "slot_id = 34 AND worker_id = 1",
            "slot 34 does not sum to what its workers did",
        ),
        ("slot_open", "work", "worker_id = 1", "slot 40 does not sum to what its workers did"),
    ] {
        let change = |number| format!("UPDATE {table} SET {} WHERE {of}", plus(column, number));
        assert_eq!(execute(&mut raw, &change(1)).await.unwrap(), 1, "{table} {of}");
        let error = pool.ledger.verify().await.unwrap_err().to_string();
        assert!(error.contains(expect), "{table} {of}: {error}");
        execute(&mut raw, &change(-1)).await.unwrap();
        pool.ledger.verify().await.unwrap();
    }
}

/// However old: what a window of any terms can reach, with room to spare, is never dropped.
pub async fn what_windows_need_is_kept(rig: Rig) {
    let scheme = Scheme::Pplns { factor: 50 };
    let mut pool = Pool::start(&rig, scheme, settings(0, 0), 0).await;
    for number in 1..=30 {
        pool.slot(number).await;
    }
    // 100 long, and four times that is more than there is.
    pool.tidy().await;
    assert_eq!(kept(&rig).await, (29, 1));
    pool.check(30).await;
    // Where all that is mined from now on is bought, the window is still of those before.
    drop(pool);
    let mut pool = Pool::start(&rig, Scheme::Pps { factor: 10 }, settings(0, 0), 30).await;
    for number in 31..=40 {
        pool.slot(number).await;
    }
    pool.tidy().await;
    assert_eq!(kept(&rig).await, (37, 1));
    pool.shard.found(pool.scheme, &crew()[2], 1, 5_000_001_000);
    pool.shard.commit();
    pool.drain().await;
    // Of the window's 100, at the end 60 are bought; 40 are of the slots before, six each, of which each miner has half.
    let weights = pool.ledger.block_weights(&hash(1)).await.unwrap().unwrap();
    let works: Vec<u128> = weights.weights.iter().map(|weight| weight.work.parse().unwrap()).collect();
    assert_eq!((works[0], works[1]), (works[1], works[0]), "{works:?}");
    assert!(works[0] > 0 && newest(&pool.ledger).await.is_some());
    // One share of as much work as eight windows pushes all of it out.
    let [a, ..] = crew();
    pool.shard.time_ms += 4 * HOUR;
    pool.shard.share(&a, 800);
    for _ in 0..6 {
        pool.shard.time_ms += 4 * HOUR;
        pool.shard.share(&a, 1);
    }
    pool.shard.commit();
    pool.drain().await;
    pool.tidy().await;
    pool.ledger.verify().await.unwrap();
    let (workers, miners) = kept(&rig).await;
    assert!(miners > 37 && miners == workers, "{workers} {miners}");
    assert_eq!(rig.number("SELECT COUNT(*) FROM slot_rate WHERE slot_id < 37").await, 0);
}

/// A clock that was ahead for a while neither drops what is young nor keeps for ever what was written then.
pub async fn a_clock_that_was_ahead(rig: Rig) {
    let scheme = Scheme::Pplns { factor: 1 };
    let mut pool = Pool::start(&rig, scheme, settings(1, 2), 0).await;
    for number in 1..=3 {
        pool.slot(number).await;
    }
    pool.shard.time_ms = 4_000_000_000_000;
    for (worker, work) in crew().iter().zip(1..) {
        pool.shard.share(worker, work);
    }
    pool.shard.commit();
    pool.drain().await;
    assert_eq!(pool.tidy().await, 0, "the clock of this machine does not say so");
    pool.shard.found(scheme, &crew()[0], 1, 1_000);
    pool.shard.commit();
    pool.drain().await;
    for number in 5..=20 {
        pool.slot(number).await;
        pool.tidy().await;
        pool.check(number).await;
    }
    // As in `ranges_come_and_go`, 19 times four hours in.
    assert_eq!(kept(&rig).await, (13, 5));
}

/// What slots paid can be done again from where they are kept on, with what miners had left over there.
pub async fn payments_by_the_slot_add_up_afterwards(rig: Rig) {
    let scheme = Scheme::Pps { factor: 2 };
    let mut pool = Pool::start(&rig, scheme, settings(0, 1), 0).await;
    // A target at which a share is worth less than a millisatoshi and a bit.
    let share = |shard: &mut Shard, worker: &Worker, work| {
        let mut record = ledger::ShareRecord {
            time_ms: shard.time_ms,
            worker: worker.id(),
            work,
            height: 100,
            bits: 0x1702_4b5b,
            hash_tag: shard.time_ms,
        };
        record.hash_tag += u64::try_from(work).unwrap_or(0);
        shard.writer.worker(worker);
        shard.writer.share(&record);
    };
    for number in 1..=24u64 {
        pool.shard.time_ms = BEGIN_MS + (number - 1) * 4 * HOUR;
        for (worker, work) in crew().iter().zip([1_000_000_000_000_007, 333, 77_777_777_777_777]) {
            share(&mut pool.shard, worker, work);
        }
        pool.shard.commit();
        pool.drain().await;
        pool.tidy().await;
        pool.ledger.verify().await.unwrap();
    }
    assert_eq!(kept(&rig).await, (21, 17));
    let marks = "SELECT COUNT(*) FROM rest_mark WHERE slot_id = 17";
    assert_eq!(rig.number(marks).await, 2, "both have something left over");
    assert_eq!(rig.number("SELECT MIN(slot_id) FROM rest_mark").await, 17);
    let mut raw = rig.raw().await;
    for (tamper, mend, expect) in [
        (
            "UPDATE rest_mark SET rest = rest + 1 WHERE slot_id = 17 AND miner_id = 1",
            "UPDATE rest_mark SET rest = rest - 1 WHERE slot_id = 17 AND miner_id = 1",
            "miner 1 has another rest than its slots leave",
        ),
        (
            "UPDATE slot_rate SET halvings = 1 WHERE slot_id = 18 AND miner_id = 1",
            "UPDATE slot_rate SET halvings = 0 WHERE slot_id = 18 AND miner_id = 1",
            "miner 1 has another rest than its slots leave",
        ),
    ] {
        assert_eq!(execute(&mut raw, tamper).await.unwrap(), 1, "{tamper}");
        let error = pool.ledger.verify().await.unwrap_err().to_string();
        assert!(error.contains(expect), "{tamper}: {error}");
        execute(&mut raw, mend).await.unwrap();
        pool.ledger.verify().await.unwrap();
    }
    let audit = Audit::open(&rig.url, &rig.spool_dir()).unwrap();
    let notes = audit.verify(Which::Any).await.unwrap().notes;
    assert!(
        notes.iter().any(|note| note.contains("paid for slots before 17 cannot be done again")),
        "{notes:?}"
    );
}

/// Stops dead before and after each commit that drops something, and goes on.
pub async fn every_point_of_dropping_may_be_the_last(rig: Rig) {
    let scheme = Scheme::PpsPlus { factor: 1 };
    let mut slots = 0;
    let mut dead = 0;
    for point in [Point::Folded, Point::Dropped] {
        for nth in 1..=4u32 {
            let reached = Arc::new(AtomicU32::new(0));
            let count = reached.clone();
            let halt = move |at: Point| at == point && count.fetch_add(1, Ordering::SeqCst) + 1 >= nth;
            let settings = Settings { halt: Some(Arc::new(halt)), ..settings(0, 0) };
            let mut pool = Pool::start(&rig, scheme, settings, slots).await;
            for _ in 0..12 {
                slots += 1;
                pool.slot(slots).await;
            }
            let halted = async {
                while reached.load(Ordering::SeqCst) < nth {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                steps = pool.tidy() => panic!("{point:?} was reached {} times in {steps} steps", reached.load(Ordering::SeqCst)),
                () = halted => dead += 1,
            }
            drop(pool);
            let pool = Pool::start(&rig, scheme, self::settings(10_000, 10_000), slots).await;
            pool.check(slots).await;
        }
    }
    let mut pool = Pool::start(&rig, scheme, settings(0, 0), slots).await;
    pool.tidy().await;
    pool.check(slots).await;
    assert_eq!((dead, slots), (8, 96));
    assert_eq!((kept(&rig).await, oldest(&rig).await), ((93, 93), (93, 93)));
    check_chain(&pool.ledger.segments(500, 0).await.unwrap()).unwrap();
    drop(pool.spool);
}

/// A ledger that runs drops by itself, and looks after the disk.
pub async fn a_ledger_that_runs_tidies_up(rig: Rig) {
    let scheme = Scheme::Pplns { factor: 1 };
    let settings = Settings { tidy: Duration::from_millis(50), ..settings(0, 0) };
    let mut pool = Pool::start(&rig, scheme, settings, 0).await;
    assert_eq!(pool.ledger.disk(), None);
    for number in 1..=20 {
        pool.slot(number).await;
    }
    let Pool { ledger, hand, shard, spool, .. } = pool;
    drop((hand, shard));
    let running = crate::rig::Running::start(ledger, &Tree::new());
    until("all that is old is dropped", async || kept(&rig).await == (17, 17)).await;
    let disk = running.ledger.disk().unwrap();
    assert!(disk.size > disk.free && disk.archive == 0, "{disk:?}");
    running.stop().await.verify().await.unwrap();
    drop(spool);
}

/// Version 5 had one table for all slots; what it had is there afterwards, and goes on.
pub async fn a_database_of_version_5_goes_on(rig: Rig) {
    Ledger::migrate_to(&rig.url, 5).await.unwrap();
    let [a, b, c] = crew();
    let key = |worker: &Worker| match rig.is_postgres() {
        true => format!("decode('{}', 'hex')", hex::encode(worker.id().0)),
        false => format!("unhex('{}')", hex::encode(worker.id().0)),
    };
    let big = 1u128 << 95;
    let (one, two, all) = (2 * big + 1, 5, 2 * big + 14);
    let bytes = |byte: &str| match rig.is_postgres() {
        true => format!("decode('{}', 'hex')", byte.repeat(32)),
        false => format!("unhex('{}')", byte.repeat(32)),
    };
    let fill = format!(
        "INSERT INTO miner (address) VALUES ('{}'), ('{}');
         INSERT INTO worker (key, miner_id, name, accepted_shares, rejected_shares, work) VALUES
             ({}, 1, 'a', 4, 1, '{}'), ({}, 1, 'b', 1, 0, '{big}'), ({}, 2, 'c', 2, 0, '6');
         INSERT INTO terms (id, scheme, factor, fee_ppm) VALUES (1, 'pplns', 50, 10000);
         INSERT INTO slot (id, opened_ms, closed_ms, shares, work, terms_id, bits) VALUES
             (1, 0, 5, 3, '{}', 1, 545259519), (2, 5, 6, 2, '{two}', 1, 545259519), (3, {BEGIN_MS}, NULL, 2, '7', 1, 545259519);
         INSERT INTO slot_work (slot_id, worker_id, shares, work) VALUES
             (1, 1, 1, '{}'), (1, 2, 1, '{big}'), (1, 3, 1, '1'), (2, 1, 2, '{two}'), (3, 1, 1, '2'), (3, 3, 1, '5');
         UPDATE tally SET accepted_shares = 7, rejected_shares = 1, work = '{all}', height = 100;
         INSERT INTO block (id, hash, prev_hash, height, bits, coinbase_txid, value_sats, found_ms, finder_id, slot_id, scheme,
             factor, window_work, reward_msat, fee_msat, state, terms_id, window_bits, subsidy_msat)
             VALUES (1, {}, {}, 100, 545259519, {}, 1000, 6, 1, 2, 'pplns', 50, '100', 1000000, 10000, 'candidate', 1, 545259519, 1000000);
         INSERT INTO block_weight (block_id, miner_id, work) VALUES (1, 1, '100')",
        miner(1),
        miner(2),
        key(&a),
        big + 8,
        key(&b),
        key(&c),
        one + 1,
        big + 1,
        bytes("01"),
        bytes("00"),
        bytes("cb"),
    );
    execute(&mut rig.raw().await, &fill).await.unwrap();
    let scheme = Scheme::Pplns { factor: 50 };
    let pool = Pool::start(&rig, scheme, settings(0, 0), 0).await;
    pool.ledger.verify().await.unwrap();
    let by_miner = "SELECT COUNT(*) FROM slot_miner WHERE slot_id = 1 AND CAST(work AS TEXT) =";
    assert_eq!(
        rig.number(&format!("{by_miner} '{one}' AND miner_id = 1")).await,
        1,
        "exactly, however large"
    );
    assert_eq!(rig.number("SELECT COUNT(*) FROM slot_miner").await, 3);
    assert_eq!(rig.number("SELECT COUNT(*) FROM slot_open").await, 2);
    assert_eq!(rig.number("SELECT COUNT(*) FROM slot_work").await, 4);
    drop(pool);
    // The open slot goes on, is closed, and in the end all of it goes.
    let mut pool = Pool::start(&rig, scheme, settings(0, 0), 0).await;
    for number in 1..=10 {
        pool.slot(number).await;
        pool.ledger.verify().await.unwrap();
    }
    assert_eq!(rig.number("SELECT MAX(id) FROM slot").await, 12);
    assert_eq!(rig.number("SELECT shares FROM slot WHERE id = 3").await, 5);
    pool.shard.time_ms += 4 * HOUR;
    pool.shard.share(&a, 1_000);
    pool.shard.time_ms += 4 * HOUR;
    pool.shard.share(&a, 1);
    pool.shard.commit();
    pool.drain().await;
    pool.tidy().await;
    assert_eq!(kept(&rig).await, (12, 12), "the first range is all that there was, the others four each");
    pool.ledger.verify().await.unwrap();
    let account = pool.ledger.miner(&miner(1)).await.unwrap().unwrap();
    assert_eq!(account.work, big + 8 + 1_001 + big + 3 * 10);
}

/// Who reads slots holds up only the dropping of them, and that waits for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn readers_hold_up_only_the_dropping() {
    let rig = Rig::postgres();
    let mut pool = Pool::start(&rig, Scheme::Pplns { factor: 1 }, settings(0, 0), 0).await;
    for number in 1..=10 {
        pool.slot(number).await;
    }
    let mut raw = rig.raw().await;
    let mut reader = raw.begin().await.unwrap();
    execute(&mut reader, "LOCK TABLE slot_work, slot_miner, slot_rate IN ACCESS SHARE MODE").await.unwrap();
    let begun = std::time::Instant::now();
    assert!(!pool.hand.drop_old().await.unwrap());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(kept(&rig).await, (1, 1));
    // Shares go on meanwhile, into new ranges too.
    for number in 11..=14 {
        pool.slot(number).await;
    }
    pool.check(14).await;
    reader.rollback().await.unwrap();
    assert!(pool.tidy().await > 0);
    assert_eq!(kept(&rig).await, (13, 13));
    pool.check(14).await;
}

/// The pool's role makes and drops ranges, and can do nothing else with tables; who reads can do neither.
#[tokio::test(flavor = "multi_thread")]
async fn roles_make_and_drop_ranges_only() {
    let rig = Rig::postgres();
    Ledger::migrate(&rig.url).await.unwrap();
    let script = include_str!("../../../../docker/postgres-roles.sql");
    execute(&mut rig.raw().await, script).await.unwrap();
    let as_role = |role: &str| rig.url.replace("postgres@", &format!("{role}@"));
    let (as_pool, as_reader) = (as_role("sluice_pool"), as_role("sluice_reader"));
    let rig = Rig { url: as_pool, ..rig };
    let mut pool = Pool::start(&rig, Scheme::Pps { factor: 1 }, settings(0, 0), 0).await;
    for number in 1..=10 {
        pool.slot(number).await;
    }
    assert_eq!(pool.tidy().await, 4);
    assert_eq!(kept(&rig).await, (9, 9));
    pool.check(10).await;
    let mut raw = rig.raw().await;
    let mut reader = sqlx::AnyConnection::connect(&as_reader).await.unwrap();
    for (sql, expect) in [
        ("DROP TABLE slot_work_9", "must be owner"),
        (
            "CREATE TABLE slot_work_99 PARTITION OF slot_work FOR VALUES FROM (99) TO (100)",
            "permission denied",
        ),
        ("SELECT slots_drop('entry', 9)", "entry is not kept by ranges of slots"),
        ("SELECT slots_drop('slot_work; DROP TABLE entry; --', 9)", "is not kept by ranges of slots"),
        ("SELECT slots_drop('slot_work', 9)", "9 to 12 of slot_work is kept: slot_kept says from 9 on"),
        ("SELECT slots_drop('slot_rate', 9)", "9 to 12 of slot_rate is kept"),
        ("SELECT slots_drop('slot_work', 10)", "no range of slots begins with 10"),
        ("SELECT slots_extend(9, 9)", "are no range"),
        ("SELECT slots_extend(10, 20)", "would overlap"),
        ("TRUNCATE slot_work", "permission denied"),
    ] {
        let error = execute(&mut raw, sql).await.unwrap_err().to_string();
        assert!(error.contains(expect), "{sql}: {error}");
    }
    for sql in ["SELECT slots_drop('slot_work', 9)", "SELECT slots_extend(99, 100)", "DELETE FROM slot_open"]
    {
        let error = execute(&mut reader, sql).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{sql}: {error}");
    }
    // A temporary table of the caller's, if it might make one, is not taken for one of the ledger's.
    let give = "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO sluice_pool', current_database()); END $$";
    let owner = rig.url.replace("sluice_pool@", "postgres@");
    execute(&mut sqlx::AnyConnection::connect(&owner).await.unwrap(), give).await.unwrap();
    execute(&mut raw, "CREATE TEMPORARY TABLE slot_work_9 (mine BIGINT)").await.unwrap();
    let drop = "BEGIN; UPDATE slot_kept SET workers_from = 13; SELECT slots_drop('slot_work', 9)";
    execute(&mut raw, drop).await.unwrap();
    assert_eq!(execute(&mut raw, "SELECT mine FROM slot_work_9").await.unwrap(), 0);
    execute(&mut raw, "ROLLBACK").await.unwrap();
    let report = Audit::open(&as_reader, &rig.spool_dir()).unwrap().verify(Which::Any).await;
    assert!(report.is_ok_and(|report| report.findings.is_empty()));
    // Without the role script a pool says what is wrong, and sets nothing aside.
    let mut raw = sqlx::AnyConnection::connect(&owner).await.unwrap();
    execute(&mut raw, "REVOKE ALL ON FUNCTION slots_extend(BIGINT, BIGINT) FROM sluice_pool").await.unwrap();
    for number in 11..=12 {
        pool.slot(number).await;
    }
    pool.shard.time_ms += 4 * HOUR;
    pool.shard.share(&crew()[0], 1);
    pool.shard.commit();
    let error = pool.hand.drain().await.unwrap_err();
    assert!(matches!(error, LedgerError::Database { .. }), "{error}");
    assert!(error.to_string().contains("permission denied for function slots_extend"), "{error}");
    assert_eq!(rig.number("SELECT COUNT(*) FROM set_aside").await, 0);
}
