//! CONNECT and CONNACK [MQTT 3.1, 3.2].
//! What must not live here: what a session keeps (`session`), who may connect (`access`).

use std::thread;
use std::time::{Duration, Instant};

use crate::support::broker::is_foreign;
use crate::support::packet::{PINGREQ, disconnect};
use crate::support::wire::{Version, frame, prefixed};
use crate::support::{
    Ack, Broker, Case, Client, Connect, Packet, Property, Publish, Subscribe, Unsubscribe, Will,
    both, each, v3, v5,
};

/// More than a broker should ever need.
const LONG: Duration = Duration::from_secs(30);

#[test]
fn an_accepted_client_gets_connack_0_without_session_present_3_1_4_5() {
    both(|case| {
        let (mut client, connack) = case.open_with(&case.connect("a"));
        assert!(!connack.session_present, "[MQTT-3.2.2-2]");
        client.assert_quiet();
    });
}

#[test]
fn connack_of_mqtt_5_announces_usable_limits() {
    v5(|case| {
        let (_client, connack) = case.open_with(&case.connect("a"));
        for property in connack.properties {
            match property {
                Property::ReceiveMaximum(0) | Property::MaximumPacketSize(0) => {
                    panic!("{property:?} is a protocol error")
                }
                Property::MaximumQos(2) => panic!("Maximum QoS 2 is a protocol error"),
                Property::MaximumQos(_)
                | Property::RetainAvailable(0)
                | Property::WildcardsAvailable(0)
                | Property::SubscriptionIdsAvailable(0) => {
                    panic!("{property:?}: this broker has it all")
                }
                Property::AssignedClientId(id) => panic!("{id} assigned to a client with an id"),
                _ => {}
            }
        }
    });
}

#[test]
fn connack_answers_nothing_that_was_not_asked_3_1_2_28_4_12_0_6() {
    v5(|case| {
        for asked in [vec![], vec![Property::RequestResponseInformation(0)]] {
            let connect = Connect { properties: asked, ..case.connect("a") };
            let (mut client, connack) = case.open_with(&connect);
            for property in &connack.properties {
                match property {
                    Property::ResponseInformation(_)
                    | Property::AuthMethod(_)
                    | Property::AuthData(_) => panic!("{property:?}"),
                    _ => {}
                }
            }
            client.assert_quiet(); // no AUTH either
        }
    });
}

#[test]
fn client_identifiers_of_1_to_23_alphanumeric_bytes_are_accepted_3_1_3_5() {
    let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    both(|case| {
        for id in ["x", &alphabet[..23], &alphabet[23..46], &alphabet[39..]] {
            case.open(&Connect::new(case.version, id)).disconnect();
        }
    });
}

#[test]
fn client_identifiers_may_be_long_and_hold_any_character() {
    both(|case| {
        for name in ["ü/+#$€😀 \u{feff}", &"long".repeat(50)] {
            case.client(name).disconnect();
        }
    });
}

fn assigned_id(connack: &crate::support::Connack) -> Option<String> {
    connack.find(|property| match property {
        Property::AssignedClientId(id) => Some(id.clone()),
        _ => None,
    })
}

#[test]
fn an_empty_client_identifier_gets_a_unique_one_and_learns_it_3_1_3_6_3_2_2_16() {
    both(|case| {
        let connect = Connect::new(case.version, "");
        let (mut first, connack) = case.open_with(&connect);
        let (mut second, other) = case.open_with(&connect);
        first.assert_quiet();
        second.assert_quiet();
        if case.version.is_v5() {
            let (a, b) = (assigned_id(&connack), assigned_id(&other));
            assert!(a.as_deref().is_some_and(|id| !id.is_empty()), "[MQTT-3.1.3-7] {connack:?}");
            assert_ne!(a, b);
        }
    });
}

#[test]
fn an_assigned_client_identifier_resumes_its_session_3_1_3_7() {
    v5(|case| {
        let connect = Connect::new(case.version, "").resuming().session_expiry(300);
        let (client, connack) = case.open_with(&connect);
        assert!(!connack.session_present);
        client.cut();
        let id = assigned_id(&connack).expect("an assigned identifier");
        let again = Connect::new(case.version, &id).resuming().session_expiry(300);
        let (_client, connack) = case.open_with(&again);
        assert!(connack.session_present);
    });
}

#[test]
fn an_empty_client_identifier_with_clean_session_0_is_refused_3_1_3_8() {
    v3(|case| {
        let (mut client, connack) = case.try_open(&Connect::new(case.version, "").resuming());
        assert_eq!((connack.code, connack.session_present), (2, false));
        assert_eq!(client.rest(), []);
    });
}

#[test]
fn an_unknown_protocol_level_is_refused_and_closed_3_1_2_2() {
    both(|case| {
        for level in [0, 1, 6, 127, 255] {
            let mut connect = case.connect("a");
            connect.level = level;
            let mut client = case.dial();
            client.send(connect.encode());
            let answer = client.rest_bytes();
            let refusals: [&[u8]; 2] = [&[0x20, 2, 0, 1], &[0x20, 3, 0, 0x84, 0]];
            assert!(refusals.contains(&answer.as_slice()), "level {level}: {answer:02x?}");
        }
    });
}

#[test]
fn another_protocol_name_ends_the_connection_3_1_2_1() {
    both(|case| {
        for name in [&b"MQTX"[..], b"", b"mqtt", b"HTTP", b"MQTT\0", b"MQT"] {
            let mut connect = case.connect("a");
            connect.protocol_name = name.to_vec();
            let mut client = case.dial();
            client.send(connect.encode());
            let answer = client.rest_bytes();
            let refusals: [&[u8]; 3] = [&[], &[0x20, 2, 0, 1], &[0x20, 3, 0, 0x84, 0]];
            assert!(refusals.contains(&answer.as_slice()), "{name:?}: {answer:02x?}");
        }
    });
}

#[test]
fn a_port_scanner_speaking_http_is_closed() {
    both(|case| {
        let mut client = case.dial();
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.rest_bytes();
    });
}

/// One malformed CONNECT after the other, each on a connection of its own.
#[track_caller]
fn refused(case: &Case<'_>, codes: &[u8], connects: impl IntoIterator<Item = Vec<u8>>) {
    for (number, bytes) in connects.into_iter().enumerate() {
        eprintln!("{:?} refusal {number}", case.version);
        let mut client = case.dial();
        client.send(bytes);
        client.expect_refusal(codes);
    }
}

#[test]
fn the_reserved_connect_flag_must_be_0_3_1_2_3() {
    both(|case| {
        let mut connect = case.connect("a");
        connect.flip_flags = 1;
        refused(case, &[0x81], [connect.encode()]);
    });
}

#[test]
fn reserved_flags_of_connects_fixed_header_must_be_0_2_1_3_1_2_2_2_2() {
    both(|case| {
        for flags in 1..16 {
            let mut connect = case.connect("a").encode();
            connect[0] |= flags;
            let mut client = case.dial();
            client.send(connect);
            let answer = client.rest_bytes();
            let refusals: [&[u8]; 2] = [&[], &[0x20, 3, 0, 0x81, 0]];
            assert!(refusals.contains(&answer.as_slice()), "flags {flags}: {answer:02x?}");
        }
    });
}

#[test]
fn will_qos_and_will_retain_must_be_0_without_a_will_3_1_2_11_3_1_2_13() {
    both(|case| {
        let flipped = [0x08, 0x10, 0x18, 0x20].map(|flip_flags| {
            let mut connect = case.connect("a");
            connect.flip_flags = flip_flags;
            connect.encode()
        });
        refused(case, &[0x81, 0x82], flipped);
    });
}

#[test]
fn will_qos_3_is_refused_3_1_2_12() {
    both(|case| {
        let connect = case.connect("a").will(Will::new("will", "x").qos(3));
        refused(case, &[0x81], [connect.encode()]);
    });
}

#[test]
fn fields_that_the_flags_promise_must_be_there_3_1_2_9_17_19() {
    both(|case| {
        let missing = [0x04, 0x80, 0xc0].map(|flip_flags| {
            let mut connect = case.connect("a");
            connect.flip_flags = flip_flags;
            connect.encode()
        });
        refused(case, &[0x81, 0x82], missing);
        let mut no_password = case.connect("a");
        (no_password.username, no_password.flip_flags) = (Some(b"user".to_vec()), 0x40);
        refused(case, &[0x81, 0x82], [no_password.encode()]);
    });
}

#[test]
fn fields_that_no_flag_announces_are_refused_3_1_2_16_18() {
    both(|case| {
        let mut trailing = case.connect("a");
        trailing.trailing = vec![0];
        let mut unannounced = case.connect("a").login("user", "password");
        unannounced.flip_flags = 0xc0;
        let mut password = case.connect("a").login("user", "password");
        password.flip_flags = 0x40;
        let packets = [trailing, unannounced, password].map(|connect| connect.encode());
        refused(case, &[0x81, 0x82], packets);
    });
}

#[test]
fn a_password_without_user_name_is_refused_by_3_1_1_and_accepted_by_5_3_1_2_22() {
    both(|case| {
        let mut connect = case.connect("a");
        connect.password = Some(b"secret".to_vec());
        if case.version.is_v5() {
            case.open(&connect);
        } else {
            refused(case, &[], [connect.encode()]);
        }
    });
}

#[test]
fn strings_of_connect_must_be_utf8_without_u0000_1_5_4_1_1_5_4_2() {
    let bad: [&[u8]; 6] =
        [b"a\0b", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\xe2\x82", b"\xf4\x90\x80\x80"];
    both(|case| {
        for text in bad {
            let id = Connect { client_id: text.to_vec(), ..case.connect("a") };
            let user = Connect { username: Some(text.to_vec()), ..case.connect("a") };
            let mut will = Will::new("", "x");
            will.topic = text.to_vec();
            let will = case.connect("a").will(will);
            refused(case, &[0x81, 0x85, 0x90], [id, user, will].map(|connect| connect.encode()));
        }
    });
}

#[test]
fn a_will_topic_must_be_a_topic_name() {
    both(|case| {
        for topic in ["", "a/+", "#", "a/#/b"] {
            let connect = case.connect("a").will(Will::new(topic, "x"));
            refused(case, &[0x81, 0x82, 0x90], [connect.encode()]);
        }
    });
}

#[test]
fn a_truncated_connect_is_malformed_3_1_4_1() {
    both(|case| {
        let connect = case.connect("a").will(Will::new("w", "x")).login("user", "password");
        let whole = connect.encode();
        let body = &whole[2..];
        let truncated = (0..body.len()).map(|length| frame(0x10, &body[..length]));
        for bytes in truncated {
            let mut client = case.dial();
            client.send(bytes);
            let answer = client.rest_bytes();
            let accepted = answer.first() == Some(&0x20) && answer.get(3) == Some(&0);
            assert!(!accepted, "{answer:02x?}");
        }
    });
}

#[test]
fn properties_of_connect_are_checked() {
    use Property::*;
    let cases: Vec<(&[u8], Vec<Property>)> = vec![
        (&[0x82], vec![SessionExpiry(1), SessionExpiry(1)]),
        (&[0x82], vec![ReceiveMaximum(0)]),
        (&[0x82], vec![ReceiveMaximum(1), ReceiveMaximum(1)]),
        (&[0x82], vec![MaximumPacketSize(0)]),
        (&[0x82], vec![MaximumPacketSize(100), MaximumPacketSize(100)]),
        (&[0x82], vec![TopicAliasMaximum(0), TopicAliasMaximum(0)]),
        (&[0x82], vec![RequestProblemInformation(2)]),
        (&[0x82], vec![RequestResponseInformation(2)]),
        (&[0x82], vec![AuthData(b"x".to_vec())]),
        (&[0x81, 0x82], vec![TopicAlias(1)]),
        (&[0x81, 0x82], vec![WillDelay(1)]),
        (&[0x81, 0x82], vec![SubscriptionId(1)]),
        (&[0x81, 0x82], vec![ServerKeepAlive(1)]),
        (&[0x81, 0x82], vec![Raw(vec![0x00])]),
        (&[0x81, 0x82], vec![Raw(vec![0x7f, 1])]),
        (&[0x81], vec![Raw(vec![0x11, 0, 0])]),
        (&[0x81], vec![Raw(vec![0x26, 0, 1, b'a'])]),
        (&[0x81], vec![Raw(vec![0x26, 0, 1, 0, 0, 1, b'a'])]),
        (&[0x81], vec![Raw(vec![0x26, 0, 1, b'a', 0, 1, 0xff])]),
    ];
    v5(|case| {
        for (codes, properties) in &cases {
            eprintln!("{properties:?}");
            let connect = Connect { properties: properties.clone(), ..case.connect("a") };
            refused(case, codes, [connect.encode()]);
        }
    });
}

#[test]
fn properties_of_a_will_are_checked() {
    use Property::*;
    let cases: Vec<(&[u8], Vec<Property>)> = vec![
        (&[0x82], vec![WillDelay(1), WillDelay(1)]),
        (&[0x81, 0x82], vec![PayloadFormat(2)]),
        (&[0x81, 0x82], vec![TopicAlias(1)]),
        (&[0x81, 0x82], vec![SessionExpiry(1)]),
        (&[0x81, 0x82, 0x90], vec![ResponseTopic("a/#".into())]),
    ];
    v5(|case| {
        for (codes, properties) in &cases {
            eprintln!("{properties:?}");
            let will = Will { properties: properties.clone(), ..Will::new("w", "x") };
            refused(case, codes, [case.connect("a").will(will).encode()]);
        }
    });
}

#[test]
fn an_unknown_authentication_method_is_refused_with_0x8c_4_12_0_1() {
    v5(|case| {
        let connect = case.connect("a").property(Property::AuthMethod("SCRAM-UNKNOWN".into()));
        refused(case, &[0x8c], [connect.encode()]);
    });
}

#[test]
fn every_property_that_connect_may_carry_is_accepted() {
    use Property::*;
    v5(|case| {
        let will = Will::new(&case.topic("w"), "x")
            .property(WillDelay(1))
            .property(PayloadFormat(1))
            .property(MessageExpiry(60))
            .property(ContentType("text/plain".into()))
            .property(ResponseTopic("a/b".into()))
            .property(CorrelationData(vec![0, 1]))
            .property(Property::user("a", "1"))
            .property(Property::user("a", "2"));
        let connect = [
            SessionExpiry(1),
            ReceiveMaximum(10),
            MaximumPacketSize(10_000),
            TopicAliasMaximum(10),
            RequestResponseInformation(1),
            RequestProblemInformation(1),
            Property::user("a", "1"),
            Property::user("a", "2"),
        ]
        .into_iter()
        .fold(case.connect("a").will(will), Connect::property);
        case.open(&connect).assert_quiet();
    });
}

#[test]
fn the_first_packet_must_be_a_connect_3_1_0_1() {
    both(|case| {
        let packets = [
            Publish::new("t", "x").encode(case.version),
            Publish::new("t", "x").qos(1, 1).encode(case.version),
            Subscribe::new(1).filter("t", 0).encode(case.version),
            Unsubscribe::new(1).filter("t").encode(case.version),
            PINGREQ.to_vec(),
            Ack::Puback.encode(1),
            Ack::Pubrel.encode(1),
            disconnect(case.version, 0, &[]),
            frame(0x20, &[0, 0]),
            frame(0xf0, &[]),
            frame(0x00, &[]),
        ];
        for packet in packets {
            let mut client = case.dial();
            client.send(packet);
            let said = client.rest_bytes();
            assert!(said.first().is_none_or(|first| *first == 0x20), "{said:02x?}");
        }
    });
}

#[test]
fn a_second_connect_ends_the_connection_3_1_0_2_3_2_0_2() {
    both(|case| {
        let mut client = case.client("a");
        client.send(case.connect("a").encode());
        // No second CONNACK [MQTT-3.2.0-2].
        match client.rest().as_slice() {
            [Packet::Disconnect { code: 0x82, .. }] if case.version.is_v5() => {}
            [] if !case.version.is_v5() => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn what_follows_a_refused_connect_is_ignored_3_1_4_6() {
    both(|case| {
        let mut witness = case.subscriber("w", "#", 0);
        let mut connect = case.connect("a");
        connect.level = 9;
        let publish = Publish::new(&case.topic("a"), "x").encode(case.version);
        let mut client = case.dial();
        client.send([connect.encode(), publish, PINGREQ.to_vec()].concat());
        let said = client.rest_bytes();
        assert!(said.len() <= 5, "{said:02x?}");
        witness.publish(&case.topic("marker"), "marker", 0);
        assert_eq!(witness.message().text(), "marker");
    });
}

#[test]
fn connections_without_a_whole_connect_are_closed_in_bounded_time_3_1_4() {
    if is_foreign() {
        return;
    }
    let broker = Broker::dev();
    let whole = Connect::new(Version::V3, "half").encode();
    thread::scope(|scope| {
        for length in [0, 1, 2, 8, whole.len() - 1] {
            let (address, bytes) = (broker.address, whole[..length].to_vec());
            scope.spawn(move || {
                let mut client = Client::dial(address, Version::V3);
                client.send(bytes);
                assert!(client.rest_bytes().is_empty());
            });
        }
    });
}

#[test]
fn a_flood_of_refused_connections_hurts_nobody() {
    let broker = Broker::dev();
    each(&broker, |case| {
        let mut living = case.subscriber("living", "t", 0);
        let open: Vec<Client> = (0..200)
            .map(|number| {
                let mut client = case.dial();
                client.send(frame(0x10, &prefixed(&[0xff; 100][..number % 100])));
                client
            })
            .collect();
        living.publish(&case.topic("t"), "alive", 0);
        assert_eq!(living.message().text(), "alive");
        for mut client in open {
            client.rest_bytes();
        }
    });
}

#[test]
fn a_listener_takes_no_more_connections_than_it_should_and_others_when_some_are_gone() {
    let settings = ["--workers", "2", "--set", "listeners.mqtt.connections_max=3"];
    let check = |case: &Case<'_>| {
        let mut clients: Vec<Client> =
            (0..3).map(|number| case.client(&number.to_string())).collect();
        let mut refused = Client::dial(case.broker.address, case.version);
        assert_eq!(refused.ended_within(LONG), Some(None));
        clients.remove(1).disconnect();
        let deadline = Instant::now() + LONG;
        // The place is free when the broker has seen the end, which the client can't know.
        loop {
            let mut next = Client::dial(case.broker.address, case.version);
            if next.try_send(case.connect("next").encode()) && next.receive_or_end().is_some() {
                break;
            }
            assert!(Instant::now() < deadline, "no place became free");
        }
        clients.iter_mut().for_each(Client::assert_quiet);
    };
    for version in [Version::V3, Version::V5] {
        Case::run(&Broker::dev_with(&settings), version, &check);
    }
}
