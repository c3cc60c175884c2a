//! The transactions of a batch must pay what the batch says, from the coins that it has locked, for the fee that it tells.

use std::collections::{BTreeMap, HashMap};

use bdk_wallet::bitcoin::{Network, OutPoint, Transaction, consensus::deserialize};

use super::super::{
    PayoutState, amounts,
    rows::{Batch, Version},
    signer::beyond,
};
use crate::wallet::read_psbt;

/// Whom a batch pays: address and satoshi, by miner.
pub(super) type Owed = Vec<(String, u64)>;

/// What is wrong with the transactions, in words.
pub(super) fn check(batches: &[Batch], owed: &BTreeMap<i64, Owed>, network: Network) -> Vec<String> {
    let mut findings = Vec::new();
    let mut spent: HashMap<OutPoint, i64> = HashMap::new();
    let nobody = Owed::new();
    for batch in batches {
        let id = batch.id;
        findings.extend(fault_of_batch(batch).map(|fault| format!("batch {id} {fault}")));
        for version in &batch.versions {
            let fault = fault_of(version, batch, (owed.get(&id).unwrap_or(&nobody), network));
            findings
                .extend(fault.map(|fault| format!("transaction {} of batch {id} {fault}", version.number)));
            if !may_spend(batch, version) {
                continue;
            }
            for coin in &version.inputs {
                let first = *spent.entry(*coin).or_insert(id);
                if first != id {
                    findings.push(format!("batches {first} and {id} spend the same coin {coin}"));
                }
            }
        }
    }
    findings
}

/// Whether one of a batch's transactions has spent its coins, or may yet. What only another version of a paid batch would have
/// spent is free again once that is deep.
fn may_spend(batch: &Batch, version: &Version) -> bool {
    match batch.state {
        PayoutState::Returned => false,
        PayoutState::Paid => batch.txid == Some(version.txid),
        _ => true,
    }
}

/// Whether a batch has the transactions that its state asks for.
fn fault_of_batch(batch: &Batch) -> Option<&'static str> {
    let numbers = batch.versions.iter().map(|version| version.number);
    if batch.versions.is_empty() || !numbers.eq(0..batch.versions.len() as i64) {
        return Some("has not all of its transactions");
    }
    let is_signed = batch.versions.iter().any(|version| version.raw.is_some());
    let is_right = match batch.state {
        PayoutState::Planned => !is_signed,
        // Whoever has the keys may have sent it without giving us the bytes; then the chain alone has shown it.
        PayoutState::Signed | PayoutState::Broadcast => is_signed || batch.settlements > 0,
        PayoutState::Paid | PayoutState::Returned => true,
    };
    if !is_right {
        return Some("has other signed transactions than its state says");
    }
    match batch.txid {
        None if batch.state == PayoutState::Paid => Some("is paid, by no transaction"),
        Some(txid) if batch.version(txid).is_none() => {
            Some("is said to be on the chain by a transaction that is not its own")
        }
        _ => None,
    }
}

fn fault_of(version: &Version, batch: &Batch, owed: (&Owed, Network)) -> Option<&'static str> {
    let Ok(psbt) = read_psbt(&version.psbt) else { return Some("cannot be read") };
    let unsigned = &psbt.unsigned_tx;
    if unsigned.compute_txid() != version.txid {
        return Some("is another than its id says");
    }
    let is_same = |raw: &Vec<u8>| {
        deserialize::<Transaction>(raw).is_ok_and(|signed| signed.compute_txid() == version.txid)
    };
    if !version.raw.as_ref().is_none_or(is_same) {
        return Some("has stored bytes that are not that transaction");
    }
    if !unsigned.input.iter().map(|input| input.previous_output).eq(version.inputs.iter().copied()) {
        return Some("spends other coins than are locked for it");
    }
    if !psbt.fee().is_ok_and(|fee| fee.to_sat() == version.fee) {
        return Some("leaves another fee to the network than is written down");
    }
    (!pays(version, unsigned, batch, owed)).then_some("pays otherwise than its batch says")
}

/// Each payment is one output; behind them there is change, in one output at most.
fn pays(version: &Version, unsigned: &Transaction, batch: &Batch, (owed, network): (&Owed, Network)) -> bool {
    let gross: Vec<u64> = owed.iter().map(|(_, sats)| *sats).collect();
    let Some(net) = amounts::outputs(&gross, version.fee, batch.fee_from) else { return false };
    let net: Vec<(&str, u64)> = owed.iter().map(|(address, _)| address.as_str()).zip(net).collect();
    beyond(unsigned, &net, network).is_ok_and(|rest| rest.len() <= 1)
}
