//! What moves in the journal when a block takes a step.

use std::collections::BTreeMap;

use share::hash::shown;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::step::Block;
use crate::{
    LedgerError,
    division::{Division, Reward},
    journal::{self, Account, Purse},
    store::{Column, Dialect, json, work},
    window::{Weight, Weights},
};

type Entries = Vec<(Account, i64)>;
/// The same by account, without those that come to nothing.
pub(crate) type Moves = BTreeMap<Account, i64>;

/// It came on chain: the reward, divided as was fixed when the block was found.
///
/// A coinbase may pay a miner more than its part: then the rest is what the miner had from earlier blocks, and moves from
/// there. Should it not be there any more, the reserve stands in: nobody becomes negative for what a coinbase has paid.
pub(super) async fn credit(
    connection: &mut AnyConnection,
    dialect: Dialect,
    block: &Block,
) -> Result<Entries, LedgerError> {
    let division = divided(connection, block).await?;
    let mut entries = vec![
        (Account::Rewards, -block.reward_msat),
        (Account::FeeImmature, block.fee_msat),
        (Account::ReserveImmature, division.reserve),
    ];
    let parts: BTreeMap<i64, i64> = division.miners.into_iter().collect();
    entries.extend(parts.iter().map(|(miner, part)| (Account::Miner(*miner, Purse::Immature), *part)));
    if block.solo {
        return Ok(entries);
    }
    let over =
        |(miner, msat): (i64, i64)| Some((miner, msat - parts.get(&miner).unwrap_or(&0))).filter(|x| x.1 > 0);
    let over: Vec<(i64, i64)> = outputs(connection, block.id).await?.into_iter().filter_map(over).collect();
    for (miner, over) in over {
        entries.push((Account::Miner(miner, Purse::Immature), over));
        entries.push((Account::Miner(miner, Purse::Available), -over));
    }
    covered(connection, dialect, entries).await
}

/// It is deep enough: what the coinbase has paid is paid, the rest is available.
pub(super) async fn mature(connection: &mut AnyConnection, block: &Block) -> Result<Entries, LedgerError> {
    let paid = outputs(connection, block.id).await?;
    let posted = journal::posted(connection, block.id).await?.into_iter().collect();
    Ok(matures(&posted, &paid, block.solo).into_iter().collect())
}

/// What moves when a block matures that has `posted` so far, and whose coinbase has `paid` (all of it where it is solo).
pub(crate) fn matures(posted: &Moves, paid: &BTreeMap<i64, i64>, is_solo: bool) -> Moves {
    let of_coinbase = |miner: i64| if is_solo { i64::MAX } else { paid.get(&miner).copied().unwrap_or(0) };
    summed(posted.iter().flat_map(|(account, amount)| matured((*account, *amount), of_coinbase)))
}

fn summed(entries: impl Iterator<Item = (Account, i64)>) -> Moves {
    let mut moves = Moves::new();
    entries.for_each(|(account, amount)| {
        let sum: &mut i64 = moves.entry(account).or_default();
        *sum = sum.saturating_add(amount);
    });
    moves.retain(|_, amount| *amount != 0);
    moves
}

/// What moves when `entry` matures; `of_coinbase` says what a miner has been paid by the coinbase.
fn matured((account, amount): (Account, i64), of_coinbase: impl Fn(i64) -> i64) -> Entries {
    match account {
        Account::Miner(miner, Purse::Immature) => {
            let paid = of_coinbase(miner).min(amount);
            let to = |purse| Account::Miner(miner, purse);
            vec![(account, -amount), (to(Purse::Paid), paid), (to(Purse::Available), amount - paid)]
        }
        Account::FeeImmature => vec![(account, -amount), (Account::FeeAvailable, amount)],
        Account::ReserveImmature => vec![(account, -amount), (Account::Reserve, amount)],
        _ => Vec::new(),
    }
}

/// It left the chain before anything of it could be spent: all is taken back.
pub(super) async fn reverse(connection: &mut AnyConnection, block: &Block) -> Result<Entries, LedgerError> {
    let posted = journal::posted(connection, block.id).await?;
    Ok(posted.into_iter().map(|(account, amount)| (account, -amount)).collect())
}

/// It left the chain although it was mature. What its coinbase paid has gone with it and is taken back, to what it was
/// taken from; what else was available stays with miners and pool, and the reserve stands in.
pub(super) async fn cover(connection: &mut AnyConnection, block: &Block) -> Result<Entries, LedgerError> {
    let posted = journal::posted(connection, block.id).await?.into_iter().collect();
    Ok(covers(&posted).into_iter().collect())
}

/// See [`cover`].
pub(crate) fn covers(posted: &Moves) -> Moves {
    let back = |(account, amount): (&Account, &i64)| {
        let is_back = match account {
            Account::Rewards | Account::Miner(_, Purse::Paid) => true,
            Account::Miner(_, Purse::Available) => *amount < 0,
            _ => false,
        };
        is_back.then_some((*account, amount.saturating_neg()))
    };
    let entries: Entries = posted.iter().filter_map(back).collect();
    let sum = entries.iter().fold(0i64, |sum, (_, amount)| sum.saturating_add(*amount));
    summed(entries.into_iter().chain([(Account::Reserve, sum.saturating_neg())]))
}

/// It came back: what [`cover`] did is undone.
pub(super) async fn restore(
    connection: &mut AnyConnection,
    dialect: Dialect,
    block: &Block,
) -> Result<Entries, LedgerError> {
    let failed = LedgerError::database("read how the reserve stood in");
    let sql = "SELECT e.account_id AS account, e.amount_msat AS amount FROM txn t JOIN entry e ON e.txn_id = t.id \
               WHERE t.idem_key = $1";
    let key = format!("reorg:{}:{}", shown(&block.hash), block.credits);
    let rows = sqlx::query(sql).bind(key).fetch_all(&mut *connection).await.map_err(&failed)?;
    let mut entries = Entries::new();
    for row in rows {
        let id: i64 = row.try_get("account").map_err(&failed)?;
        let account =
            Account::from_id(id).ok_or_else(|| LedgerError::Unsound(format!("there is no account {id}")))?;
        let amount: i64 = row.try_get("amount").map_err(&failed)?;
        entries.push((account, -amount));
    }
    covered(connection, dialect, entries).await
}

/// Where `entries` take more from what a miner has available than there is, the reserve gives it instead.
async fn covered(
    connection: &mut AnyConnection,
    dialect: Dialect,
    mut entries: Entries,
) -> Result<Entries, LedgerError> {
    let taken: Vec<(i64,)> =
        entries.iter().filter(|entry| takes(entry)).map(|(account, _)| (account.id(),)).collect();
    if taken.is_empty() {
        return Ok(entries);
    }
    let failed = LedgerError::database("read balances");
    let sql = format!(
        "SELECT a.id, a.balance_msat FROM {} AS t JOIN account a ON a.id = t.id",
        dialect.table(&[("id", Column::Integer)])
    );
    let mut balances: BTreeMap<i64, i64> = BTreeMap::new();
    let query = sqlx::query(AssertSqlSafe(sql)).bind(json(&taken));
    for row in query.fetch_all(connection).await.map_err(&failed)? {
        balances.insert(row.try_get("id").map_err(&failed)?, row.try_get("balance_msat").map_err(&failed)?);
    }
    let mut short = 0;
    for (account, amount) in entries.iter_mut().filter(|entry| takes(entry)) {
        let balance = balances.get(&account.id()).copied().unwrap_or(0).max(0);
        let missing = (-*amount - balance).max(0);
        *amount += missing;
        short += missing;
    }
    if short > 0 {
        tracing::error!(
            msat = short,
            "a coinbase has paid balances that were not there any more; the reserve stands in"
        );
        entries.push((Account::Reserve, -short));
    }
    Ok(entries)
}

fn takes((account, amount): &(Account, i64)) -> bool {
    matches!(account, Account::Miner(_, Purse::Available)) && *amount < 0
}

/// What each miner gets of a block, and the reserve: from what is stored with the block only.
async fn divided(connection: &mut AnyConnection, block: &Block) -> Result<Division, LedgerError> {
    let of = |msat: i64| u64::try_from(msat).unwrap_or(0);
    let fees = block.reward_msat.saturating_sub(block.subsidy_msat);
    let reward = Reward { subsidy: of(block.subsidy_msat), fees: of(fees) };
    let weights = stored(connection, block.id).await?;
    reward
        .divide(of(block.fee_msat), &weights)
        .map_err(|error| LedgerError::Unsound(format!("block {}: {error}", shown(&block.hash))))
}

/// The weights that were fixed when a block was found.
pub(crate) async fn stored(connection: &mut AnyConnection, block: i64) -> Result<Weights, LedgerError> {
    let failed = LedgerError::database("read the split of a block");
    let sql = "SELECT CAST(bought_work AS TEXT) AS fees, CAST(bought_subsidy_work AS TEXT) AS subsidy \
               FROM block WHERE id = $1";
    let row = sqlx::query(sql).bind(block).fetch_one(&mut *connection).await.map_err(&failed)?;
    let bought = Weight { fees: work(&row, "fees")?, subsidy: work(&row, "subsidy")? };
    let sql = "SELECT miner_id, CAST(work AS TEXT) AS fees, CAST(COALESCE(subsidy_work, work) AS TEXT) AS subsidy \
               FROM block_weight WHERE block_id = $1 ORDER BY miner_id";
    let mut miners = Vec::new();
    for row in sqlx::query(sql).bind(block).fetch_all(connection).await.map_err(&failed)? {
        let weight = Weight { fees: work(&row, "fees")?, subsidy: work(&row, "subsidy")? };
        miners.push((row.try_get("miner_id").map_err(&failed)?, weight));
    }
    Ok(Weights { miners, bought })
}

/// What the coinbase of a block pays each miner, millisatoshi.
pub(crate) async fn outputs(
    connection: &mut AnyConnection,
    block: i64,
) -> Result<BTreeMap<i64, i64>, LedgerError> {
    let failed = LedgerError::database("read the outputs of a block");
    let sql = "SELECT miner_id, sats FROM block_output WHERE block_id = $1 AND miner_id IS NOT NULL";
    let mut outputs: BTreeMap<i64, i64> = BTreeMap::new();
    for row in sqlx::query(sql).bind(block).fetch_all(connection).await.map_err(&failed)? {
        let sats: i64 = row.try_get("sats").map_err(&failed)?;
        *outputs.entry(row.try_get("miner_id").map_err(&failed)?).or_default() += sats * 1_000;
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matures_moves_and_nothing_else() {
        let check = |account, paid: i64, expect: &[(Account, i64)]| {
            let mut got = matured((account, 5), |_| paid);
            got.retain(|(_, amount)| *amount != 0);
            assert_eq!(got, expect, "{account:?} paid {paid}");
        };
        let miner = |purse| Account::Miner(3, purse);
        let immature = (miner(Purse::Immature), -5);
        check(miner(Purse::Immature), 0, &[immature, (miner(Purse::Available), 5)]);
        check(miner(Purse::Immature), 3, &[immature, (miner(Purse::Paid), 3), (miner(Purse::Available), 2)]);
        check(miner(Purse::Immature), 5, &[immature, (miner(Purse::Paid), 5)]);
        check(miner(Purse::Immature), i64::MAX, &[immature, (miner(Purse::Paid), 5)]);
        check(Account::FeeImmature, 0, &[(Account::FeeImmature, -5), (Account::FeeAvailable, 5)]);
        check(Account::ReserveImmature, 9, &[(Account::ReserveImmature, -5), (Account::Reserve, 5)]);
        for other in [Account::Rewards, Account::Reserve, Account::FeeAvailable, miner(Purse::Available)] {
            check(other, 0, &[]);
        }
    }
}
