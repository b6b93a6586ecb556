//! Frames to the core's packets. PUBLISH and acknowledgements are read in place, since they are
//! nearly all of the traffic; everything else goes through the codec.
//! What must not live here: what a packet does.

use std::cell::RefCell;
use std::num::NonZeroU16;
use std::sync::Arc;

use ntex::codec::Decoder;
use ntex::util::BytesMut;
use ntex_mqtt::{v3, v5};
use wasmqtt_core::event::{Authentication, Connect, Packet, Publish, SubscribeFilter};
use wasmqtt_core::hook::{ConnectionFacts, TlsFacts};
use wasmqtt_core::ids::TenantId;
use wasmqtt_core::message::{Message, MessageRef, QoS};
use wasmqtt_core::properties::PublishProperties;
use wasmqtt_core::reason::{ReasonCode, Version};
use wasmqtt_core::session::will::Will;
use wasmqtt_core::time::Millis;

use super::frame::{self, Frame, packet_type};
use super::strict;

/// Where a connection came in: what CONNECT does not say.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) tenant: TenantId,
    pub(crate) tenant_name: Arc<str>,
    pub(crate) listener: Arc<str>,
    pub(crate) peer: Box<str>,
    pub(crate) tls: Option<Box<TlsFacts>>,
}

/// What CONNECT tells about the connection itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) version: Version,
    /// Maximum Packet Size of the client, `u32::MAX`: none.
    pub(crate) packet_bytes_max: u32,
    /// Topic Alias Maximum of the client, within the broker's own bound.
    pub(crate) topic_aliases_max: u16,
    /// Request Response Information.
    pub(crate) response_information: bool,
    /// Request Problem Information.
    pub(crate) problem_information: bool,
}

/// Reads a PUBLISH frame and hands it on.
///
/// # Errors
/// The Reason Code that ends the connection.
pub(crate) fn with_publish<R>(
    frame: Frame<'_>,
    version: Version,
    then: impl FnOnce(Publish<'_>) -> R,
) -> Result<R, ReasonCode> {
    const MALFORMED: ReasonCode = ReasonCode::MalformedPacket;
    let Frame { first, body, .. } = frame;
    let qos = QoS::from_u8((first >> 1) & 3).ok_or(MALFORMED)?;
    let dup = first & 8 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(MALFORMED); // [MQTT-3.3.1-2]
    }
    let (length, rest) = body.split_at_checked(2).ok_or(MALFORMED)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let (topic, mut rest) = rest.split_at_checked(length).ok_or(MALFORMED)?;
    let topic = std::str::from_utf8(topic).map_err(|_| MALFORMED)?;
    if topic.contains('\0') {
        return Err(MALFORMED); // [MQTT-1.5.4-2]
    }
    let mut packet_id = None;
    if qos > QoS::AtMostOnce {
        let (id, after) = rest.split_at_checked(2).ok_or(MALFORMED)?;
        packet_id = Some(NonZeroU16::new(u16::from_be_bytes([id[0], id[1]])).ok_or(MALFORMED)?);
        rest = after;
    }
    let retain = first & 1 != 0;
    let mut publish = Publish {
        topic,
        payload: rest,
        qos,
        retain,
        dup,
        packet_id,
        properties: &[],
        expiry_seconds: None,
        topic_alias: None,
    };
    if !version.is_v5() {
        return Ok(then(publish));
    }
    let (section, payload) = property_section(rest)?;
    publish.payload = payload;
    if section.is_empty() {
        if topic.is_empty() {
            return Err(ReasonCode::ProtocolError); // neither Topic Name nor Topic Alias
        }
        return Ok(then(publish));
    }
    let properties = PublishProperties::parse(section).map_err(|error| error.reason_code())?;
    if topic.is_empty() && properties.topic_alias.is_none() {
        return Err(ReasonCode::ProtocolError);
    }
    Ok(then(Publish {
        properties: &properties.forward,
        expiry_seconds: properties.message_expiry_seconds,
        topic_alias: properties.topic_alias,
        ..publish
    }))
}

fn property_section(bytes: &[u8]) -> Result<(&[u8], &[u8]), ReasonCode> {
    let mut length = 0_usize;
    for (index, &byte) in bytes.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                break;
            }
            return bytes[index + 1..].split_at_checked(length).ok_or(ReasonCode::MalformedPacket);
        }
    }
    Err(ReasonCode::MalformedPacket)
}

/// Reads any frame but CONNECT and PUBLISH.
///
/// # Errors
/// The Reason Code that ends the connection.
pub(crate) fn packet(frame: Frame<'_>, version: Version) -> Result<Packet<'static>, ReasonCode> {
    let Frame { body, .. } = frame;
    match frame.packet_type() {
        packet_type::PUBACK => {
            let (packet_id, code) = acknowledgement(body, version, false)?;
            Ok(Packet::PubAck { packet_id, code })
        }
        packet_type::PUBREC => {
            let (packet_id, code) = acknowledgement(body, version, false)?;
            Ok(Packet::PubRec { packet_id, code })
        }
        packet_type::PUBREL => {
            let (packet_id, _) = acknowledgement(body, version, true)?;
            Ok(Packet::PubRel { packet_id })
        }
        packet_type::PUBCOMP => {
            let (packet_id, _) = acknowledgement(body, version, true)?;
            Ok(Packet::PubComp { packet_id })
        }
        packet_type::PINGREQ if body.is_empty() => Ok(Packet::PingReq),
        packet_type::PINGREQ => Err(ReasonCode::MalformedPacket),
        packet_type::SUBSCRIBE => {
            strict::check_filters(body, version, true)?;
            by_codec(frame, version)
        }
        packet_type::UNSUBSCRIBE => {
            strict::check_filters(body, version, false)?;
            by_codec(frame, version)
        }
        packet_type::DISCONNECT => {
            strict::check_ending(body, version, false)?;
            by_codec(frame, version)
        }
        packet_type::AUTH if version.is_v5() => {
            strict::check_ending(body, version, true)?;
            strict::check_auth_code(body)?;
            by_codec(frame, version)
        }
        packet_type::AUTH => Err(ReasonCode::MalformedPacket),
        // A second CONNECT [MQTT-3.1.0-2], or what only a server sends.
        _ => Err(ReasonCode::ProtocolError),
    }
}

fn acknowledgement(
    body: &[u8],
    version: Version,
    is_second: bool,
) -> Result<(NonZeroU16, ReasonCode), ReasonCode> {
    let (id, rest) = body.split_at_checked(2).ok_or(ReasonCode::MalformedPacket)?;
    let id = NonZeroU16::new(u16::from_be_bytes([id[0], id[1]]));
    let packet_id = id.ok_or(ReasonCode::MalformedPacket)?;
    Ok((packet_id, strict::acknowledgement_code(rest, version, is_second)?))
}

thread_local! {
    // The codecs keep state between calls only while a frame is incomplete: they never see one.
    static CODECS: RefCell<(v3::codec::Codec, v5::codec::Codec)> = RefCell::default();
}

fn decode_v3(frame: Frame<'_>) -> Result<v3::codec::Packet, ReasonCode> {
    let mut bytes = BytesMut::copy_from_slice(frame.bytes);
    match CODECS.with_borrow(|codecs| codecs.0.decode(&mut bytes)) {
        Ok(Some(v3::codec::Decoded::Packet(packet, _))) => Ok(packet),
        Ok(_) | Err(_) => {
            CODECS.take();
            Err(ReasonCode::MalformedPacket)
        }
    }
}

fn decode_v5(mut bytes: BytesMut) -> Result<v5::codec::Packet, ReasonCode> {
    match CODECS.with_borrow(|codecs| codecs.1.decode(&mut bytes)) {
        Ok(Some(v5::codec::Decoded::Packet(packet, _))) => Ok(packet),
        Ok(_) | Err(_) => {
            CODECS.take();
            Err(ReasonCode::MalformedPacket)
        }
    }
}

fn by_codec(frame: Frame<'_>, version: Version) -> Result<Packet<'static>, ReasonCode> {
    match version {
        Version::V31 | Version::V311 => from_v3(decode_v3(frame)?),
        Version::V5 => from_v5(decode_v5(BytesMut::copy_from_slice(frame.bytes))?),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only what the callers let through comes here")]
fn from_v3(packet: v3::codec::Packet) -> Result<Packet<'static>, ReasonCode> {
    use v3::codec::Packet as P;
    match packet {
        P::Subscribe { packet_id, topic_filters } => Ok(Packet::Subscribe {
            packet_id,
            identifier: 0,
            filters: topic_filters
                .into_iter()
                .map(|(filter, qos)| SubscribeFilter {
                    filter: filter.as_str().into(),
                    qos: from_qos(qos),
                    no_local: false,
                    retain_as_published: false,
                    retain_handling: 0,
                })
                .collect(),
        }),
        P::Unsubscribe { packet_id, topic_filters } => Ok(Packet::Unsubscribe {
            packet_id,
            filters: topic_filters.iter().map(|filter| filter.as_str().into()).collect(),
        }),
        P::Disconnect => {
            Ok(Packet::Disconnect { code: ReasonCode::Success, session_expiry_seconds: None })
        }
        _ => Err(ReasonCode::ProtocolError),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only what the callers let through comes here")]
fn from_v5(packet: v5::codec::Packet) -> Result<Packet<'static>, ReasonCode> {
    use v5::codec::{Packet as P, RetainHandling};
    match packet {
        P::Subscribe(subscribe) => Ok(Packet::Subscribe {
            packet_id: subscribe.packet_id,
            identifier: subscribe.id.map_or(0, std::num::NonZeroU32::get),
            filters: subscribe
                .topic_filters
                .into_iter()
                .map(|(filter, options)| SubscribeFilter {
                    filter: filter.as_str().into(),
                    qos: from_qos(options.qos),
                    no_local: options.no_local,
                    retain_as_published: options.retain_as_published,
                    retain_handling: match options.retain_handling {
                        RetainHandling::AtSubscribe => 0,
                        RetainHandling::AtSubscribeNew => 1,
                        RetainHandling::NoAtSubscribe => 2,
                    },
                })
                .collect(),
        }),
        P::Unsubscribe(unsubscribe) => Ok(Packet::Unsubscribe {
            packet_id: unsubscribe.packet_id,
            filters: unsubscribe.topic_filters.iter().map(|f| f.as_str().into()).collect(),
        }),
        P::Disconnect(disconnect) => Ok(Packet::Disconnect {
            code: ReasonCode::from_u8(disconnect.reason_code.into())
                .ok_or(ReasonCode::MalformedPacket)?,
            session_expiry_seconds: disconnect.session_expiry_interval_secs,
        }),
        P::Auth(auth) => Ok(Packet::Auth {
            code: ReasonCode::from_u8(auth.reason_code.into())
                .ok_or(ReasonCode::MalformedPacket)?,
            authentication: authentication(auth.auth_method.as_deref(), auth.auth_data.as_deref())?
                .ok_or(ReasonCode::ProtocolError)?, // MQTT 5, 3.15.2.2.2
        }),
        _ => Err(ReasonCode::ProtocolError),
    }
}

const fn from_qos(qos: ntex_mqtt::QoS) -> QoS {
    match qos {
        ntex_mqtt::QoS::AtMostOnce => QoS::AtMostOnce,
        ntex_mqtt::QoS::AtLeastOnce => QoS::AtLeastOnce,
        ntex_mqtt::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

/// Reads a CONNECT frame.
///
/// # Errors
/// The Reason Code for CONNACK, or for the end without one.
pub(crate) fn connect(
    frame: Frame<'_>,
    version: Version,
    origin: Origin,
) -> Result<(Connect, Terms), ReasonCode> {
    if version == Version::V31 {
        let renamed = frame::connect_of_3_1_1(frame);
        let frame = frame::cut(&renamed, u32::MAX)?.ok_or(ReasonCode::MalformedPacket)?;
        let (mut connect, terms) = connect(frame, Version::V311, origin)?;
        if connect.facts.client_id.is_empty() {
            return Err(ReasonCode::ClientIdentifierNotValid); // 3.1 knows no assigned ones
        }
        connect.facts.version = version;
        return Ok((connect, Terms { version, ..terms }));
    }
    let zero_expiry = strict::check_connect(frame.body, version)?;
    let Origin { tenant, tenant_name, listener, peer, tls } = origin;
    let facts = |client_id: &str, username: Option<&str>, clean_start, keep_alive_seconds| {
        ConnectionFacts {
            tenant: tenant_name,
            client_id: client_id.into(),
            username: username.map(Into::into),
            listener,
            peer,
            version,
            clean_start,
            keep_alive_seconds,
            tls,
        }
    };
    match version {
        Version::V31 | Version::V311 => {
            if frame.body.get(10..12) == Some(&[0, 0]) && frame.body[7] & 2 == 0 {
                return Err(ReasonCode::ClientIdentifierNotValid); // [MQTT-3.1.3-8] of 3.1.1
            }
            let v3::codec::Packet::Connect(connect) = decode_v3(frame)? else {
                return Err(ReasonCode::ProtocolError);
            };
            let terms = Terms {
                version,
                packet_bytes_max: u32::MAX,
                topic_aliases_max: 0,
                response_information: false,
                problem_information: false,
            };
            let clean = connect.clean_session;
            let will = connect.last_will.map(|will| {
                let message = MessageRef {
                    topic: &will.topic,
                    payload: &will.message,
                    qos: from_qos(will.qos),
                    retain: will.retain,
                    properties: &[],
                    expires_at: Millis::NEVER,
                    publisher: None,
                };
                Will {
                    message: Message::new(message),
                    delay_seconds: 0,
                    expiry_seconds: None,
                    hold_seconds: None,
                }
            });
            let username = connect.username.as_deref();
            let connect = Connect {
                facts: facts(&connect.client_id, username, clean, connect.keep_alive),
                tenant,
                password: connect.password.map(|password| password.as_ref().into()),
                authentication: None,
                will: will.map(Box::new),
                session_expiry_seconds: if clean { 0 } else { u32::MAX },
                receive_maximum: u16::MAX,
            };
            Ok((connect, terms))
        }
        Version::V5 => {
            let mut bytes = BytesMut::copy_from_slice(frame.bytes);
            if let Some(at) = zero_expiry {
                bytes[frame.bytes.len() - frame.body.len() + at] = 1; // the codec takes no 0
            }
            let v5::codec::Packet::Connect(connect) = decode_v5(bytes)? else {
                return Err(ReasonCode::ProtocolError);
            };
            let (method, data) = (connect.auth_method.as_deref(), connect.auth_data.as_deref());
            let authentication = authentication(method, data)?;
            let terms = Terms {
                version,
                packet_bytes_max: connect.max_packet_size.map_or(u32::MAX, |max| max.get()),
                topic_aliases_max: connect.topic_alias_max,
                response_information: connect.request_response_info,
                problem_information: connect.request_problem_info,
            };
            let mut will = connect.last_will.as_ref().map(will_v5).transpose()?;
            if let (Some(will), Some(_)) = (&mut will, zero_expiry) {
                will.expiry_seconds = Some(0);
            }
            let username = connect.username.as_deref();
            let clean = connect.clean_start;
            let connect = Connect {
                facts: facts(&connect.client_id, username, clean, connect.keep_alive),
                tenant,
                password: connect.password.as_ref().map(|password| password.as_ref().into()),
                authentication,
                will: will.map(Box::new),
                session_expiry_seconds: connect.session_expiry_interval_secs,
                receive_maximum: connect.receive_max.map_or(u16::MAX, NonZeroU16::get),
            };
            Ok((connect, terms))
        }
    }
}

/// Authentication Method and Data; data without a method is an error (MQTT 5, 3.1.2.11.10).
fn authentication(
    method: Option<&str>,
    data: Option<&[u8]>,
) -> Result<Option<Authentication>, ReasonCode> {
    match (method, data) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(ReasonCode::ProtocolError),
        (Some(method), data) => {
            Ok(Some(Authentication { method: method.into(), data: data.map(Into::into) }))
        }
    }
}

/// A Will with its properties back in wire form, as they are forwarded.
fn will_v5(will: &v5::codec::LastWill) -> Result<Will, ReasonCode> {
    fn put(properties: &mut Vec<u8>, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).expect("the codec read at most 65,535 bytes");
        properties.extend_from_slice(&length.to_be_bytes());
        properties.extend_from_slice(bytes);
    }
    let mut properties = Vec::new();
    if let Some(is_utf8) = will.is_utf8_payload {
        properties.extend_from_slice(&[0x01, u8::from(is_utf8)]);
    }
    if let Some(content_type) = &will.content_type {
        properties.push(0x03);
        put(&mut properties, content_type.as_bytes());
    }
    if let Some(response_topic) = &will.response_topic {
        properties.push(0x08);
        put(&mut properties, response_topic.as_bytes());
    }
    if let Some(correlation_data) = &will.correlation_data {
        properties.push(0x09);
        put(&mut properties, correlation_data);
    }
    for (name, value) in &will.user_properties {
        properties.push(0x26);
        put(&mut properties, name.as_bytes());
        put(&mut properties, value.as_bytes());
    }
    PublishProperties::parse(&properties).map_err(|error| error.reason_code())?;
    let message = MessageRef {
        topic: &will.topic,
        payload: &will.message,
        qos: from_qos(will.qos),
        retain: will.retain,
        properties: &properties,
        expires_at: Millis::NEVER,
        publisher: None,
    };
    Ok(Will {
        message: Message::new(message),
        delay_seconds: will.will_delay_interval_sec.unwrap_or(0),
        expiry_seconds: will.message_expiry_interval.map(std::num::NonZeroU32::get),
        hold_seconds: None,
    })
}
