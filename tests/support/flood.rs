//! Many miners at once, for tests in which it is the number of shares that counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::miner::{Fault, Manner, Miner, Tally};

/// The difficulty to pin for a flood: about 430 hashes a share, so that the miners cost next to nothing.
pub const DIFFICULTY: f64 = 1e-7;

/// Miners at work in threads of their own.
pub struct Flood {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    miners: Vec<(String, JoinHandle<Outcome>)>,
}

/// How mining ended, and what came of it.
type Outcome = (Result<(), Fault>, Tally);

impl Flood {
    /// How many connections a flood has.
    pub const CONNECTIONS: u32 = 16;

    /// Starts a flood of `rate` shares a second on `port`. Each connection is a worker of its own of `address`, named
    /// `round` and a number. Most wait for each reply before the next submit, as a test of what one reply promises;
    /// every fourth has 16 submits under way.
    pub fn start(port: u16, address: &str, round: &str, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let miners = (0..Self::CONNECTIONS)
            .map(|number| {
                let worker = format!("{round}-{number}");
                let user = format!("{address}.{worker}");
                let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
                let pace = Duration::from_secs(1) * Self::CONNECTIONS / rate;
                let mine = move || {
                    // One after the other, as miners are.
                    thread::sleep(pace * number / Self::CONNECTIONS);
                    let mut miner = match Miner::connect(port, &user, Manner::Cpuminer) {
                        Ok(miner) => miner,
                        Err(fault) => return (Err(fault), Tally::default()),
                    };
                    miner.window = if number % 4 == 0 { 16 } else { 1 };
                    miner.pace = pace;
                    let mut counted = 0;
                    let result = miner.mine(|tally| {
                        acknowledged.fetch_add(tally.acknowledged - counted, Ordering::Relaxed);
                        counted = tally.acknowledged;
                        !stop.load(Ordering::Relaxed)
                    });
                    (result, miner.tally.clone())
                };
                (worker, thread::spawn(mine))
            })
            .collect();
        Self { stop, acknowledged, miners }
    }

    /// How many shares have been acknowledged by now.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends it; what each worker has to show. The miners must not have been interrupted.
    pub fn stop(self) -> Vec<(String, Tally)> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish(|result| assert_eq!(result, Ok(())))
    }

    /// Ends it where the pool may have closed connections, or refused shares by this code: what each worker has to show, as if
    /// it had not sent those.
    pub fn halt(self, code: &str) -> Vec<(String, Tally)> {
        self.stop.store(true, Ordering::Relaxed);
        let tallies = self.miners.into_iter().map(|(worker, miner)| {
            let (_, mut tally) = miner.join().expect("the miner did not panic");
            let refused = std::mem::take(&mut tally.rejects);
            assert!(refused.iter().all(|why| why.starts_with(code)), "{refused:#?}");
            tally.sent -= refused.len() as u64;
            (worker, tally)
        });
        tallies.collect()
    }

    /// Waits until the pool has closed every connection; what each worker has to show.
    pub fn broken_off(self) -> Vec<(String, Tally)> {
        self.finish(|result| assert_eq!(result, Err(Fault::Closed)))
    }

    fn finish(self, check: impl Fn(Result<(), Fault>)) -> Vec<(String, Tally)> {
        let tallies = self.miners.into_iter().map(|(worker, miner)| {
            let (result, tally) = miner.join().expect("the miner did not panic");
            check(result);
            tally.must_be_clean();
            (worker, tally)
        });
        tallies.collect()
    }
}
