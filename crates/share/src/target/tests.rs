use proptest::prelude::*;

use super::*;

fn target(hex: &str) -> Target {
    let mut bytes: [u8; 32] = hex::decode(format!("{hex:0>64}")).unwrap().try_into().unwrap();
    bytes.reverse();
    Target::from_le_bytes(bytes)
}

fn difficulty(value: f64) -> Difficulty {
    Difficulty::new(value).unwrap()
}

#[test]
fn compact_form() {
    let check = |bits: u32, expect: Option<&str>| {
        assert_eq!(Target::from_compact(bits), expect.map(target), "{bits:08x}")
    };
    check(0x1d00_ffff, Some("ffff0000000000000000000000000000000000000000000000000000"));
    check(0x207f_ffff, Some("7fffff0000000000000000000000000000000000000000000000000000000000"));
    check(0x1e03_77ae, Some("0377ae000000000000000000000000000000000000000000000000000000"));
    check(0x0112_3456, Some("12"));
    check(0x0312_3456, Some("123456"));
    check(0x0412_3456, Some("12345600"));
    check(0x0092_3456, None); // negative
    check(0x0000_0000, None);
    check(0x2300_0001, None); // beyond 256 bits
    check(0xff12_3456, None);
}

#[test]
fn difficulty_to_target() {
    let check = |value: f64, expect: &str| {
        assert_eq!(difficulty(value).target(), target(expect), "difficulty {value}")
    };
    check(1.0, "ffff0000000000000000000000000000000000000000000000000000");
    check(2.0, "7fff8000000000000000000000000000000000000000000000000000");
    check(65535.0, "10000000000000000000000000000000000000000000000000000");
    check(0.5, "1fffe0000000000000000000000000000000000000000000000000000");
    check(3.0, "55550000000000000000000000000000000000000000000000000000");
    assert_eq!(difficulty(1e-30).target(), Target::MAX);
    assert_eq!(difficulty(f64::MIN_POSITIVE).target(), Target::MAX);
    assert_eq!(difficulty(5e-324).target(), Target::MAX);
    assert_eq!(difficulty(f64::MAX).target(), target("1"));
    for bad in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(Difficulty::new(bad), None, "{bad}");
    }
}

#[test]
fn work_of_known_targets() {
    assert_eq!(Target::ONE.work(), 0x1_0001_0001);
    assert_eq!(Target::MAX.work(), 1);
    assert_eq!(target(&format!("7{}", "f".repeat(63))).work(), 2);
    assert_eq!(target("1").work(), Work::MAX);
}

#[test]
fn difficulty_is_shown_without_a_needless_fraction() {
    assert_eq!(difficulty(512.0).to_string(), "512");
    assert_eq!(difficulty(0.001).to_string(), "0.001");
    assert_eq!(difficulty(1e12).to_string(), "1000000000000");
}

proptest! {
    #[test]
    fn agrees_with_the_bitcoin_crate(limbs: [u64; 4], shift in 0u32..124) {
        let mut limbs = limbs;
        limbs[3] >>= shift.min(63);
        if shift > 63 { limbs[2] >>= shift - 63; }
        limbs[2] |= 1; // our work saturates below 2^128
        let ours = Target(limbs);
        let theirs = bitcoin::Target::from_le_bytes(ours.to_le_bytes());
        prop_assert_eq!(ours.to_compact(), theirs.to_compact_lossy().to_consensus());
        let work = theirs.to_work().to_be_bytes();
        prop_assert_eq!(&work[..16], &[0; 16]);
        prop_assert_eq!(ours.work(), u128::from_be_bytes(work[16..].try_into().unwrap()));
    }

    #[test]
    fn compact_agrees_with_the_bitcoin_crate(bits: u32) {
        let theirs = bitcoin::Target::from_compact(bitcoin::CompactTarget::from_consensus(bits)).to_le_bytes();
        if let Some(ours) = Target::from_compact(bits) {
            prop_assert_eq!(ours.to_le_bytes(), theirs);
        }
    }

    #[test]
    fn target_of_a_difficulty_is_the_floor(mantissa in 1u64..1 << 53, exponent in -60i32..100) {
        // d = m * 2^e and t = floor(ONE / d): t * d <= ONE < (t + 1) * d, seen through f64 to 1e-9.
        let value = mantissa as f64 * 2f64.powi(exponent);
        let target = difficulty(value).target();
        prop_assume!(target != Target::MAX && target > Target([0, 1, 0, 0]));
        let back = target.difficulty().get();
        prop_assert!((back / value - 1.0).abs() < 1e-9, "{} became {}", value, back);
        prop_assert!(back >= value * (1.0 - 1e-12));
    }

    #[test]
    fn order_is_that_of_the_number(a: [u8; 32], b: [u8; 32]) {
        // Not a closure that reverses its argument in place: rustc 1.95.0, optimising, lets it reverse the caller's.
        let reversed = |bytes: &[u8; 32]| -> [u8; 32] { std::array::from_fn(|i| bytes[31 - i]) };
        prop_assert_eq!(Target::from_le_bytes(a).cmp(&Target::from_le_bytes(b)), reversed(&a).cmp(&reversed(&b)));
        prop_assert_eq!(Target::from_le_bytes(a).is_met_by(&b), reversed(&b) <= reversed(&a));
    }
}
