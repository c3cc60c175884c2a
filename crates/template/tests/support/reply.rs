//! A reply to `getblocktemplate` as Bitcoin Core writes it, of as many transactions as wanted.

use std::fmt::Write;

use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    absolute::LockTime, consensus, hashes::Hash, script::Builder, transaction::Version,
};

/// Some bytes that nobody would compress, and the same ones at each call.
struct Bytes(u64);

impl Bytes {
    fn some(&mut self, count: usize) -> Vec<u8> {
        let step = |_| {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0.to_be_bytes()[0]
        };
        (0..count).map(step).collect()
    }
}

/// One input with a signature and a key, two outputs, and an OP_RETURN that brings it to about `size` bytes.
fn transaction(bytes: &mut Bytes, size: usize) -> Transaction {
    let output =
        |value, script: Vec<u8>| TxOut { value: Amount::from_sat(value), script_pubkey: script.into() };
    let key_hash = |bytes: &mut Bytes| [vec![0, 20], bytes.some(20)].concat();
    let said = [vec![0x6a, 0x4d], bytes.some(size.saturating_sub(233))].concat();
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_slice(&bytes.some(32)).expect("32 bytes"), vout: 1 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[bytes.some(72), bytes.some(33)]),
        }],
        output: vec![output(70_000, key_hash(bytes)), output(1_234_567, key_hash(bytes)), output(0, said)],
    }
}

/// The whole reply, with `count` transactions of about `size` bytes each, on top of a difficulty that anybody meets.
pub fn reply(count: usize, size: usize) -> String {
    let mut bytes = Bytes(count as u64);
    let transactions: Vec<Transaction> = (0..count).map(|_| transaction(&mut bytes, size)).collect();
    let mut list = String::new();
    for transaction in &transactions {
        let separator = if list.is_empty() { "" } else { "," };
        write!(
            list,
            r#"{separator}{{"data":"{}","txid":"{}","hash":"{}","depends":[],"fee":2820,"sigops":2,"weight":{}}}"#,
            consensus::encode::serialize_hex(transaction),
            transaction.compute_txid(),
            transaction.compute_wtxid(),
            transaction.weight(),
        )
        .expect("memory");
    }
    format!(
        concat!(
            r#"{{"jsonrpc":"2.0","result":{{"capabilities":["proposal"],"version":536870912,"#,
            r#""rules":["csv","!segwit","taproot"],"vbavailable":{{}},"vbrequired":0,"#,
            r#""previousblockhash":"4b1f2d3c00000000000000000000000000000000000000000000000000000000","#,
            r#""transactions":[{list}],"coinbaseaux":{{}},"coinbasevalue":{value},"#,
            r#""longpollid":"4b1f2d3c000000000000000000000000000000000000000000000000000000007","#,
            r#""target":"7fffff0000000000000000000000000000000000000000000000000000000000","#,
            r#""mintime":1763800000,"mutable":["time","transactions","prevblock"],"noncerange":"00000000ffffffff","#,
            r#""sigoplimit":80000,"sizelimit":4000000,"weightlimit":4000000,"curtime":1763803600,"bits":"207fffff","#,
            r#""height":924300,"default_witness_commitment":"{commitment}"}},"id":1}}"#,
        ),
        list = list,
        value = 312_500_000 + 2_820 * count,
        commitment = hex(&commitment(&transactions)),
    ) + "\n"
}

/// The script of the output that commits to the witnesses (BIP 141).
fn commitment(transactions: &[Transaction]) -> Vec<u8> {
    let coinbase = bitcoin::Wtxid::all_zeros();
    let hashes = std::iter::once(coinbase).chain(transactions.iter().map(Transaction::compute_wtxid));
    let root = bitcoin::merkle_tree::calculate_root(hashes).expect("at least the coinbase");
    let root = bitcoin::WitnessMerkleNode::from_byte_array(root.to_byte_array());
    let hash = Block::compute_witness_commitment(&root, &[0; 32]);
    let script = Builder::new()
        .push_opcode(bitcoin::opcodes::all::OP_RETURN)
        .push_slice({
            let mut said = [0; 36];
            said[..4].copy_from_slice(&[0xaa, 0x21, 0xa9, 0xed]);
            said[4..].copy_from_slice(hash.as_byte_array());
            said
        })
        .into_script();
    script.into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("memory");
        text
    })
}
