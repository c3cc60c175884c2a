//! Payments on chain: each made exactly once, whatever dies on the way.
//!
//! A batch is planned, signed, broadcast and confirmed. Each step is one transaction of the database, and what a step
//! needs is stored before it is done: the same bytes go out after a crash as before it.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use bdk_wallet::bitcoin::{Txid, hashes::Hash as _};
use sqlx::{Any, AnyConnection, Row, Transaction};
use tokio::time::Instant;

use crate::{
    Chain, LedgerError, WireError, clock,
    coinbases::Shown,
    store::{Store, Writer},
    wallet::{Coins, Descriptors, FollowError, Reached, WalletError, compact},
    wire::Wire,
};

mod amounts;
mod answers;
mod audit;
mod choice;
mod dead;
mod desk;
mod journey;
mod order;
mod plan;
mod rows;
mod sign;
pub(crate) mod signer;

pub use amounts::FeeFrom;
pub(crate) use amounts::outputs;
pub use answers::{MinerPayout, Payout, PayoutFigures, PayoutState, PayoutVersion};
pub(crate) use answers::{coins, liabilities};
pub(crate) use audit::payments;
pub(crate) use desk::threshold;
pub use desk::{Desk, OrderKind};
pub use signer::{Signer, SignerSettings};

/// How payments are made.
#[derive(Clone)]
pub struct PayoutSettings {
    /// Miners are paid from this balance on, if they have set nothing else. Satoshi.
    pub threshold: u64,
    /// How often a batch is planned by itself; `None`: only when the operator asks for one.
    pub interval: Option<Duration>,
    /// How deep a batch must be to count as paid.
    pub confirmations: u32,
    /// Who bears the network's fee.
    pub fee_from: FeeFrom,
    /// The most that is paid to the network, satoshi per 1000 virtual bytes.
    pub max_rate: u64,
    /// What is paid if the node does not know; `None`: then nothing is.
    pub fallback_rate: Option<u64>,
    /// In how many blocks a payment is to be confirmed.
    pub target: u16,
    /// The most outputs of a batch.
    pub max_outputs: u32,
    /// Where transactions that wait for a signature are laid down as files.
    pub psbt_dir: Option<PathBuf>,
    /// How often everything is looked at.
    pub poll: Duration,
    /// For tests of crashes: whether to stop dead at this point.
    pub halt: Option<PayHalt>,
}

/// Says whether to stop dead at a point.
pub type PayHalt = Arc<dyn Fn(PayPoint) -> bool + Send + Sync>;

/// Where a crash must not matter. Each but the third is before or after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PayPoint {
    /// A batch is written, its transaction not committed.
    Planning,
    /// A batch is planned, nothing is signed.
    Planned,
    /// A signature was made and is in memory only.
    Signing,
    /// The signed bytes are written, not committed.
    Storing,
    /// The signed bytes are stored; no node has heard of them.
    Stored,
    /// A node has taken the transaction; the database does not know.
    Sent,
    /// The database knows too.
    Broadcast,
    /// A confirmed batch is posted as paid, not committed.
    Paying,
    /// It is paid for good.
    Paid,
    /// A reorganisation took a paid batch back; not committed.
    Unpaying,
    /// The same, committed.
    Unpaid,
    /// A version with a higher fee is written, not committed.
    Bumping,
    /// The same, committed.
    Bumped,
    /// A batch is given up, not committed.
    Returning,
    /// The same, committed.
    Returned,
}

impl PayPoint {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Planning,
        Self::Planned,
        Self::Signing,
        Self::Storing,
        Self::Stored,
        Self::Sent,
        Self::Broadcast,
        Self::Paying,
        Self::Paid,
        Self::Unpaying,
        Self::Unpaid,
        Self::Bumping,
        Self::Bumped,
        Self::Returning,
        Self::Returned,
    ];
}

/// Why a payment does not go on.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// The database.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The nodes.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The wallet.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// Another process pays (F-56).
    #[error(
        "another process makes the payments of this ledger now; this one makes none any more: run one pool only"
    )]
    Fenced,
    /// What was asked for cannot be done, in words for the operator.
    #[error("{0}")]
    Refused(String),
}

impl From<FollowError> for PayError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Wire(error) => Self::Wire(error),
            FollowError::Wallet(error) => Self::Wallet(error),
        }
    }
}

/// Makes the payments of a ledger. One at a time: the newest has the say.
pub struct Payer {
    store: Arc<Store>,
    settings: PayoutSettings,
    descriptors: Descriptors,
    wire: Arc<dyn Wire>,
    chain: Arc<dyn Chain>,
    /// Whether the ledger knows all that earlier processes have left.
    shown: Shown,
    epoch: i64,
    /// Nothing after an error: memory may be ahead of the database then.
    coins: Option<Coins>,
    /// The tip when transactions were last sent, and when that was.
    sent: Option<(share::Hash, Instant)>,
    /// When the schedule was last tried.
    tried: Option<Instant>,
    /// The order that is being carried out.
    order: Option<i64>,
    /// What was last said to be wrong, so that it is said once.
    said: BTreeMap<Option<i64>, String>,
}

/// How often a transaction is sent again that is not on the chain, and how often a schedule that failed is tried again.
const AGAIN: Duration = Duration::from_secs(30);

impl crate::Ledger {
    /// Whoever calls this makes the payments from now on; one that did before makes none any more.
    pub async fn payer(
        &self,
        descriptors: Descriptors,
        settings: PayoutSettings,
        wire: Arc<dyn Wire>,
        chain: Arc<dyn Chain>,
    ) -> Result<Payer, PayError> {
        let store = self.shared_store();
        let mut writer = store.writer().await?;
        let taken = take_over(&mut writer, descriptors.name()).await;
        let epoch = settle(writer, taken)?;
        Ok(Payer {
            store,
            settings,
            descriptors,
            wire,
            chain,
            shown: self.shown().clone(),
            epoch,
            coins: None,
            sent: None,
            tried: None,
            order: None,
            said: BTreeMap::new(),
        })
    }
}

/// Begins a new epoch.
async fn take_over(writer: &mut Writer<'_>, wallet: &str) -> Result<i64, PayError> {
    let failed = LedgerError::database("begin to make payments");
    compact(writer, wallet).await?;
    let mut transaction = writer.begin().await?;
    let sql = "SELECT id FROM payout WHERE wallet <> $1 AND state NOT IN ('paid', 'returned') ORDER BY id";
    let others = sqlx::query(sql).bind(wallet).fetch_all(&mut *transaction).await.map_err(&failed)?;
    if let Some(row) = others.first() {
        let id: i64 = row.try_get("id").map_err(&failed)?;
        return Err(PayError::Refused(format!(
            "batch {id} is on its way from another wallet: put that one back into wallet.descriptor until it is paid"
        )));
    }
    let sql = "UPDATE payout_order SET outcome = 'done before a restart: see sluice payout list' \
               WHERE done_ms IS NOT NULL AND outcome IS NULL";
    sqlx::query(sql).execute(&mut *transaction).await.map_err(&failed)?;
    let sql = "UPDATE payer SET epoch = epoch + 1 WHERE id = 1";
    sqlx::query(sql).execute(&mut *transaction).await.map_err(&failed)?;
    let row = sqlx::query("SELECT epoch FROM payer WHERE id = 1").fetch_one(&mut *transaction).await;
    let epoch = row.and_then(|row| row.try_get("epoch")).map_err(&failed)?;
    transaction.commit().await.map_err(&failed)?;
    Ok(epoch)
}

/// Gives the connection up where something went wrong with it.
fn settle<T>(writer: Writer<'_>, done: Result<T, PayError>) -> Result<T, PayError> {
    if done.is_err() {
        writer.abandon();
    }
    done
}

impl Payer {
    /// Makes payments until `stop` comes to its end. What cannot be done now is tried again, and the operator is told.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            // Between steps is no time to stop: a step that is begun ends, or the process dies.
            if let Err(PayError::Fenced) = self.round().await {
                tracing::error!("{}", PayError::Fenced);
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(self.settings.poll) => {}
                () = &mut stop => return,
            }
        }
    }

    /// Everything that is to be done, once. What goes wrong is noted for the operator; the next round is the next attempt.
    pub async fn round(&mut self) -> Result<(), PayError> {
        let done = self.attempt().await;
        let Err(error) = &done else { return done };
        if matches!(error, PayError::Fenced) {
            return done;
        }
        self.coins = None;
        let trouble = error.to_string();
        if let Err(PayError::Fenced) = self.note_trouble(Some(trouble.clone())).await {
            return Err(PayError::Fenced);
        }
        // The database may be what is wrong: then the log must do.
        self.say(None, Some(trouble));
        done
    }

    async fn attempt(&mut self) -> Result<(), PayError> {
        self.must_be_newest().await?;
        if self.coins.is_none() {
            self.coins = Some(Coins::load(&self.store, &self.descriptors).await?);
        }
        let tip = self.follow_chain().await?;
        self.sign_all().await?;
        self.follow_batches().await?;
        let mut trouble = None;
        if let Some(tip) = tip {
            self.carry_out_orders().await?;
            trouble = self.keep_schedule().await?;
            self.sign_all().await?;
            self.broadcast_all(tip).await?;
        }
        self.note_trouble(trouble).await
    }

    /// Brings the wallet to the tip, which is the answer; nothing if the node's chain is shorter than the wallet's.
    async fn follow_chain(&mut self) -> Result<Option<share::Hash>, PayError> {
        loop {
            let Some(coins) = &mut self.coins else { return Ok(None) };
            let reached = coins.follow(&*self.wire).await?;
            if coins.has_changed() {
                self.keep_coins().await?;
            }
            match reached {
                Reached::Tip(tip) => return Ok(Some(tip)),
                Reached::Behind => return Ok(None),
                Reached::More => {}
            }
        }
    }

    async fn keep_coins(&mut self) -> Result<(), PayError> {
        let store = self.store.clone();
        let mut writer = store.writer().await?;
        let done = self.write_coins(&mut writer).await;
        settle(writer, done)
    }

    async fn write_coins(&mut self, writer: &mut Writer<'_>) -> Result<(), PayError> {
        let mut transaction = self.begin(writer).await?;
        if let Some(coins) = &mut self.coins {
            coins.keep(&mut transaction).await?;
            let held = coins.held();
            let sql = "UPDATE payer SET coins_sats = $1, immature_sats = $2 WHERE id = 1";
            sqlx::query(sql)
                .bind(i64::try_from(held.spendable).unwrap_or(i64::MAX))
                .bind(i64::try_from(held.immature).unwrap_or(i64::MAX))
                .execute(&mut *transaction)
                .await
                .map_err(LedgerError::database("note what the wallet has"))?;
        }
        commit(transaction).await
    }

    /// Who is not the newest payer ends, also if there is nothing to write.
    async fn must_be_newest(&self) -> Result<(), PayError> {
        let failed = LedgerError::database("make sure that nobody else pays");
        let mut snapshot = self.store.snapshot().await?;
        let row = sqlx::query("SELECT epoch FROM payer WHERE id = 1").fetch_one(&mut *snapshot).await;
        let epoch: i64 = row.and_then(|row| row.try_get("epoch")).map_err(&failed)?;
        if epoch == self.epoch { Ok(()) } else { Err(PayError::Fenced) }
    }

    /// Begins a transaction of a payment: refused to whoever is not the newest payer (F-56).
    async fn begin<'a>(&self, writer: &'a mut Writer<'_>) -> Result<Transaction<'a, Any>, PayError> {
        let mut transaction = writer.begin().await?;
        let fence =
            sqlx::query("UPDATE payer SET epoch = epoch WHERE id = 1 AND epoch = $1").bind(self.epoch);
        let done = fence.execute(&mut *transaction).await;
        match done.map_err(LedgerError::database("make sure that nobody else pays"))?.rows_affected() {
            1 => Ok(transaction),
            _ => Err(PayError::Fenced),
        }
    }

    /// Does nothing, or never returns.
    async fn reach(&self, point: PayPoint) {
        if self.settings.halt.as_ref().is_some_and(|halt| halt(point)) {
            std::future::pending::<()>().await;
        }
    }

    fn coins(&mut self) -> Result<&mut Coins, PayError> {
        self.coins.as_mut().ok_or_else(|| PayError::Refused("the wallet is not loaded".to_owned()))
    }

    /// Tells the operator, once, what is wrong with a batch, or with payments at all.
    fn say(&mut self, batch: Option<i64>, trouble: Option<String>) {
        match trouble {
            None => drop(self.said.remove(&batch)),
            Some(trouble) if self.said.get(&batch) == Some(&trouble) => {}
            Some(trouble) => {
                match batch {
                    Some(batch) => tracing::error!(batch, "a payment does not move: {trouble}"),
                    None => tracing::error!("payments: {trouble}"),
                }
                self.said.insert(batch, trouble);
            }
        }
    }

    /// The same, in the database too.
    async fn note_trouble(&mut self, trouble: Option<String>) -> Result<(), PayError> {
        if self.said.get(&None) == trouble.as_ref() {
            return Ok(());
        }
        let store = self.store.clone();
        let mut writer = store.writer().await?;
        let done = async {
            let mut transaction = self.begin(&mut writer).await?;
            let sql = "UPDATE payer SET trouble = $1 WHERE id = 1";
            let query = sqlx::query(sql).bind(trouble.clone());
            query.execute(&mut *transaction).await.map_err(LedgerError::database("note what is wrong"))?;
            commit(transaction).await
        };
        let done = done.await;
        settle(writer, done)?;
        self.say(None, trouble);
        Ok(())
    }
}

async fn commit(transaction: Transaction<'_, Any>) -> Result<(), PayError> {
    let failed = LedgerError::database("commit a step of a payment");
    Ok(transaction.commit().await.map_err(failed)?)
}

/// The next number of a table that counts its rows.
async fn next_id(connection: &mut AnyConnection, sql: &'static str) -> Result<i64, PayError> {
    let failed = LedgerError::database("number a row");
    let row = sqlx::query(sql).fetch_one(connection).await.map_err(&failed)?;
    Ok(row.try_get("id").map_err(&failed)?)
}

/// As people write a transaction's id.
fn shown(txid: &Txid) -> String {
    txid.to_string()
}

/// As the database has it.
fn bytes(txid: &Txid) -> Vec<u8> {
    txid.to_byte_array().to_vec()
}

fn now_ms() -> i64 {
    clock::now_ms()
}

impl fmt::Debug for PayoutSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayoutSettings")
            .field("threshold", &self.threshold)
            .field("interval", &self.interval)
            .field("confirmations", &self.confirmations)
            .field("fee_from", &self.fee_from)
            .field("max_rate", &self.max_rate)
            .finish_non_exhaustive()
    }
}

impl Default for PayoutSettings {
    fn default() -> Self {
        Self {
            threshold: 100_000,
            interval: Some(Duration::from_secs(6 * 3600)),
            confirmations: 6,
            fee_from: FeeFrom::Pool,
            max_rate: 50_000,
            fallback_rate: None,
            target: 6,
            max_outputs: 500,
            psbt_dir: None,
            poll: Duration::from_secs(2),
            halt: None,
        }
    }
}
