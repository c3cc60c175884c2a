//! The first step: who is paid, by which transaction.

use std::{fmt::Write as _, str::FromStr};

use bdk_wallet::bitcoin::{Address, ScriptBuf, address::NetworkUnchecked};
use sqlx::{AnyConnection, Row};

use super::{
    AGAIN, FeeFrom, PayError, PayPoint, Payer, amounts,
    choice::Chosen,
    commit, next_id, now_ms,
    rows::{self, add_version, failed, locked},
    settle, shown,
};
use crate::{
    LedgerError,
    journal::{self, Kind, Post},
    store::{Column, Writer, json, write},
};
use tokio::time::Instant;

/// Who is to be paid, and who cannot be.
#[derive(Default)]
pub(super) struct Due {
    pub payments: Vec<Payment>,
    /// In words, each with the reason.
    pub left_out: Vec<String>,
}

/// What one miner gets.
pub(super) struct Payment {
    pub miner: i64,
    pub script: ScriptBuf,
    pub sats: u64,
}

/// What came of planning.
pub(super) enum Planned {
    /// A batch; whether more are due at once, and what is missing where not all could be paid.
    Batch { more: bool, short: Option<String>, words: String },
    /// Nobody is due.
    Nothing { words: String },
}

impl Payer {
    /// Plans batches when it is time. What is wrong is the answer.
    pub(super) async fn keep_schedule(&mut self) -> Result<Option<String>, PayError> {
        let Some(interval) = self.settings.interval else { return Ok(None) };
        // A block that an earlier process has found may pay balances by its coinbase, and still be in the spool.
        if !self.shown.has_caught_up() {
            return Ok(self.said.get(&None).cloned());
        }
        if self.tried.is_some_and(|tried| tried.elapsed() < AGAIN.min(interval)) {
            return Ok(self.said.get(&None).cloned());
        }
        let mut snapshot = self.store.snapshot().await?;
        let row = sqlx::query("SELECT kept_ms FROM payer").fetch_one(&mut *snapshot).await.map_err(failed)?;
        let kept: Option<i64> = row.try_get("kept_ms").map_err(failed)?;
        drop(snapshot);
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        // A clock that was put back must not put payments off.
        let is_due = kept.is_none_or(|kept| !(0..interval).contains(&(now_ms() - kept)));
        if !is_due {
            return Ok(None);
        }
        self.tried = Some(Instant::now());
        match self.plan(true).await {
            Ok(Planned::Batch { words, more, short }) => {
                tracing::info!("{words}");
                if more {
                    self.tried = None;
                }
                Ok(short)
            }
            Ok(Planned::Nothing { .. }) => Ok(None),
            Err(PayError::Refused(why)) => Ok(Some(why)),
            Err(PayError::Wallet(error)) => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Plans one batch. `kept`: whether that keeps the schedule; not if somebody who is due is not in it.
    pub(super) async fn plan(&mut self, kept: bool) -> Result<Planned, PayError> {
        if self.coins.is_none() {
            return Err(PayError::Refused("the wallet is not loaded yet: try again".to_owned()));
        }
        let mut snapshot = self.store.snapshot().await?;
        let due = self.due(&mut snapshot).await?;
        let locked = locked(&mut snapshot).await?;
        drop(snapshot);
        let left_out = left_out(&due.left_out);
        if !left_out.is_empty() {
            tracing::warn!("payments:{left_out}");
        }
        if due.payments.is_empty() {
            self.note_kept(kept).await?;
            return Ok(Planned::Nothing { words: format!("nothing is due{left_out}") });
        }
        let rate = self.rate().await?;
        let chosen = self.choose(due.payments, rate, &locked).await?;
        let store = self.store.clone();
        let mut writer = store.writer().await?;
        let done = self.write_plan(&mut writer, &chosen, kept).await;
        let id = settle(writer, done)?;
        self.reach(PayPoint::Planned).await;
        let Chosen { payments, draft, more, short } = chosen;
        let (count, fee) = (payments.len(), draft.fee);
        let sum: u64 = payments.iter().map(|payment| payment.sats).sum();
        let mut words =
            format!("batch {id} is planned: {sum} sat to {count} miners, fee {fee} sat{left_out}");
        short.iter().for_each(|short| words.extend(["; not all that is due: ", short]));
        Ok(Planned::Batch { more, short, words })
    }

    /// What the network asks for, if that is not too much.
    pub(super) async fn rate(&self) -> Result<u64, PayError> {
        let estimate = self.wire.fee_rate(self.settings.target).await?;
        amounts::rate(estimate, self.settings.fallback_rate, self.settings.max_rate)
            .map_err(PayError::Refused)
    }

    /// The miners whose balance has come to their threshold, the largest first.
    async fn due(&self, snapshot: &mut AnyConnection) -> Result<Due, PayError> {
        // Less what is `held`: a block that is not credited may be yet, and pays balances by its coinbase, from before this
        // pool made payments.
        let sql = "SELECT id, address, balance_msat FROM ( \
                   SELECT m.id, m.address, a.balance_msat - 1000 * COALESCE(held.sats, 0) AS balance_msat, \
                   COALESCE(t.sats, $1) * 1000 AS threshold FROM account a JOIN miner m ON m.id = a.miner_id \
                   LEFT JOIN payout_threshold t ON t.miner_id = m.id \
                   LEFT JOIN (SELECT o.miner_id, CAST(SUM(o.sats) AS BIGINT) AS sats \
                   FROM block b JOIN block_output o ON o.block_id = b.id WHERE b.watched = 1 \
                   AND b.state IN ('candidate', 'orphaned') AND b.scheme <> 'solo' GROUP BY o.miner_id) AS held \
                   ON held.miner_id = m.id WHERE a.id = m.id * 8 + 1) AS due \
                   WHERE balance_msat >= threshold AND balance_msat >= 1000 ORDER BY balance_msat DESC, id";
        let threshold = rows::signed(self.settings.threshold)?;
        let rows = sqlx::query(sql).bind(threshold).fetch_all(snapshot).await.map_err(failed)?;
        let mut due = Due::default();
        for row in rows {
            let address: String = row.try_get("address").map_err(failed)?;
            let balance: i64 = row.try_get("balance_msat").map_err(failed)?;
            let sats = amounts::whole_sats(balance);
            match self.payable(&address, sats) {
                Err(why) => due.left_out.push(format!("{address} ({why})")),
                Ok(script) => {
                    let miner = row.try_get("id").map_err(failed)?;
                    due.payments.push(Payment { miner, script, sats });
                }
            }
        }
        Ok(due)
    }

    /// The script that pays `sats` to `address`, or why it cannot be paid.
    fn payable(&self, address: &str, sats: u64) -> Result<ScriptBuf, String> {
        let network = self.descriptors.network();
        let parsed =
            Address::<NetworkUnchecked>::from_str(address).map_err(|_| "it is no address".to_owned())?;
        let checked = parsed
            .require_network(network)
            .map_err(|_| format!("it is an address of another network than {network}"))?;
        let script = checked.script_pubkey();
        let dust = script.minimal_non_dust().to_sat();
        // Where the miner bears the fee, what is left must be worth an output also when the fee is the highest allowed:
        // an input, its output and a part of the rest of the transaction, in plenty.
        let fee = match self.settings.fee_from {
            FeeFrom::Pool => 0,
            FeeFrom::Miners => (400 * self.settings.max_rate).div_ceil(1000),
        };
        if sats < dust + fee {
            return Err(format!("{sats} sat are dust: an output needs {} at least", dust + fee));
        }
        Ok(script)
    }

    /// Money in flight, the transaction and the coins that it spends: one transaction of the database.
    async fn write_plan(
        &mut self,
        writer: &mut Writer<'_>,
        chosen: &Chosen,
        kept: bool,
    ) -> Result<i64, PayError> {
        let Chosen { payments, draft, more, short } = chosen;
        let dialect = self.store.dialect();
        let mut transaction = self.begin(writer).await?;
        let id = next_id(&mut transaction, "SELECT COALESCE(MAX(id), 0) + 1 AS id FROM payout").await?;
        let items: Vec<(i64, u64)> = payments.iter().map(|at| (at.miner, at.sats)).collect();
        let sum = items.iter().try_fold(0u64, |sum, (_, sats)| sum.checked_add(*sats)).unwrap_or(u64::MAX);
        let sql = "INSERT INTO payout (id, wallet, state, fee_from, sats, created_ms) \
                   VALUES ($1, $2, 'planned', $3, $4, $5)";
        sqlx::query(sql)
            .bind(id)
            .bind(self.descriptors.name().to_owned())
            .bind(self.settings.fee_from.as_str())
            .bind(rows::signed(sum)?)
            .bind(now_ms())
            .execute(&mut *transaction)
            .await
            .map_err(LedgerError::database("write a payout"))?;
        let table = dialect.table(&[("miner", Column::Integer), ("sats", Column::Integer)]);
        let sql = format!(
            "INSERT INTO payout_item (payout_id, miner_id, sats) SELECT $2, t.miner, t.sats FROM {table} AS t"
        );
        write(&mut transaction, "write payments", sql, json(&items), &[id]).await?;
        let entries = amounts::planned(&items)
            .ok_or_else(|| LedgerError::Unsound("the sum of a batch overflows".to_owned()))?;
        let key = format!("payout:{id}");
        let post = Post { kind: Kind::Payout, key, block: None, now_ms: now_ms(), entries: &entries };
        journal::post(&mut transaction, dialect, &post).await?;
        let txid = add_version(&mut transaction, dialect, (id, 0), draft).await?;
        self.coins()?.keep(&mut transaction).await?;
        if kept && !more && short.is_none() {
            write_kept(&mut transaction).await?;
        }
        self.close_order(&mut transaction).await?;
        self.reach(PayPoint::Planning).await;
        commit(transaction).await?;
        tracing::info!(batch = id, txid = shown(&txid), sats = sum, fee = draft.fee, "a payout is planned");
        Ok(id)
    }

    async fn note_kept(&self, kept: bool) -> Result<(), PayError> {
        if !kept {
            return Ok(());
        }
        let mut writer = self.store.writer().await?;
        let done = async {
            let mut transaction = self.begin(&mut writer).await?;
            write_kept(&mut transaction).await?;
            commit(transaction).await
        };
        let done = done.await;
        settle(writer, done)
    }
}

async fn write_kept(connection: &mut AnyConnection) -> Result<(), PayError> {
    let query = sqlx::query("UPDATE payer SET kept_ms = $1 WHERE id = 1").bind(now_ms());
    query.execute(connection).await.map_err(failed)?;
    Ok(())
}

/// Some of them, in words.
fn left_out(all: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut words = String::new();
    if !all.is_empty() {
        // Writing to a String does not fail.
        let _ = write!(words, "; {} left out: {}", all.len(), all[..all.len().min(SHOWN)].join(", "));
        if all.len() > SHOWN {
            words.push_str(" and more");
        }
    }
    words
}
