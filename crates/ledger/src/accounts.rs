//! Who has earned what: answers from the database, to the digit as the journal has it.

use share::{Hash, Work};
use sqlx::{Any, AnyConnection, Row, Transaction, any::AnyRow};

use crate::{Ledger, LedgerError, journal::Account, payout, store::work};

/// The pool in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Shares that count.
    pub accepted_shares: u64,
    /// Submissions that earned nothing.
    pub rejected_shares: u64,
    /// Work of the accepted shares.
    pub work: Work,
    /// Blocks that were found and are not orphaned.
    pub blocks: u64,
    /// Blocks that were found and are not, or no longer, on chain.
    pub orphaned: u64,
    /// Payout addresses that have been seen.
    pub miners: u64,
    /// Rewards of the blocks that are on chain, millisatoshi: what miners and pool have been credited together, less
    /// what the reserve stands in for.
    pub rewards_msat: i64,
    /// The pool's part of them, millisatoshi.
    pub fee_msat: i64,
}

/// What a miner has, millisatoshi.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Of blocks that are not 100 deep yet.
    pub immature: i64,
    /// To be paid.
    pub available: i64,
    /// In a payment that is not confirmed yet.
    pub in_flight: i64,
    /// Paid, by the pool or by a coinbase.
    pub paid: i64,
}

/// A payout address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinerAccount {
    /// Canonical.
    pub address: String,
    /// Of all its workers.
    pub accepted_shares: u64,
    /// Of all its workers.
    pub rejected_shares: u64,
    /// Of all its workers.
    pub work: Work,
    /// What it has.
    pub balance: Balance,
    /// From which balance on it is paid, satoshi, where that is not the pool's own threshold.
    pub threshold_sats: Option<u64>,
    /// By name.
    pub workers: Vec<WorkerAccount>,
}

/// A machine of a miner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerAccount {
    /// May be empty.
    pub name: String,
    /// Shares that count.
    pub accepted_shares: u64,
    /// Submissions that earned nothing.
    pub rejected_shares: u64,
    /// Work of the accepted shares.
    pub work: Work,
    /// Time of the newest accepted share, milliseconds since 1970.
    pub last_share_ms: Option<u64>,
}

/// A miner's part of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The block, internal order.
    pub block_hash: Hash,
    /// Its height.
    pub height: u32,
    /// What the journal has for this miner and block now, millisatoshi: nothing before the block is on chain, and
    /// nothing any more once it has left it.
    pub amount_msat: i64,
    /// State of the block.
    pub status: BlockStatus,
    /// When the block was found, milliseconds since 1970.
    pub time_ms: u64,
    /// The miner's work in the block's window.
    pub work: Work,
    /// All work in the window.
    pub window_work: Work,
}

/// How far a found block has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockStatus {
    /// Found, not seen on chain yet.
    Candidate,
    /// On chain and credited.
    Immature,
    /// At least 100 deep.
    Mature,
    /// Not on chain; what was credited has been taken back.
    Orphaned,
}

/// A found block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Internal order.
    pub hash: Hash,
    /// Its height.
    pub height: u32,
    /// How far it has come.
    pub status: BlockStatus,
    /// What is divided, or would be if it were on chain, millisatoshi.
    pub reward_msat: i64,
    /// The pool's part of that.
    pub fee_msat: i64,
    /// Payout address of the finder.
    pub finder_address: String,
    /// Name of the finder's machine.
    pub finder_worker: String,
    /// When it was found, milliseconds since 1970.
    pub time_ms: u64,
    /// Network target, compact form.
    pub bits: u32,
    /// Txid of the coinbase, internal order.
    pub coinbase_txid: Hash,
    /// How deep it is, 1 at the tip; `None` when it is not on chain.
    pub confirmations: Option<u32>,
}

impl BlockStatus {
    /// `candidate`, `immature`, `mature` or `orphaned`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Immature => "immature",
            Self::Mature => "mature",
            Self::Orphaned => "orphaned",
        }
    }

    /// The status that [`Self::as_str`] names so.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Candidate, Self::Immature, Self::Mature, Self::Orphaned];
        all.into_iter().find(|status| status.as_str() == text)
    }
}

impl Ledger {
    /// The pool in all.
    pub async fn totals(&self) -> Result<Totals, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let sql = "SELECT accepted_shares, rejected_shares, CAST(work AS TEXT) AS work, \
                   (SELECT COUNT(*) FROM block WHERE state <> 'orphaned') AS blocks, \
                   (SELECT COUNT(*) FROM block WHERE state = 'orphaned') AS orphaned, \
                   (SELECT COUNT(*) FROM miner) AS miners, \
                   (SELECT -balance_msat FROM account WHERE name = 'rewards') AS rewards, \
                   (SELECT CAST(SUM(balance_msat) AS BIGINT) FROM account \
                    WHERE name IN ('pool:fee:immature', 'pool:fee:available')) AS fee FROM tally";
        let row = sqlx::query(sql).fetch_one(&mut *snapshot).await.map_err(failed)?;
        Ok(Totals {
            accepted_shares: unsigned(&row, "accepted_shares")?,
            rejected_shares: unsigned(&row, "rejected_shares")?,
            work: work(&row, "work")?,
            blocks: unsigned(&row, "blocks")?,
            orphaned: unsigned(&row, "orphaned")?,
            miners: unsigned(&row, "miners")?,
            rewards_msat: row.try_get("rewards").map_err(failed)?,
            fee_msat: row.try_get("fee").map_err(failed)?,
        })
    }

    /// The miner with this (canonical) address, if it has ever been seen.
    pub async fn miner(&self, address: &str) -> Result<Option<MinerAccount>, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let Some(id) = miner_id(&mut snapshot, address).await? else { return Ok(None) };
        let mut miner = MinerAccount {
            address: address.to_owned(),
            accepted_shares: 0,
            rejected_shares: 0,
            work: 0,
            balance: balance(&mut snapshot, id).await?,
            threshold_sats: payout::threshold(&mut snapshot, id).await?,
            workers: Vec::new(),
        };
        let sql = "SELECT name, accepted_shares, rejected_shares, CAST(work AS TEXT) AS work, last_share_ms \
                   FROM worker WHERE miner_id = $1 ORDER BY name";
        for row in sqlx::query(sql).bind(id).fetch_all(&mut *snapshot).await.map_err(failed)? {
            let last: Option<i64> = row.try_get("last_share_ms").map_err(failed)?;
            let worker = WorkerAccount {
                name: row.try_get("name").map_err(failed)?,
                accepted_shares: unsigned(&row, "accepted_shares")?,
                rejected_shares: unsigned(&row, "rejected_shares")?,
                work: work(&row, "work")?,
                last_share_ms: last.and_then(|last| u64::try_from(last).ok()),
            };
            miner.accepted_shares += worker.accepted_shares;
            miner.rejected_shares += worker.rejected_shares;
            miner.work = miner.work.saturating_add(worker.work);
            miner.workers.push(worker);
        }
        Ok(Some(miner))
    }

    /// The newest blocks that a miner has a part in, newest first; at most `limit`.
    pub async fn credits(&self, address: &str, limit: u32) -> Result<Vec<Credit>, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let Some(id) = miner_id(&mut snapshot, address).await? else { return Ok(Vec::new()) };
        let sql = "SELECT b.hash, b.height, b.state, b.found_ms, CAST(w.work AS TEXT) AS work, \
                   CAST(b.window_work AS TEXT) AS window_work, \
                   CAST((SELECT COALESCE(SUM(e.amount_msat), 0) FROM txn t JOIN entry e ON e.txn_id = t.id \
                    WHERE t.block_id = b.id AND e.account_id BETWEEN $2 AND $3) AS BIGINT) AS amount \
                   FROM block_weight w JOIN block b ON b.id = w.block_id \
                   WHERE w.miner_id = $1 ORDER BY w.block_id DESC LIMIT $4";
        let query = sqlx::query(sql).bind(id).bind(id * 8).bind(id * 8 + 7).bind(i64::from(limit));
        let rows = query.fetch_all(&mut *snapshot).await.map_err(failed)?;
        let credit = |row: &AnyRow| {
            Ok(Credit {
                block_hash: hash(row, "hash")?,
                height: small(row, "height")?,
                amount_msat: row.try_get("amount").map_err(failed)?,
                status: status(row)?,
                time_ms: unsigned(row, "found_ms")?,
                work: work(row, "work")?,
                window_work: work(row, "window_work")?,
            })
        };
        rows.iter().map(credit).collect()
    }

    /// The found blocks, newest first; at most `limit`, leaving out the first `offset`.
    pub async fn blocks(&self, limit: u32, offset: u64) -> Result<Vec<Block>, LedgerError> {
        let mut snapshot = self.store().snapshot().await?;
        let sql = "SELECT b.hash, b.height, b.state, b.reward_msat, b.fee_msat, b.found_ms, b.bits, b.coinbase_txid, \
                   b.confirmations, w.name, m.address \
                   FROM block b JOIN worker w ON w.id = b.finder_id JOIN miner m ON m.id = w.miner_id \
                   ORDER BY b.id DESC LIMIT $1 OFFSET $2";
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let query = sqlx::query(sql).bind(i64::from(limit)).bind(offset);
        let block = |row: &AnyRow| {
            let confirmations: Option<i64> = row.try_get("confirmations").map_err(failed)?;
            Ok(Block {
                hash: hash(row, "hash")?,
                height: small(row, "height")?,
                status: status(row)?,
                reward_msat: row.try_get("reward_msat").map_err(failed)?,
                fee_msat: row.try_get("fee_msat").map_err(failed)?,
                finder_address: row.try_get("address").map_err(failed)?,
                finder_worker: row.try_get("name").map_err(failed)?,
                time_ms: unsigned(row, "found_ms")?,
                bits: small(row, "bits")?,
                coinbase_txid: hash(row, "coinbase_txid")?,
                confirmations: confirmations.and_then(|depth| u32::try_from(depth).ok()),
            })
        };
        query.fetch_all(&mut *snapshot).await.map_err(failed)?.iter().map(block).collect()
    }
}

pub(crate) async fn miner_id(
    snapshot: &mut Transaction<'_, Any>,
    address: &str,
) -> Result<Option<i64>, LedgerError> {
    // What is no address cannot be one of ours; a NUL would be an error to Postgres.
    if address.len() > 128 || address.contains(char::is_control) {
        return Ok(None);
    }
    let query = sqlx::query("SELECT id FROM miner WHERE address = $1").bind(address);
    let row = query.fetch_optional(&mut **snapshot).await.map_err(failed)?;
    row.map(|row| row.try_get("id").map_err(failed)).transpose()
}

async fn balance(snapshot: &mut AnyConnection, miner: i64) -> Result<Balance, LedgerError> {
    use crate::journal::Purse::{Available, Immature, InFlight, Paid};
    let mut balance = Balance::default();
    let query = sqlx::query("SELECT id, balance_msat FROM account WHERE miner_id = $1").bind(miner);
    for row in query.fetch_all(snapshot).await.map_err(failed)? {
        let amount = row.try_get("balance_msat").map_err(failed)?;
        match Account::from_id(row.try_get("id").map_err(failed)?) {
            Some(Account::Miner(_, Immature)) => balance.immature = amount,
            Some(Account::Miner(_, Available)) => balance.available = amount,
            Some(Account::Miner(_, InFlight)) => balance.in_flight = amount,
            Some(Account::Miner(_, Paid)) => balance.paid = amount,
            _ => {}
        }
    }
    Ok(balance)
}

fn failed(source: sqlx::Error) -> LedgerError {
    LedgerError::Database { doing: "answer a question", source }
}

fn unsigned(row: &AnyRow, name: &str) -> Result<u64, LedgerError> {
    let value: i64 = row.try_get(name).map_err(failed)?;
    u64::try_from(value).map_err(|_| LedgerError::Unsound(format!("{name} is {value}")))
}

fn small(row: &AnyRow, name: &str) -> Result<u32, LedgerError> {
    let value: i64 = row.try_get(name).map_err(failed)?;
    u32::try_from(value).map_err(|_| LedgerError::Unsound(format!("{name} is {value}")))
}

fn hash(row: &AnyRow, name: &str) -> Result<Hash, LedgerError> {
    let bytes: Vec<u8> = row.try_get(name).map_err(failed)?;
    bytes.try_into().map_err(|_| LedgerError::Unsound(format!("a {name} is not 32 bytes")))
}

fn status(row: &AnyRow) -> Result<BlockStatus, LedgerError> {
    let text: String = row.try_get("state").map_err(failed)?;
    BlockStatus::parse(&text).ok_or_else(|| LedgerError::Unsound(format!("a block is in state {text:?}")))
}
