//! `sluice demo`: the whole pool on a chain of its own, with miners of different speed. Everything that `sluice run`
//! does is done here by the same code, with another node.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use bitcoin::{Address, Network, ScriptBuf, WitnessProgram, WitnessVersion};
use ledger::{Scheme, Settings, SpoolConfig, Terms};
use pool::{Acks, Limits, VardiffConfig};
use sandbox::{Chain, ChainConfig, Kind, MinerConfig, Protocol};
use share::Difficulty;
use stratum::noise::PoolUrl;
use tokio::sync::watch;

use crate::{
    config::{Config, this_machine},
    failure::Failure,
    run::{Running, told_to_stop},
};

/// A block comes about this often.
const BLOCK_INTERVAL: Duration = Duration::from_secs(30);
/// The miners, most of which still speak V1.
const MINERS: [Demonstrator; 6] = [
    Demonstrator::new(1, "attic", 240e3, None),
    Demonstrator::new(1, "cellar", 120e3, None),
    Demonstrator::new(2, "barn", 160e3, None),
    Demonstrator::new(3, "shed", 80e3, None),
    Demonstrator::new(4, "desk", 40e3, None),
    Demonstrator::new(5, "loft", 120e3, Some(Kind::Extended)),
];
/// Where Stratum V2 is served if that port is free and nobody says otherwise.
const STRATUM_V2: u16 = 3336;

/// A miner of the demo.
struct Demonstrator {
    /// Whose it is, by the number of the address.
    owner: u8,
    name: &'static str,
    /// Hashes a second.
    hashrate: f64,
    /// It speaks V2, on a channel of this kind.
    v2: Option<Kind>,
}

impl Demonstrator {
    const fn new(owner: u8, name: &'static str, hashrate: f64, v2: Option<Kind>) -> Self {
        Self { owner, name, hashrate, v2 }
    }
}

#[derive(clap::Args)]
pub struct Options {
    /// Where the dashboard is served.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where miners connect.
    #[arg(long, default_value = "0.0.0.0:3333")]
    stratum: SocketAddr,
    /// Where miners connect that speak Stratum V2; by default beside the others at port 3336, or at a free one.
    #[arg(long)]
    stratum_v2: Option<SocketAddr>,
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
    let hashrate: f64 = MINERS.iter().map(|miner| miner.hashrate).sum();
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

impl Options {
    /// Where V2 is served. The port is one that is free, unless it was named.
    fn stratum_v2(&self) -> SocketAddr {
        let free = |port| {
            let listener = TcpListener::bind(SocketAddr::new(self.stratum.ip(), port));
            listener.and_then(|listener| listener.local_addr()).ok()
        };
        let usual = SocketAddr::new(self.stratum.ip(), STRATUM_V2);
        self.stratum_v2.or_else(|| free(STRATUM_V2)).or_else(|| free(0)).unwrap_or(usual)
    }
}

fn config(dir: &Path, options: &Options) -> Result<Config, Failure> {
    let (pool, stratum_v2) = (address(0)?, options.stratum_v2());
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
        v2: vec![stratum_v2],
        authority_key: dir.join("authority.key"),
        certificate_validity: Duration::from_secs(24 * 60 * 60),
        acks: Acks::default(),
        public: Some(vec![
            format!("stratum+tcp://{}", reachable(options.stratum)),
            format!("stratum2+tcp://{}", reachable(stratum_v2)),
        ]),
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
    miner: &Demonstrator,
    running: &Running,
    mut stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + use<> {
    let &Demonstrator { owner, name, hashrate, v2 } = miner;
    let (port, protocol) = match (v2, running.v2.first()) {
        (Some(kind), Some(url)) => (url.port, Protocol::V2(url.key, kind)),
        _ => (running.v1.first().map_or(3333, SocketAddr::port), Protocol::V1),
    };
    let user = address(owner).map(|address| format!("{address}.{name}"));
    async move {
        let Ok(user) = user else { return };
        let connect = format!("127.0.0.1:{port}");
        let config = MinerConfig {
            protocol,
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
    for PoolUrl { host, port, key } in &running.v2 {
        let host = host.parse().unwrap_or(options.stratum.ip());
        println!("  in V2        stratum2+tcp://{}/{key}", reachable(SocketAddr::new(host, *port)));
    }
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
