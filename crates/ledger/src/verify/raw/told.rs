//! What all records of a spool say together: which blocks were found, and what each worker did in all.

use std::collections::{BTreeMap, HashMap};

use share::{Work, hash::shown};
use sqlx::{AnyConnection, Row};

use super::{
    super::{Report, failed, integer, rows},
    segments::Segments,
    slots::key,
};
use crate::{Found, Hash, LedgerError, WorkerId, proof::Name, record::Entry, spool::Position, store::work};

/// Gathered from one segment after the other.
#[derive(Default)]
pub(super) struct Told {
    /// Nothing that was ever written is missing.
    pub is_whole: bool,
    /// A block may have been put into the spool more than once.
    pub found: HashMap<Hash, Vec<Sighting>>,
    workers: BTreeMap<WorkerId, Totals>,
}

/// A record of a found block, and where it stands.
pub(super) struct Sighting {
    pub writer: u16,
    pub at: Position,
    pub found: Found,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    accepted: i64,
    rejected: i64,
    work: Work,
    /// 0: never.
    last_ms: i64,
}

impl Told {
    /// Takes in what of a segment is drained.
    pub fn add(&mut self, segments: &Segments<'_>, name: Name, bytes: &[u8]) {
        for (at, entry) in segments.drained(name, bytes) {
            match entry {
                Entry::Share(share) => {
                    let totals = self.workers.entry(share.worker).or_default();
                    totals.accepted += 1;
                    totals.work = totals.work.saturating_add(share.work);
                    totals.last_ms = totals.last_ms.max(i64::try_from(share.time_ms).unwrap_or(i64::MAX));
                }
                Entry::Rejects(rejects) => {
                    let totals = self.workers.entry(rejects.worker).or_default();
                    totals.rejected += i64::try_from(rejects.count).unwrap_or(0);
                }
                Entry::Found(found) => {
                    let sightings = self.found.entry(found.hash).or_default();
                    sightings.push(Sighting { writer: name.writer, at, found: *found });
                }
                Entry::Worker(_) | Entry::Segment(_) => {}
            }
        }
    }

    /// Compares what workers did in all; makes sense only where all is there.
    pub async fn check_workers(
        &self,
        snapshot: &mut AnyConnection,
        report: &mut Report,
    ) -> Result<(), LedgerError> {
        let sql = "SELECT id, key, accepted_shares, rejected_shares, CAST(work AS TEXT) AS work, \
                   COALESCE(last_share_ms, 0) AS last_ms FROM worker ORDER BY id";
        let mut missing = self.workers.clone();
        for row in rows(snapshot, sql).await? {
            let has = Totals {
                accepted: integer(&row, "accepted_shares")?,
                rejected: integer(&row, "rejected_shares")?,
                work: work(&row, "work")?,
                last_ms: integer(&row, "last_ms")?,
            };
            if has != missing.remove(&key(&row)?).unwrap_or_default() {
                let id = integer(&row, "id")?;
                report.findings.push(format!("worker {id} has other totals than its records"));
            }
        }
        if !missing.is_empty() {
            report.findings.push(format!("{} workers of the records are not there", missing.len()));
        }
        Ok(())
    }

    /// Whether each block has a record; makes sense only where all are there.
    pub async fn check_blocks(
        &self,
        snapshot: &mut AnyConnection,
        report: &mut Report,
    ) -> Result<(), LedgerError> {
        for row in rows(snapshot, "SELECT hash FROM block ORDER BY id").await? {
            let hash: Vec<u8> = row.try_get("hash").map_err(failed)?;
            let hash: Hash = hash.try_into().unwrap_or_default();
            if !self.found.contains_key(&hash) {
                report.findings.push(format!("block {} was never recorded", shown(&hash)));
            }
        }
        Ok(())
    }
}
