//! Many clients in one process, of Stratum V1 or V2: load for a pool, and a stopwatch.
//!
//! The clients do not hash. Their submissions are well formed and never alike, but their hash is what it happens to be:
//! a pool whose difficulty is pinned below 2^-32 (where every hash meets the target) accepts them all after judging
//! each as any other; another pool refuses nearly all as low, which costs it about as much.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

mod histogram;
mod link;
mod pace;
mod score;
mod spread;
mod v1;
mod v2;

pub use histogram::Histogram;
pub use score::Answers;
pub use spread::Spread;

use link::{Ear, Link};
use pace::Sent;
use score::Score;

/// Every so manieth connection is a heavy one …
const HEAVY_EVERY: usize = 10;
/// … and together they hold this much of the hashrate.
const HEAVY: f64 = 0.9;
/// Connections that are being opened at once: less than the usual backlog of a listener.
const OPENING: usize = 64;
/// How long to wait for the last answers after a load: in V2 they may be gathered.
const FAREWELL: Duration = Duration::from_secs(5);
/// The most connections of a swarm, within the ports that a system has for one address.
pub const MAX_CONNECTIONS: usize = 19_000;

/// What a swarm speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Stratum V1.
    V1,
    /// Stratum V2, over an extended channel for each connection.
    V2,
}

/// Whom a swarm mines at, and as whom.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// What it speaks.
    pub protocol: Protocol,
    /// The pool, as host:port.
    pub connect: String,
    /// Payout address, or whatever the pool knows its users by; each connection is a worker of it: `user.w7`.
    pub user: String,
    /// Most pools take any. V2 has none.
    pub password: String,
}

/// Submissions at a set rate for a set time.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Submissions a second, of all connections together.
    pub rate: f64,
    /// For how long.
    pub duration: Duration,
    /// Whether a tenth of the connections send nine tenths of it.
    pub skewed: bool,
}

/// What became of a [`Load`].
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Submissions sent.
    pub sent: u64,
    /// Submissions left out: too many unanswered on their connection, or this machine too slow to send them.
    pub skipped: u64,
    /// Submissions that were not answered in time.
    pub unanswered: u64,
    /// The answers.
    pub answers: Answers,
}

/// Why there is no swarm.
#[derive(Debug, thiserror::Error)]
#[error("connection {number} to {connect}: {fault}")]
pub struct SwarmError {
    number: usize,
    connect: String,
    fault: Fault,
}

/// What can go wrong on a connection.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(
        "cannot connect ({0}): is the pool running, and are enough file descriptors allowed (ulimit -n)?"
    )]
    Connect(io::Error),
    #[error("broken ({0})")]
    Broken(io::Error),
    #[error("closed by the pool: is there a limit of connections, or a ban?")]
    Closed,
    #[error("the pool refuses: {0}")]
    Refused(String),
    #[error("a line longer than {} bytes: is this a Stratum V1 pool?", 1 << 16)]
    TooLong,
    #[error("mining.subscribe was not answered with an extranonce: is this a Stratum V1 pool?")]
    Subscription,
    #[error("not Stratum V2 as it should be: {0}")]
    Unread(stratum::v2::Fault),
    #[error("{0}: is this a Stratum V2 pool?")]
    Noise(stratum::noise::Error),
    #[error("{what} took longer than {seconds} s")]
    Silent { what: &'static str, seconds: u64 },
    #[error("too many connections: at most {MAX_CONNECTIONS}")]
    TooMany,
    #[error("its task has ended: {0}")]
    Task(String),
}

/// Clients of one pool. Dropped, they disconnect.
pub struct Swarm {
    config: SwarmConfig,
    links: Vec<Arc<Link>>,
    ears: JoinSet<()>,
    score: Arc<Score>,
}

impl Swarm {
    /// A swarm without connections as yet.
    pub fn new(config: SwarmConfig) -> Self {
        let score = Arc::new(Score::new(MAX_CONNECTIONS));
        Self { config, links: Vec::new(), ears: JoinSet::new(), score }
    }

    /// Opens connections until there are `connections`; each is known to the pool and has a job. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// If one cannot be opened. Those opened before remain.
    pub async fn grow(&mut self, connections: usize) -> Result<(), SwarmError> {
        let (mut opening, mut next) = (JoinSet::new(), self.links.len());
        let failed =
            |number: usize, fault| SwarmError { number, connect: self.config.connect.clone(), fault };
        if connections > MAX_CONNECTIONS {
            return Err(failed(connections, Fault::TooMany));
        }
        loop {
            while next < connections && opening.len() < OPENING {
                let (config, score, index) = (self.config.clone(), self.score.clone(), next);
                let user = format!("{}.w{index}", config.user);
                opening.spawn(async move {
                    let opened = Ear::open(index, &config, &user, score).await;
                    opened.map_err(|fault| (index + 1, fault))
                });
                next += 1;
            }
            match opening.join_next().await {
                None => break,
                Some(Ok(Ok((link, ear)))) => {
                    self.links.push(link);
                    self.ears.spawn(ear.hear());
                }
                Some(Ok(Err((number, fault)))) => return Err(failed(number, fault)),
                Some(Err(error)) => return Err(failed(next, Fault::Task(error.to_string()))),
            }
        }
        self.links.sort_by_key(|link| link.index());
        Ok(())
    }

    /// How many connections were opened.
    pub fn connections(&self) -> usize {
        self.links.len()
    }

    /// How many of them the pool has closed.
    pub fn lost(&self) -> usize {
        self.score.lost.load(Relaxed)
    }

    /// Submits, and waits for the answers, a few seconds at most.
    pub async fn load(&self, load: Load) -> Outcome {
        self.score.take();
        let links = self.links.clone();
        let stop = StopOnDrop::default();
        let stopped = stop.0.clone();
        // A thread of its own, since it sleeps for shorter times than the runtime's timer knows.
        let driven = tokio::task::spawn_blocking(move || pace::drive(&links, &load, &stopped)).await;
        let Sent { sent, skipped } = driven.unwrap_or_default();
        let end = Instant::now() + FAREWELL;
        while self.links.iter().any(|link| link.waiting() > 0) && Instant::now() < end {
            sleep(Duration::from_millis(5)).await;
        }
        let unanswered = self.links.iter().map(|link| link.forget()).sum::<usize>() as u64;
        Outcome { sent, skipped, unanswered, answers: self.score.take() }
    }

    /// From now on, looks out for a job that ends all earlier ones.
    pub fn expect_block(&self) {
        self.score.expect_block();
    }

    /// Waits until every connection has such a job, or for `patience`.
    pub async fn block(&self, patience: Duration) -> Spread {
        let end = Instant::now() + patience;
        while self.score.reached() < self.links.len() && Instant::now() < end {
            sleep(Duration::from_millis(5)).await;
        }
        self.score.spread(self.links.len())
    }
}

/// Ends the pacer when whoever waits for it is gone.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests;
