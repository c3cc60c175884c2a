//! What a template costs in memory, from the node's first byte to the machine form. One test alone in its process: it
//! counts what the whole process holds.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::Arc,
    thread,
};

use peak_alloc::PeakAlloc;
use template::{Auth, Node, Rpc, RpcConfig};
use tokio::runtime::Builder;

#[path = "support/reply.rs"]
mod reply;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Answers one question after the other with these, each on a connection that goes on. The length is announced, as nodes
/// do, or is not.
fn serve(listener: &TcpListener, answers: &[(String, bool)]) {
    let (socket, _) = listener.accept().expect("a connection");
    let mut socket = BufReader::new(socket);
    for (body, is_announced) in answers {
        let mut length = 0;
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).expect("a request");
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().expect("a length"),
                None if line == "\r\n" => break,
                _ => {}
            }
        }
        socket.read_exact(&mut vec![0; length]).expect("a body");
        let head = if *is_announced {
            format!("Content-Length: {}", body.len())
        } else {
            "Connection: close".into()
        };
        write!(socket.get_mut(), "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").expect("a reader");
    }
}

#[test]
fn a_template_is_parsed_in_three_times_its_size() {
    // Below and above a power of two, which is where buffers that double hold the most.
    let replies: Vec<String> = [400, 430].map(|size| reply::reply(4000, size)).into();
    assert!(replies[0].len() < 1 << 22 && replies[1].len() > 1 << 22);
    for reply in replies {
        measure(reply);
    }
}

fn measure(reply: String) {
    let (size, listener) = (reply.len(), TcpListener::bind("127.0.0.1:0").expect("loopback"));
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let chain = r#"{"result":{"chain":"regtest"},"error":null,"id":1}"#.to_owned();
    let small = reply::reply(1, 400);
    let answers = vec![(chain, true), (small, true), (reply.clone(), true), (reply, false)];
    let answers = Arc::new(answers); // counted all the time
    let served = answers.clone();
    let server = thread::spawn(move || serve(&listener, &served));

    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let auth = Auth::Password { user: "u".into(), password: "p".into() };
    let rpc = Rpc::new(RpcConfig { url, auth, network: bitcoin::Network::Regtest }).expect("an address");
    runtime.block_on(async {
        rpc.template(None).await.expect("the small one");
        for way in ["its length announced", "until the end of the connection"] {
            let before = MEMORY.current_usage();
            MEMORY.reset_peak_usage();
            let template = rpc.template(None).await.expect("a template");
            let (peak, after) = (MEMORY.peak_usage(), MEMORY.current_usage());
            let [peak, after] = [peak, after].map(|now| now.saturating_sub(before));
            assert_eq!(template.transaction_count, 4000);
            println!("{way}: at most {peak} bytes for {size}, of which {after} stay");
            assert!(peak >= size + template.transactions.len(), "the reply itself is among it: {peak}");
            assert!(peak <= 3 * size, "{way}: {peak} bytes for {size}");
            // The transactions are half of their hex; beside them stay some hashes and the connection's buffers.
            assert!(after <= size, "{way}: {after} bytes of {size} stay");
        }
    });
    server.join().expect("all was asked");
}
