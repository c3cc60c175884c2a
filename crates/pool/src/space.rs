//! Extranonces that no two sessions share, and the channels of those who may come back (C-20).
//!
//! An extranonce1 is 4 bytes: the instance, then 24 bits of a counter that skips what is in use. A session that ends
//! leaves its channel for a while: whoever names its session id goes on with it (extranonce, difficulty, jobs, and the
//! hashes already credited, so that no share is credited twice after a reconnect).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use rand::RngExt;

use crate::session::channel::Channel;

/// Bytes of the extranonce that the pool sets (C-19).
pub const EXTRANONCE1: usize = 4;
/// Bytes of the extranonce that the miner sets (C-19).
pub const EXTRANONCE2: usize = 8;

/// Most channels that are kept for those who left; with more, the oldest goes.
const KEPT: usize = 20_000;

/// The extranonce space of this process. Cheap to clone.
#[derive(Clone)]
pub struct Space {
    inner: Arc<Mutex<Inner>>,
    keep_ms: u64,
}

struct Inner {
    instance: u8,
    next: u32,
    used: HashSet<[u8; EXTRANONCE1]>,
    left: HashMap<String, Left>,
}

struct Left {
    channel: Box<Channel>,
    at_ms: u64,
}

/// One session's place in the space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The pool's part of the extranonce.
    pub extranonce1: [u8; EXTRANONCE1],
    /// 128 random bits in hex: who knows them may resume.
    pub session_id: String,
}

/// What a new session gets.
pub enum Taken {
    /// A place of its own.
    Fresh(Seat),
    /// The channel that it left.
    Resumed(Box<Channel>),
}

impl Space {
    /// The space of `instance`. A seat is kept for `keep_ms` after its session ended.
    pub fn new(instance: u8, keep_ms: u64) -> Self {
        let inner = Inner { instance, next: 0, used: HashSet::new(), left: HashMap::new() };
        Self { inner: Arc::new(Mutex::new(inner)), keep_ms }
    }

    /// A place for a new session: the channel left under `session_id`, else a fresh seat. `None` when all 2^24 are
    /// taken.
    pub fn take(&self, session_id: Option<&str>, now_ms: u64) -> Option<Taken> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = session_id.and_then(|id| inner.left.remove(id)) {
            if now_ms.saturating_sub(left.at_ms) <= self.keep_ms {
                return Some(Taken::Resumed(left.channel));
            }
            inner.used.remove(&left.channel.seat().extranonce1);
        }
        let extranonce1 = inner.fresh()?;
        let session_id = hex::encode(rand::rng().random::<[u8; 16]>());
        Some(Taken::Fresh(Seat { extranonce1, session_id }))
    }

    /// The session ended; its miner may come back.
    pub fn leave(&self, channel: Channel, now_ms: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.left.len() >= KEPT {
            inner.forget(now_ms, self.keep_ms);
        }
        let left = Left { channel: Box::new(channel), at_ms: now_ms };
        inner.left.insert(left.channel.seat().session_id.clone(), left);
    }
}

impl Inner {
    fn fresh(&mut self) -> Option<[u8; EXTRANONCE1]> {
        for _ in 0..1 << 24 {
            let [_, a, b, c] = self.next.to_be_bytes();
            self.next = self.next.wrapping_add(1);
            let extranonce1 = [self.instance, a, b, c];
            if self.used.insert(extranonce1) {
                return Some(extranonce1);
            }
        }
        None
    }

    /// Drops the seats that are too old, or else the oldest.
    fn forget(&mut self, now_ms: u64, keep_ms: u64) {
        let oldest = self.left.values().map(|left| left.at_ms).min().unwrap_or(0);
        let before = now_ms.saturating_sub(keep_ms).max(oldest + 1);
        for (_, left) in self.left.extract_if(|_, left| left.at_ms < before) {
            self.used.remove(&left.channel.seat().extranonce1);
        }
    }
}

#[cfg(test)]
mod tests {
    use share::Difficulty;

    use super::*;
    use crate::VardiffConfig;

    fn channel(taken: Taken) -> Channel {
        let one = Difficulty::new(1.0).unwrap();
        let vardiff = VardiffConfig { shares_per_minute: 10.0, start: one, min: one, max: one };
        match taken {
            Taken::Fresh(seat) => Channel::new(seat, vardiff, 0),
            Taken::Resumed(channel) => *channel,
        }
    }

    #[test]
    fn seats_are_unique_and_carry_the_instance() {
        let space = Space::new(7, 1000);
        let seats: Vec<Seat> =
            (0..1000).map(|_| channel(space.take(None, 0).unwrap()).seat().clone()).collect();
        assert!(seats.iter().all(|seat| seat.extranonce1[0] == 7));
        assert_eq!(seats.iter().map(|seat| seat.extranonce1).collect::<HashSet<_>>().len(), 1000);
        assert_eq!(seats.iter().map(|seat| &seat.session_id).collect::<HashSet<_>>().len(), 1000);
    }

    #[test]
    fn c20_resume() {
        let space = Space::new(0, 1000);
        let mut first = channel(space.take(None, 0).unwrap());
        let seat = first.seat().clone();
        let id = Some(seat.session_id.as_str());
        assert!(
            matches!(space.take(id, 0), Some(Taken::Fresh(other)) if other != seat),
            "connected elsewhere"
        );
        assert!(first.credit([1; 32]));
        space.leave(first, 500);
        let mut back = channel(space.take(id, 1500).unwrap());
        assert_eq!(back.seat(), &seat);
        assert!(!back.credit([1; 32]), "still known as credited");
        space.leave(back, 2000);
        assert!(matches!(space.take(id, 3001), Some(Taken::Fresh(other)) if other != seat), "too late");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let space = Space::new(0, 1000);
        for now in 0..(KEPT as u64 + 100) {
            space.leave(channel(space.take(None, now).unwrap()), now);
        }
        let inner = space.inner.lock().unwrap();
        assert!(inner.left.len() <= KEPT);
        assert_eq!(inner.used.len(), inner.left.len());
    }
}
