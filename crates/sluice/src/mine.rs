//! `sluice miner`: a CPU miner, for trying things.

use sandbox::MinerConfig;

use crate::{failure::Failure, run::told_to_stop};

#[derive(clap::Args)]
pub struct Options {
    /// The pool: stratum+tcp://host:port.
    #[arg(long, default_value = "stratum+tcp://127.0.0.1:3333")]
    url: String,
    /// Payout address, with a worker name behind a dot if there is one.
    #[arg(long)]
    user: String,
    /// Password; d=512 asks for a difficulty to start at.
    #[arg(long, default_value = "x")]
    password: String,
    /// At most this many hashes a second: 500k, 2.5M; without it, as fast as it goes.
    #[arg(long, value_parser = hashrate)]
    hashrate: Option<f64>,
    /// Threads to hash with.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
}

/// Mines until told to stop.
pub async fn mine(options: Options) -> Result<(), Failure> {
    let connect = options.url.strip_prefix("stratum+tcp://").unwrap_or(&options.url);
    if connect.contains("://") || !connect.contains(':') {
        let url = &options.url;
        return Err(Failure::usage(format!("--url {url}: give stratum+tcp://host:port")));
    }
    let config = MinerConfig {
        connect: connect.trim_end_matches('/').to_owned(),
        user: options.user,
        password: options.password,
        hashrate: options.hashrate,
        threads: options.threads.into(),
    };
    let stop = async {
        if let Err(failure) = told_to_stop().await {
            tracing::error!("{failure}");
        }
    };
    let report = sandbox::mine(config, stop).await.map_err(Failure::unavailable)?;
    println!("{report}");
    Ok(())
}

/// Hashes a second, with k, M or G behind it.
fn hashrate(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'M')) => (&text[..at], 1e6),
        Some((at, 'G')) => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    let value = number.parse::<f64>().ok().map(|number| number * scale);
    value
        .filter(|value| value.is_finite() && *value > 0.0)
        .ok_or_else(|| "give a number like 500k or 2.5M".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashrates_as_people_write_them() {
        let check = |text: &str, expect: Option<f64>| assert_eq!(hashrate(text).ok(), expect, "{text:?}");
        check("500k", Some(500e3));
        check("2.5M", Some(2.5e6));
        check("7", Some(7.0));
        check("1G", Some(1e9));
        check("", None);
        check("k", None);
        check("-1", None);
        check("inf", None);
        check("1é", None);
    }
}
