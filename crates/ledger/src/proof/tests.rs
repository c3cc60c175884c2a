use proptest::prelude::*;

use super::*;

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|number| leaf(&number.to_le_bytes())).collect()
}

/// The tree by its definition: split at the largest power of two below the count.
fn recursive(leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => Sha256::digest([]).into(),
        1 => leaves[0],
        count => {
            let (left, right) = leaves.split_at(count.next_power_of_two() / 2);
            node(&recursive(left), &recursive(right))
        }
    }
}

fn share(number: u64) -> ShareRecord {
    let worker = WorkerId::of("address.rig");
    ShareRecord { time_ms: 1_000 + number, worker, work: 5, height: 1, bits: 0x207f_ffff, hash_tag: number }
}

const NAME: Name = Name { spool: [7; 16], writer: 3, segment: 1 << 32 | 9 };

fn segment(shares: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (spool, writer, sequence) = (NAME.spool, NAME.writer, NAME.segment);
    record::Segment { spool, writer, sequence, created_ms: 1 }.write(&mut bytes);
    record::write_worker("address.rig", &mut bytes);
    (0..shares).for_each(|number| share(number).write(&mut bytes));
    bytes
}

fn proof(shares: u64, position: u64) -> ShareProof {
    let bytes = segment(shares);
    let records: Vec<&[u8]> = entries_of(&bytes, NAME)
        .filter(|(_, _, entry)| matches!(entry, Entry::Share(_)))
        .map(|(_, record, _)| record)
        .collect();
    let leaves = records.iter().map(|record| leaf(record)).collect();
    ShareProof {
        segment: Seal::new(4, NAME, &Digested::of(&bytes, NAME), [3; 32]),
        position,
        record: hex::encode(records[position as usize]),
        path: path(leaves, position as usize).iter().map(hex::encode).collect(),
    }
}

#[test]
fn every_count_has_its_root() {
    for count in 0..70 {
        assert_eq!(root(leaves(count)), recursive(&leaves(count)), "{count} leaves");
    }
    // Neither a leaf twice nor a node as a leaf makes the same tree.
    let three = leaves(3);
    assert_ne!(root(three.clone()), root(vec![three[0], three[1], three[2], three[2]]));
    assert_ne!(root(three.clone()), root(vec![node(&three[0], &three[1]), three[2], three[2]]));
}

#[test]
fn every_share_is_proven_and_no_other() {
    for shares in [1, 2, 3, 5, 8, 13] {
        for position in 0..shares {
            let proof = proof(shares, position);
            assert_eq!(proof.check(), Ok(share(position)), "{position} of {shares}");
            for other in 0..shares + 2 {
                let moved = ShareProof { position: other, ..proof.clone() };
                assert_eq!(moved.check().is_ok(), other == position, "{position} of {shares} as {other}");
            }
        }
    }
}

#[test]
fn forgeries() {
    let good = proof(7, 3);
    let check = |forge: &dyn Fn(&mut ShareProof), expect: &str| {
        let mut forged = good.clone();
        forge(&mut forged);
        let error = forged.check().expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    };
    let forged = |share: ShareRecord| {
        let mut record = Vec::new();
        share.write(&mut record);
        hex::encode(record)
    };
    check(&|proof| proof.record = forged(share(9)), "path does not lead to the root");
    check(&|proof| proof.record = forged(ShareRecord { work: 6, ..share(3) }), "does not lead");
    check(&|proof| proof.record.replace_range(20..22, "ff"), "not that of a share");
    check(&|proof| proof.record.clear(), "not that of a share");
    check(&|proof| proof.record = "zz".into(), "not that of a share");
    check(&|proof| proof.record += &proof.record.clone(), "not that of a share");
    check(&|proof| proof.path.swap(0, 1), "does not lead");
    check(&|proof| drop(proof.path.pop()), "does not lead");
    check(&|proof| proof.path.push("00".repeat(32)), "does not lead");
    check(&|proof| proof.path[0] = "00".into(), "not made of hashes");
    check(&|proof| proof.segment.shares = 8, "not what its link");
    check(&|proof| proof.segment.shares = 3, "does not lead");
    check(&|proof| proof.segment.shares = 0, "does not lead");
    check(&|proof| proof.segment.root = "00".repeat(32), "does not lead");
    check(&|proof| proof.segment.work = "36".into(), "not what its link");
    check(&|proof| proof.segment.last_ms += 1, "not what its link");
    check(&|proof| proof.segment.sequence = 5, "not what its link");
    check(&|proof| proof.segment.previous = "00".repeat(32), "not what its link");
    check(&|proof| proof.segment.name = "00004-0000000100000009".into(), "not what its link");
    check(&|proof| proof.segment.name = "4-9".into(), "the name of segment");
    check(&|proof| proof.segment.work = "many".into(), "the work of segment");
}

#[test]
fn chains() {
    let mut seals = Vec::new();
    let mut previous = [0; 32];
    for sequence in 1..=4 {
        let seal = Seal::new(sequence, NAME, &Digested::of(&segment(sequence), NAME), previous);
        previous = hash(&seal.chain).unwrap();
        seals.push(seal);
    }
    let check = |change: &dyn Fn(&mut Vec<Seal>), expect: Option<ProofError>| {
        let mut changed = seals.clone();
        change(&mut changed);
        assert_eq!(check_chain(&changed).err(), expect);
    };
    check(&|_| {}, None);
    check(&|seals| seals.clear(), None);
    check(&|seals| drop(seals.drain(..2)), None);
    check(&|seals| drop(seals.remove(1)), Some(ProofError::Broken(1, 3)));
    check(&|seals| seals.swap(2, 3), Some(ProofError::Broken(2, 4)));
    check(&|seals| seals[2].shares += 1, Some(ProofError::NotInChain(3)));
    let other = Seal::new(2, NAME, &Digested::of(&segment(9), NAME), hash(&seals[0].chain).unwrap());
    check(&|seals| seals[1] = other.clone(), Some(ProofError::Broken(2, 3)));
    let first = Seal::new(1, NAME, &Digested::of(&segment(1), NAME), [1; 32]);
    check(&|seals| *seals = vec![first.clone()], Some(ProofError::Broken(0, 1)));

    let proof = ShareProof { segment: seals[2].clone(), ..proof(3, 0) };
    assert_eq!(proof.check_listed(&seals), Ok(()));
    assert_eq!(proof.check_listed(&seals[..2]), Err(ProofError::NotListed(3)));
    let mut changed = seals.clone();
    changed[2].root = "00".repeat(32);
    assert_eq!(proof.check_listed(&changed), Err(ProofError::OtherSegment(3)));
    assert_eq!(seals[2].check_file(&segment(3)), Ok(()));
    assert_eq!(seals[2].check_file(&segment(2)), Err(ProofError::OtherSegment(3)));
}

#[test]
fn a_segment_of_another_name_has_no_shares() {
    let other = Name { writer: 4, ..NAME };
    assert_eq!(Digested::of(&segment(3), other).shares, 0);
    let digested = Digested::of(&segment(3), NAME);
    assert_eq!((digested.shares, digested.work, digested.first_ms, digested.last_ms), (3, 15, 1_000, 1_002));
    assert_eq!(Digested::of(&[], NAME).first_ms, 0);
}

#[test]
fn weights() {
    let weight = |miner: i64, work: &str, credit_msat: i64| MinerWeight {
        miner,
        address: format!("miner{miner}"),
        work: work.into(),
        subsidy_work: work.into(),
        credit_msat,
    };
    let good = Weights {
        hash: "00".repeat(32),
        height: 1,
        bits: 0x207f_ffff,
        scheme: "pplns".into(),
        factor: 2,
        reward_msat: 101,
        subsidy_msat: 100,
        fee_ppm: Some(10_000),
        fee_msat: 1,
        reserve_msat: 0,
        first_slot: 1,
        first_slot_work: "3".into(),
        last_slot: 1,
        window_work: "3".into(),
        bought_work: "0".into(),
        bought_subsidy_work: "0".into(),
        weights: vec![weight(1, "1", 34), weight(2, "1", 33), weight(5, "1", 33)],
    };
    assert_eq!(good.check(), Ok(()));
    let check = |change: &dyn Fn(&mut Weights), expect: &str| {
        let mut changed = good.clone();
        change(&mut changed);
        let error = changed.check().expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(&|all| all.weights[0].credit_msat = 33, "miner1 is credited 33 msat, but its work comes to 34");
    check(&|all| all.weights.swap(0, 1), "not in order");
    check(&|all| all.weights[1] = all.weights[0].clone(), "twice");
    check(&|all| drop(all.weights.pop()), "do not sum to 3");
    check(&|all| all.weights[1].work = "2".into(), "do not sum to 3");
    check(&|all| all.weights[1].work = "x".into(), "damaged");
    check(&|all| all.weights[1].work = "+1".into(), "damaged");
    check(&|all| all.fee_msat = -1, "a fee of -1");
    check(&|all| all.fee_msat = 2, "the fee is 2 msat, but comes to 1");
    check(&|all| (all.fee_msat, all.fee_ppm) = (102, None), "its fee is above the miners' part");
    check(&|all| (all.fee_msat, all.fee_ppm) = (2, None), "comes to 33");
    check(&|all| all.subsidy_msat = 102, "102 msat of subsidy");
    check(&|all| all.reserve_msat = 1, "the reserve has 1 msat, but its work comes to 0");
    check(&|all| all.weights[2].subsidy_work = "0".into(), "do not sum to 3");
    // Without any weight there is nothing that a credit could follow from.
    let none = |all: &mut Weights| {
        all.window_work = "0".into();
        for weight in &mut all.weights {
            (weight.work, weight.subsidy_work) = ("0".into(), "0".into());
        }
    };
    check(&none, "comes to 0");
}

/// What the reserve has paid for is its part: all of it under `pps`, of the subsidy only under `pps_plus`.
#[test]
fn weights_of_which_the_reserve_has_bought_some() {
    let weight = |miner: i64, work: &str, subsidy: &str, credit_msat: i64| MinerWeight {
        miner,
        address: format!("miner{miner}"),
        work: work.into(),
        subsidy_work: subsidy.into(),
        credit_msat,
    };
    // Of 10 of work 4 were pplns by miner 1, 6 pps_plus by miner 2: a subsidy of 1000 is 4 to 6, fees of 100 too.
    let mixed = Weights {
        hash: "00".repeat(32),
        height: 1,
        bits: 0x207f_ffff,
        scheme: "pps_plus".into(),
        factor: 2,
        reward_msat: 1_100,
        subsidy_msat: 1_000,
        fee_ppm: Some(0),
        fee_msat: 0,
        reserve_msat: 600,
        first_slot: 1,
        first_slot_work: "4".into(),
        last_slot: 2,
        window_work: "10".into(),
        bought_work: "0".into(),
        bought_subsidy_work: "6".into(),
        weights: vec![weight(1, "4", "4", 440), weight(2, "6", "0", 60)],
    };
    assert_eq!(mixed.check(), Ok(()));
    // A fee of a tenth of the miners' part: 50 of 500.
    let mut with_fee = mixed.clone();
    (with_fee.fee_ppm, with_fee.fee_msat) = (Some(100_000), 50);
    (with_fee.weights[0].credit_msat, with_fee.weights[1].credit_msat) = (396, 54);
    assert_eq!(with_fee.check(), Ok(()));
    let check = |change: &dyn Fn(&mut Weights), expect: &str| {
        let mut changed = mixed.clone();
        change(&mut changed);
        let error = changed.check().expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(&|all| all.weights[1].credit_msat = 61, "miner2 is credited 61 msat, but its work comes to 60");
    check(&|all| all.reserve_msat = 601, "the reserve has 601");
    check(&|all| all.bought_subsidy_work = "5".into(), "do not sum to 10");
    let shift = |all: &mut Weights| {
        all.bought_subsidy_work = "0".into();
        all.weights[1].subsidy_work = "6".into();
    };
    check(&shift, "the reserve has 600 msat, but its work comes to 0");
    // All of it bought: the reserve's, and no miner's.
    let all_bought = Weights {
        reserve_msat: 1_100,
        bought_work: "10".into(),
        bought_subsidy_work: "10".into(),
        weights: Vec::new(),
        ..mixed.clone()
    };
    assert_eq!(all_bought.check(), Ok(()));
}

proptest! {
    #[test]
    fn no_segment_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0usize..500) {
        Digested::of(&bytes, NAME);
        let mut real = segment(4);
        real.truncate(cut);
        real.extend(bytes);
        Digested::of(&real, NAME);
    }

    #[test]
    fn no_path_climbs_by_luck(count in 1u64..40, index in 0u64..50, steps in 0usize..8) {
        let top = root(leaves(count as usize));
        let path = vec![[9; 32]; steps];
        let only_leaf = count == 1 && index == 0 && steps == 0;
        prop_assert_eq!(climb(leaf(&index.to_le_bytes()), index, count, &path) == Some(top), only_leaf);
    }
}
