use super::*;

use Standing::{OffChain, OnChain, Unknown};
use State::{Candidate, Immature, Mature, Orphaned};

fn block(state: State, solo: bool, matured: bool) -> Block {
    Block {
        id: 1,
        hash: [0; 32],
        height: 1_000,
        found_ms: 0,
        solo,
        reward_msat: 100,
        subsidy_msat: 90,
        fee_msat: 1,
        state,
        credits: 1,
        matured,
        confirmations: None,
    }
}

#[test]
fn steps() {
    let check = |state, solo, matured, standing, height, waited, expect| {
        let step = block(state, solo, matured).step(standing, height, waited);
        assert_eq!(
            step, expect,
            "{state:?} solo {solo} matured {matured} {standing:?} at {height}, waited {waited}"
        );
    };
    for solo in [false, true] {
        for state in [Candidate, Immature, Mature, Orphaned] {
            check(state, solo, false, OnChain(0), 9_999, true, None);
        }
        check(Candidate, solo, false, OnChain(1), 1_001, false, Some(Step::Credit));
        check(Candidate, solo, false, OnChain(500), 1_500, true, Some(Step::Credit));
        check(Candidate, solo, false, Unknown, 1_007, false, None);
        check(Candidate, solo, false, Unknown, 1_006, true, None);
        check(Candidate, solo, false, Unknown, 1_007, true, Some(Step::GiveUp));
        check(Candidate, solo, false, OffChain, 1_001, false, Some(Step::GiveUp));
        check(Candidate, solo, false, OffChain, 1_000, true, None);
        check(Candidate, solo, false, OffChain, 900, true, None);

        check(Immature, solo, false, OnChain(1), 1_001, true, None);
        check(Immature, solo, false, OnChain(99), 1_099, true, None);
        check(Immature, solo, false, OnChain(100), 1_100, true, Some(Step::Mature));
        check(Immature, solo, false, OnChain(101), 1_101, true, Some(Step::Mature));
        check(Immature, solo, false, Unknown, 9_999, true, None);
        check(Immature, solo, false, OffChain, 1_001, false, Some(Step::Reverse));

        check(Mature, solo, true, OnChain(100), 1_100, true, None);
        check(Mature, solo, true, OnChain(143), 1_143, true, None);
        check(Mature, solo, true, OnChain(144), 1_144, true, Some(Step::Forget));
        check(Mature, solo, true, Unknown, 9_999, true, None);

        check(Orphaned, solo, false, OnChain(1), 1_001, true, Some(Step::Credit));
        check(Orphaned, solo, false, OffChain, 1_144, true, None);
        check(Orphaned, solo, false, OffChain, 1_145, true, Some(Step::Forget));
        check(Orphaned, solo, false, Unknown, 1_145, true, Some(Step::Forget));
    }
    check(Mature, false, true, OffChain, 1_110, true, Some(Step::Cover));
    check(Mature, true, true, OffChain, 1_110, true, Some(Step::Reverse));
    check(Orphaned, false, true, OnChain(1), 1_110, true, Some(Step::Restore));
    check(Orphaned, false, true, OnChain(120), 1_110, true, Some(Step::Restore));
}
