use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version::TLS13};
use stratum::noise::{AuthorityKey, Initiator, RESPONSE_SIZE};
use tempfile::TempDir;

use super::*;
use crate::TlsError;

const TRUSTED: &str = "10.0.0.1";

fn door() -> Door {
    Door { proxies: vec!["10.0.0.0/24".parse().unwrap()], ..Door::default() }
}

/// What comes out when `chunks` arrive, and whom it is said to come from.
fn take(door: &Door, from: &str, chunks: &[&[u8]]) -> Result<(Vec<u8>, Option<String>), Closed> {
    let mut wire = door.wire(from.parse().unwrap());
    let (mut out, mut address) = (Vec::new(), None);
    for chunk in chunks {
        let mut came_from = |ip: IpAddr| {
            address = Some(ip.to_string());
            Ok(())
        };
        match wire.take(&mut chunk.to_vec(), door, &mut came_from)? {
            Carried::Nothing => {}
            Carried::Plain(bytes) => out.extend_from_slice(bytes),
            Carried::Secret(bytes) => out.extend(bytes),
            Carried::Sealed(bytes) => panic!("{bytes:?} in a door for lines"),
        }
    }
    Ok((out, address))
}

fn v2(command: u8, source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11, 0, 12]);
    header.extend(source);
    header.extend([10, 0, 0, 1, 0x30, 0x39, 0x0d, 0x05]);
    header
}

#[test]
fn f45_who_a_proxy_speaks_for() {
    let v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 3333\r\n".as_slice();
    let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 3333\r\n".as_slice();
    let (client, health) = (v2(1, [192, 0, 2, 8]), v2(0, [1, 2, 3, 4]));
    let headers =
        [(v1, Some("192.0.2.7")), (v6, Some("2001:db8::7")), (&client, Some("192.0.2.8")), (&health, None)];
    for (header, client) in headers {
        let stream = [header, b"{}\n{}\n"].concat();
        let expect = Ok((b"{}\n{}\n".to_vec(), client.map(str::to_owned)));
        assert_eq!(take(&door(), TRUSTED, &[&stream]), expect);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(take(&door(), TRUSTED, &bytes), expect, "byte by byte");
    }
}

#[test]
fn f45_who_may_and_who_must() {
    let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 3333\r\n{}\n".as_slice();
    let check = |from: &str, stream: &[u8], expect: Option<Closed>| {
        assert_eq!(take(&door(), from, &[stream]).err(), expect, "{from}");
    };
    check(TRUSTED, b"{\"id\":1}\n", Some(Closed::NoProxyHeader));
    check(TRUSTED, b"PROXY TCP4 no address at all\r\n", Some(Closed::NoProxyHeader));
    check(TRUSTED, &[b'P'; 2000], Some(Closed::NoProxyHeader));
    check(TRUSTED, &[b"PROXY TCP4 ".as_slice(), &[b'1'; 2000]].concat(), Some(Closed::NoProxyHeader));
    check(TRUSTED, header, None);
    // From anybody else it is a line like any other, which is no JSON.
    assert_eq!(take(&door(), "192.0.2.1", &[header]), Ok((header.to_vec(), None)));
    let refused = door()
        .wire(TRUSTED.parse().unwrap())
        .take(&mut header.to_vec(), &door(), &mut |_| Err(Closed::Banned))
        .err();
    assert_eq!(refused, Some(Closed::Banned));
}

/// A certificate and its key, as files.
fn certificate(dir: &Path, name: &str) -> (Tls, rustls::pki_types::CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (Tls::load(&certificate, &key).unwrap(), made.cert.der().clone())
}

fn client(
    trusts: &rustls::pki_types::CertificateDer<'static>,
    name: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(trusts.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap()
}

/// Lets the two talk, `step` bytes at a time; returns what the server heard.
fn talk(client: &mut ClientConnection, wire: &mut Wire, door: &Door, step: usize) -> Result<Vec<u8>, Closed> {
    let mut heard = Vec::new();
    for _ in 0..10 {
        let mut sent = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sent).unwrap();
        }
        for chunk in sent.chunks(step) {
            match wire.take(&mut chunk.to_vec(), door, &mut |_| Ok(()))? {
                Carried::Secret(bytes) => heard.extend(bytes),
                Carried::Plain(bytes) => panic!("{bytes:?} came through as they are"),
                Carried::Sealed(bytes) => panic!("{bytes:?} in a door for lines"),
                Carried::Nothing => {}
            }
        }
        let mut room = Vec::new();
        let mut back = wire.wrap(b"", &mut room).unwrap();
        while !back.is_empty() {
            client.read_tls(&mut back).unwrap();
            client.process_new_packets().map_err(|_| Closed::Broken)?;
        }
    }
    Ok(heard)
}

#[test]
fn f46_lines_in_tls() {
    let dir = TempDir::new().unwrap();
    let (tls, root) = certificate(dir.path(), "pool.example");
    // A port for TLS only takes it, and so does one for both; a name that is no name of ours is for the client to mind.
    for (is_tls_only, step) in [(true, 4096), (false, 1)] {
        let door = Door { tls: Some(tls.clone()), is_tls_only, ..Door::default() };
        for versions in [&[&TLS13][..], rustls::ALL_VERSIONS, &[&rustls::version::TLS12]] {
            let mut client = client(&root, "pool.example", versions);
            let mut wire = door.wire(TRUSTED.parse().unwrap());
            client.writer().write_all(b"{\"id\":1}\n").unwrap();
            assert_eq!(talk(&mut client, &mut wire, &door, step), Ok(b"{\"id\":1}\n".to_vec()));
            let mut room = Vec::new();
            let mut wrapped = wire.wrap(b"reply\n", &mut room).unwrap();
            client.read_tls(&mut wrapped).unwrap();
            client.process_new_packets().unwrap();
            let mut reply = [0; 6];
            client.reader().read_exact(&mut reply).unwrap();
            assert_eq!(&reply, b"reply\n");
        }
    }
}

#[test]
fn f46_what_is_no_tls() {
    let dir = TempDir::new().unwrap();
    let (tls, _) = certificate(dir.path(), "pool.example");
    let (secret, plain) = (Door { tls: Some(tls), is_tls_only: true, ..Door::default() }, Door::default());
    let old = [&[0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    assert_eq!(take(&secret, TRUSTED, &[b"{\"id\":1}\n"]), Err(Closed::NotTls));
    assert_eq!(take(&secret, TRUSTED, &[&old]), Err(Closed::NotTls), "TLS 1.0");
    assert_eq!(take(&secret, TRUSTED, &[&[0x16; 300]]), Err(Closed::NotTls));
    // Without a certificate it is a line like any other, which is no JSON.
    assert_eq!(take(&plain, TRUSTED, &[&old]), Ok((old, None)));
}

#[test]
fn f46_a_new_certificate_closes_nobody() {
    let dir = TempDir::new().unwrap();
    let (tls, old) = certificate(dir.path(), "pool.example");
    let door = Door { tls: Some(tls.clone()), is_tls_only: true, ..Door::default() };
    let mut early = (client(&old, "pool.example", rustls::ALL_VERSIONS), door.wire(TRUSTED.parse().unwrap()));
    talk(&mut early.0, &mut early.1, &door, 4096).unwrap();
    assert!(!tls.reload().unwrap(), "nothing has changed");

    let key = dir.path().join("key.pem");
    let before = std::fs::metadata(&key).unwrap().modified().unwrap();
    while std::fs::metadata(&key).unwrap().modified().unwrap() == before {
        std::fs::write(&key, "nonsense").unwrap();
    }
    assert!(matches!(tls.reload(), Err(TlsError::NotPem { .. })));
    let (_, new) = certificate(dir.path(), "pool.example");
    assert!(tls.reload().unwrap());
    let mut late = (client(&new, "pool.example", rustls::ALL_VERSIONS), door.wire(TRUSTED.parse().unwrap()));
    early.0.writer().write_all(b"still here\n").unwrap();
    assert_eq!(talk(&mut early.0, &mut early.1, &door, 4096), Ok(b"still here\n".to_vec()));
    late.0.writer().write_all(b"new\n").unwrap();
    assert_eq!(talk(&mut late.0, &mut late.1, &door, 4096), Ok(b"new\n".to_vec()));
}

#[test]
fn f46_what_follows_a_farewell_holds_nobody_up() {
    let dir = TempDir::new().unwrap();
    let (tls, root) = certificate(dir.path(), "pool.example");
    let door = Door { tls: Some(tls), is_tls_only: true, ..Door::default() };
    let mut wire = door.wire(TRUSTED.parse().unwrap());
    let mut client = client(&root, "pool.example", rustls::ALL_VERSIONS);
    talk(&mut client, &mut wire, &door, 4096).unwrap();
    client.writer().write_all(b"last\n").unwrap();
    client.send_close_notify();
    let mut sent = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut sent).unwrap();
    }
    sent.extend([0x17; 5000]);
    for _ in 0..2 {
        let heard = match wire.take(&mut sent.clone(), &door, &mut |_| Ok(())) {
            Ok(Carried::Secret(heard)) => heard,
            _ => Vec::new(),
        };
        assert!(heard.is_empty() || heard == b"last\n", "{heard:?}");
    }
}

#[test]
fn a_long_reply_is_whole_in_tls() {
    let dir = TempDir::new().unwrap();
    let (tls, root) = certificate(dir.path(), "pool.example");
    let door = Door { tls: Some(tls), is_tls_only: true, ..Door::default() };
    let mut wire = door.wire(TRUSTED.parse().unwrap());
    let mut client = client(&root, "pool.example", rustls::ALL_VERSIONS);
    talk(&mut client, &mut wire, &door, 4096).unwrap();
    let reply: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let mut room = Vec::new();
    let (wrapped, mut heard) = (wire.wrap(&reply, &mut room).unwrap(), Vec::new());
    for chunk in wrapped.chunks(4096) {
        let mut chunk = chunk;
        while !chunk.is_empty() {
            client.read_tls(&mut chunk).unwrap();
            client.process_new_packets().unwrap();
            let _ = client.reader().read_to_end(&mut heard);
        }
    }
    assert_eq!(heard, reply);
}

fn sealed_door() -> Door {
    let authority = AuthorityKey::from_bytes([1; 32]).unwrap();
    Door { noise: Some(Noise::new(authority, std::time::Duration::from_secs(3600))), ..door() }
}

#[test]
fn frames_in_the_encryption_of_v2_behind_a_proxy_and_in_pieces() {
    let door = sealed_door();
    let frame = [&[0, 0x40, 9, 3, 0, 0][..], b"abc"].concat();
    for step in [1, 7, 64, 4096] {
        let mut wire = door.wire(TRUSTED.parse().unwrap());
        let client = Initiator::new(&[9; 64]).unwrap();
        let mut sent = b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 3333\r\n".to_vec();
        sent.extend(client.first());
        let (mut from, mut room) = (Vec::new(), Vec::new());
        for chunk in sent.chunks(step) {
            assert!(!wire.is_open() && !wire.wants_write());
            let mut came_from = |ip: IpAddr| {
                from.push(ip.to_string());
                Ok(())
            };
            match wire.take(&mut chunk.to_vec(), &door, &mut came_from).unwrap() {
                Carried::Nothing | Carried::Sealed([]) => {}
                _ => panic!("something, though nothing was said"),
            }
        }
        assert_eq!(from, ["192.0.2.7"]);
        assert!(wire.is_open() && wire.wants_write());
        // The answer to the handshake, and behind it what the session says.
        let answer = wire.wrap(&frame, &mut room).unwrap();
        let (response, sealed) = answer.split_first_chunk::<RESPONSE_SIZE>().unwrap();
        let mut client = client.finish(response, None, 0).unwrap();
        let mut sealed = sealed.to_vec();
        let heard = client.receiver.next(&mut &mut sealed[..], 100).unwrap().unwrap();
        assert_eq!(heard.payload, b"abc");
        assert!(!wire.wants_write());
        let mut sealed = Vec::new();
        client.sender.seal(&frame, &mut sealed).unwrap();
        let mut heard = Vec::new();
        for chunk in sealed.chunks(step) {
            let mut chunk = chunk.to_vec();
            let Ok(Carried::Sealed(_)) = wire.take(&mut chunk, &door, &mut |_| Ok(())) else {
                panic!("not sealed")
            };
            let mut arrived = &mut chunk[..];
            if let Some(frame) = wire.receiver().unwrap().next(&mut arrived, 100).unwrap() {
                heard.extend_from_slice(frame.payload);
            }
        }
        assert_eq!(heard, b"abc");
    }
}

#[test]
fn what_begins_no_handshake_of_v2() {
    let door = sealed_door();
    let check = |bytes: &[u8], is_refused: bool| {
        let mut wire = door.wire("192.0.2.1".parse().unwrap());
        let refused = wire.take(&mut bytes.to_vec(), &door, &mut |_| Ok(())).err();
        assert_eq!(refused, is_refused.then_some(Closed::NotStratum), "{bytes:?}");
    };
    check(b"{\"id\":1,\"method\":\"mining.subscribe\"}\n", true);
    check(b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n", true);
    check(b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 3333\r\n", true);
    check(&[&[0x16, 3, 1, 2, 0, 1][..], &[0; 60]].concat(), true);
    check(&[0x16; 64], false);
    check(&[&b"{\"id\":1,\"method\":"[..], &[0x80; 45]].concat(), false);
    check(b"{", false);
}
