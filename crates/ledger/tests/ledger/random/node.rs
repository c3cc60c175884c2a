//! The chain as the ledger asks for it.

use async_trait::async_trait;
use bitcoin::consensus::{deserialize, serialize};
use ledger::{BlockFees, Chain, Hash, Sent, Standing, Wire, WireError};

use super::chain::{BASE, Blocks, State, fees_of, genesis};

impl State {
    /// Another question: whether its answer comes back.
    fn answers(&mut self) -> Result<(), WireError> {
        match self.manners.loses {
            0 => return Ok(()),
            1 => {
                self.manners.loses = 0;
                return Err(WireError("the answer was lost".to_owned()));
            }
            more => self.manners.loses = more - 1,
        }
        Ok(())
    }
}

#[async_trait]
impl Chain for Blocks {
    async fn standing(&self, hash: &Hash) -> Standing {
        if self.with(|state| state.manners.disagrees) { Standing::Unknown } else { self.depth(hash) }
    }

    async fn fees(&self, hash: Option<&Hash>) -> Option<BlockFees> {
        self.with(|state| {
            let at = hash.map_or(Some(state.best.len() - 1), |hash| state.at.get(hash).copied())?;
            let hash = state.best[at];
            let prev_hash = at.checked_sub(1).map_or([0; 32], |below| state.best[below]);
            Some(BlockFees { hash, prev_hash, height: BASE + at as u32, fees_sats: fees_of(&hash) })
        })
    }
}

#[async_trait]
impl Wire for Blocks {
    async fn tip(&self) -> Result<(Hash, u32), WireError> {
        self.with(State::answers)?;
        Ok(Blocks::tip(self))
    }

    async fn hash_at(&self, height: u32) -> Result<Option<Hash>, WireError> {
        self.with(State::answers)?;
        if height == 0 {
            return Ok(Some(genesis()));
        }
        let at = height.checked_sub(BASE).map(|at| at as usize);
        Ok(at.and_then(|at| self.with(|state| state.best.get(at).copied())))
    }

    async fn block(&self, hash: &Hash) -> Result<Vec<u8>, WireError> {
        self.with(State::answers)?;
        self.with(|state| {
            let block = state.blocks.get(hash).ok_or_else(|| WireError("Block not found".to_owned()))?;
            Ok(serialize(&**block))
        })
    }

    async fn broadcast(&self, transaction: &[u8]) -> Result<Sent, WireError> {
        let transaction = deserialize(transaction).expect("what goes out is a transaction");
        self.with(|state| {
            let answers = state.answers();
            let height = state.height() + 1;
            let mut take = || state.mempool.take(&transaction, &state.coins, height, &state.law);
            match answers {
                Ok(()) => Ok(take()),
                Err(lost) => {
                    if state.manners.hears {
                        take();
                    }
                    Err(lost)
                }
            }
        })
    }

    async fn fee_rate(&self, _blocks: u16) -> Result<Option<u64>, WireError> {
        self.with(State::answers)?;
        Ok(self.with(|state| state.manners.fee_rate))
    }
}
