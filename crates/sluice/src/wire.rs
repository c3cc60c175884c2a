//! The way of payments to the nodes: what the ledger's wallet asks, answered by `template`.

use async_trait::async_trait;
use ledger::{Sent, Wire, WireError};
use share::Hash;
use template::{Relayed, Rpc, Tip};

use crate::{config::Config, failure::Failure};

/// The nodes over RPC, in order of preference: who answers first is believed, since a wrong word costs only time. How
/// deep a payment is, all of them say together ([`crate::standing::Nodes`]).
pub struct Wires(Vec<Rpc>);

impl Wires {
    /// Checks the addresses only.
    pub fn new(config: &Config) -> Result<Self, Failure> {
        let rpc = |node: &template::BitcoindConfig| {
            let wrong = |error| Failure::unavailable(format!("node {}: {error}", node.rpc.url));
            Rpc::new(node.rpc.clone()).map_err(wrong)
        };
        config.nodes.iter().map(rpc).collect::<Result<_, _>>().map(Self)
    }
}

/// The answer of the first node that has one. (A closure that borrows what it asks for cannot be awaited in a task yet.)
macro_rules! first {
    ($wires:ident, $node:ident => $ask:expr) => {{
        let mut said = Vec::new();
        for $node in &$wires.0 {
            match $ask.await {
                Ok(answer) => return Ok(answer),
                Err(error) => said.push(format!("{}: {error}", $node.address())),
            }
        }
        Err(WireError(said.join("; ")))
    }};
}

#[async_trait]
impl Wire for Wires {
    async fn tip(&self) -> Result<(Hash, u32), WireError> {
        let tip: Result<Tip, WireError> = async { first!(self, node => node.best()) }.await;
        tip.map(|tip| (tip.hash, tip.height))
    }

    async fn hash_at(&self, height: u32) -> Result<Option<Hash>, WireError> {
        first!(self, node => node.hash_at(height))
    }

    async fn block(&self, hash: &Hash) -> Result<Vec<u8>, WireError> {
        first!(self, node => node.block(hash))
    }

    /// To all of them: one that takes it is enough, and the others may hear of it from us alone.
    async fn broadcast(&self, transaction: &[u8]) -> Result<Sent, WireError> {
        let (mut taken, mut refused, mut said) = (false, None, Vec::new());
        for node in &self.0 {
            match node.relay(transaction).await {
                Ok(Relayed::Taken) => taken = true,
                Ok(Relayed::Refused(why)) => refused = Some(why),
                Err(error) => said.push(format!("{}: {error}", node.address())),
            }
        }
        match refused {
            _ if taken => Ok(Sent::Taken),
            Some(why) => Ok(Sent::Refused(why)),
            None => Err(WireError(said.join("; "))),
        }
    }

    async fn fee_rate(&self, blocks: u16) -> Result<Option<u64>, WireError> {
        first!(self, node => node.fee_rate(blocks))
    }
}
