//! How a connection begins, and what is refused.

use common_messages_sv2::Protocol;
use parsers_sv2::{AnyMessageOwned, CommonMessagesOwned, MiningOwned};

use super::House;
use crate::support::sv2::{
    ANY_TARGET, Client, STANDARD_JOBS, VERSION_ROLLING, WORK_SELECTION, channel::Channel, setup,
};

#[test]
fn a_setup_that_is_not_offered_is_refused_with_all_that_is_not_and_closed() {
    let house = House::new(|_| ());
    let check = |protocol, versions, flags, expect: &str| {
        let mut client = Client::connect(&house.pool);
        client.send(setup(protocol, versions, flags));
        let heard = client.must_be_closed();
        let [AnyMessageOwned::Common(CommonMessagesOwned::SetupConnectionError(error))] = &heard[..] else {
            panic!("{heard:?}")
        };
        assert_eq!(String::from_utf8(error.error_code.to_owned_bytes()).unwrap(), expect);
        assert_eq!((error.flags & WORK_SELECTION, error.flags & 0b101), (WORK_SELECTION, 0), "{expect}");
    };
    let before = house.pool.closed("not_offered");
    check(Protocol::JobDeclarationProtocol, 2..=2, 0, "unsupported-protocol");
    check(Protocol::TemplateDistributionProtocol, 2..=2, 0, "unsupported-protocol");
    check(Protocol::MiningProtocol, 3..=7, 0, "protocol-version-mismatch");
    check(Protocol::MiningProtocol, 0..=1, 0, "protocol-version-mismatch");
    check(Protocol::MiningProtocol, 2..=2, WORK_SELECTION, "unsupported-feature-flags");
    check(Protocol::MiningProtocol, 2..=2, WORK_SELECTION | VERSION_ROLLING, "unsupported-feature-flags");
    check(Protocol::MiningProtocol, 2..=2, u32::MAX, "unsupported-feature-flags");
    house.pool.wait_closed("not_offered", before, 7);
}

#[test]
fn who_requires_standard_jobs_is_given_nothing_else() {
    let house = House::new(|_| ());
    let mut client = Client::set_up(&house.pool, STANDARD_JOBS);
    let request = client.ask_extended(&super::user(3), 1e6, ANY_TARGET, 4);
    let MiningOwned::OpenMiningChannelError(error) = client.mining() else { panic!("opened") };
    assert_eq!(error.request_id, request);
    assert_eq!(error.error_code.to_owned_bytes(), b"extended-channels-not-supported-for-standard-jobs");
    let mut channels = [(); 2].map(|()| Channel::open_standard(&mut client, &super::user(3), 1e6));
    house.next_block();
    for _ in 0..4 {
        let message = client.mining();
        assert!(
            matches!(message, MiningOwned::NewMiningJob(_) | MiningOwned::SetNewPrevHash(_)),
            "for one channel, and nothing extended: {message}"
        );
        assert_eq!(channels.iter_mut().filter_map(|channel| channel.take(&message).then_some(())).count(), 1);
    }
    channels.iter_mut().for_each(|channel| channel.mine(&mut client));
}

#[test]
fn a_new_job_has_the_time_of_its_template() {
    let house = House::new(|_| ());
    let mut client = Client::set_up(&house.pool, VERSION_ROLLING);
    let channel = Channel::open_extended(&mut client, &super::user(4), 1e6);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let time = u64::from(channel.tip.as_ref().unwrap().time);
    assert!(time.abs_diff(now) < 120, "{time}, and it is {now}");
    let template = house.node.call("getblocktemplate", serde_json::json!([{"rules": ["segwit"]}]));
    assert!(time >= template["mintime"].as_u64().unwrap());
    assert!(channel.jobs.iter().all(|job| job.may_roll), "every job may roll its version");
}

#[test]
fn who_opens_no_channel_in_time_is_closed() {
    let house = House::new(|setup| setup.limits = "handshake = 1\nauthorize = 3\n");
    let mut client = Client::set_up(&house.pool, 0);
    let before = (house.pool.closed("no_handshake"), house.pool.closed("not_authorized"));
    let silent = std::net::TcpStream::connect(("127.0.0.1", house.port)).unwrap();
    assert_eq!(client.must_be_closed().len(), 0);
    house.pool.wait_closed("not_authorized", before.1, 1);
    house.pool.wait_closed("no_handshake", before.0, 1);
    drop(silent);
}
