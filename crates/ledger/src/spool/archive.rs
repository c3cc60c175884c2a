//! Segments that are in the database, kept compressed for audit: `audit/WWWWW-EEEEEEEENNNNNNNN.segment.zst` beside the
//! live ones. They also stand in when the database is put back to an older state: it reads them again.

use std::{
    fs::{self, File},
    io::{self, BufReader, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{Shared, Spool, SpoolError, failed, lock, parse_name};
use crate::proof::Name;

/// Little is gained by more: half of a record is hash.
const LEVEL: i32 = 1;

/// Where the archive of the spool in `dir` is.
pub(crate) fn directory(dir: &Path) -> PathBuf {
    dir.join("audit")
}

/// The file of a segment in the archive of the spool in `dir`; it may not be there.
pub(crate) fn file(dir: &Path, name: Name) -> PathBuf {
    directory(dir).join(format!("{}.segment.zst", name.shown()))
}

/// The records of a segment of the spool in `dir`, wherever it is: live, kept because it is damaged, or in the archive.
/// `None` if it is nowhere.
pub(crate) fn bytes(dir: &Path, name: Name) -> Result<Option<Vec<u8>>, SpoolError> {
    for extension in ["segment", "faulty"] {
        let path = dir.join(format!("{}.{extension}", name.shown()));
        match fs::read(&path) {
            Ok(mut bytes) => {
                bytes.truncate(super::end(&bytes));
                return Ok(Some(bytes));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", &path)(error)),
        }
    }
    let path = file(dir, name);
    match File::open(&path).and_then(zstd::decode_all) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("unpack", &path)(error)),
    }
}

/// The segments of which the archive of the spool in `dir` has files.
pub(crate) fn list(dir: &Path) -> Result<Vec<(u16, u64)>, SpoolError> {
    let dir = directory(dir);
    let files = match fs::read_dir(&dir) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", &dir)(error)),
    };
    let mut names = Vec::new();
    for file in files {
        let file = file.map_err(failed("list", &dir))?;
        names.extend(file.file_name().to_str().and_then(|name| parse_name(name.strip_suffix(".zst")?)));
    }
    names.sort_unstable();
    Ok(names)
}

/// When the oldest file of the archive of the spool in `dir` was written, milliseconds since 1970. [`Shared::prune`] deletes
/// by this time, so what was written later is still there.
pub(crate) fn oldest_ms(dir: &Path) -> Result<Option<u64>, SpoolError> {
    let spool = [0; 16]; // no part of a file's name
    let written = |(writer, segment)| {
        let modified =
            fs::metadata(file(dir, Name { spool, writer, segment })).and_then(|file| file.modified());
        let since = modified.ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    };
    Ok(list(dir)?.into_iter().filter_map(written).min())
}

impl Shared {
    /// Puts the segment into the archive, whole or not at all. `length` bytes of it are records.
    pub(super) fn archive(&self, segment: &super::Segment, length: u64) -> Result<(), SpoolError> {
        if self.config.audit.is_zero() {
            return Ok(());
        }
        let name = Name { spool: self.id, writer: segment.writer, segment: segment.sequence };
        let directory = directory(&self.dir);
        fs::create_dir_all(&directory).map_err(failed("create directory", &directory))?;
        let path = file(&self.dir, name);
        let fresh = path.with_extension("new");
        let pack = || {
            let records = io::Read::take(File::open(&segment.path)?, length);
            let mut to = File::create(&fresh)?;
            zstd::stream::copy_encode(BufReader::with_capacity(1 << 16, records), &mut to, LEVEL)?;
            to.flush()?;
            to.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&directory)?.sync_all()
        };
        pack().map_err(failed("archive", &path))
    }

    /// Deletes what is older than it has to be kept.
    pub(super) fn prune(&self) {
        let old = SystemTime::now().checked_sub(self.config.audit);
        for (writer, segment) in list(&self.dir).unwrap_or_default() {
            let path = file(&self.dir, Name { spool: self.id, writer, segment });
            let written = fs::metadata(&path).and_then(|file| file.modified());
            if written.is_ok_and(|written| old.is_some_and(|old| written < old)) {
                match fs::remove_file(&path) {
                    Ok(()) => {
                        tracing::debug!(file = %path.display(), "an old segment is not kept any longer")
                    }
                    Err(error) => {
                        tracing::warn!(file = %path.display(), %error, "an old segment cannot be removed")
                    }
                }
            }
        }
    }
}

impl Spool {
    /// Brings back from the archive what a database has not read yet that knows this spool up to `watermarks`: it has
    /// been put back to an older state, or another has taken its place. How many segments that were. A database that
    /// has never seen this spool gets nothing from the archive: it begins anew.
    pub(crate) fn restore(
        &self,
        watermarks: &std::collections::HashMap<u16, super::Position>,
    ) -> Result<usize, SpoolError> {
        if watermarks.is_empty() {
            return Ok(0);
        }
        let mut restored = 0;
        for (writer, sequence) in list(&self.0.dir)? {
            let read = watermarks.get(&writer).is_some_and(|at| sequence < at.segment);
            if read || lock(&self.0.segments).contains_key(&(writer, sequence)) {
                continue;
            }
            let name = Name { spool: self.0.id, writer, segment: sequence };
            let Some(bytes) = bytes(&self.0.dir, name)? else { continue };
            let path = self.0.dir.join(format!("{}.segment", name.shown()));
            if !path.exists() {
                let fresh = path.with_extension("new");
                let unpack = fs::write(&fresh, &bytes).and_then(|()| fs::rename(&fresh, &path));
                unpack.map_err(failed("unpack", &path))?;
            }
            self.0.bytes.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
            let segment = super::Segment {
                path,
                writer,
                sequence,
                committed: (bytes.len() as u64).into(),
                closed: true.into(),
            };
            lock(&self.0.segments).insert((writer, sequence), segment.into());
            restored += 1;
        }
        Ok(restored)
    }
}

/// How often the archive is looked through for what is too old.
pub(super) const PRUNE: Duration = Duration::from_secs(3_600);
/// How long a segment that could not be archived waits for the next try.
pub(super) const RETRY: Duration = Duration::from_secs(60);
