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
fn full_segments_are_closed_and_each_names_its_workers() {
    let dir = tempfile::tempdir().unwrap();
    let spool =
        Spool::open(dir.path(), SpoolConfig { segment_bytes: 512, ..SpoolConfig::default() }).unwrap();
    let mut writer = spool.writer(0).unwrap();
    let a = worker("a");
    writer.worker(&a);
    for number in 0..12 {
        writer.share(&share(&a, number));
        writer.commit().unwrap();
    }
    let segments = files(dir.path(), "segment");
    assert_eq!(segments.len(), 2);
    assert_eq!(spool.bytes(), segments.iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>());
    let mut reader = Reader::new(&spool, HashMap::new());
    let expect = ["w.a", "0", "1", "2", "3", "4", "5", "w.a", "6", "7", "8", "9", "10", "11"];
    assert_eq!(names(&reader.read(usize::MAX).unwrap()), expect);
    released(&mut reader);
    assert_eq!(files(dir.path(), "segment"), [] as [PathBuf; 0], "all were full and read");
    assert_eq!(spool.bytes(), 0);
    writer.share(&share(&a, 12));
    writer.commit().unwrap();
    reader.read(usize::MAX).unwrap();
    released(&mut reader);
    assert_eq!(files(dir.path(), "segment").len(), 1, "this one is still written to");
    drop(writer);
    reader.read(usize::MAX).unwrap();
    released(&mut reader);
    assert_eq!(files(dir.path(), "segment").len(), 0);
    // No name comes twice, though nothing is left to count from.
    drop((reader, spool));
    let spool = open(dir.path());
    let mut writer = spool.writer(0).unwrap();
    writer.share(&share(&a, 13));
    writer.commit().unwrap();
    assert_eq!(files(dir.path(), "segment"), [dir.path().join("00000-0000000200000001.segment")]);
}

#[test]
fn a_torn_end_costs_nobody_anything() {
    let dir = tempfile::tempdir().unwrap();
    let a = worker("a");
    let mut spool = open(dir.path());
    let mut expect = Vec::new();
    for (number, torn) in [1, 63, 64, 100, 8_000].into_iter().enumerate() {
        let mut writer = spool.writer(0).unwrap();
        writer.share(&share(&a, number as u64));
        writer.commit().unwrap();
        drop((writer, spool));
        let path = files(dir.path(), "segment").pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let mut record = Vec::new();
        Found { outputs: vec![(vec![0; 34], 1); 200], ..found(&a) }.write(&mut record);
        bytes.extend(&record[..torn]);
        fs::write(&path, bytes).unwrap();
        expect.extend([number.to_string(), format!("torn {torn}")]);
        spool = open(dir.path());
    }
    let mut reader = Reader::new(&spool, HashMap::new());
    assert_eq!(names(&reader.read(usize::MAX).unwrap()), expect);
    released(&mut reader);
    assert_eq!(files(dir.path(), "segment").len() + files(dir.path(), "faulty").len(), 0);
}

/// A file is longer than its records while it is written to; whoever is killed leaves it so.
#[test]
fn zeroes_behind_the_last_record_are_its_end() {
    for (count, tail) in [(0, 1), (1, 63), (1, 64), (60, 4_096), (62, 4_096), (63, 1 << 20), (500, 1 << 20)] {
        let dir = tempfile::tempdir().unwrap();
        let a = worker("a");
        let spool = open(dir.path());
        let mut writer = spool.writer(0).unwrap();
        (0..=count).for_each(|number| writer.share(&share(&a, number)));
        writer.commit().unwrap();
        drop((writer, spool));
        let path = files(dir.path(), "segment").pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len();
        for torn in [0, 1, 63, 64, 100] {
            let mut record = Vec::new();
            Found { outputs: vec![(vec![0; 34], 1); 20], ..found(&a) }.write(&mut record);
            bytes.truncate(end);
            bytes.extend(&record[..torn]);
            bytes.resize(end + torn + tail, 0);
            fs::write(&path, &bytes).unwrap();
            let slots = torn.next_multiple_of(SLOT).min(torn + tail);
            let spool = open(dir.path());
            assert_eq!(spool.bytes(), (end + slots) as u64);
            let torn = (torn > 0).then(|| format!("torn {slots}"));
            let expect: Vec<String> = (0..=count).map(|number| number.to_string()).chain(torn).collect();
            assert_eq!(all(&spool), expect, "{count} records, {tail} zeroes");
        }
    }
}

#[test]
fn a_file_is_lengthened_ahead_and_cut_when_it_is_closed() {
    for mapped in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), SpoolConfig { mapped, ..SpoolConfig::default() }).unwrap();
        let mut writer = spool.writer(0).unwrap();
        let length = || -> u64 {
            files(dir.path(), "segment").iter().map(|path| fs::metadata(path).unwrap().len()).sum()
        };
        writer.share(&share(&worker("a"), 0));
        writer.commit().unwrap();
        assert_eq!(length(), AHEAD);
        // Over the end of a window, and more than a window at once.
        let whole = AHEAD / SLOT as u64;
        for count in [whole, 1, 5 * whole / 2, 7] {
            (0..count).for_each(|number| writer.share(&share(&worker("a"), number)));
            writer.commit().unwrap();
            assert_eq!(length(), spool.bytes().next_multiple_of(AHEAD));
        }
        drop(writer);
        assert_eq!(length(), spool.bytes());
        let counted = 1 + whole + 1 + 5 * whole / 2 + 7;
        assert_eq!(all(&spool).len() as u64, counted);
    }
}

#[test]
fn damage_costs_only_the_slots_that_it_hit() {
    let dir = tempfile::tempdir().unwrap();
    let a = worker("a");
    let spool = open(dir.path());
    let mut writer = spool.writer(0).unwrap();
    writer.worker(&a);
    (0..9).for_each(|number| writer.share(&share(&a, number)));
    writer.commit().unwrap();
    drop((writer, spool));
    let path = files(dir.path(), "segment").pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let slots = (bytes.len() - 9 * 64) / 64; // before the first share
    bytes[(slots + 2) * 64 + 30] ^= 1;
    bytes[(slots + 5) * 64..(slots + 7) * 64].fill(0xaa);
    fs::write(&path, bytes).unwrap();
    let spool = open(dir.path());
    let mut reader = Reader::new(&spool, HashMap::new());
    let expect = ["w.a", "0", "1", "unreadable 64", "3", "4", "unreadable 128", "7", "8"];
    assert_eq!(names(&reader.read(usize::MAX).unwrap()), expect);
    released(&mut reader);
    assert_eq!(files(dir.path(), "segment").len(), 0);
    assert_eq!(files(dir.path(), "faulty").len(), 1, "kept for somebody to look at");
    assert_eq!(spool.bytes(), 0);
}

#[test]
fn only_a_process_that_is_gone_leaves_a_torn_end() {
    // What this process has committed was whole: if its end is no record any more, that is damage.
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let mut writer = spool.writer(0).unwrap();
    (0..3).for_each(|number| writer.share(&share(&worker("a"), number)));
    writer.commit().unwrap();
    drop(writer);
    let path = files(dir.path(), "segment").pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[3 * 64 + 9] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(all(&spool), ["0", "1", "unreadable 64"]);
}

#[test]
fn a_segment_of_another_spool_is_not_counted() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = worker("a");
    for dir in [&dir, &other] {
        let mut writer = open(dir.path()).writer(0).unwrap();
        writer.share(&share(&a, 1));
        writer.commit().unwrap();
    }
    let name = files(other.path(), "segment").pop().unwrap();
    fs::copy(&name, dir.path().join("00001-0000000100000009.segment")).unwrap();
    assert_eq!(all(&open(dir.path())), ["unreadable 128", "1"]);
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
fn a_found_block_outlives_a_disk_that_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let (home, away) = (dir.path().join("home"), dir.path().join("away"));
    let a = worker("a");
    let spool = open(&home);
    let mut writer = spool.writer(0).unwrap();
    writer.worker(&a);
    fs::rename(&home, &away).unwrap();
    writer.share(&share(&a, 1));
    writer.found(&found(&a));
    assert!(matches!(writer.commit(), Err(SpoolError::Io { action: "create", .. })));
    assert!(writer.commit().is_err(), "still there, so still refused");
    fs::rename(&away, &home).unwrap();
    writer.share(&share(&a, 2));
    writer.commit().unwrap();
    assert_eq!(all(&spool), ["w.a", "found", "w.a", "2"]);
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

/// A disk that fails when it is told to keep what was written: from then on no share counts, and blocks go on.
#[test]
fn a_disk_that_loses_data_stops_shares_but_not_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let a = worker("a");
    let mut spool =
        Spool::open(dir.path(), SpoolConfig { ack: Ack::Power, ..SpoolConfig::default() }).unwrap();
    let mut writer = spool.writer(0).unwrap();
    writer.worker(&a);
    writer.share(&share(&a, 1));
    writer.commit().unwrap();
    drop(writer);
    Arc::get_mut(&mut spool.0).unwrap().sync = |_| Err(io::Error::other("the disk is gone"));
    let mut writer = spool.writer(0).unwrap();
    writer.worker(&a);
    writer.share(&share(&a, 2));
    let error = writer.commit().unwrap_err();
    assert!(
        matches!(error, SpoolError::Lost { .. }) && error.to_string().contains("the disk is gone"),
        "{error}"
    );
    Arc::get_mut(&mut spool.0); // the writer holds it: what failed once is not tried again
    writer.share(&share(&a, 3));
    assert!(matches!(writer.commit(), Err(SpoolError::Lost { .. })));
    writer.share(&share(&a, 4));
    writer.found(&found(&a));
    assert!(matches!(writer.commit(), Err(SpoolError::Lost { .. })), "the winning share is not acknowledged");
    let mut other = spool.writer(1).unwrap();
    other.share(&share(&a, 5));
    assert!(matches!(other.commit(), Err(SpoolError::Lost { .. })), "one disk, all writers");
    assert_eq!(all(&spool), ["w.a", "1", "w.a", "found"]);
    drop((writer, other, spool));
    // At the next start it is tried anew.
    let spool = open(dir.path());
    let mut writer = spool.writer(0).unwrap();
    writer.share(&share(&a, 6));
    writer.commit().unwrap();
    assert_eq!(all(&spool).last().map(String::as_str), Some("6"));
}

#[test]
fn a_segment_is_closed_when_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let check = |age: Duration, by_clock: bool, expect: usize| {
        let config = SpoolConfig { segment_age: age, ..SpoolConfig::default() };
        let spool = Spool::open(dir.path(), config).unwrap();
        let mut writer = spool.writer(0).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
        for later in [0, if by_clock { 0 } else { age.as_millis() as u64 }] {
            writer.share(&ShareRecord { time_ms: now + later, ..share(&worker("a"), 1) });
            writer.commit().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
        writer.commit().unwrap();
        let mut reader = Reader::new(&spool, HashMap::new());
        reader.read(9).unwrap();
        assert_eq!(reader.finished().unwrap().len(), expect, "{age:?}");
        assert_eq!(reader.finished().unwrap().len(), 0, "each once");
        reader.release();
    };
    check(Duration::from_millis(1), true, 1);
    check(Duration::from_secs(600), false, 1);
    check(Duration::from_secs(600), true, 0);
}

/// What the archive has is what the segment had; a database that lacks it reads it again, another does not.
#[test]
fn drained_segments_are_kept_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let a = worker("a");
    let spool = open(dir.path());
    let mut writer = spool.writer(0).unwrap();
    writer.worker(&a);
    (0..100).for_each(|number| writer.share(&share(&a, number)));
    writer.commit().unwrap();
    drop(writer);
    let path = files(dir.path(), "segment").pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut reader = Reader::new(&spool, HashMap::new());
    reader.read(usize::MAX).unwrap();
    reader.release();
    assert!(path.exists(), "not before the database has its seal");
    let finished = reader.finished().unwrap();
    reader.release();
    assert!(!path.exists());
    assert_eq!(spool.bytes(), 0);
    let [Finished { name, digested }] = &finished[..] else { panic!("{}", finished.len()) };
    assert_eq!((digested.shares, digested.bytes), (100, bytes.len() as u64));
    assert_eq!(archive::bytes(dir.path(), *name).unwrap(), Some(bytes.clone()));
    let size = fs::metadata(archive::file(dir.path(), *name)).unwrap().len();
    assert!(size < bytes.len() as u64, "{size} of {}", bytes.len());

    let at = |offset: u64| HashMap::from([(0, Position { segment: name.segment, offset })]);
    let behind = HashMap::from([(0, Position { segment: name.segment + 1, offset: 0 })]);
    assert_eq!(spool.restore(&behind).unwrap(), 0, "it has that");
    assert_eq!(spool.restore(&HashMap::new()).unwrap(), 0, "a new database");
    drop(reader);
    let half = bytes.len() as u64 - 10 * SLOT as u64;
    assert_eq!(spool.restore(&at(half)).unwrap(), 1);
    assert_eq!(spool.restore(&at(half)).unwrap(), 0, "once");
    assert_eq!(spool.bytes(), bytes.len() as u64);
    let mut reader = Reader::new(&spool, at(half));
    let expect: Vec<String> = (90..100).map(|number| number.to_string()).collect();
    assert_eq!(names(&reader.read(usize::MAX).unwrap()), expect);
    assert_eq!(reader.finished().unwrap()[0].digested, *digested);
    reader.release();
    assert_eq!(spool.bytes(), 0);

    // As long as it was said, and not at all if so.
    drop((reader, spool));
    std::thread::sleep(Duration::from_millis(5));
    let config = SpoolConfig { audit: Duration::from_millis(1), ..SpoolConfig::default() };
    Reader::new(&Spool::open(dir.path(), config).unwrap(), HashMap::new()).release();
    assert_eq!(archive::list(dir.path()).unwrap(), []);
    assert_eq!(archive::bytes(dir.path(), *name).unwrap(), None);
}

#[test]
fn a_segment_that_cannot_be_archived_stays() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let mut writer = spool.writer(0).unwrap();
    writer.share(&share(&worker("a"), 1));
    writer.commit().unwrap();
    drop(writer);
    fs::write(dir.path().join("audit"), "in the way").unwrap();
    let mut reader = Reader::new(&spool, HashMap::new());
    reader.read(9).unwrap();
    released(&mut reader);
    assert_eq!(files(dir.path(), "segment").len(), 1);
    assert_eq!(spool.bytes(), 128);
    fs::remove_file(dir.path().join("audit")).unwrap();
    // The next start tries again, though the database has it all.
    drop((reader, spool));
    let spool = open(dir.path());
    let behind = HashMap::from([(0, Position { segment: 1 << 33, offset: 0 })]);
    let mut reader = Reader::new(&spool, behind);
    reader.read(9).unwrap();
    released(&mut reader);
    assert_eq!(archive::list(dir.path()).unwrap().len(), 1);
    assert_eq!(files(dir.path(), "segment").len(), 0);
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

/// One flipped bit in the record of a block, wherever it is: what is left of it says that it may be one. That of a share is
/// none.
#[test]
fn a_damaged_block_may_be_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let a = worker("a");
    let spool = open(dir.path());
    let mut writer = spool.writer(0).unwrap();
    writer.share(&share(&a, 1));
    writer.found(&found(&a));
    writer.share(&share(&a, 2));
    writer.commit().unwrap();
    drop((writer, spool));
    let segment = files(dir.path(), "segment").remove(0);
    let whole = fs::read(&segment).unwrap();
    let mut record = Vec::new();
    found(&a).write(&mut record);
    let first = whole.windows(record.len()).position(|at| at == record).unwrap();
    for byte in (0..record.len()).filter(|byte| *byte < 16 || byte % 7 == 0) {
        let mut bytes = whole.clone();
        bytes[first + byte] ^= 1 << (byte % 8);
        if whole[first + byte] == 0 && byte > 8 {
            continue; // behind the text: nothing of the record
        }
        fs::write(&segment, bytes).unwrap();
        let read = all(&open(dir.path()));
        let maybe: Vec<_> = read.iter().filter(|name| name.ends_with("maybe found")).collect();
        assert!(maybe.len() == 1 || read.contains(&"refused".to_owned()), "byte {byte}: {read:?}");
        assert!(read.contains(&"1".to_owned()) && read.contains(&"2".to_owned()), "byte {byte}: {read:?}");
    }
    let mut bytes = whole.clone();
    bytes[first - 30] ^= 1;
    fs::write(&segment, bytes).unwrap();
    assert!(all(&open(dir.path())).contains(&"unreadable 64".to_owned()));
}

/// A segment that somebody has taken away before it was read to its end is not passed over in silence.
#[test]
fn a_segment_that_is_gone_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let a = worker("a");
    let write = |numbers: std::ops::Range<u64>| {
        let spool = open(dir.path());
        let mut writer = spool.writer(0).unwrap();
        numbers.for_each(|number| writer.share(&share(&a, number)));
        writer.commit().unwrap();
    };
    write(1..4);
    let at = {
        let mut reader = Reader::new(&open(dir.path()), HashMap::new());
        let read = reader.read(2).unwrap();
        HashMap::from([(0, read.last().unwrap().end())])
    };
    fs::remove_file(files(dir.path(), "segment").remove(0)).unwrap();
    write(7..9);
    let errors = Errors::default();
    let read = tracing::subscriber::with_default(errors.clone(), || {
        names(&Reader::new(&open(dir.path()), at).read(usize::MAX).unwrap())
    });
    assert_eq!(read, ["7", "8"]);
    let said = errors.0.lock().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("gone from the spool: the shares behind that are lost"), "{said:?}");
}

/// What is logged as an error.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Errors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut words = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            words += &format!("{field}={value:?} ");
        });
        self.0.lock().unwrap().push(words);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
