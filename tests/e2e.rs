//! The main job, end to end: the `sluice` binary as built, a real Bitcoin Core node, SQLite and a real Postgres, real
//! sockets, a real browser. Nothing here calls Sluice's own code: the miner in `support/miner.rs` is written from the
//! protocol's description alone, the chain is asked through the node, and the ledger is read by SQL.
//!
//! What must be installed: PostgreSQL, Chromium, a Bitcoin node and two clients of Stratum V2; `scripts/test` sees to all
//! of them. Every process that a test starts is ended with it; every file lies in a temporary directory.

// A test has no better answer to an unexpected error than to fail where it happened.
#![allow(clippy::unwrap_used)]

mod abuse;
mod cli;
mod config;
mod conformance;
mod crash;
mod crowd;
mod demo;
mod doors;
mod full;
mod interop;
mod killed;
mod nodes;
mod outage;
mod page;
mod payout;
mod proofs;
mod reorg;
mod retarget;
mod rules;
mod signet;
mod steady;
mod support;
mod transcripts;
mod v2;
