//! What everybody asks for, read once for all: the pool whenever it shows itself, the ledger every two seconds, or every ten
//! while nobody asks.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ledger::{Block, BlockStatus, Hash, Ledger, LedgerError, PayoutFigures, Reserve, Totals, Work};
use pool::Snapshot;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    About, Nodes,
    events::Events,
    fault::Fault,
    history::History,
    routes::{blocks::BlockView, pool::PoolView},
};

const LEDGER_EVERY: Duration = Duration::from_secs(2);
/// While nobody asks, so many of these turns are one: the figures of the ledger are its dearest questions.
const UNASKED: u32 = 5;
/// The longest that a question to the ledger may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Blocks whose changes are told as events: all that can still become mature or orphaned, and some.
const FOLLOWED: u32 = 120;

/// Everything that the routes show.
pub(crate) struct Shown {
    pub ledger: Ledger,
    pub about: About,
    pub nodes: Nodes,
    pub events: Events,
    history: Mutex<History>,
    figures: watch::Sender<Figures>,
    /// Whether somebody has asked since the ledger was last read.
    asked: AtomicBool,
}

/// The pool and its books as they last were.
#[derive(Clone, Default)]
pub(crate) struct Figures {
    pub snapshot: Arc<Snapshot>,
    /// Nothing until the ledger answered for the first time.
    pub books: Option<Arc<Books>>,
}

/// What the ledger said, and when.
pub(crate) struct Books {
    pub totals: Totals,
    pub payouts: PayoutFigures,
    pub reserve: Reserve,
    /// The newest, at most [`FOLLOWED`].
    pub blocks: Vec<Block>,
    /// Work of all shares up to the newest block, where we saw that block come: the ledger does not say it.
    pub before_round: Option<Work>,
    pub read: Instant,
}

impl Shown {
    pub fn new(ledger: Ledger, about: About, nodes: Nodes, stopping: watch::Receiver<bool>) -> Arc<Self> {
        let (figures, _) = watch::channel(Figures::default());
        Arc::new(Self {
            ledger,
            about,
            nodes,
            events: Events::new(stopping),
            history: Mutex::default(),
            figures,
            asked: AtomicBool::new(true),
        })
    }

    /// The latest figures.
    pub fn figures(&self) -> Figures {
        self.asked.store(true, Ordering::Relaxed);
        self.figures.borrow().clone()
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new look at the pool, and tells the listeners.
    pub fn see(&self, snapshot: Arc<Snapshot>) {
        self.history().record(&snapshot);
        self.figures.send_modify(|figures| figures.snapshot = snapshot);
        self.events.tell("pool", || PoolView::new(&self.about, &self.figures()));
    }

    /// Reads the books, and tells the listeners which blocks are new or have another status than before.
    pub async fn read(&self) -> Result<(), Fault> {
        let before = self.figures.borrow().books.clone();
        let totals = answer(self.ledger.totals()).await?;
        let payouts = answer(self.ledger.payout_figures()).await?;
        let reserve = answer(self.ledger.reserve()).await?;
        let blocks = answer(self.ledger.blocks(FOLLOWED, 0)).await?;
        let before_round = match &before {
            _ if blocks.is_empty() => Some(0),
            None => None,
            Some(before) if newest(&before.blocks) == newest(&blocks) => before.before_round,
            Some(_) => Some(totals.work),
        };
        if let Some(before) = before {
            let known: HashMap<Hash, BlockStatus> =
                before.blocks.iter().map(|block| (block.hash, block.status)).collect();
            for block in blocks.iter().rev().filter(|block| known.get(&block.hash) != Some(&block.status)) {
                self.events.tell("block", || BlockView::from(block));
            }
        }
        let books = Arc::new(Books { before_round, totals, payouts, reserve, blocks, read: Instant::now() });
        self.figures.send_modify(|figures| figures.books = Some(books));
        Ok(())
    }
}

fn newest(blocks: &[Block]) -> Option<Hash> {
    blocks.first().map(|block| block.hash)
}

/// Keeps the figures fresh: the pool's until it stops, the ledger's for ever.
pub(crate) async fn keep(shown: &Shown, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let pool = async {
        while snapshots.changed().await.is_ok() {
            let snapshot = snapshots.borrow_and_update().clone();
            shown.see(snapshot);
        }
    };
    let ledger = async {
        let mut due = interval(LEDGER_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in 0u32.. {
            due.tick().await;
            if !shown.asked.swap(false, Ordering::Relaxed) && !turn.is_multiple_of(UNASKED) {
                continue;
            }
            // The reason is in the log, and the age of the books in /healthz.
            let _ = shown.read().await;
        }
    };
    tokio::join!(pool, ledger);
}

/// The ledger's answer, if it comes in time.
pub(crate) async fn answer<T>(question: impl Future<Output = Result<T, LedgerError>>) -> Result<T, Fault> {
    match timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            // The ledger itself says once when its database goes away.
            tracing::debug!(%error, "the ledger refused a question");
            Err(Fault::Ledger)
        }
        Err(_) => {
            tracing::debug!(after = ?PATIENCE, "the ledger did not answer in time");
            Err(Fault::Ledger)
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
