//! Slots, workers and pool must have counted the same shares.

use std::collections::{BTreeMap, HashMap};

use share::Work;
use sqlx::{AnyConnection, any::AnyRow};

use super::{Findings, failed, integer, rows};
use crate::{LedgerError, growth::Kept, store::work};

/// Shares and work.
type Sum = (i64, Work);

/// What workers did: of slots that are not kept in their own rows, else in the rows of slots.
#[derive(Default)]
struct Done {
    /// By worker.
    workers: HashMap<i64, Sum>,
    /// Whose each worker is.
    miners: HashMap<i64, i64>,
    /// Of all slots that are not kept by worker.
    folded: Sum,
}

pub(super) async fn check(
    snapshot: &mut AnyConnection,
    notes: &mut Vec<String>,
) -> Result<Findings, LedgerError> {
    let mut findings = Findings::new();
    let kept = Kept::load(snapshot).await?;
    if kept.workers_from > 1 {
        notes.push(format!(
            "slots before {} are kept by worker no longer, only their sums",
            kept.workers_from
        ));
    }
    if kept.miners_from > 1 {
        notes.push(format!("slots before {} are kept by miner no longer", kept.miners_from));
    }
    if !are_spans_whole(snapshot, kept).await? {
        findings.push("the ranges of slots do not follow each other from where they are kept".to_owned());
    }
    let (mut done, totals) = workers(snapshot).await?;
    let base: Sum = done.workers.values().fold((0, 0), add);
    slots(snapshot, kept, &mut done, &mut findings).await?;
    if base != done.folded {
        findings.push(format!(
            "workers have other sums of the slots before {}, which are not kept, than these slots",
            kept.workers_from
        ));
    }
    let (mut all, mut rejected) = ((0, 0), 0i64);
    for (id, total, rejects) in totals {
        all = add(all, &total);
        rejected = rejected.saturating_add(rejects);
        if total != done.workers.remove(&id).unwrap_or_default() {
            findings.push(format!("worker {id} has other totals than its slots"));
        }
    }
    let mut nobody: Vec<i64> = done.workers.into_keys().collect();
    nobody.sort_unstable();
    findings.extend(nobody.iter().map(|id| format!("slots have work of worker {id}, who is not there")));
    let tally = "SELECT accepted_shares AS shares, rejected_shares, CAST(work AS TEXT) AS work FROM tally";
    let tallies = rows(snapshot, tally).await?;
    if tallies.len() != 1 {
        findings.push("the pool's totals are not there".to_owned());
    }
    for row in tallies {
        if sum(&row)? != all || rejected != integer(&row, "rejected_shares")? {
            findings.push("the pool has other totals than its workers".to_owned());
        }
    }
    Ok(findings)
}

/// The ranges that slots are kept in begin where slot_kept says, or in SQLite before that, and have no gap.
async fn are_spans_whole(snapshot: &mut AnyConnection, kept: Kept) -> Result<bool, LedgerError> {
    let mut next = None;
    for row in rows(snapshot, "SELECT first_slot, next_slot FROM slot_span ORDER BY first_slot").await? {
        let first = integer(&row, "first_slot")?;
        let is_right = match next {
            None => first <= kept.miners_from,
            Some(next) => first == next,
        };
        if !is_right {
            return Ok(false);
        }
        next = Some(integer(&row, "next_slot")?);
    }
    Ok(next.is_none_or(|next| next >= kept.miners_from))
}

/// What workers have of slots that are not kept; and of each worker its number, its total and its rejects.
async fn workers(snapshot: &mut AnyConnection) -> Result<(Done, Vec<(i64, Sum, i64)>), LedgerError> {
    let sql = "SELECT id, miner_id, accepted_shares AS shares, rejected_shares, CAST(work AS TEXT) AS work, base_shares, \
               CAST(base_work AS TEXT) AS base_work FROM worker ORDER BY id";
    let (mut done, mut totals) = (Done::default(), Vec::new());
    for row in rows(snapshot, sql).await? {
        let id = integer(&row, "id")?;
        done.workers.insert(id, (integer(&row, "base_shares")?, work(&row, "base_work")?));
        done.miners.insert(id, integer(&row, "miner_id")?);
        totals.push((id, sum(&row)?, integer(&row, "rejected_shares")?));
    }
    Ok((done, totals))
}

/// Each slot with what is kept of it by worker and by miner.
async fn slots(
    snapshot: &mut AnyConnection,
    kept: Kept,
    done: &mut Done,
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    let sql = "SELECT id, shares, CAST(work AS TEXT) AS work, CASE WHEN closed_ms IS NULL THEN 1 ELSE 0 END AS open \
               FROM slot ORDER BY id";
    for slot in rows(snapshot, sql).await? {
        let (id, total, is_open) = (integer(&slot, "id")?, sum(&slot)?, integer(&slot, "open")? == 1);
        if id < kept.workers_from {
            done.folded = add(done.folded, &total);
        } else {
            let sql = match is_open {
                true => "SELECT worker_id, shares, CAST(work AS TEXT) AS work FROM slot_open WHERE $1 > 0",
                false => {
                    "SELECT worker_id, shares, CAST(work AS TEXT) AS work FROM slot_work WHERE slot_id = $1"
                }
            };
            let (mut all, mut miners) = ((0, 0), BTreeMap::new());
            for row in sqlx::query(sql).bind(id).fetch_all(&mut *snapshot).await.map_err(failed)? {
                let (worker, part) = (integer(&row, "worker_id")?, sum(&row)?);
                all = add(all, &part);
                let so_far = done.workers.entry(worker).or_default();
                *so_far = add(*so_far, &part);
                let of_miner: &mut Work = miners.entry(done.miners.get(&worker).copied()).or_default();
                *of_miner = of_miner.saturating_add(part.1);
            }
            if all != total {
                findings.push(format!("slot {id} does not sum to what its workers did"));
            }
            if !is_open {
                let by_miner = by_miner(snapshot, id).await?;
                if by_miner.into_iter().map(|(miner, work)| (Some(miner), work)).ne(miners) {
                    findings.push(format!("slot {id} has other work by miner than by worker"));
                }
            }
        }
        if !is_open && (kept.miners_from..kept.workers_from).contains(&id) {
            let by_miner = by_miner(snapshot, id).await?;
            if by_miner.values().fold(0, |sum: Work, work| sum.saturating_add(*work)) != total.1 {
                findings.push(format!("slot {id} does not sum to what its miners did"));
            }
        }
    }
    Ok(())
}

/// The work of a closed slot by miner.
pub(super) async fn by_miner(
    snapshot: &mut AnyConnection,
    slot: i64,
) -> Result<BTreeMap<i64, Work>, LedgerError> {
    let sql = "SELECT miner_id, CAST(work AS TEXT) AS work FROM slot_miner WHERE slot_id = $1";
    let rows = sqlx::query(sql).bind(slot).fetch_all(snapshot).await.map_err(failed)?;
    rows.iter().map(|row| Ok((integer(row, "miner_id")?, work(row, "work")?))).collect()
}

fn sum(row: &AnyRow) -> Result<Sum, LedgerError> {
    Ok((integer(row, "shares")?, work(row, "work")?))
}

fn add(sum: Sum, part: &Sum) -> Sum {
    (sum.0.saturating_add(part.0), sum.1.saturating_add(part.1))
}
