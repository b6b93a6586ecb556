//! Retained Messages: what is kept, what a new subscription gets, the RETAIN flag [MQTT 3.3.1.3].
//! What must not live here: retained Wills (`will`).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{Case, Client, Packet, Property, Publish, Subscribe, both, v5};

const RETAIN_AS_PUBLISHED: u8 = 0x08;
const ONLY_IF_NEW: u8 = 0x10;
const NONE_AT_ALL: u8 = 0x20;

fn keep(publisher: &mut Client, topic: &str, text: &str, qos: u8) {
    publisher.publish_message(Publish::new(topic, text).qos(qos, 0).retain());
}

#[test]
fn a_new_subscription_gets_the_retained_message_with_retain_1_3_3_1_6_3_3_1_8() {
    both(|case| {
        let mut publisher = case.client("p");
        for qos in 0..3 {
            keep(&mut publisher, &case.topic("t"), "kept", qos);
            publisher.assert_quiet();
            let mut subscriber = case.subscriber("s", "t", 2);
            let got = subscriber.message();
            assert_eq!((got.retain, got.qos, got.text().as_str()), (true, qos, "kept"));
            assert!(!got.dup);
            subscriber.assert_quiet();
        }
    });
}

#[test]
fn an_established_subscription_gets_it_with_retain_0_3_3_1_9() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 1);
        keep(&mut case.client("p"), &case.topic("t"), "live", 1);
        let got = subscriber.message();
        assert_eq!((got.retain, got.text().as_str()), (false, "live"));
    });
}

#[test]
fn a_message_queued_for_an_offline_session_has_retain_0_3_3_1_9() {
    both(|case| {
        let connect = case.connect("s").persistent();
        let mut subscriber = case.open(&connect);
        subscriber.subscribe(&case.topic("t"), 1);
        subscriber.cut();
        keep(&mut case.client("p"), &case.topic("t"), "queued", 1);
        let mut subscriber = case.open(&connect);
        let got = subscriber.message();
        assert_eq!((got.retain, got.text().as_str()), (false, "queued"));
        subscriber.assert_quiet();
    });
}

#[test]
fn a_later_retained_message_replaces_the_earlier_whatever_its_qos_3_3_1_5_3_3_1_7() {
    both(|case| {
        let mut publisher = case.client("p");
        for (number, qos) in [2, 0, 1, 0, 2].into_iter().enumerate() {
            keep(&mut publisher, &case.topic("t"), &number.to_string(), qos);
            publisher.assert_quiet();
            let mut subscriber = case.subscriber("s", "t", 2);
            let got = subscriber.message();
            assert_eq!((got.text(), got.qos), (number.to_string(), qos));
            subscriber.assert_quiet();
        }
    });
}

#[test]
fn a_message_without_retain_does_not_touch_the_retained_one_3_3_1_12_3_3_1_8() {
    both(|case| {
        let mut publisher = case.client("p");
        keep(&mut publisher, &case.topic("t"), "kept", 1);
        publisher.publish(&case.topic("t"), "passing", 1);
        publisher.publish(&case.topic("t"), "", 1);
        publisher.publish(&case.topic("u"), "passing", 1);
        let mut subscriber = case.subscriber("s", "#", 1);
        assert_eq!(subscriber.message().text(), "kept");
        subscriber.assert_quiet();
    });
}

#[test]
fn an_empty_retained_payload_deletes_and_is_delivered_live_3_3_1_10_3_3_1_11() {
    both(|case| {
        let mut live = case.subscriber("live", "t", 1);
        let mut publisher = case.client("p");
        keep(&mut publisher, &case.topic("t"), "kept", 1);
        keep(&mut publisher, &case.topic("t"), "", 1);
        assert_eq!(live.texts(2), ["kept", ""]);
        case.subscriber("s", "t", 1).assert_quiet();
        // Deleting what is not there is no mistake.
        keep(&mut publisher, &case.topic("t"), "", 1);
        case.subscriber("s", "t", 1).assert_quiet();
    });
}

#[test]
fn a_wildcard_subscription_gets_exactly_the_retained_messages_that_match() {
    both(|case| {
        let mut publisher = case.client("p");
        let topics = ["a", "a/b", "a/b/c", "a//c", "x/b", "x/b/c", "$d/b", "a/"];
        for topic in topics {
            keep(&mut publisher, &case.topic(topic), topic, 1);
        }
        let filters: [(&str, &[&str]); 8] = [
            ("#", &topics),
            ("a/#", &["a", "a/b", "a/b/c", "a//c", "a/"]),
            ("+", &["a"]),
            ("+/b", &["a/b", "x/b", "$d/b"]),
            ("a/+/c", &["a/b/c", "a//c"]),
            ("+/+/+", &["a/b/c", "a//c", "x/b/c"]),
            ("a/+", &["a/b", "a/"]),
            ("a/b/c/d", &[]),
        ];
        for (filter, expected) in filters {
            let mut subscriber = case.subscriber("s", filter, 1);
            let got: BTreeSet<String> =
                (0..expected.len()).map(|_| subscriber.message().text()).collect();
            assert_eq!(got, expected.iter().map(|s| (*s).to_owned()).collect(), "{filter}");
            subscriber.assert_quiet();
        }
    });
}

#[test]
fn leading_wildcards_do_not_get_retained_dollar_topics_4_7_2_1() {
    both(|case| {
        let topic = format!("${}", case.topic("t"));
        let mut publisher = case.client("p");
        keep(&mut publisher, &topic, "dollar", 1);
        keep(&mut publisher, &case.topic("t"), "plain", 1);
        for filter in ["#", "+/#", "+/t"] {
            let mut wild = case.client("w");
            wild.subscribe(filter, 0);
            for packet in wild.ping() {
                let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
                assert_ne!(publish.topic, topic);
            }
        }
        let mut named = case.client("n");
        named.subscribe(&topic, 0);
        assert_eq!(named.message().text(), "dollar");
    });
}

#[test]
fn retained_messages_outlive_the_session_of_their_publisher_3_1_2_7() {
    both(|case| {
        let mut publisher = case.client("p");
        keep(&mut publisher, &case.topic("t"), "kept", 1);
        publisher.cut();
        case.client("p").disconnect();
        assert_eq!(case.subscriber("s", "t", 1).message().text(), "kept");
    });
}

#[test]
fn the_same_subscription_again_gets_the_retained_message_again_3_8_4_3() {
    both(|case| {
        keep(&mut case.client("p"), &case.topic("t"), "kept", 1);
        let mut subscriber = case.client("s");
        for _ in 0..3 {
            subscriber.subscribe(&case.topic("t"), 1);
            let got = subscriber.message();
            assert_eq!((got.retain, got.text().as_str()), (true, "kept"));
        }
        subscriber.assert_quiet();
    });
}

#[test]
fn a_resumed_subscription_gets_no_retained_message() {
    both(|case| {
        let connect = case.connect("s").persistent();
        let mut subscriber = case.open(&connect);
        subscriber.subscribe(&case.topic("t"), 1);
        keep(&mut case.client("p"), &case.topic("t"), "kept", 1);
        subscriber.message();
        subscriber.assert_quiet();
        subscriber.cut();
        case.open(&connect).assert_quiet();
    });
}

#[test]
fn retain_handling_decides_what_a_subscription_gets_3_3_1_9_10_11() {
    v5(|case| {
        keep(&mut case.client("p"), &case.topic("t"), "kept", 1);
        let mut subscriber = case.subscriber("s", "t", NONE_AT_ALL);
        subscriber.assert_quiet();
        // The subscription exists, and stays the same one with other options.
        subscriber.subscribe(&case.topic("t"), ONLY_IF_NEW | 1);
        subscriber.assert_quiet();
        subscriber.subscribe(&case.topic("t"), 1);
        assert_eq!(subscriber.message().text(), "kept");
        subscriber.unsubscribe(&case.topic("t"));
        subscriber.subscribe(&case.topic("t"), ONLY_IF_NEW);
        assert_eq!(subscriber.message().text(), "kept");
        subscriber.subscribe(&case.topic("t"), ONLY_IF_NEW);
        subscriber.assert_quiet();
    });
}

#[test]
fn retain_handling_1_knows_the_subscriptions_of_a_resumed_session_3_3_1_10() {
    v5(|case| {
        keep(&mut case.client("p"), &case.topic("t"), "kept", 1);
        let connect = case.connect("s").persistent();
        let mut subscriber = case.open(&connect);
        subscriber.subscribe(&case.topic("t"), ONLY_IF_NEW | 1);
        assert_eq!(subscriber.message().text(), "kept");
        subscriber.assert_quiet();
        subscriber.cut();
        let mut subscriber = case.open(&connect);
        subscriber.subscribe(&case.topic("t"), ONLY_IF_NEW | 1);
        subscriber.assert_quiet();
    });
}

#[test]
fn retain_as_published_keeps_the_flag_of_a_live_message_3_3_1_12_3_3_1_13() {
    v5(|case| {
        let mut keeping = case.subscriber("keeping", "t", RETAIN_AS_PUBLISHED);
        let mut clearing = case.subscriber("clearing", "t", 0);
        let mut publisher = case.client("p");
        for retain in [true, false] {
            let message = Publish { retain, ..Publish::new(&case.topic("t"), "x") };
            publisher.publish_message(message);
            assert_eq!(keeping.message().retain, retain);
            assert!(!clearing.message().retain);
        }
        // The replay has RETAIN 1 either way.
        for options in [0, RETAIN_AS_PUBLISHED] {
            assert!(case.subscriber("s", "t", options).message().retain);
        }
    });
}

fn expiring(case: &Case<'_>, text: &str, seconds: u32) -> Publish {
    let property = Property::MessageExpiry(seconds);
    Publish::new(&case.topic("t"), text).qos(1, 0).retain().property(property)
}

#[test]
fn the_rest_of_the_expiry_is_delivered_and_an_expired_message_is_not_3_3_2_5_3_3_2_6() {
    v5(|case| {
        let mut publisher = case.client("p");
        publisher.publish_message(expiring(case, "short", 1));
        let published = std::time::Instant::now();
        // Nothing tells a client that a message expired: ask until it did, or a deadline passed.
        loop {
            let mut subscriber = case.subscriber("s", "t", 1);
            let got = subscriber.ping();
            match got.first() {
                None => break,
                Some(Packet::Publish(Publish { properties, .. })) => {
                    assert_eq!(properties[..], [Property::MessageExpiry(1)], "never 0");
                }
                other => panic!("{other:?}"),
            }
            assert!(published.elapsed() < Duration::from_secs(10), "never expires");
        }
        assert!(published.elapsed() >= Duration::from_millis(900), "expired too early");
        publisher.publish_message(expiring(case, "long", 100));
        let mut waiting = case.client("w");
        assert_eq!(waiting.receive_within(Duration::from_millis(1200)), None);
        let got = case.subscriber("s", "t", 1).message();
        assert!(matches!(got.properties[..], [Property::MessageExpiry(90..=99)]), "{got:?}");
    });
}

#[test]
fn properties_are_kept_with_the_message() {
    v5(|case| {
        let message = Publish::new(&case.topic("t"), "x")
            .qos(1, 0)
            .retain()
            .property(Property::user("b", "1"))
            .property(Property::user("a", "2"))
            .property(Property::ContentType("x".into()));
        case.client("p").publish_message(message);
        let got = case.subscriber("s", "t", 0).message();
        assert_eq!(got.properties.len(), 3);
        let users = [Property::user("b", "1"), Property::user("a", "2")];
        let got: Vec<_> = got.properties.into_iter().filter(|p| users.contains(p)).collect();
        assert_eq!(got, users);
    });
}

#[test]
fn a_replay_carries_the_subscription_identifier_3_3_4_3() {
    v5(|case| {
        keep(&mut case.client("p"), &case.topic("t"), "kept", 0);
        let mut subscriber = case.client("s");
        let subscribe = Subscribe::new(9).property(Property::SubscriptionId(42));
        subscriber.suback(&subscribe.filter(case.topic("t"), 0), 9);
        assert_eq!(subscriber.message().properties, [Property::SubscriptionId(42)]);
    });
}

#[test]
fn no_local_does_not_hold_back_ones_own_retained_message() {
    v5(|case| {
        let mut client = case.client("a");
        keep(&mut client, &case.topic("t"), "kept", 0);
        client.subscribe(&case.topic("t"), 0x04);
        assert_eq!(client.message().text(), "kept");
    });
}

#[test]
fn a_replay_has_the_lower_of_the_kept_and_the_granted_qos_3_8_4_8() {
    both(|case| {
        let mut publisher = case.client("p");
        for kept in 0..3 {
            let topic = format!("t{kept}");
            keep(&mut publisher, &case.topic(&topic), "x", kept);
            publisher.assert_quiet();
            for granted in 0..3 {
                let mut subscriber = case.subscriber("s", &topic, granted);
                assert_eq!(subscriber.message().qos, kept.min(granted));
            }
        }
    });
}

#[test]
fn many_retained_messages_reach_a_wildcard_subscription_within_its_window() {
    both(|case| {
        let mut publisher = case.client("p");
        for number in 0..500 {
            keep(&mut publisher, &case.topic(&number.to_string()), &number.to_string(), 1);
        }
        let mut subscriber = case.subscriber("s", "+", 1);
        let mut numbers: Vec<u32> =
            subscriber.texts(500).iter().map(|text| text.parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        subscriber.assert_quiet();
    });
}
