//! `$delayed/SECONDS/TOPIC`: messages that are published later.
//! What must not live here: Will Delay and expiry of messages that are not delayed.

use std::time::{Duration, Instant};

use crate::support::{Broker, Case, Client, Instance, Property, Publish, Will, both, each, v5};

fn delayed(seconds: u32, topic: &str) -> String {
    format!("$delayed/{seconds}/{topic}")
}

/// The message comes after its delay, and not before.
#[track_caller]
fn comes_after(begun: Instant, seconds: u64, receiver: &mut Client) -> Publish {
    let message = receiver.message();
    assert!(begun.elapsed() >= Duration::from_secs(seconds), "after {:?}", begun.elapsed());
    message
}

#[test]
fn a_delayed_message_is_acknowledged_at_once_and_published_later() {
    both(|case| {
        let topic = case.topic("t");
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        for qos in 0..3 {
            let begun = Instant::now();
            assert_eq!(publisher.publish(&delayed(2, &topic), "later", qos), 0);
            publisher.publish(&topic, "now", qos);
            assert_eq!(subscriber.message().text(), "now");
            let got = comes_after(begun, 2, &mut subscriber);
            assert_eq!(got, Publish::new(&topic, "later").qos(qos, got.packet_id));
        }
    });
}

#[test]
fn messages_that_are_due_together_come_in_the_order_in_which_they_were_sent() {
    both(|case| {
        let topic = case.topic("t");
        let mut subscriber = case.subscriber("s", "t", 1);
        let mut publisher = case.client("p");
        let all: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        for text in &all {
            publisher.publish(&delayed(1, &topic), text, 1);
        }
        // Their publisher need not stay.
        publisher.disconnect();
        assert_eq!(subscriber.texts(200), all);
    });
}

#[test]
fn properties_retain_and_expiry_are_those_of_a_message_published_then() {
    v5(|case| {
        let topic = case.topic("t");
        let mut publisher = case.client("p");
        let message = Publish::new(&delayed(1, &topic), "later")
            .qos(1, 0)
            .retain()
            .property(Property::MessageExpiry(100))
            .property(Property::user("a", "1"))
            .property(Property::ContentType("text/plain".into()));
        let mut subscriber = case.subscriber("s", "t", 1);
        assert_eq!(publisher.publish_message(message), 0);
        let got = subscriber.message();
        // The Message Expiry Interval counts from when it is due.
        let Some((Property::MessageExpiry(98..=100), rest)) = got.properties.split_first() else {
            panic!("{got:?}");
        };
        assert_eq!(rest, [Property::user("a", "1"), Property::ContentType("text/plain".into())]);
        let mut new = case.subscriber("n", "t", 1);
        assert!(new.message().retain);
        publisher.publish_message(Publish::new(&topic, "").qos(1, 0).retain());
    });
}

#[test]
fn a_will_can_be_delayed_too() {
    both(|case| {
        let topic = case.topic("will");
        let mut watcher = case.subscriber("w", "will", 0);
        let begun = Instant::now();
        let will = Will::new(&delayed(2, &topic), "gone");
        case.open(&case.connect("dying").will(will)).cut();
        assert_eq!(comes_after(begun, 2, &mut watcher).text(), "gone");
        let bad = case.connect("bad").will(Will::new("$delayed/x/t", "gone"));

        let mut client = case.dial();
        client.send(bad.encode());
        client.expect_refusal(&[0x90]);
    });
}

#[test]
fn a_topic_that_does_not_say_how_long_and_where_is_refused_and_the_connection_goes_on() {
    both(|case| {
        let mut subscriber = case.client("s");
        subscriber.subscribe("$delayed/#", 0);
        let mut publisher = case.client("p");
        for topic in ["$delayed/x/t", "$delayed/5", "$delayed/4294968/t", "$delayed/1/$delayed/1/t"]
        {
            publisher.publish(topic, "x", 0);
            for qos in [1, 2] {
                let code = publisher.publish(topic, "x", qos);
                assert_eq!(code, if case.version.is_v5() { 0x90 } else { 0 }, "{topic}");
            }
        }
        publisher.assert_quiet();
        subscriber.assert_quiet();
    });
}

#[test]
fn delayed_messages_are_bounded() {
    let broker = Broker::dev_with(&["--workers", "1", "--set", "limits.delayed_messages_max=3"]);
    each(&broker, |case| {
        let topic = case.topic("t");
        let mut subscriber = case.subscriber("s", "t", 1);
        let mut publisher = case.client("p");
        let codes: Vec<u8> =
            (0..5).map(|_| publisher.publish(&delayed(1, &topic), "x", 1)).collect();
        let refused = if case.version.is_v5() { 0x97 } else { 0 };
        assert_eq!(codes, [0, 0, 0, refused, refused]);
        assert_eq!(subscriber.texts(3).len(), 3);
        // There is room again.
        assert_eq!(publisher.publish(&delayed(0, &topic), "y", 1), 0);
        assert_eq!(subscriber.message().text(), "y");
        subscriber.assert_quiet();
    });
}

fn login(case: &Case<'_>, name: &str) -> Client {
    let connect = case.connect(name).login(name, &format!("{name}-password"));
    case.open(&connect)
}

#[test]
fn the_topic_is_authorized_when_the_message_comes_and_when_it_is_due() {
    let instance = Instance::create();
    for user in ["ann", "ben", "watcher"] {
        instance.user(user);
    }
    instance.acl("allow publish now/# --to user:ann");
    instance.acl("allow publish $delayed/# --to user:ann");
    instance.acl("allow publish gone/# --to user:ben");
    instance.acl("allow subscribe # --to user:watcher");
    let broker = instance.run(&[]);
    each(&broker, |case| {
        let mut watcher = login(case, "watcher");
        watcher.subscribe("#", 1);
        let mut ann = login(case, "ann");
        assert_eq!(ann.publish("$delayed/1/now/t", "allowed", 1), 0);
        // The right to `$delayed/#` is none to what comes of it.
        let denied = ann.publish("$delayed/1/other/t", "x", 1);
        assert_eq!(denied, if case.version.is_v5() { 0x87 } else { 0 });
        let begun = Instant::now();
        assert_eq!(ann.publish("$delayed/3/now/t", "too late", 1), 0);
        assert_eq!(watcher.message().text(), "allowed");
        instance.acl("deny publish now/# --to user:ann");
        let left = Duration::from_millis(4500).saturating_sub(begun.elapsed());
        assert_eq!(watcher.receive_within(left), None);
        let rules = instance.json(&["acl", "list"]);
        let rules = rules.as_array().or_else(|| rules.get("rules")?.as_array()).expect("a list");
        let deny = rules.iter().find(|rule| rule.to_string().contains("deny")).unwrap();
        instance.cli(&["acl", "rm", &deny["id"].to_string()]);
    });
    // A user that is gone has nothing published any more.
    let case = Case::new(&broker, crate::support::Version::V5);
    let mut watcher = login(&case, "watcher");
    watcher.subscribe("#", 1);
    assert_eq!(login(&case, "ben").publish("$delayed/1/gone/t", "x", 1), 0);
    instance.cli(&["user", "rm", "ben"]);
    assert_eq!(watcher.receive_within(Duration::from_millis(2500)), None);
}
