//! `sluice bench`: what the pool costs, beside the least that a server of the same sockets costs; or how any pool
//! answers.
//!
//! Each server is a process of its own, so that its processor time and memory are its own; the clients are in this
//! one. Absolute figures are the machine's; the ratio to the floor is ours.

mod any;
mod apart;
mod crowd;
mod job;
mod role;
mod shares;
mod subject;
mod table;
mod usage;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Subcommand;
use sandbox::swarm::{MAX_CONNECTIONS, Protocol};

use crate::{failure::Failure, files, run::told_to_stop};
use subject::Subject;
use table::{Row, Table, Unit};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// A short run with few connections: for a first look, and for changes of more than a tenth.
    #[arg(long)]
    quick: bool,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// In Stratum V2, over extended channels.
    #[arg(long)]
    v2: bool,
    /// Connections: of the crowd that a new block is sent to (9000; in V2 5000; 1000 with --quick), or to the pool of
    /// --connect (200).
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(10..=MAX_CONNECTIONS as i64))]
    connections: Option<u16>,
    /// Loads this pool instead, and says how it answers. It is load: for pools of your own. The clients do not hash, so
    /// all their shares are low, unless the pool is pinned to a difficulty of 1e-10 or less.
    #[arg(long, value_name = "HOST:PORT", requires = "user")]
    connect: Option<String>,
    /// With --connect: the payout address; each connection is a worker of it.
    #[arg(long)]
    user: Option<String>,
    /// With --connect: the password.
    #[arg(long, default_value = "x")]
    password: String,
    /// With --connect: shares a second, over all connections.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// With --connect: for so long.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
}

/// What this program is as one of the servers that are measured.
#[derive(Subcommand)]
enum Role {
    /// The least server.
    #[command(hide = true)]
    Floor {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        #[arg(long)]
        v2: bool,
        /// Signs a certificate for each connection.
        #[arg(long)]
        signs: bool,
    },
    /// The pool, on a chain of its own.
    #[command(hide = true)]
    Pool {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        v2: bool,
    },
}

/// How much is measured.
struct Plan {
    protocol: Protocol,
    /// Connections that are idle, and that a new block is sent to.
    crowd: usize,
    /// How long the crowd is left alone, and how long it mines before the blocks.
    idle: Duration,
    mining: Duration,
    blocks: usize,
    /// Connections that send shares.
    miners: usize,
    /// Shares a second, each measured by itself.
    rates: &'static [u32],
    /// How long each server has its turn under load, and how often.
    window: Duration,
    rounds: usize,
}

impl Plan {
    fn new(protocol: Protocol, quick: bool, crowd: Option<u16>) -> Self {
        let seconds = Duration::from_secs;
        // A turn in V2 ends with seconds of waiting for what is gathered of the acknowledgements.
        let (usual, rounds) = match protocol {
            Protocol::V1 => (9_000, 9),
            Protocol::V2 => (5_000, 7),
        };
        let crowd = |usual| crowd.map_or(usual, usize::from);
        let (miners, rates) = (200, &[2_000, 20_000][..]);
        if quick {
            let (idle, mining, window) = (seconds(2), seconds(3), seconds(3));
            Self { protocol, crowd: crowd(1_000), idle, mining, blocks: 3, miners, rates, window, rounds: 1 }
        } else {
            let (idle, mining, window) = (seconds(5), seconds(8), seconds(3));
            Self { protocol, crowd: crowd(usual), idle, mining, blocks: 5, miners, rates, window, rounds }
        }
    }
}

/// Runs what was asked for.
pub async fn bench(options: Options) -> Result<(), Failure> {
    match options.role {
        Some(Role::Floor { listen, v2, signs }) => return role::floor(listen, protocol(v2), signs).await,
        Some(Role::Pool { dir, v2 }) => return role::pool(&dir, protocol(v2)).await,
        None => files::allow(),
    }
    let work = async {
        match (&options.connect, &options.user) {
            (Some(connect), Some(user)) => any::measure(&options, connect, user).await,
            _ => compare(&Plan::new(protocol(options.v2), options.quick, options.connections)).await,
        }
    };
    tokio::select! {
        table = work => print!("{}", if options.json { table?.json() } else { table?.to_string() }),
        stopped = told_to_stop() => {
            stopped?;
            return Err(Failure::unavailable("stopped before there was a result"));
        }
    }
    Ok(())
}

fn protocol(is_v2: bool) -> Protocol {
    if is_v2 { Protocol::V2 } else { Protocol::V1 }
}

/// The floor and the pool, by the same measure.
async fn compare(plan: &Plan) -> Result<Table, Failure> {
    let mut table = Table::beside_the_floor();
    let mut crowds = Vec::new();
    for subject in [Subject::floor(plan.protocol).await?, Subject::pool(plan.protocol).await?] {
        crowds.push(crowd::measure(subject, plan).await?);
    }
    if let [floor, pool] = &crowds[..] {
        let size = plan.crowd;
        let mut row = |what: String, unit, floor, pool| table.push(Row::new(what, unit, floor, pool));
        let of = |duration: Duration| duration.as_secs_f64();
        row("CPU to set up a connection".into(), Unit::Micros, of(floor.setup), of(pool.setup));
        if plan.protocol == Protocol::V2 {
            let signing = crowd::set_up(&Subject::signing_floor().await?, plan).await?;
            let what = "the same, beside a floor that signs for each connection";
            row(what.into(), Unit::Micros, of(signing), of(pool.setup));
        }
        row("memory of an idle connection".into(), Unit::Bytes, floor.memory, pool.memory);
        row("CPU of an idle connection in a second".into(), Unit::Micros, of(floor.idle), of(pool.idle));
        row(format!("new block to {size}: CPU per connection"), Unit::Micros, of(floor.cpu), of(pool.cpu));
        row(format!("new block to {size}: first to last"), Unit::Millis, of(floor.last), of(pool.last));
        let what = format!("new block to {size}: first to half of hashrate");
        row(what, Unit::Millis, of(floor.half), of(pool.half));
        row("the same, in parts of first to last".into(), Unit::Percent, floor.part(), pool.part());
        table.notes.extend([floor, pool].into_iter().flat_map(|crowd| crowd.notes.clone()));
    }
    let mut pair = [Subject::floor(plan.protocol).await?, Subject::pool(plan.protocol).await?];
    for shares in shares::measure(&mut pair, plan).await? {
        let at = format!("at {} shares/s", shares.rate);
        let [floor, pool] = &shares.each;
        let cpu = [floor, pool].map(|served| served.cpu_per_share().as_secs_f64());
        table.push(Row::new(format!("CPU per accepted share {at}"), Unit::Micros, cpu[0], cpu[1]));
        for (what, part) in [("ack p50", 0.5), ("ack p99", 0.99)] {
            let [floor, pool] = [floor, pool].map(|served| served.latency.percentile(part).as_secs_f64());
            table.push(match plan.protocol {
                Protocol::V1 => Row::new(format!("{what} {at}"), Unit::Micros, floor, pool),
                Protocol::V2 => Row::unlike(format!("{what} {at} (gathered)"), Unit::Millis, floor, pool),
            });
        }
        table.notes.extend(shares.notes());
    }
    Ok(table)
}
