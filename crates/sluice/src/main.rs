//! The `sluice` binary: reads the configuration, builds the rooms, runs until told to stop.
//!
//! It decides nothing about shares, jobs or money; it wires the crates that do, and says in one line what is wrong
//! where something is.

mod audit;
mod authority;
mod bench;
mod books;
mod config;
mod credit;
mod demo;
mod dies;
mod failure;
mod files;
mod input;
mod mine;
mod payout;
mod run;
mod standing;
mod wire;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use config::Config;
use failure::Failure;
use ledger::{Ledger, LedgerError};
use tracing_subscriber::EnvFilter;

/// A Bitcoin mining pool server.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A pool on a chain of its own, with miners and a dashboard: nothing to set up.
    Demo(demo::Options),
    /// Runs the pool.
    Run(ConfigFile),
    /// Reads and checks the configuration, and says what it comes to, whether the spool has room, and whether the database has
    /// the tables of this version. Changes nothing.
    Check(ConfigFile),
    /// Brings the ledger's database to the present form, and ends.
    Migrate(ConfigFile),
    /// Payments to miners: plan, look at, bump, sign elsewhere.
    #[command(subcommand)]
    Payout(payout::Command),
    /// Signs what a pool plans to pay, in a process and with keys of its own.
    Signer(ConfigFile),
    /// The books: are they sound, what has moved, and what the operator moves by hand.
    #[command(subcommand)]
    Ledger(audit::Question),
    /// Checks a share's proof, a block's division or a slot's payments, from files that the pool has given out; asks nobody.
    VerifyCredit(credit::Credit),
    /// A CPU miner in Stratum V1 and V2, for trying things.
    Miner(mine::Options),
    /// Measures the pool beside the least that its sockets cost, or loads any pool.
    Bench(bench::Options),
}

/// Where the configuration is.
#[derive(clap::Args)]
pub struct ConfigFile {
    /// The configuration file. SLUICE__SECTION__KEY in the environment overrides a key of it.
    #[arg(long, value_name = "FILE", env = "SLUICE_CONFIG")]
    config: PathBuf,
}

impl ConfigFile {
    /// The file with the environment laid over it, checked.
    fn load(&self) -> Result<Config, Failure> {
        Config::load(&self.config, std::env::vars())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { failure::USAGE.into() } else { 0 })
    });
    log(&arguments.command);
    match carry_out(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("sluice: {failure}");
            failure.code()
        }
    }
}

/// To standard error; SLUICE_LOG says what. The demo, with miners in its process, says less.
fn log(command: &Command) {
    let usual = match command {
        Command::Demo(_) => "warn,template::submit=info",
        Command::Bench(_) | Command::Ledger(_) | Command::VerifyCredit(_) => "warn",
        _ => "info",
    };
    let filter = EnvFilter::try_from_env("SLUICE_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let is_terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(is_terminal).with_target(false).init();
}

/// What the configuration comes to, with what it points at.
async fn check(config: &Config) -> Result<(), Failure> {
    let key = (!config.v2.is_empty()).then(|| authority::describe(&config.authority_key)).transpose()?;
    println!("{config}");
    key.into_iter().for_each(|key| println!("{key}"));
    files::room(&config.spool).iter().for_each(|note| println!("note: {note}"));
    match Ledger::check(&config.ledger_url).await {
        // The configuration may be checked where its database is not.
        Err(error @ (LedgerError::Unreachable { .. } | LedgerError::Slow { .. })) => {
            println!("note: the tables were not looked at: {error}");
            Ok(())
        }
        checked => checked.map_err(Failure::unavailable),
    }
}

fn carry_out(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unavailable(format!("cannot start threads: {error}")))?;
    match command {
        Command::Demo(options) => runtime.block_on(demo::demo(options)),
        Command::Run(file) => runtime.block_on(run::run(file.load()?)),
        Command::Check(file) => runtime.block_on(check(&file.load()?)),
        Command::Migrate(file) => runtime.block_on(run::migrate(file.load()?)),
        Command::Payout(command) => runtime.block_on(payout::payout(command)),
        Command::Signer(file) => runtime.block_on(payout::signer(file.load()?)),
        Command::Ledger(question) => runtime.block_on(audit::ledger(question)),
        Command::VerifyCredit(credit) => credit::verify_credit(credit),
        Command::Miner(options) => runtime.block_on(mine::mine(options)),
        Command::Bench(options) => runtime.block_on(bench::bench(options)),
    }
}
