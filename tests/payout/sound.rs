//! `sluice ledger`, as the operator has it, on the books of a pool that ran: blocks, payments, and what he moved by hand. Sound
//! books are found to be so, and whatever is touched in them is named.

use std::fs;

use super::*;

const VERIFY: [&str; 2] = ["ledger", "verify"];

/// A pool that has found blocks and paid its miners, with a correction and money for the reserve in its books; stopped. And
/// the hashes of the blocks.
fn seasoned(node: &Node, key: &Key, url: Option<String>) -> (Pool, Vec<String>) {
    let mut pool = rich_in(url, node, key, 3, &tables(&key.private(), BY_HAND));
    pool.setup.stratum = "shards = 1".into();
    pool.start_again();
    for number in 0..3 {
        find_block(&mut connect(&pool, &miner(number)), node);
    }
    pool.ask(&["payout", "run"]).unwrap();
    until_batch(&pool, 1, "broadcast");
    confirm(node, 0);
    until_batch(&pool, 1, "paid");
    by_hand(&pool);
    // What a run has written is sealed by the end of the next: three segments at least, whichever shards had them.
    assert!(pool.terminate().success());
    pool.start_again();
    find_block(&mut connect(&pool, &miner(0)), node);
    assert!(pool.terminate().success());
    pool.start_again();
    let blocks = pool.blocks().into_iter().map(|block| block.hash).collect();
    assert!(pool.terminate().success());
    (pool, blocks)
}

/// What the operator moves by hand while the pool runs.
fn by_hand(pool: &Pool) {
    let fund = |from: &str, to: &str, amount: &str, key: &str| {
        pool.outcome(&[
            "ledger", "fund", "--from", from, "--to", to, "--amount", amount, "--key", key, "--reason",
            "capital",
        ])
    };
    let correct = |address: &str, way: &str, amount: &str, key: &str| {
        pool.outcome(&[
            "ledger",
            "correct",
            address,
            way,
            amount,
            "--key",
            key,
            "--reason",
            "ticket 12: a rig was unplugged",
        ])
    };
    let check = |(status, said): (i32, String), expect: (i32, &str)| {
        assert_eq!((status, said.contains(expect.1)), (expect.0, true), "{said}");
    };
    let first = miner(0);
    let before = pool.api(&format!("/api/v1/miners/{first}"))["balance_msat"]["available"].as_i64().unwrap();
    check(correct(&first, "--give", "1500", "t12"), (69, "refused: reserve has 0 msat available"));
    check(fund("fee", "reserve", "4000", "f1"), (0, "4000 msat from fee"));
    check(fund("operator", "reserve", "700", "f2"), (0, "to reserve (has 4700 now)"));
    check(fund("fee", "fee", "1", "f3"), (64, "cannot be moved by hand from fee to fee"));
    check(fund("fee", "reserve", "0", "f3"), (64, "moves nothing"));
    check(fund("fee", "reserve", "99999999999999", "f3"), (69, "refused: fee has"));
    check(correct(&first, "--give", "1500", "t12"), (0, "from reserve (has 3200 now)"));
    check(correct(&first, "--give", "1500", "t12"), (0, "done before"));
    check(correct(&first, "--give", "1501", "t12"), (69, "give another key"));
    check(correct(&first.to_uppercase(), "--take", "500", "t13"), (0, "to reserve (has 3700 now)"));
    check(correct(&stranger(), "--give", "1", "t14"), (69, "nobody has mined here"));
    check(
        correct("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "--give", "1", "t14"),
        (64, "another network"),
    );
    check(correct("rubbish", "--give", "1", "t14"), (64, "no Bitcoin address"));
    check(correct(&first, "--give", "1", "a key"), (64, "letters, digits"));
    let after = pool.api(&format!("/api/v1/miners/{first}"))["balance_msat"]["available"].as_i64().unwrap();
    assert_eq!(after - before, 1_000);

    let (status, said) = pool.outcome(&["ledger", "history", &first]);
    assert_eq!(status, 0, "{said}");
    for line in
        ["available -500 correction:operator:t13 (ticket 12: a rig was unplugged)", "paid +", "reward:"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
    check(pool.outcome(&["ledger", "history", "operator"]), (0, "operator -700 fund:f2 (capital)"));
    check(pool.outcome(&["ledger", "history", "reserve", "--limit", "1"]), (0, "further back: --before"));
    check(pool.outcome(&["ledger", "history", "nobody"]), (64, "neither an address that has mined here nor"));
}

/// Runs `sluice ledger verify`: whether it finds nothing, and what it says.
fn verify(pool: &Pool) -> (bool, String) {
    match pool.outcome(&VERIFY) {
        (0, said) if said.contains("the ledger is sound") && !said.contains("WRONG") => (true, said),
        (1, said) if said.contains("WRONG") && said.contains("the ledger is not sound") => (false, said),
        (status, said) => panic!("status {status}: {said}"),
    }
}

fn must_be_sound(pool: &Pool) -> String {
    let (is_sound, said) = verify(pool);
    assert!(is_sound, "{said}");
    said
}

/// What is planted, how it is mended, and what is said of it.
fn corruptions(is_postgres: bool) -> Vec<(&'static str, &'static str, &'static str)> {
    let bytes = if is_postgres { "decode(repeat('00', 32), 'hex')" } else { "zeroblob(32)" };
    let leak = |sql: String| -> &'static str { sql.leak() };
    vec![
        (
            "UPDATE account SET balance_msat = balance_msat + 1 WHERE id = 9",
            "UPDATE account SET balance_msat = balance_msat - 1 WHERE id = 9",
            "account miner:1:available says",
        ),
        (
            "UPDATE entry SET amount_msat = amount_msat + 1 WHERE account_id = 9 AND txn_id = (SELECT MIN(txn_id) FROM entry WHERE account_id = 9)",
            "UPDATE entry SET amount_msat = amount_msat - 1 WHERE account_id = 9 AND txn_id = (SELECT MIN(txn_id) FROM entry WHERE account_id = 9)",
            "sums to 1 msat",
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM txn WHERE kind = 'paid'; DELETE FROM txn WHERE kind = 'paid'",
            "INSERT INTO txn SELECT * FROM kept; DROP TABLE kept",
            "entries have no transaction",
        ),
        // A thief who knows double entry: from the fee to himself, balances and all.
        (
            "UPDATE entry SET amount_msat = amount_msat + 5 WHERE account_id = 9 AND txn_id = (SELECT MIN(txn_id) FROM entry WHERE account_id = 9);
             UPDATE entry SET amount_msat = amount_msat - 5 WHERE account_id = 4 AND txn_id = (SELECT MIN(txn_id) FROM entry WHERE account_id = 9);
             UPDATE account SET balance_msat = balance_msat + 5 WHERE id = 9; UPDATE account SET balance_msat = balance_msat - 5 WHERE id = 4",
            "UPDATE entry SET amount_msat = amount_msat - 5 WHERE account_id = 9 AND txn_id = (SELECT MIN(txn_id) FROM entry WHERE account_id = 9);
             UPDATE entry SET amount_msat = amount_msat + 5 WHERE account_id = 4 AND txn_id = (SELECT MIN(txn_id) FROM entry WHERE account_id = 9);
             UPDATE account SET balance_msat = balance_msat - 5 WHERE id = 9; UPDATE account SET balance_msat = balance_msat + 5 WHERE id = 4",
            "is credited otherwise than its weights say",
        ),
        // One who writes himself a credit out of nothing that a block has brought.
        (
            "INSERT INTO entry (txn_id, account_id, amount_msat) SELECT MAX(id) + 1, 1, -9000 FROM txn;
             INSERT INTO entry (txn_id, account_id, amount_msat) SELECT MAX(id) + 1, 9, 9000 FROM txn;
             INSERT INTO txn (id, kind, idem_key, created_ms) SELECT MAX(id) + 1, 'reward', 'reward:none:1', 0 FROM txn;
             UPDATE account SET balance_msat = balance_msat + 9000 WHERE id = 9; UPDATE account SET balance_msat = balance_msat - 9000 WHERE id = 1",
            "DELETE FROM entry WHERE txn_id = (SELECT id FROM txn WHERE idem_key = 'reward:none:1'); DELETE FROM txn WHERE idem_key = 'reward:none:1';
             UPDATE account SET balance_msat = balance_msat - 9000 WHERE id = 9; UPDATE account SET balance_msat = balance_msat + 9000 WHERE id = 1",
            "reward:none:1 is about no block",
        ),
        (
            "UPDATE block SET state = 'candidate' WHERE id = 1",
            "UPDATE block SET state = 'mature' WHERE id = 1",
            "against its state",
        ),
        (
            "UPDATE block SET fee_msat = fee_msat - 10 WHERE id = 2",
            "UPDATE block SET fee_msat = fee_msat + 10 WHERE id = 2",
            "is credited otherwise than its weights say",
        ),
        (
            "UPDATE slot SET shares = shares + 1 WHERE id = 2",
            "UPDATE slot SET shares = shares - 1 WHERE id = 2",
            "slot 2 does not sum to what its workers did",
        ),
        (
            "UPDATE worker SET accepted_shares = accepted_shares + 1 WHERE id = 2",
            "UPDATE worker SET accepted_shares = accepted_shares - 1 WHERE id = 2",
            "worker 2 has other totals than its slots",
        ),
        (
            "UPDATE tally SET rejected_shares = rejected_shares + 1",
            "UPDATE tally SET rejected_shares = rejected_shares - 1",
            "the pool has other totals than its workers",
        ),
        (
            leak(format!("CREATE TABLE kept AS SELECT id, root FROM segment; UPDATE segment SET root = {bytes} WHERE id = 2")),
            "UPDATE segment SET root = (SELECT root FROM kept WHERE kept.id = segment.id); DROP TABLE kept",
            "segment 2",
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM segment WHERE id = 2; DELETE FROM segment WHERE id = 2",
            "INSERT INTO segment SELECT * FROM kept; DROP TABLE kept",
            "the chain is broken between segments 1 and 3",
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM segment WHERE id = 1; DELETE FROM segment WHERE id = 1",
            "INSERT INTO segment SELECT * FROM kept; DROP TABLE kept",
            "the chain of segments begins with 2",
        ),
        (
            "UPDATE watermark SET segment = segment - 4294967296",
            "UPDATE watermark SET segment = segment + 4294967296",
            "is before the end of segment",
        ),
        ("UPDATE payout SET sats = sats + 1", "UPDATE payout SET sats = sats - 1", "batch 1 is not the sum of its payments"),
        (
            "UPDATE payout SET state = 'broadcast'",
            "UPDATE payout SET state = 'paid'",
            "batch 1 was paid, taken back or returned otherwise than the journal says",
        ),
        (
            "UPDATE payout_item SET sats = sats - 1 WHERE miner_id = 1; UPDATE payout_item SET sats = sats + 1 WHERE miner_id = 2",
            "UPDATE payout_item SET sats = sats + 1 WHERE miner_id = 1; UPDATE payout_item SET sats = sats - 1 WHERE miner_id = 2",
            "batch 1 was not planned in the journal as it pays",
        ),
        (
            leak(format!("CREATE TABLE kept AS SELECT txid, raw FROM payout_tx; UPDATE payout_tx SET raw = {bytes}")),
            "UPDATE payout_tx SET raw = (SELECT raw FROM kept WHERE kept.txid = payout_tx.txid); DROP TABLE kept",
            "transaction 0 of batch 1 has stored bytes that are not that transaction",
        ),
        (
            "UPDATE payout SET state = 'returned'",
            "UPDATE payout SET state = 'paid'",
            "batch 1 is returned, but its transaction is on the chain",
        ),
        (
            "UPDATE payout SET fee_from = CASE fee_from WHEN 'pool' THEN 'miners' ELSE 'pool' END",
            "UPDATE payout SET fee_from = CASE fee_from WHEN 'pool' THEN 'miners' ELSE 'pool' END",
            "transaction 0 of batch 1 pays otherwise than its batch says",
        ),
        (
            "UPDATE payout_tx SET fee_sats = fee_sats + 1",
            "UPDATE payout_tx SET fee_sats = fee_sats - 1",
            "transaction 0 of batch 1 leaves another fee",
        ),
        (
            "UPDATE payout_input SET prev_vout = prev_vout + 1",
            "UPDATE payout_input SET prev_vout = prev_vout - 1",
            "transaction 0 of batch 1 spends other coins",
        ),
        (
            leak(format!("CREATE TABLE kept AS SELECT id, txid FROM payout; UPDATE payout SET txid = {bytes}")),
            "UPDATE payout SET txid = (SELECT txid FROM kept WHERE kept.id = payout.id); DROP TABLE kept",
            "batch 1 is said to be on the chain by a transaction that is not its own",
        ),
        (
            "CREATE TABLE kept AS SELECT id, slot_id FROM block; UPDATE block SET slot_id = NULL WHERE id = 2",
            "UPDATE block SET slot_id = (SELECT slot_id FROM kept WHERE kept.id = block.id); DROP TABLE kept",
            "has no window of work, and is not its finder's",
        ),
        (
            "UPDATE block SET height = height + 1 WHERE id = 2",
            "UPDATE block SET height = height - 1 WHERE id = 2",
            "has another height than its record",
        ),
        (
            "UPDATE txn SET reason = '' WHERE idem_key = 'correction:operator:t12'",
            "UPDATE txn SET reason = 'mended' WHERE idem_key = 'correction:operator:t12'",
            "correction:operator:t12 was done by hand, and has no reason",
        ),
        (
            "UPDATE txn SET kind = 'correction' WHERE idem_key = 'fund:f2'",
            "UPDATE txn SET kind = 'fund' WHERE idem_key = 'fund:f2'",
            "fund:f2 is a transaction of another kind",
        ),
        theft("return", "return:99", (9, 17), "return:99 is a transaction of no batch"),
        theft("correction", "correction:operator:zz", (9, 17), "correction:operator:zz corrects other than one miner"),
        theft("correction", "correction:slot:abc", (2, 9), "correction:slot:abc was done by hand, and has no reason"),
        theft("slot", "slot:none:1", (2, 9), "slot:none:1 is about no slot"),
        // What one was paid is said to have been another's.
        (
            "UPDATE entry SET amount_msat = amount_msat - 5 WHERE account_id = 10 AND txn_id = (SELECT id FROM txn WHERE idem_key = 'paid:1:1');
             UPDATE entry SET amount_msat = amount_msat + 5 WHERE account_id = 18 AND txn_id = (SELECT id FROM txn WHERE idem_key = 'paid:1:1');
             UPDATE account SET balance_msat = balance_msat - 5 WHERE id = 10; UPDATE account SET balance_msat = balance_msat + 5 WHERE id = 18",
            "UPDATE entry SET amount_msat = amount_msat + 5 WHERE account_id = 10 AND txn_id = (SELECT id FROM txn WHERE idem_key = 'paid:1:1');
             UPDATE entry SET amount_msat = amount_msat - 5 WHERE account_id = 18 AND txn_id = (SELECT id FROM txn WHERE idem_key = 'paid:1:1');
             UPDATE account SET balance_msat = balance_msat + 5 WHERE id = 10; UPDATE account SET balance_msat = balance_msat - 5 WHERE id = 18",
            "paid:1:1 moves otherwise than its batch pays",
        ),
        // The next batch would pay somebody else.
        (
            "UPDATE miner SET address = 'x' || address WHERE id = 1",
            "UPDATE miner SET address = substr(address, 2) WHERE id = 1",
            "is not who its shares were for",
        ),
    ]
}

/// Five millisatoshi from one account to another, as whoever knows double entry would write it.
fn theft(
    kind: &str,
    key: &str,
    (from, to): (u32, u32),
    expect: &'static str,
) -> (&'static str, &'static str, &'static str) {
    let balances = |sign: &str, back: &str| {
        format!(
            "UPDATE account SET balance_msat = balance_msat {sign} 5 WHERE id = {to}; \
             UPDATE account SET balance_msat = balance_msat {back} 5 WHERE id = {from}"
        )
    };
    let plant = format!(
        "INSERT INTO entry (txn_id, account_id, amount_msat) SELECT MAX(id) + 1, {from}, -5 FROM txn; \
         INSERT INTO entry (txn_id, account_id, amount_msat) SELECT MAX(id) + 1, {to}, 5 FROM txn; \
         INSERT INTO txn (id, kind, idem_key, created_ms) SELECT MAX(id) + 1, '{kind}', '{key}', 0 FROM txn; {}",
        balances("+", "-")
    );
    let mend = format!(
        "DELETE FROM entry WHERE txn_id = (SELECT id FROM txn WHERE idem_key = '{key}'); \
         DELETE FROM txn WHERE idem_key = '{key}'; {}",
        balances("-", "+")
    );
    (plant.leak(), mend.leak(), expect)
}

/// Files that are not what they were.
fn damaged_files(pool: &Pool) {
    let mut files: Vec<_> = fs::read_dir(pool.directory().join("spool/audit"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".zst"))
        .collect();
    // The oldest first: whatever else is lost is a fault.
    files.sort_by_key(|file| (fs::metadata(file).unwrap().modified().unwrap(), file.clone()));
    assert!(files.len() >= 3, "{files:?}");
    let [first, second] = [0, 1].map(|number| fs::read(&files[number]).unwrap());
    for (bytes, expect) in [
        (&second[..], "its file has other shares than its root says"),
        (&first[..first.len() / 2], "cannot be read"),
        (b"\0\xff rubbish", "cannot be read"),
    ] {
        fs::write(&files[0], bytes).unwrap();
        let (is_sound, said) = verify(pool);
        assert!(!is_sound && said.contains(expect), "{expect}: {said}");
    }
    fs::write(&files[0], first).unwrap();
    must_be_sound(pool);
    // What is not kept any more is no fault.
    fs::remove_file(&files[0]).unwrap();
    assert!(must_be_sound(pool).contains("note: 1 finished segments are not kept any more"));
}

fn touched(url: Option<String>) {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::taproot(REGTEST);
    let (pool, blocks) = seasoned(&node, &key, url);
    let said = must_be_sound(&pool);
    assert!(said.contains("shares read again") && !said.contains("note: the wallet"), "{said}");
    assert_eq!(blocks.len(), 7);
    for hash in &blocks {
        let (status, said) = pool.outcome(&["ledger", "verify", "--block", hash]);
        assert!(status == 0 && said.contains(&format!("recomputed block {hash}")), "{said}");
    }
    let books = Books::open(&pool.setup.ledger_url);
    let is_postgres = pool.setup.ledger_url.starts_with("postgres");
    let off = match is_postgres {
        true => "SET session_replication_role = replica".to_owned(),
        false => {
            let guards = [
                "txn_no_update",
                "txn_no_delete",
                "entry_no_update",
                "entry_no_delete",
                "entry_added",
                "txn_sealed",
                "segment_no_update",
                "segment_no_delete",
                "payout_tx_fixed",
                "payout_item_fixed",
            ];
            guards.map(|guard| format!("DROP TRIGGER {guard};")).concat() + "PRAGMA foreign_keys = OFF"
        }
    };
    books.try_write(&off).unwrap();
    let corruptions = corruptions(is_postgres);
    assert!(corruptions.len() >= 10);
    for (plant, mend, expect) in corruptions {
        books.try_write(plant).unwrap_or_else(|error| panic!("{plant}: {error}"));
        let (is_sound, said) = verify(&pool);
        assert!(!is_sound && said.contains(expect), "{plant}\n{expect}: {said}");
        books.try_write(mend).unwrap_or_else(|error| panic!("{mend}: {error}"));
        must_be_sound(&pool);
    }
    damaged_files(&pool);
}

#[test]
fn whatever_is_touched_in_the_books_is_named_on_sqlite() {
    touched(None);
}

#[test]
fn whatever_is_touched_in_the_books_is_named_on_postgres() {
    let postgres = Postgres::start();
    touched(Some(postgres.url()));
}

/// The wallet must have what is owed: its coins are looked at too, where the ledger knows them.
#[test]
fn coins_that_are_gone_are_missed() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::wpkh(REGTEST);
    let mut pool = rich(&node, &key, 3, &tables(&key.public(), BY_HAND));
    // The pool that found the blocks had the same wallet: it has the coins for what is owed.
    let said = must_be_sound(&pool);
    assert!(!said.contains("note: the wallet"), "{said}");
    // One that no pool has opened yet cannot be compared.
    let same = pool.setup.more.clone();
    let config = pool.directory().join("sluice.toml");
    let [receive, change] = ["1", "0"].map(|branch| key.public().replace("<0;1>", branch));
    let other = format!("descriptor = \"{receive}\"\nchange_descriptor = \"{change}\"");
    pool.setup.more = same.replace(&format!("descriptor = \"{}\"", key.public()), &other);
    fs::write(&config, pool.setup.text()).unwrap();
    assert!(must_be_sound(&pool).contains("note: the wallet has not been opened yet"));
    pool.setup.more = same;
    fs::write(&config, pool.setup.text()).unwrap();

    // Somebody with the key takes a coin, and the pool sees that it is gone.
    pool.start_again();
    pool.ask(&["payout", "run"]).unwrap();
    let psbt = pool.ask(&["payout", "export", "1"]).unwrap();
    let instead = key.spend_instead(&psbt, &stranger(), 5_000);
    node.call("generateblock", json!([stranger(), [instead]]));
    node.generate(6, &stranger());
    let before = pool.ask(&["payout", "list"]).unwrap();
    pool.ask(&["payout", "return", "1"]).unwrap_or_else(|error| panic!("{error}\n{before}"));
    assert!(pool.terminate().success());
    let (is_sound, said) = verify(&pool);
    assert!(
        !is_sound
            && said.contains(
                "WRONG: the wallet has 10000000000 satoshi, but 14850000000000 millisatoshi are owed"
            ),
        "{said}"
    );
}

/// A miner's own threshold: shown, set, in force at the next batch, and taken away.
#[test]
fn a_miner_has_a_threshold_of_its_own() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::taproot(REGTEST);
    let mut pool = rich(&node, &key, 2, &tables(&key.private(), BY_HAND));
    pool.start_again();
    let threshold = |arguments: &[&str]| pool.outcome(&[&["payout", "threshold"], arguments].concat());
    let shown =
        |number| pool.api(&format!("/api/v1/miners/{}", miner(number)))["payout_threshold_sats"].clone();
    let check = |(status, said): (i32, String), expect: (i32, &str)| {
        assert_eq!((status, said.contains(expect.1)), (expect.0, true), "{said}");
    };
    let first = miner(0);
    check(threshold(&[&first]), (0, "is paid from 1000 sat on, as payout.threshold_sats says"));
    assert_eq!(shown(0), 1000);
    check(threshold(&[&first, "9999999999"]), (0, "is paid from 9999999999 sat on"));
    assert_eq!((shown(0), shown(1)), (json!(9_999_999_999_u64), json!(1000)));
    check(threshold(&[&stranger()]), (64, "nobody has mined here"));
    check(threshold(&[&stranger(), "5"]), (64, "nobody has mined here"));
    check(threshold(&["rubbish", "5"]), (64, "no Bitcoin address"));
    check(threshold(&[&first, "0"]), (64, "0 is not in 1.."));
    check(threshold(&[&first, "5", "--default"]), (64, "cannot be used with"));
    let said = pool.ask(&["payout", "run"]).unwrap();
    assert!(said.contains("to 1 miners"), "{said}");
    check(threshold(&[&first, "--default"]), (0, "as payout.threshold_sats says"));
    assert_eq!(shown(0), 1000);
    let said = pool.ask(&["payout", "run"]).unwrap();
    assert!(said.contains("to 1 miners"), "{said}");
    assert!(pool.terminate().success());
}

/// Whatever the operator's commands are given, they end with one line that says what is wrong, where, and what to do.
#[test]
fn what_is_wrong_is_said_in_one_line() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::taproot(REGTEST);
    let mut pool = rich(&node, &key, 0, &tables(&key.private(), BY_HAND));
    let place = pool.directory().to_owned();
    let config = place.join("sluice.toml");
    let good = pool.setup.text();
    let first = miner(0);
    let fund = "ledger fund --from operator --to reserve --amount 5 --key k --reason r"
        .split(' ')
        .collect::<Vec<_>>();
    let commands: [&[&str]; 6] = [
        &VERIFY,
        &["ledger", "history", "reserve"],
        &fund,
        &["payout", "list"],
        &["payout", "export", "1"],
        &["payout", "threshold", &first],
    ];
    let check = |pool: &Pool, arguments: &[&str], status: i32, expect: &str| {
        let (code, said) = pool.outcome(arguments);
        let lines = said.lines().filter(|line| line.starts_with("sluice: ")).count();
        assert!(
            code == status && said.contains(expect),
            "{arguments:?} ended with {code}, not {expect:?}: {said}"
        );
        assert!(lines == 1 && said.lines().count() == 1 && said.len() < 5_000, "{arguments:?}: {said}");
    };
    // The configuration is none.
    let deep = format!("x = {}", "[".repeat(500_000));
    for (bytes, expect) in [
        (&b"\xff\xfe\0\0"[..], "is no text: it must be TOML"),
        (b"network = ", "line 1"),
        (&[b' '; 2 << 20], "it is not the file that is asked for here"),
        (deep.as_bytes(), "sluice.toml: "),
    ] {
        fs::write(&config, bytes).unwrap();
        for arguments in commands {
            check(&pool, arguments, 64, expect);
        }
    }
    fs::remove_file(&config).unwrap();
    check(&pool, &VERIFY, 64, "there is no such file");
    fs::create_dir(&config).unwrap();
    check(&pool, &VERIFY, 64, "it is a directory");
    fs::remove_dir(&config).unwrap();

    // The database is none.
    fs::write(place.join("empty.db"), "").unwrap();
    fs::write(place.join("rubbish.db"), [7; 9_000]).unwrap();
    fs::create_dir(place.join("directory.db")).unwrap();
    let url = pool.setup.ledger_url.clone();
    for (name, expect) in [
        ("missing.db", "No such file"),
        ("empty.db", "run sluice migrate"),
        ("rubbish.db", "ledger.url names a file that is none of SQLite"),
        ("directory.db", "unable to open database file"),
    ] {
        pool.setup.ledger_url = url.replace("sluice.db", name);
        fs::write(&config, pool.setup.text()).unwrap();
        for arguments in commands {
            check(&pool, arguments, 69, expect);
        }
    }
    pool.setup.ledger_url = url;
    fs::write(&config, &good).unwrap();

    // What is asked for is wrong.
    check(&pool, &["ledger", "verify", "--block", "xyz"], 64, "a block's hash has 64 hex digits");
    check(&pool, &["ledger", "history", "nobody"], 64, "neither an address that has mined here nor");
    check(&pool, &["payout", "export", "9"], 69, "there is no batch 9: see sluice payout list");
    check(&pool, &["payout", "threshold", &first], 64, "nobody has mined here with the address");
    fs::write(place.join("binary.psbt"), b"psbt\xff\x01\0").unwrap();
    fs::File::create(place.join("huge.psbt")).unwrap().set_len(1 << 40).unwrap();
    check(&pool, &["payout", "import", "binary.psbt"], 64, "export the signed PSBT in base64");
    check(&pool, &["payout", "import", "huge.psbt"], 1, "it is not the file that is asked for here");
    check(&pool, &["payout", "import", "."], 69, "it is a directory");
    check(&pool, &["payout", "import", "nowhere"], 69, "there is no such file");

    // Without a wallet there is nothing to pay; the books are there all the same.
    pool.setup.more = String::new();
    fs::write(&config, pool.setup.text()).unwrap();
    check(&pool, &["payout", "run"], 64, "there is no [wallet] in the configuration");
    check(&pool, &["payout", "threshold", &first], 64, "there is no [wallet] in the configuration");
    must_be_sound(&pool);
}
