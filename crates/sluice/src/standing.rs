//! What the ledger may know of the chain: where a block stands, as all nodes agree.

use std::sync::Arc;

use async_trait::async_trait;
use ledger::{BlockFees, Chain, Standing};
use share::Hash;
use template::{Depth, Node};

/// The chain as several nodes see it.
pub struct Nodes(pub Vec<Arc<dyn Node>>);

#[async_trait]
impl Chain for Nodes {
    /// The least confirmations that any node gives; [`Standing::Unknown`] while nodes disagree or none answers, so
    /// that no money moves on one node's word against another's.
    async fn standing(&self, hash: &Hash) -> Standing {
        let mut agreed: Option<Standing> = None;
        for node in &self.0 {
            let standing = match node.depth(hash).await {
                Ok(Depth::OnChain(confirmations)) => Standing::OnChain(confirmations),
                Ok(Depth::OffChain) => Standing::OffChain,
                Ok(Depth::Unknown) => Standing::Unknown,
                // A node that is away has no say; `template` tells the operator.
                Err(_) => continue,
            };
            agreed = Some(match (agreed, standing) {
                (None, standing) => standing,
                (Some(Standing::OnChain(a)), Standing::OnChain(b)) => Standing::OnChain(a.min(b)),
                // One that never heard of it does not have it in its chain either.
                (Some(Standing::OffChain), Standing::OffChain | Standing::Unknown)
                | (Some(Standing::Unknown), Standing::OffChain) => Standing::OffChain,
                _ => Standing::Unknown,
            });
        }
        agreed.unwrap_or(Standing::Unknown)
    }

    /// As the first node has it that can say. What is paid follows from it, but no block is credited by it.
    async fn fees(&self, hash: Option<&Hash>) -> Option<BlockFees> {
        for node in &self.0 {
            if let Ok(Some(fees)) = node.fees(hash).await {
                let (hash, prev_hash, height, fees_sats) =
                    (fees.hash, fees.prev_hash, fees.height, fees.sats);
                return Some(BlockFees { hash, prev_hash, height, fees_sats });
            }
        }
        None
    }
}
