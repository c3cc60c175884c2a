//! What stands around every message: six bytes that say its type and length.

use super::{
    message::Message,
    wire::{Field, Reader, TooLong},
};

/// The first six bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The extension that the message belongs to, 0 for the protocols themselves; its highest bit is set when the
    /// message is for one channel.
    pub extension_type: u16,
    /// Which message of that extension.
    pub msg_type: u8,
    /// Bytes of the message, below 2^24, as they are without encryption.
    pub length: u32,
}

impl Header {
    /// Bytes of a header.
    pub const SIZE: usize = 6;
    /// The longest message that a header can announce, in bytes.
    pub const MAX_LENGTH: usize = 0xff_ffff;
    /// The bit of `extension_type` that says that the message begins with the number of its channel.
    pub const CHANNEL_BIT: u16 = 0x8000;

    /// Reads six bytes; all of them mean something.
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Self {
        let &[a, b, msg_type, c, d, e] = bytes;
        let length = u32::from_le_bytes([c, d, e, 0]);
        Self { extension_type: u16::from_le_bytes([a, b]), msg_type, length }
    }

    /// The six bytes.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let [a, b] = self.extension_type.to_le_bytes();
        let [c, d, e, _] = self.length.to_le_bytes();
        [a, b, self.msg_type, c, d, e]
    }

    /// The extension that the message belongs to, whether or not it is for one channel: old firmware sets that bit
    /// where it does not belong.
    pub fn extension(self) -> u16 {
        self.extension_type & !Self::CHANNEL_BIT
    }
}

/// A message with its type, as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Says what `payload` is.
    pub header: Header,
    /// The message, and behind it whatever extensions add.
    pub payload: &'a [u8],
}

/// A peer announces a message that is longer than may come from it now: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {length} bytes where at most {limit} are expected")]
pub struct Oversized {
    /// Bytes of the message, by its header.
    pub length: usize,
    /// The limit in force, in bytes.
    pub limit: usize,
}

impl<'a> Frame<'a> {
    /// Takes the next frame off the front of `arrived`, which is not encrypted. `None` if its end has not arrived, and
    /// `arrived` is as before. `limit`: the longest message, in bytes; what is longer is refused by its header alone.
    pub fn next(arrived: &mut &'a [u8], limit: usize) -> Result<Option<Self>, Oversized> {
        let Some((header, rest)) = arrived.split_first_chunk() else { return Ok(None) };
        let header = Header::parse(header);
        let length = fits(header, limit)?;
        let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        *arrived = rest;
        Ok(Some(Self { header, payload }))
    }
}

/// The length of the message in bytes, if it is within `limit`.
pub(crate) fn fits(header: Header, limit: usize) -> Result<usize, Oversized> {
    let length = header.length as usize;
    if length > limit { Err(Oversized { length, limit }) } else { Ok(length) }
}

/// Appends the frame of `message`. Does not compile for one that may be longer than a frame: see [`encode_long`].
pub fn encode<'a, M: Message<'a>>(message: &M, out: &mut Vec<u8>) {
    const { assert!(M::MAX <= Header::MAX_LENGTH, "this message may be longer than a frame") };
    write(message, &[], out).expect("no longer than the longest of its kind");
}

/// Appends the frame of `message`, of whatever kind; nothing if it is too long for a frame.
pub fn encode_long<'a, M: Message<'a>>(message: &M, out: &mut Vec<u8>) -> Result<(), TooLong> {
    write(message, &[], out)
}

/// `tail`: what extensions add.
pub(super) fn write<'a, M: Message<'a>>(message: &M, tail: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
    let begin = out.len();
    let extension_type = M::EXTENSION | if M::IS_FOR_CHANNEL { Header::CHANNEL_BIT } else { 0 };
    out.extend_from_slice(&[0; Header::SIZE]);
    message.write(out);
    out.extend_from_slice(tail);
    let length = out.len() - begin - Header::SIZE;
    if length > Header::MAX_LENGTH {
        out.truncate(begin);
        return Err(TooLong { length, limit: Header::MAX_LENGTH });
    }
    let header = Header { extension_type, msg_type: M::TYPE, length: length as u32 };
    out[begin..begin + Header::SIZE].copy_from_slice(&header.to_bytes());
    Ok(())
}

/// The number at the front of a message, which is its channel if the message is for one.
pub fn channel_id(payload: &[u8]) -> Option<u32> {
    u32::read(&mut Reader(payload)).ok()
}
