use super::*;

fn parent(height: u32) -> Parent {
    Parent { hash: [7; 32], height, bits: 0x1d00_ffff, median_time: 1_700_000_000 }
}

#[test]
fn f11_the_subsidy_halves() {
    let check = |network, height, expect: u64| assert_eq!(subsidy(height, network), expect, "{height}");
    check(Network::Bitcoin, 1, 5_000_000_000);
    check(Network::Bitcoin, 209_999, 5_000_000_000);
    check(Network::Bitcoin, 210_000, 2_500_000_000);
    check(Network::Bitcoin, 840_000, 312_500_000);
    check(Network::Signet, 1_050_000, 156_250_000);
    check(Network::Regtest, 149, 5_000_000_000);
    check(Network::Regtest, 150, 2_500_000_000);
    // The last satoshi is paid in the 33rd epoch, and no shift is too far.
    check(Network::Bitcoin, 32 * 210_000, 1);
    check(Network::Bitcoin, 33 * 210_000, 0);
    check(Network::Regtest, u32::MAX, 0);
}

#[test]
fn f11_there_is_none_where_the_difficulty_may_change() {
    let check = |network, height: u32, expect: bool| {
        assert_eq!(template(&parent(height), network, 1, 0).is_some(), expect, "{network} {height}");
    };
    for network in [Network::Bitcoin, Network::Signet] {
        check(network, 2014, true);
        check(network, 2015, false);
        check(network, 2016, true);
        check(network, 4031, false);
    }
    check(Network::Regtest, 2015, true);
    check(Network::Testnet4, 10, false);
    check(Network::Bitcoin, u32::MAX, false);
}

#[test]
fn time_is_ours_but_never_too_early() {
    let check = |now, expect: u32| {
        let template = template(&parent(9), Network::Bitcoin, 1, now).unwrap();
        assert_eq!((template.time, template.min_time), (expect, 1_700_000_001));
    };
    check(1_700_003_000, 1_700_003_000);
    check(1_600_000_000, 1_700_000_001);
}

/// The commitment of every block without transactions, as it stands in thousands of them on the main network.
#[test]
fn the_commitment_is_the_known_one() {
    let known = "6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9";
    assert_eq!(hex::encode(commitment()), known);
}

#[test]
fn nonsense_is_no_template() {
    assert!(template(&Parent { bits: 0, ..parent(9) }, Network::Bitcoin, 1, 0).is_none());
    assert!(template(&Parent { median_time: u32::MAX, ..parent(9) }, Network::Bitcoin, 1, 0).is_none());
}
