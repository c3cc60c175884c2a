//! What was paid on the chain.

use std::sync::Arc;

use axum::{Json, extract::State};
use ledger::{MinerPayout, Payout, hash};
use serde::Serialize;

use crate::{
    fault::{Fault, Params, Place},
    figures::{Shown, answer},
    routes::{blocks::Part, miners::Miner},
};

/// Millisatoshi in a satoshi: amounts of a batch are whole ones.
const MSAT: u64 = 1000;

/// One page of batches, newest first.
#[derive(Serialize)]
pub(crate) struct Payouts {
    payouts: Vec<PayoutView>,
}

#[derive(Serialize)]
struct PayoutView {
    payout: u64,
    status: &'static str,
    miners: u64,
    amount_msat: u64,
    fee_from: &'static str,
    transactions: Vec<TransactionView>,
    txid: Option<String>,
    confirmations: Option<u32>,
    time_ms: u64,
}

#[derive(Serialize)]
struct TransactionView {
    txid: String,
    fee_sats: u64,
    signed: bool,
}

/// The latest payments to an address, newest first.
#[derive(Serialize)]
pub(crate) struct MinerPayouts {
    payouts: Vec<MinerPayoutView>,
}

#[derive(Serialize)]
struct MinerPayoutView {
    payout: u64,
    status: &'static str,
    amount_msat: u64,
    txid: String,
    confirmations: Option<u32>,
    time_ms: u64,
}

impl From<Payout> for PayoutView {
    /// What is wrong with a batch is the operator's business.
    fn from(payout: Payout) -> Self {
        let transactions = payout.versions.iter().map(|version| TransactionView {
            txid: hash::shown(&version.txid),
            fee_sats: version.fee_sats,
            signed: version.is_signed,
        });
        Self {
            payout: payout.id,
            status: payout.state.as_str(),
            miners: payout.miners,
            amount_msat: payout.sats.saturating_mul(MSAT),
            fee_from: payout.fee_from.as_str(),
            transactions: transactions.collect(),
            txid: payout.txid.as_ref().map(hash::shown),
            confirmations: payout.confirmations,
            time_ms: payout.time_ms,
        }
    }
}

impl From<MinerPayout> for MinerPayoutView {
    fn from(payout: MinerPayout) -> Self {
        Self {
            payout: payout.payout,
            status: payout.state.as_str(),
            amount_msat: payout.sats.saturating_mul(MSAT),
            txid: hash::shown(&payout.txid),
            confirmations: payout.confirmations,
            time_ms: payout.time_ms,
        }
    }
}

pub(crate) async fn payouts(
    State(shown): State<Arc<Shown>>,
    Params(part): Params<Part>,
) -> Result<Json<Payouts>, Fault> {
    let (limit, offset) = part.checked()?;
    let payouts = answer(shown.ledger.payouts(limit, offset.into())).await?;
    Ok(Json(Payouts { payouts: payouts.into_iter().map(PayoutView::from).collect() }))
}

pub(crate) async fn of_miner(
    State(shown): State<Arc<Shown>>,
    Place(address): Place<String>,
    Params(part): Params<Part>,
) -> Result<Json<MinerPayouts>, Fault> {
    let (limit, _) = part.checked()?;
    let miner = Miner::find(&shown, &address).await?;
    let payouts = answer(shown.ledger.miner_payouts(miner.address(), limit)).await?;
    Ok(Json(MinerPayouts { payouts: payouts.into_iter().map(MinerPayoutView::from).collect() }))
}
