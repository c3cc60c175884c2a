//! A found block as the drain meets it: the open slot is closed, the split is fixed, the block stands as candidate.

use bitcoin::{Address, Script};
use share::hash::shown;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::{
    Found, LedgerError, Scheme, SplitId, Terms, Worker,
    books::Books,
    division::Reward,
    spool::Read,
    store::{Column, Dialect, Whole, json, write},
    terms::Known,
    window::{Weight, Weights},
};

/// How a block will be divided, as far as its record and terms say.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    scheme: &'static str,
    factor: u32,
    reward_msat: u64,
    /// Where the coinbase says it; else it follows from the weights.
    fee_msat: Option<u64>,
    /// By the work in the window; else it is the finder's.
    by_window: bool,
}

/// What a coinbase pays whom comes before what terms say: what it has paid must not be owed as well. A record of a
/// version that did not keep the terms may be met under other ones than it was mined under, so there the outputs say
/// whether it was solo. Under solo terms what the coinbase pays to somebody who is neither finder nor pool is nobody's to
/// give any more: no more is owed than came to the pool.
fn plan(terms: Known, pool_script: &[u8], finder_script: &[u8], found: &Found) -> Plan {
    let solo = terms.scheme == Scheme::Solo;
    let paid: u64 = found.outputs.iter().map(|(_, sats)| sats).sum();
    let to_finder =
        |(script, _): &&(Vec<u8>, u64)| script == finder_script && (solo || script != pool_script);
    let direct: u64 = found.outputs.iter().filter(to_finder).map(|(_, sats)| sats).sum();
    let is_solo = match found.origin {
        Some(_) => solo && (direct > 0 || terms.fee_ppm >= 1_000_000),
        None => direct > 0 || (solo && terms.fee_ppm >= 1_000_000),
    };
    let to_others = |(script, _): &&(Vec<u8>, u64)| script != finder_script && script != pool_script;
    let others: u64 = found.outputs.iter().filter(to_others).map(|(_, sats)| sats).sum();
    // `record` bounds these well below the 63 bits of millisatoshi.
    let msat = |sats: u64| sats.saturating_mul(1_000);
    if is_solo {
        let (reward_msat, fee_msat) = (msat(paid - others), Some(msat(paid - others - direct)));
        return Plan { scheme: "solo", factor: 0, reward_msat, fee_msat, by_window: false };
    }
    // Solo terms, but the coinbase pays the pool: it owes the finder.
    let scheme = if solo { Scheme::Pplns { factor: 0 } } else { terms.scheme };
    Plan {
        scheme: scheme.name(),
        factor: scheme.factor(),
        reward_msat: msat(found.value_sats - if solo { others.min(found.value_sats) } else { 0 }),
        fee_msat: None,
        by_window: !solo,
    }
}

/// Enters the block. One that is known already changes nothing: a hash is found once.
pub(crate) async fn enter(
    connection: &mut AnyConnection,
    books: &mut Books,
    read: &Read,
    found: &Found,
    ours: &Terms,
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
    let terms = match found.origin.and_then(|origin| books.history.get(origin.terms)) {
        Some(terms) => terms,
        None => books.terms(read)?,
    };
    let finder_script = finder_script(connection, finder.miner, books.network).await?;
    let plan = plan(terms, &ours.pool_script, &finder_script, found);
    // A job that pays a split says which; no job can know of a slot that we do not have.
    let split = found.origin.and_then(|origin| origin.split);
    let split = split.filter(|split| newest.is_some_and(|newest| (1..=newest).contains(&split.slot)));
    let split = split.or(newest.map(|slot| SplitId { slot, bits: found.bits }));
    let mut weights = match split.filter(|_| plan.by_window) {
        Some(split) => books.weights(connection, split.slot, split.bits).await?,
        None => Weights::default(),
    };
    if weights.is_empty() {
        // Nobody has worked for it but its finder, and where work is paid for, the pool has paid for that.
        match terms.scheme.buys() {
            true => weights.bought = Weight::all(1),
            false => weights.miners = vec![(finder.miner, Weight::all(1))],
        }
    }
    let reward = Reward::of(books.network, found.height, plan.reward_msat);
    let fee_msat = plan.fee_msat.unwrap_or_else(|| reward.fee(terms.fee_ppm, &weights));
    let block = insert(connection, books, found, &weights, |query| {
        query
            .bind(finder.id)
            .bind(split.map(|split| split.slot))
            .bind(split.map(|split| i64::from(split.bits)))
            .bind(terms.id)
            .bind(plan.scheme)
            .bind(i64::from(plan.factor))
            .bind(i64::try_from(plan.reward_msat).unwrap_or(0))
            .bind(i64::try_from(reward.subsidy).unwrap_or(0))
            .bind(i64::try_from(fee_msat).unwrap_or(0))
    })
    .await?;
    write_outputs(connection, books, block, found, &ours.pool_script).await?;
    tracing::info!(
        hash = %shown(&found.hash), height = found.height, scheme = plan.scheme, miners = weights.miners.len(),
        reward_msat = plan.reward_msat, "a found block is recorded"
    );
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

/// Writes the block and its weights; `rest` binds what is known of it beyond its record.
async fn insert(
    connection: &mut AnyConnection,
    books: &Books,
    found: &Found,
    weights: &Weights,
    rest: impl FnOnce(Query<'_>) -> Query<'_>,
) -> Result<i64, LedgerError> {
    let failed = LedgerError::database("enter a found block");
    let whole = |number: u32| match books.dialect {
        Dialect::Postgres => format!("CAST(${number} AS NUMERIC)"),
        Dialect::Sqlite => format!("${number}"),
    };
    let sql = format!(
        "INSERT INTO block (id, hash, prev_hash, height, bits, coinbase_txid, value_sats, found_ms, \
         window_work, bought_work, bought_subsidy_work, \
         finder_id, slot_id, window_bits, terms_id, scheme, factor, reward_msat, subsidy_msat, fee_msat, state) \
         SELECT COALESCE((SELECT MAX(id) FROM block), 0) + 1, $1, $2, $3, $4, $5, $6, $7, {}, {}, {}, \
         $11, $12, $13, $14, $15, $16, $17, $18, $19, 'candidate' RETURNING id",
        whole(8),
        whole(9),
        whole(10)
    );
    let query = sqlx::query(AssertSqlSafe(sql))
        .bind(found.hash.to_vec())
        .bind(found.prev_hash.to_vec())
        .bind(i64::from(found.height))
        .bind(i64::from(found.bits))
        .bind(found.coinbase_txid.to_vec())
        .bind(i64::try_from(found.value_sats).unwrap_or(0))
        .bind(i64::try_from(found.time_ms).unwrap_or(i64::MAX))
        .bind(weights.total().to_string())
        .bind(weights.bought.fees.to_string())
        .bind(weights.bought.subsidy.to_string());
    let row = rest(query).fetch_one(&mut *connection).await;
    let block: i64 = row.and_then(|row| row.try_get("id")).map_err(&failed)?;

    let row = |(miner, weight): &(i64, Weight)| {
        let subsidy = Some(weight.subsidy).filter(|subsidy| *subsidy != weight.fees);
        (*miner, Whole(weight.fees), subsidy.map(Whole))
    };
    let rows: Vec<_> = weights.miners.iter().map(row).collect();
    let sql = format!(
        "INSERT INTO block_weight (block_id, miner_id, work, subsidy_work) \
         SELECT $2, t.miner, t.work, t.subsidy FROM {} AS t",
        books.dialect.table(&[("miner", Column::Integer), ("work", Column::Work), ("subsidy", Column::Work)])
    );
    write(connection, "fix the split of a block", sql, json(&rows), &[block]).await?;
    Ok(block)
}

/// Writes what the coinbase pays, and to which miner. What goes to the pool's own script is the pool's, though a miner
/// should call it its own.
async fn write_outputs(
    connection: &mut AnyConnection,
    books: &Books,
    block: i64,
    found: &Found,
    pool_script: &[u8],
) -> Result<(), LedgerError> {
    let row = |(at, (script, sats)): (usize, &(Vec<u8>, u64))| {
        let address = Some(script).filter(|script| *script != pool_script);
        let address =
            address.and_then(|script| Address::from_script(Script::from_bytes(script), books.network).ok());
        (at, hex::encode(script), *sats, address.map(|address| address.to_string()))
    };
    let rows: Vec<_> = found.outputs.iter().enumerate().map(row).collect();
    let sql = format!(
        "INSERT INTO block_output (block_id, position, script, sats, miner_id) \
         SELECT $2, t.position, t.script, t.sats, m.id FROM {} AS t LEFT JOIN miner m ON m.address = t.address",
        books.dialect.table(&[
            ("position", Column::Integer),
            ("script", Column::Bytes),
            ("sats", Column::Integer),
            ("address", Column::Text)
        ])
    );
    write(connection, "write the outputs of a block", sql, json(&rows), &[block]).await.map(drop)
}

async fn finder_script(
    connection: &mut AnyConnection,
    miner: i64,
    network: bitcoin::Network,
) -> Result<Vec<u8>, LedgerError> {
    let failed = LedgerError::database("read the finder's address");
    let query = sqlx::query("SELECT address FROM miner WHERE id = $1").bind(miner);
    let row = query.fetch_one(connection).await.map_err(&failed)?;
    let address: String = row.try_get("address").map_err(&failed)?;
    let finder = Worker::parse(&address, network)
        .map_err(|error| LedgerError::Unsound(format!("miner {miner} cannot be paid: {error}")))?;
    Ok(finder.script().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkerId;

    const FINDER: &[u8] = &[0xaa];
    const POOL: &[u8] = &[0xbb];

    fn known(scheme: Scheme, fee_ppm: u32) -> Known {
        Known { id: 1, scheme, fee_ppm }
    }

    fn found(value_sats: u64, outputs: &[(&[u8], u64)]) -> Found {
        Found {
            time_ms: 0,
            worker: WorkerId([0; 16]),
            hash: [0; 32],
            prev_hash: [0; 32],
            height: 1,
            bits: 0x1d00_ffff,
            coinbase_txid: [0; 32],
            value_sats,
            outputs: outputs.iter().map(|(script, sats)| (script.to_vec(), *sats)).collect(),
            origin: None,
        }
    }

    fn check(
        (scheme, fee_ppm): (Scheme, u32),
        value_sats: u64,
        outputs: &[(&[u8], u64)],
        expect: (&'static str, u32, u64, Option<u64>),
    ) {
        let by_window = expect.0 != "solo" && scheme != Scheme::Solo;
        let (scheme_name, factor, reward_msat, fee_msat) = expect;
        let expect = Plan { scheme: scheme_name, factor, reward_msat, fee_msat, by_window };
        let found = found(value_sats, outputs);
        assert_eq!(plan(known(scheme, fee_ppm), POOL, FINDER, &found), expect, "{scheme:?} {outputs:?}");
    }

    #[test]
    fn plans() {
        let pplns = (Scheme::Pplns { factor: 2 }, 10_000);
        let solo = (Scheme::Solo, 10_000);
        check(pplns, 5_000, &[(POOL, 5_000)], ("pplns", 2, 5_000_000, None));
        check((Scheme::Tides, 0), 5_001, &[(POOL, 5_001), (&[0x6a], 0)], ("tides", 8, 5_001_000, None));
        check((Scheme::Pps { factor: 3 }, 0), 999, &[(POOL, 999)], ("pps", 3, 999_000, None));
        check(
            solo,
            5_000,
            &[(FINDER, 4_950), (POOL, 50), (&[0x6a], 0)],
            ("solo", 0, 5_000_000, Some(50_000)),
        );
        check(solo, 5_000, &[(FINDER, 5_000)], ("solo", 0, 5_000_000, Some(0)));
        check((Scheme::Solo, 1_000_000), 5_000, &[(POOL, 5_000)], ("solo", 0, 5_000_000, Some(5_000_000)));
        // The coinbase pays less than it might: what is not there is not owed.
        check(solo, 5_000, &[(FINDER, 4_000)], ("solo", 0, 4_000_000, Some(0)));
        // Somebody else is paid by it: only what came to the pool can be owed.
        check(solo, 5_000, &[(&[0xcc], 4_950), (POOL, 50)], ("pplns", 0, 50_000, None));
        check(
            solo,
            5_000,
            &[(FINDER, 3_000), (&[0xcc], 1_950), (POOL, 50)],
            ("solo", 0, 3_050_000, Some(50_000)),
        );
        // Of a version that kept no terms, found under other terms than those of today.
        check(pplns, 5_000, &[(FINDER, 4_950), (POOL, 50)], ("solo", 0, 5_000_000, Some(50_000)));
        check(solo, 5_000, &[(POOL, 5_000)], ("pplns", 0, 5_000_000, None));
    }

    #[test]
    fn a_finder_may_be_paid_by_a_split() {
        let mut found = found(5_000, &[(FINDER, 3_000), (&[0xcc], 1_000), (POOL, 1_000)]);
        found.origin = Some(crate::Origin { terms: 1, split: None });
        let plan = plan(known(Scheme::Tides, 10_000), POOL, FINDER, &found);
        assert_eq!(
            (plan.scheme, plan.reward_msat, plan.fee_msat, plan.by_window),
            ("tides", 5_000_000, None, true)
        );
    }

    #[test]
    fn a_pool_that_mines_for_itself() {
        let found = found(700, &[(POOL, 700)]);
        let plan_of = |scheme| plan(known(scheme, 10_000), POOL, POOL, &found);
        let solo =
            Plan { scheme: "solo", factor: 0, reward_msat: 700_000, fee_msat: Some(0), by_window: false };
        assert_eq!(plan_of(Scheme::Solo), solo);
        assert_eq!(plan_of(Scheme::Pplns { factor: 1 }).scheme, "pplns");
    }
}
