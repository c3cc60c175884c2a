//! Shows the pool to people and programs: the HTTP API and the dashboard.
//!
//! This crate does: answer the routes under `/api/v1`, described in `/api/openapi.json` ([`State`], [`serve`]); send the
//! pool's figures and its blocks as server-sent events; keep the hashrate of the last hours in memory for the charts;
//! serve the dashboard, whose files are part of the binary; tell monitors how things stand (`/healthz`, `/livez`,
//! `/metrics`).
//!
//! It does not: change anything (every route only reads), speak SQL or Stratum, or work out what anybody is owed. What
//! the ledger says is passed on to the digit.
//!
//! Invariants:
//! - Amounts are integers in millisatoshi; work is a decimal string, since it exceeds the numbers of JSON; times are
//!   integers in milliseconds since 1970; hashes are hex in the order that people read.
//! - A visitor can hold up only itself: connections and subscribers are counted, a reader that does not read is closed,
//!   and what everybody asks for is read from the ledger once for all.
//! - What miners call themselves reaches the page as JSON strings and becomes text there, never markup; a strict
//!   content security policy stands behind that.

mod connections;
mod events;
mod fault;
mod figures;
mod history;
mod metrics;
mod pages;
mod routes;

use std::{future::Future, io, sync::Arc, time::Duration};

use ledger::Ledger;
use pool::{Roster, Snapshot};
use tokio::{net::TcpListener, sync::watch, time};

/// How long answers under way may still take once we are told to stop.
const GRACE: Duration = Duration::from_secs(3);

/// What the API shows.
#[derive(Clone)]
pub struct State {
    /// Shares, blocks and balances.
    pub ledger: Ledger,
    /// Who is mining.
    pub roster: Roster,
    /// What does not change while the pool runs.
    pub about: About,
    /// How the nodes are, whenever somebody asks.
    pub nodes: Nodes,
}

/// Answers how each node is, in the order of the configuration. The room that speaks to nodes is below our reach; the
/// binary knows it.
pub type Nodes = Arc<dyn Fn() -> Vec<NodeState> + Send + Sync>;

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Whether its last answers were no errors.
    pub is_well: bool,
    /// Whether it leads: whether the others are asked only to replace it.
    pub leads: bool,
    /// Of its best block, as last heard.
    pub height: Option<u32>,
    /// How long ago its last template came.
    pub template_age: Option<Duration>,
    /// How often each kind of error was heard from it since the start.
    pub faults: Vec<(&'static str, u64)>,
}

/// What a pool says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// The chain, as configured: `main`, `testnet4`, `signet`, `regtest`.
    pub network: String,
    /// How rewards are divided, as configured.
    pub scheme: String,
    /// The pool's part of a reward, in millionths.
    pub fee_ppm: u32,
    /// From which balance on miners are paid, satoshi, if they have no threshold of their own; nothing if the pool makes no
    /// payments.
    pub payout_threshold_sats: Option<u64>,
    /// What the pool writes into its coinbases.
    pub tag: String,
    /// Where miners connect, as `stratum+tcp://host:port`. The page puts its own host for `0.0.0.0` and `[::]`.
    pub stratum_urls: Vec<String>,
    /// The version of this program.
    pub version: &'static str,
}

/// Serves the API and the dashboard on `listener` until `stop` is ready.
///
/// # Errors
/// If the listener fails for good.
pub async fn serve(listener: TcpListener, state: State, stop: impl Future<Output = ()>) -> io::Result<()> {
    let State { ledger, roster, about, nodes } = state;
    serve_from(listener, ledger, (about, nodes), roster.snapshots(), stop).await
}

/// The same, whoever gives the snapshots.
async fn serve_from(
    listener: TcpListener,
    ledger: Ledger,
    (about, nodes): (About, Nodes),
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (tell, stopping) = watch::channel(false);
    let shown = figures::Shown::new(ledger, about, nodes, stopping.clone());
    let app = routes::router(shown.clone());
    let mut told = stopping;
    let server = axum::serve(connections::Listener::new(listener), app).with_graceful_shutdown(async move {
        // An error means that the sender is gone, and we with it.
        let _ = told.wait_for(|&stop| stop).await;
    });
    tokio::select! {
        ended = async { server.await } => ended,
        () = figures::keep(&shown, snapshots) => Ok(()),
        () = async {
            stop.await;
            tell.send_replace(true);
            time::sleep(GRACE).await;
        } => Ok(()),
    }
}

#[cfg(test)]
mod tests;
