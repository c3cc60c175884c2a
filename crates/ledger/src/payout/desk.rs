//! Where the operator asks, and is answered, while the pool runs: without the right to write that the pool has.

use std::time::Duration;

use sqlx::Row;
use tokio::time::Instant;

use super::{
    PayError, Payout, PayoutFigures,
    answers::{figures, payouts},
    now_ms,
    rows::failed,
};
use crate::{LedgerError, store::Store};

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

/// A look at the payments of a ledger that another process works on, and a way to ask that process for something.
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
        let mut raw = self.0.plain().await?;
        let sql = "INSERT INTO payout_order (kind, argument, asked_ms) VALUES ($1, $2, $3) RETURNING id";
        let row = sqlx::query(sql)
            .bind(kind.as_str())
            .bind(argument.to_owned())
            .bind(now_ms())
            .fetch_one(&mut raw)
            .await
            .map_err(LedgerError::database("ask for a payout"))?;
        let id: i64 = row.try_get("id").map_err(failed)?;
        let begun = Instant::now();
        while begun.elapsed() < patience {
            let sql = "SELECT outcome FROM payout_order WHERE id = $1 AND outcome IS NOT NULL";
            let row = sqlx::query(sql).bind(id).fetch_optional(&mut raw).await.map_err(failed)?;
            if let Some(row) = row {
                return Ok(Some(row.try_get("outcome").map_err(failed)?));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(None)
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
