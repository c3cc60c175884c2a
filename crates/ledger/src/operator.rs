//! What the operator does in the books himself: he makes good what is wrong with a miner's balance, and moves money between
//! the pool's fee, the reserve, and himself.
//!
//! He asks through the database, and whoever runs the ledger carries it out, in one transaction that also notes it as done:
//! so it is done once however often anything is killed, and beside whatever else the pool does. Nothing is updated: what
//! is made good is another transaction of the journal, with the reason that was given.

use serde::{Deserialize, Serialize};

pub(crate) mod asked;
mod book;
mod history;

pub(crate) use book::follow;
pub use history::{AccountEntry, AccountHistory};

/// Where money can be moved from or to by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// What a miner has available; by its canonical address.
    Miner(String),
    /// The pool's fee that is available.
    Fee,
    /// The reserve.
    Reserve,
    /// The operator's own pocket: what he pays into the wallet, or takes out of it.
    Operator,
}

/// A movement by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Movement {
    /// Where it is taken from.
    pub from: Place,
    /// Where it goes.
    pub to: Place,
    /// Millisatoshi.
    pub msat: u64,
    /// The operator's name for it: what has one key is done once.
    pub key: String,
    /// Why, in the operator's words.
    pub reason: String,
    /// Whether a miner may be given what the reserve does not have.
    pub overdraw: bool,
}

/// Why a movement makes no sense, whatever the books say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MovementError {
    /// Nothing would move.
    #[error("an amount of 0 msat moves nothing: give 1 at least")]
    Nothing,
    /// More than there will ever be.
    #[error(
        "{0} msat are more than there will ever be (21 million coins): is it millisatoshi that you mean?"
    )]
    TooMuch(u64),
    /// It would move nothing from where it is, or from a miner to where a correction does not take it.
    #[error(
        "money cannot be moved by hand from {0} to {1}: a correction is between a miner and fee or reserve, funding between \
         fee, reserve and operator"
    )]
    Places(String, String),
    /// Something that is not to be shown in a key.
    #[error("the key {0:?} will not do: give 1 to {max} letters, digits, dots, dashes or underscores", max = Movement::MAX_KEY)]
    Key(String),
    /// Nothing, too much, or control characters.
    #[error("the reason must be one line of 1 to {max} characters: it stays in the journal for good", max = Movement::MAX_REASON)]
    Reason,
}

impl Place {
    /// For people: `fee`, `reserve`, `operator`, or the address.
    pub fn name(&self) -> &str {
        match self {
            Self::Miner(address) => address,
            Self::Fee => "fee",
            Self::Reserve => "reserve",
            Self::Operator => "operator",
        }
    }
}

impl Movement {
    /// The longest key, in bytes.
    pub const MAX_KEY: usize = 64;
    /// The longest reason, in characters.
    pub const MAX_REASON: usize = 500;
    /// All coins that there will be, millisatoshi.
    const ALL: u64 = 21_000_000 * 100_000_000 * 1_000;

    /// Whether it makes sense at all.
    ///
    /// # Errors
    /// What does not, in words for the operator.
    pub fn check(&self) -> Result<(), MovementError> {
        if self.msat == 0 {
            return Err(MovementError::Nothing);
        }
        if self.msat > Self::ALL {
            return Err(MovementError::TooMuch(self.msat));
        }
        let fits = match (&self.from, &self.to) {
            (Place::Miner(_), other) | (other, Place::Miner(_)) => {
                matches!(other, Place::Fee | Place::Reserve)
            }
            (from, to) => from != to,
        };
        if !fits {
            return Err(MovementError::Places(self.from.name().to_owned(), self.to.name().to_owned()));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=Self::MAX_KEY).contains(&self.key.len()) || !self.key.bytes().all(is_plain) {
            return Err(MovementError::Key(self.key.chars().take(Self::MAX_KEY).collect()));
        }
        let length = self.reason.chars().count();
        let is_blank = self.reason.trim().is_empty();
        if is_blank || length > Self::MAX_REASON || self.reason.contains(char::is_control) {
            return Err(MovementError::Reason);
        }
        Ok(())
    }

    /// The miner that it is about, if it is about one.
    fn miner(&self) -> Option<&str> {
        match (&self.from, &self.to) {
            (Place::Miner(address), _) | (_, Place::Miner(address)) => Some(address),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn movement(from: Place, to: Place) -> Movement {
        let (key, reason) = ("ticket-17".to_owned(), "counted by hand".to_owned());
        Movement { from, to, msat: 5, key, reason, overdraw: false }
    }

    #[test]
    fn which_movements_make_sense() {
        use Place::{Fee, Operator, Reserve};
        let miner = || Place::Miner("a".to_owned());
        for (from, to, fits) in [
            (miner(), Fee, true),
            (miner(), Reserve, true),
            (Fee, miner(), true),
            (Reserve, miner(), true),
            (Fee, Reserve, true),
            (Reserve, Fee, true),
            (Operator, Reserve, true),
            (Operator, Fee, true),
            (Fee, Operator, true),
            (Reserve, Operator, true),
            (Operator, miner(), false),
            (miner(), Operator, false),
            (miner(), miner(), false),
            (Fee, Fee, false),
            (Operator, Operator, false),
        ] {
            let movement = movement(from, to);
            assert_eq!(movement.check().is_ok(), fits, "{movement:?}");
        }
    }

    #[test]
    fn what_is_said_with_them() {
        type Change = fn(&mut Movement);
        let check = |change: Change, expect: Option<&str>| {
            let mut movement = movement(Place::Fee, Place::Reserve);
            change(&mut movement);
            let said = movement.check().err().map(|error| error.to_string());
            assert_eq!(said.is_some(), expect.is_some(), "{movement:?}: {said:?}");
            assert!(said.unwrap_or_default().contains(expect.unwrap_or_default()), "{movement:?}");
        };
        check(|_| {}, None);
        check(|it| it.msat = 0, Some("moves nothing"));
        check(|it| it.msat = Movement::ALL, None);
        check(|it| it.msat = u64::MAX, Some("more than there will ever be"));
        check(|it| it.key = "x".repeat(64), None);
        check(|it| it.key = "x".repeat(65), Some("will not do"));
        check(|it| it.key = String::new(), Some("will not do"));
        check(|it| it.key = "a:b".to_owned(), Some("will not do"));
        check(|it| it.key = "a b".to_owned(), Some("will not do"));
        check(|it| it.reason = "é".repeat(500), None);
        check(|it| it.reason = "é".repeat(501), Some("one line"));
        check(|it| it.reason = "  ".to_owned(), Some("one line"));
        check(|it| it.reason = "a\nb".to_owned(), Some("one line"));
    }
}
