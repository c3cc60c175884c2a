//! A shard: one thread, its runtime, its spool writer, and the sessions that live on it.

use std::{
    cell::{Cell, RefCell},
    net::TcpStream as StdTcpStream,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ledger::{RejectRecord, SpoolWriter};
use share::Reason;
use template::Submitter;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::LocalSet,
};

use crate::{
    Config,
    board::{Board, Posting},
    connection,
    gate::Pass,
    roster::{Closings, Tallies, View},
    session::Now,
    space::Space,
};

/// How often refused submissions go to the spool, in ticks of a second.
const REJECTS_EVERY: u64 = 10;
/// How often a spool that refused is tried again, in ticks of a second.
const PROBE_EVERY: u64 = 5;

/// What all sessions of a shard share. Nothing in here is shared with another shard but what is locked and off the way
/// of a share.
pub(crate) struct Shard {
    pub config: Arc<Config>,
    pub space: Space,
    pub board: Arc<Board>,
    pub postings: watch::Receiver<Option<Arc<Posting>>>,
    pub submitter: Submitter,
    pub spool: RefCell<SpoolWriter>,
    /// False while the spool does not take what it is given.
    pub storing: Cell<bool>,
    pub tallies: RefCell<Tallies>,
    pub rejects: RefCell<[u64; Reason::ALL.len()]>,
    /// Open connections of this shard.
    pub connections: Cell<usize>,
    pub closed: Closings,
    pub view: Arc<Mutex<View>>,
    pub stop: watch::Receiver<bool>,
}

impl Shard {
    /// Serves the sockets that come until told to stop. Ends the thread's life.
    pub fn run(self, mut sockets: mpsc::Receiver<(StdTcpStream, Pass)>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "no runtime for this shard: its connections are closed");
                return;
            }
        };
        let (shard, local) = (Rc::new(self), LocalSet::new());
        let mut stop = shard.stop.clone();
        local.spawn_local(shard.clone().tick());
        let accept = async {
            loop {
                tokio::select! {
                    socket = sockets.recv() => match socket {
                        Some((socket, pass)) => shard.clone().take(socket, pass),
                        None => break,
                    },
                    _ = stop.wait_for(|stop| *stop) => break,
                }
            }
            // The connections end by the same signal; what they still say and store takes no time worth naming.
            let end = tokio::time::Instant::now() + Duration::from_secs(5);
            while shard.connections.get() > 0 && tokio::time::Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            shard.save_rejects();
        };
        local.block_on(&runtime, accept);
    }

    fn take(self: Rc<Self>, socket: StdTcpStream, pass: Pass) {
        match socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket)) {
            Ok(stream) => {
                tokio::task::spawn_local(connection::serve(stream, pass, self));
            }
            Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
        }
    }

    async fn tick(self: Rc<Self>) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        for count in 1.. {
            seconds.tick().await;
            if count % REJECTS_EVERY == 0 {
                self.save_rejects();
            }
            if count % PROBE_EVERY == 0 {
                self.storing.set(true);
            }
            let workers = self.tallies.borrow_mut().states(now_ms());
            *self.view.lock().unwrap_or_else(PoisonError::into_inner) = View {
                connections: self.connections.get(),
                workers,
                rejects: *self.rejects.borrow(),
                storing: self.storing.get(),
            };
        }
    }

    fn save_rejects(&self) {
        let mut spool = self.spool.borrow_mut();
        for (worker, count) in self.tallies.borrow().take_rejects() {
            spool.worker(&worker);
            spool.rejects(&RejectRecord { time_ms: now_ms(), worker: worker.id(), count });
        }
        drop(spool);
        self.commit();
    }

    /// Makes what was pushed to the spool durable. False: it was not, and must not be acknowledged; from then on shares
    /// are refused, but for a try every few seconds. The spool tells the operator.
    pub fn commit(&self) -> bool {
        let is_stored = self.spool.borrow_mut().commit().is_ok();
        self.storing.set(is_stored);
        is_stored
    }

    /// What sessions may know of the world.
    pub fn now<'a>(&self, posting: Option<&'a Arc<Posting>>) -> Now<'a> {
        Now { ms: now_ms(), posting, storing: self.storing.get() }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
