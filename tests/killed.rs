//! The pool killed between a solution and its way onto the chain, at many points: the block gets there all the same.

use std::{fs, thread, time::Duration};

use serde_json::json;

use crate::support::{
    address,
    books::Books,
    cable::Cable,
    flood::DIFFICULTY,
    miner::{Manner, Miner},
    node::{Chain, Login, Node},
    pool::Pool,
    postgres::Postgres,
    wait_for,
};

/// When the pool is killed.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// So many microseconds after the solution was sent to it, whatever it has made of it by then.
    Sent(u64),
    /// So many milliseconds after it said yes, while it tries to bring the block to its node.
    Acknowledged(u64),
}

use Point::{Acknowledged, Sent};

/// Densest where a submission is judged, kept and recorded: that takes less than a millisecond of the pool's time.
const POINTS: [Point; 20] = [
    Sent(0),
    Sent(50),
    Sent(100),
    Sent(150),
    Sent(200),
    Sent(250),
    Sent(300),
    Sent(400),
    Sent(500),
    Sent(700),
    Sent(1_000),
    Sent(1_500),
    Sent(2_500),
    Sent(5_000),
    Acknowledged(0),
    Acknowledged(20),
    Acknowledged(150),
    Acknowledged(400),
    Acknowledged(1_200),
    Acknowledged(3_000),
];

const SOON: Duration = Duration::from_secs(30);

/// Where a solution had come to when the pool was killed.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    hash: String,
    is_acknowledged: bool,
    /// Whether its file was written.
    is_kept: bool,
}

/// Sends one solution, and kills the pool at `point`.
fn solve_and_kill(pool: &mut Pool, miner: &mut Miner, point: Point) -> Found {
    let ended = miner.mine(|tally| {
        if tally.sent == 0 {
            return true;
        }
        if let Sent(micros) = point {
            thread::sleep(Duration::from_micros(micros));
            pool.kill();
        }
        false
    });
    if let Acknowledged(millis) = point {
        ended.expect("a reply");
        thread::sleep(Duration::from_millis(millis));
        pool.kill();
    }
    let tally = &miner.tally;
    assert_eq!((tally.sent, tally.blocks_sent.len()), (1, 1), "every share is a block here");
    let hash = tally.blocks_sent[0].clone();
    // Written as a part, with one write; on its way; on the chain.
    let is_kept = ["part", "block", "done"].iter().any(|ending| {
        let path = pool.directory().join("blocks").join(format!("{hash}.{ending}"));
        fs::metadata(path).is_ok_and(|file| file.len() > 0)
    });
    let is_acknowledged = tally.blocks == [hash.as_str()];
    assert!(tally.rejects.is_empty() && tally.stale == 0, "{:?}", tally.rejects);
    Found { hash, is_acknowledged, is_kept }
}

/// Whether the ledger has the block, within the usual time.
fn is_in_ledger(pool: &Pool, hash: &str) -> bool {
    (0..100).any(|_| {
        thread::sleep(Duration::from_millis(100));
        pool.blocks().iter().any(|block| block.hash == hash && block.status == "immature")
    })
}

/// How many blocks there were of each kind.
#[derive(Debug, Default)]
struct Count {
    acknowledged: u64,
    kept: u64,
    /// Never looked at, by the pool.
    unseen: u64,
}

/// One life of a pool after the other. The node is out of reach at each death, by `part`, and back by `join`; whether it
/// can have heard anything meanwhile is said by `is_deaf`.
fn kill_at_every_point(node: &Node, cable: &Cable, part: impl Fn(), join: impl Fn(), is_deaf: bool) -> Count {
    let (house, finder) = (address(Chain::Regtest, 1), address(Chain::Regtest, 2));
    let mut pool = Pool::start(node, &house, |setup| {
        setup.difficulty = (DIFFICULTY, DIFFICULTY);
        setup.node = setup.node.replace(&node.rpc_port.to_string(), &cable.port.to_string());
    });
    let mut count = Count::default();
    for point in POINTS {
        let height = node.height();
        let tip = node.hash_at(height);
        let port = pool.setup.stratum_port;
        let mut miner = Miner::connect(port, &format!("{finder}.killed"), Manner::Cpuminer).unwrap();
        miner.window = 1;
        miner.wait_for_tip(&tip, SOON).unwrap();
        part();
        let found = solve_and_kill(&mut pool, &mut miner, point);
        if is_deaf {
            assert_eq!(node.height(), height, "{point:?}: the node cannot have heard of {found:?}");
        }
        assert!(
            found.is_kept || !found.is_acknowledged,
            "{point:?}: acknowledged, but not on disk: {found:?}"
        );
        join();
        pool.start_again();
        if found.is_kept {
            wait_for(&format!("{found:?} of {point:?} to be on the chain"), SOON, || {
                (node.height() == height + 1 && node.hash_at(height + 1) == found.hash).then_some(())
            });
            assert!(is_in_ledger(&pool, &found.hash), "{point:?}: not in the ledger: {found:?}");
            count.kept += 1;
            count.acknowledged += u64::from(found.is_acknowledged);
        } else {
            assert_eq!(node.height(), height, "{point:?}: {found:?}");
            count.unseen += 1;
        }
    }
    assert!(pool.terminate().success());
    let books = Books::open(&pool.setup.ledger_url);
    books.audit();
    let shares = books.accepted_shares().get("killed").copied().unwrap_or_default();
    assert!(shares >= count.acknowledged && shares <= POINTS.len() as u64, "{shares} shares, {count:?}");
    let on_chain = node.call("getblockchaininfo", json!([]))["blocks"].as_u64().unwrap();
    assert_eq!(on_chain, count.kept);
    let left = fs::read_dir(pool.directory().join("blocks")).unwrap();
    let left: Vec<String> = left.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| name.ends_with(".done") || name.ends_with(".damaged")), "{left:?}");
    assert_eq!(left.iter().filter(|name| name.ends_with(".done")).count() as u64, count.kept);
    // Those that had to be acknowledged before the pool was killed.
    assert!(count.acknowledged >= 6, "{count:?}");
    eprintln!("{count:?}");
    count
}

#[test]
fn a_block_found_while_the_node_is_cut_off_survives_kill_9_at_every_point() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let cable = Cable::to(node.rpc_port);
    kill_at_every_point(&node, &cable, || cable.pull(), || cable.plug(), true);
}

#[test]
fn a_block_found_while_the_node_hangs_survives_kill_9_at_every_point() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let cable = Cable::to(node.rpc_port);
    kill_at_every_point(&node, &cable, || node.freeze(), || node.thaw(), false);
}

#[test]
fn a_block_found_while_the_node_is_well_survives_kill_9_at_every_point() {
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let cable = Cable::to(node.rpc_port);
    kill_at_every_point(&node, &cable, || (), || (), false);
}

/// The points of `ledger::Point`: of a drain, and of a block's credit.
const LEDGER: [&str; 4] = ["Applied", "Committed", "Moved", "Settled"];

/// The pool finds a block while the database is away, and dies at each point of taking share and block in once it is back:
/// there is one of each in the end, credited once, by the split that it was found with.
fn die_at_every_point_of_the_ledger(scheme: &'static str, payout: &'static str) {
    let mut postgres = Postgres::start();
    let node = Node::start(Chain::Regtest, Login::Cookie);
    let finders = [2, 3].map(|number| address(Chain::Regtest, number));
    let mut pool = Pool::start(&node, &address(Chain::Regtest, 1), |setup| {
        setup.difficulty = (DIFFICULTY, DIFFICULTY);
        setup.ledger_url = postgres.url();
        (setup.scheme, setup.pool) = (scheme, payout);
    });
    let find = |pool: &Pool, finder: &str| {
        let tip = node.hash_at(node.height());
        let user = format!("{finder}.{finder}");
        let mut miner = Miner::connect(pool.setup.stratum_port, &user, Manner::Cpuminer).unwrap();
        miner.window = 1;
        miner.wait_for_tip(&tip, SOON).unwrap();
        miner.mine(|tally| tally.sent == 0).unwrap();
        assert_eq!(miner.tally.blocks.len(), 1, "every share is a block here");
        let block = miner.tally.blocks[0].clone();
        wait_for("the node to have the block", SOON, || (node.hash_at(node.height()) == block).then_some(()));
        block
    };
    // Something to divide by.
    let mut hashes: Vec<String> = finders.iter().map(|finder| find(&pool, finder)).collect();
    for (number, point) in LEDGER.iter().enumerate() {
        hashes.iter().for_each(|hash| assert!(is_in_ledger(&pool, hash), "{hash} before {point}"));
        postgres.stop_immediate();
        hashes.push(find(&pool, &finders[number % 2]));
        pool.kill();
        postgres.start_again();
        pool.die_at(point);
        pool.start_again();
    }
    hashes.iter().for_each(|hash| assert!(is_in_ledger(&pool, hash), "{hash}"));
    assert!(pool.terminate().success());
    let books = Books::open(&pool.setup.ledger_url);
    books.audit();
    let shares = books.accepted_shares();
    assert_eq!(shares.values().sum::<u64>(), hashes.len() as u64, "{shares:?}");
    assert_eq!(pool_blocks(&node), hashes);
    assert_eq!(books.rewards(), 5_000_000_000_000 * hashes.len() as u64);
}

fn pool_blocks(node: &Node) -> Vec<String> {
    (1..=node.height()).map(|height| node.hash_at(height)).collect()
}

#[test]
fn pplns_survives_kill_9_at_every_point_of_drain_and_split() {
    die_at_every_point_of_the_ledger("pplns", "");
}

#[test]
fn coinbases_that_pay_survive_kill_9_at_every_point_of_drain_and_split() {
    die_at_every_point_of_the_ledger("tides", "payout = \"coinbase\"");
}
