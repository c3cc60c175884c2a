//! A node over its mining interface: Cap'n Proto on a Unix socket, `bitcoin-node -ipcbind=unix` of Bitcoin Core 30 or
//! later. Faster than RPC at every step: the node itself says when its tip changes, templates come without hex and
//! JSON, and a solution is the header and the coinbase alone.
//!
//! What it does not say: the earliest time of the next block (here it is the template's own time, which is never too
//! early), the consensus rules in force, where an older block stands, whether the node has any peers, and which test
//! chain it is on, unless its blocks need less work than the configured one's. The RPC says all of that.

use std::{path::PathBuf, time::Duration};

use bitcoin::Network;
use share::Hash;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{NodeError, Submitted, Template, Tip};

mod dialect;
mod held;
mod link;
mod session;
mod wire;

/// How long an answer may take.
const QUESTION: Duration = Duration::from_secs(5);

/// How long the node may take for a block.
const BLOCK: Duration = Duration::from_secs(30);

/// How long the node waits for a better template.
const WAIT: Duration = Duration::from_secs(60);

/// Questions that have not been looked at yet. Who comes when it is full waits, within the time for an answer.
const ASKED: usize = 16;

/// A node's mining interface. It connects when asked for something, and again when the socket is gone, hangs or speaks
/// nonsense; until then every question is answered with why not. Nothing piles up in a node that hangs: each kind of
/// question has one call under way at most.
pub struct Ipc {
    name: String,
    asks: mpsc::Sender<(Ask, CancellationToken)>,
}

type Reply<T> = oneshot::Sender<Result<T, NodeError>>;

enum Ask {
    Template { mempool: bool, reply: Reply<Template> },
    Next { threshold_sat: u64, reply: Reply<Template> },
    Tip { reply: Reply<Tip> },
    TipChanged { known: Hash, reply: Reply<Tip> },
    Submit { block: Vec<u8>, reply: oneshot::Sender<Option<Result<Submitted, NodeError>>> },
}

impl Ipc {
    /// `path` is the node's socket. Starts a thread, which ends with this value; nothing is sent before the first
    /// question.
    pub fn new(path: PathBuf, network: Network) -> Ipc {
        let name = path.display().to_string();
        let (asks, asked) = mpsc::channel(ASKED);
        let thread = std::thread::Builder::new().name("node-ipc".to_owned());
        if let Err(error) = thread.spawn(move || session::run(path, network, asked)) {
            tracing::error!(%error, "no thread for the mining interface of {name}");
        }
        Ipc { name, asks }
    }

    /// The socket's path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A template of now. The node keeps it, among the last few, to make a block of it ([`Ipc::submit`]).
    pub async fn template(&self) -> Result<Template, NodeError> {
        self.ask(QUESTION, |reply| Ask::Template { mempool: true, reply }).await
    }

    /// A template without the mempool's transactions, which the node has at once.
    pub async fn empty(&self) -> Result<Template, NodeError> {
        self.ask(QUESTION, |reply| Ask::Template { mempool: false, reply }).await
    }

    /// Waits for a template that beats the last one of [`Ipc::template`] or of this: on another tip, or with at least
    /// `threshold_sat` more in fees, which the node looks for once a second. On a connection that has given none as
    /// yet, there is nothing to wait for. A [`NodeError::Timeout`] of 60 s says only that there was none. One waits at
    /// a time, others queue; dropping this ends the wait in the node too.
    ///
    /// On chains whose difficulty falls to the least after 20 minutes, the node gives a new one each second from then
    /// on.
    pub async fn next(&self, threshold_sat: u64) -> Result<Template, NodeError> {
        self.ask(QUESTION + WAIT + QUESTION, |reply| Ask::Next { threshold_sat, reply }).await
    }

    /// Waits until the best block is another than `known` (internal order), for as long as it takes; ends with an error
    /// when the connection does, within half a minute where the node only hangs.
    pub async fn tip_changed(&self, known: &Hash) -> Result<Tip, NodeError> {
        let known = *known;
        self.send(|reply| Ask::TipChanged { known, reply }).await?
    }

    /// The best block that this node knows.
    pub async fn tip(&self) -> Result<Tip, NodeError> {
        self.ask(QUESTION, |reply| Ask::Tip { reply }).await
    }

    /// Hands over a whole block, serialised with witness. If it was made of one of the last templates, only its header
    /// and coinbase travel. `None`: this way cannot take it (there is no connection, or the template is unknown and the
    /// node is too old to take whole blocks): use the RPC.
    ///
    /// Nodes before version 32 do not say whether a block of a template was known before: that is `Accepted` too, if
    /// it is the best block, else unclear.
    pub async fn submit(&self, block: &[u8]) -> Option<Result<Submitted, NodeError>> {
        let answer = self.send(|reply| Ask::Submit { block: block.to_vec(), reply });
        match timeout(BLOCK, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Some(Err(error)),
            Err(_) => Some(Err(NodeError::Timeout(BLOCK))),
        }
    }

    async fn ask<T>(&self, time: Duration, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, NodeError> {
        timeout(time, self.send(ask)).await.unwrap_or(Ok(Err(NodeError::Timeout(time))))?
    }

    /// Asks, and awaits whatever comes back.
    async fn send<A>(&self, ask: impl FnOnce(oneshot::Sender<A>) -> Ask) -> Result<A, NodeError> {
        let ended = || NodeError::Cut("nobody is left to answer".to_owned());
        let (reply, answer) = oneshot::channel();
        let gone = CancellationToken::new();
        let _gone = gone.clone().drop_guard();
        self.asks.send((ask(reply), gone)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }
}
