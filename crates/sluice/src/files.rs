//! How many files this process may open: a connection is one. And what room there is for its own.

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are no miner's connection: spool, database, nodes, API.
const OTHERS: u64 = 500;

/// Lets this process, and those that it starts, open as many files as the system lets it.
pub fn allow() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Allows as many as can be had, and says so if they are too few for `connections`. Returns how many connections there
/// may be, so that miners never take the files that shares and blocks are written to.
pub fn allow_for(connections: usize) -> usize {
    allow();
    let needed = (connections as u64).saturating_add(OTHERS);
    if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|&allowed| allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            "fewer files may be open than limits.connections takes, so fewer connections are let in: raise the limit \
             (ulimit -n, or LimitNOFILE of a service), or lower limits.connections"
        );
        // Where there are very few, some are better than none.
        let left = allowed.saturating_sub(OTHERS).max(allowed / 4);
        return usize::try_from(left).map_or(connections, |left| left.min(connections));
    }
    connections
}

/// What an operator should know of the disk that the spool in `dir` is on, or would be; nothing if all is well.
pub fn room(dir: &Path) -> Option<String> {
    match ledger::Disk::of(dir) {
        Ok(disk) if disk.is_short() => Some(format!(
            "of the file system with ledger.spool = {} only {} of {} bytes are free, {} bytes are segments kept for audit; \
             lower ledger.audit_days, or give it more room",
            dir.display(),
            disk.free,
            disk.size,
            disk.archive
        )),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}
