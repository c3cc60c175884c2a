//! One node, spoken to in every way that it is configured with.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use share::Hash;

use super::{
    rpc::{Rpc, RpcConfig},
    zmq::Zmq,
};
use crate::{Depth, Fees, Look, Node, NodeError, Submitted, Template, Tip};

#[cfg(feature = "ipc")]
mod mining;

/// The ways to a node.
#[derive(Clone, Debug)]
pub struct BitcoindConfig {
    /// It has no substitute: where a block stands, only the RPC says.
    pub rpc: RpcConfig,
    /// `zmqpubhashblock` of the node.
    pub zmq_hashblock: Option<String>,
    /// The socket of its mining interface (`-ipcbind`). Of use only to a build with the feature `ipc`.
    pub ipc: Option<PathBuf>,
}

/// A Bitcoin Core node. Blocks are heard of in every way that there is, whichever is first. Templates come, and blocks
/// go, over the mining interface where that works, and over the RPC where not.
pub struct Bitcoind {
    rpc: Rpc,
    zmq: Option<tokio::sync::Mutex<Zmq>>,
    #[cfg(feature = "ipc")]
    mining: Option<mining::Mining>,
    /// The block announced last.
    known: Mutex<Hash>,
}

impl Bitcoind {
    /// Whether this build speaks the mining interface.
    pub const HAS_IPC: bool = cfg!(feature = "ipc");

    /// Checks the addresses only; nothing is sent before the first question.
    pub fn new(config: BitcoindConfig) -> Result<Bitcoind, NodeError> {
        let zmq = config.zmq_hashblock.as_deref().map(Zmq::new).transpose()?;
        #[cfg(feature = "ipc")]
        let mining = config.ipc.map(|path| mining::Mining::new(path, config.rpc.network));
        Ok(Bitcoind {
            rpc: Rpc::new(config.rpc)?,
            zmq: zmq.map(tokio::sync::Mutex::new),
            #[cfg(feature = "ipc")]
            mining,
            known: Mutex::default(),
        })
    }

    /// As [`Rpc::check`].
    pub async fn check(&self) -> Result<(), NodeError> {
        self.rpc.check().await
    }

    async fn zmq_announced(&self) -> Hash {
        let Some(zmq) = &self.zmq else { return std::future::pending().await };
        let block = zmq.lock().await.next().await;
        if block.missed > 0 {
            // Harmless: the block that is announced now comes after those.
            tracing::debug!(node = self.name(), missed = block.missed, "ZMQ announcements were lost");
        }
        block.hash
    }

    async fn ipc_announced(&self) -> Hash {
        #[cfg(feature = "ipc")]
        if let Some(mining) = &self.mining {
            let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
            return mining.announced(&known).await;
        }
        std::future::pending().await
    }
}

#[async_trait]
impl Node for Bitcoind {
    fn name(&self) -> &str {
        self.rpc.name()
    }

    /// What came over the mining interface has no `long_poll`: that interface announces blocks.
    async fn template(&self, long_poll: Option<&str>) -> Result<Template, NodeError> {
        #[cfg(feature = "ipc")]
        if let (None, Some(mining)) = (long_poll, &self.mining) {
            let template = mining.template(self.rpc.template(None)).await?;
            self.rpc.note_version(template.version);
            return Ok(template);
        }
        self.rpc.template(long_poll).await
    }

    /// Over all ways at once: the first that takes it is right.
    async fn submit(&self, block: &[u8]) -> Result<Submitted, NodeError> {
        #[cfg(feature = "ipc")]
        if let Some(mining) = &self.mining {
            return mining.submit(block, self.rpc.submit(block)).await;
        }
        self.rpc.submit(block).await
    }

    async fn tip(&self) -> Result<Tip, NodeError> {
        self.rpc.tip().await
    }

    async fn look(&self) -> Result<Look, NodeError> {
        self.rpc.look().await
    }

    async fn announced(&self) -> Hash {
        let hash = tokio::select! {
            hash = self.zmq_announced() => hash,
            hash = self.ipc_announced() => hash,
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = hash;
        hash
    }

    async fn empty(&self, tip: &Hash) -> Result<Option<Template>, NodeError> {
        #[cfg(feature = "ipc")]
        if let Some(mining) = &self.mining
            && let Some(template) = mining.empty().await
        {
            return Ok(Some(template));
        }
        self.rpc.empty(tip).await
    }

    async fn depth(&self, hash: &Hash) -> Result<Depth, NodeError> {
        self.rpc.depth(hash).await
    }

    async fn fees(&self, hash: Option<&Hash>) -> Result<Option<Fees>, NodeError> {
        self.rpc.fees(hash).await
    }
}
