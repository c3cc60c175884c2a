//! Stratum V2 against the running server, by a client that is made of the reference implementation's crates.

use std::time::Duration;

use crate::support::{
    address,
    node::{Chain, Login, Node},
    pool::{Pool, Setup},
    shared::ANY_HASH,
    sv2::place,
};

mod crossfire;
mod crowd;
mod extensions;
mod groups;
mod harm;
mod identity;
mod limits;
mod mining;
mod setup;

/// Has the pool serve V2 too.
fn serve(setup: &mut Setup) {
    setup.stratum += "v2 = [\"127.0.0.1:0\"]\nack_shares = 1\n";
}

/// A user on the regtest chain.
fn user(number: u8) -> String {
    format!("{}.rig{number}", address(Chain::Regtest, number))
}

/// A chain and a pool on which every hash is a share and every other one a block.
struct House {
    pool: Pool,
    node: Node,
    port: u16,
    key: [u8; 32],
}

impl House {
    fn new(change: impl FnOnce(&mut Setup)) -> Self {
        let node = Node::start(Chain::Regtest, Login::Cookie);
        let pool = Pool::start(&node, &address(Chain::Regtest, 1), |setup| {
            setup.difficulty = (ANY_HASH, ANY_HASH);
            serve(setup);
            change(setup);
        });
        let (port, key) = place(&pool);
        Self { pool, node, port, key }
    }

    /// Has the node find a block, and waits until the pool mines on it.
    fn next_block(&self) {
        self.node.generate(1, &address(Chain::Regtest, 9));
        let height = Some(self.node.height() + 1);
        crate::support::wait_for("the pool to be where the node is", Duration::from_secs(20), || {
            (self.pool.api("/api/v1/pool")["height"].as_u64() == height).then_some(())
        });
    }
}
