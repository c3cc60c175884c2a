//! Many connections that hardly do anything: what each costs to set up and to keep, and how a new block reaches all.

use std::time::Duration;

use sandbox::swarm::{Load, Spread, Swarm};
use tokio::time::{Instant, sleep};

use super::{Plan, subject::Subject, usage::Usage};
use crate::failure::Failure;

/// For what follows an event without anybody waiting for it.
const SETTLE: Duration = Duration::from_millis(500);
/// How long a new block may take to reach everybody.
const PATIENCE: Duration = Duration::from_secs(20);
/// Shares a second while the crowd mines, so that the server can know whose hashrate is whose.
const MINING: f64 = 2_000.0;

/// What a crowd costs.
pub struct Crowd {
    /// Processor time to set up one connection.
    pub setup: Duration,
    /// Memory of one idle connection, in bytes.
    pub memory: f64,
    /// Processor time of one idle connection in a second.
    pub idle: Duration,
    /// Processor time of a new block, per connection.
    pub cpu: Duration,
    /// A new block, from the first connection to the last.
    pub last: Duration,
    /// A new block, from the first connection to those who hold half of the hashrate.
    pub half: Duration,
    /// What a reader of the figures has to know.
    pub notes: Vec<String>,
}

impl Crowd {
    /// How much of the time to the last passes until half of the hashrate has the block.
    pub fn part(&self) -> f64 {
        self.half.as_secs_f64() / self.last.as_secs_f64().max(1e-9)
    }
}

/// Measures `subject`. Each figure about blocks is the median of several.
pub async fn measure(mut subject: Subject, plan: &Plan) -> Result<Crowd, Failure> {
    eprintln!("{}: {} connections", subject.name, plan.crowd);
    let mut swarm = subject.swarm();
    let Grown { before, after, count } = grow(&subject, &mut swarm, plan.crowd).await?;

    let (start, all) = (Instant::now(), u32::try_from(plan.crowd).unwrap_or(u32::MAX).max(1));
    sleep(plan.idle).await;
    let later = subject.usage()?;
    let idle = later.since(&after).div_f64(start.elapsed().as_secs_f64()) / all;

    let mined = swarm.load(Load { rate: MINING, duration: plan.mining, skewed: true }).await;
    let mut notes = Vec::new();
    if mined.answers.accepted < mined.sent {
        notes.push(format!("{}: {} of {} shares accepted", subject.name, mined.answers.accepted, mined.sent));
    }
    let mut blocks = Vec::new();
    for _ in 0..plan.blocks {
        blocks.push(block(&mut subject, &swarm).await?);
    }
    if let Some((_, spread)) = blocks.iter().find(|(_, spread)| spread.reached < plan.crowd) {
        let (name, reached) = (subject.name, spread.reached);
        notes.push(format!("{name}: a new block reached only {reached} of {}", plan.crowd));
    }
    if swarm.lost() > 0 {
        notes.push(format!("{}: {} connections were lost", subject.name, swarm.lost()));
    }
    Ok(Crowd {
        setup: after.since(&before) / count,
        memory: later.growth(&before) / f64::from(count),
        idle,
        cpu: median(blocks.iter().map(|(cpu, _)| *cpu)) / all,
        last: median(blocks.iter().map(|(_, spread)| spread.last)),
        half: median(blocks.iter().map(|(_, spread)| spread.half)),
        notes,
    })
}

/// Processor time to set up one connection with `subject`, of fewer than the crowd.
pub async fn set_up(subject: &Subject, plan: &Plan) -> Result<Duration, Failure> {
    let Grown { before, after, count } = grow(subject, &mut subject.swarm(), plan.crowd / 3).await?;
    Ok(after.since(&before) / count)
}

/// What `subject` had used before and after so many connections were opened.
struct Grown {
    before: Usage,
    after: Usage,
    count: u32,
}

/// Opens connections. The first third fills what the start has left free, and warms up.
async fn grow(subject: &Subject, swarm: &mut Swarm, all: usize) -> Result<Grown, Failure> {
    swarm.grow(all / 3).await.map_err(Failure::unavailable)?;
    sleep(2 * SETTLE).await;
    let before = subject.usage()?;
    swarm.grow(all).await.map_err(Failure::unavailable)?;
    sleep(2 * SETTLE).await;
    let count = u32::try_from(all - all / 3).unwrap_or(u32::MAX).max(1);
    Ok(Grown { before, after: subject.usage()?, count })
}

/// The processor time of one new block, and its way.
async fn block(subject: &mut Subject, swarm: &Swarm) -> Result<(Duration, Spread), Failure> {
    subject.find_block()?;
    sleep(SETTLE).await;
    swarm.expect_block();
    let before = subject.usage()?;
    subject.block()?;
    let spread = swarm.block(PATIENCE).await;
    sleep(SETTLE / 2).await;
    Ok((subject.usage()?.since(&before), spread))
}

/// The middle one, the lower of two; zero of none.
fn median(values: impl Iterator<Item = Duration>) -> Duration {
    let mut values: Vec<Duration> = values.collect();
    values.sort_unstable();
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |values: &[u64], expect: u64| {
            let found = median(values.iter().copied().map(Duration::from_nanos));
            assert_eq!(found, Duration::from_nanos(expect), "{values:?}");
        };
        check(&[], 0);
        check(&[5], 5);
        check(&[9, 1], 1);
        check(&[9, 1, 4], 4);
        check(&[9, 1, 4, 100], 4);
    }
}
