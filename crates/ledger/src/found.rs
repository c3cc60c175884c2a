//! A found block as the drain meets it: the open slot is closed, the split is fixed, the block stands as candidate.

use bitcoin::Network;
use share::{Target, Work};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::{
    Found, LedgerError, Scheme, Terms, Worker,
    books::Books,
    spool::Read,
    store::{Column, Dialect, Hex, Whole, json, write},
    window,
};

/// How a block will be divided.
#[derive(Debug, PartialEq, Eq)]
struct Division {
    scheme: &'static str,
    factor: u32,
    reward_msat: i64,
    fee_msat: i64,
    /// How far back shares count; `None`: it is the finder's.
    window: Option<Work>,
}

/// What a coinbase pays whom decides; the terms of today say the rest. A block may have been mined under other terms
/// than the pool was restarted with, and what a coinbase has paid must not be owed as well.
fn divide(terms: &Terms, finder_script: &[u8], found: &Found) -> Division {
    let solo = terms.scheme == Scheme::Solo;
    let paid: u64 = found.outputs.iter().map(|(_, sats)| sats).sum();
    let to_finder =
        |(script, _): &&(Vec<u8>, u64)| script == finder_script && (solo || *script != terms.pool_script);
    let direct: u64 = found.outputs.iter().filter(to_finder).map(|(_, sats)| sats).sum();
    // `record` bounds these well below the 63 bits of millisatoshi.
    let msat = |sats: u64| i64::try_from(sats).unwrap_or(0).saturating_mul(1_000);
    if direct > 0 || (solo && terms.fee_ppm >= 1_000_000) {
        let fee_msat = msat(paid - direct);
        return Division { scheme: "solo", factor: 0, reward_msat: msat(paid), fee_msat, window: None };
    }
    let reward_msat = msat(found.value_sats);
    let fee = terms.fee(u64::try_from(reward_msat).unwrap_or(0));
    let fee_msat = i64::try_from(fee).unwrap_or(0);
    let (factor, window) = match terms.scheme {
        Scheme::Pplns { factor } => {
            let network = Target::from_compact(found.bits).map(Target::work);
            (factor, network.map(|work| work.saturating_mul(factor.into())))
        }
        Scheme::Solo => (0, None),
    };
    Division { scheme: "pplns", factor, reward_msat, fee_msat, window }
}

/// Enters the block. One that is known already changes nothing: a hash is found once.
pub(crate) async fn enter(
    connection: &mut AnyConnection,
    books: &mut Books,
    read: &Read,
    found: &Found,
    terms: &Terms,
    network: Network,
) -> Result<(), LedgerError> {
    let failed = LedgerError::database("enter a found block");
    let Some(finder) = books.worker(&found.worker).copied() else {
        books.set_aside(read, "found block of a worker that was never named");
        return Ok(());
    };
    let known = sqlx::query("SELECT id FROM block WHERE hash = $1").bind(found.hash.to_vec());
    if known.fetch_optional(&mut *connection).await.map_err(&failed)?.is_some() {
        tracing::debug!(hash = %shown(&found.hash), "a found block that is recorded already");
        return Ok(());
    }
    let time_ms = i64::try_from(found.time_ms).unwrap_or(i64::MAX);
    let newest = books.close_slot(connection, time_ms).await?;
    let division = divide(terms, &finder_script(connection, finder.miner, network).await?, found);
    let mut weights = match (division.window, newest) {
        (Some(length), Some(newest)) => window::weights(connection, newest, length).await?,
        _ => Vec::new(),
    };
    if weights.is_empty() {
        weights = vec![(finder.miner, 1)];
    }
    let window_work = weights.iter().fold(0, |sum: Work, (_, work)| sum.saturating_add(*work));

    let sql = "INSERT INTO block (id, hash, prev_hash, height, bits, coinbase_txid, value_sats, found_ms, finder_id, \
               slot_id, scheme, factor, window_work, reward_msat, fee_msat, state) \
               SELECT COALESCE((SELECT MAX(id) FROM block), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, ";
    let sql = match books.dialect {
        Dialect::Postgres => format!("{sql} CAST($12 AS NUMERIC), $13, $14, 'candidate' RETURNING id"),
        Dialect::Sqlite => format!("{sql} $12, $13, $14, 'candidate' RETURNING id"),
    };
    let block: i64 = sqlx::query(AssertSqlSafe(sql))
        .bind(found.hash.to_vec())
        .bind(found.prev_hash.to_vec())
        .bind(i64::from(found.height))
        .bind(i64::from(found.bits))
        .bind(found.coinbase_txid.to_vec())
        .bind(i64::try_from(found.value_sats).unwrap_or(0))
        .bind(time_ms)
        .bind(finder.id)
        .bind(newest)
        .bind(division.scheme)
        .bind(i64::from(division.factor))
        .bind(window_work.to_string())
        .bind(division.reward_msat)
        .bind(division.fee_msat)
        .fetch_one(&mut *connection)
        .await
        .and_then(|row| row.try_get("id"))
        .map_err(&failed)?;

    let rows: Vec<_> = weights.iter().map(|(miner, work)| (*miner, Whole(*work))).collect();
    let sql = format!(
        "INSERT INTO block_weight (block_id, miner_id, work) SELECT $2, t.miner, t.work FROM {} AS t",
        books.dialect.table(&[("miner", Column::Integer), ("work", Column::Work)])
    );
    write(connection, "fix the split of a block", sql, json(&rows), &[block]).await?;
    let rows: Vec<_> =
        found.outputs.iter().enumerate().map(|(at, (script, sats))| (at, Hex(script), *sats)).collect();
    let sql = format!(
        "INSERT INTO block_output (block_id, position, script, sats) SELECT $2, t.position, t.script, t.sats \
         FROM {} AS t",
        books.dialect.table(&[
            ("position", Column::Integer),
            ("script", Column::Bytes),
            ("sats", Column::Integer)
        ])
    );
    write(connection, "write the outputs of a block", sql, json(&rows), &[block]).await?;
    tracing::info!(
        hash = %shown(&found.hash), height = found.height, miners = weights.len(), reward_msat = division.reward_msat,
        "a found block is recorded"
    );
    Ok(())
}

async fn finder_script(
    connection: &mut AnyConnection,
    miner: i64,
    network: Network,
) -> Result<Vec<u8>, LedgerError> {
    let failed = LedgerError::database("read the finder's address");
    let query = sqlx::query("SELECT address FROM miner WHERE id = $1").bind(miner);
    let row = query.fetch_one(connection).await.map_err(&failed)?;
    let address: String = row.try_get("address").map_err(&failed)?;
    let finder = Worker::parse(&address, network)
        .map_err(|error| LedgerError::Unsound(format!("miner {miner} cannot be paid: {error}")))?;
    Ok(finder.script().to_vec())
}

/// A hash as people read it.
pub(crate) fn shown(hash: &share::Hash) -> String {
    let mut reversed = *hash;
    reversed.reverse();
    hex::encode(reversed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkerId;

    const FINDER: &[u8] = &[0xaa];
    const POOL: &[u8] = &[0xbb];

    fn check(
        (scheme, fee_ppm): (Scheme, u32),
        value_sats: u64,
        outputs: &[(&[u8], u64)],
        expect: (&'static str, u32, i64, i64, Option<Work>),
    ) {
        let terms = Terms { scheme, fee_ppm, pool_script: POOL.to_vec(), pool_address: String::new() };
        let found = Found {
            time_ms: 0,
            worker: WorkerId([0; 16]),
            hash: [0; 32],
            prev_hash: [0; 32],
            height: 1,
            bits: 0x1d00_ffff,
            coinbase_txid: [0; 32],
            value_sats,
            outputs: outputs.iter().map(|(script, sats)| (script.to_vec(), *sats)).collect(),
        };
        let (scheme, factor, reward_msat, fee_msat, window) = expect;
        let expect = Division { scheme, factor, reward_msat, fee_msat, window };
        assert_eq!(divide(&terms, FINDER, &found), expect, "{terms:?} {outputs:?}");
    }

    #[test]
    fn divisions() {
        let pplns = (Scheme::Pplns { factor: 2 }, 10_000);
        let solo = (Scheme::Solo, 10_000);
        let window = Some(2 * 4_295_032_833);
        check(pplns, 5_000, &[(POOL, 5_000)], ("pplns", 2, 5_000_000, 50_000, window));
        check(pplns, 5_001, &[(POOL, 5_001), (&[0x6a], 0)], ("pplns", 2, 5_001_000, 50_010, window));
        check((pplns.0, 1), 999, &[(POOL, 999)], ("pplns", 2, 999_000, 0, window));
        check((pplns.0, 2_000_000), 5, &[(POOL, 5)], ("pplns", 2, 5_000, 5_000, window));
        check(
            solo,
            5_000,
            &[(FINDER, 4_950), (POOL, 50), (&[0x6a], 0)],
            ("solo", 0, 5_000_000, 50_000, None),
        );
        check(solo, 5_000, &[(FINDER, 5_000)], ("solo", 0, 5_000_000, 0, None));
        check((Scheme::Solo, 1_000_000), 5_000, &[(POOL, 5_000)], ("solo", 0, 5_000_000, 5_000_000, None));
        // The coinbase pays less than it might: what is not there is not owed.
        check(solo, 5_000, &[(FINDER, 4_000)], ("solo", 0, 4_000_000, 0, None));
        // Found under other terms than those of today.
        check(pplns, 5_000, &[(FINDER, 4_950), (POOL, 50)], ("solo", 0, 5_000_000, 50_000, None));
        check(solo, 5_000, &[(POOL, 5_000)], ("pplns", 0, 5_000_000, 50_000, None));
    }

    #[test]
    fn a_pool_that_mines_for_itself() {
        let mut terms = Terms {
            scheme: Scheme::Solo,
            fee_ppm: 10_000,
            pool_script: POOL.to_vec(),
            pool_address: String::new(),
        };
        let found = Found {
            time_ms: 0,
            worker: WorkerId([0; 16]),
            hash: [0; 32],
            prev_hash: [0; 32],
            height: 1,
            bits: 0x1d00_ffff,
            coinbase_txid: [0; 32],
            value_sats: 700,
            outputs: vec![(POOL.to_vec(), 700)],
        };
        let solo = Division { scheme: "solo", factor: 0, reward_msat: 700_000, fee_msat: 0, window: None };
        assert_eq!(divide(&terms, POOL, &found), solo);
        terms.scheme = Scheme::Pplns { factor: 1 };
        assert_eq!(divide(&terms, POOL, &found).scheme, "pplns");
    }
}
