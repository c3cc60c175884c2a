//! The two messages that end in a [`Transport`]: the client's key in the clear; the server's key of this connection in
//! the clear, then its static key and certificate, encrypted.

use secp256k1::{
    SecretKey,
    ellswift::{ElligatorSwift, Party},
};
use sha2::{Digest, Sha256};

use super::{
    AuthorityPublicKey, Certificate, ELLSWIFT_SIZE, Error, Identity, MAC_SIZE, StaticKey, Transport,
    transport::Cipher,
};

/// Bytes of the server's message.
pub const RESPONSE_SIZE: usize = ELLSWIFT_SIZE + SEALED_KEY + SEALED_CERTIFICATE;

const SEALED_KEY: usize = ELLSWIFT_SIZE + MAC_SIZE;
const SEALED_CERTIFICATE: usize = Certificate::SIZE + MAC_SIZE;
const NAME: &[u8] = b"Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256";

/// A message of the handshake that is arriving: of [`ELLSWIFT_SIZE`] bytes at a server, [`RESPONSE_SIZE`] at a client.
pub struct Arriving<const SIZE: usize> {
    bytes: [u8; SIZE],
    count: usize,
}

impl<const SIZE: usize> Default for Arriving<SIZE> {
    fn default() -> Self {
        Self { bytes: [0; SIZE], count: 0 }
    }
}

impl<const SIZE: usize> Arriving<SIZE> {
    /// Takes what belongs to the message off the front of `arrived`. The message, once it is whole.
    pub fn take(&mut self, arrived: &mut &mut [u8]) -> Option<&[u8; SIZE]> {
        let missing = (SIZE - self.count).min(arrived.len());
        let (front, rest) = std::mem::take(arrived).split_at_mut(missing);
        self.bytes[self.count..][..missing].copy_from_slice(front);
        self.count += missing;
        *arrived = rest;
        (self.count == SIZE).then_some(&self.bytes)
    }
}

/// The server's side, all of it: appends the answer to what the client began with to `out`. `entropy`: for the key of
/// this connection.
pub fn respond(
    identity: &Identity,
    first: &[u8; ELLSWIFT_SIZE],
    entropy: &[u8; 64],
    out: &mut Vec<u8>,
) -> Result<Transport, Error> {
    let Identity { key, certificate } = identity;
    let theirs = ElligatorSwift::from_byte_array(*first);
    let secret = |ours: &StaticKey| {
        ElligatorSwift::shared_secret(theirs, ours.ellswift, ours.secret, Party::Responder).to_secret_bytes()
    };
    let ephemeral = StaticKey::new(entropy)?;
    let mut state = Symmetric::new(first);

    out.reserve(RESPONSE_SIZE);
    let ellswift = ephemeral.ellswift.to_byte_array();
    state.mix_hash(&ellswift);
    out.extend_from_slice(&ellswift);
    let mut cipher = state.mix_key(&secret(&ephemeral));
    state.seal(&mut cipher, &key.ellswift.to_byte_array(), out)?;
    let mut cipher = state.mix_key(&secret(key));
    state.seal(&mut cipher, &certificate.to_bytes(), out)?;

    let (from_client, from_server) = state.split();
    Ok(Transport::new(from_server, from_client))
}

/// The client's side, which has begun and waits for [`RESPONSE_SIZE`] bytes.
pub struct Initiator {
    key: StaticKey,
}

impl Initiator {
    /// `entropy`: for the key of this connection.
    pub fn new(entropy: &[u8; 64]) -> Result<Self, Error> {
        Ok(Self { key: StaticKey::new(entropy)? })
    }

    /// What the server is to be sent first.
    pub fn first(&self) -> [u8; ELLSWIFT_SIZE] {
        self.key.ellswift.to_byte_array()
    }

    /// Takes what the server answered. `authority`: who must have certified the server; `None` takes anybody.
    pub fn finish(
        self,
        response: &[u8; RESPONSE_SIZE],
        authority: Option<&AuthorityPublicKey>,
        now: u32,
    ) -> Result<Transport, Error> {
        let mut state = Symmetric::new(&self.first());
        let (ephemeral, sealed) = split::<ELLSWIFT_SIZE>(response);
        let (sealed_key, sealed_certificate) = split::<SEALED_KEY>(sealed);
        state.mix_hash(&ephemeral);
        let mut cipher = state.mix_key(&self.secret(ephemeral));
        let key = state.open::<ELLSWIFT_SIZE>(&mut cipher, &sealed_key)?;
        let mut cipher = state.mix_key(&self.secret(key));
        let certificate = state.open(&mut cipher, sealed_certificate)?;
        Certificate::from_bytes(&certificate).verify(key, authority, now)?;
        let (from_client, from_server) = state.split();
        Ok(Transport::new(from_client, from_server))
    }

    fn secret(&self, theirs: [u8; ELLSWIFT_SIZE]) -> [u8; 32] {
        let theirs = ElligatorSwift::from_byte_array(theirs);
        let secret: SecretKey = self.key.secret;
        ElligatorSwift::shared_secret(self.key.ellswift, theirs, secret, Party::Initiator).to_secret_bytes()
    }
}

fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let (front, rest) = bytes.split_first_chunk().expect("the response is made of these parts");
    (*front, rest)
}

/// What both sides make of all that was said: a hash of it, which every ciphertext is bound to, and the key of keys.
struct Symmetric {
    hash: [u8; 32],
    chaining: [u8; 32],
}

impl Symmetric {
    /// After the client's message, whose payload is empty, and not encrypted, since there is no key yet.
    fn new(first: &[u8; ELLSWIFT_SIZE]) -> Self {
        let name: [u8; 32] = Sha256::digest(NAME).into();
        let mut state = Self { hash: name, chaining: name };
        state.hash = Sha256::digest(name).into();
        state.mix_hash(first);
        state.mix_hash(&[]);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = Sha256::new().chain_update(self.hash).chain_update(data).finalize().into();
    }

    /// The cipher for what follows until the next key is mixed in.
    fn mix_key(&mut self, secret: &[u8; 32]) -> Cipher {
        let (chaining, key) = hkdf(&self.chaining, secret);
        self.chaining = chaining;
        Cipher::new(key)
    }

    /// Appends `plain` encrypted.
    fn seal(&mut self, cipher: &mut Cipher, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let begin = out.len();
        cipher.seal(&self.hash, plain, out)?;
        self.mix_hash(&out[begin..]);
        Ok(())
    }

    fn open<const N: usize>(&mut self, cipher: &mut Cipher, sealed: &[u8]) -> Result<[u8; N], Error> {
        let mut plain = sealed.to_vec();
        let length = cipher.open(&self.hash, &mut plain)?;
        self.mix_hash(sealed);
        plain.truncate(length);
        plain.try_into().map_err(|_| Error::Forged)
    }

    /// The ciphers from the client to the server and back.
    fn split(self) -> (Cipher, Cipher) {
        let (from_client, from_server) = hkdf(&self.chaining, &[]);
        (Cipher::new(from_client), Cipher::new(from_server))
    }
}

/// HKDF of RFC 5869 without info, as Noise has it: two keys.
fn hkdf(salt: &[u8; 32], secret: &[u8]) -> ([u8; 32], [u8; 32]) {
    let extracted = hmac(salt, &[secret]);
    let first = hmac(&extracted, &[&[1]]);
    let second = hmac(&extracted, &[&first, &[2]]);
    (first, second)
}

/// HMAC-SHA256 of RFC 2104.
fn hmac(key: &[u8; 32], data: &[&[u8]]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut pad = [with; 64];
        pad.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        pad
    };
    let inner = data.iter().fold(Sha256::new_with_prefix(pad(0x36)), |hash, part| hash.chain_update(part));
    Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize()).finalize().into()
}

#[cfg(test)]
mod tests;
