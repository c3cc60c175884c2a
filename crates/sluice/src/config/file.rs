//! The file as it is written: sections, keys, defaults. What a value means is checked one level up.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub network: String,
    #[serde(default)]
    pub node: Vec<Node>,
    pub pool: Pool,
    #[serde(default)]
    pub stratum: Stratum,
    #[serde(default)]
    pub vardiff: Vardiff,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub ledger: Ledger,
    #[serde(default)]
    pub api: Api,
    pub wallet: Option<Wallet>,
    #[serde(default)]
    pub payout: Payout,
    pub signer: Option<Signer>,
}

/// The pool's coins. With it, the pool makes payments.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wallet {
    pub descriptor: String,
    pub change_descriptor: Option<String>,
    /// No earlier block pays to it.
    #[serde(default)]
    pub birthday_height: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Payout {
    pub threshold_sats: u64,
    /// Like 30m, 6h, 1d; or `manual`.
    pub interval: String,
    pub confirmations: u32,
    /// Who bears the network's fee: `pool` or `miners`.
    pub fee: String,
    /// sat/vB.
    pub max_feerate: u64,
    /// Where the node cannot tell.
    pub feerate: Option<u64>,
    pub target_blocks: u16,
    pub max_outputs: u32,
    /// For transactions that wait for a signature.
    pub psbt_dir: Option<PathBuf>,
}

/// For `sluice signer`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// Its own record.
    pub log: PathBuf,
    pub daily_limit_sats: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub rpc: String,
    pub rpc_user: Option<String>,
    pub rpc_password: Option<String>,
    pub cookie: Option<PathBuf>,
    pub ipc: Option<PathBuf>,
    pub zmq_hashblock: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    #[serde(default = "default_tag")]
    pub tag: String,
    pub address: String,
    #[serde(default = "default_fee")]
    pub fee_percent: f64,
    #[serde(default = "default_scheme")]
    pub scheme: String,
    /// Length of the PPLNS window, in expected blocks; under PPS, how long the reserve has its part of blocks for a share.
    #[serde(default = "default_factor")]
    pub pplns_factor: u32,
    /// Who pays miners: `balance`, the pool, which owes them; `coinbase`, the coinbase itself.
    #[serde(default = "default_payout")]
    pub payout: String,
    /// The smallest output of a coinbase that pays miners.
    #[serde(default = "default_output_min_sats")]
    pub output_min_sats: u64,
    /// The most outputs to miners in one.
    #[serde(default = "default_coinbase_outputs")]
    pub coinbase_outputs: usize,
    #[serde(default)]
    pub instance: u8,
    /// Between blocks miners get newer work only if the block would be worth so much more.
    #[serde(default = "default_refresh_sats")]
    pub refresh_sats: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stratum {
    pub v1: Vec<String>,
    /// The same for those who must speak TLS. With a certificate, `v1` takes TLS too.
    pub v1_tls: Vec<String>,
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// Networks of proxies whose connections begin with a PROXY header.
    pub proxies: Vec<String>,
    pub v2: Vec<String>,
    /// The secret key that miners know the pool by in V2; `authority.key` beside the spool by default.
    pub authority_key: Option<PathBuf>,
    /// How long the server's certificate is good, in seconds; it is renewed at half of that.
    pub certificate_validity: u64,
    /// How many shares are acknowledged together in V2, at most …
    pub ack_shares: u32,
    /// … and how long the first of them waits for that, in seconds.
    pub ack_seconds: f64,
    /// What the dashboard tells miners to connect to, where that is not what is listened on.
    pub public: Option<Vec<String>>,
    /// Threads; one a core by default.
    pub shards: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vardiff {
    pub shares_per_minute: f64,
    /// [`Vardiff::START`] if not given, and then held within the bounds.
    pub start: Option<f64>,
    pub min: f64,
    pub max: f64,
}

/// See `pool::Limits`; what is not given stays as it is there. Times are in seconds.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub connections: Option<usize>,
    pub per_address: Option<usize>,
    pub per_network: Option<usize>,
    pub line_before_authorize: Option<usize>,
    pub line: Option<usize>,
    pub workers: Option<usize>,
    pub channels: Option<usize>,
    pub channels_per_address: Option<usize>,
    pub channels_per_network: Option<usize>,
    pub channels_in_all: Option<usize>,
    pub submits_per_second: Option<u32>,
    pub points: Option<u32>,
    pub offences: Option<u32>,
    pub ban: Option<u64>,
    pub handshake: Option<u64>,
    pub authorize: Option<u64>,
    pub write: Option<u64>,
    pub idle: Option<u64>,
    pub resume: Option<u64>,
    pub no_work: Option<u64>,
    pub trusted: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    pub url: String,
    pub spool: PathBuf,
    /// What an acknowledged share has survived: `process` or `power`.
    pub ack: String,
    /// Whether segments are mapped into memory; else each turn writes its records by a call.
    pub mapped: bool,
    /// How long drained segments are kept for audit; 0: not at all.
    pub audit_days: u32,
    /// How long the work of closed slots is kept by worker.
    pub worker_days: u32,
    /// How long it is kept by miner, where windows do not need it longer.
    pub slot_days: u32,
    /// Found blocks on their way; `blocks` beside the spool by default.
    pub blocks: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    pub listen: String,
}

fn default_tag() -> String {
    "/sluice/".into()
}

fn default_fee() -> f64 {
    1.0
}

fn default_scheme() -> String {
    "pplns".into()
}

fn default_refresh_sats() -> u64 {
    template::SourceConfig::default().gain
}

fn default_factor() -> u32 {
    2
}

fn default_payout() -> String {
    "balance".into()
}

fn default_output_min_sats() -> u64 {
    10_000
}

fn default_coinbase_outputs() -> usize {
    400
}

impl Default for Stratum {
    fn default() -> Self {
        Self {
            v1: vec!["0.0.0.0:3333".into()],
            v1_tls: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            proxies: Vec::new(),
            v2: Vec::new(),
            authority_key: None,
            certificate_validity: 24 * 60 * 60,
            ack_shares: pool::Acks::default().shares,
            ack_seconds: pool::Acks::default().after.as_secs_f64(),
            public: None,
            shards: None,
        }
    }
}

impl Vardiff {
    /// Where a session starts if the operator does not say.
    pub const START: f64 = 1024.0;
}

impl Default for Vardiff {
    fn default() -> Self {
        Self { shares_per_minute: 10.0, start: None, min: 0.001, max: 1e12 }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            url: "sqlite://sluice.db".into(),
            spool: "spool".into(),
            ack: "process".into(),
            mapped: true,
            audit_days: 30,
            worker_days: 7,
            slot_days: 90,
            blocks: None,
        }
    }
}

impl Default for Payout {
    fn default() -> Self {
        Self {
            threshold_sats: 100_000,
            interval: "6h".into(),
            confirmations: 6,
            fee: "pool".into(),
            max_feerate: 50,
            feerate: None,
            target_blocks: 6,
            max_outputs: 500,
            psbt_dir: None,
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8080".into() }
    }
}

impl File {
    /// Parses `text` and lays `overrides` (`SECTION__KEY` to value) over it.
    ///
    /// # Errors
    /// One line: what is wrong and where.
    pub fn parse(text: &str, overrides: &BTreeMap<String, String>) -> Result<Self, String> {
        if overrides.is_empty() {
            return toml::from_str(text).map_err(|error| explain(&error, text));
        }
        let mut table: Table = toml::from_str(text).map_err(|error| explain(&error, text))?;
        for (key, value) in overrides {
            let path: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
            set(&mut table, &path, value).ok_or_else(|| {
                format!("SLUICE__{key} in the environment names no key: it must be SLUICE__SECTION__KEY")
            })?;
        }
        let names = || overrides.keys().map(|key| format!("SLUICE__{key}")).collect::<Vec<_>>().join(", ");
        table.try_into().map_err(|error: toml::de::Error| {
            format!("{} (with {} of the environment laid over the file)", error.message(), names())
        })
    }
}

fn explain(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => format!("line {}: {}", before.matches('\n').count() + 1, error.message()),
        None => error.message().to_owned(),
    }
}

/// Sets what `path` names; numbers in it are places in an array, such as the first `[[node]]`'s 0.
fn set(table: &mut Table, path: &[String], value: &str) -> Option<()> {
    match path {
        [] => None,
        [key] => {
            table.insert(key.clone(), literal(value));
            Some(())
        }
        [key, index, rest @ ..] if index.parse::<usize>().is_ok() && !rest.is_empty() => {
            let entries =
                table.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new())).as_array_mut()?;
            let index: usize = index.parse().ok().filter(|&index| index <= entries.len())?;
            if index == entries.len() {
                entries.push(Value::Table(Table::new()));
            }
            set(entries.get_mut(index)?.as_table_mut()?, rest, value)
        }
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            set(inner.as_table_mut()?, rest, value)
        }
    }
}

/// A value as TOML would read it, else the text itself: nobody wants to quote quotes in an environment.
fn literal(value: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok();
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(value.to_owned()))
}
