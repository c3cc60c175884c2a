//! A job from the wire, and the hash of what is handed in for it: by the `bitcoin` crate, so that coinbase and header
//! are what the rest of the world takes them for.

use bitcoin::{
    BlockHash, CompactTarget, Transaction, TxMerkleNode,
    block::{Header, Version},
    consensus::deserialize,
    hashes::{Hash, HashEngine, sha256d},
};
use serde_json::{Value, json};

/// What `mining.notify` said.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: String,
    pub previous: BlockHash,
    /// The first half of the coinbase, up to the extranonce; the pool's part of that is at its end.
    pub before: Vec<u8>,
    /// The second half.
    pub after: Vec<u8>,
    pub branch: Vec<[u8; 32]>,
    pub version: u32,
    pub bits: u32,
    pub time: u32,
    pub clean: bool,
    /// That was in force when it came.
    pub difficulty: f64,
}

/// What a miner hands in, as it is spelled.
#[derive(Clone, Debug)]
pub struct Share {
    pub job: String,
    pub extranonce2: String,
    pub time: String,
    pub nonce: String,
    /// Left out if `None`.
    pub version_bits: Option<String>,
    pub hash: BlockHash,
}

impl Job {
    /// `params` of a notify on a connection with `extranonce1`.
    pub fn new(params: &Value, extranonce1: &[u8], difficulty: f64) -> Self {
        let text = |at: usize| params[at].as_str().unwrap_or_else(|| panic!("no text at {at}: {params}"));
        let bytes = |text: &str| hex::decode(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let number = |at| u32::from_str_radix(text(at), 16).unwrap_or_else(|e| panic!("{e}: {params}"));
        let mut previous: [u8; 32] = bytes(text(1)).try_into().expect("32 bytes");
        previous.chunks_mut(4).for_each(<[u8]>::reverse);
        let branch = params[4].as_array().unwrap_or_else(|| panic!("no branch: {params}"));
        let branch = branch.iter().map(|hash| bytes(hash.as_str().unwrap()).try_into().expect("32 bytes"));
        Self {
            id: text(0).to_owned(),
            previous: BlockHash::from_byte_array(previous),
            before: [bytes(text(2)), extranonce1.to_vec()].concat(),
            after: bytes(text(3)),
            branch: branch.collect(),
            version: number(5),
            bits: number(6),
            time: number(7),
            clean: params[8].as_bool().unwrap_or_else(|| panic!("no clean flag: {params}")),
            difficulty,
        }
    }

    /// The coinbase with this extranonce2.
    pub fn coinbase(&self, extranonce2: &[u8]) -> Transaction {
        let bytes = [&self.before, extranonce2, &self.after].concat();
        deserialize(&bytes).unwrap_or_else(|e| panic!("{e}: {}", hex::encode(bytes)))
    }

    /// The header of a share, but for its nonce.
    fn header(&self, extranonce2: &[u8], time: u32, version_bits: u32) -> Header {
        let root = self.branch.iter().fold(
            self.coinbase(extranonce2).compute_txid().to_byte_array(),
            |root, sibling| {
                let mut engine = sha256d::Hash::engine();
                engine.input(&root);
                engine.input(sibling);
                sha256d::Hash::from_engine(engine).to_byte_array()
            },
        );
        Header {
            version: Version::from_consensus((self.version | version_bits) as i32),
            prev_blockhash: self.previous,
            merkle_root: TxMerkleNode::from_byte_array(root),
            time,
            bits: CompactTarget::from_consensus(self.bits),
            nonce: 0,
        }
    }

    /// A share with a hash that `wanted` likes, by the job as it is. `seed` makes one differ from another.
    pub fn find(&self, seed: u64, wanted: impl Fn(BlockHash) -> bool) -> Share {
        self.find_with(seed, self.time, None, wanted)
    }

    /// The same, with a time and rolled version bits of its own.
    pub fn find_with(
        &self,
        seed: u64,
        time: u32,
        version_bits: Option<u32>,
        wanted: impl Fn(BlockHash) -> bool,
    ) -> Share {
        let extranonce2 = seed.to_be_bytes();
        let mut header = self.header(&extranonce2, time, version_bits.unwrap_or(0));
        loop {
            let hash = header.block_hash();
            if wanted(hash) {
                return Share {
                    job: self.id.clone(),
                    extranonce2: hex::encode(extranonce2),
                    time: format!("{time:08x}"),
                    nonce: format!("{:08x}", header.nonce),
                    version_bits: version_bits.map(|bits| format!("{bits:08x}")),
                    hash,
                };
            }
            header.nonce += 1;
        }
    }

    /// A share that is no block.
    pub fn share(&self, seed: u64) -> Share {
        self.find(seed, |hash| is_share(hash, self.difficulty) && !is_block(hash, self.bits))
    }
}

impl Share {
    /// The parameters of `mining.submit`.
    pub fn params(&self, user: &str) -> Value {
        let mut params =
            vec![json!(user), json!(self.job), json!(self.extranonce2), json!(self.time), json!(self.nonce)];
        params.extend(self.version_bits.iter().map(|bits| json!(bits)));
        Value::Array(params)
    }
}

/// Whether `hash` meets the target of `difficulty`, by its most significant 64 bits.
pub fn is_share(hash: BlockHash, difficulty: f64) -> bool {
    let mut top = [0; 8];
    top.copy_from_slice(&hash.to_byte_array()[24..]);
    // Float to integer conversion saturates: then any hash will do.
    u64::from_le_bytes(top) <= (65535.0 * 65536.0 / difficulty) as u64
}

/// Whether `hash` meets the compact target `bits`.
pub fn is_block(hash: BlockHash, bits: u32) -> bool {
    bitcoin::Target::from_compact(CompactTarget::from_consensus(bits)).is_met_by(hash)
}
