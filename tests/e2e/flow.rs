//! Flow control: Receive Maximum, Maximum Packet Size, clients that do not read [MQTT 4.9].
//! What must not live here: what a session that is away keeps (`session`).

use std::collections::VecDeque;

use crate::support::wire::split_frame;
use crate::support::{
    Ack, Broker, Case, Client, Connect, Property, Publish, Subscribe, Unsubscribe, both, v3, v5,
};

const MIB: u64 = 1024 * 1024;

/// The next `count` messages, and no more than those until they are acknowledged.
#[track_caller]
fn window(client: &mut Client, count: usize) -> Vec<Publish> {
    let got = (0..count).map(|_| client.receive_publish()).collect();
    client.assert_quiet();
    got
}

fn receiving(case: &Case<'_>, maximum: u16, qos: u8) -> Client {
    let connect = case.connect("s").property(Property::ReceiveMaximum(maximum));
    let mut client = case.open(&connect);
    client.subscribe(&case.topic("t"), qos);
    client
}

#[test]
fn no_more_than_receive_maximum_are_unacknowledged_3_3_4_9_4_9_0_2() {
    v5(|case| {
        for maximum in [1, 2, 7] {
            let mut subscriber = receiving(case, maximum, 2);
            let mut publisher = case.client("p");
            for number in 0..20u8 {
                publisher.publish(&case.topic("t"), [number], 1 + number % 2);
            }
            let mut next = 0;
            while next < 20 {
                let expected = usize::from(maximum).min(20 - usize::from(next));
                for publish in window(&mut subscriber, expected) {
                    assert_eq!(publish.payload, [next]);
                    next += 1;
                    subscriber.acknowledge(&publish);
                }
            }
        }
    });
}

#[test]
fn each_puback_lets_one_more_message_come() {
    v5(|case| {
        let mut subscriber = receiving(case, 3, 1);
        let mut publisher = case.client("p");
        for number in 0..10 {
            publisher.publish(&case.topic("t"), number.to_string(), 1);
        }
        let mut open: VecDeque<Publish> = window(&mut subscriber, 3).into();
        for number in 3..10 {
            let oldest = open.pop_front().unwrap();
            subscriber.acknowledge(&oldest);
            open.push_back(subscriber.receive_publish());
            assert_eq!(open.back().unwrap().text(), number.to_string());
            subscriber.assert_quiet();
        }
    });
}

#[test]
fn a_qos_2_delivery_holds_its_place_until_pubcomp_or_a_refusing_pubrec() {
    v5(|case| {
        let mut subscriber = receiving(case, 1, 2);
        let mut publisher = case.client("p");
        for text in ["a", "b", "c"] {
            publisher.publish(&case.topic("t"), text, 2);
        }
        let a = subscriber.receive_publish();
        subscriber.send(Ack::Pubrec.encode(a.packet_id));
        assert_eq!(subscriber.expect_ack(Ack::Pubrel, a.packet_id), 0);
        subscriber.assert_quiet();
        subscriber.send(Ack::Pubcomp.encode(a.packet_id));
        let b = subscriber.receive_publish();
        assert_eq!(b.text(), "b");
        subscriber.assert_quiet();
        subscriber.send(Ack::Pubrec.encode_code(b.packet_id, 0x83));
        assert_eq!(subscriber.message().text(), "c");
    });
}

#[test]
fn other_packets_are_handled_while_no_message_may_be_sent_4_9_0_3_3_3_4_10() {
    v5(|case| {
        let mut subscriber = receiving(case, 1, 1);
        let mut publisher = case.client("p");
        for number in 0..5 {
            publisher.publish(&case.topic("t"), number.to_string(), 1);
        }
        let first = subscriber.receive_publish();
        subscriber.subscribe(&case.topic("u"), 2);
        assert!(subscriber.publish(&case.topic("elsewhere"), "x", 1) < 0x80);
        assert!(subscriber.publish(&case.topic("elsewhere"), "x", 2) < 0x80);
        subscriber.unsubscribe(&case.topic("u"));
        subscriber.assert_quiet();
        subscriber.acknowledge(&first);
        assert_eq!(subscriber.texts(4), ["1", "2", "3", "4"]);
    });
}

#[test]
fn a_client_that_exceeds_the_servers_receive_maximum_is_told_0x93_3_3_4_7() {
    v5(|case| {
        let (mut client, connack) = case.open_with(&case.connect("a"));
        let announced = connack.find(|property| match property {
            Property::ReceiveMaximum(maximum) => Some(*maximum),
            _ => None,
        });
        // Without a maximum there are not enough packet identifiers to exceed it.
        let Some(maximum) = announced.filter(|maximum| *maximum < u16::MAX) else {
            return;
        };
        for id in 1..=maximum {
            client.send(Publish::new(&case.topic("t"), "x").qos(2, id).encode(case.version));
            assert!(client.ack(Ack::Pubrec, id) < 0x80);
        }
        client.assert_quiet();
        client.send(Publish::new(&case.topic("t"), "x").qos(2, maximum + 1).encode(case.version));
        client.expect_end(&[0x93]);
    });
}

fn with_size(case: &Case<'_>, bytes: u32) -> Connect {
    case.connect("s").property(Property::MaximumPacketSize(bytes))
}

#[test]
fn a_message_over_the_clients_maximum_packet_size_is_left_out_and_the_next_one_flows_3_1_2_24() {
    v5(|case| {
        let connect = with_size(case, 200).property(Property::ReceiveMaximum(2));
        let mut subscriber = case.open(&connect);
        subscriber.subscribe(&case.topic("t"), 2);
        let mut publisher = case.client("p");
        for round in 0..10 {
            publisher.publish(&case.topic("t"), vec![b'x'; 300], round % 3);
            publisher.publish(&case.topic("t"), round.to_string(), 1 + round % 2);
            assert_eq!(subscriber.message().text(), round.to_string(), "[MQTT-3.1.2-25]");
        }
        subscriber.assert_quiet();
    });
}

/// Nothing that explains an answer may make it longer than the client takes: the ids of Reason
/// String and User Property in CONNACK [MQTT-3.2.2-20], PUBREL [MQTT-3.6.2-2] [MQTT-3.6.2-3],
/// PUBCOMP [MQTT-3.7.2-2] [MQTT-3.7.2-3], SUBACK [MQTT-3.9.2-1] [MQTT-3.9.2-2], UNSUBACK
/// [MQTT-3.11.2-1] [MQTT-3.11.2-2] and DISCONNECT [MQTT-3.14.2-3] [MQTT-3.14.2-4].
#[test]
fn answers_that_say_no_keep_within_the_clients_maximum_packet_size_3_1_2_24() {
    v5(|case| {
        // As long as the longest of those that have to be sent, CONNACK, is without explanations.
        const MAXIMUM: u32 = 18;
        let conversation = [
            with_size(case, MAXIMUM).encode(),
            Subscribe::new(1).filter("a/#/b", 0).encode(case.version),
            Unsubscribe::new(2).filter(case.topic("none")).encode(case.version),
            Publish::new(&case.topic("nobody"), "x").qos(1, 3).encode(case.version),
            Ack::Pubrec.encode(4),
            Ack::Pubrel.encode(5),
            with_size(case, MAXIMUM).encode(),
        ];
        let mut client = case.dial();
        client.send(conversation.concat());
        let said = client.rest_bytes();
        let (mut rest, mut types) = (said.as_slice(), Vec::new());
        while let Some((first, _, taken)) = split_frame(rest) {
            assert!(taken <= MAXIMUM as usize, "{:02x?}", &rest[..taken]);
            types.push(first);
            rest = &rest[taken..];
        }
        types.sort_unstable();
        assert_eq!(types, [0x20, 0x40, 0x62, 0x70, 0x90, 0xb0, 0xe0], "{said:02x?}");
    });
}

/// What has to be sent and is longer than the client takes ends the connection; nothing that comes
/// after it is sent in its place.
#[test]
fn an_answer_over_the_clients_maximum_packet_size_ends_the_connection_3_1_2_24() {
    v5(|case| {
        let many = |packet_id| {
            let filters = (0..20).map(|number| case.topic(&number.to_string()));
            filters.fold(Subscribe::new(packet_id), |all, filter| all.filter(filter, 0))
        };
        let mut watcher = case.subscriber("w", "will", 0);
        let will = crate::support::Will::new(&case.topic("will"), "gone");
        let mut client = case.open(&with_size(case, 24).will(will));
        client.send([many(1).encode(case.version), vec![0xc0, 0]].concat());
        client.expect_end(&[0x95]);
        assert_eq!(watcher.message().text(), "gone");

        let unsubscribe = (0..20)
            .fold(Unsubscribe::new(2), |all, number| all.filter(case.topic(&number.to_string())));
        let mut client = case.open(&with_size(case, 24));
        client.send(unsubscribe.encode(case.version));
        client.expect_end(&[0x95]);

        let mut whole = case.open(&with_size(case, 25));
        assert_eq!(whole.suback(&many(1), 1).len(), 20);
    });
}

#[test]
fn a_connack_over_the_clients_maximum_packet_size_is_not_sent_and_nothing_else_is_3_2_0_1() {
    v5(|case| {
        for bytes in [1, 2, 4, 10] {
            let mut client = case.dial();
            let subscribe = Subscribe::new(1).filter(case.topic("t"), 0).encode(case.version);
            client.send([with_size(case, bytes).encode(), subscribe, vec![0xc0, 0]].concat());
            assert_eq!(client.rest_bytes(), b"", "with {bytes} bytes");
        }
    });
}

#[test]
fn the_limit_of_the_packet_size_is_exact() {
    v5(|case| {
        let mut subscriber = case.open(&with_size(case, 200));
        subscriber.subscribe(&case.topic("t"), 0);
        let mut publisher = case.client("p");
        let sized = |bytes: usize| {
            let empty = Publish::new(&case.topic("t"), "");
            let overhead =
                Publish { payload: vec![0; 126], ..empty.clone() }.encode(case.version).len() - 126;
            Publish { payload: vec![b'x'; bytes - overhead], ..empty }
        };
        for bytes in [201, 200, 202, 199] {
            let message = sized(bytes);
            assert_eq!(message.encode(case.version).len(), bytes);
            publisher.publish_message(message);
        }
        for bytes in [200, 199] {
            assert_eq!(subscriber.message().encode(case.version).len(), bytes);
        }
        subscriber.assert_quiet();
    });
}

#[test]
fn a_subscriber_that_does_not_read_costs_bounded_memory_and_harms_nobody() {
    both(|case| {
        let mut slow = case.subscriber("slow", "#", 0);
        let mut quick = case.subscriber("quick", "marker", 1);
        let mut publisher = case.client("p");
        publisher.ping();
        let before = case.broker.resident_bytes().unwrap_or(0);
        let flood = Publish::new(&case.topic("t"), vec![b'x'; 64 * 1024]).encode(case.version);
        for round in 0..40 {
            // 8 MiB more; the ping paces the publisher, so that its own bytes are not what counts.
            publisher.send(flood.repeat(128));
            publisher.ping();
            publisher.publish(&case.topic("marker"), round.to_string(), 1);
            assert_eq!(quick.message().text(), round.to_string());
        }
        let grown = case.broker.resident_bytes().unwrap_or(0).saturating_sub(before);
        assert!(grown < 96 * MIB, "{} MiB more after 320 MiB", grown / MIB);
        // What it does get when it reads again is whole and ends with the newest marker or before.
        let got = slow.receive_publish();
        assert_eq!(got.payload.len(), 64 * 1024);
    });
}

#[test]
fn a_slow_subscriber_gets_its_qos_1_messages_in_order_without_gaps() {
    both(|case| {
        let mut slow = case.subscriber("slow", "t", 1);
        let mut publisher = case.client("p");
        for number in 0..500u32 {
            let payload = [&number.to_be_bytes()[..], &vec![0; 4000]].concat();
            publisher.publish(&case.topic("t"), payload, 1);
        }
        for number in 0..500u32 {
            assert_eq!(slow.message().payload[..4], number.to_be_bytes());
        }
        slow.assert_quiet();
    });
}

#[test]
fn a_publisher_that_does_not_read_its_acknowledgements_costs_bounded_memory() {
    both(|case| {
        let mut rude = case.client("rude");
        let before = case.broker.resident_bytes().unwrap_or(0);
        let chunk: Vec<u8> = (1..=4000u16)
            .flat_map(|id| Publish::new(&case.topic("t"), "x").qos(1, id).encode(case.version))
            .collect();
        // As many as the broker takes without being read, at most a few seconds' worth.
        let begun = std::time::Instant::now();
        let mut sent = 0u64;
        rude.set_write_timeout(std::time::Duration::from_millis(500));
        while begun.elapsed() < std::time::Duration::from_secs(3) && rude.try_send(&chunk) {
            sent += 4000;
        }
        let mut other = case.subscriber("other", "t", 0);
        other.publish(&case.topic("t"), "x", 0);
        other.receive_publish();
        let grown = case.broker.resident_bytes().unwrap_or(0).saturating_sub(before);
        assert!(grown < 16 * MIB, "{} MiB more after {sent} publishes", grown / MIB);
    });
}

#[test]
fn what_a_client_asks_for_and_does_not_read_costs_bounded_memory() {
    both(|case| {
        let topic = case.topic("large");
        let mut publisher = case.client("p");
        publisher.publish_message(Publish::new(&topic, vec![b'x'; 500_000]).qos(1, 0).retain());
        let mut other = case.subscriber("other", "t", 0);
        let before = case.broker.resident_bytes().unwrap_or(0);
        let mut rude = case.client("rude");
        rude.set_write_timeout(std::time::Duration::from_millis(300));
        // Each SUBSCRIBE asks for the retained message again; each PINGREQ for its answer.
        let subscribe = Subscribe::new(7).filter(&topic, 0).encode(case.version);
        let asks = [subscribe.repeat(20), [0xc0, 0].repeat(50_000)].concat();
        let taken = (0..100).take_while(|_| rude.try_send(&asks)).count();
        other.publish(&case.topic("t"), "x", 0);
        other.receive_publish();
        let grown = case.broker.resident_bytes().unwrap_or(0).saturating_sub(before);
        assert!(grown < 16 * MIB, "{} MiB more after {taken} rounds", grown / MIB);
        publisher.publish_message(Publish::new(&topic, "").qos(1, 0).retain());
    });
}

#[test]
fn a_publisher_that_is_faster_than_the_broker_waits_in_its_own_socket() {
    v3(|case| {
        let mut fast = case.client("fast");
        let message = |id| Publish::new(&case.topic("t"), [b'x'; 40]).qos(1, id).retain();
        let chunk: Vec<u8> = (1..=1000).flat_map(|id| message(id).encode(case.version)).collect();
        // Its acknowledgements are read, so that nothing but the handling holds it back.
        fast.discard_what_comes();
        let mut resident = Vec::new();
        for _ in 0..12 {
            (0..60).for_each(|_| fast.send(&chunk));
            resident.push(case.broker.resident_bytes().unwrap_or(0));
        }
        // The first ones also pay for buffers that every busy broker has.
        let (warm, most) = (resident[2], resident.iter().max().copied().unwrap_or(0));
        let (grown, sent) = (most.saturating_sub(warm), 9 * 60 * chunk.len() as u64);
        assert!(grown < sent / 4, "{} MiB more while {} MiB came", grown / MIB, sent / MIB);
    });
}

#[test]
fn a_slow_connection_of_one_session_is_taken_over_in_time() {
    let broker = Broker::dev();
    crate::support::each(&broker, |case| {
        let connect = case.connect("slow").persistent();
        let mut slow = case.open(&connect);
        slow.subscribe(&case.topic("t"), 0);
        let mut publisher = case.client("p");
        let flood = Publish::new(&case.topic("t"), vec![b'x'; 64 * 1024]).encode(case.version);
        publisher.send(flood.repeat(300));
        publisher.ping();
        // Nobody reads the old connection: its DISCONNECT must not be waited for.
        let mut newer = case.open(&connect);
        assert!(newer.probe());
        drop(slow);
    });
}
