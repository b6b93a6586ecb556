//! Access decisions: the configured order of rules and plugins, and what a connection remembers.
//! What must not live here: how a rule matches (`crate::access`) or how a plugin is called.

use std::sync::Arc;

use crate::access::{Decision, Requester, RuleSet};
use crate::action::{AccessStep, Shell};
use crate::hook::{
    AccessAction, AuthorizeAnswer, AuthorizeRequest, ConnectionFacts, Denial, HookReply, Principal,
};
use crate::ids::{ConnSlot, HookToken, SessionSlot};
use crate::message::{MessageRef, QoS};
use crate::reason::ReasonCode;
use crate::router::{Group, RouteRef, Subscriber};
use crate::store::Op;
use crate::time::Millis;
use crate::topic::TopicFilter;

use super::order::{self, Outcome};
use super::share::Stray;
use super::{FastMap, Parked, ParkedFor, Worker};

/// Publish decisions of one connection. The last one is at hand; the others are in a map that a
/// client with a single topic never has.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    last: Option<(Key, Remembered)>,
    others: Option<Box<FastMap<Key, Remembered>>>,
    /// The next answer that comes late may be about who the client was before.
    ignores_late: bool,
}

type Key = (RouteRef, u8);

#[derive(Clone, Debug)]
struct Remembered {
    generation: u32,
    good_until: Millis,
    denial: Option<Box<Denial>>,
}

impl Remembered {
    fn is_good(&self, generation: u32, now: Millis) -> bool {
        self.generation == generation && now < self.good_until
    }
}

impl Decisions {
    /// What was decided for that topic, if it still holds.
    pub(super) fn recall(
        &mut self,
        route: RouteRef,
        flags: u8,
        generation: u32,
        now: Millis,
    ) -> Option<Result<(), Denial>> {
        let key = (route, flags);
        if !matches!(&self.last, Some((last, _)) if *last == key) {
            let found = self.others.as_mut()?.remove(&key)?;
            if let Some((old, remembered)) = self.last.replace((key, found)) {
                self.others.as_mut()?.insert(old, remembered);
            }
        }
        let (_, remembered) = self.last.as_ref()?;
        if !remembered.is_good(generation, now) {
            self.last = None;
            return None;
        }
        Some(match &remembered.denial {
            None => Ok(()),
            Some(denial) => Err((**denial).clone()),
        })
    }

    /// Who the client is has changed. At most one question of its publishes waits for an answer.
    pub(super) fn forget(&mut self) {
        *self = Self { ignores_late: true, ..Self::default() };
    }

    fn remember(&mut self, route: RouteRef, flags: u8, remembered: Remembered, at_most: usize) {
        if let Some((old, earlier)) = self.last.replace(((route, flags), remembered))
            && old != (route, flags)
        {
            let others = self.others.get_or_insert_default();
            if others.len() >= at_most {
                others.clear();
            }
            others.insert(old, earlier);
        }
    }
}

/// Where the access order goes on.
#[derive(Debug)]
pub(super) enum After {
    /// At the beginning.
    Start,
    /// After that step's plugin answered.
    Answer(usize, AuthorizeAnswer),
}

/// What the access order came to.
#[derive(Debug)]
pub(super) enum Access {
    /// Yes, and how long that may be remembered.
    Allow(Millis),
    /// No, and how long that may be remembered.
    Deny(Denial, Millis),
    /// A plugin answers later; the step that was asked.
    Parked(HookToken, usize),
}

/// The object of a decision.
#[derive(Clone, Copy, Debug)]
pub(super) enum Object<'a> {
    /// Publish or Will.
    Message(AccessAction, MessageRef<'a>),
    /// Subscription.
    Filter(&'a TopicFilter, QoS),
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub(super) facts: &'a Arc<ConnectionFacts>,
    pub(super) principal: &'a Arc<Principal>,
    pub(super) rules: Option<&'a RuleSet>,
}

/// Runs the access order, from its beginning or on after a late answer.
pub(super) fn decide<S: Shell>(
    now: Millis,
    order: &[AccessStep],
    asker: Asker<'_>,
    object: Object<'_>,
    after: After,
    last_token: &mut u64,
    shell: &mut S,
) -> Access {
    let mut good_until = Millis::NEVER;
    let (first, mut late) = match after {
        After::Start => (0, None),
        After::Answer(step, answer) => (step, Some(answer)),
    };
    // The rules also before a plugin's late answer: they may have changed meanwhile.
    let rules = || asker.rules.map_or(Decision::NoMatch, |rules| ask_rules(rules, asker, object));
    let outcome = order::run(order, first, rules, |_, plugin| {
        let answer = match late.take() {
            Some(answer) => answer,
            None => {
                *last_token += 1;
                match shell.authorize(HookToken(*last_token), plugin, request(asker, object)) {
                    HookReply::Parked => return None,
                    HookReply::Now(answer) => answer,
                }
            }
        };
        good_until = good_until.min(good_for(now, answer.ttl_ms));
        Some(answer.verdict)
    });
    match outcome {
        Outcome::RulesDeny(_) => {
            Access::Deny(Denial::new(ReasonCode::NotAuthorized), Millis::NEVER)
        }
        Outcome::RulesAllow(..) | Outcome::PluginAllows(_) => Access::Allow(good_until),
        Outcome::PluginDenies(_, denial) => Access::Deny(denial, good_until),
        Outcome::Parked(step) => Access::Parked(HookToken(*last_token), step),
        Outcome::Nobody => Access::Deny(Denial::new(ReasonCode::NotAuthorized), good_until),
    }
}

fn good_for(now: Millis, ttl_ms: u32) -> Millis {
    now + u64::from(ttl_ms)
}

fn ask_rules(rules: &RuleSet, asker: Asker<'_>, object: Object<'_>) -> Decision {
    let requester = Requester {
        client_id: &asker.facts.client_id,
        username: asker.principal.name.as_deref(),
        roles: &asker.principal.roles,
    };
    match object {
        Object::Message(_, message) => rules.decide_publish(&requester, message.topic),
        Object::Filter(filter, _) => rules.decide_subscribe(&requester, filter),
    }
}

fn request<'a>(asker: Asker<'a>, object: Object<'a>) -> AuthorizeRequest<'a> {
    let Asker { facts: connection, principal, .. } = asker;
    match object {
        Object::Message(action, message) => AuthorizeRequest {
            connection,
            principal,
            action,
            topic: message.topic,
            qos: message.qos,
            retain: message.retain,
            payload_length: u32::try_from(message.payload.len()).unwrap_or(u32::MAX),
        },
        Object::Filter(filter, qos) => AuthorizeRequest {
            connection,
            principal,
            action: AccessAction::Subscribe,
            topic: filter.as_str(),
            qos,
            retain: false,
            payload_length: 0,
        },
    }
}

impl<S: Shell> Worker<S> {
    /// Takes from a resumed session what the rules do not allow its client any longer: its
    /// subscriptions, and what waits for them alone. Plugins are not asked.
    pub(super) fn revoke(&mut self, place: SessionSlot, slot: ConnSlot) {
        let (Some(conn), Some(session)) = (self.conns.get(slot), self.sessions.get_mut(place))
        else {
            return;
        };
        let Some(rules) = self.rules.get(&conn.tenant.id) else {
            return;
        };
        if !self.access.contains(&AccessStep::Rules) {
            return;
        }
        let asker = Asker { facts: &conn.facts, principal: &conn.principal, rules: Some(rules) };
        let rules_alone = self.access.iter().all(|step| *step == AccessStep::Rules);
        let state = &mut session.state;
        let mut gone: Vec<TopicFilter> = Vec::new();
        state.subscriptions.retain(|filter, options| {
            let decision = ask_rules(rules, asker, Object::Filter(filter, options.qos));
            let stays = match decision {
                Decision::Allow(_) => true,
                Decision::Deny(_) => false,
                Decision::NoMatch => !rules_alone,
            };
            if !stays {
                gone.push(filter.clone());
            }
            stays
        });
        if gone.is_empty() {
            return;
        }
        for filter in &gone {
            if let Some(change) = session.changes.get_mut(filter) {
                change.revoke();
            }
        }
        let subscriber = Subscriber { worker: self.id, slot: place };
        conn.tenant.change(|tree| {
            for filter in &gone {
                tree.remove(filter, subscriber);
            }
        });
        let (session, durable) = (state.id, state.is_durable());
        let subscriptions = &state.subscriptions;
        let dropped = state.outbound.retain_queued(|topic| {
            let is_wanted_by =
                |filter: &TopicFilter| filter.share_group().is_none() && filter.matches(topic);
            subscriptions.keys().any(is_wanted_by)
        });
        state.replays.retain(|replay| !gone.contains(&replay.filter));
        // Of a share group others may have it.
        let is_gone = |group: &Group| gone.contains(&group.filter);
        let given_up = state.outbound.take_shared(false, is_gone).into_iter();
        self.strays.extend(given_up.filter_map(|queued| Stray::left(queued, Some(session))));
        if durable {
            for filter in gone {
                self.commits.push(Op::SubscriptionEnd { session, filter });
            }
        }
        for message in dropped {
            self.commits.push(Op::Dequeue { session, message });
        }
    }

    /// Asks the access order; remembers publish decisions on the connection.
    pub(super) fn authorize(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        object: Object<'_>,
        route: Option<RouteRef>,
        after: After,
        shell: &mut S,
    ) -> Access {
        let Some(conn) = self.conns.get_mut(slot) else {
            return Access::Deny(Denial::new(ReasonCode::NotAuthorized), Millis::NEVER);
        };
        let flags = match object {
            Object::Message(AccessAction::Publish, message) => {
                Some((message.qos as u8) << 1 | u8::from(message.retain))
            }
            Object::Message(..) | Object::Filter(..) => None,
        };
        let memory = route.zip(flags);
        if let (Some((route, flags)), After::Start) = (memory, &after)
            && let Some(answer) = conn.decisions.recall(route, flags, self.generation, now)
        {
            return match answer {
                Ok(()) => Access::Allow(now),
                Err(denial) => Access::Deny(denial, now),
            };
        }
        if let Object::Message(_, message) = object
            && crate::topic::levels(message.topic).next() == Some("$SYS")
        {
            // The broker's own topics [MQTT 4.7.2].
            return Access::Deny(Denial::new(ReasonCode::NotAuthorized), Millis::NEVER);
        }
        let is_late = matches!(after, After::Answer(..)) && memory.is_some();
        let is_void = is_late && std::mem::take(&mut conn.decisions.ignores_late);
        let asker = Asker {
            facts: &conn.facts,
            principal: &conn.principal,
            rules: self.rules.get(&conn.tenant.id).map(|rules| &**rules),
        };
        let tokens = &mut self.next_token;
        let access = decide(now, &self.access, asker, object, after, tokens, shell);
        let (good_until, denial) = match &access {
            Access::Parked(token, step) => {
                let what = match object {
                    Object::Message(AccessAction::Will, _) if conn.pending.is_some() => {
                        ParkedFor::Will(*step)
                    }
                    Object::Message(..) => ParkedFor::Publish,
                    Object::Filter(..) => ParkedFor::Subscribe(*step),
                };
                self.parked.insert(*token, Parked { conn: slot, what });
                return access;
            }
            Access::Allow(good_until) => (*good_until, None),
            Access::Deny(denial, good_until) => (*good_until, Some(Box::new(denial.clone()))),
        };
        if let Some((route, flags)) = memory
            && good_until > now
            && !is_void
        {
            let remembered = Remembered { generation: self.generation, good_until, denial };
            conn.decisions.remember(route, flags, remembered, self.limits.decisions_max);
        }
        access
    }
}
