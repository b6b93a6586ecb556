//! WebSocket's base framing as a server reads and writes it [RFC 6455, section 5]: bytes in, payload
//! and control frames out. Nothing is buffered or allocated by what a frame says of itself.
//! What must not live here: sockets, the handshake, what the payload means.

use std::ops::Range;

/// Bytes of the longest payload of a control frame.
pub(crate) const CONTROL_BYTES_MAX: usize = 125;

/// Bytes of the longest header of a client's frame: two, the long length, the mask.
const HEADER_BYTES_MAX: usize = 14;

/// Bytes of the longest header of a server's frame.
const OUT_HEADER_BYTES_MAX: usize = 10;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASK: u8 = 0x80;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opcode {
    Continuation = 0,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// How a client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// [MQTT-6.0.0-1]
    #[error("a text frame: MQTT is in binary frames")]
    Text,
    #[error("a frame with an unknown opcode")]
    Opcode,
    #[error("a frame with reserved bits: no extension was agreed on")]
    Reserved,
    #[error("a frame that is not masked")]
    Unmasked,
    #[error("a frame whose length is not in its shortest form, or longer than 63 bits")]
    Length,
    #[error("a control frame that is fragmented or longer than 125 bytes")]
    Control,
    #[error("a continuation of nothing, or a new message amid another one")]
    Fragment,
    #[error("a Close with half a code, or one that must not be sent")]
    CloseCode,
    #[error("a Close whose reason is not UTF-8")]
    CloseReason,
}

impl Violation {
    /// What the Close says that answers it [RFC 6455, section 7.4.1].
    pub(crate) fn close_code(self) -> u16 {
        match self {
            Self::Text => 1003,
            Self::CloseReason => 1007,
            Self::Opcode
            | Self::Reserved
            | Self::Unmasked
            | Self::Length
            | Self::Control
            | Self::Fragment
            | Self::CloseCode => 1002,
        }
    }
}

/// How the stream of frames ended. What follows is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client sent a Close, with that code if any.
    Closed(Option<u16>),
    /// The client broke the protocol.
    Refused(Violation),
}

/// What a run of bytes was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Where the payload of data frames stands, unmasked, in the bytes that were read.
    pub(crate) payload: Range<usize>,
    pub(crate) end: Option<End>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Header,
    Payload { opcode: Opcode, is_last: bool, left: u64, mask: [u8; 4] },
    Ended,
}

/// Reads a client's frames, however they are split and joined.
#[derive(Debug)]
pub(crate) struct Reader {
    stage: Stage,
    /// Whether a message is under way whose last frame has not come.
    is_fragmented: bool,
    header: [u8; HEADER_BYTES_MAX],
    header_length: usize,
    control: [u8; CONTROL_BYTES_MAX],
    control_length: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            stage: Stage::Header,
            is_fragmented: false,
            header: [0; HEADER_BYTES_MAX],
            header_length: 0,
            control: [0; CONTROL_BYTES_MAX],
            control_length: 0,
        }
    }
}

impl Reader {
    /// Reads all of `bytes`, unmasks payload where it stands and moves its parts together. Each
    /// Ping is handed over as it comes, also between the frames of a message.
    pub(crate) fn read(&mut self, bytes: &mut [u8], mut on_ping: impl FnMut(&[u8])) -> Taken {
        let mut payload = 0..0;
        let mut at = 0;
        let end = loop {
            match self.stage {
                Stage::Ended => break None,
                Stage::Payload { left: 0, opcode, is_last, .. } => {
                    self.stage = Stage::Header;
                    if let Some(end) = self.finish(opcode, is_last, &mut on_ping) {
                        break Some(end);
                    }
                }
                _ if at == bytes.len() => break None,
                Stage::Header => match self.take_header(&bytes[at..]) {
                    Ok(taken) => at += taken,
                    Err(violation) => break Some(End::Refused(violation)),
                },
                Stage::Payload { opcode, is_last, left, mut mask } => {
                    let available = bytes.len() - at;
                    let count = usize::try_from(left).map_or(available, |left| left.min(available));
                    let part = at..at + count;
                    unmask(&mut bytes[part.clone()], mask);
                    if matches!(opcode, Opcode::Continuation | Opcode::Binary) {
                        append(bytes, &mut payload, part);
                    } else {
                        self.keep_control(&bytes[part]);
                    }
                    at += count;
                    mask.rotate_left(count % 4);
                    self.stage =
                        Stage::Payload { opcode, is_last, left: left - count as u64, mask };
                }
            }
        };
        if end.is_some() {
            self.stage = Stage::Ended;
        }
        Taken { payload, end }
    }

    /// Takes bytes of a header; how many.
    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let length = self.header_length;
        let wanted = if length < 2 { 2 } else { header_bytes(self.header[1]) };
        let count = (wanted - length).min(bytes.len());
        self.header[length..length + count].copy_from_slice(&bytes[..count]);
        self.header_length += count;
        let (opcode, is_last) = match self.header[..self.header_length] {
            // The first two bytes decide most, so that nothing is waited for in vain.
            [first, second, ..] => self.check(first, second)?,
            _ => return Ok(count),
        };
        if self.header_length == header_bytes(self.header[1]) {
            self.stage = self.payload_stage(opcode, is_last)?;
            self.header_length = 0;
            self.control_length = 0;
        }
        Ok(count)
    }

    fn check(&self, first: u8, second: u8) -> Result<(Opcode, bool), Violation> {
        let is_last = first & FIN != 0;
        if first & RESERVED != 0 {
            return Err(Violation::Reserved);
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => return Err(Violation::Text),
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(Violation::Opcode),
        };
        if second & MASK == 0 {
            return Err(Violation::Unmasked);
        }
        let refused = match opcode {
            Opcode::Continuation => (!self.is_fragmented).then_some(Violation::Fragment),
            Opcode::Binary => self.is_fragmented.then_some(Violation::Fragment),
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                let is_long = usize::from(second & !MASK) > CONTROL_BYTES_MAX;
                (!is_last || is_long).then_some(Violation::Control)
            }
        };
        refused.map_or(Ok((opcode, is_last)), Err)
    }

    /// The whole header is there.
    fn payload_stage(&self, opcode: Opcode, is_last: bool) -> Result<Stage, Violation> {
        let (left, mask) = match self.header[1..self.header_length] {
            [_, a, b, ref mask @ ..] if mask.len() == 4 => {
                let length = u64::from(u16::from_be_bytes([a, b]));
                (Some(length).filter(|length| *length > 125), mask)
            }
            [_, a, b, c, d, e, f, g, h, ref mask @ ..] => {
                let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                (Some(length).filter(|length| (1 << 16..1 << 63).contains(length)), mask)
            }
            [second, ref mask @ ..] => (Some(u64::from(second & !MASK)), mask),
            [] => (None, &[][..]),
        };
        let left = left.ok_or(Violation::Length)?;
        let mask = mask.try_into().map_err(|_| Violation::Length)?;
        Ok(Stage::Payload { opcode, is_last, left, mask })
    }

    fn keep_control(&mut self, part: &[u8]) {
        let end = self.control_length + part.len();
        // The header of a longer one was refused.
        self.control[self.control_length..end].copy_from_slice(part);
        self.control_length = end;
    }

    /// A whole frame has come.
    fn finish(
        &mut self,
        opcode: Opcode,
        is_last: bool,
        on_ping: &mut impl FnMut(&[u8]),
    ) -> Option<End> {
        let control = &self.control[..self.control_length];
        match opcode {
            Opcode::Continuation | Opcode::Binary => self.is_fragmented = !is_last,
            Opcode::Pong => {}
            Opcode::Ping => on_ping(control),
            Opcode::Close => {
                return Some(match close_code(control) {
                    Ok(code) => End::Closed(code),
                    Err(violation) => End::Refused(violation),
                });
            }
        }
        None
    }
}

/// How long the header is, by its second byte.
fn header_bytes(second: u8) -> usize {
    match second & !MASK {
        126 => 2 + 2 + 4,
        127 => HEADER_BYTES_MAX,
        _ => 2 + 4,
    }
}

/// The code of a Close, checked [RFC 6455, section 7.4].
fn close_code(control: &[u8]) -> Result<Option<u16>, Violation> {
    match control {
        [] => Ok(None),
        [_] => Err(Violation::CloseCode),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Violation::CloseCode);
            }
            std::str::from_utf8(reason).map_err(|_| Violation::CloseReason)?;
            Ok(Some(code))
        }
    }
}

/// Adds a part of the payload: the first stays where it stands, later ones move up to it.
fn append(bytes: &mut [u8], payload: &mut Range<usize>, part: Range<usize>) {
    if payload.start == payload.end {
        *payload = part;
    } else {
        let length = part.len();
        bytes.copy_within(part, payload.end);
        payload.end += length;
    }
}

/// Takes the mask off, eight bytes at a time.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// The header of a server's frame, which is whole and not masked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    bytes: [u8; OUT_HEADER_BYTES_MAX],
    length: usize,
}

impl Header {
    pub(crate) fn new(opcode: Opcode, payload_bytes: usize) -> Self {
        let mut bytes = [0; OUT_HEADER_BYTES_MAX];
        bytes[0] = FIN | opcode as u8;
        let length = match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
            (Ok(short @ ..=125), _) => {
                bytes[1] = short;
                2
            }
            (_, Ok(middle)) => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&middle.to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
                OUT_HEADER_BYTES_MAX
            }
        };
        Self { bytes, length }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests;
