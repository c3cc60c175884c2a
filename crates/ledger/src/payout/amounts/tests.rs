use proptest::{collection::vec, prelude::*};

use super::*;

fn sums(entries: &[(Account, i64)]) -> i128 {
    entries.iter().map(|(_, amount)| i128::from(*amount)).sum()
}

fn of(entries: &[(Account, i64)], account: Account) -> i64 {
    entries.iter().filter(|(at, _)| *at == account).map(|(_, amount)| amount).sum()
}

proptest! {
    /// W5: outputs, the fee and what stays behind are what was in flight and on the balance, to the millisatoshi.
    #[test]
    fn nothing_is_lost_on_the_way(
        balances in vec(1_000_000i64..1_000_000_000_000, 1..60),
        fee in 1u64..100_000,
        by_miners: bool,
    ) {
        let from = if by_miners { FeeFrom::Miners } else { FeeFrom::Pool };
        let items: Vec<(i64, u64)> = (1..).zip(balances.iter().map(|msat| whole_sats(*msat))).collect();
        let gross: Vec<u64> = items.iter().map(|(_, sats)| *sats).collect();
        let plan = planned(&items).unwrap();
        prop_assert_eq!(sums(&plan), 0);
        for ((miner, sats), balance) in items.iter().zip(&balances) {
            let left = balance + of(&plan, Account::Miner(*miner, Purse::Available));
            prop_assert!((0..MSAT).contains(&left), "{} stays of {}", left, balance);
            prop_assert_eq!(of(&plan, Account::Miner(*miner, Purse::InFlight)), *sats as i64 * MSAT);
        }
        let Some(net) = outputs(&gross, fee, from) else {
            // Only where the fee eats a whole payment.
            prop_assert!(by_miners && gross.iter().sum::<u64>() <= fee * 2 + gross.len() as u64);
            return Ok(());
        };
        let total: u64 = gross.iter().sum();
        let borne = if by_miners { fee } else { 0 };
        prop_assert_eq!(net.iter().sum::<u64>() + borne, total);
        // Nobody bears more than a satoshi beyond its part.
        for (gross, net) in gross.iter().zip(&net) {
            let exact = u128::from(borne) * u128::from(*gross) / u128::from(total);
            prop_assert!(u128::from(gross - net) - exact <= 1);
        }
        let done = paid(&items, fee, from).unwrap();
        prop_assert_eq!(sums(&done), 0);
        prop_assert_eq!(of(&done, Account::NetworkFee), fee as i64 * MSAT);
        prop_assert_eq!(of(&done, Account::FeeAvailable), if by_miners { 0 } else { -(fee as i64) * MSAT });
        for ((miner, sats), net) in items.iter().zip(&net) {
            prop_assert_eq!(of(&done, Account::Miner(*miner, Purse::InFlight)), -(*sats as i64) * MSAT);
            prop_assert_eq!(of(&done, Account::Miner(*miner, Purse::Paid)), *net as i64 * MSAT);
        }
        prop_assert_eq!(sums(&[done.clone(), reversed(done)].concat()), 0);
    }
}

#[test]
fn the_parts_of_a_fee() {
    let check = |gross: &[u64], fee, from, expect: Option<&[u64]>| {
        assert_eq!(outputs(gross, fee, from).as_deref(), expect, "{gross:?} less {fee}");
    };
    check(&[700, 300], 10, FeeFrom::Pool, Some(&[700, 300]));
    check(&[700, 300], 10, FeeFrom::Miners, Some(&[693, 297]));
    // Two satoshi for three: the first ones bear them.
    check(&[500, 500, 500], 2, FeeFrom::Miners, Some(&[499, 499, 500]));
    check(&[1, 1], 2, FeeFrom::Miners, None);
    check(&[5], 6, FeeFrom::Miners, None);
    for (msat, sats) in
        [(-5_000, 0), (0, 0), (999, 0), (1_000, 1), (1_999, 1), (i64::MAX, i64::MAX as u64 / 1000)]
    {
        assert_eq!(whole_sats(msat), sats);
    }
}

#[test]
fn fee_rates() {
    let check = |estimate, fallback, most, expect: Result<u64, &str>| match rate(estimate, fallback, most) {
        Ok(rate) => assert_eq!(Ok(rate), expect),
        Err(why) => {
            let words = expect.expect_err(&why);
            assert!(why.contains(words), "{why}");
        }
    };
    check(Some(5_000), None, 50_000, Ok(5_000));
    check(Some(5_000), Some(9_000), 50_000, Ok(5_000));
    check(None, Some(9_000), 50_000, Ok(9_000));
    check(Some(12), None, 50_000, Ok(1_000));
    check(Some(50_000), None, 50_000, Ok(50_000));
    // F-55: a fee spike.
    check(Some(50_001), None, 50_000, Err("51 sat/vB, payout.max_feerate is 50"));
    check(None, None, 50_000, Err("payout.feerate"));
}
