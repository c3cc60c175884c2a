//! What can go wrong with the ledger's database.

use std::path::PathBuf;

/// Why the ledger cannot be opened, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The address of the database is none.
    #[error(
        "{url:?} is not the address of a database ({reason}); use postgres://user@host/name or sqlite://path"
    )]
    Url {
        /// As given, without its password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there, or not to us.
    #[error(
        "the database {url} cannot be opened: {source}{}", opening(.source)
    )]
    Unreachable {
        /// Without its password.
        url: String,
        /// What came of it.
        source: sqlx::Error,
    },
    /// Another process writes to it.
    #[error("another process writes to the ledger in {url}; stop that one first")]
    Busy {
        /// Without its password.
        url: String,
    },
    /// The tables could not be brought up to this version.
    #[error("the tables in {url} cannot be migrated: {source}")]
    Migration {
        /// Without its password.
        url: String,
        /// What came of it.
        source: sqlx::migrate::MigrateError,
    },
    /// The tables are not those of this version, and nobody was to change them.
    #[error("the database {url} has {found}")]
    Tables {
        /// Without its password.
        url: String,
        /// What it has, and what to do.
        found: &'static str,
    },
    /// The database is of another chain.
    #[error("the ledger in {url} is of network {found}, not {expected}; use another database")]
    Network {
        /// Without its password.
        url: String,
        /// What it was made for.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// The spool is older than what the database has of it.
    #[error("the spool {} was put back to an older state: the ledger has read further; move the directory away and start with an empty one", .0.display())]
    SpoolBehind(PathBuf),
    /// The same opening of a spool was given to a ledger before, with other terms.
    #[error("the pool's terms have changed while its spool was open; open the spool anew for new terms")]
    OtherTerms,
    /// A query failed.
    #[error("the database failed to {doing}: {source}{}", advice(.source))]
    Database {
        /// What was tried.
        doing: &'static str,
        /// What came of it.
        source: sqlx::Error,
    },
    /// The database took too long.
    #[error("the database took longer than {seconds} s to {doing}")]
    Slow {
        /// What was tried.
        doing: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The spool cannot be read.
    #[error(transparent)]
    Spool(#[from] crate::SpoolError),
    /// The tables say what cannot be.
    #[error("the ledger is not sound: {0}")]
    Unsound(String),
}

/// What to do about an error of the database, where that is known.
fn advice(error: &sqlx::Error) -> &'static str {
    const MIGRATE: &str = "; its tables are not those of this version: run sluice migrate";
    const AWAY: &str = "; see that the database runs, and that ledger.url is right";
    let sqlx::Error::Database(error) = error else {
        let is_away =
            matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed);
        return if is_away { AWAY } else { "" };
    };
    let is_missing = ["no such table", "no such column", "has no column"];
    match error.code().as_deref() {
        Some("42P01" | "42703") => MIGRATE,
        Some("42501") => "; this role may not do that: docker/postgres-roles.sql has who may what",
        Some("55P03") => {
            "; another session of the database holds a lock that is needed: pg_stat_activity and pg_locks say which one, \
             pg_terminate_backend ends it"
        }
        Some("26") => "; ledger.url names a file that is none of SQLite",
        _ if is_missing.iter().any(|words| error.message().contains(words)) => MIGRATE,
        _ => "",
    }
}

/// The same where it could not even be opened.
fn opening(error: &sqlx::Error) -> &'static str {
    const USUAL: &str =
        "; see that it runs, that the name and password are right, and that this machine may connect";
    match advice(error) {
        known if !known.is_empty() && matches!(error, sqlx::Error::Database(_)) => known,
        _ => USUAL,
    }
}

impl LedgerError {
    /// For `map_err`: the query that was to do `doing` failed.
    pub(crate) fn database(doing: &'static str) -> impl Fn(sqlx::Error) -> LedgerError {
        move |source| LedgerError::Database { doing, source }
    }

    /// Whether the database is well and refuses what it was given: trying the same again is no use.
    pub(crate) fn is_refusal(&self) -> bool {
        let LedgerError::Database { source: sqlx::Error::Database(error), .. } = self else { return false };
        match error.code().as_deref() {
            // Postgres: data exception, integrity constraint, exception raised by a trigger.
            Some(code) if code.len() == 5 => ["22", "23", "P0"].iter().any(|class| code.starts_with(class)),
            // SQLite (extended codes; the primary one is the low byte): too big, constraint, mismatch.
            Some(code) => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18..=20)),
            None => false,
        }
    }
}
