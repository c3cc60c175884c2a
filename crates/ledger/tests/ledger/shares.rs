//! Shares from the spool to the totals.

use std::{fs, path::PathBuf, time::Duration};

use ledger::{Audit, Scheme, Settings, ShareRecord, SpoolConfig, Which};

use crate::rig::{Rig, Running, Shard, Tree, execute, miner, quick, until, worker};

const PPLNS: Scheme = Scheme::Pplns { factor: 50 };

pub async fn shares_count_once(rig: Rig) {
    let spool = rig.spool();
    let running = rig.run(&spool, PPLNS, &Tree::new()).await;
    let (mut one, mut two) = (Shard::new(&spool, 0), Shard::new(&spool, 1));
    let (a, b, c) = (worker(1, "a"), worker(1, "b"), worker(2, ""));
    assert_eq!(running.ledger.miner(&miner(1)).await.unwrap(), None);
    for round in 0..10 {
        one.share(&a, 1 << 90);
        one.share(&c, 3);
        two.share(&b, 5);
        if round % 3 == 0 {
            two.rejects(&b, 2);
        }
        one.commit();
        two.commit();
    }
    let ledger = &running.ledger;
    until("30 shares", async || ledger.totals().await.unwrap().accepted_shares == 30).await;
    let totals = ledger.totals().await.unwrap();
    assert_eq!((totals.rejected_shares, totals.work, totals.miners), (8, 10 * ((1 << 90) + 8), 2));
    assert_eq!((totals.blocks, totals.orphaned, totals.rewards_msat, totals.fee_msat), (0, 0, 0, 0));
    let first = ledger.miner(&miner(1)).await.unwrap().unwrap();
    assert_eq!((first.accepted_shares, first.rejected_shares, first.work), (20, 8, 10 * ((1 << 90) + 5)));
    let workers: Vec<_> = first
        .workers
        .iter()
        .map(|w| (w.name.as_str(), w.accepted_shares, w.rejected_shares, w.work))
        .collect();
    assert_eq!(workers, [("a", 10, 0, 10 << 90), ("b", 10, 8, 50)]);
    assert_eq!(first.workers[1].last_share_ms, Some(two.time_ms));
    let second = ledger.miner(&miner(2)).await.unwrap().unwrap();
    assert_eq!((second.workers.len(), second.workers[0].name.as_str(), second.work), (1, "", 30));
    for nobody in [miner(3), String::new(), "\0".to_owned(), "x".repeat(1_000)] {
        assert_eq!(ledger.miner(&nobody).await.unwrap(), None);
        assert_eq!(ledger.credits(&nobody, 10).await.unwrap(), []);
    }
    ledger.verify().await.unwrap();
    let ledger = running.stop().await;
    assert_eq!(ledger.totals().await.unwrap(), totals, "stopping drains nothing twice");
    drop(ledger);
    let ledger = rig.run(&spool, PPLNS, &Tree::new()).await.stop().await;
    assert_eq!(ledger.totals().await.unwrap(), totals, "nor does opening it again over the same spool");
}

pub async fn a_restart_goes_on(rig: Rig) {
    let a = worker(1, "a");
    let config = SpoolConfig { segment_bytes: 1_024, ..SpoolConfig::default() };
    for round in 1..=4 {
        let spool = rig.spool_with(config.clone());
        let mut shard = Shard::new(&spool, round % 2);
        for _ in 0..50 {
            shard.share(&a, 2);
            shard.commit();
        }
        if round == 2 {
            continue; // killed before anything was drained
        }
        let running = rig.run(&spool, PPLNS, &Tree::new()).await;
        drop(shard);
        let ledger = running.stop().await;
        assert_eq!(ledger.totals().await.unwrap().accepted_shares, u64::from(round) * 50);
        assert_eq!(ledger.spooled_bytes(), 0, "all segments are drained and deleted");
        ledger.verify().await.unwrap();
    }
    assert_eq!(rig.number("SELECT COUNT(*) FROM slot_open").await, 1, "one slot stays open over restarts");
}

pub async fn slots_close_by_time(rig: Rig) {
    let spool = rig.spool();
    let running = rig.run(&spool, PPLNS, &Tree::new()).await;
    let mut shard = Shard::new(&spool, 0);
    let a = worker(1, "a");
    let begin = shard.time_ms;
    // Within ten minutes, ten minutes on, the clock put back by a day, and a minute before ten minutes are over again.
    for (minute, work) in [(0, 1), (9, 2), (10, 3), (-1_440, 4), (19, 5), (20, 6), (21, 7)] {
        shard.time_ms = begin.checked_add_signed(minute * 60_000).unwrap();
        shard.share(&a, work);
        shard.commit();
    }
    let ledger = running.stop().await;
    let mut raw = rig.raw().await;
    let rows = sqlx::query("SELECT id, CAST(work AS TEXT), shares FROM slot ORDER BY id")
        .fetch_all(&mut raw)
        .await
        .unwrap();
    let slots: Vec<(i64, String, i64)> = rows
        .iter()
        .map(|row| (sqlx::Row::get(row, 0), sqlx::Row::get(row, 1), sqlx::Row::get(row, 2)))
        .collect();
    assert_eq!(slots, [(1, "3".to_owned(), 2), (2, "12".to_owned(), 3), (3, "13".to_owned(), 2)]);
    assert_eq!(rig.number("SELECT COUNT(*) FROM slot WHERE closed_ms IS NULL").await, 1);
    ledger.verify().await.unwrap();
}

pub async fn slots_close_though_the_clock_is_put_back(rig: Rig) {
    let spool = rig.spool();
    let settings = Settings { slot: Duration::from_millis(500), ..quick() };
    let running = Running::start(rig.open_with(&spool, PPLNS, settings).await.unwrap(), &Tree::new());
    let mut shard = Shard::new(&spool, 0);
    let ledger = &running.ledger;
    for number in 1..=3 {
        shard.share(&worker(1, "a"), 1);
        shard.commit();
        until("the share counts", async || ledger.totals().await.unwrap().accepted_shares == number).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        shard.time_ms -= 86_400_000;
    }
    assert_eq!(rig.number("SELECT COUNT(*) FROM slot").await, 3);
    running.stop().await.verify().await.unwrap();
}

/// The only live segment's file.
fn the_segment(rig: &Rig) -> PathBuf {
    let files = fs::read_dir(rig.spool_dir()).unwrap().map(|file| file.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "segment")).unwrap()
}

/// A disk that writes to the wrong place leaves a record that is whole, but stands there twice.
pub async fn a_record_that_stands_there_twice_is_told(rig: Rig) {
    let spool = rig.spool();
    let mut shard = Shard::new(&spool, 0);
    (0..4).for_each(|_| shard.share(&worker(1, "a"), 1));
    shard.commit();
    drop((shard, spool));
    let segment = the_segment(&rig);
    let mut bytes = fs::read(&segment).unwrap();
    let third = bytes.len() - 2 * 64;
    bytes.copy_within(third - 64..third, third);
    fs::write(&segment, bytes).unwrap();
    let ledger = rig.run(&rig.spool(), PPLNS, &Tree::new()).await.stop().await;
    assert_eq!(ledger.totals().await.unwrap().accepted_shares, 4);
    drop(ledger);
    let report = Audit::open(&rig.url, &rig.spool_dir()).unwrap().verify(Which::Any).await.unwrap();
    assert!(report.findings.iter().any(|finding| finding.ends_with("has 1 shares twice")), "{report:?}");
}

pub async fn poisoned_records_are_set_aside(rig: Rig) {
    let a = worker(1, "a");
    let spool = rig.spool();
    let mut shard = Shard::new(&spool, 0);
    for number in 0..9 {
        match number {
            4 => {
                let unknown = worker(9, "never named").id();
                let time_ms = shard.time_ms;
                let share =
                    ShareRecord { time_ms, worker: unknown, work: 1, height: 1, bits: 1, hash_tag: 0 };
                shard.writer.share(&share);
            }
            6 => shard.share(&a, 1 << 100),
            _ => shard.share(&a, 1),
        }
    }
    shard.commit();
    drop((shard, spool));
    let segment = the_segment(&rig);
    let mut bytes = fs::read(&segment).unwrap();
    let (length, first) = (bytes.len(), bytes.len() - 9 * 64);
    bytes[first + 2 * 64 + 20] ^= 0x10;
    bytes.extend([0x77; 100]);
    fs::write(&segment, bytes).unwrap();

    let spool = rig.spool();
    let ledger = rig.run(&spool, PPLNS, &Tree::new()).await.stop().await;
    assert_eq!(ledger.totals().await.unwrap().accepted_shares, 6);
    assert_eq!(ledger.totals().await.unwrap().work, 6);
    let mut raw = rig.raw().await;
    let rows = sqlx::query("SELECT reason, byte, length, record FROM set_aside ORDER BY byte")
        .fetch_all(&mut raw)
        .await
        .unwrap();
    let aside: Vec<(String, i64, i64, Option<usize>)> = rows
        .iter()
        .map(|row| {
            let record: Option<Vec<u8>> = sqlx::Row::get(row, 3);
            (
                sqlx::Row::get(row, 0),
                sqlx::Row::get(row, 1),
                sqlx::Row::get(row, 2),
                record.map(|record| record.len()),
            )
        })
        .collect();
    let at = |slot: usize| (first + slot * 64) as i64;
    let expect = [
        ("unreadable".to_owned(), at(2), 64, None),
        ("share of a worker that was never named".to_owned(), at(4), 64, Some(64)),
        ("share with impossible work or time".to_owned(), at(6), 64, Some(64)),
    ];
    assert_eq!(aside, expect);
    assert_eq!(length, at(9) as usize, "and the torn end is nobody's");
    ledger.verify().await.unwrap();
}

/// A flipped bit in the record of a block: whoever looks at what is set aside is told that it may be one, and what to do.
pub async fn a_damaged_block_is_said_to_be_one(rig: Rig) {
    let spool = rig.spool();
    let mut shard = Shard::new(&spool, 0);
    shard.share(&worker(1, "a"), 1);
    shard.found(PPLNS, &worker(1, "a"), 1, 1_000);
    shard.share(&worker(1, "a"), 1);
    shard.commit();
    drop((shard, spool));
    let segment = fs::read_dir(rig.spool_dir())
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let value = bytes.windows(12).position(|at| at == b"\"value_sats\"").unwrap();
    bytes[value + 14] ^= 1;
    fs::write(&segment, bytes).unwrap();

    let spool = rig.spool();
    let ledger = rig.run(&spool, PPLNS, &Tree::new()).await.stop().await;
    assert_eq!(ledger.totals().await.unwrap().accepted_shares, 2);
    assert_eq!(ledger.totals().await.unwrap().blocks, 0);
    let mut raw = rig.raw().await;
    let reasons: Vec<String> =
        sqlx::query_scalar("SELECT reason FROM set_aside").fetch_all(&mut raw).await.unwrap();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    for words in ["unreadable; this may be a found block", "HASH.note", "sluice ledger correct"] {
        assert!(reasons[0].contains(words), "{words}: {reasons:?}");
    }
    ledger.verify().await.unwrap();
}

/// And while it is looked for, what is behind it does not wait for more records to come.
pub async fn a_record_that_the_database_refuses_is_set_aside(rig: Rig) {
    let spool = rig.spool();
    let settings = Settings { interval: Duration::from_secs(3_600), ..quick() };
    let ledger = rig.open_with(&spool, PPLNS, settings).await.unwrap();
    let mut raw = rig.raw().await;
    let refuse = if rig.is_postgres() {
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF NEW.name = 'poison' THEN RAISE EXCEPTION 'poison'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER poison BEFORE INSERT ON worker FOR EACH ROW EXECUTE FUNCTION poison()"
    } else {
        "CREATE TRIGGER poison BEFORE INSERT ON worker WHEN NEW.name = 'poison' \
         BEGIN SELECT RAISE(ABORT, 'poison'); END"
    };
    execute(&mut raw, refuse).await.unwrap();
    let mut shard = Shard::new(&spool, 0);
    for number in 0..200 {
        shard.share(&worker(1 + number % 3, "good"), 1);
        if number == 100 {
            shard.share(&worker(1, "poison"), 1);
        }
    }
    shard.commit();
    let running = Running::start(ledger, &Tree::new());
    let ledger = &running.ledger;
    until("the good ones", async || ledger.totals().await.unwrap().accepted_shares == 200).await;
    let ledger = running.stop().await;
    ledger.verify().await.unwrap();
    assert_eq!(
        rig.number("SELECT COUNT(*) FROM set_aside WHERE reason = 'refused by the database'").await,
        1
    );
    assert_eq!(rig.number("SELECT COUNT(*) FROM set_aside").await, 2, "the name, and its one share");
}

pub async fn a_long_backlog_is_drained(rig: Rig) {
    let spool = rig.spool_with(SpoolConfig { segment_bytes: 256 << 10, ..SpoolConfig::default() });
    let mut shards: Vec<Shard> = (0..4).map(|number| Shard::new(&spool, number)).collect();
    let workers: Vec<_> = (1..=500).map(|number| worker(number, "rig")).collect();
    for (number, worker) in (0..60_000).zip(workers.iter().cycle()) {
        let shard = &mut shards[number % 4];
        shard.share(worker, 1 + number as u128 % 7);
        if number % 50 < 4 {
            shard.commit();
        }
    }
    shards.iter_mut().for_each(Shard::commit);
    let settings = Settings { batch: 5_000, interval: Duration::from_millis(50), ..quick() };
    let running = Running::start(rig.open_with(&spool, PPLNS, settings).await.unwrap(), &Tree::new());
    drop(shards);
    let ledger = running.stop().await;
    let totals = ledger.totals().await.unwrap();
    let work: u128 = (0..60_000).map(|number| 1 + number % 7).sum();
    assert_eq!((totals.accepted_shares, totals.work, totals.miners), (60_000, work, 500));
    assert_eq!(ledger.spooled_bytes(), 0);
    ledger.verify().await.unwrap();
}
