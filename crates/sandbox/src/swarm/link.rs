//! One connection of a swarm: opened, heard by a task of its own, submitted on by the pacer.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use serde_json::json;
use stratum::v1::Lines;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    Fault,
    line::{self, Job, Said},
    score::Score,
};

/// How long a pool may take for each step of the opening.
const STEP: Duration = Duration::from_secs(20);
/// The longest line that a pool may send, in bytes.
const MAX_LINE: usize = 1 << 16;
/// Submissions on their way on one connection; with more, further ones are skipped and counted.
const MAX_WAITING: usize = 256;
/// The id of every submission: replies come in the order of the requests, and a fixed id can have a fixed reply.
const SUBMIT_ID: u64 = 4;

/// A connection, shared by the task that hears it and the pacer that submits on it.
pub struct Link {
    index: usize,
    stream: TcpStream,
    /// As JSON.
    user: String,
    extranonce2: String,
    work: Mutex<Work>,
}

/// What is submitted, and what is waited for.
#[derive(Default)]
struct Work {
    /// A submission up to its nonce; empty without a job.
    submission: Vec<u8>,
    nonce: u32,
    /// When the submissions that are not answered yet were sent.
    waiting: VecDeque<Instant>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
}

/// The hearing end of a [`Link`].
pub struct Ear {
    link: Arc<Link>,
    lines: Lines,
    score: Arc<Score>,
}

impl Ear {
    /// Connects, subscribes, authorizes and waits for the first job.
    pub async fn open(
        index: usize,
        connect: &str,
        user: &str,
        password: &str,
        score: Arc<Score>,
    ) -> Result<(Arc<Link>, Self), Fault> {
        let stream = step("connecting", TcpStream::connect(connect)).await?.map_err(Fault::Connect)?;
        stream.set_nodelay(true).map_err(Fault::Connect)?;
        let user = json!(user).to_string();
        let link = Link { index, stream, user, extranonce2: String::new(), work: Mutex::default() };
        let mut opening = Opening { link, lines: Lines::new(MAX_LINE), said: VecDeque::new(), score };
        opening.say(1, "mining.subscribe", json!(["sluice-swarm/1.0"])).await?;
        let size = step("mining.subscribe", opening.size()).await??;
        opening.link.extranonce2 = "00".repeat(size);
        let authorize =
            json!([serde_json::from_str::<String>(&opening.link.user).unwrap_or_default(), password]);
        opening.say(2, "mining.authorize", authorize).await?;
        step("mining.authorize", opening.authorized()).await??;
        step("the first job", opening.job()).await??;
        let Opening { link, lines, said, score } = opening;
        said.iter().for_each(|line| link.heard(line, Instant::now(), &score));
        let link = Arc::new(link);
        Ok((link.clone(), Self { link, lines, score }))
    }

    /// Hears the pool until it closes the connection.
    pub async fn hear(mut self) {
        while self.read().await.is_ok() {}
        self.score.lost.fetch_add(1, Relaxed);
    }

    async fn read(&mut self) -> Result<(), Fault> {
        let (link, score) = (&self.link, &self.score);
        link.more(&mut self.lines, |line, at| link.heard(line, at, score)).await
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
        if work.submission.is_empty() || work.waiting.len() >= MAX_WAITING {
            return false;
        }
        let Work { submission, nonce, waiting, unsent } = &mut *work;
        unsent.extend_from_slice(submission);
        // Writing to a Vec cannot fail.
        let _ = writeln!(unsent, "{nonce:08x}\"]}}");
        *nonce = nonce.wrapping_add(1);
        waiting.push_back(Instant::now());
        if let Ok(written) = self.stream.try_write(unsent) {
            unsent.drain(..written);
        }
        true
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
            work.submission.clear();
        }
        work.waiting.clear();
        count
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for more bytes, and gives out the lines that they end, with the time when they came.
    async fn more(&self, lines: &mut Lines, mut hear: impl FnMut(&[u8], Instant)) -> Result<(), Fault> {
        loop {
            self.stream.readable().await.map_err(Fault::Broken)?;
            // Not there while waiting: there are thousands of these.
            let (at, mut bytes) = (Instant::now(), [0; 4096]);
            let length = match self.stream.try_read(&mut bytes) {
                Ok(0) => return Err(Fault::Closed),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(Fault::Broken(error)),
            };
            let mut arrived = bytes.get(..length).unwrap_or_default();
            while let Some(line) = lines.next(&mut arrived).map_err(|_| Fault::TooLong)? {
                hear(line, at);
            }
            return Ok(());
        }
    }

    fn heard(&self, line: &[u8], at: Instant, score: &Score) {
        match line::read(line) {
            Said::Reply(SUBMIT_ID, result) => {
                let sent = self.work().waiting.pop_front();
                score.answered(sent.map(|sent| at.saturating_duration_since(sent)), result.err());
            }
            Said::Job(job) => {
                if job.clean {
                    score.arrived(self.index, at);
                }
                self.take(job);
            }
            _ => {}
        }
    }

    fn take(&self, job: Job<'_>) {
        let (user, extranonce2) = (&self.user, &self.extranonce2);
        let mut work = self.work();
        work.submission.clear();
        let _ = write!(
            work.submission,
            r#"{{"id":{SUBMIT_ID},"method":"mining.submit","params":[{user},{},"{extranonce2}",{},""#,
            job.id, job.time
        );
    }
}

/// A connection that is not ready yet.
struct Opening {
    link: Link,
    lines: Lines,
    /// Lines that nobody has looked at yet.
    said: VecDeque<Vec<u8>>,
    score: Arc<Score>,
}

impl Opening {
    async fn say(&self, id: u64, method: &str, params: serde_json::Value) -> Result<(), Fault> {
        let line = format!("{}\n", json!({ "id": id, "method": method, "params": params }));
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            self.link.stream.writable().await.map_err(Fault::Broken)?;
            match self.link.stream.try_write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Fault::Broken(error)),
            }
        }
        Ok(())
    }

    /// The pool's next line.
    async fn line(&mut self) -> Result<Vec<u8>, Fault> {
        loop {
            if let Some(line) = self.said.pop_front() {
                return Ok(line);
            }
            let Self { link, lines, said, .. } = self;
            link.more(lines, |line, _| said.push_back(line.to_vec())).await?;
        }
    }

    async fn size(&mut self) -> Result<usize, Fault> {
        loop {
            let line = self.line().await?;
            match line::read(&line) {
                Said::Reply(1, Ok(result)) => {
                    return line::extranonce2_size(result).ok_or(Fault::Subscription);
                }
                Said::Reply(1, Err(reason)) => return Err(Fault::Refused(reason)),
                _ => self.link.heard(&line, Instant::now(), &self.score),
            }
        }
    }

    async fn authorized(&mut self) -> Result<(), Fault> {
        loop {
            let line = self.line().await?;
            match line::read(&line) {
                Said::Reply(2, Ok(_)) => return Ok(()),
                Said::Reply(2, Err(reason)) => return Err(Fault::Refused(reason)),
                _ => self.link.heard(&line, Instant::now(), &self.score),
            }
        }
    }

    async fn job(&mut self) -> Result<(), Fault> {
        while self.link.work().submission.is_empty() {
            let line = self.line().await?;
            self.link.heard(&line, Instant::now(), &self.score);
        }
        Ok(())
    }
}

async fn step<T>(what: &'static str, step: impl Future<Output = T>) -> Result<T, Fault> {
    timeout(STEP, step).await.map_err(|_| Fault::Silent { what, seconds: STEP.as_secs() })
}
