//! PUBLISH at most once, and what holds for messages of every QoS: topics, payloads, properties,
//! aliases [MQTT 3.3, 4.3.1].
//! What must not live here: acknowledgements (`publish_qos1`, `publish_qos2`), `retained`.

use crate::support::packet::PINGREQ;
use crate::support::{Case, Client, Connack, Property, Publish, Subscribe, both, v5};

#[test]
fn a_message_is_delivered_as_it_was_published_4_3_1_1() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 0);
        let mut publisher = case.client("p");
        let every_byte: Vec<u8> = (0..=255).collect();
        for payload in [b"hello".to_vec(), Vec::new(), every_byte, vec![7; 200_000]] {
            let sent = Publish::new(&case.topic("t"), payload);
            publisher.publish_message(sent.clone());
            assert_eq!(subscriber.receive_publish(), sent);
        }
    });
}

#[test]
fn payloads_of_every_length_around_the_varint_borders_arrive() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 0);
        let mut publisher = case.client("p");
        let overhead = case.topic("t").len() + 2 + usize::from(case.version.is_v5());
        for border in [127, 128, 16_383, 16_384, 16_385, 65_535, 65_536] {
            let sent = Publish::new(&case.topic("t"), vec![b'x'; border - overhead]);
            publisher.publish_message(sent.clone());
            assert_eq!(subscriber.receive_publish(), sent);
        }
    });
}

#[test]
fn a_megabyte_arrives_whole() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "t", 0);
        let payload: Vec<u8> =
            (0..1_000_000u32).map(|i| i.to_le_bytes()[usize::from(i % 7 == 0)]).collect();
        case.client("p").publish(&case.topic("t"), &payload, 0);
        assert!(subscriber.receive_publish().payload == payload, "another payload arrives");
    });
}

#[test]
fn messages_keep_their_order_4_6_0_6() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "#", 0);
        let mut publisher = case.client("p");
        let bytes: Vec<u8> = (0..5000)
            .flat_map(|number| {
                let topic = case.topic(if number % 3 == 0 { "a" } else { "b" });
                Publish::new(&topic, number.to_string()).encode(case.version)
            })
            .collect();
        publisher.send(&bytes);
        let expected: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
        assert_eq!(subscriber.texts(5000), expected);
    });
}

#[test]
fn a_publisher_gets_its_own_message_when_it_subscribes_to_it() {
    both(|case| {
        let mut client = case.subscriber("a", "t", 0);
        client.publish(&case.topic("t"), "mine", 0);
        assert_eq!(client.message().text(), "mine");
    });
}

#[test]
fn delivery_has_the_lower_of_the_published_and_the_granted_qos_3_8_4_8() {
    both(|case| {
        let mut publisher = case.client("p");
        for granted in 0..3 {
            let filter = format!("t{granted}");
            let mut subscriber = case.subscriber(&format!("s{granted}"), &filter, granted);
            for published in 0..3 {
                publisher.publish(&case.topic(&filter), "x", published);
                assert_eq!(subscriber.message().qos, published.min(granted));
            }
        }
    });
}

#[test]
fn topic_names_arrive_byte_by_byte_4_7_3_4_1_5_4_3() {
    both(|case| {
        let mut subscriber = case.subscriber("s", "#", 0);
        let mut publisher = case.client("p");
        let long = "x".repeat(2000);
        for name in ["", "/", "//", "/a/", " ", "A", "\u{feff}bom", "é", "e\u{301}", "😀/$x", &long]
        {
            let topic = case.topic(name);
            publisher.publish(&topic, "x", 0);
            assert_eq!(subscriber.message().topic, topic);
        }
    });
}

/// The broker ends the connection over those bytes.
#[track_caller]
fn fatal(case: &Case<'_>, codes: &[u8], bytes: impl AsRef<[u8]>) {
    let mut client = case.client("fatal");
    client.send(bytes);
    client.expect_end(codes);
}

#[test]
fn a_topic_name_with_wildcards_ends_the_connection_3_3_2_2() {
    both(|case| {
        for topic in ["+", "#", "a/+", "a/#", "a+b", "a#"] {
            for qos in 0..3 {
                let publish = Publish::new(topic, "x").qos(qos, 1);
                fatal(case, &[0x81, 0x82, 0x90], publish.encode(case.version));
            }
        }
    });
}

#[test]
fn an_empty_topic_name_without_alias_ends_the_connection_4_7_3_1() {
    both(|case| {
        fatal(case, &[0x81, 0x82, 0x90], Publish::new("", "x").encode(case.version));
    });
}

#[test]
fn dup_with_qos_0_ends_the_connection_3_3_1_2() {
    both(|case| {
        let publish = Publish::new(&case.topic("t"), "x").dup();
        fatal(case, &[0x81, 0x82], publish.encode(case.version));
    });
}

#[test]
fn qos_3_ends_the_connection_3_3_1_4() {
    both(|case| {
        fatal(case, &[0x81], Publish::new(&case.topic("t"), "x").qos(3, 1).encode(case.version));
    });
}

#[test]
fn leading_wildcards_do_not_match_topics_that_begin_with_a_dollar_4_7_2_1() {
    both(|case| {
        let (dollar, level) = (format!("${}/a", case.topic("d")), case.topic("d"));
        let mut wild = case.client("w");
        wild.subscribe("#", 0);
        wild.subscribe("+/d/a", 0);
        wild.subscribe("+/#", 0);
        let mut named = case.client("n");
        named.subscribe(&format!("${level}/#"), 0);
        let mut publisher = case.client("p");
        publisher.publish(&dollar, "dollar", 0);
        publisher.publish(&level, "marker", 0);
        assert_eq!(named.message().topic, dollar);
        // Other cases' messages come along here when the broker is shared.
        loop {
            let message = wild.message();
            assert_ne!(message.topic, dollar);
            if message.topic == level {
                break;
            }
        }
    });
}

#[test]
fn clients_cannot_write_into_sys() {
    both(|case| {
        let mut subscriber = case.client("s");
        subscriber.subscribe("$SYS/#", 0);
        subscriber.subscribe(&case.topic("t"), 0);
        let mut publisher = case.dial();
        let topic = format!("$SYS/{}", case.topic("x"));
        let attempt = Publish::new(&topic, "forged").encode(case.version);
        publisher.send([case.connect("p").encode(), attempt].concat());
        case.client("q").publish(&case.topic("t"), "marker", 0);
        loop {
            let message = subscriber.message();
            assert_ne!(message.topic, topic);
            if message.text() == "marker" {
                break;
            }
        }
    });
}

fn all_properties() -> Vec<Property> {
    vec![
        Property::PayloadFormat(1),
        Property::user("z", "1"),
        Property::ContentType("text/plain".into()),
        Property::user("a", "2"),
        Property::ResponseTopic("reply/to".into()),
        Property::user("z", "1"),
        Property::CorrelationData(vec![0, 255, 1]),
        Property::user("", ""),
    ]
}

#[test]
fn properties_are_forwarded_unchanged_and_user_properties_in_order_3_3_2_4_15_16_17_18_20() {
    v5(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        for qos in 0..3 {
            let sent = Publish {
                properties: all_properties(),
                ..Publish::new(&case.topic("t"), "x").qos(qos, 0)
            };
            publisher.publish_message(sent.clone());
            let got = subscriber.message();
            let users = |message: &Publish| -> Vec<Property> {
                let user = |p: &&Property| matches!(p, Property::UserProperty(_));
                message.properties.iter().filter(user).cloned().collect()
            };
            assert_eq!(users(&got), users(&sent));
            assert_eq!(got.properties.len(), sent.properties.len());
            for property in &sent.properties {
                assert!(got.properties.contains(property), "{property:?} is missing in {got:?}");
            }
        }
    });
}

#[test]
fn messages_cross_between_the_protocol_versions() {
    use crate::support::Version::{V3, V5};
    let broker = crate::support::Broker::dev();
    let (old, new) = (Case::new(&broker, V3), Case::new(&broker, V5));
    let topic = new.topic("t");
    let (mut old_client, mut new_client) = (old.client("old"), new.client("new"));
    old_client.subscribe(&topic, 2);
    new_client.subscribe(&topic, 2);
    for qos in 0..3 {
        let sent = Publish { properties: all_properties(), ..Publish::new(&topic, "new") };
        new_client.publish_message(sent.qos(qos, 0));
        assert_eq!(new_client.message().properties.len(), 8);
        let got = old_client.message();
        assert_eq!((got.text().as_str(), got.qos), ("new", qos));
        old_client.publish(&topic, "old", qos);
        assert_eq!(old_client.message().text(), "old");
        let got = new_client.message();
        assert_eq!((got.text().as_str(), got.properties), ("old", vec![]));
    }
}

#[test]
fn properties_of_publish_are_checked() {
    use Property::*;
    let cases: Vec<(&[u8], Vec<Property>)> = vec![
        (&[0x82], vec![SubscriptionId(1)]),
        (&[0x82], vec![PayloadFormat(0), PayloadFormat(0)]),
        (&[0x81, 0x82], vec![PayloadFormat(2)]),
        (&[0x82], vec![MessageExpiry(1), MessageExpiry(1)]),
        (&[0x82], vec![ContentType("a".into()), ContentType("a".into())]),
        (&[0x82], vec![ResponseTopic("a".into()), ResponseTopic("a".into())]),
        (&[0x82], vec![CorrelationData(vec![]), CorrelationData(vec![])]),
        (&[0x82], vec![TopicAlias(1), TopicAlias(1)]),
        (&[0x81, 0x82, 0x90], vec![ResponseTopic("a/+".into())]),
        (&[0x81, 0x82, 0x90], vec![ResponseTopic("#".into())]),
        (&[0x81, 0x82], vec![ReceiveMaximum(1)]),
        (&[0x81, 0x82], vec![WillDelay(1)]),
        (&[0x81, 0x82], vec![ReasonString("x".into())]),
        (&[0x81, 0x82], vec![Raw(vec![0x55])]),
        (&[0x81], vec![Raw(vec![0x02, 0, 0])]),
        (&[0x81], vec![Raw(vec![0x03, 0, 1, 0xff])]),
        (&[0x81], vec![Raw(vec![0x03, 0, 1, 0])]),
        (&[0x81], vec![Raw(vec![0x08, 0, 2, b'a', 0xff])]),
        (&[0x81], vec![Raw(vec![0x26, 0, 1, b'a', 0, 9, b'a'])]),
        (&[0x81], vec![Raw(vec![0x26, 0, 1, 0xff, 0, 1, b'a'])]),
    ];
    v5(|case| {
        for (codes, properties) in &cases {
            for qos in [0, 1] {
                eprintln!("{properties:?} at QoS {qos}");
                let publish = Publish {
                    properties: properties.clone(),
                    ..Publish::new("t", "x").qos(qos, 1)
                };
                fatal(case, codes, publish.encode(case.version));
            }
        }
    });
}

fn alias_maximum(connack: &Connack) -> u16 {
    let announced = connack.find(|property| match property {
        Property::TopicAliasMaximum(maximum) => Some(*maximum),
        _ => None,
    });
    announced.unwrap_or(0)
}

fn aliased(topic: &str, payload: &str, alias: u16) -> Publish {
    Publish::new(topic, payload).property(Property::TopicAlias(alias))
}

#[test]
fn a_topic_alias_stands_for_its_topic_or_none_was_announced_3_3_2_12() {
    v5(|case| {
        let mut subscriber = case.subscriber("s", "#", 0);
        let (mut publisher, connack) = case.open_with(&case.connect("p"));
        let maximum = alias_maximum(&connack);
        if maximum == 0 {
            publisher.send(aliased(&case.topic("one"), "1", 1).encode(case.version));
            publisher.expect_end(&[0x94]);
            return;
        }
        let mut seen = |client: &mut Client, sent: Publish, name: &str| {
            client.send(sent.encode(case.version));
            let got = subscriber.message();
            assert_eq!(got, Publish::new(&case.topic(name), &sent.payload), "aliases end here");
        };
        seen(&mut publisher, aliased(&case.topic("one"), "1", 1), "one");
        seen(&mut publisher, aliased("", "2", 1), "one");
        seen(&mut publisher, aliased(&case.topic("last"), "3", maximum), "last");
        seen(&mut publisher, aliased("", "4", 1), "one");
        seen(&mut publisher, aliased(&case.topic("two"), "5", 1), "two");
        seen(&mut publisher, aliased("", "6", 1), "two");
        seen(&mut publisher, aliased("", "7", maximum), "last");
    });
}

#[test]
fn every_alias_up_to_the_announced_maximum_is_taken_3_3_2_12() {
    v5(|case| {
        let mut subscriber = case.subscriber("s", "#", 0);
        let (mut publisher, connack) = case.open_with(&case.connect("p"));
        let aliases: Vec<u16> = (1..=alias_maximum(&connack).min(5000)).collect();
        let topic = |alias: u16| case.topic(&alias.to_string());
        for alias in &aliases {
            publisher.send(aliased(&topic(*alias), "set", *alias).encode(case.version));
            assert_eq!(subscriber.message().topic, topic(*alias));
        }
        for alias in aliases.iter().rev() {
            publisher.send(aliased("", "used", *alias).encode(case.version));
            assert_eq!(subscriber.message(), Publish::new(&topic(*alias), "used"));
        }
    });
}

#[test]
fn topic_aliases_out_of_range_end_the_connection_with_0x94_3_3_2_8_3_3_2_9() {
    v5(|case| {
        let (_client, connack) = case.open_with(&case.connect("a"));
        let maximum = alias_maximum(&connack);
        fatal(case, &[0x94], aliased("t", "x", 0).encode(case.version));
        if let Some(above) = maximum.checked_add(1) {
            fatal(case, &[0x94], aliased("t", "x", above).encode(case.version));
        }
    });
}

#[test]
fn an_alias_that_was_not_set_ends_the_connection_with_0x82() {
    v5(|case| {
        fatal(case, &[0x82, 0x94], aliased("", "x", 1).encode(case.version));
    });
}

#[test]
fn topic_aliases_do_not_outlive_the_connection_3_3_2_7() {
    v5(|case| {
        let connect = case.connect("a").persistent();
        let (mut client, connack) = case.open_with(&connect);
        if alias_maximum(&connack) == 0 {
            return;
        }
        client.send(aliased(&case.topic("t"), "x", 1).encode(case.version));
        client.assert_quiet();
        client.cut();
        let mut client = case.open(&connect);
        client.send(aliased("", "x", 1).encode(case.version));
        client.expect_end(&[0x82, 0x94]);
    });
}

#[test]
fn server_aliases_keep_within_the_maximum_of_the_client_3_3_2_11_3_1_2_26_3_1_2_27() {
    v5(|case| {
        for maximum in [0, 1, 3] {
            let connect = case.connect("s").property(Property::TopicAliasMaximum(maximum));
            let mut subscriber = case.open(&connect);
            subscriber.subscribe(&case.topic("#"), 0);
            let mut publisher = case.client("p");
            let mut known = vec![String::new(); usize::from(maximum) + 1];
            for number in 0..20 {
                let topic = case.topic(&format!("t{}", number % 5));
                publisher.publish(&topic, "x", 0);
                let got = subscriber.message();
                let alias = got.properties.iter().find_map(|property| match property {
                    Property::TopicAlias(alias) => Some(*alias),
                    _ => None,
                });
                let Some(alias) = alias else {
                    assert_eq!(got.topic, topic);
                    continue;
                };
                assert!((1..=maximum).contains(&alias), "alias {alias} of at most {maximum}");
                if !got.topic.is_empty() {
                    known[usize::from(alias)] = got.topic;
                }
                assert_eq!(known[usize::from(alias)], topic);
            }
        }
    });
}

fn alias_of(publish: &Publish) -> Option<u16> {
    publish.properties.iter().find_map(|property| match property {
        Property::TopicAlias(alias) => Some(*alias),
        _ => None,
    })
}

#[test]
fn a_topic_that_comes_again_comes_by_its_alias_to_each_client_that_takes_one_3_3_2_11() {
    v5(|case| {
        let topic = case.topic("a/long/topic/name");
        let aliasing = |name| case.connect(name).property(Property::TopicAliasMaximum(5));
        let mut publisher = case.client("p");
        for qos in 0..=2 {
            let (mut one, mut two) = (case.open(&aliasing("1")), case.open(&aliasing("2")));
            let mut without = case.client("3");
            for client in [&mut one, &mut two, &mut without] {
                client.subscribe(&topic, qos);
            }
            for number in 0..5 {
                publisher.publish(&topic, number.to_string(), qos);
                for client in [&mut one, &mut two] {
                    let got = client.message();
                    assert_eq!(got.text(), number.to_string());
                    // The full name until the alias was sent with it.
                    let name = if number < 2 { &*topic } else { "" };
                    let alias = (number > 0).then_some(1);
                    assert_eq!((&*got.topic, alias_of(&got)), (name, alias));
                }
                let got = without.message();
                assert_eq!((&*got.topic, alias_of(&got)), (&*topic, None));
            }
        }
    });
}

#[test]
fn the_broker_uses_no_more_aliases_than_its_own_bound() {
    v5(|case| {
        let connect = case.connect("s").property(Property::TopicAliasMaximum(u16::MAX));
        let mut subscriber = case.open(&connect);
        subscriber.subscribe(&case.topic("#"), 0);
        let mut publisher = case.client("p");
        let mut highest = 0;
        for number in 0..40 {
            for _ in 0..3 {
                publisher.publish(&case.topic(&format!("topic/{number}")), "x", 0);
                highest = highest.max(alias_of(&subscriber.message()).unwrap_or(0));
            }
        }
        assert_eq!(highest, 16);
    });
}

#[test]
fn aliases_end_with_their_connection_and_what_comes_again_has_its_full_name_3_3_2_7() {
    v5(|case| {
        let topic = case.topic("a/long/topic/name");
        let connect = case.connect("s").persistent().property(Property::TopicAliasMaximum(5));
        let mut subscriber = case.open(&connect);
        subscriber.subscribe(&topic, 1);
        let mut publisher = case.client("p");
        for number in 0..4 {
            publisher.publish(&topic, number.to_string(), 1);
        }
        let got: Vec<Publish> = (0..4).map(|_| subscriber.receive_publish()).collect();
        assert_eq!(got[3].topic, "", "by its alias");
        drop(subscriber);
        let mut subscriber = case.open(&connect);
        for _ in 0..4 {
            let again = subscriber.message();
            assert!(again.dup && again.topic == topic && alias_of(&again).is_none(), "{again:?}");
        }
        publisher.publish(&topic, "new", 1);
        assert_eq!(subscriber.message().topic, topic);
    });
}

#[test]
fn an_alias_makes_no_packet_longer_than_the_client_takes() {
    v5(|case| {
        let topic = case.topic("a/long/topic/name");
        let mut exact = Publish::new(&topic, "x");
        let bytes = u32::try_from(exact.encode(case.version).len()).unwrap();
        let connect = case
            .connect("s")
            .property(Property::TopicAliasMaximum(5))
            .property(Property::MaximumPacketSize(bytes));
        let mut subscriber = case.open(&connect);
        subscriber.subscribe(&topic, 0);
        let mut publisher = case.client("p");
        for _ in 0..4 {
            publisher.publish_message(exact.clone());
            assert_eq!(subscriber.message(), exact, "no room for an alias");
        }
        exact.payload.push(b'x');
        publisher.publish_message(exact);
        subscriber.assert_quiet();
    });
}

#[test]
fn message_expiry_is_forwarded_and_never_grows_3_3_2_6() {
    v5(|case| {
        let mut subscriber = case.subscriber("s", "t", 1);
        let message = Publish::new(&case.topic("t"), "x").property(Property::MessageExpiry(1000));
        let mut publisher = case.client("p");
        for qos in [0, 1] {
            publisher.publish_message(message.clone().qos(qos, 0));
            let got = subscriber.message().properties;
            assert!(matches!(got[..], [Property::MessageExpiry(990..=1000)]), "{got:?}");
        }
    });
}

#[test]
fn qos_0_to_nobody_is_dropped_quietly() {
    both(|case| {
        let mut publisher = case.client("p");
        publisher.publish(&case.topic("nobody"), "x", 0);
        publisher.assert_quiet();
    });
}

#[test]
fn two_hundred_subscribers_of_one_topic_all_get_it() {
    both(|case| {
        let mut subscribers: Vec<Client> = (0..200)
            .map(|number| {
                let mut client = case.dial();
                let subscribe = Subscribe::new(1).filter(case.topic("t"), 0).encode(case.version);
                let connect = case.connect(&format!("s{number}")).encode();
                client.send([connect, subscribe, PINGREQ.to_vec()].concat());
                client
            })
            .collect();
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.connack().code, 0);
            subscriber
                .wait_for(|packet| (*packet == crate::support::Packet::Pingresp).then_some(()));
            subscriber.receive();
        }
        let sent = Publish::new(&case.topic("t"), "to all");
        case.client("p").publish_message(sent.clone());
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.receive_publish(), sent);
        }
    });
}
