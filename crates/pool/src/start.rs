//! Puts the room together: board, shards, listeners.

use std::{
    io,
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use ledger::{Coinbases, Spool, SpoolError};
use mio::Waker;
use template::{Submitter, Template};
use tokio::{sync::watch, time::MissedTickBehavior};

use crate::{
    Config, Listener, Noise, Roster, Snapshot,
    board::{Board, Posting},
    clock::{millis, unix_ms},
    gate::Gate,
    roster::{Closings, Gathered, Tip, View},
    shard::{self, Entrance, House, Shard},
    space::Space,
    tls::Tls,
    turn::Turn,
    wire::Door,
};

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

/// Postings are made anew in this part of the longest silence that miners bear …
const REPOST: f64 = 0.5;
/// … and dealt out to everybody in this one: a little slower, so that there always is one that they do not have yet. One
/// who has just come may be passed over once, and so waits for both.
pub(crate) const DEAL_OUT: f64 = 0.6;

/// How often certificates are looked at.
const RENEW: Duration = Duration::from_secs(10);

/// A running pool. Call [`Pool::stop`] to end it; dropped, it goes on until the process ends.
pub struct Pool {
    roster: Roster,
    wakers: Wakers,
    shards: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Serves Stratum on `listeners`, V2 on those whose door encrypts it; they are for as many shards as `config` says. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// If a spool writer, a poll or a thread cannot be had. Nothing goes on running then.
    pub fn start(
        config: Config,
        coinbases: impl Into<Coinbases>,
        listeners: Vec<Listener>,
        templates: watch::Receiver<Option<Arc<Template>>>,
        submitter: Submitter,
        spool: &Spool,
    ) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let count = config.shards.max(1);
        let board = Board::new(coinbases, config.tag.clone());
        let (posting, postings) = watch::channel(None);
        let space = Space::new(config.instance, count, millis(config.limits.resume));
        let house = House {
            gate: Gate::new(config.limits, config.trusted.clone()),
            config: config.clone(),
            board: board.clone(),
            space: space.clone(),
            closed: Closings::default(),
            postings: postings.clone(),
            stop: Arc::default(),
        };
        let certificates: Vec<Tls> =
            listeners.iter().filter_map(|listener| listener.door().tls.clone()).collect();
        let noises: Vec<Noise> =
            listeners.iter().filter_map(|listener| listener.door().noise.clone()).collect();
        let mut sockets: Vec<Vec<(TcpListener, Door)>> = (0..count).map(|_| Vec::new()).collect();
        for (index, socket) in listeners.into_iter().flat_map(|listener| listener.into_sockets().enumerate())
        {
            if let Some(shard) = sockets.get_mut(index) {
                shard.push(socket);
            }
        }
        let (mut views, mut wakers, mut shards) = (Vec::new(), Vec::new(), Vec::new());
        for (index, sockets) in sockets.into_iter().enumerate() {
            let writer = spool.writer(u16::try_from(index).unwrap_or(u16::MAX))?;
            let view = Arc::new(Mutex::new(View { storing: true, ..View::default() }));
            let house = House { space: space.of_shard(index), ..house.clone() };
            let (entrance, waker) = Entrance::new(sockets)
                .map_err(|source| StartError::System { what: "waiting for sockets", source })?;
            views.push(view.clone());
            wakers.push(waker);
            let submitter = submitter.clone();
            shards.push(move || Shard::new(house, entrance, Turn::new(writer, submitter), view).run());
        }
        let wakers = Wakers { stop: house.stop, wakers: wakers.into() };
        let mut pool = Self { roster: Roster::channel().1, wakers: wakers.clone(), shards: Vec::new() };
        for (index, run) in shards.into_iter().enumerate() {
            match std::thread::Builder::new().name(format!("shard-{index}")).spawn(run) {
                Ok(thread) => pool.shards.push(thread),
                Err(source) => {
                    wakers.stop();
                    return Err(StartError::System { what: "starting a thread", source });
                }
            }
        }
        let confirmed = templates.clone();
        tokio::spawn(board.run(templates, config.repeat.mul_f64(REPOST), config.limits.no_work, posting));
        tokio::spawn(ring(postings.clone(), wakers.clone()));
        tokio::spawn(renew(certificates, noises, wakers.clone()));
        let (figures, roster) = Roster::channel();
        tokio::spawn(gather(views, house.closed, postings, confirmed, figures, wakers));
        Ok(Self { roster, ..pool })
    }

    /// Who is mining.
    pub fn roster(&self) -> Roster {
        self.roster.clone()
    }

    /// Closes every connection and waits until the last record is in the spool.
    pub async fn stop(self) {
        self.wakers.stop();
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

/// What makes shards look up.
#[derive(Clone)]
struct Wakers {
    stop: Arc<AtomicBool>,
    wakers: Arc<[Waker]>,
}

impl Wakers {
    fn wake(&self) {
        for waker in self.wakers.iter() {
            if let Err(error) = waker.wake() {
                tracing::warn!(%error, "a shard could not be woken: it looks up when a miner says something");
            }
        }
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Wakes the shards for each new posting, until they stop.
async fn ring(mut postings: watch::Receiver<Option<Arc<Posting>>>, wakers: Wakers) {
    while !wakers.is_stopped() && postings.changed().await.is_ok() {
        wakers.wake();
    }
}

/// Reads certificates of TLS again when they change: they are renewed by others, every few weeks (F-46). Signs those of V2
/// again before they end.
async fn renew(certificates: Vec<Tls>, noises: Vec<Noise>, wakers: Wakers) {
    let mut looks = tokio::time::interval(RENEW);
    while !wakers.is_stopped() {
        looks.tick().await;
        if noises.iter().filter(|noise| noise.renew()).count() > 0 {
            tracing::debug!("the certificate of V2 was signed again");
        }
        for tls in &certificates {
            match tls.reload() {
                Ok(true) => tracing::info!(?tls, "the certificate was read again"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the certificate has changed, but the old one stays"),
            }
        }
    }
}

/// Every so often, has the shards look up, and joins what they showed when they last did.
async fn gather(
    views: Vec<Arc<Mutex<View>>>,
    closed: Closings,
    postings: watch::Receiver<Option<Arc<Posting>>>,
    mut confirmed: watch::Receiver<Option<Arc<Template>>>,
    figures: watch::Sender<Arc<Snapshot>>,
    wakers: Wakers,
) {
    let mut ticks = tokio::time::interval(shard::IDLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut gathered = Gathered::default();
    let mut since: Option<(Arc<Posting>, u64)> = None;
    while !wakers.is_stopped() {
        ticks.tick().await;
        wakers.wake();
        let now = unix_ms();
        if let Some(posting) = postings.borrow().as_ref() {
            let is_known = |known: &(Arc<Posting>, u64)| Arc::ptr_eq(&known.0.template, &posting.template);
            // The same template again says that it is good still.
            let is_confirmed = confirmed.has_changed().unwrap_or(false);
            confirmed.mark_unchanged();
            if is_confirmed || !since.as_ref().is_some_and(is_known) {
                since = Some((posting.clone(), now));
            }
        }
        let tip = since.as_ref().map(|(posting, time_ms)| Tip::of(posting, *time_ms));
        figures.send_replace(Arc::new(gathered.snapshot(&views, &closed, tip, now)));
    }
}
