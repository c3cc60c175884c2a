//! The books against the records that they were made of: segments, kept or still live, are read again.

use std::{collections::HashSet, path::Path};

use bitcoin::Network;
use share::hash::shown;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{Report, Which, failed, integer, rows, seals, text};
use crate::{
    Hash, LedgerError,
    maturity::stored,
    proof::{Digested, Name, Seal, entries_of},
    record::Entry,
    spool::{self, archive},
};

mod found;
mod segments;
mod slots;
mod told;

use segments::Segments;
use told::Told;

/// As long as there are no more bytes of records than this, all slots are read again unless only one block was asked for.
const FEW: u64 = 1 << 30;

/// Whether all slots are read again.
pub(super) async fn reads_all(snapshot: &mut AnyConnection, which: Which) -> Result<bool, LedgerError> {
    let bytes = seals(snapshot).await?.iter().fold(0u64, |sum, seal| sum.saturating_add(seal.bytes));
    Ok(which == Which::All || (which == Which::Any && bytes <= FEW))
}

/// Adds to `report` what the records say otherwise than the tables.
pub(super) async fn check(
    snapshot: &mut AnyConnection,
    (dir, network): (&Path, Network),
    (which, is_all): (Which, bool),
    report: &mut Report,
) -> Result<(), LedgerError> {
    let Some(id) = spool::id_of(dir) else {
        report.notes.push(format!("there is no spool in {}: no records to compare with", dir.display()));
        return Ok(());
    };
    let seals = seals(snapshot).await?;
    let mut segments = Segments::load(snapshot, (dir, id), network, &seals).await?;
    let told = read(snapshot, &mut segments, &seals, report).await?;
    for name in &segments.sealed {
        let at = segments.watermarks.get(&name.writer).copied().unwrap_or_default();
        if at.segment <= name.segment {
            report.findings.push(format!(
                "the watermark of writer {} is before the end of segment {}, which is finished",
                name.writer,
                name.shown()
            ));
        }
    }
    unsealed(&segments, report)?;
    found::check(snapshot, &segments, &told, report).await?;
    if segments.spools > 1 {
        report.notes.push(format!(
            "{} spools were drained into this ledger: what workers did in all cannot be told from one",
            segments.spools
        ));
    }
    if !segments.aside.is_empty() {
        report.notes.push(format!(
            "{} pieces of the records were set aside and count for nobody: see the table set_aside",
            segments.aside.len()
        ));
    }
    if told.is_whole {
        told.check_blocks(snapshot, report).await?;
        told.check_workers(snapshot, report).await?;
    }
    slots::open(snapshot, &mut segments, report).await?;
    if is_all {
        slots::closed(snapshot, &mut segments, report).await?;
    } else if which == Which::Any {
        report
            .notes
            .push("of closed slots only those of one block were read again: --all reads all".to_owned());
    }
    one_block(snapshot, &mut segments, which, !is_all, report).await
}

/// Reads every segment that is kept, compares it with its root, and gives what all of them say.
async fn read(
    snapshot: &mut AnyConnection,
    segments: &mut Segments<'_>,
    seals: &[Seal],
    report: &mut Report,
) -> Result<Told, LedgerError> {
    let (mut told, mut gone, mut others) = (Told::default(), 0u64, 0u64);
    let (oldest, before) = (archive::oldest_ms(segments.dir)?, report.findings.len());
    let mut repeated = Vec::new();
    let mut take_in = |segments: &mut Segments<'_>, name: Name| -> Result<Option<Digested>, LedgerError> {
        let Some(bytes) = segments.bytes(name)? else { return Ok(None) };
        told.add(segments, name, &bytes);
        match repeats(&bytes, name) {
            0 => {}
            shares => repeated.push(format!("segment {} has {shares} shares twice", name.shown())),
        }
        Ok(Some(Digested::of(&bytes, name)))
    };
    for seal in seals {
        let Some(name) = seal.name().filter(|name| name.spool == segments.spool) else {
            others += 1;
            continue;
        };
        match take_in(segments, name) {
            Ok(Some(digested)) => {
                report.shares += seal.shares;
                let is = |what: &str| format!("segment {} ({}): its file {what}", seal.sequence, seal.name);
                if hex::encode(digested.root) != seal.root || digested.shares != seal.shares {
                    report.findings.push(is("has other shares than its root says"));
                } else if digested.bytes != seal.bytes {
                    report.findings.push(is("is of another length than its seal says"));
                }
            }
            Ok(None) => {
                gone += 1;
                // The archive lets go of what is oldest.
                if seal.shares > 0 && oldest.is_some_and(|oldest| seal.last_ms > oldest) {
                    report.findings.push(format!(
                        "segment {} ({}) is not there, though older ones are kept",
                        seal.sequence, seal.name
                    ));
                }
            }
            Err(error) => report.findings.push(format!("segment {} cannot be read: {error}", seal.sequence)),
        }
    }
    if gone > 0 {
        report.notes.push(format!("{gone} finished segments are not kept any more"));
    }
    // What is not finished yet, as far as it is drained.
    let live: Vec<Name> = segments
        .watermarks
        .iter()
        .filter(|(_, at)| at.offset > 0)
        .map(|(writer, at)| Name { spool: segments.spool, writer: *writer, segment: at.segment })
        .collect();
    for name in live {
        if segments.sealed.contains(&name) {
            continue;
        }
        match take_in(segments, name) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let name = name.shown();
                report.findings.push(format!("segment {name} is not there, though it is not finished"));
            }
            Err(error) => report.findings.push(format!("segment {} cannot be read: {error}", name.shown())),
        }
    }
    report.findings.append(&mut repeated);
    // A spool of which nothing was dropped, that has been sealed from the first slot on, and is the only one there was.
    let sql = "SELECT COALESCE(MIN(id), 1) AS first FROM slot";
    let first = rows(snapshot, sql).await?.first().map_or(Ok(1), |row| integer(row, "first"))?;
    let is_closed = "SELECT COUNT(*) AS closed FROM slot WHERE closed_ms IS NOT NULL";
    let closed = rows(snapshot, is_closed).await?.first().map_or(Ok(0), |row| integer(row, "closed"))?;
    told.is_whole = gone + others == 0
        && segments.spools == 1
        && (closed == 0 || segments.first() == Some(first))
        && report.findings.len() == before;
    Ok(told)
}

/// How many shares stand in a segment though they stood there before: a disk that writes to the wrong place copies them whole,
/// checksum and all.
fn repeats(bytes: &[u8], name: Name) -> usize {
    let is_share = |entry: &Entry| matches!(entry, Entry::Share(_));
    let mut shares: Vec<&[u8]> = entries_of(bytes, name)
        .filter(|(_, _, entry)| is_share(entry))
        .map(|(_, record, _)| record)
        .collect();
    shares.sort_unstable();
    shares.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

/// Every kept file of a segment that is read to its end must have its seal, from the first opening on that has any.
fn unsealed(segments: &Segments<'_>, report: &mut Report) -> Result<(), LedgerError> {
    let Some(first) = segments.sealed.iter().map(|name| name.segment >> 32).min() else { return Ok(()) };
    let sealed: HashSet<(u16, u64)> =
        segments.sealed.iter().map(|name| (name.writer, name.segment)).collect();
    for (writer, segment) in archive::list(segments.dir)? {
        let is_read = segments.watermarks.get(&writer).is_some_and(|at| segment < at.segment);
        if is_read && segment >> 32 >= first && !sealed.contains(&(writer, segment)) {
            let name = Name { spool: segments.spool, writer, segment };
            report.findings.push(format!("segment {} is kept, but not in the chain", name.shown()));
        }
    }
    Ok(())
}

/// One block: its slots from the records, if nobody has looked at them yet, and its weights from the slots.
async fn one_block(
    snapshot: &mut AnyConnection,
    segments: &mut Segments<'_>,
    which: Which,
    with_slots: bool,
    report: &mut Report,
) -> Result<(), LedgerError> {
    let sql = "SELECT id, hash, scheme, COALESCE(slot_id, 0) AS slot, \
               CASE WHEN terms_id IS NULL THEN 0 ELSE COALESCE(window_bits, bits) END AS window_bits \
               FROM block ORDER BY id";
    let blocks = rows(snapshot, sql).await?;
    let is = |row: &&AnyRow, hash: &Hash| row.try_get::<Vec<u8>, _>("hash").is_ok_and(|found| found == hash);
    let chosen = match &which {
        Which::Block(hash) => blocks.iter().find(|row| is(row, hash)),
        Which::Any | Which::All => blocks.get(chance() % blocks.len().max(1)),
    };
    let Some(block) = chosen else {
        match which {
            Which::Block(hash) => report.findings.push(format!("there is no block {}", shown(&hash))),
            Which::Any | Which::All => report.notes.push("there is no block yet".to_owned()),
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
    let slots = if with_slots { window.slots() } else { Vec::new() };
    for number in slots {
        slots::one(snapshot, segments, number, false, report).await?;
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

/// Some number: it only has to be another one most of the time.
fn chance() -> usize {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos() as usize
}
