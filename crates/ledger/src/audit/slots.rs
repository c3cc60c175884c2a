//! What slots have paid for work at a fixed rate, with all that it follows from.

use std::collections::{BTreeMap, HashMap};

use share::hash::shown;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::failed;
use crate::{
    Ledger, LedgerError,
    accounts::miner_id,
    bought,
    fees::{MeanFees, mean_fees},
    journal::{Account, Purse},
    proof::{MinerRates, RateWork, SlotFeeBlock, SlotRates},
    store::work,
};

/// What a slot has paid a miner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotCredit {
    /// The slot.
    pub slot: i64,
    /// Millisatoshi; below zero where a correction took something back.
    pub amount_msat: i64,
    /// When, milliseconds since 1970.
    pub time_ms: i64,
}

impl Ledger {
    /// What the closed slot with this number has paid for work at a fixed rate, by miner; `None` if there is none that has.
    pub async fn slot_rates(&self, slot: i64) -> Result<Option<SlotRates>, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let sql = "SELECT s.opened_ms, s.closed_ms, CAST(s.work AS TEXT) AS work, COALESCE(s.fee_rate_id, 0) AS fee_rate, \
                   t.scheme, t.fee_ppm FROM slot s JOIN terms t ON t.id = s.terms_id WHERE s.id = $1 \
                   AND s.closed_ms IS NOT NULL AND t.scheme IN ('pps', 'fpps', 'pps_plus')";
        let row = sqlx::query(sql).bind(slot).fetch_optional(&mut *snapshot).await.map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let integer = |name: &str| row.try_get::<i64, _>(name).map_err(failed);
        let mean = match integer("fee_rate")? {
            0 => None,
            id => mean_fees(&mut snapshot, id).await?,
        };
        let miners = miners(&mut snapshot, slot).await?;
        let all = work(&row, "work")?;
        // Its work is not kept for ever.
        if miners.is_empty() && all > 0 {
            return Ok(None);
        }
        Ok(Some(SlotRates {
            slot,
            opened_ms: integer("opened_ms")?,
            closed_ms: integer("closed_ms")?,
            scheme: row.try_get("scheme").map_err(failed)?,
            fee_ppm: u32::try_from(integer("fee_ppm")?).unwrap_or(0),
            mean_fees_msat: mean.as_ref().map_or(0, |mean| u64::try_from(mean.mean_msat).unwrap_or(0)),
            fee_blocks: mean.iter().flat_map(fee_blocks).collect(),
            work: all.to_string(),
            miners,
        }))
    }

    /// What slots have paid the miner with this (canonical) address, newest first; at most `limit`.
    pub async fn slot_credits(&self, address: &str, limit: u32) -> Result<Vec<SlotCredit>, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let Some(id) = miner_id(&mut snapshot, address).await? else { return Ok(Vec::new()) };
        let sql = "SELECT t.idem_key, t.created_ms, e.amount_msat FROM entry e JOIN txn t ON t.id = e.txn_id \
                   WHERE e.account_id = $1 AND t.kind = 'slot' ORDER BY e.txn_id DESC LIMIT $2";
        let account = Account::Miner(id, Purse::Available).id();
        let query = sqlx::query(sql).bind(account).bind(i64::from(limit));
        let credit = |row: &AnyRow| {
            let key: String = row.try_get("idem_key").map_err(failed)?;
            let slot = key.split(':').nth(1).and_then(|slot| slot.parse().ok());
            Ok(SlotCredit {
                slot: slot.ok_or_else(|| LedgerError::Unsound(format!("{key:?} names no slot")))?,
                amount_msat: row.try_get("amount_msat").map_err(failed)?,
                time_ms: row.try_get("created_ms").map_err(failed)?,
            })
        };
        query.fetch_all(&mut *snapshot).await.map_err(failed)?.iter().map(credit).collect()
    }
}

fn fee_blocks(mean: &MeanFees) -> impl Iterator<Item = SlotFeeBlock> {
    mean.blocks.iter().map(|block| SlotFeeBlock {
        hash: shown(&block.hash),
        height: block.height,
        fees_sats: block.fees_sats,
    })
}

/// Who has worked in a slot, at which rates, and what the journal has paid for it, corrections of the slot included.
async fn miners(connection: &mut AnyConnection, slot: i64) -> Result<Vec<MinerRates>, LedgerError> {
    let mut miners: BTreeMap<i64, Vec<RateWork>> = BTreeMap::new();
    for ((miner, rate), work) in bought::done(connection, slot).await? {
        let work = RateWork { bits: rate.bits, halvings: rate.halvings, work: work.to_string() };
        miners.entry(miner).or_default().push(work);
    }
    let mut paid: HashMap<i64, i64> = HashMap::new();
    let sql = "SELECT e.account_id, e.amount_msat FROM txn t JOIN entry e ON e.txn_id = t.id \
               WHERE t.idem_key = $1 OR t.idem_key LIKE $2";
    let query = sqlx::query(sql).bind(format!("slot:{slot}:1")).bind(format!("correction:slot:{slot}:%"));
    for row in query.fetch_all(&mut *connection).await.map_err(failed)? {
        let account = Account::from_id(row.try_get("account_id").map_err(failed)?);
        if let Some(Account::Miner(miner, Purse::Available)) = account {
            *paid.entry(miner).or_default() += row.try_get::<i64, _>("amount_msat").map_err(failed)?;
        }
    }
    let sql = "SELECT DISTINCT m.id, m.address FROM slot_rate r JOIN miner m ON m.id = r.miner_id WHERE r.slot_id = $1";
    let mut addresses: HashMap<i64, String> = HashMap::new();
    for row in sqlx::query(sql).bind(slot).fetch_all(connection).await.map_err(failed)? {
        addresses.insert(row.try_get("id").map_err(failed)?, row.try_get("address").map_err(failed)?);
    }
    let rates = miners.into_iter().map(|(miner, rates)| MinerRates {
        miner,
        address: addresses.remove(&miner).unwrap_or_default(),
        rates,
        paid_msat: paid.remove(&miner).unwrap_or(0),
    });
    Ok(rates.collect())
}
