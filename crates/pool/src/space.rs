//! Extranonces that no two sessions share, and the channels of those who may come back (C-20).
//!
//! An extranonce1 is 4 bytes: the instance, then 24 bits that are divided among the shards: each counts in steps of
//! their number, and skips what is in use. A session that ends leaves its channel for a while: whoever names its session
//! id goes on with it, on whatever shard (extranonce, difficulty, jobs, and the hashes already credited, so that no share
//! is credited twice after a reconnect). The lock is for that; it is taken when a session begins and ends.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
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

/// How long a place at which something was earned is nobody's, in milliseconds: longer than a job is given to those who
/// come anew, so that nobody who gets the place can hand in again what was credited to the one before.
const REST_MS: u64 = 2 * 60_000;

/// The extranonce space of this process. Cheap to clone.
#[derive(Clone)]
pub struct Space {
    inner: Arc<Mutex<Inner>>,
    keep_ms: u64,
    shard: u32,
}

struct Inner {
    instance: u8,
    /// The next number of each shard.
    next: Vec<u32>,
    used: HashSet<[u8; EXTRANONCE1]>,
    left: HashMap<SessionId, Left>,
    /// Places that rest, in use as yet, and since when.
    resting: VecDeque<([u8; EXTRANONCE1], u64)>,
}

/// 128 random bits: who knows them may resume.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 16]);

struct Left {
    channel: Box<Channel>,
    at_ms: u64,
}

/// One session's place in the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The pool's part of the extranonce.
    pub extranonce1: [u8; EXTRANONCE1],
    /// For those who come back.
    pub session_id: SessionId,
}

/// What a new session gets.
pub enum Taken {
    /// A place of its own.
    Fresh(Seat),
    /// The channel that it left.
    Resumed(Box<Channel>),
}

impl Space {
    /// The space of `instance`, for `shards` shards, as the first of them sees it. A seat is kept for `keep_ms` after its
    /// session ended.
    pub fn new(instance: u8, shards: usize, keep_ms: u64) -> Self {
        let next = (0..u32::try_from(shards.max(1)).unwrap_or(1)).collect();
        let (used, left, resting) = (HashSet::new(), HashMap::new(), VecDeque::new());
        let inner = Inner { instance, next, used, left, resting };
        Self { inner: Arc::new(Mutex::new(inner)), keep_ms, shard: 0 }
    }

    /// The same space, as the shard of this number sees it.
    pub fn of_shard(&self, shard: usize) -> Self {
        Self { shard: u32::try_from(shard).unwrap_or(0), ..self.clone() }
    }

    /// A place for a new session: the channel left under `session_id` (as it was sent), else a fresh seat. `None` when
    /// all that this shard has are taken.
    pub fn take(&self, session_id: Option<&str>, now_ms: u64) -> Option<Taken> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = session_id.and_then(SessionId::parse).and_then(|id| inner.left.remove(&id)) {
            if now_ms.saturating_sub(left.at_ms) <= self.keep_ms {
                return Some(Taken::Resumed(left.channel));
            }
            inner.rest(left.channel.seat().extranonce1, left.at_ms);
        }
        let extranonce1 = inner.fresh(self.shard, now_ms)?;
        let session_id = SessionId(rand::rng().random());
        Some(Taken::Fresh(Seat { extranonce1, session_id }))
    }

    /// A place for a channel that nobody comes back to. `None` when all that this shard has are taken.
    ///
    /// Give it back by [`Self::give_back`].
    pub fn seat(&self, now_ms: u64) -> Option<[u8; EXTRANONCE1]> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).fresh(self.shard, now_ms)
    }

    /// A place is free again; if something was earned at it, only after a while.
    pub fn give_back(&self, seat: &[u8; EXTRANONCE1], has_earned: bool, now_ms: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match has_earned {
            true => inner.rest(*seat, now_ms),
            false => _ = inner.used.remove(seat),
        }
    }

    /// The next place that is looked at is `seat`, as if all others had had their turn.
    #[cfg(test)]
    pub fn turn_to(&self, seat: [u8; EXTRANONCE1]) {
        let mut inner = self.inner.lock().unwrap();
        inner.next[self.shard as usize] = u32::from_be_bytes(seat) & 0xff_ffff;
    }

    /// The session ended; its miner may come back.
    pub fn leave(&self, channel: Channel, now_ms: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.left.len() >= KEPT {
            inner.forget(now_ms, self.keep_ms);
        }
        let left = Left { channel: Box::new(channel), at_ms: now_ms };
        inner.left.insert(left.channel.seat().session_id, left);
    }
}

impl SessionId {
    fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).ok().map(|()| Self(id))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(secret)")
    }
}

impl Inner {
    /// Takes a place that is in use out of it after a while.
    fn rest(&mut self, seat: [u8; EXTRANONCE1], at_ms: u64) {
        self.resting.push_back((seat, at_ms));
    }

    fn fresh(&mut self, shard: u32, now_ms: u64) -> Option<[u8; EXTRANONCE1]> {
        while let Some((seat, at_ms)) = self.resting.front()
            && now_ms.saturating_sub(*at_ms) > REST_MS
        {
            self.used.remove(seat);
            self.resting.pop_front();
        }
        let shards = u32::try_from(self.next.len()).unwrap_or(1);
        let next = self.next.get_mut(shard as usize)?;
        for _ in 0..(1 << 24) / shards {
            let [_, a, b, c] = next.to_be_bytes();
            *next += shards;
            if *next >= 1 << 24 {
                *next = shard;
            }
            let extranonce1 = [self.instance, a, b, c];
            if self.used.insert(extranonce1) {
                return Some(extranonce1);
            }
        }
        None
    }

    /// Drops the seats that are too old; of the others those at which nothing was earned, which anybody can leave by
    /// thousands; or else the oldest.
    fn forget(&mut self, now_ms: u64, keep_ms: u64) {
        let too_old = now_ms.saturating_sub(keep_ms);
        let mut drop = |is_over: &dyn Fn(&Left) -> bool| {
            for (_, left) in self.left.extract_if(|_, left| is_over(left)) {
                self.resting.push_back((left.channel.seat().extranonce1, left.at_ms));
            }
            self.left.len() < KEPT
        };
        if drop(&|left| left.at_ms < too_old) || drop(&|left| left.channel.vardiff.proven().is_none()) {
            return;
        }
        let oldest = self.left.values().map(|left| left.at_ms).min().unwrap_or(0);
        for (_, left) in self.left.extract_if(|_, left| left.at_ms <= oldest) {
            self.resting.push_back((left.channel.seat().extranonce1, left.at_ms));
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
        let space = Space::new(7, 1, 1000);
        let seats: Vec<Seat> =
            (0..1000).map(|_| channel(space.take(None, 0).unwrap()).seat().to_owned()).collect();
        assert!(seats.iter().all(|seat| seat.extranonce1[0] == 7));
        assert_eq!(seats.iter().map(|seat| seat.extranonce1).collect::<HashSet<_>>().len(), 1000);
        assert_eq!(seats.iter().map(|seat| &seat.session_id).collect::<HashSet<_>>().len(), 1000);
    }

    #[test]
    fn shards_share_the_space_but_no_seat() {
        let space = Space::new(0, 3, 1000);
        let seats = |shard: usize| -> Vec<u32> {
            let space = space.of_shard(shard);
            let seat = || channel(space.take(None, 0).unwrap()).seat().extranonce1;
            (0..100).map(|_| u32::from_be_bytes(seat())).collect()
        };
        for shard in [2, 0, 1] {
            assert!(seats(shard).iter().all(|&seat| seat % 3 == shard as u32 && seat < 300), "{shard}");
        }
        let inner = Space::new(9, 3, 0).inner;
        let mut inner = inner.lock().unwrap();
        inner.next[1] = (1 << 24) - 3 + 1;
        assert!(inner.fresh(1, 0) != inner.fresh(1, 0));
        assert_eq!(inner.fresh(1, 0), Some([9, 0, 0, 4]), "starts over behind the last");
    }

    #[test]
    fn c20_resume() {
        let space = Space::new(0, 1, 1000);
        let mut first = channel(space.take(None, 0).unwrap());
        let seat = *first.seat();
        let text = seat.session_id.to_string();
        let id = Some(text.as_str());
        assert!(
            matches!(space.take(id, 0), Some(Taken::Fresh(other)) if other != seat),
            "connected elsewhere"
        );
        assert!(first.credit(&[1; 32]));
        space.leave(first, 500);
        let mut back = channel(space.take(id, 1500).unwrap());
        assert_eq!(back.seat(), &seat);
        assert!(!back.credit(&[1; 32]), "still known as credited");
        space.leave(back, 2000);
        assert!(matches!(space.take(id, 3001), Some(Taken::Fresh(other)) if other != seat), "too late");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let space = Space::new(0, 1, 1000);
        for now in 0..(KEPT as u64 + 100) {
            space.leave(channel(space.take(None, now).unwrap()), now);
        }
        let inner = space.inner.lock().unwrap();
        assert!(inner.left.len() <= KEPT);
        assert_eq!(inner.used.len(), inner.left.len() + inner.resting.len());
    }

    #[test]
    fn strangers_do_not_push_out_who_has_earned() {
        let space = Space::new(0, 1, 1_000_000);
        let mut earned = channel(space.take(None, 0).unwrap());
        earned.vardiff.share(0);
        let id = earned.seat().session_id.to_string();
        space.leave(earned, 0);
        for now in 1..(KEPT as u64 + 100) {
            space.leave(channel(space.take(None, now).unwrap()), now);
        }
        assert!(matches!(space.take(Some(&id), 30_000), Some(Taken::Resumed(_))));
    }

    #[test]
    fn a_place_at_which_something_was_earned_rests() {
        let space = Space::new(0, 1, 1000);
        let (earned, idle) = (space.seat(0).unwrap(), space.seat(0).unwrap());
        space.give_back(&earned, true, 5_000);
        space.give_back(&idle, false, 5_000);
        let comes_again = |place, now_ms| {
            space.turn_to(place);
            let seat = space.seat(now_ms).unwrap();
            space.give_back(&seat, false, now_ms);
            seat == place
        };
        assert!(comes_again(idle, 5_000) && !comes_again(earned, 5_000 + REST_MS));
        assert!(comes_again(earned, 5_001 + REST_MS));
        // So does one of a miner of V1 that cannot come back any more.
        let Some(Taken::Fresh(seat)) = space.take(None, 0) else { panic!("a fresh one") };
        let one = Difficulty::new(1.0).unwrap();
        let vardiff = VardiffConfig { shares_per_minute: 10.0, start: one, min: one, max: one };
        space.leave(Channel::new(seat, vardiff, 0), 200_000);
        assert!(matches!(space.take(Some(&seat.session_id.to_string()), 201_001), Some(Taken::Fresh(_))));
        let inner = space.inner.lock().unwrap();
        assert!(inner.used.contains(&seat.extranonce1) && inner.left.is_empty());
    }
}
