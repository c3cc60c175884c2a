//! The second step: signatures, and the bytes that go out from then on.

use bdk_wallet::bitcoin::{Psbt, Txid};
use sqlx::Row;

use super::{
    PayError, PayPoint, Payer, bytes, commit,
    rows::{self, Batch, Version, failed},
    settle, shown, signer,
};
use crate::{
    LedgerError,
    store::Writer,
    wallet::{WalletError, read_psbt, serialised},
};

/// What an outside signer says.
enum Said {
    Nothing,
    Signed(Psbt),
    Refused(String),
}

impl Payer {
    /// Signs what is not signed, or takes what others have signed.
    pub(super) async fn sign_all(&mut self) -> Result<(), PayError> {
        let mut snapshot = self.store.snapshot().await?;
        let batches = rows::watched(&mut snapshot).await?;
        drop(snapshot);
        for batch in batches.iter().filter(|batch| batch.is_open()) {
            for version in batch.versions.iter().filter(|version| version.raw.is_none()) {
                self.sign(batch, version).await?;
            }
        }
        Ok(())
    }

    async fn sign(&mut self, batch: &Batch, version: &Version) -> Result<(), PayError> {
        let mut psbt = read_psbt(&version.psbt)?;
        if self.descriptors.can_sign() {
            if let Some(why) = self.objection(batch, version).await? {
                return self.trouble(batch, Some(format!("it is not signed: {why}"))).await;
            }
            self.coins()?.sign(&mut psbt)?;
        } else {
            match self.said(version.txid).await? {
                Said::Signed(signed) => {
                    let wrong = |error| PayError::Wallet(WalletError::Sign(format!("{error}")));
                    psbt.combine(signed).map_err(wrong)?;
                }
                Said::Refused(why) => {
                    return self.trouble(batch, Some(format!("the signer refuses: {why}"))).await;
                }
                Said::Nothing => return self.lay_down(batch, version),
            }
        }
        let signed = match self.coins()?.finish(psbt) {
            Ok(signed) => signed,
            Err(error) => return self.trouble(batch, Some(error.to_string())).await,
        };
        if signed.compute_txid() != version.txid {
            let why = format!("what was signed is not {}", shown(&version.txid));
            return self.trouble(batch, Some(why)).await;
        }
        self.reach(PayPoint::Signing).await;
        let store = self.store.clone();
        let mut writer = store.writer().await?;
        let done = self.write_signed(&mut writer, batch, version.txid, serialised(&signed)).await;
        settle(writer, done)?;
        self.say(Some(batch.id), None);
        self.sent = None;
        tracing::info!(batch = batch.id, txid = shown(&version.txid), "a payout is signed and stored");
        self.reach(PayPoint::Stored).await;
        Ok(())
    }

    /// Why these keys sign nothing of the kind, whatever is written in the database: as a signer of its own would say it. The
    /// rate was capped when the fee was chosen.
    async fn objection(&mut self, batch: &Batch, version: &Version) -> Result<Option<String>, PayError> {
        let network = self.descriptors.network();
        let store = self.store.clone();
        let mut snapshot = store.snapshot().await?;
        match signer::check(&mut snapshot, (self.coins()?, network, u64::MAX), batch, version).await {
            Ok(_) => Ok(None),
            Err(PayError::Refused(why)) => Ok(Some(why)),
            Err(error) => Err(error),
        }
    }

    async fn write_signed(
        &self,
        writer: &mut Writer<'_>,
        batch: &Batch,
        txid: Txid,
        raw: Vec<u8>,
    ) -> Result<(), PayError> {
        let failed = LedgerError::database("store a signed transaction");
        let mut transaction = self.begin(writer).await?;
        let store = sqlx::query("UPDATE payout_tx SET raw = $1 WHERE txid = $2 AND raw IS NULL");
        store.bind(raw).bind(bytes(&txid)).execute(&mut *transaction).await.map_err(&failed)?;
        let sql = "UPDATE payout SET trouble = NULL, \
                   state = CASE state WHEN 'planned' THEN 'signed' ELSE state END WHERE id = $1";
        sqlx::query(sql).bind(batch.id).execute(&mut *transaction).await.map_err(&failed)?;
        self.reach(PayPoint::Storing).await;
        commit(transaction).await
    }

    /// What the signer, or the operator with a file, last said to this transaction.
    async fn said(&self, txid: Txid) -> Result<Said, PayError> {
        let mut snapshot = self.store.snapshot().await?;
        let sql = "SELECT psbt, refusal FROM payout_signature WHERE txid = $1 ORDER BY id DESC LIMIT 1";
        let query = sqlx::query(sql).bind(bytes(&txid));
        let Some(row) = query.fetch_optional(&mut *snapshot).await.map_err(failed)? else {
            return Ok(Said::Nothing);
        };
        let psbt: Option<String> = row.try_get("psbt").map_err(failed)?;
        let refusal: Option<String> = row.try_get("refusal").map_err(failed)?;
        let Some(text) = psbt else { return Ok(Said::Refused(refusal.unwrap_or_default())) };
        Ok(match read_psbt(&text) {
            Ok(psbt) if psbt.unsigned_tx.compute_txid() == txid => Said::Signed(psbt),
            Ok(_) => Said::Refused("it signed another transaction".to_owned()),
            Err(error) => Said::Refused(error.to_string()),
        })
    }

    /// Writes the file for an offline signer, once.
    fn lay_down(&mut self, batch: &Batch, version: &Version) -> Result<(), PayError> {
        let Some(dir) = &self.settings.psbt_dir else { return Ok(()) };
        let path = dir.join(format!("payout-{}-{}.psbt", batch.id, version.number));
        if path.exists() {
            return Ok(());
        }
        let part = path.with_extension("part");
        let written = std::fs::create_dir_all(dir)
            .and_then(|()| std::fs::write(&part, &version.psbt))
            .and_then(|()| std::fs::rename(&part, &path));
        match written {
            Ok(()) => {
                tracing::info!(batch = batch.id, file = %path.display(), "a payout waits for its signature")
            }
            Err(error) => self.say(Some(batch.id), Some(format!("cannot write {}: {error}", path.display()))),
        }
        Ok(())
    }

    /// Notes what is wrong with a batch, or that nothing is any more, and tells the operator once.
    pub(super) async fn trouble(&mut self, batch: &Batch, trouble: Option<String>) -> Result<(), PayError> {
        if batch.trouble != trouble {
            let mut writer = self.store.writer().await?;
            let done = async {
                let mut transaction = self.begin(&mut writer).await?;
                rows::note(&mut transaction, batch.id, trouble.as_deref()).await?;
                commit(transaction).await
            };
            let done = done.await;
            settle(writer, done)?;
        }
        self.say(Some(batch.id), trouble);
        Ok(())
    }
}
