//! A block template in machine form: parsed once at the edge, then only read.

use bitcoin::{VarInt, consensus};
use bytes::Bytes;
use share::{Coinbase, Hash, Job, Submission, Target, check::VERSION_MASK};

/// What a node would have us mine next.
#[derive(Clone, Debug)]
pub struct Template {
    /// Height of the block to be found.
    pub height: u32,
    /// Hash of the block to build on, internal order.
    pub prev_hash: Hash,
    /// Block version as the node proposes it.
    pub version: u32,
    /// Network target in compact form.
    pub bits: u32,
    /// `bits`, decoded.
    pub network_target: Target,
    /// Header time that the node proposes, seconds since 1970.
    pub time: u32,
    /// Earliest header time that the node accepts, seconds since 1970.
    pub min_time: u32,
    /// The most that the coinbase may pay out: subsidy and fees, in satoshi.
    pub coinbase_value: u64,
    /// Script of the witness commitment output, where the block needs one.
    pub witness_commitment: Option<Vec<u8>>,
    /// The transactions after the coinbase, serialised with witness, one after the other.
    pub transactions: Bytes,
    /// How many they are.
    pub transaction_count: usize,
    /// Siblings of the coinbase on the way up the merkle tree.
    pub branch: Vec<Hash>,
    /// What to hand to [`crate::Node::template`] to wait for a better one.
    pub long_poll: Option<String>,
}

/// Stands between version and inputs of a transaction that has a witness (BIP 144).
const WITNESS_MARKER: [u8; 2] = [0, 1];

/// The witness of a coinbase: one item of 32 bytes, reserved by BIP 141 and zero.
const WITNESS_RESERVED: [u8; 34] = {
    let mut witness = [0; 34];
    (witness[0], witness[1]) = (1, 32);
    witness
};

impl Template {
    /// What miners are asked to hash, with this coinbase. The version bits that miners may roll are cleared (C-28).
    pub fn job(&self, coinbase: Coinbase) -> Job {
        Job {
            version: self.version & !VERSION_MASK,
            prev_hash: self.prev_hash,
            coinbase,
            branch: self.branch.clone().into(),
            min_time: self.min_time,
            time: self.time,
            bits: self.bits,
            network_target: self.network_target,
            height: self.height,
        }
    }

    /// The whole block, as it goes to a node: `job` must have been made of this template, and `submission` have been
    /// judged a block on it. The transactions were serialised with the template and are copied once.
    pub fn block(&self, job: &Job, submission: &Submission) -> Vec<u8> {
        let coinbase = job.coinbase.with(&submission.extranonce);
        let count = consensus::serialize(&VarInt(self.transaction_count as u64 + 1));
        let witness = WITNESS_MARKER.len() + WITNESS_RESERVED.len();
        let size = 80 + count.len() + coinbase.len() + witness + self.transactions.len();
        let mut block = Vec::with_capacity(size);
        block.extend(job.header(submission));
        block.extend(count);
        // Version and lock time of a transaction are its first and last 4 bytes; the witness goes between.
        let cut = coinbase.split_first_chunk::<4>().and_then(|(version, rest)| {
            let (body, lock_time) = rest.split_last_chunk::<4>()?;
            Some((version, body, lock_time))
        });
        match (&self.witness_commitment, cut) {
            (Some(_), Some((version, body, lock_time))) => {
                block.extend(version);
                block.extend(WITNESS_MARKER);
                block.extend(body);
                block.extend(WITNESS_RESERVED);
                block.extend(lock_time);
            }
            _ => block.extend(coinbase),
        }
        block.extend_from_slice(&self.transactions);
        block
    }
}

#[cfg(test)]
mod tests;
