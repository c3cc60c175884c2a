//! The chain on threads of its own, whose work is not counted as the pool's: a node would be another process.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sandbox::{Chain, ChainConfig, grind::Header};
use share::{Extranonce, Hash, Submission};
use template::{Depth, Node, NodeError, Output, Submitted, Template, Tip};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::failure::Failure;

/// The name of the threads that are not the pool's.
pub const THREAD: &str = "bench-node";
/// Seventeen million hashes: a share that happens to be a block is rare in a run, and one is found in two seconds.
const DIFFICULTY: f64 = 0.004;
/// Twelve merkle branches, as on the main network.
const TRANSACTIONS: usize = 2_500;
/// Bytes of the extranonce in the blocks found here.
const EXTRANONCE: usize = 8;

/// A chain, and the threads that it works on.
pub struct Apart {
    chain: Arc<Chain>,
    threads: Handle,
}

impl Apart {
    /// A new chain, which works as long as its threads are kept.
    pub fn start() -> Result<(Arc<Self>, Threads), Failure> {
        let threads = Threads::start(THREAD, 1)?;
        let chain = Chain::new(config());
        Ok((Arc::new(Self { chain, threads: threads.handle() }), threads))
    }

    /// A block that is found, but not handed in yet: handing it in is the moment that is measured.
    pub async fn find(&self, script: &[u8]) -> Result<Vec<u8>, NodeError> {
        let template = self.template(None).await?;
        let output = Output { script: script.to_vec(), sats: template.coinbase_value };
        let coinbase = template::coinbase(&template, "/bench/", &[], &[output], EXTRANONCE)
            .map_err(|error| NodeError::Template(error.to_string()))?;
        let job = template.job(coinbase);
        let find = move || {
            (0u64..).find_map(|counter| {
                let extranonce = Extranonce::new(&[&counter.to_le_bytes()])?;
                let submission = Submission { extranonce, time: job.time, nonce: 0, version: job.version };
                let header = Header::new(job.header(&submission));
                let nonce = header.grind(0..=u32::MAX, &job.network_target)?;
                Some(template.block(&job, &Submission { nonce, ..submission }))
            })
        };
        let found = self.threads.spawn_blocking(find).await.map_err(ended)?;
        found.ok_or_else(|| NodeError::Template("no block is to be found".into()))
    }

    async fn there<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, NodeError>> + Send + 'static,
    ) -> Result<T, NodeError> {
        self.threads.spawn(work).await.map_err(ended)?
    }
}

/// A runtime beside the one that we run on. Dropped, it ends what runs on it without waiting.
pub struct Threads(Option<Runtime>, Handle);

impl Threads {
    /// So many threads of this name.
    pub fn start(name: &str, count: usize) -> Result<Self, Failure> {
        let runtime =
            Builder::new_multi_thread().worker_threads(count).thread_name(name).enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::unavailable(format!("cannot start threads: {error}")))?;
        let handle = runtime.handle().clone();
        Ok(Self(Some(runtime), handle))
    }

    /// To run something on them.
    pub fn handle(&self) -> Handle {
        self.1.clone()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting, which a runtime does by itself, is not allowed in async code.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Blocks come when they are asked for, and templates change only with them.
fn config() -> ChainConfig {
    ChainConfig {
        start_difficulty: DIFFICULTY,
        retarget: false,
        transactions: TRANSACTIONS,
        template_interval: Duration::from_secs(3600),
        ..ChainConfig::default()
    }
}

#[async_trait]
impl Node for Apart {
    fn name(&self) -> &str {
        "bench"
    }

    async fn template(&self, long_poll: Option<&str>) -> Result<Template, NodeError> {
        let (chain, long_poll) = (self.chain.clone(), long_poll.map(str::to_owned));
        self.there(async move { chain.template(long_poll.as_deref()).await }).await
    }

    async fn submit(&self, block: &[u8]) -> Result<Submitted, NodeError> {
        let (chain, block) = (self.chain.clone(), block.to_vec());
        self.there(async move { chain.submit(&block).await }).await
    }

    async fn tip(&self) -> Result<Tip, NodeError> {
        self.chain.tip().await
    }

    async fn depth(&self, hash: &Hash) -> Result<Depth, NodeError> {
        let (chain, hash) = (self.chain.clone(), *hash);
        self.there(async move { chain.depth(&hash).await }).await
    }
}

fn ended(error: tokio::task::JoinError) -> NodeError {
    NodeError::Unreachable(format!("the chain has ended: {error}"))
}
