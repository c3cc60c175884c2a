//! What a job is, and whether a submission is a share, a block or nothing.
//!
//! This crate does: targets, difficulty and work as integers ([`target`]); the immutable, binary [`Job`]; the
//! double SHA-256 of coinbase, merkle branch and header ([`sha256`]); the judgement of one [`Submission`]
//! ([`check`](fn@check)).
//!
//! It does not: know a wire format, a miner, a clock, a socket, a file or an async runtime. Whoever knows these
//! passes what is needed as an argument.
//!
//! Invariants:
//! - Hashes are 32 bytes in internal order (as they are hashed and as they stand in a header). Hex, and the reversed
//!   order that people read, exist only at the edges.
//! - Work is an integer; no float decides what a share is worth. [`Difficulty`] is a float because the wire says so:
//!   it becomes a [`Target`] once, exactly, and only the target counts from there on.
//! - Checking a submission allocates nothing and cannot fail in any way but by a [`Reason`].
//! - A hash that meets the network target is reported as a block whatever else is wrong with the submission.

pub mod check;
pub mod hash;
pub mod job;
pub mod reason;
pub mod sha256;
pub mod target;

pub use check::{Rules, Submission, Verdict, check};
pub use job::{Coinbase, Extranonce, Hash, Job};
pub use reason::Reason;
pub use target::{Difficulty, Target, Work};
