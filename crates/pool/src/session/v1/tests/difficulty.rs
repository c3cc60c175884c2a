//! The difficulty that is said: wishes, what agents need, what is remembered.

use super::*;

/// A network so hard that it bounds nothing.
const HARD_BITS: u32 = 0x1702_4b5b;

async fn desk(start: f64) -> Desk {
    let change = |config: &mut Config| {
        config.vardiff = VardiffConfig {
            start: difficulty(start),
            min: difficulty(0.5),
            max: difficulty(1e12),
            ..config.vardiff
        }
    };
    let mut desk = Desk::with(PPLNS, "/test/", change).await;
    desk.template(template(1, HARD_BITS)).await;
    desk
}

/// The difficulty that `lines` set, which a job must follow.
fn set(lines: &[Value]) -> Option<Difficulty> {
    let at = lines.iter().position(|line| line["method"] == "mining.set_difficulty")?;
    assert_eq!(lines[at + 1]["method"], "mining.notify", "C-37: {lines:?}");
    lines[at]["params"][0].as_f64().and_then(Difficulty::new)
}

fn is_power_of_two(difficulty: Difficulty) -> bool {
    difficulty.to_string().parse().is_ok_and(u64::is_power_of_two)
}

/// What a miner is told first.
fn start(desk: &mut Desk, agent: &str, password: &str) -> Difficulty {
    desk.ask(1, "mining.subscribe", json!([agent]));
    set(&desk.ask(2, "mining.authorize", json!([format!("{ADDRESS}.w"), password]))).unwrap()
}

#[tokio::test]
async fn c36_a_plain_positive_number() {
    let mut desk = desk(2048.0).await;
    desk.ask(1, "mining.subscribe", json!([]));
    let lines = desk.ask(2, "mining.authorize", json!([ADDRESS, "x"]));
    assert_eq!(lines[1]["params"].to_string(), "[2048]");
    for (wish, text) in [(json!(1e6), "[1000000]"), (json!("0.75"), "[0.75]"), (json!(1e9), "[1000000000]")] {
        let lines = desk.ask(3, "mining.suggest_difficulty", json!([wish]));
        assert_eq!(lines[1]["params"].to_string(), text);
    }
}

#[tokio::test]
async fn c36_more_than_31_bits_only_for_who_names_more() {
    const MOST: f64 = 2_147_483_647.0;
    let mut desk = desk(1e11).await;
    assert_eq!(start(&mut desk, "test/1", "x"), difficulty(MOST), "whatever the pool starts at");
    desk.reconnect();
    assert_eq!(start(&mut desk, "test/1", "d=2147483647"), difficulty(MOST));
    desk.reconnect();
    assert_eq!(start(&mut desk, "test/1", "d=5e9"), difficulty(5e9));
    desk.reconnect();
    assert_eq!(start(&mut desk, "test/1", "md=4294967296"), difficulty(4_294_967_296.0));
}

#[tokio::test]
async fn c54_every_form_of_a_suggestion_before_and_after_authorize() {
    let forms = [
        ("mining.suggest_difficulty", json!([4096])),
        ("mining.suggest_difficulty", json!([4096.0])),
        ("mining.suggest_difficulty", json!(["4096"])),
        ("mining.suggest_difficulty(4096)", json!([])),
        (
            "mining.suggest_target",
            json!(["00000000000ffff0000000000000000000000000000000000000000000000000"]),
        ),
    ];
    for (method, params) in forms {
        let mut before = desk(1024.0).await;
        accepted(&before.ask(7, method, params.clone()));
        assert_eq!(start(&mut before, "test/1", "x"), difficulty(4096.0), "{method} {params}");

        let mut after = desk(1024.0).await;
        assert_eq!(start(&mut after, "test/1", "x"), difficulty(1024.0));
        let lines = after.ask(7, method, params.clone());
        accepted(&lines);
        assert_eq!(set(&lines), Some(difficulty(4096.0)), "{method} {params}");
        // Where to start, not where to stay: it goes down from there when nothing comes.
        let lower = (0..60).find_map(|_| set(&after.tick(5_000)));
        assert!(lower.is_some_and(|lower| lower < difficulty(1000.0)), "{lower:?}");
    }
}

#[tokio::test]
async fn c54_f33_suggestions_that_make_no_sense() {
    let mut desk = desk(1024.0).await;
    start(&mut desk, "test/1", "x");
    for wish in
        [json!([0]), json!([-1]), json!(["NaN"]), json!(["inf"]), json!([null]), json!([]), json!([[1]])]
    {
        let lines = desk.ask(7, "mining.suggest_difficulty", wish.clone());
        accepted(&lines);
        assert_eq!(lines.len(), 1, "{wish}");
    }
    // A number like any other, held within the bounds: here by the difficulty of a block.
    let network = Target::from_compact(HARD_BITS).unwrap().difficulty().get();
    let most = set(&desk.ask(7, "mining.suggest_difficulty", json!([1e308])));
    assert_eq!(most, Some(difficulty(network.min(1e12))));
    let least = set(&desk.ask(7, "mining.suggest_difficulty", json!([1e-308])));
    assert_eq!(least, Some(difficulty(0.5)));
    let target = json!(["f".repeat(64)]);
    assert_eq!(desk.ask(7, "mining.suggest_target", target).len(), 1, "as low as it is already");
}

#[tokio::test]
async fn c55_nicehash() {
    let mut desk = desk(1024.0).await;
    accepted(&desk.ask(0, "mining.extranonce.subscribe", json!([])));
    let lines = desk.ask(1, "mining.subscribe", json!(["NiceHash/1.0.0"]));
    assert!(lines[0].as_object().unwrap().contains_key("error"));
    // The first job comes with the answer, and at least at 500,000, as a power of two.
    let lines = desk.ask(2, "mining.authorize", json!([format!("{ADDRESS}.w"), "d=500000"]));
    assert_eq!(methods(&lines), ["reply", "mining.set_difficulty", "mining.notify"]);
    assert_eq!(set(&lines), Some(difficulty(524_288.0)));
    desk.now_ms += 1_000;
    assert_eq!(
        set(&desk.ask(3, "mining.suggest_difficulty", json!([9_000_000]))),
        Some(difficulty(8_388_608.0))
    );
    // Lowered for silence, it stays a power of two and never goes below.
    let said: Vec<Difficulty> = (0..200).filter_map(|_| set(&desk.tick(5_000))).collect();
    assert!(said.len() > 1 && said.iter().all(|said| is_power_of_two(*said)), "{said:?}");
    assert_eq!(said.last(), Some(&difficulty(524_288.0)));
}

#[tokio::test]
async fn c55_nicehash_has_one_job_a_second_at_most() {
    let mut desk = desk(1024.0).await;
    start(&mut desk, "NiceHash/1.0.0", "x");
    let mut jobs = 0;
    for _ in 0..50 {
        desk.now_ms += 100;
        desk.template(template(1, HARD_BITS)).await;
        jobs += desk.lines().len();
    }
    assert_eq!(jobs, 5, "in five seconds");
    desk.template(template(2, HARD_BITS)).await;
    assert_eq!(desk.lines().len(), 1, "a new block does not wait");
}

/// The id of the job in `lines`.
fn job(lines: &[Value]) -> String {
    lines.last().unwrap()["params"][0].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn c34_miners_that_change_at_once_share_their_jobs_and_none_has_one_twice() {
    let mut desk = desk(1024.0).await;
    let mut sessions: Vec<Session> = (0..100)
        .map(|_| {
            start(&mut desk, "test/1", "x");
            let next = Session::new(desk.config.clone(), desk.space.clone(), desk.board.clone());
            std::mem::replace(&mut desk.session, next)
        })
        .collect();
    let mut given: Vec<Vec<String>> = vec![Vec::new(); sessions.len()];
    for round in 1..=5 {
        for (session, given) in sessions.iter_mut().zip(&mut given) {
            std::mem::swap(&mut desk.session, session);
            let wish = 1024.0 * 2f64.powi(round);
            let lines = desk.ask(3, "mining.suggest_difficulty", json!([wish]));
            assert_eq!(set(&lines), Some(difficulty(wish)));
            given.push(job(&lines));
            std::mem::swap(&mut desk.session, session);
        }
    }
    let distinct = |jobs: &[String]| jobs.iter().collect::<std::collections::HashSet<_>>().len();
    assert!(given.iter().all(|jobs| distinct(jobs) == 5));
    assert_eq!(distinct(&given.concat()), 5, "five for all of them");
}

#[tokio::test]
async fn c37_where_there_is_none_to_share_a_job_is_made_for_the_one() {
    let mut desk = desk(1024.0).await;
    start(&mut desk, "test/1", "x");
    let next = Session::new(desk.config.clone(), desk.space.clone(), desk.board.clone());
    let other = std::mem::replace(&mut desk.session, next);
    start(&mut desk, "test/1", "x");
    let mut wished = 1024.0;
    let mut jobs = Vec::new();
    let mut wish = |desk: &mut Desk| {
        wished *= 2.0;
        let lines = desk.ask(3, "mining.suggest_difficulty", json!([wished]));
        assert_eq!(set(&lines), Some(difficulty(wished)), "at once");
        jobs.push(job(&lines));
    };
    (0..7).for_each(|_| wish(&mut desk));
    desk.session = other;
    (0..7).for_each(|_| wish(&mut desk));
    // The first of the other's is the last of the one's, and no more than eight are for all.
    assert_eq!(jobs[7], jobs[6]);
    jobs.dedup();
    assert_eq!(jobs.iter().collect::<std::collections::HashSet<_>>().len(), 13);
}

#[tokio::test]
async fn a_flood_of_wishes_makes_no_flood_of_jobs() {
    let mut desk = desk(1024.0).await;
    start(&mut desk, "test/1", "x");
    let mut jobs = 0;
    for wish in 0..1_000 {
        let lines = desk.ask(7, "mining.suggest_difficulty", json!([2000 + wish]));
        jobs += usize::from(set(&lines).is_some());
    }
    assert!(jobs <= 8, "{jobs}");
    assert_eq!(set(&desk.tick(1_000)), Some(difficulty(2999.0)), "the last wish is not forgotten");
}

/// A worker that has had a share at `SHARE` times `factor`, and left.
async fn worked(factor: f64) -> Desk {
    let mut desk = Desk::new(PPLNS).await;
    let subscribed = desk.ask(1, "mining.subscribe", json!(["test/1"]))[0]["result"].clone();
    desk.ask(2, "mining.suggest_difficulty", json!([SHARE * factor]));
    let notify = desk.ask(3, "mining.authorize", json!([format!("{ADDRESS}.w"), "x"])).pop().unwrap();
    let share = solve(&subscribed, &notify, |hash| difficulty(SHARE * factor).target().is_met_by(hash));
    accepted(&desk.ask(4, "mining.submit", share));
    desk.reconnect();
    desk
}

#[tokio::test]
async fn a_worker_that_comes_back_starts_where_it_was() {
    let mut desk = worked(8.0).await;
    desk.now_ms += 23 * 3_600_000;
    assert_eq!(start(&mut desk, "test/1", "x"), difficulty(SHARE * 8.0));

    // In the other order of authorize and subscribe as well.
    let mut desk = worked(8.0).await;
    desk.ask(1, "mining.authorize", json!([format!("{ADDRESS}.w"), "x"]));
    assert_eq!(set(&desk.ask(2, "mining.subscribe", json!([]))), Some(difficulty(SHARE * 8.0)));

    // Not another worker, and not for ever.
    let mut desk = worked(8.0).await;
    desk.ask(1, "mining.subscribe", json!([]));
    let lines = desk.ask(2, "mining.authorize", json!([format!("{ADDRESS}.other"), "x"]));
    assert_eq!(set(&lines), Some(difficulty(SHARE)));
    let mut desk = worked(8.0).await;
    desk.now_ms += 25 * 3_600_000;
    assert_eq!(start(&mut desk, "test/1", "x"), difficulty(SHARE));
}

#[tokio::test]
async fn a_wish_comes_before_what_is_remembered() {
    let mut desk = worked(8.0).await;
    assert_eq!(start(&mut desk, "test/1", &format!("d={}", SHARE * 2.0)), difficulty(SHARE * 2.0));
    let mut desk = worked(8.0).await;
    desk.ask(1, "mining.suggest_difficulty", json!([SHARE * 3.0]));
    assert_eq!(start(&mut desk, "test/1", "x"), difficulty(SHARE * 3.0));
    let mut desk = worked(8.0).await;
    assert_eq!(start(&mut desk, "test/1", &format!("md={}", SHARE * 16.0)), difficulty(SHARE * 16.0));
}

#[tokio::test]
async fn nobody_is_remembered_for_words_alone() {
    let mut desk = Desk::new(PPLNS).await;
    assert_eq!(start(&mut desk, "test/1", &format!("d={}", SHARE * 8.0)), difficulty(SHARE * 8.0));
    desk.reconnect();
    assert_eq!(start(&mut desk, "test/1", "x"), difficulty(SHARE));
}

#[tokio::test]
async fn f51_shares_that_cannot_be_stored_are_no_silence() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, notify) = desk.begin();
    desk.storing = false;
    let tried = std::cell::RefCell::new(std::collections::HashSet::new());
    for _ in 0..100 {
        assert!(desk.tick(6_000).is_empty(), "at the wanted pace nothing changes");
        let share = solve(&subscribed, &notify, |hash| is_share(hash) && tried.borrow_mut().insert(*hash));
        assert_eq!(code(&desk.ask(4, "mining.submit", share)), 20);
    }
    assert!(desk.out.credits.is_empty());
}

#[tokio::test]
async fn c37_raised_and_lowered() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, easy) = desk.begin();
    let hard = desk.ask(5, "mining.suggest_difficulty", json!([SHARE * 16.0])).pop().unwrap();
    let meets = |low: f64, high: f64| {
        move |hash: &[u8; 32]| {
            difficulty(low).target().is_met_by(hash)
                && !difficulty(high).target().is_met_by(hash)
                && !is_block(hash)
        }
    };
    // After raising: old jobs at the old difficulty.
    let old = solve(&subscribed, &easy, meets(SHARE, SHARE * 16.0));
    accepted(&desk.ask(4, "mining.submit", old));
    assert_eq!(desk.out.credits.pop().unwrap().record.work, difficulty(SHARE).target().work());
    let below = solve(&subscribed, &hard, meets(SHARE, SHARE * 16.0));
    assert_eq!(code(&desk.ask(4, "mining.submit", below.clone())), 23);
    // After lowering: old jobs at the lower one for a while, and at their own if they meet it.
    desk.ask(6, "mining.suggest_difficulty", json!([SHARE]));
    accepted(&desk.ask(4, "mining.submit", below));
    assert_eq!(desk.out.credits.pop().unwrap().record.work, difficulty(SHARE).target().work());
    let good = solve(&subscribed, &hard, |hash| {
        difficulty(SHARE * 16.0).target().is_met_by(hash) && !is_block(hash)
    });
    accepted(&desk.ask(4, "mining.submit", good));
    assert_eq!(desk.out.credits.pop().unwrap().record.work, difficulty(SHARE * 16.0).target().work());
    desk.now_ms += 20_000;
    let late = solve(&subscribed, &hard, |hash| meets(SHARE, SHARE * 16.0)(hash) && hash[0] & 1 == 1);
    let lines = desk.ask(4, "mining.submit", late);
    assert!(code(&lines) == 23 || code(&lines) == 22);
}

#[tokio::test]
async fn passwords_and_wishes_set_the_start() {
    let mut desk = Desk::new(PPLNS).await;
    desk.ask(1, "mining.suggest_difficulty", json!([SHARE * 4.0]));
    desk.ask(1, "mining.subscribe", json!([]));
    let lines = desk.ask(2, "mining.authorize", json!([ADDRESS, "x"]));
    assert_eq!(lines[1]["params"][0], json!(SHARE * 4.0));

    desk.reconnect();
    desk.ask(1, "mining.subscribe", json!([]));
    let lines = desk.ask(2, "mining.authorize", json!([ADDRESS, format!("d={},md=0", SHARE * 8.0)]));
    assert_eq!(lines[1]["params"][0], json!(SHARE * 8.0));
}

#[tokio::test]
async fn difficulty_stays_below_that_of_a_block() {
    let mut desk = Desk::new(PPLNS).await;
    desk.begin();
    let lines = desk.ask(5, "mining.suggest_difficulty", json!([1000]));
    assert_eq!(methods(&lines), ["reply", "mining.set_difficulty", "mining.notify"]);
    let network = Target::from_compact(BLOCK_BITS).unwrap().difficulty().get();
    assert_eq!(lines[1]["params"][0], json!(network));
}
