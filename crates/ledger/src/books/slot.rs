//! The open slot: what every worker has done since the last block, or in the last minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use share::Work;
use sqlx::{AnyConnection, Row};

use crate::{
    LedgerError,
    bought::{self, Rate},
    store::{Column, Dialect, Whole, json, work, write},
    terms::{History, Known},
};

pub(super) struct Slot {
    pub id: i64,
    /// Of all its shares.
    pub terms: Known,
    /// Network target of its newest share.
    pub bits: u32,
    opened_ms: i64,
    /// When this process first knew it. Closes a slot also when the clock has been put back.
    since: Instant,
    shares: i64,
    pub work: Work,
    workers: foldhash::HashMap<i64, Part>,
    /// Where work is paid at a fixed rate: by miner and rate.
    pub rates: BTreeMap<(i64, Rate), Work>,
    /// Whose part is not in the database yet: those that are marked, each once.
    touched: Vec<i64>,
    rates_touched: BTreeSet<(i64, Rate)>,
    /// Whether the database has something of it in `slot_open`.
    is_stored: bool,
}

/// What a worker did in the slot.
#[derive(Clone, Copy, Default)]
struct Part {
    miner: i64,
    shares: i64,
    work: Work,
    is_touched: bool,
}

impl Slot {
    pub fn new(id: i64, opened_ms: i64, terms: Known) -> Self {
        let (workers, touched, rates, rates_touched) = Default::default();
        let (since, shares, work, bits, is_stored) = (Instant::now(), 0, 0, 0, false);
        Self {
            id,
            opened_ms,
            since,
            shares,
            work,
            bits,
            terms,
            workers,
            rates,
            touched,
            rates_touched,
            is_stored,
        }
    }

    /// The one that the database has open.
    pub async fn load(
        connection: &mut AnyConnection,
        history: &History,
    ) -> Result<Option<Self>, LedgerError> {
        let failed = LedgerError::database("read the open slot");
        let sql = "SELECT id, opened_ms, COALESCE(terms_id, 0) AS terms, COALESCE(bits, 0) AS bits FROM slot \
                   WHERE closed_ms IS NULL ORDER BY id DESC LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(&mut *connection).await.map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let terms: i64 = row.try_get("terms").map_err(&failed)?;
        let terms = history.get(terms).ok_or_else(|| {
            LedgerError::Unsound(format!("the open slot has terms {terms}, which there are not"))
        })?;
        let mut slot =
            Self::new(row.try_get("id").map_err(&failed)?, row.try_get("opened_ms").map_err(&failed)?, terms);
        let bits: i64 = row.try_get("bits").map_err(&failed)?;
        slot.bits = u32::try_from(bits).unwrap_or(0);
        let sql = "SELECT s.worker_id, w.miner_id, s.shares, CAST(s.work AS TEXT) AS work \
                   FROM slot_open s JOIN worker w ON w.id = s.worker_id";
        for row in sqlx::query(sql).fetch_all(&mut *connection).await.map_err(&failed)? {
            let part = Part {
                miner: row.try_get("miner_id").map_err(&failed)?,
                shares: row.try_get("shares").map_err(&failed)?,
                work: work(&row, "work")?,
                is_touched: false,
            };
            slot.workers.insert(row.try_get("worker_id").map_err(&failed)?, part);
            slot.shares += part.shares;
            slot.work = slot.work.saturating_add(part.work);
        }
        slot.is_stored = true;
        slot.rates = bought::done(connection, slot.id).await?;
        Ok(Some(slot))
    }

    pub fn is_over(&self, time_ms: i64, length: Duration) -> bool {
        let age = Duration::from_millis(time_ms.saturating_sub(self.opened_ms).try_into().unwrap_or(0));
        age >= length || self.since.elapsed() >= length
    }

    pub fn add(&mut self, worker: i64, miner: i64, work: Work) {
        let part = self.workers.entry(worker).or_default();
        part.miner = miner;
        part.shares += 1;
        part.work = part.work.saturating_add(work);
        self.shares += 1;
        self.work = self.work.saturating_add(work);
        if !std::mem::replace(&mut part.is_touched, true) {
            self.touched.push(worker);
        }
    }

    /// Adds to what is paid at a fixed rate.
    pub fn buy(&mut self, miner: i64, rate: Rate, work: Work) {
        let sum = self.rates.entry((miner, rate)).or_default();
        *sum = sum.saturating_add(work);
        self.rates_touched.insert((miner, rate));
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
            "INSERT INTO slot (id, opened_ms, closed_ms, shares, work, terms_id, bits) \
             SELECT t.id, t.opened_ms, t.closed_ms, t.shares, t.work, t.terms, t.bits FROM {} AS t WHERE true \
             ON CONFLICT (id) DO UPDATE SET closed_ms = excluded.closed_ms, shares = excluded.shares, \
             work = excluded.work, bits = excluded.bits",
            dialect.table(&[
                ("id", Column::Integer),
                ("opened_ms", Column::Integer),
                ("closed_ms", Column::Integer),
                ("shares", Column::Integer),
                ("work", Column::Work),
                ("terms", Column::Integer),
                ("bits", Column::Integer)
            ])
        );
        let row =
            (self.id, self.opened_ms, closed_ms, self.shares, Whole(self.work), self.terms.id, self.bits);
        write(connection, "write a slot", sql, json(&[row]), &[]).await?;

        match closed_ms {
            None => self.write_open(connection, dialect).await?,
            Some(_) => self.write_closed(connection, dialect).await?,
        }
        self.touched.clear();
        self.write_rates(connection, dialect).await
    }

    /// What workers have done since it was written before.
    async fn write_open(
        &mut self,
        connection: &mut AnyConnection,
        dialect: Dialect,
    ) -> Result<(), LedgerError> {
        let workers = &mut self.workers;
        let part = |worker: &i64| {
            let part = workers.get_mut(worker)?;
            part.is_touched = false;
            Some((*worker, part.shares, Whole(part.work)))
        };
        let rows: Vec<_> = self.touched.iter().filter_map(part).collect();
        let sql = format!(
            "INSERT INTO slot_open (worker_id, shares, work) SELECT t.worker, t.shares, t.work FROM {} AS t \
             WHERE true ON CONFLICT (worker_id) DO UPDATE SET shares = excluded.shares, work = excluded.work",
            dialect.table(&[
                ("worker", Column::Integer),
                ("shares", Column::Integer),
                ("work", Column::Work)
            ])
        );
        self.is_stored = true;
        write(connection, "write the open slot", sql, json(&rows), &[]).await.map(drop)
    }

    /// All of it, once: by worker and by miner, in the order of their indexes, so that these stay dense.
    async fn write_closed(
        &mut self,
        connection: &mut AnyConnection,
        dialect: Dialect,
    ) -> Result<(), LedgerError> {
        let mut miners: BTreeMap<i64, Work> = BTreeMap::new();
        for part in self.workers.values() {
            let sum = miners.entry(part.miner).or_default();
            *sum = sum.saturating_add(part.work);
        }
        let mut rows: Vec<_> =
            self.workers.iter().map(|(worker, part)| (*worker, part.shares, Whole(part.work))).collect();
        rows.sort_unstable_by_key(|(worker, ..)| *worker);
        let sql = format!(
            "INSERT INTO slot_work (slot_id, worker_id, shares, work) SELECT $2, t.worker, t.shares, t.work FROM {} AS t",
            dialect.table(&[
                ("worker", Column::Integer),
                ("shares", Column::Integer),
                ("work", Column::Work)
            ])
        );
        write(connection, "write the work of a slot", sql, json(&rows), &[self.id]).await?;
        let rows: Vec<_> = miners.into_iter().map(|(miner, work)| (miner, Whole(work))).collect();
        let sql = format!(
            "INSERT INTO slot_miner (slot_id, miner_id, work) SELECT $2, t.miner, t.work FROM {} AS t",
            dialect.table(&[("miner", Column::Integer), ("work", Column::Work)])
        );
        write(connection, "write the work of a slot by miner", sql, json(&rows), &[self.id]).await?;
        if std::mem::take(&mut self.is_stored) {
            let cleared = sqlx::query("DELETE FROM slot_open").execute(connection).await;
            cleared.map_err(LedgerError::database("clear the open slot"))?;
        }
        Ok(())
    }

    async fn write_rates(
        &mut self,
        connection: &mut AnyConnection,
        dialect: Dialect,
    ) -> Result<(), LedgerError> {
        if self.rates_touched.is_empty() {
            return Ok(());
        }
        let row = |key: &(i64, Rate)| {
            let work = self.rates.get(key)?;
            Some((key.0, key.1.bits, key.1.halvings, Whole(*work)))
        };
        let rows: Vec<_> = self.rates_touched.iter().filter_map(row).collect();
        let sql = format!(
            "INSERT INTO slot_rate (slot_id, miner_id, bits, halvings, work) \
             SELECT $2, t.miner, t.bits, t.halvings, t.work FROM {} AS t WHERE true \
             ON CONFLICT (slot_id, miner_id, bits, halvings) DO UPDATE SET work = excluded.work",
            dialect.table(&[
                ("miner", Column::Integer),
                ("bits", Column::Integer),
                ("halvings", Column::Integer),
                ("work", Column::Work)
            ])
        );
        write(connection, "write the rates of a slot", sql, json(&rows), &[self.id]).await?;
        self.rates_touched.clear();
        Ok(())
    }
}
