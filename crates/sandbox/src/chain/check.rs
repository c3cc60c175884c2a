//! The rules that a block must keep to, in the order and the words of Bitcoin Core.

use std::collections::HashSet;

use bitcoin::{Block, Transaction, consensus, hashes::Hash as _, script::Builder};
use share::{Hash, Target, sha256};

use crate::chain::{
    difficulty::{EASIEST, Issue},
    mempool::Entry,
};

/// How far ahead of the clock a header's time may be, in seconds.
const TIME_AHEAD: u64 = 7_200;

/// The heaviest block, in weight units.
pub const MAX_WEIGHT: u64 = 4_000_000;

/// The most signature operations of a block, each in a script without witness counted four times.
const MAX_SIGOP_COST: usize = 80_000;

/// All the money there can be, in satoshi.
const MAX_MONEY: u64 = 2_100_000_000_000_000;

/// Blocks between two halvings of the subsidy.
const HALVING: u32 = 210_000;

/// How the script of the witness commitment output begins (BIP 141).
pub const COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// Why a block is refused: shown as Bitcoin Core's `submitblock` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("high-hash")]
    HighHash,
    #[error("bad-txnmrklroot")]
    MerkleRoot,
    #[error("bad-txns-duplicate")]
    MerkleDuplicate,
    #[error("bad-blk-length")]
    Length,
    #[error("bad-cb-missing")]
    CoinbaseMissing,
    #[error("bad-cb-multiple")]
    CoinbaseMultiple,
    #[error("bad-cb-length")]
    CoinbaseLength,
    #[error("bad-txns-vout-empty")]
    NoOutputs,
    #[error("bad-txns-vout-negative")]
    NegativeOutput,
    #[error("bad-txns-vout-toolarge")]
    LargeOutput,
    #[error("bad-txns-txouttotal-toolarge")]
    LargeTotal,
    #[error("bad-blk-sigops")]
    Sigops,
    #[error("prev-blk-not-found")]
    ParentUnknown,
    #[error("bad-prevblk")]
    ParentInvalid,
    #[error("bad-diffbits")]
    Bits,
    #[error("time-too-old")]
    TimeTooOld,
    #[error("time-too-new")]
    TimeTooNew,
    #[error("bad-version(0x{0:08x})")]
    Version(i32),
    #[error("bad-txns-nonfinal")]
    NonFinal,
    #[error("bad-cb-height")]
    CoinbaseHeight,
    #[error("bad-witness-nonce-size")]
    WitnessReserved,
    #[error("bad-witness-merkle-match")]
    WitnessCommitment,
    #[error("unexpected-witness")]
    UnexpectedWitness,
    #[error("bad-blk-weight")]
    Weight,
    #[error("bad-txns-inputs-missingorspent")]
    MissingOrSpent,
    #[error("block-script-verify-flag-failed")]
    Script,
    #[error("bad-cb-amount")]
    CoinbaseAmount,
}

/// What a block has to fit to: its parent, and the bits that were issued on it.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Height of the new block.
    pub height: u32,
    /// Median header time of the parent and the ten before it.
    pub median_time: u32,
    /// What templates on this parent said.
    pub issues: &'a [Issue],
    /// Whether the parent was made invalid.
    pub parent_invalid: bool,
}

/// The hashes of a block's transactions, computed once.
pub struct Hashes {
    /// Without witness, coinbase first.
    pub txids: Vec<Hash>,
    /// With witness, coinbase first; as BIP 141 has it, the coinbase counts as zero.
    pub wtxids: Vec<Hash>,
}

impl Hashes {
    /// Those of `block`.
    pub fn of(block: &Block) -> Self {
        let wtxid = |(i, tx): (usize, &Transaction)| match i {
            0 => [0; 32],
            _ => tx.compute_wtxid().to_byte_array(),
        };
        Self {
            txids: block.txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect(),
            wtxids: block.txdata.iter().enumerate().map(wtxid).collect(),
        }
    }
}

/// What mines out of nothing at `height`, in satoshi.
pub fn subsidy(height: u32) -> u64 {
    5_000_000_000u64.checked_shr(height / HALVING).unwrap_or(0)
}

/// Rules that a block keeps to or not, wherever it stands.
pub fn alone(block: &Block, hashes: &Hashes) -> Result<(), Refusal> {
    let hash = block.block_hash().to_byte_array();
    let target = Target::from_compact(block.header.bits.to_consensus());
    if !target.is_some_and(|target| Some(target) <= Target::from_compact(EASIEST) && target.is_met_by(&hash))
    {
        return Err(Refusal::HighHash);
    }
    let (root, repeated) = merkle_root(&hashes.txids);
    if root != block.header.merkle_root.to_byte_array() {
        return Err(Refusal::MerkleRoot);
    }
    if repeated {
        return Err(Refusal::MerkleDuplicate);
    }
    let stripped: usize = block.txdata.iter().map(Transaction::base_size).sum();
    let header = 80 + consensus::serialize(&bitcoin::VarInt::from(block.txdata.len())).len();
    if block.txdata.is_empty() || 4 * (header + stripped) as u64 > MAX_WEIGHT {
        return Err(Refusal::Length);
    }
    let (coinbase, rest) = block.txdata.split_first().ok_or(Refusal::CoinbaseMissing)?;
    if !coinbase.is_coinbase() {
        return Err(Refusal::CoinbaseMissing);
    }
    if rest.iter().any(Transaction::is_coinbase) {
        return Err(Refusal::CoinbaseMultiple);
    }
    // The other transactions are compared with known good ones later.
    outputs(coinbase)?;
    if !coinbase.input.iter().all(|input| (2..=100).contains(&input.script_sig.len())) {
        return Err(Refusal::CoinbaseLength);
    }
    let sigops: usize = block.txdata.iter().map(|tx| tx.total_sigop_cost(|_| None)).sum();
    if sigops > MAX_SIGOP_COST { Err(Refusal::Sigops) } else { Ok(()) }
}

/// Rules that depend on the block's place. `now` is in seconds since 1970.
pub fn at(block: &Block, hashes: &Hashes, place: &Place<'_>, now: u64) -> Result<(), Refusal> {
    let (time, version) = (block.header.time, block.header.version.to_consensus());
    if place.parent_invalid {
        return Err(Refusal::ParentInvalid);
    }
    if !place.issues.iter().any(|issue| issue.bits == block.header.bits.to_consensus()) {
        return Err(Refusal::Bits);
    }
    if time <= place.median_time {
        return Err(Refusal::TimeTooOld);
    }
    if u64::from(time) > now + TIME_AHEAD {
        return Err(Refusal::TimeTooNew);
    }
    if version < 4 {
        return Err(Refusal::Version(version));
    }
    let coinbase = block.txdata.first().ok_or(Refusal::CoinbaseMissing)?;
    let [input] = &coinbase.input[..] else { return Err(Refusal::CoinbaseMissing) };
    if !is_final(coinbase, place) {
        return Err(Refusal::NonFinal);
    }
    let height = Builder::new().push_int(place.height.into());
    if !input.script_sig.as_bytes().starts_with(height.as_bytes()) {
        return Err(Refusal::CoinbaseHeight);
    }
    witness(block, coinbase, hashes)?;
    if block.weight().to_wu() > MAX_WEIGHT { Err(Refusal::Weight) } else { Ok(()) }
}

/// Rules about money: every transaction is known and not spent before, and the coinbase takes no more than it may.
/// `spent` holds the txids of the blocks before this one.
pub fn money<'a>(
    block: &Block,
    hashes: &Hashes,
    height: u32,
    known: impl Fn(&Hash) -> Option<&'a Entry>,
    mut spent: HashSet<Hash>,
) -> Result<(), Refusal> {
    let mut allowed = subsidy(height);
    for (txid, wtxid) in hashes.txids.iter().zip(&hashes.wtxids).skip(1) {
        let entry = known(txid).filter(|_| spent.insert(*txid)).ok_or(Refusal::MissingOrSpent)?;
        if entry.wtxid != *wtxid {
            return Err(Refusal::Script);
        }
        allowed += entry.fee;
    }
    let coinbase = block.txdata.first().ok_or(Refusal::CoinbaseMissing)?;
    if outputs(coinbase)? > allowed { Err(Refusal::CoinbaseAmount) } else { Ok(()) }
}

/// The sum of the outputs, in satoshi, if they can be real.
fn outputs(transaction: &Transaction) -> Result<u64, Refusal> {
    if transaction.output.is_empty() {
        return Err(Refusal::NoOutputs);
    }
    transaction.output.iter().try_fold(0, |sum, output| match output.value.to_sat() {
        value if value > i64::MAX as u64 => Err(Refusal::NegativeOutput),
        value if value > MAX_MONEY => Err(Refusal::LargeOutput),
        value if sum + value > MAX_MONEY => Err(Refusal::LargeTotal),
        value => Ok(sum + value),
    })
}

/// Whether the lock time of a transaction is over: a height below this one, or a time (500,000,000 and more) before the
/// median time (BIP 113).
fn is_final(transaction: &Transaction, place: &Place<'_>) -> bool {
    let lock = transaction.lock_time.to_consensus_u32();
    let limit = if lock < 500_000_000 { place.height } else { place.median_time };
    lock < limit || !transaction.is_lock_time_enabled()
}

fn witness(block: &Block, coinbase: &Transaction, hashes: &Hashes) -> Result<(), Refusal> {
    let commitment = coinbase.output.iter().rev().find_map(|output| {
        let (committed, _) =
            output.script_pubkey.as_bytes().strip_prefix(&COMMITMENT)?.split_first_chunk::<32>()?;
        Some(*committed)
    });
    let Some(commitment) = commitment else {
        let has_witness = |tx: &Transaction| tx.input.iter().any(|input| !input.witness.is_empty());
        return if block.txdata.iter().any(has_witness) { Err(Refusal::UnexpectedWitness) } else { Ok(()) };
    };
    let mut items = coinbase.input.iter().flat_map(|input| input.witness.iter());
    let (Some(reserved), None) = (items.next(), items.next()) else { return Err(Refusal::WitnessReserved) };
    let reserved: Hash = reserved.try_into().map_err(|_| Refusal::WitnessReserved)?;
    let expected = witness_commitment(&merkle_root(&hashes.wtxids).0, &reserved);
    if commitment == expected { Ok(()) } else { Err(Refusal::WitnessCommitment) }
}

/// What a coinbase commits to (BIP 141).
pub fn witness_commitment(witness_root: &Hash, reserved: &Hash) -> Hash {
    sha256::fold(*witness_root, &[*reserved])
}

/// The merkle root, and whether a pair in the tree repeats itself: such a list of transactions has the root of a
/// shorter one (CVE-2012-2459). No leaves have the root zero.
pub fn merkle_root(leaves: &[Hash]) -> (Hash, bool) {
    let (mut level, mut repeated) = (leaves.to_vec(), false);
    while level.len() > 1 {
        repeated |= level.chunks_exact(2).any(|pair| pair[0] == pair[1]);
        let pairs = level.chunks(2);
        level = pairs.map(|pair| sha256::fold(pair[0], &[*pair.last().unwrap_or(&pair[0])])).collect();
    }
    (level.first().copied().unwrap_or_default(), repeated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsidy_halves() {
        let check = |height: u32, expect: u64| assert_eq!(subsidy(height), expect, "at {height}");
        check(0, 5_000_000_000);
        check(209_999, 5_000_000_000);
        check(210_000, 2_500_000_000);
        check(900_000, 312_500_000);
        check(1_050_000, 156_250_000);
        check(32 * HALVING, 1);
        check(33 * HALVING, 0);
        check(u32::MAX, 0);
    }

    #[test]
    fn merkle_root_agrees_with_the_bitcoin_crate_and_sees_repetition() {
        let check = |leaves: &[u8], repeated: bool| {
            let leaves: Vec<Hash> = leaves.iter().map(|&leaf| [leaf; 32]).collect();
            let theirs = leaves.iter().map(|leaf| bitcoin::hashes::sha256d::Hash::from_byte_array(*leaf));
            let theirs =
                bitcoin::merkle_tree::calculate_root(theirs).map_or([0; 32], |root| root.to_byte_array());
            assert_eq!(merkle_root(&leaves), (theirs, repeated), "{leaves:?}");
        };
        check(&[], false);
        check(&[1], false);
        check(&[1, 2, 3], false);
        check(&[1, 2, 3, 3], true); // has the root of the one above
        check(&[1, 2, 3, 4, 5, 6], false);
        check(&[1, 2, 3, 4, 5, 6, 5, 6], true);
        check(&[1, 2, 2, 3], false);
        assert_eq!(
            merkle_root(&[[1; 32], [2; 32], [3; 32]]).0,
            merkle_root(&[[1; 32], [2; 32], [3; 32], [3; 32]]).0
        );
    }
}
