//! Acknowledgement of accepted shares, many by one message.

use std::sync::LazyLock;

use share::{Target, Work};
use stratum::v2::{encode, mining::SubmitSharesSuccess};

use crate::config;

/// What was accepted on a channel and is not acknowledged yet.
#[derive(Clone, Copy, Default)]
pub(super) struct Acks {
    shares: u32,
    last: u32,
    /// Work that is not said yet, less than one of difficulty 1 of it from before: difficulties are said as whole numbers,
    /// and of many small ones nothing gets lost.
    work: Work,
    since_ms: u64,
    /// The channel is among those that are looked after.
    pub is_noted: bool,
}

/// Work of a share of difficulty 1.
static ONE: LazyLock<Work> = LazyLock::new(|| Target::ONE.work());

impl Acks {
    /// A share of this number, which earned `work`, was accepted.
    pub fn add(&mut self, number: u32, work: Work, now_ms: u64) {
        if self.shares == 0 {
            self.since_ms = now_ms;
        }
        self.shares += 1;
        self.last = number;
        self.work = self.work.saturating_add(work);
    }

    /// Whether there are any.
    pub fn wait(&self) -> bool {
        self.shares > 0
    }

    /// Whether it is time to acknowledge them.
    pub fn are_due(&self, config: &config::Acks, now_ms: u64) -> bool {
        let after = u64::try_from(config.after.as_millis()).unwrap_or(u64::MAX);
        // A clock that goes back makes nobody wait.
        let has_waited = now_ms.saturating_sub(self.since_ms) >= after || now_ms < self.since_ms;
        self.shares >= config.shares.max(1) || (self.shares > 0 && has_waited)
    }

    /// Acknowledges them.
    pub fn write(&mut self, channel_id: u32, out: &mut Vec<u8>) {
        let message = SubmitSharesSuccess {
            channel_id,
            last_sequence_number: self.last,
            new_submits_accepted_count: self.shares,
            new_shares_sum: u64::try_from(self.work / *ONE).unwrap_or(u64::MAX),
        };
        encode(&message, out);
        *self = Self { shares: 0, work: self.work % *ONE, ..*self };
    }
}
