//! One connection of a swarm: opened, heard by a task of its own, submitted on by the pacer.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use stratum::{noise::Receiver, v1::Lines};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{Fault, Protocol, SwarmConfig, score::Score, v1, v2};

/// How long a pool may take for each step of the opening.
const STEP: Duration = Duration::from_secs(20);
/// Submissions on their way on one connection; with more, further ones are skipped and counted.
const MAX_WAITING: usize = 256;

/// A connection, shared by the task that hears it and the pacer that submits on it.
pub struct Link {
    index: usize,
    stream: TcpStream,
    work: Mutex<Work>,
}

/// What is submitted, and what is waited for.
struct Work {
    voice: Voice,
    /// When the submissions that are not answered yet were sent.
    waiting: VecDeque<Instant>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
}

/// What submits, in the words of a protocol.
pub enum Voice {
    V1(v1::Voice),
    V2(Box<v2::Voice>),
}

/// What finds the words in the bytes that arrive.
pub enum Hearing {
    V1(Lines),
    V2(Receiver),
}

/// What a pool said.
pub enum Said {
    /// So many submissions are accepted.
    Accepted(u32),
    /// One is not, for this reason.
    Refused(String),
    /// There is a new job.
    Job {
        /// Whether it ends all earlier ones.
        is_clean: bool,
    },
}

/// The hearing end of a [`Link`].
pub struct Ear {
    link: Arc<Link>,
    hearing: Hearing,
    score: Arc<Score>,
}

impl Ear {
    /// Connects, says who we are and waits for the first job.
    pub async fn open(
        index: usize,
        config: &SwarmConfig,
        user: &str,
        score: Arc<Score>,
    ) -> Result<(Arc<Link>, Self), Fault> {
        let stream =
            step("connecting", TcpStream::connect(&config.connect)).await?.map_err(Fault::Connect)?;
        stream.set_nodelay(true).map_err(Fault::Connect)?;
        let (voice, hearing) = match config.protocol {
            Protocol::V1 => {
                let (voice, lines) = v1::open(&stream, user, &config.password).await?;
                (Voice::V1(voice), Hearing::V1(lines))
            }
            Protocol::V2 => {
                let (voice, receiver) = v2::open(&stream, user).await?;
                (Voice::V2(Box::new(voice)), Hearing::V2(receiver))
            }
        };
        let work = Mutex::new(Work { voice, waiting: VecDeque::new(), unsent: Vec::new() });
        let link = Arc::new(Link { index, stream, work });
        Ok((link.clone(), Self { link, hearing, score }))
    }

    /// Hears the pool until it closes the connection.
    pub async fn hear(mut self) {
        while self.read().await.is_ok() {}
        self.score.lost.fetch_add(1, Relaxed);
    }

    async fn read(&mut self) -> Result<(), Fault> {
        let Self { link, hearing, score } = self;
        arrived(&link.stream, |bytes, at| link.heard(hearing, bytes, at, score)).await
    }
}

impl Link {
    /// Which connection this is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Sends one submission that was not sent before. False: there is no job, or too much waits already.
    pub fn submit(&self) -> bool {
        let mut work = self.work();
        let Work { voice, waiting, unsent } = &mut *work;
        let is_sent = waiting.len() < MAX_WAITING
            && match voice {
                Voice::V1(voice) => voice.submit(unsent),
                Voice::V2(voice) => voice.submit(unsent),
            };
        if is_sent {
            waiting.push_back(Instant::now());
        }
        if let Ok(written) = self.stream.try_write(unsent) {
            unsent.drain(..written);
        }
        is_sent
    }

    /// Submissions that are not answered yet.
    pub fn waiting(&self) -> usize {
        self.work().waiting.len()
    }

    /// What of the answers that were waited for will not come any more.
    pub fn forget(&self) -> usize {
        let mut work = self.work();
        let count = work.waiting.len();
        // Their answers would be taken for those of later ones, so no later ones are sent.
        if count > 0 {
            match &mut work.voice {
                Voice::V1(voice) => voice.hush(),
                Voice::V2(voice) => voice.hush(),
            }
        }
        work.waiting.clear();
        count
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(
        &self,
        hearing: &mut Hearing,
        bytes: &mut [u8],
        at: Instant,
        score: &Score,
    ) -> Result<(), Fault> {
        let mut work = self.work();
        let Work { voice, waiting, .. } = &mut *work;
        let since = |sent: Instant| at.saturating_duration_since(sent);
        let mut said = |said| match said {
            Said::Accepted(count) => {
                let count = waiting.len().min(count as usize);
                waiting.drain(..count).for_each(|sent| score.answered(Some(since(sent)), None));
            }
            Said::Refused(reason) => score.answered(waiting.pop_front().map(since), Some(reason)),
            Said::Job { is_clean: true } => score.arrived(self.index, at),
            Said::Job { is_clean: false } => {}
        };
        match (hearing, voice) {
            (Hearing::V1(lines), Voice::V1(voice)) => voice.hear(lines, bytes, &mut said),
            (Hearing::V2(receiver), Voice::V2(voice)) => voice.hear(receiver, bytes, &mut said),
            _ => Ok(()), // never: both are of one opening
        }
    }
}

/// Waits for more bytes, and gives them out with the time when they came.
pub async fn arrived<T>(
    stream: &TcpStream,
    take: impl FnOnce(&mut [u8], Instant) -> Result<T, Fault>,
) -> Result<T, Fault> {
    loop {
        stream.readable().await.map_err(Fault::Broken)?;
        // Not there while waiting: there are thousands of these.
        let (at, mut bytes) = (Instant::now(), [0; 4096]);
        match stream.try_read(&mut bytes) {
            Ok(0) => return Err(Fault::Closed),
            Ok(length) => return take(bytes.get_mut(..length).unwrap_or_default(), at),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Fault::Broken(error)),
        }
    }
}

/// Sends all of `bytes`.
pub async fn send(stream: &TcpStream, mut bytes: &[u8]) -> Result<(), Fault> {
    while !bytes.is_empty() {
        stream.writable().await.map_err(Fault::Broken)?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Fault::Broken(error)),
        }
    }
    Ok(())
}

/// A step of the opening, which may not take too long.
pub async fn step<T>(what: &'static str, step: impl Future<Output = T>) -> Result<T, Fault> {
    timeout(STEP, step).await.map_err(|_| Fault::Silent { what, seconds: STEP.as_secs() })
}
