//! Proofs that miners check by themselves: that a share is in the books, and that a block was divided as the books say.
//!
//! The shares of a segment are the leaves of a Merkle tree, in their order: leaf `SHA-256(0x00 || record)`, node
//! `SHA-256(0x01 || left || right)`, and a node without a sibling goes up a level as it is, so that each count of leaves
//! has a tree of its own shape (RFC 9162, 2.1). A tree without leaves has the root `SHA-256("")`. The roots form a
//! chain: see [`Seal`]. Who has kept one link of the chain notices if anything before it is changed.

use std::io::Read as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use share::{Hash, Work};

use crate::{
    ShareRecord, WorkerId,
    record::{self, Entry, Reading, SLOT},
};

mod division;
mod slot;

pub use division::{MinerWeight, Weights};
pub use slot::{MinerRates, RateWork, SlotFeeBlock, SlotRates};

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It is not what the pool gives out.
    #[error("the proof is damaged: {0}")]
    Malformed(String),
    /// The share is not under the root.
    #[error("the share is not in segment {0}: its path does not lead to the root")]
    NotUnderRoot(u64),
    /// The segment's link does not follow from what it says.
    #[error(
        "segment {0} is not what its link of the chain says: root, numbers or the link before were changed"
    )]
    NotInChain(u64),
    /// Two segments that do not follow each other.
    #[error("the chain is broken between segments {0} and {1}")]
    Broken(u64, u64),
    /// The published list says otherwise.
    #[error("segment {0} of the proof is not segment {0} of the list")]
    OtherSegment(u64),
    /// The list does not have it.
    #[error("segment {0} is not in the list; download the page that has it")]
    NotListed(u64),
    /// The weights do not give what is said.
    #[error("the division of the block is wrong: {0}")]
    Division(String),
    /// The work does not give what is said.
    #[error("what slot {0} has paid is wrong: {1}")]
    Slot(i64, String),
    /// Larger than a segment can be.
    #[error(
        "segment {0} is said to have {1} bytes, more than any segment has: the proof is damaged, or not of this pool"
    )]
    TooLarge(u64, u64),
}

/// A closed segment as it is published: what was in it, and its link of the chain. Hashes are hex in the order of their
/// bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Counts up from 1 in the order in which the segments were finished.
    pub sequence: u64,
    /// Name of its file: writer, and number of the segment.
    pub name: String,
    /// Id of the spool that it is of.
    pub spool: String,
    /// Shares in it.
    pub shares: u64,
    /// Their work, decimal.
    pub work: String,
    /// Time of the oldest share, milliseconds since 1970; 0 if there is none.
    pub first_ms: u64,
    /// Time of the newest share.
    pub last_ms: u64,
    /// Bytes of its records.
    pub bytes: u64,
    /// Root of the Merkle tree over its shares.
    pub root: String,
    /// The link before; zeroes for the first.
    pub previous: String,
    /// Its link of the chain.
    pub chain: String,
}

/// That a share is in a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareProof {
    /// The segment.
    pub segment: Seal,
    /// Which of its shares, from 0.
    pub position: u64,
    /// The record as it stands in the segment: 64 bytes in hex.
    pub record: String,
    /// The siblings from the leaf up, hex.
    pub path: Vec<String>,
}

/// What the records of a segment come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digested {
    pub shares: u64,
    pub work: Work,
    pub first_ms: u64,
    pub last_ms: u64,
    pub bytes: u64,
    pub root: Hash,
}

/// Which segment of which spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub spool: [u8; 16],
    pub writer: u16,
    pub segment: u64,
}

/// The leaf of a share's record.
pub(crate) fn leaf(record: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(record).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

fn level_above(level: &[Hash]) -> Vec<Hash> {
    let above = level.chunks(2).map(|pair| match pair {
        [left, right] => node(left, right),
        rest => rest.first().copied().unwrap_or_default(),
    });
    above.collect()
}

/// The root over `leaves`.
pub(crate) fn root(mut leaves: Vec<Hash>) -> Hash {
    while leaves.len() > 1 {
        leaves = level_above(&leaves);
    }
    leaves.first().copied().unwrap_or_else(|| Sha256::digest([]).into())
}

/// The siblings from leaf `index` up.
pub(crate) fn path(mut level: Vec<Hash>, mut index: usize) -> Vec<Hash> {
    let mut path = Vec::new();
    while level.len() > 1 {
        path.extend(level.get(index ^ 1));
        level = level_above(&level);
        index /= 2;
    }
    path
}

/// Where `path` leads from leaf `index` of `count`; nowhere if it is not of their shape.
fn climb(leaf: Hash, index: u64, count: u64, path: &[Hash]) -> Option<Hash> {
    let (mut at, mut last, mut hash) = (index, count.checked_sub(1)?, leaf);
    if at > last {
        return None;
    }
    let mut siblings = path.iter();
    while last > 0 {
        if at % 2 == 1 {
            hash = node(siblings.next()?, &hash);
        } else if at < last {
            hash = node(&hash, siblings.next()?);
        }
        (at, last) = (at / 2, last / 2);
    }
    siblings.next().is_none().then_some(hash)
}

/// The records of a segment: where each begins, its bytes, and what it says. What is no record is passed over.
pub(crate) fn entries(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8], Entry)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            let begin = at;
            match record::read(rest) {
                Reading::Entry { entry, size } => {
                    at += size;
                    return Some((begin, rest.get(..size)?, entry));
                }
                Reading::Refused { size, .. } => at += size,
                Reading::Short { .. } | Reading::Damaged => at += SLOT,
            }
        }
    })
}

/// The records of the segment `name`; none if the file is of another.
pub(crate) fn entries_of(bytes: &[u8], name: Name) -> impl Iterator<Item = (usize, &[u8], Entry)> {
    let is_named = match entries(bytes).next() {
        Some((0, _, Entry::Segment(head))) => {
            (head.spool, head.writer, head.sequence) == (name.spool, name.writer, name.segment)
        }
        // A head that is damaged says nothing; the records behind it are read all the same.
        _ => true,
    };
    entries(if is_named { bytes } else { &[] })
}

impl Digested {
    /// Of the segment `name`.
    pub fn of(bytes: &[u8], name: Name) -> Self {
        let (mut leaves, mut work) = (Vec::new(), 0);
        let (mut first_ms, mut last_ms) = (u64::MAX, 0);
        for (_, record, entry) in entries_of(bytes, name) {
            let Entry::Share(share) = entry else { continue };
            leaves.push(leaf(record));
            work = share.work.saturating_add(work);
            first_ms = first_ms.min(share.time_ms);
            last_ms = last_ms.max(share.time_ms);
        }
        let shares = leaves.len() as u64;
        let first_ms = if shares == 0 { 0 } else { first_ms };
        Self { shares, work, first_ms, last_ms, bytes: bytes.len() as u64, root: root(leaves) }
    }
}

impl Name {
    /// `WWWWW-EEEEEEEENNNNNNNN`: as its file is called.
    pub fn shown(&self) -> String {
        format!("{:05}-{:016x}", self.writer, self.segment)
    }

    fn parse(spool: &str, name: &str) -> Option<Self> {
        let (writer, segment) = name.split_once('-')?;
        let parsed = Self {
            spool: hex::decode(spool).ok()?.try_into().ok()?,
            writer: writer.parse().ok()?,
            segment: u64::from_str_radix(segment, 16).ok()?,
        };
        (parsed.shown() == name).then_some(parsed)
    }
}

impl Seal {
    /// No segment is larger, in bytes: many times what the pool makes one of, and little enough to be read into memory.
    pub const MOST_BYTES: u64 = 512 << 20;

    /// The seal of a segment behind the link `previous`.
    #[cfg(test)]
    pub(crate) fn new(sequence: u64, name: Name, digested: &Digested, previous: Hash) -> Self {
        let chain = Self::link(sequence, name, digested, previous);
        Self {
            sequence,
            name: name.shown(),
            spool: hex::encode(name.spool),
            shares: digested.shares,
            work: digested.work.to_string(),
            first_ms: digested.first_ms,
            last_ms: digested.last_ms,
            bytes: digested.bytes,
            root: hex::encode(digested.root),
            previous: hex::encode(previous),
            chain: hex::encode(chain),
        }
    }

    /// Which segment it is of.
    pub(crate) fn name(&self) -> Option<Name> {
        Name::parse(&self.spool, &self.name)
    }

    /// Whether `chain` is the link that follows from the rest: SHA-256 over `sluice segment 1`, the link before, and in
    /// little-endian sequence (u64), spool (16 bytes), writer (u16), number (u64), shares (u64), work (u128), first and
    /// last time (u64), bytes (u64), and the root.
    ///
    /// # Errors
    /// If it is not, or if something is no number or hash.
    pub fn check(&self) -> Result<(), ProofError> {
        let wrong = |what: &str| ProofError::Malformed(format!("the {what} of segment {}", self.sequence));
        let name = Name::parse(&self.spool, &self.name).ok_or_else(|| wrong("name"))?;
        let digested = Digested {
            shares: self.shares,
            work: self.work.parse().map_err(|_| wrong("work"))?,
            first_ms: self.first_ms,
            last_ms: self.last_ms,
            bytes: self.bytes,
            root: hash(&self.root).ok_or_else(|| wrong("root"))?,
        };
        let previous = hash(&self.previous).ok_or_else(|| wrong("link before"))?;
        let follows = hex::encode(Self::link(self.sequence, name, &digested, previous)) == self.chain;
        follows.then_some(()).ok_or(ProofError::NotInChain(self.sequence))
    }

    /// The link of a segment: see [`Self::check`].
    pub(crate) fn link(sequence: u64, name: Name, digested: &Digested, previous: Hash) -> Hash {
        Sha256::new()
            .chain_update(b"sluice segment 1")
            .chain_update(previous)
            .chain_update(sequence.to_le_bytes())
            .chain_update(name.spool)
            .chain_update(name.writer.to_le_bytes())
            .chain_update(name.segment.to_le_bytes())
            .chain_update(digested.shares.to_le_bytes())
            .chain_update(digested.work.to_le_bytes())
            .chain_update(digested.first_ms.to_le_bytes())
            .chain_update(digested.last_ms.to_le_bytes())
            .chain_update(digested.bytes.to_le_bytes())
            .chain_update(digested.root)
            .finalize()
            .into()
    }

    /// [`Self::check_file`] of a file as the pool keeps it: zstd, of no more than the seal's bytes.
    ///
    /// # Errors
    /// If it has others, cannot be unpacked, or is larger than [`Seal::MOST_BYTES`].
    pub fn check_packed(&self, packed: &[u8]) -> Result<(), ProofError> {
        if self.bytes > Self::MOST_BYTES {
            return Err(ProofError::TooLarge(self.sequence, self.bytes));
        }
        let mut bytes = Vec::new();
        let unpacked = zstd::Decoder::new(packed)
            .and_then(|decoder| decoder.take(self.bytes.saturating_add(1)).read_to_end(&mut bytes));
        unpacked.map_err(|error| ProofError::Malformed(format!("the file cannot be unpacked: {error}")))?;
        self.check_file(&bytes)
    }

    /// Whether `bytes`, the segment's file, has the shares of the seal.
    ///
    /// # Errors
    /// If it has others.
    pub fn check_file(&self, bytes: &[u8]) -> Result<(), ProofError> {
        let name = Name::parse(&self.spool, &self.name);
        let name = name.ok_or_else(|| ProofError::Malformed("the name of the segment".into()))?;
        let digested = Digested::of(bytes, name);
        let same = hex::encode(digested.root) == self.root && digested.shares == self.shares;
        same.then_some(()).ok_or(ProofError::OtherSegment(self.sequence))
    }
}

/// Whether `seals`, ascending, are a piece of one chain.
///
/// # Errors
/// The first place where they are not.
pub fn check_chain(seals: &[Seal]) -> Result<(), ProofError> {
    seals.iter().try_for_each(Seal::check)?;
    for pair in seals.windows(2) {
        let [before, after] = pair else { continue };
        if after.sequence != before.sequence + 1 || after.previous != before.chain {
            return Err(ProofError::Broken(before.sequence, after.sequence));
        }
    }
    let first = seals.first().filter(|seal| seal.sequence == 1);
    match first {
        Some(seal) if hash(&seal.previous) != Some([0; 32]) => Err(ProofError::Broken(0, 1)),
        _ => Ok(()),
    }
}

impl ShareProof {
    /// The share that this proves to be in its segment, and the segment to be what its link of the chain says.
    ///
    /// # Errors
    /// If it proves nothing.
    pub fn check(&self) -> Result<ShareRecord, ProofError> {
        let record = hex::decode(&self.record).unwrap_or_default();
        let share = match record::read(&record) {
            Reading::Entry { entry: Entry::Share(share), size } if size == record.len() => share,
            _ => return Err(ProofError::Malformed("the record is not that of a share".into())),
        };
        let path: Option<Vec<Hash>> = self.path.iter().map(|text| hash(text)).collect();
        let path = path.ok_or_else(|| ProofError::Malformed("the path is not made of hashes".into()))?;
        let top = climb(leaf(&record), self.position, self.segment.shares, &path);
        if top.is_none() || top != hash(&self.segment.root) {
            return Err(ProofError::NotUnderRoot(self.segment.sequence));
        }
        self.segment.check()?;
        Ok(share)
    }

    /// Whether the segment is the one that `seals` has under its sequence.
    ///
    /// # Errors
    /// If it is another, or none.
    pub fn check_listed(&self, seals: &[Seal]) -> Result<(), ProofError> {
        let sequence = self.segment.sequence;
        match seals.iter().find(|seal| seal.sequence == sequence) {
            Some(seal) if *seal == self.segment => Ok(()),
            Some(_) => Err(ProofError::OtherSegment(sequence)),
            None => Err(ProofError::NotListed(sequence)),
        }
    }
}

/// Whether the share is that of `address.name`.
pub fn is_of(share: &ShareRecord, identity: &str) -> bool {
    share.worker == WorkerId::of(identity)
}

fn hash(text: &str) -> Option<Hash> {
    hex::decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests;
