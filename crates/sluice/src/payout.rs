//! `sluice payout` and `sluice signer`: the operator's side of payments.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Subcommand;
use ledger::{Chain, Desk, Ledger, LedgerError, OrderKind, Payer, Payout, PayoutFigures, Signer};

use crate::{
    ConfigFile, books,
    config::{self, Config},
    dies,
    failure::Failure,
    input,
    run::told_to_stop,
    wire::Wires,
};

/// How long a running pool may take to do what was asked.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// No PSBT of a batch is larger, in bytes.
const MOST_PSBT: u64 = 64 << 20;

/// What can be asked of payments. The pool that runs carries it out.
#[derive(Subcommand)]
pub enum Command {
    /// Plans a batch now, whatever the schedule says.
    Run(ConfigFile),
    /// Shows the batches, and how payments stand.
    List(ConfigFile),
    /// Makes a version of a batch that pays a higher fee.
    Bump {
        /// The batch.
        batch: u64,
        /// sat/vB; what the network asks for if not given.
        #[arg(long, value_name = "SAT_PER_VB")]
        feerate: Option<u64>,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Prints the transaction of a batch for an offline signer: a PSBT in base64.
    Export {
        /// The batch.
        batch: u64,
        /// Write it here instead.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Takes what an offline signer has signed: a PSBT in base64.
    Import {
        /// The signed PSBT.
        psbt: PathBuf,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Shows from which balance on a miner is paid, or sets it.
    Threshold {
        /// The miner's payout address.
        address: String,
        /// The new threshold, satoshi.
        #[arg(value_parser = clap::value_parser!(u64).range(1..=2_100_000_000_000_000))]
        sats: Option<u64>,
        /// The pool's own threshold counts again.
        #[arg(long, conflicts_with = "sats")]
        default: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Gives a batch up whose coins were spent otherwise: its payments are on the miners' balances again.
    Return {
        /// The batch.
        batch: u64,
        #[command(flatten)]
        file: ConfigFile,
    },
}

/// `sluice payout`.
pub async fn payout(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(file) => order(&file, OrderKind::Run, "").await,
        Command::Bump { batch, feerate, file } => {
            let rate = feerate.map(|rate| format!(" {rate}")).unwrap_or_default();
            order(&file, OrderKind::Bump, &format!("{batch}{rate}")).await
        }
        Command::Threshold { address, sats, default, file } => {
            let config = file.load()?;
            threshold(&config, &address, sats, default).await
        }
        Command::Return { batch, file } => order(&file, OrderKind::Return, &batch.to_string()).await,
        Command::Import { psbt, file } => {
            let text = String::from_utf8(input::read(&psbt, MOST_PSBT)?).map_err(|_| {
                Failure::usage(format!(
                    "{} is no text: export the signed PSBT in base64, not as binary",
                    psbt.display()
                ))
            })?;
            order(&file, OrderKind::Import, text.trim()).await
        }
        Command::Export { batch, out, file } => {
            let desk = desk(&file.load()?).await?;
            let batch = i64::try_from(batch).unwrap_or(i64::MAX);
            let psbt = desk.psbt(batch).await.map_err(Failure::unavailable)?;
            match out {
                None => println!("{psbt}"),
                Some(path) => std::fs::write(&path, psbt).map_err(|error| {
                    Failure::unavailable(format!("cannot write {}: {error}", path.display()))
                })?,
            }
            Ok(())
        }
        Command::List(file) => {
            let (figures, payouts) =
                desk(&file.load()?).await?.list(50).await.map_err(Failure::unavailable)?;
            print!("{}", table(&figures, &payouts));
            Ok(())
        }
    }
}

async fn desk(config: &Config) -> Result<Desk, Failure> {
    Desk::open(&config.ledger_url).await.map_err(Failure::unavailable)
}

/// The settings of payments, where the pool makes any.
fn settings(config: &Config) -> Result<&config::Payout, Failure> {
    let none = "there is no [wallet] in the configuration: this pool makes no payments (docs/PAYOUTS.md)";
    config.payout.as_ref().ok_or_else(|| Failure::usage(none))
}

async fn threshold(config: &Config, address: &str, sats: Option<u64>, default: bool) -> Result<(), Failure> {
    let usual = settings(config)?.settings.threshold;
    let address = books::canonical(address, config.network)?;
    let unknown = || Failure::usage(format!("nobody has mined here with the address {address}"));
    let desk = desk(config).await?;
    if sats.is_some() || default {
        let is_known = desk.set_threshold(&address, sats).await.map_err(Failure::unavailable)?;
        is_known.then_some(()).ok_or_else(unknown)?;
    }
    match desk.threshold(&address).await.map_err(Failure::unavailable)?.ok_or_else(unknown)? {
        Some(sats) => println!("{address} is paid from {sats} sat on"),
        None => println!("{address} is paid from {usual} sat on, as payout.threshold_sats says"),
    }
    Ok(())
}

async fn order(file: &ConfigFile, kind: OrderKind, argument: &str) -> Result<(), Failure> {
    let config = file.load()?;
    settings(&config)?;
    told(desk(&config).await?.order(kind, argument, PATIENCE).await)
}

/// Says what the pool has made of what it was asked for.
pub fn told(outcome: Result<Option<String>, LedgerError>) -> Result<(), Failure> {
    match outcome.map_err(Failure::unavailable)? {
        Some(words) if words.starts_with("refused") => Err(Failure::unavailable(words)),
        Some(words) => {
            println!("{words}");
            Ok(())
        }
        None => Err(Failure::unavailable(
            "no pool took this up within 30 s; it is noted and done once one runs with this ledger and a node",
        )),
    }
}

fn table(figures: &PayoutFigures, payouts: &[Payout]) -> String {
    let sats = |sats: Option<u64>| sats.map_or("unknown".to_owned(), |sats| format!("{sats} sat"));
    let mut text = format!(
        "wallet: {} to spend, {} immature; owed to miners: {} msat; batches on their way: {}, stuck: {}\n",
        sats(figures.coins_sats),
        sats(figures.immature_sats),
        figures.liabilities_msat,
        figures.open,
        figures.stuck
    );
    figures.trouble.iter().for_each(|trouble| text.push_str(&format!("trouble: {trouble}\n")));
    for payout in payouts {
        let Payout { id, state, miners, sats, .. } = payout;
        text.push_str(&format!("batch {id} {}: {sats} sat to {miners} miners", state.as_str()));
        payout.confirmations.iter().for_each(|depth| text.push_str(&format!(", {depth} confirmations")));
        payout.trouble.iter().for_each(|trouble| text.push_str(&format!(", trouble: {trouble}")));
        text.push('\n');
        for version in &payout.versions {
            let mut txid = version.txid;
            txid.reverse();
            let signed = if version.is_signed { "signed" } else { "not signed" };
            let hex: String = txid.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("  {hex} fee {} sat, {signed}\n", version.fee_sats));
        }
    }
    text
}

/// `sluice signer`.
pub async fn signer(config: Config) -> Result<(), Failure> {
    let no =
        |what: &str| Failure::usage(format!("there is no [{what}] in the configuration: a signer needs it"));
    let payout = config.payout.ok_or_else(|| no("wallet"))?;
    let settings = payout.signer.ok_or_else(|| no("signer"))?;
    let signer =
        Signer::open(&config.ledger_url, &payout.wallet, settings).await.map_err(Failure::unavailable)?;
    tracing::info!(wallet = payout.wallet.name(), "signing");
    signer.run(async { drop(told_to_stop().await) }).await;
    Ok(())
}

/// Who makes the payments of a pool, if it makes any.
pub async fn payer(
    config: &Config,
    ledger: &Ledger,
    chain: Arc<dyn Chain>,
) -> Result<Option<Payer>, Failure> {
    let Some(config::Payout { wallet, settings, .. }) = config.payout.clone() else { return Ok(None) };
    let settings = ledger::PayoutSettings { halt: dies::halt(), ..settings };
    let wire = Arc::new(Wires::new(config)?);
    ledger.payer(wallet, settings, wire, chain).await.map(Some).map_err(Failure::unavailable)
}
