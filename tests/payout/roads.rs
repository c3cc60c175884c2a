//! The roads that are not straight: higher fees, reorganisations, batches that are given up, and what cannot be paid.

use serde_json::{Value, json};

use super::*;

pub fn ids(batch: &Value) -> Vec<String> {
    let transactions = batch["transactions"].as_array().unwrap();
    transactions.iter().map(|version| version["txid"].as_str().unwrap().to_owned()).collect()
}

/// Bytes of a transaction in the node's mempool, in hex.
pub fn raw(node: &Node, txid: &str) -> String {
    wait_for("the transaction to reach the node", SOON, || {
        node.try_call("getrawtransaction", json!([txid])).ok().map(|raw| raw.as_str().unwrap().to_owned())
    })
}

/// A batch, its fee raised, and the pool killed around that. Then `old` says which of the two gets into a block.
fn bump(key: &Key, fee: &str, old: bool) {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let by_hand = tables(&key.private(), &format!("{BY_HAND}\n{fee}"));
    let mut pool = rich(&node, key, 4, &by_hand);
    pool.start_again();
    let said = pool.ask(&["payout", "run"]).unwrap();
    assert!(said.contains("batch 1 is planned") && said.contains("4 miners"), "{said}");
    let first = ids(&until_batch(&pool, 1, "broadcast"))[0].clone();
    let first_raw = raw(&node, &first);
    let refused = pool.ask(&["payout", "bump", "1", "--feerate", "2"]).unwrap_err();
    assert!(refused.contains("must pay"), "{refused}");
    let refused = pool.ask(&["payout", "bump", "1", "--feerate", "51"]).unwrap_err();
    assert!(refused.contains("payout.max_feerate is 50"), "{refused}");
    assert!(pool.ask(&["payout", "bump", "7"]).unwrap_err().contains("no batch"));

    // An order is noted and outlives the pool that was to carry it out.
    assert!(pool.terminate().success());
    let books = Books::open(&pool.setup.ledger_url);
    books.order("bump", "1");
    pool.die_at("Bumping");
    pool.die_at("Bumped");
    // It is not done twice.
    pool.start_again();
    let batch = wait_for("the new version to be signed", SOON, || {
        let batch = batches(&pool)[0].clone();
        let versions = batch["transactions"].as_array().unwrap();
        (versions.len() == 2 && versions[1]["signed"] == true).then_some(batch)
    });
    let second = ids(&batch)[1].clone();
    let fees: Vec<u64> =
        batch["transactions"].as_array().unwrap().iter().map(|at| at["fee_sats"].as_u64().unwrap()).collect();
    assert!(fees[1] > fees[0], "{fees:?}");
    raw(&node, &second);
    assert!(node.try_call("getmempoolentry", json!([first])).is_err(), "it was replaced");

    assert_eq!(batches(&pool)[0]["transactions"].as_array().unwrap().len(), 2, "raised once");
    if old {
        node.call("generateblock", json!([stranger(), [first_raw]]));
    }
    confirm(&node, 0);
    let paid = until_batch(&pool, 1, "paid");
    assert_eq!(paid["txid"], if old { first } else { second });
    check_paid(&node, &pool, 4, 4);
    assert_eq!(books.network_fee(), 1000 * if old { fees[0] } else { fees[1] });
    let refused = pool.ask(&["payout", "bump", "1"]).unwrap_err();
    assert!(refused.contains("nothing to bump"), "{refused}");
    assert!(pool.terminate().success());
}

#[test]
fn a_fee_is_raised_and_the_old_version_confirms() {
    bump(&Key::taproot(REGTEST), "", true);
}

#[test]
fn a_fee_is_raised_and_the_new_version_confirms() {
    bump(&Key::wpkh(REGTEST), "fee = \"miners\"", false);
}

/// F-54 with a payout: what was paid is in flight again, and is paid once in the end.
#[test]
fn a_reorganisation_takes_a_payout_back() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::taproot(REGTEST);
    let by_hand = tables(&key.private(), &format!("{BY_HAND}\nconfirmations = 2"));
    let mut pool = rich(&node, &key, 3, &by_hand);
    pool.start_again();
    pool.ask(&["payout", "run"]).unwrap();
    let txid = ids(&until_batch(&pool, 1, "broadcast"))[0].clone();
    raw(&node, &txid);
    let base = node.height();
    node.generate(2, &stranger());
    until_batch(&pool, 1, "paid");
    check_paid(&node, &pool, 3, 3);
    assert!(pool.terminate().success());

    // Three blocks that do not have it, in the place of the two.
    node.call("invalidateblock", json!([node.hash_at(base + 1)]));
    for number in 0..3 {
        node.call("generateblock", json!([address(Chain::Regtest, 200 + number), []]));
    }
    pool.die_at("Unpaying");
    pool.die_at("Unpaid");
    pool.start_again();
    until_batch(&pool, 1, "broadcast");
    let books = Books::open(&pool.setup.ledger_url);
    books.audit();
    assert_eq!(books.balance(&miner(0)).paid, 0);
    assert_eq!(books.network_fee(), 0);
    raw(&node, &txid);
    node.generate(2, &stranger());
    let paid = until_batch(&pool, 1, "paid");
    assert_eq!(paid["txid"], txid);
    check_paid(&node, &pool, 3, 3);
    assert!(pool.terminate().success());
}

/// A batch is given up only when none of its transactions can confirm any more.
#[test]
fn a_batch_is_returned_once_its_coins_are_spent_otherwise() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::wpkh(REGTEST);
    let by_hand = tables(&key.private(), BY_HAND);
    let mut pool = rich(&node, &key, 3, &by_hand);
    pool.start_again();
    pool.ask(&["payout", "run"]).unwrap();
    until_batch(&pool, 1, "broadcast");
    let refused = pool.ask(&["payout", "return", "1"]).unwrap_err();
    assert!(refused.contains("may still confirm"), "{refused}");
    let books = Books::open(&pool.setup.ledger_url);
    assert_eq!(books.balance(&miner(0)).available, 0);

    let psbt = pool.ask(&["payout", "export", "1"]).unwrap();
    let instead = key.spend_instead(&psbt, &key.address(), 5_000);
    node.call("generateblock", json!([stranger(), [instead]]));
    let refused = pool.ask(&["payout", "return", "1"]).unwrap_err();
    assert!(refused.contains("may still confirm"), "one confirmation is not enough: {refused}");
    node.generate(5, &stranger());
    assert!(pool.terminate().success());
    books.order("return", "1");
    pool.die_at("Returning");
    pool.die_at("Returned");
    pool.start_again();
    until_batch(&pool, 1, "returned");
    books.audit();
    let back = books.balance(&miner(0)).available;
    assert!(back > 0 && books.balance(&miner(0)).paid == 0);

    // And are paid by another.
    pool.ask(&["payout", "run"]).unwrap();
    until_batch(&pool, 2, "broadcast");
    confirm(&node, 0);
    until_batch(&pool, 2, "paid");
    check_paid(&node, &pool, 3, 3);
    assert!(pool.terminate().success());
}

/// F-55: nothing moves, and the operator is told.
#[test]
fn what_cannot_be_paid_is_said_and_moves_nothing() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::taproot(REGTEST);
    let mut pool = rich(&node, &key, 3, "");
    let books = Books::open(&pool.setup.ledger_url);
    let before = books.balance(&miner(0));

    // A fee spike: above what the operator allows.
    pool.setup.more = tables(&key.private(), BY_ITSELF).replace("feerate = 2", "feerate = 60");
    pool.start_again();
    let listed = |pool: &Pool| pool.ask(&["payout", "list"]).unwrap();
    wait_for("the fee to be complained of", SOON, || {
        listed(&pool).contains("the network asks for 60 sat/vB, payout.max_feerate is 50").then_some(())
    });
    assert!(pool.terminate().success());

    // An empty wallet: the same key the other way round, and it does not look at blocks of the past.
    let [receive, change] = ["1", "0"].map(|branch| key.private().replace("<0;1>", branch));
    let other =
        format!("descriptor = \"{receive}\"\nchange_descriptor = \"{change}\"\nbirthday_height = 9999");
    let same = format!("descriptor = \"{}\"", key.private());
    pool.setup.more = tables(&key.private(), BY_ITSELF).replace(&same, &other);
    pool.start_again();
    wait_for("the wallet to be complained of", SOON, || {
        listed(&pool).contains("the wallet has 0 sat to spend").then_some(())
    });
    assert!(pool.terminate().success());
    assert_eq!(books.balance(&miner(0)), before);
    assert_eq!(books.batches(), 0, "nothing was planned");

    // An address of another network, and dust.
    let foreign = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    books.transfer(&miner(1), foreign, 5_000_000);
    let all = books.balance(&miner(2)).available;
    books.transfer(&miner(2), &miner(1), all - 100_500);
    books.set_threshold(&miner(2), 1);
    pool.setup.more = tables(&key.private(), BY_HAND);
    pool.start_again();
    let said = pool.ask(&["payout", "run"]).unwrap();
    for words in ["to 2 miners", "2 left out", "another network than regtest", "100 sat are dust"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    until_batch(&pool, 1, "broadcast");
    confirm(&node, 0);
    until_batch(&pool, 1, "paid");
    assert!(pool.terminate().success());
    books.audit();
    assert_eq!((books.balance(foreign).paid, books.balance(foreign).available), (0, 5_000_000));
    assert_eq!(books.balance(&miner(2)).available, 100_500);
}

/// A pool whose blocks pay to another wallet would owe what it does not have.
#[test]
fn an_address_outside_of_the_wallet_is_refused() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::taproot(REGTEST);
    let pool = rich(&node, &key, 0, "");
    let mut setup = pool.setup.clone();
    setup.more = tables(&key.private(), BY_HAND);
    setup.address = stranger();
    std::fs::write(pool.directory().join("sluice.toml"), setup.text()).unwrap();
    let said = pool.ask(&["check"]).unwrap_err();
    assert!(said.contains("pool.address") && said.contains("wallet.descriptor"), "{said}");
    assert!(!said.contains("tprv"), "{said}");
}
