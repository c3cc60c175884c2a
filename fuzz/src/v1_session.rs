//! A miner's whole life with the pool: what it sends in whatever pieces, and what happens meanwhile.
//!
//! The input is what the miner sends, with control characters among it that stand for events or for text that the miner
//! has from the pool; see [`Event`]. Every hash is a share, unless the miner asks for a higher difficulty, and on some
//! templates every hash is a block, so that what follows is all the same whatever the pool's random numbers are.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bitcoin::hashes::Hash as _;
use ledger::{Scheme, Terms};
use pool::{
    Acks, Closed, Config, Limits, VardiffConfig,
    board::{Board, Posting},
    session::{Now, Outcome, v1::Session},
    space::Space,
};
use serde_json::Value;
use share::{Difficulty, Target};
use template::Template;
use tokio::sync::watch;

use super::cutter::Cutter;

/// What one input may take, in bytes: jobs and sessions, and some times what it sends.
const MEMORY: u64 = 1 << 20;
/// What the answer to one line may take, in bytes.
const ANSWER: usize = 4096;

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const NOW_MS: u64 = 1_700_000_000_000;
/// Every hash meets these.
const EASY: f64 = 1e-10;
const EASY_BITS: u32 = 0x2100_ffff;
/// No hash of a fuzzer's life does.
const HARD_BITS: u32 = 0x1702_4b5b;

/// What stands in the input as one character, some of them with another one behind it.
enum Event {
    /// 1: what was sent until now arrives.
    Arrive,
    /// 2: that many seconds pass, after which the pool looks after its sessions.
    Tick(u8),
    /// 3: a template: for the same block or the next, one that any hash solves or none. Or none at all.
    Template(u8),
    /// 4: the connection ends, and there is another.
    Reconnect,
    /// 5: shares can be stored no longer, or again.
    Storing,
    /// 6: the id of one of the last jobs.
    Job(u8),
    /// 7: the session id.
    Session,
    /// 8: an address.
    Address,
    /// 14: the time of the last job.
    Time,
    /// 15: an extranonce2.
    Extranonce(u8),
    /// 16: a nonce.
    Nonce(u8),
    /// Any other: itself.
    Byte(u8),
}

impl Event {
    fn next(input: &mut impl Iterator<Item = u8>) -> Option<Self> {
        let first = input.next()?;
        let mut more = || input.next().unwrap_or(0);
        Some(match first {
            1 => Event::Arrive,
            2 => Event::Tick(more()),
            3 => Event::Template(more()),
            4 => Event::Reconnect,
            5 => Event::Storing,
            6 => Event::Job(more()),
            7 => Event::Session,
            8 => Event::Address,
            14 => Event::Time,
            15 => Event::Extranonce(more()),
            16 => Event::Nonce(more()),
            byte => Event::Byte(byte),
        })
    }
}

/// Lives one life. Panics when a rule is broken.
pub fn run(input: &[u8]) {
    let taken = allocation_counter::measure(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(live(input));
    });
    let bound = MEMORY + 64 * input.len() as u64;
    assert!(taken.bytes_max <= bound, "{} bytes for an input of {}", taken.bytes_max, input.len());
}

async fn live(input: &[u8]) {
    let (mut life, mut sent) = (Life::new(), Vec::new());
    life.template(0).await;
    let mut input = input.iter().copied();
    while let Some(event) = Event::next(&mut input) {
        match event {
            Event::Arrive => life.arrive(&std::mem::take(&mut sent)),
            Event::Tick(seconds) => life.tick(seconds),
            Event::Template(kind) => life.template(kind).await,
            Event::Reconnect => {
                sent.clear();
                life.reconnect();
            }
            Event::Storing => life.storing = !life.storing,
            Event::Job(back) => sent.extend(life.job(back).bytes()),
            Event::Session => sent.extend(life.session_id.bytes()),
            Event::Address => sent.extend(ADDRESS.bytes()),
            Event::Time => sent.extend(life.time.bytes()),
            Event::Extranonce(one) => sent.extend(format!("{one:016x}").bytes()),
            Event::Nonce(one) => sent.extend(format!("{one:08x}").bytes()),
            Event::Byte(byte) => sent.push(byte),
        }
    }
    life.arrive(&sent);
    life.reconnect();
}

/// The miner's side of things, and the world around it.
struct Life {
    config: Arc<Config>,
    space: Space,
    board: Arc<Board>,
    templates: watch::Sender<Option<Arc<Template>>>,
    postings: watch::Receiver<Option<Arc<Posting>>>,
    posting: Option<Arc<Posting>>,
    /// First byte of the hash that the present template builds on.
    tip: u8,
    session: Session,
    cutter: Cutter,
    is_open: bool,
    now_ms: u64,
    storing: bool,
    session_id: String,
    jobs: Vec<String>,
    time: String,
    given: HashSet<String>,
    credited: HashSet<u64>,
}

impl Life {
    fn new() -> Self {
        let terms = Terms {
            scheme: Scheme::Pplns { factor: 2 },
            fee_ppm: 10_000,
            pool_script: vec![0x51],
            pool_address: String::new(),
        };
        let difficulty = |value| Difficulty::new(value).expect("a difficulty");
        let vardiff = VardiffConfig {
            shares_per_minute: 10.0,
            start: difficulty(EASY),
            min: difficulty(EASY),
            max: difficulty(1e12),
        };
        let config = Arc::new(Config {
            network: bitcoin::Network::Regtest,
            tag: "/fuzz/".into(),
            instance: 3,
            shards: 1,
            vardiff,
            limits: Limits { workers: 4, line: 2048, line_before_authorize: 1024, ..Limits::default() },
            trusted: Vec::new(),
            acks: Acks::default(),
            repeat: Duration::from_secs(1000),
        });
        let board = Board::new(terms, config.tag.clone());
        let (templates, source) = watch::channel(None);
        let (post, postings) = watch::channel(None);
        tokio::spawn(board.clone().run(source, config.repeat, config.limits.no_work, post));
        let space = Space::new(3, 1, 60_000);
        Self {
            session: Session::new(config.clone(), space.clone(), board.clone()),
            cutter: Cutter::new(config.limits.line_before_authorize),
            config,
            space,
            board,
            templates,
            postings,
            posting: None,
            tip: 0,
            is_open: true,
            now_ms: NOW_MS,
            storing: true,
            session_id: String::new(),
            jobs: Vec::new(),
            time: String::new(),
            given: HashSet::new(),
            credited: HashSet::new(),
        }
    }

    async fn template(&mut self, kind: u8) {
        let bits = if kind & 2 == 0 { EASY_BITS } else { HARD_BITS };
        self.tip = self.tip.wrapping_add(kind & 1);
        let time = (self.now_ms / 1000) as u32;
        let template = (kind & 12 != 12).then(|| Template {
            height: 101,
            prev_hash: [self.tip; 32],
            version: 0x2000_0000,
            bits,
            network_target: Target::from_compact(bits).expect("a target"),
            time,
            min_time: time - 100,
            coinbase_value: 5_000_000_000,
            witness_commitment: None,
            transactions: bytes::Bytes::new(),
            transaction_count: 0,
            branch: Vec::new(),
            long_poll: None,
        });
        let is_news = template.is_some() || self.posting.is_some();
        self.templates.send_replace(template.map(Arc::new));
        if is_news {
            self.postings.changed().await.expect("the board runs");
            self.posting = self.postings.borrow_and_update().clone();
            self.tell(Session::posted);
        }
    }

    fn tick(&mut self, seconds: u8) {
        self.now_ms += 1000 * u64::from(seconds);
        self.tell(Session::tick);
    }

    /// Something other than a line: nothing to reply to.
    fn tell(&mut self, what: impl FnOnce(&mut Session, Now<'_>, &mut Outcome)) {
        if self.is_open {
            let (posting, mut out) = (self.posting.clone(), Outcome::default());
            let now = Now { ms: self.now_ms, posting: posting.as_ref(), storing: self.storing };
            what(&mut self.session, now, &mut out);
            self.hear(&out, &Due::nothing(), 0);
        }
    }

    fn arrive(&mut self, chunk: &[u8]) {
        if !self.is_open {
            return;
        }
        let limit = self.config.limits.line_before_authorize;
        let mut cutter = std::mem::replace(&mut self.cutter, Cutter::new(limit));
        let taken = cutter.arrive(chunk, |line| {
            self.line(line);
            self.is_open
        });
        self.is_open &= taken.is_ok();
        self.cutter = cutter;
    }

    fn line(&mut self, line: &[u8]) {
        let (posting, mut out) = (self.posting.clone(), Outcome::default());
        let now = Now { ms: self.now_ms, posting: posting.as_ref(), storing: self.storing };
        self.session.line(line, now, &mut out);
        let due = Due::on(line);
        assert!(out.close != Some(Closed::NotStratum) || due.may_close, "{}", line.escape_ascii());
        self.hear(&out, &due, line.len());
    }

    fn reconnect(&mut self) {
        let session = Session::new(self.config.clone(), self.space.clone(), self.board.clone());
        std::mem::replace(&mut self.session, session).end(self.now_ms);
        self.cutter = Cutter::new(self.config.limits.line_before_authorize);
        self.is_open = true;
        self.given.clear(); // connections have jobs in common
    }

    fn job(&self, back: u8) -> &str {
        self.jobs.iter().rev().nth(usize::from(back)).map_or("", String::as_str)
    }

    /// Checks all that came of an event, and takes note of what the miner would.
    fn hear(&mut self, out: &Outcome, due: &Due, length: usize) {
        let text = std::str::from_utf8(&out.reply).expect("what is sent is text");
        assert!(text.is_empty() || text.ends_with('\n'));
        assert!(text.len() <= ANSWER + 2 * length, "{} bytes for {length}", text.len());
        let mut lines = text.lines().peekable();
        let is_reply = |line: &&str| !line.starts_with(r#"{"id":null,"method":"#);
        let reply = lines.next_if(is_reply);
        let reply = reply.map(|line| (line, serde_json::from_str::<Value>(line)));
        due.check(reply.as_ref(), out);
        self.check_shares(out);
        if let Some((_, Ok(reply))) = &reply
            && let Some(id) = reply["result"][0][1][1].as_str()
        {
            self.session_id = id.to_owned();
        }
        let mut is_after_difficulty = false;
        for line in lines {
            assert!(self.session.is_authorized(), "said to nobody: {line}");
            let message: Value = serde_json::from_str(line).expect("a notification is JSON");
            let method = message["method"].as_str().expect("one reply a request, and it comes first");
            assert!(!is_after_difficulty || method == "mining.notify", "C-37: {text}");
            is_after_difficulty = method == "mining.set_difficulty";
            if is_after_difficulty {
                assert!(message["params"][0].as_f64().is_some_and(|difficulty| difficulty > 0.0), "{line}");
            }
            if method == "mining.notify" {
                self.notified(&message["params"]);
            }
        }
        assert!(!is_after_difficulty, "C-37: {text}");
        self.is_open &= out.close.is_none();
    }

    fn notified(&mut self, params: &Value) {
        let text = |at: usize| params[at].as_str().expect("text").to_owned();
        assert_eq!(params.as_array().map(Vec::len), Some(9));
        self.time = text(7);
        assert!(self.given.insert(text(0)), "C-34: a job id twice");
        self.jobs.push(text(0));
    }

    fn check_shares(&mut self, out: &Outcome) {
        for credit in &out.credits {
            assert!(self.storing, "what is not stored is not credited");
            assert!(self.credited.insert(credit.record.hash_tag), "one hash, two credits");
            let most = credit.hash_difficulty * 65536.0 * 65536.0 * (65536.0 / 65535.0);
            assert!(
                credit.record.work as f64 <= most * 1.000_001 + 1.0,
                "more work than the hash stands for"
            );
        }
        for solution in &out.solved {
            let block: bitcoin::Block =
                bitcoin::consensus::deserialize(&solution.block).expect("a block is a block");
            assert_eq!(block.block_hash().to_byte_array(), solution.found.hash);
            assert!(block.header.target().is_met_by(block.block_hash()));
            assert!(block.check_merkle_root());
        }
    }
}

/// What a line is owed, by another reader of JSON.
struct Due {
    /// `None` where nobody can say: that reader does not take everything that ours takes.
    reply: Option<bool>,
    id: Value,
    is_submit: bool,
    /// Whether it may be taken for another protocol.
    may_close: bool,
    /// Whether the id may be too long to echo.
    may_be_null: bool,
}

impl Due {
    fn nothing() -> Self {
        Self { reply: Some(false), id: Value::Null, is_submit: false, may_close: false, may_be_null: false }
    }

    fn on(line: &[u8]) -> Self {
        if line.trim_ascii().is_empty() {
            return Self::nothing();
        }
        let text = String::from_utf8_lossy(line); // what is not text takes more room then
        let Ok(message) = serde_json::from_str::<Value>(&text) else {
            return Self {
                reply: None,
                may_close: true,
                may_be_null: true,
                is_submit: true,
                ..Self::nothing()
            };
        };
        let Some(members) = message.as_object() else { return Self { may_close: true, ..Self::nothing() } };
        let has_method = members.get("method").is_some_and(|method| !method.is_null());
        let is_response = members.contains_key("result") || members.contains_key("error");
        if is_response && !has_method {
            return Self::nothing();
        }
        Self {
            reply: Some(members.contains_key("id")),
            id: message["id"].clone(),
            is_submit: message["method"] == "mining.submit",
            may_close: false,
            may_be_null: text.len() > 64,
        }
    }

    fn check(&self, reply: Option<&(&str, serde_json::Result<Value>)>, out: &Outcome) {
        let is_due = self.reply.is_none_or(|due| due == reply.is_some());
        assert!(is_due || out.close.is_some(), "a reply too many or too few: {:?}", reply.map(|it| it.0));
        assert!(out.credits.len() <= usize::from(self.is_submit), "a credit for what was no share");
        let Some((text, reply)) = reply else { return };
        let Ok(reply) = reply else {
            assert!(self.reply.is_none(), "a reply that nobody can read: {text}");
            return;
        };
        let members = reply.as_object().expect("a reply is an object");
        assert_eq!(members.keys().collect::<Vec<_>>(), ["error", "id", "result"]);
        if self.reply.is_some() {
            assert!(reply["id"] == self.id || (self.may_be_null && reply["id"].is_null()), "{text}");
            let is_credited = self.is_submit && reply["result"] == true;
            assert_eq!(is_credited, out.credits.len() == 1, "{text}");
        }
        assert_eq!(reply["error"].is_null(), !reply["result"].is_null(), "{text}");
    }
}
