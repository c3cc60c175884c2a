//! What the coinbase of a job pays: asked by the pool whenever it makes one, and answered from memory.
//!
//! Where coinbases pay the miners of a window themselves, the split of a job is that of the newest closed slot, and its
//! number goes with the job into the record of the block: the drain credits exactly what the job was made of. Each miner
//! whose part is above the operator's threshold has an output, the largest first, as many as the firmware takes; what is left
//! is paid to the pool, which owes it as balance.
//!
//! A balance is paid by a later coinbase together with the miner's part of that. So that none is paid twice, a job pays
//! balances only while every block that was pushed to the spool is drained, and every block that is watched is on chain
//! and credited: whatever an earlier coinbase has paid has then left the balances. Two blocks of one height may pay the
//! same balance; only one of them comes to count.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bitcoin::{Address, Network, address::NetworkUnchecked};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use crate::{
    Class, LedgerError, Origin, SplitId, Spool, Terms, Worker,
    books::{Books, slot_bits},
    division::Reward,
    store::{Column, Dialect, Store, json},
    terms::History,
    window::{Weights, Window},
};

/// How coinbases pay miners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// No output is smaller; satoshi.
    pub min_sats: u64,
    /// The most outputs to miners, whatever else would fit.
    pub most: usize,
}

/// What a coinbase pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pays {
    /// Script and satoshi; they sum to the value.
    pub outputs: Vec<(Vec<u8>, u64)>,
    /// For the record of a block.
    pub origin: Option<Origin>,
}

/// Says what coinbases pay. Clones say the same.
#[derive(Clone)]
pub struct Coinbases {
    terms: Terms,
    /// Number of the terms; none where there is no ledger.
    terms_id: Option<i64>,
    network: Network,
    direct: Option<Direct>,
    shown: Shown,
    spool: Option<Spool>,
}

/// What the ledger shows to those who make jobs.
#[derive(Clone, Default)]
pub(crate) struct Shown(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Whether anybody looks.
    wanted: AtomicBool,
    split: RwLock<Option<Arc<Split>>>,
    carried: RwLock<Arc<Carried>>,
    /// Found blocks of this opening of the spool that are in the database.
    drained: AtomicU64,
    /// Whether what earlier openings have left is in the database.
    caught_up: AtomicBool,
}

/// A window, and where its miners are paid.
pub(crate) struct Split {
    id: SplitId,
    weights: Weights,
    scripts: HashMap<i64, Box<[u8]>>,
}

/// Balances that a coinbase may pay, if no block has been found since.
#[derive(Default)]
struct Carried {
    /// How many blocks of this opening had been drained before this was read; `None`: nothing may be paid.
    drained: Option<u64>,
    /// Millisatoshi and script, by miner.
    balances: HashMap<i64, (u64, Box<[u8]>)>,
}

/// Of a coinbase, with everything that is not an output to a miner: version, input with the longest script, counts, the
/// pool's output, the witness commitment, lock time.
const FIXED_BYTES: usize = 4 + 1 + 36 + 1 + 100 + 4 + 3 + (8 + 1 + 34) + (8 + 1 + 38) + 4;

impl From<Terms> for Coinbases {
    /// Of a pool without a ledger: nobody keeps windows for it.
    fn from(terms: Terms) -> Self {
        let (shown, network) = (Shown::default(), Network::Bitcoin);
        Self { terms, terms_id: None, network, direct: None, shown, spool: None }
    }
}

impl Coinbases {
    /// The size that any firmware takes, in bytes: C-40 has one at 500.
    pub const SAFE_BYTES: usize = 500;

    pub(crate) fn new(
        terms: Terms,
        terms_id: i64,
        network: Network,
        direct: Option<Direct>,
        shown: Shown,
        spool: Spool,
    ) -> Self {
        Self { terms, terms_id: Some(terms_id), network, direct, shown, spool: Some(spool) }
    }

    /// Which coinbase `worker` mines on, whose firmware takes one of `most_bytes`.
    pub fn class(&self, worker: &Worker, most_bytes: usize) -> Class {
        match self.direct {
            Some(_) => Class::Split(most_bytes),
            None => self.terms.class(worker),
        }
    }

    /// What a coinbase of `class` at `height` pays, worth `value_sats`, that `finder` mines on. None of the outputs is
    /// zero unless the value is.
    pub fn pays(&self, class: &Class, finder: &Worker, height: u32, value_sats: u64) -> Pays {
        let origin = |split| self.terms_id.map(|terms| Origin { terms, split });
        if let (Class::Split(bytes), Some(direct)) = (class, self.direct) {
            let split = self.shown.0.split.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(split) = split {
                let outputs = self.split_outputs(&split, direct, *bytes, height, value_sats);
                return Pays { outputs, origin: origin(Some(split.id)) };
            }
        }
        Pays { outputs: self.terms.outputs(finder, value_sats), origin: origin(None) }
    }

    fn split_outputs(
        &self,
        split: &Split,
        direct: Direct,
        most_bytes: usize,
        height: u32,
        value_sats: u64,
    ) -> Vec<(Vec<u8>, u64)> {
        let carried = self.carried();
        let reward = Reward::of(self.network, height, value_sats.saturating_mul(1_000));
        let fee = reward.fee(self.terms.fee_ppm, &split.weights);
        let parts = reward.divide(fee, &split.weights).map(|division| division.miners).unwrap_or_default();
        let outputs =
            outputs(&parts, split, &carried, direct, most_bytes, value_sats, &self.terms.pool_script);
        let left = value_sats - outputs.iter().map(|(_, sats)| sats).sum::<u64>();
        let pool = (left > 0 || outputs.is_empty()).then(|| (self.terms.pool_script.clone(), left));
        outputs.into_iter().chain(pool).collect()
    }

    /// The balances that may be paid now.
    fn carried(&self) -> Arc<Carried> {
        let carried = self.shown.0.carried.read().unwrap_or_else(PoisonError::into_inner).clone();
        let pushed = self.spool.as_ref().map(Spool::found);
        let is_clear = self.shown.has_caught_up() && pushed.is_some() && carried.drained == pushed;
        if is_clear { carried } else { Arc::default() }
    }
}

/// The outputs to miners: script and satoshi, the largest first, ties by the smaller miner id.
fn outputs(
    parts: &[(i64, i64)],
    split: &Split,
    carried: &Carried,
    direct: Direct,
    most_bytes: usize,
    value_sats: u64,
    pool_script: &[u8],
) -> Vec<(Vec<u8>, u64)> {
    let msat = |part: i64| u64::try_from(part).unwrap_or(0);
    // Miner, what it is due, and what of that is of this block.
    let mut due: HashMap<i64, (u64, u64)> =
        parts.iter().map(|(miner, part)| (*miner, (msat(*part), msat(*part)))).collect();
    for (miner, (balance, _)) in &carried.balances {
        let (all, _) = due.entry(*miner).or_default();
        *all = all.saturating_add(*balance);
    }
    let script = |miner: &i64| {
        let script =
            split.scripts.get(miner).or_else(|| carried.balances.get(miner).map(|(_, script)| script));
        script.filter(|script| ***script != *pool_script)
    };
    let mut due: Vec<(Reverse<u64>, i64, u64, &[u8])> = due
        .iter()
        .filter(|(_, (all, _))| all / 1_000 >= direct.min_sats.max(1))
        .filter_map(|(miner, (all, part))| Some((Reverse(*all), *miner, *part, &**script(miner)?)))
        .collect();
    due.sort_unstable();
    let mut room = most_bytes.saturating_sub(FIXED_BYTES);
    // What balances may take: whatever of the value is not a miner's part of this block.
    let mut left =
        value_sats - parts.iter().map(|(_, part)| msat(*part).div_ceil(1_000)).sum::<u64>().min(value_sats);
    let mut outputs = Vec::new();
    for (Reverse(all), _, part, script) in due {
        let size = 8 + 1 + script.len();
        if outputs.len() >= direct.most || size > room {
            break;
        }
        let part_sats = part / 1_000;
        let more = (all / 1_000 - part_sats).min(left);
        if part_sats + more < direct.min_sats.max(1) {
            continue;
        }
        left -= more;
        room -= size;
        outputs.push((script.to_vec(), part_sats + more));
    }
    outputs
}

impl Shown {
    /// Reads all of it for the first time.
    pub async fn begin(&self, store: &Store, spool: &Spool) -> Result<(), LedgerError> {
        self.0.wanted.store(true, Ordering::Release);
        let failed = LedgerError::database("read the newest slot");
        let mut snapshot = store.snapshot().await?;
        let sql = "SELECT COALESCE(MAX(id), 0) AS newest FROM slot WHERE closed_ms IS NOT NULL";
        let row = sqlx::query(sql).fetch_one(&mut *snapshot).await.map_err(&failed)?;
        let newest: i64 = row.try_get("newest").map_err(&failed)?;
        let history = History::load(&mut snapshot, spool.id()).await?;
        if let Some(bits) = slot_bits(&mut snapshot, newest).await? {
            let window = Window::load(&mut snapshot, newest, bits, history.longest()).await?;
            let split = read_split(&mut snapshot, store.dialect(), &window).await?;
            self.show_split(Some(split));
        }
        Ok(())
    }

    /// The split as of the newest closed slot, if it is not the one that is shown.
    pub async fn next_split(
        &self,
        connection: &mut AnyConnection,
        books: &mut Books,
    ) -> Result<Option<Split>, LedgerError> {
        if !self.0.wanted.load(Ordering::Acquire) {
            return Ok(None);
        }
        let shown =
            self.0.split.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|split| split.id);
        let dialect = books.dialect;
        let Some(window) = books.window(connection).await? else { return Ok(None) };
        if shown == Some(SplitId { slot: window.newest, bits: window.bits }) {
            return Ok(None);
        }
        read_split(connection, dialect, window).await.map(Some)
    }

    /// Shows what has been committed.
    pub fn show_split(&self, split: Option<Split>) {
        if let Some(split) = split {
            *self.0.split.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(split));
        }
    }

    /// So many more found blocks of this opening of the spool are in the database.
    pub fn has_drained(&self, founds: u64) {
        self.0.drained.fetch_add(founds, Ordering::Release);
    }

    /// A batch had all that there was to drain.
    pub fn is_caught_up(&self) {
        self.0.caught_up.store(true, Ordering::Release);
    }

    /// Whether what earlier openings of the spool have left is in the database.
    pub fn has_caught_up(&self) -> bool {
        self.0.caught_up.load(Ordering::Acquire)
    }

    /// Reads which balances a coinbase may pay.
    pub async fn carry(&self, store: &Store) -> Result<(), LedgerError> {
        if !self.0.wanted.load(Ordering::Acquire) {
            return Ok(());
        }
        let failed = LedgerError::database("read the balances that coinbases pay");
        // First the count, then the snapshot: that has at least so many blocks in it.
        let drained = self.0.drained.load(Ordering::Acquire);
        let mut snapshot = store.snapshot().await?;
        let sql =
            "SELECT COUNT(*) AS open FROM block WHERE watched = 1 AND state IN ('candidate', 'orphaned')";
        let row = sqlx::query(sql).fetch_one(&mut *snapshot).await.map_err(&failed)?;
        let open: i64 = row.try_get("open").map_err(&failed)?;
        let mut carried = Carried { drained: (open == 0).then_some(drained), balances: HashMap::new() };
        if open == 0 {
            let sql = "SELECT m.id, m.address, a.balance_msat FROM account a JOIN miner m ON m.id = a.miner_id \
                       WHERE a.id = m.id * 8 + 1 AND a.balance_msat >= 1000";
            for row in sqlx::query(sql).fetch_all(&mut *snapshot).await.map_err(&failed)? {
                let address: String = row.try_get("address").map_err(&failed)?;
                let balance: i64 = row.try_get("balance_msat").map_err(&failed)?;
                if let Some(script) = script(&address) {
                    let id = row.try_get("id").map_err(&failed)?;
                    carried.balances.insert(id, (u64::try_from(balance).unwrap_or(0), script));
                }
            }
        }
        *self.0.carried.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(carried);
        Ok(())
    }
}

async fn read_split(
    connection: &mut AnyConnection,
    dialect: Dialect,
    window: &Window,
) -> Result<Split, LedgerError> {
    let failed = LedgerError::database("read the addresses of miners");
    let weights = window.weights();
    let ids: Vec<(i64,)> = weights.miners.iter().map(|(miner, _)| (*miner,)).collect();
    let sql = format!(
        "SELECT m.id, m.address FROM {} AS t JOIN miner m ON m.id = t.id",
        dialect.table(&[("id", Column::Integer)])
    );
    let mut scripts = HashMap::with_capacity(ids.len());
    let query = sqlx::query(AssertSqlSafe(sql)).bind(json(&ids));
    for row in query.fetch_all(connection).await.map_err(&failed)? {
        let address: String = row.try_get("address").map_err(&failed)?;
        if let Some(script) = script(&address) {
            scripts.insert(row.try_get("id").map_err(&failed)?, script);
        }
    }
    Ok(Split { id: SplitId { slot: window.newest, bits: window.bits }, weights, scripts })
}

/// The script of an address; the ledger has those of its own network only.
fn script(address: &str) -> Option<Box<[u8]>> {
    let address: Address<NetworkUnchecked> = address.parse().ok()?;
    Some(address.assume_checked().script_pubkey().into_bytes().into())
}

#[cfg(test)]
mod tests;
