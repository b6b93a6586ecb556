//! What an operator arranges about topics: `$SYS`, rewriting, subscriptions of every client, and
//! what CONNACK tells of response topics.
//! What must not live here: topics as clients name them (`publish_qos0`, `subscribe`).

use std::collections::BTreeMap;
use std::time::Instant;

use crate::support::client::DEADLINE;
use crate::support::{
    Broker, Case, Client, Connect, Instance, Property, Publish, Subscribe, Unsubscribe, Version,
    Will, each,
};

/// Takes what `client` is sent of `$SYS` into `values`, by topic, until they are enough.
#[track_caller]
fn sys_until(
    client: &mut Client,
    values: &mut BTreeMap<String, String>,
    is_enough: impl Fn(&BTreeMap<String, String>) -> bool,
) {
    let deadline = Instant::now() + DEADLINE;
    while !is_enough(values) {
        assert!(Instant::now() < deadline, "{values:#?}");
        let message = client.message();
        let topic = message.topic.strip_prefix("$SYS/broker/").expect("one of the broker's own");
        values.insert(topic.to_owned(), message.text());
    }
}

fn number(values: &BTreeMap<String, String>, name: &str) -> u64 {
    let text = values.get(name).unwrap_or_else(|| panic!("no {name} in {values:#?}"));
    text.parse().unwrap_or_else(|_| panic!("{name} is {text}"))
}

#[test]
fn sys_tells_what_happens_and_a_new_subscriber_is_told_at_once() {
    let broker = Broker::dev_with(&["--workers", "2", "--set", "topics.sys_interval_seconds=1"]);
    each(&broker, |case| {
        let mut watcher = case.client("watcher");
        watcher.subscribe("$SYS/#", 1);
        let mut values = BTreeMap::new();
        let is_whole = |values: &BTreeMap<String, String>| values.len() >= 16;
        sys_until(&mut watcher, &mut values, is_whole);
        let before = values.clone();
        let mut clients: Vec<Client> =
            (0..3).map(|number| case.client(&number.to_string())).collect();
        for client in &mut clients {
            client.subscribe(&case.topic("t"), 0);
        }
        for number in 0..10_u8 {
            clients[0].publish(&case.topic("t"), [number; 100], 1);
        }
        clients.iter_mut().for_each(|client| drop(client.ping()));
        let sent = number(&before, "publish/messages/sent") + 30;
        let is_there = |values: &BTreeMap<String, String>| {
            let at_least = |name: &str, least| {
                values.get(name).is_some_and(|text| text.parse::<u64>().unwrap() >= least)
            };
            let is = |name: &str, text: &str| values.get(name).is_some_and(|it| it == text);
            is("clients/connected", "4")
                && is("subscriptions/count", "4")
                && at_least("publish/messages/sent", sent)
                && at_least("publish/messages/received", 10)
                && at_least("messages/received", number(&before, "messages/received") + 16)
                && at_least("bytes/received", number(&before, "bytes/received") + 1_000)
                && at_least("bytes/sent", number(&before, "bytes/sent") + 3_000)
        };
        sys_until(&mut watcher, &mut values, is_there);
        let mut new = case.client("new");
        new.subscribe("$SYS/broker/+", 0);
        let first = [new.message(), new.message()];
        assert!(first.iter().all(|message| message.retain && message.qos == 0), "{first:?}");
        let version = first.iter().find(|message| message.topic.ends_with("version"));
        assert!(version.unwrap().text().starts_with("wasmqtt version "), "{first:?}");
    });
}

/// Behaviour 44.
#[test]
fn sys_is_not_for_clients_to_write_nor_for_wildcards_4_7_2_1() {
    let broker = Broker::dev_with(&["--workers", "2", "--set", "topics.sys_interval_seconds=1"]);
    each(&broker, |case| {
        let topic = format!("$SYS/broker/{}", case.topic("forged"));
        let mut watcher = case.client("watcher");
        watcher.subscribe(&topic, 1);
        let mut wild = case.client("wild");
        wild.subscribe("#", 0);
        wild.subscribe("+/broker/#", 0);
        let mut forger = case.client("forger");
        for qos in 0..3 {
            let code = forger.publish_message(Publish::new(&topic, "x").qos(qos, 0).retain());
            assert_eq!(code, if qos > 0 && case.version.is_v5() { 0x87 } else { 0 });
        }
        let will = case.connect("dying").will(Will::new(&topic, "x"));
        assert_eq!(case.try_open(&will).1.code, if case.version.is_v5() { 0x87 } else { 5 });
        watcher.assert_quiet();
        let mut named = case.client("named");
        named.subscribe("$SYS/broker/uptime", 0);
        let (first, second) = (named.message().text(), named.message().text());
        assert_ne!(first, second, "it goes on");
        wild.assert_quiet();
    });
}

#[test]
fn sys_needs_a_right_to_subscribe_as_all_topics_do() {
    let instance = Instance::create();
    instance.user("ann");
    instance.user("ben");
    instance.acl("allow subscribe # --to user:ann");
    instance.acl("allow subscribe $SYS/broker/uptime --to user:ben");
    let broker = instance.run(&["topics.sys_interval_seconds=1"]);
    each(&broker, |case| {
        let open =
            |name: &str| case.open(&case.connect(name).login(name, &format!("{name}-password")));
        let (mut ann, mut ben) = (open("ann"), open("ben"));
        let denied = if case.version.is_v5() { 0x87 } else { 0x80 };
        assert_eq!(ann.try_subscribe("$SYS/#", 0), denied, "`#` does not cover it");
        assert_eq!(ben.try_subscribe("$SYS/#", 0), denied);
        ben.subscribe("$SYS/broker/uptime", 0);
        assert!(ben.message().text().ends_with(" seconds"));
    });
}

#[test]
fn sys_can_be_switched_off() {
    let broker = Broker::dev_with(&["--workers", "1", "--set", "topics.sys_interval_seconds=0"]);
    each(&broker, |case| {
        let mut watcher = case.client("watcher");
        watcher.subscribe("$SYS/#", 0);
        assert_eq!(watcher.receive_within(std::time::Duration::from_millis(2500)), None);
    });
}

const REWRITES: &str = r#"rewrite=[
    { from = "old/+/data", to = "new/$1" },
    { from = "new/#", to = "old/$1/data" },
    { from = "secret/#", to = "open/$1", on = ["publish"] },
    { from = "inbox", to = "mail", on = ["subscribe"] },
]"#;

#[test]
fn a_rewritten_topic_is_published_subscribed_and_unsubscribed_by_its_old_name() {
    let broker = Broker::dev_with(&["--workers", "2", "--set", &REWRITES.replace('\n', "")]);
    each(&broker, |case| {
        let id = case.client_id("x");
        let old = format!("old/{id}/data");
        let mut client = case.client("s");
        client.subscribe(&old, 1);
        let mut publisher = case.client("p");
        let mut publish = |topic: &str, text: &str| {
            publisher.publish_message(Publish::new(topic, text).qos(1, 0))
        };
        publish(&old, "1");
        // What a rule made is not rewritten again.
        let got = client.message();
        assert_eq!((&got.topic, &*got.text()), (&format!("new/{id}"), "1"));
        // A filter keeps its wildcards.
        let mut wild = case.client("w");
        wild.subscribe("old/+/data", 0);
        publish(&old, "2");
        assert_eq!(wild.message().topic, format!("new/{id}"));
        client.message();
        client.unsubscribe(&old);
        publish(&old, "3");
        client.assert_quiet();
        // One side only.
        let mut open = case.client("o");
        open.subscribe(&format!("open/{id}"), 0);
        open.subscribe(&format!("secret/{id}"), 0);
        publish(&format!("secret/{id}"), "4");
        assert_eq!(open.message().topic, format!("open/{id}"));
        open.subscribe("inbox", 0);
        publish("inbox", "5");
        publish("mail", "6");
        assert_eq!(open.message().text(), "6");
        open.unsubscribe("inbox");
        open.assert_quiet();
        // Wills and retained messages.
        open.subscribe("open/will", 0);
        case.open(&case.connect("dying").will(Will::new("secret/will", "gone").retain())).cut();
        assert_eq!(open.message().topic, "open/will");
        publisher.publish_message(Publish::new("secret/will", "").qos(1, 0).retain());
        assert_eq!(open.message().text(), "");
        if case.version.is_v5() {
            let alias = |topic: &str| {
                Publish::new(topic, "7").property(Property::TopicAlias(1)).encode(case.version)
            };
            let mut aliasing = case.client("a");
            open.subscribe(&format!("open/{id}/alias"), 0);
            aliasing.send([alias(&format!("secret/{id}/alias")), alias("")].concat());
            for _ in 0..2 {
                assert_eq!(open.message().topic, format!("open/{id}/alias"));
            }
        }
    });
}

#[test]
fn a_rewrite_comes_before_access() {
    let instance = Instance::create();
    instance.user("ann");
    instance.acl("allow publish new/# --to user:ann");
    instance.acl("allow subscribe new/# --to user:ann");
    instance.acl("allow all open/# --to user:ann");
    let broker = instance.run(&[&REWRITES.replace('\n', "")]);
    each(&broker, |case| {
        let mut ann = case.open(&case.connect("ann").login("ann", "ann-password"));
        let denied = if case.version.is_v5() { 0x87 } else { 0x80 };
        ann.subscribe("old/1/data", 0);
        assert_eq!(ann.try_subscribe("old/1/other", 0), denied);
        assert_eq!(ann.publish("old/1/data", "x", 1), 0);
        assert_eq!(ann.message().topic, "new/1");
        let refused = ann.publish("mail", "x", 1);
        assert_eq!(refused, if case.version.is_v5() { 0x87 } else { 0 });
    });
}

const AUTO: &str = r#"auto_subscribe=[
    { filter = "devices/${clientid}/commands", qos = 1 },
    { filter = "users/${username}/news", qos = 0, retain_as_published = true },
    { filter = "forbidden/all" },
]"#;

fn auto_instance() -> (Instance, Broker) {
    let instance = Instance::create();
    instance.user("ann");
    for rule in ["allow all devices/# --to user:ann", "allow all users/# --to user:ann"] {
        instance.acl(rule);
    }
    let broker = instance.run(&[&AUTO.replace('\n', "")]);
    (instance, broker)
}

fn ann(case: &Case<'_>, name: &str) -> Connect {
    case.connect(name).login("ann", "ann-password")
}

#[test]
fn clients_are_subscribed_to_what_the_operator_arranged_and_they_may_have() {
    let (_instance, broker) = auto_instance();
    each(&broker, |case| {
        let commands = format!("devices/{}/commands", case.client_id("d"));
        let mut publisher = case.open(&ann(case, "p"));
        publisher.publish_message(Publish::new(&commands, "kept").qos(1, 0).retain());
        let connect = ann(case, "d").persistent();
        let mut device = case.open(&connect);
        let got = device.message();
        assert_eq!((&*got.text(), got.qos, got.retain), ("kept", 1, true));
        publisher.publish(&commands, "live", 2);
        assert_eq!((&*device.message().text(), device.ping().len()), ("live", 0));
        publisher.publish_message(Publish::new("users/ann/news", "n").retain());
        let news = device.message();
        assert_eq!((&*news.topic, news.qos, news.retain), ("users/ann/news", 0, true));
        publisher.publish("forbidden/all", "x", 1);
        device.assert_quiet();
        // A session that comes back has them already: nothing is doubled, nothing sent again.
        device.cut();
        let (mut device, connack) = case.open_with(&connect);
        assert!(connack.session_present);
        device.assert_quiet();
        publisher.publish(&commands, "again", 1);
        assert_eq!(device.message().text(), "again");
        device.assert_quiet();
        // It can be left as any subscription.
        device.unsubscribe(&commands);
        publisher.publish(&commands, "gone", 1);
        device.assert_quiet();
        for topic in [&*commands, "users/ann/news"] {
            publisher.publish_message(Publish::new(topic, "").qos(1, 0).retain());
        }
        let deadline = Instant::now() + DEADLINE;
        while !broker.log().contains("[[auto_subscribe]]") {
            assert!(Instant::now() < deadline, "what is refused is told");
            device.ping();
        }
    });
}

/// A value with `+`, `#` or `/` would be another filter than the one that was arranged.
#[test]
fn a_client_identifier_that_is_no_level_binds_no_variable() {
    let (_instance, broker) = auto_instance();
    each(&broker, |case| {
        let mut publisher = case.open(&ann(case, "p"));
        for id in ["+", "#", "a/b", "+/commands"] {
            let mut connect = ann(case, "");
            connect.client_id = id.into();
            let mut device = case.open(&connect);
            for topic in ["devices/x/commands", "devices/a/b/commands", "devices/commands"] {
                publisher.publish(topic, "x", 1);
            }
            device.assert_quiet();
            publisher.publish("users/ann/news", id, 0);
            assert_eq!(device.message().text(), id, "the others hold");
            device.disconnect();
        }
    });
}

#[test]
fn response_information_is_told_to_those_who_ask_3_1_2_28() {
    let broker = Broker::dev_with(&["--set", "topics.response_information=responses/here"]);
    each(&broker, |case| {
        if !case.version.is_v5() {
            return;
        }
        let told = |properties: &[Property]| {
            let connect = properties.iter().cloned().fold(case.connect("a"), Connect::property);
            case.open_with(&connect).1.find(|property| match property {
                Property::ResponseInformation(text) => Some(text.clone()),
                _ => None,
            })
        };
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[Property::RequestResponseInformation(0)]), None);
        let asks = Property::RequestResponseInformation(1);
        assert_eq!(told(std::slice::from_ref(&asks)).as_deref(), Some("responses/here"));
        // It gives way where it has no room.
        assert_eq!(told(&[asks, Property::MaximumPacketSize(24)]), None);
    });
}

#[test]
fn a_subscription_of_two_names_of_one_topic_is_one() {
    let broker = Broker::dev_with(&["--workers", "1", "--set", &REWRITES.replace('\n', "")]);
    each(&broker, |case| {
        let mut client = case.client("s");
        let both = Subscribe::new(1).filter("inbox", 0).filter("mail", 0);
        assert_eq!(client.suback(&both, 1), [0, 0]);
        client.publish("mail", "x", 0);
        assert_eq!(client.message().text(), "x");
        client.assert_quiet();
        let codes = client.unsuback(&Unsubscribe::new(2).filter("mail").filter("inbox"), 2);
        assert_eq!(codes, if case.version.is_v5() { vec![0, 0x11] } else { vec![] });
    });
}

#[test]
fn a_payload_that_says_it_is_text_and_is_not_is_refused_where_that_is_checked_3_3_2_3_2() {
    let broker = Broker::dev_with(&["--set", "topics.check_payload_format=true"]);
    Case::run(&broker, Version::V5, &|case| {
        let mut subscriber = case.subscriber("s", "t", 0);
        let mut publisher = case.client("p");
        let topic = case.topic("t");
        let payload = |bytes: &[u8], indicator| {
            Publish::new(&topic, bytes).property(Property::PayloadFormat(indicator))
        };
        for qos in [1, 2] {
            assert_eq!(publisher.publish_message(payload(b"\xff", 1).qos(qos, 0)), 0x99);
            assert_eq!(publisher.publish_message(payload(b"\xff", 0).qos(qos, 0)), 0);
            assert_eq!(publisher.publish_message(payload("ü".as_bytes(), 1).qos(qos, 0)), 0);
        }
        publisher.publish_message(payload(b"\xff", 1));
        publisher.publish(&topic, "end", 1);
        let payloads: Vec<_> = (0..5).map(|_| subscriber.message().payload).collect();
        assert_eq!(payloads, [b"\xff", "ü".as_bytes(), b"\xff", "ü".as_bytes(), b"end"]);
    });
}
