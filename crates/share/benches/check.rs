//! The cost of judging a share, beside the SHA-256 compressions that it cannot do without.
//!
//! `cargo bench -p share`: read the first two as a ratio; the third is what no check can reach.

use divan::{Bencher, black_box};
use sha2::block_api::compress256;
use share::{Coinbase, Extranonce, Job, Rules, Submission, Target, check, check::VERSION_MASK};

fn main() {
    // What is compared must be as much.
    let coinbase = 75 + 12 + job(2).coinbase.suffix().len() + 9;
    assert_eq!([coinbase.div_ceil(64) - 1, job(2).branch.len() + 2], [MESSAGES[0], MESSAGES.len()]);
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

#[divan::bench(sample_size = 100)]
fn check_a_share(bencher: Bencher) {
    let job = job(2);
    let extranonce = Extranonce::new(&[&[5; 12]]).expect("12 bytes");
    let submission = Submission { extranonce, time: 1_700_000_001, nonce: 7, version: 0x2000_0000 };
    let rules = Rules { target: Target::MAX, version_mask: VERSION_MASK, now: 1_700_000_000, stale: false };
    bencher.bench(|| check(black_box(&job), black_box(&submission), &rules));
}

/// The blocks that one check compresses: those of the coinbase behind the job's midstate, of the twelve pairs and of the
/// header, each of these 14 messages with the digest of its digest behind it.
const MESSAGES: [usize; 14] = [3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2];

/// The same compressions, each message beginning with the digest before it as it stands in memory: nothing is
/// serialised, laid out or judged.
#[divan::bench(sample_size = 100)]
fn bare_compressions(bencher: Bencher) {
    bencher.bench(|| {
        let mut blocks = black_box([[3; 64]; 3]);
        let mut state = [7; 8];
        for message in MESSAGES {
            for count in [message, 1] {
                blocks[0]
                    .as_chunks_mut()
                    .0
                    .iter_mut()
                    .zip(state)
                    .for_each(|(four, word)| *four = u32::to_ne_bytes(word));
                state = [7; 8];
                compress256(&mut state, &blocks[..count]);
            }
        }
        state
    });
}

/// As many blocks in one call: no digest is waited for before the next message begins.
#[divan::bench(sample_size = 100)]
fn as_many_in_one_call(bencher: Bencher) {
    let blocks = [[3; 64]; 3 + 13 * 2 + 14];
    bencher.bench(|| {
        let mut state = black_box([7; 8]);
        compress256(&mut state, black_box(&blocks));
        state
    });
}
