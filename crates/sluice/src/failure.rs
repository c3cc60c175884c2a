//! Why the program ends: one line for a person, and an exit status for a script.

use std::{fmt, process::ExitCode};

/// What was asked for makes no sense (EX_USAGE of sysexits.h).
pub const USAGE: u8 = 64;
/// What was checked is wrong.
pub const FINDING: u8 = 1;
/// Something that is needed is not to be had (EX_UNAVAILABLE).
pub const UNAVAILABLE: u8 = 69;

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
    /// One line, whatever was in the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.message.lines().map(str::trim).filter(|line| !line.is_empty());
        f.write_str(lines.next().unwrap_or("failed"))?;
        lines.try_for_each(|line| write!(f, " {line}"))
    }
}

impl std::error::Error for Failure {}
