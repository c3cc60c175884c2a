//! Who gets how much, to the satoshi and to the millisatoshi.

use crate::{
    journal::{Account, Purse},
    split::apportion,
};

/// Who bears what the network takes for a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeeFrom {
    /// The pool, out of its fee.
    Pool,
    /// Those who are paid, in proportion to what they are paid.
    Miners,
}

impl FeeFrom {
    /// `pool` or `miners`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Miners => "miners",
        }
    }

    /// The one that [`Self::as_str`] names so.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pool, Self::Miners].into_iter().find(|from| from.as_str() == text)
    }
}

/// Millisatoshi in a satoshi.
pub(crate) const MSAT: i64 = 1000;

/// The whole satoshi of a balance: what is below one stays where it is (W5).
pub(crate) fn whole_sats(balance_msat: i64) -> u64 {
    u64::try_from(balance_msat / MSAT).unwrap_or(0)
}

/// What the outputs pay: `gross`, less the part of `fee` that is each one's, where miners bear it. The parts are whole
/// satoshi and sum to the fee. `None` if somebody's part is all that it gets, or more.
pub(crate) fn outputs(gross: &[u64], fee: u64, from: FeeFrom) -> Option<Vec<u64>> {
    match from {
        FeeFrom::Pool => Some(gross.to_vec()),
        FeeFrom::Miners => {
            let weights: Vec<(usize, u128)> =
                gross.iter().map(|sats| u128::from(*sats)).enumerate().collect();
            let parts = apportion(u128::from(fee), &weights);
            let net = gross.iter().zip(parts).map(|(gross, (_, part))| {
                gross.checked_sub(u64::try_from(part).ok()?).filter(|net| *net > 0)
            });
            net.collect()
        }
    }
}

/// The entries of a batch that is planned.
pub(super) fn planned(items: &[(i64, u64)]) -> Option<Vec<(Account, i64)>> {
    let mut entries = Vec::with_capacity(2 * items.len());
    for (miner, sats) in items {
        let amount = msat(*sats)?;
        entries.push((Account::Miner(*miner, Purse::Available), -amount));
        entries.push((Account::Miner(*miner, Purse::InFlight), amount));
    }
    Some(entries)
}

/// The entries of a batch that is confirmed, and left `fee` to the network.
pub(super) fn paid(items: &[(i64, u64)], fee: u64, from: FeeFrom) -> Option<Vec<(Account, i64)>> {
    let gross: Vec<u64> = items.iter().map(|(_, sats)| *sats).collect();
    let net = outputs(&gross, fee, from)?;
    let mut entries = vec![(Account::NetworkFee, msat(fee)?)];
    if from == FeeFrom::Pool {
        entries.push((Account::FeeAvailable, -msat(fee)?));
    }
    for ((miner, gross), net) in items.iter().zip(net) {
        entries.push((Account::Miner(*miner, Purse::InFlight), -msat(*gross)?));
        entries.push((Account::Miner(*miner, Purse::Paid), msat(net)?));
    }
    Some(entries)
}

/// The same with the signs turned: what takes it back.
pub(super) fn reversed(entries: Vec<(Account, i64)>) -> Vec<(Account, i64)> {
    entries.into_iter().map(|(account, amount)| (account, -amount)).collect()
}

fn msat(sats: u64) -> Option<i64> {
    i64::try_from(sats).ok()?.checked_mul(MSAT)
}

/// What a transaction is to pay per 1000 virtual bytes, or why none is made: what the node thinks, else what the operator
/// set for that case, but no more than the operator allows.
pub(super) fn rate(estimate: Option<u64>, fallback: Option<u64>, most: u64) -> Result<u64, String> {
    /// Below this no node relays.
    const LEAST: u64 = 1000;
    let Some(rate) = estimate.or(fallback).map(|rate| rate.max(LEAST)) else {
        return Err("the node cannot tell what fee is needed yet: wait, or set payout.feerate".to_owned());
    };
    if rate > most {
        return Err(format!(
            "the network asks for {} sat/vB, payout.max_feerate is {}: waiting for it to fall; raise that to pay all the \
             same",
            rate.div_ceil(1000),
            most / 1000
        ));
    }
    Ok(rate)
}

#[cfg(test)]
mod tests;
