use bitcoin::{Amount, ScriptBuf};
use proptest::prelude::*;

use super::*;
use crate::{Output, coinbase};

const COMMITTED: [u8; 38] = {
    let mut script = [7; 38];
    (script[0], script[1], script[2]) = (0x6a, 0x24, 0xaa);
    (script[3], script[4], script[5]) = (0x21, 0xa9, 0xed);
    script
};

fn output(sats: u64, script: &[u8]) -> Vec<u8> {
    let script_pubkey = ScriptBuf::from(script.to_vec());
    consensus::serialize(&TxOut { value: Amount::from_sat(sats), script_pubkey })
}

fn fields(script_prefix: &[u8], outputs: &[Vec<u8>]) -> RawCoinbase {
    RawCoinbase::Fields {
        script_prefix: script_prefix.to_vec(),
        witness: vec![0; 32],
        value: 5000,
        outputs: outputs.to_vec(),
    }
}

/// Height 300, with a commitment.
fn good() -> RawCoinbase {
    fields(&[2, 0x2c, 0x01], &[output(0, &COMMITTED)])
}

/// A block with `count` transactions after the coinbase, on regtest.
fn block(count: usize) -> Vec<u8> {
    let of = Template {
        height: 300,
        prev_hash: [3; 32],
        version: 0x2000_0000,
        bits: 0x207f_ffff,
        network_target: Target::MAX,
        time: 1_700_000_000,
        min_time: 0,
        coinbase_value: 5000,
        witness_commitment: Some(COMMITTED.to_vec()),
        transactions: Bytes::new(),
        transaction_count: count,
        branch: vec![],
        long_poll: None,
    };
    let paid = [Output { script: vec![0x51], sats: 5000 }];
    let made = coinbase(&of, "tag", b"", &paid, 4).unwrap();
    // Any transaction will do for the others.
    let mut other = made.with(&share::Extranonce::new(&[&[9; 4]]).unwrap());
    other.resize(other.len().max(60), 0);
    let transactions = other.repeat(count).into();
    let submission = share::Submission {
        extranonce: share::Extranonce::new(&[&[1; 4]]).unwrap(),
        time: of.time,
        nonce: 0x0403_0201,
        version: of.version,
    };
    let of = Template { transactions, ..of };
    of.block(&of.job(made), &submission)
}

fn made(count: usize, coinbase: RawCoinbase, branch: usize) -> Result<Template, NodeError> {
    template(block(count), coinbase, vec![[5; 32]; branch], Network::Regtest)
}

fn why(coinbase: RawCoinbase) -> String {
    made(0, coinbase, 0).unwrap_err().to_string()
}

#[test]
fn a_template_of_what_the_node_says() {
    let made = made(3, good(), 2).unwrap();
    assert_eq!((made.height, made.coinbase_value, made.transaction_count), (300, 5000, 3));
    assert_eq!((made.prev_hash, made.version, made.bits), ([3; 32], 0x2000_0000, 0x207f_ffff));
    assert_eq!((made.time, made.min_time), (1_700_000_000, 1_700_000_000));
    assert_eq!(made.network_target, Target::from_compact(0x207f_ffff).unwrap());
    assert_eq!(made.witness_commitment.as_deref(), Some(&COMMITTED[..]));
    assert_eq!((made.branch.len(), made.long_poll), (2, None));
    let block = block(3);
    let parts = Parts::of(&block).unwrap();
    assert_eq!(made.transactions, parts.transactions);
    assert_eq!(parts.nonce(), 0x0403_0201);
    assert_eq!([&block[..80], &[4], parts.coinbase, parts.transactions].concat(), block);
    let coinbase: Transaction = consensus::deserialize(parts.coinbase).unwrap();
    assert_eq!(coinbase.input[0].witness.len(), 1);
}

#[test]
fn the_coinbase_of_core_30() {
    let block = block(0);
    let transaction = Parts::of(&block).unwrap().coinbase.to_vec();
    // Ours has a tag behind the height: the node's dummy has not.
    let said = RawCoinbase::Whole { transaction: transaction.clone(), commitment: COMMITTED.to_vec() };
    assert!(why(said).contains("BIP 34"));
    let mut dummy: Transaction = consensus::deserialize(&transaction).unwrap();
    dummy.input[0].script_sig = ScriptBuf::from(vec![2, 0x2c, 0x01, 0]);
    let raw = |dummy: &Transaction, commitment: &[u8]| RawCoinbase::Whole {
        transaction: consensus::serialize(dummy),
        commitment: commitment.to_vec(),
    };
    let template = made(0, raw(&dummy, &COMMITTED), 0).unwrap();
    assert_eq!((template.height, template.coinbase_value), (300, 5000));
    assert_eq!(template.witness_commitment.as_deref(), Some(&COMMITTED[..]));
    assert_eq!(made(0, raw(&dummy, b""), 0).unwrap().witness_commitment, None);
    assert!(why(raw(&dummy, b"\x51")).contains("witness commitment"));
    let cut = RawCoinbase::Whole { transaction: transaction[..50].to_vec(), commitment: vec![] };
    assert!(why(cut).contains("no transaction"));
}

#[test]
fn heights() {
    for (script, expected) in [
        (&[0x51][..], Some(1)),
        (&[0x60], Some(16)),
        (&[0x60, 0], Some(16)),
        (&[1, 17], Some(17)),
        (&[1, 127], Some(127)),
        (&[2, 128, 0, 0], Some(128)),
        (&[3, 0xff, 0xff, 0x7f], Some(0x7f_ffff)),
        (&[4, 0, 0, 0x80, 0], Some(0x80_0000)),
        (&[], None),
        (&[0], None),
        (&[0x61], None),
        (&[1], None),
        (&[1, 16], None),    // not the shortest
        (&[1, 128], None),   // minus zero
        (&[1, 129], None),   // minus one
        (&[2, 17, 0], None), // not the shortest
        (&[5, 1, 2, 3, 4, 5], None),
        (&[4, 1, 2, 3, 0x84], None),
        (&[1, 17, 1], None), // something else that is asked for
        (&[1, 17, 0, 0], None),
    ] {
        assert_eq!(height(script), expected, "{script:?}");
    }
}

#[test]
fn what_we_cannot_make_is_refused() {
    let (prefix, committed) = ([2, 0x2c, 0x01], output(0, &COMMITTED));
    assert!(why(fields(&prefix, &[committed.clone(), committed.clone()])).contains("needs 2 outputs"));
    assert!(why(fields(&prefix, &[output(1, &COMMITTED)])).contains("1 sat"));
    assert!(why(fields(&prefix, &[output(0, b"\x51")])).contains("witness commitment is none"));
    assert!(why(fields(&prefix, &[committed[..20].to_vec()])).contains("is none"));
    assert!(why(fields(&[9, 9], std::slice::from_ref(&committed))).contains("BIP 34"));
    assert_eq!(made(0, fields(&prefix, &[]), 0).unwrap().witness_commitment, None);
    let with = |witness: &[u8], value| RawCoinbase::Fields {
        script_prefix: prefix.to_vec(),
        witness: witness.to_vec(),
        value,
        outputs: vec![],
    };
    assert!(made(0, with(b"", 1), 0).is_ok());
    assert!(why(with(&[1; 32], 1)).contains("witness"));
    assert!(why(with(&[0; 31], 1)).contains("witness"));
    assert!(why(with(b"", -1)).contains("-1 sat"));
    assert!(why(with(b"", i64::MAX)).contains("more than there are"));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    for (count, branch) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4)] {
        assert!(made(count, good(), branch).is_ok(), "{count}");
        let error = made(count, good(), branch + 1).unwrap_err().to_string();
        assert_eq!(error, format!("unusable template: a branch of {} for {count} transactions", branch + 1));
    }
    for length in [0, 79, 80, 81, 150] {
        let cut = block(2)[..length].to_vec();
        let error = template(cut, good(), vec![[5; 32]; 2], Network::Regtest).unwrap_err().to_string();
        assert_eq!(error, "unusable template: what should be a block is none");
    }
    // More transactions than bytes could hold.
    let mut many = block(0);
    many[80] = 0xfc;
    assert!(Parts::of(&many).is_none());
    many[80] = 0;
    assert!(Parts::of(&many).is_none());

    for network in [Network::Bitcoin, Network::Signet, Network::Testnet4] {
        let error = template(block(0), good(), vec![], network).unwrap_err();
        assert!(matches!(error, NodeError::Chain { .. }), "{network}: {error}");
    }
    let mut none = block(0);
    none[72..76].fill(0);
    let error = template(none, good(), vec![], Network::Regtest).unwrap_err().to_string();
    assert_eq!(error, "unusable template: bits 00000000 have no target");
}

proptest! {
    #[test]
    fn anything_at_all_is_survived(
        block in prop::collection::vec(any::<u8>(), 0..300),
        script in prop::collection::vec(any::<u8>(), 0..8),
        witness in prop::collection::vec(any::<u8>(), 0..40),
        value: i64,
        outputs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..3),
    ) {
        let raw = RawCoinbase::Fields { script_prefix: script, witness, value, outputs };
        let _ = template(block.clone(), raw, vec![], Network::Regtest);
        let raw = RawCoinbase::Whole { transaction: block.clone(), commitment: vec![] };
        let _ = template(block, raw, vec![], Network::Regtest);
    }

    #[test]
    fn a_block_with_any_byte_wrong_is_survived(at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
        let mut bytes = block(2);
        *at.get_mut(&mut bytes) = to;
        let length = cut.index(bytes.len() + 1);
        for bytes in [bytes.clone(), bytes[..length].to_vec()] {
            if let Some(parts) = Parts::of(&bytes) {
                prop_assert!(parts.coinbase.len() + parts.transactions.len() < bytes.len());
            }
            let _ = template(bytes, good(), vec![[0; 32]; 2], Network::Regtest);
        }
    }
}
