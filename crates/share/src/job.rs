//! A job: everything that a miner's header and coinbase are made of, but what the miner chooses itself.

use crate::{
    Target,
    sha256::{self, Gapped},
};

pub use crate::sha256::Hash;

/// The bytes between the two halves of a coinbase: the pool's part (unique per session) followed by the miner's.
/// At most 32 bytes, as Stratum V2 allows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Extranonce {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Extranonce {
    /// The longest extranonce, in bytes.
    pub const MAX: usize = 32;

    /// `parts` joined; `None` if together they are longer than [`Self::MAX`].
    pub fn new(parts: &[&[u8]]) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        let mut len = 0;
        for part in parts {
            bytes.get_mut(len..len + part.len())?.copy_from_slice(part);
            len += part.len();
        }
        Some(Self { bytes, len: len as u8 })
    }

    /// The bytes as they stand in the coinbase.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Extranonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Extranonce({:02x?})", self.as_bytes())
    }
}

/// A coinbase transaction in two halves, serialised without witness (the form that its txid hashes), with room for an
/// extranonce between them.
#[derive(Clone)]
pub struct Coinbase {
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    extranonce_size: usize,
    hash: Gapped,
}

impl Coinbase {
    /// `extranonce_size` in bytes, at most [`Extranonce::MAX`].
    pub fn new(prefix: Vec<u8>, suffix: Vec<u8>, extranonce_size: usize) -> Self {
        debug_assert!(extranonce_size <= Extranonce::MAX);
        let hash = Gapped::new(&prefix, extranonce_size, &suffix);
        Self { prefix: prefix.into(), suffix: suffix.into(), extranonce_size, hash }
    }

    /// All that stands before the extranonce.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// All that stands behind the extranonce.
    pub fn suffix(&self) -> &[u8] {
        &self.suffix
    }

    /// How many bytes stand between the two.
    pub fn extranonce_size(&self) -> usize {
        self.extranonce_size
    }

    /// The txid with this extranonce. One of another size than was asked for is hashed as it is, which takes longer.
    pub fn txid(&self, extranonce: &Extranonce) -> Hash {
        let hash = self.hash.double(extranonce.as_bytes());
        hash.unwrap_or_else(|| sha256::double(&self.with(extranonce)))
    }

    /// The whole transaction without witness.
    pub fn with(&self, extranonce: &Extranonce) -> Vec<u8> {
        [&self.prefix, extranonce.as_bytes(), &self.suffix].concat()
    }
}

impl std::fmt::Debug for Coinbase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coinbase({} + {} + {} bytes)", self.prefix.len(), self.extranonce_size, self.suffix.len())
    }
}

/// What miners are asked to hash. Immutable; shared by `Arc` between all sessions of a payout class.
#[derive(Clone, Debug)]
pub struct Job {
    /// Block version with every bit of [`crate::check::VERSION_MASK`] clear, so that OR, XOR and BIP 310's
    /// combination agree (C-28).
    pub version: u32,
    /// Hash of the block to build on.
    pub prev_hash: Hash,
    /// The coinbase, of this payout class.
    pub coinbase: Coinbase,
    /// Siblings of the coinbase on the way up the merkle tree.
    pub branch: Box<[Hash]>,
    /// Earliest header time that the chain accepts: one second past the median of the last 11 blocks, or what the
    /// node says, in seconds since 1970.
    pub min_time: u32,
    /// Header time handed out, in seconds since 1970.
    pub time: u32,
    /// Network target in compact form, as it stands in the header.
    pub bits: u32,
    /// Network target: `bits` decoded.
    pub network_target: Target,
    /// Height of the block to be found.
    pub height: u32,
}

impl Job {
    /// The 80 bytes of the header that `submission` stands for.
    pub fn header(&self, submission: &crate::Submission) -> [u8; 80] {
        let root = sha256::fold(self.coinbase.txid(&submission.extranonce), &self.branch);
        let mut header = [0; 80];
        header[0..4].copy_from_slice(&submission.version.to_le_bytes());
        header[4..36].copy_from_slice(&self.prev_hash);
        header[36..68].copy_from_slice(&root);
        header[68..72].copy_from_slice(&submission.time.to_le_bytes());
        header[72..76].copy_from_slice(&self.bits.to_le_bytes());
        header[76..80].copy_from_slice(&submission.nonce.to_le_bytes());
        header
    }
}
