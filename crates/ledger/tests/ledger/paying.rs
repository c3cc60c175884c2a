//! The payer on a chain that checks what it is given: what the random test has found, each by itself.

use std::{sync::Arc, time::Duration};

use bitcoin::{OutPoint, Psbt, Transaction, consensus::deserialize, hashes::Hash as _};
use ledger::{
    Coinbases, Descriptors, Direct, Found, Hand, Hash, Ledger, Movement, PayHalt, PayPoint, Payer,
    PayoutSettings, PayoutState, Place, Scheme, Worker,
};

use crate::{
    key::Key,
    payouts::literal,
    random::{
        chain::{BASE, Blocks},
        payments::{script, scripts},
    },
    rig::{BITS, NETWORK, Rig, Shard, execute, miner, quick, worker},
};

/// Half of it is each miner's.
const REWARD: u64 = 5_000_000_000;

/// A pool with a wallet, on a chain of its own.
struct House {
    rig: Rig,
    key: Key,
    chain: Arc<Blocks>,
    crew: [Worker; 2],
    time_ms: u64,
    /// Where the payer stops dead.
    dies_at: Option<PayPoint>,
    process: Option<Process>,
}

struct Process {
    ledger: Ledger,
    hand: Hand,
    payer: Payer,
    coinbases: Coinbases,
    shard: Shard,
}

impl House {
    fn new(rig: Rig) -> Self {
        let key = Key::wpkh(NETWORK);
        let chain = Arc::new(Blocks::new(1, scripts(&key).collect()));
        let crew = [worker(1, "rig"), worker(2, "rig")];
        Self { rig, key, chain, crew, time_ms: 1_800_000_000_000, dies_at: None, process: None }
    }

    /// Starts it anew.
    async fn start(&mut self, direct: Option<Direct>) {
        self.process = None;
        let spool = self.rig.spool();
        let pool_address = self.key.address();
        let pool_script = script(&pool_address).into_bytes();
        let terms = ledger::Terms { scheme: Scheme::Tides, fee_ppm: 10_000, pool_script, pool_address };
        let ledger = Ledger::open_with(&self.rig.url, spool.clone(), terms, NETWORK, quick()).await.unwrap();
        let wallet = Descriptors::parse(&self.key.private(), None, NETWORK, BASE).unwrap();
        let settings = PayoutSettings {
            threshold: 1_000,
            interval: Some(Duration::ZERO),
            fallback_rate: Some(2_000),
            halt: self.dies_at.map(|last| -> PayHalt { Arc::new(move |point| point == last) }),
            ..PayoutSettings::default()
        };
        let (wire, chain) = (self.chain.clone(), self.chain.clone());
        let payer = ledger.payer(wallet, settings, wire, chain).await.unwrap();
        let coinbases = ledger.coinbases(direct).await.unwrap();
        let hand = ledger.by_hand(self.chain.clone());
        let mut shard = Shard::new(&spool, 0);
        shard.time_ms = self.time_ms;
        self.process = Some(Process { ledger, hand, payer, coinbases, shard });
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// Work of both in a slot that is closed.
    fn work(&mut self) {
        self.time_ms += 700_000;
        let (time_ms, [a, b]) = (self.time_ms, self.crew.clone());
        let process = self.process();
        for worker in [&a, &b] {
            process.shard.share(worker, 8);
        }
        process.shard.time_ms = time_ms;
        process.shard.share(&a, 8);
        process.shard.share(&b, 8);
        process.shard.commit();
    }

    /// A block on the tip, in the spool; nobody has heard of it.
    fn find(&mut self) -> Hash {
        let (tip, height) = self.chain.tip();
        let (time_ms, finder, chain) = (self.time_ms, self.crew[0].clone(), self.chain.clone());
        let process = self.process();
        let class = process.coinbases.class(&finder, 2_000);
        let pays = process.coinbases.pays(&class, &finder, height + 1, REWARD);
        let (hash, coinbase_txid) = chain.solve(&pays.outputs, Vec::new());
        let found = Found {
            time_ms,
            worker: finder.id(),
            hash,
            prev_hash: tip,
            height: height + 1,
            bits: BITS,
            coinbase_txid,
            value_sats: REWARD,
            outputs: pays.outputs,
            origin: pays.origin,
        };
        process.shard.writer.worker(&finder);
        process.shard.writer.found(&found);
        process.shard.commit();
        hash
    }

    /// A block that is on the chain, mature and in the books.
    async fn find_and_mature(&mut self) {
        let hash = self.find();
        self.chain.append(hash);
        self.chain.grow(100);
        self.settle().await;
    }

    async fn settle(&mut self) {
        let process = self.process();
        while process.hand.drain().await.unwrap() > 0 {}
        process.hand.follow().await.unwrap();
        process.hand.follow().await.unwrap();
    }

    async fn batches(&mut self) -> Vec<PayoutState> {
        let batches = self.process().ledger.payouts(10, 0).await.unwrap();
        batches.iter().rev().map(|batch| batch.state).collect()
    }

    async fn ask(&mut self, what: &str) -> String {
        let mut raw = self.rig.raw().await;
        let (kind, argument) = what.split_once(' ').unwrap_or((what, ""));
        let sql =
            format!("INSERT INTO payout_order (kind, argument, asked_ms) VALUES ('{kind}', '{argument}', 0)");
        execute(&mut raw, &sql).await.unwrap();
        self.process().payer.round().await.unwrap();
        let sql = "SELECT outcome FROM payout_order ORDER BY id DESC LIMIT 1";
        sqlx::query_scalar(sql).fetch_one(&mut raw).await.unwrap()
    }

    async fn account(&self, id: i64) -> i64 {
        self.rig
            .number(&format!(
                "SELECT CAST(COALESCE(SUM(balance_msat), 0) AS BIGINT) FROM account WHERE id = {id}"
            ))
            .await
    }

    /// The number of a miner in the database.
    async fn id(&self, number: u32) -> i64 {
        let sql = "SELECT id FROM miner WHERE address = $1";
        sqlx::query_scalar(sql).bind(miner(number)).fetch_one(&mut self.rig.raw().await).await.unwrap()
    }

    /// The operator gives a miner so many satoshi out of the reserve.
    async fn give(&mut self, number: u32, sats: i64) {
        let miner = self.id(number).await;
        let mut raw = self.rig.raw().await;
        let id = self.rig.number("SELECT MAX(id) + 1 FROM txn").await;
        let (account, msat) = (8 * miner + 1, 1_000 * sats);
        let asked = Movement {
            from: Place::Reserve,
            to: Place::Miner(crate::rig::miner(number)),
            msat: msat as u64,
            key: id.to_string(),
            reason: "a gift".into(),
            overdraw: true,
        };
        let asked = serde_json::to_string(&asked).unwrap();
        for sql in [
            "BEGIN".to_owned(),
            format!(
                "INSERT INTO ledger_order (argument, asked_ms, done_ms, outcome) VALUES ('{asked}', 0, 0, 'done')"
            ),
            format!("INSERT INTO entry VALUES ({id}, 2, {}), ({id}, {account}, {msat})", -msat),
            format!(
                "INSERT INTO txn VALUES ({id}, 'correction', 'correction:operator:{id}', NULL, 0, 'a gift')"
            ),
            format!("UPDATE account SET balance_msat = balance_msat - {msat} WHERE id = 2"),
            format!("UPDATE account SET balance_msat = balance_msat + {msat} WHERE id = {account}"),
            "COMMIT".to_owned(),
        ] {
            execute(&mut raw, &sql).await.unwrap();
        }
    }

    /// Whom a batch pays, satoshi.
    async fn items(&self, batch: i64) -> Vec<(u32, i64)> {
        let sql = "SELECT sats FROM payout_item WHERE payout_id = $1 AND miner_id = $2";
        let (mut raw, mut items) = (self.rig.raw().await, Vec::new());
        for number in 1..=3 {
            let query = sqlx::query_scalar(sql).bind(batch).bind(self.id(number).await);
            items.extend(query.fetch_optional(&mut raw).await.unwrap().map(|sats: i64| (number, sats)));
        }
        items
    }

    /// What the operator is told.
    async fn trouble(&self) -> String {
        let sql = "SELECT COALESCE(trouble, '') FROM payer";
        sqlx::query_scalar(sql).fetch_one(&mut self.rig.raw().await).await.unwrap()
    }

    /// What blocks and mempool pay to miner 1 outside of coinbases, satoshi.
    fn paid(&self) -> u64 {
        let ((blocks, _), (mempool, _)) = self.chain.paid_to(&script(&miner(1)));
        blocks + mempool
    }
}

/// Until yesterday coinbases have paid balances, from today on there are payments. What the last block of yesterday pays, if
/// it comes to count, is not paid by a batch too: not while the block is in the spool, nor while it is a candidate.
pub async fn from_coinbases_to_payments(rig: Rig) {
    let mut house = House::new(rig);
    house.start(None).await;
    house.work();
    let first = house.find();
    house.chain.append(first);
    house.chain.grow(99);
    house.settle().await;
    let available = house.account(8 + 1).await;
    assert_eq!(available, 2_475_000_000_000);

    house.start(Some(Direct { min_sats: 1_000, most: 10 })).await;
    house.settle().await;
    let second = house.find();
    house.start(None).await;
    house.process().payer.round().await.unwrap();
    assert_eq!(house.batches().await, [], "what is in the spool may pay it");
    let asked = "INSERT INTO payout_order (kind, argument, asked_ms) VALUES ('run', '', 0)";
    execute(&mut house.rig.raw().await, asked).await.unwrap();
    house.process().payer.round().await.unwrap();
    let open = house.rig.number("SELECT COUNT(*) FROM payout_order WHERE done_ms IS NULL").await;
    assert_eq!((open, house.batches().await.len()), (1, 0), "an order waits as well");
    house.settle().await;
    house.process().payer.round().await.unwrap();
    assert_eq!(house.account(8 + 1).await, available, "what a candidate pays is not paid");
    assert_eq!(house.paid(), 0);

    house.chain.append(second);
    house.settle().await;
    house.process().payer.round().await.unwrap();
    assert_eq!(house.account(2).await, 0, "the reserve does not stand in for anybody who was paid twice");
    assert!(house.account(8 + 1).await < available);
    house.chain.grow(100);
    house.settle().await;
    house.process().payer.round().await.unwrap();
    house.chain.grow(20);
    house.process().payer.round().await.unwrap();
    let all = house.account(8 + 1).await + house.account(8 + 2).await + house.account(8 + 3).await;
    assert_eq!(all, 2 * available, "what two blocks have brought");
    house.process().ledger.verify().await.unwrap();
}

/// A pool in whose spool there is always something has caught up all the same.
pub async fn a_busy_pool_pays_too(rig: Rig) {
    let mut house = House::new(rig);
    house.start(None).await;
    house.work();
    assert!(house.process().hand.drain().await.unwrap() > 0);
    house.work();
    assert_eq!(house.ask("run").await, "nothing is due");
}

/// F-54: a batch spends the coinbase of a mature block that is reorganised away. It can never confirm, and is given up: its money
/// would be in flight for ever.
pub async fn a_batch_without_its_coin_is_returned(rig: Rig) {
    let mut house = House::new(rig);
    house.start(None).await;
    house.work();
    house.find_and_mature().await;
    house.process().payer.round().await.unwrap();
    assert_eq!(house.batches().await, [PayoutState::Broadcast]);
    let refused = house.ask("return 1").await;
    assert!(refused.contains("may still confirm"), "{refused}");
    house.chain.reorganise(101);
    house.settle().await;
    let figures = "SELECT coins_sats + immature_sats FROM payer";
    let said = house.ask("return 1").await;
    assert!(said.contains("is returned"), "{said}");
    assert_eq!(house.rig.number(figures).await, 0, "the coin went with its block");
    assert_eq!((house.account(8 + 1).await, house.account(8 + 3).await), (2_475_000_000_000, 0));
    assert_eq!(house.account(2).await, -5_000_000_000_000, "the reserve stands in for the block");
    // So deep that nobody looks at it any more.
    assert_eq!(house.rig.number("SELECT watched FROM payout").await, 1);
    house.chain.grow(144);
    house.process().payer.round().await.unwrap();
    assert_eq!(house.rig.number("SELECT watched FROM payout").await, 0);
    house.process().ledger.verify().await.unwrap();
}

/// Two batches, the second from the change of the first, whose transaction is replaced by a dearer one after a
/// reorganisation: the second can never confirm.
pub async fn a_batch_on_the_change_of_a_replaced_one_is_returned(rig: Rig) {
    let mut house = House::new(rig);
    house.start(None).await;
    house.work();
    house.find_and_mature().await;
    // To one of the two only, so that there is change to pay the other with.
    let desk = ledger::Desk::open(&house.rig.url).await.unwrap();
    assert!(desk.set_threshold(&miner(2), Some(u64::MAX)).await.unwrap());
    house.process().payer.round().await.unwrap();
    let said = house.ask("bump 1 20").await;
    assert!(said.contains("has a version"), "{said}");
    // The next block has the older version, which spends what the dearer one spends.
    let old = transaction(&house.rig, 1, 0).await;
    let dear = transaction(&house.rig, 1, 1).await;
    house.chain.grow_with(old.clone()).unwrap();
    assert!(desk.set_threshold(&miner(2), Some(1)).await.unwrap());
    house.process().payer.round().await.unwrap();
    assert_eq!(house.batches().await, [PayoutState::Broadcast, PayoutState::Broadcast]);
    let second = transaction(&house.rig, 2, 0).await;
    let change = OutPoint { txid: old.compute_txid(), vout: 1 };
    assert_eq!(second.input[0].previous_output, change);

    house.chain.reorganise_with(1, vec![dear]);
    let refused = house.ask("return 2").await;
    assert!(refused.contains("may still confirm"), "one block is not enough: {refused}");
    house.chain.grow(6);
    let said = house.ask("return 2").await;
    assert!(said.contains("is returned"), "{said}");
    // And is paid by a third.
    house.process().payer.round().await.unwrap();
    house.chain.grow(30);
    house.process().payer.round().await.unwrap();
    assert_eq!(house.batches().await, [PayoutState::Paid, PayoutState::Returned, PayoutState::Paid]);
    house.process().ledger.verify().await.unwrap();
}

/// F-55: coins for some only. Those are paid whose turn it is, whoever waits longest first, and the operator is told what is
/// missing; who is owed more than there is holds up nobody.
pub async fn coins_for_some_pay_some(rig: Rig) {
    let mut house = House::new(rig);
    house.start(None).await;
    house.work();
    house.process().shard.share(&worker(3, "rig"), 16);
    house.find_and_mature().await;
    house.give(2, 200_000_000).await;
    house.give(3, 1_000_000_000).await;
    house.process().payer.round().await.unwrap();
    let paid = [(1, 1_237_500_000), (2, 1_437_500_000)];
    assert_eq!(house.items(1).await, paid, "the smallest first");
    let trouble = house.trouble().await;
    for words in ["has 5000000000 sat to spend, 61500", "1 of 3 miners wait for 3475000000 sat"] {
        assert!(trouble.contains(words), "{words}: {trouble}");
    }
    // Nothing is left of the coin before its change is in a block: nothing moves.
    house.process().payer.round().await.unwrap();
    assert_eq!(house.batches().await.len(), 1);
    assert!(house.trouble().await.contains("has 0 sat to spend"), "{}", house.trouble().await);
    assert!(house.ask("run").await.contains("has 0 sat to spend"));
    assert_eq!(house.account(8 * house.id(3).await + 1).await, 3_475_000_000_000);

    // There is not enough for the one who waits; so it goes to another, and comes to him in his turn.
    house.chain.grow(30);
    house.give(1, 1_000_000_000).await;
    let said = house.ask("run").await;
    assert!(
        said.contains("to 1 miners") && said.contains("; not all that is due: the wallet has 23"),
        "{said}"
    );
    assert_eq!(house.items(2).await, [(1, 1_000_000_000)]);
    house.give(1, 1_000_000_000).await;
    house.chain.deposit(script(&house.key.address_at(0, 1)), 2_300_000_000);
    house.chain.grow(30);
    house.process().payer.round().await.unwrap();
    assert_eq!(house.items(3).await, [(3, 3_475_000_000)], "who was never paid comes before who was");
    assert!(house.trouble().await.contains("1 of 2 miners wait for 1000000000 sat"));
    house.chain.deposit(script(&house.key.address_at(0, 2)), 2_000_000_000);
    house.chain.grow(30);
    house.process().payer.round().await.unwrap();
    house.chain.grow(30);
    house.process().payer.round().await.unwrap();
    assert_eq!(house.batches().await, [PayoutState::Paid; 4]);
    assert_eq!(house.trouble().await, "");
    house.process().ledger.verify().await.unwrap();
}

/// A signed transaction of a batch.
async fn transaction(rig: &Rig, batch: i64, version: i64) -> Transaction {
    let sql = "SELECT raw FROM payout_tx WHERE payout_id = $1 AND version = $2";
    let query = sqlx::query_scalar(sql).bind(batch).bind(version);
    let bytes: Vec<u8> = query.fetch_one(&mut rig.raw().await).await.unwrap();
    deserialize(&bytes).unwrap()
}

/// Whoever can write into the database sends the change of a payment elsewhere: it is not signed, and the operator is told.
pub async fn change_to_a_stranger_is_not_signed(rig: Rig) {
    let mut house = House::new(rig);
    house.dies_at = Some(PayPoint::Planned);
    house.start(None).await;
    house.work();
    house.find_and_mature().await;
    let died = tokio::time::timeout(Duration::from_secs(5), house.process().payer.round()).await;
    assert!(died.is_err(), "{died:?}");
    assert_eq!(house.batches().await, [PayoutState::Planned]);
    let mut raw = house.rig.raw().await;
    let text: String = sqlx::query_scalar("SELECT psbt FROM payout_tx").fetch_one(&mut raw).await.unwrap();
    let mut psbt: Psbt = text.parse().unwrap();
    let change = psbt.unsigned_tx.output.last_mut().unwrap();
    change.script_pubkey = script(&miner(9));
    let txid = literal(&house.rig, psbt.unsigned_tx.compute_txid().as_byte_array());
    let off = match house.rig.is_postgres() {
        true => "SET session_replication_role = replica",
        false => "DROP TRIGGER payout_tx_fixed; PRAGMA foreign_keys = OFF",
    };
    execute(&mut raw, off).await.unwrap();
    let forge =
        format!("UPDATE payout_tx SET psbt = '{psbt}', txid = {txid}; UPDATE payout_input SET txid = {txid}");
    execute(&mut raw, &forge).await.unwrap();
    house.dies_at = None;
    house.start(None).await;
    house.settle().await;
    let _ = house.process().payer.round().await;
    assert_eq!(house.batches().await, [PayoutState::Planned]);
    let sql = "SELECT COALESCE(trouble, '') FROM payout";
    let trouble: String = sqlx::query_scalar(sql).fetch_one(&mut raw).await.unwrap();
    assert!(
        trouble.contains("it is not signed: it pays") && trouble.contains("nothing is owed"),
        "{trouble}"
    );
}
