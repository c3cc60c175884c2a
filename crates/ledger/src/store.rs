//! The database: Postgres or SQLite behind one set of queries.
//!
//! Writing goes over one session at a time. In Postgres that session holds an advisory lock, so that whoever writes
//! knows that nobody else does, and a lost connection is a lost lock; in SQLite a lock file beside the database does
//! the same. Reading has connections of its own.

use std::{
    fs::{File, TryLockError},
    sync::Once,
    time::Duration,
};

use sqlx::{
    Any, AnyConnection, AnyPool, AssertSqlSafe, Connection, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions, AnyRow},
};
use tokio::sync::{Mutex, MutexGuard};

use crate::LedgerError;

mod dialect;
mod migrations;

pub(crate) use dialect::{Column, Dialect, Hex, Whole, json, work};

use dialect::Address;

/// An open database.
pub(crate) struct Store {
    address: Address,
    options: AnyConnectOptions,
    readers: AnyPool,
    session: Mutex<Session>,
    _lock: Option<File>,
}

#[derive(Default)]
struct Session {
    connection: Option<AnyConnection>,
    generation: u64,
}

/// The right to write, for as long as it lives.
pub(crate) struct Writer<'a> {
    session: MutexGuard<'a, Session>,
    dialect: Dialect,
}

/// Any number; what counts is that nobody else who uses this database uses it.
const ADVISORY_LOCK: i64 = 0x536c_7569_6365;
/// A process that was killed leaves its session, and the lock, to the server for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

impl Store {
    /// Opens the database at `url`, takes the right to write and brings the tables up to this version.
    pub async fn open(url: &str) -> Result<Self, LedgerError> {
        Self::open_at(url, i64::MAX).await
    }

    /// [`Self::open`] with the tables of `version`, if that is older.
    pub async fn open_at(url: &str, version: i64) -> Result<Self, LedgerError> {
        install_drivers();
        let address = Address::parse(url)?;
        let options = address.options()?;
        let lock = address.lock()?;
        let store = Self::at(address, options, lock);
        let dialect = store.dialect();
        let begun = tokio::time::Instant::now();
        loop {
            match store.writer().await {
                Err(LedgerError::Busy { .. }) if begun.elapsed() < LOCK_PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error),
                Ok(mut writer) => {
                    let migrated = migrations::run(dialect, version, writer.connection()?).await;
                    migrated.map_err(|source| LedgerError::Migration { url: store.url(), source })?;
                    break;
                }
            }
        }
        Ok(store)
    }

    /// The database at `url` to read only: nothing is locked, migrated or written, and a role that may only read will do.
    pub fn open_to_read(url: &str) -> Result<Self, LedgerError> {
        install_drivers();
        let address = Address::parse(url)?;
        if let Some(path) = &address.path {
            // It would be made, empty.
            let missing = |source| LedgerError::Unreachable {
                url: address.shown.clone(),
                source: sqlx::Error::Io(source),
            };
            std::fs::metadata(path).map_err(missing)?;
        }
        let options = address.options()?;
        Ok(Self::at(address, options, None))
    }

    /// Finds what is wrong with the tables at `url`, and changes nothing. An SQLite file that there is not is in order: it is
    /// made when it is needed.
    pub async fn check(url: &str) -> Result<(), LedgerError> {
        install_drivers();
        let address = Address::parse(url)?;
        if address.path.as_ref().is_some_and(|path| !path.exists()) {
            return Ok(());
        }
        let unreachable = |source| LedgerError::Unreachable { url: address.shown.clone(), source };
        let look = async {
            let mut connection =
                AnyConnection::connect_with(&address.options()?).await.map_err(unreachable)?;
            let reading = address.dialect.reading();
            sqlx::raw_sql(reading).execute(&mut connection).await.map_err(unreachable)?;
            let fault = migrations::fault(address.dialect, &mut connection).await;
            fault.map_err(LedgerError::database("read which tables there are"))
        };
        let fault =
            tokio::time::timeout(CONNECT, look).await.unwrap_or_else(|_| Err(slow("connect", CONNECT)))?;
        fault.map_or(Ok(()), |found| Err(LedgerError::Tables { url: address.shown.clone(), found }))
    }

    /// The database at `url` for a process that does not have the right to write which [`Self::open`] takes: its tables
    /// must be there.
    pub async fn beside(url: &str) -> Result<Self, LedgerError> {
        let store = Self::open_to_read(url)?;
        store.snapshot().await?;
        Ok(store)
    }

    /// A connection that may write, beside whoever works on the ledger: for what is nobody else's.
    pub async fn plain(&self) -> Result<AnyConnection, LedgerError> {
        let unreachable = |source| LedgerError::Unreachable { url: self.url(), source };
        let mut connection = AnyConnection::connect_with(&self.options).await.map_err(unreachable)?;
        sqlx::raw_sql(self.dialect().writing()).execute(&mut connection).await.map_err(unreachable)?;
        Ok(connection)
    }

    fn at(address: Address, options: AnyConnectOptions, lock: Option<File>) -> Self {
        let readers = readers(address.dialect, options.clone());
        Self { address, options, readers, session: Mutex::default(), _lock: lock }
    }

    /// Where it is, without the password.
    pub fn url(&self) -> String {
        self.address.shown.clone()
    }

    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        self.address.dialect
    }

    /// Waits for its turn, and connects if there is no connection.
    pub async fn writer(&self) -> Result<Writer<'_>, LedgerError> {
        let mut session = self.session.lock().await;
        if session.connection.is_none() {
            let connected = tokio::time::timeout(CONNECT, self.connect()).await;
            session.connection = Some(connected.unwrap_or_else(|_| Err(slow("connect", CONNECT)))?);
            session.generation += 1;
        }
        Ok(Writer { session, dialect: self.dialect() })
    }

    async fn connect(&self) -> Result<AnyConnection, LedgerError> {
        let unreachable = |source| LedgerError::Unreachable { url: self.url(), source };
        let mut connection = AnyConnection::connect_with(&self.options).await.map_err(unreachable)?;
        sqlx::raw_sql(self.dialect().writing()).execute(&mut connection).await.map_err(unreachable)?;
        if self.dialect() == Dialect::Postgres {
            let lock = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(ADVISORY_LOCK);
            if !lock.fetch_one(&mut connection).await.map_err(unreachable)? {
                return Err(LedgerError::Busy { url: self.url() });
            }
        }
        Ok(connection)
    }

    /// A snapshot for who reads all slots: none of them is dropped before it ends. In Postgres a dropped table is gone for
    /// older snapshots too.
    pub async fn whole_snapshot(&self) -> Result<Transaction<'static, Any>, LedgerError> {
        let mut snapshot = self.snapshot().await?;
        if self.dialect() == Dialect::Postgres {
            let hold = "LOCK TABLE slot_work, slot_miner, slot_rate IN ACCESS SHARE MODE";
            let held = sqlx::query(hold).execute(&mut *snapshot).await;
            held.map_err(LedgerError::database("begin to read all slots"))?;
        }
        Ok(snapshot)
    }

    /// A transaction that sees the database as it is now, and cannot write.
    pub async fn snapshot(&self) -> Result<Transaction<'static, Any>, LedgerError> {
        let failed = LedgerError::database("begin to read");
        self.readers.begin_with(self.dialect().snapshot()).await.map_err(failed)
    }

    /// Where a question of one statement is asked: it sees one state of the database by itself, and three messages to the
    /// database are one.
    pub fn reader(&self) -> &AnyPool {
        &self.readers
    }
}

fn readers(dialect: Dialect, options: AnyConnectOptions) -> AnyPool {
    AnyPoolOptions::new()
        .max_connections(dialect.readers())
        .acquire_timeout(CONNECT)
        // A file does not go away as a server does.
        .test_before_acquire(dialect != Dialect::Sqlite)
        .after_connect(move |connection, _| {
            Box::pin(async move { sqlx::raw_sql(dialect.reading()).execute(connection).await.map(drop) })
        })
        .connect_lazy_with(options)
}

impl Writer<'_> {
    /// Changes with every new connection. Who keeps in memory what is in the database must read it anew then: another
    /// process may have written meanwhile.
    pub fn generation(&self) -> u64 {
        self.session.generation
    }

    /// Begins a transaction.
    pub async fn begin(&mut self) -> Result<Transaction<'_, Any>, LedgerError> {
        let statement = self.dialect.begin();
        self.connection()?.begin_with(statement).await.map_err(LedgerError::database("begin a transaction"))
    }

    /// Gives the connection up after an error: what state it is in, nobody knows.
    pub fn abandon(mut self) {
        self.session.connection = None;
    }

    fn connection(&mut self) -> Result<&mut AnyConnection, LedgerError> {
        let lost = || LedgerError::Database { doing: "connect", source: sqlx::Error::PoolClosed };
        self.session.connection.as_mut().ok_or_else(lost)
    }
}

/// Runs one statement that takes its rows from a JSON array as `$1`; further parameters are integers.
pub(crate) async fn write(
    connection: &mut AnyConnection,
    doing: &'static str,
    sql: String,
    rows: String,
    parameters: &[i64],
) -> Result<u64, LedgerError> {
    let query = sqlx::query(AssertSqlSafe(sql)).bind(rows);
    let query = parameters.iter().fold(query, |query, parameter| query.bind(*parameter));
    let done = query.execute(connection).await.map_err(LedgerError::database(doing))?;
    Ok(done.rows_affected())
}

/// The one row that there is.
pub(crate) async fn one(
    connection: &mut AnyConnection,
    doing: &'static str,
    sql: &'static str,
) -> Result<AnyRow, LedgerError> {
    sqlx::query(sql).fetch_one(connection).await.map_err(LedgerError::database(doing))
}

fn install_drivers() {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);
}

/// What took longer than it may.
pub(crate) fn slow(doing: &'static str, limit: Duration) -> LedgerError {
    LedgerError::Slow { doing, seconds: limit.as_secs() }
}

impl Address {
    /// SQLite has no session that could hold a lock, so a file does.
    fn lock(&self) -> Result<Option<File>, LedgerError> {
        let Some(path) = &self.path else { return Ok(None) };
        let mut name = path.clone().into_os_string();
        name.push(".lock");
        let unreachable =
            |source| LedgerError::Unreachable { url: self.shown.clone(), source: sqlx::Error::Io(source) };
        let lock = File::create(name).map_err(unreachable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Err(LedgerError::Busy { url: self.shown.clone() }),
            Err(TryLockError::Error(error)) => Err(unreachable(error)),
        }
    }
}
