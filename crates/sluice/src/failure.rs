//! Why the program ends: one line for a person, and an exit status for a script.

use std::{
    fmt::{self, Write as _},
    process::ExitCode,
};

/// What was asked for makes no sense (EX_USAGE of sysexits.h).
pub const USAGE: u8 = 64;
/// What was checked is wrong.
pub const FINDING: u8 = 1;
/// Something that is needed is not to be had (EX_UNAVAILABLE).
pub const UNAVAILABLE: u8 = 69;

/// The longest message, in characters.
const MOST: usize = 4_000;

/// Why the program ends: what is wrong, where, and what to do.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The configuration or the command line is wrong.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { code: USAGE, message: message.to_string() }
    }

    /// A node, a database, a port, a file is not to be had.
    pub fn unavailable(message: impl fmt::Display) -> Self {
        Self { code: UNAVAILABLE, message: message.to_string() }
    }

    /// What was checked is wrong.
    pub fn finding(message: impl fmt::Display) -> Self {
        Self { code: FINDING, message: message.to_string() }
    }

    /// The exit status.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    /// One line, whatever was in the message: it may have words of a file that somebody else has made.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.message.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or("failed");
        let all = std::iter::once(first).chain(lines.flat_map(|line| [" ", line]));
        let mut plain = all.flat_map(str::chars).filter(|char| !char.is_control());
        plain.by_ref().take(MOST).try_for_each(|char| f.write_char(char))?;
        if plain.next().is_some() { f.write_str(" [...]") } else { Ok(()) }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_whatever_was_said() {
        let check = |message: &str, expect: &str| {
            assert_eq!(Failure::finding(message).to_string(), expect, "{message:?}")
        };
        check("a\n  b\r\n\nc", "a b c");
        check("", "failed");
        check("\u{1b}[31mred\u{7}", "[31mred");
        check(&"x".repeat(4_000), &"x".repeat(4_000));
        check(&"x".repeat(5_000), &format!("{} [...]", "x".repeat(4_000)));
    }
}
