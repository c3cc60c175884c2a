//! The reading end: the records of all writers, each writer's in its order, and among writers the oldest first.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{
    Segment, Shared, Spool, SpoolError,
    archive::{PRUNE, RETRY},
    failed, lock,
};
use crate::{
    proof::{Digested, Name},
    record::{self, Entry, MAX_PAYLOAD, Reading, SLOT},
};

/// How far the records of a writer have been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub segment: u64,
    pub offset: u64,
}

/// A piece of a segment.
#[derive(Debug)]
pub(crate) struct Read {
    pub writer: u16,
    /// Where it begins.
    pub from: Position,
    /// Bytes to the next piece.
    pub length: u64,
    pub item: Item,
}

impl Read {
    /// Where the next piece begins.
    pub fn end(&self) -> Position {
        Position { segment: self.from.segment, offset: self.from.offset + self.length }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Entry(Entry),
    /// Written as it stands, but it makes no sense.
    Refused {
        reason: &'static str,
        record: Vec<u8>,
    },
    /// Not records.
    Unreadable {
        /// Whether it may have been a found block.
        may_be_found: bool,
    },
    /// The end of a segment whose writer was killed while it wrote. Nobody was told that this is stored.
    Torn,
}

impl Item {
    /// The record, if it is a good one.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            _ => None,
        }
    }
}

/// Reads all writers of a spool.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    start: HashMap<u16, Position>,
    tails: BTreeMap<u16, Tail>,
    /// Not before then is tried again what could not be archived.
    retry: Option<Instant>,
    pruned: Option<Instant>,
}

/// A segment that has been read to its end, and what was in it.
pub(crate) struct Finished {
    pub name: Name,
    pub digested: Digested,
}

/// A segment behind the reader.
struct Done {
    segment: Arc<Segment>,
    /// It holds something that is no record: keep the file for somebody to look at.
    faulty: bool,
    /// The database has its seal, or gets it with the next transaction.
    sealed: bool,
}

/// Reads one writer.
struct Tail {
    shared: Arc<Shared>,
    writer: u16,
    at: Position,
    open: Option<(Arc<Segment>, File)>,
    /// Its first `chunk_size` bytes are those of the segment from `chunk_at` on. It never gets shorter, since making it longer
    /// again would write zeroes over all of it.
    chunk: Vec<u8>,
    chunk_size: usize,
    chunk_at: u64,
    head: Option<Read>,
    /// Read to the end, but not yet known to be in the database.
    finished: Vec<Done>,
    /// The open segment holds something that is no record.
    faulty: bool,
}

/// What is read of a file at a time, in bytes: little enough to stay in the nearer caches until its records are made of it.
const CHUNK: usize = 64 << 10;

impl Reader {
    /// Reads on from `start`, the position per writer that the database has; other writers from their beginning.
    pub fn new(spool: &Spool, start: HashMap<u16, Position>) -> Self {
        Self { shared: spool.0.clone(), start, tails: BTreeMap::new(), retry: None, pruned: None }
    }

    /// At most `limit` pieces, and fewer only when there are no more at present. Blocks on the file system.
    #[cfg(test)]
    pub fn read(&mut self, limit: usize) -> Result<Vec<Read>, SpoolError> {
        let mut batch = Vec::new();
        self.read_into(&mut batch, limit)?;
        Ok(batch)
    }

    /// Puts pieces into `batch` until there are `limit` in it, or no more at present. Blocks on the file system.
    pub fn read_into(&mut self, batch: &mut Vec<Read>, limit: usize) -> Result<(), SpoolError> {
        let writers: Vec<u16> = {
            let segments = lock(&self.shared.segments);
            segments
                .keys()
                .map(|(writer, _)| *writer)
                .filter(|writer| !self.tails.contains_key(writer))
                .collect()
        };
        for writer in writers {
            let at = self.start.get(&writer).copied().unwrap_or_default();
            self.tails.entry(writer).or_insert_with(|| Tail::new(self.shared.clone(), writer, at));
        }
        while batch.len() < limit {
            let mut oldest: Option<(u64, &mut Tail)> = None;
            for tail in self.tails.values_mut() {
                if let Some(time) = tail.peek()?
                    && oldest.as_ref().is_none_or(|(other, _)| time < *other)
                {
                    oldest = Some((time, tail));
                }
            }
            match oldest.and_then(|(_, tail)| tail.head.take()) {
                Some(read) => batch.push(read),
                None => break,
            }
        }
        Ok(())
    }

    /// The segments that [`Self::read_into`] has left behind, for the transaction that has the last of their records; each
    /// once. Blocks on the file system.
    pub fn finished(&mut self) -> Result<Vec<Finished>, SpoolError> {
        let mut finished = Vec::new();
        for tail in self.tails.values_mut() {
            for done in tail.finished.iter_mut().filter(|done| !done.sealed) {
                let Segment { path, writer, sequence, committed, .. } = &*done.segment;
                let mut bytes = fs::read(path).map_err(failed("read", path))?;
                bytes.truncate(usize::try_from(committed.load(Ordering::Acquire)).unwrap_or(usize::MAX));
                let name = Name { spool: self.shared.id, writer: *writer, segment: *sequence };
                finished.push(Finished { name, digested: Digested::of(&bytes, name) });
                done.sealed = true;
            }
        }
        Ok(finished)
    }

    /// Puts away what has been read to its end: into the archive, if there is to be one. To be called when all that
    /// [`Self::read_into`] and [`Self::finished`] gave is in the database.
    pub fn release(&mut self) {
        let now = Instant::now();
        if self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        self.retry = None;
        for tail in self.tails.values_mut() {
            tail.finished.retain(|done| {
                let put_away = !done.sealed || put_away(&self.shared, done);
                if !put_away {
                    self.retry = Some(now + RETRY);
                }
                !done.sealed || !put_away
            });
        }
        if self.pruned.is_none_or(|pruned| pruned + PRUNE <= now) {
            self.pruned = Some(now);
            self.shared.prune();
        }
    }
}

/// False where the segment has to stay for another try.
fn put_away(shared: &Shared, done: &Done) -> bool {
    let segment = &done.segment;
    let length = segment.committed.load(Ordering::Acquire);
    if let Err(error) = shared.archive(segment, length) {
        tracing::error!(%error, "a drained segment cannot be archived; it stays where it is until it can be");
        return false;
    }
    let removed = if done.faulty {
        let aside = segment.path.with_extension("faulty");
        tracing::error!(file = %aside.display(), "a segment with unreadable parts is kept; remove it when it has been looked at");
        fs::rename(&segment.path, aside)
    } else {
        fs::remove_file(&segment.path)
    };
    if let Err(error) = removed {
        // Harmless: the database knows that it has this segment, also after a restart.
        tracing::warn!(file = %segment.path.display(), %error, "a drained segment cannot be removed");
    }
    if lock(&shared.segments).remove(&(segment.writer, segment.sequence)).is_some() {
        shared.bytes.fetch_sub(length, Ordering::Relaxed);
    }
    true
}

impl Tail {
    fn new(shared: Arc<Shared>, writer: u16, at: Position) -> Self {
        Self {
            shared,
            writer,
            at,
            open: None,
            chunk: Vec::new(),
            chunk_size: 0,
            chunk_at: 0,
            head: None,
            finished: Vec::new(),
            faulty: false,
        }
    }

    /// Time of the next record; 0 for what has none, so that it never waits.
    fn peek(&mut self) -> Result<Option<u64>, SpoolError> {
        if self.head.is_none() {
            self.head = self.next()?;
        }
        Ok(self.head.as_ref().map(|read| match &read.item {
            Item::Entry(Entry::Share(share)) => share.time_ms,
            Item::Entry(Entry::Rejects(rejects)) => rejects.time_ms,
            Item::Entry(Entry::Found(found)) => found.time_ms,
            _ => 0,
        }))
    }

    fn next(&mut self) -> Result<Option<Read>, SpoolError> {
        while let Some((segment, end, closed)) = self.segment()? {
            if self.at.offset >= end {
                if !closed {
                    return Ok(None);
                }
                self.leave(segment);
                continue;
            }
            let from = self.at;
            let (item, length) = self.piece(&segment, end, closed)?;
            self.at.offset += length;
            match item {
                // Nothing to apply, and nothing to say.
                Item::Entry(Entry::Segment(head)) if self.is_named(&segment, &head) => continue,
                Item::Entry(Entry::Segment(_)) => {
                    // A file from elsewhere: its shares may be counted there.
                    self.faulty = true;
                    self.at.offset = from.offset;
                    let length = end - from.offset;
                    let item = Item::Unreadable { may_be_found: self.may_be_found(length, end)? };
                    self.at.offset = end;
                    return Ok(Some(Read { writer: self.writer, from, length, item }));
                }
                Item::Unreadable { .. } => self.faulty = true,
                _ => {}
            }
            return Ok(Some(Read { writer: self.writer, from, length, item }));
        }
        Ok(None)
    }

    /// The segment to read from, how far, and whether that is its end for good.
    fn segment(&mut self) -> Result<Option<(Arc<Segment>, u64, bool)>, SpoolError> {
        if self.open.is_none() {
            let next = {
                let segments = lock(&self.shared.segments);
                let skipped = segments.range((self.writer, 0)..(self.writer, self.at.segment));
                for (_, segment) in skipped {
                    if !self.finished.iter().any(|other| other.segment.sequence == segment.sequence) {
                        self.finished.push(Done { segment: segment.clone(), faulty: false, sealed: true });
                    }
                }
                let mut later = segments.range((self.writer, self.at.segment)..=(self.writer, u64::MAX));
                later.next().map(|(_, segment)| segment.clone())
            };
            let Some(segment) = next else { return Ok(None) };
            if segment.sequence != self.at.segment {
                if self.at.offset > 0 {
                    tracing::error!(
                        writer = self.writer,
                        segment = self.at.segment,
                        byte = self.at.offset,
                        "a segment that was read up to here is gone from the spool: the shares behind that are lost"
                    );
                }
                self.at = Position { segment: segment.sequence, offset: 0 };
            }
            let file = File::open(&segment.path).map_err(failed("open", &segment.path))?;
            self.chunk_size = 0;
            self.open = Some((segment, file));
        }
        // In this order: what is closed does not grow any more.
        Ok(self.open.as_ref().map(|(segment, _)| {
            let closed = segment.closed.load(Ordering::Acquire);
            (segment.clone(), segment.committed.load(Ordering::Acquire), closed)
        }))
    }

    fn leave(&mut self, segment: Arc<Segment>) {
        self.at = Position { segment: segment.sequence + 1, offset: 0 };
        self.finished.push(Done { segment, faulty: std::mem::take(&mut self.faulty), sealed: false });
        self.open = None;
    }

    fn is_named(&self, segment: &Segment, head: &record::Segment) -> bool {
        head.spool == self.shared.id && head.writer == self.writer && head.sequence == segment.sequence
    }

    /// The piece at the present offset, and its length.
    fn piece(&mut self, segment: &Segment, end: u64, closed: bool) -> Result<(Item, u64), SpoolError> {
        let rest = end - self.at.offset;
        match self.reading(end)? {
            Reading::Entry { entry, size } => Ok((Item::Entry(entry), size as u64)),
            Reading::Refused { reason, size } => {
                let record = self.bytes(size, end)?.to_vec();
                Ok((Item::Refused { reason, record }, size as u64))
            }
            Reading::Short { .. } | Reading::Damaged => {
                // All slots up to the next record are one piece.
                let begin = self.at.offset;
                let mut length = (SLOT as u64).min(rest);
                while length < rest && length < MAX_PAYLOAD as u64 {
                    self.at.offset = begin + length;
                    if matches!(self.reading(end)?, Reading::Entry { .. } | Reading::Refused { .. }) {
                        break;
                    }
                    length = (length + SLOT as u64).min(rest);
                }
                self.at.offset = begin;
                let torn = closed && length == rest && segment.sequence >> 32 < u64::from(self.shared.epoch);
                let item = match torn {
                    true => Item::Torn,
                    false => Item::Unreadable { may_be_found: self.may_be_found(length, end)? },
                };
                Ok((item, length))
            }
        }
    }

    /// Whether there may have been a found block in the `length` bytes at the present offset, where it stays.
    fn may_be_found(&mut self, length: u64, end: u64) -> Result<bool, SpoolError> {
        let begin = self.at.offset;
        let mut may_be = false;
        while !may_be && self.at.offset < begin + length {
            let most = (begin + length - self.at.offset).min(MAX_PAYLOAD as u64);
            may_be = record::may_be_found(self.bytes(most as usize, end)?);
            self.at.offset += most;
        }
        self.at.offset = begin;
        Ok(may_be)
    }

    fn reading(&mut self, end: u64) -> Result<Reading, SpoolError> {
        let reading = record::read(self.bytes(SLOT, end)?);
        match reading {
            Reading::Short { size } => Ok(record::read(self.bytes(size, end)?)),
            reading => Ok(reading),
        }
    }

    /// `size` bytes at the present offset, or fewer at the end.
    fn bytes(&mut self, size: usize, end: u64) -> Result<&[u8], SpoolError> {
        let have = (self.chunk_at + self.chunk_size as u64).saturating_sub(self.at.offset);
        let want = usize::try_from(end - self.at.offset).unwrap_or(usize::MAX);
        if self.at.offset < self.chunk_at || (have < size as u64 && have < want as u64) {
            let Some((segment, file)) = &self.open else { return Ok(&[]) };
            let length = want.min(CHUNK.max(size));
            if self.chunk.len() < length {
                self.chunk.resize(length, 0);
            }
            (self.chunk_at, self.chunk_size) = (self.at.offset, 0);
            let chunk = self.chunk.get_mut(..length).unwrap_or_default();
            file.read_exact_at(chunk, self.at.offset).map_err(failed("read", &segment.path))?;
            self.chunk_size = length;
        }
        let from = usize::try_from(self.at.offset - self.chunk_at).unwrap_or(usize::MAX);
        let rest = self.chunk.get(from..self.chunk_size).unwrap_or_default();
        Ok(rest.get(..size).unwrap_or(rest))
    }
}
