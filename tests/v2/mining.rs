//! Both kinds of channels mine.

use crate::{
    support::{
        address,
        node::{Chain, Login, Node},
        pool::Pool,
        shared::ANY_HASH,
        sv2::{Client, STANDARD_JOBS, VERSION_ROLLING, channel::Channel},
    },
    v2::{serve, user},
};

#[test]
fn standard_and_extended_channels_find_blocks() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Regtest, 1), |setup| {
        setup.difficulty = (ANY_HASH, ANY_HASH);
        serve(setup);
    });
    for (flags, is_standard) in [(STANDARD_JOBS, true), (0, true), (VERSION_ROLLING, false)] {
        let mut client = Client::set_up(&pool, flags);
        let mut channel = match is_standard {
            true => Channel::open_standard(&mut client, &user(7), 1e6),
            false => Channel::open_extended(&mut client, &user(7), 1e6),
        };
        let before = node.height();
        while node.height() < before + 3 {
            channel.mine(&mut client);
        }
    }
    assert!(pool.terminate().success());
}
