//! A shard: one thread, its loop over its sockets, its spool writer, and the sessions that live on it.
//!
//! A turn of the loop reads what is ready, stores what came of it and sends what is due. What is to be done for many, new
//! work ([`fanout`]) and looking after connections ([`chores`]), comes after that, and not in every turn. Nothing waits,
//! nothing is woken for a connection but by its own socket.

use std::{
    collections::VecDeque,
    io, mem,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use mio::{
    Events, Interest, Poll, Token, Waker,
    event::Event,
    net::{TcpListener, TcpStream},
};
use slab::Slab;
use tokio::sync::watch;

use crate::{
    Closed, Config, Limited,
    board::{Board, Posting},
    clock::{Clock, Moment, millis},
    connection::{Connection, Heard},
    gate::Gate,
    roster::{Closings, View},
    session::{Now, Outcome, Session, v1, v2},
    space::Space,
    start::DEAL_OUT,
    sweep::Sweep,
    turn::Turn,
    wire::Door,
};
use fanout::Fanout;

mod chores;
mod fanout;
mod unfinished;

/// Sockets that are served in one turn.
const EVENTS: usize = 128;
/// Connections that are accepted in one turn.
const ACCEPTED: usize = 32;
/// Bytes that are read of a connection in one turn.
const READ: usize = 16 * 1024;
/// So much room is kept for what encryption makes of replies, in bytes.
const SEALED: usize = 256 * 1024;
/// Handshakes (of TLS and V2) in one turn: each may take most of a millisecond, and after a restart everybody comes at once (F-43).
const HANDSHAKES: usize = 8;
/// How often the loop has to turn though nothing happens. A shard waits without a time limit, since one would cost it a
/// timer per turn: whoever has its waker wakes it.
pub(crate) const IDLE: Duration = Duration::from_secs(1);
/// How long to accept nothing when it failed, most likely for want of file descriptors, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;
/// How often that is said, in milliseconds.
const COMPLAIN_EVERY_MS: u64 = 10_000;

const WAKE: Token = Token(usize::MAX);

/// What a shard shares with the others; none of it is on the way of a share.
#[derive(Clone)]
pub(crate) struct House {
    pub config: Arc<Config>,
    pub board: Arc<Board>,
    pub space: Space,
    pub gate: Gate,
    pub closed: Closings,
    pub postings: watch::Receiver<Option<Arc<Posting>>>,
    pub stop: Arc<AtomicBool>,
}

/// See the module.
pub(crate) struct Shard {
    house: House,
    poll: Poll,
    listeners: Vec<(TcpListener, Rc<Door>)>,
    connections: Slab<Connection>,
    /// As many places as there were ever connections at once.
    places: usize,
    turn: Turn,
    fanout: Fanout,
    look_after: Sweep,
    /// Connections to read again, and listeners to accept from again, though no event says so: there was more than a turn
    /// takes.
    again: Vec<Token>,
    /// Connections whose sessions have more to say than they said at once.
    unfinished: VecDeque<usize>,
    /// Connections that handed in too much, and listeners that failed: when to go on with them, in milliseconds of the
    /// shard's clock.
    paused: Vec<(u64, Token)>,
    /// When a failure to accept is next said.
    complain_ms: u64,
    /// Handshakes that this turn still has time for.
    handshakes: usize,
    scratch: Vec<u8>,
    /// For what encryption makes of replies.
    sealed: Vec<u8>,
    clock: Clock,
    now: Moment,
    /// When the chores are due, in milliseconds of the shard's clock; 0: it was woken for them.
    chores_ms: u64,
    is_stopping: bool,
    second: u64,
    /// When the list of workers is shown again, in seconds of the shard's clock.
    show_workers: u64,
    view: Arc<Mutex<View>>,
}

/// Where a shard waits: made before its thread, so that what fails, fails at the start.
pub(crate) struct Entrance {
    poll: Poll,
    listeners: Vec<(TcpListener, Door)>,
}

impl Entrance {
    /// To accept from `listeners`; and what wakes who waits there: each [`IDLE`], for a new posting, and to stop.
    pub fn new(listeners: Vec<(std::net::TcpListener, Door)>) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let mut listeners: Vec<_> =
            listeners.into_iter().map(|(listener, door)| (TcpListener::from_std(listener), door)).collect();
        for (index, (listener, _)) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, listener_token(index), Interest::READABLE)?;
        }
        Ok((Self { poll, listeners }, waker))
    }
}

impl Shard {
    /// A shard without connections.
    pub fn new(house: House, entrance: Entrance, turn: Turn, view: Arc<Mutex<View>>) -> Self {
        let mut clock = Clock::new();
        let now = clock.now();
        let round_ms = millis(house.config.repeat.mul_f64(DEAL_OUT));
        Self {
            house,
            poll: entrance.poll,
            listeners: entrance
                .listeners
                .into_iter()
                .map(|(listener, door)| (listener, Rc::new(door)))
                .collect(),
            connections: Slab::new(),
            places: 0,
            turn,
            fanout: Fanout::new(round_ms, now.ms),
            look_after: Sweep::new(chores::LOOK_AFTER_MS, now.ms),
            again: Vec::new(),
            unfinished: VecDeque::new(),
            paused: Vec::new(),
            complain_ms: 0,
            handshakes: HANDSHAKES,
            scratch: vec![0; READ],
            sealed: Vec::new(),
            clock,
            now,
            chores_ms: 0,
            is_stopping: false,
            second: 0,
            show_workers: 0,
            view,
        }
    }

    /// Serves until told to stop. Ends the thread's life.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_stopping {
            self.go_round(&mut events);
        }
        for index in 0..self.places {
            self.close(index, Closed::Stopping);
        }
        self.turn.save_rejects(self.now);
    }

    /// One turn of the loop.
    fn go_round(&mut self, events: &mut Events) {
        if let Err(error) = self.poll.poll(events, self.patience())
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "waiting for sockets failed");
            std::thread::sleep(IDLE);
        }
        self.now = self.clock.now();
        self.handshakes = HANDSHAKES;
        let mut again = mem::take(&mut self.again);
        events.iter().for_each(|event| self.serve(event));
        again.drain(..).for_each(|token| self.ready_again(token));
        again.append(&mut self.again);
        self.again = again;
        if !self.paused.is_empty() {
            self.resume();
        }
        self.settle();
        if self.now.ms >= self.chores_ms || self.fanout.is_under_way() {
            self.do_chores();
        }
        if !self.unfinished.is_empty() {
            self.go_on();
        }
    }

    /// How long to wait for something to happen, if not until it does.
    fn patience(&self) -> Option<Duration> {
        if !self.again.is_empty() || !self.unfinished.is_empty() || self.fanout.is_under_way() {
            return Some(Duration::ZERO);
        }
        let next = self.paused.iter().map(|(until_ms, _)| until_ms.saturating_sub(self.now.ms)).min();
        next.map(|ms| Duration::from_millis(ms.max(1)))
    }

    fn serve(&mut self, event: &Event) {
        let token = event.token();
        if token == WAKE {
            self.chores_ms = 0; // What it is for is among them.
            return;
        }
        if event.is_writable() {
            self.write_on(token.0);
        }
        if event.is_read_closed()
            && let Some(connection) = self.connections.get_mut(token.0)
        {
            connection.is_ending = true;
        }
        if event.is_readable() || event.is_error() {
            self.ready(token);
        }
    }

    /// Has this one served in the next turn too.
    fn again(&mut self, token: Token) {
        let is_in = match self.connections.get_mut(token.0) {
            Some(connection) => mem::replace(&mut connection.is_again, true),
            None => self.again.contains(&token),
        };
        if !is_in {
            self.again.push(token);
        }
    }

    fn ready_again(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(token.0) {
            connection.is_again = false;
        }
        self.ready(token);
    }

    fn ready(&mut self, token: Token) {
        match usize::MAX - 1 - token.0 {
            index if index < self.listeners.len() => self.accept(index),
            _ => self.read(token.0),
        }
    }

    #[inline(never)] // Here and below: what is seldom stays out of the way of shares, which find their code in no cache.
    fn accept(&mut self, index: usize) {
        if self.paused.iter().any(|(_, paused)| *paused == listener_token(index)) {
            return; // It failed, and is tried again when its pause is over.
        }
        for _ in 0..ACCEPTED {
            let Some((listener, door)) = self.listeners.get(index) else { return };
            match listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer, door.clone()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    if self.now.ms >= self.complain_ms {
                        self.complain_ms = self.now.ms + COMPLAIN_EVERY_MS;
                        tracing::warn!(%error, "accepting a connection failed; said at most once in ten seconds");
                    }
                    return self.paused.push((self.now.ms + ACCEPT_PAUSE_MS, listener_token(index)));
                }
            }
        }
        self.again(listener_token(index));
    }

    fn admit(&mut self, mut stream: TcpStream, peer: SocketAddr, door: Rc<Door>) {
        let pass = match self.house.gate.enter(peer.ip(), self.now.unix_ms) {
            Ok(pass) => pass,
            Err(refusal) => {
                tracing::debug!(%peer, why = %Closed::from(refusal), "not let in");
                return self.house.closed.count(refusal.into());
            }
        };
        let place = self.connections.vacant_entry();
        let index = place.key();
        if let Err(error) = self.poll.registry().register(&mut stream, Token(index), Interest::READABLE) {
            tracing::warn!(%error, "a connection could not be taken over");
            return;
        }
        let House { config, space, board, .. } = &self.house;
        let (its_config, its_space, its_board) = (config.clone(), space.clone(), board.clone());
        let session = match door.noise {
            Some(_) => {
                let allowance = self.house.gate.allowance(pass.address());
                Session::V2(v2::Session::new(its_config, its_space, its_board, allowance))
            }
            None => Session::V1(v1::Session::new(its_config, its_space, its_board)),
        };
        place.insert(Connection::new(stream, door, pass, session, &config.limits, self.now.ms));
        self.places = self.places.max(index + 1);
    }

    /// Lets the session of a connection say something: `have` is given the connection, and what the session may know.
    fn hear(&mut self, index: usize, have: impl FnOnce(&mut Connection, Now<'_>, &mut Outcome)) {
        self.hear_from(index, |connection, now, out, _, _| have(connection, now, out));
    }

    /// The same for one that is read: it also needs somewhere to read into, and the house that it comes into.
    fn hear_from(
        &mut self,
        index: usize,
        have: impl FnOnce(&mut Connection, Now<'_>, &mut Outcome, &mut [u8], &House),
    ) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let place = self.turn.place();
        let now = Now { ms: self.now.unix_ms, posting: self.fanout.posting(), storing: self.turn.is_storing };
        have(connection, now, &mut self.turn.out, &mut self.scratch, &self.house);
        self.turn.out.limited.drain(..).for_each(|what| self.house.closed.held_back(what));
        self.turn.note(index, connection, place, &self.house.config.limits, self.now);
        if connection.session.has_more() && !mem::replace(&mut connection.is_unfinished, true) {
            self.unfinished.push_back(index);
        }
    }

    fn read(&mut self, index: usize) {
        let (ms, mut heard) = (self.now.ms, Heard::All);
        match self.connections.get_mut(index) {
            // It is read when it has taken what waits for it.
            Some(connection) if connection.is_blocked() => return,
            Some(connection) => {
                if let Some(until_ms) = connection.paused_until().filter(|until_ms| *until_ms > ms) {
                    if !mem::replace(&mut connection.is_paused, true) {
                        self.house.closed.held_back(Limited::SubmitsPerSecond);
                        self.paused.push((until_ms, Token(index)));
                    }
                    return;
                }
                if connection.is_handshaking() {
                    let Some(left) = self.handshakes.checked_sub(1) else {
                        return self.again(Token(index));
                    };
                    self.handshakes = left;
                }
            }
            None => return,
        }
        self.hear_from(index, |connection, now, out, scratch, house| {
            heard = connection.read(scratch, &house.gate, &house.config.limits, (now, ms), out);
        });
        if heard == Heard::Some {
            self.again(Token(index));
        }
    }

    /// Goes on with those whose pause is over.
    #[inline(never)]
    fn resume(&mut self) {
        let ms = self.now.ms;
        let over: Vec<Token> =
            self.paused.extract_if(.., |(until_ms, _)| *until_ms <= ms).map(|(_, token)| token).collect();
        for token in over {
            if let Some(connection) = self.connections.get_mut(token.0) {
                connection.is_paused = false;
            }
            self.ready(token);
        }
    }

    /// Stores what this turn led to, and sends what is due.
    fn settle(&mut self) {
        let list = self.turn.settle();
        for due in &list {
            let Some(connection) = self.connections.get_mut(due.connection) else { continue };
            let bytes = self.turn.reply(due);
            let token = Token(due.connection);
            let written = match bytes.is_empty() && !connection.wants_write() {
                true => Ok(()),
                false => connection.write(bytes, &mut self.sealed, self.poll.registry(), token, self.now.ms),
            };
            if let Some(why) = due.close.or(written.err()) {
                self.close(due.connection, why);
            }
        }
        self.turn.end(list);
        self.sealed.shrink_to(SEALED);
    }

    #[inline(never)]
    fn write_on(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        match connection.write_on(self.poll.registry(), Token(index)) {
            Ok(false) => {}
            Ok(true) => {
                if mem::take(&mut connection.is_owed) {
                    self.hear(index, |connection, now, out| connection.session.posted(now, out));
                } else if connection.session.has_more() {
                    self.hear(index, |connection, now, out| connection.session.go_on(now, out));
                }
                self.again(Token(index));
            }
            Err(why) => self.close(index, why),
        }
    }

    fn close(&mut self, index: usize, why: Closed) {
        let Some(mut connection) = self.connections.try_remove(index) else { return };
        let address = connection.pass.address();
        tracing::debug!(%address, %why, agent = %connection.session.agent(), "closed");
        connection.tallies.iter().flatten().for_each(|tally| tally.go());
        connection.session.end(self.now.unix_ms);
        if connection.is_paused {
            self.paused.retain(|(_, paused)| *paused != Token(index));
        }
        self.house.closed.count(why);
        if why.is_offence() && connection.pass.offend(self.now.unix_ms) {
            self.house.closed.held_back(Limited::Ban);
            tracing::warn!(%address, %why, "this address is banned for a while");
        }
    }
}

/// Listeners count down from behind [`WAKE`], connections up from zero.
fn listener_token(index: usize) -> Token {
    Token(usize::MAX - 1 - index)
}

#[cfg(test)]
mod tests;
