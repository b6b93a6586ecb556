//! Access rules: who may publish to what and subscribe to what, compiled for fast decisions.
//! What must not live here: plugins, the order in which rules and plugins are asked, caches.

use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::topic::TopicFilter;

mod index;
mod pattern;

pub use pattern::{Pattern, PatternError};

use index::Index;
use pattern::Bindings;

/// What a rule does when it applies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Yes, unless a deny rule applies too.
    Allow,
    /// No, whatever else applies.
    Deny,
}

/// A set of actions that a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Actions(u8);

impl Actions {
    /// PUBLISH to a topic; a Will is one too.
    pub const PUBLISH: Self = Self(1);
    /// SUBSCRIBE with a filter.
    pub const SUBSCRIBE: Self = Self(2);
    /// Every action.
    pub const ALL: Self = Self(3);

    /// The set of those bits; nothing if a bit has no meaning.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 { Some(Self(bits)) } else { None }
    }

    /// The set as bits: what [`Self::from_bits`] takes.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `others` are in the set.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

impl BitOr for Actions {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Whom a rule is for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Subject {
    /// The principal of that name.
    User(Arc<str>),
    /// Every principal with that role.
    Role(Arc<str>),
    /// Everybody, anonymous connections too.
    All,
}

/// A rule's number in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RuleId(pub i64);

/// One access rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its number; decisions name it.
    pub id: RuleId,
    /// What it does.
    pub effect: Effect,
    /// What it is about.
    pub actions: Actions,
    /// Which topics it is about.
    pub pattern: Pattern,
    /// Whom it is for.
    pub subject: Subject,
}

/// Who wants something.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The Client Identifier.
    pub client_id: &'a str,
    /// The principal's name; none: anonymous.
    pub username: Option<&'a str>,
    /// The principal's roles.
    pub roles: &'a [Arc<str>],
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// PUBLISH to that (valid) Topic Name.
    Publish(&'a str),
    /// SUBSCRIBE with that filter.
    Subscribe(&'a TopicFilter),
}

impl Request<'_> {
    const fn action(&self) -> Actions {
        match self {
            Self::Publish(_) => Actions::PUBLISH,
            Self::Subscribe(_) => Actions::SUBSCRIBE,
        }
    }
}

/// What the rules say. Where several rules agree, the one that is named is always the same one for
/// the same rules, in whatever order they were given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// That rule allows it and none denies it.
    Allow(RuleId),
    /// That rule denies it.
    Deny(RuleId),
    /// No rule applies. To be taken as a no, unless something else is asked after the rules.
    NoMatch,
}

/// How a rule stands to a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Standing {
    /// It applies: its effect counts.
    Applies,
    /// It is about another action.
    OtherAction,
    /// It is about other topics; for an allow rule and a subscription: it does not cover the
    /// whole filter.
    OtherTopics,
    /// An allow rule with a variable for which this requester has no usable value.
    Unbound,
}

/// A rule that was looked at for a request, because it is for that requester.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Considered {
    /// The rule.
    pub rule: Rule,
    /// How it stands to the request.
    pub standing: Standing,
}

/// All rules of one tenant.
///
/// - A deny rule that applies wins over every allow rule; the order of rules does not count, nor
///   does whether a rule is for the user, a role or all. Without a rule that applies the answer is
///   [`Decision::NoMatch`].
/// - PUBLISH: a rule applies if its pattern matches the topic.
/// - SUBSCRIBE: an allow rule applies if its pattern covers the whole filter, alone; a deny rule
///   applies if some topic is matched by both. What stands before the filter of a Shared
///   Subscription changes nothing.
/// - `${clientid}` and `${username}` stand for exactly one level with that text. A value that is
///   missing, empty, or contains `+`, `#`, `/` or NUL is no level: an **allow** rule with it never
///   applies, so a client named `+` gains nothing. In a **deny** rule such a variable is taken as
///   `+`, which is every level that could have been meant: a client does not slip out of
///   `private/${clientid}/#` by its choice of name, and the price is that such a client may be
///   denied what belongs to others. For the same reason a variable as the first level of an allow
///   rule is not wider than `+` is: a client named `$SYS` is not let into `$SYS/#` by
///   `${clientid}/#` [MQTT-4.7.2-1].
///
/// Decisions allocate nothing and look only at rules for the requester: theirs, their roles' and
/// everybody's.
#[derive(Default)]
pub struct RuleSet {
    all: Group,
    users: Groups,
    roles: Groups,
    rules: usize,
    allows_all: bool,
}

type Groups = HashMap<Arc<str>, Group, RandomState>;

/// The rules for one subject, deny rules first, then by number.
#[derive(Default)]
struct Group {
    rules: Box<[GroupRule]>,
    deny_rules: usize,
    /// There when the rules are many: for a few it is faster to try each.
    indexes: Option<Box<Indexes>>,
}

/// Up to so many rules a group is without an index: a device with rules of its own has a few, and
/// a hundred thousand devices have room in memory then.
const UNINDEXED_MAX: usize = 12;

#[derive(Default)]
struct Indexes {
    allow_publish: Index,
    allow_subscribe: Index,
    deny_publish: Index,
    deny_subscribe: Index,
}

struct GroupRule {
    id: RuleId,
    effect: Effect,
    actions: Actions,
    pattern: Pattern,
}

impl RuleSet {
    /// Compiles rules, in any order.
    #[must_use]
    pub fn compile(rules: Vec<Rule>) -> Self {
        let count = rules.len();
        let mut all = Vec::new();
        let mut users: HashMap<Arc<str>, Vec<GroupRule>, RandomState> = HashMap::default();
        let mut roles: HashMap<Arc<str>, Vec<GroupRule>, RandomState> = HashMap::default();
        for rule in rules {
            let Rule { id, effect, actions, pattern, subject } = rule;
            let group = match subject {
                Subject::All => &mut all,
                Subject::User(name) => users.entry(name).or_default(),
                Subject::Role(name) => roles.entry(name).or_default(),
            };
            group.push(GroupRule { id, effect, actions, pattern });
        }
        let compile = |groups: HashMap<_, Vec<_>, _>| {
            groups.into_iter().map(|(name, rules)| (name, Group::compile(rules))).collect()
        };
        Self {
            all: Group::compile(all),
            users: compile(users),
            roles: compile(roles),
            rules: count,
            allows_all: false,
        }
    }

    /// A set without rules that allows everything, for an instance without access control. Its
    /// decisions name the rule 0, which no directory has.
    #[must_use]
    pub fn allow_all() -> Self {
        Self { allows_all: true, ..Self::default() }
    }

    /// May the requester publish to the (valid) Topic Name?
    #[must_use]
    pub fn decide_publish(&self, requester: &Requester<'_>, topic: &str) -> Decision {
        self.decide(requester, Request::Publish(topic))
    }

    /// May the requester subscribe with the filter?
    #[must_use]
    pub fn decide_subscribe(&self, requester: &Requester<'_>, filter: &TopicFilter) -> Decision {
        self.decide(requester, Request::Subscribe(filter))
    }

    /// Either of the above.
    #[must_use]
    pub fn decide(&self, requester: &Requester<'_>, request: Request<'_>) -> Decision {
        if self.allows_all {
            return Decision::Allow(RuleId(0));
        }
        let bindings = Bindings::new(requester.client_id, requester.username);
        let mut decision = Decision::NoMatch;
        for (_, group) in self.groups(requester) {
            if let Some(rule) = group.find(Effect::Deny, &bindings, request) {
                return Decision::Deny(rule);
            }
            if decision == Decision::NoMatch
                && let Some(rule) = group.find(Effect::Allow, &bindings, request)
            {
                decision = Decision::Allow(rule);
            }
        }
        decision
    }

    /// Every rule that is for the requester, with how it stands to the request. For people, so
    /// this takes as long as it takes; [`Self::decide`] always agrees with it. The set that allows
    /// everything has no rules to show.
    #[must_use]
    pub fn explain(&self, requester: &Requester<'_>, request: Request<'_>) -> Vec<Considered> {
        let bindings = Bindings::new(requester.client_id, requester.username);
        let mut considered = Vec::new();
        for (subject, group) in self.groups(requester) {
            considered.extend(group.rules.iter().map(|rule| Considered {
                standing: rule.standing(&bindings, request),
                rule: Rule {
                    id: rule.id,
                    effect: rule.effect,
                    actions: rule.actions,
                    pattern: rule.pattern.clone(),
                    subject: subject.to_subject(),
                },
            }));
        }
        considered
    }

    /// Rules that there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules == 0
    }

    fn groups<'a>(
        &'a self,
        requester: &Requester<'a>,
    ) -> impl Iterator<Item = (GroupOf<'a>, &'a Group)> {
        let user = requester.username.and_then(|name| self.users.get_key_value(name));
        let user = user.map(|(name, group)| (GroupOf::User(name), group));
        let roles = requester.roles.iter().filter_map(|role| self.roles.get_key_value(role));
        let roles = roles.map(|(name, group)| (GroupOf::Role(name), group));
        user.into_iter().chain(roles).chain([(GroupOf::All, &self.all)])
    }
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleSet")
            .field("rules", &self.rules)
            .field("allows_all", &self.allows_all)
            .finish_non_exhaustive()
    }
}

/// Whose group that is.
enum GroupOf<'a> {
    User(&'a Arc<str>),
    Role(&'a Arc<str>),
    All,
}

impl GroupOf<'_> {
    fn to_subject(&self) -> Subject {
        match *self {
            Self::User(name) => Subject::User(Arc::clone(name)),
            Self::Role(name) => Subject::Role(Arc::clone(name)),
            Self::All => Subject::All,
        }
    }
}

impl Group {
    fn compile(mut rules: Vec<GroupRule>) -> Self {
        rules.sort_unstable_by_key(|rule| (rule.effect == Effect::Allow, rule.id));
        let deny_rules = rules.partition_point(|rule| rule.effect == Effect::Deny);
        let indexes = (rules.len() > UNINDEXED_MAX).then(|| Box::new(Indexes::new(&rules)));
        Self { rules: rules.into(), deny_rules, indexes }
    }

    /// A rule of that effect that applies.
    fn find(
        &self,
        effect: Effect,
        bindings: &Bindings<'_>,
        request: Request<'_>,
    ) -> Option<RuleId> {
        if let Some(indexes) = &self.indexes {
            return Some(self.rules[indexes.find(effect, bindings, request)?].id);
        }
        let (deny, allow) = self.rules.split_at(self.deny_rules);
        let rules = match effect {
            Effect::Allow => allow,
            Effect::Deny => deny,
        };
        rules.iter().find(|rule| rule.applies(bindings, request)).map(|rule| rule.id)
    }
}

impl Indexes {
    fn new(rules: &[GroupRule]) -> Self {
        let of = |effect, action| {
            let places = rules.iter().enumerate();
            Index::new(places.filter_map(|(place, rule)| {
                let is_in = rule.effect == effect && rule.actions.contains(action);
                is_in.then_some((place, &rule.pattern))
            }))
        };
        Self {
            allow_publish: of(Effect::Allow, Actions::PUBLISH),
            allow_subscribe: of(Effect::Allow, Actions::SUBSCRIBE),
            deny_publish: of(Effect::Deny, Actions::PUBLISH),
            deny_subscribe: of(Effect::Deny, Actions::SUBSCRIBE),
        }
    }

    fn find(&self, effect: Effect, bindings: &Bindings<'_>, request: Request<'_>) -> Option<usize> {
        match (effect, request) {
            (Effect::Allow, Request::Publish(topic)) => {
                self.allow_publish.allows_topic(bindings, topic)
            }
            (Effect::Deny, Request::Publish(topic)) => {
                self.deny_publish.denies_topic(bindings, topic)
            }
            (Effect::Allow, Request::Subscribe(filter)) => {
                self.allow_subscribe.allows_filter(bindings, filter)
            }
            (Effect::Deny, Request::Subscribe(filter)) => {
                self.deny_subscribe.denies_filter(bindings, filter)
            }
        }
    }
}

impl GroupRule {
    fn applies(&self, bindings: &Bindings<'_>, request: Request<'_>) -> bool {
        self.actions.contains(request.action())
            && match (self.effect, request) {
                (Effect::Allow, Request::Publish(topic)) => {
                    self.pattern.allows_topic(bindings, topic)
                }
                (Effect::Deny, Request::Publish(topic)) => {
                    self.pattern.denies_topic(bindings, topic)
                }
                (Effect::Allow, Request::Subscribe(filter)) => {
                    self.pattern.allows_filter(bindings, filter)
                }
                (Effect::Deny, Request::Subscribe(filter)) => {
                    self.pattern.denies_filter(bindings, filter)
                }
            }
    }

    fn standing(&self, bindings: &Bindings<'_>, request: Request<'_>) -> Standing {
        if self.applies(bindings, request) {
            Standing::Applies
        } else if !self.actions.contains(request.action()) {
            Standing::OtherAction
        } else if self.effect == Effect::Allow && !self.pattern.is_bound_for_allow(bindings) {
            Standing::Unbound
        } else {
            Standing::OtherTopics
        }
    }
}

#[cfg(test)]
mod tests;
