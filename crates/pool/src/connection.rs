//! One socket: reads lines into a session, carries out what it says.

use std::{rc::Rc, time::Duration};

use bytes::BytesMut;
use share::Reason;
use stratum::v1::Lines;
use template::Solved;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::{
    closed::Closed,
    gate::{Pass, Score},
    roster::Tally,
    session::{Outcome, v1::Session},
    shard::{Shard, now_ms},
};

/// How often a session is told that time has passed: what lowers the difficulty of who went silent.
const TICK: Duration = Duration::from_secs(5);
/// Points against a connection halve in this time, in milliseconds.
const HALF_LIFE_MS: f64 = 60_000.0;

/// Serves `stream` until either side has enough.
pub(crate) async fn serve(stream: TcpStream, pass: Pass, shard: Rc<Shard>) {
    shard.connections.set(shard.connections.get() + 1);
    let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
    let session = Session::new(shard.config.clone(), shard.space.clone(), shard.board.clone());
    let mut connection = Connection {
        budget: Budget::new(shard.config.limits.submits_per_second),
        shard,
        stream,
        pass,
        session,
        tallies: Vec::new(),
        out: Outcome::default(),
        score: Score::default(),
    };
    let why = connection.converse().await;
    tracing::debug!(%peer, %why, agent = %connection.session.agent(), "closed");
    connection.end(why, &peer);
}

struct Connection {
    shard: Rc<Shard>,
    stream: TcpStream,
    pass: Pass,
    session: Session,
    /// By the session's index of workers.
    tallies: Vec<Rc<Tally>>,
    out: Outcome,
    /// What it did wrong lately.
    score: Score,
    budget: Budget,
}

impl Connection {
    async fn converse(&mut self) -> Closed {
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
            let paused = self.budget.paused();
            let done = tokio::select! {
                read = self.stream.read_buf(&mut buffer), if paused.is_none() => match read {
                    Ok(0) => Err(Closed::Left),
                    Err(_) => Err(Closed::Broken),
                    Ok(_) => {
                        heard = Instant::now();
                        let done = self.read(&mut lines, &mut buffer).await;
                        if self.session.is_authorized() {
                            lines.set_limit(limits.line);
                        }
                        done
                    }
                },
                () = sleep_until(paused.unwrap_or(heard)), if paused.is_some() => Ok(()),
                changed = postings.changed() => match changed {
                    Err(_) => Err(Closed::Stopping),
                    Ok(()) => {
                        let posting = postings.borrow_and_update().clone();
                        let now = self.shard.now(posting.as_ref());
                        self.session.posted(now, &mut self.out);
                        self.carry_out().await
                    }
                },
                _ = tick.tick() => {
                    let is_late = !self.session.is_authorized() && opened.elapsed() > limits.authorize;
                    if is_late {
                        Err(Closed::NotAuthorized)
                    } else if heard.elapsed() > limits.idle {
                        Err(Closed::Idle)
                    } else {
                        let posting = self.shard.postings.borrow().clone();
                        let now = self.shard.now(posting.as_ref());
                        self.session.tick(now, &mut self.out);
                        self.carry_out().await
                    }
                }
                _ = stop.wait_for(|stop| *stop) => Err(Closed::Stopping),
            };
            if let Err(why) = done {
                return why;
            }
        }
    }

    /// Everything that was read: one commit and one write for all complete lines.
    async fn read(&mut self, lines: &mut Lines, buffer: &mut BytesMut) -> Result<(), Closed> {
        // TLS, HTTP, PROXY and the like: waiting for the end of their first line would be in vain (C-04).
        if buffer.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|&byte| byte != b'{') {
            return Err(Closed::NotStratum);
        }
        let posting = self.shard.postings.borrow().clone();
        loop {
            let line = match lines.next(buffer) {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(_) => {
                    self.out.close = Some(Closed::LineTooLong);
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
            return Err(Closed::NotStored);
        }
        if !self.out.reply.is_empty() {
            let write = self.stream.write_all(&self.out.reply);
            match timeout(self.shard.config.limits.write, write).await {
                Ok(written) => written.map_err(|_| Closed::Broken)?,
                Err(_) => return Err(Closed::NotReading),
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
        if !self.out.refused.is_empty() || !self.out.credits.is_empty() {
            self.budget.spend(self.out.refused.len() + self.out.credits.len());
            self.weigh();
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

    /// Bad submissions count against a connection, good ones make up for a tenth of one each. Late ones are nobody's
    /// fault (F-34, C-50).
    fn weigh(&mut self) {
        if !self.out.credits.is_empty() {
            self.pass.honest();
        }
        let points = |reason: &Reason| match reason {
            Reason::Malformed => 5.0,
            Reason::LowDifficulty | Reason::Duplicate | Reason::VersionMask | Reason::ExtranonceLength => 1.0,
            Reason::TimeTooOld | Reason::TimeTooNew | Reason::Unauthorized | Reason::NotSubscribed => 0.2,
            Reason::UnknownMethod | Reason::UnknownJob | Reason::Stale | Reason::NotStored => 0.0,
        };
        let bad: f64 = self.out.refused.iter().map(|(_, reason)| points(reason)).sum();
        let sum = self.score.add(bad - 0.1 * self.out.credits.len() as f64, HALF_LIFE_MS, now_ms());
        if sum > f64::from(self.shard.config.limits.points) {
            self.out.close.get_or_insert(Closed::BadSubmits);
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
        // The block's file first, then its record, then the nodes, and the reply last: killed anywhere in between, it is
        // sent at the next start.
        let mut kept = Vec::new();
        for solution in self.out.solved.drain(..) {
            let found = solution.found;
            if let Some(tally) = self.tallies.iter().find(|tally| tally.worker.id() == found.worker) {
                spool.worker(&tally.worker);
            }
            spool.found(&found);
            let solved = Solved { hash: found.hash, height: found.height, block: solution.block };
            kept.push(self.shard.submitter.keep(solved));
        }
        drop(spool);
        let stored = self.shard.commit();
        // Whether or not it could be noted: a block goes to the nodes.
        kept.into_iter().for_each(|kept| self.shard.submitter.send(kept));
        stored || self.out.credits.is_empty()
    }

    fn end(mut self, why: Closed, peer: &str) {
        for tally in &self.tallies {
            tally.connections.set(tally.connections.get().saturating_sub(1));
        }
        self.session.end(now_ms());
        self.shard.connections.set(self.shard.connections.get().saturating_sub(1));
        self.shard.closed.count(why);
        if why.is_offence() && self.pass.offend(now_ms()) {
            tracing::warn!(%peer, %why, "this address is banned for a while");
        }
    }
}

/// Submissions that a connection may still make: refilled by the second, at most a second's worth.
struct Budget {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Budget {
    fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self { per_second, left: per_second, at: Instant::now() }
    }

    fn spend(&mut self, submits: usize) {
        let refill = self.at.elapsed().as_secs_f64() * self.per_second;
        self.left = (self.left + refill).min(self.per_second) - submits as f64;
        self.at = Instant::now();
    }

    /// Until when to read no more, if more was spent than there was.
    fn paused(&self) -> Option<Instant> {
        let until =
            (self.left < 0.0).then(|| self.at + Duration::from_secs_f64(-self.left / self.per_second))?;
        (until > Instant::now()).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn f31_a_budget_slows_down_but_never_stops() {
        let mut budget = Budget::new(100);
        budget.spend(100);
        assert_eq!(budget.paused(), None, "a second's worth at once");
        budget.spend(50);
        let pause = budget.paused().unwrap() - Instant::now();
        assert_eq!(pause, Duration::from_millis(500));
        tokio::time::advance(pause).await;
        assert_eq!(budget.paused(), None);
        tokio::time::advance(Duration::from_secs(3600)).await;
        budget.spend(101);
        assert!(budget.paused().is_some(), "what was not used is not saved up");
    }
}
