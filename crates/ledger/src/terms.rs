//! Under which terms what was mined: kept in the database, since records of before a restart are drained after it.
//!
//! Terms change with a restart only, and each start opens the spool anew. So the opening that a segment belongs to says
//! under which terms its records were written, and a record need not say it. A found block does, since it may be put into
//! the spool by a later start than the one that mined it.

use std::collections::{BTreeMap, HashMap};

use sqlx::{AnyConnection, Row};

use crate::{LedgerError, Scheme, Terms};

/// Terms as the database numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub id: i64,
    pub scheme: Scheme,
    pub fee_ppm: u32,
}

/// All terms that there have been, and which opening of one spool had which.
#[derive(Debug, Default)]
pub(crate) struct History {
    known: HashMap<i64, Known>,
    openings: BTreeMap<u64, i64>,
}

impl History {
    pub async fn load(connection: &mut AnyConnection, spool: [u8; 16]) -> Result<Self, LedgerError> {
        let failed = LedgerError::database("read the terms");
        let mut history = Self::default();
        for row in sqlx::query("SELECT id, scheme, factor, fee_ppm FROM terms")
            .fetch_all(&mut *connection)
            .await
            .map_err(&failed)?
        {
            let id: i64 = row.try_get("id").map_err(&failed)?;
            let name: String = row.try_get("scheme").map_err(&failed)?;
            let small = |name: &str| {
                let value: i64 = row.try_get(name).map_err(&failed)?;
                u32::try_from(value)
                    .map_err(|_| LedgerError::Unsound(format!("{name} of terms {id} is {value}")))
            };
            let scheme = Scheme::parse(&name, small("factor")?)
                .ok_or_else(|| LedgerError::Unsound(format!("terms {id} have the scheme {name:?}")))?;
            history.known.insert(id, Known { id, scheme, fee_ppm: small("fee_ppm")? });
        }
        let sql = "SELECT epoch, terms_id FROM opening WHERE spool = $1";
        for row in sqlx::query(sql).bind(spool.to_vec()).fetch_all(connection).await.map_err(&failed)? {
            let epoch: i64 = row.try_get("epoch").map_err(&failed)?;
            let epoch = u64::try_from(epoch).unwrap_or(0);
            history.openings.insert(epoch, row.try_get("terms_id").map_err(&failed)?);
        }
        Ok(history)
    }

    /// The terms with this number.
    pub fn get(&self, id: i64) -> Option<Known> {
        self.known.get(&id).copied()
    }

    /// What opening `epoch` of the spool was under. One that never got as far as to open the ledger has the terms of the
    /// next.
    pub fn of(&self, epoch: u64) -> Result<Known, LedgerError> {
        let id = self.openings.range(epoch..).next().or_else(|| self.openings.last_key_value());
        id.and_then(|(_, id)| self.get(*id))
            .ok_or_else(|| LedgerError::Unsound(format!("opening {epoch} of the spool has no terms")))
    }

    /// The longest window that any terms have had, in expected blocks.
    pub fn longest(&self) -> u32 {
        self.known.values().map(|known| known.scheme.factor()).max().unwrap_or(0)
    }
}

/// Enters `terms` as those of this opening of the spool, and gives their number. What no terms are known of, of before
/// there was this table, gets them too.
pub(crate) async fn enter(
    connection: &mut AnyConnection,
    terms: &Terms,
    spool: [u8; 16],
    epoch: u64,
) -> Result<i64, LedgerError> {
    let failed = LedgerError::database("enter the terms");
    let (name, factor, ppm) =
        (terms.scheme.name(), i64::from(terms.scheme.factor()), i64::from(terms.fee_ppm));
    let sql = "INSERT INTO terms (id, scheme, factor, fee_ppm) \
               SELECT COALESCE((SELECT MAX(id) FROM terms), 0) + 1, $1, $2, $3 \
               WHERE NOT EXISTS (SELECT 1 FROM terms WHERE scheme = $1 AND factor = $2 AND fee_ppm = $3)";
    let query = sqlx::query(sql).bind(name).bind(factor).bind(ppm);
    query.execute(&mut *connection).await.map_err(&failed)?;
    let sql = "SELECT id FROM terms WHERE scheme = $1 AND factor = $2 AND fee_ppm = $3";
    let row = sqlx::query(sql).bind(name).bind(factor).bind(ppm).fetch_one(&mut *connection).await;
    let id: i64 = row.and_then(|row| row.try_get("id")).map_err(&failed)?;
    let sql = "INSERT INTO opening (spool, epoch, terms_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql).bind(spool.to_vec()).bind(i64::try_from(epoch).unwrap_or(0)).bind(id);
    let entered = query.execute(&mut *connection).await.map_err(&failed)?.rows_affected();
    if entered == 0 {
        let sql = "SELECT terms_id FROM opening WHERE spool = $1 AND epoch = $2";
        let query = sqlx::query(sql).bind(spool.to_vec()).bind(i64::try_from(epoch).unwrap_or(0));
        let row = query.fetch_one(&mut *connection).await;
        let before: i64 = row.and_then(|row| row.try_get("terms_id")).map_err(&failed)?;
        if before != id {
            return Err(LedgerError::OtherTerms);
        }
    }
    let sql = "UPDATE slot SET terms_id = $1 WHERE terms_id IS NULL";
    sqlx::query(sql).bind(id).execute(connection).await.map_err(&failed)?;
    Ok(id)
}
