//! A V2 client's whole life with the pool: what it sends in whatever pieces of frames, and what happens meanwhile.
//!
//! The input is a list of events; see [`Event`]. Every hash is a share, unless the client asks for a harder target, and on
//! some templates every hash is a block, so that what follows is all the same whatever the pool's random numbers are.

use std::{collections::HashSet, sync::Arc, time::Duration};

use ledger::{Scheme, Terms};
use pool::{
    Acks, Config, Limits, VardiffConfig,
    board::{Board, Posting},
    gate::Gate,
    session::{Now, Outcome, v2::Session},
    space::Space,
};
use share::{Difficulty, Target};
use stratum::v2::{
    Frame, Message,
    common::{Common, SetupConnection},
    encode_long,
    extensions::{Negotiation, RequestExtensions, encode_share_of},
    mining::{
        CloseChannel, Mining, OpenExtendedMiningChannel, OpenStandardMiningChannel, SubmitSharesExtended,
        SubmitSharesStandard, UpdateChannel,
    },
    wire::{B32, Bytes, HashRate, Seq64K, Str255},
};
use template::Template;
use tokio::sync::watch;

/// What one input may take, in bytes: sessions, groups and jobs, and some times what it sends. A channel takes some hundred
/// bytes and is asked for in four.
const MEMORY: u64 = 2 << 20;
/// How much of it a byte of the input may add.
const PER_BYTE: u64 = 4096;
/// What is said of one event may take, in bytes, for each channel that there is.
const ANSWER: usize = 8192;

const ADDRESSES: [&str; 2] = [
    "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
    "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry",
];
/// Where the client connects from.
const MINER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const NOW_MS: u64 = 1_700_000_000_000;
/// Every hash meets these.
const EASY: f64 = 1e-10;
const EASY_BITS: u32 = 0x2100_ffff;
/// No hash of a fuzzer's life does.
const HARD_BITS: u32 = 0x1702_4b5b;
/// Channels on a connection.
const CHANNELS: usize = 32;

/// What the next bytes of the input stand for.
enum Event {
    /// A frame as it is: extension, message, and so many bytes of payload.
    Raw(u16, u8, usize),
    /// Seconds pass, after which the pool looks after its sessions.
    Tick(u8),
    /// A template: for the same block or the next, one that any hash solves or none. Or none at all.
    Template(u8),
    /// The connection ends, and there is another, with these flags.
    Reconnect(u8),
    /// Shares can be stored no longer, or again.
    Storing,
    /// A request for extensions.
    Extensions(u8),
    /// A standard channel (even) or an extended one (odd) is asked for, with this hash rate.
    Open(u8, u8),
    /// One of the last channels is told a hash rate and a target.
    Update(u8, u8, u8),
    /// One of the last channels is closed, or a group.
    Close(u8),
    /// A share of one of the last channels, for one of the last jobs.
    Share { channel: u8, job: u8, nonce: u8, size: u8, name: u8 },
}

impl Event {
    fn next(input: &mut impl Iterator<Item = u8>) -> Option<Self> {
        let first = input.next()?;
        let mut more = || input.next().unwrap_or(0);
        Some(match first % 16 {
            0 => Event::Raw(u16::from_le_bytes([more(), more()]), more(), usize::from(more())),
            1 => Event::Tick(more()),
            2 => Event::Template(more()),
            3 => Event::Reconnect(more()),
            4 => Event::Storing,
            5 => Event::Extensions(more()),
            6 | 7 => Event::Open(more(), more()),
            8 => Event::Update(more(), more(), more()),
            9 => Event::Close(more()),
            _ => Event::Share { channel: more(), job: more(), nonce: more(), size: more(), name: more() },
        })
    }
}

/// Lives one life. Panics when a rule is broken.
pub fn run(input: &[u8]) {
    let taken = allocation_counter::measure(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(live(input));
    });
    let bound = MEMORY + PER_BYTE * input.len() as u64;
    assert!(taken.bytes_max <= bound, "{} bytes for an input of {}", taken.bytes_max, input.len());
}

async fn live(input: &[u8]) {
    let mut life = Life::new();
    life.template(0).await;
    life.reconnect(0);
    let mut input = input.iter().copied();
    while let Some(event) = Event::next(&mut input) {
        match event {
            Event::Raw(extension, message, length) => {
                let payload: Vec<u8> = input.by_ref().take(length).collect();
                life.raw(extension, message, &payload);
            }
            Event::Tick(seconds) => {
                life.now_ms += u64::from(seconds) * 1000;
                life.tell(|session, now, out| session.tick(now, out));
                life.tell(|session, now, out| session.go_on(now, out));
            }
            Event::Template(kind) => life.template(kind).await,
            Event::Reconnect(flags) => life.reconnect(flags),
            Event::Storing => life.storing = !life.storing,
            Event::Extensions(number) => {
                let numbers = [u16::from(number), 2];
                let asked = &numbers[..usize::from(number % 3).min(2)];
                let requested_extensions = Seq64K::new(asked).expect("two at most");
                life.say(&RequestExtensions { request_id: 1, requested_extensions });
            }
            Event::Open(kind, rate) => life.open(kind, rate),
            Event::Update(channel, rate, target) => {
                let channel_id = life.channel(channel);
                let nominal_hash_rate = HashRate(RATES[usize::from(rate) % RATES.len()]);
                life.say(&UpdateChannel { channel_id, nominal_hash_rate, maximum_target: target_of(target) });
            }
            Event::Close(channel) => {
                let channel_id = life.channel(channel);
                life.say(&CloseChannel { channel_id, reason_code: Str255::cut(b"bye") });
            }
            Event::Share { channel, job, nonce, size, name } => life.share(channel, job, nonce, size, name),
        }
    }
    life.reconnect(0);
}

const RATES: [f32; 8] = [0.0, 1.0, 1e6, 1e30, -1.0, f32::NAN, f32::INFINITY, 1e-30];

fn target_of(kind: u8) -> [u8; 32] {
    match kind % 4 {
        0 => [0xff; 32],
        1 => [0; 32],
        number => {
            let mut target = [0; 32];
            target[usize::from(number) * 8] = kind;
            target
        }
    }
}

/// The client's side of things, and the world around it.
struct Life {
    config: Arc<Config>,
    gate: Gate,
    space: Space,
    board: Arc<Board>,
    templates: watch::Sender<Option<Arc<Template>>>,
    postings: watch::Receiver<Option<Arc<Posting>>>,
    posting: Option<Arc<Posting>>,
    /// First byte of the hash that the present template builds on.
    tip: u8,
    session: Session,
    is_open: bool,
    now_ms: u64,
    storing: bool,
    /// Ids of channels and groups, as they were told.
    ids: Vec<u32>,
    jobs: Vec<u32>,
    credited: HashSet<u64>,
    /// How many shares of this connection were credited and not acknowledged yet.
    unacknowledged: usize,
}

impl Life {
    fn new() -> Self {
        let terms = Terms {
            scheme: Scheme::Solo,
            fee_ppm: 10_000,
            pool_script: vec![0x51],
            pool_address: String::new(),
        };
        let easy = Difficulty::new(EASY).expect("a difficulty");
        let config = Arc::new(Config {
            network: bitcoin::Network::Regtest,
            tag: "/fuzz/".into(),
            instance: 0,
            shards: 1,
            vardiff: VardiffConfig {
                shares_per_minute: 10.0,
                start: easy,
                min: easy,
                max: Difficulty::new(1e12).expect("a difficulty"),
            },
            limits: Limits { channels: CHANNELS, workers: 4, ..Limits::default() },
            trusted: Vec::new(),
            acks: Acks { shares: 3, after: Duration::from_secs(2) },
            repeat: Duration::from_secs(1_000_000),
        });
        let board = Board::new(terms, config.tag.clone());
        let (templates, source) = watch::channel(None);
        let (post, postings) = watch::channel(None);
        tokio::spawn(board.clone().run(source, config.repeat, config.repeat, post));
        let space = Space::new(0, 1, 60_000);
        let gate = Gate::new(config.limits, Vec::new());
        let session = Session::new(config.clone(), space.clone(), board.clone(), gate.allowance(MINER));
        Self {
            config,
            gate,
            space,
            board,
            templates,
            postings,
            posting: None,
            tip: 0,
            session,
            is_open: false,
            now_ms: NOW_MS,
            storing: true,
            ids: vec![0],
            jobs: vec![0],
            credited: HashSet::new(),
            unacknowledged: 0,
        }
    }

    async fn template(&mut self, kind: u8) {
        let (is_next, is_easy, is_none) = (kind & 1 == 1, kind & 2 == 0, kind & 12 == 12);
        if is_next {
            self.tip = self.tip.wrapping_add(1);
        }
        let bits = if is_easy { EASY_BITS } else { HARD_BITS };
        let template = Template {
            height: 100 + u32::from(self.tip),
            prev_hash: [self.tip; 32],
            version: 0x2000_0000,
            bits,
            network_target: Target::from_compact(bits).unwrap_or(Target::MAX),
            time: (self.now_ms / 1000) as u32,
            min_time: (self.now_ms / 1000) as u32 - 100,
            coinbase_value: 5_000_000_000 + u64::from(kind),
            witness_commitment: None,
            transactions: bytes::Bytes::new(),
            transaction_count: 0,
            branch: vec![[9; 32]; usize::from(kind % 5)],
            long_poll: None,
        };
        self.templates.send_replace((!is_none).then(|| Arc::new(template)));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        self.posting = self.postings.borrow_and_update().clone();
        self.tell(|session, now, out| session.posted(now, out));
    }

    /// One of the ids that were told last: a channel's, a group's, or none.
    fn channel(&self, back: u8) -> u32 {
        let at = self.ids.len() - 1 - usize::from(back) % self.ids.len();
        self.ids[at]
    }

    fn reconnect(&mut self, flags: u8) {
        let allowance = self.gate.allowance(MINER);
        let session = Session::new(self.config.clone(), self.space.clone(), self.board.clone(), allowance);
        std::mem::replace(&mut self.session, session).end(self.now_ms);
        (self.is_open, self.ids, self.jobs) = (true, vec![0], vec![0]);
        self.unacknowledged = 0;
        let text = Str255::cut(b"fuzz");
        self.say(&SetupConnection {
            protocol: u8::from(flags == 255),
            min_version: 2,
            max_version: 2 + u16::from(flags >> 4),
            flags: u32::from(flags % 8),
            endpoint_host: text,
            endpoint_port: 1,
            vendor: text,
            hardware_version: text,
            firmware: text,
            device_id: text,
        });
    }

    fn open(&mut self, kind: u8, rate: u8) {
        let user = match kind / 2 % 4 {
            3 => "nobody".to_owned(),
            number => format!("{}.{kind}", ADDRESSES[usize::from(number) % 2]),
        };
        let user_identity = Str255::cut(user.as_bytes());
        let nominal_hash_rate = HashRate(RATES[usize::from(rate) % RATES.len()]);
        let (request_id, max_target) = (u32::from(kind), target_of(rate / 8));
        if kind.is_multiple_of(2) {
            self.say(&OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target });
        } else {
            let min_extranonce_size = u16::from(kind / 8);
            self.say(&OpenExtendedMiningChannel {
                request_id,
                user_identity,
                nominal_hash_rate,
                max_target,
                min_extranonce_size,
            });
        }
    }

    fn share(&mut self, channel: u8, job: u8, nonce: u8, size: u8, name: u8) {
        let channel_id = self.channel(channel);
        let job_id = self.jobs[self.jobs.len() - 1 - usize::from(job) % self.jobs.len()];
        let (sequence_number, nonce) = (u32::from(nonce), u32::from(nonce));
        let (ntime, version) = ((self.now_ms / 1000) as u32, 0x2000_0000 ^ (u32::from(size) << 5));
        let rolled = [size; 32];
        let share = SubmitSharesExtended {
            channel_id,
            sequence_number,
            job_id,
            nonce,
            ntime,
            version,
            extranonce: B32::cut(&rolled[..if size < 200 { 8 } else { 16 }]),
        };
        match size % 3 {
            0 => {
                self.say(&SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version })
            }
            1 => self.say(&share),
            _ => {
                let mut frame = Vec::new();
                encode_share_of(&share, Bytes::cut(&[name; 3]), &mut frame);
                self.frame(&frame);
            }
        }
    }

    fn say<'a, M: Message<'a>>(&mut self, message: &M) {
        let mut frame = Vec::new();
        encode_long(message, &mut frame).expect("a short message");
        self.frame(&frame);
    }

    fn raw(&mut self, extension: u16, message: u8, payload: &[u8]) {
        let [a, b] = extension.to_le_bytes();
        let frame = [&[a, b, message, payload.len() as u8, 0, 0], payload].concat();
        self.frame(&frame);
    }

    fn frame(&mut self, frame: &[u8]) {
        let frame = Frame::next(&mut &frame[..], 1 << 16).expect("a short frame").expect("a whole one");
        self.tell(|session, now, out| session.frame(frame, now, out));
    }

    /// Something happens to the session, if there is one still; then what came of it is looked at.
    fn tell(&mut self, what: impl FnOnce(&mut Session, Now<'_>, &mut Outcome)) {
        if !self.is_open {
            return;
        }
        let (posting, mut out) = (self.posting.clone(), Outcome::default());
        let now = Now { ms: self.now_ms, posting: posting.as_ref(), storing: self.storing };
        what(&mut self.session, now, &mut out);
        self.check(&out);
        self.is_open = out.close.is_none();
    }

    fn check(&mut self, out: &Outcome) {
        assert!(out.reply.len() <= ANSWER * (1 + CHANNELS), "an answer of {} bytes", out.reply.len());
        let (mut rest, mut acknowledged) = (&out.reply[..], 0);
        while let Some(frame) = Frame::next(&mut rest, 1 << 20).expect("frames of ours are short") {
            match frame.header.extension() {
                0 if frame.header.msg_type < 0x10 => {
                    Common::decode(frame).expect("a message of ours");
                }
                0 => acknowledged += self.hear(Mining::decode(frame).expect("a message of ours").0),
                _ => {
                    Negotiation::decode(frame).expect("a message of ours");
                }
            }
        }
        assert!(rest.is_empty(), "half a frame");
        self.unacknowledged += out.credits.len();
        let left = self.unacknowledged.checked_sub(acknowledged);
        self.unacknowledged = left.expect("no more shares are acknowledged than were credited");
        for credit in &out.credits {
            assert!(self.storing && credit.record.work > 0);
            assert!(self.credited.insert(credit.record.hash_tag), "one hash, two credits");
        }
        assert!(out.credits.len() <= 1 && out.solved.len() <= 1, "of one event");
    }

    /// Takes note of what the client is told; how many shares are acknowledged.
    fn hear(&mut self, message: Mining<'_>) -> usize {
        match message {
            Mining::OpenStandardMiningChannelSuccess(it) => self.opened(it.channel_id, it.group_channel_id),
            Mining::OpenExtendedMiningChannelSuccess(it) => self.opened(it.channel_id, it.group_channel_id),
            Mining::NewMiningJob(it) => self.job(it.job_id),
            Mining::NewExtendedMiningJob(it) => self.job(it.job_id),
            Mining::SetNewPrevHash(it) => {
                assert!(self.jobs.contains(&it.job_id), "of a job that it was not given")
            }
            Mining::SubmitSharesSuccess(it) => return it.new_submits_accepted_count as usize,
            _ => {}
        }
        0
    }

    fn opened(&mut self, channel: u32, group: u32) {
        assert!(!self.ids.contains(&channel) && channel != group, "an id that was used before");
        if !self.ids.contains(&group) {
            self.ids.push(group);
        }
        self.ids.push(channel);
    }

    fn job(&mut self, id: u32) {
        if !self.jobs.contains(&id) {
            self.jobs.push(id);
        }
    }
}
