//! A turn of a shard's loop: what its sessions said is first stored, all of it at once, and then sent.
//!
//! The replies of a turn stand behind each other in one buffer. So a share costs no allocation from the socket to its
//! reply, and the shares of all connections that were ready together cost one write to the spool.

use std::ops::Range;

use ledger::{RejectRecord, SpoolWriter};
use share::Reason;
use template::{Solved, Submitter};

use crate::{
    Limits, clock::Moment, closed::Closed, connection::Connection, roster::Tallies, session::Outcome,
};

/// So much room for replies is kept from turn to turn, in bytes.
const KEPT: usize = 256 * 1024;

/// What the sessions of a shard led to in this turn, and where it goes.
pub(crate) struct Turn {
    /// What the session that has its say adds to.
    pub out: Outcome,
    /// What is due to whom, in the order of its coming.
    due: Vec<Due>,
    spool: SpoolWriter,
    submitter: Submitter,
    pub tallies: Tallies,
    pub rejects: [u64; Reason::ALL.len()],
    /// False while the spool does not take what it is given.
    pub is_storing: bool,
    /// Whether something of this turn could not be stored.
    is_lost: bool,
}

/// What a connection is due at the end of the turn.
pub(crate) struct Due {
    /// Which connection.
    pub connection: usize,
    /// Where its bytes stand in [`Turn::reply`].
    pub bytes: Range<usize>,
    /// Whether it is to be closed then, and why.
    pub close: Option<Closed>,
    has_shares: bool,
}

impl Turn {
    pub fn new(spool: SpoolWriter, submitter: Submitter) -> Self {
        Self {
            out: Outcome::default(),
            due: Vec::new(),
            spool,
            submitter,
            tallies: Tallies::default(),
            rejects: [0; Reason::ALL.len()],
            is_storing: true,
            is_lost: false,
        }
    }

    /// Where the next connection's bytes will stand.
    pub fn place(&self) -> usize {
        self.out.reply.len()
    }

    /// Takes note of what `connection`, whose bytes stand from `place` on, just led to.
    pub fn note(
        &mut self,
        index: usize,
        connection: &mut Connection,
        place: usize,
        limits: &Limits,
        now: Moment,
    ) {
        if !self.out.authorized.is_empty() || !self.out.shown.is_empty() {
            self.show(connection, now);
        }
        let has_shares = !self.out.credits.is_empty();
        let asked = std::mem::take(&mut self.out.asked);
        let submits = self.out.refused.len() + self.out.credits.len();
        if submits + asked > 0 {
            connection.spend(submits, asked, now.ms);
        }
        if has_shares || !self.out.refused.is_empty() {
            self.judged(connection, limits, now);
        }
        if !self.out.solved.is_empty() {
            self.solved();
        }
        // What they handed in before they left was theirs.
        for index in self.out.left.drain(..) {
            if let Some(tally) = connection.tallies.get_mut(index).and_then(Option::take) {
                tally.go();
            }
        }
        connection.show_difficulty();
        let (bytes, close) = (place..self.out.reply.len(), self.out.close.take());
        if !bytes.is_empty() || close.is_some() || has_shares || connection.wants_write() {
            self.due.push(Due { connection: index, bytes, close, has_shares });
        }
    }

    #[inline(never)] // Seldom, so out of the way of shares.
    fn show(&mut self, connection: &mut Connection, now: Moment) {
        for (index, worker) in self.out.authorized.drain(..) {
            let tally = self.tallies.of(&worker, now.unix_ms);
            tally.come(connection.session.agent(), connection.session.protocol());
            if connection.tallies.len() <= index {
                connection.tallies.resize_with(index + 1, || None);
            }
            connection.tallies[index] = Some(tally);
        }
        for (index, difficulty) in self.out.shown.drain(..) {
            if let Some(tally) = connection.tally(index) {
                tally.difficulty.set(difficulty.get());
            }
        }
    }

    fn judged(&mut self, connection: &mut Connection, limits: &Limits, now: Moment) {
        let (credits, refused) = (&mut self.out.credits, &mut self.out.refused);
        let breadth = connection.session.breadth();
        if connection.weigh(refused, credits.len(), now) > f64::from(limits.points) * breadth {
            self.out.close.get_or_insert(Closed::BadSubmits);
        }
        if !credits.is_empty() {
            connection.pass.honest();
        }
        for (worker, reason) in refused.drain(..) {
            let index = Reason::ALL.iter().position(|one| *one == reason).unwrap_or(0);
            self.rejects[index] += 1;
            if let Some(tally) = worker.and_then(|index| connection.tally(index)) {
                tally.unsaved_rejects.set(tally.unsaved_rejects.get() + 1);
            }
        }
        for credit in credits.drain(..) {
            if let Some(tally) = connection.tally(credit.worker) {
                tally.share(credit.record.work, credit.hash_difficulty, credit.record.time_ms);
                let named = self.spool.share_of(&tally.worker, &credit.record, tally.named.get());
                tally.named.set(named);
            } else {
                self.spool.share(&credit.record);
            }
            connection.earn(credit.record.work as f64, now.ms);
        }
    }

    /// The block's file first, with its record beside it, then the record in the spool, then the nodes, and the reply
    /// last: killed anywhere in between, it is sent and recorded at the next start.
    #[inline(never)]
    fn solved(&mut self) {
        let mut kept = Vec::new();
        for solution in self.out.solved.drain(..) {
            let found = solution.found;
            self.spool.worker(&solution.finder);
            let record = self.spool.found(&found);
            let solved = Solved { hash: found.hash, height: found.height, block: solution.block };
            kept.push(self.submitter.keep(solved, &record));
        }
        self.commit();
        // Whether or not it could be noted: a block goes to the nodes.
        kept.into_iter().for_each(|kept| self.submitter.send(kept));
    }

    /// Makes what was pushed to the spool durable. If it cannot be, it must not be acknowledged; from then on shares are
    /// refused, but for a try every few seconds. The spool tells the operator.
    fn commit(&mut self) {
        self.is_storing = self.spool.commit().is_ok();
        self.is_lost |= !self.is_storing;
    }

    /// Stores the shares of this turn; returns what is due to whom, once. Give the list back to [`Self::end`].
    pub fn settle(&mut self) -> Vec<Due> {
        let mut due = std::mem::take(&mut self.due);
        if !self.is_lost && due.iter().any(|due| due.has_shares) {
            self.commit();
        }
        if std::mem::take(&mut self.is_lost) {
            for due in due.iter_mut().filter(|due| due.has_shares) {
                (due.bytes, due.close) = (0..0, Some(Closed::NotStored));
            }
        }
        due
    }

    /// The bytes due to a connection.
    pub fn reply(&self, due: &Due) -> &[u8] {
        self.out.reply.get(due.bytes.clone()).unwrap_or_default()
    }

    /// The turn is over; `due` was dealt with.
    pub fn end(&mut self, mut due: Vec<Due>) {
        due.clear();
        self.due = due;
        self.out.reply.clear();
        self.out.reply.shrink_to(KEPT);
    }

    /// Puts the numbers of refused submissions into the spool.
    pub fn save_rejects(&mut self, now: Moment) {
        for (worker, count) in self.tallies.take_rejects() {
            self.spool.worker(&worker);
            self.spool.rejects(&RejectRecord { time_ms: now.unix_ms, worker: worker.id(), count });
        }
        self.is_storing &= self.spool.commit().is_ok();
    }
}
