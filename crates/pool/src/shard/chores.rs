//! What a shard does beside serving sockets: each now and then, or when it is woken for it.
//!
//! It is kept out of the turns that serve a share. Those come a millisecond apart, which is long enough for all else that
//! runs on the machine to take the processor's caches: each line of code or data that is merely looked at is paid for.

use std::{
    mem,
    sync::{PoisonError, atomic::Ordering},
};

use super::Shard;

/// How often chores are due while sockets keep the loop turning, in milliseconds. When nothing does, they are done as
/// often as the shard is woken: [`super::IDLE`].
const CHORES_MS: u64 = 20;
/// How often each connection is looked after, in milliseconds: its difficulty when it is silent, its time limits.
pub(super) const LOOK_AFTER_MS: u64 = 2_000;
/// How often refused submissions go to the spool, in seconds.
const REJECTS_EVERY: u64 = 10;
/// How often the list of workers is shown, in seconds; for each thousand of them a second less often.
const SHOW_WORKERS_EVERY: u64 = 2;
/// How often a spool that refused is tried again, in seconds.
const PROBE_EVERY: u64 = 5;

impl Shard {
    /// Looks whether to stop, sends new work, and looks after connections.
    #[inline(never)]
    pub(super) fn do_chores(&mut self) {
        let is_woken = mem::replace(&mut self.chores_ms, self.now.ms + CHORES_MS) == 0;
        self.is_stopping = self.house.stop.load(Ordering::Relaxed);
        self.fan_out();
        self.look_after();
        let second = self.now.ms / 1000;
        // Who wakes it may be about to ask, and not when its own second ends.
        if is_woken || second != self.second {
            self.each_second(second);
        }
    }

    fn look_after(&mut self) {
        let limits = self.house.config.limits;
        for index in self.look_after.due(self.places, self.now.ms) {
            let Some(connection) = self.connections.get(index) else { continue };
            if let Some(why) = connection.overdue(&limits, self.now.ms) {
                self.close(index, why);
            } else if !connection.is_blocked() {
                self.hear(index, |connection, now, out| connection.session.tick(now, out));
            }
        }
        self.settle();
    }

    fn each_second(&mut self, second: u64) {
        let has_come = |every: u64| second / every != self.second / every;
        if has_come(REJECTS_EVERY) {
            self.turn.save_rejects(self.now);
        }
        if has_come(PROBE_EVERY) {
            self.turn.is_storing = true;
        }
        self.second = second;
        let workers = (second >= self.show_workers).then(|| self.turn.tallies.states(self.now.unix_ms));
        if let Some(workers) = &workers {
            // It is a list for people, who can wait; many are shown less often still.
            self.show_workers = second + SHOW_WORKERS_EVERY + workers.len() as u64 / 1000;
        }
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.connections = self.connections.len();
        view.rejects = self.turn.rejects;
        view.storing = self.turn.is_storing;
        if workers.is_some() {
            view.workers = workers;
        }
    }
}
