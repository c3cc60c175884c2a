//! A pool to look at: a real ledger on SQLite, fed through a real spool.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode},
    response::Response,
};
use bitcoin::Network;
use ledger::{
    BlockStatus, Chain, Found, Hash, Ledger, RejectRecord, Scheme, ShareRecord, Spool, SpoolConfig,
    SpoolWriter, Standing, Terms, Worker,
};
use pool::{Closed, Limited, Snapshot, WorkerState};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::{
    About,
    figures::{Shown, now_ms},
    routes::router,
};

pub(super) const ALICE: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
pub(super) const BOB: &str = "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn";
/// Of the four shares.
pub(super) const WORK: u128 = 1000 + 1001 + 1002 + 1003;
pub(super) const REWARD_MSAT: i64 = 312_500_007_000;
/// What the snapshot says of the network.
pub(super) const DIFFICULTY: f64 = 0.25;
/// A block takes 65537 hashes: the window holds all work here.
const BITS: u32 = 0x1f00_ffff;

pub(super) struct House {
    pub shown: Arc<Shown>,
    writer: SpoolWriter,
    depth: Arc<AtomicU32>,
    _stopping: watch::Sender<bool>,
    _dir: TempDir,
}

/// A chain on which every block is as deep as we say.
struct Depth(Arc<AtomicU32>);

#[async_trait]
impl Chain for Depth {
    async fn standing(&self, _: &Hash) -> Standing {
        Standing::OnChain(self.0.load(Ordering::Relaxed))
    }
}

pub(crate) async fn ledger(dir: &Path) -> (Ledger, SpoolWriter) {
    ledger_under(dir, Scheme::Pplns { factor: 2 }).await
}

async fn ledger_under(dir: &Path, scheme: Scheme) -> (Ledger, SpoolWriter) {
    let spool = Spool::open(
        &dir.join("spool"),
        SpoolConfig { segment_age: Duration::from_millis(1), ..Default::default() },
    )
    .unwrap();
    let writer = spool.writer(0).unwrap();
    let terms = Terms {
        scheme,
        fee_ppm: 15_000,
        pool_script: worker(BOB).script().to_vec(),
        pool_address: BOB.into(),
    };
    let url = format!("sqlite://{}", dir.join("ledger.db").display());
    (Ledger::open(&url, spool, terms, Network::Signet).await.unwrap(), writer)
}

/// One node, which is well.
pub fn nodes() -> crate::Nodes {
    Arc::new(|| vec![crate::NodeState { is_well: true, leads: true, ..Default::default() }])
}

pub(crate) fn about() -> About {
    About {
        network: "signet".into(),
        scheme: "pplns".into(),
        fee_ppm: 15_000,
        payout_threshold_sats: Some(100_000),
        tag: "/sluice/".into(),
        stratum_urls: vec!["stratum+tcp://127.0.0.1:3333".into()],
        version: "0.0.0",
    }
}

fn worker(user: &str) -> Worker {
    Worker::parse(user, Network::Signet).unwrap()
}

impl House {
    /// With nothing in it.
    pub async fn new() -> Self {
        Self::under(Scheme::Pplns { factor: 2 }).await
    }

    /// The same, where work is paid by another scheme.
    pub async fn under(scheme: Scheme) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, writer) = ledger_under(dir.path(), scheme).await;
        let depth = Arc::new(AtomicU32::new(1));
        let (stop, stopping) = watch::channel(false);
        let (running, chain) = (ledger.clone(), Arc::new(Depth(depth.clone())));
        let mut told = stopping.clone();
        tokio::spawn(async move {
            running.run(chain, async move { drop(told.wait_for(|&stop| stop).await) }).await;
        });
        let shown = Shown::new(ledger, about(), nodes(), stopping);
        Self { shown, writer, depth, _stopping: stop, _dir: dir }
    }

    /// With four shares of two miners and an immature block, all of it seen.
    pub async fn with_a_block() -> Self {
        let mut house = Self::new().await;
        house.mine().await;
        house.find().await;
        house.see_alice();
        house.shown.read().await.unwrap();
        house
    }

    /// Alice is there with a machine that calls itself something.
    pub fn see_alice(&self) {
        let now = now_ms();
        let state = WorkerState {
            address: ALICE.into(),
            name: "rig".into(),
            agent: "<script>alert(1)</script>".into(),
            protocol: "V1",
            connections: 2,
            hashrate: 1234.5,
            difficulty: 0.5,
            last_share_ms: Some(now),
            best: 17.0,
        };
        let gone = WorkerState {
            address: BOB.into(),
            name: "".into(),
            connections: 0,
            hashrate: 0.0,
            ..state.clone()
        };
        let rejects = share::Reason::ALL.map(|reason| (reason, 7)).to_vec();
        let snapshot = Snapshot {
            closed: vec![(Closed::BadSubmits, 3)],
            limited: vec![(Limited::SubmitsPerSecond, 5)],
            time_ms: now,
            hashrate: 1234.5,
            connections: 3,
            workers: [state, gone].into(),
            tip: Some(pool::roster::Tip { height: 8, network_difficulty: DIFFICULTY, template_time_ms: now }),
            rejects,
            storing: true,
        };
        self.shown.see(Arc::new(snapshot));
    }

    /// Four shares and two refused submissions come in.
    pub async fn mine(&mut self) {
        let (rig, old, bob) = (worker(&format!("{ALICE}.rig")), worker(&format!("{ALICE}.old")), worker(BOB));
        let (time_ms, before) = (now_ms(), self.shown.ledger.totals().await.unwrap().accepted_shares);
        for (i, worker) in [&rig, &old, &bob, &rig].into_iter().enumerate() {
            self.writer.worker(worker);
            let (worker, work, hash_tag) = (worker.id(), 1000 + i as u128, i as u64);
            self.writer.share(&ShareRecord { time_ms, worker, work, height: 7, bits: BITS, hash_tag });
        }
        self.writer.rejects(&RejectRecord { time_ms, worker: rig.id(), count: 2 });
        self.writer.commit().unwrap();
        self.until(async |ledger| ledger.totals().await.unwrap().accepted_shares == before + 4).await;
    }

    /// Alice finds a block.
    pub async fn find(&mut self) {
        let rig = worker(&format!("{ALICE}.rig"));
        let mut hash = [0; 32];
        hash[0] = 1;
        let value_sats = u64::try_from(REWARD_MSAT / 1000).unwrap();
        self.writer.found(&Found {
            time_ms: now_ms(),
            worker: rig.id(),
            hash,
            prev_hash: [7; 32],
            height: 7,
            bits: BITS,
            coinbase_txid: [9; 32],
            value_sats,
            outputs: vec![(worker(BOB).script().to_vec(), value_sats)],
            origin: None,
        });
        self.writer.commit().unwrap();
        self.until_it_is(BlockStatus::Immature).await;
    }

    /// The shares so far are in a finished segment.
    pub async fn close_segment(&mut self) {
        std::thread::sleep(Duration::from_millis(2));
        self.writer.commit().unwrap(); // old enough to be closed
        self.until(async |ledger| ledger.segment_count().await.unwrap() > 0 && ledger.spooled_bytes() == 0)
            .await;
    }

    /// A hundred blocks come on top.
    pub async fn bury_it(&self) {
        self.depth.store(101, Ordering::Relaxed);
        self.until_it_is(BlockStatus::Mature).await;
    }

    async fn until_it_is(&self, status: BlockStatus) {
        self.until(async |ledger| {
            ledger.blocks(1, 0).await.unwrap().first().is_some_and(|block| block.status == status)
        })
        .await;
    }

    /// Waits for the ledger to have come so far.
    async fn until(&self, so_far: impl AsyncFn(&Ledger) -> bool) {
        for _ in 0..600 {
            if so_far(&self.shown.ledger).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the ledger has not come so far in half a minute");
    }

    pub async fn answer(&self, request: Request<Body>) -> Response {
        router(self.shown.clone()).oneshot(request).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Response {
        self.answer(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn json(&self, path: &str) -> (StatusCode, Value) {
        let response = self.get(path).await;
        let status = response.status();
        let text = text(response).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
    }
}

pub(super) async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}
