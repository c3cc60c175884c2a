//! Blocks of a node, announced as the node does it, with libzmq; but by a program of ours (`publisher.c`), so that it
//! can also announce nonsense, lose numbers, stop and die.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use template::{
    Node,
    node::zmq::{Hashblock, Zmq},
};
use tokio::{
    io::AsyncBufReadExt,
    net::unix::pipe,
    time::{Instant, sleep, timeout},
};

use crate::{
    daemon::Daemon,
    miner::{block, shown},
};

struct Publisher {
    child: Child,
    input: ChildStdin,
    endpoint: String,
}

/// The program, compiled once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let packages =
            Command::new(here.join("../../scripts/debian-packages")).args(["gcc", "libzmq3-dev"]).status();
        assert!(packages.unwrap().success(), "libzmq is missing");
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("publisher");
        let source = here.join("tests/node/publisher.c");
        let compiled = Command::new("cc").arg("-o").arg(&to).arg(source).arg("-lzmq").status();
        assert!(compiled.unwrap().success(), "publisher.c does not compile");
        to
    })
}

impl Publisher {
    /// At a free port of loopback, or where another one was.
    fn start(endpoint: &str) -> Self {
        let mut command = Command::new(program());
        let mut child =
            command.arg(endpoint).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (input, mut said) = (child.stdin.take().unwrap(), String::new());
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        Self { child, input, endpoint: said.trim().to_owned() }
    }

    fn new() -> Self {
        Self::start("tcp://127.0.0.1:*")
    }

    fn publish(&mut self, parts: &[&str]) {
        writeln!(self.input, "{}", parts.join(" ")).expect("a living publisher");
        self.input.flush().expect("a living publisher");
    }

    /// `hash` as people write it.
    fn announce(&mut self, hash: &str, number: u32) {
        self.publish(&[&hex::encode("hashblock"), hash, &hex::encode(number.to_le_bytes())]);
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Dead already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn next(zmq: &mut Zmq) -> Hashblock {
    timeout(Duration::from_secs(30), zmq.next()).await.expect("a block is announced")
}

/// What a block whose hash is only this is announced as, and what comes out of it.
fn made_up(number: u32) -> (String, [u8; 32]) {
    let mut hash = [0xab; 32];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    (shown(&hash), hash)
}

/// Subscribing takes a moment that nobody tells the end of; what is published before it is lost. So: until it is heard.
async fn subscribed(zmq: &mut Zmq, publisher: &mut Publisher, number: u32) {
    let (text, hash) = made_up(number);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        publisher.announce(&text, number);
        if let Ok(heard) = timeout(Duration::from_millis(200), zmq.next()).await {
            assert_eq!(heard, Hashblock { hash, missed: 0 });
            assert!(zmq.is_connected());
            // Those that were announced in the same breath.
            while timeout(Duration::from_millis(300), zmq.next()).await.is_ok() {}
            return;
        }
        assert!(Instant::now() < deadline, "nothing is heard of {}", publisher.endpoint);
    }
}

async fn lost(zmq: &mut Zmq, within: Duration) {
    let since = Instant::now();
    while zmq.is_connected() {
        assert!(since.elapsed() < within, "a lost connection is not noticed");
        assert!(timeout(Duration::from_millis(20), zmq.next()).await.is_err(), "a block out of nothing");
    }
}

#[tokio::test]
async fn blocks_of_a_node_are_heard_once_each() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("blocks");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut told = tokio::io::BufReader::new(
        pipe::OpenOptions::new().read_write(true).open_receiver(&fifo).expect("a pipe"),
    );
    let notify = format!("-blocknotify=echo %s >{}", fifo.display());
    let daemon = Daemon::start(&["-regtest", &notify]).await;
    let (rpc, mut publisher) = (daemon.rpc(), Publisher::new());
    let mut zmq = Zmq::new(&publisher.endpoint).unwrap();
    assert_eq!(zmq.name(), publisher.endpoint);
    subscribed(&mut zmq, &mut publisher, u32::MAX - 4).await;

    // Round the corner of the count, with two numbers left out.
    let mut number = u32::MAX - 4;
    for height in 1..=12u8 {
        let solved = block(&rpc.template(None).await.unwrap(), &[height]);
        rpc.submit(&solved.block).await.unwrap();
        let mut line = String::new();
        timeout(Duration::from_secs(30), told.read_line(&mut line)).await.expect("the node says so").unwrap();
        let lost = if height == 6 { 2 } else { 0 };
        number = number.wrapping_add(1 + lost);
        publisher.announce(line.trim(), number);
        assert_eq!(next(&mut zmq).await, Hashblock { hash: solved.hash, missed: lost });
        assert_eq!(rpc.tip().await.unwrap().hash, solved.hash);
    }

    // Ten in one breath: the newest is there after as many questions as there were, or less.
    for more in 1..=10 {
        publisher.announce(&made_up(more).0, number.wrapping_add(more));
    }
    let (mut questions, mut last) = (0, next(&mut zmq).await);
    while last.hash != made_up(10).1 {
        assert_eq!(last.missed, 0);
        last = next(&mut zmq).await;
        questions += 1;
    }
    assert!(questions < 10, "{questions}");
}

#[tokio::test]
async fn nonsense_from_a_publisher_is_ignored() {
    let mut publisher = Publisher::new();
    let mut zmq = Zmq::new(&publisher.endpoint).unwrap();
    subscribed(&mut zmq, &mut publisher, 7).await;
    let (topic, (text, hash)) = (hex::encode("hashblock"), made_up(8));
    let number = hex::encode(8u32.to_le_bytes());
    for parts in [
        &[topic.as_str()][..],
        &[&topic, &text],
        &[&topic, &text, &number, "00"],
        &[&topic, &text, "0800"],
        &[&topic, &text[2..], &number],
        &[&topic, "*3000", &number],
        &[&hex::encode("hashblocks"), &text, &number],
        &[&hex::encode("rawblock"), &text, &number],
        &[&hex::encode("hashtx"), &text, &number],
    ] {
        publisher.publish(parts);
    }
    publisher.announce(&text, 8);
    assert_eq!(next(&mut zmq).await, Hashblock { hash, missed: 0 });

    // More than anybody takes: another connection, not another message.
    publisher.publish(&[&topic, "*64000000", &number]);
    lost(&mut zmq, Duration::from_secs(20)).await;
    subscribed(&mut zmq, &mut publisher, 9).await;
}

#[tokio::test]
async fn f08_a_publisher_may_die_stop_and_come_back() {
    let mut publisher = Publisher::new();
    let mut zmq = Zmq::new(&publisher.endpoint).unwrap();
    subscribed(&mut zmq, &mut publisher, 700).await;

    for round in 0..3 {
        publisher.kill();
        lost(&mut zmq, Duration::from_secs(20)).await;
        publisher = Publisher::start(&publisher.endpoint);
        subscribed(&mut zmq, &mut publisher, round).await;
    }

    // Stopped for a moment: what it announced meanwhile comes when it goes on.
    publisher.signal("-STOP");
    publisher.announce(&made_up(3).0, 3);
    assert!(timeout(Duration::from_secs(3), zmq.next()).await.is_err());
    publisher.signal("-CONT");
    assert_eq!(next(&mut zmq).await, Hashblock { hash: made_up(3).1, missed: 0 });

    // Nothing to say for longer than we are patient with silence, and still there.
    sleep(Duration::from_secs(18)).await;
    assert!(zmq.is_connected(), "it answers when asked");
    publisher.announce(&made_up(4).0, 4);
    assert_eq!(next(&mut zmq).await, Hashblock { hash: made_up(4).1, missed: 0 });

    // Stopped for long, as if the network had gone: the connection stands, but nobody answers.
    publisher.signal("-STOP");
    lost(&mut zmq, Duration::from_secs(30)).await;
    publisher.signal("-CONT");
    subscribed(&mut zmq, &mut publisher, 5).await;
}
