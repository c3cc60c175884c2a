//! A node's word that it has a new best block, over ZMQ: `zmqpubhashblock` of Bitcoin Core.
//!
//! It is a hint and no more: nobody signs it, the publisher drops messages for a slow reader and says nothing when it
//! dies. So numbers are watched for gaps, silence is broken by a question, and whoever uses this asks the node for its
//! tip now and then all the same (F-08).

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use share::Hash;
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use crate::NodeError;
use endpoint::Endpoint;
use link::{Link, Message};

mod endpoint;
mod link;

/// What we subscribe to. Subscriptions go by prefix, so others may come with it.
const TOPIC: &[u8] = b"hashblock";

/// A node's `zmqpubhashblock` publisher. Connects by itself, and again when the connection breaks, ends or falls silent.
pub struct Zmq {
    endpoint: Endpoint,
    name: String,
    patience: Patience,
    shared: Arc<Shared>,
    task: Option<AbortHandle>,
}

/// A block that a node announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashblock {
    /// Its hash, internal order.
    pub hash: Hash,
    /// How many announcements were lost since the one that was returned before, by the publisher's own count. What it
    /// published while there was no connection is not among them: nobody can know.
    pub missed: u32,
}

/// How long we wait for a publisher.
#[derive(Clone, Copy)]
struct Patience {
    /// For a connection, and for what is said at its beginning.
    connect: Duration,
    /// For anything to be heard, before we ask whether it is still there.
    quiet: Duration,
    /// For anything to be heard, before the connection is given up.
    dead: Duration,
    /// Before the first attempt to connect again; twice as long before each next.
    first: Duration,
    /// At most, before an attempt.
    longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { connect: s(5), quiet: s(5), dead: s(15), first: Duration::from_millis(100), longest: s(5) }
    }
}

/// Between the task that listens and whoever waits for blocks.
#[derive(Default)]
struct Shared {
    /// What was not taken yet. A newer block takes its place: nobody wants the older one any more.
    latest: Mutex<Option<Hashblock>>,
    news: Notify,
    is_connected: AtomicBool,
}

impl Zmq {
    /// A publisher at `tcp://host:port`, or at the socket file of `ipc:///path` or `unix:/path`, as the node has it.
    /// Checks the address only ([`NodeError::Endpoint`]): needs no runtime, and connects nowhere before [`Self::next`].
    pub fn new(endpoint: &str) -> Result<Zmq, NodeError> {
        Self::with(endpoint, Patience::default())
    }

    fn with(endpoint: &str, patience: Patience) -> Result<Zmq, NodeError> {
        let parsed = Endpoint::parse(endpoint)
            .map_err(|why| NodeError::Endpoint { endpoint: endpoint.to_owned(), why: why.to_owned() })?;
        Ok(Zmq { endpoint: parsed, name: endpoint.to_owned(), patience, shared: Arc::default(), task: None })
    }

    /// The address, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is a connection on which something was heard in the last 15 s, if the node's libzmq answers
    /// questions (4.3 does). False until [`Self::next`] is called for the first time.
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected.load(Ordering::Relaxed)
    }

    /// The block announced last, as soon as there is one that was not returned before. Of several that came meanwhile
    /// only the newest is returned. Cancel-safe. The first call begins to listen, in a task of its own that ends with
    /// this value: it must be within a tokio runtime, and what was announced before it is not known.
    pub async fn next(&mut self) -> Hashblock {
        if self.task.is_none() {
            let work = listen(self.endpoint.clone(), self.name.clone(), self.patience, self.shared.clone());
            self.task = Some(tokio::spawn(work).abort_handle());
        }
        loop {
            let latest = self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(hashblock) = latest {
                return hashblock;
            }
            self.shared.news.notified().await;
        }
    }
}

impl Drop for Zmq {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Shared {
    fn announce(&self, hash: Hash, missed: u32) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let before = latest.map_or(0, |unread| unread.missed);
        *latest = Some(Hashblock { hash, missed: before.saturating_add(missed) });
        drop(latest);
        self.news.notify_one();
    }
}

/// Connects, hears what there is to hear, and again, for ever.
async fn listen(endpoint: Endpoint, name: String, patience: Patience, shared: Arc<Shared>) {
    let (mut pause, mut is_told) = (patience.first, false);
    loop {
        let begun = Instant::now();
        let connected = timeout(patience.connect, Link::open(&endpoint, TOPIC)).await;
        let error = match connected.unwrap_or_else(|_| Err(silent("said nothing to our greeting"))) {
            Ok(link) => {
                tracing::info!(zmq = name, "listens to the node's blocks");
                shared.is_connected.store(true, Ordering::Relaxed);
                is_told = false;
                let ended = hear(link, &name, patience, &shared).await;
                shared.is_connected.store(false, Ordering::Relaxed);
                ended
            }
            Err(error) => error,
        };
        // One line for each outage, not for each attempt.
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(zmq = name, %error, "no blocks are heard here: is zmqpubhashblock of the node this address?");
        } else {
            tracing::debug!(zmq = name, %error, "still no blocks");
        }
        // A peer that takes us and throws us out again is no reason to hurry.
        if begun.elapsed() > patience.connect + patience.longest {
            pause = patience.first;
        }
        sleep(pause).await;
        pause = patience.longest.min(pause * 2);
    }
}

/// Announces what comes over `link`, until it ends, and why it did.
async fn hear(mut link: Link, name: &str, patience: Patience, shared: &Shared) -> io::Error {
    let (mut count, mut is_told) = (Count::default(), false);
    loop {
        let heard = match timeout(patience.quiet, link.next()).await {
            Ok(heard) => heard,
            Err(_) if !link.answers_pings() => continue,
            Err(_) => match link.ping().await {
                Ok(()) => timeout(patience.dead.saturating_sub(patience.quiet), link.next())
                    .await
                    .unwrap_or_else(|_| Err(silent("answers no more"))),
                Err(error) => Err(error),
            },
        };
        match heard {
            Ok(None) => {}
            Ok(Some(message)) => match hashblock(&message) {
                Ok((hash, number)) => shared.announce(hash, count.missed_before(number)),
                Err(why) if !std::mem::replace(&mut is_told, true) => {
                    tracing::warn!(
                        zmq = name,
                        why,
                        "a message that is no block is ignored, as are more of its kind"
                    );
                }
                Err(_) => {}
            },
            Err(error) => return error,
        }
    }
}

fn silent(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the publisher {what}"))
}

/// The hash and the number that a message of our topic carries: topic, hash as people write it, number.
fn hashblock(message: &Message) -> Result<(Hash, u32), &'static str> {
    let [topic, hash, number] = message.parts() else { return Err("it has not three parts") };
    if topic != TOPIC {
        return Err("its topic is not hashblock");
    }
    let mut hash = Hash::try_from(&hash[..]).map_err(|_| "its hash is not 32 bytes long")?;
    hash.reverse();
    let number = number[..].try_into().map_err(|_| "its number is not 4 bytes long")?;
    Ok((hash, u32::from_le_bytes(number)))
}

/// What a publisher counts its messages with: 32 bits that go round, from 0 at its start.
#[derive(Default)]
struct Count(Option<u32>);

impl Count {
    /// How many came before `number` that were not heard. Where the count goes back, another publisher has begun its own.
    fn missed_before(&mut self, number: u32) -> u32 {
        let skipped = self.0.map_or(0, |last| number.wrapping_sub(last).wrapping_sub(1));
        self.0 = Some(number);
        if i32::try_from(skipped).is_ok() { skipped } else { 0 }
    }
}

impl fmt::Debug for Zmq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zmq({}, connected: {})", self.name, self.is_connected())
    }
}

#[cfg(test)]
mod tests;
