//! A slot against the records that are its own: who did how much, at what rates, under which terms.

use std::collections::{BTreeMap, HashMap};

use share::Work;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    super::{Report, failed, integer, rows, shares},
    segments::{Gap, Segments, Sum},
};
use crate::{LedgerError, WorkerId, bought, bought::Rate, store::work};

/// Shares and work, by worker.
type Workers = BTreeMap<WorkerId, (i64, Work)>;

/// What is behind the newest closed slot, up to the watermarks, is the open slot.
pub(super) async fn open(
    snapshot: &mut AnyConnection,
    segments: &mut Segments<'_>,
    report: &mut Report,
) -> Result<(), LedgerError> {
    let sql = "SELECT COALESCE(MAX(s.id), 0) AS open, COALESCE((SELECT MAX(slot_id) FROM slot_end), 0) AS ended, \
               COALESCE((SELECT MAX(id) FROM slot WHERE closed_ms IS NOT NULL), 0) AS closed \
               FROM slot s WHERE s.closed_ms IS NULL";
    for row in rows(snapshot, sql).await? {
        // Where a slot was closed before there was a record of ends, nobody knows where the open one begins.
        if integer(&row, "ended")? == integer(&row, "closed")? {
            one(snapshot, segments, integer(&row, "open")?, true, report).await?;
        }
    }
    Ok(())
}

/// All closed slots of which the tables have the work.
pub(super) async fn closed(
    snapshot: &mut AnyConnection,
    segments: &mut Segments<'_>,
    report: &mut Report,
) -> Result<(), LedgerError> {
    for row in rows(snapshot, "SELECT id FROM slot WHERE closed_ms IS NOT NULL ORDER BY id").await? {
        let id = integer(&row, "id")?;
        if id >= segments.kept.miners_from {
            one(snapshot, segments, id, false, report).await?;
        }
    }
    Ok(())
}

/// Compares a slot with the records that are its own.
pub(super) async fn one(
    snapshot: &mut AnyConnection,
    segments: &mut Segments<'_>,
    number: i64,
    is_open: bool,
    report: &mut Report,
) -> Result<(), LedgerError> {
    if !is_open && number > 1 && segments.first().is_none_or(|first| first >= number) {
        report.notes.push(format!("slot {number} is from before there were segments to compare with"));
        return Ok(());
    }
    if !segments.is_own((!is_open).then_some(number)) {
        report.notes.push(format!(
            "slot {number} has records of another spool: it cannot be recomputed from this one"
        ));
        return Ok(());
    }
    let mut sum = Sum::default();
    for stretch in segments.stretches((!is_open).then_some(number)) {
        match segments.add(stretch, &mut sum) {
            Ok(()) => {}
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
    report.shares += sum.shares;
    let miners = miners(snapshot, &sum).await?;
    if !has_work(snapshot, segments, number, is_open, (&sum, &miners)).await? {
        let what = if is_open { "the open slot, up to the watermark," } else { "slot" };
        report.findings.push(format!("{what} {number} has other work than its records"));
    }
    if let Some(what) = conditions(snapshot, segments, number, (&sum, &miners)).await? {
        report.findings.push(format!("slot {number} has other {what} than its records"));
    }
    Ok(())
}

/// Whether the tables have the work that the records have.
async fn has_work(
    snapshot: &mut AnyConnection,
    segments: &Segments<'_>,
    number: i64,
    is_open: bool,
    (sum, miners): (&Sum, &HashMap<WorkerId, i64>),
) -> Result<bool, LedgerError> {
    if is_open || number >= segments.kept.workers_from {
        return Ok(by_worker(snapshot, number, is_open).await? == sum.workers);
    }
    let mut by_miner: BTreeMap<i64, Work> = BTreeMap::new();
    for (worker, (_, work)) in &sum.workers {
        let sum = by_miner.entry(miners.get(worker).copied().unwrap_or(0)).or_default();
        *sum = sum.saturating_add(*work);
    }
    Ok(shares::by_miner(snapshot, number).await? == by_miner)
}

/// Which of the conditions that the work was done under is not that of the records.
async fn conditions(
    snapshot: &mut AnyConnection,
    segments: &Segments<'_>,
    number: i64,
    (sum, miners): (&Sum, &HashMap<WorkerId, i64>),
) -> Result<Option<&'static str>, LedgerError> {
    let sql = "SELECT COALESCE(terms_id, 0) AS terms, COALESCE(bits, 0) AS bits FROM slot WHERE id = $1";
    let Some(row) = sqlx::query(sql).bind(number).fetch_optional(&mut *snapshot).await.map_err(failed)?
    else {
        return Ok(None);
    };
    let (terms, bits) = (integer(&row, "terms")?, integer(&row, "bits")?);
    if sum.shares == 0 || terms == 0 || bits == 0 {
        return Ok(None);
    }
    for epoch in &sum.epochs {
        if segments.terms.of(*epoch)?.id != terms {
            return Ok(Some("terms"));
        }
    }
    if !sum.rates.keys().any(|(_, rate)| i64::from(rate.bits) == bits) {
        return Ok(Some("network target"));
    }
    if segments.terms.get(terms).is_some_and(|terms| terms.scheme.buys()) {
        let mut rates: BTreeMap<(i64, Rate), Work> = BTreeMap::new();
        for ((worker, rate), work) in &sum.rates {
            let sum = rates.entry((miners.get(worker).copied().unwrap_or(0), *rate)).or_default();
            *sum = sum.saturating_add(*work);
        }
        if bought::done(snapshot, number).await? != rates {
            return Ok(Some("work at fixed rates"));
        }
    }
    Ok(None)
}

/// Whose the workers of a sum are; without those that nobody knows.
async fn miners(snapshot: &mut AnyConnection, sum: &Sum) -> Result<HashMap<WorkerId, i64>, LedgerError> {
    let mut miners = HashMap::new();
    for worker in sum.workers.keys() {
        let query = sqlx::query("SELECT miner_id FROM worker WHERE key = $1").bind(worker.0.to_vec());
        if let Some(row) = query.fetch_optional(&mut *snapshot).await.map_err(failed)? {
            miners.insert(*worker, integer(&row, "miner_id")?);
        }
    }
    Ok(miners)
}

/// What workers did in a slot, as the tables have it.
async fn by_worker(snapshot: &mut AnyConnection, slot: i64, is_open: bool) -> Result<Workers, LedgerError> {
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

pub(super) fn key(row: &AnyRow) -> Result<WorkerId, LedgerError> {
    let key: Vec<u8> = row.try_get("key").map_err(failed)?;
    Ok(WorkerId(key.try_into().unwrap_or_default()))
}
