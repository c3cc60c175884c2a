//! A node spoken to in two ways, one of which comes and goes.

use std::{path::PathBuf, time::Duration};

use bitcoin::Network;
use template::{Auth, Bitcoind, BitcoindConfig, Node, RpcConfig, Submitted};
use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{daemon::Daemon, miner::block};

/// What lies between us and the node's socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Connections stay, and nothing passes.
    Hangs,
    /// Connections break.
    Cut,
}

/// Passes on to `socket` what comes to `path`, as `way` says.
async fn relay(path: PathBuf, socket: PathBuf, way: watch::Receiver<Way>) {
    let listener = UnixListener::bind(path).expect("a socket");
    while let Ok((mut ours, _)) = listener.accept().await {
        let (socket, mut way) = (socket.clone(), way.clone());
        tokio::spawn(async move {
            let Ok(mut node) = UnixStream::connect(socket).await else { return };
            loop {
                let now = *way.borrow_and_update();
                tokio::select! {
                    _ = copy_bidirectional(&mut ours, &mut node), if now == Way::Open => return,
                    _ = async {}, if now == Way::Cut => return,
                    _ = way.changed() => {}
                }
            }
        });
    }
}

#[tokio::test]
async fn the_rpc_does_the_work_while_the_mining_interface_is_away() {
    let daemon = Daemon::regtest().await;
    let dir = tempfile::Builder::new().prefix("way").tempdir_in("/tmp").unwrap();
    let path = dir.path().join("node.sock");
    let rpc = RpcConfig { url: daemon.url(), auth: Auth::Cookie(daemon.cookie()), network: Network::Regtest };
    let config = BitcoindConfig { rpc, zmq_hashblock: None, ipc: Some(path.clone()) };
    let node = Bitcoind::new(config).unwrap();
    // Only templates of the RPC can be waited upon there.
    let by_ipc = async || node.template(None).await.unwrap().long_poll.is_none();
    let comes_back = async || {
        let back = async {
            while !by_ipc().await {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(40), back).await.expect("the mining interface is used again");
    };

    assert!(!by_ipc().await, "there is no socket yet");
    let (set, way) = watch::channel(Way::Open);
    tokio::spawn(relay(path, daemon.socket(), way));
    comes_back().await;

    for fault in [Way::Cut, Way::Hangs] {
        set.send_replace(fault);
        let since = Instant::now();
        let template = node.template(None).await.unwrap();
        assert!(template.long_poll.is_some());
        assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
        // It is not asked each time: the next templates are not late.
        let since = Instant::now();
        assert!(!by_ipc().await);
        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
        let since = Instant::now();
        assert_eq!(node.submit(&block(&template, b"away").block).await.unwrap(), Submitted::Accepted);
        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
        set.send_replace(Way::Open);
        comes_back().await;
    }

    let template = node.template(None).await.unwrap();
    assert_eq!(node.empty(&template.prev_hash).await.unwrap().unwrap().prev_hash, template.prev_hash);
    let known =
        timeout(Duration::from_secs(10), node.announced()).await.expect("the present block, at first");
    assert_eq!(known, template.prev_hash);
    let solved = block(&template, b"here");
    let (announced, submitted) =
        tokio::join!(timeout(Duration::from_secs(10), node.announced()), node.submit(&solved.block));
    assert_eq!(submitted.unwrap(), Submitted::Accepted);
    assert_eq!(announced.expect("in time"), solved.hash);
}
