//! The current work: templates become jobs here, one per payout class, each encoded once for everybody.
//!
//! Every job has an id that this process never used before, and carries it in its coinbase beside a salt of this
//! process. So no two jobs ever ask for the same header: a miner that starts its nonces over with a new job id finds no
//! duplicates (C-34), and shares of before a restart cannot be handed in again after it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ledger::{Class, Coinbases, Origin, Pays, Worker};
use rand::RngExt;
use share::{Difficulty, Job};
use stratum::v1::Notify;
use template::{CoinbaseError, Output, Template};
use tokio::{sync::watch, time::Instant};

use crate::{
    memory::Memory,
    session::Pace,
    space::{EXTRANONCE1, EXTRANONCE2},
};
use frames::Frames;

pub mod frames;

/// Bytes of the whole extranonce, as nearly all have it: V1, standard channels, and extended ones that ask for no more.
pub const EXTRANONCE: usize = EXTRANONCE1 + EXTRANONCE2;

/// Makes postings out of templates. All sessions have it at hand.
pub struct Board {
    /// What workers had when they left.
    pub memory: Memory,
    coinbases: Coinbases,
    tag: String,
    salt: [u8; 4],
    last_id: AtomicU32,
}

/// One template as it is offered to miners.
pub struct Posting {
    board: Arc<Board>,
    /// Id of its jobs.
    pub id: u32,
    /// Counts the tips that this process has worked on: a job with another number is stale.
    pub tip: u64,
    /// The template behind it.
    pub template: Arc<Template>,
    /// Whether everybody is to have it at once, and not only by and by: there is a new tip, or at last there are
    /// transactions in the block.
    pub is_urgent: bool,
    /// When the template was first posted: its time goes on from there.
    since: Instant,
    /// The work of those whom the pool pays, which most pools' miners all are: read without a lock.
    pooled: OnceLock<Arc<Work>>,
    /// By class and size of the whole extranonce.
    classes: Mutex<HashMap<(Class, usize), Arc<Work>>>,
    /// By the same: the work under other ids.
    reissues: Mutex<HashMap<(Class, usize), Reissue>>,
}

/// The latest id that a posting's work was given out under beside its first, and how soon there may be another.
#[derive(Default)]
struct Reissue {
    latest: Option<Arc<Work>>,
    pace: Pace,
}

/// So many at once, and then one a second: those who ask share them.
const REISSUES: u64 = 8;

/// Most classes whose work a posting keeps for others of them: where each miner is a class of its own there are as many as
/// there are addresses, and those cost nothing. Beyond, each session has its own.
const CLASSES: usize = 20_000;

/// A job as one payout class has it.
pub struct Work {
    /// Job id: on the wire, and in the coinbase.
    pub id: u32,
    /// See [`Posting::tip`].
    pub tip: u64,
    /// What is hashed.
    pub job: Job,
    /// The job as V1 says it.
    pub notify: Notify,
    /// The job as V2 says it, once somebody asks.
    frames: OnceLock<Option<Frames>>,
    /// What else a block needs.
    pub template: Arc<Template>,
    /// What the coinbase pays: script and satoshi.
    pub outputs: Vec<(Vec<u8>, u64)>,
    /// What the ledger is to know of it, should it be a block.
    pub origin: Option<Origin>,
    /// Whose address the coinbase pays, where it pays the finder: a block of this job is found by nobody else, whoever
    /// hands it in.
    pub payee: Option<Worker>,
}

impl Board {
    /// `tag` stands in every coinbase; `coinbases` says whom it pays.
    pub fn new(coinbases: impl Into<Coinbases>, tag: String) -> Arc<Self> {
        let salt = rand::rng().random();
        let last_id = AtomicU32::new(rand::rng().random::<u32>() >> 1);
        let coinbases = coinbases.into();
        Arc::new(Self { memory: Memory::default(), coinbases, tag, salt, last_id })
    }

    /// Posts every template that comes, and the present one again each `repeat` (C-38), until `templates` closes. The
    /// same one sent again says only that it is good still. With no template, or none for `no_work` (a node that works
    /// gives one each `template::SourceConfig::refresh`, however quiet its chain is), there is no posting either (C-39).
    pub async fn run(
        self: Arc<Self>,
        mut templates: watch::Receiver<Option<Arc<Template>>>,
        repeat: Duration,
        no_work: Duration,
        postings: watch::Sender<Option<Arc<Posting>>>,
    ) {
        // Outlives a time without work: tips are counted on from it.
        let mut last: Option<Arc<Posting>> = None;
        let mut came = Instant::now();
        let mut due = came;
        loop {
            let template = templates.borrow_and_update().clone().filter(|_| came.elapsed() < no_work);
            let is_posted = |template| {
                let same = last.as_ref().is_some_and(|last| Arc::ptr_eq(&last.template, template));
                same && Instant::now() < due && postings.borrow().is_some()
            };
            if template.as_ref().is_some_and(is_posted) {
                // Nothing new.
            } else if let Some(template) = template {
                let posting = Arc::new(self.post(template, last.as_deref()));
                tracing::debug!(
                    height = posting.template.height,
                    id = posting.id,
                    tip = posting.tip,
                    "posted"
                );
                postings.send_replace(Some(posting.clone()));
                last = Some(posting);
                due = Instant::now() + repeat;
            } else {
                if postings.send_if_modified(|posting| posting.take().is_some()) {
                    tracing::error!(
                        "no fresh template: miners are let go, so that they turn to another pool"
                    );
                }
                due = Instant::now() + repeat;
            }
            let end = Some(came + no_work).filter(|&end| end > Instant::now());
            tokio::select! {
                changed = templates.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    came = Instant::now();
                }
                () = tokio::time::sleep_until(end.map_or(due, |end| end.min(due))) => {}
            }
        }
    }

    /// Whether the jobs of two workers pay into the same coinbase outputs.
    pub fn pays_alike(&self, one: &Worker, other: &Worker) -> bool {
        self.coinbases.class(one, Coinbases::SAFE_BYTES) == self.coinbases.class(other, Coinbases::SAFE_BYTES)
    }

    /// The payout class of `worker` with firmware that takes a coinbase of so many bytes (C-40): where the coinbase pays
    /// miners, it pays more of them.
    pub fn class(&self, worker: &Worker, coinbase_bytes: usize) -> Class {
        self.coinbases.class(worker, coinbase_bytes)
    }

    fn post(self: &Arc<Self>, template: Arc<Template>, before: Option<&Posting>) -> Posting {
        let same = before.filter(|before| Arc::ptr_eq(&before.template, &template));
        let tip = match before {
            Some(before) if before.template.prev_hash == template.prev_hash => before.tip,
            Some(before) => before.tip + 1,
            None => 0,
        };
        let is_empty = |posting: &Posting| posting.template.transaction_count == 0;
        let is_urgent = before
            .is_none_or(|before| before.tip != tip || (is_empty(before) && template.transaction_count > 0));
        Posting {
            board: self.clone(),
            id: self.next_id(),
            tip,
            is_urgent,
            since: same.map_or_else(Instant::now, |before| before.since),
            template,
            pooled: OnceLock::new(),
            classes: Mutex::default(),
            reissues: Mutex::default(),
        }
    }

    fn next_id(&self) -> u32 {
        self.last_id.fetch_add(1, Ordering::Relaxed)
    }
}

impl Posting {
    /// The work of the class that `worker` belongs to, with a coinbase that any firmware takes: built once, then shared.
    ///
    /// # Errors
    /// When no valid coinbase can be made of the operator's tag and the class's outputs.
    pub fn work(&self, worker: &Worker) -> Result<Arc<Work>, CoinbaseError> {
        self.work_of(&self.board.class(worker, Coinbases::SAFE_BYTES), worker, EXTRANONCE)
    }

    /// The work of `class`, which `worker` belongs to, with room for `size` bytes of extranonce.
    ///
    /// # Errors
    /// As [`Self::work`].
    pub fn work_of(&self, class: &Class, worker: &Worker, size: usize) -> Result<Arc<Work>, CoinbaseError> {
        let is_pooled = *class == Class::Pool && size == EXTRANONCE;
        if let (true, Some(work)) = (is_pooled, self.pooled.get()) {
            return Ok(work.clone());
        }
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (class.clone(), size);
        if let Some(work) = classes.get(&key) {
            return Ok(work.clone());
        }
        // The first has the id of the posting.
        let id = if size == EXTRANONCE { self.id } else { self.board.next_id() };
        let work = Arc::new(self.build(&key.0, worker, id, size)?);
        if is_pooled {
            let _ = self.pooled.set(work.clone());
        }
        if classes.len() < CLASSES {
            classes.insert(key, work.clone());
        }
        Ok(work)
    }

    /// The same under an id of its own: for a session that has this posting's work already.
    ///
    /// # Errors
    /// As [`Self::work`].
    pub fn work_again(
        &self,
        class: &Class,
        worker: &Worker,
        size: usize,
    ) -> Result<Arc<Work>, CoinbaseError> {
        Ok(Arc::new(self.build(class, worker, self.board.next_id(), size)?))
    }

    /// The same under a later id than `after`, shared by all that ask: as many channels as there may be must not make
    /// as many jobs. `None`: the latest that there is is no later, and it is too soon for another, or there are too many
    /// classes.
    ///
    /// # Errors
    /// As [`Self::work`].
    pub fn reissue(
        &self,
        class: &Class,
        worker: &Worker,
        size: usize,
        after: u32,
        now_ms: u64,
    ) -> Result<Option<Arc<Work>>, CoinbaseError> {
        let key = (class.clone(), size);
        let mut reissues = self.reissues.lock().unwrap_or_else(PoisonError::into_inner);
        if reissues.len() >= CLASSES && !reissues.contains_key(&key) {
            return Ok(None);
        }
        let Reissue { latest, pace } = reissues.entry(key).or_default();
        if let Some(work) = latest.as_ref().filter(|work| work.id > after) {
            return Ok(Some(work.clone()));
        }
        if !pace.allows(false, REISSUES, now_ms) {
            return Ok(None);
        }
        *latest = Some(self.work_again(class, worker, size)?);
        Ok(latest.clone())
    }

    /// Difficulty of a block on this posting.
    pub fn network_difficulty(&self) -> Difficulty {
        self.template.network_target.difficulty()
    }

    fn build(&self, class: &Class, worker: &Worker, id: u32, size: usize) -> Result<Work, CoinbaseError> {
        let (height, value) = (self.template.height, self.template.coinbase_value);
        let Pays { outputs: pays, origin } = self.board.coinbases.pays(class, worker, height, value);
        let outputs: Vec<Output> =
            pays.iter().map(|(script, sats)| Output { script: script.clone(), sats: *sats }).collect();
        let salt = [self.board.salt, id.to_be_bytes()].concat();
        let coinbase = template::coinbase(&self.template, &self.board.tag, &salt, &outputs, size)?;
        let mut job = self.template.job(coinbase);
        job.time = job.time.saturating_add(u32::try_from(self.since.elapsed().as_secs()).unwrap_or(0));
        let notify = Notify::new(&job);
        Ok(Work {
            id,
            tip: self.tip,
            job,
            notify,
            frames: OnceLock::new(),
            template: self.template.clone(),
            outputs: pays,
            origin,
            payee: matches!(class, Class::Miner(_)).then(|| worker.clone()),
        })
    }
}

/// How many jobs are remembered by who was given them, the stale ones too, so that a late share is told apart from nonsense.
const REMEMBERED: usize = 64;
/// As many of those that only one address has: each is 2 kB that nobody shares. The last of them is some minutes old.
const REMEMBERED_OWN: usize = 8;

impl Work {
    /// How many jobs like this one are remembered by a session.
    pub fn remembered(&self) -> usize {
        if self.payee.is_some() { REMEMBERED_OWN } else { REMEMBERED }
    }

    /// The job as V2 says it: encoded once, whoever asks first. `None` if V2 cannot say it.
    pub fn frames(&self) -> Option<&Frames> {
        self.frames.get_or_init(|| Frames::new(self)).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use ledger::{Scheme, Terms};

    use super::*;

    const REPEAT: Duration = Duration::from_secs(30);
    const NO_WORK: Duration = Duration::from_secs(120);

    fn template(prev: u8) -> Arc<Template> {
        Arc::new(Template {
            height: 7,
            prev_hash: [prev; 32],
            version: 0x2000_0000,
            bits: 0x1d00_ffff,
            network_target: share::Target::ONE,
            time: 1_700_000_000,
            min_time: 1_699_999_000,
            coinbase_value: 5_000_000_000,
            witness_commitment: None,
            transactions: bytes::Bytes::new(),
            transaction_count: 0,
            branch: Vec::new(),
            long_poll: None,
        })
    }

    type Templates = watch::Sender<Option<Arc<Template>>>;
    type Postings = watch::Receiver<Option<Arc<Posting>>>;

    fn run() -> (Templates, Postings) {
        let terms =
            Terms { scheme: Scheme::Solo, fee_ppm: 0, pool_script: vec![0x51], pool_address: String::new() };
        let (templates, source) = watch::channel(Some(template(1)));
        let (post, postings) = watch::channel(None);
        tokio::spawn(Board::new(terms, "/test/".into()).run(source, REPEAT, NO_WORK, post));
        (templates, postings)
    }

    async fn next(postings: &mut Postings) -> Option<Arc<Posting>> {
        postings.changed().await.unwrap();
        postings.borrow_and_update().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn c38_the_same_template_is_posted_again() {
        let (_templates, mut postings) = run();
        let worker = Worker::parse("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", bitcoin::Network::Regtest);
        let worker = worker.unwrap();
        let mut works = Vec::new();
        for _ in 0..3 {
            works.push(next(&mut postings).await.unwrap().work(&worker).unwrap());
        }
        assert!(works.windows(2).all(|pair| pair[0].id != pair[1].id && pair[0].tip == pair[1].tip));
        let times: Vec<u32> = works.iter().map(|work| work.job.time - 1_700_000_000).collect();
        assert_eq!(times, [0, 30, 60], "time goes on while no template comes");
        let text = |work: &Work| work.job.coinbase.prefix().to_vec();
        assert_ne!(text(&works[0]), text(&works[1]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_work_of_as_many_classes_as_there_are_addresses_is_not_kept() {
        let (_templates, mut postings) = run();
        let posting = next(&mut postings).await.unwrap();
        let worker = |number: usize| {
            let program = [&[0; 12], &number.to_be_bytes()[..]].concat();
            let program = bitcoin::WitnessProgram::new(bitcoin::WitnessVersion::V0, &program).unwrap();
            let script = bitcoin::ScriptBuf::new_witness_program(&program);
            let address = bitcoin::Address::from_script(&script, bitcoin::Network::Regtest).unwrap();
            Worker::parse(&address.to_string(), bitcoin::Network::Regtest).unwrap()
        };
        let class = |worker: &Worker| posting.board.class(worker, Coinbases::SAFE_BYTES);
        for number in 0..CLASSES + 10 {
            let (worker, again) = (worker(number), number + 5 >= CLASSES);
            let work = posting.work(&worker).unwrap();
            assert_eq!((work.id, work.outputs[0].0.as_slice()), (posting.id, worker.script()));
            let reissue =
                posting.reissue(&class(&worker), &worker, EXTRANONCE, work.id, number as u64 * 1000);
            assert_eq!(reissue.unwrap().is_some(), number < CLASSES);
            // What is not kept is made again, and the same.
            if again {
                let other = posting.work(&worker).unwrap();
                assert_eq!(Arc::ptr_eq(&other, &work), number < CLASSES);
                assert_eq!(other.job.coinbase.prefix(), work.job.coinbase.prefix());
            }
        }
        assert_eq!(posting.classes.lock().unwrap().len(), CLASSES);
        assert_eq!(posting.reissues.lock().unwrap().len(), CLASSES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_template_that_is_sent_again_is_no_new_work() {
        let (templates, mut postings) = run();
        let (start, first) = (Instant::now(), next(&mut postings).await.unwrap());
        let mut posted = 0;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            templates.send_modify(|_| ());
            while postings.has_changed().unwrap() {
                let posting = next(&mut postings).await.expect("it is good still");
                let age = start.elapsed().as_secs();
                assert!(age % 30 <= 2, "posted at {age} s");
                assert_eq!(posting.tip, first.tip);
                posted += 1;
            }
        }
        assert_eq!(posted, 200 / 30);
    }

    #[tokio::test(start_paused = true)]
    async fn c39_f01_there_is_no_posting_once_templates_are_old() {
        let (templates, mut postings) = run();
        let start = Instant::now();
        let first = next(&mut postings).await.unwrap();
        while next(&mut postings).await.is_some() {}
        assert_eq!(start.elapsed(), NO_WORK);
        // The nodes are back: on the same block, tips are counted on; on another one, jobs of before are stale.
        tokio::time::sleep(Duration::from_secs(1_000)).await;
        assert!(!postings.has_changed().unwrap(), "said once");
        templates.send_replace(Some(template(1)));
        assert_eq!(next(&mut postings).await.unwrap().tip, first.tip);
        templates.send_replace(None);
        assert!(next(&mut postings).await.is_none());
        templates.send_replace(Some(template(2)));
        assert_eq!(next(&mut postings).await.unwrap().tip, first.tip + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn c39_a_quiet_chain_is_no_dead_node() {
        let (templates, mut postings) = run();
        let start = Instant::now();
        // A node that works gives a template every now and then, though it be the same.
        let refreshed = async {
            loop {
                tokio::time::sleep(Duration::from_secs(20)).await;
                templates.send_replace(Some(template(1)));
            }
        };
        let kept = async {
            while start.elapsed() < Duration::from_secs(24 * 3600) {
                assert!(next(&mut postings).await.is_some());
            }
        };
        tokio::select! {
            () = refreshed => {}
            () = kept => {}
        }
        assert!(start.elapsed() >= Duration::from_secs(24 * 3600));
    }
}
