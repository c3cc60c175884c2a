mod damage;
mod segments;

use std::{collections::HashMap, time::SystemTime};

use bitcoin::Network;
use proptest::prelude::*;

use super::{writer::AHEAD, *};
use crate::{Found, RejectRecord, ShareRecord, Worker, WorkerId, record::Entry};

const ADDRESS: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";

fn worker(name: &str) -> Worker {
    Worker::parse(&format!("{ADDRESS}.{name}"), Network::Signet).unwrap()
}

fn share(worker: &Worker, number: u64) -> ShareRecord {
    ShareRecord {
        time_ms: 1_000 + number,
        worker: worker.id(),
        work: 1,
        height: 1,
        bits: 0x207f_ffff,
        hash_tag: number,
    }
}

fn found(worker: &Worker) -> Found {
    Found {
        time_ms: 5_000,
        worker: worker.id(),
        hash: [1; 32],
        prev_hash: [2; 32],
        height: 1,
        bits: 0x207f_ffff,
        coinbase_txid: [3; 32],
        value_sats: 50,
        outputs: vec![(vec![0x51], 50)],
        origin: None,
    }
}

fn open(dir: &Path) -> Spool {
    Spool::open(dir, SpoolConfig::default()).unwrap()
}

/// Short names for what was read: `w:name`, the tag of a share, `r3`, `found`, `torn 10`, `unreadable 64`, ….
fn names(reads: &[Read]) -> Vec<String> {
    let name = |read: &Read| match &read.item {
        Item::Entry(Entry::Segment(_)) => "segment".to_owned(),
        Item::Entry(Entry::Worker(identity)) => format!("w{}", identity.trim_start_matches(ADDRESS)),
        Item::Entry(Entry::Share(share)) => share.hash_tag.to_string(),
        Item::Entry(Entry::Rejects(rejects)) => format!("r{}", rejects.count),
        Item::Entry(Entry::Found(_)) => "found".to_owned(),
        Item::Refused { .. } => "refused".to_owned(),
        Item::Unreadable { may_be_found: false } => format!("unreadable {}", read.length),
        Item::Unreadable { may_be_found: true } => format!("unreadable {}, maybe found", read.length),
        Item::Torn => format!("torn {}", read.length),
    };
    reads.iter().map(name).collect()
}

fn all(spool: &Spool) -> Vec<String> {
    names(&Reader::new(spool, HashMap::new()).read(usize::MAX).unwrap())
}

/// As if a transaction had all that was read.
fn released(reader: &mut Reader) {
    reader.finished().unwrap();
    reader.release();
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

#[test]
fn what_is_committed_is_read_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let mut writer = spool.writer(0).unwrap();
    let (a, b) = (worker("a"), worker("b"));
    writer.worker(&a);
    writer.worker(&b);
    writer.worker(&a);
    writer.share(&share(&a, 1));
    let mut reader = Reader::new(&spool, HashMap::new());
    assert!(reader.read(10).unwrap().is_empty(), "not committed yet");
    writer.commit().unwrap();
    writer.share(&share(&b, 2));
    writer.share(&share(&a, 3));
    writer.rejects(&RejectRecord { time_ms: 1, worker: a.id(), count: 7 });
    writer.found(&found(&a));
    writer.commit().unwrap();
    writer.commit().unwrap();
    assert_eq!(names(&reader.read(3).unwrap()), ["w.a", "1", "w.b"]);
    assert_eq!(names(&reader.read(9).unwrap()), ["2", "3", "r7", "w.a", "found"]);
    assert!(reader.read(9).unwrap().is_empty());
    writer.share(&share(&b, 4));
    writer.commit().unwrap();
    assert_eq!(names(&reader.read(9).unwrap()), ["4"]);
}

#[test]
fn a_restart_reads_on_from_the_position_that_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let a = worker("a");
    let mut at = HashMap::new();
    for round in 0..3 {
        let spool = open(dir.path());
        let mut writer = spool.writer(4).unwrap();
        writer.worker(&a);
        (0..3).for_each(|number| writer.share(&share(&a, round * 3 + number)));
        writer.commit().unwrap();
        let mut reader = Reader::new(&spool, at.clone());
        let mut read = reader.read(3).unwrap();
        if round == 2 {
            read.extend(reader.read(usize::MAX).unwrap());
            assert_eq!(names(&read), ["w.a", "3", "4", "5", "w.a", "6", "7", "8"]);
        } else {
            assert_eq!(names(&read), [["w.a", "0", "1"], ["2", "w.a", "3"]][round as usize]);
        }
        // Round 1 crashes before its last record is in the database.
        let last = &read[if round == 1 { 0 } else { read.len() - 1 }];
        let position = Position { segment: last.from.segment, offset: last.from.offset + last.length };
        at.insert(4, position);
    }
}

#[test]
fn writers_are_merged_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let (mut one, mut two) = (spool.writer(1).unwrap(), spool.writer(2).unwrap());
    let a = worker("a");
    (0..10).for_each(|number| [&mut one, &mut two][usize::from(number % 3 == 0)].share(&share(&a, number)));
    two.commit().unwrap();
    one.commit().unwrap();
    assert_eq!(all(&spool), (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_full_spool_refuses_shares_but_not_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let a = worker("a");
    let config = SpoolConfig { max_bytes: 1_024, segment_bytes: 256, ..SpoolConfig::default() };
    let spool = Spool::open(dir.path(), config).unwrap();
    let mut writer = spool.writer(0).unwrap();
    writer.worker(&a);
    let mut taken = 0;
    let error = loop {
        writer.share(&share(&a, taken));
        match writer.commit() {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SpoolError::Full { limit: 1_024, .. }), "{error}");
    assert!(taken > 3);
    assert!(spool.bytes() <= 1_024 + 128);
    writer.found(&found(&a));
    writer.commit().unwrap();
    let mut reader = Reader::new(&spool, HashMap::new());
    let read = names(&reader.read(usize::MAX).unwrap());
    assert_eq!(read.iter().filter(|name| name.parse::<u64>().is_ok()).count() as u64, taken, "{read:?}");
    assert_eq!(read.last().map(String::as_str), Some("found"));
    released(&mut reader);
    writer.share(&share(&a, taken));
    writer.commit().unwrap();
    assert_eq!(names(&reader.read(usize::MAX).unwrap()), ["w.a", &taken.to_string()]);
}

#[test]
fn a_worker_that_a_failed_commit_has_named_is_named_again() {
    let dir = tempfile::tempdir().unwrap();
    let (home, away) = (dir.path().join("home"), dir.path().join("away"));
    let [a, b] = ["a", "b"].map(worker);
    let spool = open(&home);
    let mut writer = spool.writer(0).unwrap();
    fs::rename(&home, &away).unwrap();
    let of_a = writer.share_of(&a, &share(&a, 1), Named::default());
    assert!(writer.commit().is_err());
    fs::rename(&away, &home).unwrap();
    let of_a = writer.share_of(&a, &share(&a, 2), of_a);
    let of_b = writer.share_of(&b, &share(&b, 3), Named::default());
    writer.commit().unwrap();
    writer.share_of(&a, &share(&a, 4), of_a);
    writer.share_of(&b, &share(&b, 5), of_b);
    writer.commit().unwrap();
    assert_eq!(all(&spool), ["w.a", "2", "w.b", "3", "4", "5"]);
}

#[test]
fn a_found_block_is_written_again_from_its_record() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = worker("a");
    let mut writer = open(dir.path()).writer(0).unwrap();
    writer.worker(&a);
    let record = writer.found(&found(&a));
    let spool = open(other.path());
    let mut writer = spool.writer(u16::MAX).unwrap();
    assert!(writer.found_again(record.clone()));
    let mut share_record = Vec::new();
    share(&a, 1).write(&mut share_record);
    for nonsense in [&[][..], &record[..record.len() - 1], &record[..64], &share_record, &[7; 64]] {
        assert!(!writer.found_again(nonsense.to_vec()), "{nonsense:?}");
    }
    writer.commit().unwrap();
    drop(writer);
    assert_eq!(all(&spool), ["w.a", "found"]);
}

#[test]
fn more_workers_than_are_remembered_are_all_named() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), SpoolConfig { workers: 2, ..SpoolConfig::default() }).unwrap();
    let mut writer = spool.writer(0).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(worker);
    writer.worker(&a);
    writer.worker(&b);
    writer.share(&share(&a, 1));
    writer.worker(&c);
    writer.share(&share(&b, 2));
    writer.share(&share(&c, 3));
    writer.commit().unwrap();
    assert_eq!(all(&spool), ["w.a", "1", "w.b", "2", "w.c", "3"]);
}

#[test]
fn one_process_and_one_writer_per_shard() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    assert!(matches!(Spool::open(dir.path(), SpoolConfig::default()), Err(SpoolError::Locked(_))));
    let writer = spool.writer(7).unwrap();
    assert!(matches!(spool.writer(7), Err(SpoolError::Taken(7))));
    drop(writer);
    let writer = spool.writer(7).unwrap();
    drop(spool);
    assert!(matches!(Spool::open(dir.path(), SpoolConfig::default()), Err(SpoolError::Locked(_))));
    drop(writer);
    open(dir.path());
}

#[test]
fn a_spool_without_its_identity_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let a = worker("a");
    let mut writer = open(dir.path()).writer(0).unwrap();
    writer.share(&share(&a, 1));
    writer.commit().unwrap();
    drop(writer);
    let path = dir.path().join("identity");
    let good = fs::read_to_string(&path).unwrap();
    let check = |text: Option<&str>, expect: &str| {
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        match Spool::open(dir.path(), SpoolConfig::default()) {
            Err(error @ SpoolError::Identity { .. }) => {
                assert!(error.to_string().contains(expect), "{error}")
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("opened with {text:?}"),
        }
    };
    check(Some("nonsense"), "not the identity of a spool");
    check(Some(&good.replace(" 1", " 0")), "older than the segments");
    check(None, "though there are segments");
    fs::write(&path, good).unwrap();
    assert_eq!(all(&open(dir.path())), ["1"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Commits, full spools, forgotten names, restarts, torn ends and readers that stop anywhere: each committed share is
    /// read exactly once, and behind its worker's name in the same segment.
    #[test]
    fn every_committed_share_once(
        steps in proptest::collection::vec((0u8..8, 1usize..40), 1..60),
        (mapped, forgets, fills) in any::<(bool, bool, bool)>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = SpoolConfig { segment_bytes: 1_024, mapped, ..SpoolConfig::default() };
        if forgets {
            config.workers = 2;
        }
        if fills {
            // Most commits are refused when some tens of shares wait, in the middle of a segment as at its begin.
            config.max_bytes = 2_500;
        }
        let workers = ["a", "b", "c"].map(worker);
        let (mut number, mut committed, mut seen) = (0, Vec::new(), Vec::new());
        let mut at: HashMap<u16, Position> = HashMap::new();
        let mut spool = Spool::open(dir.path(), config.clone()).unwrap();
        let mut writers = [0, 1].map(|shard| spool.writer(shard).unwrap());
        let mut reader = Reader::new(&spool, at.clone());
        let mut marks = [[Named::default(); 3]; 2];
        let mut named = HashSet::new();
        let mut note = |reads: Vec<Read>, at: &mut HashMap<u16, Position>| for read in reads {
            at.insert(read.writer, Position { segment: read.from.segment, offset: read.from.offset + read.length });
            let place = (read.writer, read.from.segment);
            match read.item {
                Item::Entry(Entry::Share(share)) => {
                    assert!(named.contains(&(place, share.worker)), "share {} has no name", share.hash_tag);
                    seen.push(share.hash_tag);
                }
                Item::Entry(Entry::Worker(identity)) => {
                    named.insert((place, Worker::parse(&identity, Network::Signet).unwrap().id()));
                }
                Item::Entry(_) | Item::Torn => {}
                other => panic!("{other:?}"),
            }
        };
        for (step, count) in steps {
            match step {
                0..4 => {
                    let writer = &mut writers[count % 2];
                    let first = number;
                    for _ in 0..count {
                        let worker = &workers[number as usize % 3];
                        if step % 2 == 0 {
                            let mark = &mut marks[count % 2][number as usize % 3];
                            *mark = writer.share_of(worker, &share(worker, number), *mark);
                        } else {
                            writer.worker(worker);
                            writer.share(&share(worker, number));
                        }
                        number += 1;
                    }
                    match writer.commit() {
                        Ok(()) => committed.extend(first..number),
                        Err(SpoolError::Full { .. }) if fills => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                4 | 5 => {
                    note(reader.read(count).unwrap(), &mut at);
                    released(&mut reader);
                }
                _ => {
                    // Killed: what was pushed is gone, what was read is known to the database, the rest is read again.
                    writers[0].share(&share(&workers[0], 1 << 40));
                    drop((writers, reader, spool));
                    if let Some(path) = files(dir.path(), "segment").pop() {
                        let mut bytes = fs::read(&path).unwrap();
                        bytes.extend(std::iter::repeat_n(0xa5, count * 5));
                        fs::write(path, bytes).unwrap();
                    }
                    spool = Spool::open(dir.path(), config.clone()).unwrap();
                    writers = [0, 1].map(|shard| spool.writer(shard).unwrap());
                    marks = Default::default();
                    reader = Reader::new(&spool, at.clone());
                }
            }
        }
        note(reader.read(usize::MAX).unwrap(), &mut at);
        seen.sort_unstable();
        prop_assert_eq!(seen, committed);
        drop(writers);
        reader.read(usize::MAX).unwrap();
        released(&mut reader);
        prop_assert_eq!(spool.bytes(), 0);
        prop_assert!(files(dir.path(), "segment").is_empty());
    }
}

#[test]
fn unknown_workers_do_not_stop_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let mut writer = spool.writer(0).unwrap();
    let nobody = WorkerId([0; 16]);
    writer.share(&ShareRecord { worker: nobody, ..share(&worker("a"), 1) });
    writer.rejects(&RejectRecord { time_ms: 2_000, worker: nobody, count: 1 });
    writer.found(&Found { worker: nobody, ..found(&worker("a")) });
    writer.commit().unwrap();
    assert_eq!(all(&spool), ["1", "r1", "found"]);
}
