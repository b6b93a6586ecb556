//! Clients: what they want, what they remember, how they answer. They behave as MQTT asks of them
//! unless their plan says that they sometimes talk nonsense.
//! What must not live here: what the broker owes them.

use std::collections::VecDeque;

use wasmqtt_core::event::SubscribeFilter;
use wasmqtt_core::ids::PacketId;
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::{ReasonCode, Version};

use crate::packet::{Content, FromClient, METHOD, Plan, Shown, ToClient, Uid};
use crate::rng::Rng;
use crate::scenario::{ClientPlan, SHARED, Scenario};
use crate::shell::LinkIx;

/// A client with what it keeps across connections.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) plan: ClientPlan,
    pub(crate) link: Option<LinkIx>,
    pub(crate) is_connected: bool,
    last_packet_id: u16,
    /// Publishes that are not completed, oldest first.
    pub(crate) outgoing: Vec<Outgoing>,
    /// QoS 2 messages that were received and not released.
    received: Vec<(PacketId, Uid)>,
    /// Acknowledgements that it could send.
    pub(crate) acks: VecDeque<FromClient>,
    /// It named a method when it connected.
    pub(crate) has_method: bool,
    /// It authenticates, for the first time or again.
    pub(crate) is_exchanging: bool,
}

/// A publish on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    packet_id: PacketId,
    pub(crate) content: Content,
    is_released: bool,
}

impl Client {
    pub(crate) const fn new(plan: ClientPlan) -> Self {
        Self {
            plan,
            link: None,
            is_connected: false,
            last_packet_id: 0,
            outgoing: Vec::new(),
            received: Vec::new(),
            acks: VecDeque::new(),
            has_method: false,
            is_exchanging: false,
        }
    }

    /// The connection is over, seen from here.
    pub(crate) fn disconnected(&mut self) {
        self.link = None;
        self.is_connected = false;
        self.acks.clear();
        (self.has_method, self.is_exchanging) = (false, false);
    }

    /// A Packet Identifier that is not in use.
    pub(crate) fn packet_id(&mut self) -> PacketId {
        loop {
            self.last_packet_id = self.last_packet_id % 500 + 1;
            let packet_id = PacketId::new(self.last_packet_id).unwrap();
            if self.outgoing.iter().all(|sent| sent.packet_id != packet_id) {
                return packet_id;
            }
        }
    }

    /// Whether one more QoS 1 or 2 publish may be under way [MQTT-3.3.4-7].
    pub(crate) fn may_publish(&self, receive_maximum: u16) -> bool {
        let most = match self.plan.version {
            Version::V31 | Version::V311 => 30,
            Version::V5 => usize::from(receive_maximum),
        };
        self.outgoing.len() < most
    }

    /// The PUBLISH for a message; kept until it is completed.
    pub(crate) fn publish(&mut self, content: Content) -> FromClient {
        let packet_id = (content.qos > QoS::AtMostOnce).then(|| self.packet_id());
        if let Some(packet_id) = packet_id {
            let content = content.clone();
            self.outgoing.push(Outgoing { packet_id, content, is_released: false });
        }
        FromClient::Publish { content, packet_id, dup: false, alias: false }
    }

    /// Takes a packet from the broker; what is to be sent at once.
    pub(crate) fn receive(&mut self, packet: &ToClient) -> Vec<FromClient> {
        match *packet {
            ToClient::ConnAck { code, session_present } => {
                if code.is_error() {
                    self.disconnected();
                    return Vec::new();
                }
                (self.is_connected, self.is_exchanging) = (true, false);
                if !session_present {
                    self.outgoing.clear();
                    self.received.clear();
                }
                return self.resend();
            }
            ToClient::Publish { uid, qos, packet_id } => self.take_message(uid, qos, packet_id),
            ToClient::PubAck(packet_id) => {
                self.outgoing.retain(|sent| sent.packet_id != packet_id);
            }
            ToClient::PubRec(packet_id, code) => {
                let is_refused = code.is_error() && self.plan.version == Version::V5;
                if is_refused {
                    self.outgoing.retain(|sent| sent.packet_id != packet_id);
                } else if let Some(sent) =
                    self.outgoing.iter_mut().find(|sent| sent.packet_id == packet_id)
                {
                    sent.is_released = true;
                    self.acks.push_back(FromClient::PubRel(packet_id));
                }
            }
            ToClient::PubRel(packet_id) => {
                self.received.retain(|(id, _)| *id != packet_id);
                self.acks.push_back(FromClient::PubComp(packet_id));
            }
            ToClient::PubComp(packet_id) => {
                self.outgoing.retain(|sent| sent.packet_id != packet_id || !sent.is_released);
            }
            ToClient::Auth(ReasonCode::Success) => self.is_exchanging = false,
            ToClient::Auth(_) => {
                let code = ReasonCode::ContinueAuthentication;
                let plan = Plan { challenges: 0, verdict: Shown::Itself }; // the first one counts
                self.acks.push_back(FromClient::Auth { code, method: METHOD, plan });
            }
            ToClient::Other => {}
            ToClient::Close => self.disconnected(),
        }
        Vec::new()
    }

    fn take_message(&mut self, uid: Uid, qos: QoS, packet_id: Option<PacketId>) {
        match packet_id {
            None => {}
            Some(packet_id) if qos == QoS::AtLeastOnce => {
                self.acks.push_back(FromClient::PubAck(packet_id));
            }
            Some(packet_id) => {
                // What a session left that was replaced without a CONNACK that came here is void.
                self.received.retain(|(id, known)| *id != packet_id || *known == uid);
                self.received.push((packet_id, uid));
                self.acks.push_back(FromClient::PubRec(packet_id, ReasonCode::Success));
            }
        }
    }

    /// What was not completed is sent again, in order [MQTT-4.4.0-1].
    fn resend(&self) -> Vec<FromClient> {
        let again = |sent: &Outgoing| {
            let packet_id = sent.packet_id;
            if sent.is_released {
                return FromClient::PubRel(packet_id);
            }
            let content = sent.content.clone();
            FromClient::Publish { content, packet_id: Some(packet_id), dup: true, alias: false }
        };
        self.outgoing.iter().map(again).collect()
    }

    /// It refuses a message: its exchange ends [MQTT-4.3.3].
    pub(crate) fn forget(&mut self, packet_id: PacketId) {
        self.received.retain(|(id, _)| *id != packet_id);
    }

    /// A QoS 2 PUBLISH that waits for PUBREC, once more on the same connection.
    pub(crate) fn repetition(&self, rng: &mut Rng) -> Option<FromClient> {
        let is_it = |sent: &&Outgoing| sent.content.qos == QoS::ExactlyOnce && !sent.is_released;
        let waiting: Vec<&Outgoing> = self.outgoing.iter().filter(is_it).collect();
        let sent = waiting.get(rng.below(waiting.len().max(1)))?;
        let (content, packet_id) = (sent.content.clone(), Some(sent.packet_id));
        Some(FromClient::Publish { content, packet_id, dup: true, alias: false })
    }

    /// Something that no client should send there; nothing that a broker could take for right.
    pub(crate) fn nonsense(&self, rng: &mut Rng) -> FromClient {
        let packet_id = PacketId::new(rng.within(1, 6) as u16).unwrap();
        match rng.below(5) {
            0 => FromClient::PubComp(packet_id),
            1 => FromClient::PubRel(PacketId::new(900).unwrap()),
            2 => FromClient::PubAck(PacketId::new(900).unwrap()),
            3 => FromClient::PubRec(PacketId::new(900).unwrap(), ReasonCode::Success),
            _ => FromClient::Ping,
        }
    }
}

/// The filter of a Shared Subscription.
pub(crate) fn shared_filter(rng: &mut Rng, group: usize, plan: &ClientPlan) -> SubscribeFilter {
    let is_v5 = plan.version == Version::V5;
    SubscribeFilter {
        filter: SHARED[group].into(),
        qos: QoS::from_u8(rng.pick(&[0, 1, 1, 1, 2, 2])).unwrap(),
        no_local: false, // [MQTT-3.8.3-4]
        retain_as_published: is_v5 && rng.chance(25),
        retain_handling: if is_v5 { rng.pick(&[0, 1, 2]) } else { 0 },
    }
}

/// The filters of a SUBSCRIBE.
pub(crate) fn subscribe_filters(
    rng: &mut Rng,
    scenario: &Scenario,
    plan: &ClientPlan,
) -> Vec<SubscribeFilter> {
    let is_v5 = plan.version == Version::V5;
    let count = rng.pick(&[1, 1, 1, 2, 3]);
    let filter = |rng: &mut Rng| SubscribeFilter {
        filter: if rng.chance(plan.nonsense_percent) {
            rng.pick(&["a/#/b", "$share/g", "$share/g+/a", "$share//a", "", "a+", "#/"]).into()
        } else {
            rng.pick(&scenario.filters).into()
        },
        qos: QoS::from_u8(rng.below(3) as u8).unwrap(),
        no_local: is_v5 && rng.chance(20),
        retain_as_published: is_v5 && rng.chance(25),
        retain_handling: if is_v5 { rng.pick(&[0, 0, 1, 2]) } else { 0 },
    };
    (0..count).map(|_| filter(rng)).collect()
}
