//! Shares through the spool into a database: `cargo bench -p ledger --bench drain [-- replay|steady|push|growth]`.
//!
//! On SQLite in a temporary file, and on a Postgres that is started for it (with its usual fsync). Plain figures: the
//! product of a disk, a database and a machine is no ratio.

#[path = "../tests/ledger/postgres.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod postgres;

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bitcoin::Network;
use ledger::{
    Chain, Hash, Ledger, Scheme, Settings, ShareRecord, Spool, SpoolConfig, SpoolWriter, Standing, Terms,
    Worker,
};
use postgres::Server;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};
use tempfile::TempDir;
use tokio::sync::oneshot;

struct Nowhere;

#[async_trait]
impl Chain for Nowhere {
    async fn standing(&self, _: &Hash) -> Standing {
        Standing::Unknown
    }
}

const ADDRESS: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";

/// A database, and a spool with workers that are known to its writer.
struct Stage {
    url: String,
    dir: TempDir,
    spool: Spool,
    writer: SpoolWriter,
    workers: Vec<Worker>,
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let server = Server::start_with(&[]);
    let place = |which: &str, name: &str| (which == "Postgres").then(|| (&server, name.to_owned()));
    for which in ["SQLite", "Postgres"] {
        if is_wanted("replay") {
            for (workers, shares, batch) in
                [(200, 400_000, 4_000), (10_000, 10_000_000, Settings::default().batch)]
            {
                let stage = Stage::new(place(which, &format!("replay{workers}")), workers);
                runtime.block_on(replay(which, stage, shares, batch));
            }
        }
        if is_wanted("steady") {
            runtime.block_on(steady(which, Stage::new(place(which, "steady"), 10_000)));
        }
        if is_wanted("growth") {
            runtime.block_on(growth(which, Stage::new(place(which, "growth"), 100_000)));
        }
    }
    if is_wanted("push") {
        runtime.block_on(push(Stage::new(None, 1_000)));
    }
}

impl Stage {
    fn new(place: Option<(&Server, String)>, workers: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = Spool::open(&dir.path().join("spool"), SpoolConfig::default()).expect("a spool");
        let mut writer = spool.writer(0).expect("a writer");
        let worker =
            |number| Worker::parse(&format!("{ADDRESS}.rig{number}"), Network::Signet).expect("a worker");
        let workers: Vec<Worker> = (0..workers).map(worker).collect();
        workers.iter().for_each(|worker| writer.worker(worker));
        let url = match place {
            None => format!("sqlite://{}/ledger.db", dir.path().display()),
            Some((server, name)) => {
                server.create(&name, "template1");
                server.url(&name)
            }
        };
        Self { url, dir, spool, writer, workers }
    }

    fn share(&mut self, number: u64) {
        let worker = self.workers[number as usize % self.workers.len()].id();
        let time_ms = 1_800_000_000_000 + number / 50;
        let hash_tag = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.writer.share(&ShareRecord {
            time_ms,
            worker,
            work: 1 << 40,
            height: 1,
            bits: 0x1702_4b5b,
            hash_tag,
        });
    }

    fn fill(&mut self, shares: u64) {
        for number in 0..shares {
            self.share(number);
            if number % 100 == 99 {
                self.writer.commit().expect("room");
            }
        }
        self.writer.commit().expect("room");
    }

    async fn ledger(&self, settings: Settings) -> Ledger {
        let terms = Terms {
            scheme: Scheme::Pplns { factor: 2 },
            fee_ppm: 0,
            pool_script: vec![0x51],
            pool_address: ADDRESS.to_owned(),
        };
        let opened = Ledger::open_with(&self.url, self.spool.clone(), terms, Network::Signet, settings).await;
        opened.expect("a ledger")
    }
}

/// A backlog is drained.
async fn replay(which: &str, mut stage: Stage, shares: u64, batch: usize) {
    stage.fill(shares);
    let settings = Settings { batch, interval: Duration::ZERO, ..Settings::default() };
    let ledger = stage.ledger(settings).await;
    let (begun, cpu) = (Instant::now(), cpu());
    drop(stage.writer);
    ledger.run(Arc::new(Nowhere), async {}).await;
    let (wall, cpu) = (begun.elapsed(), self::cpu().saturating_sub(cpu));
    assert_eq!(ledger.totals().await.expect("totals").accepted_shares, shares);
    println!(
        "replay, {which}: {shares} shares of {} workers in batches of {batch}: {:.1} s, {:.0} shares/s, {:.2} us of CPU \
         time of this process per share, {} left in the spool",
        stage.workers.len(),
        wall.as_secs_f64(),
        shares as f64 / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / shares as f64,
        stage.spool.bytes()
    );
}

/// 50,000 shares a second for half a minute: what waits in the spool must not grow.
async fn steady(which: &str, mut stage: Stage) {
    const RATE: u64 = 50_000;
    const SECONDS: u64 = 30;
    let ledger = stage.ledger(Settings::default()).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let running = ledger.clone();
    let task =
        tokio::spawn(async move { running.run(Arc::new(Nowhere), async { drop(stopped.await) }).await });
    let (begun, cpu) = (Instant::now(), cpu());
    let mut waiting = Vec::new();
    for turn in 0..SECONDS * 100 {
        (0..RATE / 100).for_each(|number| stage.share(turn * RATE / 100 + number));
        stage.writer.commit().expect("room");
        let due = begun + Duration::from_millis((turn + 1) * 10);
        tokio::time::sleep_until(due.into()).await;
        if turn % 500 == 499 {
            let drained = ledger.totals().await.map_or(0, |totals| totals.accepted_shares);
            waiting.push(((turn + 1) * RATE / 100).saturating_sub(drained));
        }
    }
    let (wall, cpu) = (begun.elapsed(), self::cpu().saturating_sub(cpu));
    drop(stage.writer);
    let _ = stop.send(());
    task.await.expect("a drain");
    let rest = begun.elapsed().saturating_sub(wall);
    println!(
        "steady, {which}: {RATE} shares/s for {:.0} s of {} workers: waiting every 5 s {waiting:?} shares, the rest in {:.1} \
         s, {:.2} us of CPU time of this process per share",
        wall.as_secs_f64(),
        stage.workers.len(),
        rest.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / (RATE * SECONDS) as f64
    );
}

/// What a share waits for the spool, one commit each, while the database is away.
async fn push(mut stage: Stage) {
    let server = Server::start_with(&[]);
    server.create("push", "template1");
    stage.url = server.url("push");
    let ledger = stage.ledger(Settings::default()).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let running = ledger.clone();
    let task =
        tokio::spawn(async move { running.run(Arc::new(Nowhere), async { drop(stopped.await) }).await });
    server.down();
    let mut times = Vec::new();
    let begun = Instant::now();
    for number in 0..100_000u64 {
        let due = begun + Duration::from_micros(number * 100);
        while Instant::now() < due {
            std::thread::yield_now();
        }
        let pushed = Instant::now();
        stage.share(number);
        stage.writer.commit().expect("room");
        times.push(pushed.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 10_000 - usize::from(part == 10_000)];
    println!(
        "push while Postgres is down, 10,000/s: median {:?}, p99 {:?}, p99.9 {:?}, slowest {:?}",
        at(5_000),
        at(9_900),
        at(9_990),
        at(10_000)
    );
    let _ = stop.send(());
    task.await.expect("a drain");
}

/// Rows and bytes of one slot of 100,000 workers; a day has 144.
async fn growth(which: &str, mut stage: Stage) {
    let ledger = stage.ledger(Settings { interval: Duration::ZERO, ..Settings::default() }).await;
    let url = stage.url.clone();
    let before = size(which, &url).await;
    stage.fill(1_000_000);
    let spooled = stage.spool.bytes();
    drop(stage.writer);
    ledger.run(Arc::new(Nowhere), async {}).await;
    let mut raw = AnyConnection::connect(&url).await.expect("the database");
    let rows: i64 = sqlx::query("SELECT COUNT(*) FROM slot_work")
        .fetch_one(&mut raw)
        .await
        .and_then(|row| row.try_get(0))
        .expect("rows");
    let archive: u64 = fs::read_dir(stage.dir.path().join("spool/audit"))
        .expect("an archive")
        .map(|file| file.and_then(|file| file.metadata()).map_or(0, |file| file.len()))
        .sum();
    drop(raw);
    println!(
        "growth, {which}: {} workers, one slot: {rows} rows of slot_work, {} bytes of database with the workers themselves; \
         1,000,000 shares were {spooled} bytes of spool and are {archive} bytes of archive",
        stage.workers.len(),
        size(which, &url).await - before
    );
}

/// Bytes of the database.
async fn size(which: &str, url: &str) -> i64 {
    let mut raw = AnyConnection::connect(url).await.expect("the database");
    let sql = match which {
        "SQLite" => "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        _ => "SELECT pg_database_size(current_database())",
    };
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut raw).await.expect("a size");
    row.try_get(0).expect("a number")
}

/// CPU time of this process, in hundredths of a second.
fn cpu() -> Duration {
    let stat = fs::read_to_string(Path::new("/proc/self/stat")).expect("Linux");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Duration::from_millis(ticks * 10)
}
