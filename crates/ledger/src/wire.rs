//! The way of a payment to the nodes and back.

use async_trait::async_trait;
use share::Hash;

/// The nodes, as a wallet needs them. Implemented by whoever has nodes. Every question must come to an end by itself.
#[async_trait]
pub trait Wire: Send + Sync + 'static {
    /// The best block: its hash (internal order) and height.
    async fn tip(&self) -> Result<(Hash, u32), WireError>;

    /// The hash of the block at `height` of the best chain; `None` above its tip.
    async fn hash_at(&self, height: u32) -> Result<Option<Hash>, WireError>;

    /// A block, serialised with witness.
    async fn block(&self, hash: &Hash) -> Result<Vec<u8>, WireError>;

    /// Hands over a transaction. To be known already, in a mempool or in the chain, is as good as being taken.
    async fn broadcast(&self, transaction: &[u8]) -> Result<Sent, WireError>;

    /// What a transaction pays that is to be in one of the next `blocks`, in satoshi per 1000 virtual bytes; `None` if
    /// nobody can tell.
    async fn fee_rate(&self, blocks: u16) -> Result<Option<u64>, WireError>;
}

/// What the nodes say to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in a mempool or in the chain.
    Taken,
    /// Every node that answered refuses it, in the words of one.
    Refused(String),
}

/// No node gave an answer: in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no node answers for the wallet: {0}")]
pub struct WireError(pub String);
