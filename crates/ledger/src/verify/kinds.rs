//! Every transaction must be of the kind that its key says, move only what its kind moves, and be about something: so nobody
//! writes himself a credit that no block, slot or batch stands for. What was done by hand has a reason, and workers are whose
//! they were.

use bitcoin::Network;
use sqlx::{AnyConnection, Row};

use super::{Findings, failed, integer, rows, text};
use crate::{LedgerError, Worker, WorkerId};

/// Each finds nothing in good books; `{}` is the key of a transaction.
const FAULTS: [(&str, &str); 6] = [
    (
        "{} moves accounts that a transaction of its kind does not",
        "SELECT DISTINCT t.idem_key AS what FROM txn t JOIN entry e ON e.txn_id = t.id WHERE NOT CASE \
         WHEN t.kind = 'fund' THEN e.account_id IN (2, 4, 7) \
         WHEN t.kind = 'correction' THEN e.account_id IN (2, 4) OR (e.account_id >= 8 AND e.account_id % 8 = 1) \
         WHEN t.kind = 'slot' THEN e.account_id = 2 OR (e.account_id >= 8 AND e.account_id % 8 = 1) \
         WHEN t.kind IN ('payout', 'return') THEN e.account_id >= 8 AND e.account_id % 8 IN (1, 3) \
         WHEN t.kind = 'paid' OR t.idem_key LIKE 'reorg:payout:%' \
         THEN e.account_id IN (4, 5) OR (e.account_id >= 8 AND e.account_id % 8 IN (2, 3)) \
         ELSE e.account_id NOT IN (5, 7) AND (e.account_id < 8 OR e.account_id % 8 <> 3) END ORDER BY t.idem_key",
    ),
    (
        "{} is about no block",
        "SELECT idem_key AS what FROM txn WHERE idem_key NOT LIKE 'reorg:payout:%' \
         AND kind IN ('reward', 'mature', 'reorg') \
         AND (block_id IS NULL OR block_id NOT IN (SELECT id FROM block)) ORDER BY id",
    ),
    (
        "{} was done by hand, and has no reason",
        "SELECT idem_key AS what FROM txn WHERE COALESCE(reason, '') = '' \
         AND kind IN ('fund', 'correction') ORDER BY id",
    ),
    (
        "{} corrects other than one miner's balance",
        "SELECT t.idem_key AS what FROM txn t WHERE t.kind = 'correction' \
         AND (SELECT COUNT(*) FROM entry e WHERE e.txn_id = t.id AND e.account_id >= 8) <> 1 ORDER BY t.id",
    ),
    (
        "{} is about no slot",
        "SELECT idem_key AS what FROM txn WHERE kind = 'slot' \
         AND idem_key NOT IN (SELECT 'slot:' || CAST(id AS TEXT) || ':1' FROM slot) ORDER BY id",
    ),
    (
        "{} is a transaction of another kind than its key says",
        "SELECT idem_key AS what FROM txn WHERE idem_key NOT LIKE kind || ':%' ORDER BY id",
    ),
];

pub(super) async fn check(snapshot: &mut AnyConnection, network: Network) -> Result<Findings, LedgerError> {
    let mut findings = Findings::new();
    for (fault, sql) in FAULTS {
        for row in rows(snapshot, sql).await? {
            findings.push(fault.replace("{}", &text(&row, "what")?));
        }
    }
    findings.extend(names(snapshot).await?);
    findings.extend(addresses(snapshot, network).await?);
    Ok(findings)
}

/// Whoever has an address of another network could not be paid.
async fn addresses(snapshot: &mut AnyConnection, network: Network) -> Result<Findings, LedgerError> {
    let mut findings = Findings::new();
    for row in rows(snapshot, "SELECT id, address FROM miner ORDER BY id").await? {
        let (id, address) = (integer(&row, "id")?, text(&row, "address")?);
        if Worker::parse(&address, network).is_err() {
            findings.push(format!("miner {id} has {address:?} for an address, which is none of {network}"));
        }
    }
    Ok(findings)
}

/// A worker's key is made of its address and name: so an address that was changed afterwards is found.
async fn names(snapshot: &mut AnyConnection) -> Result<Findings, LedgerError> {
    let sql =
        "SELECT w.id, w.key, w.name, m.address FROM worker w JOIN miner m ON m.id = w.miner_id ORDER BY w.id";
    let mut findings = Findings::new();
    for row in rows(snapshot, sql).await? {
        let key: Vec<u8> = row.try_get("key").map_err(failed)?;
        let identity = format!("{}.{}", text(&row, "address")?, text(&row, "name")?);
        if key != WorkerId::of(&identity).0 {
            let id = integer(&row, "id")?;
            findings
                .push(format!("worker {id} is not who its shares were for: {identity:?} has another key"));
        }
    }
    Ok(findings)
}
