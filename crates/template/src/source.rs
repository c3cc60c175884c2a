//! Keeps a fresh template of every node at hand and publishes that of the node that leads.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use share::Hash;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{self, Instant, MissedTickBehavior},
};

use crate::{Node, NodeError, Template, Tip};
use leader::{Change, Leadership};

mod leader;

/// How fresh is fresh, and how patient we are with nodes.
#[derive(Clone, Copy, Debug)]
pub struct SourceConfig {
    /// A template is replaced at this age, even if nothing has changed.
    pub refresh: Duration,
    /// A node whose template is older does not lead.
    pub max_age: Duration,
    /// How often each node is asked for its best block.
    pub poll: Duration,
    /// How long a node must have been well to take the lead back from one that works.
    pub settle: Duration,
    /// How long the leading node may be behind another before it loses the lead. What is mined is the best all the same.
    pub lag: Duration,
    /// A node that does not say its best block for so long has fallen silent.
    pub silence: Duration,
    /// On the same tip a template is handed out only if it is worth so much more, in satoshi,
    pub gain: u64,
    /// and at most so often.
    pub pace: Duration,
}

impl Default for SourceConfig {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            refresh: s(20),
            max_age: s(30),
            poll: s(1),
            settle: s(10),
            lag: s(2),
            silence: Duration::from_millis(2500),
            gain: 5_000,
            pace: s(10),
        }
    }
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// [`Node::name`].
    pub name: String,
    /// "well", "starting", or what is wrong.
    pub state: String,
    /// Whether its last answers were no errors, and it has given a template.
    pub is_well: bool,
    /// Whether miners work on its template.
    pub leads: bool,
    /// Its best block, as last heard.
    pub tip: Option<Tip>,
    /// How long ago its last template came.
    pub template_age: Option<Duration>,
    /// How often each kind of error was heard from it: [`NodeError::kind`].
    pub faults: Vec<(&'static str, u64)>,
}

/// The templates of some nodes, made into one stream. Dropping it ends its tasks.
pub struct Source {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

struct Shared {
    config: SourceConfig,
    leadership: Mutex<Leadership>,
    /// A watch holds the latest only: who is slow to look misses what was replaced, which nobody should mine on.
    published: watch::Sender<Option<Arc<Template>>>,
    posts: Vec<Post>,
}

/// What is kept per node.
struct Post {
    node: Arc<dyn Node>,
    /// Its chain has moved: a new template is due. One permit: ten blocks at once cost one question.
    moved: Notify,
    /// It has given a template: there is something to wait upon.
    given: Notify,
}

impl Source {
    /// Starts to ask `nodes`, the preferred one first. Must be called within a tokio runtime.
    pub fn start(nodes: Vec<Arc<dyn Node>>, config: SourceConfig) -> Source {
        let names = nodes.iter().map(|node| node.name().to_owned()).collect();
        let post = |node| Post { node, moved: Notify::new(), given: Notify::new() };
        let shared = Arc::new(Shared {
            config,
            leadership: Mutex::new(Leadership::new(names, config)),
            published: watch::Sender::new(None),
            posts: nodes.into_iter().map(post).collect(),
        });
        let tasks = (0..shared.posts.len()).flat_map(|at| {
            [
                tokio::spawn(poll(shared.clone(), at)).abort_handle(),
                tokio::spawn(fetch(shared.clone(), at)).abort_handle(),
                tokio::spawn(long_poll(shared.clone(), at)).abort_handle(),
                tokio::spawn(listen(shared.clone(), at)).abort_handle(),
            ]
        });
        Source { tasks: tasks.collect(), shared }
    }

    /// The template to work on; `None` until the first one has come. The same one again says that it is good still. When all nodes fail the last one stays: how old
    /// it may get is for the pool to say ([`Self::status`] tells ages).
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Template>>> {
        self.shared.published.subscribe()
    }

    /// Each node, in order of preference.
    pub fn status(&self) -> Vec<NodeStatus> {
        self.shared.leadership().status(Instant::now())
    }

    /// Ends all requests. The last template stays published.
    pub fn stop(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shared.posts.iter().map(|post| post.node.name())).finish()
    }
}

impl Shared {
    fn leadership(&self) -> MutexGuard<'_, Leadership> {
        self.leadership.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a node's answer change who leads, and publishes what follows.
    fn update<R>(&self, change: impl FnOnce(&mut Leadership, Instant) -> R) -> R {
        let (now, mut leadership) = (Instant::now(), self.leadership());
        let result = change(&mut leadership, now);
        for change in leadership.elect(now) {
            match change {
                Change::Leads(name) => tracing::info!(node = %name, "this node's templates are mined"),
                Change::Leaderless => {
                    tracing::error!("no node gives templates: miners keep the work that they have")
                }
                Change::Publish(template) => {
                    tracing::debug!(
                        height = template.height,
                        transactions = template.transaction_count,
                        "template"
                    );
                    self.published.send_replace(Some(template));
                }
                Change::Confirm(template) => _ = self.published.send_replace(Some(template)),
            }
        }
        result
    }
}

/// Asks for the best block again and again: whether the node is alive, and whether a template is due. This backs up
/// what the node announces by itself, which may be silently dead (F-08).
async fn poll(shared: Arc<Shared>, at: usize) {
    let post = &shared.posts[at];
    let mut ticks = time::interval(shared.config.poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let silence = shared.config.silence;
        let answer = time::timeout(silence, post.node.look()).await;
        let answer = answer.unwrap_or(Err(NodeError::Timeout(silence)));
        let tip = answer.as_ref().ok().map(|look| look.tip.hash);
        if shared.update(|leadership, now| leadership.look(at, now, answer)) {
            hurry(&shared, at, tip).await;
        }
    }
}

/// Hears what the node announces.
async fn listen(shared: Arc<Shared>, at: usize) {
    loop {
        let tip = shared.posts[at].node.announced().await;
        if shared.leadership().is_news(at, &tip) {
            hurry(&shared, at, Some(tip)).await;
        }
    }
}

/// How long the full template waits for the empty one.
const HEAD_START: Duration = Duration::from_millis(5);

/// How long the full template has, from when an empty one is at hand.
const STAND_IN: Duration = Duration::from_millis(4);

/// An empty template that takes longer than this is of no use, and whether the node is silent is to be found out elsewhere.
const USELESS: Duration = Duration::from_millis(500);

/// Has a template asked for, and stands in for it with one that can be had at once.
async fn hurry(shared: &Shared, at: usize, tip: Option<Hash>) {
    let post = &shared.posts[at];
    // The empty one first: behind the full one it would wait until the node has gone through its mempool.
    let empty = async {
        match tip {
            Some(tip) => post.node.empty(&tip).await,
            None => Ok(None),
        }
    };
    tokio::pin!(empty);
    let soon = time::timeout(HEAD_START, &mut empty).await;
    post.moved.notify_one();
    let empty = match soon {
        Ok(empty) => Ok(empty),
        Err(_) => time::timeout(USELESS, empty).await,
    };
    match empty {
        Ok(Ok(Some(template))) => {
            // The full one may be here in a moment: then nobody needs to be told twice.
            time::sleep(STAND_IN).await;
            shared.update(|leadership, now| leadership.stand_in(at, now, template));
        }
        Ok(Ok(None)) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(node = post.node.name(), %error, "no empty template"),
    }
}

/// Asks for a template when the chain has moved, and before the last one gets old.
async fn fetch(shared: Arc<Shared>, at: usize) {
    let post = &shared.posts[at];
    let mut patience = Backoff::new();
    loop {
        let asked = Instant::now();
        match post.node.template(None).await.and_then(sound) {
            Ok(template) => {
                patience = Backoff::new();
                let clock = ahead(&template);
                let taken = shared.update(|leadership, now| {
                    leadership.clock(at, now, clock);
                    leadership.template(at, asked, now, template)
                });
                post.given.notify_one();
                if !taken {
                    continue;
                }
            }
            Err(e) => {
                shared.update(|leadership, _| leadership.template_failed(at, &e));
                tokio::select! {
                    () = time::sleep(patience.next()) => {}
                    () = post.moved.notified() => {}
                }
                continue;
            }
        }
        loop {
            // The long poll may have brought a younger one meanwhile, which puts this off.
            let due = shared.leadership().received(at).map(|received| received + shared.config.refresh);
            tokio::select! {
                () = time::sleep_until(due.unwrap_or(asked)) => {
                    let received = shared.leadership().received(at);
                    if received.is_none_or(|received| received.elapsed() >= shared.config.refresh) {
                        break;
                    }
                }
                () = post.moved.notified() => break,
            }
        }
    }
}

/// A block more than two hours ahead is refused by every node whose clock is right: work on it is for nothing.
const FUTURE: i64 = 7200;

/// The template, if blocks of it can be taken by others.
fn sound(template: Template) -> Result<Template, NodeError> {
    match ahead(&template) {
        by if by > FUTURE => Err(NodeError::Template(format!(
            "its time is {by} s ahead of our clock, and all other nodes would refuse its blocks: set both clocks by NTP"
        ))),
        _ => Ok(template),
    }
}

/// By how many seconds the clock of the node that just gave `template` is ahead of ours. The time of a template is never
/// before its node's clock, but after it where the chain's own time is; over the mining interface (without a long
/// poll) that cannot be told apart.
fn ahead(template: &Template) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let ahead = i64::from(template.time).saturating_sub_unsigned(now);
    let is_the_chains = template.time <= template.min_time && template.long_poll.is_some();
    if is_the_chains { ahead.min(0) } else { ahead }
}

/// Waits at the node for a better template than the last.
async fn long_poll(shared: Arc<Shared>, at: usize) {
    let post = &shared.posts[at];
    let mut patience = Backoff::new();
    // The id that was waited upon in vain. A node does not notice that we have left: it keeps a thread busy for each
    // wait until something happens. To wait again for the same thing would use up its threads.
    let mut spent = None;
    // The first id. As long as it is the only one, nothing has happened on this node since we came: on a quiet chain a
    // wait may never end, and each pool that is killed while it waits leaves a thread of the node behind for ever.
    let mut first = None;
    loop {
        let Some(id) = shared.leadership().long_poll(at).filter(|id| spent.as_ref() != Some(id)) else {
            post.given.notified().await;
            continue;
        };
        if first.get_or_insert_with(|| id.clone()) == &id {
            post.given.notified().await;
            continue;
        }
        let asked = Instant::now();
        match post.node.template(Some(&id)).await.and_then(sound) {
            Ok(template) => {
                patience = Backoff::new();
                let useless = template.long_poll.as_deref() == Some(&id);
                let clock = ahead(&template);
                let taken = shared.update(|leadership, now| {
                    leadership.clock(at, now, clock);
                    leadership.template(at, asked, now, template)
                });
                if !taken {
                    post.moved.notify_one();
                }
                // What returns at once with the same id is no long poll.
                if useless {
                    time::sleep(shared.config.poll).await;
                }
            }
            Err(NodeError::Timeout(_)) => spent = Some(id),
            Err(e) => {
                // Whether the node is well, the other two say.
                tracing::debug!(node = post.node.name(), error = %e, "long poll ended");
                time::sleep(patience.next()).await;
            }
        }
    }
}

/// Waits between attempts: a quarter of a second first, then twice as long each time, at most 4 s, for ever.
struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(250);
    const LAST: Duration = Duration::from_secs(4);

    fn new() -> Self {
        Self(Self::FIRST)
    }

    fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(Self::LAST);
        wait
    }
}

#[cfg(test)]
mod tests;
