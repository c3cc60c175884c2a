//! `sluice ledger verify`: the books against themselves and the records they were made of. `sluice verify-credit`: what
//! a miner checks by itself, from downloaded files only.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ledger::{
    Audit, Wanted,
    proof::{Seal, ShareProof, Weights, check_chain, is_of},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{config::Config, failure::Failure};

/// What may be asked about the ledger.
#[derive(clap::Subcommand)]
pub enum Question {
    /// Compares balances, blocks, shares and segments with each other and with the records; changes nothing, and may be
    /// done while the pool runs.
    Verify(Verify),
}

#[derive(clap::Args)]
pub struct Verify {
    #[command(flatten)]
    pub file: crate::ConfigFile,
    /// Recompute this block from the segments, not one by chance: its hash, as people read it.
    #[arg(long, value_name = "HASH")]
    pub block: Option<String>,
}

/// Files that the API has given out, and what they should say.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false).args(["proof", "weights"]))]
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
    /// Whose credit to show.
    #[arg(long, value_name = "ADDRESS", requires = "weights")]
    address: Option<String>,
}

/// A page as the API gives it.
#[derive(Deserialize)]
struct Page {
    segments: Vec<Seal>,
}

/// `sluice ledger verify`.
pub async fn verify(config: Config, block: Option<String>) -> Result<(), Failure> {
    let block = block.map(|text| {
        share::hash::read(&text)
            .ok_or_else(|| Failure::usage(format!("--block {text}: a block's hash has 64 hex digits")))
    });
    let audit = Audit::open(&config.ledger_url, &config.spool).map_err(Failure::unavailable)?;
    let mut report = audit.verify(block.transpose()?).await.map_err(Failure::unavailable)?;
    if let Some(payout) = &config.payout {
        audit.compare_wallet(payout.wallet.name(), &mut report).await.map_err(Failure::unavailable)?;
    }
    for note in &report.notes {
        println!("note: {note}");
    }
    if let Some(hash) = report.block {
        println!("recomputed block {} from its records", share::hash::shown(&hash));
    }
    println!("{} shares read again; {} msat are owed", report.shares, report.liabilities_msat);
    for finding in &report.findings {
        println!("WRONG: {finding}");
    }
    if report.findings.is_empty() {
        println!("the ledger is sound");
        return Ok(());
    }
    Err(Failure::finding(format!(
        "the ledger is not sound: {} findings, listed above",
        report.findings.len()
    )))
}

/// `sluice verify-credit`.
pub fn verify_credit(credit: Credit) -> Result<(), Failure> {
    match (&credit.proof, &credit.weights) {
        (Some(path), _) => verify_share(path, &credit),
        (None, Some(path)) => verify_weights(path, credit.address.as_deref()),
        (None, None) => Err(Failure::usage("give --proof or --weights")),
    }
}

fn verify_share(path: &Path, credit: &Credit) -> Result<(), Failure> {
    let proof: ShareProof = read(path)?;
    let share = proof.check().map_err(Failure::finding)?;
    if let Some(user) = &credit.user {
        let identity = match user.split_once(['.', '_']) {
            Some((address, name)) => format!("{address}.{name}"),
            None => format!("{user}."),
        };
        if !is_of(&share, &identity) {
            return Err(Failure::finding(format!("the share is not one of {user}")));
        }
    }
    if let Some(hash) = &credit.hash {
        let tag = Wanted::tag(hash).ok_or_else(|| {
            Failure::usage(format!("--hash {hash}: the hash of a header has 64 hex digits"))
        })?;
        if tag != share.hash_tag {
            return Err(Failure::finding("the share has another hash"));
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
        seals.extend(read::<Page>(page)?.segments);
    }
    if !credit.segments.is_empty() {
        check_chain(&seals).map_err(Failure::finding)?;
        proof.check_listed(&seals).map_err(Failure::finding)?;
        println!("segments {} to {} are one chain", seals[0].sequence, seals[seals.len() - 1].sequence);
    }
    if let Some(path) = &credit.segment {
        let wrong = |error| Failure::unavailable(format!("cannot read {}: {error}", path.display()));
        let bytes = fs::read(path).map_err(wrong)?;
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
    let weights: Weights = read(path)?;
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

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::unavailable(format!("cannot read {}: {error}", path.display())))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::finding(format!("{} is not what the API gives out: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, arguments: &[&str], expect: Result<(), &str>) {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            credit: Credit,
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        let option = format!("--{name}");
        let line = ["x", &option, path.to_str().unwrap()].into_iter().chain(arguments.iter().copied());
        let got = verify_credit(Line::parse_from(line).credit).map_err(|failure| failure.to_string());
        match (got, expect) {
            (Ok(()), Ok(())) => {}
            (Err(got), Err(expect)) => assert!(got.contains(expect), "{got}"),
            (got, expect) => panic!("{got:?}, not {expect:?}"),
        }
    }

    #[test]
    fn files_that_prove_nothing() {
        check("proof", "{}", &[], Err("is not what the API gives out"));
        check("proof", "", &[], Err("is not what the API gives out"));
        check("weights", "[1]", &[], Err("is not what the API gives out"));
    }

    #[test]
    fn weights() {
        let file = |credit: i64| {
            format!(
                r#"{{"hash":"00","height":1,"bits":1,"scheme":"pplns","factor":2,"reward_msat":100,"fee_msat":1,
                "first_slot":1,"first_slot_work":"3","last_slot":1,"window_work":"3","weights":[
                {{"miner":1,"address":"a","work":"1","credit_msat":{credit}}},
                {{"miner":2,"address":"b","work":"2","credit_msat":66}}]}}"#
            )
        };
        check("weights", &file(33), &[], Ok(()));
        check("weights", &file(33), &["--address", "a"], Ok(()));
        check("weights", &file(33), &["--address", "c"], Err("c has no part in this block"));
        check(
            "weights",
            &file(34),
            &["--address", "b"],
            Err("a is credited 34 msat, but its work comes to 33"),
        );
    }
}
