//! Never lose or invent work; say who is owed what.
//!
//! This crate does: keep every acknowledged share in a [`Spool`] on disk; drain the spool into Postgres or SQLite
//! exactly once; say how a coinbase is paid out ([`Terms`]); record found blocks, credit them by the work of a
//! window, follow them on the chain until they are mature or orphaned; answer who has earned what.
//!
//! It does not: judge shares (`share`), speak to a node (it owns the trait [`Chain`]; whoever has nodes implements
//! it), or show anything to people (`api`).
//!
//! Invariants:
//! - What [`SpoolWriter::commit`] has said yes to is counted once, also over `kill -9` and while the database is away.
//! - Money is `i64` millisatoshi, work is `u128`; no float touches either.
//! - Every transaction of the journal sums to zero, has a unique idempotency key and is never updated or deleted: the
//!   database itself refuses.
//! - The order in which the drain applies records is the order of shares. No clock decides what a window holds.
//! - One process writes to a database at a time, and one to a spool.
//!
//! docs/LEDGER.md tells the way of a share and of a satoshi through the tables.

mod accounts;
mod books;
mod clock;
mod drain;
mod error;
mod found;
mod journal;
mod ledger;
mod maturity;
pub mod record;
pub mod scheme;
mod split;
pub mod spool;
mod store;
mod verify;
mod window;
pub mod worker;

pub use accounts::{Balance, Block, BlockStatus, Credit, MinerAccount, Totals, WorkerAccount};
pub use error::LedgerError;
pub use ledger::{Chain, Halt, Ledger, Point, Settings, Standing};
pub use record::{Found, RejectRecord, ShareRecord};
pub use scheme::{Class, Scheme, Terms};
pub use share::{Work, job::Hash};
pub use spool::{Spool, SpoolConfig, SpoolError, SpoolWriter};
pub use worker::{UserError, Worker, WorkerId};
