//! Retained messages: what may be the last of a topic, and what a new subscriber gets [MQTT 3.3.1.3].
//! What must not live here: subscriptions.

use wasmqtt_core::action::Delivery;
use wasmqtt_core::limits::Limits;
use wasmqtt_core::message::QoS;
use wasmqtt_core::retained::Retained;
use wasmqtt_core::store::SubscriptionOptions;

use super::{AttemptIx, Model, Outcome, SessionIx, Step};
use crate::hooks::Fate;
use crate::packet::{Uid, uid_of};

/// A topic that messages were retained for.
#[derive(Debug, Default)]
pub(crate) struct Topic {
    /// What it was when the model last could look.
    base: Option<AttemptIx>,
    /// When that was.
    looked: Step,
    /// What may have been retained, or cleared, since.
    pub(super) writes: Vec<AttemptIx>,
}

/// A retained message that a subscription calls for.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The subscription's, where it is known.
    filter: Option<String>,
    pub(super) attempt: AttemptIx,
    pub(super) qos: QoS,
    identifier: u32,
    pub(super) is_sure: bool,
    pub(super) from: Step,
    pub(super) settled: Option<Step>,
    pub(super) delivered: bool,
}

impl Replay {
    /// Whether both look the same on the wire.
    pub(super) fn is_twin(&self, other: &Self) -> bool {
        (self.attempt, self.qos, self.identifier) == (other.attempt, other.qos, other.identifier)
    }
}

/// A subscription whose retained messages come a slice at a time: what is retained meanwhile may
/// come too.
#[derive(Debug)]
pub(crate) struct Replaying {
    filter: String,
    options: SubscriptionOptions,
    from: Step,
}

impl Replaying {
    fn is_of(&self, qos: QoS, identifiers: &[u32]) -> bool {
        let has_identifier = match identifiers {
            [] => self.options.identifier == 0,
            ids => *ids == [self.options.identifier],
        };
        has_identifier && qos <= self.options.qos
    }
}

/// A replay's place in its session, and its attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplayIx(pub(super) usize, pub(super) AttemptIx);

impl Model {
    /// What may be retained for a topic at some time between: none is "nothing".
    fn candidates(&self, topic: &str, from: Step, to: Step) -> Vec<Option<AttemptIx>> {
        let Some(state) = self.topics.get(topic) else {
            return vec![None];
        };
        let is_write = |at: &&AttemptIx| {
            self.attempts[**at].outcome != Outcome::Refused && self.attempts[**at].handed <= to
        };
        let writes: Vec<AttemptIx> = state.writes.iter().filter(is_write).copied().collect();
        let is_over = |done: Step| {
            // Something surely came after it, and was done before.
            writes.iter().any(|other| {
                let other = &self.attempts[*other];
                other.outcome == Outcome::Accepted
                    && done < other.first_handed
                    && other.done.is_some_and(|done| done < from)
            })
        };
        let mut found = Vec::new();
        if !is_over(state.looked) {
            found.push(state.base.filter(|base| self.keeps(*base)));
        }
        for write in &writes {
            let done = self.attempts[*write].done.unwrap_or(Step::MAX);
            if !is_over(done) {
                found.push(Some(*write).filter(|write| self.keeps(*write)));
            }
        }
        found
    }

    /// Whether an attempt retains something; an empty payload clears [MQTT-3.3.1-6].
    fn keeps(&self, attempt: AttemptIx) -> bool {
        self.passed(attempt).is_some_and(|content| !content.payload.is_empty())
    }

    /// A subscription was acknowledged: retained messages that match are due [MQTT-3.3.1-9].
    pub(super) fn expect_replays(
        &mut self,
        session: SessionIx,
        filter: &str,
        options: SubscriptionOptions,
        handed: Step,
        is_sure: bool,
    ) {
        let topics: Vec<String> =
            self.topics.keys().filter(|topic| super::matches(filter, topic)).cloned().collect();
        let replaying = Replaying { filter: filter.to_owned(), options, from: handed };
        self.sessions[session].replaying.push(replaying);
        for topic in topics {
            let candidates = self.candidates(&topic, handed, self.step);
            let is_only = candidates.len() == 1;
            for attempt in candidates.into_iter().flatten() {
                let state = &self.attempts[attempt];
                let Some(content) = self.passed(attempt) else {
                    continue;
                };
                if state.expires_at <= self.now && !state.is_will {
                    continue;
                }
                let payload_bytes_max = self.facts(session).payload_bytes_max;
                let is_done = state.done.is_some_and(|done| done < handed);
                let is_sure = is_sure
                    && !self.looks_retained(attempt, session)
                    && is_only
                    && is_done
                    && !self.sessions[session].doubtful
                    && content.payload.len() <= payload_bytes_max;
                let qos = content.qos.min(options.qos);
                let replay = Replay {
                    filter: Some(filter.to_owned()),
                    attempt,
                    qos,
                    identifier: options.identifier,
                    is_sure,
                    from: self.step,
                    settled: None,
                    delivered: false,
                };
                self.sessions[session].replays.push(replay);
            }
        }
    }

    /// Whether a live copy may look like a replay, so that nobody can tell which one is missing.
    pub(super) fn looks_retained(&self, attempt: AttemptIx, session: SessionIx) -> bool {
        let Some(content) = self.passed(attempt).filter(|content| content.retain) else {
            return false;
        };
        self.sessions[session]
            .subscriptions
            .iter()
            .any(|it| it.options.retain_as_published && super::matches(&it.filter, &content.topic))
    }

    /// Something else may be retained for a topic from here on: nobody can say which of both a
    /// replay that goes on finds.
    pub(super) fn doubt_replays_of(&mut self, topic: &str) {
        let Self { attempts, sessions, .. } = self;
        for replay in sessions.iter_mut().flat_map(|session| &mut session.replays) {
            if let Fate::Pass(content) = &attempts[replay.attempt].fate
                && content.topic == topic
            {
                replay.is_sure &= replay.delivered;
            }
        }
    }

    /// A subscription is made anew, or removed: its replay ends or begins again.
    pub(super) fn doubt_replays_by(&mut self, session: SessionIx, filter: &str) {
        for replay in &mut self.sessions[session].replays {
            if replay.filter.as_deref() == Some(filter) {
                replay.is_sure &= replay.delivered;
            }
        }
    }

    /// A subscription has other options from here on, and so has the rest of its replay.
    pub(super) fn change_replay(
        &mut self,
        session: SessionIx,
        filter: &str,
        options: SubscriptionOptions,
    ) {
        let replaying = &mut self.sessions[session].replaying;
        let same = replaying.iter().filter(|it| it.filter == filter).map(|it| it.from);
        for from in same.collect::<Vec<_>>() {
            replaying.push(Replaying { filter: filter.to_owned(), options, from });
        }
    }

    /// How many messages replays may still find.
    pub(super) fn still_to_replay(&self, session: SessionIx) -> usize {
        let found = |it: &Replaying| {
            self.topics.keys().filter(|topic| super::matches(&it.filter, topic)).count()
        };
        self.sessions[session].replaying.iter().map(found).sum()
    }

    /// The replay that a delivery may be of what was retained after its subscription was
    /// acknowledged.
    pub(super) fn late_replay(
        &mut self,
        session: SessionIx,
        uid: Uid,
        delivery: &Delivery<'_>,
    ) -> Option<ReplayIx> {
        let topic = delivery.message.topic;
        let is_it = |it: &&Replaying| {
            it.is_of(delivery.qos, delivery.subscription_ids) && super::matches(&it.filter, topic)
        };
        let state = &self.sessions[session];
        let from = state.replaying.iter().filter(is_it).map(|it| it.from).min()?;
        let calls = state.replaying.iter().filter(is_it).count();
        let attempt = self
            .candidates(topic, from, self.step)
            .into_iter()
            .flatten()
            .find(|attempt| self.attempts[*attempt].uid == uid)?;
        let identifier = delivery.subscription_ids.first().copied().unwrap_or(0);
        let twin = (attempt, delivery.qos, identifier);
        let is_twin = |it: &&Replay| (it.attempt, it.qos, it.identifier) == twin;
        let came = state.replays.iter().filter(is_twin).filter(|it| it.delivered);
        let content = self.passed(attempt)?;
        if came.filter(|it| it.from >= from).count() >= calls
            || content.qos < delivery.qos
            || self.check_form(attempt, delivery).is_err()
        {
            return None;
        }
        self.cover.hit("replay of what was retained meanwhile");
        let state = &mut self.sessions[session];
        state.replays.push(Replay {
            filter: None,
            attempt,
            qos: delivery.qos,
            identifier,
            is_sure: false,
            from: self.step,
            settled: None,
            delivered: false,
        });
        Some(ReplayIx(state.replays.len() - 1, attempt))
    }

    /// The replay that a delivery may be.
    pub(super) fn replay(
        &self,
        session: SessionIx,
        uid: Uid,
        delivery: &Delivery<'_>,
    ) -> Option<ReplayIx> {
        let replays = &self.sessions[session].replays;
        let is_it = |(_, replay): &(usize, &Replay)| {
            !replay.delivered
                && self.attempts[replay.attempt].uid == uid
                && replay.qos == delivery.qos
                && self.check_form(replay.attempt, delivery).is_ok()
                && match delivery.subscription_ids {
                    [] => replay.identifier == 0,
                    ids => *ids == [replay.identifier],
                }
        };
        let found = replays.iter().enumerate().filter(is_it);
        let (index, replay) = found.min_by_key(|(_, replay)| !replay.is_sure)?; // the oldest
        Some(ReplayIx(index, replay.attempt))
    }

    /// What was retained is about to be forgotten: what replays that go on may have found of it by
    /// now, and not sent yet, is noted.
    fn keep_late_replays(&mut self) {
        for session in self.living().collect::<Vec<_>>() {
            let mut found: Vec<Replay> = Vec::new();
            for replaying in &self.sessions[session].replaying {
                let is_it = |topic: &&String| super::matches(&replaying.filter, topic);
                for topic in self.topics.keys().filter(is_it) {
                    let candidates = self.candidates(topic, replaying.from, self.step);
                    for attempt in candidates.into_iter().flatten() {
                        let Some(content) = self.passed(attempt) else { continue };
                        let replay = Replay {
                            filter: Some(replaying.filter.clone()),
                            attempt,
                            qos: content.qos.min(replaying.options.qos),
                            identifier: replaying.options.identifier,
                            is_sure: false,
                            from: self.step,
                            settled: None,
                            delivered: false,
                        };
                        let known = self.sessions[session].replays.iter().chain(&found);
                        let open = known.filter(|it| !it.delivered && it.is_twin(&replay));
                        if open.count() < self.sessions[session].replaying.len() {
                            found.push(replay);
                        }
                    }
                }
            }
            self.sessions[session].replays.extend(found);
        }
    }

    /// Nothing is on its way: what is retained is one of the candidates, and the base from here on.
    pub(super) fn settle_retained(&mut self, retained: &Retained) {
        self.keep_late_replays();
        let topics: Vec<String> = self.topics.keys().cloned().collect();
        if retained.iter().any(|message| !self.topics.contains_key(message.topic())) {
            self.fail("something is retained for a topic that nobody used".to_owned());
        }
        for topic in topics {
            let message = retained.get(&topic);
            let found = message.and_then(|message| uid_of(message.properties()));
            let expires_at = message.map(|message| message.expires_at);
            let candidates = self.candidates(&topic, self.step, self.step);
            let base = candidates.iter().find(|it| {
                it.map(|at| self.attempts[at].uid) == found
                    && it.map(|at| self.attempts[at].expires_at) == expires_at
            });
            let is_expired = |at: &Option<AttemptIx>| {
                at.is_some_and(|at| {
                    self.attempts[at].expires_at <= self.now || self.attempts[at].is_will
                })
            };
            let base = match base {
                Some(base) => *base,
                None if found.is_none() && candidates.iter().any(is_expired) => None,
                None => {
                    let expected: Vec<Option<Uid>> =
                        candidates.iter().map(|it| it.map(|at| self.attempts[at].uid)).collect();
                    self.fail(format!("{found:?} is retained for {topic}, not {expected:?}"));
                    return;
                }
            };
            let looked = self.step;
            let Some(state) = self.topics.get_mut(&topic) else {
                continue;
            };
            let is_changed = base != state.base;
            let writes = state.writes.iter().filter(|write| self.unsettled.contains(write));
            let writes = writes.copied().collect();
            *state = Topic { base, looked, writes };
            if let Some(base) = base.filter(|_| is_changed) {
                self.check_seen(base);
            }
        }
    }

    /// A message is retained from here on: whoever subscribed while it was on its way has it too,
    /// as a live message or as a retained one.
    fn check_seen(&mut self, attempt: AttemptIx) {
        let state = &self.attempts[attempt];
        let Some(content) = self.passed(attempt) else {
            return;
        };
        let (from, to) = (state.first_handed, state.done.unwrap_or(self.step));
        let Limits { queue_messages_max, queue_bytes_max, .. } = self.limits;
        let is_bounded = queue_messages_max < 100 || queue_bytes_max < 10_000;
        if state.outcome != Outcome::Accepted || is_bounded {
            return;
        }
        let is_expired = state.expires_at <= self.now;
        for session in self.living().collect::<Vec<_>>() {
            let it = self.sessions[session]
                .subscriptions
                .iter()
                .find(|it| super::matches(&it.filter, &content.topic) && it.came_up(from, to));
            let is_too_large = content.payload.len() > self.facts(session).payload_bytes_max;
            let is_own = state.client == self.sessions[session].client;
            if it.is_none() || is_too_large || is_expired || is_own || !self.is_alive(session) {
                continue;
            }
            let has_replay = |replay: &Replay| {
                self.attempts[replay.attempt].uid == state.uid && replay.delivered
            };
            let was_open = self.sessions[session].link.is_some_and(|link| {
                let link = &self.links[link];
                link.lived < from && link.congested < from
            });
            if self.is_idle(session)
                && was_open
                && !self.has_got(session, state.uid)
                && !self.sessions[session].replays.iter().any(has_replay)
            {
                let (uid, topic) = (state.uid, &content.topic);
                let why = format!("session {session} subscribed to {topic} and never sees {uid}");
                return self.fail(why);
            }
        }
    }
}
