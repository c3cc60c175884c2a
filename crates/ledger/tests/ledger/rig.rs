//! What every test needs: a database of either kind, a spool, workers, and a chain to follow.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bitcoin::{Address, Network, ScriptBuf, WPubkeyHash, hashes::Hash as _};
use ledger::{
    Balance, Block, BlockStatus, Chain, Found, Hash, Ledger, LedgerError, RejectRecord, Scheme, Settings,
    ShareRecord, Spool, SpoolConfig, SpoolError, SpoolWriter, Standing, Terms, Worker,
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::postgres::Server;

pub const NETWORK: Network = Network::Signet;
/// A network target whose work is 2, so that windows are small numbers.
pub const BITS: u32 = 0x207f_ffff;

/// A database and a place for a spool.
pub struct Rig {
    pub url: String,
    pub dir: TempDir,
    pub server: Option<Arc<Server>>,
    /// If it is not in `dir`.
    pub spool: Option<PathBuf>,
}

/// A ledger that is running.
pub struct Running {
    pub ledger: Ledger,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Rig {
    pub fn sqlite() -> Self {
        let dir = fleeting();
        Self { url: format!("sqlite://{}/ledger.db", dir.path().display()), dir, server: None, spool: None }
    }

    pub fn postgres() -> Self {
        Self::on(Server::shared())
    }

    pub fn on(server: Arc<Server>) -> Self {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let name = format!("ledger_{}", NAMES.fetch_add(1, Ordering::Relaxed));
        server.create(&name, "template1");
        Self { url: server.url(&name), dir: fleeting(), server: Some(server), spool: None }
    }

    /// The database of `rig`, which nobody may use at this time, as it is now.
    pub fn copy_of(rig: &Self, server: &Arc<Server>) -> Self {
        let original = rig
            .url
            .rsplit('/')
            .find_map(|part| part.split('?').next().filter(|name| name.starts_with("ledger_")));
        let original = original.unwrap();
        let name = format!("{original}_copy");
        server.create(&name, original);
        Self { url: server.url(&name), dir: fleeting(), server: Some(server.clone()), spool: None }
    }

    pub fn is_postgres(&self) -> bool {
        self.server.is_some()
    }

    pub fn spool(&self) -> Spool {
        self.spool_with(SpoolConfig::default())
    }

    pub fn spool_with(&self, config: SpoolConfig) -> Spool {
        // A task that was killed leaves a thread that reads the spool; a process would take it along.
        for _ in 0..500 {
            match Spool::open(&self.spool_dir(), config.clone()) {
                Err(SpoolError::Locked(_)) => std::thread::sleep(Duration::from_millis(10)),
                opened => return opened.unwrap(),
            }
        }
        panic!("the spool is still in use");
    }

    /// Where it is.
    pub fn spool_dir(&self) -> PathBuf {
        self.spool.clone().unwrap_or_else(|| self.dir.path().join("spool"))
    }

    pub async fn open(&self, spool: &Spool, scheme: Scheme) -> Ledger {
        self.open_with(spool, scheme, quick()).await.unwrap()
    }

    pub async fn open_with(
        &self,
        spool: &Spool,
        scheme: Scheme,
        settings: Settings,
    ) -> Result<Ledger, LedgerError> {
        Ledger::open_with(&self.url, spool.clone(), terms(scheme), NETWORK, settings).await
    }

    /// Opens and runs.
    pub async fn run(&self, spool: &Spool, scheme: Scheme, chain: &Arc<Tree>) -> Running {
        Running::start(self.open(spool, scheme).await, chain)
    }

    /// A connection past the ledger.
    pub async fn raw(&self) -> AnyConnection {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(|| if std::panic::catch_unwind(sqlx::any::install_default_drivers).is_err() {});
        let mut raw = AnyConnection::connect(&self.url).await.unwrap();
        if !self.is_postgres() {
            execute(&mut raw, "PRAGMA busy_timeout = 10000").await.unwrap();
        }
        raw
    }

    /// One number, asked past the ledger.
    pub async fn number(&self, sql: &str) -> i64 {
        let mut raw = self.raw().await;
        sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut raw).await.unwrap().try_get(0).unwrap()
    }
}

/// A directory in memory where there is one: SQLite syncs each transaction, and there are many.
fn fleeting() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub async fn execute(raw: &mut AnyConnection, sql: &str) -> Result<u64, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(raw).await.map(|done| done.rows_affected())
}

/// The newest block.
pub async fn newest(ledger: &Ledger) -> Option<Block> {
    ledger.blocks(1, 0).await.unwrap().pop()
}

/// Waits until the newest block stands so.
pub async fn until_block(ledger: &Ledger, status: BlockStatus, confirmations: Option<u32>) {
    let expect = Some((status, confirmations));
    until(&format!("the newest block is {expect:?}"), async || {
        newest(ledger).await.map(|block| (block.status, block.confirmations)) == expect
    })
    .await;
}

/// Immature, available, paid.
pub async fn balance(ledger: &Ledger, number: u32) -> (i64, i64, i64) {
    let Balance { immature, available, paid, .. } =
        ledger.miner(&miner(number)).await.unwrap().unwrap().balance;
    (immature, available, paid)
}

/// Everything as usual, only faster.
pub fn quick() -> Settings {
    Settings { interval: Duration::from_millis(20), follow: Duration::from_millis(20), ..Settings::default() }
}

impl Running {
    pub fn start(ledger: Ledger, chain: &Arc<Tree>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (running, chain) = (ledger.clone(), chain.clone());
        let task = tokio::spawn(async move {
            running.run(chain, async move { drop(stopped.await) }).await;
        });
        Self { ledger, stop, task }
    }

    /// Ends it as an operator does.
    pub async fn stop(self) -> Ledger {
        let _ = self.stop.send(());
        self.task.await.unwrap();
        self.ledger
    }

    /// Ends it wherever it is, as far as a process can do that to itself.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        drop(self.ledger);
    }
}

/// Waits until the answer is yes.
pub async fn until(what: &str, answer: impl AsyncFnMut() -> bool) {
    until_within(Duration::from_secs(60), what, answer).await;
}

/// Waits until the answer is yes, but not longer than `patience`.
pub async fn until_within(patience: Duration, what: &str, mut answer: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !answer().await {
        assert!(begun.elapsed() < patience, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn terms(scheme: Scheme) -> Terms {
    let pool = miner(0);
    Terms { scheme, fee_ppm: 10_000, pool_script: script(0).into_bytes(), pool_address: pool }
}

fn script(number: u32) -> ScriptBuf {
    let mut program = [0; 20];
    program[..4].copy_from_slice(&number.to_be_bytes());
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(program))
}

/// The address of miner `number`; 0 is the pool.
pub fn miner(number: u32) -> String {
    Address::from_script(&script(number), NETWORK).unwrap().to_string()
}

pub fn worker(number: u32, name: &str) -> Worker {
    Worker::parse(&format!("{}.{name}", miner(number)), NETWORK).unwrap()
}

/// Writes shares as a shard of the pool does.
pub struct Shard {
    pub writer: SpoolWriter,
    pub time_ms: u64,
    pub height: u32,
}

impl Shard {
    pub fn new(spool: &Spool, number: u16) -> Self {
        Self { writer: spool.writer(number).unwrap(), time_ms: 1_800_000_000_000, height: 100 }
    }

    pub fn share(&mut self, worker: &Worker, work: u128) {
        self.time_ms += 1;
        self.writer.worker(worker);
        self.writer.share(&ShareRecord {
            time_ms: self.time_ms,
            worker: worker.id(),
            work,
            height: self.height,
            bits: BITS,
            hash_tag: self.time_ms,
        });
    }

    pub fn rejects(&mut self, worker: &Worker, count: u64) {
        self.writer.worker(worker);
        self.writer.rejects(&RejectRecord { time_ms: self.time_ms, worker: worker.id(), count });
    }

    /// A block of value `sats` under `scheme`, found by `worker`; its hash is made of `number`.
    pub fn found(&mut self, scheme: Scheme, worker: &Worker, number: u8, sats: u64) -> Hash {
        let found = self.block(scheme, worker, number, sats);
        self.writer.worker(worker);
        self.writer.found(&found);
        found.hash
    }

    pub fn block(&self, scheme: Scheme, worker: &Worker, number: u8, sats: u64) -> Found {
        Found {
            time_ms: self.time_ms,
            worker: worker.id(),
            hash: hash(number),
            prev_hash: hash(number - 1),
            height: self.height,
            bits: BITS,
            coinbase_txid: [0xcb; 32],
            value_sats: sats,
            outputs: terms(scheme).outputs(worker, sats),
            origin: None,
        }
    }

    pub fn commit(&mut self) {
        self.writer.commit().unwrap();
    }
}

pub fn hash(number: u8) -> Hash {
    [number; 32]
}

/// A tree of blocks and its best tip: all that the ledger asks of a chain.
#[derive(Default)]
pub struct Tree(Mutex<(HashMap<Hash, Hash>, Hash)>);

impl Tree {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// `depth` blocks, of which the first is `hash` and builds on `parent`; the last becomes the tip.
    pub fn grow(&self, parent: Hash, hash: Hash, depth: u32) {
        let mut tree = self.0.lock().unwrap();
        tree.0.insert(hash, parent);
        tree.1 = hash;
        for number in 1..depth {
            let mut above = hash;
            above[28..].copy_from_slice(&number.to_be_bytes());
            let below = std::mem::replace(&mut tree.1, above);
            tree.0.insert(above, below);
        }
    }

    /// Makes `hash` unheard of.
    pub fn forget(&self, hash: Hash) {
        self.0.lock().unwrap().0.remove(&hash);
    }
}

#[async_trait]
impl Chain for Tree {
    async fn standing(&self, hash: &Hash) -> Standing {
        let tree = self.0.lock().unwrap();
        let (mut at, mut depth) = (tree.1, 1);
        while at != *hash {
            match tree.0.get(&at) {
                Some(below) => at = *below,
                None if tree.0.contains_key(hash) => return Standing::OffChain,
                None => return Standing::Unknown,
            }
            depth += 1;
        }
        if tree.0.contains_key(hash) { Standing::OnChain(depth) } else { Standing::Unknown }
    }
}
