//! Keep Alive, PINGREQ and PINGRESP [MQTT 3.1.2.10, 3.12].
//! What must not live here: the Will that follows (`will`).

use std::time::{Duration, Instant};

use crate::support::packet::PINGREQ;
use crate::support::{Packet, Property, both, v5};

#[test]
fn pingreq_is_answered_3_12_4_1() {
    both(|case| {
        let mut client = case.client("a");
        for _ in 0..3 {
            client.send(PINGREQ);
            assert_eq!(client.receive(), Packet::Pingresp);
        }
    });
}

#[test]
fn a_hundred_pings_in_one_segment_get_a_hundred_answers() {
    both(|case| {
        let mut client = case.client("a");
        client.send(PINGREQ.repeat(100));
        for _ in 0..100 {
            assert_eq!(client.receive(), Packet::Pingresp);
        }
    });
}

#[test]
fn many_clients_that_ping_at_once_cost_no_read_buffer_each() {
    const CLIENTS: u64 = 600;
    both(|case| {
        let mut clients: Vec<_> =
            (0..CLIENTS).map(|number| case.client(&number.to_string())).collect();
        let before = case.broker.resident_bytes().unwrap_or(0);
        clients.iter_mut().for_each(|client| client.send(PINGREQ));
        for client in &mut clients {
            assert_eq!(client.receive(), Packet::Pingresp);
        }
        let grown = case.broker.resident_bytes().unwrap_or(0).saturating_sub(before);
        assert!(grown < CLIENTS * 16 * 1024, "{} bytes more for each client", grown / CLIENTS);
    });
}

#[test]
fn silence_of_one_and_a_half_keep_alives_ends_the_connection_3_1_2_22_3_1_2_24() {
    both(|case| {
        let mut client = case.open(&case.connect("a").keep_alive(2));
        let connected = Instant::now();
        client.expect_end(&[0x8d]);
        let took = connected.elapsed();
        assert!(took >= Duration::from_millis(2900), "too early: {took:?}");
        assert!(took <= Duration::from_secs(8), "too late: {took:?}");
    });
}

#[test]
fn any_packet_keeps_the_connection_alive() {
    both(|case| {
        let mut client = case.open(&case.connect("a").keep_alive(1));
        let connected = Instant::now();
        let mut turn = 0;
        while connected.elapsed() < Duration::from_secs(5) {
            assert_eq!(client.receive_within(Duration::from_millis(600)), None);
            turn += 1;
            match turn % 3 {
                0 => client.assert_quiet(),
                1 => client
                    .send(crate::support::Publish::new(&case.topic("t"), "x").encode(case.version)),
                _ => assert_eq!(client.publish(&case.topic("t"), "x", 1) & 0x80, 0),
            }
        }
        client.assert_quiet();
    });
}

#[test]
fn what_the_server_sends_does_not_keep_the_connection_alive() {
    both(|case| {
        let mut silent = case.open(&case.connect("a").keep_alive(1));
        silent.send(
            crate::support::Subscribe::new(1).filter(case.topic("t"), 0).encode(case.version),
        );
        let subscribed = Instant::now();
        let mut publisher = case.client("p");
        let mut watch = case.client("watch");
        while subscribed.elapsed() < Duration::from_secs(4) {
            publisher.publish(&case.topic("t"), "x", 0);
            assert_eq!(watch.receive_within(Duration::from_millis(200)), None);
        }
        silent.expect_end(&[0x8d]);
    });
}

#[test]
fn keep_alive_0_never_ends_the_connection() {
    both(|case| {
        let mut client = case.client("a");
        assert_eq!(client.receive_within(Duration::from_secs(4)), None);
        client.assert_quiet();
    });
}

#[test]
fn a_large_keep_alive_is_kept_or_the_servers_own_is_announced_3_2_2_21_3_2_2_22() {
    v5(|case| {
        let (mut client, connack) = case.open_with(&case.connect("a").keep_alive(65_535));
        let own = connack.find(|property| match property {
            Property::ServerKeepAlive(seconds) => Some(*seconds),
            _ => None,
        });
        assert!(own.is_none_or(|seconds| seconds > 0));
        client.assert_quiet();
    });
}

#[test]
fn a_half_packet_does_not_keep_the_connection_alive_for_ever() {
    both(|case| {
        let mut client = case.open(&case.connect("a").keep_alive(1));
        let begun = Instant::now();
        // A PUBLISH of 200 bytes of which one arrives every 200 ms.
        client.send([0x30, 0xc8, 0x01]);
        while begun.elapsed() < Duration::from_secs(4) {
            if !client.try_send([0]) {
                return;
            }
            if let Some(ended) = client.ended_within(Duration::from_millis(200)) {
                assert!(ended.is_none_or(|code| code == 0x8d), "{ended:?}");
                return;
            }
        }
        panic!("one byte now and then keeps the connection alive");
    });
}
