//! Batches and their transactions as the database has them.

use std::collections::HashMap;

use bdk_wallet::bitcoin::{OutPoint, Txid, hashes::Hash as _};
use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};

use super::{FeeFrom, PayError, PayoutState, bytes, now_ms};
use crate::{
    LedgerError,
    store::{Column, Dialect, Hex, json, write},
    wallet::Draft,
};

/// A batch with its transactions, the oldest first.
pub(super) struct Batch {
    pub id: i64,
    pub state: PayoutState,
    pub fee_from: FeeFrom,
    pub settlements: i64,
    /// On the chain when last seen.
    pub txid: Option<Txid>,
    pub confirmations: Option<i64>,
    pub trouble: Option<String>,
    pub versions: Vec<Version>,
}

/// A transaction of a batch.
pub(super) struct Version {
    pub txid: Txid,
    pub number: i64,
    pub psbt: String,
    pub raw: Option<Vec<u8>>,
    pub fee: u64,
    pub vsize: u64,
    pub inputs: Vec<OutPoint>,
}

impl Batch {
    /// Whether money is still in flight.
    pub fn is_open(&self) -> bool {
        matches!(self.state, PayoutState::Planned | PayoutState::Signed | PayoutState::Broadcast)
    }

    /// The transaction with this id.
    pub fn version(&self, txid: Txid) -> Option<&Version> {
        self.versions.iter().find(|version| version.txid == txid)
    }
}

/// The batches that are looked at.
pub(super) async fn watched(connection: &mut AnyConnection) -> Result<Vec<Batch>, LedgerError> {
    batches(connection, "WHERE p.watched = 1").await
}

/// All batches that there ever were.
pub(super) async fn all(connection: &mut AnyConnection) -> Result<Vec<Batch>, LedgerError> {
    batches(connection, "").await
}

/// The batches `which`: a condition of SQL on `payout p`.
async fn batches(connection: &mut AnyConnection, which: &'static str) -> Result<Vec<Batch>, LedgerError> {
    let mut versions = versions(connection, which).await?;
    let sql = format!(
        "SELECT p.id, p.state, p.fee_from, p.settlements, p.txid, p.confirmations, p.trouble FROM payout p {which} \
         ORDER BY p.id"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await.map_err(failed)?;
    rows.iter().map(|row| batch(row, &mut versions)).collect()
}

fn batch(row: &AnyRow, versions: &mut HashMap<i64, Vec<Version>>) -> Result<Batch, LedgerError> {
    let id: i64 = row.try_get("id").map_err(failed)?;
    let (state, from): (String, String) =
        (row.try_get("state").map_err(failed)?, row.try_get("fee_from").map_err(failed)?);
    let unknown = |what: &str| LedgerError::Unsound(format!("payout {id} has {what}"));
    let txid: Option<Vec<u8>> = row.try_get("txid").map_err(failed)?;
    Ok(Batch {
        id,
        state: PayoutState::parse(&state).ok_or_else(|| unknown("an unknown state"))?,
        fee_from: FeeFrom::parse(&from).ok_or_else(|| unknown("an unknown fee_from"))?,
        settlements: row.try_get("settlements").map_err(failed)?,
        txid: txid.map(|txid| to_txid(&txid)).transpose()?,
        confirmations: row.try_get("confirmations").map_err(failed)?,
        trouble: row.try_get("trouble").map_err(failed)?,
        versions: versions.remove(&id).unwrap_or_default(),
    })
}

/// The transactions of the batches `which`, by batch.
async fn versions(
    connection: &mut AnyConnection,
    which: &'static str,
) -> Result<HashMap<i64, Vec<Version>>, LedgerError> {
    let sql = format!(
        "SELECT i.txid, i.prev_txid, i.prev_vout FROM payout p JOIN payout_tx t ON t.payout_id = p.id \
         JOIN payout_input i ON i.txid = t.txid {which} ORDER BY i.txid, i.position"
    );
    let mut inputs: HashMap<Txid, Vec<OutPoint>> = HashMap::new();
    for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *connection).await.map_err(failed)? {
        let txid: Vec<u8> = row.try_get("txid").map_err(failed)?;
        inputs.entry(to_txid(&txid)?).or_default().push(coin(&row)?);
    }
    let sql = format!(
        "SELECT t.payout_id, t.txid, t.version, t.psbt, t.raw, t.fee_sats, t.vsize FROM payout p \
         JOIN payout_tx t ON t.payout_id = p.id {which} ORDER BY t.payout_id, t.version"
    );
    let mut versions: HashMap<i64, Vec<Version>> = HashMap::new();
    for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await.map_err(failed)? {
        let txid: Vec<u8> = row.try_get("txid").map_err(failed)?;
        let txid = to_txid(&txid)?;
        let version = Version {
            txid,
            number: row.try_get("version").map_err(failed)?,
            psbt: row.try_get("psbt").map_err(failed)?,
            raw: row.try_get("raw").map_err(failed)?,
            fee: sats(&row, "fee_sats")?,
            vsize: sats(&row, "vsize")?,
            inputs: inputs.remove(&txid).unwrap_or_default(),
        };
        versions.entry(row.try_get("payout_id").map_err(failed)?).or_default().push(version);
    }
    Ok(versions)
}

/// The coins that no other batch may touch.
pub(super) async fn locked(connection: &mut AnyConnection) -> Result<Vec<OutPoint>, PayError> {
    let sql = "SELECT i.prev_txid, i.prev_vout FROM payout_input i JOIN payout_tx t ON t.txid = i.txid \
               JOIN payout p ON p.id = t.payout_id WHERE p.watched = 1 AND p.state <> 'returned'";
    let rows = sqlx::query(sql).fetch_all(connection).await.map_err(failed)?;
    rows.iter().map(|row| Ok(coin(row)?)).collect()
}

/// Whom a batch pays: miner and satoshi, by miner.
pub(super) async fn items(connection: &mut AnyConnection, batch: i64) -> Result<Vec<(i64, u64)>, PayError> {
    let sql = "SELECT miner_id, sats FROM payout_item WHERE payout_id = $1 ORDER BY miner_id";
    let rows = sqlx::query(sql).bind(batch).fetch_all(connection).await.map_err(failed)?;
    rows.iter().map(|row| Ok((row.try_get("miner_id").map_err(failed)?, sats(row, "sats")?))).collect()
}

/// The same with addresses.
pub(super) async fn addresses(
    connection: &mut AnyConnection,
    batch: i64,
) -> Result<Vec<(String, u64)>, PayError> {
    let sql = "SELECT m.address, i.sats FROM payout_item i JOIN miner m ON m.id = i.miner_id \
               WHERE i.payout_id = $1 ORDER BY i.miner_id";
    let rows = sqlx::query(sql).bind(batch).fetch_all(connection).await.map_err(failed)?;
    rows.iter().map(|row| Ok((row.try_get("address").map_err(failed)?, sats(row, "sats")?))).collect()
}

/// Writes a transaction of a batch with the coins that it spends.
pub(super) async fn add_version(
    connection: &mut AnyConnection,
    dialect: Dialect,
    (batch, number): (i64, i64),
    draft: &Draft,
) -> Result<Txid, PayError> {
    let txid = draft.psbt.unsigned_tx.compute_txid();
    let sql = "INSERT INTO payout_tx (txid, payout_id, version, psbt, fee_sats, vsize, created_ms) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(sql)
        .bind(bytes(&txid))
        .bind(batch)
        .bind(number)
        .bind(draft.psbt.to_string())
        .bind(signed(draft.fee)?)
        .bind(signed(draft.vsize)?)
        .bind(now_ms())
        .execute(&mut *connection)
        .await
        .map_err(LedgerError::database("write a transaction of a payout"))?;
    let own = bytes(&txid);
    let coins: Vec<(OutPoint, [u8; 32])> =
        draft.inputs().map(|coin| (coin, coin.txid.to_byte_array())).collect();
    let rows: Vec<_> = (0i64..)
        .zip(&coins)
        .map(|(position, (coin, prev))| (Hex(&own), position, Hex(prev), i64::from(coin.vout)))
        .collect();
    let columns = [
        ("txid", Column::Bytes),
        ("position", Column::Integer),
        ("prev_txid", Column::Bytes),
        ("prev_vout", Column::Integer),
    ];
    let sql = format!(
        "INSERT INTO payout_input (txid, position, prev_txid, prev_vout) \
         SELECT t.txid, t.position, t.prev_txid, t.prev_vout FROM {} AS t",
        dialect.table(&columns)
    );
    write(connection, "lock coins", sql, json(&rows), &[]).await?;
    Ok(txid)
}

/// Notes why a batch does not move; nothing if it does.
pub(super) async fn note(
    connection: &mut AnyConnection,
    batch: i64,
    trouble: Option<&str>,
) -> Result<(), PayError> {
    let query = sqlx::query("UPDATE payout SET trouble = $1 WHERE id = $2").bind(trouble.map(str::to_owned));
    query.bind(batch).execute(connection).await.map_err(failed)?;
    Ok(())
}

fn coin(row: &AnyRow) -> Result<OutPoint, LedgerError> {
    let txid: Vec<u8> = row.try_get("prev_txid").map_err(failed)?;
    let vout: i64 = row.try_get("prev_vout").map_err(failed)?;
    let vout =
        u32::try_from(vout).map_err(|_| LedgerError::Unsound(format!("an output has number {vout}")))?;
    Ok(OutPoint { txid: to_txid(&txid)?, vout })
}

pub(super) fn to_txid(bytes: &[u8]) -> Result<Txid, LedgerError> {
    Txid::from_slice(bytes).map_err(|_| LedgerError::Unsound("a transaction's id is not 32 bytes".to_owned()))
}

pub(super) fn sats(row: &AnyRow, name: &str) -> Result<u64, LedgerError> {
    let value: i64 = row.try_get(name).map_err(failed)?;
    u64::try_from(value).map_err(|_| LedgerError::Unsound(format!("{name} is {value}")))
}

pub(super) fn signed(sats: u64) -> Result<i64, LedgerError> {
    i64::try_from(sats).map_err(|_| LedgerError::Unsound(format!("{sats} satoshi do not exist")))
}

pub(super) fn failed(source: sqlx::Error) -> LedgerError {
    LedgerError::Database { doing: "read or write payouts", source }
}
