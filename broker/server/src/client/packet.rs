//! Packets to bytes and back, as a client sends and receives them, for all three versions.
//! What must not live here: when a packet is sent, what one brings about.

use bytes::Bytes;
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::Version;

use super::property::{Properties, Reader, put_binary, put_variable};

/// What a client asks for with CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive_seconds: u16,
    pub(crate) properties: Properties,
    pub(crate) will: Option<Publish>,
}

/// A PUBLISH in either direction, or a Will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// 0 with QoS 0.
    pub(crate) packet_id: u16,
    pub(crate) properties: Properties,
}

/// The four acknowledgements, by the first byte of their packet.
#[expect(clippy::enum_variant_names, reason = "the specification's names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    PubAck = 0x40,
    PubRec = 0x50,
    PubRel = 0x62,
    PubComp = 0x70,
}

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    ConnAck { session_present: bool, code: u8, properties: Properties },
    Publish(Publish),
    Acknowledgement { step: Step, packet_id: u16, code: u8, properties: Properties },
    SubAck { packet_id: u16, codes: Vec<u8>, properties: Properties },
    UnsubAck { packet_id: u16, codes: Vec<u8>, properties: Properties },
    PingResp,
    Disconnect { code: u8, properties: Properties },
    Auth,
}

pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];

/// Writes CONNECT.
pub(crate) fn connect(out: &mut Vec<u8>, connect: &Connect) {
    let Connect { version, client_id, username, password, will, .. } = connect;
    let mut body = Vec::new();
    let name: &[u8] = if *version == Version::V31 { b"MQIsdp" } else { b"MQTT" };
    put_binary(&mut body, name);
    body.push(version.level());
    let mut flags = u8::from(connect.clean_start) << 1
        | u8::from(password.is_some()) << 6
        | u8::from(username.is_some()) << 7;
    if let Some(will) = will {
        flags |= 4 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    body.push(flags);
    body.extend_from_slice(&connect.keep_alive_seconds.to_be_bytes());
    put_properties(&mut body, *version, &connect.properties);
    put_binary(&mut body, client_id.as_bytes());
    if let Some(will) = will {
        put_properties(&mut body, *version, &will.properties);
        put_binary(&mut body, will.topic.as_bytes());
        put_binary(&mut body, &will.payload);
    }
    if let Some(username) = username {
        put_binary(&mut body, username.as_bytes());
    }
    if let Some(password) = password {
        put_binary(&mut body, password);
    }
    put_frame(out, 0x10, &body);
}

/// Writes PUBLISH.
pub(crate) fn publish(out: &mut Vec<u8>, version: Version, publish: &Publish) {
    let Publish { topic, payload, qos, packet_id, properties, .. } = publish;
    let mut section = Vec::new();
    if version.is_v5() {
        properties.write(&mut section);
    }
    let id_bytes = if *qos == QoS::AtMostOnce { 0 } else { 2 };
    out.push(0x30 | u8::from(publish.dup) << 3 | (*qos as u8) << 1 | u8::from(publish.retain));
    put_variable(out, 2 + topic.len() + id_bytes + section.len() + payload.len());
    put_binary(out, topic.as_bytes());
    if id_bytes > 0 {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    out.extend_from_slice(&section);
    out.extend_from_slice(payload);
}

/// The bytes that a PUBLISH of that content takes at most.
pub(crate) fn publish_bytes(version: Version, message: &Publish) -> usize {
    let mut out = Vec::new();
    if version.is_v5() {
        message.properties.write(&mut out);
    }
    out.len() + message.topic.len() + message.payload.len() + 9
}

/// Writes an acknowledgement of success.
pub(crate) fn acknowledgement(out: &mut Vec<u8>, step: Step, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[step as u8, 2, high, low]);
}

/// Writes SUBSCRIBE; an option byte per filter [MQTT-3.8.3-1].
pub(crate) fn subscribe(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    filters: &[(String, u8)],
    properties: &Properties,
) {
    let mut body = packet_id.to_be_bytes().to_vec();
    put_properties(&mut body, version, properties);
    for (filter, options) in filters {
        put_binary(&mut body, filter.as_bytes());
        body.push(*options);
    }
    put_frame(out, 0x82, &body);
}

/// Writes UNSUBSCRIBE.
pub(crate) fn unsubscribe(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    filters: &[String],
    properties: &Properties,
) {
    let mut body = packet_id.to_be_bytes().to_vec();
    put_properties(&mut body, version, properties);
    for filter in filters {
        put_binary(&mut body, filter.as_bytes());
    }
    put_frame(out, 0xa2, &body);
}

/// Writes DISCONNECT of a client that is done.
pub(crate) fn disconnect(out: &mut Vec<u8>, version: Version, properties: &Properties) {
    let mut body = Vec::new();
    if version.is_v5() && !properties.0.is_empty() {
        body.push(0);
        properties.write(&mut body);
    }
    put_frame(out, 0xe0, &body);
}

fn put_properties(body: &mut Vec<u8>, version: Version, properties: &Properties) {
    if version.is_v5() {
        properties.write(body);
    }
}

fn put_frame(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    put_variable(out, body.len());
    out.extend_from_slice(body);
}

/// Reads a whole packet: its first byte and what follows the fixed header.
///
/// # Errors
/// The name of a packet that is malformed, or that no server sends.
pub(crate) fn read(first: u8, body: &Bytes, version: Version) -> Result<Packet, &'static str> {
    let mut reader = Reader(body);
    let (name, packet) = match first >> 4 {
        2 => ("CONNACK", connack(&mut reader, version)),
        3 => ("PUBLISH", read_publish(first, body, version)),
        4 => ("PUBACK", read_acknowledgement(&mut reader, Step::PubAck)),
        5 => ("PUBREC", read_acknowledgement(&mut reader, Step::PubRec)),
        6 => ("PUBREL", read_acknowledgement(&mut reader, Step::PubRel)),
        7 => ("PUBCOMP", read_acknowledgement(&mut reader, Step::PubComp)),
        9 => {
            let parts = codes(&mut reader, version);
            let suback =
                |(packet_id, codes, properties)| Packet::SubAck { packet_id, codes, properties };
            ("SUBACK", parts.map(suback))
        }
        11 => {
            let parts = codes(&mut reader, version);
            let unsuback =
                |(packet_id, codes, properties)| Packet::UnsubAck { packet_id, codes, properties };
            ("UNSUBACK", parts.map(unsuback))
        }
        13 => ("PINGRESP", Some(Packet::PingResp)),
        14 => ("DISCONNECT", read_disconnect(&mut reader)),
        15 => ("AUTH", Some(Packet::Auth)),
        _ => ("packet of a type that no server sends", None),
    };
    packet.ok_or(name)
}

fn connack(reader: &mut Reader<'_>, version: Version) -> Option<Packet> {
    let session_present = reader.byte()? & 1 == 1;
    let code = reader.byte()?;
    // A server that does not know MQTT 5 refuses in the form of its own version.
    let properties =
        if version.is_v5() { Properties::read(reader)? } else { Properties::default() };
    Some(Packet::ConnAck { session_present, code, properties })
}

fn read_publish(first: u8, body: &Bytes, version: Version) -> Option<Packet> {
    let mut reader = Reader(body);
    let topic = reader.text()?;
    let qos = QoS::from_u8((first >> 1) & 3)?;
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { reader.u16()? };
    let properties =
        if version.is_v5() { Properties::read(&mut reader)? } else { Properties::default() };
    let payload = body.slice(body.len() - reader.0.len()..);
    let (retain, dup) = (first & 1 != 0, first & 8 != 0);
    Some(Packet::Publish(Publish { topic, payload, qos, retain, dup, packet_id, properties }))
}

fn read_acknowledgement(reader: &mut Reader<'_>, step: Step) -> Option<Packet> {
    let packet_id = reader.u16()?;
    let code = if reader.is_empty() { 0 } else { reader.byte()? };
    let properties = Properties::read(reader)?;
    Some(Packet::Acknowledgement { step, packet_id, code, properties })
}

fn codes(reader: &mut Reader<'_>, version: Version) -> Option<(u16, Vec<u8>, Properties)> {
    let packet_id = reader.u16()?;
    let properties =
        if version.is_v5() { Properties::read(reader)? } else { Properties::default() };
    Some((packet_id, reader.0.to_vec(), properties))
}

fn read_disconnect(reader: &mut Reader<'_>) -> Option<Packet> {
    let code = if reader.is_empty() { 0 } else { reader.byte()? };
    Some(Packet::Disconnect { code, properties: Properties::read(reader)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::property::{Id, Value};

    fn message(properties: Properties, qos: QoS) -> Publish {
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { 7 };
        Publish {
            topic: "a/b".to_owned(),
            payload: Bytes::from_static(b"payload"),
            qos,
            retain: true,
            dup: qos != QoS::AtMostOnce,
            packet_id,
            properties,
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written_on_every_version_and_qos() {
        for version in [Version::V31, Version::V311, Version::V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let mut properties = Properties::default();
                if version.is_v5() {
                    properties.0.push((Id::CONTENT_TYPE, Value::Text("text".to_owned())));
                }
                let sent = message(properties, qos);
                let mut bytes = Vec::new();
                publish(&mut bytes, version, &sent);
                let body = Bytes::copy_from_slice(&bytes[2..]);
                assert_eq!(usize::from(bytes[1]), body.len());
                assert!(publish_bytes(version, &sent) >= bytes.len());
                assert_eq!(read(bytes[0], &body, version), Ok(Packet::Publish(sent)));
            }
        }
    }

    /// [MQTT-3.1.2-1] and the fields in their order, for a client that uses them all.
    #[test]
    fn connect_is_written_as_each_version_has_it() {
        let mut ask = Connect {
            version: Version::V31,
            client_id: "c".to_owned(),
            username: Some("u".to_owned()),
            password: Some(b"p".to_vec()),
            clean_start: true,
            keep_alive_seconds: 60,
            properties: Properties::default(),
            will: Some(Publish {
                dup: false,
                topic: "w".to_owned(),
                payload: Bytes::from_static(b"x"),
                ..message(Properties::default(), QoS::AtLeastOnce)
            }),
        };
        let mut bytes = Vec::new();
        connect(&mut bytes, &ask);
        let rest = b"\xee\0\x3c\0\x01c\0\x01w\0\x01x\0\x01u\0\x01p";
        assert_eq!(bytes, [&b"\x10\x1b\0\x06MQIsdp\x03"[..], rest].concat());
        ask.version = Version::V311;
        bytes.clear();
        connect(&mut bytes, &ask);
        assert_eq!(bytes, [&b"\x10\x19\0\x04MQTT\x04"[..], rest].concat());
        ask.version = Version::V5;
        bytes.clear();
        connect(&mut bytes, &ask);
        let rest = b"\xee\0\x3c\0\0\x01c\0\0\x01w\0\x01x\0\x01u\0\x01p";
        assert_eq!(bytes, [&b"\x10\x1b\0\x04MQTT\x05"[..], rest].concat());
    }

    #[test]
    fn what_is_cut_short_is_malformed_and_said_by_name() {
        let check = |first: u8, body: &'static [u8], name: &str| {
            let body = Bytes::from_static(body);
            assert_eq!(read(first, &body, Version::V5), Err(name));
        };
        check(0x20, &[0], "CONNACK");
        check(0x32, &[0, 1, b'a', 0], "PUBLISH");
        check(0x40, &[0], "PUBACK");
        check(0x90, &[0, 1, 5, 1], "SUBACK");
        check(0xe0, &[0, 1], "DISCONNECT");
        check(0x10, &[], "packet of a type that no server sends");
    }
}
