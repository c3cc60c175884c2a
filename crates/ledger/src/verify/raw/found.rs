//! Found blocks against their records: a block that was recorded must be there, and be what its record says.

use share::hash::shown;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    super::{Report, failed, integer, text},
    segments::Segments,
    slots::key,
    told::{Sighting, Told},
};
use crate::{LedgerError, Scheme};

pub(super) async fn check(
    snapshot: &mut AnyConnection,
    segments: &Segments<'_>,
    told: &Told,
    report: &mut Report,
) -> Result<(), LedgerError> {
    let mut hashes: Vec<_> = told.found.keys().collect();
    hashes.sort_unstable();
    for hash in hashes {
        let sql = "SELECT b.id, b.prev_hash, b.height, b.bits, b.coinbase_txid, b.value_sats, b.found_ms, b.scheme, \
                   b.factor, COALESCE(b.slot_id, 0) AS slot, COALESCE(b.window_bits, 0) AS window_bits, \
                   COALESCE(b.terms_id, 0) AS terms, w.key FROM block b JOIN worker w ON w.id = b.finder_id \
                   WHERE b.hash = $1";
        let query = sqlx::query(sql).bind(hash.to_vec());
        let Some(row) = query.fetch_optional(&mut *snapshot).await.map_err(failed)? else {
            report.findings.push(format!("block {} was recorded and is not there", shown(hash)));
            continue;
        };
        let outputs = outputs(snapshot, integer(&row, "id")?).await?;
        let mut wrong = None;
        for sighting in &told.found[hash] {
            wrong = differs(segments, &row, &outputs, sighting)?;
            if wrong.is_none() {
                break;
            }
        }
        if let Some(what) = wrong {
            report.findings.push(format!("block {} has another {what} than its record", shown(hash)));
        }
    }
    Ok(())
}

/// What of a block is not as its record says.
fn differs(
    segments: &Segments<'_>,
    row: &AnyRow,
    outputs: &[(Vec<u8>, u64)],
    sighting: &Sighting,
) -> Result<Option<&'static str>, LedgerError> {
    let found = &sighting.found;
    let bytes = |name: &str| row.try_get::<Vec<u8>, _>(name).map_err(failed);
    let number = |name: &str| Ok::<_, LedgerError>(u64::try_from(integer(row, name)?).unwrap_or(u64::MAX));
    let terms = match found.origin.and_then(|origin| segments.terms.get(origin.terms)) {
        Some(terms) => terms,
        None => segments.terms.of(sighting.at.segment >> 32)?,
    };
    let has_terms = integer(row, "terms")?;
    // Only a record of a version that did not keep terms may have a block without any.
    let is_old = found.origin.is_none() && has_terms == 0;
    let (scheme, factor) = (text(row, "scheme")?, number("factor")?);
    let is_solo = scheme == "solo";
    let is_scheme = match terms.scheme {
        _ if is_old => true,
        // Its coinbase paid the pool: it owes the finder.
        Scheme::Solo => (is_solo || scheme == "pplns") && factor == 0,
        // The record does not say whether it was solo; its weights do.
        _ if is_solo => found.origin.is_none(),
        other => scheme == other.name() && factor == u64::from(other.factor()),
    };
    let facts = [
        ("parent", bytes("prev_hash")? == found.prev_hash),
        ("height", number("height")? == u64::from(found.height)),
        ("network target", number("bits")? == u64::from(found.bits)),
        ("coinbase", bytes("coinbase_txid")? == found.coinbase_txid),
        ("value", number("value_sats")? == found.value_sats),
        ("time", number("found_ms")? == found.time_ms),
        ("finder", key(row)? == found.worker),
        ("set of outputs", outputs == found.outputs),
        ("set of terms", is_old || has_terms == terms.id),
        ("scheme", is_scheme),
        ("window", is_window(segments, (integer(row, "slot")?, number("window_bits")?), sighting)),
    ];
    Ok(facts.into_iter().find(|(_, is_right)| !is_right).map(|(what, _)| what))
}

/// Whether a block's window ends where its record says, or where the slots ended when the record was read.
fn is_window(segments: &Segments<'_>, (slot, bits): (i64, u64), sighting: &Sighting) -> bool {
    let (least, most) = closed_before(segments, sighting);
    let bits_of = |expect: u32| bits == 0 || bits == u64::from(expect);
    if let Some(split) = sighting.found.origin.and_then(|origin| origin.split) {
        let is_split = slot == split.slot && bits_of(split.bits);
        // One that names a slot which was not there, after the database was put back, is divided by the newest.
        if is_split || split.slot <= least {
            return is_split;
        }
    }
    (least..=most).contains(&slot) && bits_of(sighting.found.bits)
}

/// The newest slot that was closed when this record was read, as far as its writer tells: between these two.
fn closed_before(segments: &Segments<'_>, sighting: &Sighting) -> (i64, i64) {
    let ends = segments.ends.get(&sighting.writer).map(Vec::as_slice).unwrap_or_default();
    // The slot is closed before the record itself counts as passed.
    let before = ends.partition_point(|(_, end)| *end <= sighting.at);
    let least = before.checked_sub(1).and_then(|index| ends.get(index)).map_or(0, |(slot, _)| *slot);
    let most = ends.get(before).map_or(segments.newest(), |(slot, _)| slot - 1);
    (least, most)
}

async fn outputs(snapshot: &mut AnyConnection, block: i64) -> Result<Vec<(Vec<u8>, u64)>, LedgerError> {
    let sql = "SELECT script, sats FROM block_output WHERE block_id = $1 ORDER BY position";
    let rows = sqlx::query(sql).bind(block).fetch_all(snapshot).await.map_err(failed)?;
    let output = |row: &AnyRow| {
        let sats = u64::try_from(integer(row, "sats")?).unwrap_or(u64::MAX);
        Ok((row.try_get("script").map_err(failed)?, sats))
    };
    rows.iter().map(output).collect()
}
