//! What the pool room can be told; the binary fills it in from the operator's configuration.

use std::time::Duration;

use ipnet::IpNet;
use share::Difficulty;

/// Settings of the pool room.
#[derive(Clone, Debug)]
pub struct Config {
    /// Chain whose addresses miners may name.
    pub network: bitcoin::Network,
    /// Text in every coinbase.
    pub tag: String,
    /// First byte of every extranonce that this process hands out: two pools that share a payout address must differ.
    pub instance: u8,
    /// Threads that serve miners; at least 1.
    pub shards: usize,
    /// Difficulty of shares.
    pub vardiff: VardiffConfig,
    /// What a peer may use up.
    pub limits: Limits,
    /// Networks that are neither counted by address nor banned: the operator's own proxies and farms.
    pub trusted: Vec<IpNet>,
    /// A job is sent at least about this often, though nothing changed: miners take a longer silence for a dead pool (C-38).
    pub repeat: Duration,
}

/// How difficulty follows a miner's speed.
#[derive(Clone, Copy, Debug)]
pub struct VardiffConfig {
    /// How many shares a minute a session should send.
    pub shares_per_minute: f64,
    /// Difficulty of a session's first job.
    pub start: Difficulty,
    /// Never below this.
    pub min: Difficulty,
    /// Never above this. `min` = `max` pins the difficulty.
    pub max: Difficulty,
}

/// What peers may use up. The defaults suit a pool of up to 18,000 connections that nobody else protects.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all; further ones are closed at once.
    pub connections: usize,
    /// Connections from one address. Thousands are normal: a farm behind one router.
    pub per_address: usize,
    /// Connections from one network (/24, /48).
    pub per_network: usize,
    /// Bytes in a line before a worker is authorized (C-03).
    pub line_before_authorize: usize,
    /// Bytes in a line afterwards.
    pub line: usize,
    /// Workers on one connection.
    pub workers: usize,
    /// Submissions a second on one connection, and as many at once; beyond, it is read more slowly (F-31).
    pub submits_per_second: u32,
    /// Points for bad submissions, halving each minute, at which a connection is closed.
    pub points: u32,
    /// Connections closed for what they did, halving each ban time, at which their address is banned.
    pub offences: u32,
    /// How long an address stays banned.
    pub ban: Duration,
    /// How long a connection may take to authorize a worker.
    pub authorize: Duration,
    /// How long a write may be blocked by a peer that does not read.
    pub write: Duration,
    /// How long a peer may be silent.
    pub idle: Duration,
    /// How long an extranonce is kept for a peer that left (C-20).
    pub resume: Duration,
    /// How old the nodes' last template may get before miners are let go, so that they turn to another pool (C-39).
    pub no_work: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 18_000,
            per_address: 10_000,
            per_network: 12_000,
            line_before_authorize: 4 * 1024,
            line: 16 * 1024,
            workers: 1_024,
            submits_per_second: 1_000,
            points: 100,
            offences: 10,
            ban: Duration::from_secs(10 * 60),
            authorize: Duration::from_secs(60),
            write: Duration::from_secs(10),
            idle: Duration::from_secs(30 * 60),
            resume: Duration::from_secs(10 * 60),
            no_work: Duration::from_secs(120),
        }
    }
}
