//! Where Postgres and SQLite differ.

use std::{path::PathBuf, str::FromStr};

use serde::{Serialize, Serializer};
use share::Work;
use sqlx::{
    Row,
    any::{AnyConnectOptions, AnyRow},
};

use crate::LedgerError;

/// Which SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

/// The type of a column of a JSON table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column {
    Integer,
    Text,
    /// Beyond 64 bits: see [`Whole`].
    Work,
    /// See [`Hex`].
    Bytes,
}

/// A 128-bit number in a row of [`json`]: as text, since JSON's numbers are too short.
#[derive(Clone, Copy)]
pub(crate) struct Whole(pub Work);

/// Bytes in a row of [`json`].
pub(crate) struct Hex<'a>(pub &'a [u8]);

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(self.0))
    }
}

/// Rows (tuples) as a JSON array of arrays: one parameter, however many rows there are.
pub(crate) fn json<T: Serialize>(rows: &[T]) -> String {
    // Tuples of numbers and strings always have a JSON form.
    serde_json::to_string(rows).unwrap_or_default()
}

/// A column that was selected as `CAST(… AS TEXT)`.
pub(crate) fn work(row: &AnyRow, index: &str) -> Result<Work, LedgerError> {
    let text: String = row.try_get(index).map_err(LedgerError::database("read a number"))?;
    text.parse().map_err(|_| LedgerError::Unsound(format!("{index} is {text:?}, not a whole number")))
}

impl Dialect {
    /// A table expression over the JSON array in `$1`.
    pub fn table(self, columns: &[(&str, Column)]) -> String {
        let column = |(index, (name, kind)): (usize, &(&str, Column))| match (self, kind) {
            (Self::Postgres, Column::Integer) => format!("(value->>{index})::bigint AS {name}"),
            (Self::Postgres, Column::Text) => format!("value->>{index} AS {name}"),
            (Self::Postgres, Column::Work) => format!("(value->>{index})::numeric AS {name}"),
            (Self::Postgres, Column::Bytes) => format!("decode(value->>{index}, 'hex') AS {name}"),
            (Self::Sqlite, Column::Bytes) => format!("unhex(json_extract(value, '$[{index}]')) AS {name}"),
            (Self::Sqlite, _) => format!("json_extract(value, '$[{index}]') AS {name}"),
        };
        let columns: Vec<String> = columns.iter().enumerate().map(column).collect();
        let from = match self {
            Self::Postgres => "json_array_elements($1::json) AS elements(value)",
            Self::Sqlite => "json_each($1)",
        };
        format!("(SELECT {} FROM {from})", columns.join(", "))
    }

    /// Begins a transaction that writes.
    pub fn begin(self) -> &'static str {
        match self {
            Self::Postgres => "BEGIN",
            Self::Sqlite => "BEGIN IMMEDIATE",
        }
    }

    /// Begins a transaction that reads one state of the database.
    pub fn snapshot(self) -> &'static str {
        match self {
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Self::Sqlite => "BEGIN",
        }
    }

    /// What a connection that writes starts with. A server that hears nothing from us lets the lock go; what somebody else
    /// has locked is not waited for in silence, but said, and tried again.
    pub fn writing(self) -> &'static str {
        match self {
            Self::Postgres => {
                "SET application_name = 'sluice ledger'; SET statement_timeout = '60s'; SET lock_timeout = '5s'; \
                 SET idle_in_transaction_session_timeout = '60s'; SET tcp_keepalives_idle = 10; \
                 SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = '25s'"
            }
            Self::Sqlite => {
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA recursive_triggers = ON; PRAGMA busy_timeout = 10000"
            }
        }
    }

    /// What a connection that reads starts with.
    pub fn reading(self) -> &'static str {
        match self {
            Self::Postgres => {
                "SET application_name = 'sluice reader'; SET statement_timeout = '30s'; \
                 SET default_transaction_read_only = on"
            }
            Self::Sqlite => "PRAGMA query_only = ON; PRAGMA busy_timeout = 10000",
        }
    }

    /// How many connections read.
    pub fn readers(self) -> u32 {
        match self {
            Self::Postgres => 8,
            Self::Sqlite => 4,
        }
    }
}

/// Where the database is.
pub(crate) struct Address {
    pub dialect: Dialect,
    /// For logs and messages: without a password.
    pub shown: String,
    /// The file, if it is one.
    pub path: Option<PathBuf>,
    url: String,
}

impl Address {
    pub fn parse(url: &str) -> Result<Self, LedgerError> {
        let wrong = |reason: &str| LedgerError::Url { url: shown(url), reason: reason.to_owned() };
        match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => {
                Ok(Self { dialect: Dialect::Postgres, shown: shown(url), path: None, url: url.to_owned() })
            }
            Some(("sqlite", path)) => {
                if path.is_empty() || path.contains(['?', '#']) || path == ":memory:" {
                    return Err(wrong("the path of a file is missing, or has ? or # in it"));
                }
                // The path is taken as it stands: % would be decoded on the way.
                let url = format!("sqlite://{}?mode=rwc", path.replace('%', "%25"));
                Ok(Self { dialect: Dialect::Sqlite, shown: shown(&url), path: Some(path.into()), url })
            }
            Some((scheme, _)) => Err(wrong(&format!("{scheme} is not supported"))),
            None => Err(wrong("there is no :// in it")),
        }
    }

    pub fn options(&self) -> Result<AnyConnectOptions, LedgerError> {
        AnyConnectOptions::from_str(&self.url)
            .map_err(|error| LedgerError::Url { url: self.shown.clone(), reason: error.to_string() })
    }
}

/// The address without the password, wherever it stands, and without our own additions.
fn shown(url: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let address = match address.split_once("://") {
        // A path may hold an @. Else at the last one, since a password may hold some too.
        Some((scheme, rest)) if scheme != "sqlite" => match rest.rsplit_once('@') {
            Some((user, host)) => format!("{scheme}://{}@{host}", user.split(':').next().unwrap_or_default()),
            None => address.to_owned(),
        },
        _ => address.to_owned(),
    };
    let kept = query.split('&').filter(|pair| pair.starts_with("host="));
    kept.fold(address, |address, pair| format!("{address}?{pair}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let check = |url: &str, expect: &str| assert_eq!(shown(url), expect);
        check("postgres://pool:secret@db.example/sluice", "postgres://pool@db.example/sluice");
        check(
            "postgres://pool:se@cr/et@db/sluice?password=x&host=/run",
            "postgres://pool@db/sluice?host=/run",
        );
        check("postgres://pool@db:5432/sluice", "postgres://pool@db:5432/sluice");
        check(
            "postgres:///sluice?host=/run/postgresql&password=secret",
            "postgres:///sluice?host=/run/postgresql",
        );
        check("sqlite://dir@x/a.db?mode=rwc", "sqlite://dir@x/a.db");
        check("mysql://pool:secret@db/sluice", "mysql://pool@db/sluice");
        check("nonsense", "nonsense");
    }

    #[test]
    fn addresses() {
        let check = |url: &str, expect: Option<Dialect>| match Address::parse(url) {
            Ok(address) => {
                assert_eq!(Some(address.dialect), expect, "{url}");
                assert!(address.options().is_ok(), "{url}");
            }
            Err(error) => {
                assert_eq!(None, expect, "{error}");
                assert!(
                    error.to_string().contains("use postgres://user@host/name or sqlite://path"),
                    "{error}"
                );
            }
        };
        check("postgres://user@host/db", Some(Dialect::Postgres));
        check("postgresql://user:p@host:5433/db", Some(Dialect::Postgres));
        check("sqlite://sluice.db", Some(Dialect::Sqlite));
        check("sqlite:///var/lib/sluice 1%/a.db", Some(Dialect::Sqlite));
        check("sqlite://", None);
        check("sqlite://a.db?mode=memory", None);
        check("sqlite://:memory:", None);
        check("mysql://host/db", None);
        check("sluice.db", None);
        check("", None);
    }
}
