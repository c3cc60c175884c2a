//! Every block's row on its own: scheme, terms, reward and state must fit each other, what was not divided by work must be the
//! finder's, and outputs must be the miners' that they are said to be.

use std::{collections::BTreeMap, str::FromStr};

use bitcoin::{Address, Network, address::NetworkUnchecked};
use share::hash::shown;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{Findings, failed, integer, rows, text};
use crate::{LedgerError, division::Reward, store::work};

/// What a coinbase pays: script and satoshi.
type Outputs = Vec<(Vec<u8>, u64)>;

pub(super) async fn check(snapshot: &mut AnyConnection, network: Network) -> Result<Findings, LedgerError> {
    let mut findings = Findings::new();
    let mut outputs = outputs(snapshot, network, &mut findings).await?;
    let sql = "SELECT b.id, b.hash, b.height, b.scheme, b.factor, b.value_sats, b.reward_msat, b.subsidy_msat, b.fee_msat, \
               b.state, b.credits, b.matured, b.watched, COALESCE(b.slot_id, 0) AS slot, \
               CAST(b.window_work AS TEXT) AS window_work, CAST(b.bought_work AS TEXT) AS bought, \
               COALESCE(t.scheme, '') AS terms, COALESCE(t.factor, 0) AS terms_factor, COALESCE(m.address, '') AS address, \
               (SELECT COUNT(*) FROM block_weight a WHERE a.block_id = b.id) AS miners, \
               (SELECT COUNT(*) FROM block_weight a WHERE a.block_id = b.id AND a.miner_id = w.miner_id) AS own \
               FROM block b LEFT JOIN terms t ON t.id = b.terms_id LEFT JOIN worker w ON w.id = b.finder_id \
               LEFT JOIN miner m ON m.id = w.miner_id ORDER BY b.id";
    let mut are_kept = false;
    for row in rows(snapshot, sql).await? {
        let id = integer(&row, "id")?;
        let has_terms = !text(&row, "terms")?.is_empty();
        let lacks = (are_kept && !has_terms).then_some("has no terms, though blocks before it have");
        are_kept |= has_terms;
        let hash: Vec<u8> = row.try_get("hash").map_err(failed)?;
        let name =
            hash.try_into().map_or_else(|_| format!("block {id}"), |hash| format!("block {}", shown(&hash)));
        let outputs = outputs.remove(&id).unwrap_or_default();
        let faults = [lacks, scheme(&row)?, reward(&row, network, &outputs)?, whose(&row)?, state(&row)?];
        findings.extend(faults.into_iter().flatten().map(|fault| format!("{name} {fault}")));
    }
    Ok(findings)
}

/// The scheme is that of the terms; solo terms with a coinbase that pays the pool leave a debt to the finder.
fn scheme(row: &AnyRow) -> Result<Option<&'static str>, LedgerError> {
    let (scheme, terms) = (text(row, "scheme")?, text(row, "terms")?);
    let (factor, terms_factor) = (integer(row, "factor")?, integer(row, "terms_factor")?);
    let fits = match terms.as_str() {
        "" => true, // of a version that did not keep them
        _ if scheme == "solo" => factor == 0,
        "solo" => scheme == "pplns" && factor == 0,
        _ => scheme == terms && factor == terms_factor,
    };
    Ok((!fits).then_some("has another scheme than its terms"))
}

/// What there is to divide follows from what the coinbase pays, and the subsidy from the height.
fn reward(row: &AnyRow, network: Network, outputs: &Outputs) -> Result<Option<&'static str>, LedgerError> {
    let unsigned = |name: &str| Ok::<_, LedgerError>(u64::try_from(integer(row, name)?).unwrap_or(u64::MAX));
    let (value, reward, subsidy, fee) =
        (unsigned("value_sats")?, unsigned("reward_msat")?, unsigned("subsidy_msat")?, unsigned("fee_msat")?);
    let (scheme, terms) = (text(row, "scheme")?, text(row, "terms")?);
    let whole = value.saturating_mul(1_000);
    let sum = outputs.iter().fold(0u64, |sum, (_, sats)| sum.saturating_add(*sats));
    if sum > value {
        return Ok(Some("has a coinbase that pays more than its value"));
    }
    let is_whole = match scheme.as_str() {
        // The coinbase has paid the finder all but the fee.
        "solo" => {
            let script = script(&text(row, "address")?, network).unwrap_or_default();
            let to_finder = outputs.iter().filter(|(to, _)| *to == script);
            let direct: u64 = to_finder.fold(0, |sum, (_, sats)| sum.saturating_add(*sats));
            reward <= whole && reward.saturating_sub(fee) == direct.saturating_mul(1_000)
        }
        _ if terms == "solo" => reward <= whole,
        _ => reward == whole,
    };
    if !is_whole {
        return Ok(Some("divides another reward than its coinbase pays"));
    }
    let height = u32::try_from(integer(row, "height")?).unwrap_or(u32::MAX);
    let is_kept = !terms.is_empty() || subsidy > 0;
    let is_right = subsidy == Reward::of(network, height, reward).subsidy;
    Ok((is_kept && !is_right).then_some("has another subsidy than its height says"))
}

/// Without a window there is nobody but the finder, or the pool where it has paid for the work.
fn whose(row: &AnyRow) -> Result<Option<&'static str>, LedgerError> {
    let has_window =
        integer(row, "slot")? > 0 && text(row, "scheme")? != "solo" && text(row, "terms")? != "solo";
    let (miners, own) = (integer(row, "miners")?, integer(row, "own")?);
    let is_one = work(row, "window_work")? == 1
        && ((miners, own) == (1, 1) || (miners == 0 && work(row, "bought")? == 1));
    Ok((!has_window && !is_one).then_some("has no window of work, and is not its finder's"))
}

/// What nobody looks at any more is decided, and a candidate has never been anything else.
fn state(row: &AnyRow) -> Result<Option<&'static str>, LedgerError> {
    let state = text(row, "state")?;
    let is_open = matches!(state.as_str(), "candidate" | "immature");
    if is_open && integer(row, "watched")? == 0 {
        return Ok(Some("is not decided, and nobody looks at it"));
    }
    let is_fresh = integer(row, "credits")? == 0 && integer(row, "matured")? == 0;
    Ok((state == "candidate" && !is_fresh).then_some("was credited, and is said to be new"))
}

/// All outputs by block; each that is said to be a miner's must have that miner's script.
async fn outputs(
    snapshot: &mut AnyConnection,
    network: Network,
    findings: &mut Findings,
) -> Result<BTreeMap<i64, Outputs>, LedgerError> {
    let sql = "SELECT o.block_id, o.script, o.sats, COALESCE(o.miner_id, 0) AS miner, COALESCE(m.address, '') AS address \
               FROM block_output o LEFT JOIN miner m ON m.id = o.miner_id ORDER BY o.block_id, o.position";
    let mut outputs: BTreeMap<i64, Outputs> = BTreeMap::new();
    for row in rows(snapshot, sql).await? {
        let (block, miner) = (integer(&row, "block_id")?, integer(&row, "miner")?);
        let pays: Vec<u8> = row.try_get("script").map_err(failed)?;
        let sats = u64::try_from(integer(&row, "sats")?).unwrap_or(u64::MAX);
        if miner > 0 && script(&text(&row, "address")?, network).as_ref() != Some(&pays) {
            findings.push(format!("an output of block number {block} is not that of miner {miner}"));
        }
        outputs.entry(block).or_default().push((pays, sats));
    }
    Ok(outputs)
}

fn script(address: &str, network: Network) -> Option<Vec<u8>> {
    let address = Address::<NetworkUnchecked>::from_str(address).ok()?;
    Some(address.require_network(network).ok()?.script_pubkey().into_bytes())
}
