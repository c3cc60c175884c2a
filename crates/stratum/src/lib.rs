//! Bytes to miner messages, and messages to bytes.
//!
//! This crate does: Stratum V1 as miners really speak it ([`v1`]); the one table that says a [`share::Reason`] in the
//! words of a protocol ([`reason`]).
//!
//! It does not: know a clock, a socket, a file or an async runtime; remember anything of a connection but how far it
//! looked for the end of a line; decide anything. Whether a worker may, a job is known or a share counts is for the
//! session to say.
//!
//! Invariants:
//! - No input panics, recurses without bound, or takes more memory than a small multiple of its own length.
//! - Strings and hex end here: what comes out is numbers, bytes and names.
//! - Every encoder appends exactly one line, ended by exactly one `\n`; only a reply to a request without an id is
//!   nothing at all.

pub mod reason;
pub mod v1;
