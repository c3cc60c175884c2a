//! The ledger as the rest of the pool sees it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bitcoin::Network;
use futures_util::{StreamExt, stream::FuturesUnordered};
use share::Hash;
use sqlx::Row;
use tokio::sync::watch;

use crate::{
    Coinbases, Direct, Disk, Lag, LedgerError, Scheme, Spool, Terms,
    books::Books,
    coinbases,
    drain::{Drain, Gauge},
    fees,
    growth::Keeper,
    maturity::Maturity,
    operator, reserve,
    store::Store,
    terms,
};

/// Where a block stands, as the nodes of the pool see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the best chain, with this many confirmations; 1 at the tip.
    OnChain(u32),
    /// Known, but not in the best chain.
    OffChain,
    /// No node knows it, no node answers, or they do not agree. Nothing moves on this.
    Unknown,
}

/// The best chain. Implemented by whoever has nodes; never by a wallet, which sees only what it owns.
#[async_trait]
pub trait Chain: Send + Sync + 'static {
    /// Where the block with this hash (internal order) stands. Must come to an end by itself.
    async fn standing(&self, hash: &Hash) -> Standing;

    /// The fees of the block with this hash, or of the tip; `None` if no node says. Must come to an end by itself.
    async fn fees(&self, _hash: Option<&Hash>) -> Option<BlockFees> {
        None
    }
}

/// What the transactions of a block pay, whoever found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockFees {
    /// The block, internal order.
    pub hash: Hash,
    /// The block before it.
    pub prev_hash: Hash,
    /// Its height.
    pub height: u32,
    /// In all, satoshi.
    pub fees_sats: u64,
}

/// Times and sizes of the ledger's work.
#[derive(Clone)]
pub struct Settings {
    /// The most records in one transaction.
    pub batch: usize,
    /// How long records are collected for one transaction; a found block ends it at once.
    pub interval: Duration,
    /// How long a slot stays open.
    pub slot: Duration,
    /// How often the chain is asked about candidates; about other blocks, a fifth as often.
    pub follow: Duration,
    /// How many slots are in a new range, and dropped together: see `docs/LEDGER.md`, "Growth".
    pub span: i64,
    /// How long the work of closed slots is kept by worker.
    pub worker_age: Duration,
    /// How long it is kept by miner; not less than the spool's segments, nor than windows reach.
    pub slot_age: Duration,
    /// How often is looked for what is older, and after the disk.
    pub tidy: Duration,
    /// How long a candidate that no node has on chain is waited for, once the chain is six blocks past it.
    pub patience: Duration,
    /// For tests of crashes: whether to stop dead at this point.
    pub halt: Option<Halt>,
}

/// Says whether to stop dead at a point.
pub type Halt = Arc<dyn Fn(Point) -> bool + Send + Sync>;

/// Where a crash must not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A batch is written, its transaction not committed.
    Applied,
    /// A batch is committed, its segments not deleted.
    Committed,
    /// A block has moved in the journal, the transaction not committed.
    Moved,
    /// A block has moved, for good.
    Settled,
    /// Old slots are summed and dropped, the transaction not committed.
    Folded,
    /// Old slots are dropped, for good.
    Dropped,
}

impl Point {
    /// Those on the way of shares and of blocks: the others are of what tidies up behind them.
    pub const ALL: [Self; 4] = [Self::Applied, Self::Committed, Self::Moved, Self::Settled];
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: 100_000,
            interval: Duration::from_secs(4),
            slot: Duration::from_secs(600),
            follow: Duration::from_secs(2),
            span: 144,
            worker_age: Duration::from_secs(7 * 86_400),
            slot_age: Duration::from_secs(90 * 86_400),
            tidy: Duration::from_secs(600),
            patience: Duration::from_secs(3_600),
            halt: None,
        }
    }
}

impl Settings {
    /// Does nothing, or never returns.
    pub(crate) async fn reach(&self, point: Point) {
        if self.halt.as_ref().is_some_and(|halt| halt(point)) {
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("batch", &self.batch)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// An open ledger. Clones share it.
#[derive(Clone)]
pub struct Ledger(Arc<Shared>);

struct Shared {
    store: Arc<Store>,
    spool: Spool,
    terms: Terms,
    /// Number of the terms.
    terms_id: i64,
    network: Network,
    settings: Settings,
    shown: coinbases::Shown,
    gauge: Gauge,
    running: AtomicBool,
    /// Held by who looks for a share in the archive.
    proofs: tokio::sync::Mutex<()>,
}

impl Ledger {
    /// Opens the database at `url` (`postgres://…` or `sqlite://path`), brings its tables up to this version, and makes
    /// sure that nobody else writes to it. What is mined from now on is paid by `terms`; what was mined before keeps its own.
    pub async fn open(url: &str, spool: Spool, terms: Terms, network: Network) -> Result<Self, LedgerError> {
        Self::open_with(url, spool, terms, network, Settings::default()).await
    }

    /// [`Self::open`] with other times and sizes.
    pub async fn open_with(
        url: &str,
        spool: Spool,
        terms: Terms,
        network: Network,
        settings: Settings,
    ) -> Result<Self, LedgerError> {
        let store = Store::open(url).await?;
        claim(&store, network).await?;
        let mut snapshot = store.snapshot().await?;
        let watermarks = Books::watermarks(&mut snapshot, spool.id()).await?;
        drop(snapshot);
        if !spool.follows(&watermarks) {
            return Err(LedgerError::SpoolBehind(spool.dir().to_owned()));
        }
        let terms_id = enter_terms(&store, &terms, &spool).await?;
        let (store, running) = (Arc::new(store), AtomicBool::new(false));
        let (shown, gauge, proofs) = Default::default();
        Ok(Self(Arc::new(Shared {
            store,
            spool,
            terms,
            terms_id,
            network,
            settings,
            shown,
            gauge,
            running,
            proofs,
        })))
    }

    /// Brings the tables at `url` up to an older version only, for tests of what comes after.
    #[doc(hidden)]
    pub async fn migrate_to(url: &str, version: i64) -> Result<(), LedgerError> {
        Store::open_at(url, version).await.map(drop)
    }

    /// Only brings the tables at `url` up to this version.
    pub async fn migrate(url: &str) -> Result<(), LedgerError> {
        Store::open(url).await.map(drop)
    }

    /// Finds what is wrong with the tables at `url`, and changes nothing; a file that is not there yet is in order.
    pub async fn check(url: &str) -> Result<(), LedgerError> {
        Store::check(url).await
    }

    /// Drains the spool and follows found blocks on `chain` until `stop` comes to its end, then drains what is left.
    /// To be stopped after the last writer of the spool has committed. A database that goes away is waited for.
    pub async fn run(&self, chain: Arc<dyn Chain>, stop: impl Future<Output = ()> + Send) {
        if self.0.running.swap(true, Ordering::AcqRel) {
            tracing::error!("this ledger is running already");
            return;
        }
        let Shared { store, spool, terms, network, settings, shown, gauge, .. } = &*self.0;
        let mut drain = Drain::new(store.clone(), spool.clone(), terms.clone(), *network, settings.clone());
        (drain.shown, drain.gauge) = (shown.clone(), gauge.clone());
        let wants_fees = matches!(terms.scheme, Scheme::Fpps { .. });
        let followed = chain.clone();
        let mut maturity = Maturity::new(store.clone(), chain, settings.clone());
        maturity.shown = shown.clone();
        let (tell, told) = watch::channel(false);
        let stopped = async {
            stop.await;
            tell.send_replace(true);
        };
        let (buys, warned) = (terms.scheme.buys(), told.clone());
        let reserve = async {
            if buys {
                reserve::watch(self, warned).await;
            }
        };
        let fees = async {
            if wants_fees {
                fees::follow(store, followed, settings.follow, told.clone()).await;
            }
        };
        let keeper = self.keeper();
        let growth = keeper.run(told.clone());
        let orders = operator::follow(store.clone(), settings.follow, told.clone());
        // Each is woken by itself: joined, all of them would be looked at whenever one of them has something to do.
        let all: [Pin<Box<dyn Future<Output = ()> + Send + '_>>; _] = [
            Box::pin(drain.run(told.clone())),
            Box::pin(maturity.run(told.clone())),
            Box::pin(orders),
            Box::pin(fees),
            Box::pin(reserve),
            Box::pin(growth),
            Box::pin(stopped),
        ];
        let mut all = FuturesUnordered::from_iter(all);
        while all.next().await.is_some() {}
        self.0.running.store(false, Ordering::Release);
    }

    /// The same by hand, for who wants to look between the steps. Not while [`Self::run`] does them.
    #[doc(hidden)]
    pub fn by_hand(&self, chain: Arc<dyn Chain>) -> Hand {
        let Shared { store, spool, terms, network, settings, shown, gauge, .. } = &*self.0;
        let mut drain = Drain::new(store.clone(), spool.clone(), terms.clone(), *network, settings.clone());
        (drain.shown, drain.gauge) = (shown.clone(), gauge.clone());
        let mut maturity = Maturity::new(store.clone(), chain.clone(), settings.clone());
        maturity.shown = shown.clone();
        Hand { drain, maturity, keeper: self.keeper(), store: store.clone(), chain }
    }

    fn keeper(&self) -> Keeper {
        let Shared { store, spool, settings, .. } = &*self.0;
        Keeper { store: store.clone(), spool: spool.clone(), settings: settings.clone() }
    }

    /// What coinbases are to pay from now on. With `direct`, in schemes with a window, they pay its miners themselves; else
    /// the pool, which owes the miners (solo: the finder).
    pub async fn coinbases(&self, direct: Option<Direct>) -> Result<Coinbases, LedgerError> {
        let Shared { store, spool, terms, terms_id, network, shown, .. } = &*self.0;
        let direct = direct.filter(|_| terms.scheme.pays_by_window());
        if direct.is_some() {
            shown.begin(store, spool).await?;
        }
        Ok(Coinbases::new(terms.clone(), *terms_id, *network, direct, shown.clone(), spool.clone()))
    }

    /// The disk that the spool is on, as it was seen in the last [`Settings::tidy`]; `None` before the ledger has run.
    pub fn disk(&self) -> Option<Disk> {
        self.0.spool.disk()
    }

    /// How far the database is behind the spool.
    pub fn lag(&self) -> Lag {
        self.0.gauge.lag()
    }

    /// Bytes in the spool: what the database does not have yet, and segments still being written.
    pub fn spooled_bytes(&self) -> u64 {
        self.0.spool.bytes()
    }

    pub(crate) fn spool(&self) -> &Spool {
        &self.0.spool
    }

    pub(crate) fn proofs(&self) -> &tokio::sync::Mutex<()> {
        &self.0.proofs
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn shared_store(&self) -> Arc<Store> {
        self.0.store.clone()
    }

    pub(crate) fn shown(&self) -> &coinbases::Shown {
        &self.0.shown
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.0.terms
    }

    pub(crate) fn network(&self) -> Network {
        self.0.network
    }
}

/// The steps of [`Ledger::run`], one at a time.
#[doc(hidden)]
pub struct Hand {
    drain: Drain,
    maturity: Maturity,
    keeper: Keeper,
    store: Arc<Store>,
    chain: Arc<dyn Chain>,
}

#[doc(hidden)]
impl Hand {
    /// Drains one batch. How many records it had.
    pub async fn drain(&mut self) -> Result<usize, LedgerError> {
        self.drain.step().await.map(|drained| drained.records)
    }

    /// Takes one look at all watched blocks.
    pub async fn follow(&mut self) -> Result<(), LedgerError> {
        let (_stop, mut stopped) = watch::channel(false);
        self.maturity.round(true, &mut stopped).await
    }

    /// Drops the oldest of what is old. Whether there was something to drop, and nobody who read it.
    pub async fn drop_old(&mut self) -> Result<bool, LedgerError> {
        self.keeper.step().await
    }

    /// Takes one look at the fees of the chain.
    pub async fn fees(&mut self) -> Result<bool, LedgerError> {
        fees::step(&self.store, &*self.chain).await
    }
}

async fn enter_terms(store: &Store, terms: &Terms, spool: &Spool) -> Result<i64, LedgerError> {
    let mut writer = store.writer().await?;
    let mut transaction = writer.begin().await?;
    let id = terms::enter(&mut transaction, terms, spool.id(), spool.epoch()).await?;
    transaction.commit().await.map_err(LedgerError::database("enter the terms"))?;
    Ok(id)
}

/// Makes the database one of `network`, or finds that it is one of another.
async fn claim(store: &Store, network: Network) -> Result<(), LedgerError> {
    let failed = LedgerError::database("read which network this ledger is of");
    let mut writer = store.writer().await?;
    let mut transaction = writer.begin().await?;
    sqlx::query("INSERT INTO meta (key, value) VALUES ('network', $1) ON CONFLICT (key) DO NOTHING")
        .bind(network.to_string())
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
    let row = sqlx::query("SELECT value FROM meta WHERE key = 'network'").fetch_one(&mut *transaction).await;
    let found: String = row.and_then(|row| row.try_get("value")).map_err(&failed)?;
    transaction.commit().await.map_err(&failed)?;
    if found == network.to_string() {
        Ok(())
    } else {
        Err(LedgerError::Network { url: store.url(), found, expected: network.to_string() })
    }
}
