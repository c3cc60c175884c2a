//! A session without a socket: lines in, lines out. Rules C-nn are those of docs/STRATUM-V1.md.

use bytes::Bytes;
use ledger::{Scheme, Terms};
use serde_json::{Value, json};
use share::{Coinbase, Extranonce, Submission, Target, sha256};
use template::Template;
use tokio::sync::watch;

use super::*;
use crate::{Acks, Limits, VardiffConfig, board::Posting};

mod blocks;
mod difficulty;
mod races;
mod work;
mod workers;

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const OTHER: &str = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry";
/// One in about 43 hashes is a share, one in about 4300 a block.
const SHARE: f64 = 1e-8;
const BLOCK_BITS: u32 = 0x1f0f_4240;
const NOW: u64 = 1_700_000_000_000;

struct Desk {
    session: Session,
    board: Arc<Board>,
    space: Space,
    config: Arc<Config>,
    postings: watch::Sender<Option<Arc<Template>>>,
    posted: watch::Receiver<Option<Arc<Posting>>>,
    posting: Option<Arc<Posting>>,
    now_ms: u64,
    storing: bool,
    out: Outcome,
}

fn difficulty(value: f64) -> Difficulty {
    Difficulty::new(value).unwrap()
}

fn template(prev: u8, bits: u32) -> Arc<Template> {
    Arc::new(Template {
        height: 101,
        prev_hash: [prev; 32],
        version: 0x2000_0000,
        bits,
        network_target: Target::from_compact(bits).unwrap(),
        time: (NOW / 1000) as u32,
        min_time: (NOW / 1000) as u32 - 100,
        coinbase_value: 5_000_000_000,
        witness_commitment: None,
        transactions: Bytes::new(),
        transaction_count: 0,
        branch: vec![[9; 32]],
        long_poll: None,
    })
}

impl Desk {
    async fn new(scheme: Scheme) -> Self {
        Self::with(scheme, "/test/", |_| ()).await
    }

    async fn with(scheme: Scheme, tag: &str, change: impl FnOnce(&mut Config)) -> Self {
        let terms = Terms { scheme, fee_ppm: 10_000, pool_script: vec![0x51], pool_address: String::new() };
        let board = Board::new(terms, tag.into());
        let mut config = Config {
            network: bitcoin::Network::Regtest,
            tag: "/test/".into(),
            instance: 3,
            shards: 1,
            vardiff: VardiffConfig {
                shares_per_minute: 10.0,
                start: difficulty(SHARE),
                min: difficulty(SHARE / 100.0),
                max: difficulty(1e12),
            },
            limits: Limits::default(),
            trusted: Vec::new(),
            acks: Acks::default(),
            repeat: std::time::Duration::from_secs(1000),
        };
        change(&mut config);
        let config = Arc::new(config);
        let (postings, templates) = watch::channel(None);
        let (post, posted) = watch::channel(None);
        tokio::spawn(board.clone().run(templates, config.repeat, config.limits.no_work, post));
        let space = Space::new(3, 1, 60_000);
        let session = Session::new(config.clone(), space.clone(), board.clone());
        let (now_ms, storing, out) = (NOW, true, Outcome::default());
        let mut desk =
            Self { session, board, space, config, postings, posted, posting: None, now_ms, storing, out };
        desk.template(template(1, BLOCK_BITS)).await;
        desk.lines();
        desk
    }

    async fn template(&mut self, template: Arc<Template>) {
        self.postings.send_replace(Some(template));
        self.posted.changed().await.unwrap();
        self.posting = self.posted.borrow_and_update().clone();
        let now = Now { ms: self.now_ms, posting: self.posting.as_ref(), storing: self.storing };
        self.session.posted(now, &mut self.out);
    }

    fn reconnect(&mut self) {
        let session = Session::new(self.config.clone(), self.space.clone(), self.board.clone());
        std::mem::replace(&mut self.session, session).end(self.now_ms);
    }

    fn say(&mut self, line: impl ToString) -> Vec<Value> {
        let now = Now { ms: self.now_ms, posting: self.posting.as_ref(), storing: self.storing };
        self.session.line(line.to_string().as_bytes(), now, &mut self.out);
        self.lines()
    }

    fn tick(&mut self, after_ms: u64) -> Vec<Value> {
        self.now_ms += after_ms;
        let now = Now { ms: self.now_ms, posting: self.posting.as_ref(), storing: self.storing };
        self.session.tick(now, &mut self.out);
        self.lines()
    }

    /// What was said since, a value a line; what else came of it stays in `out`.
    fn lines(&mut self) -> Vec<Value> {
        let text = String::from_utf8(std::mem::take(&mut self.out.reply)).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn ask(&mut self, id: impl Into<Value>, method: &str, params: Value) -> Vec<Value> {
        self.say(json!({"id": id.into(), "method": method, "params": params}))
    }

    /// Subscribes and authorizes; returns the subscribe result and the job's notify.
    fn begin(&mut self) -> (Value, Value) {
        let subscribed = self.ask(1, "mining.subscribe", json!(["test/1"]))[0]["result"].clone();
        let lines = self.ask(2, "mining.authorize", json!([format!("{ADDRESS}.w"), "x"]));
        (subscribed, lines.last().unwrap().clone())
    }
}

fn methods(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["method"].as_str().unwrap_or("reply")).collect()
}

/// Finds a submission for `notify` that `wanted` likes, by the text of the protocol alone.
fn solve(subscribed: &Value, notify: &Value, wanted: impl Fn(&[u8; 32]) -> bool) -> Value {
    let text = |at: usize| notify["params"][at].as_str().unwrap().to_owned();
    let bytes = |hex: String| hex::decode(hex).unwrap();
    let number = |hex: String| u32::from_str_radix(&hex, 16).unwrap();
    let extranonce1 = bytes(subscribed[1].as_str().unwrap().into());
    let size = subscribed[2].as_u64().unwrap() as usize;
    let coinbase = Coinbase::new(bytes(text(2)), bytes(text(3)), extranonce1.len() + size);
    let branch = notify["params"][4].as_array().unwrap().iter();
    let branch: Vec<[u8; 32]> =
        branch.map(|node| bytes(node.as_str().unwrap().into()).try_into().unwrap()).collect();
    let prev: Vec<u8> = bytes(text(1)).chunks(4).flat_map(|word| word.iter().rev().copied()).collect();
    let job = share::Job {
        version: number(text(5)),
        prev_hash: prev.try_into().unwrap(),
        coinbase,
        branch: branch.into(),
        min_time: 0,
        time: number(text(7)),
        bits: number(text(6)),
        network_target: Target::MAX,
        height: 0,
    };
    let extranonce2 = vec![0xab; size];
    let extranonce = Extranonce::new(&[&extranonce1, &extranonce2]).unwrap();
    for nonce in 0.. {
        let submission = Submission { extranonce, time: job.time, nonce, version: job.version };
        if wanted(&sha256::double(&job.header(&submission))) {
            return json!([
                format!("{ADDRESS}.w"),
                text(0),
                hex::encode(extranonce2),
                text(7),
                format!("{nonce:08x}")
            ]);
        }
    }
    unreachable!("some nonce will do");
}

fn is_share(hash: &[u8; 32]) -> bool {
    difficulty(SHARE).target().is_met_by(hash) && !is_block(hash)
}

fn is_block(hash: &[u8; 32]) -> bool {
    Target::from_compact(BLOCK_BITS).unwrap().is_met_by(hash)
}

/// The code of the error that `lines` consist of.
fn code(lines: &[Value]) -> u64 {
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["result"], Value::Null);
    lines[0]["error"][0].as_u64().unwrap()
}

fn accepted(lines: &[Value]) {
    assert_eq!(lines[0]["result"], json!(true), "{lines:?}");
    assert_eq!(lines[0]["error"], Value::Null);
}

const PPLNS: Scheme = Scheme::Pplns { factor: 2 };

#[tokio::test]
async fn c12_c15_order_of_a_start() {
    let mut desk = Desk::new(PPLNS).await;
    assert_eq!(methods(&desk.ask(1, "mining.subscribe", json!([]))), ["reply"]);
    let lines = desk.ask(2, "mining.authorize", json!([ADDRESS, "x"]));
    assert_eq!(methods(&lines), ["reply", "mining.set_difficulty", "mining.notify"]);
    assert_eq!(lines[2]["params"][8], json!(true));
}

#[tokio::test]
async fn c14_version_mask_between_authorize_and_the_first_job() {
    let mut desk = Desk::new(PPLNS).await;
    let reply =
        desk.ask(0, "mining.configure", json!([["version-rolling"], {"version-rolling.mask": "ffffffff"}]));
    assert_eq!(reply[0]["result"]["version-rolling.mask"], json!("1fffe000"));
    desk.ask(1, "mining.subscribe", json!([]));
    let lines = desk.ask(2, "mining.authorize", json!([ADDRESS, "x"]));
    let order = ["reply", "mining.set_version_mask", "mining.set_difficulty", "mining.notify"];
    assert_eq!(methods(&lines), order);
}

#[tokio::test]
async fn c14_the_version_mask_is_said_once_whatever_the_order() {
    let rolling = |mask: &str| json!([["version-rolling"], {"version-rolling.mask": mask}]);
    // Authorized first: the reply to what comes next is the next line all the same (C-12).
    let mut desk = Desk::new(PPLNS).await;
    assert_eq!(methods(&desk.ask(1, "mining.authorize", json!([ADDRESS, "x"]))), ["reply"]);
    assert_eq!(methods(&desk.ask(2, "mining.configure", rolling("ffffffff"))), ["reply"]);
    let lines = desk.ask(3, "mining.subscribe", json!([]));
    let order = ["reply", "mining.set_version_mask", "mining.set_difficulty", "mining.notify"];
    assert_eq!(methods(&lines), order);
    // At work already: before the job that it is for.
    let mut desk = Desk::new(PPLNS).await;
    desk.begin();
    let lines = desk.ask(3, "mining.configure", rolling("ffffffff"));
    assert_eq!(methods(&lines), ["reply", "mining.set_version_mask", "mining.notify"]);
    let lines = desk.ask(4, "mining.configure", rolling("00ffe000"));
    assert_eq!(methods(&lines), ["reply", "mining.notify"]);
}

#[tokio::test]
async fn c16_authorize_before_subscribe_and_subscribe_twice() {
    let mut desk = Desk::new(PPLNS).await;
    assert_eq!(methods(&desk.ask(1, "mining.authorize", json!([ADDRESS, "x"]))), ["reply"]);
    let first = desk.ask(2, "mining.subscribe", json!([]));
    assert_eq!(methods(&first), ["reply", "mining.set_difficulty", "mining.notify"]);
    let second = desk.ask(3, "mining.subscribe", json!([]));
    assert_eq!(second.len(), 1);
    assert_eq!(second[0]["result"], first[0]["result"]);
}

#[tokio::test]
async fn c06_c08_envelope_of_every_reply() {
    let mut desk = Desk::new(PPLNS).await;
    for id in [json!(7), json!("seven"), json!(7.5), Value::Null] {
        let reply = &desk.ask(id.clone(), "mining.nonsense", json!([]))[0];
        assert_eq!(reply["id"], id);
        assert!(
            reply.as_object().unwrap().contains_key("error")
                && reply.as_object().unwrap().contains_key("result")
        );
        assert_eq!(reply["error"][0], json!(20));
    }
    assert!(desk.say(json!({"method": "mining.subscribe", "params": []})).is_empty(), "no id, no reply");
    assert!(desk.say(json!({"id": 1, "result": "pong", "error": null})).is_empty());
    desk.say("GET / HTTP/1.1");
    assert!(desk.out.close.is_some());
}

#[tokio::test]
async fn a_share_is_credited_once_at_its_jobs_difficulty() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, notify) = desk.begin();
    let share = solve(&subscribed, &notify, is_share);
    accepted(&desk.ask(4, "mining.submit", share.clone()));
    let credit = desk.out.credits[0];
    assert_eq!(credit.record.work, difficulty(SHARE).target().work());
    assert_eq!((credit.record.height, credit.record.bits), (101, BLOCK_BITS));
    assert!(desk.out.solved.is_empty());

    assert_eq!(code(&desk.ask(4, "mining.submit", share.clone())), 22);
    // C-33: another spelling is the same share.
    let mut shouted = share.clone();
    for at in [2, 4] {
        shouted[at] = json!(shouted[at].as_str().unwrap().to_uppercase());
    }
    assert_eq!(code(&desk.ask(4, "mining.submit", shouted)), 22);
    let mut zero_bits = share.clone();
    zero_bits.as_array_mut().unwrap().push(json!("00000000"));
    assert_eq!(code(&desk.ask(4, "mining.submit", zero_bits)), 22);
    assert_eq!(desk.out.credits.len(), 1);
}

#[tokio::test]
async fn refusals() {
    let mut desk = Desk::new(PPLNS).await;
    let nobody = json!([format!("{ADDRESS}.w"), "00000001", "00", "00000000", "00000000"]);
    assert_eq!(code(&desk.ask(4, "mining.submit", nobody)), 25);
    let (subscribed, notify) = desk.begin();
    let share = solve(&subscribed, &notify, is_share);
    let mut check = |at: usize, value: &str, expect: u64| {
        let mut params = share.clone();
        params[at] = json!(value);
        assert_eq!(code(&desk.ask(4, "mining.submit", params)), expect, "{value} at {at}");
    };
    check(0, "stranger", 24);
    check(1, "00000000", 21);
    check(1, "nonsense", 21);
    check(2, "abab", 20);
    check(2, "xyz", 20);
    check(3, "ffffffff", 20);
    check(3, "00000001", 20);
    check(4, "fffffffff", 20);
    let mut rolled = share.clone();
    rolled.as_array_mut().unwrap().push(json!("00002000"));
    assert_eq!(code(&desk.ask(4, "mining.submit", rolled)), 20); // C-28: nothing was negotiated
    let bad = solve(&subscribed, &notify, |hash| !is_share(hash) && !is_block(hash));
    assert_eq!(code(&desk.ask(4, "mining.submit", bad)), 23);
    desk.storing = false;
    assert_eq!(code(&desk.ask(4, "mining.submit", share.clone())), 20);
    assert!(desk.out.credits.is_empty());
    desk.storing = true;
    accepted(&desk.ask(4, "mining.submit", share));
}

#[tokio::test]
async fn c28_rolled_versions() {
    let mut desk = Desk::new(PPLNS).await;
    desk.ask(0, "mining.configure", json!([["version-rolling"], {"version-rolling.mask": "00ffe000"}]));
    let (subscribed, mut notify) = desk.begin();
    let check = |desk: &mut Desk, notify: &mut Value, bits: u32| {
        notify["params"][5] = json!(format!("{:08x}", 0x2000_0000 | bits));
        let mut share = solve(&subscribed, notify, is_share);
        share.as_array_mut().unwrap().push(json!(format!("{bits:x}")));
        desk.ask(4, "mining.submit", share)
    };
    accepted(&check(&mut desk, &mut notify, 0x0000_2000));
    accepted(&check(&mut desk, &mut notify, 0x00ff_e000));
    assert_eq!(code(&check(&mut desk, &mut notify, 0x1000_0000)), 20, "outside of what was asked for");
    assert_eq!(code(&check(&mut desk, &mut notify, 0x0000_1000)), 20, "outside of what the pool allows");
    assert_eq!(
        code(&check(&mut desk, &mut notify, 0x2000_2000)),
        20,
        "outside, though the job has it anyway"
    );
}
