//! Does the ledger hold together? Everything that is kept twice is compared, and every split is done again.

use std::collections::{BTreeMap, HashMap};

use share::Work;
use sqlx::{AnyConnection, Row, any::AnyRow};

use crate::{
    Ledger, LedgerError,
    found::shown,
    journal::{self, Account},
    split::apportion,
    store::work,
};

/// What is wrong, in words; empty if nothing is.
type Findings = Vec<String>;

/// No more than this many are told at a time.
const MOST: usize = 20;

impl Ledger {
    /// Compares, in one snapshot: each transaction's entries with zero, balances with entries, all balances with the
    /// rewards, credits of blocks with their state and with the split done anew, and the totals of slots, workers and
    /// pool with each other. [`LedgerError::Unsound`] says what is wrong. Reads all of the journal and all slots.
    pub async fn verify(&self) -> Result<(), LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let mut findings = journal(&mut snapshot).await?;
        findings.extend(blocks(&mut snapshot).await?);
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

/// Every block on its own: what stands in the journal for it must follow from its row and its weights.
async fn blocks(snapshot: &mut AnyConnection) -> Result<Findings, LedgerError> {
    let mut findings = Findings::new();
    let sql = "SELECT b.id, b.hash, b.state, b.matured, b.reward_msat, b.fee_msat, b.credits, \
               CAST(b.window_work AS TEXT) AS window_work, \
               (SELECT COUNT(*) FROM txn t WHERE t.block_id = b.id AND t.kind = 'reward') AS rewards \
               FROM block b ORDER BY b.id";
    for row in rows(snapshot, sql).await? {
        let id = integer(&row, "id")?;
        let hash: Vec<u8> = row.try_get("hash").map_err(failed)?;
        let name =
            hash.try_into().map_or_else(|_| format!("block {id}"), |hash| format!("block {}", shown(&hash)));
        let (reward, fee) = (integer(&row, "reward_msat")?, integer(&row, "fee_msat")?);
        if integer(&row, "credits")? != integer(&row, "rewards")? {
            findings.push(format!("{name} counts other credits than the journal has"));
        }
        let mut weights = Vec::new();
        let query =
            sqlx::query("SELECT miner_id, CAST(work AS TEXT) AS work FROM block_weight WHERE block_id = $1");
        for row in query.bind(id).fetch_all(&mut *snapshot).await.map_err(failed)? {
            weights.push((integer(&row, "miner_id")?, work(&row, "work")?));
        }
        let total = weights.iter().fold(0, |sum: Work, (_, work)| sum.saturating_add(*work));
        if total != work(&row, "window_work")? {
            findings.push(format!("{name} has weights that do not sum to its window"));
        }
        let on_chain = matches!(text(&row, "state")?.as_str(), "immature" | "mature");
        let given = on_chain || integer(&row, "matured")? == 1;
        let mut expect: BTreeMap<i64, i128> = BTreeMap::new();
        if given {
            let rest = u128::try_from(reward.saturating_sub(fee)).unwrap_or(0);
            expect.extend(apportion(rest, &weights).into_iter().map(|(miner, part)| (miner, part as i128)));
            expect.retain(|_, part| *part != 0);
        }
        let (mut miners, mut fees, mut rewards, mut reserve) = (BTreeMap::new(), 0i128, 0i128, 0i128);
        for (account, amount) in journal::posted(snapshot, id).await? {
            let sum = match account {
                Account::Miner(miner, _) => miners.entry(miner).or_insert(0i128),
                Account::FeeImmature | Account::FeeAvailable => &mut fees,
                Account::Rewards => &mut rewards,
                Account::Reserve | Account::ReserveImmature => &mut reserve,
                // No block has anything to do with it: found below, as fees.
                Account::NetworkFee => &mut fees,
            };
            *sum += i128::from(amount);
        }
        miners.retain(|_, sum| *sum != 0);
        let reward_posted = if on_chain { -i128::from(reward) } else { 0 };
        let covered = if given && !on_chain { -i128::from(reward) } else { 0 };
        let fee_posted = if given { i128::from(fee) } else { 0 };
        if miners != expect {
            findings.push(format!("{name} is credited otherwise than its weights say"));
        }
        if (rewards, reserve, fees) != (reward_posted, covered, fee_posted) {
            findings.push(format!(
                "{name} has given {rewards}, fee {fees}, reserve {reserve} msat, against its state"
            ));
        }
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
