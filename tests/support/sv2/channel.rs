//! A channel as its client has it: what it was told, and the hash of what is handed in for it, by the `bitcoin` crate.

use bitcoin::{
    BlockHash, CompactTarget, Transaction, TxMerkleNode,
    block::{Header, Version},
    consensus::deserialize,
    hashes::{Hash, HashEngine, sha256d},
};
use mining_sv2::{
    NewExtendedMiningJobOwned, SetNewPrevHashOwned, SubmitSharesExtended, SubmitSharesStandard,
};
use parsers_sv2::{Mining, MiningOwned};

use super::Client;

/// See the module.
#[derive(Clone, Debug)]
pub struct Channel {
    pub id: u32,
    pub group: u32,
    pub target: [u8; 32],
    pub prefix: Vec<u8>,
    /// Bytes of its own; none on a standard channel.
    pub size: usize,
    pub jobs: Vec<Job>,
    pub tip: Option<Tip>,
    pub sequence: u32,
    pub nonce: u32,
}

/// A job that is mined now, or is to be.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: u32,
    pub is_future: bool,
    pub version: u32,
    pub may_roll: bool,
    pub work: Work,
}

/// What is hashed.
#[derive(Clone, Debug)]
pub enum Work {
    Standard { root: [u8; 32] },
    Extended { before: Vec<u8>, after: Vec<u8>, path: Vec<[u8; 32]> },
}

/// The block that is mined on.
#[derive(Clone, Debug)]
pub struct Tip {
    pub previous: [u8; 32],
    pub time: u32,
    pub bits: u32,
}

/// Something to hand in.
#[derive(Clone, Debug)]
pub struct Share {
    pub job: u32,
    pub nonce: u32,
    pub time: u32,
    pub version: u32,
    pub extranonce: Vec<u8>,
}

impl Channel {
    /// Opens a standard channel: its answer, its first job, and that this is for the block that is mined on.
    pub fn open_standard(client: &mut Client, user: &str, rate: f32) -> Self {
        let request = client.ask_standard(user, rate, super::ANY_TARGET);
        let mut channel = Self::standard(client, request);
        channel.begin(client);
        channel
    }

    /// The answer to the request for a standard channel.
    pub fn standard(client: &mut Client, request: u32) -> Self {
        let MiningOwned::OpenStandardMiningChannelSuccess(success) = client.mining() else {
            panic!("not opened")
        };
        assert_eq!(success.request_id, request);
        let (target, prefix) = (success.target.to_array(), success.extranonce_prefix.to_owned_bytes());
        Self::new(success.channel_id, success.group_channel_id, target, prefix, 0)
    }

    /// Opens an extended channel.
    pub fn open_extended(client: &mut Client, user: &str, rate: f32) -> Self {
        let request = client.ask_extended(user, rate, super::ANY_TARGET, 4);
        let mut channel = Self::extended(client, request);
        channel.begin(client);
        channel
    }

    /// The answer to the request for an extended channel.
    pub fn extended(client: &mut Client, request: u32) -> Self {
        let MiningOwned::OpenExtendedMiningChannelSuccess(success) = client.mining() else {
            panic!("not opened")
        };
        assert_eq!(success.request_id, request);
        let (target, prefix) = (success.target.to_array(), success.extranonce_prefix.to_owned_bytes());
        let size = usize::from(success.extranonce_size);
        Self::new(success.channel_id, success.group_channel_id, target, prefix, size)
    }

    fn new(id: u32, group: u32, target: [u8; 32], prefix: Vec<u8>, size: usize) -> Self {
        Self { id, group, target, prefix, size, jobs: Vec::new(), tip: None, sequence: 0, nonce: 0 }
    }

    /// What must follow at once: a job to come, then that it has come.
    pub fn begin(&mut self, client: &mut Client) {
        for _ in 0..2 {
            let message = client.mining();
            assert!(self.take(&message), "for another: {message}");
        }
        assert!(self.tip.is_some() && self.jobs.len() == 1);
    }

    /// Takes a message in. Whether it is for this channel.
    pub fn take(&mut self, message: &MiningOwned) -> bool {
        let is_mine = |id: u32| id == self.id || id == self.group;
        match message {
            MiningOwned::NewMiningJob(job) if is_mine(job.channel_id) => {
                let work = Work::Standard { root: job.merkle_root.to_array() };
                self.take_job(job.job_id, job.is_future(), job.version, true, work);
            }
            MiningOwned::NewExtendedMiningJob(job) if is_mine(job.channel_id) => {
                let may_roll = job.version_rolling_allowed;
                self.take_job(job.job_id, job.is_future(), job.version, may_roll, extended(job));
            }
            MiningOwned::SetNewPrevHash(tip) if is_mine(tip.channel_id) => self.take_tip(tip),
            MiningOwned::SetTarget(target) if is_mine(target.channel_id) => {
                self.target = target.maximum_target.to_array();
            }
            _ => return false,
        }
        true
    }

    fn take_job(&mut self, id: u32, is_future: bool, version: u32, may_roll: bool, work: Work) {
        assert!(self.jobs.iter().all(|job| job.id != id), "job {id} twice");
        assert!(is_future || self.tip.is_some(), "job {id} for no block");
        self.jobs.push(Job { id, is_future, version, may_roll, work });
    }

    /// The block of a job that was to come has come: all others end.
    fn take_tip(&mut self, tip: &SetNewPrevHashOwned) {
        let is_it = |job: &Job| job.id == tip.job_id && job.is_future;
        assert!(self.jobs.iter().any(is_it), "job {} was not to come", tip.job_id);
        self.jobs.retain(is_it);
        self.jobs[0].is_future = false;
        self.tip = Some(Tip { previous: tip.prev_hash.to_array(), time: tip.min_ntime, bits: tip.nbits });
    }

    /// The next share of the latest job that is mined: a nonce like any other, on hash that meets the target.
    pub fn share(&mut self) -> Share {
        let job = self.jobs.iter().rev().find(|job| !job.is_future).expect("a job").clone();
        loop {
            let share = Share {
                job: job.id,
                nonce: self.nonce,
                time: self.tip.as_ref().unwrap().time,
                version: job.version,
                extranonce: vec![7; self.size],
            };
            self.nonce += 1;
            if self.meets(&self.hash(&share), &self.target) {
                return share;
            }
        }
    }

    /// Whether `hash` meets `target`.
    pub fn meets(&self, hash: &BlockHash, target: &[u8; 32]) -> bool {
        hash.to_byte_array().iter().rev().le(target.iter().rev())
    }

    /// The coinbase with this extranonce of an extended channel.
    pub fn coinbase(&self, job: u32, extranonce: &[u8]) -> Transaction {
        let job = self.jobs.iter().find(|one| one.id == job).expect("a job of this channel");
        let Work::Extended { before, after, .. } = &job.work else { panic!("a standard job") };
        let bytes = [before, &self.prefix[..], extranonce, after].concat();
        deserialize(&bytes).unwrap_or_else(|e| panic!("{e}: {}", hex::encode(bytes)))
    }

    /// The hash of the header that `share` stands for.
    pub fn hash(&self, share: &Share) -> BlockHash {
        let (job, tip) =
            (self.jobs.iter().find(|job| job.id == share.job).unwrap(), self.tip.as_ref().unwrap());
        let root = match &job.work {
            Work::Standard { root } => *root,
            Work::Extended { path, .. } => {
                let txid = self.coinbase(share.job, &share.extranonce).compute_txid().to_byte_array();
                path.iter().fold(txid, |root, sibling| {
                    let mut engine = sha256d::Hash::engine();
                    engine.input(&root);
                    engine.input(sibling);
                    sha256d::Hash::from_engine(engine).to_byte_array()
                })
            }
        };
        let header = Header {
            version: Version::from_consensus(share.version as i32),
            prev_blockhash: BlockHash::from_byte_array(tip.previous),
            merkle_root: TxMerkleNode::from_byte_array(root),
            time: share.time,
            bits: CompactTarget::from_consensus(tip.bits),
            nonce: share.nonce,
        };
        header.block_hash()
    }

    /// Hands `share` in; its number.
    pub fn submit(&mut self, client: &mut Client, share: &Share) -> u32 {
        self.sequence += 1;
        let &Share { job: job_id, nonce, time: ntime, version, .. } = share;
        let (channel_id, sequence_number) = (self.id, self.sequence);
        client.say(match self.size {
            0 => Mining::SubmitSharesStandard(SubmitSharesStandard {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
            }),
            _ => Mining::SubmitSharesExtended(SubmitSharesExtended {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
                extranonce: share.extranonce.as_slice().try_into().unwrap(),
            }),
        });
        sequence_number
    }

    /// Hands `share` in with the name of its worker beside it (extension 0x0002); its number.
    pub fn submit_named(&mut self, client: &mut Client, share: &Share, name: &str) -> u32 {
        self.sequence += 1;
        let payload = binary_sv2::to_bytes(SubmitSharesExtended {
            channel_id: self.id,
            sequence_number: self.sequence,
            job_id: share.job,
            nonce: share.nonce,
            ntime: share.time,
            version: share.version,
            extranonce: share.extranonce.as_slice().try_into().unwrap(),
        });
        let field = [&[2, 0, 1], &(name.len() as u16).to_le_bytes()[..], name.as_bytes()].concat();
        let sealed = client.sealed_frame(0x8000, 0x1b, &[payload.unwrap(), field].concat());
        std::io::Write::write_all(&mut client.stream, &sealed).unwrap();
        self.sequence
    }

    /// Hands shares in until one is acknowledged; they may be late for their block, and refused for nothing else.
    pub fn mine(&mut self, client: &mut Client) {
        loop {
            let share = self.share();
            let number = self.submit(client, &share);
            if self.is_acknowledged(client, number) {
                return;
            }
        }
    }

    /// Waits until the share of this number is acknowledged (which may be together with others), or refused as late.
    pub fn is_acknowledged(&mut self, client: &mut Client, number: u32) -> bool {
        loop {
            let message = client.mining();
            match &message {
                MiningOwned::SubmitSharesSuccess(success) if success.channel_id == self.id => {
                    if success.last_sequence_number >= number {
                        return true;
                    }
                }
                MiningOwned::SubmitSharesError(error) => {
                    let why = String::from_utf8(error.error_code.to_owned_bytes()).unwrap();
                    assert_eq!(
                        (error.channel_id, error.sequence_number, &*why),
                        (self.id, number, "stale-share")
                    );
                    return false;
                }
                _ => {
                    self.take(&message);
                }
            }
        }
    }

    /// Hands `share` in, which must be refused; why it is.
    pub fn refusal(&mut self, client: &mut Client, share: &Share) -> String {
        let number = self.submit(client, share);
        loop {
            let message = client.mining();
            match &message {
                MiningOwned::SubmitSharesError(error) if error.sequence_number == number => {
                    assert_eq!(error.channel_id, self.id);
                    return String::from_utf8(error.error_code.to_owned_bytes()).unwrap();
                }
                MiningOwned::SubmitSharesSuccess(success) => {
                    assert!(success.last_sequence_number < number, "accepted");
                }
                _ => {
                    self.take(&message);
                }
            }
        }
    }
}

fn extended(job: &NewExtendedMiningJobOwned) -> Work {
    Work::Extended {
        before: job.coinbase_tx_prefix.to_owned_bytes(),
        after: job.coinbase_tx_suffix.to_owned_bytes(),
        path: job.merkle_path.iter().map(|hash| hash.to_array()).collect(),
    }
}
