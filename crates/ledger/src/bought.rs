//! Work that is paid at a fixed rate, whether or not blocks are found: PPS and its kin.
//!
//! A share is worth (its work / network work) x subsidy, less the fee, at the network target and height of its job; in FPPS
//! the mean fees of the chain's latest blocks come on top of the subsidy. It is paid by the slot, out of the reserve: for
//! each miner the work is summed exactly by target and subsidy, and what a sum leaves below a millisatoshi is kept with
//! the miner and goes into its next one. So nothing is lost over however many small shares.

use std::collections::BTreeMap;

use share::{Target, Work};
use sqlx::{AnyConnection, Row};

use crate::{
    LedgerError, Scheme,
    division::subsidy,
    journal::{self, Account, Kind, Post, Purse},
    split::{multiply_divide, ratio},
    store::{Column, Dialect, json, work, write},
    terms::Known,
};

/// What decides the value of work: network target and how often the subsidy has been halved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rate {
    pub bits: u32,
    pub halvings: u32,
}

/// One millisatoshi in the unit that rests are counted in.
pub(crate) const ONE: u128 = 1 << 62;

/// What `done`, the work of one miner by rate, is worth: whole millisatoshi, and the new rest.
pub(crate) fn worth(
    done: &[(Rate, Work)],
    mean_fees_msat: u64,
    fee_ppm: u32,
    rest: u64,
) -> Result<(i64, u64), LedgerError> {
    let unsound = || LedgerError::Unsound("the worth of a slot overflows".to_owned());
    let (mut whole, mut rest) = (0u128, u128::from(rest));
    for (rate, work) in done {
        // A target that is none has no blocks to expect.
        let Some(network) = Target::from_compact(rate.bits).map(Target::work).filter(|work| *work > 0) else {
            continue;
        };
        let block = u128::from(subsidy(rate.halvings)) + u128::from(mean_fees_msat);
        let kept = block * u128::from(1_000_000 - fee_ppm.min(1_000_000));
        let divisor = network.checked_mul(1_000_000).ok_or_else(unsound)?;
        let (quotient, remainder) = ratio(kept, *work, divisor).ok_or_else(unsound)?;
        whole = whole.checked_add(quotient).ok_or_else(unsound)?;
        // Up, so that thirds make a whole again.
        let (part, left) = multiply_divide(ONE, remainder, divisor);
        rest += part + u128::from(left > 0);
    }
    let whole = whole.checked_add(rest / ONE).ok_or_else(unsound)?;
    Ok((i64::try_from(whole).map_err(|_| unsound())?, (rest % ONE) as u64))
}

/// What the slots of one miner were worth, in their order: what [`pay`] writes, and what is compared with it.
pub(crate) struct Paid {
    pub miner: i64,
    pub msat: i64,
    pub rest: u64,
}

/// Pays a slot that has just been closed: `done` by miner.
pub(crate) async fn pay(
    connection: &mut AnyConnection,
    dialect: Dialect,
    slot: i64,
    terms: Known,
    done: &BTreeMap<(i64, Rate), Work>,
    now_ms: i64,
) -> Result<(), LedgerError> {
    let (rate, mean) = match terms.scheme {
        Scheme::Fpps { .. } => fee_rate(connection, slot).await?,
        _ => (None, 0),
    };
    if rate.is_some() {
        let sql = "UPDATE slot SET fee_rate_id = $1 WHERE id = $2";
        let query = sqlx::query(sql).bind(rate).bind(slot);
        query.execute(&mut *connection).await.map_err(LedgerError::database("note the fees of a slot"))?;
    }
    let miners: Vec<(i64,)> = by_miner(done).into_keys().map(|miner| (miner,)).collect();
    let rests = rests(connection, dialect, &miners).await?;
    let paid = value(done, mean, terms.fee_ppm, &rests)?;
    let rows: Vec<(i64, u64)> = paid.iter().map(|paid| (paid.miner, paid.rest)).collect();
    let sql = format!(
        "UPDATE miner SET rest = t.rest FROM {} AS t WHERE miner.id = t.id",
        dialect.table(&[("id", Column::Integer), ("rest", Column::Integer)])
    );
    write(connection, "keep what a slot has left over", sql, json(&rows), &[]).await?;
    let sum = paid.iter().try_fold(0i64, |sum, paid| sum.checked_add(paid.msat));
    let sum = sum.ok_or_else(|| LedgerError::Unsound(format!("slot {slot} is worth more than there is")))?;
    if sum == 0 {
        return Ok(());
    }
    let mut entries = vec![(Account::Reserve, -sum)];
    entries.extend(paid.iter().map(|paid| (Account::Miner(paid.miner, Purse::Available), paid.msat)));
    let key = format!("{}:{slot}:1", Kind::Slot.name());
    let post = Post { kind: Kind::Slot, key, block: None, now_ms, entries: &entries };
    journal::post(connection, dialect, &post).await
}

/// What each miner's part of a slot is worth, with the rests that it had before.
pub(crate) fn value(
    done: &BTreeMap<(i64, Rate), Work>,
    mean_fees_msat: u64,
    fee_ppm: u32,
    rests: &BTreeMap<i64, u64>,
) -> Result<Vec<Paid>, LedgerError> {
    let paid = |(miner, done): (i64, Vec<(Rate, Work)>)| {
        let rest = rests.get(&miner).copied().unwrap_or(0);
        let (msat, rest) = worth(&done, mean_fees_msat, fee_ppm, rest)?;
        Ok(Paid { miner, msat, rest })
    };
    by_miner(done).into_iter().map(paid).collect()
}

fn by_miner(done: &BTreeMap<(i64, Rate), Work>) -> BTreeMap<i64, Vec<(Rate, Work)>> {
    let mut miners: BTreeMap<i64, Vec<(Rate, Work)>> = BTreeMap::new();
    for ((miner, rate), work) in done {
        miners.entry(*miner).or_default().push((*rate, *work));
    }
    miners
}

async fn rests(
    connection: &mut AnyConnection,
    dialect: Dialect,
    miners: &[(i64,)],
) -> Result<BTreeMap<i64, u64>, LedgerError> {
    let failed = LedgerError::database("read what slots have left over");
    let sql = format!(
        "SELECT m.id, m.rest FROM {} AS t JOIN miner m ON m.id = t.id WHERE m.rest > 0",
        dialect.table(&[("id", Column::Integer)])
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(json(miners));
    let mut rests = BTreeMap::new();
    for row in query.fetch_all(connection).await.map_err(&failed)? {
        let rest: i64 = row.try_get("rest").map_err(&failed)?;
        rests.insert(row.try_get("id").map_err(&failed)?, u64::try_from(rest).unwrap_or(0));
    }
    Ok(rests)
}

/// The mean fees as last worked out, millisatoshi.
async fn fee_rate(connection: &mut AnyConnection, slot: i64) -> Result<(Option<i64>, u64), LedgerError> {
    let failed = LedgerError::database("read the mean of fees");
    let sql = "SELECT id, mean_msat FROM fee_rate ORDER BY id DESC LIMIT 1";
    let Some(row) = sqlx::query(sql).fetch_optional(connection).await.map_err(&failed)? else {
        tracing::error!(
            slot,
            "no node has told the fees of the latest blocks: this slot is paid without fees; see that a node answers getblockstats"
        );
        return Ok((None, 0));
    };
    let mean: i64 = row.try_get("mean_msat").map_err(&failed)?;
    Ok((row.try_get("id").map_err(&failed)?, u64::try_from(mean).unwrap_or(0)))
}

/// The work of a slot by miner and rate, as the database has it.
pub(crate) async fn done(
    connection: &mut AnyConnection,
    slot: i64,
) -> Result<BTreeMap<(i64, Rate), Work>, LedgerError> {
    let failed = LedgerError::database("read the rates of a slot");
    let sql = "SELECT miner_id, bits, halvings, CAST(work AS TEXT) AS work FROM slot_rate WHERE slot_id = $1";
    let mut done = BTreeMap::new();
    for row in sqlx::query(sql).bind(slot).fetch_all(connection).await.map_err(&failed)? {
        let small = |name: &str| {
            let value: i64 = row.try_get(name).map_err(&failed)?;
            u32::try_from(value)
                .map_err(|_| LedgerError::Unsound(format!("{name} of slot {slot} is {value}")))
        };
        let rate = Rate { bits: small("bits")?, halvings: small("halvings")? };
        done.insert((row.try_get("miner_id").map_err(&failed)?, rate), work(&row, "work")?);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAINNET: u32 = 0x1701_f0cc;

    fn check(done: &[(u32, u32, Work)], fees: u64, ppm: u32, rest: u64, expect: (i64, u64)) {
        let done: Vec<(Rate, Work)> = done
            .iter()
            .map(|(bits, halvings, work)| (Rate { bits: *bits, halvings: *halvings }, *work))
            .collect();
        assert_eq!(
            worth(&done, fees, ppm, rest).unwrap(),
            expect,
            "{done:?} fees {fees} ppm {ppm} rest {rest}"
        );
    }

    #[test]
    fn what_work_is_worth() {
        // Network work 2, subsidy 50 coins: one unit of work is worth 25.
        let half = 2_500_000_000_000;
        check(&[(0x207f_ffff, 0, 1)], 0, 0, 0, (half, 0));
        check(&[(0x207f_ffff, 0, 1)], 0, 10_000, 0, (half / 100 * 99, 0));
        check(&[(0x207f_ffff, 0, 1)], 100, 0, 0, (half + 50, 0));
        check(&[(0x207f_ffff, 0, 1), (0x207f_ffff, 1, 1)], 0, 0, 0, (half + half / 2, 0));
        check(&[(0x207f_ffff, 0, 1)], 1, 0, 0, (half, (ONE / 2) as u64));
        check(&[(0x207f_ffff, 0, 1)], 1, 0, (ONE / 2) as u64, (half + 1, 0));
        check(&[(0x207f_ffff, 0, 3)], 1, 1_000_000, 7, (0, 7));
        check(&[(0x207f_ffff, 64, 3)], 0, 0, 0, (0, 0));
        check(&[(0, 0, 3)], 5, 0, 9, (0, 9));
        check(&[], 5, 0, 9, (0, 9));
        // A block's worth of work is worth a block.
        let network = Target::from_compact(MAINNET).unwrap().work();
        check(&[(MAINNET, 4, network)], 0, 0, 0, (312_500_000_000, 0));
    }

    proptest! {
        /// Paid in however many pieces, the sum is what it would have been at once, to less than a millisatoshi.
        #[test]
        fn nothing_is_lost_over_small_shares(
            pieces in proptest::collection::vec(1u128..1 << 70, 1..60),
            fees in 0u64..1 << 40,
            ppm in 0u32..=1_000_000,
        ) {
            let rate = Rate { bits: MAINNET, halvings: 4 };
            let (mut sum, mut rest) = (0, 0);
            for piece in &pieces {
                let (msat, left) = worth(&[(rate, *piece)], fees, ppm, rest).unwrap();
                sum += msat;
                rest = left;
                prop_assert!(u128::from(rest) < ONE);
            }
            let (whole, left) = worth(&[(rate, pieces.iter().sum())], fees, ppm, 0).unwrap();
            // Each piece is rounded up by less than one unit of the rest: 2^-62 of a millisatoshi.
            let together = i128::from(whole) * ONE as i128 + i128::from(left);
            let apart = i128::from(sum) * ONE as i128 + i128::from(rest);
            prop_assert!((0..pieces.len() as i128).contains(&(apart - together)));
        }
    }
}
