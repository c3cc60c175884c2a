//! A set of numbers, of which some may be chosen to be alike.

use std::mem;

/// Room that is kept when the set is emptied, in numbers.
const KEPT: usize = 64;

/// Each number stands where its [`home`] is, or in the next free place behind that: a look-up takes one line of memory,
/// where a set of the library takes two, and a share that comes after a while finds none of them in the processor's caches.
///
/// Numbers are bits of hashes, and a miner can hand in just those hashes whose bits are as he likes: a quarter of them, say,
/// which would all stand in a quarter of the places, and be searched for by the shard that serves all others too. So the
/// home is a secret.
#[derive(Default)]
pub(super) struct Tags {
    /// A power of two of them, or none; zero: free. At most three quarters are taken.
    places: Vec<u64>,
    taken: usize,
    /// Odd and random; zero as long as there was never a number.
    secret: u64,
    has_zero: bool,
}

impl Tags {
    /// Puts `tag` in. False: it is in already.
    pub fn insert(&mut self, tag: u64) -> bool {
        if tag == 0 {
            return !mem::replace(&mut self.has_zero, true);
        }
        if (self.taken + 1) * 4 > self.places.len() * 3 {
            self.grow();
        }
        let is_new = put(&mut self.places, self.secret, tag);
        self.taken += usize::from(is_new);
        is_new
    }

    /// Takes all out, and gives back room that few would need.
    pub fn clear(&mut self) {
        if self.places.len() > KEPT {
            self.places = Vec::new();
        }
        self.places.fill(0);
        (self.taken, self.has_zero) = (0, false);
    }

    fn grow(&mut self) {
        if self.secret == 0 {
            self.secret = rand::random::<u64>() | 1;
        }
        let room = vec![0; (self.places.len() * 2).max(8)];
        let before = mem::replace(&mut self.places, room);
        before.into_iter().filter(|&tag| tag != 0).for_each(|tag| {
            put(&mut self.places, self.secret, tag);
        });
    }
}

/// Where `tag` belongs, modulo the number of places: each bit of it depends on all bits of the tag and of the secret.
fn home(tag: u64, secret: u64) -> usize {
    let product = u128::from(tag) * u128::from(secret);
    ((product >> 64) ^ product) as usize
}

/// Whether `tag` was not among `places`, of which some are free, and is now.
fn put(places: &mut [u64], secret: u64, tag: u64) -> bool {
    let mask = places.len().wrapping_sub(1);
    let mut at = home(tag, secret) & mask;
    while let Some(place) = places.get_mut(at) {
        match *place {
            0 => {
                *place = tag;
                return true;
            }
            other if other == tag => return false,
            _ => at = (at + 1) & mask,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Numbers of few different low bits meet each other often.
        #[test]
        fn is_a_set(tags in prop::collection::vec((0u64..8, 0u64..64).prop_map(|(low, high)| high << 60 | high << 8 | low), 0..400)) {
            let (mut is, mut expect) = (Tags::default(), HashSet::new());
            for round in 0..2 {
                for &tag in &tags {
                    prop_assert_eq!(is.insert(tag), expect.insert(tag), "{} in round {}", tag, round);
                }
                is.clear();
                expect.clear();
            }
        }
    }

    /// All of a set's numbers at home in one quarter of its places would stand thousands of places away from there.
    #[test]
    fn who_chooses_his_hashes_finds_no_slow_ones() {
        let check = |chosen: fn(u64) -> u64| {
            let mut tags = Tags::default();
            let mut random = 1u64;
            for _ in 0..100_000 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                tags.insert(chosen(random ^ random >> 33));
            }
            let mask = tags.places.len() - 1;
            let away = |(at, &tag): (usize, &u64)| match tag {
                0 => 0,
                tag => at.wrapping_sub(home(tag, tags.secret)) & mask,
            };
            let sum: usize = tags.places.iter().enumerate().map(away).sum();
            assert!(sum < 4 * tags.taken, "{sum} places in all for {}", tags.taken);
        };
        check(|hash| hash);
        check(|hash| hash & !(3 << 16));
        check(|hash| hash >> 2);
        check(|hash| hash & !(3 << 40));
        check(|hash| hash << 20);
    }

    #[test]
    fn keeps_little_room_when_it_is_emptied() {
        let check = |count: u64, expect: usize| {
            let mut tags = Tags::default();
            (1..=count).for_each(|tag| assert!(tags.insert(tag)));
            tags.clear();
            assert_eq!(tags.places.len(), expect, "{count}");
            assert!(tags.insert(count), "{count}");
        };
        check(1, 8);
        check(6, 8);
        check(7, 16);
        check(48, 64);
        check(49, 0);
        check(10_000, 0);
    }
}
