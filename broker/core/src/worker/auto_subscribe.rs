//! Subscriptions that the operator arranged: made for each client when it connects.
//! What must not live here: whether a client may have one (`access`, as for any SUBSCRIBE).

use std::sync::Arc;

use crate::access::Pattern;
use crate::action::{Observation, Shell};
use crate::event::SubscribeFilter;
use crate::hook::{ConnectionFacts, Principal};
use crate::ids::ConnSlot;
use crate::message::QoS;
use crate::reason::ReasonCode;
use crate::time::Millis;
use crate::topic::TopicFilter;

use super::Worker;

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AutoSubscribe {
    /// The filter, with variables of the client as whole levels.
    pub filter: Pattern,
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling: 0, 1 or 2.
    pub retain_handling: u8,
}

impl AutoSubscribe {
    /// The filter of one client; none if a variable has no value, or one that is not exactly one
    /// level of a topic.
    fn filter_of(&self, facts: &ConnectionFacts, principal: &Principal) -> Option<String> {
        let mut bound = Vec::new();
        for level in crate::topic::levels(self.filter.as_str()) {
            let value = match level {
                "${clientid}" => Some(&*facts.client_id),
                "${username}" => principal.name.as_deref(),
                text => {
                    bound.push(text);
                    continue;
                }
            };
            bound
                .push(value.filter(|value| !value.is_empty() && !value.contains(['+', '#', '/']))?);
        }
        Some(bound.join("/"))
    }
}

impl<S: Shell> Worker<S> {
    /// Has a client that just connected subscribe to what its session does not have yet.
    pub(super) fn auto_subscribe(&mut self, now: Millis, slot: ConnSlot, shell: &mut S) {
        if self.topics.auto_subscribe.is_empty() {
            return;
        }
        let topics = Arc::clone(&self.topics);
        let mut filters = Vec::new();
        for wanted in &topics.auto_subscribe {
            let Some(conn) = self.conns.get(slot) else {
                return;
            };
            let Some(text) = wanted.filter_of(&conn.facts, &conn.principal) else {
                self.refuse_auto(
                    slot,
                    wanted.filter.as_str(),
                    ReasonCode::TopicFilterInvalid,
                    shell,
                );
                continue;
            };
            let session = self.sessions.get(conn.session);
            let is_there = |filter: &TopicFilter| {
                session.is_some_and(|session| session.state.subscriptions.contains_key(filter))
            };
            if TopicFilter::parse(&text).is_ok_and(|filter| is_there(&filter)) {
                continue;
            }
            filters.push(SubscribeFilter {
                filter: text.into(),
                qos: wanted.qos,
                no_local: wanted.no_local,
                retain_as_published: wanted.retain_as_published,
                retain_handling: wanted.retain_handling,
            });
        }
        if !filters.is_empty() {
            self.subscribe_unasked(now, slot, filters, shell);
        }
    }

    /// The operator's subscription does not come about; the connection goes on.
    pub(super) fn refuse_auto(
        &mut self,
        slot: ConnSlot,
        filter: &str,
        code: ReasonCode,
        shell: &mut S,
    ) {
        self.counters.denied += 1;
        if let Some(conn) = self.conns.get(slot) {
            let facts = &conn.facts;
            shell.observe(Observation::AutoSubscribeRefused { facts, filter, code });
        }
    }
}
