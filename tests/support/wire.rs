//! One connection that sends exactly the bytes it is told to and shows exactly what comes back.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

mod job;

pub use job::{Job, Share, is_block, is_share};

/// How long the pool may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A raw connection, with what the pool said on it.
pub struct Wire {
    stream: TcpStream,
    pending: Vec<u8>,
    /// All lines so far, both ways: what a failed test shows.
    history: Vec<String>,
    /// Set by [`Self::subscribe`].
    pub extranonce1: Vec<u8>,
    /// Set by [`Self::subscribe`].
    pub session: String,
    /// Every job that came, with the difficulty said before it.
    pub jobs: Vec<Job>,
    /// The difficulty said last, as it was written.
    pub difficulty: Option<String>,
    /// Methods of the notifications that came, in their order.
    pub told: Vec<String>,
}

impl Wire {
    /// Connects.
    pub fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the pool listens");
        Self::on(stream)
    }

    /// Connects from another address of the loopback network, with room for `window` bytes that were not read yet.
    pub fn open_from(address: Ipv4Addr, port: u16, window: Option<u32>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((address, 0)))?;
            if let Some(window) = window {
                socket.set_recv_buffer_size(window)?;
            }
            socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await?.into_std()
        })?;
        stream.set_nonblocking(false)?;
        Ok(Self::on(stream))
    }

    fn on(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            pending: Vec::new(),
            history: Vec::new(),
            extranonce1: Vec::new(),
            session: String::new(),
            jobs: Vec::new(),
            difficulty: None,
            told: Vec::new(),
        }
    }

    /// Connects, subscribes and authorizes `user`; comes back with the first job.
    pub fn start(port: u16, user: &str, password: &str) -> Self {
        let mut wire = Self::open(port);
        wire.subscribe();
        wire.authorize(user, password);
        wire
    }

    /// Sends these bytes as they are. The pool may have closed: what came before that is for [`Self::closed`] to see.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        self.history.push(format!("> {shown}"));
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a line.
    pub fn say(&mut self, line: impl std::fmt::Display) {
        self.send(format!("{line}\n"));
    }

    /// Sends a request.
    pub fn request(&mut self, id: impl Into<Value>, method: &str, params: Value) {
        self.say(json!({"id": id.into(), "method": method, "params": params}));
    }

    /// Sends as much of `bytes` as the connection takes within `limit`; how much that was.
    pub fn stuff(&mut self, bytes: &[u8], limit: Duration) -> usize {
        self.stream.set_write_timeout(Some(limit)).unwrap();
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(count @ 1..) => sent += count,
                _ => break,
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        sent
    }

    /// Waits until something has come, and leaves it unread.
    pub fn wait_unread(&self) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(self.stream.peek(&mut [0]).is_ok_and(|count| count > 0), "nothing came");
    }

    /// The next line without its end, or `None` if none comes within `limit`.
    pub fn line_within(&mut self, limit: Duration) -> Option<String> {
        let start = Instant::now();
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(end + 1);
                let line = String::from_utf8(std::mem::replace(&mut self.pending, rest)).expect("UTF-8");
                let line = line.trim_end_matches('\n').to_owned();
                assert!(line.starts_with('{') && line.ends_with('}'), "not one object a line: {line:?}");
                self.history.push(format!("< {line}"));
                return Some(line);
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() && !limit.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => self.fail("the pool closed the connection"),
                Ok(count) => self.pending.extend_from_slice(&bytes[..count]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if limit.is_zero() {
                        return None;
                    }
                }
                Err(e) => self.fail(&e.to_string()),
            }
        }
    }

    /// The next line as it came.
    pub fn line(&mut self) -> String {
        self.line_within(PATIENCE).unwrap_or_else(|| self.fail("nothing came"))
    }

    /// The next line, if the pool does not close instead.
    pub fn try_message(&mut self) -> Option<Value> {
        let mut bytes = [0; 4096];
        while !self.pending.contains(&b'\n') {
            self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
            match self.stream.read(&mut bytes) {
                Ok(count @ 1..) => self.pending.extend_from_slice(&bytes[..count]),
                Ok(_) => return None,
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return None;
                }
                Err(e) => self.fail(&e.to_string()),
            }
        }
        Some(self.message())
    }

    /// The next line; if it is a notification, note is taken of it.
    pub fn message(&mut self) -> Value {
        let line = self.line();
        self.read(&line)
    }

    /// Reads a line, and takes note of it if it is a notification.
    pub fn read(&mut self, line: &str) -> Value {
        let message: Value =
            serde_json::from_str(line).unwrap_or_else(|e| self.fail(&format!("{e}: {line}")));
        let Some(method) = message["method"].as_str() else { return message };
        self.told.push(method.to_owned());
        match method {
            "mining.set_difficulty" => {
                let number = line.split_once("\"params\":[").and_then(|(_, rest)| rest.split_once(']'));
                self.difficulty = number.map(|(number, _)| number.to_owned());
            }
            "mining.notify" => {
                let difficulty = self.difficulty.as_ref().and_then(|text| text.parse().ok());
                self.jobs.push(Job::new(&message["params"], &self.extranonce1, difficulty.unwrap_or(1.0)));
            }
            _ => (),
        }
        message
    }

    /// The next line that is a reply, as it came.
    pub fn reply_line(&mut self) -> String {
        loop {
            let line = self.line();
            if self.read(&line).get("method").is_none() {
                return line;
            }
        }
    }

    /// The next line that is a reply, after whatever notifications.
    pub fn reply(&mut self) -> Value {
        loop {
            let message = self.message();
            if message.get("method").is_none() {
                return message;
            }
        }
    }

    /// Asks, and returns the reply, which must be to this very id.
    pub fn ask(&mut self, id: impl Into<Value>, method: &str, params: Value) -> Value {
        let id = id.into();
        self.request(id.clone(), method, params);
        let reply = self.reply();
        assert_eq!(reply["id"], id, "{:#?}", self.history);
        reply
    }

    /// Subscribes; the next line must be the reply to it.
    pub fn subscribe(&mut self) {
        self.subscribe_with(json!(["conformance/1.0"]));
    }

    /// The same, with these parameters.
    pub fn subscribe_with(&mut self, params: Value) {
        self.request(1, "mining.subscribe", params);
        let reply = self.message();
        self.subscribed(&reply);
    }

    /// Takes note of what a subscribe was answered.
    pub fn subscribed(&mut self, reply: &Value) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (Some(session), Some(extranonce1)) = (text(&reply["result"][0][1][1]), text(&reply["result"][1]))
        else {
            self.fail(&format!("not subscribed: {reply}"));
        };
        (self.session, self.extranonce1) = (session, hex::decode(extranonce1).unwrap());
    }

    /// Authorizes, and waits for the job that follows.
    pub fn authorize(&mut self, user: &str, password: &str) {
        let reply = self.ask(2, "mining.authorize", json!([user, password]));
        assert_eq!(reply["result"], json!(true), "{:#?}", self.history);
        self.next_job();
    }

    /// The next job that comes.
    pub fn next_job(&mut self) -> Job {
        let jobs = self.jobs.len();
        while self.jobs.len() == jobs {
            let message = self.message();
            assert!(message.get("method").is_some(), "a reply instead of a job: {:#?}", self.history);
        }
        self.job()
    }

    /// The job that came last.
    pub fn job(&self) -> Job {
        self.jobs.last().unwrap_or_else(|| self.fail("no job came")).clone()
    }

    /// Waits for a job that builds on the block `hash`.
    pub fn job_on(&mut self, hash: &str) -> Job {
        while self.jobs.last().is_none_or(|job| job.previous.to_string() != hash) {
            self.message();
        }
        self.job()
    }

    /// Submits; what was answered: 0 for yes, else the code of the refusal.
    pub fn submit(&mut self, user: &str, share: &Share) -> u64 {
        let reply = self.ask(4, "mining.submit", share.params(user));
        self.code(&reply)
    }

    /// 0 for yes, else the code of the refusal.
    pub fn code(&self, reply: &Value) -> u64 {
        match (&reply["result"], &reply["error"]) {
            (Value::Bool(true), Value::Null) => 0,
            (Value::Null, Value::Array(error)) if error.len() == 3 => error[0].as_u64().unwrap(),
            _ => self.fail(&format!("neither yes nor no: {reply}")),
        }
    }

    /// Nothing is on its way but, at most, work: the very next reply is to a ping.
    pub fn nothing_else(&mut self) {
        let reply = self.ask("nothing else?", "mining.ping", json!([]));
        assert_eq!(reply["result"], json!("pong"), "{:#?}", self.history);
    }

    /// Ends this side's half of the connection.
    pub fn shut(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits until the pool closes; the lines that came before. Panics if it does not.
    pub fn closed(&mut self) -> Vec<String> {
        self.closed_within(PATIENCE)
    }

    /// Waits until the pool closes, without a word that is a line. (An alert of TLS may come.)
    pub fn closed_silently(&mut self) {
        let start = Instant::now();
        let mut bytes = [0; 4096];
        self.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        while start.elapsed() < PATIENCE {
            match self.stream.read(&mut bytes) {
                Ok(count @ 1..) => assert!(!bytes[..count].contains(&b'{'), "{:?}", &bytes[..count]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => (),
                _ => return,
            }
        }
        self.fail("still open");
    }

    /// As [`Self::closed`], with another patience.
    pub fn closed_within(&mut self, limit: Duration) -> Vec<String> {
        let start = Instant::now();
        let mut bytes = [0; 4096];
        while start.elapsed() < limit {
            self.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            match self.stream.read(&mut bytes) {
                Ok(0) => return self.rest(),
                Ok(count) => self.pending.extend_from_slice(&bytes[..count]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => (),
                // A reset is one way to close.
                Err(_) => return self.rest(),
            }
        }
        self.fail(&format!("still open after {limit:?}"))
    }

    /// Whether the pool has closed by now; what it said before that is lost.
    pub fn is_closed(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        match self.stream.read(&mut [0; 4096]) {
            Ok(count) => count == 0,
            Err(e) => !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    fn rest(&mut self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut self.pending)).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    /// Panics with all that was said.
    pub fn fail(&self, why: &str) -> ! {
        let recent = &self.history[self.history.len().saturating_sub(40)..];
        panic!("{why}, after:\n{}", recent.join("\n"));
    }
}
