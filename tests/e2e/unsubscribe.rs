//! UNSUBSCRIBE and UNSUBACK [MQTT 3.10, 3.11].
//! What must not live here: `shared` subscriptions.

use crate::support::{Ack, Packet, Property, Unsubscribe, both, v5};

#[test]
fn unsuback_has_the_identifier_even_when_nothing_matched_3_10_4_5() {
    both(|case| {
        let mut client = case.client("a");
        client.send(Unsubscribe::new(4711).filter(case.topic("t")).encode(case.version));
        let Packet::Unsuback { packet_id, codes, .. } = client.receive() else { panic!() };
        assert_eq!(packet_id, 4711);
        let expected: &[u8] = if case.version.is_v5() { &[0x11] } else { &[] };
        assert_eq!(codes, expected);
    });
}

#[test]
fn unsuback_of_mqtt_5_has_one_code_per_filter_in_order_3_11_3_1() {
    v5(|case| {
        let mut client = case.subscriber("a", "a", 0);
        client.subscribe(&case.topic("c/#"), 0);
        let filters = ["a", "b", "c/#", "c/d", "a"].map(|name| case.topic(name));
        let unsubscribe = filters.iter().fold(Unsubscribe::new(9), Unsubscribe::filter);
        assert_eq!(client.unsuback(&unsubscribe, 9), [0, 0x11, 0, 0x11, 0x11]);
    });
}

#[test]
fn all_filters_of_one_packet_end_and_get_one_unsuback_3_10_4_4_3_10_4_6() {
    both(|case| {
        let mut client = case.subscriber("a", "a", 1);
        client.subscribe(&case.topic("b/+"), 1);
        client.subscribe(&case.topic("c"), 1);
        let filters = ["a", "none", "b/+", "a"].map(|name| case.topic(name));
        let unsubscribe = filters.iter().fold(Unsubscribe::new(9), Unsubscribe::filter);
        client.send(unsubscribe.encode(case.version));
        assert!(matches!(client.receive(), Packet::Unsuback { packet_id: 9, .. }));
        client.assert_quiet();
        let mut publisher = case.client("p");
        for topic in ["a", "b/x", "c"] {
            publisher.publish(&case.topic(topic), topic, 1);
        }
        assert_eq!(client.texts(1), ["c"]);
    });
}

#[test]
fn after_unsuback_nothing_new_arrives_3_10_4_2() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 1);
        subscriber.subscribe(&case.topic("marker"), 1);
        let mut publisher = case.client("p");
        publisher.publish(&case.topic("t"), "before", 1);
        subscriber.unsubscribe(&case.topic("t"));
        publisher.publish(&case.topic("t"), "after", 1);
        publisher.publish(&case.topic("marker"), "marker", 1);
        assert_eq!(subscriber.texts(2), ["before", "marker"]);
    });
}

#[test]
fn filters_are_compared_character_by_character_3_10_4_1() {
    both(|case| {
        let mut client = case.subscriber("a", "t/+", 0);
        for other in ["t/x", "t/#", "T/+", "t/+/", "#", "+/+"] {
            client.unsuback(&Unsubscribe::new(77).filter(case.topic(other)), 77);
        }
        client.publish(&case.topic("t/x"), "still", 0);
        assert_eq!(client.message().text(), "still");
    });
}

#[test]
fn a_delivery_under_way_is_carried_to_its_end_3_10_4_3() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        publisher.publish(&case.topic("t"), "two", 2);
        publisher.publish(&case.topic("t"), "one", 1);
        let (two, one) = (subscriber.receive_publish(), subscriber.receive_publish());
        subscriber.unsubscribe(&case.topic("t"));
        subscriber.acknowledge(&one);
        subscriber.send(Ack::Pubrec.encode(two.packet_id));
        assert_eq!(subscriber.expect_ack(Ack::Pubrel, two.packet_id), 0);
        subscriber.send(Ack::Pubcomp.encode(two.packet_id));
        subscriber.assert_quiet();
    });
}

#[test]
fn an_unsubscribe_without_filters_ends_the_connection_3_10_3_2() {
    both(|case| {
        let mut client = case.client("a");
        client.send(Unsubscribe::new(3).encode(case.version));
        client.expect_end(&[0x81, 0x82]);
    });
}

#[test]
fn packet_identifier_0_ends_the_connection_2_2_1_3() {
    both(|case| {
        let mut client = case.client("a");
        client.send(Unsubscribe::new(0).filter("a").encode(case.version));
        client.expect_end(&[0x81, 0x82]);
    });
}

#[test]
fn filters_must_be_utf8_without_u0000_3_10_3_1() {
    both(|case| {
        for filter in [&b"a\0"[..], b"\xff", b"\xed\xbf\xbf"] {
            let mut client = case.client("a");
            client.send(Unsubscribe::new(3).filter(filter).encode(case.version));
            client.expect_end(&[0x81, 0x8f]);
        }
    });
}

#[test]
fn a_filter_that_no_subscription_can_have_ends_the_connection_or_is_not_found() {
    both(|case| {
        for filter in ["a/#/b", "", "a+"] {
            let mut client = case.client("a");
            client.send(Unsubscribe::new(3).filter(filter).encode(case.version));
            match client.receive_or_end() {
                Some(Packet::Unsuback { codes, .. }) => {
                    let told: &[&[u8]] =
                        if case.version.is_v5() { &[&[0x8f], &[0x11]] } else { &[&[]] };
                    assert!(told.contains(&codes.as_slice()), "{filter}: {codes:02x?}");
                }
                Some(Packet::Disconnect { code, .. }) => {
                    assert!([0x81, 0x82, 0x8f].contains(&code), "{filter}: {code:#04x}");
                }
                None if !case.version.is_v5() => {}
                other => panic!("{filter}: {other:?}"),
            }
        }
    });
}

#[test]
fn subscribing_anew_after_unsubscribing_works() {
    both(|case| {
        let mut client = case.subscriber("a", "t", 1);
        for number in 0..50 {
            client.unsubscribe(&case.topic("t"));
            client.publish(&case.topic("t"), "lost", 1);
            client.subscribe(&case.topic("t"), 1);
            client.publish(&case.topic("t"), number.to_string(), 1);
            assert_eq!(client.message().text(), number.to_string());
        }
    });
}

#[test]
fn an_unsubscribe_in_a_resumed_session_ends_the_subscription_for_good() {
    both(|case| {
        let connect = case.connect("s").persistent();
        let mut client = case.open(&connect);
        client.subscribe(&case.topic("t"), 1);
        client.cut();
        let mut client = case.open(&connect);
        client.unsubscribe(&case.topic("t"));
        client.cut();
        case.client("p").publish(&case.topic("t"), "x", 1);
        let mut client = case.open(&connect);
        client.assert_quiet();
        client.disconnect_with(0, &[Property::SessionExpiry(0)]);
    });
}

#[test]
fn a_shared_subscription_that_nobody_has_is_answered_0x11_3_11_3_2() {
    v5(|case| {
        let mut client = case.client("c");
        let unsubscribe = Unsubscribe::new(1).filter("$share/nobody/t");
        assert_eq!(client.unsuback(&unsubscribe, 1), [0x11]);
    });
}
