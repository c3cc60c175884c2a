use bitcoin::{Block, Transaction, opcodes::all::OP_PUSHNUM_1};
use proptest::prelude::*;
use share::Target;

use super::*;

fn template(height: u32, coinbase_value: u64, witness_commitment: Option<Vec<u8>>) -> Template {
    let bits = 0x207f_ffff;
    Template {
        height,
        prev_hash: [7; 32],
        version: 0x2000_0000,
        bits,
        network_target: Target::from_compact(bits).unwrap(),
        time: 1_800_000_000,
        min_time: 1_700_000_000,
        coinbase_value,
        witness_commitment,
        transactions: bytes::Bytes::new(),
        transaction_count: 0,
        branch: Vec::new(),
        long_poll: None,
    }
}

fn output(sats: u64) -> Output {
    Output { script: vec![OP_PUSHNUM_1.to_u8()], sats }
}

/// The coinbase as the `bitcoin` crate reads it, with this extranonce.
fn read(coinbase: &Coinbase, extranonce: &[u8]) -> Transaction {
    consensus::deserialize(&coinbase.with(&Extranonce::new(&[extranonce]).unwrap())).unwrap()
}

#[test]
fn scripts() {
    let check = |height, tag, salt: &[u8], extranonce: &[u8], expect: &str| {
        let coinbase =
            coinbase(&template(height, 1, None), tag, salt, &[output(1)], extranonce.len()).unwrap();
        let script = read(&coinbase, extranonce).input[0].script_sig.to_bytes();
        assert_eq!(hex::encode(script), expect, "height {height}, tag {tag:?}");
    };
    // Low heights are opcodes, as the node's own script writer has it; above they are numbers with a sign bit.
    check(1, "", &[], &[], "5100");
    check(16, "", &[], &[], "6000");
    check(17, "", &[], &[], "0111");
    check(127, "ab", &[], &[9], "017f0261620109");
    check(128, "ab", &[], &[9], "0280000261620109");
    check(900_000, "/s/", &[1, 2], &[0xaa; 4], "03a0bb0d032f732f02010204aaaaaaaa");
    check(0, "x", &[], &[], "000178");
}

#[test]
fn what_cannot_be_built() {
    let check = |tag_length: usize, size, outputs: &[Output], expect: &str| {
        let made = coinbase(&template(900_000, 5000, None), &"t".repeat(tag_length), &[1, 2], outputs, size);
        assert_eq!(made.map(|_| "fine".into()).unwrap_or_else(|e| e.to_string()), expect);
    };
    let all = &[output(5000)][..];
    // 4 bytes of height, 3 of salt, 13 of extranonce: 80 are left, of which a long push needs 2.
    check(78, 12, all, "fine");
    let long =
        "the coinbase script would be 101 bytes long, of at most 100: shorten the pool's tag by 1 bytes";
    check(79, 12, all, long);
    let long = "the coinbase script would be 70022 bytes long, of at most 100: shorten the pool's tag by 69922 bytes";
    check(70_000, 12, all, long);
    check(1, 33, all, "an extranonce of 33 bytes, of at most 32");
    check(1, 32, all, "fine");
    check(1, 8, &[], "no outputs: a coinbase pays somebody");
    let unequal = |sum| format!("the outputs pay {sum} sat, the block is worth 5000 sat: they must be equal");
    check(1, 8, &[output(4999)], &unequal(4999));
    check(1, 8, &[output(4999), output(2)], &unequal(5001));
    check(1, 8, &[output(u64::MAX), output(5001)], &unequal(u64::MAX));
    check(1, 8, &[output(4999), output(1), output(0)], "fine");
}

proptest! {
    /// Whatever is asked for: at most 100 bytes, or told by how much it is too long.
    #[test]
    fn f10_no_tag_overflows_the_script(
        height in prop_oneof![0u32..40, 0u32..(1 << 31)],
        tag in ".{0,30}|[a-z]{0,120}",
        salt in proptest::collection::vec(any::<u8>(), 0..110),
        extranonce_size in 0usize..40,
    ) {
        let push = |length: usize| match length {
            0 => 0,
            1..=75 => 1 + length,
            _ => 2 + length,
        };
        let height_size = Builder::new().push_int(height.into()).into_script().len();
        let expect = height_size + push(tag.len()) + push(salt.len()) + push(extranonce_size);
        let made = coinbase(&template(height, 1, None), &tag, &salt, &[output(1)], extranonce_size);
        match made {
            Err(CoinbaseError::ExtranonceTooLong { size }) => prop_assert!(size == extranonce_size && size > 32),
            Err(CoinbaseError::ScriptTooLong { length }) => {
                prop_assert_eq!(length, expect);
                prop_assert!(length > MAX_SCRIPT);
            }
            made => {
                let transaction = read(&made.unwrap(), &vec![0xaa; extranonce_size]);
                prop_assert_eq!(transaction.input[0].script_sig.len(), expect.max(2));
                prop_assert!(expect <= MAX_SCRIPT);
            }
        }
    }

    #[test]
    fn every_coinbase_reads_back(
        height in prop_oneof![0u32..40, 0u32..(1 << 31)],
        tag in ".{0,20}",
        salt in proptest::collection::vec(any::<u8>(), 0..10),
        paid in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..300), 0u64..1 << 50), 1..300),
        extranonce in proptest::collection::vec(any::<u8>(), 0..=Extranonce::MAX),
        commitment in proptest::option::of(proptest::collection::vec(any::<u8>(), 38)),
    ) {
        let outputs: Vec<Output> =
            paid.iter().map(|(script, sats)| Output { script: script.clone(), sats: *sats }).collect();
        let value = paid.iter().map(|(_, sats)| sats).sum();
        let made = coinbase(&template(height, value, commitment.clone()), &tag, &salt, &outputs, extranonce.len());
        let coinbase = match made {
            Err(CoinbaseError::ScriptTooLong { length }) => {
                prop_assert!(length > MAX_SCRIPT);
                return Ok(());
            }
            made => made.unwrap(),
        };
        let transaction = read(&coinbase, &extranonce);
        prop_assert!(transaction.is_coinbase());
        let script = &transaction.input[0].script_sig;
        prop_assert!((2..=MAX_SCRIPT).contains(&script.len()));
        let push = Builder::new().push_int(height.into()).into_script();
        prop_assert!(script.as_bytes().starts_with(push.as_bytes()));
        prop_assert!(script.instructions().all(|instruction| instruction.is_ok()));
        prop_assert!(script.as_bytes().ends_with(&extranonce) || extranonce.is_empty());
        let expect: Vec<(Vec<u8>, u64)> = paid.into_iter().chain(commitment.map(|script| (script, 0))).collect();
        let found: Vec<(Vec<u8>, u64)> = transaction
            .output
            .iter()
            .map(|output| (output.script_pubkey.to_bytes(), output.value.to_sat()))
            .collect();
        prop_assert_eq!(found, expect);
        // The halves and the whole hash alike.
        let txid = bitcoin::hashes::Hash::to_byte_array(transaction.compute_txid().to_raw_hash());
        prop_assert_eq!(coinbase.txid(&Extranonce::new(&[&extranonce]).unwrap()), txid);
        // What others read as the block's height is what we wrote (the reader knows no opcodes for low ones).
        let block = Block { header: header(), txdata: vec![transaction] };
        if height > 16 {
            prop_assert_eq!(block.bip34_block_height().ok(), Some(u64::from(height)));
        }
    }
}

fn header() -> bitcoin::block::Header {
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header;
    bitcoin::block::Header { version: bitcoin::block::Version::TWO, ..genesis }
}
