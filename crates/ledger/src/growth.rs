//! How the tables stay of a size: the work of slots is kept by ranges of slots, and what is old is dropped.
//!
//! Work by worker (`slot_work`) is statistics, and where proofs of splits begin; once it is old enough, its sums go into the
//! workers' own rows, so that their totals can still be added up. Work by miner (`slot_miner`, `slot_rate`) is what windows
//! and payments by the slot are made of; it goes once it is old enough and no window can reach it any more. In Postgres a
//! range is a partition and dropped as a whole; in SQLite slots are deleted one at a time. Either way a step is one
//! transaction, and what is summed for it was summed before: the drain waits for none of that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{AnyConnection, Row};
use tokio::sync::watch;

use crate::{
    LedgerError, Settings, Spool, clock,
    spool::Disk,
    store::{Dialect, Store, one},
};

mod fold;
mod reach;

/// How far back the work of slots is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// From this slot on by worker.
    pub workers_from: i64,
    /// From this slot on by miner.
    pub miners_from: i64,
}

/// Slots that are dropped together: from `first` to the one before `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: i64,
    next: i64,
}

/// What is old enough to go: a range, or in SQLite a slot.
enum Old {
    /// And what the workers of these slots did in all.
    Workers(Span, fold::Sums),
    Miners(Span),
}

/// Drops what is old.
pub(crate) struct Keeper {
    pub store: Arc<Store>,
    pub spool: Spool,
    pub settings: Settings,
}

impl Kept {
    pub async fn load(connection: &mut AnyConnection) -> Result<Self, LedgerError> {
        let doing = "read which slots are kept";
        let row = one(connection, doing, "SELECT workers_from, miners_from FROM slot_kept").await?;
        let number = |name: &str| row.try_get(name).map_err(LedgerError::database(doing));
        Ok(Self { workers_from: number("workers_from")?, miners_from: number("miners_from")? })
    }
}

/// The first slot that there is no room for yet.
pub(crate) async fn room(connection: &mut AnyConnection) -> Result<i64, LedgerError> {
    let doing = "read the ranges of slots";
    let row = one(connection, doing, "SELECT COALESCE(MAX(next_slot), 1) AS room FROM slot_span").await?;
    row.try_get("room").map_err(LedgerError::database(doing))
}

/// Makes room for the slots from `first` to the one before `next`, of which none is open yet; gives `next`. What miners
/// have left over at this point is kept with it.
pub(crate) async fn extend(
    connection: &mut AnyConnection,
    dialect: Dialect,
    first: i64,
    next: i64,
) -> Result<i64, LedgerError> {
    let failed = LedgerError::database("make room for more slots");
    let mark =
        "INSERT INTO rest_mark (slot_id, miner_id, rest) SELECT $1, id, rest FROM miner WHERE rest > 0";
    sqlx::query(mark).bind(first).execute(&mut *connection).await.map_err(&failed)?;
    let span = "INSERT INTO slot_span (first_slot, next_slot) VALUES ($1, $2)";
    sqlx::query(span).bind(first).bind(next).execute(&mut *connection).await.map_err(&failed)?;
    if dialect == Dialect::Postgres {
        let parts = sqlx::query("SELECT slots_extend($1, $2)").bind(first).bind(next);
        parts.execute(connection).await.map_err(&failed)?;
    }
    Ok(next)
}

impl Keeper {
    /// Looks for what is old, and after the disk, until `stop` is true.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.look_at_the_disk().await;
            loop {
                // What is summed, or waited for, may take a while: whoever stops does not wait for that.
                let old = tokio::select! {
                    old = self.oldest() => old,
                    _ = stop.changed() => return,
                };
                let dropped = match old {
                    Ok(None) => break,
                    Ok(Some(old)) => self.drop(old).await,
                    Err(error) => Err(error),
                };
                match dropped {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(%error, "old slots cannot be dropped now; they are kept until the next try");
                        break;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(self.settings.tidy) => {}
                _ = stop.changed() => return,
            }
        }
    }

    /// Drops the oldest of what is old. False if there is nothing, or somebody reads it just now.
    pub async fn step(&self) -> Result<bool, LedgerError> {
        match self.oldest().await? {
            Some(old) => self.drop(old).await,
            None => Ok(false),
        }
    }

    /// The oldest of what is old, ready to be dropped. Miners' work goes after workers' work, which can be compared with it
    /// as long as it is there.
    async fn oldest(&self) -> Result<Option<Old>, LedgerError> {
        let Settings { worker_age, slot_age, .. } = self.settings;
        let mut snapshot = self.store.snapshot().await?;
        let kept = Kept::load(&mut snapshot).await?;
        if let Some(span) = old(&mut snapshot, kept.workers_from, worker_age).await? {
            drop(snapshot);
            let span = fold::piece(self.store.dialect(), span, kept.workers_from);
            return Ok(Some(Old::Workers(span, fold::sums(&self.store, span).await?)));
        }
        // What the archive can be asked about is kept with it.
        let age = slot_age.max(self.spool.kept_for());
        let span = old(&mut snapshot, kept.miners_from, age).await?;
        let Some(span) = span.filter(|span| span.next <= kept.workers_from) else { return Ok(None) };
        let needed = reach::needed(&mut snapshot, kept.miners_from).await?;
        let piece = fold::piece(self.store.dialect(), span, kept.miners_from);
        Ok((span.next <= needed).then_some(Old::Miners(piece)))
    }

    /// False if somebody reads it just now: nothing has happened then.
    async fn drop(&self, old: Old) -> Result<bool, LedgerError> {
        let begun = Instant::now();
        let (by, Span { first, next }, is_done) = match old {
            Old::Workers(span, sums) => {
                ("worker", span, fold::workers(&self.store, &self.settings, span, &sums).await?)
            }
            Old::Miners(span) => ("miner", span, fold::miners(&self.store, &self.settings, span).await?),
        };
        if is_done {
            let (last, took) = (next - 1, begun.elapsed());
            tracing::info!(first, last, ?took, "the work of old slots by {by} is not kept any longer");
        }
        Ok(is_done)
    }

    async fn look_at_the_disk(&self) {
        let spool = self.spool.clone();
        match tokio::task::spawn_blocking(move || spool.look_at_the_disk()).await {
            Ok(Ok(disk)) if disk.is_short() => {
                let Disk { free, size, archive } = disk;
                tracing::warn!(
                    free,
                    size,
                    archive,
                    dir = %self.spool.dir().display(),
                    "less than a tenth of the spool's file system is free; lower ledger.audit_days, or give it more room"
                );
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the spool's file system cannot be looked at"),
            Err(error) => tracing::error!(%error, "looking at the spool's file system failed"),
        }
    }
}

/// The range that `from` is in, if it is past: all its slots are closed, since `age`, and there are newer ones. How old
/// something is is said by the pool's own records or by the clock, whichever says less. A slot from a time that is still to
/// come was written while the clock was ahead: it is as old as the ones behind it.
async fn old(snapshot: &mut AnyConnection, from: i64, age: Duration) -> Result<Option<Span>, LedgerError> {
    let failed = LedgerError::database("look for old slots");
    let sql = "SELECT opened_ms FROM slot ORDER BY id DESC LIMIT 1";
    let newest = sqlx::query(sql).fetch_optional(&mut *snapshot).await.map_err(&failed)?;
    let Some(newest) = newest else { return Ok(None) };
    let opened_ms: i64 = newest.try_get("opened_ms").map_err(&failed)?;
    let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    let now_ms = opened_ms.min(clock::now_ms());
    let before_ms = now_ms.saturating_sub(age_ms);
    let sql = "SELECT first_slot, next_slot FROM slot_span p \
               WHERE first_slot = (SELECT MIN(first_slot) FROM slot_span WHERE next_slot > $1) \
               AND EXISTS (SELECT 1 FROM slot s WHERE s.id >= p.next_slot) \
               AND EXISTS (SELECT 1 FROM slot s WHERE s.id >= p.next_slot - 1 AND s.closed_ms <= $2) \
               AND NOT EXISTS (SELECT 1 FROM slot s WHERE s.id >= p.first_slot AND s.id < p.next_slot \
               AND (s.closed_ms IS NULL OR (s.closed_ms > $2 AND s.closed_ms <= $3)))";
    let query = sqlx::query(sql).bind(from).bind(before_ms).bind(now_ms);
    let Some(row) = query.fetch_optional(snapshot).await.map_err(&failed)? else { return Ok(None) };
    let number = |name: &str| row.try_get(name).map_err(&failed);
    Ok(Some(Span { first: number("first_slot")?, next: number("next_slot")? }))
}
