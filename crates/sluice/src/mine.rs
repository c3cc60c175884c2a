//! `sluice miner`: a CPU miner, for trying things.

use sandbox::{Kind, MinerConfig, Protocol};
use stratum::noise::PoolUrl;

use crate::{failure::Failure, run::told_to_stop};

#[derive(clap::Args)]
pub struct Options {
    /// The pool: stratum+tcp://host:port, or for Stratum V2 stratum2+tcp://host:port/KEY, as the pool prints it.
    #[arg(long, default_value = "stratum+tcp://127.0.0.1:3333")]
    url: String,
    /// Payout address, with a worker name behind a dot if there is one.
    #[arg(long)]
    user: String,
    /// V2: the pool makes the merkle root (a standard channel), instead of the miner (an extended one).
    #[arg(long)]
    standard: bool,
    /// Password; d=512 asks for a difficulty to start at. V2 has none.
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
    let (connect, protocol) = pool(&options.url, options.standard).map_err(Failure::usage)?;
    let config = MinerConfig {
        protocol,
        connect,
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

/// Where the pool is, and how it is spoken to.
fn pool(url: &str, standard: bool) -> Result<(String, Protocol), String> {
    if url.starts_with("stratum2+tcp://") {
        let PoolUrl { host, port, key } = url.trim_end_matches('/').parse().map_err(|error| {
            format!(
                "--url {url}: {error}; give stratum2+tcp://host:port/KEY, as the pool prints it at its start"
            )
        })?;
        let kind = if standard { Kind::Standard } else { Kind::Extended };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        return Ok((format!("{host}:{port}"), Protocol::V2(key, kind)));
    }
    let connect = url.strip_prefix("stratum+tcp://").unwrap_or(url);
    if connect.contains("://") || !connect.contains(':') {
        return Err(format!("--url {url}: give stratum+tcp://host:port or stratum2+tcp://host:port/KEY"));
    }
    if standard {
        return Err("--standard: only Stratum V2 has such channels: give stratum2+tcp://host:port/KEY".into());
    }
    Ok((connect.trim_end_matches('/').to_owned(), Protocol::V1))
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
    fn pools_in_both_protocols() {
        let check = |url: &str, standard: bool, expect: &str| {
            let said = match pool(url, standard) {
                Ok((connect, Protocol::V1)) => format!("{connect} in V1"),
                Ok((connect, Protocol::V2(key, kind))) => format!("{connect} in V2, {kind:?}, {key}"),
                Err(error) => error,
            };
            assert!(said.contains(expect), "{url}: {said}");
        };
        let key = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";
        check("stratum+tcp://pool:3333/", false, "pool:3333 in V1");
        check("pool:3333", false, "pool:3333 in V1");
        check("pool:3333", true, "only Stratum V2 has such channels");
        check("http://pool:3333", false, "give stratum+tcp://host:port or");
        check("pool", false, "give stratum+tcp://host:port or");
        let extended = format!("pool:3336 in V2, Extended, {key}");
        check(&format!("stratum2+tcp://pool:3336/{key}"), false, &extended);
        check(&format!("stratum2+tcp://[::1]:3336/{key}"), true, "[::1]:3336 in V2, Standard");
        check("stratum2+tcp://pool:3336", false, "as the pool prints it");
        check(&format!("stratum2+tcp://pool:3336/{key}x"), false, "a key is not base58check");
    }

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
