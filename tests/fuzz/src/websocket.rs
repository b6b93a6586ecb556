//! A client's WebSocket frames: however the bytes are cut, the same comes out, and never more of it.
//! What must not live here: the handshake.

use crate::net::ws::frame::{End, Reader};

/// The first byte says how long the pieces are.
pub(crate) fn run(bytes: &[u8]) {
    let Some((length, stream)) = bytes.split_first() else {
        return;
    };
    let whole = read(stream, usize::MAX);
    let pieces = read(stream, usize::from(*length).max(1));
    assert_eq!(whole, pieces);
    assert!(whole.0.len() + whole.1.iter().map(Vec::len).sum::<usize>() <= stream.len());
}

/// Payload, Pings and end.
fn read(stream: &[u8], length: usize) -> (Vec<u8>, Vec<Vec<u8>>, Option<End>) {
    let mut reader = Reader::default();
    let (mut payload, mut pings, mut end) = (Vec::new(), Vec::new(), None);
    for piece in stream.chunks(length.min(stream.len().max(1))) {
        let mut piece = piece.to_vec();
        let taken = reader.read(&mut piece, |ping| pings.push(ping.to_vec()));
        payload.extend_from_slice(&piece[taken.payload]);
        if taken.end.is_some() {
            assert_eq!(end, None, "a stream ends once");
            end = taken.end;
        }
    }
    (payload, pings, end)
}
