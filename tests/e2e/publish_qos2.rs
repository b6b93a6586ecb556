//! PUBLISH exactly once, both ways [MQTT 4.3.3].
//! What must not live here: what a new connection gets again (`session`), windows (`flow`).

use crate::support::{Ack, Case, Property, Publish, both, v3, v5};

#[test]
fn the_four_packets_carry_one_identifier_4_3_3_8_4_3_3_11() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        publisher.send(Publish::new(&case.topic("t"), "x").qos(2, 513).encode(case.version));
        assert_eq!(publisher.expect_ack(Ack::Pubrec, 513), 0);
        publisher.send(Ack::Pubrel.encode(513));
        assert_eq!(publisher.expect_ack(Ack::Pubcomp, 513), 0);
        let got = subscriber.receive_publish();
        assert_eq!((got.qos, got.dup, got.text().as_str()), (2, false, "x"));
        subscriber.send(Ack::Pubrec.encode(got.packet_id));
        assert_eq!(subscriber.expect_ack(Ack::Pubrel, got.packet_id), 0);
        subscriber.send(Ack::Pubcomp.encode(got.packet_id));
        subscriber.assert_quiet();
    });
}

#[test]
fn a_repeated_publish_before_pubrel_is_not_delivered_twice_4_3_3_10() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        let publish = Publish::new(&case.topic("t"), "once").qos(2, 5);
        publisher.send(publish.encode(case.version));
        publisher.expect_ack(Ack::Pubrec, 5);
        for _ in 0..3 {
            publisher.send(publish.clone().dup().encode(case.version));
            publisher.expect_ack(Ack::Pubrec, 5);
        }
        publisher.send(Ack::Pubrel.encode(5));
        publisher.expect_ack(Ack::Pubcomp, 5);
        publisher.publish(&case.topic("t"), "next", 2);
        assert_eq!(subscriber.texts(2), ["once", "next"]);
    });
}

#[test]
fn a_publish_repeated_on_a_resumed_session_is_not_delivered_twice_4_3_3_10() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let connect = case.connect("p").persistent();
        let mut publisher = case.open(&connect);
        let publish = Publish::new(&case.topic("t"), "once").qos(2, 5);
        publisher.send(publish.encode(case.version));
        publisher.expect_ack(Ack::Pubrec, 5);
        publisher.cut();
        let (mut publisher, connack) = case.open_with(&connect);
        assert!(connack.session_present);
        publisher.send(publish.dup().encode(case.version));
        publisher.expect_ack(Ack::Pubrec, 5);
        publisher.send(Ack::Pubrel.encode(5));
        publisher.expect_ack(Ack::Pubcomp, 5);
        publisher.publish(&case.topic("t"), "next", 2);
        assert_eq!(subscriber.texts(2), ["once", "next"]);
    });
}

#[test]
fn after_pubcomp_the_identifier_is_new_4_3_3_12() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        for text in ["one", "two"] {
            publisher.publish_message(Publish::new(&case.topic("t"), text).qos(2, 5));
        }
        // Even with DUP: the client is free to say so.
        publisher.publish_message(Publish::new(&case.topic("t"), "three").qos(2, 5).dup());
        assert_eq!(subscriber.texts(3), ["one", "two", "three"]);
    });
}

#[test]
fn after_a_clean_start_the_identifier_is_new_3_1_2_4() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.open(&case.connect("p").persistent());
        let publish = Publish::new(&case.topic("t"), "one").qos(2, 5);
        publisher.send(publish.encode(case.version));
        publisher.expect_ack(Ack::Pubrec, 5);
        publisher.cut();
        let mut publisher = case.client("p");
        publisher.publish_message(Publish::new(&case.topic("t"), "two").qos(2, 5));
        // Whether `one` is delivered without its PUBREL is the broker's choice; `two` must be.
        while subscriber.message().text() != "two" {}
    });
}

#[test]
fn pubrel_of_an_unknown_identifier_gets_a_pubcomp_that_says_so_3_7_2_1() {
    both(|case| {
        let mut client = case.client("a");
        client.send(Ack::Pubrel.encode(99));
        let code = client.expect_ack(Ack::Pubcomp, 99);
        assert_eq!(code, if case.version.is_v5() { 0x92 } else { 0 });
        client.assert_quiet();
    });
}

#[test]
fn pubrec_of_an_unknown_identifier_gets_a_pubrel_that_says_so_3_6_2_1() {
    v5(|case| {
        let mut client = case.client("a");
        client.send(Ack::Pubrec.encode(99));
        assert_eq!(client.expect_ack(Ack::Pubrel, 99), 0x92);
        client.assert_quiet();
    });
    v3(|case| {
        let mut client = case.client("a");
        client.send([Ack::Pubrec.encode(99), Ack::Pubcomp.encode(98)].concat());
        let said = client.ping();
        assert!(said.len() <= 1, "{said:?}");
    });
}

#[test]
fn a_pubrec_with_an_error_ends_the_delivery_4_4_0_2() {
    v5(|case| {
        let connect = case.connect("s").persistent();
        let mut subscriber = case.open(&connect);
        subscriber.subscribe(&case.topic("t"), 2);
        let mut publisher = case.client("p");
        publisher.publish(&case.topic("t"), "refused", 2);
        let got = subscriber.receive_publish();
        subscriber.send(Ack::Pubrec.encode_code(got.packet_id, 0x97));
        subscriber.assert_quiet();
        publisher.publish(&case.topic("t"), "next", 2);
        assert_eq!(subscriber.message().text(), "next");
        subscriber.cut();
        case.open(&connect).assert_quiet();
    });
}

#[test]
fn the_wrong_kind_of_acknowledgement_neither_loses_nor_doubles_a_message() {
    both(|case| {
        for wrong in [Ack::Puback, Ack::Pubcomp] {
            let connect = case.connect("s").persistent();
            let mut subscriber = case.open(&connect);
            subscriber.subscribe(&case.topic("t"), 2);
            case.client("p").publish(&case.topic("t"), "x", 2);
            let got = subscriber.receive_publish();
            subscriber.send(wrong.encode(got.packet_id));
            subscriber.end_sending();
            subscriber.rest();
            let mut subscriber = case.open(&connect);
            let again = subscriber.message();
            assert_eq!((again.text().as_str(), again.dup), ("x", true));
            assert_eq!(again.packet_id, got.packet_id);
            subscriber.assert_quiet();
            subscriber.disconnect_with(0, &[Property::SessionExpiry(0)]);
        }
    });
}

#[test]
fn a_repeated_pubrec_gets_its_pubrel_again() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        case.client("p").publish(&case.topic("t"), "x", 2);
        let id = subscriber.receive_publish().packet_id;
        for _ in 0..2 {
            subscriber.send(Ack::Pubrec.encode(id));
            assert_eq!(subscriber.expect_ack(Ack::Pubrel, id), 0);
        }
        subscriber.send(Ack::Pubcomp.encode(id));
        subscriber.assert_quiet();
    });
}

#[test]
fn many_deliveries_interleave_and_stay_in_order_4_6_0_3_4_6_0_4() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        let ids: Vec<u16> = (1..=10).collect();
        let publishes: Vec<u8> = ids
            .iter()
            .flat_map(|id| {
                let publish = Publish::new(&case.topic("t"), id.to_string()).qos(2, *id);
                publish.encode(case.version)
            })
            .collect();
        publisher.send(publishes);
        for id in &ids {
            publisher.expect_ack(Ack::Pubrec, *id);
        }
        publisher.send(ids.iter().flat_map(|id| Ack::Pubrel.encode(*id)).collect::<Vec<u8>>());
        for id in &ids {
            publisher.expect_ack(Ack::Pubcomp, *id);
        }
        let got: Vec<Publish> = ids.iter().map(|_| subscriber.receive_publish()).collect();
        let numbers: Vec<String> = got.iter().map(Publish::text).collect();
        assert_eq!(numbers, ids.iter().map(u16::to_string).collect::<Vec<_>>());
        let records = got.iter().flat_map(|publish| Ack::Pubrec.encode(publish.packet_id));
        subscriber.send(records.collect::<Vec<u8>>());
        for publish in &got {
            assert_eq!(subscriber.expect_ack(Ack::Pubrel, publish.packet_id), 0);
        }
        let completes = got.iter().flat_map(|publish| Ack::Pubcomp.encode(publish.packet_id));
        subscriber.send(completes.collect::<Vec<u8>>());
        subscriber.assert_quiet();
    });
}

/// The order in which `count` messages of changing QoS arrive on one topic.
fn mixed(case: &Case<'_>, count: u16, granted: u8) -> Vec<(u8, String)> {
    let mut subscriber = case.subscriber(&format!("s{granted}"), "t", granted);
    let mut publisher = case.client(&format!("p{granted}"));
    let receiver = std::thread::spawn(move || {
        let message = |_| {
            let got = subscriber.message();
            (got.qos, got.text())
        };
        (0..count).map(message).collect()
    });
    for number in 0..count {
        let qos = u8::try_from(number % 3).unwrap();
        publisher.publish(&case.topic("t"), number.to_string(), qos);
    }
    receiver.join().unwrap()
}

#[test]
fn the_order_of_each_qos_is_kept_when_they_are_mixed_4_6_0_5() {
    both(|case| {
        for granted in 0..3 {
            let got = mixed(case, 300, granted);
            for qos in 0..=granted {
                let same = got.iter().filter(|(q, _)| *q == qos);
                let numbers: Vec<u32> = same.map(|(_, text)| text.parse().unwrap()).collect();
                assert!(numbers.is_sorted(), "granted {granted}, QoS {qos}: {numbers:?}");
            }
        }
    });
}

#[test]
fn a_publish_without_pubrel_blocks_nobody() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut lazy = case.client("lazy");
        lazy.send(Publish::new(&case.topic("t"), "lazy").qos(2, 1).encode(case.version));
        lazy.expect_ack(Ack::Pubrec, 1);
        case.client("p").publish(&case.topic("t"), "other", 2);
        // Whether `lazy` is delivered before its PUBREL is the broker's choice.
        while subscriber.message().text() != "other" {}
    });
}
