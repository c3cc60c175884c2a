//! Asking for a movement, and carrying it out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sqlx::{AnyConnection, Row};
use tokio::sync::watch;

use super::{Movement, Place};
use crate::{
    Desk, LedgerError, clock,
    journal::{self, Account, Kind, Post, Purse},
    store::{Dialect, Store, Writer},
};

/// How keys of the journal begin that are made by hand: the rest is the operator's own key.
const KEYS: [&str; 2] = ["correction:operator:", "fund:"];

impl Desk {
    /// Asks for a movement, and waits for what comes of it; nothing if nobody takes it up in time. It is done then when a
    /// pool runs.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn book(&self, movement: &Movement, patience: Duration) -> Result<Option<String>, LedgerError> {
        let argument = serde_json::to_string(movement).unwrap_or_default();
        let asked = sqlx::query("INSERT INTO ledger_order (argument, asked_ms) VALUES ($1, $2) RETURNING id")
            .bind(argument)
            .bind(clock::now_ms());
        let answer = "SELECT outcome FROM ledger_order WHERE id = $1 AND outcome IS NOT NULL";
        self.ask(asked, answer, patience).await
    }
}

/// Carries out what is asked for, until `stop` is true.
pub(crate) async fn follow(store: Arc<Store>, every: Duration, mut stop: watch::Receiver<bool>) {
    let mut away = false;
    while !*stop.borrow() {
        match step(&store).await {
            Err(error) if !std::mem::replace(&mut away, true) => {
                tracing::error!(%error, "what the operator asks of the ledger cannot be done; it is tried again");
            }
            Ok(()) => away = false,
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stop.changed() => return,
        }
    }
}

async fn step(store: &Store) -> Result<(), LedgerError> {
    let failed = LedgerError::database("read what the operator asks for");
    let sql = "SELECT id, argument FROM ledger_order WHERE done_ms IS NULL ORDER BY id LIMIT 100";
    let rows = sqlx::query(sql).fetch_all(store.reader()).await.map_err(&failed)?;
    for row in rows {
        let (id, argument) = (row.try_get("id").map_err(&failed)?, row.try_get("argument").map_err(&failed)?);
        carry_out(store, id, argument).await?;
    }
    Ok(())
}

/// One order, in one transaction; what the database itself refuses is noted as refused in another.
async fn carry_out(store: &Store, id: i64, argument: String) -> Result<(), LedgerError> {
    let dialect = store.dialect();
    let mut writer = store.writer().await?;
    let mut done = write(&mut writer, dialect, id, Ok(&argument)).await;
    if let Err(error) = &done
        && error.is_refusal()
    {
        let why = error.to_string();
        done = write(&mut writer, dialect, id, Err(why)).await;
    }
    match done {
        Ok(Some(words)) => tracing::info!(order = id, "{words}"),
        Ok(None) => {}
        Err(error) => {
            writer.abandon();
            return Err(error);
        }
    }
    Ok(())
}

/// Nothing if it was done meanwhile.
async fn write(
    writer: &mut Writer<'_>,
    dialect: Dialect,
    id: i64,
    asked: Result<&str, String>,
) -> Result<Option<String>, LedgerError> {
    let failed = LedgerError::database("note an order as done");
    let mut transaction = writer.begin().await?;
    let words = match asked {
        Ok(argument) => match serde_json::from_str(argument) {
            Ok(movement) => move_it(&mut transaction, dialect, &movement).await?,
            Err(error) => Err(format!("the order cannot be read: {error}")),
        },
        Err(why) => Err(why),
    };
    let words = words.unwrap_or_else(|why| format!("refused: {why}"));
    let sql = "UPDATE ledger_order SET done_ms = $1, outcome = $2 WHERE id = $3 AND done_ms IS NULL";
    let query = sqlx::query(sql).bind(clock::now_ms()).bind(words.clone()).bind(id);
    if query.execute(&mut *transaction).await.map_err(&failed)?.rows_affected() == 0 {
        return Ok(None);
    }
    transaction.commit().await.map_err(&failed)?;
    Ok(Some(words))
}

/// What was done, or why it is not, in words.
async fn move_it(
    connection: &mut AnyConnection,
    dialect: Dialect,
    movement: &Movement,
) -> Result<Result<String, String>, LedgerError> {
    if let Err(wrong) = movement.check() {
        return Ok(Err(wrong.to_string()));
    }
    let Some((kind, key, entries)) = entries(connection, movement).await? else {
        let address = movement.miner().unwrap_or_default();
        return Ok(Err(format!("nobody has mined here with the address {address}")));
    };
    let ((from, _), msat) = (entries[0], entries[1].1);
    if let Some((txn, before)) = written(connection, &key).await? {
        return Ok(match before == BTreeMap::from(entries) {
            true => Ok(format!("done before, as transaction {txn} of the journal: nothing is moved again")),
            false => Err(format!(
                "the key {} is that of transaction {txn}, which moved something else: look at it with \
                 sluice ledger history, and give another key",
                movement.key
            )),
        });
    }
    let has = balance(connection, from).await?;
    let may_owe = from == Account::Operator || (from == Account::Reserve && movement.overdraw);
    if has < msat && !may_owe {
        let advice = match from {
            Account::Miner(..) => "what is immature or in flight cannot be taken: take less, or wait",
            Account::Reserve => "move it there before (sluice ledger fund), or say --overdraw",
            _ => "take less, or wait until blocks are mature",
        };
        return Ok(Err(format!(
            "{} has {has} msat available, {msat} are to be taken: {advice}",
            movement.from.name()
        )));
    }
    let post = Post { kind, key, block: None, now_ms: clock::now_ms(), entries: &entries };
    let txn = journal::post_for(connection, dialect, &post, Some(&movement.reason)).await?;
    let (from_has, to_has) = (balance(connection, from).await?, balance(connection, entries[1].0).await?);
    let [from, to] = [&movement.from, &movement.to].map(Place::name);
    Ok(Ok(format!(
        "transaction {txn} of the journal: {msat} msat from {from} (has {from_has} now) to {to} (has {to_has} now)"
    )))
}

/// What a movement writes into the journal, and under which key; nothing if nobody has mined with its address.
pub(super) async fn entries(
    connection: &mut AnyConnection,
    movement: &Movement,
) -> Result<Option<(Kind, String, [(Account, i64); 2])>, LedgerError> {
    let (kind, prefix, miner) = match movement.miner() {
        None => (Kind::Fund, KEYS[1], 0),
        Some(address) => match miner_id(connection, address).await? {
            Some(id) => (Kind::Correction, KEYS[0], id),
            None => return Ok(None),
        },
    };
    let [from, to] = [&movement.from, &movement.to].map(|place| account(place, miner));
    let msat = i64::try_from(movement.msat).unwrap_or(i64::MAX);
    Ok(Some((kind, format!("{prefix}{}", movement.key), [(from, -msat), (to, msat)])))
}

fn account(place: &Place, miner: i64) -> Account {
    match place {
        Place::Miner(_) => Account::Miner(miner, Purse::Available),
        Place::Fee => Account::FeeAvailable,
        Place::Reserve => Account::Reserve,
        Place::Operator => Account::Operator,
    }
}

async fn miner_id(connection: &mut AnyConnection, address: &str) -> Result<Option<i64>, LedgerError> {
    let failed = LedgerError::database("look for a miner");
    let query = sqlx::query("SELECT id FROM miner WHERE address = $1").bind(address.to_owned());
    let row = query.fetch_optional(connection).await.map_err(&failed)?;
    row.map(|row| row.try_get("id").map_err(&failed)).transpose()
}

async fn balance(connection: &mut AnyConnection, account: Account) -> Result<i64, LedgerError> {
    let failed = LedgerError::database("read a balance");
    let query = sqlx::query("SELECT balance_msat FROM account WHERE id = $1").bind(account.id());
    let row = query.fetch_optional(connection).await.map_err(&failed)?;
    row.map_or(Ok(0), |row| row.try_get("balance_msat").map_err(&failed))
}

/// The transaction with this key and its entries, if there is one.
async fn written(
    connection: &mut AnyConnection,
    key: &str,
) -> Result<Option<(i64, BTreeMap<Account, i64>)>, LedgerError> {
    let failed = LedgerError::database("look for a transaction");
    let sql = "SELECT t.id, e.account_id, e.amount_msat FROM txn t JOIN entry e ON e.txn_id = t.id \
               WHERE t.idem_key = $1";
    let rows = sqlx::query(sql).bind(key.to_owned()).fetch_all(connection).await.map_err(&failed)?;
    let (mut txn, mut entries) = (None, BTreeMap::new());
    for row in rows {
        txn = Some(row.try_get("id").map_err(&failed)?);
        let id: i64 = row.try_get("account_id").map_err(&failed)?;
        let account =
            Account::from_id(id).ok_or_else(|| LedgerError::Unsound(format!("there is no account {id}")))?;
        entries.insert(account, row.try_get("amount_msat").map_err(&failed)?);
    }
    Ok(txn.map(|txn| (txn, entries)))
}
