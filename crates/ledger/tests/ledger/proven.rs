//! What a miner can check by itself: the proofs of its shares, and the division of a block.

use std::fs;

use ledger::{
    Wanted, Worker,
    proof::{ShareProof, check_chain, is_of},
};

use crate::{
    audit::{drained, small},
    rig::{Rig, hash, worker},
};

fn wanted(worker: &Worker, tag: u64) -> Wanted {
    Wanted { worker: format!("{}.{}", worker.address(), worker.name()), tag, time_ms: Some(tag) }
}

/// As a miner does it: from files, with what the API gave.
pub async fn every_share_is_proven_offline(rig: Rig) {
    let (ledger, shares) = drained(&rig, small()).await;
    let seals = ledger.segments(500, 0).await.unwrap();
    assert!(seals.len() > 4, "{}", seals.len());
    assert_eq!(ledger.segment_count().await.unwrap(), seals.len() as u64);
    assert_eq!(seals.iter().map(|seal| seal.shares).sum::<u64>(), shares.len() as u64);
    check_chain(&seals).unwrap();
    let paged = [ledger.segments(2, 0).await.unwrap(), ledger.segments(500, 2).await.unwrap()].concat();
    assert_eq!(paged, seals);
    for seal in &seals {
        let file = ledger.segment_file(seal.sequence).await.unwrap().unwrap();
        seal.check_packed(&fs::read(file).unwrap()).unwrap();
        seal.check_packed(b"nonsense").unwrap_err();
    }
    for sequence in [0, seals.len() as u64 + 1, u64::MAX] {
        assert_eq!(ledger.segment_file(sequence).await.unwrap(), None);
    }
    for (worker, tag) in &shares {
        let proof = ledger
            .prove(&wanted(worker, *tag))
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("no proof of {tag} by {}", worker.address()));
        let proof: ShareProof = serde_json::from_str(&serde_json::to_string(&proof).unwrap()).unwrap();
        let share = proof.check().unwrap();
        assert_eq!((share.hash_tag, share.worker), (*tag, worker.id()));
        assert!(is_of(&share, &wanted(worker, 0).worker));
        proof.check_listed(&seals).unwrap();
    }
    // One that was never acknowledged, one of somebody else, and one of another time.
    let (a, tag) = shares[0].clone();
    let missing = [
        wanted(&a, 1),
        wanted(&worker(9, "rig"), tag),
        Wanted { time_ms: Some(tag + 86_400_000), ..wanted(&a, tag) },
    ];
    for wanted in missing {
        assert_eq!(ledger.prove(&wanted).await.unwrap(), None, "{wanted:?}");
    }
    assert!(ledger.prove(&Wanted { time_ms: None, ..wanted(&a, tag) }).await.unwrap().is_some());
}

pub async fn a_block_shows_its_weights(rig: Rig) {
    let (ledger, _) = drained(&rig, small()).await;
    let weights = ledger.block_weights(&hash(1)).await.unwrap().unwrap();
    weights.check().unwrap();
    assert_eq!((weights.scheme.as_str(), weights.factor, weights.last_slot), ("pplns", 50, 1));
    assert_eq!((weights.first_slot, weights.window_work.as_str()), (1, "100"), "50 blocks of work 2, cut");
    assert_eq!((weights.reward_msat, weights.fee_msat), (1_000_000, 10_000));
    assert_eq!(weights.weights.iter().map(|weight| weight.credit_msat).sum::<i64>(), 990_000);
    for weight in &weights.weights {
        let credits = ledger.credits(&weight.address, 1).await.unwrap();
        assert_eq!(
            (credits[0].amount_msat, credits[0].work.to_string()),
            (weight.credit_msat, weight.work.clone())
        );
    }
    assert_eq!(ledger.block_weights(&hash(2)).await.unwrap(), None);
}
