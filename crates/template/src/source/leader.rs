//! Who leads: a rule over what was heard of each node, without clock or socket.

use std::{
    mem::{Discriminant, discriminant},
    sync::Arc,
};

use tokio::time::Instant;

use super::{NodeStatus, SourceConfig};
use crate::{NodeError, Template, Tip};

/// What was heard of every node, and what follows from it.
///
/// The rule: the preferred node leads among those that are well, that is, whose last answers were no errors and
/// whose template is young. A leader stays until it fails, falls behind, or a preferred node has been well for a
/// while; so nodes that come and go do not make work flap. A new leader does not take the height back, unless nobody
/// has confirmed the published one for [`SourceConfig::max_age`]; a leader whose own chain goes back is followed.
pub(super) struct Leadership {
    config: SourceConfig,
    seen: Vec<Seen>,
    leader: Option<usize>,
    /// When another node was first seen to be ahead of the leader, since it last was not.
    behind_since: Option<Instant>,
    /// The last template published, and when it came.
    published: Option<(Arc<Template>, Instant)>,
    /// Whether it was said that nobody leads.
    leaderless: bool,
}

/// What was heard of one node.
struct Seen {
    name: String,
    tip: Option<Tip>,
    template: Option<(Arc<Template>, Instant)>,
    tip_fault: Option<Fault>,
    template_fault: Option<Fault>,
    /// Since when it has been without fault and has had a template.
    well_since: Option<Instant>,
}

struct Fault {
    kind: Discriminant<NodeError>,
    text: String,
}

/// What an election leads to.
pub(super) enum Change {
    /// Another node leads.
    Leads(String),
    /// No node is fit to lead any more.
    Leaderless,
    /// This is to be mined.
    Publish(Arc<Template>),
}

impl Leadership {
    pub(super) fn new(names: Vec<String>, config: SourceConfig) -> Self {
        let seen = |name| Seen {
            name,
            tip: None,
            template: None,
            tip_fault: None,
            template_fault: None,
            well_since: None,
        };
        let seen = names.into_iter().map(seen).collect();
        Self { config, seen, leader: None, behind_since: None, published: None, leaderless: false }
    }

    /// Hears a node's best block. Whether a template for it is due.
    pub(super) fn tip(&mut self, at: usize, now: Instant, answer: Result<Tip, NodeError>) -> bool {
        let seen = &mut self.seen[at];
        let heard = hear(&mut seen.tip_fault, &seen.name, answer.as_ref().err());
        seen.judge(now);
        let Ok(tip) = answer else { return false };
        seen.tip = Some(tip);
        // What has just recovered is asked at once too; before the first template somebody is asking already.
        heard || seen.template.as_ref().is_some_and(|(template, _)| template.prev_hash != tip.hash)
    }

    /// Hears a template that was asked for at `asked`. `false` if it may be older than what we have, and the node has
    /// to be asked again.
    pub(super) fn template(&mut self, at: usize, asked: Instant, now: Instant, template: Template) -> bool {
        let seen = &mut self.seen[at];
        hear(&mut seen.template_fault, &seen.name, None);
        // Two questions are under way at times, and answers may overtake each other. One for another block that was
        // asked for before the last answer came tells nothing, unless it is plainly ahead.
        let overtaken = seen.template.as_ref().is_some_and(|(last, received)| {
            asked < *received && template.prev_hash != last.prev_hash && template.height <= last.height
        });
        if !overtaken {
            seen.template = Some((Arc::new(template), now));
        }
        seen.judge(now);
        !overtaken
    }

    /// Hears that a node gave no template.
    pub(super) fn template_failed(&mut self, at: usize, error: &NodeError) {
        let seen = &mut self.seen[at];
        hear(&mut seen.template_fault, &seen.name, Some(error));
        seen.well_since = None;
    }

    /// When a node's last template came.
    pub(super) fn received(&self, at: usize) -> Option<Instant> {
        self.seen[at].template.as_ref().map(|(_, received)| *received)
    }

    /// What to wait upon at a node.
    pub(super) fn long_poll(&self, at: usize) -> Option<String> {
        self.seen[at].template.as_ref()?.0.long_poll.clone()
    }

    /// Applies the rule.
    pub(super) fn elect(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let leader = self.choose(now);
        if leader != self.leader {
            (self.leader, self.behind_since) = (leader, None);
            if let Some(at) = leader {
                changes.push(Change::Leads(self.seen[at].name.clone()));
                self.leaderless = false;
            }
        }
        // At the start nobody leads, and nothing is wrong.
        let told = self.leaderless || (self.published.is_none() && self.seen.iter().any(Seen::is_starting));
        if leader.is_none() && !told {
            self.leaderless = true;
            changes.push(Change::Leaderless);
        }
        if let Some((template, received)) = leader.and_then(|at| self.seen[at].template.clone()) {
            if self.published.as_ref().is_none_or(|(last, _)| !Arc::ptr_eq(last, &template)) {
                changes.push(Change::Publish(template.clone()));
            }
            self.published = Some((template, received));
        }
        changes
    }

    fn choose(&mut self, now: Instant) -> Option<usize> {
        let max_age = self.config.max_age;
        let young = |received: Instant| now.saturating_duration_since(received) < max_age;
        let height = |at: usize| {
            let seen = &self.seen[at];
            let (template, received) = seen.template.as_ref()?;
            (seen.well_since.is_some() && young(*received)).then_some(template.height)
        };
        let floor = self.published.as_ref().filter(|(_, received)| young(*received));
        let floor = floor.map_or(0, |(template, _)| template.height);
        let fit = |at: usize| height(at).is_some_and(|height| height >= floor);
        let settled = |at: usize| {
            let since = self.seen[at].well_since;
            since.is_some_and(|since| now.saturating_duration_since(since) >= self.config.settle)
        };
        let Some((leader, own)) = self.leader.and_then(|at| Some((at, height(at)?))) else {
            return (0..self.seen.len()).find(|&at| fit(at));
        };
        let ahead = (0..self.seen.len()).find(|&at| height(at).is_some_and(|height| height > own));
        let behind_since = ahead.map(|_| self.behind_since.unwrap_or(now));
        let preferred = (0..leader).find(|&at| fit(at) && settled(at) && height(at) >= Some(own));
        self.behind_since = behind_since;
        let outrun =
            behind_since.is_some_and(|since| now.saturating_duration_since(since) >= self.config.lag);
        ahead.filter(|_| outrun).or(preferred).or(Some(leader))
    }

    pub(super) fn status(&self, now: Instant) -> Vec<NodeStatus> {
        let status = |(at, seen): (usize, &Seen)| NodeStatus {
            name: seen.name.clone(),
            state: match (&seen.tip_fault, &seen.template_fault) {
                (Some(fault), _) | (None, Some(fault)) => fault.text.clone(),
                (None, None) if seen.is_starting() => "starting".into(),
                (None, None) => "well".into(),
            },
            leads: self.leader == Some(at),
            tip: seen.tip,
            template_age: seen
                .template
                .as_ref()
                .map(|(_, received)| now.saturating_duration_since(*received)),
        };
        self.seen.iter().enumerate().map(status).collect()
    }
}

impl Seen {
    fn is_starting(&self) -> bool {
        self.template.is_none() && self.tip_fault.is_none() && self.template_fault.is_none()
    }

    fn judge(&mut self, now: Instant) {
        let well = self.tip_fault.is_none() && self.template_fault.is_none() && self.template.is_some();
        self.well_since = well.then(|| self.well_since.unwrap_or(now));
    }
}

/// Takes note of an error or its absence, and logs when that changes; the same trouble each second is one line.
/// Whether a trouble is over.
fn hear(fault: &mut Option<Fault>, name: &str, error: Option<&NodeError>) -> bool {
    match error {
        None => {
            let over = fault.take().is_some();
            if over {
                tracing::info!(node = %name, "node answers again");
            }
            over
        }
        Some(error) => {
            let (kind, text) = (discriminant(error), error.to_string());
            if fault.as_ref().is_none_or(|fault| fault.kind != kind) {
                tracing::warn!(node = %name, error = %text, "node fails");
            }
            *fault = Some(Fault { kind, text });
            false
        }
    }
}

#[cfg(test)]
mod tests;
