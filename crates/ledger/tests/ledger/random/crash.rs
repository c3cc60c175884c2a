//! Stops the ledger, or who pays, dead at one of their points.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use ledger::{PayPoint, Point, Settings};
use tokio::sync::Notify;

use super::Dice;

#[derive(Clone, Default)]
pub struct Crash {
    state: Arc<Mutex<State>>,
    pub reached: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// The next time that one of these is reached.
    armed: BTreeSet<String>,
    /// The next time that any is reached.
    at_any: bool,
    hits: BTreeMap<String, u32>,
}

impl Crash {
    pub fn settings(&self, batch: usize) -> Settings {
        let crash = self.clone();
        let halt = move |point: Point| crash.reach(format!("{point:?}"));
        Settings { batch, halt: Some(Arc::new(halt)), ..Settings::default() }
    }

    pub fn halt(&self) -> ledger::PayHalt {
        let crash = self.clone();
        Arc::new(move |point| crash.reach(format!("{point:?}")))
    }

    fn reach(&self, point: String) -> bool {
        let mut state = self.state.lock().unwrap();
        let is_now = state.armed.remove(&point) | std::mem::take(&mut state.at_any);
        if is_now {
            *state.hits.entry(point).or_default() += 1;
            self.reached.notify_one();
        }
        is_now
    }

    pub fn arm(&self, dice: &mut Dice) {
        let all: Vec<String> = points().collect();
        let pick = dice.below(all.len() as u64) as usize;
        self.state.lock().unwrap().armed.insert(all[pick].clone());
    }

    pub fn arm_any(&self) {
        self.state.lock().unwrap().at_any = true;
    }

    /// A restart has come before it.
    pub fn disarm_any(&self) {
        self.state.lock().unwrap().at_any = false;
    }

    pub fn hits(&self) -> u32 {
        self.state.lock().unwrap().hits.values().sum()
    }

    /// Points at which nothing has died.
    pub fn missed(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        points().filter(|point| !state.hits.contains_key(point)).collect()
    }
}

fn points() -> impl Iterator<Item = String> {
    let payer = PayPoint::ALL.iter().map(|point| format!("{point:?}"));
    Point::ALL.iter().map(|point| format!("{point:?}")).chain(payer)
}
