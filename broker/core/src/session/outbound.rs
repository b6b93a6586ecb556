//! Messages towards a client: the window of unacknowledged ones and the queue behind it.
//! What must not live here: sending. The worker asks what comes next and sends it.

use std::collections::VecDeque;

use crate::ids::{MessageId, PacketId};
use crate::limits::Limits;
use crate::message::QoS;
use crate::reason::{DropReason, ReasonCode};
use crate::router::Group;
use crate::time::Millis;

use super::waiting::{Overflow, Queued, Waiting};

/// A slot of the window; its place is the Packet Identifier less one.
#[derive(Debug)]
enum Slot {
    Free,
    /// Sent at QoS 1, or QoS 2 before PUBREC.
    Publish {
        queued: Queued,
        order: u64,
        on_wire: bool,
    },
    /// PUBREC came, PUBCOMP is waited for.
    Release {
        id: Option<MessageId>,
        order: u64,
        counted: bool,
    },
}

/// What an acknowledgement did.
#[derive(Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The message is done with.
    Done(Option<MessageId>),
    /// PUBREC taken: PUBREL is due.
    Release(Option<MessageId>),
    /// PUBREC for a message that has been released before: PUBREL again.
    ReleaseAgain,
    /// No message waits for this acknowledgement under that Packet Identifier.
    Unknown,
}

/// What is to be sent next.
#[derive(Debug)]
pub enum Next {
    /// PUBLISH; DUP when it was sent on an earlier connection.
    Publish {
        /// The message.
        queued: Queued,
        /// Its Packet Identifier, none at QoS 0.
        packet_id: Option<PacketId>,
        /// The DUP flag.
        dup: bool,
    },
    /// PUBREL.
    Release(PacketId),
}

/// The window, the queue behind it, and QoS 0 messages that wait for the socket.
#[derive(Debug)]
pub struct Outbound {
    window: Vec<Slot>,
    free: Vec<u16>,
    /// Slots that may be in use: `inflight_max` of the limits.
    capacity: u16,
    /// PUBLISH packets on this connection that count against Receive Maximum [MQTT-4.9.0-1].
    on_wire: u16,
    receive_maximum: u16,
    order: u64,
    waiting: Waiting,
    /// After a resume: what has to be sent again, in its first order.
    resend: VecDeque<PacketId>,
}

impl Outbound {
    /// An empty window of at most `capacity` messages.
    #[must_use]
    pub fn new(capacity: u16) -> Self {
        Self {
            window: Vec::new(),
            free: Vec::new(),
            capacity,
            on_wire: 0,
            receive_maximum: u16::MAX,
            order: 0,
            waiting: Waiting::default(),
            resend: VecDeque::new(),
        }
    }

    /// A connection begins: all that is in flight is sent again, PUBLISH with DUP and its Packet
    /// Identifier, PUBREL after PUBREC, in the original order [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    pub fn resume(&mut self, receive_maximum: u16) {
        self.receive_maximum = receive_maximum;
        self.on_wire = 0;
        let mut pending: Vec<(u64, PacketId)> = Vec::new();
        for (index, slot) in self.window.iter_mut().enumerate() {
            match slot {
                Slot::Free => {}
                Slot::Publish { order, on_wire, .. } => {
                    *on_wire = false;
                    pending.push((*order, packet_id_of(index)));
                }
                Slot::Release { order, counted, .. } => {
                    *counted = false;
                    pending.push((*order, packet_id_of(index)));
                }
            }
        }
        pending.sort_unstable_by_key(|(order, _)| *order);
        self.resend = pending.into_iter().map(|(_, id)| id).collect();
    }

    /// The connection is gone: QoS 0 messages that waited for the socket go with it.
    pub fn detach(&mut self, lose: impl FnMut(Queued)) {
        self.resend.clear();
        self.waiting.detach(lose);
    }

    /// Takes out what another member of its share group may get instead: what waits, and, when the
    /// session `ends`, what was sent at QoS 1 and not acknowledged. QoS 2 that was sent belongs to
    /// this session alone [MQTT-4.8.2-4] [MQTT-4.8.2-5].
    pub fn take_shared(&mut self, ends: bool, is_leaving: impl Fn(&Group) -> bool) -> Vec<Queued> {
        let leaves =
            |queued: &Queued| queued.share.as_ref().is_some_and(|it| is_leaving(&it.group));
        let mut taken = if ends { self.take_unacknowledged(leaves) } else { Vec::new() };
        taken.extend(self.waiting.take(leaves));
        taken
    }

    fn take_unacknowledged(&mut self, leaves: impl Fn(&Queued) -> bool) -> Vec<Queued> {
        let mut sent: Vec<(u64, PacketId)> = Vec::new();
        for (index, slot) in self.window.iter().enumerate() {
            if let Slot::Publish { queued, order, .. } = slot
                && queued.qos == QoS::AtLeastOnce
                && leaves(queued)
            {
                sent.push((*order, packet_id_of(index)));
            }
        }
        sent.sort_unstable_by_key(|(order, _)| *order);
        let mut taken = Vec::with_capacity(sent.len());
        for (_, packet_id) in sent {
            taken.extend(self.in_flight_message(packet_id).cloned());
            self.free(packet_id);
        }
        taken
    }

    /// Messages that may be in flight towards the client.
    #[must_use]
    pub fn window_max(&self) -> u16 {
        self.capacity.min(self.receive_maximum)
    }

    /// Whether something waits that the window would let go.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.waiting.has_qos0()
            || !self.resend.is_empty()
            || (self.waiting.has_others() && self.has_room())
    }

    /// Whether a QoS 0 message may be sent at once, order kept.
    #[must_use]
    pub fn is_open_qos0(&self) -> bool {
        !self.waiting.has_qos0()
    }

    /// Whether a QoS 1 or 2 message may be sent at once, order and window kept.
    #[must_use]
    pub fn is_open(&self, queued: &Queued) -> bool {
        queued.qos > QoS::AtMostOnce
            && self.waiting.is_empty()
            && self.resend.is_empty()
            && self.has_room()
    }

    /// The message in flight under that Packet Identifier, before PUBREC.
    #[must_use]
    pub fn in_flight_message(&self, packet_id: PacketId) -> Option<&Queued> {
        match self.window.get(index_of(packet_id)) {
            Some(Slot::Publish { queued, .. }) => Some(queued),
            Some(Slot::Free | Slot::Release { .. }) | None => None,
        }
    }

    fn has_room(&self) -> bool {
        self.on_wire < self.receive_maximum
            && (!self.free.is_empty() || self.window.len() < usize::from(self.capacity))
    }

    /// Takes a message into the window, which has room; its Packet Identifier.
    pub fn send(&mut self, queued: Queued) -> PacketId {
        let index = match self.free.pop() {
            Some(index) => usize::from(index),
            None => {
                self.window.push(Slot::Free);
                self.window.len() - 1
            }
        };
        self.order += 1;
        self.on_wire += 1;
        self.window[index] = Slot::Publish { queued, order: self.order, on_wire: true };
        packet_id_of(index)
    }

    /// Puts a message behind the others, see [`Waiting::push`].
    pub fn push(
        &mut self,
        queued: Queued,
        limits: &Limits,
        lose: impl FnMut(Queued, DropReason),
    ) -> Overflow {
        self.waiting.push(queued, limits, lose)
    }

    /// See [`Waiting::take_lost`].
    pub fn take_lost(&mut self) -> Option<u64> {
        self.waiting.take_lost()
    }

    /// What is to be sent next, if the window has room. Expired messages are left out and given to
    /// `expired` [MQTT-3.3.2-5].
    pub fn poll_next(&mut self, now: Millis, mut expired: impl FnMut(Queued)) -> Option<Next> {
        while let Some(queued) = self.waiting.pop_qos0() {
            if queued.message.expires_at <= now {
                expired(queued);
                continue;
            }
            return Some(Next::Publish { queued, packet_id: None, dup: false });
        }
        while let Some(&packet_id) = self.resend.front() {
            let full = self.on_wire >= self.receive_maximum;
            match &mut self.window[index_of(packet_id)] {
                Slot::Free => {}
                Slot::Release { .. } => {
                    self.resend.pop_front();
                    return Some(Next::Release(packet_id));
                }
                Slot::Publish { .. } if full => return None,
                Slot::Publish { queued, on_wire, .. } => {
                    *on_wire = true;
                    self.on_wire += 1;
                    let queued = queued.clone();
                    self.resend.pop_front();
                    return Some(Next::Publish { queued, packet_id: Some(packet_id), dup: true });
                }
            }
            self.resend.pop_front();
        }
        while self.has_room() {
            let queued = self.waiting.pop_other()?;
            if queued.message.expires_at <= now {
                expired(queued);
                continue;
            }
            let packet_id = self.send(queued.clone());
            return Some(Next::Publish { queued, packet_id: Some(packet_id), dup: false });
        }
        None
    }

    /// PUBACK.
    pub fn puback(&mut self, packet_id: PacketId) -> Acknowledged {
        match self.window.get(index_of(packet_id)) {
            Some(Slot::Publish { queued, .. }) if queued.qos == QoS::AtLeastOnce => {
                Acknowledged::Done(self.free(packet_id))
            }
            _ => Acknowledged::Unknown,
        }
    }

    /// PUBREC; a code of 0x80 and above ends the exchange.
    pub fn pubrec(&mut self, packet_id: PacketId, code: ReasonCode) -> Acknowledged {
        let Some(slot) = self.window.get_mut(index_of(packet_id)) else {
            return Acknowledged::Unknown;
        };
        match slot {
            Slot::Publish { queued, order, on_wire } if queued.qos == QoS::ExactlyOnce => {
                if code.is_error() {
                    return Acknowledged::Done(self.free(packet_id));
                }
                let id = queued.id;
                *slot = Slot::Release { id, order: *order, counted: *on_wire };
                Acknowledged::Release(id)
            }
            Slot::Release { .. } => Acknowledged::ReleaseAgain,
            Slot::Free | Slot::Publish { .. } => Acknowledged::Unknown,
        }
    }

    /// PUBCOMP.
    pub fn pubcomp(&mut self, packet_id: PacketId) -> Acknowledged {
        match self.window.get(index_of(packet_id)) {
            Some(Slot::Release { .. }) => Acknowledged::Done(self.free(packet_id)),
            _ => Acknowledged::Unknown,
        }
    }

    /// Gives a slot free without an acknowledgement: the message could not be sent.
    pub fn free(&mut self, packet_id: PacketId) -> Option<MessageId> {
        let index = index_of(packet_id);
        let slot = std::mem::replace(self.window.get_mut(index)?, Slot::Free);
        let (id, counted) = match slot {
            Slot::Free => return None,
            Slot::Publish { queued, on_wire, .. } => (queued.id, on_wire),
            Slot::Release { id, counted, .. } => (id, counted),
        };
        self.free.push(packet_id.get() - 1);
        self.on_wire -= u16::from(counted);
        id
    }

    /// Drops what waits behind the window and is not wanted any longer; the ids of what is stored.
    /// What came by a Shared Subscription is left alone.
    pub fn retain_queued(&mut self, is_wanted: impl Fn(&str) -> bool) -> Vec<MessageId> {
        self.waiting.retain(is_wanted)
    }

    /// Messages that wait behind the window or for the socket.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.waiting.len()
    }

    /// Whether one more message of the size of those that wait would hardly fit.
    #[must_use]
    pub fn is_full(&self, limits: &Limits) -> bool {
        let bytes = self.waiting.bytes() / self.waiting.len().max(1);
        !self.waiting.is_empty() && !self.waiting.has_room(bytes, limits)
    }

    /// Whether a message of so many bytes can wait without taking another one's place.
    #[must_use]
    pub fn has_room_to_wait(&self, bytes: usize, limits: &Limits) -> bool {
        self.waiting.has_room(bytes, limits)
    }

    /// Bytes of those messages.
    #[must_use]
    pub const fn queued_bytes(&self) -> usize {
        self.waiting.bytes()
    }

    /// Messages in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.window.len() - self.free.len()
    }
}

fn index_of(packet_id: PacketId) -> usize {
    usize::from(packet_id.get() - 1)
}

fn packet_id_of(index: usize) -> PacketId {
    u16::try_from(index + 1)
        .ok()
        .and_then(PacketId::new)
        .expect("the window is at most 65,535 slots")
}
