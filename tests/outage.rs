//! The node hangs, goes and comes back, or the database does: mining goes on with what is known, nothing found meanwhile is
//! lost, and no restart is needed.

use std::{thread, time::Duration};

use serde_json::json;

use crate::support::{
    Processor, address, http,
    miner::{Manner, Miner},
    node::{Chain, Login, Node},
    pool::Pool,
    postgres::Postgres,
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

/// The database goes away: who watches is told, who restarts is not, and every share is there in the end.
#[test]
fn a_database_that_is_away_is_said_and_mining_goes_on() {
    let _processor = Processor::take();
    let mut postgres = Postgres::start();
    let node = Node::start(Chain::Signet, Login::Cookie);
    let mut pool = Pool::start(&node, &address(Chain::Signet, 1), |setup| {
        setup.difficulty = (0.000_01, 0.000_01);
        setup.ledger_url = postgres.url();
    });
    let user = format!("{}.steady", address(Chain::Signet, 2));
    let mut miner = Miner::connect(pool.setup.stratum_port, &user, Manner::Cgminer).unwrap();
    let port = pool.setup.api_port;
    let ask = |path: &str| http::get(port, path).unwrap();
    let metric = |name: &str| -> f64 {
        let page = ask("/metrics").body;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    };
    postgres.stop_immediate();
    let begun = std::time::Instant::now();
    let stuck = |body: &str| body.contains("no share could be written to the database for");
    let mut said = None;
    while said.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", ask("/healthz").body);
        let from = miner.tally.acknowledged;
        miner.mine(|tally| tally.acknowledged < from + 2).unwrap();
        said = Some(ask("/healthz")).filter(|answer| answer.status == 503 && stuck(&answer.body));
    }
    let body = said.unwrap().body;
    assert!(body.contains("the shares are safe in the spool: leave the pool running"), "{body}");
    assert_eq!(ask("/livez").status, 200);
    assert!(metric("sluice_drain_stuck_seconds") > 15.0 && metric("sluice_undrained_age_seconds") > 10.0);

    postgres.start_again();
    wait_for("the pool to be well again", Duration::from_secs(30), || {
        (ask("/healthz").status == 200).then_some(())
    });
    assert!(metric("sluice_drain_stuck_seconds") < 15.0);
    miner.tally.must_be_clean();
    wait_for("the ledger to have every share", Duration::from_secs(10), || {
        let account = pool.api(&format!("/api/v1/miners/{}", address(Chain::Signet, 2)));
        (account["accepted_shares"].as_u64() == Some(miner.tally.acknowledged)).then_some(())
    });
    assert!(pool.terminate().success());
}
