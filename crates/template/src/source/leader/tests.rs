use std::time::Duration;

use share::{Hash, Target};

use super::*;
use crate::Tip;

/// A leadership of nodes named "a", "b", …, whose clock is turned by hand.
struct Scene {
    leadership: Leadership,
    now: Instant,
    log: Vec<String>,
}

fn template(height: u32, prev: u8) -> Template {
    let bits = 0x207f_ffff;
    Template {
        height,
        prev_hash: [prev; 32],
        version: 0x2000_0000,
        bits,
        network_target: Target::from_compact(bits).unwrap(),
        time: 0,
        min_time: 0,
        coinbase_value: 0,
        witness_commitment: None,
        transactions: bytes::Bytes::new(),
        transaction_count: 0,
        branch: Vec::new(),
        long_poll: None,
    }
}

/// All blocks are worth the same.
fn look(height: u32, hash: u8) -> Look {
    Look { tip: Tip { hash: Hash::from([hash; 32]), height }, work: height.into(), doubts: Vec::new() }
}

impl Scene {
    fn new(nodes: usize) -> Self {
        let names = ["a", "b", "c"].iter().take(nodes).map(|name| (*name).to_owned()).collect();
        let leadership = Leadership::new(names, SourceConfig::default());
        Self { leadership, now: Instant::now(), log: Vec::new() }
    }

    /// What followed since the last look, as "leads a", "100/7" (a template of height 100 on block 7), "leaderless".
    #[track_caller]
    fn expect(&mut self, expect: &str) {
        assert_eq!(std::mem::take(&mut self.log).join(", "), expect);
    }

    fn wait(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        self.elect();
    }

    fn gives(&mut self, at: usize, height: u32, prev: u8) -> bool {
        self.offers(at, template(height, prev))
    }

    /// Gives a template of this value, in satoshi, and with so many transactions.
    fn pays(&mut self, at: usize, prev: u8, value: u64, count: usize) {
        let template = Template {
            coinbase_value: value,
            transaction_count: count,
            ..template(u32::from(prev) + 99, prev)
        };
        self.offers(at, template);
    }

    fn offers(&mut self, at: usize, template: Template) -> bool {
        let taken = self.leadership.template(at, self.now, self.now, template);
        self.elect();
        taken
    }

    fn stands_in(&mut self, at: usize, height: u32, prev: u8) {
        self.leadership.stand_in(at, self.now, template(height, prev));
        self.elect();
    }

    fn fails(&mut self, at: usize) {
        let answer = Err(NodeError::Unreachable("gone".into()));
        self.leadership.look(at, self.now, answer);
        self.elect();
    }

    fn lives(&mut self, at: usize, height: u32, hash: u8) -> bool {
        self.looks(at, look(height, hash))
    }

    fn looks(&mut self, at: usize, look: Look) -> bool {
        let due = self.leadership.look(at, self.now, Ok(look));
        self.elect();
        due
    }

    fn elect(&mut self) {
        for change in self.leadership.elect(self.now) {
            self.log.push(match change {
                Change::Leads(name) => format!("leads {name}"),
                Change::Leaderless => "leaderless".into(),
                Change::Publish(template) => format!("{}/{}", template.height, template.prev_hash[0]),
                Change::Confirm(template) => format!("{}/{} still", template.height, template.prev_hash[0]),
            });
        }
    }
}

#[test]
fn one_node() {
    let mut scene = Scene::new(1);
    scene.lives(0, 99, 1);
    scene.expect("");
    scene.gives(0, 100, 1);
    scene.expect("leads a, 100/1");
    assert!(!scene.lives(0, 99, 1), "the template is for this tip");
    assert!(scene.lives(0, 100, 2), "a template is due");
    scene.gives(0, 101, 2);
    scene.expect("101/2");
    scene.wait(1.0);
    scene.gives(0, 101, 2);
    scene.expect("101/2 still");
    scene.fails(0);
    scene.expect("leaderless");
    scene.fails(0);
    scene.wait(100.0);
    scene.expect("");
    assert!(scene.lives(0, 100, 2), "asked at once when it is back");
    scene.expect("");
    scene.gives(0, 101, 2);
    scene.expect("leads a, 101/2 still");
}

#[test]
fn a_reorganisation_of_the_leader_is_followed() {
    let mut scene = Scene::new(1);
    scene.gives(0, 100, 1);
    scene.gives(0, 100, 2);
    scene.gives(0, 98, 3);
    scene.expect("leads a, 100/1, 100/2, 98/3");
}

#[test]
fn an_old_template_does_not_lead() {
    let mut scene = Scene::new(2);
    scene.gives(0, 100, 1);
    scene.wait(15.0);
    scene.gives(1, 100, 1);
    scene.expect("leads a, 100/1");
    scene.wait(14.9);
    scene.expect("");
    scene.wait(0.1);
    scene.expect("leads b, 100/1 still");
    scene.wait(15.0);
    scene.expect("leaderless");
}

#[test]
fn the_next_takes_over_and_the_preferred_comes_back_when_it_has_settled() {
    let mut scene = Scene::new(3);
    scene.gives(1, 100, 1);
    scene.gives(0, 100, 1);
    scene.gives(2, 100, 1);
    scene.expect("leads b, 100/1");
    scene.wait(10.0);
    scene.expect("leads a");
    scene.fails(0);
    scene.expect("leads b");
    scene.wait(9.0);
    scene.lives(0, 99, 1);
    scene.gives(1, 100, 1);
    scene.expect("100/1 still");
    scene.wait(5.0);
    scene.fails(0);
    scene.lives(0, 99, 1);
    scene.gives(0, 100, 1);
    scene.wait(9.9);
    scene.expect("");
    scene.wait(0.1);
    scene.expect("leads a, 100/1 still");
}

#[test]
fn an_error_instead_of_a_template_counts_too() {
    let mut scene = Scene::new(2);
    scene.gives(0, 100, 1);
    scene.gives(1, 100, 1);
    scene.leadership.template_failed(0, &NodeError::Busy);
    scene.elect();
    scene.expect("leads a, 100/1, leads b");
    // That it answers the other question does not make it well.
    scene.lives(0, 99, 1);
    scene.wait(20.0);
    scene.expect("");
    let status = scene.leadership.status(scene.now);
    assert!(status[0].state.contains("work queue is full"), "{status:?}");
    assert_eq!((status[1].state.as_str(), status[1].leads), ("well", true));
    assert_eq!(status[1].template_age, Some(Duration::from_secs(20)));
}

#[test]
fn a_new_leader_does_not_take_the_height_back() {
    let mut scene = Scene::new(2);
    scene.gives(0, 101, 2);
    scene.gives(1, 100, 1);
    scene.fails(0);
    scene.expect("leads a, 101/2, leaderless");
    scene.wait(1.0);
    scene.gives(1, 101, 2);
    scene.expect("leads b, 101/2 still");
    // Unless nobody confirms the height for so long that it may be nobody's any more.
    scene.lives(0, 101, 3);
    scene.gives(0, 102, 3);
    scene.wait(2.0);
    scene.fails(0);
    scene.expect("102/3, leads a, leaderless");
    scene.wait(20.0);
    scene.gives(1, 101, 2);
    scene.expect("");
    scene.wait(8.0);
    scene.expect("leads b, 101/2");
}

#[test]
fn f05_the_most_work_is_mined_at_once_and_leads_if_it_stays_ahead() {
    let mut scene = Scene::new(2);
    scene.gives(0, 100, 1);
    scene.gives(1, 101, 2);
    scene.expect("leads a, 100/1, 101/2");
    scene.wait(1.9);
    scene.gives(0, 101, 2);
    scene.expect("101/2 still");
    scene.gives(1, 102, 3);
    scene.expect("102/3");
    // What has been published does not go back to what the leader still has.
    scene.gives(0, 101, 2);
    scene.expect("");
    scene.wait(2.0);
    scene.expect("leads b");
    // The preferred one is back when it has caught up.
    scene.wait(9.0);
    scene.expect("");
    scene.gives(0, 102, 3);
    scene.expect("leads a, 102/3 still");
}

#[test]
fn f07_what_a_node_takes_back_is_mined_no_more() {
    let mut scene = Scene::new(2);
    scene.gives(0, 100, 1);
    scene.gives(1, 101, 2);
    scene.expect("leads a, 100/1, 101/2");
    // It was ahead with a block that turned out to be invalid.
    scene.gives(1, 100, 1);
    scene.expect("100/1");
    // A node that has fallen silent may be right still.
    scene.gives(1, 101, 3);
    scene.fails(1);
    scene.expect("101/3");
    scene.wait(20.0);
    scene.gives(0, 100, 1);
    scene.wait(9.9);
    scene.expect("");
    scene.wait(0.1);
    scene.expect("100/1");
}

#[test]
fn of_two_tips_with_the_same_work_the_first_is_mined() {
    let mut scene = Scene::new(2);
    scene.gives(0, 100, 1);
    scene.gives(1, 101, 2);
    scene.expect("leads a, 100/1, 101/2");
    scene.gives(0, 101, 3);
    scene.expect("");
    scene.wait(1.0);
    scene.gives(1, 101, 2);
    scene.expect("101/2 still");
    scene.gives(0, 102, 4);
    scene.expect("102/4");
}

#[test]
fn f03_a_node_that_gives_no_full_templates_is_better_than_none() {
    let mut scene = Scene::new(1);
    scene.lives(0, 99, 1);
    scene.gives(0, 100, 1);
    scene.expect("leads a, 100/1");
    scene.leadership.template_failed(0, &NodeError::Busy);
    scene.lives(0, 100, 2);
    scene.stands_in(0, 101, 2);
    scene.expect("101/2");
    scene.lives(0, 101, 3);
    scene.stands_in(0, 102, 3);
    scene.expect("102/3");
    assert!(!scene.leadership.status(scene.now)[0].is_well);
    scene.fails(0);
    scene.expect("leaderless");
}

#[test]
fn f06_a_sibling_is_mined_when_the_leader_changes_to_it() {
    let mut scene = Scene::new(2);
    scene.gives(0, 101, 2);
    scene.gives(1, 101, 3);
    scene.expect("leads a, 101/2");
    scene.gives(0, 101, 4);
    scene.expect("101/4");
    scene.fails(0);
    scene.expect("leads b, 101/3");
}

#[test]
fn f05_work_counts_and_not_height() {
    let mut scene = Scene::new(2);
    scene.looks(0, Look { work: 1_000, ..look(99, 1) });
    scene.looks(1, Look { work: 1_001, ..look(98, 2) });
    scene.gives(0, 100, 1);
    scene.gives(1, 99, 2);
    scene.expect("leads a, 100/1, 99/2");
    scene.looks(0, Look { work: 1_002, ..look(100, 3) });
    scene.gives(0, 101, 3);
    scene.expect("101/3");
}

#[test]
fn f02_f04_a_doubtful_node_is_for_want_of_a_better_one() {
    let doubtful = || Look { doubts: vec!["it has no peers".into()], ..look(99, 1) };
    let mut scene = Scene::new(2);
    scene.looks(0, doubtful());
    scene.gives(0, 100, 1);
    scene.expect("leads a, 100/1");
    scene.gives(1, 100, 1);
    scene.wait(9.9);
    scene.expect("");
    scene.wait(0.1);
    scene.expect("leads b");
    // It may be ahead all the same: work counts more.
    scene.gives(0, 101, 2);
    scene.expect("101/2");
    scene.wait(1.0);
    scene.gives(1, 101, 2);
    scene.expect("101/2 still");
    assert_eq!(scene.leadership.status(scene.now)[0].state, "answers, but it has no peers");
    // Its doubts must have been over for a while.
    scene.lives(0, 100, 2);
    scene.wait(9.9);
    scene.expect("");
    scene.wait(0.1);
    scene.expect("leads a");
    // A clock that is wrong by a minute is another reason.
    let now = scene.now;
    scene.leadership.clock(0, now, -61);
    scene.gives(1, 101, 2);
    scene.expect("leads b, 101/2 still");
    let state = scene.leadership.status(scene.now)[0].state.clone();
    assert_eq!(state, "answers, but its clock is 61 s behind ours: set both by NTP");
    // When all are doubtful, the first one leads.
    scene.leadership.clock(1, now, 120);
    scene.wait(1.0);
    scene.expect("leads a");
}

#[test]
fn an_empty_template_stands_in_for_a_full_one() {
    let mut scene = Scene::new(1);
    scene.stands_in(0, 101, 2);
    scene.expect("");
    scene.pays(0, 1, 50_000, 3);
    scene.expect("leads a, 100/1");
    scene.stands_in(0, 101, 2);
    scene.expect("101/2");
    scene.stands_in(0, 101, 2);
    scene.expect("");
    scene.pays(0, 2, 50_000, 3);
    scene.expect("101/2");
    scene.stands_in(0, 101, 2);
    scene.expect("");
    // Asked for when the chain was shorter, or another.
    scene.stands_in(0, 100, 1);
    scene.stands_in(0, 101, 3);
    scene.expect("");
}

#[test]
fn on_the_same_tip_a_template_is_news_when_it_pays() {
    let mut scene = Scene::new(2);
    scene.pays(0, 1, 1_000_000, 0);
    scene.expect("leads a, 100/1");
    scene.pays(0, 1, 1_000_000, 1);
    scene.expect("100/1"); // the first transactions, at once
    scene.wait(20.0);
    scene.pays(0, 1, 1_004_999, 2);
    scene.expect("100/1 still");
    scene.pays(0, 1, 1_005_000, 2);
    scene.expect("100/1");
    // Much better, but too soon: it waits.
    scene.pays(0, 1, 2_000_000, 3);
    scene.wait(9.9);
    scene.expect("");
    scene.wait(0.1);
    scene.expect("100/1");
    scene.wait(15.0);
    scene.pays(0, 1, 1_900_000, 3);
    scene.expect("100/1 still");
}

#[test]
fn answers_that_overtake_each_other() {
    let check = |asked_before: bool, height: u32, prev: u8, expect: bool| {
        let mut scene = Scene::new(1);
        let before = scene.now;
        scene.wait(1.0);
        scene.gives(0, 101, 2);
        let asked = if asked_before { before } else { scene.now };
        let taken = scene.leadership.template(0, asked, scene.now, template(height, prev));
        assert_eq!(taken, expect, "{height}/{prev}");
    };
    check(true, 100, 1, false); // the answer of before the block came after the long poll
    check(true, 101, 3, false); // a sibling: ask again
    check(true, 102, 3, true); // plainly ahead
    check(true, 101, 2, true); // the same block, other transactions
    check(false, 100, 1, true); // asked after: the chain went back
    check(false, 101, 3, true);
}
