//! `sluice payout` and `sluice signer`: the operator's side of payments.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Subcommand;
use ledger::{Chain, Desk, Ledger, OrderKind, Payer, Payout, PayoutFigures, Signer};

use crate::{
    ConfigFile,
    config::{self, Config},
    dies,
    failure::Failure,
    run::told_to_stop,
    wire::Wires,
};

/// How long a running pool may take to do what was asked.
const PATIENCE: Duration = Duration::from_secs(30);

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
        Command::Return { batch, file } => order(&file, OrderKind::Return, &batch.to_string()).await,
        Command::Import { psbt, file } => {
            let text = std::fs::read_to_string(&psbt)
                .map_err(|error| Failure::usage(format!("cannot read {}: {error}", psbt.display())))?;
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

async fn order(file: &ConfigFile, kind: OrderKind, argument: &str) -> Result<(), Failure> {
    let config = file.load()?;
    if config.payout.is_none() {
        return Err(Failure::usage("there is no [wallet] in the configuration: this pool makes no payments"));
    }
    let outcome = desk(&config).await?.order(kind, argument, PATIENCE).await.map_err(Failure::unavailable)?;
    match outcome {
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
