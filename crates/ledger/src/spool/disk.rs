//! What room there is where a spool is, and what its archive takes of it.

use std::{fs, path::Path};

use rustix::fs::statvfs;

use super::{Spool, SpoolError, archive, failed, lock};

/// The file system that a spool is on, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// What a process without privileges may still write.
    pub free: u64,
    /// All of it.
    pub size: u64,
    /// What the compressed segments that are kept for audit take.
    pub archive: u64,
}

impl Disk {
    /// Looks at the spool in `dir`, or where it would be made. Reads the sizes of all files of the archive.
    ///
    /// # Errors
    /// If the file system does not say.
    pub fn of(dir: &Path) -> Result<Self, SpoolError> {
        // A directory that is not there yet will be where its parent is.
        let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."));
        let found =
            statvfs(there).map_err(|error| failed("look at the file system of", there)(error.into()))?;
        let archive = archive::directory(dir);
        let files = fs::read_dir(&archive).into_iter().flatten().flatten();
        let archive = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Self { free: bytes(found.f_bavail), size: bytes(found.f_blocks), archive })
    }

    /// Whether less than a tenth is free.
    pub fn is_short(&self) -> bool {
        self.free < self.size / 10
    }
}

impl Spool {
    /// Looks at the disk, and keeps what it sees for [`Self::disk`].
    pub(crate) fn look_at_the_disk(&self) -> Result<Disk, SpoolError> {
        let disk = Disk::of(self.dir())?;
        *lock(&self.0.disk) = Some(disk);
        Ok(disk)
    }

    /// The disk as it was seen last; `None` before the ledger has run.
    pub fn disk(&self) -> Option<Disk> {
        *lock(&self.0.disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_it_is_short() {
        let check = |free, size, expect| assert_eq!(Disk { free, size, archive: 0 }.is_short(), expect);
        check(9, 100, true);
        check(10, 100, false);
        check(0, 0, false);
        check(0, u64::MAX, true);
    }

    #[test]
    fn a_directory_that_is_not_there_yet() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::of(&dir.path().join("not/there")).unwrap();
        assert!(disk.size > 0 && disk.free <= disk.size, "{disk:?}");
        assert_eq!(disk.archive, 0);
        let archive = dir.path().join("audit");
        fs::create_dir(&archive).unwrap();
        fs::write(archive.join("a"), [0; 300]).unwrap();
        fs::write(archive.join("b"), [0; 45]).unwrap();
        assert_eq!(Disk::of(dir.path()).unwrap().archive, 345);
    }
}
