//! The parameters of a request, by position, in whatever form a firmware writes them.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use share::{Difficulty, Extranonce, Target};

/// How many parameters any method of ours looks at.
const LOOKED_AT: usize = 6;

/// The first parameters of a request; there may be more.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Params<'a>([Option<&'a str>; LOOKED_AT]);

impl<'a> Params<'a> {
    /// Anything but an array is as good as an empty one.
    pub(super) fn read(params: &'a RawValue) -> Self {
        serde_json::from_str(params.get()).unwrap_or_default()
    }

    /// Where they stand, as JSON.
    pub(super) fn places(&mut self) -> &mut [Option<&'a str>] {
        &mut self.0
    }

    /// The parameter at `at`; `None` if it is missing or null.
    pub(super) fn get(&self, at: usize) -> Option<&'a str> {
        self.0.get(at).copied().flatten().filter(|raw| *raw != "null")
    }

    /// The parameter at `at`, if it is a string.
    pub(super) fn text(&self, at: usize) -> Option<Cow<'a, str>> {
        self.get(at).and_then(text)
    }
}

impl<'de> Deserialize<'de> for Params<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;
        impl<'de> Visitor<'de> for First {
            type Value = Params<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Params<'de>, A::Error> {
                let mut params = Params::default();
                for param in params.places() {
                    *param = seq.next_element::<&RawValue>()?.map(RawValue::get);
                    if param.is_none() {
                        return Ok(params);
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(params)
            }
        }
        deserializer.deserialize_seq(First)
    }
}

/// The string that `raw` is. Borrows unless there is a backslash in it.
pub(super) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inside.bytes().any(|byte| byte == b'\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned); // half of a surrogate pair is no text
    }
    Some(Cow::Borrowed(inside))
}

/// A string as it is, or the digits of a number.
pub(super) fn text_or_number(raw: &str) -> Option<Cow<'_, str>> {
    if raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Some(Cow::Borrowed(raw));
    }
    text(raw)
}

/// One to eight hex digits of either case, as a big-endian number: short forms lack their leading zeros.
pub(super) fn hex_u32(text: &str) -> Option<u32> {
    let plain = matches!(text.len(), 1..=8) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// Whole bytes in hex of either case, no more than an extranonce can have.
pub(super) fn hex_extranonce(text: &str) -> Option<Extranonce> {
    let mut bytes = [0; Extranonce::MAX];
    let bytes = bytes.get_mut(..text.len() / 2)?;
    hex::decode_to_slice(text, bytes).ok()?;
    Extranonce::new(&[bytes])
}

/// A decimal number, with or without fraction and exponent. Not NaN, nor infinite, nor zero or below.
pub(super) fn difficulty(text: &str) -> Option<Difficulty> {
    text.trim().parse().ok().and_then(Difficulty::new)
}

/// The difficulty of a target written as 64 hex digits, most significant first.
pub(super) fn difficulty_of_target(text: &str) -> Option<Difficulty> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    bytes.reverse();
    (bytes != [0; 32]).then(|| Target::from_le_bytes(bytes).difficulty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c29_c44_short_hex_is_padded_on_the_left() {
        let check = |text, expect| assert_eq!(hex_u32(text), expect, "{text:?}");
        check("2000", Some(0x2000));
        check("0", Some(0));
        check("00000000", Some(0));
        check("1FFFe000", Some(0x1fff_e000));
        check("ffffffff", Some(u32::MAX));
        check("000000001", None);
        check("", None);
        check("+1", None);
        check("-1", None);
        check("0x1", None);
        check(" 1", None);
        check("é", None);
    }

    #[test]
    fn f30_spellings_of_an_extranonce() {
        let check = |text: &str, expect: Option<&[u8]>| {
            assert_eq!(hex_extranonce(text).as_ref().map(Extranonce::as_bytes), expect, "{text:?}");
        };
        check("c7080000", Some(&[0xc7, 8, 0, 0]));
        check("C7080000", Some(&[0xc7, 8, 0, 0]));
        check("", Some(&[]));
        check("c70", None);
        check("c7g0", None);
        check("é", None);
        check(&"ab".repeat(32), Some(&[0xab; 32]));
        check(&"ab".repeat(33), None);
        check(&format!("{}a", "ab".repeat(32)), None);
    }

    #[test]
    fn c54_numbers_that_make_no_difficulty() {
        let check =
            |text, expect: Option<f64>| assert_eq!(difficulty(text).map(Difficulty::get), expect, "{text:?}");
        check("42", Some(42.0));
        check(" 0.5 ", Some(0.5));
        check("1e3", Some(1000.0));
        check("1e308", Some(1e308));
        for text in
            ["0", "-0", "-1", "1e309", "1e400", "NaN", "inf", "infinity", "-inf", "", "x", "1,5", "1e-400"]
        {
            check(text, None);
        }
        check(&"9".repeat(400), None);
    }

    #[test]
    fn c54_targets() {
        let check = |text: &str, expect: Option<f64>| {
            assert_eq!(difficulty_of_target(text).map(Difficulty::get), expect, "{text:?}");
        };
        check("00000000ffff0000000000000000000000000000000000000000000000000000", Some(1.0));
        check("000000007FFF8000000000000000000000000000000000000000000000000000", Some(2.0));
        check(&"0".repeat(64), None);
        check(&"0".repeat(62), None);
        check(&"f".repeat(66), None);
        check(&"g".repeat(64), None);
        assert!(difficulty_of_target(&"f".repeat(64)).is_some_and(|easy| easy.get() < 1e-9));
    }
}
