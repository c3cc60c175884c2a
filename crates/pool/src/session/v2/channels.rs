//! The channels of a connection and their groups, by id; the jobs that they are given.

use std::{collections::HashMap, sync::Arc};

use ledger::{Class, Worker};
use share::Difficulty;

use super::{
    channel::Channel,
    deal::{Deal, Told, begin_on, give},
    group::Group,
};
use crate::{
    board::{EXTRANONCE, Posting, Work},
    config,
    session::seen::Seen,
    space::{EXTRANONCE1, EXTRANONCE2, Space},
};

/// See the module.
#[derive(Default)]
pub(super) struct Channels {
    pub(super) channels: HashMap<u32, Box<Channel>>,
    pub(super) groups: HashMap<u32, Group>,
    /// Ids of groups by whom they pay and the size of their extranonce.
    by_class: HashMap<(Class, usize), u32>,
    /// Of channels and groups: none is used twice.
    last_id: u32,
    /// How many jobs were given, those to single channels counted too.
    pub(super) jobs: u64,
    /// The first of these on the present tip.
    tip_from: u64,
    /// The posting that all groups have the work of, or are being told of.
    posting: Option<u32>,
    /// Who is still to be told.
    pub(super) deal: Deal,
    /// What was handed in on this tip.
    seen: Seen,
    /// Channels with shares that are not acknowledged yet.
    unacknowledged: Vec<u32>,
    standard: Option<StandardSpace>,
}

/// Where the extranonces of standard channels are from: a seat of the pool's space, whose channels are counted in the part
/// that an extended channel would leave to the client.
struct StandardSpace {
    seat: [u8; EXTRANONCE1],
    next: u64,
    /// Something was earned on one of them.
    has_earned: bool,
}

impl Channels {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// The ids of all of them, as it is quickest to take them away.
    pub fn ids(&self) -> Vec<u32> {
        self.groups.values().flat_map(Group::members).collect()
    }

    /// The ids of those in the group `id`; likewise.
    pub fn of_group(&self, id: u32) -> Vec<u32> {
        self.groups.get(&id).map_or_else(Vec::new, |group| group.members().collect())
    }

    /// Whether `id` is a group's.
    pub fn is_group(&self, id: u32) -> bool {
        self.groups.contains_key(&id)
    }

    /// The channel `id`, and its group.
    pub fn get_mut(&mut self, id: u32) -> Option<(&mut Channel, &Group)> {
        let channel = self.channels.get_mut(&id)?;
        let group = self.groups.get(&channel.group)?;
        Some((channel, group))
    }

    /// What a share of the channel `id` is judged by.
    pub fn of_share(&mut self, id: u32) -> Option<(&mut Channel, &Group, &mut Seen)> {
        let channel = self.channels.get_mut(&id)?;
        let group = self.groups.get(&channel.group)?;
        Some((channel, group, &mut self.seen))
    }

    /// Whether there are channels, and they do not have the work of this posting.
    pub fn lack(&self, posting: u32) -> bool {
        !self.channels.is_empty() && self.posting.is_none_or(|last| last < posting)
    }

    /// Whether they were given work.
    pub fn have_work(&self) -> bool {
        !self.channels.is_empty() && self.posting.is_some()
    }

    /// Whether there was never any.
    pub fn is_without_work(&self) -> bool {
        self.posting.is_none()
    }

    /// The number that the next job counts from, and that of the first on this tip.
    pub fn next_job(&self) -> (u64, u64) {
        (self.jobs + 1, self.tip_from)
    }

    /// A job is given that counts from a number of its own.
    pub(super) fn count_job(&mut self) {
        self.jobs += 1;
    }

    /// A channel alone was given the job `job`.
    pub fn counted(&mut self, job: u64) {
        self.jobs = job;
    }

    /// An extranonce of its own for a standard channel. `None` when there are none left.
    pub fn standard_prefix(&mut self, space: &Space, now_ms: u64) -> Option<[u8; EXTRANONCE]> {
        let space = match &mut self.standard {
            Some(space) => space,
            none => none.insert(StandardSpace { seat: space.seat(now_ms)?, next: 0, has_earned: false }),
        };
        let mut prefix = [0; EXTRANONCE];
        prefix[..EXTRANONCE1].copy_from_slice(&space.seat);
        prefix[EXTRANONCE1..].copy_from_slice(&space.next.to_be_bytes());
        const { assert!(EXTRANONCE2 == size_of::<u64>()) };
        space.next += 1;
        Some(prefix)
    }

    /// Gives back what standard channels had.
    pub fn give_back(&self, space: &Space, now_ms: u64) {
        if let Some(StandardSpace { seat, has_earned, .. }) = &self.standard {
            space.give_back(seat, *has_earned, now_ms);
        }
    }

    /// The group of those who are paid like `payee`; made if there is none. If there is work it has a job. `None` when
    /// no more ids are left.
    pub fn group(
        &mut self,
        class: Class,
        size: usize,
        payee: &Arc<Worker>,
        posting: Option<&Arc<Posting>>,
    ) -> Option<u32> {
        let key = (class, size);
        if let Some(&id) = self.by_class.get(&key) {
            return Some(id);
        }
        let id = self.next_id()?;
        let mut group = Group::new(key.clone(), payee.clone());
        if let Some(posting) = posting {
            if self.posting.is_none() || self.channels.is_empty() {
                self.begin(posting);
            }
            give(&mut group, self.jobs, posting);
        }
        self.groups.insert(id, group);
        self.by_class.insert(key, id);
        Some(id)
    }

    fn next_id(&mut self) -> Option<u32> {
        self.last_id = self.last_id.checked_add(1)?;
        Some(self.last_id)
    }

    /// Opens a channel in the group `group`: its id, for `make` to answer with before the channel is given its first job.
    pub fn open(
        &mut self,
        group: u32,
        make: impl FnOnce(u32, u64) -> Channel,
        out: &mut Vec<u8>,
        said: impl FnOnce(u32, &Channel, &mut Vec<u8>),
    ) -> Option<u32> {
        let id = self.next_id()?;
        self.catch_up_group(group, out);
        let in_group = self.groups.get_mut(&group)?;
        in_group.add(id);
        let tip = self.seen.tip();
        let current = in_group.current().filter(|(_, work)| work.tip == tip);
        let mut channel = make(id, current.map_or(self.jobs + 1, |(from, _)| from));
        said(id, &channel, out);
        if let Some((_, work)) = current {
            begin_on(work, id, &channel.kind, out);
            channel.told = in_group.posting().map(|posting| Told { posting, tip });
        }
        self.channels.insert(id, Box::new(channel));
        Some(id)
    }

    /// Takes the channel `id` away, and its group if it was the last.
    pub fn remove(&mut self, id: u32) -> Option<Box<Channel>> {
        let channel = self.channels.remove(&id)?;
        if let Some(standard) = self.standard.as_mut().filter(|_| channel.kind.is_standard()) {
            standard.has_earned |= channel.has_earned;
        }
        if let Some(group) = self.groups.get_mut(&channel.group) {
            group.remove(id);
            if group.is_empty() {
                self.by_class.remove(&group.key);
                self.groups.remove(&channel.group);
            }
        }
        Some(channel)
    }

    /// All that there are mine on `posting` from now on.
    pub(super) fn begin(&mut self, posting: &Posting) {
        self.deal.end();
        self.count_job();
        if self.posting.is_none() || self.seen.tip() != posting.tip {
            self.tip_from = self.jobs;
            self.seen.begin(posting.tip);
        }
        self.posting = Some(posting.id);
    }

    /// Looks after the difficulty of all; the ids of those that have another now.
    pub fn tick(&mut self, network: Option<Difficulty>, now_ms: u64) -> Vec<u32> {
        let mut changed = Vec::new();
        for (&id, channel) in &mut self.channels {
            let vardiff = &mut channel.vardiff;
            let is_lowered = network.is_some_and(|network| vardiff.network(network, now_ms));
            if vardiff.tick(now_ms) || is_lowered {
                changed.push(id);
            }
        }
        changed
    }

    /// A share of the channel `id`, which earned `work`, was accepted.
    pub fn accepted(
        &mut self,
        id: u32,
        sequence_number: u32,
        work: share::Work,
        (config, now_ms): (&config::Acks, u64),
        out: &mut Vec<u8>,
    ) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.acks.add(sequence_number, work, now_ms);
        if channel.acks.are_due(config, now_ms) {
            channel.acks.write(id, out);
        } else if !std::mem::replace(&mut channel.acks.is_noted, true) {
            self.unacknowledged.push(id);
        }
    }

    /// Acknowledges what has waited for long enough.
    pub fn acknowledge(&mut self, config: &config::Acks, now_ms: u64, out: &mut Vec<u8>) {
        let channels = &mut self.channels;
        self.unacknowledged.retain(|id| {
            let Some(Channel { acks, .. }) = channels.get_mut(id).map(Box::as_mut) else { return false };
            if acks.are_due(config, now_ms) {
                acks.write(*id, out);
            }
            acks.is_noted = acks.wait();
            acks.is_noted
        });
    }
}

/// Says so where somebody can do something about it.
pub(super) fn cannot_say(work: &Work) {
    tracing::error!(height = work.job.height, "no job for V2: a half of the coinbase is longer than 64 KiB");
}
