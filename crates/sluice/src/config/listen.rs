//! `[stratum]`: where miners are served, in which protocols, and through whom.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use pool::{Acks, Tls};

use super::file;

/// Where the pool is reached.
pub struct Addresses {
    /// Stratum V1, and TLS if there is a certificate.
    pub v1: Vec<SocketAddr>,
    /// Stratum V1 in TLS only.
    pub v1_tls: Vec<SocketAddr>,
    /// Stratum V2.
    pub v2: Vec<SocketAddr>,
    /// The certificate.
    pub tls: Option<Tls>,
    /// The API and the dashboard.
    pub api: SocketAddr,
}

/// Each address that is listened on, which serves one protocol only.
pub fn addresses(stratum: &file::Stratum, api: &file::Api) -> Result<Addresses, String> {
    let v1 = listen("stratum.v1", &stratum.v1)?;
    let v1_tls = listen("stratum.v1_tls", &stratum.v1_tls)?;
    let v2 = listen("stratum.v2", &stratum.v2)?;
    if v1.is_empty() && v1_tls.is_empty() && v2.is_empty() {
        return Err(
            "stratum.v1 and stratum.v2 are empty: name at least one address to listen on, like \"0.0.0.0:3333\""
                .into(),
        );
    }
    let tls = tls(stratum)?;
    if tls.is_none() && !v1_tls.is_empty() {
        return Err("stratum.v1_tls needs stratum.tls_certificate and stratum.tls_key".into());
    }
    let api = listen("api.listen", std::slice::from_ref(&api.listen))?[0];
    let any_v1 = [&v1[..], &v1_tls].concat();
    // Port 0 is one that the system chooses.
    let both = |some: &[SocketAddr], others: &[SocketAddr]| {
        some.iter().find(|address| address.port() != 0 && others.contains(address)).copied()
    };
    if both(&any_v1, &[api]).is_some() {
        return Err(format!("api.listen and stratum.v1 are both {api}: give each an address of its own"));
    }
    if both(&v2, &[api]).is_some() {
        return Err(format!("api.listen and stratum.v2 are both {api}: give each an address of its own"));
    }
    if let Some(both) = both(&v1, &v1_tls) {
        return Err(format!(
            "stratum.v1 and stratum.v1_tls are both {both}: leave it in stratum.v1, which takes TLS too"
        ));
    }
    if let Some(both) = both(&any_v1, &v2) {
        return Err(format!("stratum.v1 and stratum.v2 are both {both}: give each a port of its own"));
    }
    Ok(Addresses { v1, v1_tls, v2, tls, api })
}

fn listen(key: &str, texts: &[String]) -> Result<Vec<SocketAddr>, String> {
    let parse = |text: &String| {
        text.parse()
            .map_err(|_| format!("{key}: \"{text}\" is no address to listen on, like \"0.0.0.0:3333\""))
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

/// How shares are acknowledged in V2.
pub fn acks(file: &file::Stratum) -> Result<Acks, String> {
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
pub fn certificate_validity(seconds: u64) -> Result<Duration, String> {
    if !(600..=365 * 24 * 60 * 60).contains(&seconds) {
        return Err(format!(
            "stratum.certificate_validity = {seconds}: give 600 (ten minutes) to 31536000 (a year)"
        ));
    }
    Ok(Duration::from_secs(seconds))
}

/// Networks; a bare address is one of its own.
pub fn networks(key: &str, texts: &[String]) -> Result<Vec<IpNet>, String> {
    let parse = |text: &String| {
        let network =
            text.parse().or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error));
        network.map_err(|_| format!("{key}: \"{text}\" is no network, like \"192.0.2.0/24\""))
    };
    texts.iter().map(parse).collect()
}

/// A proxy speaks for many: it is trusted, and those it speaks for are counted for themselves.
pub fn trusted(given: Option<Vec<String>>, proxies: &[IpNet]) -> Result<Vec<IpNet>, String> {
    let trusted = match given {
        Some(given) => networks("limits.trusted", &given)?,
        None => this_machine(),
    };
    Ok([&trusted, proxies].concat())
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
