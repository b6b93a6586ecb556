//! The payload: publisher, sequence and time of sending, in binary or as JSON of fixed places.
//! What must not live here: what is counted by them.

/// How the three numbers are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// The first 16 bytes.
    Binary,
    /// `{"p":"…","s":"…","t":"…","x":"…"}` with hexadecimal digits; what a broker adds to the
    /// object stands behind them.
    Json,
}

const P: usize = 6;
const S: usize = P + 8 + 7;
const T: usize = S + 8 + 7;
const X: usize = T + 16 + 7;

impl Form {
    pub(crate) fn bytes_min(self) -> usize {
        match self {
            Self::Binary => 16,
            Self::Json => X + 2,
        }
    }

    /// A payload of `size` bytes to put numbers into.
    pub(crate) fn blank(self, size: usize) -> Vec<u8> {
        match self {
            Self::Binary => vec![b'x'; size],
            Self::Json => {
                let filler = "x".repeat(size - self.bytes_min());
                let zero = 0;
                format!("{{\"p\":\"{zero:08x}\",\"s\":\"{zero:08x}\",\"t\":\"{zero:016x}\",\"x\":\"{filler}\"}}")
                    .into_bytes()
            }
        }
    }

    #[inline]
    pub(crate) fn put(self, payload: &mut [u8], p: usize, seq: u64, ns: u64) {
        let (p, seq) = (p as u32, seq as u32);
        match self {
            Self::Binary => {
                payload[..4].copy_from_slice(&p.to_le_bytes());
                payload[4..8].copy_from_slice(&seq.to_le_bytes());
                payload[8..16].copy_from_slice(&ns.to_le_bytes());
            }
            Self::Json => {
                put_hex(&mut payload[P..P + 8], u64::from(p));
                put_hex(&mut payload[S..S + 8], u64::from(seq));
                put_hex(&mut payload[T..T + 16], ns);
            }
        }
    }

    /// Publisher, sequence and time; `None` when it is no payload of ours.
    #[inline]
    pub(crate) fn take(self, payload: &[u8], size: usize) -> Option<(usize, u64, u64)> {
        match self {
            Self::Binary if payload.len() == size => {
                let p = u32::from_le_bytes(payload[..4].try_into().ok()?);
                let seq = u32::from_le_bytes(payload[4..8].try_into().ok()?);
                let ns = u64::from_le_bytes(payload[8..16].try_into().ok()?);
                Some((p as usize, u64::from(seq), ns))
            }
            Self::Json if payload.len() >= size => Some((
                take_hex(&payload[P..P + 8])? as usize,
                take_hex(&payload[S..S + 8])?,
                take_hex(&payload[T..T + 16])?,
            )),
            Self::Binary | Self::Json => None,
        }
    }
}

fn put_hex(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn take_hex(place: &[u8]) -> Option<u64> {
    place.iter().try_fold(0, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

#[test]
fn numbers_come_back_as_they_were_put() {
    for form in [Form::Binary, Form::Json] {
        let mut payload = form.blank(80);
        assert_eq!(payload.len(), 80);
        form.put(&mut payload, 499, 123_456, 0x1234_5678_9abc);
        assert_eq!(form.take(&payload, 80), Some((499, 123_456, 0x1234_5678_9abc)));
    }
    let json = Form::Json.blank(64);
    assert!(std::str::from_utf8(&json).unwrap().ends_with("\"x\":\"xxx\"}"));
}
