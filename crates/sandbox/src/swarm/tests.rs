use tokio::{net::TcpListener, sync::watch};

use super::*;
use crate::floor;

const JOB: &[u8] = b"{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"1\",\"00\",\"01\",\"02\",[],\"20000000\",\"1d00ffff\",\"64b3f3ec\",true]}\n";

/// A floor in this process, and a swarm for it.
async fn floor() -> (watch::Sender<floor::Line>, Swarm) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = listener.local_addr().unwrap().to_string();
    let (job, jobs) = watch::channel(floor::Line::from(JOB));
    tokio::spawn(floor::serve(listener, jobs));
    (job, Swarm::new(SwarmConfig { connect, user: "somebody".into(), password: "x".into() }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_on_the_floor() {
    let (job, mut swarm) = floor().await;
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
    job.send_replace(JOB.into());
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
    let mut swarm = Swarm::new(SwarmConfig { connect, user: "somebody".into(), password: "x".into() });
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let error = swarm.grow(1).await.unwrap_err().to_string();
    assert!(error.starts_with("connection 1 to 127.0.0.1:"), "{error}");
    let error = swarm.grow(MAX_CONNECTIONS + 1).await.unwrap_err().to_string();
    assert!(error.contains("too many connections"), "{error}");
}
