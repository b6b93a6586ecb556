//! Share groups: each message once to each, never lost while a member lives, QoS 2 never doubled
//! [MQTT 4.8.2].
//!
//! A Shared Subscription of a run always has the Subscription Identifier of its filter, so a
//! delivery says by itself which group it is for.
//! What must not live here: strategies. Whom a group chooses is its own business.

use wasmqtt_core::action::Delivery;
use wasmqtt_core::ids::PacketId;
use wasmqtt_core::limits::Limits;
use wasmqtt_core::message::QoS;

use super::subscribe::Subscription;
use super::{AttemptIx, ClientFacts, Model, Outcome, SessionIx, Step};
use crate::hooks::Fate;
use crate::packet::{Content, Uid};
use crate::scenario::{SHARED, shared_by_identifier};
use crate::shell::LinkIx;
use crate::store::Store;

/// What the model knows of groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Every first PUBLISH of a message to a member.
    sent: Vec<Sent>,
    /// Messages that a group has to have.
    musts: Vec<Must>,
    drops: Vec<Drop>,
    /// A member left or was away: what was its may come to others late.
    is_disturbed: bool,
    order: std::collections::BTreeMap<(usize, SessionIx, SessionIx), (AttemptIx, AttemptIx)>,
}

#[derive(Debug)]
struct Sent {
    uid: Uid,
    group: usize,
    session: SessionIx,
    qos: QoS,
    packet_id: Option<PacketId>,
    at: Step,
    is_acknowledged: bool,
}

#[derive(Debug)]
struct Must {
    attempt: AttemptIx,
    group: usize,
}

/// A message did not fit a queue; the sessions whose queues may have been full then.
#[derive(Debug)]
struct Drop {
    at: Step,
    topic: String,
    full: Vec<SessionIx>,
}

impl Groups {
    /// Where a queue may be full or a message too large, members give messages back.
    pub(super) fn new(limits: &Limits, clients: &[ClientFacts]) -> Self {
        let is_disturbed = limits.queue_messages_max < 100
            || limits.queue_bytes_max < 1 << 20
            || clients.iter().any(|client| client.payload_bytes_max < usize::MAX);
        Self { is_disturbed, ..Self::default() }
    }
}

/// The filter behind `$share/name/`.
pub(super) fn inner(filter: &str) -> &str {
    filter.splitn(3, '/').nth(2).unwrap_or("")
}

/// Whether a filter begins like that of a Shared Subscription and is none [MQTT-4.8.2-1]
/// [MQTT-4.8.2-2].
pub(super) fn is_malformed(filter: &str) -> bool {
    let mut levels = filter.splitn(3, '/');
    levels.next() == Some("$share")
        && levels.next().is_some_and(|name| {
            name.is_empty() || name.contains(['+', '#']) || levels.next().is_none_or(str::is_empty)
        })
}

impl Model {
    /// A worker sends PUBLISH to a member, if it is for one; whether it was.
    pub(super) fn on_shared(&mut self, link: LinkIx, uid: Uid, delivery: &Delivery<'_>) -> bool {
        let groups = delivery.subscription_ids.iter().filter_map(|id| shared_by_identifier(*id));
        let groups: Vec<usize> = groups.collect();
        let Some(&group) = groups.first() else {
            return false;
        };
        let session = self.links[link].session;
        if delivery.subscription_ids.len() > 1 {
            self.fail(format!("message {uid} is for more than group {group}"));
        }
        match self.check_shared(session, group, uid, delivery) {
            Err(why) => {
                let group = SHARED[group];
                self.fail(format!("message {uid} of {group} to session {session}: {why}"));
            }
            Ok(attempt) => {
                self.note_shared(session, group, attempt, delivery);
                if let Some(packet_id) = delivery.packet_id {
                    self.on_first_send(link, packet_id, uid, attempt, delivery);
                }
            }
        }
        true
    }

    fn note_shared(
        &mut self,
        session: SessionIx,
        group: usize,
        attempt: AttemptIx,
        delivery: &Delivery<'_>,
    ) {
        let Delivery { qos, packet_id, .. } = *delivery;
        self.cover.hit("shared message");
        let uid = self.attempts[attempt].uid;
        let publisher = self.attempts[attempt].session;
        if self.groups.sent.iter().any(|sent| (sent.uid, sent.group) == (uid, group)) {
            self.cover.hit("shared message unacknowledged, sent to another");
        }
        let (is_acknowledged, at) = (false, self.step);
        self.groups.sent.push(Sent { uid, group, session, qos, packet_id, at, is_acknowledged });
        if !self.attempts[attempt].is_will && !self.is_repeated(uid) {
            let order = self.groups.order.entry((group, session, publisher)).or_default();
            match qos {
                QoS::AtMostOnce => order.0 = attempt,
                QoS::AtLeastOnce | QoS::ExactlyOnce => order.1 = attempt,
            }
        }
    }

    /// The attempt that a delivery comes from.
    fn check_shared(
        &self,
        session: SessionIx,
        group: usize,
        uid: Uid,
        delivery: &Delivery<'_>,
    ) -> Result<AttemptIx, String> {
        let attempts = &self.by_uid[uid as usize];
        let mut why = "no attempt is left that it could come from".to_owned();
        let mut found = None;
        let mut publishers: Vec<(SessionIx, AttemptIx)> = Vec::new();
        for &attempt in attempts {
            let tried = &self.attempts[attempt];
            if tried.outcome == Outcome::Refused || matches!(tried.fate, Fate::Refuse(_)) {
                continue;
            }
            let is_once = tried.qos == QoS::ExactlyOnce && !self.sessions[tried.session].doubtful;
            if !is_once || publishers.iter().all(|(other, _)| *other != tried.session) {
                publishers.push((tried.session, attempt));
            }
            let checked = self
                .check_form(attempt, delivery)
                .and_then(|()| self.check_member(session, group, attempt, delivery))
                .and_then(|()| self.check_turn(session, group, attempt, delivery.qos));
            match checked {
                Ok(()) => found = Some(attempt),
                Err(reason) => why = reason,
            }
        }
        let attempt = found.ok_or(why)?;
        let others = self.groups.sent.iter().filter(|sent| (sent.uid, sent.group) == (uid, group));
        let others: Vec<&Sent> = others.filter(|sent| !self.is_void(sent)).collect();
        if others.len() >= publishers.len() {
            return Err(format!("the group has it already: {others:?}"));
        }
        Ok(attempt)
    }

    /// Whether what was sent may be sent to another member: at QoS 1, unacknowledged, and its
    /// session is over [MQTT 4.8.2]. QoS 2 is never [MQTT-4.8.2-5].
    fn is_void(&self, sent: &Sent) -> bool {
        sent.qos == QoS::AtLeastOnce
            && !sent.is_acknowledged
            && self.may_have_ended(sent.session, sent.at)
    }

    fn may_have_ended(&self, session: SessionIx, since: Step) -> bool {
        let client = self.sessions[session].client;
        let starts_clean = |link: &super::LinkState| {
            link.client == client && link.clean && link.began > since && link.refused.is_none()
        };
        !self.is_alive(session)
            || self.unknown_session[client]
            || self.links.iter().any(starts_clean)
    }

    fn members(
        &self,
        group: usize,
        from: Step,
        to: Step,
        sure: bool,
    ) -> impl Iterator<Item = (SessionIx, &Subscription)> {
        let holds = move |it: &&Subscription| {
            if sure { it.is_sure(from, to) } else { it.is_possible(from, to) }
        };
        self.sessions.iter().enumerate().flat_map(move |(session, state)| {
            let subscriptions = state.subscriptions.iter();
            subscriptions
                .filter(move |it| it.filter == SHARED[group])
                .filter(holds)
                .map(move |it| (session, it))
        })
    }

    /// It was a member at some time since the message came, and gets it as it subscribed.
    fn check_member(
        &self,
        session: SessionIx,
        group: usize,
        attempt: AttemptIx,
        delivery: &Delivery<'_>,
    ) -> Result<(), String> {
        let Some(content) = self.passed(attempt) else {
            return Err("it was refused".to_owned());
        };
        if !super::matches(inner(SHARED[group]), &content.topic) {
            return Err("the filter does not match".to_owned());
        }
        let from = self.attempts[attempt].first_handed;
        let mut own = self.members(group, from, self.step, false).filter(|(it, _)| *it == session);
        let is_granted = own.any(|(_, it)| {
            it.options.qos.min(content.qos) == delivery.qos
                && (it.options.retain_as_published && content.retain) == delivery.retain
        });
        if is_granted {
            return Ok(());
        }
        Err(format!("no member gets {:?}, RETAIN {}", delivery.qos, delivery.retain))
    }

    /// As long as no member leaves, each has one publisher's messages in order.
    fn check_turn(
        &self,
        session: SessionIx,
        group: usize,
        attempt: AttemptIx,
        qos: QoS,
    ) -> Result<(), String> {
        let tried = &self.attempts[attempt];
        if self.groups.is_disturbed || tried.is_will || self.is_repeated(tried.uid) {
            return Ok(());
        }
        let key = (group, session, tried.session);
        let Some(&(last_qos0, last)) = self.groups.order.get(&key) else {
            return Ok(());
        };
        let bound = if qos == QoS::AtMostOnce { last.max(last_qos0) } else { last };
        if bound > attempt {
            let other = self.attempts[bound].uid;
            return Err(format!("out of order: message {other} of its publisher came before"));
        }
        Ok(())
    }

    /// A member may leave, or be away: order is no longer looked at.
    pub(super) fn disturb_groups(&mut self) {
        self.groups.is_disturbed = true;
    }

    /// A worker is given PUBACK for a message.
    pub(super) fn on_shared_acknowledged(&mut self, session: SessionIx, packet_id: PacketId) {
        let is_it = |sent: &&mut Sent| sent.session == session && sent.packet_id == Some(packet_id);
        if let Some(sent) = self.groups.sent.iter_mut().rev().find(is_it) {
            sent.is_acknowledged = true;
        }
    }

    /// A publish was accepted: groups with members have it, or will.
    pub(super) fn promise_shared(&mut self, attempt: AttemptIx, is_nobody: bool, store: &Store) {
        let from = self.attempts[attempt].first_handed;
        let Some(content) = self.passed(attempt).cloned() else {
            return;
        };
        for (group, name) in SHARED.iter().enumerate() {
            if !self.is_promised(group, &content, from) {
                continue;
            }
            let uid = content.uid;
            if is_nobody {
                self.fail(format!("message {uid}: nobody subscribes, but {name} does"));
            }
            if self.is_group_durable(group, from) && !self.was_enqueued(store, group, uid) {
                self.fail(format!("message {uid} is acknowledged before {name} has it"));
            }
            self.groups.musts.push(Must { attempt, group });
        }
    }

    /// Whether a group surely had a member all the time, and each one it may have had would keep
    /// the message.
    fn is_promised(&self, group: usize, content: &Content, from: Step) -> bool {
        content.qos > QoS::AtMostOnce
            && super::matches(inner(SHARED[group]), &content.topic)
            && self.witnesses(group, content, from).next().is_some()
            && self
                .members(group, from, self.step, false)
                .all(|(_, it)| it.options.qos > QoS::AtMostOnce)
    }

    /// Members all the time since, that can have the message.
    fn witnesses(
        &self,
        group: usize,
        content: &Content,
        from: Step,
    ) -> impl Iterator<Item = SessionIx> {
        let length = content.payload.len();
        let sure = self.members(group, from, self.step, true).map(|(session, _)| session);
        sure.filter(move |session| {
            self.is_alive(*session)
                && !self.may_have_ended(*session, from)
                && self.sessions[*session].began < from
                && length <= self.facts(*session).payload_bytes_max
        })
    }

    fn is_group_durable(&self, group: usize, from: Step) -> bool {
        self.members(group, from, self.step, false).all(|(session, _)| {
            let state = &self.sessions[session];
            let is_settled = state.link.is_some_and(|link| self.links[link].lived < from);
            self.is_alive(session)
                && is_settled
                && state.expiry_seconds > 0
                && !self.clients[state.client].id.is_empty()
        })
    }

    fn was_enqueued(&self, store: &Store, group: usize, uid: Uid) -> bool {
        self.members(group, 0, self.step, false).any(|(session, _)| {
            store.has_enqueued(&self.clients[self.sessions[session].client].id, uid)
        })
    }

    /// Whether a message may have been stored once more, for another member than the first: what
    /// fails then is not its publish.
    pub(super) fn may_be_stored_again(&self, uid: Uid) -> bool {
        let contents = self.by_uid[uid as usize].iter().filter_map(|it| self.passed(*it));
        contents.into_iter().any(|content| {
            (0..SHARED.len()).any(|group| {
                super::matches(inner(SHARED[group]), &content.topic)
                    && self.members(group, 0, self.step, false).next().is_some()
            })
        })
    }

    fn has_group_got(&self, group: usize, uid: Uid) -> bool {
        self.groups.sent.iter().any(|sent| (sent.uid, sent.group) == (uid, group))
    }

    /// No queue had room.
    pub(super) fn on_shared_dropped(&mut self, topic: &str) {
        let full = self.living().filter(|session| self.may_be_full(*session)).collect();
        self.groups.drops.push(Drop { at: self.step, topic: topic.to_owned(), full });
    }

    /// Whether all that could have had a message may have been full when it was dropped.
    fn is_excused(&self, group: usize, content: &Content, from: Step) -> bool {
        self.witnesses(group, content, from).all(|witness| {
            let mut drops = self.groups.drops.iter();
            drops.any(|drop| {
                drop.at >= from && drop.topic == content.topic && drop.full.contains(&witness)
            })
        })
    }

    /// An attempt without an acknowledgement is through.
    pub(super) fn settle_shared(&mut self, attempt: AttemptIx, is_unseen: bool, store: &Store) {
        if is_unseen {
            self.promise_shared(attempt, false, store);
        }
        let state = &self.attempts[attempt];
        let (from, uid, expires_at) = (state.first_handed, state.uid, state.expires_at);
        let Some(content) = self.passed(attempt).cloned() else {
            return;
        };
        for (group, name) in SHARED.iter().enumerate() {
            let is_there = |session: SessionIx| {
                let link = self.sessions[session].link.map(|link| &self.links[link]);
                link.is_some_and(|link| link.lived < from && link.congested < from)
            };
            let is_congested = |session: SessionIx| {
                let link = self.sessions[session].link.map(|link| &self.links[link]);
                link.is_some_and(|link| link.congested >= from)
            };
            let mut members = self.members(group, from, self.step, false);
            let is_dropped = |drop: &Drop| drop.at >= from && drop.topic == content.topic;
            let is_lost = content.qos == QoS::AtMostOnce
                && !self.has_group_got(group, uid)
                && !self.groups.drops.iter().any(is_dropped)
                && expires_at > self.now
                && super::matches(inner(name), &content.topic)
                && self.witnesses(group, &content, from).any(is_there)
                && !members.any(|(session, _)| is_congested(session));
            drop(members);
            if is_lost {
                self.fail(format!("message {uid} at QoS 0 never came to {name}"));
            }
        }
    }

    /// Nothing is on its way: what a group has to have waits for a member, or was sent to one.
    pub(super) fn settle_groups(&mut self) {
        for Must { attempt, group } in std::mem::take(&mut self.groups.musts) {
            let state = &self.attempts[attempt];
            let (uid, from, expires_at) = (state.uid, state.first_handed, state.expires_at);
            let Some(content) = self.passed(attempt).cloned() else {
                continue;
            };
            let lives = self.witnesses(group, &content, from).next().is_some();
            if self.has_group_got(group, uid) || expires_at <= self.now || !lives {
                continue;
            }
            if self.is_excused(group, &content, from) {
                self.cover.hit("shared message dropped by full queues");
                continue;
            }
            let is_waiting = |it: SessionIx| !self.sessions[it].ended && !self.is_idle(it);
            if self.members(group, from, self.step, false).any(|(it, _)| is_waiting(it)) {
                self.cover.hit("shared message waits for its member");
                self.groups.musts.push(Must { attempt, group });
            } else {
                self.fail(format!("message {uid} is lost for {}", SHARED[group]));
            }
        }
    }

    /// The end: nothing waits any longer.
    pub(super) fn check_groups_end(&mut self) {
        for Must { attempt, group } in std::mem::take(&mut self.groups.musts) {
            let (uid, from) = (self.attempts[attempt].uid, self.attempts[attempt].first_handed);
            let Some(content) = self.passed(attempt).cloned() else {
                continue;
            };
            let is_up = |session: SessionIx| self.sessions[session].link.is_some();
            let members: Vec<_> = self.members(group, from, self.step, false).collect();
            let all_up = members.iter().all(|(it, _)| self.sessions[*it].ended || is_up(*it));
            if all_up && self.witnesses(group, &content, from).next().is_some() {
                self.fail(format!("message {uid} never came to {}", SHARED[group]));
            }
        }
    }

    /// How often a message may wait for a session since it is in groups.
    pub(super) fn shared_copies(&self, session: SessionIx, attempt: AttemptIx) -> usize {
        let Some(content) = self.passed(attempt) else {
            return 0;
        };
        let from = self.attempts[attempt].first_handed;
        let its = self.sessions[session].subscriptions.iter();
        let mut groups: Vec<&str> = its
            .filter(|it| it.filter.starts_with("$share/") && it.is_possible(from, self.step))
            .map(|it| it.filter.as_str())
            .filter(|filter| super::matches(inner(filter), &content.topic))
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups.len()
    }
}
