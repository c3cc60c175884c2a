//! The segments of one spool, as far as they are kept, and which slot has which of their records.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use bitcoin::Network;
use share::Work;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::super::{failed, integer, rows};
use crate::{
    LedgerError, WorkerId,
    bought::Rate,
    division::halvings,
    growth::Kept,
    proof::{Name, Seal, entries_of},
    record::Entry,
    spool::{Position, archive},
    terms::History,
};

pub(super) struct Segments<'a> {
    pub dir: &'a Path,
    pub spool: [u8; 16],
    pub network: Network,
    /// Those with a seal.
    pub sealed: Vec<Name>,
    /// How far each writer has been drained.
    pub watermarks: HashMap<u16, Position>,
    /// Where slots end, by writer: in the order of slots. A writer that has not moved in a slot has no end there.
    pub ends: HashMap<u16, Vec<(i64, Position)>>,
    /// What tables there are to compare with.
    pub kept: Kept,
    pub terms: History,
    /// Slots that end in other spools, and the newest slot that ends in any.
    foreign: BTreeSet<i64>,
    newest: i64,
    /// Spools that were ever drained into this ledger.
    pub spools: usize,
    /// Where pieces begin that were set aside, and how long they are.
    pub aside: HashMap<(u16, Position), u64>,
    /// Read lately.
    read: HashMap<Name, Arc<Vec<u8>>>,
}

/// What the records of a slot sum to.
#[derive(Default)]
pub(super) struct Sum {
    pub shares: u64,
    /// Shares and work.
    pub workers: BTreeMap<WorkerId, (i64, Work)>,
    pub rates: BTreeMap<(WorkerId, Rate), Work>,
    /// The openings of the spool that they were written in.
    pub epochs: BTreeSet<u64>,
}

/// Why something cannot be recomputed.
pub(super) enum Gap {
    /// A segment is not kept any more.
    Missing(Name),
    Failed(LedgerError),
}

impl<'a> Segments<'a> {
    pub async fn load(
        snapshot: &mut AnyConnection,
        (dir, spool): (&'a Path, [u8; 16]),
        network: Network,
        seals: &[Seal],
    ) -> Result<Self, LedgerError> {
        let names = seals.iter().filter_map(Seal::name).filter(|name| name.spool == spool);
        let mut segments = Self {
            dir,
            spool,
            network,
            sealed: names.collect(),
            watermarks: HashMap::new(),
            ends: HashMap::new(),
            foreign: BTreeSet::new(),
            newest: 0,
            spools: 0,
            kept: Kept::load(snapshot).await?,
            terms: History::load(snapshot, spool).await?,
            aside: HashMap::new(),
            read: HashMap::new(),
        };
        let mut spools = HashSet::new();
        for row in rows(snapshot, "SELECT spool, writer, segment, byte FROM watermark").await? {
            spools.insert(row.try_get::<Vec<u8>, _>("spool").map_err(failed)?);
            if is_of(&row, spool)? {
                segments.watermarks.extend([place(&row)?]);
            }
        }
        segments.spools = spools.len();
        for row in rows(snapshot, "SELECT spool, writer, segment, byte, length FROM set_aside").await? {
            if is_of(&row, spool)? {
                let length = u64::try_from(integer(&row, "length")?).unwrap_or(0);
                segments.aside.insert(place(&row)?, length);
            }
        }
        let sql = "SELECT slot_id, spool, writer, segment, byte FROM slot_end ORDER BY slot_id";
        for row in rows(snapshot, sql).await? {
            let slot = integer(&row, "slot_id")?;
            segments.newest = segments.newest.max(slot);
            if is_of(&row, spool)? {
                let (writer, at) = place(&row)?;
                segments.ends.entry(writer).or_default().push((slot, at));
            } else {
                segments.foreign.insert(slot);
            }
        }
        Ok(segments)
    }

    /// The segment's records; `None` if they are not kept.
    pub fn bytes(&mut self, name: Name) -> Result<Option<Arc<Vec<u8>>>, LedgerError> {
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

    /// The records of a segment that the books have taken in, each with its place.
    pub fn drained<'b>(
        &self,
        name: Name,
        bytes: &'b [u8],
    ) -> impl Iterator<Item = (Position, Entry)> + use<'_, 'b> {
        let end = self.watermarks.get(&name.writer).copied().unwrap_or_default();
        entries_of(bytes, name)
            .map(move |(offset, _, entry)| (Position { segment: name.segment, offset: offset as u64 }, entry))
            .filter(move |(at, _)| *at < end && !self.aside.contains_key(&(name.writer, *at)))
    }

    /// The first slot whose end is known; `None` if that of none is.
    pub fn first(&self) -> Option<i64> {
        self.ends.values().filter_map(|ends| ends.first()).map(|(slot, _)| *slot).min()
    }

    /// The newest slot whose end is known.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// Whether a slot has records of this spool only, as far as can be told: it and the one before it end here and nowhere
    /// else. One that was open while another spool was put in has records of both. `None`: the open slot.
    pub fn is_own(&self, slot: Option<i64>) -> bool {
        if self.spools <= 1 && self.foreign.is_empty() {
            return true;
        }
        let ends_here = |slot: i64| {
            self.ends.values().any(|ends| ends.binary_search_by_key(&slot, |(number, _)| *number).is_ok())
        };
        let is_ours = |slot: i64| ends_here(slot) && !self.foreign.contains(&slot);
        slot.is_some_and(|slot| is_ours(slot) && is_ours(slot - 1))
    }

    /// What each writer has in a slot: from where to where. `None`: in the open one, up to the watermarks.
    pub fn stretches(&self, slot: Option<i64>) -> Vec<(u16, Position, Position)> {
        let mut stretches = Vec::new();
        let Some(slot) = slot else {
            for (writer, end) in &self.watermarks {
                let last = self.ends.get(writer).and_then(|ends| ends.last());
                stretches.push((*writer, last.map(|(_, at)| *at).unwrap_or_default(), *end));
            }
            return stretches;
        };
        for (writer, ends) in &self.ends {
            let index = ends.partition_point(|(number, _)| *number < slot);
            let Some((_, end)) = ends.get(index).filter(|(number, _)| *number == slot) else { continue };
            let before = index.checked_sub(1).and_then(|index| ends.get(index));
            stretches.push((*writer, before.map(|(_, at)| *at).unwrap_or_default(), *end));
        }
        stretches
    }

    /// Sums the shares of `writer` from `begin` to `end`, but those that were set aside.
    pub fn add(&mut self, (writer, begin, end): (u16, Position, Position), sum: &mut Sum) -> Result<(), Gap> {
        if begin == end {
            return Ok(());
        }
        let of_writer = self.sealed.iter().filter(|name| name.writer == writer).map(|name| name.segment);
        let within = |number: &u64| (begin.segment..=end.segment).contains(number);
        let mut numbers: Vec<u64> = of_writer.chain([end.segment]).filter(within).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|segment| end != Position { segment: *segment, offset: 0 }); // it ends where that one begins
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
                if at < begin || at >= end || self.aside.contains_key(&(writer, at)) {
                    continue;
                }
                sum.shares += 1;
                sum.epochs.insert(segment >> 32);
                let done = sum.workers.entry(share.worker).or_default();
                *done = (done.0 + 1, done.1.saturating_add(share.work));
                let rate = Rate { bits: share.bits, halvings: halvings(self.network, share.height) };
                let work = sum.rates.entry((share.worker, rate)).or_default();
                *work = work.saturating_add(share.work);
            }
        }
        Ok(())
    }
}

fn is_of(row: &AnyRow, spool: [u8; 16]) -> Result<bool, LedgerError> {
    Ok(row.try_get::<Vec<u8>, _>("spool").map_err(failed)? == spool)
}

/// A writer and a place in its records.
fn place(row: &AnyRow) -> Result<(u16, Position), LedgerError> {
    let number = |name: &str| Ok::<_, LedgerError>(u64::try_from(integer(row, name)?).unwrap_or(u64::MAX));
    let writer = u16::try_from(number("writer")?).unwrap_or(u16::MAX);
    Ok((writer, Position { segment: number("segment")?, offset: number("byte")? }))
}
