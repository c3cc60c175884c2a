//! The miner against a pool of a few lines, which judges shares with `share::check`.

mod v2;

use std::collections::HashSet;

use serde_json::{Value, json};
use share::{Coinbase, Difficulty, Extranonce, Job, Rules, Submission, Target, check::VERSION_MASK};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines as LinesOf},
    net::TcpListener,
    sync::oneshot,
};

use super::*;

fn config(connect: String) -> MinerConfig {
    MinerConfig {
        protocol: Protocol::V1,
        connect,
        user: "me.rig".into(),
        password: "x".into(),
        hashrate: Some(200_000.0),
        threads: 2,
    }
}

fn job(prev_hash: u8) -> Job {
    Job {
        version: 0x2000_0000,
        prev_hash: std::array::from_fn(|i| prev_hash ^ i as u8),
        coinbase: Coinbase::new(vec![1, 2, 3], vec![4, 5], 8),
        branch: Box::new([[7; 32], [8; 32]]),
        min_time: 0,
        time: 0x6600_0000,
        bits: 0x1d00_ffff,
        network_target: Target::ONE,
        height: 1,
    }
}

const EXTRANONCE1: [u8; 4] = [0xca, 0xfe, 0, 1];

/// The pool's side of one connection.
struct Peer {
    lines: LinesOf<BufReader<tokio::net::tcp::OwnedReadHalf>>,
    write: tokio::net::tcp::OwnedWriteHalf,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let (read, write) = listener.accept().await.unwrap().0.into_split();
        Self { lines: BufReader::new(read).lines(), write }
    }

    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }

    async fn send(&mut self, value: Value) {
        self.write.write_all(format!("{value}\n").as_bytes()).await.unwrap();
    }

    async fn reply(&mut self, to: &Value, result: Value, error: Value) {
        self.send(json!({ "id": to["id"], "result": result, "error": error })).await;
    }

    /// Answers the three requests of the opening.
    async fn open(&mut self) {
        let subscribe = self.next().await;
        self.reply(&subscribe, json!([[], hex::encode(EXTRANONCE1), 4]), Value::Null).await;
        let configure = self.next().await;
        let mask = json!({ "version-rolling": true, "version-rolling.mask": "1fffe000" });
        self.reply(&configure, mask, Value::Null).await;
        let authorize = self.next().await;
        assert_eq!(authorize["params"], json!(["me.rig", "x"]));
        self.reply(&authorize, json!(true), Value::Null).await;
    }

    async fn work(&mut self, id: &str, job: &Job, difficulty: f64, clean: bool) {
        self.send(json!({ "id": null, "method": "mining.set_difficulty", "params": [difficulty] })).await;
        let words: Vec<u8> = job.prev_hash.chunks(4).flat_map(|word| word.iter().rev().copied()).collect();
        let params = json!([
            id,
            hex::encode(words),
            hex::encode(job.coinbase.prefix()),
            hex::encode(job.coinbase.suffix()),
            job.branch.iter().map(hex::encode).collect::<Vec<_>>(),
            format!("{:08x}", job.version),
            format!("{:08x}", job.bits),
            format!("{:08x}", job.time),
            clean,
        ]);
        self.send(json!({ "id": null, "method": "mining.notify", "params": params })).await;
    }
}

/// Judges a `mining.submit` as a pool would, and returns the hash.
fn judge(submit: &Value, job: &Job, difficulty: f64) -> [u8; 32] {
    assert_eq!(submit["method"], "mining.submit");
    let text = |i: usize| submit["params"][i].as_str().unwrap();
    let number = |i: usize| u32::from_str_radix(text(i), 16).unwrap();
    let submission = Submission {
        extranonce: Extranonce::new(&[&EXTRANONCE1, &hex::decode(text(2)).unwrap()]).unwrap(),
        time: number(3),
        nonce: number(4),
        version: job.version | number(5),
    };
    let target = Difficulty::new(difficulty).unwrap().target();
    let rules = Rules { target, version_mask: VERSION_MASK, now: job.time, stale: false };
    let verdict = share::check(job, &submission, &rules);
    assert_eq!(verdict.share, Ok(()), "{submit}");
    verdict.hash
}

#[tokio::test]
async fn mines_valid_shares_and_follows_new_jobs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config(listener.local_addr().unwrap().to_string());
    let (stop, stopped) = oneshot::channel::<()>();
    let pool = async {
        let mut peer = Peer::accept(&listener).await;
        peer.open().await;
        let (mut hashes, mut versions, mut answered) = (HashSet::new(), HashSet::new(), 0);
        // The second and third job differ in nothing but name and difficulty.
        for (id, prev_hash, difficulty) in [("1", 1, 2e-6), ("2", 2, 2e-6), ("3", 2, 1e-6)] {
            let job = job(prev_hash);
            peer.work(id, &job, difficulty, id == "2").await;
            let mut count = 0;
            while count < 20 {
                let submit = peer.next().await;
                answered += 1;
                peer.reply(&submit, json!(true), Value::Null).await;
                if submit["params"][1] == id {
                    assert!(hashes.insert(judge(&submit, &job, difficulty)), "twice: {submit}");
                    versions.insert(submit["params"][5].as_str().unwrap().to_owned());
                    count += 1;
                }
            }
        }
        assert!(versions.len() >= 3, "the version is rolled: {versions:?}");
        stop.send(()).unwrap();
        while let Ok(Some(line)) = peer.lines.next_line().await {
            answered += 1;
            peer.reply(&serde_json::from_str(&line).unwrap(), json!(true), Value::Null).await;
        }
        answered
    };
    let (report, answered) = tokio::join!(mine(config, async { drop(stopped.await) }), pool);
    let report = report.unwrap();
    assert_eq!((report.accepted, report.rejected, report.last_error), (answered, 0, None));
    assert!(report.hashes > 60 * 1_000, "{} hashes", report.hashes);
}

#[tokio::test]
async fn keeps_to_its_hashrate() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config =
        MinerConfig { hashrate: Some(50_000.0), ..config(listener.local_addr().unwrap().to_string()) };
    let pool = async {
        let mut peer = Peer::accept(&listener).await;
        peer.open().await;
        // New jobs must not make it faster.
        for id in 0..40 {
            peer.work(&id.to_string(), &job(id), 1e9, false).await;
            sleep(Duration::from_millis(50)).await;
        }
        peer
    };
    let (done, stopped) = oneshot::channel::<()>();
    let pool = async {
        let peer = pool.await;
        done.send(()).unwrap();
        peer
    };
    let (report, _peer) = tokio::join!(mine(config, async { drop(stopped.await) }), pool);
    let hashrate = report.unwrap().hashrate;
    assert!((40_000.0..55_000.0).contains(&hashrate), "{hashrate}");
}

#[tokio::test]
async fn a_refused_user_hears_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config(listener.local_addr().unwrap().to_string());
    let pool = async {
        let mut peer = Peer::accept(&listener).await;
        for answer in [json!([[], "00", 4]), json!({}), Value::Null] {
            let request = peer.next().await;
            let error =
                if answer.is_null() { json!([24, "no address of signet", null]) } else { Value::Null };
            peer.reply(&request, answer, error).await;
        }
        peer
    };
    let (result, _peer) = tokio::join!(mine(config, std::future::pending()), pool);
    let message = result.unwrap_err().to_string();
    assert!(message.contains(r#"refuses "me.rig": no address of signet (code 24)"#), "{message}");
}

#[tokio::test]
async fn connects_again_and_counts_rejects() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config(listener.local_addr().unwrap().to_string());
    let (stop, stopped) = oneshot::channel::<()>();
    let pool = async {
        for attempt in 0..3 {
            let mut peer = Peer::accept(&listener).await;
            if attempt == 0 {
                continue; // closes it
            }
            if attempt == 1 {
                peer.open().await;
                peer.work("1", &job(1), 1e-6, true).await;
                peer.next().await;
                continue;
            }
            peer.open().await;
            peer.work("1", &job(3), 1e-6, true).await;
            let submit = peer.next().await;
            judge(&submit, &job(3), 1e-6);
            peer.reply(&submit, Value::Null, json!([21, "Job not found", null])).await;
            let submit = peer.next().await;
            peer.reply(&submit, json!(true), Value::Null).await;
            sleep(Duration::from_millis(100)).await;
            stop.send(()).unwrap();
            while let Ok(Some(_)) = peer.lines.next_line().await {}
            return;
        }
    };
    let (report, ()) = tokio::join!(mine(config, async { drop(stopped.await) }), pool);
    let report = report.unwrap();
    assert_eq!((report.accepted, report.rejected), (1, 1));
    assert_eq!(report.last_error.as_deref(), Some("share rejected: Job not found (code 21)"));
}

#[tokio::test]
async fn stops_without_a_pool() {
    // Nobody listens on a port that was just given back.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let stop = sleep(Duration::from_millis(200));
    let report = mine(config(address), stop).await.unwrap();
    assert!(report.last_error.unwrap().contains("does it run"));
}

#[tokio::test]
async fn what_cannot_be_configured() {
    let check = async |change: fn(&mut MinerConfig), expect: &str| {
        let mut config = config("localhost:3333".into());
        change(&mut config);
        let error = mine(config.clone(), std::future::ready(())).await.unwrap_err().to_string();
        assert!(error.contains(expect), "{config:?}: {error}");
    };
    check(|c| c.connect = "localhost".into(), "give host:port").await;
    check(|c| c.connect = ":3333".into(), "give host:port").await;
    check(|c| c.connect = "localhost:0".into(), "give host:port").await;
    check(|c| c.connect = "localhost:70000".into(), "give host:port").await;
    check(|c| c.connect = "stratum+tcp://localhost:3333".into(), "give host:port").await;
    check(|c| c.hashrate = Some(0.0), "above zero").await;
    check(|c| c.hashrate = Some(f64::NAN), "above zero").await;
    check(|c| c.threads = 0, "at least 1").await;
}

#[test]
fn rates_as_people_read_them() {
    let check = |rate: f64, expect: &str| assert_eq!(Rate(rate).to_string(), expect);
    check(0.0, "0.0 H/s");
    check(999.0, "999.0 H/s");
    check(412_300.0, "412.3 kH/s");
    check(1.5e12, "1.5 TH/s");
    check(2.5e18, "2500.0 PH/s");
}

#[test]
fn a_report_as_people_read_it() {
    let mut report = Report { accepted: 12, hashes: 90_000, hashrate: 3_000.0, ..Report::default() };
    assert_eq!(report.to_string(), "12 shares accepted, 0 rejected, 90000 hashes, 3.0 kH/s");
    report.last_error = Some("it closed the connection".into());
    assert!(report.to_string().ends_with("; the last thing that went wrong: it closed the connection"));
}
