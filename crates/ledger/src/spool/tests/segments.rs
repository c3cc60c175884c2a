//! How a segment grows, is closed, and is kept.

use super::*;

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
