//! Retained messages for new subscriptions, a slice at a time: between two slices everybody else
//! has a turn, and no slice is made before the last one has left.
//!
//! A slice is what is retained when it is made. So a topic that is set or cleared meanwhile comes
//! as it was before or as it is after, and then as it is published: the last value is right.
//! What must not live here: which subscriptions call for them (`subscribe`).

use std::sync::Arc;

use crate::action::Shell;
use crate::ids::SessionSlot;
use crate::limits::Limits;
use crate::message::{QoS, SharedMessage};
use crate::retained::Room;
use crate::router::TenantShared;
use crate::session::{Queued, Replay, SessionState};
use crate::store::{Op, SubscriptionOptions};
use crate::time::Millis;
use crate::topic::TopicFilter;

use super::Worker;

impl<S: Shell> Worker<S> {
    /// Whether [`crate::event::Event::Replay`] is called for.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        !self.replaying.is_empty()
    }

    /// Begins to send what is retained to those subscriptions of a session.
    pub(super) fn begin_replays(
        &mut self,
        now: Millis,
        place: SessionSlot,
        asked: Vec<(TopicFilter, SubscriptionOptions)>,
        shell: &mut S,
    ) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let Some(tenant) = self.shared.tenant(session.state.tenant) else {
            return;
        };
        let beginning = tenant.retained().cursor();
        let replays = &mut session.state.replays;
        replays.retain(|replay| asked.iter().all(|(filter, _)| *filter != replay.filter));
        for (filter, options) in asked {
            replays.push(Replay { filter, options, cursor: beginning.clone() });
        }
        self.replay_slice(now, place, shell);
    }

    /// A subscription has other options: the rest of its replay, if there is one, has them too.
    pub(super) fn change_replay(
        &mut self,
        place: SessionSlot,
        filter: &TopicFilter,
        options: SubscriptionOptions,
    ) {
        if let Some(session) = self.sessions.get_mut(place) {
            let replays = session.state.replays.iter_mut();
            for replay in replays.filter(|replay| replay.filter == *filter) {
                replay.options = options;
            }
        }
    }

    /// Makes a slice for each session that waits for one.
    pub(super) fn handle_replay(&mut self, now: Millis, shell: &mut S) {
        for place in std::mem::take(&mut self.replaying) {
            if let Some(session) = self.sessions.get_mut(place) {
                session.is_replaying = false;
            }
            self.replay_slice(now, place, shell);
        }
    }

    /// Has a session wait for its next slice, if there is one and all before it has left.
    pub(super) fn go_on_replaying(&mut self, place: SessionSlot, shell: &mut S) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let Some(live) = &session.live else { return };
        if !session.is_replaying
            && !session.state.replays.is_empty()
            && session.state.outbound.queued() == 0
            && !shell.is_congested(&live.link)
        {
            session.is_replaying = true;
            self.replaying.push(place);
        }
    }

    fn replay_slice(&mut self, now: Millis, place: SessionSlot, shell: &mut S) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let Some(live) = &session.live else { return };
        let state = &mut session.state;
        if state.replays.is_empty() || state.outbound.queued() > 0 || shell.is_congested(&live.link)
        {
            return; // goes on when that has changed
        }
        let Some(tenant) = self.shared.tenant(state.tenant) else {
            return;
        };
        let mut slice = next_slice(now, state, &tenant, &self.limits);
        if state.is_durable() {
            let session = state.id;
            self.store_replay(session, &mut slice);
        }
        self.queue_all(place, slice, shell);
        self.drain(now, place, shell);
        self.go_on_replaying(place, shell);
    }

    /// Retained messages for a durable session are stored for it like any others.
    fn store_replay(&mut self, session: crate::ids::SessionId, slice: &mut [Queued]) {
        for queued in slice.iter_mut().filter(|queued| queued.qos > QoS::AtMostOnce) {
            let id = self.message_id();
            let message = Arc::clone(&queued.message);
            self.commits.push(Op::Message { id, message });
            self.commits.push(Op::Enqueue { session, message: id, qos: queued.qos });
            queued.id = Some(id);
        }
    }
}

/// The next messages of a session's replays; those that are complete are gone.
fn next_slice(
    now: Millis,
    state: &mut SessionState,
    tenant: &TenantShared,
    limits: &Limits,
) -> Vec<Queued> {
    let messages_max = limits.replay_messages_max.min(limits.queue_messages_max);
    let bytes_max = limits.replay_bytes_max.min(limits.queue_bytes_max);
    let (mut slice, mut bytes) = (Vec::new(), 0);
    let mut places_left = limits.replay_places_max;
    let mut complete = 0;
    for Replay { filter, options, cursor } in &mut state.replays {
        let take = |message: &SharedMessage| {
            let has_room = slice.is_empty() || bytes + message.size() <= bytes_max;
            if slice.len() >= messages_max || !has_room {
                return Room::None;
            }
            bytes += message.size();
            slice.push(Queued {
                message: Arc::clone(message),
                id: None,
                qos: message.qos.min(options.qos),
                retain: true, // [MQTT-3.3.1-8]
                subscription_ids: (options.identifier != 0)
                    .then(|| Box::from([options.identifier])),
                share: None,
            });
            Room::Taken
        };
        if !tenant.retained().replay(filter, now, cursor, &mut places_left, take) {
            break;
        }
        complete += 1;
        if places_left == 0 {
            break;
        }
    }
    state.replays.drain(..complete);
    slice
}
