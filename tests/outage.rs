//! The node hangs, goes and comes back: mining goes on with what is known, nothing found meanwhile is lost, and no
//! restart is needed.

use std::{thread, time::Duration};

use serde_json::json;

use crate::support::{
    Processor, address,
    miner::{Manner, Miner},
    node::{Chain, Login, Node},
    pool::Pool,
    wait_for,
};

#[test]
fn mining_goes_on_while_the_node_is_away() {
    let _processor = Processor::take();
    // With the cookie file, whose content changes when the node starts again.
    let mut node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool =
        Pool::start(&node, &address(Chain::Signet, 1), |setup| setup.difficulty = (0.0001, 0.0001));
    let user = format!("{}.steady", address(Chain::Signet, 2));
    let mut miner = Miner::connect(pool.setup.stratum_port, &user, Manner::Cgminer).unwrap();
    let mine_one_more_block = |miner: &mut Miner, node: &Node| {
        let before = node.height();
        let mut asked = std::time::Instant::now();
        let mut higher = false;
        let go_on = |_: &_| {
            if asked.elapsed() > Duration::from_millis(200) {
                (asked, higher) = (std::time::Instant::now(), node.height() > before);
            }
            !higher
        };
        miner.mine(go_on).unwrap();
    };
    mine_one_more_block(&mut miner, &node);

    // It hangs: its connections stay open and nothing answers.
    node.freeze();
    let from = miner.tally.acknowledged;
    miner.mine(|tally| tally.acknowledged < from + 10).unwrap();
    node.thaw();
    mine_one_more_block(&mut miner, &node);

    // It is gone, and a block is found meanwhile.
    node.stop();
    let found = miner.tally.blocks.len();
    miner.mine(|tally| tally.blocks.len() == found).unwrap();
    let block = miner.tally.blocks[found].clone();
    assert!(pool.is_running());
    node.start_again();
    wait_for("the block that was found meanwhile to reach the node", Duration::from_secs(40), || {
        let header = node.try_call("getblockheader", json!([block])).ok()?;
        (header["confirmations"].as_i64()? > 0).then_some(())
    });
    mine_one_more_block(&mut miner, &node);

    miner.tally.must_be_clean();
    wait_for("the ledger to have every share", Duration::from_secs(10), || {
        let account = pool.api(&format!("/api/v1/miners/{}", address(Chain::Signet, 2)));
        let counts = [&account["accepted_shares"], &account["rejected_shares"]].map(|n| n.as_u64());
        (counts == [Some(miner.tally.acknowledged), Some(miner.tally.stale)]).then_some(())
    });
    // A database or node that went away must not keep it from ending either.
    node.freeze();
    thread::sleep(Duration::from_millis(200));
    assert!(pool.terminate().success());
    node.thaw();
}
