//! A protocol as the miner speaks it, over one connection: bytes in, bytes and events out. No socket, no clock.

use stratum::noise;

use crate::miner::work::{Found, Work};

/// Shares that may wait for an answer. A pool that owes more is as good as gone.
pub const MAX_PENDING: usize = 1_000;

/// One connection's side of the conversation. What it begins with comes from whoever makes it.
pub trait Session: Send {
    /// Takes in what arrived; what is to be answered goes to `out`, what it means for the miner to `events`.
    fn arrived(&mut self, bytes: &mut [u8], out: &mut Vec<u8>, events: &mut Vec<Event>)
    -> Result<(), Broken>;

    /// Appends the submission of a share to `out`, unless its job is worthless by now.
    fn submit(&mut self, found: &Found, out: &mut Vec<u8>) -> Result<(), Broken>;

    /// How many shares wait for an answer.
    fn pending(&self) -> usize;

    /// What to look at when the pool says nothing, or closes.
    fn hint(&self) -> &'static str {
        ""
    }
}

/// What the pool said, as far as it matters to the miner.
#[derive(Debug)]
pub enum Event {
    /// The pool knows us; what it says from here on is of this session.
    Authorized,
    /// The pool does not want us, in its words.
    Refused(String),
    /// Something new to work on.
    Work(Box<Work>),
    /// A share counts; it may be a block as well.
    Accepted {
        /// Whether its hash meets the network target.
        is_block: bool,
    },
    /// A share does not count, in the pool's words.
    Rejected(String),
    /// The pool wants its user to read this.
    Show(String),
}

/// Why a connection is of no more use.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Broken {
    /// A line that no pool says.
    #[error("it does not speak Stratum V1 as this miner knows it: {0}")]
    Line(String),
    /// A message that no pool sends.
    #[error("it does not speak Stratum V2 as this miner knows it: {0}")]
    Message(String),
    /// Whoever answers has not the key that the pool is known by.
    #[error("it is not the pool of this key: {0}")]
    Untrusted(noise::Error),
    /// It may be the pool, but its certificate is not of today.
    #[error("{0}: is the clock of this machine right?")]
    Clock(noise::Error),
    /// It takes no connection like this one.
    #[error("it refuses the connection: {0}")]
    Setup(String),
    /// It refuses to tell the extranonce.
    #[error("it refuses the subscription: {0}")]
    Subscription(String),
    /// No other version than its own, and a standard channel has nothing else to change.
    #[error("it lets nobody change the version of headers: mine on an extended channel")]
    FixedVersion,
    /// It closed the channel.
    #[error("it closed the channel: {0}")]
    Closed(String),
    /// It asked for it.
    #[error("it asked this miner to connect again")]
    Reconnect,
    /// Too many shares without an answer.
    #[error("it owes the answers to {MAX_PENDING} shares")]
    Silent,
}
