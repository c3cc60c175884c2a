//! Where the operator asks, and is answered, while the pool runs: without the right to write that the pool has.

use std::time::Duration;

use sqlx::{Any, AnyConnection, Row, any::AnyArguments, query::Query};
use tokio::time::Instant;

use super::{
    PayError, Payout, PayoutFigures,
    answers::{figures, payouts},
    now_ms,
    rows::failed,
};
use crate::{LedgerError, accounts::miner_id, store::Store};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// Plan a batch now.
    Run,
    /// A higher fee for a batch.
    Bump,
    /// Give a batch up.
    Return,
    /// Take a signature.
    Import,
}

impl OrderKind {
    /// As in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Bump => "bump",
            Self::Return => "return",
            Self::Import => "import",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Run, Self::Bump, Self::Return, Self::Import].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A look at the payments of a ledger that another process works on, and a way to ask that process for something. What is
/// asked of the books themselves is in [`crate::Movement`].
pub struct Desk(Store);

impl Desk {
    /// Connects to the database at `url`, whose tables must be there.
    pub async fn open(url: &str) -> Result<Self, LedgerError> {
        Ok(Self(Store::beside(url).await?))
    }

    /// The newest batches, newest first, and how things stand.
    pub async fn list(&self, limit: u32) -> Result<(PayoutFigures, Vec<Payout>), LedgerError> {
        let mut snapshot = self.0.snapshot().await?;
        Ok((figures(&mut snapshot).await?, payouts(&mut snapshot, limit, 0).await?))
    }

    /// Asks for something, and waits for what comes of it; nothing if nobody takes it up in time. It is done then when a
    /// pool runs.
    pub async fn order(
        &self,
        kind: OrderKind,
        argument: &str,
        patience: Duration,
    ) -> Result<Option<String>, LedgerError> {
        let sql = "INSERT INTO payout_order (kind, argument, asked_ms) VALUES ($1, $2, $3) RETURNING id";
        let asked = sqlx::query(sql).bind(kind.as_str()).bind(argument.to_owned()).bind(now_ms());
        let answer = "SELECT outcome FROM payout_order WHERE id = $1 AND outcome IS NOT NULL";
        self.ask(asked, answer, patience).await
    }

    /// Writes an order by `asked`, which returns its number, and looks with `answer` for what came of it, again and again
    /// until `patience` is over.
    pub(crate) async fn ask(
        &self,
        asked: Query<'_, Any, AnyArguments>,
        answer: &'static str,
        patience: Duration,
    ) -> Result<Option<String>, LedgerError> {
        let failed = LedgerError::database("ask the pool for something");
        let mut raw = self.0.plain().await?;
        let row = asked.fetch_one(&mut raw).await.map_err(&failed)?;
        let id: i64 = row.try_get("id").map_err(&failed)?;
        let begun = Instant::now();
        while begun.elapsed() < patience {
            let row = sqlx::query(answer).bind(id).fetch_optional(&mut raw).await.map_err(&failed)?;
            if let Some(row) = row {
                return Ok(Some(row.try_get("outcome").map_err(&failed)?));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(None)
    }

    /// From which balance on the miner with this (canonical) address is paid, satoshi; nothing: from the pool's own
    /// threshold on. The outer `None` if nobody knows the address.
    pub async fn threshold(&self, address: &str) -> Result<Option<Option<u64>>, LedgerError> {
        let mut snapshot = self.0.snapshot().await?;
        let Some(id) = miner_id(&mut snapshot, address).await? else { return Ok(None) };
        threshold(&mut snapshot, id).await.map(Some)
    }

    /// Sets that: the pool's own threshold counts again where `sats` is nothing. It counts from the next batch on that is
    /// planned. False if nobody knows the address.
    pub async fn set_threshold(&self, address: &str, sats: Option<u64>) -> Result<bool, LedgerError> {
        let mut snapshot = self.0.snapshot().await?;
        let Some(id) = miner_id(&mut snapshot, address).await? else { return Ok(false) };
        drop(snapshot);
        let mut raw = self.0.plain().await?;
        let query = match sats {
            Some(sats) => sqlx::query(
                "INSERT INTO payout_threshold (miner_id, sats, set_ms) VALUES ($1, $2, $3) \
                 ON CONFLICT (miner_id) DO UPDATE SET sats = excluded.sats, set_ms = excluded.set_ms",
            )
            .bind(id)
            .bind(i64::try_from(sats.max(1)).unwrap_or(i64::MAX / 1000).min(i64::MAX / 1000))
            .bind(now_ms()),
            None => sqlx::query("DELETE FROM payout_threshold WHERE miner_id = $1").bind(id),
        };
        query.execute(&mut raw).await.map_err(LedgerError::database("set a threshold"))?;
        Ok(true)
    }

    /// The newest transaction of a batch without signatures, as a PSBT in base64.
    pub async fn psbt(&self, batch: i64) -> Result<String, PayError> {
        let mut snapshot = self.0.snapshot().await?;
        let sql = "SELECT psbt FROM payout_tx WHERE payout_id = $1 ORDER BY version DESC LIMIT 1";
        let row = sqlx::query(sql).bind(batch).fetch_optional(&mut *snapshot).await.map_err(failed)?;
        let row = row
            .ok_or_else(|| PayError::Refused(format!("there is no batch {batch}: see sluice payout list")))?;
        Ok(row.try_get("psbt").map_err(failed)?)
    }
}

/// The threshold that a miner has for itself, satoshi.
pub(crate) async fn threshold(
    connection: &mut AnyConnection,
    miner: i64,
) -> Result<Option<u64>, LedgerError> {
    let failed = LedgerError::database("read a threshold");
    let query = sqlx::query("SELECT sats FROM payout_threshold WHERE miner_id = $1").bind(miner);
    let Some(row) = query.fetch_optional(connection).await.map_err(&failed)? else { return Ok(None) };
    let sats: i64 = row.try_get("sats").map_err(&failed)?;
    Ok(u64::try_from(sats).ok())
}
