//! Shares from the spool into a database: how many a second, and what one costs this process in CPU time.
//!
//! `cargo bench -p ledger --bench drain [-- URL]`: SQLite in a temporary file, or the empty database at URL. Batches are
//! those of a pool that takes 2,000 shares a second from 200 workers (4,000 records), and those of a backlog (20,000).

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bitcoin::Network;
use ledger::{
    Chain, Hash, Ledger, Scheme, Settings, ShareRecord, Spool, SpoolConfig, Standing, Terms, Worker,
};

struct Nowhere;

#[async_trait]
impl Chain for Nowhere {
    async fn standing(&self, _: &Hash) -> Standing {
        Standing::Unknown
    }
}

const ADDRESS: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";

fn main() {
    let url = std::env::args().nth(1).filter(|argument| !argument.starts_with("--"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    for (batch, workers, shares) in
        [(4_000, 200, 400_000), (20_000, 200, 2_000_000), (20_000, 20_000, 400_000)]
    {
        runtime.block_on(drain(url.as_deref(), batch, workers, shares));
    }
}

async fn drain(url: Option<&str>, batch: usize, workers: u64, shares: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = Spool::open(&dir.path().join("spool"), SpoolConfig::default()).expect("a spool");
    let mut writer = spool.writer(0).expect("a writer");
    let workers: Vec<Worker> = (0..workers)
        .map(|number| Worker::parse(&format!("{ADDRESS}.rig{number}"), Network::Signet).expect("a worker"))
        .collect();
    workers.iter().for_each(|worker| writer.worker(worker));
    for number in 0..shares {
        let worker = workers[number as usize % workers.len()].id();
        let (time_ms, bits) = (1_800_000_000_000 + number / 2, 0x1702_4b5b);
        writer.share(&ShareRecord { time_ms, worker, work: 1 << 40, height: 1, bits, hash_tag: number });
        if number % 100 == 0 {
            writer.commit().expect("room");
        }
    }
    writer.commit().expect("room");
    drop(writer);

    let own = format!("sqlite://{}/ledger.db", dir.path().display());
    let terms = Terms {
        scheme: Scheme::Pplns { factor: 2 },
        fee_ppm: 0,
        pool_script: vec![0x51],
        pool_address: ADDRESS.to_owned(),
    };
    let settings = Settings { batch, interval: Duration::ZERO, ..Settings::default() };
    let ledger = Ledger::open_with(url.unwrap_or(&own), spool, terms, Network::Signet, settings).await;
    let ledger = ledger.expect("a ledger");
    let before = ledger.totals().await.expect("totals").accepted_shares;
    let (begun, cpu) = (Instant::now(), cpu());
    ledger.run(Arc::new(Nowhere), async {}).await;
    let (wall, cpu) = (begun.elapsed(), self::cpu().saturating_sub(cpu));
    assert_eq!(ledger.totals().await.expect("totals").accepted_shares - before, shares);
    println!(
        "{} workers, batches of {batch}: {:.0} shares/s, {:.2} us of CPU time per share",
        workers.len(),
        shares as f64 / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / shares as f64
    );
}

/// CPU time of this process, in hundredths of a second.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Duration::from_millis(ticks * 10)
}
