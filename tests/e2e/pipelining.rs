//! How packets are cut into TCP segments is nobody's business [MQTT 4.2].
//! What must not live here: packets that are themselves broken (`malformed`).

use crate::support::packet::{PINGREQ, disconnect};
use crate::support::{Ack, Case, Packet, Publish, Subscribe, both};

fn whole_conversation(case: &Case<'_>, name: &str) -> Vec<u8> {
    let topic = case.topic(name);
    [
        case.connect(name).encode(),
        Subscribe::new(1).filter(&topic, 1).encode(case.version),
        Publish::new(&topic, "none").encode(case.version),
        Publish::new(&topic, "one").qos(1, 2).encode(case.version),
        Publish::new(&topic, "two").qos(2, 3).encode(case.version),
        Ack::Pubrel.encode(3),
        PINGREQ.to_vec(),
    ]
    .concat()
}

/// Everything that the conversation is answered with, in whatever order is allowed.
#[track_caller]
fn check_answers(case: &Case<'_>, client: &mut crate::support::Client) {
    assert_eq!(client.connack().code, 0, "[MQTT-3.2.0-1]");
    let (mut texts, mut acks, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..8 {
        match client.receive() {
            Packet::Publish(publish) => texts.push(publish.text()),
            Packet::Ack { kind, packet_id, code, .. } => acks.push((kind, packet_id, code)),
            other => others.push(other),
        }
    }
    assert_eq!(texts, ["none", "one", "two"]);
    assert_eq!(acks, [(Ack::Puback, 2, 0), (Ack::Pubrec, 3, 0), (Ack::Pubcomp, 3, 0)]);
    let Packet::Suback { codes, .. } = &others[0] else { panic!("{others:?}") };
    assert_eq!((codes.as_slice(), &others[1]), (&[1][..], &Packet::Pingresp));
    let _ = case;
}

#[test]
fn connect_and_all_that_follows_may_come_in_one_segment() {
    both(|case| {
        let mut client = case.dial();
        client.send(whole_conversation(case, "a"));
        check_answers(case, &mut client);
    });
}

#[test]
fn every_byte_may_come_in_a_segment_of_its_own() {
    both(|case| {
        let mut client = case.dial();
        for byte in whole_conversation(case, "a") {
            client.send([byte]);
        }
        check_answers(case, &mut client);
    });
}

#[test]
fn segments_may_be_cut_anywhere() {
    both(|case| {
        for size in [2, 3, 5, 7, 11, 13, 17, 29, 31] {
            let name = format!("a{size}");
            let mut client = case.dial();
            for segment in whole_conversation(case, &name).chunks(size) {
                client.send(segment);
            }
            check_answers(case, &mut client);
        }
    });
}

#[test]
fn connect_publish_disconnect_in_one_segment_publishes() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 1);
        for number in 0..20 {
            let mut client = case.dial();
            let publish = Publish::new(&case.topic("t"), number.to_string());
            let bytes = [
                case.connect("a").encode(),
                publish.encode(case.version),
                disconnect(case.version, 0, &[]),
            ];
            client.send(bytes.concat());
            client.end_sending();
            assert_eq!(subscriber.texts(1), [number.to_string()]);
            client.rest_bytes();
        }
    });
}

#[test]
fn a_large_message_between_small_ones_keeps_its_place() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 0);
        let message =
            |payload: Vec<u8>| Publish::new(&case.topic("t"), payload).encode(case.version);
        let sizes = [1, 70_000, 1, 65_536, 4096, 1, 300_000, 2];
        let mut publisher = case.client("p");
        publisher.send(sizes.map(|size| message(vec![b'x'; size])).concat());
        for size in sizes {
            assert_eq!(subscriber.receive_publish().payload.len(), size);
        }
    });
}

#[test]
fn two_connections_do_not_mix_their_halves() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 0);
        let (mut one, mut two) = (case.client("1"), case.client("2"));
        let (a, b) = (vec![b'a'; 100_000], vec![b'b'; 100_000]);
        let first = Publish::new(&case.topic("t"), &a).encode(case.version);
        let second = Publish::new(&case.topic("t"), &b).encode(case.version);
        for (left, right) in first.chunks(9000).zip(second.chunks(9000)) {
            one.send(left);
            two.send(right);
        }
        let mut got = [subscriber.receive_publish().payload, subscriber.receive_publish().payload];
        got.sort();
        assert!(got == [a, b], "the payloads are mixed");
    });
}
