//! F-11: the network's difficulty changes while the pool is at work.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Processor, address,
    books::Books,
    miner::{Manner, Miner},
    node::{Chain, Login, Node},
    period,
    pool::Pool,
    wait_for,
};

#[test]
fn f11_a_change_of_difficulty_is_crossed() {
    let _processor = Processor::take();
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut blocks = period::blocks();
    let last = blocks.pop().unwrap();
    for block in blocks {
        let said = node.call("submitblock", json!([block]));
        assert!(said.is_null(), "{said}");
    }
    assert_eq!(node.height(), u64::from(period::LAST) - 1);
    let easy = node.call("getmininginfo", json!([]))["bits"].clone();

    let pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.difficulty = (0.0005, 0.0005));
    let alice = address(Chain::Signet, 2);
    let mut miner = Miner::connect(pool.setup.stratum_port, &format!("{alice}.1"), Manner::Cgminer).unwrap();
    // The last block of the period comes from elsewhere: the next one is twice as hard.
    let said = node.call("submitblock", json!([last]));
    assert!(said.is_null(), "{said}");
    miner.wait_for_tip(&node.hash_at(u64::from(period::LAST)), Duration::from_secs(10)).unwrap();
    miner.mine(|tally| tally.blocks.is_empty()).unwrap();
    miner.tally.must_be_clean();

    wait_for("the block in the ledger and on the chain", Duration::from_secs(30), || {
        let blocks = pool.blocks();
        (!blocks.is_empty() && blocks.iter().all(|block| block.status == "immature")).then_some(())
    });
    for block in pool.blocks() {
        let header = node.call("getblockheader", json!([block.hash]));
        assert!(header["confirmations"].as_i64().is_some_and(|depth| depth > 0), "{header}");
        assert_ne!(header["bits"], easy);
        let difficulty = header["difficulty"].as_f64().unwrap();
        assert!((difficulty / 0.001126515290698186 - 2.0).abs() < 0.01, "{header}");
    }
    Books::open(&pool.setup.ledger_url).audit();
}
