//! `[vardiff]` and `[limits]`: how hard miners' shares are, and what peers may use up.

use std::time::Duration;

use pool::{Limits, VardiffConfig};
use share::Difficulty;
use template::SourceConfig;

use super::file;

/// How difficulty follows a miner's speed.
pub fn vardiff(file: &file::Vardiff) -> Result<VardiffConfig, String> {
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

/// What peers may use up.
pub fn read(file: &file::Limits) -> Result<Limits, String> {
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

/// What the operator should know of limits that are right.
pub fn note(limits: &Limits) -> Option<String> {
    // A node that is asked gives a template each `refresh`, and may be late with one.
    let refresh = SourceConfig::default().refresh;
    let least = 2 * refresh + Duration::from_secs(5);
    (limits.no_work < least).then(|| {
        format!(
            "limits.no_work = {}: a node gives a template each {} s, so miners may be let go while it is well; {} is safe",
            limits.no_work.as_secs(),
            refresh.as_secs(),
            least.as_secs()
        )
    })
}
