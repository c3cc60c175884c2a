//! Found blocks on disk: `HASH.block` while it is not known what became of one, `HASH.part` while it is being written;
//! `HASH.note` beside it is what the pool wants to be told again of a block that is left.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bitcoin::{Block, consensus, hashes::Hash as _};
use share::Hash;

use share::hash::shown;

use super::Solved;

/// Ending of a block that the chain has settled. Kept for a while, should the node lose it.
pub(super) const DONE: &str = "done";

/// Ending of a block that was called invalid. Kept: somebody will want to know why.
pub(super) const REFUSED: &str = "refused";

const WAITING: &str = "block";
const NOTE: &str = "note";
const PART: &str = "part";
const DAMAGED: &str = "damaged";

/// How many settled blocks are kept.
const DONE_KEPT: usize = 100;

/// Writes a block so that it survives the end of this process once this has returned; see [`secure`] for more. Its note
/// comes first: there is no block without it.
pub(super) fn write(dir: &Path, hash: &Hash, block: &[u8], note: &[u8]) -> io::Result<()> {
    if !note.is_empty() {
        fs::write(path(dir, hash, NOTE), note)?;
    }
    let part = path(dir, hash, PART);
    File::create(&part)?.write_all(block)?;
    fs::rename(part, path(dir, hash, WAITING))
}

/// Makes what was written survive a power cut once this has returned.
pub(super) fn secure(dir: &Path, hash: &Hash) -> io::Result<()> {
    File::open(path(dir, hash, WAITING))?.sync_all()?;
    sync(dir)
}

/// Gives the file of a block another ending.
pub(super) fn mark(dir: &Path, hash: &Hash, ending: &str) -> io::Result<()> {
    fs::rename(path(dir, hash, WAITING), path(dir, hash, ending))?;
    match fs::remove_file(path(dir, hash, NOTE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync(dir),
    }
}

/// A block whose fate is not known, and its note.
pub(super) struct Left {
    pub solved: Solved,
    /// Empty if there is none.
    pub note: Vec<u8>,
}

/// Makes `dir` ready, clears it of old settled blocks, and returns those whose fate is not known. A file that is not
/// a whole block is set aside.
pub(super) fn open(dir: &Path) -> io::Result<Vec<Left>> {
    fs::create_dir_all(dir)?;
    // Fails now, and not when the first block is found.
    let probe = dir.join("write-probe");
    File::create(&probe)?.sync_all()?;
    fs::remove_file(probe)?;
    let (mut left, mut done, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match path.extension().and_then(|ending| ending.to_str()) {
            // A part may be a whole block whose last step was cut off.
            Some(WAITING | PART) => match read(&path) {
                Ok(solved) => {
                    fs::rename(&path, self::path(dir, &solved.hash, WAITING))?;
                    let note = match fs::read(self::path(dir, &solved.hash, NOTE)) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                        note => note?,
                    };
                    left.push(Left { solved, note });
                }
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "a found block cannot be read: set aside");
                    fs::rename(&path, path.with_extension(DAMAGED))?;
                }
            },
            Some(DONE) => done.push((fs::metadata(&path)?.modified()?, path)),
            Some(NOTE) => notes.push(path),
            _ => {}
        }
    }
    done.sort();
    for (_, path) in done.iter().rev().skip(DONE_KEPT) {
        fs::remove_file(path)?;
    }
    // Of a block that was not written any more, or was settled a moment before the end.
    for note in notes {
        if !note.with_extension(WAITING).exists() {
            fs::remove_file(note)?;
        }
    }
    sync(dir)?;
    left.sort_by_key(|left: &Left| left.solved.height);
    Ok(left)
}

fn read(path: &Path) -> io::Result<Solved> {
    let bytes = fs::read(path)?;
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let block: Block = consensus::deserialize(&bytes).map_err(|e| invalid(e.to_string()))?;
    let hash = block.block_hash().to_byte_array();
    if path.file_stem().and_then(|stem| stem.to_str()) != Some(&shown(&hash)) {
        return Err(invalid("it holds another block than its name says".into()));
    }
    // For the log only.
    let height = block.bip34_block_height().ok().and_then(|height| u32::try_from(height).ok()).unwrap_or(0);
    Ok(Solved { hash, height, block: bytes })
}

fn path(dir: &Path, hash: &Hash, ending: &str) -> PathBuf {
    dir.join(shown(hash)).with_extension(ending)
}

/// A rename is on disk when its directory is.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
