//! A Stratum V1 miner that shares no code with Sluice: written from what miners do on the wire, with nothing but `std`,
//! SHA-256, hex and JSON. It is strict where real miners are strict, so that a pool that pleases it pleases them.
//!
//! It does not retry, reconnect or forgive: whatever a real miner would stumble over is a [`Fault`].

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

mod tally;
mod work;

pub use tally::Tally;
use work::{Share, Work};

/// Whose habits the miner has. Each of them breaks on something that the others take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// cpuminer: subscribe, then authorize. The very next line after subscribe must be its reply; the first line after
    /// authorize that is neither work nor difficulty must be its reply. A new difficulty counts from the next job on.
    Cpuminer,
    /// cgminer: first of all configure (for version rolling), whose reply is the one next line. Otherwise as above.
    Cgminer,
    /// Bitaxe: says everything in one go. A new difficulty counts at once.
    Bitaxe,
    /// Authorizes before it subscribes, and sends everything three bytes at a time.
    Backwards,
}

/// Why mining ended early.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The pool closed the connection, or could not be reached.
    Closed,
    /// The pool said something that a real miner would choke on, or nothing where it must say something.
    Protocol(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "the pool closed the connection"),
            Self::Protocol(what) => write!(f, "protocol: {what}"),
        }
    }
}

/// One connection to a pool.
pub struct Miner {
    stream: TcpStream,
    lines: Receiver<String>,
    user: String,
    manner: Manner,
    extranonce1: Vec<u8>,
    extranonce2_size: usize,
    version_mask: u32,
    difficulty: f64,
    work: Option<Work>,
    seen_jobs: HashSet<String>,
    unanswered: VecDeque<Share>,
    /// What came of it so far.
    pub tally: Tally,
    /// How many submits may wait for their replies at once.
    pub window: usize,
    /// The least time from one submit to the next.
    pub pace: Duration,
    /// How long the miner goes on with the work that it has after other work on the same block has come, as machines
    /// with a queue do.
    pub reluctance: Duration,
    /// The most hashes a second.
    pub hashrate: Option<f64>,
    hashed: Instant,
    next_submit: Instant,
    next_work: Option<(Instant, Work)>,
}

/// How long the pool may take for a reply.
const PATIENCE: Duration = Duration::from_secs(20);

impl Miner {
    /// Connects to `port` of the loopback address and goes through the setup as `manner` does, up to the first job.
    pub fn connect(port: u16, user: &str, manner: Manner) -> Result<Self, Fault> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|_| Fault::Closed)?;
        stream.set_nodelay(true).map_err(|_| Fault::Closed)?;
        let reader = stream.try_clone().map_err(|_| Fault::Closed)?;
        let (sender, lines) = mpsc::sync_channel(1000);
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut miner = Self {
            stream,
            lines,
            user: user.to_owned(),
            manner,
            extranonce1: Vec::new(),
            extranonce2_size: 0,
            version_mask: 0,
            difficulty: 1.0,
            work: None,
            seen_jobs: HashSet::new(),
            unanswered: VecDeque::new(),
            tally: Tally::default(),
            window: 4,
            pace: Duration::ZERO,
            reluctance: Duration::ZERO,
            hashrate: None,
            hashed: Instant::now(),
            next_submit: Instant::now(),
            next_work: None,
        };
        miner.set_up()?;
        while miner.work.is_none() {
            let message = miner.message(PATIENCE)?.ok_or_else(|| protocol("no job after the setup"))?;
            miner.notified(&message)?;
        }
        Ok(miner)
    }

    /// Mines as long as `go_on` says, which is asked many times a second. Replies that are out at the end are awaited.
    pub fn mine(&mut self, mut go_on: impl FnMut(&Tally) -> bool) -> Result<(), Fault> {
        while go_on(&self.tally) {
            self.step()?;
        }
        self.settle()
    }

    /// Waits for a job that builds on the block `hash`.
    pub fn wait_for_tip(&mut self, hash: &str, limit: Duration) -> Result<(), Fault> {
        let start = Instant::now();
        while self.work.as_ref().is_none_or(|work| work.builds_on() != hash) {
            let left = limit.saturating_sub(start.elapsed());
            let message = self.message(left)?;
            self.handle(&message.ok_or_else(|| protocol(&format!("no job on {hash} in {limit:?}")))?)?;
        }
        Ok(())
    }

    /// Waits for the replies that are still out.
    pub fn settle(&mut self) -> Result<(), Fault> {
        while !self.unanswered.is_empty() {
            let message = self.message(PATIENCE)?;
            let out = self.unanswered.len();
            self.handle(&message.ok_or_else(|| protocol(&format!("{out} submits got no reply")))?)?;
        }
        Ok(())
    }

    /// One slice of mining: at most some milliseconds.
    fn step(&mut self) -> Result<(), Fault> {
        while let Some(message) = self.message(Duration::ZERO)? {
            self.handle(&message)?;
        }
        let wait = self.next_submit.max(self.hashed).saturating_duration_since(Instant::now());
        if self.unanswered.len() >= self.window || !wait.is_zero() {
            let limit = Duration::from_millis(20);
            let limit = if wait.is_zero() { limit } else { limit.min(wait) };
            if let Some(message) = self.message(limit)? {
                self.handle(&message)?;
            }
            return Ok(());
        }
        if self.next_work.as_ref().is_some_and(|(at, _)| *at <= Instant::now()) {
            self.work = self.next_work.take().map(|(_, work)| work);
        }
        let Some(work) = &mut self.work else { return Ok(()) };
        let begun = Instant::now();
        let (hashes, share) = work.grind(40_000);
        if let Some(hashrate) = self.hashrate {
            // What these hashes should have taken, but not to make up for times of rest.
            self.hashed = self.hashed.max(begun) + Duration::from_secs_f64(f64::from(hashes) / hashrate);
        }
        if let Some(share) = share {
            self.tally.late += u64::from(self.next_work.is_some());
            self.submit(share)?;
            // What was missed is made up for, but not more than a second of it.
            let earliest = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or(self.next_submit);
            self.next_submit = earliest.max(self.next_submit + self.pace);
        }
        Ok(())
    }

    fn submit(&mut self, share: Share) -> Result<(), Fault> {
        let mut params = vec![
            json!(self.user),
            json!(share.job),
            json!(hex::encode(&share.extranonce2)),
            json!(share.time),
            json!(format!("{:08x}", share.nonce)),
        ];
        if self.version_mask != 0 {
            params.push(json!(format!("{:08x}", share.version_bits)));
        }
        // Like cpuminer: one id for all of them.
        self.send(&[json!({"id": 4, "method": "mining.submit", "params": params})])?;
        self.tally.sent += 1;
        if share.is_block {
            self.tally.blocks_sent.push(share.hash.clone());
        }
        self.unanswered.push_back(share);
        Ok(())
    }

    fn handle(&mut self, message: &Value) -> Result<(), Fault> {
        if message.get("method").is_some() {
            return self.notified(message);
        }
        if message["id"] != json!(4) {
            return Err(protocol(&format!("a reply to nothing: {message}")));
        }
        let share = self.unanswered.pop_front().ok_or_else(|| protocol("one reply too many"))?;
        match accepted(message)? {
            Ok(()) => self.tally.acknowledge(share),
            Err((21, _)) => self.tally.stale += 1,
            Err((code, text)) => self.tally.rejects.push(format!("{code} {text}, for {share:?}")),
        }
        Ok(())
    }

    /// A message that the pool sent of its own accord.
    fn notified(&mut self, message: &Value) -> Result<(), Fault> {
        if !message["id"].is_null() {
            return Err(protocol(&format!("a notification with an id: {message}")));
        }
        let params =
            message["params"].as_array().ok_or_else(|| protocol(&format!("no params array: {message}")))?;
        match message["method"].as_str() {
            Some("mining.set_difficulty") => {
                let difficulty = params.first().and_then(Value::as_f64).filter(|d| *d > 0.0);
                self.difficulty = difficulty.ok_or_else(|| protocol(&format!("difficulty: {message}")))?;
                self.tally.retargets += 1;
                if let (Manner::Bitaxe, Some(work)) = (self.manner, &mut self.work) {
                    work.set_difficulty(self.difficulty);
                }
            }
            Some("mining.notify") => {
                let work = Work::new(params, &self.extranonce1, self.extranonce2_size, self.difficulty);
                let mut work = work.map_err(|e| protocol(&format!("{e}: {message}")))?;
                if !self.seen_jobs.insert(work.job.clone()) {
                    return Err(protocol(&format!("job id used twice: {message}")));
                }
                if work.version & self.version_mask != 0 {
                    return Err(protocol(&format!("the job uses version bits that are ours: {message}")));
                }
                work.version_mask = self.version_mask;
                self.tally.jobs += 1;
                match &self.work {
                    Some(now) if now.builds_on() == work.builds_on() && !self.reluctance.is_zero() => {
                        self.next_work = Some((Instant::now() + self.reluctance, work));
                    }
                    _ => (self.work, self.next_work) = (Some(work), None),
                }
            }
            Some("mining.set_version_mask") if self.version_mask != 0 => (),
            _ => return Err(protocol(&format!("not asked for: {message}"))),
        }
        Ok(())
    }

    fn set_up(&mut self) -> Result<(), Fault> {
        let configure = json!({"id": 0, "method": "mining.configure", "params": [["version-rolling"],
            {"version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": 2}]});
        let subscribe = json!({"id": 1, "method": "mining.subscribe", "params": ["independent/1.0"]});
        let authorize = json!({"id": 2, "method": "mining.authorize", "params": [self.user, "x"]});
        let suggest = json!({"id": 3, "method": "mining.suggest_difficulty", "params": [1000]});
        match self.manner {
            Manner::Cpuminer => {
                self.send(&[subscribe])?;
                let reply = self.next_reply(1, &[])?;
                self.subscribed(&reply)?;
                self.send(&[authorize])?;
                let reply = self.next_reply(2, &["mining.set_difficulty", "mining.notify"])?;
                authorized(&reply)
            }
            Manner::Cgminer => {
                self.send(&[configure])?;
                let reply = self.next_reply(0, &[])?;
                self.configured(&reply)?;
                self.send(&[subscribe])?;
                let reply = self.next_reply(1, &[])?;
                self.subscribed(&reply)?;
                self.send(&[authorize])?;
                let reply = self.next_reply(2, &["mining.set_difficulty", "mining.notify"])?;
                authorized(&reply)
            }
            Manner::Bitaxe => {
                self.send(&[subscribe, configure, authorize, suggest])?;
                // Replies in the order of the requests; anything else may stand between them.
                for id in [1, 0, 2, 3] {
                    let reply = self.next_reply(
                        id,
                        &["mining.set_difficulty", "mining.notify", "mining.set_version_mask"],
                    )?;
                    match id {
                        0 => self.configured(&reply)?,
                        1 => self.subscribed(&reply)?,
                        2 => authorized(&reply)?,
                        _ => suggested(&reply)?,
                    }
                }
                Ok(())
            }
            Manner::Backwards => {
                self.send(&[authorize, subscribe])?;
                // The pool may hold the first until it has the second.
                for ids in [&[1, 2][..], &[1, 2][..]] {
                    let reply = self.next_reply_among(ids)?;
                    if reply["id"] == json!(1) { self.subscribed(&reply)? } else { authorized(&reply)? }
                }
                Ok(())
            }
        }
    }

    /// The next line, which must be the reply to `id`, but that lines with one of `methods` may come before it.
    fn next_reply(&mut self, id: u64, methods: &[&str]) -> Result<Value, Fault> {
        loop {
            let message =
                self.message(PATIENCE)?.ok_or_else(|| protocol(&format!("no reply to request {id}")))?;
            if message["method"].as_str().is_some_and(|method| methods.contains(&method)) {
                self.notified(&message)?;
            } else if message["id"] == json!(id) && message.get("method").is_none() {
                return Ok(message);
            } else {
                return Err(protocol(&format!("not the reply to request {id}: {message}")));
            }
        }
    }

    /// The next reply to one of `ids`, with whatever notifications before it.
    fn next_reply_among(&mut self, ids: &[u64]) -> Result<Value, Fault> {
        loop {
            let message =
                self.message(PATIENCE)?.ok_or_else(|| protocol(&format!("no reply among {ids:?}")))?;
            if message.get("method").is_some() {
                self.notified(&message)?;
            } else if ids.iter().any(|id| message["id"] == json!(id)) {
                return Ok(message);
            } else {
                return Err(protocol(&format!("a reply to nothing: {message}")));
            }
        }
    }

    fn subscribed(&mut self, reply: &Value) -> Result<(), Fault> {
        let fault = || protocol(&format!("subscribe: {reply}"));
        if !reply["error"].is_null() {
            return Err(fault());
        }
        let result = reply["result"].as_array().filter(|r| r.len() >= 3).ok_or_else(fault)?;
        // cgminer looks for its session id here.
        let pairs = result[0].as_array().ok_or_else(fault)?;
        let session =
            pairs.iter().find(|pair| pair[0] == json!("mining.notify")).and_then(|pair| pair[1].as_str());
        session.filter(|id| !id.is_empty()).ok_or_else(fault)?;
        let extranonce1 = result[1].as_str().and_then(|text| hex::decode(text).ok());
        self.extranonce1 = extranonce1.filter(|bytes| !bytes.is_empty()).ok_or_else(fault)?;
        let size = result[2].as_u64().filter(|size| (2..=8).contains(size)).ok_or_else(fault)?;
        self.extranonce2_size = size as usize;
        Ok(())
    }

    fn configured(&mut self, reply: &Value) -> Result<(), Fault> {
        let mask = reply["result"]["version-rolling.mask"].as_str().filter(|mask| mask.len() == 8);
        let mask = mask.and_then(|mask| u32::from_str_radix(mask, 16).ok()).filter(|mask| *mask != 0);
        let granted = reply["result"]["version-rolling"] == json!(true) && reply["error"].is_null();
        self.version_mask =
            mask.filter(|_| granted).ok_or_else(|| protocol(&format!("configure: {reply}")))?;
        Ok(())
    }

    /// The next line; `None` if none comes in time.
    fn message(&mut self, limit: Duration) -> Result<Option<Value>, Fault> {
        let line = match self.lines.recv_timeout(limit) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return Err(Fault::Closed),
        };
        let message: Value = serde_json::from_str(&line).map_err(|e| protocol(&format!("{e}: {line}")))?;
        let keys = if message.get("method").is_some() {
            ["id", "method", "params"]
        } else {
            ["id", "result", "error"]
        };
        match keys.iter().find(|key| message.get(key).is_none()) {
            Some(key) => Err(protocol(&format!("no {key} in {line}"))),
            None => Ok(Some(message)),
        }
    }

    /// All `requests` in one segment, but [`Manner::Backwards`] sends three bytes at a time.
    fn send(&mut self, requests: &[Value]) -> Result<(), Fault> {
        let dribbles = self.manner == Manner::Backwards;
        let (end, size) = if dribbles { ("\r\n", 3) } else { ("\n", usize::MAX) };
        let text: String = requests.iter().map(|request| format!("{request}{end}")).collect();
        for bytes in text.as_bytes().chunks(size) {
            self.stream.write_all(bytes).map_err(|_| Fault::Closed)?;
            if dribbles {
                thread::sleep(Duration::from_micros(100));
            }
        }
        Ok(())
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        // Ends the reading thread.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn protocol(what: &str) -> Fault {
    Fault::Protocol(what.to_owned())
}

fn authorized(reply: &Value) -> Result<(), Fault> {
    accepted(reply)?.map_err(|(code, text)| protocol(&format!("not authorized: {code} {text}")))
}

fn suggested(reply: &Value) -> Result<(), Fault> {
    accepted(reply)?.map_err(|(code, text)| protocol(&format!("suggestion refused: {code} {text}")))
}

/// Yes, no with code and text, or something else, which is a fault.
fn accepted(reply: &Value) -> Result<Result<(), (i64, String)>, Fault> {
    match (&reply["result"], &reply["error"]) {
        (Value::Bool(true), Value::Null) => Ok(Ok(())),
        (Value::Null | Value::Bool(false), Value::Array(error)) if error.len() == 3 => {
            match (error[0].as_i64(), error[1].as_str()) {
                (Some(code), Some(text)) => Ok(Err((code, text.to_owned()))),
                _ => Err(protocol(&format!("error without code and text: {reply}"))),
            }
        }
        _ => Err(protocol(&format!("neither yes nor no: {reply}"))),
    }
}
