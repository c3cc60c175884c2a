//! Blocks and coinbases as the mining interface serialises them, and the one place where they become a [`Template`].

use bitcoin::{
    Network, Transaction, TxOut, VarInt, consensus, hashes::Hash as _, params::Params, script::Builder,
};
use bytes::Bytes;
use share::{Hash, Target, sha256};

use super::dialect::RawCoinbase;
use crate::{
    NodeError, Template,
    node::rpc::wire::{COMMITMENT, MAX_MONEY},
};

const HEADER: usize = 80;

/// A serialised block, cut where it matters. Only its coinbase is looked into.
pub(super) struct Parts<'a> {
    header: &'a [u8; HEADER],
    /// The coinbase, with its witness.
    pub coinbase: &'a [u8],
    /// Id of the coinbase, internal order.
    pub txid: Hash,
    /// How many transactions come after the coinbase.
    pub count: usize,
    /// They, one after the other.
    pub transactions: &'a [u8],
}

impl<'a> Parts<'a> {
    /// `None` if these bytes do not begin as a block does.
    pub fn of(block: &'a [u8]) -> Option<Parts<'a>> {
        let (header, rest) = block.split_first_chunk()?;
        let (count, length) = consensus::deserialize_partial::<VarInt>(rest).ok()?;
        let rest = rest.get(length..)?;
        let (first, length) = consensus::deserialize_partial::<Transaction>(rest).ok()?;
        let txid = first.compute_txid().to_byte_array();
        let (coinbase, transactions) = rest.split_at_checked(length)?;
        let count = usize::try_from(count.0).ok()?.checked_sub(1)?;
        // No transaction is shorter than 60 bytes; what says otherwise is none.
        (count <= transactions.len() / 60).then_some(Parts { header, coinbase, txid, count, transactions })
    }

    fn word(&self, at: usize) -> u32 {
        let word = self.header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_le_bytes(word.unwrap_or_default())
    }

    /// Of the block, internal order.
    pub fn hash(&self) -> Hash {
        sha256::double(self.header)
    }

    fn hash_at(&self, at: usize) -> Hash {
        let hash = self.header.get(at..at + 32).and_then(|bytes| bytes.try_into().ok());
        hash.unwrap_or_default()
    }

    pub fn version(&self) -> u32 {
        self.word(0)
    }

    /// Internal order.
    pub fn prev_hash(&self) -> Hash {
        self.hash_at(4)
    }

    /// Internal order.
    pub fn merkle_root(&self) -> Hash {
        self.hash_at(36)
    }

    pub fn time(&self) -> u32 {
        self.word(68)
    }

    pub fn bits(&self) -> u32 {
        self.word(72)
    }

    pub fn nonce(&self) -> u32 {
        self.word(76)
    }
}

/// What a coinbase for the template must be like.
struct CoinbaseTx {
    height: u32,
    value: u64,
    commitment: Option<Vec<u8>>,
}

fn unusable(why: impl Into<String>) -> NodeError {
    NodeError::Template(why.into())
}

impl CoinbaseTx {
    fn of(raw: RawCoinbase) -> Result<CoinbaseTx, NodeError> {
        let (height, value, commitment) = match raw {
            RawCoinbase::Whole { transaction, commitment } => {
                let transaction: Transaction = consensus::deserialize(&transaction)
                    .map_err(|e| unusable(format!("its coinbase is no transaction ({e})")))?;
                let (Some(input), Some(output)) = (transaction.input.first(), transaction.output.first())
                else {
                    return Err(unusable("its coinbase has no input or no output"));
                };
                let height = height(input.script_sig.as_bytes());
                (height, output.value.to_sat(), (!commitment.is_empty()).then_some(commitment))
            }
            RawCoinbase::Fields { script_prefix, witness, value, outputs } => {
                // Ours has a reserved value of zeros (BIP 141).
                if !witness.is_empty() && witness != [0; 32] {
                    return Err(unusable("it needs a coinbase witness that this version does not make"));
                }
                let value = u64::try_from(value).map_err(|_| unusable(format!("a reward of {value} sat")))?;
                (height(&script_prefix), value, commitment(&outputs)?)
            }
        };
        let height = height.ok_or_else(|| {
            unusable("its coinbase script does not begin with a height and nothing else (BIP 34)")
        })?;
        if value > MAX_MONEY {
            return Err(unusable(format!("a reward of {value} sat is more than there are bitcoins")));
        }
        if let Some(script) = &commitment
            && !(script.starts_with(&COMMITMENT) && script.len() >= 38)
        {
            return Err(unusable("its witness commitment is none"));
        }
        Ok(CoinbaseTx { height, value, commitment })
    }
}

/// The script of the one output that we know how to make, if there is one.
fn commitment(outputs: &[Vec<u8>]) -> Result<Option<Vec<u8>>, NodeError> {
    match outputs {
        [] => Ok(None),
        [output] => {
            let output: TxOut = consensus::deserialize(output)
                .map_err(|e| unusable(format!("an output that it needs is none ({e})")))?;
            match output.value.to_sat() {
                0 => Ok(Some(output.script_pubkey.into_bytes())),
                sats => {
                    Err(unusable(format!("it needs an output of {sats} sat that this version does not make")))
                }
            }
        }
        _ => Err(unusable(format!("it needs {} outputs: this version makes one", outputs.len()))),
    }
}

/// The height in a coinbase script that says nothing else but, maybe, a zero (the node's own extranonce).
fn height(script: &[u8]) -> Option<u32> {
    let (&first, rest) = script.split_first()?;
    let height = match first {
        0x51..=0x60 => u32::from(first - 0x50),
        1..=4 => {
            let mut bytes = [0; 4];
            let pushed = rest.get(..first.into())?;
            bytes.get_mut(..pushed.len())?.copy_from_slice(pushed);
            u32::from_le_bytes(bytes)
        }
        _ => return None,
    };
    let ours = Builder::new().push_int(height.into()).into_bytes();
    let more = script.strip_prefix(ours.as_slice())?;
    (i32::try_from(height).is_ok() && matches!(more, [] | [0])).then_some(height)
}

/// Checks what the node said for sense and puts it in machine form. `block` is kept, not copied.
pub(super) fn template(
    block: Vec<u8>,
    coinbase: RawCoinbase,
    branch: Vec<Hash>,
    network: Network,
) -> Result<Template, NodeError> {
    let CoinbaseTx { height, value, commitment } = CoinbaseTx::of(coinbase)?;
    let block = Bytes::from(block);
    let parts = Parts::of(&block).ok_or_else(|| unusable("what should be a block is none"))?;
    let bits = parts.bits();
    let network_target =
        Target::from_compact(bits).ok_or_else(|| unusable(format!("bits {bits:08x} have no target")))?;
    // Test chains are told apart by nothing that the interface says but the least work of a block.
    let easiest = Params::new(network).max_attainable_target.to_le_bytes();
    if network_target > Target::from_le_bytes(easiest) {
        return Err(NodeError::Chain {
            expected: network.to_core_arg().to_owned(),
            found: format!("one with blocks of bits {bits:08x}"),
        });
    }
    if branch.len() != (parts.count + 1).next_power_of_two().trailing_zeros() as usize {
        return Err(unusable(format!("a branch of {} for {} transactions", branch.len(), parts.count)));
    }
    Ok(Template {
        height,
        prev_hash: parts.prev_hash(),
        version: parts.version(),
        bits,
        network_target,
        time: parts.time(),
        // The interface does not tell the median time: this is later or the same, so never too early.
        min_time: parts.time(),
        coinbase_value: value,
        witness_commitment: commitment,
        transaction_count: parts.count,
        transactions: block.slice_ref(parts.transactions),
        branch,
        long_poll: None,
    })
}

#[cfg(test)]
mod tests;
