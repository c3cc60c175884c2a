//! The chain as whoever holds the books against it sees it.

use std::{collections::HashMap, sync::Arc};

use bitcoin::{Block, OutPoint, ScriptBuf, Transaction, Txid, hashes::Hash as _};

use super::chain::{BASE, Blocks, State};

impl Blocks {
    /// How deep a transaction is, and what it leaves to the network.
    pub fn confirmed(&self, txid: &Txid) -> Option<(u32, u64)> {
        self.with(|state| state.coins.place(txid).map(|(height, fee)| (state.height() + 1 - height, fee)))
    }

    pub fn transaction(&self, txid: &Txid) -> Transaction {
        self.with(|state| state.transactions[txid].clone())
    }

    /// The wallet's coins that the next block could spend; and the sum of what is too young.
    pub fn wallet(&self) -> (HashMap<OutPoint, u64>, u64) {
        self.with(|state| {
            let (mut ripe, mut green) = (HashMap::new(), 0);
            for (at, coin) in state.coins.all() {
                if !state.law.wallet.contains(&coin.out.script_pubkey) {
                    continue;
                }
                if coin.is_coinbase && state.height() + 1 < coin.height + 100 {
                    green += coin.out.value.to_sat();
                } else {
                    ripe.insert(*at, coin.out.value.to_sat());
                }
            }
            (ripe, green)
        })
    }

    /// Whether `script` is the wallet's.
    pub fn owns(&self, script: &ScriptBuf) -> bool {
        self.with(|state| state.law.wallet.contains(script))
    }

    /// Whether what spends `inputs` cannot come into the chain any more, if what is `enough` deep stays: a coin was spent
    /// by another than `own`, or is not there any more and does not come back.
    pub fn is_dead(&self, inputs: &[OutPoint], own: &[Txid], enough: u32) -> bool {
        self.with(|state| state.is_dead(inputs, own, enough))
    }
}

impl State {
    fn is_dead(&self, inputs: &[OutPoint], own: &[Txid], enough: u32) -> bool {
        inputs.iter().any(|coin| {
            if self.coins.get(coin).is_some() {
                return false;
            }
            if let Some(spender) = self.coins.spender(coin) {
                let (height, _) = self.coins.place(&spender).unwrap();
                return !own.contains(&spender) && self.height() + 1 - height >= enough;
            }
            let Some(maker) = self.transactions.get(&coin.txid) else { return false };
            match maker.is_coinbase() {
                true => self.height() + 1 >= self.born(&coin.txid) + enough,
                false => {
                    let inputs: Vec<_> = maker.input.iter().map(|input| input.previous_output).collect();
                    self.is_dead(&inputs, &[coin.txid], enough)
                }
            }
        })
    }

    /// At what height a coinbase was, in whatever branch.
    fn born(&self, coinbase: &Txid) -> u32 {
        let has = |block: &&Arc<Block>| block.txdata[0].compute_txid() == *coinbase;
        let mut block = self.blocks.values().find(has).unwrap();
        let mut above = 0;
        loop {
            let below = block.header.prev_blockhash.to_byte_array();
            if let Some(at) = self.at.get(&below) {
                return BASE + *at as u32 + 1 + above;
            }
            (block, above) = (&self.blocks[&below], above + 1);
        }
    }
}
