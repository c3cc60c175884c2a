//! Stratum V1.
//!
//! Replies go out in the order of the requests (C-07); a request without an id is carried out but not answered (C-11).
//! Until a worker is authorized nothing else is said (C-12, C-13); from then on every `set_difficulty` is followed at
//! once by a job of its own (C-37). An extranonce never changes while its connection lasts, so `mining.set_extranonce`
//! is never sent, whoever subscribed to it (C-53).

use std::sync::Arc;

use ledger::Worker;
use share::{Difficulty, Reason, check::VERSION_MASK};
use smallvec::SmallVec;
use stratum::v1::{self, Call, Configure, Configured, Fault, Id, encode};

use super::{
    Now, Outcome,
    channel::{self, Channel},
    pace::Pace,
};
use crate::{
    Config,
    agent::Needs,
    board::{Board, EXTRANONCE},
    closed::Closed,
    limited::Limited,
    password::Wishes,
    space::{EXTRANONCE2, Space, Taken},
};
/// How long a session that never had work waits for the first, in milliseconds.
const PATIENCE_MS: u64 = 15_000;

/// How long a miner that came back may hand in again what it had handed in before, in milliseconds: cgminer tries for two
/// minutes.
const REPEATS_MS: u64 = 150_000;

/// A user name, with room for an address and a short name of a worker.
type Spelling = SmallVec<[u8; 96]>;

/// A V1 connection's state.
pub struct Session {
    config: Arc<Config>,
    space: Space,
    board: Arc<Board>,
    agent: Arc<str>,
    channel: Option<Channel>,
    /// Nearly always one, which stands here itself: a share that comes after a while finds nothing in the processor's
    /// caches, and pays for each place that it has to look at.
    workers: SmallVec<[Arc<Worker>; 1]>,
    /// Index in `workers` by the user name as the miner spells it; sorted.
    names: SmallVec<[(Spelling, usize); 1]>,
    wishes: Wishes,
    /// Version bits that were negotiated; 0 without.
    version_mask: u32,
    /// They were said by `mining.set_version_mask` (C-14).
    is_mask_said: bool,
    /// The difficulty last said.
    said: Option<Difficulty>,
    /// Since when its channel is one that it had before.
    resumed_ms: Option<u64>,
    /// A job has to be sent as soon as there may be another.
    owed: bool,
    pace: Pace,
    /// Since when it has been without work.
    without_work_ms: Option<u64>,
}

impl Session {
    /// A session that was just connected.
    pub fn new(config: Arc<Config>, space: Space, board: Arc<Board>) -> Self {
        Self {
            config,
            space,
            board,
            agent: Arc::from(""),
            channel: None,
            workers: SmallVec::new(),
            names: SmallVec::new(),
            wishes: Wishes::default(),
            version_mask: 0,
            is_mask_said: false,
            said: None,
            resumed_ms: None,
            owed: false,
            pace: Pace::default(),
            without_work_ms: None,
        }
    }

    /// What the miner calls itself.
    pub fn agent(&self) -> &Arc<str> {
        &self.agent
    }

    /// The difficulty in force.
    pub fn difficulty(&self) -> Option<Difficulty> {
        self.said
    }

    /// Whether a worker was authorized.
    pub fn is_authorized(&self) -> bool {
        !self.workers.is_empty()
    }

    /// See [`super::Session::may_repeat`].
    pub fn may_repeat(&self, now_ms: u64) -> bool {
        self.resumed_ms.is_some_and(|resumed_ms| now_ms.saturating_sub(resumed_ms) < REPEATS_MS)
    }

    /// Whether this session is given work, and does not have that of this posting.
    pub fn lacks(&self, posting: u32) -> bool {
        let has = self.channel.as_ref().is_none_or(|channel| channel.has(posting));
        self.is_authorized() && (!has || self.owed)
    }

    /// The session ended: its miner may come back to its channel for a while (C-20), and to its difficulty for longer.
    ///
    /// Who never said for whom it works has had no job, and has nothing to come back to.
    pub fn end(self, now_ms: u64) {
        if let Some(channel) = self.channel {
            if self.workers.is_empty() && self.resumed_ms.is_none() {
                return self.space.give_back(&channel.seat().extranonce1, false, now_ms);
            }
            if let (Some(worker), Some(proven)) = (self.workers.first(), channel.vardiff.proven()) {
                self.board.memory.keep(worker.id(), proven, now_ms);
            }
            self.space.leave(channel, now_ms);
        }
    }

    /// A line came, without its line break.
    pub fn line(&mut self, line: &[u8], now: Now<'_>, out: &mut Outcome) {
        match v1::decode(line) {
            Ok(Some(request)) => self.call(request, now, out),
            Ok(None) => {}
            Err(malformed) => match malformed.fault {
                Fault::NotJson => out.close = Some(Closed::NotStratum),
                Fault::BadParams { reason, text } => {
                    out.refused.push((None, reason));
                    encode::refused_with(&mut out.reply, &malformed.id, reason, text);
                }
            },
        }
    }

    /// There is new work, or none any more.
    pub fn posted(&mut self, now: Now<'_>, out: &mut Outcome) {
        self.send_job(now, out);
        self.give_up(now, out);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now<'_>, out: &mut Outcome) {
        if self.channel.as_mut().is_some_and(|channel| channel.vardiff.tick(now.ms)) || self.owed {
            self.send_job(now, out);
        }
        self.give_up(now, out);
    }

    /// Without work a miner is better off elsewhere (C-39): one that had some goes at once, since what it had is old by
    /// then; one that comes at a bad time waits a little, as it must when the pool has just started.
    fn give_up(&mut self, now: Now<'_>, out: &mut Outcome) {
        if now.posting.is_some() {
            self.without_work_ms = None;
            return;
        }
        let since = *self.without_work_ms.get_or_insert(now.ms);
        if self.said.is_some() || now.ms.saturating_sub(since) >= PATIENCE_MS {
            out.close.get_or_insert(Closed::NoWork);
        }
    }

    fn call(&mut self, request: v1::Request<'_>, now: Now<'_>, out: &mut Outcome) {
        let id = request.id;
        // Submissions are counted when they are judged.
        out.asked += usize::from(!matches!(request.call, Call::Submit(_)));
        let changed = match request.call {
            Call::Submit(submit) => self.submit(&id, &submit, now, out),
            Call::Subscribe { agent, session } => {
                self.subscribe(&id, agent.as_deref(), session.as_deref(), now, out)
            }
            Call::Authorize { user, password } => self.authorize(&id, &user, password.as_deref(), now, out),
            Call::Configure(configure) => self.configure(&id, &configure, now, out),
            Call::SuggestDifficulty(difficulty) => {
                encode::accepted(&mut out.reply, &id);
                self.suggest(Wishes { start: difficulty, min: None }, now)
            }
            Call::ExtranonceSubscribe => {
                encode::accepted(&mut out.reply, &id);
                false
            }
            Call::Ping => {
                encode::pong(&mut out.reply, &id);
                false
            }
            Call::Unknown(_) => {
                encode::refused(&mut out.reply, &id, Reason::UnknownMethod);
                false
            }
        };
        if changed || self.owed {
            self.send_job(now, out);
        }
    }

    #[inline(never)] // These three are seldom: out of the way of shares, which find their code in no cache.
    fn subscribe(
        &mut self,
        id: &Id<'_>,
        agent: Option<&str>,
        session: Option<&str>,
        now: Now<'_>,
        out: &mut Outcome,
    ) -> bool {
        if let Some(agent) = agent {
            self.agent = Arc::from(agent);
        }
        let first = self.channel.is_none();
        if first {
            self.channel = match self.space.take(session, now.ms) {
                Some(Taken::Resumed(channel)) => {
                    self.resumed_ms = Some(now.ms);
                    Some(*channel)
                }
                Some(Taken::Fresh(seat)) => Some(Channel::new(seat, self.config.vardiff, now.ms)),
                None => {
                    out.close = Some(Closed::NoExtranonce);
                    return false;
                }
            };
            if let Some(channel) = &mut self.channel {
                channel.vardiff.fit(Needs::of(&self.agent), now.ms);
            }
            self.recall(now);
            self.suggest(self.wishes, now);
        }
        if let Some(channel) = &self.channel {
            let seat = channel.seat();
            let session_id = seat.session_id.to_string();
            encode::subscribed(&mut out.reply, id, &session_id, &seat.extranonce1, EXTRANONCE2);
        }
        first && self.is_authorized()
    }

    #[inline(never)]
    fn authorize(
        &mut self,
        id: &Id<'_>,
        user: &str,
        password: Option<&str>,
        now: Now<'_>,
        out: &mut Outcome,
    ) -> bool {
        let mut refuse = |text: &str| {
            encode::refused_with(&mut out.reply, id, Reason::Unauthorized, text);
            false
        };
        let worker = match Worker::parse(user, self.config.network) {
            Ok(worker) => Arc::new(worker),
            Err(error) => {
                out.limited.push(Limited::User);
                return refuse(&error.to_string());
            }
        };
        let Err(place) = self.place_of(user) else {
            encode::accepted(&mut out.reply, id);
            return false;
        };
        if self.workers.len() >= self.config.limits.workers {
            out.limited.push(Limited::Workers);
            return refuse("too many workers on this connection");
        }
        // The coinbase that this connection mines pays its first worker's class; nobody else's work may go into it.
        if self.workers.first().is_some_and(|first| !self.board.pays_alike(first, &worker)) {
            return refuse("this pool pays the finder from the coinbase: one address per connection");
        }
        encode::accepted(&mut out.reply, id);
        self.names.insert(place, (user.as_bytes().into(), self.workers.len()));
        self.workers.push(worker.clone());
        out.authorized.push((self.workers.len() - 1, worker));
        if self.workers.len() > 1 {
            return false;
        }
        if self.channel.is_some() {
            say_mask(self.version_mask, &mut self.is_mask_said, out);
        }
        self.recall(now);
        let wishes = Wishes::parse(password.unwrap_or_default());
        self.suggest(Wishes { start: wishes.start.or(self.wishes.start), ..wishes }, now);
        true
    }

    /// Where in `names` this one stands, or else belongs.
    fn place_of(&self, user: &str) -> Result<usize, usize> {
        self.names.binary_search_by(|(name, _)| (**name).cmp(user.as_bytes()))
    }

    /// The authorized worker that `user` names, in whatever spelling (C-22): the one that it was authorized by costs nothing.
    fn index_of(&self, user: &str) -> Option<usize> {
        if let Ok(place) = self.place_of(user) {
            return self.names.get(place).map(|(_, index)| *index);
        }
        let named = Worker::parse(user, self.config.network).ok()?;
        self.workers.iter().position(|worker| worker.id() == named.id())
    }

    #[inline(never)]
    fn configure(&mut self, id: &Id<'_>, configure: &Configure<'_>, now: Now<'_>, out: &mut Outcome) -> bool {
        let before = self.version_mask;
        if let Some(wanted) = &configure.version_rolling {
            self.version_mask = wanted.mask & VERSION_MASK;
        }
        let min = configure.minimum_difficulty.flatten();
        let version_mask = self.version_mask;
        encode::configured(&mut out.reply, id, &Configured { wanted: configure, version_mask });
        if self.is_authorized() && self.channel.is_some() {
            say_mask(self.version_mask, &mut self.is_mask_said, out);
        }
        // A job keeps the mask that it was given with (C-27), so another mask takes another job.
        let is_other_mask = self.version_mask != before && self.said.is_some();
        (min.is_some() && self.suggest(Wishes { start: None, min }, now)) || is_other_mask
    }

    /// Goes on at the difficulty that the first worker had when it left, once both it and the channel are there. What
    /// the miner wishes comes after this, and so before it.
    fn recall(&mut self, now: Now<'_>) {
        let (Some(worker), Some(channel), false) =
            (self.workers.first(), &mut self.channel, self.resumed_ms.is_some())
        else {
            return;
        };
        let had = self.board.memory.recall(worker.id(), now.ms);
        channel.vardiff.suggest(had, None, now.ms);
    }

    /// Takes wishes for the difficulty; they are remembered until there is a channel to apply them to.
    fn suggest(&mut self, wishes: Wishes, now: Now<'_>) -> bool {
        self.wishes =
            Wishes { start: wishes.start.or(self.wishes.start), min: wishes.min.or(self.wishes.min) };
        let Some(channel) = &mut self.channel else { return false };
        channel.vardiff.suggest(wishes.start, wishes.min, now.ms) && self.said.is_some()
    }

    fn submit(&mut self, id: &Id<'_>, submit: &v1::Submit<'_>, now: Now<'_>, out: &mut Outcome) -> bool {
        let worker = self.index_of(&submit.worker);
        match self.judge(submit, worker, now, out) {
            Ok(changed) => {
                encode::accepted(&mut out.reply, id);
                changed
            }
            Err(reason) => {
                out.refused.push((worker, reason));
                encode::refused(&mut out.reply, id, reason);
                false
            }
        }
    }

    fn judge(
        &mut self,
        submit: &v1::Submit<'_>,
        worker: Option<usize>,
        now: Now<'_>,
        out: &mut Outcome,
    ) -> Result<bool, Reason> {
        let channel = self.channel.as_mut().ok_or(Reason::NotSubscribed)?;
        let finder = worker.or(Some(0)).and_then(|index| self.workers.get(index));
        let submit = channel::Submit {
            job: submit.job,
            extranonce2: submit.extranonce2,
            time: submit.time,
            nonce: submit.nonce,
            version_bits: submit.version_bits.unwrap_or(0),
        };
        let judged = channel.judge(&submit, finder.map(Arc::as_ref), now.ms);
        out.solved.extend(judged.solution);
        let (worker, finder) = worker.zip(finder).ok_or(Reason::Unauthorized)?;
        let earned = judged.share?;
        if !now.storing {
            // It tells of the miner's speed all the same: taken for silence, the difficulty would sink, and a flood follow.
            self.owed |= earned.is_current && channel.vardiff.share(now.ms);
            return Err(Reason::NotStored);
        }
        if !channel.credit(&earned.hash) {
            return Err(Reason::Duplicate);
        }
        out.credits.push(earned.credit(worker, finder.id(), now.ms));
        Ok(earned.is_current && channel.vardiff.share(now.ms))
    }

    /// Sends the current work, with the difficulty before it if that is news; under another job id if this session had the
    /// posting's before. Those who need one at about the same time share it; nobody waits.
    fn send_job(&mut self, now: Now<'_>, out: &mut Outcome) {
        let (Some(posting), Some(worker), Some(channel)) =
            (now.posting, self.workers.first(), &mut self.channel)
        else {
            return;
        };
        // On an older tip all that was credited on the newer one would be forgotten, and could earn again.
        if channel.is_ahead_of(posting.id) {
            self.owed = true;
            return;
        }
        let clean = self.said.is_none() || channel.is_new_tip(posting.tip);
        let at_once = Needs::of(&self.agent).jobs_at_once;
        let was_owed = self.owed;
        self.owed = !self.pace.allows(clean, at_once, now.ms);
        if self.owed {
            // Counted once, however often it is asked for meanwhile.
            if !was_owed {
                out.limited.push(Limited::Jobs);
            }
            return;
        }
        channel.vardiff.network(posting.network_difficulty(), now.ms);
        let difficulty = channel.vardiff.difficulty();
        let again = channel.has(posting.id);
        let class = self.board.class(worker, Needs::of(&self.agent).coinbase_bytes);
        let work = match again {
            true => posting
                .reissue(&class, worker, EXTRANONCE, channel.latest_job(), now.ms)
                .and_then(|shared| shared.map_or_else(|| posting.work_again(&class, worker, EXTRANONCE), Ok)),
            false => posting.work_of(&class, worker, EXTRANONCE),
        };
        let work = match work {
            Ok(work) => work,
            Err(error) => {
                tracing::error!(%error, "no job: no valid coinbase");
                return;
            }
        };
        say_mask(self.version_mask, &mut self.is_mask_said, out);
        if self.said != Some(difficulty) {
            encode::set_difficulty(&mut out.reply, difficulty);
            self.said = Some(difficulty);
        }
        work.notify.write(&mut out.reply, work.id, work.job.time, clean);
        channel.give(work, posting.id, worker, self.version_mask, now.ms);
    }
}

/// Says what was negotiated, once: after authorize and before the job that it is for (C-14), never between a request of the
/// start and its reply (C-12).
fn say_mask(mask: u32, is_said: &mut bool, out: &mut Outcome) {
    if mask != 0 && !std::mem::replace(is_said, true) {
        encode::set_version_mask(&mut out.reply, mask);
    }
}

#[cfg(test)]
mod tests;
