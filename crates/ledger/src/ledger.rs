//! The ledger as the rest of the pool sees it.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bitcoin::Network;
use share::Hash;
use sqlx::Row;
use tokio::sync::watch;

use crate::{LedgerError, Spool, Terms, books::Books, drain::Drain, maturity::Maturity, store::Store};

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
}

/// Times and sizes of the ledger's work.
#[derive(Clone)]
pub struct Settings {
    /// The most records in one transaction.
    pub batch: usize,
    /// How long records are collected for one transaction.
    pub interval: Duration,
    /// How long a slot stays open.
    pub slot: Duration,
    /// How often the chain is asked about candidates; about other blocks, a fifth as often.
    pub follow: Duration,
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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: 20_000,
            interval: Duration::from_secs(2),
            slot: Duration::from_secs(600),
            follow: Duration::from_secs(1),
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
    network: Network,
    settings: Settings,
    running: AtomicBool,
}

impl Ledger {
    /// Opens the database at `url` (`postgres://…` or `sqlite://path`), brings its tables up to this version, and makes
    /// sure that nobody else writes to it. Blocks found from now on are divided by `terms`.
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
        let (store, running) = (Arc::new(store), AtomicBool::new(false));
        Ok(Self(Arc::new(Shared { store, spool, terms, network, settings, running })))
    }

    /// Only brings the tables at `url` up to this version.
    pub async fn migrate(url: &str) -> Result<(), LedgerError> {
        Store::open(url).await.map(drop)
    }

    /// Drains the spool and follows found blocks on `chain` until `stop` comes to its end, then drains what is left.
    /// To be stopped after the last writer of the spool has committed. A database that goes away is waited for.
    pub async fn run(&self, chain: Arc<dyn Chain>, stop: impl Future<Output = ()>) {
        if self.0.running.swap(true, Ordering::AcqRel) {
            tracing::error!("this ledger is running already");
            return;
        }
        let Shared { store, spool, terms, network, settings, .. } = &*self.0;
        let mut drain = Drain::new(store.clone(), spool.clone(), terms.clone(), *network, settings.clone());
        let mut maturity = Maturity::new(store.clone(), chain, settings.clone());
        let (tell, told) = watch::channel(false);
        let stopped = async {
            stop.await;
            tell.send_replace(true);
        };
        tokio::join!(drain.run(told.clone()), maturity.run(told), stopped);
        self.0.running.store(false, Ordering::Release);
    }

    /// Bytes in the spool: what the database does not have yet, and segments still being written.
    pub fn spooled_bytes(&self) -> u64 {
        self.0.spool.bytes()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn shared_store(&self) -> Arc<Store> {
        self.0.store.clone()
    }
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
