//! Any pool: no look into its process, but how it answers.

use std::time::{Duration, Instant};

use sandbox::swarm::{Load, Swarm, SwarmConfig};

use super::{
    Options,
    table::{Row, Table, Unit},
};
use crate::failure::Failure;

/// Connections, where nobody says how many.
const CONNECTIONS: u16 = 200;

/// Loads the pool at `connect`.
pub async fn measure(options: &Options, connect: &str, user: &str) -> Result<Table, Failure> {
    let (connect, user) = (connect.to_owned(), user.to_owned());
    let (protocol, password) = (super::protocol(options.v2), options.password.clone());
    let mut swarm = Swarm::new(SwarmConfig { protocol, connect, user, password });
    let connections = options.connections.unwrap_or(CONNECTIONS);
    let start = Instant::now();
    swarm.grow(connections.into()).await.map_err(Failure::unavailable)?;
    let opened = start.elapsed();
    swarm.expect_block();
    let duration = Duration::from_secs(options.seconds.into());
    let outcome = swarm.load(Load { rate: f64::from(options.rate), duration, skewed: false }).await;
    let spread = swarm.block(Duration::ZERO).await;

    let mut table = Table::alone();
    let mut row = |what: &str, unit, value| table.push(Row::alone(what.to_owned(), unit, value));
    let latency = |part| outcome.answers.latency.percentile(part).as_secs_f64();
    row("connections", Unit::Count, swarm.connections() as f64);
    row("connections lost", Unit::Count, swarm.lost() as f64);
    row("to open them all", Unit::Millis, opened.as_secs_f64());
    row("shares sent", Unit::Count, outcome.sent as f64);
    row("shares left out", Unit::Count, outcome.skipped as f64);
    row("shares accepted", Unit::Count, outcome.answers.accepted as f64);
    row("shares refused", Unit::Count, outcome.answers.rejected as f64);
    row("shares not answered", Unit::Count, outcome.unanswered as f64);
    row("ack p50", Unit::Micros, latency(0.5));
    row("ack p99", Unit::Micros, latency(0.99));
    if spread.reached > 0 {
        row("new block: connections reached", Unit::Count, spread.reached as f64);
        row("new block: first to last", Unit::Millis, spread.last.as_secs_f64());
    }
    let reasons = outcome.answers.reasons.iter();
    table.notes.extend(reasons.map(|(reason, count)| format!("{count} refused: {reason}")));
    Ok(table)
}
