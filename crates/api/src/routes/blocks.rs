//! The blocks that the pool found.

use std::sync::Arc;

use axum::{Json, extract::State};
use ledger::{Block, hash};
use serde::{Deserialize, Serialize};

use crate::{
    fault::{Fault, Params, within},
    figures::{Shown, answer},
};

const MOST: u32 = 500;

/// A block, as `/api/v1/blocks` and the event `block` show it.
#[derive(Serialize)]
pub(crate) struct BlockView {
    height: u32,
    hash: String,
    status: &'static str,
    reward_msat: i64,
    fee_msat: i64,
    finder: Finder,
    time_ms: u64,
    confirmations: Option<u32>,
}

#[derive(Serialize)]
struct Finder {
    address: String,
    worker: String,
}

/// One page of blocks, and how many there are.
#[derive(Serialize)]
pub(crate) struct Blocks {
    blocks: Vec<BlockView>,
    total: u64,
}

/// Which part of a list.
#[derive(Deserialize)]
pub(crate) struct Part {
    limit: Option<u32>,
    offset: Option<u32>,
}

impl Part {
    /// Limit and offset, if they are sensible.
    pub fn checked(&self) -> Result<(u32, u32), Fault> {
        let limit = within("limit", self.limit, 50, 1..=MOST)?;
        Ok((limit, self.offset.unwrap_or(0)))
    }
}

impl From<&Block> for BlockView {
    fn from(block: &Block) -> Self {
        Self {
            height: block.height,
            hash: hash::shown(&block.hash),
            status: block.status.as_str(),
            reward_msat: block.reward_msat,
            fee_msat: block.fee_msat,
            finder: Finder { address: block.finder_address.clone(), worker: block.finder_worker.clone() },
            time_ms: block.time_ms,
            confirmations: block.confirmations,
        }
    }
}

/// Newest first.
pub(crate) async fn blocks(
    State(shown): State<Arc<Shown>>,
    Params(part): Params<Part>,
) -> Result<Json<Blocks>, Fault> {
    let (limit, offset) = part.checked()?;
    let blocks = answer(shown.ledger.blocks(limit, offset.into())).await?;
    let totals = answer(shown.ledger.totals()).await?;
    let total = totals.blocks + totals.orphaned;
    Ok(Json(Blocks { blocks: blocks.iter().map(BlockView::from).collect(), total }))
}
