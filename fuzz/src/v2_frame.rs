//! A stream of frames, in the clear, encrypted, and taken for encrypted: whatever arrives in whatever pieces.

use stratum::{
    noise::{AuthorityKey, Error, Initiator, Receiver, StaticKey, Transport, respond},
    v2::{Frame, Header},
};

/// The longest message.
const LIMIT: usize = 400;

/// Reads `input`: how long pieces are, then the stream.
pub fn run(input: &[u8]) {
    let Some((&piece, stream)) = input.split_first() else { return };
    let piece = usize::from(piece).max(1);
    let frames = in_the_clear(stream);

    let (mut server, mut client) = connection();
    let mut sealed = Vec::new();
    client.sender.seal(&frames.concat(), &mut sealed).expect("whole frames");
    assert_eq!(arrive(&mut server.receiver, &sealed, piece), (frames, None));

    let (taken, error) = arrive(&mut client.receiver, stream, piece);
    assert!(taken.is_empty(), "what nobody encrypted was decrypted");
    let enough = stream.len() >= Header::SIZE + 16;
    assert_eq!(error, enough.then_some(Error::Forged));
    if enough {
        assert_eq!(arrive(&mut client.receiver, &[0; 22], piece), (vec![], Some(Error::Poisoned)));
    }
}

/// The frames of `stream` up to one that is too long, or not whole.
fn in_the_clear(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut frames) = (stream, Vec::new());
    loop {
        let before = rest;
        match Frame::next(&mut rest, LIMIT) {
            Ok(Some(frame)) => {
                assert!(frame.payload.len() <= LIMIT);
                let bytes = [&frame.header.to_bytes(), frame.payload].concat();
                assert_eq!(bytes, before[..before.len() - rest.len()]);
                frames.push(bytes);
            }
            Ok(None) => {
                assert!(rest == before && rest.len() < Header::SIZE + LIMIT);
                return frames;
            }
            Err(oversized) => {
                assert!(oversized.length > LIMIT && oversized.limit == LIMIT);
                return frames;
            }
        }
    }
}

/// A server's side and a client's, after their handshake.
fn connection() -> (Transport, Transport) {
    let authority = AuthorityKey::from_bytes([1; 32]).expect("a key");
    let identity = StaticKey::new(&[2; 64]).expect("a key").certify(&authority, 0, u32::MAX, &[3; 32]);
    let client = Initiator::new(&[4; 64]).expect("a key");
    let mut response = Vec::new();
    let server = respond(&identity, &client.first(), &[5; 64], &mut response).expect("a key");
    let response = response.try_into().expect("one response");
    (server, client.finish(&response, Some(&authority.public()), 0).expect("undamaged"))
}

/// What comes out when `stream` arrives in pieces, and the error that it ends with.
fn arrive(receiver: &mut Receiver, stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<Error>) {
    let mut frames = Vec::new();
    for piece in stream.to_vec().chunks_mut(piece) {
        let mut arrived = piece;
        loop {
            match receiver.next(&mut arrived, LIMIT) {
                Ok(Some(frame)) => frames.push([&frame.header.to_bytes(), frame.payload].concat()),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(arrived.is_empty());
    }
    (frames, None)
}
