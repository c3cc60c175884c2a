//! Blocks for a node, made only of what this crate offers to a pool.

use bitcoin::{
    Address, Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    absolute::LockTime, hashes::Hash as _, script::Builder, transaction,
};
use share::{Coinbase, Extranonce, Hash, Job, Rules, Submission, check, check::VERSION_MASK};
use template::{Output, Solved, Template, coinbase};

/// The script that anybody may spend, OP_TRUE, wrapped as witnesses are.
fn anybody() -> ScriptBuf {
    Builder::new().push_int(1).into_script()
}

/// What our blocks pay.
pub fn payee() -> ScriptBuf {
    Address::p2wsh(&anybody(), bitcoin::Network::Regtest).script_pubkey()
}

pub fn coinbase_for(template: &Template, tag: &str, salt: &[u8]) -> Coinbase {
    let outputs = [Output { script: payee().into_bytes(), sats: template.coinbase_value }];
    coinbase(template, tag, salt, &outputs, 12).expect("a coinbase")
}

/// A submission that is a block.
pub fn solve(job: &Job) -> Submission {
    let rules = Rules { target: job.network_target, version_mask: VERSION_MASK, now: job.time, stale: false };
    // With rolled version bits, as ASICs have them.
    let mut submission = Submission {
        extranonce: Extranonce::new(&[&[1, 2, 3, 4], &[0; 8]]).expect("12 bytes"),
        time: job.time,
        nonce: 0,
        version: job.version | 0x0555_4000 & VERSION_MASK,
    };
    while !check(job, &submission, &rules).is_block {
        submission.nonce += 1;
    }
    submission
}

/// A whole block on `template`. `salt` keeps blocks on the same template apart.
pub fn block(template: &Template, salt: &[u8]) -> Solved {
    let job = template.job(coinbase_for(template, "/sluice test/", salt));
    let submission = solve(&job);
    let hash: Hash = share::sha256::double(&job.header(&submission));
    Solved { hash, height: template.height, block: template.block(&job, &submission) }
}

/// An output 0 that is ours to spend.
#[cfg(feature = "ipc")]
#[derive(Clone, Copy)]
pub struct Coin {
    pub txid: Txid,
    pub sats: u64,
}

/// As people write it.
pub fn shown(hash: &Hash) -> String {
    bitcoin::BlockHash::from_byte_array(*hash).to_string()
}

/// Spends output 0 of `txid` (ours) into a new one of ours, for a fee.
pub fn spend(txid: Txid, sats: u64, fee: u64) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid, vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[anybody().into_bytes()]),
        }],
        output: vec![TxOut { value: Amount::from_sat(sats - fee), script_pubkey: payee() }],
    }
}
