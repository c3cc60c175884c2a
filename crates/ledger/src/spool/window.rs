//! A piece of a segment's file in memory: a record is stored by copying it there, which costs no system call.
//!
//! What stands in a shared mapping stands in the page cache, as after a write(2): the end of this process, however it
//! comes, takes nothing away. The disk writes it when it likes, or when it is told to ([`File::sync_data`] covers it).
//!
//! The blocks of a window are allocated before it is mapped, so a full disk is an error there and never a fault here. And
//! its bytes are written as zeroes: that makes all its pages in one go, where the first touch of each would come into the
//! kernel by itself, at the price of two shares, for the sake of 64.
//! What is left is a file that somebody else cuts, and a disk that dies: to touch a page then ends the process. Who
//! would rather have an error for that turns the windows off ([`super::SpoolConfig::mapped`]).

// The one place in this crate: a mapping is memory that the compiler knows nothing of.
#![allow(unsafe_code)]

use std::{fs::File, io, os::unix::fs::FileExt as _, ptr};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, fallocate};

use crate::record::SLOT;

/// As many as are written at a time.
static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// Some bytes of a file.
pub(super) struct Window {
    map: MmapRaw,
    /// Where in the file it begins.
    base: u64,
}

impl Window {
    /// The bytes `from..to` of `file`, which is made `to` long. An error where the disk is full, the file system cannot
    /// allocate ahead, or does not map files.
    pub fn open(file: &File, from: u64, to: u64) -> io::Result<Self> {
        let length = to.saturating_sub(from);
        fallocate(file, FallocateFlags::empty(), from, length)?;
        let mut at = from;
        while at < to {
            let zeroes = ZEROES.get(..usize::try_from(to - at).unwrap_or(ZEROES.len())).unwrap_or(&ZEROES);
            file.write_all_at(zeroes, at)?;
            at += zeroes.len() as u64;
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let map = MmapOptions::new().offset(from).len(length).map_raw(file)?;
        Ok(Self { map, base: from })
    }

    /// Copies `bytes`, whole slots, to `offset` of the file; false, and nothing is done, where that is not all in here.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let Some(at) = offset.checked_sub(self.base).and_then(|at| usize::try_from(at).ok()) else {
            return false;
        };
        let (slots, rest) = bytes.as_chunks::<SLOT>();
        if !rest.is_empty() || at.checked_add(bytes.len()).is_none_or(|end| end > self.map.len()) {
            return false;
        }
        for (number, slot) in slots.iter().enumerate() {
            // SAFETY: `at + bytes.len()` is within the mapping (above), so each slot is; the mapping lives as long as
            // `self`, is writable, and no reference to its memory is ever made. Bytes have no alignment.
            //
            // Volatile, so that slots are stored in their order: who is killed in the middle leaves whole records, then
            // a torn one, then zeroes, which is what a reader takes for the end.
            unsafe { ptr::write_volatile(self.map.as_mut_ptr().add(at + number * SLOT).cast(), *slot) };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_stands_in_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(128).unwrap();
        let mut window = Window::open(&file, 128, 512).unwrap();
        let read = |from: usize, to: usize| {
            let mut bytes = vec![0; to - from];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, from as u64).unwrap();
            bytes
        };
        let mut check = |offset: u64, length: usize, expect: bool| {
            let before = read(0, 512);
            let bytes: Vec<u8> =
                (0..length).map(|number| (offset as usize).wrapping_add(number) as u8).collect();
            assert_eq!(window.write(offset, &bytes), expect, "{length} bytes at {offset}");
            let mut after = before;
            if expect {
                after[offset as usize..][..length].copy_from_slice(&bytes);
            }
            assert_eq!(read(0, 512), after, "{length} bytes at {offset}");
        };
        check(128, 64, true);
        check(448, 64, true);
        check(192, 256, true);
        check(128, 384, true);
        check(300, 0, true);
        check(64, 64, false); // before it
        check(449, 64, false); // beyond it
        check(128, 448, false);
        check(u64::MAX, 64, false);
        check(128, 63, false); // no slot
        assert_eq!(file.metadata().unwrap().len(), 512);
        drop(window);
        assert_eq!(read(128, 130), [128, 129]);
    }

    #[test]
    fn a_file_that_cannot_be_mapped_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, []).unwrap();
        assert!(Window::open(&File::open(&path).unwrap(), 0, 64).is_err(), "read only");
        let write_only = File::options().write(true).open(&path).unwrap();
        assert!(Window::open(&write_only, 0, 64).is_err(), "a mapping is read as well");
        assert!(Window::open(&File::options().read(true).write(true).open(&path).unwrap(), 0, 0).is_err());
    }
}
