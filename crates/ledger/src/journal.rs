//! The journal: double entry. Every transaction sums to zero and is written once.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::{
    LedgerError,
    store::{Column, Dialect, json, one, write},
};

/// An account of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Account {
    /// Where rewards come from: as far below zero as miners and pool have been given.
    Rewards,
    /// Stands in for a reward that was available already when its block left the chain; pays work at a fixed rate, and
    /// has the rewards of blocks for it.
    Reserve,
    /// The pool's fee of blocks that are not 100 deep yet.
    FeeImmature,
    /// The pool's fee.
    FeeAvailable,
    /// What the network has taken for carrying payments.
    NetworkFee,
    /// The reserve's part of blocks that are not 100 deep yet.
    ReserveImmature,
    /// The operator himself: as far below zero as he has put in of his own, less what he has taken out.
    Operator,
    /// What a miner has.
    Miner(i64, Purse),
}

/// In which state a miner's money is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purse {
    /// Of blocks that are not 100 deep yet.
    Immature,
    /// To be paid.
    Available,
    /// Paid.
    Paid,
    /// In a payment that is not confirmed yet.
    InFlight,
}

/// What a transaction is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A block came on chain.
    Reward,
    /// It is 100 deep.
    Mature,
    /// It left the chain.
    Reorg,
    /// The work of a slot was credited at a fixed rate.
    Slot,
    /// A payment was planned.
    Payout,
    /// It is confirmed.
    Paid,
    /// It was given up.
    Return,
    /// The operator moved money between the pool's accounts and himself.
    Fund,
    /// The operator made good what was wrong with a miner's balance.
    Correction,
}

/// A transaction to be written.
pub(crate) struct Post<'a> {
    pub kind: Kind,
    /// What happened, named so that it happens once.
    pub key: String,
    /// The block that it is about, if it is about one.
    pub block: Option<i64>,
    pub now_ms: i64,
    /// Amounts of the same account are added up; those of zero are left out.
    pub entries: &'a [(Account, i64)],
}

impl Account {
    /// The number in the database: see the comment of `account.id`.
    pub fn id(self) -> i64 {
        match self {
            Self::Rewards => 1,
            Self::Reserve => 2,
            Self::FeeImmature => 3,
            Self::FeeAvailable => 4,
            Self::NetworkFee => 5,
            Self::ReserveImmature => 6,
            Self::Operator => 7,
            Self::Miner(miner, purse) => miner * 8 + purse as i64,
        }
    }

    pub fn from_id(id: i64) -> Option<Self> {
        match (id, id % 8) {
            (1, _) => Some(Self::Rewards),
            (2, _) => Some(Self::Reserve),
            (3, _) => Some(Self::FeeImmature),
            (4, _) => Some(Self::FeeAvailable),
            (5, _) => Some(Self::NetworkFee),
            (6, _) => Some(Self::ReserveImmature),
            (7, _) => Some(Self::Operator),
            (8.., 0) => Some(Self::Miner(id / 8, Purse::Immature)),
            (8.., 1) => Some(Self::Miner(id / 8, Purse::Available)),
            (8.., 2) => Some(Self::Miner(id / 8, Purse::Paid)),
            (8.., 3) => Some(Self::Miner(id / 8, Purse::InFlight)),
            _ => None,
        }
    }

    /// The name in the database, for people.
    pub fn name(self) -> String {
        match self {
            Self::Rewards => "rewards".to_owned(),
            Self::Reserve => "reserve".to_owned(),
            Self::FeeImmature => "pool:fee:immature".to_owned(),
            Self::FeeAvailable => "pool:fee:available".to_owned(),
            Self::NetworkFee => "network:fee".to_owned(),
            Self::ReserveImmature => "reserve:immature".to_owned(),
            Self::Operator => "operator".to_owned(),
            Self::Miner(miner, Purse::Immature) => format!("miner:{miner}:immature"),
            Self::Miner(miner, Purse::Available) => format!("miner:{miner}:available"),
            Self::Miner(miner, Purse::Paid) => format!("miner:{miner}:paid"),
            Self::Miner(miner, Purse::InFlight) => format!("miner:{miner}:in_flight"),
        }
    }
}

impl Kind {
    /// As in the database, and in keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reward => "reward",
            Self::Mature => "mature",
            Self::Reorg => "reorg",
            Self::Slot => "slot",
            Self::Payout => "payout",
            Self::Paid => "paid",
            Self::Return => "return",
            Self::Fund => "fund",
            Self::Correction => "correction",
        }
    }
}

/// Writes `post`. The database refuses it if its entries do not sum to zero, or if its key has been used.
pub(crate) async fn post(
    connection: &mut AnyConnection,
    dialect: Dialect,
    post: &Post<'_>,
) -> Result<(), LedgerError> {
    post_for(connection, dialect, post, None).await.map(drop)
}

/// [`post`] with the reason that the operator gave. The transaction's number.
pub(crate) async fn post_for(
    connection: &mut AnyConnection,
    dialect: Dialect,
    post: &Post<'_>,
    reason: Option<&str>,
) -> Result<i64, LedgerError> {
    let mut sums: BTreeMap<Account, i64> = BTreeMap::new();
    for (account, amount) in post.entries {
        let sum = sums.entry(*account).or_default();
        *sum =
            sum.checked_add(*amount).ok_or_else(|| LedgerError::Unsound("an amount overflows".to_owned()))?;
    }
    sums.retain(|_, amount| *amount != 0);

    let accounts: Vec<(i64, String, i64)> = sums
        .keys()
        .filter_map(|account| match account {
            Account::Miner(miner, _) => Some((account.id(), account.name(), *miner)),
            _ => None,
        })
        .collect();
    let table = dialect.table(&[("id", Column::Integer), ("name", Column::Text), ("miner", Column::Integer)]);
    let sql = format!(
        "INSERT INTO account (id, name, miner_id) SELECT t.id, t.name, t.miner FROM {table} AS t WHERE true \
         ON CONFLICT DO NOTHING"
    );
    write(connection, "open accounts", sql, json(&accounts), &[]).await?;

    let id: i64 = one(connection, "number a transaction", "SELECT COALESCE(MAX(id), 0) + 1 AS id FROM txn")
        .await?
        .try_get("id")
        .map_err(LedgerError::database("number a transaction"))?;
    let entries = json(&sums.iter().map(|(account, amount)| (account.id(), *amount)).collect::<Vec<_>>());
    let table = dialect.table(&[("account", Column::Integer), ("amount", Column::Integer)]);
    let sql = format!(
        "INSERT INTO entry (txn_id, account_id, amount_msat) SELECT $2, t.account, t.amount FROM {table} AS t"
    );
    write(connection, "write entries", sql, entries.clone(), &[id]).await?;
    let sql =
        "INSERT INTO txn (id, kind, idem_key, block_id, created_ms, reason) VALUES ($1, $2, $3, $4, $5, $6)";
    let query =
        sqlx::query(sql).bind(id).bind(post.kind.name()).bind(&post.key).bind(post.block).bind(post.now_ms);
    let query = query.bind(reason.map(str::to_owned));
    query.execute(&mut *connection).await.map_err(LedgerError::database("seal a transaction"))?;
    let sql = format!(
        "UPDATE account SET balance_msat = balance_msat + t.amount FROM {table} AS t WHERE account.id = t.account"
    );
    let changed = write(connection, "update balances", sql, entries, &[]).await?;
    if changed != sums.len() as u64 {
        return Err(LedgerError::Unsound(format!(
            "{} of {} accounts exist for {}",
            changed,
            sums.len(),
            post.key
        )));
    }
    Ok(id)
}

/// What stands in the journal for a block now: the sum of its transactions per account, without what is zero.
pub(crate) async fn posted(
    connection: &mut AnyConnection,
    block: i64,
) -> Result<Vec<(Account, i64)>, LedgerError> {
    let sql = "SELECT e.account_id AS account, CAST(SUM(e.amount_msat) AS BIGINT) AS amount \
               FROM txn t JOIN entry e ON e.txn_id = t.id WHERE t.block_id = $1 \
               GROUP BY e.account_id HAVING SUM(e.amount_msat) <> 0 ORDER BY e.account_id";
    let failed = LedgerError::database("read what a block has been credited");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(block).fetch_all(connection).await.map_err(&failed)?;
    let entry = |row: &sqlx::any::AnyRow| {
        let id: i64 = row.try_get("account").map_err(&failed)?;
        let account =
            Account::from_id(id).ok_or_else(|| LedgerError::Unsound(format!("there is no account {id}")))?;
        Ok((account, row.try_get("amount").map_err(&failed)?))
    };
    rows.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_numbers_of_their_own() {
        let mut accounts = vec![
            Account::Rewards,
            Account::Reserve,
            Account::FeeImmature,
            Account::FeeAvailable,
            Account::NetworkFee,
            Account::ReserveImmature,
            Account::Operator,
        ];
        for miner in [1, 2, 3, 1 << 40] {
            let purses = [Purse::Immature, Purse::Available, Purse::Paid, Purse::InFlight];
            accounts.extend(purses.map(|purse| Account::Miner(miner, purse)));
        }
        let mut ids: Vec<i64> = accounts.iter().map(|account| account.id()).collect();
        for (account, id) in accounts.iter().zip(&ids) {
            assert_eq!(Account::from_id(*id), Some(*account));
        }
        ids.dedup();
        assert_eq!(ids.len(), accounts.len());
        for id in [-8, 0, 12, 15] {
            assert_eq!(Account::from_id(id), None, "{id}");
        }
    }
}
