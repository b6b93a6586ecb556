//! PUBLISH at least once, both ways [MQTT 4.3.2].
//! What must not live here: what a new connection gets again (`session`), windows (`flow`).

use crate::support::{Ack, Publish, both, v5};

#[test]
fn a_publish_is_acknowledged_with_its_packet_identifier_2_2_1_5() {
    both(|case| {
        let mut publisher = case.client("p");
        let mut subscriber = case.subscriber("s", "t", 1);
        for id in [1, 2, 255, 256, 32_768, 65_535] {
            publisher.send(Publish::new(&case.topic("t"), "x").qos(1, id).encode(case.version));
            assert_eq!(publisher.expect_ack(Ack::Puback, id), 0);
            assert_eq!(subscriber.message().qos, 1);
        }
    });
}

#[test]
fn a_publish_that_nobody_subscribes_to_is_acknowledged_as_a_success_3_4_2_1() {
    both(|case| {
        let mut publisher = case.client("p");
        for qos in [1, 2] {
            let code = publisher.publish(&case.topic("nobody"), "x", qos);
            assert!([0x00, 0x10].contains(&code), "{code:#04x}");
        }
    });
}

#[test]
fn packet_identifier_0_ends_the_connection_2_2_1_3() {
    both(|case| {
        for qos in [1, 2] {
            let mut client = case.client("a");
            client.send(Publish::new(&case.topic("t"), "x").qos(qos, 0).encode(case.version));
            client.expect_end(&[0x81, 0x82]);
        }
    });
}

#[test]
fn after_its_puback_an_identifier_is_new_even_with_dup_4_3_2_5() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 1);
        let mut publisher = case.client("p");
        for text in ["one", "two"] {
            let publish = Publish::new(&case.topic("t"), text).qos(1, 7);
            publisher.publish_message(publish.clone());
            publisher.publish_message(publish.dup());
        }
        assert_eq!(subscriber.texts(4), ["one", "one", "two", "two"]);
    });
}

#[test]
fn dup_of_an_incoming_publish_is_not_passed_on_3_3_1_3() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        for qos in [1, 2] {
            publisher.publish_message(Publish::new(&case.topic("t"), "x").qos(qos, 9).dup());
            let got = subscriber.message();
            assert_eq!((got.dup, got.qos), (false, qos));
        }
    });
}

#[test]
fn outgoing_identifiers_are_unique_while_unacknowledged_2_2_1_4() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 1);
        let mut publisher = case.client("p");
        for number in 0..10 {
            publisher.publish(&case.topic("t"), number.to_string(), 1);
        }
        let got: Vec<Publish> = (0..10).map(|_| subscriber.receive_publish()).collect();
        let mut ids: Vec<u16> = got.iter().map(|publish| publish.packet_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 10, "{got:?}");
    });
}

#[test]
fn nothing_is_sent_again_on_a_living_connection_4_4_0_1() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        publisher.publish(&case.topic("t"), "one", 1);
        publisher.publish(&case.topic("t"), "two", 2);
        assert_eq!(subscriber.receive_publish().text(), "one");
        assert_eq!(subscriber.receive_publish().text(), "two");
        let wait = std::time::Duration::from_secs(2);
        assert_eq!(subscriber.receive_within(wait), None);
        subscriber.assert_quiet();
    });
}

#[test]
fn acknowledgements_may_come_out_of_order() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 1);
        let mut publisher = case.client("p");
        for number in 0..20 {
            publisher.publish(&case.topic("t"), number.to_string(), 1);
        }
        let mut got: Vec<Publish> = (0..20).map(|_| subscriber.receive_publish()).collect();
        got.reverse();
        for publish in &got {
            subscriber.acknowledge(publish);
        }
        publisher.publish(&case.topic("t"), "after", 1);
        assert_eq!(subscriber.message().text(), "after");
    });
}

#[test]
fn acknowledgements_of_unknown_identifiers_are_let_pass() {
    both(|case| {
        let mut client = case.subscriber("a", "t", 1);
        client.send(Ack::Puback.encode(77));
        client.publish(&case.topic("t"), "x", 1);
        assert_eq!(client.message().text(), "x");
        client.assert_quiet();
    });
}

#[test]
fn the_wrong_kind_of_acknowledgement_neither_loses_nor_doubles_a_message() {
    both(|case| {
        for wrong in [Ack::Pubrec, Ack::Pubcomp] {
            let connect = case.connect("s").persistent();
            let mut subscriber = case.open(&connect);
            subscriber.subscribe(&case.topic("t"), 1);
            case.client("p").publish(&case.topic("t"), "x", 1);
            let got = subscriber.receive_publish();
            subscriber.send(wrong.encode(got.packet_id));
            // Closing over it and going on are both allowed; forgetting the message is not.
            subscriber.end_sending();
            subscriber.rest();
            let mut subscriber = case.open(&connect);
            let again = subscriber.message();
            assert_eq!((again.text().as_str(), again.dup), ("x", true));
            assert_eq!(again.packet_id, got.packet_id);
            subscriber.assert_quiet();
            subscriber.disconnect_with(0, &[crate::support::Property::SessionExpiry(0)]);
        }
    });
}

#[test]
fn a_puback_with_an_error_ends_the_delivery_4_4_0_2() {
    v5(|case| {
        let connect = case.connect("s").persistent();
        let mut subscriber = case.open(&connect);
        subscriber.subscribe(&case.topic("t"), 1);
        case.client("p").publish(&case.topic("t"), "x", 1);
        let got = subscriber.receive_publish();
        subscriber.send(Ack::Puback.encode_code(got.packet_id, 0x80));
        subscriber.assert_quiet();
        subscriber.cut();
        case.open(&connect).assert_quiet();
    });
}

#[test]
fn a_long_form_puback_is_understood() {
    v5(|case| {
        let mut subscriber = case.subscriber("s", "t", 1);
        let mut publisher = case.client("p");
        // Reason Code; Reason Code and properties; both with a Reason String.
        for tail in [&[0x10][..], &[0, 0], &[0, 4, 0x1f, 0, 1, b'x']] {
            publisher.publish(&case.topic("t"), "x", 1);
            let [high, low] = subscriber.receive_publish().packet_id.to_be_bytes();
            let ack = crate::support::wire::frame(0x40, &[&[high, low], tail].concat());
            subscriber.send(ack);
            subscriber.assert_quiet();
        }
    });
}

#[test]
fn a_thousand_messages_are_acknowledged_and_delivered_in_order_4_6_0_2_4_6_0_5() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 1);
        let mut publisher = case.client("p");
        let receiver = std::thread::spawn(move || subscriber.texts(1000));
        for first in (1..=1000).step_by(20) {
            let batch: Vec<u8> = (first..first + 20)
                .flat_map(|id: u16| {
                    let publish = Publish::new(&case.topic("t"), id.to_string()).qos(1, id);
                    publish.encode(case.version)
                })
                .collect();
            publisher.send(batch);
            for id in first..first + 20 {
                assert_eq!(publisher.expect_ack(Ack::Puback, id), 0);
            }
        }
        let expected: Vec<String> = (1..=1000).map(|id| id.to_string()).collect();
        assert_eq!(receiver.join().unwrap(), expected);
    });
}

#[test]
fn more_messages_than_packet_identifiers_pass_and_none_that_is_held_is_used_again_2_2_1_4() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        // One that waits for PUBACK, one for PUBREC, one for PUBCOMP [MQTT-4.3.3-1].
        for (id, qos) in [(1, 1), (2, 2), (3, 2)] {
            publisher.publish_message(Publish::new(&case.topic("t"), "held").qos(qos, id));
        }
        let held: Vec<u16> = (0..3).map(|_| subscriber.receive_publish().packet_id).collect();
        subscriber.send(Ack::Pubrec.encode(held[2]));
        assert_eq!(subscriber.expect_ack(Ack::Pubrel, held[2]), 0);
        for batch in 0..1400u32 {
            let numbers = batch * 50..(batch + 1) * 50;
            let bytes: Vec<u8> = numbers
                .clone()
                .zip(1..)
                .flat_map(|(number, id)| {
                    let publish = Publish::new(&case.topic("t"), number.to_be_bytes()).qos(1, id);
                    publish.encode(case.version)
                })
                .collect();
            publisher.send(bytes);
            for id in 1..=50 {
                assert_eq!(publisher.expect_ack(Ack::Puback, id), 0);
            }
            let mut acks = Vec::new();
            for number in numbers {
                let got = subscriber.receive_publish();
                assert_eq!(got.payload, number.to_be_bytes());
                assert!(!held.contains(&got.packet_id), "{got:?} of {held:?}");
                acks.extend(Ack::Puback.encode(got.packet_id));
            }
            subscriber.send(acks);
        }
        subscriber.assert_quiet();
    });
}
