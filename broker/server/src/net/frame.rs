//! Where one packet ends: whole, bounded frames are cut out before anything else looks at them.
//!
//! The codec behind must never see bytes of an incomplete frame: it trusts lengths that were only
//! claimed, and memory then grows without end.
//! What must not live here: what is inside a frame.

use wasmqtt_core::reason::{ReasonCode, Version};

/// Packet types [MQTT 2.1.2].
pub(crate) mod packet_type {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const PUBREC: u8 = 5;
    pub(crate) const PUBREL: u8 = 6;
    pub(crate) const PUBCOMP: u8 = 7;
    pub(crate) const SUBSCRIBE: u8 = 8;
    pub(crate) const UNSUBSCRIBE: u8 = 10;
    pub(crate) const PINGREQ: u8 = 12;
    pub(crate) const DISCONNECT: u8 = 14;
    pub(crate) const AUTH: u8 = 15;
}

/// One whole packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Packet type and flags.
    pub(crate) first: u8,
    /// What follows the fixed header.
    pub(crate) body: &'a [u8],
    /// All bytes, fixed header included.
    pub(crate) bytes: &'a [u8],
}

impl Frame<'_> {
    /// The packet type, 1 to 15.
    pub(crate) const fn packet_type(self) -> u8 {
        self.first >> 4
    }
}

/// Cuts the first frame off `bytes`; none while it is incomplete.
///
/// # Errors
/// The Reason Code that ends the connection, decided from the fixed header alone: reserved flags
/// [MQTT-2.1.3-1], a length that is not minimal or has a fifth byte [MQTT-1.5.5-1], a packet longer
/// than `bytes_max`.
pub(crate) fn cut(bytes: &[u8], bytes_max: u32) -> Result<Option<Frame<'_>>, ReasonCode> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    if !flags_are_valid(first) {
        return Err(ReasonCode::MalformedPacket);
    }
    let mut length = 0_usize;
    for (index, &byte) in bytes.iter().enumerate().skip(1).take(4) {
        length |= usize::from(byte & 0x7f) << (7 * (index - 1));
        if byte & 0x80 != 0 {
            continue;
        }
        if byte == 0 && index > 1 {
            return Err(ReasonCode::MalformedPacket); // not the shortest form
        }
        let start = index + 1;
        if start + length > bytes_max as usize {
            return Err(ReasonCode::PacketTooLarge);
        }
        return Ok(bytes.get(start..start + length).map(|body| Frame {
            first,
            body,
            bytes: &bytes[..start + length],
        }));
    }
    if bytes.len() > 4 { Err(ReasonCode::MalformedPacket) } else { Ok(None) }
}

/// Type 0 is reserved; flags are fixed for every type but PUBLISH [MQTT 2.1.3].
const fn flags_are_valid(first: u8) -> bool {
    match first >> 4 {
        0 => false,
        packet_type::PUBLISH => first & 0b0110 != 0b0110,
        packet_type::PUBREL | packet_type::SUBSCRIBE | packet_type::UNSUBSCRIBE => {
            first & 0x0f == 0b0010
        }
        _ => first & 0x0f == 0,
    }
}

/// The protocol version that a CONNECT frame asks for.
///
/// # Errors
/// Not a CONNECT, another protocol, or a version that is not spoken here [MQTT-3.1.2-1].
pub(crate) fn connect_version(frame: Frame<'_>) -> Result<Version, ReasonCode> {
    if frame.packet_type() != packet_type::CONNECT {
        return Err(ReasonCode::ProtocolError); // [MQTT-3.1.0-1]
    }
    match frame.body {
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, ..] => Ok(Version::V31),
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Ok(Version::V311),
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Ok(Version::V5),
        [0, 4, b'M', b'Q', b'T', b'T', ..] | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', ..] => {
            Err(ReasonCode::UnsupportedProtocolVersion)
        }
        _ => Err(ReasonCode::MalformedPacket),
    }
}

/// A CONNECT of MQTT 3.1 as a client of 3.1.1 would write it: all that differs is the name of the
/// protocol and its level.
pub(crate) fn connect_of_3_1_1(frame: Frame<'_>) -> Vec<u8> {
    let rest = frame.body.get(9..).unwrap_or_default();
    let mut bytes = Vec::with_capacity(rest.len() + 12);
    bytes.push(frame.first);
    super::encode::put_variable(&mut bytes, rest.len() + 7);
    bytes.extend_from_slice(&[0, 4, b'M', b'Q', b'T', b'T', 4]);
    bytes.extend_from_slice(rest);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{cut, flags_are_valid};
    use wasmqtt_core::reason::ReasonCode;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<Option<usize>, ReasonCode>) {
        assert_eq!(cut(bytes, 1000).map(|frame| frame.map(|frame| frame.body.len())), expected);
    }

    #[test]
    fn a_frame_is_cut_when_it_is_whole_and_not_before() {
        check(&[], Ok(None));
        check(&[0xc0], Ok(None));
        check(&[0xc0, 0], Ok(Some(0)));
        check(&[0x30, 3, 1, 2], Ok(None));
        check(&[0x30, 3, 1, 2, 3, 0x30], Ok(Some(3)));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_from_the_header_alone() {
        check(&[0x30, 0xe5, 0x07], Ok(None)); // 997 + 3 bytes of header
        check(&[0x30, 0xe6, 0x07], Err(ReasonCode::PacketTooLarge));
        check(&[0x30, 0xff, 0xff, 0xff, 0x7f], Err(ReasonCode::PacketTooLarge));
    }

    /// [MQTT-1.5.5-1]
    #[test]
    fn a_length_is_at_most_four_bytes_and_in_its_shortest_form() {
        check(&[0x30, 0x80, 0x80, 0x80], Ok(None));
        check(&[0x30, 0x80, 0x80, 0x80, 0x80], Err(ReasonCode::MalformedPacket));
        check(&[0x30, 0x83, 0x00], Err(ReasonCode::MalformedPacket));
    }

    /// [MQTT-2.1.3-1]
    #[test]
    fn reserved_flags_are_refused_on_every_type() {
        let valid = (0..=u8::MAX).filter(|first| flags_are_valid(*first)).count();
        assert_eq!(valid, 12 + 14, "12 flag patterns of PUBLISH, one of each other type");
        check(&[0x36], Err(ReasonCode::MalformedPacket));
        check(&[0x60], Err(ReasonCode::MalformedPacket));
        check(&[0x80], Err(ReasonCode::MalformedPacket));
        check(&[0xc1], Err(ReasonCode::MalformedPacket));
    }
}
