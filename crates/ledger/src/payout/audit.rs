//! Do the payments hold together? What the tables of payouts say is compared with the journal, and with the bytes.

use std::collections::BTreeMap;

use bdk_wallet::bitcoin::Network;
use sqlx::{AnyConnection, Row};

use super::{
    PayoutState, amounts,
    rows::{self, Batch, failed, sats},
};
use crate::{LedgerError, journal::Account};

mod transactions;

use transactions::Owed;

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
    let batches = match rows::all(snapshot).await {
        Ok(batches) => batches,
        Err(LedgerError::Unsound(why)) => {
            findings.push(why);
            return Ok(findings);
        }
        Err(error) => return Err(error),
    };
    let (items, owed) = items(snapshot).await?;
    findings.extend(moves(snapshot, &batches, &items).await?);
    findings.extend(transactions::check(&batches, &owed, network));
    Ok(findings)
}

/// By account, millisatoshi; without those that come to nothing.
type Moves = BTreeMap<i64, i64>;

/// Whom batches pay, by batch: miner and satoshi, by miner.
type Items = BTreeMap<i64, Vec<(i64, u64)>>;

/// Whom each batch pays: by number of the miner, and by address.
async fn items(snapshot: &mut AnyConnection) -> Result<(Items, BTreeMap<i64, Owed>), LedgerError> {
    let sql = "SELECT i.payout_id, i.miner_id, m.address, i.sats FROM payout_item i \
               JOIN miner m ON m.id = i.miner_id ORDER BY i.payout_id, i.miner_id";
    let (mut items, mut owed) = (Items::new(), BTreeMap::<i64, Owed>::new());
    for row in sqlx::query(sql).fetch_all(snapshot).await.map_err(failed)? {
        let batch: i64 = row.try_get("payout_id").map_err(failed)?;
        let sats = sats(&row, "sats")?;
        items.entry(batch).or_default().push((row.try_get("miner_id").map_err(failed)?, sats));
        owed.entry(batch).or_default().push((row.try_get("address").map_err(failed)?, sats));
    }
    Ok((items, owed))
}

/// Each transaction of the journal about a payment must move what follows from its batch, and nothing else.
async fn moves(
    snapshot: &mut AnyConnection,
    batches: &[Batch],
    items: &Items,
) -> Result<Vec<String>, LedgerError> {
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
        let place = batch.and_then(|id| batches.binary_search_by_key(&id, |batch| batch.id).ok());
        let Some(batch) = place.and_then(|place| batches.get(place)) else {
            findings.push(format!("{key} is a transaction of no batch"));
            continue;
        };
        let items = items.get(&batch.id).map(Vec::as_slice).unwrap_or_default();
        if !may_move(batch, items, &key).contains(&moved) {
            findings.push(format!("{key} moves otherwise than its batch pays"));
        }
    }
    Ok(findings)
}

/// What the transaction with this key may move: of a payment that the chain took back, by whichever version it was.
fn may_move(batch: &Batch, items: &[(i64, u64)], key: &str) -> Vec<Moves> {
    let planned = amounts::planned(items);
    let is_now =
        batch.state == PayoutState::Paid && key == format!("paid:{}:{}", batch.id, batch.settlements);
    let confirmed = batch.txid.filter(|_| is_now);
    let versions = batch.versions.iter().filter(|version| confirmed.is_none_or(|txid| version.txid == txid));
    let paid = || versions.filter_map(|version| amounts::paid(items, version.fee, batch.fee_from));
    let entries: Vec<_> = match key.split(':').next() {
        Some("payout") => planned.into_iter().collect(),
        Some("return") => planned.map(amounts::reversed).into_iter().collect(),
        Some("paid") => paid().collect(),
        _ => paid().map(amounts::reversed).collect(),
    };
    let summed = |entries: Vec<(Account, i64)>| {
        let mut moves = Moves::new();
        entries.into_iter().for_each(|(account, amount)| *moves.entry(account.id()).or_default() += amount);
        moves.retain(|_, amount| *amount != 0);
        moves
    };
    entries.into_iter().map(summed).collect()
}
