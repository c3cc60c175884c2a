//! One channel of a V2 connection, and what opens it.

use std::collections::VecDeque;

use share::{Target, check::VERSION_MASK};
use stratum::v2::{
    Fault, Frame,
    common::{Common, Protocol, SetupConnection, VERSION},
    encode,
    mining::{
        Mining, NewExtendedMiningJob, OpenExtendedMiningChannel, OpenStandardMiningChannel,
        SubmitSharesExtended, SubmitSharesStandard, flags, success_flags,
    },
    wire::{B32, HashRate, Str255},
};

use crate::miner::{
    AGENT, MinerConfig,
    session::{Broken, Event, MAX_PENDING},
    work::{Extranonce, Found, Root, Work},
};

/// What is asked for, in bytes: a CPU never needs more.
const EXTRANONCE_SIZE: u16 = 4;

/// The longest extranonce, with the pool's part, in bytes.
const MAX_EXTRANONCE: usize = 32;

/// Jobs for blocks to come that are remembered, the latest.
const MAX_FUTURE: usize = 16;

/// Jobs on the present block whose shares can still be sent, the latest.
const MAX_JOBS: usize = 64;

/// What is said of a thread that works as fast as it can, in hashes a second.
const USUAL_HASHRATE: f64 = 5e6;

/// Ours is the only one.
const REQUEST: u32 = 1;

/// Which kind of channel: who makes the merkle root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The pool.
    Standard,
    /// The miner.
    Extended,
}

/// A channel, from before it is open.
pub struct Channel {
    kind: Kind,
    user: String,
    hashrate: f32,
    /// Bits of the version that the pool lets its miners roll.
    mask: u32,
    open: Option<Open>,
    /// Jobs that wait for their block, by number.
    future: VecDeque<(u32, Job)>,
    tip: Option<Tip>,
    /// Jobs that can be submitted for: serial and number.
    jobs: VecDeque<(u64, u32)>,
    /// Serial of the next job.
    serial: u64,
    sequence: u32,
    /// Shares without an answer: sequence number, and whether it is a block.
    pending: VecDeque<(u32, bool)>,
}

/// What the pool granted.
struct Open {
    id: u32,
    group: u32,
    /// What the shares of jobs to come have to meet.
    target: Target,
    extranonce: Extranonce,
}

/// A job without what the block before it says.
#[derive(Clone)]
struct Job {
    version: u32,
    mask: u32,
    root: Root,
}

/// The block to build on.
#[derive(Clone, Copy)]
struct Tip {
    prev_hash: [u8; 32],
    bits: u32,
}

impl Channel {
    /// For the user of `config`. `serial` is above that of all jobs before.
    pub fn new(config: &MinerConfig, kind: Kind, serial: u64) -> Self {
        let hashrate = config.hashrate.unwrap_or(config.threads as f64 * USUAL_HASHRATE);
        Self {
            kind,
            user: config.user.clone(),
            hashrate: hashrate as f32,
            mask: VERSION_MASK,
            open: None,
            future: VecDeque::new(),
            tip: None,
            jobs: VecDeque::new(),
            serial,
            sequence: 0,
            pending: VecDeque::new(),
        }
    }

    /// How many shares wait for an answer.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Appends what a connection begins with.
    pub fn begin(&self, out: &mut Vec<u8>) {
        let text = |text: &'static str| Str255::cut(text.as_bytes());
        let standard = if self.kind == Kind::Standard { flags::REQUIRES_STANDARD_JOBS } else { 0 };
        let setup = SetupConnection {
            protocol: Protocol::Mining as u8,
            min_version: VERSION,
            max_version: VERSION,
            flags: flags::REQUIRES_VERSION_ROLLING | standard,
            endpoint_host: text(""),
            endpoint_port: 0,
            vendor: text("Sluice"),
            hardware_version: text("CPU"),
            firmware: text(AGENT),
            device_id: text(""),
        };
        encode(&setup, out);
    }

    /// Takes in a message; what is to be answered goes to `out`.
    pub fn on_frame(
        &mut self,
        frame: Frame<'_>,
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        let wrong = |fault: Fault| Broken::Message(fault.to_string());
        match Mining::decode(frame) {
            Ok((message, _)) => self.on_mining(message, events),
            Err(Fault::UnknownMessage(_)) => {
                let (message, _) = Common::decode(frame).map_err(wrong)?;
                self.on_common(message, out)
            }
            Err(Fault::UnknownExtension(extension)) => {
                tracing::debug!(extension, "ignored what the pool says");
                Ok(())
            }
            Err(fault) => Err(wrong(fault)),
        }
    }

    fn on_common(&mut self, message: Common<'_>, out: &mut Vec<u8>) -> Result<(), Broken> {
        match message {
            Common::SetupConnectionSuccess(success) => {
                if success.flags & success_flags::REQUIRES_FIXED_VERSION != 0 {
                    self.mask = 0;
                }
                if self.mask == 0 && self.kind == Kind::Standard {
                    return Err(Broken::FixedVersion);
                }
                self.ask(out);
                Ok(())
            }
            Common::SetupConnectionError(error) => Err(Broken::Setup(words(error.error_code))),
            Common::Reconnect(_) => Err(Broken::Reconnect),
            Common::SetupConnection(_) | Common::ChannelEndpointChanged(_) => Ok(()),
        }
    }

    /// Asks for the channel.
    fn ask(&self, out: &mut Vec<u8>) {
        let (request_id, max_target) = (REQUEST, [0xff; 32]);
        let user_identity = Str255::cut(self.user.as_bytes());
        let nominal_hash_rate = HashRate(self.hashrate);
        let min_extranonce_size = EXTRANONCE_SIZE;
        match self.kind {
            Kind::Standard => encode(
                &OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target },
                out,
            ),
            Kind::Extended => encode(
                &OpenExtendedMiningChannel {
                    request_id,
                    user_identity,
                    nominal_hash_rate,
                    max_target,
                    min_extranonce_size,
                },
                out,
            ),
        }
    }

    fn on_mining(&mut self, message: Mining<'_>, events: &mut Vec<Event>) -> Result<(), Broken> {
        match message {
            Mining::OpenStandardMiningChannelSuccess(m) if m.request_id == REQUEST => {
                let extranonce = Extranonce { prefix: m.extranonce_prefix.get().to_vec(), size: 0 };
                self.opened(m.channel_id, m.group_channel_id, m.target, extranonce, events);
            }
            Mining::OpenExtendedMiningChannelSuccess(m) if m.request_id == REQUEST => {
                let (prefix, size) = (m.extranonce_prefix.get().to_vec(), usize::from(m.extranonce_size));
                if size < usize::from(EXTRANONCE_SIZE) || prefix.len() + size > MAX_EXTRANONCE {
                    let parts = format!("an extranonce of {} and {size} bytes", prefix.len());
                    return Err(Broken::Message(parts));
                }
                let extranonce = Extranonce { prefix, size };
                self.opened(m.channel_id, m.group_channel_id, m.target, extranonce, events);
            }
            Mining::OpenMiningChannelError(m) => events.push(Event::Refused(words(m.error_code))),
            Mining::CloseChannel(m) if self.is_ours(m.channel_id) => {
                return Err(Broken::Closed(words(m.reason_code)));
            }
            Mining::SetExtranoncePrefix(m) => {
                if let Some(open) = self.open.as_mut().filter(|open| open.id == m.channel_id) {
                    open.extranonce.prefix = m.extranonce_prefix.get().to_vec();
                }
            }
            Mining::SetGroupChannel(m) => {
                if let Some(open) = &mut self.open
                    && m.channel_ids.iter().any(|id| id == open.id)
                {
                    open.group = m.group_channel_id;
                }
            }
            Mining::SetTarget(m) => {
                let is_ours = self.is_ours(m.channel_id);
                if let Some(open) = self.open.as_mut().filter(|_| is_ours) {
                    open.target = Target::from_le_bytes(m.maximum_target);
                }
            }
            Mining::NewMiningJob(m) if self.is_ours(m.channel_id) && self.kind == Kind::Standard => {
                let job = Job { version: m.version, mask: self.mask, root: Root::Given(m.merkle_root) };
                self.on_job(m.job_id, m.min_ntime, job, events);
            }
            Mining::NewExtendedMiningJob(m) if self.is_ours(m.channel_id) && self.kind == Kind::Extended => {
                if let Some(job) = self.extended(&m) {
                    self.on_job(m.job_id, m.min_ntime, job, events);
                }
            }
            Mining::SetNewPrevHash(m) if self.is_ours(m.channel_id) => {
                self.tip = Some(Tip { prev_hash: m.prev_hash, bits: m.nbits });
                self.jobs.clear();
                let job = self.future.iter().find(|(id, _)| *id == m.job_id).map(|(_, job)| job.clone());
                let job =
                    job.ok_or_else(|| Broken::Message(format!("no future job has the number {}", m.job_id)))?;
                self.future.clear();
                self.on_job(m.job_id, Some(m.min_ntime), job, events);
            }
            Mining::SubmitSharesSuccess(m) if self.is_ours(m.channel_id) => {
                self.accepted(m.last_sequence_number, events)
            }
            Mining::SubmitSharesError(m) if self.is_ours(m.channel_id) => {
                if let Some(at) = self.pending.iter().position(|(number, _)| *number == m.sequence_number) {
                    self.pending.remove(at);
                    events.push(Event::Rejected(words(m.error_code)));
                }
            }
            other => tracing::debug!(?other, "ignored what the pool says"),
        }
        Ok(())
    }

    fn opened(
        &mut self,
        id: u32,
        group: u32,
        target: [u8; 32],
        extranonce: Extranonce,
        events: &mut Vec<Event>,
    ) {
        self.open = Some(Open { id, group, target: Target::from_le_bytes(target), extranonce });
        events.push(Event::Authorized);
    }

    fn is_ours(&self, channel_id: u32) -> bool {
        self.open.as_ref().is_some_and(|open| [open.id, open.group].contains(&channel_id))
    }

    fn extended(&self, job: &NewExtendedMiningJob<'_>) -> Option<Job> {
        let root = Root::Rolled {
            prefix: job.coinbase_tx_prefix.get().to_vec(),
            extranonce: self.open.as_ref()?.extranonce.clone(),
            suffix: job.coinbase_tx_suffix.get().to_vec(),
            branch: job.merkle_path.iter().collect(),
        };
        let mask = if job.version_rolling_allowed { self.mask } else { 0 };
        Some(Job { version: job.version, mask, root })
    }

    /// A job without a time is for a block to come; any other is worked on from now, at the target of now.
    fn on_job(&mut self, id: u32, time: Option<u32>, job: Job, events: &mut Vec<Event>) {
        let Some(time) = time else {
            self.future.truncate(MAX_FUTURE - 1);
            self.future.push_front((id, job));
            return;
        };
        let (Some(Tip { prev_hash, bits }), Some(open)) = (self.tip, &self.open) else { return };
        let (serial, target) = (self.serial, open.target);
        self.serial += 1;
        self.jobs.truncate(MAX_JOBS - 1);
        self.jobs.push_front((serial, id));
        let Job { version, mask, root } = job;
        let job_id = id.to_string();
        let work = Work { serial, job_id, version, mask, prev_hash, root, time, bits, target };
        events.push(Event::Work(Box::new(work)));
    }

    /// All up to `last` that were not refused count.
    fn accepted(&mut self, last: u32, events: &mut Vec<Event>) {
        while let Some(&(number, is_block)) = self.pending.front()
            && last.wrapping_sub(number) <= u32::MAX / 2
        {
            self.pending.pop_front();
            events.push(Event::Accepted { is_block });
        }
    }

    /// Appends the submission of a share to `out`, unless its job is worthless by now.
    pub fn submit(&mut self, found: &Found, out: &mut Vec<u8>) -> Result<(), Broken> {
        let job = self.jobs.iter().find(|(serial, _)| *serial == found.serial);
        let (Some(&(_, job_id)), Some(open)) = (job, &self.open) else { return Ok(()) };
        if self.pending.len() >= MAX_PENDING {
            return Err(Broken::Silent);
        }
        let (channel_id, sequence_number) = (open.id, self.sequence);
        let &Found { nonce, time: ntime, version, .. } = found;
        match self.kind {
            Kind::Standard => encode(
                &SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version },
                out,
            ),
            Kind::Extended => encode(
                &SubmitSharesExtended {
                    channel_id,
                    sequence_number,
                    job_id,
                    nonce,
                    ntime,
                    version,
                    extranonce: B32::cut(&found.extranonce2),
                },
                out,
            ),
        }
        self.pending.push_back((sequence_number, found.is_block));
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }
}

/// A code as a person reads it.
fn words(code: Str255<'_>) -> String {
    String::from_utf8_lossy(code.get()).chars().filter(|char| !char.is_control()).collect()
}

#[cfg(test)]
mod tests;
