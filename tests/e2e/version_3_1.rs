//! MQTT 3.1: `MQIsdp`, level 3. What it does not share with 3.1.1.
//! What must not live here: what holds for 3.1.1 as well.

use crate::support::broker::is_foreign;
use crate::support::{Case, Client, Connect, Instance, Publish, Subscribe, Version, v3};

fn as_3_1(mut connect: Connect) -> Connect {
    connect.protocol_name = b"MQIsdp".to_vec();
    connect.level = 3;
    connect
}

/// Sends the CONNECT; the two bytes of CONNACK.
fn answer(case: &Case<'_>, connect: &Connect) -> (Client, bool, u8) {
    let mut client = case.dial();
    client.send(connect.encode());
    let connack = client.connack();
    (client, connack.session_present, connack.code)
}

#[test]
fn every_qos_flows_both_ways() {
    v3(|case| {
        let (mut client, _, code) = answer(case, &as_3_1(case.connect("c")));
        assert_eq!(code, 0);
        client.subscribe(&case.topic("t"), 2);
        let mut other = case.subscriber("other", "t", 2);
        for qos in 0..3 {
            client.publish(&case.topic("t"), format!("{qos}"), qos);
        }
        assert_eq!(client.texts(3), ["0", "1", "2"]);
        assert_eq!(other.texts(3), ["0", "1", "2"]);
        client.ping();
        client.disconnect();
    });
}

#[test]
fn a_session_is_resumed_and_connack_does_not_say_so() {
    v3(|case| {
        let connect = as_3_1(case.connect("c").persistent());
        let (mut client, ..) = answer(case, &connect);
        client.subscribe(&case.topic("t"), 1);
        client.disconnect();
        case.client("p").publish(&case.topic("t"), "kept", 1);
        let again = as_3_1(case.connect("c").resuming());
        let (mut client, session_present, code) = answer(case, &again);
        assert_eq!((session_present, code), (false, 0), "a reserved byte in 3.1");
        assert_eq!(client.texts(1), ["kept"]);
    });
}

#[test]
fn its_client_identifier_must_not_be_empty() {
    v3(|case| {
        for clean in [false, true] {
            let empty = Connect::new(case.version, "");
            let connect = as_3_1(if clean { empty } else { empty.resuming() });
            let (mut client, _, code) = answer(case, &connect);
            assert_eq!(code, 2);
            assert_eq!(client.rest(), []);
        }
    });
}

#[test]
fn its_name_and_its_level_go_together() {
    v3(|case| {
        for (name, level) in [("MQIsdp", 4), ("MQIsdp", 5), ("MQTT", 3), ("MQIsdp", 131)] {
            let mut connect = case.connect("a");
            connect.protocol_name = name.into();
            connect.level = level;
            let mut client = case.dial();
            client.send(connect.encode());
            assert_eq!(client.rest_bytes(), [0x20, 2, 0, 1], "{name} {level}");
        }
    });
}

#[test]
fn a_subscription_that_is_denied_gets_nothing_and_no_code_that_3_1_does_not_know() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    instance.user("alice");
    instance.acl("allow publish # --to user:alice");
    let broker = instance.run(&["access.order=[\"rules\"]"]);
    let case = Case::new(&broker, Version::V3);
    let connect = as_3_1(case.connect("a").login("alice", "alice-password"));
    let (mut client, _, code) = answer(&case, &connect);
    assert_eq!(code, 0);
    let subscribe = Subscribe::new(7).filter("t", 2);
    assert_eq!(client.suback(&subscribe, 7), [0]);
    client.publish_message(Publish::new("t", "x").qos(1, 0));
    client.assert_quiet();
}
