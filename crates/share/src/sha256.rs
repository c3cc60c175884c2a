//! Double SHA-256 as Bitcoin uses it, by the block: every message that is hashed for a share has a known length, so its
//! padding is laid out beforehand, and what is the same for all shares of a job is compressed once.

use sha2::{Digest, Sha256, block_api::compress256};

/// 32 bytes in internal order.
pub type Hash = [u8; 32];

/// What SHA-256 compresses at once.
type Block = [u8; 64];

/// A digest, finished or on its way, in words.
type State = [u32; 8];

/// Where SHA-256 starts (FIPS 180-4, 5.3.3).
const START: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// SHA-256 of SHA-256.
pub fn double(data: &[u8]) -> Hash {
    Sha256::digest(Sha256::digest(data)).into()
}

/// The double hash of a block header.
pub fn header(header: &[u8; 80]) -> Hash {
    let mut blocks = const { padded::<2>(80) };
    blocks.as_flattened_mut()[..80].copy_from_slice(header);
    again(compressed(START, &blocks))
}

/// Folds a merkle branch: the root of the tree whose first leaf is `leaf` and whose siblings on the way up are
/// `branch`.
pub fn fold(leaf: Hash, branch: &[Hash]) -> Hash {
    let mut pair = const { padded::<2>(64) };
    branch.iter().fold(leaf, |node, sibling| {
        pair[0][..32].copy_from_slice(&node);
        pair[0][32..].copy_from_slice(sibling);
        again(compressed(START, &pair))
    })
}

/// The siblings of the first leaf (the coinbase) on the way up, from the other leaves in block order. A level of
/// odd length repeats its last node, as in Bitcoin's tree.
pub fn branch(rest: impl IntoIterator<Item = Hash>) -> Vec<Hash> {
    let mut level: Vec<Hash> = rest.into_iter().collect();
    let mut branch = Vec::new();
    while !level.is_empty() {
        // The level is [ours, level[0], level[1], …]: our sibling is its first, the rest pair up.
        branch.push(level[0]);
        let above = level[1..].chunks(2).map(|pair| fold(pair[0], &[*pair.last().unwrap_or(&pair[0])]));
        level = above.collect();
    }
    branch
}

/// Messages that differ in one short stretch only, such as the coinbases of a job: what stands before it is compressed
/// already, what stands behind it is laid out in blocks, padding and all.
#[derive(Clone)]
pub struct Gapped {
    /// After the whole blocks before the gap.
    state: State,
    /// The others, with zeros in the gap.
    blocks: Box<[Block]>,
    /// Where the gap begins in `blocks`; below 64.
    at: usize,
    /// Its bytes.
    size: usize,
}

impl Gapped {
    /// The longest gap, in bytes.
    pub const MAX: usize = 64;

    /// Messages of `before`, then `size` bytes (at most [`Self::MAX`]) that differ, then `after`.
    pub fn new(before: &[u8], size: usize, after: &[u8]) -> Self {
        debug_assert!(size <= Self::MAX);
        let (whole, rest) = before.as_chunks::<64>();
        let at = rest.len();
        let mut rest = [rest, &vec![0; size], after].concat();
        let (end, length) = (rest.len(), before.len() + size + after.len());
        rest.resize((end + 9).next_multiple_of(64), 0);
        rest[end] = 0x80;
        let bits = rest.len() - 8..;
        rest[bits].copy_from_slice(&(8 * length as u64).to_be_bytes());
        Self { state: compressed(START, whole), blocks: rest.as_chunks().0.into(), at, size }
    }

    /// The double hash of the message with `filling` in its gap; `None` if it does not fit exactly.
    pub fn double(&self, filling: &[u8]) -> Option<Hash> {
        let mut filled = [[0; 64]; 2];
        let end = self.at + self.size;
        let (gap, after) = self.blocks.split_at(end.div_ceil(64));
        let filled = filled.get_mut(..gap.len()).filter(|_| filling.len() == self.size)?;
        filled.copy_from_slice(gap);
        filled.as_flattened_mut()[self.at..end].copy_from_slice(filling);
        Some(again(compressed(compressed(self.state, filled), after)))
    }
}

/// `blocks` taken in after what led to `state`.
fn compressed(mut state: State, blocks: &[Block]) -> State {
    compress256(&mut state, blocks);
    state
}

/// The hash of the hash that `first` is.
#[inline]
fn again(first: State) -> Hash {
    let mut block = const { padded::<1>(32) };
    block[0][..32].copy_from_slice(&bytes(first));
    bytes(compressed(START, &block))
}

#[inline]
fn bytes(state: State) -> Hash {
    let mut bytes = [0; 32];
    for (four, word) in bytes.as_chunks_mut().0.iter_mut().zip(state) {
        *four = word.to_be_bytes();
    }
    bytes
}

/// Blocks for a message of `length` bytes, still zero, with its padding behind it. They must be as many as it takes.
const fn padded<const BLOCKS: usize>(length: usize) -> [Block; BLOCKS] {
    let mut blocks = [[0; 64]; BLOCKS];
    blocks[length / 64][length % 64] = 0x80;
    let bits = 8 * length as u16;
    [blocks[BLOCKS - 1][62], blocks[BLOCKS - 1][63]] = bits.to_be_bytes();
    blocks
}

#[cfg(test)]
mod tests;
