//! Every rule, broken alone.

use bitcoin::{
    Amount, CompactTarget, ScriptBuf, Sequence, TxOut, Witness, absolute::LockTime, block::Version,
};

use super::*;

/// Replaces the coinbase script behind the height's four bytes.
fn script_behind_height(block: &mut Block, behind: &[u8]) {
    let input = &mut block.txdata[0].input[0];
    input.script_sig = [&input.script_sig.as_bytes()[..4], behind].concat().into();
}

fn script(bytes: &[u8]) -> ScriptBuf {
    bytes.to_vec().into()
}

fn pay(sats: u64, script: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(sats), script_pubkey: script }
}

fn unknown(block: &Block) -> Transaction {
    let mut transaction = block.txdata[1].clone();
    transaction.input[0].previous_output.vout ^= 1;
    transaction
}

#[test]
fn each_rule_refuses_in_bitcoin_cores_words() {
    use Mend::{Commitment, Nothing, Root, Work};
    let mut state = state();
    let earlier = good(&mut state, START);
    assert_eq!(submit(&mut state, &earlier, START), Submitted::Accepted);
    let now = START + 30_000;
    let spent = earlier.txdata[1].clone();

    let check = |mended: Mend, expect: &str, change: &dyn Fn(&mut Block)| {
        let mut state = State::new(&EASY, START);
        assert_eq!(submit(&mut state, &earlier, START), Submitted::Accepted);
        let mut block = good(&mut state, now);
        change(&mut block);
        mend(&mut block, mended);
        let expect = match expect {
            "" => Submitted::Accepted,
            reason => Submitted::Refused(reason.into()),
        };
        assert_eq!(submit(&mut state, &block, now), expect);
    };
    let coinbase = |change: fn(&mut Transaction)| move |block: &mut Block| change(&mut block.txdata[0]);

    check(Nothing, "", &|_| ());
    check(Commitment, "", &|_| ());
    check(Commitment, "", &|b| b.txdata.swap(1, 2));
    check(Root, "", &coinbase(|c| c.output[0].value -= Amount::from_sat(1))); // allowed, if unwise

    // The header.
    check(Nothing, "high-hash", &|b| {
        let target = Target::from_compact(b.header.bits.to_consensus()).unwrap();
        while target.is_met_by(&hash(b)) {
            b.header.nonce += 1;
        }
    });
    check(Nothing, "high-hash", &|b| b.header.bits = CompactTarget::from_consensus(0x2100_ffff));
    check(Nothing, "high-hash", &|b| b.header.bits = CompactTarget::from_consensus(0));
    check(Work, "bad-diffbits", &|b| b.header.bits = CompactTarget::from_consensus(0x207f_fffe));
    check(Work, "bad-txnmrklroot", &|b| b.header.merkle_root = TxMerkleNode::all_zeros());
    check(Work, "prev-blk-not-found", &|b| b.header.prev_blockhash = bitcoin::BlockHash::all_zeros());
    let median = (START / 1000) as u32; // of the first block, ten minutes older, and the earlier one
    check(Work, "time-too-old", &|b| b.header.time = median);
    check(Work, "", &|b| b.header.time = median + 1);
    check(Work, "time-too-new", &|b| b.header.time = (now / 1000) as u32 + 7_201);
    check(Work, "", &|b| b.header.time = (now / 1000) as u32 + 7_200);
    check(Work, "bad-version(0x00000003)", &|b| b.header.version = Version::from_consensus(3));
    check(Work, "", &|b| b.header.version = Version::from_consensus(0x2abc_e000));

    // The coinbase.
    check(Root, "bad-cb-missing", &|b| drop(b.txdata.remove(0)));
    check(Nothing, "bad-txnmrklroot", &|b| b.txdata.clear());
    check(Root, "bad-blk-length", &|b| b.txdata.clear());
    check(Root, "bad-cb-multiple", &|b| b.txdata.push(b.txdata[0].clone()));
    check(Root, "bad-cb-length", &|b| script_behind_height(b, &[0; 97]));
    check(Root, "", &|b| script_behind_height(b, &[0; 96]));
    check(Root, "bad-cb-length", &coinbase(|c| c.input[0].script_sig = script(&[3])));
    check(Root, "bad-cb-height", &coinbase(|c| c.input[0].script_sig = script(&[3, 0, 0, 0])));
    check(Root, "bad-cb-height", &coinbase(|c| c.input[0].script_sig = script(&[0x51, 0x51])));
    check(Root, "bad-cb-amount", &coinbase(|c| c.output[0].value += Amount::from_sat(1)));
    check(Root, "bad-cb-amount", &coinbase(|c| c.output.push(pay(1, script(&[0x51])))));
    check(Root, "bad-txns-vout-empty", &coinbase(|c| c.output.clear()));
    check(Root, "bad-txns-vout-negative", &coinbase(|c| c.output[0].value = Amount::from_sat(u64::MAX)));
    check(
        Root,
        "bad-txns-vout-toolarge",
        &coinbase(|c| c.output[0].value = Amount::MAX_MONEY + Amount::ONE_SAT),
    );
    check(
        Root,
        "bad-txns-txouttotal-toolarge",
        &coinbase(|c| c.output.push(pay(2_099_999_999_999_999, script(&[])))),
    );
    check(
        Root,
        "bad-txns-nonfinal",
        &coinbase(|c| {
            (c.lock_time, c.input[0].sequence) = (LockTime::from_consensus(900_001), Sequence::ZERO);
        }),
    );
    check(
        Root,
        "",
        &coinbase(|c| {
            (c.lock_time, c.input[0].sequence) = (LockTime::from_consensus(900_000), Sequence::ZERO);
        }),
    );

    // The witness.
    check(Nothing, "bad-witness-nonce-size", &coinbase(|c| c.input[0].witness = Witness::new()));
    check(
        Nothing,
        "bad-witness-nonce-size",
        &coinbase(|c| c.input[0].witness = Witness::from_slice(&[[0; 31]])),
    );
    check(Nothing, "bad-witness-nonce-size", &coinbase(|c| c.input[0].witness.push([0; 32])));
    check(
        Nothing,
        "bad-witness-merkle-match",
        &coinbase(|c| c.input[0].witness = Witness::from_slice(&[[1; 32]])),
    );
    check(Commitment, "", &coinbase(|c| c.input[0].witness = Witness::from_slice(&[[1; 32]])));
    check(Root, "unexpected-witness", &coinbase(|c| drop(c.output.pop())));
    check(Nothing, "bad-witness-merkle-match", &|b| {
        b.txdata[1].input[0].witness = Witness::from_slice(&[[1; 72]])
    });
    check(Commitment, "block-script-verify-flag-failed", &|b| {
        b.txdata[1].input[0].witness = Witness::from_slice(&[[1; 72]]);
    });

    // The transactions.
    check(Nothing, "bad-txnmrklroot", &|b| drop(b.txdata.pop()));
    check(Commitment, "bad-cb-amount", &|b| drop(b.txdata.pop()));
    check(Root, "bad-witness-merkle-match", &|b| drop(b.txdata.pop()));
    check(Commitment, "bad-txns-inputs-missingorspent", &|b| b.txdata[1] = unknown(b));
    check(Commitment, "bad-txns-inputs-missingorspent", &|b| b.txdata.push(spent.clone()));
    check(Commitment, "bad-txns-inputs-missingorspent", &|b| {
        b.txdata.truncate(4);
        b.txdata.push(b.txdata[1].clone());
    });
    check(Nothing, "bad-txns-duplicate", &|b| {
        b.txdata.truncate(3);
        mend(b, Commitment);
        b.txdata.push(b.txdata[2].clone()); // the root is the same
    });
    check(Root, "bad-blk-length", &coinbase(|c| c.output[0].script_pubkey = script(&[0x51; 1_000_000])));
    check(Root, "bad-blk-sigops", &coinbase(|c| c.output[0].script_pubkey = script(&[0xac; 20_001])));
    check(Commitment, "", &coinbase(|c| c.output.insert(0, pay(0, script(&[0xac; 20_000])))));
    check(Commitment, "bad-blk-weight", &|b| {
        for vout in 0..2 {
            let mut heavy = unknown(b);
            heavy.input[0].previous_output.vout = vout;
            heavy.input[0].witness = Witness::from_slice(&[vec![0; 2_000_000]]);
            b.txdata.push(heavy);
        }
    });
}
