//! One socket: reads lines into a session, carries out what it says.

use std::{rc::Rc, sync::atomic::Ordering, time::Duration};

use bytes::BytesMut;
use share::Reason;
use stratum::v1::Lines;
use template::Solved;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    roster::Tally,
    session::{Outcome, v1::Session},
    shard::{Shard, now_ms},
};

/// How often a session is told that time has passed: what lowers the difficulty of who went silent.
const TICK: Duration = Duration::from_secs(5);

/// Serves `stream` until either side has enough.
pub(crate) async fn serve(stream: TcpStream, shard: Rc<Shard>) {
    shard.connections.set(shard.connections.get() + 1);
    let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
    let session = Session::new(shard.config.clone(), shard.space.clone(), shard.board.clone());
    let mut connection = Connection { shard, stream, session, tallies: Vec::new(), out: Outcome::default() };
    let why = connection.run().await;
    tracing::debug!(%peer, why, agent = %connection.session.agent(), "closed");
    connection.end();
}

struct Connection {
    shard: Rc<Shard>,
    stream: TcpStream,
    session: Session,
    /// By the session's index of workers.
    tallies: Vec<Rc<Tally>>,
    out: Outcome,
}

/// Why a connection ends.
type Closed = &'static str;

impl Connection {
    async fn run(&mut self) -> Closed {
        match self.converse().await {
            Ok(()) => "the miner left",
            Err(why) => why,
        }
    }

    async fn converse(&mut self) -> Result<(), Closed> {
        let limits = self.shard.config.limits;
        let mut postings = self.shard.postings.clone();
        let mut stop = self.shard.stop.clone();
        let mut lines = Lines::new(limits.line_before_authorize);
        let mut buffer = BytesMut::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (opened, mut heard) = (Instant::now(), Instant::now());
        loop {
            buffer.reserve(512);
            tokio::select! {
                read = self.stream.read_buf(&mut buffer) => {
                    if read.map_err(|_| "the connection broke")? == 0 {
                        return Ok(());
                    }
                    heard = Instant::now();
                    self.read(&mut lines, &mut buffer).await?;
                    if self.session.is_authorized() {
                        lines.set_limit(limits.line);
                    }
                }
                changed = postings.changed() => {
                    changed.map_err(|_| "the pool is stopping")?;
                    let posting = postings.borrow_and_update().clone();
                    let now = self.shard.now(posting.as_ref());
                    self.session.posted(now, &mut self.out);
                    self.carry_out().await?;
                }
                _ = tick.tick() => {
                    if !self.session.is_authorized() && opened.elapsed() > limits.authorize {
                        return Err("no worker was authorized in time");
                    }
                    if heard.elapsed() > limits.idle {
                        return Err("silent for too long");
                    }
                    let posting = self.shard.postings.borrow().clone();
                    let now = self.shard.now(posting.as_ref());
                    self.session.tick(now, &mut self.out);
                    self.carry_out().await?;
                }
                _ = stop.wait_for(|stop| *stop) => return Err("the pool is stopping"),
            }
        }
    }

    /// Everything that was read: one commit and one write for all complete lines.
    async fn read(&mut self, lines: &mut Lines, buffer: &mut BytesMut) -> Result<(), Closed> {
        // TLS, HTTP, PROXY and the like: waiting for the end of their first line would be in vain (C-04).
        if buffer.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|&byte| byte != b'{') {
            return Err("this is not Stratum V1");
        }
        let posting = self.shard.postings.borrow().clone();
        loop {
            let line = match lines.next(buffer) {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(_) => {
                    self.out.close = Some("a line is too long");
                    break;
                }
            };
            let now = self.shard.now(posting.as_ref());
            self.session.line(&line, now, &mut self.out);
            if self.out.close.is_some() {
                break;
            }
        }
        self.carry_out().await
    }

    /// Blocks first, then the records, then the replies.
    async fn carry_out(&mut self) -> Result<(), Closed> {
        self.count();
        if !self.store() {
            return Err("shares could not be stored");
        }
        if !self.out.reply.is_empty() {
            let write = self.stream.write_all(&self.out.reply);
            match timeout(self.shard.config.limits.write, write).await {
                Ok(written) => written.map_err(|_| "the connection broke")?,
                Err(_) => return Err("the miner does not read"),
            }
        }
        let close = self.out.close;
        self.out.clear();
        close.map_or(Ok(()), Err)
    }

    fn count(&mut self) {
        for worker in &self.out.authorized {
            let tally = self.shard.tallies.borrow_mut().of(worker, now_ms());
            tally.connections.set(tally.connections.get() + 1);
            *tally.agent.borrow_mut() = self.session.agent().clone();
            self.tallies.push(tally);
        }
        for (worker, reason) in &self.out.refused {
            let index = Reason::ALL.iter().position(|one| one == reason).unwrap_or(0);
            self.shard.rejects.borrow_mut()[index] += 1;
            if let Some(tally) = worker.and_then(|index| self.tallies.get(index)) {
                tally.unsaved_rejects.set(tally.unsaved_rejects.get() + 1);
            }
        }
        for credit in &self.out.credits {
            if let Some(tally) = self.tallies.get(credit.worker) {
                tally.share(credit.record.work, credit.hash_difficulty, credit.record.time_ms);
            }
        }
        if let (Some(difficulty), false) = (self.session.difficulty(), self.tallies.is_empty()) {
            self.tallies.iter().for_each(|tally| tally.difficulty.set(difficulty.get()));
        }
    }

    /// To the spool, and blocks on to the nodes. False if a share is not stored.
    fn store(&mut self) -> bool {
        if self.out.credits.is_empty() && self.out.solved.is_empty() {
            return true;
        }
        let mut spool = self.shard.spool.borrow_mut();
        for credit in &self.out.credits {
            if let Some(tally) = self.tallies.get(credit.worker) {
                spool.worker(&tally.worker);
            }
            spool.share(&credit.record);
        }
        for solution in &self.out.solved {
            if let Some(tally) = self.tallies.iter().find(|tally| tally.worker.id() == solution.found.worker)
            {
                spool.worker(&tally.worker);
            }
            spool.found(&solution.found);
        }
        drop(spool);
        let stored = self.shard.commit();
        // Whether or not it could be noted: a block goes to the nodes.
        for solution in self.out.solved.drain(..) {
            let found = &solution.found;
            self.shard.submitter.submit(Solved {
                hash: found.hash,
                height: found.height,
                block: solution.block,
            });
        }
        stored || self.out.credits.is_empty()
    }

    fn end(self) {
        for tally in &self.tallies {
            tally.connections.set(tally.connections.get().saturating_sub(1));
        }
        self.session.end(now_ms());
        self.shard.connections.set(self.shard.connections.get().saturating_sub(1));
        self.shard.all_connections.fetch_sub(1, Ordering::Relaxed);
    }
}
