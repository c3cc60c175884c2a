//! Channels come, change and go.

use std::collections::HashSet;

use super::*;

const MAX: [u8; 32] = [0xff; 32];

fn user() -> String {
    format!("{ADDRESS}.w")
}

#[tokio::test]
async fn what_cannot_be_opened_is_refused() {
    let mut desk = Desk::set_up(0).await;
    let mut check = |user: &str, rate: f32, max_target, least, expect: &str| {
        assert_eq!(code(&desk.ask_extended(user, rate, max_target, least)), expect);
        if least <= 16 {
            assert_eq!(code(&desk.ask_standard(user, rate, max_target)), expect);
        }
    };
    check(&user(), f32::NAN, MAX, 4, "invalid-nominal-hashrate");
    check(&user(), f32::INFINITY, MAX, 4, "invalid-nominal-hashrate");
    check(&user(), f32::NEG_INFINITY, MAX, 4, "invalid-nominal-hashrate");
    check(&user(), -1.0, MAX, 4, "invalid-nominal-hashrate");
    check(&user(), 1.0, [0; 32], 4, "max-target-out-of-range");
    check("nobody", 1.0, MAX, 4, "invalid-user-identity");
    check("", 1.0, MAX, 4, "invalid-user-identity");
    check("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", 1.0, MAX, 4, "invalid-user-identity");
    check(&user(), 1.0, MAX, 17, "min-extranonce-size-too-large");
    check(&user(), 1.0, MAX, u16::MAX, "min-extranonce-size-too-large");
    let said = desk.say(&OpenStandardMiningChannel {
        request_id: 1,
        user_identity: Str255::new(&[0xff, 0xfe]).unwrap(),
        nominal_hash_rate: HashRate(1.0),
        max_target: MAX,
    });
    assert_eq!(code(&said), "invalid-user-identity", "not UTF-8");
    assert!(!desk.session.is_authorized() && desk.out.authorized.is_empty());
    let mut desk = Desk::set_up(REQUIRES_STANDARD_JOBS).await;
    let said = desk.ask_extended(&user(), 1.0, MAX, 4);
    assert_eq!(code(&said), "extended-channels-not-supported-for-standard-jobs");
}

#[tokio::test]
async fn hash_rate_sets_the_difficulty_within_what_the_client_and_the_operator_want() {
    let mut desk = Desk::with(Scheme::Pplns { factor: 2 }, |_| ()).await;
    desk.template(template(2, 0x1700_ffff)).await;
    desk.setup(0, 2..=2, 0);
    let mut target = |rate, max_target| Client::opened(&desk.ask_standard(&user(), rate, max_target)).target;
    // 10 shares a minute.
    let by_rate = target(1e12, MAX).difficulty().get();
    assert!((by_rate / (1e12 * 6.0 / 4_295_032_833.0) - 1.0).abs() < 1e-6, "{by_rate}");
    assert_eq!(target(0.0, MAX), difficulty(ANY).target(), "no miner yet: the least");
    assert_eq!(target(1e-30, MAX), difficulty(ANY).target());
    let most = target(f32::MAX, MAX).difficulty();
    assert!(most <= difficulty(1e12) && most.get() > 9e11, "{most}");
    let easiest = difficulty(1e6).target();
    let held = target(1e3, easiest.to_le_bytes());
    assert!(
        held <= easiest && held.difficulty().get() < 1e6 * 1.000_001,
        "the client wants none easier: {held:?}"
    );
    // Harder than the operator would have it: that is the client's business.
    let mut hardest = [0; 32];
    hardest[0] = 1;
    assert_eq!(target(1e3, hardest), Target::from_le_bytes(hardest));
}

#[tokio::test]
async fn ids_are_unique_over_channels_and_groups_and_never_used_again() {
    let mut desk = Desk::set_up(0).await;
    let mut ids = HashSet::new();
    for round in 0..3 {
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(desk.extended());
            clients.push(desk.standard());
            clients.push(Client::opened(&desk.ask_extended(&user(), 1.0, MAX, 9)));
        }
        let groups: HashSet<u32> = clients.iter().map(|client| client.group).collect();
        assert_eq!(groups.len(), 2, "one for each size of the extranonce");
        for id in clients.iter().map(|client| client.id).chain(groups.iter().copied()) {
            assert!(ids.insert(id), "{id} again in round {round}");
        }
        for client in &clients {
            let whole = client.prefix.len() + client.size;
            let of_group = clients.iter().filter(|other| other.group == client.group);
            assert!(of_group.clone().all(|other| other.prefix.len() + other.size == whole));
        }
        for id in groups {
            desk.say(&CloseChannel { channel_id: id, reason_code: text("bye") });
        }
    }
}

#[tokio::test]
async fn every_channel_has_a_space_of_its_own() {
    let mut desk = Desk::set_up(0).await;
    let clients: Vec<Client> =
        (0..300).map(|number| if number % 3 == 0 { desk.extended() } else { desk.standard() }).collect();
    let prefixes: HashSet<&[u8]> = clients.iter().map(|client| &client.prefix[..]).collect();
    assert_eq!(prefixes.len(), clients.len());
    let is_inside = |one: &Client, other: &Client| one.prefix.starts_with(&other.prefix);
    let overlaps = |one: &Client| clients.iter().filter(|other| is_inside(one, other)).count() > 1;
    assert!(!clients.iter().any(overlaps), "what one rolls is no other's");
    assert!(clients.iter().all(|client| client.prefix.len() + client.size == 12 && client.prefix[0] == 3));
    // Another session's are others still.
    let mut other = desk.reconnected(0);
    let (one, two) = (other.extended(), other.standard());
    let is_taken = |client: &Client| clients.iter().any(|other| is_inside(client, other));
    assert!(!is_taken(&one) && !is_taken(&two));
}

#[tokio::test]
async fn who_asks_for_more_extranonce_gets_enough() {
    let mut desk = Desk::set_up(0).await;
    for (asked, granted) in [(0, 8), (2, 8), (8, 8), (9, 16), (10, 16), (16, 16)] {
        let client = Client::opened(&desk.ask_extended(&user(), 1.0, MAX, asked));
        assert_eq!(client.size, granted, "{asked}");
        assert!(client.prefix.len() + client.size <= 32);
    }
}

#[tokio::test]
async fn channels_are_counted_and_all_are_given_back() {
    let mut desk = Desk::with(Scheme::Pplns { factor: 2 }, |config| config.limits.channels = 3).await;
    desk.setup(0, 2..=2, 0);
    let clients: Vec<Client> = (0..3).map(|_| desk.extended()).collect();
    for said in [desk.ask_standard(&user(), 1.0, MAX), desk.ask_extended(&user(), 1.0, MAX, 4)] {
        assert_eq!(code(&said), "channel-capacity-exhausted");
    }
    assert_eq!(desk.out.limited, [Limited::Channels, Limited::Channels]);
    desk.say(&CloseChannel { channel_id: clients[1].id, reason_code: text("") });
    desk.standard();
    assert_eq!(code(&desk.ask_standard(&user(), 1.0, MAX)), "channel-capacity-exhausted");
}

#[tokio::test]
async fn channels_are_counted_over_connections_too() {
    let mut desk = Desk::with(Scheme::Pplns { factor: 2 }, |config| {
        config.limits = Limits { channels: 3, channels_per_address: 4, ..config.limits };
    })
    .await;
    desk.setup(0, 2..=2, 0);
    let mut asked = 0;
    let mut open = |desk: &mut Desk| {
        asked += 1;
        match asked % 2 {
            0 => desk.ask_standard(&user(), 1.0, MAX),
            _ => desk.ask_extended(&user(), 1.0, MAX, 4),
        }
    };
    (0..3).for_each(|_| _ = Client::opened(&open(&mut desk)));
    let session =
        Session::new(desk.config.clone(), desk.space.clone(), desk.board.clone(), desk.gate.allowance(MINER));
    let first = std::mem::replace(&mut desk.session, session);
    desk.setup(0, 2..=2, 0);
    // What is refused for another reason is not counted.
    assert_eq!(code(&desk.ask_standard("nobody", 1.0, MAX)), "invalid-user-identity");
    Client::opened(&open(&mut desk));
    assert_eq!(code(&open(&mut desk)), "channel-capacity-exhausted");
    assert_eq!(desk.out.limited, [Limited::User, Limited::ChannelsPerAddress]);
    first.end(NOW);
    (0..2).for_each(|_| _ = Client::opened(&open(&mut desk)));
    assert_eq!(code(&open(&mut desk)), "channel-capacity-exhausted");
    assert_eq!(desk.out.limited[2..], [Limited::Channels]);
}

#[tokio::test]
async fn a_channel_takes_less_memory_than_is_reckoned_with() {
    // docs/STRATUM-V2.md: 2 kB with what the shard and the figures keep of its worker, which is another half kilobyte.
    const MOST: i64 = 1_500;
    const COUNT: u32 = 1_000;
    for flags in [0, REQUIRES_STANDARD_JOBS] {
        let mut desk = Desk::set_up(flags).await;
        let frames: Vec<Vec<u8>> = (0..COUNT)
            .map(|request_id| {
                let (mut frame, user) = (Vec::new(), format!("{ADDRESS}.a-worker-of-the-farm-{request_id}"));
                let (user_identity, nominal_hash_rate, max_target) = (text(&user), HashRate(1e9), MAX);
                match flags {
                    0 => encode(
                        &OpenExtendedMiningChannel {
                            request_id,
                            user_identity,
                            nominal_hash_rate,
                            max_target,
                            min_extranonce_size: 8,
                        },
                        &mut frame,
                    ),
                    _ => encode(
                        &OpenStandardMiningChannel {
                            request_id,
                            user_identity,
                            nominal_hash_rate,
                            max_target,
                        },
                        &mut frame,
                    ),
                }
                frame
            })
            .collect();
        let taken = allocation_counter::measure(|| {
            for frame in &frames {
                let frame = Frame::next(&mut &frame[..], 1_000).unwrap().unwrap();
                let now = Now { ms: NOW, posting: desk.posting.as_ref(), storing: true };
                desk.session.frame(frame, now, &mut desk.out);
                desk.out.reply.clear();
                desk.out.shown.clear();
            }
        });
        assert_eq!(desk.session.channels(), COUNT as usize);
        let each = taken.bytes_current / i64::from(COUNT);
        assert!((200..MOST).contains(&each), "{each} bytes a channel");
    }
}

#[tokio::test]
async fn whatever_is_asked_for_counts() {
    let mut desk = Desk::set_up(0).await;
    let asked = |desk: &mut Desk| std::mem::take(&mut desk.out.asked);
    let clients = [desk.extended(), desk.standard(), desk.standard()];
    assert_eq!(asked(&mut desk), 3);
    desk.ask_extended("nobody", 1.0, MAX, 4);
    let update =
        |channel_id| UpdateChannel { channel_id, nominal_hash_rate: HashRate(1.0), maximum_target: MAX };
    desk.say(&update(clients[0].id));
    desk.say(&update(0));
    desk.say(&CloseChannel { channel_id: 0, reason_code: text("") });
    desk.frame(&[0, 0x40, 0x10, 2, 0, 0, 9, 9]);
    assert_eq!(asked(&mut desk), 5, "what is refused or passed over too");
    desk.say(&CloseChannel { channel_id: clients[0].group, reason_code: text("") });
    assert_eq!(asked(&mut desk), 3, "a group's channels each");
    // Shares are counted where they are judged.
    let mut client = desk.extended();
    asked(&mut desk);
    let share = client.share();
    share.submit(&mut desk);
    share.submit(&mut desk);
    assert_eq!((asked(&mut desk), desk.out.credits.len(), desk.out.refused.len()), (0, 1, 1));
}

#[tokio::test]
async fn a_closed_channel_is_closed_and_nobody_minds_one_that_is_not_there() {
    let mut desk = Desk::set_up(0).await;
    let (mut one, mut other) = (desk.extended(), desk.extended());
    for id in [0, one.id, one.id, 77] {
        assert_eq!(desk.say(&CloseChannel { channel_id: id, reason_code: text("\n") }), []);
    }
    assert_eq!(code(&one.share().submit(&mut desk)), "invalid-channel-id");
    assert_eq!(names(&other.share().submit(&mut desk)), [("success", other.id)]);
    let said = desk.template(template(2, BLOCK_BITS)).await;
    assert_eq!(names(&said), [("future extended job", other.group), ("prev hash", other.group)]);
    assert_eq!(desk.say(&CloseChannel { channel_id: other.group, reason_code: text("") }), []);
    assert_eq!(code(&other.share().submit(&mut desk)), "invalid-channel-id");
    assert_eq!(desk.template(template(3, BLOCK_BITS)).await, [], "all of the group are closed");
    assert!(desk.out.close.is_none());
}

#[tokio::test]
async fn a_group_is_no_channel() {
    let mut desk = Desk::set_up(0).await;
    let mut client = desk.extended();
    let share = Share { channel: client.group, ..client.share() };
    assert_eq!(code(&share.submit(&mut desk)), "invalid-channel-id");
    let update =
        UpdateChannel { channel_id: client.group, nominal_hash_rate: HashRate(1.0), maximum_target: MAX };
    assert_eq!(code(&desk.say(&update)), "invalid-channel-id");
}

#[tokio::test]
async fn an_update_is_applied_and_answered_only_if_it_matters() {
    let mut desk = Desk::set_up(0).await;
    let mut client = Client::opened(&desk.ask_extended(&user(), 1.0, MAX, 4));
    let id = client.id;
    let update = |rate, maximum_target| UpdateChannel {
        channel_id: id,
        nominal_hash_rate: HashRate(rate),
        maximum_target,
    };
    assert_eq!(code(&desk.say(&update(f32::NAN, MAX))), "invalid-nominal-hashrate");
    assert_eq!(code(&desk.say(&update(-1.0, MAX))), "invalid-nominal-hashrate");
    assert_eq!(code(&desk.say(&update(1.0, [0; 32]))), "max-target-out-of-range");
    let unknown = UpdateChannel { channel_id: 999, ..update(1.0, MAX) };
    assert_eq!(code(&desk.say(&unknown)), "invalid-channel-id");
    for (rate, target) in [(1.0, MAX), (0.0, MAX), (1.5, MAX)] {
        assert_eq!(desk.say(&update(rate, target)), [], "nothing changes by {rate}");
    }
    // A harder target than the present one must be applied, and is said.
    let harder = difficulty(1e-6).target();
    let said = desk.say(&update(0.0, harder.to_le_bytes()));
    assert_eq!(names(&said), [("target", id), ("extended job", id)]);
    client.hear(&said);
    assert_eq!(client.target, harder);
    // Ten times the hash rate is ten times the difficulty.
    desk.say(&update(10.0, MAX));
    let said = desk.say(&update(100.0, MAX));
    client.hear(&said);
    let difficulty = client.target.difficulty().get();
    assert!((difficulty / (100.0 * 6.0 / 4_295_032_833.0) - 1.0).abs() < 1e-3, "{difficulty}");
}

#[tokio::test]
async fn a_worker_goes_on_where_it_left() {
    let mut desk = Desk::set_up(0).await;
    let mut client = Client::opened(&desk.ask_extended(&user(), 1e4, MAX, 4));
    let had = client.target;
    let share = loop {
        let share = client.share();
        if had.is_met_by(&client.hash(&share, 1, BLOCK_BITS)) {
            break share;
        }
    };
    assert_eq!(names(&share.submit(&mut desk)), [("success", client.id)]);
    desk.say(&CloseChannel { channel_id: client.id, reason_code: text("") });
    let again = desk.extended();
    assert_eq!(again.target, had, "it says no hash rate, but has shown one");
}
