//! Links between the nodes, one each way. What a story says of them acts on what is sent from then on.

use std::collections::{BTreeMap, BTreeSet};

use tenure::message::Message;
use tenure::sim::notation::kind;
use tenure::time::Duration;
use tenure::types::NodeId;

/// From, to.
pub(crate) type Link = (NodeId, NodeId);

/// What became of a message when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives after the link's delay.
    OnItsWay,
    /// The link is cut.
    Cut,
    /// A single message, lost.
    Lost,
    /// It waits until the story releases it.
    Held,
}

/// A wish about the messages of a link: of this kind, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    link: Link,
    kind: Option<String>,
}

impl Wish {
    fn is_about(&self, message: &Message) -> bool {
        self.link == link(message) && self.kind.as_deref().is_none_or(|wanted| wanted == kind(&message.body))
    }
}

pub(crate) struct Network {
    in_flight: BTreeMap<(Duration, u64), Message>,
    sequence: u64,
    delay: Duration,
    delays: BTreeMap<Link, Duration>,
    cut: BTreeSet<Link>,
    /// How many more of them are lost.
    losing: Vec<(Wish, usize)>,
    holding: Vec<Wish>,
    held: Vec<Message>,
    /// The newest of its kind on each link.
    newest: BTreeMap<(Link, &'static str), Message>,
    /// Messages sent, whatever became of them.
    traffic: BTreeMap<(Link, &'static str), u64>,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self {
            in_flight: BTreeMap::new(),
            sequence: 0,
            delay: Duration::from_millis(1),
            delays: BTreeMap::new(),
            cut: BTreeSet::new(),
            losing: Vec::new(),
            holding: Vec::new(),
            held: Vec::new(),
            newest: BTreeMap::new(),
            traffic: BTreeMap::new(),
        }
    }

    /// Takes a message that leaves now.
    pub(crate) fn post(&mut self, now: Duration, message: Message) -> Fate {
        let link = link(&message);
        *self.traffic.entry((link, kind(&message.body))).or_default() += 1;
        self.newest.insert((link, kind(&message.body)), message.clone());
        if self.cut.contains(&link) {
            return Fate::Cut;
        }
        if self.loses(&message) {
            return Fate::Lost;
        }
        if self.holding.iter().any(|wish| wish.is_about(&message)) {
            self.held.push(message);
            return Fate::Held;
        }
        let delay = self.delays.get(&link).copied().unwrap_or(self.delay);
        self.sequence += 1;
        self.in_flight.insert((now + delay, self.sequence), message);
        Fate::OnItsWay
    }

    fn loses(&mut self, message: &Message) -> bool {
        let Some((_, left)) = self.losing.iter_mut().find(|(wish, _)| wish.is_about(message)) else { return false };
        *left -= 1;
        self.losing.retain(|(_, left)| *left > 0);
        true
    }

    pub(crate) fn next_arrival(&self) -> Option<Duration> {
        self.in_flight.first_key_value().map(|((time, _), _)| *time)
    }

    pub(crate) fn arrive(&mut self) -> Option<Message> {
        self.in_flight.pop_first().map(|(_, message)| message)
    }

    // ---- what a story asks for -------------------------------------------------------------------------------------

    pub(crate) fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
        self.delays.clear();
    }

    pub(crate) fn set_delay_of(&mut self, link: Link, delay: Duration) {
        self.delays.insert(link, delay);
    }

    pub(crate) fn cut(&mut self, link: Link) {
        self.cut.insert(link);
    }

    pub(crate) fn heal(&mut self, link: Link) {
        self.cut.remove(&link);
    }

    pub(crate) fn lose(&mut self, link: Link, kind: Option<String>, count: usize) {
        self.losing.push((Wish { link, kind }, count));
    }

    pub(crate) fn lose_nothing(&mut self) {
        self.losing.clear();
        self.holding.clear();
    }

    pub(crate) fn hold(&mut self, link: Link, kind: Option<String>) {
        self.holding.push(Wish { link, kind });
    }

    /// Holds nothing of this link any more and gives out what was held, in the order in which it was sent.
    pub(crate) fn release(&mut self, link: Link) -> Vec<Message> {
        self.holding.retain(|wish| wish.link != link);
        self.take_held(link)
    }

    /// Gives out what was held of this link and holds on.
    pub(crate) fn take_held(&mut self, wanted: Link) -> Vec<Message> {
        let held = std::mem::take(&mut self.held);
        let (taken, left) = held.into_iter().partition(|message| link(message) == wanted);
        self.held = left;
        taken
    }

    pub(crate) fn hold_again(&mut self, messages: Vec<Message>) {
        self.held.extend(messages);
    }

    /// The newest message of this kind that was sent on the link.
    pub(crate) fn newest(&self, link: Link, kind: &str) -> Option<&Message> {
        self.newest.iter().find(|((of, named), _)| *of == link && *named == kind).map(|(_, message)| message)
    }

    /// What was sent since this was asked last.
    pub(crate) fn take_traffic(&mut self) -> BTreeMap<(Link, &'static str), u64> {
        std::mem::take(&mut self.traffic)
    }
}

pub(crate) fn link(message: &Message) -> Link {
    (message.from, message.to)
}
