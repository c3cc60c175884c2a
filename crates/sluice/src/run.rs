//! Builds the rooms from the configuration and runs them until told to stop.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use api::About;
use ledger::{Ledger, Spool};
use pool::{Door, Listener, Noise, Pool};
use stratum::noise::{AuthorityPublicKey, PoolUrl};
use template::{Bitcoind, Node, NodeStatus, Source, SourceConfig, Submitter};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use crate::{authority, config::Config, dies, failure::Failure, files, payout, standing::Nodes};

/// How long the end may take: replies, the spool, blocks under way, the last batch into the database.
const FAREWELL: Duration = Duration::from_secs(8);
/// Miners take a minute of silence for a dead pool (C-38).
const REPEAT: Duration = Duration::from_secs(30);

/// `sluice run`.
pub async fn run(mut config: Config) -> Result<(), Failure> {
    config.limits.connections = files::allow_for(config.limits.connections);
    let nodes = connect(&config).await?;
    let running = Running::start(&config, nodes).await?;
    config.notes.iter().for_each(|note| tracing::warn!("{note}"));
    tracing::info!(api = %running.api, v1 = ?running.v1, v1_tls = ?running.v1_tls, "serving");
    running.v2.iter().for_each(|url| tracing::info!(%url, "serving Stratum V2"));
    told_to_stop().await?;
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}

/// `sluice migrate`.
pub async fn migrate(config: Config) -> Result<(), Failure> {
    Ledger::migrate(&config.ledger_url).await.map_err(Failure::unavailable)?;
    println!("the database is up to date");
    Ok(())
}

/// Ends at SIGINT (Ctrl-C) or SIGTERM.
pub async fn told_to_stop() -> Result<(), Failure> {
    let refused = |error| Failure::unavailable(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// The nodes, at least one of which answers and is on the right chain.
async fn connect(config: &Config) -> Result<Vec<Arc<dyn Node>>, Failure> {
    let mut nodes: Vec<Arc<dyn Node>> = Vec::new();
    let mut failures = Vec::new();
    for node in &config.nodes {
        let wrong = |error| format!("node {}: {error}", node.rpc.url);
        let node = Bitcoind::new(node.clone()).map_err(|error| Failure::unavailable(wrong(error)))?;
        if let Err(error) = node.check().await {
            failures.push(wrong(error));
        }
        nodes.push(Arc::new(node));
    }
    if failures.len() == nodes.len() {
        return Err(Failure::unavailable(failures.join("; ")));
    }
    for failure in failures {
        tracing::warn!("{failure}; going on with the other nodes");
    }
    Ok(nodes)
}

/// A pool at work.
pub struct Running {
    /// Where the API and the dashboard are.
    pub api: SocketAddr,
    /// Where V1 is served.
    pub v1: Vec<SocketAddr>,
    /// Where it is served in TLS only.
    pub v1_tls: Vec<SocketAddr>,
    /// Where V2 is served, and by which key the pool is known there.
    pub v2: Vec<PoolUrl>,
    pool: Pool,
    source: Arc<Source>,
    submitter: Submitter,
    stop: watch::Sender<bool>,
    ledger: JoinHandle<()>,
    site: JoinHandle<()>,
}

impl Running {
    /// Opens the ledger, takes the ports, starts the rooms. What fails, fails before a miner is served.
    pub async fn start(config: &Config, nodes: Vec<Arc<dyn Node>>) -> Result<Self, Failure> {
        let noise = noise(config)?;
        let listeners = listen(config, noise.as_ref())?;
        let site = TcpListener::bind(config.api).map_err(taken(&config.api))?;
        let spool = Spool::open(&config.spool, config.spool_config.clone())
            .map_err(|error| Failure::unavailable(format!("ledger.spool: {error}")))?;
        let terms = config.terms.clone();
        let settings = ledger::Settings { halt: dies::halt(), ..config.ledger.clone() };
        let ledger = Ledger::open_with(&config.ledger_url, spool.clone(), terms, config.network, settings)
            .await
            .map_err(Failure::unavailable)?;
        let chain = Arc::new(Nodes(nodes.clone()));
        let payer = payout::payer(config, &ledger, chain.clone()).await?;
        record_left(&config.blocks, &spool)?;
        let submitter =
            Submitter::start(nodes.clone(), config.blocks.clone()).map_err(Failure::unavailable)?;
        let source = Arc::new(Source::start(
            nodes.clone(),
            SourceConfig { gain: config.refresh_sats, ..SourceConfig::default() },
        ));

        let bound: Vec<SocketAddr> = listeners.iter().map(Listener::address).collect();
        let (v1, others) = bound.split_at(config.v1.len().min(bound.len()));
        let (v1_tls, v2) = others.split_at(config.v1_tls.len().min(others.len()));
        let key = noise.as_ref().map(Noise::key);
        let v2: Vec<PoolUrl> = v2.iter().zip(key.iter().cycle()).map(|(at, key)| url(at, *key)).collect();
        let (v1, v1_tls) = (v1.to_vec(), v1_tls.to_vec());
        let api = site
            .local_addr()
            .map_err(|error| Failure::unavailable(format!("the API's listener has no address: {error}")))?;
        let settings = pool::Config {
            network: config.network,
            tag: config.tag.clone(),
            instance: config.instance,
            shards: config.shards,
            vardiff: config.vardiff,
            limits: config.limits,
            trusted: config.trusted.clone(),
            acks: config.acks,
            repeat: REPEAT,
        };
        let coinbases = ledger.coinbases(config.direct).await.map_err(Failure::unavailable)?;
        let templates = source.watch();
        let pool = Pool::start(settings, coinbases, listeners, templates, submitter.clone(), &spool)
            .map_err(Failure::unavailable)?;

        let (stop, stopped) = watch::channel(false);
        let until = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let state = api::State {
            ledger: ledger.clone(),
            roster: pool.roster(),
            about: about(config, stratum_urls(config, &v1, &v1_tls, &v2, key)),
            nodes: node_states(source.clone()),
        };
        let site = site.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(site));
        let site = site.map_err(|error| Failure::unavailable(format!("cannot serve the API: {error}")))?;
        let serve = api::serve(site, state, until(stopped.clone()));
        let site = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the API has ended; mining goes on");
            }
        });
        let ledger = tokio::spawn(async move {
            let payments = async {
                if let Some(payer) = payer {
                    payer.run(until(stopped.clone())).await;
                }
            };
            tokio::join!(ledger.run(chain, until(stopped.clone())), payments);
        });
        Ok(Self { api, v1, v1_tls, v2, pool, source, submitter, stop, ledger, site })
    }

    /// Lets everyone finish: miners are closed, the spool is drained, blocks under way are delivered.
    pub async fn stop(self) {
        let farewell = async {
            self.pool.stop().await;
            self.source.stop();
            self.stop.send_replace(true);
            self.submitter.settled(FAREWELL / 2).await;
            let _ = tokio::join!(self.ledger, self.site);
        };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            tracing::warn!(
                "not everything was finished; what is in the spool and on disk goes on at the next start"
            );
        }
    }
}

/// The writer of the spool that no shard has.
const LEFT: u16 = u16::MAX;

/// Records what blocks an earlier run has left, should it have been killed before it could: the ledger takes a block once.
fn record_left(blocks: &Path, spool: &Spool) -> Result<(), Failure> {
    let notes = Submitter::notes(blocks).map_err(Failure::unavailable)?;
    if notes.is_empty() {
        return Ok(());
    }
    let unavailable = |error| Failure::unavailable(format!("ledger.spool: {error}"));
    let mut writer = spool.writer(LEFT).map_err(unavailable)?;
    for note in notes {
        if !writer.found_again(note) {
            tracing::error!(dir = %blocks.display(), "the note of a found block cannot be read: is it in the ledger?");
        }
    }
    writer.commit().map_err(unavailable)
}

/// What the API may know of the nodes.
fn node_states(source: Arc<Source>) -> api::Nodes {
    let state = |node: NodeStatus| api::NodeState {
        is_well: node.is_well,
        leads: node.leads,
        height: node.tip.map(|tip| tip.height),
        template_age: node.template_age,
        faults: node.faults,
    };
    Arc::new(move || source.status().into_iter().map(state).collect())
}

/// What V2 is encrypted with, if it is served.
fn noise(config: &Config) -> Result<Option<Noise>, Failure> {
    if config.v2.is_empty() {
        return Ok(None);
    }
    let authority = authority::load_or_make(&config.authority_key)?;
    Ok(Some(Noise::new(authority, config.certificate_validity)))
}

/// The addresses for miners: those of V1, of V1 in TLS, of V2.
fn listen(config: &Config, noise: Option<&Noise>) -> Result<Vec<Listener>, Failure> {
    let proxies = || config.proxies.clone();
    let v1 = |is_tls_only| Door { tls: config.tls.clone(), is_tls_only, proxies: proxies(), noise: None };
    let v2 = || Door { proxies: proxies(), noise: noise.cloned(), ..Door::default() };
    let plain = config.v1.iter().map(|address| (address, v1(false)));
    let in_tls = config.v1_tls.iter().map(|address| (address, v1(true)));
    let all = plain.chain(in_tls).chain(config.v2.iter().map(|address| (address, v2())));
    let bind = |(address, door): (&SocketAddr, Door)| {
        Listener::bind(*address, config.shards, door).map_err(taken(address))
    };
    all.map(bind).collect()
}

fn url(address: &SocketAddr, key: AuthorityPublicKey) -> PoolUrl {
    PoolUrl { host: address.ip().to_string(), port: address.port(), key }
}

/// How miners reach it, as the dashboard says: by what is listened on, or what the operator says instead. Where he names
/// an address of V2 without the key, that is added.
fn stratum_urls(
    config: &Config,
    v1: &[SocketAddr],
    v1_tls: &[SocketAddr],
    v2: &[PoolUrl],
    key: Option<AuthorityPublicKey>,
) -> Vec<String> {
    let listened = || {
        let plain = v1.iter().map(|address| format!("stratum+tcp://{address}"));
        let in_tls = v1_tls.iter().map(|address| format!("stratum+ssl://{address}"));
        plain.chain(in_tls).chain(v2.iter().map(PoolUrl::to_string)).collect()
    };
    let with_key = |url: &String| match (url.strip_prefix("stratum2+tcp://"), key) {
        (Some(place), Some(key)) if !place.contains('/') => format!("{url}/{key}"),
        _ => url.clone(),
    };
    config.public.as_ref().map_or_else(listened, |public| public.iter().map(with_key).collect())
}

fn taken(address: &SocketAddr) -> impl Fn(std::io::Error) -> Failure {
    move |error| {
        let what = format!("cannot listen on {address} ({error}): free the port, or configure another");
        Failure::unavailable(what)
    }
}

fn about(config: &Config, stratum_urls: Vec<String>) -> About {
    About {
        network: config.network.to_string(),
        scheme: config.terms.scheme.name().to_owned(),
        fee_ppm: config.terms.fee_ppm,
        payout_threshold_sats: config.payout.as_ref().map(|payout| payout.settings.threshold),
        tag: config.tag.clone(),
        stratum_urls,
        version: env!("CARGO_PKG_VERSION"),
    }
}
