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
    let shown = path.display();
    match fs::read_to_string(path) {
        Ok(text) => {
            let mode = fs::metadata(path).map_or(0, |data| data.permissions().mode());
            if mode & 0o077 != 0 {
                tracing::warn!(file = %shown, "others can read the pool's secret key: chmod 600 it");
            }
            text.trim().parse().map_err(|error| {
                Failure::usage(format!(
                    "stratum.authority_key: {shown} holds no secret key ({error}): put the right one back; without \
                     the file a new key is made, which miners must be told then"
                ))
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).map_err(|error| {
            Failure::unavailable(format!("stratum.authority_key: cannot write {shown}: {error}"))
        }),
        Err(error) => {
            Err(Failure::unavailable(format!("stratum.authority_key: cannot read {shown}: {error}")))
        }
    }
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
        fs::write(&path, "not a key").unwrap();
        let error = load_or_make(&path).err().unwrap().to_string();
        assert!(error.contains("authority.key holds no secret key"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a key");
    }
}
