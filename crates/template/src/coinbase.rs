//! The coinbase transaction of a block to be found, in two halves with room for the extranonce.

use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    absolute::LockTime,
    consensus,
    script::{Builder, PushBytesBuf},
    transaction::Version,
};
use share::{Coinbase, Extranonce};

use crate::Template;

/// The longest input script that consensus allows a coinbase, in bytes.
pub const MAX_SCRIPT: usize = 100;

/// One payment of a coinbase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The script that is paid.
    pub script: Vec<u8>,
    /// How much, in satoshi.
    pub sats: u64,
}

/// Why a coinbase cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoinbaseError {
    /// The tag, salt and extranonce do not fit.
    #[error(
        "the coinbase script would be {length} bytes long, of at most {MAX_SCRIPT}: shorten the pool's tag by {} bytes",
        length - MAX_SCRIPT
    )]
    ScriptTooLong {
        /// How long it would be, in bytes.
        length: usize,
    },
    /// The extranonce is longer than a job can hold.
    #[error("an extranonce of {size} bytes, of at most {}", Extranonce::MAX)]
    ExtranonceTooLong {
        /// What was asked for, in bytes.
        size: usize,
    },
    /// Nobody would be paid.
    #[error("no outputs: a coinbase pays somebody")]
    NoOutputs,
    /// The outputs give away more or less than the block is worth.
    #[error("the outputs pay {outputs} sat, the block is worth {template} sat: they must be equal")]
    Value {
        /// The sum of the outputs (saturated), in satoshi.
        outputs: u64,
        /// The value of the template, in satoshi.
        template: u64,
    },
}

/// A coinbase for `template`, without its witness. Its input script is the height (BIP 34), `tag`, `salt` (which keeps
/// the jobs of several servers apart) and the extranonce, each a push; the outputs are those given, in their order,
/// then the witness commitment where the template has one.
pub fn coinbase(
    template: &Template,
    tag: &str,
    salt: &[u8],
    outputs: &[Output],
    extranonce_size: usize,
) -> Result<Coinbase, CoinbaseError> {
    if outputs.is_empty() {
        return Err(CoinbaseError::NoOutputs);
    }
    let paid = outputs.iter().try_fold(0u64, |sum, output| sum.checked_add(output.sats));
    if paid != Some(template.coinbase_value) {
        let outputs = paid.unwrap_or(u64::MAX);
        return Err(CoinbaseError::Value { outputs, template: template.coinbase_value });
    }
    let script = script(template.height, tag.as_bytes(), salt, extranonce_size)?;
    let script_length = script.len();
    let paid = outputs.iter().map(|output| (output.sats, output.script.clone()));
    let commitment = template.witness_commitment.iter().map(|script| (0, script.clone()));
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script,
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: paid
            .chain(commitment)
            .map(|(sats, script)| TxOut {
                value: Amount::from_sat(sats),
                script_pubkey: ScriptBuf::from(script),
            })
            .collect(),
    };
    // Version, input count, outpoint and script length (one byte, since the script has at most 100) come first.
    let mut prefix = consensus::serialize(&transaction);
    let suffix = prefix.split_off(4 + 1 + 36 + 1 + script_length);
    prefix.truncate(prefix.len() - extranonce_size);
    Ok(Coinbase::new(prefix, suffix, extranonce_size))
}

/// The input script, ending in an extranonce of zeros.
fn script(height: u32, tag: &[u8], salt: &[u8], extranonce_size: usize) -> Result<ScriptBuf, CoinbaseError> {
    if extranonce_size > Extranonce::MAX {
        return Err(CoinbaseError::ExtranonceTooLong { size: extranonce_size });
    }
    let mut builder = Builder::new().push_int(height.into());
    let mut length = builder.as_bytes().len();
    let zeros = [0; Extranonce::MAX];
    for part in [tag, salt, &zeros[..extranonce_size]] {
        // An empty push would be a byte that says nothing.
        if part.is_empty() {
            continue;
        }
        length = length.saturating_add(part.len() + if part.len() > 75 { 2 } else { 1 });
        if part.len() <= MAX_SCRIPT
            && let Ok(push) = PushBytesBuf::try_from(part.to_vec())
        {
            builder = builder.push_slice(push);
        }
    }
    if length > MAX_SCRIPT {
        return Err(CoinbaseError::ScriptTooLong { length });
    }
    // Consensus asks for two bytes; a low height alone is one.
    if length < 2 {
        builder = builder.push_int(0);
    }
    Ok(builder.into_script())
}

#[cfg(test)]
mod tests;
