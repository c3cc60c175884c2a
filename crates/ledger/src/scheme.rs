//! How the pool pays: the scheme, the fee, and what a coinbase therefore pays to whom.

use crate::{Worker, split::part};

/// How work is paid.
///
/// In the schemes that have one, a share stays in the window until `factor` x (network work) of shares have come after it,
/// `factor` being that of the terms it was mined under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Everything, less the fee, to the finder, by the coinbase itself.
    Solo,
    /// Each block by the work in the window.
    Pplns {
        /// Length of the window, in expected blocks.
        factor: u32,
    },
    /// The same with a window of eight expected blocks.
    Tides,
    /// Each share at once: its chance of a block, times the subsidy. The pool keeps the blocks.
    Pps {
        /// How long its share of blocks goes to the reserve after the scheme has changed, in expected blocks.
        factor: u32,
    },
    /// The same with the mean fees of the chain's latest blocks on top of the subsidy.
    Fpps {
        /// As for [`Self::Pps`].
        factor: u32,
    },
    /// The subsidy as in [`Self::Pps`], the fees of each block as in [`Self::Pplns`].
    PpsPlus {
        /// Length of the window, in expected blocks.
        factor: u32,
    },
}

/// Whose a share's part of a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// All of it the miner's.
    Miner,
    /// The fees are the miner's; the subsidy is the reserve's, which has paid for it.
    Fees,
    /// All of it the reserve's.
    Reserve,
}

impl Scheme {
    /// Length of the TIDES window, in expected blocks.
    pub const TIDES: u32 = 8;

    /// `solo`, `pplns`, `tides`, `pps`, `fpps` or `pps_plus`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Solo => "solo",
            Self::Pplns { .. } => "pplns",
            Self::Tides => "tides",
            Self::Pps { .. } => "pps",
            Self::Fpps { .. } => "fpps",
            Self::PpsPlus { .. } => "pps_plus",
        }
    }

    /// The scheme that [`Self::name`] names so; `factor` where it takes one.
    pub fn parse(name: &str, factor: u32) -> Option<Self> {
        match name {
            "solo" => Some(Self::Solo),
            "pplns" => Some(Self::Pplns { factor }),
            "tides" => Some(Self::Tides),
            "pps" => Some(Self::Pps { factor }),
            "fpps" => Some(Self::Fpps { factor }),
            "pps_plus" => Some(Self::PpsPlus { factor }),
            _ => None,
        }
    }

    /// Length of the window in expected blocks; 0 where there is none.
    pub fn factor(self) -> u32 {
        match self {
            Self::Solo => 0,
            Self::Tides => Self::TIDES,
            Self::Pplns { factor }
            | Self::Pps { factor }
            | Self::Fpps { factor }
            | Self::PpsPlus { factor } => factor,
        }
    }

    /// Whether the pool pays for work whether or not it finds blocks.
    pub fn buys(self) -> bool {
        matches!(self, Self::Pps { .. } | Self::Fpps { .. } | Self::PpsPlus { .. })
    }

    /// Whether a block is its miners', by the work in the window: then a coinbase can pay them itself.
    pub fn pays_by_window(self) -> bool {
        self.claim() == Some(Claim::Miner)
    }

    /// Whose a share's part of later blocks is; `None` where only its own block counts.
    pub(crate) fn claim(self) -> Option<Claim> {
        match self {
            Self::Solo => None,
            Self::Pplns { .. } | Self::Tides => Some(Claim::Miner),
            Self::PpsPlus { .. } => Some(Claim::Fees),
            Self::Pps { .. } | Self::Fpps { .. } => Some(Claim::Reserve),
        }
    }
}

/// The terms that blocks are mined on from now on. Blocks found earlier keep theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How rewards are divided.
    pub scheme: Scheme,
    /// The pool's part, in millionths of the reward; rounded down to the satoshi (solo) or millisatoshi.
    pub fee_ppm: u32,
    /// The script of the pool's own coinbase output.
    pub pool_script: Vec<u8>,
    /// The same as an address.
    pub pool_address: String,
}

/// Workers of one class mine on the same coinbase, so the pool encodes one job for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The coinbase pays the pool.
    Pool,
    /// The coinbase pays the miner with this script.
    Miner(Vec<u8>),
    /// The coinbase pays the miners of the window, and is at most this many bytes long.
    Split(usize),
}

impl Terms {
    /// Which coinbase `worker` mines on.
    pub fn class(&self, worker: &Worker) -> Class {
        match self.scheme {
            Scheme::Solo => Class::Miner(worker.script().to_vec()),
            _ => Class::Pool,
        }
    }

    /// The outputs (script, satoshi) of a coinbase worth `value_sats` that `finder` mines on. They sum to the value,
    /// none is zero unless the value is, and the first is the finder's where it has one.
    pub fn outputs(&self, finder: &Worker, value_sats: u64) -> Vec<(Vec<u8>, u64)> {
        match self.scheme {
            Scheme::Solo => {
                let fee = self.fee(value_sats);
                if fee == 0 || finder.script() == self.pool_script {
                    vec![(finder.script().to_vec(), value_sats)]
                } else if fee == value_sats {
                    vec![(self.pool_script.clone(), fee)]
                } else {
                    vec![(finder.script().to_vec(), value_sats - fee), (self.pool_script.clone(), fee)]
                }
            }
            _ => vec![(self.pool_script.clone(), value_sats)],
        }
    }

    /// The pool's part of `amount`, rounded down, never more than all of it.
    pub(crate) fn fee(&self, amount: u64) -> u64 {
        part(amount, self.fee_ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Network;

    fn worker() -> Worker {
        Worker::parse("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx.a", Network::Signet)
            .expect("a good address")
    }

    fn check(scheme: Scheme, fee_ppm: u32, value: u64, expect: &[(&str, u64)]) {
        let terms = Terms { scheme, fee_ppm, pool_script: vec![0x51], pool_address: String::new() };
        let outputs = terms.outputs(&worker(), value);
        let named: Vec<(&str, u64)> = outputs
            .iter()
            .map(|(script, sats)| (if script == worker().script() { "finder" } else { "pool" }, *sats))
            .collect();
        assert_eq!(named, expect, "{scheme:?} {fee_ppm} ppm of {value}");
    }

    #[test]
    fn coinbase_outputs() {
        check(Scheme::Pplns { factor: 2 }, 10_000, 5_000, &[("pool", 5_000)]);
        check(Scheme::Solo, 0, 5_000, &[("finder", 5_000)]);
        check(Scheme::Solo, 10_000, 5_000, &[("finder", 4_950), ("pool", 50)]);
        check(Scheme::Solo, 10_000, 5_099, &[("finder", 5_049), ("pool", 50)]);
        check(Scheme::Solo, 10_000, 99, &[("finder", 99)]);
        check(Scheme::Solo, 1_000_000, 99, &[("pool", 99)]);
        check(Scheme::Solo, u32::MAX, 99, &[("pool", 99)]);
        check(Scheme::Solo, 10_000, 0, &[("finder", 0)]);
        check(
            Scheme::Solo,
            10_000,
            u64::MAX,
            &[("finder", u64::MAX - u64::MAX / 100), ("pool", u64::MAX / 100)],
        );
    }

    #[test]
    fn a_pool_that_mines_for_itself_has_one_output() {
        let script = worker().script().to_vec();
        let terms = Terms {
            scheme: Scheme::Solo,
            fee_ppm: 10_000,
            pool_script: script.clone(),
            pool_address: String::new(),
        };
        assert_eq!(terms.outputs(&worker(), 700), [(script, 700)]);
    }

    #[test]
    fn classes() {
        let terms =
            |scheme| Terms { scheme, fee_ppm: 0, pool_script: vec![0x51], pool_address: String::new() };
        assert_eq!(terms(Scheme::Pplns { factor: 1 }).class(&worker()), Class::Pool);
        assert_eq!(terms(Scheme::Solo).class(&worker()), Class::Miner(worker().script().to_vec()));
    }
}
