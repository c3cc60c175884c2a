//! Server-sent events: each is encoded once, and the same bytes go to every listener.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::{broadcast, watch};

use crate::{fault::Fault, figures::Shown, routes::pool::PoolView};

/// Listeners at once; who comes then is told so with a 503.
const MOST_LISTENERS: usize = 512;
/// Events that may wait for a listener; one that falls further behind is let go, and its browser comes back by itself.
const BACKLOG: usize = 64;

/// Where events go.
pub(crate) struct Events {
    line: broadcast::Sender<Bytes>,
    listeners: Arc<AtomicUsize>,
    stopping: watch::Receiver<bool>,
}

/// One listener's place, given back when it leaves.
struct Seat(Arc<AtomicUsize>);

impl Events {
    pub fn new(stopping: watch::Receiver<bool>) -> Self {
        let (line, _) = broadcast::channel(BACKLOG);
        Self { line, listeners: Arc::default(), stopping }
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.listeners.load(Ordering::Relaxed)
    }

    /// Tells every listener. Nothing is worked out where nobody listens.
    pub fn tell<T: Serialize>(&self, name: &str, data: impl FnOnce() -> T) {
        if self.line.receiver_count() > 0 {
            // An error means that the last listener left meanwhile.
            let _ = self.line.send(encoded(name, &data()));
        }
    }

    fn seat(&self) -> Result<Seat, Fault> {
        let seat = Seat(self.listeners.clone());
        match self.listeners.fetch_add(1, Ordering::Relaxed) {
            taken if taken < MOST_LISTENERS => Ok(seat),
            _ => Err(Fault::TooManyListeners),
        }
    }

    /// `first`, then what is told from now on, until the listener is too far behind or the server stops.
    fn listen(&self, first: Bytes) -> Result<impl Stream<Item = Bytes> + use<>, Fault> {
        let ear = (self.seat()?, self.line.subscribe(), self.stopping.clone());
        let told = stream::unfold(ear, |(seat, mut line, mut stopping)| async {
            let event = tokio::select! {
                biased;
                event = line.recv() => event.ok()?, // an error says how many events were missed
                () = stopped(&mut stopping) => return None,
            };
            Some((event, (seat, line, stopping)))
        });
        Ok(stream::once(async { first }).chain(told))
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server is gone.
    let _ = stopping.wait_for(|&stop| stop).await;
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn encoded(name: &str, data: &impl Serialize) -> Bytes {
    let mut event = format!("event: {name}\ndata: ").into_bytes();
    // Our own types always encode, and JSON has no line breaks.
    if serde_json::to_writer(&mut event, data).is_err() {
        return Bytes::new();
    }
    event.extend_from_slice(b"\n\n");
    event.into()
}

/// `GET /api/v1/events`: `pool` at once and then each second, `block` when a block is found or changes its status.
pub(crate) async fn events(State(shown): State<Arc<Shown>>) -> Result<Response, Fault> {
    let first = encoded("pool", &PoolView::new(&shown.about, &shown.figures()));
    let stream = shown.events.listen(first)?;
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(stream.map(Ok::<_, Infallible>))).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> (watch::Sender<bool>, Events) {
        let (tell, stopping) = watch::channel(false);
        (tell, Events::new(stopping))
    }

    async fn all(stream: impl Stream<Item = Bytes>) -> Vec<String> {
        stream.map(|event| String::from_utf8(event.to_vec()).unwrap()).collect().await
    }

    #[tokio::test]
    async fn every_listener_hears_the_same() {
        let (stop, events) = events();
        events.tell("pool", || -> u8 { panic!("nobody listens") });
        let (a, b) = (events.listen("first".into()).unwrap(), events.listen("first".into()).unwrap());
        events.tell("pool", || "line\nbreak");
        stop.send_replace(true);
        let expect = ["first", "event: pool\ndata: \"line\\nbreak\"\n\n"];
        assert_eq!(all(a).await, expect);
        assert_eq!(all(b).await, expect);
    }

    #[tokio::test]
    async fn who_falls_behind_is_let_go() {
        let (_stop, events) = events();
        let slow = events.listen(Bytes::new()).unwrap();
        for i in 0..=BACKLOG {
            events.tell("pool", || i);
        }
        assert_eq!(all(slow).await, [""], "the first event, then the end");
        assert_eq!(events.listeners(), 0);
    }

    #[test]
    fn seats_are_counted_and_given_back() {
        let (_stop, events) = events();
        let full: Vec<_> = (0..MOST_LISTENERS).map(|_| events.listen(Bytes::new()).unwrap()).collect();
        assert!(matches!(events.listen(Bytes::new()).map(|_| ()), Err(Fault::TooManyListeners)));
        assert_eq!(events.listeners(), MOST_LISTENERS);
        drop(full);
        assert_eq!(events.listeners(), 0);
        assert!(events.listen(Bytes::new()).is_ok());
    }
}
