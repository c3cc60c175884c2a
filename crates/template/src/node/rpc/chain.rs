//! The chain itself, and transactions for it: what a wallet asks a node.

use serde::Deserialize;
use serde_json::{json, value::RawValue};
use share::Hash;

use super::{Answer, MIB, Object, Rpc, reply};
use crate::{NodeError, Tip};

/// What a node says to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// It is in its mempool, or was in its chain already.
    Taken,
    /// Refused, in the node's words.
    Refused(String),
}

#[derive(Deserialize)]
struct Estimate {
    #[serde(default)]
    feerate: Option<Box<RawValue>>,
}

/// Bitcoin Core: no such height (`RPC_INVALID_PARAMETER`).
const NO_SUCH_HEIGHT: i64 = -8;
/// Bitcoin Core: missing inputs, and others (`RPC_VERIFY_ERROR`).
const VERIFY_ERROR: i64 = -25;
/// Bitcoin Core: against the rules of the mempool or of the chain (`RPC_VERIFY_REJECTED`).
const VERIFY_REJECTED: i64 = -26;
/// Bitcoin Core: its outputs are in the chain already (`RPC_VERIFY_ALREADY_IN_UTXO_SET`).
const ALREADY_IN_CHAIN: i64 = -27;
/// Bitcoin Core: these bytes are no transaction (`RPC_DESERIALIZATION_ERROR`).
const NOT_A_TRANSACTION: i64 = -22;

/// 4 MB are 8 MB of hex.
const BLOCK_LIMIT: usize = 10 * MIB;

impl Rpc {
    /// What logs and messages call this node.
    pub fn address(&self) -> &str {
        self.http.name()
    }

    /// The best block.
    pub async fn best(&self) -> Result<Tip, NodeError> {
        crate::Node::tip(self).await
    }

    /// The hash of the block at `height` of the best chain; nothing above its tip.
    pub async fn hash_at(&self, height: u32) -> Result<Option<Hash>, NodeError> {
        const METHOD: &str = "getblockhash";
        let text: String = match self.ask(METHOD, json!([height])).await {
            Err(NodeError::Rpc { code: NO_SUCH_HEIGHT, .. }) => return Ok(None),
            answer => answer?,
        };
        match share::hash::read(&text) {
            Some(hash) => Ok(Some(hash)),
            None => {
                let why = format!("{:?} is not a hash", reply::beginning(text.as_bytes()));
                Err(NodeError::Reply { method: METHOD, why })
            }
        }
    }

    /// A block, serialised with witness.
    pub async fn block(&self, hash: &Hash) -> Result<Vec<u8>, NodeError> {
        const METHOD: &str = "getblock";
        let params = json!([share::hash::shown(hash), 0]);
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": METHOD, "params": params }).to_string();
        let response = self.send(body.into(), (self.budgets.block.0, BLOCK_LIMIT)).await?;
        let text: &str = reply::parse(METHOD, &response)?.value(METHOD)?;
        let mut bytes = vec![0; text.len() / 2];
        faster_hex::hex_decode(text.as_bytes(), &mut bytes)
            .map_err(|error| NodeError::Reply { method: METHOD, why: format!("not hex: {error}") })?;
        Ok(bytes)
    }

    /// Hands over a serialised transaction, whatever fee it pays. One that the node has already is taken.
    pub async fn relay(&self, transaction: &[u8]) -> Result<Relayed, NodeError> {
        const METHOD: &str = "sendrawtransaction";
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": METHOD, "params": [hex::encode(transaction), 0]
        });
        let response = self.send(body.to_string().into(), self.budgets.block).await?;
        match reply::parse::<String>(METHOD, &response) {
            Ok(Answer::Value(_)) => Ok(Relayed::Taken),
            Ok(_) => Err(NodeError::Reply { method: METHOD, why: "there is no result".into() }),
            Err(NodeError::Rpc { code: ALREADY_IN_CHAIN, .. }) => Ok(Relayed::Taken),
            Err(NodeError::Rpc {
                code: VERIFY_ERROR | VERIFY_REJECTED | NOT_A_TRANSACTION, message, ..
            }) => {
                let known = ["txn-already-known", "txn-already-in-mempool"];
                let is_known = known.iter().any(|word| message.contains(word));
                Ok(if is_known { Relayed::Taken } else { Relayed::Refused(message) })
            }
            Err(error) => Err(error),
        }
    }

    /// What a transaction pays that is to be in one of the next `blocks`, in satoshi per 1000 virtual bytes; nothing if
    /// the node cannot tell yet.
    pub async fn fee_rate(&self, blocks: u16) -> Result<Option<u64>, NodeError> {
        const METHOD: &str = "estimatesmartfee";
        let Object(estimate): Object<Estimate> = self.ask(METHOD, json!([blocks])).await?;
        let Some(rate) = estimate.feerate else { return Ok(None) };
        let amount = bitcoin::Amount::from_str_in(rate.get(), bitcoin::Denomination::Bitcoin);
        let amount = amount.map_err(|error| NodeError::Reply {
            method: METHOD,
            why: format!("feerate {:?}: {error}", reply::beginning(rate.get().as_bytes())),
        })?;
        Ok(Some(amount.to_sat()))
    }
}
