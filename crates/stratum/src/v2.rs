//! Stratum V2: binary messages in frames.
//!
//! [`Frame`] takes frames off a stream ([`crate::noise`] does so for encrypted ones), the `decode` of each protocol
//! reads one, [`encode`] writes one. What a message is made of stands in a table per protocol: [`common`], [`mining`],
//! [`job_declaration`], [`template_distribution`], [`extensions`].
//!
//! Held to the specification of 2026-08-20.

pub mod code;
pub mod common;
pub mod extensions;
mod frame;
pub mod job_declaration;
mod message;
pub mod mining;
pub mod template_distribution;
pub mod wire;

pub(crate) use frame::fits;
pub use frame::{Frame, Header, Oversized, channel_id, encode, encode_long};
pub use message::{Decoded, Fault, Message};

#[cfg(test)]
mod tests;
