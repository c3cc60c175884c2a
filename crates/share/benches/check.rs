//! The cost of judging a share, beside the SHA-256 compressions that it cannot do without.
//!
//! `cargo bench -p share`: read the two as a ratio.

use divan::{Bencher, black_box};
use sha2::{Digest, Sha256};
use share::{Coinbase, Extranonce, Job, Rules, Submission, Target, check, check::VERSION_MASK};

fn main() {
    divan::main();
}

/// Twelve siblings: a block of 2,049 to 4,096 transactions.
fn job(outputs: usize) -> Job {
    let suffix = [&[0xff; 4][..], &vec![0x33; 9 + 31 * outputs + 46 + 4]].concat();
    Job {
        version: 0x2000_0000,
        prev_hash: [7; 32],
        coinbase: Coinbase::new(vec![1; 75], suffix, 12),
        branch: vec![[9; 32]; 12].into(),
        min_time: 0,
        time: 1_700_000_000,
        bits: 0x1702_4b5b,
        network_target: Target::from_compact(0x1702_4b5b).expect("a target"),
        height: 900_000,
    }
}

#[divan::bench]
fn check_a_share(bencher: Bencher) {
    let job = job(2);
    let extranonce = Extranonce::new(&[&[5; 12]]).expect("12 bytes");
    let submission = Submission { extranonce, time: 1_700_000_001, nonce: 7, version: 0x2000_0000 };
    let rules = Rules { target: Target::MAX, version_mask: VERSION_MASK, now: 1_700_000_000, stale: false };
    bencher.bench(|| check(black_box(&job), black_box(&submission), &rules));
}

/// The same number of compressions over one buffer, with nothing in between.
#[divan::bench]
fn bare_compressions(bencher: Bencher) {
    let job = job(2);
    // The midstate holds one block of the prefix; then come the rest and the padding, and the second hash of it.
    let coinbase = (75 + 12 + job.coinbase.suffix().len() + 9).div_ceil(64) - 1 + 1;
    let branch = 12 * 3;
    let header = 2 + 1;
    let blocks = coinbase + branch + header;
    let buffer = vec![3u8; blocks * 64 - 9];
    bencher.bench(|| Sha256::digest(black_box(&buffer)));
}
