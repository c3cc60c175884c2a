//! The key of a server, and the authority's word that it is the pool's.

use secp256k1::{PublicKey, SecretKey, XOnlyPublicKey, ellswift::ElligatorSwift, schnorr};
use sha2::{Digest, Sha256};

use super::{AuthorityKey, AuthorityPublicKey, ELLSWIFT_SIZE, Error, InvalidKey};

/// The key of a server. Made once: what every handshake needs of it is kept ready.
#[derive(Clone)]
pub struct StaticKey {
    pub(super) secret: SecretKey,
    pub(super) ellswift: ElligatorSwift,
}

impl StaticKey {
    /// The first 32 bytes of `entropy` are the secret, nearly all are a key; the others choose among the forms of the
    /// public key.
    pub fn new(entropy: &[u8; 64]) -> Result<Self, InvalidKey> {
        let (secret, form) = entropy.split_at(32);
        let array = |half: &[u8]| half.try_into().expect("half of 64 bytes");
        let secret = SecretKey::from_secret_bytes(array(secret)).map_err(|_| InvalidKey)?;
        Ok(Self { secret, ellswift: ElligatorSwift::from_seckey(secret, Some(array(form))) })
    }

    /// This key with a certificate of `authority`, which is good from `valid_from` to `not_valid_after`, both counted.
    /// `entropy`: for the signature.
    pub fn certify(
        &self,
        authority: &AuthorityKey,
        valid_from: u32,
        not_valid_after: u32,
        entropy: &[u8; 32],
    ) -> Identity {
        let key = PublicKey::from_ellswift(self.ellswift).x_only_public_key().0;
        let mut certificate =
            Certificate { version: Certificate::VERSION, valid_from, not_valid_after, signature: [0; 64] };
        let digest = certificate.digest(&key);
        certificate.signature = schnorr::sign_with_aux_rand(&digest, &authority.0, entropy).to_byte_array();
        Identity { key: self.clone(), certificate }
    }
}

/// What a server shows of itself in every handshake. Cheap to renew before it ends: [`Identity::key`] stays the same.
#[derive(Clone)]
pub struct Identity {
    /// To be certified again.
    pub key: StaticKey,
    pub(super) certificate: Certificate,
}

impl Identity {
    /// What the authority has signed.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

/// The authority's word that a key is the pool's, for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// 0.
    pub version: u16,
    /// The first second.
    pub valid_from: u32,
    /// The last second.
    pub not_valid_after: u32,
    /// BIP 340.
    pub signature: [u8; 64],
}

impl Certificate {
    /// Bytes of a certificate.
    pub const SIZE: usize = 74;
    /// The only version there is.
    pub const VERSION: u16 = 0;
    /// By how many seconds clocks may differ.
    pub const LEEWAY: u32 = 10;

    pub(super) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..2].copy_from_slice(&self.version.to_le_bytes());
        bytes[2..6].copy_from_slice(&self.valid_from.to_le_bytes());
        bytes[6..10].copy_from_slice(&self.not_valid_after.to_le_bytes());
        bytes[10..].copy_from_slice(&self.signature);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut signature = [0; 64];
        signature.copy_from_slice(&bytes[10..]);
        Self {
            version: u16::from_le_bytes([bytes[0], bytes[1]]),
            valid_from: number(2),
            not_valid_after: number(6),
            signature,
        }
    }

    /// What is signed: all but the signature, and the server's key.
    fn digest(&self, key: &XOnlyPublicKey) -> [u8; 32] {
        let bytes = self.to_bytes();
        Sha256::new().chain_update(&bytes[..10]).chain_update(key.to_byte_array()).finalize().into()
    }

    /// Whether `authority` says of the key `ellswift` that it is the pool's, and says so now. Without an authority only
    /// the version counts.
    pub(super) fn verify(
        &self,
        ellswift: [u8; ELLSWIFT_SIZE],
        authority: Option<&AuthorityPublicKey>,
        now: u32,
    ) -> Result<(), Error> {
        let &Self { version, valid_from, not_valid_after, signature } = self;
        if version != Self::VERSION {
            return Err(Error::CertificateVersion(version));
        }
        let Some(authority) = authority else { return Ok(()) };
        let (from, until) =
            (valid_from.saturating_sub(Self::LEEWAY), not_valid_after.saturating_add(Self::LEEWAY));
        if !(from..=until).contains(&now) {
            return Err(Error::CertificateTime { valid_from, not_valid_after, now });
        }
        let key = PublicKey::from_ellswift(ElligatorSwift::from_byte_array(ellswift)).x_only_public_key().0;
        let signature = schnorr::Signature::from_byte_array(signature);
        schnorr::verify(&signature, &self.digest(&key), &authority.0).map_err(|_| Error::CertificateSignature)
    }
}
