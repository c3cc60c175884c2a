use stratum::{
    noise::AuthorityKey,
    v2::{
        Message,
        common::{Reconnect, SetupConnectionSuccess},
        mining::{
            CloseChannel, NewMiningJob, OpenExtendedMiningChannelSuccess, SetExtranoncePrefix,
            SetGroupChannel, SetNewPrevHash, SetTarget, SubmitSharesError, SubmitSharesSuccess,
        },
        wire::{B64K, Seq64K, Seq255},
    },
};

use super::*;
use crate::miner;

const CHANNEL: u32 = 3;
const GROUP: u32 = 9;

/// A channel, and what came of what it was told.
struct Told {
    channel: Channel,
    events: Vec<Event>,
    broken: Option<Broken>,
}

impl Told {
    /// An extended channel that is open.
    fn open() -> Self {
        let key = AuthorityKey::from_bytes([1; 32]).unwrap().public();
        let config = MinerConfig {
            protocol: miner::Protocol::V2(key, Kind::Extended),
            connect: "pool:3336".into(),
            user: "bc1q.me".into(),
            password: "x".into(),
            hashrate: None,
            threads: 1,
        };
        let channel = Channel::new(&config, Kind::Extended, 7);
        let mut told = Self { channel, events: Vec::new(), broken: None };
        told.tell(SetupConnectionSuccess { used_version: 2, flags: 0 });
        told.tell(OpenExtendedMiningChannelSuccess {
            request_id: REQUEST,
            channel_id: CHANNEL,
            target: [0x11; 32],
            extranonce_size: 8,
            extranonce_prefix: B32::cut(&[1, 2, 3, 4]),
            group_channel_id: GROUP,
        });
        told
    }

    fn tell<'a>(&mut self, message: impl Message<'a>) {
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        stratum::v2::encode_long(&message, &mut bytes).unwrap();
        let frame = Frame::next(&mut &bytes[..], 1000).unwrap().unwrap();
        let told = self.channel.on_frame(frame, &mut out, &mut self.events);
        self.broken = self.broken.take().or(told.err());
    }

    fn job(&mut self, channel_id: u32, job_id: u32, min_ntime: Option<u32>) {
        self.tell(NewExtendedMiningJob {
            channel_id,
            job_id,
            min_ntime,
            version: 0x2000_0000,
            version_rolling_allowed: job_id != 99,
            merkle_path: Seq255::new(&[]).unwrap(),
            coinbase_tx_prefix: B64K::cut(&[0xaa]),
            coinbase_tx_suffix: B64K::cut(&[0xbb]),
        });
    }

    fn block(&mut self, channel_id: u32, job_id: u32) {
        let (prev_hash, min_ntime, nbits) = ([job_id as u8; 32], 1_000, 0x1d00_ffff);
        self.tell(SetNewPrevHash { channel_id, job_id, prev_hash, min_ntime, nbits });
    }

    /// In words: jobs with the lowest byte of their previous hash, their target and the pool's part of the extranonce.
    fn events(&mut self) -> Vec<String> {
        let words = |event| match event {
            Event::Work(work) => {
                let Root::Rolled { extranonce, .. } = &work.root else { panic!("a given root") };
                let Work { serial, job_id, prev_hash, target, mask, .. } = &*work;
                let (target, prefix) = (target.to_le_bytes()[0], extranonce.prefix[0]);
                let fixed = if *mask == 0 { ", fixed" } else { "" };
                format!("{serial}: job {job_id} on {} at {target:#x} with {prefix}{fixed}", prev_hash[0])
            }
            other => format!("{other:?}"),
        };
        self.events.drain(..).map(words).collect()
    }

    /// A share of the job with this serial: what is sent.
    fn submit(&mut self, serial: u64) -> Result<usize, Broken> {
        let found = Found {
            serial,
            job_id: String::new(),
            extranonce2: vec![0; 8],
            time: 1_000,
            nonce: 5,
            version: 0x2000_0000,
            version_bits: None,
            is_block: serial == 8,
        };
        let mut out = Vec::new();
        self.channel.submit(&found, &mut out).map(|()| out.len())
    }
}

#[test]
fn jobs_wait_for_their_block_and_take_the_target_of_the_moment_they_begin() {
    let mut told = Told::open();
    assert_eq!(told.events(), ["Authorized"]);
    told.job(CHANNEL, 1, Some(900)); // there is no block to build on
    told.job(GROUP, 2, None);
    told.job(GROUP, 3, None);
    assert_eq!(told.events(), [""; 0]);
    told.tell(SetTarget { channel_id: GROUP, maximum_target: [0x22; 32] });
    told.block(GROUP, 2);
    told.job(CHANNEL, 4, Some(1_001));
    told.tell(SetTarget { channel_id: CHANNEL, maximum_target: [0x33; 32] });
    told.tell(SetExtranoncePrefix { channel_id: CHANNEL, extranonce_prefix: B32::cut(&[5, 6, 7, 8]) });
    told.job(CHANNEL, 99, Some(1_002));
    let jobs = [
        "7: job 2 on 2 at 0x22 with 1",
        "8: job 4 on 2 at 0x22 with 1",
        "9: job 99 on 2 at 0x33 with 5, fixed",
    ];
    assert_eq!(told.events(), jobs);
    // What is for others changes nothing.
    told.job(77, 5, Some(1_003));
    told.block(77, 5);
    told.tell(SetTarget { channel_id: 77, maximum_target: [0x44; 32] });
    told.tell(CloseChannel { channel_id: 77, reason_code: Str255::cut(b"x") });
    told.tell(NewMiningJob {
        channel_id: CHANNEL,
        job_id: 6,
        min_ntime: Some(1),
        version: 0,
        merkle_root: [0; 32],
    });
    assert_eq!((told.events(), &told.broken), (vec![], &None));
    // Another group, from now on.
    told.tell(SetGroupChannel { group_channel_id: 50, channel_ids: Seq64K::new(&[1, CHANNEL]).unwrap() });
    told.job(GROUP, 7, Some(1_003));
    told.job(50, 8, Some(1_003));
    assert_eq!(told.events(), ["10: job 8 on 2 at 0x33 with 5"]);
}

#[test]
fn shares_are_answered_many_at_once_or_one_by_one() {
    let mut told = Told::open();
    told.job(CHANNEL, 1, None);
    told.block(CHANNEL, 1);
    told.job(CHANNEL, 2, Some(1_001));
    told.events();
    assert_eq!(told.submit(6), Ok(0), "of an earlier connection");
    for serial in [7, 8, 7, 8] {
        // Frame, fixed fields, extranonce.
        assert_eq!(told.submit(serial), Ok(6 + 24 + 9));
    }
    assert_eq!(told.channel.pending(), 4);
    let error_code = Str255::cut(b"duplicate-share");
    told.tell(SubmitSharesError { channel_id: CHANNEL, sequence_number: 2, error_code });
    told.tell(SubmitSharesError { channel_id: CHANNEL, sequence_number: 2, error_code });
    let success = |last_sequence_number| SubmitSharesSuccess {
        channel_id: CHANNEL,
        last_sequence_number,
        new_submits_accepted_count: 2,
        new_shares_sum: 0,
    };
    told.tell(success(1));
    told.tell(success(1));
    let answers =
        [r#"Rejected("duplicate-share")"#, "Accepted { is_block: false }", "Accepted { is_block: true }"];
    assert_eq!(told.events(), answers);
    assert_eq!(told.channel.pending(), 1);
    // A new block makes the jobs before it worthless.
    told.job(CHANNEL, 3, None);
    told.block(CHANNEL, 3);
    assert_eq!(told.submit(7), Ok(0));
    for _ in 1..MAX_PENDING {
        assert_eq!(told.submit(9), Ok(39));
    }
    assert_eq!(told.submit(9), Err(Broken::Silent));
}

#[test]
fn what_ends_a_connection() {
    let check = |tell: fn(&mut Told), expect: &str| {
        let mut told = Told::open();
        tell(&mut told);
        let broken = told.broken.map(|broken| broken.to_string());
        assert!(broken.as_ref().is_some_and(|broken| broken.contains(expect)), "{broken:?}");
    };
    check(|told| told.block(CHANNEL, 4), "no future job has the number 4");
    check(
        |told| told.tell(CloseChannel { channel_id: GROUP, reason_code: Str255::cut(b"too\nlate") }),
        "it closed the channel: toolate",
    );
    check(
        |told| told.tell(Reconnect { new_host: Str255::cut(b""), new_port: 0 }),
        "asked this miner to connect again",
    );
    check(
        |told| {
            let mut bytes = Vec::new();
            encode(&SetTarget { channel_id: CHANNEL, maximum_target: [0; 32] }, &mut bytes);
            bytes[3] = 20; // its length
            let frame = Frame::next(&mut &bytes[..26], 100).unwrap().unwrap();
            told.broken = told.channel.on_frame(frame, &mut Vec::new(), &mut told.events).err();
        },
        "SetTarget: the payload ends before the message does",
    );
}
