//! The books against the records that they were made of: segments, kept or still live, are read again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use share::{Work, hash::shown};
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{Report, failed, integer, rows, seals, shares, text};
use crate::{
    Hash, LedgerError, WorkerId,
    growth::Kept,
    maturity::stored,
    proof::{Digested, Name, entries_of},
    record::Entry,
    spool::{self, Position, archive},
    store::work,
};

/// Shares and work, by worker.
type Sums = BTreeMap<WorkerId, (i64, Work)>;

/// The segments of one spool, as far as they are kept.
struct Segments<'a> {
    dir: &'a Path,
    spool: [u8; 16],
    /// Those with a seal.
    sealed: Vec<Name>,
    /// Where pieces begin that were set aside.
    aside: HashSet<(u16, Position)>,
    /// Read lately.
    read: HashMap<Name, Arc<Vec<u8>>>,
    /// What tables there are to compare with.
    kept: Kept,
    /// By worker, once it has been asked for.
    miners: HashMap<WorkerId, i64>,
}

/// Why something cannot be recomputed.
enum Gap {
    /// A segment is not kept any more.
    Missing(Name),
    Failed(LedgerError),
}

/// Adds to `report` what the records say otherwise than the tables.
pub(super) async fn check(
    snapshot: &mut AnyConnection,
    dir: &Path,
    block: Option<Hash>,
    report: &mut Report,
) -> Result<(), LedgerError> {
    let Some(id) = spool::id_of(dir) else {
        report.notes.push(format!("there is no spool in {}: no records to compare with", dir.display()));
        return Ok(());
    };
    let seals = seals(snapshot).await?;
    let names = seals.iter().filter_map(|seal| seal.name()).filter(|name| name.spool == id);
    let mut segments = Segments {
        dir,
        spool: id,
        sealed: names.collect(),
        aside: HashSet::new(),
        read: HashMap::new(),
        kept: Kept::load(snapshot).await?,
        miners: HashMap::new(),
    };
    for row in rows(snapshot, "SELECT spool, writer, segment, byte FROM set_aside").await? {
        if row.try_get::<Vec<u8>, _>("spool").map_err(failed)? == id {
            segments.aside.insert(place(&row)?);
        }
    }

    let mut gone = 0u64;
    for seal in &seals {
        let Some(name) = seal.name().filter(|name| name.spool == id) else { continue };
        match segments.bytes(name) {
            Ok(Some(bytes)) => {
                report.shares += seal.shares;
                let digested = Digested::of(&bytes, name);
                if hex::encode(digested.root) != seal.root || digested.shares != seal.shares {
                    report.findings.push(format!(
                        "segment {} ({}): its file has other shares than its root says",
                        seal.sequence, seal.name
                    ));
                }
            }
            Ok(None) => gone += 1,
            Err(error) => report.findings.push(format!("segment {} cannot be read: {error}", seal.sequence)),
        }
    }
    if gone > 0 {
        report.notes.push(format!("{gone} finished segments are not kept any more"));
    }

    let watermarks = watermarks(snapshot, id).await?;
    for name in &segments.sealed {
        let at = watermarks.get(&name.writer).copied().unwrap_or_default();
        if at.segment <= name.segment {
            report.findings.push(format!(
                "the watermark of writer {} is before the end of segment {}, which is finished",
                name.writer,
                name.shown()
            ));
        }
    }
    unsealed(&segments, &watermarks, report)?;
    open_slot(snapshot, &mut segments, &watermarks, report).await?;
    one_block(snapshot, &mut segments, block, report).await
}

/// Every kept file of a segment that is read to its end must have its seal, from the first opening on that has any.
fn unsealed(
    segments: &Segments<'_>,
    watermarks: &HashMap<u16, Position>,
    report: &mut Report,
) -> Result<(), LedgerError> {
    let Some(first) = segments.sealed.iter().map(|name| name.segment >> 32).min() else { return Ok(()) };
    let sealed: HashSet<(u16, u64)> =
        segments.sealed.iter().map(|name| (name.writer, name.segment)).collect();
    for (writer, segment) in archive::list(segments.dir)? {
        let is_read = watermarks.get(&writer).is_some_and(|at| segment < at.segment);
        if is_read && segment >> 32 >= first && !sealed.contains(&(writer, segment)) {
            let name = Name { spool: segments.spool, writer, segment };
            report.findings.push(format!("segment {} is kept, but not in the chain", name.shown()));
        }
    }
    Ok(())
}

/// What is behind the newest closed slot, up to the watermarks, is the open slot.
async fn open_slot(
    snapshot: &mut AnyConnection,
    segments: &mut Segments<'_>,
    watermarks: &HashMap<u16, Position>,
    report: &mut Report,
) -> Result<(), LedgerError> {
    let sql = "SELECT COALESCE(MAX(s.id), 0) AS open, COALESCE((SELECT MAX(slot_id) FROM slot_end), 0) AS ended, \
               COALESCE((SELECT MAX(id) FROM slot WHERE closed_ms IS NOT NULL), 0) AS closed \
               FROM slot s WHERE s.closed_ms IS NULL";
    for row in rows(snapshot, sql).await? {
        // Where a slot was closed before there was a record of ends, nobody knows where the open one begins.
        if integer(&row, "ended")? == integer(&row, "closed")? {
            slot(snapshot, segments, integer(&row, "open")?, Some(watermarks), report).await?;
        }
    }
    Ok(())
}

/// One block: its slots from the records, and its weights from the slots.
async fn one_block(
    snapshot: &mut AnyConnection,
    segments: &mut Segments<'_>,
    wanted: Option<Hash>,
    report: &mut Report,
) -> Result<(), LedgerError> {
    let sql = "SELECT id, hash, scheme, COALESCE(slot_id, 0) AS slot, \
               CASE WHEN terms_id IS NULL THEN 0 ELSE COALESCE(window_bits, bits) END AS window_bits \
               FROM block ORDER BY id";
    let blocks = rows(snapshot, sql).await?;
    let is = |row: &&AnyRow, hash: &Hash| row.try_get::<Vec<u8>, _>("hash").is_ok_and(|found| found == hash);
    let chosen = match &wanted {
        Some(hash) => blocks.iter().find(|row| is(row, hash)),
        None => blocks.get(chance() % blocks.len().max(1)),
    };
    let Some(block) = chosen else {
        match wanted {
            Some(hash) => report.findings.push(format!("there is no block {}", shown(&hash))),
            None => report.notes.push("there is no block yet".to_owned()),
        }
        return Ok(());
    };
    let hash: Vec<u8> = block.try_get("hash").map_err(failed)?;
    let hash: Hash = hash.try_into().unwrap_or_default();
    report.block = Some(hash);
    let (id, newest, bits) = (integer(block, "id")?, integer(block, "slot")?, integer(block, "window_bits")?);
    if newest == 0 || bits == 0 || text(block, "scheme")? == "solo" {
        report.notes.push(format!("block {} has no window of shares to recompute", shown(&hash)));
        return Ok(());
    }
    let window = super::credits::window(snapshot, newest, bits).await?;
    for number in window.slots() {
        slot(snapshot, segments, number, None, report).await?;
    }
    if let Some(slot) = window.missing {
        let hash = shown(&hash);
        report
            .notes
            .push(format!("block {hash} has a window from before slot {slot}, which is kept no longer"));
        return Ok(());
    }
    if !window.weights().is_empty() && window.weights() != stored(snapshot, id).await? {
        report
            .findings
            .push(format!("block {} has other weights than the slots of its window", shown(&hash)));
    }
    Ok(())
}

/// Compares a slot with the records that are its own. `to`: it is open, and reaches as far as these watermarks.
async fn slot(
    snapshot: &mut AnyConnection,
    segments: &mut Segments<'_>,
    number: i64,
    to: Option<&HashMap<u16, Position>>,
    report: &mut Report,
) -> Result<(), LedgerError> {
    let bound = if to.is_some() { i64::MAX } else { number };
    let sql = "SELECT slot_id, writer, segment, byte FROM slot_end WHERE spool = $1 AND slot_id <= $2 ORDER BY slot_id";
    let query = sqlx::query(sql).bind(segments.spool.to_vec()).bind(bound);
    let (mut begins, mut ends): (HashMap<u16, Position>, HashMap<u16, Position>) = Default::default();
    let mut first = i64::MAX;
    for row in query.fetch_all(&mut *snapshot).await.map_err(failed)? {
        let id = integer(&row, "slot_id")?;
        first = first.min(id);
        let (writer, at) = place(&row)?;
        if id == number && to.is_none() {
            ends.insert(writer, at);
        } else {
            begins.insert(writer, at);
        }
    }
    if to.is_none() && number > 1 && first >= number {
        report.notes.push(format!("slot {number} is from before there were segments to compare with"));
        return Ok(());
    }
    let mut found = Sums::new();
    for (writer, end) in to.unwrap_or(&ends) {
        let begin = begins.get(writer).copied().unwrap_or_default();
        match segments.sum(*writer, begin, *end, &mut found) {
            Ok(shares) => report.shares += shares,
            Err(Gap::Missing(name)) => {
                report.notes.push(format!(
                    "slot {number} cannot be recomputed: segment {} is not kept",
                    name.shown()
                ));
                return Ok(());
            }
            Err(Gap::Failed(error)) => {
                report.findings.push(format!("slot {number} cannot be recomputed: {error}"));
                return Ok(());
            }
        }
    }
    let is_kept = to.is_some() || number >= segments.kept.workers_from;
    let is_right = match is_kept {
        true => by_worker(snapshot, number, to.is_some()).await? == found,
        false => {
            let mut by_miner: BTreeMap<i64, Work> = BTreeMap::new();
            for (worker, (_, work)) in &found {
                let sum = by_miner.entry(segments.miner(snapshot, worker).await?).or_default();
                *sum = sum.saturating_add(*work);
            }
            shares::by_miner(snapshot, number).await? == by_miner
        }
    };
    if !is_right {
        let what = if to.is_some() { "the open slot, up to the watermark," } else { "slot" };
        report.findings.push(format!("{what} {number} has other work than its records"));
    }
    Ok(())
}

/// What workers did in a slot, as the tables have it.
async fn by_worker(snapshot: &mut AnyConnection, slot: i64, is_open: bool) -> Result<Sums, LedgerError> {
    let sql = match is_open {
        true => {
            "SELECT w.key, s.shares, CAST(s.work AS TEXT) AS work FROM slot_open s \
             JOIN worker w ON w.id = s.worker_id WHERE $1 > 0"
        }
        false => {
            "SELECT w.key, s.shares, CAST(s.work AS TEXT) AS work FROM slot_work s \
             JOIN worker w ON w.id = s.worker_id WHERE s.slot_id = $1"
        }
    };
    let rows = sqlx::query(sql).bind(slot).fetch_all(snapshot).await.map_err(failed)?;
    rows.iter().map(|row| Ok((key(row)?, (integer(row, "shares")?, work(row, "work")?)))).collect()
}

fn key(row: &AnyRow) -> Result<WorkerId, LedgerError> {
    let key: Vec<u8> = row.try_get("key").map_err(failed)?;
    Ok(WorkerId(key.try_into().unwrap_or_default()))
}

impl Segments<'_> {
    /// Whose a worker is; 0 if nobody knows it.
    async fn miner(&mut self, snapshot: &mut AnyConnection, worker: &WorkerId) -> Result<i64, LedgerError> {
        if self.miners.is_empty() {
            for row in rows(snapshot, "SELECT key, miner_id FROM worker").await? {
                self.miners.insert(key(&row)?, integer(&row, "miner_id")?);
            }
        }
        Ok(self.miners.get(worker).copied().unwrap_or(0))
    }

    fn bytes(&mut self, name: Name) -> Result<Option<Arc<Vec<u8>>>, LedgerError> {
        if let Some(bytes) = self.read.get(&name) {
            return Ok(Some(bytes.clone()));
        }
        let Some(bytes) = archive::bytes(self.dir, name)? else { return Ok(None) };
        if self.read.len() >= 8 {
            self.read.clear();
        }
        let bytes = Arc::new(bytes);
        self.read.insert(name, bytes.clone());
        Ok(Some(bytes))
    }

    /// Adds the shares of `writer` from `begin` to `end`, but those that were set aside. How many there were.
    fn sum(&mut self, writer: u16, begin: Position, end: Position, sums: &mut Sums) -> Result<u64, Gap> {
        if begin == end {
            return Ok(0);
        }
        let of_writer = self.sealed.iter().filter(|name| name.writer == writer).map(|name| name.segment);
        let within = |number: &u64| (begin.segment..=end.segment).contains(number);
        let mut numbers: Vec<u64> = of_writer.chain([end.segment]).filter(within).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|segment| end != Position { segment: *segment, offset: 0 }); // it ends where that one begins
        let mut shares = 0;
        for segment in numbers {
            let name = Name { spool: self.spool, writer, segment };
            let bytes = self.bytes(name).map_err(Gap::Failed)?.ok_or(Gap::Missing(name))?;
            if end.segment == segment && end.offset > bytes.len() as u64 {
                let (name, offset, length) = (name.shown(), end.offset, bytes.len());
                let reason = format!("the books have {offset} bytes of segment {name}, there are {length}");
                return Err(Gap::Failed(LedgerError::Unsound(reason)));
            }
            for (offset, _, entry) in entries_of(&bytes, name) {
                let at = Position { segment, offset: offset as u64 };
                let Entry::Share(share) = entry else { continue };
                if at < begin || at >= end || self.aside.contains(&(writer, at)) {
                    continue;
                }
                let sum = sums.entry(share.worker).or_default();
                *sum = (sum.0 + 1, sum.1.saturating_add(share.work));
                shares += 1;
            }
        }
        Ok(shares)
    }
}

async fn watermarks(
    snapshot: &mut AnyConnection,
    spool: [u8; 16],
) -> Result<HashMap<u16, Position>, LedgerError> {
    let query =
        sqlx::query("SELECT writer, segment, byte FROM watermark WHERE spool = $1").bind(spool.to_vec());
    query.fetch_all(snapshot).await.map_err(failed)?.iter().map(place).collect()
}

/// A writer and a place in its records.
fn place(row: &AnyRow) -> Result<(u16, Position), LedgerError> {
    let number = |name: &str| Ok::<_, LedgerError>(u64::try_from(integer(row, name)?).unwrap_or(u64::MAX));
    let writer = u16::try_from(number("writer")?).unwrap_or(u16::MAX);
    Ok((writer, Position { segment: number("segment")?, offset: number("byte")? }))
}

/// Some number: it only has to be another one most of the time.
fn chance() -> usize {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos() as usize
}
