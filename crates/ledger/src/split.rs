//! Dividing an amount by weights, so that the parts sum to the amount.

/// `amount` divided in proportion to `weights`: floors first, then one unit each to the largest remainders, ties to the
/// smaller key. The parts stand in the order of the weights and sum to `amount` exactly; with no weight at all there
/// is nothing to divide by, and the result is empty.
///
/// Weights that sum beyond 128 bits, which no real work does, are compared by their upper bits.
pub(crate) fn apportion<K: Copy + Ord>(amount: u128, weights: &[(K, u128)]) -> Vec<(K, u128)> {
    let sum =
        |shift: u32| weights.iter().try_fold(0u128, |sum, (_, weight)| sum.checked_add(weight >> shift));
    // A sum of fewer than 2^64 numbers, each shifted by 64 bits, fits.
    let (total, shift) = match sum(0) {
        Some(total) => (total, 0),
        None => (sum(64).unwrap_or(u128::MAX), 64),
    };
    if total == 0 {
        return Vec::new();
    }
    let mut remainders = Vec::with_capacity(weights.len());
    let mut parts = Vec::with_capacity(weights.len());
    let mut left = amount;
    for (index, (key, weight)) in weights.iter().enumerate() {
        let (part, remainder) = multiply_divide(amount, weight >> shift, total);
        left -= part;
        parts.push((*key, part));
        remainders.push((std::cmp::Reverse(remainder), *key, index));
    }
    // The floors miss less than one unit each, so `left` is below the number of parts.
    let left = usize::try_from(left).unwrap_or(usize::MAX).min(remainders.len());
    if left > 0 {
        remainders.select_nth_unstable(left - 1);
    }
    for (_, _, index) in &remainders[..left] {
        parts[*index].1 += 1;
    }
    parts
}

/// `ppm` millionths of `amount`, rounded down, never more than all of it.
pub(crate) fn part(amount: u64, ppm: u32) -> u64 {
    let part = u128::from(amount) * u128::from(ppm) / 1_000_000;
    u64::try_from(part).unwrap_or(u64::MAX).min(amount)
}

/// floor(a * b / c) and the remainder, for any `b` and `c > 0`; `None` if it does not fit.
pub(crate) fn ratio(a: u128, b: u128, c: u128) -> Option<(u128, u128)> {
    let (whole, rest) = (b / c, b % c);
    let (quotient, remainder) = multiply_divide(a, rest, c);
    Some((a.checked_mul(whole)?.checked_add(quotient)?, remainder))
}

/// floor(a * b / c) and the remainder, for `b <= c` and `c > 0`.
pub(crate) fn multiply_divide(a: u128, b: u128, c: u128) -> (u128, u128) {
    if let Some(product) = a.checked_mul(b) {
        return (product / c, product % c);
    }
    // Long multiplication and division bit by bit: a from its top, the rest always below c.
    let (mut quotient, mut rest) = (0u128, 0u128);
    for bit in (0..128).rev() {
        quotient <<= 1;
        let (doubled, carry) = (rest << 1, rest >> 127 == 1);
        rest = doubled;
        if carry || rest >= c {
            rest = rest.wrapping_sub(c);
            quotient += 1;
        }
        if a >> bit & 1 == 1 {
            let (sum, carry) = rest.overflowing_add(b);
            rest = sum;
            if carry || rest >= c {
                rest = rest.wrapping_sub(c);
                quotient += 1;
            }
        }
    }
    (quotient, rest)
}

#[cfg(test)]
mod tests;
