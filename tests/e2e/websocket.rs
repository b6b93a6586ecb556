//! MQTT over WebSocket [MQTT 6]: the upgrade, frames, pings, the end, memory and time.
//! What must not live here: what MQTT itself promises, whatever carries it; those chapters run over
//! WebSocket as they are, by the last test here.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::broker::is_foreign;
use crate::support::packet::{PINGREQ, disconnect};
use crate::support::web_socket::{
    BINARY, CLOSE, Frame, PING, PONG, REQUEST, TEXT, WebSocket, frame,
};
use crate::support::wire::split_frame;
use crate::support::{Broker, Case, Packet, Publish, Subscribe, Will, each, transport};

const MIB: u64 = 1024 * 1024;

/// A broker with a WebSocket listener that is named `ws`.
fn broker(settings: &[&str]) -> Broker {
    let all = ["listeners.ws.bind=127.0.0.1:0", "listeners.ws.transport=ws"];
    let mut arguments = vec!["--workers", "2"];
    for setting in all.iter().chain(settings) {
        arguments.extend(["--set", setting]);
    }
    Broker::dev_with(&arguments)
}

/// Runs the case for 3.1.1 and 5, unless the broker is somebody else's.
#[track_caller]
fn both(settings: &[&str], case: impl Fn(&Case<'_>)) {
    if !is_foreign() {
        each(&broker(settings), case);
    }
}

fn open(case: &Case<'_>) -> WebSocket {
    WebSocket::open(case.broker.address_of("ws"))
}

/// Connected, with the CONNACK read.
#[track_caller]
fn connected(case: &Case<'_>, name: &str) -> WebSocket {
    let mut client = open(case);
    client.send_binary(case.connect(name).encode());
    let connack = packets(case, &client.binary());
    assert!(matches!(connack[..], [Packet::Connack(_)]), "{connack:?}");
    client
}

#[track_caller]
fn subscribed(case: &Case<'_>, name: &str, qos: u8) -> WebSocket {
    let mut client = connected(case, name);
    client.send_binary(Subscribe::new(1).filter(case.topic("t"), qos).encode(case.version));
    let suback = packets(case, &client.binary());
    assert!(matches!(suback[..], [Packet::Suback { .. }]), "{suback:?}");
    client
}

/// All of the bytes, which are whole packets.
#[track_caller]
fn packets(case: &Case<'_>, mut bytes: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let (first, body, taken) = split_frame(bytes).expect("a whole packet");
        packets.push(Packet::decode(case.version, first, body));
        bytes = &bytes[taken..];
    }
    packets
}

/// Reads frames until so many bytes of MQTT have come; how many frames they took.
#[track_caller]
fn read_bytes(client: &mut WebSocket, count: usize) -> (Vec<u8>, usize) {
    let (mut bytes, mut frames) = (Vec::new(), 0);
    while bytes.len() < count {
        bytes.extend(client.binary());
        frames += 1;
    }
    (bytes, frames)
}

fn publish(case: &Case<'_>, payload: impl AsRef<[u8]>) -> Vec<u8> {
    Publish::new(&case.topic("t"), payload).encode(case.version)
}

/// The broker says Close with that code and ends the connection.
#[track_caller]
fn closed_with(client: &mut WebSocket, code: u16) {
    let close = client.frame().expect("a Close before the end");
    assert_eq!(close.close_code(), Some(code));
    assert_eq!(client.frame(), None, "nothing follows a Close");
}

#[test]
fn packets_come_in_binary_frames_6_0_0_1() {
    both(&[], |case| {
        let mut client = subscribed(case, "a", 0);
        client.send_binary(publish(case, "hello"));
        assert_eq!(client.binary(), publish(case, "hello"));
    });
}

#[test]
fn a_text_frame_ends_the_connection_6_0_0_1() {
    both(&[], |case| {
        let mut watcher = case.subscriber("watcher", "will", 0);
        for first in [TEXT, TEXT & !0x80] {
            let mut client = open(case);
            let will = Will::new(&case.topic("will"), "gone");
            client.send_binary(case.connect("a").will(will).encode());
            client.binary();
            client.send(frame(first, PINGREQ));
            closed_with(&mut client, 1003);
            assert_eq!(watcher.message().text(), "gone");
        }
    });
}

#[test]
fn packets_may_be_split_and_joined_anyhow_6_0_0_2() {
    both(&[], |case| {
        let mut client = subscribed(case, "a", 0);
        let message = publish(case, "x".repeat(300));
        // One packet in many messages, each byte in a frame of its own.
        let split: Vec<u8> = message.iter().flat_map(|byte| frame(BINARY, &[*byte])).collect();
        client.send(&split);
        assert_eq!(read_bytes(&mut client, message.len()).0, message);
        // Many packets in one frame, and a last one that goes on in the next.
        let many = message.repeat(10);
        client.send_binary(&many[..many.len() - 5]);
        client.send_binary(&many[many.len() - 5..]);
        assert_eq!(read_bytes(&mut client, many.len()).0, many);
        // One packet in a message of fragments, some of them empty, pings between them.
        let (head, tail) = message.split_at(100);
        let parts = [
            frame(BINARY & !0x80, head),
            frame(PING, b"between"),
            frame(0, b""),
            frame(0x80, tail),
        ];
        client.send(parts.concat());
        let pong = Frame { first: PONG, payload: b"between".to_vec() };
        assert_eq!(client.frame(), Some(pong));
        assert_eq!(read_bytes(&mut client, message.len()).0, message);
        // The same bytes, one by one.
        for byte in parts.concat() {
            client.send([byte]);
        }
        client.frame();
        assert_eq!(read_bytes(&mut client, message.len()).0, message);
    });
}

#[test]
fn a_connect_may_come_with_the_upgrade() {
    both(&[], |case| {
        let connect = frame(BINARY, &case.connect("a").encode());
        let bytes = [REQUEST.as_bytes(), &frame(PING, b"early"), &connect].concat();
        let (mut client, head) = WebSocket::request(case.broker.address_of("ws"), &bytes);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(client.frame().unwrap().payload, b"early");
        assert!(matches!(packets(case, &client.binary())[..], [Packet::Connack(_)]));
    });
}

#[test]
fn what_is_sent_in_one_turn_is_one_frame() {
    both(&[], |case| {
        let mut subscriber = subscribed(case, "s", 0);
        let mut publisher = connected(case, "p");
        let message = publish(case, "x");
        publisher.send_binary(message.repeat(300));
        let (bytes, frames) = read_bytes(&mut subscriber, 300 * message.len());
        assert_eq!(bytes, message.repeat(300));
        // The bytes of one frame may be read, and handled, in a few runs.
        assert!(frames <= 10, "{frames} frames for 300 messages");
    });
}

/// The status line of the answer, and its body.
#[track_caller]
fn refused(address: std::net::SocketAddr, request: &str, status: &str, word: &str) {
    let (client, head) = WebSocket::request(address, request.as_bytes());
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    let body = client.rest();
    assert!(body.contains(word) && body.lines().count() == 1, "{body:?}");
}

/// Not every combination: `upgrade` has those. One of each status over a real socket.
#[test]
fn a_request_that_is_wrong_is_told_why() {
    if is_foreign() {
        return;
    }
    let broker =
        broker(&["listeners.ws.path=/broker", "listeners.ws.origins=[\"https://app.example\"]"]);
    let address = broker.address_of("ws");
    let good = REQUEST.replace("/mqtt", "/broker");
    let with_origin = |origin| good.replace("Host:", &format!("Origin: {origin}\r\nHost:"));
    refused(address, REQUEST, "404", "/broker");
    refused(address, &good.replace("GET", "PUT"), "405", "GET");
    refused(address, "GET /broker HTTP/1.1\r\nHost: h\r\n\r\n", "426", "WebSocket");
    refused(address, &good.replace(": 13", ": 8"), "426", "13");
    refused(address, &good.replace("dGhl", ""), "400", "Sec-WebSocket-Key");
    refused(address, &with_origin("https://evil.example"), "403", "https://evil.example");
    refused(address, &format!("GET /{}", "x".repeat(9000)), "431", "8 KiB");
    refused(address, "\u{10}\u{c}\u{0}\u{4}MQTT", "400", "WebSocket");
    for request in [with_origin("https://app.example"), good] {
        let (_, head) = WebSocket::request(address, request.as_bytes());
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }
}

#[test]
fn the_sub_protocol_must_be_offered_and_is_answered_6_0_0_3_6_0_0_4() {
    both(&[], |case| {
        let address = case.broker.address_of("ws");
        let offer = |offered: &str| REQUEST.replace("Sec-WebSocket-Protocol: mqtt\r\n", offered);
        for offered in ["mqtt", "chat, mqtt", "mqttv3.1, mqtt"] {
            let request = offer(&format!("Sec-WebSocket-Protocol: {offered}\r\n"));
            let (_, head) = WebSocket::request(address, request.as_bytes());
            assert!(head.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{head}");
        }
        let old = offer("Sec-WebSocket-Protocol: mqttv3.1\r\n");
        let (_, head) = WebSocket::request(address, old.as_bytes());
        assert!(head.contains("\r\nSec-WebSocket-Protocol: mqttv3.1\r\n"), "{head}");
        refused(address, &offer("Sec-WebSocket-Protocol: chat\r\n"), "400", "mqtt");
        refused(address, &offer(""), "400", "mqtt");
    });
}

#[test]
fn a_request_that_does_not_end_is_cut_in_time() {
    both(&["limits.connect_timeout_seconds=1"], |case| {
        for begun in ["", "GET /mqtt HTTP/1.1\r\n", REQUEST] {
            let start = Instant::now();
            let stream = std::net::TcpStream::connect(case.broker.address_of("ws")).unwrap();
            // A byte now and then does not help.
            let mut writer = stream.try_clone().unwrap();
            writer.write_all(begun.as_bytes()).unwrap();
            let answered = std::io::read_to_string(stream).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(10), "{begun:?}: {answered}");
        }
    });
}

#[test]
fn a_frame_that_breaks_the_protocol_is_answered_by_its_close() {
    both(&[], |case| {
        for (what, bytes, code) in [
            ("not masked", vec![BINARY, 2, 0xc0, 0], 1002),
            ("reserved bit", frame(BINARY | 0x40, PINGREQ), 1002),
            ("unknown opcode", frame(0x83, b""), 1002),
            ("long ping", frame(PING, &[0; 126]), 1002),
            ("fragmented ping", frame(PING & !0x80, b""), 1002),
            ("continuation of nothing", frame(0x80, b""), 1002),
            ("amid a message", [frame(2, b""), frame(2, b"")].concat(), 1002),
            ("length in eight bytes", [&[BINARY, 0xff][..], &[0; 8]].concat(), 1002),
            ("reason", frame(CLOSE, &[3, 0xe8, 0xff]), 1007),
        ] {
            let mut client = connected(case, "a");
            client.send(&bytes);
            // A header is judged when it is whole.
            client.send([0; 4]);
            let close = client.frame().unwrap_or_else(|| panic!("{what}: no Close"));
            assert_eq!(close.close_code(), Some(code), "{what}");
            assert_eq!(client.frame(), None, "{what}");
        }
    });
}

#[test]
fn a_close_is_answered_and_counts_as_a_lost_connection() {
    both(&[], |case| {
        let mut watcher = case.subscriber("watcher", "will", 0);
        for (close, code) in
            [(&[][..], None), (&[3, 0xe9], Some(1001)), (b"\x0f\xa0bye", Some(4000))]
        {
            let mut client = open(case);
            let will = Will::new(&case.topic("will"), "gone");
            client.send_binary(case.connect("a").will(will).encode());
            client.binary();
            client.send([frame(CLOSE, close), frame(BINARY, PINGREQ)].concat());
            assert_eq!(client.frame().unwrap().close_code(), code);
            assert_eq!(client.frame(), None);
            assert_eq!(watcher.message().text(), "gone");
        }
    });
}

#[test]
fn the_broker_says_close_when_mqtt_has_ended_and_waits_for_the_answer() {
    both(&[], |case| {
        // The client leaves.
        let mut client = connected(case, "a");
        client.send_binary(disconnect(case.version, 0, &[]));
        assert_eq!(client.frame().unwrap().close_code(), Some(1000));
        let answered = Instant::now();
        client.send(frame(CLOSE, &[3, 0xe8]));
        assert_eq!(client.frame(), None);
        assert!(answered.elapsed() < Duration::from_secs(1), "{:?}", answered.elapsed());
        // The broker ends it: the session is taken over.
        let mut older = connected(case, "b");
        let _newer = connected(case, "b");
        if case.version.is_v5() {
            let said = packets(case, &older.binary());
            assert!(matches!(said[..], [Packet::Disconnect { code: 0x8e, .. }]), "{said:?}");
        }
        // Not answered: not waited for without end.
        closed_with(&mut older, 1000);
        // A refused CONNECT.
        let mut refused = open(case);
        refused.send_binary(PINGREQ);
        closed_with(&mut refused, 1000);
    });
}

#[test]
fn a_message_of_megabytes_goes_both_ways() {
    both(&["limits.packet_bytes_max=8388608"], |case| {
        let mut client = subscribed(case, "a", 0);
        let payload: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
        let message = publish(case, &payload);
        client.send_binary(&message);
        assert!(read_bytes(&mut client, message.len()).0 == message, "in one frame");
        let cut = message.chunks(10_000).collect::<Vec<_>>();
        let (last, cut) = cut.split_last().unwrap();
        for (number, part) in cut.iter().enumerate() {
            client.send(frame(if number == 0 { 2 } else { 0 }, part));
        }
        client.send(frame(0x80, last));
        assert!(read_bytes(&mut client, message.len()).0 == message, "in fragments");
    });
}

/// A frame may be longer than any packet, and than memory: it is nothing but a claim.
#[test]
fn a_frame_of_any_length_costs_what_has_come_of_it() {
    both(&[], |case| {
        let mut client = connected(case, "a");
        let before = case.broker.resident_bytes().unwrap_or(0);
        let length = u64::MAX >> 1;
        client.send([&[BINARY, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat());
        for _ in 0..1000 {
            client.send(PINGREQ.repeat(100));
            assert_eq!(read_bytes(&mut client, 200).0, [0xd0, 0].repeat(100));
        }
        let grown = case.broker.resident_bytes().unwrap_or(0).saturating_sub(before);
        assert!(grown < 8 * MIB, "{} KiB more", grown / 1024);
    });
}

#[test]
fn pings_that_nobody_reads_the_answers_of_cost_bounded_memory() {
    both(&[], |case| {
        let mut client = connected(case, "a");
        let before = case.broker.resident_bytes().unwrap_or(0);
        let pings = frame(PING, &[b'x'; 125]).repeat(8000);
        for _ in 0..32 {
            client.send(&pings);
        }
        client.send(frame(PING, b"last"));
        let mut other = connected(case, "b");
        other.send_binary(PINGREQ);
        other.binary();
        let grown = case.broker.resident_bytes().unwrap_or(0).saturating_sub(before);
        assert!(grown < 8 * MIB, "{} MiB more after 32 MiB", grown / MIB);
        // Whoever reads gets the answer to the last one [RFC 6455, section 5.5.3].
        let mut answers = 1;
        while client.frame().expect("a Pong").payload != b"last" {
            answers += 1;
        }
        assert!(answers < 8000 * 32, "{answers}");
        client.send_binary(PINGREQ);
        assert_eq!(client.binary(), [0xd0, 0]);
    });
}

#[test]
fn a_subscriber_that_does_not_read_costs_bounded_memory_and_goes_on_later() {
    both(&[], |case| {
        let mut slow = subscribed(case, "slow", 0);
        let mut publisher = connected(case, "p");
        let before = case.broker.resident_bytes().unwrap_or(0);
        let message = publish(case, vec![b'x'; 64 * 1024]);
        for _ in 0..20 {
            // 8 MiB more; the ping paces the publisher.
            for _ in 0..128 {
                publisher.send_binary(&message);
            }
            publisher.send_binary(PINGREQ);
            assert_eq!(publisher.binary(), [0xd0, 0]);
        }
        let grown = case.broker.resident_bytes().unwrap_or(0).saturating_sub(before);
        assert!(grown < 96 * MIB, "{} MiB more after 160", grown / MIB);
        // It is heard meanwhile, and what it gets is whole.
        slow.send_binary(PINGREQ);
        let mut bytes = Vec::new();
        loop {
            bytes.extend(slow.binary());
            let mut rest = &bytes[..];
            while let Some((first, body, taken)) = split_frame(rest) {
                if first == 0xd0 {
                    return;
                }
                assert_eq!([&message[..message.len() - body.len()], body].concat(), message);
                rest = &rest[taken..];
            }
            bytes = rest.to_vec();
        }
    });
}

/// Chapters that say what MQTT promises, by clients that know nothing of what carries them. Those that
/// mostly wait for time to pass are left out; the variable alone runs them all.
const CHAPTERS: &[&str] = &[
    "disconnect::",
    "malformed::",
    "pipelining::",
    "publish_qos0::",
    "publish_qos1::",
    "publish_qos2::",
    "retained::",
    "session::",
    "shared::",
    "subscribe::",
    "takeover::",
    "unsubscribe::",
    "version_3_1::",
    "will::",
];

#[track_caller]
fn run_chapters(transport: &str) {
    if is_foreign() {
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(CHAPTERS)
        .env(transport::VARIABLE, transport)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let passed = said.split(" passed").next().and_then(|text| text.split(' ').next_back());
    assert!(passed.unwrap().parse::<u32>().unwrap() > 150, "{said}");
}

#[test]
fn the_chapters_of_the_protocol_hold_over_websocket() {
    run_chapters("ws");
}

#[test]
fn the_chapters_of_the_protocol_hold_over_secure_websocket() {
    run_chapters("wss");
}
