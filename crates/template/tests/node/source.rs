//! The stream of templates, from one node and from two.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use template::{Node, Source, SourceConfig, Submitted, Template};
use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep, timeout},
};

use crate::{
    daemon::Daemon,
    miner::{block, shown},
};

/// The next published template that is as wanted, and how long it took.
async fn next(
    templates: &mut Receiver<Option<Arc<Template>>>,
    wanted: impl Fn(&Template) -> bool,
) -> (Arc<Template>, Duration) {
    let since = Instant::now();
    let found = templates.wait_for(|template| template.as_deref().is_some_and(&wanted));
    let found = timeout(Duration::from_secs(60), found).await.expect("in time").expect("a living source");
    (found.clone().expect("wanted"), since.elapsed())
}

/// Adds a block to the node's chain, unlike any other that was there before.
async fn mine(node: &dyn Node) -> [u8; 32] {
    static SALT: AtomicU32 = AtomicU32::new(0);
    let salt = SALT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let solved = block(&node.template(None).await.unwrap(), &salt);
    assert_eq!(node.submit(&solved.block).await.unwrap(), Submitted::Accepted);
    solved.hash
}

#[tokio::test]
async fn work_follows_the_chain_of_one_node() {
    let mut daemon = Daemon::regtest().await;
    let rpc = daemon.rpc();
    let config = SourceConfig { refresh: Duration::from_secs(2), ..SourceConfig::default() };
    let source = Source::start(vec![rpc.clone()], config);
    let mut templates = source.watch();
    next(&mut templates, |template| template.height == 1).await;

    for height in 2..=12 {
        let tip = mine(&*rpc).await;
        let (template, took) = next(&mut templates, |template| template.prev_hash == tip).await;
        assert_eq!(template.height, height);
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    // The chain goes back by two blocks, then on by another way.
    let third_last = daemon.get("getblockhash", json!([10])).await;
    daemon.get("invalidateblock", json!([third_last])).await;
    let (back, took) = next(&mut templates, |template| template.height == 10).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let tip = mine(&*rpc).await;
    assert_ne!(json!(shown(&tip)), third_last);
    let (template, _) = next(&mut templates, |template| template.prev_hash == tip).await;
    assert_eq!(template.height, back.height + 1);

    // Known to be good still without any event.
    templates.borrow_and_update();
    timeout(Duration::from_secs(10), templates.changed()).await.expect("in time").expect("a living source");
    assert!(Arc::ptr_eq(templates.borrow().as_ref().unwrap(), &template));
    let status = source.status();
    assert_eq!((status[0].state.as_str(), status[0].leads), ("well", true));
    assert_eq!(status[0].tip.unwrap(), rpc.tip().await.unwrap());
    assert!(status[0].template_age.unwrap() < Duration::from_secs(4));

    // Away, and back with another cookie: the last work stays, then goes on.
    daemon.stop().await;
    while source.status()[0].leads {
        sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(source.status()[0].state, "well");
    assert!(templates.borrow_and_update().is_some());
    daemon.restart().await;
    let tip = mine(&*rpc).await;
    next(&mut templates, |template| template.prev_hash == tip).await;

    source.stop();
    templates.borrow_and_update();
    mine(&*rpc).await;
    sleep(Duration::from_secs(3)).await;
    assert!(!templates.has_changed().unwrap(), "a stopped source is silent");
}

#[tokio::test]
async fn ten_blocks_at_once_are_no_storm() {
    let daemon = Daemon::regtest().await;
    let rpc = daemon.rpc();
    let source = Source::start(vec![rpc.clone()], SourceConfig::default());
    let mut templates = source.watch();
    next(&mut templates, |template| template.height == 1).await;
    let mut tip = [0; 32];
    for _ in 0..10 {
        tip = mine(&*rpc).await;
    }
    let (last, took) = next(&mut templates, |template| template.prev_hash == tip).await;
    assert_eq!(last.height, 11);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn when_the_leader_dies_the_next_one_leads() {
    let mut first = Daemon::start(&["-regtest", "-listen=1", "-bind=127.0.0.1"]).await;
    let connect = format!("-connect={}", first.p2p());
    let second = Daemon::start(&["-regtest", &connect]).await;
    let (a, b) = (first.rpc(), second.rpc());
    let config = SourceConfig { settle: Duration::from_secs(3), ..SourceConfig::default() };
    let source = Source::start(vec![a.clone(), b.clone()], config);
    let mut templates = source.watch();
    let leads = |at: usize| source.status()[at].leads;
    let until = |wanted: usize| async move {
        let waiting = async {
            while !leads(wanted) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.expect("another leader in time");
    };

    let tip = mine(&*a).await;
    next(&mut templates, |template| template.prev_hash == tip).await;
    until(0).await;
    while b.tip().await.unwrap().hash != tip {
        sleep(Duration::from_millis(50)).await;
    }
    first.kill();
    let killed = Instant::now();
    until(1).await;
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    let tip = mine(&*b).await;
    next(&mut templates, |template| template.prev_hash == tip).await;

    // The first comes back on its old block: it leads again when it has caught up and settled, and no sooner.
    let height = templates.borrow().as_ref().unwrap().height;
    first.restart().await;
    loop {
        let template = templates.borrow_and_update().clone().unwrap();
        assert!(template.height >= height, "the height went back");
        if leads(0) {
            assert_eq!(template.prev_hash, tip);
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
