//! From the spool into the database: batch by batch, each with the watermark in one transaction, so that every record
//! is applied exactly once, also after `kill -9`.
//!
//! A database that is away is waited for; meanwhile the spool grows, and nobody else waits. A record that the database
//! refuses is found by halving the batch, and set aside.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::Network;
use sqlx::AnyConnection;
use tokio::sync::watch;

use crate::{
    LedgerError, Spool, Terms,
    books::Books,
    clock,
    coinbases::Shown,
    found,
    ledger::{Point, Settings},
    record::Entry,
    spool::{Finished, Item, Position, Read, Reader},
    store::{Store, Writer, slow},
};

mod lag;

pub(crate) use lag::Gauge;
pub use lag::Lag;

/// The drain of one spool.
pub(crate) struct Drain {
    pub store: Arc<Store>,
    pub spool: Spool,
    pub terms: Terms,
    pub network: Network,
    pub settings: Settings,
    /// Where jobs look for what a coinbase is to pay.
    pub shown: Shown,
    /// How far behind it is.
    pub gauge: Gauge,
    state: Option<State>,
    /// Records in the next batch: few after a refusal, then more again.
    batch: usize,
}

/// What is known of the database while the connection lasts.
struct State {
    generation: u64,
    books: Books,
    reader: Reader,
    /// Room for the next batch.
    room: Vec<Read>,
}

/// What one batch was.
pub(crate) struct Drained {
    /// How many records it had.
    pub records: usize,
    /// It had as many as it might: there are more.
    is_full: bool,
}

/// How long one transaction may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a stopping process tries to get the rest into the database. What is left stays in the spool.
const PARTING: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// So many records' room is kept from batch to batch: some hundred bytes each.
const ROOM: usize = 16_384;
/// How often is said again that nothing can be drained.
const SAID_AGAIN: Duration = Duration::from_secs(600);

impl Drain {
    pub fn new(store: Arc<Store>, spool: Spool, terms: Terms, network: Network, settings: Settings) -> Self {
        let batch = settings.batch;
        let (shown, gauge) = Default::default();
        Self { store, spool, terms, network, settings, shown, gauge, state: None, batch }
    }

    /// Drains until `stop` is true, then once more what is left.
    pub async fn run(&mut self, mut stop: watch::Receiver<bool>) {
        let mut wait = Duration::ZERO;
        let mut said: Option<Instant> = None;
        let mut stopped: Option<Instant> = None;
        loop {
            if stopped.is_none() && *stop.borrow() {
                stopped = Some(Instant::now());
            }
            let begun = Instant::now();
            match self.step().await {
                Ok(Drained { records, is_full }) => {
                    if said.take().is_some() {
                        tracing::info!("the database is back: the spool is being drained");
                    }
                    wait = Duration::ZERO;
                    let rest = self.settings.interval.saturating_sub(begun.elapsed());
                    match (records, stopped.is_some()) {
                        (0, true) => return,
                        (0, false) => tokio::select! {
                            () = async {
                                self.spool.committed().await;
                                self.collect(rest).await;
                            } => {}
                            // What a writer left when it was dropped is no commit of ours to hear of.
                            () = tokio::time::sleep(2 * self.settings.interval) => {}
                            _ = stop.changed() => {}
                        },
                        (_, false) if !is_full => tokio::select! {
                            () = self.collect(rest) => {}
                            _ = stop.changed() => {}
                        },
                        _ => {}
                    }
                }
                Err(error) => {
                    self.state = None;
                    if error.is_refusal() {
                        continue; // with a smaller batch
                    }
                    if stopped.is_some_and(|stopped| stopped.elapsed() > PARTING) {
                        let bytes = self.spool.bytes();
                        tracing::error!(%error, bytes, "stopped with shares in the spool; they are drained by the next start");
                        return;
                    }
                    if said.is_none_or(|said| said.elapsed() > SAID_AGAIN) {
                        let spooled = self.spool.bytes();
                        tracing::error!(%error, spooled, "shares cannot be drained to the database; they wait in the spool");
                        said = Some(Instant::now());
                    }
                    wait = (wait * 2).clamp(Duration::from_millis(100), LONGEST_WAIT);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        _ = stop.changed(), if stopped.is_none() => {}
                    }
                }
            }
        }
    }

    /// Waits while records come together, for `rest` at most: nobody waits for a share, but everybody for a block.
    async fn collect(&self, rest: Duration) {
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = self.spool.block_committed() => {}
        }
    }

    /// Applies one batch.
    pub async fn step(&mut self) -> Result<Drained, LedgerError> {
        self.gauge.tries();
        let limit = self.batch;
        let state = match self.state.take() {
            Some(state) => state,
            None => self.load(self.store.writer().await?).await?.0,
        };
        let (mut state, mut batch, mut finished) = read(state, limit).await?;
        self.gauge.has_read(&batch);
        if batch.is_empty() && finished.is_empty() {
            self.gauge.succeeds();
            self.shown.is_caught_up();
            self.state = Some(state);
            return Ok(Drained { records: 0, is_full: false });
        }

        let mut writer = self.store.writer().await?;
        if writer.generation() != state.generation {
            // Somebody else may have written: all again, and this time nobody comes in between, however often others lose
            // the connection.
            (state, writer) = self.load(writer).await?;
            (state, batch, finished) = read(state, limit).await?;
            self.gauge.has_read(&batch);
        }
        let applied = {
            let transaction = async {
                let mut transaction = writer.begin().await?;
                self.apply(&mut transaction, &mut state.books, &batch, &finished).await?;
                let split = self.shown.next_split(&mut transaction, &mut state.books).await?;
                self.settings.reach(Point::Applied).await;
                transaction.commit().await.map_err(LedgerError::database("commit a batch"))?;
                Ok(split)
            };
            tokio::time::timeout(LIMIT, transaction)
                .await
                .unwrap_or_else(|_| Err(slow("apply a batch", LIMIT)))
        };
        match applied {
            Ok(split) => {
                self.gauge.succeeds();
                self.gauge.has_written(&batch, batch.len() == limit);
                self.shown.show_split(split);
                self.shown.has_drained(founds(&batch, self.spool.epoch()));
                if batch.len() < limit {
                    self.shown.is_caught_up();
                }
                self.settings.reach(Point::Committed).await;
                drop(writer);
                if batch.is_empty() {
                    state = released(state).await?; // there may be no further step
                }
                self.batch = (self.batch * 2).min(self.settings.batch);
                let drained = Drained { records: batch.len(), is_full: batch.len() == limit };
                batch.clear();
                batch.shrink_to(ROOM);
                self.state = Some(State { room: batch, ..state });
                Ok(drained)
            }
            Err(error) if error.is_refusal() => {
                tracing::error!(%error, records = batch.len(), "the database refuses a batch; looking for the record");
                if let [read] = &batch[..] {
                    let set_aside = async {
                        let mut transaction = writer.begin().await?;
                        let mut books = Books::load(
                            &mut transaction,
                            self.store.dialect(),
                            self.network,
                            self.spool.id(),
                        )
                        .await?;
                        books.set_aside(read, "refused by the database");
                        books.flush(&mut transaction, &watermarks(&batch, &[]), clock::now_ms()).await?;
                        transaction.commit().await.map_err(LedgerError::database("commit a batch"))
                    };
                    set_aside.await?;
                    self.shown.has_drained(founds(&batch, self.spool.epoch()));
                }
                self.batch = (batch.len() / 2).max(1);
                Err(error)
            }
            Err(error) => {
                writer.abandon();
                Err(error)
            }
        }
    }

    /// What the database has; `writer` is given up if that cannot be read.
    async fn load<'a>(&self, mut writer: Writer<'a>) -> Result<(State, Writer<'a>), LedgerError> {
        let generation = writer.generation();
        let loaded = {
            let load = async {
                let mut transaction = writer.begin().await?;
                let books =
                    Books::load(&mut transaction, self.store.dialect(), self.network, self.spool.id())
                        .await?;
                let start = Books::watermarks(&mut transaction, self.spool.id()).await?;
                Ok((books, start))
            };
            tokio::time::timeout(LIMIT, load).await.unwrap_or_else(|_| Err(slow("load the totals", LIMIT)))
        };
        let (books, start) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                writer.abandon();
                return Err(error);
            }
        };
        let spool = self.spool.clone();
        let reader = tokio::task::spawn_blocking(move || {
            let restored = spool.restore(&start)?;
            if restored > 0 {
                tracing::warn!(
                    segments = restored,
                    "the database has been put back to an older state: what it lacks is drained again from the archive"
                );
            }
            Ok::<_, LedgerError>(Reader::new(&spool, start))
        });
        let reader = reader.await.map_err(lost)??;
        Ok((State { generation, books, reader, room: Vec::new() }, writer))
    }

    async fn apply(
        &self,
        connection: &mut AnyConnection,
        books: &mut Books,
        batch: &[Read],
        finished: &[Finished],
    ) -> Result<(), LedgerError> {
        books.meet(connection, batch).await?;
        for read in batch {
            match &read.item {
                Item::Entry(Entry::Share(share)) => {
                    books.share(connection, read, share, &self.settings).await?;
                }
                Item::Entry(Entry::Rejects(rejects)) => books.rejects(read, rejects),
                Item::Entry(Entry::Found(found)) => {
                    found::enter(connection, books, read, found, &self.terms).await?;
                }
                Item::Entry(Entry::Worker(_) | Entry::Segment(_)) => {}
                Item::Refused { reason, .. } => books.set_aside(read, reason),
                Item::Unreadable { .. } => books.set_aside(read, "unreadable"),
                Item::Torn => tracing::info!(
                    writer = read.writer,
                    segment = read.from.segment,
                    bytes = read.length,
                    "the end of a segment was torn by the end of its process; nothing of it had been acknowledged"
                ),
            }
            books.passed(read);
        }
        books.seal(connection, finished).await?;
        books.flush(connection, &watermarks(batch, finished), clock::now_ms()).await
    }
}

/// How many blocks of this opening of the spool are in `batch`.
fn founds(batch: &[Read], epoch: u64) -> u64 {
    let is_found =
        |read: &&Read| read.from.segment >> 32 == epoch && matches!(read.item, Item::Entry(Entry::Found(_)));
    batch.iter().filter(is_found).count() as u64
}

/// The next records, at most `limit`, and the segments that they are the last of.
async fn read(mut state: State, limit: usize) -> Result<(State, Vec<Read>, Vec<Finished>), LedgerError> {
    let read = tokio::task::spawn_blocking(move || {
        state.reader.release();
        let mut batch = std::mem::take(&mut state.room);
        let read = state.reader.read_into(&mut batch, limit);
        let read = read.and_then(|()| Ok((batch, state.reader.finished()?)));
        (state, read)
    });
    let (state, read) = read.await.map_err(lost)?;
    let (batch, finished) = read?;
    Ok((state, batch, finished))
}

/// Puts away the segments that the database has.
async fn released(mut state: State) -> Result<State, LedgerError> {
    let released = tokio::task::spawn_blocking(move || {
        state.reader.release();
        state
    });
    released.await.map_err(lost)
}

/// A thread that reads the spool has panicked.
fn lost(error: tokio::task::JoinError) -> LedgerError {
    LedgerError::Unsound(format!("reading the spool failed: {error}"))
}

/// How far `batch` reaches, by writer; behind a finished segment the next one begins.
fn watermarks(batch: &[Read], finished: &[Finished]) -> HashMap<u16, Position> {
    let mut watermarks: HashMap<u16, Position> = batch.iter().map(|read| (read.writer, read.end())).collect();
    for Finished { name, .. } in finished {
        let next = Position { segment: name.segment + 1, offset: 0 };
        let at = watermarks.entry(name.writer).or_insert(next);
        *at = next.max(*at);
    }
    watermarks
}
