use bdk_wallet::bitcoin::{Address, Network, address::NetworkUnchecked};

use super::*;

/// Of the seed 000102…0f of BIP 32, and what is public of it.
const PRIVATE: &str = "tprv8ZgxMBicQKsPeDgjzdC36fs6bMjGApWDNLR9erAXMs5skhMv36j9MV5ecvfavji5khqjWaWSFhN3YcCUUdiKH6isR4Pwy3U5y5egddBr16m";
const PUBLIC: &str = "tpubD6NzVbkrYhZ4XgiXtGrdW5XDAPFCL9h7we1vwNCpn8tGbBcgfVYjXyhWo4E1xkh56hjod1RhGjxbaTLV3X4FyWuejifB9jusQ46QzG87VKp";

fn parse(descriptor: &str, change: Option<&str>) -> Result<Descriptors, String> {
    Descriptors::parse(descriptor, change, Network::Regtest, 0).map_err(|error| error.to_string())
}

#[test]
fn descriptors() {
    let good = |descriptor: &str, change: Option<&str>, can_sign: bool| {
        let parsed = parse(descriptor, change).unwrap();
        assert_eq!(parsed.can_sign(), can_sign, "{descriptor}");
        parsed.name().to_owned()
    };
    let name = good(&format!("tr({PRIVATE}/<0;1>/*)"), None, true);
    // The same wallet, however it is written.
    assert_eq!(good(&format!("tr({PUBLIC}/<0;1>/*)"), None, false), name);
    let (external, internal) = (format!("tr({PUBLIC}/0/*)"), format!("tr({PUBLIC}/1/*)"));
    assert_eq!(good(&external, Some(&internal), false), name);
    assert_ne!(good(&format!("wpkh({PRIVATE}/<0;1>/*)"), None, true), name);
    assert_ne!(good(&internal, Some(&external), false), name);

    let bad = |descriptor: &str, change: Option<&str>, words: &str| {
        let error = parse(descriptor, change).unwrap_err();
        assert!(error.contains(words), "{descriptor}: {error}");
        assert!(!error.contains(PRIVATE), "{error}");
    };
    bad(&external, None, "give wallet.change_descriptor");
    bad(&external, Some(&external), "the same");
    bad(&format!("tr({PUBLIC}/<0;1>/*)"), Some(&internal), "leave wallet.change_descriptor out");
    bad(&format!("tr({PUBLIC}/<0;1>)"), None, "must end in /*");
    bad(&format!("pkh({PUBLIC}/<0;1>/*)"), None, "segwit");
    bad(&format!("sh(wpkh({PUBLIC}/<0;1>/*))"), None, "segwit");
    bad(&format!("tr({PRIVATE}/0/*)"), Some(&internal), "private keys");
    bad("tr(nothing/<0;1>/*)", None, "wallet.descriptor is no descriptor");
    let main = PUBLIC.replacen("tpub", "xpub", 1);
    bad(&format!("tr({main}/<0;1>/*)"), None, "wallet.descriptor");
}

#[test]
fn whose_a_script_is() {
    let wallet = parse(&format!("wpkh({PUBLIC}/<0;1>/*)"), None).unwrap();
    let at = |descriptor: &ExtendedDescriptor, index| {
        descriptor.at_derivation_index(index).unwrap().script_pubkey().into_bytes()
    };
    for (index, expect) in [(0, true), (LOOKAHEAD - 1, true), (LOOKAHEAD, false)] {
        assert_eq!(wallet.owns(&at(&wallet.external.0, index)), expect, "{index}");
        assert_eq!(wallet.owns(&at(&wallet.internal.0, index)), expect, "{index}");
    }
    let other: Address<NetworkUnchecked> = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080".parse().unwrap();
    assert!(!wallet.owns(other.assume_checked().script_pubkey().as_bytes()));
}
