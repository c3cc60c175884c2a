//! Handshakes with fixed keys, ours with theirs both ways, and what is sent after them.
//!
//! There are no published vectors: these bytes are what our side says to theirs, and theirs accepts.

use codec_sv2::{Decrypted, Handshake, NoiseDecoder, NoiseEncoder};
use rand_core_06::{CryptoRng, Error, RngCore};
use sha2::{Digest, Sha256};
use stratum::{
    noise::{AuthorityKey, AuthorityPublicKey, Identity, Initiator, Receiver, StaticKey, Transport, respond},
    v2::Header,
};

const NOW: u32 = 1_790_000_000;
const VALID: u32 = 3600;
/// What the messages after a handshake weigh: nothing, one byte, one chunk, one byte more, two chunks.
const LENGTHS: [usize; 5] = [0, 1, 65_519, 65_520, 100_000];

/// Gives the same byte over and over, the next one for every key.
struct Fixed(u8);

impl RngCore for Fixed {
    fn next_u32(&mut self) -> u32 {
        rand_core_06::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core_06::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, to: &mut [u8]) {
        to.fill(self.0);
        self.0 += 1;
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(to);
        Ok(())
    }
}

impl CryptoRng for Fixed {}

fn authority() -> AuthorityKey {
    AuthorityKey::from_bytes([1; 32]).unwrap()
}

fn identity(from: u32, until: u32) -> Identity {
    StaticKey::new(&[2; 64]).unwrap().certify(&authority(), from, until, &[3; 32])
}

fn their_initiator(authority: Option<AuthorityPublicKey>) -> Box<noise_sv2::Initiator> {
    let mut random = Fixed(0x21);
    match authority {
        Some(key) => noise_sv2::Initiator::from_raw_k_with_rng(key.to_bytes(), &mut random).unwrap(),
        None => noise_sv2::Initiator::without_pk_with_rng(&mut random).unwrap(),
    }
}

/// Our server, their client.
fn serve() -> (Transport, codec_sv2::Transport, [Vec<u8>; 2]) {
    let client = Handshake::initiator(their_initiator(Some(authority().public())));
    let (first, client) = client.step_0().unwrap();
    let first = first.payload().try_into().unwrap();
    let mut response = Vec::new();
    let server = respond(&identity(NOW - VALID, NOW + VALID), &first, &[5; 64], &mut response).unwrap();
    let client = client.step_2_with_now(response[..].try_into().unwrap(), NOW).unwrap();
    (server, client, [first.to_vec(), response])
}

/// Our client, their server.
fn connect() -> (Transport, codec_sv2::Transport, [Vec<u8>; 2]) {
    let (public, secret) = (authority().public().to_bytes(), [1; 32]);
    let validity = std::time::Duration::from_secs(VALID.into());
    let server =
        noise_sv2::Responder::from_authority_kp_with_rng(&public, &secret, validity, &mut Fixed(0x31));
    let client = Initiator::new(&[4; 64]).unwrap();
    let first = client.first();
    let server = Handshake::responder(server.unwrap());
    let (response, server) = server.step_1_with_now_rng(first, NOW, &mut Fixed(0x41)).unwrap();
    let response = response.payload().try_into().unwrap();
    let client = client.finish(&response, Some(&authority().public()), NOW + VALID).unwrap();
    (client, server, [first.to_vec(), response.to_vec()])
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A frame of `length` bytes, which say where they are.
fn frame(length: usize) -> Vec<u8> {
    let header = Header { extension_type: 0x8000, msg_type: 0x1b, length: length as u32 };
    header.to_bytes().into_iter().chain((0..length).map(|at| (at * 7 + at / 255) as u8)).collect()
}

/// What `receiver` makes of `sealed`, which arrives in one piece.
fn open(receiver: &mut Receiver, sealed: &[u8]) -> Vec<u8> {
    let mut sealed = sealed.to_vec();
    let mut arrived = &mut sealed[..];
    let frame = receiver.next(&mut arrived, 100_000).unwrap().unwrap();
    [&frame.header.to_bytes(), frame.payload].concat()
}

/// Frames of all lengths from ours to theirs, then from theirs to ours. Returns what ours sent.
fn exchange(mut ours: Transport, theirs: codec_sv2::Transport) -> Vec<u8> {
    let (mut encrypt, mut decrypt) = theirs.split();
    let (mut encoder, mut decoder) = (NoiseEncoder::new(), NoiseDecoder::new());
    let mut sent = Vec::new();
    for length in LENGTHS {
        let plain = frame(length);
        let begin = sent.len();
        ours.sender.seal(&plain, &mut sent).unwrap();
        let mut sealed = &sent[begin..];
        let arrived = loop {
            match decoder.next_transport_frame(decrypt).unwrap() {
                Decrypted::Frame(frame, state) => {
                    decrypt = state;
                    break frame.into_bytes();
                }
                Decrypted::Incomplete(missing, state) => {
                    decrypt = state;
                    let (now, rest) = sealed.split_at(missing);
                    decoder.writable().copy_from_slice(now);
                    sealed = rest;
                }
            }
        };
        assert_eq!(arrived, plain, "{length} bytes from us");
        assert!(sealed.is_empty());

        let theirs = codec_sv2::SerializedFrame::from_bytes(plain.clone()).unwrap();
        let sealed = encoder.encode_transport(theirs, &mut encrypt).unwrap();
        assert_eq!(open(&mut ours.receiver, &sealed), plain, "{length} bytes from them");
    }
    sent
}

#[test]
fn their_client_and_our_server() {
    let (ours, theirs, [first, response]) = serve();
    assert_eq!(digest(&first), "793b987308729eb6d601b115cc212697b2efc2869114b9813bd448b28410d038");
    assert_eq!(digest(&response), "dce5374108d91c9b43c5b4ef3900991c1e372fa76fe28cdaf587cfc5f4764e63");
    assert_eq!(
        digest(&exchange(ours, theirs)),
        "8a6fdeda5f9acdb28f3a25cb45930398a12bb7f2ecc3b0725ef87611222e2f09"
    );
}

#[test]
fn our_client_and_their_server() {
    let (ours, theirs, [first, response]) = connect();
    assert_eq!(digest(&first), "7daf3a5e73f21bad7658c363931fc6259d2a71765989fd3e8f5e48d8de7381e4");
    assert_eq!(digest(&response), "f93786ea18c42675f6f7245b75462a76992fdf40e08624bde49ddf57f5b57601");
    assert_eq!(
        digest(&exchange(ours, theirs)),
        "a94f17a653b74778ed93a58371c5d3dab3cdcdb8ded40ae58128ca1404415ce0"
    );
}

#[test]
fn their_client_refuses_what_it_should() {
    let check = |from: u32, until: u32, known: Option<AuthorityPublicKey>, taken: bool| {
        let mut client = their_initiator(known);
        let mut response = Vec::new();
        respond(&identity(from, until), &client.step_0().unwrap(), &[5; 64], &mut response).unwrap();
        let took = client.step_2_with_now(response.try_into().unwrap(), NOW).is_ok();
        assert_eq!(took, taken, "{from} to {until}");
    };
    let public = Some(authority().public());
    check(NOW - 1, NOW + 1, public, true);
    check(NOW + 10, NOW + 20, public, true);
    check(NOW + 11, NOW + 20, public, false);
    check(NOW - 20, NOW - 10, public, true);
    check(NOW - 20, NOW - 11, public, false);
    check(NOW - 1, NOW + 1, None, true);
    check(NOW - 1, NOW + 1, Some(AuthorityKey::from_bytes([9; 32]).unwrap().public()), false);
}
