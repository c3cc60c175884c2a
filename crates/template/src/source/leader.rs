//! Who leads: a rule over what was heard of each node, without clock or socket.

use std::{
    collections::{BTreeMap, VecDeque},
    mem::{Discriminant, discriminant},
    sync::Arc,
};

use share::Hash;
use tokio::time::Instant;

use super::{NodeStatus, SourceConfig};
use crate::{Look, NodeError, Template};

/// What was heard of every node, and what follows from it.
///
/// The rule: the preferred node leads among those that are well, that is, whose last answers were no errors and
/// whose template is young; one that is doubtful (in its initial download, without peers, with a wrong clock) only when
/// all are. A leader stays until it fails, falls behind for a while, or a preferred node has been well for a while; so
/// nodes that come and go do not make work flap. Mined is the template of the leader, or of the node whose chain has
/// more work, from the moment that this is known. The work does not go back, unless the node that it came from takes it
/// back, or nobody has confirmed it for [`SourceConfig::max_age`].
///
/// On the same tip a newer template is mined only if it pays; else it confirms the one that is.
pub(super) struct Leadership {
    config: SourceConfig,
    seen: Vec<Seen>,
    leader: Option<usize>,
    /// When another node was first seen to be ahead of the leader, since it last was not.
    behind_since: Option<Instant>,
    published: Option<Published>,
    /// Whether it was said that nobody leads.
    leaderless: bool,
    works: Works,
}

/// The template that is mined.
struct Published {
    template: Arc<Template>,
    /// The node that it is from.
    by: usize,
    since: Instant,
    /// When a node last gave a template on the same tip.
    confirmed: Instant,
}

/// Where the tip of a template stands among others.
#[derive(Clone, Copy)]
struct Rank {
    height: u32,
    /// Of the chain below, where a node has told it.
    work: Option<u128>,
}

impl Rank {
    fn beats(self, other: Rank) -> bool {
        match (self.work, other.work) {
            (Some(own), Some(other)) => own > other,
            _ => self.height > other.height,
        }
    }
}

/// How much work is in the chains that end in the tips heard of lately.
#[derive(Default)]
struct Works(VecDeque<(Hash, u128)>);

impl Works {
    /// Nodes are seldom further apart than this many blocks, and if they are, heights are told apart still.
    const KEPT: usize = 64;

    fn learn(&mut self, tip: Hash, work: u128) {
        if self.get(&tip).is_none() {
            self.0.truncate(Self::KEPT - 1);
            self.0.push_front((tip, work));
        }
    }

    fn get(&self, tip: &Hash) -> Option<u128> {
        self.0.iter().find(|(known, _)| known == tip).map(|(_, work)| *work)
    }
}

/// What was heard of one node.
struct Seen {
    name: String,
    look: Option<Look>,
    template: Option<(Arc<Template>, Instant)>,
    /// By how many seconds its clock is ahead of ours.
    clock: i64,
    tip_fault: Option<Fault>,
    template_fault: Option<Fault>,
    /// Since when it has been without fault and has had a template.
    well_since: Option<Instant>,
    /// Since when it has been well and without doubts.
    sound_since: Option<Instant>,
    /// How often each kind of error was heard.
    faults: BTreeMap<&'static str, u64>,
}

/// A node whose clock is this many seconds off is doubtful: blocks more than two hours ahead are refused by all others,
/// and work with an old time is closer to a miner that rolls it (F-04).
const CLOCK: i64 = 60;

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
    /// This, which was published before, is good still.
    Confirm(Arc<Template>),
}

impl Leadership {
    pub(super) fn new(names: Vec<String>, config: SourceConfig) -> Self {
        let seen = |name| Seen {
            name,
            look: None,
            template: None,
            clock: 0,
            tip_fault: None,
            template_fault: None,
            well_since: None,
            sound_since: None,
            faults: BTreeMap::new(),
        };
        let seen = names.into_iter().map(seen).collect();
        Self {
            config,
            seen,
            leader: None,
            behind_since: None,
            published: None,
            leaderless: false,
            works: Works::default(),
        }
    }

    /// Hears how a node stands. Whether a template is due that it was not asked for yet.
    pub(super) fn look(&mut self, at: usize, now: Instant, answer: Result<Look, NodeError>) -> bool {
        let heard = self.seen[at].hear_tip(answer.as_ref().err());
        let Ok(look) = answer else {
            self.seen[at].judge(now);
            return false;
        };
        self.works.learn(look.tip.hash, look.work);
        let due = self.is_news(at, &look.tip.hash);
        self.seen[at].look = Some(look);
        self.seen[at].judge(now);
        // What has just recovered is asked at once too; before the first template somebody is asking already.
        heard || due
    }

    /// Whether `tip` is another than that of the node's template. Before the first one nothing is news: it has been
    /// asked for.
    pub(super) fn is_news(&self, at: usize, tip: &Hash) -> bool {
        self.seen[at].template.as_ref().is_some_and(|(template, _)| template.prev_hash != *tip)
    }

    /// Hears a template without transactions, which stands in until the full one has come. It is taken only for a block
    /// above that of the last template: what told of its tip may have been overtaken by that template, and only the
    /// node itself can take work back.
    pub(super) fn stand_in(&mut self, at: usize, now: Instant, template: Template) {
        let seen = &mut self.seen[at];
        if seen.template.as_ref().is_some_and(|(last, _)| template.height > last.height) {
            seen.template = Some((Arc::new(template), now));
        }
    }

    /// Hears a template that was asked for at `asked`. `false` if it may be older than what we have, and the node has
    /// to be asked again.
    pub(super) fn template(&mut self, at: usize, asked: Instant, now: Instant, template: Template) -> bool {
        let seen = &mut self.seen[at];
        seen.hear_template(None);
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
        seen.hear_template(Some(error));
        (seen.well_since, seen.sound_since) = (None, None);
    }

    /// Hears by how many seconds a node's clock is ahead of ours.
    pub(super) fn clock(&mut self, at: usize, now: Instant, ahead: i64) {
        let seen = &mut self.seen[at];
        if (ahead.abs() > CLOCK) != (seen.clock.abs() > CLOCK) {
            tracing::warn!(node = %seen.name, ahead, "seconds by which this node's clock is ahead of ours");
        }
        seen.clock = ahead;
        seen.judge(now);
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
        if let Some(leader) = leader {
            let foremost = self.ahead_of(leader, now).unwrap_or_else(|| self.holder(leader, now));
            changes.extend(self.publish(foremost, now));
        }
        changes
    }

    fn choose(&mut self, now: Instant) -> Option<usize> {
        let all = 0..self.seen.len();
        let floor = self.published.as_ref().filter(|published| self.stands(published, now));
        let floor = floor.map(|published| self.rank(&published.template));
        let fit = |at: usize| {
            let rank = self.usable(at, now);
            rank.is_some_and(|rank| floor.is_none_or(|floor| !floor.beats(rank)))
        };
        let order = |at: usize| (self.seen[at].is_doubtful(), at);
        let Some((leader, own)) = self.leader.and_then(|at| Some((at, self.usable(at, now)?))) else {
            let best = all.clone().filter(|&at| fit(at)).min_by_key(|&at| order(at));
            // Better some work on the right tip, and be it without transactions, than none.
            return best
                .or_else(|| all.filter(|&at| self.still_answers(at, now)).min_by_key(|&at| order(at)));
        };
        let settled = |at: usize| {
            let seen = &self.seen[at];
            let since = if seen.is_doubtful() { seen.well_since } else { seen.sound_since };
            since.is_some_and(|since| now.saturating_duration_since(since) >= self.config.settle)
        };
        let level = |at: usize| self.usable(at, now).is_some_and(|rank| !own.beats(rank));
        let preferred = all
            .filter(|&at| order(at) < order(leader) && fit(at) && settled(at) && level(at))
            .min_by_key(|&at| order(at));
        let ahead = self.ahead_of(leader, now);
        let behind_since = ahead.map(|_| self.behind_since.unwrap_or(now));
        self.behind_since = behind_since;
        let outrun =
            behind_since.is_some_and(|since| now.saturating_duration_since(since) >= self.config.lag);
        ahead.filter(|_| outrun).or(preferred).or(Some(leader))
    }

    /// The node whose chain has the most work, where that is more than the leader's.
    fn ahead_of(&self, leader: usize, now: Instant) -> Option<usize> {
        let mut best = (None, self.usable(leader, now)?);
        for at in 0..self.seen.len() {
            if let Some(rank) = self.usable(at, now).filter(|rank| rank.beats(best.1)) {
                best = (Some(at), rank);
            }
        }
        best.0
    }

    /// Who is mined where nobody is ahead: the leader, unless its tip is only as good as the one that is mined. The tip that
    /// was first is the one that most of the network works on.
    fn holder(&self, leader: usize, now: Instant) -> usize {
        let tip = |at: usize| self.seen[at].template.as_ref().map(|(template, _)| template.prev_hash);
        let Some(last) = &self.published else { return leader };
        let holds = tip(last.by) == Some(last.template.prev_hash) && tip(leader) != tip(last.by);
        match (self.usable(last.by, now), self.usable(leader, now)) {
            (Some(held), Some(own)) if holds && !own.beats(held) => last.by,
            _ => leader,
        }
    }

    /// Whether a node that gives no full templates says its best block at least, so that empty ones can be made of it, and
    /// has given a template lately.
    fn still_answers(&self, at: usize, now: Instant) -> bool {
        let seen = &self.seen[at];
        let is_young = seen.template.as_ref().is_some_and(|(_, received)| self.is_young(*received, now));
        is_young && seen.look.is_some() && seen.tip_fault.is_none()
    }

    /// Where the template of a node stands that is well and whose template is young.
    fn usable(&self, at: usize, now: Instant) -> Option<Rank> {
        let seen = &self.seen[at];
        let (template, received) = seen.template.as_ref()?;
        (seen.well_since.is_some() && self.is_young(*received, now)).then(|| self.rank(template))
    }

    fn rank(&self, template: &Template) -> Rank {
        Rank { height: template.height, work: self.works.get(&template.prev_hash) }
    }

    fn is_young(&self, received: Instant, now: Instant) -> bool {
        now.saturating_duration_since(received) < self.config.max_age
    }

    /// Whether what is published is still the best that was heard: its node works on it, or has fallen silent lately.
    fn stands(&self, published: &Published, now: Instant) -> bool {
        let seen = &self.seen[published.by];
        let silent = seen.well_since.is_none();
        let works_on_it = seen
            .template
            .as_ref()
            .is_some_and(|(template, _)| template.prev_hash == published.template.prev_hash);
        self.is_young(published.confirmed, now) && (silent || works_on_it)
    }

    /// What is to be done with the template of the node that is foremost.
    fn publish(&mut self, at: usize, now: Instant) -> Option<Change> {
        let (template, received) = self.seen[at].template.clone()?;
        if let Some(last) = &self.published {
            let same_tip =
                last.template.prev_hash == template.prev_hash && last.template.bits == template.bits;
            if Arc::ptr_eq(&last.template, &template) || (same_tip && !self.pays(last, &template, now)) {
                // Nothing to hand out, but the work is known to be good still.
                let last = self.published.as_mut().filter(|last| last.confirmed < received)?;
                last.confirmed = received;
                return Some(Change::Confirm(last.template.clone()));
            }
            let back = self.rank(&last.template).beats(self.rank(&template));
            if back && last.by != at && self.stands(last, now) {
                return None;
            }
        }
        self.published =
            Some(Published { template: template.clone(), by: at, since: now, confirmed: received });
        Some(Change::Publish(template))
    }

    /// Whether a template on the same tip is worth new work for everybody.
    fn pays(&self, last: &Published, template: &Template, now: Instant) -> bool {
        let at_last = last.template.transaction_count == 0 && template.transaction_count > 0;
        let gain = template.coinbase_value.saturating_sub(last.template.coinbase_value);
        let paced = now.saturating_duration_since(last.since) >= self.config.pace;
        at_last || (gain >= self.config.gain.max(1) && paced)
    }

    pub(super) fn status(&self, now: Instant) -> Vec<NodeStatus> {
        let status = |(at, seen): (usize, &Seen)| NodeStatus {
            name: seen.name.clone(),
            state: seen.state(),
            is_well: seen.well_since.is_some(),
            leads: self.leader == Some(at),
            tip: seen.look.as_ref().map(|look| look.tip),
            template_age: seen
                .template
                .as_ref()
                .map(|(_, received)| now.saturating_duration_since(*received)),
            faults: seen.faults.iter().map(|(kind, count)| (*kind, *count)).collect(),
        };
        self.seen.iter().enumerate().map(status).collect()
    }
}

impl Seen {
    fn state(&self) -> String {
        match (&self.tip_fault, &self.template_fault) {
            (Some(fault), _) | (None, Some(fault)) => fault.text.clone(),
            (None, None) if self.is_starting() => "starting".into(),
            (None, None) => match self.doubts() {
                doubts if doubts.is_empty() => "well".into(),
                doubts => format!("answers, but {}", doubts.join(" and ")),
            },
        }
    }

    /// Why others are to be preferred to it.
    fn doubts(&self) -> Vec<String> {
        let mut doubts: Vec<String> = self.look.iter().flat_map(|look| look.doubts.clone()).collect();
        if self.clock.abs() > CLOCK {
            let way = if self.clock > 0 { "ahead of" } else { "behind" };
            doubts.push(format!("its clock is {} s {way} ours: set both by NTP", self.clock.abs()));
        }
        doubts
    }

    fn is_doubtful(&self) -> bool {
        self.clock.abs() > CLOCK || self.look.as_ref().is_some_and(|look| !look.doubts.is_empty())
    }

    fn hear_tip(&mut self, error: Option<&NodeError>) -> bool {
        self.count(error);
        hear(&mut self.tip_fault, &self.name, error)
    }

    fn hear_template(&mut self, error: Option<&NodeError>) -> bool {
        self.count(error);
        hear(&mut self.template_fault, &self.name, error)
    }

    fn count(&mut self, error: Option<&NodeError>) {
        if let Some(error) = error {
            *self.faults.entry(error.kind()).or_default() += 1;
        }
    }

    fn is_starting(&self) -> bool {
        self.template.is_none() && self.tip_fault.is_none() && self.template_fault.is_none()
    }

    fn judge(&mut self, now: Instant) {
        let well = self.tip_fault.is_none() && self.template_fault.is_none() && self.template.is_some();
        self.well_since = well.then(|| self.well_since.unwrap_or(now));
        self.sound_since = (well && !self.is_doubtful()).then(|| self.sound_since.unwrap_or(now));
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
