//! Why connections end: a closed list, so that each has its counter.

use std::fmt;

use crate::gate::Refusal;

/// Why a connection ended, or was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// The miner left.
    Left,
    /// The connection broke.
    Broken,
    /// What it speaks is not the Stratum of this port.
    NotStratum,
    /// It does not speak TLS, or none that we do, where it must.
    NotTls,
    /// It comes from a proxy, but does not begin with a PROXY header.
    NoProxyHeader,
    /// A line was longer than is allowed.
    LineTooLong,
    /// There was no handshake in time (V2).
    NoHandshake,
    /// What arrived was not encrypted by the peer, or not in this order (V2).
    Forged,
    /// A message was longer than is allowed (V2).
    FrameTooLong,
    /// A message could not be read, or had no place in the conversation (V2).
    BadFrame,
    /// What it wants to speak is not offered (V2).
    NotOffered,
    /// Too much of what it handed in was bad.
    BadSubmits,
    /// No worker was authorized in time.
    NotAuthorized,
    /// It was silent for too long.
    Idle,
    /// It did not read what was sent.
    NotReading,
    /// Shares of it could not be stored, and so not be acknowledged.
    NotStored,
    /// No extranonce was left.
    NoExtranonce,
    /// The nodes had given no work for too long: it is better off with another pool (C-39).
    NoWork,
    /// The pool was stopping.
    Stopping,
    /// Not let in: the pool was full.
    Full,
    /// Not let in: too many from its address.
    Address,
    /// Not let in: too many from its network.
    Network,
    /// Not let in: its address was banned.
    Banned,
}

impl Closed {
    /// Every reason, in the order of the type.
    pub const ALL: [Closed; 23] = [
        Closed::Left,
        Closed::Broken,
        Closed::NotStratum,
        Closed::NotTls,
        Closed::NoProxyHeader,
        Closed::LineTooLong,
        Closed::NoHandshake,
        Closed::Forged,
        Closed::FrameTooLong,
        Closed::BadFrame,
        Closed::NotOffered,
        Closed::BadSubmits,
        Closed::NotAuthorized,
        Closed::Idle,
        Closed::NotReading,
        Closed::NotStored,
        Closed::NoExtranonce,
        Closed::NoWork,
        Closed::Stopping,
        Closed::Full,
        Closed::Address,
        Closed::Network,
        Closed::Banned,
    ];

    /// Whether it speaks against the address that the connection came from.
    pub fn is_offence(self) -> bool {
        matches!(
            self,
            Closed::NotStratum
                | Closed::NotTls
                | Closed::LineTooLong
                | Closed::Forged
                | Closed::FrameTooLong
                | Closed::BadFrame
                | Closed::BadSubmits
                | Closed::NotReading
        )
    }
}

impl From<Refusal> for Closed {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Closed::Full,
            Refusal::Address => Closed::Address,
            Refusal::Network => Closed::Network,
            Refusal::Banned => Closed::Banned,
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Closed::Left => "the miner left",
            Closed::Broken => "the connection broke",
            Closed::NotStratum => "this is not Stratum, or not of this version",
            Closed::NotTls => "this is not TLS 1.2 or 1.3",
            Closed::NoProxyHeader => "no PROXY header from a proxy",
            Closed::LineTooLong => "a line was too long",
            Closed::NoHandshake => "there was no handshake in time",
            Closed::Forged => "what arrived was not encrypted by the peer",
            Closed::FrameTooLong => "a message was too long",
            Closed::BadFrame => "a message could not be read, or had no place here",
            Closed::NotOffered => "what it wants is not offered",
            Closed::BadSubmits => "too many bad submissions",
            Closed::NotAuthorized => "no worker was authorized in time",
            Closed::Idle => "silent for too long",
            Closed::NotReading => "the miner does not read",
            Closed::NotStored => "shares could not be stored",
            Closed::NoExtranonce => "no extranonce is left",
            Closed::NoWork => "there is no fresh work",
            Closed::Stopping => "the pool is stopping",
            Closed::Full => "the pool is full",
            Closed::Address => "too many connections from this address",
            Closed::Network => "too many connections from this network",
            Closed::Banned => "this address is banned for a while",
        })
    }
}
