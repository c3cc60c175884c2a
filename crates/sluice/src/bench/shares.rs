//! Shares at a set rate: what each costs the server, and how soon it is answered. The servers take turns, so that what
//! else the machine does meets both.

use std::{collections::BTreeMap, time::Duration};

use sandbox::swarm::{Histogram, Load, Swarm};

use super::{Plan, subject::Subject};
use crate::failure::Failure;

/// Load before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// Both servers at one rate.
pub struct Shares {
    /// Shares a second.
    pub rate: u32,
    /// The floor, the pool.
    pub each: [Served; 2],
}

/// How one server did.
#[derive(Default)]
pub struct Served {
    name: &'static str,
    /// Processor time per accepted share, of each turn.
    cpu: Vec<Duration>,
    /// From sending a share to its answer.
    pub latency: Histogram,
    sent: u64,
    skipped: u64,
    unanswered: u64,
    accepted: u64,
    reasons: BTreeMap<String, u64>,
}

impl Served {
    /// Processor time of the server per accepted share, in the middle one of its turns: what else the machine does now
    /// and then costs caches, and is nobody's share.
    pub fn cpu_per_share(&self) -> Duration {
        let mut turns = self.cpu.clone();
        turns.sort();
        turns.get(turns.len() / 2).copied().unwrap_or_default()
    }

    async fn serve(&mut self, subject: &Subject, swarm: &Swarm, load: Load) -> Result<(), Failure> {
        let before = subject.usage()?;
        let outcome = swarm.load(load).await;
        let cpu = subject.usage()?.since(&before);
        self.cpu.push(cpu.div_f64(outcome.answers.accepted.max(1) as f64));
        self.latency.merge(&outcome.answers.latency);
        self.sent += outcome.sent;
        self.skipped += outcome.skipped;
        self.unanswered += outcome.unanswered;
        self.accepted += outcome.answers.accepted;
        for (reason, count) in outcome.answers.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        Ok(())
    }
}

impl Shares {
    /// What went otherwise than asked for.
    pub fn notes(&self) -> Vec<String> {
        let rate = self.rate;
        let mut notes = Vec::new();
        for served in &self.each {
            let name = served.name;
            if served.skipped * 100 > served.sent {
                let (sent, all) = (served.sent, served.sent + served.skipped);
                notes.push(format!("{name} at {rate} shares/s: {sent} of {all} could be sent"));
            }
            if served.unanswered > 0 {
                notes.push(format!("{name} at {rate} shares/s: {} were not answered", served.unanswered));
            }
            let why = served.reasons.iter();
            notes.extend(why.map(|(reason, n)| format!("{name} at {rate} shares/s: {n} refused: {reason}")));
        }
        notes
    }
}

/// Measures the floor and the pool at each rate of `plan`.
pub async fn measure(pair: &mut [Subject; 2], plan: &Plan) -> Result<Vec<Shares>, Failure> {
    let mut swarms = [pair[0].swarm(), pair[1].swarm()];
    for swarm in &mut swarms {
        swarm.grow(plan.miners).await.map_err(Failure::unavailable)?;
    }
    let mut all = Vec::new();
    for &rate in plan.rates {
        eprintln!("{rate} shares a second over {} connections", plan.miners);
        let load = |duration| Load { rate: f64::from(rate), duration, skewed: false };
        for swarm in &swarms {
            swarm.load(load(WARM_UP)).await;
        }
        let mut each = [Served::default(), Served::default()];
        for _ in 0..plan.rounds {
            for ((served, subject), swarm) in each.iter_mut().zip(&*pair).zip(&swarms) {
                served.name = subject.name;
                served.serve(subject, swarm, load(plan.window)).await?;
            }
        }
        all.push(Shares { rate, each });
    }
    Ok(all)
}
