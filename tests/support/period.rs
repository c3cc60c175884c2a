//! The first 2015 blocks of a signet whose blocks need no signature, five minutes apart: after them the difficulty
//! doubles. Nobody mines them in a test: the nonces are kept, the rest of each block follows from its height.

use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness,
    absolute::LockTime,
    block::{Header, Version},
    consensus::serialize,
    constants::genesis_block,
    script::Builder,
    transaction,
};

/// Of the last block of the first period.
pub const LAST: u32 = 2015;

/// Four bytes for each block from height 1 on, little-endian. Whether they are right, every node can tell.
const NONCES: &[u8; 4 * LAST as usize] = include_bytes!("period.nonces");

/// Seconds from a block to the next: half of what is aimed at.
const SPACING: u32 = 300;

/// The output of a block without transactions that commits to its witness (BIP 141).
const COMMITMENT: &str = "6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9";

/// The blocks of the period as hex, from height 1 on.
pub fn blocks() -> Vec<String> {
    let mut before = genesis_block(Network::Signet).block_hash();
    let nonces = NONCES.chunks_exact(4).map(|nonce| u32::from_le_bytes(nonce.try_into().unwrap()));
    let next = |(height, nonce)| {
        let block = block(height, before, nonce);
        before = block.block_hash();
        hex::encode(serialize(&block))
    };
    (1..).zip(nonces).map(next).collect()
}

/// The block at `height` on `before`.
pub fn block(height: u32, before: BlockHash, nonce: u32) -> Block {
    let genesis = genesis_block(Network::Signet).header;
    let output = |sats, script| TxOut { value: Amount::from_sat(sats), script_pubkey: script };
    let coinbase = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new().push_int(height.into()).push_int(0).into_script(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0; 32]]),
        }],
        output: vec![
            output(5_000_000_000, Builder::new().push_int(1).into_script()),
            output(0, ScriptBuf::from_hex(COMMITMENT).unwrap()),
        ],
    };
    let header = Header {
        version: Version::from_consensus(0x2000_0000),
        prev_blockhash: before,
        merkle_root: TxMerkleNode::from_raw_hash(coinbase.compute_txid().to_raw_hash()),
        time: genesis.time + height * SPACING,
        bits: CompactTarget::from_consensus(genesis.bits.to_consensus()),
        nonce,
    };
    Block { header, txdata: vec![coinbase] }
}
