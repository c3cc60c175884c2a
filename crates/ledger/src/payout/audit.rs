//! Do the payments hold together? What the tables of payouts say is compared with the journal, and with the bytes.

use std::collections::BTreeMap;

use bdk_wallet::bitcoin::Network;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    amounts::{self, FeeFrom},
    rows::failed,
};
use crate::{LedgerError, journal::Account};

mod transactions;

/// Each finds nothing in good books; what it finds are a text and, where it says `{}`, what stands there.
const FAULTS: [(&str, &str); 4] = [
    (
        "the balance in flight of {} is not what the batches on their way pay to it",
        "SELECT m.address AS what FROM miner m LEFT JOIN account a ON a.id = m.id * 8 + 3 \
         WHERE COALESCE(a.balance_msat, 0) <> 1000 * COALESCE((SELECT SUM(i.sats) FROM payout_item i \
         JOIN payout p ON p.id = i.payout_id WHERE i.miner_id = m.id \
         AND p.state IN ('planned', 'signed', 'broadcast')), 0)",
    ),
    (
        "batch {} is not the sum of its payments",
        "SELECT CAST(p.id AS TEXT) AS what FROM payout p \
         WHERE p.sats <> (SELECT COALESCE(SUM(i.sats), 0) FROM payout_item i WHERE i.payout_id = p.id)",
    ),
    (
        "batch {} was not planned in the journal as it pays",
        "SELECT CAST(i.payout_id AS TEXT) AS what FROM payout_item i LEFT JOIN txn t \
         ON t.idem_key = 'payout:' || CAST(i.payout_id AS TEXT) LEFT JOIN entry e \
         ON e.txn_id = t.id AND e.account_id = i.miner_id * 8 + 3 \
         GROUP BY i.payout_id HAVING SUM(CASE WHEN COALESCE(e.amount_msat, 0) <> i.sats * 1000 THEN 1 ELSE 0 END) > 0",
    ),
    (
        "batch {} was paid, taken back or returned otherwise than the journal says",
        "SELECT CAST(id AS TEXT) AS what FROM (SELECT p.id, p.state, p.settlements, \
         (SELECT COUNT(*) FROM txn t WHERE t.idem_key LIKE 'paid:' || CAST(p.id AS TEXT) || ':%') AS paid, \
         (SELECT COUNT(*) FROM txn t WHERE t.idem_key LIKE 'reorg:payout:' || CAST(p.id AS TEXT) || ':%') AS back, \
         (SELECT COUNT(*) FROM txn t WHERE t.idem_key = 'return:' || CAST(p.id AS TEXT)) AS returned \
         FROM payout p) AS told WHERE paid <> settlements \
         OR back <> settlements - CASE WHEN state = 'paid' THEN 1 ELSE 0 END \
         OR returned <> CASE WHEN state = 'returned' THEN 1 ELSE 0 END",
    ),
];

/// What is wrong with the payments, in words; empty if nothing is.
pub(crate) async fn payments(
    snapshot: &mut AnyConnection,
    network: Network,
) -> Result<Vec<String>, LedgerError> {
    let mut findings = Vec::new();
    for (fault, sql) in FAULTS {
        for row in sqlx::query(sql).fetch_all(&mut *snapshot).await.map_err(failed)? {
            let what: String = row.try_get("what").map_err(failed)?;
            findings.push(fault.replace("{}", &what));
        }
    }
    findings.extend(moves(snapshot).await?);
    findings.extend(transactions::check(snapshot, network).await?);
    Ok(findings)
}

/// By account, millisatoshi; without those that come to nothing.
type Moves = BTreeMap<i64, i64>;

/// A batch as it was planned, and what its transactions leave to the network.
struct Plan {
    from: FeeFrom,
    items: Vec<(i64, u64)>,
    fees: Vec<u64>,
    /// Where it is paid: the key of that payment in the journal, and what the transaction that is on the chain has left.
    now: Option<(String, u64)>,
}

/// Each transaction of the journal about a payment must move what follows from its batch, and nothing else.
async fn moves(snapshot: &mut AnyConnection) -> Result<Vec<String>, LedgerError> {
    let plans = plans(snapshot).await?;
    let sql = "SELECT t.idem_key, e.account_id, e.amount_msat FROM txn t JOIN entry e ON e.txn_id = t.id \
               WHERE t.kind IN ('payout', 'paid', 'return') OR t.idem_key LIKE 'reorg:payout:%' ORDER BY t.id";
    let mut told: BTreeMap<String, Moves> = BTreeMap::new();
    for row in sqlx::query(sql).fetch_all(snapshot).await.map_err(failed)? {
        let amount: i64 = row.try_get("amount_msat").map_err(failed)?;
        let moves = told.entry(row.try_get("idem_key").map_err(failed)?).or_default();
        moves.insert(row.try_get("account_id").map_err(failed)?, amount);
    }
    let mut findings = Vec::new();
    for (key, moved) in told {
        let batch = key.trim_start_matches("reorg:").split(':').nth(1).and_then(|id| id.parse::<i64>().ok());
        let Some(plan) = batch.and_then(|batch| plans.get(&batch)) else {
            findings.push(format!("{key} is a transaction of no batch"));
            continue;
        };
        if !plan.may_move(&key).contains(&moved) {
            findings.push(format!("{key} moves otherwise than its batch pays"));
        }
    }
    Ok(findings)
}

async fn plans(snapshot: &mut AnyConnection) -> Result<BTreeMap<i64, Plan>, LedgerError> {
    let unsigned = |row: &AnyRow, name: &str| -> Result<u64, LedgerError> {
        let number: i64 = row.try_get(name).map_err(failed)?;
        Ok(u64::try_from(number).unwrap_or(0))
    };
    let mut plans = BTreeMap::new();
    let batches = "SELECT p.id, p.fee_from, p.settlements, t.fee_sats FROM payout p LEFT JOIN payout_tx t \
                   ON t.txid = p.txid AND t.payout_id = p.id AND p.state = 'paid'";
    for row in sqlx::query(batches).fetch_all(&mut *snapshot).await.map_err(failed)? {
        let id: i64 = row.try_get("id").map_err(failed)?;
        let from: String = row.try_get("fee_from").map_err(failed)?;
        let fee: Option<i64> = row.try_get("fee_sats").map_err(failed)?;
        let key = format!("paid:{id}:{}", unsigned(&row, "settlements")?);
        let now = fee.map(|fee| (key, u64::try_from(fee).unwrap_or(0)));
        let from = FeeFrom::parse(&from).unwrap_or(FeeFrom::Pool);
        plans.insert(id, Plan { from, items: Vec::new(), fees: Vec::new(), now });
    }
    let items = "SELECT payout_id, miner_id, sats FROM payout_item ORDER BY payout_id, miner_id";
    for row in sqlx::query(items).fetch_all(&mut *snapshot).await.map_err(failed)? {
        let batch: i64 = row.try_get("payout_id").map_err(failed)?;
        if let Some(plan) = plans.get_mut(&batch) {
            plan.items.push((row.try_get("miner_id").map_err(failed)?, unsigned(&row, "sats")?));
        }
    }
    let fees = sqlx::query("SELECT payout_id, fee_sats FROM payout_tx").fetch_all(snapshot).await;
    for row in fees.map_err(failed)? {
        let batch: i64 = row.try_get("payout_id").map_err(failed)?;
        if let Some(plan) = plans.get_mut(&batch) {
            plan.fees.push(unsigned(&row, "fee_sats")?);
        }
    }
    Ok(plans)
}

impl Plan {
    /// What the transaction with this key may move: of a payment that the chain took back, by whichever version it was.
    fn may_move(&self, key: &str) -> Vec<Moves> {
        let planned = amounts::planned(&self.items);
        let fees = match &self.now {
            Some((now, fee)) if now == key => std::slice::from_ref(fee),
            _ => &self.fees,
        };
        let paid = || fees.iter().filter_map(|fee| amounts::paid(&self.items, *fee, self.from));
        let entries: Vec<_> = match key.split(':').next() {
            Some("payout") => planned.into_iter().collect(),
            Some("return") => planned.map(amounts::reversed).into_iter().collect(),
            Some("paid") => paid().collect(),
            _ => paid().map(amounts::reversed).collect(),
        };
        let summed = |entries: Vec<(Account, i64)>| {
            let mut moves = Moves::new();
            entries
                .into_iter()
                .for_each(|(account, amount)| *moves.entry(account.id()).or_default() += amount);
            moves.retain(|_, amount| *amount != 0);
            moves
        };
        entries.into_iter().map(summed).collect()
    }
}
