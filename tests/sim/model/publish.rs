//! PUBLISH from clients: what is handed over, and what its acknowledgement promises [MQTT 4.3].
//! What must not live here: what subscribers get.

use wasmqtt_core::hook::AccessAction;
use wasmqtt_core::ids::PacketId;
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::{ReasonCode, Version};
use wasmqtt_core::time::Millis;

use super::{Attempt, AttemptIx, LinkState, Model, Outcome, SessionIx, Step};
use crate::hooks::Fate;
use crate::packet::{Content, FromClient, Uid};
use crate::shell::LinkIx;
use crate::store::Store;

/// A QoS 2 publish between PUBLISH and PUBREL.
#[derive(Debug)]
pub(crate) struct Inbound {
    packet_id: PacketId,
    first_handed: Step,
    pub(super) arrival: Arrival,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// Handed over, not acknowledged.
    Pending,
    /// PUBREC was sent.
    Received,
    /// The connection was lost before PUBREC was seen.
    Maybe,
}

impl Model {
    /// A worker is given a packet. On a connection that is over it touches nothing.
    pub(crate) fn on_packet(&mut self, link: LinkIx, packet: &FromClient) {
        if !self.is_live(link) {
            return self.on_early_packet(link, packet);
        }
        self.links[link].last_packet = self.now;
        match packet {
            FromClient::Publish { content, packet_id, alias, dup: _ } => {
                self.on_publish(link, content, *packet_id, *alias);
            }
            FromClient::PubAck(packet_id) => self.on_client_puback(link, *packet_id),
            FromClient::PubRec(packet_id, code) => {
                self.on_client_pubrec(link, *packet_id, code.is_error());
            }
            FromClient::PubRel(packet_id) => self.on_client_pubrel(link, *packet_id),
            FromClient::PubComp(packet_id) => self.on_client_pubcomp(link, *packet_id),
            FromClient::Subscribe { packet_id, identifier, filters } => {
                self.on_subscribe(link, *packet_id, *identifier, filters);
            }
            FromClient::Unsubscribe { packet_id, filters } => {
                self.on_unsubscribe(link, *packet_id, filters);
            }
            FromClient::Ping => {}
            FromClient::Disconnect { code, session_expiry_seconds } => {
                self.on_disconnect(link, *code, *session_expiry_seconds);
            }
            FromClient::Auth { code, method, plan } => {
                self.on_client_auth(link, *code, method, *plan);
            }
        }
    }

    fn on_publish(
        &mut self,
        link: LinkIx,
        content: &Content,
        packet_id: Option<PacketId>,
        alias: bool,
    ) {
        let LinkState { session, client, .. } = self.links[link];
        if self.links[link].awaiting.len() >= self.limits.line_messages_max {
            self.fail(format!("link {link} goes on reading with a full line"));
        }
        if alias {
            self.links[link].must_close = Some(ReasonCode::TopicAliasInvalid);
            return;
        }
        if content.topic.is_empty() || content.topic.contains(['#', '+']) {
            self.links[link].must_close = Some(ReasonCode::TopicNameInvalid);
            return;
        }
        let mut first_handed = self.step;
        let mut is_repetition = false;
        let mut is_new = content.qos == QoS::ExactlyOnce;
        if let Some(packet_id) = packet_id
            && content.qos == QoS::ExactlyOnce
            && let Some(inbound) =
                self.sessions[session].inbound.iter_mut().find(|known| known.packet_id == packet_id)
        {
            match inbound.arrival {
                Arrival::Received => {
                    self.cover.hit("QoS 2 duplicate");
                    self.links[link].duplicates.push(packet_id);
                    self.forget_exchange(link, packet_id);
                    self.links[link].exchanges.push(packet_id);
                    return;
                }
                Arrival::Pending => return,
                Arrival::Maybe => {
                    self.cover.hit("QoS 2 publish repeated, outcome unknown");
                    inbound.arrival = Arrival::Pending;
                    first_handed = inbound.first_handed;
                    is_repetition = true;
                    is_new = false;
                }
            }
        }
        if packet_id.is_some() && self.is_one_too_many(link) {
            self.cover.hit("client exceeds receive maximum");
            self.links[link].exceeded = true;
            if !is_repetition {
                self.links[link].must_close = Some(ReasonCode::ReceiveMaximumExceeded);
                return;
            }
        }
        let arrival = Arrival::Pending;
        if let Some(packet_id) = packet_id.filter(|_| content.qos == QoS::ExactlyOnce) {
            if is_new {
                let inbound = Inbound { packet_id, first_handed, arrival };
                self.sessions[session].inbound.push(inbound);
            }
            self.links[link].exchanges.push(packet_id);
        }
        let (fate, expires_at) = match content.delay_seconds {
            Some(seconds) => (self.delay(session, content, seconds), Millis::NEVER),
            None => {
                let name = &self.clients[client].name;
                let fate = self.judge.fate(name, AccessAction::Publish, content);
                (fate, expires_at(self.now, content))
            }
        };
        let attempt = self.attempt(Attempt {
            uid: content.uid,
            client,
            session,
            is_will: false,
            is_delayed: false,
            packet_id,
            qos: content.qos,
            is_repetition,
            fate,
            expires_at,
            first_handed,
            handed: self.step,
            done: None,
            settled: None,
            outcome: Outcome::Open,
            is_sure: true,
        });
        if packet_id.is_some() {
            self.links[link].awaiting.push(attempt);
        }
    }

    /// Notes an attempt; where it retains something, also that.
    pub(super) fn attempt(&mut self, attempt: Attempt) -> AttemptIx {
        let index = self.attempts.len();
        self.by_uid[attempt.uid as usize].push(index);
        if let Fate::Pass(content) = &attempt.fate
            && content.retain
        {
            let topic = content.topic.clone();
            self.topics.entry(topic.clone()).or_default().writes.push(index);
            self.doubt_replays_of(&topic);
        }
        match attempt.fate {
            Fate::Pass(_) => self.cover.hit("message"),
            Fate::Refuse(_) => self.cover.hit("message refused by a hook"),
        }
        self.attempts.push(attempt);
        self.unsettled.push(index);
        index
    }

    /// [MQTT-3.3.4-7]: 3.1.1 has no such bound.
    fn is_one_too_many(&self, link: LinkIx) -> bool {
        let state = &self.links[link];
        let qos1 = state.awaiting.iter().filter(|at| self.attempts[**at].qos == QoS::AtLeastOnce);
        let outstanding = qos1.count() + state.exchanges.len();
        self.clients[state.client].version == Version::V5
            && outstanding >= usize::from(self.limits.receive_maximum)
    }

    /// A worker sends PUBACK: in the order of the publishes [MQTT-4.6.0-2].
    pub(crate) fn on_puback(
        &mut self,
        link: LinkIx,
        packet_id: PacketId,
        code: ReasonCode,
        store: &Store,
    ) {
        let first = self.links[link].awaiting.first().copied();
        match first.map(|attempt| (attempt, &self.attempts[attempt])) {
            Some((attempt, Attempt { packet_id: Some(id), qos: QoS::AtLeastOnce, .. }))
                if *id == packet_id =>
            {
                self.links[link].awaiting.remove(0);
                self.resolve(attempt, code, store);
            }
            other => self.fail(format!("PUBACK {packet_id} on link {link}, next is {other:?}")),
        }
    }

    /// A worker sends PUBREC: in the order of the publishes [MQTT-4.6.0-3], at once for duplicates.
    pub(crate) fn on_pubrec(
        &mut self,
        link: LinkIx,
        packet_id: PacketId,
        code: ReasonCode,
        store: &Store,
    ) {
        let state = &mut self.links[link];
        if let Some(at) = state.duplicates.iter().position(|id| *id == packet_id) {
            state.duplicates.remove(at);
            if code.is_error() {
                self.fail(format!("link {link}: {code:?} for the duplicate {packet_id}"));
            }
            return;
        }
        let is_it = |at: &AttemptIx| {
            let attempt = &self.attempts[*at];
            attempt.packet_id == Some(packet_id) && attempt.qos == QoS::ExactlyOnce
        };
        let position = state.awaiting.iter().position(is_it);
        let Some(position) = position else {
            return self.fail(format!("PUBREC {packet_id} on link {link} for nothing"));
        };
        let attempt = state.awaiting.remove(position);
        if position > 0 && !self.attempts[attempt].is_repetition {
            return self.fail(format!("PUBREC {packet_id} on link {link} overtakes another"));
        }
        let (session, version) = (state.session, self.clients[state.client].version);
        let inbound = &mut self.sessions[session].inbound;
        if code.is_error() && version == Version::V5 {
            inbound.retain(|known| known.packet_id != packet_id);
            self.forget_exchange(link, packet_id);
        } else if let Some(known) = inbound.iter_mut().find(|known| known.packet_id == packet_id) {
            known.arrival = Arrival::Received;
        }
        self.resolve(attempt, code, store);
        let client_id = &self.clients[self.links[link].client].id;
        if self.attempts[attempt].outcome == Outcome::Accepted
            && self.sessions[session].expiry_seconds > 0
            && !client_id.is_empty()
            && !store.of_client(client_id).any(|kept| kept.inbound.contains(&packet_id))
        {
            self.fail(format!("PUBREC {packet_id} on link {link} before it is committed"));
        }
    }

    /// An acknowledgement is sent: what it says is true, and what it promises is noted.
    fn resolve(&mut self, attempt: AttemptIx, code: ReasonCode, store: &Store) {
        let state = &mut self.attempts[attempt];
        state.done = Some(self.step);
        let (uid, client, is_repetition) = (state.uid, state.client, state.is_repetition);
        let version = self.clients[client].version;
        match state.fate {
            Fate::Refuse(expected) => {
                state.outcome = Outcome::Refused;
                let was_received = is_repetition && !version.is_v5();
                if code != expected && !(was_received && code == ReasonCode::Success) {
                    self.fail(format!(
                        "message {uid} is acknowledged by {code:?}, not {expected:?}"
                    ));
                }
                if !version.is_v5() && expected.is_fault() {
                    self.fail(format!("message {uid} is acknowledged in spite of a fault"));
                }
            }
            Fate::Pass(_) if code.is_error() => {
                state.outcome = Outcome::Refused;
                let is_fault =
                    matches!(code, ReasonCode::QuotaExceeded | ReasonCode::UnspecifiedError);
                if !(is_fault && self.store_failed && version.is_v5()) {
                    self.fail(format!("message {uid} is refused by {code:?} for no reason"));
                }
            }
            Fate::Pass(_) => {
                state.outcome = Outcome::Accepted;
                let is_nobody = code == ReasonCode::NoMatchingSubscribers;
                if code != ReasonCode::Success && !is_nobody {
                    self.fail(format!("message {uid} is acknowledged by {code:?}"));
                }
                self.promise(attempt, is_nobody, store);
            }
        }
    }

    /// An accepted message is durable by now, and everyone who subscribed all the time gets it.
    fn promise(&mut self, attempt: AttemptIx, is_nobody: bool, store: &Store) {
        let Attempt { uid, first_handed, is_repetition, expires_at, .. } = self.attempts[attempt];
        // Which attempt was taken nobody saw, so nobody knows when it expires.
        let may_be_gone = is_repetition && expires_at != Millis::NEVER;
        let Some(content) = self.passed(attempt).cloned() else {
            return;
        };
        let is_kept = content.qos > QoS::AtMostOnce;
        if !may_be_gone {
            self.promise_shared(attempt, is_nobody, store);
        }
        if content.retain && is_kept && !content.payload.is_empty() && !store.has_retained(uid) {
            self.fail(format!("message {uid} is acknowledged before it is retained in the store"));
        }
        for session in self.living().collect::<Vec<_>>() {
            let Some(at_least) = self.sure_qos(attempt, session, first_handed, self.step) else {
                continue;
            };
            if is_nobody {
                self.fail(format!("message {uid}: nobody subscribes, but session {session} does"));
            }
            let state = &self.sessions[session];
            let ClientFactsRef { id, payload_bytes_max } = self.facts(session);
            if at_least == QoS::AtMostOnce {
                continue;
            }
            if state.expiry_seconds > 0 && !id.is_empty() && !store.has_enqueued(id, uid) {
                self.fail(format!("message {uid} is acknowledged before session {session} has it"));
            }
            let is_too_large = content.payload.len() > payload_bytes_max;
            let state = &self.sessions[session];
            let is_known = state.excused.contains(&uid)
                || state.musts.iter().any(|must| self.attempts[*must].uid == uid);
            let is_excused = is_too_large
                || may_be_gone
                || is_repetition && is_known
                || self.looks_retained(attempt, session);
            if !is_excused && !self.has_got(session, uid) {
                self.sessions[session].musts.push(attempt);
            }
        }
    }

    /// Whether a session got a message, other than as a retained one.
    pub(super) fn has_got(&self, session: SessionIx, uid: Uid) -> bool {
        self.sessions[session].taken.iter().any(|taken| taken.uid == uid)
    }

    pub(super) fn facts(&self, session: SessionIx) -> ClientFactsRef<'_> {
        let facts = &self.clients[self.sessions[session].client];
        ClientFactsRef { id: &facts.id, payload_bytes_max: facts.payload_bytes_max }
    }

    /// Whether a 3.1.1 connection may be closed by that code since that publish met a fault.
    pub(super) fn is_fault(&self, attempt: AttemptIx, code: Option<ReasonCode>) -> bool {
        let state = &self.attempts[attempt];
        !self.clients[state.client].version.is_v5()
            && match state.fate {
                Fate::Refuse(expected) => expected.is_fault() && Some(expected) == code,
                Fate::Pass(_) => self.store_failed,
            }
    }

    /// A worker is given PUBREL.
    fn on_client_pubrel(&mut self, link: LinkIx, packet_id: PacketId) {
        self.forget_exchange(link, packet_id);
        self.links[link].completes_due.push(packet_id);
        let session = self.links[link].session;
        let inbound = &mut self.sessions[session].inbound;
        inbound.retain(|known| known.packet_id != packet_id || known.arrival == Arrival::Pending);
    }

    /// A worker sends PUBCOMP.
    pub(crate) fn on_pubcomp(
        &mut self,
        link: LinkIx,
        packet_id: PacketId,
        code: ReasonCode,
        store: &Store,
    ) {
        let state = &mut self.links[link];
        match state.completes_due.iter().position(|id| *id == packet_id) {
            Some(at) => {
                state.completes_due.remove(at);
            }
            None => return self.fail(format!("PUBCOMP {packet_id} on link {link} for nothing")),
        }
        let LinkState { client, session, .. } = self.links[link];
        let client_id = &self.clients[client].id;
        if code == ReasonCode::Success
            && self.sessions[session].expiry_seconds > 0
            && store.of_client(client_id).any(|kept| kept.inbound.contains(&packet_id))
            && !client_id.is_empty()
            && !self.store_failed
        {
            self.fail(format!("PUBCOMP {packet_id} on link {link} before it is committed"));
        }
    }
}

/// The facts of a session's client.
pub(super) struct ClientFactsRef<'a> {
    pub(super) id: &'a str,
    pub(super) payload_bytes_max: usize,
}

/// When a message expires that is published then.
pub(super) fn expires_at(now: Millis, content: &Content) -> Millis {
    content.expiry_seconds.map_or(Millis::NEVER, |seconds| now.plus_seconds(u64::from(seconds)))
}
