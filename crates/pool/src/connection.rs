//! One socket: bytes in, lines or frames to the session; bytes out, and what the peer has not read of them yet.

use std::{
    io::{self, Read as _, Write as _},
    mem,
    rc::Rc,
};

use mio::{Interest, Registry, Token, net::TcpStream};
use share::{Difficulty, Reason};
use smallvec::SmallVec;
use stratum::{noise, v1::Lines};

use crate::{
    Limits,
    clock::Moment,
    closed::Closed,
    fading::Fading,
    gate::{Gate, Pass},
    roster::Tally,
    session::{Now, Outcome, Session},
    wire::{Carried, Door, Wire},
};

/// Points against a connection halve in this time, in milliseconds.
const POINTS_HALF_LIFE_MS: f64 = 60_000.0;
/// And so does the work by which connections are compared.
const WORK_HALF_LIFE_MS: f64 = 600_000.0;
/// What else is asked for counts as such a part of a submission: a proxy that starts opens thousands of channels.
const ASKED: f64 = 0.25;

/// A miner's connection.
pub(crate) struct Connection {
    stream: TcpStream,
    wire: Wire,
    /// How it came in.
    door: Rc<Door>,
    pub pass: Pass,
    pub session: Session,
    /// By the session's index of workers; `None` where one has left. Nearly always one, which stands here itself.
    pub tallies: SmallVec<[Option<Rc<Tally>>; 1]>,
    lines: Lines,
    /// What it did wrong lately.
    points: Fading,
    work: Fading,
    budget: Budget,
    backlog: Option<Box<Backlog>>,
    opened_ms: u64,
    heard_ms: u64,
    /// The difficulty that its tallies show.
    shown: Option<Difficulty>,
    /// There is newer work than it was sent; it gets it when it has read what waits for it.
    pub is_owed: bool,
    /// It handed in too much, and is among those that are read again later.
    pub is_paused: bool,
    /// It is among those that are read again in the next turn: once, however many reads asked for it.
    pub is_again: bool,
    /// The peer will say no more than what it has said: no event will tell of the end, so it is read up to it (C-05).
    pub is_ending: bool,
    /// Its session has more to say, and it is among those that go on with that.
    pub is_unfinished: bool,
}

/// What the peer has not taken yet.
struct Backlog {
    bytes: Vec<u8>,
    taken: usize,
    since_ms: u64,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// All that there was.
    All,
    /// There may be more.
    Some,
}

impl Connection {
    /// `now_ms` here and below: of the clock that never goes back.
    pub fn new(
        stream: TcpStream,
        door: Rc<Door>,
        pass: Pass,
        session: Session,
        limits: &Limits,
        now_ms: u64,
    ) -> Self {
        Self {
            stream,
            wire: door.wire(pass.address()),
            door,
            pass,
            session,
            tallies: SmallVec::new(),
            lines: Lines::new(limits.line_before_authorize),
            points: Fading::default(),
            work: Fading::default(),
            budget: Budget::new(limits.submits_per_second, now_ms),
            backlog: None,
            opened_ms: now_ms,
            heard_ms: now_ms,
            shown: None,
            is_owed: false,
            is_paused: false,
            is_again: false,
            is_ending: false,
            is_unfinished: false,
        }
    }

    /// Reads once, into `scratch`, and has the session answer what lines or frames there are. An end of the connection is put into
    /// `out`.
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        gate: &Gate,
        limits: &Limits,
        (now, now_ms): (Now<'_>, u64),
        out: &mut Outcome,
    ) -> Heard {
        let read = loop {
            match self.stream.read(scratch) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let length = match read {
            Ok(0) => {
                out.close = Some(Closed::Left);
                return Heard::All;
            }
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::All,
            Err(_) => {
                out.close = Some(Closed::Broken);
                return Heard::All;
            }
        };
        let bytes = scratch.get_mut(..length).unwrap_or_default();
        let Self { wire, door, pass, session, .. } = self;
        // Whom a proxy speaks for is let in, counted and banned for himself.
        let mut came_from = |address| {
            *pass = gate.enter(address, now.ms)?;
            if let Session::V2(session) = session {
                session.comes_from(gate.allowance(address));
            }
            Ok(())
        };
        match wire.take(bytes, door, &mut came_from) {
            Ok(Carried::Nothing) => {}
            Ok(Carried::Plain(bytes)) => self.hear(bytes, limits, (now, now_ms), out),
            Ok(Carried::Secret(bytes)) => self.hear(&bytes, limits, (now, now_ms), out),
            Ok(Carried::Sealed(bytes)) => self.hear_frames(bytes, limits, (now, now_ms), out),
            Err(why) => out.close = Some(why),
        }
        if length == scratch.len() || self.is_ending { Heard::Some } else { Heard::All }
    }

    fn hear(
        &mut self,
        mut arrived: &[u8],
        limits: &Limits,
        (now, now_ms): (Now<'_>, u64),
        out: &mut Outcome,
    ) {
        // TLS, HTTP, PROXY and the like: waiting for the end of their first line would be in vain (C-04).
        let first = arrived.iter().find(|byte| !byte.is_ascii_whitespace());
        let Session::V1(session) = &mut self.session else { return };
        if self.lines.is_between() && first.is_some_and(|&byte| byte != b'{') {
            out.close = Some(Closed::NotStratum);
            return;
        }
        while out.close.is_none() {
            match self.lines.next(&mut arrived) {
                Ok(Some(line)) => {
                    // A part of a line is no sign of life: it could go on for ever, a byte at a time (F-42).
                    self.heard_ms = now_ms;
                    session.line(line, now, out);
                }
                Ok(None) => break,
                Err(_) => out.close = Some(Closed::LineTooLong),
            }
            if session.is_authorized() {
                self.lines.set_limit(limits.line);
            }
        }
    }

    #[inline(never)]
    fn hear_frames(
        &mut self,
        mut arrived: &mut [u8],
        limits: &Limits,
        (now, now_ms): (Now<'_>, u64),
        out: &mut Outcome,
    ) {
        let (Session::V2(session), Some(receiver)) = (&mut self.session, self.wire.receiver()) else {
            return;
        };
        while out.close.is_none() {
            let limit = if session.is_set_up() { limits.line } else { limits.line_before_authorize };
            match receiver.next(&mut arrived, limit) {
                Ok(Some(frame)) => {
                    self.heard_ms = now_ms;
                    session.frame(frame, now, out);
                }
                Ok(None) => break,
                Err(noise::Error::Oversized(_)) => out.close = Some(Closed::FrameTooLong),
                Err(_) => out.close = Some(Closed::Forged),
            }
        }
    }

    /// Whether the next read may take the time of a handshake.
    pub fn is_handshaking(&self) -> bool {
        let is_first = self.door.noise.is_some() && !self.wire.is_open();
        let is_secret = self.door.is_tls_only && !self.session.is_authorized();
        self.wire.is_handshaking() || is_first || is_secret
    }

    /// Whether there is something to write though nothing was said: encryption answers for itself.
    pub fn wants_write(&self) -> bool {
        self.wire.wants_write()
    }

    /// Writes `bytes`, or keeps what the peer does not take now. `room` is for what encryption makes of them.
    pub fn write(
        &mut self,
        bytes: &[u8],
        room: &mut Vec<u8>,
        registry: &Registry,
        token: Token,
        now_ms: u64,
    ) -> Result<(), Closed> {
        let bytes = self.wire.wrap(bytes, room)?;
        if let Some(backlog) = &mut self.backlog {
            backlog.bytes.extend_from_slice(bytes);
            return Ok(());
        }
        let taken = write(&mut self.stream, bytes)?;
        if let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let backlog = Backlog { bytes: rest.to_vec(), taken: 0, since_ms: now_ms };
            self.backlog = Some(Box::new(backlog));
            self.listen_for(Interest::READABLE | Interest::WRITABLE, registry, token)?;
        }
        Ok(())
    }

    /// The peer may take more. True: nothing waits any more.
    pub fn write_on(&mut self, registry: &Registry, token: Token) -> Result<bool, Closed> {
        let Some(backlog) = &mut self.backlog else { return Ok(true) };
        backlog.taken += write(&mut self.stream, backlog.bytes.get(backlog.taken..).unwrap_or_default())?;
        if backlog.taken < backlog.bytes.len() {
            return Ok(false);
        }
        self.backlog = None;
        self.listen_for(Interest::READABLE, registry, token)?;
        Ok(true)
    }

    fn listen_for(&mut self, interest: Interest, registry: &Registry, token: Token) -> Result<(), Closed> {
        registry.reregister(&mut self.stream, token, interest).map_err(|_| Closed::Broken)
    }

    /// Whether something waits to be read by the peer. Meanwhile nothing is read of it, so that no more is to be said.
    pub fn is_blocked(&self) -> bool {
        self.backlog.is_some()
    }

    /// How many bytes wait for the peer.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.bytes.len() - backlog.taken)
    }

    /// Why the connection has lasted too long as it is, if it has.
    pub fn overdue(&self, limits: &Limits, now_ms: u64) -> Option<Closed> {
        let is_over = |since_ms: u64, limit: std::time::Duration| {
            u128::from(now_ms - since_ms.min(now_ms)) > limit.as_millis()
        };
        if self.backlog.as_ref().is_some_and(|backlog| is_over(backlog.since_ms, limits.write)) {
            Some(Closed::NotReading)
        } else if self.door.noise.is_some()
            && !self.wire.is_open()
            && is_over(self.opened_ms, limits.handshake)
        {
            Some(Closed::NoHandshake)
        } else if !self.session.is_authorized()
            && (is_over(self.opened_ms, limits.authorize)
                || self.heard_ms == self.opened_ms && is_over(self.opened_ms, limits.handshake))
        {
            Some(Closed::NotAuthorized) // Who says nothing at all has not even that long (F-44).
        } else {
            is_over(self.heard_ms, limits.idle).then_some(Closed::Idle)
        }
    }

    /// Counts what was handed in, and what else was asked for, against the budget.
    pub fn spend(&mut self, submits: usize, asked: usize, now_ms: u64) {
        let spent = submits as f64 + ASKED * asked as f64;
        self.budget.spend(spent / self.session.breadth(), now_ms);
    }

    /// Until when to read no more, if more was handed in than is allowed.
    pub fn paused_until(&self) -> Option<u64> {
        self.budget.paused_until()
    }

    /// The figures of the worker of this index.
    pub fn tally(&self, index: usize) -> Option<&Rc<Tally>> {
        self.tallies.get(index)?.as_ref()
    }

    /// Has the figures of its workers show the difficulty in force.
    pub fn show_difficulty(&mut self) {
        let difficulty = self.session.difficulty();
        if difficulty != self.shown && !self.tallies.is_empty() {
            let value = difficulty.map_or(0.0, Difficulty::get);
            self.tallies.iter().flatten().for_each(|tally| tally.difficulty.set(value));
            self.shown = difficulty;
        }
    }

    /// Takes note of `work` that was accepted.
    pub fn earn(&mut self, work: f64, now_ms: u64) {
        self.work.add(work, WORK_HALF_LIFE_MS, now_ms);
    }

    /// How much work it did lately: to compare connections by.
    pub fn speed(&self, now_ms: u64) -> f64 {
        self.work.left(WORK_HALF_LIFE_MS, now_ms)
    }

    /// Bad submissions count against a connection, good ones make up for a tenth of one each. Late ones are nobody's
    /// fault (F-34, C-50). Returns the points.
    pub fn weigh(&mut self, refused: &[(Option<usize>, Reason)], credits: usize, now: Moment) -> f64 {
        let (may_repeat, now_ms) = (self.session.may_repeat(now.unix_ms), now.ms);
        let points = |reason: &Reason| match reason {
            Reason::Malformed => 5.0,
            Reason::Duplicate if may_repeat => 0.0,
            Reason::LowDifficulty | Reason::Duplicate | Reason::VersionMask | Reason::ExtranonceLength => 1.0,
            Reason::TimeTooOld | Reason::TimeTooNew | Reason::Unauthorized | Reason::NotSubscribed => 0.2,
            Reason::UnknownMethod | Reason::UnknownJob | Reason::Stale | Reason::NotStored => 0.0,
        };
        let bad: f64 = refused.iter().map(|(_, reason)| points(reason)).sum();
        if bad <= 0.0 && self.points.last() <= 0.0 {
            return 0.0;
        }
        // Good ones only ever make up for what was bad before.
        let made_up = (0.1 * credits as f64).min(self.points.left(POINTS_HALF_LIFE_MS, now_ms));
        self.points.add(bad - made_up, POINTS_HALF_LIFE_MS, now_ms)
    }
}

/// How much the peer takes now: possibly nothing.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, Closed> {
    loop {
        return match stream.write(bytes) {
            Ok(0) if !bytes.is_empty() => Err(Closed::Broken),
            Ok(taken) => Ok(taken),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(_) => Err(Closed::Broken),
        };
    }
}

/// Submissions, or what counts as such, that a connection may still make: refilled by the second, at most a second's worth.
#[derive(Clone, Copy, Debug)]
struct Budget {
    per_second: f64,
    left: f64,
    at_ms: u64,
}

impl Budget {
    fn new(per_second: u32, now_ms: u64) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self { per_second, left: per_second, at_ms: now_ms }
    }

    fn spend(&mut self, submits: f64, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(mem::replace(&mut self.at_ms, now_ms));
        let refill = elapsed_ms as f64 / 1000.0 * self.per_second;
        self.left = (self.left + refill).min(self.per_second) - submits;
    }

    fn paused_until(&self) -> Option<u64> {
        (self.left < 0.0).then(|| self.at_ms + (-self.left / self.per_second * 1000.0).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f31_a_budget_slows_down_but_never_stops() {
        let mut budget = Budget::new(100, 7_000);
        budget.spend(100.0, 7_000);
        assert_eq!(budget.paused_until(), None, "a second's worth at once");
        budget.spend(50.0, 7_000);
        assert_eq!(budget.paused_until(), Some(7_500));
        budget.spend(0.0, 7_500);
        assert_eq!(budget.paused_until(), None);
        budget.spend(101.0, 3_607_500);
        assert!(budget.paused_until().is_some(), "what was not used is not saved up");
    }
}
