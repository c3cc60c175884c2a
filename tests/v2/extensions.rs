//! Extensions: which are agreed on, and workers that are named beside their shares.

use extensions_sv2::{RequestExtensions, UserIdentity};
use parsers_sv2::{
    AnyMessage, Extensions, ExtensionsNegotiation, ExtensionsNegotiationOwned, ExtensionsOwned,
};

use super::{House, user};
use crate::support::{
    address,
    books::Books,
    node::Chain,
    sv2::{Client, VERSION_ROLLING, channel::Channel},
    wait_for,
};

fn ask(client: &mut Client, numbers: &[u16]) -> ExtensionsNegotiationOwned {
    let requested_extensions = binary_sv2::Seq064K::new(numbers.to_vec()).unwrap();
    let request = RequestExtensions { request_id: 9, requested_extensions };
    client.send(AnyMessage::Extensions(Extensions::ExtensionsNegotiation(
        ExtensionsNegotiation::RequestExtensions(request),
    )));
    let ExtensionsOwned::ExtensionsNegotiation(answer) = client.extension();
    answer
}

#[test]
fn what_is_asked_for_is_answered_by_what_there_is() {
    let house = House::new(|_| ());
    let mut client = Client::set_up(&house.pool, VERSION_ROLLING);
    match ask(&mut client, &[2, 3]) {
        ExtensionsNegotiationOwned::RequestExtensionsSuccess(success) => {
            assert_eq!((success.request_id, success.supported_extensions.into_inner()), (9, vec![2]));
        }
        other => panic!("{other:?}"),
    }
    match ask(&mut client, &[3, 4]) {
        ExtensionsNegotiationOwned::RequestExtensionsError(error) => {
            assert_eq!((error.request_id, error.unsupported_extensions.into_inner()), (9, vec![3, 4]));
            assert!(error.required_extensions.into_inner().is_empty());
        }
        other => panic!("{other:?}"),
    }
    // What belongs to an extension that nobody agreed on is passed over.
    let unknown = client.sealed_frame(0x4000, 7, &[1, 2, 3]);
    std::io::Write::write_all(&mut client.stream, &unknown).unwrap();
    Channel::open_extended(&mut client, &user(5), 1e6).mine(&mut client);
}

#[test]
fn each_worker_behind_a_channel_is_credited_in_the_ledger() {
    let house = House::new(|_| ());
    let mut client = Client::set_up(&house.pool, VERSION_ROLLING);
    ask(&mut client, &[2]);
    let mut channel = Channel::open_extended(&mut client, &user(6), 1e6);
    let names = ["attic", "cellar", "attic", "barn", "attic", "cellar"];
    let mut expect = std::collections::BTreeMap::new();
    for name in names {
        loop {
            let share = channel.share();
            let field = UserIdentity::new(name).unwrap();
            let number = channel.submit_named(&mut client, &share, field.as_str().unwrap());
            if channel.is_acknowledged(&mut client, number) {
                *expect.entry(name.to_owned()).or_insert(0u64) += 1;
                break;
            }
        }
    }
    assert_eq!(expect.len(), 3);
    wait_for("the shares to be in the ledger", std::time::Duration::from_secs(20), || {
        let counted = Books::open(&house.pool.setup.ledger_url).accepted_shares();
        expect.iter().all(|(name, shares)| counted.get(name) == Some(shares)).then_some(())
    });
    // The list of who is connected is made anew now and then.
    wait_for("the three, and whose channel it is, to be shown", std::time::Duration::from_secs(30), || {
        let miner = house.pool.api(&format!("/api/v1/miners/{}", address(Chain::Regtest, 6)));
        let is_of_v2 = |worker: &&serde_json::Value| worker["protocol"] == "V2";
        (miner["workers"].as_array()?.iter().filter(is_of_v2).count() == 4).then_some(())
    });
}
