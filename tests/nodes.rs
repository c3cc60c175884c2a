//! Two nodes of one chain, one of which fails in every way that nodes do: work follows the chain with the most work,
//! miners notice nothing else, and what they find is on that chain or was beaten on it.
//!
//! `SLUICE_NODE_ROUNDS` sets how often each fault is tried (twice unless set).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{
    Processor, address,
    flood::{DIFFICULTY, Flood},
    node::{Chain, Login, Node},
    pool::Pool,
    wait_for,
    wire::Wire,
};

/// Shares a second of all miners together. On regtest each is a block.
const RATE: u32 = 4;
/// What the machine may add to a rule in seconds when other tests keep it busy.
const NOISE: Duration = Duration::from_secs(1);
/// For nodes to find each other and agree.
const PATIENCE: Duration = Duration::from_secs(90);

/// A miner that only looks at what it is told to build on.
struct Observer {
    builds_on: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Observer {
    fn start(port: u16) -> Self {
        let mut wire = Wire::start(port, &format!("{}.observer", address(Chain::Regtest, 3)), "x");
        let builds_on = Arc::new(Mutex::new(wire.job().previous.to_string()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (builds_on.clone(), stop.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(line) = wire.line_within(Duration::from_millis(50)) {
                    wire.read(&line);
                    *seen.lock().unwrap() = wire.job().previous.to_string();
                }
            }
        });
        Self { builds_on, stop, thread }
    }

    fn builds_on(&self) -> String {
        self.builds_on.lock().unwrap().clone()
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the connection was never closed");
    }
}

struct Scene {
    nodes: [Node; 2],
    pool: Pool,
    observer: Observer,
    flood: Flood,
    /// Which node was killed, and has forgotten what it had not written.
    forgetful: [bool; 2],
    /// The longest that work took to follow.
    slowest: Duration,
}

impl Scene {
    fn start() -> Self {
        let nodes = Node::pair(Chain::Regtest, Login::Cookie);
        nodes[0].generate(3, &address(Chain::Regtest, 9));
        wait_for("the nodes to agree", PATIENCE, || (nodes[0].best()? == nodes[1].best()?).then_some(()));
        let pool = Pool::start(&nodes[0], &address(Chain::Regtest, 1), |setup| {
            // One is spoken to in two ways, the other in one.
            setup.over_ipc(&nodes[0]);
            setup.and_node(&nodes[1]);
            setup.difficulty = (DIFFICULTY, DIFFICULTY);
        });
        let observer = Observer::start(pool.setup.stratum_port);
        let flood = Flood::start(pool.setup.stratum_port, &address(Chain::Regtest, 2), "swarm", RATE);
        let scene = Self { nodes, pool, observer, flood, forgetful: [false; 2], slowest: Duration::ZERO };
        wait_for("all miners", PATIENCE, || scene.has_all_miners().then_some(()));
        scene
    }

    fn has_all_miners(&self) -> bool {
        self.pool.api("/api/v1/pool")["connections"] == u64::from(Flood::CONNECTIONS) + 1
    }

    /// Number of the node that leads.
    fn leader(&self) -> usize {
        wait_for("a node to lead", PATIENCE, || {
            (0..2).find(|at| self.pool.metric("sluice_node_leads", &(at + 1).to_string()) == 1)
        })
    }

    /// Waits until work builds on the best block of `live`, above `work`. The chain goes on meanwhile: miners find
    /// blocks.
    fn follows(&mut self, live: usize, work: &str, limit: Duration) {
        let since = Instant::now();
        loop {
            let best = self.nodes[live].best();
            let builds_on = self.observer.builds_on();
            if best.as_ref().is_some_and(|(tip, now)| *tip == builds_on && now.as_str() >= work) {
                break;
            }
            let took = since.elapsed();
            assert!(took < limit + NOISE, "after {took:?} work builds on {builds_on}, the best is {best:?}");
            thread::sleep(Duration::from_millis(10));
        }
        self.slowest = self.slowest.max(since.elapsed());
    }

    fn agree(&self) {
        wait_for("nodes and work to agree", PATIENCE, || {
            let [one, other] = [self.nodes[0].best()?, self.nodes[1].best()?];
            (one == other && self.observer.builds_on() == one.0).then_some(())
        });
    }

    /// No miner was dropped, and no block that is not on a chain that lost is missing from the best node.
    fn end(self) {
        self.agree();
        assert!(self.has_all_miners());
        let blocks: Vec<String> =
            self.flood.stop().into_iter().flat_map(|(_, tally)| tally.blocks_sent).collect();
        assert!(blocks.len() > 10, "{blocks:?}");
        wait_for("every block to be on the best node", Duration::from_secs(30), || {
            let knows = |node: &Node, hash: &str| node.try_call("getblockheader", json!([hash])).ok();
            let [one, other] = [&self.nodes[0], &self.nodes[1]];
            // What lost is not asked for by a node that was not there, which has no parent for it, or that forgot it.
            let lost = |header: &serde_json::Value, at: usize| {
                header["confirmations"] == -1 && (self.forgetful[at] || !has_parent(&self.nodes[at], header))
            };
            let is_there = |hash: &String| match (knows(one, hash), knows(other, hash)) {
                (Some(_), Some(_)) => true,
                (Some(header), None) => lost(&header, 1),
                (None, Some(header)) => lost(&header, 0),
                (None, None) => {
                    eprintln!("{hash} is nowhere");
                    false
                }
            };
            blocks.iter().all(is_there).then_some(())
        });
        self.observer.stop();
        eprintln!("{} blocks, work followed within {:?}", blocks.len(), self.slowest);
    }
}

fn has_parent(node: &Node, header: &serde_json::Value) -> bool {
    node.try_call("getblockheader", json!([header["previousblockhash"]])).is_ok()
}

/// Tries `fault` again and again: on the node that leads, and what must follow within `limit`.
fn rounds(limit: Duration, fault: impl Fn(&mut Scene, usize), mend: impl Fn(&mut Scene, usize)) {
    let _processor = Processor::take();
    let mut scene = Scene::start();
    let count =
        std::env::var("SLUICE_NODE_ROUNDS").map_or(2, |text| text.parse().expect("a number of rounds"));
    for round in 0..count {
        let victim = scene.leader();
        let other = 1 - victim;
        fault(&mut scene, victim);
        scene.nodes[other].generate(1, &address(Chain::Regtest, 9));
        let (_, work) = scene.nodes[other].best().expect("this one is well");
        scene.follows(other, &work, limit);
        eprintln!("round {round}: node {} failed", victim + 1);
        thread::sleep(Duration::from_secs(2));
        mend(&mut scene, victim);
        scene.agree();
    }
    scene.end();
}

#[test]
fn f01_work_goes_on_when_the_leading_node_is_killed() {
    let kill = |scene: &mut Scene, victim: usize| {
        scene.nodes[victim].kill();
        scene.forgetful[victim] = true;
    };
    rounds(Duration::from_secs(2), kill, |scene, victim| scene.nodes[victim].start_again());
}

#[test]
fn f05_work_follows_the_better_chain_when_the_leading_node_is_cut_off() {
    let cut = |scene: &mut Scene, victim: usize| scene.nodes[victim].set_network(false);
    rounds(Duration::from_secs(2), cut, |scene, victim| scene.nodes[victim].set_network(true));
}

#[test]
fn f03_work_goes_on_when_the_leading_node_hangs() {
    let freeze = |scene: &mut Scene, victim: usize| scene.nodes[victim].freeze();
    rounds(Duration::from_secs(5), freeze, |scene, victim| scene.nodes[victim].thaw());
}

#[test]
fn f05_work_leaves_a_fork_that_is_beaten() {
    let fork = |scene: &mut Scene, victim: usize| {
        scene.nodes[victim].set_network(false);
        // The other chain gets one more than all that is on this one by then.
        scene.nodes[victim].generate(1, &address(Chain::Regtest, 8));
        let ahead = scene.nodes[victim].height() + 4 - scene.nodes[1 - victim].height();
        scene.nodes[1 - victim].generate(u32::try_from(ahead).unwrap(), &address(Chain::Regtest, 9));
    };
    rounds(Duration::from_secs(2), fork, |scene, victim| scene.nodes[victim].set_network(true));
}
