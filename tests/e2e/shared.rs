//! Shared subscriptions, on 3.1.1 too [MQTT 4.8.2].
//! What must not live here: what holds for every subscription (`subscribe`).

use std::collections::BTreeMap;

use crate::support::{
    Broker, Case, Client, Packet, Property, Publish, Subscribe, Unsubscribe, Version, both, each,
    v5,
};

/// Runs the case for both versions on a broker that offers shared subscriptions; on one that says
/// it does not, they are refused in the specification's words and nothing else is left to see.
fn where_offered(case: impl Fn(&Case<'_>)) {
    let broker = Broker::dev();
    let offered = {
        let asking = Case::new(&broker, Version::V5);
        let (_client, connack) = asking.open_with(&asking.connect("asking"));
        !connack.properties.contains(&Property::SharedAvailable(0))
    };
    each(&broker, |one| {
        if offered {
            return case(one);
        }
        let refusal = if one.version.is_v5() { 0x9e } else { 0x80 };
        let mut client = one.client("refused");
        assert_eq!(client.try_subscribe("$share/g/t", 1), refusal);
        client.assert_quiet();
    });
}

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

#[test]
fn each_message_goes_to_one_member_of_the_group() {
    where_offered(|case| {
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
    where_offered(|case| {
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
    where_offered(|case| {
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
    where_offered(|case| {
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
    where_offered(|case| {
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
    where_offered(|case| {
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
fn no_local_on_a_shared_subscription_is_a_protocol_error_3_8_3_4() {
    v5(|case| {
        let mut client = case.client("a");
        client.send(Subscribe::new(1).filter("$share/g/t", 4).encode(case.version));
        client.expect_end(&[0x82]);
    });
}

#[test]
fn unsubscribing_from_one_group_leaves_the_other_and_the_plain_one() {
    where_offered(|case| {
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
