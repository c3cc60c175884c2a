//! Shares.

use std::sync::Arc;

use share::{Reason, Rules, Submission, Work};
use stratum::{
    reason,
    v2::{
        encode,
        extensions::user_identity,
        mining::{SubmitSharesError, SubmitSharesExtended, SubmitSharesStandard},
        wire::{Reader, Str255},
    },
};

use super::{Session, channel::Channel, crew::Crew};
use crate::{
    limited::Limited,
    session::{Earned, Now, Outcome},
};

/// The version bits that miners may roll (BIP 323).
pub(super) const VERSION_MASK: u32 = 0x1fff_ffe0;

/// A share of either kind of channel.
struct Share<'a> {
    channel_id: u32,
    job_id: u32,
    nonce: u32,
    ntime: u32,
    version: u32,
    /// Nothing on a standard channel.
    rolled: &'a [u8],
    is_extended: bool,
    /// The worker that is named beside it.
    name: &'a [u8],
}

impl Session {
    pub(super) fn submit_standard(&mut self, share: &SubmitSharesStandard, now: Now<'_>, out: &mut Outcome) {
        let &SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version } = share;
        let (rolled, name): (&[u8], &[u8]) = (&[], &[]);
        let share = Share { channel_id, job_id, nonce, ntime, version, rolled, is_extended: false, name };
        self.submit(&share, sequence_number, now, out);
    }

    pub(super) fn submit_extended(
        &mut self,
        share: &SubmitSharesExtended<'_>,
        tail: Reader<'_>,
        now: Now<'_>,
        out: &mut Outcome,
    ) {
        let &SubmitSharesExtended { channel_id, sequence_number, job_id, nonce, ntime, version, extranonce } =
            share;
        let is_named = self.setup.as_ref().is_some_and(|setup| setup.names_workers);
        let name = match is_named.then(|| user_identity(tail)) {
            None | Some(Ok(None)) => &[][..],
            Some(Ok(Some(name))) => name.get(),
            Some(Err(_)) => return refuse(channel_id, sequence_number, (None, Reason::Malformed), out),
        };
        let rolled = extranonce.get();
        let share = Share { channel_id, job_id, nonce, ntime, version, rolled, is_extended: true, name };
        self.submit(&share, sequence_number, now, out);
    }

    fn submit(&mut self, share: &Share<'_>, sequence_number: u32, now: Now<'_>, out: &mut Outcome) {
        let mut is_retargeted = false;
        match self.judge(share, &mut is_retargeted, now, out) {
            Ok(work) => {
                let acks = (&self.config.acks, now.ms);
                self.channels.accepted(share.channel_id, sequence_number, work, acks, &mut out.reply);
            }
            Err(refused) => refuse(share.channel_id, sequence_number, refused, out),
        }
        if is_retargeted {
            self.retarget(share.channel_id, now, out);
        }
    }

    /// The work that `share` earned, or whose it was, where that is known, and why it earns nothing.
    fn judge(
        &mut self,
        share: &Share<'_>,
        is_retargeted: &mut bool,
        now: Now<'_>,
        out: &mut Outcome,
    ) -> Result<Work, (Option<usize>, Reason)> {
        let of_channel = self.channels.of_share(share.channel_id);
        let (channel, group, seen) = of_channel
            .filter(|(channel, ..)| channel.kind.is_standard() != share.is_extended)
            .ok_or((None, Reason::NotSubscribed))?;
        // A name that has nothing to show for itself yet is that of the channel's worker: anybody can make up names.
        let known = name_of(channel, share.name);
        let whose = known.unwrap_or(channel.worker);
        let refused = |reason| (Some(whose), reason);
        let (crew, names, most) = (&mut self.crew, &mut self.names, self.config.limits.workers);

        let job = channel.job(share.job_id).or_else(|| group.job(share.job_id));
        let (from, work) = job.ok_or(refused(Reason::UnknownJob))?;
        let stale = work.tip != seen.tip();
        // The targets of another tip are forgotten, and those of jobs from before the channel: nothing is earned there.
        // It may be a block all the same.
        let terms = channel.terms_of(from);
        let (target, worth) = terms.unwrap_or((channel.target(), 0));
        let extranonce = channel.kind.extranonce(share.rolled);
        let extranonce = extranonce.ok_or(refused(Reason::ExtranonceLength))?;
        let submission =
            Submission { extranonce, time: share.ntime, nonce: share.nonce, version: share.version };
        let now_seconds = u32::try_from(now.ms / 1000).unwrap_or(u32::MAX);
        let rules = Rules { target, version_mask: VERSION_MASK, now: now_seconds, stale };
        let verdict = share::check(&work.job, &submission, &rules);
        let (height, bits) = (work.job.height, work.job.bits);
        if verdict.is_block {
            let work = work.clone();
            let index = known.unwrap_or_else(|| introduce(channel, share.name, crew, (names, most), out));
            let finder = crew.worker(index).map(Arc::as_ref);
            out.solved.extend(seen.solution(&verdict, &work, &submission, finder, now.ms));
        }
        if terms.is_none() && !stale {
            return Err(refused(Reason::UnknownJob));
        }
        verdict.share.map_err(refused)?;

        let is_current = target == channel.target();
        let earned = Earned { work: worth, is_current, hash: verdict.hash, height, bits };
        if now.storing && !seen.credit(&verdict.hash) {
            return Err(refused(Reason::Duplicate));
        }
        // What cannot be stored tells of the miner's speed all the same.
        *is_retargeted = is_current && channel.vardiff.share(now.ms);
        if !now.storing {
            return Err(refused(Reason::NotStored));
        }
        channel.has_earned = true;
        let known = name_of(channel, share.name);
        let index = known.unwrap_or_else(|| introduce(channel, share.name, crew, (names, most), out));
        let worker = crew.worker(index).ok_or((Some(index), Reason::Unauthorized))?;
        out.credits.push(earned.credit(index, worker.id(), now.ms));
        Ok(worth)
    }
}

/// The index of the worker that is known by `name` on `channel`: whose channel it is without one. `None` for a new name.
fn name_of(channel: &Channel, name: &[u8]) -> Option<usize> {
    match name {
        [] => Some(channel.worker),
        _ => channel.names.get(name).copied(),
    }
}

/// Takes in the worker of a new name, which is paid like whose channel it is: that one is meant if the name cannot be read,
/// or if there are as many names as may be.
fn introduce(
    channel: &mut Channel,
    name: &[u8],
    crew: &mut Crew,
    (names, most): (&mut usize, usize),
    out: &mut Outcome,
) -> usize {
    if *names >= most {
        out.limited.push(Limited::Workers);
        return channel.worker;
    }
    let joined = str::from_utf8(name).ok().and_then(|text| {
        let worker = crew.worker(channel.worker)?.named(text);
        crew.join(worker, out)
    });
    let Some(index) = joined else { return channel.worker };
    *names += 1;
    channel.names.insert(name.into(), index);
    out.shown.push((index, channel.difficulty()));
    index
}

fn refuse(
    channel_id: u32,
    sequence_number: u32,
    refused @ (_, reason): (Option<usize>, Reason),
    out: &mut Outcome,
) {
    let error_code = Str255::cut(reason::v2(reason).as_bytes());
    encode(&SubmitSharesError { channel_id, sequence_number, error_code }, &mut out.reply);
    out.refused.push(refused);
}
