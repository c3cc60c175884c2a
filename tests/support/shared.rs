//! A node and pools that many tests use at once: starting them takes longer than what most tests of the protocol do.

use std::{
    ops::Deref,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::{
    address,
    node::{Chain, Login, Node},
    pool::{Pool, Setup},
    wait_for,
    wire::PATIENCE,
};

/// A chain with the pools that mine on it. They live until the test process ends, however that comes.
pub struct Shared {
    pub node: Node,
    pools: Vec<Pool>,
    /// Ends the processes when the pipe to it closes: nothing that is static is ever dropped.
    _warden: Child,
}

/// One test's stay: fails it if a pool panicked meanwhile.
pub struct Stay {
    shared: &'static Shared,
    pool: usize,
    /// Of those who move the chain there is one at a time.
    _alone: Option<MutexGuard<'static, ()>>,
}

/// A difficulty that every hash meets.
pub const ANY_HASH: f64 = 1e-10;

/// A pool on a signet where no block is found: what was sent on once stays current. Every hash is a share, unless the
/// miner wants it otherwise (up to 0.0011, the difficulty of a block).
pub fn still() -> Stay {
    static STILL: OnceLock<Shared> = OnceLock::new();
    let shared = STILL.get_or_init(|| {
        Shared::start(Chain::Signet, &[|setup| (setup.difficulty, setup.limits) = ((ANY_HASH, 1.0), "")])
    });
    Stay { shared, pool: 0, _alone: None }
}

/// A pool on a regtest chain, for the one test at a time that adds blocks to it. Every hash is a share, every other
/// one a block.
pub fn moving() -> Stay {
    stay_on_regtest(0)
}

/// The same, but that a share is far more difficult than a block: difficulty 1024.
pub fn hard() -> Stay {
    stay_on_regtest(1)
}

fn stay_on_regtest(pool: usize) -> Stay {
    static MOVING: OnceLock<Shared> = OnceLock::new();
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed while it was there left a chain behind, which is as good as any.
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = MOVING.get_or_init(|| {
        Shared::start(
            Chain::Regtest,
            &[|setup| setup.difficulty = (ANY_HASH, ANY_HASH), |setup| setup.difficulty = (1024.0, 1024.0)],
        )
    });
    // Blocks of the test before may still be on their way.
    let height = Some(shared.node.height() + 1);
    wait_for("the pools to be where the node is", PATIENCE, || {
        let is_there =
            |pool: &Pool| pool.try_api("/api/v1/pool").is_ok_and(|pool| pool["height"].as_u64() == height);
        shared.pools.iter().all(is_there).then_some(())
    });
    Stay { shared, pool, _alone: Some(alone) }
}

impl Shared {
    fn start(chain: Chain, changes: &[fn(&mut Setup)]) -> Self {
        let node = Node::start(chain, Login::Cookie);
        let pools: Vec<Pool> =
            changes.iter().map(|change| Pool::start(&node, &address(chain, 1), change)).collect();
        let mut processes = node.pid().to_string();
        let mut directories = vec![node.directory()];
        for pool in &pools {
            processes += &format!(" {}", pool.pid());
            directories.push(pool.directory());
        }
        let warden = Command::new("sh")
            .args(["-c", &format!("cat; kill -9 {processes}; rm -rf \"$@\""), "warden"])
            .args(directories)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        Self { node, pools, _warden: warden }
    }
}

impl Stay {
    /// Where miners connect.
    pub fn port(&self) -> u16 {
        self.setup.stratum_port
    }

    /// The node behind the pool.
    pub fn node(&self) -> &'static Node {
        &self.shared.node
    }
}

impl Deref for Stay {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.shared.pools[self.pool]
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_log();
        }
    }
}
