//! Will Messages: when they are published, and how [MQTT 3.1.2.5].
//! What must not live here: whether a Will is allowed (`access`).

use std::time::{Duration, Instant};

use crate::support::wire::frame;
use crate::support::{Case, Client, Connect, Property, Publish, Will, both, v5};

fn with_will(case: &Case<'_>) -> Connect {
    case.connect("dying").will(Will::new(&case.topic("will"), "gone"))
}

/// The next message that the watcher gets is `expected`, where "marker" is what is published now.
#[track_caller]
fn next_is(case: &Case<'_>, watcher: &mut Client, expected: &str) {
    if expected == "marker" {
        case.client("marker").publish(&case.topic("will"), "marker", 0);
    }
    assert_eq!(watcher.message().text(), expected);
}

#[test]
fn a_cut_connection_publishes_the_will_3_1_2_8() {
    both(|case| {
        let mut watcher = case.subscriber("w", "will", 2);
        case.open(&with_will(case)).cut();
        let got = watcher.message();
        assert_eq!(got, Publish::new(&case.topic("will"), "gone"));
        next_is(case, &mut watcher, "marker");
    });
}

#[test]
fn a_reset_connection_publishes_the_will_3_1_2_8() {
    both(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        let mut dying = case.open(&with_will(case));
        dying.subscribe(&case.topic("noise"), 0);
        for _ in 0..10 {
            dying.publish(&case.topic("noise"), vec![0; 1000], 0);
        }
        // Closing a socket with unread bytes resets the connection.
        drop(dying);
        next_is(case, &mut watcher, "gone");
    });
}

#[test]
fn a_message_expiry_interval_of_0_is_taken_of_a_will_as_of_a_publish() {
    v5(|case| {
        let mut watcher = case.subscriber("w", "will", 1);
        let topic = case.topic("will");
        let will = Will::new(&topic, "gone")
            .property(Property::user("a", "0"))
            .property(Property::MessageExpiry(0))
            .property(Property::WillDelay(0));
        case.open(&case.connect("dying").will(will)).cut();
        let message = Publish::new(&topic, "gone").qos(1, 0).property(Property::MessageExpiry(0));
        assert!(case.client("p").publish_message(message) < 0x80);
        next_is(case, &mut watcher, "marker"); // what expires at once is for nobody
    });
}

#[test]
fn a_disconnect_drops_the_will_3_14_4_3() {
    both(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        case.open(&with_will(case)).disconnect();
        next_is(case, &mut watcher, "marker");
    });
}

#[test]
fn a_disconnect_without_reason_code_drops_the_will() {
    both(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        let mut dying = case.open(&with_will(case));
        dying.send([0xe0, 0]);
        assert_eq!(dying.rest(), []);
        next_is(case, &mut watcher, "marker");
    });
}

#[test]
fn a_disconnect_with_0x04_publishes_the_will() {
    v5(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        for code in [0x04, 0x80, 0x83] {
            case.open(&with_will(case)).disconnect_with(code, &[]);
            next_is(case, &mut watcher, "gone");
        }
    });
}

#[test]
fn a_protocol_error_publishes_the_will_3_1_2_8() {
    both(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        for bytes in [frame(0x00, &[]), frame(0x36, &[0, 1, b'a', 0, 1]), with_will(case).encode()]
        {
            let mut dying = case.open(&with_will(case));
            dying.send(bytes);
            dying.rest();
            next_is(case, &mut watcher, "gone");
        }
    });
}

#[test]
fn a_silent_client_publishes_its_will_3_1_2_24() {
    both(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        let mut dying = case.open(&with_will(case).keep_alive(1));
        next_is(case, &mut watcher, "gone");
        dying.rest();
    });
}

#[test]
fn a_taken_over_connection_publishes_the_will_3_1_4_3() {
    both(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        let mut dying = case.open(&with_will(case));
        let _successor = case.client("dying");
        dying.rest();
        next_is(case, &mut watcher, "gone");
    });
}

#[test]
fn a_will_has_the_qos_and_the_properties_that_it_was_given_3_1_2_14_3_1_3_10() {
    both(|case| {
        let mut watcher = case.subscriber("w", "will", 2);
        for qos in 0..3 {
            let mut will = Will::new(&case.topic("will"), "gone").qos(qos);
            if case.version.is_v5() {
                will.properties = vec![
                    Property::PayloadFormat(1),
                    Property::ContentType("t".into()),
                    Property::ResponseTopic("r".into()),
                    Property::CorrelationData(vec![1]),
                    Property::user("b", "1"),
                    Property::user("a", "2"),
                    Property::user("b", "1"),
                ];
            }
            let sent = will.properties.clone();
            case.open(&case.connect("dying").will(will)).cut();
            let got = watcher.message();
            assert_eq!((got.qos, got.retain), (qos, false));
            assert_eq!(got.properties.len(), sent.len());
            let user = |p: &&Property| matches!(p, Property::UserProperty(_));
            let users: Vec<_> = got.properties.iter().filter(user).collect();
            assert_eq!(users, sent.iter().filter(user).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_retained_will_is_kept_3_1_2_17_3_1_2_15() {
    both(|case| {
        let mut watcher = case.subscriber("w", "will", 1);
        let will = Will::new(&case.topic("will"), "gone").qos(1).retain();
        case.open(&case.connect("dying").will(will)).cut();
        assert!(!watcher.message().retain);
        let kept = case.subscriber("later", "will", 1).message();
        assert_eq!((kept.retain, kept.text().as_str()), (true, "gone"));
        // An empty retained Will deletes it [MQTT-3.3.1-6].
        let empty = Will::new(&case.topic("will"), "").qos(1).retain();
        case.open(&case.connect("dying").will(empty)).cut();
        assert_eq!(watcher.message().text(), "");
        case.subscriber("later", "will", 1).assert_quiet();
    });
}

#[test]
fn a_will_without_retain_is_not_kept_3_1_2_16() {
    both(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        case.open(&with_will(case)).cut();
        next_is(case, &mut watcher, "gone");
        case.subscriber("later", "will", 0).assert_quiet();
    });
}

#[test]
fn a_will_is_published_once_3_1_2_10() {
    both(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        let connect = with_will(case).persistent();
        case.open(&connect).cut();
        next_is(case, &mut watcher, "gone");
        // The next connection has no Will: nothing is left of the first one's.
        case.open(&case.connect("dying").persistent()).cut();
        next_is(case, &mut watcher, "marker");
    });
}

#[test]
fn a_client_gets_its_own_will_when_it_comes_back() {
    both(|case| {
        let will = Will::new(&case.topic("will"), "gone").qos(1);
        let connect = case.connect("dying").persistent().will(will);
        let mut dying = case.open(&connect);
        dying.subscribe(&case.topic("will"), 1);
        dying.cut();
        let mut back = case.open(&connect);
        assert_eq!(back.message().text(), "gone");
        back.disconnect_with(0, &[Property::SessionExpiry(0)]);
    });
}

fn delayed(case: &Case<'_>, delay: u32, session: u32) -> Connect {
    let will = Will::new(&case.topic("will"), "gone").property(Property::WillDelay(delay));
    case.connect("dying").resuming().session_expiry(session).will(will)
}

#[test]
fn a_delayed_will_waits_3_1_3_9() {
    v5(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        case.open(&delayed(case, 1, 100)).cut();
        let cut = Instant::now();
        next_is(case, &mut watcher, "marker");
        next_is(case, &mut watcher, "gone");
        assert!(cut.elapsed() >= Duration::from_millis(900), "after {:?}", cut.elapsed());
    });
}

#[test]
fn a_delayed_will_comes_when_the_session_ends_first_3_1_2_8() {
    v5(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        case.open(&delayed(case, 1000, 1)).cut();
        next_is(case, &mut watcher, "marker");
        next_is(case, &mut watcher, "gone");
        // A session that ends with its connection does not wait at all.
        case.open(&delayed(case, 1000, 0)).cut();
        next_is(case, &mut watcher, "gone");
    });
}

#[test]
fn coming_back_in_time_cancels_a_delayed_will_3_1_3_9() {
    v5(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        case.open(&delayed(case, 2, 100)).cut();
        let mut back = case.open(&case.connect("dying").persistent());
        assert_eq!(watcher.receive_within(Duration::from_secs(3)), None);
        back.assert_quiet();
    });
}

#[test]
fn a_clean_start_ends_the_session_and_publishes_its_delayed_will() {
    v5(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        case.open(&delayed(case, 1000, 1000)).cut();
        let _fresh = case.client("dying");
        next_is(case, &mut watcher, "gone");
    });
}

#[test]
fn taking_over_a_connection_cancels_its_delayed_will_only_when_the_session_goes_on_3_1_4_3() {
    v5(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        let mut dying = case.open(&delayed(case, 1000, 1000));
        let resumed = case.open(&case.connect("dying").persistent());
        dying.rest();
        next_is(case, &mut watcher, "marker");
        resumed.disconnect();
        let mut dying = case.open(&delayed(case, 1000, 1000));
        let _fresh = case.client("dying");
        dying.rest();
        next_is(case, &mut watcher, "gone");
    });
}

#[test]
fn a_disconnect_that_ends_the_session_drops_a_delayed_will() {
    v5(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        let end = Property::SessionExpiry(0);
        case.open(&delayed(case, 1, 1000)).disconnect_with(0, std::slice::from_ref(&end));
        next_is(case, &mut watcher, "marker");
        // With 0x04 the Will is wanted, and the end of the session is its time.
        case.open(&delayed(case, 1000, 1000)).disconnect_with(4, &[end]);
        next_is(case, &mut watcher, "gone");
    });
}

#[test]
fn the_expiry_of_a_will_starts_when_it_is_published() {
    v5(|case| {
        let mut watcher = case.subscriber("w", "will", 0);
        let will = Will::new(&case.topic("will"), "gone").property(Property::MessageExpiry(100));
        case.open(&case.connect("dying").will(will)).cut();
        let got = watcher.message();
        assert!(matches!(got.properties[..], [Property::MessageExpiry(95..=100)]), "{got:?}");
    });
}
