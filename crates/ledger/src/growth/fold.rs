//! One step: what is dropped, and what stays of it, in one transaction.

use std::{collections::HashMap, time::Duration};

use share::Work;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::Span;
use crate::{
    LedgerError, Settings,
    ledger::Point,
    store::{Column, Dialect, Store, Whole, json, slow, work, write},
};

/// Shares and work, by worker.
pub(super) type Sums = HashMap<i64, (i64, Work)>;

/// How long one transaction may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Slots that are summed by one query.
const AT_ONCE: i64 = 8;
/// A partition is dropped if nobody reads it for so long; else at the next try. Whoever begins to read waits as long.
const LOCK: &str = "SET LOCAL lock_timeout = '500ms'";
/// What Postgres says if somebody does.
const LOCKED: &str = "55P03";

/// Drops work by worker, and adds its `sums` to the workers' own rows. False if somebody reads it just now.
pub(super) async fn workers(
    store: &Store,
    settings: &Settings,
    span: Span,
    sums: &Sums,
) -> Result<bool, LedgerError> {
    transaction(store, settings, async |connection| {
        fold(connection, store.dialect(), sums).await?;
        // First: Postgres drops only what is said not to be kept.
        keep(connection, "UPDATE slot_kept SET workers_from = $1", span.next).await?;
        drop_part(connection, store.dialect(), "slot_work", span).await
    })
    .await
}

/// Drops work by miner. False if somebody reads it just now.
pub(super) async fn miners(store: &Store, settings: &Settings, span: Span) -> Result<bool, LedgerError> {
    transaction(store, settings, async |connection| {
        keep(connection, "UPDATE slot_kept SET miners_from = $1", span.next).await?;
        for table in ["slot_miner", "slot_rate"] {
            drop_part(connection, store.dialect(), table, span).await?;
        }
        // The mark of the first range that is kept from its beginning stays.
        keep(connection, "DELETE FROM rest_mark WHERE slot_id < $1", span.next).await
    })
    .await
}

/// What of `span` is dropped at once, where what was before `from` is gone: all of it, a partition, or one slot.
pub(super) fn piece(dialect: Dialect, span: Span, from: i64) -> Span {
    match dialect {
        Dialect::Postgres => span,
        Dialect::Sqlite => {
            let first = span.first.max(from);
            Span { first, next: first + 1 }
        }
    }
}

/// Closed slots do not change, so they are summed before the transaction that drops them.
pub(super) async fn sums(store: &Store, span: Span) -> Result<Sums, LedgerError> {
    let failed = LedgerError::database("sum old slots");
    let sql = match store.dialect() {
        Dialect::Postgres => {
            "SELECT worker_id, CAST(SUM(shares) AS BIGINT) AS shares, CAST(SUM(work) AS TEXT) AS work FROM slot_work \
             WHERE slot_id >= $1 AND slot_id < $2 GROUP BY worker_id"
        }
        Dialect::Sqlite => {
            "SELECT worker_id, shares, work FROM slot_work WHERE slot_id >= $1 AND slot_id < $2"
        }
    };
    let mut sums = Sums::new();
    let mut snapshot = store.snapshot().await?;
    for first in (span.first..span.next).step_by(AT_ONCE as usize) {
        let query = sqlx::query(sql).bind(first).bind(span.next.min(first + AT_ONCE));
        for row in query.fetch_all(&mut *snapshot).await.map_err(&failed)? {
            let shares: i64 = row.try_get("shares").map_err(&failed)?;
            let sum = sums.entry(row.try_get("worker_id").map_err(&failed)?).or_default();
            *sum = (sum.0 + shares, sum.1.saturating_add(work(&row, "work")?));
        }
    }
    Ok(sums)
}

/// Adds `sums` to what workers have of slots that are not kept.
async fn fold(connection: &mut AnyConnection, dialect: Dialect, sums: &Sums) -> Result<(), LedgerError> {
    let failed = LedgerError::database("read the sums of old slots");
    let ids: Vec<(i64,)> = sums.keys().map(|id| (*id,)).collect();
    let sql = format!(
        "SELECT w.id, w.base_shares, CAST(w.base_work AS TEXT) AS base_work FROM {} AS t JOIN worker w ON w.id = t.id",
        dialect.table(&[("id", Column::Integer)])
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(json(&ids));
    let mut rows = Vec::new();
    for row in query.fetch_all(&mut *connection).await.map_err(&failed)? {
        let id: i64 = row.try_get("id").map_err(&failed)?;
        let (shares, done) = sums.get(&id).copied().unwrap_or_default();
        let base: i64 = row.try_get("base_shares").map_err(&failed)?;
        rows.push((id, base + shares, Whole(work(&row, "base_work")?.saturating_add(done))));
    }
    if rows.len() != sums.len() {
        let missing = sums.len() - rows.len();
        return Err(LedgerError::Unsound(format!(
            "old slots have work of {missing} workers that there are not"
        )));
    }
    let sql = format!(
        "UPDATE worker SET base_shares = t.shares, base_work = t.work FROM {} AS t WHERE worker.id = t.id",
        dialect.table(&[("id", Column::Integer), ("shares", Column::Integer), ("work", Column::Work)])
    );
    write(connection, "keep the sums of old slots", sql, json(&rows), &[]).await.map(drop)
}

async fn drop_part(
    connection: &mut AnyConnection,
    dialect: Dialect,
    table: &'static str,
    span: Span,
) -> Result<(), LedgerError> {
    let failed = LedgerError::database("drop old slots");
    let dropped = match dialect {
        Dialect::Postgres => {
            sqlx::query("SELECT slots_drop($1, $2)").bind(table).bind(span.first).execute(connection).await
        }
        Dialect::Sqlite => {
            let sql = format!("DELETE FROM {table} WHERE slot_id >= $1 AND slot_id < $2");
            sqlx::query(AssertSqlSafe(sql)).bind(span.first).bind(span.next).execute(connection).await
        }
    };
    dropped.map(drop).map_err(failed)
}

async fn keep(connection: &mut AnyConnection, sql: &'static str, from: i64) -> Result<(), LedgerError> {
    let query = sqlx::query(sql).bind(from);
    query.execute(connection).await.map(drop).map_err(LedgerError::database("note which slots are kept"))
}

/// Does `steps` in one transaction. False if somebody reads what was to be dropped: nothing has happened then.
async fn transaction(
    store: &Store,
    settings: &Settings,
    steps: impl AsyncFnOnce(&mut AnyConnection) -> Result<(), LedgerError>,
) -> Result<bool, LedgerError> {
    let doing = "drop old slots";
    let mut writer = store.writer().await?;
    let done = {
        let transaction = async {
            let mut transaction = writer.begin().await?;
            if store.dialect() == Dialect::Postgres {
                let limited = sqlx::query(LOCK).execute(&mut *transaction).await;
                limited.map_err(LedgerError::database(doing))?;
            }
            steps(&mut transaction).await?;
            settings.reach(Point::Folded).await;
            transaction.commit().await.map_err(LedgerError::database(doing))
        };
        tokio::time::timeout(LIMIT, transaction).await.unwrap_or_else(|_| Err(slow(doing, LIMIT)))
    };
    match done {
        Ok(()) => {
            settings.reach(Point::Dropped).await;
            Ok(true)
        }
        Err(LedgerError::Database { source: sqlx::Error::Database(error), .. })
            if error.code().as_deref() == Some(LOCKED) =>
        {
            tracing::info!("old slots are being read; they are dropped at the next try");
            Ok(false)
        }
        Err(error) => {
            writer.abandon();
            Err(error)
        }
    }
}
