//! Stratum V1 from the miner's side: lines in, lines and jobs out.

use std::collections::HashMap;

use serde_json::{Value, json};
use share::Target;
use stratum::v1::Lines;

use crate::miner::{
    AGENT, MinerConfig,
    session::{Broken, Event, MAX_PENDING, Session},
    work::{Extranonce, Found},
};

pub(super) mod message;

use message::{Message, Notify};

/// The longest line that a pool may send, in bytes.
const MAX_LINE: usize = 1 << 16;

const SUBSCRIBE: u64 = 1;
const CONFIGURE: u64 = 2;
const AUTHORIZE: u64 = 3;
const FIRST_SUBMIT: u64 = 4;

/// A session with the lines that it arrives in.
pub struct Stream {
    lines: Lines,
    session: State,
}

impl Stream {
    /// A new session, and the lines that open it. `serial` is above that of all jobs before.
    pub fn open(config: &MinerConfig, serial: u64) -> (Self, Vec<u8>) {
        let (session, lines) = State::open(config, serial);
        (Self { lines: Lines::new(MAX_LINE), session }, lines.into_bytes())
    }
}

impl Session for Stream {
    fn arrived(
        &mut self,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        let (mut arrived, mut answers) = (&*bytes, String::new());
        while let Some(line) =
            self.lines.next(&mut arrived).map_err(|error| Broken::Line(error.to_string()))?
        {
            events.extend(self.session.on_line(line, &mut answers)?);
            events.extend(self.session.early_work());
        }
        out.extend_from_slice(answers.as_bytes());
        Ok(())
    }

    fn submit(&mut self, found: &Found, out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut line = String::new();
        self.session.submit(found, &mut line)?;
        out.extend_from_slice(line.as_bytes());
        Ok(())
    }

    fn pending(&self) -> usize {
        self.session.pending.len()
    }
}

/// What both sides have agreed on.
struct State {
    user: String,
    extranonce: Option<Extranonce>,
    mask: u32,
    authorized: bool,
    /// What a share of the jobs to come has to meet.
    target: Target,
    /// The latest job, if it could not be worked on when it came.
    early: Option<(Notify, Target)>,
    /// Serial of the next job, and of the first that is still worth something.
    serial: u64,
    clean: u64,
    next_id: u64,
    /// By id: whether the share is a block.
    pending: HashMap<u64, bool>,
}

impl State {
    /// A new session, and the lines that open it. `serial` is above that of all jobs before.
    fn open(config: &MinerConfig, serial: u64) -> (Self, String) {
        let version_rolling =
            json!({ "version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": 2 });
        let lines = [
            message::request(SUBSCRIBE, "mining.subscribe", json!([AGENT])),
            message::request(CONFIGURE, "mining.configure", json!([["version-rolling"], version_rolling])),
            message::request(AUTHORIZE, "mining.authorize", json!([config.user, config.password])),
        ];
        let session = Self {
            user: config.user.clone(),
            extranonce: None,
            mask: 0,
            authorized: false,
            target: Target::ONE,
            early: None,
            serial,
            clean: serial,
            next_id: FIRST_SUBMIT,
            pending: HashMap::new(),
        };
        (session, lines.concat())
    }

    /// Takes in a line; what is to be answered at once goes to `out`.
    fn on_line(&mut self, line: &[u8], out: &mut String) -> Result<Option<Event>, Broken> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        match message::parse(line).map_err(Broken::Line)? {
            Message::Reply(id, result) => self.on_reply(id, result),
            Message::Notify(notify) => Ok(self.on_notify(notify, self.target)),
            Message::Difficulty(difficulty) => {
                self.target = difficulty.target();
                Ok(None)
            }
            Message::VersionMask(mask) => {
                self.mask = mask;
                Ok(None)
            }
            Message::Extranonce(extranonce) => {
                self.extranonce = Some(extranonce);
                Ok(None)
            }
            Message::Ask(answer) => {
                out.push_str(&answer);
                Ok(None)
            }
            Message::Show(text) => Ok(Some(Event::Show(text))),
            Message::Reconnect => Err(Broken::Reconnect),
            Message::Other(what) => {
                tracing::debug!(what, "ignored what the pool says");
                Ok(None)
            }
        }
    }

    fn on_reply(&mut self, id: u64, result: Result<Value, String>) -> Result<Option<Event>, Broken> {
        match (id, result) {
            (SUBSCRIBE, Ok(result)) => {
                self.extranonce = Some(message::subscription(&result).map_err(Broken::Line)?);
                Ok(None)
            }
            (SUBSCRIBE, Err(words)) => Err(Broken::Subscription(words)),
            (CONFIGURE, result) => {
                self.mask = result.map_or(0, |result| message::version_mask(&result));
                Ok(None)
            }
            (AUTHORIZE, Ok(_)) => {
                self.authorized = true;
                Ok(Some(Event::Authorized))
            }
            (AUTHORIZE, Err(words)) => Ok(Some(Event::Refused(words))),
            (id, result) => Ok(self.pending.remove(&id).map(|is_block| match result {
                Ok(_) => Event::Accepted { is_block },
                Err(words) => Event::Rejected(words),
            })),
        }
    }

    /// The job that came before the session was ready for it. To be asked for after each event.
    fn early_work(&mut self) -> Option<Event> {
        let (notify, target) = self.early.take()?;
        self.on_notify(notify, target)
    }

    fn on_notify(&mut self, notify: Notify, target: Target) -> Option<Event> {
        let Some(extranonce) = self.extranonce.clone().filter(|_| self.authorized) else {
            self.early = Some((notify, target));
            return None;
        };
        let serial = self.serial;
        self.serial += 1;
        if notify.clean {
            self.clean = serial;
        }
        Some(Event::Work(Box::new(notify.work(serial, extranonce, self.mask, target))))
    }

    /// Appends the submission of a share to `out`, unless its job is worthless by now.
    fn submit(&mut self, found: &Found, out: &mut String) -> Result<(), Broken> {
        if found.serial < self.clean {
            return Ok(());
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(Broken::Silent);
        }
        let mut params = vec![
            json!(self.user),
            json!(found.job_id),
            json!(hex::encode(&found.extranonce2)),
            json!(format!("{:08x}", found.time)),
            json!(format!("{:08x}", found.nonce)),
        ];
        params.extend(found.version_bits.map(|bits| json!(format!("{bits:08x}"))));
        out.push_str(&message::request(self.next_id, "mining.submit", Value::Array(params)));
        self.pending.insert(self.next_id, found.is_block);
        self.next_id += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::miner::Protocol;

    const SUBSCRIBED: &str = r#"{"id":1,"result":[[["mining.notify","s"]],"0a0b",6],"error":null}"#;
    const CONFIGURED: &str =
        r#"{"id":2,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}"#;
    const AUTHORIZED: &str = r#"{"id":3,"result":true,"error":null}"#;

    fn config() -> MinerConfig {
        let (connect, user, password) = ("pool:3333".into(), "bc1q.me".into(), "x".into());
        MinerConfig { protocol: Protocol::V1, connect, user, password, hashrate: None, threads: 1 }
    }

    fn difficulty(value: f64) -> String {
        format!(r#"{{"id":null,"method":"mining.set_difficulty","params":[{value}]}}"#)
    }

    fn notify(job: &str, clean: bool) -> String {
        let params = json!([job, "00".repeat(32), "01", "02", [], "20000000", "1d00ffff", "65000000", clean]);
        json!({ "id": null, "method": "mining.notify", "params": params }).to_string()
    }

    /// The jobs that come out of these lines, each with its difficulty.
    fn jobs(session: &mut State, lines: &[&str]) -> Vec<(String, f64)> {
        let mut jobs = Vec::new();
        for line in lines {
            let event = session.on_line(line.as_bytes(), &mut String::new()).unwrap();
            for event in [event, session.early_work()].into_iter().flatten() {
                if let Event::Work(work) = event {
                    jobs.push((work.job_id.clone(), work.target.difficulty().get()));
                }
            }
        }
        jobs
    }

    fn found(serial: u64) -> Found {
        Found {
            serial,
            job_id: "a".into(),
            extranonce2: vec![1, 0, 0, 0, 0, 0],
            time: 0x6500_0000,
            nonce: 0x2a,
            version: 0x2000_2000,
            version_bits: Some(0x2000),
            is_block: serial == 9,
        }
    }

    #[test]
    fn opens_with_three_requests() {
        let (_, lines) = State::open(&config(), 1);
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let methods: Vec<&str> = lines.iter().map(|line| line["method"].as_str().unwrap()).collect();
        assert_eq!(methods, ["mining.subscribe", "mining.configure", "mining.authorize"]);
        assert_eq!(lines[2]["params"], json!(["bc1q.me", "x"]));
    }

    #[test]
    fn difficulty_counts_from_the_next_job() {
        let (d8, d4) = (difficulty(8.0), difficulty(4.0));
        let [a, b, c] = ["a", "b", "c"].map(|job| notify(job, false));
        let check = |lines: &[&str], expect: &[(&str, f64)]| {
            let (mut session, _) = State::open(&config(), 1);
            let expect: Vec<(String, f64)> = expect.iter().map(|(job, d)| (job.to_string(), *d)).collect();
            assert_eq!(jobs(&mut session, lines), expect, "{lines:?}");
        };
        check(
            &[SUBSCRIBED, CONFIGURED, AUTHORIZED, &d8, &a, &d4, &b, &c],
            &[("a", 8.0), ("b", 4.0), ("c", 4.0)],
        );
        check(&[SUBSCRIBED, CONFIGURED, AUTHORIZED, &a], &[("a", 1.0)]);
        // The job may come before the pool has said yes: the last one counts, at its own difficulty.
        check(&[SUBSCRIBED, &d8, &a, &b, &d4, CONFIGURED, AUTHORIZED], &[("b", 8.0)]);
        check(&[AUTHORIZED, &d8, &a, SUBSCRIBED], &[("a", 8.0)]);
        check(&["", SUBSCRIBED, "  \r", &d8, &a], &[]);
    }

    #[test]
    fn submits_and_hears_what_became_of_it() {
        let (mut session, _) = State::open(&config(), 7);
        let lines = [SUBSCRIBED, CONFIGURED, AUTHORIZED, &notify("a", true), &notify("b", false)];
        assert_eq!(jobs(&mut session, &lines).len(), 2);
        let mut out = String::new();
        for serial in [6, 7, 8, 9] {
            session.submit(&found(serial), &mut out).unwrap();
        }
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3, "the share of an earlier connection is worth nothing");
        let params = json!(["bc1q.me", "a", "010000000000", "65000000", "0000002a", "00002000"]);
        assert_eq!(lines[0], json!({ "id": 4, "method": "mining.submit", "params": params }));
        let mut check = |line: &str, expect: &str| {
            let event = session.on_line(line.as_bytes(), &mut String::new()).unwrap();
            assert_eq!(format!("{event:?}"), expect, "{line}");
        };
        check(r#"{"id":4,"result":true,"error":null}"#, "Some(Accepted { is_block: false })");
        check(r#"{"id":4,"result":true,"error":null}"#, "None"); // said before
        check(r#"{"id":6,"result":true,"error":null}"#, "Some(Accepted { is_block: true })");
        check(r#"{"id":5,"result":null,"error":[23,"Low",null]}"#, r#"Some(Rejected("Low (code 23)"))"#);
        assert_eq!(session.pending.len(), 0);
        // A clean job makes those before it worthless.
        assert_eq!(jobs(&mut session, &[&notify("c", true)]).len(), 1);
        out.clear();
        session.submit(&found(8), &mut out).unwrap();
        assert_eq!(out, "");
    }

    #[test]
    fn a_pool_that_never_answers_is_broken() {
        let (mut session, _) = State::open(&config(), 1);
        let mut out = String::new();
        for _ in 0..MAX_PENDING {
            session.submit(&found(1), &mut out).unwrap();
        }
        assert_eq!(session.submit(&found(1), &mut out), Err(Broken::Silent));
    }

    #[test]
    fn what_ends_a_connection() {
        let check = |line: &str, expect: &str| {
            let (mut session, _) = State::open(&config(), 1);
            let error = session.on_line(line.as_bytes(), &mut String::new()).unwrap_err();
            assert!(error.to_string().contains(expect), "{line}: {error}");
        };
        check("HTTP/1.1 400 Bad Request", "does not speak Stratum V1");
        check(
            r#"{"id":1,"result":null,"error":[20,"full",null]}"#,
            "refuses the subscription: full (code 20)",
        );
        check(r#"{"id":1,"result":[[],"00",99],"error":null}"#, "extranonce2 size from 1 to 16");
        check(r#"{"method":"client.reconnect","params":[]}"#, "connect again");
    }
}
