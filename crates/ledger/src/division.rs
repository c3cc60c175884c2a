//! A block's reward, divided: so much the fee, so much the reserve's, so much each miner's. Integers only, and the parts
//! sum to the reward.

use bitcoin::Network;

use crate::{
    LedgerError,
    split::{apportion, multiply_divide, part},
    window::Weights,
};

/// A reward, millisatoshi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reward {
    pub subsidy: u64,
    pub fees: u64,
}

/// Who gets what of it, millisatoshi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Division {
    pub reserve: i64,
    pub miners: Vec<(i64, i64)>,
}

/// How often the subsidy has been halved before a block of `height`.
pub(crate) fn halvings(network: Network, height: u32) -> u32 {
    let interval = if network == Network::Regtest { 150 } else { 210_000 };
    height / interval
}

/// The subsidy of a block, millisatoshi.
pub(crate) fn subsidy(halvings: u32) -> u64 {
    5_000_000_000u64.checked_shr(halvings).unwrap_or(0) * 1_000
}

impl Reward {
    /// Of `msat` at `height`. A coinbase that takes less than the subsidy has no fees.
    pub fn of(network: Network, height: u32, msat: u64) -> Self {
        let subsidy = subsidy(halvings(network, height)).min(msat);
        Self { subsidy, fees: msat - subsidy }
    }

    /// What of it is the miners', by part: see [`parts`].
    fn gross(self, weights: &Weights) -> Vec<Share> {
        let total = weights.total();
        let share = |amount: u64, weights: Vec<(i64, u128)>, bought: u128| {
            let miners = total.saturating_sub(bought);
            let gross = match total {
                0 => 0,
                _ => multiply_divide(amount.into(), miners, total).0,
            };
            Share { amount, gross: u64::try_from(gross).unwrap_or(0).min(amount), weights }
        };
        let by = |f: fn(&crate::window::Weight) -> u128| {
            let miners = weights.miners.iter().map(|(miner, weight)| (*miner, f(weight)));
            miners.filter(|(_, weight)| *weight > 0).collect::<Vec<_>>()
        };
        let is_one = weights.bought.fees == weights.bought.subsidy
            && weights.miners.iter().all(|(_, weight)| weight.fees == weight.subsidy);
        if is_one {
            return vec![share(self.subsidy + self.fees, by(|weight| weight.fees), weights.bought.fees)];
        }
        vec![
            share(self.subsidy, by(|weight| weight.subsidy), weights.bought.subsidy),
            share(self.fees, by(|weight| weight.fees), weights.bought.fees),
        ]
    }

    /// The pool's fee: of the miners' part only, for what is the reserve's is the pool's already.
    pub fn fee(self, ppm: u32, weights: &Weights) -> u64 {
        part(self.gross(weights).iter().map(|share| share.gross).sum(), ppm)
    }

    /// Divides it, less `fee`.
    ///
    /// Subsidy and fees are divided as one where they are divided alike, else each for itself; the fee is taken off both in
    /// proportion.
    pub fn divide(self, fee: u64, weights: &Weights) -> Result<Division, LedgerError> {
        let unsound = |what: &str| LedgerError::Unsound(format!("a reward cannot be divided: {what}"));
        let shares = self.gross(weights);
        let gross: u64 = shares.iter().map(|share| share.gross).sum();
        if fee > gross {
            return Err(unsound("its fee is above the miners' part"));
        }
        let mut fee_left = fee;
        let mut division = Division { reserve: 0, miners: Vec::new() };
        let last = shares.len() - 1;
        for (index, share) in shares.iter().enumerate() {
            let of_this = match index == last || gross == 0 {
                true => fee_left,
                false => multiply_divide(fee.into(), share.gross.into(), gross.into()).0 as u64,
            };
            fee_left -= of_this;
            let rest = share.gross.checked_sub(of_this).ok_or_else(|| unsound("its fee is above a part"))?;
            let parts = apportion(rest.into(), &share.weights);
            if parts.is_empty() && rest > 0 {
                return Err(unsound("it has no weights to be divided by"));
            }
            let msat = |amount: u128| i64::try_from(amount).map_err(|_| unsound("an amount overflows"));
            division.reserve += msat((share.amount - share.gross).into())?;
            for (miner, amount) in parts {
                division.miners.push((miner, msat(amount)?));
            }
        }
        if last > 0 {
            division.miners.sort_unstable_by_key(|(miner, _)| *miner);
            division.miners.dedup_by(|next, kept| {
                let same = next.0 == kept.0;
                kept.1 += if same { next.1 } else { 0 };
                same
            });
        }
        Ok(division)
    }
}

/// One part of a reward and what it is divided by.
struct Share {
    amount: u64,
    /// The miners' part of it, before the fee.
    gross: u64,
    weights: Vec<(i64, u128)>,
}

#[cfg(test)]
mod tests;
