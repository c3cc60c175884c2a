//! The writing end: pushes into a buffer, and one copy into the segment per commit: into a window of the file in memory,
//! or, where there can be none, by write(2).

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
    time::{Instant, SystemTime},
};

use super::{Ack, Segment, Shared, SpoolError, failed, lock, window::Window};
use crate::{
    Found, RejectRecord, ShareRecord, Worker, WorkerId,
    record::{self, Entry, Reading},
};

/// Writes the records of one shard. Pushes only fill a buffer; the caller commits once per batch of lines that it has
/// read, before it replies. Dropping the writer drops what is not committed.
pub struct SpoolWriter {
    shared: Arc<Shared>,
    shard: u16,
    open: Option<Open>,
    buffer: Vec<u8>,
    workers: foldhash::HashMap<WorkerId, Known>,
    /// One per segment, and another after a commit that failed. A worker whose generation is another may not be in the
    /// segment.
    generation: u64,
    /// Workers whose identity is in the buffer.
    fresh: Vec<WorkerId>,
    /// Time of the newest share, milliseconds since 1970.
    latest_ms: u64,
    /// Found blocks in the buffer, each with its finder's identity: they stay when a commit fails.
    found: Vec<Vec<u8>>,
    /// Whether the last commit failed.
    is_full: bool,
}

struct Open {
    segment: Arc<Segment>,
    file: File,
    /// Time of its first share, and when it was begun by a clock that nobody puts back.
    first_ms: Option<u64>,
    since: Instant,
    offset: u64,
    /// Of the file: it is made longer many records ahead. What is not written yet reads as zeroes, and is cut off when
    /// the segment is closed.
    length: u64,
    /// The file's bytes up to `length` that are not written yet, in memory; without it they are written by write(2).
    window: Option<Window>,
    mapped: bool,
}

struct Known {
    identity: Box<str>,
    /// 0: never written.
    generation: u64,
}

/// Up to where a worker is known to be named in the segments of one writer: kept beside the worker by who pushes its shares,
/// so that no share has to look it up. The default: nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named(u64);

/// The most found blocks that are kept for the next commit; the oldest goes first. Blocks are rare: this many
/// unwritten ones mean that the disk has been gone for days.
const MOST_FOUND: usize = 64;

/// By how many bytes a segment's file grows at a time.
pub(super) const AHEAD: u64 = 1 << 18;

impl SpoolWriter {
    pub(super) fn new(shared: Arc<Shared>, shard: u16) -> Self {
        Self {
            shared,
            shard,
            open: None,
            buffer: Vec::new(),
            workers: foldhash::HashMap::default(),
            generation: 1,
            fresh: Vec::new(),
            latest_ms: 0,
            found: Vec::new(),
            is_full: false,
        }
    }

    /// Makes `worker` known, so that records may name it by its id. Cheap when it is known already; call it whenever a
    /// worker is authorised.
    pub fn worker(&mut self, worker: &Worker) {
        if self.workers.contains_key(&worker.id()) {
            return;
        }
        if self.workers.len() >= self.shared.config.workers {
            self.forget();
        }
        let identity = format!("{}.{}", worker.address(), worker.name()).into();
        self.workers.insert(worker.id(), Known { identity, generation: 0 });
    }

    /// Pushes an accepted share of a worker that is known.
    pub fn share(&mut self, share: &ShareRecord) {
        self.identify(share.worker);
        self.push_share(share);
    }

    /// Pushes an accepted share of `worker`, whether or not that is known; `named` is what the last call for it with this
    /// writer returned.
    pub fn share_of(&mut self, worker: &Worker, share: &ShareRecord, named: Named) -> Named {
        let here = Named(self.generation);
        if named != here && !self.identify(share.worker) {
            self.worker(worker);
            self.identify(share.worker);
        }
        self.push_share(share);
        here
    }

    fn push_share(&mut self, share: &ShareRecord) {
        self.latest_ms = share.time_ms;
        share.write(&mut self.buffer);
    }

    /// Pushes a count of refused submissions.
    pub fn rejects(&mut self, rejects: &RejectRecord) {
        self.identify(rejects.worker);
        rejects.write(&mut self.buffer);
    }

    /// Pushes a found block. The winning share, if it counts, comes before it. Should the commit fail, the block is
    /// kept and written by the next one that succeeds. Returned is what [`Self::found_again`] takes.
    pub fn found(&mut self, found: &Found) -> Vec<u8> {
        let mut record = Vec::new();
        if let Some(known) = self.workers.get(&found.worker) {
            record::write_worker(&known.identity, &mut record);
        }
        found.write(&mut record);
        self.push_found(record.clone());
        record
    }

    /// Pushes a found block whose record may not have got into the spool: one that the ledger has changes nothing there.
    /// Whether `record` is one that [`Self::found`] returned.
    pub fn found_again(&mut self, record: Vec<u8>) -> bool {
        let mut rest = &record[..];
        let mut has_block = false;
        while !rest.is_empty() {
            match record::read(rest) {
                Reading::Entry { entry: entry @ (Entry::Worker(_) | Entry::Found(_)), size } => {
                    has_block |= matches!(entry, Entry::Found(_));
                    rest = rest.get(size..).unwrap_or_default();
                }
                _ => return false,
            }
        }
        if has_block {
            self.push_found(record);
        }
        has_block
    }

    fn push_found(&mut self, record: Vec<u8>) {
        self.shared.found.fetch_add(1, Ordering::Release);
        self.buffer.extend(&record);
        if self.found.len() == MOST_FOUND {
            self.found.remove(0);
            tracing::error!(
                "a found block is lost to the ledger: the spool has refused {MOST_FOUND} of them"
            );
        }
        self.found.push(record);
    }

    /// Writes all that was pushed since the last commit. After `Ok` it survives what [`super::SpoolConfig::ack`] says. After
    /// an error nothing of it counts, but found blocks are kept: see [`Self::found`].
    pub fn commit(&mut self) -> Result<(), SpoolError> {
        if self.buffer.is_empty() {
            let age = self.shared.config.segment_age;
            if self.open.as_ref().is_some_and(|open| open.since.elapsed() >= age) {
                self.close();
            }
            return Ok(());
        }
        let written = self.write();
        self.told(&written);
        match written {
            Ok(()) => {
                self.buffer.clear();
                self.shared.committed.notify_one();
                if !self.found.is_empty() {
                    self.found.clear();
                    self.shared.block_committed.notify_one();
                }
            }
            Err(_) => {
                self.buffer = self.found.concat();
                for id in &self.fresh {
                    self.workers.entry(*id).and_modify(|known| known.generation = 0);
                }
                // Whoever has been told that its worker is named may have been told too early.
                self.generation += 1;
            }
        }
        self.fresh.clear();
        written
    }

    fn write(&mut self) -> Result<(), SpoolError> {
        let (bytes, limit) = (self.shared.bytes.load(Ordering::Relaxed), self.shared.config.max_bytes);
        if self.found.is_empty() && bytes.saturating_add(self.buffer.len() as u64) > limit {
            return Err(SpoolError::Full { bytes, limit });
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(begin(&self.shared, self.shard)?),
        };
        let config = &self.shared.config;
        if self.shared.lost.load(Ordering::Relaxed) {
            return self.write_found();
        }
        open.append(&self.buffer, &self.shared)?;
        self.shared.bytes.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
        let first = match self.latest_ms {
            0 => 0, // no share yet
            latest => *open.first_ms.get_or_insert(latest),
        };
        let age = u128::from(self.latest_ms.saturating_sub(first));
        if open.offset >= config.segment_bytes || age >= config.segment_age.as_millis() {
            self.close();
        }
        Ok(())
    }

    /// On a disk that has lost data no share counts any more. A block is worth the attempt.
    fn write_found(&mut self) -> Result<(), SpoolError> {
        let blocks = self.found.concat();
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(begin(&self.shared, self.shard)?),
        };
        if !blocks.is_empty() {
            open.store(&blocks)?;
            open.publish(blocks.len());
            self.shared.bytes.fetch_add(blocks.len() as u64, Ordering::Relaxed);
            self.found.clear();
            self.shared.committed.notify_one();
            self.shared.block_committed.notify_one();
        }
        let source = std::io::Error::other("an earlier attempt has failed");
        Err(SpoolError::Lost { path: open.segment.path.clone(), source })
    }

    /// Says once that the spool stopped taking shares, and once that it takes them again.
    fn told(&mut self, written: &Result<(), SpoolError>) {
        match (written, std::mem::replace(&mut self.is_full, written.is_err())) {
            (Ok(()), true) => tracing::info!(shard = self.shard, "the spool takes shares again"),
            (Err(error), false) => tracing::error!(shard = self.shard, %error, "the spool takes no shares"),
            _ => {}
        }
    }

    /// Pushes who has this id, unless the segment says so already. Whether that is known.
    fn identify(&mut self, id: WorkerId) -> bool {
        let Some(known) = self.workers.get_mut(&id) else { return false };
        if known.generation != self.generation {
            known.generation = self.generation;
            record::write_worker(&known.identity, &mut self.buffer);
            self.fresh.push(id);
        }
        true
    }

    /// Those that were never written must be, since the database learns of them only here.
    fn forget(&mut self) {
        for known in self.workers.values().filter(|known| known.generation == 0) {
            record::write_worker(&known.identity, &mut self.buffer);
        }
        self.workers.clear();
    }

    fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.window = None; // nothing is mapped that will be cut off
            // Should this fail: the reader looks for the end by itself.
            let _ = open.file.set_len(open.offset);
            open.segment.closed.store(true, Ordering::Release);
            self.generation += 1;
        }
    }
}

fn begin(shared: &Arc<Shared>, shard: u16) -> Result<Open, SpoolError> {
    let (segment, file) = shared.segment(shard)?;
    let mapped = shared.config.mapped;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let created_ms = u64::try_from(now.as_millis()).unwrap_or_default();
    let since = Instant::now();
    let first_ms = None;
    let mut open = Open { segment, file, first_ms, since, offset: 0, length: 0, window: None, mapped };
    let head =
        record::Segment { spool: shared.id, writer: shard, sequence: open.segment.sequence, created_ms };
    let mut record = Vec::new();
    head.write(&mut record);
    let written = open.store(&record);
    if written.is_ok() {
        open.publish(record.len());
    } else {
        open.segment.closed.store(true, Ordering::Release); // empty: the drain deletes it
    }
    written?;
    shared.bytes.fetch_add(record.len() as u64, Ordering::Relaxed);
    Ok(open)
}

impl Open {
    /// Stores what the reader may then see, in the way that an acknowledgement needs.
    fn append(&mut self, bytes: &[u8], shared: &Shared) -> Result<(), SpoolError> {
        self.store(bytes)?;
        if shared.config.ack == Ack::Power
            && let Err(source) = (shared.sync)(&self.file)
        {
            // What the disk has of it is unknown, and a second attempt would say yes to what the first has thrown away.
            shared.lost.store(true, Ordering::Relaxed);
            return Err(SpoolError::Lost { path: self.segment.path.clone(), source });
        }
        self.publish(bytes.len());
        Ok(())
    }

    fn store(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let end = self.offset + bytes.len() as u64;
        if end > self.length {
            self.lengthen(end)?;
        }
        let copied = self.window.as_mut().is_some_and(|window| window.write(self.offset, bytes));
        if !copied && let Err(source) = self.file.write_all_at(bytes, self.offset) {
            // What was half written is written over by the next commit; cut, it cannot be read after a crash either.
            self.window = None;
            let _ = self.file.set_len(self.offset);
            self.length = self.offset;
            return Err(failed("write", &self.segment.path)(source));
        }
        Ok(())
    }

    fn publish(&mut self, bytes: usize) {
        self.offset += bytes as u64;
        self.segment.committed.store(self.offset, Ordering::Release);
    }

    /// Makes the file longer than `end`. Where no window can be had, since the disk is all but full or the file system
    /// has none to give, a write may still find room.
    fn lengthen(&mut self, end: u64) -> Result<(), SpoolError> {
        self.window = None;
        let length = end.next_multiple_of(AHEAD);
        if self.mapped {
            self.window = Window::open(&self.file, self.offset, length).ok();
        }
        if self.window.is_none() {
            self.file.set_len(length).map_err(failed("lengthen", &self.segment.path))?;
        }
        self.length = length;
        Ok(())
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        self.close();
        lock(&self.shared.writers).remove(&self.shard);
        self.shared.committed.notify_one();
    }
}
