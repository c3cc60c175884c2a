//! The freshest valid template of one or more Bitcoin nodes, and the way of found blocks onto the chain.
//!
//! This crate does: speak to nodes ([`Node`], [`Rpc`]); parse what they offer into a [`Template`] once, at the edge;
//! build coinbases ([`coinbase()`]), jobs and whole blocks from it; decide which node's template miners work on
//! ([`Source`]); bring solved blocks to every node, through crashes too ([`Submitter`]).
//!
//! It does not: know a miner, a payout or a database. Who is paid is given to it as outputs; what becomes of a block
//! is told through [`Submitter::outcomes`].
//!
//! Invariants:
//! - Nobody else in Sluice speaks to a node.
//! - No reply of a node panics, blocks or stops the process: it is a [`NodeError`] within the time allowed.
//! - The height of the published template goes back only if the chain of the node that leads does, or if nobody has
//!   confirmed the height for [`SourceConfig::max_age`].
//! - At most one template request is under way per node, beside the long poll.
//! - A block handed to [`Submitter::submit`] is sent to every node at once, and is on disk until one of them has it in
//!   its chain or every one has refused it.

pub mod coinbase;
pub mod node;
pub mod source;
pub mod submit;
pub mod template;

pub use coinbase::{CoinbaseError, Output, coinbase};
pub use node::bitcoind::{Bitcoind, BitcoindConfig};
#[cfg(feature = "ipc")]
pub use node::ipc::Ipc;
pub use node::rpc::{Auth, Relayed, Rpc, RpcConfig};
pub use node::{Depth, Fees, Look, Node, NodeError, Submitted, Tip};
pub use source::{NodeStatus, Source, SourceConfig};
pub use submit::{Fate, Kept, Outcome, Solved, SubmitError, Submitter};
pub use template::Template;
