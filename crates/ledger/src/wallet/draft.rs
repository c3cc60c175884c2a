//! A transaction that is to pay a batch.

use std::str::FromStr;

use bdk_wallet::{
    TxBuilder, TxOrdering,
    bitcoin::{Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, consensus::serialize},
    coin_selection::{BranchAndBoundCoinSelection, InsufficientFunds, OldestFirstCoinSelection},
    error::CreateTxError,
};

use super::{Coins, WalletError};
use crate::payout::{FeeFrom, outputs};

/// A transaction without signatures.
pub(crate) struct Draft {
    pub psbt: Psbt,
    /// Satoshi.
    pub fee: u64,
    /// At most, once it is signed.
    pub vsize: u64,
}

/// Without change if that can be, else the oldest coins, which no reorganisation takes away. No dice: the same wallet makes
/// the same transaction.
type Selection = BranchAndBoundCoinSelection<OldestFirstCoinSelection>;

/// How coins are chosen.
pub(crate) struct Choice<'a> {
    /// Satoshi per 1000 virtual bytes.
    pub rate: u64,
    /// Coins that are not to be touched.
    pub locked: &'a [OutPoint],
    /// Coins that must be spent, locked or not.
    pub must: &'a [OutPoint],
}

impl Coins {
    /// Makes a transaction that pays each of `due` (script, satoshi): all of it, or less the fee by parts.
    pub fn draft(
        &mut self,
        due: &[(ScriptBuf, u64)],
        from: FeeFrom,
        choice: &Choice<'_>,
    ) -> Result<Draft, WalletError> {
        let rate = FeeRate::from_sat_per_kwu(choice.rate.div_ceil(4));
        let gross: Vec<u64> = due.iter().map(|(_, sats)| *sats).collect();
        let draft = self.build(due, &gross, choice, |builder| {
            builder.fee_rate(rate);
        })?;
        if from == FeeFrom::Pool {
            return Ok(draft);
        }
        // With the fee off the outputs there is more change, or some at all, and the transaction may be larger: until
        // the fee is that of what comes out.
        let inputs: Vec<OutPoint> = draft.inputs().collect();
        let mut fee = draft.fee;
        for _ in 0..4 {
            let net = outputs(&gross, fee, from)
                .ok_or_else(|| WalletError::Build("the fee is more than what is paid".to_owned()))?;
            let choice = Choice { must: &inputs, ..*choice };
            let draft = self.build(due, &net, &choice, |builder| {
                builder.fee_absolute(Amount::from_sat(fee)).manually_selected_only();
            })?;
            let wanted = (draft.vsize * choice.rate).div_ceil(1000);
            if draft.fee >= wanted && draft.fee == fee {
                return Ok(draft);
            }
            fee = wanted.max(fee).max(draft.fee);
        }
        Err(WalletError::Build("its fee does not settle".to_owned()))
    }

    fn build(
        &mut self,
        due: &[(ScriptBuf, u64)],
        sats: &[u64],
        choice: &Choice<'_>,
        fee: impl FnOnce(&mut TxBuilder<'_, Selection>),
    ) -> Result<Draft, WalletError> {
        let paid = due.iter().zip(sats).map(|((script, _), sats)| (script.clone(), Amount::from_sat(*sats)));
        let mut builder = self.wallet.build_tx().coin_selection(Selection::default());
        builder
            .ordering(TxOrdering::Untouched)
            .set_recipients(paid.collect())
            .unspendable(choice.locked.to_vec());
        builder.add_utxos(choice.must).map_err(|error| WalletError::Build(error.to_string()))?;
        fee(&mut builder);
        let psbt = builder.finish().map_err(|error| match error {
            CreateTxError::CoinSelection(InsufficientFunds { needed, available }) => {
                WalletError::Funds { needed: needed.to_sat(), available: available.to_sat() }
            }
            error => WalletError::Build(error.to_string()),
        })?;
        let fee = psbt.fee().map_err(|error| WalletError::Build(error.to_string()))?.to_sat();
        let vsize = vsize(self, &psbt)?;
        Ok(Draft { psbt, fee, vsize })
    }
}

impl Draft {
    /// The coins that it spends.
    pub fn inputs(&self) -> impl Iterator<Item = OutPoint> + '_ {
        self.psbt.unsigned_tx.input.iter().map(|input| input.previous_output)
    }
}

/// The most virtual bytes that `psbt` can have when it is signed.
pub(crate) fn vsize(coins: &Coins, psbt: &Psbt) -> Result<u64, WalletError> {
    let unknown = || WalletError::Build("a coin is not of this wallet".to_owned());
    // Marker and flag, and the count of each input's witness.
    let mut weight = psbt.unsigned_tx.weight().to_wu() + 2;
    for input in &psbt.inputs {
        let coin = input.witness_utxo.as_ref().ok_or_else(unknown)?;
        let (keychain, _) = coins.wallet.derivation_of_spk(coin.script_pubkey.clone()).ok_or_else(unknown)?;
        let most = coins.wallet.public_descriptor(keychain).max_weight_to_satisfy();
        weight += 1 + most.map_err(|error| WalletError::Build(error.to_string()))?.to_wu();
    }
    Ok(weight.div_ceil(4))
}

/// The bytes that go to the nodes.
pub(crate) fn serialised(transaction: &Transaction) -> Vec<u8> {
    serialize(transaction)
}

/// A PSBT in base64, as files and other wallets have it.
pub(crate) fn read_psbt(text: &str) -> Result<Psbt, WalletError> {
    Psbt::from_str(text.trim())
        .map_err(|error| WalletError::Sign(format!("this is no PSBT in base64: {error}")))
}

/// Whether both spend one coin, so that at most one of them can confirm.
pub(crate) fn conflicts(one: &[OutPoint], other: &[OutPoint]) -> bool {
    one.iter().any(|coin| other.contains(coin))
}
