//! Who the pool is.

use std::{fs, os::unix::fs::PermissionsExt};

use super::{House, user};
use crate::support::sv2::{Client, VERSION_ROLLING, channel::Channel, place};

#[test]
fn the_key_is_made_once_said_in_the_url_and_the_same_after_a_restart() {
    let mut house = House::new(|_| ());
    let file = house.pool.setup.directory.join("authority.key");
    let secret = fs::read_to_string(&file).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(house.pool.log().contains("stratum2+tcp://127.0.0.1:"), "the log says where");
    let mut client = Client::set_up(&house.pool, VERSION_ROLLING);
    let mut channel = Channel::open_extended(&mut client, &user(8), 1e6);
    channel.mine(&mut client);
    let late = channel.share();

    assert!(house.pool.terminate().success());
    client.must_be_closed();
    house.pool.start_again();
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
    assert_eq!(place(&house.pool).1, house.key);
    let mut client = Client::set_up(&house.pool, VERSION_ROLLING);
    let mut again = Channel::open_extended(&mut client, &user(8), 1e6);
    let old = again.refusal(&mut client, &late);
    assert_eq!(old, "invalid-job-id", "what was mined before the restart is not known after it");
    again.mine(&mut client);
}

#[test]
fn who_knows_another_key_does_not_come_in() {
    let house = House::new(|_| ());
    // A key that others use for tests.
    let other = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";
    let other = bitcoin::base58::decode_check(other).unwrap()[2..].try_into().unwrap();
    let refused = Client::connect_to(house.port, other).err().expect("the pool is not who it says");
    assert_eq!(refused.kind(), std::io::ErrorKind::Other, "{refused}");
    assert!(Client::connect_to(house.port, house.key).is_ok());
}
