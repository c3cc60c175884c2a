//! Peers that speak no Stratum, or too much of it: they cost themselves only.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Processor, address,
    miner::{Manner, Miner},
    node::{Chain, Login, Node},
    pool::Pool,
};

mod limits;
mod names;
mod shares;
mod sockets;

const MIB: u64 = 1024 * 1024;

/// Sends `bytes`, reads until the pool closes or `limit` is over, and returns what came and whether it closed.
fn poke(port: u16, bytes: &[u8], limit: Duration) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stream.set_write_timeout(Some(limit)).unwrap();
    // The pool may close in the middle of it: that is one of the right answers.
    let _ = stream.write_all(bytes);
    let (start, mut answer, mut buffer) = (Instant::now(), Vec::new(), [0; 4096]);
    while start.elapsed() < limit {
        match stream.read(&mut buffer) {
            Ok(0) => return (answer, true),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => (),
            Err(_) => return (answer, true),
        }
    }
    (answer, false)
}

#[test]
fn f42_bad_peers_cost_themselves_only() {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool =
        Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.difficulty = (0.000_02, 0.000_02));
    let port = pool.setup.stratum_port;

    let honest = format!("{}.honest", address(Chain::Signet, 2));
    let (done, over) = std::sync::mpsc::channel::<()>();
    let honest = thread::spawn(move || {
        let mut miner = Miner::connect(port, &honest, Manner::Backwards).unwrap();
        miner.pace = Duration::from_millis(20);
        let mut longest = Duration::ZERO;
        let (mut last, mut count) = (Instant::now(), 0);
        let result = miner.mine(|tally| {
            if tally.acknowledged > count {
                (longest, last, count) = (longest.max(last.elapsed()), Instant::now(), tally.acknowledged);
            }
            over.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty)
        });
        (result, miner.tally.clone(), longest)
    });

    let before = pool.memory();
    let second = Duration::from_secs(1);
    let mut closed = |name: &str, bytes: &[u8]| {
        let (answer, closed) = poke(port, bytes, 10 * second);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(closed, "{name}: still open, after the answer {answer:?}");
        assert!(pool.is_running(), "{name} stopped the pool");
    };
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat();
    closed("ten megabytes without an end", &vec![b'a'; 10 * MIB as usize]);
    closed("a line of ten megabytes", &[&vec![b' '; 10 * MIB as usize][..], b"\n"].concat());
    closed("a million brackets", &vec![b'['; 1_000_000]);
    closed("brackets just below the limit", &[&[b'['; 4000][..], b"\n"].concat());
    closed(
        "a string of ten megabytes",
        format!("{{\"id\":1,\"method\":\"{}\"}}\n", "x".repeat(10 << 20)).as_bytes(),
    );
    closed("a TLS hello", &hello);
    closed("a web browser", b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n");
    closed(
        "remote desktop",
        b"\x03\0\0\x2f\x2a\xe0\0\0\0\0\0Cookie: mstshash=Administr\r\n\x01\0\x08\0\x03\0\0\0",
    );
    closed("a PROXY header that nobody asked for", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n");
    closed("NUL", b"\0\0\0\0");
    closed("NUL in a line", b"{\"id\":1,\"method\":\"mining\0.ping\",\"params\":[]}\n");
    closed("every byte", &[(0..=255).collect::<Vec<u8>>(), b"\n".to_vec()].concat());
    closed("invalid UTF-8", b"{\"id\":1,\"method\":\"\xff\xfe\",\"params\":[]}\n\xff\xff\xff\n");
    let noise: Vec<u8> =
        (0u64..100_000).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    closed("noise", &noise);

    // These are JSON, so they get an answer for each request that has an id, and nothing else happens.
    let mut answered = |name: &str, lines: &str, replies: usize| {
        let (answer, _) = poke(port, lines.as_bytes(), second);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(
            answer.lines().filter(|line| line.contains("\"result\"")).count(),
            replies,
            "{name}: {answer}"
        );
        assert!(pool.is_running(), "{name} stopped the pool");
    };
    answered("unknown method", "{\"id\":7,\"method\":\"mining.teapot\",\"params\":[]}\n", 1);
    answered("no params", "{\"id\":7,\"method\":\"mining.submit\"}\n", 1);
    answered("no id", "{\"method\":\"mining.submit\",\"params\":[]}\n", 0);
    answered(
        "wrong types",
        "{\"id\":7,\"method\":\"mining.submit\",\"params\":[{},[],null,1,true,-1e99]}\n",
        1,
    );
    answered(
        "submit before all",
        "{\"id\":7,\"method\":\"mining.submit\",\"params\":[\"a\",\"1\",\"00\",\"00\",\"00\"]}\n",
        1,
    );
    answered(
        "no address",
        "{\"id\":\"x\",\"method\":\"mining.authorize\",\"params\":[\"'; drop table miner; --\",\"\"]}\n",
        1,
    );
    answered(
        "blank lines",
        "\n\r\n   \n{\"id\":1.5,\"method\":\"mining.subscribe\",\"params\":[null,null]}\r\n\n",
        1,
    );
    answered(
        "every key twice",
        "{\"id\":1,\"id\":2,\"method\":\"mining.ping\",\"method\":\"mining.subscribe\",\"params\":[1],\"params\":[]}\n",
        1,
    );
    answered("a reply", "{\"id\":1,\"result\":true,\"error\":null}\n", 0);

    // A crowd that stops in the middle of a line: half of it leaves, half of it stays silent.
    let crowd: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"{\"id\":1,\"method\":\"mining.subscr").unwrap();
            if number % 2 == 0 {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            stream
        })
        .collect();
    thread::sleep(second);
    let grown = pool.memory().saturating_sub(before);
    assert!(grown < 64 * MIB, "memory grew by {} MiB", grown / MIB);
    drop(crowd);

    drop(done);
    let (result, tally, longest) = honest.join().unwrap();
    assert_eq!(result, Ok(()));
    tally.must_be_clean();
    assert!(tally.acknowledged > 100, "the honest miner got only {} shares through", tally.acknowledged);
    assert!(longest < 5 * second, "the honest miner once waited {longest:?} for a reply");
    assert!(pool.terminate().success());
}
