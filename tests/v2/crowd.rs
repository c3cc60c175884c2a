//! Ten thousand channels on a connection, as a proxy has them.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use parsers_sv2::MiningOwned;

use super::{House, user};
use crate::support::sv2::{ANY_TARGET, Client, VERSION_ROLLING, channel::Channel};

#[test]
fn ten_thousand_channels_hear_of_a_block_at_once() {
    const COUNT: usize = 10_000;
    let house = House::new(|_| ());
    let mut client = Client::set_up(&house.pool, VERSION_ROLLING);
    let (mut ids, mut groups, mut channels) = (HashSet::new(), HashSet::new(), Vec::new());
    let mut times = Vec::new();
    for round in 0..COUNT / 100 {
        let start = Instant::now();
        let first = (0..100).map(|_| client.ask_extended(&user(5), 1e6, ANY_TARGET, 4)).min().unwrap();
        for number in 0..100 {
            let mut channel = Channel::extended(&mut client, first + number);
            channel.begin(&mut client);
            assert!(ids.insert(channel.id));
            groups.insert(channel.group);
            if (round, number) == (0, 0) || (round, number) == (COUNT as u32 as usize / 100 - 1, 99) {
                channels.push(channel);
            }
        }
        times.push(start.elapsed());
    }
    assert_eq!((ids.len(), groups.len(), channels.len()), (COUNT, 1, 2));
    // Opening is no slower for those that there are: by much more than a machine's noise, were it so.
    let half = |part: &[Duration]| part.iter().sum::<Duration>();
    let (early, late) = (half(&times[..50]), half(&times[50..]));
    assert!(late < early * 5, "the second half took {late:?}, the first {early:?}");
    house.next_block();
    let messages = [client.mining(), client.mining()];
    assert!(
        matches!(messages, [MiningOwned::NewExtendedMiningJob(_), MiningOwned::SetNewPrevHash(_)]),
        "{messages:?}"
    );
    for channel in &mut channels {
        assert!(messages.iter().all(|message| channel.take(message)));
        channel.mine(&mut client);
    }
}
