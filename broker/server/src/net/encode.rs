//! The core's deliveries and replies to bytes. What is sent per message is written in place;
//! everything else goes through the codec.
//! What must not live here: when something is sent.

use std::num::NonZeroU16;

use ntex::codec::Encoder;
use ntex::util::{BytePages, ByteString, Bytes};
use ntex_mqtt::v5;
use wasmqtt_core::action::{ConnAck, Delivery, Proof, Reply};
use wasmqtt_core::ids::PacketId;
use wasmqtt_core::limits::Limits;
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::{ReasonCode, Version};

use super::alias::{self, Naming};
use super::decode::Terms;

/// What the property takes that carries a Topic Alias.
const ALIAS_BYTES: usize = 3;

/// Writes a PUBLISH; false, and nothing is written, if it is longer than the client accepts
/// [MQTT-3.1.2-24], whatever an alias would save: it may have to be sent again without.
pub(crate) fn publish(
    out: &mut Vec<u8>,
    terms: Terms,
    delivery: &Delivery<'_>,
    name: impl FnOnce(&str) -> Naming,
) -> bool {
    let Delivery { message, qos, retain, dup, packet_id, subscription_ids, expiry_seconds } =
        delivery;
    let mut topic = message.topic.as_bytes();
    let is_v5 = terms.version.is_v5();
    let rest = 2 + message.payload.len() + if packet_id.is_some() { 2 } else { 0 };
    let mut properties = 0;
    if is_v5 {
        properties = message.properties.len() + if expiry_seconds.is_some() { 5 } else { 0 };
        for identifier in *subscription_ids {
            properties += 1 + variable_length(*identifier as usize);
        }
    }
    let remaining = |topic: &[u8], properties: usize| {
        rest + topic.len() + if is_v5 { variable_length(properties) + properties } else { 0 }
    };
    let fits =
        |length: usize| 1 + variable_length(length) + length <= terms.packet_bytes_max as usize;
    let mut length = remaining(topic, properties);
    if !fits(length) {
        return false;
    }
    let mut alias = None;
    let may_alias = terms.topic_aliases_max > 0 && !dup && alias::is_worth_it(message.topic);
    if may_alias && fits(remaining(topic, properties + ALIAS_BYTES)) {
        match name(message.topic) {
            Naming::Name => {}
            Naming::NameAndAlias(number) => alias = Some(number),
            Naming::Alias(number) => {
                alias = Some(number);
                topic = &[];
            }
        }
    }
    if alias.is_some() {
        properties += ALIAS_BYTES;
        length = remaining(topic, properties);
    }
    out.reserve(5 + length);
    out.push(0x30 | u8::from(*dup) << 3 | (*qos as u8) << 1 | u8::from(*retain));
    put_variable(out, length);
    #[expect(clippy::cast_possible_truncation, reason = "a Topic Name is at most 65,535 bytes")]
    let topic_length = (topic.len() as u16).to_be_bytes();
    out.extend_from_slice(&topic_length);
    out.extend_from_slice(topic);
    if let (Some(packet_id), true) = (packet_id, *qos > QoS::AtMostOnce) {
        out.extend_from_slice(&packet_id.get().to_be_bytes());
    }
    if is_v5 {
        put_variable(out, properties);
        if let Some(number) = alias {
            out.push(0x23);
            out.extend_from_slice(&number.to_be_bytes());
        }
        if let Some(seconds) = expiry_seconds {
            out.push(0x02);
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        for identifier in *subscription_ids {
            out.push(0x0b);
            put_variable(out, *identifier as usize);
        }
        out.extend_from_slice(message.properties);
    }
    out.extend_from_slice(message.payload);
    true
}

/// Writes any other packet; false, and nothing is written, if it is longer than the client accepts
/// even without what may be left out [MQTT-3.1.2-24].
pub(crate) fn reply(
    out: &mut Vec<u8>,
    terms: Terms,
    reply: &Reply<'_>,
    limits: &Limits,
    response_information: Option<&str>,
) -> bool {
    let start = out.len();
    match *reply {
        Reply::PubAck(id, code, reason) => acknowledgement(out, terms, 0x40, id, code, reason),
        Reply::PubRec(id, code, reason) => acknowledgement(out, terms, 0x50, id, code, reason),
        Reply::PubRel(id, code) => acknowledgement(out, terms, 0x62, id, code, None),
        Reply::PubComp(id, code) => acknowledgement(out, terms, 0x70, id, code, None),
        Reply::PingResp => out.extend_from_slice(&[0xd0, 0]),
        Reply::SubAck(id, codes) => {
            filters_acknowledgement(
                out,
                terms,
                0x90,
                id,
                codes.iter().map(|code| code.suback(terms.version)),
            );
        }
        Reply::UnsubAck(id, codes) => match terms.version {
            Version::V31 | Version::V311 => {
                out.extend_from_slice(&[0xb0, 2, high(id), low(id)]);
            }
            Version::V5 => {
                filters_acknowledgement(out, terms, 0xb0, id, codes.iter().map(|code| *code as u8));
            }
        },
        Reply::Auth(code, proof) => auth(out, code, proof),
        Reply::ConnAck(ref connack) => {
            let information = response_information.filter(|_| terms.response_information);
            self::connack(out, terms, connack, limits, information);
        }
    }
    let fits = out.len() - start <= terms.packet_bytes_max as usize;
    if !fits {
        out.truncate(start);
    }
    fits
}

const fn high(id: PacketId) -> u8 {
    id.get().to_be_bytes()[0]
}

const fn low(id: PacketId) -> u8 {
    id.get().to_be_bytes()[1]
}

fn acknowledgement(
    out: &mut Vec<u8>,
    terms: Terms,
    first: u8,
    id: PacketId,
    code: ReasonCode,
    reason: Option<&str>,
) {
    if !terms.version.is_v5() || code == ReasonCode::Success {
        return out.extend_from_slice(&[first, 2, high(id), low(id)]);
    }
    let properties = 3 + reason.map_or(0, str::len);
    let length = 3 + variable_length(properties) + properties;
    let fits = 1 + variable_length(length) + length <= terms.packet_bytes_max as usize;
    // [MQTT-3.1.2-29] [MQTT-3.4.2-2] [MQTT-3.5.2-2]
    let Some(reason) = reason.filter(|_| terms.problem_information && fits) else {
        return out.extend_from_slice(&[first, 3, high(id), low(id), code as u8]);
    };
    put_header(out, first, length);
    out.extend_from_slice(&[high(id), low(id), code as u8]);
    put_variable(out, properties);
    out.push(0x1f);
    put_bytes(out, reason.as_bytes());
}

fn filters_acknowledgement(
    out: &mut Vec<u8>,
    terms: Terms,
    first: u8,
    id: PacketId,
    codes: impl ExactSizeIterator<Item = u8>,
) {
    let properties = usize::from(terms.version.is_v5());
    put_header(out, first, 2 + properties + codes.len());
    out.extend_from_slice(&id.get().to_be_bytes());
    if properties > 0 {
        out.push(0);
    }
    codes.for_each(|code| out.push(code));
}

fn connack(
    out: &mut Vec<u8>,
    terms: Terms,
    connack: &ConnAck<'_>,
    limits: &Limits,
    information: Option<&str>,
) {
    if !terms.version.is_v5() {
        let is_told = terms.version != Version::V31; // a reserved byte there
        let present = u8::from(connack.session_present && is_told);
        return out.extend_from_slice(&[0x20, 2, present, connack.code.connack_v3()]);
    }
    let start = out.len();
    // What only helps is left out where it has no room [MQTT-3.2.2-19].
    let information = information.filter(|_| !connack.code.is_error()); // [MQTT-3.1.2-28]
    for optional in [(connack.reason, information), (None, None)] {
        out.truncate(start);
        connack_v5(out, connack, optional, limits);
        if out.len() - start <= terms.packet_bytes_max as usize {
            return;
        }
    }
}

fn connack_v5(
    out: &mut Vec<u8>,
    connack: &ConnAck<'_>,
    (reason, information): (Option<&str>, Option<&str>),
    limits: &Limits,
) {
    let is_error = connack.code.is_error();
    let packet = v5::codec::ConnectAck {
        session_present: connack.session_present,
        reason_code: (connack.code as u8)
            .try_into()
            .unwrap_or(v5::codec::ConnectAckReason::UnspecifiedError),
        session_expiry_interval_secs: connack.session_expiry_seconds,
        receive_max: NonZeroU16::new(limits.receive_maximum).unwrap_or(NonZeroU16::MIN),
        max_packet_size: (!is_error).then_some(limits.packet_bytes_max),
        assigned_client_id: connack.assigned_client_id.map(ByteString::from),
        topic_alias_max: limits.topic_alias_maximum,
        shared_subscription_available: true,
        server_keepalive_sec: connack.server_keep_alive,
        reason_string: reason.map(ByteString::from),
        response_info: information.map(ByteString::from),
        auth_method: connack.proof.map(|proof| ByteString::from(proof.method)),
        auth_data: connack.proof.and_then(|proof| proof.data).map(Bytes::copy_from_slice),
        ..v5::codec::ConnectAck::default()
    };
    let packet = v5::codec::Encoded::Packet(v5::codec::Packet::ConnectAck(Box::new(packet)));
    let mut pages = BytePages::default();
    encoded(v5::codec::Codec::new().encodev(packet, &mut pages));
    out.extend_from_slice(&pages.freeze());
}

/// Never with a reason string or user properties, which may have to be left out
/// [MQTT-3.15.2-2] [MQTT-3.15.2-3].
fn auth(out: &mut Vec<u8>, code: ReasonCode, proof: Proof<'_>) {
    let Proof { method, data } = proof;
    let properties = 3 + method.len() + data.map_or(0, |data| 3 + data.len());
    put_header(out, 0xf0, 1 + variable_length(properties) + properties);
    out.push(code as u8);
    put_variable(out, properties);
    out.push(0x15);
    put_bytes(out, method.as_bytes());
    if let Some(data) = data {
        out.push(0x16);
        put_bytes(out, data);
    }
}

/// Writes a CONNACK that refuses what could not even be read.
pub(crate) fn connack_refused(out: &mut Vec<u8>, version: Version, code: ReasonCode) {
    match version {
        Version::V31 | Version::V311 => {
            out.extend_from_slice(&[0x20, 2, 0, code.connack_v3()]);
        }
        Version::V5 => out.extend_from_slice(&[0x20, 3, 0, code as u8, 0]),
    }
}

/// A DISCONNECT; none for 3.1.1, where only clients have one, and none that is longer than the
/// client accepts [MQTT-3.1.2-24].
pub(crate) fn disconnect(terms: Terms, code: ReasonCode) -> Option<[u8; 3]> {
    let packet = [0xe0, 1, code as u8];
    let fits = packet.len() <= terms.packet_bytes_max as usize;
    (terms.version.is_v5() && fits).then_some(packet)
}

fn encoded(result: Result<(), ntex_mqtt::error::EncodeError>) {
    debug_assert!(result.is_ok(), "what this broker sends can be encoded: {result:?}");
}

fn put_header(out: &mut Vec<u8>, first: u8, length: usize) {
    out.push(first);
    put_variable(out, length);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a reason string is at most 1 KiB, Authentication Data 16 KiB, a method came in such a field"
    )]
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

const fn variable_length(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

pub(super) fn put_variable(out: &mut Vec<u8>, mut value: usize) {
    loop {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        out.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}
