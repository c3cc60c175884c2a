//! Whole conversations of six kinds of miners, as text in `transcripts/`, played line by line, all in one segment as far
//! as that is possible, and a byte at a time.
//!
//! `> ` stands before what the miner sends, `< ` before what must come back, in this order: JSON in which `"*"` is any
//! value. In what is sent `$USER` is a worker; `$JOB`, `$EXTRANONCE2`, `$NTIME`, `$NONCE` and `$BITS` are those of a
//! fresh share of the latest job (`$SHORTNONCE`, `$SHORTBITS`: without leading zeros); `$SESSION` is the session id last
//! given. `again` sends the last line once more, `break` closes the connection and opens another, and `crlf` has all
//! lines end so. Work may come at any time after authorize was sent, as it may for a real miner (C-13).

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    address,
    node::Chain,
    shared::{Stay, moving, still},
    wire::{PATIENCE, Wire, is_block, is_share},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    LineByLine,
    Pipelined,
    ByteByByte,
}

/// A conversation under way.
struct Player<'a> {
    pool: &'a Stay,
    manner: Manner,
    user: String,
    wire: Wire,
    end: &'static str,
    last: String,
    seed: u64,
    /// Version bits were granted.
    rolls: bool,
    authorizing: bool,
    /// What is yet to be sent, and what is yet to come.
    out: String,
    due: Vec<Value>,
}

impl Player<'_> {
    fn play(mut self, transcript: &str) {
        for line in transcript.lines() {
            match line.split_once(' ').unwrap_or((line, "")) {
                (">", line) => self.send(line.to_owned()),
                ("<", pattern) => {
                    self.due.push(serde_json::from_str(pattern).unwrap_or_else(|e| panic!("{e}: {pattern}")));
                    if self.manner != Manner::Pipelined {
                        self.flush();
                    }
                }
                ("again", _) => self.send(self.last.clone()),
                ("break", _) => {
                    self.flush();
                    self.wire = reopened(self.pool, &self.wire);
                    (self.rolls, self.authorizing) = (false, false);
                }
                ("crlf", _) => self.end = "\r\n",
                ("#" | "", _) => (),
                _ => panic!("what is {line:?}?"),
            }
        }
        self.flush();
        self.wire.nothing_else();
    }

    fn send(&mut self, line: String) {
        if ["$JOB", "$NTIME", "$SESSION"].iter().any(|name| line.contains(name)) {
            // What stands for these is in what comes first.
            self.flush();
        }
        let line = self.fill_in(line);
        self.out += &format!("{line}{}", self.end);
        self.last = line;
        if self.manner != Manner::Pipelined {
            self.say();
        }
    }

    fn fill_in(&mut self, line: String) -> String {
        let mut line = line.replace("$USER", &self.user).replace("$SESSION", &self.wire.session);
        if line.contains("$NTIME") || line.contains("$JOB") {
            self.seed += 1;
            let job = self.wire.job();
            // Bits that are not handed in would make it another hash, and maybe a block.
            let hands_in_bits = self.rolls && (line.contains("$BITS") || line.contains("$SHORTBITS"));
            let bits = if hands_in_bits { 0x2000 * (1 + self.seed as u32 % 7) } else { 0 };
            let share = job.find_with(self.seed, job.time, Some(bits), |hash| {
                is_share(hash, job.difficulty) && !is_block(hash, job.bits)
            });
            let bits = share.version_bits.unwrap();
            let short = |text: &str| match text.trim_start_matches('0') {
                "" => "0".to_owned(),
                digits => digits.to_owned(),
            };
            for (name, value) in [
                ("$JOB", share.job),
                ("$EXTRANONCE2", share.extranonce2),
                ("$NTIME", share.time),
                ("$SHORTNONCE", short(&share.nonce)),
                ("$SHORTBITS", short(&bits)),
                ("$NONCE", share.nonce),
                ("$BITS", bits),
            ] {
                line = line.replace(name, &value);
            }
        }
        assert!(!line.contains('$'), "not filled in: {line}");
        line
    }

    fn say(&mut self) {
        let out = std::mem::take(&mut self.out);
        self.authorizing |= out.contains("mining.authorize");
        if self.manner != Manner::ByteByByte {
            self.wire.send(out);
            return;
        }
        for byte in out.bytes() {
            self.wire.send([byte]);
            thread::sleep(Duration::from_micros(50));
        }
    }

    fn flush(&mut self) {
        self.say();
        for pattern in std::mem::take(&mut self.due) {
            self.expect(&pattern);
        }
    }

    fn expect(&mut self, pattern: &Value) {
        loop {
            let message = self.wire.message();
            if message["result"]["version-rolling"] == json!(true) {
                self.rolls = true;
            }
            if message["result"][0][1][0] == "mining.notify" {
                self.wire.subscribed(&message);
            }
            if matches(pattern, &message) {
                return;
            }
            let is_work =
                matches!(message["method"].as_str(), Some("mining.set_difficulty" | "mining.notify"));
            if !(is_work && self.authorizing) {
                self.wire.fail(&format!("{:?}: expected {pattern}, not {message}", self.manner));
            }
        }
    }
}

/// Another connection that knows the session of `wire`, once the pool has seen that one go.
fn reopened(pool: &Stay, wire: &Wire) -> Wire {
    let before = pool.closed("left");
    wire.shut();
    pool.wait_closed("left", before, 1);
    let mut next = Wire::open(pool.port());
    next.session = wire.session.clone();
    next
}

fn matches(pattern: &Value, value: &Value) -> bool {
    match (pattern, value) {
        (Value::String(any), _) if any == "*" => true,
        (Value::Array(patterns), Value::Array(values)) => {
            patterns.len() == values.len() && patterns.iter().zip(values).all(|(p, v)| matches(p, v))
        }
        (Value::Object(patterns), Value::Object(values)) => {
            patterns.len() == values.len()
                && patterns.iter().all(|(key, p)| values.get(key).is_some_and(|v| matches(p, v)))
        }
        _ => pattern == value,
    }
}

fn play(pool: &Stay, chain: Chain, name: &str, transcript: &str) {
    for (manner, number) in [(Manner::LineByLine, 1), (Manner::Pipelined, 2), (Manner::ByteByByte, 3)] {
        let player = Player {
            pool,
            manner,
            user: format!("{}.{name}", address(chain, 50 + number)),
            wire: Wire::open(pool.port()),
            end: "\n",
            last: String::new(),
            seed: 0,
            rolls: false,
            authorizing: false,
            out: String::new(),
            due: Vec::new(),
        };
        player.play(transcript);
    }
    let shares = transcript.matches("\"$NONCE\"").count() + transcript.matches("\"$SHORTNONCE\"").count();
    assert!(shares >= 2, "{name} hands nothing in");
    crate::support::wait_for("the shares in the ledger", PATIENCE, || {
        let miner = pool.try_api(&format!("/api/v1/miners/{}/workers", address(chain, 51))).ok()?;
        let workers = miner["workers"].as_array()?;
        let worker = workers.iter().find(|worker| worker["name"] == name)?;
        (worker["accepted_shares"].as_u64()? >= 2).then_some(())
    });
}

#[test]
fn cpuminer_is_understood() {
    play(&still(), Chain::Signet, "cpuminer", include_str!("transcripts/cpuminer.txt"));
}

#[test]
fn cgminer_is_understood() {
    play(&still(), Chain::Signet, "cgminer", include_str!("transcripts/cgminer.txt"));
}

#[test]
fn bitaxe_is_understood() {
    play(&still(), Chain::Signet, "bitaxe", include_str!("transcripts/bitaxe.txt"));
}

#[test]
fn antminer_is_understood() {
    play(&still(), Chain::Signet, "antminer", include_str!("transcripts/antminer.txt"));
}

#[test]
fn whatsminer_is_understood() {
    play(&still(), Chain::Signet, "whatsminer", include_str!("transcripts/whatsminer.txt"));
}

#[test]
fn nicehash_is_understood() {
    // Where the operator's bounds hold it at a difficulty that any hash meets: it asks for half a million otherwise.
    play(&moving(), Chain::Regtest, "nicehash", include_str!("transcripts/nicehash.txt"));
}

#[test]
fn patterns_match_what_they_should() {
    let check =
        |pattern: Value, value: Value, expect| assert_eq!(matches(&pattern, &value), expect, "{pattern}");
    check(json!({"a": "*", "b": [1, "*"]}), json!({"a": {"c": 1}, "b": [1, null]}), true);
    check(json!({"a": "*"}), json!({"b": 1}), false);
    check(json!({"a": "*"}), json!({"a": 1, "b": 1}), false);
    check(json!(["*"]), json!([]), false);
    check(json!([true]), json!([false]), false);
}
