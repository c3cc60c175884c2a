//! Drained segments: each gets there once, wherever the drain stops, and a database that lacks them reads them again.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ledger::{Ack, Audit, Ledger, Point, Settings, SpoolConfig, Which, proof::check_chain};

use crate::{
    audit::{PPLNS, small, workers},
    rig::{NETWORK, Rig, Running, Shard, Tree, execute, hash, quick, terms, until},
};

/// F-52: a replica that lags takes the place of the database. What it lacks is drained again, and counts once.
pub async fn a_database_put_back_reads_the_archive(rig: Rig) {
    let chain = Tree::new();
    chain.grow(hash(0), hash(2), 1);
    chain.grow(hash(2), hash(1), 1);
    let workers = workers();
    let mut pushed = 0u64;
    let mut copy = None;
    for round in 0..3u8 {
        let spool = rig.spool_with(small());
        let running = rig.run(&spool, PPLNS, &chain).await;
        let mut shards = [Shard::new(&spool, 0), Shard::new(&spool, 5 + u16::from(round))];
        for number in 0..100usize {
            let shard = &mut shards[usize::from(round > 0) * (number % 2)];
            shard.share(&workers[number % 4], 3);
            pushed += 1;
            if number == 50 && round > 0 {
                shard.found(PPLNS, &workers[1], round, 1_000);
            }
            shard.commit();
        }
        until("all is drained", async || running.ledger.totals().await.unwrap().accepted_shares == pushed)
            .await;
        drop(shards);
        drop(running.stop().await);
        if round == 0 {
            copy = Some(copied(&rig).await);
        }
    }
    let replica = copy.unwrap();
    let spool = replica.spool_with(small());
    let ledger = replica.run(&spool, PPLNS, &chain).await.stop().await;
    let totals = ledger.totals().await.unwrap();
    assert_eq!((totals.accepted_shares, totals.work, totals.blocks), (pushed, 3 * u128::from(pushed), 2));
    assert_eq!(ledger.spooled_bytes(), 0);
    check_chain(&ledger.segments(500, 0).await.unwrap()).unwrap();
    ledger.verify().await.unwrap();
    drop(ledger);
    let report = Audit::open(&replica.url, &replica.spool_dir()).unwrap().verify(Which::Any).await.unwrap();
    assert_eq!(report.findings, [] as [&str; 0]);
}

/// The database as it is now, under another name, with the spool as it is going to be.
async fn copied(rig: &Rig) -> Rig {
    let mut copy = match &rig.server {
        None => Rig::sqlite(),
        Some(server) => Rig::copy_of(rig, server),
    };
    if !rig.is_postgres() {
        let mut raw = rig.raw().await;
        let to = copy.dir.path().join("ledger.db");
        execute(&mut raw, &format!("VACUUM INTO '{}'", to.display())).await.unwrap();
    }
    copy.spool = Some(rig.spool_dir());
    copy
}

/// Stops dead before and after every commit of a drain, whatever that commit has: records, the end of a segment, or
/// nothing but the end of a segment.
pub async fn every_point_of_the_drain_may_be_the_last(rig: Rig) {
    let workers = workers();
    let mut pushed = 0u64;
    let config = SpoolConfig { segment_bytes: 1_024, ack: Ack::Power, ..SpoolConfig::default() };
    let mut rounds = 0;
    for point in [Point::Applied, Point::Committed] {
        for nth in 1..=5 {
            rounds += 1;
            let spool = rig.spool_with(config.clone());
            let mut shard = Shard::new(&spool, 0);
            for number in 0..40usize {
                shard.share(&workers[number % 4], 2);
                pushed += 1;
                shard.commit();
            }
            drop(shard);
            let reached = Arc::new(AtomicU32::new(0));
            let count = reached.clone();
            let halt = move |at: Point| at == point && count.fetch_add(1, Ordering::SeqCst) + 1 >= nth;
            let settings = Settings { batch: 15, halt: Some(Arc::new(halt)), ..quick() };
            let ledger =
                Ledger::open_with(&rig.url, spool.clone(), terms(PPLNS), NETWORK, settings).await.unwrap();
            let running = Running::start(ledger, &Tree::new());
            until("the point is reached", async || reached.load(Ordering::SeqCst) >= nth).await;
            running.kill().await;
        }
    }
    let spool = rig.spool_with(config);
    let ledger = rig.run(&spool, PPLNS, &Tree::new()).await.stop().await;
    assert_eq!(ledger.totals().await.unwrap().accepted_shares, pushed, "{rounds} crashes");
    assert_eq!(ledger.spooled_bytes(), 0);
    let seals = ledger.segments(500, 0).await.unwrap();
    check_chain(&seals).unwrap();
    assert_eq!(seals.iter().map(|seal| seal.shares).sum::<u64>(), pushed, "each segment has one seal");
    for (number, seal) in seals.iter().enumerate() {
        let file = ledger.segment_file(seal.sequence).await.unwrap();
        let file = file.unwrap_or_else(|| panic!("segment {number} is not in the archive"));
        seal.check_file(&zstd::decode_all(fs::File::open(file).unwrap()).unwrap()).unwrap();
    }
    ledger.verify().await.unwrap();
    drop(ledger);
    let report = Audit::open(&rig.url, &rig.spool_dir()).unwrap().verify(Which::Any).await.unwrap();
    assert_eq!((report.findings.len(), report.shares >= pushed), (0, true), "{report:?}");
    assert!(
        Audit::open(&rig.url, &rig.dir.path().join("elsewhere"))
            .unwrap()
            .verify(Which::Any)
            .await
            .unwrap()
            .notes[0]
            .contains("there is no spool")
    );
}
