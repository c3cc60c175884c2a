//! Against the `bitcoin` crate, which has a SHA-256 of its own.

use bitcoin::hashes::{Hash as _, sha256d};
use proptest::prelude::*;

use super::*;

fn expected(data: &[u8]) -> Hash {
    sha256d::Hash::hash(data).to_byte_array()
}

#[test]
fn gaps_of_every_size_at_every_place() {
    let data: Vec<u8> = (0..=255).cycle().take(400).collect();
    for length in [0, 1, 54, 55, 56, 63, 64, 65, 119, 120, 128, 200, 256, 400] {
        for size in (0..=Gapped::MAX.min(length)).filter(|size| size % 7 < 2) {
            for at in 0..=length - size {
                let gapped = Gapped::new(&data[..at], size, &data[at + size..length]);
                let filling = &data[at..at + size];
                let place = format!("{size} at {at} of {length}");
                assert_eq!(gapped.double(filling), Some(expected(&data[..length])), "{place}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_the_gap_has_no_hash() {
    let gapped = Gapped::new(&[1; 75], 12, &[2; 100]);
    assert!(gapped.double(&[5; 12]).is_some());
    for length in [0, 11, 13, 64, 65] {
        assert_eq!(gapped.double(&vec![5; length]), None, "{length}");
    }
}

proptest! {
    #[test]
    fn equal_to_another_implementation(
        before in prop::collection::vec(any::<u8>(), 0..1000),
        filling in prop::collection::vec(any::<u8>(), 0..=Gapped::MAX),
        after in prop::collection::vec(any::<u8>(), 0..1000),
    ) {
        let whole = [&before[..], &filling, &after].concat();
        prop_assert_eq!(double(&whole), expected(&whole));
        let gapped = Gapped::new(&before, filling.len(), &after);
        prop_assert_eq!(gapped.double(&filling), Some(expected(&whole)));
    }

    #[test]
    fn headers_and_pairs(bytes in any::<[u8; 80]>(), leaf in any::<Hash>(), siblings in prop::collection::vec(any::<Hash>(), 0..16)) {
        prop_assert_eq!(header(&bytes), expected(&bytes));
        let root = siblings.iter().fold(leaf, |node, sibling| expected(&[node, *sibling].concat()));
        prop_assert_eq!(fold(leaf, &siblings), root);
    }
}

#[test]
fn branch_folds_to_the_root_of_every_size_of_tree() {
    for leaves in 1..=17u8 {
        let leaves: Vec<Hash> = (0..leaves).map(|n| [n; 32]).collect();
        let txids = leaves.iter().map(|leaf| bitcoin::Txid::from_byte_array(*leaf));
        let root = bitcoin::merkle_tree::calculate_root(txids).map(|root| root.to_byte_array());
        let branch = branch(leaves[1..].iter().copied());
        assert_eq!(root, Some(fold(leaves[0], &branch)), "{} leaves", leaves.len());
    }
}
