//! What the floor sends: a `mining.notify` as long as the pool's.

use pool::space::{EXTRANONCE1, EXTRANONCE2};
use stratum::v1::Notify;
use template::{Node, Output};

use super::{apart::Apart, role::TAG};
use crate::failure::Failure;

/// Lines for the floor, each of a job of its own.
pub struct Lines {
    notify: Notify,
    time: u32,
    next: u32,
}

impl Lines {
    /// From a template like those that the pool gets.
    pub async fn new() -> Result<Self, Failure> {
        let (node, _threads) = Apart::start()?;
        let template = node.template(None).await.map_err(Failure::unavailable)?;
        // A payment to a witness key hash, as the pool's own.
        let output = Output { script: vec![0; 22], sats: template.coinbase_value };
        let size = EXTRANONCE1 + EXTRANONCE2;
        let coinbase = template::coinbase(&template, TAG, &[0; 8], &[output], size);
        let job = template.job(coinbase.map_err(Failure::unavailable)?);
        Ok(Self { notify: Notify::new(&job), time: job.time, next: 1 })
    }

    /// The next one.
    pub fn next(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.notify.write(&mut line, self.next, self.time, true);
        self.next = self.next.wrapping_add(1);
        line
    }
}
