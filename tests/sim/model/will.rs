//! Wills: published once, never, or perhaps, and when [MQTT 3.1.2.5, 3.1.3.2.2].
//! What must not live here: why a connection was lost.

use wasmqtt_core::hook::AccessAction;
use wasmqtt_core::time::Millis;

use super::{Attempt, AttemptIx, Model, Outcome, Phase, SessionIx, WillFacts};

/// A Will whose connection is lost and whose delay runs.
#[derive(Debug)]
pub(crate) struct Delayed {
    will: WillFacts,
    due: Millis,
    /// Due since its session ends then, which may be later than the model knows.
    is_by_expiry: bool,
    /// Set once it may have been published.
    attempt: Option<AttemptIx>,
    /// A CONNECT that was never answered may have cancelled it.
    maybe_cancelled: bool,
}

impl Model {
    /// A connection with a Will is lost.
    pub(super) fn on_lost_will(&mut self, session: SessionIx, will: WillFacts, ends: bool) {
        if ends || will.delay_seconds == 0 {
            self.publish_will(session, &will, true);
            return;
        }
        self.cover.hit("will delayed");
        let expiry_seconds = self.sessions[session].expiry_seconds;
        let delay_seconds = if expiry_seconds == u32::MAX {
            will.delay_seconds
        } else {
            will.delay_seconds.min(expiry_seconds)
        };
        let due = self.now.plus_seconds(u64::from(delay_seconds));
        let is_by_expiry = delay_seconds < will.delay_seconds;
        let client = self.sessions[session].client;
        let maybe_cancelled = self.links.iter().any(|other| {
            other.client == client && other.phase == Phase::Connecting && other.refused.is_none()
        });
        let delayed = Delayed { will, due, is_by_expiry, attempt: None, maybe_cancelled };
        self.sessions[session].will = Some(delayed);
        if self.sessions[session].doubtful {
            self.fire_will(session, false); // a clean start may be on its way, and end the session
        }
    }

    fn publish_will(&mut self, session: SessionIx, will: &WillFacts, is_sure: bool) -> AttemptIx {
        let client = self.sessions[session].client;
        let content = &will.content;
        let fate = self.judge.fate(&self.clients[client].name, AccessAction::Will, content);
        self.attempt(Attempt {
            uid: content.uid,
            client,
            session,
            is_will: true,
            is_delayed: false,
            packet_id: None,
            qos: content.qos,
            is_repetition: false,
            fate,
            expires_at: Millis::NEVER,
            first_handed: self.step,
            handed: self.step,
            done: None,
            settled: None,
            outcome: Outcome::Open,
            is_sure,
        })
    }

    /// The Will of a session may be published from here on: its time has come, or its session is
    /// over or may be.
    pub(super) fn fire_will(&mut self, session: SessionIx, is_over: bool) {
        let Some(mut delayed) = self.sessions[session].will.take() else {
            return;
        };
        let is_sure = !delayed.maybe_cancelled && (is_over || delayed.due <= self.now);
        match delayed.attempt {
            None => {
                let Delayed { will, .. } = &delayed;
                delayed.attempt = Some(self.publish_will(session, will, is_sure));
                self.cover.hit("delayed will fired");
            }
            Some(attempt) => self.attempts[attempt].is_sure |= is_sure,
        }
        if !is_over {
            self.sessions[session].will = Some(delayed);
        }
    }

    /// A CONNECT that may come through may cancel a Will that waits, or fire it.
    pub(super) fn doubt_will(&mut self, session: SessionIx, clean: bool) {
        let Some(delayed) = &mut self.sessions[session].will else {
            return;
        };
        if clean {
            return self.fire_will(session, false);
        }
        delayed.maybe_cancelled = true;
        if let Some(attempt) = delayed.attempt
            && self.attempts[attempt].settled.is_none()
        {
            self.attempts[attempt].is_sure = false;
        }
    }

    /// The client is back in time: the Will is not published [MQTT-3.1.3-9].
    pub(super) fn cancel_will(&mut self, session: SessionIx) {
        if let Some(delayed) = self.sessions[session].will.take()
            && delayed.attempt.is_none()
        {
            self.cover.hit("delayed will cancelled");
        }
    }

    /// When the Will of a session is published at the latest.
    fn will_latest(&self, session: SessionIx) -> Millis {
        let state = &self.sessions[session];
        match &state.will {
            None => Millis::NEVER,
            Some(delayed) if !delayed.is_by_expiry => delayed.due,
            Some(_) if !state.rested => Millis::NEVER,
            Some(_) => state.touched_at.plus_seconds(u64::from(state.expiry_seconds)),
        }
    }

    /// Whether an attempt is a Will that could have been published and need not have been.
    pub(super) fn may_fire_later(&self, attempt: AttemptIx) -> bool {
        let state = &self.attempts[attempt];
        let delayed = self.sessions[state.session].will.as_ref();
        state.is_will
            && delayed.is_some_and(|it| it.attempt == Some(attempt))
            && self.will_latest(state.session) > self.now
    }

    /// Every worker looked at the clock: Wills that are due are published.
    pub(super) fn settle_wills(&mut self) {
        for session in self.living().collect::<Vec<_>>() {
            if self.will_latest(session) <= self.now {
                self.sessions[session].will = None;
            }
        }
    }

    /// Time goes on: Wills may come due.
    pub(crate) fn on_time(&mut self) {
        self.fire_delayed();
        for session in self.living().collect::<Vec<_>>() {
            let state = &self.sessions[session];
            if state.will.as_ref().is_some_and(|it| it.due <= self.now) {
                self.fire_will(session, false);
            }
        }
    }
}
