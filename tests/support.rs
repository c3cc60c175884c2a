//! What every test needs: a node, a database, the pool, a miner, a browser; ports, patience and processor time.

use std::{
    sync::{Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

pub mod books;
pub mod browser;
pub mod cable;
pub mod clients;
pub mod flood;
pub mod http;
pub mod miner;
pub mod node;
pub mod period;
pub mod plain;
pub mod pool;
pub mod ports;
pub mod postgres;
pub mod shared;
pub mod sv2;
pub mod wire;

pub use ports::{free_port, is_free};

/// What `ready` finds, asked again and again; panics with `what` if it has found nothing long after `limit`, which is for a
/// machine that has nothing else to do.
pub fn wait_for<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let (start, limit) = (Instant::now(), 3 * limit);
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The right to keep one processor busy. Tests that grind take one, so that as many of them run as there are
/// processors, however many threads the test runner has; tests that mostly wait take none.
pub struct Processor(());

static FREE: Mutex<Option<usize>> = Mutex::new(None);
static FREED: Condvar = Condvar::new();

impl Processor {
    /// Waits for a free processor.
    pub fn take() -> Self {
        // A test that failed while it held the lock spoiled nothing: it is a number.
        let mut free = FREE.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            let left = free.get_or_insert_with(|| thread::available_parallelism().map_or(1, |n| n.get()));
            if *left > 0 {
                *left -= 1;
                return Self(());
            }
            free = FREED.wait(free).unwrap_or_else(|e| e.into_inner());
        }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        if let Some(left) = FREE.lock().unwrap_or_else(|e| e.into_inner()).as_mut() {
            *left += 1;
        }
        FREED.notify_one();
    }
}

/// Sends `signal` (`TERM`, `INT`, `STOP`, ...) to a process that this test started.
pub fn signal(signal: &str, pid: u32) {
    let status = std::process::Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
    assert!(status.is_ok_and(|s| s.success()), "kill -{signal} {pid} failed");
}

/// A temporary directory, removed when dropped. Others may pass through it, so that Postgres, which refuses to run as
/// root, reaches its own directory inside.
pub fn directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::Builder::new().prefix("sluice-e2e-").tempdir().expect("a temporary directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    directory
}

/// An address of `chain` that nobody has the key of; another one for each `number`.
pub fn address(chain: node::Chain, number: u8) -> String {
    use bitcoin::{Address, Network, ScriptBuf, WPubkeyHash, hashes::Hash};
    let network = match chain {
        node::Chain::Signet => Network::Signet,
        node::Chain::Regtest => Network::Regtest,
    };
    let script = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([number; 20]));
    Address::from_script(&script, network).unwrap().to_string()
}
