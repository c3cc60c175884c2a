//! What the operator moves by hand, beside a ledger that runs; and what miners check of slots and blocks of any scheme.

use std::time::Duration;

use ledger::{Audit, BlockStatus, Desk, Ledger, Movement, Place, Scheme, Which};

use crate::rig::{Rig, Running, Shard, Tree, balance, execute, hash, miner, until, until_block, worker};

const PPLNS: Scheme = Scheme::Pplns { factor: 50 };
const SOON: Duration = Duration::from_secs(20);

/// A ledger that runs, in which miner 1 has 990,000,000 msat available and the fee is 10,000,000.
pub async fn rich(rig: &Rig) -> Running {
    let (spool, chain) = (rig.spool(), Tree::new());
    chain.grow(hash(0), hash(1), 100);
    let running = rig.run(&spool, PPLNS, &chain).await;
    let mut shard = Shard::new(&spool, 0);
    let alice = worker(1, "rig");
    shard.share(&alice, 4);
    shard.found(PPLNS, &alice, 1, 1_000_000);
    shard.commit();
    until_block(&running.ledger, BlockStatus::Mature, Some(100)).await;
    running
}

fn movement(from: Place, to: Place, msat: u64, key: &str) -> Movement {
    Movement { from, to, msat, key: key.into(), reason: format!("because of {key}"), overdraw: false }
}

fn alice() -> Place {
    Place::Miner(miner(1))
}

async fn account(rig: &Rig, name: &str) -> i64 {
    rig.number(&format!("SELECT balance_msat FROM account WHERE name = '{name}'")).await
}

pub async fn what_is_moved_by_hand(rig: Rig) {
    let running = rich(&rig).await;
    let desk = Desk::open(&rig.url).await.unwrap();
    let book = async |movement: Movement| desk.book(&movement, SOON).await.unwrap().expect("a pool runs");
    use Place::{Fee, Operator, Reserve};

    // The reserve has nothing: it is funded before it gives.
    let give = movement(Reserve, alice(), 1_500, "ticket-1");
    let said = book(give.clone()).await;
    assert!(said.starts_with("refused: reserve has 0 msat available, 1500 are to be taken"), "{said}");
    let said = book(movement(Operator, Reserve, 1_000, "fund-1")).await;
    assert!(said.contains("1000 msat from operator (has -1000 now) to reserve (has 1000 now)"), "{said}");
    let said = book(movement(Fee, Reserve, 2_000, "fund-2")).await;
    assert!(said.contains("from fee (has 9998000 now) to reserve (has 3000 now)"), "{said}");
    let said = book(give.clone()).await;
    assert!(said.contains("from reserve (has 1500 now)") && said.contains("(has 990001500 now)"), "{said}");
    // Again is not twice; the same key for something else is refused, though the reason differs only in words.
    let said = book(Movement { reason: "once more".into(), ..give.clone() }).await;
    assert!(said.starts_with("done before, as transaction"), "{said}");
    let said = book(Movement { msat: 1_501, ..give }).await;
    assert!(said.starts_with("refused: the key ticket-1 is that of transaction"), "{said}");
    // Keys of corrections and of funding are told apart.
    let said = book(movement(Reserve, Fee, 500, "ticket-1")).await;
    assert!(said.contains("to fee (has 9998500 now)"), "{said}");

    // Nobody becomes negative: neither the miner nor the fee; the reserve only where that is said.
    let all = movement(alice(), Fee, 990_001_501, "ticket-2");
    let said = book(all.clone()).await;
    assert!(said.contains("has 990001500 msat available, 990001501 are to be taken"), "{said}");
    let said = book(Movement { msat: 990_001_500, ..all }).await;
    assert!(said.contains("(has 0 now) to fee (has 1000000000 now)"), "{said}");
    let said = book(movement(Fee, alice(), 1_000_000_001, "ticket-3")).await;
    assert!(said.starts_with("refused: fee has 1000000000 msat"), "{said}");
    let said = book(movement(Reserve, Operator, 1_001, "take-1")).await;
    assert!(said.starts_with("refused: reserve has 1000 msat"), "{said}");
    let over = movement(Reserve, alice(), 5_000, "ticket-4");
    let said = book(Movement { overdraw: true, ..over }).await;
    assert!(said.contains("from reserve (has -4000 now)"), "{said}");

    let said = book(movement(Fee, Place::Miner(miner(9)), 1, "ticket-5")).await;
    assert!(said.contains("nobody has mined here"), "{said}");
    let said = book(movement(Fee, Place::Miner("x\0y".into()), 1, "ticket-6")).await;
    assert!(said.starts_with("refused:"), "{said}");
    let said = book(movement(Operator, alice(), 1, "ticket-7")).await;
    assert!(said.contains("cannot be moved by hand from operator to"), "{said}");

    let ledger = running.stop().await;
    ledger.verify().await.unwrap();
    assert_eq!(balance(&ledger, 1).await, (0, 5_000, 0));
    assert_eq!(account(&rig, "operator").await, -1_000);
    assert_eq!(rig.number("SELECT CAST(SUM(balance_msat) AS BIGINT) FROM account").await, 0);
    let totals = ledger.totals().await.unwrap();
    assert_eq!((totals.rewards_msat, totals.fee_msat), (1_000_000_000, 1_000_000_000));

    let audit = Audit::open(&rig.url, rig.dir.path()).unwrap();
    let page = audit.history(&miner(1), 50, None).await.unwrap().unwrap();
    assert_eq!(page.balances, [("immature".to_owned(), 0), ("available".to_owned(), 5_000)]);
    let moved: Vec<_> = page
        .entries
        .iter()
        .map(|entry| (entry.account.as_str(), entry.msat, entry.key.as_str(), entry.reason.as_deref()))
        .collect();
    let (reward, mature) = (&page.entries[5].key, &page.entries[4].key);
    assert_eq!(
        moved,
        [
            ("available", 5_000, "correction:operator:ticket-4", Some("because of ticket-4")),
            ("available", -990_001_500, "correction:operator:ticket-2", Some("because of ticket-2")),
            ("available", 1_500, "correction:operator:ticket-1", Some("because of ticket-1")),
            ("immature", -990_000_000, mature, None),
            ("available", 990_000_000, mature, None),
            ("immature", 990_000_000, reward, None),
        ]
    );
    // Page by page it is the same.
    let first = audit.history(&miner(1), 2, None).await.unwrap().unwrap().entries;
    let rest = audit.history(&miner(1), 50, Some(first[1].txn)).await.unwrap().unwrap().entries;
    assert_eq!([first, rest].concat(), page.entries);
    let reserve = audit.history("reserve", 50, None).await.unwrap().unwrap();
    assert_eq!((reserve.balances, reserve.entries.len()), (vec![("reserve".to_owned(), -4_000)], 5));
    for nobody in ["", "miner:1:available", "nobody", "x\0y", &miner(2)] {
        assert_eq!(audit.history(nobody, 50, None).await.unwrap(), None, "{nobody:?}");
    }
}

pub async fn an_order_waits_for_a_pool(rig: Rig) {
    drop(rich(&rig).await.stop().await);
    let desk = Desk::open(&rig.url).await.unwrap();
    let order = movement(Place::Fee, alice(), 700, "late");
    // Asked twice by somebody who does not wait.
    for _ in 0..2 {
        assert_eq!(desk.book(&order, Duration::from_millis(150)).await.unwrap(), None);
    }
    // What somebody else wrote there is answered too, and is in nobody's way.
    let nonsense = "INSERT INTO ledger_order (argument, asked_ms) VALUES ('[]', 1), ('{\"from\":1}', 2)";
    execute(&mut rig.raw().await, nonsense).await.unwrap();
    let running = rig.run(&rig.spool(), PPLNS, &Tree::new()).await;
    let said = desk.book(&movement(Place::Fee, alice(), 1, "new"), SOON).await.unwrap().unwrap();
    assert!(said.contains("(has 990000701 now)"), "{said}");
    let open = "SELECT COUNT(*) FROM ledger_order WHERE done_ms IS NULL OR outcome IS NULL";
    assert_eq!(rig.number(open).await, 0);
    let count = async |like: &str| {
        rig.number(&format!("SELECT COUNT(*) FROM ledger_order WHERE outcome LIKE '{like}'")).await
    };
    assert_eq!(count("transaction %").await, 2);
    assert_eq!(count("done before%").await, 1);
    assert_eq!(count("refused: the order cannot be read%").await, 2);
    running.stop().await.verify().await.unwrap();
}

/// The process ends at any moment while orders are carried out: each is done once.
pub async fn an_order_is_carried_out_once_whoever_dies(rig: Rig) {
    drop(rich(&rig).await.stop().await);
    let desk = Desk::open(&rig.url).await.unwrap();
    let open = "SELECT COUNT(*) FROM ledger_order WHERE done_ms IS NULL";
    for number in 0..30 {
        let order = movement(Place::Fee, alice(), 1 << number, &format!("n{number}"));
        assert_eq!(desk.book(&order, Duration::ZERO).await.unwrap(), None);
    }
    // 2^30 - 1 in all, more than the fee: the highest are refused.
    let mut lives = 0;
    while rig.number(open).await > 0 {
        lives += 1;
        let running = rig.run(&rig.spool(), PPLNS, &Tree::new()).await;
        tokio::time::sleep(Duration::from_millis(lives)).await;
        running.kill().await;
    }
    let ledger = rig.run(&rig.spool(), PPLNS, &Tree::new()).await.stop().await;
    ledger.verify().await.unwrap();
    let done = rig.number("SELECT COUNT(*) FROM txn WHERE kind = 'correction'").await;
    let noted = rig.number("SELECT COUNT(*) FROM ledger_order WHERE outcome LIKE 'transaction%'").await;
    // The fee is 10,000,000: 2^23 - 1 fit, 2^23 does not.
    assert_eq!((done, noted), (23, 23), "after {lives} lives");
    assert_eq!(balance(&ledger, 1).await, (0, 990_000_000 + (1 << 23) - 1, 0));
}

pub async fn what_was_moved_by_hand_is_verified(rig: Rig) {
    let running = rich(&rig).await;
    let desk = Desk::open(&rig.url).await.unwrap();
    desk.book(&movement(Place::Fee, alice(), 5, "a"), SOON).await.unwrap().unwrap();
    desk.book(&movement(Place::Operator, Place::Reserve, 7, "b"), SOON).await.unwrap().unwrap();
    let ledger = running.stop().await;
    ledger.verify().await.unwrap();
    let off = if rig.is_postgres() {
        "SET session_replication_role = replica"
    } else {
        "DROP TRIGGER txn_no_update; DROP TRIGGER entry_no_update; PRAGMA foreign_keys = OFF"
    };
    let mut raw = rig.raw().await;
    execute(&mut raw, off).await.unwrap();
    let a = "idem_key = 'correction:operator:a'";
    let of = |key: &str| format!("(SELECT id FROM txn WHERE idem_key = '{key}')");
    let (correction, fund) = (of("correction:operator:a"), of("fund:b"));
    for (plant, mend, expect) in [
        (
            format!("UPDATE txn SET reason = NULL WHERE {a}"),
            format!("UPDATE txn SET reason = 'because' WHERE {a}"),
            "correction:operator:a was done by hand, and has no reason",
        ),
        (
            "UPDATE ledger_order SET done_ms = NULL WHERE argument LIKE '%\"b\"%'".to_owned(),
            "UPDATE ledger_order SET done_ms = 1".to_owned(),
            "fund:b is nothing that the operator asked for",
        ),
        (
            "UPDATE ledger_order SET argument = replace(argument, '\"msat\":5', '\"msat\":6')".to_owned(),
            "UPDATE ledger_order SET argument = replace(argument, '\"msat\":6', '\"msat\":5')".to_owned(),
            "correction:operator:a is nothing that the operator asked for",
        ),
        (
            format!("UPDATE txn SET kind = 'fund' WHERE {a}"),
            format!("UPDATE txn SET kind = 'correction' WHERE {a}"),
            "correction:operator:a is a transaction of another kind",
        ),
        (
            format!("UPDATE entry SET account_id = 8 WHERE account_id = 9 AND txn_id = {correction}"),
            format!("UPDATE entry SET account_id = 9 WHERE account_id = 8 AND txn_id = {correction}"),
            "correction:operator:a moves accounts that",
        ),
        (
            format!("UPDATE entry SET account_id = 9 WHERE account_id = 2 AND txn_id = {fund}"),
            format!("UPDATE entry SET account_id = 2 WHERE account_id = 9 AND txn_id = {fund}"),
            "fund:b moves accounts that",
        ),
        (
            format!("UPDATE entry SET account_id = 7 WHERE account_id = 4 AND txn_id = {correction}"),
            format!("UPDATE entry SET account_id = 4 WHERE account_id = 7 AND txn_id = {correction}"),
            "correction:operator:a moves accounts that",
        ),
        (
            "UPDATE txn SET block_id = NULL WHERE kind = 'mature'".to_owned(),
            "UPDATE txn SET block_id = 1 WHERE kind = 'mature'".to_owned(),
            "is about no block",
        ),
    ] {
        execute(&mut raw, &plant).await.unwrap();
        let found = ledger.verify().await.unwrap_err().to_string();
        assert!(found.contains(expect), "{plant}: {found}");
        execute(&mut raw, &mend).await.unwrap();
        ledger.verify().await.unwrap();
    }
}

pub async fn thresholds_of_miners(rig: Rig) {
    let running = rich(&rig).await;
    let desk = Desk::open(&rig.url).await.unwrap();
    assert_eq!(desk.threshold(&miner(1)).await.unwrap(), Some(None));
    for sats in [Some(5), Some(7), None, None, Some(u64::MAX)] {
        assert!(desk.set_threshold(&miner(1), sats).await.unwrap());
        let kept = sats.map(|sats| sats.min(i64::MAX as u64 / 1_000));
        assert_eq!(desk.threshold(&miner(1)).await.unwrap(), Some(kept));
        let account = running.ledger.miner(&miner(1)).await.unwrap().unwrap();
        assert_eq!(account.threshold_sats, kept);
    }
    assert!(!desk.set_threshold(&miner(2), Some(7)).await.unwrap());
    assert_eq!(desk.threshold(&miner(2)).await.unwrap(), None);
    assert_eq!(rig.number("SELECT COUNT(*) FROM payout_threshold").await, 1);
    running.stop().await;
}

/// Every block's division and every slot's payments follow from what the pool gives out.
pub async fn all_is_proven(ledger: &Ledger) {
    for block in ledger.blocks(100, 0).await.unwrap() {
        let weights = ledger.block_weights(&block.hash).await.unwrap().unwrap();
        weights.check().unwrap_or_else(|error| panic!("{error}: {weights:?}"));
        let parts: i64 = weights.weights.iter().map(|weight| weight.credit_msat).sum();
        assert_eq!(parts + weights.reserve_msat + weights.fee_msat, block.reward_msat);
    }
    for slot in 1..60 {
        let Some(rates) = ledger.slot_rates(slot).await.unwrap() else { continue };
        rates.check().unwrap_or_else(|error| panic!("{error}: {rates:?}"));
    }
}

/// By what each miner finds: its slots, and of each what it was paid for which work.
pub async fn slots_are_proven_offline(rig: Rig) {
    let scheme = Scheme::PpsPlus { factor: 50 };
    let spool = rig.spool();
    let running = rig.run(&spool, scheme, &Tree::new()).await;
    let mut shard = Shard::new(&spool, 0);
    let workers = [worker(1, "a"), worker(2, "b"), worker(1, "c")];
    for round in 0..9u32 {
        for (number, worker) in workers.iter().enumerate() {
            shard.share(worker, 1 + u128::from(round) * 3 + number as u128);
        }
        shard.time_ms += 600_000;
        shard.commit();
    }
    until("all is drained", async || running.ledger.totals().await.unwrap().accepted_shares == 27).await;
    let ledger = running.stop().await;
    let mut slots = 0;
    for number in [1, 2] {
        let credits = ledger.slot_credits(&miner(number), 50).await.unwrap();
        let mut sum = 0;
        for credit in &credits {
            let rates = ledger.slot_rates(credit.slot).await.unwrap().unwrap();
            rates.check().unwrap();
            let own = rates.miners.iter().find(|own| own.address == miner(number)).unwrap();
            assert_eq!(own.paid_msat, credit.amount_msat);
            (sum, slots) = (sum + credit.amount_msat, slots + 1);
        }
        assert_eq!(sum, balance(&ledger, number).await.1);
        assert_eq!(ledger.slot_credits(&miner(number), 1).await.unwrap(), credits[..1]);
    }
    assert!(slots > 8, "{slots}");
    assert_eq!(ledger.slot_credits(&miner(3), 50).await.unwrap(), []);
    // The open slot has paid nothing yet, and those that are none neither.
    let open = rig.number("SELECT MAX(id) FROM slot").await;
    for none in [open, open + 1, 0, -1, i64::MAX] {
        assert_eq!(ledger.slot_rates(none).await.unwrap(), None, "{none}");
    }
    ledger.verify().await.unwrap();
}

/// Before the tables are there, and where there is something else.
pub async fn a_database_that_is_none_says_what_to_do(rig: Rig) {
    let check = async |url: &str, expect: &str| {
        let said = match Audit::open(url, rig.dir.path()) {
            Ok(audit) => audit.verify(Which::Any).await.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expect), "{url}: {said}");
        let order = movement(Place::Fee, Place::Reserve, 1, "k");
        let said = match Desk::open(url).await {
            Ok(desk) => desk.book(&order, Duration::ZERO).await.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expect), "{url}: {said}");
    };
    if rig.is_postgres() {
        check(&rig.url, "run sluice migrate").await;
        Ledger::migrate(&rig.url).await.unwrap();
        let raw = &mut rig.raw().await;
        execute(raw, "CREATE ROLE stranger LOGIN").await.unwrap();
        check(&rig.url.replace("postgres@", "stranger@"), "docker/postgres-roles.sql").await;
        return;
    }
    let at = |name: &str| rig.dir.path().join(name);
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("rubbish"), [7; 5_000]).unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    for (name, expect) in [
        ("empty", "run sluice migrate"),
        ("rubbish", "none of SQLite"),
        ("directory", "unable to open database file"),
        ("missing", "No such file"),
    ] {
        check(&format!("sqlite://{}", at(name).display()), expect).await;
    }
}
