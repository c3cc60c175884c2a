//! What the floor sends: jobs as long as the pool's.

use pool::space::{EXTRANONCE1, EXTRANONCE2};
use sandbox::{floor, swarm::Protocol};
use share::Job;
use stratum::{
    v1::Notify,
    v2::{
        encode,
        mining::{NewExtendedMiningJob, SetNewPrevHash},
        wire::{B64K, Seq255},
    },
};
use template::{Node, Output};

use super::{apart::Apart, role::TAG};
use crate::failure::Failure;

/// Jobs for the floor, each another one.
pub struct Jobs {
    protocol: Protocol,
    job: Job,
    notify: Notify,
    next: u32,
}

impl Jobs {
    /// From a template like those that the pool gets.
    pub async fn new(protocol: Protocol) -> Result<Self, Failure> {
        let (node, _threads) = Apart::start()?;
        let template = node.template(None).await.map_err(Failure::unavailable)?;
        // A payment to a witness key hash, as the pool's own.
        let output = Output { script: vec![0; 22], sats: template.coinbase_value };
        let size = EXTRANONCE1 + EXTRANONCE2;
        let coinbase = template::coinbase(&template, TAG, &[0; 8], &[output], size);
        let job = template.job(coinbase.map_err(Failure::unavailable)?);
        Ok(Self { protocol, notify: Notify::new(&job), job, next: 1 })
    }

    /// The next one, of a new block.
    pub fn next(&mut self) -> Vec<u8> {
        let (mut out, number) = (Vec::new(), self.next);
        self.next = self.next.wrapping_add(1);
        match self.protocol {
            Protocol::V1 => self.notify.write(&mut out, number, self.job.time, true),
            Protocol::V2 => frames(&self.job, number, &mut out),
        }
        out
    }
}

/// A job for the block to come, and that block.
fn frames(job: &Job, job_id: u32, out: &mut Vec<u8>) {
    let &Job { version, prev_hash, time: min_ntime, bits: nbits, .. } = job;
    let channel_id = floor::v2::GROUP;
    let new = NewExtendedMiningJob {
        channel_id,
        job_id,
        min_ntime: None,
        version,
        version_rolling_allowed: true,
        // A tree of 2^32 transactions has 32 levels.
        merkle_path: Seq255::new(&job.branch).unwrap_or_else(|_| unreachable!("no block is so large")),
        coinbase_tx_prefix: B64K::cut(job.coinbase.prefix()),
        coinbase_tx_suffix: B64K::cut(job.coinbase.suffix()),
    };
    encode(&new, out);
    encode(&SetNewPrevHash { channel_id, job_id, prev_hash, min_ntime, nbits }, out);
}
