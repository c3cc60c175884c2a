//! Do the payments hold together? What the tables of payouts say is compared with the journal, and with the bytes.

use bdk_wallet::bitcoin::{Transaction, consensus::deserialize};
use sqlx::{AnyConnection, Row};

use super::rows::{failed, to_txid};
use crate::{Ledger, LedgerError};

/// Each finds nothing in good books; what it finds are a text and, where it says `{}`, what stands there.
const FAULTS: [(&str, &str); 5] = [
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
    (
        "{} is a transaction of no batch, and the journal has money in flight for it",
        "SELECT t.idem_key AS what FROM txn t WHERE t.kind = 'payout' \
         AND NOT EXISTS (SELECT 1 FROM payout p WHERE t.idem_key = 'payout:' || CAST(p.id AS TEXT))",
    ),
];

impl Ledger {
    /// What is wrong with the payments, in words; empty if nothing is. [`Ledger::verify`] looks at this too.
    pub async fn verify_payouts(&self) -> Result<Vec<String>, LedgerError> {
        payments(&mut *self.store().snapshot().await?).await
    }
}

/// See [`Ledger::verify_payouts`].
pub(crate) async fn payments(snapshot: &mut AnyConnection) -> Result<Vec<String>, LedgerError> {
    let mut findings = Vec::new();
    for (fault, sql) in FAULTS {
        for row in sqlx::query(sql).fetch_all(&mut *snapshot).await.map_err(failed)? {
            let what: String = row.try_get("what").map_err(failed)?;
            findings.push(fault.replace("{}", &what));
        }
    }
    findings.extend(bytes(snapshot).await?);
    Ok(findings)
}

/// The stored bytes must be the transaction that they are said to be.
async fn bytes(snapshot: &mut AnyConnection) -> Result<Vec<String>, LedgerError> {
    let sql = "SELECT txid, raw, payout_id FROM payout_tx WHERE raw IS NOT NULL ORDER BY payout_id, version";
    let mut findings = Vec::new();
    for row in sqlx::query(sql).fetch_all(snapshot).await.map_err(failed)? {
        let (txid, raw): (Vec<u8>, Vec<u8>) =
            (row.try_get("txid").map_err(failed)?, row.try_get("raw").map_err(failed)?);
        let batch: i64 = row.try_get("payout_id").map_err(failed)?;
        let is_same = deserialize::<Transaction>(&raw)
            .is_ok_and(|read| to_txid(&txid).ok() == Some(read.compute_txid()));
        if !is_same {
            findings
                .push(format!("the stored bytes of a transaction of batch {batch} are not that transaction"));
        }
    }
    Ok(findings)
}
