//! What must be refused: by the database, at the opening, and by the eye that checks.

use std::fs;

use bitcoin::Network;
use ledger::{Ledger, LedgerError, Scheme};
use sqlx::{AnyConnection, Connection, Row};

use crate::rig::{NETWORK, Rig, Running, Shard, Tree, execute, hash, quick, terms, until_block, worker};

const PPLNS: Scheme = Scheme::Pplns { factor: 50 };

/// A ledger with one credited block of two miners.
pub async fn credited(rig: &Rig) -> Ledger {
    let chain = Tree::new();
    chain.grow(hash(0), hash(1), 1);
    let spool = rig.spool();
    let mut shard = Shard::new(&spool, 0);
    shard.share(&worker(1, "a"), 60);
    shard.share(&worker(2, "b"), 40);
    shard.rejects(&worker(2, "b"), 1);
    shard.found(PPLNS, &worker(1, "a"), 1, 1_000);
    shard.commit();
    let running = rig.run(&spool, PPLNS, &chain).await;
    until_block(&running.ledger, ledger::BlockStatus::Immature, Some(1)).await;
    running.stop().await
}

pub async fn the_journal_refuses_what_it_must(rig: Rig) {
    let ledger = credited(&rig).await;
    let mut raw = rig.raw().await;
    execute(&mut raw, if rig.is_postgres() { "SELECT 1" } else { "PRAGMA foreign_keys = ON" }).await.unwrap();
    let seal =
        |id: i64, key: &str| format!("INSERT INTO txn VALUES ({id}, 'reward', '{key}', NULL, 0, NULL)");
    let entry =
        |id: i64, account: i64, amount: i64| format!("INSERT INTO entry VALUES ({id}, {account}, {amount})");
    let refused: &[(&[String], &str)] = &[
        (&["UPDATE entry SET amount_msat = 1".to_owned()], "append-only: update of entry"),
        (&["DELETE FROM entry WHERE amount_msat > 0".to_owned()], "append-only: delete of entry"),
        (&["UPDATE txn SET created_ms = 0".to_owned()], "append-only: update of txn"),
        (&["DELETE FROM txn".to_owned()], "append-only: delete of txn"),
        (&[entry(2, 1, -5), seal(2, "unbalanced")], "sum to zero"),
        (&[entry(2, 1, -5), entry(2, 2, 4), seal(2, "short")], "sum to zero"),
        (&[entry(1, 2, 5)], "sealed"),
        (&[seal(2, "first"), entry(2, 1, -5), entry(2, 2, 5)], "sealed"),
        (&[entry(2, 1, -5), entry(2, 2, 5)], "constraint"), // at the commit: no transaction that they belong to
        (&[entry(2, 1, -5), entry(2, 2, 5), seal(2, &format!("reward:{}:1", "01".repeat(32)))], "idem_key"),
        (&[entry(2, 1, 0), seal(2, "nothing")], "constraint"),
        (&[entry(2, 999, 1), entry(2, 1, -1), seal(2, "nobody")], "constraint"),
        (&["UPDATE account SET balance_msat = -1 WHERE miner_id IS NOT NULL".to_owned()], "constraint"),
    ];
    for (statements, expect) in refused {
        let error = attempt(&mut raw, statements).await.expect_err(&statements.join("; "));
        assert!(error.to_string().to_lowercase().contains(expect), "{statements:?}: {error}");
    }
    if rig.is_postgres() {
        let error = attempt(&mut raw, &["TRUNCATE txn, entry".to_owned()]).await.unwrap_err();
        assert!(error.to_string().contains("append-only: truncate"), "{error}");
    }
    ledger.verify().await.unwrap();
    // What is in order is taken.
    attempt(&mut raw, &[entry(2, 1, -5), entry(2, 2, 5), seal(2, "good")]).await.unwrap();
    attempt(&mut raw, &[seal(3, "empty")]).await.unwrap();
}

/// Runs statements in one transaction.
async fn attempt(raw: &mut AnyConnection, statements: &[String]) -> Result<(), sqlx::Error> {
    let mut transaction = raw.begin().await?;
    for statement in statements {
        execute(&mut transaction, statement).await?;
    }
    transaction.commit().await
}

pub async fn verify_finds_what_was_tampered_with(rig: Rig) {
    let ledger = credited(&rig).await;
    ledger.verify().await.unwrap();
    let (off, on) = if rig.is_postgres() {
        ("SET session_replication_role = replica", "SET session_replication_role = origin")
    } else {
        (
            "DROP TRIGGER entry_no_update; DROP TRIGGER entry_no_delete; PRAGMA foreign_keys = OFF",
            "PRAGMA foreign_keys = ON",
        )
    };
    let mut raw = rig.raw().await;
    execute(&mut raw, off).await.unwrap();
    // What is done, how it is undone, and what is said.
    let cases = [
        (
            "UPDATE account SET balance_msat = balance_msat + 1 WHERE name = 'reserve'",
            "UPDATE account SET balance_msat = 0 WHERE name = 'reserve'",
            "account reserve says 1 msat, its entries 0",
        ),
        (
            "UPDATE entry SET amount_msat = amount_msat + 1 WHERE account_id = 8",
            "UPDATE entry SET amount_msat = amount_msat - 1 WHERE account_id = 8",
            "sums to 1 msat",
        ),
        (
            "UPDATE entry SET amount_msat = amount_msat + CASE account_id WHEN 8 THEN 1 ELSE -1 END WHERE account_id IN (8, 16)",
            "UPDATE entry SET amount_msat = amount_msat - CASE account_id WHEN 8 THEN 1 ELSE -1 END WHERE account_id IN (8, 16)",
            "is credited otherwise than its weights say",
        ),
        ("UPDATE block SET state = 'candidate'", "UPDATE block SET state = 'immature'", "against its state"),
        ("UPDATE block SET credits = 2", "UPDATE block SET credits = 1", "counts other credits"),
        (
            "UPDATE block SET fee_msat = fee_msat + 1",
            "UPDATE block SET fee_msat = fee_msat - 1",
            "against its state",
        ),
        (
            "UPDATE block_weight SET work = PLUS(1) WHERE miner_id = 1",
            "UPDATE block_weight SET work = PLUS(-1) WHERE miner_id = 1",
            "weights that do not sum to its window",
        ),
        (
            "UPDATE slot_work SET work = PLUS(1) WHERE worker_id = 1",
            "UPDATE slot_work SET work = PLUS(-1) WHERE worker_id = 1",
            "slot 1 does not sum",
        ),
        (
            "UPDATE slot_work SET shares = 2 WHERE worker_id = 2",
            "UPDATE slot_work SET shares = 1 WHERE worker_id = 2",
            "worker 2 has other totals than its slots",
        ),
        (
            "UPDATE worker SET accepted_shares = 2 WHERE id = 1",
            "UPDATE worker SET accepted_shares = 1 WHERE id = 1",
            "worker 1 has other totals",
        ),
        (
            "UPDATE tally SET rejected_shares = 0",
            "UPDATE tally SET rejected_shares = 1",
            "the pool has other totals than its workers",
        ),
        (
            "UPDATE account SET name = 'miner:1:available' WHERE id = 8",
            "UPDATE account SET name = 'miner:1:immature' WHERE id = 8",
            "account 8 is called miner:1:available",
        ),
    ];
    for (tamper, mend, expect) in cases {
        // SQLite keeps work as text.
        let fit = |sql: &str| match rig.is_postgres() {
            true => sql.replace("PLUS(", "work + ("),
            false => {
                sql.replace("PLUS(1)", "CAST(work + 1 AS TEXT)").replace("PLUS(-1)", "CAST(work - 1 AS TEXT)")
            }
        };
        assert!(execute(&mut raw, &fit(tamper)).await.unwrap() > 0, "{tamper}");
        let error = ledger.verify().await.expect_err(tamper);
        assert!(matches!(error, LedgerError::Unsound(_)), "{error}");
        assert!(error.to_string().contains(expect), "{tamper}: {error}");
        execute(&mut raw, &fit(mend)).await.unwrap();
        ledger.verify().await.unwrap();
    }
    execute(&mut raw, on).await.unwrap();
}

pub async fn one_process_at_a_time(rig: Rig) {
    let spool = rig.spool();
    let ledger = rig.open(&spool, PPLNS).await;
    let error = rig.open_with(&spool, PPLNS, quick()).await.err().unwrap();
    assert!(matches!(error, LedgerError::Busy { .. }), "{error}");
    assert!(matches!(Ledger::migrate(&rig.url).await, Err(LedgerError::Busy { .. })));
    drop(ledger);
    rig.open(&spool, PPLNS).await;
    // Nor does one process run the same ledger twice.
    let running = Running::start(rig.open(&spool, PPLNS).await, &Tree::new());
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    running.ledger.run(Tree::new(), std::future::pending()).await;
    running.stop().await;
}

pub async fn another_network_is_refused(rig: Rig) {
    let spool = rig.spool();
    Ledger::migrate(&rig.url).await.unwrap();
    drop(rig.open(&spool, PPLNS).await);
    let error = Ledger::open(&rig.url, spool.clone(), terms(PPLNS), Network::Bitcoin).await.err().unwrap();
    assert!(error.to_string().contains("is of network signet, not bitcoin"), "{error}");
    rig.open(&spool, PPLNS).await;
}

pub async fn a_spool_put_back_is_refused(rig: Rig) {
    let spool = rig.spool();
    let mut shard = Shard::new(&spool, 0);
    shard.share(&worker(1, "a"), 1);
    shard.commit();
    drop(rig.run(&spool, PPLNS, &Tree::new()).await.stop().await);
    drop((shard, spool));
    let identity = rig.dir.path().join("spool/identity");
    let text = fs::read_to_string(&identity).unwrap();
    fs::remove_dir_all(rig.spool_dir()).unwrap();
    fs::create_dir(rig.spool_dir()).unwrap();
    fs::write(&identity, text.replace(" 1", " 0")).unwrap();
    let spool = rig.spool();
    let error = rig.open_with(&spool, PPLNS, quick()).await.err().unwrap();
    assert!(matches!(error, LedgerError::SpoolBehind(_)), "{error}");
    drop(spool);
    // An empty one is another spool, and welcome.
    fs::remove_dir_all(rig.spool_dir()).unwrap();
    let spool = rig.spool();
    let mut shard = Shard::new(&spool, 0);
    shard.share(&worker(1, "a"), 1);
    shard.commit();
    let ledger = rig.run(&spool, PPLNS, &Tree::new()).await.stop().await;
    assert_eq!(ledger.totals().await.unwrap().accepted_shares, 2);
}

pub async fn a_changed_migration_is_refused(rig: Rig) {
    Ledger::migrate(&rig.url).await.unwrap();
    Ledger::migrate(&rig.url).await.unwrap();
    let mut raw = rig.raw().await;
    execute(&mut raw, "UPDATE _sqlx_migrations SET version = version + 98").await.unwrap();
    let error = Ledger::migrate(&rig.url).await.unwrap_err();
    assert!(matches!(error, LedgerError::Migration { .. }), "{error}");
}

/// What `sluice check` says of the tables, which it leaves as they are.
pub async fn tables_are_looked_at(rig: Rig) {
    let check = async |expect: &str| {
        let said = Ledger::check(&rig.url).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(expect) && said.is_empty() == expect.is_empty(), "{expect}: {said}");
    };
    const NONE: &str = "no tables of the ledger yet: run sluice migrate";
    if !rig.is_postgres() {
        let path = rig.dir.path().join("ledger.db");
        check("").await;
        assert!(!path.exists(), "it was not made");
        fs::write(path, "").unwrap();
    }
    check(NONE).await;
    check(NONE).await;
    Ledger::migrate_to(&rig.url, 5).await.unwrap();
    check("tables of an older version: stop the pool, run sluice migrate").await;
    Ledger::migrate(&rig.url).await.unwrap();
    check("").await;
    let spool = rig.spool();
    let ledger = rig.open(&spool, PPLNS).await;
    check("").await; // beside a pool
    drop(ledger);
    let mut raw = rig.raw().await;
    execute(&mut raw, "UPDATE _sqlx_migrations SET version = 99 WHERE version = 6").await.unwrap();
    check("tables of another version than this program").await;
}

#[tokio::test]
async fn an_unreachable_database_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let spool = ledger::Spool::open(dir.path(), ledger::SpoolConfig::default()).unwrap();
    let check = async |url: &str, expect: &[&str]| {
        let error = Ledger::open(url, spool.clone(), terms(PPLNS), NETWORK).await.err().unwrap().to_string();
        assert!(!error.contains("secret"), "{error}");
        for part in expect {
            assert!(error.contains(part), "{error}");
        }
    };
    check(
        "postgres://pool:secret@127.0.0.1:1/sluice",
        &["postgres://pool@127.0.0.1:1/sluice", "refused", "see that it runs"],
    )
    .await;
    check(
        "sqlite:///nowhere/at/all.db",
        &["sqlite:///nowhere/at/all.db", "No such file", "cannot be opened"],
    )
    .await;
    check("mysql://pool:secret@host/db", &["mysql is not supported", "sqlite://path"]).await;
}

#[tokio::test]
async fn every_column_says_what_it_is() {
    let rig = Rig::postgres();
    Ledger::migrate(&rig.url).await.unwrap();
    let sql = "SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
               WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 \
               AND NOT a.attisdropped AND c.relname <> '_sqlx_migrations' \
               AND col_description(c.oid, a.attnum) IS NULL";
    let rows = sqlx::query(sql).fetch_all(&mut rig.raw().await).await.unwrap();
    let bare: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(bare, [] as [&str; 0]);
    // SQLite has no comments of its own: each column has a line above it.
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite")).unwrap() {
        let path = file.unwrap().path();
        let sql = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = sql.lines().collect();
        let mut is_table = false;
        for pair in lines.windows(2) {
            is_table = pair[1].starts_with("CREATE TABLE") || is_table && !pair[1].starts_with(')');
            let inside = pair[1].strip_prefix("    ").filter(|_| is_table);
            let column = inside.filter(|line| {
                !["--", "PRIMARY KEY", "UNIQUE", "CHECK", "("].iter().any(|no| line.starts_with(no))
            });
            let added =
                Some(pair[1]).filter(|line| line.starts_with("ALTER TABLE") && line.contains("ADD COLUMN"));
            let comment = pair[0].trim_start().starts_with("-- ");
            assert!(
                comment || column.or(added).is_none(),
                "{}: no comment above: {}",
                path.display(),
                pair[1]
            );
        }
    }
}

/// Temporary tables of the same names are nothing to what guards the journal.
#[tokio::test]
async fn the_journal_is_the_journal_whoever_asks() {
    let rig = Rig::postgres();
    Ledger::migrate(&rig.url).await.unwrap();
    let mut raw = rig.raw().await;
    execute(&mut raw, "CREATE TEMP TABLE entry (txn_id BIGINT, account_id BIGINT, amount_msat BIGINT)")
        .await
        .unwrap();
    execute(&mut raw, "CREATE TEMP TABLE txn (id BIGINT, idem_key TEXT)").await.unwrap();
    let forged = "BEGIN; INSERT INTO public.entry VALUES (1, 1, 777); \
                  INSERT INTO public.txn (id, kind, idem_key, created_ms) VALUES (1, 'reward', 'reward:x:1', 0); COMMIT";
    let error = execute(&mut raw, forged).await.unwrap_err().to_string();
    assert!(error.contains("do not sum to zero"), "{error}");
}
