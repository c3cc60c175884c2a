//! What the pool has to pay work with while it finds no blocks, and what it should have.

use std::time::Duration;

use bitcoin::Network;
use sqlx::Row;
use tokio::sync::watch;

use crate::{
    Ledger, LedgerError, Scheme,
    division::{halvings, subsidy},
};

/// The reserve of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// What it has, millisatoshi. Below zero: miners are owed so much more than blocks have brought in.
    pub available_msat: i64,
    /// What it gets of blocks that are not 100 deep yet.
    pub immature_msat: i64,
    /// What it should have, where work is paid at a fixed rate: so much that bad luck alone uses it up with a probability of
    /// [`Reserve::RUIN`] only. `None` where there is no such risk, or no fee that would make good for it.
    pub required_msat: Option<i64>,
}

impl Reserve {
    /// The probability of ruin that is put up with.
    pub const RUIN: f64 = 0.001;

    /// B ln(1 / ruin) / (2 f): what a pool needs that pays for each block's worth of work B, less a fee f. For people to
    /// look at; no money moves by it.
    fn required(block_msat: u64, fee_ppm: u32, ruin: f64) -> Option<i64> {
        let fee = f64::from(fee_ppm.min(1_000_000)) / 1_000_000.0;
        let required = block_msat as f64 * (1.0 / ruin).ln() / (2.0 * fee);
        required.is_finite().then_some(required as i64)
    }

    /// Whether there is less than there should be.
    pub fn is_short(&self) -> bool {
        self.required_msat
            .is_some_and(|required| self.available_msat.saturating_add(self.immature_msat) < required)
    }
}

impl Ledger {
    /// The reserve as it is, and as it should be under the present terms.
    pub async fn reserve(&self) -> Result<Reserve, LedgerError> {
        let failed = LedgerError::database("read the reserve");
        let mut snapshot = self.store().snapshot().await?;
        let sql = "SELECT (SELECT balance_msat FROM account WHERE name = 'reserve') AS available, \
                   (SELECT balance_msat FROM account WHERE name = 'reserve:immature') AS immature, \
                   COALESCE((SELECT mean_msat FROM fee_rate ORDER BY id DESC LIMIT 1), 0) AS fees, height FROM tally";
        let row = sqlx::query(sql).fetch_one(&mut *snapshot).await.map_err(&failed)?;
        let field = |name: &str| row.try_get::<i64, _>(name).map_err(&failed);
        let (height, fees) = (u32::try_from(field("height")?).unwrap_or(0), field("fees")?);
        let terms = self.terms();
        let block = block_msat(terms.scheme, self.network(), height, u64::try_from(fees).unwrap_or(0));
        Ok(Reserve {
            available_msat: field("available")?,
            immature_msat: field("immature")?,
            required_msat: block.and_then(|block| Reserve::required(block, terms.fee_ppm, Reserve::RUIN)),
        })
    }
}

/// How often the log says that the reserve is short.
const WARN: Duration = Duration::from_secs(600);

/// Says so while the reserve is short, until `stop` is true.
pub(crate) async fn watch(ledger: &Ledger, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        match ledger.reserve().await {
            Ok(reserve) if reserve.is_short() => tracing::warn!(
                available_msat = reserve.available_msat,
                immature_msat = reserve.immature_msat,
                required_msat = reserve.required_msat,
                "the reserve is short of what bad luck may take; fund it, or raise the fee"
            ),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the reserve cannot be read"),
        }
        tokio::select! {
            () = tokio::time::sleep(WARN) => {}
            _ = stop.changed() => return,
        }
    }
}

/// What the pool pays for a block's worth of work, whether or not there is a block.
fn block_msat(scheme: Scheme, network: Network, height: u32, mean_fees_msat: u64) -> Option<u64> {
    let subsidy = subsidy(halvings(network, height));
    match scheme {
        Scheme::Pps { .. } | Scheme::PpsPlus { .. } => Some(subsidy),
        Scheme::Fpps { .. } => Some(subsidy.saturating_add(mean_fees_msat)),
        Scheme::Solo | Scheme::Pplns { .. } | Scheme::Tides => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required() {
        // With a fee of 2 % and a ruin of one in a thousand, some 173 blocks.
        let block = 312_500_000_000;
        let required = Reserve::required(block, 20_000, 0.001).unwrap();
        assert_eq!(required / block as i64, 172);
        assert_eq!(Reserve::required(block, 10_000, 0.001).unwrap() / block as i64, 345);
        assert_eq!(Reserve::required(block, 0, 0.001), None);
        let check = |scheme, expect| {
            assert_eq!(block_msat(scheme, Network::Bitcoin, 900_000, 5), expect, "{scheme:?}")
        };
        check(Scheme::Pps { factor: 2 }, Some(block));
        check(Scheme::PpsPlus { factor: 2 }, Some(block));
        check(Scheme::Fpps { factor: 2 }, Some(block + 5));
        check(Scheme::Tides, None);
    }

    #[test]
    fn when_it_is_short() {
        let check = |available_msat, immature_msat, required_msat, expect| {
            assert_eq!(Reserve { available_msat, immature_msat, required_msat }.is_short(), expect);
        };
        check(-5, 0, None, false);
        check(5, 4, Some(10), true);
        check(6, 4, Some(10), false);
    }
}
