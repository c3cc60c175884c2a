//! What channels are given to do.

use super::*;

#[tokio::test]
async fn the_first_a_channel_hears_of_is_a_job_to_come_and_that_it_has_come() {
    for flags in [0, REQUIRES_STANDARD_JOBS, REQUIRES_VERSION_ROLLING] {
        let mut desk = Desk::set_up(flags).await;
        let said = desk.ask_standard(ADDRESS, 0.0, [0xff; 32]);
        let id = Client::opened(&said).id;
        assert_eq!(names(&said), [("standard", id), ("future job", id), ("prev hash", id)]);
    }
    let mut desk = Desk::set_up(0).await;
    let said = desk.ask_extended(ADDRESS, 0.0, [0xff; 32], 4);
    let id = Client::opened(&said).id;
    assert_eq!(names(&said), [("extended", id), ("future extended job", id), ("prev hash", id)]);
}

#[tokio::test]
async fn a_channel_that_is_opened_without_work_has_it_as_soon_as_there_is_some() {
    for flags in [0, REQUIRES_STANDARD_JOBS] {
        let mut desk = Desk::set_up(flags).await;
        let posting = desk.posting.take();
        let said = desk.ask_standard(ADDRESS, 0.0, [0xff; 32]);
        let mut client = Client::opened(&said);
        assert_eq!(names(&said), [("standard", client.id)]);
        assert!(desk.session.lacks(0));
        desk.posting = posting;
        let said = desk.event(|session, now, out| session.posted(now, out));
        assert_eq!(names(&said), [("future job", client.id), ("prev hash", client.id)]);
        client.hear(&said);
        assert_eq!(names(&client.share().submit(&mut desk)), [("success", client.id)]);
    }
}

#[tokio::test]
async fn a_group_is_told_once_and_who_takes_standard_jobs_only_each() {
    let mut desk = Desk::set_up(0).await;
    let clients = [desk.extended(), desk.standard(), desk.extended()];
    let group = clients[0].group;
    assert!(clients.iter().all(|client| client.group == group));
    let said = desk.template(template(2, BLOCK_BITS)).await;
    assert_eq!(names(&said), [("future extended job", group), ("prev hash", group)]);
    // Newer work on the same block is for now.
    let mut newer = (*template(2, BLOCK_BITS)).clone();
    newer.coinbase_value += 1;
    let said = desk.template(Arc::new(newer)).await;
    assert_eq!(names(&said), [("extended job", group)]);

    let mut desk = Desk::set_up(REQUIRES_STANDARD_JOBS).await;
    let clients = [desk.standard(), desk.standard()];
    let mut told = names(&desk.template(template(2, BLOCK_BITS)).await);
    told.sort_by_key(|(_, id)| *id);
    let [one, two] = clients.map(|client| client.id);
    let expect = [("future job", one), ("prev hash", one), ("future job", two), ("prev hash", two)];
    assert_eq!(told, expect, "nothing for the group, nothing extended");
    let mut newer = (*template(2, BLOCK_BITS)).clone();
    newer.coinbase_value += 1;
    let mut told = names(&desk.template(Arc::new(newer)).await);
    told.sort_by_key(|(_, id)| *id);
    assert_eq!(told, [("job", one), ("job", two)]);
}

#[tokio::test]
async fn an_empty_template_begins_a_block_and_a_full_one_follows_for_now() {
    let mut desk = Desk::set_up(0).await;
    let mut client = desk.extended();
    client.hear(&desk.template(template(2, BLOCK_BITS)).await);
    let mut full = (*template(2, BLOCK_BITS)).clone();
    (full.transaction_count, full.branch) = (1, vec![[4; 32]]);
    let said = desk.template(Arc::new(full)).await;
    client.hear(&said);
    assert_eq!(names(&said), [("extended job", client.group)]);
    let [empty, full] = [&client.jobs[0], &client.jobs[1]].map(|job| job.id);
    assert_ne!(empty, full);
    for job in [empty, full] {
        let share = Share { job, ..client.share() };
        assert_eq!(
            names(&share.submit(&mut desk)),
            [("success", client.id)],
            "both are good until the next block"
        );
    }
}

#[tokio::test]
async fn every_job_may_roll_its_version_and_no_two_are_alike() {
    let mut desk = Desk::set_up(REQUIRES_VERSION_ROLLING).await;
    let mut client = desk.extended();
    for prev in 2..6 {
        client.hear(&desk.template(template(prev, BLOCK_BITS)).await);
        let job = client.jobs.last().unwrap().clone();
        let Root::Of(extended) = &job.root else { panic!("{job:?}") };
        assert!(extended.version_rolling_allowed);
        assert_eq!((job.version, job.time), (0x2000_0000, Some((NOW / 1000) as u32)));
        assert!(!extended.coinbase_tx_prefix.get().starts_with(&[2, 0, 0, 0, 0]), "no marker of a witness");
        let script = extended.coinbase_tx_prefix.get()[41];
        assert!(script <= 100, "a coinbase script of {script} bytes");
    }
}

#[tokio::test]
async fn who_is_paid_apart_is_a_group_apart() {
    let mut desk = Desk::with(Scheme::Solo, |_| ()).await;
    desk.setup(0, 2..=2, 0);
    let mut one = desk.extended();
    let mut two = Client::opened(&desk.ask_extended(&format!("{OTHER}.w"), 0.0, [0xff; 32], 4));
    assert_ne!(one.group, two.group);
    let said = desk.template(template(2, BLOCK_BITS)).await;
    assert_eq!(said.len(), 4);
    one.hear(&said);
    two.hear(&said);
    let pays = |client: &Client, user: &str| {
        let Root::Of(job) = &client.jobs[0].root else { panic!("{client:?}") };
        let script = Worker::parse(user, bitcoin::Network::Regtest).unwrap().script().to_vec();
        job.coinbase_tx_suffix.get().windows(script.len()).any(|part| part == script)
    };
    assert!(pays(&one, ADDRESS) && !pays(&one, OTHER) && pays(&two, OTHER) && !pays(&two, ADDRESS));
    let worker = |user: &str| Worker::parse(user, bitcoin::Network::Regtest).unwrap();
    let class = |user: &str| desk.board.class(&worker(user), 500);
    assert!(matches!(class(ADDRESS), Class::Miner(_)));
    // The block of each pays whom it is of.
    for client in [&mut one, &mut two] {
        assert_eq!(names(&client.share().submit(&mut desk)), [("success", client.id)]);
    }
}

#[tokio::test]
async fn without_work_miners_are_let_go() {
    let mut desk = Desk::set_up(0).await;
    desk.extended();
    desk.posting = None;
    desk.event(|session, now, out| session.posted(now, out));
    assert_eq!(desk.out.close, Some(Closed::NoWork));
    let mut desk = Desk::set_up(0).await;
    desk.posting = None;
    desk.extended_without_work();
    desk.tick(1);
    desk.tick(14_000);
    assert_eq!(desk.out.close, None, "who comes at a bad time waits a little");
    desk.tick(2_000);
    assert_eq!(desk.out.close, Some(Closed::NoWork));
}

impl Desk {
    fn extended_without_work(&mut self) {
        let said = self.ask_extended(ADDRESS, 0.0, [0xff; 32], 4);
        assert_eq!(said.len(), 1, "{said:?}");
    }
}

#[tokio::test]
async fn channels_that_change_at_once_share_their_jobs() {
    let mut desk = Desk::set_up(0).await;
    let clients: Vec<Client> = (0..100).map(|_| desk.extended()).collect();
    let mut ids = std::collections::HashSet::new();
    for (round, client) in (1..=12u32).flat_map(|round| clients.iter().map(move |client| (round, client))) {
        let maximum_target = difficulty(f64::from(round) * 1e-9).target().to_le_bytes();
        let (channel_id, nominal_hash_rate) = (client.id, HashRate(0.0));
        let said = desk.say(&UpdateChannel { channel_id, nominal_hash_rate, maximum_target });
        assert_eq!(names(&said)[0], ("target", client.id));
        for message in &said[1..] {
            let Said::Mining(Mining::NewExtendedMiningJob(job)) = message else { panic!("{message:?}") };
            assert_eq!(job.channel_id, client.id);
            assert!(ids.insert((client.id, job.job_id)), "no channel has one twice");
        }
    }
    let jobs: std::collections::HashSet<u32> = ids.iter().map(|(_, job)| *job).collect();
    assert_eq!((jobs.len(), ids.len()), (8, 800), "a few for all of them");
}
