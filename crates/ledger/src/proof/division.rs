//! A block's division, for others to do again.

use serde::{Deserialize, Serialize};
use share::Work;

use super::ProofError;
use crate::{
    Scheme,
    division::{Division, Reward},
    window::{self, Weight},
};

/// What a block was divided by, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Hash of the block, as people read it.
    pub hash: String,
    /// Its height.
    pub height: u32,
    /// Network target, compact form.
    pub bits: u32,
    /// How it is divided.
    pub scheme: String,
    /// Length of the window in expected blocks; 0 where there is none.
    pub factor: u32,
    /// What is divided, millisatoshi.
    pub reward_msat: i64,
    /// What of that is subsidy; the rest is fees.
    pub subsidy_msat: i64,
    /// The pool's fee, in millionths of the miners' part. Null where it does not follow from that: in `solo`, where the
    /// coinbase takes it in whole satoshi, and for blocks of before terms were kept.
    pub fee_ppm: Option<u32>,
    /// The pool's fee, millisatoshi.
    pub fee_msat: i64,
    /// The reserve's part, for the work that it has paid for; millisatoshi.
    pub reserve_msat: i64,
    /// The oldest slot of the window; 0 if there is none.
    pub first_slot: i64,
    /// How much of the oldest slot's work is in the window, decimal.
    pub first_slot_work: String,
    /// The newest slot of the window.
    pub last_slot: i64,
    /// Sum of the weights and of what the reserve has paid for, decimal.
    pub window_work: String,
    /// Work in the window that the reserve has paid for, fees and all, decimal: its weight in the fees of the block.
    pub bought_work: String,
    /// Its weight in the subsidy.
    pub bought_subsidy_work: String,
    /// By miner.
    pub weights: Vec<MinerWeight>,
}

/// A miner's part of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinerWeight {
    /// The miner's number: among equal remainders the smaller one comes first.
    pub miner: i64,
    /// Payout address.
    pub address: String,
    /// Work in the window, decimal: its weight in the fees of the block.
    pub work: String,
    /// What of it has not been paid at a fixed rate: its weight in the subsidy.
    pub subsidy_work: String,
    /// What it is credited when the block is on chain, millisatoshi.
    pub credit_msat: i64,
}

impl Weights {
    /// Whether the weights sum to the window, the fee is that of the terms, and each credit follows from them: subsidy and
    /// fees less the fee, each divided by weight, rounded down, what is left one millisatoshi each to the largest remainders.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), ProofError> {
        let wrong = |what: String| Err(ProofError::Division(what));
        if share::hash::read(&self.hash).is_none() || Scheme::parse(&self.scheme, 1).is_none() {
            return Err(ProofError::Malformed("it names no block, or no scheme".into()));
        }
        if self.weights.windows(2).any(|pair| pair[0].miner >= pair[1].miner) {
            return wrong("a miner is in it twice, or they are not in order".into());
        }
        let weights = self.parsed()?;
        let window = Some(number(&self.window_work)?);
        let sum = |of: fn(&Weight) -> Work| {
            let mut all = weights.miners.iter().map(|(_, weight)| weight).chain([&weights.bought]);
            all.try_fold(0, |sum: Work, weight| sum.checked_add(of(weight)))
        };
        if sum(|weight| weight.fees) != window || sum(|weight| weight.subsidy) != window {
            return wrong(format!("the weights do not sum to {}", self.window_work));
        }
        let unsigned = |msat: i64| u64::try_from(msat).ok();
        let fees = self.reward_msat.checked_sub(self.subsidy_msat).and_then(unsigned);
        let (Some(subsidy), Some(fees), Some(fee)) =
            (unsigned(self.subsidy_msat), fees, unsigned(self.fee_msat))
        else {
            return wrong(format!(
                "{} msat of subsidy and a fee of {} in a reward of {}",
                self.subsidy_msat, self.fee_msat, self.reward_msat
            ));
        };
        let reward = Reward { subsidy, fees };
        let due = self.fee_ppm.map_or(fee, |ppm| reward.fee(ppm, &weights));
        if fee != due {
            return wrong(format!("the fee is {fee} msat, but comes to {due}"));
        }
        let division =
            reward.divide(fee, &weights).map_err(|error| ProofError::Division(error.to_string()))?;
        self.compare(&division)
    }

    fn compare(&self, division: &Division) -> Result<(), ProofError> {
        let wrong = |what: String| Err(ProofError::Division(what));
        if division.reserve != self.reserve_msat {
            let (said, due) = (self.reserve_msat, division.reserve);
            return wrong(format!("the reserve has {said} msat, but its work comes to {due}"));
        }
        for MinerWeight { miner, address, credit_msat, .. } in &self.weights {
            let due = division.miners.iter().find(|(of, _)| of == miner).map_or(0, |(_, msat)| *msat);
            if due != *credit_msat {
                return wrong(format!(
                    "{address} is credited {credit_msat} msat, but its work comes to {due}"
                ));
            }
        }
        Ok(())
    }

    fn parsed(&self) -> Result<window::Weights, ProofError> {
        let weight =
            |fees: &str, subsidy: &str| Ok(Weight { fees: number(fees)?, subsidy: number(subsidy)? });
        let miners = self.weights.iter().map(|of| Ok((of.miner, weight(&of.work, &of.subsidy_work)?)));
        Ok(window::Weights {
            miners: miners.collect::<Result<_, ProofError>>()?,
            bought: weight(&self.bought_work, &self.bought_subsidy_work)?,
        })
    }
}

/// A number of work, decimal.
pub(super) fn number(text: &str) -> Result<Work, ProofError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = text.parse::<Work>().ok().filter(|_| is_plain);
    parsed.ok_or_else(|| {
        let shown: String = text.chars().take(50).collect();
        ProofError::Malformed(format!("work {shown:?} is no number"))
    })
}
