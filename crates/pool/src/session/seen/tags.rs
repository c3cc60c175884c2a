//! A set of numbers that are random already.

use std::mem;

/// Room that is kept when the set is emptied, in numbers.
const KEPT: usize = 64;

/// Each number stands where its low bits say, or in the next free place behind that: a look-up takes one line of memory,
/// where a set of the library takes two, and a share that comes after a while finds none of them in the processor's caches.
///
/// Who can choose his numbers makes only his own set slow, and pays for each with the work of a hash that he throws away.
#[derive(Default)]
pub(super) struct Tags {
    /// A power of two of them, or none; zero: free. At most three quarters are taken.
    places: Vec<u64>,
    taken: usize,
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
        let is_new = put(&mut self.places, tag);
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
        let room = vec![0; (self.places.len() * 2).max(8)];
        let before = mem::replace(&mut self.places, room);
        before.into_iter().filter(|&tag| tag != 0).for_each(|tag| {
            put(&mut self.places, tag);
        });
    }
}

/// Whether `tag` was not among `places`, of which some are free, and is now.
fn put(places: &mut [u64], tag: u64) -> bool {
    let mask = places.len().wrapping_sub(1);
    let mut at = tag as usize & mask;
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
