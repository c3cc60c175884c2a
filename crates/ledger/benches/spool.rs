//! The cost of an acknowledged share to the shard that takes it: one record pushed, one commit.
//!
//! `cargo bench -p ledger --bench spool`: read `mapped` and `written` as a ratio. `pushed` is what both share.

use divan::{Bencher, counter::ItemsCount};
use ledger::{ShareRecord, Spool, SpoolConfig, SpoolWriter, Worker};

fn main() {
    divan::main();
}

fn writer(mapped: bool) -> (tempfile::TempDir, Spool, SpoolWriter, Worker) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = SpoolConfig { mapped, max_bytes: 64 << 30, ..SpoolConfig::default() };
    let spool = Spool::open(dir.path(), config).expect("a spool");
    let mut writer = spool.writer(0).expect("a writer");
    let worker = Worker::parse("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx.a", bitcoin::Network::Signet);
    let worker = worker.expect("a good address");
    writer.worker(&worker);
    (dir, spool, writer, worker)
}

fn share(worker: &Worker) -> ShareRecord {
    ShareRecord { time_ms: 1, worker: worker.id(), work: 1, height: 1, bits: 0x207f_ffff, hash_tag: 7 }
}

fn commit(bencher: Bencher, mapped: bool) {
    let (_dir, _spool, mut writer, worker) = writer(mapped);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        writer.share(&share(&worker));
        writer.commit().expect("room");
    });
}

#[divan::bench(sample_size = 1000)]
fn mapped(bencher: Bencher) {
    commit(bencher, true);
}

#[divan::bench(sample_size = 1000)]
fn written(bencher: Bencher) {
    commit(bencher, false);
}

/// A hundred shares to a commit: what is left is the record itself.
#[divan::bench(sample_size = 100)]
fn pushed(bencher: Bencher) {
    let (_dir, _spool, mut writer, worker) = writer(true);
    bencher.counter(ItemsCount::new(100u32)).bench_local(|| {
        for _ in 0..100 {
            writer.share(&share(&worker));
        }
        writer.commit().expect("room");
    });
}
