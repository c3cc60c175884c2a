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
    let sql = "SELECT t.id, t.kind, t.idem_key, t.block_id, e.account_id, e.amount_msat FROM txn t \
               JOIN entry e ON e.txn_id = t.id WHERE t.block_id IS NOT NULL ORDER BY t.block_id, t.id";
    // One after the other: what a block has posted may be as many rows as there are miners.
    let mut told: Vec<(i64, String, String, Moves)> = Vec::new();
    let mut block = 0;
    for row in rows(snapshot, sql).await? {
        let (of, id) = (integer(&row, "block_id")?, integer(&row, "id")?);
        if of != block {
            one(snapshot, block, std::mem::take(&mut told), &mut findings).await?;
            block = of;
        }
        if told.last().is_none_or(|last| last.0 != id) {
            told.push((id, text(&row, "kind")?, text(&row, "idem_key")?, Moves::new()));
        }
        let amount = integer(&row, "amount_msat")?;
        if let (Some(last), Some(account)) = (told.last_mut(), Account::from_id(integer(&row, "account_id")?))
        {
            last.3.insert(account, amount);
        }
    }
    one(snapshot, block, told, &mut findings).await?;
    Ok(findings)
}

/// Goes through the transactions of one block.
async fn one(
    snapshot: &mut AnyConnection,
    block: i64,
    told: Vec<(i64, String, String, Moves)>,
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    if told.is_empty() {
        return Ok(());
    }
    let query = sqlx::query("SELECT hash, scheme FROM block WHERE id = $1").bind(block);
    let Some(row) = query.fetch_optional(&mut *snapshot).await.map_err(failed)? else {
        findings.push(format!("{} is about a block that is not there", told[0].2));
        return Ok(());
    };
    let hash: Vec<u8> = row.try_get("hash").map_err(failed)?;
    let mut story = Story {
        hash: hash.try_into().unwrap_or_default(),
        is_solo: text(&row, "scheme")? == "solo",
        paid: outputs(snapshot, block).await?,
        ..Story::default()
    };
    for (_, kind, key, moves) in told {
        story.credits += i64::from(kind == "reward");
        if key != format!("{kind}:{}:{}", shown(&story.hash), story.credits) {
            findings.push(format!("{key} is not the key of what happened to its block"));
        }
        if !story.follows(&kind, &moves) {
            findings.push(format!("{key} moves otherwise than what was credited before asks for"));
        }
        story.is_mature = match kind.as_str() {
            "mature" => true,
            "reward" => story.is_mature,
            _ => story.is_mature && !story.is_solo,
        };
        for (account, amount) in moves {
            let sum: &mut i64 = story.posted.entry(account).or_default();
            *sum = sum.saturating_add(amount);
        }
        story.posted.retain(|_, amount| *amount != 0);
    }
    Ok(())
}

impl Story {
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
