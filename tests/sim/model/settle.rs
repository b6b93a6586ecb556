//! What must be true when nothing is on its way: all that is due has come, nothing is left over.
//! What must not live here: what may happen in between.

use wasmqtt_core::ids::MessageId;
use wasmqtt_core::limits::QueuePolicy;
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::DropReason;
use wasmqtt_core::retained::Retained;
use wasmqtt_core::time::Millis;

use super::{AttemptIx, Model, Outcome, Phase, SessionIx, SessionState, Step};
use crate::hooks::Fate;
use crate::shell::LinkIx;
use crate::store::Store;

impl Model {
    /// A worker has handled an event of that link: what had to happen at once has happened.
    pub(crate) fn check_link(&mut self, link: LinkIx) {
        let state = &self.links[link];
        if self.must_have_ended_exchange(link) {
            self.fail(format!("link {link} must be refused for what it sent"));
        } else if let Some(code) = state.must_close {
            self.fail(format!("link {link} must be closed by {code:?}"));
        } else if state.phase != Phase::Live {
        } else if !state.duplicates.is_empty() {
            self.fail(format!("link {link}: no PUBREC for a duplicate"));
        } else if !state.releases_due.is_empty() {
            self.fail(format!("link {link}: no PUBREL for a PUBREC"));
        }
    }

    /// Nothing is on its way between or in the workers, and all of them looked at the clock.
    pub(crate) fn settle(&mut self, retained: &Retained, subscriptions: usize, store: &Store) {
        self.cover.hit("settled");
        self.settled = self.step;
        self.settle_wills();
        self.expire_sessions();
        self.settle_attempts(store);
        self.settle_retained(retained);
        for link in 0..self.links.len() {
            self.settle_exchange(link);
            if self.is_live(link) {
                self.settle_link(link);
            }
        }
        for session in self.living().collect::<Vec<_>>() {
            self.settle_session_queue(session);
        }
        self.settle_groups();
        if let Some(why) = self.store_differs(store) {
            self.fail(why);
        }
        if let Some(held) = self.subscriptions_held()
            && held != subscriptions
            && !self.unknown_session.contains(&true)
        {
            self.fail(format!("{subscriptions} subscriptions are routed, not {held}"));
        }
    }

    /// As long as no batch has failed, the store holds the sessions as the workers do.
    fn store_differs(&self, store: &Store) -> Option<String> {
        if store.failures > 0 {
            return None;
        }
        if let Some(stray) = &store.stray {
            return Some(format!("the store was never given what {stray:?} is about"));
        }
        for session in self.living() {
            let SessionState { client, expiry_seconds, .. } = self.sessions[session];
            let facts = &self.clients[client];
            if !self.is_alive(session) || facts.id.is_empty() || self.unknown_session[client] {
                continue;
            }
            let mut kept = store.of_client(&facts.id);
            let (first, second) = (kept.next(), kept.next());
            if second.is_some() || first.is_some() != (expiry_seconds > 0) {
                return Some(format!("session {session}: the store keeps {first:?} {second:?}"));
            }
            let Some(kept) = first else { continue };
            if kept.expiry_seconds != expiry_seconds {
                let kept = kept.expiry_seconds;
                return Some(format!("session {session}: the store expires it in {kept} s"));
            }
            for sent in self.sessions[session].in_flight.iter().filter(|sent| sent.released) {
                let is_it = |message: &&MessageId| store.uid(**message) == Some(sent.uid());
                let is_queued = kept.queue.iter().any(|message| is_it(&message));
                if is_queued && !kept.received.iter().any(|message| is_it(&message)) {
                    let uid = sent.uid();
                    return Some(format!("the store does not know PUBREC of message {uid}"));
                }
            }
        }
        None
    }

    fn settle_link(&mut self, link: LinkIx) {
        let state = &self.links[link];
        // A message of a group may have been given back before the client was there.
        if state.overrun.is_some_and(|at| state.lived < at) {
            return self.fail(format!("link {link} is not closed though its queue was full"));
        }
        if !state.awaiting.is_empty() {
            let uid = self.attempts[state.awaiting[0]].uid;
            return self.fail(format!("link {link}: message {uid} is never acknowledged"));
        }
        if !state.completes_due.is_empty() || !state.requests.is_empty() {
            return self.fail(format!("link {link}: something is never answered"));
        }
        let allowed = u64::from(self.granted_keep_alive(state.keep_alive_seconds)) * 1500;
        if allowed > 0 && self.now.since(state.last_packet) > allowed {
            return self.fail(format!("link {link} is silent for too long"));
        }
        let twin = self.links.iter().position(|other| {
            other.phase == Phase::Live && other.client == state.client && other.began > state.began
        });
        if let Some(twin) = twin
            && !self.clients[self.links[link].client].id.is_empty()
        {
            self.fail(format!("links {link} and {twin} of one client are both connected"));
        }
    }

    fn settle_attempts(&mut self, store: &Store) {
        let step = self.step;
        for attempt in std::mem::take(&mut self.unsettled) {
            if self.may_fire_later(attempt) {
                self.unsettled.push(attempt);
                continue;
            }
            let state = &mut self.attempts[attempt];
            state.settled = Some(step);
            state.done.get_or_insert(step);
            if matches!(state.fate, Fate::Refuse(_)) {
                state.outcome = Outcome::Refused;
                continue;
            }
            let is_unseen = state.packet_id.is_none();
            // The operation that clears a topic does not say for which message.
            let may_have_failed = match &state.fate {
                Fate::Pass(content) => content.retain && content.payload.is_empty(),
                Fate::Refuse(_) => false,
            };
            let has_failed = store.failed(state.uid) > 0 || may_have_failed && self.store_failed;
            if state.is_sure && is_unseen && !has_failed {
                state.outcome = Outcome::Accepted;
            }
            if self.attempts[attempt].outcome == Outcome::Accepted {
                self.settle_accepted(attempt, is_unseen);
                self.settle_shared(attempt, is_unseen, store);
            }
        }
    }

    /// Everyone who subscribed all the time has it, or will get it.
    fn settle_accepted(&mut self, attempt: AttemptIx, is_unseen: bool) {
        let state = &self.attempts[attempt];
        let (uid, from, expires_at) = (state.uid, state.first_handed, state.expires_at);
        let to = state.done.unwrap_or(self.step);
        let Some(length) = self.passed(attempt).map(|content| content.payload.len()) else {
            return;
        };
        if state.is_repetition && expires_at != Millis::NEVER {
            return; // which attempt was taken nobody saw
        }
        for session in self.living().collect::<Vec<_>>() {
            let Some(at_least) = self.sure_qos(attempt, session, from, to) else {
                continue;
            };
            let is_too_large = length > self.facts(session).payload_bytes_max;
            if is_too_large || self.has_got(session, uid) || expires_at <= self.now {
                continue;
            }
            if self.looks_retained(attempt, session) {
                continue;
            }
            if at_least > QoS::AtMostOnce {
                if is_unseen {
                    self.sessions[session].musts.push(attempt);
                }
                continue;
            }
            let Some(link) = self.sessions[session].link.map(|link| &self.links[link]) else {
                continue;
            };
            let was_open = link.phase == Phase::Live && link.lived < from && link.congested < from;
            let is_dropped = |(at, topic): &(Step, String)| {
                *at >= from && self.passed(attempt).is_some_and(|content| content.topic == *topic)
            };
            let has_dropped = self.sessions[session].drops.iter().any(is_dropped);
            if was_open && !has_dropped && !self.may_have_higher_qos(attempt, session) {
                self.fail(format!("message {uid} at QoS 0 never came to session {session}"));
            }
        }
    }

    fn may_have_higher_qos(&self, attempt: AttemptIx, session: SessionIx) -> bool {
        let state = &self.attempts[attempt];
        let to = state.done.unwrap_or(self.step);
        let possible = self.subscriptions(session, attempt, state.first_handed, to, false);
        let Some(content) = self.passed(attempt) else {
            return true;
        };
        possible.iter().any(|it| it.options.qos.min(content.qos) > QoS::AtMostOnce)
    }

    /// Whether a session's client could be sent something, so that nothing may wait for it.
    pub(super) fn is_idle(&self, session: SessionIx) -> bool {
        let state = &self.sessions[session];
        let Some(link) = state.link else { return false };
        let wire = &self.links[link];
        let counted = state.in_flight.iter().filter(|sent| sent.is_counted(link)).count();
        wire.phase == Phase::Live
            && wire.congested < self.step
            && counted < usize::from(wire.receive_maximum)
            && state.in_flight.len() < usize::from(self.limits.inflight_max)
    }

    fn settle_session_queue(&mut self, session: SessionIx) {
        let is_idle = self.is_idle(session);
        if self.sessions[session].doubtful {
            self.sessions[session].musts.clear();
            return;
        }
        let link = self.sessions[session].link;
        if is_idle
            && let Some(sent) =
                self.sessions[session].in_flight.iter().find(|sent| sent.waits(link))
        {
            let uid = sent.uid();
            self.fail(format!("message {uid} is not sent again to session {session}"));
        }
        self.settle_dues(session, is_idle);
    }

    /// A worker says that it dropped a message since a queue is full, or its reader gone.
    pub(crate) fn on_dropped(&mut self, client_id: &str, topic: &str, reason: DropReason) {
        // Where it was too large for one member of a group the others were full.
        self.on_shared_dropped(topic);
        match reason {
            DropReason::Expired | DropReason::TooLarge => return,
            DropReason::SlowReader => {}
            DropReason::QueueMessages | DropReason::QueueBytes => {
                self.cover.hit("queue overflow");
            }
        }
        let is_it = |session: &SessionIx| {
            let state = &self.sessions[*session];
            match &state.assigned {
                Some(assigned) => assigned == client_id,
                None => self.clients[state.client].id == client_id,
            }
        };
        let Some(session) = self.living().find(is_it) else {
            return;
        };
        // What waited at QoS 0 is lost with its connection, whose end the model knows already.
        let is_detached = reason == DropReason::SlowReader && self.sessions[session].link.is_none();
        // It may have been the queue of the session that was there before, in the same event.
        let is_new = self.sessions[session].began == self.step;
        if !is_detached && !is_new && !self.sessions[session].doubtful && !self.may_be_full(session)
        {
            self.fail(format!("a message for {client_id} is dropped though there is room"));
        }
        let state = &mut self.sessions[session];
        state.drops.push((self.step, topic.to_owned()));
        if let Some(link) = state.link
            && reason.is_by_policy()
            && self.limits.queue_policy == QueuePolicy::Disconnect
        {
            self.cover.hit("disconnected by a full queue");
            self.links[link].overrun = Some(self.step);
        }
    }

    /// Whether so much may wait for a session that its queue is full.
    pub(super) fn may_be_full(&self, session: SessionIx) -> bool {
        let state = &self.sessions[session];
        let is_waiting = |attempt: &AttemptIx| {
            let tried = &self.attempts[*attempt];
            let to = tried.done.unwrap_or(self.step);
            (self.is_repeated(tried.uid) || !self.has_got(session, tried.uid))
                && !self.subscriptions(session, *attempt, tried.first_handed, to, false).is_empty()
        };
        let copies = |attempt: AttemptIx| {
            if self.attempts[attempt].outcome == Outcome::Refused {
                return 0;
            }
            usize::from(is_waiting(&attempt)) + self.shared_copies(session, attempt)
        };
        let all = 0..self.attempts.len();
        let waiting: Vec<AttemptIx> =
            all.flat_map(|attempt| std::iter::repeat_n(attempt, copies(attempt))).collect();
        let replays = state.replays.iter().filter(|replay| !replay.delivered).count()
            + self.still_to_replay(session);
        let bytes: usize =
            waiting.iter().filter_map(|at| self.passed(*at)).map(|it| it.payload.len() + 200).sum();
        waiting.len() + replays > self.limits.queue_messages_max
            || bytes + replays * 300 > self.limits.queue_bytes_max
    }

    /// The end: every client that could be is connected, has read and acknowledged all.
    pub(crate) fn check_end(&mut self) {
        self.check_groups_end();
        for session in self.living().collect::<Vec<_>>() {
            let state = &self.sessions[session];
            if state.doubtful || state.link.is_none() {
                continue;
            }
            if !state.in_flight.is_empty() {
                self.fail(format!("session {session} still has messages in flight"));
            } else if let Some(attempt) = state.musts.first() {
                let uid = self.attempts[*attempt].uid;
                self.fail(format!("message {uid} never came to session {session}"));
            }
        }
    }
}
