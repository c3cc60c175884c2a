//! What was paid, and how payments stand: answers for the operator, the miners and the monitors.

use share::Hash;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    FeeFrom, amounts, now_ms,
    rows::{failed, sats, to_txid},
};
use crate::{Ledger, LedgerError, PayError, wallet::kept};
use bdk_wallet::{Wallet, bitcoin::hashes::Hash as _};

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayoutState {
    /// Its money is in flight; it is not signed.
    Planned,
    /// Signed and stored.
    Signed,
    /// A node has taken it.
    Broadcast,
    /// Confirmed.
    Paid,
    /// Given up.
    Returned,
}

impl PayoutState {
    /// `planned`, `signed`, `broadcast`, `paid` or `returned`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Signed => "signed",
            Self::Broadcast => "broadcast",
            Self::Paid => "paid",
            Self::Returned => "returned",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Planned, Self::Signed, Self::Broadcast, Self::Paid, Self::Returned];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

/// A batch of payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payout {
    /// Counts up from 1.
    pub id: u64,
    /// How far it is.
    pub state: PayoutState,
    /// How many miners it pays.
    pub miners: u64,
    /// What they have in it, satoshi.
    pub sats: u64,
    /// Who bears the network's fee.
    pub fee_from: FeeFrom,
    /// Its transactions, the oldest first: at most one of them confirms.
    pub versions: Vec<PayoutVersion>,
    /// The one that is on the chain, internal order.
    pub txid: Option<Hash>,
    /// How deep that is, 1 at the tip.
    pub confirmations: Option<u32>,
    /// When it was planned, milliseconds since 1970.
    pub time_ms: u64,
    /// Why it does not move.
    pub trouble: Option<String>,
}

/// A transaction of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayoutVersion {
    /// Internal order.
    pub txid: Hash,
    /// What it leaves to the network, satoshi.
    pub fee_sats: u64,
    /// Whether its signed bytes are stored.
    pub is_signed: bool,
}

/// What a miner gets in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinerPayout {
    /// The batch.
    pub payout: u64,
    /// How far that is.
    pub state: PayoutState,
    /// Of the miner's balance, satoshi. Where miners bear the fee, the output is less.
    pub sats: u64,
    /// The transaction that pays it: the one on the chain, else the newest. Internal order.
    pub txid: Hash,
    /// How deep it is, if it is on the chain.
    pub confirmations: Option<u32>,
    /// When it was planned, milliseconds since 1970.
    pub time_ms: u64,
}

/// How payments stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayoutFigures {
    /// What the wallet can spend, satoshi; nothing if it was never looked at.
    pub coins_sats: Option<u64>,
    /// Its coins of blocks that are not 100 deep.
    pub immature_sats: Option<u64>,
    /// What miners are owed and may be paid, and what is in flight, millisatoshi.
    pub liabilities_msat: u64,
    /// When the last batch was planned, milliseconds since 1970.
    pub last_ms: Option<u64>,
    /// Batches on their way.
    pub open: u64,
    /// Of these, those that do not move: something is wrong, or they are older than a day.
    pub stuck: u64,
    /// Why nothing, or not all that is due, is paid.
    pub trouble: Option<String>,
}

impl Ledger {
    /// The batches, newest first; at most `limit`, leaving out the first `offset`.
    pub async fn payouts(&self, limit: u32, offset: u64) -> Result<Vec<Payout>, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        payouts(&mut snapshot, limit, offset).await
    }

    /// What the miner with this (canonical) address was paid on the chain, newest first; at most `limit`.
    pub async fn miner_payouts(&self, address: &str, limit: u32) -> Result<Vec<MinerPayout>, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let Some(id) = crate::accounts::miner_id(&mut snapshot, address).await? else {
            return Ok(Vec::new());
        };
        let sql = "SELECT p.id, p.state, i.sats, p.created_ms, p.confirmations, COALESCE(p.txid, \
                   (SELECT t.txid FROM payout_tx t WHERE t.payout_id = p.id ORDER BY t.version DESC LIMIT 1)) AS txid \
                   FROM payout_item i JOIN payout p ON p.id = i.payout_id \
                   WHERE i.miner_id = $1 ORDER BY p.id DESC LIMIT $2";
        let query = sqlx::query(sql).bind(id).bind(i64::from(limit));
        let payout = |row: &AnyRow| {
            Ok(MinerPayout {
                payout: sats(row, "id")?,
                state: state(row)?,
                sats: sats(row, "sats")?,
                txid: hash(row)?.unwrap_or_default(),
                confirmations: depth(row)?,
                time_ms: sats(row, "created_ms")?,
            })
        };
        query.fetch_all(&mut *snapshot).await.map_err(failed)?.iter().map(payout).collect()
    }

    /// How payments stand.
    pub async fn payout_figures(&self) -> Result<PayoutFigures, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        figures(&mut snapshot).await
    }
}

/// What the wallet with this name ([`crate::Descriptors::name`]) has by its own record of the chain, satoshi, coins of blocks
/// that are not 100 deep among it; and which batches are not as it has seen them, in words. Nothing if the ledger has no such
/// wallet.
pub(crate) async fn coins(
    connection: &mut AnyConnection,
    wallet: &str,
) -> Result<Option<(u64, Vec<String>)>, PayError> {
    let Some(changes) = kept(connection, wallet).await? else { return Ok(None) };
    let loaded = Wallet::load().load_wallet_no_persist(changes);
    let loaded = loaded.map_err(|error| crate::WalletError::Kept(error.to_string()))?;
    let Some(seen) = loaded else { return Ok(None) };
    let balance = seen.balance();
    let sats = balance.confirmed.to_sat().saturating_add(balance.immature.to_sat());
    let sql = "SELECT p.id, t.txid FROM payout p JOIN payout_tx t ON t.payout_id = p.id \
               WHERE p.state = 'returned' AND p.wallet = $1 ORDER BY p.id";
    let mut findings = Vec::new();
    for row in sqlx::query(sql).bind(wallet.to_owned()).fetch_all(connection).await.map_err(failed)? {
        let (id, txid): (i64, Vec<u8>) =
            (row.try_get("id").map_err(failed)?, row.try_get("txid").map_err(failed)?);
        let tx = seen.get_tx(to_txid(&txid)?);
        if tx.is_some_and(|tx| tx.chain_position.is_confirmed()) {
            findings
                .push(format!("batch {id} is returned, but its transaction is on the chain: it was paid"));
        }
    }
    Ok(Some((sats, findings)))
}

/// Available and in flight, but for what is on the chain: the wallet does not have that any more.
pub(crate) async fn liabilities(connection: &mut AnyConnection) -> Result<u64, LedgerError> {
    let sql = "SELECT CAST(COALESCE(SUM(CASE WHEN id % 8 IN (1, 3) THEN balance_msat ELSE 0 END), 0) AS BIGINT) AS owed, \
               (SELECT CAST(COALESCE(SUM(sats), 0) AS BIGINT) FROM payout \
                WHERE txid IS NOT NULL AND state NOT IN ('paid', 'returned')) AS gone FROM account WHERE miner_id IS NOT NULL";
    let row = sqlx::query(sql).fetch_one(connection).await.map_err(failed)?;
    Ok(sats(&row, "owed")?.saturating_sub(sats(&row, "gone")?.saturating_mul(amounts::MSAT as u64)))
}

pub(super) async fn figures(connection: &mut AnyConnection) -> Result<PayoutFigures, LedgerError> {
    const DAY_MS: i64 = 86_400_000;
    let sql = "SELECT coins_sats, immature_sats, trouble, (SELECT MAX(created_ms) FROM payout) AS last_ms, \
               (SELECT COUNT(*) FROM payout WHERE state NOT IN ('paid', 'returned')) AS open, \
               (SELECT COUNT(*) FROM payout WHERE state NOT IN ('paid', 'returned') \
                AND (trouble IS NOT NULL OR created_ms < $1)) AS stuck FROM payer";
    let query = sqlx::query(sql).bind(now_ms() - DAY_MS);
    let row = query.fetch_one(&mut *connection).await.map_err(failed)?;
    let optional = |name: &str| -> Result<Option<u64>, LedgerError> {
        let value: Option<i64> = row.try_get(name).map_err(failed)?;
        Ok(value.and_then(|value| u64::try_from(value).ok()))
    };
    Ok(PayoutFigures {
        coins_sats: optional("coins_sats")?,
        immature_sats: optional("immature_sats")?,
        liabilities_msat: liabilities(connection).await?,
        last_ms: optional("last_ms")?,
        open: sats(&row, "open")?,
        stuck: sats(&row, "stuck")?,
        trouble: row.try_get("trouble").map_err(failed)?,
    })
}

pub(super) async fn payouts(
    connection: &mut AnyConnection,
    limit: u32,
    offset: u64,
) -> Result<Vec<Payout>, LedgerError> {
    let sql = "SELECT p.id, p.state, p.fee_from, p.sats, p.txid, p.confirmations, p.created_ms, p.trouble, \
               (SELECT COUNT(*) FROM payout_item i WHERE i.payout_id = p.id) AS miners \
               FROM payout p ORDER BY p.id DESC LIMIT $1 OFFSET $2";
    let query = sqlx::query(sql).bind(i64::from(limit)).bind(i64::try_from(offset).unwrap_or(i64::MAX));
    let rows = query.fetch_all(&mut *connection).await.map_err(failed)?;
    let mut payouts = Vec::with_capacity(rows.len());
    for row in &rows {
        let id = sats(row, "id")?;
        let from: String = row.try_get("fee_from").map_err(failed)?;
        let sql = "SELECT txid, fee_sats, CASE WHEN raw IS NULL THEN 0 ELSE 1 END AS signed FROM payout_tx \
                   WHERE payout_id = $1 ORDER BY version";
        let query = sqlx::query(sql).bind(i64::try_from(id).unwrap_or(i64::MAX));
        let versions = query.fetch_all(&mut *connection).await.map_err(failed)?;
        let version = |row: &AnyRow| {
            Ok(PayoutVersion {
                txid: hash(row)?.unwrap_or_default(),
                fee_sats: sats(row, "fee_sats")?,
                is_signed: number(row, "signed")? == 1,
            })
        };
        payouts.push(Payout {
            id,
            state: state(row)?,
            miners: sats(row, "miners")?,
            sats: sats(row, "sats")?,
            fee_from: FeeFrom::parse(&from)
                .ok_or_else(|| LedgerError::Unsound(format!("payout {id} has its fee from {from:?}")))?,
            versions: versions.iter().map(version).collect::<Result<_, LedgerError>>()?,
            txid: hash(row)?,
            confirmations: depth(row)?,
            time_ms: sats(row, "created_ms")?,
            trouble: row.try_get("trouble").map_err(failed)?,
        });
    }
    Ok(payouts)
}

/// Postgres tells an integer of a CASE in 32 bits.
fn number(row: &AnyRow, name: &str) -> Result<i64, LedgerError> {
    row.try_get::<i64, _>(name).or_else(|_| row.try_get::<i32, _>(name).map(i64::from)).map_err(failed)
}

fn state(row: &AnyRow) -> Result<PayoutState, LedgerError> {
    let text: String = row.try_get("state").map_err(failed)?;
    PayoutState::parse(&text).ok_or_else(|| LedgerError::Unsound(format!("a payout is in state {text:?}")))
}

fn depth(row: &AnyRow) -> Result<Option<u32>, LedgerError> {
    let depth: Option<i64> = row.try_get("confirmations").map_err(failed)?;
    Ok(depth.and_then(|depth| u32::try_from(depth).ok()))
}

fn hash(row: &AnyRow) -> Result<Option<Hash>, LedgerError> {
    let bytes: Option<Vec<u8>> = row.try_get("txid").map_err(failed)?;
    bytes.map(|bytes| Ok(to_txid(&bytes)?.to_byte_array())).transpose()
}
