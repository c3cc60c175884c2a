//! A job in frames of V2: encoded once per payout class, for everybody. Only the channel that they are for is put in.

use share::{Extranonce, sha256};
use stratum::v2::{
    Header, encode,
    mining::{NewExtendedMiningJob, NewMiningJob, SetNewPrevHash},
    wire::{B64K, Seq255},
};

use super::Work;

/// See the module.
#[derive(Debug)]
pub struct Frames {
    /// For the block that is mined on.
    active: Box<[u8]>,
    /// For the block after a [`SetNewPrevHash`].
    future: Box<[u8]>,
    prev_hash: Box<[u8]>,
}

impl Frames {
    /// `None` if a half of the coinbase is longer than a message can say: 64 KiB.
    pub(super) fn new(work: &Work) -> Option<Self> {
        let job = &work.job;
        let coinbase_tx_prefix = B64K::new(job.coinbase.prefix()).ok()?;
        let coinbase_tx_suffix = B64K::new(job.coinbase.suffix()).ok()?;
        let merkle_path = Seq255::new(&job.branch).ok()?;
        let encoded = |min_ntime| {
            let mut frame = Vec::new();
            let job = NewExtendedMiningJob {
                channel_id: 0,
                job_id: work.id,
                min_ntime,
                version: job.version,
                version_rolling_allowed: true,
                merkle_path,
                coinbase_tx_prefix,
                coinbase_tx_suffix,
            };
            encode(&job, &mut frame);
            frame.into_boxed_slice()
        };
        let mut prev_hash = Vec::new();
        encode(&new_prev_hash(work, 0), &mut prev_hash);
        Some(Self { active: encoded(Some(job.time)), future: encoded(None), prev_hash: prev_hash.into() })
    }

    /// Appends the job for the block that `channel` mines on.
    pub fn write_active(&self, channel: u32, out: &mut Vec<u8>) {
        write(&self.active, channel, out);
    }

    /// Appends the job, and that `channel` mines on its block from now on.
    pub fn write_new_tip(&self, channel: u32, out: &mut Vec<u8>) {
        write(&self.future, channel, out);
        write(&self.prev_hash, channel, out);
    }
}

/// Appends `frame` for `channel`, whose id is the first field of all that are for one.
fn write(frame: &[u8], channel: u32, out: &mut Vec<u8>) {
    let begin = out.len() + Header::SIZE;
    out.extend_from_slice(frame);
    out[begin..begin + size_of::<u32>()].copy_from_slice(&channel.to_le_bytes());
}

/// Appends `work` as a job of the standard channel `channel` with this `extranonce`, for the block that it mines on.
pub fn write_standard(work: &Work, channel: u32, extranonce: &Extranonce, out: &mut Vec<u8>) {
    encode(&standard(work, channel, extranonce, Some(work.job.time)), out);
}

/// The same, and that `channel` mines on the job's block from now on.
pub fn write_standard_on_new_tip(work: &Work, channel: u32, extranonce: &Extranonce, out: &mut Vec<u8>) {
    encode(&standard(work, channel, extranonce, None), out);
    encode(&new_prev_hash(work, channel), out);
}

fn standard(work: &Work, channel: u32, extranonce: &Extranonce, min_ntime: Option<u32>) -> NewMiningJob {
    NewMiningJob {
        channel_id: channel,
        job_id: work.id,
        min_ntime,
        version: work.job.version,
        merkle_root: sha256::fold(work.job.coinbase.txid(extranonce), &work.job.branch),
    }
}

fn new_prev_hash(work: &Work, channel: u32) -> SetNewPrevHash {
    SetNewPrevHash {
        channel_id: channel,
        job_id: work.id,
        prev_hash: work.job.prev_hash,
        min_ntime: work.job.time,
        nbits: work.job.bits,
    }
}
