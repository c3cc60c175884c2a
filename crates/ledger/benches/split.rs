//! What a new job costs where its coinbase pays the miners of the window.
//!
//! `cargo bench -p ledger --bench split`: the window holds 100 million shares of 10,000 miners. The figure to hold is 50 ms;
//! it must not depend on how long the window is, so a window of a tenth stands beside it. How long the window took to be
//! read from the database, as after a restart, is printed once.

// What fails is the bench.
#![allow(clippy::unwrap_used)]

use std::{sync::OnceLock, time::Instant};

use bitcoin::{Address, Network, ScriptBuf, WPubkeyHash, hashes::Hash as _};
use divan::{Bencher, black_box};
use ledger::{Coinbases, Direct, Ledger, Scheme, Spool, SpoolConfig, Terms, Worker};
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use tempfile::TempDir;

const MINERS: u32 = 10_000;
/// Shares of a miner in a slot.
const SHARES: u32 = 50;
/// A network target whose work no number of slots here reaches: all of them are in the window.
const BITS: u32 = 0x1702_4b5b;

struct Pool {
    coinbases: Coinbases,
    _ledger: Ledger,
    _dir: TempDir,
}

fn main() {
    divan::main();
}

fn address(number: u32) -> Address {
    let mut program = [0; 20];
    program[..4].copy_from_slice(&number.to_be_bytes());
    Address::from_script(&ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(program)), Network::Signet)
        .unwrap()
}

/// A pool whose window is that many slots long.
fn pool(slots: u32) -> Pool {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let url = format!("sqlite://{}/ledger.db", dir.path().display());
        Ledger::migrate(&url).await.unwrap();
        let mut raw = AnyConnection::connect(&url).await.unwrap();
        let miners: Vec<String> =
            (1..=MINERS).map(|number| format!("({number}, '{}')", address(number))).collect();
        let (shares, slot_shares) = (SHARES, SHARES * MINERS);
        let fill = format!(
            "BEGIN; INSERT INTO miner (id, address) VALUES {};
             INSERT INTO terms (id, scheme, factor, fee_ppm) VALUES (1, 'tides', 8, 10000);
             WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {slots})
             INSERT INTO slot (id, opened_ms, closed_ms, shares, work, terms_id, bits)
             SELECT id, 0, 0, {slot_shares}, CAST({slot_shares} * 4295032833 AS TEXT), 1, {BITS} FROM n;
             INSERT INTO slot_miner (slot_id, miner_id, work)
             SELECT s.id, m.id, CAST({shares} * 4295032833 AS TEXT) FROM slot s, miner m; COMMIT",
            miners.join(", ")
        );
        sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut raw).await.unwrap();
        drop(raw);
        let spool = Spool::open(&dir.path().join("spool"), SpoolConfig::default()).unwrap();
        let address = address(0);
        let terms = Terms {
            scheme: Scheme::Tides,
            fee_ppm: 10_000,
            pool_script: address.script_pubkey().into_bytes(),
            pool_address: address.to_string(),
        };
        let ledger = Ledger::open(&url, spool, terms, Network::Signet).await.unwrap();
        let begun = Instant::now();
        let coinbases = ledger.coinbases(Some(Direct { min_sats: 1_000, most: 400 })).await.unwrap();
        let read = begun.elapsed();
        println!(
            "{} shares of {MINERS} miners in {slots} slots: read from the database in {read:?}",
            slots * slot_shares
        );
        Pool { coinbases, _ledger: ledger, _dir: dir }
    })
}

fn new_job(bencher: Bencher, pool: &Pool) {
    let finder = Worker::parse(&address(1).to_string(), Network::Signet).unwrap();
    let class = pool.coinbases.class(&finder, 16_000);
    let pays = pool.coinbases.pays(&class, &finder, 900_000, 312_500_000 + 10_000_000);
    assert!(pays.origin.unwrap().split.is_some() && pays.outputs.len() > 300, "{}", pays.outputs.len());
    bencher.bench_local(|| pool.coinbases.pays(black_box(&class), &finder, 900_000, 322_500_000));
}

/// 100 million shares.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn new_job_over_100_million_shares(bencher: Bencher) {
    static POOL: OnceLock<Pool> = OnceLock::new();
    new_job(bencher, POOL.get_or_init(|| pool(200)));
}

/// A tenth of them.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn new_job_over_10_million_shares(bencher: Bencher) {
    static POOL: OnceLock<Pool> = OnceLock::new();
    new_job(bencher, POOL.get_or_init(|| pool(20)));
}
