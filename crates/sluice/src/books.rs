//! `sluice ledger correct`, `fund` and `history`: what the operator does in the books by hand, and what he looks at.

use std::{fmt::Write as _, str::FromStr};

use bitcoin::{Address, Network};
use clap::ValueEnum;
use ledger::{AccountEntry, AccountHistory, Audit, Desk, Movement, Place};

use crate::{ConfigFile, failure::Failure, payout};

/// A correction of a miner's available balance.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("amount").required(true).multiple(false).args(["give", "take"]))]
pub struct Correct {
    /// The miner's payout address.
    address: String,
    /// Give the miner so much, millisatoshi.
    #[arg(long, value_name = "MSAT")]
    give: Option<u64>,
    /// Take so much from what it has available.
    #[arg(long, value_name = "MSAT")]
    take: Option<u64>,
    /// Where it comes from, or goes to.
    #[arg(long, default_value = "reserve")]
    against: Against,
    /// Give it though the reserve does not have it, and is below zero then.
    #[arg(long, conflicts_with = "take")]
    overdraw: bool,
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    file: ConfigFile,
}

/// Money that changes its place, and is no miner's.
#[derive(clap::Args)]
pub struct Fund {
    /// Where it is taken from; `operator`: it is in the wallet, and was not of a block.
    #[arg(long)]
    from: Purse,
    /// Where it goes; `operator`: it leaves the wallet, or has left it.
    #[arg(long)]
    to: Purse,
    /// How much, millisatoshi.
    #[arg(long, value_name = "MSAT")]
    amount: u64,
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    file: ConfigFile,
}

/// What stays in the journal with it.
#[derive(clap::Args)]
struct Named {
    /// Your own name for this: said twice, it is done once.
    #[arg(long)]
    key: String,
    /// Why, in one line.
    #[arg(long)]
    reason: String,
}

/// What has moved on an account.
#[derive(clap::Args)]
pub struct History {
    /// A miner's payout address; or rewards, reserve, reserve:immature, pool:fee:immature, pool:fee:available,
    /// network:fee, operator.
    account: String,
    /// How many entries at most.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only of transactions before the one with this number.
    #[arg(long, value_name = "TRANSACTION")]
    before: Option<i64>,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Clone, Copy, ValueEnum)]
enum Against {
    Reserve,
    Fee,
}

#[derive(Clone, Copy, ValueEnum)]
enum Purse {
    Fee,
    Reserve,
    Operator,
}

impl From<Purse> for Place {
    fn from(purse: Purse) -> Self {
        match purse {
            Purse::Fee => Self::Fee,
            Purse::Reserve => Self::Reserve,
            Purse::Operator => Self::Operator,
        }
    }
}

/// `sluice ledger correct`.
pub async fn correct(asked: Correct) -> Result<(), Failure> {
    let Correct { address, give, take, against, overdraw, named, file } = asked;
    let config = file.load()?;
    let miner = Place::Miner(canonical(&address, config.network)?);
    let other = match against {
        Against::Reserve => Place::Reserve,
        Against::Fee => Place::Fee,
    };
    let (from, to) = if give.is_some() { (other, miner) } else { (miner, other) };
    let msat = give.or(take).unwrap_or(0);
    let Named { key, reason } = named;
    book(&config.ledger_url, Movement { from, to, msat, key, reason, overdraw }).await
}

/// `sluice ledger fund`.
pub async fn fund(asked: Fund) -> Result<(), Failure> {
    let Fund { from, to, amount: msat, named: Named { key, reason }, file } = asked;
    let movement = Movement { from: from.into(), to: to.into(), msat, key, reason, overdraw: false };
    book(&file.load()?.ledger_url, movement).await
}

async fn book(url: &str, movement: Movement) -> Result<(), Failure> {
    movement.check().map_err(Failure::usage)?;
    let desk = Desk::open(url).await.map_err(Failure::unavailable)?;
    payout::told(desk.book(&movement, payout::PATIENCE).await)
}

/// `sluice ledger history`.
pub async fn history(asked: History) -> Result<(), Failure> {
    let config = asked.file.load()?;
    let account = canonical(&asked.account, config.network).unwrap_or_else(|_| asked.account.clone());
    let audit = Audit::open(&config.ledger_url, &config.spool).map_err(Failure::unavailable)?;
    let page = audit.history(&account, asked.limit, asked.before).await.map_err(Failure::unavailable)?;
    let page = page.ok_or_else(|| {
        Failure::usage(format!(
            "{account:?} is neither an address that has mined here nor an account of the pool: sluice ledger history --help \
             names those"
        ))
    })?;
    print!("{}", table(&page, asked.limit));
    Ok(())
}

fn table(page: &AccountHistory, limit: u32) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    for (account, msat) in &page.balances {
        let _ = writeln!(text, "{account}: {msat} msat");
    }
    for AccountEntry { txn, time_ms, account, msat, key, reason } in &page.entries {
        let _ = write!(text, "{txn} {} {account} {msat:+} {key}", date(*time_ms));
        let _ = reason.iter().try_for_each(|reason| write!(text, " ({reason})"));
        text.push('\n');
    }
    if page.entries.len() == limit as usize
        && let Some(last) = page.entries.last()
    {
        let _ = writeln!(text, "further back: --before {}", last.txn);
    }
    text
}

/// A miner's address as the books have it.
pub fn canonical(address: &str, network: Network) -> Result<String, Failure> {
    let parsed = Address::from_str(address).map_err(|_| {
        Failure::usage(format!(
            "{address:?} is no Bitcoin address: give the miner's payout address, without a worker"
        ))
    })?;
    let checked = parsed.require_network(network).map_err(|_| {
        Failure::usage(format!("{address} is an address of another network: this pool mines on {network}"))
    })?;
    Ok(checked.to_string())
}

/// Milliseconds since 1970 as `2026-01-31T23:59:59Z`.
fn date(ms: i64) -> String {
    let (days, second) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 1_000);
    // Eras of 400 years from March 1 of the year 0 on, in which every year ends with its leap day.
    let from_march = days + 719_468;
    let (era, day) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400 + i64::from(month >= 10), (month + 2) % 12 + 1);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let check = |seconds: i64, expect: &str| assert_eq!(date(seconds * 1_000), expect);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(951_868_800, "2000-03-01T00:00:00Z");
        check(1_231_006_505, "2009-01-03T18:15:05Z");
        check(1_735_689_599, "2024-12-31T23:59:59Z");
        check(4_107_542_399, "2100-02-28T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
        check(-1, "1969-12-31T23:59:59Z");
    }

    #[test]
    fn a_history_as_it_is_shown() {
        let entry = |txn, msat, reason: Option<&str>| AccountEntry {
            txn,
            time_ms: 0,
            account: "available".into(),
            msat,
            key: "slot:3:1".into(),
            reason: reason.map(str::to_owned),
        };
        let page = AccountHistory {
            balances: vec![("available".into(), 12)],
            entries: vec![entry(9, -5, Some("why")), entry(7, 17, None)],
        };
        let lines = "available: 12 msat\n9 1970-01-01T00:00:00Z available -5 slot:3:1 (why)\n\
                     7 1970-01-01T00:00:00Z available +17 slot:3:1\n";
        assert_eq!(table(&page, 3), lines);
        assert_eq!(table(&page, 2), format!("{lines}further back: --before 7\n"));
    }
}
