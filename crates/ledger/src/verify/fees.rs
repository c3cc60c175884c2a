//! The means of fees, worked out again from the blocks that they are of.

use std::collections::HashMap;

use sqlx::{AnyConnection, Row};

use super::{Findings, failed, integer, rows};
use crate::{LedgerError, fees::trimmed_mean};

pub(super) async fn check(snapshot: &mut AnyConnection) -> Result<Findings, LedgerError> {
    let mut blocks: HashMap<Vec<u8>, (Vec<u8>, u64)> = HashMap::new();
    for row in rows(snapshot, "SELECT hash, prev_hash, fees_sats FROM fee_block").await? {
        let of = |name: &str| row.try_get::<Vec<u8>, _>(name).map_err(failed);
        let fees = u64::try_from(integer(&row, "fees_sats")?).unwrap_or(u64::MAX);
        blocks.insert(of("hash")?, (of("prev_hash")?, fees));
    }
    let mut findings = Findings::new();
    let sql = "SELECT id, tip_hash, blocks, trimmed, mean_msat FROM fee_rate ORDER BY id";
    for row in rows(snapshot, sql).await? {
        let unsigned =
            |name: &str| Ok::<_, LedgerError>(u64::try_from(integer(&row, name)?).unwrap_or(u64::MAX));
        let mut at: Vec<u8> = row.try_get("tip_hash").map_err(failed)?;
        let (mut fees, count) = (Vec::new(), unsigned("blocks")?);
        while (fees.len() as u64) < count
            && let Some((below, sats)) = blocks.get(&at)
        {
            fees.push(*sats);
            at.clone_from(below);
        }
        let mean = trimmed_mean(&fees).map(|(mean, trimmed)| (mean, trimmed as u64));
        if fees.len() as u64 != count || mean != Some((unsigned("mean_msat")?, unsigned("trimmed")?)) {
            findings.push(format!("mean {} of fees is not that of its blocks", integer(&row, "id")?));
        }
    }
    Ok(findings)
}
