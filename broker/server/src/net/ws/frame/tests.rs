//! The framing by tables, and by random streams that are split anywhere.
//! What must not live here: sockets.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{End, Header, Opcode, Reader, Taken, Violation};

const MASKING_KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame. `length` as it is written: 0 as it should be, else in that many bytes.
fn frame_with(first: u8, payload: &[u8], key: [u8; 4], length: usize) -> Vec<u8> {
    let count = (payload.len() as u64).to_be_bytes();
    let mut bytes = match (length, payload.len()) {
        (0, ..=125) => vec![first, 0x80 | count[7]],
        (2, _) | (0, ..=0xffff) => [&[first, 0xfe][..], &count[6..]].concat(),
        _ => [&[first, 0xff][..], &count].concat(),
    };
    bytes.extend_from_slice(&key);
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(first, payload, MASKING_KEY, 0)
}

/// All that a reader makes of the bytes, given in pieces that end at `cuts`.
fn read(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<Vec<u8>>, Option<End>) {
    let mut reader = Reader::default();
    let (mut payload, mut pings, mut end) = (Vec::new(), Vec::new(), None);
    let mut start = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let mut piece = bytes[start..cut].to_vec();
        start = cut;
        let taken = reader.read(&mut piece, |ping| pings.push(ping.to_vec()));
        payload.extend_from_slice(&piece[taken.payload.clone()]);
        if taken.end.is_some() {
            assert_eq!(end, None, "a stream ends once");
            end = taken.end;
        }
    }
    (payload, pings, end)
}

#[track_caller]
fn check(bytes: &[u8], payload: &[u8], pings: &[&[u8]], end: Option<End>) {
    let every: Vec<usize> = (1..bytes.len()).collect();
    for cuts in [&[][..], &every] {
        let (read_payload, read_pings, read_end) = read(bytes, cuts);
        assert_eq!(read_payload, payload);
        assert_eq!(read_pings, pings);
        assert_eq!(read_end, end);
    }
}

#[track_caller]
fn refused(bytes: &[u8], violation: Violation) {
    check(bytes, &[], &[], Some(End::Refused(violation)));
}

#[test]
fn the_example_of_the_rfc_is_unmasked() {
    let bytes = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    check(&bytes, b"Hello", &[], None);
}

#[test]
fn fragments_and_frames_in_a_row_are_one_stream() {
    let bytes =
        [frame(0x02, b"one "), frame(0x00, b""), frame(0x80, b"two "), frame(0x82, b"three")];
    check(&bytes.concat(), b"one two three", &[], None);
}

#[test]
fn pings_are_told_also_between_fragments() {
    let bytes =
        [frame(0x02, b"a"), frame(0x89, b"p"), frame(0x8a, b"unasked"), frame(0x80, b"b")].concat();
    check(&bytes, b"ab", &[b"p"], None);
    check(&frame(0x89, &[7; 125]), &[], &[&[7; 125]], None);
}

#[test]
fn a_payload_of_one_frame_stays_where_it_stands() {
    let mut bytes = frame(0x82, b"Hello");
    let taken = Reader::default().read(&mut bytes, |_| {});
    assert_eq!(taken, Taken { payload: 6..11, end: None });
}

#[test]
fn every_length_arrives() {
    for count in [0, 1, 125, 126, 127, 0xffff, 0x1_0000] {
        let payload = vec![b'x'; count];
        let (read_payload, _, end) = read(&frame(0x82, &payload), &[]);
        assert_eq!((read_payload.len(), end), (count, None));
    }
}

/// The reader says so from the first two bytes: it waits for nothing more.
#[test]
fn what_a_header_must_not_say_is_refused() {
    refused(&[0x81, 0x85], Violation::Text);
    refused(&[0x01, 0x85], Violation::Text);
    refused(&[0xc2, 0x85], Violation::Reserved);
    refused(&[0xa2, 0x85], Violation::Reserved);
    refused(&[0x92, 0x85], Violation::Reserved);
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        refused(&[0x80 | opcode, 0x85], Violation::Opcode);
    }
    refused(&[0x82, 0x05], Violation::Unmasked);
    for opcode in [8, 9, 10] {
        refused(&[opcode, 0x80], Violation::Control);
        refused(&[0x80 | opcode, 0xfe], Violation::Control);
        refused(&[0x80 | opcode, 0xff], Violation::Control);
    }
    refused(&frame(0x80, b""), Violation::Fragment);
}

#[test]
fn a_new_message_amid_another_one_is_refused() {
    let bytes = [frame(0x02, b"a"), frame(0x82, b"b")].concat();
    check(&bytes, b"a", &[], Some(End::Refused(Violation::Fragment)));
}

#[test]
fn lengths_have_one_form_and_at_most_63_bits() {
    refused(&frame_with(0x82, &[1; 125], MASKING_KEY, 2), Violation::Length);
    refused(&frame_with(0x82, &[1; 0xffff], MASKING_KEY, 8)[..14], Violation::Length);
    let too_long = [&[0x82, 0xff, 0x80][..], &[0; 7], &MASKING_KEY].concat();
    refused(&too_long, Violation::Length);
    let longest = [&[0x82, 0xff, 0x7f][..], &[0xff; 7], &MASKING_KEY, &[0x37]].concat();
    check(&longest, &[0], &[], None);
}

#[test]
fn a_close_ends_the_stream_with_its_code() {
    let closed = |code| Some(End::Closed(code));
    check(&frame(0x88, b""), &[], &[], closed(None));
    check(&frame(0x88, &[3, 0xe8]), &[], &[], closed(Some(1000)));
    check(&frame(0x88, b"\x0f\xa0bye"), &[], &[], closed(Some(4000)));
    let more = [frame(0x82, b"a"), frame(0x88, b""), frame(0x82, b"b"), vec![0xff; 9]].concat();
    check(&more, b"a", &[], closed(None));
    refused(&frame(0x88, &[3]), Violation::CloseCode);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        refused(&frame(0x88, &code.to_be_bytes()), Violation::CloseCode);
    }
    refused(&frame(0x88, &[3, 0xe8, 0xff]), Violation::CloseReason);
}

#[test]
fn a_servers_header_is_the_shortest() {
    let header = |count| Header::new(Opcode::Binary, count).as_bytes().to_vec();
    assert_eq!(header(0), [0x82, 0]);
    assert_eq!(header(125), [0x82, 125]);
    assert_eq!(header(126), [0x82, 126, 0, 126]);
    assert_eq!(header(0xffff), [0x82, 126, 0xff, 0xff]);
    assert_eq!(header(0x1_0000), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(Header::new(Opcode::Pong, 3).as_bytes(), [0x8a, 3]);
}

/// A fragment, its masking key, and a ping behind it.
type Fragment = (Vec<u8>, [u8; 4], Option<Vec<u8>>);

/// A message in fragments with pings between them.
#[derive(Debug, Clone)]
struct Message(Vec<Fragment>);

fn message() -> impl Strategy<Value = Message> {
    let payload = prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 120..300)];
    let ping = proptest::option::of(vec(any::<u8>(), 0..=125));
    vec((payload, any::<[u8; 4]>(), ping), 1..4).prop_map(Message)
}

fn encode(messages: &[Message]) -> (Vec<u8>, Vec<u8>, Vec<Vec<u8>>) {
    let (mut bytes, mut payload, mut pings) = (Vec::new(), Vec::new(), Vec::new());
    for Message(fragments) in messages {
        for (number, (part, key, ping)) in fragments.iter().enumerate() {
            let opcode = if number == 0 { 2 } else { 0 };
            let fin = if number + 1 == fragments.len() { 0x80 } else { 0 };
            bytes.extend(frame_with(fin | opcode, part, *key, 0));
            payload.extend_from_slice(part);
            if let Some(ping) = ping {
                bytes.extend(frame_with(0x89, ping, *key, 0));
                pings.push(ping.clone());
            }
        }
    }
    (bytes, payload, pings)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_a_valid_stream_gives_the_same(
        messages in vec(message(), 0..6),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (bytes, payload, pings) = encode(&messages);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(read(&bytes, &cuts), (payload, pings, None));
    }

    /// What comes out is never more than what went in: nothing is made from a claimed length.
    #[test]
    fn any_bytes_in_any_split_give_the_same_and_no_more_than_they_are(
        noise in vec(any::<u8>(), 0..400),
        messages in vec(message(), 0..3),
        at in any::<prop::sample::Index>(),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let (mut bytes, ..) = encode(&messages);
        let at = at.index(bytes.len() + 1);
        bytes.splice(at..at, noise);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = read(&bytes, &[]);
        prop_assert_eq!(&read(&bytes, &cuts), &whole);
        let pings: usize = whole.1.iter().map(Vec::len).sum();
        prop_assert!(whole.0.len() + pings <= bytes.len());
    }
}
