//! Files that somebody hands us: whatever they are, they take no more memory than they may.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// No answer of the API is larger: 100,000 miners of a block take a tenth of it.
const MOST_JSON: u64 = 256 << 20;

/// All of a file, if that is at most `most` bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::IsADirectory => {
            Failure::unavailable(format!("cannot read {shown}: it is a directory; name a file"))
        }
        io::ErrorKind::NotFound => Failure::unavailable(format!(
            "cannot read {shown}: there is no such file; see that the name is right"
        )),
        _ => Failure::unavailable(format!("cannot read {shown}: {error}")),
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(cannot)?;
    if bytes.len() as u64 > most {
        return Err(Failure::finding(format!(
            "{shown} has more than {most} bytes: it is not the file that is asked for here"
        )));
    }
    Ok(bytes)
}

/// A file that the API has given out.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let bytes = read(path, MOST_JSON)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let advice = match serde_json::from_slice::<Refusal>(&bytes) {
            Ok(Refusal { error }) => format!("the pool has answered: {error}"),
            Err(_) => format!("{error}; download it again"),
        };
        Failure::finding(format!("{} is not what the API gives out: {advice}", path.display()))
    })
}

/// What the API says instead.
#[derive(serde::Deserialize)]
struct Refusal {
    error: String,
}
