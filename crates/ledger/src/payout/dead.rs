//! When a batch may be given up: once none of its transactions can come into the chain any more.

use std::{collections::HashSet, sync::Arc};

use bdk_wallet::bitcoin::{OutPoint, Txid};

use super::{
    PayError, Payer,
    rows::{Batch, Version},
    shown,
};
use crate::{Chain, Standing, wallet::Origin};

impl Payer {
    /// Also those that are not signed must be dead, for who knows where signatures are made.
    pub(super) async fn must_be_dead(&mut self, batch: &Batch) -> Result<(), PayError> {
        let enough = self.settings.confirmations.max(1);
        match self.alive(batch, enough).await? {
            None => Ok(()),
            Some(txid) => Err(PayError::Refused(format!(
                "batch {} cannot be returned: its transaction {} may still confirm; spend one of its inputs otherwise \
                 and wait for {enough} confirmations",
                batch.id,
                shown(&txid)
            ))),
        }
    }

    /// A transaction of the batch that may still confirm, if whatever is `enough` deep stays in the chain.
    pub(super) async fn alive(&mut self, batch: &Batch, enough: u32) -> Result<Option<Txid>, PayError> {
        for version in &batch.versions {
            if !self.is_dead(batch, version, enough).await? {
                return Ok(Some(version.txid));
            }
        }
        Ok(None)
    }

    /// Whether a coin that it spends is spent by another, or is not there any more and does not come back: its coinbase was
    /// reorganised away, or the transaction that made it is dead itself.
    async fn is_dead(&mut self, batch: &Batch, version: &Version, enough: u32) -> Result<bool, PayError> {
        let chain = self.chain.clone();
        let coins = self.coins()?;
        let mut seen = HashSet::from([version.txid]);
        let mut left: Vec<(Txid, Vec<OutPoint>)> = vec![(version.txid, version.inputs.clone())];
        while let Some((txid, inputs)) = left.pop() {
            for coin in inputs {
                for (spender, block) in coins.spenders(coin) {
                    let is_own = spender == txid || batch.version(spender).is_some();
                    let standing = if is_own { Standing::Unknown } else { chain.standing(&block).await };
                    if matches!(standing, Standing::OnChain(depth) if depth >= enough) {
                        return Ok(true);
                    }
                }
                match coins.origin(coin.txid) {
                    Origin::There => {}
                    Origin::Coinbase(places) => {
                        if is_gone(&chain, &places, enough).await {
                            return Ok(true);
                        }
                    }
                    Origin::Spends(inputs) => {
                        if seen.insert(coin.txid) {
                            left.push((coin.txid, inputs));
                        }
                    }
                }
            }
        }
        Ok(false)
    }
}

/// Whether the nodes have other blocks, deep enough, in all of these places.
async fn is_gone(chain: &Arc<dyn Chain>, places: &[(share::Hash, u32)], enough: u32) -> bool {
    for (block, depth) in places {
        if *depth < enough || chain.standing(block).await != Standing::OffChain {
            return false;
        }
    }
    true
}
