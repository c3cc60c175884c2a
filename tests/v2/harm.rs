//! Bad input: it costs who sends it, and nobody else notices.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use parsers_sv2::MiningOwned;

use super::{House, user};
use crate::support::sv2::{ANY_TARGET, Client, Silence, VERSION_ROLLING, channel::Channel};

const MIB: u64 = 1024 * 1024;

/// What is made of two messages that follow each other.
type Harm = fn(Vec<u8>, Vec<u8>) -> Vec<u8>;

/// Limits under which one address may misbehave as often as these tests do.
fn lenient() -> House {
    House::new(|setup| setup.limits = "offences = 100000\n")
}

/// Sends `bytes` as they are, and reads until the pool closes, which it must.
fn must_close(port: u16, name: &str, bytes: &[u8]) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let (start, read) = (Instant::now(), stream.read_to_end(&mut answer));
    let is_closed = read.is_ok() || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
    assert!(is_closed && start.elapsed() < Duration::from_secs(15), "{name}: still open");
    answer.len()
}

#[test]
fn other_protocols_on_the_port_are_closed_at_once() {
    let house = lenient();
    let before = house.pool.closed("not_stratum");
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat();
    let line = b"{\"id\": 1, \"method\": \"mining.subscribe\", \"params\": []}\n";
    for (name, bytes) in
        [("V1", &line[..]), ("HTTP", b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n"), ("TLS", &hello[..])]
    {
        let start = Instant::now();
        assert_eq!(must_close(house.port, name, bytes), 0, "{name} has no answer");
        assert!(start.elapsed() < Duration::from_secs(5), "{name} is closed at once");
    }
    house.pool.wait_closed("not_stratum", before, 3);
}

#[test]
fn what_was_not_encrypted_by_the_peer_or_not_in_order_ends_the_connection() {
    let house = lenient();
    let noise: Vec<u8> = (0u64..300).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    // Any 64 bytes are a key; what follows was encrypted by nobody.
    assert_eq!(must_close(house.port, "noise", &noise), 234);
    let harm: [(&str, Harm); 4] = [
        ("replayed", |one, _| [one.clone(), one].concat()),
        ("re-ordered", |one, two| [two, one].concat()),
        ("changed", |mut one, two| {
            one[30] ^= 1;
            [one, two].concat()
        }),
        ("of another connection", |one, two| [&one[..22], &two[..]].concat()),
    ];
    let before = house.pool.closed("forged");
    for (name, harm) in harm {
        let mut client = Client::set_up(&house.pool, 0);
        let one = client.sealed_frame(0x4000, 1, &[1; 50]);
        let two = client.sealed_frame(0x4000, 2, &[2; 50]);
        let bytes = harm(one, two);
        client.stream.write_all(&bytes).unwrap();
        assert_eq!(client.must_be_closed().len(), 0, "{name}");
    }
    house.pool.wait_closed("forged", before, 4);
}

#[test]
fn long_messages_are_refused_by_their_header_and_cut_ones_wait_in_vain() {
    let house = lenient();
    let before = (house.pool.closed("frame_too_long"), house.pool.closed("bad_frame"), house.pool.memory());
    // 16 MB before the setup, and 17 kB after it.
    for (is_set_up, length) in [(false, (1 << 24) - 1), (false, 5_000), (true, (1 << 24) - 1), (true, 17_000)]
    {
        let mut client = match is_set_up {
            true => Client::set_up(&house.pool, 0),
            false => Client::connect(&house.pool),
        };
        let sealed = client.sealed_frame(0, 0x13, &vec![0; length]);
        let _ = client.stream.write_all(&sealed);
        assert_eq!(client.must_be_closed().len(), 0, "{length} bytes");
    }
    house.pool.wait_closed("frame_too_long", before.0, 4);
    // A payload that ends too early for its message.
    for (kind, payload) in [(0x13, &[1, 0, 0, 0, 200, 1][..]), (0x1b, &[1; 10]), (0x10, &[])] {
        let mut client = Client::set_up(&house.pool, 0);
        let sealed = client.sealed_frame(0, kind, payload);
        client.stream.write_all(&sealed).unwrap();
        assert_eq!(client.must_be_closed().len(), 0);
    }
    house.pool.wait_closed("bad_frame", before.1, 3);
    assert!(house.pool.memory() < before.2 + 64 * MIB);
}

#[test]
fn values_that_make_no_sense_are_answered_by_the_protocols_error() {
    let house = House::new(|setup| setup.difficulty = (1e-8, 1e-8));
    let mut client = Client::set_up(&house.pool, VERSION_ROLLING);
    let mut check = |name: &[u8], rate: f32, target, expect: &str| {
        let mut payload = vec![1, 0, 0, 0, name.len() as u8];
        payload.extend(name);
        payload.extend(rate.to_le_bytes());
        payload.extend::<[u8; 32]>(target);
        let sealed = client.sealed_frame(0, 0x10, &payload);
        client.stream.write_all(&sealed).unwrap();
        let MiningOwned::OpenMiningChannelError(error) = client.mining() else { panic!("{name:?}: opened") };
        assert_eq!(String::from_utf8(error.error_code.to_owned_bytes()).unwrap(), expect);
    };
    let good = user(2);
    check(b"\xff\xfe\x00", 1.0, ANY_TARGET, "invalid-user-identity");
    check(b"nobody at all", 1.0, ANY_TARGET, "invalid-user-identity");
    check(good.as_bytes(), f32::NAN, ANY_TARGET, "invalid-nominal-hashrate");
    check(good.as_bytes(), f32::INFINITY, ANY_TARGET, "invalid-nominal-hashrate");
    check(good.as_bytes(), -1e9, ANY_TARGET, "invalid-nominal-hashrate");
    check(good.as_bytes(), 1.0, [0; 32], "max-target-out-of-range");
    // Nothing of it keeps the same connection from mining, at a hash rate of zero too.
    let mut channel = Channel::open_extended(&mut client, &good, 0.0);
    assert_ne!(channel.target, ANY_TARGET);
    channel.mine(&mut client);
    let share = channel.share();
    channel.id = channel.group;
    assert_eq!(channel.refusal(&mut client, &share), "invalid-channel-id", "a group takes no shares");
}

#[test]
fn who_does_not_read_is_closed_and_costs_no_memory_meanwhile() {
    let house = House::new(|setup| setup.limits = "offences = 100000\nwrite = 2\nchannels = 2000\n");
    let mut good = Client::set_up(&house.pool, VERSION_ROLLING);
    let mut channel = Channel::open_extended(&mut good, &user(3), 1e6);
    let (before, closed) = (house.pool.memory(), house.pool.closed("not_reading"));
    // It asks for channels, each of which is answered with a job, and reads nothing.
    let mut stalled = Client::set_up(&house.pool, 0);
    stalled.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let start = Instant::now();
    while house.pool.closed("not_reading") == closed {
        for _ in 0..200 {
            stalled.ask_extended(&user(4), 1e6, ANY_TARGET, 4);
        }
        channel.mine(&mut good);
        let grown = house.pool.memory().saturating_sub(before);
        assert!(grown < 48 * MIB, "memory grew by {} MiB", grown / MIB);
        assert!(start.elapsed() < Duration::from_secs(60), "it is still there");
    }
}

#[test]
fn a_hundred_thousand_requests_for_channels_are_answered_and_bounded() {
    let house = House::new(|setup| setup.limits = "channels = 1000\n");
    let mut good = Client::set_up(&house.pool, VERSION_ROLLING);
    let mut channel = Channel::open_extended(&mut good, &user(3), 1e6);
    let before = house.pool.memory();
    let mut greedy = Client::set_up(&house.pool, 0);
    let (mut opened, mut refused) = (0, 0);
    for round in 0..1000 {
        for _ in 0..100 {
            greedy.ask_standard(&user(4), 1e6, ANY_TARGET);
        }
        let mut answers = 0;
        while answers < 100 {
            match greedy.mining() {
                MiningOwned::OpenStandardMiningChannelSuccess(_) => {
                    (opened, answers) = (opened + 1, answers + 1)
                }
                MiningOwned::OpenMiningChannelError(error) => {
                    assert_eq!(error.error_code.to_owned_bytes(), b"channel-capacity-exhausted");
                    (refused, answers) = (refused + 1, answers + 1);
                }
                _ => {}
            }
        }
        if round % 100 == 0 {
            channel.mine(&mut good);
        }
    }
    assert_eq!((opened, refused), (1000, 99_000));
    let grown = house.pool.memory().saturating_sub(before);
    assert!(grown < 64 * MIB, "memory grew by {} MiB", grown / MIB);
    assert_ne!(greedy.try_hear().err(), Some(Silence::Closed));
}
