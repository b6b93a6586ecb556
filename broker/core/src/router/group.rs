//! Share groups: the members of a Shared Subscription, and which one gets a message [MQTT 4.8.2].
//! What must not live here: sessions, and what happens when a member does not take its message.

use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use foldhash::fast::FixedState;

use crate::ids::{SessionId, TenantId, WorkerId};
use crate::message::{MessageRef, QoS};
use crate::router::shared::Target;
use crate::topic::TopicFilter;

/// A group that has members; given out anew only when it has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct GroupId(pub(super) NonZeroU32);

/// How a group chooses among its members. Whatever it is, a member that is away gets a message
/// only if nobody is there, and one whose queue is full only if all are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Strategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// By chance.
    Random,
    /// Always the same, as long as it is there.
    Sticky,
    /// By the publisher's Client Identifier: one publisher's messages go to one member.
    HashClient,
    /// By the Topic Name: one topic's messages go to one member.
    HashTopic,
    /// Whoever has the fewest messages in flight, waiting or on their way.
    LeastInFlight,
}

impl Strategy {
    /// Whether it is about the same member again: one whose window is full is waited for then.
    const fn is_bound(self) -> bool {
        matches!(self, Self::Sticky | Self::HashClient | Self::HashTopic)
    }
}

/// A configured choice of strategy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupRule {
    /// Share name; `*` stands for any characters.
    pub group: Box<str>,
    /// Only for groups whose filter lies within this one.
    pub filter: Option<TopicFilter>,
    /// What it chooses.
    pub strategy: Strategy,
}

impl GroupRule {
    /// Whether it is about the group of that filter.
    #[must_use]
    pub fn applies(&self, filter: &TopicFilter) -> bool {
        filter.share_group().is_some_and(|name| is_like(&self.group, name))
            && self.filter.as_ref().is_none_or(|wide| wide.covers(filter))
    }
}

/// The strategy of a filter's group: what the first rule that applies says.
#[must_use]
pub fn strategy_of(rules: &[GroupRule], filter: &TopicFilter) -> Strategy {
    rules.iter().find(|rule| rule.applies(filter)).map_or_else(Strategy::default, |it| it.strategy)
}

/// Whether `name` is what `pattern` says, where `*` stands for any characters.
fn is_like(pattern: &str, name: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(head) else {
        return false;
    };
    while let Some((part, after)) = rest.split_once('*') {
        let Some(at) = name.find(part) else {
            return false;
        };
        name = &name[at + part.len()..];
        rest = after;
    }
    name.ends_with(rest)
}

/// A Shared Subscription: share name and filter, with what its strategy remembers.
#[derive(Debug)]
pub struct Group {
    /// Its tenant.
    pub tenant: TenantId,
    /// `$share/name/filter`.
    pub filter: TopicFilter,
    strategy: Strategy,
    turn: AtomicU32,
    /// The session of the last choice.
    last: AtomicU64,
}

impl Group {
    pub(super) const fn new(tenant: TenantId, filter: TopicFilter, strategy: Strategy) -> Self {
        Self { tenant, filter, strategy, turn: AtomicU32::new(0), last: AtomicU64::new(u64::MAX) }
    }
}

/// How it stands with a session that is in share groups: written by the worker that has it, read
/// by all that choose. What is read may be a moment old; a wrong choice costs a detour only.
#[derive(Debug, Default)]
pub struct Presence {
    /// Messages that may be in flight; 0: the client is away.
    window: AtomicU32,
    /// Messages in flight and waiting.
    held: AtomicU32,
    /// Messages that were chosen for it and have not arrived.
    coming: AtomicU32,
    is_full: AtomicBool,
}

impl Presence {
    /// The client is there, with a window of so many messages.
    pub fn arrive(&self, window: u16) {
        self.window.store(u32::from(window), Relaxed);
    }

    /// The client is away.
    pub fn leave(&self) {
        self.window.store(0, Relaxed);
    }

    /// What its session holds, and whether no more goes into its queue.
    pub fn hold(&self, messages: usize, is_full: bool) {
        self.held.store(u32::try_from(messages).unwrap_or(u32::MAX), Relaxed);
        self.is_full.store(is_full, Relaxed);
    }

    /// A message that was chosen for it is there, or comes no more.
    pub fn arrived(&self) {
        self.coming.fetch_sub(1, Relaxed);
    }

    fn load(&self) -> u32 {
        self.held.load(Relaxed).saturating_add(self.coming.load(Relaxed))
    }
}

/// A member of a group, where it was when the group was looked up.
#[derive(Clone, Debug)]
pub struct Member {
    /// The worker that has its session.
    pub worker: WorkerId,
    /// Its subscription.
    pub target: Target,
    /// How it stands.
    pub presence: Arc<Presence>,
    /// Whether a subscription of its own matches as well: it then gets the message twice.
    pub is_also_plain: bool,
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        self.worker == other.worker
            && self.target == other.target
            && self.is_also_plain == other.is_also_plain
            && Arc::ptr_eq(&self.presence, &other.presence)
    }
}

impl Eq for Member {}

/// What a member is good for: the first are the best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Standing {
    /// It is there and its window has room.
    Ready,
    /// It is there.
    Busy,
    /// It is away; what it gets is kept for it.
    Away,
    /// Its queue is full.
    Full,
}

impl Member {
    /// QoS of a message towards it [MQTT-4.8.2-3].
    #[must_use]
    pub fn qos(&self, published: QoS) -> QoS {
        self.target.options.first().map_or(QoS::AtMostOnce, |options| options.qos.min(published))
    }

    /// Whether a message for it goes through the store.
    #[must_use]
    pub fn keeps(&self, published: QoS) -> bool {
        self.target.durable && self.qos(published) > QoS::AtMostOnce
    }

    /// None: a message of that QoS is lost on it.
    fn standing(&self, published: QoS) -> Option<Standing> {
        let window = self.presence.window.load(Relaxed);
        if window == 0 && !self.keeps(published) {
            return None;
        }
        // At QoS 0 a queue that is full is no hindrance, as long as the socket takes the message.
        let is_full = self.presence.is_full.load(Relaxed);
        Some(if is_full && self.qos(published) > QoS::AtMostOnce {
            Standing::Full
        } else if window == 0 {
            Standing::Away
        } else if !is_full && self.presence.load() < window {
            Standing::Ready
        } else {
            Standing::Busy
        })
    }
}

/// Who asks for a member, and for what.
#[derive(Debug)]
pub struct Choice<'a> {
    /// The message.
    pub message: MessageRef<'a>,
    /// The publisher's Client Identifier.
    pub publisher: &'a str,
    /// State of the asker's random numbers.
    pub dice: &'a mut u64,
    /// Members that had the message and do not take it.
    pub tried: &'a [SessionId],
}

/// A group with its members.
#[derive(Clone, Debug)]
pub struct GroupSet {
    /// The group.
    pub group: Arc<Group>,
    /// In the order of their sessions, so that every worker sees them in the same.
    pub members: Box<[Member]>,
}

impl PartialEq for GroupSet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.group, &other.group) && self.members == other.members
    }
}

impl Eq for GroupSet {}

impl GroupSet {
    /// The one member that gets a message, by its place; none if it would be lost on each. The
    /// message counts as coming until [`Presence::arrived`].
    ///
    /// Costs one look at a member that is ready. Only `LeastInFlight` looks at all of them, unless
    /// one has nothing in flight.
    pub fn choose(&self, choice: Choice<'_>) -> Option<usize> {
        let Choice { message, publisher, dice, tried } = choice;
        let count = self.members.len();
        if count == 0 {
            return None;
        }
        let Group { strategy, turn, last, .. } = &*self.group;
        let next = || u64::from(turn.fetch_add(1, Relaxed));
        let hash = |text: &str| FixedState::default().hash_one(text);
        let start = match strategy {
            Strategy::RoundRobin | Strategy::LeastInFlight => place(next(), count),
            Strategy::Random => place(random(dice), count),
            Strategy::Sticky => {
                let last = SessionId(last.load(Relaxed));
                let found = self.members.binary_search_by_key(&last, |it| it.target.session);
                found.unwrap_or_else(|_| place(next(), count))
            }
            Strategy::HashClient => place(hash(publisher), count),
            Strategy::HashTopic => place(hash(message.topic), count),
        };
        let mut best: Option<(Standing, u32, usize)> = None;
        for at in (start..count).chain(0..start) {
            let member = &self.members[at];
            let Some(standing) = member.standing(message.qos) else {
                continue;
            };
            if !tried.is_empty()
                && (standing == Standing::Full || tried.contains(&member.target.session))
            {
                continue;
            }
            let waits_for_it = standing == Standing::Busy && strategy.is_bound();
            let standing = if waits_for_it { Standing::Ready } else { standing };
            let load =
                if *strategy == Strategy::LeastInFlight { member.presence.load() } else { 0 };
            if best.is_none_or(|(other, least, _)| (standing, load) < (other, least)) {
                best = Some((standing, load, at));
                if (standing, load) == (Standing::Ready, 0) {
                    break;
                }
            }
        }
        let (_, _, at) = best?;
        let member = &self.members[at];
        if *strategy == Strategy::Sticky {
            last.store(member.target.session.0, Relaxed);
        }
        member.presence.coming.fetch_add(1, Relaxed);
        Some(at)
    }
}

fn place(number: u64, count: usize) -> usize {
    usize::try_from(number % count as u64).unwrap_or(0)
}

/// `SplitMix64`: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
