//! Shares through the spool into a database: `cargo bench -p ledger --bench drain [-- replay|steady|push|growth]`.
//!
//! `growth` fills a day, 144 slots; `GROWTH_SLOTS` is for fewer, `GROWTH_ON` (SQLite, Postgres) for one database only.
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
use bitcoin::{Address, Network, ScriptBuf, WPubkeyHash, hashes::Hash as _};
use ledger::{
    Chain, Hand, Hash, Ledger, Scheme, Settings, ShareRecord, Spool, SpoolConfig, SpoolWriter, Standing,
    Terms, Worker,
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
        let is_on = std::env::var("GROWTH_ON").is_ok_and(|only| only != which);
        if is_wanted("growth") && !is_on {
            runtime.block_on(growth(which, Stage::of(place(which, "growth"), 100_000, 10_000)));
        }
    }
    if is_wanted("push") {
        runtime.block_on(push(Stage::new(None, 1_000)));
    }
}

impl Stage {
    fn new(place: Option<(&Server, String)>, workers: usize) -> Self {
        Self::of(place, workers, 1)
    }

    /// With workers of that many miners.
    fn of(place: Option<(&Server, String)>, workers: usize, miners: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = Spool::open(&dir.path().join("spool"), SpoolConfig::default()).expect("a spool");
        let mut writer = spool.writer(0).expect("a writer");
        let worker = |number: usize| {
            let user = format!("{}.rig{number}", address(number % miners));
            Worker::parse(&user, Network::Signet).expect("a worker")
        };
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
        // The drain has its turn every few seconds: a look every five would show where in its turn it is, and nothing else.
        if turn % 500 == 0 {
            waiting.push(0);
        }
        if turn % 25 == 24 {
            let drained = ledger.totals().await.map_or(0, |totals| totals.accepted_shares);
            let now = ((turn + 1) * RATE / 100).saturating_sub(drained);
            waiting.last_mut().into_iter().for_each(|most| *most = now.max(*most));
        }
    }
    let (wall, cpu) = (begun.elapsed(), self::cpu().saturating_sub(cpu));
    drop(stage.writer);
    let _ = stop.send(());
    task.await.expect("a drain");
    let rest = begun.elapsed().saturating_sub(wall);
    println!(
        "steady, {which}: {RATE} shares/s for {:.0} s of {} workers: the most waiting in each 5 s {waiting:?} shares, the rest in {:.1} \
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

/// Rows and bytes of a day of 100,000 workers, each with a share in each slot; and what is left once it is dropped. More
/// shares in a slot make no more rows.
async fn growth(which: &str, mut stage: Stage) {
    let slots: u64 = std::env::var("GROWTH_SLOTS").ok().and_then(|slots| slots.parse().ok()).unwrap_or(144);
    let interval = Duration::ZERO;
    let ledger = stage.ledger(Settings { interval, ..Settings::default() }).await;
    let mut hand = ledger.by_hand(Arc::new(Nowhere));
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    for slot in 0..=slots {
        stage.slot(slot, 1 << 40);
        longest = longest.max(drained(&mut hand).await);
    }
    let took = begun.elapsed();
    println!(
        "growth, {which}: {} workers of 10,000 miners, {slots} slots with a share of each and one that is open: {:.0} s, \
         longest batch {longest:.1?}",
        stage.workers.len(),
        took.as_secs_f64()
    );
    let archive = archive(&stage.dir);
    let shares = (slots + 1) * stage.workers.len() as u64;
    println!(
        "  archive: {archive} bytes for {shares} shares in {} segments",
        ledger.segment_count().await.expect("segments")
    );
    tables(which, &stage.url).await;
    drop((hand, ledger));

    // As after the days that it is kept, and with so much work behind it that no window reaches it. Shares go on meanwhile.
    let Stage { url, dir, spool, writer, workers } = stage;
    drop((spool, writer));
    let config = SpoolConfig { audit: Duration::from_millis(1), ..SpoolConfig::default() };
    let spool = Spool::open(&dir.path().join("spool"), config).expect("a spool");
    let mut writer = spool.writer(0).expect("a writer");
    workers.iter().for_each(|worker| writer.worker(worker));
    let mut stage = Stage { url, dir, spool, writer, workers };
    let settings = Settings { interval, worker_age: interval, slot_age: interval, ..Settings::default() };
    let ledger = stage.ledger(settings).await;
    let mut hand = ledger.by_hand(Arc::new(Nowhere));
    for number in 1..=145 {
        stage.slot_of(slots + number, 1 << 90, 1);
        drained(&mut hand).await;
    }
    let mut keeper = ledger.by_hand(Arc::new(Nowhere));
    let dropping = tokio::spawn(async move {
        let mut steps = Vec::new();
        loop {
            let begun = Instant::now();
            if !keeper.drop_old().await.expect("a step") {
                return steps;
            }
            steps.push(begun.elapsed());
        }
    });
    let mut batches = Vec::new();
    while !dropping.is_finished() {
        stage.slot_of(slots + 145, 1 << 40, 10_000);
        batches.push(drained(&mut hand).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let steps = dropping.await.expect("a keeper");
    let longest = |times: &[Duration]| times.iter().max().copied().unwrap_or_default();
    batches.sort_unstable();
    println!(
        "  dropped in {} steps, the longest {:.1?}; meanwhile {} batches of 10,000 shares, median {:.2?}, longest {:.2?}",
        steps.len(),
        longest(&steps),
        batches.len(),
        batches.get(batches.len() / 2),
        longest(&batches)
    );
    ledger.verify().await.expect("books that add up");
    tables(which, &stage.url).await;
}

/// Drains all that is committed. The longest that one batch took.
async fn drained(hand: &mut Hand) -> Duration {
    let mut longest = Duration::ZERO;
    loop {
        let begun = Instant::now();
        let records = hand.drain().await.expect("a batch");
        longest = longest.max(begun.elapsed());
        if records == 0 {
            return longest;
        }
    }
}

impl Stage {
    /// A share of each worker, ten minutes after the slot before.
    fn slot(&mut self, slot: u64, work: u128) {
        self.slot_of(slot, work, self.workers.len());
    }

    fn slot_of(&mut self, slot: u64, work: u128, workers: usize) {
        // Long ago: how old a slot is the clock has to agree with.
        let time_ms = 1_600_000_000_000 + slot * 600_000;
        for (number, worker) in (0u64..).zip(&self.workers[..workers]) {
            let hash_tag = (slot << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let (worker, height, bits) = (worker.id(), 1, 0x1702_4b5b);
            self.writer.share(&ShareRecord { time_ms, worker, work, height, bits, hash_tag });
            if number % 100 == 99 {
                self.writer.commit().expect("room");
            }
        }
        self.writer.commit().expect("room");
    }
}

fn address(number: usize) -> Address {
    let mut program = [0; 20];
    program[..8].copy_from_slice(&number.to_be_bytes());
    let script = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(program));
    Address::from_script(&script, Network::Signet).expect("an address")
}

/// Bytes of the archive of a spool.
fn archive(dir: &TempDir) -> u64 {
    let files = fs::read_dir(dir.path().join("spool/audit")).expect("an archive");
    files.map(|file| file.and_then(|file| file.metadata()).map_or(0, |file| file.len())).sum()
}

/// Says how many rows tables have, and how many bytes with their indexes.
async fn tables(which: &str, url: &str) {
    let mut raw = AnyConnection::connect(url).await.expect("the database");
    for table in ["slot_work", "slot_miner", "slot_open", "slot", "slot_end", "segment", "worker", "miner"] {
        let rows = number(&mut raw, &format!("SELECT COUNT(*) FROM {table}")).await;
        let bytes = match which {
            "SQLite" => String::new(),
            _ => {
                let size = format!(
                    "SELECT CAST(COALESCE((SELECT SUM(pg_total_relation_size(relid)) FROM pg_partition_tree('{table}')), \
                     pg_total_relation_size('{table}')) AS BIGINT)"
                );
                format!(", {} bytes", number(&mut raw, &size).await)
            }
        };
        println!("  {table}: {rows} rows{bytes}");
    }
    drop(raw);
    println!("  the database: {} bytes", size(which, url).await);
}

async fn number(raw: &mut AnyConnection, sql: &str) -> i64 {
    let row = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_one(raw).await.expect("an answer");
    row.try_get(0).expect("a number")
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
