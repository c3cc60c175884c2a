//! The mining interface beside the RPC: used while it works, and left alone for a while when it does not.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bitcoin::Network;
use share::Hash;
use tokio::time::{Instant, sleep, timeout};

use super::super::ipc::Ipc;
use crate::{NodeError, Submitted, Template};

/// How long the interface is left alone after an error, so that one that hangs does not delay every template.
const REST: Duration = Duration::from_secs(5);

/// How long a template may take before the RPC is asked too, and the second answer to a block after the first.
const SOON: Duration = Duration::from_millis(500);

/// How long an empty template may take.
const AT_ONCE: Duration = Duration::from_millis(50);

pub(super) struct Mining {
    ipc: Ipc,
    state: Mutex<State>,
}

enum State {
    Works,
    /// It failed, for this reason; it is asked again from then on.
    Rests(Instant, &'static str),
}

impl Mining {
    pub fn new(path: PathBuf, network: Network) -> Self {
        Self { ipc: Ipc::new(path, network), state: Mutex::new(State::Works) }
    }

    /// A template from here, or by `rpc` where none comes soon.
    pub async fn template(
        &self,
        rpc: impl Future<Output = Result<Template, NodeError>>,
    ) -> Result<Template, NodeError> {
        if self.rests() {
            return rpc.await;
        }
        let ipc = self.ipc.template();
        tokio::pin!(ipc);
        if let Ok(answer) = timeout(SOON, &mut ipc).await {
            return match self.heard(answer) {
                Some(template) => Ok(template),
                None => rpc.await,
            };
        }
        tokio::pin!(rpc);
        tokio::select! {
            answer = &mut ipc => match self.heard(answer) {
                Some(template) => Ok(template),
                None => rpc.await,
            },
            answer = &mut rpc => {
                // That was a whole question to the other interface, and this one has not answered.
                if answer.is_ok() {
                    self.heard(Err::<(), _>(NodeError::Timeout(SOON)));
                }
                answer
            }
        }
    }

    /// Of the node's present best block. `None`: it cannot be had, or not at once.
    pub async fn empty(&self) -> Option<Template> {
        if self.rests() {
            return None;
        }
        self.heard(timeout(AT_ONCE, self.ipc.empty()).await.ok()?)
    }

    /// Waits until the best block is not `known`, for as long as it takes.
    pub async fn announced(&self, known: &Hash) -> Hash {
        loop {
            match self.ipc.tip_changed(known).await {
                Ok(tip) => return tip.hash,
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Hands a block over here and by `rpc`, together. That one way takes it is enough; else what the RPC says counts,
    /// for it tells more.
    pub async fn submit(
        &self,
        block: &[u8],
        rpc: impl Future<Output = Result<Submitted, NodeError>>,
    ) -> Result<Submitted, NodeError> {
        let ipc = self.ipc.submit(block);
        tokio::pin!(ipc, rpc);
        tokio::select! {
            said = &mut rpc => match said {
                Ok(Submitted::Known) => Ok(known(timeout(SOON, ipc).await.ok().flatten())),
                Err(error) => ipc.await.unwrap_or(Err(error)),
                said => said,
            },
            said = &mut ipc => match said {
                Some(Ok(Submitted::Accepted)) => Ok(Submitted::Accepted),
                Some(Ok(Submitted::Known)) => Ok(known(timeout(SOON, rpc).await.ok())),
                said => match (rpc.await, said) {
                    (Err(_), Some(said)) => said,
                    (by_rpc, _) => by_rpc,
                },
            },
        }
    }

    fn rests(&self) -> bool {
        matches!(*self.lock(), State::Rests(until, _) if Instant::now() < until)
    }

    /// What it says, having said to the operator whether it works: once, not each time.
    fn heard<T>(&self, answer: Result<T, NodeError>) -> Option<T> {
        let mut state = self.lock();
        match answer {
            Ok(value) => {
                if matches!(*state, State::Rests(..)) {
                    tracing::info!(socket = self.ipc.name(), "the mining interface works again");
                }
                *state = State::Works;
                Some(value)
            }
            Err(error) => {
                let known = matches!(*state, State::Rests(_, kind) if kind == error.kind());
                if !known {
                    tracing::warn!(socket = self.ipc.name(), %error, "the mining interface fails: the RPC does its work");
                }
                *state = State::Rests(Instant::now() + REST, error.kind());
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a block is that one way knows: it may know it from the other, which then says that it took it.
fn known(other: Option<Result<Submitted, NodeError>>) -> Submitted {
    match other {
        Some(Ok(Submitted::Accepted)) => Submitted::Accepted,
        _ => Submitted::Known,
    }
}
