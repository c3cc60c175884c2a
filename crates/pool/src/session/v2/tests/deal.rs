//! Work for many channels, a slice at a time.

use std::collections::HashMap;

use super::*;

/// So many channels are told in several slices.
const MANY: usize = 1_000;

/// Work that is newer than that of `template(prev, ..)`, on the same block.
fn newer(prev: u8, by: u64) -> Arc<Template> {
    let mut newer = (*template(prev, BLOCK_BITS)).clone();
    newer.coinbase_value += by;
    Arc::new(newer)
}

impl Desk {
    /// The session says a little more of what it has to say.
    fn go_on(&mut self) -> Vec<Said> {
        self.event(|session, now, out| session.go_on(now, out))
    }

    /// All that the session has to say, in how many slices.
    fn rest(&mut self) -> (Vec<Said>, usize) {
        let (mut said, mut slices) = (Vec::new(), 0);
        while self.session.has_more() {
            said.extend(self.go_on());
            slices += 1;
        }
        (said, slices)
    }
}

/// What each channel was told, in its order.
fn by_channel(said: &[Said]) -> HashMap<u32, Vec<&'static str>> {
    let mut told: HashMap<u32, Vec<&'static str>> = HashMap::new();
    names(said).into_iter().for_each(|(name, id)| told.entry(id).or_default().push(name));
    told
}

#[tokio::test]
async fn who_takes_standard_jobs_only_is_told_in_slices_everybody_once() {
    let mut desk = Desk::set_up(REQUIRES_STANDARD_JOBS).await;
    let mut clients: Vec<Client> = (0..MANY).map(|_| desk.standard()).collect();
    let mut said = desk.template(template(2, BLOCK_BITS)).await;
    assert!(!said.is_empty() && said.len() < MANY, "{} at once", said.len());
    assert!(!desk.session.lacks(desk.posting.as_ref().unwrap().id) && desk.session.has_more());
    let (rest, slices) = desk.rest();
    assert!((3..20).contains(&slices), "{slices}");
    said.extend(rest);
    let told = by_channel(&said);
    assert_eq!(told.len(), MANY);
    assert!(told.values().all(|told| told == &["future job", "prev hash"]));
    for client in &mut clients {
        client.hear(&said);
        assert_eq!(names(&client.share().submit(&mut desk)), [("success", client.id)]);
    }
    assert_eq!(desk.go_on(), []);
}

#[tokio::test]
async fn who_was_not_told_yet_is_told_of_the_newest_only() {
    let mut desk = Desk::set_up(REQUIRES_STANDARD_JOBS).await;
    let mut clients: Vec<Client> = (0..MANY).map(|_| desk.standard()).collect();
    let first = desk.template(template(2, BLOCK_BITS)).await;
    let mut second = desk.template(newer(2, 1)).await;
    second.extend(desk.rest().0);
    let (had, has) = (by_channel(&first), by_channel(&second));
    assert!(!had.is_empty() && had.len() < MANY && has.len() == MANY);
    for (id, told) in &has {
        let expect: &[&str] = if had.contains_key(id) { &["job"] } else { &["future job", "prev hash"] };
        assert_eq!(told, expect, "channel {id}");
    }
    for client in &mut clients {
        client.hear(&first);
        client.hear(&second);
        assert_eq!(names(&client.share().submit(&mut desk)), [("success", client.id)]);
    }
    // On a third block some are told of the fourth only.
    let third = desk.template(template(3, BLOCK_BITS)).await;
    let mut fourth = desk.template(template(4, BLOCK_BITS)).await;
    fourth.extend(desk.rest().0);
    assert!(by_channel(&third).len() < MANY);
    let told = by_channel(&fourth);
    assert!(told.len() == MANY && told.values().all(|told| told == &["future job", "prev hash"]));
}

#[tokio::test]
async fn channels_that_come_change_and_go_meanwhile_have_all_and_nothing_twice() {
    let mut desk = Desk::set_up(REQUIRES_STANDARD_JOBS).await;
    let mut clients: Vec<Client> = (0..MANY).map(|_| desk.standard()).collect();
    let mut said = desk.template(template(2, BLOCK_BITS)).await;
    let told = by_channel(&said);
    let untold: Vec<u32> = clients.iter().map(|it| it.id).filter(|id| !told.contains_key(id)).collect();
    let (closed, changed) = (untold[0], untold[1]);
    desk.say(&CloseChannel { channel_id: closed, reason_code: text("") });
    // Its job comes before its new target, which then holds for the one after.
    let maximum_target = difficulty(1e-9).target().to_le_bytes();
    let update = UpdateChannel { channel_id: changed, nominal_hash_rate: HashRate(0.0), maximum_target };
    let answer = desk.say(&update);
    let expect = ["future job", "prev hash", "target", "job"].map(|name| (name, changed));
    assert_eq!(names(&answer), expect);
    said.extend(answer);
    // Who comes now begins with what the others are being told of.
    let mut newcomer = desk.standard();
    let newcomers_job = newcomer.jobs[0].id;
    let rest = desk.rest().0;
    let told = by_channel(&rest);
    assert!([closed, changed, newcomer.id].iter().all(|id| !told.contains_key(id)));
    said.extend(rest);
    clients.retain(|client| client.id != closed);
    clients.iter_mut().for_each(|client| client.hear(&said));
    assert!(clients.iter().all(|client| client.jobs[0].id == newcomers_job), "all have the same");
    for client in clients.iter_mut().filter(|client| client.id != changed).chain([&mut newcomer]) {
        assert_eq!(names(&client.share().submit(&mut desk)), [("success", client.id)]);
    }
    // The job from before the change is worth what it was given at.
    let client = clients.iter_mut().find(|client| client.id == changed).unwrap();
    let [before, after] = [0, 1].map(|at| client.jobs[at].id);
    desk.credits();
    for (job, worth) in [(before, difficulty(ANY)), (after, difficulty(1e-9))] {
        let share = loop {
            let share = Share { job, ..client.share() };
            if difficulty(1e-9).target().is_met_by(&client.hash(&share, 2, BLOCK_BITS)) {
                break share;
            }
        };
        assert_eq!(names(&share.submit(&mut desk)), [("success", changed)]);
        assert_eq!(desk.credits()[0].1, worth.target().work());
    }
}

#[tokio::test]
async fn groups_are_told_in_slices_too_and_who_begins_there_is_where_the_others_are() {
    let mut desk = Desk::with(Scheme::Solo, |_| ()).await;
    desk.setup(0, 2..=2, 0);
    // Each is paid apart, so each is a group.
    let user = |number: u32| {
        let program = bitcoin::WitnessProgram::new(
            bitcoin::WitnessVersion::V0,
            &[&[7; 16], &number.to_be_bytes()[..]].concat(),
        );
        let script = bitcoin::ScriptBuf::new_witness_program(&program.unwrap());
        bitcoin::Address::from_script(&script, bitcoin::Network::Regtest).unwrap().to_string()
    };
    let open = |desk: &mut Desk, number| desk.ask_extended(&user(number), 0.0, [0xff; 32], 4);
    let mut clients: Vec<Client> = (0..500).map(|number| Client::opened(&open(&mut desk, number))).collect();
    let mut said = desk.template(template(2, BLOCK_BITS)).await;
    assert!(desk.session.has_more(), "{} groups were told at once", said.len() / 2);
    let told = by_channel(&said);
    let untold = clients.iter().position(|client| !told.contains_key(&client.group)).unwrap();
    let group = clients[untold].group;
    let opened = open(&mut desk, untold as u32);
    let names: Vec<(&str, u32)> = names(&opened[..2]);
    assert_eq!(names, [("future extended job", group), ("prev hash", group)], "the others of it first");
    said.extend_from_slice(&opened[..2]);
    let mut newcomer = Client::opened(&opened[2..]);
    assert_eq!(newcomer.group, group);
    said.extend(desk.rest().0);
    assert!(by_channel(&said).values().all(|told| told == &["future extended job", "prev hash"]));
    for client in clients.iter_mut().chain([&mut newcomer]) {
        client.hear(&said);
        assert_eq!(super::names(&client.share().submit(&mut desk)), [("success", client.id)]);
    }
}

#[tokio::test]
async fn channels_from_before_any_work_are_told_in_slices() {
    for flags in [0, REQUIRES_STANDARD_JOBS] {
        let mut desk = Desk::set_up(flags).await;
        desk.posting = None;
        let mut clients: Vec<Client> = (0..MANY).map(|_| desk.standard()).collect();
        let mut said = desk.template(template(2, BLOCK_BITS)).await;
        said.extend(desk.template(newer(2, 1)).await);
        said.extend(desk.rest().0);
        for client in &mut clients {
            client.hear(&said);
            assert_eq!(names(&client.share().submit(&mut desk)), [("success", client.id)]);
        }
        let told = by_channel(&said);
        assert!(told.values().all(|told| told.starts_with(&["future job", "prev hash"])), "for itself first");
    }
}

#[tokio::test]
async fn a_deal_ends_with_its_channels() {
    let mut desk = Desk::set_up(REQUIRES_STANDARD_JOBS).await;
    let clients: Vec<Client> = (0..MANY).map(|_| desk.standard()).collect();
    desk.template(template(2, BLOCK_BITS)).await;
    assert!(desk.session.has_more());
    desk.say(&CloseChannel { channel_id: clients[0].group, reason_code: text("") });
    // A posting that the session is not told of, as it has no channels: who comes then begins with it.
    desk.template(template(3, BLOCK_BITS)).await;
    let mut client = desk.standard();
    assert!(desk.rest().0.is_empty());
    assert_eq!(names(&client.share().submit(&mut desk)), [("success", client.id)]);
    let tip = desk.template(template(4, BLOCK_BITS)).await;
    assert_eq!(names(&tip), [("future job", client.id), ("prev hash", client.id)]);
}

#[tokio::test]
async fn a_difficulty_that_changes_for_many_is_said_in_slices() {
    const COUNT: usize = 200;
    let mut desk =
        Desk::with(Scheme::Pplns { factor: 2 }, |config| config.vardiff.min = difficulty(1e-9)).await;
    desk.template(template(2, 0x1700_ffff)).await;
    desk.setup(0, 2..=2, 0);
    let mut clients: Vec<Client> = (0..COUNT)
        .map(|_| Client::opened(&desk.ask_standard(&format!("{ADDRESS}.w"), 1e12, [0xff; 32])))
        .collect();
    // Blocks are easy now, and no share is asked to be harder than those.
    let mut said = desk.template(template(3, BLOCK_BITS)).await;
    let first = desk.tick(0);
    let targets = |said: &[Said]| names(said).iter().filter(|(name, _)| *name == "target").count();
    assert!((1..=COUNT / 4).contains(&targets(&first)), "{}", targets(&first));
    // A look while some are to be told still adds nothing.
    let second = desk.tick(0);
    let (rest, slices) = desk.rest();
    assert!(slices >= 3, "{slices}");
    said.extend(first.into_iter().chain(second).chain(rest));
    assert_eq!(targets(&said), COUNT);
    let target = Target::from_compact(BLOCK_BITS).unwrap();
    for client in &mut clients {
        client.hear(&said);
        assert!(client.target.difficulty().get() <= target.difficulty().get() * 1.000_001);
    }
}
