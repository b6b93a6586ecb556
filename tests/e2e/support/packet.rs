//! Packets: those that clients send as builders, those that servers send as a strict decoder.
//! What must not live here: sockets.

use super::property::{Property, read_section, write_section};
use super::wire::{Reader, Version, frame, prefixed};

const CONNACK_PROPERTIES: &[u8] = &[
    0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
    0x2a,
];
const PUBLISH_PROPERTIES: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x23, 0x26];
const ACK_PROPERTIES: &[u8] = &[0x1f, 0x26];
const DISCONNECT_PROPERTIES: &[u8] = &[0x1c, 0x1f, 0x26];
const AUTH_PROPERTIES: &[u8] = &[0x15, 0x16, 0x1f, 0x26];

/// A Will Message as CONNECT carries it.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) properties: Vec<Property>,
}

impl Will {
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: 0,
            retain: false,
            properties: Vec::new(),
        }
    }

    pub(crate) fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

/// A CONNECT packet. Starts clean, without keep alive.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) protocol_name: Vec<u8>,
    pub(crate) level: u8,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) client_id: Vec<u8>,
    pub(crate) will: Option<Will>,
    pub(crate) username: Option<Vec<u8>>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) properties: Vec<Property>,
    /// Bits that are flipped in the Connect Flags after they were computed.
    pub(crate) flip_flags: u8,
    /// Bytes behind the payload's last field.
    pub(crate) trailing: Vec<u8>,
}

impl Connect {
    pub(crate) fn new(version: Version, client_id: &str) -> Self {
        Self {
            version,
            protocol_name: b"MQTT".to_vec(),
            level: version.level(),
            clean: true,
            keep_alive: 0,
            client_id: client_id.into(),
            will: None,
            username: None,
            password: None,
            properties: Vec::new(),
            flip_flags: 0,
            trailing: Vec::new(),
        }
    }

    /// A session that outlives its connection, resumed if there is one.
    pub(crate) fn persistent(self) -> Self {
        self.resuming().session_expiry(300)
    }

    /// Clean Session / Clean Start 0, nothing said about expiry.
    pub(crate) fn resuming(mut self) -> Self {
        self.clean = false;
        self
    }

    /// MQTT 5 only: without effect on 3.1.1, where Clean Session 0 is all there is.
    pub(crate) fn session_expiry(self, seconds: u32) -> Self {
        if self.version.is_v5() { self.property(Property::SessionExpiry(seconds)) } else { self }
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    pub(crate) fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    pub(crate) fn login(mut self, username: &str, password: &str) -> Self {
        self.username = Some(username.into());
        self.password = Some(password.into());
        self
    }

    pub(crate) fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    pub(crate) fn flags(&self) -> u8 {
        let will = self
            .will
            .as_ref()
            .map_or(0, |will| 0x04 | (will.qos << 3) | (u8::from(will.retain) << 5));
        (u8::from(self.clean) << 1)
            | will
            | (u8::from(self.password.is_some()) << 6)
            | (u8::from(self.username.is_some()) << 7)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = prefixed(&self.protocol_name);
        body.push(self.level);
        body.push(self.flags() ^ self.flip_flags);
        body.extend_from_slice(&self.keep_alive.to_be_bytes());
        if self.version.is_v5() {
            body.extend(write_section(&self.properties));
        }
        body.extend(prefixed(&self.client_id));
        if let Some(will) = &self.will {
            if self.version.is_v5() {
                body.extend(write_section(&will.properties));
            }
            body.extend(prefixed(&will.topic));
            body.extend(prefixed(&will.payload));
        }
        for field in [&self.username, &self.password].into_iter().flatten() {
            body.extend(prefixed(field));
        }
        body.extend(&self.trailing);
        frame(0x10, &body)
    }
}

/// A PUBLISH packet, in either direction.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: String,
    /// 0 is none: QoS 0 has none.
    pub(crate) packet_id: u16,
    pub(crate) properties: Vec<Property>,
    pub(crate) payload: Vec<u8>,
}

impl std::fmt::Debug for Publish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dup, qos, retain, topic, packet_id, properties, payload } = self;
        let shown = String::from_utf8_lossy(&payload[..payload.len().min(60)]);
        write!(f, "PUBLISH {topic:?} qos {qos} dup {dup} retain {retain} id {packet_id} ")?;
        write!(f, "{properties:?} {shown:?} ({} bytes)", payload.len())
    }
}

impl Publish {
    pub(crate) fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self {
            dup: false,
            qos: 0,
            retain: false,
            topic: topic.to_owned(),
            packet_id: 0,
            properties: Vec::new(),
            payload: payload.as_ref().to_vec(),
        }
    }

    pub(crate) fn qos(mut self, qos: u8, packet_id: u16) -> Self {
        (self.qos, self.packet_id) = (qos, packet_id);
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    pub(crate) fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// The payload as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    pub(crate) fn encode(&self, version: Version) -> Vec<u8> {
        let first = 0x30 | (u8::from(self.dup) << 3) | (self.qos << 1) | u8::from(self.retain);
        let mut body = prefixed(self.topic.as_bytes());
        if self.qos > 0 {
            body.extend_from_slice(&self.packet_id.to_be_bytes());
        }
        if version.is_v5() {
            body.extend(write_section(&self.properties));
        }
        body.extend(&self.payload);
        frame(first, &body)
    }
}

/// A SUBSCRIBE packet.
#[derive(Clone, Debug)]
pub(crate) struct Subscribe {
    packet_id: u16,
    properties: Vec<Property>,
    filters: Vec<(Vec<u8>, u8)>,
}

impl Subscribe {
    pub(crate) fn new(packet_id: u16) -> Self {
        Self { packet_id, properties: Vec::new(), filters: Vec::new() }
    }

    /// `options`: the whole byte; the requested QoS is its lowest two bits.
    pub(crate) fn filter(mut self, filter: impl AsRef<[u8]>, options: u8) -> Self {
        self.filters.push((filter.as_ref().to_vec(), options));
        self
    }

    pub(crate) fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    pub(crate) fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = self.packet_id.to_be_bytes().to_vec();
        if version.is_v5() {
            body.extend(write_section(&self.properties));
        }
        for (filter, options) in &self.filters {
            body.extend(prefixed(filter));
            body.push(*options);
        }
        frame(0x82, &body)
    }
}

/// An UNSUBSCRIBE packet.
#[derive(Clone, Debug)]
pub(crate) struct Unsubscribe {
    packet_id: u16,
    filters: Vec<Vec<u8>>,
}

impl Unsubscribe {
    pub(crate) fn new(packet_id: u16) -> Self {
        Self { packet_id, filters: Vec::new() }
    }

    pub(crate) fn filter(mut self, filter: impl AsRef<[u8]>) -> Self {
        self.filters.push(filter.as_ref().to_vec());
        self
    }

    pub(crate) fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = self.packet_id.to_be_bytes().to_vec();
        if version.is_v5() {
            body.push(0);
        }
        for filter in &self.filters {
            body.extend(prefixed(filter));
        }
        frame(0xa2, &body)
    }
}

/// Which of the four acknowledgements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ack {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

impl Ack {
    fn first_byte(self) -> u8 {
        match self {
            Self::Puback => 0x40,
            Self::Pubrec => 0x50,
            Self::Pubrel => 0x62,
            Self::Pubcomp => 0x70,
        }
    }

    /// In its short form: success.
    pub(crate) fn encode(self, packet_id: u16) -> Vec<u8> {
        frame(self.first_byte(), &packet_id.to_be_bytes())
    }

    /// MQTT 5: with a Reason Code.
    pub(crate) fn encode_code(self, packet_id: u16, code: u8) -> Vec<u8> {
        let [high, low] = packet_id.to_be_bytes();
        frame(self.first_byte(), &[high, low, code])
    }
}

/// MQTT 5: DISCONNECT with a Reason Code; 3.1.1: the only one there is.
pub(crate) fn disconnect(version: Version, code: u8, properties: &[Property]) -> Vec<u8> {
    if !version.is_v5() {
        return frame(0xe0, &[]);
    }
    frame(0xe0, &[&[code][..], &write_section(properties)].concat())
}

pub(crate) const PINGREQ: &[u8] = &[0xc0, 0];

/// CONNACK.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Connack {
    pub(crate) session_present: bool,
    pub(crate) code: u8,
    pub(crate) properties: Vec<Property>,
}

impl Connack {
    /// The value that `pick` finds among the properties.
    pub(crate) fn find<T>(&self, pick: impl Fn(&Property) -> Option<T>) -> Option<T> {
        self.properties.iter().find_map(pick)
    }
}

/// A packet that a server sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Packet {
    Connack(Connack),
    Publish(Publish),
    Ack { kind: Ack, packet_id: u16, code: u8, properties: Vec<Property> },
    Suback { packet_id: u16, codes: Vec<u8>, properties: Vec<Property> },
    Unsuback { packet_id: u16, codes: Vec<u8>, properties: Vec<Property> },
    Pingresp,
    Disconnect { code: u8, properties: Vec<Property> },
    Auth { code: u8, properties: Vec<Property> },
}

impl Packet {
    /// Decodes a frame's first byte and body, and panics on anything that a server must not send.
    pub(crate) fn decode(version: Version, first: u8, body: &[u8]) -> Self {
        let mut reader = Reader(body);
        let flags = first & 0x0f;
        let expected_flags = match first >> 4 {
            3 => flags,
            6 => 2,
            _ => 0,
        };
        assert_eq!(flags, expected_flags, "[MQTT-2.1.3-1] reserved flags of {first:#04x}");
        let packet = match first >> 4 {
            2 => Self::Connack(decode_connack(version, &mut reader)),
            3 => Self::Publish(decode_publish(version, flags, &mut reader)),
            4 => decode_ack(version, Ack::Puback, &mut reader),
            5 => decode_ack(version, Ack::Pubrec, &mut reader),
            6 => decode_ack(version, Ack::Pubrel, &mut reader),
            7 => decode_ack(version, Ack::Pubcomp, &mut reader),
            9 => {
                let packet_id = reader.u16();
                let properties = v5_section(version, &mut reader, ACK_PROPERTIES);
                Self::Suback { packet_id, codes: reader.rest().to_vec(), properties }
            }
            11 => {
                let packet_id = reader.u16();
                let properties = v5_section(version, &mut reader, ACK_PROPERTIES);
                Self::Unsuback { packet_id, codes: reader.rest().to_vec(), properties }
            }
            13 => Self::Pingresp,
            14 if version.is_v5() => {
                let (code, properties) = code_and_section(&mut reader, DISCONNECT_PROPERTIES);
                Self::Disconnect { code, properties }
            }
            15 if version.is_v5() => {
                let (code, properties) = code_and_section(&mut reader, AUTH_PROPERTIES);
                Self::Auth { code, properties }
            }
            _ => panic!("a server does not send {first:#04x} to {version:?}"),
        };
        assert!(reader.is_empty(), "{:02x?} behind {packet:?}", reader.0);
        packet
    }
}

fn v5_section(version: Version, reader: &mut Reader<'_>, allowed: &[u8]) -> Vec<Property> {
    if version.is_v5() { read_section(reader, allowed) } else { Vec::new() }
}

/// Reason Code and properties, either of which may be left out at the end of a packet.
fn code_and_section(reader: &mut Reader<'_>, allowed: &[u8]) -> (u8, Vec<Property>) {
    let code = if reader.is_empty() { 0 } else { reader.u8() };
    let properties = if reader.is_empty() { Vec::new() } else { read_section(reader, allowed) };
    (code, properties)
}

fn decode_connack(version: Version, reader: &mut Reader<'_>) -> Connack {
    let flags = reader.u8();
    assert!(flags <= 1, "[MQTT-3.2.2-1] CONNACK flags {flags:#04x}");
    let code = reader.u8();
    assert!(version.is_v5() || code <= 5, "3.1.1 knows no return code {code}");
    // Before the version is agreed on, a refusal may come in the other version's form.
    let properties = if version.is_v5() && !reader.is_empty() {
        read_section(reader, CONNACK_PROPERTIES)
    } else {
        Vec::new()
    };
    assert!(code == 0 || flags == 0, "[MQTT-3.2.2-6] session present beside code {code:#04x}");
    Connack { session_present: flags == 1, code, properties }
}

fn decode_publish(version: Version, flags: u8, reader: &mut Reader<'_>) -> Publish {
    let qos = (flags >> 1) & 3;
    assert!(qos < 3, "[MQTT-3.3.1-4] QoS 3");
    let dup = flags & 8 != 0;
    assert!(qos > 0 || !dup, "[MQTT-3.3.1-2] DUP with QoS 0");
    let topic = reader.string();
    assert!(!topic.contains(['+', '#']), "[MQTT-3.3.2-2] wildcard in {topic:?}");
    let packet_id = if qos > 0 { reader.u16() } else { 0 };
    assert!(qos == 0 || packet_id != 0, "[MQTT-2.2.1-4] packet identifier 0");
    let properties = v5_section(version, reader, PUBLISH_PROPERTIES);
    let aliased = properties.iter().any(|property| matches!(property, Property::TopicAlias(_)));
    assert!(!topic.is_empty() || aliased, "[MQTT-4.7.3-1] empty topic name");
    let payload = reader.rest().to_vec();
    Publish { dup, qos, retain: flags & 1 != 0, topic, packet_id, properties, payload }
}

fn decode_ack(version: Version, kind: Ack, reader: &mut Reader<'_>) -> Packet {
    let packet_id = reader.u16();
    let (code, properties) =
        if version.is_v5() { code_and_section(reader, ACK_PROPERTIES) } else { (0, Vec::new()) };
    Packet::Ack { kind, packet_id, code, properties }
}
