//! The same shard with a miner of V2 at the other end.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream as Socket,
};

use stratum::{
    noise::{AuthorityKey, Initiator, RESPONSE_SIZE, Transport},
    v2::{
        Message,
        common::SetupConnection,
        encode_long,
        mining::{
            OpenExtendedMiningChannel, OpenStandardMiningChannel, SubmitSharesExtended, UpdateChannel,
            flags::REQUIRES_STANDARD_JOBS,
        },
        wire::{B32, HashRate, Str255},
    },
};

use super::*;
use crate::Noise;

/// The other end of a connection of V2.
struct Client {
    socket: Socket,
    transport: Transport,
    received: Vec<u8>,
}

impl Client {
    fn open(bench: &mut Bench) -> Self {
        Self::open_behind(bench, "")
    }

    /// The same behind a proxy that says `header`.
    fn open_behind(bench: &mut Bench, header: &str) -> Self {
        let mut socket = Socket::connect(bench.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let initiator = Initiator::new(&[4; 64]).unwrap();
        socket.write_all(&[header.as_bytes(), &initiator.first()].concat()).unwrap();
        bench.turns(3);
        let mut response = [0; RESPONSE_SIZE];
        socket.read_exact(&mut response).unwrap();
        let transport = initiator.finish(&response, None, 0).unwrap();
        Self { socket, transport, received: Vec::new() }
    }

    fn say<'a, M: Message<'a>>(&mut self, message: &M) {
        let (mut frame, mut sealed) = (Vec::new(), Vec::new());
        encode_long(message, &mut frame).unwrap();
        self.transport.sender.seal(&frame, &mut sealed).unwrap();
        self.socket.write_all(&sealed).unwrap();
    }

    /// The type and payload of the next frame.
    fn hear(&mut self) -> (u8, Vec<u8>) {
        loop {
            let mut arrived = &mut self.received[..];
            let before = arrived.len();
            let heard = self.transport.receiver.next(&mut arrived, 100_000).unwrap();
            let heard = heard.map(|frame| (frame.header.msg_type, frame.payload.to_vec()));
            let left = arrived.len();
            self.received.drain(..before - left);
            if let Some(heard) = heard {
                return heard;
            }
            let mut chunk = [0; 4096];
            let length = self.socket.read(&mut chunk).unwrap();
            assert!(length > 0, "closed");
            self.received.extend_from_slice(&chunk[..length]);
        }
    }

    fn set_up(&mut self, flags: u32) {
        let text = |text: &'static str| Str255::new(text.as_bytes()).unwrap();
        self.say(&SetupConnection {
            protocol: 0,
            min_version: 2,
            max_version: 2,
            flags,
            endpoint_host: text("pool"),
            endpoint_port: 1,
            vendor: text("test"),
            hardware_version: text(""),
            firmware: text(""),
            device_id: text(""),
        });
    }
}

fn v2() -> Bench {
    v2_behind(Vec::new())
}

fn v2_behind(proxies: Vec<ipnet::IpNet>) -> Bench {
    let noise = Noise::new(AuthorityKey::from_bytes([1; 32]).unwrap(), Duration::from_secs(3600));
    Bench::behind(Door { noise: Some(noise), proxies, ..Door::default() })
}

fn standard(request_id: u32) -> OpenStandardMiningChannel<'static> {
    OpenStandardMiningChannel {
        request_id,
        user_identity: Str255::new(USER.as_bytes()).unwrap(),
        nominal_hash_rate: HashRate(0.0),
        max_target: [0xff; 32],
    }
}

#[tokio::test]
async fn who_a_proxy_speaks_for_has_channels_by_his_own_address() {
    let proxies: Vec<ipnet::IpNet> = vec!["127.0.0.1/32".parse().unwrap()];
    let mut bench = v2_behind(proxies.clone());
    let limits = Limits { channels_per_address: 2, ..Limits::default() };
    bench.shard.house.gate = Gate::new(limits, proxies);
    bench.post(2).await;
    // Each that is opened is followed by its job and the block; a refusal by nothing.
    let mut open = |from: &str, expect: &[u8]| {
        let mut client = Client::open_behind(&mut bench, &format!("PROXY TCP4 {from} 192.0.2.1 1 2\r\n"));
        client.set_up(REQUIRES_STANDARD_JOBS);
        client.say(&standard(1));
        client.say(&standard(2));
        bench.turns(3);
        let heard: Vec<u8> = expect.iter().map(|_| client.hear().0).collect();
        assert_eq!(heard, expect, "{from}");
        client
    };
    let all = [0x01, 0x11, 0x15, 0x20, 0x11, 0x15, 0x20];
    let _one = open("10.0.0.1", &all);
    let _same = open("10.0.0.1", &[0x01, 0x12, 0x12]);
    let _other = open("10.0.0.2", &all);
}

#[tokio::test]
async fn others_are_answered_while_a_proxy_with_many_standard_channels_hears_of_a_block() {
    // What they are told fits into what the kernel holds for them, so that nothing has to wait for the reader.
    const MANY: u32 = 400;
    let mut bench = v2();
    bench.post(2).await;
    let [mut proxy, mut other] = [Client::open(&mut bench), Client::open(&mut bench)];
    proxy.set_up(REQUIRES_STANDARD_JOBS);
    other.set_up(0);
    bench.turns(2);
    assert_eq!((proxy.hear().0, other.hear().0), (0x01, 0x01));
    for request_id in 0..MANY {
        proxy.say(&standard(request_id));
        bench.turns(1);
        let kinds: Vec<u8> = (0..3).map(|_| proxy.hear().0).collect();
        assert_eq!(kinds, [0x11, 0x15, 0x20]);
    }
    bench.post(3).await;
    // In the turn in which the block is heard of, somebody else says something.
    other.say(&UpdateChannel { channel_id: 7, nominal_hash_rate: HashRate(0.0), maximum_target: [0xff; 32] });
    let is_under_way = |bench: &Bench| bench.shard.connections.iter().any(|(_, one)| one.session.has_more());
    bench.turns(1);
    assert_eq!(other.hear().0, 0x17, "UpdateChannel.Error");
    let mut turns = 1;
    while is_under_way(&bench) {
        bench.turns(1);
        turns += 1;
    }
    assert!((3..50).contains(&turns), "{turns}");
    let told: Vec<u8> = (0..2 * MANY).map(|_| proxy.hear().0).collect();
    assert!(told.chunks(2).all(|pair| pair == [0x15, 0x20]));
}

#[tokio::test]
async fn f31_who_asks_for_much_is_read_more_slowly() {
    let mut bench = v2();
    let limits = Limits { submits_per_second: 100, ..Limits::default() };
    bench.shard.house.config = Arc::new(Config { limits, ..(*bench.shard.house.config).clone() });
    bench.post(2).await;
    let mut client = Client::open(&mut bench);
    client.set_up(0);
    bench.turns(2);
    // Four of these count as a share.
    let update =
        UpdateChannel { channel_id: 7, nominal_hash_rate: HashRate(0.0), maximum_target: [0xff; 32] };
    let mut ask = |bench: &mut Bench, count: usize| {
        (0..count).for_each(|_| client.say(&update));
        bench.turns(3);
        let is_paused = |bench: &Bench| bench.shard.connections.iter().any(|(_, one)| one.is_paused);
        is_paused(bench)
    };
    assert!(!ask(&mut bench, 100) && !ask(&mut bench, 200));
    ask(&mut bench, 200);
    assert!(ask(&mut bench, 1), "what comes after that waits");
}

#[tokio::test]
async fn a_share_of_v2_allocates_nothing_from_the_socket_to_its_reply() {
    let mut bench = v2();
    bench.post(2).await;
    let mut client = Client::open(&mut bench);
    client.set_up(0);
    client.say(&OpenExtendedMiningChannel {
        request_id: 1,
        user_identity: Str255::new(USER.as_bytes()).unwrap(),
        nominal_hash_rate: HashRate(0.0),
        max_target: [0xff; 32],
        min_extranonce_size: 8,
    });
    bench.turns(2);
    let kinds: Vec<(u8, Vec<u8>)> = (0..4).map(|_| client.hear()).collect();
    assert_eq!(kinds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [0x01, 0x14, 0x1f, 0x20]);
    let number = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (channel_id, job_id, ntime) =
        (number(&kinds[2].1, 0), number(&kinds[2].1, 4), number(&kinds[3].1, 40));
    let mut sequence_number = 0;
    let mut submit = |client: &mut Client| {
        sequence_number += 1;
        client.say(&SubmitSharesExtended {
            channel_id,
            sequence_number,
            job_id,
            nonce: sequence_number,
            ntime,
            version: 0x2000_0000,
            extranonce: B32::cut(&[0; 8]),
        });
    };
    bench.shard.show_workers = u64::MAX;
    // See the test of V1 about these numbers.
    let (shares, mut acknowledged) = (1200, 0);
    for share in 0..shares {
        submit(&mut client);
        let (shard, events) = (&mut bench.shard, &mut bench.events);
        let counted = allocation_counter::measure(|| shard.go_round(events));
        assert!(share < 1000 || counted.count_total == 0, "share {share}: {counted:?}");
        if (share + 1) % 10 == 0 {
            let (kind, payload) = client.hear();
            assert_eq!(kind, 0x1c, "{payload:?}");
            acknowledged += number(&payload, 8);
        }
    }
    assert_eq!(acknowledged, shares, "ten at a time");
}
