//! What Sluice needs of a Bitcoin node, however it is spoken to.

use std::{future, io, path::PathBuf, time::Duration};

use async_trait::async_trait;
use share::Hash;

use crate::Template;

pub mod bitcoind;
#[cfg(feature = "ipc")]
pub mod ipc;
pub mod rpc;
pub mod zmq;

/// A Bitcoin node, or something that behaves like one. Implementations time out by themselves: 5 s for a question
/// (but for a long poll, 90 s), 30 s for a block.
#[async_trait]
pub trait Node: Send + Sync + 'static {
    /// What logs and messages call this node: its address, without secrets.
    fn name(&self) -> &str;

    /// A template. With the `long_poll` of an earlier one, waits until there is a better one; a
    /// [`NodeError::Timeout`] then says only that there was none.
    async fn template(&self, long_poll: Option<&str>) -> Result<Template, NodeError>;

    /// Hands over a whole block, serialised with witness.
    async fn submit(&self, block: &[u8]) -> Result<Submitted, NodeError>;

    /// The best block that this node knows.
    async fn tip(&self) -> Result<Tip, NodeError>;

    /// The same with what else tells how far this node is to be followed.
    async fn look(&self) -> Result<Look, NodeError> {
        let tip = self.tip().await?;
        Ok(Look { tip, work: tip.height.into(), doubts: Vec::new() })
    }

    /// Waits until the node says of itself that it has a new best block, whose hash this is. Never returns where it does
    /// not. May be dropped at any time.
    async fn announced(&self) -> Hash {
        future::pending().await
    }

    /// A template without transactions for the block after `tip`, where that can be had sooner than a full one.
    async fn empty(&self, _tip: &Hash) -> Result<Option<Template>, NodeError> {
        Ok(None)
    }

    /// Where a block stands in this node's best chain.
    async fn depth(&self, hash: &Hash) -> Result<Depth, NodeError>;

    /// What the transactions of this block pay, or of the best block; `None` where the node cannot say.
    async fn fees(&self, _hash: Option<&Hash>) -> Result<Option<Fees>, NodeError> {
        Ok(None)
    }
}

/// What the transactions of a block pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// The block, internal order.
    pub hash: Hash,
    /// The block before it; all zeroes for the first.
    pub prev_hash: Hash,
    /// Its height.
    pub height: u32,
    /// In all, satoshi.
    pub sats: u64,
}

/// What a node says to a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Valid, and taken.
    Accepted,
    /// Valid, and known before.
    Known,
    /// Neither valid nor invalid as yet, in the node's words: ask the chain, and again later.
    Unclear(String),
    /// Invalid, in the node's words (BIP 22).
    Refused(String),
}

/// The best block of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its hash, internal order.
    pub hash: Hash,
    /// Its height.
    pub height: u32,
}

/// How a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its best block.
    pub tip: Tip,
    /// Expected number of hashes in the chain up to it.
    pub work: u128,
    /// Why other nodes are to be preferred to this one, to be read behind "but".
    pub doubts: Vec<String>,
}

/// Where a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// In the best chain, with this many confirmations: 1 for the tip.
    OnChain(u32),
    /// Known, but not in the best chain.
    OffChain,
    /// The node has never heard of it.
    Unknown,
}

/// Why a node gave no usable answer. The text says what to do; which node it was, the caller says
/// ([`Node::name`]).
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The address cannot be used.
    #[error("node address {url:?} is not usable ({why}): give it as http://host:port")]
    Address {
        /// As configured, without secrets.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The address of a ZMQ publisher cannot be used.
    #[error(
        "ZMQ address {endpoint:?} is not usable ({why}): give it as tcp://host:port or ipc:///path, as in the node's \
         zmqpubhashblock"
    )]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// The cookie file cannot be read.
    #[error(
        "cannot read the cookie file {} ({source}): is the node running, and may this user read it?",
        path.display()
    )]
    Cookie {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No connection, or nobody who speaks HTTP at its other end.
    #[error("no answer ({0}): is the node running, and is this its RPC port?")]
    Unreachable(String),
    /// The connection broke in the middle of a reply.
    #[error("the reply was cut short ({0}): the node stopped, or something between us closes connections")]
    Cut(String),
    /// Nothing within the time allowed.
    #[error("no reply within {} s: the node is overloaded or hangs", .0.as_secs_f32())]
    Timeout(Duration),
    /// The node does not know our user and password.
    #[error(
        "user or password refused (HTTP {status}): check rpc_user and rpc_password, or cookie, and rpcallowip"
    )]
    Credentials {
        /// 401 or 403.
        status: u16,
    },
    /// HTTP 503.
    #[error(
        "the node takes no more questions (HTTP 503): its RPC work queue is full (raise rpcworkqueue and \
         rpcthreads), or it is shutting down"
    )]
    Busy,
    /// Not an RPC server, or not on this path.
    #[error(
        "HTTP {status}, not an RPC reply (it begins {begins:?}): is this the RPC port of a Bitcoin node?"
    )]
    Http {
        /// The status.
        status: u16,
        /// The first characters of the body.
        begins: String,
    },
    /// More than could be an honest reply.
    #[error("the reply is longer than {0} bytes: is this the RPC port of a Bitcoin node?")]
    TooLong(usize),
    /// JSON was cut, is none, or is not what was asked for.
    #[error("the reply is not what {method} returns: {why}")]
    Reply {
        /// The RPC method.
        method: &'static str,
        /// What is wrong, and where.
        why: String,
    },
    /// The node answers with an error of its own.
    #[error("{method}: {message} (RPC error {code}){}", advice(*code))]
    Rpc {
        /// The RPC method.
        method: &'static str,
        /// Bitcoin Core's number for it.
        code: i64,
        /// Its words.
        message: String,
    },
    /// Nobody at the socket of the mining interface, or we may not use it.
    #[error(
        "cannot connect to {} ({why}): is bitcoin-node running with -ipcbind=unix:{}, and may this user use the \
         socket?",
        path.display(),
        path.display()
    )]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// Somebody else at that socket.
    #[error(
        "what listens at {} does not speak the mining interface ({why}): is it the -ipcbind socket of a \
         bitcoin-node, version 30 or later?",
        path.display()
    )]
    NotMining {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The node answers over its mining interface with an error of its own.
    #[error("{method}: {message} (over the mining interface)")]
    Ipc {
        /// The method.
        method: &'static str,
        /// Its words.
        message: String,
    },
    /// The node gives no templates as yet.
    #[error("the node is still downloading the chain; wait until it has it")]
    Downloading,
    /// The node is on another chain than the configuration says.
    #[error("the node is on chain {found:?}, the configuration says {expected:?}: one of them is wrong")]
    Chain {
        /// As Bitcoin Core names it.
        expected: String,
        /// As the node says.
        found: String,
    },
    /// A template that no block can be made of.
    #[error("unusable template: {0}")]
    Template(String),
}

impl NodeError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Address { .. } | Self::Endpoint { .. } => "address",
            Self::Cookie { .. } => "cookie",
            Self::Unreachable(_) => "unreachable",
            Self::Cut(_) => "cut",
            Self::Timeout(_) => "timeout",
            Self::Credentials { .. } => "credentials",
            Self::Busy => "busy",
            Self::Http { .. } => "http",
            Self::TooLong(_) => "too_long",
            Self::Reply { .. } => "reply",
            Self::Rpc { .. } => "rpc",
            Self::Socket { .. } => "socket",
            Self::NotMining { .. } => "not_mining",
            Self::Ipc { .. } => "ipc",
            Self::Downloading => "downloading",
            Self::Chain { .. } => "chain",
            Self::Template(_) => "template",
        }
    }
}

/// What to do about Bitcoin Core's error codes that a pool meets.
fn advice(code: i64) -> &'static str {
    match code {
        -9 => ": the node has no peers; give it some",
        -10 => ": the node is still downloading the chain; wait until it has it",
        -28 => ": the node is starting; wait",
        -32601 => ": the node is too old or built without mining",
        _ => "",
    }
}
