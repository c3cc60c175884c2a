//! The other miner: one thread and one blocking socket, as simple as a miner can be. It speaks like cpuminer: one line
//! is read for each reply of the start, every submit has the id 4, and after each one the next line that is no
//! notification must be its reply. Nothing in here is shared with Sluice, nor with the miner in `miner.rs`: hashes are
//! compared as whole 256-bit numbers, byte by byte.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// What came of it.
#[derive(Debug, Default)]
pub struct Count {
    pub accepted: u64,
    /// Refused with code 21.
    pub stale: u64,
    /// Any other refusal.
    pub refused: Vec<String>,
    pub jobs: u64,
    /// How many of these were on a new block.
    pub clean: u64,
}

/// A miner at work.
pub struct Plain {
    lines: BufReader<TcpStream>,
    user: String,
    extranonce1: String,
    difficulty: f64,
    work: Option<Work>,
    seen: HashSet<String>,
    pub count: Count,
}

/// A job, as text where it stays text.
struct Work {
    id: String,
    coinbase: [String; 2],
    branch: Vec<String>,
    /// Version, previous block, and (after the root) time and bits: the header's bytes.
    head: [Vec<u8>; 2],
    time: String,
    target: [u8; 32],
    nonce2: u64,
}

impl Plain {
    /// Subscribes and authorizes, in this order, one line for each.
    pub fn start(port: u16, user: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the pool listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut miner = Self {
            lines: BufReader::new(stream),
            user: user.to_owned(),
            extranonce1: String::new(),
            difficulty: 1.0,
            work: None,
            seen: HashSet::new(),
            count: Count::default(),
        };
        miner.say(r#"{"id": 1, "method": "mining.subscribe", "params": ["plain/1.0"]}"#);
        let reply = miner.line();
        assert!(reply["id"] == 1 && reply["error"].is_null(), "the line after subscribe is {reply}");
        miner.extranonce1 = reply["result"][1].as_str().expect("extranonce1").to_owned();
        assert_eq!(reply["result"][2], 8, "the size of extranonce2");
        miner.say(&format!(r#"{{"id": 2, "method": "mining.authorize", "params": ["{user}", "x"]}}"#));
        let reply = miner.reply();
        assert!(reply["id"] == 2 && reply["result"] == true, "the reply to authorize is {reply}");
        miner
    }

    /// Mines until `limit` is over.
    pub fn mine(&mut self, limit: Duration) {
        let start = Instant::now();
        while start.elapsed() < limit {
            let Some(work) = &mut self.work else {
                let message = self.line();
                self.notified(&message);
                continue;
            };
            let Some((nonce, nonce2)) = work.search(Duration::from_millis(100)) else {
                // One line at least, so that new work is seen: what the pool answers to a ping.
                self.say(r#"{"id": 4, "method": "mining.ping", "params": []}"#);
                assert_eq!(self.reply()["result"], "pong");
                continue;
            };
            let (user, id, time) = (&self.user, &work.id, &work.time);
            let submit = format!(
                r#"{{"method": "mining.submit", "params": ["{user}", "{id}", "{nonce2}", "{time}", "{nonce}"], "id":4}}"#
            );
            self.say(&submit);
            let reply = self.reply();
            assert_eq!(reply["id"], 4, "{reply}");
            match (&reply["result"], &reply["error"][0]) {
                (Value::Bool(true), _) if reply["error"].is_null() => self.count.accepted += 1,
                (_, code) if *code == 21 => self.count.stale += 1,
                _ => self.count.refused.push(format!("{reply} to {submit}")),
            }
        }
    }

    fn say(&mut self, line: &str) {
        self.lines.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the pool reads");
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the pool answers");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
    }

    /// The first line that is no notification.
    fn reply(&mut self) -> Value {
        loop {
            let message = self.line();
            if message.get("method").is_none() {
                return message;
            }
            self.notified(&message);
        }
    }

    /// cpuminer knows these two, and takes anything else for the reply that it waits for.
    fn notified(&mut self, message: &Value) {
        let params = &message["params"];
        match message["method"].as_str() {
            Some("mining.set_difficulty") => self.difficulty = params[0].as_f64().expect("a difficulty"),
            Some("mining.notify") => {
                let work = Work::new(params, self.difficulty);
                assert!(self.seen.insert(work.id.clone()), "a job id twice: {message}");
                (self.count.jobs, self.count.clean) =
                    (self.count.jobs + 1, self.count.clean + u64::from(params[8] == true));
                self.work = Some(Work {
                    coinbase: [work.coinbase[0].clone() + &self.extranonce1, work.coinbase[1].clone()],
                    ..work
                });
            }
            _ => panic!("not a notification for cpuminer: {message}"),
        }
    }
}

impl Work {
    fn new(params: &Value, difficulty: f64) -> Self {
        let text = |at: usize| params[at].as_str().unwrap_or_else(|| panic!("{at}: {params}")).to_owned();
        let backwards = |text: String| -> Vec<u8> {
            let mut bytes = hex::decode(&text).expect("hex");
            assert_eq!(bytes.len(), 4, "{text}");
            bytes.reverse();
            bytes
        };
        let previous: Vec<u8> = text(1)
            .as_bytes()
            .chunks(8)
            .flat_map(|word| backwards(String::from_utf8(word.to_vec()).unwrap()))
            .collect();
        let branch = params[4].as_array().expect("a branch").iter();
        Self {
            id: text(0),
            coinbase: [text(2), text(3)],
            branch: branch.map(|hash| hash.as_str().expect("a hash").to_owned()).collect(),
            head: [
                [backwards(text(5)), previous].concat(),
                [backwards(text(7)), backwards(text(6))].concat(),
            ],
            time: text(7),
            target: target(difficulty),
            nonce2: 0,
        }
    }

    /// A nonce and an extranonce2 that make a share, as they are submitted; `None` if none is found in time.
    fn search(&mut self, limit: Duration) -> Option<(String, String)> {
        let start = Instant::now();
        while start.elapsed() < limit {
            // Each round has an extranonce of its own, so no nonce is ever tried twice.
            self.nonce2 += 1;
            let nonce2 = format!("{:016x}", self.nonce2);
            let coinbase =
                hex::decode(format!("{}{nonce2}{}", self.coinbase[0], self.coinbase[1])).expect("hex");
            let mut root = twice(&coinbase);
            for sibling in &self.branch {
                root = twice(&[&root[..], &hex::decode(sibling).expect("hex")].concat());
            }
            let mut header = [&self.head[0][..], &root, &self.head[1], &[0; 4]].concat();
            for nonce in 0..20_000u32 {
                header[76..].copy_from_slice(&nonce.to_le_bytes());
                let mut hash = twice(&header);
                hash.reverse();
                if hash <= self.target {
                    return Some((format!("{nonce:08x}"), nonce2));
                }
            }
        }
        None
    }
}

fn twice(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

/// The target of a difficulty, most significant byte first: 0xffff0000... of 224 bits, divided as cpuminer does, in
/// words of 32 bits. The remainder is cut off, which no hash will ever show.
fn target(difficulty: f64) -> [u8; 32] {
    let mut target = [0; 32];
    // 65535 * 2^208 / difficulty = top * 2^(8 * at), with as many digits in `top` as a float has.
    let (mut top, mut at) = (65535.0 / difficulty, 26);
    while top < 2f64.powi(48) {
        (top, at) = (top * 256.0, at - 1);
    }
    for (place, byte) in (top as u64).to_le_bytes().into_iter().enumerate() {
        if byte != 0 && at + place >= 32 {
            return [0xff; 32];
        }
        if at + place < 32 {
            target[31 - (at + place)] = byte;
        }
    }
    target
}

#[test]
fn targets_of_difficulties() {
    let check = |difficulty, expect: &str| {
        let text = hex::encode(target(difficulty));
        assert!(text.starts_with(expect), "{difficulty}: {text}");
    };
    check(1.0, "00000000ffff00000000000000000000");
    check(2.0, "000000007fff80000000000000000000");
    check(0.5, "00000001fffe00000000000000000000");
    check(16384.0, "000000000003fffc0000000000000000");
    check(1e-10, "ffffffffffffffffffffffffffffffff");
    check(0.001, "000003e7fc1");
}
