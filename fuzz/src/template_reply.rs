//! A node's reply to `getblocktemplate`, and all that is made of the template: coinbase, job and block.

use bitcoin::{
    CompactTarget, Transaction, VarInt, block::Header, consensus, consensus::Decodable, hashes::Hash as _,
};
use serde_json::Value;
use share::{Extranonce, Submission, check::VERSION_MASK, sha256};
use template::{NodeError, Output, Template, coinbase, coinbase::MAX_SCRIPT, node::rpc::template_of};

/// What may be held beside a few times the reply, in bytes: the words of an error, buffers at their smallest.
const SMALL: u64 = 16 << 10;

/// Reads `body`, and mines on what it says. Panics when a rule is broken.
pub fn run(body: &[u8]) {
    let mut read = None;
    let taken = allocation_counter::measure(|| read = Some(template_of(200, body.to_vec())));
    let read = read.expect("an answer");
    // Words that say what is wrong quote it, escaped.
    let times = if read.is_ok() { 3 } else { 20 };
    let bound = times * body.len() as u64 + SMALL;
    assert!(taken.bytes_max <= bound, "{} bytes for a reply of {}", taken.bytes_max, body.len());
    match read {
        Ok(template) => {
            check_another_reader(body, &template);
            mine(&template);
        }
        Err(error) => check_words(&error),
    }
    // Older nodes send errors so. A template does not come with it.
    check_words(&template_of(500, body.to_vec()).expect_err("a failure"));
}

/// What a node says ends up in logs: one line of bounded length.
fn check_words(error: &NodeError) {
    let words = error.to_string();
    assert!(words.len() < 2000 && !words.contains('\n'), "{words}");
}

/// A reply that another reader of JSON wrote again says the same.
fn check_another_reader(body: &[u8], template: &Template) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let again = template_of(200, value.to_string().into_bytes()).expect("the same template");
    assert_eq!(format!("{again:?}"), format!("{template:?}"));
}

fn mine(template: &Template) {
    assert!(template.height > 0 && i32::try_from(template.height).is_ok());
    assert!(template.min_time <= template.time);
    let target = bitcoin::Target::from_compact(CompactTarget::from_consensus(template.bits));
    assert_eq!(target.to_le_bytes(), template.network_target.to_le_bytes());
    for size in [0, 12, Extranonce::MAX] {
        let outputs = [Output { script: vec![0x51], sats: template.coinbase_value }];
        let coinbase = coinbase(template, "/fuzz/", &[7; 8], &outputs, size).expect("a coinbase");
        let job = template.job(coinbase);
        assert_eq!(job.version & VERSION_MASK, 0);
        let submission = Submission {
            extranonce: Extranonce::new(&[&vec![0xee; size]]).expect("a size"),
            time: template.time,
            nonce: 0x0102_0304,
            version: job.version | 0x2000,
        };
        let block = template.block(&job, &submission);
        let mut rest = &block[..];
        let header = Header::consensus_decode(&mut rest).expect("a header");
        let count = VarInt::consensus_decode(&mut rest).expect("a count").0;
        let coinbase = Transaction::consensus_decode(&mut rest).expect("a coinbase");
        assert_eq!(consensus::serialize(&header), job.header(&submission));
        assert_eq!(count, template.transaction_count as u64 + 1);
        assert_eq!(rest, &template.transactions[..]);
        assert_eq!(header.bits.to_consensus(), template.bits);
        assert_eq!(header.prev_blockhash.to_byte_array(), template.prev_hash);
        assert_eq!(
            header.version.to_consensus().cast_unsigned() | VERSION_MASK,
            template.version | VERSION_MASK
        );
        let txid = coinbase.compute_txid().to_byte_array();
        assert_eq!(header.merkle_root.to_byte_array(), sha256::fold(txid, &template.branch));
        check_coinbase(template, &coinbase);
    }
}

fn check_coinbase(template: &Template, coinbase: &Transaction) {
    assert!(coinbase.is_coinbase());
    let input = &coinbase.input[0];
    assert!((2..=MAX_SCRIPT).contains(&input.script_sig.len()), "{} bytes", input.script_sig.len());
    let paid: u64 = coinbase.output.iter().map(|output| output.value.to_sat()).sum();
    assert_eq!(paid, template.coinbase_value);
    match &template.witness_commitment {
        None => assert!(input.witness.is_empty() && coinbase.output.len() == 1),
        Some(script) => {
            assert_eq!(input.witness.to_vec(), [vec![0; 32]]);
            assert_eq!(coinbase.output[1].script_pubkey.as_bytes(), &script[..]);
        }
    }
}
