//! What the drain keeps in memory of the database, and how records change it.
//!
//! Everything here is written as absolute values, in the transaction that also moves the watermark. When such a
//! transaction fails, the books are thrown away and loaded again: the database is right, always.

use std::collections::{BTreeMap, HashMap, HashSet};

use bitcoin::Network;
use share::Work;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::{
    LedgerError, RejectRecord, ShareRecord, WorkerId,
    bought::{self, Rate},
    clock,
    division::halvings,
    growth,
    ledger::Settings,
    record::Entry,
    spool::{Finished, Position, Read},
    store::{Column, Dialect, Hex, Whole, json, one, work, write},
    terms::{History, Known},
    window::{Weights, Window},
};

mod aside;
mod audit;
mod slot;

use aside::Aside;
use audit::{Ends, Link};
use slot::Slot;

/// Totals of the pool and its workers, and the slot that is open.
pub(crate) struct Books {
    pub dialect: Dialect,
    pub network: Network,
    spool: [u8; 16],
    pub history: History,
    /// Kept from slot to slot once it has been asked for.
    window: Option<Window>,
    workers: foldhash::HashMap<WorkerId, Totals>,
    /// Whose totals are not in the database yet: those that are marked, each once.
    touched: Vec<WorkerId>,
    slot: Option<Slot>,
    /// Number of the newest slot; 0 if there is none.
    newest: i64,
    /// The first slot that the tables have no room for yet.
    room: i64,
    tally: Tally,
    aside: Vec<Aside>,
    link: Link,
    ends: Ends,
}

/// A worker, by its numbers in the database.
#[derive(Clone, Copy)]
pub(crate) struct Totals {
    pub id: i64,
    pub miner: i64,
    accepted: i64,
    rejected: i64,
    work: Work,
    last_share_ms: Option<i64>,
    is_touched: bool,
}

#[derive(Default)]
struct Tally {
    accepted: i64,
    rejected: i64,
    work: Work,
    height: i64,
}

impl Totals {
    /// Marks them, and adds their worker to those that are, unless it is one of them.
    fn touch(&mut self, id: WorkerId, touched: &mut Vec<WorkerId>) {
        if !std::mem::replace(&mut self.is_touched, true) {
            touched.push(id);
        }
    }
}

/// How many workers are kept in memory. Beyond it all are forgotten, and read again as they turn up.
const MOST_WORKERS: usize = 1 << 20;

impl Books {
    /// As the database has them.
    pub async fn load(
        connection: &mut AnyConnection,
        dialect: Dialect,
        network: Network,
        spool: [u8; 16],
    ) -> Result<Self, LedgerError> {
        let doing = "read the totals";
        let failed = LedgerError::database(doing);
        let sql = "SELECT accepted_shares, rejected_shares, CAST(work AS TEXT) AS work, height FROM tally";
        let row = one(connection, doing, sql).await?;
        let tally = Tally {
            accepted: row.try_get("accepted_shares").map_err(&failed)?,
            rejected: row.try_get("rejected_shares").map_err(&failed)?,
            work: work(&row, "work")?,
            height: row.try_get("height").map_err(&failed)?,
        };
        let row = one(connection, doing, "SELECT COALESCE(MAX(id), 0) AS newest FROM slot").await?;
        let newest = row.try_get("newest").map_err(&failed)?;
        let room = growth::room(connection).await?;
        let history = History::load(connection, spool).await?;
        let slot = Slot::load(connection, &history).await?;
        let link = Link::load(connection).await?;
        let ends = Ends::new(Self::watermarks(connection, spool).await?);
        let (workers, touched, aside, window) = Default::default();
        Ok(Self {
            dialect,
            network,
            spool,
            history,
            window,
            workers,
            touched,
            slot,
            newest,
            room,
            tally,
            aside,
            link,
            ends,
        })
    }

    /// How far this spool has been drained, by writer.
    pub async fn watermarks(
        connection: &mut AnyConnection,
        spool: [u8; 16],
    ) -> Result<HashMap<u16, Position>, LedgerError> {
        let failed = LedgerError::database("read the watermark");
        let sql = "SELECT writer, segment, byte FROM watermark WHERE spool = $1";
        let rows = sqlx::query(sql).bind(spool.to_vec()).fetch_all(connection).await.map_err(&failed)?;
        let mut watermarks = HashMap::new();
        for row in rows {
            let field = |name: &str| row.try_get::<i64, _>(name).map_err(&failed);
            let unsound = |_| LedgerError::Unsound("a watermark is out of range".to_owned());
            let segment = u64::try_from(field("segment")?).map_err(unsound)?;
            let offset = u64::try_from(field("byte")?).map_err(unsound)?;
            watermarks
                .insert(u16::try_from(field("writer")?).map_err(unsound)?, Position { segment, offset });
        }
        Ok(watermarks)
    }

    /// Enters the workers that `batch` names for the first time, and reads those that it mentions. Comes before
    /// [`Self::share`] and the like.
    pub async fn meet(&mut self, connection: &mut AnyConnection, batch: &[Read]) -> Result<(), LedgerError> {
        if self.workers.len() > MOST_WORKERS {
            self.workers.clear();
        }
        let mut named: BTreeMap<WorkerId, (&str, &str)> = BTreeMap::new();
        let mut wanted: HashSet<WorkerId> = HashSet::new();
        for entry in batch.iter().filter_map(|read| read.item.entry()) {
            let id = match entry {
                Entry::Worker(identity) => WorkerId::of(identity),
                Entry::Share(share) => share.worker,
                Entry::Rejects(rejects) => rejects.worker,
                Entry::Found(found) => found.worker,
                Entry::Segment(_) => continue,
            };
            if !self.workers.contains_key(&id) {
                wanted.insert(id);
                if let Entry::Worker(identity) = entry
                    && let Some(name) = identity.split_once('.')
                {
                    named.insert(id, name);
                }
            }
        }
        if !named.is_empty() {
            self.enter(connection, &named).await?;
        }
        if !wanted.is_empty() {
            self.fetch(connection, &wanted).await?;
        }
        Ok(())
    }

    async fn enter(
        &self,
        connection: &mut AnyConnection,
        named: &BTreeMap<WorkerId, (&str, &str)>,
    ) -> Result<(), LedgerError> {
        let rows: Vec<_> = named.iter().map(|(id, (address, name))| (Hex(&id.0), *address, *name)).collect();
        let table =
            self.dialect.table(&[("key", Column::Bytes), ("address", Column::Text), ("name", Column::Text)]);
        let sql = format!(
            "INSERT INTO miner (address) SELECT DISTINCT t.address FROM {table} AS t \
             WHERE NOT EXISTS (SELECT 1 FROM miner m WHERE m.address = t.address) ORDER BY t.address"
        );
        write(connection, "enter miners", sql, json(&rows), &[]).await?;
        let sql = format!(
            "INSERT INTO worker (key, miner_id, name) SELECT t.key, m.id, t.name \
             FROM {table} AS t JOIN miner m ON m.address = t.address \
             WHERE NOT EXISTS (SELECT 1 FROM worker w WHERE w.key = t.key)"
        );
        write(connection, "enter workers", sql, json(&rows), &[]).await?;
        Ok(())
    }

    async fn fetch(
        &mut self,
        connection: &mut AnyConnection,
        wanted: &HashSet<WorkerId>,
    ) -> Result<(), LedgerError> {
        let failed = LedgerError::database("read workers");
        let rows: Vec<_> = wanted.iter().map(|id| (Hex(&id.0),)).collect();
        let sql = format!(
            "SELECT w.key, w.id, w.miner_id, w.accepted_shares, w.rejected_shares, CAST(w.work AS TEXT) AS work, \
             w.last_share_ms FROM {} AS t JOIN worker w ON w.key = t.key",
            self.dialect.table(&[("key", Column::Bytes)])
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(json(&rows));
        for row in query.fetch_all(connection).await.map_err(&failed)? {
            let key: Vec<u8> = row.try_get("key").map_err(&failed)?;
            let totals = Totals {
                id: row.try_get("id").map_err(&failed)?,
                miner: row.try_get("miner_id").map_err(&failed)?,
                accepted: row.try_get("accepted_shares").map_err(&failed)?,
                rejected: row.try_get("rejected_shares").map_err(&failed)?,
                work: work(&row, "work")?,
                last_share_ms: row.try_get("last_share_ms").map_err(&failed)?,
                is_touched: false,
            };
            if let Ok(key) = key.try_into() {
                self.workers.insert(WorkerId(key), totals);
            }
        }
        Ok(())
    }

    /// A worker that [`Self::meet`] has seen and the database knows.
    pub fn worker(&self, id: &WorkerId) -> Option<&Totals> {
        self.workers.get(id)
    }

    /// Counts a share.
    pub async fn share(
        &mut self,
        connection: &mut AnyConnection,
        read: &Read,
        share: &ShareRecord,
        settings: &Settings,
    ) -> Result<(), LedgerError> {
        let time_ms = i64::try_from(share.time_ms).unwrap_or(i64::MAX);
        let terms = self.terms(read)?;
        let is_over = |slot: &Slot| slot.terms.id != terms.id || slot.is_over(time_ms, settings.slot);
        if self.slot.as_ref().is_some_and(is_over) {
            self.close_slot(connection, time_ms).await?;
        }
        if self.slot.is_none() && self.newest + 1 >= self.room {
            let (first, next) = (self.newest + 1, self.newest + 1 + settings.span.max(1));
            self.room = growth::extend(connection, self.dialect, first, next).await?;
        }
        let Some(worker) = self.workers.get_mut(&share.worker) else {
            self.set_aside(read, "share of a worker that was never named");
            return Ok(());
        };
        worker.accepted += 1;
        worker.work = worker.work.saturating_add(share.work);
        worker.last_share_ms = worker.last_share_ms.max(Some(time_ms));
        worker.touch(share.worker, &mut self.touched);
        self.tally.accepted += 1;
        self.tally.work = self.tally.work.saturating_add(share.work);
        self.tally.height = self.tally.height.max(share.height.into());
        let slot = self.slot.get_or_insert_with(|| {
            self.newest += 1;
            Slot::new(self.newest, time_ms, terms)
        });
        slot.add(worker.id, worker.miner, share.work);
        slot.bits = share.bits;
        if terms.scheme.buys() {
            let rate = Rate { bits: share.bits, halvings: halvings(self.network, share.height) };
            slot.buy(worker.miner, rate, share.work);
        }
        Ok(())
    }

    /// The terms that a record was written under.
    pub fn terms(&self, read: &Read) -> Result<Known, LedgerError> {
        self.history.of(read.from.segment >> 32)
    }

    /// What a block is divided by whose window ends with the closed slot `newest`.
    pub async fn weights(
        &mut self,
        connection: &mut AnyConnection,
        newest: i64,
        bits: u32,
    ) -> Result<Weights, LedgerError> {
        if let Some(window) =
            self.window.as_ref().filter(|window| (window.newest, window.bits) == (newest, bits))
        {
            return Ok(window.weights());
        }
        let window = self.read_window(connection, newest, bits).await?;
        let weights = window.weights();
        if newest == self.newest && self.slot.is_none() {
            self.window = Some(window);
        }
        Ok(weights)
    }

    /// The window as of the newest closed slot, at the network target of its newest share; from then on it is kept.
    pub async fn window(&mut self, connection: &mut AnyConnection) -> Result<Option<&Window>, LedgerError> {
        let newest = self.newest - i64::from(self.slot.is_some());
        let bits = match &self.window {
            Some(window) if window.newest == newest => return Ok(self.window.as_ref()),
            _ => slot_bits(connection, newest).await?,
        };
        let Some(bits) = bits else { return Ok(None) };
        self.window = Some(self.read_window(connection, newest, bits).await?);
        Ok(self.window.as_ref())
    }

    async fn read_window(
        &self,
        connection: &mut AnyConnection,
        newest: i64,
        bits: u32,
    ) -> Result<Window, LedgerError> {
        let window = Window::load(connection, newest, bits, self.history.longest()).await?;
        if let Some(slot) = window.missing {
            tracing::error!(
                newest,
                slot,
                "a window reaches back to a slot that is not kept any more: what is kept counts"
            );
        }
        Ok(window)
    }

    /// Counts refused submissions.
    pub fn rejects(&mut self, read: &Read, rejects: &RejectRecord) {
        let Some(worker) = self.workers.get_mut(&rejects.worker) else {
            return self.set_aside(read, "rejects of a worker that was never named");
        };
        let count = i64::try_from(rejects.count).unwrap_or(0);
        worker.rejected += count;
        worker.touch(rejects.worker, &mut self.touched);
        self.tally.rejected += count;
    }

    /// Closes the open slot, if there is one, and writes it. What was before is in slots up to the number returned
    /// (`None`: in none at all), what comes after is not.
    pub async fn close_slot(
        &mut self,
        connection: &mut AnyConnection,
        time_ms: i64,
    ) -> Result<Option<i64>, LedgerError> {
        if let Some(mut slot) = self.slot.take() {
            slot.write(connection, self.dialect, Some(time_ms)).await?;
            self.ends.write(connection, self.dialect, self.spool, self.newest).await?;
            if slot.terms.scheme.buys() {
                let now_ms = clock::now_ms();
                bought::pay(connection, self.dialect, slot.id, slot.terms, &slot.rates, now_ms).await?;
            }
            // A window of another target is of another length: it is read anew when somebody asks.
            self.window.take_if(|window| window.bits != slot.bits);
            if let Some(window) = &mut self.window {
                window.push(connection, slot.id, slot.terms.scheme, slot.work).await?;
            }
        }
        Ok((self.newest > 0).then_some(self.newest))
    }

    /// `read` is applied.
    pub fn passed(&mut self, read: &Read) {
        self.ends.reach(read.writer, read.end());
    }

    /// Adds to the chain the segments that are applied to their ends.
    pub async fn seal(
        &mut self,
        connection: &mut AnyConnection,
        finished: &[Finished],
    ) -> Result<(), LedgerError> {
        self.link.add(connection, self.dialect, finished).await
    }

    /// Writes all that has changed, and how far the spool has been applied.
    pub async fn flush(
        &mut self,
        connection: &mut AnyConnection,
        watermarks: &HashMap<u16, Position>,
        now_ms: i64,
    ) -> Result<(), LedgerError> {
        if let Some(slot) = &mut self.slot {
            slot.write(connection, self.dialect, None).await?;
        }
        self.flush_workers(connection).await?;
        aside::write(connection, self.dialect, self.spool, std::mem::take(&mut self.aside), now_ms).await?;
        let rows: Vec<_> = watermarks
            .iter()
            .map(|(writer, at)| (Hex(&self.spool), *writer, at.segment, at.offset))
            .collect();
        let sql = format!(
            "INSERT INTO watermark (spool, writer, segment, byte) SELECT t.spool, t.writer, t.segment, t.byte \
             FROM {} AS t WHERE true \
             ON CONFLICT (spool, writer) DO UPDATE SET segment = excluded.segment, byte = excluded.byte",
            self.dialect.table(&[
                ("spool", Column::Bytes),
                ("writer", Column::Integer),
                ("segment", Column::Integer),
                ("byte", Column::Integer)
            ])
        );
        write(connection, "move the watermark", sql, json(&rows), &[]).await?;
        Ok(())
    }

    async fn flush_workers(&mut self, connection: &mut AnyConnection) -> Result<(), LedgerError> {
        if self.touched.is_empty() {
            return Ok(());
        }
        let workers = &mut self.workers;
        let totals = |id: &WorkerId| {
            let totals = workers.get_mut(id)?;
            totals.is_touched = false;
            Some((totals.id, totals.accepted, totals.rejected, Whole(totals.work), totals.last_share_ms))
        };
        let rows: Vec<_> = self.touched.iter().filter_map(totals).collect();
        let sql = format!(
            "UPDATE worker SET accepted_shares = t.accepted, rejected_shares = t.rejected, work = t.work, \
             last_share_ms = t.last_share_ms FROM {} AS t WHERE worker.id = t.id",
            self.dialect.table(&[
                ("id", Column::Integer),
                ("accepted", Column::Integer),
                ("rejected", Column::Integer),
                ("work", Column::Work),
                ("last_share_ms", Column::Integer)
            ])
        );
        write(connection, "write the totals of workers", sql, json(&rows), &[]).await?;
        let tally = (self.tally.accepted, self.tally.rejected, Whole(self.tally.work), self.tally.height);
        let sql = format!(
            "UPDATE tally SET accepted_shares = t.accepted, rejected_shares = t.rejected, work = t.work, \
             height = t.height FROM {} AS t",
            self.dialect.table(&[
                ("accepted", Column::Integer),
                ("rejected", Column::Integer),
                ("work", Column::Work),
                ("height", Column::Integer)
            ])
        );
        write(connection, "write the totals", sql, json(&[tally]), &[]).await?;
        self.touched.clear();
        Ok(())
    }

    /// Puts a piece that cannot be applied where somebody can look at it.
    pub fn set_aside(&mut self, read: &Read, reason: &str) {
        self.aside.push(Aside::new(read, reason));
    }
}

/// Network target of the newest share of a closed slot.
pub(crate) async fn slot_bits(connection: &mut AnyConnection, slot: i64) -> Result<Option<u32>, LedgerError> {
    let failed = LedgerError::database("read a slot");
    let row = sqlx::query("SELECT COALESCE(bits, 0) AS bits FROM slot WHERE id = $1").bind(slot);
    let Some(row) = row.fetch_optional(connection).await.map_err(&failed)? else { return Ok(None) };
    let bits: i64 = row.try_get("bits").map_err(&failed)?;
    Ok(u32::try_from(bits).ok().filter(|bits| *bits > 0))
}
