//! Found blocks: onto the chain of every node, through refusals, absences and crashes.

use std::{path::Path, time::Duration};

use template::{Depth, Fate, Node, Outcome, Solved, Submitter};
use tokio::{
    sync::broadcast::Receiver,
    time::{sleep, timeout},
};

use crate::{
    daemon::Daemon,
    miner::{block, shown},
};

async fn outcome(outcomes: &mut Receiver<Outcome>) -> Outcome {
    timeout(Duration::from_secs(60), outcomes.recv()).await.expect("in time").expect("a living submitter")
}

/// The endings of the files of one block.
fn files(dir: &Path, solved: &Solved) -> Vec<String> {
    let stem = shown(&solved.hash);
    let mut endings: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| Some(name.strip_prefix(&stem)?.to_owned()))
        .collect();
    endings.sort();
    endings
}

#[tokio::test]
async fn a_block_ends_on_the_chain_or_is_told_why_not() {
    let daemon = Daemon::regtest().await;
    let rpc = daemon.rpc();
    let dir = tempfile::tempdir().unwrap();
    let submitter = Submitter::start(vec![daemon.node()], dir.path().into()).unwrap();
    let mut outcomes = submitter.outcomes();

    let template = rpc.template(None).await.unwrap();
    let good = block(&template, b"1");
    submitter.submit(good.clone());
    submitter.submit(good.clone());
    let told = outcome(&mut outcomes).await;
    assert_eq!(told, Outcome { hash: good.hash, height: 1, fate: Fate::OnChain });
    assert_eq!(files(dir.path(), &good), [".done"]);
    assert_eq!(rpc.depth(&good.hash).await.unwrap(), Depth::OnChain(1));

    // Of two blocks of one height one loses, after a while.
    let late = block(&template, b"2");
    submitter.submit(late.clone());
    let told = outcome(&mut outcomes).await;
    assert_eq!(told, Outcome { hash: late.hash, height: 1, fate: Fate::OffChain });
    assert_eq!(files(dir.path(), &late), [".done"]);
    assert!(submitter.settled(Duration::from_secs(10)).await);

    let template = rpc.template(None).await.unwrap();
    let greedy = template::Template { coinbase_value: template.coinbase_value + 1, ..template };
    let greedy = block(&greedy, b"");
    submitter.submit(greedy.clone());
    let told = outcome(&mut outcomes).await;
    assert_eq!(told.fate, Fate::Refused("bad-cb-amount".into()));
    assert_eq!(files(dir.path(), &greedy), [".refused"]);
}

#[tokio::test]
async fn every_node_gets_a_block_even_one_that_was_away() {
    let first = Daemon::regtest().await;
    let mut second = Daemon::regtest().await;
    let (a, b) = (first.rpc(), second.rpc());
    let dir = tempfile::tempdir().unwrap();
    let submitter = Submitter::start(vec![first.node(), second.node()], dir.path().into()).unwrap();
    let mut outcomes = submitter.outcomes();
    second.kill();

    // Two blocks that the second node, which has no peers, can only have from us; and in any order.
    let one = block(&a.template(None).await.unwrap(), b"");
    submitter.submit(one.clone());
    assert_eq!(outcome(&mut outcomes).await.fate, Fate::OnChain);
    let two = block(&a.template(None).await.unwrap(), b"");
    submitter.submit(two.clone());
    assert_eq!(outcome(&mut outcomes).await.fate, Fate::OnChain);
    assert!(!submitter.settled(Duration::from_millis(200)).await, "the second is still being tried");

    second.restart().await;
    assert!(submitter.settled(Duration::from_secs(60)).await);
    assert_eq!(b.depth(&one.hash).await.unwrap(), Depth::OnChain(2));
    assert_eq!(b.depth(&two.hash).await.unwrap(), Depth::OnChain(1));
    assert!(outcomes.try_recv().is_err(), "told once each");
}

#[tokio::test]
async fn what_a_crash_left_is_sent_at_the_next_start() {
    let mut daemon = Daemon::regtest().await;
    let rpc = daemon.rpc();
    let dir = tempfile::tempdir().unwrap();
    let solved = block(&rpc.template(None).await.unwrap(), b"");
    daemon.kill();

    // A pool that dies while its node is away: its runtime ends with everything in it.
    let (node, path, copy) = (daemon.node(), dir.path().to_owned(), solved.clone());
    let dying = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let submitter = Submitter::start(vec![node], path.clone()).unwrap();
            submitter.submit(copy.clone());
            while files(&path, &copy) != [".block"] {
                sleep(Duration::from_millis(10)).await;
            }
        });
    });
    tokio::task::spawn_blocking(|| dying.join().unwrap()).await.unwrap();
    assert_eq!(files(dir.path(), &solved), [".block"]);

    daemon.restart().await;
    assert_eq!(rpc.depth(&solved.hash).await.unwrap(), Depth::Unknown);
    let submitter = Submitter::start(vec![daemon.node()], dir.path().into()).unwrap();
    let told = outcome(&mut submitter.outcomes()).await;
    assert_eq!((told.hash, told.fate), (solved.hash, Fate::OnChain));
    assert_eq!(files(dir.path(), &solved), [".done"]);
    assert_eq!(rpc.depth(&solved.hash).await.unwrap(), Depth::OnChain(1));
}
