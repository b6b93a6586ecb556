//! Checks on the bytes of a packet that the codec does not make.
//! What must not live here: conversion.

use wasmqtt_core::reason::{ReasonCode, Version};

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

    /// A property section: its strings are checked, what may stand in it is the codec's business.
    fn properties(&mut self, version: Version) -> Result<(), ReasonCode> {
        if version == Version::V3 {
            return Ok(());
        }
        let length = self.variable()?;
        let mut section = Walk(self.take(length)?);
        while !section.0.is_empty() {
            match section.variable()? {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => {
                    section.take(1)?;
                }
                0x13 | 0x21 | 0x22 | 0x23 => {
                    section.take(2)?;
                }
                0x02 | 0x11 | 0x18 | 0x27 => {
                    section.take(4)?;
                }
                0x0b => {
                    section.variable()?;
                }
                0x09 | 0x16 => {
                    section.binary()?;
                }
                0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => {
                    section.text()?;
                }
                0x26 => {
                    section.text()?;
                    section.text()?;
                }
                _ => return Err(ReasonCode::MalformedPacket),
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<(), ReasonCode> {
        if self.0.is_empty() { Ok(()) } else { Err(ReasonCode::MalformedPacket) }
    }
}

/// CONNECT: flags that fit each other, every field there, nothing behind them.
///
/// # Errors
/// The Reason Code of the first field that is wrong.
pub(crate) fn check_connect(body: &[u8], version: Version) -> Result<(), ReasonCode> {
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
        || (version == Version::V3 && password && !username); // [MQTT-3.1.2-22] of 3.1.1
    if is_wrong {
        return Err(ReasonCode::MalformedPacket);
    }
    walk.properties(version)?;
    walk.text()?;
    if will {
        walk.properties(version)?;
        walk.text()?;
        walk.binary()?;
    }
    if username {
        walk.text()?;
    }
    if password {
        walk.binary()?;
    }
    walk.end()
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
    walk.properties(version)?;
    if walk.0.is_empty() {
        return Err(ReasonCode::ProtocolError);
    }
    while !walk.0.is_empty() {
        let filter = walk.text()?;
        if with_options {
            let options = walk.byte()?;
            let (qos, reserved) = match version {
                Version::V3 => (options & 3, options & 0xfc),
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
pub(crate) fn check_ending(body: &[u8], version: Version) -> Result<(), ReasonCode> {
    let mut walk = Walk(body);
    if version == Version::V5 && !body.is_empty() {
        walk.byte()?;
        if !walk.0.is_empty() {
            walk.properties(version)?;
        }
    }
    walk.end()
}

/// The Reason Code of PUBACK, PUBREC, PUBREL and PUBCOMP after the Packet Identifier.
///
/// # Errors
/// The Reason Code of the first field that is wrong.
pub(crate) fn acknowledgement_code(rest: &[u8], version: Version) -> Result<ReasonCode, ReasonCode> {
    let mut walk = Walk(rest);
    if rest.is_empty() {
        return Ok(ReasonCode::Success);
    }
    if version == Version::V3 {
        return Err(ReasonCode::MalformedPacket);
    }
    let code = ReasonCode::from_u8(walk.byte()?).ok_or(ReasonCode::MalformedPacket)?;
    if !walk.0.is_empty() {
        walk.properties(version)?;
    }
    walk.end()?;
    Ok(code)
}
