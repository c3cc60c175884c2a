//! Puts the room together: board, shards, listeners.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use ledger::{Spool, SpoolError, Terms};
use socket2::{SockRef, TcpKeepalive};
use template::{Submitter, Template};
use tokio::sync::{mpsc, watch};

use crate::{
    Closed, Config, Roster, Snapshot,
    board::{Board, Posting},
    gate::{Gate, Pass},
    roster::{self, Closings, Tip, View},
    shard::{Shard, now_ms},
    space::Space,
};

/// Sockets that wait for a shard to take them over; while it is full, the acceptor waits and the backlog fills.
const HANDED_OVER: usize = 1024;

/// Why the pool cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A shard's spool cannot be written.
    #[error("the spool cannot be written: {0}")]
    Spool(#[from] SpoolError),
    /// The operating system refuses.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A running pool. Call [`Pool::stop`] to end it; dropped, it goes on until the process ends.
pub struct Pool {
    roster: Roster,
    stop: watch::Sender<bool>,
    shards: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Serves Stratum V1 on `listeners`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If a spool writer or a thread cannot be had. Nothing goes on running then.
    pub fn start(
        config: Config,
        terms: Terms,
        listeners: Vec<TcpListener>,
        templates: watch::Receiver<Option<Arc<Template>>>,
        submitter: Submitter,
        spool: &Spool,
    ) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let board = Board::new(terms, config.tag.clone());
        let (stop, stopped) = watch::channel(false);
        let (posting, postings) = watch::channel(None);
        let keep_ms = u64::try_from(config.limits.resume.as_millis()).unwrap_or(u64::MAX);
        let space = Space::new(config.instance, keep_ms);
        let (gate, closed) = (Gate::new(config.limits, config.trusted.clone()), Closings::default());

        let (mut handles, mut views, mut shards) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..config.shards.max(1) {
            let writer = spool.writer(u16::try_from(index).unwrap_or(u16::MAX))?;
            let (sockets, taken) = mpsc::channel(HANDED_OVER);
            let view = Arc::new(Mutex::new(View { storing: true, ..View::default() }));
            views.push(view.clone());
            handles.push(sockets);
            let (config, space, board) = (config.clone(), space.clone(), board.clone());
            let (postings, submitter, stop) = (postings.clone(), submitter.clone(), stopped.clone());
            let closed = closed.clone();
            let run = move || {
                let shard = Shard {
                    config,
                    space,
                    board,
                    postings,
                    submitter,
                    spool: RefCell::new(writer),
                    storing: Cell::new(true),
                    tallies: RefCell::default(),
                    rejects: RefCell::default(),
                    connections: Cell::new(0),
                    closed,
                    view,
                    stop,
                };
                shard.run(taken);
            };
            let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(run);
            shards.push(thread.map_err(|source| StartError::System { what: "starting a thread", source })?);
        }
        for listener in listeners {
            let system = |source| StartError::System { what: "listening", source };
            listener.set_nonblocking(true).map_err(system)?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(system)?;
            tokio::spawn(accept(listener, handles.clone(), gate.clone(), closed.clone(), stopped.clone()));
        }
        tokio::spawn(board.run(templates.clone(), config.repeat, posting));
        let (figures, roster) = Roster::channel();
        tokio::spawn(gather(views, closed, postings, figures, stopped));
        Ok(Self { roster, stop, shards })
    }

    /// Who is mining.
    pub fn roster(&self) -> Roster {
        self.roster.clone()
    }

    /// Closes every connection and waits until the last record is in the spool.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let join = move || {
            for shard in self.shards {
                if shard.join().is_err() {
                    tracing::error!("a shard had panicked");
                }
            }
        };
        if tokio::task::spawn_blocking(join).await.is_err() {
            tracing::error!("stopping the shards failed");
        }
    }
}

/// Hands each new connection to the next shard.
async fn accept(
    listener: tokio::net::TcpListener,
    shards: Vec<mpsc::Sender<(TcpStream, Pass)>>,
    gate: Gate,
    closed: Closings,
    mut stop: watch::Receiver<bool>,
) {
    for shard in shards.iter().cycle() {
        let admitted = loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let prepared = accepted.and_then(|(socket, peer)| Ok((prepare(socket)?, peer)));
            let (socket, peer) = match prepared {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: do not spin on it.
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            match gate.enter(peer.ip(), now_ms()) {
                Ok(pass) => break (socket, pass),
                Err(refusal) => {
                    tracing::debug!(%peer, why = %Closed::from(refusal), "not let in");
                    closed.count(refusal.into());
                }
            }
        };
        if shard.send(admitted).await.is_err() {
            return;
        }
    }
}

/// What the kernel may hold for a peer that does not read, in bytes: a few dozen jobs. By itself it would take megabytes.
const SEND_BUFFER: usize = 64 * 1024;

/// Answers go out at once, and who vanished without a word is noticed within two minutes (F-40).
fn prepare(socket: tokio::net::TcpStream) -> io::Result<TcpStream> {
    let socket = socket.into_std()?;
    let options = SockRef::from(&socket);
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(45)).with_interval(Duration::from_secs(15));
    options.set_tcp_nodelay(true)?;
    options.set_send_buffer_size(SEND_BUFFER)?;
    options.set_tcp_keepalive(&keepalive.with_retries(4))?;
    options.set_tcp_user_timeout(Some(Duration::from_secs(120)))?;
    Ok(socket)
}

/// Once a second, joins what the shards show.
async fn gather(
    views: Vec<Arc<Mutex<View>>>,
    closed: Closings,
    postings: watch::Receiver<Option<Arc<Posting>>>,
    figures: watch::Sender<Arc<Snapshot>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut since: Option<(Arc<Posting>, u64)> = None;
    loop {
        tokio::select! {
            _ = seconds.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let now = now_ms();
        if let Some(posting) = postings.borrow().as_ref() {
            let is_known = |known: &(Arc<Posting>, u64)| Arc::ptr_eq(&known.0.template, &posting.template);
            if !since.as_ref().is_some_and(is_known) {
                since = Some((posting.clone(), now));
            }
        }
        let tip = since.as_ref().map(|(posting, time_ms)| Tip::of(posting, *time_ms));
        figures.send_replace(Arc::new(roster::merge(&views, &closed, tip, now)));
    }
}
