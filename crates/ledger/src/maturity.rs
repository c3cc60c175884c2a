//! Found blocks on their way: candidate, immature, mature, or orphaned; and the journal that says what they earned.

use std::{sync::Arc, time::Duration};

use share::hash::shown;
use sqlx::{AnyConnection, Row, any::AnyRow};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    BlockStatus as State, Chain, LedgerError, Standing, clock,
    coinbases::Shown,
    journal::{self, Kind, Post},
    ledger::{Point, Settings},
    store::{Column, Store, json, slow, write},
};

mod entries;
mod step;

pub(crate) use entries::{Moves, covers, matures, outputs, stored};
use step::{Block, Step};

/// How many questions are open at the chain at a time.
const AT_ONCE: usize = 4;
/// After this long a round is left off, and the next begins with the candidates again.
const ROUND: Duration = Duration::from_secs(10);
/// How long one transaction may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Follows the blocks of one ledger.
pub(crate) struct Maturity {
    store: Arc<Store>,
    chain: Arc<dyn Chain>,
    settings: Settings,
    /// Where jobs look for balances that a coinbase may pay.
    pub shown: Shown,
}

impl Maturity {
    pub fn new(store: Arc<Store>, chain: Arc<dyn Chain>, settings: Settings) -> Self {
        Self { store, chain, settings, shown: Shown::default() }
    }

    /// Follows until `stop` is true.
    pub async fn run(&mut self, mut stop: watch::Receiver<bool>) {
        let mut away = false;
        for round in 0u64.. {
            if *stop.borrow() {
                return;
            }
            match self.round(round.is_multiple_of(5), &mut stop).await {
                Ok(()) if std::mem::take(&mut away) => tracing::info!("found blocks are followed again"),
                Err(error) if !std::mem::replace(&mut away, true) => {
                    tracing::error!(%error, "found blocks cannot be followed; nothing is credited until they can");
                }
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(self.settings.follow) => {}
                _ = stop.changed() => return,
            }
        }
    }

    /// Asks about candidates, or about all blocks, and does what is to be done.
    pub async fn round(&self, all: bool, stop: &mut watch::Receiver<bool>) -> Result<(), LedgerError> {
        let (height, mut blocks) = self.watched().await?;
        blocks.retain(|block| all || block.state == State::Candidate);
        let begun = Instant::now();
        let mut seen = Vec::new();
        for few in blocks.chunks(AT_ONCE) {
            let answers = tokio::select! {
                answers = self.ask(few) => answers,
                _ = stop.changed() => break,
            };
            for (block, standing) in few.iter().zip(answers) {
                let confirmations = match standing {
                    Standing::OnChain(depth) => Some(i64::from(depth)),
                    Standing::OffChain => None,
                    Standing::Unknown => block.confirmations,
                };
                let waited =
                    Duration::from_millis((clock::now_ms() - block.found_ms).try_into().unwrap_or(0));
                match block.step(standing, height, waited >= self.settings.patience) {
                    Some(step) => self.settle(block, step, confirmations).await?,
                    None if confirmations != block.confirmations => seen.push((block.id, confirmations)),
                    None => {}
                }
            }
            // With no node there is an answer only after a timeout: candidates must not wait for all the others.
            if begun.elapsed() > ROUND {
                break;
            }
        }
        self.note(&seen).await?;
        self.shown.carry(&self.store).await
    }

    /// Asks the chain about each of `blocks`.
    async fn ask(&self, blocks: &[Block]) -> Vec<Standing> {
        let mut asked = JoinSet::new();
        for (index, block) in blocks.iter().enumerate() {
            let (chain, hash) = (self.chain.clone(), block.hash);
            asked.spawn(async move { (index, chain.standing(&hash).await) });
        }
        let mut answers = vec![Standing::Unknown; blocks.len()];
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((index, standing)) => answers[index] = standing,
                Err(error) => tracing::error!(%error, "asking the chain about a block failed"),
            }
        }
        answers
    }

    /// Writes how deep blocks were seen that do not move.
    async fn note(&self, seen: &[(i64, Option<i64>)]) -> Result<(), LedgerError> {
        if seen.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "UPDATE block SET confirmations = t.confirmations FROM {} AS t WHERE block.id = t.id",
            self.store.dialect().table(&[("id", Column::Integer), ("confirmations", Column::Integer)])
        );
        let mut writer = self.store.writer().await?;
        let done = {
            let transaction = async {
                let mut transaction = writer.begin().await?;
                write(&mut transaction, "note the depth of blocks", sql, json(seen), &[]).await?;
                transaction.commit().await.map_err(LedgerError::database("note the depth of blocks"))
            };
            tokio::time::timeout(LIMIT, transaction).await.unwrap_or_else(|_| Err(slow("note depths", LIMIT)))
        };
        if done.is_err() {
            writer.abandon();
        }
        done
    }

    /// The height that the pool mines at, and the blocks to ask about: candidates first, then the youngest.
    async fn watched(&self) -> Result<(i64, Vec<Block>), LedgerError> {
        let failed = LedgerError::database("read the watched blocks");
        let sql = "SELECT id, hash, height, found_ms, scheme, reward_msat, subsidy_msat, fee_msat, state, credits, matured, \
                   confirmations, (SELECT t.height FROM tally t) AS mined_at FROM block WHERE watched = 1 \
                   ORDER BY CASE state WHEN 'candidate' THEN 0 ELSE 1 END, id DESC";
        let rows = sqlx::query(sql).fetch_all(self.store.reader()).await.map_err(&failed)?;
        let height = rows.first().map_or(Ok(0), |row| row.try_get("mined_at")).map_err(&failed)?;
        Ok((height, rows.iter().map(block).collect::<Result<_, _>>()?))
    }

    /// Takes one step, in one transaction.
    async fn settle(&self, block: &Block, step: Step, confirmations: Option<i64>) -> Result<(), LedgerError> {
        let mut writer = self.store.writer().await?;
        let done = {
            let transaction = async {
                let mut transaction = writer.begin().await?;
                let moved = self.apply(&mut transaction, block, step, confirmations).await?;
                self.settings.reach(Point::Moved).await;
                transaction.commit().await.map_err(LedgerError::database("commit a step of a block"))?;
                self.settings.reach(Point::Settled).await;
                Ok(moved)
            };
            tokio::time::timeout(LIMIT, transaction)
                .await
                .unwrap_or_else(|_| Err(slow("settle a block", LIMIT)))
        };
        match done {
            Ok(moved) => {
                if moved {
                    tracing::info!(hash = %shown(&block.hash), height = block.height, ?step, "a block has moved");
                }
                Ok(())
            }
            // W10: what one block is refused must not hold up the others.
            Err(error) if error.is_refusal() || matches!(error, LedgerError::Unsound(_)) => {
                tracing::error!(hash = %shown(&block.hash), ?step, %error, "a block cannot be settled");
                Ok(())
            }
            Err(error) => {
                writer.abandon();
                Err(error)
            }
        }
    }

    /// False if the block is not as it was any more.
    async fn apply(
        &self,
        connection: &mut AnyConnection,
        block: &Block,
        step: Step,
        confirmations: Option<i64>,
    ) -> Result<bool, LedgerError> {
        let (state, matured) = match step {
            Step::Credit => (State::Immature, false),
            Step::Restore | Step::Mature => (State::Mature, true),
            Step::Reverse | Step::GiveUp => (State::Orphaned, false),
            Step::Cover => (State::Orphaned, true),
            Step::Forget => (block.state, block.matured),
        };
        let credits = block.credits + i64::from(matches!(step, Step::Credit | Step::Restore));
        let sql = "UPDATE block SET state = $1, credits = $2, matured = $3, watched = $4, confirmations = $5 \
                   WHERE id = $6 AND state = $7 AND credits = $8";
        let updated = sqlx::query(sql)
            .bind(state.as_str())
            .bind(credits)
            .bind(i64::from(matured))
            .bind(i64::from(step != Step::Forget))
            .bind(confirmations)
            .bind(block.id)
            .bind(block.state.as_str())
            .bind(block.credits)
            .execute(&mut *connection)
            .await
            .map_err(LedgerError::database("move a block"))?;
        if updated.rows_affected() != 1 {
            return Ok(false);
        }
        let (kind, entries) = match step {
            Step::Credit => (Kind::Reward, entries::credit(connection, self.store.dialect(), block).await?),
            Step::Mature => (Kind::Mature, entries::mature(connection, block).await?),
            Step::Reverse => (Kind::Reorg, entries::reverse(connection, block).await?),
            Step::Cover => (Kind::Reorg, entries::cover(connection, block).await?),
            Step::Restore => (Kind::Reward, entries::restore(connection, self.store.dialect(), block).await?),
            Step::GiveUp | Step::Forget => return Ok(true),
        };
        let key = format!("{}:{}:{credits}", kind.name(), shown(&block.hash));
        let post = Post { kind, key, block: Some(block.id), now_ms: clock::now_ms(), entries: &entries };
        journal::post(connection, self.store.dialect(), &post).await?;
        Ok(true)
    }
}

fn block(row: &AnyRow) -> Result<Block, LedgerError> {
    let failed = LedgerError::database("read a block");
    let field = |name: &str| row.try_get::<i64, _>(name).map_err(&failed);
    let text = |name: &str| row.try_get::<String, _>(name).map_err(&failed);
    let hash: Vec<u8> = row.try_get("hash").map_err(&failed)?;
    let state = text("state")?;
    Ok(Block {
        id: field("id")?,
        hash: hash
            .try_into()
            .map_err(|_| LedgerError::Unsound("a hash of a block is not 32 bytes".to_owned()))?,
        height: field("height")?,
        found_ms: field("found_ms")?,
        solo: text("scheme")? == "solo",
        reward_msat: field("reward_msat")?,
        subsidy_msat: field("subsidy_msat")?,
        fee_msat: field("fee_msat")?,
        state: State::parse(&state)
            .ok_or_else(|| LedgerError::Unsound(format!("a block is in state {state:?}")))?,
        credits: field("credits")?,
        matured: field("matured")? == 1,
        confirmations: row.try_get("confirmations").map_err(&failed)?,
    })
}
