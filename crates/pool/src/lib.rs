//! Serves miners: sessions, difficulty, jobs and their fan-out.
//!
//! This crate does: listen ([`Listener`]); serve each connection on one of a few shards, a thread with a loop over its
//! sockets and a spool writer of its own ([`Pool::start`]); turn templates into jobs, one per payout class ([`board`]);
//! speak a protocol as a pure state machine ([`session`]); set difficulty ([`vardiff`]), as the miner can take it
//! ([`agent`]) and beginning where it left off ([`memory`]); hand out extranonces that no other session has
//! ([`space`]); keep out who does harm ([`gate`]); say who is mining ([`roster`]).
//!
//! It does not: speak to a Bitcoin node, know SQL or HTTP, or decide who is owed what. `template` and `ledger` do.
//!
//! Invariants:
//! - A share is acknowledged only when the spool has it: the records of a turn of the loop are committed before its
//!   replies are written.
//! - A block is in the spool and on its way to every node before anything else is asked about the submission.
//! - A session takes the time as an argument; it touches no clock, socket or file.
//! - A share is judged and credited at the difficulty of the job that it was mined on.
//! - No lock is shared by the shards on the way of a share.
//! - What a peer sends is bounded (line length, names, workers on a connection); a reader that does not read is closed.

pub mod agent;
pub mod board;
mod clock;
pub mod closed;
pub mod config;
mod connection;
mod fading;
pub mod gate;
pub mod limited;
mod listen;
pub mod memory;
mod noise;
pub mod password;
pub mod roster;
pub mod session;
mod shard;
pub mod space;
mod start;
mod sweep;
pub mod tls;
mod turn;
pub mod vardiff;
mod wire;

pub use closed::Closed;
pub use config::{Acks, Config, Limits, VardiffConfig};
pub use limited::Limited;
pub use listen::Listener;
pub use noise::Noise;
pub use roster::{Roster, Snapshot, WorkerState};
pub use start::{Pool, StartError};
pub use tls::{Tls, TlsError};
pub use wire::Door;
