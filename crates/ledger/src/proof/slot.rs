//! What a slot has paid for work at a fixed rate, for others to work out again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use share::Work;

use super::{ProofError, division::number};
use crate::{
    Scheme,
    bought::{ONE, Rate, worth},
    fees::trimmed_mean,
};

/// The work of a closed slot by miner and rate, and what was paid for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRates {
    /// The slot.
    pub slot: i64,
    /// Time of its first share, milliseconds since 1970.
    pub opened_ms: i64,
    /// Time of the record that closed it.
    pub closed_ms: i64,
    /// `pps`, `fpps` or `pps_plus`.
    pub scheme: String,
    /// What the pool keeps, in millionths.
    pub fee_ppm: u32,
    /// `fpps`: the mean fees of a block, which are paid beside the subsidy; else 0. Millisatoshi.
    pub mean_fees_msat: u64,
    /// `fpps`: the blocks that it is the mean of, without the twentieth with the highest and that with the lowest fees;
    /// newest first. Empty if no node had told any.
    pub fee_blocks: Vec<SlotFeeBlock>,
    /// All work of the slot, decimal.
    pub work: String,
    /// By miner.
    pub miners: Vec<MinerRates>,
}

/// A block of the chain, whoever found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotFeeBlock {
    /// Hash, as people read it.
    pub hash: String,
    /// Its height.
    pub height: u32,
    /// What its transactions pay, satoshi.
    pub fees_sats: u64,
}

/// A miner's part of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinerRates {
    /// The miner's number.
    pub miner: i64,
    /// Payout address.
    pub address: String,
    /// Its work.
    pub rates: Vec<RateWork>,
    /// What the journal has paid for it, millisatoshi.
    pub paid_msat: i64,
}

/// Work at one rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateWork {
    /// Network target of the jobs, compact form.
    pub bits: u32,
    /// How often the subsidy had been halved at their height.
    pub halvings: u32,
    /// Work of the shares, decimal.
    pub work: String,
}

impl SlotRates {
    /// Whether the work sums to the slot's, the mean of fees is that of its blocks, and each miner was paid what its work
    /// is worth: work / network work x (subsidy + mean fees), less the fee. What is left below a millisatoshi goes into the
    /// miner's next slot, so that a slot has paid its worth rounded down, or one more.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn check(&self) -> Result<(), ProofError> {
        let wrong = |what: String| ProofError::Slot(self.slot, what);
        let is_fpps = match Scheme::parse(&self.scheme, 1) {
            Some(Scheme::Fpps { .. }) => true,
            Some(Scheme::Pps { .. } | Scheme::PpsPlus { .. }) => false,
            _ => return Err(wrong(format!("{:?} pays no work at a fixed rate", self.scheme))),
        };
        if self.fee_ppm > 1_000_000 {
            return Err(wrong(format!("a fee of {} millionths is more than all", self.fee_ppm)));
        }
        let fees: Vec<u64> = self.fee_blocks.iter().map(|block| block.fees_sats).collect();
        let mean = trimmed_mean(&fees).map_or(0, |(mean, _)| mean);
        if mean != self.mean_fees_msat || (!is_fpps && mean > 0) {
            let said = self.mean_fees_msat;
            return Err(wrong(format!("the mean of fees is said to be {said} msat, but comes to {mean}")));
        }
        if self.miners.windows(2).any(|pair| pair[0].miner >= pair[1].miner) {
            return Err(wrong("a miner is in it twice, or they are not in order".into()));
        }
        let mut sum: Work = 0;
        for miner in &self.miners {
            let done = miner.done(self.slot)?;
            for (_, work) in &done {
                sum = sum.checked_add(*work).ok_or_else(|| wrong("its work overflows".into()))?;
            }
            let worth = |rest: u64| {
                let worth = worth(&done, mean, self.fee_ppm, rest);
                worth.map(|(msat, _)| msat).map_err(|error| wrong(error.to_string()))
            };
            let (least, most) = (worth(0)?, worth((ONE - 1) as u64)?);
            if !(least..=most).contains(&miner.paid_msat) {
                let MinerRates { address, paid_msat, .. } = miner;
                return Err(wrong(format!(
                    "{address} was paid {paid_msat} msat, but its work is worth {least}"
                )));
            }
        }
        if sum != number(&self.work)? {
            return Err(wrong(format!("the miners' work does not sum to {}", self.work)));
        }
        Ok(())
    }
}

impl MinerRates {
    fn done(&self, slot: i64) -> Result<Vec<(Rate, Work)>, ProofError> {
        let mut done = BTreeMap::new();
        for RateWork { bits, halvings, work } in &self.rates {
            let rate = Rate { bits: *bits, halvings: *halvings };
            if done.insert(rate, number(work)?).is_some() {
                return Err(ProofError::Slot(slot, format!("{} has a rate twice", self.address)));
            }
        }
        Ok(done.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Network work 2, subsidy 50 coins: one unit of work is worth 25.
    const HALF: i64 = 2_500_000_000_000;

    fn miner(miner: i64, work: &str, paid_msat: i64) -> MinerRates {
        let rates = vec![RateWork { bits: 0x207f_ffff, halvings: 0, work: work.into() }];
        MinerRates { miner, address: format!("miner{miner}"), rates, paid_msat }
    }

    fn good() -> SlotRates {
        SlotRates {
            slot: 7,
            opened_ms: 0,
            closed_ms: 1,
            scheme: "pps".into(),
            fee_ppm: 10_000,
            mean_fees_msat: 0,
            fee_blocks: Vec::new(),
            work: "3".into(),
            miners: vec![miner(1, "1", HALF / 100 * 99), miner(4, "2", HALF / 50 * 99)],
        }
    }

    fn check(change: impl Fn(&mut SlotRates), expect: &str) {
        let mut slot = good();
        change(&mut slot);
        let error = slot.check().expect_err(expect).to_string();
        assert!(error.contains(expect) && error.contains("slot 7"), "{error}");
    }

    #[test]
    fn a_slot_pays_what_its_work_is_worth() {
        assert_eq!(good().check(), Ok(()));
        check(|slot| slot.miners[0].paid_msat += 1, "miner1 was paid");
        check(|slot| slot.miners[1].paid_msat -= 1, "miner4 was paid");
        check(|slot| slot.fee_ppm = 0, "but its work is worth 2500000000000");
        check(|slot| slot.fee_ppm = 2_000_000, "more than all");
        check(|slot| slot.scheme = "pplns".into(), "pays no work at a fixed rate");
        check(|slot| slot.work = "4".into(), "does not sum to 4");
        check(|slot| slot.miners.swap(0, 1), "not in order");
        check(|slot| drop(slot.miners.pop()), "does not sum to 3");
        let twice = |slot: &mut SlotRates| {
            let rate = slot.miners[0].rates[0].clone();
            slot.miners[0].rates.push(rate);
        };
        check(twice, "a rate twice");
        check(|slot| slot.mean_fees_msat = 5, "the mean of fees is said to be 5 msat, but comes to 0");
        let mut slot = good();
        slot.miners[0].rates[0].work = "-1".into();
        assert!(matches!(slot.check(), Err(ProofError::Malformed(_))));
        slot.miners[0].rates[0].work = u128::MAX.to_string();
        slot.check().unwrap_err();
    }

    /// The largest rest makes at most one millisatoshi more.
    #[test]
    fn what_was_left_of_before_is_worth_one_at_most() {
        let slot = |paid: i64| {
            let mut slot = good();
            slot.miners = vec![miner(1, "1", paid)];
            slot.miners[0].rates[0].bits = 0x1d00_ffff;
            slot.work = "1".into();
            slot.check()
        };
        let (least, _) = worth(&[(Rate { bits: 0x1d00_ffff, halvings: 0 }, 1)], 0, 10_000, 0).unwrap();
        slot(least).unwrap();
        slot(least + 1).unwrap();
        slot(least + 2).unwrap_err();
        slot(least - 1).unwrap_err();
    }

    #[test]
    fn fees_are_paid_by_the_mean_of_their_blocks() {
        let block = |height: u32, fees_sats: u64| SlotFeeBlock { hash: "00".repeat(32), height, fees_sats };
        let mut slot = good();
        (slot.scheme, slot.fee_ppm) = ("fpps".into(), 0);
        (slot.mean_fees_msat, slot.fee_blocks) = (1_500, vec![block(2, 1), block(1, 2)]);
        slot.miners = vec![miner(1, "2", 2 * HALF + 1_500)];
        slot.work = "2".into();
        assert_eq!(slot.check(), Ok(()));
        slot.fee_blocks[0].fees_sats = 2;
        slot.check().unwrap_err();
        slot.fee_blocks[0].fees_sats = 1;
        slot.scheme = "pps".into();
        slot.check().unwrap_err();
    }
}
