//! The key that a pool is known by, as bytes and as text.

use std::{fmt, str::FromStr};

use secp256k1::{Keypair, XOnlyPublicKey};

/// The secret key of a pool's authority, which signs the keys of its servers.
#[derive(Clone)]
pub struct AuthorityKey(pub(super) Keypair);

/// The public key of a pool's authority, which clients are given beforehand. As text: base58check of a version, which
/// is 1 in two little-endian bytes, and the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorityPublicKey(pub(super) XOnlyPublicKey);

/// These bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no key of secp256k1")]
pub struct InvalidKey;

/// A text is no key, or no URL of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Some character is not of base58, or the checksum is wrong.
    #[error("a key is not base58check")]
    Base58,
    /// The bytes are too many or too few, or begin with another version than 1.
    #[error("a key has the wrong length or version")]
    Form,
    /// See [`InvalidKey`].
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// It is not of the form `stratum2+tcp://host:port/KEY`.
    #[error("not of the form stratum2+tcp://host:port/KEY")]
    Url,
}

impl AuthorityKey {
    /// Of 32 secret bytes; nearly all are a key.
    pub fn from_bytes(secret: [u8; 32]) -> Result<Self, InvalidKey> {
        Keypair::from_secret_bytes(secret).map(Self).map_err(|_| InvalidKey)
    }

    /// What clients are to be given.
    pub fn public(&self) -> AuthorityPublicKey {
        AuthorityPublicKey(self.0.x_only_public_key().0)
    }

    /// The secret as text: base58check of its 32 bytes.
    pub fn to_secret_text(&self) -> String {
        base58ck::encode_check(&self.0.to_secret_bytes())
    }
}

/// Of the secret as text.
impl FromStr for AuthorityKey {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let bytes = base58ck::decode_check(text).map_err(|_| InvalidText::Base58)?;
        let secret = bytes.try_into().map_err(|_| InvalidText::Form)?;
        Ok(Self::from_bytes(secret)?)
    }
}

/// Without the secret.
impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityKey({})", self.public())
    }
}

impl AuthorityPublicKey {
    const VERSION: u16 = 1;

    /// Of the x coordinate, big-endian as in BIP 340.
    pub fn from_bytes(x: [u8; 32]) -> Result<Self, InvalidKey> {
        XOnlyPublicKey::from_byte_array(x).map(Self).map_err(|_| InvalidKey)
    }

    /// The x coordinate, big-endian as in BIP 340.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_byte_array()
    }
}

impl fmt::Display for AuthorityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&Self::VERSION.to_le_bytes());
        bytes[2..].copy_from_slice(&self.to_bytes());
        f.write_str(&base58ck::encode_check(&bytes))
    }
}

impl fmt::Debug for AuthorityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityPublicKey({self})")
    }
}

impl FromStr for AuthorityPublicKey {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        // Decoding takes time by the square of the length; 34 bytes and a checksum are 52 characters at most.
        let bytes = Some(text).filter(|text| text.len() <= 64).ok_or(InvalidText::Form)?;
        let bytes = base58ck::decode_check(bytes).map_err(|_| InvalidText::Base58)?;
        let Some((version, key)) = bytes.split_first_chunk() else { return Err(InvalidText::Form) };
        if u16::from_le_bytes(*version) != Self::VERSION {
            return Err(InvalidText::Form);
        }
        Ok(Self::from_bytes(key.try_into().map_err(|_| InvalidText::Form)?)?)
    }
}

/// Where a pool is and by which key it is known: `stratum2+tcp://host:port/KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUrl {
    /// A name or an address; one of IPv6 without its brackets.
    pub host: String,
    /// Of TCP.
    pub port: u16,
    /// The key of its authority.
    pub key: AuthorityPublicKey,
}

impl fmt::Display for PoolUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, key } = self;
        match host.contains(':') {
            true => write!(f, "stratum2+tcp://[{host}]:{port}/{key}"),
            false => write!(f, "stratum2+tcp://{host}:{port}/{key}"),
        }
    }
}

impl FromStr for PoolUrl {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let parts = || {
            let (place, key) = text.strip_prefix("stratum2+tcp://")?.split_once('/')?;
            let (host, port) = place.rsplit_once(':')?;
            let host = match host.strip_prefix('[') {
                Some(host) => host.strip_suffix(']')?,
                None => Some(host).filter(|host| !host.contains(':'))?,
            };
            Some((Some(host).filter(|host| !host.is_empty())?, port.parse().ok()?, key))
        };
        let (host, port, key) = parts().ok_or(InvalidText::Url)?;
        Ok(Self { host: host.to_owned(), port, key: key.parse()? })
    }
}

#[cfg(test)]
mod tests;
