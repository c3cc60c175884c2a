//! For tests of crashes, and not in a release: the process dies at a point of its work, as of a kill -9.

use std::{fmt::Debug, sync::Arc};

/// Whether to stop at a point; it does not come to an answer where the process is to die.
type Halt<Point> = Option<Arc<dyn Fn(Point) -> bool + Send + Sync>>;

/// Dies at the point that `SLUICE_DIES_AT` names: `Applied`, or `Applied*3` for the third time that it comes there.
#[cfg(debug_assertions)]
pub fn halt<Point: Debug + 'static>() -> Halt<Point> {
    use std::sync::atomic::{AtomicU32, Ordering};

    let wanted = std::env::var("SLUICE_DIES_AT").ok()?;
    let (name, times) = wanted.split_once('*').unwrap_or((&wanted, "1"));
    let (name, left) = (name.to_owned(), AtomicU32::new(times.parse().ok()?));
    Some(Arc::new(move |point| {
        if format!("{point:?}") == name && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        false
    }))
}

#[cfg(not(debug_assertions))]
pub fn halt<Point: Debug + 'static>() -> Halt<Point> {
    None
}
