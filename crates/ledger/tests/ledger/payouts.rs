//! What the database holds of payments, and who may write it. The chain itself is in the end-to-end tests.

use std::{future::pending, sync::Arc, time::Duration};

use async_trait::async_trait;
use bitcoin::{
    Address, Amount, OutPoint, Psbt, Transaction, TxIn, TxOut, Txid, absolute::LockTime,
    address::NetworkUnchecked, consensus::serialize, hashes::Hash as _, transaction,
};
use ledger::{Descriptors, Hash, Payer, PayoutSettings, PayoutState, Scheme, Sent, Wire, WireError};
use tokio::time::timeout;

use crate::rig::{Rig, Shard, Tree, execute, hash, miner, until, until_block, worker};

/// Of a test vector of BIP 32: worth nothing.
const WALLET: &str = "wpkh(tpubD6NzVbkrYhZ4XgiXtGrdW5XDAPFCL9h7we1vwNCpn8tGbBcgfVYjXyhWo4E1xkh56hjod1RhGjxbaTLV3X4FyWuejifB9jusQ46QzG87VKp/<0;1>/*)";

/// All nodes are away.
struct Silence;

#[async_trait]
impl Wire for Silence {
    async fn tip(&self) -> Result<(Hash, u32), WireError> {
        Err(WireError("connection refused".to_owned()))
    }

    async fn hash_at(&self, _height: u32) -> Result<Option<Hash>, WireError> {
        self.tip().await.map(|(hash, _)| Some(hash))
    }

    async fn block(&self, _hash: &Hash) -> Result<Vec<u8>, WireError> {
        self.tip().await.map(|_| Vec::new())
    }

    async fn broadcast(&self, _transaction: &[u8]) -> Result<Sent, WireError> {
        self.tip().await.map(|_| Sent::Taken)
    }

    async fn fee_rate(&self, _blocks: u16) -> Result<Option<u64>, WireError> {
        self.tip().await.map(|_| None)
    }
}

async fn payer(ledger: &ledger::Ledger) -> Payer {
    let wallet = Descriptors::parse(WALLET, None, crate::rig::NETWORK, 0).unwrap();
    let settings = PayoutSettings { poll: Duration::from_millis(20), ..PayoutSettings::default() };
    ledger.payer(wallet, settings, Arc::new(Silence), Tree::new()).await.unwrap()
}

/// F-56: the older one stops by itself, whatever it is at; the newer one goes on, and says what is wrong.
pub async fn one_payer_at_a_time(rig: Rig) {
    let spool = rig.spool();
    let ledger = rig.open(&spool, Scheme::Pplns { factor: 2 }).await;
    let old = tokio::spawn(payer(&ledger).await.run(pending()));
    until("the silence is noted", async || {
        let trouble = ledger.payout_figures().await.unwrap().trouble;
        trouble.is_some_and(|trouble| {
            trouble.contains("no node answers") && trouble.contains("connection refused")
        })
    })
    .await;
    execute(&mut rig.raw().await, "UPDATE payer SET trouble = NULL").await.unwrap();
    let new = tokio::spawn(payer(&ledger).await.run(pending()));
    until("the newer one is at work", async || ledger.payout_figures().await.unwrap().trouble.is_some())
        .await;
    // The older one has nothing new to say; what it says next is refused.
    drop(old);
    let mut third = payer(&ledger).await;
    assert!(third.round().await.is_err_and(|error| error.to_string().contains("no node answers")));
    timeout(Duration::from_secs(30), async {
        execute(&mut rig.raw().await, "UPDATE payer SET epoch = epoch + 1").await.unwrap();
        third.run(pending()).await;
    })
    .await
    .expect("a payer that is not the newest ends");
    new.abort();
}

/// Pays miner 1 600 sat out of a coin of 1,000, and leaves 10 to the network.
fn payment() -> Psbt {
    let pays = |number: u32, sats: u64| {
        let address = miner(number).parse::<Address<NetworkUnchecked>>().unwrap().assume_checked();
        TxOut { value: Amount::from_sat(sats), script_pubkey: address.script_pubkey() }
    };
    let coin = OutPoint { txid: Txid::from_byte_array([7; 32]), vout: 3 };
    let unsigned = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output: coin, ..TxIn::default() }],
        output: vec![pays(1, 600), pays(50, 390)],
    };
    let mut psbt = Psbt::from_unsigned_tx(unsigned).unwrap();
    psbt.inputs[0].witness_utxo = Some(pays(51, 1_000));
    psbt
}

/// Its bytes as a literal of SQL.
pub fn literal(rig: &Rig, bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if rig.is_postgres() { format!("decode('{digits}', 'hex')") } else { format!("x'{digits}'") }
}

/// A ledger in which miner 1 has 1,000,000 sat available, and a batch of 600 sat to it.
async fn with_a_batch(rig: &Rig) -> ledger::Ledger {
    let (spool, chain) = (rig.spool(), Tree::new());
    let running = rig.run(&spool, Scheme::Pplns { factor: 2 }, &chain).await;
    let mut shard = Shard::new(&spool, 0);
    let alice = worker(1, "rig");
    shard.share(&alice, 4);
    shard.found(Scheme::Pplns { factor: 2 }, &alice, 1, 1_000_000);
    shard.commit();
    chain.grow(hash(0), hash(1), 100);
    until_block(&running.ledger, ledger::BlockStatus::Mature, Some(100)).await;
    let ledger = running.stop().await;
    let psbt = payment();
    let txid = literal(rig, psbt.unsigned_tx.compute_txid().as_byte_array());
    let coin = literal(rig, &[7; 32]);
    let sql = format!(
        "BEGIN;
         INSERT INTO payout (id, wallet, state, fee_from, sats, created_ms) VALUES (1, 'w', 'planned', 'pool', 600, 1);
         INSERT INTO payout_item (payout_id, miner_id, sats) VALUES (1, 1, 600);
         INSERT INTO payout_tx (txid, payout_id, version, psbt, fee_sats, vsize, created_ms)
            VALUES ({txid}, 1, 0, '{psbt}', 10, 100, 1);
         INSERT INTO payout_input (txid, position, prev_txid, prev_vout) VALUES ({txid}, 0, {coin}, 3);
         INSERT INTO account (id, name, miner_id) VALUES (11, 'miner:1:in_flight', 1);
         INSERT INTO entry (txn_id, account_id, amount_msat) VALUES (3, 9, -600000), (3, 11, 600000);
         INSERT INTO txn (id, kind, idem_key, created_ms) VALUES (3, 'payout', 'payout:1', 1);
         UPDATE account SET balance_msat = balance_msat - 600000 WHERE id = 9;
         UPDATE account SET balance_msat = balance_msat + 600000 WHERE id = 11;
         COMMIT"
    );
    execute(&mut rig.raw().await, &sql).await.unwrap();
    ledger
}

/// What was planned, and the bytes that were stored, stay as they are, whoever asks.
pub async fn payments_are_never_changed(rig: Rig) {
    let ledger = with_a_batch(&rig).await;
    let mut raw = rig.raw().await;
    let balance = ledger.miner(&miner(1)).await.unwrap().unwrap().balance;
    assert_eq!((balance.in_flight, balance.available), (600_000, 989_400_000));
    ledger.verify().await.unwrap();
    let bytes = if rig.is_postgres() { "decode('00', 'hex')" } else { "x'00'" };
    execute(&mut raw, &format!("UPDATE payout_tx SET raw = {bytes}")).await.unwrap();
    for sql in [
        "UPDATE payout_tx SET raw = NULL".to_owned(),
        "UPDATE payout_tx SET fee_sats = 11".to_owned(),
        format!("UPDATE payout_tx SET raw = {bytes}"),
        "DELETE FROM payout_tx".to_owned(),
        "UPDATE payout_item SET sats = 601".to_owned(),
        "DELETE FROM payout_item".to_owned(),
        "UPDATE txn SET idem_key = 'payout:2' WHERE id = 3".to_owned(),
    ] {
        assert!(execute(&mut raw, &sql).await.is_err(), "{sql}");
    }
    let payouts = ledger.payouts(10, 0).await.unwrap();
    assert_eq!(payouts.len(), 1);
    assert_eq!((payouts[0].state, payouts[0].miners, payouts[0].sats), (PayoutState::Planned, 1, 600));
    let txid = payment().unsigned_tx.compute_txid().to_byte_array();
    let own = ledger.miner_payouts(&miner(1), 10).await.unwrap();
    assert_eq!((own.len(), own[0].payout, own[0].sats, own[0].txid), (1, 1, 600, txid));
    assert_eq!(ledger.miner_payouts(&miner(2), 10).await.unwrap(), []);
}

/// Each planted fault is found, and nothing in what is as it should be.
pub async fn the_payments_are_held_against_the_journal(rig: Rig) {
    let ledger = with_a_batch(&rig).await;
    let mut raw = rig.raw().await;
    ledger.verify().await.unwrap();
    let off = match rig.is_postgres() {
        true => "SET session_replication_role = replica",
        false => {
            "DROP TRIGGER payout_item_fixed; DROP TRIGGER payout_tx_fixed; DROP TRIGGER payout_tx_kept; \
             DROP TRIGGER entry_no_update; PRAGMA foreign_keys = OFF"
        }
    };
    execute(&mut raw, off).await.unwrap();
    let psbt = payment();
    let (bytes, signed) = (literal(&rig, &[0]), literal(&rig, &serialize(&psbt.unsigned_tx)));
    let mut dearer = psbt.clone();
    dearer.unsigned_tx.output[1].value = Amount::from_sat(391);
    let to_pool = "UPDATE payout_item SET sats = {} ; UPDATE payout SET sats = {}; \
        UPDATE entry SET amount_msat = -{}000 WHERE txn_id = 3 AND account_id = 9; \
        UPDATE entry SET amount_msat = {}000 WHERE txn_id = 3 AND account_id = 11; \
        UPDATE account SET balance_msat = 990000000 - {}000 WHERE id = 9; UPDATE account SET balance_msat = {}000 WHERE id = 11";
    let text = |sql: &str| sql.to_owned();
    let unheard = literal(&rig, &[9; 32]);
    let planted = [
        (text("UPDATE payout SET sats = 601"), text("UPDATE payout SET sats = 600"), "not the sum"),
        (
            text("UPDATE payout SET state = 'paid'"),
            text("UPDATE payout SET state = 'planned'"),
            "otherwise than the journal",
        ),
        (
            text("UPDATE payout SET settlements = 1"),
            text("UPDATE payout SET settlements = 0"),
            "otherwise than the journal",
        ),
        (
            text("UPDATE payout SET state = 'returned'"),
            text("UPDATE payout SET state = 'planned'"),
            "in flight of",
        ),
        (
            text("UPDATE account SET balance_msat = 1 WHERE id = 11"),
            text("UPDATE account SET balance_msat = 600000 WHERE id = 11"),
            "in flight of",
        ),
        // All that is in the tables is changed alike: the transaction is not.
        (
            to_pool.replace("{}", "601"),
            to_pool.replace("{}", "600"),
            "transaction 0 of batch 1 pays otherwise",
        ),
        (
            text("UPDATE payout SET fee_from = 'miners'"),
            text("UPDATE payout SET fee_from = 'pool'"),
            "transaction 0 of batch 1 pays otherwise",
        ),
        (
            text("UPDATE payout_tx SET fee_sats = 11"),
            text("UPDATE payout_tx SET fee_sats = 10"),
            "leaves another fee",
        ),
        (
            text("UPDATE payout_input SET prev_vout = 4"),
            text("UPDATE payout_input SET prev_vout = 3"),
            "spends other coins",
        ),
        (
            text("CREATE TABLE kept AS SELECT * FROM payout_input; DELETE FROM payout_input"),
            text("INSERT INTO payout_input SELECT * FROM kept; DROP TABLE kept"),
            "spends other coins",
        ),
        (
            text("CREATE TABLE kept AS SELECT * FROM payout_tx; DELETE FROM payout_tx"),
            text("INSERT INTO payout_tx SELECT * FROM kept; DROP TABLE kept"),
            "has not all of its transactions",
        ),
        (
            format!("UPDATE payout_tx SET psbt = '{dearer}'"),
            format!("UPDATE payout_tx SET psbt = '{psbt}'"),
            "is another than its id says",
        ),
        (
            text("UPDATE payout_tx SET psbt = 'x' || psbt"),
            text("UPDATE payout_tx SET psbt = substr(psbt, 2)"),
            "transaction 0 of batch 1 cannot be read",
        ),
        (
            text("UPDATE payout SET state = 'signed'"),
            text("UPDATE payout SET state = 'planned'"),
            "other signed transactions than its state",
        ),
        (
            format!("UPDATE payout_tx SET raw = {signed}"),
            text("UPDATE payout_tx SET raw = NULL"),
            "other signed transactions than its state",
        ),
        (
            format!("UPDATE payout_tx SET raw = {bytes}; UPDATE payout SET state = 'signed'"),
            text("UPDATE payout_tx SET raw = NULL; UPDATE payout SET state = 'planned'"),
            "stored bytes",
        ),
        (
            format!("UPDATE payout SET txid = {unheard}"),
            text("UPDATE payout SET txid = NULL"),
            "by a transaction that is not its own",
        ),
        (
            format!("UPDATE miner SET address = '{}'", miner(2)),
            format!("UPDATE miner SET address = '{}'", miner(1)),
            "pays otherwise than its batch says",
        ),
    ];
    for (plant, heal, words) in planted {
        execute(&mut raw, &plant).await.unwrap();
        let found = ledger.verify().await.unwrap_err().to_string();
        assert!(found.contains(words), "{plant}: {found}");
        execute(&mut raw, &heal).await.unwrap();
        ledger.verify().await.unwrap_or_else(|error| panic!("{heal}: {error}"));
    }
    // Once it is signed and on its way, that is as it should be.
    execute(&mut raw, &format!("UPDATE payout_tx SET raw = {signed}; UPDATE payout SET state = 'signed'"))
        .await
        .unwrap();
    ledger.verify().await.unwrap();
}
