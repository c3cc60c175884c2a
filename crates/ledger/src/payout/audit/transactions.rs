//! The transactions of a batch must pay what the batch says, from the coins that it has locked, for the fee that it tells.

use std::collections::{BTreeMap, HashMap};

use bdk_wallet::bitcoin::{
    Address, Network, OutPoint, ScriptBuf, Transaction, Txid, address::NetworkUnchecked,
    consensus::deserialize,
};
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::super::{
    FeeFrom, amounts,
    rows::{coin, failed, sats, to_txid},
};
use crate::{LedgerError, wallet::read_psbt};

/// A batch with whom it pays, and its transactions.
struct Batch {
    state: String,
    from: FeeFrom,
    settlements: i64,
    txid: Option<Txid>,
    /// Address and satoshi, by miner.
    items: Vec<(String, u64)>,
    versions: Vec<Version>,
}

struct Version {
    txid: Txid,
    number: i64,
    psbt: String,
    raw: Option<Vec<u8>>,
    fee: u64,
    inputs: Vec<OutPoint>,
}

/// What is wrong with the transactions, in words.
pub(super) async fn check(
    snapshot: &mut AnyConnection,
    network: Network,
) -> Result<Vec<String>, LedgerError> {
    let batches = batches(snapshot).await?;
    let mut findings = Vec::new();
    let mut spent: HashMap<OutPoint, i64> = HashMap::new();
    for (id, batch) in &batches {
        if let Some(fault) = batch.fault() {
            findings.push(format!("batch {id} {fault}"));
        }
        for version in &batch.versions {
            if let Some(fault) = version.fault(batch, network) {
                findings.push(format!("transaction {} of batch {id} {fault}", version.number));
            }
            if !batch.may_spend(version) {
                continue;
            }
            for coin in &version.inputs {
                let first = *spent.entry(*coin).or_insert(*id);
                if first != *id {
                    findings.push(format!("batches {first} and {id} spend the same coin {coin}"));
                }
            }
        }
    }
    Ok(findings)
}

impl Batch {
    /// Whether one of its transactions has spent its coins, or may yet. What only another version of a paid batch would have
    /// spent is free again once that is deep.
    fn may_spend(&self, version: &Version) -> bool {
        match self.state.as_str() {
            "returned" => false,
            "paid" => self.txid == Some(version.txid),
            _ => true,
        }
    }

    /// Whether it has the transactions that its state asks for.
    fn fault(&self) -> Option<&'static str> {
        let numbers = self.versions.iter().map(|version| version.number);
        if self.versions.is_empty() || !numbers.eq(0..self.versions.len() as i64) {
            return Some("has not all of its transactions");
        }
        let is_signed = self.versions.iter().any(|version| version.raw.is_some());
        let is_right = match self.state.as_str() {
            "planned" => !is_signed,
            // Whoever has the keys may have sent it without giving us the bytes; then the chain alone has shown it.
            "signed" | "broadcast" => is_signed || self.settlements > 0,
            _ => true,
        };
        if !is_right {
            return Some("has other signed transactions than its state says");
        }
        match self.txid {
            None if self.state == "paid" => Some("is paid, by no transaction"),
            Some(txid) if self.versions.iter().all(|version| version.txid != txid) => {
                Some("is said to be on the chain by a transaction that is not its own")
            }
            _ => None,
        }
    }
}

impl Version {
    fn fault(&self, batch: &Batch, network: Network) -> Option<&'static str> {
        let Ok(psbt) = read_psbt(&self.psbt) else { return Some("cannot be read") };
        let unsigned = &psbt.unsigned_tx;
        if unsigned.compute_txid() != self.txid {
            return Some("is another than its id says");
        }
        let is_same = |raw: &Vec<u8>| {
            deserialize::<Transaction>(raw).is_ok_and(|signed| signed.compute_txid() == self.txid)
        };
        if !self.raw.as_ref().is_none_or(is_same) {
            return Some("has stored bytes that are not that transaction");
        }
        if !unsigned.input.iter().map(|input| input.previous_output).eq(self.inputs.iter().copied()) {
            return Some("spends other coins than are locked for it");
        }
        if !psbt.fee().is_ok_and(|fee| fee.to_sat() == self.fee) {
            return Some("leaves another fee to the network than is written down");
        }
        (!self.pays(unsigned, batch, network)).then_some("pays otherwise than its batch says")
    }

    /// Each payment is one output; besides them there is change, in one output at most.
    fn pays(&self, unsigned: &Transaction, batch: &Batch, network: Network) -> bool {
        let gross: Vec<u64> = batch.items.iter().map(|(_, sats)| *sats).collect();
        let Some(net) = amounts::outputs(&gross, self.fee, batch.from) else { return false };
        let mut outputs: Vec<(&ScriptBuf, u64)> =
            unsigned.output.iter().map(|output| (&output.script_pubkey, output.value.to_sat())).collect();
        for ((address, _), sats) in batch.items.iter().zip(net) {
            let parsed = address.parse::<Address<NetworkUnchecked>>().ok();
            let script = parsed.and_then(|address| address.require_network(network).ok());
            let Some(script) = script.map(|address| address.script_pubkey()) else { return false };
            let Some(at) = outputs.iter().position(|output| *output == (&script, sats)) else { return false };
            outputs.swap_remove(at);
        }
        outputs.len() <= 1
    }
}

async fn batches(snapshot: &mut AnyConnection) -> Result<BTreeMap<i64, Batch>, LedgerError> {
    let mut batches = BTreeMap::new();
    let sql = "SELECT id, state, fee_from, settlements, txid FROM payout";
    for row in sqlx::query(sql).fetch_all(&mut *snapshot).await.map_err(failed)? {
        let from: String = row.try_get("fee_from").map_err(failed)?;
        let txid: Option<Vec<u8>> = row.try_get("txid").map_err(failed)?;
        let batch = Batch {
            state: row.try_get("state").map_err(failed)?,
            from: FeeFrom::parse(&from).unwrap_or(FeeFrom::Pool),
            settlements: row.try_get("settlements").map_err(failed)?,
            txid: txid.map(|txid| to_txid(&txid)).transpose()?,
            items: Vec::new(),
            versions: Vec::new(),
        };
        batches.insert(row.try_get("id").map_err(failed)?, batch);
    }
    let of = |row: &AnyRow| row.try_get::<i64, _>("payout_id").map_err(failed);
    let sql = "SELECT i.payout_id, m.address, i.sats FROM payout_item i JOIN miner m ON m.id = i.miner_id \
               ORDER BY i.payout_id, i.miner_id";
    for row in sqlx::query(sql).fetch_all(&mut *snapshot).await.map_err(failed)? {
        if let Some(batch) = batches.get_mut(&of(&row)?) {
            batch.items.push((row.try_get("address").map_err(failed)?, sats(&row, "sats")?));
        }
    }
    let sql = "SELECT txid, prev_txid, prev_vout FROM payout_input ORDER BY txid, position";
    let mut inputs: HashMap<Vec<u8>, Vec<OutPoint>> = HashMap::new();
    for row in sqlx::query(sql).fetch_all(&mut *snapshot).await.map_err(failed)? {
        inputs.entry(row.try_get("txid").map_err(failed)?).or_default().push(coin(&row)?);
    }
    let sql =
        "SELECT payout_id, txid, version, psbt, raw, fee_sats FROM payout_tx ORDER BY payout_id, version";
    for row in sqlx::query(sql).fetch_all(snapshot).await.map_err(failed)? {
        let txid: Vec<u8> = row.try_get("txid").map_err(failed)?;
        let version = Version {
            txid: to_txid(&txid)?,
            number: row.try_get("version").map_err(failed)?,
            psbt: row.try_get("psbt").map_err(failed)?,
            raw: row.try_get("raw").map_err(failed)?,
            fee: sats(&row, "fee_sats")?,
            inputs: inputs.remove(&txid).unwrap_or_default(),
        };
        if let Some(batch) = batches.get_mut(&of(&row)?) {
            batch.versions.push(version);
        }
    }
    Ok(batches)
}
