//! Ways in: PROXY headers from named proxies, and TLS.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};

use crate::support::{
    address, free_port,
    node::{Chain, Login, Node},
    pool::Pool,
    wait_for,
    wire::{Job, PATIENCE, Wire},
};

const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// A PROXY header for a client, of either version.
fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 10.0.0.1 40000 3333\r\n").into_bytes()
}

fn v2(command: u8, client: [u8; 4]) -> Vec<u8> {
    let begin = b"\r\n\r\n\0\r\nQUIT\n";
    // Version and command, TCP over IPv4, and the length of what follows: two addresses and two ports.
    let head = [0x20 | command, 0x11, 0, 12];
    [&begin[..], &head, &client, &[10, 0, 0, 1], &[0x9c, 0x40], &[0x0d, 0x05]].concat()
}

/// A connection of the proxy that begins with `header`; `None` if the pool closes instead of answering.
fn through_proxy(pool: &Pool, header: &[u8]) -> Option<Wire> {
    let mut wire = Wire::open_from(PROXY, pool.setup.stratum_port, None).unwrap();
    wire.send(header);
    wire.request(1, "mining.subscribe", json!([]));
    let reply = wire.try_message()?;
    wire.subscribed(&reply);
    Some(wire)
}

#[test]
fn f45_a_proxys_miners_count_for_themselves_and_nobody_else_has_a_header() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        setup.difficulty = (1e-10, 1e-10);
        setup.stratum = "proxies = [\"127.0.0.66\"]".to_owned();
        setup.limits = "per_address = 2\noffences = 2\nban = 600\ntrusted = []";
    });
    let user = address(Chain::Signet, 45);
    // Both versions, in one segment with what follows or in pieces, IPv6, and a look at the pool's health.
    let mut inside: Vec<Wire> = [
        v1("192.0.2.7"),
        v2(1, [192, 0, 2, 7]),
        v1("192.0.2.8"),
        b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 3333\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(0, [0; 4]),
    ]
    .iter()
    .map(|header| through_proxy(&pool, header).expect("a good header"))
    .collect();
    for header in [v1("192.0.2.9"), v2(1, [192, 0, 2, 10])] {
        let mut wire = Wire::open_from(PROXY, pool.setup.stratum_port, None).unwrap();
        header.iter().for_each(|byte| wire.send([*byte]));
        wire.subscribe();
        inside.push(wire);
    }
    for wire in &mut inside {
        wire.authorize(&user, "x");
        assert_eq!(wire.submit(&user, &wire.job().share(1)), 0);
    }
    // Two of that address are inside; another one behind the same proxy is not its business.
    assert!(through_proxy(&pool, &v2(1, [192, 0, 2, 7])).is_none());
    pool.wait_closed("address", 0, 1);
    assert!(through_proxy(&pool, &v1("192.0.2.8")).is_some());

    // Without a header, or with one that is none.
    let headless: [&[u8]; 4] = [b"", b"PROXY TCP4 nonsense\r\n", b"GET / HTTP/1.1\r\n", &[b'P'; 3000]];
    for header in headless {
        assert!(through_proxy(&pool, header).is_none(), "{header:?}");
    }
    pool.wait_closed("no_proxy_header", 0, headless.len() as u64);
    // Whoever is no proxy lies.
    for header in [v1("192.0.2.11"), v2(1, [192, 0, 2, 11])] {
        let mut wire = Wire::open(pool.setup.stratum_port);
        wire.send([&header[..], b"{\"id\":1,\"method\":\"mining.ping\"}\n"].concat());
        assert_eq!(wire.closed(), [""; 0]);
    }
    pool.wait_closed("not_stratum", 0, 2);

    // What one miner does is held against its own address.
    wait_for("192.0.2.12 to be banned", PATIENCE, || {
        through_proxy(&pool, &[&v1("192.0.2.12")[..], b"GET / HTTP/1.1\r\n\r\n"].concat());
        (pool.closed("banned") > 0).then_some(())
    });
    assert!(through_proxy(&pool, &v1("192.0.2.12")).is_none());
    assert!(through_proxy(&pool, &v1("192.0.2.13")).is_some());
    inside.iter_mut().for_each(Wire::nothing_else);
    assert!(pool.is_running());
}

/// Makes a certificate for the names of the loopback, and puts it where the configuration says.
fn certify(directory: &Path) -> CertificateDer<'static> {
    let names = ["pool.example".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(directory.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

/// A miner that speaks TLS.
struct Secret {
    lines: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    extranonce1: Vec<u8>,
}

impl Secret {
    /// Connects, subscribes; an error if TLS does not come about. A name that is an address is not sent (no SNI).
    fn start(
        port: u16,
        trusts: &CertificateDer<'static>,
        name: &str,
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(trusts.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut secret =
            Self { lines: BufReader::new(StreamOwned::new(client, stream)), extranonce1: Vec::new() };
        let reply = secret.ask("mining.subscribe", json!([]))?.0;
        secret.extranonce1 = hex::decode(reply["result"][1].as_str().unwrap()).unwrap();
        Ok(secret)
    }

    /// The reply, and what came before it.
    fn ask(&mut self, method: &str, params: Value) -> std::io::Result<(Value, Vec<Value>)> {
        let request = json!({"id": 1, "method": method, "params": params});
        self.lines.get_mut().write_all(format!("{request}\n").as_bytes())?;
        let mut before = Vec::new();
        loop {
            let message = self.message()?;
            if message.get("method").is_none() {
                return Ok((message, before));
            }
            before.push(message);
        }
    }

    fn message(&mut self) -> std::io::Result<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(std::io::Error::other)
    }

    /// Authorizes, and has one share accepted.
    fn mine(&mut self, user: &str) {
        let (reply, _) = self.ask("mining.authorize", json!([user, "x"])).unwrap();
        assert_eq!(reply["result"], json!(true));
        let job = loop {
            let message = self.message().unwrap();
            if message["method"] == "mining.notify" {
                break Job::new(&message["params"], &self.extranonce1, 1e-10);
            }
        };
        let (reply, _) = self.ask("mining.submit", job.share(1).params(user)).unwrap();
        assert_eq!(reply["result"], json!(true), "{reply}");
    }

    fn is_alive(&mut self) -> bool {
        self.ask("mining.ping", json!([])).is_ok_and(|(reply, _)| reply["result"] == "pong")
    }
}

#[test]
fn f46_tls_beside_plain_lines_and_on_a_port_of_its_own() {
    let node = Node::start(Chain::Signet, Login::Cookie);
    let directory = crate::support::directory();
    let (old, secret_port) = (certify(directory.path()), free_port());
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        setup.difficulty = (1e-10, 1e-10);
        let file = |name: &str| directory.path().join(name).display().to_string();
        setup.stratum = format!(
            "v1_tls = [\"127.0.0.1:{secret_port}\"]\ntls_certificate = \"{}\"\ntls_key = \"{}\"",
            file("cert.pem"),
            file("key.pem")
        );
    });
    let (both_port, user) = (pool.setup.stratum_port, address(Chain::Signet, 46));
    let mut inside = Vec::new();
    for port in [secret_port, both_port] {
        for version in [&TLS12, &TLS13] {
            for name in ["pool.example", "127.0.0.1"] {
                let mut miner = Secret::start(port, &old, name, version).unwrap();
                miner.mine(&user);
                inside.push(miner);
            }
        }
    }
    let mut plain = Wire::start(both_port, &user, "x");
    assert_eq!(plain.submit(&user, &plain.job().share(2)), 0);

    // Plain lines on the port for TLS, TLS 1.0 (its hello, to be exact), a hello that stops and one that is nonsense.
    let old_hello =
        [&[0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    let others: [&[u8]; 4] = [
        b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &old_hello,
        &[0x16; 300],
    ];
    for bytes in others {
        let mut wire = Wire::open(secret_port);
        wire.send(bytes);
        wire.closed_silently();
    }
    pool.wait_closed("not_tls", 0, others.len() as u64);

    // A new certificate, and a key that does not fit while it is being written: nobody is closed, and who comes later
    // sees the new one.
    fs::write(directory.path().join("key.pem"), "nonsense").unwrap();
    let new = certify(directory.path());
    let mut late = wait_for("the new certificate", Duration::from_secs(40), || {
        Secret::start(secret_port, &new, "pool.example", &TLS13).ok()
    });
    late.mine(&user);
    assert!(Secret::start(secret_port, &old, "pool.example", &TLS13).is_err(), "the old one is gone");
    assert!(inside.iter_mut().all(Secret::is_alive));
    plain.nothing_else();
    assert!(pool.terminate().success());
}
