//! What a benchmark's message carries: which run and client sent it, its number and its time.
//! What must not live here: counting.

use std::time::Duration;

/// Bytes of [`Mark`]; a shorter message carries nothing.
pub(super) const MARK_BYTES: usize = 28;

const MAGIC: [u8; 4] = *b"wqb1";

/// The front of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) run: u32,
    pub(super) client: u32,
    pub(super) number: u64,
    /// Since 1970, of the sender's clock.
    pub(super) sent: Duration,
}

impl Mark {
    /// Writes it over the front of `payload`, if that is long enough.
    pub(super) fn write(self, payload: &mut [u8]) {
        let Some(front) = payload.get_mut(..MARK_BYTES) else { return };
        let nanos = u64::try_from(self.sent.as_nanos()).unwrap_or(u64::MAX);
        front[..4].copy_from_slice(&MAGIC);
        front[4..8].copy_from_slice(&self.run.to_be_bytes());
        front[8..12].copy_from_slice(&self.client.to_be_bytes());
        front[12..20].copy_from_slice(&self.number.to_be_bytes());
        front[20..].copy_from_slice(&nanos.to_be_bytes());
    }

    /// Reads it; `None` of anybody else's message.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(&MAGIC)?;
        let (run, rest) = rest.split_first_chunk()?;
        let (client, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (nanos, _) = rest.split_first_chunk()?;
        Some(Self {
            run: u32::from_be_bytes(*run),
            client: u32::from_be_bytes(*client),
            number: u64::from_be_bytes(*number),
            sent: Duration::from_nanos(u64::from_be_bytes(*nanos)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_only_where_it_fits() {
        let mark = Mark { run: 1, client: 2, number: 3, sent: Duration::from_nanos(4) };
        let mut payload = [0; MARK_BYTES + 4];
        mark.write(&mut payload);
        assert_eq!(Mark::read(&payload), Some(mark));
        let mut short = [0; MARK_BYTES - 1];
        mark.write(&mut short);
        assert_eq!(short, [0; MARK_BYTES - 1]);
        assert_eq!(Mark::read(&payload[..MARK_BYTES - 1]), None);
        assert_eq!(Mark::read(b"somebody else's message, long enough"), None);
    }
}
