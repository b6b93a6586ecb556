//! CONNECT: who is it, may its Will be, which session does it get [MQTT 3.1].
//! What must not live here: how a session moves between workers (`moves`).

use std::sync::Arc;

use crate::action::{ConnAck, Observation, Proof, Reply, Shell};
use crate::event::Connect;
use crate::hook::{
    AccessAction, AuthenticateAnswer, AuthenticateRequest, Denial, HookReply, Principal,
};
use crate::ids::{ConnId, ConnSlot, SessionId, SessionSlot};
use crate::message::{Message, MessageRef};
use crate::reason::ReasonCode;
use crate::router::Owner;
use crate::session::SessionState;
use crate::session::will::Will;
use crate::store::{Op, StoreFault};
use crate::time::Millis;

use super::access::{Access, After, Decisions, Object};
use super::commit::{self, fault_code};
use super::delayed::{is_delayed, split};
use super::publish::rewritten;
use super::{Connection, FastMap, Live, Parked, ParkedFor, Phase, Session, Waiter, Worker};

/// What CONNECT asked for, until it is granted.
#[derive(Debug)]
pub(super) struct PendingConnect {
    pub(super) clean: bool,
    session_expiry_seconds: u32,
    asked_expiry_seconds: u32,
    receive_maximum: u16,
    is_assigned: bool,
    asked_keep_alive: u16,
}

impl<S: Shell> Worker<S> {
    /// Takes a new connection in; the shell reads on when it is told so. The place that later
    /// events name; the connection may be refused and gone when this returns.
    pub fn connect(
        &mut self,
        now: Millis,
        link: S::Link,
        connect: Connect,
        shell: &mut S,
    ) -> ConnSlot {
        let slot = self.begin_connect(now, link, connect, shell);
        self.finish_event(now, shell);
        slot
    }

    fn begin_connect(
        &mut self,
        now: Millis,
        link: S::Link,
        connect: Connect,
        shell: &mut S,
    ) -> ConnSlot {
        let Connect {
            mut facts,
            tenant,
            password,
            authentication,
            mut will,
            session_expiry_seconds,
            receive_maximum,
        } = connect;
        if let Some(will) = &mut will {
            self.name_will(will);
        }
        self.next_conn += 1;
        let id = ConnId::new(self.id, self.next_conn);
        let is_assigned = facts.client_id.is_empty();
        let is_refused = is_assigned && !facts.version.is_v5() && !facts.clean_start;
        if is_assigned {
            facts.client_id = format!("auto-{:x}-{id}", self.seed).into();
        }
        let asked_keep_alive = facts.keep_alive_seconds;
        let granted_max = self.limits.session_expiry_seconds_max;
        let pending = PendingConnect {
            clean: facts.clean_start,
            session_expiry_seconds: session_expiry_seconds.min(granted_max),
            asked_expiry_seconds: session_expiry_seconds,
            receive_maximum,
            is_assigned,
            asked_keep_alive,
        };
        let keep_alive = self.granted_keep_alive(asked_keep_alive);
        let facts = Arc::new(facts);
        let known = self.shared.tenant(tenant);
        let is_known = known.is_some();
        let slot = self.conns.insert(Box::new(Connection {
            id,
            link: Some(link),
            tenant: known.unwrap_or_else(crate::router::Shared::nobody),
            facts: Arc::clone(&facts),
            principal: Arc::new(Principal::default()),
            phase: Phase::Authenticating,
            session: SessionSlot::default(),
            pending: Some(Box::new(pending)),
            exchange: None,
            will,
            line: crate::ordering::Line::default(),
            line_bytes: 0,
            unacknowledged_qos1: 0,
            reading: false,
            requests: std::collections::VecDeque::new(),
            route: None,
            aliases: Vec::new(),
            decisions: Decisions::default(),
            last_received: now,
            keep_alive_ms: u64::from(keep_alive) * 1500, // [MQTT-3.1.2-22]
            congested_since: None,
        }));
        let refusal = if self.closing_all {
            Some(ReasonCode::ServerUnavailable)
        } else if is_refused {
            Some(ReasonCode::ClientIdentifierNotValid) // [MQTT-3.1.3-8] of 3.1.1
        } else if is_known {
            None
        } else {
            Some(ReasonCode::NotAuthorized)
        };
        if let Some(code) = refusal {
            self.refuse_connect(now, slot, &Denial::new(code), shell);
            return slot;
        }
        if let Some(authentication) = authentication {
            self.begin_exchange(now, slot, authentication, shell);
            return slot;
        }
        let token = self.token();
        let request = AuthenticateRequest { connection: facts, password };
        match shell.authenticate(token, request) {
            HookReply::Now(answer) => self.handle_authenticated(now, slot, answer, shell),
            HookReply::Parked => {
                let what = ParkedFor::Authenticate;
                self.parked.insert(token, Parked { conn: slot, what });
            }
        }
        slot
    }

    /// The topic of a Will, as rules and delay make it. A delay that is none stays, and is refused.
    fn name_will(&self, will: &mut Will) {
        let named = will.message.topic();
        let parts = split(named, self.limits.delay_seconds_max).ok();
        will.hold_seconds = parts.map(|(seconds, _)| seconds);
        let topic = rewritten(&self.topics, parts.map_or(named, |(_, topic)| topic));
        if *topic != *named {
            will.message = Message::new(MessageRef { topic: &topic, ..will.message.as_ref() });
        }
    }

    const fn granted_keep_alive(&self, asked: u16) -> u16 {
        let most = self.limits.keep_alive_seconds_max;
        if most > 0 && (asked == 0 || asked > most) { most } else { asked }
    }

    /// Refuses a CONNECT: CONNACK with the code, then the end.
    pub(super) fn refuse_connect(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        denial: &Denial,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        conn.will = None;
        if let Some(link) = conn.link.take() {
            let connack = ConnAck {
                code: denial.code,
                reason: denial.reason.as_deref(),
                session_present: false, // [MQTT-3.2.2-6]
                assigned_client_id: None,
                server_keep_alive: None,
                session_expiry_seconds: None,
                proof: None,
            };
            shell.send(&link, Reply::ConnAck(connack));
            shell.close(&link, None);
        }
        shell.observe(Observation::ConnectRefused { facts: &conn.facts, code: denial.code });
        self.close_connection(now, slot, None, false, shell);
    }

    pub(super) fn handle_authenticated(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        answer: AuthenticateAnswer,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.phase != Phase::Authenticating {
            return;
        }
        match answer {
            AuthenticateAnswer::Deny(denial) => self.refuse_connect(now, slot, &denial, shell),
            AuthenticateAnswer::Allow(principal) => {
                conn.principal = principal;
                self.authorize_will(now, slot, After::Start, shell);
            }
        }
    }

    pub(super) fn authorize_will(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        after: After,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.phase != Phase::Authenticating {
            return;
        }
        let Some(will) = conn.will.take() else {
            return self.attach(now, slot, shell);
        };
        let topic = will.message.topic();
        if crate::topic::check_topic_name(topic).is_err() || is_delayed(topic) {
            if !conn.facts.version.is_v5() {
                // Not one of the refusals that 3.1.1 has a code for [MQTT-3.2.2-6].
                return self.close_connection(now, slot, None, false, shell);
            }
            let denial = Denial::new(ReasonCode::TopicNameInvalid);
            return self.refuse_connect(now, slot, &denial, shell);
        }
        let object = Object::Message(AccessAction::Will, will.message.as_ref());
        let access = self.authorize(now, slot, object, None, after, shell);
        if let Access::Deny(denial, _) = &access {
            self.report_denial(slot, will.message.topic(), denial, shell);
            return self.refuse_connect(now, slot, denial, shell);
        }
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.will = Some(will);
        }
        if let Access::Allow(_) = access {
            self.attach(now, slot, shell);
        }
    }

    /// Finds the client's session: here, on another worker, or nowhere.
    pub(super) fn attach(&mut self, now: Millis, slot: ConnSlot, shell: &mut S) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        conn.phase = Phase::Waiting;
        let tenant = Arc::clone(&conn.tenant);
        let client_id = Arc::clone(&conn.facts.client_id);
        let clean = conn.pending.as_ref().is_some_and(|pending| pending.clean);
        let principal = conn.principal.name.clone();
        let mut directory = tenant.directory();
        let here = self.id;
        let known = directory.get(&client_id).cloned();
        if known.as_ref().is_some_and(|owner| owner.principal != principal) {
            drop(directory);
            // To know a client identifier gives no right to what was subscribed under it.
            let denial = Denial {
                code: ReasonCode::NotAuthorized,
                reason: Some("this client identifier belongs to another user".into()),
            };
            return self.refuse_connect(now, slot, &denial, shell);
        }
        if known.is_none() && directory.len() >= self.limits.sessions_max {
            drop(directory);
            let denial = Denial {
                code: ReasonCode::QuotaExceeded,
                reason: Some("there are as many sessions as there may be".into()),
            };
            return self.refuse_connect(now, slot, &denial, shell);
        }
        match known {
            Some(owner) if owner.worker == here => {
                drop(directory);
                self.attach_here(now, owner.slot, slot, shell);
            }
            elsewhere => {
                let session = self.new_session(&tenant, client_id, principal.clone());
                let id = session.state.id;
                let client_id = Arc::clone(&session.state.client_id);
                let place = self.sessions.insert(Box::new(session));
                directory
                    .insert(client_id, Owner { worker: here, slot: place, session: id, principal });
                drop(directory);
                let Some(owner) = elsewhere else {
                    return self.settle(now, place, slot, false, shell);
                };
                if let Some(session) = self.sessions.get_mut(place) {
                    session.arriving = Some(super::moves::Arriving::default());
                    session.waiter = Some(Waiter::Local(slot));
                }
                if let Some(conn) = self.conns.get_mut(slot) {
                    conn.session = place;
                }
                let (to, to_slot) = (here, place);
                shell.mail(
                    owner.worker,
                    crate::event::Mail::Take { slot: owner.slot, to, to_slot, clean },
                );
            }
        }
    }

    fn new_session(
        &mut self,
        tenant: &crate::router::TenantShared,
        client_id: Arc<str>,
        principal: Option<Arc<str>>,
    ) -> Session<S::Link> {
        self.next_session += 1;
        let id = SessionId::new(self.id, self.next_session);
        let inflight_max = self.limits.inflight_max;
        Session {
            state: SessionState::new(id, tenant.id, client_id, principal, 0, inflight_max),
            live: None,
            connecting: None,
            closing: None,
            waiter: None,
            changes: FastMap::default(),
            arriving: None,
            is_replaying: false,
            expires_at: Millis::NEVER,
        }
    }

    /// The session is on this worker: its connection, if it has one, gives way [MQTT-3.1.4-3].
    fn attach_here(&mut self, now: Millis, place: SessionSlot, slot: ConnSlot, shell: &mut S) {
        self.evict(now, place, shell);
        let Some(session) = self.sessions.get_mut(place) else {
            // It ended while its last connection was closed.
            return self.attach(now, slot, shell);
        };
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.session = place;
        }
        if session.arriving.is_some() || session.closing.is_some() {
            session.waiter = Some(Waiter::Local(slot));
            return;
        }
        self.settle(now, place, slot, true, shell);
    }

    /// Ends the connection that has or waits for a session, since another one takes it over.
    pub(super) fn evict(&mut self, now: Millis, place: SessionSlot, shell: &mut S) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let live = session.live.as_ref().map(|live| live.conn);
        let connecting = session.connecting.take();
        let waiting = match session.waiter.take() {
            Some(Waiter::Local(waiting)) => Some(waiting),
            Some(waiter @ Waiter::Remote { .. }) => {
                session.waiter = Some(waiter);
                None
            }
            None => None,
        };
        for waiting in waiting.into_iter().chain(connecting) {
            let denial = Denial::new(ReasonCode::ServerBusy);
            self.refuse_connect(now, waiting, &denial, shell);
        }
        if let Some(live) = live {
            let code = Some(ReasonCode::SessionTakenOver);
            self.close_connection(now, live, code, true, shell);
        }
    }

    /// A session is free and here: it becomes the connection's, or gives way to a new one.
    pub(super) fn settle(
        &mut self,
        now: Millis,
        place: SessionSlot,
        slot: ConnSlot,
        existed: bool,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let Some(pending) = conn.pending.as_deref() else {
            return;
        };
        let (clean, expiry_seconds) = (pending.clean, pending.session_expiry_seconds);
        if existed && clean {
            // [MQTT-3.1.2-4]: a new place, so that nothing on its way to the old one arrives.
            self.end_session(now, place, shell);
            return self.attach(now, slot, shell);
        }
        conn.session = place;
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        session.waiter = None;
        session.expires_at = Millis::NEVER;
        session.state.delayed_will = None; // [MQTT-3.1.3-9]
        let was_durable = session.state.is_durable();
        session.state.expiry_seconds = expiry_seconds;
        let is_durable = session.state.is_durable();
        session.connecting = Some(slot);
        if !is_durable {
            session.changes.clear(); // what the store says of it decides nothing any longer
        }
        if existed {
            self.revoke(place, slot);
        }
        if existed && was_durable != is_durable {
            self.tell_durable(place);
        }
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let state = &session.state;
        if is_durable {
            self.commits.push(Op::SessionPut {
                session: state.id,
                tenant: state.tenant,
                client_id: Arc::clone(&state.client_id),
                expiry_seconds,
            });
            let session_present = existed;
            self.commits.after_open(commit::After::Connect { conn: slot, session_present });
        } else {
            if was_durable {
                self.commits.push(Op::SessionEnd { session: state.id });
            }
            self.finish_connect(now, slot, existed, Ok(()), shell);
        }
    }

    /// Marks a session's subscriptions as going through the store or not.
    fn tell_durable(&mut self, place: SessionSlot) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let state = &mut session.state;
        let Some(tenant) = self.shared.tenant(state.tenant) else {
            return;
        };
        let subscriber = crate::router::Subscriber { worker: self.id, slot: place };
        tenant.change(|tree| {
            let subscriptions = std::mem::take(&mut state.subscriptions);
            for (filter, options) in &subscriptions {
                tree.insert(filter, subscriber, state.subscription(filter, *options));
            }
            state.subscriptions = subscriptions;
        });
    }

    /// The last step: CONNACK, and what waits in the session.
    pub(super) fn finish_connect(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        session_present: bool,
        result: Result<(), StoreFault>,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.phase != Phase::Waiting {
            return;
        }
        if let Err(fault) = result {
            let code = match fault {
                StoreFault::Full => fault_code(fault),
                StoreFault::Failed => ReasonCode::ServerUnavailable,
            };
            let place = conn.session;
            self.refuse_connect(now, slot, &Denial::new(code), shell);
            if !session_present {
                self.end_session(now, place, shell);
            }
            return;
        }
        let (Some(link), Some(pending)) = (conn.link.clone(), conn.pending.take()) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(conn.session) else {
            return;
        };
        session.connecting = None;
        session.state.inbound.resume();
        conn.phase = Phase::Live;
        let last_data = conn.exchange.as_mut().and_then(|exchange| exchange.last_data.take());
        conn.reading = true;
        conn.last_received = now;
        session.live = Some(Live { conn: slot, link: link.clone() });
        session.state.outbound.resume(pending.receive_maximum);
        session.state.tell_there(&self.limits);
        let granted = self.limits.keep_alive_seconds_max;
        let asked = pending.asked_keep_alive;
        let is_lowered = granted > 0 && (asked == 0 || asked > granted);
        shell.send(
            &link,
            Reply::ConnAck(ConnAck {
                code: ReasonCode::Success,
                reason: None,
                session_present,
                assigned_client_id: pending.is_assigned.then_some(&*conn.facts.client_id),
                server_keep_alive: is_lowered.then_some(granted),
                session_expiry_seconds: (pending.session_expiry_seconds
                    != pending.asked_expiry_seconds)
                    .then_some(pending.session_expiry_seconds),
                proof: conn
                    .exchange
                    .as_ref()
                    .map(|exchange| Proof { method: &exchange.method, data: last_data.as_deref() }),
            }),
        );
        let (facts, principal) = (&conn.facts, &conn.principal);
        let id = conn.id;
        shell.observe(Observation::Connected { id, facts, principal, session_present });
        conn.tenant.connection_changed(true);
        let place = conn.session;
        self.drain(now, place, shell);
        shell.set_reading(&link, true);
        self.auto_subscribe(now, slot, shell);
    }
}
