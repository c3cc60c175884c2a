//! F-32: difficulties go up and down while shares are on their way.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// The miner names a difficulty: `SHARE` by a power of two.
    Suggest(i32),
    /// Time passes, in milliseconds.
    Wait(u64),
    /// Another template for the same block, or for the next.
    Template(bool),
    /// A share of one of the last jobs, as hard as its job's difficulty by a power of two (or harder).
    Submit { back: usize, power: i32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (-3..4i32).prop_map(Step::Suggest),
        2 => (0..20_000u64).prop_map(Step::Wait),
        1 => prop::bool::weighted(0.3).prop_map(Step::Template),
        8 => (0..6usize, -5..2i32).prop_map(|(back, power)| Step::Submit { back, power }),
    ]
}

/// A job as the miner knows it.
struct Job {
    notify: Value,
    /// The difficulty that was said before it.
    difficulty: f64,
}

struct Miner {
    desk: Desk,
    subscribed: Value,
    jobs: Vec<Job>,
    said: f64,
    tried: HashSet<[u8; 32]>,
}

impl Miner {
    fn hear(&mut self, lines: &[Value]) {
        for line in lines {
            match line["method"].as_str() {
                Some("mining.set_difficulty") => self.said = line["params"][0].as_f64().unwrap(),
                Some("mining.notify") => {
                    if line["params"][8] == json!(true) {
                        self.jobs.clear();
                    }
                    self.jobs.push(Job { notify: line.clone(), difficulty: self.said });
                }
                _ => {}
            }
        }
    }

    fn submit(&mut self, back: usize, power: i32) {
        let Some(job) = self.jobs.iter().rev().nth(back) else { return };
        let wanted = difficulty(job.difficulty * 2f64.powi(power)).target();
        let (found, tried) = (std::cell::Cell::new([0; 32]), &self.tried);
        let share = solve(&self.subscribed, &job.notify, |hash| {
            found.set(*hash);
            wanted.is_met_by(hash) && !tried.contains(hash)
        });
        let hash = found.get();
        let own = difficulty(job.difficulty).target();
        self.tried.insert(hash);
        self.desk.out.credits.clear();
        let lines = self.desk.ask(4, "mining.submit", share);
        let credit = self.desk.out.credits.first().map(|credit| credit.record.work);
        if own.is_met_by(&hash) {
            accepted(&lines);
            assert_eq!(credit, Some(own.work()), "a share of its job earns the work of its job");
        } else if let Some(credit) = credit {
            // In the grace after lowering: for what it met, which is less than its job's.
            accepted(&lines);
            let met = Target::from_le_bytes(hash).work();
            assert!(credit < own.work() && credit <= met, "{credit} of {met}");
            let last = self.jobs.last().map(|job| difficulty(job.difficulty).target().work());
            assert!(Some(credit) >= last, "{credit}, and {last:?} is what the last job earns");
        } else {
            assert_eq!(code(&lines[..1]), 23);
        }
        self.hear(&lines);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn c37_f32_every_share_is_judged_by_its_own_job(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let desk = Desk::new(PPLNS).await;
            let mut miner =
                Miner { desk, subscribed: Value::Null, jobs: Vec::new(), said: 0.0, tried: HashSet::new() };
            miner.subscribed = miner.desk.ask(1, "mining.subscribe", json!([]))[0]["result"].clone();
            let lines = miner.desk.ask(2, "mining.authorize", json!([format!("{ADDRESS}.w"), "x"]));
            miner.hear(&lines);
            for (tip, step) in steps.into_iter().enumerate() {
                let lines = match step {
                    Step::Suggest(power) => {
                        let wish = json!([SHARE * 2f64.powi(power)]);
                        miner.desk.ask(5, "mining.suggest_difficulty", wish)
                    }
                    Step::Wait(ms) => miner.desk.tick(ms),
                    Step::Template(is_new) => {
                        let before = miner.desk.posting.as_ref().map_or(1, |one| one.template.prev_hash[0]);
                        let prev = if is_new { 1 + tip as u8 } else { before };
                        miner.desk.template(template(prev, BLOCK_BITS)).await;
                        miner.desk.lines()
                    }
                    Step::Submit { back, power } => {
                        miner.submit(back, power);
                        Vec::new()
                    }
                };
                miner.hear(&lines);
            }
        });
    }
}

#[tokio::test]
async fn c37_what_meets_just_the_lower_difficulty_is_taken_a_few_times_only() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, _) = desk.begin();
    let mut taken = 0;
    for round in 0..6 {
        let hard = desk.ask(5, "mining.suggest_difficulty", json!([SHARE * 4.0])).pop().unwrap();
        desk.now_ms += 2_000;
        let between = |nonce: u8| {
            move |hash: &[u8; 32]| {
                difficulty(SHARE).target().is_met_by(hash)
                    && !difficulty(SHARE * 4.0).target().is_met_by(hash)
                    && !is_block(hash)
                    && hash[1] % 4 == nonce
            }
        };
        let kept: Vec<Value> = (0..4).map(|nonce| solve(&subscribed, &hard, between(nonce))).collect();
        desk.ask(6, "mining.suggest_difficulty", json!([SHARE]));
        for share in kept {
            let lines = desk.ask(4, "mining.submit", share);
            taken += usize::from(lines[0]["result"] == true);
            assert!(lines[0]["result"] == true || code(&lines[..1]) == 23, "round {round}: {lines:?}");
        }
        desk.now_ms += 2_000;
    }
    assert_eq!(taken, 8);
}

#[tokio::test]
async fn c46_a_block_counts_after_a_resume_before_anybody_is_authorized() {
    let mut desk = Desk::new(PPLNS).await;
    let (subscribed, notify) = desk.begin();
    let block = solve(&subscribed, &notify, is_block);
    let id = subscribed[0][1][1].clone();
    desk.reconnect();
    desk.ask(1, "mining.subscribe", json!(["test/1", id]));
    assert_eq!(code(&desk.ask(4, "mining.submit", block)), 24);
    let solved: Vec<_> = desk.out.solved.drain(..).collect();
    assert_eq!(solved.len(), 1);
    assert!(desk.out.credits.is_empty());
}
