//! A block without transactions, made of the header of its parent alone: what miners can work on while a node still
//! puts a full template together. Such a block has all the subsidy, and is on the right tip.

use bitcoin::Network;
use share::{Hash, Target, sha256};

use crate::Template;

/// What is known of the block to build on.
pub(super) struct Parent {
    /// Internal order.
    pub hash: Hash,
    pub height: u32,
    /// Its target in compact form.
    pub bits: u32,
    /// Median time of it and the ten before it, seconds since 1970.
    pub median_time: u32,
}

/// Blocks between two changes of difficulty.
const PERIOD: u32 = 2016;

/// What the first block paid, in satoshi.
const FIRST_SUBSIDY: u64 = 50 * 100_000_000;

/// The next block, unless its difficulty is not that of `parent`: to know it then takes more blocks than one. `version`
/// is what the node proposed last, `now` is in seconds since 1970.
pub(super) fn template(parent: &Parent, network: Network, version: u32, now: u32) -> Option<Template> {
    let height = parent.height.checked_add(1)?;
    let keeps_difficulty = match network {
        Network::Regtest => true,
        Network::Bitcoin | Network::Signet => height % PERIOD != 0,
        // Blocks of least difficulty come in between, after 20 minutes of silence.
        _ => false,
    };
    let network_target = Target::from_compact(parent.bits).filter(|_| keeps_difficulty)?;
    let min_time = parent.median_time.checked_add(1)?;
    Some(Template {
        height,
        prev_hash: parent.hash,
        version,
        bits: parent.bits,
        network_target,
        time: now.max(min_time),
        min_time,
        coinbase_value: subsidy(height, network),
        witness_commitment: Some(commitment()),
        transactions: bytes::Bytes::new(),
        transaction_count: 0,
        branch: Vec::new(),
        long_poll: None,
    })
}

/// What a block of this height pays beside its fees, in satoshi.
fn subsidy(height: u32, network: Network) -> u64 {
    let interval = if network == Network::Regtest { 150 } else { 210_000 };
    FIRST_SUBSIDY.checked_shr(height / interval).unwrap_or(0)
}

/// The output script that commits to the witness of a block of a coinbase alone (BIP 141): a witness root of zero and a
/// reserved value of zero.
fn commitment() -> Vec<u8> {
    [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &sha256::double(&[0; 64])].concat()
}

#[cfg(test)]
mod tests;
