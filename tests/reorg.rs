//! Reorganisations and maturity on regtest: the ledger follows the node's chain, by entries that only add up.
//! Half of all hashes are blocks there, so every share of these tests is one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    address,
    books::{Balance, Books},
    flood::DIFFICULTY,
    miner::{Manner, Miner},
    node::{Chain, Login, Node},
    pool::{Block, Pool},
    wait_for,
};

/// What a miner gets of a block of 50 bitcoin at a fee of 1 %, in millisatoshi.
const REWARD: i64 = 4_950_000_000_000;

/// The usual patience.
const SOON: Duration = Duration::from_secs(30);

/// Finds `count` blocks, one on top of the other.
fn find_blocks(miner: &mut Miner, node: &Node, count: u64) {
    for _ in 0..count {
        let height = node.height();
        miner.wait_for_tip(&node.hash_at(height), SOON).unwrap();
        let sent = miner.tally.sent;
        miner.mine(|tally| tally.sent == sent).unwrap();
        wait_for("the block to reach the node", SOON, || (node.height() == height + 1).then_some(()));
    }
    miner.tally.must_be_clean();
}

/// The ledger tells of every block what the node tells of it.
fn check_blocks(pool: &Pool, node: &Node, count: usize) -> Vec<Block> {
    let mut last = Vec::new();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for("the ledger to follow the chain", SOON, || {
            last = pool.blocks();
            let follows = |block: &Block| {
                let header = node.call("getblockheader", json!([block.hash]));
                let expected = match header["confirmations"].as_i64().unwrap() {
                    100.. => "mature",
                    1.. => "immature",
                    _ => "orphaned",
                };
                block.status == expected
            };
            (last.len() == count && last.iter().all(follows)).then_some(())
        });
    }));
    if let Err(panic) = result {
        eprintln!("height {}, blocks {last:#?}", node.height());
        std::panic::resume_unwind(panic);
    }
    last
}

/// What the API, and the entries of the journal, say that `address` has.
fn check_balance(pool: &Pool, books: &Books, address: &str, expected: Balance) {
    let amount = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("no amount: {value}"));
    wait_for(&format!("{address} to have {expected:?}"), SOON, || {
        let told = &pool.api(&format!("/api/v1/miners/{address}"))["balance_msat"];
        let [immature, available, paid] = ["immature", "available", "paid"].map(|name| amount(&told[name]));
        let told = Balance { immature, available, paid };
        let written = books.balance(address);
        (told == expected && written == expected).then_some(())
    });
    books.audit();
}

fn immature(msat: i64) -> Balance {
    Balance { immature: msat, available: 0, paid: 0 }
}

#[test]
fn orphaned_blocks_are_reversed_and_what_comes_back_is_credited_again() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let house = address(Chain::Regtest, 1);
    let mut pool = Pool::start(&node, &house, |setup| setup.difficulty = (DIFFICULTY, DIFFICULTY));
    let books = Books::open(&pool.setup.ledger_url);
    let [alice, bob] = [2, 3].map(|number| address(Chain::Regtest, number));
    let connect = |user: &str| {
        let mut miner =
            Miner::connect(pool.setup.stratum_port, &format!("{user}.1"), Manner::Cpuminer).unwrap();
        miner.window = 1;
        miner
    };
    let (mut from_alice, mut from_bob) = (connect(&alice), connect(&bob));

    find_blocks(&mut from_alice, &node, 3);
    find_blocks(&mut from_bob, &node, 2);
    check_blocks(&pool, &node, 5);
    check_balance(&pool, &books, &alice, immature(3 * REWARD));
    check_balance(&pool, &books, &bob, immature(2 * REWARD));

    // Bob's blocks fall off; Alice mines on where they began.
    let bobs_first = node.hash_at(4);
    node.call("invalidateblock", json!([bobs_first]));
    assert_eq!(node.height(), 3);
    check_blocks(&pool, &node, 5);
    check_balance(&pool, &books, &bob, immature(0));
    find_blocks(&mut from_alice, &node, 3);
    check_blocks(&pool, &node, 8);
    check_balance(&pool, &books, &alice, immature(6 * REWARD));
    check_balance(&pool, &books, &bob, immature(0));

    // And back: what was orphaned is on the chain again.
    let alices_fourth = node.hash_at(4);
    node.call("invalidateblock", json!([alices_fourth]));
    node.call("reconsiderblock", json!([bobs_first]));
    assert_eq!(node.height(), 5);
    check_blocks(&pool, &node, 8);
    check_balance(&pool, &books, &alice, immature(3 * REWARD));
    check_balance(&pool, &books, &bob, immature(2 * REWARD));

    // The longer branch wins in the end, and the pool is not even running while it does.
    assert!(pool.terminate().success());
    node.call("reconsiderblock", json!([alices_fourth]));
    assert_eq!(node.height(), 6);
    pool.start_again();
    check_blocks(&pool, &node, 8);
    check_balance(&pool, &books, &alice, immature(6 * REWARD));
    check_balance(&pool, &books, &bob, immature(0));

    // 99 confirmations are not enough, 100 are.
    let stranger = address(Chain::Regtest, 99);
    node.call("generatetoaddress", json!([93, stranger]));
    let blocks = check_blocks(&pool, &node, 8);
    assert!(blocks.iter().all(|block| block.status != "mature"), "{blocks:#?}");
    check_balance(&pool, &books, &alice, immature(6 * REWARD));
    node.call("generatetoaddress", json!([3, stranger]));
    check_blocks(&pool, &node, 8);
    check_balance(&pool, &books, &alice, Balance { immature: 3 * REWARD, available: 3 * REWARD, paid: 0 });
    node.call("generatetoaddress", json!([10, stranger]));
    let blocks = check_blocks(&pool, &node, 8);
    assert_eq!(blocks.iter().filter(|block| block.status == "mature").count(), 6, "{blocks:#?}");
    check_balance(&pool, &books, &alice, Balance { immature: 0, available: 6 * REWARD, paid: 0 });
    check_balance(&pool, &books, &bob, immature(0));

    assert!(pool.terminate().success());
    books.audit();
    assert_eq!(books.rewards(), 6 * 5_000_000_000_000);
}

/// F-54. Until a hundred blocks deep a reward is taken back with its block; later it stays with the miner, and the house
/// stands for it.
#[test]
fn f54_reorganisations_of_depth_1_2_6_and_101() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let house = address(Chain::Regtest, 1);
    let mut pool = Pool::start(&node, &house, |setup| setup.difficulty = (DIFFICULTY, DIFFICULTY));
    let books = Books::open(&pool.setup.ledger_url);
    let alice = address(Chain::Regtest, 2);
    let mut miner = Miner::connect(pool.setup.stratum_port, &format!("{alice}.1"), Manner::Cpuminer).unwrap();
    miner.window = 1;
    for (count, depth) in [1u32, 2, 6, 101].into_iter().enumerate() {
        find_blocks(&mut miner, &node, 1);
        let hash = node.hash_at(node.height());
        if depth > 1 {
            node.generate(depth - 1, &address(Chain::Regtest, 98));
        }
        let blocks = check_blocks(&pool, &node, count + 1);
        assert_eq!(blocks[0].hash, hash);
        let (immature, available) = if depth > 100 { (0, REWARD) } else { (REWARD, 0) };
        check_balance(&pool, &books, &alice, Balance { immature, available, paid: 0 });

        node.call("invalidateblock", json!([hash]));
        node.generate(depth + 1, &address(Chain::Regtest, 99));
        let blocks = check_blocks(&pool, &node, count + 1);
        assert!(blocks.iter().all(|block| block.status == "orphaned"), "{blocks:#?}");
        check_balance(&pool, &books, &alice, Balance { immature: 0, available, paid: 0 });
        assert_eq!(books.reserve(), -if depth > 100 { 5_000_000_000_000 } else { 0 });
    }
    assert!(pool.terminate().success());
    books.audit();
}

/// F-11. Regtest halves its subsidy at 150, 300, ...: work before and after pays what the chain allows, to the satoshi.
#[test]
fn f11_a_halving_is_crossed() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    node.generate(147, &address(Chain::Regtest, 99));
    let house = address(Chain::Regtest, 1);
    let pool = Pool::start(&node, &house, |setup| setup.difficulty = (DIFFICULTY, DIFFICULTY));
    let alice = address(Chain::Regtest, 2);
    let mut miner = Miner::connect(pool.setup.stratum_port, &format!("{alice}.1"), Manner::Cpuminer).unwrap();
    miner.window = 1;
    find_blocks(&mut miner, &node, 4);
    let blocks = check_blocks(&pool, &node, 4);
    for block in &blocks {
        let expected = if block.height < 150 { 5_000_000_000 } else { 2_500_000_000 };
        let paid: u64 = node.coinbase(&block.hash).iter().map(|(_, satoshi)| satoshi).sum();
        assert_eq!((block.reward_msat, paid), (expected * 1000, expected), "{block:?}");
    }
    assert_eq!(blocks.iter().map(|block| block.height).collect::<Vec<_>>(), [151, 150, 149, 148]);
}
