//! The way of a solved block onto the chain: to every node at once, and to disk meanwhile, until a chain has it.

use std::{
    collections::{HashSet, VecDeque},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use share::{Hash, hash::shown};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, broadcast, watch},
    task::JoinSet,
    time::timeout,
};

use crate::Node;
use delivery::{Delivery, Patience, deliver};

mod delivery;
mod keep;

/// A block that a miner found.
#[derive(Clone)]
pub struct Solved {
    /// Its hash, internal order.
    pub hash: Hash,
    /// Its height.
    pub height: u32,
    /// The whole block, as [`crate::Template::block`] makes it.
    pub block: Vec<u8>,
}

/// A block whose file is written, to be sent; nothing if it was taken before.
#[must_use = "a block that is not sent now is sent at the next start only"]
pub struct Kept(Option<Solved>);

/// What became of a block, as the nodes' chains say. Said once per block handed in, or found on disk at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its hash, internal order.
    pub hash: Hash,
    /// Its height.
    pub height: u32,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A node has it in its best chain.
    OnChain,
    /// Valid, but another block won.
    OffChain,
    /// Every node that could be asked calls it invalid; the words of one.
    Refused(String),
    /// Nobody took it for as long as we tried. It is kept on disk and sent again at the next start.
    Undelivered,
}

/// Found blocks cannot be kept on disk.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot keep found blocks in {} ({source}): create this directory and let this user write there",
    path.display()
)]
pub struct SubmitError {
    /// The directory.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// Brings solved blocks to every node. Clones share everything.
///
/// A block has no place in a queue: each goes its own way from the moment it is handed in. What bounds their number
/// is the proof of work in each, and that one hash is taken once (the last [`Self::REMEMBERED`] are remembered), so
/// that nobody can make us send an old block again and again. A node that gets many at once gets them
/// [`Self::ABREAST`] at a time; the others wait in memory, and on disk.
#[derive(Clone)]
pub struct Submitter(Arc<Shared>);

struct Shared {
    nodes: Vec<(Arc<dyn Node>, Semaphore)>,
    dir: PathBuf,
    runtime: Handle,
    patience: Patience,
    taken: Mutex<Taken>,
    under_way: watch::Sender<usize>,
    outcomes: broadcast::Sender<Outcome>,
}

/// The hashes taken lately, in the order of their coming.
#[derive(Default)]
struct Taken {
    set: HashSet<Hash>,
    order: VecDeque<Hash>,
}

impl Submitter {
    /// How many hashes are remembered as taken; beyond that the oldest is forgotten, and would only be sent again.
    pub const REMEMBERED: usize = 4096;

    /// How many blocks are sent to one node at the same time: less than its RPC threads.
    pub const ABREAST: usize = 4;

    /// Makes `dir` ready and sends again what an earlier run left there. Must be called within a tokio runtime,
    /// which then does the work, wherever [`Self::submit`] is called.
    pub fn start(nodes: Vec<Arc<dyn Node>>, dir: PathBuf) -> Result<Submitter, SubmitError> {
        Self::start_with(nodes, dir, Patience::default())
    }

    fn start_with(
        nodes: Vec<Arc<dyn Node>>,
        dir: PathBuf,
        patience: Patience,
    ) -> Result<Submitter, SubmitError> {
        let left = keep::open(&dir).map_err(|source| SubmitError { path: dir.clone(), source })?;
        let submitter = Submitter(Arc::new(Shared {
            nodes: nodes.into_iter().map(|node| (node, Semaphore::new(Self::ABREAST))).collect(),
            dir,
            runtime: Handle::current(),
            patience,
            taken: Mutex::default(),
            under_way: watch::Sender::new(0),
            // Who listens more than 64 blocks behind misses the oldest: the ledger asks the chain, not this.
            outcomes: broadcast::Sender::new(64),
        }));
        for keep::Left { solved, note } in left {
            tracing::warn!(hash = %shown(&solved.hash), height = solved.height, "a block left on disk is sent again");
            submitter.send(submitter.keep(solved, &note));
        }
        Ok(submitter)
    }

    /// What was noted of the blocks that an earlier run left in `dir`, the lowest first: to be asked before
    /// [`Self::start`], which may settle them.
    pub fn notes(dir: &Path) -> Result<Vec<Vec<u8>>, SubmitError> {
        let left = keep::open(dir).map_err(|source| SubmitError { path: dir.to_owned(), source })?;
        Ok(left.into_iter().map(|left| left.note).filter(|note| !note.is_empty()).collect())
    }

    /// Takes a block: [`Self::keep`], without a note, and [`Self::send`].
    pub fn submit(&self, solved: Solved) {
        self.send(self.keep(solved, &[]));
    }

    /// Writes a block to its file, a matter of a millisecond or two, and returns: from here on it survives the end of
    /// this process, and is sent at the next start if not before. `note` stays as long as it is not settled, for
    /// [`Self::notes`]. A disk that refuses is an alarm and no obstacle.
    pub fn keep(&self, solved: Solved, note: &[u8]) -> Kept {
        if !self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(solved.hash) {
            tracing::debug!(hash = %shown(&solved.hash), "block handed in again");
            return Kept(None);
        }
        if let Err(error) = keep::write(&self.0.dir, &solved.hash, &solved.block, note) {
            let hash = shown(&solved.hash);
            tracing::error!(hash, %error, what = "write", "the file of a found block: is the disk full?");
        }
        Kept(Some(solved))
    }

    /// Sends a block to every node in parallel and returns at once. Its file stays until a node has it in its best
    /// chain or all have called it invalid; meanwhile nodes that fail are tried again. What came of it is logged, and
    /// told by [`Self::outcomes`].
    pub fn send(&self, kept: Kept) {
        if let Some(solved) = kept.0 {
            self.follow(solved);
        }
    }

    /// What becomes of blocks from here on.
    pub fn outcomes(&self) -> broadcast::Receiver<Outcome> {
        self.0.outcomes.subscribe()
    }

    /// Waits until no block is on its way to any node, but no longer than `within`. Whether that is so.
    pub async fn settled(&self, within: Duration) -> bool {
        let mut under_way = self.0.under_way.subscribe();
        timeout(within, under_way.wait_for(|&count| count == 0)).await.is_ok()
    }

    fn follow(&self, solved: Solved) {
        let way = UnderWay::new(self.0.clone());
        self.0.runtime.spawn(async move { follow(&way.0, solved).await });
    }
}

impl Taken {
    /// Whether `hash` is new.
    fn insert(&mut self, hash: Hash) -> bool {
        let new = self.set.insert(hash);
        if new {
            self.order.push_back(hash);
        }
        if self.order.len() > Submitter::REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        new
    }
}

/// Counts one block as under way for as long as it lives.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn new(shared: Arc<Shared>) -> Self {
        shared.under_way.send_modify(|count| *count += 1);
        Self(shared)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|count| *count -= 1);
    }
}

/// One block, from the miner to its fate.
async fn follow(shared: &Arc<Shared>, solved: Solved) {
    let Solved { hash, height, block } = solved;
    let (block, text) = (Bytes::from(block), shown(&hash));
    tracing::info!(hash = %text, height, bytes = block.len(), "block found");
    let mut deliveries = JoinSet::new();
    for at in 0..shared.nodes.len() {
        let (shared, block) = (shared.clone(), block.clone());
        deliveries.spawn(async move {
            let (node, abreast) = &shared.nodes[at];
            let delivery = deliver(&**node, abreast, &shared.patience, &hash, &block).await;
            (node.name().to_owned(), delivery)
        });
    }
    let dir = shared.dir.clone();
    on_disk(&text, "secure", move || keep::secure(&dir, &hash)).await;
    drop(block);
    let mut verdict = Verdict::default();
    let mut told = false;
    while let Some(joined) = deliveries.join_next().await {
        let Ok((node, delivery)) = joined else {
            verdict.add(Delivery::GaveUp);
            continue;
        };
        tracing::debug!(hash = %text, node, ?delivery, "block delivered");
        if let Delivery::Refused(reason) = &delivery {
            tracing::error!(hash = %text, height, node, reason, "this node calls our block INVALID");
        }
        verdict.add(delivery);
        // The others are still being told, but the chain has it.
        if verdict.on_chain && !told {
            told = true;
            settle(shared, hash, height, Fate::OnChain).await;
        }
    }
    if !told {
        settle(shared, hash, height, verdict.fate()).await;
    }
}

/// What the nodes together say.
#[derive(Default)]
struct Verdict {
    on_chain: bool,
    off_chain: bool,
    gave_up: bool,
    refused: Option<String>,
}

impl Verdict {
    fn add(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::OnChain => self.on_chain = true,
            Delivery::OffChain => self.off_chain = true,
            Delivery::GaveUp => self.gave_up = true,
            Delivery::Refused(reason) => self.refused = Some(reason),
        }
    }

    /// One node that takes it is right against any that do not; one that never answered may be.
    fn fate(self) -> Fate {
        match self {
            Verdict { on_chain: true, .. } => Fate::OnChain,
            Verdict { off_chain: true, .. } => Fate::OffChain,
            Verdict { refused: Some(reason), gave_up: false, .. } => Fate::Refused(reason),
            _ => Fate::Undelivered,
        }
    }
}

/// Tells what became of a block, and marks its file so that it is not sent again without need.
async fn settle(shared: &Shared, hash: Hash, height: u32, fate: Fate) {
    let text = shown(&hash);
    match &fate {
        Fate::OnChain => tracing::info!(hash = %text, height, "our block is on the chain"),
        Fate::OffChain => tracing::warn!(hash = %text, height, "our block is valid but lost to another"),
        Fate::Refused(reason) => tracing::error!(hash = %text, height, reason, "our block is INVALID"),
        Fate::Undelivered => {
            tracing::error!(hash = %text, height, "no node took our block: it is sent again at the next start")
        }
    }
    let mark = match &fate {
        Fate::OnChain | Fate::OffChain => Some(keep::DONE),
        Fate::Refused(_) => Some(keep::REFUSED),
        Fate::Undelivered => None,
    };
    if let Some(mark) = mark {
        let dir = shared.dir.clone();
        on_disk(&text, "mark", move || keep::mark(&dir, &hash, mark)).await;
    }
    // Nobody listening is no error.
    let _ = shared.outcomes.send(Outcome { hash, height, fate });
}

/// Does file work off the threads that serve sockets. A full disk is an alarm; the block goes its way all the same.
async fn on_disk(hash: &str, what: &str, work: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)));
    if let Err(error) = done {
        tracing::error!(hash, %error, what, "the file of a found block: is the disk full?");
    }
}

impl fmt::Debug for Solved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Solved({} at {}, {} bytes)", shown(&self.hash), self.height, self.block.len())
    }
}

impl fmt::Debug for Submitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Submitter({} nodes, {})", self.0.nodes.len(), Path::display(&self.0.dir))
    }
}

#[cfg(test)]
mod tests;
