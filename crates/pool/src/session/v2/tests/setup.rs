//! How a connection begins.

use stratum::v2::{
    common::{SetupConnectionError, SetupConnectionSuccess},
    extensions::{RequestExtensionsError, RequestExtensionsSuccess},
    mining::SetCustomMiningJob,
    wire::{B64K, B255, Seq255},
};

use super::*;

#[tokio::test]
async fn what_is_offered_is_agreed_on() {
    for flags in [0, REQUIRES_STANDARD_JOBS, REQUIRES_VERSION_ROLLING, 0b101] {
        for versions in [2..=2, 1..=2, 2..=9, 0..=u16::MAX] {
            let mut desk = Desk::new().await;
            let success = SetupConnectionSuccess { used_version: 2, flags: 0 };
            let said = desk.setup(0, versions, flags);
            assert_eq!(said, [Said::Common(Common::SetupConnectionSuccess(success))]);
            assert!(desk.out.close.is_none() && desk.session.is_set_up());
            assert_eq!(&**desk.session.agent(), "acme/two");
        }
    }
}

#[tokio::test]
async fn who_says_little_of_itself_is_served_too() {
    // SRI's job declaration client has no name; a name is bytes.
    for (vendor, agent) in [(&b""[..], ""), (b"\xff\xfe", "\u{fffd}\u{fffd}"), (b" \x1b[31m\n", "[31m")] {
        let mut desk = Desk::new().await;
        let nothing = text("");
        let said = desk.say(&SetupConnection {
            protocol: 0,
            min_version: 2,
            max_version: 2,
            flags: REQUIRES_VERSION_ROLLING,
            endpoint_host: nothing,
            endpoint_port: 0,
            vendor: Str255::new(vendor).unwrap(),
            hardware_version: nothing,
            firmware: nothing,
            device_id: nothing,
        });
        let success = SetupConnectionSuccess { used_version: 2, flags: 0 };
        assert_eq!(said, [Said::Common(Common::SetupConnectionSuccess(success))]);
        assert_eq!(&**desk.session.agent(), agent);
        desk.extended();
    }
}

#[tokio::test]
async fn what_is_not_offered_is_refused_with_all_that_is_not() {
    let check = async |protocol, versions, flags, expect_flags, expect: &str| {
        let mut desk = Desk::new().await;
        let said = desk.setup(protocol, versions, flags);
        let error = SetupConnectionError { flags: expect_flags, error_code: text(expect) };
        let bytes = |error| {
            let mut bytes = Vec::new();
            encode::<SetupConnectionError<'_>>(error, &mut bytes);
            bytes
        };
        let [Said::Common(Common::SetupConnectionError(got))] = &said[..] else { panic!("{said:?}") };
        assert_eq!(bytes(got), bytes(&error), "{flags:b}");
        assert_eq!(desk.out.close, Some(Closed::NotOffered));
    };
    check(0, 2..=2, 0b010, 0b010, "unsupported-feature-flags").await;
    check(0, 2..=2, 0b111, 0b010, "unsupported-feature-flags").await;
    check(0, 2..=2, 1 << 31, 0b010 | 1 << 31, "unsupported-feature-flags").await;
    check(0, 2..=2, u32::MAX, !0b101, "unsupported-feature-flags").await;
    check(0, 3..=9, 0, 0b010, "protocol-version-mismatch").await;
    check(0, 0..=1, 0b101, 0b010, "protocol-version-mismatch").await;
    check(1, 2..=2, 0, 0b010, "unsupported-protocol").await;
    check(2, 2..=2, 0, 0b010, "unsupported-protocol").await;
    check(9, 2..=2, 0, 0b010, "unsupported-protocol").await;
}

#[tokio::test]
async fn the_first_message_is_setup_connection_and_no_other_is() {
    let mut desk = Desk::new().await;
    assert_eq!(desk.ask_standard(ADDRESS, 1.0, [0xff; 32]), []);
    assert_eq!(desk.out.close, Some(Closed::BadFrame));
    let mut desk = Desk::set_up(0).await;
    assert!(desk.out.close.is_none());
    assert_eq!(desk.setup(0, 2..=2, 0), []);
    assert_eq!(desk.out.close, Some(Closed::BadFrame));
}

#[tokio::test]
async fn what_a_server_says_is_not_for_clients_to_say() {
    let mut desk = Desk::set_up(0).await;
    assert_eq!(desk.say(&SetTarget { channel_id: 1, maximum_target: [0; 32] }), []);
    assert_eq!(desk.out.close, Some(Closed::BadFrame));
}

#[tokio::test]
async fn extensions_are_agreed_on_by_what_was_asked_for() {
    let mut desk = Desk::set_up(0).await;
    let mut ask = |numbers: &[u16]| {
        let requested_extensions = Seq64K::new(numbers).unwrap();
        desk.say(&RequestExtensions { request_id: 7, requested_extensions })
    };
    let success = |numbers| {
        let supported_extensions = Seq64K::new(numbers).unwrap();
        let success = RequestExtensionsSuccess { request_id: 7, supported_extensions };
        [Said::Negotiation(Negotiation::RequestExtensionsSuccess(success))]
    };
    let error = |numbers| {
        let unsupported_extensions = Seq64K::new(numbers).unwrap();
        let required_extensions = Seq64K::new(&[]).unwrap();
        let error = RequestExtensionsError { request_id: 7, unsupported_extensions, required_extensions };
        [Said::Negotiation(Negotiation::RequestExtensionsError(error))]
    };
    assert_eq!(ask(&[2]), success(&[2]));
    assert_eq!(ask(&[9, 2, 0x4000]), success(&[2]));
    assert_eq!(ask(&[3]), error(&[3]));
    assert_eq!(ask(&[3, 4, 0x7fff]), error(&[3, 4, 0x7fff]));
    assert_eq!(ask(&[]), success(&[]));
    assert!(desk.out.close.is_none());
}

#[tokio::test]
async fn other_extensions_and_messages_to_come_are_passed_over() {
    let mut desk = Desk::set_up(0).await;
    for extension in [0x0003u16, 0x4000, 0x7fff, 0x8003] {
        let [a, b] = extension.to_le_bytes();
        assert_eq!(desk.frame(&[a, b, 0x10, 2, 0, 0, 9, 9]), []);
    }
    assert!(desk.out.refused.is_empty());
    for number in [0x1e, 0x50, 0xff] {
        assert_eq!(desk.frame(&[0, 0, number, 2, 0, 0, 9, 9]), []);
    }
    assert!(desk.out.close.is_none());
    assert_eq!(desk.out.refused, [(None, Reason::UnknownMethod); 3]);
    let client = desk.extended();
    assert!(client.id > 0, "and it goes on");
}

#[tokio::test]
async fn a_message_that_cannot_be_read_ends_the_connection() {
    let mut desk = Desk::set_up(0).await;
    assert_eq!(desk.frame(&[0, 0x80, 0x1a, 3, 0, 0, 1, 2, 3]), []);
    assert_eq!(desk.out.close, Some(Closed::BadFrame));
}

#[tokio::test]
async fn custom_work_is_not_offered() {
    let mut desk = Desk::set_up(0).await;
    let client = desk.extended();
    let said = desk.say(&SetCustomMiningJob {
        channel_id: client.id,
        request_id: 8,
        mining_job_token: B255::cut(&[1; 20]),
        version: 0x2000_0000,
        prev_hash: [1; 32],
        min_ntime: 1,
        nbits: BLOCK_BITS,
        coinbase_tx_version: 2,
        coinbase_prefix: B255::cut(&[1, 101]),
        coinbase_tx_input_n_sequence: 0,
        coinbase_tx_outputs: B64K::cut(&[0]),
        coinbase_tx_locktime: 0,
        merkle_path: Seq255::new(&[]).unwrap(),
    });
    assert_eq!(code(&said), "jd-not-supported");
    assert!(desk.out.close.is_none());
    assert_eq!(REQUIRES_WORK_SELECTION, 0b010);
}
