use bitcoin::Network;
use proptest::prelude::*;

use super::*;
use crate::window::Weight;

fn weights(miners: &[(u128, u128)], bought: (u128, u128)) -> Weights {
    let weight = |(fees, subsidy): &(u128, u128)| Weight { fees: *fees, subsidy: *subsidy };
    let miners = (1..).zip(miners).map(|(miner, both)| (miner, weight(both))).collect();
    Weights { miners, bought: weight(&bought) }
}

fn check(reward: (u64, u64), ppm: u32, weights: &Weights, expect: (u64, i64, &[i64])) {
    let reward = Reward { subsidy: reward.0, fees: reward.1 };
    let fee = reward.fee(ppm, weights);
    let division = reward.divide(fee, weights).unwrap();
    let miners: Vec<i64> = division.miners.iter().map(|(_, msat)| *msat).collect();
    assert_eq!((fee, division.reserve, &miners[..]), expect, "{reward:?} {ppm} ppm by {weights:?}");
}

#[test]
fn divisions() {
    // Miners only.
    check((1_000, 0), 10_000, &weights(&[(75, 75), (25, 25)], (0, 0)), (10, 0, &[743, 247]));
    check((900, 100), 10_000, &weights(&[(75, 75), (25, 25)], (0, 0)), (10, 0, &[743, 247]));
    // The reserve only: there is no fee on what is the pool's.
    check((1_000, 0), 10_000, &weights(&[], (5, 5)), (0, 1_000, &[]));
    // Half and half: what does not divide stays with the reserve.
    check((1_001, 0), 0, &weights(&[(5, 5)], (5, 5)), (0, 501, &[500]));
    check((1_001, 0), 100_000, &weights(&[(5, 5)], (5, 5)), (50, 501, &[450]));
    // PPS+: the subsidy is the reserve's, the fees are the miners'.
    check((900, 100), 0, &weights(&[(6, 0), (4, 0)], (0, 10)), (0, 900, &[60, 40]));
    check((900, 100), 10_000, &weights(&[(6, 0), (4, 0)], (0, 10)), (1, 900, &[59, 40]));
    // One under PPLNS, one under PPS+, and some that was bought whole.
    check((1_000, 200), 0, &weights(&[(4, 4), (4, 0)], (2, 6)), (0, 640, &[480, 80]));
    check((1_000, 200), 500_000, &weights(&[(4, 4), (4, 0)], (2, 6)), (280, 640, &[240, 40]));
    check((0, 0), 10_000, &weights(&[(1, 1)], (0, 0)), (0, 0, &[0]));
    check((10, 5), 1_000_000, &weights(&[(1, 1)], (0, 0)), (15, 0, &[0]));
}

#[test]
fn a_fee_above_the_miners_part_is_refused() {
    let weights = weights(&[(1, 1)], (1, 1));
    assert!(Reward { subsidy: 100, fees: 0 }.divide(51, &weights).is_err());
    assert!(Reward { subsidy: 100, fees: 0 }.divide(50, &weights).is_ok());
}

#[test]
fn subsidies() {
    let check = |network, height, sats: u64| {
        assert_eq!(subsidy(halvings(network, height)), sats * 1_000, "{network} {height}");
    };
    check(Network::Bitcoin, 0, 5_000_000_000);
    check(Network::Bitcoin, 209_999, 5_000_000_000);
    check(Network::Bitcoin, 210_000, 2_500_000_000);
    check(Network::Bitcoin, 900_000, 312_500_000);
    check(Network::Regtest, 149, 5_000_000_000);
    check(Network::Regtest, 150, 2_500_000_000);
    check(Network::Regtest, u32::MAX, 0);
    assert_eq!(
        Reward::of(Network::Bitcoin, 900_000, 312_600_000_000),
        Reward { subsidy: 312_500_000_000, fees: 100_000_000 }
    );
    assert_eq!(Reward::of(Network::Bitcoin, 1, 7), Reward { subsidy: 7, fees: 0 });
}

proptest! {
    #[test]
    fn the_parts_sum_to_the_reward(
        subsidy in 0u64..1 << 50,
        fees in 0u64..1 << 50,
        ppm in 0u32..=1_000_000,
        // By miner: what counts for both, and what for the fees only.
        miners in proptest::collection::vec((0u128..1 << 90, 0u128..1 << 90), 0..40),
        bought in 0u128..1 << 90,
    ) {
        let both: Vec<(u128, u128)> = miners.iter().map(|(both, fees)| (both + fees, *both)).collect();
        let only_fees: u128 = miners.iter().map(|(_, fees)| fees).sum();
        let mut weights = weights(&both, (bought, bought + only_fees));
        weights.miners.retain(|(_, weight)| weight.fees > 0);
        prop_assume!(weights.total() > 0);
        let reward = Reward { subsidy, fees };
        let fee = reward.fee(ppm, &weights);
        let division = reward.divide(fee, &weights).unwrap();
        let sum: i64 = division.miners.iter().map(|(_, msat)| *msat).sum();
        prop_assert_eq!(i128::from(sum) + i128::from(division.reserve) + i128::from(fee), i128::from(subsidy + fees));
        prop_assert!(division.reserve >= 0 && division.miners.iter().all(|(_, msat)| *msat >= 0));
        prop_assert!(division.miners.is_sorted_by(|a, b| a.0 < b.0), "each miner once");
    }
}
