//! `[wallet]`, `[payout]` and `[signer]`.

use std::{fmt, time::Duration};

use bitcoin::Network;
use ledger::{Descriptors, FeeFrom, PayoutSettings, SignerSettings, Terms};

use super::file;

/// How payments are made.
#[derive(Clone, Debug)]
pub struct Payout {
    /// The pool's coins.
    pub wallet: Descriptors,
    /// When, how much, at what fee.
    pub settings: PayoutSettings,
    /// What `sluice signer` is allowed.
    pub signer: Option<SignerSettings>,
}

/// Nothing without a wallet.
pub fn read(
    wallet: Option<file::Wallet>,
    payout: &file::Payout,
    signer: Option<file::Signer>,
    network: Network,
) -> Result<Option<Payout>, String> {
    let settings = settings(payout)?;
    let Some(wallet) = wallet else {
        return match signer {
            Some(_) => Err("[signer] needs a [wallet] with private keys".into()),
            None => Ok(None),
        };
    };
    let change = wallet.change_descriptor.as_deref();
    let wallet = Descriptors::parse(&wallet.descriptor, change, network, wallet.birthday_height);
    let signer = signer.map(|signer| {
        if signer.daily_limit_sats == 0 {
            return Err("signer.daily_limit_sats = 0: then nothing is ever signed; give a limit".to_owned());
        }
        Ok(SignerSettings {
            log: signer.log,
            daily_limit: signer.daily_limit_sats,
            max_rate: settings.max_rate,
            poll: settings.poll,
        })
    });
    let wallet = wallet.map_err(|error| error.to_string())?;
    Ok(Some(Payout { wallet, settings, signer: signer.transpose()? }))
}

fn settings(file: &file::Payout) -> Result<PayoutSettings, String> {
    /// Outputs of one transaction that every node relays: 100,000 vB hold more than 2,300 of the largest.
    const MOST_OUTPUTS: u32 = 2_000;
    let rate = |key: &str, rate: u64| {
        let milli = rate.checked_mul(1000).filter(|rate| (1000..=10_000_000).contains(rate));
        milli.ok_or_else(|| format!("payout.{key} = {rate}: give 1 to 10000, in sat/vB"))
    };
    if file.threshold_sats == 0 {
        return Err("payout.threshold_sats = 0: give the balance from which on a miner is paid".into());
    }
    if !(1..=100).contains(&file.confirmations) {
        return Err(format!("payout.confirmations = {}: give 1 to 100", file.confirmations));
    }
    if !(1..=1008).contains(&file.target_blocks) {
        return Err(format!("payout.target_blocks = {}: give 1 to 1008", file.target_blocks));
    }
    if !(1..=MOST_OUTPUTS).contains(&file.max_outputs) {
        return Err(format!("payout.max_outputs = {}: give 1 to {MOST_OUTPUTS}", file.max_outputs));
    }
    let fee_from = FeeFrom::parse(&file.fee)
        .ok_or_else(|| format!("payout.fee = \"{}\": choose pool or miners", file.fee))?;
    Ok(PayoutSettings {
        threshold: file.threshold_sats,
        interval: interval(&file.interval)?,
        confirmations: file.confirmations,
        fee_from,
        max_rate: rate("max_feerate", file.max_feerate)?,
        fallback_rate: file.feerate.map(|feerate| rate("feerate", feerate)).transpose()?,
        target: file.target_blocks,
        max_outputs: file.max_outputs,
        psbt_dir: file.psbt_dir.clone(),
        ..PayoutSettings::default()
    })
}

/// `6h` and the like; nothing for `manual`.
fn interval(text: &str) -> Result<Option<Duration>, String> {
    if text == "manual" {
        return Ok(None);
    }
    let wrong =
        || format!("payout.interval = \"{text}\": give it like \"30m\", \"6h\" or \"1d\", or \"manual\"");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text.strip_suffix(unit).and_then(|count| count.parse().ok()).ok_or_else(wrong)?;
    let seconds =
        count.checked_mul(seconds).filter(|seconds| (1..=31_536_000).contains(seconds)).ok_or_else(wrong)?;
    Ok(Some(Duration::from_secs(seconds)))
}

impl Payout {
    /// What blocks pay to the pool must be in the wallet that pays the miners.
    pub fn must_own(&self, terms: &Terms) -> Result<(), String> {
        if self.wallet.owns(&terms.pool_script) {
            return Ok(());
        }
        Err(format!(
            "pool.address = \"{}\" is none of the first addresses of wallet.descriptor: miners are paid out of that \
             wallet, so give an address of it",
            terms.pool_address
        ))
    }

    /// Who signs, for the operator.
    pub fn notes(&self) -> Option<String> {
        let dir = self.settings.psbt_dir.as_ref();
        (!self.wallet.can_sign() && dir.is_none()).then(|| {
            "wallet.descriptor has no private keys: payments wait for sluice signer, or for sluice payout export and import"
                .to_owned()
        })
    }
}

impl fmt::Display for Payout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PayoutSettings { threshold, interval, confirmations, fee_from, max_rate, .. } = &self.settings;
        let keys = if self.wallet.can_sign() { "with keys" } else { "watch-only" };
        write!(f, "payments from {threshold} sat on, ")?;
        match interval {
            Some(interval) => write!(f, "every {} s", interval.as_secs())?,
            None => f.write_str("by hand")?,
        }
        write!(
            f,
            ", wallet {} {keys}, fee of the {} up to {} sat/vB, {confirmations} confirmations",
            self.wallet.name(),
            fee_from.as_str(),
            max_rate / 1000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        let check = |text: &str, expect: Option<Option<u64>>| {
            assert_eq!(
                interval(text).ok(),
                expect.map(|seconds| seconds.map(Duration::from_secs)),
                "{text:?}"
            );
        };
        check("manual", Some(None));
        check("1s", Some(Some(1)));
        check("30m", Some(Some(1_800)));
        check("6h", Some(Some(21_600)));
        check("365d", Some(Some(31_536_000)));
        for wrong in ["", "6", "h", "6 h", "0h", "-1h", "366d", "6w", "1.5h", "99999999999999999999d", "6é"]
        {
            check(wrong, None);
        }
    }
}
