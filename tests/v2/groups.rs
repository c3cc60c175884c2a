//! Many channels on a connection, and what is said to all of them at once.

use std::time::Duration;

use mining_sv2::CloseChannel;
use parsers_sv2::{Mining, MiningOwned};

use super::{House, user};
use crate::support::sv2::{Client, VERSION_ROLLING, channel::Channel};

/// Channels of a group hear of a new block by two messages for all of them, and mine on.
fn a_group_hears_of_a_block_once(open: fn(&mut Client, &str, f32) -> Channel) {
    let house = House::new(|_| ());
    let mut client = Client::set_up(&house.pool, VERSION_ROLLING);
    let mut channels: Vec<Channel> = (0..6).map(|n| open(&mut client, &user(n), 1e6)).collect();
    let group = channels[0].group;
    assert!(channels.iter().all(|channel| channel.group == group && channel.id != group));
    for _ in 0..3 {
        house.next_block();
        let messages = [client.mining(), client.mining()];
        match &messages {
            [MiningOwned::NewExtendedMiningJob(job), MiningOwned::SetNewPrevHash(tip)] => {
                assert_eq!((job.channel_id, tip.channel_id, job.job_id), (group, group, tip.job_id));
                assert!(job.is_future());
            }
            other => panic!("{other:?}"),
        }
        let all_take = |message| channels.iter_mut().filter_map(|c| c.take(message).then_some(())).count();
        assert_eq!(messages.iter().map(all_take).collect::<Vec<_>>(), [6, 6]);
    }
    assert!(client.is_quiet_for(Duration::from_millis(300)), "and that is all");
}

#[test]
fn extended_channels_are_a_group() {
    a_group_hears_of_a_block_once(Channel::open_extended);
}

#[test]
fn standard_channels_are_a_group_where_extended_jobs_are_understood() {
    a_group_hears_of_a_block_once(Channel::open_standard);
}

#[test]
fn closing_a_group_closes_all_of_its_channels_and_no_other() {
    let house = House::new(|setup| setup.scheme = "solo");
    let mut client = Client::set_up(&house.pool, VERSION_ROLLING);
    let mut closed: Vec<Channel> =
        (0..3).map(|_| Channel::open_extended(&mut client, &user(1), 1e6)).collect();
    let mut kept = Channel::open_extended(&mut client, &user(2), 1e6);
    assert_ne!(kept.group, closed[0].group, "who is paid apart is a group apart");
    let reason_code = b"done".as_slice().try_into().unwrap();
    client.say(Mining::CloseChannel(CloseChannel { channel_id: closed[0].group, reason_code }));
    for channel in &mut closed {
        let share = channel.share();
        assert_eq!(channel.refusal(&mut client, &share), "invalid-channel-id");
    }
    kept.mine(&mut client);
}
