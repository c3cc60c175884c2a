//! Whom a batch pays: all that are due, or, where the coins do not suffice, those whose turn it is.

use std::collections::HashMap;

use bdk_wallet::bitcoin::{Amount, OutPoint, TxOut};
use sqlx::{AssertSqlSafe, Row};

use super::{PayError, Payer, plan::Payment, rows::failed};
use crate::{
    LedgerError, WalletError,
    store::{Column, json},
    wallet::{Choice, Draft},
};

/// What a batch is made of.
pub(super) struct Chosen {
    /// By miner.
    pub payments: Vec<Payment>,
    pub draft: Draft,
    /// Whether more are due than fit into a batch, and there may be coins for them.
    pub more: bool,
    /// What is missing, and who waits for it, where the coins do not suffice.
    pub short: Option<String>,
}

impl Payer {
    /// Of those who are `due`, the first ones, as many as a batch takes. If there are not enough coins for them, what fits.
    pub(super) async fn choose(
        &mut self,
        mut due: Vec<Payment>,
        rate: u64,
        locked: &[OutPoint],
    ) -> Result<Chosen, PayError> {
        let most = (self.settings.max_outputs as usize).min(due.len());
        let (first, others) = due.split_at(most);
        match self.draft(first, rate, locked) {
            Ok(draft) => {
                let more = !others.is_empty();
                due.truncate(most);
                Ok(Chosen { payments: by_miner(due), draft, more, short: None })
            }
            Err(PayError::Wallet(WalletError::Funds { needed, available })) => {
                let of =
                    |payments: &[Payment]| payments.iter().map(|payment| payment.cost(rate)).sum::<u64>();
                let room = of(first).saturating_sub(needed.saturating_sub(available));
                let lacks = WalletError::Funds { needed: needed.saturating_add(of(others)), available };
                self.what_fits(due, room, (rate, locked), lacks).await
            }
            Err(error) => Err(error),
        }
    }

    /// Who was paid longest ago comes first, and before all who never was: so nobody waits twice while others do not wait
    /// at all. Among equals the smallest amount, which leaves the fewest waiting. Whoever is owed more than there is room
    /// for is passed over, since one of them would keep all others from being paid.
    async fn what_fits(
        &mut self,
        mut due: Vec<Payment>,
        mut room: u64,
        (rate, locked): (u64, &[OutPoint]),
        lacks: WalletError,
    ) -> Result<Chosen, PayError> {
        let last = self.last_paid(&due).await?;
        due.sort_unstable_by_key(|payment| (last.get(&payment.miner).copied(), payment.sats, payment.miner));
        let most = self.settings.max_outputs as usize;
        let (count, owed) = (due.len(), due.iter().map(|payment| payment.sats).sum::<u64>());
        due.retain({
            let mut taken = 0;
            move |payment| {
                let fits = taken < most && payment.cost(rate) <= room;
                if fits {
                    (taken, room) = (taken + 1, room - payment.cost(rate));
                }
                fits
            }
        });
        // What a transaction costs is known when it is made: if it was a little more, one of them less, then two, and four.
        let mut too_many = 1;
        while !due.is_empty() {
            match self.draft(&due, rate, locked) {
                Ok(draft) => {
                    let paid: u64 = due.iter().map(|payment| payment.sats).sum();
                    let (waiting, rest) = (count - due.len(), owed - paid);
                    let short = format!("{lacks}; {waiting} of {count} miners wait for {rest} sat");
                    return Ok(Chosen { payments: by_miner(due), draft, more: false, short: Some(short) });
                }
                Err(PayError::Wallet(WalletError::Funds { .. })) => {
                    due.truncate(due.len().saturating_sub(too_many));
                    too_many *= 2;
                }
                Err(error) => return Err(error),
            }
        }
        Err(lacks.into())
    }

    /// The newest batch of each that was not given up; nothing of those who were in none.
    async fn last_paid(&self, due: &[Payment]) -> Result<HashMap<i64, i64>, PayError> {
        let ids: Vec<(i64,)> = due.iter().map(|payment| (payment.miner,)).collect();
        let sql = format!(
            "SELECT i.miner_id, MAX(i.payout_id) AS last FROM {} AS t JOIN payout_item i ON i.miner_id = t.id \
             JOIN payout p ON p.id = i.payout_id WHERE p.state <> 'returned' GROUP BY i.miner_id",
            self.store.dialect().table(&[("id", Column::Integer)])
        );
        let mut snapshot = self.store.snapshot().await?;
        let query = sqlx::query(AssertSqlSafe(sql)).bind(json(&ids));
        let rows = query.fetch_all(&mut *snapshot).await.map_err(failed)?;
        let last = |row| -> Result<_, sqlx::Error> {
            let row: &sqlx::any::AnyRow = row;
            Ok((row.try_get("miner_id")?, row.try_get("last")?))
        };
        Ok(rows
            .iter()
            .map(last)
            .collect::<Result<_, _>>()
            .map_err(LedgerError::database("read who was paid"))?)
    }

    /// The transaction that pays them, in the order of their numbers.
    fn draft(&mut self, payments: &[Payment], rate: u64, locked: &[OutPoint]) -> Result<Draft, PayError> {
        let mut payments: Vec<&Payment> = payments.iter().collect();
        payments.sort_unstable_by_key(|payment| payment.miner);
        let outputs: Vec<_> = payments.iter().map(|at| (at.script.clone(), at.sats)).collect();
        let from = self.settings.fee_from;
        Ok(self.coins()?.draft(&outputs, from, &Choice { rate, locked, must: &[] })?)
    }
}

impl Payment {
    /// What it takes of the wallet: the amount and what the network asks for the output, at `rate` satoshi per 1000 bytes.
    fn cost(&self, rate: u64) -> u64 {
        let output = TxOut { value: Amount::from_sat(self.sats), script_pubkey: self.script.clone() };
        self.sats.saturating_add((output.size() as u64).saturating_mul(rate).div_ceil(1000))
    }
}

fn by_miner(mut payments: Vec<Payment>) -> Vec<Payment> {
    payments.sort_unstable_by_key(|payment| payment.miner);
    payments
}
