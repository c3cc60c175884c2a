//! The books against themselves and their records.

use std::{fs, time::Duration};

use ledger::{Audit, BlockStatus, Ledger, Scheme, SpoolConfig, Which, Worker, proof::Seal};

use crate::rig::{Rig, Shard, Tree, execute, hash, until_block, worker};

pub const PPLNS: Scheme = Scheme::Pplns { factor: 50 };

pub fn small() -> SpoolConfig {
    SpoolConfig { segment_bytes: 2_048, ..SpoolConfig::default() }
}

pub fn workers() -> Vec<Worker> {
    (1..=4).map(|number| worker(number, "rig")).collect()
}

/// Shares of four workers over two shards with a block among them; all that is in segments that are closed.
pub async fn drained(rig: &Rig, config: SpoolConfig) -> (Ledger, Vec<(Worker, u64)>) {
    let chain = Tree::new();
    chain.grow(hash(0), hash(1), 1);
    let spool = rig.spool_with(config);
    let mut shards = [Shard::new(&spool, 0), Shard::new(&spool, 1)];
    let (workers, mut shares) = (workers(), Vec::new());
    for number in 0..160usize {
        let shard = &mut shards[number % 2];
        shard.share(&workers[number % 4], 1 + number as u128 % 7);
        shares.push((workers[number % 4].clone(), shard.time_ms));
        if number == 90 {
            shard.found(PPLNS, &workers[0], 1, 1_000);
        }
        shard.commit();
    }
    drop(shards);
    let running = rig.run(&spool, PPLNS, &chain).await;
    until_block(&running.ledger, BlockStatus::Immature, Some(1)).await;
    (running.stop().await, shares)
}

pub async fn planted_corruptions_are_found_by_name(rig: Rig) {
    let (ledger, _) = drained(&rig, small()).await;
    let seals = ledger.segments(500, 0).await.unwrap();
    drop(ledger);
    let audit = Audit::open(&rig.url, &rig.spool_dir()).unwrap();
    let findings = async || {
        let report = audit.verify(Which::Block(hash(1))).await.unwrap();
        assert_eq!(report.block, Some(hash(1)));
        assert_eq!(report.notes, [] as [&str; 0]);
        report.findings
    };
    assert_eq!(findings().await, [] as [&str; 0], "a clean ledger");
    let report = audit.verify(Which::Any).await.unwrap();
    assert!(report.shares >= 160, "{report:?}");

    let mut raw = rig.raw().await;
    let off = if rig.is_postgres() {
        "SET session_replication_role = replica"
    } else {
        "DROP TRIGGER entry_no_update; DROP TRIGGER entry_no_delete; DROP TRIGGER txn_no_delete; DROP TRIGGER txn_no_update; \
         DROP TRIGGER segment_no_update; DROP TRIGGER segment_no_delete; DROP TRIGGER txn_sealed; DROP TRIGGER entry_added; \
         PRAGMA foreign_keys = OFF"
    };
    execute(&mut raw, off).await.unwrap();
    let add = |column: &str, number: i64| match rig.is_postgres() {
        true => format!("{column} = {column} + {number}"),
        false => format!("{column} = CAST({column} + {number} AS TEXT)"),
    };
    let byte = if rig.is_postgres() {
        "'\\x00'::bytea || substring(root from 2)"
    } else {
        "CAST(x'00' || substr(root, 2) AS BLOB)"
    };
    let live = "UPDATE watermark SET segment = segment - 1, byte = 64 WHERE writer = 0".to_owned();
    let mend = "UPDATE watermark SET segment = segment + 1, byte = 0 WHERE writer = 0".to_owned();
    let newest = seals.len();
    // What is done, how it is undone, and what is said.
    let cases: Vec<(String, String, &str)> = vec![
        (
            "UPDATE account SET balance_msat = balance_msat + 1 WHERE id = 16".into(),
            "UPDATE account SET balance_msat = balance_msat - 1 WHERE id = 16".into(),
            "account miner:2:immature says",
        ),
        (
            "UPDATE entry SET amount_msat = amount_msat + 1 WHERE account_id = 16".into(),
            "UPDATE entry SET amount_msat = amount_msat - 1 WHERE account_id = 16".into(),
            "sums to 1 msat",
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM txn; DELETE FROM txn".into(),
            "INSERT INTO txn SELECT * FROM kept; DROP TABLE kept".into(),
            "entries have no transaction",
        ),
        (
            format!(
                "UPDATE block_weight SET {} WHERE miner_id = 1; UPDATE block_weight SET {} WHERE miner_id = 2",
                add("work", 1),
                add("work", -1)
            ),
            format!(
                "UPDATE block_weight SET {} WHERE miner_id = 1; UPDATE block_weight SET {} WHERE miner_id = 2",
                add("work", -1),
                add("work", 1)
            ),
            "has other weights than the slots of its window",
        ),
        (
            format!(
                "UPDATE slot_work SET {} WHERE slot_id = 1 AND worker_id = 1; UPDATE slot_work SET {} WHERE slot_id = 1 AND worker_id = 2",
                add("work", 1),
                add("work", -1)
            ),
            format!(
                "UPDATE slot_work SET {} WHERE slot_id = 1 AND worker_id = 1; UPDATE slot_work SET {} WHERE slot_id = 1 AND worker_id = 2",
                add("work", -1),
                add("work", 1)
            ),
            "slot 1 has other work than its records",
        ),
        (
            format!("UPDATE worker SET {} WHERE id = 3", add("work", 1)),
            format!("UPDATE worker SET {} WHERE id = 3", add("work", -1)),
            "worker 3 has other totals than its slots",
        ),
        (
            "UPDATE tally SET accepted_shares = accepted_shares - 1".into(),
            "UPDATE tally SET accepted_shares = accepted_shares + 1".into(),
            "the pool has other totals than its workers",
        ),
        (live, mend, "the watermark of writer 0 is before the end of segment"),
        (
            format!(
                "CREATE TABLE kept AS SELECT id, root FROM segment; UPDATE segment SET root = {byte} WHERE id = 2"
            ),
            "UPDATE segment SET root = (SELECT root FROM kept WHERE kept.id = segment.id); DROP TABLE kept"
                .into(),
            "segment 2 is not what its link of the chain says",
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM segment WHERE id = 3; DELETE FROM segment WHERE id = 3"
                .into(),
            "INSERT INTO segment SELECT * FROM kept; DROP TABLE kept".into(),
            "the chain is broken between segments 2 and 4",
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM segment WHERE id = 1; DELETE FROM segment WHERE id = 1"
                .into(),
            "INSERT INTO segment SELECT * FROM kept; DROP TABLE kept".into(),
            "the chain of segments begins with 2, not with 1",
        ),
        (
            format!(
                "CREATE TABLE kept AS SELECT * FROM segment WHERE id = {newest}; DELETE FROM segment WHERE id = {newest}"
            ),
            "INSERT INTO segment SELECT * FROM kept; DROP TABLE kept".into(),
            "is kept, but not in the chain",
        ),
        (
            "UPDATE block SET state = 'candidate'".into(),
            "UPDATE block SET state = 'immature'".into(),
            "against its state",
        ),
        (
            "UPDATE block SET fee_msat = fee_msat - 10".into(),
            "UPDATE block SET fee_msat = fee_msat + 10".into(),
            "is credited otherwise than its weights say",
        ),
        (
            "UPDATE slot_end SET byte = byte - 128 WHERE slot_id = 1 AND writer = 0".into(),
            "UPDATE slot_end SET byte = byte + 128 WHERE slot_id = 1 AND writer = 0".into(),
            "slot 1 has other work than its records",
        ),
    ];
    for (plant, mend, expect) in cases {
        execute(&mut raw, &plant).await.unwrap();
        let found = findings().await;
        assert!(found.iter().any(|finding| finding.contains(expect)), "{plant}: {found:?}");
        execute(&mut raw, &mend).await.unwrap();
        assert_eq!(findings().await, [] as [&str; 0], "after {mend}");
    }

    // A share's byte in a kept segment, and a whole segment replaced by another.
    let file = |seal: &Seal| rig.spool_dir().join("audit").join(format!("{}.segment.zst", seal.name));
    let path = file(&seals[1]);
    let good = fs::read(&path).unwrap();
    let mut bytes = zstd::decode_all(&good[..]).unwrap();
    let last = bytes.len() - 30;
    bytes[last] ^= 1;
    let damaged = zstd::encode_all(&bytes[..], 1).unwrap();
    let other = fs::read(file(&seals[3])).unwrap();
    for (bytes, expect) in [
        (&damaged[..], "segment 2 ("),
        (&other[..], "its file has other shares than its root says"),
        (&good[..20], "segment 2 cannot be read"),
    ] {
        fs::write(&path, bytes).unwrap();
        let found = findings().await;
        assert!(found.iter().any(|finding| finding.contains(expect)), "{expect}: {found:?}");
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(findings().await, [] as [&str; 0]);
    // One that is gone while older ones are kept was lost.
    fs::remove_file(&path).unwrap();
    let found = audit.verify(Which::Any).await.unwrap().findings;
    assert!(
        found.iter().any(|finding| finding.contains("is not there, though older ones are kept")),
        "{found:?}"
    );
    fs::write(&path, &good).unwrap();
    // That the oldest are gone is no fault of the books: it is noted.
    let oldest = std::time::SystemTime::now() + Duration::from_secs(10 * 365 * 86_400);
    for seal in &seals[1..] {
        fs::File::options().append(true).open(file(seal)).unwrap().set_modified(oldest).unwrap();
    }
    fs::remove_file(file(&seals[0])).unwrap();
    let report = audit.verify(Which::Block(hash(1))).await.unwrap();
    assert_eq!(report.findings, [] as [&str; 0]);
    assert!(report.notes[0].contains("1 finished segments are not kept any more"), "{:?}", report.notes);
    let unknown = audit.verify(Which::Block(hash(77))).await.unwrap();
    assert!(unknown.findings[0].contains("there is no block 4d4d"), "{unknown:?}");
    let mut report = report;
    report.liabilities_msat = 5_001;
    report.compare_coins(6, 0);
    assert_eq!(report.findings, [] as [&str; 0]);
    report.compare_coins(5, 0);
    assert!(report.findings[0].contains("the wallet has 5 satoshi, but 5001"), "{report:?}");
}

/// Who writes a fault into all tables that tell of a thing has still not written it into the records.
pub async fn what_was_recorded_cannot_be_talked_away(rig: Rig) {
    drop(drained(&rig, small()).await);
    let audit = Audit::open(&rig.url, &rig.spool_dir()).unwrap();
    let report = audit.verify(Which::Any).await.unwrap();
    assert_eq!((report.findings, report.notes), (Vec::new(), Vec::<String>::new()));
    let mut raw = rig.raw().await;
    let off = match rig.is_postgres() {
        true => "SET session_replication_role = replica",
        false => {
            "DROP TRIGGER entry_no_delete; DROP TRIGGER txn_no_delete; DROP TRIGGER txn_sealed; DROP TRIGGER entry_added; \
             PRAGMA foreign_keys = OFF"
        }
    };
    execute(&mut raw, off).await.unwrap();
    let other = "INSERT INTO terms (id, scheme, factor, fee_ppm) VALUES (9, 'pplns', 50, 20000)";
    execute(&mut raw, other).await.unwrap();
    let bytes = if rig.is_postgres() { "decode(repeat('07', 32), 'hex')" } else { "x'" };
    let bytes = if rig.is_postgres() { bytes.to_owned() } else { format!("{bytes}{}'", "07".repeat(32)) };
    // A column of the only block: what it is set to, and what is said.
    let columns = [
        ("height", "height + 1", "has another height than its record"),
        ("bits", "bits - 1", "has another network target than its record"),
        ("value_sats", "value_sats + 1", "has another value than its record"),
        ("value_sats", "value_sats + 1", "divides another reward than its coinbase pays"),
        ("subsidy_msat", "subsidy_msat - 1", "has another subsidy than its height says"),
        ("coinbase_txid", &bytes, "has another coinbase than its record"),
        ("prev_hash", &bytes, "has another parent than its record"),
        ("found_ms", "found_ms + 1", "has another time than its record"),
        ("finder_id", "finder_id + 1", "has another finder than its record"),
        ("slot_id", "NULL", "has no window of work, and is not its finder's"),
        ("slot_id", "slot_id + 1", "has another window than its record"),
        ("window_bits", "window_bits + 1", "has another window than its record"),
        ("scheme", "'solo'", "has no window of work, and is not its finder's"),
        ("scheme", "'tides'", "has another scheme than its terms"),
        ("factor", "factor + 1", "has another scheme than its terms"),
        ("terms_id", "9", "has another set of terms than its record"),
        ("watched", "0", "is not decided, and nobody looks at it"),
        ("hash", &bytes, "was recorded and is not there"),
        ("hash", &bytes, "was never recorded"),
    ];
    let column = |(name, value, expect): (&str, &str, &'static str)| {
        let plant =
            format!("CREATE TABLE kept AS SELECT id, {name} FROM block; UPDATE block SET {name} = {value}");
        let back = format!(
            "UPDATE block SET {name} = (SELECT {name} FROM kept WHERE kept.id = block.id); DROP TABLE kept"
        );
        (plant, back, expect)
    };
    let mut cases: Vec<(String, String, &str)> = columns.into_iter().map(column).collect();
    let tables = ["entry", "txn", "block_weight", "block_output", "block"];
    let all = |each: fn(&str) -> String| tables.map(each).join("; ");
    let swap = |table: &str, name: &str, (one, other): (i64, i64)| {
        let spare = if rig.is_postgres() && name == "key" {
            "decode(repeat('00', 16), 'hex')"
        } else {
            "x'00000000000000000000000000000000'"
        };
        let spare = if name == "key" { spare } else { "'spare'" };
        format!(
            "CREATE TABLE kept_{table} AS SELECT id, {name} FROM {table}; UPDATE {table} SET {name} = {spare} WHERE id = {one}; \
             UPDATE {table} SET {name} = (SELECT {name} FROM kept_{table} k WHERE k.id = {one}) WHERE id = {other}; \
             UPDATE {table} SET {name} = (SELECT {name} FROM kept_{table} k WHERE k.id = {other}) WHERE id = {one}; \
             DROP TABLE kept_{table}"
        )
    };
    let swapped = [swap("miner", "address", (1, 2)), swap("worker", "key", (1, 2))].join("; ");
    let both = |sign: char| {
        format!(
            "UPDATE worker SET rejected_shares = rejected_shares {sign} 1 WHERE id = 1; UPDATE tally SET rejected_shares = rejected_shares {sign} 1"
        )
    };
    cases.extend([
        // The block, all that stands for it, and what it has brought.
        (
            format!(
                "{}; CREATE TABLE kept_account AS SELECT id, balance_msat FROM account; {}; UPDATE account SET balance_msat = 0",
                all(|table| format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")),
                all(|table| format!("DELETE FROM {table}"))
            ),
            format!(
                "INSERT INTO block SELECT * FROM kept_block; DROP TABLE kept_block; {}; \
                 UPDATE account SET balance_msat = (SELECT k.balance_msat FROM kept_account k WHERE k.id = account.id); DROP TABLE kept_account",
                ["block_weight", "block_output", "entry", "txn"]
                    .map(|table| format!("INSERT INTO {table} SELECT * FROM kept_{table}; DROP TABLE kept_{table}"))
                    .join("; ")
            ),
            "was recorded and is not there",
        ),
        // One that nobody has found.
        (
            format!(
                "CREATE TABLE kept AS SELECT * FROM block; UPDATE kept SET id = 2, hash = {bytes}, state = 'orphaned', credits = 0; \
                 INSERT INTO block SELECT * FROM kept; DROP TABLE kept"
            ),
            "DELETE FROM block WHERE id = 2".into(),
            "was never recorded",
        ),
        (
            "UPDATE block_output SET sats = sats - 1".into(),
            "UPDATE block_output SET sats = sats + 1".into(),
            "has another set of outputs than its record",
        ),
        (
            "UPDATE block_output SET miner_id = 1".into(),
            "UPDATE block_output SET miner_id = NULL".into(),
            "is not that of miner 1",
        ),
        (
            "UPDATE opening SET terms_id = 9".into(),
            "UPDATE opening SET terms_id = 1".into(),
            "slot 1 has other terms than its records",
        ),
        (
            "UPDATE slot SET terms_id = 9 WHERE id = 1".into(),
            "UPDATE slot SET terms_id = 1 WHERE id = 1".into(),
            "slot 1 has other terms than its records",
        ),
        (
            "UPDATE slot SET bits = bits - 1 WHERE id = 1".into(),
            "UPDATE slot SET bits = bits + 1 WHERE id = 1".into(),
            "slot 1 has other network target than its records",
        ),
        (
            "UPDATE worker SET last_share_ms = last_share_ms + 1 WHERE id = 1".into(),
            "UPDATE worker SET last_share_ms = last_share_ms - 1 WHERE id = 1".into(),
            "worker 1 has other totals than its records",
        ),
        (both('+'), both('-'), "worker 1 has other totals than its records"),
        (swapped.clone(), swapped, "has other work than its records"),
    ]);
    for (plant, mend, expect) in cases {
        execute(&mut raw, &plant).await.unwrap_or_else(|error| panic!("{plant}: {error}"));
        let found = audit.verify(Which::Any).await.unwrap().findings;
        assert!(found.iter().any(|finding| finding.contains(expect)), "{plant}: {found:?}");
        execute(&mut raw, &mend).await.unwrap_or_else(|error| panic!("{mend}: {error}"));
        assert_eq!(audit.verify(Which::All).await.unwrap().findings, [] as [&str; 0], "after {mend}");
    }
}

/// The pool runs and drains while somebody checks.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_beside_a_pool_that_runs() {
    for rig in [Rig::sqlite(), Rig::postgres()] {
        let spool = rig.spool_with(small());
        let running = rig.run(&spool, PPLNS, &Tree::new()).await;
        let mut shard = Shard::new(&spool, 0);
        let workers = workers();
        let audit = Audit::open(&rig.url, &rig.spool_dir()).unwrap();
        for round in 0..40usize {
            for number in 0..25 {
                shard.share(&workers[(round + number) % 4], 1);
            }
            if round % 7 == 6 {
                shard.found(PPLNS, &workers[0], 1 + (round / 7) as u8, 1_000);
            }
            shard.commit();
            tokio::time::sleep(Duration::from_millis(15)).await;
            if round % 5 == 4 {
                let report = audit.verify(Which::Any).await.unwrap();
                assert_eq!(report.findings, [] as [&str; 0], "round {round}");
            }
        }
        running.stop().await;
    }
}
