//! The pool as a whole.

use std::{collections::HashSet, sync::Arc};

use axum::{Json, extract::State};
use ledger::hash;
use pool::Snapshot;
use serde::{Deserialize, Serialize};

use crate::{
    About,
    fault::{Fault, Params, within},
    figures::{Books, Figures, Shown, answer, now_ms},
    history::{SPAN_MS, Sample},
};

/// Hashes that a share of difficulty 1 takes on average: 2^256 / (0xffff * 2^208 + 1), to all digits of a float.
const HASHES_PER_DIFFICULTY: f64 = 4_295_032_833.0;
const MINUTES: u32 = (SPAN_MS / 60_000) as u32;

/// What `/api/v1/pool` and the event `pool` say.
#[derive(Serialize)]
pub(crate) struct PoolView {
    time_ms: u64,
    network: String,
    scheme: String,
    fee_percent: f64,
    tag: String,
    version: &'static str,
    stratum_urls: Vec<String>,
    hashrate: f64,
    connections: usize,
    workers: usize,
    miners: usize,
    storing: bool,
    height: Option<u32>,
    network_difficulty: Option<f64>,
    template_age_ms: Option<u64>,
    accepted_shares: Option<u64>,
    rejected_shares: Option<u64>,
    work: Option<String>,
    blocks_found: Option<u64>,
    blocks_orphaned: Option<u64>,
    rewards_msat: Option<i64>,
    reserve_msat: Option<ReserveView>,
    round_effort: Option<f64>,
    ledger_age_ms: Option<u64>,
}

/// What the pool pays work with, and should have to do so.
#[derive(Serialize)]
struct ReserveView {
    available: i64,
    immature: i64,
    required: Option<i64>,
}

impl From<ledger::Reserve> for ReserveView {
    fn from(reserve: ledger::Reserve) -> Self {
        let ledger::Reserve { available_msat, immature_msat, required_msat } = reserve;
        Self { available: available_msat, immature: immature_msat, required: required_msat }
    }
}

impl PoolView {
    pub fn new(about: &About, Figures { snapshot, books }: &Figures) -> Self {
        let now = now_ms();
        let online = || snapshot.workers.iter().filter(|worker| worker.connections > 0);
        let totals = books.as_ref().map(|books| &books.totals);
        Self {
            time_ms: now,
            network: about.network.clone(),
            scheme: about.scheme.clone(),
            fee_percent: f64::from(about.fee_ppm) / 10_000.0,
            tag: about.tag.clone(),
            version: about.version,
            stratum_urls: about.stratum_urls.clone(),
            hashrate: snapshot.hashrate,
            connections: snapshot.connections,
            workers: online().count(),
            miners: online().map(|worker| &worker.address).collect::<HashSet<_>>().len(),
            storing: snapshot.storing,
            height: snapshot.tip.map(|tip| tip.height),
            network_difficulty: snapshot.tip.map(|tip| tip.network_difficulty),
            template_age_ms: snapshot.tip.map(|tip| now.saturating_sub(tip.template_time_ms)),
            accepted_shares: totals.map(|totals| totals.accepted_shares),
            rejected_shares: totals.map(|totals| totals.rejected_shares),
            work: totals.map(|totals| totals.work.to_string()),
            blocks_found: totals.map(|totals| totals.blocks),
            blocks_orphaned: totals.map(|totals| totals.orphaned),
            rewards_msat: totals.map(|totals| totals.rewards_msat),
            reserve_msat: books.as_ref().map(|books| books.reserve.into()),
            round_effort: effort(snapshot, books.as_deref()),
            ledger_age_ms: books.as_ref().map(|books| books.read.elapsed().as_millis() as u64),
        }
    }
}

/// Work since the newest block, in parts of what a block takes on average.
fn effort(snapshot: &Snapshot, books: Option<&Books>) -> Option<f64> {
    let books = books?;
    let work = books.totals.work.saturating_sub(books.before_round?);
    let block = snapshot.tip?.network_difficulty * HASHES_PER_DIFFICULTY;
    Some(work as f64 / block).filter(|effort| effort.is_finite())
}

pub(crate) async fn pool(State(shown): State<Arc<Shown>>) -> Json<PoolView> {
    Json(PoolView::new(&shown.about, &shown.figures()))
}

/// The mean of the chain's fees, and what it is of.
#[derive(Serialize)]
pub(crate) struct FeesView {
    mean_msat: Option<i64>,
    trimmed: u32,
    time_ms: Option<i64>,
    blocks: Vec<FeeBlockView>,
}

#[derive(Serialize)]
struct FeeBlockView {
    height: u32,
    hash: String,
    fees_sats: u64,
}

/// What `fpps` pays on top of the subsidy, so that anybody can work it out again.
pub(crate) async fn fees(State(shown): State<Arc<Shown>>) -> Result<Json<FeesView>, Fault> {
    let mean = answer(shown.ledger.mean_fees()).await?;
    let blocks = mean.iter().flat_map(|mean| &mean.blocks).map(|block| FeeBlockView {
        height: block.height,
        hash: hash::shown(&block.hash),
        fees_sats: block.fees_sats,
    });
    Ok(Json(FeesView {
        blocks: blocks.collect(),
        mean_msat: mean.as_ref().map(|mean| mean.mean_msat),
        trimmed: mean.as_ref().map_or(0, |mean| mean.trimmed),
        time_ms: mean.as_ref().map(|mean| mean.time_ms),
    }))
}

/// How far back a chart goes.
#[derive(Deserialize)]
pub(crate) struct Back {
    minutes: Option<u32>,
}

impl Back {
    /// The time from which on there should be samples.
    pub fn since_ms(&self) -> Result<u64, Fault> {
        let minutes = within("minutes", self.minutes, MINUTES, 1..=MINUTES)?;
        Ok(now_ms().saturating_sub(u64::from(minutes) * 60_000))
    }
}

/// Samples, oldest first.
#[derive(Serialize)]
pub(crate) struct Samples {
    pub samples: Vec<Sample>,
}

pub(crate) async fn hashrate(
    State(shown): State<Arc<Shown>>,
    Params(back): Params<Back>,
) -> Result<Json<Samples>, Fault> {
    let since_ms = back.since_ms()?;
    Ok(Json(Samples { samples: shown.history().pool(since_ms) }))
}
