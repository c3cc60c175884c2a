//! Templates that the node holds for us, and the blocks made of them.

use std::{collections::VecDeque, rc::Rc, time::Duration};

use share::{Hash, sha256};
use tokio::task::spawn_local;
use tokio_util::sync::CancellationToken;

use super::{
    dialect::{Handle, Solution, Verdict, is_unknown_method},
    link::{Lane, Link, cut, failed},
    wire::{self, Parts},
};
use crate::{
    NodeError, Submitted, Template,
    node::rpc::{reply::beginning, submitted},
};

/// How many templates the node keeps for us, for the blocks that may yet be found on them: a good while at one in some
/// seconds. They share their transactions with its mempool.
const KEPT: usize = 32;

/// For calls that the node answers at once.
const NO_TIME: Duration = Duration::ZERO;

/// Templates in the node.
#[derive(Default)]
pub(super) struct Held {
    /// Oldest first.
    kept: VecDeque<Rc<Kept>>,
    /// What [`Link::next`] waits to be beaten.
    last: Option<Rc<Kept>>,
}

/// A template in the node, and how to know a block made of it.
struct Kept {
    handle: Handle,
    prev_hash: Hash,
    branch: Vec<Hash>,
}

impl Held {
    /// The template that a block was made of: the merkle root in its header says so.
    fn maker(&self, parts: &Parts<'_>) -> Option<Rc<Kept>> {
        let (prev_hash, txid, root) = (parts.prev_hash(), parts.txid, parts.merkle_root());
        let makes =
            |kept: &&Rc<Kept>| kept.prev_hash == prev_hash && sha256::fold(txid, &kept.branch) == root;
        self.kept.iter().rev().find(makes).cloned()
    }

    /// Takes out the oldest that is one too many and that nobody uses.
    fn oldest(&mut self) -> Option<Rc<Kept>> {
        if self.kept.len() <= KEPT {
            return None;
        }
        let at = self.kept.iter().position(|kept| Rc::strong_count(kept) == 1)?;
        self.kept.remove(at)
    }
}

impl Link {
    /// A template of now.
    pub async fn template(
        self: &Rc<Self>,
        mempool: bool,
        gone: &CancellationToken,
    ) -> Result<Template, NodeError> {
        let lane = if mempool { &self.lanes.template } else { &self.lanes.empty };
        let _turn = self.turn(lane, gone).await?;
        self.create(lane, mempool, gone).await
    }

    async fn create(
        self: &Rc<Self>,
        lane: &Lane,
        mempool: bool,
        gone: &CancellationToken,
    ) -> Result<Template, NodeError> {
        if !self.synced.get() {
            let downloading = self.mining.is_downloading(&lane.thread);
            if self.answer("isInitialBlockDownload", NO_TIME, downloading).await? {
                return Err(NodeError::Downloading);
            }
            self.synced.set(true); // for good, as the node has it
        }
        let handle =
            self.answer("createNewBlock", NO_TIME, self.mining.create(&lane.thread, mempool)).await?;
        self.take(lane, handle, mempool, gone).await
    }

    /// A template that beats the last one within `time`. Ends early in the node, too, when `gone` does.
    pub async fn next(
        self: &Rc<Self>,
        threshold_sat: u64,
        time: Duration,
        gone: &CancellationToken,
    ) -> Result<Template, NodeError> {
        let lane = &self.lanes.next;
        let _turn = self.turn(lane, gone).await?;
        let last = self.held.borrow().last.clone();
        let Some(last) = last else { return self.create(lane, true, gone).await };
        let wait = last.handle.wait_next(&lane.thread, time, threshold_sat);
        let wait = self.answer("waitNext", time, wait);
        tokio::pin!(wait);
        let better = tokio::select! {
            biased;
            better = &mut wait => better?,
            () = gone.cancelled() => {
                self.answer("interruptWait", NO_TIME, last.handle.interrupt()).await?;
                wait.await?;
                return Err(cut());
            }
        };
        self.take(lane, better.ok_or(NodeError::Timeout(time))?, true, gone).await
    }

    /// Asks for what is in a template, and keeps it.
    async fn take(
        self: &Rc<Self>,
        lane: &Lane,
        handle: Handle,
        mempool: bool,
        gone: &CancellationToken,
    ) -> Result<Template, NodeError> {
        let thread = &lane.thread;
        let block = self.answer("getBlock", NO_TIME, handle.block(thread)).await?;
        let coinbase = self.answer("getCoinbaseTx", NO_TIME, handle.coinbase(thread)).await?;
        let branch = self.answer("getCoinbaseMerklePath", NO_TIME, handle.branch(thread)).await?;
        let template = wire::template(block, coinbase, branch, self.network)?;
        let kept = Rc::new(Kept { handle, prev_hash: template.prev_hash, branch: template.branch.clone() });
        let mut held = self.held.borrow_mut();
        // What nobody saw is not to be beaten.
        if mempool && !gone.is_cancelled() {
            held.last = Some(kept.clone());
        }
        held.kept.push_back(kept);
        spawn_local(self.clone().forget());
        Ok(template)
    }

    /// Has the node drop the oldest templates beyond [`KEPT`] that nobody waits on.
    async fn forget(self: Rc<Self>) {
        let lane = &self.lanes.question;
        let _turn = lane.turn.lock().await;
        let oldest = || self.held.borrow_mut().oldest();
        while let Some(oldest) = oldest() {
            let destroyed = self.answer("destroy", NO_TIME, oldest.handle.destroy(&lane.thread)).await;
            if let Err(error) = destroyed {
                tracing::debug!(%error, "a template could not be given back to the node");
                return;
            }
        }
    }

    /// Hands over a block. `None`: the node has not the means.
    pub async fn submit(&self, block: &[u8]) -> Option<Result<Submitted, NodeError>> {
        let parts = Parts::of(block)?;
        let lane = &self.lanes.submit;
        let _turn = match self.turn(lane, &CancellationToken::new()).await {
            Ok(turn) => turn,
            Err(error) => return Some(Err(error)),
        };
        let kept = self.held.borrow().maker(&parts);
        match kept {
            Some(kept) => Some(self.solve(lane, &kept, &parts, block).await),
            None => {
                let answer = self.mining.submit(&lane.thread, block);
                let answer = async { Ok(answer.await) };
                match self.answer("submitBlock", NO_TIME, answer).await {
                    Ok(answer) if is_unknown_method(&answer) => None,
                    Ok(answer) => {
                        Some(answer.map(|reason| judged(&reason)).map_err(|e| failed("submitBlock", &e)))
                    }
                    Err(error) => Some(Err(error)),
                }
            }
        }
    }

    async fn solve(
        &self,
        lane: &Lane,
        kept: &Kept,
        parts: &Parts<'_>,
        block: &[u8],
    ) -> Result<Submitted, NodeError> {
        let thread = &lane.thread;
        let solution = Solution {
            version: parts.version(),
            time: parts.time(),
            nonce: parts.nonce(),
            coinbase: parts.coinbase,
        };
        let solved = kept.handle.solve(thread, &solution);
        match self.answer("submitSolution", NO_TIME, solved).await? {
            Verdict::Reason(reason) => return Ok(judged(&reason)),
            Verdict::Processed(true) => {
                // Not yet a word on whether it is valid. What is best in the chain is.
                let best = self.answer("getTip", NO_TIME, self.mining.tip(thread)).await?;
                if best.is_some_and(|(hash, _)| hash == parts.hash()) {
                    return Ok(Submitted::Accepted);
                }
            }
            Verdict::Processed(false) => {}
        }
        let reason = self.answer("checkBlock", NO_TIME, self.mining.check(thread, block)).await?;
        // Nothing against it, or nothing that can be said of a block that is not on the tip.
        if reason.is_empty() || reason.starts_with("inconclusive") {
            return Ok(Submitted::Unclear("inconclusive".to_owned()));
        }
        Ok(judged(&reason))
    }
}

/// What a reason means; none is all well.
fn judged(reason: &str) -> Submitted {
    if reason.is_empty() { Submitted::Accepted } else { submitted(beginning(reason.as_bytes())) }
}
