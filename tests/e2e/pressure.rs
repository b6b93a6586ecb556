//! Pressure: queues that are full, clients that do not read, and what is lost first.
//! What must not live here: Receive Maximum and Maximum Packet Size (`flow`).

use std::time::{Duration, Instant};

use crate::support::{
    Ack, Authority, Broker, Case, Client, Endpoint, Instance, Packet, Publish, Version, Will, each,
};

/// How long what is told by the log may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// A throw-away broker with those settings.
fn broker(settings: &[&str]) -> Broker {
    let mut arguments = vec!["--workers", "2"];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    Broker::dev_with(&arguments)
}

fn publish_numbers(client: &mut Client, topic: &str, numbers: std::ops::Range<u32>, qos: u8) {
    for number in numbers {
        client.publish(topic, number.to_string(), qos);
    }
}

/// What a session that was away finds of eight messages when its queue holds five.
#[track_caller]
fn check_policy(policy: &str, expected: [&str; 5]) {
    let policy = format!("limits.queue_policy=\"{policy}\"");
    each(&broker(&["limits.queue_messages_max=5", &policy]), |case| {
        let connect = case.connect("away").persistent();
        let mut away = case.open(&connect);
        away.subscribe(&case.topic("t"), 2);
        away.disconnect();
        let mut publisher = case.client("p");
        // The publisher is not told: its messages were taken.
        for number in 0..8u32 {
            let qos = 1 + u8::try_from(number % 2).unwrap();
            assert!(publisher.publish(&case.topic("t"), number.to_string(), qos) < 0x80);
        }
        let mut back = case.open(&connect.resuming());
        assert_eq!(back.texts(5), expected);
        back.assert_quiet();
    });
}

#[test]
fn drop_oldest_keeps_what_came_last_in_order() {
    check_policy("drop-oldest", ["3", "4", "5", "6", "7"]);
}

#[test]
fn drop_newest_keeps_what_came_first_in_order() {
    check_policy("drop-newest", ["0", "1", "2", "3", "4"]);
}

#[test]
fn disconnect_keeps_what_came_first_for_a_session_that_is_away() {
    check_policy("disconnect", ["0", "1", "2", "3", "4"]);
}

#[test]
fn disconnect_ends_a_connection_whose_queue_is_full_and_keeps_its_session() {
    let settings = [
        "limits.queue_messages_max=3",
        "limits.inflight_max=1",
        "limits.queue_policy=\"disconnect\"",
    ];
    each(&broker(&settings), |case| {
        let connect = case.connect("slow").persistent();
        let mut slow = case.open(&connect);
        slow.subscribe(&case.topic("t"), 1);
        let mut publisher = case.client("p");
        publish_numbers(&mut publisher, &case.topic("t"), 0..4, 1);
        assert!(slow.probe(), "one in flight and three that wait are within the bounds");
        publish_numbers(&mut publisher, &case.topic("t"), 4..5, 1);
        slow.expect_end(&[0x97]);
        let mut back = case.open(&connect.resuming());
        assert_eq!(back.texts(4), ["0", "1", "2", "3"]);
        back.assert_quiet();
        assert_eq!(publisher.publish(&case.topic("t"), "x", 1), 0);
        assert_eq!(back.message().text(), "x", "it goes on");
    });
}

/// Behaviour 59.
#[test]
fn qos_0_is_dropped_before_qos_1_and_what_stays_keeps_its_order() {
    for policy in ["drop-oldest", "drop-newest", "disconnect"] {
        let policy = format!("limits.queue_policy=\"{policy}\"");
        each(&broker(&["limits.queue_bytes_max=1000000", &policy]), |case| {
            let mut slow = case.subscriber("slow", "t", 1);
            let mut quick = case.subscriber("quick", "t", 0);
            let mut publisher = case.client("p");
            let mut sent = Vec::new();
            for number in 0..400u32 {
                // Ten of QoS 1 among four hundred of 64 KiB: those alone would fit its queue.
                let qos = u8::from(number % 40 == 20);
                let mut payload = number.to_be_bytes().to_vec();
                payload.resize(if qos == 1 { 1000 } else { 64 * 1024 }, b'x');
                publisher.publish(&case.topic("t"), &payload, qos);
                assert_eq!(quick.receive_publish().payload[..4], number.to_be_bytes());
                sent.extend((qos == 1).then_some(number));
            }
            let number = |it: &Publish| u32::from_be_bytes(it.payload[..4].try_into().unwrap());
            let (mut qos0, mut qos1) = (Vec::new(), Vec::new());
            while qos1.len() < sent.len() {
                let got = slow.message();
                if got.qos == 1 { &mut qos1 } else { &mut qos0 }.push(number(&got));
            }
            assert_eq!(qos1, sent, "every one, in order");
            assert!(qos0.len() < 390, "{} of QoS 0 came: nothing was full", qos0.len());
            assert!(qos0.is_sorted(), "{qos0:?}");
        });
    }
}

fn counter(instance: &Instance, name: &str) -> u64 {
    instance.json(&["status"])["counters"][name].as_u64().unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn drops_are_counted_by_reason_and_logged_once_a_burst() {
    let instance = Instance::create();
    instance.acl("allow all # --to all");
    let settings = [
        "auth.order=[\"anonymous\"]",
        "access.order=[\"rules\"]",
        "limits.queue_messages_max=2",
        "limits.queue_bytes_max=3000",
    ];
    let broker = instance.run(&settings);
    each(&broker, |case| {
        let before = |name: &str| (name.to_owned(), counter(&instance, name));
        let names = ["messages_dropped", "dropped_acknowledged", "dropped_queue_messages"];
        let mut counts: Vec<(String, u64)> = names.map(before).into();
        counts.push(before("dropped_queue_bytes"));
        let connect = case.connect("away").persistent();
        let mut away = case.open(&connect);
        away.subscribe(&case.topic("t"), 1);
        away.disconnect();
        let mut publisher = case.client("p");
        publish_numbers(&mut publisher, &case.topic("t"), 0..5, 1); // 3 too many
        publisher.publish(&case.topic("t"), vec![b'x'; 4000], 1); // larger than the queue
        let grown: Vec<u64> =
            counts.iter().map(|(name, before)| counter(&instance, name) - before).collect();
        assert_eq!(grown, [4, 4, 3, 1], "{counts:?}");
        let client_id = case.client_id("away");
        let told = |what: &str| {
            broker.log().lines().filter(|it| it.contains(what) && it.contains(&client_id)).count()
        };
        // Lines are written together, a little later than what they tell.
        let await_told = |what: &str| {
            let deadline = Instant::now() + DEADLINE;
            while told(what) == 0 {
                assert!(Instant::now() < deadline, "nothing of {what}");
                counter(&instance, "messages_dropped");
            }
        };
        await_told("queue full");
        let mut back = case.open(&connect.resuming());
        assert_eq!(back.texts(2), ["3", "4"]);
        back.assert_quiet();
        await_told("queue empty again");
        assert_eq!((told("queue full"), told("queue empty again")), (1, 1));
    });
}

/// Behaviour 38: what is in flight when a session is resumed counts against its new maximum.
#[test]
fn a_smaller_receive_maximum_than_what_is_in_flight_is_kept_to_on_resume_4_9_0_1() {
    use crate::support::Property::ReceiveMaximum;
    crate::support::v5(|case| {
        let connect = case.connect("s").persistent();
        let mut first = case.open(&connect.clone().property(ReceiveMaximum(20)));
        first.subscribe(&case.topic("t"), 2);
        let mut publisher = case.client("p");
        for number in 0..12u8 {
            publisher.publish(&case.topic("t"), [number], 1 + number % 2);
        }
        let got: Vec<Publish> = (0..12).map(|_| first.receive_publish()).collect();
        first.cut();
        let resume = connect.resuming().property(ReceiveMaximum(3));
        let mut second = case.open(&resume);
        let mut open = 0;
        for (number, sent) in got.iter().enumerate() {
            if open == 3 {
                second.assert_quiet();
                open = 0;
                for done in &got[number - 3..number] {
                    second.acknowledge(done);
                }
            }
            let again = second.receive_publish();
            assert_eq!((again.packet_id, &again.payload), (sent.packet_id, &sent.payload));
            assert!(again.dup, "[MQTT-3.3.1-1]");
            open += 1;
        }
        got[9..].iter().for_each(|done| second.acknowledge(done));
        second.assert_quiet();
    });
}

/// Behaviour 35: no byte, half a CONNECT, a CONNECT byte by byte.
#[test]
fn a_connection_without_connect_is_closed_in_bounded_time() {
    let broker = broker(&["limits.connect_timeout_seconds=1"]);
    each(&broker, |case: &Case<'_>| {
        let connect = case.connect("half").encode();
        for part in [0, 1, 2, connect.len() / 2, connect.len() - 1] {
            let mut half = case.dial();
            half.send(&connect[..part]);
            half.expect_end(&[]);
        }
        // Bytes that keep coming make it no longer.
        let mut dripping = case.dial();
        let begun = Instant::now();
        let mut long = case.connect(&"x".repeat(10_000)).encode().into_iter();
        while begun.elapsed() < Duration::from_secs(15) {
            let byte = long.next().expect("longer than the test");
            if !dripping.try_send([byte]) {
                return;
            }
            dripping.receive_nothing_for(Duration::from_millis(20));
        }
        panic!("still open");
    });
}

/// Behaviour 36, where the bound is the broker's own.
#[test]
fn what_waits_for_the_window_leaves_one_by_one_as_it_is_acknowledged() {
    each(&broker(&["limits.inflight_max=2"]), |case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let mut publisher = case.client("p");
        for number in 0..6u8 {
            publisher.publish(&case.topic("t"), [number], 1 + number % 2);
        }
        let mut open = std::collections::VecDeque::new();
        for number in 0..6u8 {
            if open.len() == 2 {
                subscriber.assert_quiet();
                let done: Publish = open.pop_front().unwrap();
                if done.qos == 2 && number % 3 == 0 {
                    subscriber.send(Ack::Pubrec.encode(done.packet_id));
                    assert_eq!(subscriber.expect_ack(Ack::Pubrel, done.packet_id), 0);
                    subscriber.assert_quiet();
                    subscriber.send(Ack::Pubcomp.encode(done.packet_id));
                } else {
                    subscriber.acknowledge(&done);
                }
            }
            let next = subscriber.receive_publish();
            assert_eq!(next.payload, [number]);
            open.push_back(next);
        }
    });
}

/// More than a slice, more than a queue holds, for one subscription and for three that overlap.
#[test]
fn every_retained_message_reaches_a_new_subscription_while_others_go_on() {
    each(&broker(&["limits.queue_messages_max=50"]), |case| {
        const TOPICS: usize = 2_000;
        let mut publisher = case.client("p");
        let mut packets = Vec::new();
        for number in 0..TOPICS {
            let topic = case.topic(&format!("r/{}/{number}", number % 7));
            let message = Publish::new(&topic, number.to_string()).retain();
            packets.extend(message.encode(case.version));
        }
        publisher.send(packets);
        publisher.ping();
        for qos in [0, 1] {
            let mut subscriber = case.client("s");
            let mut other = case.subscriber("other", "live", 0);
            subscriber.subscribe(&case.topic("r/#"), qos);
            other.publish(&case.topic("live"), "x", 0);
            other.receive_publish();
            // A topic that is set while it is replayed comes as it is in the end, at the latest.
            publisher.publish_message(
                Publish::new(&case.topic("r/4/1999"), "changed").qos(1, 0).retain(),
            );
            let mut last = std::collections::BTreeMap::new();
            while last.len() < TOPICS || last.values().all(|text| text != "changed") {
                let message = subscriber.message();
                last.insert(message.topic.clone(), message.text());
            }
            // It may come twice, as it is published and as it is retained by then.
            for packet in subscriber.ping() {
                let Packet::Publish(again) = packet else { panic!("{packet:?}") };
                assert_eq!(again.text(), "changed");
            }
            for number in 0..TOPICS - 1 {
                let topic = case.topic(&format!("r/{}/{number}", number % 7));
                assert_eq!(last.get(&topic), Some(&number.to_string()), "{topic}");
            }
            publisher
                .publish_message(Publish::new(&case.topic("r/4/1999"), "1999").qos(1, 0).retain());
        }
    });
}

#[test]
fn no_more_sessions_than_sessions_max_but_who_has_one_comes_back() {
    each(&broker(&["limits.sessions_max=2"]), |case| {
        let connect = case.connect("a").persistent();
        case.open(&connect).disconnect();
        let second = case.client("b");
        let refused = case.try_open(&case.connect("c")).1;
        assert_eq!(refused.code, if case.version.is_v5() { 0x97 } else { 3 });
        case.open(&connect.resuming()).disconnect();
        // A session that has ended makes room, on whichever worker it was.
        second.disconnect();
        let deadline = Instant::now() + DEADLINE;
        while case.try_open(&case.connect("c")).1.code != 0 {
            assert!(Instant::now() < deadline, "no room after a session ended");
        }
        case.client("a").disconnect(); // starts clean: its session ends
    });
}

const MIB: u64 = 1 << 20;

/// 256 MiB are claimed and a KiB comes: that is all it costs, and for a bounded time.
#[test]
fn a_claimed_length_takes_no_memory_and_a_packet_that_stops_or_trickles_in_ends_its_connection() {
    let settings = ["limits.packet_bytes_max=268435460", "limits.frame_timeout_seconds=1"];
    each(&broker(&settings), |case| {
        let mut begun = vec![0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, b't'];
        begun.resize(1024, 0);
        let mut other = case.client("other");
        let mut stopped: Vec<Client> =
            (0..40).map(|number| case.client(&format!("stopped{number}"))).collect();
        let before = case.broker.resident_bytes().unwrap_or(0);
        for client in &mut stopped {
            client.send(&begun);
        }
        other.ping();
        let grown = case.broker.resident_bytes().unwrap_or(0).saturating_sub(before);
        assert!(grown < 16 * MIB, "{} MiB more for 40 claims of 256 MiB", grown / MIB);
        for client in &mut stopped {
            client.expect_end(&[0x83]);
        }
        let mut trickling = case.client("trickling");
        let deadline = Instant::now() + DEADLINE;
        trickling.send(&begun[..8]);
        while trickling.try_send([0]) && trickling.ended_within(Duration::from_millis(50)).is_none()
        {
            assert!(Instant::now() < deadline, "20 bytes a second are taken for ever");
        }
        other.ping();
    });
}

#[test]
fn a_packet_that_takes_long_but_comes_fast_enough_is_taken() {
    each(&broker(&["limits.frame_timeout_seconds=1"]), |case| {
        let mut client = case.client("steady");
        let bytes =
            Publish::new(&case.topic("t"), vec![b'x'; 32_000]).qos(1, 7).encode(case.version);
        let since = Instant::now();
        for part in bytes.chunks(bytes.len() / 50 + 1) {
            client.send(part);
            client.receive_nothing_for(Duration::from_millis(80));
        }
        assert!(since.elapsed() > Duration::from_millis(3_500));
        assert!(client.ack(Ack::Puback, 7) < 0x80);
        // Nothing has begun: silence is no offence without a Keep Alive.
        client.receive_nothing_for(Duration::from_millis(2_500));
        client.ping();
    });
}

/// A client that takes no bytes while they wait for it is cut, and its Will says so.
#[track_caller]
fn check_write_timeout(case: &Case<'_>) {
    let will = Will::new(&case.topic("gone"), "gone");
    let mut never = case.open(&case.connect("never").will(will));
    never.subscribe(&case.topic("flood"), 0);
    let mut reader = case.subscriber("reader", "flood", 0);
    let mut watcher = case.subscriber("watcher", "gone", 0);
    let mut publisher = case.client("p");
    let payload = vec![b'x'; 64 * 1024];
    let begun = Instant::now();
    // More than any socket's buffers take; somebody who reads meanwhile stays.
    for _ in 0..400 {
        publisher.publish(&case.topic("flood"), &payload, 0);
        reader.receive_publish();
    }
    assert_eq!(watcher.message().text(), "gone");
    assert!(begun.elapsed() > Duration::from_secs(1), "it was cut before its time");
    reader.ping();
    drop(never);
}

#[test]
fn a_client_that_takes_no_bytes_is_cut_in_time() {
    each(&broker(&["limits.write_timeout_seconds=1"]), check_write_timeout);
}

#[test]
fn a_client_that_takes_no_bytes_through_tls_is_cut_in_time() {
    let authority = Authority::new("root");
    authority.issue("server");
    let listener = format!(
        "listeners.tls={{ bind = \"127.0.0.1:0\", tls = {} }}",
        authority.tls("server", "")
    );
    let broker = broker(&["limits.write_timeout_seconds=1", &listener]);
    for version in [Version::V3, Version::V5] {
        let endpoint = Endpoint::Tls(broker.address_of("tls"), authority.client());
        check_write_timeout(&Case::at(&broker, version, &endpoint));
    }
}
