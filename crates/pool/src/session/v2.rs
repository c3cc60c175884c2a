//! Stratum V2: the Mining Protocol, with as many channels on a connection as it opens.
//!
//! Channels that are paid alike, and whose extranonce is of one size, are a group: its job is said once for all of them,
//! in the frame that the board has encoded. Who takes standard jobs only is sent one for each channel. No id is ever used
//! twice on a connection, be it of a channel or of a group.
//!
//! What is for many is done in slices ([`Session::go_on`]): a proxy with thousands of channels makes nobody else wait.
//!
//! Jobs are counted. A channel's target holds for the jobs from the one after it was said on, so a share is judged by the
//! target that its job was given at, as the specification has it: at once if the job was for the block that is mined on,
//! and otherwise when its block begins, which here is at once too.
//!
//! Never sent, since there is no need for it: `SetExtranoncePrefix` (a channel keeps its part of the space for life),
//! `SetGroupChannel` (nor does its group change), `Reconnect` and `ChannelEndpointChanged` (there are clients that end
//! themselves on these; who is closed connects again).

use std::sync::Arc;

use ledger::Worker;
use stratum::v2::{Fault, Frame, common::Common, extensions::Negotiation, mining::Mining};

use super::{Now, Outcome};
use crate::{Config, board::Board, closed::Closed, gate::Allowance, space::Space};
use channels::Channels;
use crew::Crew;
use setup::Setup;

mod acks;
mod channel;
mod channels;
mod crew;
mod deal;
mod group;
mod open;
mod retarget;
mod setup;
mod submit;

/// How long a session that never had work waits for the first, in milliseconds.
const PATIENCE_MS: u64 = 15_000;

/// A V2 connection's state.
pub struct Session {
    config: Arc<Config>,
    space: Space,
    board: Arc<Board>,
    agent: Arc<str>,
    /// What was agreed on, once it was.
    setup: Option<Setup>,
    channels: Channels,
    /// How many of those it may have.
    allowance: Allowance,
    /// Channels whose difficulty has changed, which are still to be told.
    changed: Vec<u32>,
    crew: Crew,
    /// How many names of workers stand beside its channels.
    names: usize,
    /// It has opened a channel.
    has_opened: bool,
    /// Since when it has been without work.
    without_work_ms: Option<u64>,
}

impl Session {
    /// A session on a new connection, with as many channels as `allowance` gives it.
    pub fn new(config: Arc<Config>, space: Space, board: Arc<Board>, allowance: Allowance) -> Self {
        let crew = Crew::new(config.limits.channels.saturating_add(config.limits.workers));
        Self {
            config,
            space,
            board,
            agent: Arc::from(""),
            setup: None,
            channels: Channels::default(),
            allowance,
            changed: Vec::new(),
            crew,
            names: 0,
            has_opened: false,
            without_work_ms: None,
        }
    }

    /// What the miner calls itself.
    pub fn agent(&self) -> &Arc<str> {
        &self.agent
    }

    /// It comes from somebody for whom a proxy speaks, whose allowance this is.
    pub fn comes_from(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// Whether the connection is set up.
    pub fn is_set_up(&self) -> bool {
        self.setup.is_some()
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Whether a channel was opened.
    pub fn is_authorized(&self) -> bool {
        self.has_opened
    }

    /// Whether this session is given work, and does not have that of this posting.
    pub fn lacks(&self, posting: u32) -> bool {
        self.channels.lack(posting)
    }

    /// The session ended.
    pub fn end(mut self, now_ms: u64) {
        for id in self.channels.ids() {
            self.forget(id, now_ms, &mut Outcome::default());
        }
        self.channels.give_back(&self.space, now_ms);
    }

    /// A message came.
    pub fn frame(&mut self, frame: Frame<'_>, now: Now<'_>, out: &mut Outcome) {
        let Some(setup) = &mut self.setup else {
            return match setup::begin(frame, out) {
                Some((setup, agent)) => (self.setup, self.agent) = (Some(setup), agent),
                None => {
                    out.close.get_or_insert(Closed::BadFrame);
                }
            };
        };
        match frame.header.extension() {
            Mining::EXTENSION => self.mining(frame, now, out),
            Negotiation::EXTENSION => {
                out.asked += 1;
                setup.negotiate(frame, out);
            }
            // What belongs to an extension that is not spoken here is passed over.
            _ => out.asked += 1,
        }
    }

    fn mining(&mut self, frame: Frame<'_>, now: Now<'_>, out: &mut Outcome) {
        let (message, tail) = match Mining::decode(frame) {
            Ok(decoded) => decoded,
            Err(Fault::UnknownMessage(_)) if Common::decode(frame).is_err() => {
                // Of another protocol, or one to come.
                return out.refused.push((None, share::Reason::UnknownMethod));
            }
            Err(_) => {
                out.close = Some(Closed::BadFrame);
                return;
            }
        };
        // Shares are counted when they are judged.
        let is_share = matches!(message, Mining::SubmitSharesExtended(_) | Mining::SubmitSharesStandard(_));
        out.asked += usize::from(!is_share);
        match message {
            Mining::SubmitSharesExtended(share) => self.submit_extended(&share, tail, now, out),
            Mining::SubmitSharesStandard(share) => self.submit_standard(&share, now, out),
            Mining::OpenExtendedMiningChannel(open) => self.open_extended(&open, now, out),
            Mining::OpenStandardMiningChannel(open) => self.open_standard(&open, now, out),
            Mining::UpdateChannel(update) => self.update(&update, now, out),
            Mining::CloseChannel(close) => self.close(close.channel_id, now, out),
            Mining::SetCustomMiningJob(job) => setup::refuse_custom(&job, out),
            // The rest is a server's to say.
            _ => out.close = Some(Closed::BadFrame),
        }
    }

    /// There is new work, or none any more.
    pub fn posted(&mut self, now: Now<'_>, out: &mut Outcome) {
        self.refresh(now, out);
        self.give_up(now, out);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now<'_>, out: &mut Outcome) {
        self.crew.tick();
        self.channels.acknowledge(&self.config.acks, now.ms, &mut out.reply);
        // Those that changed at the last look come first.
        if self.changed.is_empty() {
            let network = now.posting.map(|posting| posting.network_difficulty());
            self.changed = self.channels.tick(network, now.ms);
        }
        self.retarget_some(now, out);
        self.give_up(now, out);
    }

    /// Whether there is more to say than was said at once: see [`Self::go_on`].
    pub fn has_more(&self) -> bool {
        self.channels.has_more() || !self.changed.is_empty()
    }

    /// Says a little more of it.
    pub fn go_on(&mut self, now: Now<'_>, out: &mut Outcome) {
        match self.channels.has_more() {
            true => self.channels.deal(deal::SLICE, &mut out.reply),
            false => self.retarget_some(now, out),
        }
    }

    /// As in V1 (C-39): who had work goes at once, who comes at a bad time waits a little.
    fn give_up(&mut self, now: Now<'_>, out: &mut Outcome) {
        if now.posting.is_some() {
            self.without_work_ms = None;
            return;
        }
        let since = *self.without_work_ms.get_or_insert(now.ms);
        if self.channels.have_work() || now.ms.saturating_sub(since) >= PATIENCE_MS {
            out.close.get_or_insert(Closed::NoWork);
        }
    }

    /// Begins to send the current work to all that lack it.
    fn refresh(&mut self, now: Now<'_>, out: &mut Outcome) {
        let Some(posting) = now.posting.filter(|posting| self.lacks(posting.id)) else { return };
        let only_standard = self.setup.as_ref().is_some_and(|setup| setup.only_standard);
        self.channels.begin_deal(posting, only_standard);
        self.channels.deal(deal::FIRST, &mut out.reply);
    }

    /// Takes a channel out of the books.
    fn forget(&mut self, id: u32, now_ms: u64, out: &mut Outcome) {
        let Some(channel) = self.channels.remove(id) else { return };
        self.allowance.give_back();
        if let (Some(worker), Some(proven)) = (self.crew.worker(channel.worker), channel.vardiff.proven()) {
            self.board.memory.keep(Worker::id(worker), proven, now_ms);
        }
        let names = channel.names.values().copied();
        self.names -= channel.names.len();
        std::iter::once(channel.worker).chain(names).for_each(|index| self.crew.leave(index, out));
        if let channel::Kind::Extended { prefix, .. } = channel.kind {
            self.space.give_back(&prefix, channel.has_earned, now_ms);
        }
    }
}

#[cfg(test)]
mod tests;
