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
    /// How shares are acknowledged in V2.
    pub acks: Acks,
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

/// How many accepted shares one message acknowledges, in V2: as many as came, once there are so many, or the first has
/// waited for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acks {
    /// So many; at least 1.
    pub shares: u32,
    /// So long; it is looked after every two seconds.
    pub after: Duration,
}

impl Default for Acks {
    fn default() -> Self {
        Self { shares: 10, after: Duration::from_secs(1) }
    }
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
    /// Bytes in a line before a worker is authorized (C-03); in V2, in a message before the connection is set up.
    pub line_before_authorize: usize,
    /// Bytes in a line or message afterwards.
    pub line: usize,
    /// Workers on one connection; in V2, those that are named only beside its shares (extension 0x0002).
    pub workers: usize,
    /// Channels on one connection (V2).
    pub channels: usize,
    /// Channels on all connections from one address (V2).
    pub channels_per_address: usize,
    /// Channels on all connections from one network (/24, /48; V2).
    pub channels_per_network: usize,
    /// Channels in all (V2).
    pub channels_in_all: usize,
    /// Submissions a second on one connection, and as many at once; beyond, it is read more slowly (F-31). Whatever else is
    /// asked for counts as a quarter of one. As many more for each thousand channels that it has (V2).
    pub submits_per_second: u32,
    /// Points for bad submissions, halving each minute, at which a connection is closed. As many more for each thousand
    /// channels that it has (V2).
    pub points: u32,
    /// Connections closed for what they did, halving each ban time, at which their address is banned.
    pub offences: u32,
    /// How long an address stays banned.
    pub ban: Duration,
    /// How long a connection may take for the handshake of V2; in V1, for its first whole line.
    pub handshake: Duration,
    /// How long a connection may take to authorize a worker; in V2, to open a channel.
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
            channels: 10_000,
            channels_per_address: 20_000,
            channels_per_network: 40_000,
            channels_in_all: 100_000,
            submits_per_second: 1_000,
            points: 100,
            offences: 10,
            ban: Duration::from_secs(10 * 60),
            handshake: Duration::from_secs(15),
            authorize: Duration::from_secs(60),
            write: Duration::from_secs(10),
            idle: Duration::from_secs(30 * 60),
            resume: Duration::from_secs(10 * 60),
            no_work: Duration::from_secs(120),
        }
    }
}
