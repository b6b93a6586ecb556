//! The end of connections and sessions: Wills, draining, expiry [MQTT 3.14, 4.1].
//! What must not live here: why a connection is closed.

use std::sync::Arc;

use crate::action::{Observation, Shell};
use crate::hook::{ConnectionFacts, Denial, Principal};
use crate::ids::{ConnId, ConnSlot, SessionSlot, TenantId};
use crate::reason::{DropReason, ReasonCode};
use crate::router::{Subscriber, TenantShared};
use crate::session::SessionState;
use crate::session::will::DelayedWill;
use crate::store::Op;
use crate::time::Millis;

use super::access::Decisions;
use super::deliver::add_dropped;
use super::share::Stray;
use super::{Connection, Phase, Waiter, Worker};

impl<S: Shell> Worker<S> {
    pub(super) fn handle_disconnect(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        code: ReasonCode,
        session_expiry_seconds: Option<u32>,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if let (Some(seconds), Some(session)) =
            (session_expiry_seconds, self.sessions.get_mut(conn.session))
        {
            if session.state.expiry_seconds == 0 && seconds != 0 {
                let code = ReasonCode::ProtocolError; // MQTT 5, 3.14.2.2.2
                return self.close_connection(now, slot, Some(code), true, shell);
            }
            session.state.expiry_seconds = seconds.min(self.limits.session_expiry_seconds_max);
            if session.state.is_durable() {
                self.commits.push(Op::SessionPut {
                    session: session.state.id,
                    tenant: session.state.tenant,
                    client_id: Arc::clone(&session.state.client_id),
                    expiry_seconds: session.state.expiry_seconds,
                });
            } else {
                self.commits.push(Op::SessionEnd { session: session.state.id });
            }
        }
        if !conn.facts.version.is_v5() || code == ReasonCode::Success {
            conn.will = None; // [MQTT-3.14.4-3]
        }
        self.close_connection(now, slot, None, true, shell);
    }

    /// Ends a connection for what it did, or did not: by CONNACK if it has none yet, else by
    /// DISCONNECT.
    pub(super) fn fail_connection(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        denial: &Denial,
        shell: &mut S,
    ) {
        match self.conns.get(slot).map(|conn| conn.phase) {
            Some(Phase::Authenticating) => self.refuse_connect(now, slot, denial, shell),
            Some(Phase::Waiting | Phase::Live | Phase::Closing) => {
                let code = Some(denial.code.in_disconnect());
                self.close_connection(now, slot, code, true, shell);
            }
            None => {}
        }
    }

    /// Closes a connection: its Will is published or begins its delay, publishes that were
    /// received go on, and its session stays or ends.
    pub(super) fn close_connection(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        code: Option<ReasonCode>,
        with_will: bool,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.phase == Phase::Closing {
            return;
        }
        let was = std::mem::replace(&mut conn.phase, Phase::Closing);
        conn.requests.clear();
        conn.pending = None;
        conn.exchange = None;
        let will = conn.will.take().filter(|_| with_will && was == Phase::Live);
        if let Some(link) = conn.link.take() {
            // Before CONNACK there is no DISCONNECT [MQTT-3.2.0-1].
            shell.close(&link, code.filter(|_| was == Phase::Live));
        }
        let place = conn.session;
        if was == Phase::Live {
            let id = conn.id;
            shell.observe(Observation::Disconnected { id, facts: &conn.facts, code });
            conn.tenant.connection_changed(false);
        }
        let (facts, principal) = (Arc::clone(&conn.facts), Arc::clone(&conn.principal));
        let Some(session) = self.sessions.get_mut(place) else {
            return self.finish_if_drained(now, slot, shell);
        };
        if session.waiter == Some(Waiter::Local(slot)) {
            session.waiter = None;
        }
        if session.connecting == Some(slot) {
            session.connecting = None;
        }
        if session.live.as_ref().is_none_or(|live| live.conn != slot) {
            self.finish_if_drained(now, slot, shell);
            return self.free_session(now, place, shell);
        }
        session.live = None;
        session.closing = Some(slot);
        let SessionState { id, client_id, outbound, .. } = &mut session.state;
        let (counters, strays) = (&mut self.counters, &mut self.strays);
        let dropped_before = counters.messages_dropped;
        outbound.detach(|queued| {
            if queued.share.is_some() {
                return strays.extend(Stray::missed(queued, *id));
            }
            let reason = DropReason::SlowReader;
            counters.dropped(reason, false);
            let topic = queued.message.topic();
            shell.observe(Observation::Dropped { client_id, topic, reason });
        });
        let dropped = counters.messages_dropped - dropped_before;
        add_dropped(&self.shared, session.state.tenant, dropped);
        session.state.tell_away(&self.limits);
        let publisher = session.state.id;
        let ends = session.state.expiry_seconds == 0;
        if ends {
            self.unsubscribe_all(place);
        }
        if let Some(mut will) = will {
            will.message.publisher = Some(publisher); // [MQTT-3.8.3-3]
            let delay = u64::from(will.delay_seconds);
            if ends || delay == 0 {
                self.publish_will(now, slot, *will, shell);
            } else if let Some(session) = self.sessions.get_mut(place) {
                let due = now.plus_seconds(delay);
                session.state.delayed_will =
                    Some(Box::new(DelayedWill { will, due, facts, principal }));
                self.timers.push(std::cmp::Reverse((due, place)));
            }
        }
        self.finish_if_drained(now, slot, shell);
    }

    /// Closes connections whose sessions' queues are full, where the policy says so.
    pub(super) fn close_overrun(&mut self, now: Millis, shell: &mut S) {
        while let Some(slot) = self.overrun.pop() {
            self.close_connection(now, slot, Some(ReasonCode::QuotaExceeded), true, shell);
        }
    }

    /// Closes a principal's connections; ends its sessions too if it is gone.
    pub(super) fn handle_kick(
        &mut self,
        now: Millis,
        tenant: TenantId,
        principal: &str,
        code: ReasonCode,
        is_gone: bool,
        shell: &mut S,
    ) {
        let is_theirs = |conn: &Connection<S::Link>| {
            conn.tenant.id == tenant && conn.principal.name.as_deref() == Some(principal)
        };
        let conns: Vec<ConnSlot> =
            self.conns.iter().filter(|(_, conn)| is_theirs(conn)).map(|(slot, _)| slot).collect();
        let mut sessions = Vec::new();
        if is_gone {
            self.drop_delayed(tenant, principal);
            for (place, session) in &mut self.sessions {
                let state = &session.state;
                if state.tenant == tenant && state.principal.as_deref() == Some(principal) {
                    session.end_when_free(&mut self.commits);
                    sessions.push(place);
                }
            }
        }
        for slot in conns {
            self.close_connection(now, slot, Some(code), true, shell);
        }
        for place in sessions {
            self.free_session(now, place, shell);
        }
    }

    /// Forgets a closed connection when nothing of it is left to do; then its session is free.
    pub(super) fn finish_if_drained(&mut self, now: Millis, slot: ConnSlot, shell: &mut S) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        if conn.phase != Phase::Closing || !conn.line.is_empty() {
            return;
        }
        let place = conn.session;
        self.conns.remove(slot);
        shell.forget(slot);
        if let Some(session) = self.sessions.get_mut(place)
            && session.closing == Some(slot)
        {
            session.closing = None;
            self.free_session(now, place, shell);
        }
    }

    /// A session has no connection any more: whoever waits gets it, or it ends, or it waits.
    pub(super) fn free_session(&mut self, now: Millis, place: SessionSlot, shell: &mut S) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let is_busy = session.live.is_some()
            || session.connecting.is_some()
            || session.closing.is_some()
            || session.arriving.is_some();
        if is_busy || self.fences.contains_key(&place) {
            return;
        }
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let ends = session.state.expiry_seconds == 0;
        match session.waiter.take() {
            Some(Waiter::Local(slot)) if ends => {
                self.end_session(now, place, shell);
                self.attach(now, slot, shell);
            }
            Some(Waiter::Local(slot)) => self.settle(now, place, slot, true, shell),
            Some(Waiter::Remote { to, to_slot, clean }) => {
                self.hand_over(now, place, to, to_slot, clean || ends, shell);
            }
            None if ends => self.end_session(now, place, shell),
            None => {
                if session.state.expiry_seconds != u32::MAX && session.expires_at == Millis::NEVER {
                    let seconds = u64::from(session.state.expiry_seconds);
                    session.expires_at = now.plus_seconds(seconds);
                    self.timers.push(std::cmp::Reverse((session.expires_at, place)));
                }
            }
        }
    }

    /// Ends a session: its subscriptions and all else are gone, a delayed Will is published.
    pub(super) fn end_session(&mut self, now: Millis, place: SessionSlot, shell: &mut S) {
        self.unsubscribe_all(place);
        let Some(session) = self.sessions.remove(place) else {
            return;
        };
        let state = session.state;
        let Some(tenant) = self.shared.tenant(state.tenant) else {
            return;
        };
        let mut directory = tenant.directory();
        let is_ours = directory
            .get(&state.client_id)
            .is_some_and(|owner| owner.worker == self.id && owner.slot == place);
        if is_ours {
            directory.remove(&state.client_id);
        }
        drop(directory);
        if state.is_durable() {
            self.commits.push(Op::SessionEnd { session: state.id });
        }
        if let Some(delayed) = state.delayed_will {
            self.publish_delayed(now, &tenant, *delayed, shell);
        }
    }

    /// Ends the subscriptions of a session that is over. What it has of share groups is given up
    /// after: it is not found for it again.
    fn unsubscribe_all(&mut self, place: SessionSlot) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let state = &mut session.state;
        let subscriptions = std::mem::take(&mut state.subscriptions);
        if !subscriptions.is_empty()
            && let Some(tenant) = self.shared.tenant(state.tenant)
        {
            let subscriber = Subscriber { worker: self.id, slot: place };
            tenant.change(|tree| {
                for filter in subscriptions.keys() {
                    tree.remove(filter, subscriber);
                }
            });
        }
        if state.presence.is_some() {
            let taken = state.outbound.take_shared(true, |_| true);
            self.strays.extend(taken.into_iter().filter_map(|queued| Stray::left(queued, None)));
        }
    }

    /// Something of a session may be due: its delayed Will or its expiry.
    pub(super) fn handle_due(&mut self, now: Millis, place: SessionSlot, shell: &mut S) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        if let Some(delayed) = session.state.delayed_will.take_if(|delayed| delayed.due <= now)
            && let Some(tenant) = self.shared.tenant(session.state.tenant)
        {
            self.publish_delayed(now, &tenant, *delayed, shell);
        }
        if let Some(session) = self.sessions.get(place)
            && session.expires_at <= now
            && session.live.is_none()
            && session.waiter.is_none()
            && session.closing.is_none()
            && !self.fences.contains_key(&place)
        {
            self.end_session(now, place, shell);
        }
    }

    /// Publishes a Will whose connection is long gone, through a line of its own.
    fn publish_delayed(
        &mut self,
        now: Millis,
        tenant: &Arc<TenantShared>,
        delayed: DelayedWill,
        shell: &mut S,
    ) {
        let DelayedWill { will, due: _, facts, principal } = delayed;
        let slot = self.absent_connection(now, tenant, facts, principal);
        self.publish_will(now, slot, *will, shell);
    }

    /// The place of a connection that is long gone, for a line in which something of it passes.
    pub(super) fn absent_connection(
        &mut self,
        now: Millis,
        tenant: &Arc<TenantShared>,
        facts: Arc<ConnectionFacts>,
        principal: Arc<Principal>,
    ) -> ConnSlot {
        self.next_conn += 1;
        self.conns.insert(Box::new(Connection {
            id: ConnId::new(self.id, self.next_conn),
            link: None,
            tenant: Arc::clone(tenant),
            facts,
            principal,
            phase: Phase::Closing,
            session: SessionSlot::default(),
            pending: None,
            exchange: None,
            will: None,
            line: crate::ordering::Line::default(),
            line_bytes: 0,
            unacknowledged_qos1: 0,
            reading: false,
            requests: std::collections::VecDeque::new(),
            route: None,
            aliases: Vec::new(),
            decisions: Decisions::default(),
            last_received: now,
            keep_alive_ms: 0,
            congested_since: None,
        }))
    }
}
