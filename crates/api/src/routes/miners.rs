//! One miner: what an address has done, and what it is owed.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use ledger::{Credit, MinerAccount, SlotCredit, WorkerAccount, hash};
use pool::{Snapshot, WorkerState};
use serde::Serialize;

use crate::{
    fault::{Fault, Params, Place},
    figures::{Shown, answer},
    routes::{
        blocks::Part,
        pool::{Back, Samples},
    },
};

/// Workers in one answer; `/workers` pages through the rest.
const MOST_WORKERS: usize = 500;

/// What `/api/v1/miners/{address}` says.
#[derive(Serialize)]
pub(crate) struct MinerView {
    address: String,
    accepted_shares: u64,
    rejected_shares: u64,
    work: String,
    hashrate: f64,
    balance_msat: Balance,
    payout_threshold_sats: Option<u64>,
    worker_count: usize,
    workers: Vec<WorkerView>,
}

#[derive(Serialize)]
struct Balance {
    immature: i64,
    available: i64,
    in_flight: i64,
    paid: i64,
}

/// One of its machines. What only a connection knows is null while there is none.
#[derive(Serialize)]
struct WorkerView {
    name: String,
    connected: bool,
    hashrate: f64,
    accepted_shares: u64,
    rejected_shares: u64,
    work: String,
    last_share_ms: Option<u64>,
    protocol: Option<&'static str>,
    agent: Option<String>,
    difficulty: Option<f64>,
    best_difficulty: Option<f64>,
}

/// A page of workers, by name, and how many there are.
#[derive(Serialize)]
pub(crate) struct Workers {
    workers: Vec<WorkerView>,
    total: usize,
}

/// The latest credits, newest first.
#[derive(Serialize)]
pub(crate) struct Credits {
    credits: Vec<CreditView>,
}

#[derive(Serialize)]
struct CreditView {
    block_hash: String,
    height: u32,
    status: &'static str,
    amount_msat: i64,
    work: String,
    window_work: String,
    time_ms: u64,
}

/// What the latest slots have paid, newest first.
#[derive(Serialize)]
pub(crate) struct SlotCredits {
    slots: Vec<SlotCreditView>,
}

#[derive(Serialize)]
struct SlotCreditView {
    slot: i64,
    amount_msat: i64,
    time_ms: i64,
}

/// An address in the books, on the line, or both.
pub(crate) struct Miner {
    address: String,
    account: Option<MinerAccount>,
    snapshot: Arc<Snapshot>,
}

impl Miner {
    pub async fn find(shown: &Shown, address: &str) -> Result<Self, Fault> {
        let address = canonical(address);
        let account = answer(shown.ledger.miner(&address)).await?;
        let miner = Self { address, account, snapshot: shown.figures().snapshot };
        let known = miner.account.is_some() || miner.states().next().is_some();
        if known { Ok(miner) } else { Err(Fault::UnknownMiner) }
    }

    /// Canonical.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn states(&self) -> impl Iterator<Item = &WorkerState> {
        self.snapshot.workers.iter().filter(|worker| *worker.address == *self.address)
    }

    /// Every worker by name, from the books and from the line.
    fn workers(&self) -> Vec<WorkerView> {
        let mut workers: BTreeMap<&str, (Option<&WorkerAccount>, Option<&WorkerState>)> = BTreeMap::new();
        for account in self.account.iter().flat_map(|account| &account.workers) {
            workers.entry(&account.name).or_default().0 = Some(account);
        }
        for state in self.states() {
            workers.entry(&state.name).or_default().1 = Some(state);
        }
        workers.into_iter().map(|(name, (account, state))| WorkerView::new(name, account, state)).collect()
    }
}

impl WorkerView {
    fn new(name: &str, account: Option<&WorkerAccount>, state: Option<&WorkerState>) -> Self {
        let online = state.filter(|state| state.connections > 0);
        Self {
            name: name.to_owned(),
            connected: online.is_some(),
            hashrate: state.map_or(0.0, |state| state.hashrate),
            accepted_shares: account.map_or(0, |account| account.accepted_shares),
            rejected_shares: account.map_or(0, |account| account.rejected_shares),
            work: account.map_or(0, |account| account.work).to_string(),
            last_share_ms: account
                .and_then(|account| account.last_share_ms)
                .max(state.and_then(|state| state.last_share_ms)),
            protocol: online.map(|state| state.protocol),
            agent: online.map(|state| state.agent.to_string()),
            difficulty: online.map(|state| state.difficulty),
            best_difficulty: state.map(|state| state.best),
        }
    }
}

impl From<Credit> for CreditView {
    fn from(credit: Credit) -> Self {
        Self {
            block_hash: hash::shown(&credit.block_hash),
            height: credit.height,
            status: credit.status.as_str(),
            amount_msat: credit.amount_msat,
            work: credit.work.to_string(),
            window_work: credit.window_work.to_string(),
            time_ms: credit.time_ms,
        }
    }
}

/// Bech32 may be written in capitals; the books have it in small letters. Anything else stays as it is.
fn canonical(address: &str) -> String {
    let bech32 = ["BC1", "TB1", "BCRT1"].iter().any(|prefix| address.starts_with(prefix));
    if bech32 { address.to_ascii_lowercase() } else { address.to_owned() }
}

pub(crate) async fn miner(
    State(shown): State<Arc<Shown>>,
    Place(address): Place<String>,
) -> Result<Json<MinerView>, Fault> {
    let miner = Miner::find(&shown, &address).await?;
    let mut workers = miner.workers();
    let worker_count = workers.len();
    workers.truncate(MOST_WORKERS);
    let account = miner.account.as_ref();
    let balance = |part: fn(&MinerAccount) -> i64| account.map_or(0, part);
    Ok(Json(MinerView {
        accepted_shares: account.map_or(0, |account| account.accepted_shares),
        rejected_shares: account.map_or(0, |account| account.rejected_shares),
        work: account.map_or(0, |account| account.work).to_string(),
        hashrate: miner.states().map(|worker| worker.hashrate).sum(),
        balance_msat: Balance {
            immature: balance(|account| account.balance.immature),
            available: balance(|account| account.balance.available),
            in_flight: balance(|account| account.balance.in_flight),
            paid: balance(|account| account.balance.paid),
        },
        payout_threshold_sats: shown
            .about
            .payout_threshold_sats
            .map(|usual| account.and_then(|account| account.threshold_sats).unwrap_or(usual)),
        worker_count,
        workers,
        address: miner.address,
    }))
}

pub(crate) async fn workers(
    State(shown): State<Arc<Shown>>,
    Place(address): Place<String>,
    Params(part): Params<Part>,
) -> Result<Json<Workers>, Fault> {
    let (limit, offset) = part.checked()?;
    let workers = Miner::find(&shown, &address).await?.workers();
    let total = workers.len();
    let page = workers.into_iter().skip(offset as usize).take(limit as usize).collect();
    Ok(Json(Workers { workers: page, total }))
}

pub(crate) async fn hashrate(
    State(shown): State<Arc<Shown>>,
    Place(address): Place<String>,
    Params(back): Params<Back>,
) -> Result<Json<Samples>, Fault> {
    let since_ms = back.since_ms()?;
    let miner = Miner::find(&shown, &address).await?;
    Ok(Json(Samples { samples: shown.history().miner(&miner.address, since_ms) }))
}

pub(crate) async fn credits(
    State(shown): State<Arc<Shown>>,
    Place(address): Place<String>,
    Params(part): Params<Part>,
) -> Result<Json<Credits>, Fault> {
    let (limit, _) = part.checked()?;
    let miner = Miner::find(&shown, &address).await?;
    let credits = answer(shown.ledger.credits(&miner.address, limit)).await?;
    Ok(Json(Credits { credits: credits.into_iter().map(CreditView::from).collect() }))
}

/// Where work is paid at a fixed rate.
pub(crate) async fn slots(
    State(shown): State<Arc<Shown>>,
    Place(address): Place<String>,
    Params(part): Params<Part>,
) -> Result<Json<SlotCredits>, Fault> {
    let (limit, _) = part.checked()?;
    let miner = Miner::find(&shown, &address).await?;
    let credits = answer(shown.ledger.slot_credits(&miner.address, limit)).await?;
    let view = |SlotCredit { slot, amount_msat, time_ms }| SlotCreditView { slot, amount_msat, time_ms };
    Ok(Json(SlotCredits { slots: credits.into_iter().map(view).collect() }))
}
