use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, WitnessCommitment,
    absolute::LockTime, hashes::Hash as _, transaction,
};
use share::{Extranonce, sha256};

use super::*;
use crate::{Output, coinbase};

/// Transactions that spend nothing real, every other one with a witness.
fn transactions(count: u32) -> Vec<Transaction> {
    let transaction = |n: u32| Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([3; 32]), vout: n },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: if n.is_multiple_of(2) { Witness::from_slice(&[[n as u8; 71]]) } else { Witness::new() },
        }],
        output: vec![TxOut {
            value: Amount::from_sat(n.into()),
            script_pubkey: ScriptBuf::from(vec![0x51; 22]),
        }],
    };
    (0..count).map(transaction).collect()
}

fn template(transactions: &[Transaction], with_commitment: bool) -> Template {
    let leaves = transactions.iter().map(|t| t.compute_wtxid().to_byte_array());
    let root = sha256::fold([0; 32], &sha256::branch(leaves));
    let commitment = sha256::double(&[root, [0; 32]].concat());
    let bits = 0x207f_ffff;
    Template {
        height: 1000,
        prev_hash: [9; 32],
        version: 0x2000_2004,
        bits,
        network_target: Target::from_compact(bits).unwrap(),
        time: 1_800_000_000,
        min_time: 1_700_000_000,
        coinbase_value: 5_000_000_123,
        witness_commitment: with_commitment
            .then(|| [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &commitment].concat()),
        transactions: transactions.iter().flat_map(consensus::serialize).collect::<Vec<u8>>().into(),
        transaction_count: transactions.len(),
        branch: sha256::branch(transactions.iter().map(|t| t.compute_txid().to_byte_array())),
        long_poll: None,
    }
}

#[test]
fn blocks_of_every_size_read_back() {
    let check = |count: u32, with_commitment: bool| {
        let transactions = transactions(count);
        let template = template(&transactions, with_commitment);
        let outputs = [Output { script: vec![0x51], sats: template.coinbase_value }];
        let coinbase = coinbase(&template, "/test/", &[1, 2], &outputs, 12).unwrap();
        let job = template.job(coinbase);
        let submission = Submission {
            extranonce: Extranonce::new(&[&[5; 12]]).unwrap(),
            time: template.time + 3,
            nonce: 0x0102_0304,
            version: job.version | 0x0000_4000,
        };
        let bytes = template.block(&job, &submission);
        let block: Block = consensus::deserialize(&bytes).unwrap();
        assert!(bytes.capacity() <= bytes.len() + 36, "copied once, into what was reserved");
        assert_eq!(block.txdata[1..], transactions);
        assert!(block.check_merkle_root());
        assert_eq!(block.header.prev_blockhash.to_byte_array(), template.prev_hash);
        assert_eq!(block.header.time, submission.time);
        assert_eq!(block.header.nonce, submission.nonce);
        assert_eq!(block.header.version.to_consensus(), 0x2000_4004);
        assert_eq!(consensus::serialize(&block.header), job.header(&submission));
        assert_eq!(block.bip34_block_height().ok(), Some(1000));
        let witness = &block.txdata[0].input[0].witness;
        if with_commitment {
            assert_eq!(witness.to_vec(), [vec![0; 32]]);
            let root = block.witness_root().unwrap();
            let expect = Block::compute_witness_commitment(&root, &[0; 32]);
            let last = block.txdata[0].output.last().unwrap().script_pubkey.as_bytes();
            assert_eq!(WitnessCommitment::from_slice(&last[6..38]).unwrap(), expect);
            assert!(block.check_witness_commitment());
        } else {
            assert!(witness.is_empty());
        }
    };
    for count in [0, 1, 2, 3, 251, 252, 253, 1000] {
        check(count, true);
    }
    check(0, false);
    check(9, false);
}

#[test]
fn a_job_leaves_the_version_bits_that_miners_roll() {
    let template = Template { version: 0x3fff_ffff, ..template(&[], false) };
    let outputs = [Output { script: vec![0x51], sats: template.coinbase_value }];
    let job = template.job(coinbase(&template, "", &[], &outputs, 8).unwrap());
    assert_eq!(job.version, 0x2000_1fff);
    assert_eq!((job.time, job.min_time, job.bits), (template.time, template.min_time, template.bits));
    assert_eq!((job.height, job.network_target), (template.height, template.network_target));
}
