//! A client of a swarm in Stratum V1.

use std::{collections::VecDeque, io::Write as _};

use serde_json::json;
use stratum::v1::Lines;
use tokio::net::TcpStream;

use super::{
    Fault,
    link::{Said, arrived, send, step},
};

mod line;

/// The longest line that a pool may send, in bytes.
const MAX_LINE: usize = 1 << 16;
/// The id of every submission: replies come in the order of the requests, and a fixed id can have a fixed reply.
const SUBMIT_ID: u64 = 4;

/// What submits.
#[derive(Default)]
pub struct Voice {
    /// As JSON.
    user: String,
    extranonce2: String,
    /// A submission up to its nonce; empty without a job.
    submission: Vec<u8>,
    nonce: u32,
}

/// Subscribes, authorizes and waits for the first job.
pub async fn open(stream: &TcpStream, user: &str, password: &str) -> Result<(Voice, Lines), Fault> {
    let mut opening = Opening {
        stream,
        lines: Lines::new(MAX_LINE),
        said: VecDeque::new(),
        voice: Voice { user: json!(user).to_string(), ..Voice::default() },
    };
    opening.say(1, "mining.subscribe", json!(["sluice-swarm/1.0"])).await?;
    let size = step("mining.subscribe", opening.size()).await??;
    opening.voice.extranonce2 = "00".repeat(size);
    opening.say(2, "mining.authorize", json!([user, password])).await?;
    step("mining.authorize", opening.authorized()).await??;
    step("the first job", opening.job()).await??;
    let Opening { lines, said, mut voice, .. } = opening;
    said.iter().for_each(|line| voice.heard(line, &mut |_| ()));
    Ok((voice, lines))
}

impl Voice {
    /// Appends a submission that was not made before; false without a job.
    pub fn submit(&mut self, out: &mut Vec<u8>) -> bool {
        if self.submission.is_empty() {
            return false;
        }
        out.extend_from_slice(&self.submission);
        // Writing to a Vec cannot fail.
        let _ = writeln!(out, "{:08x}\"]}}", self.nonce);
        self.nonce = self.nonce.wrapping_add(1);
        true
    }

    /// Submits nothing until there is another job.
    pub fn hush(&mut self) {
        self.submission.clear();
    }

    /// Takes in what arrived.
    pub fn hear(
        &mut self,
        lines: &mut Lines,
        bytes: &[u8],
        said: &mut impl FnMut(Said),
    ) -> Result<(), Fault> {
        let mut rest = bytes;
        while let Some(line) = lines.next(&mut rest).map_err(|_| Fault::TooLong)? {
            self.heard(line, said);
        }
        Ok(())
    }

    fn heard(&mut self, line: &[u8], said: &mut impl FnMut(Said)) {
        match line::read(line) {
            line::Said::Reply(SUBMIT_ID, Ok(_)) => said(Said::Accepted(1)),
            line::Said::Reply(SUBMIT_ID, Err(reason)) => said(Said::Refused(reason)),
            line::Said::Job(job) => {
                said(Said::Job { is_clean: job.clean });
                self.submission.clear();
                let _ = write!(
                    self.submission,
                    r#"{{"id":{SUBMIT_ID},"method":"mining.submit","params":[{},{},"{}",{},""#,
                    self.user, job.id, self.extranonce2, job.time
                );
            }
            _ => {}
        }
    }
}

/// A connection that is not ready yet.
struct Opening<'a> {
    stream: &'a TcpStream,
    lines: Lines,
    /// Lines that nobody has looked at yet.
    said: VecDeque<Vec<u8>>,
    voice: Voice,
}

impl Opening<'_> {
    async fn say(&self, id: u64, method: &str, params: serde_json::Value) -> Result<(), Fault> {
        let line = format!("{}\n", json!({ "id": id, "method": method, "params": params }));
        send(self.stream, line.as_bytes()).await
    }

    /// The pool's next line.
    async fn line(&mut self) -> Result<Vec<u8>, Fault> {
        loop {
            if let Some(line) = self.said.pop_front() {
                return Ok(line);
            }
            let Self { stream, lines, said, .. } = self;
            let cut = |bytes: &mut [u8], _| {
                let mut rest = &*bytes;
                while let Some(line) = lines.next(&mut rest).map_err(|_| Fault::TooLong)? {
                    said.push_back(line.to_vec());
                }
                Ok(())
            };
            arrived(stream, cut).await?;
        }
    }

    async fn size(&mut self) -> Result<usize, Fault> {
        loop {
            let line = self.line().await?;
            match line::read(&line) {
                line::Said::Reply(1, Ok(result)) => {
                    return line::extranonce2_size(result).ok_or(Fault::Subscription);
                }
                line::Said::Reply(1, Err(reason)) => return Err(Fault::Refused(reason)),
                _ => self.voice.heard(&line, &mut |_| ()),
            }
        }
    }

    async fn authorized(&mut self) -> Result<(), Fault> {
        loop {
            let line = self.line().await?;
            match line::read(&line) {
                line::Said::Reply(2, Ok(_)) => return Ok(()),
                line::Said::Reply(2, Err(reason)) => return Err(Fault::Refused(reason)),
                _ => self.voice.heard(&line, &mut |_| ()),
            }
        }
    }

    async fn job(&mut self) -> Result<(), Fault> {
        while self.voice.submission.is_empty() {
            let line = self.line().await?;
            self.voice.heard(&line, &mut |_| ());
        }
        Ok(())
    }
}
