//! A handshake, damaged on its way in either direction.

use stratum::noise::{AuthorityKey, Initiator, RESPONSE_SIZE, StaticKey, Transport, respond};

/// When it is.
const NOW: u32 = 1_790_000_000;

/// `input` is laid over what the client sends (64 bytes), what the server answers (234), and what follows it (22).
/// All zeros is a handshake that succeeds.
pub fn run(input: &[u8]) {
    let mut damage = input.iter().copied();
    let authority = AuthorityKey::from_bytes([1; 32]).expect("a key");
    let identity = StaticKey::new(&[2; 64]).expect("a key").certify(&authority, NOW - 60, NOW + 60, &[3; 32]);
    let client = Initiator::new(&[4; 64]).expect("a key");

    let mut first = client.first();
    let first_is_damaged = lay(&mut first, &mut damage);
    let mut response = Vec::new();
    // Whatever a client begins with is a key.
    let server = respond(&identity, &first, &[5; 64], &mut response).expect("a key");
    let mut response: [u8; RESPONSE_SIZE] = response.try_into().expect("one response");
    let response_is_damaged = lay(&mut response, &mut damage);
    let finished = client.finish(&response, Some(&authority.public()), NOW);
    assert_eq!(finished.is_ok(), !first_is_damaged && !response_is_damaged);

    let Ok(client) = finished else { return };
    talk(server, client, damage);
}

/// An empty message from the client, and another.
fn talk(mut server: Transport, mut client: Transport, mut damage: impl Iterator<Item = u8>) {
    const FRAME: [u8; 6] = [0, 0x80, 0x1a, 0, 0, 0];
    let mut sealed = Vec::new();
    client.sender.seal(&FRAME, &mut sealed).expect("a frame");
    let is_damaged = lay(&mut sealed, &mut damage);
    let arrived = server.receiver.next(&mut &mut sealed[..], 0).map(|frame| frame.expect("all of it").header);
    assert_eq!(arrived.map(|header| header.to_bytes()).ok(), (!is_damaged).then_some(FRAME));
    let mut sealed = Vec::new();
    client.sender.seal(&FRAME, &mut sealed).expect("a frame");
    assert_eq!(server.receiver.next(&mut &mut sealed[..], 0).is_ok(), !is_damaged);
}

/// Changes `bytes` by as much of `damage`. Returns whether they are different now.
fn lay(bytes: &mut [u8], damage: &mut impl Iterator<Item = u8>) -> bool {
    bytes.iter_mut().zip(damage).fold(false, |is_damaged, (byte, change)| {
        *byte ^= change;
        is_damaged || change != 0
    })
}
