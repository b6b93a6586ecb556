//! Checks on the bytes of a packet that the codec does not make.
//! What must not live here: conversion.

use wasmqtt_core::reason::{ReasonCode, Version};

/// Property identifiers that are treated by themselves [MQTT 2.2.2.2].
mod property {
    pub(super) const MESSAGE_EXPIRY_INTERVAL: usize = 0x02;
    pub(super) const SUBSCRIPTION_IDENTIFIER: usize = 0x0b;
    pub(super) const RECEIVE_MAXIMUM: usize = 0x21;
    pub(super) const USER: usize = 0x26;
    pub(super) const MAXIMUM_PACKET_SIZE: usize = 0x27;
}

/// The properties that a packet may have, a bit each.
#[derive(Clone, Copy)]
struct Section(u64);

const fn section(ids: &[u8]) -> Section {
    let mut bits = 0;
    let mut at = 0;
    while at < ids.len() {
        bits |= 1 << ids[at];
        at += 1;
    }
    Section(bits)
}

const CONNECT: Section = section(&[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]);
const WILL: Section = section(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]);
const SUBSCRIBE: Section = section(&[0x0b, 0x26]);
const UNSUBSCRIBE: Section = section(&[0x26]);
const ACKNOWLEDGEMENT: Section = section(&[0x1f, 0x26]);
const DISCONNECT: Section = section(&[0x11, 0x1f, 0x26]);
const AUTH: Section = section(&[0x15, 0x16, 0x1f, 0x26]);

/// Bytes that are walked field by field; every step fails on what is not there.
struct Walk<'a>(&'a [u8]);

impl<'a> Walk<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ReasonCode> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ReasonCode::MalformedPacket)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, ReasonCode> {
        Ok(self.take(1)?[0])
    }

    fn binary(&mut self) -> Result<&'a [u8], ReasonCode> {
        let length = self.take(2)?;
        self.take(usize::from(u16::from_be_bytes([length[0], length[1]])))
    }

    /// A UTF-8 string without U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2].
    fn text(&mut self) -> Result<&'a str, ReasonCode> {
        let text = std::str::from_utf8(self.binary()?).map_err(|_| ReasonCode::MalformedPacket)?;
        if text.contains('\0') { Err(ReasonCode::MalformedPacket) } else { Ok(text) }
    }

    /// A variable byte integer in its shortest form [MQTT-1.5.5-1].
    fn variable(&mut self) -> Result<usize, ReasonCode> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let is_minimal = byte != 0 || shift == 0;
                return if is_minimal { Ok(value) } else { Err(ReasonCode::MalformedPacket) };
            }
        }
        Err(ReasonCode::MalformedPacket)
    }

    /// A property section: which properties stand in it, how often, and their values
    /// [MQTT 2.2.2.2].
    fn properties(&mut self, version: Version, section: Section) -> Result<&'a [u8], ReasonCode> {
        if !version.is_v5() {
            return Ok(&[]);
        }
        let length = self.variable()?;
        let bytes = self.take(length)?;
        let mut walk = Walk(bytes);
        let mut seen = 0_u64;
        while !walk.0.is_empty() {
            let id = walk.variable()?;
            let bit = 1_u64.checked_shl(u32::try_from(id).unwrap_or(u32::MAX)).unwrap_or(0);
            if section.0 & bit == 0 {
                return Err(ReasonCode::MalformedPacket); // unknown, or not of this packet
            }
            if id != property::USER && seen & bit != 0 {
                return Err(ReasonCode::ProtocolError);
            }
            seen |= bit;
            walk.property_value(id)?;
        }
        Ok(bytes)
    }

    fn property_value(&mut self, id: usize) -> Result<(), ReasonCode> {
        let is_valid = match id {
            // Payload Format Indicator, Request Problem and Response Information
            0x01 | 0x17 | 0x19 => self.byte()? <= 1,
            property::RECEIVE_MAXIMUM => self.take(2)? != [0, 0],
            0x22 => {
                self.take(2)?;
                true
            }
            property::MAXIMUM_PACKET_SIZE => self.take(4)? != [0; 4],
            0x02 | 0x11 | 0x18 => {
                self.take(4)?;
                true
            }
            property::SUBSCRIPTION_IDENTIFIER => self.variable()? != 0,
            0x09 | 0x16 => {
                self.binary()?;
                true
            }
            property::USER => {
                self.text()?;
                self.text()?;
                true
            }
            _ => {
                self.text()?;
                true
            }
        };
        if is_valid { Ok(()) } else { Err(ReasonCode::ProtocolError) }
    }

    fn end(&self) -> Result<(), ReasonCode> {
        if self.0.is_empty() { Ok(()) } else { Err(ReasonCode::MalformedPacket) }
    }
}

/// CONNECT: flags that fit each other, every field there, nothing behind them. If the Will has a
/// Message Expiry Interval of 0, the place of its last byte.
///
/// # Errors
/// The Reason Code of the first field that is wrong.
pub(crate) fn check_connect(body: &[u8], version: Version) -> Result<Option<usize>, ReasonCode> {
    let mut walk = Walk(body);
    walk.binary()?;
    walk.byte()?;
    let flags = walk.byte()?;
    walk.take(2)?;
    let (will, will_qos, will_retain) = (flags & 4 != 0, (flags >> 3) & 3, flags & 32 != 0);
    let (username, password) = (flags & 128 != 0, flags & 64 != 0);
    let is_wrong = flags & 1 != 0 // [MQTT-3.1.2-3]
        || will_qos == 3 // [MQTT-3.1.2-12]
        || (!will && (will_qos != 0 || will_retain)) // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
        || (!version.is_v5() && password && !username); // [MQTT-3.1.2-22] of 3.1.1
    if is_wrong {
        return Err(ReasonCode::MalformedPacket);
    }
    walk.properties(version, CONNECT)?;
    walk.text()?;
    let mut zero_expiry = None;
    if will {
        let properties = walk.properties(version, WILL)?;
        let start = body.len() - walk.0.len() - properties.len();
        zero_expiry = find_zero_expiry(properties)?.map(|at| start + at);
        walk.text()?;
        walk.binary()?;
    }
    if username {
        walk.text()?;
    }
    if password {
        walk.binary()?;
    }
    walk.end()?;
    Ok(zero_expiry)
}

/// The place of the last byte of a Message Expiry Interval of 0 in a property section.
fn find_zero_expiry(properties: &[u8]) -> Result<Option<usize>, ReasonCode> {
    let mut walk = Walk(properties);
    while !walk.0.is_empty() {
        let id = walk.variable()?;
        if id == property::MESSAGE_EXPIRY_INTERVAL && walk.0.starts_with(&[0; 4]) {
            return Ok(Some(properties.len() - walk.0.len() + 3));
        }
        walk.property_value(id)?;
    }
    Ok(None)
}

/// SUBSCRIBE and UNSUBSCRIBE: at least one filter [MQTT-3.8.3-2] [MQTT-3.10.3-2], no reserved
/// option bits [MQTT-3.8.3-5].
///
/// # Errors
/// The Reason Code of the first field that is wrong.
pub(crate) fn check_filters(
    body: &[u8],
    version: Version,
    with_options: bool,
) -> Result<(), ReasonCode> {
    let mut walk = Walk(body);
    walk.take(2)?;
    walk.properties(version, if with_options { SUBSCRIBE } else { UNSUBSCRIBE })?;
    if walk.0.is_empty() {
        return Err(ReasonCode::ProtocolError);
    }
    while !walk.0.is_empty() {
        let filter = walk.text()?;
        if with_options {
            let options = walk.byte()?;
            let (qos, reserved) = match version {
                Version::V31 | Version::V311 => (options & 3, options & 0xfc),
                Version::V5 => (options & 3, options & 0xc0),
            };
            if reserved != 0 || qos == 3 {
                return Err(ReasonCode::MalformedPacket);
            }
            if options & 0x30 == 0x30 {
                return Err(ReasonCode::ProtocolError); // Retain Handling 3
            }
            if options & 4 != 0 && filter.starts_with("$share/") {
                return Err(ReasonCode::ProtocolError); // [MQTT-3.8.3-4]
            }
        }
    }
    Ok(())
}

/// DISCONNECT and AUTH: their properties, and nothing behind them; 3.1.1 has neither.
///
/// # Errors
/// The Reason Code of the first field that is wrong.
pub(crate) fn check_ending(body: &[u8], version: Version, is_auth: bool) -> Result<(), ReasonCode> {
    let mut walk = Walk(body);
    if version.is_v5() && !body.is_empty() {
        let code = walk.byte()?;
        let is_of_client = matches!(code, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99); // [MQTT-3.14.2-1]
        if !is_auth && !is_of_client {
            return Err(ReasonCode::ProtocolError);
        }
        if !walk.0.is_empty() {
            walk.properties(version, if is_auth { AUTH } else { DISCONNECT })?;
        }
    }
    walk.end()
}

/// AUTH: a Reason Code that the specification has for it [MQTT-3.15.2-1], and a client may send;
/// without any it is Success, which only a server says (MQTT 5, 3.15.2.1).
///
/// # Errors
/// The Reason Code that ends the connection.
pub(crate) fn check_auth_code(body: &[u8]) -> Result<(), ReasonCode> {
    match body.first() {
        Some(0x18 | 0x19) => Ok(()),
        Some(0x00) | None => Err(ReasonCode::ProtocolError),
        Some(_) => Err(ReasonCode::MalformedPacket),
    }
}

/// The Reason Code of PUBACK and PUBREC, or of PUBREL and PUBCOMP (`is_second`), after the Packet
/// Identifier [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1].
///
/// # Errors
/// The Reason Code of the first field that is wrong.
pub(crate) fn acknowledgement_code(
    rest: &[u8],
    version: Version,
    is_second: bool,
) -> Result<ReasonCode, ReasonCode> {
    let mut walk = Walk(rest);
    if rest.is_empty() {
        return Ok(ReasonCode::Success);
    }
    if !version.is_v5() {
        return Err(ReasonCode::MalformedPacket);
    }
    let code = walk.byte()?;
    let is_known = if is_second {
        matches!(code, 0x00 | 0x92)
    } else {
        matches!(code, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
    };
    let code = ReasonCode::from_u8(code).filter(|_| is_known).ok_or(ReasonCode::MalformedPacket)?;
    if !walk.0.is_empty() {
        walk.properties(version, ACKNOWLEDGEMENT)?;
    }
    walk.end()?;
    Ok(code)
}
