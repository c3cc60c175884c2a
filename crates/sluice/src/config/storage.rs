//! `[ledger]`: where shares and balances are kept, and for how long.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ledger::{Ack, Settings};

/// How long the ledger keeps the work of slots.
pub fn kept(worker_days: u32, slot_days: u32) -> Result<Settings, String> {
    if slot_days < worker_days {
        return Err(format!(
            "ledger.slot_days = {slot_days} is less than ledger.worker_days = {worker_days}: work by worker cannot be kept \
             longer than work by miner; raise slot_days or lower worker_days"
        ));
    }
    let days = |days: u32| Duration::from_secs(86_400 * u64::from(days));
    Ok(Settings { worker_age: days(worker_days), slot_age: days(slot_days), ..Settings::default() })
}

/// What an acknowledged share has survived.
pub fn ack(name: &str) -> Result<Ack, String> {
    match name {
        "process" => Ok(Ack::Process),
        "power" => Ok(Ack::Power),
        _ => Err(format!(
            "ledger.ack = \"{name}\": choose process (survives kill -9) or power (waits for the disk)"
        )),
    }
}

/// The database, which must outlive the process.
pub fn url(url: String) -> Result<String, String> {
    let is_file =
        url.strip_prefix("sqlite://").is_some_and(|file| !file.is_empty() && !file.contains(":memory:"));
    if is_file || ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(url);
    }
    Err("ledger.url must be sqlite:// with a file, or postgres://".into())
}

/// Where a file or directory is that the operator has not placed.
pub fn beside(spool: &Path, name: &str) -> PathBuf {
    spool.with_file_name(name)
}
