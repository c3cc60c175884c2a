//! A session without a socket: frames in, frames out.

use bytes::Bytes;
use ledger::{Class, Scheme, Terms};
use share::{Difficulty, Extranonce, Reason, Submission, Target, sha256};
use stratum::v2::{
    Message,
    common::SetupConnection,
    encode,
    extensions::RequestExtensions,
    mining::{
        CloseChannel, NewExtendedMiningJob, OpenExtendedMiningChannel, OpenStandardMiningChannel, SetTarget,
        SubmitSharesExtended, SubmitSharesStandard, UpdateChannel,
        flags::{REQUIRES_STANDARD_JOBS, REQUIRES_VERSION_ROLLING, REQUIRES_WORK_SELECTION},
    },
    wire::{HashRate, Seq64K, Str255},
};
use template::Template;
use tokio::sync::watch;

use super::*;
use crate::{Acks, Limited, Limits, VardiffConfig, board::Posting, gate::Gate};

mod deal;
mod jobs;
mod open;
mod setup;
mod shares;
mod vector;

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const OTHER: &str = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry";
/// Every hash is a share.
const ANY: f64 = 1e-10;
/// One in about 4300 is a block.
const BLOCK_BITS: u32 = 0x1f0f_4240;
const NOW: u64 = 1_700_000_000_000;
/// Where the client connects from.
const MINER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

struct Desk {
    session: Session,
    board: Arc<Board>,
    space: Space,
    config: Arc<Config>,
    gate: Gate,
    templates: watch::Sender<Option<Arc<Template>>>,
    posted: watch::Receiver<Option<Arc<Posting>>>,
    posting: Option<Arc<Posting>>,
    now_ms: u64,
    storing: bool,
    out: Outcome,
    requests: u32,
}

/// What the session says.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Common(Common<'static>),
    Mining(Mining<'static>),
    Negotiation(Negotiation<'static>),
}

fn difficulty(value: f64) -> Difficulty {
    Difficulty::new(value).unwrap()
}

fn template(prev: u8, bits: u32) -> Arc<Template> {
    Arc::new(Template {
        height: 101,
        prev_hash: [prev; 32],
        version: 0x2000_0000,
        bits,
        network_target: Target::from_compact(bits).unwrap(),
        time: (NOW / 1000) as u32,
        min_time: (NOW / 1000) as u32 - 100,
        coinbase_value: 5_000_000_000,
        witness_commitment: None,
        transactions: Bytes::new(),
        transaction_count: 0,
        branch: vec![[9; 32]],
        long_poll: None,
    })
}

fn text(text: &str) -> Str255<'_> {
    Str255::new(text.as_bytes()).unwrap()
}

impl Desk {
    async fn new() -> Self {
        Self::with(Scheme::Pplns { factor: 2 }, |_| ()).await
    }

    async fn with(scheme: Scheme, change: impl FnOnce(&mut Config)) -> Self {
        let terms = Terms { scheme, fee_ppm: 10_000, pool_script: vec![0x51], pool_address: String::new() };
        let board = Board::new(terms, "/test/".into());
        let mut config = Config {
            network: bitcoin::Network::Regtest,
            tag: "/test/".into(),
            instance: 3,
            shards: 1,
            vardiff: VardiffConfig {
                shares_per_minute: 10.0,
                start: difficulty(1.0),
                min: difficulty(ANY),
                max: difficulty(1e12),
            },
            limits: Limits::default(),
            trusted: Vec::new(),
            acks: Acks { shares: 1, ..Acks::default() },
            repeat: std::time::Duration::from_secs(1000),
        };
        change(&mut config);
        let config = Arc::new(config);
        let (templates, source) = watch::channel(None);
        let (post, posted) = watch::channel(None);
        tokio::spawn(board.clone().run(source, config.repeat, config.limits.no_work, post));
        let space = Space::new(3, 1, 60_000);
        let gate = Gate::new(config.limits, Vec::new());
        let session = Session::new(config.clone(), space.clone(), board.clone(), gate.allowance(MINER));
        let mut desk = Self {
            session,
            board,
            space,
            config,
            gate,
            templates,
            posted,
            posting: None,
            now_ms: NOW,
            storing: true,
            out: Outcome::default(),
            requests: 0,
        };
        assert!(desk.template(template(1, BLOCK_BITS)).await.is_empty());
        desk
    }

    /// The same with another connection from the same place, which is set up.
    fn reconnected(self, flags: u32) -> Self {
        let (config, space, board) = (self.config.clone(), self.space.clone(), self.board.clone());
        let session = Session::new(config, space, board, self.gate.allowance(MINER));
        let mut desk = Self { session, ..self };
        desk.setup(0, 2..=2, flags);
        desk
    }

    /// One that has set up with `flags`.
    async fn set_up(flags: u32) -> Self {
        let mut desk = Self::new().await;
        desk.setup(0, 2..=2, flags);
        desk
    }

    /// There is another template. What is said then.
    async fn template(&mut self, template: Arc<Template>) -> Vec<Said> {
        self.templates.send_replace(Some(template));
        self.posted.changed().await.unwrap();
        self.posting = self.posted.borrow_and_update().clone();
        self.event(|session, now, out| session.posted(now, out))
    }

    fn event(&mut self, event: impl FnOnce(&mut Session, Now<'_>, &mut Outcome)) -> Vec<Said> {
        let now = Now { ms: self.now_ms, posting: self.posting.as_ref(), storing: self.storing };
        event(&mut self.session, now, &mut self.out);
        self.said()
    }

    fn frame(&mut self, frame: &[u8]) -> Vec<Said> {
        let frame = Frame::next(&mut &frame[..], 100_000).unwrap().unwrap();
        self.event(|session, now, out| session.frame(frame, now, out))
    }

    fn say<'a, M: Message<'a>>(&mut self, message: &M) -> Vec<Said> {
        let mut frame = Vec::new();
        stratum::v2::encode_long(message, &mut frame).unwrap();
        self.frame(&frame)
    }

    fn tick(&mut self, after_ms: u64) -> Vec<Said> {
        self.now_ms += after_ms;
        self.event(|session, now, out| session.tick(now, out))
    }

    /// What was said since; what else came of it stays in `out`.
    fn said(&mut self) -> Vec<Said> {
        let mut rest: &'static [u8] = std::mem::take(&mut self.out.reply).leak();
        std::iter::from_fn(|| {
            let frame = Frame::next(&mut rest, 1 << 20).unwrap()?;
            Some(match (frame.header.extension(), frame.header.msg_type) {
                (0, 0..=4) => Said::Common(Common::decode(frame).unwrap().0),
                (0, _) => Said::Mining(Mining::decode(frame).unwrap().0),
                _ => Said::Negotiation(Negotiation::decode(frame).unwrap().0),
            })
        })
        .collect()
    }

    fn setup(&mut self, protocol: u8, versions: std::ops::RangeInclusive<u16>, flags: u32) -> Vec<Said> {
        self.say(&SetupConnection {
            protocol,
            min_version: *versions.start(),
            max_version: *versions.end(),
            flags,
            endpoint_host: text("pool"),
            endpoint_port: 3336,
            vendor: text("acme"),
            hardware_version: text("two\n"),
            firmware: text(""),
            device_id: text("x"),
        })
    }

    fn ask_extended(&mut self, user: &str, rate: f32, max_target: [u8; 32], least: u16) -> Vec<Said> {
        self.requests += 1;
        self.say(&OpenExtendedMiningChannel {
            request_id: self.requests,
            user_identity: text(user),
            nominal_hash_rate: HashRate(rate),
            max_target,
            min_extranonce_size: least,
        })
    }

    fn ask_standard(&mut self, user: &str, rate: f32, max_target: [u8; 32]) -> Vec<Said> {
        self.requests += 1;
        self.say(&OpenStandardMiningChannel {
            request_id: self.requests,
            user_identity: text(user),
            nominal_hash_rate: HashRate(rate),
            max_target,
        })
    }

    /// Opens an extended channel, on which every hash is a share.
    fn extended(&mut self) -> Client {
        let said = self.ask_extended(&format!("{ADDRESS}.w"), 0.0, [0xff; 32], 4);
        Client::opened(&said)
    }

    /// The same with a standard one.
    fn standard(&mut self) -> Client {
        let said = self.ask_standard(&format!("{ADDRESS}.w"), 0.0, [0xff; 32]);
        Client::opened(&said)
    }

    /// Takes out who was credited, and with how much work.
    fn credits(&mut self) -> Vec<(usize, share::Work)> {
        self.out.credits.drain(..).map(|credit| (credit.worker, credit.record.work)).collect()
    }
}

/// A client's side of a channel.
#[derive(Clone, Debug)]
struct Client {
    id: u32,
    group: u32,
    target: Target,
    prefix: Vec<u8>,
    size: usize,
    jobs: Vec<Job>,
    sequence: u32,
    nonce: u32,
}

#[derive(Clone, Debug)]
struct Job {
    id: u32,
    version: u32,
    /// `None`: it is to come.
    time: Option<u32>,
    root: Root,
}

#[derive(Clone, Debug)]
enum Root {
    Itself([u8; 32]),
    Of(NewExtendedMiningJob<'static>),
}

/// What is handed in.
#[derive(Clone, Copy, Debug)]
struct Share {
    channel: u32,
    sequence: u32,
    job: u32,
    nonce: u32,
    time: u32,
    version: u32,
    /// Bytes that are the client's.
    size: usize,
}

impl Client {
    /// Of the answer, and what followed it.
    fn opened(said: &[Said]) -> Self {
        let (id, group, target, prefix, size) = match &said[0] {
            Said::Mining(Mining::OpenStandardMiningChannelSuccess(it)) => {
                (it.channel_id, it.group_channel_id, it.target, it.extranonce_prefix, 0)
            }
            Said::Mining(Mining::OpenExtendedMiningChannelSuccess(it)) => {
                (it.channel_id, it.group_channel_id, it.target, it.extranonce_prefix, it.extranonce_size)
            }
            other => panic!("{other:?}"),
        };
        let (target, prefix) = (Target::from_le_bytes(target), prefix.get().to_vec());
        let size = usize::from(size);
        let mut client = Self { id, group, target, prefix, size, jobs: Vec::new(), sequence: 0, nonce: 0 };
        client.hear(&said[1..]);
        client
    }

    /// Takes in what is for this channel.
    fn hear(&mut self, said: &[Said]) {
        for message in said {
            match *message {
                Said::Mining(Mining::NewMiningJob(job)) if job.channel_id == self.id => self.jobs.push(Job {
                    id: job.job_id,
                    version: job.version,
                    time: job.min_ntime,
                    root: Root::Itself(job.merkle_root),
                }),
                Said::Mining(Mining::NewExtendedMiningJob(job))
                    if [self.id, self.group].contains(&job.channel_id) =>
                {
                    let root = Root::Of(job);
                    self.jobs.push(Job { id: job.job_id, version: job.version, time: job.min_ntime, root });
                }
                Said::Mining(Mining::SetNewPrevHash(tip))
                    if [self.id, self.group].contains(&tip.channel_id) =>
                {
                    self.jobs.retain(|job| job.id == tip.job_id && job.time.is_none());
                    self.jobs.iter_mut().for_each(|job| job.time = Some(tip.min_ntime));
                    assert_eq!(self.jobs.len(), 1, "of a job that was to come");
                }
                Said::Mining(Mining::SetTarget(target)) if target.channel_id == self.id => {
                    self.target = Target::from_le_bytes(target.maximum_target);
                }
                _ => {}
            }
        }
    }

    /// The next share of its latest job.
    fn share(&mut self) -> Share {
        let job = self.jobs.last().expect("a job");
        (self.sequence, self.nonce) = (self.sequence + 1, self.nonce + 1);
        Share {
            channel: self.id,
            sequence: self.sequence,
            job: job.id,
            nonce: self.nonce,
            time: job.time.expect("it is mined"),
            version: job.version,
            size: self.size,
        }
    }

    /// The hash of its header, when the block before has the hash of `prev`.
    fn hash(&self, share: &Share, prev: u8, bits: u32) -> [u8; 32] {
        let job = self.jobs.iter().find(|job| job.id == share.job).unwrap();
        let root = match &job.root {
            Root::Itself(root) => *root,
            Root::Of(job) => {
                let rolled = vec![0xab; share.size];
                let parts =
                    [job.coinbase_tx_prefix.get(), &self.prefix, &rolled, job.coinbase_tx_suffix.get()];
                job.merkle_path.iter().fold(sha256::double(&parts.concat()), |root, sibling| {
                    sha256::double(&[root, sibling].concat())
                })
            }
        };
        let mut header = Vec::new();
        header.extend(share.version.to_le_bytes());
        header.extend([prev; 32]);
        header.extend(root);
        header.extend([share.time, bits, share.nonce].iter().flat_map(|number| number.to_le_bytes()));
        sha256::double(&header)
    }
}

impl Share {
    fn submit(&self, desk: &mut Desk) -> Vec<Said> {
        let &Self { channel, sequence, job, nonce, time, version, size } = self;
        if size == 0 {
            return desk.say(&SubmitSharesStandard {
                channel_id: channel,
                sequence_number: sequence,
                job_id: job,
                nonce,
                ntime: time,
                version,
            });
        }
        desk.say(&self.extended(&vec![0xab; size]))
    }

    fn extended<'a>(&self, extranonce: &'a [u8]) -> SubmitSharesExtended<'a> {
        SubmitSharesExtended {
            channel_id: self.channel,
            sequence_number: self.sequence,
            job_id: self.job,
            nonce: self.nonce,
            ntime: self.time,
            version: self.version,
            extranonce: stratum::v2::wire::B32::new(extranonce).unwrap(),
        }
    }
}

/// The names of messages, with the channel that they are for.
fn names(said: &[Said]) -> Vec<(&'static str, u32)> {
    let name = |message: &Said| match message {
        Said::Mining(Mining::NewMiningJob(it)) => match it.min_ntime {
            Some(_) => ("job", it.channel_id),
            None => ("future job", it.channel_id),
        },
        Said::Mining(Mining::NewExtendedMiningJob(it)) => match it.min_ntime {
            Some(_) => ("extended job", it.channel_id),
            None => ("future extended job", it.channel_id),
        },
        Said::Mining(Mining::SetNewPrevHash(it)) => ("prev hash", it.channel_id),
        Said::Mining(Mining::SetTarget(it)) => ("target", it.channel_id),
        Said::Mining(Mining::SubmitSharesSuccess(it)) => ("success", it.channel_id),
        Said::Mining(Mining::SubmitSharesError(it)) => ("error", it.channel_id),
        Said::Mining(Mining::OpenStandardMiningChannelSuccess(it)) => ("standard", it.channel_id),
        Said::Mining(Mining::OpenExtendedMiningChannelSuccess(it)) => ("extended", it.channel_id),
        Said::Mining(Mining::UpdateChannelError(it)) => ("update error", it.channel_id),
        other => panic!("{other:?}"),
    };
    said.iter().map(name).collect()
}

/// The one error code that was said.
fn code(said: &[Said]) -> String {
    let [said] = said else { panic!("{said:?}") };
    let code = match said {
        Said::Common(Common::SetupConnectionError(error)) => error.error_code,
        Said::Mining(Mining::OpenMiningChannelError(error)) => error.error_code,
        Said::Mining(Mining::UpdateChannelError(error)) => error.error_code,
        Said::Mining(Mining::SubmitSharesError(error)) => error.error_code,
        Said::Mining(Mining::SetCustomMiningJobError(error)) => error.error_code,
        other => panic!("{other:?}"),
    };
    assert!(code.get().iter().all(|byte| byte.is_ascii_graphic()));
    String::from_utf8(code.get().to_vec()).unwrap()
}
