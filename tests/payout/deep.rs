//! F-54: reorganisations while a batch is open.

use serde_json::json;

use super::*;

/// Takes the newest `depth` blocks off the chain; one more comes instead, none with anything of the mempool.
fn reorganise(node: &Node, depth: u64) {
    let first = node.hash_at(node.height() + 1 - depth);
    let goal = node.height() + 1;
    node.call("invalidateblock", json!([first]));
    while node.height() < goal {
        let other = address(Chain::Regtest, 200 + (depth % 50) as u8);
        node.call("generateblock", json!([other, []]));
    }
}

/// Depths at which nothing is lost that the batch is made of: it stays as it is, and is paid once.
#[test]
fn f54_an_open_batch_outlives_reorganisations_of_depth_1_2_and_6() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::taproot(REGTEST);
    let mut pool = rich(&node, &key, 3, &tables(&key.private(), BY_HAND));
    node.generate(10, &stranger()); // a shorter chain could not have what the batch spends
    pool.start_again();
    pool.ask(&["payout", "run"]).unwrap();
    let txid = roads::ids(&until_batch(&pool, 1, "broadcast"))[0].clone();
    roads::raw(&node, &txid);
    let books = Books::open(&pool.setup.ledger_url);
    let before = books.balance(&miner(0));
    for depth in [1, 2, 6] {
        reorganise(&node, depth);
        // Confirmed, where the next one takes it out again.
        roads::raw(&node, &txid);
        node.generate(1, &stranger());
        wait_for("the batch to be seen in a block", SOON, || {
            (batches(&pool)[0]["confirmations"] == 1).then_some(())
        });
        reorganise(&node, 1);
        wait_for("the batch to be in no block", SOON, || {
            batches(&pool)[0]["confirmations"].is_null().then_some(())
        });
        assert_eq!((until_batch(&pool, 1, "broadcast")["txid"].is_null(), books.reserve()), (true, 0));
        assert_eq!(books.balance(&miner(0)), before, "depth {depth}");
        books.audit();
        roads::raw(&node, &txid);
    }
    confirm(&node, 0);
    assert_eq!(until_batch(&pool, 1, "paid")["txid"], txid);
    check_paid(&node, &pool, 3, 3);
    assert!(pool.terminate().success());
}

/// At 101 a mature block is lost, and with it a coin that the batch spends: it cannot confirm any more. The reserve stands
/// in for the block, the batch is given up, and the miners are paid from other coins.
#[test]
fn f54_an_open_batch_whose_coin_was_reorganised_away_is_returned() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::taproot(REGTEST);
    let mut pool = rich(&node, &key, 3, &tables(&key.private(), BY_HAND));
    pool.start_again();
    pool.ask(&["payout", "run"]).unwrap();
    until_batch(&pool, 1, "broadcast");
    let refused = pool.ask(&["payout", "return", "1"]).unwrap_err();
    assert!(refused.contains("may still confirm"), "{refused}");
    let books = Books::open(&pool.setup.ledger_url);
    reorganise(&node, 101);
    wait_for("the reserve to stand in", SOON, || (books.reserve() == -5_000_000_000_000).then_some(()));
    books.audit();
    wait_for("the operator to be told", SOON, || {
        let listed = pool.ask(&["payout", "list"]).unwrap();
        listed.contains("the nodes refuse").then_some(())
    });

    pool.ask(&["payout", "return", "1"]).unwrap();
    until_batch(&pool, 1, "returned");
    books.audit();
    for number in 0..3 {
        let balance = books.balance(&miner(number));
        assert!(balance.available > 0 && balance.paid == 0, "{balance:?}");
    }
    let said = pool.ask(&["payout", "run"]).unwrap();
    assert!(said.contains("; not all that is due: the wallet has"), "two coins do not pay for three: {said}");
    until_batch(&pool, 2, "broadcast");
    node.generate(1, &key.address());
    node.generate(100, &stranger());
    wait_for("a batch from other coins", SOON, || {
        pool.ask(&["payout", "run"]).ok().filter(|said| said.contains("batch 3 is planned"))
    });
    until_batch(&pool, 3, "broadcast");
    confirm(&node, 0);
    until_batch(&pool, 3, "paid");
    check_paid(&node, &pool, 3, 3);
    assert!(pool.terminate().success());
}
