//! A CPU miner that speaks Stratum V1 and V2: for trying things, for the demo and for tests.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use stratum::noise::{self, AuthorityPublicKey};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use crate::miner::{
    rig::Rig,
    session::{Broken, Event, Session},
    work::Found,
};

mod rig;
mod session;
mod v1;
mod v2;
mod work;

pub use v2::Kind;

/// What the miner calls itself.
const AGENT: &str = concat!("sluice-miner/", env!("CARGO_PKG_VERSION"));

/// How long a pool may take to accept a connection, or to take what is sent.
const IO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a pool may take to answer the opening.
const OPENING: Duration = Duration::from_secs(15);

/// How long a pool may be silent: it is to send a job at least every minute.
const SILENCE: Duration = Duration::from_secs(150);

/// How long to wait for the answers to the last shares when it is time to stop: a pool may gather those that it accepts.
const FAREWELL: Duration = Duration::from_secs(5);

/// The waits between attempts to connect double from the first to the last of these.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How often the log says how it goes.
const REPORT: Duration = Duration::from_secs(30);

/// Shares on their way from the threads to the pool. When it is full, the threads wait.
const FOUND_QUEUE: usize = 64;

/// How to speak to the pool.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    /// Stratum V1.
    V1,
    /// Stratum V2, with the pool that this key belongs to.
    V2(AuthorityPublicKey, Kind),
}

/// What to mine with, and where.
#[derive(Clone, Debug)]
pub struct MinerConfig {
    /// How to speak to it.
    pub protocol: Protocol,
    /// The pool, as host:port.
    pub connect: String,
    /// As the pool wants it: mostly `address.worker`.
    pub user: String,
    /// Most pools take any. V2 has none.
    pub password: String,
    /// Hashes a second of all threads together; without, as many as can be.
    pub hashrate: Option<f64>,
    /// How many threads grind.
    pub threads: usize,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Shares that the pool accepted.
    pub accepted: u64,
    /// Shares that the pool rejected.
    pub rejected: u64,
    /// Hashes that were tried.
    pub hashes: u64,
    /// Hashes a second, on average since the first job.
    pub hashrate: f64,
    /// The last thing that went wrong: a connection lost, or a share rejected, with the reason.
    pub last_error: Option<String>,
}

/// Why there is no mining.
#[derive(Debug, thiserror::Error)]
pub enum MinerError {
    /// The address cannot be one.
    #[error("{0:?} is no address of a pool: give host:port, as in 127.0.0.1:3333")]
    Address(String),
    /// The limit cannot be kept.
    #[error("a hashrate of {0} H/s is not possible: give a number above zero, or none for as fast as can be")]
    Hashrate(f64),
    /// Nobody would work.
    #[error("no threads to mine with: give at least 1")]
    NoThreads,
    /// The system gives no more threads.
    #[error("cannot start the mining threads ({0}): try fewer")]
    Threads(io::Error),
    /// The pool knows us and does not want us.
    #[error(
        "the pool at {connect} refuses {user:?}: {words}. Most pools want the payout address, of the network that they \
         mine on, a dot, and a name for this miner"
    )]
    Refused {
        /// Which pool.
        connect: String,
        /// Whom.
        user: String,
        /// Why, as the pool says it.
        words: String,
    },
    /// Somebody else answers, or the key is that of another pool.
    #[error(
        "the server at {connect} is not the pool of the key in the URL: {error}. Compare it with what the pool says; if \
         the pool has not changed its key, somebody stands in between"
    )]
    Untrusted {
        /// Which server.
        connect: String,
        /// What is wrong with it.
        error: noise::Error,
    },
}

/// How a connection ended.
enum End {
    Stopped,
    /// For good, if it is so at the first attempt.
    Refused(MinerError),
    Lost(String),
}

/// Mines until `stop` completes. A pool that cannot be reached or goes away is tried again and again; only one that
/// refuses the user, or is another than its key says, at the first attempt ends it.
pub async fn mine(config: MinerConfig, stop: impl Future<Output = ()>) -> Result<Report, MinerError> {
    config.check()?;
    let (sender, found) = mpsc::channel(FOUND_QUEUE);
    let rig = Rig::start(config.threads, config.hashrate, sender).map_err(MinerError::Threads)?;
    let mut miner = Miner {
        config,
        rig,
        found,
        report: Report::default(),
        first_work: None,
        serial: 1,
        authorized: false,
        known: false,
    };
    tokio::pin!(stop);
    let mut wait = RETRY.0;
    loop {
        miner.authorized = false;
        let error = match miner.connection(stop.as_mut()).await {
            End::Stopped => break,
            End::Refused(error) if !miner.known => return Err(error),
            End::Refused(error) => error.to_string(),
            End::Lost(error) => error,
        };
        miner.rig.set(None);
        if miner.authorized {
            wait = RETRY.0;
        }
        tracing::warn!(
            pool = miner.config.connect,
            user = miner.config.user,
            error,
            retry_s = wait.as_secs(),
            "no connection to the pool"
        );
        miner.report.last_error = Some(error);
        tokio::select! {
            () = stop.as_mut() => break,
            () = sleep(wait) => {}
        }
        wait = (2 * wait).min(RETRY.1);
    }
    Ok(miner.finish())
}

impl MinerConfig {
    fn check(&self) -> Result<(), MinerError> {
        let port = self.connect.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
        if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
            return Err(MinerError::Address(self.connect.clone()));
        }
        if let Some(hashrate) = self.hashrate.filter(|hashrate| !hashrate.is_finite() || *hashrate <= 0.0) {
            return Err(MinerError::Hashrate(hashrate));
        }
        if self.threads == 0 { Err(MinerError::NoThreads) } else { Ok(()) }
    }
}

struct Miner {
    config: MinerConfig,
    rig: Rig,
    found: mpsc::Receiver<Found>,
    report: Report,
    first_work: Option<Instant>,
    /// Serial of the next job.
    serial: u64,
    /// Whether the pool took us in on this connection.
    authorized: bool,
    /// Whether it ever did.
    known: bool,
}

impl Miner {
    /// One connection, from its beginning to its end.
    async fn connection(&mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> End {
        let connect = timeout(IO_TIMEOUT, TcpStream::connect(&self.config.connect));
        let mut stream = tokio::select! {
            () = stop.as_mut() => return End::Stopped,
            stream = connect => match stream {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return End::Lost(format!("{error}; does it run, and is this its Stratum port?")),
                Err(_) => return End::Lost(format!("no answer within {} s", IO_TIMEOUT.as_secs())),
            },
        };
        let _ = stream.set_nodelay(true); // only slower without
        let (mut session, mut out) = match self.open() {
            Ok(opened) => opened,
            Err(error) => return End::Lost(error.to_string()),
        };
        let (mut buf, mut events) = (Vec::with_capacity(4096), Vec::new());
        let mut silent_until = Instant::now() + OPENING;
        let mut farewell = None;
        let (mut progress, mut ticks) = ((self.rig.hashes(), Instant::now()), interval(REPORT));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        loop {
            if !out.is_empty() {
                match timeout(IO_TIMEOUT, stream.write_all(&out)).await {
                    Ok(Ok(())) => out.clear(),
                    Ok(Err(error)) => return End::Lost(format!("the connection broke: {error}")),
                    Err(_) => return End::Lost("it does not take what is sent".into()),
                }
            }
            if farewell.is_some() && session.pending() == 0 {
                return End::Stopped;
            }
            tokio::select! {
                read = stream.read_buf(&mut buf) => {
                    match read {
                        Ok(0) => return End::Lost(format!("it closed the connection{}", session.hint())),
                        Ok(_) => {}
                        Err(error) => return End::Lost(format!("the connection broke: {error}")),
                    }
                    let arrived = session.arrived(&mut buf, &mut out, &mut events);
                    buf.clear();
                    for event in events.drain(..) {
                        if let Event::Refused(words) = event {
                            let MinerConfig { connect, user, .. } = self.config.clone();
                            return End::Refused(MinerError::Refused { connect, user, words });
                        }
                        self.on_event(event, farewell.is_some());
                    }
                    match arrived {
                        Ok(()) => {}
                        Err(Broken::Untrusted(error)) => {
                            return End::Refused(MinerError::Untrusted { connect: self.config.connect.clone(), error });
                        }
                        Err(broken) => return End::Lost(broken.to_string()),
                    }
                    if self.authorized {
                        silent_until = Instant::now() + SILENCE;
                    }
                }
                Some(found) = self.found.recv() => {
                    if let Err(broken) = session.submit(&found, &mut out) {
                        return End::Lost(broken.to_string());
                    }
                }
                _ = ticks.tick() => progress = self.log(progress),
                () = sleep_until(silent_until) => {
                    return End::Lost(format!("it has said nothing for too long{}", session.hint()));
                }
                () = stop.as_mut(), if farewell.is_none() => {
                    farewell = Some(Instant::now() + FAREWELL);
                    self.rig.set(None);
                }
                () = sleep_until(farewell.unwrap_or(silent_until)), if farewell.is_some() => return End::Stopped,
            }
        }
    }

    /// A session, and what opens it.
    fn open(&self) -> Result<(Box<dyn Session>, Vec<u8>), noise::Error> {
        Ok(match self.config.protocol {
            Protocol::V1 => {
                let (session, out) = v1::Stream::open(&self.config, self.serial);
                (Box::new(session), out)
            }
            Protocol::V2(key, kind) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let now = u32::try_from(now).unwrap_or(u32::MAX);
                let opened = v2::Stream::open(&self.config, (key, kind), self.serial, &rand::random(), now)?;
                (Box::new(opened.0), opened.1)
            }
        })
    }

    fn on_event(&mut self, event: Event, stopping: bool) {
        let (pool, user) = (&self.config.connect, &self.config.user);
        match event {
            Event::Authorized => {
                (self.authorized, self.known) = (true, true);
                tracing::info!(pool, user, "authorized");
            }
            Event::Work(work) => {
                tracing::debug!(user, job = work.job_id, difficulty = %work.target.difficulty(), "new job");
                self.serial = work.serial + 1;
                if !stopping {
                    self.first_work.get_or_insert_with(Instant::now);
                    self.rig.set(Some(*work));
                }
            }
            Event::Accepted { is_block } => {
                self.report.accepted += 1;
                if is_block {
                    tracing::info!(user, "this miner found a block");
                } else if self.report.accepted == 1 {
                    tracing::info!(user, "first share accepted");
                }
            }
            Event::Rejected(words) => {
                self.report.rejected += 1;
                tracing::warn!(user, reason = words, "share rejected");
                self.report.last_error = Some(format!("share rejected: {words}"));
            }
            Event::Show(text) => tracing::info!(pool, text, "the pool says"),
            Event::Refused(_) => {} // ended the connection
        }
    }

    /// Says how it went since `(hashes, since)`, and returns what to count from next time.
    fn log(&self, (hashes, since): (u64, Instant)) -> (u64, Instant) {
        let (now_hashes, now) = (self.rig.hashes(), Instant::now());
        let hashrate = (now_hashes - hashes) as f64 / (now - since).as_secs_f64().max(0.001);
        let Report { accepted, rejected, .. } = self.report;
        tracing::info!(user = self.config.user, hashrate = %Rate(hashrate), accepted, rejected, "mining");
        (now_hashes, now)
    }

    fn finish(mut self) -> Report {
        let seconds = self.first_work.map_or(0.0, |since| since.elapsed().as_secs_f64());
        self.report.hashes = self.rig.hashes();
        self.report.hashrate = if seconds > 0.0 { self.report.hashes as f64 / seconds } else { 0.0 };
        self.report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, rejected, hashes, hashrate, last_error } = self;
        write!(f, "{accepted} shares accepted, {rejected} rejected, {hashes} hashes, {}", Rate(*hashrate))?;
        last_error.iter().try_for_each(|error| write!(f, "; the last thing that went wrong: {error}"))
    }
}

/// Hashes a second, as people read them.
struct Rate(f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut units) = (self.0, ["", "k", "M", "G", "T", "P"].into_iter().peekable());
        let mut unit = "";
        while let Some(next) = units.next() {
            unit = next;
            if value < 1000.0 || units.peek().is_none() {
                break;
            }
            value /= 1000.0;
        }
        write!(f, "{value:.1} {unit}H/s")
    }
}

#[cfg(test)]
mod tests;
