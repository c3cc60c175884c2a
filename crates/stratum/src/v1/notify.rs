//! `mining.notify`, encoded once per job.

use share::Job;

use super::encode::hex;

const HEAD: &[u8] = br#"{"id":null,"method":"mining.notify","params":[""#;
/// Digits of a job id, and of a time.
const DIGITS: usize = 8;

/// A `mining.notify` for a job that many sessions share. What differs between them, and between the times when it is
/// sent, is of fixed length and put in as the line is written.
#[derive(Clone, Debug)]
pub struct Notify {
    /// The line up to the last parameter, with zeros for job id and time.
    line: Box<[u8]>,
    /// Where the time stands.
    time_at: usize,
}

impl Notify {
    /// Encodes `job`.
    pub fn new(job: &Job) -> Self {
        let mut line = HEAD.to_vec();
        line.extend([b'0'; DIGITS]);
        let text = |line: &mut Vec<u8>, bytes: &[u8]| {
            line.extend(br#",""#);
            hex(line, bytes);
            line.push(b'"');
        };
        line.push(b'"');
        text(&mut line, &words_swapped(&job.prev_hash));
        text(&mut line, job.coinbase.prefix());
        text(&mut line, job.coinbase.suffix());
        line.extend(b",[");
        for (i, sibling) in job.branch.iter().enumerate() {
            line.extend(if i == 0 { &b"\""[..] } else { b",\"" });
            hex(&mut line, sibling);
            line.push(b'"');
        }
        line.push(b']');
        text(&mut line, &job.version.to_be_bytes());
        text(&mut line, &job.bits.to_be_bytes());
        line.extend(br#",""#);
        let time_at = line.len();
        line.extend([b'0'; DIGITS]);
        line.extend(br#"","#);
        Self { line: line.into(), time_at }
    }

    /// Appends the line. `job_id`: as eight hex digits, so that [`crate::v1::Submit::job`] gives the number back.
    /// `time`: the header time to start from, in seconds since 1970. `clean`: drop all earlier jobs; never true for
    /// work that this miner has already, or it does it again.
    pub fn write(&self, out: &mut Vec<u8>, job_id: u32, time: u32, clean: bool) {
        let (before, after) = self.line.split_at(self.time_at);
        out.reserve(self.line.len() + b"false]}\n".len());
        out.extend(HEAD);
        hex(out, &job_id.to_be_bytes());
        out.extend(&before[HEAD.len() + DIGITS..]);
        hex(out, &time.to_be_bytes());
        out.extend(&after[DIGITS..]);
        out.extend(if clean { &b"true]}\n"[..] } else { b"false]}\n" });
    }
}

/// The order that V1 has for the previous block's hash: each word of four bytes reversed.
fn words_swapped(hash: &[u8; 32]) -> [u8; 32] {
    let mut swapped = *hash;
    for word in swapped.chunks_exact_mut(4) {
        word.reverse();
    }
    swapped
}

#[cfg(test)]
mod tests;
