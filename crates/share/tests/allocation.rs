//! Judging a share allocates nothing.

use share::{Coinbase, Extranonce, Job, Rules, Submission, Target, check, check::VERSION_MASK};

#[test]
fn check_allocates_nothing() {
    let job = Job {
        version: 0x2000_0000,
        prev_hash: [7; 32],
        coinbase: Coinbase::new(vec![1; 75], vec![2; 300], 12),
        branch: vec![[9; 32]; 12].into(),
        min_time: 0,
        time: 1_700_000_000,
        bits: 0x1702_4b5b,
        network_target: Target::ONE,
        height: 900_000,
    };
    let rules = Rules { target: Target::MAX, version_mask: VERSION_MASK, now: 1_700_000_000, stale: false };
    let counted = allocation_counter::measure(|| {
        for nonce in 0..100 {
            let extranonce = Extranonce::new(&[&[5; 4], &[6; 8]]).expect("12 bytes");
            let submission = Submission { extranonce, time: 1_700_000_001, nonce, version: 0x2000_0000 };
            assert_eq!(check(&job, &submission, &rules).share, Ok(()));
        }
    });
    assert_eq!(counted.count_total, 0);
    // The counter counts: what is built once per job does allocate.
    assert!(allocation_counter::measure(|| drop(Coinbase::new(vec![1; 75], Vec::new(), 12))).count_total > 0);
}
