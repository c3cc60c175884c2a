//! What somebody does to the books who knows them well, and what is no fault though it looks like one.

use ledger::{Audit, Scheme, SpoolConfig, Which};

use crate::{
    operator::rich,
    rig::{Rig, Shard, Tree, execute, hash, until, worker},
};

const PPLNS: Scheme = Scheme::Pplns { factor: 50 };

/// Sums and balances agree; each purse and key must too.
pub async fn who_keeps_the_sums_is_found_by_the_steps(rig: Rig) {
    let running = rich(&rig).await;
    let ledger = running.stop().await;
    ledger.verify().await.unwrap();
    let mut raw = rig.raw().await;
    let off = match rig.is_postgres() {
        true => "SET session_replication_role = replica",
        false => {
            "DROP TRIGGER txn_no_update; DROP TRIGGER entry_no_update; DROP TRIGGER entry_no_delete; DROP TRIGGER entry_added; \
             PRAGMA foreign_keys = OFF"
        }
    };
    execute(&mut raw, off).await.unwrap();
    for (plant, mend, expect) in [
        // What is owed was paid, it says, by a coinbase that paid the pool.
        (
            "INSERT INTO account (id, name, miner_id, balance_msat) VALUES (10, 'miner:1:paid', 1, 5000); \
             UPDATE entry SET amount_msat = amount_msat - 5000 WHERE account_id = 9 AND txn_id = 2; \
             INSERT INTO entry VALUES (2, 10, 5000); UPDATE account SET balance_msat = balance_msat - 5000 WHERE id = 9",
            "DELETE FROM entry WHERE account_id = 10; DELETE FROM account WHERE id = 10; \
             UPDATE entry SET amount_msat = amount_msat + 5000 WHERE account_id = 9 AND txn_id = 2; \
             UPDATE account SET balance_msat = balance_msat + 5000 WHERE id = 9",
            "moves otherwise than what was credited before asks for",
        ),
        (
            "UPDATE txn SET idem_key = replace(idem_key, ':1', ':7') WHERE id = 2",
            "UPDATE txn SET idem_key = replace(idem_key, ':7', ':1') WHERE id = 2",
            "is not the key of what happened to its block",
        ),
        (
            "UPDATE slot_span SET first_slot = first_slot + 1",
            "UPDATE slot_span SET first_slot = first_slot - 1",
            "the ranges of slots do not follow each other",
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM tally; DELETE FROM tally",
            "INSERT INTO tally SELECT * FROM kept; DROP TABLE kept",
            "the pool's totals are not there",
        ),
        (
            "UPDATE worker SET accepted_shares = 9223372036854775807, base_shares = 9223372036854775807",
            "UPDATE worker SET accepted_shares = 1, base_shares = 0",
            "the pool has other totals than its workers",
        ),
    ] {
        execute(&mut raw, plant).await.unwrap_or_else(|error| panic!("{plant}: {error}"));
        let found = ledger.verify().await.unwrap_err().to_string();
        assert!(found.contains(expect), "{plant}: {found}");
        execute(&mut raw, mend).await.unwrap_or_else(|error| panic!("{mend}: {error}"));
        ledger.verify().await.unwrap_or_else(|error| panic!("{mend}: {error}"));
    }
}

/// Another spool may take the place of one, and that one come back: what has records of both cannot be recomputed, which is no
/// fault.
pub async fn spools_one_after_the_other(mut rig: Rig) {
    let chain = Tree::new();
    let places = ["one", "two", "one", "two"].map(|name| rig.dir.path().join(name));
    let workers: Vec<_> = (1..=3).map(|number| worker(number, "rig")).collect();
    let mut pushed = 0;
    for (round, place) in (1u8..).zip(places) {
        rig.spool = Some(place.clone());
        let spool = rig.spool_with(SpoolConfig { segment_bytes: 1_024, ..SpoolConfig::default() });
        let running = rig.run(&spool, PPLNS, &chain).await;
        let mut shard = Shard::new(&spool, 0);
        for number in 0..40usize {
            shard.share(&workers[number % 3], 2);
            pushed += 1;
            if number % 15 == 7 {
                let block = 10 * round + (number / 15) as u8;
                chain.grow(hash(block - 1), hash(block), 1);
                shard.found(PPLNS, &workers[1], block, 1_000);
            }
            shard.commit();
        }
        until("all is drained", async || running.ledger.totals().await.unwrap().accepted_shares == pushed)
            .await;
        drop(shard);
        drop(running.stop().await);
        drop(spool);
        for looked_at in ["one", "two"] {
            let place = rig.dir.path().join(looked_at);
            if place.exists() {
                let report = Audit::open(&rig.url, &place).unwrap().verify(Which::All).await.unwrap();
                assert_eq!(
                    report.findings,
                    [] as [&str; 0],
                    "{looked_at} after round {round}: {:?}",
                    report.notes
                );
            }
        }
    }
    let report =
        Audit::open(&rig.url, &rig.dir.path().join("two")).unwrap().verify(Which::All).await.unwrap();
    assert!(report.notes.iter().any(|note| note.starts_with("2 spools were drained")), "{:?}", report.notes);
}
