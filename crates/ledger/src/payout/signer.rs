//! A signer of its own: another process, with the keys, that may read the ledger and write nothing but signatures.
//!
//! It trusts nobody's word. What it signs pays exactly what the journal has in flight for the batch, to the addresses of
//! those miners, and the rest to the wallet itself; it cannot confirm beside anything that it has signed for that batch
//! before; and in a day it comes to no more than the limit. What it has signed it keeps in a file of its own, which the
//! pool cannot touch.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::Write as _,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use bdk_wallet::bitcoin::{
    Address, Network, OutPoint, Psbt, ScriptBuf, Transaction, TxOut, address::NetworkUnchecked,
};
use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, Row};

use super::{
    FeeFrom, PayError, amounts, bytes, now_ms,
    rows::{self, Batch, Version, failed},
};
use crate::{
    LedgerError, WalletError,
    journal::Account,
    store::Store,
    wallet::{Coins, Descriptors, conflicts, read_psbt},
};

/// What the signer is allowed.
#[derive(Clone, Debug)]
pub struct SignerSettings {
    /// Its own record of what it has signed.
    pub log: PathBuf,
    /// The most that leaves the wallet in 24 hours, satoshi.
    pub daily_limit: u64,
    /// The most that is paid to the network, satoshi per 1000 virtual bytes.
    pub max_rate: u64,
    /// How often it looks for work.
    pub poll: Duration,
}

/// Signs what the pool has planned.
pub struct Signer {
    store: Store,
    settings: SignerSettings,
    network: Network,
    coins: Coins,
    past: Past,
    said: BTreeMap<Vec<u8>, String>,
}

/// A line of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signed {
    at_ms: i64,
    batch: i64,
    txid: String,
    /// What leaves the wallet, with the fee.
    sats: u64,
    inputs: Vec<OutPoint>,
}

/// All that was ever signed.
struct Past {
    file: File,
    all: Vec<Signed>,
}

const DAY_MS: i64 = 86_400_000;

impl Past {
    fn open(path: &PathBuf) -> Result<Self, PayError> {
        let failed = |error: std::io::Error| {
            PayError::Refused(format!("the signer's record {} cannot be used: {error}", path.display()))
        };
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(PayError::Refused(format!(
                    "another signer uses {}: stop that one",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let mut all = Vec::new();
        for (number, line) in text.lines().enumerate() {
            // A torn last line was never followed by a signature that left us: the line comes first.
            match serde_json::from_str(line) {
                Ok(signed) => all.push(signed),
                Err(_) if !text.ends_with('\n') && number + 1 == text.lines().count() => {
                    let whole = text.len() - line.len();
                    file.set_len(whole as u64).map_err(failed)?;
                }
                Err(error) => {
                    return Err(PayError::Refused(format!(
                        "line {} of the signer's record {} is damaged ({error}): nothing is signed before it is put right",
                        number + 1,
                        path.display()
                    )));
                }
            }
        }
        Ok(Self { file, all })
    }

    /// Whether `next` may be signed beside all that was, at `limit` satoshi a day.
    fn allows(&self, next: &Signed, limit: u64) -> Result<(), String> {
        for earlier in self.all.iter().filter(|earlier| earlier.batch == next.batch) {
            if !conflicts(&earlier.inputs, &next.inputs) {
                return Err(format!(
                    "batch {} has been signed as {}, which could confirm beside this one",
                    next.batch, earlier.txid
                ));
            }
        }
        // Of one batch only the dearest version can leave the wallet.
        let mut day: BTreeMap<i64, u64> = BTreeMap::new();
        let recent = self.all.iter().filter(|signed| signed.at_ms > next.at_ms - DAY_MS);
        for signed in recent.chain([next]) {
            let most = day.entry(signed.batch).or_default();
            *most = (*most).max(signed.sats);
        }
        let total = day.values().fold(0u64, |sum, sats| sum.saturating_add(*sats));
        if total > limit {
            return Err(format!("{total} sat would leave the wallet in 24 hours, the limit is {limit} sat"));
        }
        Ok(())
    }

    /// On disk before anything is signed.
    fn add(&mut self, signed: Signed) -> Result<(), PayError> {
        if self.all.iter().any(|earlier| earlier.txid == signed.txid) {
            return Ok(());
        }
        let failed = |error: std::io::Error| {
            PayError::Refused(format!("the signer's record cannot be written: {error}"))
        };
        let mut line = serde_json::to_string(&signed).map_err(|error| failed(error.into()))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        self.all.push(signed);
        Ok(())
    }
}

impl Signer {
    /// Opens the ledger at `url` beside whoever works on it.
    pub async fn open(
        url: &str,
        descriptors: &Descriptors,
        settings: SignerSettings,
    ) -> Result<Self, PayError> {
        if !descriptors.can_sign() {
            return Err(PayError::Refused(
                "wallet.descriptor has no private keys: a signer needs them".to_owned(),
            ));
        }
        let past = Past::open(&settings.log)?;
        let store = Store::beside(url).await?;
        let coins = Coins::of(descriptors, None)?;
        Ok(Self { store, settings, network: descriptors.network(), coins, past, said: BTreeMap::new() })
    }

    /// Signs until `stop` comes to its end.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut trouble = String::new();
        loop {
            match self.round().await {
                Ok(()) => trouble.clear(),
                Err(error) if error.to_string() == trouble => {}
                Err(error) => {
                    trouble = error.to_string();
                    tracing::error!("nothing is signed: {trouble}");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(self.settings.poll) => {}
                () = &mut stop => return,
            }
        }
    }

    /// Looks at everything that waits, once.
    pub async fn round(&mut self) -> Result<(), PayError> {
        let mut snapshot = self.store.snapshot().await?;
        let batches = rows::watched(&mut snapshot).await?;
        let mut waiting = Vec::new();
        for batch in batches.iter().filter(|batch| batch.is_open()) {
            for version in batch.versions.iter().filter(|version| version.raw.is_none()) {
                let sql = "SELECT 1 FROM payout_signature WHERE txid = $1 AND psbt IS NOT NULL";
                let query = sqlx::query(sql).bind(bytes(&version.txid));
                if query.fetch_optional(&mut *snapshot).await.map_err(failed)?.is_some() {
                    continue;
                }
                let rate = self.settings.max_rate;
                let checked = check(&mut snapshot, (&self.coins, self.network, rate), batch, version).await;
                waiting.push((version, checked));
            }
        }
        drop(snapshot);
        for (version, checked) in waiting {
            let key = bytes(&version.txid);
            match checked.and_then(|(psbt, signed)| self.sign(psbt, signed)) {
                Ok(psbt) => {
                    self.answer(&key, Some(psbt.to_string()), None).await?;
                    tracing::info!(txid = %version.txid, "signed");
                }
                Err(PayError::Refused(why)) if self.said.get(&key) != Some(&why) => {
                    tracing::error!(txid = %version.txid, "not signed: {why}");
                    self.answer(&key, None, Some(why.clone())).await?;
                    self.said.insert(key, why);
                }
                Err(PayError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sign(&mut self, mut psbt: Psbt, signed: Signed) -> Result<Psbt, PayError> {
        self.past.allows(&signed, self.settings.daily_limit).map_err(PayError::Refused)?;
        self.past.add(signed)?;
        self.coins.sign(&mut psbt)?;
        Ok(psbt)
    }

    async fn answer(
        &self,
        txid: &[u8],
        psbt: Option<String>,
        refusal: Option<String>,
    ) -> Result<(), PayError> {
        let mut raw = self.store.plain().await?;
        let sql = "INSERT INTO payout_signature (txid, psbt, refusal, created_ms) VALUES ($1, $2, $3, $4)";
        let query = sqlx::query(sql).bind(txid.to_vec()).bind(psbt).bind(refusal).bind(now_ms());
        query.execute(&mut raw).await.map_err(LedgerError::database("hand over a signature"))?;
        Ok(())
    }
}

/// Compares a transaction with the journal, to the satoshi: it pays what is in flight, and what is left comes back to the wallet.
/// `max_rate`: the most that it may leave to the network, satoshi per 1000 virtual bytes.
pub(super) async fn check(
    snapshot: &mut AnyConnection,
    (coins, network, max_rate): (&Coins, Network, u64),
    batch: &Batch,
    version: &Version,
) -> Result<(Psbt, Signed), PayError> {
    let refused = |why: &str| PayError::Refused(why.to_owned());
    let owed = in_flight(snapshot, batch.id).await?;
    let psbt = read_psbt(&version.psbt).map_err(|error| PayError::Refused(error.to_string()))?;
    let transaction = &psbt.unsigned_tx;
    if transaction.compute_txid() != version.txid {
        return Err(refused("it is not the transaction that it is said to be"));
    }
    let (fee, vsize) = fee(coins, &psbt)?;
    if fee.saturating_mul(1000) > max_rate.saturating_mul(vsize) {
        return Err(PayError::Refused(format!(
            "its fee of {fee} sat for {vsize} vB is above payout.max_feerate"
        )));
    }
    let gross: Vec<u64> = owed.iter().map(|(_, sats)| *sats).collect();
    let net =
        amounts::outputs(&gross, fee, batch.fee_from).ok_or_else(|| refused("its fee eats a payment"))?;
    let net: Vec<(&str, u64)> = owed.iter().map(|(address, _)| address.as_str()).zip(net).collect();
    let rest = beyond(transaction, &net, network)?;
    if let Some(stranger) = rest.iter().find(|output| !coins.owns(&output.script_pubkey)) {
        return Err(PayError::Refused(format!(
            "it pays {} to somebody whom nothing is owed",
            stranger.value
        )));
    }
    let borne = if batch.fee_from == FeeFrom::Pool { fee } else { 0 };
    let sats = gross.iter().sum::<u64>().saturating_add(borne);
    let inputs = transaction.input.iter().map(|input| input.previous_output).collect();
    let txid = version.txid.to_string();
    Ok((psbt, Signed { at_ms: now_ms(), batch: batch.id, txid, sats, inputs }))
}

/// The outputs of `transaction` behind those that pay `owed` (address and satoshi): these come first, in their order.
pub(super) fn beyond<'a>(
    transaction: &'a Transaction,
    owed: &[(&str, u64)],
    network: Network,
) -> Result<&'a [TxOut], PayError> {
    for (position, (address, sats)) in owed.iter().enumerate() {
        let script = script(address, network)?;
        let output = transaction.output.get(position);
        if output.is_none_or(|output| output.script_pubkey != script || output.value.to_sat() != *sats) {
            return Err(PayError::Refused(format!(
                "it does not pay the {sats} sat to {address} that the journal has in flight"
            )));
        }
    }
    Ok(transaction.output.get(owed.len()..).unwrap_or_default())
}

/// What `psbt` leaves to the network, and its size. A wrong word about a coin's amount makes the signature wrong.
fn fee(coins: &Coins, psbt: &Psbt) -> Result<(u64, u64), PayError> {
    let unclear = |error: &dyn std::fmt::Display| PayError::Refused(format!("its fee is not clear: {error}"));
    let fee = psbt.fee().map_err(|error| unclear(&error))?.to_sat();
    let vsize = crate::wallet::vsize(coins, psbt).map_err(|error: WalletError| unclear(&error))?;
    Ok((fee, vsize))
}

/// What the journal has in flight for a batch: address and satoshi by miner. The batch must be the one that moved it, and
/// it must not have been given up.
async fn in_flight(snapshot: &mut AnyConnection, batch: i64) -> Result<Vec<(String, u64)>, PayError> {
    let refused = |why: String| PayError::Refused(why);
    let sql = "SELECT e.account_id, e.amount_msat, a.miner_id, m.address FROM txn t JOIN entry e ON e.txn_id = t.id \
               JOIN account a ON a.id = e.account_id LEFT JOIN miner m ON m.id = a.miner_id \
               WHERE t.idem_key = $1 AND t.kind = 'payout' ORDER BY a.miner_id, e.account_id";
    let rows =
        sqlx::query(sql).bind(format!("payout:{batch}")).fetch_all(&mut *snapshot).await.map_err(failed)?;
    let sql = "SELECT 1 FROM txn WHERE idem_key = $1";
    let returned = sqlx::query(sql).bind(format!("return:{batch}")).fetch_optional(&mut *snapshot).await;
    if rows.is_empty() || returned.map_err(failed)?.is_some() {
        return Err(refused(format!("the journal has nothing in flight for batch {batch}")));
    }
    let mut owed = Vec::new();
    for pair in rows.chunks(2) {
        let entry = |row: &sqlx::any::AnyRow| -> Result<(Option<Account>, i64), PayError> {
            let id: i64 = row.try_get("account_id").map_err(failed)?;
            Ok((Account::from_id(id), row.try_get("amount_msat").map_err(failed)?))
        };
        let [from, to] = pair else {
            return Err(refused(format!("the journal's entries of batch {batch} are odd")));
        };
        let (from, to) = (entry(from)?, entry(to)?);
        let miner: i64 = pair[0].try_get("miner_id").map_err(failed)?;
        let sats = u64::try_from(to.1).ok().filter(|msat| msat % 1000 == 0).map(|msat| msat / 1000);
        let expected = sats.and_then(|sats| amounts::planned(&[(miner, sats)]));
        let (Some(sats), Some(expected)) = (sats, expected) else {
            return Err(refused(format!("the journal's amounts of batch {batch} are odd")));
        };
        if expected
            != [(from.0.unwrap_or(Account::Rewards), from.1), (to.0.unwrap_or(Account::Rewards), to.1)]
        {
            return Err(refused(format!("the journal's entries of batch {batch} are odd")));
        }
        owed.push((pair[0].try_get("address").map_err(failed)?, sats));
    }
    Ok(owed)
}

/// The script that pays to `address`.
pub(super) fn script(address: &str, network: Network) -> Result<ScriptBuf, PayError> {
    let wrong = || PayError::Refused(format!("{address} is no address of {network}"));
    let parsed = Address::<NetworkUnchecked>::from_str(address).map_err(|_| wrong())?;
    Ok(parsed.require_network(network).map_err(|_| wrong())?.script_pubkey())
}

#[cfg(test)]
mod tests;
