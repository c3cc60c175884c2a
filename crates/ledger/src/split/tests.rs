use proptest::prelude::*;

use super::*;

fn check(amount: u128, weights: &[u128], expect: &[u128]) {
    let weights: Vec<(usize, u128)> = weights.iter().copied().enumerate().collect();
    let parts: Vec<u128> = apportion(amount, &weights).into_iter().map(|(_, part)| part).collect();
    assert_eq!(parts, expect, "{amount} by {weights:?}");
}

#[test]
fn parts() {
    check(100, &[1], &[100]);
    check(100, &[1, 1], &[50, 50]);
    check(100, &[1, 1, 1], &[34, 33, 33]);
    check(101, &[1, 1, 1], &[34, 34, 33]);
    check(10, &[6, 3, 1], &[6, 3, 1]);
    check(10, &[1, 1, 1, 1, 1, 1], &[2, 2, 2, 2, 1, 1]);
    check(3, &[1, 2, 3, 4, 5], &[0, 0, 1, 1, 1]);
    check(1, &[1, 3, 3], &[0, 1, 0]);
    check(0, &[1, 2], &[0, 0]);
    check(7, &[0, 2], &[0, 7]);
    check(7, &[], &[]);
    check(7, &[0, 0], &[]);
    check(7, &[u128::MAX, u128::MAX], &[4, 3]);
    check(u128::MAX, &[u128::MAX], &[u128::MAX]);
    check(u128::MAX, &[1, u128::MAX - 1], &[1, u128::MAX - 1]);
    check(312_500_000_000, &[1 << 96, 1 << 96], &[156_250_000_000, 156_250_000_000]);
}

#[test]
fn more_miners_than_millisatoshi() {
    // F-58: one unit of work each, less to divide than there are miners.
    let weights: Vec<(u32, u128)> = (0..100_000).map(|miner| (miner, 1)).collect();
    for amount in [0, 1, 99_999, 100_000, 100_001, 312_500_000_000] {
        let parts = apportion(amount, &weights);
        assert_eq!(parts.iter().map(|(_, part)| part).sum::<u128>(), amount);
        let (least, most) = (amount / 100_000, amount.div_ceil(100_000));
        assert!(parts.iter().all(|(_, part)| (least..=most).contains(part)), "{amount}");
        assert!(parts.is_sorted_by(|a, b| a.1 >= b.1), "ties go to the smaller key");
    }
}

/// The same as [`multiply_divide`], by 256-bit schoolbook arithmetic of `bitcoin`-sized decimal limbs: slow and plain.
fn reference(a: u128, b: u128, c: u128) -> (u128, u128) {
    let mut product = [0u64; 8];
    let limbs = |x: u128| [0, 32, 64, 96].map(|shift| (x >> shift) as u32);
    for (i, x) in limbs(a).into_iter().enumerate() {
        let mut carry = 0u64;
        for (j, y) in limbs(b).into_iter().enumerate() {
            let sum = product[i + j] + u64::from(x) * u64::from(y) + carry;
            product[i + j] = sum & 0xffff_ffff;
            carry = sum >> 32;
        }
        product[i + 4] += carry;
    }
    let (mut quotient, mut rest) = (0u128, 0u128);
    for bit in (0..256).rev() {
        let over = rest >> 127 == 1;
        rest = rest << 1 | u128::from(product[bit / 32] >> (bit % 32) & 1);
        quotient <<= 1;
        if over || rest >= c {
            rest = rest.wrapping_sub(c);
            quotient |= 1;
        }
    }
    (quotient, rest)
}

proptest! {
    #[test]
    fn products_of_any_size(a: u128, b: u128, c in 1u128..) {
        let (b, c) = (b.min(c), b.max(c));
        prop_assert_eq!(multiply_divide(a, b, c), reference(a, b, c));
    }

    #[test]
    fn parts_sum_to_the_amount_and_are_fair(
        amount in prop_oneof![0u128..1_000, 0..2_100_000_000_000_000_000u128, any::<u128>()],
        weights in proptest::collection::vec(prop_oneof![0u128..4, 1..1u128 << 96, 1..1u128 << 120], 1..200),
    ) {
        let weights: Vec<(usize, u128)> = weights.into_iter().enumerate().collect();
        let total: u128 = weights.iter().map(|(_, weight)| weight).sum();
        prop_assume!(total > 0);
        let parts = apportion(amount, &weights);
        prop_assert_eq!(parts.iter().map(|(_, part)| part).sum::<u128>(), amount);
        for ((_, weight), (_, part)) in weights.iter().zip(&parts) {
            let (floor, remainder) = multiply_divide(amount, *weight, total);
            prop_assert!(*part == floor || (*part == floor + 1 && remainder > 0));
        }
        let mut by_weight: Vec<_> = weights.iter().zip(&parts).map(|(weight, part)| (weight.1, part.1)).collect();
        by_weight.sort_unstable();
        prop_assert!(by_weight.is_sorted_by(|a, b| a.1 <= b.1), "more work never earns less");
    }

    #[test]
    fn parts_sum_to_the_amount_even_where_the_weights_overflow(
        amount: u128,
        weights in proptest::collection::vec(u128::MAX / 2.., 2..50),
    ) {
        let weights: Vec<(usize, u128)> = weights.into_iter().enumerate().collect();
        let parts = apportion(amount, &weights);
        prop_assert_eq!(parts.iter().map(|(_, part)| part).sum::<u128>(), amount);
    }

    #[test]
    fn the_order_of_the_weights_does_not_matter(amount in 0u128..10_000, weights in proptest::collection::vec(0u128..50, 1..40)) {
        let mut weights: Vec<(usize, u128)> = weights.into_iter().enumerate().collect();
        let forth = apportion(amount, &weights);
        weights.reverse();
        let mut back = apportion(amount, &weights);
        back.reverse();
        prop_assert_eq!(forth, back);
    }
}
