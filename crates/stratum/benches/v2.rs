//! What a V2 connection costs: its handshake, a share in, a job out.

use divan::{AllocProfiler, Bencher, black_box, counter::BytesCount};
use stratum::{
    noise::{AuthorityKey, Identity, Initiator, StaticKey, Transport, respond},
    v2::{
        Message, encode,
        mining::{Mining, NewMiningJob, SubmitSharesExtended},
        wire::Bytes,
    },
};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn identity() -> Identity {
    let authority = AuthorityKey::from_bytes([1; 32]).expect("a key");
    StaticKey::new(&[2; 64]).expect("a key").certify(&authority, 0, u32::MAX, &[3; 32])
}

/// The server's side and the client's.
fn connection() -> (Transport, Transport) {
    let client = Initiator::new(&[4; 64]).expect("a key");
    let mut response = Vec::new();
    let server = respond(&identity(), &client.first(), &[5; 64], &mut response).expect("a key");
    (server, client.finish(&response.try_into().expect("one response"), None, 0).expect("undamaged"))
}

/// The server's side of a handshake, its static key certified beforehand.
#[divan::bench]
fn handshake(bencher: Bencher) {
    let (identity, first) = (identity(), Initiator::new(&[4; 64]).expect("a key").first());
    let mut out = Vec::with_capacity(256);
    bencher.bench_local(|| {
        out.clear();
        respond(&identity, black_box(&first), &[5; 64], &mut out).is_ok()
    });
}

/// A certificate, as it is renewed in the background.
#[divan::bench]
fn certify(bencher: Bencher) {
    let authority = AuthorityKey::from_bytes([1; 32]).expect("a key");
    let key = StaticKey::new(&[2; 64]).expect("a key");
    bencher.bench_local(|| key.certify(&authority, 0, black_box(1), &[3; 32]));
}

/// Decrypted where it arrived and decoded; sealing it is not measured.
#[divan::bench]
fn share_in(bencher: Bencher) {
    let (mut server, mut client) = connection();
    let extranonce = Bytes::new(&[7; 8]).expect("8 bytes");
    let share = SubmitSharesExtended {
        channel_id: 1,
        sequence_number: 2,
        job_id: 3,
        nonce: 4,
        ntime: 5,
        version: 6,
        extranonce,
    };
    let mut frame = Vec::new();
    encode(&share, &mut frame);
    let sealed = || {
        let mut sealed = Vec::new();
        client.sender.seal(&frame, &mut sealed).expect("a frame");
        sealed
    };
    bencher.counter(BytesCount::new(6 + 33u32)).with_inputs(sealed).bench_local_values(|mut sealed| {
        let frame = server.receiver.next(&mut &mut sealed[..], SubmitSharesExtended::MAX);
        let frame = frame.expect("undamaged").expect("all of it");
        assert!(matches!(Mining::decode(frame), Ok((Mining::SubmitSharesExtended(_), _))));
        sealed
    });
}

/// A job for one standard channel: encoded and encrypted.
#[divan::bench]
fn job_out(bencher: Bencher) {
    let (mut server, _) = connection();
    let job = NewMiningJob { channel_id: 1, job_id: 2, min_ntime: Some(3), version: 4, merkle_root: [5; 32] };
    let (mut frame, mut out) = (Vec::with_capacity(64), Vec::with_capacity(128));
    bencher.bench_local(|| {
        frame.clear();
        out.clear();
        encode(black_box(&job), &mut frame);
        server.sender.seal(&frame, &mut out).expect("a frame");
        black_box(out.len())
    });
}

fn main() {
    divan::main();
}
