//! Publishers that send bytes of our choice.

use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

const READY: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB";

fn greeting(minor_version: u8) -> Vec<u8> {
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10], greeting[11]) = (0xff, 0x7f, 3, minor_version);
    greeting[12..16].copy_from_slice(b"NULL");
    greeting.into()
}

/// A message as frames.
fn message(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        bytes.extend([u8::from(at + 1 < parts.len()), u8::try_from(part.len()).unwrap()]);
        bytes.extend_from_slice(part);
    }
    bytes
}

fn block(first: u8, number: u32) -> Vec<u8> {
    let mut hash = [0x11; 32];
    hash[31] = first;
    message(&[b"hashblock", &hash, &number.to_le_bytes()])
}

fn announced(first: u8, missed: u32) -> Hashblock {
    let mut hash = [0x11; 32];
    hash[0] = first;
    Hashblock { hash, missed }
}

fn quick() -> Patience {
    let ms = Duration::from_millis;
    Patience { connect: ms(1000), quiet: ms(100), dead: ms(400), first: ms(5), longest: ms(20) }
}

struct Publisher(TcpListener);

impl Publisher {
    async fn new() -> (Self, Zmq) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        (Self(listener), Zmq::with(&address, quick()).unwrap())
    }

    /// The next connection, not yet greeted.
    async fn accept(&self) -> TcpStream {
        let accepted = timeout(Duration::from_secs(20), self.0.accept()).await.expect("it connects again");
        accepted.unwrap().0
    }

    /// The next connection, greeted and subscribed.
    async fn subscriber(&self, minor_version: u8) -> TcpStream {
        let mut stream = self.accept().await;
        stream.write_all(&greeting(minor_version)).await.unwrap();
        stream.write_all(READY).await.unwrap();
        let expect: &[u8] = match minor_version {
            0 => b"\0\x0a\x01hashblock",
            _ => b"\x04\x13\x09SUBSCRIBEhashblock",
        };
        expected(&mut stream, &greeting(1)).await;
        expected(&mut stream, b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB").await;
        expected(&mut stream, expect).await;
        stream
    }
}

async fn expected(stream: &mut TcpStream, bytes: &[u8]) {
    let mut found = vec![0; bytes.len()];
    let read = timeout(Duration::from_secs(20), stream.read_exact(&mut found));
    read.await.expect("it speaks").unwrap();
    assert_eq!(found.escape_ascii().to_string(), bytes.escape_ascii().to_string());
}

async fn next(zmq: &mut Zmq) -> Hashblock {
    timeout(Duration::from_secs(20), zmq.next()).await.expect("a block is announced")
}

#[test]
fn addresses() {
    let check = |text: &str, expect: Result<Endpoint, &str>| {
        assert_eq!(Endpoint::parse(text), expect, "{text}");
        assert_eq!(Zmq::new(text).is_ok(), expect.is_ok());
    };
    let tcp = |host: &str, port| Ok(Endpoint::Tcp { host: host.into(), port });
    check("tcp://127.0.0.1:28332", tcp("127.0.0.1", 28332));
    check("tcp://node.example:1", tcp("node.example", 1));
    check("tcp://[::1]:28332", tcp("::1", 28332));
    check("ipc:///run/bitcoind/zmq", Ok(Endpoint::Ipc("/run/bitcoind/zmq".into())));
    check("unix:/run/zmq", Ok(Endpoint::Ipc("/run/zmq".into())));
    check("ipc://", Err("it names no socket file"));
    check("", Err("it begins with neither tcp:// nor ipc://"));
    check("127.0.0.1:28332", Err("it begins with neither tcp:// nor ipc://"));
    check("http://127.0.0.1:28332", Err("it begins with neither tcp:// nor ipc://"));
    check("tcp://127.0.0.1", Err("it has no port"));
    for port in ["0", "65536", "-1", "", "http"] {
        check(&format!("tcp://127.0.0.1:{port}"), Err("its port is no number from 1 to 65535"));
    }
    check("tcp://:28332", Err("it names no host"));
    check("tcp://*:28332", Err("* is for the node, to listen everywhere; here, name one host"));
    check("tcp://::1:28332", Err("its host is none"));
    check("tcp://[::1:28332", Err("its host is none"));
    check("tcp://a/b:28332", Err("its host is none"));
    let error = Zmq::new("tcp://x").unwrap_err().to_string();
    assert!(
        error.starts_with("ZMQ address \"tcp://x\" is not usable (it has no port): give it as tcp://"),
        "{error}"
    );
}

#[test]
fn messages() {
    let check = |parts: &[&[u8]], expect: Result<(Hash, u32), &str>| {
        let mut message = Message::default();
        parts.iter().for_each(|part| message.add(part.to_vec().into()));
        assert_eq!(hashblock(&message), expect, "{parts:?}");
    };
    let mut display = [0; 32];
    (display[0], display[31]) = (1, 2);
    let mut internal = [0; 32];
    (internal[0], internal[31]) = (2, 1);
    check(&[b"hashblock", &display, &[7, 1, 0, 0]], Ok((internal, 263)));
    check(&[b"hashblock", &display, &[0xff; 4]], Ok((internal, u32::MAX)));
    for parts in [
        &[&b"hashblock"[..]][..],
        &[&b"hashblock"[..], &display],
        &[&b"hashblock"[..], &display, &[0; 4], &[]],
        &[&b"hashblock"[..], &display, &[0; 4], &[], &[], &[]],
    ] {
        check(parts, Err("it has not three parts"));
    }
    for topic in [&b"hashblock2"[..], b"hashtx", b"", b"HASHBLOCK"] {
        check(&[topic, &display, &[0; 4]], Err("its topic is not hashblock"));
    }
    for hash in [&[][..], &[0; 31], &[0; 33], &[0; 4000]] {
        check(&[b"hashblock", hash, &[0; 4]], Err("its hash is not 32 bytes long"));
    }
    for number in [&[][..], &[0; 3], &[0; 5], &[0; 8]] {
        check(&[b"hashblock", &display, number], Err("its number is not 4 bytes long"));
    }
}

#[test]
fn f08_gaps_in_the_count() {
    let check = |numbers: &[u32], expect: &[u32]| {
        let mut count = Count::default();
        let missed: Vec<u32> = numbers.iter().map(|&number| count.missed_before(number)).collect();
        assert_eq!(missed, expect, "{numbers:?}");
    };
    check(&[0, 1, 2, 3], &[0, 0, 0, 0]);
    check(&[1000, 1001], &[0, 0]);
    check(&[5, 7, 8, 12], &[0, 1, 0, 3]);
    // Round the corner.
    check(&[u32::MAX - 1, u32::MAX, 0, 1], &[0, 0, 0, 0]);
    check(&[u32::MAX - 1, 1], &[0, 2]);
    // Another count has begun.
    check(&[900, 0, 1, 3], &[0, 0, 0, 1]);
    check(&[u32::MAX / 2, 0, 1], &[0, 0, 0]);
    check(&[7, 7, 8], &[0, 0, 0]);
}

#[tokio::test]
async fn blocks_are_heard_and_the_newest_is_returned() {
    let (publisher, mut zmq) = Publisher::new().await;
    assert!(!zmq.is_connected());
    let announce = async {
        let mut stream = publisher.subscriber(1).await;
        stream.write_all(&block(1, 7)).await.unwrap();
        stream
    };
    let (mut stream, first) = tokio::join!(announce, next(&mut zmq));
    assert_eq!(first, announced(1, 0));
    assert!(zmq.is_connected());

    // Ten at once, two of them lost; byte by byte, all the same.
    let ten: Vec<u8> =
        (8..=17).filter(|number| ![10, 13].contains(number)).flat_map(|n| block(n as u8, n)).collect();
    for byte in ten {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let (mut missed, mut last) = (0, announced(0, 0));
    while last.hash != announced(17, 0).hash {
        last = next(&mut zmq).await;
        missed += last.missed;
    }
    assert_eq!(missed, 2);

    // Nothing is lost by who stops waiting.
    for number in 18..30u8 {
        assert!(timeout(Duration::from_millis(3), zmq.next()).await.is_err());
        stream.write_all(&block(number, number.into())).await.unwrap();
        assert_eq!(next(&mut zmq).await, announced(number, 0));
    }
}

#[tokio::test]
async fn garbage_is_ignored_and_the_count_goes_on() {
    let (publisher, mut zmq) = Publisher::new().await;
    let announce = async {
        let mut stream = publisher.subscriber(1).await;
        let mut bytes = block(1, 1);
        bytes.extend(message(&[b"hashblock"]));
        bytes.extend(message(&[b""]));
        bytes.extend(message(&[b"hashblock", &[1; 31], &[2, 0, 0, 0]]));
        bytes.extend(message(&[b"hashblocks", &[1; 32], &[2, 0, 0, 0]]));
        bytes.extend(message(&[&[b'x'; 9][..]; 1000]));
        bytes.extend(b"\x04\x05\x04WHAT\x04\0\x04\x01\xff");
        bytes.extend(block(2, 3));
        stream.write_all(&bytes).await.unwrap();
        stream
    };
    let (_stream, first) = tokio::join!(announce, next(&mut zmq));
    let second = if first.hash == announced(1, 0).hash { next(&mut zmq).await } else { first };
    assert_eq!(second, announced(2, 1));
}

/// Whatever it is that sits at the address: we come again, politely, and hear blocks when a publisher is there.
#[tokio::test]
async fn what_is_no_publisher_is_left() {
    let endless = [greeting(1), READY.into(), b"\x02\0\0\0\0\0\0\x0f\xffxxxx".to_vec()].concat();
    for (bytes, is_open) in [
        (Vec::new(), true),
        (Vec::new(), false),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(), true),
        (greeting(1)[..63].to_vec(), true),
        (greeting(1), true),
        (greeting(1), false),
        ([greeting(1), b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PULL".to_vec()].concat(), true),
        ([greeting(1), b"\x04\x06\x05READY".to_vec()].concat(), true),
        ([greeting(1), b"\x04\x0c\x05READY\x0bSocke".to_vec()].concat(), true),
        ([greeting(1), b"\x04\x17\x05READY\x0bSocket-Type\xff\xff\xff\xffP".to_vec()].concat(), true),
        ([greeting(1), b"\x04\x0a\x05ERROR\x03no!".to_vec()].concat(), true),
        ([greeting(1), block(1, 1)].concat(), true),
        ([greeting(1), READY.into(), vec![0xff; 10]].concat(), true),
        // A length that nobody can have: 2^62, 2^64 - 1, and one more than the limit.
        ([greeting(1), READY.into(), b"\x02\x40\0\0\0\0\0\0\0".to_vec()].concat(), true),
        ([greeting(1), READY.into(), b"\x02\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()].concat(), true),
        ([greeting(1), READY.into(), b"\x02\0\0\0\0\0\0\x10\x01".to_vec()].concat(), true),
        ([greeting(1), b"\x06\x40\0\0\0\0\0\0\0".to_vec()].concat(), true),
        (endless, true),
    ] {
        let (publisher, mut zmq) = Publisher::new().await;
        let meet = async {
            let mut stream = publisher.accept().await;
            stream.write_all(&bytes).await.unwrap();
            let _open = is_open.then_some(stream);
            let mut stream = publisher.subscriber(1).await;
            stream.write_all(&block(9, 0)).await.unwrap();
            stream
        };
        let (_stream, heard) = tokio::join!(meet, next(&mut zmq));
        assert_eq!(heard, announced(9, 0), "{}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn f08_a_publisher_that_falls_silent_is_left_and_one_that_answers_is_not() {
    let (publisher, mut zmq) = Publisher::new().await;
    let meet = async {
        let mut stream = publisher.subscriber(1).await;
        for _ in 0..10 {
            expected(&mut stream, b"\x04\x07\x04PING\0\0").await;
            stream.write_all(b"\x04\x05\x04PONG").await.unwrap();
        }
        // Its own question, with something to send back.
        stream.write_all(b"\x04\x0a\x04PING\0\x05abc").await.unwrap();
        expected(&mut stream, b"\x04\x08\x04PONGabc").await;
        // From here on it is dead, but the connection stands.
        let mut second = publisher.subscriber(1).await;
        second.write_all(&block(1, 5)).await.unwrap();
        (stream, second)
    };
    let (_streams, heard) = tokio::join!(meet, next(&mut zmq));
    assert_eq!(heard, announced(1, 0));

    // An old one cannot be asked, and is not.
    let (publisher, mut zmq) = Publisher::new().await;
    let meet = async {
        let mut stream = publisher.subscriber(0).await;
        let (mut byte, whole) = ([0; 1], 3 * quick().dead);
        assert!(timeout(whole, stream.read(&mut byte)).await.is_err(), "it says {byte:?}");
        stream.write_all(&block(2, 5)).await.unwrap();
        stream
    };
    let (_stream, heard) = tokio::join!(meet, next(&mut zmq));
    assert_eq!(heard, announced(2, 0));
}

#[tokio::test]
async fn each_connection_has_its_own_count() {
    let (publisher, mut zmq) = Publisher::new().await;
    for (first, number) in [(1, 900), (2, 0), (3, 77), (4, 1)] {
        let meet = async {
            let mut stream = publisher.subscriber(1).await;
            stream.write_all(&block(first, number)).await.unwrap();
            // Closed here.
        };
        let (_, heard) = tokio::join!(meet, next(&mut zmq));
        assert_eq!(heard, announced(first, 0));
    }
    while zmq.is_connected() {
        sleep(Duration::from_millis(5)).await;
    }
    // The task ends with its owner.
    let shared = Arc::downgrade(&zmq.shared);
    drop(zmq);
    while shared.strong_count() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_socket_file_does_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zmq");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let mut zmq = Zmq::new(&format!("ipc://{}", path.display())).unwrap();
    let meet = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[greeting(1), READY.into(), block(3, 5)].concat()).await.unwrap();
        stream
    };
    let (_stream, heard) = tokio::join!(meet, next(&mut zmq));
    assert_eq!(heard, announced(3, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_stream_of_frames_panics(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..8], 0..300)) {
        let mut buffer = bytes::BytesMut::from(&bytes[..]);
        let mut message = Message::default();
        while let Ok(Some(frame)) = link::cut(&mut buffer) {
            let _ = frame.command().map(|(_, rest)| link::is_publisher(rest));
            message.add(frame.body);
            let _ = hashblock(&message);
        }
        prop_assert!(buffer.len() <= bytes.len());
    }
}
