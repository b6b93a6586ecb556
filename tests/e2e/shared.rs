//! Shared subscriptions, on 3.1.1 too [MQTT 4.8.2].
//! What must not live here: what holds for every subscription (`subscribe`).

use std::collections::BTreeMap;

use crate::support::{
    Broker, Case, Client, Packet, Property, Publish, Subscribe, Unsubscribe, both, each, v5,
};

fn member(case: &Case<'_>, name: &str, group: &str, filter: &str, qos: u8) -> Client {
    let mut client = case.client(name);
    client.subscribe(&format!("$share/{group}/{}", case.topic(filter)), qos);
    client
}

/// Publishes `count` numbers and returns which of the clients got each.
fn spread(
    case: &Case<'_>,
    qos: u8,
    count: u16,
    clients: &mut [Client],
) -> BTreeMap<u16, Vec<usize>> {
    let mut publisher = case.client("spread");
    for number in 0..count {
        publisher.publish(&case.topic("t"), number.to_string(), qos);
    }
    for client in clients.iter_mut() {
        client.subscribe(&case.topic("marker"), 1);
    }
    publisher.publish(&case.topic("marker"), "marker", 1);
    let mut got: BTreeMap<u16, Vec<usize>> = (0..count).map(|n| (n, Vec::new())).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        loop {
            let message = client.message();
            if message.text() == "marker" {
                break;
            }
            got.get_mut(&message.text().parse().unwrap()).unwrap().push(index);
        }
    }
    got
}

/// A broker with several workers where the groups whose names begin with a strategy have it.
fn with_strategies(case: impl Fn(&Case<'_>)) {
    let names = ["round-robin", "random", "sticky", "hash-client", "hash-topic", "least-in-flight"];
    let rules = names.map(|name| format!("{{ group = \"{name}*\", strategy = \"{name}\" }}"));
    let shared = format!("shared=[{}]", rules.join(", "));
    each(&Broker::dev_with(&["--workers", "4", "--set", &shared]), case);
}

/// How many of `counts` messages each member got.
fn counts(got: &BTreeMap<u16, Vec<usize>>, members: usize) -> Vec<usize> {
    let count = |member| got.values().filter(|receivers| receivers.contains(&member)).count();
    (0..members).map(count).collect()
}

#[test]
fn every_strategy_gives_each_message_to_one_member() {
    with_strategies(|case| {
        for name in
            ["round-robin", "random", "sticky", "hash-client", "hash-topic", "least-in-flight", "g"]
        {
            for qos in 0..3 {
                let mut members: Vec<Client> =
                    (0..4).map(|n| member(case, &format!("m{n}"), name, "t", qos)).collect();
                let got = spread(case, qos, 40, &mut members);
                assert!(
                    got.values().all(|receivers| receivers.len() == 1),
                    "{name} {qos}: {got:?}"
                );
                let counts = counts(&got, 4);
                match name {
                    "round-robin" | "g" => assert_eq!(counts, [10; 4], "{name} {qos}"),
                    "sticky" | "hash-client" | "hash-topic" => {
                        assert!(counts.contains(&40), "{name} {qos}: {counts:?}");
                    }
                    _ => assert!(!counts.contains(&40), "{name} {qos}: {counts:?}"),
                }
            }
        }
    });
}

#[test]
fn a_sticky_group_goes_over_to_another_member_when_its_own_leaves() {
    with_strategies(|case| {
        let mut members: Vec<Client> =
            (0..3).map(|n| member(case, &format!("m{n}"), "sticky", "t", 1)).collect();
        while !members.is_empty() {
            let got = spread(case, 1, 10, &mut members);
            let counts = counts(&got, members.len());
            let chosen = counts.iter().position(|count| *count == 10);
            let chosen = chosen.unwrap_or_else(|| panic!("{counts:?}"));
            members.remove(chosen).cut();
        }
    });
}

#[test]
fn hashing_by_client_and_by_topic_tells_publishers_and_topics_apart() {
    with_strategies(|case| {
        for (group, by_topic) in [("hash-client", false), ("hash-topic", true)] {
            let mut members: Vec<Client> =
                (0..4).map(|n| member(case, &format!("m{n}"), group, "t/#", 1)).collect();
            let mut places: BTreeMap<usize, usize> = BTreeMap::new();
            for round in 0..3 {
                for number in 0..16 {
                    let (client, topic) = if by_topic {
                        ("p".to_owned(), format!("t/{number}"))
                    } else {
                        (format!("p{number}"), format!("t/{round}"))
                    };
                    case.client(&client).publish(&case.topic(&topic), "x", 1);
                    let arrived = members.iter_mut().position(|member| !member.ping().is_empty());
                    let arrived = arrived.expect("some member has it");
                    assert_eq!(*places.entry(number).or_insert(arrived), arrived, "{group}");
                }
            }
            let used: std::collections::BTreeSet<_> = places.values().collect();
            assert!(used.len() > 1, "{group}: {places:?}");
        }
    });
}

#[test]
fn the_member_with_the_least_in_flight_gets_the_next_message() {
    with_strategies(|case| {
        let mut slow = member(case, "slow", "least-in-flight", "t", 1);
        let mut quick = member(case, "quick", "least-in-flight", "t", 1);
        let mut publisher = case.client("p");
        let mut by_slow = 0;
        for number in 0..20 {
            publisher.publish(&case.topic("t"), number.to_string(), 1);
            by_slow += slow.ping().len();
            for packet in quick.ping() {
                let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
                quick.acknowledge(&publish);
            }
            quick.assert_quiet();
        }
        assert!(by_slow <= 1, "{by_slow} messages to a member that acknowledges nothing");
    });
}

#[test]
fn each_message_goes_to_one_member_of_the_group() {
    both(|case| {
        for qos in 0..3 {
            let mut members: Vec<Client> =
                (0..4).map(|n| member(case, &format!("m{n}"), "g", "t", qos)).collect();
            for (number, receivers) in spread(case, qos, 60, &mut members) {
                assert_eq!(receivers.len(), 1, "message {number} at QoS {qos}: {receivers:?}");
            }
        }
    });
}

#[test]
fn groups_and_plain_subscriptions_are_independent() {
    both(|case| {
        let mut clients = [
            member(case, "g1", "one", "t", 1),
            member(case, "g2", "two", "t", 1),
            case.subscriber("plain", "t", 1),
        ];
        for (number, receivers) in spread(case, 1, 30, &mut clients) {
            assert_eq!(receivers, [0, 1, 2], "message {number}");
        }
    });
}

#[test]
fn a_group_may_use_wildcards() {
    both(|case| {
        let mut member = member(case, "m", "g", "+/x/#", 1);
        let mut publisher = case.client("p");
        publisher.publish(&case.topic("a/x/b"), "1", 1);
        publisher.publish(&case.topic("a/y"), "2", 1);
        publisher.publish(&case.topic("b/x"), "3", 1);
        assert_eq!(member.texts(2), ["1", "3"]);
    });
}

#[test]
fn a_member_that_unsubscribes_or_leaves_gets_no_more() {
    both(|case| {
        let mut first = member(case, "m1", "g", "t", 1);
        let mut second = member(case, "m2", "g", "t", 1);
        let third = member(case, "m3", "g", "t", 1);
        third.cut();
        second.unsubscribe(&format!("$share/g/{}", case.topic("t")));
        let mut publisher = case.client("p");
        for number in 0..10 {
            publisher.publish(&case.topic("t"), number.to_string(), 1);
        }
        let expected: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        assert_eq!(first.texts(10), expected);
        second.assert_quiet();
    });
}

#[test]
fn delivery_respects_the_qos_granted_to_the_member_4_8_2_3() {
    both(|case| {
        let mut member = member(case, "m", "g", "t", 1);
        let mut publisher = case.client("p");
        for (published, delivered) in [(0, 0), (1, 1), (2, 1)] {
            publisher.publish(&case.topic("t"), "x", published);
            assert_eq!(member.message().qos, delivered);
        }
    });
}

#[test]
fn a_new_shared_subscription_gets_no_retained_messages() {
    both(|case| {
        let mut publisher = case.client("p");
        publisher.publish_message(Publish::new(&case.topic("t"), "old").qos(1, 0).retain());
        let mut member = member(case, "m", "g", "t", 1);
        publisher.publish(&case.topic("t"), "new", 1);
        assert_eq!(member.message().text(), "new");
        publisher.publish_message(Publish::new(&case.topic("t"), "").qos(1, 0).retain());
    });
}

#[test]
fn malformed_share_filters_are_refused_4_8_2_1_4_8_2_2() {
    both(|case| {
        for filter in [
            "$share/g",
            "$share//t",
            "$share/g+/t",
            "$share/#/t",
            "$share/+/t",
            "$share/g/",
            "$share/",
            "$share",
        ] {
            let mut client = case.client("a");
            client.send(Subscribe::new(1).filter(filter, 0).encode(case.version));
            match client.receive_or_end() {
                Some(Packet::Suback { codes, .. }) => {
                    let refusals: &[u8] = if case.version.is_v5() { &[0x8f] } else { &[0x80] };
                    // `$share` alone is no shared subscription, but a filter like any other.
                    let plain = filter == "$share" && codes == [0];
                    assert!(plain || codes == refusals, "{filter}: {codes:02x?}");
                }
                Some(Packet::Disconnect { code, .. }) => {
                    assert!([0x8f, 0x81, 0x82].contains(&code), "{filter}: {code:#04x}");
                }
                None if !case.version.is_v5() => {}
                other => panic!("{filter}: {other:?}"),
            }
        }
    });
}

#[test]
fn an_unsubscribe_of_a_malformed_share_filter_is_refused_or_ends_the_connection() {
    v5(|case| {
        for filter in ["$share/g", "$share//t", "$share/g+/t", "$share/g/", "$share/"] {
            let mut client = case.client("a");
            client.send(Unsubscribe::new(1).filter(filter).encode(case.version));
            match client.receive_or_end() {
                Some(Packet::Unsuback { codes, .. }) => assert_eq!(codes, [0x8f], "{filter}"),
                Some(Packet::Disconnect { code, .. }) => assert_eq!(code, 0x8f, "{filter}"),
                other => panic!("{filter}: {other:?}"),
            }
        }
    });
}

#[test]
fn connack_says_that_shared_subscriptions_are_offered() {
    v5(|case| {
        let (_client, connack) = case.open_with(&case.connect("asking"));
        assert!(!connack.properties.contains(&Property::SharedAvailable(0)), "{connack:?}");
    });
}

#[test]
fn a_delivery_carries_the_identifier_of_its_shared_subscription() {
    v5(|case| {
        let mut client = case.client("a");
        let shared = Subscribe::new(1)
            .filter(format!("$share/g/{}", case.topic("+")), 1)
            .property(Property::SubscriptionId(7));
        assert_eq!(client.suback(&shared, 1), [1]);
        let plain =
            Subscribe::new(2).filter(case.topic("t"), 1).property(Property::SubscriptionId(8));
        assert_eq!(client.suback(&plain, 2), [1]);
        case.client("p").publish(&case.topic("t"), "x", 1);
        let mut ids: Vec<Vec<Property>> = (0..2).map(|_| client.message().properties).collect();
        ids.sort_by_key(|properties| format!("{properties:?}"));
        assert_eq!(ids, [[Property::SubscriptionId(7)], [Property::SubscriptionId(8)]]);
    });
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error_3_8_3_4() {
    v5(|case| {
        let mut client = case.client("a");
        client.send(Subscribe::new(1).filter("$share/g/t", 4).encode(case.version));
        client.expect_end(&[0x82]);
    });
}

#[test]
fn unsubscribing_from_one_group_leaves_the_other_and_the_plain_one() {
    both(|case| {
        let mut client = case.subscriber("a", "t", 0);
        for group in ["one", "two"] {
            client.subscribe(&format!("$share/{group}/{}", case.topic("t")), 0);
        }
        client.unsubscribe(&format!("$share/one/{}", case.topic("t")));
        if case.version.is_v5() {
            let again = Unsubscribe::new(99).filter(format!("$share/one/{}", case.topic("t")));
            assert_eq!(client.unsuback(&again, 99), [0x11]);
        }
        case.client("p").publish(&case.topic("t"), "x", 0);
        // One copy for each, or one for both: groups are delivered on their own [MQTT 4.8.2].
        assert_eq!(client.message().text(), "x");
        client.unsubscribe(&case.topic("t"));
        client.unsubscribe(&format!("$share/two/{}", case.topic("t")));
    });
}
