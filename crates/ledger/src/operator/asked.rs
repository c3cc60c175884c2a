//! What was moved by hand must be what somebody asked for: each such transaction against the orders.

use std::collections::{BTreeMap, HashMap};

use sqlx::{AnyConnection, Row};

use super::{Movement, book};
use crate::{LedgerError, journal::Account};

/// Transactions that nobody asked for, in words.
pub(crate) async fn check(snapshot: &mut AnyConnection) -> Result<Vec<String>, LedgerError> {
    let failed = LedgerError::database("read what was moved by hand");
    let sql = "SELECT argument FROM ledger_order WHERE done_ms IS NOT NULL AND outcome NOT LIKE 'refused:%' ORDER BY id";
    let mut asked: HashMap<String, BTreeMap<Account, i64>> = HashMap::new();
    for row in sqlx::query(sql).fetch_all(&mut *snapshot).await.map_err(&failed)? {
        let argument: String = row.try_get("argument").map_err(&failed)?;
        let Ok(movement) = serde_json::from_str::<Movement>(&argument) else { continue };
        if let Some((_, key, entries)) = book::entries(snapshot, &movement).await? {
            asked.insert(key, BTreeMap::from(entries));
        }
    }
    let sql = "SELECT t.idem_key, e.account_id, e.amount_msat FROM txn t JOIN entry e ON e.txn_id = t.id \
               WHERE t.kind = 'fund' OR t.idem_key LIKE 'correction:operator:%' ORDER BY t.id";
    let mut done: BTreeMap<String, BTreeMap<Account, i64>> = BTreeMap::new();
    for row in sqlx::query(sql).fetch_all(snapshot).await.map_err(&failed)? {
        let moves = done.entry(row.try_get("idem_key").map_err(&failed)?).or_default();
        if let Some(account) = Account::from_id(row.try_get("account_id").map_err(&failed)?) {
            moves.insert(account, row.try_get("amount_msat").map_err(&failed)?);
        }
    }
    let is_asked = |(key, moves): &(String, BTreeMap<Account, i64>)| asked.get(key) == Some(moves);
    let unasked = done.into_iter().filter(|one| !is_asked(one));
    Ok(unasked.map(|(key, _)| format!("{key} is nothing that the operator asked for")).collect())
}
