use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use super::*;
use crate::routes::house;

/// Over TCP: what listens goes on while events flow, and an open stream does not hold up the end.
#[tokio::test]
async fn serves_until_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _writer) = house::ledger(dir.path()).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (show, snapshots) = watch::channel(Arc::default());
    tokio::spawn(async move {
        while show.send(Arc::default()).is_ok() {
            time::sleep(Duration::from_millis(300)).await;
        }
    });
    let server =
        tokio::spawn(serve_from(listener, ledger, (house::about(), house::nodes()), snapshots, async {
            let _ = stopped.await;
        }));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut heard = String::new();
    while heard.matches("event: pool").count() < 3 {
        let mut part = [0; 4096];
        let n = time::timeout(Duration::from_secs(5), stream.read(&mut part)).await.unwrap().unwrap();
        assert!(n > 0, "{heard}");
        heard.push_str(&String::from_utf8_lossy(&part[..n]));
    }
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    assert!(heard.contains("\"accepted_shares\":0"), "the ledger was read: {heard}");
    stop.send(()).unwrap();
    let ended = time::timeout(GRACE / 2, server).await.expect("the stream ends by itself");
    ended.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
