//! Session State: what is kept while a client is away, and what it gets when it comes back
//! [MQTT 3.1.2.4, 4.1, 4.4].
//! What must not live here: two connections at once (`takeover`).

use std::time::{Duration, Instant};

use crate::support::{Ack, Case, Client, Connect, Packet, Property, Publish, both, v5};

fn expiring(expiry: u32) -> [Property; 1] {
    [Property::SessionExpiry(expiry)]
}

/// A persistent client of that name with a subscription to `t`, which has just been cut.
fn away(case: &Case<'_>, name: &str, qos: u8) -> Connect {
    let connect = case.connect(name).persistent();
    let mut client = case.open(&connect);
    client.subscribe(&case.topic("t"), qos);
    client.cut();
    connect
}

fn publish_all(case: &Case<'_>, texts: &[&str], qos: u8) {
    let mut publisher = case.client("publisher");
    for text in texts {
        publisher.publish(&case.topic("t"), text, qos);
    }
    publisher.disconnect();
}

#[test]
fn session_present_tells_whether_there_was_a_session_3_2_2_2_3_2_2_3() {
    both(|case| {
        let persistent = case.connect("a").persistent();
        let present = |connect: &Connect| {
            let (client, connack) = case.open_with(connect);
            client.cut();
            connack.session_present
        };
        assert!(!present(&persistent));
        assert!(present(&persistent));
        assert!(!present(&case.connect("a")), "a clean start has none");
        assert!(!present(&persistent), "and leaves none");
        assert!(present(&persistent));
    });
}

#[test]
fn a_session_of_mqtt_5_without_expiry_ends_with_its_connection() {
    v5(|case| {
        case.open(&case.connect("a").resuming()).cut();
        let (client, connack) = case.open_with(&case.connect("a").resuming());
        assert!(!connack.session_present);
        client.cut();
        case.open(&case.connect("a").session_expiry(100)).cut();
        let (_client, connack) = case.open_with(&case.connect("a").resuming());
        assert!(connack.session_present, "Clean Start says nothing about what is kept");
    });
}

#[test]
fn messages_of_qos_1_and_2_wait_for_an_absent_client_in_order_3_1_2_5() {
    both(|case| {
        let connect = away(case, "s", 2);
        let texts = ["1", "2", "3", "4", "5", "6"];
        let mut publisher = case.client("p");
        for (number, text) in texts.iter().enumerate() {
            let qos = u8::try_from(1 + number % 2).unwrap();
            publisher.publish(&case.topic("t"), text, qos);
        }
        let (mut client, connack) = case.open_with(&connect);
        assert!(connack.session_present);
        let got: Vec<Publish> = texts.iter().map(|_| client.message()).collect();
        assert_eq!(got.iter().map(Publish::text).collect::<Vec<_>>(), texts);
        assert!(got.iter().all(|publish| !publish.dup), "[MQTT-4.3.2-2] the first time: {got:?}");
        client.assert_quiet();
        client.cut();
        case.open(&connect).assert_quiet();
    });
}

#[test]
fn a_thousand_messages_wait_in_order() {
    both(|case| {
        let connect = away(case, "s", 1);
        let mut publisher = case.client("p");
        for number in 0..1000 {
            publisher.publish(&case.topic("t"), number.to_string(), 1);
        }
        let expected: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        assert_eq!(case.open(&connect).texts(1000), expected);
    });
}

#[test]
fn subscriptions_are_kept_with_their_options() {
    both(|case| {
        let connect = case.connect("s").persistent();
        let mut client = case.open(&connect);
        client.subscribe(&case.topic("one"), 1);
        client.subscribe(&case.topic("none/#"), 0);
        let mut with_id = crate::support::Subscribe::new(99).filter(case.topic("id"), 1);
        if case.version.is_v5() {
            with_id = with_id.property(Property::SubscriptionId(7));
        }
        client.suback(&with_id, 99);
        client.cut();
        let mut client = case.open(&connect);
        let mut publisher = case.client("p");
        publisher.publish(&case.topic("one"), "x", 2);
        assert_eq!(client.message().qos, 1);
        publisher.publish(&case.topic("none/x"), "x", 2);
        assert_eq!(client.message().qos, 0);
        publisher.publish(&case.topic("id"), "x", 1);
        let expected =
            if case.version.is_v5() { vec![Property::SubscriptionId(7)] } else { vec![] };
        assert_eq!(client.message().properties, expected);
    });
}

#[test]
fn a_clean_start_discards_subscriptions_queue_and_deliveries_3_1_2_4_3_1_2_6() {
    both(|case| {
        let connect = case.connect("s").persistent();
        let mut client = case.open(&connect);
        client.subscribe(&case.topic("t"), 2);
        publish_all(case, &["in flight"], 2);
        client.receive_publish();
        client.cut();
        publish_all(case, &["queued"], 1);
        let (mut client, connack) = case.open_with(&case.connect("s").session_expiry(300));
        assert!(!connack.session_present);
        client.assert_quiet();
        publish_all(case, &["later"], 1);
        client.assert_quiet();
        client.cut();
        let mut client = case.open(&connect);
        client.assert_quiet();
        client.disconnect_with(0, &expiring(0));
    });
}

#[test]
fn unacknowledged_messages_come_again_with_dup_and_the_same_identifiers_in_order_4_4_0_1() {
    both(|case| {
        let connect = case.connect("s").persistent();
        let mut client = case.open(&connect);
        client.subscribe(&case.topic("t"), 2);
        let mut publisher = case.client("p");
        for (text, qos) in [("a", 1), ("b", 2), ("c", 1), ("d", 2), ("e", 1)] {
            publisher.publish(&case.topic("t"), text, qos);
        }
        let first: Vec<Publish> = (0..5).map(|_| client.receive_publish()).collect();
        client.acknowledge(&first[2]);
        client.assert_quiet();
        client.cut();
        publisher.publish(&case.topic("t"), "f", 1);
        let mut client = case.open(&connect);
        for sent in [&first[0], &first[1], &first[3], &first[4]] {
            assert_eq!(client.receive_publish(), sent.clone().dup());
        }
        let next = client.receive_publish();
        assert_eq!((next.text().as_str(), next.dup), ("f", false));
        for publish in [&first[0], &first[1], &first[3], &first[4], &next] {
            client.acknowledge(publish);
        }
        client.assert_quiet();
        client.cut();
        case.open(&connect).assert_quiet();
    });
}

#[test]
fn after_pubrec_only_pubrel_comes_again_4_3_3_6() {
    both(|case| {
        let connect = case.connect("s").persistent();
        let mut client = case.open(&connect);
        client.subscribe(&case.topic("t"), 2);
        publish_all(case, &["a", "b"], 2);
        let (a, b) = (client.receive_publish(), client.receive_publish());
        client.send(Ack::Pubrec.encode(a.packet_id));
        client.expect_ack(Ack::Pubrel, a.packet_id);
        client.cut();
        let mut client = case.open(&connect);
        let mut said = [client.receive(), client.receive()];
        said.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
        let Packet::Ack { kind: Ack::Pubrel, packet_id, .. } = said[0] else { panic!("{said:?}") };
        assert_eq!(packet_id, a.packet_id);
        assert_eq!(said[1], Packet::Publish(b.clone().dup()));
        client.send(Ack::Pubcomp.encode(a.packet_id));
        client.acknowledge(&b);
        client.assert_quiet();
        client.cut();
        case.open(&connect).assert_quiet();
    });
}

#[test]
fn what_was_acknowledged_just_before_the_cut_does_not_come_again() {
    both(|case| {
        let connect = case.connect("s").persistent();
        let mut client = case.open(&connect);
        client.subscribe(&case.topic("t"), 1);
        publish_all(case, &["a", "b", "c"], 1);
        let got: Vec<Publish> = (0..3).map(|_| client.receive_publish()).collect();
        // No wait between the acknowledgements and the end of the stream.
        client.send(got.iter().flat_map(|p| Ack::Puback.encode(p.packet_id)).collect::<Vec<u8>>());
        client.cut();
        case.open(&connect).assert_quiet();
    });
}

#[test]
fn a_message_survives_several_lost_connections() {
    both(|case| {
        let connect = away(case, "s", 1);
        publish_all(case, &["again"], 1);
        for round in 0..5 {
            let mut client = case.open(&connect);
            let got = client.receive_publish();
            assert_eq!((got.text().as_str(), got.dup), ("again", round > 0));
            client.cut();
        }
        let mut client = case.open(&connect);
        client.message();
        client.assert_quiet();
    });
}

#[test]
fn a_disconnect_keeps_the_session_4_1_0_2() {
    both(|case| {
        let connect = case.connect("s").persistent();
        let mut client = case.open(&connect);
        client.subscribe(&case.topic("t"), 1);
        client.disconnect();
        publish_all(case, &["x"], 1);
        assert_eq!(case.open(&connect).texts(1), ["x"]);
    });
}

#[test]
fn the_expiry_may_be_changed_by_disconnect() {
    v5(|case| {
        let connect = case.connect("s").persistent();
        case.open(&connect).disconnect_with(0, &expiring(0));
        let (client, connack) = case.open_with(&connect);
        assert!(!connack.session_present, "0 ends it at once");
        client.disconnect_with(0, &expiring(200));
        let (_client, connack) = case.open_with(&connect);
        assert!(connack.session_present);
    });
}

#[test]
fn an_expiry_of_0_cannot_be_raised_by_disconnect() {
    v5(|case| {
        let mut client = case.open(&case.connect("s").resuming());
        client.send(crate::support::packet::disconnect(case.version, 0, &expiring(5)));
        client.expect_end(&[0x82]);
    });
}

#[test]
fn a_session_ends_when_its_expiry_has_passed_4_1_0_2() {
    v5(|case| {
        let connect = case.connect("s").resuming().session_expiry(1);
        let asking = case.connect("s").resuming();
        let mut client = case.open(&connect);
        client.subscribe(&case.topic("t"), 1);
        client.cut();
        let cut = Instant::now();
        let mut watch = case.client("watch");
        assert_eq!(watch.receive_within(Duration::from_millis(2500)), None);
        assert!(cut.elapsed() > Duration::from_secs(1));
        publish_all(case, &["lost"], 1);
        let (mut client, connack) = case.open_with(&asking);
        assert!(!connack.session_present);
        client.assert_quiet();
    });
}

#[test]
fn the_expiry_counts_from_the_end_of_the_connection() {
    v5(|case| {
        let connect = case.connect("s").resuming().session_expiry(2);
        let mut client = case.open(&connect);
        // Longer than the expiry: the session lives as long as its connection.
        assert_eq!(client.receive_within(Duration::from_millis(3200)), None);
        client.assert_quiet();
        client.cut();
        let (_client, connack) = case.open_with(&connect);
        assert!(connack.session_present);
    });
}

#[test]
fn qos_2_deliveries_are_completed_on_the_next_connection() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let connect = case.connect("p").persistent();
        let mut publisher = case.open(&connect);
        publisher.send(Publish::new(&case.topic("t"), "x").qos(2, 3).encode(case.version));
        publisher.expect_ack(Ack::Pubrec, 3);
        publisher.cut();
        let mut publisher = case.open(&connect);
        publisher.send(Ack::Pubrel.encode(3));
        assert_eq!(publisher.expect_ack(Ack::Pubcomp, 3), 0);
        assert_eq!(subscriber.message().text(), "x");
        publisher.publish(&case.topic("t"), "y", 2);
        assert_eq!(subscriber.message().text(), "y");
    });
}

#[test]
fn a_message_that_expired_in_the_queue_is_not_delivered_3_3_2_5() {
    v5(|case| {
        let connect = away(case, "s", 1);
        let mut publisher = case.client("p");
        for (text, seconds) in [("short", 1), ("long", 100)] {
            let message = Publish::new(&case.topic("t"), text).qos(1, 0);
            publisher.publish_message(message.property(Property::MessageExpiry(seconds)));
        }
        publisher.publish(&case.topic("t"), "without", 1);
        assert_eq!(publisher.receive_within(Duration::from_millis(2100)), None);
        let mut client = case.open(&connect);
        let long = client.message();
        assert_eq!(long.text(), "long");
        assert!(matches!(long.properties[..], [Property::MessageExpiry(90..=98)]), "{long:?}");
        assert_eq!(client.message().text(), "without");
        client.assert_quiet();
    });
}

#[test]
fn a_delivery_that_began_goes_on_after_the_message_expired_4_3_3_7() {
    v5(|case| {
        let connect = case.connect("s").persistent();
        let mut client = case.open(&connect);
        client.subscribe(&case.topic("t"), 1);
        let message = Publish::new(&case.topic("t"), "x").qos(1, 0);
        case.client("p").publish_message(message.property(Property::MessageExpiry(1)));
        let first = client.receive_publish();
        assert_eq!(client.receive_within(Duration::from_millis(2100)), None);
        client.cut();
        let mut client = case.open(&connect);
        let again = client.receive_publish();
        assert_eq!((again.packet_id, again.dup), (first.packet_id, true));
    });
}

#[test]
fn a_qos_2_delivery_that_began_goes_on_after_the_message_expired_4_3_3_7() {
    v5(|case| {
        let connect = case.connect("s").persistent();
        let mut client = case.open(&connect);
        client.subscribe(&case.topic("t"), 2);
        let mut publisher = case.client("p");
        for text in ["published", "received"] {
            let message = Publish::new(&case.topic("t"), text).qos(2, 0);
            publisher.publish_message(message.property(Property::MessageExpiry(1)));
        }
        let (published, received) = (client.receive_publish(), client.receive_publish());
        client.send(Ack::Pubrec.encode(received.packet_id));
        assert_eq!(client.expect_ack(Ack::Pubrel, received.packet_id), 0);
        assert_eq!(client.receive_within(Duration::from_millis(2100)), None);
        client.cut();
        let mut client = case.open(&connect);
        assert_eq!(client.ack(Ack::Pubrel, received.packet_id), 0);
        client.send(Ack::Pubcomp.encode(received.packet_id));
        let again = client.message();
        assert_eq!((again.packet_id, again.dup), (published.packet_id, true));
        assert_eq!(again.text(), "published");
        client.assert_quiet();
    });
}

#[test]
fn a_qos_2_publish_is_completed_after_its_message_expired_4_3_3_13() {
    v5(|case| {
        let connect = case.connect("away").persistent();
        let mut away = case.open(&connect);
        away.subscribe(&case.topic("t"), 2);
        away.cut();
        let mut publisher = case.client("p");
        let message = Publish::new(&case.topic("t"), "x").qos(2, 5);
        let message = message.property(Property::MessageExpiry(1));
        publisher.send(message.encode(case.version));
        assert_eq!(publisher.expect_ack(Ack::Pubrec, 5), 0);
        assert_eq!(publisher.receive_within(Duration::from_millis(2100)), None);
        publisher.send(message.dup().encode(case.version));
        assert_eq!(publisher.expect_ack(Ack::Pubrec, 5), 0);
        publisher.send(Ack::Pubrel.encode(5));
        assert_eq!(publisher.expect_ack(Ack::Pubcomp, 5), 0);
        publisher.assert_quiet();
        case.open(&connect).assert_quiet();
    });
}

#[test]
fn a_session_lasts_as_long_as_its_connection_4_1_0_1_4_1_0_2() {
    both(|case| {
        let mut watch = case.subscriber("watch", "out", 2);
        // A session that would not outlive its connection; one that came back before its end.
        let back = case.connect("s").resuming().session_expiry(1);
        for connect in [case.connect("s"), back] {
            if !connect.clean {
                case.open(&connect).cut();
            }
            let mut client = case.open(&connect);
            client.subscribe(&case.topic("t"), 2);
            publish_all(case, &["in"], 2);
            let received = client.receive_publish();
            let sent = Publish::new(&case.topic("out"), "out").qos(2, 9);
            client.send(sent.encode(case.version));
            client.expect_ack(Ack::Pubrec, 9);
            assert_eq!(client.receive_within(Duration::from_millis(2500)), None);
            // Nothing of it was forgotten: duplicates, the delivery under way, subscriptions.
            client.send(sent.dup().encode(case.version));
            client.expect_ack(Ack::Pubrec, 9);
            client.send(Ack::Pubrel.encode(9));
            assert_eq!(client.expect_ack(Ack::Pubcomp, 9), 0);
            client.publish(&case.topic("out"), "marker", 2);
            assert_eq!(watch.texts(2), ["out", "marker"]);
            client.acknowledge(&received);
            publish_all(case, &["still"], 2);
            assert_eq!(client.texts(1), ["still"]);
            client.disconnect();
        }
    });
}

#[test]
fn each_client_identifier_has_a_session_of_its_own_3_1_3_2() {
    both(|case| {
        let names = ["a", "A", "a ", "aa", "\u{e9}", "e\u{301}"];
        let connects = names.map(|name| case.connect(name).persistent());
        for (number, connect) in connects.iter().enumerate() {
            let (mut client, connack) = case.open_with(connect);
            assert!(!connack.session_present, "{:?}", names[number]);
            client.subscribe(&case.topic(&number.to_string()), 1);
            client.cut();
        }
        let mut publisher = case.client("publisher");
        for number in 0..names.len() {
            publisher.publish(&case.topic(&number.to_string()), number.to_string(), 1);
        }
        for (number, connect) in connects.iter().enumerate() {
            let (mut client, connack) = case.open_with(connect);
            assert!(connack.session_present);
            assert_eq!(client.texts(1), [number.to_string()]);
            client.assert_quiet();
            client.disconnect_with(0, &expiring(0));
        }
    });
}

#[test]
fn a_smaller_receive_maximum_holds_for_what_is_sent_again_4_9_0_1() {
    v5(|case| {
        let connect = case.connect("s").persistent();
        let mut client = case.open(&connect);
        client.subscribe(&case.topic("t"), 1);
        publish_all(case, &["1", "2", "3", "4", "5"], 1);
        let first: Vec<Publish> = (0..5).map(|_| client.receive_publish()).collect();
        client.cut();
        let mut client = case.open(&connect.property(Property::ReceiveMaximum(2)));
        let mut got = Vec::new();
        while got.len() < 5 {
            let window: Vec<Publish> = client
                .ping()
                .into_iter()
                .map(|packet| match packet {
                    Packet::Publish(publish) => publish,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert!((1..=2).contains(&window.len()), "{window:?}");
            for publish in &window {
                client.acknowledge(publish);
            }
            got.extend(window);
        }
        assert_eq!(got, first.into_iter().map(Publish::dup).collect::<Vec<_>>());
    });
}

#[test]
fn many_sessions_come_and_go() {
    both(|case| {
        let connects: Vec<Connect> = (0..50).map(|n| away(case, &format!("s{n}"), 1)).collect();
        publish_all(case, &["to all"], 1);
        let mut clients: Vec<Client> = connects.iter().map(|connect| case.open(connect)).collect();
        for client in &mut clients {
            assert_eq!(client.texts(1), ["to all"]);
            client.assert_quiet();
        }
    });
}
