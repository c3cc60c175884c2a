//! From a node's reply to a block: the odd ones, and what fuzzing came upon (see `fuzz/`).

#![expect(clippy::unwrap_used, reason = "what a test cannot do without may panic")]

use bitcoin::{Block, consensus};
use serde_json::{Value, json};
use share::{Extranonce, Submission, Target, check::VERSION_MASK};
use template::{Output, Template, coinbase, node::rpc::template_of};

#[path = "support/reply.rs"]
mod reply;
#[path = "../../../fuzz/src/template_reply.rs"]
mod template_reply;

#[test]
fn corpus() {
    let files = std::fs::read_dir("../../fuzz/corpus/template_reply").expect("a corpus");
    let inputs: Vec<_> =
        files.map(|file| std::fs::read(file.expect("a file").path()).expect("bytes")).collect();
    assert!(inputs.len() >= 20, "{} inputs", inputs.len());
    inputs.iter().for_each(|input| template_reply::run(input));
    let read = inputs.iter().filter(|input| template_of(200, input.to_vec()).is_ok()).count();
    assert!(read >= 10 && read < inputs.len(), "{read} of {} are templates", inputs.len());
}

/// A reply of `count` transactions, with `change` made to its template.
fn template(count: usize, change: impl FnOnce(&mut Value)) -> Template {
    let mut value: Value = serde_json::from_str(&reply::reply(count, 300)).unwrap();
    change(&mut value["result"]);
    template_of(200, value.to_string().into_bytes()).unwrap()
}

/// The block that a miner finds on `template`, as the `bitcoin` crate reads it.
fn block(template: &Template) -> Block {
    let outputs = [Output { script: vec![0x51], sats: template.coinbase_value }];
    let job = template.job(coinbase(template, "/test/", &[1; 8], &outputs, 12).unwrap());
    let extranonce = Extranonce::new(&[&[9; 12]]).unwrap();
    let submission = Submission { extranonce, time: job.time, nonce: 5, version: job.version };
    let block: Block = consensus::deserialize(&template.block(&job, &submission)).unwrap();
    assert!(block.check_merkle_root());
    assert_eq!(block.header.bits.to_consensus(), template.bits);
    block
}

#[test]
fn blocks_of_real_transactions_keep_what_they_commit_to() {
    for count in [0, 1, 2, 3, 100] {
        let block = block(&template(count, |_| ()));
        assert_eq!(block.txdata.len(), count + 1);
        assert!(block.check_witness_commitment(), "{count}");
    }
}

#[test]
fn f10_without_witness_commitment_the_coinbase_has_neither_output_nor_witness() {
    let template = template(0, |result| {
        result.as_object_mut().unwrap().remove("default_witness_commitment");
    });
    let block = block(&template);
    assert_eq!(block.txdata.len(), 1);
    assert_eq!(block.txdata[0].output.len(), 1);
    assert!(block.txdata[0].input[0].witness.is_empty());
}

#[test]
fn f10_without_transactions_the_coinbase_is_the_merkle_root() {
    let template = template(0, |_| ());
    assert!(template.branch.is_empty() && template.transactions.is_empty());
    let block = block(&template);
    assert_eq!(block.header.merkle_root.to_raw_hash(), block.txdata[0].compute_txid().to_raw_hash());
    assert!(block.check_witness_commitment());
}

#[test]
fn f10_limits_near_their_ends_and_fields_that_nobody_knows_change_nothing() {
    let plain = template(3, |_| ());
    let odd = template(3, |result| {
        result["sigoplimit"] = json!(1);
        result["weightlimit"] = json!(4_000_000_000_000u64);
        result["sizelimit"] = json!("full");
        result["signet_challenge"] = json!("51");
        result["coinbaseaux"] = json!({ "flags": "00".repeat(200) });
        result["mutable"] = json!(null);
        for transaction in result["transactions"].as_array_mut().unwrap() {
            transaction["sigops"] = json!(80_000);
            transaction["weight"] = json!(3_999_000);
            transaction["fee"] = json!(-1);
        }
    });
    assert_eq!(format!("{plain:?}"), format!("{odd:?}"));
}

#[test]
fn f10_new_version_bits_are_kept_where_miners_do_not_roll() {
    let check = |version: i64, job_version: u32| {
        let template = template(1, |result| result["version"] = json!(version));
        assert_eq!(template.version, version as u32);
        let block = block(&template);
        assert_eq!(block.header.version.to_consensus() as u32, job_version, "{version:x}");
        assert_eq!(job_version & VERSION_MASK, 0);
    };
    check(0x2000_0000, 0x2000_0000);
    // Bits that BIP 320 leaves to the node: 0 to 12 and 29 to 31.
    check(0x3000_0000, 0x2000_0000);
    check(0x2000_1fff, 0x2000_1fff);
    check(0x3fff_ffff, 0x2000_1fff);
    check(0x7fff_ffff, 0x6000_1fff);
    check(-1, 0xe000_1fff);
    check(1, 1);
}

#[test]
fn f11_targets_of_every_difficulty() {
    let check = |bits: u32, target: &str| {
        let template = template(1, |result| {
            result["bits"] = json!(format!("{bits:08x}"));
            result["target"] = json!(target);
        });
        assert_eq!(template.bits, bits);
        let mut bytes: [u8; 32] = hex::decode(target).unwrap().try_into().unwrap();
        bytes.reverse();
        assert_eq!(template.network_target, Target::from_le_bytes(bytes));
        assert_eq!(block(&template).header.target().to_le_bytes(), bytes);
    };
    let target = |zeros: usize, digits: &str| {
        format!("{}{digits}{}", "0".repeat(zeros), "0".repeat(64 - zeros - digits.len()))
    };
    // Below 1: regtest, and the easiest that a signet may have.
    check(0x207f_ffff, &target(0, "7fffff"));
    check(0x1e03_77ae, &target(4, "0377ae"));
    // 1, that of late 2025, and on both sides of 2^53, beyond which a difficulty in JSON is no whole number any more.
    check(0x1d00_ffff, &target(6, "00ffff"));
    check(0x1702_c4ae, &target(18, "02c4ae"));
    check(0x1607_fff8, &target(20, "07fff8"));
    check(0x1607_fff7, &target(20, "07fff7"));
    check(0x1500_ffff, &target(22, "00ffff"));
    check(0x0300_0001, &target(58, "000001"));
}

#[test]
fn f11_numbers_that_no_float_holds_are_skipped_where_they_do_not_matter() {
    let body = reply::reply(1, 300);
    for number in ["9007199254740993", "1e400", "-0", "123456789012345678901234567890.5", "1E+9999"] {
        let body = body.replacen(r#""height":"#, &format!(r#""difficulty":{number},"height":"#), 1);
        assert_eq!(template_of(200, body.into_bytes()).unwrap().height, 924_300, "{number}");
    }
}

#[test]
fn f11_across_a_halving_and_a_retarget_the_node_says_what_counts() {
    for (height, value, bits, target) in [
        (839_999, 625_000_000, "17034219", format!("{}034219{}", "0".repeat(18), "0".repeat(40))),
        (840_000, 312_500_000, "17034219", format!("{}034219{}", "0".repeat(18), "0".repeat(40))),
        (840_672, 312_500_000, "17032fff", format!("{}032fff{}", "0".repeat(18), "0".repeat(40))),
        (6_929_999, 1, "17034219", format!("{}034219{}", "0".repeat(18), "0".repeat(40))),
        // No subsidy and no fees.
        (6_930_000, 0, "17034219", format!("{}034219{}", "0".repeat(18), "0".repeat(40))),
    ] {
        let template = template(0, |result| {
            result["height"] = json!(height);
            result["coinbasevalue"] = json!(value);
            result["bits"] = json!(bits);
            result["target"] = json!(target);
        });
        let block = block(&template);
        assert_eq!(block.bip34_block_height().unwrap(), height);
        assert_eq!(block.txdata[0].output[0].value.to_sat(), value);
        assert_eq!(format!("{:08x}", block.header.bits.to_consensus()), bits);
    }
}
