//! Submissions at a set rate: evenly over time, round robin over the connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use super::{HEAVY, HEAVY_EVERY, Load, link::Link};

/// The shortest sleep: a system cannot sleep much shorter.
const NAP: Duration = Duration::from_micros(50);
/// What the machine was too slow to send is made up for if it is not later than this; the rest is left out.
const LATEST: Duration = Duration::from_millis(100);

/// What was sent, and what could not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Submissions that were sent.
    pub sent: u64,
    /// Left out: too many on their way on their connection, or this machine too slow.
    pub skipped: u64,
}

/// Submits for as long as `load` says, on a thread that may sleep.
pub fn drive(links: &[Arc<Link>], load: &Load, stop: &AtomicBool) -> Sent {
    let mut turns = Turns::new(links, load.skewed);
    let (start, mut done, mut sent) = (Instant::now(), 0u64, Sent::default());
    let behind = (load.rate * LATEST.as_secs_f64()).ceil() as u64 + 1;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= load.duration || stop.load(Relaxed) || links.is_empty() {
            return sent;
        }
        let due = (elapsed.as_secs_f64() * load.rate) as u64;
        let late = (due - done).saturating_sub(behind);
        sent.skipped += late;
        done += late;
        while done < due {
            done += 1;
            match turns.next().is_some_and(Link::submit) {
                true => sent.sent += 1,
                false => sent.skipped += 1,
            }
        }
        let next = Duration::from_secs_f64((done + 1) as f64 / load.rate.max(1e-3));
        thread::sleep(next.saturating_sub(start.elapsed()).clamp(NAP, LATEST));
    }
}

/// Whose turn it is.
struct Turns<'a> {
    heavy: Vec<&'a Link>,
    light: Vec<&'a Link>,
    /// How much of the load the heavy ones carry.
    part: f64,
    count: (usize, usize),
    owed: f64,
}

impl<'a> Turns<'a> {
    fn new(links: &'a [Arc<Link>], skewed: bool) -> Self {
        let is_heavy = |link: &&Link| link.index().is_multiple_of(HEAVY_EVERY);
        let (heavy, light): (Vec<_>, Vec<_>) = links.iter().map(Arc::as_ref).partition(is_heavy);
        let even = heavy.len() as f64 / links.len().max(1) as f64;
        Self { heavy, light, part: part(skewed, even), count: (0, 0), owed: 0.0 }
    }

    fn next(&mut self) -> Option<&'a Link> {
        self.owed += self.part;
        let (links, count) = if self.owed >= 1.0 || self.light.is_empty() {
            self.owed -= 1.0;
            (&self.heavy, &mut self.count.0)
        } else {
            (&self.light, &mut self.count.1)
        };
        let link = links.get(*count % links.len().max(1)).copied();
        *count += 1;
        link
    }
}

/// How much of the load goes to the heavy connections, which are `even` of all.
fn part(skewed: bool, even: f64) -> f64 {
    if skewed { HEAVY } else { even }
}
