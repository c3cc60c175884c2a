//! Channels come, change and go.

use ledger::Worker;
use share::{Difficulty, Target};
use stratum::v2::{
    code, encode,
    mining::{
        OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess, OpenMiningChannelError,
        OpenStandardMiningChannel, OpenStandardMiningChannelSuccess, UpdateChannel, UpdateChannelError,
    },
    wire::{B32, HashRate, Str255},
};

use super::{
    Session,
    channel::{Channel, Kind},
};
use crate::{
    agent::Needs,
    board::EXTRANONCE,
    limited::Limited,
    session::{Now, Outcome},
    space::EXTRANONCE1,
    vardiff::Vardiff,
};

/// How many bytes of extranonce a client may have: as few as are enough for what it asks for.
const ROLLED: [usize; 2] = [EXTRANONCE - EXTRANONCE1, 16];

/// How long a coinbase may be that standard channels mine on, in bytes: their miners never see it.
const UNSEEN: usize = 50_000;

/// By how many times the hash rate must change for the difficulty to follow at once.
const WORTHWHILE: f64 = 2.0;

/// What both kinds of channels are opened with.
struct Open<'a> {
    user: Str255<'a>,
    rate: f64,
    easiest: Target,
}

impl Session {
    pub(super) fn open_standard(
        &mut self,
        open: &OpenStandardMiningChannel<'_>,
        now: Now<'_>,
        out: &mut Outcome,
    ) {
        let opened = self
            .wanted(open.user_identity, open.nominal_hash_rate, open.max_target)
            .and_then(|wanted| self.open(&wanted, None, open.request_id, now, out));
        answer(opened, open.request_id, out);
    }

    pub(super) fn open_extended(
        &mut self,
        open: &OpenExtendedMiningChannel<'_>,
        now: Now<'_>,
        out: &mut Outcome,
    ) {
        let opened =
            self.wanted(open.user_identity, open.nominal_hash_rate, open.max_target).and_then(|wanted| {
                if self.setup.as_ref().is_some_and(|setup| setup.only_standard) {
                    return Err(code::EXTENDED_CHANNELS_NOT_SUPPORTED);
                }
                let asked = usize::from(open.min_extranonce_size);
                let size = ROLLED.into_iter().find(|size| *size >= asked);
                let size = size.ok_or(code::MIN_EXTRANONCE_SIZE_TOO_LARGE)?;
                self.open(&wanted, Some(size), open.request_id, now, out)
            });
        answer(opened, open.request_id, out);
    }

    fn wanted<'a>(
        &self,
        user: Str255<'a>,
        rate: HashRate,
        max_target: [u8; 32],
    ) -> Result<Open<'a>, &'static str> {
        let rate = rate.get().ok_or(code::INVALID_NOMINAL_HASHRATE)?;
        let easiest = target(max_target).ok_or(code::MAX_TARGET_OUT_OF_RANGE)?;
        Ok(Open { user, rate, easiest })
    }

    /// Opens a standard channel, or an extended one with `rolled` bytes for the client, if one more is allowed. Says so, and
    /// gives it work.
    fn open(
        &mut self,
        wanted: &Open<'_>,
        rolled: Option<usize>,
        request_id: u32,
        now: Now<'_>,
        out: &mut Outcome,
    ) -> Result<(), &'static str> {
        if let Err(what) = self.allowance.take() {
            out.limited.push(what);
            return Err(code::CHANNEL_CAPACITY_EXHAUSTED);
        }
        self.open_allowed(wanted, rolled, request_id, now, out).inspect_err(|_| self.allowance.give_back())
    }

    fn open_allowed(
        &mut self,
        wanted: &Open<'_>,
        rolled: Option<usize>,
        request_id: u32,
        now: Now<'_>,
        out: &mut Outcome,
    ) -> Result<(), &'static str> {
        let user = str::from_utf8(wanted.user.get()).map_err(|_| code::INVALID_USER_IDENTITY);
        let worker = user.and_then(|user| {
            Worker::parse(user, self.config.network).map_err(|_| code::INVALID_USER_IDENTITY)
        });
        let worker = worker.inspect_err(|_| out.limited.push(Limited::User))?;
        let vardiff = self.vardiff(&worker, wanted, now);
        // All that there are have the same work, so that the new one begins with it too.
        self.refresh(now, out);
        let full = |out: &mut Outcome| {
            out.limited.push(Limited::Channels);
            code::CHANNEL_CAPACITY_EXHAUSTED
        };
        let kind = match rolled {
            None => {
                self.channels.standard_prefix(&self.space, now.ms).map(|prefix| Kind::Standard { prefix })
            }
            Some(size) => self.space.seat(now.ms).map(|prefix| Kind::Extended { prefix, size }),
        };
        let kind = kind.ok_or_else(|| full(out))?;
        let give_back = |session: &Self| {
            if let Kind::Extended { prefix, .. } = kind {
                session.space.give_back(&prefix, false, now.ms);
            }
        };
        let coinbase_bytes = match kind {
            Kind::Standard { .. } => UNSEEN,
            Kind::Extended { .. } => Needs::of(&self.agent).coinbase_bytes,
        };
        let class = self.board.class(&worker, coinbase_bytes);
        let Some(index) = self.crew.join(worker, out) else {
            give_back(self);
            return Err(full(out));
        };
        let opened = self.crew.worker(index).cloned().and_then(|worker| {
            let group = self.channels.group(class, kind.full_size(), &worker, now.posting)?;
            let make = |_, from| Channel::new(kind, group, index, vardiff, wanted.easiest, from);
            self.channels
                .open(group, make, &mut out.reply, |id, channel, out| said(id, request_id, channel, out))
        });
        let Some(id) = opened else {
            self.crew.leave(index, out);
            give_back(self);
            return Err(full(out));
        };
        if let Some((channel, _)) = self.channels.get_mut(id) {
            out.shown.push((index, channel.difficulty()));
        }
        self.has_opened = true;
        Ok(())
    }

    /// Where a channel starts: by the hash rate that the client names, else by what its worker had when it left. Who says
    /// that there is nothing as yet has the least difficulty, since the first miner may be a small one.
    fn vardiff(&self, worker: &Worker, wanted: &Open<'_>, now: Now<'_>) -> Vardiff {
        let config = self.config.vardiff;
        let mut vardiff = Vardiff::new(config, now.ms).wide();
        vardiff.fit(Needs::of(&self.agent), now.ms);
        let by_rate = difficulty_for(wanted.rate, config.shares_per_minute);
        let start = by_rate.or_else(|| self.board.memory.recall(worker.id(), now.ms)).unwrap_or(config.min);
        vardiff.suggest(Some(start), Some(wanted.easiest.difficulty()), now.ms);
        if let Some(posting) = now.posting {
            vardiff.network(posting.network_difficulty(), now.ms);
        }
        vardiff
    }

    pub(super) fn update(&mut self, update: &UpdateChannel, now: Now<'_>, out: &mut Outcome) {
        let id = update.channel_id;
        if let Err(error_code) = self.updated(update, now) {
            let error_code = Str255::cut(error_code.as_bytes());
            return encode(&UpdateChannelError { channel_id: id, error_code }, &mut out.reply);
        }
        self.retarget(id, now, out);
    }

    fn updated(&mut self, update: &UpdateChannel, now: Now<'_>) -> Result<(), &'static str> {
        let shares_per_minute = self.config.vardiff.shares_per_minute;
        let (channel, _) = self.channels.get_mut(update.channel_id).ok_or(code::INVALID_CHANNEL_ID)?;
        let rate = update.nominal_hash_rate.get().ok_or(code::INVALID_NOMINAL_HASHRATE)?;
        let easiest = target(update.maximum_target).ok_or(code::MAX_TARGET_OUT_OF_RANGE)?;
        let vardiff = &mut channel.vardiff;
        // What is measured is known better than what is said, but a farm that was switched on is not measured yet.
        let said = difficulty_for(rate, shares_per_minute).filter(|said| {
            let ratio = said.get() / vardiff.difficulty().get();
            !(1.0 / WORTHWHILE..=WORTHWHILE).contains(&ratio)
        });
        vardiff.suggest(said, Some(easiest.difficulty()), now.ms);
        channel.easiest = easiest;
        Ok(())
    }

    /// Closes the channel `id`, or all of the group `id`.
    pub(super) fn close(&mut self, id: u32, now: Now<'_>, out: &mut Outcome) {
        let closed = if self.channels.is_group(id) { self.channels.of_group(id) } else { vec![id] };
        out.asked += closed.len().saturating_sub(1);
        closed.into_iter().for_each(|id| self.forget(id, now.ms, out));
    }
}

fn answer(opened: Result<(), &'static str>, request_id: u32, out: &mut Outcome) {
    if let Err(error_code) = opened {
        let error_code = Str255::cut(error_code.as_bytes());
        encode(&OpenMiningChannelError { request_id, error_code }, &mut out.reply);
    }
}

fn said(channel_id: u32, request_id: u32, channel: &Channel, out: &mut Vec<u8>) {
    let target = channel.target().to_le_bytes();
    let (extranonce_prefix, group_channel_id) = (B32::cut(channel.kind.prefix()), channel.group);
    match channel.kind {
        Kind::Standard { .. } => encode(
            &OpenStandardMiningChannelSuccess {
                request_id,
                channel_id,
                target,
                extranonce_prefix,
                group_channel_id,
            },
            out,
        ),
        Kind::Extended { size, .. } => encode(
            &OpenExtendedMiningChannelSuccess {
                request_id,
                channel_id,
                target,
                extranonce_size: u16::try_from(size).unwrap_or(0),
                extranonce_prefix,
                group_channel_id,
            },
            out,
        ),
    }
}

/// A target that somebody can meet.
fn target(bytes: [u8; 32]) -> Option<Target> {
    (bytes != [0; 32]).then(|| Target::from_le_bytes(bytes))
}

/// The difficulty at which so many hashes a second are so many shares a minute; `None` without hashes.
fn difficulty_for(rate: f64, shares_per_minute: f64) -> Option<Difficulty> {
    let hashes = rate * 60.0 / shares_per_minute;
    let one = Target::ONE.work() as f64;
    Difficulty::new(hashes / one)
}
