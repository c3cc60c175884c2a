//! The operator's configuration: a TOML file, overridden by the environment, parsed to final types and checked whole
//! before anything is opened.

mod file;
mod limits;
mod listen;
mod payout;
mod storage;
mod terms;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bitcoin::Network;
use ipnet::IpNet;
use ledger::{Direct, Settings, SpoolConfig, Terms};
use pool::{Acks, Limits, Tls, VardiffConfig};
use template::{Auth, Bitcoind, BitcoindConfig, NodeError, RpcConfig};

use crate::{failure::Failure, input};
pub use listen::this_machine;
pub use payout::Payout;

/// Everything that `sluice run` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The chain.
    pub network: Network,
    /// The nodes, in order of preference; at least one.
    pub nodes: Vec<BitcoindConfig>,
    /// What newer work on the same tip must be worth more, in satoshi.
    pub refresh_sats: u64,
    /// Text in every coinbase.
    pub tag: String,
    /// First byte of every extranonce.
    pub instance: u8,
    /// Who is paid, and how.
    pub terms: Terms,
    /// Where coinbases pay the miners of a window themselves: how.
    pub direct: Option<Direct>,
    /// Where Stratum V1 is served.
    pub v1: Vec<SocketAddr>,
    /// Where Stratum V1 is served in TLS only.
    pub v1_tls: Vec<SocketAddr>,
    /// Where Stratum V2 is served.
    pub v2: Vec<SocketAddr>,
    /// The file of the key that miners know the pool by in V2.
    pub authority_key: PathBuf,
    /// How long a certificate of V2 is good.
    pub certificate_validity: Duration,
    /// How shares are acknowledged in V2.
    pub acks: Acks,
    /// For TLS: the certificate and its key.
    pub tls: Option<Tls>,
    /// Networks of proxies whose connections begin with a PROXY header.
    pub proxies: Vec<IpNet>,
    /// How miners reach it, where that is not by the addresses that are listened on.
    pub public: Option<Vec<String>>,
    /// Threads that serve miners.
    pub shards: usize,
    /// Difficulty of shares.
    pub vardiff: VardiffConfig,
    /// What peers may use up.
    pub limits: Limits,
    /// Networks that are neither counted by address nor banned.
    pub trusted: Vec<IpNet>,
    /// Database.
    pub ledger_url: String,
    /// Directory of the spool.
    pub spool: PathBuf,
    /// Bounds of the spool, and what it promises.
    pub spool_config: SpoolConfig,
    /// Times of the ledger, and how long it keeps what.
    pub ledger: Settings,
    /// Directory of found blocks on their way to the nodes.
    pub blocks: PathBuf,
    /// Where the API and the dashboard are served.
    pub api: SocketAddr,
    /// How payments are made; nothing if they are not.
    pub payout: Option<Payout>,
    /// What the operator should know, though nothing is wrong.
    pub notes: Vec<String>,
}

impl Config {
    /// Reads `path`, lays `SLUICE__SECTION__KEY` of `environment` over it, and checks the whole.
    pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, Failure> {
        /// In bytes.
        const MOST: u64 = 1 << 20;
        let bytes = input::read(path, MOST);
        let bytes = bytes.map_err(|failure| Failure::usage(format!("the configuration: {failure}")))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::usage(format!("the configuration {} is no text: it must be TOML", path.display()))
        })?;
        let overrides: BTreeMap<String, String> = environment
            .filter_map(|(key, value)| Some((key.strip_prefix("SLUICE__")?.to_owned(), value)))
            .collect();
        file::File::parse(&text, &overrides)
            .and_then(Self::check)
            .map_err(|wrong| Failure::usage(format!("{}: {wrong}", path.display())))
    }

    fn check(file: file::File) -> Result<Self, String> {
        let network = network(&file.network)?;
        if file.node.is_empty() {
            return Err("there is no [[node]]: name at least one Bitcoin node".into());
        }
        let nodes = file.node.iter().enumerate();
        let nodes = nodes.map(|(index, node)| self::node(index, node, network)).collect::<Result<_, _>>()?;
        let terms = terms::read(&file.pool, network)?;
        let direct = terms::direct(&file.pool, terms.scheme)?;
        let listen::Addresses { v1, v1_tls, v2, tls, api } = listen::addresses(&file.stratum, &file.api)?;
        let limits = limits::read(&file.limits)?;
        let mut notes = terms::note(&terms).into_iter().chain(limits::note(&limits)).collect::<Vec<_>>();
        if !Bitcoind::HAS_IPC && file.node.iter().any(|node| node.ipc.is_some()) {
            let note = "node: ipc is not used by this build, the RPC is: build with --features ipc to use it";
            notes.push(note.into());
        }
        let payout = payout::read(file.wallet, &file.payout, file.signer, network)?;
        if let Some(payout) = &payout {
            if direct.is_some() {
                return Err("pool.payout = \"coinbase\" and [payout] would both pay balances: leave [payout] out, or \
                            choose pool.payout = \"balance\""
                    .into());
            }
            payout.must_own(&terms)?;
            notes.extend(payout.notes());
        }
        let proxies = listen::networks("stratum.proxies", &file.stratum.proxies)?;
        let spool = file.ledger.spool;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            network,
            nodes,
            refresh_sats: file.pool.refresh_sats,
            tag: terms::tag(file.pool.tag)?,
            instance: file.pool.instance,
            terms,
            direct,
            v1,
            v1_tls,
            tls,
            v2,
            certificate_validity: listen::certificate_validity(file.stratum.certificate_validity)?,
            acks: listen::acks(&file.stratum)?,
            authority_key: file
                .stratum
                .authority_key
                .unwrap_or_else(|| storage::beside(&spool, "authority.key")),
            public: file.stratum.public,
            shards: file.stratum.shards.unwrap_or(cores).clamp(1, 256),
            vardiff: limits::vardiff(&file.vardiff)?,
            limits,
            trusted: listen::trusted(file.limits.trusted, &proxies)?,
            proxies,
            spool_config: SpoolConfig {
                ack: storage::ack(&file.ledger.ack)?,
                mapped: file.ledger.mapped,
                audit: Duration::from_secs(86_400 * u64::from(file.ledger.audit_days)),
                ..SpoolConfig::default()
            },
            ledger: storage::kept(file.ledger.worker_days, file.ledger.slot_days)?,
            ledger_url: storage::url(file.ledger.url)?,
            blocks: file.ledger.blocks.unwrap_or_else(|| storage::beside(&spool, "blocks")),
            spool,
            api,
            payout,
            notes,
        })
    }
}

impl fmt::Display for Config {
    /// What an operator would want to see again, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, terms, v1, v1_tls, v2, api, spool, blocks, shards, .. } = self;
        writeln!(
            f,
            "network {network}, {:?}, fee {} ppm, pool address {}",
            terms.scheme, terms.fee_ppm, terms.pool_address
        )?;
        writeln!(f, "{}", terms::paid(terms.scheme, self.direct))?;
        for node in &self.nodes {
            write!(f, "node {}", node.rpc.url)?;
            let ipc = node.ipc.as_ref().filter(|_| Bitcoind::HAS_IPC);
            ipc.map_or(Ok(()), |path| write!(f, ", ipc {}", path.display()))?;
            writeln!(
                f,
                "{}",
                node.zmq_hashblock.iter().map(|zmq| format!(", zmq {zmq}")).collect::<String>()
            )?;
        }
        writeln!(
            f,
            "stratum v1 on {v1:?}, tls only on {v1_tls:?}, v2 on {v2:?}, with {shards} shards, api on {api}"
        )?;
        write!(f, "spool {}, blocks {}", spool.display(), blocks.display())?;
        self.payout.iter().try_for_each(|payout| write!(f, "\n{payout}"))?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

fn network(name: &str) -> Result<Network, String> {
    match name {
        "main" => Ok(Network::Bitcoin),
        "testnet4" => Ok(Network::Testnet4),
        "signet" => Ok(Network::Signet),
        "regtest" => Ok(Network::Regtest),
        _ => Err(format!("network = \"{name}\": choose one of main, testnet4, signet, regtest")),
    }
}

fn node(index: usize, node: &file::Node, network: Network) -> Result<BitcoindConfig, String> {
    let at = format!("node {}", index + 1);
    if !node.rpc.starts_with("http://") {
        return Err(format!(
            "{at}: rpc = \"{}\" is no http:// address, like \"http://127.0.0.1:8332\"",
            node.rpc
        ));
    }
    let auth = match (&node.cookie, &node.rpc_user, &node.rpc_password) {
        (Some(cookie), None, None) => Auth::Cookie(cookie.clone()),
        (None, Some(user), Some(password)) => {
            Auth::Password { user: user.clone(), password: password.clone() }
        }
        (Some(_), ..) => {
            return Err(format!("{at}: give either cookie or rpc_user and rpc_password, not both"));
        }
        _ => return Err(format!("{at}: give either cookie, or both rpc_user and rpc_password")),
    };
    let rpc = RpcConfig { url: node.rpc.trim_end_matches('/').to_owned(), auth, network };
    let config = BitcoindConfig { rpc, zmq_hashblock: node.zmq_hashblock.clone(), ipc: node.ipc.clone() };
    Bitcoind::new(config.clone()).map_err(|error| match error {
        NodeError::Endpoint { .. } => format!("{at}: zmq_hashblock: {error}"),
        error => format!("{at}: rpc = \"{}\": {error}", node.rpc),
    })?;
    Ok(config)
}

#[cfg(test)]
mod tests;
