//! Whose work comes over a connection: each worker once, however many channels it has.

use std::{collections::HashMap, sync::Arc};

use ledger::{Worker, WorkerId};

use crate::session::Outcome;

/// The workers of a connection, by index.
pub(super) struct Crew {
    places: Vec<Place>,
    index: HashMap<WorkerId, usize>,
    /// Nobody's.
    free: Vec<usize>,
    /// The same since the last look: what their workers handed in may still be under way to the spool.
    left: Vec<usize>,
    most: usize,
}

struct Place {
    worker: Arc<Worker>,
    /// How many channels, or names on channels, are this worker's.
    uses: u32,
}

impl Crew {
    /// For `most` workers.
    pub fn new(most: usize) -> Self {
        Self { places: Vec::new(), index: HashMap::new(), free: Vec::new(), left: Vec::new(), most }
    }

    /// The worker of this index.
    pub fn worker(&self, index: usize) -> Option<&Arc<Worker>> {
        self.places.get(index).map(|place| &place.worker)
    }

    /// Takes `worker` in. `None`: there are too many.
    pub fn join(&mut self, worker: Worker, out: &mut Outcome) -> Option<usize> {
        if let Some(&index) = self.index.get(&worker.id()) {
            self.places.get_mut(index)?.uses += 1;
            return Some(index);
        }
        let worker = Arc::new(worker);
        let place = Place { worker: worker.clone(), uses: 1 };
        let index = match self.free.pop() {
            Some(index) => {
                *self.places.get_mut(index)? = place;
                index
            }
            None if self.places.len() < self.most => {
                self.places.push(place);
                self.places.len() - 1
            }
            None => return None,
        };
        self.index.insert(worker.id(), index);
        out.authorized.push((index, worker));
        Some(index)
    }

    /// A channel of the worker of this index, or a name on one, is closed.
    pub fn leave(&mut self, index: usize, out: &mut Outcome) {
        let Some(place) = self.places.get_mut(index) else { return };
        place.uses = place.uses.saturating_sub(1);
        if place.uses == 0 {
            self.index.remove(&place.worker.id());
            self.left.push(index);
            out.left.push(index);
        }
    }

    /// What was handed in so far is in the spool: places that were left are free.
    pub fn tick(&mut self) {
        self.free.append(&mut self.left);
    }
}
