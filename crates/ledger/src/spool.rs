//! Shares on disk: what the pool acknowledges is written here first, and drained to the database from here.
//!
//! A directory holds `lock` (one process at a time), `identity` (a random id, and how often the spool was opened) and
//! segments `WWWWW-EEEEEEEENNNNNNNN.segment` (writer, then epoch and number in hex), append-only, see
//! [`crate::record`]. Every opening is a new epoch and begins new segments, so nothing is ever appended behind a
//! torn end, and no segment name is used twice, even after all segments have been drained and deleted.
//!
//! A segment that the database has is kept in `audit`, compressed, for as long as [`SpoolConfig::audit`] says.
//!
//! Bounded by [`SpoolConfig::max_bytes`]: when that much waits for the database, [`SpoolWriter::commit`] fails with
//! [`SpoolError::Full`] and the pool stops acknowledging shares; found blocks are still recorded.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::record::SLOT;

pub(crate) mod archive;
mod disk;
mod tail;
mod window;
mod writer;

pub use disk::Disk;
pub(crate) use tail::{Finished, Item, Position, Read, Reader};
pub use writer::{Named, SpoolWriter};

/// What a share survives once it has been acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// The end of this process, however it comes.
    #[default]
    Process,
    /// Power loss too: the disk is waited for, once for all shares of a turn.
    Power,
}

/// Bounds of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// A segment that has grown to this many bytes is closed.
    pub segment_bytes: u64,
    /// A segment that is so old is closed: until then nothing in it can be proven to anybody.
    pub segment_age: Duration,
    /// What an acknowledged share has survived.
    pub ack: Ack,
    /// How long drained segments are kept, compressed; zero: not at all.
    pub audit: Duration,
    /// How many bytes may wait for the database.
    pub max_bytes: u64,
    /// How many workers one writer remembers; when there are more, it starts to remember anew.
    pub workers: usize,
    /// Whether records are copied into files that are mapped into memory. A write(2) per commit costs more, but gives
    /// an error for a disk that dies, where a mapping ends the process.
    pub mapped: bool,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            segment_age: Duration::from_secs(600),
            ack: Ack::Process,
            audit: Duration::from_secs(30 * 86_400),
            max_bytes: 8 << 30,
            workers: 1 << 17,
            mapped: true,
        }
    }
}

/// Why a spool cannot be used, or has not taken what was pushed.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file system refuses.
    #[error("spool: cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// Another process holds the directory.
    #[error("spool {} is in use by another process; stop that one, or set another directory", .0.display())]
    Locked(PathBuf),
    /// The file that says which spool this is cannot be used.
    #[error("{path}: {reason}; restore it, or remove the whole directory if all of it is in the ledger", path = path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a writer of this number already.
    #[error("spool: writer {0} is open already")]
    Taken(u16),
    /// The disk has failed to keep what was written. What it has of that nobody knows, so trying again proves nothing.
    #[error(
        "spool: the disk cannot keep {path} ({source}); shares are not acknowledged any more: look at the disk, then start again",
        path = path.display()
    )]
    Lost {
        /// The segment.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// As much waits for the database as may.
    #[error(
        "the spool is full: {bytes} of {limit} bytes wait for the database; shares are not acknowledged until it is back"
    )]
    Full {
        /// Bytes on disk.
        bytes: u64,
        /// [`SpoolConfig::max_bytes`].
        limit: u64,
    },
}

/// An open spool. Clones share it; the directory is released when the last clone and the last writer are gone.
#[derive(Clone)]
pub struct Spool(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    id: [u8; 16],
    epoch: u32,
    config: SpoolConfig,
    segments: Mutex<BTreeMap<(u16, u64), Arc<Segment>>>,
    writers: Mutex<HashSet<u16>>,
    /// Number of the next segment of this epoch.
    next: AtomicU32,
    bytes: AtomicU64,
    /// Set for good when the disk has lost what it was told to keep.
    lost: AtomicBool,
    /// Makes a file's bytes outlive power loss. Tests put one here that fails.
    sync: fn(&File) -> io::Result<()>,
    /// Whether a database has been compared with this opening.
    compared: AtomicBool,
    /// Found blocks that have been pushed since the opening.
    found: AtomicU64,
    /// As it was seen last.
    disk: Mutex<Option<Disk>>,
    committed: Notify,
    block_committed: Notify,
    _lock: File,
}

/// A file of records, as its writer and its reader share it.
struct Segment {
    path: PathBuf,
    writer: u16,
    /// Epoch in the upper half, number in the lower.
    sequence: u64,
    /// How many bytes a reader may look at. The writer moves it after the write, never back.
    committed: AtomicU64,
    /// Set after the last `committed`.
    closed: AtomicBool,
}

impl Spool {
    /// Opens the spool in `dir`, creating it if there is none. Blocks on the file system.
    pub fn open(dir: &Path, config: SpoolConfig) -> Result<Self, SpoolError> {
        fs::create_dir_all(dir).map_err(failed("create directory", dir))?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SpoolError::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        let segments = segments(dir)?;
        let (id, epoch) = identity(dir, segments.keys().map(|(_, sequence)| sequence >> 32).max())?;
        let bytes = segments.values().map(|segment| segment.committed.load(Ordering::Relaxed)).sum();
        tracing::debug!(dir = %dir.display(), epoch, segments = segments.len(), bytes, "spool opened");
        Ok(Self(Arc::new(Shared {
            dir: dir.to_owned(),
            id,
            epoch,
            config,
            segments: Mutex::new(segments),
            writers: Mutex::default(),
            next: AtomicU32::new(1),
            bytes: AtomicU64::new(bytes),
            lost: AtomicBool::new(false),
            sync: File::sync_data,
            compared: AtomicBool::new(false),
            found: AtomicU64::new(0),
            disk: Mutex::default(),
            committed: Notify::new(),
            block_committed: Notify::new(),
            _lock: lock,
        })))
    }

    /// The writer of `shard`; one at a time each. Segments left by earlier writers of this number come before its own.
    pub fn writer(&self, shard: u16) -> Result<SpoolWriter, SpoolError> {
        if !lock(&self.0.writers).insert(shard) {
            return Err(SpoolError::Taken(shard));
        }
        Ok(SpoolWriter::new(self.0.clone(), shard))
    }

    /// Bytes on disk: what is not in the database yet, and segments still being written.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// How many found blocks have been pushed since the opening, committed or not.
    pub(crate) fn found(&self) -> u64 {
        self.0.found.load(Ordering::Acquire)
    }

    /// Which opening this is: the upper half of the numbers of its segments.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.epoch.into()
    }

    /// Names this spool in the database.
    pub(crate) fn id(&self) -> [u8; 16] {
        self.0.id
    }

    /// Whether `watermarks` can be of this spool as it was before this opening. If it has been put back to an older
    /// state, segment names come twice, and the database would take new ones for old. Asked once per opening.
    pub(crate) fn follows(&self, watermarks: &HashMap<u16, Position>) -> bool {
        let epoch = u64::from(self.0.epoch);
        self.0.compared.swap(true, Ordering::Relaxed)
            || watermarks.values().all(|at| at.segment >> 32 < epoch)
    }

    /// How long its segments are kept for audit.
    pub(crate) fn kept_for(&self) -> Duration {
        self.0.config.audit
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Waits for a commit; returns at once if there was one since the last wait.
    pub(crate) async fn committed(&self) {
        self.0.committed.notified().await;
    }

    /// Waits for a commit of a found block; returns at once if there was one since the last wait.
    pub(crate) async fn block_committed(&self) {
        self.0.block_committed.notified().await;
    }
}

impl Shared {
    /// A new segment, registered and with nothing in it.
    fn segment(&self, writer: u16) -> Result<(Arc<Segment>, File), SpoolError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let sequence = u64::from(self.epoch) << 32 | u64::from(number);
        let path = self.dir.join(format!("{writer:05}-{sequence:016x}.segment"));
        let options = File::options().read(true).write(true).create_new(true).open(&path);
        let file = options.map_err(failed("create", &path))?;
        if self.config.ack == Ack::Power {
            File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed("keep", &path))?;
        }
        let segment = Arc::new(Segment {
            path,
            writer,
            sequence,
            committed: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        lock(&self.segments).insert((writer, sequence), segment.clone());
        Ok((segment, file))
    }
}

fn segments(dir: &Path) -> Result<BTreeMap<(u16, u64), Arc<Segment>>, SpoolError> {
    let mut segments = BTreeMap::new();
    for file in fs::read_dir(dir).map_err(failed("list", dir))? {
        let path = file.map_err(failed("list", dir))?.path();
        let Some((writer, sequence)) = path.file_name().and_then(|name| parse_name(name.to_str()?)) else {
            continue;
        };
        let bytes = written(&path).map_err(failed("look at", &path))?;
        let (committed, closed) = (AtomicU64::new(bytes), AtomicBool::new(true));
        segments.insert((writer, sequence), Arc::new(Segment { path, writer, sequence, committed, closed }));
    }
    Ok(segments)
}

/// Where the records of a segment end that no writer has closed: behind its last slot that is not all zeroes. No record
/// ends with such a slot.
fn written(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut chunk = [0; 64 * SLOT];
    while end > 0 {
        let begin = (end - 1) / chunk.len() as u64 * chunk.len() as u64;
        let chunk = &mut chunk[..usize::try_from(end - begin).unwrap_or(0)];
        file.read_exact_at(chunk, begin)?;
        if let Some(last) = chunk.iter().rposition(|&byte| byte != 0) {
            return Ok(end.min(begin + (last / SLOT + 1) as u64 * SLOT as u64));
        }
        end = begin;
    }
    Ok(0)
}

/// The same of a file that has been read.
fn end(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|&byte| byte != 0);
    last.map_or(0, |last| bytes.len().min((last / SLOT + 1) * SLOT))
}

fn parse_name(name: &str) -> Option<(u16, u64)> {
    let (writer, sequence) = name.strip_suffix(".segment")?.split_once('-')?;
    Some((writer.parse().ok()?, u64::from_str_radix(sequence, 16).ok()?))
}

/// Reads which spool this is and counts the opening, durably: a segment name must never come twice, since the
/// database knows by it what it has.
fn identity(dir: &Path, newest: Option<u64>) -> Result<([u8; 16], u32), SpoolError> {
    let path = dir.join("identity");
    let wrong = |reason: &str| SpoolError::Identity { path: path.clone(), reason: reason.to_owned() };
    let (id, epoch) = match fs::read_to_string(&path) {
        Ok(text) => parse_identity(&text).ok_or_else(|| wrong("not the identity of a spool"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && newest.is_none() => (random()?, 0),
        Err(error) => return Err(wrong(&format!("cannot be read ({error}) though there are segments"))),
    };
    if newest.is_some_and(|newest| newest > u64::from(epoch)) {
        return Err(wrong("older than the segments beside it"));
    }
    let epoch =
        epoch.checked_add(1).filter(|&epoch| epoch < 1 << 31).ok_or_else(|| wrong("opened too often"))?;
    let fresh = dir.join("identity.new");
    let mut file = File::create(&fresh).map_err(failed("create", &fresh))?;
    writeln!(file, "{} {epoch}", hex::encode(id))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&fresh, &path))
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(failed("write", &path))?;
    Ok((id, epoch))
}

fn parse_identity(text: &str) -> Option<([u8; 16], u32)> {
    let (id, epoch) = text.trim_end().split_once(' ')?;
    Some((hex::decode(id).ok()?.try_into().ok()?, epoch.parse().ok()?))
}

/// Which spool is in `dir`; `None` if none is.
pub(crate) fn id_of(dir: &Path) -> Option<[u8; 16]> {
    parse_identity(&fs::read_to_string(dir.join("identity")).ok()?).map(|(id, _)| id)
}

fn random() -> Result<[u8; 16], SpoolError> {
    let path = Path::new("/dev/urandom");
    let mut id = [0; 16];
    File::open(path).and_then(|mut file| file.read_exact(&mut id)).map_err(failed("read", path))?;
    Ok(id)
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError::Io { action, path: path.clone(), source }
}

/// Nothing that holds these locks can leave its map half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
