//! How many channels there may be (V2): on a connection, on those of an address, of a network, and in all.

use std::net::IpAddr;

use super::{Count, Gate, holder, network};
use crate::Limited;

/// The channels of one connection, counted with those of the others. Gives all of them back when dropped.
pub struct Allowance {
    gate: Gate,
    address: IpAddr,
    held: usize,
}

impl Gate {
    /// For a connection from `address`, which has no channel yet.
    pub fn allowance(&self, address: IpAddr) -> Allowance {
        Allowance { gate: self.clone(), address: address.to_canonical(), held: 0 }
    }
}

impl Allowance {
    /// Counts one channel more.
    ///
    /// # Errors
    /// The limit that it would be beyond. The trusted are held by that of the connection, and by that in all.
    pub fn take(&mut self) -> Result<(), Limited> {
        let (limits, is_trusted) = (&self.gate.0.limits, self.gate.trusts(self.address));
        let mut books = self.gate.books();
        let of_address = books.addresses.get(&holder(self.address)).map_or(0, |record| record.count.channels);
        let of_network = books.networks.get(&network(self.address)).map_or(0, |count| count.channels);
        if self.held >= limits.channels {
            Err(Limited::Channels)
        } else if of_address >= limits.channels_per_address && !is_trusted {
            Err(Limited::ChannelsPerAddress)
        } else if of_network >= limits.channels_per_network && !is_trusted {
            Err(Limited::ChannelsPerNetwork)
        } else if books.all.channels >= limits.channels_in_all {
            Err(Limited::ChannelsInAll)
        } else {
            books.each(self.address, |count| count.channels += 1);
            self.held += 1;
            Ok(())
        }
    }

    /// One channel is closed, or was not opened after all.
    pub fn give_back(&mut self) {
        self.give_back_some(1);
    }

    fn give_back_some(&mut self, some: usize) {
        let some = some.min(self.held);
        self.held -= some;
        if some > 0 {
            let less = |count: &mut Count| count.channels = count.channels.saturating_sub(some);
            self.gate.books().each(self.address, less);
        }
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.give_back_some(self.held);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Limits;

    fn limits() -> Limits {
        Limits {
            channels: 3,
            channels_per_address: 4,
            channels_per_network: 5,
            channels_in_all: 7,
            ..Limits::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn channels_are_counted_by_connection_address_and_network_and_in_all() {
        let gate = Gate::new(limits(), vec!["192.0.2.0/24".parse().unwrap()]);
        let mut take = {
            let mut held: Vec<(&str, Allowance)> = Vec::new();
            move |name: &'static str, address: &str| {
                if held.iter().all(|(other, _)| *other != name) {
                    held.push((name, gate.allowance(ip(address))));
                }
                held.iter_mut().find(|(other, _)| *other == name).unwrap().1.take().err()
            }
        };
        for (name, address, expect) in [
            ("one", "10.0.0.1", [None, None, None, Some(Limited::Channels)]),
            (
                "two",
                "::ffff:10.0.0.1",
                [
                    None,
                    Some(Limited::ChannelsPerAddress),
                    Some(Limited::ChannelsPerAddress),
                    Some(Limited::ChannelsPerAddress),
                ],
            ),
            (
                "three",
                "10.0.0.2",
                [
                    None,
                    Some(Limited::ChannelsPerNetwork),
                    Some(Limited::ChannelsPerNetwork),
                    Some(Limited::ChannelsPerNetwork),
                ],
            ),
            (
                "trusted",
                "192.0.2.1",
                [None, None, Some(Limited::ChannelsInAll), Some(Limited::ChannelsInAll)],
            ),
        ] {
            assert_eq!([(); 4].map(|()| take(name, address)), expect, "{name}");
        }
    }

    #[test]
    fn the_trusted_are_held_by_their_connection_only() {
        let gate = Gate::new(limits(), vec!["192.0.2.1/32".parse().unwrap()]);
        let [mut one, mut two] = [(); 2].map(|()| gate.allowance(ip("192.0.2.1")));
        assert_eq!([(); 4].map(|()| one.take().err()), [None, None, None, Some(Limited::Channels)]);
        assert_eq!([(); 4].map(|()| two.take().err()), [None, None, None, Some(Limited::Channels)]);
    }

    #[test]
    fn an_address_with_channels_is_remembered_and_none_is_without() {
        let gate = Gate::new(limits(), Vec::new());
        let pass = gate.enter(ip("10.0.0.1"), 0).unwrap();
        let mut allowance = gate.allowance(pass.address());
        allowance.take().unwrap();
        drop(pass); // A connection's channels end before it does; were it otherwise, they would count still.
        assert_eq!(gate.books().all, Count { connections: 0, channels: 1 });
        assert_eq!(gate.books().addresses.len(), 1);
        drop(allowance);
        let books = gate.books();
        assert_eq!((books.all, books.addresses.len(), books.networks.len()), (Count::default(), 0, 0));
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_the_counts_are_of_what_is_there(steps in prop::collection::vec((0usize..6, 0u8..3), 1..200)) {
            let gate = Gate::new(limits(), Vec::new());
            let address = |at: usize| IpAddr::from([10, 0, (at / 4) as u8, (at / 2) as u8]);
            let mut held: Vec<Allowance> = (0..6).map(|at| gate.allowance(address(at))).collect();
            for (at, what) in steps {
                match what {
                    0 => held[at].give_back(),
                    1 => held[at] = gate.allowance(address(at)),
                    _ => _ = held[at].take(),
                }
                let sum = |of: &dyn Fn(IpAddr) -> bool| {
                    held.iter().filter(|one| of(one.address)).map(|one| one.held).sum::<usize>()
                };
                let books = gate.books();
                prop_assert_eq!(books.all.channels, sum(&|_| true));
                prop_assert!(books.all.channels <= 7 && held.iter().all(|one| one.held <= 3));
                for (at, record) in &books.addresses {
                    prop_assert_eq!(record.count.channels, sum(&|address| address == *at));
                    prop_assert!((1..=4).contains(&record.count.channels));
                }
                for (at, count) in &books.networks {
                    prop_assert_eq!(count.channels, sum(&|address| network(address) == *at));
                    prop_assert!((1..=5).contains(&count.channels));
                }
            }
        }
    }
}
