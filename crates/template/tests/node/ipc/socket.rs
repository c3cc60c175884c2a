//! Sockets that are not there, go away, hang, or belong to somebody else.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bitcoin::Network;
use template::{Ipc, Node, NodeError, Submitted};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    time::{Instant, sleep, timeout},
};

use super::ipc;
use crate::{daemon::Daemon, miner::block};

/// Each question is answered within its time, with an error.
async fn errors(ipc: &Ipc) -> Vec<NodeError> {
    let started = Instant::now();
    let (template, empty, tip) = tokio::join!(ipc.template(), ipc.empty(), ipc.tip());
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    vec![template.unwrap_err(), empty.unwrap_err(), tip.unwrap_err()]
}

/// Until there is service again.
async fn back(ipc: &Ipc) {
    let service = async {
        while ipc.tip().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), service).await.expect("service again");
    let solved = block(&ipc.template().await.unwrap(), b"");
    assert_eq!(ipc.submit(&solved.block).await.unwrap().unwrap(), Submitted::Accepted);
    assert_eq!(ipc.tip().await.unwrap().hash, solved.hash);
}

#[tokio::test]
async fn no_socket_then_strangers_then_a_node() {
    let daemon = Daemon::regtest().await;
    let dir = tempfile::Builder::new().prefix("s").tempdir_in("/tmp").unwrap();
    let path = dir.path().join("s");
    let ipc = Ipc::new(path.clone(), Network::Regtest);
    let shown = path.display().to_string();
    for error in errors(&ipc).await {
        assert_eq!(
            error.to_string(),
            format!(
                "cannot connect to {shown} (No such file or directory (os error 2)): is bitcoin-node running with \
                 -ipcbind=unix:{shown}, and may this user use the socket?"
            )
        );
    }
    let error = timeout(Duration::from_secs(7), ipc.tip_changed(&[0; 32])).await.unwrap().unwrap_err();
    assert!(matches!(error, NodeError::Socket { .. }), "{error}");
    let error = timeout(Duration::from_secs(7), ipc.next(1)).await.unwrap().unwrap_err();
    assert!(matches!(error, NodeError::Socket { .. }), "{error}");
    assert!(ipc.submit(&[0; 100]).await.is_none());

    std::fs::write(&path, "a file").unwrap();
    sleep(Duration::from_secs(1)).await; // the pause after a failure is over
    let error = ipc.tip().await.unwrap_err();
    assert!(matches!(error, NodeError::Socket { .. }), "{error}");

    // Strangers: one that hangs up, others that speak something else, and more of it than anybody wants to hear.
    let http = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec();
    // Segments beyond all measure, words that are no message, and a message that is empty.
    let zeros = vec![0; 1 << 20];
    let ones = vec![0xff; 1 << 20];
    let huge = vec![0, 0, 0, 0, 0xff, 0xff, 0xff, 0x0f];
    let mut counted: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
    counted[..8].copy_from_slice(&[0, 0, 0, 0, 0x40, 0, 0, 0]);
    for (what, speech) in [
        ("nothing", vec![]),
        ("http", http),
        ("zeros", zeros),
        ("ones", ones),
        ("huge", huge),
        ("counted", counted),
    ] {
        std::fs::remove_file(&path).unwrap();
        let stranger = tokio::spawn(speak(path.clone(), speech));
        sleep(Duration::from_millis(1200)).await;
        for error in errors(&ipc).await {
            println!("{what}: {error}");
            assert!(matches!(error, NodeError::NotMining { .. } | NodeError::Cut(_)), "{what}: {error}");
        }
        stranger.abort();
    }
    // One that says nothing at all, then goes.
    std::fs::remove_file(&path).unwrap();
    let silent = UnixListener::bind(&path).unwrap();
    sleep(Duration::from_millis(1200)).await;
    for error in errors(&ipc).await {
        assert!(matches!(error, NodeError::Timeout(_)), "{error}");
    }
    drop(silent);

    // Now the node's own.
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(daemon.socket(), &path).unwrap();
    back(&ipc).await;
}

/// Says the same to everybody who comes, and hangs up when they do.
async fn speak(path: PathBuf, speech: Vec<u8>) {
    let listener = UnixListener::bind(&path).unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let speech = speech.clone();
        tokio::spawn(async move {
            let mut heard = [0; 1024];
            let _ = stream.read(&mut heard).await;
            // It may not be listened to.
            let _ = stream.write_all(&speech).await;
            if !speech.is_empty() {
                while stream.read(&mut heard).await.is_ok_and(|n| n > 0) {}
            }
        });
    }
}

#[tokio::test]
async fn a_node_that_dies_and_comes_back() {
    let mut daemon = Daemon::regtest().await;
    let ipc = ipc(&daemon);
    back(&ipc).await;
    for kill in [true, false, true] {
        let known = ipc.tip().await.unwrap();
        ipc.template().await.unwrap();
        let waits = [
            tokio::spawn({
                let ipc = ipc.clone();
                async move { drop(ipc.tip_changed(&known.hash).await.unwrap_err()) }
            }),
            tokio::spawn({
                let ipc = ipc.clone();
                async move { drop(ipc.next(1).await.unwrap_err()) }
            }),
        ];
        sleep(Duration::from_millis(300)).await;
        if kill {
            daemon.kill();
        } else {
            daemon.stop().await;
        }
        for wait in waits {
            timeout(Duration::from_secs(5), wait).await.unwrap().unwrap();
        }
        for error in errors(&ipc).await {
            assert!(matches!(error, NodeError::Socket { .. } | NodeError::Cut(_)), "{error}");
        }
        assert!(ipc.submit(&[0; 100]).await.is_none());
        daemon.restart().await;
        back(&ipc).await;
    }
}

#[tokio::test]
async fn a_node_that_hangs_for_a_while() {
    let daemon = Daemon::regtest().await;
    let ipc = ipc(&daemon);
    back(&ipc).await;
    // Shorter than our patience: the same connection goes on, and blocks of old templates are taken.
    let template = ipc.template().await.unwrap();
    daemon.signal("STOP");
    for _ in 0..2 {
        for error in errors(&ipc).await {
            assert!(matches!(error, NodeError::Timeout(_)), "{error}");
        }
    }
    daemon.signal("CONT");
    let solved = block(&template, b"");
    assert_eq!(ipc.submit(&solved.block).await.unwrap().unwrap(), Submitted::Accepted);
    back(&ipc).await;

    // Longer: who waits is told, a new connection is made, and the node has survived all of it.
    let known = ipc.tip().await.unwrap();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let ipc: Arc<Ipc> = ipc.clone();
            tokio::spawn(async move { ipc.tip_changed(&known.hash).await.unwrap_err() })
        })
        .collect();
    sleep(Duration::from_millis(300)).await;
    daemon.signal("STOP");
    for waiting in waiting {
        let error = timeout(Duration::from_secs(40), waiting).await.unwrap().unwrap();
        assert!(matches!(error, NodeError::Cut(_) | NodeError::Timeout(_)), "{error}");
    }
    for error in errors(&ipc).await {
        assert!(matches!(error, NodeError::Timeout(_)), "{error}");
    }
    daemon.signal("CONT");
    back(&ipc).await;
    assert_eq!(daemon.rpc().tip().await.unwrap(), ipc.tip().await.unwrap());
}

#[tokio::test]
async fn a_node_on_another_chain() {
    let daemon = Daemon::regtest().await;
    for (network, found) in [
        (Network::Bitcoin, "a test chain"),
        (Network::Signet, "one with another first block"),
        (Network::Testnet4, "one with another first block"),
    ] {
        let error = Ipc::new(daemon.socket(), network).template().await.unwrap_err();
        let expected = network.to_core_arg();
        assert_eq!(
            error.to_string(),
            format!(
                "the node is on chain {found:?}, the configuration says {expected:?}: one of them is wrong"
            )
        );
    }
    back(&ipc(&daemon)).await;
    // With a block on top, there is only the work to tell by.
    let error = Ipc::new(daemon.socket(), Network::Signet).template().await.unwrap_err();
    assert!(matches!(&error, NodeError::Chain { found, .. } if found.contains("207fffff")), "{error}");
}

#[tokio::test]
async fn a_node_that_has_not_the_chain_yet() {
    let daemon = Daemon::start(&["-chain=main"]).await;
    let ipc = Ipc::new(daemon.socket(), Network::Bitcoin);
    assert_eq!(ipc.tip().await.unwrap().height, 0);
    for error in [ipc.template().await, ipc.empty().await, ipc.next(1).await].map(Result::unwrap_err) {
        assert_eq!(error.to_string(), "the node is still downloading the chain; wait until it has it");
    }
    let error = Ipc::new(daemon.socket(), Network::Regtest).tip().await.unwrap_err();
    assert!(matches!(&error, NodeError::Chain { found, .. } if found == "main"), "{error}");
}
