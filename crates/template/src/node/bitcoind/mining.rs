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

    /// Hands a block over here and by `rpc`, together.
    pub async fn submit(
        &self,
        block: &[u8],
        rpc: impl Future<Output = Result<Submitted, NodeError>>,
    ) -> Result<Submitted, NodeError> {
        of_both(self.ipc.submit(block), rpc).await
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

/// What a node says to a block that it is given in two ways at once; `ipc` says nothing where it cannot take it.
///
/// Who knows a block, or is not clear about it, may have that from the other way, which then says that it took it: it is
/// heard too, if it answers soon. In all else the RPC counts where it answers, for it tells more.
async fn of_both(
    ipc: impl Future<Output = Option<Result<Submitted, NodeError>>>,
    rpc: impl Future<Output = Result<Submitted, NodeError>>,
) -> Result<Submitted, NodeError> {
    tokio::pin!(ipc, rpc);
    tokio::select! {
        said = &mut rpc => match said {
            Ok(said @ (Submitted::Known | Submitted::Unclear(_))) => {
                Ok(plainer(said, timeout(SOON, ipc).await.ok().flatten()))
            }
            Err(error) => ipc.await.unwrap_or(Err(error)),
            said => said,
        },
        said = &mut ipc => match said {
            Some(Ok(Submitted::Accepted)) => Ok(Submitted::Accepted),
            Some(Ok(said @ Submitted::Known)) => Ok(plainer(said, timeout(SOON, rpc).await.ok())),
            said => match (rpc.await, said) {
                (Err(_), Some(said)) => said,
                (by_rpc, _) => by_rpc,
            },
        },
    }
}

/// `said`, or what the `other` says, if that has the block and this does not say so, or if that took it.
fn plainer(said: Submitted, other: Option<Result<Submitted, NodeError>>) -> Submitted {
    match (said, other) {
        (_, Some(Ok(Submitted::Accepted))) => Submitted::Accepted,
        (Submitted::Unclear(_), Some(Ok(Submitted::Known))) => Submitted::Known,
        (said, _) => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: u64 = 3_600_000;

    fn said(word: &str) -> Result<Submitted, NodeError> {
        match word {
            "accepted" => Ok(Submitted::Accepted),
            "known" => Ok(Submitted::Known),
            "unclear" => Ok(Submitted::Unclear(word.to_owned())),
            "refused" => Ok(Submitted::Refused(word.to_owned())),
            _ => Err(NodeError::Cut(word.to_owned())),
        }
    }

    /// What each way says, after so many milliseconds; and what is said of it, and when.
    async fn check(ipc: (u64, &str), rpc: (u64, &str), expect: (u64, &str)) {
        let begun = Instant::now();
        let after = |ms: u64| sleep(Duration::from_millis(ms));
        let by_ipc = async {
            after(ipc.0).await;
            (ipc.1 != "nothing").then(|| said(ipc.1))
        };
        let by_rpc = async {
            after(rpc.0).await;
            said(rpc.1)
        };
        let word = match of_both(by_ipc, by_rpc).await {
            Ok(Submitted::Accepted) => "accepted",
            Ok(Submitted::Known) => "known",
            Ok(Submitted::Unclear(_)) => "unclear",
            Ok(Submitted::Refused(_)) => "refused",
            Err(_) => "fails",
        };
        assert_eq!((begun.elapsed().as_millis() as u64, word), expect, "{ipc:?} {rpc:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_was_taken_whichever_way_says_so() {
        check((9, "accepted"), (5, "accepted"), (5, "accepted")).await;
        check((5, "accepted"), (NEVER, "fails"), (5, "accepted")).await;
        // Known, or not clear, by the other way's doing.
        check((90, "accepted"), (5, "known"), (90, "accepted")).await;
        check((90, "accepted"), (5, "unclear"), (90, "accepted")).await;
        check((5, "known"), (90, "accepted"), (90, "accepted")).await;
        check((5, "unclear"), (90, "accepted"), (90, "accepted")).await;
        check((90, "known"), (5, "unclear"), (90, "known")).await;
        // It was known.
        check((90, "known"), (5, "known"), (90, "known")).await;
        check((90, "nothing"), (5, "known"), (90, "known")).await;
        check((5, "known"), (90, "unclear"), (90, "known")).await;
        // The other is not waited for long.
        check((NEVER, "accepted"), (5, "known"), (505, "known")).await;
        check((NEVER, "accepted"), (5, "unclear"), (505, "unclear")).await;
        check((5, "known"), (NEVER, "accepted"), (505, "known")).await;
        // One way fails, or has nothing to say.
        check((5, "fails"), (90, "accepted"), (90, "accepted")).await;
        check((90, "accepted"), (5, "fails"), (90, "accepted")).await;
        check((5, "nothing"), (90, "refused"), (90, "refused")).await;
        check((90, "nothing"), (5, "fails"), (90, "fails")).await;
        check((5, "refused"), (90, "fails"), (90, "refused")).await;
        // The RPC tells more.
        check((5, "unclear"), (90, "refused"), (90, "refused")).await;
        check((90, "accepted"), (5, "refused"), (5, "refused")).await;
    }
}
