//! What docker/postgres-roles.sql gives to the pool: all that it needs, and no more.

use std::sync::Arc;

use ledger::{Audit, Ledger, Which};
use sqlx::Connection;

use crate::{
    audit::{drained, small},
    blocks, operator, paying,
    postgres::Server,
    random,
    rig::{Rig, execute, hash},
    schemes, shares,
};

/// A database in which the pool owns nothing.
async fn as_pool(server: &Arc<Server>) -> Rig {
    let rig = Rig::on(server.clone());
    Ledger::migrate(&rig.url).await.unwrap();
    execute(&mut rig.raw().await, include_str!("../../../../docker/postgres-roles.sql")).await.unwrap();
    Rig { url: rig.url.replace("postgres@", "sluice_pool@"), ..rig }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pools_role_suffices() {
    let server = Arc::new(Server::start());
    shares::poisoned_records_are_set_aside(as_pool(&server).await).await;
    blocks::a_mature_orphan_is_covered_by_the_reserve(as_pool(&server).await).await;
    schemes::fpps_pays_the_mean_fees_too(as_pool(&server).await).await;
    schemes::coinbases_pay_windows_and_balances(as_pool(&server).await).await;
    schemes::terms_outlive_a_restart(as_pool(&server).await).await;
    operator::what_is_moved_by_hand(as_pool(&server).await).await;
    operator::thresholds_of_miners(as_pool(&server).await).await;
    paying::from_coinbases_to_payments(as_pool(&server).await).await;
    paying::a_batch_without_its_coin_is_returned(as_pool(&server).await).await;
    paying::a_batch_on_the_change_of_a_replaced_one_is_returned(as_pool(&server).await).await;
    random::take_steps(as_pool(&server).await, 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pools_role_changes_only_what_a_pool_does() {
    let rig = as_pool(&Arc::new(Server::start())).await;
    let mut raw = rig.raw().await;
    for sql in [
        // What was decided.
        "DELETE FROM block_weight",
        "UPDATE block_weight SET work = 1",
        "UPDATE block SET fee_msat = 0",
        "UPDATE block_output SET sats = 0",
        "UPDATE terms SET fee_ppm = 0",
        "UPDATE fee_rate SET mean_msat = 0",
        // How far the spool was read: without it all is read again, and counted twice.
        "DELETE FROM watermark",
        "UPDATE watermark SET writer = 9",
        // What was asked, and by whom it was signed.
        "DELETE FROM ledger_order",
        "UPDATE ledger_order SET argument = ''",
        "DELETE FROM payout_order",
        "DELETE FROM payout_signature",
        "UPDATE payout_signature SET psbt = ''",
        "UPDATE payout_item SET sats = 1",
        "UPDATE payout SET sats = 1",
        "UPDATE payout_input SET prev_vout = 1",
        "DELETE FROM payer",
        // Whose work it is.
        "UPDATE worker SET miner_id = 1",
        "UPDATE account SET miner_id = 1",
        "DELETE FROM account",
        "DELETE FROM slot",
        "DELETE FROM slot_work",
        "UPDATE slot_work SET work = 1",
        "UPDATE slot_miner SET work = 1",
        "DELETE FROM slot_span",
        "DELETE FROM tally",
        "DELETE FROM meta",
        "INSERT INTO slot_kept VALUES (1, 1, 1)",
    ] {
        let error = execute(&mut raw, sql).await.expect_err(sql).to_string();
        assert!(error.contains("permission denied for table"), "{sql}: {error}");
    }
}

/// L9: the pool's role cannot change what is written, and who checks can only read.
#[tokio::test(flavor = "multi_thread")]
async fn roles_hold_what_they_say() {
    let rig = Rig::postgres();
    Ledger::migrate(&rig.url).await.unwrap();
    let mut raw = rig.raw().await;
    let script = include_str!("../../../../docker/postgres-roles.sql");
    execute(&mut raw, script).await.unwrap();
    execute(&mut raw, script).await.unwrap(); // again does nothing
    let as_role = |role: &str| rig.url.replace("postgres@", &format!("{role}@"));

    let pool = Rig { url: as_role("sluice_pool"), ..rig };
    let (ledger, shares) = drained(&pool, small()).await;
    assert_eq!(ledger.totals().await.unwrap().accepted_shares, shares.len() as u64);
    drop(ledger);
    let mut raw = sqlx::AnyConnection::connect(&pool.url).await.unwrap();
    for (table, column) in
        [("txn", "created_ms"), ("entry", "amount_msat"), ("segment", "shares"), ("set_aside", "at_ms")]
    {
        for sql in [
            format!("UPDATE {table} SET {column} = 0"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table}"),
        ] {
            let error = execute(&mut raw, &sql).await.unwrap_err().to_string();
            assert!(error.contains(&format!("permission denied for table {table}")), "{sql}: {error}");
        }
    }
    for sql in [
        "CREATE TEMP TABLE entry (txn_id BIGINT, account_id BIGINT, amount_msat BIGINT)",
        "UPDATE miner SET address = 'x'",
    ] {
        let error = execute(&mut raw, sql).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{sql}: {error}");
    }
    let error = execute(&mut raw, "DROP TABLE entry").await.unwrap_err().to_string();
    assert!(error.contains("must be owner"), "{error}");
    let error = execute(&mut raw, "ALTER TABLE entry DISABLE TRIGGER ALL").await.unwrap_err().to_string();
    assert!(error.contains("must be owner"), "{error}");

    let reader = pool.url.replace("sluice_pool@", "sluice_reader@");
    let report =
        Audit::open(&reader, &pool.spool_dir()).unwrap().verify(Which::Block(hash(1))).await.unwrap();
    assert_eq!(report.findings, [] as [&str; 0]);
    let mut raw = sqlx::AnyConnection::connect(&reader).await.unwrap();
    for sql in ["UPDATE tally SET height = 0", "INSERT INTO miner (address) VALUES ('x')"] {
        let error = execute(&mut raw, sql).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{sql}: {error}");
    }
}
