//! The three bundled plugins, as a client sees them.
//! What must not live here: plugins that misbehave (`plugin_faults`).

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::support::broker::is_foreign;
use crate::support::{Ack, Case, Client, Instance, Packet, Property, Publish, each};

const KEY: &str = "a key of more than sixteen bytes";

/// Runs the case for both versions on an instance with those settings, where everyone may do all
/// that the plugins leave open.
#[track_caller]
fn with(settings: &[&str], case: impl Fn(&Case<'_>)) {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    instance.user("alice");
    instance.acl("allow all open/# --to all");
    each(&instance.run(settings), case);
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// `client_id.expiry.signature`
fn token(key: &str, client_id: &str, expiry: u64) -> String {
    let text = format!("{client_id}.{expiry}");
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    let signature = mac.chain_update(text.as_bytes()).finalize().into_bytes();
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{text}.{hex}")
}

const TOKEN_AUTH: [&str; 4] = [
    "auth.order=[\"plugin:token-auth\", \"password\"]",
    "access.order=[\"rules\"]",
    "plugins.token-auth.bundled=true",
    "plugins.token-auth.config={ key = \"a key of more than sixteen bytes\" }",
];

#[test]
fn token_auth_lets_in_the_client_that_its_token_names() {
    with(&TOKEN_AUTH, |case| {
        let own = case.client_id("device");
        let good = token(KEY, &own, unix_seconds() + 600);
        let mut device = case.open(&case.connect("device").login("any", &good));
        device.subscribe("open/x", 1);
        device.publish("open/x", "x", 1);
        assert_eq!(device.texts(1), ["x"]);
        let signature = good.rsplit('.').next().unwrap();
        let longer = format!("{own}.{}.{signature}", unix_seconds() + 9999);
        for (what, bad) in [
            ("expired", token(KEY, &own, unix_seconds() - 1)),
            ("another key", token("another key of sixteen bytes", &own, unix_seconds() + 600)),
            ("another client", token(KEY, "someone", unix_seconds() + 600)),
            ("longer life", longer),
            ("cut", good[..good.len() - 1].to_owned()),
            ("no signature", format!("{own}.{}", unix_seconds() + 600)),
        ] {
            let (_, connack) = case.try_open(&case.connect("device").login("any", &bad));
            assert_ne!(connack.code, 0, "{what}: {bad}");
        }
        device.assert_quiet();
    });
}

#[test]
fn token_auth_leaves_passwords_to_the_next_in_order() {
    with(&TOKEN_AUTH, |case| {
        case.open(&case.connect("a").login("alice", "alice-password")).assert_quiet();
        let (_, connack) = case.try_open(&case.connect("a").login("alice", "wrong"));
        assert_ne!(connack.code, 0);
        let (_, connack) = case.try_open(&case.connect("a"));
        assert_ne!(connack.code, 0);
    });
}

fn has_reason(properties: &[Property]) -> bool {
    properties.iter().any(|property| matches!(property, Property::ReasonString(_)))
}

#[test]
fn the_reason_of_a_refused_login_is_told_where_it_has_room_3_2_2_19_3_2_2_20() {
    with(&TOKEN_AUTH, |case| {
        if !case.version.is_v5() {
            return;
        }
        let expired = token(KEY, &case.client_id("device"), unix_seconds() - 1);
        let connect = case.connect("device").login("any", &expired);
        let (_, told) = case.try_open(&connect);
        assert!(told.code >= 0x80 && has_reason(&told.properties), "{told:?}");
        let maximum = 24;
        let mut client = case.dial();
        client.send(connect.property(Property::MaximumPacketSize(maximum)).encode());
        let said = client.rest_bytes();
        assert_eq!((said[0], said[3]), (0x20, told.code), "{said:02x?}");
        assert!(said.len() <= maximum as usize, "{said:02x?}");
    });
}

#[test]
fn token_auth_ends_the_connection_when_the_token_expires() {
    with(&TOKEN_AUTH, |case| {
        let short = token(KEY, &case.client_id("device"), unix_seconds() + 2);
        let mut device = case.open(&case.connect("device").login("any", &short));
        device.assert_quiet();
        device.expect_end(&[0x87, 0x98, 0xa0]);
    });
}

const OWN_TOPICS: [&str; 4] = [
    "auth.order=[\"anonymous\"]",
    "access.order=[\"rules\", \"plugin:own-topics\"]",
    "plugins.own-topics.bundled=true",
    "plugins.own-topics.config={ publish = [\"up/${clientid}/#\"], subscribe = [\"down/${clientid}/#\", \"news/#\"] }",
];

#[test]
fn own_topics_knows_the_client_by_its_identifier() {
    with(&OWN_TOPICS, |case| {
        let denied = if case.version.is_v5() { 0x87 } else { 0 };
        let denied_filter = if case.version.is_v5() { 0x87 } else { 0x80 };
        let (own, other) = (case.client_id("a"), case.client_id("b"));
        let mut client = case.client("a");
        // Twice: what is cached is what was decided.
        for _ in 0..2 {
            let mut publish = |topic: &str| client.publish(topic, "x", 1);
            assert!([0, 0x10].contains(&publish(&format!("up/{own}/x"))));
            assert!([0, 0x10].contains(&publish("open/x")), "a rule allows it before");
            assert_eq!(publish(&format!("up/{other}/x")), denied);
            assert_eq!(publish(&format!("down/{own}/x")), denied);
            assert_eq!(publish("news/x"), denied);
        }
        for (filter, granted) in [
            (format!("down/{own}/#"), true),
            (format!("down/{own}/+/x"), true),
            ("news/+/today".to_owned(), true),
            (format!("down/{other}/#"), false),
            ("down/+/x".to_owned(), false),
            ("down/#".to_owned(), false),
            (format!("up/{own}/x"), false),
            ("#".to_owned(), false),
        ] {
            let code = client.try_subscribe(&filter, 1);
            assert_eq!(code, if granted { 1 } else { denied_filter }, "{filter}");
        }
    });
}

#[test]
fn a_rule_that_denies_is_stronger_than_own_topics() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    instance.acl("deny publish up/+/secret --to all");
    each(&instance.run(&OWN_TOPICS), |case| {
        let mut client = case.client("a");
        let own = case.client_id("a");
        let denied = if case.version.is_v5() { 0x87 } else { 0 };
        assert_eq!(client.publish(&format!("up/{own}/secret"), "x", 1), denied);
        assert!([0, 0x10].contains(&client.publish(&format!("up/{own}/x"), "x", 1)));
    });
}

const JSON_STAMP: [&str; 4] = [
    "auth.order=[\"anonymous\"]",
    "access.order=[\"rules\"]",
    "publish.order=[\"plugin:json-stamp\"]",
    "plugins.json-stamp.bundled=true",
];

fn echo(case: &Case<'_>, name: &str) -> Client {
    let mut client = case.client(name);
    client.subscribe("open/#", 2);
    client
}

#[test]
fn json_stamp_adds_time_and_client_to_objects() {
    with(&JSON_STAMP, |case| {
        let mut client = echo(case, "a");
        for qos in 0..3 {
            client.publish("open/x", "{\"value\": 1.50, \"nested\": {\"a\": []}}", qos);
            let got = client.message();
            let json: serde_json::Value = serde_json::from_slice(&got.payload).unwrap();
            assert_eq!(json["value"].to_string(), "1.5", "{json}");
            assert_eq!(json["client_id"], case.client_id("a"));
            let now = unix_seconds() * 1000;
            let stamped = json["received_at"].as_u64().unwrap();
            assert!((now - 60_000..=now + 60_000).contains(&stamped), "{json}");
            assert_eq!(got.qos, qos);
        }
        client.publish("open/x", "{}", 1);
        let json: serde_json::Value = serde_json::from_slice(&client.message().payload).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 2);
    });
}

#[test]
fn json_stamp_refuses_what_is_no_object() {
    with(&JSON_STAMP, |case| {
        let refused = if case.version.is_v5() { 0x99 } else { 0 };
        let mut client = echo(case, "a");
        for payload in ["text", "[1]", "1", "{", "{\"a\":1}}", "\"{}\""] {
            assert_eq!(client.publish("open/x", payload, 1), refused, "{payload}");
            assert_eq!(client.publish("open/x", payload, 2), refused, "{payload}");
            client.publish("open/x", payload, 0);
        }
        client.publish("open/x", "{}", 1);
        assert!(client.message().text().starts_with('{'));
        client.assert_quiet();
    });
}

/// [MQTT-3.1.2-29] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3]
#[test]
fn the_reason_of_a_refused_message_is_told_where_it_is_wanted_and_has_room() {
    with(&JSON_STAMP, |case| {
        if !case.version.is_v5() {
            return;
        }
        let cases = [
            (vec![], true),
            (vec![Property::RequestProblemInformation(1)], true),
            (vec![Property::RequestProblemInformation(0)], false),
            (vec![Property::MaximumPacketSize(20)], false),
        ];
        for (properties, is_told) in cases {
            let connect = crate::support::Connect { properties, ..case.connect("a") };
            let mut client = case.open(&connect);
            for (qos, kind) in [(1, Ack::Puback), (2, Ack::Pubrec)] {
                client.send(Publish::new("open/x", "text").qos(qos, 9).encode(case.version));
                match client.receive() {
                    Packet::Ack { kind: got, packet_id: 9, code: 0x99, properties } => {
                        assert_eq!((got, has_reason(&properties)), (kind, is_told));
                        assert_eq!(properties.len(), usize::from(is_told), "{properties:?}");
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    });
}

#[test]
fn json_stamp_keeps_retained_messages_and_their_deletion() {
    with(&JSON_STAMP, |case| {
        let topic = format!("open/{}", case.client_id("r"));
        let mut client = case.client("a");
        client.publish_message(Publish::new(&topic, "{\"a\":1}").qos(1, 0).retain());
        client.subscribe(&topic, 1);
        let kept = client.message();
        assert!(kept.retain && kept.text().contains("received_at"), "{kept:?}");
        client.publish_message(Publish::new(&topic, "").qos(1, 0).retain());
        assert_eq!(client.message().text(), "");
        client.subscribe(&topic, 1);
        client.assert_quiet();
    });
}

#[test]
fn json_stamp_can_pass_what_is_no_object_and_have_other_names() {
    let config = "plugins.json-stamp.config={ received_at = \"ts\", client_id = \"who\", not_json = \"pass\" }";
    let settings = [&JSON_STAMP[..], &[config]].concat();
    with(&settings, |case| {
        let mut client = echo(case, "a");
        client.publish("open/x", "text", 1);
        assert_eq!(client.texts(1), ["text"]);
        client.publish("open/x", "{\"a\":1}", 1);
        let json: serde_json::Value = serde_json::from_slice(&client.message().payload).unwrap();
        assert_eq!(json["who"], case.client_id("a"));
        assert!(json["ts"].is_u64());
    });
}

#[test]
fn json_stamp_leaves_properties_as_they_were() {
    with(&JSON_STAMP, |case| {
        if !case.version.is_v5() {
            return;
        }
        let mut client = echo(case, "a");
        let message = Publish::new("open/x", "{\"a\":1}")
            .qos(1, 0)
            .property(Property::ContentType("application/json".into()))
            .property(Property::user("a", "b"));
        client.publish_message(message.clone());
        let got = client.message();
        assert_eq!(got.properties.len(), 2);
        assert!(message.properties.iter().all(|property| got.properties.contains(property)));
    });
}

#[test]
fn messages_keep_their_order_through_a_plugin() {
    with(&JSON_STAMP, |case| {
        let mut subscriber = echo(case, "s");
        let mut publisher = case.client("p");
        for number in 0..300u32 {
            let qos = u8::try_from(number % 3).unwrap();
            publisher.publish("open/x", format!("{{\"n\":{number}}}"), qos);
            let json: serde_json::Value =
                serde_json::from_slice(&subscriber.message().payload).unwrap();
            assert_eq!(json["n"], number);
        }
    });
}

#[test]
fn all_three_work_together() {
    let settings = [
        "auth.order=[\"plugin:token-auth\"]",
        "plugins.token-auth.bundled=true",
        "plugins.token-auth.config={ key = \"a key of more than sixteen bytes\" }",
        "publish.order=[\"plugin:json-stamp\"]",
        "plugins.json-stamp.bundled=true",
    ];
    with(&settings, |case| {
        let own = case.client_id("device");
        let password = token(KEY, &own, unix_seconds() + 600);
        let connect = case.connect("device").login("x", &password);
        let mut device = case.open(&connect);
        device.subscribe(&format!("commands/{own}/#"), 1);
        device.subscribe("open/#", 1);
        let denied = if case.version.is_v5() { 0x87 } else { 0 };
        assert_eq!(device.publish("devices/other/x", "{}", 1), denied);
        assert!([0, 0x10].contains(&device.publish(&format!("devices/{own}/x"), "{}", 1)));
        device.publish("open/x", "{}", 1);
        assert!(device.message().text().contains(&own));
    });
}

#[test]
fn the_bundled_plugins_pass_their_own_tests() {
    // A workspace of their own: they are compiled for wasm32, with a lock file of their own.
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/Cargo.toml");
    let output = std::process::Command::new(env!("CARGO"))
        .args(["test", "--locked", "--quiet", "--manifest-path", manifest])
        .output()
        .expect("cargo starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
