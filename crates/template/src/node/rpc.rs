//! A node over its JSON-RPC interface.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use share::Hash;

use crate::{Depth, Fees, Look, Node, NodeError, Submitted, Template, Tip};
pub use chain::Relayed;
use http::Http;
use reply::{Answer, Object};

mod bare;
mod chain;
mod http;
pub(super) mod reply;
pub(super) mod wire;

/// How to speak to a node.
#[derive(Clone, Debug)]
pub struct RpcConfig {
    /// `http://host:port`, without user and password.
    pub url: String,
    /// Who we are.
    pub auth: Auth,
    /// The chain that the node must be on.
    pub network: bitcoin::Network,
}

/// Who we are to a node.
#[derive(Clone)]
pub enum Auth {
    /// The file that the node writes anew at each start.
    Cookie(PathBuf),
    /// `rpcauth`, or `rpcuser` and `rpcpassword`, of the node.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
}

/// A node over its JSON-RPC interface: Bitcoin Core 0.21 or later, or what answers like it. Connections are kept
/// and used again, so a block goes out on a warm one.
pub struct Rpc {
    http: Http,
    network: bitcoin::Network,
    budgets: Budgets,
    /// Whether the node was seen to be on our network since it was last out of reach.
    on_network: AtomicBool,
    /// The last tip, so that only its hash is asked for each second.
    last_tip: Mutex<Option<Tip>>,
    /// The block version of the last template; 0 before there was one.
    version: AtomicU32,
}

/// How long an answer may take, and how long it may be.
struct Budgets {
    question: (Duration, usize),
    block: (Duration, usize),
    template: (Duration, usize),
    long_poll: (Duration, usize),
}

const MIB: usize = 1 << 20;

/// A full block of 4 MB is 8 MB of hex, and as much again for what else is said of each transaction.
const TEMPLATE_LIMIT: usize = 64 * MIB;

impl Default for Budgets {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            question: (s(5), MIB),
            block: (s(30), MIB),
            template: (s(5), TEMPLATE_LIMIT),
            // A node with a busy mempool answers after 60 to 70 s at the latest.
            long_poll: (s(90), TEMPLATE_LIMIT),
        }
    }
}

#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
}

#[derive(Deserialize)]
struct Standing {
    chain: String,
    blocks: u32,
    bestblockhash: String,
    chainwork: String,
    initialblockdownload: bool,
}

#[derive(Deserialize)]
struct Header {
    height: u32,
    confirmations: i64,
    mediantime: Option<u32>,
    bits: Option<String>,
    /// Not there for the first block.
    previousblockhash: Option<String>,
}

/// What of `getblockstats` is asked for.
#[derive(Deserialize)]
struct BlockStats {
    /// Satoshi.
    totalfee: u64,
}

/// Bitcoin Core: no such block (`RPC_INVALID_ADDRESS_OR_KEY`).
const NOT_FOUND: i64 = -5;

/// Bitcoin Core: these bytes are no block (`RPC_DESERIALIZATION_ERROR`).
const NOT_A_BLOCK: i64 = -22;

impl Rpc {
    /// Checks the address only; nothing is sent before the first question.
    pub fn new(config: RpcConfig) -> Result<Rpc, NodeError> {
        Ok(Rpc {
            http: Http::new(&config.url, config.auth)?,
            network: config.network,
            budgets: Budgets::default(),
            on_network: AtomicBool::new(false),
            last_tip: Mutex::new(None),
            version: AtomicU32::new(0),
        })
    }

    /// Whether the node answers, knows us, and is on the configured chain.
    pub async fn check(&self) -> Result<(), NodeError> {
        let Object(info): Object<ChainInfo> = self.ask("getblockchaininfo", json!([])).await?;
        let expected = self.network.to_core_arg();
        if info.chain != expected {
            return Err(NodeError::Chain { expected: expected.to_owned(), found: info.chain });
        }
        self.on_network.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes note of the block version that the node proposes, in whatever way it was heard: [`Node::empty`] needs it.
    pub(super) fn note_version(&self, version: u32) {
        self.version.store(version, Ordering::Relaxed);
    }

    /// Why this node is to be followed only where no better one is. On a test chain of one node it is as it should be.
    async fn doubts(&self, syncing: bool) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.network != bitcoin::Network::Regtest {
            if syncing {
                doubts.push("it is still downloading the chain".to_owned());
            }
            // Not to be told, for a whitelist that is older than this question, is no reason for doubt.
            if let Ok(0) = self.ask::<u64>("getconnectioncount", json!([])).await {
                doubts.push("it has no peers".to_owned());
            }
        }
        doubts
    }

    async fn ask<T>(&self, method: &'static str, params: serde_json::Value) -> Result<T, NodeError>
    where
        T: for<'de> Deserialize<'de>,
    {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let response = self.send(body.into(), self.budgets.question).await?;
        reply::parse(method, &response)?.value(method)
    }

    async fn send(&self, body: bytes::Bytes, budget: (Duration, usize)) -> Result<http::Response, NodeError> {
        let response = self.http.post(body, budget).await;
        if matches!(response, Err(NodeError::Unreachable(_))) {
            self.on_network.store(false, Ordering::Relaxed); // what comes back may be another node
        }
        response
    }

    async fn header(&self, hash: &Hash) -> Result<Header, NodeError> {
        let Object(header) = self.ask("getblockheader", json!([share::hash::shown(hash)])).await?;
        Ok(header)
    }
}

/// The template in an HTTP reply to `getblocktemplate`, as [`Rpc`] reads it: for fuzzing and measuring.
#[doc(hidden)]
pub fn template_of(status: u16, body: Vec<u8>) -> Result<Template, NodeError> {
    wire::read(&http::Response { status, body })
}

#[async_trait]
impl Node for Rpc {
    fn name(&self) -> &str {
        self.http.name()
    }

    async fn template(&self, long_poll: Option<&str>) -> Result<Template, NodeError> {
        if !self.on_network.load(Ordering::Relaxed) {
            self.check().await?;
        }
        let rules = match self.network {
            bitcoin::Network::Signet => &["segwit", "signet"][..],
            _ => &["segwit"],
        };
        let (mut request, mut budget) = (json!({ "rules": rules }), self.budgets.template);
        if let Some(id) = long_poll {
            request["longpollid"] = id.into();
            budget = self.budgets.long_poll;
        }
        let body =
            json!({ "jsonrpc": "2.0", "id": 1, "method": wire::METHOD, "params": [request] }).to_string();
        let response = self.send(body.into(), budget).await?;
        // Some milliseconds of work: not on a thread that serves sockets.
        let template = tokio::task::spawn_blocking(move || wire::read(&response))
            .await
            .unwrap_or_else(|e| Err(NodeError::Template(format!("it could not be parsed ({e})"))))?;
        self.note_version(template.version);
        Ok(template)
    }

    async fn look(&self) -> Result<Look, NodeError> {
        const METHOD: &str = "getblockchaininfo";
        let standing: Standing = self.ask(METHOD, json!([])).await?;
        let expected = self.network.to_core_arg();
        if standing.chain != expected {
            return Err(NodeError::Chain { expected: expected.to_owned(), found: standing.chain });
        }
        let no_hash = |text: &str| NodeError::Reply {
            method: METHOD,
            why: format!("{:?} is not a number of 32 bytes", reply::beginning(text.as_bytes())),
        };
        let hash = |text: &str| share::hash::read(text).ok_or_else(|| no_hash(text));
        let work = hash(&standing.chainwork)?;
        let (low, high) = work.split_at(16);
        let work = match high.iter().all(|&byte| byte == 0) {
            true => low.try_into().map(u128::from_le_bytes).unwrap_or(u128::MAX),
            false => u128::MAX,
        };
        let tip = Tip { hash: hash(&standing.bestblockhash)?, height: standing.blocks };
        Ok(Look { tip, work, doubts: self.doubts(standing.initialblockdownload).await })
    }

    /// Made of the header of `tip`, which is a matter of a question that the node answers from memory.
    async fn empty(&self, tip: &Hash) -> Result<Option<Template>, NodeError> {
        let version = self.version.load(Ordering::Relaxed);
        if version == 0 {
            return Ok(None);
        }
        let header = self.header(tip).await?;
        if header.confirmations != 1 {
            return Ok(None); // it was announced, and is not the best block, or not any more
        }
        let mut bits = [0; 4];
        let (Some(median_time), Some(Ok(()))) =
            (header.mediantime, header.bits.as_ref().map(|text| hex::decode_to_slice(text, &mut bits)))
        else {
            let why = "there is no mediantime, or bits are not 8 hex digits".to_owned();
            return Err(NodeError::Reply { method: "getblockheader", why });
        };
        let bits = u32::from_be_bytes(bits);
        let parent = bare::Parent { hash: *tip, height: header.height, bits, median_time };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(bare::template(&parent, self.network, version, u32::try_from(now).unwrap_or(u32::MAX)))
    }

    async fn submit(&self, block: &[u8]) -> Result<Submitted, NodeError> {
        const METHOD: &str = "submitblock";
        // By hand, since megabytes of hex need no search for what to escape.
        let head = br#"{"jsonrpc":"2.0","id":1,"method":"submitblock","params":[""#;
        let tail = br#""]}"#;
        let mut body = vec![0; head.len() + 2 * block.len() + tail.len()];
        let (start, rest) = body.split_at_mut(head.len());
        let (middle, end) = rest.split_at_mut(2 * block.len());
        start.copy_from_slice(head);
        end.copy_from_slice(tail);
        faster_hex::hex_encode(block, middle).map_err(|e| NodeError::Template(e.to_string()))?;
        let response = self.send(body.into(), self.budgets.block).await?;
        match reply::parse::<String>(METHOD, &response) {
            Ok(Answer::Null) => Ok(Submitted::Accepted),
            Ok(Answer::Value(text)) => Ok(submitted(text)),
            Ok(Answer::Absent) => Err(NodeError::Reply { method: METHOD, why: "there is no result".into() }),
            Err(NodeError::Rpc { code: NOT_A_BLOCK, message, .. }) => Ok(Submitted::Refused(message)),
            Err(e) => Err(e),
        }
    }

    async fn tip(&self) -> Result<Tip, NodeError> {
        let text: String = self.ask("getbestblockhash", json!([])).await?;
        let hash = share::hash::read(&text).ok_or_else(|| NodeError::Reply {
            method: "getbestblockhash",
            why: format!("{:?} is not a hash", reply::beginning(text.as_bytes())),
        })?;
        let last = *self.last_tip.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tip) = last.filter(|tip| tip.hash == hash) {
            return Ok(tip);
        }
        let tip = Tip { hash, height: self.header(&hash).await?.height };
        *self.last_tip.lock().unwrap_or_else(PoisonError::into_inner) = Some(tip);
        Ok(tip)
    }

    async fn depth(&self, hash: &Hash) -> Result<Depth, NodeError> {
        match self.header(hash).await {
            Ok(header) => Ok(match u32::try_from(header.confirmations) {
                Ok(confirmations) if confirmations > 0 => Depth::OnChain(confirmations),
                _ => Depth::OffChain,
            }),
            Err(NodeError::Rpc { code: NOT_FOUND, .. }) => Ok(Depth::Unknown),
            Err(e) => Err(e),
        }
    }

    /// `None` for a block that the node does not have, or has pruned.
    async fn fees(&self, hash: Option<&Hash>) -> Result<Option<Fees>, NodeError> {
        let hash = match hash {
            Some(hash) => *hash,
            None => self.tip().await?.hash,
        };
        let params = json!([share::hash::shown(&hash), ["totalfee"]]);
        let stats: BlockStats = match self.ask("getblockstats", params).await {
            Ok(Object(stats)) => stats,
            Err(NodeError::Rpc { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let header = self.header(&hash).await?;
        let prev_hash = header.previousblockhash.as_deref().and_then(share::hash::read).unwrap_or_default();
        Ok(Some(Fees { hash, prev_hash, height: header.height, sats: stats.totalfee }))
    }
}

/// What a word of BIP 22 means (F-20). Words that nobody has heard of are reasons to refuse, as the BIP has it; where
/// the node may yet change its mind, we ask again.
pub(super) fn submitted(text: String) -> Submitted {
    match text.as_str() {
        "duplicate" => Submitted::Known,
        // "valid?" is Core's own doubt; a node without the parent block gets it in a moment.
        "inconclusive" | "duplicate-inconclusive" | "valid?" | "prev-blk-not-found" => {
            Submitted::Unclear(text)
        }
        _ => Submitted::Refused(text),
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Auth::Cookie(path) => f.debug_tuple("Cookie").field(path).finish(),
            Auth::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
        }
    }
}

#[cfg(test)]
mod tests;
