//! `sluice verify-credit`: what a miner checks by itself, from downloaded files only.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use bitcoin::{Address, address::NetworkUnchecked};
use ledger::{
    Wanted, Worker,
    proof::{RateWork, Seal, ShareProof, SlotRates, Weights, check_chain, is_of},
};
use serde::Deserialize;

use crate::{failure::Failure, input};

/// Files that the API has given out, and what they should say.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false).args(["proof", "weights", "slot"]))]
pub struct Credit {
    /// The proof of a share, from /api/v1/audit/proof.
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// A page of the chain of segments, from /api/v1/audit/segments; several, in order, make one chain.
    #[arg(long, value_name = "FILE", requires = "proof")]
    segments: Vec<PathBuf>,
    /// The root of the segment, as it was published elsewhere.
    #[arg(long, value_name = "HEX", requires = "proof")]
    root: Option<String>,
    /// The segment itself, from /api/v1/audit/segments/SEQUENCE.
    #[arg(long, value_name = "FILE", requires = "proof")]
    segment: Option<PathBuf>,
    /// Whose share it should be: ADDRESS.WORKER.
    #[arg(long, value_name = "USER", requires = "proof")]
    user: Option<String>,
    /// The hash of the share's header, as people read it.
    #[arg(long, value_name = "HASH", requires = "proof")]
    hash: Option<String>,
    /// What a block was divided by, from /api/v1/blocks/HASH/weights.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// What a slot has paid for work at a fixed rate, from /api/v1/slots/NUMBER/rates.
    #[arg(long, value_name = "FILE")]
    slot: Option<PathBuf>,
    /// Whose credit to show.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "proof")]
    address: Option<String>,
}

/// A page as the API gives it.
#[derive(Deserialize)]
struct Page {
    segments: Vec<Seal>,
}

/// `sluice verify-credit`.
pub fn verify_credit(credit: Credit) -> Result<(), Failure> {
    let address = credit.address.as_deref().map(canonical).transpose()?;
    match &credit {
        Credit { proof: Some(path), .. } => verify_share(path, &credit),
        Credit { weights: Some(path), .. } => verify_weights(path, address.as_deref()),
        Credit { slot: Some(path), .. } => verify_slot(path, address.as_deref()),
        _ => Err(Failure::usage("give --proof, --weights or --slot, each with a file")),
    }
}

fn verify_share(path: &Path, credit: &Credit) -> Result<(), Failure> {
    let proof: ShareProof = input::read_json(path)?;
    let share = proof.check().map_err(Failure::finding)?;
    if let Some(user) = &credit.user {
        let identity =
            Worker::identity(user).map_err(|error| Failure::usage(format!("--user {user}: {error}")))?;
        if !is_of(&share, &identity) {
            return Err(Failure::finding(format!(
                "the share is not one of {user}: the proof is of somebody else's"
            )));
        }
    }
    if let Some(hash) = &credit.hash {
        let tag = Wanted::tag(hash).ok_or_else(|| {
            Failure::usage(format!(
                "--hash {hash}: the hash of a header has 64 hex digits, as people read it"
            ))
        })?;
        if tag != share.hash_tag {
            return Err(Failure::finding(format!(
                "the share has not the hash {hash}: the proof is of another"
            )));
        }
    }
    let seal = &proof.segment;
    if let Some(root) = credit.root.as_ref().filter(|root| !root.eq_ignore_ascii_case(&seal.root)) {
        return Err(Failure::finding(format!(
            "segment {} has the root {}, not {root}",
            seal.sequence, seal.root
        )));
    }
    let mut seals: Vec<Seal> = Vec::new();
    for page in &credit.segments {
        seals.extend(input::read_json::<Page>(page)?.segments);
    }
    if !credit.segments.is_empty() {
        check_chain(&seals).map_err(Failure::finding)?;
        proof.check_listed(&seals).map_err(Failure::finding)?;
        println!("segments {} to {} are one chain", seals[0].sequence, seals[seals.len() - 1].sequence);
    }
    if let Some(path) = &credit.segment {
        let bytes = input::read(path, Seal::MOST_BYTES)?;
        seal.check_packed(&bytes).map_err(Failure::finding)?;
        println!("the file of segment {} has its root", seal.sequence);
    }
    println!(
        "share {} of {} in segment {}: work {}, at {} ms, for height {}",
        proof.position + 1,
        seal.shares,
        seal.sequence,
        share.work,
        share.time_ms,
        share.height
    );
    if credit.segments.is_empty() && credit.root.is_none() {
        println!("note: compared with nothing published; give --segments or --root");
    }
    println!("the share is in the books");
    Ok(())
}

fn verify_weights(path: &Path, address: Option<&str>) -> Result<(), Failure> {
    let weights: Weights = input::read_json(path)?;
    weights.check().map_err(Failure::finding)?;
    println!(
        "block {} ({}): {} msat less {} msat fee, by {} of work of {} miners",
        weights.hash,
        weights.scheme,
        weights.reward_msat,
        weights.fee_msat,
        weights.window_work,
        weights.weights.len()
    );
    let Some(address) = address else {
        println!("every credit follows from the weights");
        return Ok(());
    };
    let Some(own) = weights.weights.iter().find(|weight| weight.address == address) else {
        return Err(Failure::finding(format!("{address} has no part in this block")));
    };
    println!("{address}: work {}, credit {} msat, which follows from the weights", own.work, own.credit_msat);
    Ok(())
}

fn verify_slot(path: &Path, address: Option<&str>) -> Result<(), Failure> {
    let slot: SlotRates = input::read_json(path)?;
    slot.check().map_err(Failure::finding)?;
    println!(
        "slot {} ({}): {} of work of {} miners, less {} millionths, with mean fees of {} msat",
        slot.slot,
        slot.scheme,
        slot.work,
        slot.miners.len(),
        slot.fee_ppm,
        slot.mean_fees_msat
    );
    let Some(address) = address else {
        println!("everybody was paid what the work is worth");
        return Ok(());
    };
    let Some(own) = slot.miners.iter().find(|miner| miner.address == address) else {
        return Err(Failure::finding(format!("{address} has no work in this slot")));
    };
    for RateWork { bits, halvings, work } in &own.rates {
        println!("{address}: work {work} at the network target {bits:08x}, after {halvings} halvings");
    }
    println!("{address}: paid {} msat, which is what the work is worth", own.paid_msat);
    Ok(())
}

/// As the pool writes it: bech32 in small letters.
fn canonical(address: &str) -> Result<String, Failure> {
    let parsed = Address::<NetworkUnchecked>::from_str(address);
    let wrong =
        |_| Failure::usage(format!("--address {address}: that is no Bitcoin address; is a character wrong?"));
    Ok(parsed.map_err(wrong)?.assume_checked().to_string())
}

#[cfg(test)]
mod tests;
