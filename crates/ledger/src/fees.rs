//! The mean fees of the chain's latest blocks, which FPPS pays for work. Of all blocks, whoever found them, as a node tells;
//! kept with the list of blocks that it is of, so that anybody can work it out again.

use std::{sync::Arc, time::Duration};

use share::{Hash, hash::shown};
use sqlx::{AnyConnection, Row};
use tokio::sync::watch;

use crate::{BlockFees, Chain, Ledger, LedgerError, clock, store::Store};

/// How many blocks the mean is of: a day of them.
const SPAN: usize = 144;
/// Of so many blocks, the one with the highest fees and the one with the lowest are left out: somebody's slip, and blocks
/// without transactions.
const TRIMMED: usize = 20;
/// The most blocks that are asked for at a time.
const AT_ONCE: usize = 32;

/// The mean fees of a block, as last worked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeanFees {
    /// Rounded down, millisatoshi.
    pub mean_msat: i64,
    /// How many of the highest, and how many of the lowest, were left out.
    pub trimmed: u32,
    /// When it was worked out, milliseconds since 1970.
    pub time_ms: i64,
    /// What it is of, newest first.
    pub blocks: Vec<FeeBlock>,
}

/// A block of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeBlock {
    /// Internal order.
    pub hash: Hash,
    /// Its height.
    pub height: u32,
    /// What its transactions pay, satoshi.
    pub fees_sats: u64,
}

/// The mean of `fees` (satoshi) without the highest and lowest, in millisatoshi, and how many of each were left out.
pub(crate) fn trimmed_mean(fees: &[u64]) -> Option<(u64, usize)> {
    let mut sorted = fees.to_vec();
    sorted.sort_unstable();
    let trimmed = sorted.len() / TRIMMED;
    let kept = &sorted[trimmed..sorted.len() - trimmed];
    let sum: u128 = kept.iter().map(|fees| u128::from(*fees) * 1_000).sum();
    let mean = sum.checked_div(kept.len() as u128)?;
    Some((u64::try_from(mean).ok()?, trimmed))
}

/// Works the mean out anew for every new tip, until `stop` is true.
pub(crate) async fn follow(
    store: &Store,
    chain: Arc<dyn Chain>,
    every: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut told = false;
    while !*stop.borrow() {
        match step(store, &*chain).await {
            Ok(true) => told = false,
            Ok(false) if !std::mem::replace(&mut told, true) => {
                tracing::warn!(
                    "no node tells the fees of the latest blocks; the last mean that was known is paid"
                );
            }
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::error!(%error, "the fees of the latest blocks cannot be kept");
            }
            _ => {}
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Asks for blocks that are not known yet, from the tip down, and works the mean out once they are. False if no node says.
pub(crate) async fn step(store: &Store, chain: &dyn Chain) -> Result<bool, LedgerError> {
    let failed = LedgerError::database("read the fees of blocks");
    let Some(tip) = chain.fees(None).await else { return Ok(false) };
    let mut snapshot = store.snapshot().await?;
    let last = sqlx::query("SELECT tip_hash FROM fee_rate ORDER BY id DESC LIMIT 1");
    let last: Option<Vec<u8>> = match last.fetch_optional(&mut *snapshot).await.map_err(&failed)? {
        Some(row) => Some(row.try_get("tip_hash").map_err(&failed)?),
        None => None,
    };
    if last.as_deref() == Some(&tip.hash[..]) {
        return Ok(true);
    }
    let (mut span, mut fresh) = (vec![tip], vec![tip]);
    while let Some(oldest) = span.last().copied().filter(|oldest| span.len() < SPAN && oldest.height > 1) {
        let below = known(&mut snapshot, &oldest.prev_hash, SPAN - span.len()).await?;
        if !below.is_empty() {
            span.extend(below);
            continue;
        }
        if fresh.len() > AT_ONCE {
            break;
        }
        let Some(below) = chain.fees(Some(&oldest.prev_hash)).await else { return Ok(false) };
        fresh.push(below);
        span.push(below);
    }
    let is_whole = span.len() == SPAN || span.last().is_some_and(|oldest| oldest.height <= 1);
    drop(snapshot);
    let fees: Vec<u64> = span.iter().map(|block| block.fees_sats).collect();
    let mean = trimmed_mean(&fees).filter(|_| is_whole);
    enter(store, &fresh, &tip, span.len(), mean).await?;
    Ok(true)
}

/// The block with this hash and those below it, as far as they are known, at most `most`.
async fn known(
    connection: &mut AnyConnection,
    hash: &Hash,
    most: usize,
) -> Result<Vec<BlockFees>, LedgerError> {
    let failed = LedgerError::database("read the fees of blocks");
    let sql = "WITH RECURSIVE span (hash, prev_hash, height, fees_sats, n) AS ( \
               SELECT hash, prev_hash, height, fees_sats, 1 FROM fee_block WHERE hash = $1 UNION ALL \
               SELECT b.hash, b.prev_hash, b.height, b.fees_sats, s.n + 1 \
               FROM span s JOIN fee_block b ON b.hash = s.prev_hash WHERE s.n < $2) \
               SELECT hash, prev_hash, height, fees_sats FROM span ORDER BY n";
    let query = sqlx::query(sql).bind(hash.to_vec()).bind(most as i64);
    let unsound =
        || LedgerError::Unsound(format!("the fees of blocks below {} are out of range", shown(hash)));
    let mut blocks = Vec::new();
    for row in query.fetch_all(connection).await.map_err(&failed)? {
        let of = |name: &str| row.try_get::<Vec<u8>, _>(name).map_err(&failed);
        let (height, fees): (i64, i64) =
            (row.try_get("height").map_err(&failed)?, row.try_get("fees_sats").map_err(&failed)?);
        blocks.push(BlockFees {
            hash: of("hash")?.try_into().map_err(|_| unsound())?,
            prev_hash: of("prev_hash")?.try_into().map_err(|_| unsound())?,
            height: u32::try_from(height).map_err(|_| unsound())?,
            fees_sats: u64::try_from(fees).map_err(|_| unsound())?,
        });
    }
    Ok(blocks)
}

async fn enter(
    store: &Store,
    fresh: &[BlockFees],
    tip: &BlockFees,
    blocks: usize,
    mean: Option<(u64, usize)>,
) -> Result<(), LedgerError> {
    let failed = LedgerError::database("keep the fees of blocks");
    let mut writer = store.writer().await?;
    let mut transaction = writer.begin().await?;
    for block in fresh {
        let sql = "INSERT INTO fee_block (hash, prev_hash, height, fees_sats) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (hash) DO NOTHING";
        let query = sqlx::query(sql)
            .bind(block.hash.to_vec())
            .bind(block.prev_hash.to_vec())
            .bind(i64::from(block.height))
            .bind(i64::try_from(block.fees_sats).unwrap_or(i64::MAX));
        query.execute(&mut *transaction).await.map_err(&failed)?;
    }
    if let Some((mean, trimmed)) = mean {
        let sql = "INSERT INTO fee_rate (id, tip_hash, blocks, trimmed, mean_msat, created_ms) \
                   SELECT COALESCE((SELECT MAX(id) FROM fee_rate), 0) + 1, $1, $2, $3, $4, $5";
        let query = sqlx::query(sql)
            .bind(tip.hash.to_vec())
            .bind(blocks as i64)
            .bind(trimmed as i64)
            .bind(i64::try_from(mean).unwrap_or(i64::MAX))
            .bind(clock::now_ms());
        query.execute(&mut *transaction).await.map_err(&failed)?;
        tracing::debug!(height = tip.height, mean_msat = mean, "mean fees");
    }
    transaction.commit().await.map_err(&failed)
}

impl Ledger {
    /// The mean fees that FPPS pays now, with the blocks that they are of; `None` if none have been worked out.
    pub async fn mean_fees(&self) -> Result<Option<MeanFees>, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        mean_fees(&mut snapshot, i64::MAX).await
    }
}

/// The mean with the number `id`, or the newest before it, with the blocks that it is of.
pub(crate) async fn mean_fees(
    snapshot: &mut AnyConnection,
    id: i64,
) -> Result<Option<MeanFees>, LedgerError> {
    let failed = LedgerError::database("read the mean of fees");
    let sql = "SELECT tip_hash, blocks, trimmed, mean_msat, created_ms FROM fee_rate WHERE id <= $1 \
               ORDER BY id DESC LIMIT 1";
    let row = sqlx::query(sql).bind(id).fetch_optional(&mut *snapshot).await.map_err(&failed)?;
    let Some(row) = row else { return Ok(None) };
    let (count, trimmed): (i64, i64) =
        (row.try_get("blocks").map_err(&failed)?, row.try_get("trimmed").map_err(&failed)?);
    let tip: Vec<u8> = row.try_get("tip_hash").map_err(&failed)?;
    let tip: Hash =
        tip.try_into().map_err(|_| LedgerError::Unsound("a hash of a block is not 32 bytes".to_owned()))?;
    let blocks = known(snapshot, &tip, usize::try_from(count).unwrap_or_default()).await?;
    let shown =
        |block: BlockFees| FeeBlock { hash: block.hash, height: block.height, fees_sats: block.fees_sats };
    Ok(Some(MeanFees {
        mean_msat: row.try_get("mean_msat").map_err(&failed)?,
        trimmed: u32::try_from(trimmed).unwrap_or(0),
        time_ms: row.try_get("created_ms").map_err(&failed)?,
        blocks: blocks.into_iter().map(shown).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means() {
        let check =
            |fees: &[u64], expect: Option<(u64, usize)>| assert_eq!(trimmed_mean(fees), expect, "{fees:?}");
        check(&[], None);
        check(&[7], Some((7_000, 0)));
        check(&[1, 2], Some((1_500, 0)));
        check(&[1, 1, 2], Some((1_333, 0)));
        // Of twenty, one at either end is left out.
        let mut fees = vec![10; 18];
        fees.extend([0, 1_000_000]);
        check(&fees, Some((10_000, 1)));
        fees.pop();
        check(&fees, Some((9_473, 0)));
        let day: Vec<u64> = (0..144).collect();
        check(&day, Some((71_500, 7)));
        check(&[u64::MAX], None);
    }
}
