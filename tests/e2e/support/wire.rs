//! The primitive data types of MQTT [MQTT 1.5], written and read byte by byte.
//! What must not live here: packets.

/// The protocol version that a case speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    V3,
    V5,
}

impl Version {
    pub(crate) fn is_v5(self) -> bool {
        self == Self::V5
    }

    pub(crate) fn level(self) -> u8 {
        if self.is_v5() { 5 } else { 4 }
    }
}

pub(crate) fn variable_length(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value % 128).unwrap();
        value /= 128;
        bytes.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return bytes;
        }
    }
}

/// A two byte length and the bytes: strings and binary data.
pub(crate) fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("at most 65,535 bytes");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A whole packet: first byte, remaining length, body.
pub(crate) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &variable_length(body.len()), body].concat()
}

/// The first whole frame of `bytes`: its first byte, its body, and how many bytes it takes.
/// `None` while it is incomplete.
pub(crate) fn split_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let first = *bytes.first()?;
    let mut length = 0usize;
    for (index, byte) in bytes[1..].iter().enumerate() {
        assert!(index < 4, "remaining length of more than four bytes: {:02x?}", &bytes[..6]);
        length += usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            assert!(index == 0 || *byte != 0, "[MQTT-1.5.5-1] remaining length is not minimal");
            let start = 2 + index;
            let body = bytes.get(start..start + length)?;
            return Some((first, body, start + length));
        }
    }
    None
}

/// Reads the parts of a packet's body and insists on their well-formedness.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        assert!(self.0.len() >= count, "{count} bytes wanted, {:02x?} left", self.0);
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.take(self.0.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    pub(crate) fn variable(&mut self) -> u32 {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.u8();
            value += u32::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                assert!(index == 0 || byte != 0, "[MQTT-1.5.5-1] integer is not minimal");
                return value;
            }
        }
        panic!("variable byte integer of more than four bytes");
    }

    pub(crate) fn binary(&mut self) -> Vec<u8> {
        let length = self.u16();
        self.take(usize::from(length)).to_vec()
    }

    pub(crate) fn string(&mut self) -> String {
        let text = String::from_utf8(self.binary()).expect("[MQTT-1.5.4-1] well-formed UTF-8");
        assert!(!text.contains('\0'), "[MQTT-1.5.4-2] U+0000 in {text:?}");
        text
    }
}
