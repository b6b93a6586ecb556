//! Shared subscriptions: what becomes of messages whose member leaves, is away, or does not take
//! them [MQTT 4.8.2].
//! What must not live here: how a group chooses (`shared`).

use crate::support::{
    Ack, Broker, Case, Client, Packet, Property, Publish, Version, both, each, v5,
};

fn filter(case: &Case<'_>) -> String {
    format!("$share/g/{}", case.topic("t"))
}

fn member(case: &Case<'_>, name: &str) -> Client {
    let mut client = case.client(name);
    client.subscribe(&filter(case), 2);
    client
}

/// A member whose session outlives its connection.
fn persistent(case: &Case<'_>, name: &str) -> Client {
    let mut client = case.open(&case.connect(name).persistent());
    client.subscribe(&filter(case), 2);
    client
}

fn resume(case: &Case<'_>, name: &str) -> Client {
    case.open(&case.connect(name).persistent().resuming())
}

fn publish(case: &Case<'_>, texts: &[&str], qos: u8) {
    let mut publisher = case.client("publisher");
    for text in texts {
        publisher.publish(&case.topic("t"), text, qos);
    }
}

/// The next message of a member is this one: nothing that is another's came before.
fn next_is(case: &Case<'_>, member: &mut Client, text: &str) {
    publish(case, &[text], 1);
    assert_eq!(member.message().text(), text);
}

#[test]
fn what_a_member_has_not_acknowledged_at_qos_1_goes_to_another_when_its_session_ends() {
    both(|case| {
        let mut first = member(case, "first");
        publish(case, &["1", "2"], 1);
        assert_eq!(first.receive_publish().text(), "1");
        assert_eq!(first.receive_publish().text(), "2");
        let mut second = member(case, "second");
        first.cut();
        let message = second.message();
        assert_eq!((message.text(), message.dup), ("1".to_owned(), false));
        assert_eq!(second.texts(1), ["2"]);
    });
}

#[test]
fn what_waits_for_a_member_that_is_away_goes_to_another_when_its_session_ends() {
    both(|case| {
        for qos in [1, 2] {
            persistent(case, "first").cut();
            publish(case, &["1", "2", "3"], qos);
            let mut second = member(case, "second");
            second.assert_quiet();
            let _clean = case.client("first");
            assert_eq!(second.texts(3), ["1", "2", "3"], "QoS {qos}");
        }
    });
}

#[test]
fn what_waits_behind_the_window_of_a_member_goes_to_another_when_it_unsubscribes() {
    let broker = Broker::dev_with(&["--workers", "4", "--set", "limits.inflight_max=1"]);
    each(&broker, |case| {
        let mut first = member(case, "first");
        publish(case, &["1", "2", "3"], 1);
        let sent = first.receive_publish();
        let mut second = member(case, "second");
        first.unsubscribe(&filter(case));
        assert_eq!(second.texts(2), ["2", "3"]);
        // What was sent is completed [MQTT-3.10.4-3].
        first.acknowledge(&sent);
        first.assert_quiet();
        next_is(case, &mut second, "4");
    });
}

#[test]
fn what_waits_stays_with_the_last_member_when_it_unsubscribes() {
    let broker = Broker::dev_with(&["--workers", "4", "--set", "limits.inflight_max=1"]);
    each(&broker, |case| {
        let mut only = member(case, "only");
        publish(case, &["1", "2"], 1);
        let sent = only.receive_publish();
        only.unsubscribe(&filter(case));
        only.acknowledge(&sent);
        assert_eq!(only.texts(1), ["2"]);
    });
}

#[test]
fn a_qos_2_message_in_flight_waits_for_its_member_4_8_2_4() {
    both(|case| {
        let mut first = persistent(case, "first");
        publish(case, &["1"], 2);
        let sent = first.receive_publish();
        first.cut();
        let mut second = member(case, "second");
        next_is(case, &mut second, "2");
        let mut first = resume(case, "first");
        let again = first.receive_publish();
        assert_eq!((again.text(), again.dup), ("1".to_owned(), true));
        assert_eq!(again.packet_id, sent.packet_id);
        first.acknowledge(&again);
    });
}

#[test]
fn a_qos_2_message_in_flight_ends_with_its_session_4_8_2_5() {
    both(|case| {
        let mut first = persistent(case, "first");
        publish(case, &["1", "2"], 2);
        let (one, two) = (first.receive_publish(), first.receive_publish());
        // One before PUBREC, one after.
        first.send(Ack::Pubrec.encode(one.packet_id));
        first.expect_ack(Ack::Pubrel, one.packet_id);
        assert_eq!(two.text(), "2");
        first.cut();
        let mut second = member(case, "second");
        case.client("first").disconnect();
        next_is(case, &mut second, "3");
        second.assert_quiet();
    });
}

#[test]
fn a_message_that_its_member_rejects_goes_to_nobody_else_4_8_2_6() {
    v5(|case| {
        for (qos, kind) in [(1, Ack::Puback), (2, Ack::Pubrec)] {
            let mut first = member(case, "first");
            publish(case, &["1"], qos);
            let sent = first.receive_publish();
            let mut second = member(case, "second");
            first.send(kind.encode_code(sent.packet_id, 0x83));
            first.assert_quiet();
            first.disconnect();
            next_is(case, &mut second, "2");
            second.assert_quiet();
        }
    });
}

#[test]
fn a_message_that_is_too_large_for_one_member_goes_to_another() {
    v5(|case| {
        let small = case.connect("small").property(Property::MaximumPacketSize(100));
        let mut small = case.open(&small);
        small.subscribe(&filter(case), 2);
        let mut large = member(case, "large");
        let text = "x".repeat(200);
        for qos in 0..3 {
            publish(case, &[&text, &text, &text, &text], qos);
            assert_eq!(large.texts(4), [&*text; 4], "QoS {qos}");
        }
        small.assert_quiet();
    });
}

#[test]
fn a_message_that_no_member_can_take_ends_with_that() {
    v5(|case| {
        let mut members = ["a", "b", "c"].map(|name| {
            let connect = case.connect(name).property(Property::MaximumPacketSize(100));
            let mut client = case.open(&connect);
            client.subscribe(&filter(case), 1);
            client
        });
        publish(case, &[&"x".repeat(200), "fits"], 1);
        let got: Vec<Packet> = members.iter_mut().flat_map(Client::ping).collect();
        let texts: Vec<String> = got
            .iter()
            .filter_map(|packet| match packet {
                Packet::Publish(publish) => Some(publish.text()),
                _ => None,
            })
            .collect();
        assert!(texts.is_empty() || texts == ["fits"], "{texts:?}");
    });
}

#[test]
fn a_member_whose_queue_is_full_leaves_messages_to_others() {
    let settings = "limits.queue_messages_max=1";
    let arguments = ["--workers", "4", "--set", settings, "--set", "limits.inflight_max=1"];
    let broker = Broker::dev_with(&arguments);
    each(&broker, |case| {
        let mut first = member(case, "first");
        publish(case, &["1", "2"], 1);
        let sent = first.receive_publish();
        let mut second = member(case, "second");
        for number in 3..9 {
            next_is(case, &mut second, &number.to_string());
        }
        first.acknowledge(&sent);
        assert_eq!(first.texts(1), ["2"]);
    });
}

#[test]
fn a_member_that_is_away_gets_messages_only_if_nobody_is_there() {
    both(|case| {
        persistent(case, "away").cut();
        let mut there = member(case, "there");
        for number in 0..6 {
            next_is(case, &mut there, &number.to_string());
        }
        publish(case, &["qos 0"], 0);
        assert_eq!(there.texts(1), ["qos 0"]);
        there.unsubscribe(&filter(case));
        publish(case, &["kept", "also kept"], 1);
        let mut away = resume(case, "away");
        assert_eq!(away.texts(2), ["kept", "also kept"]);
        there.assert_quiet();
    });
}

#[test]
fn a_member_that_moves_to_another_worker_stays_one_member() {
    let broker = Broker::dev_with(&["--workers", "4"]);
    each(&broker, |case| {
        let mut first = persistent(case, "first");
        for number in 0..12 {
            publish(case, &[&number.to_string()], 1);
            let sent = first.receive_publish();
            assert_eq!(sent.text(), number.to_string());
            // The next connection is on another worker, since this one is still there.
            let mut next = resume(case, "first");
            let again = next.receive_publish();
            assert_eq!((again.text(), again.dup), (number.to_string(), true));
            next.acknowledge(&again);
            next.assert_quiet();
            first = next;
        }
    });
}

#[test]
fn a_plain_subscription_and_those_of_groups_are_one_copy_each() {
    both(|case| {
        let mut client = case.open(&case.connect("both").persistent());
        client.subscribe(&case.topic("t"), 1);
        client.subscribe(&filter(case), 1);
        client.subscribe(&format!("$share/other/{}", case.topic("t")), 1);
        for qos in [0, 1] {
            publish(case, &["x"], qos);
            assert_eq!(client.texts(3), ["x"; 3], "QoS {qos}");
        }
        client.assert_quiet();
        client.cut();
        publish(case, &["y"], 1);
        let mut client = resume(case, "both");
        assert_eq!(client.texts(3), ["y"; 3]);
        client.assert_quiet();
    });
}

#[test]
fn a_retained_message_reaches_a_group_as_it_is_published_and_never_later() {
    both(|case| {
        let mut first = member(case, "first");
        let mut publisher = case.client("publisher");
        let message = Publish::new(&case.topic("t"), "kept").qos(1, 0).retain();
        publisher.publish_message(message);
        let live = first.message();
        assert_eq!((live.text(), live.retain), ("kept".to_owned(), false));
        let mut second = member(case, "second");
        second.assert_quiet();
        let is_v5 = case.version == Version::V5;
        assert!(is_v5 || !live.dup);
    });
}
