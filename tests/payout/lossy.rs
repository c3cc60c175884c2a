//! A node that takes a transaction and whose answer is lost.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use super::*;

/// Forwards every question to the node at `port`. While it is lossy, the answers to `sendrawtransaction` do not come back.
struct Lossy {
    port: u16,
    is_lossy: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl Lossy {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let own = listener.local_addr().unwrap().port();
        let (is_lossy, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (flag, count) = (is_lossy.clone(), lost.clone());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let (flag, count) = (flag.clone(), count.clone());
                thread::spawn(move || carry(near, port, &flag, &count));
            }
        });
        Self { port: own, is_lossy, lost }
    }
}

/// One question and its answer after the other.
fn carry(mut near: TcpStream, port: u16, is_lossy: &AtomicBool, lost: &AtomicU64) -> Option<()> {
    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    loop {
        let question = message(&mut near)?;
        far.write_all(&question).ok()?;
        let answer = message(&mut far)?;
        let is_sent = question.windows(18).any(|part| part == b"sendrawtransaction");
        if is_sent && is_lossy.load(Ordering::SeqCst) {
            lost.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        near.write_all(&answer).ok()?;
    }
}

/// A message of HTTP with a Content-Length.
fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut all, mut byte) = (Vec::new(), [0]);
    while !all.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        all.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&all).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    all.extend(body);
    Some(all)
}

/// W4, F-55: the answer to the broadcast is lost again and again, and the pool killed; the miners are paid once.
#[test]
fn answers_to_a_broadcast_are_lost() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::taproot(REGTEST);
    let lossy = Lossy::to(node.rpc_port);
    let mut pool = rich(&node, &key, 3, &tables(&key.private(), BY_HAND));
    pool.setup.node = pool.setup.node.replace(&node.rpc_port.to_string(), &lossy.port.to_string());
    lossy.is_lossy.store(true, Ordering::SeqCst);
    for life in 1..=2 {
        pool.start_again();
        if life == 1 {
            pool.ask(&["payout", "run"]).unwrap();
        }
        let before = lossy.lost.load(Ordering::SeqCst);
        wait_for("an answer to be lost", SOON, || (lossy.lost.load(Ordering::SeqCst) > before).then_some(()));
        assert_eq!(batches(&pool)[0]["status"], "signed");
        pool.kill();
    }
    assert_eq!(
        node.call("getrawmempool", json!([])).as_array().unwrap().len(),
        1,
        "the node has had it all the time"
    );
    // It is confirmed before any answer came, and then every answer comes.
    confirm(&node, 0);
    pool.start_again();
    until_batch(&pool, 1, "paid");
    lossy.is_lossy.store(false, Ordering::SeqCst);
    check_paid(&node, &pool, 3, 3);
    assert!(pool.terminate().success());
}
