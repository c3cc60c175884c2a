//! The two hot ways through V1: a share in, a job out. Both should allocate nothing.

use divan::{AllocProfiler, Bencher, black_box, counter::BytesCount};
use share::{Coinbase, Job, Target};
use stratum::v1::{Notify, decode};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const SUBMIT: &[u8] = br#"{"params":["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig17","0000002a","c708000000000000","64b3f3ec","ed460d91","00002000"],"id":4,"method":"mining.submit"}"#;

#[divan::bench]
fn submit(bencher: Bencher) {
    bencher.counter(BytesCount::of_slice(SUBMIT)).bench(|| {
        let request = decode(black_box(SUBMIT));
        assert!(matches!(request, Ok(Some(_))));
    });
}

#[divan::bench]
fn notify(bencher: Bencher) {
    let job = Job {
        version: 0x2000_0000,
        prev_hash: [7; 32],
        coinbase: Coinbase::new(vec![1; 60], vec![2; 180], 12),
        branch: vec![[3; 32]; 12].into(),
        min_time: 0,
        time: 1,
        bits: 0x1d00_ffff,
        network_target: Target::ONE,
        height: 1,
    };
    let notify = Notify::new(&job);
    let mut out = Vec::with_capacity(1 << 16);
    bencher.bench_local(|| {
        out.clear();
        notify.write(&mut out, black_box(42), black_box(1), false);
        black_box(out.len())
    });
}

fn main() {
    divan::main();
}
