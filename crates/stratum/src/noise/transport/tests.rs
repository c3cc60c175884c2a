use proptest::prelude::*;

use super::*;
use crate::v2::Oversized;

fn pair() -> (Transport, Transport) {
    let keys = || (Cipher::new([1; 32]), Cipher::new([2; 32]));
    let (a, b) = keys();
    let (c, d) = keys();
    (Transport::new(a, b), Transport::new(d, c))
}

/// A frame of `length` bytes, which say where they are.
fn frame(length: usize) -> Vec<u8> {
    let header = Header { extension_type: 0x8000, msg_type: 0x1a, length: length as u32 };
    header.to_bytes().into_iter().chain((0..length).map(|at| (at * 31 + at / 251) as u8)).collect()
}

/// The frames that come out when `stream` arrives in pieces of at most `piece` bytes.
fn receive(
    receiver: &mut Receiver,
    stream: &[u8],
    piece: usize,
    limit: usize,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut out = Vec::new();
    for piece in stream.to_vec().chunks_mut(piece) {
        let mut arrived = piece;
        while let Some(frame) = receiver.next(&mut arrived, limit)? {
            out.push([&frame.header.to_bytes(), frame.payload].concat());
        }
        assert!(arrived.is_empty());
    }
    Ok(out)
}

fn sealed_frame(sender: &mut Sender, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    sender.seal(&frame(length), &mut out).unwrap();
    out
}

#[test]
fn lengths_on_the_wire() {
    let (mut ours, _) = pair();
    let mut check =
        |length, expect| assert_eq!(sealed_frame(&mut ours.sender, length).len(), expect, "{length}");
    check(0, 22);
    check(1, 22 + 17);
    check(24, 62);
    check(33, 71);
    check(20, 58);
    check(65_519, 22 + 65_535);
    check(65_520, 22 + 65_535 + 17);
    check(100_000, 22 + 65_535 + 34_481 + 16);
    check(2 * 65_519, 22 + 2 * 65_535);
}

#[test]
fn several_frames_at_once() {
    let (mut ours, mut theirs) = pair();
    let frames = [frame(3), frame(0), frame(70_000), frame(1)];
    let mut out = b"before".to_vec();
    ours.sender.seal(&frames.concat(), &mut out).unwrap();
    assert_eq!(receive(&mut theirs.receiver, &out[6..], usize::MAX, 70_000).unwrap(), frames);
    assert!(theirs.receiver.is_between());
}

#[test]
fn a_changed_byte_anywhere_ends_the_connection() {
    for at in 0..22 + 17 + 22 {
        let (mut ours, mut theirs) = pair();
        let mut stream = [sealed_frame(&mut ours.sender, 1), sealed_frame(&mut ours.sender, 0)].concat();
        stream[at] ^= 0x10;
        assert_eq!(receive(&mut theirs.receiver, &stream, 99, 9), Err(Error::Forged), "byte {at}");
        let more = sealed_frame(&mut ours.sender, 0);
        assert_eq!(receive(&mut theirs.receiver, &more, 99, 9), Err(Error::Poisoned), "byte {at}");
    }
}

#[test]
fn replayed_reordered_dropped_or_reflected_frames_end_the_connection() {
    let frames = |count: usize| {
        let (mut ours, theirs) = pair();
        ((0..count).map(|at| sealed_frame(&mut ours.sender, at)).collect::<Vec<_>>(), theirs)
    };
    let check = |order: &[usize], good: usize| {
        let (sent, mut theirs) = frames(3);
        for (n, &at) in order.iter().enumerate() {
            let came = receive(&mut theirs.receiver, &sent[at], 99, 9);
            assert_eq!(came.is_ok(), n < good, "{order:?} at {n}");
        }
    };
    check(&[0, 1, 2], 3);
    check(&[0, 0], 1);
    check(&[1], 0);
    check(&[0, 2], 1);
    check(&[0, 1, 0], 2);

    let (mut ours, _) = pair();
    let own = sealed_frame(&mut ours.sender, 1);
    assert_eq!(receive(&mut ours.receiver, &own, 99, 9), Err(Error::Forged));
}

#[test]
fn a_long_message_is_refused_by_its_header() {
    let (mut ours, mut theirs) = pair();
    let stream = sealed_frame(&mut ours.sender, 0xff_ffff);
    let refused = receive(&mut theirs.receiver, &stream[..22], 99, 1024);
    assert_eq!(refused, Err(Error::Oversized(Oversized { length: 0xff_ffff, limit: 1024 })));
    assert_eq!(theirs.receiver.begun.bytes.capacity(), 0);
}

#[test]
fn of_a_message_that_never_ends_no_more_than_its_length_is_kept() {
    let (mut ours, mut theirs) = pair();
    let stream = sealed_frame(&mut ours.sender, 1000);
    assert_eq!(receive(&mut theirs.receiver, &stream[..1000], 1, 1000), Ok(vec![]));
    assert!(!theirs.receiver.is_between());
    assert_eq!(theirs.receiver.begun.bytes.len(), 1000 - 22);
    assert_eq!(receive(&mut theirs.receiver, &stream[1000..], 1, 1000), Ok(vec![frame(1000)]));
    assert!(theirs.receiver.is_between());
    assert_eq!(receive(&mut theirs.receiver, &[], 1, 1000), Ok(vec![]));
    assert!(theirs.receiver.next(&mut &mut [][..], 0).unwrap().is_none());
    assert_eq!(theirs.receiver.begun.bytes.capacity(), 0);
}

#[test]
fn what_is_not_whole_frames_is_not_sent() {
    let check = |frames: &[u8]| {
        let (mut ours, _) = pair();
        let mut out = b"before".to_vec();
        assert_eq!(ours.sender.seal(frames, &mut out), Err(Error::NotFrames));
        assert_eq!(out, b"before");
        // A counter may have been used: the peer could not follow.
        assert_eq!(ours.sender.seal(&frame(1), &mut out), Err(Error::Poisoned));
    };
    check(&frame(9)[..14]);
    check(&frame(9)[..5]);
    check(&[frame(0), frame(1)[..6].to_vec()].concat());
}

#[test]
fn the_last_counter_is_never_used() {
    let (mut ours, mut theirs) = pair();
    ours.sender.0.next = u64::MAX - 1;
    theirs.receiver.cipher.next = u64::MAX - 1;
    let stream = sealed_frame(&mut ours.sender, 0);
    assert_eq!(receive(&mut theirs.receiver, &stream, 99, 9), Ok(vec![frame(0)]));
    let mut out = Vec::new();
    assert_eq!(ours.sender.seal(&frame(0), &mut out), Err(Error::Exhausted));
    assert!(out.is_empty());
    assert_eq!(receive(&mut theirs.receiver, &stream, 99, 9), Err(Error::Exhausted));
}

#[test]
fn counters_stand_where_noise_has_them() {
    assert_eq!(nonce(0x0102_0304_0506_0708), [0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
}

proptest! {
    #[test]
    fn the_way_a_stream_arrives_does_not_matter(
        lengths in prop::collection::vec(0usize..200, 0..8), long in 65_500usize..65_540, piece in 1usize..300,
    ) {
        let (mut ours, mut theirs) = pair();
        let frames: Vec<Vec<u8>> = lengths.into_iter().chain([long]).map(frame).collect();
        let mut stream = Vec::new();
        ours.sender.seal(&frames.concat(), &mut stream).unwrap();
        prop_assert_eq!(receive(&mut theirs.receiver, &stream, piece, 70_000).unwrap(), frames);
    }
}
