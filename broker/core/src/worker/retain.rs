//! A message that asks to be retained: kept for those who subscribe later, and seen by those who
//! subscribed while it was on its way.
//!
//! A subscriber finds what is retained when it subscribes, and gets what is published after. The
//! match set of a message that waits for its commit was made before: without a second look, a
//! subscriber that came in between would have neither, and take the old message for the last.
//! What must not live here: when retained messages are replayed (`subscribe`).

use std::sync::Arc;

use crate::action::Shell;
use crate::hook::Denial;
use crate::ids::{ConnSlot, MessageId};
use crate::message::{Message, MessageRef, QoS, SharedMessage};
use crate::reason::ReasonCode;
use crate::router::{MatchSet, Target};
use crate::store::Op;

use super::Worker;
use super::entry::{Entry, Stage};
use super::publish::Refusal;
use super::share::{members, share_id};

impl<S: Shell> Worker<S> {
    pub(super) fn retain(
        &mut self,
        slot: ConnSlot,
        message: MessageRef<'_>,
        kept: &mut Option<SharedMessage>,
    ) -> Result<(), Refusal> {
        let Some(conn) = self.conns.get(slot) else {
            return Ok(());
        };
        let shared = Arc::clone(kept.get_or_insert_with(|| Arc::new(Message::new(message))));
        if message.payload.is_empty() {
            conn.tenant.retained_mut().clear(message.topic); // [MQTT-3.3.1-6]
        } else {
            let set = conn.tenant.retained_mut().set(Arc::clone(&shared), &self.limits.retained);
            if set.is_err() {
                let denial = Denial {
                    code: ReasonCode::QuotaExceeded,
                    reason: Some("the retained messages of this tenant are at their limit".into()),
                };
                return Err(Refusal { denial, is_fault: false });
            }
        }
        if message.qos == QoS::AtMostOnce {
            self.store_retained(slot, &shared);
        }
        Ok(())
    }

    /// Who is to get a message by now and was not when its match set was made. To be called when
    /// it is retained: who subscribes after that finds it.
    ///
    /// A session may have moved meanwhile. What its publisher sent later and waits in line then
    /// goes to where the session was, and so does this, to come before it.
    pub(super) fn missed(
        &mut self,
        slot: ConnSlot,
        message: MessageRef<'_>,
        set: &Arc<MatchSet>,
        shell: &mut S,
    ) -> MatchSet {
        let hint = self.conns.get(slot).and_then(|conn| conn.route);
        let route = self.route(slot, message.topic, hint, shell).ok();
        match route.and_then(|route| self.routes.get(route)) {
            Some(route) if !Arc::ptr_eq(&route.set, set) => {
                let conn = self.conns.get(slot);
                let place_in = |entry: &Entry, session| match &entry.stage {
                    Stage::Accepted { set, .. } => set.place_of(session),
                    Stage::Hooks(_) | Stage::Refused(_) => None,
                };
                route.set.without(set, |session| {
                    conn?.line.iter().find_map(|entry| place_in(entry, session))
                })
            }
            Some(_) | None => MatchSet::default(),
        }
    }

    /// Stores a message for this worker's part of a match set that was found late; its id.
    pub(super) fn store_late(
        &mut self,
        message: MessageRef<'_>,
        kept: &mut Option<SharedMessage>,
        set: &MatchSet,
    ) -> Option<MessageId> {
        let wants = |target: &&Target| {
            let grant = target.grant(message.qos, message.publisher);
            target.durable && grant.is_some_and(|grant| grant.qos > QoS::AtMostOnce)
        };
        set.of(self.id).iter().find(wants)?;
        let id = self.message_id();
        let shared = kept.get_or_insert_with(|| Arc::new(Message::new(message)));
        let message = Arc::clone(shared);
        self.commits.push(Op::Message { id, message });
        self.enqueue(id, shared.as_ref().as_ref(), set.of(self.id).iter());
        Some(id)
    }

    /// What was committed of a message that could not be retained is undone.
    pub(super) fn take_back(
        &mut self,
        slot: ConnSlot,
        MessageRef { topic, qos, .. }: MessageRef<'_>,
        id: Option<MessageId>,
        (set, chosen): (&MatchSet, &[u32]),
    ) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        if let Some(message) = id {
            for (_, target) in set.iter().filter(|(_, target)| target.durable) {
                let session = target.session;
                self.commits.push(Op::Dequeue { session, message });
            }
            for (group, member) in members(set, chosen).filter(|(_, it)| it.keeps(qos)) {
                let (session, message) = (member.target.session, share_id(message, group, member));
                self.commits.push(Op::Dequeue { session, message });
            }
        }
        let tenant = conn.tenant.id;
        let before = conn.tenant.retained().get(topic).cloned();
        self.commits.push(match before {
            Some(message) => Op::RetainedPut { tenant, message },
            None => Op::RetainedEnd { tenant, topic: topic.into() },
        });
    }
}
