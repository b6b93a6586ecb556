//! A message on its way out: retained store, local sessions, other workers, windows and queues.
//! What must not live here: whether the message may pass at all.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::action::{Delivery, Observation, Reply, Shell};
use crate::event::Mail;
use crate::ids::{ConnSlot, MessageId, PacketId, SessionId, SessionSlot, TenantId};
use crate::limits::QueuePolicy;
use crate::message::{Message, MessageRef, QoS, SharedMessage};
use crate::reason::{DropReason, ReasonCode};
use crate::router::shared::Grant;
use crate::router::{MatchSet, Shared, Target};
use crate::session::outbound::{Acknowledged, Next};
use crate::session::{Queued, SessionState};
use crate::store::Op;
use crate::time::Millis;

use super::publish::Refusal;
use super::share::{By, Loss, Stray, members, unchoose};
use super::{Counters, Live, Session, Worker};

impl<S: Shell> Worker<S> {
    /// Retains a message where it asks for it, and gives it to everyone in the match set and to the
    /// chosen members of its groups; how many.
    #[expect(clippy::too_many_arguments, reason = "the hot path borrows its parts one by one")]
    pub(super) fn deliver(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        message: MessageRef<'_>,
        kept: &mut Option<SharedMessage>,
        id: Option<MessageId>,
        (set, chosen): (&Arc<MatchSet>, &[u32]),
        shell: &mut S,
    ) -> Result<usize, Refusal> {
        if !message.retain {
            self.deliver_set(now, message, kept, id, set, shell);
            if chosen.is_empty() {
                return Ok(set.len());
            }
            self.deliver_chosen(now, message, kept, id, (set, chosen), shell);
            return Ok(set.len() + members(set, chosen).count());
        }
        if let Err(refusal) = self.retain(slot, message, kept) {
            self.take_back(slot, message, id, (set, chosen));
            unchoose(set, chosen);
            return Err(refusal);
        }
        let missed = Arc::new(self.missed(slot, message, set, shell));
        self.deliver_set(now, message, kept, id, set, shell);
        self.deliver_set(now, message, kept, None, &missed, shell);
        self.deliver_chosen(now, message, kept, id, (set, chosen), shell);
        Ok(set.len() + missed.len() + members(set, chosen).count())
    }

    /// Gives a message to everyone in a match set, here and on other workers.
    pub(super) fn deliver_set(
        &mut self,
        now: Millis,
        message: MessageRef<'_>,
        kept: &mut Option<SharedMessage>,
        id: Option<MessageId>,
        set: &Arc<MatchSet>,
        shell: &mut S,
    ) {
        self.deliver_here(now, message, kept, id, set, shell);
        if set.len() == set.of(self.id).len() {
            return;
        }
        let message = kept.get_or_insert_with(|| Arc::new(Message::new(message)));
        let mut last = self.id;
        for (worker, _) in set.iter() {
            if worker != last && worker != self.id {
                let (message, set) = (Arc::clone(message), Arc::clone(set));
                shell.mail(worker, Mail::Deliver { message, id, set });
            }
            last = worker;
        }
    }

    /// Gives a message to this worker's part of the match set.
    pub(super) fn deliver_here(
        &mut self,
        now: Millis,
        message: MessageRef<'_>,
        kept: &mut Option<SharedMessage>,
        id: Option<MessageId>,
        set: &MatchSet,
        shell: &mut S,
    ) {
        let is_late = id.is_none() && set.is_durable() && message.qos > QoS::AtMostOnce;
        let id = if is_late { self.store_late(message, kept, set) } else { id };
        for target in set.of(self.id) {
            self.give(now, target, None, message, kept, id, shell);
        }
    }

    /// Gives a message to a session of this worker, if it is there.
    #[expect(clippy::too_many_arguments, reason = "the hot path borrows its parts one by one")]
    #[inline]
    pub(super) fn give(
        &mut self,
        now: Millis,
        target: &Target,
        by: Option<By<'_>>,
        message: MessageRef<'_>,
        kept: &mut Option<SharedMessage>,
        id: Option<MessageId>,
        shell: &mut S,
    ) {
        let Some(session) = self.sessions.get_mut(target.slot) else {
            return;
        };
        let mut out = Out {
            limits: &self.limits,
            commits: &mut self.commits,
            counters: &mut self.counters,
            overrun: &mut self.overrun,
            strays: &mut self.strays,
            shell,
        };
        let dropped = out.counters.messages_dropped;
        out.give(now, session, target, by, message, kept, id);
        if out.counters.messages_dropped != dropped {
            let dropped = out.counters.messages_dropped - dropped;
            add_dropped(&self.shared, session.state.tenant, dropped);
        }
        session.state.tell_held(&self.limits);
        if session.state.outbound.queued() > 0
            && let Some(live) = &session.live
            && let Some(conn) = self.conns.get_mut(live.conn)
            && conn.congested_since.is_none()
            && shell.is_congested(&live.link)
        {
            conn.congested_since = Some(now);
        }
    }

    /// Sends what waits for a session, as far as its window and its socket take it.
    pub(super) fn drain(&mut self, now: Millis, slot: SessionSlot, shell: &mut S) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let mut out = Out {
            limits: &self.limits,
            commits: &mut self.commits,
            counters: &mut self.counters,
            overrun: &mut self.overrun,
            strays: &mut self.strays,
            shell,
        };
        let dropped = out.counters.messages_dropped;
        out.drain(now, session);
        let dropped = out.counters.messages_dropped - dropped;
        add_dropped(&self.shared, session.state.tenant, dropped);
        session.state.tell_held(&self.limits);
        if let Some(live) = &session.live
            && let Some(conn) = self.conns.get_mut(live.conn)
        {
            let is_of_interest =
                session.state.outbound.queued() > 0 || conn.congested_since.is_some();
            let is_congested = is_of_interest && shell.is_congested(&live.link);
            if !is_congested || conn.congested_since.is_none() {
                conn.congested_since = is_congested.then_some(now);
            }
        }
        self.go_on_replaying(slot, shell);
    }

    /// Queues messages for a session that came while it was on its way, or were retained.
    pub(super) fn queue_all(
        &mut self,
        slot: SessionSlot,
        messages: impl IntoIterator<Item = Queued>,
        shell: &mut S,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let mut out = Out {
            limits: &self.limits,
            commits: &mut self.commits,
            counters: &mut self.counters,
            overrun: &mut self.overrun,
            strays: &mut self.strays,
            shell,
        };
        let dropped = out.counters.messages_dropped;
        for queued in messages {
            let id = session.state.id;
            out.queue(session, id, queued);
        }
        let dropped = out.counters.messages_dropped - dropped;
        add_dropped(&self.shared, session.state.tenant, dropped);
        session.state.tell_held(&self.limits);
    }

    pub(super) fn handle_puback(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        packet_id: PacketId,
        shell: &mut S,
    ) {
        self.handle_acknowledged(now, slot, packet_id, shell, |outbound| {
            match outbound.puback(packet_id) {
                Acknowledged::Unknown => Acknowledged::Done(None), // late or repeated: nothing is due
                known @ (Acknowledged::Done(_)
                | Acknowledged::Release(_)
                | Acknowledged::ReleaseAgain) => known,
            }
        });
    }

    pub(super) fn handle_pubrec(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        packet_id: PacketId,
        code: ReasonCode,
        shell: &mut S,
    ) {
        self.handle_acknowledged(now, slot, packet_id, shell, |outbound| {
            outbound.pubrec(packet_id, code)
        });
    }

    pub(super) fn handle_pubcomp(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        packet_id: PacketId,
        shell: &mut S,
    ) {
        self.handle_acknowledged(now, slot, packet_id, shell, |outbound| {
            match outbound.pubcomp(packet_id) {
                Acknowledged::Unknown => Acknowledged::Done(None), // late or repeated: nothing is due
                known @ (Acknowledged::Done(_)
                | Acknowledged::Release(_)
                | Acknowledged::ReleaseAgain) => known,
            }
        });
    }

    fn handle_acknowledged(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        packet_id: PacketId,
        shell: &mut S,
        acknowledge: impl FnOnce(&mut crate::session::outbound::Outbound) -> Acknowledged,
    ) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(conn.session) else {
            return;
        };
        let state = &mut session.state;
        let reply = match acknowledge(&mut state.outbound) {
            Acknowledged::Done(id) => {
                if let Some(message) = id {
                    self.commits.push(Op::Dequeue { session: state.id, message });
                }
                None
            }
            Acknowledged::Release(id) => {
                if let Some(message) = id {
                    self.commits.push(Op::Received { session: state.id, message });
                }
                Some(ReasonCode::Success)
            }
            Acknowledged::ReleaseAgain => Some(ReasonCode::Success),
            Acknowledged::Unknown => Some(ReasonCode::PacketIdentifierNotFound),
        };
        if let (Some(code), Some(link)) = (reply, &conn.link) {
            shell.send(link, Reply::PubRel(packet_id, code));
        }
        if state.outbound.has_next() || !state.replays.is_empty() {
            self.drain(now, conn.session, shell);
        } else {
            state.tell_held(&self.limits);
        }
    }
}

/// Counts messages that were dropped on their way to a session of that tenant, for `$SYS`.
pub(super) fn add_dropped(shared: &Shared, tenant: TenantId, messages: u64) {
    if messages > 0
        && let Some(tenant) = shared.tenant(tenant)
    {
        tenant.add_dropped(messages);
    }
}

/// The parts of a worker that sending needs, borrowed beside a session.
struct Out<'a, S: Shell> {
    limits: &'a crate::limits::Limits,
    commits: &'a mut super::commit::Commits,
    counters: &'a mut Counters,
    overrun: &'a mut Vec<ConnSlot>,
    strays: &'a mut VecDeque<Stray>,
    shell: &'a mut S,
}

impl<S: Shell> Out<'_, S> {
    #[expect(clippy::too_many_arguments, reason = "the hot path borrows its parts one by one")]
    fn give(
        &mut self,
        now: Millis,
        session: &mut Session<S::Link>,
        target: &Target,
        by: Option<By<'_>>,
        message: MessageRef<'_>,
        kept: &mut Option<SharedMessage>,
        id: Option<MessageId>,
    ) {
        // No Local is not for Shared Subscriptions [MQTT-3.8.3-4].
        let publisher = message.publisher.filter(|_| by.is_none());
        let Some(grant) = target.grant(message.qos, publisher) else {
            return;
        };
        let id = id.filter(|_| target.durable && grant.qos > QoS::AtMostOnce);
        if message.expires_at <= now {
            return self.expired(target.session, id); // while a hook, a commit or mail took its time
        }
        let retain = grant.retain_as_published && message.retain; // [MQTT-3.3.1-12]
        let outbound = &session.state.outbound;
        if let (Some(live), QoS::AtMostOnce) = (&session.live, grant.qos)
            && outbound.is_open_qos0()
            && !self.shell.is_congested(&live.link)
        {
            let delivery = Delivery {
                message,
                qos: QoS::AtMostOnce,
                retain,
                dup: false,
                packet_id: None,
                subscription_ids: &grant.identifiers,
                expiry_seconds: remaining_seconds(now, message.expires_at),
            };
            if self.shell.deliver(&live.link, delivery) {
                self.counters.messages_sent += 1;
                return;
            }
            let queued = new_queued(message, kept, None, &grant, retain, by);
            return self.too_large(target.session, &session.state.client_id, queued);
        }
        if grant.qos == QoS::AtMostOnce && session.live.is_none() {
            // QoS 0 is not kept for a client that is away, but another member may be there.
            let queued = by.map(|by| new_queued(message, kept, None, &grant, retain, Some(by)));
            self.strays.extend(queued.and_then(|queued| Stray::missed(queued, target.session)));
            return;
        }
        let queued = new_queued(message, kept, id, &grant, retain, by);
        match &session.live {
            Some(live)
                if session.state.outbound.is_open(&queued)
                    && !self.shell.is_congested(&live.link) =>
            {
                let packet_id = session.state.outbound.send(queued);
                self.send_first(now, &mut session.state, live, packet_id);
            }
            _ => {
                self.queue(session, target.session, queued);
                self.drain(now, session);
            }
        }
    }

    /// Sends a message that was just taken into the window.
    fn send_first(
        &mut self,
        now: Millis,
        state: &mut SessionState,
        live: &Live<S::Link>,
        packet_id: PacketId,
    ) {
        let Some(queued) = state.outbound.in_flight_message(packet_id) else {
            return;
        };
        let id = queued.id;
        let delivery = delivery(now, queued, Some(packet_id), false);
        let session = state.id;
        if self.shell.deliver(&live.link, delivery) {
            self.counters.messages_sent += 1;
            if let Some(message) = id {
                self.commits.push(Op::InFlight { session, message, packet_id });
            }
            return;
        }
        // [MQTT-3.1.2-25]: as if it had been sent and acknowledged.
        let queued = queued.clone();
        state.outbound.free(packet_id);
        self.too_large(session, &state.client_id, queued);
    }

    /// A message expired on its way to a session [MQTT-3.3.2-5].
    fn expired(&mut self, session: SessionId, id: Option<MessageId>) {
        self.counters.dropped(DropReason::Expired, id.is_some());
        if let Some(message) = id {
            self.commits.push(Op::Dequeue { session, message });
        }
    }

    /// Puts a message behind the others of a session, by its number: that of a session that is on
    /// its way is not in its place yet.
    fn queue(&mut self, session: &mut Session<S::Link>, id: SessionId, queued: Queued) {
        let (commits, counters) = (&mut *self.commits, &mut *self.counters);
        let (strays, client_id) = (&mut *self.strays, &session.state.client_id);
        let has_room = match &session.arriving {
            Some(arriving) => arriving.waiting.has_room(queued.size(), self.limits),
            None => session.state.outbound.has_room_to_wait(queued.size(), self.limits),
        };
        let overrun = session.live.as_ref().map(|live| live.conn);
        let overrun = overrun.filter(|_| self.limits.queue_policy == QueuePolicy::Disconnect);
        let loss = |reason| Loss { client_id: Arc::clone(client_id), reason, overrun };
        if !has_room && queued.share.is_some() && queued.qos > QoS::AtMostOnce {
            // Another member may have room. If it pushed out what waits, that would go on elsewhere
            // and push out more, without end.
            strays.extend(Stray::refused(queued, id, loss(DropReason::QueueMessages)));
            return;
        }
        let mut first = None;
        let lose = |victim: Queued, reason: DropReason| {
            if victim.share.is_some() && victim.qos > QoS::AtMostOnce {
                strays.extend(Stray::refused(victim, id, loss(reason)));
                return;
            }
            first.get_or_insert(reason);
            if let Some(message) = victim.id {
                commits.push(Op::Dequeue { session: id, message });
            }
            counters.dropped(reason, victim.id.is_some());
            let topic = victim.message.topic();
            self.shell.observe(Observation::Dropped { client_id, topic, reason });
        };
        let overflow = match &mut session.arriving {
            Some(arriving) => arriving.waiting.push(queued, self.limits, lose),
            None => session.state.outbound.push(queued, self.limits, lose),
        };
        if let (true, Some(reason)) = (overflow.begins, first) {
            self.shell.observe(Observation::QueueOverflows { client_id, reason });
        }
        if let (true, Some(live)) = (overflow.disconnect, &session.live) {
            self.overrun.push(live.conn);
        }
    }

    fn drain(&mut self, now: Millis, session: &mut Session<S::Link>) {
        let Some(live) = &session.live else { return };
        let SessionState { id, client_id, outbound, .. } = &mut session.state;
        let mut done: SmallVec<[MessageId; 1]> = SmallVec::new();
        while outbound.has_next() && !self.shell.is_congested(&live.link) {
            let next = outbound.poll_next(now, |queued| {
                done.extend(queued.id);
                self.dropped(client_id, &queued, DropReason::Expired);
            });
            let Some(next) = next else {
                break;
            };
            let (queued, packet_id, dup) = match next {
                Next::Release(packet_id) => {
                    self.shell.send(&live.link, Reply::PubRel(packet_id, ReasonCode::Success));
                    continue;
                }
                Next::Publish { queued, packet_id, dup } => (queued, packet_id, dup),
            };
            let delivery = delivery(now, &queued, packet_id, dup);
            if self.shell.deliver(&live.link, delivery) {
                self.counters.messages_sent += 1;
                if let (Some(message), Some(packet_id), false) = (queued.id, packet_id, dup) {
                    self.commits.push(Op::InFlight { session: *id, message, packet_id });
                }
                continue;
            }
            // [MQTT-3.1.2-25]: as if it had been sent and acknowledged.
            if let Some(packet_id) = packet_id {
                outbound.free(packet_id);
            }
            self.too_large(*id, client_id, queued);
        }
        for message in done {
            self.commits.push(Op::Dequeue { session: *id, message });
        }
        if let Some(messages) = outbound.take_lost() {
            self.shell.observe(Observation::QueueRecovered { client_id, messages });
        }
    }

    /// A message is longer than its client takes; if it came by a share group, perhaps another
    /// member takes it.
    fn too_large(&mut self, session: SessionId, client_id: &Arc<str>, queued: Queued) {
        let reason = DropReason::TooLarge;
        if queued.share.is_some() {
            let loss = Loss { client_id: Arc::clone(client_id), reason, overrun: None };
            self.strays.extend(Stray::refused(queued, session, loss));
            return;
        }
        if let Some(message) = queued.id {
            self.commits.push(Op::Dequeue { session, message });
        }
        self.dropped(client_id, &queued, reason);
    }

    fn dropped(&mut self, client_id: &str, queued: &Queued, reason: DropReason) {
        self.counters.dropped(reason, queued.id.is_some());
        let topic = queued.message.topic();
        self.shell.observe(Observation::Dropped { client_id, topic, reason });
    }
}

fn new_queued(
    message: MessageRef<'_>,
    kept: &mut Option<SharedMessage>,
    id: Option<MessageId>,
    grant: &Grant,
    retain: bool,
    by: Option<By<'_>>,
) -> Queued {
    Queued {
        message: Arc::clone(kept.get_or_insert_with(|| Arc::new(Message::new(message)))),
        id,
        qos: grant.qos,
        retain,
        subscription_ids: (!grant.identifiers.is_empty())
            .then(|| grant.identifiers.as_slice().into()),
        share: by.map(By::share),
    }
}

fn delivery(now: Millis, queued: &Queued, packet_id: Option<PacketId>, dup: bool) -> Delivery<'_> {
    Delivery {
        message: queued.message.as_ref().as_ref(),
        qos: queued.qos,
        retain: queued.retain,
        dup,
        packet_id,
        subscription_ids: queued.subscription_ids.as_deref().unwrap_or(&[]),
        expiry_seconds: remaining_seconds(now, queued.message.expires_at),
    }
}

/// Message Expiry Interval to send: what was received less the time that the message waited
/// [MQTT-3.3.2-6], at least 1.
fn remaining_seconds(now: Millis, expires_at: Millis) -> Option<u32> {
    if expires_at == Millis::NEVER {
        return None;
    }
    Some(u32::try_from(expires_at.since(now).div_ceil(1000)).unwrap_or(u32::MAX).max(1))
}
