//! Messages that wait for one session: in order, within bounds, and who gives way at a bound.
//! What must not live here: the window of what was sent (`outbound`).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ids::{MessageId, SessionId};
use crate::limits::{Limits, QueuePolicy};
use crate::message::{QoS, SharedMessage};
use crate::reason::DropReason;
use crate::router::Group;

/// The share group that a message came by, and its members that do not take the message.
#[derive(Clone, Debug)]
pub struct Share {
    /// The group.
    pub group: Arc<Group>,
    /// Sessions that had the message; nothing for most.
    pub tried: Option<Box<Vec<SessionId>>>,
}

impl Share {
    /// A message that its group's first choice has yet to get.
    #[must_use]
    pub fn first(group: &Arc<Group>) -> Self {
        Self { group: Arc::clone(group), tried: None }
    }

    /// Sessions that had the message.
    #[must_use]
    pub fn tried(&self) -> &[SessionId] {
        self.tried.as_ref().map_or(&[], |tried| tried)
    }
}

/// A message for one session.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The message.
    pub message: SharedMessage,
    /// Its id in the store, for a durable session.
    pub id: Option<MessageId>,
    /// QoS towards this session.
    pub qos: QoS,
    /// RETAIN towards this session.
    pub retain: bool,
    /// Subscription Identifiers.
    pub subscription_ids: Option<Box<[u32]>>,
    /// Where it came by a Shared Subscription.
    pub share: Option<Share>,
}

impl Queued {
    /// Bytes that count against a queue's bound. A message that waits in several queues counts in
    /// each of them.
    #[must_use]
    pub fn size(&self) -> usize {
        self.message.size()
    }
}

/// What a full queue calls for besides the messages that it lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Overflow {
    /// The first message is lost since the queue was empty, or since its client connected.
    pub begins: bool,
    /// The client is to be disconnected.
    pub disconnect: bool,
}

/// Messages that wait: those of QoS 0 for the socket, the others for room in the window too.
#[derive(Debug, Default)]
pub struct Waiting {
    qos0: VecDeque<Queued>,
    others: VecDeque<Queued>,
    bytes: usize,
    /// Messages lost since it was empty, or since its client connected.
    lost: u64,
}

impl Waiting {
    /// Puts a message behind the others. Where that passes a bound, messages are lost: those of
    /// QoS 0 first, the oldest before; then, as the policy says, the oldest or the newest. A
    /// message that no empty queue would hold takes no other one with it.
    pub fn push(
        &mut self,
        queued: Queued,
        limits: &Limits,
        mut lose: impl FnMut(Queued, DropReason),
    ) -> Overflow {
        let size = queued.size();
        let lost_before = self.lost;
        let is_qos0 = queued.qos == QoS::AtMostOnce;
        let mut must_disconnect = false;
        if size > limits.queue_bytes_max {
            self.lost += 1;
            must_disconnect = !is_qos0 && limits.queue_policy == QueuePolicy::Disconnect;
            lose(queued, if is_qos0 { DropReason::SlowReader } else { DropReason::QueueBytes });
        } else {
            self.bytes += size;
            if is_qos0 { &mut self.qos0 } else { &mut self.others }.push_back(queued);
            while let Some(reason) = self.overflows(limits) {
                let Some((victim, reason)) = self.give_way(limits.queue_policy, reason) else {
                    break;
                };
                must_disconnect |=
                    victim.qos > QoS::AtMostOnce && limits.queue_policy == QueuePolicy::Disconnect;
                self.bytes -= victim.size();
                self.lost += 1;
                lose(victim, reason);
            }
        }
        Overflow { begins: lost_before == 0 && self.lost > 0, disconnect: must_disconnect }
    }

    fn overflows(&self, limits: &Limits) -> Option<DropReason> {
        if self.len() > limits.queue_messages_max {
            return Some(DropReason::QueueMessages);
        }
        (self.bytes > limits.queue_bytes_max).then_some(DropReason::QueueBytes)
    }

    fn give_way(
        &mut self,
        policy: QueuePolicy,
        reason: DropReason,
    ) -> Option<(Queued, DropReason)> {
        if let Some(oldest) = self.qos0.pop_front() {
            return Some((oldest, DropReason::SlowReader));
        }
        let victim = match policy {
            QueuePolicy::DropOldest => self.others.pop_front(),
            QueuePolicy::DropNewest | QueuePolicy::Disconnect => self.others.pop_back(),
        };
        victim.map(|victim| (victim, reason))
    }

    /// Takes the oldest message of QoS 0.
    pub fn pop_qos0(&mut self) -> Option<Queued> {
        let queued = self.qos0.pop_front()?;
        self.bytes -= queued.size();
        Some(queued)
    }

    /// Takes the oldest message of QoS 1 or 2.
    pub fn pop_other(&mut self) -> Option<Queued> {
        let queued = self.others.pop_front()?;
        self.bytes -= queued.size();
        Some(queued)
    }

    /// Takes all, those of QoS 0 before the others.
    pub fn into_messages(self) -> impl Iterator<Item = Queued> {
        self.qos0.into_iter().chain(self.others)
    }

    /// The client is gone: messages of QoS 0 go with it. What is lost from here on is a new story.
    pub fn detach(&mut self, mut lose: impl FnMut(Queued)) {
        self.lost = 0;
        while let Some(queued) = self.pop_qos0() {
            lose(queued);
        }
    }

    /// Takes out the messages that are wanted elsewhere: those above QoS 0 before the others.
    pub fn take(&mut self, is_wanted: impl Fn(&Queued) -> bool) -> Vec<Queued> {
        let Self { qos0, others, bytes, .. } = self;
        let mut taken = Vec::new();
        for queue in [others, qos0] {
            if queue.iter().any(&is_wanted) {
                let (out, stay): (Vec<_>, Vec<_>) =
                    std::mem::take(queue).into_iter().partition(&is_wanted);
                *bytes -= out.iter().map(Queued::size).sum::<usize>();
                *queue = stay.into();
                taken.extend(out);
            }
        }
        taken
    }

    /// Whether a message of so many bytes can wait without taking another one's place.
    #[must_use]
    pub fn has_room(&self, bytes: usize, limits: &Limits) -> bool {
        self.len() < limits.queue_messages_max && self.bytes + bytes <= limits.queue_bytes_max
    }

    /// Drops messages above QoS 0 that are not wanted any longer; the ids of what is stored. What
    /// came by a Shared Subscription is left alone.
    pub fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) -> Vec<MessageId> {
        let mut dropped = Vec::new();
        let bytes = &mut self.bytes;
        self.others.retain(|queued| {
            let stays = queued.share.is_some() || is_wanted(queued.message.topic());
            if !stays {
                *bytes -= queued.size();
                dropped.extend(queued.id);
            }
            stays
        });
        dropped
    }

    /// How many were lost, once, after it has become empty.
    pub fn take_lost(&mut self) -> Option<u64> {
        let is_over = self.lost > 0 && self.is_empty();
        is_over.then(|| std::mem::take(&mut self.lost))
    }

    /// Whether messages of QoS 0 wait.
    #[must_use]
    pub fn has_qos0(&self) -> bool {
        !self.qos0.is_empty()
    }

    /// Whether messages of QoS 1 or 2 wait.
    #[must_use]
    pub fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// Messages that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.qos0.len() + self.others.len()
    }

    /// Whether none wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the messages that wait.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
