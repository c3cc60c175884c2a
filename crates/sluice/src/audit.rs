//! `sluice ledger`: questions about the books, and what the operator does in them by hand.

use clap::Subcommand;
use ledger::{Audit, Which};

use crate::{books, config::Config, failure::Failure};

/// What may be asked about the ledger.
#[derive(Subcommand)]
pub enum Question {
    /// Compares balances, blocks, shares and segments with each other and with the records; changes nothing, and may be
    /// done while the pool runs.
    Verify(Verify),
    /// Shows what has moved on an account, newest first.
    History(books::History),
    /// Makes good what is wrong with a miner's balance: a transaction of its own, with a reason.
    Correct(books::Correct),
    /// Moves money between the pool's fee, the reserve and the operator.
    Fund(books::Fund),
}

/// `sluice ledger`.
pub async fn ledger(question: Question) -> Result<(), Failure> {
    match question {
        Question::Verify(asked) => verify(asked.file.load()?, (asked.block, asked.all)).await,
        Question::History(asked) => books::history(asked).await,
        Question::Correct(asked) => books::correct(asked).await,
        Question::Fund(asked) => books::fund(asked).await,
    }
}

#[derive(clap::Args)]
pub struct Verify {
    #[command(flatten)]
    pub file: crate::ConfigFile,
    /// Recompute the slots of this block from the records: its hash, as people read it. Else all are recomputed where
    /// there is up to 1 GiB of records, and those of one block by chance where there is more.
    #[arg(long, value_name = "HASH")]
    pub block: Option<String>,
    /// Recompute all slots from the records, however many there are.
    #[arg(long, conflicts_with = "block")]
    pub all: bool,
}

/// `sluice ledger verify`.
async fn verify(config: Config, (block, all): (Option<String>, bool)) -> Result<(), Failure> {
    let which = match block {
        Some(text) => Which::Block(
            share::hash::read(&text)
                .ok_or_else(|| Failure::usage(format!("--block {text}: a block's hash has 64 hex digits")))?,
        ),
        None if all => Which::All,
        None => Which::Any,
    };
    let audit = Audit::open(&config.ledger_url, &config.spool).map_err(Failure::unavailable)?;
    let mut report = audit.verify(which).await.map_err(Failure::unavailable)?;
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
