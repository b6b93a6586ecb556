//! Messages in flight to a client: Packet Identifiers, windows, sending again [MQTT 4.3, 4.4, 4.9].
//! What must not live here: why a message is sent at all.

use wasmqtt_core::action::Delivery;
use wasmqtt_core::ids::PacketId;
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::ReasonCode;

use super::retained::ReplayIx;
use super::{AttemptIx, LinkState, Model};
use crate::packet::Uid;
use crate::shell::LinkIx;

/// Where a delivery comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// One of these attempts, most likely the first.
    Live(Vec<AttemptIx>),
    /// The same, or a replay that need not come.
    Either(Vec<AttemptIx>),
    Replay(ReplayIx),
}

impl Source {
    pub(super) fn attempt(&self) -> AttemptIx {
        match self {
            Self::Live(from) | Self::Either(from) => from[0],
            Self::Replay(replay) => replay.1,
        }
    }
}

/// A message that was sent and is not completed.
#[derive(Debug)]
pub(crate) struct InFlight {
    packet_id: PacketId,
    uid: Uid,
    qos: QoS,
    retain: bool,
    subscription_ids: Vec<u32>,
    attempt: AttemptIx,
    /// PUBREC came.
    pub(super) released: bool,
    /// The connection on which it was sent last.
    link: LinkIx,
    /// Whether its PUBLISH was sent on that connection.
    counted: bool,
}

impl InFlight {
    /// Whether it counts against the Receive Maximum of that connection.
    pub(super) fn is_counted(&self, link: LinkIx) -> bool {
        self.link == link && self.counted
    }

    /// Whether it has yet to be sent again on that connection.
    pub(super) fn waits(&self, link: Option<LinkIx>) -> bool {
        link.is_some_and(|link| self.link != link)
    }

    pub(super) const fn uid(&self) -> Uid {
        self.uid
    }
}

impl Model {
    /// A message is sent for the first time: after all that has to be sent again, under a free
    /// Packet Identifier, within the window.
    pub(super) fn on_first_send(
        &mut self,
        link: LinkIx,
        packet_id: PacketId,
        uid: Uid,
        attempt: AttemptIx,
        delivery: &Delivery<'_>,
    ) {
        let LinkState { session, receive_maximum, .. } = self.links[link];
        let state = &mut self.sessions[session];
        if state.doubtful {
            state.in_flight.retain(|sent| sent.link == link);
        }
        if state.in_flight.iter().any(|sent| sent.packet_id == packet_id) {
            return self.fail(format!("Packet Identifier {packet_id} is in flight on link {link}"));
        }
        if let Some(sent) = state.in_flight.iter().find(|sent| sent.link != link) {
            let other = sent.uid;
            return self.fail(format!("message {uid} is sent on link {link} before {other} again"));
        }
        state.in_flight.push(InFlight {
            packet_id,
            uid,
            qos: delivery.qos,
            retain: delivery.retain,
            subscription_ids: delivery.subscription_ids.to_vec(),
            attempt,
            released: false,
            link,
            counted: true,
        });
        if state.in_flight.len() > usize::from(self.limits.inflight_max) {
            self.fail(format!("the window of link {link} is exceeded"));
        }
        self.check_receive_maximum(link, receive_maximum);
    }

    fn check_receive_maximum(&mut self, link: LinkIx, receive_maximum: u16) {
        let state = &self.sessions[self.links[link].session];
        let counted = state.in_flight.iter().filter(|sent| sent.link == link && sent.counted);
        let counted = counted.count();
        if counted == usize::from(receive_maximum) {
            self.cover.hit("receive maximum reached");
        }
        if counted > usize::from(receive_maximum) {
            self.fail(format!("receive maximum {receive_maximum} is exceeded on link {link}"));
        }
    }

    /// A message is sent again: on a new connection, as it was, in the first order.
    pub(super) fn on_resend(&mut self, link: LinkIx, uid: Uid, delivery: &Delivery<'_>) {
        let LinkState { session, receive_maximum, .. } = self.links[link];
        let state = &mut self.sessions[session];
        let found = state.in_flight.iter_mut().find(|sent| sent.link != link);
        let Some(sent) = found else {
            return self.fail(format!("message {uid} is sent again on link {link} for no reason"));
        };
        let is_same = Some(sent.packet_id) == delivery.packet_id
            && sent.uid == uid
            && sent.qos == delivery.qos
            && sent.retain == delivery.retain
            && sent.subscription_ids == delivery.subscription_ids
            && !sent.released;
        if !is_same {
            let expected = format!("{sent:?}");
            return self.fail(format!("message {uid} is sent again, expected {expected}"));
        }
        sent.link = link;
        sent.counted = true;
        let attempt = sent.attempt;
        let message = delivery.message;
        if let Some(content) = self.passed(attempt)
            && (message.topic != content.topic || message.payload != content.payload)
        {
            self.fail(format!("message {uid} is another when it is sent again"));
        }
        self.cover.hit("message sent again");
        self.check_receive_maximum(link, receive_maximum);
    }

    /// A worker sends PUBREL: for a PUBREC just taken, or again in its place.
    pub(crate) fn on_pubrel(&mut self, link: LinkIx, packet_id: PacketId, code: ReasonCode) {
        let state = &mut self.links[link];
        let due = state.releases_due.iter().position(|id| *id == packet_id);
        if let Some(at) = due {
            state.releases_due.remove(at);
        }
        let session = state.session;
        let in_flight = &mut self.sessions[session].in_flight;
        let first = in_flight.iter().position(|sent| sent.link != link);
        let Some(at) = in_flight.iter().position(|sent| sent.packet_id == packet_id) else {
            if due.is_none() || code != ReasonCode::PacketIdentifierNotFound {
                self.fail(format!("PUBREL {packet_id} {code:?} on link {link} for nothing"));
            }
            return;
        };
        let sent = &mut in_flight[at];
        if !sent.released && (due.is_none() || code != ReasonCode::PacketIdentifierNotFound) {
            return self.fail(format!("PUBREL {packet_id} on link {link} without PUBREC"));
        }
        if sent.link == link {
            return;
        }
        sent.link = link;
        sent.counted = false;
        if due.is_none() {
            self.cover.hit("release sent again");
            if first != Some(at) {
                self.fail(format!("PUBREL {packet_id} on link {link} is not next to be repeated"));
            }
        }
    }

    /// A worker is given PUBACK.
    pub(super) fn on_client_puback(&mut self, link: LinkIx, packet_id: PacketId) {
        let session = self.links[link].session;
        let in_flight = &mut self.sessions[session].in_flight;
        let is_it = |sent: &InFlight| sent.packet_id == packet_id && sent.qos == QoS::AtLeastOnce;
        let is_known = in_flight.iter().any(is_it);
        in_flight.retain(|sent| !is_it(sent));
        if is_known {
            self.on_shared_acknowledged(session, packet_id);
        }
    }

    /// A worker is given PUBREC.
    pub(super) fn on_client_pubrec(&mut self, link: LinkIx, packet_id: PacketId, is_error: bool) {
        let session = self.links[link].session;
        let in_flight = &mut self.sessions[session].in_flight;
        let at = in_flight
            .iter()
            .position(|sent| sent.packet_id == packet_id && sent.qos == QoS::ExactlyOnce);
        match at {
            Some(at) if is_error && !in_flight[at].released => {
                in_flight.remove(at);
            }
            Some(at) => {
                in_flight[at].released = true;
                self.links[link].releases_due.push(packet_id);
            }
            None if is_error => {}
            None => self.links[link].releases_due.push(packet_id),
        }
    }

    /// A worker is given PUBCOMP.
    pub(super) fn on_client_pubcomp(&mut self, link: LinkIx, packet_id: PacketId) {
        let session = self.links[link].session;
        self.sessions[session]
            .in_flight
            .retain(|sent| sent.packet_id != packet_id || !sent.released);
    }
}
