//! Packets on the simulated wires, owned and in plain form.
//! What must not live here: who sends them and when.

use wasmqtt_core::event::{Authentication, Packet, Publish, SubscribeFilter};
use wasmqtt_core::ids::PacketId;
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::ReasonCode;

/// Every message of a run has a number; it travels in the properties, which the core carries
/// unread, so that also a message without payload can be told from others.
pub(crate) type Uid = u32;

/// Properties that carry a number.
pub(crate) fn properties_of(uid: Uid) -> [u8; 4] {
    uid.to_be_bytes()
}

/// The number that properties carry.
pub(crate) fn uid_of(properties: &[u8]) -> Option<Uid> {
    Some(Uid::from_be_bytes(properties.try_into().ok()?))
}

/// What an application wants published.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) uid: Uid,
    /// It is published to `$delayed/…` first.
    pub(crate) delay_seconds: Option<u32>,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expiry_seconds: Option<u32>,
}

impl Content {
    /// The Topic Name of its PUBLISH.
    pub(crate) fn named(&self) -> String {
        match self.delay_seconds {
            Some(seconds) => format!("$delayed/{seconds}/{}", self.topic),
            None => self.topic.clone(),
        }
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { uid, delay_seconds, topic, payload, qos, retain, expiry_seconds } = self;
        write!(f, "#{uid} {topic} {qos:?}, {} bytes", payload.len())?;
        if let Some(seconds) = delay_seconds {
            write!(f, ", in {seconds} s")?;
        }
        if *retain {
            write!(f, ", retain")?;
        }
        expiry_seconds.map_or(Ok(()), |seconds| write!(f, ", expires in {seconds} s"))
    }
}

/// A packet from a client after CONNECT.
#[derive(Clone, Debug)]
pub(crate) enum FromClient {
    Publish { content: Content, packet_id: Option<PacketId>, dup: bool, alias: bool },
    PubAck(PacketId),
    PubRec(PacketId, ReasonCode),
    PubRel(PacketId),
    PubComp(PacketId),
    Subscribe { packet_id: PacketId, identifier: u32, filters: Vec<SubscribeFilter> },
    Unsubscribe { packet_id: PacketId, filters: Vec<Box<str>> },
    Ping,
    Disconnect { code: ReasonCode, session_expiry_seconds: Option<u32> },
    Auth { code: ReasonCode, method: &'static str, plan: Plan },
}

/// The Authentication Method of a run.
pub(crate) const METHOD: &str = "method";

/// How an exchange of AUTH packets goes: it travels as Authentication Data, which the core carries
/// unread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// Challenges before it is decided.
    pub(crate) challenges: u16,
    /// Who the client turns out to be, or why it is refused.
    pub(crate) verdict: Shown,
}

/// What an exchange shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    Itself,
    SomebodyElse,
    Refused(ReasonCode),
}

impl Plan {
    /// As Authentication Data.
    pub(crate) fn data(self) -> Box<[u8]> {
        let [high, low] = self.challenges.to_be_bytes();
        let verdict = match self.verdict {
            Shown::Itself => 0,
            Shown::SomebodyElse => 1,
            Shown::Refused(code) => code as u8,
        };
        Box::new([high, low, verdict])
    }

    /// Back from there.
    pub(crate) fn of(data: &[u8]) -> Self {
        let &[high, low, verdict] = data else {
            panic!("{data:?} is no plan");
        };
        let verdict = match verdict {
            0 => Shown::Itself,
            1 => Shown::SomebodyElse,
            code => Shown::Refused(ReasonCode::from_u8(code).unwrap()),
        };
        Self { challenges: u16::from_be_bytes([high, low]), verdict }
    }
}

impl FromClient {
    /// Gives the packet as the core takes it.
    pub(crate) fn with<R>(&self, then: impl FnOnce(Packet<'_>) -> R) -> R {
        let (properties, topic);
        then(match self {
            Self::Publish { content, packet_id, dup, alias } => {
                properties = properties_of(content.uid);
                topic = content.named();
                Packet::Publish(Publish {
                    topic: &topic,
                    payload: &content.payload,
                    qos: content.qos,
                    retain: content.retain,
                    dup: *dup,
                    packet_id: *packet_id,
                    properties: &properties,
                    expiry_seconds: content.expiry_seconds,
                    topic_alias: alias.then_some(0),
                })
            }
            Self::PubAck(packet_id) => {
                Packet::PubAck { packet_id: *packet_id, code: ReasonCode::Success }
            }
            Self::PubRec(packet_id, code) => Packet::PubRec { packet_id: *packet_id, code: *code },
            Self::PubRel(packet_id) => Packet::PubRel { packet_id: *packet_id },
            Self::PubComp(packet_id) => Packet::PubComp { packet_id: *packet_id },
            Self::Subscribe { packet_id, identifier, filters } => Packet::Subscribe {
                packet_id: *packet_id,
                identifier: *identifier,
                filters: filters.clone(),
            },
            Self::Unsubscribe { packet_id, filters } => {
                Packet::Unsubscribe { packet_id: *packet_id, filters: filters.clone() }
            }
            Self::Ping => Packet::PingReq,
            Self::Disconnect { code, session_expiry_seconds } => {
                Packet::Disconnect { code: *code, session_expiry_seconds: *session_expiry_seconds }
            }
            Self::Auth { code, method, plan } => {
                let (method, data) = ((*method).into(), Some(plan.data()));
                Packet::Auth { code: *code, authentication: Authentication { method, data } }
            }
        })
    }
}

/// A packet towards a client, as far as the client looks at it.
#[derive(Clone, Debug)]
pub(crate) enum ToClient {
    ConnAck {
        code: ReasonCode,
        session_present: bool,
    },
    Publish {
        uid: Uid,
        qos: QoS,
        packet_id: Option<PacketId>,
    },
    PubAck(PacketId),
    PubRec(PacketId, ReasonCode),
    PubRel(PacketId),
    PubComp(PacketId),
    /// AUTH.
    Auth(ReasonCode),
    /// SUBACK, UNSUBACK, PINGRESP.
    Other,
    /// DISCONNECT and the end, or only the end.
    Close,
}
