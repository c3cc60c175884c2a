//! A chain in a box, and miners for it: what the demo runs on, and what tests mine with.
//!
//! This crate does: keep a chain in memory that behaves like a Bitcoin node ([`Chain`], a [`template::Node`]), with
//! made-up transactions, blocks of mainnet size, full checking of what is submitted and a difficulty of its own;
//! search nonces ([`grind`]); mine on any pool, in Stratum V1 or V2, at a set rate ([`mine`]); load a pool with many clients and
//! take the time ([`swarm`]), beside a server that does nothing but the socket work ([`floor`]).
//!
//! It does not: speak to a Bitcoin network, verify scripts or signatures (it knows the transactions that it made
//! itself, and takes no others), keep anything on disk, or know the pool that is mined through.
//!
//! Invariants:
//! - A block is taken only if Bitcoin Core would take it on a chain of these rules; what it refuses, it refuses in the
//!   words of Bitcoin Core.
//! - The arithmetic of the chain takes the time as an argument. Only the edges look at a clock.
//! - The mempool, the bodies of blocks and the queues of the miner are bounded. The headers and coinbases of all blocks
//!   are kept: some 500 bytes a block.
//! - Nothing that a pool says panics or stops the miner, but the refusal of its user at the first attempt.

pub mod chain;
pub mod floor;
pub mod grind;
pub mod miner;
pub mod swarm;

pub use chain::{Chain, ChainConfig};
pub use miner::{Kind, MinerConfig, MinerError, Protocol, Report, mine};
