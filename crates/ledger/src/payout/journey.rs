//! The third and the fourth step: out to the nodes, and into the chain; and back where the chain goes back.

use bdk_wallet::bitcoin::{OutPoint, Txid};
use share::Hash;
use sqlx::AnyConnection;
use tokio::time::Instant;

use super::{
    AGAIN, PayError, PayPoint, Payer, amounts, bytes, commit, now_ms,
    rows::{self, Batch, Version, failed},
    settle, shown,
};
use crate::{
    LedgerError, PayoutState, Standing,
    journal::{self, Account, Kind, Post},
    store::Writer,
    wallet::conflicts,
    wire::Sent,
};

/// So deep that it is not looked at any more.
const FORGOTTEN: u32 = 144;

/// Where a batch stands on the chain.
enum Where {
    /// One of its transactions, so deep.
    At(Txid, u32),
    /// None ever was, as far as the wallet knows.
    Nowhere,
    /// One was, and the nodes agree that its block is not on the chain any more.
    Gone,
    /// The nodes do not agree, or none answers: nothing moves on this.
    Unknown,
}

impl Payer {
    /// Takes note of what is confirmed, and of what is not any more.
    pub(super) async fn follow_batches(&mut self) -> Result<(), PayError> {
        let mut snapshot = self.store.snapshot().await?;
        let batches = rows::watched(&mut snapshot).await?;
        drop(snapshot);
        let enough = self.settings.confirmations.max(1);
        for batch in &batches {
            match (self.locate(batch).await?, batch.state) {
                (Where::Unknown, _) => {}
                (Where::At(txid, depth), PayoutState::Returned) => {
                    let why = format!(
                        "it was returned, but its transaction {} is on the chain, {depth} deep: it was paid twice",
                        shown(&txid)
                    );
                    self.trouble(batch, Some(why)).await?;
                }
                (Where::Nowhere | Where::Gone, PayoutState::Returned) => self.forget_returned(batch).await?,
                (Where::At(txid, depth), PayoutState::Paid) if batch.txid == Some(txid) => {
                    self.note_depth(batch, Some((txid, depth))).await?;
                }
                (Where::At(..) | Where::Gone, PayoutState::Paid) => self.unpay(batch).await?,
                // A wallet that was made anew does not know it yet.
                (Where::Nowhere, PayoutState::Paid) => {}
                (Where::At(txid, depth), _) if depth >= enough => self.pay(batch, txid, depth).await?,
                (Where::At(txid, depth), _) => self.note_depth(batch, Some((txid, depth))).await?,
                (Where::Nowhere | Where::Gone, _) => self.note_depth(batch, None).await?,
            }
        }
        Ok(())
    }

    /// The wallet says in which blocks a transaction was seen, the nodes together where those stand.
    async fn locate(&mut self, batch: &Batch) -> Result<Where, PayError> {
        let mut found = Where::Nowhere;
        for version in &batch.versions {
            for block in self.coins()?.blocks_of(version.txid) {
                match (self.chain.standing(&block).await, &found) {
                    (Standing::OnChain(depth), _) => return Ok(Where::At(version.txid, depth)),
                    (Standing::Unknown, _) => found = Where::Unknown,
                    (Standing::OffChain, Where::Unknown) => {}
                    (Standing::OffChain, _) => found = Where::Gone,
                }
            }
        }
        Ok(found)
    }

    async fn note_depth(&self, batch: &Batch, at: Option<(Txid, u32)>) -> Result<(), PayError> {
        let (txid, depth) = at.unzip();
        if (txid, depth.map(i64::from)) == (batch.txid, batch.confirmations) {
            return Ok(());
        }
        let mut writer = self.store.writer().await?;
        let done = async {
            let mut transaction = self.begin(&mut writer).await?;
            let is_done = batch.state == PayoutState::Paid && depth.is_some_and(|depth| depth >= FORGOTTEN);
            let sql = "UPDATE payout SET txid = $1, confirmations = $2, watched = $3 WHERE id = $4";
            sqlx::query(sql)
                .bind(txid.as_ref().map(bytes))
                .bind(depth.map(i64::from))
                .bind(i64::from(!is_done))
                .bind(batch.id)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            commit(transaction).await
        };
        let done = done.await;
        settle(writer, done)
    }

    /// Deep enough: in flight becomes paid.
    async fn pay(&mut self, batch: &Batch, txid: Txid, depth: u32) -> Result<(), PayError> {
        let store = self.store.clone();
        let mut writer = store.writer().await?;
        let done = self.write_paid(&mut writer, batch, txid, depth).await;
        settle(writer, done)?;
        self.reach(PayPoint::Paid).await;
        self.say(Some(batch.id), None);
        tracing::info!(batch = batch.id, txid = shown(&txid), "a payout is paid");
        Ok(())
    }

    async fn write_paid(
        &self,
        writer: &mut Writer<'_>,
        batch: &Batch,
        txid: Txid,
        depth: u32,
    ) -> Result<(), PayError> {
        let mut transaction = self.begin(writer).await?;
        let count = batch.settlements + 1;
        let sql = "UPDATE payout SET state = 'paid', settlements = $1, txid = $2, confirmations = $3, trouble = NULL \
                   WHERE id = $4 AND settlements = $5 AND state NOT IN ('paid', 'returned')";
        let moved = sqlx::query(sql)
            .bind(count)
            .bind(bytes(&txid))
            .bind(i64::from(depth))
            .bind(batch.id)
            .bind(batch.settlements)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        must_move(moved.rows_affected(), batch)?;
        let entries = paid_entries(&mut transaction, batch, txid).await?;
        let key = format!("paid:{}:{count}", batch.id);
        let post = Post { kind: Kind::Paid, key, block: None, now_ms: now_ms(), entries: &entries };
        journal::post(&mut transaction, self.store.dialect(), &post).await?;
        self.reach(PayPoint::Paying).await;
        commit(transaction).await
    }

    /// The chain went back behind it: paid becomes in flight, and its bytes go out again.
    async fn unpay(&mut self, batch: &Batch) -> Result<(), PayError> {
        let Some(txid) = batch.txid else { return Ok(()) };
        let store = self.store.clone();
        let mut writer = store.writer().await?;
        let done = self.write_unpaid(&mut writer, batch, txid).await;
        settle(writer, done)?;
        self.sent = None;
        tracing::warn!(batch = batch.id, txid = shown(&txid), "a reorganisation took a payout back");
        self.reach(PayPoint::Unpaid).await;
        Ok(())
    }

    async fn write_unpaid(&self, writer: &mut Writer<'_>, batch: &Batch, txid: Txid) -> Result<(), PayError> {
        let mut transaction = self.begin(writer).await?;
        let sql = "UPDATE payout SET state = 'broadcast', txid = NULL, confirmations = NULL \
                   WHERE id = $1 AND settlements = $2 AND state = 'paid'";
        let moved = sqlx::query(sql).bind(batch.id).bind(batch.settlements).execute(&mut *transaction).await;
        must_move(moved.map_err(failed)?.rows_affected(), batch)?;
        let entries = amounts::reversed(paid_entries(&mut transaction, batch, txid).await?);
        let key = format!("reorg:payout:{}:{}", batch.id, batch.settlements);
        let post = Post { kind: Kind::Reorg, key, block: None, now_ms: now_ms(), entries: &entries };
        journal::post(&mut transaction, self.store.dialect(), &post).await?;
        self.reach(PayPoint::Unpaying).await;
        commit(transaction).await
    }

    /// What can never confirm need not be looked at any more.
    async fn forget_returned(&mut self, batch: &Batch) -> Result<(), PayError> {
        if self.alive(batch, FORGOTTEN).await?.is_some() {
            return Ok(());
        }
        let mut writer = self.store.writer().await?;
        let done = async {
            let mut transaction = self.begin(&mut writer).await?;
            let query = sqlx::query("UPDATE payout SET watched = 0 WHERE id = $1").bind(batch.id);
            query.execute(&mut *transaction).await.map_err(failed)?;
            commit(transaction).await
        };
        let done = done.await;
        settle(writer, done)
    }

    /// Sends what is signed and not on the chain: the same bytes as ever, the newest version first.
    pub(super) async fn broadcast_all(&mut self, tip: Hash) -> Result<(), PayError> {
        if self.sent.is_some_and(|(at, when)| at == tip && when.elapsed() < AGAIN) {
            return Ok(());
        }
        let mut snapshot = self.store.snapshot().await?;
        let batches = rows::watched(&mut snapshot).await?;
        drop(snapshot);
        for batch in batches.iter().filter(|batch| batch.is_open() && batch.txid.is_none()) {
            self.broadcast(batch).await?;
        }
        self.sent = Some((tip, Instant::now()));
        Ok(())
    }

    async fn broadcast(&mut self, batch: &Batch) -> Result<(), PayError> {
        let mut refusal = None;
        for version in batch.versions.iter().rev() {
            let Some(raw) = &version.raw else { continue };
            match self.wire.broadcast(raw).await? {
                Sent::Taken => {
                    self.reach(PayPoint::Sent).await;
                    let trouble = refusal.map(|why| format!("an earlier version is on its way: {why}"));
                    self.note_broadcast(batch, version).await?;
                    return self.trouble(batch, trouble).await;
                }
                Sent::Refused(why) => {
                    let why = format!("the nodes refuse {}: {why}", shown(&version.txid));
                    refusal.get_or_insert(why);
                }
            }
        }
        match refusal {
            Some(why) => self.trouble(batch, Some(why)).await,
            None => Ok(()),
        }
    }

    async fn note_broadcast(&self, batch: &Batch, version: &Version) -> Result<(), PayError> {
        if batch.state != PayoutState::Signed {
            return Ok(());
        }
        let mut writer = self.store.writer().await?;
        let done = async {
            let mut transaction = self.begin(&mut writer).await?;
            let sql = "UPDATE payout SET state = 'broadcast' WHERE id = $1 AND state = 'signed'";
            sqlx::query(sql).bind(batch.id).execute(&mut *transaction).await.map_err(failed)?;
            commit(transaction).await
        };
        let done = done.await;
        settle(writer, done)?;
        tracing::info!(batch = batch.id, txid = shown(&version.txid), "a payout is broadcast");
        self.reach(PayPoint::Broadcast).await;
        Ok(())
    }

    /// Gives a batch up, once none of its transactions can confirm: money in flight is available again.
    pub(super) async fn give_back(&mut self, batch: &Batch) -> Result<String, PayError> {
        if !batch.is_open() {
            let state = batch.state.as_str();
            return Err(PayError::Refused(format!(
                "batch {} is {state}: there is nothing to return",
                batch.id
            )));
        }
        self.must_be_dead(batch).await?;
        let store = self.store.clone();
        let mut writer = store.writer().await?;
        let done = self.write_returned(&mut writer, batch).await;
        settle(writer, done)?;
        self.reach(PayPoint::Returned).await;
        Ok(format!("batch {} is returned: its payments are on the miners' balances again", batch.id))
    }

    async fn write_returned(&self, writer: &mut Writer<'_>, batch: &Batch) -> Result<(), PayError> {
        let mut transaction = self.begin(writer).await?;
        let sql = "UPDATE payout SET state = 'returned', trouble = NULL WHERE id = $1 \
                   AND state NOT IN ('paid', 'returned')";
        let moved = sqlx::query(sql).bind(batch.id).execute(&mut *transaction).await.map_err(failed)?;
        must_move(moved.rows_affected(), batch)?;
        let items = rows::items(&mut transaction, batch.id).await?;
        let planned = amounts::planned(&items).ok_or_else(overflow)?;
        let entries = amounts::reversed(planned);
        let key = format!("return:{}", batch.id);
        let post = Post { kind: Kind::Return, key, block: None, now_ms: now_ms(), entries: &entries };
        journal::post(&mut transaction, self.store.dialect(), &post).await?;
        self.close_order(&mut transaction).await?;
        self.reach(PayPoint::Returning).await;
        commit(transaction).await
    }
}

/// The new version of a batch spends what the first one spends, so only one can confirm.
pub(super) fn shares_inputs(batch: &Batch, inputs: &[OutPoint]) -> bool {
    batch.versions.iter().all(|version| conflicts(&version.inputs, inputs))
}

async fn paid_entries(
    connection: &mut AnyConnection,
    batch: &Batch,
    txid: Txid,
) -> Result<Vec<(Account, i64)>, PayError> {
    let items = rows::items(connection, batch.id).await?;
    let version = batch
        .version(txid)
        .ok_or_else(|| LedgerError::Unsound(format!("payout {} has no {}", batch.id, shown(&txid))))?;
    Ok(amounts::paid(&items, version.fee, batch.fee_from).ok_or_else(overflow)?)
}

fn overflow() -> LedgerError {
    LedgerError::Unsound("the amounts of a batch overflow".to_owned())
}

fn must_move(rows: u64, batch: &Batch) -> Result<(), PayError> {
    match rows {
        1 => Ok(()),
        _ => Err(LedgerError::Unsound(format!("payout {} is not as it was any more", batch.id)).into()),
    }
}
