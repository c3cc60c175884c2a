//! What was moved by hand: only where it may be, and with a reason; and every transaction is of the kind that its key says.

use sqlx::AnyConnection;

use super::{Findings, rows, text};
use crate::LedgerError;

/// Each finds nothing in good books; `{}` is the key of a transaction.
const FAULTS: [(&str, &str); 4] = [
    (
        "{} is a correction, and moves more than available balances, fee and reserve",
        "SELECT DISTINCT t.idem_key AS what FROM txn t JOIN entry e ON e.txn_id = t.id WHERE t.kind = 'correction' \
         AND NOT (e.account_id IN (2, 4) OR (e.account_id >= 8 AND e.account_id % 8 = 1)) ORDER BY t.idem_key",
    ),
    (
        "{} is funding, and moves more than fee, reserve and what is the operator's",
        "SELECT DISTINCT t.idem_key AS what FROM txn t JOIN entry e ON e.txn_id = t.id WHERE t.kind = 'fund' \
         AND e.account_id NOT IN (2, 4, 7) ORDER BY t.idem_key",
    ),
    (
        "{} moves what is the operator's, and is no funding",
        "SELECT t.idem_key AS what FROM txn t JOIN entry e ON e.txn_id = t.id WHERE t.kind <> 'fund' \
         AND e.account_id = 7 ORDER BY t.idem_key",
    ),
    (
        "{} was done by hand, and has no reason",
        "SELECT idem_key AS what FROM txn WHERE COALESCE(reason, '') = '' \
         AND (kind = 'fund' OR idem_key LIKE 'correction:operator:%') ORDER BY idem_key",
    ),
];

/// Nothing of the journal is named otherwise than what it is.
const NAMED: &str = "SELECT idem_key AS what, kind FROM txn WHERE idem_key NOT LIKE kind || ':%' ORDER BY id";

pub(super) async fn by_hand(snapshot: &mut AnyConnection) -> Result<Findings, LedgerError> {
    let mut findings = Findings::new();
    for (fault, sql) in FAULTS {
        for row in rows(snapshot, sql).await? {
            findings.push(fault.replace("{}", &text(&row, "what")?));
        }
    }
    for row in rows(snapshot, NAMED).await? {
        findings.push(format!(
            "{} is a transaction of the kind {}",
            text(&row, "what")?,
            text(&row, "kind")?
        ));
    }
    Ok(findings)
}
