//! The operator's configuration: a TOML file, overridden by the environment, parsed to final types and checked whole
//! before anything is opened.

mod file;
mod payout;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bitcoin::{Address, Network};
use ipnet::IpNet;
use ledger::{Ack, Direct, Scheme, Settings, SpoolConfig, Terms};
use pool::{Acks, Limits, Tls, VardiffConfig};
use share::Difficulty;
use template::{Auth, Bitcoind, BitcoindConfig, NodeError, RpcConfig};

use crate::{failure::Failure, input};
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
        let fee_ppm = fee_ppm(file.pool.fee_percent)?;
        let scheme = scheme(&file.pool.scheme, file.pool.pplns_factor)?;
        let direct = direct(&file.pool, scheme)?;
        let address = address(&file.pool.address, network)?;
        let terms = Terms {
            scheme,
            fee_ppm,
            pool_script: address.script_pubkey().into_bytes(),
            pool_address: address.to_string(),
        };
        let v1: Vec<SocketAddr> = listen("stratum.v1", &file.stratum.v1)?;
        let v1_tls = listen("stratum.v1_tls", &file.stratum.v1_tls)?;
        let v2 = listen("stratum.v2", &file.stratum.v2)?;
        if v1.is_empty() && v1_tls.is_empty() && v2.is_empty() {
            return Err(
                "stratum.v1 and stratum.v2 are empty: name at least one address to listen on, like \"0.0.0.0:3333\""
                    .into(),
            );
        }
        let tls = tls(&file.stratum)?;
        if tls.is_none() && !v1_tls.is_empty() {
            return Err("stratum.v1_tls needs stratum.tls_certificate and stratum.tls_key".into());
        }
        let mut notes = Vec::new();
        if scheme.buys() && fee_ppm == 0 {
            notes.push(format!(
                "pool.fee_percent = 0 with pool.scheme = \"{}\": nothing makes good for bad luck, so the reserve is used up sooner or later",
                scheme.name()
            ));
        }
        if !Bitcoind::HAS_IPC && file.node.iter().any(|node| node.ipc.is_some()) {
            let note = "node: ipc is not used by this build, the RPC is: build with --features ipc to use it";
            notes.push(note.into());
        }
        let api = listen("api.listen", std::slice::from_ref(&file.api.listen))?[0];
        if [&v1[..], &v1_tls].concat().contains(&api) && api.port() != 0 {
            return Err(format!("api.listen and stratum.v1 are both {api}: give each an address of its own"));
        }
        if v2.contains(&api) && api.port() != 0 {
            return Err(format!("api.listen and stratum.v2 are both {api}: give each an address of its own"));
        }
        let is_both =
            |address: &&SocketAddr, others: &[SocketAddr]| address.port() != 0 && others.contains(address);
        if let Some(both) = v1.iter().find(|address| is_both(address, &v1_tls)) {
            return Err(format!(
                "stratum.v1 and stratum.v1_tls are both {both}: leave it in stratum.v1, which takes TLS too"
            ));
        }
        if let Some(both) = [&v1[..], &v1_tls].concat().iter().find(|address| is_both(address, &v2)) {
            return Err(format!("stratum.v1 and stratum.v2 are both {both}: give each a port of its own"));
        }
        let acks = acks(&file.stratum)?;
        let certificate_validity = certificate_validity(file.stratum.certificate_validity)?;
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
        let proxies = networks("stratum.proxies", &file.stratum.proxies)?;
        let spool = file.ledger.spool;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            network,
            nodes,
            refresh_sats: file.pool.refresh_sats,
            tag: tag(file.pool.tag)?,
            instance: file.pool.instance,
            terms,
            direct,
            v1,
            v1_tls,
            tls,
            v2,
            authority_key: file.stratum.authority_key.unwrap_or_else(|| beside(&spool, "authority.key")),
            certificate_validity,
            acks,
            public: file.stratum.public,
            shards: file.stratum.shards.unwrap_or(cores).clamp(1, 256),
            vardiff: vardiff(&file.vardiff)?,
            limits: limits(&file.limits)?,
            trusted: trusted(file.limits.trusted, &proxies)?,
            proxies,
            spool_config: SpoolConfig {
                ack: ack(&file.ledger.ack)?,
                mapped: file.ledger.mapped,
                audit: Duration::from_secs(86_400 * u64::from(file.ledger.audit_days)),
                ..SpoolConfig::default()
            },
            ledger: kept(file.ledger.worker_days, file.ledger.slot_days)?,
            ledger_url: ledger_url(file.ledger.url)?,
            blocks: file.ledger.blocks.unwrap_or_else(|| beside(&spool, "blocks")),
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
        writeln!(f, "{}", paid(terms.scheme, self.direct))?;
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

/// What the scheme comes to, in words.
fn paid(scheme: Scheme, direct: Option<Direct>) -> String {
    let (name, factor) = (scheme.name(), scheme.factor());
    let how = match scheme {
        Scheme::Solo => return "solo: the coinbase pays all of a block to its finder, less the fee".into(),
        Scheme::Pplns { .. } | Scheme::Tides => {
            format!("each block is divided by the work of the last {factor} blocks' worth of shares")
        }
        Scheme::Pps { .. } => "each share is paid its part of the subsidy at once; blocks are the reserve's".into(),
        Scheme::Fpps { .. } => {
            "each share is paid its part of the subsidy and of the mean fees at once; blocks are the reserve's".into()
        }
        Scheme::PpsPlus { .. } => format!(
            "each share is paid its part of the subsidy at once; the fees of a block are divided by the work of the last {factor} blocks' worth of shares"
        ),
    };
    let by = match direct {
        Some(Direct { min_sats, most }) => {
            format!(
                "paid by the coinbase from {min_sats} satoshi, to at most {most} miners, the rest as balance"
            )
        }
        None => "paid from balances".into(),
    };
    format!("{name}: {how}; {by}")
}

/// How long the ledger keeps the work of slots.
fn kept(worker_days: u32, slot_days: u32) -> Result<Settings, String> {
    if slot_days < worker_days {
        return Err(format!(
            "ledger.slot_days = {slot_days} is less than ledger.worker_days = {worker_days}: work by worker cannot be kept \
             longer than work by miner; raise slot_days or lower worker_days"
        ));
    }
    let days = |days: u32| Duration::from_secs(86_400 * u64::from(days));
    Ok(Settings { worker_age: days(worker_days), slot_age: days(slot_days), ..Settings::default() })
}

fn ack(name: &str) -> Result<Ack, String> {
    match name {
        "process" => Ok(Ack::Process),
        "power" => Ok(Ack::Power),
        _ => Err(format!(
            "ledger.ack = \"{name}\": choose process (survives kill -9) or power (waits for the disk)"
        )),
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

fn scheme(name: &str, factor: u32) -> Result<Scheme, String> {
    const CHOICE: &str = "choose pplns or solo, tides, pps, fpps or pps_plus";
    const LONGEST: u32 = 1_000;
    let scheme = Scheme::parse(name, factor).ok_or_else(|| format!("pool.scheme = \"{name}\": {CHOICE}"))?;
    if factor == 0 {
        return Err("pool.pplns_factor = 0: the window must be at least one block long".into());
    }
    if factor > LONGEST {
        return Err(format!("pool.pplns_factor = {factor}: a window is at most {LONGEST} blocks long"));
    }
    Ok(scheme)
}

/// Whether, and how, coinbases pay the miners of a window.
fn direct(pool: &file::Pool, scheme: Scheme) -> Result<Option<Direct>, String> {
    /// Below this, some scripts' outputs are dust, which nodes do not relay when it is spent.
    const LEAST: u64 = 546;
    let direct = match pool.payout.as_str() {
        "balance" => None,
        "coinbase" if scheme.buys() => {
            return Err(format!(
                "pool.payout = \"coinbase\" with pool.scheme = \"{}\": the pool buys work and keeps blocks; choose payout = \"balance\"",
                scheme.name()
            ));
        }
        "coinbase" => Some(Direct { min_sats: pool.output_min_sats, most: pool.coinbase_outputs }),
        other => return Err(format!("pool.payout = \"{other}\": choose balance or coinbase")),
    };
    if pool.output_min_sats < LEAST {
        return Err(format!(
            "pool.output_min_sats = {}: an output below {LEAST} satoshi is dust; give at least that",
            pool.output_min_sats
        ));
    }
    if !(1..=4_000).contains(&pool.coinbase_outputs) {
        return Err(format!("pool.coinbase_outputs = {}: give 1 to 4000", pool.coinbase_outputs));
    }
    // Solo pays by the coinbase however it is called.
    Ok(direct.filter(|_| scheme.pays_by_window()))
}

/// Percent as the operator writes it, to a millionth of the reward; finer than that is refused, not rounded.
fn fee_ppm(percent: f64) -> Result<u32, String> {
    let ppm = (percent * 10_000.0).round();
    let exact = (percent * 10_000.0 - ppm).abs() < 1e-6;
    if !(0.0..=100.0).contains(&percent) || !exact {
        return Err(format!("pool.fee_percent = {percent}: give 0 to 100, with at most four decimals"));
    }
    Ok(ppm as u32)
}

fn address(text: &str, network: Network) -> Result<Address, String> {
    let parsed = Address::from_str(text).map_err(|_| {
        format!(
            "pool.address = \"{text}\" is no Bitcoin address (is a character wrong?): give one of {network}"
        )
    })?;
    parsed.require_network(network).map_err(|_| {
        format!("pool.address = \"{text}\" is not of the network {network}: give one of that network")
    })
}

fn tag(tag: String) -> Result<String, String> {
    /// 100 bytes of scriptSig, less the height, the salt, the extranonce and the opcodes that push them.
    const MOST: usize = 64;
    if tag.len() > MOST {
        return Err(format!("pool.tag is {} bytes long: at most {MOST} fit into a coinbase", tag.len()));
    }
    Ok(tag)
}

fn listen(key: &str, texts: &[String]) -> Result<Vec<SocketAddr>, String> {
    let parse = |text: &String| {
        text.parse()
            .map_err(|_| format!("{key}: \"{text}\" is no address to listen on, like \"0.0.0.0:3333\""))
    };
    texts.iter().map(parse).collect()
}

fn vardiff(file: &file::Vardiff) -> Result<VardiffConfig, String> {
    let difficulty = |key: &str, value: f64| {
        Difficulty::new(value).ok_or_else(|| format!("vardiff.{key} = {value}: give a number above zero"))
    };
    let config = VardiffConfig {
        shares_per_minute: file.shares_per_minute,
        start: difficulty("start", file.start.unwrap_or(file::Vardiff::START))?,
        min: difficulty("min", file.min)?,
        max: difficulty("max", file.max)?,
    };
    if !(file.shares_per_minute > 0.0 && file.shares_per_minute <= 60_000.0) {
        let rate = file.shares_per_minute;
        return Err(format!("vardiff.shares_per_minute = {rate}: give a number above 0, at most 60000"));
    }
    let is_outside = config.start < config.min || config.start > config.max;
    if is_outside && file.start.is_some() && config.min < config.max {
        let (start, file::Vardiff { min, max, .. }) = (config.start, file);
        return Err(format!(
            "vardiff.start = {start} is outside of vardiff.min = {min} and max = {max}: move it in"
        ));
    }
    if config.min > config.max {
        return Err(format!("vardiff.min = {} is above vardiff.max = {}: swap them", file.min, file.max));
    }
    Ok(config)
}

fn limits(file: &file::Limits) -> Result<Limits, String> {
    let usual = Limits::default();
    let seconds = |given: Option<u64>, usual: Duration| given.map_or(usual, Duration::from_secs);
    let channels = file.channels.unwrap_or(usual.channels);
    // Who allows a connection more has them held back by no limit that he did not name.
    let wider = |given: Option<usize>, usual: usize| given.unwrap_or(usual.max(channels));
    let limits = Limits {
        connections: file.connections.unwrap_or(usual.connections),
        per_address: file.per_address.unwrap_or(usual.per_address),
        per_network: file.per_network.unwrap_or(usual.per_network),
        line_before_authorize: file.line_before_authorize.unwrap_or(usual.line_before_authorize),
        line: file.line.unwrap_or(usual.line),
        workers: file.workers.unwrap_or(usual.workers),
        channels,
        channels_per_address: wider(file.channels_per_address, usual.channels_per_address),
        channels_per_network: wider(file.channels_per_network, usual.channels_per_network),
        channels_in_all: wider(file.channels_in_all, usual.channels_in_all),
        submits_per_second: file.submits_per_second.unwrap_or(usual.submits_per_second),
        points: file.points.unwrap_or(usual.points),
        offences: file.offences.unwrap_or(usual.offences),
        ban: seconds(file.ban, usual.ban),
        handshake: seconds(file.handshake, usual.handshake),
        authorize: seconds(file.authorize, usual.authorize),
        write: seconds(file.write, usual.write),
        idle: seconds(file.idle, usual.idle),
        resume: seconds(file.resume, usual.resume),
        no_work: seconds(file.no_work, usual.no_work),
    };
    if limits.line < limits.line_before_authorize {
        let (line, before) = (limits.line, limits.line_before_authorize);
        return Err(format!(
            "limits.line = {line} is below limits.line_before_authorize = {before}: raise it"
        ));
    }
    if limits.line_before_authorize < 512 {
        return Err("limits.line_before_authorize: miners need lines of 512 bytes at least".into());
    }
    let Limits { connections, per_address, per_network, workers, .. } = limits;
    let Limits { channels_per_address, channels_per_network, channels_in_all, .. } = limits;
    let of_channels = [channels, channels_per_address, channels_per_network, channels_in_all];
    if [connections, per_address, per_network, workers].iter().chain(&of_channels).any(|&most| most == 0) {
        return Err(
            "limits: connections, per_address, per_network, workers, channels, channels_per_address, \
                    channels_per_network and channels_in_all must be at least 1"
                .into(),
        );
    }
    Ok(limits)
}

/// A proxy speaks for many: it is trusted, and those it speaks for are counted for themselves.
fn trusted(given: Option<Vec<String>>, proxies: &[IpNet]) -> Result<Vec<IpNet>, String> {
    let trusted = match given {
        Some(given) => networks("limits.trusted", &given)?,
        None => this_machine(),
    };
    Ok([&trusted, proxies].concat())
}

/// Networks; a bare address is one of its own.
fn networks(key: &str, texts: &[String]) -> Result<Vec<IpNet>, String> {
    let parse = |text: &String| {
        let network =
            text.parse().or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error));
        network.map_err(|_| format!("{key}: \"{text}\" is no network, like \"192.0.2.0/24\""))
    };
    texts.iter().map(parse).collect()
}

fn tls(file: &file::Stratum) -> Result<Option<Tls>, String> {
    match (&file.tls_certificate, &file.tls_key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Tls::load(certificate, key).map(Some).map_err(|error| format!("stratum.tls_certificate: {error}"))
        }
        _ => Err("stratum: give both tls_certificate and tls_key, or neither".into()),
    }
}

fn acks(file: &file::Stratum) -> Result<Acks, String> {
    let &file::Stratum { ack_shares: shares, ack_seconds: seconds, .. } = file;
    if !(1..=10_000).contains(&shares) {
        return Err(format!("stratum.ack_shares = {shares}: give 1 to 10000"));
    }
    if !(0.0..=60.0).contains(&seconds) {
        return Err(format!("stratum.ack_seconds = {seconds}: give 0 to 60"));
    }
    Ok(Acks { shares, after: Duration::from_secs_f64(seconds) })
}

/// Clients are lenient by ten seconds; what is renewed every few minutes is no certificate, what holds for years no use.
fn certificate_validity(seconds: u64) -> Result<Duration, String> {
    if !(600..=365 * 24 * 60 * 60).contains(&seconds) {
        return Err(format!(
            "stratum.certificate_validity = {seconds}: give 600 (ten minutes) to 31536000 (a year)"
        ));
    }
    Ok(Duration::from_secs(seconds))
}

/// Who is trusted without a word from the operator: a proxy or a tunnel on this machine speaks for many.
pub fn this_machine() -> Vec<IpNet> {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        .map(|address| match address {
            IpAddr::V4(_) => IpNet::new_assert(address, 8).trunc(),
            IpAddr::V6(_) => IpNet::from(address),
        })
        .into()
}

fn ledger_url(url: String) -> Result<String, String> {
    let is_file =
        url.strip_prefix("sqlite://").is_some_and(|file| !file.is_empty() && !file.contains(":memory:"));
    if is_file || ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(url);
    }
    Err("ledger.url must be sqlite:// with a file, or postgres://".into())
}

fn beside(spool: &Path, name: &str) -> PathBuf {
    spool.with_file_name(name)
}

#[cfg(test)]
mod tests;
