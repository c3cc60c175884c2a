//! Who may connect: how many in all, per address and per network, and who is banned for a while. The same for the channels
//! of V2 (`allowance`).
//!
//! A farm behind one address is not punished for one bad machine in it: what a connection does wrong closes that
//! connection, and its address is banned only while nobody there does honest work. Of IPv6 a /64 counts as one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;

use crate::{Limits, fading::Fading};
pub use allowance::Allowance;

mod allowance;

/// Most addresses that are remembered without a connection; beyond, those with the least against them go.
const REMEMBERED: usize = 50_000;

/// Counts connections by where they come from. Cheap to clone; asked once per connection and channel, not per share.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    limits: Limits,
    trusted: Vec<IpNet>,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    all: Count,
    addresses: HashMap<IpAddr, Record>,
    networks: HashMap<IpAddr, Count>,
}

/// What is there now.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
struct Count {
    connections: usize,
    /// Of V2.
    channels: usize,
}

/// What is known of an address.
#[derive(Default)]
struct Record {
    count: Count,
    /// How many of its connections have had a share accepted.
    honest: usize,
    /// Points for what was done wrong there.
    score: Fading,
    banned_until_ms: u64,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The pool is full.
    Full,
    /// Too many from this address.
    Address,
    /// Too many from this network.
    Network,
    /// The address is banned.
    Banned,
}

/// A connection's right to be here; gives its place back when dropped.
pub struct Pass {
    gate: Gate,
    address: IpAddr,
    is_honest: bool,
}

impl Gate {
    /// A gate that keeps `limits`, but for the `trusted`, who only count towards the pool's fill.
    pub fn new(limits: Limits, trusted: Vec<IpNet>) -> Self {
        Self(Arc::new(Inner { limits, trusted, books: Mutex::default() }))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.trusted.iter().any(|network| network.contains(&address))
    }

    /// Lets a connection from `address` in, or says why not.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn enter(&self, address: IpAddr, now_ms: u64) -> Result<Pass, Refusal> {
        let (address, limits) = (address.to_canonical(), &self.0.limits);
        let mut books = self.books();
        let network = network(address);
        let from_network = books.networks.get(&network).copied().unwrap_or_default();
        let record = books.addresses.get(&holder(address)).filter(|_| !self.trusts(address));
        let refusal = match record {
            Some(record) if now_ms < record.banned_until_ms => Some(Refusal::Banned),
            Some(record) if record.count.connections >= limits.per_address => Some(Refusal::Address),
            _ if from_network.connections >= limits.per_network && !self.trusts(address) => {
                Some(Refusal::Network)
            }
            _ if books.all.connections >= limits.connections => Some(Refusal::Full),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        books.each(address, |count| count.connections += 1);
        Ok(Pass { gate: self.clone(), address, is_honest: false })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Changes all the counts that something from `address` is in, and forgets those of where nothing is any more.
    fn each(&mut self, address: IpAddr, change: impl Fn(&mut Count)) {
        let network = network(address);
        let (record, of_network) =
            (self.addresses.entry(holder(address)).or_default(), self.networks.entry(network).or_default());
        [&mut self.all, &mut record.count, &mut *of_network].into_iter().for_each(change);
        if *of_network == Count::default() {
            self.networks.remove(&network);
        }
        let is_clean = record.score.last() < 0.5 && record.banned_until_ms == 0;
        if record.count == Count::default() && record.honest == 0 && is_clean {
            self.addresses.remove(&holder(address));
        }
    }
}

impl Pass {
    /// Where the connection comes from.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// This connection has had a share accepted.
    pub fn honest(&mut self) {
        if !std::mem::replace(&mut self.is_honest, true) {
            self.gate.books().addresses.entry(holder(self.address)).or_default().honest += 1;
        }
    }

    /// This connection was closed for what it did. Whether its address is banned now.
    pub fn offend(&mut self, now_ms: u64) -> bool {
        if self.gate.trusts(self.address) {
            return false;
        }
        let limits = &self.gate.0.limits;
        let mut books = self.gate.books();
        let record = books.addresses.entry(holder(self.address)).or_default();
        let others = record.honest - usize::from(self.is_honest);
        if others > 0 {
            return false;
        }
        let half_life = limits.ban.as_millis() as f64;
        // Half of one less: the earlier ones have faded a little, be it only by a moment.
        if record.score.add(1.0, half_life, now_ms) + 0.5 < f64::from(limits.offences) {
            return false;
        }
        record.banned_until_ms = now_ms.saturating_add(limits.ban.as_millis() as u64);
        true
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut books = self.gate.books();
        if let Some(record) = books.addresses.get_mut(&holder(self.address)) {
            record.honest = record.honest.saturating_sub(usize::from(self.is_honest));
        }
        books.each(self.address, |count| count.connections = count.connections.saturating_sub(1));
        if books.addresses.len() > REMEMBERED {
            let mut scores: Vec<f64> = books.addresses.values().map(|record| record.score.last()).collect();
            let middle = scores.len() / 2;
            let median = *scores.select_nth_unstable_by(middle, f64::total_cmp).1;
            books
                .addresses
                .retain(|_, record| record.count != Count::default() || record.score.last() > median);
        }
    }
}

/// Who an address is of: in IPv6 anybody has a /64 of them.
fn holder(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

/// The /24 or /48 that an address is in, by its first address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            IpAddr::from([a, b, c, 0, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits() -> Limits {
        Limits {
            connections: 6,
            per_address: 3,
            per_network: 4,
            offences: 3,
            ban: Duration::from_secs(60),
            ..Limits::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn f44_caps_in_all_by_address_and_by_network() {
        let gate = Gate::new(limits(), Vec::new());
        let enter = |address| gate.enter(ip(address), 0).map_err(|refusal| format!("{refusal:?}"));
        let mut inside: Vec<Pass> = (0..3).map(|_| enter("10.0.0.1").unwrap()).collect();
        assert_eq!(enter("10.0.0.1").err().unwrap(), "Address");
        assert_eq!(enter("::ffff:10.0.0.1").err().unwrap(), "Address", "the same, as IPv6 says it");
        inside.push(enter("10.0.0.2").unwrap());
        assert_eq!(enter("10.0.0.3").err().unwrap(), "Network");
        inside.push(enter("10.0.1.3").unwrap());
        inside.push(enter("2001:db8::1").unwrap());
        assert_eq!(enter("2001:db8:1::1").err().unwrap(), "Full");
        inside.clear();
        inside.extend(["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|address| enter(address).unwrap()));
        assert_eq!(enter("2001:db8::4").err().unwrap(), "Address", "all of a /64 are one");
        inside.push(enter("2001:db8:0:1::4").unwrap());
        inside.clear();
        assert!(enter("10.0.0.1").is_ok());
        let books = gate.books();
        assert_eq!((books.all, books.addresses.len(), books.networks.len()), (Count::default(), 0, 0));
    }

    #[test]
    fn an_address_is_banned_after_offences_and_for_a_while() {
        let gate = Gate::new(limits(), Vec::new());
        let mut bad = gate.enter(ip("10.0.0.1"), 0).unwrap_or_else(|_| unreachable!());
        assert!(!bad.offend(0));
        drop(bad);
        let mut bad = gate.enter(ip("10.0.0.1"), 1_000).unwrap_or_else(|_| unreachable!());
        assert!(!bad.offend(600_000), "the first offence is long ago");
        assert!(!bad.offend(601_000));
        assert!(bad.offend(602_000), "the third, though the first two have faded a little");
        drop(bad);
        assert_eq!(gate.enter(ip("10.0.0.1"), 661_999).err(), Some(Refusal::Banned));
        assert!(gate.enter(ip("10.0.0.1"), 662_000).is_ok());
    }

    #[test]
    fn the_trusted_are_neither_counted_nor_banned() {
        let gate = Gate::new(limits(), vec!["10.0.0.0/8".parse().unwrap()]);
        let mut inside: Vec<Pass> = (0..6).filter_map(|_| gate.enter(ip("10.0.0.1"), 0).ok()).collect();
        assert_eq!(inside.len(), 6);
        assert!((0..100).all(|now| !inside[0].offend(now)));
        assert_eq!(gate.enter(ip("10.0.0.1"), 0).err(), Some(Refusal::Full));
    }

    #[test]
    fn a_farm_behind_one_address_is_not_punished() {
        let gate = Gate::new(limits(), Vec::new());
        let mut good = gate.enter(ip("10.0.0.1"), 0).unwrap_or_else(|_| unreachable!());
        good.honest();
        let mut bad = gate.enter(ip("10.0.0.1"), 0).unwrap_or_else(|_| unreachable!());
        assert!((0..100).all(|now| !bad.offend(now)));
        drop(good);
        assert!((0..5).any(|now| bad.offend(now)), "nobody honest is left");
    }
}
