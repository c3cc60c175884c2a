//! The same in Stratum V2.

use stratum::{
    noise::{AuthorityKey, Identity, StaticKey, Transport, respond},
    v2::{
        Header, Message as _,
        common::{Common, SetupConnectionError, SetupConnectionSuccess},
        encode,
        mining::{
            CloseChannel, Mining, NewExtendedMiningJob, NewMiningJob, OpenExtendedMiningChannelSuccess,
            OpenMiningChannelError, OpenStandardMiningChannelSuccess, SetNewPrevHash, SetTarget,
            SubmitSharesError, SubmitSharesExtended, SubmitSharesStandard, SubmitSharesSuccess, flags,
        },
        wire::{B32, B64K, Seq255, Str255},
    },
};
use tokio::io::AsyncReadExt;

use super::*;

const CHANNEL: u32 = 3;
const GROUP: u32 = 9;

fn authority(number: u8) -> AuthorityKey {
    AuthorityKey::from_bytes([number; 32]).unwrap()
}

fn identity(valid_from: u32) -> Identity {
    StaticKey::new(&[5; 64]).unwrap().certify(&authority(1), valid_from, u32::MAX, &[6; 32])
}

fn config_of(connect: String, kind: Kind) -> MinerConfig {
    MinerConfig { protocol: Protocol::V2(authority(1).public(), kind), ..config(connect) }
}

/// A share as it came, whichever kind of channel it is of.
#[derive(Clone, Debug)]
struct Submit {
    sequence: u32,
    job_id: u32,
    version: u32,
    time: u32,
    nonce: u32,
    extranonce: Vec<u8>,
}

impl From<SubmitSharesStandard> for Submit {
    fn from(m: SubmitSharesStandard) -> Self {
        let SubmitSharesStandard {
            channel_id,
            sequence_number: sequence,
            job_id,
            nonce,
            ntime: time,
            version,
        } = m;
        assert_eq!(channel_id, CHANNEL);
        Self { sequence, job_id, version, time, nonce, extranonce: Vec::new() }
    }
}

impl From<SubmitSharesExtended<'_>> for Submit {
    fn from(m: SubmitSharesExtended<'_>) -> Self {
        let SubmitSharesExtended { channel_id, sequence_number, job_id, nonce, ntime, version, extranonce } =
            m;
        let standard = SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version };
        Self { extranonce: extranonce.get().to_vec(), ..standard.into() }
    }
}

/// The pool's side of one connection.
struct Peer {
    stream: TcpStream,
    transport: Transport,
    kind: Kind,
}

impl Peer {
    async fn accept(listener: &TcpListener, kind: Kind) -> Self {
        Self::accept_as(listener, kind, &identity(0)).await
    }

    async fn accept_as(listener: &TcpListener, kind: Kind, identity: &Identity) -> Self {
        let mut stream = listener.accept().await.unwrap().0;
        let (mut first, mut out) = ([0; 64], Vec::new());
        stream.read_exact(&mut first).await.unwrap();
        let transport = respond(identity, &first, &[7; 64], &mut out).unwrap();
        stream.write_all(&out).await.unwrap();
        Self { stream, transport, kind }
    }

    async fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let (mut frames, mut out) = (Vec::new(), Vec::new());
        write(&mut frames);
        self.transport.sender.seal(&frames, &mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next frame, in plain; nothing when the miner is gone.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            // Byte by byte, so that never a second frame is there.
            let mut byte = [0];
            self.stream.read_exact(&mut byte).await.ok()?;
            if let Some(frame) = self.transport.receiver.next(&mut &mut byte[..], 1000).unwrap() {
                return Some([&frame.header.to_bytes(), frame.payload].concat());
            }
        }
    }

    async fn submit(&mut self) -> Option<Submit> {
        let frame = self.next().await?;
        Some(match mining(&frame) {
            Mining::SubmitSharesStandard(m) if self.kind == Kind::Standard => m.into(),
            Mining::SubmitSharesExtended(m) if self.kind == Kind::Extended => m.into(),
            other => panic!("not a share: {other:?}"),
        })
    }

    /// Answers the opening, at so difficult a target.
    async fn open(&mut self, difficulty: f64) {
        let setup = self.next().await.unwrap();
        let Common::SetupConnection(setup) = common(&setup) else { panic!("{setup:?}") };
        let standard = if self.kind == Kind::Standard { flags::REQUIRES_STANDARD_JOBS } else { 0 };
        assert_eq!((setup.protocol, setup.min_version, setup.max_version), (0, 2, 2));
        assert_eq!(setup.flags, flags::REQUIRES_VERSION_ROLLING | standard);
        self.send(|out| encode(&SetupConnectionSuccess { used_version: 2, flags: 0 }, out)).await;
        let open = self.next().await.unwrap();
        let (target, group_channel_id) = (target(difficulty), GROUP);
        match mining(&open) {
            Mining::OpenStandardMiningChannel(m) if self.kind == Kind::Standard => {
                assert_eq!((m.user_identity.get(), m.nominal_hash_rate.0), (&b"me.rig"[..], 200_000.0));
                let success = OpenStandardMiningChannelSuccess {
                    request_id: m.request_id,
                    channel_id: CHANNEL,
                    target,
                    extranonce_prefix: B32::cut(&[1; 12]),
                    group_channel_id,
                };
                self.send(|out| encode(&success, out)).await;
            }
            Mining::OpenExtendedMiningChannel(m) if self.kind == Kind::Extended => {
                assert_eq!((m.user_identity.get(), m.min_extranonce_size), (&b"me.rig"[..], 4));
                let success = OpenExtendedMiningChannelSuccess {
                    request_id: m.request_id,
                    channel_id: CHANNEL,
                    target,
                    extranonce_size: 8,
                    extranonce_prefix: B32::cut(&EXTRANONCE1),
                    group_channel_id,
                };
                self.send(|out| encode(&success, out)).await;
            }
            other => panic!("{other:?}"),
        }
    }

    /// A job for a block to come (without `min_ntime`), or for the present one. Extended jobs are for the group.
    async fn job(&mut self, job_id: u32, job: &Job, min_ntime: Option<u32>) {
        let version = job.version;
        match self.kind {
            Kind::Standard => {
                let merkle_root = root(job);
                let new = NewMiningJob { channel_id: CHANNEL, job_id, min_ntime, version, merkle_root };
                self.send(|out| encode(&new, out)).await;
            }
            Kind::Extended => {
                let new = NewExtendedMiningJob {
                    channel_id: GROUP,
                    job_id,
                    min_ntime,
                    version,
                    version_rolling_allowed: true,
                    merkle_path: Seq255::new(&job.branch).unwrap(),
                    coinbase_tx_prefix: B64K::cut(job.coinbase.prefix()),
                    coinbase_tx_suffix: B64K::cut(job.coinbase.suffix()),
                };
                self.send(|out| encode(&new, out)).await;
            }
        }
    }

    async fn block(&mut self, job_id: u32, job: &Job) {
        let &Job { prev_hash, time: min_ntime, bits: nbits, .. } = job;
        let channel_id = if self.kind == Kind::Standard { CHANNEL } else { GROUP };
        let new = SetNewPrevHash { channel_id, job_id, prev_hash, min_ntime, nbits };
        self.send(|out| encode(&new, out)).await;
    }

    async fn accept_up_to(&mut self, last_sequence_number: u32, count: u32) {
        let success = SubmitSharesSuccess {
            channel_id: CHANNEL,
            last_sequence_number,
            new_submits_accepted_count: count,
            new_shares_sum: 0,
        };
        self.send(|out| encode(&success, out)).await;
    }
}

fn frame(bytes: &[u8]) -> stratum::v2::Frame<'_> {
    let (header, payload) = bytes.split_first_chunk().unwrap();
    stratum::v2::Frame { header: Header::parse(header), payload }
}

fn mining(bytes: &[u8]) -> Mining<'_> {
    Mining::decode(frame(bytes)).unwrap().0
}

fn common(bytes: &[u8]) -> Common<'_> {
    assert_eq!(bytes[2], stratum::v2::common::SetupConnection::TYPE);
    Common::decode(frame(bytes)).unwrap().0
}

fn target(difficulty: f64) -> [u8; 32] {
    Difficulty::new(difficulty).unwrap().target().to_le_bytes()
}

/// What a pool gives a standard channel: the root with an extranonce of its own.
fn root(job: &Job) -> [u8; 32] {
    let submission = Submission {
        extranonce: Extranonce::new(&[&[1; 8]]).unwrap(),
        time: job.time,
        nonce: 0,
        version: job.version,
    };
    job.header(&submission)[36..68].try_into().unwrap()
}

/// Judges a share as a pool would, and returns the hash.
fn judge_v2(submit: &Submit, job: &Job, difficulty: f64) -> [u8; 32] {
    let parts: &[&[u8]] =
        if submit.extranonce.is_empty() { &[&[1; 8]] } else { &[&EXTRANONCE1, &submit.extranonce] };
    // Four bytes of the pool and eight of the miner, where V1's job here has four and four.
    let &Submit { time, nonce, version, .. } = submit;
    let submission = Submission { extranonce: Extranonce::new(parts).unwrap(), time, nonce, version };
    let target = Difficulty::new(difficulty).unwrap().target();
    let rules = Rules { target, version_mask: VERSION_MASK, now: job.time, stale: false };
    let verdict = share::check(job, &submission, &rules);
    assert_eq!(verdict.share, Ok(()), "{submit:?}");
    verdict.hash
}

fn job_of(kind: Kind, prev_hash: u8) -> Job {
    let size = if kind == Kind::Standard { 8 } else { 12 };
    Job { coinbase: Coinbase::new(vec![1, 2, 3], vec![4, 5], size), ..job(prev_hash) }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = listener.local_addr().unwrap().to_string();
    (listener, connect)
}

#[tokio::test]
async fn mines_on_an_extended_channel() {
    mines(Kind::Extended).await;
}

#[tokio::test]
async fn mines_on_a_standard_channel() {
    mines(Kind::Standard).await;
}

/// A target counts for the jobs that come after it, and for those that wait for their block.
async fn mines(kind: Kind) {
    let (listener, connect) = listen().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let (easy, hard) = (1e-6, 2e-6);
    let pool = async {
        let mut peer = Peer::accept(&listener, kind).await;
        peer.open(easy).await;
        let jobs = [1, 1, 2].map(|prev_hash| job_of(kind, prev_hash));
        let set = SetTarget { channel_id: GROUP, maximum_target: target(hard) };
        peer.job(1, &jobs[0], None).await;
        peer.block(1, &jobs[0]).await;
        let (mut hashes, mut versions, mut answered) = (HashSet::new(), HashSet::new(), 0);
        for (at, difficulty) in [(0, easy), (1, easy), (2, hard)] {
            match at {
                1 => {
                    // The future job is not worked on; the target does not touch the job that is.
                    peer.job(3, &jobs[2], None).await;
                    peer.job(2, &jobs[1], Some(jobs[1].time)).await;
                    peer.send(|out| encode(&set, out)).await;
                }
                2 => peer.block(3, &jobs[2]).await,
                _ => {}
            }
            let (mut count, mut meets_easy) = (0, 0);
            while count < 20 {
                let submit = peer.submit().await.unwrap();
                answered += 1;
                // Two at a time.
                if submit.sequence % 2 == 1 {
                    peer.accept_up_to(submit.sequence, 2).await;
                }
                if submit.job_id == at as u32 + 1 {
                    let hash = judge_v2(&submit, &jobs[at], difficulty);
                    meets_easy += u32::from(!Difficulty::new(hard).unwrap().target().is_met_by(&hash));
                    assert!(hashes.insert(hash), "twice: {submit:?}");
                    versions.insert(submit.version);
                    count += 1;
                }
            }
            assert_eq!(meets_easy > 0, at < 2, "job {at}");
        }
        assert!(versions.len() >= 3, "the version is rolled: {versions:?}");
        stop.send(()).unwrap();
        while let Some(submit) = peer.submit().await {
            answered += 1;
            peer.accept_up_to(submit.sequence, 1).await;
        }
        answered
    };
    let config = config_of(connect, kind);
    let (report, answered) = tokio::join!(mine(config, async { drop(stopped.await) }), pool);
    let report = report.unwrap();
    assert!(report.accepted == answered || report.accepted == answered - 1, "{report:?}, {answered}");
    assert_eq!((report.rejected, report.last_error), (0, None));
}

#[tokio::test]
async fn connects_again_and_tells_of_shares_that_do_not_count() {
    let (listener, connect) = listen().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let pool = async {
        let job = job_of(Kind::Extended, 1);
        let mut peer = Peer::accept(&listener, Kind::Extended).await;
        peer.open(1e-6).await;
        let reason_code = Str255::cut(b"payout-address-gone");
        peer.send(|out| encode(&CloseChannel { channel_id: GROUP, reason_code }, out)).await;
        let mut peer = Peer::accept(&listener, Kind::Extended).await;
        peer.open(1e-6).await;
        peer.job(1, &job, None).await;
        peer.block(1, &job).await;
        let [first, second] = [peer.submit().await.unwrap(), peer.submit().await.unwrap()];
        let refusal = SubmitSharesError {
            channel_id: CHANNEL,
            sequence_number: second.sequence,
            error_code: Str255::cut(b"stale-share"),
        };
        peer.send(|out| encode(&refusal, out)).await;
        sleep(Duration::from_millis(100)).await;
        peer.accept_up_to(first.sequence, 1).await;
        sleep(Duration::from_millis(100)).await;
        stop.send(()).unwrap();
        while peer.submit().await.is_some() {}
    };
    let config = config_of(connect, Kind::Extended);
    let (report, ()) = tokio::join!(mine(config, async { drop(stopped.await) }), pool);
    let report = report.unwrap();
    assert_eq!((report.accepted, report.rejected), (1, 1));
    assert_eq!(report.last_error.as_deref(), Some("share rejected: stale-share"));
}

/// What a miner says of a pool that does this.
async fn complaint(
    connect: String,
    kind: Kind,
    pool: impl Future<Output = Peer>,
) -> Result<Report, MinerError> {
    let (done, stopped) = oneshot::channel::<()>();
    let pool = async {
        let _peer = pool.await;
        sleep(Duration::from_millis(300)).await;
        drop(done);
    };
    tokio::join!(mine(config_of(connect, kind), async { drop(stopped.await) }), pool).0
}

#[tokio::test]
async fn tells_plainly_what_is_wrong() {
    let (kind, far) = (Kind::Extended, u32::MAX - 10);
    let (listener, connect) = listen().await;
    let report = complaint(connect, kind, Peer::accept_as(&listener, kind, &identity(far))).await.unwrap();
    let text = report.last_error.unwrap();
    assert!(text.contains("valid from 4294967285") && text.contains("the clock of this machine"), "{text}");

    let (listener, connect) = listen().await;
    let stranger = StaticKey::new(&[5; 64]).unwrap().certify(&authority(2), 0, u32::MAX, &[6; 32]);
    let error = complaint(connect, kind, Peer::accept_as(&listener, kind, &stranger)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("is not the pool of the key in the URL") && text.contains("not signed by"),
        "{text}"
    );

    let (listener, connect) = listen().await;
    let pool = async {
        let mut peer = Peer::accept(&listener, kind).await;
        peer.next().await.unwrap();
        let error_code = Str255::cut(b"unsupported-feature-flags");
        peer.send(|out| encode(&SetupConnectionError { flags: 4, error_code }, out)).await;
        peer
    };
    let report = complaint(connect, kind, pool).await.unwrap();
    let text = report.last_error.unwrap();
    assert_eq!(text, "it refuses the connection: unsupported-feature-flags");

    let (listener, connect) = listen().await;
    let pool = async {
        let mut peer = Peer::accept(&listener, kind).await;
        peer.next().await.unwrap();
        peer.send(|out| encode(&SetupConnectionSuccess { used_version: 2, flags: 0 }, out)).await;
        peer.next().await.unwrap();
        let error_code = Str255::cut(b"unknown-user");
        peer.send(|out| encode(&OpenMiningChannelError { request_id: 1, error_code }, out)).await;
        peer
    };
    let error = complaint(connect, kind, pool).await.unwrap_err().to_string();
    assert!(error.contains(r#"refuses "me.rig": unknown-user"#), "{error}");

    let (listener, connect) = listen().await;
    let pool = async {
        let mut peer = Peer::accept(&listener, Kind::Standard).await;
        peer.next().await.unwrap();
        peer.send(|out| encode(&SetupConnectionSuccess { used_version: 2, flags: 1 }, out)).await;
        peer
    };
    let report = complaint(connect, Kind::Standard, pool).await.unwrap();
    let text = report.last_error.unwrap();
    assert!(text.contains("mine on an extended channel"), "{text}");

    // Somebody who speaks V1, and does not like what it hears.
    let (listener, connect) = listen().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let pool = async {
        drop(listener.accept().await.unwrap());
        sleep(Duration::from_millis(100)).await;
        stop.send(()).unwrap();
    };
    let config = config_of(connect, kind);
    let (report, ()) = tokio::join!(mine(config, async { drop(stopped.await) }), pool);
    let text = report.unwrap().last_error.unwrap();
    assert!(text.contains("is this its Stratum V2 port?"), "{text}");
}
