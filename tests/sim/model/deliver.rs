//! PUBLISH towards clients: every one has a reason, the right form, and its place in the order.
//! What must not live here: Packet Identifiers and windows (`flight`).

use wasmqtt_core::action::Delivery;
use wasmqtt_core::message::QoS;
use wasmqtt_core::time::Millis;

use super::flight::Source;
use super::retained::ReplayIx;
use super::subscribe::Subscription;
use super::{AttemptIx, Model, Outcome, SessionIx, Step};
use crate::hooks::Fate;
use crate::packet::{Uid, uid_of};
use crate::shell::LinkIx;
use crate::store::Store;

impl Model {
    /// A worker sends PUBLISH.
    pub(crate) fn on_deliver(&mut self, link: LinkIx, delivery: &Delivery<'_>, store: &Store) {
        if !self.is_live(link) {
            return self.fail(format!("PUBLISH on link {link}, which is not connected"));
        }
        let session = self.links[link].session;
        let Some(uid) = uid_of(delivery.message.properties) else {
            return self.fail("PUBLISH with foreign properties".to_owned());
        };
        if self.by_uid.get(uid as usize).is_none_or(Vec::is_empty) {
            return self.fail(format!("message {uid} was never published"));
        }
        if (delivery.qos > QoS::AtMostOnce) != delivery.packet_id.is_some() {
            return self
                .fail(format!("message {uid} at {:?}: {:?}", delivery.qos, delivery.packet_id));
        }
        if delivery.dup {
            return self.on_resend(link, uid, delivery);
        }
        if self.on_shared(link, uid, delivery) {
            return;
        }
        let source = match self.source(session, uid, delivery, store) {
            Ok(source) => source,
            Err(why) => {
                return self.fail(format!("message {uid} to session {session}: {why}"));
            }
        };
        let attempt = source.attempt();
        if let Err(why) = self.check_form(attempt, delivery) {
            return self.fail(format!("message {uid} to session {session}: {why}"));
        }
        if self.attempts[attempt].is_will && self.by_uid[uid as usize].len() > 1 {
            self.cover.hit("delayed message published");
        }
        match source {
            Source::Live(from) => self.take_live(session, from, Some(delivery.qos)),
            Source::Either(from) => self.take_live(session, from, None),
            Source::Replay(replay) => self.sessions[session].replays[replay.0].delivered = true,
        }
        if let Some(packet_id) = delivery.packet_id {
            self.on_first_send(link, packet_id, uid, attempt, delivery);
        }
    }

    /// Why this session gets this message now.
    fn source(
        &mut self,
        session: SessionIx,
        uid: Uid,
        delivery: &Delivery<'_>,
        store: &Store,
    ) -> Result<Source, String> {
        let mut replay = None;
        if delivery.retain {
            replay = self.replay(session, uid, delivery);
            replay = replay.or_else(|| self.late_replay(session, uid, delivery));
        }
        let mut live = self.live(session, uid, delivery, store);
        if live.is_err() && replay.is_none() && self.take_back(session, uid) {
            live = self.live(session, uid, delivery, store);
            if live.is_ok() && delivery.retain {
                // The replay that was found is what the earlier delivery is taken for by now.
                replay = self.replay(session, uid, delivery);
            }
        }
        if live.is_err() && replay.is_none() && delivery.retain {
            replay = self.replay_after_all(session, uid, delivery);
        }
        match (replay, live) {
            (Some(replay), Ok(from)) => {
                // It may be either: nothing can be said about its place.
                self.cover.hit("replay or live message, nobody can say");
                let is_sure = self.sessions[session].replays[replay.0].is_sure;
                self.sessions[session].either.push((from[0], replay.0));
                self.sessions[session].alike.insert(uid);
                Ok(if is_sure { Source::Replay(replay) } else { Source::Either(from) })
            }
            (Some(replay), Err(_)) => {
                self.cover.hit("retained message replayed");
                Ok(Source::Replay(replay))
            }
            (None, Ok(from)) => Ok(Source::Live(from)),
            (None, Err(why)) => self.exchanged(session, uid, delivery).ok_or(why),
        }
    }

    /// A delivery takes the place of another that was taken for it, where live message and replays
    /// look the same: there are no more of them than there may be.
    fn exchanged(&self, session: SessionIx, uid: Uid, delivery: &Delivery<'_>) -> Option<Source> {
        let state = &self.sessions[session];
        if !state.alike.contains(&uid) {
            return None;
        }
        let left = state.replays.iter().enumerate().find(|(_, replay)| {
            !replay.delivered
                && self.attempts[replay.attempt].uid == uid
                && self.check_form(replay.attempt, delivery).is_ok()
        });
        left.map(|(index, replay)| Source::Replay(ReplayIx(index, replay.attempt)))
    }

    /// A delivery that was taken for a live message may have been a replay after all.
    fn take_back(&mut self, session: SessionIx, uid: Uid) -> bool {
        let Self { attempts, sessions, .. } = self;
        let state = &mut sessions[session];
        let is_it = |(attempt, replay): &(AttemptIx, usize)| {
            attempts[*attempt].uid == uid && !state.replays[*replay].delivered
        };
        let Some(at) = state.either.iter().position(is_it) else {
            return false;
        };
        let (_, replay) = state.either.remove(at);
        state.replays[replay].delivered = true;
        if let Some(taken) = state.taken.iter().rposition(|taken| taken.uid == uid) {
            state.taken.remove(taken);
        }
        true
    }

    /// This delivery is a replay, and what was taken for it was a live message.
    fn replay_after_all(
        &mut self,
        session: SessionIx,
        uid: Uid,
        delivery: &Delivery<'_>,
    ) -> Option<ReplayIx> {
        let Self { attempts, sessions, .. } = self;
        let state = &mut sessions[session];
        let is_it = |(attempt, replay): &(AttemptIx, usize)| {
            attempts[*attempt].uid == uid && state.replays[*replay].delivered
        };
        let at = state.either.iter().position(is_it)?;
        let (attempt, replay) = state.either.remove(at);
        state.replays[replay].delivered = false;
        let found = self.replay(session, uid, delivery)?;
        self.take_live(session, vec![attempt], None);
        Some(found)
    }

    /// The attempts that this delivery may come from, as order and subscriptions allow, first of
    /// all one whose subscriptions did not change while it passed. A message that was published
    /// more than once may come as often; which copy is which nobody can tell.
    fn live(
        &self,
        session: SessionIx,
        uid: Uid,
        delivery: &Delivery<'_>,
        store: &Store,
    ) -> Result<Vec<AttemptIx>, String> {
        let attempts = &self.by_uid[uid as usize];
        if store.failed(uid) >= attempts.len() && !self.may_be_stored_again(uid) {
            return Err("its commit failed".to_owned());
        }
        let taken: Vec<&Taken> =
            self.sessions[session].taken.iter().filter(|taken| taken.uid == uid).collect();
        let mut why = "no attempt is left that it could come from".to_owned();
        let mut perhaps = Vec::new();
        let mut is_first_stable = false;
        for &attempt in attempts {
            let tried = &self.attempts[attempt];
            if tried.outcome == Outcome::Refused {
                continue;
            }
            let is_own = |at: &AttemptIx| self.attempts[*at].session == tried.session;
            if tried.qos == QoS::ExactlyOnce
                && !self.sessions[tried.session].doubtful
                && taken.iter().any(|taken| taken.from.iter().all(is_own))
            {
                why = "a second time, though it was published at QoS 2".to_owned();
                continue;
            }
            match self.check_attempt(session, attempt, delivery) {
                Err(reason) => why = reason,
                Ok(true) if !is_first_stable => {
                    is_first_stable = true;
                    perhaps.insert(0, attempt);
                }
                Ok(_) => perhaps.push(attempt),
            }
        }
        let mut sources: Vec<&[AttemptIx]> = taken.iter().map(|taken| &*taken.from).collect();
        sources.push(&perhaps);
        let is_possible = !perhaps.is_empty() && matching(&sources, &mut Vec::new());
        if is_possible { Ok(perhaps) } else { Err(why) }
    }

    /// Whether a delivery may come from an attempt; whether its subscriptions were stable then.
    fn check_attempt(
        &self,
        session: SessionIx,
        attempt: AttemptIx,
        delivery: &Delivery<'_>,
    ) -> Result<bool, String> {
        if let Fate::Refuse(code) = self.attempts[attempt].fate {
            return Err(format!("it was refused by {code:?}"));
        }
        self.check_form(attempt, delivery)?;
        let is_stable = self.check_grant(session, attempt, delivery)?;
        match self.overtaken(session, attempt, delivery.qos) {
            None => Ok(is_stable),
            Some(other) => {
                let other = self.attempts[other].uid;
                Err(format!("out of order: message {other} of its publisher was sent before"))
            }
        }
    }

    /// A later attempt of the same publisher that was delivered before this one, though it may not.
    fn overtaken(&self, session: SessionIx, attempt: AttemptIx, qos: QoS) -> Option<AttemptIx> {
        let tried = &self.attempts[attempt];
        let (last_qos0, last) = *self.sessions[session].order.get(&tried.session)?;
        if tried.is_will || self.is_repeated(tried.uid) {
            return None;
        }
        // QoS 0 may overtake where sockets or windows are full, but is never overtaken.
        let bound = if qos == QoS::AtMostOnce { last.max(last_qos0) } else { last };
        (bound > attempt).then_some(bound)
    }

    /// Whether a message was published more than once, so that nobody can tell its copies apart.
    pub(super) fn is_repeated(&self, uid: Uid) -> bool {
        self.by_uid[uid as usize].len() > 1
    }

    /// A session has that message; with its QoS if its place in the order is known.
    fn take_live(&mut self, session: SessionIx, from: Vec<AttemptIx>, qos: Option<QoS>) {
        let Self { attempts, sessions, .. } = self;
        let state = &mut sessions[session];
        let attempt = from[0];
        let uid = attempts[attempt].uid;
        state.taken.push(Taken { uid, from });
        state.musts.retain(|must| attempts[*must].uid != uid);
        if attempts[attempt].is_will || self.by_uid[uid as usize].len() > 1 {
            return;
        }
        let order = state.order.entry(attempts[attempt].session).or_default();
        match qos {
            None => {}
            Some(QoS::AtMostOnce) => order.0 = attempt,
            Some(QoS::AtLeastOnce | QoS::ExactlyOnce) => order.1 = attempt,
        }
    }

    /// Topic, payload and expiry are what they should be.
    pub(super) fn check_form(
        &self,
        attempt: AttemptIx,
        delivery: &Delivery<'_>,
    ) -> Result<(), String> {
        let Some(content) = self.passed(attempt) else {
            return Err("it was refused".to_owned());
        };
        let message = delivery.message;
        if message.topic != content.topic || message.payload != content.payload {
            return Err(format!("{message:?} is not {content:?}"));
        }
        let tried = &self.attempts[attempt];
        if tried.is_will && tried.expires_at == Millis::NEVER {
            return Ok(()); // nobody but the worker knows when it was published
        }
        let remaining = remaining(self.now, tried.expires_at);
        if tried.expires_at <= self.now {
            return Err("it has expired".to_owned());
        }
        if delivery.expiry_seconds != remaining {
            return Err(format!("expiry {:?}, not {remaining:?}", delivery.expiry_seconds));
        }
        Ok(())
    }

    /// QoS, RETAIN and Subscription Identifiers follow from the subscriptions that match; whether
    /// these did not change while the message passed.
    fn check_grant(
        &self,
        session: SessionIx,
        attempt: AttemptIx,
        delivery: &Delivery<'_>,
    ) -> Result<bool, String> {
        let Some(content) = self.passed(attempt) else {
            return Err("it was refused".to_owned());
        };
        let tried = &self.attempts[attempt];
        let to = tried.done.unwrap_or(self.step);
        let possible = self.subscriptions(session, attempt, tried.first_handed, to, false);
        let sure = self.subscriptions(session, attempt, tried.first_handed, to, true);
        let Some(at_most) = possible.iter().map(|it| it.options.qos.min(content.qos)).max() else {
            return Err("no subscription matches".to_owned());
        };
        let at_least = sure.iter().map(|it| it.options.qos.min(content.qos)).max();
        if delivery.qos > at_most || at_least.is_some_and(|least| delivery.qos < least) {
            return Err(format!("{:?}, not {at_least:?} to {at_most:?}", delivery.qos));
        }
        let may_retain = content.retain && possible.iter().any(|it| it.options.retain_as_published);
        let must_retain = content.retain && sure.iter().any(|it| it.options.retain_as_published);
        if delivery.retain && !may_retain || !delivery.retain && must_retain {
            return Err(format!("RETAIN {}", delivery.retain));
        }
        let mut left: Vec<u32> = delivery.subscription_ids.to_vec();
        for it in sure.iter().filter(|it| it.options.identifier != 0) {
            match left.iter().position(|id| *id == it.options.identifier) {
                Some(at) => left.remove(at),
                None => return Err(format!("identifier {} is missing", it.options.identifier)),
            };
        }
        let is_possible = |id: &u32| possible.iter().any(|it| it.options.identifier == *id);
        let is_stable = sure.len() == possible.len();
        if is_stable && !left.is_empty() || !left.iter().all(is_possible) {
            return Err(format!("identifiers {:?}", delivery.subscription_ids));
        }
        Ok(is_stable)
    }

    /// The subscriptions by which a session gets a message that passed between `from` and `to`:
    /// those that were there all the time, or those that may have been there at some time.
    pub(super) fn subscriptions(
        &self,
        session: SessionIx,
        attempt: AttemptIx,
        from: Step,
        to: Step,
        sure: bool,
    ) -> Vec<&Subscription> {
        let Some(content) = self.passed(attempt) else {
            return Vec::new();
        };
        let state = &self.sessions[session];
        let is_own = self.attempts[attempt].client == state.client
            && !self.clients[state.client].id.is_empty()
            || self.attempts[attempt].session == session;
        let is_own = is_own && (sure || !self.attempts[attempt].is_delayed);
        state
            .subscriptions
            .iter()
            .filter(|it| if sure { it.is_sure(from, to) } else { it.is_possible(from, to) })
            .filter(|it| !(is_own && it.options.no_local)) // [MQTT-3.8.3-3]
            .filter(|it| super::matches(&it.filter, &content.topic))
            .collect()
    }

    /// The QoS at which a session surely gets a message, at least; none if it need not get it.
    pub(super) fn sure_qos(
        &self,
        attempt: AttemptIx,
        session: SessionIx,
        from: Step,
        to: Step,
    ) -> Option<QoS> {
        let state = &self.sessions[session];
        if !self.is_alive(session) || state.began >= from {
            return None;
        }
        let qos = self.passed(attempt)?.qos;
        let sure = self.subscriptions(session, attempt, from, to, true);
        sure.iter().map(|it| it.options.qos.min(qos)).max()
    }
}

/// A live delivery, with the attempts that it may come from.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(super) uid: Uid,
    from: Vec<AttemptIx>,
}

/// Whether each delivery can come from an attempt of its own.
fn matching(sources: &[&[AttemptIx]], used: &mut Vec<AttemptIx>) -> bool {
    let Some((first, others)) = sources.split_first() else {
        return true;
    };
    for attempt in *first {
        if used.contains(attempt) {
            continue;
        }
        used.push(*attempt);
        if matching(others, used) {
            return true;
        }
        used.pop();
    }
    false
}

/// Message Expiry Interval that is sent on [MQTT-3.3.2-6].
fn remaining(now: Millis, expires_at: Millis) -> Option<u32> {
    if expires_at == Millis::NEVER {
        return None;
    }
    Some(u32::try_from(expires_at.since(now).div_ceil(1000)).unwrap().max(1))
}
