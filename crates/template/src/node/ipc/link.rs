//! One connection to the mining interface: its calls, how they end, and the tip.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    rc::Rc,
    time::Duration,
};

use bitcoin::Network;
use bitcoin_capnp_types::{
    capnp::{self, ErrorKind, message::ReaderOptions},
    capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty::VatNetwork},
    init_capnp::init,
    proxy_capnp::{thread, thread_map},
};
use share::Hash;
use tokio::{
    io::{BufReader, BufWriter},
    net::UnixStream,
    sync::{Mutex, MutexGuard, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _},
    sync::{CancellationToken, DropGuard},
};

use super::{dialect::Mining, held::Held};
use crate::{NodeError, Tip, node::rpc::reply::beginning};

/// The node is asked for a change of its tip in slices as long as this, which is how a dead one is noticed.
const SLICE: Duration = Duration::from_secs(2);

/// A call that is this late will not come any more: the connection is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the end of a connection waits for what is under way in the node.
const FAREWELL: Duration = Duration::from_secs(3);

pub(super) struct Link {
    pub(super) mining: Mining,
    pub(super) network: Network,
    pub(super) lanes: Lanes,
    tip: watch::Sender<Tip>,
    pub(super) held: RefCell<Held>,
    /// Whether the node was seen to have the whole chain.
    pub(super) synced: Cell<bool>,
    /// No more slices.
    closing: Cell<bool>,
    lost: CancellationToken,
    _hang_up: DropGuard,
}

/// Threads in the node, by what they do, so that nothing waits behind what is slow.
pub(super) struct Lanes {
    pub question: Lane,
    pub template: Lane,
    pub empty: Lane,
    pub next: Lane,
    tip: Lane,
    pub submit: Lane,
}

/// A thread in the node. One call at a time: two at once have brought nodes of version 30 down.
pub(super) struct Lane {
    pub thread: thread::Client,
    pub turn: Mutex<()>,
}

impl Lane {
    async fn make(threads: &thread_map::Client, name: &str) -> capnp::Result<Lane> {
        let mut request = threads.make_thread_request();
        request.get().set_name(name);
        let thread = request.send().promise.await?.get()?.get_result()?;
        Ok(Lane { thread, turn: Mutex::new(()) })
    }
}

impl Lanes {
    async fn make(threads: &thread_map::Client) -> capnp::Result<Lanes> {
        Ok(Lanes {
            question: Lane::make(threads, "sluice question").await?,
            template: Lane::make(threads, "sluice template").await?,
            empty: Lane::make(threads, "sluice empty").await?,
            next: Lane::make(threads, "sluice next").await?,
            tip: Lane::make(threads, "sluice tip").await?,
            submit: Lane::make(threads, "sluice submit").await?,
        })
    }
}

impl Link {
    /// Connects, and waits until the node has loaded its chain, however long that takes. To be called on a `LocalSet`.
    pub async fn connect(path: &Path, network: Network) -> Result<Rc<Link>, NodeError> {
        let socket = |e: std::io::Error| NodeError::Socket { path: path.into(), why: e.to_string() };
        let (reader, writer) = UnixStream::connect(path).await.map_err(socket)?.into_split();
        let (reader, writer) = (BufReader::new(reader).compat(), BufWriter::new(writer).compat_write());
        let streams = VatNetwork::new(reader, writer, Side::Client, ReaderOptions::new());
        let mut system = RpcSystem::new(Box::new(streams), None);
        let init: init::Client = system.bootstrap(Side::Server);
        let lost = CancellationToken::new();
        // Whichever ends first ends the other, also by a panic.
        let (hang_up, ended, cancelled) =
            (lost.clone().drop_guard(), lost.clone().drop_guard(), lost.clone());
        tokio::task::spawn_local(async move {
            let _ended = ended;
            tokio::select! {
                _ = system => {}
                () = cancelled.cancelled() => {}
            }
        });
        let foreign = |e: capnp::Error| NodeError::NotMining { path: path.into(), why: words(&e) };
        let greet = async {
            let threads = init.construct_request().send().promise.await?.get()?.get_thread_map()?;
            let lanes = Lanes::make(&threads).await?;
            let mining = Mining::of(&init, &lanes.question.thread).await?;
            let test_chain = mining.is_test_chain(&lanes.question.thread).await?;
            // The first tip may take its time, so it has no limit of its own.
            let tip = mining.wait_tip(&lanes.tip.thread, &[0; 32], Duration::ZERO).await?;
            Ok::<_, capnp::Error>((lanes, mining, test_chain, tip))
        };
        let (lanes, mining, test_chain, best) = tokio::select! {
            biased;
            greeted = greet => greeted.map_err(foreign)?,
            () = lost.cancelled() => return Err(cut()),
        };
        let best = tip(best.ok_or_else(cut)?)?;
        check_chain(network, test_chain, &best)?;
        tracing::info!(socket = %path.display(), interface = mining.make(), "connected to the node's mining interface");
        let link = Rc::new(Link {
            mining,
            network,
            lanes,
            tip: watch::Sender::new(best),
            held: RefCell::default(),
            synced: Cell::new(test_chain),
            closing: Cell::new(false),
            lost,
            _hang_up: hang_up,
        });
        tokio::task::spawn_local(follow(link.clone()));
        Ok(link)
    }

    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Ends the connection when nothing is under way in the node any more: an end in the middle of a wait has brought
    /// nodes of version 30 down.
    pub async fn close(&self) {
        self.closing.set(true);
        let lanes = &self.lanes;
        let lanes = [&lanes.tip, &lanes.next, &lanes.submit, &lanes.template, &lanes.empty, &lanes.question];
        let idle = async {
            for lane in lanes {
                drop(lane.turn.lock().await);
            }
        };
        let _ = timeout(FAREWELL, idle).await;
        self.lost.cancel();
    }

    /// Awaits the node's answer. It is never given up for another reason than a lost connection, since the node works
    /// on and its thread is not free before; who asked may be gone by then.
    pub(super) async fn answer<T>(
        &self,
        method: &'static str,
        time: Duration,
        call: impl Future<Output = capnp::Result<T>>,
    ) -> Result<T, NodeError> {
        tokio::select! {
            biased;
            answer = call => answer.map_err(|e| failed(method, &e)),
            () = self.lost.cancelled() => Err(cut()),
            () = sleep(time + PATIENCE) => {
                tracing::warn!(method, "the node does not answer over its mining interface: connecting anew");
                self.lost.cancel();
                Err(NodeError::Timeout(time + PATIENCE))
            }
        }
    }

    /// Whether there is anything left to do for who asked, now that it is its turn.
    pub(super) async fn turn<'a>(
        &self,
        lane: &'a Lane,
        gone: &CancellationToken,
    ) -> Result<MutexGuard<'a, ()>, NodeError> {
        let turn = lane.turn.lock().await;
        if self.is_lost() || gone.is_cancelled() { Err(cut()) } else { Ok(turn) }
    }

    pub async fn tip(&self, gone: &CancellationToken) -> Result<Tip, NodeError> {
        const METHOD: &str = "getTip";
        let lane = &self.lanes.question;
        let _turn = self.turn(lane, gone).await?;
        let best = self.answer(METHOD, Duration::ZERO, self.mining.tip(&lane.thread)).await?;
        tip(best.ok_or(NodeError::Reply { method: METHOD, why: "no tip".to_owned() })?)
    }

    /// The best block when it is not `known`. May be dropped at any time.
    pub async fn tip_changed(self: &Rc<Self>, known: Hash) -> Result<Tip, NodeError> {
        let mut tips = self.tip.subscribe();
        let seen = *tips.borrow_and_update();
        if seen.hash != known {
            // Who asks may know more than we do: what they learned elsewhere may not be here yet.
            let link = self.clone();
            let asked = tokio::task::spawn_local(async move { link.tip(&CancellationToken::new()).await });
            let now = asked.await.unwrap_or_else(|_| Err(cut()))?;
            if now.hash != known {
                return Ok(now);
            }
        }
        loop {
            tokio::select! {
                biased;
                changed = tips.changed() => changed.map_err(|_| cut())?,
                () = self.lost.cancelled() => return Err(cut()),
            }
            let now = *tips.borrow_and_update();
            if now.hash != known {
                return Ok(now);
            }
        }
    }
}

/// Keeps the tip up to date until the connection is lost or closed.
async fn follow(link: Rc<Link>) {
    let lane = &link.lanes.tip;
    while !link.closing.get() && !link.is_lost() {
        let _turn = lane.turn.lock().await;
        let (known, asked) = (link.tip.borrow().hash, Instant::now());
        let wait = link.mining.wait_tip(&lane.thread, &known, SLICE);
        match link.answer("waitTipChanged", SLICE, wait).await.map(|best| best.map(tip)) {
            Ok(Some(Ok(best))) if best.hash != known => drop(link.tip.send_replace(best)),
            // The same before its time: the node is between two blocks. Not a reason to ask without a pause.
            Ok(Some(Ok(_))) if asked.elapsed() < SLICE / 2 => sleep(SLICE / 100).await,
            Ok(Some(Ok(_))) => {}
            // It shuts down, or makes no sense.
            Ok(_) | Err(_) => link.lost.cancel(),
        }
    }
}

fn tip((hash, height): (Hash, i32)) -> Result<Tip, NodeError> {
    let height = u32::try_from(height)
        .map_err(|_| NodeError::Reply { method: "getTip", why: format!("height {height}") })?;
    Ok(Tip { hash, height })
}

/// The interface tells a test chain from the main one, and at the start of a chain its first block says which it is.
fn check_chain(network: Network, test_chain: bool, best: &Tip) -> Result<(), NodeError> {
    let genesis = bitcoin::constants::genesis_block(network).block_hash();
    let found = if test_chain == (network == Network::Bitcoin) {
        if test_chain { "a test chain" } else { "main" }
    } else if best.height == 0 && best.hash != *AsRef::<[u8; 32]>::as_ref(&genesis) {
        "one with another first block"
    } else {
        return Ok(());
    };
    Err(NodeError::Chain { expected: network.to_core_arg().to_owned(), found: found.to_owned() })
}

pub(super) fn cut() -> NodeError {
    NodeError::Cut("the connection to the mining interface ended".to_owned())
}

/// What went wrong, fit for a log line.
fn words(error: &capnp::Error) -> String {
    let text = if error.extra.is_empty() { error.kind.to_string() } else { error.extra.clone() };
    beginning(text.as_bytes())
}

pub(super) fn failed(method: &'static str, error: &capnp::Error) -> NodeError {
    match error.kind {
        ErrorKind::Disconnected => NodeError::Cut(words(error)),
        ErrorKind::Failed | ErrorKind::Overloaded | ErrorKind::Unimplemented => {
            NodeError::Ipc { method, message: words(error) }
        }
        _ => NodeError::Reply { method, why: words(error) },
    }
}
