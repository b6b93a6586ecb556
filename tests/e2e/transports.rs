//! The same behaviour whatever carries it: chosen cases over TCP, TLS, and a Unix socket.
//! What must not live here: what only one of them does (`tls`, `unix`).

use std::time::Duration;

use crate::support::packet::PINGREQ;
use crate::support::{Ack, Authority, Broker, Case, Endpoint, Packet, Publish, Version};

/// One broker with a listener of each transport. Listeners take packets of 8 MiB.
struct Transports {
    broker: Broker,
    endpoints: Vec<Endpoint>,
    _directory: tempfile::TempDir,
}

impl Transports {
    fn start() -> Self {
        let authority = Authority::new("root");
        authority.issue("server");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mqtt.sock");
        let tls = format!(
            "listeners.tls={{ bind = \"127.0.0.1:0\", tls = {} }}",
            authority.tls("server", "")
        );
        let unix = format!("listeners.unix={{ bind = \"unix:{}\" }}", path.display());
        let packets = "limits.packet_bytes_max=8388608";
        let settings = ["--workers", "2", "--set", &tls, "--set", &unix, "--set", packets];
        let broker = Broker::dev_with(&settings);
        let endpoints = vec![
            Endpoint::Tcp(broker.address),
            Endpoint::Tls(broker.address_of("tls"), authority.client()),
            Endpoint::Unix(path),
        ];
        Self { broker, endpoints, _directory: directory }
    }
}

/// Runs the case for 3.1.1 and 5 on each transport.
#[track_caller]
fn on_each(case: impl Fn(&Case<'_>)) {
    let transports = Transports::start();
    for endpoint in &transports.endpoints {
        for version in [Version::V3, Version::V5] {
            struct Told<'a>(&'a Endpoint, Version);
            impl Drop for Told<'_> {
                fn drop(&mut self) {
                    if std::thread::panicking() {
                        eprintln!("failed on {:?} over {:?}", self.1, self.0);
                    }
                }
            }
            let _told = Told(endpoint, version);
            case(&Case::at(&transports.broker, version, endpoint));
        }
    }
}

#[test]
fn messages_of_every_qos_arrive_in_order() {
    on_each(|case| {
        let mut subscriber = case.subscriber("in", "#", 2);
        let mut publisher = case.client("out");
        for qos in 0..3 {
            let texts: Vec<String> = (0..50).map(|number| format!("{qos}-{number}")).collect();
            for text in &texts {
                publisher.publish(&case.topic("t"), text, qos);
            }
            assert_eq!(subscriber.texts(50), texts);
        }
    });
}

#[test]
fn a_retained_message_is_kept_and_deleted() {
    on_each(|case| {
        let mut publisher = case.client("out");
        publisher.publish_message(Publish::new(&case.topic("t"), "kept").qos(1, 0).retain());
        let mut subscriber = case.subscriber("in", "t", 1);
        assert_eq!(subscriber.message().text(), "kept");
        publisher.publish_message(Publish::new(&case.topic("t"), "").qos(1, 0).retain());
        case.subscriber("late", "t", 1).assert_quiet();
    });
}

#[test]
fn a_second_connection_takes_the_session_over() {
    on_each(|case| {
        let mut first = case.client("same");
        let mut second = case.client("same");
        first.expect_end(&[0x8e]); // [MQTT-3.1.4-3]
        second.assert_quiet();
    });
}

#[test]
fn a_session_outlives_its_connection_and_moves_between_transports() {
    let transports = Transports::start();
    for version in [Version::V3, Version::V5] {
        let first = Case::at(&transports.broker, version, &transports.endpoints[0]);
        let connect = first.connect("kept").persistent();
        let mut client = first.open(&connect);
        client.subscribe(&first.topic("t"), 1);
        for endpoint in &transports.endpoints {
            client.disconnect();
            let mut publisher = first.client("out");
            publisher.publish(&first.topic("t"), "waiting", 1);
            let next = Case::at(&transports.broker, version, endpoint);
            let (resumed, connack) = next.open_with(&connect);
            assert!(connack.session_present, "[MQTT-3.2.2-3] over {endpoint:?}");
            client = resumed;
            assert_eq!(client.message().text(), "waiting");
        }
    }
}

#[test]
fn what_is_no_mqtt_ends_the_connection() {
    on_each(|case| {
        let mut client = case.client("one");
        client.send([0xf0, 0x01]);
        if case.version.is_v5() {
            client.send([0x00]);
        }
        client.send([0x00]);
        client.expect_end(&[0x81, 0x82]);
        let mut stranger = case.dial();
        stranger.send(PINGREQ);
        assert_eq!(stranger.rest_bytes(), b"", "[MQTT-3.1.0-1]");
    });
}

#[test]
fn a_payload_of_megabytes_arrives_whole() {
    on_each(|case| {
        let mut subscriber = case.subscriber("in", "t", 1);
        let mut publisher = case.client("out");
        let payload: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        for qos in 0..2 {
            publisher.publish(&case.topic("t"), &payload, qos);
            let message = subscriber.message();
            assert!(message.payload == payload, "{} bytes came", message.payload.len());
        }
    });
}

#[test]
fn a_slow_reader_gets_everything_of_qos_1_and_its_pings_are_answered() {
    on_each(|case| {
        let mut subscriber = case.subscriber("in", "t", 1);
        let mut publisher = case.client("out");
        let payload = vec![b'x'; 100_000];
        // More than the sockets hold; nothing is read of it meanwhile.
        for number in 0..60_u8 {
            let text = [&[number], payload.as_slice()].concat();
            publisher.publish(&case.topic("t"), text, 1);
        }
        subscriber.send(PINGREQ);
        let mut numbers = Vec::new();
        let mut is_answered = false;
        while numbers.len() < 60 {
            match subscriber.receive() {
                Packet::Publish(publish) => {
                    numbers.push(publish.payload[0]);
                    subscriber.acknowledge(&publish);
                }
                Packet::Pingresp => is_answered = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(numbers, (0..60).collect::<Vec<u8>>());
        if !is_answered {
            assert_eq!(subscriber.receive(), Packet::Pingresp);
        }
    });
}

#[test]
fn a_client_that_falls_silent_is_cut_after_its_keep_alive() {
    on_each(|case| {
        let mut connect = case.connect("silent");
        connect.keep_alive = 1;
        let mut client = case.open(&connect);
        let ended = client.ended_within(Duration::from_secs(10));
        assert!(ended.is_some(), "[MQTT-3.1.2-22] still connected");
    });
}

#[test]
fn a_client_that_ends_its_side_first_gets_the_answers_to_what_it_has_sent() {
    on_each(|case| {
        let mut client = case.dial();
        let subscribe = crate::support::Subscribe::new(1).filter(case.topic("t"), 1);
        let publish = Publish::new(&case.topic("t"), "own").qos(1, 2);
        client.send(
            [
                case.connect("short").encode(),
                subscribe.encode(case.version),
                publish.encode(case.version),
            ]
            .concat(),
        );
        client.end_sending();
        client.connack();
        let rest = client.rest();
        let has = |pick: &dyn Fn(&Packet) -> bool| rest.iter().any(pick);
        assert!(has(&|packet| matches!(packet, Packet::Suback { .. })), "{rest:?}");
        assert!(has(&|packet| matches!(packet, Packet::Publish(_))), "{rest:?}");
        assert!(has(&|packet| matches!(packet, Packet::Ack { kind: Ack::Puback, .. })), "{rest:?}");
    });
}
