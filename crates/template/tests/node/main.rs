//! Against a real Bitcoin node: see `scripts/bitcoin-node`.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without may panic")]

#[cfg(feature = "ipc")]
mod bitcoind;
mod client;
mod daemon;
#[cfg(feature = "ipc")]
mod ipc;
mod miner;
mod source;
mod submitter;
mod zmq;
