//! What the wallet has: kept in step with the chain block by block, and in the database change by change.

use std::collections::BTreeSet;

use bdk_wallet::{
    ChangeSet, KeychainKind, SignOptions, Wallet,
    bitcoin::{
        Block, BlockHash, OutPoint, Psbt, ScriptBuf, Transaction, Txid, consensus::deserialize,
        hashes::Hash as _, secp256k1::Secp256k1,
    },
    chain::{BlockId, ChainPosition, Merge},
    miniscript::{descriptor::DescriptorType, psbt::PsbtExt},
    signer::SignersContainer,
};
use share::Hash;
use sqlx::{AnyConnection, Row};

use super::{Descriptors, LOOKAHEAD, WalletError};
use crate::{
    LedgerError, WireError, clock,
    store::{Store, Writer},
    wire::Wire,
};

/// So many of the newest blocks are known one by one. A deeper reorganisation is seen too, and more blocks read again then.
const RECENT: u32 = 300;

/// So many blocks are taken in before they are written down.
const AT_ONCE: u32 = 100;

/// The wallet with all that it knows.
pub(crate) struct Coins {
    pub(super) wallet: Wallet,
    signers: [SignersContainer; 2],
    /// Whether a signature says what all the coins are worth, so that nobody need prove it (BIP 341).
    commits: bool,
    name: String,
    birthday: u32,
}

/// Coins of a wallet, satoshi.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Confirmed, and if of a coinbase then 100 deep.
    pub spendable: u64,
    /// Of coinbases that are not.
    pub immature: u64,
}

/// How far the wallet came with the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It knows the tip, and this is it.
    Tip(Hash),
    /// There are more blocks.
    More,
    /// The node's chain is shorter than what we know: wait for it to grow.
    Behind,
}

/// Where a coin comes from.
pub(crate) enum Origin {
    /// A transaction in the chain, or one that the wallet never saw.
    There,
    /// A coinbase that is not in the chain: the blocks that had it, and how deep the ones are that stand in their places.
    Coinbase(Vec<(Hash, u32)>),
    /// A transaction that is not in the chain and spends these.
    Spends(Vec<OutPoint>),
}

/// What went wrong on the way to the tip.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

impl Coins {
    /// The wallet as the database has it; without anything there, as it is at the first block.
    pub async fn load(store: &Store, descriptors: &Descriptors) -> Result<Self, crate::PayError> {
        let mut snapshot = store.snapshot().await?;
        let changes = kept(&mut snapshot, descriptors.name()).await?;
        Ok(Self::of(descriptors, changes)?)
    }

    /// Of `changes`, or new.
    pub fn of(descriptors: &Descriptors, changes: Option<ChangeSet>) -> Result<Self, WalletError> {
        let Descriptors { external, internal, network, birthday, name } = descriptors.clone();
        let secp = Secp256k1::new();
        let commits =
            [&external.0, &internal.0].iter().all(|descriptor| descriptor.desc_type() == DescriptorType::Tr);
        let signers = [external.clone(), internal.clone()]
            .map(|(public, keys)| SignersContainer::build(keys, &public, &secp));
        let (external, internal) = (external.0, internal.0);
        let unfit = |error: &dyn std::fmt::Display| WalletError::Kept(error.to_string());
        let loaded = match changes {
            Some(changes) => Wallet::load()
                .descriptor(KeychainKind::External, Some(external.clone()))
                .descriptor(KeychainKind::Internal, Some(internal.clone()))
                .check_network(network)
                .lookahead(LOOKAHEAD)
                .load_wallet_no_persist(changes)
                .map_err(|error| unfit(&error))?,
            None => None,
        };
        let wallet = match loaded {
            Some(wallet) => wallet,
            None => Wallet::create(external, internal)
                .network(network)
                .lookahead(LOOKAHEAD)
                .create_wallet_no_persist()
                .map_err(|error| unfit(&error))?,
        };
        Ok(Self { wallet, signers, commits, name, birthday })
    }

    /// Takes in blocks up to the tip, but not more than a few at a time.
    pub async fn follow(&mut self, wire: &dyn Wire) -> Result<Reached, FollowError> {
        let (tip, height) = wire.tip().await?;
        let mut at = self.wallet.latest_checkpoint();
        if at.hash().to_byte_array() == tip {
            return Ok(Reached::Tip(tip));
        }
        // Back to where both chains are one.
        let known = at.height();
        while wire.hash_at(at.height()).await? != Some(at.hash().to_byte_array()) {
            at = at.prev().ok_or_else(|| {
                WalletError::Block(
                    "its chain begins with another block; is it on the same network?".to_owned(),
                )
            })?;
        }
        let has_left = at.height() < known;
        let mut below = at.block_id();
        let first = (at.height() + 1).max(self.birthday.min(height));
        if first > height {
            return Ok(Reached::Behind);
        }
        let last = height.min(first.saturating_add(AT_ONCE - 1));
        for height in first..=last {
            let Some(hash) = wire.hash_at(height).await? else { return Ok(Reached::More) };
            let block: Block = deserialize(&wire.block(&hash).await?)
                .map_err(|error| WalletError::Block(format!("at height {height}: {error}")))?;
            if block.block_hash().to_byte_array() != hash {
                return Err(WalletError::Block(format!("at height {height} it is another one")).into());
            }
            if below.height + 1 == height && block.header.prev_blockhash != below.hash {
                return Ok(Reached::More); // the chain changed under our hands
            }
            self.wallet
                .apply_block_connected_to(&block, height, below)
                .map_err(|error| WalletError::Block(format!("at height {height}: {error}")))?;
            below = BlockId { height, hash: BlockHash::from_byte_array(hash) };
        }
        if has_left {
            self.forget_what_is_in_no_block();
        }
        Ok(if last == height { Reached::Tip(below.hash.to_byte_array()) } else { Reached::More })
    }

    /// What was in a block that left the chain counts for nothing, until another block has it: nobody knows whether one ever
    /// will. Its inputs are coins again and its outputs are none; a batch on its way has its coins locked by itself.
    fn forget_what_is_in_no_block(&mut self) {
        let now = u64::try_from(clock::now_ms() / 1000).unwrap_or_default();
        loop {
            let unconfirmed = self.wallet.transactions().filter(|seen| seen.chain_position.is_unconfirmed());
            let gone: Vec<(Txid, u64)> = unconfirmed.map(|seen| (seen.tx_node.txid, now)).collect();
            if gone.is_empty() {
                return;
            }
            // In their place others may come up that they have kept out.
            self.wallet.apply_evicted_txs(gone);
        }
    }

    /// Writes down what has changed since the last time. If the transaction fails, what is in memory is of no use any
    /// more: load it anew.
    pub async fn keep(&mut self, connection: &mut AnyConnection) -> Result<(), crate::PayError> {
        let Some(change) = self.wallet.take_staged() else { return Ok(()) };
        let text = serde_json::to_string(&change).map_err(|error| WalletError::Kept(error.to_string()))?;
        let sql = "INSERT INTO wallet_change (wallet, id, change) \
                   SELECT $1, COALESCE(MAX(id), 0) + 1, $2 FROM wallet_change WHERE wallet = $3";
        let query = sqlx::query(sql).bind(&self.name).bind(text).bind(&self.name);
        query.execute(connection).await.map_err(LedgerError::database("keep the wallet"))?;
        Ok(())
    }

    /// Whether something is to be written down.
    pub fn has_changed(&self) -> bool {
        self.wallet.staged().is_some()
    }

    /// What it has.
    pub fn held(&self) -> Held {
        let balance = self.wallet.balance();
        Held { spendable: balance.confirmed.to_sat(), immature: balance.immature.to_sat() }
    }

    /// The block of this transaction in the chain that the wallet knows.
    fn seen(&self, txid: Txid) -> Option<Hash> {
        match self.wallet.get_tx(txid)?.chain_position {
            ChainPosition::Confirmed { anchor, .. } => Some(anchor.block_id.hash.to_byte_array()),
            ChainPosition::Unconfirmed { .. } => None,
        }
    }

    /// Every block that was seen to have this transaction, on the chain or not any more.
    pub fn blocks_of(&self, txid: Txid) -> Vec<Hash> {
        let node = self.wallet.tx_graph().get_tx_node(txid);
        let anchors = node.iter().flat_map(|node| node.anchors.iter());
        anchors.map(|anchor| anchor.block_id.hash.to_byte_array()).collect()
    }

    /// Where the transaction that made a coin is, and what it is made of.
    pub fn origin(&self, txid: Txid) -> Origin {
        let graph = self.wallet.tx_graph();
        let Some(node) = graph.get_tx_node(txid).filter(|_| self.seen(txid).is_none()) else {
            return Origin::There;
        };
        if node.tx.is_coinbase() {
            let tip = self.wallet.latest_checkpoint().height();
            let place = |height: u32| (tip + 1).saturating_sub(height);
            let anchors = node.anchors.iter().map(|anchor| anchor.block_id);
            return Origin::Coinbase(anchors.map(|at| (at.hash.to_byte_array(), place(at.height))).collect());
        }
        Origin::Spends(node.tx.input.iter().map(|input| input.previous_output).collect())
    }

    /// Who else spends `coin`, in which block.
    pub fn spenders(&self, coin: OutPoint) -> Vec<(Txid, Hash)> {
        let spenders = self.wallet.tx_graph().outspends(coin).iter();
        spenders.filter_map(|txid| Some((*txid, self.seen(*txid)?))).collect()
    }

    /// Whether `script` is one of ours.
    pub fn owns(&self, script: &ScriptBuf) -> bool {
        self.wallet.is_mine(script.clone())
    }

    /// Signs with the keys that it has, and nothing else.
    pub fn sign(&self, psbt: &mut Psbt) -> Result<(), WalletError> {
        let options =
            SignOptions { trust_witness_utxo: self.commits, try_finalize: false, ..SignOptions::default() };
        let [external, internal] = &self.signers;
        let signed = self.wallet.sign_with_signers(psbt, &[external, internal], options);
        signed.map(drop).map_err(|error| WalletError::Sign(error.to_string()))
    }

    /// The transaction, if all its signatures are there and are right.
    pub fn finish(&self, mut psbt: Psbt) -> Result<Transaction, WalletError> {
        let failed = |error: &dyn std::fmt::Display| WalletError::Sign(error.to_string());
        let whole =
            self.wallet.finalize_psbt(&mut psbt, SignOptions::default()).map_err(|error| failed(&error))?;
        if !whole {
            return Err(WalletError::Sign("signatures are missing".to_owned()));
        }
        // Runs the scripts.
        PsbtExt::extract(&psbt, self.wallet.secp_ctx()).map_err(|error| failed(&error))
    }
}

/// All that the database has of the wallet `name`.
pub(crate) async fn kept(
    connection: &mut AnyConnection,
    name: &str,
) -> Result<Option<ChangeSet>, crate::PayError> {
    let failed = LedgerError::database("read the wallet");
    let sql = "SELECT change FROM wallet_change WHERE wallet = $1 ORDER BY id";
    let rows = sqlx::query(sql).bind(name).fetch_all(connection).await.map_err(&failed)?;
    let mut whole: Option<ChangeSet> = None;
    for row in rows {
        let text: String = row.try_get("change").map_err(&failed)?;
        let change: ChangeSet =
            serde_json::from_str(&text).map_err(|error| WalletError::Kept(error.to_string()))?;
        match &mut whole {
            Some(whole) => whole.merge(change),
            None => whole = Some(change),
        }
    }
    if let Some(whole) = &mut whole {
        thin_out(whole);
    }
    Ok(whole)
}

/// Of the chain the wallet needs to know the newest blocks, to see a reorganisation, and those that have something of its
/// own. All others only make it slow: each question about a coin counts down from the tip.
fn thin_out(changes: &mut ChangeSet) {
    let own: BTreeSet<u32> =
        changes.tx_graph.anchors.iter().map(|(anchor, _)| anchor.block_id.height).collect();
    let blocks = &mut changes.local_chain.blocks;
    let tip = blocks.keys().next_back().copied().unwrap_or_default();
    blocks.retain(|height, _| *height == 0 || height.saturating_add(RECENT) > tip || own.contains(height));
}

/// Writes the changes of a wallet as one: with every block there is one more.
pub(crate) async fn compact(writer: &mut Writer<'_>, name: &str) -> Result<(), crate::PayError> {
    let failed = LedgerError::database("compact the wallet");
    let mut transaction = writer.begin().await?;
    if let Some(whole) = kept(&mut transaction, name).await? {
        let text = serde_json::to_string(&whole).map_err(|error| WalletError::Kept(error.to_string()))?;
        let delete = sqlx::query("DELETE FROM wallet_change WHERE wallet = $1").bind(name);
        delete.execute(&mut *transaction).await.map_err(&failed)?;
        let insert = sqlx::query("INSERT INTO wallet_change (wallet, id, change) VALUES ($1, 1, $2)");
        insert.bind(name).bind(text).execute(&mut *transaction).await.map_err(&failed)?;
    }
    transaction.commit().await.map_err(&failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bdk_wallet::chain::ConfirmationBlockTime;

    use super::*;

    #[test]
    fn what_a_wallet_keeps_of_the_chain() {
        let hash = |height: u32| BlockHash::from_byte_array([height as u8; 32]);
        let mut changes = ChangeSet::default();
        changes.local_chain.blocks = (0..=1_000).map(|height| (height, Some(hash(height)))).collect();
        for height in [10, 500] {
            let block_id = BlockId { height, hash: hash(height) };
            let anchor = ConfirmationBlockTime { block_id, confirmation_time: 0 };
            changes.tx_graph.anchors.insert((anchor, Txid::all_zeros()));
        }
        thin_out(&mut changes);
        let kept: Vec<u32> = changes.local_chain.blocks.keys().copied().collect();
        let expect: Vec<u32> = [0, 10, 500].into_iter().chain(1_000 - RECENT + 1..=1_000).collect();
        assert_eq!(kept, expect);
        thin_out(&mut changes);
        assert_eq!(changes.local_chain.blocks.len(), kept.len());
    }
}
