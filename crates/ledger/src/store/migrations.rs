//! The tables, as the files in `migrations/` make them. A file never changes once it has been released.

use sqlx::{
    AnyConnection, Row, SqlSafeStr,
    any::AnyRow,
    error::DatabaseError,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::Dialect;

type File = (i64, &'static str, &'static str);

macro_rules! files {
    ($dialect:literal: $($version:literal $name:literal),*) => {
        &[$((
            $version,
            $name,
            include_str!(concat!("../../../../migrations/", $dialect, "/000", $version, "_", $name, ".sql")),
        )),*]
    };
}

const POSTGRES: &[File] = files!("postgres": 1 "ledger", 2 "kinds", 3 "schemes", 4 "audit", 5 "payout", 6 "growth", 7 "operator", 8 "paths", 9 "kept");
const SQLITE: &[File] =
    files!("sqlite": 1 "ledger", 2 "kinds", 3 "schemes", 4 "audit", 5 "payout", 6 "growth", 7 "operator");

/// Runs what has not been run yet, up to `version`; refuses a database that has been through other files than these.
pub(super) async fn run(
    dialect: Dialect,
    version: i64,
    connection: &mut AnyConnection,
) -> Result<(), MigrateError> {
    let files = files(dialect).iter().filter(|(of, ..)| *of <= version);
    let migration = |&(version, name, sql): &File| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let migrations: Vec<Migration> = files.map(migration).collect();
    if is_done(&migrations, connection).await {
        return Ok(());
    }
    Migrator::with_migrations(migrations).run_direct(None, connection, false).await
}

/// What is wrong with the tables, and what to do; nothing if they are those of this version.
pub(super) async fn fault(
    dialect: Dialect,
    connection: &mut AnyConnection,
) -> Result<Option<&'static str>, sqlx::Error> {
    let sql = "SELECT version FROM _sqlx_migrations WHERE success = true ORDER BY version";
    let rows = match sqlx::query(sql).fetch_all(&mut *connection).await {
        Ok(rows) => rows,
        Err(sqlx::Error::Database(error)) if is_missing(&*error) => {
            return Ok(Some(
                "no tables of the ledger yet: run sluice migrate, as the role that is to own them (sluice run does it too, \
                 where its role may make tables)",
            ));
        }
        Err(error) => return Err(error),
    };
    let run = rows.iter().map(|row| row.try_get("version")).collect::<Result<Vec<i64>, _>>()?;
    let own: Vec<i64> = files(dialect).iter().map(|(version, ..)| *version).collect();
    Ok(if own == run {
        None
    } else if own.starts_with(&run) {
        Some(
            "tables of an older version: stop the pool, run sluice migrate as their owner, and in Postgres \
             docker/postgres-roles.sql again, if you use it",
        )
    } else {
        Some("tables of another version than this program, a newer one maybe: use the program that made them")
    })
}

/// Whether there is no such table.
fn is_missing(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| code == "42P01") || error.message().contains("no such table")
}

/// Whether all of them have been run, and no others: then nothing is to be created, and a role that may not will do.
async fn is_done(migrations: &[Migration], connection: &mut AnyConnection) -> bool {
    let sql = "SELECT version, checksum FROM _sqlx_migrations WHERE success = true ORDER BY version";
    let Ok(rows) = sqlx::query(sql).fetch_all(connection).await else { return false };
    let is = |row: &AnyRow, migration: &Migration| {
        row.try_get("version").is_ok_and(|version: i64| version == migration.version)
            && row.try_get::<Vec<u8>, _>("checksum").is_ok_and(|sum| sum[..] == migration.checksum[..])
    };
    rows.len() == migrations.len() && rows.iter().zip(migrations).all(|(row, migration)| is(row, migration))
}

fn files(dialect: Dialect) -> &'static [File] {
    match dialect {
        Dialect::Postgres => POSTGRES,
        Dialect::Sqlite => SQLITE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_embedded() {
        for (dialect, dir) in [(Dialect::Postgres, "postgres"), (Dialect::Sqlite, "sqlite")] {
            let dir = format!("{}/../../migrations/{dir}", env!("CARGO_MANIFEST_DIR"));
            let mut found: Vec<String> = std::fs::read_dir(dir)
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
            found.sort();
            let expect: Vec<String> =
                files(dialect).iter().map(|(version, name, _)| format!("{version:04}_{name}.sql")).collect();
            assert_eq!(found, expect, "{dialect:?}");
        }
    }
}
