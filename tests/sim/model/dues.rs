//! What a session must get and has not got: excused by a full queue or an expiry, or a violation.
//! What must not live here: why it must get it.

use wasmqtt_core::limits::QueuePolicy;
use wasmqtt_core::message::QoS;

use super::{Model, SessionIx, Step};
use crate::packet::Uid;

/// Something that a session should have got by now.
struct Due {
    uid: Uid,
    topic: String,
    /// When a full queue may have dropped it.
    from: Step,
    to: Step,
    /// The same for its twins, which came: nobody can tell which one was dropped.
    twins: Vec<(Step, Step)>,
    /// The replay that it is, by its place in the session.
    replay: Option<usize>,
    is_dropped: bool,
}

impl Model {
    /// Nothing is on its way. Where the client could be sent something, nothing waits for it, and
    /// what is missing was dropped by a full queue: when it came, or later where the policy is
    /// that the oldest gives way.
    pub(super) fn settle_dues(&mut self, session: SessionIx, is_idle: bool) {
        let mut dues = self.due_replays(session, is_idle);
        dues.extend(self.due_messages(session, is_idle));
        let is_oldest = self.limits.queue_policy == QueuePolicy::DropOldest;
        let state = &mut self.sessions[session];
        for with_twins in [false, true] {
            let is_there = |due: &Due, (at, topic): &(Step, String)| {
                let twins = due.twins.iter().copied().filter(|_| with_twins);
                let mut ranges = twins.chain([(due.from, due.to)]);
                !due.is_dropped
                    && due.topic == *topic
                    && ranges.any(|(from, to)| from <= *at && (is_oldest || *at <= to))
            };
            state.drops.retain(|drop| {
                let excused = dues.iter_mut().filter(|due| is_there(due, drop));
                let Some(due) = excused.min_by_key(|due| due.to) else {
                    return true;
                };
                due.is_dropped = true;
                state.excused.push(due.uid);
                false
            });
        }
        for replay in dues.iter().filter(|due| due.is_dropped).filter_map(|due| due.replay) {
            state.replays[replay].is_sure = false;
        }
        if is_idle {
            state.musts.clear();
            state.replaying.clear();
            for replay in &mut state.replays {
                replay.is_sure = false;
            }
        }
        if let Some(due) = dues.iter().find(|due| !due.is_dropped) {
            let uid = due.uid;
            self.fail(format!("message {uid} is lost for session {session}"));
        }
    }

    fn due_replays(&mut self, session: SessionIx, is_idle: bool) -> Vec<Due> {
        let mut dues = Vec::new();
        let link = self.sessions[session].link.map(|link| &self.links[link]);
        let is_open = |from: Step| link.is_some_and(|it| it.lived < from && it.congested < from);
        for (index, replay) in self.sessions[session].replays.iter_mut().enumerate() {
            let attempt = &self.attempts[replay.attempt];
            let to = *replay.settled.get_or_insert(self.step);
            if replay.delivered || !replay.is_sure || attempt.expires_at <= self.now {
                continue;
            }
            let is_due = match replay.qos {
                // It may stand behind others that wait for the window.
                QoS::AtMostOnce => is_open(replay.from) && is_idle,
                QoS::AtLeastOnce | QoS::ExactlyOnce => is_idle,
            };
            if is_due {
                let crate::hooks::Fate::Pass(content) = &attempt.fate else {
                    continue;
                };
                let (uid, topic, from) = (attempt.uid, content.topic.clone(), replay.from);
                let replay = Some(index);
                let twins = Vec::new();
                dues.push(Due { uid, topic, from, to, twins, replay, is_dropped: false });
            } else if replay.qos == QoS::AtMostOnce && !is_open(replay.from) {
                replay.is_sure = false;
            }
        }
        let replays = &self.sessions[session].replays;
        for due in &mut dues {
            let Some(replay) = due.replay.map(|index| &replays[index]) else {
                continue;
            };
            let twins = replays.iter().filter(|other| other.delivered && other.is_twin(replay));
            due.twins = twins.map(|it| (it.from, it.settled.unwrap_or(self.step))).collect();
        }
        dues
    }

    fn due_messages(&mut self, session: SessionIx, is_idle: bool) -> Vec<Due> {
        let mut dues = Vec::new();
        if !is_idle {
            return dues;
        }
        for attempt in self.sessions[session].musts.clone() {
            let state = &self.attempts[attempt];
            if state.expires_at <= self.now {
                self.cover.hit("message expired in a queue");
                continue;
            }
            let Some(content) = self.passed(attempt) else {
                continue;
            };
            let to = state.settled.unwrap_or(self.step);
            let (uid, topic, from) = (state.uid, content.topic.clone(), state.first_handed);
            let (replay, twins) = (None, Vec::new());
            dues.push(Due { uid, topic, from, to, twins, replay, is_dropped: false });
        }
        dues
    }
}
