//! The thread that speaks to the node: connects when somebody asks, and hands each question to the connection.

use std::{cell::RefCell, path::PathBuf, rc::Rc, time::Duration};

use bitcoin::Network;
use tokio::{
    sync::{mpsc, watch},
    task::{LocalSet, spawn_local},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Ask, QUESTION, WAIT, link::Link};
use crate::NodeError;

/// An attempt to connect ends after this. Long, since a node that starts answers when it has loaded its chain.
const ATTEMPT: Duration = Duration::from_secs(30);

/// The first pause after an attempt that failed; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where the connection stands.
enum State {
    Idle,
    Connecting,
    Up(Rc<Link>),
    /// Why there is none, and until when nobody need try.
    Down(NodeError, Instant),
}

struct Session {
    path: PathBuf,
    network: Network,
    state: watch::Sender<State>,
    pause: RefCell<Duration>,
}

/// Answers `asks` until nobody is left to ask. Blocks.
pub(super) fn run(path: PathBuf, network: Network, mut asks: mpsc::Receiver<(Ask, CancellationToken)>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "no runtime for the mining interface"),
    };
    let session = Rc::new(Session {
        path,
        network,
        state: watch::Sender::new(State::Idle),
        pause: RefCell::new(FIRST_PAUSE),
    });
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        while let Some((ask, gone)) = asks.recv().await {
            spawn_local(session.clone().serve(ask, gone));
        }
        if let Some(link) = session.up() {
            link.close().await;
        }
    });
}

impl Session {
    /// The connection, if there is one.
    fn up(&self) -> Option<Rc<Link>> {
        match &*self.state.borrow() {
            State::Up(link) if !link.is_lost() => Some(link.clone()),
            _ => None,
        }
    }

    /// The connection; one is made if need be, within the time for a question.
    async fn link(self: &Rc<Self>) -> Result<Rc<Link>, NodeError> {
        timeout(QUESTION, self.connected()).await.unwrap_or(Err(NodeError::Timeout(QUESTION)))
    }

    async fn connected(self: &Rc<Self>) -> Result<Rc<Link>, NodeError> {
        let mut states = self.state.subscribe();
        loop {
            let idle = match &*states.borrow_and_update() {
                State::Up(link) if !link.is_lost() => return Ok(link.clone()),
                State::Down(error, until) if Instant::now() < *until => return Err(again(error)),
                State::Connecting => false,
                State::Idle | State::Up(_) | State::Down(..) => true,
            };
            if idle {
                self.state.send_replace(State::Connecting);
                spawn_local(self.clone().connect());
            }
            // The sender is in `self`.
            let _ = states.changed().await;
        }
    }

    async fn connect(self: Rc<Self>) {
        let attempt = spawn_local({
            let session = self.clone();
            async move { timeout(ATTEMPT, Link::connect(&session.path, session.network)).await }
        });
        let linked = match attempt.await {
            Ok(Ok(linked)) => linked,
            Ok(Err(_)) => Err(NodeError::Timeout(ATTEMPT)),
            // What the node sent was more than the decoder could bear.
            Err(panic) => Err(NodeError::NotMining { path: self.path.clone(), why: panic.to_string() }),
        };
        self.state.send_replace(match linked {
            Ok(link) => {
                self.pause.replace(FIRST_PAUSE);
                State::Up(link)
            }
            Err(error) => {
                let pause = *self.pause.borrow();
                self.pause.replace((2 * pause).min(LONGEST_PAUSE));
                State::Down(error, Instant::now() + pause)
            }
        });
    }

    /// `gone` says that nobody waits for the answer any more. A call that the node works on goes on all the same.
    async fn serve(self: Rc<Self>, ask: Ask, gone: CancellationToken) {
        match ask {
            Ask::Template { mempool, reply } => {
                let answer = async { self.link().await?.template(mempool, &gone).await };
                let _ = reply.send(answer.await);
            }
            Ask::Next { threshold_sat, reply } => {
                let answer = async { self.link().await?.next(threshold_sat, WAIT, &gone).await };
                let _ = reply.send(answer.await);
            }
            Ask::Tip { reply } => {
                let answer = async { self.link().await?.tip(&gone).await };
                let _ = reply.send(answer.await);
            }
            Ask::TipChanged { known, reply } => {
                let answer = async { self.link().await?.tip_changed(known).await };
                let answer = gone.run_until_cancelled(answer).await;
                let _ = answer.map(|answer| reply.send(answer));
            }
            Ask::Submit { block, reply } => {
                let answer = match self.up() {
                    Some(link) => link.submit(&block).await,
                    None => None,
                };
                let _ = reply.send(answer);
            }
        }
    }
}

/// The same once more, for who asks while nobody tries.
fn again(error: &NodeError) -> NodeError {
    match error {
        NodeError::Socket { path, why } => NodeError::Socket { path: path.clone(), why: why.clone() },
        NodeError::NotMining { path, why } => NodeError::NotMining { path: path.clone(), why: why.clone() },
        NodeError::Timeout(time) => NodeError::Timeout(*time),
        NodeError::Chain { expected, found } => {
            NodeError::Chain { expected: expected.clone(), found: found.clone() }
        }
        NodeError::Cut(why) => NodeError::Cut(why.clone()),
        other => NodeError::Ipc { method: "construct", message: other.to_string() },
    }
}
