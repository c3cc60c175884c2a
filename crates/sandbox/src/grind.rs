//! Grinding: the search for a nonce, at the cost of two compressions each.

use std::ops::RangeInclusive;

use sha2::block_api::compress256;
use share::{Target, sha256};

/// What SHA-256 starts from (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A block header to search a nonce for. Its first 64 bytes are compressed once; a nonce stands in the second block.
#[derive(Clone)]
pub struct Header {
    bytes: [u8; 80],
    midstate: [u32; 8],
    /// The last 16 bytes of the header, padded to a whole block.
    tail: [u8; 64],
    /// The first hash, padded to a whole block: only its first half changes.
    inner: [u8; 64],
}

impl Header {
    /// Where the nonce stands in `tail`.
    const NONCE: std::ops::Range<usize> = 12..16;

    /// Takes in a header; its nonce does not matter.
    pub fn new(bytes: [u8; 80]) -> Self {
        let (mut first, mut midstate) = ([0; 64], INITIAL);
        first.copy_from_slice(&bytes[..64]);
        compress256(&mut midstate, &[first]);
        Self { bytes, midstate, tail: padded(&bytes[64..], 80), inner: padded(&[0; 32], 32) }
    }

    /// The header with `nonce`.
    pub fn with(&self, nonce: u32) -> [u8; 80] {
        let mut bytes = self.bytes;
        bytes[76..].copy_from_slice(&nonce.to_le_bytes());
        bytes
    }

    /// The first nonce of `nonces` whose hash meets `target`. Runs to the end of them: how many they are is how long
    /// the caller is willing to wait.
    pub fn grind(&self, nonces: RangeInclusive<u32>, target: &Target) -> Option<u32> {
        let [.., a, b, c, d] = target.to_le_bytes();
        let top = u32::from_le_bytes([a, b, c, d]);
        let (mut tail, mut inner) = (self.tail, self.inner);
        for nonce in nonces {
            tail[Self::NONCE].copy_from_slice(&nonce.to_le_bytes());
            let mut state = self.midstate;
            compress256(&mut state, &[tail]);
            for (bytes, word) in inner.chunks_exact_mut(4).zip(state) {
                bytes.copy_from_slice(&word.to_be_bytes());
            }
            let mut state = INITIAL;
            compress256(&mut state, &[inner]);
            // The last word of the hash is the highest of the number; nearly every nonce ends here.
            if state[7].swap_bytes() <= top && target.is_met_by(&sha256::double(&self.with(nonce))) {
                return Some(nonce);
            }
        }
        None
    }
}

/// The last block of a SHA-256 input of `length` bytes, of which it holds `end` (at most 55 bytes).
fn padded(end: &[u8], length: u64) -> [u8; 64] {
    let mut block = [0; 64];
    block[..end.len()].copy_from_slice(end);
    block[end.len()] = 0x80;
    block[56..].copy_from_slice(&(8 * length).to_be_bytes());
    block
}

#[cfg(test)]
mod tests {
    use share::Difficulty;

    use super::*;

    /// The header of the share vector (Stratum V1 as a real miner submitted it), of difficulty 669.868.
    const VECTOR: &str = "00200020f2921517920e7423e6f623d22725ff8b4facf79a1e45462202000000000000006b5d684a704b4abe62b2375c5326d1fc1dbb61168aff84e920ba28968bf1075fecf3b364f8952419910d46ed";
    const NONCE: u32 = 0xed46_0d91;

    fn vector() -> Header {
        Header::new(hex::decode(VECTOR).unwrap().try_into().unwrap())
    }

    fn target(difficulty: f64) -> Target {
        Difficulty::new(difficulty).unwrap().target()
    }

    #[test]
    fn finds_the_nonce_of_the_share_vector() {
        let check = |nonces: RangeInclusive<u32>, difficulty: f64, expect: Option<u32>| {
            assert_eq!(
                vector().grind(nonces.clone(), &target(difficulty)),
                expect,
                "{nonces:x?} at {difficulty}"
            )
        };
        check(NONCE - 5_000..=NONCE + 5_000, 512.0, Some(NONCE));
        check(NONCE..=NONCE, 669.0, Some(NONCE));
        check(NONCE..=NONCE, 670.0, None);
        check(NONCE + 1..=NONCE + 5_000, 512.0, None);
        #[expect(clippy::reversed_empty_ranges, reason = "a range without nonces must be harmless")]
        check(1..=0, 1e-12, None);
        check(u32::MAX..=u32::MAX, 1e-12, Some(u32::MAX));
        assert_eq!(vector().with(NONCE).to_vec(), hex::decode(VECTOR).unwrap());
    }

    #[test]
    fn agrees_with_a_plain_double_hash() {
        let header = Header::new(std::array::from_fn(|i| i as u8));
        let target = target(1e-7); // about one of 430 hashes
        let plain: Vec<u32> =
            (0..20_000).filter(|&nonce| target.is_met_by(&sha256::double(&header.with(nonce)))).collect();
        let mut found = Vec::new();
        let mut next = 0;
        while let Some(nonce) = header.grind(next..=19_999, &target) {
            found.push(nonce);
            next = nonce + 1;
        }
        assert!(plain.len() > 20);
        assert_eq!(found, plain);
    }
}
