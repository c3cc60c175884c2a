//! A hash as people read it: 64 hex digits, in the reverse of the order in which it is hashed. For the edges only.

use crate::Hash;

/// `hash` as people read it, in lower case.
pub fn shown(hash: &Hash) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = hash.iter().rev().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The hash that `text` shows, in either case. `None` if that is not 64 hex digits.
pub fn read(text: &str) -> Option<Hash> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut hash = [0; 32];
    if pairs.len() != hash.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in hash.iter_mut().rev().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(hash)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_and_read() {
        let hash: Hash = std::array::from_fn(|at| at as u8 * 8 + 7);
        let text = shown(&hash);
        assert!(text.starts_with("fff7efe7") && text.ends_with("1f170f07"), "{text}");
        let check = |text: &str, expect: Option<Hash>| assert_eq!(read(text), expect, "{text:?}");
        check(&text, Some(hash));
        check(&text.to_uppercase(), Some(hash));
        check(&text[1..], None);
        check(&format!("{text}00"), None);
        check(&format!("{}+7", &text[..62]), None);
        check(&format!("{}é", &text[..62]), None);
        check(
            &format!("{}2a", "00".repeat(31)),
            Some(std::array::from_fn(|at| if at == 0 { 0x2a } else { 0 })),
        );
        check(&"FF".repeat(32), Some([0xff; 32]));
        check(&"zz".repeat(32), None);
        check(&"00".repeat(31), None);
        check(&"é".repeat(32), None);
        check("", None);
    }
}
