//! What a template of 4,000 transactions costs: when it comes, and when a block on it is found.
//!
//! `cargo bench -p template`. From a solved share to the first byte of `submitblock` at a node, 5 ms are allowed.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use divan::{Bencher, black_box, counter::BytesCount};
use share::{Extranonce, Job, Submission};
use template::{
    Auth, Node, Output, Rpc, RpcConfig, Solved, Submitter, Template, coinbase, node::rpc::template_of,
};
use tokio::runtime::Builder;

#[path = "../tests/support/reply.rs"]
mod reply;

fn main() {
    divan::main();
}

fn body() -> Vec<u8> {
    reply::reply(4000, 400).into_bytes()
}

fn template() -> Template {
    template_of(200, body()).expect("a template")
}

fn solved(template: &Template) -> (Job, Submission) {
    let outputs = [Output { script: vec![0x51], sats: template.coinbase_value }];
    let job = template.job(coinbase(template, "/bench/", &[1; 8], &outputs, 12).expect("a coinbase"));
    let extranonce = Extranonce::new(&[&[9; 12]]).expect("12 bytes");
    let submission = Submission { extranonce, time: job.time, nonce: 5, version: job.version };
    (job, submission)
}

#[divan::bench]
fn parse(bencher: Bencher) {
    let body = body();
    bencher
        .counter(BytesCount::of_slice(&body))
        .with_inputs(|| body.clone())
        .bench_values(|body| template_of(200, black_box(body)));
}

#[divan::bench]
fn block(bencher: Bencher) {
    let template = template();
    let (job, submission) = solved(&template);
    bencher
        .counter(BytesCount::of_slice(&template.transactions))
        .bench(|| template.block(black_box(&job), black_box(&submission)));
}

/// The text that `submitblock` takes.
#[divan::bench]
fn hex_of_a_block(bencher: Bencher) {
    let template = template();
    let (job, submission) = solved(&template);
    let block = template.block(&job, &submission);
    bencher.counter(BytesCount::of_slice(&block)).bench(|| {
        let mut text = vec![0; 2 * block.len()];
        faster_hex::hex_encode(black_box(&block), &mut text).expect("room");
        text
    });
}

/// The file of a block: written, not yet forced onto the disk.
#[divan::bench]
fn file_of_a_block(bencher: Bencher) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _within = runtime.enter();
    let dir = tempfile::tempdir().expect("a directory");
    let submitter = Submitter::start(Vec::new(), dir.path().into()).expect("a directory");
    let template = template();
    let (job, submission) = solved(&template);
    let block = template.block(&job, &submission);
    let mut number = 0u64;
    let next = || {
        number += 1;
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        Solved { hash, height: template.height, block: block.clone() }
    };
    bencher.with_inputs(next).bench_local_values(|solved| submitter.keep(solved, &[]));
}

/// A node's port: says when the first byte of a block is there, then reads it to its end and has it in its chain.
fn port(tell: mpsc::Sender<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, tell) = (socket.expect("a connection"), tell.clone());
            thread::spawn(move || while answer(&mut socket, &tell).is_ok() {});
        }
    });
    url
}

/// One question and its answer. Every question is one JSON object, and the last thing that is sent.
fn answer(socket: &mut TcpStream, tell: &mpsc::Sender<()>) -> io::Result<()> {
    let (mut part, mut last, mut is_block) = (vec![0; 1 << 20], 0, None);
    while last != b'}' {
        let read = socket.read(&mut part)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        last = part[read - 1];
        // Nobody but a block has that much to say.
        if is_block.is_none() && part[..read].windows(14).any(|text| text == b"getblockheader") {
            is_block = Some(false);
        } else if is_block.is_none() && read > 1000 {
            is_block = Some(true);
            tell.send(()).expect("a listener");
        }
    }
    let body: &[u8] = match is_block {
        Some(true) => br#"{"result":null,"error":null,"id":1}"#,
        _ => br#"{"result":{"height":924300,"confirmations":1},"error":null,"id":1}"#,
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    socket.write_all(&[head.as_bytes(), body].concat())
}

/// From the submission judged a block, over its file on disk, to its first byte at the last of so many nodes, each on a
/// warm connection.
#[divan::bench(args = [1, 3])]
fn block_to_the_last_node(bencher: Bencher, nodes: usize) {
    let (tell, told) = mpsc::channel();
    let auth = Auth::Password { user: "u".into(), password: "p".into() };
    let network = bitcoin::Network::Regtest;
    let rpcs = (0..nodes).map(|_| {
        let config = RpcConfig { url: port(tell.clone()), auth: auth.clone(), network };
        Arc::new(Rpc::new(config).expect("an address")) as Arc<dyn Node>
    });
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let _within = runtime.enter();
    let dir = tempfile::tempdir().expect("a directory");
    let submitter = Submitter::start(rpcs.collect(), dir.path().into()).expect("a directory");
    let template = template();
    let (job, submission) = solved(&template);
    let mut nonce = 0;
    let mut send = || {
        nonce += 1;
        let submission = Submission { nonce, ..submission };
        let hash = share::sha256::double(&job.header(&submission));
        let block = template.block(&job, &submission);
        submitter.submit(Solved { hash, height: template.height, block });
        (0..nodes).for_each(|_| told.recv().expect("a node"));
    };
    send();
    // What follows the first bytes is not measured.
    let settle = || {
        assert!(runtime.block_on(submitter.settled(Duration::from_secs(60))), "a node that does not answer")
    };
    bencher.with_inputs(settle).bench_local_values(|()| send());
}
