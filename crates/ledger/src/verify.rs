//! Does the ledger hold together? Everything that is kept twice is compared, and every split is done again.

use std::path::{Path, PathBuf};

use bitcoin::Network;
use sqlx::{Any, AnyConnection, Row, Transaction, any::AnyRow};

use crate::{
    Hash, Ledger, LedgerError, PayError, audit,
    journal::Account,
    operator, payout,
    proof::{Seal, check_chain},
    store::Store,
};

mod blocks;
pub(crate) mod credits;
mod fees;
mod kinds;
mod raw;
mod shares;
mod steps;

/// What is wrong, in words; empty if nothing is.
type Findings = Vec<String>;

/// No more than this many are told at a time.
const MOST: usize = 20;

impl Ledger {
    /// Compares, in one snapshot: each transaction's entries with zero, balances with entries, all balances with the
    /// rewards, credits of blocks with their state and with the split done anew, the split of the newest blocks with their
    /// slots, credits of slots with what their work is worth, the totals of slots, workers and pool with each other, and
    /// payments with the journal. [`LedgerError::Unsound`] says what is wrong. Reads all of the journal and all slots.
    pub async fn verify(&self) -> Result<(), LedgerError> {
        let mut snapshot = self.store().whole_snapshot().await?;
        let mut findings = tables(&mut snapshot, credits::WINDOWS, &mut Vec::new()).await?;
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

/// Whose slots [`Audit::verify`] sums up again from the records, which takes longest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Those of the block with this hash, internal order.
    Block(Hash),
    /// All, if there are few; else those of a block by chance.
    #[default]
    Any,
    /// All.
    All,
}

/// What [`Audit::verify`] has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong; empty if nothing is.
    pub findings: Vec<String>,
    /// What could not be checked, and why.
    pub notes: Vec<String>,
    /// The block that was recomputed from the segments, internal order.
    pub block: Option<Hash>,
    /// Shares that were read again from the segments.
    pub shares: u64,
    /// What miners can ask for and has not left the wallet yet: available balances, payments under way. Millisatoshi.
    pub liabilities_msat: u64,
}

impl Report {
    /// Compares what is owed with what a wallet has, satoshi. What the reserve is short of (below zero, where work was bought
    /// that blocks have not paid for yet) is no fault of the books, but a note.
    pub fn compare_coins(&mut self, sats: u64, reserve_msat: i64) {
        let missing = u128::from(self.liabilities_msat).saturating_sub(u128::from(sats) * 1_000);
        if missing == 0 {
            return;
        }
        let owed = self.liabilities_msat;
        let words = format!("the wallet has {sats} satoshi, but {owed} millisatoshi are owed");
        if missing <= u128::from(reserve_msat.min(0).unsigned_abs()) {
            self.notes.push(format!("{words}: the reserve is at {reserve_msat}, which is to be put in"));
        } else {
            self.findings.push(words);
        }
    }
}

/// A look at a ledger from outside: reads the database and the spool's directory, locks and writes nothing, so it may be
/// done while the pool runs.
pub struct Audit {
    store: Store,
    spool: PathBuf,
}

impl Audit {
    /// Of the database at `url` and the spool in `spool`, which need not be there.
    ///
    /// # Errors
    /// If `url` names no database.
    pub fn open(url: &str, spool: &Path) -> Result<Self, LedgerError> {
        Ok(Self { store: Store::open_to_read(url)?, spool: spool.to_owned() })
    }

    /// The database as it is now.
    pub(crate) async fn snapshot(&self) -> Result<Transaction<'static, Any>, LedgerError> {
        self.store.snapshot().await
    }

    /// All that [`Ledger::verify`] compares, and: the chain of segments, each kept file with its root, every block with the
    /// record that it was found by, the open slot and those of `which` with the records that they were made of, and the
    /// weights of one block. If no record is missing, also what each worker did in all.
    pub async fn verify(&self, which: Which) -> Result<Report, LedgerError> {
        let mut snapshot = self.store.whole_snapshot().await?;
        let mut report = Report::default();
        let is_all = raw::reads_all(&mut snapshot, which).await?;
        let most = if is_all { usize::MAX } else { credits::WINDOWS };
        report.findings = tables(&mut snapshot, most, &mut report.notes).await?;
        report.liabilities_msat = payout::liabilities(&mut snapshot).await?;
        let network = network(&mut snapshot).await?;
        raw::check(&mut snapshot, (&self.spool, network), (which, is_all), &mut report).await?;
        Ok(report)
    }

    /// Adds to `report` whether the wallet with the name `name` ([`crate::Descriptors::name`]) has what is owed, by its own
    /// record of the chain.
    ///
    /// # Errors
    /// If the database cannot be asked. That the wallet's record cannot be read is a finding.
    pub async fn compare_wallet(&self, name: &str, report: &mut Report) -> Result<(), LedgerError> {
        let mut snapshot = self.store.snapshot().await?;
        match payout::coins(&mut snapshot, name).await {
            Ok(Some((sats, findings))) => {
                report.findings.extend(findings);
                let row = rows(&mut snapshot, "SELECT balance_msat FROM account WHERE id = 2").await?;
                report.compare_coins(sats, row.first().map_or(Ok(0), |row| integer(row, "balance_msat"))?);
            }
            Ok(None) => {
                report.notes.push("the wallet has not been opened yet: nothing to compare with".into())
            }
            Err(PayError::Ledger(error)) => return Err(error),
            Err(error) => report.findings.push(error.to_string()),
        }
        Ok(())
    }
}

/// What follows from the tables alone; `notes` gets what they cannot say any more.
async fn tables(
    snapshot: &mut AnyConnection,
    windows: usize,
    notes: &mut Vec<String>,
) -> Result<Findings, LedgerError> {
    let network = network(snapshot).await?;
    let mut findings = journal(snapshot).await?;
    findings.extend(blocks::check(snapshot, network).await?);
    findings.extend(credits::blocks(snapshot, windows, notes).await?);
    findings.extend(steps::check(snapshot).await?);
    findings.extend(credits::slots(snapshot, notes).await?);
    findings.extend(shares::check(snapshot, notes).await?);
    findings.extend(payout::payments(snapshot, network).await?);
    findings.extend(kinds::check(snapshot, network).await?);
    findings.extend(operator::asked::check(snapshot).await?);
    findings.extend(fees::check(snapshot).await?);
    let seals = seals(snapshot).await?;
    if let Some(first) = seals.first().filter(|first| first.sequence != 1) {
        findings.push(format!("the chain of segments begins with {}, not with 1", first.sequence));
    }
    if let Err(error) = check_chain(&seals) {
        findings.push(error.to_string());
    }
    Ok(findings)
}

/// The chain that this ledger is of.
async fn network(snapshot: &mut AnyConnection) -> Result<Network, LedgerError> {
    let row = rows(snapshot, "SELECT value FROM meta WHERE key = 'network'").await?;
    // Before it was ever opened it is of none.
    let Some(row) = row.first() else { return Ok(Network::Bitcoin) };
    let name = text(row, "value")?;
    name.parse().map_err(|_| LedgerError::Unsound(format!("meta names {name:?}, which is no network")))
}

/// The chain of segments.
async fn seals(snapshot: &mut AnyConnection) -> Result<Vec<Seal>, LedgerError> {
    let sql = "SELECT id, spool, writer, segment, shares, CAST(work AS TEXT) AS work, first_ms, last_ms, bytes, root, \
               previous, chain FROM segment ORDER BY id";
    rows(snapshot, sql).await?.iter().map(audit::seal).collect()
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
