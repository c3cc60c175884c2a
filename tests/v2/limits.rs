//! How much one peer may have, and how fast.

use std::time::{Duration, Instant};

use mining_sv2::CloseChannel;
use parsers_sv2::{Mining, MiningOwned};

use super::{House, user};
use crate::support::{
    sv2::{ANY_TARGET, Client, VERSION_ROLLING, channel::Channel},
    wait_for,
};

/// More than a channel takes, with a worker of its own: docs/STRATUM-V2.md reckons with it.
const CHANNEL: u64 = 4 * 1024;

/// Asks for `count` channels, each for another worker; the ids of those that are opened.
fn open(client: &mut Client, name: &str, count: usize) -> Vec<u32> {
    let (mut opened, mut answered) = (Vec::new(), 0);
    for from in (0..count).step_by(100) {
        let until = count.min(from + 100);
        (from..until)
            .for_each(|n| _ = client.ask_extended(&format!("{}{name}{n}", user(5)), 1e6, ANY_TARGET, 4));
        while answered < until {
            match client.mining() {
                MiningOwned::OpenExtendedMiningChannelSuccess(success) => {
                    opened.push(success.channel_id);
                    answered += 1;
                }
                MiningOwned::OpenMiningChannelError(error) => {
                    assert_eq!(error.error_code.to_owned_bytes(), b"channel-capacity-exhausted");
                    answered += 1;
                }
                _ => {}
            }
        }
    }
    opened
}

#[test]
fn channels_are_bounded_over_all_connections_of_an_address() {
    let house = House::new(|setup| {
        setup.limits =
            "trusted = []\nchannels = 1000\nchannels_per_address = 2500\nchannels_per_network = 2600\n";
    });
    let before = house.pool.memory();
    let mut clients: Vec<Client> = (0..5).map(|_| Client::set_up(&house.pool, VERSION_ROLLING)).collect();
    let opened: Vec<usize> = clients
        .iter_mut()
        .enumerate()
        .map(|(n, client)| open(client, &format!("c{n}n"), 1010).len())
        .collect();
    assert_eq!(opened, [1000, 1000, 500, 0, 0]);
    let grown = house.pool.memory().saturating_sub(before);
    assert!(grown < 2500 * CHANNEL, "{} bytes a channel", grown / 2500);
    let limited = |name| house.pool.metric("sluice_limited_total", name);
    wait_for("each refusal to be counted by its reason", Duration::from_secs(10), || {
        (limited("channels") == 20 && limited("channels_per_address") == 510 + 1010 + 1010).then_some(())
    });
    // What those of one connection took is there for others as soon as it is closed.
    drop(clients.remove(0));
    let mut other = Client::set_up(&house.pool, VERSION_ROLLING);
    wait_for("the channels to be given back", Duration::from_secs(10), || {
        (open(&mut other, "more", 1).len() == 1).then_some(())
    });
    assert_eq!(open(&mut other, "others", 999).len(), 999);
}

#[test]
fn who_opens_and_closes_for_ever_is_read_more_slowly() {
    let house = House::new(|setup| setup.limits = "submits_per_second = 50\n");
    let mut good = Client::set_up(&house.pool, VERSION_ROLLING);
    let mut channel = Channel::open_extended(&mut good, &user(3), 1e6);
    let mut busy = Client::set_up(&house.pool, VERSION_ROLLING);
    let slowed = || house.pool.metric("sluice_limited_total", "submits_per_second");
    let (before, memory, start) = (slowed(), house.pool.memory(), Instant::now());
    // An opening and a closing are half a share: what is asked for here is 250.
    for n in 0..500 {
        let [channel_id] = open(&mut busy, &format!("n{n}n"), 1)[..] else { panic!("it was refused") };
        let reason_code = b"done".as_slice().try_into().unwrap();
        busy.say(Mining::CloseChannel(CloseChannel { channel_id, reason_code }));
        if n % 100 == 0 {
            channel.mine(&mut good);
        }
    }
    assert!(start.elapsed() > Duration::from_millis(3_500), "{:?}", start.elapsed());
    wait_for("it to be counted", Duration::from_secs(10), || (slowed() > before).then_some(()));
    assert!(house.pool.memory() < memory + 500 * CHANNEL);
    channel.mine(&mut good);
}
