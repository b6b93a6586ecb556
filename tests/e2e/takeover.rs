//! Two connections with one client identifier: exactly one is left [MQTT-3.1.4-3].
//! What must not live here: resuming after the first connection has ended (`session`).

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use crate::support::broker::is_foreign;
use crate::support::client::DEADLINE;
use crate::support::{Ack, Broker, Case, Client, Property, Publish, Version, both, each};

/// Brokers with one and with several workers: a takeover may or may not cross between them.
fn on_one_and_many_workers(case: impl Fn(&Case<'_>)) {
    if is_foreign() {
        return both(case);
    }
    for workers in ["1", "4"] {
        each(&Broker::dev_with(&["--workers", workers]), &case);
    }
}

#[test]
fn the_older_connection_is_told_and_closed_3_1_4_3_3_1_4_2() {
    on_one_and_many_workers(|case| {
        for _ in 0..8 {
            let mut older = case.client("a");
            let mut newer = case.client("a");
            older.expect_end(&[0x8e]);
            newer.assert_quiet();
        }
    });
}

#[test]
fn a_chain_of_takeovers_leaves_the_last() {
    on_one_and_many_workers(|case| {
        let mut chain: Vec<Client> = (0..30).map(|_| case.client("a")).collect();
        let mut last = chain.pop().unwrap();
        for older in &mut chain {
            older.expect_end(&[0x8e]);
        }
        last.subscribe(&case.topic("t"), 1);
        last.publish(&case.topic("t"), "x", 1);
        assert_eq!(last.texts(1), ["x"]);
    });
}

#[test]
fn the_session_moves_to_the_new_connection_with_what_is_unacknowledged() {
    on_one_and_many_workers(|case| {
        let connect = case.connect("s").persistent();
        let mut publisher = case.client("p");
        let mut older = case.open(&connect);
        older.subscribe(&case.topic("t"), 2);
        for round in 0..6 {
            publisher.publish(&case.topic("t"), format!("one {round}"), 1);
            publisher.publish(&case.topic("t"), format!("two {round}"), 2);
            let sent = [older.receive_publish(), older.receive_publish()];
            let (mut newer, connack) = case.open_with(&connect);
            assert!(connack.session_present);
            older.expect_end(&[0x8e]);
            for publish in sent {
                let again = newer.receive_publish();
                assert_eq!(again, publish.dup());
                newer.acknowledge(&again);
            }
            newer.assert_quiet();
            older = newer;
        }
    });
}

#[test]
fn what_the_older_connection_sent_before_is_carried_on_4_3_3_10() {
    on_one_and_many_workers(|case| {
        let mut subscriber = case.subscriber("s", "t", 2);
        let connect = case.connect("p").persistent();
        for _ in 0..4 {
            let mut older = case.open(&connect);
            let publish = Publish::new(&case.topic("t"), "once").qos(2, 9);
            older.send(publish.encode(case.version));
            older.expect_ack(Ack::Pubrec, 9);
            let mut newer = case.open(&connect);
            newer.send(publish.dup().encode(case.version));
            newer.expect_ack(Ack::Pubrec, 9);
            newer.send(Ack::Pubrel.encode(9));
            assert_eq!(newer.expect_ack(Ack::Pubcomp, 9), 0);
            newer.publish(&case.topic("t"), "marker", 2);
            assert_eq!(subscriber.texts(2), ["once", "marker"]);
            newer.disconnect_with(0, &[Property::SessionExpiry(0)]);
        }
    });
}

#[test]
fn a_clean_start_takes_over_without_the_session() {
    on_one_and_many_workers(|case| {
        let connect = case.connect("s").persistent();
        let mut older = case.open(&connect);
        older.subscribe(&case.topic("t"), 1);
        case.client("p").publish(&case.topic("t"), "x", 1);
        older.receive_publish();
        let (mut newer, connack) = case.open_with(&case.connect("s"));
        assert!(!connack.session_present);
        older.expect_end(&[0x8e]);
        newer.assert_quiet();
    });
}

#[test]
fn simultaneous_connects_leave_exactly_one_connection() {
    on_one_and_many_workers(|case| {
        for _ in 0..5 {
            let barrier = Barrier::new(12);
            let mut clients: Vec<Client> = thread::scope(|scope| {
                let connecting: Vec<_> = (0..12)
                    .map(|_| {
                        scope.spawn(|| {
                            let mut client = case.dial();
                            barrier.wait();
                            client.send(case.connect("a").encode());
                            // One that is taken over at once may end before its CONNACK.
                            client.receive_or_end().map(|_| client)
                        })
                    })
                    .collect();
                connecting.into_iter().filter_map(|handle| handle.join().unwrap()).collect()
            });
            // The broker may still be closing the others: those answer once and are gone then.
            let deadline = Instant::now() + DEADLINE;
            loop {
                clients.retain_mut(Client::probe);
                assert!(!clients.is_empty(), "all were closed");
                if clients.len() == 1 {
                    break;
                }
                assert!(Instant::now() < deadline, "{} connections are left", clients.len());
            }
            clients[0].assert_quiet();
        }
    });
}

#[test]
fn no_message_is_lost_or_doubled_while_the_subscriber_is_taken_over_again_and_again() {
    on_one_and_many_workers(|case| {
        let connect = case.connect("s").persistent();
        let mut subscriber = case.open(&connect);
        subscriber.subscribe(&case.topic("t"), 2);
        let mut publisher = case.client("p");
        let topic = case.topic("t");
        let sender = thread::spawn(move || {
            for number in 0..400u32 {
                publisher.publish(&topic, number.to_be_bytes(), 2);
            }
        });
        // Each connection completes some deliveries and leaves one amid its handshake.
        let mut got: Vec<u32> = Vec::new();
        let mut released: Option<u16> = None;
        let mut rounds = 0;
        while got.len() < 400 {
            let mut newer = case.open(&connect);
            rounds += 1;
            if let Some(id) = released.take() {
                newer.wait_for(|packet| match packet {
                    crate::support::Packet::Ack { kind: Ack::Pubrel, packet_id, .. } => {
                        (*packet_id == id).then_some(())
                    }
                    _ => None,
                });
                newer.send(Ack::Pubcomp.encode(id));
            }
            for last in [false, false, true] {
                if got.len() == 400 {
                    break;
                }
                let publish = newer.receive_publish();
                got.push(u32::from_be_bytes(publish.payload.clone().try_into().unwrap()));
                if last {
                    newer.send(Ack::Pubrec.encode(publish.packet_id));
                    newer.ack(Ack::Pubrel, publish.packet_id);
                    released = Some(publish.packet_id);
                } else {
                    newer.acknowledge(&publish);
                }
            }
            subscriber = newer;
        }
        sender.join().unwrap();
        assert!(rounds > 100);
        assert_eq!(got, (0..400).collect::<Vec<_>>());
        drop(subscriber);
    });
}

#[test]
fn a_connection_of_the_other_version_takes_over_too() {
    let broker = Broker::dev();
    let case = Case::new(&broker, Version::V5);
    let mut new = case.client("a");
    let mut old_connect = case.connect("a");
    (old_connect.version, old_connect.level) = (Version::V3, 4);
    let mut old = case.open(&old_connect);
    new.expect_end(&[0x8e]);
    old.assert_quiet();
    let mut new = case.client("a");
    old.expect_end(&[]);
    new.assert_quiet();
}

#[test]
fn other_clients_notice_nothing_of_takeovers() {
    on_one_and_many_workers(|case| {
        let mut subscriber = case.subscriber("other", "t", 1);
        let mut publisher = case.client("p");
        let mut clients = Vec::new();
        for number in 0..50 {
            clients.push(case.client("a"));
            publisher.publish(&case.topic("t"), number.to_string(), 1);
            assert_eq!(subscriber.message().text(), number.to_string());
        }
    });
}
