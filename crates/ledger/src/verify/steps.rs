//! What each transaction about a block has moved, purse by purse: it must follow from the ones before it.

use std::collections::BTreeMap;

use share::hash::shown;
use sqlx::{AnyConnection, Row};

use super::{Findings, failed, integer, rows, text};
use crate::{
    Hash, LedgerError,
    journal::{Account, Purse},
    maturity::{Moves, covers, matures, outputs},
};

/// A block as its transactions are gone through, the oldest first.
#[derive(Default)]
struct Story {
    hash: Hash,
    is_solo: bool,
    /// What the coinbase pays, by miner, millisatoshi.
    paid: BTreeMap<i64, i64>,
    /// The sum of what was posted.
    posted: Moves,
    credits: i64,
    is_mature: bool,
}

pub(super) async fn check(snapshot: &mut AnyConnection) -> Result<Findings, LedgerError> {
    let mut findings = Findings::new();
    // One after the other: each may have as many entries as there are miners.
    for row in rows(snapshot, "SELECT id, hash, scheme FROM block ORDER BY id").await? {
        let hash: Vec<u8> = row.try_get("hash").map_err(failed)?;
        let id = integer(&row, "id")?;
        let story = Story {
            hash: hash.try_into().unwrap_or_default(),
            is_solo: text(&row, "scheme")? == "solo",
            paid: outputs(snapshot, id).await?,
            ..Story::default()
        };
        findings.extend(story.told(steps(snapshot, id).await?));
    }
    Ok(findings)
}

/// Kind, key and what it has moved.
type Step = (String, String, Moves);

/// The transactions of a block, the oldest first.
async fn steps(snapshot: &mut AnyConnection, block: i64) -> Result<Vec<Step>, LedgerError> {
    let sql = "SELECT t.id, t.kind, t.idem_key, e.account_id, e.amount_msat FROM txn t \
               JOIN entry e ON e.txn_id = t.id WHERE t.block_id = $1 ORDER BY t.id";
    let mut steps: BTreeMap<i64, Step> = BTreeMap::new();
    for row in sqlx::query(sql).bind(block).fetch_all(snapshot).await.map_err(failed)? {
        let (kind, key) = (text(&row, "kind")?, text(&row, "idem_key")?);
        let step = steps.entry(integer(&row, "id")?).or_insert_with(|| (kind, key, Moves::new()));
        if let Some(account) = Account::from_id(integer(&row, "account_id")?) {
            step.2.insert(account, integer(&row, "amount_msat")?);
        }
    }
    Ok(steps.into_values().collect())
}

impl Story {
    /// Goes through `steps`, and says what does not follow from what was before.
    fn told(mut self, steps: Vec<Step>) -> Findings {
        let mut findings = Findings::new();
        for (kind, key, moves) in steps {
            self.credits += i64::from(kind == "reward");
            if key != format!("{kind}:{}:{}", shown(&self.hash), self.credits) {
                findings.push(format!("{key} is not the key of what happened to its block"));
            }
            if !self.follows(&kind, &moves) {
                findings.push(format!("{key} moves otherwise than what was credited before asks for"));
            }
            self.is_mature = match kind.as_str() {
                "mature" => true,
                "reward" => self.is_mature,
                _ => self.is_mature && !self.is_solo,
            };
            for (account, amount) in moves {
                let sum: &mut i64 = self.posted.entry(account).or_default();
                *sum = sum.saturating_add(amount);
            }
            self.posted.retain(|_, amount| *amount != 0);
        }
        findings
    }

    /// Whether `moves` is what this kind of step moves now.
    fn follows(&self, kind: &str, moves: &Moves) -> bool {
        let is_whole = |expect: Moves| expect == *moves;
        match kind {
            "mature" => is_whole(matures(&self.posted, &self.paid, self.is_solo)),
            "reorg" if self.is_mature && !self.is_solo => is_whole(covers(&self.posted)),
            "reorg" => is_whole(
                self.posted.iter().map(|(account, amount)| (*account, amount.saturating_neg())).collect(),
            ),
            // What it credits is compared with the weights. A miner has nothing of a block before it is mature, but may have
            // been paid by its coinbase out of what there was.
            _ if !self.is_mature => moves.iter().all(|(account, amount)| match account {
                Account::Miner(_, Purse::Immature) => *amount >= 0,
                Account::Miner(_, Purse::Available) => *amount <= 0,
                Account::Miner(..) | Account::FeeAvailable | Account::NetworkFee | Account::Operator => false,
                _ => true,
            }),
            // It came back after it had matured.
            _ => moves.iter().all(|(account, amount)| match account {
                Account::Miner(_, Purse::Available) => *amount <= 0,
                Account::Miner(_, Purse::Paid) => *amount >= 0,
                Account::Rewards | Account::Reserve => true,
                _ => false,
            }),
        }
    }
}
