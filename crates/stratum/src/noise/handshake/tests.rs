use super::*;
use crate::noise::AuthorityKey;

const NOW: u32 = 1_790_000_000;
const FROM: u32 = NOW - 3600;
const UNTIL: u32 = NOW + 3600;

fn authority() -> AuthorityKey {
    AuthorityKey::from_bytes([1; 32]).unwrap()
}

fn identity() -> Identity {
    StaticKey::new(&[2; 64]).unwrap().certify(&authority(), FROM, UNTIL, &[3; 32])
}

/// Both messages, of fixed keys.
fn messages() -> (Initiator, [u8; RESPONSE_SIZE], Transport) {
    let client = Initiator::new(&[4; 64]).unwrap();
    let mut response = Vec::new();
    let server = respond(&identity(), &client.first(), &[5; 64], &mut response).unwrap();
    (client, response.try_into().unwrap(), server)
}

/// `finish` with the client's fixed key.
fn finish(response: &[u8; RESPONSE_SIZE], authority: Option<&AuthorityPublicKey>, now: u32) -> Option<Error> {
    Initiator::new(&[4; 64]).unwrap().finish(response, authority, now).err()
}

#[test]
fn hmac_of_rfc_4231() {
    let mut key = [0; 32];
    key[..20].fill(0x0b);
    let check =
        |key: &[u8; 32], data: &[&[u8]], expect: &str| assert_eq!(hex::encode(hmac(key, data)), expect);
    check(&key, &[b"Hi ", b"There"], "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    key.fill(0);
    key[..4].copy_from_slice(b"Jefe");
    let data: &[u8] = b"what do ya want for nothing?";
    check(&key, &[data], "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

#[test]
fn the_name_of_the_protocol() {
    let name = hex::encode(Sha256::digest(NAME));
    assert_eq!(name, "2eb47881208e9eee1f669f67c66ee70ea9ea88090d503fe830dc4bc83e29bf10");
}

#[test]
fn fixed_keys_give_these_messages() {
    let (client, response, server) = messages();
    let client = client.finish(&response, Some(&authority().public()), NOW).unwrap();
    let check = |what: &[u8], expect: &str| assert_eq!(hex::encode(Sha256::digest(what)), expect);
    check(
        &Initiator::new(&[4; 64]).unwrap().first(),
        "7daf3a5e73f21bad7658c363931fc6259d2a71765989fd3e8f5e48d8de7381e4",
    );
    check(&response, "5e6ea1e3f98a9f308d9a01d3dfe5d21c3ff34f81eceb19a8556465400c76b71a");
    let (mut out, mut back) = (Vec::new(), Vec::new());
    let frame = b"\x00\x80\x1a\x03\x00\x00abc";
    let (Transport { mut sender, .. }, Transport { sender: mut other, .. }) = (client, server);
    sender.seal(frame, &mut out).unwrap();
    other.seal(frame, &mut back).unwrap();
    assert_eq!(
        hex::encode(out),
        "e99af75a39b867842dcc27fe4919a635acc3e8f875ecc4fb38ae3bc28cf33a78086085ed6582e758c4"
    );
    assert_eq!(
        hex::encode(back),
        "e725386a268ea20725dfcd72885d159ff37870ededf207efdec799f525dddd1deabe22eaf44dfb9e07"
    );
}

#[test]
fn any_changed_bit_of_the_response_is_seen() {
    let (_, response, _) = messages();
    let public = authority().public();
    assert_eq!(finish(&response, Some(&public), NOW), None);
    for at in 0..RESPONSE_SIZE {
        let mut changed = response;
        changed[at] ^= 1 << (at % 8);
        assert_eq!(finish(&changed, Some(&public), NOW), Some(Error::Forged), "byte {at}");
    }
}

#[test]
fn a_response_to_another_client_is_seen() {
    let (_, response, _) = messages();
    let other = Initiator::new(&[6; 64]).unwrap();
    assert_eq!(other.finish(&response, None, NOW).err(), Some(Error::Forged));
}

#[test]
fn certificates_are_good_for_their_time_and_ten_seconds() {
    let (_, response, _) = messages();
    let public = authority().public();
    let out = |now| Some(Error::CertificateTime { valid_from: FROM, not_valid_after: UNTIL, now });
    let check = |now, expect| assert_eq!(finish(&response, Some(&public), now), expect, "{now}");
    check(FROM - 11, out(FROM - 11));
    check(FROM - 10, None);
    check(UNTIL + 10, None);
    check(UNTIL + 11, out(UNTIL + 11));
    check(0, out(0));
    check(u32::MAX, out(u32::MAX));
    assert_eq!(finish(&response, None, 0), None);
}

#[test]
fn certificates_of_all_time_are_good_at_its_ends() {
    let forever = StaticKey::new(&[2; 64]).unwrap().certify(&authority(), 0, u32::MAX, &[3; 32]);
    let mut response = Vec::new();
    respond(&forever, &Initiator::new(&[4; 64]).unwrap().first(), &[5; 64], &mut response).unwrap();
    let response = response.try_into().unwrap();
    assert_eq!(finish(&response, Some(&authority().public()), 0), None);
    assert_eq!(finish(&response, Some(&authority().public()), u32::MAX), None);
}

#[test]
fn what_the_authority_did_not_sign_is_refused() {
    let respond_as = |identity: &Identity| {
        let mut response = Vec::new();
        respond(identity, &Initiator::new(&[4; 64]).unwrap().first(), &[5; 64], &mut response).unwrap();
        finish(&response.try_into().unwrap(), Some(&authority().public()), NOW)
    };
    let good = identity();
    let with = |change: fn(&mut Certificate)| {
        let mut changed = good.clone();
        change(&mut changed.certificate);
        respond_as(&changed)
    };
    assert_eq!(with(|_| ()), None);
    assert_eq!(with(|c| c.version = 1), Some(Error::CertificateVersion(1)));
    let anybody = |version| {
        let mut changed = good.clone();
        changed.certificate = Certificate { version, signature: [0; 64], ..changed.certificate };
        let mut response = Vec::new();
        respond(&changed, &Initiator::new(&[4; 64]).unwrap().first(), &[5; 64], &mut response).unwrap();
        finish(&response.try_into().unwrap(), None, NOW)
    };
    assert_eq!((anybody(0), anybody(1)), (None, Some(Error::CertificateVersion(1))));
    assert_eq!(with(|c| c.valid_from -= 1), Some(Error::CertificateSignature));
    assert_eq!(with(|c| c.not_valid_after += 1), Some(Error::CertificateSignature));
    assert_eq!(with(|c| c.signature[0] ^= 1), Some(Error::CertificateSignature));
    assert_eq!(with(|c| c.signature = [0xff; 64]), Some(Error::CertificateSignature));
    let stolen = Identity { key: StaticKey::new(&[9; 64]).unwrap(), ..good.clone() };
    assert_eq!(respond_as(&stolen), Some(Error::CertificateSignature));
    let other = AuthorityKey::from_bytes([7; 32]).unwrap();
    assert_eq!(
        respond_as(&good.key.certify(&other, FROM, UNTIL, &[3; 32])),
        Some(Error::CertificateSignature)
    );
}

#[test]
fn a_key_can_be_certified_again() {
    let renewed = identity().key.certify(&authority(), NOW, NOW + 7200, &[8; 32]);
    let ends = |certificate: &Certificate| (certificate.valid_from, certificate.not_valid_after);
    assert_eq!(
        (ends(identity().certificate()), ends(renewed.certificate())),
        ((FROM, UNTIL), (NOW, NOW + 7200))
    );
    let mut response = Vec::new();
    respond(&renewed, &Initiator::new(&[4; 64]).unwrap().first(), &[5; 64], &mut response).unwrap();
    assert_eq!(finish(&response.try_into().unwrap(), Some(&authority().public()), UNTIL + 11), None);
}

#[test]
fn entropy_that_is_no_key() {
    assert_eq!(Initiator::new(&[0; 64]).err(), Some(Error::Key(crate::noise::InvalidKey)));
    let first = Initiator::new(&[4; 64]).unwrap().first();
    let mut out = Vec::new();
    assert!(respond(&identity(), &first, &[0xff; 64], &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn whatever_a_client_begins_with_is_a_key() {
    for byte in [0, 1, 0x7f, 0xff] {
        let mut out = Vec::new();
        assert!(respond(&identity(), &[byte; ELLSWIFT_SIZE], &[5; 64], &mut out).is_ok());
        assert_eq!(out.len(), RESPONSE_SIZE);
    }
}

#[test]
fn a_message_in_pieces() {
    for piece in [1, 7, 63, 64, 65, 70] {
        let mut stream: Vec<u8> = (0..70).collect();
        let (mut message, mut rest) = (Arriving::<ELLSWIFT_SIZE>::default(), Vec::new());
        let mut whole = None;
        for mut arrived in stream.chunks_mut(piece) {
            if whole.is_none() {
                whole = message.take(&mut arrived).copied();
                assert!(whole.is_some() || arrived.is_empty());
            }
            rest.extend_from_slice(arrived);
        }
        assert_eq!(whole, Some(std::array::from_fn(|at| at as u8)), "{piece}");
        assert_eq!(rest, [64, 65, 66, 67, 68, 69], "{piece}");
    }
}
