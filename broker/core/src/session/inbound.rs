//! QoS 2 publishes from the client, between PUBLISH and PUBREL [MQTT-4.3.3-10].
//! What must not live here: the messages; they are routed at once.

use crate::ids::PacketId;

/// Packet Identifiers that were used by a QoS 2 PUBLISH and not yet released.
#[derive(Debug, Default)]
pub struct Inbound {
    received: Vec<Exchange>,
    /// Those that were used on this connection.
    counted: usize,
}

#[derive(Debug)]
struct Exchange {
    packet_id: PacketId,
    phase: Phase,
    is_counted: bool,
}

/// How far a QoS 2 publish has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// In the ordering line: PUBREC was not sent yet.
    Pending,
    /// PUBREC was sent.
    Received,
}

impl Inbound {
    /// A connection begins: Receive Maximum counts what is sent on it [MQTT 4.9], so that what a
    /// client forgot does not count against it for ever.
    pub fn resume(&mut self) {
        self.counted = 0;
        for exchange in &mut self.received {
            exchange.is_counted = false;
        }
    }

    /// A PUBLISH of that Packet Identifier came again: how far it is; none if it is new.
    pub fn repeat(&mut self, packet_id: PacketId) -> Option<Phase> {
        let exchange = self.received.iter_mut().find(|exchange| exchange.packet_id == packet_id)?;
        if !exchange.is_counted {
            exchange.is_counted = true;
            self.counted += 1;
        }
        Some(exchange.phase)
    }

    /// Takes a Packet Identifier over that was not in use.
    pub fn insert(&mut self, packet_id: PacketId) {
        debug_assert!(self.iter().all(|id| id != packet_id), "{packet_id} is in use");
        self.received.push(Exchange { packet_id, phase: Phase::Pending, is_counted: true });
        self.counted += 1;
    }

    /// PUBREC is sent for it.
    pub fn received(&mut self, packet_id: PacketId) {
        let mut known = self.received.iter_mut();
        if let Some(exchange) = known.find(|exchange| exchange.packet_id == packet_id) {
            exchange.phase = Phase::Received;
        }
    }

    /// PUBLISH packets on this connection that count against Receive Maximum.
    #[must_use]
    pub const fn counted(&self) -> usize {
        self.counted
    }

    /// PUBREL arrived, or the publish was refused; false if the identifier is not known.
    pub fn remove(&mut self, packet_id: PacketId) -> bool {
        let mut known = self.received.iter();
        let Some(at) = known.position(|exchange| exchange.packet_id == packet_id) else {
            return false;
        };
        self.counted -= usize::from(self.received.remove(at).is_counted);
        true
    }

    /// Whether PUBREC was sent for it.
    #[must_use]
    pub fn is_received(&self, packet_id: PacketId) -> bool {
        self.received
            .iter()
            .any(|exchange| exchange.packet_id == packet_id && exchange.phase == Phase::Received)
    }

    /// Identifiers in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether none is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Identifiers in use, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = PacketId> {
        self.received.iter().map(|exchange| exchange.packet_id)
    }
}
