//! New work on its way to the channels of a connection.
//!
//! A group is told once, by a frame that is there already. But where standard jobs are required each channel is told by
//! itself, with a merkle root that is made for it alone, and a proxy may have thousands of channels, or of groups: so that
//! the other miners of the shard need not wait, work is dealt out in slices. Whoever has not been told when there is newer
//! work is told of that only.

use std::sync::Arc;

use super::{
    channel::Kind,
    channels::{Channels, cannot_say},
    group::Group,
};
use crate::board::{
    Posting, Work,
    frames::{write_standard, write_standard_on_new_tip},
};

/// What a slice may cost: in bytes that are written, or hashed for it.
pub(super) const SLICE: usize = 64 * 1024;
/// The same for the first, when all connections are told of the work.
pub(super) const FIRST: usize = 8 * 1024;
/// What each who is told costs beside that, in the same.
const EACH: usize = 256;
/// What making a job costs, for a group that may be the first of its class, in the same.
const JOB: usize = 1_024;

/// Who is still to be told, and of what.
#[derive(Default)]
pub(super) struct Deal {
    posting: Option<Arc<Posting>>,
    /// It is channels that are told, each by itself, and not groups.
    is_one_by_one: bool,
    /// Ids of those.
    left: Vec<u32>,
}

/// What a channel was last told of by itself.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Told {
    /// The posting.
    pub posting: u32,
    /// Its tip.
    pub tip: u64,
}

impl Deal {
    /// Nobody is to be told any more.
    pub fn end(&mut self) {
        self.left.clear();
        (self.posting, self.is_one_by_one) = (None, false);
    }
}

impl Channels {
    /// Whether somebody is still to be told of the work that there is.
    pub fn has_more(&self) -> bool {
        !self.deal.left.is_empty()
    }

    /// Begins to deal out the work of `posting`, instead of what may be under way.
    pub fn begin_deal(&mut self, posting: &Arc<Posting>, only_standard: bool) {
        // The first that a channel hears of is for itself.
        let is_first = self.is_without_work() || (self.deal.is_one_by_one && self.has_more());
        self.begin(posting);
        self.deal.posting = Some(posting.clone());
        self.deal.is_one_by_one = only_standard || is_first;
        match self.deal.is_one_by_one {
            true => self.deal.left.extend(self.channels.keys()),
            false => self.deal.left.extend(self.groups.keys()),
        }
    }

    /// Deals out a slice that costs about `most`.
    pub fn deal(&mut self, most: usize, out: &mut Vec<u8>) {
        let Some(posting) = self.deal.posting.clone() else { return };
        self.count_job();
        let (begin, mut other) = (out.len(), 0);
        while out.len() - begin + other < most
            && let Some(id) = self.deal.left.pop()
        {
            other += EACH + self.tell(id, &posting, out);
        }
        if self.deal.left.is_empty() {
            self.deal.end();
        }
    }

    /// Tells the channel `id` of the work that it is still to be told of: what is said to it alone comes after that.
    pub fn catch_up(&mut self, id: u32, out: &mut Vec<u8>) {
        if let Some(posting) = self.deal.posting.clone().filter(|_| self.deal.is_one_by_one) {
            self.count_job();
            self.tell_channel(id, &posting, out);
        }
    }

    /// Has the group `id` be where the others are, so that a channel may begin there.
    pub fn catch_up_group(&mut self, id: u32, out: &mut Vec<u8>) {
        let Some(posting) = self.deal.posting.clone() else { return };
        self.count_job();
        if !self.deal.is_one_by_one {
            self.tell_group(id, &posting, out);
        } else if let Some(group) = self.groups.get_mut(&id).filter(|group| !group.has(posting.id)) {
            give(group, self.jobs, &posting);
        }
    }

    /// Returns what it cost, beside what was written.
    fn tell(&mut self, id: u32, posting: &Arc<Posting>, out: &mut Vec<u8>) -> usize {
        if self.deal.is_one_by_one {
            return self.tell_channel(id, posting, out);
        }
        self.tell_group(id, posting, out);
        JOB
    }

    fn tell_group(&mut self, id: u32, posting: &Posting, out: &mut Vec<u8>) {
        let Some(group) = self.groups.get_mut(&id).filter(|group| !group.has(posting.id)) else { return };
        let is_new_tip = group.current().is_none_or(|(_, work)| work.tip != posting.tip);
        let Some(work) = give(group, self.jobs, posting) else { return };
        match work.frames() {
            Some(frames) if is_new_tip => frames.write_new_tip(id, out),
            Some(frames) => frames.write_active(id, out),
            None => cannot_say(work),
        }
    }

    /// Returns how many bytes were hashed.
    fn tell_channel(&mut self, id: u32, posting: &Posting, out: &mut Vec<u8>) -> usize {
        let told = Told { posting: posting.id, tip: posting.tip };
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.told != Some(told)) else {
            return 0;
        };
        let Some(group) = self.groups.get_mut(&channel.group) else { return 0 };
        if !group.has(posting.id) && give(group, self.jobs, posting).is_none() {
            return 0;
        }
        let Some((_, work)) = group.current() else { return 0 };
        match channel.told.replace(told).is_none_or(|before| before.tip != told.tip) {
            true => begin_on(work, id, &channel.kind, out),
            false => go_on_with(work, id, &channel.kind, out),
        }
        if channel.kind.is_standard() { work.job.coinbase.suffix().len() } else { 0 }
    }
}

/// Gives `group` the work of `posting`, if there is any.
pub(super) fn give<'a>(group: &'a mut Group, from: u64, posting: &Posting) -> Option<&'a Arc<Work>> {
    match posting.work_of(&group.key.0, &group.payee, group.size()) {
        Ok(work) => {
            group.give(from, work, posting.id);
            group.current().map(|(_, work)| work)
        }
        Err(error) => {
            tracing::error!(%error, "no job: no valid coinbase");
            None
        }
    }
}

/// Gives a channel its first job of a tip: one to come, and then that it has come.
pub(super) fn begin_on(work: &Work, id: u32, kind: &Kind, out: &mut Vec<u8>) {
    match (kind.extranonce(&[]), work.frames()) {
        (Some(extranonce), _) => write_standard_on_new_tip(work, id, &extranonce, out),
        (None, Some(frames)) => frames.write_new_tip(id, out),
        (None, None) => cannot_say(work),
    }
}

/// Gives a channel another job of the tip that it is on.
pub(super) fn go_on_with(work: &Work, id: u32, kind: &Kind, out: &mut Vec<u8>) {
    match (kind.extranonce(&[]), work.frames()) {
        (Some(extranonce), _) => write_standard(work, id, &extranonce, out),
        (None, Some(frames)) => frames.write_active(id, out),
        (None, None) => cannot_say(work),
    }
}
