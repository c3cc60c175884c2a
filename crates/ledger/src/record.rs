//! What stands in the spool, to the byte.
//!
//! A segment is a row of slots of 64 bytes. A record takes one slot or several: kind (u8), length of the payload
//! (u24), CRC-32 of those four bytes and the payload (u32), payload, zeroes up to the end of the last slot. Numbers are
//! little-endian. A share fills exactly one slot, so a damaged one costs itself only: a reader goes on with the next
//! slot.
//!
//! A payload that runs into further slots is text without control characters, and kinds are below 0x20. So no slot in
//! the middle of a record looks like the beginning of one, whatever a miner calls its machine.

use serde::{Deserialize, Serialize};
use share::Hash;

use crate::WorkerId;

/// Bytes in a slot.
pub const SLOT: usize = 64;
/// Bytes before the payload.
const HEADER: usize = 8;
/// The most work that one record may claim: far above any target that is mined at, far below what makes a sum
/// overflow.
const MAX_WORK: u128 = 1 << 96;

/// One accepted share. 64 bytes in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareRecord {
    /// When it was accepted, milliseconds since 1970.
    pub time_ms: u64,
    /// Who mined it.
    pub worker: WorkerId,
    /// Work of the target that its job was given with; at most 2^96.
    pub work: u128,
    /// Height of the block it was meant for.
    pub height: u32,
    /// Network target at that time, in compact form.
    pub bits: u32,
    /// First 8 bytes of its hash, little-endian: enough to name it.
    pub hash_tag: u64,
}

/// Submissions of one worker that earned nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectRecord {
    /// When they were counted, milliseconds since 1970.
    pub time_ms: u64,
    /// Who sent them.
    pub worker: WorkerId,
    /// How many.
    pub count: u64,
}

/// A hash that meets the network target: recorded before the block is handed to any node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// When, milliseconds since 1970.
    pub time_ms: u64,
    /// Who mined it.
    pub worker: WorkerId,
    /// Hash of the block, internal order.
    pub hash: Hash,
    /// The block it builds on, internal order.
    pub prev_hash: Hash,
    /// Its height.
    pub height: u32,
    /// Network target, in compact form.
    pub bits: u32,
    /// Txid of the coinbase, internal order.
    pub coinbase_txid: Hash,
    /// What the coinbase pays in all, satoshi.
    pub value_sats: u64,
    /// What it pays to whom: script, satoshi.
    pub outputs: Vec<(Vec<u8>, u64)>,
    /// What its job was made of; `None` in records of versions that did not say it.
    pub origin: Option<Origin>,
}

/// What a job was made of, as the ledger numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The terms.
    pub terms: i64,
    /// Where the coinbase pays the miners of a window: which window.
    pub split: Option<SplitId>,
}

/// Names a window: the same one always gives the same weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitId {
    /// Its newest slot, which is closed.
    pub slot: i64,
    /// The network target that it is measured with, compact form.
    pub bits: u32,
}

/// A record that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The first record of every segment.
    Segment(Segment),
    /// `address.name`; stands before the first share of that worker in the segment.
    Worker(String),
    Share(ShareRecord),
    Rejects(RejectRecord),
    Found(Box<Found>),
}

impl Entry {
    /// The record as it stands in the spool.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Segment(segment) => segment.write(&mut bytes),
            Self::Worker(identity) => write_worker(identity, &mut bytes),
            Self::Share(share) => share.write(&mut bytes),
            Self::Rejects(rejects) => rejects.write(&mut bytes),
            Self::Found(found) => found.write(&mut bytes),
        }
        bytes
    }
}

/// Says which segment this is, so that a file under a wrong name is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub spool: [u8; 16],
    pub writer: u16,
    pub sequence: u64,
    pub created_ms: u64,
}

/// What a reader finds at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A record of `size` bytes, padding included.
    Entry { entry: Entry, size: usize },
    /// A record of `size` bytes that is as it was written, but makes no sense to us.
    Refused { reason: &'static str, size: usize },
    /// A record that needs `size` bytes, unless its header is damaged.
    Short { size: usize },
    /// Not a record: go on with the next slot.
    Damaged,
}

const SEGMENT: u8 = 1;
const WORKER: u8 = 2;
const SHARE: u8 = 3;
const REJECTS: u8 = 4;
const FOUND: u8 = 5;

/// The longest payload of any record. Bounds what a damaged length can make a reader read.
pub(crate) const MAX_PAYLOAD: usize = 1 << 20;

impl ShareRecord {
    /// Appends the record.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        frame(out, SHARE, |out| {
            out.extend(self.time_ms.to_le_bytes());
            out.extend(self.worker.0);
            out.extend(self.work.to_le_bytes());
            out.extend(self.height.to_le_bytes());
            out.extend(self.bits.to_le_bytes());
            out.extend(self.hash_tag.to_le_bytes());
        });
    }
}

impl RejectRecord {
    /// Appends the record.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        frame(out, REJECTS, |out| {
            out.extend(self.time_ms.to_le_bytes());
            out.extend(self.worker.0);
            out.extend(self.count.to_le_bytes());
        });
    }
}

impl Segment {
    /// Appends the record.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        frame(out, SEGMENT, |out| {
            out.extend(self.spool);
            out.extend(self.writer.to_le_bytes());
            out.extend(self.sequence.to_le_bytes());
            out.extend(self.created_ms.to_le_bytes());
        });
    }
}

impl Found {
    /// The most outputs that are recorded; a coinbase with more would not fit into what miners take.
    pub const MAX_OUTPUTS: usize = 4_096;

    /// Appends the record.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let outputs = self.outputs.iter().take(Self::MAX_OUTPUTS);
        let text = FoundText {
            time_ms: self.time_ms,
            worker: hex::encode(self.worker.0),
            hash: hex::encode(self.hash),
            prev_hash: hex::encode(self.prev_hash),
            height: self.height,
            bits: self.bits,
            coinbase_txid: hex::encode(self.coinbase_txid),
            value_sats: self.value_sats,
            outputs: outputs.map(|(script, sats)| (hex::encode(script), *sats)).collect(),
            origin: self.origin,
        };
        // Strings and integers always have a JSON form.
        let json = serde_json::to_vec(&text).unwrap_or_default();
        frame(out, FOUND, |out| out.extend(json));
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let text: FoundText = serde_json::from_slice(payload).ok()?;
        let hash = |hex: &str| Hash::try_from(hex::decode(hex).ok()?).ok();
        let outputs = text.outputs.iter().map(|(script, sats)| Some((hex::decode(script).ok()?, *sats)));
        Some(Self {
            time_ms: text.time_ms,
            worker: WorkerId(<[u8; 16]>::try_from(hex::decode(&text.worker).ok()?).ok()?),
            hash: hash(&text.hash)?,
            prev_hash: hash(&text.prev_hash)?,
            height: text.height,
            bits: text.bits,
            coinbase_txid: hash(&text.coinbase_txid)?,
            value_sats: text.value_sats,
            outputs: outputs.collect::<Option<_>>()?,
            origin: text.origin,
        })
    }
}

/// [`Found`] as text: see the top of this file for why. Hex is in internal order.
#[derive(Serialize, Deserialize)]
struct FoundText {
    time_ms: u64,
    worker: String,
    hash: String,
    prev_hash: String,
    height: u32,
    bits: u32,
    coinbase_txid: String,
    value_sats: u64,
    outputs: Vec<(String, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
}

/// Appends a worker's identity, `address.name`.
pub(crate) fn write_worker(identity: &str, out: &mut Vec<u8>) {
    frame(out, WORKER, |out| out.extend(identity.as_bytes()));
}

fn frame(out: &mut Vec<u8>, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
    payload(out);
    // The writers above keep below MAX_PAYLOAD.
    let length = ((out.len() - start - HEADER) as u32).to_le_bytes();
    out[start + 1..start + 4].copy_from_slice(&length[..3]);
    let crc = checksum(&out[start..start + 4], &out[start + HEADER..]);
    out[start + 4..start + HEADER].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + padded(out.len() - start), 0);
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(payload);
    crc.finalize()
}

fn padded(size: usize) -> usize {
    size.div_ceil(SLOT) * SLOT
}

/// Looks for a record at the beginning of `bytes`. Never fails in any other way than [`Reading`] says.
pub(crate) fn read(bytes: &[u8]) -> Reading {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Reading::Short { size: SLOT };
    };
    let [kind, l0, l1, l2, c0, c1, c2, c3] = *header;
    let length = u32::from_le_bytes([l0, l1, l2, 0]) as usize;
    if kind == 0 || kind >= 0x20 || length > MAX_PAYLOAD {
        return Reading::Damaged;
    }
    let size = padded(HEADER + length);
    let Some(payload) = rest.get(..length).filter(|_| bytes.len() >= size) else {
        return Reading::Short { size };
    };
    if checksum(&[kind, l0, l1, l2], payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Reading::Damaged;
    }
    match parse(kind, payload) {
        Ok(entry) => Reading::Entry { entry, size },
        Err(reason) => Reading::Refused { reason, size },
    }
}

/// Whether `bytes`, from the beginning of a slot on, may have been a found block before they were damaged: a slot has its kind,
/// or there is something of its text.
pub(crate) fn may_be_found(bytes: &[u8]) -> bool {
    const TEXT: [&[u8]; 4] = [b"\"prev_hash\":", b"\"coinbase_txid\":", b"\"value_sats\":", b"\"outputs\":"];
    bytes.chunks(SLOT).any(|slot| slot.first() == Some(&FOUND))
        || TEXT.iter().any(|words| bytes.windows(words.len()).any(|at| at == *words))
}

fn parse(kind: u8, payload: &[u8]) -> Result<Entry, &'static str> {
    let mut fields = Fields(payload);
    match kind {
        SEGMENT => fields.segment().map(Entry::Segment).ok_or("segment header of another length"),
        WORKER => std::str::from_utf8(payload)
            .ok()
            .filter(|text| text.contains('.') && text.len() <= 1_024 && !text.contains(char::is_control))
            .map(|text| Entry::Worker(text.to_owned()))
            .ok_or("worker that is not address.name"),
        SHARE => {
            let share = fields.share().ok_or("share of another length")?;
            let fits = share.work > 0 && share.work <= MAX_WORK && i64::try_from(share.time_ms).is_ok();
            fits.then_some(Entry::Share(share)).ok_or("share with impossible work or time")
        }
        REJECTS => {
            let rejects = fields.rejects().ok_or("rejects of another length")?;
            let fits = rejects.count <= 1 << 48 && i64::try_from(rejects.time_ms).is_ok();
            fits.then_some(Entry::Rejects(rejects)).ok_or("rejects with impossible count or time")
        }
        FOUND => {
            let found = Found::read(payload).ok_or("found block that does not parse")?;
            // 21 million coins in millisatoshi fit into an i64; so does what outputs of them sum to.
            let most = 21_000_000 * 100_000_000;
            let paid = found.outputs.iter().fold(0u64, |sum, (_, sats)| sum.saturating_add(*sats));
            let fits = found.value_sats <= most && paid <= most && i64::try_from(found.time_ms).is_ok();
            fits.then(|| Entry::Found(Box::new(found))).ok_or("found block with impossible value or time")
        }
        _ => Err("record of a kind that this version does not know"),
    }
}

/// Reads fixed fields off the front; `None` once the bytes are at an end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }

    fn segment(&mut self) -> Option<Segment> {
        let segment = Segment {
            spool: self.take()?,
            writer: u16::from_le_bytes(self.take()?),
            sequence: u64::from_le_bytes(self.take()?),
            created_ms: u64::from_le_bytes(self.take()?),
        };
        self.end(segment)
    }

    fn share(&mut self) -> Option<ShareRecord> {
        let share = ShareRecord {
            time_ms: u64::from_le_bytes(self.take()?),
            worker: WorkerId(self.take()?),
            work: u128::from_le_bytes(self.take()?),
            height: u32::from_le_bytes(self.take()?),
            bits: u32::from_le_bytes(self.take()?),
            hash_tag: u64::from_le_bytes(self.take()?),
        };
        self.end(share)
    }

    fn rejects(&mut self) -> Option<RejectRecord> {
        let rejects = RejectRecord {
            time_ms: u64::from_le_bytes(self.take()?),
            worker: WorkerId(self.take()?),
            count: u64::from_le_bytes(self.take()?),
        };
        self.end(rejects)
    }
}

#[cfg(test)]
mod tests;
