//! What has moved on an account, for the operator to look at.

use sqlx::{AnyConnection, Row, any::AnyRow};

use crate::{
    Audit, LedgerError,
    accounts::miner_id,
    journal::{Account, Purse},
};

/// What one transaction has moved on an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEntry {
    /// Number of the transaction.
    pub txn: i64,
    /// When it was written, milliseconds since 1970.
    pub time_ms: i64,
    /// The account: of a miner only which of its purses.
    pub account: String,
    /// Millisatoshi; positive: it has more.
    pub msat: i64,
    /// What happened, named so that it happens once: kind, what it is about, how often.
    pub key: String,
    /// Why, where the operator did it.
    pub reason: Option<String>,
}

/// A piece of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountHistory {
    /// What each account has now, millisatoshi: of a miner one for each purse that there is.
    pub balances: Vec<(String, i64)>,
    /// Newest first.
    pub entries: Vec<AccountEntry>,
}

impl Audit {
    /// The newest entries of `who`, at most `limit`, of transactions before `before`: a miner by its canonical address, or an
    /// account of the pool by its name. `None` if there is neither.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn history(
        &self,
        who: &str,
        limit: u32,
        before: Option<i64>,
    ) -> Result<Option<AccountHistory>, LedgerError> {
        let mut snapshot = self.snapshot().await?;
        let ids = match (1..8).filter_map(Account::from_id).find(|account| account.name() == who) {
            Some(account) => vec![account.id()],
            None => match miner_id(&mut snapshot, who).await? {
                Some(miner) => [Purse::Immature, Purse::Available, Purse::Paid, Purse::InFlight]
                    .map(|purse| Account::Miner(miner, purse).id())
                    .to_vec(),
                None => return Ok(None),
            },
        };
        let (first, last) = (ids.first().copied().unwrap_or(0), ids.last().copied().unwrap_or(0));
        let balances = balances(&mut snapshot, first, last).await?;
        let sql = "SELECT t.id, t.created_ms, t.idem_key, t.reason, e.account_id, e.amount_msat \
                   FROM entry e JOIN txn t ON t.id = e.txn_id \
                   WHERE e.account_id BETWEEN $1 AND $2 AND e.txn_id < $3 ORDER BY e.txn_id DESC, e.account_id LIMIT $4";
        let query = sqlx::query(sql).bind(first).bind(last).bind(before.unwrap_or(i64::MAX));
        let rows = query.bind(i64::from(limit)).fetch_all(&mut *snapshot).await.map_err(failed)?;
        let entries = rows.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Some(AccountHistory { balances, entries }))
    }
}

async fn balances(
    snapshot: &mut AnyConnection,
    first: i64,
    last: i64,
) -> Result<Vec<(String, i64)>, LedgerError> {
    let sql = "SELECT id AS account_id, balance_msat FROM account WHERE id BETWEEN $1 AND $2 ORDER BY id";
    let rows = sqlx::query(sql).bind(first).bind(last).fetch_all(snapshot).await.map_err(failed)?;
    let balance = |row: &AnyRow| Ok((account(row)?, row.try_get("balance_msat").map_err(failed)?));
    rows.iter().map(balance).collect()
}

fn entry(row: &AnyRow) -> Result<AccountEntry, LedgerError> {
    Ok(AccountEntry {
        txn: row.try_get("id").map_err(failed)?,
        time_ms: row.try_get("created_ms").map_err(failed)?,
        account: account(row)?,
        msat: row.try_get("amount_msat").map_err(failed)?,
        key: row.try_get("idem_key").map_err(failed)?,
        reason: row.try_get("reason").map_err(failed)?,
    })
}

/// Of a miner's account the last part only: whose it is was asked for.
fn account(row: &AnyRow) -> Result<String, LedgerError> {
    let id: i64 = row.try_get("account_id").map_err(failed)?;
    let account =
        Account::from_id(id).ok_or_else(|| LedgerError::Unsound(format!("there is no account {id}")))?;
    let name = account.name();
    Ok(match account {
        Account::Miner(..) => name.rsplit(':').next().unwrap_or_default().to_owned(),
        _ => name,
    })
}

fn failed(source: sqlx::Error) -> LedgerError {
    LedgerError::Database { doing: "read the history of an account", source }
}
