//! Processes that end, disks that fail, files that are not what they were.

use super::*;

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
