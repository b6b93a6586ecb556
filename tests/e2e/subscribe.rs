//! SUBSCRIBE and SUBACK: codes, matching, options [MQTT 3.8, 3.9, 4.7].
//! What must not live here: `shared` subscriptions, `retained` messages.

use crate::support::{Case, Packet, Property, Publish, Subscribe, both, v5};

const NO_LOCAL: u8 = 0x04;

#[test]
fn suback_has_the_identifier_and_one_code_per_filter_in_order_3_8_4_2_3_8_4_6_3_9_3_1() {
    both(|case| {
        let mut client = case.client("a");
        let subscribe = Subscribe::new(4711)
            .filter(case.topic("two"), 2)
            .filter(case.topic("zero"), 0)
            .filter(case.topic("one"), 1);
        client.send(subscribe.encode(case.version));
        let Packet::Suback { packet_id, codes, .. } = client.receive() else { panic!() };
        assert_eq!((packet_id, codes), (4711, vec![2, 0, 1]));
    });
}

#[test]
fn a_hundred_filters_in_one_packet_get_a_hundred_codes() {
    both(|case| {
        let mut client = case.client("a");
        let subscribe = (0..100u8).fold(Subscribe::new(9), |subscribe, number| {
            subscribe.filter(case.topic(&format!("t{number}")), number % 3)
        });
        let expected: Vec<u8> = (0..100).map(|number| number % 3).collect();
        assert_eq!(client.suback(&subscribe, 9), expected);
        client.publish(&case.topic("t99"), "x", 1);
        assert_eq!(client.message().topic, case.topic("t99"));
    });
}

/// Filters and topics, and whether the one matches the other. `P` is the case's prefix.
const MATCHES: &[(&str, &str, bool)] = &[
    ("P/a", "P/a", true),
    ("P/a", "P/A", false),
    ("P/a", "P/a/", false),
    ("P/a/", "P/a", false),
    ("P/a/", "P/a/", true),
    ("P/a/#", "P/a", true),
    ("P/a/#", "P/a/b", true),
    ("P/a/#", "P/a/b/c", true),
    ("P/a/#", "P/a/", true),
    ("P/a/#", "P/ab", false),
    ("P/#", "P/a//", true),
    ("P/+", "P/a", true),
    ("P/+", "P/", true),
    ("P/+", "P", false),
    ("P/+", "P/a/b", false),
    ("P/+/b", "P/a/b", true),
    ("P/+/b", "P//b", true),
    ("P/+/b", "P/a/c", false),
    ("P/+/+", "P/a", false),
    ("P/+/+", "P/a/", true),
    ("P/+/+", "P//", true),
    ("P/+/#", "P", false),
    ("P/+/#", "P/a", true),
    ("P/+/#", "P/a/b/c", true),
    ("P//b", "P//b", true),
    ("P//b", "P/b", false),
    ("+/x", "P/x", true),
    ("+/x/#", "P/x", true),
    ("/P", "/P", true),
    ("/P", "P", false),
    ("+/P", "/P", true),
    ("+", "/P", false),
    ("/+", "/P", true),
    ("/#", "/P", true),
    ("P/\u{e9}", "P/\u{e9}", true),
    ("P/\u{e9}", "P/e\u{301}", false),
    ("P/a b", "P/a b", true),
    ("P/$x", "P/$x", true),
    ("P/+", "P/$x", true),
    ("P/#", "P/$x/y", true),
];

#[test]
fn filters_match_level_by_level_4_7_1_2_4_7_3_4() {
    both(|case| {
        let mut publisher = case.client("p");
        for (number, (filter, topic, matches)) in MATCHES.iter().enumerate() {
            let prefix = case.client_id(&number.to_string());
            let (filter, topic) = (filter.replace('P', &prefix), topic.replace('P', &prefix));
            let mut subscriber = case.client("s");
            subscriber.subscribe(&filter, 0);
            subscriber.subscribe(&format!("marker/{prefix}"), 0);
            publisher.publish(&topic, "x", 0);
            publisher.publish(&format!("marker/{prefix}"), "marker", 0);
            let mut got = Vec::new();
            loop {
                let message = subscriber.message();
                if message.text() == "marker" {
                    break;
                }
                got.push(message.topic);
            }
            // A wide filter sees what other cases publish on a shared broker.
            got.retain(|got| got.contains(&prefix));
            assert_eq!(got.len(), usize::from(*matches), "{filter} and {topic}: {got:?}");
        }
    });
}

/// A SUBSCRIBE that must not be granted: refused by its code or by the end of the connection.
#[track_caller]
fn not_granted(case: &Case<'_>, filter: &[u8], codes: &[u8]) {
    let shown = String::from_utf8_lossy(filter).into_owned();
    let mut client = case.client("a");
    client.send(Subscribe::new(3).filter(filter, 0).encode(case.version));
    match client.receive_or_end() {
        Some(Packet::Suback { codes: got, .. }) => {
            let expected: &[u8] = if case.version.is_v5() { codes } else { &[0x80] };
            assert!(got.len() == 1 && expected.contains(&got[0]), "{shown:?}: {got:02x?}");
            client.assert_quiet();
        }
        Some(Packet::Disconnect { code, .. }) if case.version.is_v5() => {
            assert!(codes.contains(&code), "{shown:?}: DISCONNECT {code:#04x}");
            assert_eq!(client.rest(), []);
        }
        None if !case.version.is_v5() => {}
        other => panic!("{shown:?}: {other:?}"),
    }
}

#[test]
fn filters_with_misplaced_wildcards_are_refused_4_7_1_1_4_7_1_2() {
    both(|case| {
        for filter in
            ["#/a", "a/#/b", "a#", "a/b#", "#a", "+a", "a+", "a/+b/c", "a/b+/c", "##", "++"]
        {
            not_granted(case, filter.as_bytes(), &[0x8f, 0x81, 0x82]);
        }
    });
}

#[test]
fn an_empty_filter_is_refused_4_7_3_1() {
    both(|case| not_granted(case, b"", &[0x8f, 0x81, 0x82]));
}

#[test]
fn filters_must_be_utf8_without_u0000_3_8_3_1_4_7_3_2() {
    both(|case| {
        for filter in [&b"a\0"[..], b"\xff", b"a/\xc0\xaf", b"\xed\xa0\x80"] {
            let mut client = case.client("a");
            client.send(Subscribe::new(3).filter(filter, 0).encode(case.version));
            client.expect_end(&[0x81, 0x8f]);
        }
    });
}

#[test]
fn one_bad_filter_does_not_harm_its_neighbours() {
    both(|case| {
        let mut client = case.client("a");
        let subscribe = Subscribe::new(3)
            .filter(case.topic("a"), 1)
            .filter("x/#/y", 0)
            .filter(case.topic("b"), 0);
        client.send(subscribe.encode(case.version));
        // Ending the connection is allowed, too: the packet breaks [MQTT-4.7.1-1].
        let Some(Packet::Suback { codes, .. }) = client.receive_or_end() else {
            return;
        };
        let refusal = if case.version.is_v5() { 0x8f } else { 0x80 };
        assert_eq!(codes, [1, refusal, 0]);
        client.publish(&case.topic("b"), "x", 0);
        assert_eq!(client.message().topic, case.topic("b"));
    });
}

#[test]
fn a_subscribe_without_filters_ends_the_connection_3_8_3_2() {
    both(|case| {
        let mut client = case.client("a");
        client.send(Subscribe::new(3).encode(case.version));
        client.expect_end(&[0x81, 0x82]);
    });
}

#[test]
fn packet_identifier_0_ends_the_connection_2_2_1_3() {
    both(|case| {
        let mut client = case.client("a");
        client.send(Subscribe::new(0).filter("a", 0).encode(case.version));
        client.expect_end(&[0x81, 0x82]);
    });
}

#[test]
fn reserved_bits_and_qos_3_in_the_options_end_the_connection_3_8_3_4_3_8_3_5() {
    both(|case| {
        let bad: &[u8] = if case.version.is_v5() {
            &[0x03, 0x40, 0x80, 0x30, 0xc0]
        } else {
            &[0x03, 0x04, 0x08, 0x10, 0x40, 0x80]
        };
        for options in bad {
            let mut client = case.client("a");
            client.send(Subscribe::new(1).filter("a", *options).encode(case.version));
            client.expect_end(&[0x81, 0x82]);
        }
    });
}

#[test]
fn a_subscription_of_the_same_filter_replaces_the_earlier_one_3_8_4_3() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        for granted in [0, 1, 2, 0] {
            subscriber.subscribe(&case.topic("t"), granted);
            publisher.publish(&case.topic("t"), "x", 2);
            assert_eq!(subscriber.message().qos, granted);
            subscriber.assert_quiet();
        }
    });
}

#[test]
fn replacing_a_subscription_loses_and_doubles_nothing_3_8_4_3_3_8_4_4() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 1);
        let mut publisher = case.client("p");
        let topic = case.topic("t");
        let sender = std::thread::spawn(move || {
            for number in 0..1000 {
                publisher.publish(&topic, number.to_string(), 2);
            }
        });
        // Each SUBACK comes amid the stream; the messages are set aside in their order.
        for round in 0..100u8 {
            subscriber.subscribe(&case.topic("t"), 1 + round % 2);
        }
        let expected: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        assert_eq!(subscriber.texts(1000), expected);
        sender.join().unwrap();
        subscriber.assert_quiet();
    });
}

#[test]
fn filters_of_one_packet_count_one_after_the_other_3_8_4_4_3_8_4_5() {
    both(|case| {
        let mut client = case.client("a");
        let subscribe = Subscribe::new(9)
            .filter(case.topic("t"), 2)
            .filter(case.topic("u"), 1)
            .filter(case.topic("t"), 0);
        client.send(subscribe.encode(case.version));
        let Packet::Suback { packet_id: 9, codes, .. } = client.receive() else { panic!() };
        assert_eq!(codes, [2, 1, 0]);
        client.assert_quiet(); // one SUBACK for all
        let mut publisher = case.client("p");
        for (topic, qos) in [("t", 0), ("u", 1)] {
            publisher.publish(&case.topic(topic), topic, 2);
            let got = client.message();
            assert_eq!((got.text().as_str(), got.qos), (topic, qos), "the last one counts");
            client.assert_quiet();
        }
    });
}

#[test]
fn a_filter_that_one_packet_names_twice_gets_its_retained_message_for_each_3_8_4_4_3_8_4_5() {
    both(|case| {
        let mut client = case.client("a");
        let topic = case.topic("t");
        client.publish_message(Publish::new(&topic, "kept").qos(1, 0).retain());
        let twice = Subscribe::new(1).filter(&topic, 0).filter(&topic, 1);
        assert_eq!(client.suback(&twice, 1), [0, 1]);
        // As of two packets: each sends what is retained, and the last one is the subscription.
        assert_eq!([client.message().qos, client.message().qos], [0, 1]);
        client.assert_quiet();
        client.publish(&topic, "live", 1);
        assert_eq!(client.message().qos, 1);
        client.assert_quiet();
        if case.version.is_v5() {
            // Retain Handling 1: for the second the subscription is there already [MQTT-3.3.1-10].
            client.unsubscribe(&topic);
            let new_only = Subscribe::new(2).filter(&topic, 0x10).filter(&topic, 0x11);
            assert_eq!(client.suback(&new_only, 2), [0, 1]);
            assert_eq!(client.message().qos, 0);
            client.assert_quiet();
        }
        client.publish_message(Publish::new(&topic, "").qos(1, 0).retain());
    });
}

#[test]
fn overlapping_subscriptions_deliver_at_the_highest_qos_3_3_4_2_3_3_5_1() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 0);
        subscriber.subscribe(&case.topic("+"), 2);
        subscriber.subscribe(&case.topic("#"), 1);
        let mut publisher = case.client("p");
        publisher.publish(&case.topic("t"), "x", 2);
        publisher.publish(&case.topic("none/of/t"), "marker", 2);
        let mut copies = Vec::new();
        loop {
            let message = subscriber.message();
            if message.text() == "marker" {
                break;
            }
            copies.push(message.qos);
        }
        assert!((1..=3).contains(&copies.len()), "{copies:?}");
        assert_eq!(copies.iter().max(), Some(&2), "{copies:?}");
    });
}

#[test]
fn a_message_goes_to_subscribers_of_different_filters_and_qos() {
    both(|case| {
        let filters = [("a/b", 0), ("a/+", 1), ("a/#", 2), ("#", 1), ("+/b", 2)];
        let mut subscribers: Vec<_> = filters
            .iter()
            .map(|(filter, qos)| case.subscriber(&format!("s{filter}"), filter, *qos))
            .collect();
        case.client("p").publish(&case.topic("a/b"), "x", 2);
        for (subscriber, (filter, qos)) in subscribers.iter_mut().zip(filters) {
            assert_eq!(subscriber.message().qos, qos, "{filter}");
            subscriber.assert_quiet();
        }
    });
}

#[test]
fn no_local_keeps_ones_own_messages_away_3_8_3_3() {
    v5(|case| {
        let mut client = case.subscriber("a", "t", 1 | NO_LOCAL);
        let mut other = case.subscriber("b", "t", 1);
        client.publish(&case.topic("t"), "own", 1);
        other.publish(&case.topic("t"), "others", 1);
        assert_eq!(client.message().text(), "others");
        assert_eq!(other.texts(2), ["own", "others"]);
    });
}

#[test]
fn no_local_can_be_switched_off_again() {
    v5(|case| {
        let mut client = case.subscriber("a", "t", NO_LOCAL);
        client.publish(&case.topic("t"), "one", 0);
        client.subscribe(&case.topic("t"), 0);
        client.publish(&case.topic("t"), "two", 0);
        assert_eq!(client.message().text(), "two");
    });
}

fn subscription_ids(message: &Publish) -> Vec<u32> {
    let mut ids: Vec<u32> = message
        .properties
        .iter()
        .filter_map(|property| match property {
            Property::SubscriptionId(id) => Some(*id),
            _ => None,
        })
        .collect();
    ids.sort_unstable();
    ids
}

fn with_id(packet_id: u16, subscription: u32) -> Subscribe {
    Subscribe::new(packet_id).property(Property::SubscriptionId(subscription))
}

#[test]
fn subscription_identifiers_of_all_matches_are_delivered_3_3_4_3_4_5() {
    v5(|case| {
        let mut client = case.client("a");
        let mut publisher = case.client("p");
        client.suback(&with_id(101, 1).filter(case.topic("t"), 0), 101);
        client.suback(&with_id(102, 268_435_455).filter(case.topic("+"), 0), 102);
        client.suback(&Subscribe::new(103).filter(case.topic("#"), 0), 103);
        client.suback(&Subscribe::new(104).filter(case.topic("marker/t"), 0), 104);
        publisher.publish(&case.topic("t"), "x", 0);
        publisher.publish(&case.topic("marker/t"), "marker", 0);
        let mut ids = Vec::new();
        loop {
            let message = client.message();
            if message.text() == "marker" {
                break;
            }
            ids.extend(subscription_ids(&message));
        }
        ids.sort_unstable();
        assert_eq!(ids, [1, 268_435_455]);
    });
}

#[test]
fn a_new_subscribe_replaces_or_removes_the_subscription_identifier() {
    v5(|case| {
        let mut client = case.client("a");
        for (packet_id, id) in [(101, Some(5)), (102, Some(6)), (103, None)] {
            let subscribe = id.map_or(Subscribe::new(packet_id), |id| with_id(packet_id, id));
            client.suback(&subscribe.filter(case.topic("t"), 0), packet_id);
            client.publish(&case.topic("t"), "x", 0);
            assert_eq!(subscription_ids(&client.message()), Vec::from_iter(id));
        }
    });
}

#[test]
fn subscription_identifier_0_or_two_of_them_end_the_connection() {
    v5(|case| {
        for subscribe in [with_id(1, 0), with_id(1, 1).property(Property::SubscriptionId(2))] {
            let mut client = case.client("a");
            client.send(subscribe.filter("t", 0).encode(case.version));
            client.expect_end(&[0x82]);
        }
    });
}

#[test]
fn properties_of_subscribe_are_checked() {
    v5(|case| {
        let user = Subscribe::new(9).property(Property::user("a", "b"));
        let mut client = case.client("a");
        assert_eq!(client.suback(&user.filter(case.topic("t"), 0), 9), [0]);
        for property in [Property::TopicAlias(1), Property::ReasonString("x".into())] {
            let mut client = case.client("a");
            let subscribe = Subscribe::new(1).property(property).filter("t", 0);
            client.send(subscribe.encode(case.version));
            client.expect_end(&[0x81, 0x82]);
        }
    });
}

#[test]
fn after_suback_no_message_is_missed_from_any_client() {
    both(|case| {
        let mut publishers: Vec<_> = (0..8).map(|n| case.client(&format!("p{n}"))).collect();
        for round in 0..25 {
            let mut subscriber = case.subscriber("s", &format!("r{round}/+"), 1);
            for (number, publisher) in publishers.iter_mut().enumerate() {
                publisher.publish(&case.topic(&format!("r{round}/{number}")), "x", 1);
            }
            let mut topics: Vec<String> = (0..8).map(|_| subscriber.message().topic).collect();
            topics.sort();
            let expected: Vec<String> =
                (0..8).map(|n| case.topic(&format!("r{round}/{n}"))).collect();
            assert_eq!(topics, expected);
        }
    });
}
