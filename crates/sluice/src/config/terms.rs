//! `[pool]`: who is paid, and how.

use std::str::FromStr;

use bitcoin::{Address, Network};
use ledger::{Direct, Scheme, Terms};

use super::file;

/// Who is paid, and what the pool keeps.
pub fn read(pool: &file::Pool, network: Network) -> Result<Terms, String> {
    let fee_ppm = fee_ppm(pool.fee_percent)?;
    let scheme = scheme(&pool.scheme, pool.pplns_factor)?;
    let address = address(&pool.address, network)?;
    Ok(Terms {
        scheme,
        fee_ppm,
        pool_script: address.script_pubkey().into_bytes(),
        pool_address: address.to_string(),
    })
}

/// What the operator should know of terms that are right.
pub fn note(terms: &Terms) -> Option<String> {
    let is_without_reserve = terms.scheme.buys() && terms.fee_ppm == 0;
    is_without_reserve.then(|| {
        format!(
            "pool.fee_percent = 0 with pool.scheme = \"{}\": nothing makes good for bad luck, so the reserve is used up sooner or later",
            terms.scheme.name()
        )
    })
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
pub fn direct(pool: &file::Pool, scheme: Scheme) -> Result<Option<Direct>, String> {
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

/// What the scheme comes to, in words.
pub fn paid(scheme: Scheme, direct: Option<Direct>) -> String {
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

/// Text in every coinbase.
pub fn tag(tag: String) -> Result<String, String> {
    /// 100 bytes of scriptSig, less the height, the salt, the extranonce and the opcodes that push them.
    const MOST: usize = 64;
    if tag.len() > MOST {
        return Err(format!("pool.tag is {} bytes long: at most {MOST} fit into a coinbase", tag.len()));
    }
    Ok(tag)
}
