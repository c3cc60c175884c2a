//! Bytes to miner messages, and messages to bytes.
//!
//! This crate does: Stratum V1 as miners really speak it ([`v1`]); Stratum V2, all messages of its protocols ([`v2`]), and
//! its encryption ([`noise`]); the one table that says a [`share::Reason`] in the words of a protocol ([`reason`]).
//!
//! It does not: know a clock, a source of randomness, a socket, a file or an async runtime; remember anything of a
//! connection but what has arrived of a line or frame, and the keys of its encryption; decide anything. Whether a worker
//! may, a job is known or a share counts is for the session to say.
//!
//! Invariants:
//! - No input panics, recurses without bound, or takes more memory than a small multiple of its own length.
//! - Strings and hex end here: what comes out is numbers, bytes and names.
//! - Every encoder of V1 appends exactly one line, ended by exactly one `\n`; only a reply to a request without an id is
//!   nothing at all. Every encoder of V2 appends exactly one frame.
//! - No key encrypts twice with one counter; after one failure to decrypt nothing more of that connection is.

pub mod noise;
pub mod reason;
pub mod v1;
pub mod v2;
