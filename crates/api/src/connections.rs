//! The sockets of visitors: only so many, and none that just sits there.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// Connections at once. Further ones wait in the system's backlog until one ends.
const MOST: usize = 1024;
/// A connection on which nothing moved for this long, either way, is closed: it is gone, idle, or reads nothing of what
/// we write. Event streams move each second.
const PATIENCE: Duration = Duration::from_secs(30);

/// A listener that bounds what it accepts.
pub(crate) struct Listener {
    inner: TcpListener,
    slots: Arc<Semaphore>,
    patience: Duration,
}

impl Listener {
    pub fn new(inner: TcpListener) -> Self {
        Self::with(inner, MOST, PATIENCE)
    }

    fn with(inner: TcpListener, most: usize, patience: Duration) -> Self {
        Self { inner, slots: Arc::new(Semaphore::new(most)), patience }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let slot = loop {
            match self.slots.clone().acquire_owned().await {
                Ok(slot) => break slot,
                // Nobody closes the semaphore.
                Err(_) => std::future::pending().await,
            }
        };
        let (stream, address) = axum::serve::Listener::accept(&mut self.inner).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "TCP_NODELAY refused");
        }
        let quiet = Box::pin(sleep(self.patience));
        (Connection { stream, quiet, patience: self.patience, _slot: slot }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A socket that fails with `TimedOut` when nothing has moved on it for too long.
pub(crate) struct Connection {
    stream: TcpStream,
    quiet: Pin<Box<Sleep>>,
    patience: Duration,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    /// Passes on what the socket said, unless it has said "later" for too long.
    fn judge<T>(&mut self, cx: &mut Context<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if said.is_ready() {
            self.quiet.as_mut().reset(Instant::now() + self.patience);
            return said;
        }
        match self.quiet.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.judge(cx, said)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, said)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, said)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::{Router, body::Body, routing::get};
    use futures_util::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn listening(most: usize, patience: Duration) -> SocketAddr {
        let inner = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = inner.local_addr().unwrap();
        let endless = || async {
            Body::from_stream(stream::repeat(Ok::<_, std::convert::Infallible>(vec![b'x'; 65536])))
        };
        let app = Router::new().route("/", get(|| async { "here" })).route("/endless", get(endless));
        let server = axum::serve(Listener::with(inner, most, patience), app);
        tokio::spawn(async { server.await });
        address
    }

    async fn ask(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    /// Reads until the other side closes, or for two seconds.
    async fn drained(stream: &mut TcpStream) -> bool {
        let end = async { while stream.read(&mut [0; 65536]).await.is_ok_and(|n| n > 0) {} };
        tokio::time::timeout(Duration::from_secs(2), end).await.is_ok()
    }

    #[tokio::test]
    async fn who_sits_there_is_closed() {
        let address = listening(8, Duration::from_millis(150)).await;
        for opening in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(opening.as_bytes()).await.unwrap();
            assert!(drained(&mut stream).await, "{opening:?}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_gives_up_its_place() {
        let address = listening(1, Duration::from_millis(150)).await;
        let _stalled = ask(address, "/endless").await;
        let mut next = ask(address, "/").await;
        let mut answer = [0; 12];
        tokio::time::timeout(Duration::from_secs(2), next.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }

    #[tokio::test]
    async fn a_reader_that_reads_is_left_alone() {
        let address = listening(1, Duration::from_millis(150)).await;
        let mut stream = ask(address, "/endless").await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(600) {
            assert!(stream.read(&mut [0; 65536]).await.unwrap() > 0);
        }
    }
}
