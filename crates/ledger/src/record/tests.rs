use proptest::prelude::*;

use super::*;

fn share() -> ShareRecord {
    ShareRecord {
        time_ms: 1_790_000_000_000,
        worker: WorkerId([7; 16]),
        work: 1 << 90,
        height: 900_000,
        bits: 0x1702_3a04,
        hash_tag: 0x0123_4567_89ab_cdef,
    }
}

fn found(outputs: usize) -> Found {
    Found {
        time_ms: 1_790_000_000_001,
        worker: WorkerId([8; 16]),
        hash: [1; 32],
        prev_hash: [2; 32],
        height: 900_000,
        bits: 0x1702_3a04,
        coinbase_txid: [3; 32],
        value_sats: 312_500_000,
        outputs: vec![(vec![0x51; 34], 100); outputs],
        origin: None,
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

#[test]
fn records_come_back() {
    let rejects = RejectRecord { time_ms: 1, worker: WorkerId([9; 16]), count: 3 };
    let segment = Segment { spool: [4; 16], writer: 2, sequence: 1 << 40, created_ms: 5 };
    let check = |bytes: Vec<u8>, slots: usize, expect: Entry| {
        assert_eq!(bytes.len(), slots * SLOT, "{expect:?}");
        assert_eq!(read(&bytes), Reading::Entry { entry: expect, size: bytes.len() });
    };
    check(written(|out| share().write(out)), 1, Entry::Share(share()));
    check(written(|out| rejects.write(out)), 1, Entry::Rejects(rejects));
    check(written(|out| segment.write(out)), 1, Entry::Segment(segment));
    check(written(|out| write_worker("a.b", out)), 1, Entry::Worker("a.b".to_owned()));
    let long = format!("a.{}", "\u{2603}".repeat(64));
    check(written(|out| write_worker(&long, out)), 4, Entry::Worker(long.clone()));
    check(written(|out| found(0).write(out)), 6, Entry::Found(Box::new(found(0))));
    let wide = written(|out| found(Found::MAX_OUTPUTS).write(out));
    check(wide.clone(), wide.len() / SLOT, Entry::Found(Box::new(found(Found::MAX_OUTPUTS))));
    assert_eq!(written(|out| found(Found::MAX_OUTPUTS + 1).write(out)), wide);
}

#[test]
fn the_bytes_of_a_share() {
    // Another version must read what this one has written.
    let expect = concat!(
        "0338000037359172",
        "006c50c4a0010000",
        "07070707070707070707070707070707",
        "00000000000000000000000400000000",
        "a0bb0d00",
        "043a0217",
        "efcdab8967452301",
    );
    assert_eq!(hex::encode(written(|out| share().write(out))), expect);
}

#[test]
fn what_makes_no_sense_is_refused_whole() {
    let check = |bytes: Vec<u8>, expect: &str| match read(&bytes) {
        Reading::Refused { reason, size } => assert_eq!((reason, size), (expect, bytes.len())),
        other => panic!("{expect}: {other:?}"),
    };
    check(written(|out| ShareRecord { work: 0, ..share() }.write(out)), "share with impossible work or time");
    check(
        written(|out| ShareRecord { work: MAX_WORK + 1, ..share() }.write(out)),
        "share with impossible work or time",
    );
    check(
        written(|out| ShareRecord { time_ms: u64::MAX, ..share() }.write(out)),
        "share with impossible work or time",
    );
    check(written(|out| frame(out, SHARE, |out| out.push(1))), "share of another length");
    check(written(|out| write_worker("no dot", out)), "worker that is not address.name");
    check(written(|out| write_worker("a.\u{0}", out)), "worker that is not address.name");
    check(
        written(|out| frame(out, WORKER, |out| out.extend([b'.', 0xff]))),
        "worker that is not address.name",
    );
    check(
        written(|out| Found { value_sats: u64::MAX, ..found(1) }.write(out)),
        "found block with impossible value or time",
    );
    check(written(|out| frame(out, FOUND, |out| out.extend(b"{}"))), "found block that does not parse");
    check(
        written(|out| frame(out, 31, |out| out.extend([0; 100]))),
        "record of a kind that this version does not know",
    );
}

#[test]
fn a_cut_record_says_how_long_it_is() {
    let bytes = written(|out| found(3).write(out));
    for cut in [8, 63, 64, bytes.len() - 1] {
        assert_eq!(read(&bytes[..cut]), Reading::Short { size: bytes.len() }, "{cut}");
    }
    assert_eq!(read(&bytes[..7]), Reading::Short { size: SLOT });
    assert_eq!(read(&[]), Reading::Short { size: SLOT });
    assert_eq!(read(&[0; 64]), Reading::Damaged);
}

proptest! {
    #[test]
    fn any_share_comes_back(time_ms in 0..=i64::MAX as u64, worker: [u8; 16], work in 1..=MAX_WORK, height: u32, bits: u32, hash_tag: u64) {
        let share = ShareRecord { time_ms, worker: WorkerId(worker), work, height, bits, hash_tag };
        let bytes = written(|out| share.write(out));
        prop_assert_eq!(read(&bytes), Reading::Entry { entry: Entry::Share(share), size: SLOT });
    }

    #[test]
    fn one_flipped_bit_is_noticed(bit in 0..SLOT * 8) {
        let mut bytes = written(|out| share().write(out));
        bytes[bit / 8] ^= 1 << (bit % 8);
        let noticed = matches!(read(&bytes), Reading::Damaged | Reading::Short { .. });
        prop_assert!(noticed);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
    }

    #[test]
    fn no_slot_inside_a_record_looks_like_one(name in "\\PC{0,64}", outputs in 0usize..40) {
        for bytes in [written(|out| write_worker(&format!("a.{name}"), out)), written(|out| found(outputs).write(out))] {
            for slot in bytes.chunks(SLOT).skip(1) {
                prop_assert_eq!(read(slot), Reading::Damaged);
            }
        }
    }
}
