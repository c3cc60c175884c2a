//! One block and one node, until it is known where the node has the block.

use std::time::Duration;

use share::Hash;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};

use crate::{Depth, Node, Submitted};
use share::hash::shown;

/// How a node ended up with a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// In its best chain.
    OnChain,
    /// Known, and another won.
    OffChain,
    /// It calls the block invalid, in these words.
    Refused(String),
    /// No clear answer in all the time.
    GaveUp,
}

/// How long we try.
pub(super) struct Patience {
    /// In all, for a node that answers and does not make up its mind.
    pub(super) whole: Duration,
    /// In all, for a node that does not answer.
    pub(super) away: Duration,
    /// Before the first repetition; twice as long before each next.
    pub(super) first: Duration,
    /// At most, before a repetition.
    pub(super) longest: Duration,
    /// How long a block that was taken may stay out of the best chain before it has lost.
    pub(super) race: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            whole: Duration::from_secs(600),
            away: Duration::from_secs(7 * 24 * 3600),
            first: Duration::from_millis(100),
            longest: Duration::from_secs(10),
            race: Duration::from_secs(10),
        }
    }
}

/// Hands `block` to `node` until the node's chain says what became of it. What a node says to the block itself is a
/// hint only: replies get lost, and "inconclusive" is an answer (F-20).
pub(super) async fn deliver(
    node: &dyn Node,
    abreast: &Semaphore,
    patience: &Patience,
    hash: &Hash,
    block: &[u8],
) -> Delivery {
    let deadline = Instant::now() + patience.away.max(patience.whole);
    timeout_at(deadline, attempts(node, abreast, patience, hash, block)).await.unwrap_or(Delivery::GaveUp)
}

async fn attempts(
    node: &dyn Node,
    abreast: &Semaphore,
    patience: &Patience,
    hash: &Hash,
    block: &[u8],
) -> Delivery {
    let mut wait = patience.first;
    let mut last = None;
    let mut off_chain_since = None;
    let mut taken = false;
    let mut answered: Option<Instant> = None;
    loop {
        if answered.is_some_and(|since| since.elapsed() >= patience.whole) {
            return Delivery::GaveUp;
        }
        if !taken {
            // Never closed; were it so, the block would go all the same.
            let permit = abreast.acquire().await.ok();
            let said = node.submit(block).await;
            drop(permit);
            if said.is_ok() {
                answered.get_or_insert_with(Instant::now);
            }
            match said {
                Ok(Submitted::Accepted | Submitted::Known) => taken = true,
                // Another node that has it, or a block that came by another way, may prove this wrong: the chain is
                // asked once more below.
                Ok(Submitted::Refused(reason)) => {
                    return match node.depth(hash).await {
                        Ok(Depth::OnChain(_)) => Delivery::OnChain,
                        _ => Delivery::Refused(reason),
                    };
                }
                Ok(Submitted::Unclear(words)) => log_once(&mut last, node, hash, words),
                Err(e) => log_once(&mut last, node, hash, e.to_string()),
            }
        }
        match node.depth(hash).await {
            Ok(Depth::OnChain(_)) => return Delivery::OnChain,
            // Until the node says that it took the block it may know the header only, from its peers.
            Ok(Depth::OffChain) => {
                let since = *off_chain_since.get_or_insert_with(Instant::now);
                if taken && since.elapsed() >= patience.race {
                    return Delivery::OffChain;
                }
            }
            // What it said it took, it has not: once more.
            Ok(Depth::Unknown) => (taken, off_chain_since) = (false, None),
            Err(e) => log_once(&mut last, node, hash, e.to_string()),
        }
        sleep(wait).await;
        wait = (wait * 2).min(patience.longest);
    }
}

/// Logs what keeps a block from a node: the same words once.
fn log_once(last: &mut Option<String>, node: &dyn Node, hash: &Hash, words: String) {
    if last.as_ref() != Some(&words) {
        tracing::warn!(node = node.name(), hash = %shown(hash), words, "block not taken yet");
        *last = Some(words);
    }
}
