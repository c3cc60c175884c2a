//! Stratum V1: one JSON object per line, with the quirks of twelve years of firmware.
//!
//! [`Lines`] cuts a stream into lines, [`decode`] reads what a miner asks for, [`encode`] writes replies and
//! notifications, [`Notify`] is a job encoded once for many miners.
//!
//! Rules named C-nn in tests are those of the project's conformance list for this protocol.

mod decode;
pub mod encode;
mod lines;
mod notify;
mod params;
mod plain;
mod request;

pub use decode::decode;
pub use encode::Configured;
pub use lines::{Lines, TooLong};
pub use notify::Notify;
pub use request::{Call, Configure, Fault, Id, Malformed, Request, Submit, VersionRolling};
