//! Encrypted frames: the header by itself, then the message in chunks.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{Error, MAC_SIZE};
use crate::v2::{Frame, Header, fits};

/// The most that is encrypted at once.
const CHUNK: usize = 0xffff - MAC_SIZE;
const SEALED_HEADER: usize = Header::SIZE + MAC_SIZE;

/// A key, and how often it was used.
pub(super) struct Cipher {
    /// Gone after an error. Kept as it is: what is made of it for a use is quickly made, and a dozen times as large.
    key: Option<[u8; 32]>,
    /// The number of the next use. Never the same twice for one key.
    next: u64,
}

impl Cipher {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { key: Some(key), next: 0 }
    }

    /// The key, and the nonce of this use; the last one, of 2^64 - 1, is never used.
    fn ready(&self) -> Result<(LessSafeKey, Nonce), Error> {
        if self.next == u64::MAX {
            return Err(Error::Exhausted);
        }
        let key = self.key.as_ref().ok_or(Error::Poisoned)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("such a key is any 32 bytes");
        Ok((LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce(self.next))))
    }

    /// Appends `plain` encrypted, bound to `data`.
    pub(super) fn seal(&mut self, data: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let (key, nonce) = self.ready()?;
        let begin = out.len();
        out.extend_from_slice(plain);
        match key.seal_in_place_separate_tag(nonce, Aad::from(data), &mut out[begin..]) {
            Ok(mac) => out.extend_from_slice(mac.as_ref()),
            Err(_) => {
                // Only for 256 GB at once. What is half done must not be sent.
                out.truncate(begin);
                self.key = None;
                return Err(Error::Exhausted);
            }
        }
        self.next += 1;
        Ok(())
    }

    /// Decrypts in place: the length of what was encrypted, which is at the front. After an error nothing more is
    /// decrypted.
    pub(super) fn open(&mut self, data: &[u8], sealed: &mut [u8]) -> Result<usize, Error> {
        let (key, nonce) = self.ready()?;
        let opened = key.open_in_place(nonce, Aad::from(data), sealed).ok().map(|plain| plain.len());
        match opened {
            Some(_) => self.next += 1,
            None => self.key = None,
        }
        opened.ok_or(Error::Forged)
    }
}

/// As Noise has it for this cipher.
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// Both directions of a connection after the handshake.
pub struct Transport {
    /// To the peer.
    pub sender: Sender,
    /// From the peer.
    pub receiver: Receiver,
}

impl Transport {
    pub(super) fn new(to_peer: Cipher, from_peer: Cipher) -> Self {
        let receiver = Receiver { cipher: from_peer, header: None, begun: Begun::default() };
        Self { sender: Sender(to_peer), receiver }
    }
}

/// Encrypts frames for the peer.
pub struct Sender(Cipher);

impl Sender {
    /// Appends `frames`, one or more whole frames one after the other, encrypted to `out`. After an error nothing is
    /// appended, and the connection is of no more use.
    pub fn seal(&mut self, frames: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let begin = out.len();
        self.seal_all(frames, out).inspect_err(|_| {
            out.truncate(begin);
            self.0.key = None;
        })
    }

    fn seal_all(&mut self, mut frames: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        while !frames.is_empty() {
            let (header, rest) = frames.split_first_chunk().ok_or(Error::NotFrames)?;
            let length = Header::parse(header).length as usize;
            let (payload, rest) = rest.split_at_checked(length).ok_or(Error::NotFrames)?;
            out.reserve(SEALED_HEADER + sealed(length));
            self.0.seal(&[], header, out)?;
            payload.chunks(CHUNK).try_for_each(|chunk| self.0.seal(&[], chunk, out))?;
            frames = rest;
        }
        Ok(())
    }
}

/// Takes encrypted frames off a stream, and decrypts them where they arrived. What arrives in pieces is kept until the
/// rest is there; nothing is kept between frames.
pub struct Receiver {
    cipher: Cipher,
    /// That of a message whose end has not arrived.
    header: Option<Header>,
    begun: Begun,
}

impl Receiver {
    /// Takes the next frame off the front of `arrived`. `None` if its end has not arrived; then `arrived` is empty.
    /// `limit`: the longest message, in bytes; what is longer is refused by its header alone. After an error the
    /// connection is of no more use.
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        arrived: &mut &'b mut [u8],
        limit: usize,
    ) -> Result<Option<Frame<'a>>, Error> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(header) = self.begun.take(arrived, SEALED_HEADER) else { return Ok(None) };
                self.cipher.open(&[], header)?;
                let header = header.first_chunk().expect("a header and its MAC");
                *self.header.insert(Header::parse(header))
            }
        };
        let length = fits(header, limit)?;
        let Some(payload) = self.begun.take(arrived, sealed(length)) else { return Ok(None) };
        self.header = None;
        let mut opened = 0;
        for begin in (0..payload.len()).step_by(CHUNK + MAC_SIZE) {
            let end = payload.len().min(begin + CHUNK + MAC_SIZE);
            let plain = self.cipher.open(&[], &mut payload[begin..end])?;
            payload.copy_within(begin..begin + plain, opened);
            opened += plain;
        }
        Ok(Some(Frame { header, payload: &payload[..length] }))
    }

    /// Whether the next byte is the first of a frame.
    pub fn is_between(&self) -> bool {
        self.header.is_none() && (self.begun.bytes.is_empty() || self.begun.is_given)
    }
}

/// Bytes of a message of `length` bytes when it is encrypted.
fn sealed(length: usize) -> usize {
    length + length.div_ceil(CHUNK) * MAC_SIZE
}

/// Something whose end has not arrived; or else what was given out last.
#[derive(Default)]
struct Begun {
    bytes: Vec<u8>,
    is_given: bool,
}

impl Begun {
    /// The next `size` bytes of the stream, if they are there. Otherwise what there is of them is kept.
    fn take<'a, 'b: 'a>(&'a mut self, arrived: &mut &'b mut [u8], size: usize) -> Option<&'a mut [u8]> {
        if self.is_given {
            // Not kept: most connections send their next message much later, and in one piece.
            *self = Self::default();
        }
        let missing = (size - self.bytes.len()).min(arrived.len());
        let (front, rest) = std::mem::take(arrived).split_at_mut(missing);
        *arrived = rest;
        if front.len() == size {
            return Some(front);
        }
        self.bytes.extend_from_slice(front);
        self.is_given = self.bytes.len() == size;
        self.is_given.then_some(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests;
