//! A chain in a box: a Bitcoin node without a network, with its own difficulty and made-up transactions.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bitcoin::Transaction;
use share::{Extranonce, Hash, Job, Submission, hash::shown};
use template::{Depth, Node, NodeError, Output, Submitted, Template, Tip};
use tokio::{sync::watch, time::Instant};

use crate::{chain::state::State, grind::Header};

mod check;
mod difficulty;
mod mempool;
mod state;
mod tree;

/// How long a long poll may last.
const LONG_POLL: Duration = Duration::from_secs(90);

/// What a chain is like.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// How far apart blocks are on average, whoever mines.
    pub block_interval: Duration,
    /// Difficulty of the first block. What is no difficulty (zero, negative, not a number) counts as the easiest.
    pub start_difficulty: f64,
    /// Whether the difficulty follows the miners; it stays as it starts otherwise.
    pub retarget: bool,
    /// About how many transactions a template has. At 3,500 it is as heavy as it may be.
    pub transactions: usize,
    /// How often a template is replaced by one with higher fees.
    pub template_interval: Duration,
    /// Height of the first block to be found.
    pub start_height: u32,
    /// Of the transactions and the block before the first. The same seed and the same times give the same ones.
    pub seed: u64,
}

impl Default for ChainConfig {
    /// Blocks of mainnet size, each half a minute, for a few CPU miners.
    fn default() -> Self {
        Self {
            block_interval: Duration::from_secs(30),
            start_difficulty: 0.005,
            retarget: true,
            transactions: 3_500,
            template_interval: Duration::from_secs(20),
            start_height: 900_000,
            seed: 0,
        }
    }
}

/// A chain in memory that behaves like a Bitcoin node: it hands out templates, checks blocks in full and follows the
/// one branch with most work. It is gone when it is dropped.
pub struct Chain {
    state: Arc<Mutex<State>>,
    tip: watch::Sender<Tip>,
}

impl Chain {
    /// A chain whose first block is still to be found.
    pub fn new(config: ChainConfig) -> Arc<Self> {
        let state = State::new(&config, now_ms());
        let tip = watch::Sender::new(state.tip());
        Arc::new(Self { state: Arc::new(Mutex::new(state)), tip })
    }

    /// Makes a block and all after it invalid, and moves the tip to the best of the rest, as `invalidateblock` does.
    /// False if there is no such block to invalidate.
    pub async fn invalidate(&self, hash: Hash) -> Result<bool, NodeError> {
        let known = self.with_state(move |state, now_ms| state.invalidate(&hash, now_ms)).await?;
        if known {
            tracing::warn!(hash = %shown(&hash), tip = self.tip.borrow().height, "sandbox block made invalid");
        }
        Ok(known)
    }

    /// The coinbase of a block that was accepted, on whatever branch.
    pub fn coinbase(&self, hash: &Hash) -> Option<Transaction> {
        lock(&self.state).block(hash).and_then(|block| block.coinbase.clone())
    }

    /// Mines `count` blocks on the tip itself, paying `script`, and returns their hashes. For chains of low difficulty:
    /// it takes as long as it takes.
    pub async fn generate(&self, count: usize, script: &[u8]) -> Result<Vec<Hash>, NodeError> {
        let mut hashes = Vec::with_capacity(count);
        while hashes.len() < count {
            let template = self.template(None).await?;
            let output = Output { script: script.to_vec(), sats: template.coinbase_value };
            let coinbase = template::coinbase(&template, "/sandbox/", &[], &[output], 8)
                .map_err(|error| NodeError::Template(error.to_string()))?;
            let job = template.job(coinbase);
            let solved = tokio::task::spawn_blocking(move || {
                let submission = solve(&job);
                (share::sha256::double(&job.header(&submission)), template.block(&job, &submission))
            });
            let (hash, block) = solved.await.map_err(stopped)?;
            match self.submit(&block).await? {
                Submitted::Accepted => hashes.push(hash),
                Submitted::Known | Submitted::Unclear(_) => {} // somebody else was faster
                Submitted::Refused(reason) => return Err(NodeError::Template(reason)),
            }
        }
        Ok(hashes)
    }

    /// Runs `f` where it may take some milliseconds, with the time, and tells of a new tip.
    async fn with_state<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut State, u64) -> T + Send + 'static,
    ) -> Result<T, NodeError> {
        let (state, tip) = (self.state.clone(), self.tip.clone());
        let run = move || {
            let mut state = lock(&state);
            let result = f(&mut state, now_ms());
            tip.send_if_modified(|tip| std::mem::replace(tip, state.tip()) != state.tip());
            result
        };
        tokio::task::spawn_blocking(run).await.map_err(stopped)
    }
}

#[async_trait]
impl Node for Chain {
    fn name(&self) -> &str {
        "sandbox"
    }

    async fn template(&self, long_poll: Option<&str>) -> Result<Template, NodeError> {
        let (mut tip, deadline) = (self.tip.subscribe(), Instant::now() + LONG_POLL);
        loop {
            let (template, better_ms) = self.with_state(State::template).await?;
            if long_poll.is_none() || template.long_poll.as_deref() != long_poll {
                return Ok(template);
            }
            let better = Instant::now() + Duration::from_millis(better_ms.saturating_sub(now_ms()).max(10));
            tokio::select! {
                _ = tip.changed() => {}
                () = tokio::time::sleep_until(better) => {}
                () = tokio::time::sleep_until(deadline) => return Err(NodeError::Timeout(LONG_POLL)),
            }
        }
    }

    async fn submit(&self, block: &[u8]) -> Result<Submitted, NodeError> {
        let block = block.to_vec();
        let (submitted, tip) =
            self.with_state(move |state, now_ms| (state.submit(&block, now_ms), state.tip())).await?;
        match &submitted {
            Submitted::Accepted => {
                tracing::info!(height = tip.height, hash = %shown(&tip.hash), "sandbox block accepted")
            }
            Submitted::Known => tracing::debug!("sandbox block known"),
            Submitted::Unclear(answer) => tracing::info!(answer, "sandbox block on a side branch"),
            Submitted::Refused(reason) => tracing::warn!(reason, "sandbox block refused"),
        }
        Ok(submitted)
    }

    async fn tip(&self) -> Result<Tip, NodeError> {
        Ok(*self.tip.borrow())
    }

    async fn depth(&self, hash: &Hash) -> Result<Depth, NodeError> {
        let hash = *hash;
        self.with_state(move |state, _| state.depth(&hash)).await
    }
}

/// A solution of `job`, by trying. Its extranonce has 8 bytes.
fn solve(job: &Job) -> Submission {
    let mut counter = 0u64;
    loop {
        if let Some(extranonce) = Extranonce::new(&[&counter.to_le_bytes()]) {
            let submission = Submission { extranonce, time: job.time, nonce: 0, version: job.version };
            let header = Header::new(job.header(&submission));
            if let Some(nonce) = header.grind(0..=u32::MAX, &job.network_target) {
                return Submission { nonce, ..submission };
            }
        }
        counter += 1;
    }
}

/// A panic while the lock was held leaves a state that is still good enough for a sandbox.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stopped(error: tokio::task::JoinError) -> NodeError {
    NodeError::Unreachable(format!("the sandbox is shutting down: {error}"))
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
