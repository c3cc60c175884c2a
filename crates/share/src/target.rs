//! Targets, difficulty and work: exact integers, and the one float that the wire insists on.

use std::fmt;

/// The largest hash, read as a 256-bit little-endian integer, that still counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Target([u64; 4]); // least significant limb first

/// How many hashes a target takes on average: floor(2^256 / (target + 1)). Targets below 2^128 (a difficulty above
/// 7.9e28) saturate.
pub type Work = u128;

/// Difficulty as miners speak of it: the target of difficulty 1 divided by the target. Finite and above zero.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Difficulty(f64);

impl Target {
    /// Met by every hash.
    pub const MAX: Target = Target([u64::MAX; 4]);
    /// Difficulty 1: 0xffff * 2^208.
    pub const ONE: Target = Target([0, 0, 0, 0xffff_0000]);

    /// From 32 little-endian bytes, the order of a hash in a header and of targets in Stratum V2.
    pub fn from_le_bytes(bytes: [u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            *limb = u64::from_le_bytes(chunk.try_into().expect("chunks of 8"));
        }
        Self(limbs)
    }

    /// 32 little-endian bytes.
    pub fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// From the `nBits` of a header. As consensus has it, a negative, zero or overflowing value has no target.
    pub fn from_compact(bits: u32) -> Option<Self> {
        let (exponent, mantissa) = (bits >> 24, u64::from(bits & 0x007f_ffff));
        if bits & 0x0080_0000 != 0 {
            return None;
        }
        let limbs = match exponent {
            0..=3 => [mantissa >> (8 * (3 - exponent)), 0, 0, 0],
            _ => shift_left(mantissa, 8 * (exponent - 3))?,
        };
        (limbs != [0; 4]).then_some(Self(limbs))
    }

    /// The `nBits` of this target: its three most significant bytes and where they stand (rounds down).
    pub fn to_compact(self) -> u32 {
        let bytes = self.to_le_bytes();
        let mut size = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |top| top + 1);
        let byte = |i: usize| if i < 32 { u32::from(bytes[i]) } else { 0 };
        let mut mantissa = (1..=3).fold(0, |m, i| (m << 8) | if size >= i { byte(size - i) } else { 0 });
        if mantissa & 0x0080_0000 != 0 {
            mantissa >>= 8; // the top bit means a negative number
            size += 1;
        }
        (size as u32) << 24 | mantissa
    }

    /// Whether `hash` (internal order) is at or below this target.
    pub fn is_met_by(&self, hash: &[u8; 32]) -> bool {
        Self::from_le_bytes(*hash) <= *self
    }

    /// The average number of hashes to meet it.
    pub fn work(self) -> Work {
        // 2^256 / (t + 1) = ~t / (t + 1) + 1, which stays within 256 bits; t = MAX would divide by 2^256.
        let Some(divisor) = increment(self.0) else { return 1 };
        if self.0[3] == 0 && self.0[2] == 0 {
            return Work::MAX;
        }
        let mut quotient: u128 = 0;
        let mut rest = [0u64; 4];
        let dividend = self.0.map(|limb| !limb);
        for bit in (0..256).rev() {
            let carry = rest[3] >> 63;
            rest = shift_left_one(rest, (dividend[bit / 64] >> (bit % 64)) & 1);
            quotient <<= 1;
            if carry == 1 || !less(rest, divisor) {
                rest = subtract(rest, divisor);
                quotient |= 1;
            }
        }
        quotient.saturating_add(1)
    }

    /// The difficulty of this target, for people to read.
    pub fn difficulty(self) -> Difficulty {
        let value =
            |limbs: [u64; 4]| limbs.iter().rev().fold(0.0, |sum, &limb| sum * 2f64.powi(64) + limb as f64);
        Difficulty(value(Self::ONE.0) / value(self.0).max(1.0))
    }
}

impl Difficulty {
    /// A difficulty, if `value` is finite and above zero.
    pub fn new(value: f64) -> Option<Self> {
        (value.is_finite() && value > 0.0).then_some(Self(value))
    }

    /// As a number: what `mining.set_difficulty` says.
    pub fn get(self) -> f64 {
        self.0
    }

    /// floor(target of difficulty 1 / difficulty), computed exactly from the bits of the float; at most
    /// [`Target::MAX`], at least 1.
    pub fn target(self) -> Target {
        let bits = self.0.to_bits();
        let (exponent, fraction) = ((bits >> 52) as i32 & 0x7ff, bits & ((1 << 52) - 1));
        let (mantissa, exponent) =
            if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
        // The difficulty is mantissa * 2^exponent. Eight limbs hold the dividend for every result below 2^256.
        let left = u32::try_from(-exponent).unwrap_or(0);
        if left > 8 * 64 - 225 {
            return Target::MAX;
        }
        let mut wide = [0u64; 8];
        wide[..4].copy_from_slice(&Target::ONE.0);
        let quotient = divide(shift(wide, left as i32), mantissa);
        let quotient = shift(quotient, -exponent.max(0));
        if quotient[4..] != [0; 4] {
            return Target::MAX;
        }
        let low = [quotient[0], quotient[1], quotient[2], quotient[3]];
        Target(if low == [0; 4] { [1, 0, 0, 0] } else { low })
    }
}

impl PartialOrd for Target {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Target {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "Target({d:016x}{c:016x}{b:016x}{a:016x})")
    }
}

impl fmt::Display for Difficulty {
    /// Integers without a fraction: some firmware parses nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn less(a: [u64; 4], b: [u64; 4]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

fn increment(mut limbs: [u64; 4]) -> Option<[u64; 4]> {
    for limb in &mut limbs {
        let (sum, overflow) = limb.overflowing_add(1);
        *limb = sum;
        if !overflow {
            return Some(limbs);
        }
    }
    None
}

fn subtract(mut a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    let mut borrow = false;
    for (limb, b) in a.iter_mut().zip(b) {
        let (difference, first) = limb.overflowing_sub(b);
        let (difference, second) = difference.overflowing_sub(u64::from(borrow));
        *limb = difference;
        borrow = first || second;
    }
    a
}

fn shift_left_one(mut limbs: [u64; 4], low: u64) -> [u64; 4] {
    let mut carry = low;
    for limb in &mut limbs {
        (*limb, carry) = (*limb << 1 | carry, *limb >> 63);
    }
    limbs
}

/// `value << bits`, if it fits.
fn shift_left(value: u64, bits: u32) -> Option<[u64; 4]> {
    let wide = shift([value, 0, 0, 0, 0, 0, 0, 0], i32::try_from(bits).ok().filter(|&bits| bits < 448)?);
    (wide[4..] == [0; 4]).then_some([wide[0], wide[1], wide[2], wide[3]])
}

/// Left by `bits`, or right where it is negative; what leaves the eight limbs is gone.
fn shift(limbs: [u64; 8], bits: i32) -> [u64; 8] {
    let mut shifted = [0u64; 8];
    for (i, limb) in shifted.iter_mut().enumerate() {
        let from = i as i32 * 64 - bits;
        let (index, offset) = (from.div_euclid(64), from.rem_euclid(64) as u32);
        let at = |i: i32| usize::try_from(i).ok().and_then(|i| limbs.get(i)).copied().unwrap_or(0);
        *limb = at(index) >> offset | at(index + 1).checked_shl(64 - offset).unwrap_or(0);
    }
    shifted
}

/// floor(`dividend` / `divisor`); the divisor is a float's mantissa and never zero.
fn divide(mut dividend: [u64; 8], divisor: u64) -> [u64; 8] {
    let mut rest: u128 = 0;
    for limb in dividend.iter_mut().rev() {
        let part = rest << 64 | u128::from(*limb);
        *limb = (part / u128::from(divisor)) as u64;
        rest = part % u128::from(divisor);
    }
    dividend
}

#[cfg(test)]
mod tests;
