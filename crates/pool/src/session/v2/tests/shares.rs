//! What is handed in.

use stratum::v2::{extensions::encode_share_of, mining::SubmitSharesSuccess};

use super::*;
use crate::session::v2::acks::Acks as Unsaid;

/// The acknowledgements among `said`: the last number, how many shares, the sum of their difficulties.
fn successes(said: &[Said]) -> Vec<(u32, u32, u64)> {
    let success = |message: &Said| match message {
        Said::Mining(Mining::SubmitSharesSuccess(it)) => {
            let &SubmitSharesSuccess {
                last_sequence_number, new_submits_accepted_count, new_shares_sum, ..
            } = it;
            Some((last_sequence_number, new_submits_accepted_count, new_shares_sum))
        }
        _ => None,
    };
    said.iter().filter_map(success).collect()
}

#[tokio::test]
async fn a_good_share_earns_the_work_of_its_target() {
    let mut desk = Desk::set_up(0).await;
    for mut client in [desk.extended(), desk.standard()] {
        assert_eq!(names(&client.share().submit(&mut desk)), [("success", client.id)]);
        assert_eq!(desk.credits(), [(0, client.target.work())]);
    }
}

#[tokio::test]
async fn a_bad_share_is_refused_at_once_and_says_why() {
    let mut desk = Desk::set_up(0).await;
    let mut client = desk.extended();
    let good = client.share();
    assert_eq!(good.submit(&mut desk).len(), 1);
    let mut check = |share: Share, extranonce: &[u8], expect: &str| {
        assert_eq!(code(&desk.say(&share.extended(extranonce))), expect, "{share:?}");
    };
    let share = || Share { nonce: 7, ..good };
    let usual = [0xab; 8];
    check(good, &usual, "duplicate-share");
    check(Share { sequence: 9, ..good }, &usual, "duplicate-share");
    check(share(), &[0xab; 7], "bad-extranonce-size");
    check(share(), &[0xab; 9], "bad-extranonce-size");
    check(share(), &[], "bad-extranonce-size");
    check(Share { job: good.job + 1, ..share() }, &usual, "invalid-job-id");
    check(Share { channel: 99, ..share() }, &usual, "invalid-channel-id");
    check(Share { time: good.time - 101, ..share() }, &usual, "invalid-share");
    check(Share { time: good.time + 7_201, ..share() }, &usual, "invalid-share");
    check(Share { version: good.version ^ 0x10, ..share() }, &usual, "invalid-non-rollable-version-bit");
    check(Share { version: good.version ^ 1 << 29, ..share() }, &usual, "invalid-non-rollable-version-bit");
    check(Share { version: 0, ..share() }, &usual, "invalid-non-rollable-version-bit");
    assert_eq!(desk.credits().len(), 1);
    assert_eq!(desk.out.refused.len(), 12);
    // What is for the other kind of channel is for none.
    let standard = desk.standard().share();
    assert_eq!(code(&desk.say(&standard.extended(&[]))), "invalid-channel-id");
    assert_eq!(code(&Share { size: 0, ..share() }.submit(&mut desk)), "invalid-channel-id");
}

#[tokio::test]
async fn what_may_be_rolled_may() {
    let mut desk = Desk::set_up(0).await;
    let mut client = desk.extended();
    let mut good = |share: Share| assert_eq!(names(&share.submit(&mut desk)), [("success", 2)], "{share:?}");
    let share = client.share();
    good(share);
    for bit in 5..29 {
        good(Share { version: share.version ^ 1 << bit, ..share });
    }
    for seconds in [1, 60, 7_000] {
        good(Share { time: share.time + seconds, ..share });
    }
    good(Share { time: share.time - 100, ..share });
}

#[tokio::test]
async fn what_is_of_a_block_that_was_found_is_late() {
    let mut desk = Desk::set_up(0).await;
    let mut client = desk.standard();
    let late = client.share();
    client.hear(&desk.template(template(2, BLOCK_BITS)).await);
    assert_eq!(code(&late.submit(&mut desk)), "stale-share");
    assert_eq!(desk.out.refused, [(Some(0), Reason::Stale)]);
    assert_eq!(names(&client.share().submit(&mut desk)), [("success", client.id)]);
}

#[tokio::test]
async fn a_share_is_judged_by_the_target_that_its_job_was_given_at() {
    let mut desk = Desk::set_up(0).await;
    let mut client = desk.extended();
    let id = client.id;
    let (first, easy) = (client.share(), client.target);
    let hard = difficulty(1e-7).target();
    let update = |maximum_target: Target| UpdateChannel {
        channel_id: id,
        nominal_hash_rate: HashRate(0.0),
        maximum_target: maximum_target.to_le_bytes(),
    };
    client.hear(&desk.say(&update(hard)));
    let second = client.share();
    assert_ne!((first.job, client.target), (second.job, easy));
    let meets = |client: &Client, share: &Share| hard.is_met_by(&client.hash(share, 1, BLOCK_BITS));
    let pick = |client: &mut Client, job: u32, wanted: bool| loop {
        let share = Share { job, ..client.share() };
        if meets(client, &share) == wanted {
            break share;
        }
    };
    // The older job has the easier target still, and earns as little; the newer one has the harder.
    assert_eq!(names(&pick(&mut client, first.job, false).submit(&mut desk)), [("success", id)]);
    assert_eq!(names(&pick(&mut client, first.job, true).submit(&mut desk)), [("success", id)]);
    assert_eq!(code(&pick(&mut client, second.job, false).submit(&mut desk)), "difficulty-too-low");
    assert_eq!(names(&pick(&mut client, second.job, true).submit(&mut desk)), [("success", id)]);
    assert_eq!(desk.credits(), [(0, easy.work()), (0, easy.work()), (0, hard.work())]);
    // Lowered again: what was given at the hard one keeps it.
    client.hear(&desk.say(&update(Target::MAX)));
    desk.say(&UpdateChannel { nominal_hash_rate: HashRate(1e-9), ..update(Target::MAX) });
    assert_eq!(code(&pick(&mut client, second.job, false).submit(&mut desk)), "difficulty-too-low");
    // All channels of a group have the new block's job at the target of their own.
    let mut other = desk.extended();
    let said = desk.template(template(2, BLOCK_BITS)).await;
    client.hear(&said);
    other.hear(&said);
    assert_eq!(names(&other.share().submit(&mut desk)), [("success", other.id)]);
}

#[tokio::test]
async fn acknowledgements_come_by_count_and_by_time_and_nothing_is_lost_by_rounding() {
    let change = |config: &mut Config| {
        config.acks = Acks { shares: 4, after: std::time::Duration::from_secs(3) };
        // A bit more than a third of difficulty 1.
        let third = difficulty(0.35);
        config.vardiff = VardiffConfig { start: third, min: third, max: third, ..config.vardiff };
    };
    let mut acks = Unsaid::default();
    let mut desk = Desk::with(Scheme::Pplns { factor: 2 }, change).await;
    let config = desk.config.acks;
    let work = desk.config.vardiff.start.target().work();
    let mut write = |acks: &mut Unsaid| {
        acks.write(5, &mut desk.out.reply);
        successes(&desk.said())[0]
    };
    let mut sum = 0;
    for round in 0..25 {
        for number in 0..4 {
            assert!(!acks.are_due(&config, NOW));
            acks.add(4 * round + number, work, NOW);
        }
        assert!(acks.are_due(&config, NOW));
        let (last, count, difficulties) = write(&mut acks);
        assert_eq!((last, count), (4 * round + 3, 4), "counted anew each time");
        sum += difficulties;
    }
    assert_eq!(sum, 34, "of 100 at 0.35, of which the last little bit is still owed");
    acks.add(100, work, NOW);
    assert!(!acks.are_due(&config, NOW + 2_999) && acks.are_due(&config, NOW + 3_000));
    assert!(acks.are_due(&config, NOW - 1), "a clock that was set back makes nobody wait");
}

#[tokio::test]
async fn the_last_shares_of_a_batch_are_acknowledged_too() {
    let change = |config: &mut Config| config.acks.shares = 3;
    let mut desk = Desk::with(Scheme::Pplns { factor: 2 }, change).await;
    desk.setup(0, 2..=2, 0);
    let (mut one, mut two) = (desk.extended(), desk.standard());
    let mut said: Vec<Said> = (0..4).flat_map(|_| one.share().submit(&mut desk)).collect();
    assert_eq!(successes(&said), [(3, 3, 0)]);
    said = two.share().submit(&mut desk);
    assert_eq!(said, []);
    // An error does not wait, nor does it hold up what waits.
    assert_eq!(code(&Share { job: 0, ..two.share() }.submit(&mut desk)), "invalid-job-id");
    assert_eq!(desk.tick(500), []);
    let said = desk.tick(500);
    assert_eq!(names(&said), [("success", one.id), ("success", two.id)]);
    assert_eq!(successes(&said), [(4, 1, 0), (1, 1, 0)]);
    assert_eq!(desk.tick(5_000), []);
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged() {
    let mut desk = Desk::set_up(0).await;
    let mut client = desk.extended();
    desk.storing = false;
    let share = client.share();
    assert_eq!(code(&share.submit(&mut desk)), "share-not-stored");
    desk.storing = true;
    assert_eq!(names(&share.submit(&mut desk)), [("success", client.id)], "it may be handed in again");
    assert_eq!(desk.credits().len(), 1);
}

#[tokio::test]
async fn a_block_is_one_whatever_else_is_wrong_with_the_share() {
    let mut desk = Desk::set_up(0).await;
    let mut clients = [desk.extended(), desk.standard()];
    let network = Target::from_compact(BLOCK_BITS).unwrap();
    for client in &mut clients {
        let share = loop {
            let share = client.share();
            if network.is_met_by(&client.hash(&share, 1, BLOCK_BITS)) {
                break share;
            }
        };
        assert_eq!(names(&share.submit(&mut desk)), [("success", client.id)]);
        assert_eq!(code(&share.submit(&mut desk)), "duplicate-share");
        let [solution] = &desk.out.solved[..] else { panic!("{} blocks", desk.out.solved.len()) };
        assert_eq!(solution.found.hash, client.hash(&share, 1, BLOCK_BITS));
        assert_eq!(sha256::double(&solution.block[..80]), solution.found.hash);
        desk.out.solved.clear();
    }
    let late = loop {
        let share = clients[0].share();
        if network.is_met_by(&clients[0].hash(&share, 1, BLOCK_BITS)) {
            break share;
        }
    };
    desk.template(template(2, BLOCK_BITS)).await;
    assert_eq!(code(&late.submit(&mut desk)), "stale-share");
    assert_eq!(desk.out.solved.len(), 1, "the chain has its own rules");
}

#[tokio::test]
async fn a_worker_named_beside_a_share_is_credited_once_that_was_agreed_on() {
    let mut desk = Desk::set_up(0).await;
    let mut client = desk.extended();
    let mut submit = |desk: &mut Desk, name: &[u8]| {
        let (mut frame, share) = (Vec::new(), client.share());
        encode_share_of(
            &share.extended(&[0xab; 8]),
            stratum::v2::wire::Bytes::new(name).unwrap(),
            &mut frame,
        );
        let said = desk.frame(&frame);
        assert_eq!(said.len(), 1, "{said:?}");
    };
    submit(&mut desk, b"early");
    let requested_extensions = Seq64K::new(&[2]).unwrap();
    desk.say(&RequestExtensions { request_id: 1, requested_extensions });
    for name in [&b"rig1"[..], b"rig2", b"rig1", b"", b"w", b"\xff", b"rig 2\n"] {
        submit(&mut desk, name);
    }
    let who: Vec<usize> = desk.credits().into_iter().map(|(worker, _)| worker).collect();
    assert_eq!(who, [0, 1, 2, 1, 0, 0, 0, 3], "named, not named, the channel's own, not to be read");
    let names: Vec<String> = desk.out.authorized.iter().map(|(_, worker)| worker.name().to_owned()).collect();
    assert_eq!(names, ["w", "rig1", "rig2", "rig 2"]);
    assert!(desk.out.authorized.iter().all(|(_, worker)| worker.address() == ADDRESS));
    // Longer than the extension allows: the message is refused.
    let mut frame = Vec::new();
    encode(&client.share().extended(&[0xab; 8]), &mut frame);
    frame.extend([2, 0, 1, 33, 0]);
    frame.extend([b'x'; 33]);
    frame[3] += 38;
    assert_eq!(code(&desk.frame(&frame)), "invalid-share");
    desk.say(&CloseChannel { channel_id: client.id, reason_code: text("") });
    let mut left = std::mem::take(&mut desk.out.left);
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2, 3]);
}

#[tokio::test]
async fn names_are_bounded_and_those_beyond_are_their_channels() {
    let change = |config: &mut Config| config.limits.workers = 2;
    let mut desk = Desk::with(Scheme::Pplns { factor: 2 }, change).await;
    desk.setup(0, 2..=2, 0);
    desk.say(&RequestExtensions { request_id: 1, requested_extensions: Seq64K::new(&[2]).unwrap() });
    let mut client = desk.extended();
    for name in 0..100u8 {
        let (mut frame, share) = (Vec::new(), client.share());
        let name = [b'a' + name % 26, b'0' + name / 26];
        encode_share_of(
            &share.extended(&[0xab; 8]),
            stratum::v2::wire::Bytes::new(&name).unwrap(),
            &mut frame,
        );
        desk.frame(&frame);
    }
    let who: Vec<usize> = desk.credits().into_iter().map(|(worker, _)| worker).collect();
    assert_eq!((who.len(), &who[..3], who[3..].iter().all(|index| *index == 0)), (100, &[1, 2, 0][..], true));
    assert!(desk.out.limited.contains(&Limited::Workers));
}

#[tokio::test]
async fn a_name_is_nobody_until_there_is_a_share_to_it() {
    let mut desk = Desk::set_up(0).await;
    desk.say(&RequestExtensions { request_id: 1, requested_extensions: Seq64K::new(&[2]).unwrap() });
    let mut client = desk.extended();
    let good = client.share();
    let submit = |desk: &mut Desk, share: Share, name: &str| {
        let mut frame = Vec::new();
        let name = stratum::v2::wire::Bytes::new(name.as_bytes()).unwrap();
        encode_share_of(&share.extended(&[0xab; 8]), name, &mut frame);
        names(&desk.frame(&frame))[0].0
    };
    assert_eq!(submit(&mut desk, Share { job: good.job + 1, ..good }, "unknown"), "error");
    assert_eq!(submit(&mut desk, Share { time: good.time - 101, ..good }, "early"), "error");
    assert_eq!(submit(&mut desk, good, "rig"), "success");
    assert_eq!(submit(&mut desk, good, "twice"), "error");
    let known: Vec<&str> = desk.out.authorized.iter().map(|(_, worker)| worker.name()).collect();
    assert_eq!(known, ["w", "rig"]);
    assert!(desk.out.refused.iter().all(|(worker, _)| *worker == Some(0)), "{:?}", desk.out.refused);
}

#[tokio::test]
async fn one_address_alone_has_few_jobs_remembered() {
    let mut desk = Desk::with(Scheme::Solo, |_| ()).await;
    desk.setup(0, 2..=2, 0);
    let mut client = desk.extended();
    let first = client.share();
    for _ in 0..7 {
        client.hear(&desk.template(template(1, BLOCK_BITS)).await);
    }
    assert_eq!(names(&first.submit(&mut desk))[0].0, "success", "the last of eight");
    client.hear(&desk.template(template(1, BLOCK_BITS)).await);
    assert_eq!(code(&Share { nonce: first.nonce + 1, ..first }.submit(&mut desk)), "invalid-job-id");
}

#[tokio::test]
async fn difficulty_follows_speed_and_each_change_is_said_with_a_job() {
    let mut desk = Desk::set_up(0).await;
    let mut client = desk.extended();
    let before = client.target;
    let mut told = 0;
    for _ in 0..400 {
        desk.now_ms += 10;
        let said = client.share().submit(&mut desk);
        let changes = names(&said).iter().filter(|(name, _)| *name == "target").count();
        told += changes;
        client.hear(&said);
        if changes > 0 {
            break;
        }
    }
    assert_eq!(told, 1, "it floods");
    assert!(client.target < before && client.jobs.len() == 2);
    // Silence lowers it, on every channel by itself.
    let mut lowered = Vec::new();
    for _ in 0..200 {
        lowered.extend(desk.tick(2_000));
    }
    client.hear(&lowered);
    assert!(client.target > difficulty(1.0).target());
    assert!(names(&lowered).iter().any(|(name, id)| (*name, *id) == ("target", client.id)));
}

#[tokio::test]
async fn a_block_on_a_job_whose_target_is_forgotten_is_a_block() {
    let mut desk = Desk::set_up(0).await;
    let mut client = desk.extended();
    let first = client.jobs[0].id;
    // So many changes that what the first job was given at is forgotten.
    for n in 0..40u32 {
        desk.now_ms += 2_000;
        let maximum_target = difficulty(f64::from(n + 1) * 1e-9).target().to_le_bytes();
        let (channel_id, nominal_hash_rate) = (client.id, HashRate(0.0));
        client.hear(&desk.say(&UpdateChannel { channel_id, nominal_hash_rate, maximum_target }));
    }
    let target = Target::from_compact(BLOCK_BITS).unwrap();
    let block = loop {
        let share = Share { job: first, ..client.share() };
        if target.is_met_by(&client.hash(&share, 1, BLOCK_BITS)) {
            break share;
        }
    };
    assert_eq!(code(&block.submit(&mut desk)), "invalid-job-id", "nobody knows what it is worth");
    assert_eq!((desk.credits().len(), desk.out.solved.len()), (0, 1));
}

#[tokio::test]
async fn what_was_credited_at_a_place_is_not_credited_to_who_has_it_next() {
    let mut desk = Desk::set_up(0).await;
    let mut client = desk.extended();
    let (prefix, share) = (client.prefix.clone(), client.share());
    assert_eq!(names(&share.submit(&mut desk)), [("success", client.id)]);
    desk.say(&CloseChannel { channel_id: client.id, reason_code: text("") });
    // All others have had their turn, and another connection is given the next.
    let place = <[u8; 4]>::try_from(&prefix[..]).unwrap();
    desk.space.turn_to(place);
    assert_ne!(desk.space.seat(desk.now_ms), Some(place));
}
