//! What the operator asks for at the command line.

use bdk_wallet::bitcoin::OutPoint;
use sqlx::{AnyConnection, Row};

use super::{
    PayError, PayPoint, Payer, bytes, commit,
    desk::OrderKind,
    now_ms,
    plan::Planned,
    rows::{self, Batch, add_version, failed},
    settle, shown,
};
use crate::{
    LedgerError,
    store::Writer,
    wallet::{Choice, Draft, WalletError, read_psbt},
};

use super::journey::shares_inputs;

impl Payer {
    /// Carries out what was asked for, in that order. What moves something is noted as done in the same transaction; what
    /// came of it, in words, behind it.
    pub(super) async fn carry_out_orders(&mut self) -> Result<(), PayError> {
        let mut snapshot = self.store.snapshot().await?;
        let sql = "SELECT id, kind, argument FROM payout_order WHERE done_ms IS NULL ORDER BY id";
        let rows = sqlx::query(sql).fetch_all(&mut *snapshot).await.map_err(failed)?;
        drop(snapshot);
        for row in rows {
            let id: i64 = row.try_get("id").map_err(failed)?;
            let (text, argument): (String, String) =
                (row.try_get("kind").map_err(failed)?, row.try_get("argument").map_err(failed)?);
            let kind = OrderKind::parse(&text);
            if kind == Some(OrderKind::Run) && !self.shown.has_caught_up() {
                continue; // see `keep_schedule`
            }
            self.order = Some(id);
            let outcome = match kind {
                Some(kind) => self.carry_out(kind, &argument).await,
                None => Err(PayError::Refused(format!("nobody knows how to {text}"))),
            };
            self.order = None;
            let words = match outcome {
                Ok(words) => words,
                Err(PayError::Refused(why)) => format!("refused: {why}"),
                Err(PayError::Wallet(error)) => format!("refused: {error}"),
                Err(error) => return Err(error),
            };
            tracing::info!(order = text, argument = argument.get(..40).unwrap_or(&argument), "{words}");
            self.note_done(id, &words).await?;
        }
        Ok(())
    }

    /// Notes that the order which is being carried out is done, if there is one.
    pub(super) async fn close_order(&self, connection: &mut AnyConnection) -> Result<(), PayError> {
        let Some(id) = self.order else { return Ok(()) };
        let query = sqlx::query("UPDATE payout_order SET done_ms = $1 WHERE id = $2").bind(now_ms()).bind(id);
        query.execute(connection).await.map_err(LedgerError::database("note an order as done"))?;
        Ok(())
    }

    async fn carry_out(&mut self, kind: OrderKind, argument: &str) -> Result<String, PayError> {
        match kind {
            OrderKind::Run => Ok(match self.plan(false).await? {
                Planned::Batch { words, .. } | Planned::Nothing { words } => words,
            }),
            OrderKind::Import => self.import(argument).await,
            OrderKind::Return => {
                let batch = self.batch(argument.trim()).await?;
                self.give_back(&batch).await
            }
            OrderKind::Bump => {
                let (id, rate) = argument.trim().split_once(' ').unwrap_or((argument.trim(), ""));
                let wanted =
                    match rate.trim() {
                        "" => None,
                        text => {
                            let rate: Option<u64> = text.parse().ok();
                            let rate = rate.and_then(|rate| rate.checked_mul(1000));
                            Some(rate.ok_or_else(|| {
                                PayError::Refused(format!("{text:?} is no fee rate in sat/vB"))
                            })?)
                        }
                    };
                let batch = self.batch(id).await?;
                self.bump(&batch, wanted).await
            }
        }
    }

    async fn batch(&self, id: &str) -> Result<Batch, PayError> {
        let none =
            || PayError::Refused(format!("there is no batch {id:?} under way: see sluice payout list"));
        let number: i64 = id.parse().map_err(|_| none())?;
        let mut snapshot = self.store.snapshot().await?;
        let batches = rows::watched(&mut snapshot).await?;
        batches.into_iter().find(|batch| batch.id == number).ok_or_else(none)
    }

    /// Takes what an offline signer has signed.
    async fn import(&mut self, text: &str) -> Result<String, PayError> {
        let signed = read_psbt(text)?;
        let txid = signed.unsigned_tx.compute_txid();
        let mut snapshot = self.store.snapshot().await?;
        let batches = rows::watched(&mut snapshot).await?;
        drop(snapshot);
        let batch = batches.iter().find(|batch| batch.version(txid).is_some());
        let Some(batch) = batch else {
            return Err(PayError::Refused(format!("no batch under way has the transaction {txid}")));
        };
        if batch.version(txid).is_some_and(|version| version.raw.is_some()) {
            return Ok(format!("batch {} is signed already", batch.id));
        }
        // Before it is taken down: the last word counts, and a bad one must not stand in the way of a good one.
        let version = batch.version(txid).map(|version| version.psbt.clone()).unwrap_or_default();
        let mut whole = read_psbt(&version)?;
        whole.combine(signed).map_err(|error| PayError::Wallet(WalletError::Sign(error.to_string())))?;
        self.coins()?.finish(whole)?;
        let mut writer = self.store.writer().await?;
        let done = async {
            let mut transaction = self.begin(&mut writer).await?;
            let sql = "INSERT INTO payout_signature (txid, psbt, created_ms) VALUES ($1, $2, $3)";
            let query = sqlx::query(sql).bind(bytes(&txid)).bind(text.trim().to_owned()).bind(now_ms());
            query.execute(&mut *transaction).await.map_err(failed)?;
            commit(transaction).await
        };
        let done = done.await;
        settle(writer, done)?;
        Ok(format!("batch {} is signed: {txid}", batch.id))
    }

    /// A version with a higher fee, which spends all that the last one spends.
    async fn bump(&mut self, batch: &Batch, wanted: Option<u64>) -> Result<String, PayError> {
        let refused = |why: String| PayError::Refused(why);
        let Some(last) = batch.versions.last().filter(|_| batch.is_open()) else {
            return Err(refused(format!(
                "batch {} is {}: there is nothing to bump",
                batch.id,
                batch.state.as_str()
            )));
        };
        if let Some(txid) = batch.txid {
            return Err(refused(format!("{} of batch {} is on the chain already", shown(&txid), batch.id)));
        }
        // A replacement pays for its own bytes beside those of what it replaces (BIP 125).
        let least = (last.fee * 1000).div_ceil(last.vsize) + 1000;
        let rate = match wanted {
            Some(wanted) if wanted < least => {
                let least = least.div_ceil(1000);
                return Err(refused(format!("a replacement must pay {least} sat/vB at least")));
            }
            Some(wanted) => wanted,
            None => self.rate().await?.max(least),
        };
        if rate > self.settings.max_rate {
            return Err(refused(format!(
                "that takes {} sat/vB, payout.max_feerate is {}",
                rate.div_ceil(1000),
                self.settings.max_rate / 1000
            )));
        }
        let mut snapshot = self.store.snapshot().await?;
        let locked = rows::locked(&mut snapshot).await?;
        let due = rows::addresses(&mut snapshot, batch.id).await?;
        drop(snapshot);
        let network = self.descriptors.network();
        let due: Vec<_> = due
            .into_iter()
            .map(|(address, sats)| Ok((super::signer::script(&address, network)?, sats)))
            .collect::<Result<_, PayError>>()?;
        let must: Vec<OutPoint> = last.inputs.clone();
        let choice = Choice { rate, locked: &locked, must: &must };
        let draft = self.coins()?.draft(&due, batch.fee_from, &choice)?;
        let inputs: Vec<OutPoint> = draft.inputs().collect();
        if !shares_inputs(batch, &inputs) || draft.fee < last.fee + draft.vsize {
            return Err(refused(
                "no replacement could be made that shares its coins and pays enough".to_owned(),
            ));
        }
        let store = self.store.clone();
        let mut writer = store.writer().await?;
        let number = last.number + 1;
        let done = self.write_bump(&mut writer, batch, number, &draft).await;
        let words = settle(writer, done)?;
        self.sent = None;
        self.reach(PayPoint::Bumped).await;
        Ok(words)
    }

    async fn write_bump(
        &mut self,
        writer: &mut Writer<'_>,
        batch: &Batch,
        number: i64,
        draft: &Draft,
    ) -> Result<String, PayError> {
        let dialect = self.store.dialect();
        let mut transaction = self.begin(writer).await?;
        let txid = add_version(&mut transaction, dialect, (batch.id, number), draft).await?;
        self.coins()?.keep(&mut transaction).await?;
        self.close_order(&mut transaction).await?;
        self.reach(PayPoint::Bumping).await;
        commit(transaction).await?;
        Ok(format!("batch {} has a version with a fee of {} sat: {}", batch.id, draft.fee, shown(&txid)))
    }

    async fn note_done(&self, id: i64, words: &str) -> Result<(), PayError> {
        let mut writer = self.store.writer().await?;
        let done = async {
            let mut transaction = self.begin(&mut writer).await?;
            let sql = "UPDATE payout_order SET done_ms = $1, outcome = $2 WHERE id = $3";
            let query = sqlx::query(sql).bind(now_ms()).bind(words.to_owned()).bind(id);
            query.execute(&mut *transaction).await.map_err(LedgerError::database("note an order as done"))?;
            commit(transaction).await
        };
        let done = done.await;
        settle(writer, done)
    }
}
