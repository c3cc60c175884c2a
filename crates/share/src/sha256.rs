//! Double SHA-256 as Bitcoin uses it, and the hash of a coinbase whose beginning is known long before its end.

use sha2::{Digest, Sha256};

/// 32 bytes in internal order.
pub type Hash = [u8; 32];

/// SHA-256 of SHA-256.
pub fn double(data: &[u8]) -> Hash {
    Sha256::digest(Sha256::digest(data)).into()
}

/// A double SHA-256 that has taken in the first part of its input: copied for every submission, so that this part
/// is compressed once per job and not once per share.
#[derive(Clone)]
pub struct Midstate(Sha256);

impl Midstate {
    /// Takes in `prefix`.
    pub fn new(prefix: &[u8]) -> Self {
        Self(Sha256::new_with_prefix(prefix))
    }

    /// The double hash of the prefix followed by `parts`. The midstate itself is unchanged.
    pub fn finish(&self, parts: &[&[u8]]) -> Hash {
        let mut state = self.0.clone();
        for part in parts {
            state.update(part);
        }
        Sha256::digest(state.finalize()).into()
    }
}

/// Folds a merkle branch: the root of the tree whose first leaf is `leaf` and whose siblings on the way up are
/// `branch`.
pub fn fold(leaf: Hash, branch: &[Hash]) -> Hash {
    let mut pair = [0; 64];
    branch.iter().fold(leaf, |node, sibling| {
        pair[..32].copy_from_slice(&node);
        pair[32..].copy_from_slice(sibling);
        double(&pair)
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
        let above = level[1..].chunks(2).map(|pair| {
            let mut both = [0; 64];
            both[..32].copy_from_slice(&pair[0]);
            both[32..].copy_from_slice(pair.last().unwrap_or(&pair[0]));
            double(&both)
        });
        level = above.collect();
    }
    branch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn midstate_equals_the_whole() {
        let data: Vec<u8> = (0..=255).collect();
        for cut in [0, 1, 63, 64, 65, 200, 256] {
            let state = Midstate::new(&data[..cut]);
            let (a, b) = data[cut..].split_at((256 - cut) / 2);
            assert_eq!(state.finish(&[a, b]), double(&data), "cut at {cut}");
        }
    }

    #[test]
    fn branch_folds_to_the_root_of_every_size_of_tree() {
        for leaves in 1..=17u8 {
            let leaves: Vec<Hash> = (0..leaves).map(|n| [n; 32]).collect();
            let root = bitcoin::merkle_tree::calculate_root(
                leaves
                    .iter()
                    .map(|leaf| bitcoin::Txid::from_raw_hash(bitcoin::hashes::Hash::from_byte_array(*leaf))),
            )
            .map(|root| bitcoin::hashes::Hash::to_byte_array(root.to_raw_hash()));
            assert_eq!(
                root,
                Some(fold(leaves[0], &branch(leaves[1..].iter().copied()))),
                "{} leaves",
                leaves.len()
            );
        }
    }
}
