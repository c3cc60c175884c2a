//! Who the pool is to miners that speak V2: the authority's key, and the certificate that is shown in every handshake.
//!
//! The key of the server is made at the start and its certificate signed then, and again at half of its time, off the way
//! of any connection: what is left of a handshake is a key for the connection, and two secrets shared.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rand::RngExt;
use stratum::noise::{
    AuthorityKey, AuthorityPublicKey, ELLSWIFT_SIZE, Error, Identity, StaticKey, Transport, respond,
};

use crate::clock::unix_ms;

/// How long a certificate has been valid when it is new, in seconds: the clocks of miners may be behind.
const BACKDATED: u32 = 60 * 60;

/// What V2 connections are encrypted with. Cheap to clone.
#[derive(Clone)]
pub struct Noise(Arc<Inner>);

struct Inner {
    authority: AuthorityKey,
    validity: u32,
    /// With the time at which it was signed, in seconds since 1970.
    shown: RwLock<(Arc<Identity>, u32)>,
}

impl Noise {
    /// Has `authority` sign a new key for this server. `validity`: how long a certificate is good.
    pub fn new(authority: AuthorityKey, validity: Duration) -> Self {
        let validity = u32::try_from(validity.as_secs()).unwrap_or(u32::MAX);
        // One in 2^128 draws is no key.
        let key = loop {
            if let Ok(key) = StaticKey::new(&entropy()) {
                break key;
            }
        };
        let now = seconds();
        let identity = certified(&key, &authority, validity, now);
        Self(Arc::new(Inner { authority, validity, shown: RwLock::new((identity, now)) }))
    }

    /// What miners have to know it by.
    pub fn key(&self) -> AuthorityPublicKey {
        self.0.authority.public()
    }

    /// Signs anew if half of the time is over, or the clock was set back. Whether it did.
    pub fn renew(&self) -> bool {
        self.renew_at(seconds())
    }

    fn renew_at(&self, now: u32) -> bool {
        let Inner { authority, validity, shown } = &*self.0;
        let (identity, signed) = shown.read().unwrap_or_else(PoisonError::into_inner).clone();
        if (signed..signed.saturating_add(validity / 2)).contains(&now) {
            return false;
        }
        let identity = certified(&identity.key, authority, *validity, now);
        *shown.write().unwrap_or_else(PoisonError::into_inner) = (identity, now);
        true
    }

    /// Answers the first message of a handshake.
    pub(crate) fn respond(&self, first: &[u8; ELLSWIFT_SIZE], out: &mut Vec<u8>) -> Result<Transport, Error> {
        let identity = self.0.shown.read().unwrap_or_else(PoisonError::into_inner).0.clone();
        respond(&identity, first, &entropy(), out)
    }
}

impl fmt::Debug for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Noise({})", self.key())
    }
}

fn certified(key: &StaticKey, authority: &AuthorityKey, validity: u32, now: u32) -> Arc<Identity> {
    let (from, until) = (now.saturating_sub(BACKDATED), now.saturating_add(validity));
    Arc::new(key.certify(authority, from, until, &entropy()))
}

/// Bytes that nobody can guess.
fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill(&mut bytes[..]);
    bytes
}

fn seconds() -> u32 {
    u32::try_from(unix_ms() / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_signed_again_at_half_of_its_time() {
        let noise = Noise::new(AuthorityKey::from_bytes([1; 32]).unwrap(), Duration::from_secs(1000));
        let shown = || {
            let certificate = *noise.0.shown.read().unwrap().0.certificate();
            (certificate.valid_from, certificate.not_valid_after)
        };
        let start = noise.0.shown.read().unwrap().1;
        assert_eq!(shown(), (start - BACKDATED, start + 1000));
        assert!(!noise.renew_at(start + 499));
        assert!(noise.renew_at(start + 500));
        assert_eq!(shown(), (start + 500 - BACKDATED, start + 1500));
        assert!(!noise.renew_at(start + 999));
        assert!(noise.renew_at(start + 10), "the clock was set back");
        assert_eq!(shown(), (start + 10 - BACKDATED, start + 1010));
    }
}
