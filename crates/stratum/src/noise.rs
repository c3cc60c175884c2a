//! Noise NX over secp256k1: who the pool is, and encryption of everything after that.
//!
//! The server answers the 64 bytes that a client begins with by [`respond`], the client is an [`Initiator`]; either ends
//! with a [`Transport`]. [`Arriving`] gathers their messages. A server is known by an [`AuthorityKey`], which may be kept elsewhere: it signs the
//! [`StaticKey`] of the server for some hours, and an [`Identity`] is that key with the signature.
//!
//! Times are seconds since 1970. Randomness is the caller's: bytes called entropy must be fresh and secret each time.

mod certificate;
mod handshake;
mod key;
mod transport;

pub use certificate::{Certificate, Identity, StaticKey};
pub use handshake::{Arriving, Initiator, RESPONSE_SIZE, respond};
pub use key::{AuthorityKey, AuthorityPublicKey, InvalidKey, InvalidText, PoolUrl};
pub use transport::{Receiver, Sender, Transport};

use crate::v2::Oversized;

/// Bytes of a public key in the form that cannot be told from random ones, which is what a client begins with.
pub const ELLSWIFT_SIZE: usize = 64;

/// Bytes that encryption adds.
pub(crate) const MAC_SIZE: usize = 16;

/// Why a connection cannot go on: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It was not encrypted by the peer that the handshake was with, or not in this order.
    #[error("what arrived was not encrypted by the peer")]
    Forged,
    /// An error was found before on this connection.
    #[error("the connection is of no more use")]
    Poisoned,
    /// 2^64 - 1 messages were encrypted with one key.
    #[error("the key is used up")]
    Exhausted,
    /// What is to be sent is not made of whole frames.
    #[error("what is to be sent is not made of whole frames")]
    NotFrames,
    /// A longer message than may come now.
    #[error(transparent)]
    Oversized(#[from] Oversized),
    /// The entropy gives no key: one in 2^128 does not.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// The server's certificate is of another version.
    #[error("the certificate has version {0}, which is not known")]
    CertificateVersion(u16),
    /// The server's certificate is not valid yet, or not any more.
    #[error("the certificate is valid from {valid_from} to {not_valid_after}, and it is {now}")]
    CertificateTime {
        /// The first second.
        valid_from: u32,
        /// The last second.
        not_valid_after: u32,
        /// What the time is here.
        now: u32,
    },
    /// The authority that the client knows has not signed the server's key.
    #[error("the certificate is not signed by the authority")]
    CertificateSignature,
}
