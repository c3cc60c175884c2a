//! Payments on chain: the chain itself says who was paid, and how often. The wallet of these tests is made of a key that
//! the tests hold too, so that they can sign, and spend, without Sluice's code.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    address,
    books::Books,
    flood::DIFFICULTY,
    miner::{Manner, Miner},
    node::{Chain, Login, Node},
    pool::Pool,
    postgres::Postgres,
    wait_for,
};

mod deep;
mod key;
mod lossy;
mod roads;
mod signing;
mod sound;

use key::Key;

const REGTEST: bitcoin::Network = bitcoin::Network::Regtest;

/// The usual patience: five start and end processes beside each other here.
const SOON: Duration = Duration::from_secs(60);

/// The points of `ledger::PayPoint` on the straight way of a batch: up to the nodes, and from there into the chain.
const OUT: [&str; 7] = ["Planning", "Planned", "Signing", "Storing", "Stored", "Sent", "Broadcast"];
const HOME: [&str; 2] = ["Paying", "Paid"];

/// Tables of the configuration: the wallet, and payments with `more` lines.
fn tables(descriptor: &str, more: &str) -> String {
    format!("[wallet]\ndescriptor = \"{descriptor}\"\n[payout]\nfeerate = 2\nthreshold_sats = 1000\n{more}\n")
}

const BY_ITSELF: &str = "interval = \"1s\"";
const BY_HAND: &str = "interval = \"manual\"";

/// A miner with this address.
fn connect(pool: &Pool, address: &str) -> Miner {
    let mut miner =
        Miner::connect(pool.setup.stratum_port, &format!("{address}.rig"), Manner::Cpuminer).unwrap();
    miner.window = 1;
    miner
}

/// Finds one block.
fn find_block(miner: &mut Miner, node: &Node) {
    let height = node.height();
    miner.wait_for_tip(&node.hash_at(height), SOON).unwrap();
    let sent = miner.tally.sent;
    miner.mine(|tally| tally.sent == sent).unwrap();
    wait_for("the block to reach the node", SOON, || (node.height() == height + 1).then_some(()));
    miner.tally.must_be_clean();
}

/// Somebody who has nothing to do with it.
fn stranger() -> String {
    address(Chain::Regtest, 250)
}

/// A miner of these tests, by number.
fn miner(number: u8) -> String {
    address(Chain::Regtest, 10 + number)
}

/// A pool with a wallet, and `blocks` found by as many miners in turn, all of them mature.
fn rich(node: &Node, key: &Key, blocks: u8, more: &str) -> Pool {
    rich_in(None, node, key, blocks, more)
}

/// The same, with the ledger in this database.
fn rich_in(ledger_url: Option<String>, node: &Node, key: &Key, blocks: u8, more: &str) -> Pool {
    let mut pool = Pool::start(node, &key.address(), |setup| {
        setup.difficulty = (DIFFICULTY, DIFFICULTY);
        setup.ledger_url = ledger_url.unwrap_or_else(|| setup.ledger_url.clone());
        setup.more = tables(&key.private(), BY_HAND);
    });
    for number in 0..blocks {
        find_block(&mut connect(&pool, &miner(number)), node);
    }
    node.generate(100, &stranger());
    until_mature(&pool, usize::from(blocks));
    assert!(pool.terminate().success());
    more.clone_into(&mut pool.setup.more);
    pool
}

/// Waits until so many of the pool's blocks are mature.
fn until_mature(pool: &Pool, count: usize) {
    wait_for(&format!("{count} blocks to be mature"), SOON, || {
        let mature = pool.blocks().iter().filter(|block| block.status == "mature").count();
        (mature == count).then_some(())
    });
}

/// The batches as the API tells them, the oldest first.
fn batches(pool: &Pool) -> Vec<Value> {
    let mut batches = pool.api("/api/v1/payouts")["payouts"].as_array().unwrap().clone();
    batches.reverse();
    batches
}

/// Waits until the newest batch stands so.
fn until_batch(pool: &Pool, count: usize, status: &str) -> Value {
    wait_for(&format!("batch {count} to be {status}"), SOON, || {
        let batches = batches(pool);
        let last = batches.last()?;
        (batches.len() == count && last["status"] == status).then(|| last.clone())
    })
}

/// What the chain pays to whom outside of coinbases: satoshi and in how many outputs, by address.
fn paid_on_chain(node: &Node) -> BTreeMap<String, (i64, usize)> {
    let mut paid: BTreeMap<String, (i64, usize)> = BTreeMap::new();
    for height in 1..=node.height() {
        let block = node.call("getblock", json!([node.hash_at(height), 2]));
        for transaction in &block["tx"].as_array().unwrap()[1..] {
            for output in transaction["vout"].as_array().unwrap() {
                let address = output["scriptPubKey"]["address"].as_str().unwrap();
                let sats = (output["value"].as_f64().unwrap() * 1e8).round() as i64;
                let (sum, count) = paid.entry(address.to_owned()).or_default();
                (*sum, *count) = (*sum + sats, *count + 1);
            }
        }
    }
    paid
}

/// The chain shows every one of these miners paid once in each batch that the ledger has for it, and in all what the
/// journal says, which has nothing in flight.
fn check_paid(node: &Node, pool: &Pool, miners: u8, outputs: usize) {
    let books = Books::open(&pool.setup.ledger_url);
    books.audit();
    let paid = paid_on_chain(node);
    let mut all = 0;
    for number in 0..miners {
        let address = miner(number);
        let (sats, count) = paid.get(&address).copied().unwrap_or_default();
        let told = pool.api(&format!("/api/v1/miners/{address}/payouts"));
        let told = told["payouts"].as_array().unwrap().iter().filter(|payout| payout["status"] == "paid");
        assert_eq!(count, told.count(), "outputs to miner {number}");
        assert_eq!(books.balance(&address).paid, sats * 1000, "miner {number}");
        let told = &pool.api(&format!("/api/v1/miners/{address}"))["balance_msat"];
        assert_eq!(
            (told["paid"].as_i64(), told["in_flight"].as_i64()),
            (Some(sats * 1000), Some(0)),
            "{told}"
        );
        all += count;
    }
    assert_eq!(all, outputs, "outputs in all");
}

/// Mines six blocks with whatever is in the mempool, and `more` to a stranger.
fn confirm(node: &Node, more: u32) {
    node.generate(6 + more, &stranger());
}

/// The issue's own words: 200 blocks, 50 miners, three payout batches, the pool killed at each fault point: the chain
/// shows each miner paid exactly once what the journal says.
#[test]
fn three_batches_to_fifty_miners_with_kill_9_at_every_point() {
    const MINERS: u8 = 50;
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let key = Key::taproot(REGTEST);
    let postgres = Postgres::start();
    let mut pool = Pool::start(&node, &key.address(), |setup| {
        setup.difficulty = (DIFFICULTY, DIFFICULTY);
        setup.ledger_url = postgres.url();
        setup.more = tables(&key.private(), BY_HAND);
    });
    let mut miners: Vec<Miner> = (0..MINERS).map(|number| connect(&pool, &miner(number))).collect();
    for block in 0..200 {
        find_block(&mut miners[block % usize::from(MINERS)], &node);
    }
    drop(miners);
    // The last block is not 100 deep before the third batch: 101, 50 and 49 blocks, so that one miner has none of it.
    let (mut mature, mut outputs) = (101, 0);
    for batch in 1..=3 {
        until_mature(&pool, mature);
        assert!(pool.terminate().success());
        pool.setup.more = tables(&key.private(), BY_ITSELF);
        for point in OUT {
            pool.die_at(point);
        }
        pool.setup.more = tables(&key.private(), BY_HAND);
        confirm(&node, 44);
        for point in HOME {
            pool.die_at(point);
        }
        pool.start_again();
        let last = until_batch(&pool, batch, "paid");
        let miners = last["miners"].as_u64().unwrap();
        assert_eq!(miners, u64::from(MINERS) - u64::from(batch == 3));
        assert_eq!(last["transactions"].as_array().unwrap().len(), 1, "one, whatever happened: {last}");
        outputs += miners as usize;
        check_paid(&node, &pool, MINERS, outputs);
        mature = (mature + 50).min(200);
    }
    assert!(pool.terminate().success());
}
