//! The open slot: what every worker has done since the last block, or in the last minutes.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use share::Work;
use sqlx::{AnyConnection, Row};

use crate::{
    LedgerError,
    store::{Column, Dialect, Whole, json, work, write},
};

pub(super) struct Slot {
    id: i64,
    opened_ms: i64,
    /// When this process first knew it. Closes a slot also when the clock has been put back.
    since: Instant,
    shares: i64,
    work: Work,
    workers: HashMap<i64, (i64, Work)>,
    /// Whose part is not in the database yet.
    touched: HashSet<i64>,
}

impl Slot {
    pub fn new(id: i64, opened_ms: i64) -> Self {
        let (workers, touched) = Default::default();
        Self { id, opened_ms, since: Instant::now(), shares: 0, work: 0, workers, touched }
    }

    /// The one that the database has open.
    pub async fn load(connection: &mut AnyConnection) -> Result<Option<Self>, LedgerError> {
        let failed = LedgerError::database("read the open slot");
        let sql = "SELECT id, opened_ms FROM slot WHERE closed_ms IS NULL ORDER BY id DESC LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(&mut *connection).await.map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let mut slot =
            Self::new(row.try_get("id").map_err(&failed)?, row.try_get("opened_ms").map_err(&failed)?);
        let sql = "SELECT worker_id, shares, CAST(work AS TEXT) AS work FROM slot_work WHERE slot_id = $1";
        for row in sqlx::query(sql).bind(slot.id).fetch_all(connection).await.map_err(&failed)? {
            let (shares, work) = (row.try_get("shares").map_err(&failed)?, work(&row, "work")?);
            slot.workers.insert(row.try_get("worker_id").map_err(&failed)?, (shares, work));
            slot.shares += shares;
            slot.work = slot.work.saturating_add(work);
        }
        Ok(Some(slot))
    }

    pub fn is_over(&self, time_ms: i64, length: Duration) -> bool {
        let age = Duration::from_millis(time_ms.saturating_sub(self.opened_ms).try_into().unwrap_or(0));
        age >= length || self.since.elapsed() >= length
    }

    pub fn add(&mut self, worker: i64, work: Work) {
        let (shares, sum) = self.workers.entry(worker).or_default();
        *shares += 1;
        *sum = sum.saturating_add(work);
        self.shares += 1;
        self.work = self.work.saturating_add(work);
        self.touched.insert(worker);
    }

    /// Writes what has changed; with `closed_ms` for the last time.
    pub async fn write(
        &mut self,
        connection: &mut AnyConnection,
        dialect: Dialect,
        closed_ms: Option<i64>,
    ) -> Result<(), LedgerError> {
        if self.touched.is_empty() && closed_ms.is_none() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO slot (id, opened_ms, closed_ms, shares, work) \
             SELECT t.id, t.opened_ms, t.closed_ms, t.shares, t.work FROM {} AS t WHERE true \
             ON CONFLICT (id) DO UPDATE SET closed_ms = excluded.closed_ms, shares = excluded.shares, \
             work = excluded.work",
            dialect.table(&[
                ("id", Column::Integer),
                ("opened_ms", Column::Integer),
                ("closed_ms", Column::Integer),
                ("shares", Column::Integer),
                ("work", Column::Work)
            ])
        );
        let row = (self.id, self.opened_ms, closed_ms, self.shares, Whole(self.work));
        write(connection, "write a slot", sql, json(&[row]), &[]).await?;

        let part = |worker: &i64| {
            let (shares, work) = self.workers.get(worker)?;
            Some((*worker, *shares, Whole(*work)))
        };
        let rows: Vec<_> = self.touched.iter().filter_map(part).collect();
        let sql = format!(
            "INSERT INTO slot_work (slot_id, worker_id, shares, work) SELECT $2, t.worker, t.shares, t.work \
             FROM {} AS t WHERE true \
             ON CONFLICT (slot_id, worker_id) DO UPDATE SET shares = excluded.shares, work = excluded.work",
            dialect.table(&[
                ("worker", Column::Integer),
                ("shares", Column::Integer),
                ("work", Column::Work)
            ])
        );
        write(connection, "write the work of a slot", sql, json(&rows), &[self.id]).await?;
        self.touched.clear();
        Ok(())
    }
}
