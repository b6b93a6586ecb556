//! QoS 2 publishes from the client, between PUBLISH and PUBREL [MQTT-4.3.3-10].
//! What must not live here: the messages; they are routed at once.

use crate::ids::PacketId;

/// Packet Identifiers that were used by a QoS 2 PUBLISH and not yet released.
#[derive(Debug, Default)]
pub struct Inbound {
    received: Vec<(PacketId, Phase)>,
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
    /// How far the publish of a Packet Identifier is; none if that is not in use.
    #[must_use]
    pub fn phase(&self, packet_id: PacketId) -> Option<Phase> {
        self.received
            .iter()
            .find(|(id, _)| *id == packet_id)
            .map(|(_, phase)| *phase)
    }

    /// Takes a Packet Identifier over that was not in use.
    pub fn insert(&mut self, packet_id: PacketId) {
        debug_assert!(self.phase(packet_id).is_none(), "{packet_id} is in use");
        self.received.push((packet_id, Phase::Pending));
    }

    /// PUBREC is sent for it.
    pub fn received(&mut self, packet_id: PacketId) {
        if let Some((_, phase)) = self.received.iter_mut().find(|(id, _)| *id == packet_id) {
            *phase = Phase::Received;
        }
    }

    /// PUBREL arrived, or the publish was refused; false if the identifier is not known.
    pub fn remove(&mut self, packet_id: PacketId) -> bool {
        match self.received.iter().position(|(id, _)| *id == packet_id) {
            Some(at) => {
                self.received.remove(at);
                true
            }
            None => false,
        }
    }

    /// Whether PUBREC was sent for it.
    #[must_use]
    pub fn is_received(&self, packet_id: PacketId) -> bool {
        self.received.contains(&(packet_id, Phase::Received))
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
        self.received.iter().map(|(id, _)| *id)
    }
}
