//! Replies and notifications, each one line appended to a buffer.
//!
//! A reply goes to the request whose id it is given; where that request had none, none is due and none is written.

use std::{fmt, io::Write};

use share::{Difficulty, Reason};

use super::request::{Configure, Id};
use crate::reason;

/// The answer to [`Configure`].
#[derive(Clone, Copy, Debug)]
pub struct Configured<'a> {
    /// What was asked for; nothing else is answered.
    pub wanted: &'a Configure<'a>,
    /// The version bits that this miner may change from now on; 0 refuses version rolling. Not written unless it was
    /// asked for.
    pub version_mask: u32,
}

/// Yes: to `mining.submit`, `mining.authorize` and whatever else is answered by `true`.
pub fn accepted(out: &mut Vec<u8>, id: &Id<'_>) {
    reply(out, id, |out| out.extend(b"true"));
}

/// No, with the text of the table.
pub fn refused(out: &mut Vec<u8>, id: &Id<'_>, reason: Reason) {
    let (_, text) = reason::v1(reason);
    refused_with(out, id, reason, text);
}

/// No, with a text that says more than the table's.
pub fn refused_with(out: &mut Vec<u8>, id: &Id<'_>, reason: Reason, text: &str) {
    let Some(id) = &id.0 else { return };
    let (code, _) = reason::v1(reason);
    print(out, format_args!(r#"{{"id":{id},"result":null,"error":[{code},"#));
    quoted(out, text);
    out.extend(b",null]}\n");
}

/// The answer to `mining.subscribe`. `extranonce2_size` in bytes.
pub fn subscribed(
    out: &mut Vec<u8>,
    id: &Id<'_>,
    session: &str,
    extranonce1: &[u8],
    extranonce2_size: usize,
) {
    reply(out, id, |out| {
        out.extend(br#"[[["mining.set_difficulty","#);
        quoted(out, session);
        out.extend(br#"],["mining.notify","#);
        quoted(out, session);
        out.extend(br#"]],""#);
        hex(out, extranonce1);
        print(out, format_args!(r#"",{extranonce2_size}]"#));
    });
}

/// The answer to `mining.configure`.
pub fn configured(out: &mut Vec<u8>, id: &Id<'_>, configured: &Configured<'_>) {
    let &Configured { wanted, version_mask } = configured;
    reply(out, id, |out| {
        out.push(b'{');
        if wanted.version_rolling.is_some() {
            member(out, "version-rolling", version_mask != 0);
            if version_mask != 0 {
                print(out, format_args!(r#""version-rolling.mask":"{version_mask:08x}","#));
            }
        }
        if let Some(difficulty) = wanted.minimum_difficulty {
            member(out, "minimum-difficulty", difficulty.is_some());
        }
        if wanted.subscribe_extranonce {
            member(out, "subscribe-extranonce", true);
        }
        if wanted.info {
            member(out, "info", true);
        }
        for name in &wanted.unknown {
            member(out, name, false);
        }
        out.pop_if(|last| *last == b',');
        out.push(b'}');
    });
}

/// The answer to `mining.ping`.
pub fn pong(out: &mut Vec<u8>, id: &Id<'_>) {
    reply(out, id, |out| out.extend(br#""pong""#));
}

/// The difficulty of the jobs that follow, without exponent, integers without fraction.
pub fn set_difficulty(out: &mut Vec<u8>, difficulty: Difficulty) {
    print(
        out,
        format_args!("{{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[{difficulty}]}}\n"),
    );
}

/// The version bits that the miner may change from now on.
pub fn set_version_mask(out: &mut Vec<u8>, mask: u32) {
    print(
        out,
        format_args!("{{\"id\":null,\"method\":\"mining.set_version_mask\",\"params\":[\"{mask:08x}\"]}}\n"),
    );
}

/// The extranonce of the jobs that follow, for those who asked to be told. `extranonce2_size` in bytes.
pub fn set_extranonce(out: &mut Vec<u8>, extranonce1: &[u8], extranonce2_size: usize) {
    out.extend(br#"{"id":null,"method":"mining.set_extranonce","params":[""#);
    hex(out, extranonce1);
    print(out, format_args!("\",{extranonce2_size}]}}\n"));
}

/// Success always says `"error":null`: there are clients that insist on it, and others for which anything but null
/// is a failure.
fn reply(out: &mut Vec<u8>, id: &Id<'_>, result: impl FnOnce(&mut Vec<u8>)) {
    let Some(id) = &id.0 else { return };
    out.extend(b"{\"id\":");
    out.extend(id.as_bytes());
    out.extend(b",\"result\":");
    result(out);
    out.extend(b",\"error\":null}\n");
}

/// A member of an object, with a comma behind it.
fn member(out: &mut Vec<u8>, name: &str, yes: bool) {
    quoted(out, name);
    print(out, format_args!(":{yes},"));
}

fn print(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes all bytes");
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes all bytes, and JSON all text");
}

/// Lower case, in the order of `bytes`.
pub(super) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]));
}

#[cfg(test)]
mod tests;
