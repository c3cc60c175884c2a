//! Does the ledger hold together? Everything that is kept twice is compared, and every split is done again.

use std::collections::HashMap;

use share::Work;
use sqlx::{AnyConnection, Row, any::AnyRow};

use crate::{Ledger, LedgerError, journal::Account, store::work};

pub(crate) mod credits;

/// What is wrong, in words; empty if nothing is.
type Findings = Vec<String>;

/// No more than this many are told at a time.
const MOST: usize = 20;

impl Ledger {
    /// Compares, in one snapshot: each transaction's entries with zero, balances with entries, all balances with the
    /// rewards, credits of blocks with their state and with the split done anew, the split of the newest blocks with their
    /// slots, credits of slots with what their work is worth, and the totals of slots, workers and pool with each other. [`LedgerError::Unsound`] says what is wrong. Reads all of the journal and all slots.
    pub async fn verify(&self) -> Result<(), LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let mut findings = journal(&mut snapshot).await?;
        findings.extend(credits::blocks(&mut snapshot).await?);
        findings.extend(credits::slots(&mut snapshot).await?);
        findings.extend(shares(&mut snapshot).await?);
        if findings.is_empty() {
            return Ok(());
        }
        let more = findings.len().saturating_sub(MOST);
        findings.truncate(MOST);
        if more > 0 {
            findings.push(format!("{more} more"));
        }
        Err(LedgerError::Unsound(findings.join("; ")))
    }
}

async fn journal(snapshot: &mut AnyConnection) -> Result<Findings, LedgerError> {
    let mut findings = Findings::new();
    let unbalanced = "SELECT t.idem_key AS what, CAST(SUM(e.amount_msat) AS BIGINT) AS amount \
                      FROM txn t JOIN entry e ON e.txn_id = t.id GROUP BY t.id, t.idem_key \
                      HAVING SUM(e.amount_msat) <> 0";
    for row in rows(snapshot, unbalanced).await? {
        findings.push(format!("{} sums to {} msat", text(&row, "what")?, integer(&row, "amount")?));
    }
    let unsealed = "SELECT CAST(COUNT(*) AS BIGINT) AS amount FROM entry e \
                    WHERE NOT EXISTS (SELECT 1 FROM txn t WHERE t.id = e.txn_id)";
    for row in rows(snapshot, unsealed).await? {
        let amount = integer(&row, "amount")?;
        if amount > 0 {
            findings.push(format!("{amount} entries have no transaction"));
        }
    }
    let accounts = "SELECT a.id, a.name, a.balance_msat, \
                    CAST(COALESCE((SELECT SUM(e.amount_msat) FROM entry e WHERE e.account_id = a.id), 0) AS BIGINT) \
                    AS entries FROM account a ORDER BY a.id";
    let mut sum = 0i128;
    for row in rows(snapshot, accounts).await? {
        let (id, name) = (integer(&row, "id")?, text(&row, "name")?);
        let (balance, entries) = (integer(&row, "balance_msat")?, integer(&row, "entries")?);
        sum += i128::from(balance);
        if balance != entries {
            findings.push(format!("account {name} says {balance} msat, its entries {entries}"));
        }
        match Account::from_id(id) {
            Some(account) if account.name() == name => {}
            _ => findings.push(format!("account {id} is called {name}")),
        }
        if id >= 8 && balance < 0 {
            findings.push(format!("account {name} is negative: {balance} msat"));
        }
    }
    if sum != 0 {
        findings.push(format!("miners and pool have {sum} msat more than the rewards have given"));
    }
    Ok(findings)
}

/// Slots, workers and pool must have counted the same shares.
async fn shares(snapshot: &mut AnyConnection) -> Result<Findings, LedgerError> {
    let mut findings = Findings::new();
    let mut by_worker: HashMap<i64, (i64, Work)> = HashMap::new();
    for slot in rows(snapshot, "SELECT id, shares, CAST(work AS TEXT) AS work FROM slot ORDER BY id").await? {
        let id = integer(&slot, "id")?;
        let mut sum = (0, 0);
        let query = sqlx::query(
            "SELECT worker_id, shares, CAST(work AS TEXT) AS work FROM slot_work WHERE slot_id = $1",
        );
        for row in query.bind(id).fetch_all(&mut *snapshot).await.map_err(failed)? {
            let part = (integer(&row, "shares")?, work(&row, "work")?);
            add(&mut sum, part);
            add(by_worker.entry(integer(&row, "worker_id")?).or_default(), part);
        }
        if sum != (integer(&slot, "shares")?, work(&slot, "work")?) {
            findings.push(format!("slot {id} does not sum to what its workers did"));
        }
    }
    let (mut all, mut rejected) = ((0, 0), 0);
    let workers =
        "SELECT id, accepted_shares, rejected_shares, CAST(work AS TEXT) AS work FROM worker ORDER BY id";
    for row in rows(snapshot, workers).await? {
        let id = integer(&row, "id")?;
        let total = (integer(&row, "accepted_shares")?, work(&row, "work")?);
        add(&mut all, total);
        rejected += integer(&row, "rejected_shares")?;
        if total != by_worker.remove(&id).unwrap_or_default() {
            findings.push(format!("worker {id} has other totals than its slots"));
        }
    }
    let tally = "SELECT accepted_shares, rejected_shares, CAST(work AS TEXT) AS work FROM tally";
    for row in rows(snapshot, tally).await? {
        let total = (integer(&row, "accepted_shares")?, work(&row, "work")?);
        if total != all || rejected != integer(&row, "rejected_shares")? {
            findings.push("the pool has other totals than its workers".to_owned());
        }
    }
    Ok(findings)
}

fn add(sum: &mut (i64, Work), part: (i64, Work)) {
    *sum = (sum.0 + part.0, sum.1.saturating_add(part.1));
}

async fn rows(snapshot: &mut AnyConnection, sql: &'static str) -> Result<Vec<AnyRow>, LedgerError> {
    sqlx::query(sql).fetch_all(snapshot).await.map_err(failed)
}

fn integer(row: &AnyRow, name: &str) -> Result<i64, LedgerError> {
    row.try_get(name).map_err(failed)
}

fn text(row: &AnyRow, name: &str) -> Result<String, LedgerError> {
    row.try_get(name).map_err(failed)
}

fn failed(source: sqlx::Error) -> LedgerError {
    LedgerError::Database { doing: "verify the ledger", source }
}
