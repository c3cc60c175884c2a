use bdk_wallet::bitcoin::{Txid, hashes::Hash};

use super::*;

fn signed(at_ms: i64, batch: i64, number: u8, sats: u64, coins: &[u8]) -> Signed {
    let inputs =
        coins.iter().map(|coin| OutPoint { txid: Txid::from_byte_array([*coin; 32]), vout: 0 }).collect();
    Signed { at_ms, batch, txid: format!("{number:064x}"), sats, inputs }
}

#[test]
fn what_may_be_signed_beside_what_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signer.log");
    let mut past = Past::open(&path).unwrap();
    let check = |past: &Past, next: &Signed, expect: Result<(), &str>| match past.allows(next, 1_000) {
        Ok(()) => assert_eq!(expect, Ok(()), "{next:?}"),
        Err(why) => assert!(why.contains(expect.expect_err(&why)), "{why}"),
    };
    let day = DAY_MS;
    check(&past, &signed(day, 1, 1, 1_001, &[1]), Err("the limit is 1000 sat"));
    check(&past, &signed(day, 1, 1, 600, &[1, 2]), Ok(()));
    past.add(signed(day, 1, 1, 600, &[1, 2])).unwrap();
    // The same again, and a bump that shares a coin.
    check(&past, &signed(day + 5, 1, 1, 600, &[1, 2]), Ok(()));
    check(&past, &signed(day + 5, 1, 2, 900, &[2, 3]), Ok(()));
    past.add(signed(day + 5, 1, 2, 900, &[2, 3])).unwrap();
    // One that could confirm beside the first, though not beside the second.
    check(&past, &signed(day + 6, 1, 3, 600, &[3]), Err("could confirm beside"));
    // Another batch: the dearest version of the first counts, once.
    check(&past, &signed(day + 6, 2, 4, 100, &[4]), Ok(()));
    check(&past, &signed(day + 6, 2, 4, 101, &[4]), Err("1001 sat would leave"));
    check(&past, &signed(2 * day + 6, 2, 4, 1_000, &[4]), Ok(()));
    drop(past);

    // Two at once are one too many; the record outlives the process, a torn line at its end too.
    let past = Past::open(&path).unwrap();
    assert_eq!(past.all.len(), 2);
    assert!(Past::open(&path).is_err_and(|error| error.to_string().contains("another signer")));
    drop(past);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"at_ms\":17");
    fs::write(&path, &text).unwrap();
    let mut past = Past::open(&path).unwrap();
    assert_eq!(past.all.len(), 2);
    past.add(signed(day, 9, 9, 1, &[9])).unwrap();
    drop(past);
    assert_eq!(Past::open(&path).unwrap().all.len(), 3);
    fs::write(&path, "rubbish\n").unwrap();
    assert!(Past::open(&path).is_err_and(|error| error.to_string().contains("line 1")));
}
