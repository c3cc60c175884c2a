//! Difficulty that has changed: the target is said, and a job that it holds for.

use stratum::v2::{encode, mining::SetTarget};

use super::{Session, deal};
use crate::{
    agent::Needs,
    limited::Limited,
    session::{Now, Outcome},
};

/// Most channels that are told at once.
const AT_ONCE: usize = 32;

impl Session {
    /// Tells some of the channels whose difficulty has changed.
    pub(super) fn retarget_some(&mut self, now: Now<'_>, out: &mut Outcome) {
        let begin = out.reply.len();
        for _ in 0..AT_ONCE {
            let Some(id) = self.changed.pop() else { return };
            self.retarget(id, now, out);
            if out.reply.len() - begin >= deal::SLICE {
                return;
            }
        }
    }

    /// Has the channel's target follow its difficulty. If it is another, the client is told, and given a job that it holds
    /// for.
    pub(super) fn retarget(&mut self, id: u32, now: Now<'_>, out: &mut Outcome) {
        let at_once = Needs::of(&self.agent).jobs_at_once;
        // A target holds for what comes after it.
        self.channels.catch_up(id, &mut out.reply);
        let (next, tip_from) = self.channels.next_job();
        let Some((channel, group)) = self.channels.get_mut(id) else { return };
        if !channel.set_target(next, tip_from) {
            return;
        }
        out.shown.push((channel.worker, channel.difficulty()));
        let target = SetTarget { channel_id: id, maximum_target: channel.target().to_le_bytes() };
        encode(&target, &mut out.reply);
        // Without work there was none before, and the first that comes has the new target.
        let Some((posting, (_, current))) = now.posting.zip(group.current()) else { return };
        if posting.tip != current.tip || !channel.pace.allows(false, at_once, now.ms) {
            // The next job comes soon: within a minute it does in any case.
            return out.limited.push(Limited::Jobs);
        }
        let after = channel.last_own().map_or(current.id, |own| own.max(current.id));
        let work = match posting.reissue(&group.key.0, &group.payee, group.size(), after, now.ms) {
            Ok(Some(work)) => work,
            Ok(None) => return out.limited.push(Limited::Jobs),
            Err(error) => return tracing::error!(%error, "no job: no valid coinbase"),
        };
        deal::go_on_with(&work, id, &channel.kind, &mut out.reply);
        channel.give(next, work);
        self.channels.counted(next);
    }
}
