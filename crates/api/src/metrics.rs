//! `GET /metrics`, in the text format of Prometheus.

use std::{
    fmt::{Display, Write},
    sync::Arc,
};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use ledger::PayoutFigures;

use crate::{
    NodeState,
    figures::{Figures, Shown, now_ms},
};

/// The figures of the pool for a monitor.
pub(crate) async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    let text = text(&shown, now_ms());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn text(shown: &Shown, now_ms: u64) -> String {
    let Figures { snapshot, books } = shown.figures();
    let mut page = Page::default();
    page.family("sluice_build_info", "gauge", "Always 1; the label says which program this is.");
    page.sample("sluice_build_info", &[("version", shown.about.version)], 1);
    page.one("sluice_hashrate", "gauge", "Hashes per second over the last ten minutes.", snapshot.hashrate);
    page.one("sluice_connections", "gauge", "Open connections of miners.", snapshot.connections);
    let workers = snapshot.workers.iter().filter(|worker| worker.connections > 0).count();
    page.one("sluice_workers", "gauge", "Workers that are connected.", workers);
    let storing = u8::from(snapshot.storing);
    page.one("sluice_storing", "gauge", "1 while the spool takes shares; 0 is an alarm.", storing);

    page.family("sluice_rejects_total", "counter", "Submissions refused since the start, by reason.");
    for (reason, count) in &snapshot.rejects {
        page.sample("sluice_rejects_total", &[("reason", &label(&format!("{reason:?}")))], count);
    }
    page.family("sluice_closed_connections_total", "counter", "Connections ended or not let in, by reason.");
    for (why, count) in &snapshot.closed {
        page.sample("sluice_closed_connections_total", &[("reason", &label(&format!("{why:?}")))], count);
    }
    page.family("sluice_limited_total", "counter", "How often a limit held somebody back, by the limit.");
    for (what, count) in &snapshot.limited {
        page.sample("sluice_limited_total", &[("limit", &label(&format!("{what:?}")))], count);
    }
    let spooled = shown.ledger.spooled_bytes();
    page.one("sluice_spooled_bytes", "gauge", "On disk and not in the database yet.", spooled);
    let ledger::Lag { stuck, oldest } = shown.ledger.lag();
    let seconds = |time: Option<std::time::Duration>| time.unwrap_or_default().as_secs_f64();
    page.one(
        "sluice_undrained_age_seconds",
        "gauge",
        "Age of the oldest record that the database does not have; 0 when it has all.",
        seconds(oldest),
    );
    page.one(
        "sluice_drain_stuck_seconds",
        "gauge",
        "For how long nothing could be written to the database; above 15 /healthz fails.",
        seconds(stuck),
    );
    if let Some(disk) = shown.ledger.disk() {
        page.one("sluice_archive_bytes", "gauge", "Segments that are kept for audit.", disk.archive);
        page.family(
            "sluice_spool_disk_bytes",
            "gauge",
            "The file system that the spool is on; free below a tenth is an alarm.",
        );
        page.sample("sluice_spool_disk_bytes", &[("part", "free")], disk.free);
        page.sample("sluice_spool_disk_bytes", &[("part", "size")], disk.size);
    }
    if let Some(tip) = snapshot.tip {
        page.one("sluice_height", "gauge", "Height of the block being looked for.", tip.height);
        page.one("sluice_network_difficulty", "gauge", "Its difficulty.", tip.network_difficulty);
        let age = now_ms.saturating_sub(tip.template_time_ms) as f64 / 1000.0;
        page.one("sluice_template_age_seconds", "gauge", "How old the work being mined is.", age);
    }
    page.nodes(&(shown.nodes)());
    if let Some(books) = books {
        let (totals, age) = (&books.totals, books.read.elapsed().as_secs_f64());
        page.one("sluice_ledger_age_seconds", "gauge", "Since the ledger last answered.", age);
        page.one("sluice_accepted_shares_total", "counter", "Shares in the ledger.", totals.accepted_shares);
        page.one(
            "sluice_rejected_shares_total",
            "counter",
            "Refused, by the ledger.",
            totals.rejected_shares,
        );
        page.one(
            "sluice_blocks_found_total",
            "counter",
            "Blocks in the ledger.",
            totals.blocks + totals.orphaned,
        );
        page.one("sluice_blocks_orphaned", "gauge", "Of these, not on the chain.", totals.orphaned);
        page.one("sluice_rewards_millisatoshi", "gauge", "Of the blocks on the chain.", totals.rewards_msat);
        page.payouts(&books.payouts);
        let reserve = &books.reserve;
        page.family(
            "sluice_reserve_millisatoshi",
            "gauge",
            "What work is paid with, and what there should be.",
        );
        page.sample("sluice_reserve_millisatoshi", &[("part", "available")], reserve.available_msat);
        page.sample("sluice_reserve_millisatoshi", &[("part", "immature")], reserve.immature_msat);
        if let Some(required) = reserve.required_msat {
            page.sample("sluice_reserve_millisatoshi", &[("part", "required")], required);
        }
    }
    page.one("sluice_event_listeners", "gauge", "Who listens to /api/v1/events.", shown.events.listeners());
    page.0
}

/// `LowDifficulty` as `low_difficulty`.
fn label(name: &str) -> String {
    let mut label = String::with_capacity(name.len() + 2);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !label.is_empty() {
            label.push('_');
        }
        label.push(c.to_ascii_lowercase());
    }
    label
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// By their number in the configuration: where they are is nobody's business.
    fn nodes(&mut self, nodes: &[NodeState]) {
        let numbered = || nodes.iter().zip(1..).map(|(node, number): (_, u32)| (node, number.to_string()));
        let mut each = |name: &str, help: &str, value: &dyn Fn(&NodeState) -> Option<f64>| {
            self.family(name, "gauge", help);
            for (node, number) in numbered() {
                if let Some(value) = value(node) {
                    self.sample(name, &[("node", &number)], value);
                }
            }
        };
        each("sluice_node_well", "1 while the node answers as it should.", &|node| Some(node.is_well.into()));
        each("sluice_node_leads", "1 for the node that leads.", &|node| Some(node.leads.into()));
        each("sluice_node_height", "Height of the node's best block.", &|node| node.height.map(f64::from));
        each("sluice_node_template_age_seconds", "Since the node last gave a template.", &|node| {
            node.template_age.map(|age| age.as_secs_f64())
        });
        let name = "sluice_node_faults_total";
        self.family(name, "counter", "Errors heard from a node instead of an answer, by kind.");
        for (node, number) in numbered() {
            for (kind, count) in &node.faults {
                self.sample(name, &[("node", &number), ("kind", kind)], count);
            }
        }
    }

    fn payouts(&mut self, payouts: &PayoutFigures) {
        let owed = payouts.liabilities_msat;
        self.one(
            "sluice_liabilities_millisatoshi",
            "gauge",
            "Miners' available balances, and what is in flight.",
            owed,
        );
        if let Some(coins) = payouts.coins_sats {
            self.one("sluice_wallet_satoshi", "gauge", "Coins that the wallet can spend.", coins);
        }
        if let Some(immature) = payouts.immature_sats {
            self.one("sluice_wallet_immature_satoshi", "gauge", "Of blocks that are not 100 deep.", immature);
        }
        if let Some(last) = payouts.last_ms {
            let seconds = last as f64 / 1000.0;
            self.one(
                "sluice_last_payout_timestamp_seconds",
                "gauge",
                "When a batch was last planned.",
                seconds,
            );
        }
        self.one("sluice_payouts_open", "gauge", "Batches on their way.", payouts.open);
        self.one("sluice_payouts_stuck", "gauge", "Of these, those that do not move.", payouts.stuck);
        let trouble = u8::from(payouts.trouble.is_some());
        self.one(
            "sluice_payouts_trouble",
            "gauge",
            "1 while not all that is due can be paid: see sluice payout list.",
            trouble,
        );
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let check = |name, expect: &str| assert_eq!(label(name), expect);
        check("Stale", "stale");
        check("LowDifficulty", "low_difficulty");
    }

    #[test]
    fn f03_nodes_by_number() {
        let mut page = Page::default();
        let well = NodeState {
            is_well: true,
            leads: true,
            height: Some(7),
            template_age: Some(std::time::Duration::from_millis(1500)),
            faults: Vec::new(),
        };
        page.nodes(&[well, NodeState { faults: vec![("busy", 2), ("timeout", 1)], ..NodeState::default() }]);
        let samples: Vec<&str> = page.0.lines().filter(|line| !line.starts_with('#')).collect();
        let expect = [
            r#"sluice_node_well{node="1"} 1"#,
            r#"sluice_node_well{node="2"} 0"#,
            r#"sluice_node_leads{node="1"} 1"#,
            r#"sluice_node_leads{node="2"} 0"#,
            r#"sluice_node_height{node="1"} 7"#,
            r#"sluice_node_template_age_seconds{node="1"} 1.5"#,
            r#"sluice_node_faults_total{node="2",kind="busy"} 2"#,
            r#"sluice_node_faults_total{node="2",kind="timeout"} 1"#,
        ];
        assert_eq!(samples, expect);
    }
}
