use stratum::v2::{
    encode,
    mining::{NewExtendedMiningJob, SetNewPrevHash},
    wire::{B64K, Seq255},
};
use tokio::{net::TcpListener, sync::watch};

use super::*;
use crate::floor;

const JOB: &[u8] = b"{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"1\",\"00\",\"01\",\"02\",[],\"20000000\",\"1d00ffff\",\"64b3f3ec\",true]}\n";

/// The same in V2: a job for a block to come, and that block.
fn frames() -> floor::Job {
    let (channel_id, job_id, version) = (floor::v2::GROUP, 7, 0x2000_0000);
    let part = B64K::cut(&[1, 2, 3]);
    let job = NewExtendedMiningJob {
        channel_id,
        job_id,
        min_ntime: None,
        version,
        version_rolling_allowed: true,
        merkle_path: Seq255::new(&[]).unwrap(),
        coinbase_tx_prefix: part,
        coinbase_tx_suffix: part,
    };
    let (prev_hash, min_ntime, nbits) = ([0; 32], 0x64b3_f3ec, 0x1d00_ffff);
    let mut frames = Vec::new();
    encode(&job, &mut frames);
    encode(&SetNewPrevHash { channel_id, job_id, prev_hash, min_ntime, nbits }, &mut frames);
    frames.into()
}

/// A floor in this process, its job, and a swarm for it.
async fn floor(protocol: Protocol) -> (watch::Sender<floor::Job>, Swarm) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = listener.local_addr().unwrap().to_string();
    let (job, jobs) = watch::channel(match protocol {
        Protocol::V1 => floor::Job::from(JOB),
        Protocol::V2 => frames(),
    });
    match protocol {
        Protocol::V1 => drop(tokio::spawn(floor::serve(listener, jobs))),
        Protocol::V2 => drop(tokio::spawn(floor::v2::serve(listener, jobs, floor::v2::Certified::Once))),
    }
    (job, Swarm::new(SwarmConfig { protocol, connect, user: "somebody".into(), password: "x".into() }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_on_the_floor() {
    check(Protocol::V1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_on_the_floor_in_v2() {
    check(Protocol::V2).await;
}

async fn check(protocol: Protocol) {
    let (job, mut swarm) = floor(protocol).await;
    swarm.grow(20).await.unwrap();
    swarm.grow(100).await.unwrap();
    assert_eq!((swarm.connections(), swarm.lost()), (100, 0));

    for skewed in [false, true] {
        let outcome = swarm.load(Load { rate: 1000.0, duration: Duration::from_millis(500), skewed }).await;
        let answers = &outcome.answers;
        assert!(outcome.sent >= 200 && outcome.sent <= 500, "{outcome:?}");
        assert_eq!((answers.accepted, answers.rejected, outcome.unanswered), (outcome.sent, 0, 0));
        assert_eq!(answers.latency.count(), outcome.sent);
        assert!(answers.latency.percentile(0.5) > Duration::from_micros(1));
    }

    swarm.expect_block();
    let none = swarm.block(Duration::from_millis(30)).await;
    assert_eq!(none.reached, 0);
    job.send_modify(|_| ()); // the same again
    let spread = swarm.block(Duration::from_secs(20)).await;
    assert_eq!(spread.reached, 100);
    assert!(spread.half <= spread.last && spread.last < Duration::from_secs(20), "{spread:?}");

    drop(job); // the floor closes all
    let end = Instant::now() + Duration::from_secs(20);
    while swarm.lost() < 100 && Instant::now() < end {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(swarm.lost(), 100);
}

#[tokio::test]
async fn what_goes_wrong_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = listener.local_addr().unwrap().to_string();
    let config =
        SwarmConfig { protocol: Protocol::V1, connect, user: "somebody".into(), password: "x".into() };
    let (mut swarm, mut v2) =
        (Swarm::new(config.clone()), Swarm::new(SwarmConfig { protocol: Protocol::V2, ..config }));
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let error = swarm.grow(1).await.unwrap_err().to_string();
    assert!(error.starts_with("connection 1 to 127.0.0.1:"), "{error}");
    let error = v2.grow(1).await.unwrap_err().to_string();
    assert!(error.starts_with("connection 1 to 127.0.0.1:"), "{error}");
    let error = swarm.grow(MAX_CONNECTIONS + 1).await.unwrap_err().to_string();
    assert!(error.contains("too many connections"), "{error}");
}
