//! A PUBLISH on its way in: quota, duplicates, hooks, and its acknowledgement.
//! What must not live here: waiting (`line`), and what a subscriber gets (`deliver`).

use std::borrow::Cow;
use std::sync::Arc;

use crate::action::{Observation, Reply, Shell};
use crate::event::Publish;
use crate::hook::Denial;
use crate::ids::{ConnSlot, PacketId};
use crate::message::{Message, MessageRef, QoS};
use crate::reason::ReasonCode;
use crate::router::{MatchSet, RouteRef};
use crate::session::inbound::Phase as InboundPhase;
use crate::store::Op;
use crate::time::Millis;

use super::commit::After;
use super::delayed::is_delayed;
use super::entry::{Entry, Hooks, Stage};
use super::hooks::{Late, Outcome};
use super::share::members;
use super::{TopicSettings, Worker};

/// Packet Identifier and QoS of a PUBLISH packet: what is acknowledged, and how.
pub(super) type Acknowledgement = (Option<PacketId>, QoS);

/// Whether a chosen member of a share group keeps the message.
fn is_kept(qos: QoS, set: &MatchSet, chosen: &[u32]) -> bool {
    members(set, chosen).any(|(_, member)| member.keeps(qos))
}

/// Why a publish got no further.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) denial: Denial,
    /// The broker's fault, not the client's: 3.1.1 gets no acknowledgement, so that it tries again.
    pub(super) is_fault: bool,
}

impl<S: Shell> Worker<S> {
    pub(super) fn handle_publish(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        publish: &Publish<'_>,
        shell: &mut S,
    ) {
        self.counters.messages_received += 1;
        let Some(alias) = publish.topic_alias else {
            return self.rewrite_publish(now, slot, publish, shell);
        };
        match self.resolve_alias(slot, alias, publish.topic) {
            Ok(topic) => {
                self.rewrite_publish(now, slot, &Publish { topic: &topic, ..*publish }, shell);
            }
            Err(code) => self.close_connection(now, slot, Some(code), true, shell),
        }
    }

    fn rewrite_publish(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        publish: &Publish<'_>,
        shell: &mut S,
    ) {
        if is_delayed(publish.topic) {
            return self.take_delayed(now, slot, publish, shell);
        }
        if self.topics.rewrites.is_none() {
            return self.take_publish(now, slot, publish, shell);
        }
        let topics = Arc::clone(&self.topics);
        let topic = rewritten(&topics, publish.topic);
        self.take_publish(now, slot, &Publish { topic: &topic, ..*publish }, shell);
    }

    fn take_publish(&mut self, now: Millis, slot: ConnSlot, publish: &Publish<'_>, shell: &mut S) {
        let acknowledgement = (publish.packet_id, publish.qos);
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        let hint = conn.route;
        let route = match self.route(slot, publish.topic, hint, shell) {
            Ok(route) => route,
            Err(code) => return self.close_connection(now, slot, Some(code), true, shell),
        };
        if publish.packet_id.is_some() && !self.admit(now, slot, acknowledgement, shell) {
            return;
        }
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let Some(session) = self.sessions.get(conn.session) else {
            return;
        };
        let message = MessageRef {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties,
            expires_at: publish
                .expiry_seconds
                .map_or(Millis::NEVER, |seconds| now.plus_seconds(u64::from(seconds))),
            publisher: Some(session.state.id),
        };
        let line_is_empty = conn.line.is_empty();
        if !line_is_empty {
            let entry = Entry::new(Message::new(message), acknowledgement, false);
            self.wait_in_line(slot, entry, shell);
            return self.advance_line(now, slot, None, shell);
        }
        let start = Hooks::Authorize;
        match self.ask_hooks(now, slot, (message, route), (false, false), start, Late::None, shell)
        {
            Outcome::Accepted(route, changed) => {
                let passing = changed.as_ref().map_or(message, Message::as_ref);
                self.pass(now, slot, passing, route, acknowledgement, shell);
            }
            Outcome::Refused(denial) => {
                self.report_denial(slot, message.topic, &denial, shell);
                let refusal = Refusal { is_fault: denial.code.is_fault(), denial };
                self.acknowledge(now, slot, acknowledgement, Err(refusal), shell);
            }
            Outcome::Parked(hooks, changed) => {
                let message = changed.unwrap_or_else(|| Message::new(message));
                let mut entry = Entry::new(message, acknowledgement, false);
                entry.stage = Stage::Hooks(hooks);
                self.wait_in_line(slot, entry, shell);
            }
        }
    }

    /// The Topic Name that an alias stands for, or is set to [MQTT 3.3.2.3.4].
    fn resolve_alias(
        &mut self,
        slot: ConnSlot,
        alias: u16,
        topic: &str,
    ) -> Result<Box<str>, ReasonCode> {
        let Some(conn) = self.conns.get_mut(slot) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        if alias == 0 || alias > self.limits.topic_alias_maximum {
            return Err(ReasonCode::TopicAliasInvalid); // [MQTT-3.3.2-8] [MQTT-3.3.2-9]
        }
        let place = usize::from(alias) - 1;
        if topic.is_empty() {
            let known = conn.aliases.get(place).and_then(Clone::clone);
            return known.ok_or(ReasonCode::ProtocolError);
        }
        crate::topic::check_topic_name(topic).map_err(|_| ReasonCode::TopicNameInvalid)?;
        if conn.aliases.len() <= place {
            conn.aliases.resize(place + 1, None);
        }
        conn.aliases[place] = Some(topic.into());
        Ok(topic.into())
    }

    /// Takes a QoS 1 or 2 publish in, unless it is a duplicate or one too many.
    pub(super) fn admit(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        (packet_id, qos): Acknowledgement,
        shell: &mut S,
    ) -> bool {
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(conn.session) else {
            return false;
        };
        let Some(packet_id) = packet_id else {
            return true;
        };
        let inbound = &mut session.state.inbound;
        if qos == QoS::ExactlyOnce {
            match inbound.repeat(packet_id) {
                // [MQTT-4.3.3-10]: acknowledged again, not delivered again.
                Some(InboundPhase::Received) => {
                    if let Some(link) = &conn.link {
                        shell.send(link, Reply::PubRec(packet_id, ReasonCode::Success, None));
                    }
                    return false;
                }
                Some(InboundPhase::Pending) => return false,
                None => {}
            }
        }
        let outstanding = usize::from(conn.unacknowledged_qos1) + inbound.counted();
        let bound = usize::from(self.limits.receive_maximum);
        if conn.facts.version.is_v5() && outstanding >= bound {
            let code = ReasonCode::ReceiveMaximumExceeded; // [MQTT-3.3.4-7]
            self.close_connection(now, slot, Some(code), true, shell);
            return false;
        }
        if qos == QoS::ExactlyOnce {
            inbound.insert(packet_id);
        }
        true
    }

    /// Lets a message pass that all hooks accepted, at the head of an empty line.
    fn pass(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        message: MessageRef<'_>,
        route: RouteRef,
        acknowledgement: Acknowledgement,
        shell: &mut S,
    ) {
        let Some(route) = self.routes.get(route) else {
            return;
        };
        let set = Arc::clone(&route.set);
        let chosen = self.choose(slot, message, &set);
        let mut kept = None;
        if self.is_committed_first(slot, message, (&set, &chosen), acknowledgement) {
            let number = self.conns.get(slot).map_or(0, |conn| conn.line.end());
            let owned = Arc::new(Message::new(message));
            let id = self.start_commit(slot, &owned, (&set, &chosen), acknowledgement);
            self.commits.after_open(After::Publish { conn: slot, number });
            let stage = Stage::Accepted { set, chosen, id, committed: None };
            let entry = Entry { stage, ..Entry::of(owned, acknowledgement) };
            return self.wait_in_line(slot, entry, shell);
        }
        let delivered = self.deliver(now, slot, message, &mut kept, None, (&set, &chosen), shell);
        self.acknowledge(now, slot, acknowledgement, delivered, shell);
    }

    /// Whether a message has to be durable before it is delivered and acknowledged.
    pub(super) fn is_committed_first(
        &self,
        slot: ConnSlot,
        message: MessageRef<'_>,
        (set, chosen): (&MatchSet, &[u32]),
        (packet_id, acknowledge): Acknowledgement,
    ) -> bool {
        if message.qos > QoS::AtMostOnce
            && (set.is_durable() || message.retain || is_kept(message.qos, set, chosen))
        {
            return true;
        }
        packet_id.is_some() && acknowledge == QoS::ExactlyOnce && self.is_durable(slot)
    }

    fn is_durable(&self, slot: ConnSlot) -> bool {
        let session = self.conns.get(slot).and_then(|conn| self.sessions.get(conn.session));
        session.is_some_and(|session| session.state.is_durable())
    }

    /// Puts into the open batch what [`Self::is_committed_first`] asks for.
    pub(super) fn start_commit(
        &mut self,
        slot: ConnSlot,
        message: &Arc<Message>,
        (set, chosen): (&MatchSet, &[u32]),
        (packet_id, acknowledge): Acknowledgement,
    ) -> Option<crate::ids::MessageId> {
        let mut id = None;
        let is_stored = set.is_durable() && message.qos > QoS::AtMostOnce;
        if is_stored || is_kept(message.qos, set, chosen) {
            let message_id = self.message_ids(set.groups().len());
            id = Some(message_id);
            if is_stored {
                self.commits.push(Op::Message { id: message_id, message: Arc::clone(message) });
                let targets = set.iter().map(|(_, target)| target);
                self.enqueue(message_id, message.as_ref().as_ref(), targets);
            }
            self.store_chosen(message_id, message, (set, chosen), is_stored);
        }
        if message.retain {
            self.store_retained(slot, message);
        }
        self.store_inbound(slot, (packet_id, acknowledge));
        id
    }

    /// Puts into the open batch that a QoS 2 publish was taken over.
    pub(super) fn store_inbound(&mut self, slot: ConnSlot, (packet_id, qos): Acknowledgement) {
        if qos == QoS::ExactlyOnce
            && let Some(packet_id) = packet_id
            && let Some(conn) = self.conns.get(slot)
            && let Some(session) = self.sessions.get(conn.session)
            && session.state.is_durable()
        {
            self.commits.push(Op::InboundPut { session: session.state.id, packet_id });
        }
    }

    /// Puts a stored message's receivers into the open batch.
    pub(super) fn enqueue<'a>(
        &mut self,
        id: crate::ids::MessageId,
        message: MessageRef<'_>,
        targets: impl Iterator<Item = &'a crate::router::Target>,
    ) {
        for target in targets.filter(|target| target.durable) {
            if let Some(grant) = target.grant(message.qos, message.publisher)
                && grant.qos > QoS::AtMostOnce
            {
                let (session, message, qos) = (target.session, id, grant.qos);
                self.commits.push(Op::Enqueue { session, message, qos });
            }
        }
    }

    /// Puts a change of the retained messages into the open batch.
    pub(super) fn store_retained(&mut self, slot: ConnSlot, message: &Arc<Message>) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        let tenant = conn.tenant.id;
        self.commits.push(if message.payload().is_empty() {
            Op::RetainedEnd { tenant, topic: message.topic().into() }
        } else {
            Op::RetainedPut { tenant, message: Arc::clone(message) }
        });
    }

    /// Sends the acknowledgement that a publish has earned; `Ok` carries the number of receivers.
    pub(super) fn acknowledge(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        (packet_id, qos): Acknowledgement,
        outcome: Result<usize, Refusal>,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        let Some(packet_id) = packet_id else { return };
        let (code, reason) = match &outcome {
            Ok(0) => (ReasonCode::NoMatchingSubscribers, None),
            Ok(_) => (ReasonCode::Success, None),
            Err(refusal) => (refusal.denial.code, refusal.denial.reason.as_deref()),
        };
        let is_fault = matches!(&outcome, Err(Refusal { is_fault: true, .. }));
        let is_v3 = !conn.facts.version.is_v5();
        if qos == QoS::ExactlyOnce
            && let Some(session) = self.sessions.get_mut(conn.session)
        {
            // 3.1.1 knows no refusal in PUBREC: the exchange goes on as if it were accepted. After
            // a fault the client sends it again, and it has to be new then.
            if is_fault || code.is_error() && !is_v3 {
                session.state.inbound.remove(packet_id);
            } else {
                session.state.inbound.received(packet_id);
            }
        }
        let Some(link) = &conn.link else { return };
        if is_fault && is_v3 {
            return self.close_connection(now, slot, Some(code), true, shell);
        }
        shell.send(
            link,
            match qos {
                QoS::ExactlyOnce => Reply::PubRec(packet_id, code, reason),
                QoS::AtLeastOnce | QoS::AtMostOnce => Reply::PubAck(packet_id, code, reason),
            },
        );
    }

    pub(super) fn handle_pubrel(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        packet_id: PacketId,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(conn.session) else {
            return;
        };
        let inbound = &mut session.state.inbound;
        let known = inbound.is_received(packet_id) && inbound.remove(packet_id);
        if known && session.state.is_durable() {
            self.commits.push(Op::InboundEnd { session: session.state.id, packet_id });
        }
        let code = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        // Also what is not stored waits for what is: PUBCOMPs leave in the order of their PUBRELs
        // [MQTT-4.6.0-4].
        let after = After::PubComp { conn: slot, packet_id, code };
        if let Some(after) = self.commits.after_all(after) {
            self.go_on(now, after, Ok(()), shell);
        }
    }

    pub(super) fn report_denial(
        &mut self,
        slot: ConnSlot,
        topic: &str,
        denial: &Denial,
        shell: &mut S,
    ) {
        self.counters.denied += 1;
        if let Some(conn) = self.conns.get(slot) {
            shell.observe(Observation::Denied { facts: &conn.facts, topic, code: denial.code });
        }
    }
}

/// What a Topic Name becomes before anything else is asked about it.
pub(super) fn rewritten<'t>(topics: &TopicSettings, topic: &'t str) -> Cow<'t, str> {
    topics.rewrites.as_ref().map_or(Cow::Borrowed(topic), |rewrites| rewrites.topic(topic))
}
