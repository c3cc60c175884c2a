//! `sluice demo`: the whole pool on a chain of its own, with miners of different speed. Everything that `sluice run`
//! does is done here by the same code, with another node.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use bitcoin::{Address, Network, ScriptBuf, WitnessProgram, WitnessVersion};
use ledger::{Scheme, Settings, SpoolConfig, Terms};
use pool::{Acks, Limits, VardiffConfig};
use sandbox::{Chain, ChainConfig, MinerConfig};
use share::Difficulty;
use tokio::sync::watch;

use crate::{
    config::{Config, this_machine},
    failure::Failure,
    run::{Running, told_to_stop},
};

/// A block comes about this often.
const BLOCK_INTERVAL: Duration = Duration::from_secs(30);
/// The miners: whose they are, what they are called, and hashes a second.
const MINERS: [(u8, &str, f64); 5] =
    [(1, "attic", 240e3), (1, "cellar", 120e3), (2, "barn", 160e3), (3, "shed", 80e3), (4, "desk", 40e3)];

#[derive(clap::Args)]
pub struct Options {
    /// Where the dashboard is served.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where miners connect.
    #[arg(long, default_value = "0.0.0.0:3333")]
    stratum: SocketAddr,
    /// Leave the ledger in this directory, which must be empty; without it, it is gone at the end.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Runs until told to stop.
pub async fn demo(options: Options) -> Result<(), Failure> {
    let (dir, is_kept) = match &options.dir {
        Some(dir) => (dir.clone(), true),
        None => (std::env::temp_dir().join(format!("sluice-demo-{}", std::process::id())), false),
    };
    let cannot = |error| Failure::unavailable(format!("cannot write to {}: {error}", dir.display()));
    std::fs::create_dir_all(&dir).map_err(cannot)?;
    if std::fs::read_dir(&dir).map_err(cannot)?.next().is_some() {
        let dir = dir.display();
        return Err(Failure::usage(format!(
            "{dir} is not empty: each demo is a new chain, so give a new directory"
        )));
    }
    let ended = demo_in(&dir, &options).await;
    if !is_kept && let Err(error) = std::fs::remove_dir_all(&dir) {
        tracing::warn!(%error, dir = %dir.display(), "could not be removed");
    }
    ended
}

async fn demo_in(dir: &Path, options: &Options) -> Result<(), Failure> {
    let hashrate: f64 = MINERS.iter().map(|miner| miner.2).sum();
    let difficulty = hashrate * BLOCK_INTERVAL.as_secs_f64() / 2f64.powi(32);
    let chain = Chain::new(ChainConfig {
        block_interval: BLOCK_INTERVAL,
        start_difficulty: difficulty,
        ..ChainConfig::default()
    });
    let running = Running::start(&config(dir, options)?, vec![chain]).await?;
    greet(&running, options);

    let (stop, stopped) = watch::channel(false);
    let miners: Vec<_> =
        MINERS.iter().map(|miner| tokio::spawn(mine(miner, &running, stopped.clone()))).collect();
    told_to_stop().await?;
    println!("ending");
    stop.send_replace(true);
    for miner in miners {
        let _ = miner.await;
    }
    running.stop().await;
    Ok(())
}

fn config(dir: &Path, options: &Options) -> Result<Config, Failure> {
    let pool = address(0)?;
    let difficulty =
        |value| Difficulty::new(value).ok_or_else(|| Failure::usage("a difficulty must be above zero"));
    Ok(Config {
        network: Network::Regtest,
        nodes: Vec::new(),
        refresh_sats: 0,
        tag: "/sluice demo/".into(),
        instance: 0,
        terms: Terms {
            scheme: Scheme::Pplns { factor: 4 },
            fee_ppm: 10_000,
            pool_script: pool.script_pubkey().into_bytes(),
            pool_address: pool.to_string(),
        },
        direct: None,
        v1: vec![options.stratum],
        v1_tls: Vec::new(),
        tls: None,
        proxies: Vec::new(),
        v2: Vec::new(),
        authority_key: dir.join("authority.key"),
        certificate_validity: Duration::from_secs(24 * 60 * 60),
        acks: Acks::default(),
        public: Some(vec![format!("stratum+tcp://{}", reachable(options.stratum))]),
        shards: 2,
        vardiff: VardiffConfig {
            shares_per_minute: 20.0,
            start: difficulty(0.0001)?,
            min: difficulty(0.00001)?,
            max: difficulty(1e12)?,
        },
        limits: Limits::default(),
        trusted: this_machine(),
        ledger_url: format!("sqlite://{}", dir.join("sluice.db").display()),
        spool: dir.join("spool"),
        spool_config: SpoolConfig::default(),
        ledger: Settings::default(),
        blocks: dir.join("blocks"),
        api: options.listen,
        payout: None,
        notes: Vec::new(),
    })
}

fn mine(
    miner: &(u8, &'static str, f64),
    running: &Running,
    mut stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + use<> {
    let &(owner, name, hashrate) = miner;
    let port = running.v1.first().map_or(3333, SocketAddr::port);
    let user = address(owner).map(|address| format!("{address}.{name}"));
    async move {
        let Ok(user) = user else { return };
        let connect = format!("127.0.0.1:{port}");
        let config = MinerConfig {
            protocol: sandbox::Protocol::V1,
            connect,
            user,
            password: "x".into(),
            hashrate: Some(hashrate),
            threads: 1,
        };
        let stop = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = sandbox::mine(config, stop).await {
            tracing::error!(%error, miner = name, "a miner has ended");
        }
    }
}

fn greet(running: &Running, options: &Options) {
    let port = running.v1.first().map_or(3333, SocketAddr::port);
    let example = address(7).map(|address| address.to_string()).unwrap_or_default();
    println!(
        "Sluice demo: a pool, a chain of its own, {} miners, a block about every half minute.\n",
        MINERS.len()
    );
    println!("  dashboard    http://{}/", running.api);
    println!("  your miner   stratum+tcp://{}", reachable(SocketAddr::new(options.stratum.ip(), port)));
    println!("               user {example}.rig1, password x");
    println!("               (the chain is a toy, and so is the address: any regtest address will do)");
    println!(
        "  a CPU miner  sluice miner --url stratum+tcp://127.0.0.1:{port} --user {example}.cpu --hashrate 100k\n"
    );
    println!("Ctrl-C ends it.");
}

/// An address that nobody has the key of.
fn address(number: u8) -> Result<Address, Failure> {
    let program = WitnessProgram::new(WitnessVersion::V0, &[number; 20]).map_err(Failure::unavailable)?;
    let script = ScriptBuf::new_witness_program(&program);
    Address::from_script(&script, Network::Regtest).map_err(Failure::unavailable)
}

/// `listen` as another machine would say it: for 0.0.0.0, the address that this machine has on its network.
fn reachable(listen: SocketAddr) -> SocketAddr {
    if !listen.ip().is_unspecified() {
        return listen;
    }
    // Connecting a UDP socket sends nothing: it only looks up the route.
    let route = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    SocketAddr::new(route.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |local| local.ip()), listen.port())
}
