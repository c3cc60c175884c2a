//! One job, and the search for a nonce.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// What `mining.notify` said, ready to hash.
pub struct Work {
    pub job: String,
    pub version: u32,
    pub version_mask: u32,
    coinbase: [Vec<u8>; 2],
    branch: Vec<[u8; 32]>,
    previous: [u8; 32],
    bits: u32,
    time: String,
    difficulty: f64,
    /// A hash is a share if its most significant 64 bits are below this.
    share_below: u64,
    /// The same, for a block.
    block_below: u64,
    extranonce2_size: usize,
    extranonce2: u64,
    nonce: u32,
    head: Option<Head>,
}

/// A header but for its nonce: the state of SHA-256 after the first 64 bytes, and the 12 bytes that follow.
struct Head {
    midstate: Sha256,
    tail: [u8; 12],
    version_bits: u32,
}

/// A found share, with all that a submit says of it.
#[derive(Debug)]
pub struct Share {
    pub job: String,
    pub extranonce2: Vec<u8>,
    pub time: String,
    pub nonce: u32,
    pub version_bits: u32,
    pub difficulty: f64,
    pub is_block: bool,
    /// As people read it.
    pub hash: String,
}

impl Work {
    /// Takes nine parameters apart, as strictly as cpuminer does.
    pub fn new(
        params: &[Value],
        extranonce1: &[u8],
        extranonce2_size: usize,
        difficulty: f64,
    ) -> Result<Self, String> {
        let [job, previous, coinb1, coinb2, branch, version, bits, time, clean] = params else {
            return Err(format!("{} parameters instead of 9", params.len()));
        };
        clean.as_bool().ok_or("clean is no boolean")?;
        let job = job.as_str().filter(|id| !id.is_empty() && id.len() <= 16).ok_or("job id")?.to_owned();
        let mut previous: [u8; 32] =
            bytes(previous)?.try_into().map_err(|_| "previous hash is not 32 bytes")?;
        for word in previous.chunks_exact_mut(4) {
            word.reverse();
        }
        let mut prefix = bytes(coinb1)?;
        prefix.extend_from_slice(extranonce1);
        let branch = branch.as_array().ok_or("branch is no array")?;
        let branch = branch.iter().map(|hash| bytes(hash)?.try_into().map_err(|_| "branch".to_owned()));
        let bits = number(bits)?;
        number(time)?;
        Ok(Self {
            job,
            version: number(version)?,
            version_mask: 0,
            coinbase: [prefix, bytes(coinb2)?],
            branch: branch.collect::<Result<_, _>>()?,
            previous,
            bits,
            time: time.as_str().unwrap_or_default().to_owned(),
            difficulty,
            share_below: top_of_target(difficulty),
            block_below: top_of_compact(bits),
            extranonce2_size,
            extranonce2: 0,
            nonce: 0,
            head: None,
        })
    }

    /// Hash of the block before, as people read it.
    pub fn builds_on(&self) -> String {
        hex::encode(self.previous.iter().rev().copied().collect::<Vec<u8>>())
    }

    /// From now on shares need another difficulty.
    pub fn set_difficulty(&mut self, difficulty: f64) {
        (self.difficulty, self.share_below) = (difficulty, top_of_target(difficulty));
    }

    /// Tries `count` nonces; stops at the first share. Goes on where it stopped. Also tells how many were tried.
    pub fn grind(&mut self, count: u32) -> (u32, Option<Share>) {
        let mut head = self.head.take().unwrap_or_else(|| self.build());
        let (mut tried, mut share) = (0, None);
        while tried < count && share.is_none() {
            let nonce = self.nonce;
            let mut state = head.midstate.clone();
            state.update(head.tail);
            state.update(nonce.to_le_bytes());
            let hash: [u8; 32] = Sha256::digest(state.finalize()).into();
            share = self.judge(&hash, nonce, head.version_bits);
            tried += 1;
            self.nonce = nonce.wrapping_add(1);
            if self.nonce == 0 {
                self.extranonce2 += 1;
                head = self.build();
            }
        }
        self.head = Some(head);
        (tried, share)
    }

    fn judge(&self, hash: &[u8; 32], nonce: u32, version_bits: u32) -> Option<Share> {
        let top = u64::from_le_bytes(hash[24..].try_into().ok()?);
        if top >= self.share_below {
            return None;
        }
        let mut shown = *hash;
        shown.reverse();
        Some(Share {
            job: self.job.clone(),
            extranonce2: self.extranonce2(),
            time: self.time.clone(),
            nonce,
            version_bits,
            difficulty: self.difficulty,
            is_block: top < self.block_below,
            hash: hex::encode(shown),
        })
    }

    fn extranonce2(&self) -> Vec<u8> {
        let mut bytes = self.extranonce2.to_le_bytes().to_vec();
        bytes.resize(self.extranonce2_size, 0);
        bytes
    }

    fn build(&self) -> Head {
        let coinbase = [&self.coinbase[0][..], &self.extranonce2(), &self.coinbase[1]].concat();
        let fold = |root: [u8; 32], sibling: &[u8; 32]| twice(&[root, *sibling].concat());
        let root = self.branch.iter().fold(twice(&coinbase), fold);
        // Rolls other bits for each extranonce, to have both kinds of freedom in use.
        let version_bits = (0x5a5a_5a5a ^ (self.extranonce2 as u32).wrapping_mul(0x2000)) & self.version_mask;
        let time = u32::from_str_radix(&self.time, 16).unwrap_or_default();
        let mut header = Vec::with_capacity(76);
        header.extend_from_slice(&(self.version | version_bits).to_le_bytes());
        header.extend_from_slice(&self.previous);
        header.extend_from_slice(&root);
        header.extend_from_slice(&time.to_le_bytes());
        header.extend_from_slice(&self.bits.to_le_bytes());
        let mut tail = [0; 12];
        tail.copy_from_slice(&header[64..]);
        Head { midstate: Sha256::new_with_prefix(&header[..64]), tail, version_bits }
    }
}

fn twice(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

fn bytes(value: &Value) -> Result<Vec<u8>, String> {
    let text = value.as_str().ok_or_else(|| format!("no string: {value}"))?;
    hex::decode(text).map_err(|e| format!("{e}: {text}"))
}

/// Exactly eight hex digits.
fn number(value: &Value) -> Result<u32, String> {
    let text =
        value.as_str().filter(|text| text.len() == 8).ok_or_else(|| format!("not 8 digits: {value}"))?;
    u32::from_str_radix(text, 16).map_err(|e| format!("{e}: {text}"))
}

/// The most significant 64 bits of the target of `difficulty`: 0xffff * 2^208 / difficulty, cut off.
fn top_of_target(difficulty: f64) -> u64 {
    // Float to integer conversion saturates, which is right for a target that any hash meets.
    (65535.0 * 65536.0 / difficulty) as u64
}

/// The most significant 64 bits of a target in compact form.
fn top_of_compact(bits: u32) -> u64 {
    let (exponent, mantissa) = ((bits >> 24) as i32, f64::from(bits & 0x007f_ffff));
    (mantissa * 256f64.powi(exponent - 3 - 24)) as u64
}

/// The share of a real miner that `mining.notify` and `mining.submit` brought over the wire at block 2442185 of testnet.
#[test]
fn a_recorded_share_is_found_again() {
    let notify = serde_json::json!([
        "1",
        "171592f223740e92d223f6e68bff25279af7ac4f2246451e0000000200000000",
        "02000000010000000000000000000000000000000000000000000000000000000000000000ffffffff1903c943255c7075626c69632d706f6f6c5c",
        "ffffffff037a90000000000000160014e6f22ca44dc800e9d049621a3b9a42c509f1c4bc3b0f250000000000160014e6f22ca44dc800e9d049621a3b9a42c509f1c4bc0000000000000000266a24aa21a9edbd3d1d916aa0b57326a2d88ebe1b68a1d7c48585f26d8335fe6a94b62755f64c00000000",
        [
            "175335649d5e8746982969ec88f52e85ac9917106fba5468e699c8879ab974a1",
            "d5644ab3e708c54cd68dc5aedc92b8d3037449687f92ec41ed6e37673d969d4a",
            "5c9ec187517edc0698556cca5ce27e54c96acb014770599ed9df4d4937fbf2b0"
        ],
        "20000000",
        "192495f8",
        "64b3f3ec",
        true
    ]);
    let params = notify.as_array().unwrap();
    for (difficulty, found) in [(512.0, true), (669.0, true), (670.0, false)] {
        let mut work = Work::new(params, &[0x57, 0xa6, 0xf0, 0x98], 4, difficulty).unwrap();
        work.extranonce2 = 0x08c7;
        work.version |= 0x2000;
        work.nonce = 0xed46_0d91 - 3;
        let (_, share) = work.grind(4);
        assert_eq!(share.is_some(), found, "{difficulty}");
        if let Some(share) = share {
            assert_eq!(share.hash, "000000000061d52983863e5c424c00d9e0981874fddf6a8493433e73928a3e4e");
            assert_eq!(hex::encode(share.extranonce2), "c7080000");
            assert!(!share.is_block);
        }
    }
}
