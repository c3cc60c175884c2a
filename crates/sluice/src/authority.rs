//! The key that miners know the pool by in V2: made at the first start, kept in a file that only the pool may read.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rand::RngExt;
use stratum::noise::AuthorityKey;

use crate::failure::Failure;

/// Reads the key from `path`, or makes one and writes it there.
///
/// # Errors
/// If it can neither be read nor written, or is no key.
pub fn load_or_make(path: &Path) -> Result<AuthorityKey, Failure> {
    let cannot = |error| {
        Failure::unavailable(format!(
            "stratum.authority_key: cannot write {}: {error}: make its directory writable, or name another file",
            path.display()
        ))
    };
    load(path)?.map_or_else(|| make(path).map_err(cannot), Ok)
}

/// Reads the key from `path`; `None` if there is no such file as yet.
///
/// # Errors
/// If it cannot be read, or is no key.
pub fn load(path: &Path) -> Result<Option<AuthorityKey>, Failure> {
    let shown = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(), // No text, so no key.
        Err(error) => {
            return Err(Failure::unavailable(format!(
                "stratum.authority_key: cannot read {shown}: {error}: let the pool's user read it, or name another file"
            )));
        }
    };
    let mode = fs::metadata(path).map_or(0, |data| data.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(file = %shown, "others can read the pool's secret key: chmod 600 it");
    }
    text.trim().parse().map(Some).map_err(|error| {
        Failure::usage(format!(
            "stratum.authority_key: {shown} holds no secret key ({error}): put the right one back; without the file a \
             new key is made, which miners must be told then"
        ))
    })
}

/// Looks at the key of a pool that is not running: what it is, in words. Touches nothing.
///
/// # Errors
/// As [`load`].
pub fn describe(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    Ok(match load(path)? {
        Some(key) => {
            format!("miners of stratum v2 know the pool by {}, whose secret is in {shown}", key.public())
        }
        None => format!(
            "there is no {shown} yet: the first start makes the key that miners of stratum v2 know the pool by"
        ),
    })
}

/// Written whole or not at all: half a key would stop the next start.
fn make(path: &Path) -> io::Result<AuthorityKey> {
    // One in 2^128 draws is no key.
    let key = loop {
        if let Ok(key) = AuthorityKey::from_bytes(rand::rng().random()) {
            break key;
        }
    };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", key.to_secret_text())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    tracing::info!(file = %path.display(), key = %key.public(), "a new key for Stratum V2: keep the file");
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_for_nobody_else_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new").join("authority.key");
        let made = load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(&path).unwrap().public(), made.public());
        let other = load_or_make(&directory.path().join("authority.key")).unwrap();
        assert_ne!(other.public(), made.public());
    }

    #[test]
    fn what_is_no_key_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authority.key");
        for bytes in [&b"not a key"[..], b"", b"\xff\xfe\x00"] {
            fs::write(&path, bytes).unwrap();
            for error in [load_or_make(&path).err(), describe(&path).err()] {
                let error = error.unwrap().to_string();
                assert!(error.contains("authority.key holds no secret key"), "{error}");
            }
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn what_a_check_says_of_the_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new").join("authority.key");
        assert!(describe(&path).unwrap().contains("yet: the first start makes the key"));
        assert!(!path.parent().unwrap().exists(), "it touches nothing");
        let key = load_or_make(&path).unwrap();
        let said = describe(&path).unwrap();
        assert!(said.contains(&key.public().to_string()), "{said}");
        assert!(!said.contains(&key.to_secret_text()), "{said}");
        let error = describe(directory.path()).unwrap_err().to_string();
        assert!(error.contains("cannot read"), "a directory is no file: {error}");
    }
}
