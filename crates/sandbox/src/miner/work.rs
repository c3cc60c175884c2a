//! A job as the miner works on it.

use std::ops::Range;

use share::{Target, sha256};

/// Everything that headers are made of, but what the miner chooses itself.
#[derive(Clone, Debug)]
pub struct Work {
    /// Counts the jobs of this process: later ones are greater.
    pub serial: u64,
    /// What the pool calls it.
    pub job_id: String,
    /// Header version, as the pool has it.
    pub version: u32,
    /// Version bits that may be rolled.
    pub mask: u32,
    /// Internal order.
    pub prev_hash: sha256::Hash,
    /// Where the merkle root comes from.
    pub root: Root,
    /// Header time.
    pub time: u32,
    /// Network target, compact.
    pub bits: u32,
    /// What a share has to meet.
    pub target: Target,
}

/// Where the merkle root comes from.
#[derive(Clone, Debug)]
pub enum Root {
    /// The pool knows it, and gives each miner its own.
    Given(sha256::Hash),
    /// The miner rolls a part of the coinbase.
    Rolled {
        /// Coinbase before the extranonce.
        prefix: Vec<u8>,
        /// In the middle of it.
        extranonce: Extranonce,
        /// Coinbase behind the extranonce.
        suffix: Vec<u8>,
        /// Internal order.
        branch: Vec<sha256::Hash>,
    },
}

/// The pool's part of the extranonce, and the size of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extranonce {
    /// The pool's part.
    pub prefix: Vec<u8>,
    /// Length of ours, in bytes, at least 1.
    pub size: usize,
}

/// A part of the search that no other number has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Ours; empty where there is none.
    pub extranonce2: Vec<u8>,
    /// The merkle root with it.
    pub root: sha256::Hash,
    /// Ways to roll the version.
    pub rolls: Range<u64>,
}

/// A solution: what is handed to the pool.
#[derive(Clone, Debug)]
pub struct Found {
    /// [`Work::serial`] of its job.
    pub serial: u64,
    /// Of its job.
    pub job_id: String,
    /// Ours.
    pub extranonce2: Vec<u8>,
    /// Header time.
    pub time: u32,
    /// Header nonce.
    pub nonce: u32,
    /// Header version.
    pub version: u32,
    /// The rolled bits of the version; `None` if none may be rolled.
    pub version_bits: Option<u32>,
    /// Whether it is a block.
    pub is_block: bool,
}

impl Work {
    /// What a block has to meet, if the pool's bits say something.
    pub fn network_target(&self) -> Option<Target> {
        Target::from_compact(self.bits)
    }

    /// The part of the search that has this number. Where there is no extranonce to roll, it is a version.
    pub fn part(&self, number: u64) -> Part {
        match &self.root {
            Root::Given(root) => {
                Part { extranonce2: Vec::new(), root: *root, rolls: number..number.saturating_add(1) }
            }
            Root::Rolled { prefix, extranonce, suffix, branch } => {
                let extranonce2 = extranonce.ours(number);
                let coinbase = [prefix, &extranonce.prefix, &extranonce2, suffix].map(Vec::as_slice);
                let root = sha256::fold(sha256::double(&coinbase.concat()), branch);
                Part { extranonce2, root, rolls: 0..self.rolls() }
            }
        }
    }

    /// How many ways there are to roll the version.
    fn rolls(&self) -> u64 {
        1 << self.mask.count_ones()
    }

    /// The bits of the mask that stand for `roll`: its lowest bits, spread over the mask's.
    pub fn version_bits(&self, roll: u64) -> u32 {
        let places = (0..u32::BITS).filter(|bit| self.mask & 1 << bit != 0);
        places.enumerate().fold(0, |bits, (i, place)| bits | ((roll >> i & 1) as u32) << place)
    }

    /// The version with these bits.
    pub fn rolled(&self, version_bits: u32) -> u32 {
        self.version & !self.mask | version_bits & self.mask
    }

    /// The header with this root and this version; its nonce is zero.
    pub fn header(&self, root: &sha256::Hash, version: u32) -> [u8; 80] {
        let mut header = [0; 80];
        header[0..4].copy_from_slice(&version.to_le_bytes());
        header[4..36].copy_from_slice(&self.prev_hash);
        header[36..68].copy_from_slice(root);
        header[68..72].copy_from_slice(&self.time.to_le_bytes());
        header[72..76].copy_from_slice(&self.bits.to_le_bytes());
        header
    }
}

impl Extranonce {
    /// Our part for a number: as many of its bytes as there is room for.
    fn ours(&self, number: u64) -> Vec<u8> {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.resize(self.size, 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::miner::v1::{self, message::Message};

    /// The job of the share vector, as a real miner had it.
    fn work(mask: u32, size: usize) -> Work {
        let line = br#"{"method":"mining.notify","params":["1","171592f223740e92d223f6e68bff25279af7ac4f2246451e0000000200000000","02000000010000000000000000000000000000000000000000000000000000000000000000ffffffff1903c943255c7075626c69632d706f6f6c5c","ffffffff037a90000000000000160014e6f22ca44dc800e9d049621a3b9a42c509f1c4bc3b0f250000000000160014e6f22ca44dc800e9d049621a3b9a42c509f1c4bc0000000000000000266a24aa21a9edbd3d1d916aa0b57326a2d88ebe1b68a1d7c48585f26d8335fe6a94b62755f64c00000000",["175335649d5e8746982969ec88f52e85ac9917106fba5468e699c8879ab974a1","d5644ab3e708c54cd68dc5aedc92b8d3037449687f92ec41ed6e37673d969d4a","5c9ec187517edc0698556cca5ce27e54c96acb014770599ed9df4d4937fbf2b0"],"20000000","192495f8","64b3f3ec",true]}"#;
        let Ok(Message::Notify(notify)) = v1::message::parse(line) else {
            panic!("the notify of the vector")
        };
        let extranonce = Extranonce { prefix: vec![0x57, 0xa6, 0xf0, 0x98], size };
        notify.work(1, extranonce, mask, Target::ONE)
    }

    #[test]
    fn the_header_of_the_share_vector() {
        let work = work(0x1fff_e000, 4);
        let header = work.header(&work.part(0x08c7).root, work.rolled(work.version_bits(1)));
        assert_eq!(
            hex::encode(&header[..76]),
            "00200020f2921517920e7423e6f623d22725ff8b4facf79a1e45462202000000000000006b5d684a704b4abe62b2375c5326d1fc1dbb61168aff84e920ba28968bf1075fecf3b364f8952419"
        );
        assert_eq!(work.network_target(), Target::from_compact(0x1924_95f8));
    }

    #[test]
    fn version_bits_stay_within_the_mask() {
        let check = |mask: u32, roll: u64, expect: u32| {
            assert_eq!(work(mask, 4).version_bits(roll), expect, "roll {roll} of {mask:08x}")
        };
        check(0, 0, 0);
        check(0, 5, 0);
        check(0x1fff_e000, 1, 0x2000);
        check(0x1fff_e000, 0xffff, 0x1fff_e000);
        check(0x1fff_e000, 0x1_0000, 0);
        check(0x8000_0101, 0b101, 0x8000_0001);
        assert_eq!(
            (work(0, 4).rolls(), work(0x1fff_e000, 4).rolls(), work(!0, 4).rolls()),
            (1, 1 << 16, 1 << 32)
        );
    }

    #[test]
    fn extranonce2_has_its_size() {
        let check = |size: usize, expect: &[u8]| {
            let part = work(0x2000, size).part(0x0102_0304);
            assert_eq!((part.extranonce2.as_slice(), part.rolls), (expect, 0..2));
        };
        check(1, &[4]);
        check(4, &[4, 3, 2, 1]);
        check(10, &[4, 3, 2, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn with_a_given_root_each_number_is_a_version() {
        let given = Work { root: Root::Given([7; 32]), ..work(0x1fff_e000, 4) };
        assert_eq!(given.part(5), Part { extranonce2: vec![], root: [7; 32], rolls: 5..6 });
    }
}
