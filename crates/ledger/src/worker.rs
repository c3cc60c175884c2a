//! Who mines: a payout address and a name that tells one machine from another.

use std::{fmt, str::FromStr, sync::Arc};

use bitcoin::{Address, Network, address::NetworkUnchecked};
use sha2::{Digest, Sha256};

/// The first 16 bytes of SHA-256 over `address.name`, the address in canonical form: every server comes to the same
/// one without asking a database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub [u8; 16]);

/// A miner's machine, or all the machines that say they have this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    id: WorkerId,
    address: Arc<str>,
    name: Arc<str>,
    script: Box<[u8]>,
}

/// Why a user name cannot be paid. The texts are meant for the miner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Longer than [`Worker::MAX_USER`].
    #[error("the user name has {0} bytes; at most {max} are allowed: use ADDRESS.WORKER", max = Worker::MAX_USER)]
    TooLong(usize),
    /// What stands before the first `.` or `_` is no address at all.
    #[error("the user name must begin with a Bitcoin address, as in ADDRESS.WORKER; {0:?} is none")]
    NotAnAddress(String),
    /// A good address, but coins cannot be sent to it on this chain.
    #[error("{address} is an address of another network; this pool mines on {network}")]
    OtherNetwork {
        /// The address as it was given.
        address: String,
        /// The network of this pool.
        network: Network,
    },
}

impl Worker {
    /// The longest user name that is looked at, in bytes.
    pub const MAX_USER: usize = 191;
    /// The longest name of a worker, in characters; what is longer is cut.
    pub const MAX_NAME: usize = 64;

    /// Parses `address.worker`, `address_worker` or a bare address. `%XX` stands for a byte, since some firmware
    /// sends it. The name loses its control characters and may be empty.
    pub fn parse(user: &str, network: Network) -> Result<Self, UserError> {
        let (given, unchecked, name) = Self::parts(user)?;
        let address = unchecked
            .require_network(network)
            .map_err(|_| UserError::OtherNetwork { address: given, network })?;
        // Display is the canonical form: bech32 in lower case, base58 as it must be.
        Ok(Self::new(address.to_string(), name, address.script_pubkey().into_bytes()))
    }

    /// `address.name` of a user name as [`Self::parse`] takes it, whatever the network: what its [`WorkerId`] is made of.
    ///
    /// # Errors
    /// If it begins with no address, or is too long.
    pub fn identity(user: &str) -> Result<String, UserError> {
        let (_, address, name) = Self::parts(user)?;
        Ok(format!("{}.{name}", address.assume_checked()))
    }

    /// The address as it was given, what it means, and the name.
    fn parts(user: &str) -> Result<(String, Address<NetworkUnchecked>, String), UserError> {
        if user.len() > Self::MAX_USER {
            return Err(UserError::TooLong(user.len()));
        }
        let user = percent_decoded(user);
        let (address, name) = user.split_once(['.', '_']).unwrap_or((&user, ""));
        let address = address.trim();
        let unchecked = Address::<NetworkUnchecked>::from_str(address)
            .map_err(|_| UserError::NotAnAddress(address.chars().filter(|c| !c.is_control()).collect()))?;
        Ok((address.to_owned(), unchecked, cleaned(name)))
    }

    fn new(address: String, name: String, script: Vec<u8>) -> Self {
        let id = WorkerId::of(&format!("{address}.{name}"));
        Self { id, address: address.into(), name: name.into(), script: script.into() }
    }

    /// The worker of the same address with another name, which loses its control characters.
    pub fn named(&self, name: &str) -> Self {
        let Self { address, script, .. } = self;
        let name = cleaned(name);
        let id = WorkerId::of(&format!("{address}.{name}"));
        Self { id, address: address.clone(), name: name.into(), script: script.clone() }
    }

    /// What stands for this worker in records.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// The payout address, canonical.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The name without the address; may be empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Address and name, to keep without a copy.
    pub fn shared(&self) -> (Arc<str>, Arc<str>) {
        (self.address.clone(), self.name.clone())
    }

    /// The script that pays to the address.
    pub fn script(&self) -> &[u8] {
        &self.script
    }
}

impl WorkerId {
    /// Of `address.name`; the dot stands also when the name is empty.
    pub(crate) fn of(identity: &str) -> Self {
        let digest = Sha256::digest(identity.as_bytes());
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(id)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerId({})", hex::encode(self.0))
    }
}

/// Control characters are what would break a log, a page or a record, and so are those that nobody sees but that turn
/// lines around, or break them; the rest of Unicode is the miner's business.
fn cleaned(name: &str) -> String {
    let is_unseen = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let kept: String = name.chars().filter(|&c| !c.is_control() && !is_unseen(c)).collect();
    kept.trim().chars().take(Worker::MAX_NAME).collect::<String>().trim_end().to_owned()
}

fn percent_decoded(user: &str) -> String {
    let mut bytes = Vec::with_capacity(user.len());
    let mut rest = user.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = (byte == b'%').then(|| after.get(..2)).flatten().and_then(|two| hex::decode(two).ok());
        match escape {
            Some(decoded) => {
                bytes.extend(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BECH32: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
    const BASE58: &str = "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn";

    fn check(user: &str, expect: Result<(&str, &str), UserError>) {
        let worker = Worker::parse(user, Network::Signet);
        let got = worker.as_ref().map(|worker| (worker.address(), worker.name()));
        assert_eq!(got, expect.as_ref().map(|ok| *ok), "{user:?}");
    }

    #[test]
    fn user_names() {
        let other = |address: &str| {
            Err(UserError::OtherNetwork { address: address.to_owned(), network: Network::Signet })
        };
        let none = |text: &str| Err(UserError::NotAnAddress(text.to_owned()));
        check(BECH32, Ok((BECH32, "")));
        check(&format!("{BECH32}."), Ok((BECH32, "")));
        check(&format!("{BECH32}.rig1"), Ok((BECH32, "rig1")));
        check(&format!("{BECH32}_rig1"), Ok((BECH32, "rig1")));
        check(&format!("{BECH32}.rig.1_a"), Ok((BECH32, "rig.1_a")));
        check(&format!(" {BECH32} . rig "), Ok((BECH32, "rig")));
        check(&format!("{BECH32}%2Erig%201%zz%"), Ok((BECH32, "rig 1%zz%")));
        check(&format!("{BECH32}.a\u{0}b\u{1b}[31mc%0A"), Ok((BECH32, "ab[31mc")));
        check(&format!("{BECH32}.%ff"), Ok((BECH32, "\u{fffd}")));
        check(&format!("{}.Rig", BECH32.to_uppercase()), Ok((BECH32, "Rig")));
        check(&format!("{BASE58}.x"), Ok((BASE58, "x")));
        check(&format!("{BECH32}.{}", "n".repeat(100)), Ok((BECH32, &"n".repeat(64))));
        check(&BASE58.to_lowercase(), none(&BASE58.to_lowercase()));
        check(&format!("Tb{}", &BECH32[2..]), none(&format!("Tb{}", &BECH32[2..])));
        check("", none(""));
        check("worker", none("worker"));
        check("\u{7}", none(""));
        check(
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
            other("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        );
        check("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa.x", other("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"));
        check(&"x".repeat(192), Err(UserError::TooLong(192)));
    }

    #[test]
    fn others_of_the_same_address() {
        let worker = |user: &str| Worker::parse(user, Network::Signet).unwrap();
        let check = |name: &str, same: &str| {
            let named = worker(&format!("{BECH32}.proxy")).named(name);
            assert_eq!(named, worker(&format!("{BECH32}.{same}")), "{name:?}");
        };
        check("rig1", "rig1");
        check("a.b_c", "a.b_c");
        check("", "");
        check(" a\u{0}\u{1b}b ", "ab");
        check(&"n".repeat(100), &"n".repeat(64));
    }

    #[test]
    fn one_worker_has_one_id_however_it_is_written() {
        let id = |user: &str| Worker::parse(user, Network::Signet).map(|worker| worker.id());
        assert_eq!(id(&format!("{BECH32}.a")), id(&format!("{}_a", BECH32.to_uppercase())));
        assert_ne!(id(&format!("{BECH32}.a")), id(&format!("{BECH32}.b")));
        assert_eq!(id(BECH32), Ok(WorkerId::of(&format!("{BECH32}."))));
        // Another server, another version: the id is part of what is on disk.
        assert_eq!(
            hex::encode(WorkerId::of("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx.rig1").0),
            hex::encode(&Sha256::digest(b"tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx.rig1")[..16])
        );
    }

    proptest! {
        #[test]
        fn no_user_name_panics(user in ".{0,200}") {
            let _ = Worker::parse(&user, Network::Bitcoin);
        }

        #[test]
        fn names_are_short_and_printable(name in "\\PC{0,80}|.{0,80}") {
            if let Ok(worker) = Worker::parse(&format!("{BECH32}.{name}"), Network::Signet) {
                prop_assert!(worker.name().chars().count() <= Worker::MAX_NAME);
                prop_assert!(!worker.name().chars().any(char::is_control));
                prop_assert_eq!(worker.name(), worker.name().trim());
            }
        }
    }
}
