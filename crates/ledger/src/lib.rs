//! Never lose or invent work; say who is owed what.
//!
//! This crate does: keep every acknowledged share in a [`Spool`] on disk; drain the spool into Postgres or SQLite
//! exactly once; say how a coinbase is paid out ([`Terms`]); record found blocks, credit them by the work of a
//! window, follow them on the chain until they are mature or orphaned; answer who has earned what; pay it on the chain
//! ([`Payer`], [`Signer`]).
//!
//! It does not: judge shares (`share`), speak to a node (it owns the traits [`Chain`] and [`Wire`]; whoever has
//! nodes implements them), or show anything to people (`api`).
//!
//! Invariants:
//! - What [`SpoolWriter::commit`] has said yes to is counted once, also over `kill -9` and while the database is away.
//! - Money is `i64` millisatoshi, work is `u128`; no float touches either.
//! - Every transaction of the journal sums to zero, has a unique idempotency key and is never updated or deleted: the
//!   database itself refuses.
//! - The order in which the drain applies records is the order of shares. No clock decides what a window holds.
//! - A payment is made once: what goes out is stored before, and two transactions of one batch cannot both confirm.
//! - One process writes to a database at a time, and one to a spool.
//!
//! docs/LEDGER.md tells the way of a share and of a satoshi through the tables.

mod accounts;
mod audit;
mod books;
mod bought;
mod clock;
mod coinbases;
mod division;
mod drain;
mod error;
mod fees;
mod found;
mod growth;
mod journal;
mod ledger;
mod maturity;
mod operator;
mod payout;
pub mod proof;
pub mod record;
mod reserve;
pub mod scheme;
mod split;
pub mod spool;
mod store;
mod terms;
mod verify;
mod wallet;
mod window;
mod wire;
pub mod worker;

pub use accounts::{Balance, Block, BlockStatus, Credit, MinerAccount, Totals, WorkerAccount};
pub use audit::{SlotCredit, Wanted};
pub use coinbases::{Coinbases, Direct, Pays};
pub use drain::Lag;
pub use error::LedgerError;
pub use fees::{FeeBlock, MeanFees};
pub use ledger::{BlockFees, Chain, Halt, Hand, Ledger, Point, Settings, Standing};
pub use operator::{AccountEntry, AccountHistory, Movement, MovementError, Place};
pub use payout::{
    Desk, FeeFrom, MinerPayout, OrderKind, PayError, PayHalt, PayPoint, Payer, Payout, PayoutFigures,
    PayoutSettings, PayoutState, PayoutVersion, Signer, SignerSettings,
};
pub use record::{Found, Origin, RejectRecord, ShareRecord, SplitId};
pub use reserve::Reserve;
pub use scheme::{Class, Scheme, Terms};
pub use share::{Work, hash, job::Hash};
pub use spool::{Ack, Disk, Named, Spool, SpoolConfig, SpoolError, SpoolWriter};
pub use verify::{Audit, Report, Which};
pub use wallet::{Descriptors, WalletError};
pub use wire::{Sent, Wire, WireError};
pub use worker::{UserError, Worker, WorkerId};
