//! The table of bad input, `bad_input.tsv`: bytes, version, and what the specification answers.
//! Each row stands beside a neighbour that differs little and is accepted, where there is one.
//! What must not live here: cases that need more than one connection (`malformed`, `connect`).

use crate::support::wire::{prefixed, variable_length};
use crate::support::{Case, Packet, Version, both, v5};

const TABLE: &str = include_str!("bad_input.tsv");

/// A line of the table.
struct Row {
    line: usize,
    version: Version,
    state: State,
    bytes: Vec<u8>,
    expected: Expected,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// The bytes are the first of their connection.
    New,
    /// CONNECT was accepted.
    Open,
}

#[derive(Clone, PartialEq, Debug)]
enum Expected {
    /// The connection goes on, or CONNECT is accepted.
    Accepted,
    /// The connection ends with one of these codes: in DISCONNECT, or in CONNACK. None: silently.
    Ended(Vec<u8>),
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().enumerate().skip(1);
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).flat_map(parse).collect()
}

/// A line, once for each of its versions.
fn parse((index, line): (usize, &str)) -> Vec<Row> {
    let line_number = index + 1;
    let columns: Vec<&str> = line.split('\t').collect();
    let [versions, state, expected, bytes, _remark] = columns[..] else {
        panic!("line {line_number} has {} columns instead of 5", columns.len());
    };
    let state = match state {
        "new" => State::New,
        "open" => State::Open,
        other => panic!("line {line_number}: no state {other}"),
    };
    let expected = match expected {
        "ok" => Expected::Accepted,
        "end" => Expected::Ended(Vec::new()),
        codes => Expected::Ended(codes.split('|').map(hex_byte).collect()),
    };
    let row = |version| {
        let bytes = notation(bytes);
        Row { line: line_number, version, state, bytes, expected: expected.clone() }
    };
    match versions {
        "3" => vec![row(Version::V3)],
        "5" => vec![row(Version::V5)],
        "3 5" => vec![row(Version::V3), row(Version::V5)],
        other => panic!("line {line_number}: no versions {other}"),
    }
}

fn hex_byte(text: &str) -> u8 {
    u8::from_str_radix(text, 16).unwrap_or_else(|_| panic!("`{text}` is not a byte"))
}

/// Bytes as the table writes them: hex digits; `"text"`; `s"text"` behind its two byte length;
/// `{ … }` behind its Variable Byte Integer length; `[ … ]` behind its two byte length; `*n`
/// repeats what stands before it.
fn notation(text: &str) -> Vec<u8> {
    let mut groups: Vec<(&str, Vec<u8>)> = vec![("", Vec::new())];
    let mut last = Vec::new();
    for token in text.split_whitespace() {
        let bytes = match token {
            "{" | "[" => {
                groups.push((token, Vec::new()));
                continue;
            }
            "}" | "]" => {
                let (open, bytes) = groups.pop().expect("the outermost group stays");
                assert_eq!(open, if token == "}" { "{" } else { "[" }, "{text}");
                if token == "}" {
                    [variable_length(bytes.len()), bytes].concat()
                } else {
                    prefixed(&bytes)
                }
            }
            _ if token.starts_with('*') => last.repeat(token[1..].parse::<usize>().unwrap() - 1),
            _ => match (token.strip_prefix("s\""), token.strip_prefix('"')) {
                (Some(string), _) => prefixed(string.strip_suffix('"').unwrap().as_bytes()),
                (_, Some(raw)) => raw.strip_suffix('"').unwrap().into(),
                _ => (0..token.len()).step_by(2).map(|at| hex_byte(&token[at..at + 2])).collect(),
            },
        };
        groups.last_mut().expect("the outermost group stays").1.extend(&bytes);
        last = bytes;
    }
    assert_eq!(groups.len(), 1, "a group is not closed: {text}");
    groups.remove(0).1
}

/// What the broker answers.
fn answer(case: &Case<'_>, row: &Row) -> Expected {
    let mut client = match row.state {
        State::New => case.dial(),
        State::Open => case.client("bad-input"),
    };
    // A packet whose frame is not whole is judged by what came of it.
    client.send(&row.bytes);
    if row.expected == Expected::Accepted {
        let is_open = client.probe();
        return if is_open { Expected::Accepted } else { Expected::Ended(Vec::new()) };
    }
    client.try_send([0xc0, 0]);
    let said = std::iter::from_fn(|| client.receive_or_end());
    let mut codes = Vec::new();
    for packet in said {
        match packet {
            Packet::Disconnect { code, .. } => codes.push(code),
            Packet::Connack(connack) if connack.code > 0 => codes.push(connack.code),
            Packet::Pingresp => return Expected::Accepted,
            _ => {}
        }
    }
    Expected::Ended(codes)
}

fn agrees(row: &Row, answer: &Expected) -> bool {
    match (&row.expected, answer) {
        (Expected::Ended(allowed), Expected::Ended(said)) => match said[..] {
            [] => allowed.is_empty() || !row.version.is_v5() && row.state == State::Open,
            [code] => allowed.contains(&code),
            _ => false,
        },
        (expected, answer) => expected == answer,
    }
}

#[test]
fn every_row_of_the_table_of_bad_input_is_answered_as_the_specification_says() {
    let rows = rows();
    both(|case| {
        let mut wrong = Vec::new();
        for row in rows.iter().filter(|row| row.version == case.version) {
            let answer = answer(case, row);
            if !agrees(row, &answer) {
                let Row { line, version, expected, .. } = row;
                wrong
                    .push(format!("line {line} ({version:?}): {answer:02x?}, not {expected:02x?}"));
            }
        }
        assert!(wrong.is_empty(), "bad_input.tsv:\n{}", wrong.join("\n"));
    });
}

/// The properties of MQTT 5 [MQTT-2.2.2.2], each with a value that is good, values that are not,
/// and the packets of a client that may carry it.
const PROPERTIES: &[(&str, &[&str], &str)] = &[
    ("01 01", &["01 02", "01 ff"], "will publish"),
    ("02 0000003c", &[], "will publish"),
    ("03 s\"text\"", &["03 [ ff ]", "03 [ 61 00 ]"], "will publish"),
    ("08 s\"answers\"", &["08 s\"a/+\"", "08 s\"#\"", "08 [ c080 ]"], "will publish"),
    ("09 [ 00ff ]", &[], "will publish"),
    ("0b 01", &["0b 00", "0b 8000", "0b ffffffff7f"], "subscribe"),
    ("11 0000003c", &[], "connect disconnect"),
    ("12 s\"id\"", &[], ""),
    ("13 003c", &[], ""),
    ("15 s\"method\"", &[], "connect auth"),
    ("16 [ 00ff ]", &[], "connect auth"),
    ("17 01", &["17 02"], "connect"),
    ("18 0000003c", &[], "will"),
    ("19 01", &["19 02"], "connect"),
    ("1a s\"info\"", &[], ""),
    ("1c s\"server\"", &[], ""),
    ("1f s\"because\"", &["1f [ ff ]"], "puback pubrec pubrel pubcomp disconnect auth"),
    ("21 0014", &["21 0000"], "connect"),
    ("22 0014", &[], "connect"),
    ("23 0001", &["23 0000", "23 ffff"], "publish"),
    ("24 01", &[], ""),
    ("25 01", &[], ""),
    (
        "26 s\"key\" s\"value\"",
        &["26 [ ff ] s\"v\"", "26 s\"k\" [ 61 00 ]"],
        "connect will publish puback pubrec pubrel pubcomp subscribe unsubscribe disconnect auth",
    ),
    ("27 00010000", &["27 00000000"], "connect"),
    ("28 01", &[], ""),
    ("29 01", &[], ""),
    ("2a 01", &[], ""),
];

/// The packets of a client, with a `%` where properties go.
const PACKETS: &[(&str, State, &str)] = &[
    ("connect", State::New, "10 { s\"MQTT\" 05 02 0000 { % } s\"p\" }"),
    ("will", State::New, "10 { s\"MQTT\" 05 06 0000 { } s\"p\" { % } s\"w\" s\"x\" }"),
    ("publish", State::Open, "30 { s\"t\" { % } \"x\" }"),
    ("puback", State::Open, "40 { 0001 00 { % } }"),
    ("pubrec", State::Open, "50 { 0001 00 { % } }"),
    ("pubrel", State::Open, "62 { 0001 00 { % } }"),
    ("pubcomp", State::Open, "70 { 0001 00 { % } }"),
    ("subscribe", State::Open, "82 { 0001 { % } s\"t\" 00 }"),
    ("unsubscribe", State::Open, "a2 { 0001 { % } s\"t\" }"),
];

fn takers_of(takers: &str) -> impl Iterator<Item = &(&str, State, &str)> {
    PACKETS.iter().filter(|packet| takers.split(' ').any(|taker| taker == packet.0))
}

/// Authentication has a protocol of its own, and a Topic Alias a bound that the broker chooses.
fn is_special(id: &str) -> bool {
    ["15 ", "16 ", "23 "].iter().any(|special| id.starts_with(special))
}

#[track_caller]
fn check_property(case: &Case<'_>, packet: (&str, State, &str), properties: &str, codes: &[u8]) {
    let (name, state, pattern) = packet;
    let expected =
        if codes.is_empty() { Expected::Accepted } else { Expected::Ended(codes.to_vec()) };
    let bytes = notation(&pattern.replace('%', properties));
    let row = Row { line: 0, version: case.version, state, bytes, expected };
    let answer = answer(case, &row);
    assert!(agrees(&row, &answer), "{name} with {properties}: {answer:02x?}, not {codes:02x?}");
}

#[test]
fn each_property_is_taken_by_its_packets_and_by_no_other_2_2_2_2() {
    v5(|case| {
        for (good, _, takers) in PROPERTIES {
            for packet in PACKETS.iter().filter(|_| !is_special(good)) {
                let is_taken = takers_of(takers).any(|taker| taker.0 == packet.0);
                check_property(case, *packet, good, if is_taken { &[] } else { &[0x81, 0x82] });
            }
        }
    });
}

#[test]
fn a_property_twice_is_a_protocol_error_and_a_user_property_is_not() {
    v5(|case| {
        for (good, _, takers) in PROPERTIES {
            for packet in takers_of(takers) {
                let twice = format!("{good} {good}");
                let codes: &[u8] = if good.starts_with("26") { &[] } else { &[0x82] };
                check_property(case, *packet, &twice, codes);
            }
        }
    });
}

#[test]
fn values_that_a_property_cannot_have_end_the_connection() {
    v5(|case| {
        for (_, bad, takers) in PROPERTIES {
            for packet in takers_of(takers) {
                for value in *bad {
                    check_property(case, *packet, value, &[0x81, 0x82, 0x90, 0x94]);
                }
            }
        }
    });
}

#[test]
fn a_property_that_is_cut_short_is_malformed() {
    v5(|case| {
        for (good, _, takers) in PROPERTIES {
            let bytes = notation(good);
            for packet in takers_of(takers) {
                for length in 1..bytes.len() {
                    let cut: String =
                        bytes[..length].iter().map(|byte| format!("{byte:02x}")).collect();
                    check_property(case, *packet, &cut, &[0x81, 0x82]);
                }
            }
        }
    });
}
