//! Packets that no client should send: each ends its connection with the specification's code, and
//! nothing else notices [MQTT 4.13].
//! What must not live here: a CONNECT that is refused (`connect`).

use crate::support::broker::is_foreign;
use crate::support::packet::{PINGREQ, disconnect};
use crate::support::wire::{frame, prefixed, variable_length};
use crate::support::{
    Ack, Broker, Case, Client, Property, Publish, Subscribe, Unsubscribe, Version, both, each, v5,
};

const MALFORMED: &[u8] = &[0x81, 0x82];

/// Each of the packets ends a connection of its own; a witness goes on all the time.
#[track_caller]
fn each_ends(case: &Case<'_>, codes: &[u8], packets: impl IntoIterator<Item = Vec<u8>>) {
    let mut witness = case.subscriber("witness", "witness", 1);
    for packet in packets {
        eprintln!("{:?} {:02x?}", case.version, &packet[..packet.len().min(40)]);
        let mut client = case.client("a");
        client.send(&packet);
        client.expect_end(codes);
        witness.publish(&case.topic("witness"), "x", 1);
        assert_eq!(witness.texts(1), ["x"]);
    }
}

/// One well-formed packet of each kind that a client may send on an open connection.
fn well_formed(case: &Case<'_>) -> Vec<Vec<u8>> {
    let topic = case.topic("t");
    vec![
        Ack::Puback.encode(1),
        Ack::Pubrec.encode(1),
        Ack::Pubrel.encode(1),
        Ack::Pubcomp.encode(1),
        Subscribe::new(1).filter(&topic, 0).encode(case.version),
        Unsubscribe::new(1).filter(&topic).encode(case.version),
        PINGREQ.to_vec(),
        disconnect(case.version, 0, &[]),
    ]
}

#[test]
fn reserved_flags_of_every_packet_type_end_the_connection_2_1_3_1_2_2_2_2() {
    both(|case| {
        let packets = well_formed(case).into_iter().flat_map(|packet| {
            (1..16).map(move |flipped| {
                let mut packet = packet.clone();
                packet[0] ^= flipped;
                packet
            })
        });
        each_ends(case, MALFORMED, packets.collect::<Vec<_>>());
    });
}

#[test]
fn reserved_flags_of_auth_are_malformed_whether_or_not_it_is_expected_3_15_1_1() {
    v5(|case| {
        let packets = (1..16).map(|flags| frame(0xf0 | flags, &[0x18, 0]));
        each_ends(case, &[0x81], packets.collect::<Vec<_>>());
    });
}

#[test]
fn packet_type_0_and_those_of_servers_end_the_connection() {
    both(|case| {
        let mut packets = vec![
            frame(0x00, &[]),
            frame(0x00, &[0; 10]),
            frame(0x20, &[0, 0]),
            frame(0x90, &[0, 1, 0]),
            frame(0xb0, &[0, 1]),
            frame(0xd0, &[]),
        ];
        if !case.version.is_v5() {
            packets.push(frame(0xf0, &[]));
        }
        each_ends(case, MALFORMED, packets);
    });
}

#[test]
fn auth_without_an_authentication_method_ends_the_connection_4_12_0_7() {
    v5(|case| {
        let reauthenticate = [&[0x19, 7, 0x15, 0, 4][..], b"NONE"].concat();
        let packets = [frame(0xf0, &[]), frame(0xf0, &[0x18, 0]), frame(0xf0, &reauthenticate)];
        each_ends(case, &[0x81, 0x82, 0x8c], packets);
    });
}

#[test]
fn truncated_packets_end_the_connection() {
    both(|case| {
        let subscribe = Subscribe::new(1).filter("a/b", 0).encode(case.version);
        let unsubscribe = Unsubscribe::new(1).filter("a/b").encode(case.version);
        let publish = Publish { payload: vec![], ..Publish::new("a/b", "") };
        let first = publish.encode(case.version);
        let second = publish.qos(1, 1).encode(case.version);
        let mut packets = Vec::new();
        for whole in [subscribe, unsubscribe, first, second] {
            let body = &whole[2..];
            packets.extend((0..body.len()).map(|length| frame(whole[0], &body[..length])));
        }
        for first in [0x40, 0x50, 0x62, 0x70] {
            packets.push(frame(first, &[]));
            packets.push(frame(first, &[1]));
        }
        each_ends(case, &[0x81, 0x82, 0x90], packets);
    });
}

#[test]
fn trailing_bytes_end_the_connection() {
    both(|case| {
        let mut packets = vec![frame(0xc0, &[0])];
        if case.version.is_v5() {
            packets.extend([0x40, 0x50, 0x62, 0x70].map(|first| frame(first, &[0, 1, 0, 0, 7])));
            packets.push(frame(0xe0, &[0, 0, 9]));
        } else {
            packets.extend([0x40, 0x50, 0x62, 0x70].map(|first| frame(first, &[0, 1, 0])));
            packets.push(frame(0xe0, &[0]));
        }
        for whole in &mut [
            Subscribe::new(1).filter("a", 0).encode(case.version),
            Unsubscribe::new(1).filter("a").encode(case.version),
        ] {
            let body = [&whole[2..], &[0]].concat();
            packets.push(frame(whole[0], &body));
        }
        each_ends(case, &[0x81, 0x82, 0x8f], packets);
    });
}

#[test]
fn acknowledgements_with_an_unknown_code_end_the_connection() {
    v5(|case| {
        let wrong = [0x40, 0x50, 0x62, 0x70]
            .into_iter()
            .flat_map(|first| [0x01, 0x7f, 0xff].map(|code| frame(first, &[0, 1, code])));
        each_ends(case, MALFORMED, wrong.collect::<Vec<_>>());
    });
}

#[test]
fn properties_that_acknowledgements_cannot_have_end_the_connection() {
    v5(|case| {
        let with = |first: u8, properties: &[u8]| {
            frame(
                first,
                &[&[0, 1, 0, u8::try_from(properties.len()).unwrap()], properties].concat(),
            )
        };
        let reason = [0x1f, 0, 1, b'x'];
        let packets = [0x40, 0x50, 0x62, 0x70].into_iter().flat_map(|first| {
            [
                with(first, &[0x23, 0, 1]),
                with(first, &[0x7f]),
                with(first, &[reason, reason].concat()),
                with(first, &[0x1f, 0, 1, 0xff]),
                with(first, &[0x1f, 0, 9, b'x']),
            ]
        });
        each_ends(case, MALFORMED, packets.collect::<Vec<_>>());
    });
}

#[test]
fn a_remaining_length_of_five_bytes_ends_the_connection_at_once() {
    both(|case| {
        let packets = [0x30, 0x32, 0x82, 0xa2, 0x40, 0xc0, 0xe0]
            .map(|first| vec![first, 0xff, 0xff, 0xff, 0xff]);
        each_ends(case, &[0x81, 0x82, 0x95], packets);
    });
}

#[test]
fn a_remaining_length_that_its_packet_type_cannot_have_ends_the_connection_at_once() {
    if is_foreign() {
        return;
    }
    both(|case| {
        // Only the header comes: nobody needs to wait for the rest.
        let packets =
            [0x40, 0x50, 0x62, 0x70, 0xc0, 0xe0].map(|first| vec![first, 0xff, 0xff, 0x7f]);
        each_ends(case, &[0x81, 0x82, 0x95], packets);
    });
}

#[test]
fn a_variable_byte_integer_that_is_not_minimal_ends_the_connection_1_5_5_1() {
    v5(|case| {
        let publish = [&[0x30, 6, 0, 1, b'a', 0x80, 0x00][..], b"x"].concat();
        let subscribe = [&[0x82, 8, 0, 1, 0x80, 0x00][..], &prefixed(b"a"), &[0]].concat();
        let id = [&[0x82, 10, 0, 1, 3, 0x0b, 0x81, 0x00][..], &prefixed(b"a"), &[0]].concat();
        let packets =
            [vec![0xc0, 0x80, 0x00], vec![0xe0, 0x80, 0x80, 0x00], publish, subscribe, id];
        each_ends(case, &[0x81], packets);
    });
}

#[test]
fn strings_of_publish_must_be_utf8_without_u0000_1_5_3_1_1_5_3_2() {
    both(|case| {
        let topics: [&[u8]; 7] = [
            b"a\0b",
            b"\xff",
            b"\xc0\x80",
            b"\xed\xa0\x80",
            b"\xed\xbf\xbf",
            b"a\xe2\x82",
            b"\xf5\x80\x80\x80",
        ];
        let packets = topics.map(|topic| {
            let properties: &[u8] = if case.version.is_v5() { &[0] } else { &[] };
            frame(0x30, &[&prefixed(topic), properties].concat())
        });
        each_ends(case, &[0x81, 0x90], packets);
    });
}

#[test]
fn the_topic_may_be_as_long_as_a_string_can_be_4_7_3_3() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "#", 0);
        let topic = case.topic(&"x".repeat(65_535 - case.topic("").len()));
        let mut publisher = case.client("p");
        publisher.send(Publish::new(&topic, "x").encode(case.version));
        // A limit on the length may refuse it; then it does so in the specification's words.
        if publisher.probe() {
            assert_eq!(subscriber.message().topic, topic);
        }
    });
}

#[test]
fn a_topic_of_very_many_levels_harms_nobody() {
    both(|case| {
        let deep = case.topic(&"/".repeat(30_000));
        for bytes in [
            Publish::new(&deep, "x").encode(case.version),
            Publish::new(&deep, "x").qos(1, 1).retain().encode(case.version),
            Subscribe::new(1).filter(&deep, 0).encode(case.version),
            Subscribe::new(1).filter(deep.replace("//", "/+/"), 0).encode(case.version),
            Unsubscribe::new(1).filter(&deep).encode(case.version),
        ] {
            let mut client = case.client("a");
            client.send(bytes);
            client.probe();
        }
        case.client("a").assert_quiet();
    });
}

/// The Maximum Packet Size that the broker announces.
fn packet_size_max(broker: &Broker) -> u32 {
    let case = Case::new(broker, Version::V5);
    let (_client, connack) = case.open_with(&case.connect("a"));
    connack
        .find(|property| match property {
            Property::MaximumPacketSize(bytes) => Some(*bytes),
            _ => None,
        })
        .expect("a broker with bounds announces its Maximum Packet Size")
}

#[test]
fn a_packet_over_the_maximum_is_refused_by_its_header_with_0x95_3_2_2_15() {
    if is_foreign() {
        return;
    }
    let broker = Broker::dev();
    let maximum = usize::try_from(packet_size_max(&broker)).unwrap();
    each(&broker, |case| {
        for first in [0x30, 0x32, 0x3d, 0x82, 0xa2] {
            let header = [vec![first], variable_length(maximum)].concat();
            each_ends(case, &[0x95], [header]);
        }
    });
}

#[test]
fn a_packet_of_the_maximum_size_is_taken() {
    if is_foreign() {
        return;
    }
    let broker = Broker::dev();
    let maximum = usize::try_from(packet_size_max(&broker)).unwrap();
    each(&broker, |case| {
        let topic = case.topic("t");
        let whole = |payload: usize| Publish::new(&topic, vec![7; payload]).encode(case.version);
        let overhead = whole(maximum - 100).len() - (maximum - 100);
        let mut subscriber = case.subscriber("s", "t", 0);
        case.client("p").send(whole(maximum - overhead));
        assert_eq!(subscriber.message().payload.len(), maximum - overhead);
    });
}

/// Frames whose inner lengths point behind their end.
fn lying_headers(version: Version) -> Vec<Vec<u8>> {
    let mut headers = vec![
        vec![0x30, 5, 0xff, 0xff, b'a', b'a', b'a'],
        vec![0x32, 5, 0xff, 0xff, b'a', b'a', b'a'],
        vec![0x32, 3, 0, 1, b'a'],
        vec![0x32, 4, 0, 1, b'a', 0],
        vec![0x30, 1, 0],
        vec![0x30, 0],
        vec![0x82, 7, 0, 1, 0, 0xff, 0xff, b'a', 0],
        vec![0xa2, 6, 0, 1, 0, 0xff, 0xff, b'a'],
    ];
    if version.is_v5() {
        headers.extend([
            vec![0x30, 3, 0, 1, b'a'],
            vec![0x30, 8, 0, 1, b'a', 0xff, 0xff, 0xff, 0x7f, 0],
            vec![0x30, 6, 0, 1, b'a', 0x7f, 0x26, 0],
            vec![0x30, 11, 0, 1, b'a', 7, 0x26, 0xff, 0xff, b'a', 0, 1, b'b'],
            vec![0x32, 10, 0, 1, b'a', 0, 1, 0xff, 0xff, 0xff, 0x7f, 0],
            vec![0x82, 8, 0, 1, 0xff, 0xff, 0xff, 0x7f, 0, 0],
            vec![0x40, 7, 0, 1, 0, 0xff, 0xff, 0xff, 0x7f],
            vec![0xe0, 5, 0, 0xff, 0xff, 0xff, 0x7f],
        ]);
    }
    headers
}

/// Sends the beginning and then 64 MiB, as far as the broker takes them: its memory stays.
#[track_caller]
fn flood(case: &Case<'_>, mut client: Client, beginning: &[u8]) {
    let before = case.broker.resident_bytes().unwrap_or(0);
    let chunk = vec![0; 1024 * 1024];
    let _taken = client.try_send(beginning) && (0..64).all(|_| client.try_send(&chunk));
    client.end_sending();
    client.rest_bytes();
    case.client("after").assert_quiet();
    let grown = case.broker.resident_bytes().unwrap_or(0).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more after {beginning:02x?}");
}

#[test]
fn a_packet_that_lies_about_its_inner_lengths_ends_the_connection_without_more_bytes() {
    both(|case| each_ends(case, &[0x81, 0x82, 0x90], lying_headers(case.version)));
}

#[test]
fn a_publish_whose_header_is_longer_than_its_frame_does_not_eat_memory() {
    both(|case| {
        case.client("warm").assert_quiet();
        for header in lying_headers(case.version) {
            flood(case, case.client("a"), &header);
        }
    });
}

#[test]
fn a_connect_that_lies_about_its_lengths_does_not_eat_memory() {
    both(|case| {
        case.client("warm").assert_quiet();
        let level = case.version.level();
        for header in [
            vec![0x10, 0xff, 0xff, 0xff, 0x7f],
            vec![0x10, 14, 0xff, 0xff, b'M', b'Q', b'T', b'T', level, 2, 0, 0, 0, 1, b'a', 0],
            vec![0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 0, 0xff, 0xff, 0xff, 0x7f],
        ] {
            let mut client = case.dial();
            client.send(&header);
            client.rest_bytes();
            flood(case, case.dial(), &header);
        }
    });
}

#[test]
fn bytes_at_random_end_connections_and_nothing_else() {
    both(|case| {
        let mut witness = case.subscriber("witness", "witness", 1);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        for round in 0..200 {
            let mut client = if round % 4 == 0 { case.dial() } else { case.client("a") };
            let noise: Vec<u8> = (0..40).flat_map(|_| random()).collect();
            client.try_send(&noise);
            client.end_sending();
            client.rest_bytes();
        }
        witness.publish(&case.topic("witness"), "x", 1);
        assert_eq!(witness.texts(1), ["x"]);
    });
}

#[test]
fn packets_with_one_byte_changed_end_connections_and_nothing_else() {
    both(|case| {
        let mut witness = case.subscriber("witness", "witness", 1);
        let mut packets = well_formed(case);
        packets.push(Publish::new(&case.topic("t"), "payload").qos(1, 1).encode(case.version));
        for packet in packets {
            for at in 0..packet.len() {
                let mut changed = packet.clone();
                for value in [0x00, 0x7f, 0x80, 0xff] {
                    changed[at] = value;
                    let mut client = case.client("a");
                    client.try_send(&changed);
                    client.end_sending();
                    client.rest_bytes();
                }
            }
        }
        witness.publish(&case.topic("witness"), "x", 1);
        assert_eq!(witness.texts(1), ["x"]);
    });
}
