//! A client that does what a test says, byte by byte, and gives up at a deadline.
//! What must not live here: expectations of one chapter.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use super::broker::is_foreign;
use super::packet::{Ack, Connack, Connect, PINGREQ, Packet, Publish, Subscribe, Unsubscribe};
use super::property::Property;
use super::stream::{Endpoint, Stream};
use super::wire::{Version, split_frame};

/// How long an answer may take. Generous, because a loaded machine must not fail a test; what must
/// come in time is measured where it matters.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// One Network Connection.
pub(crate) struct Client {
    stream: Stream,
    pub(crate) version: Version,
    inbox: Vec<u8>,
    /// Packets that were read while waiting for another one.
    set_aside: VecDeque<Packet>,
    last_packet_id: u16,
}

/// What comes next from the broker.
#[derive(Debug)]
enum Incoming {
    Packet(Packet),
    End,
    Deadline,
}

impl Client {
    /// A connection on which nothing was sent yet.
    pub(crate) fn dial(endpoint: impl Into<Endpoint>, version: Version) -> Self {
        let stream = Stream::open(&endpoint.into());
        Self { stream, version, inbox: Vec::new(), set_aside: VecDeque::new(), last_packet_id: 0 }
    }

    /// Connects and returns the CONNACK, whatever it says.
    pub(crate) fn try_connect(endpoint: impl Into<Endpoint>, connect: &Connect) -> (Self, Connack) {
        let mut client = Self::dial(endpoint, connect.version);
        client.send(connect.encode());
        let connack = client.connack();
        (client, connack)
    }

    pub(crate) fn connack(&mut self) -> Connack {
        match self.receive() {
            Packet::Connack(connack) => connack,
            other => panic!("[MQTT-3.2.0-1] {other:?} before CONNACK"),
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the broker does not take the bytes");
    }

    /// Sends what the broker may refuse to read to its end.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// How long `try_send` waits for a broker that does not read.
    pub(crate) fn set_write_timeout(&self, wait: Duration) {
        self.stream.set_write_timeout(wait);
    }

    /// Reads and forgets whatever comes from here on, beside what the test does.
    pub(crate) fn discard_what_comes(&self) {
        self.stream.discard_what_comes();
    }

    /// Half-closes: the broker sees the end, this side still reads.
    pub(crate) fn end_sending(&mut self) {
        self.stream.end_sending();
    }

    /// What the handshake found out; `None` without TLS.
    pub(crate) fn tls(&self) -> Option<&rustls::ClientConnection> {
        self.stream.tls()
    }

    fn read_until(&mut self, deadline: Instant) -> Incoming {
        loop {
            if let Some((first, body, taken)) = split_frame(&self.inbox) {
                let packet = Packet::decode(self.version, first, body);
                self.inbox.drain(..taken);
                return Incoming::Packet(packet);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Incoming::Deadline;
            }
            self.stream.set_read_timeout(left);
            let mut chunk = vec![0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return self.ended(),
                Ok(count) => self.inbox.extend_from_slice(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return self.ended(),
                },
            }
        }
    }

    fn ended(&self) -> Incoming {
        assert!(self.inbox.is_empty(), "the connection ended amid a packet: {:02x?}", self.inbox);
        Incoming::End
    }

    /// The next packet, `None` when the connection ended.
    #[track_caller]
    pub(crate) fn receive_or_end(&mut self) -> Option<Packet> {
        if let Some(packet) = self.set_aside.pop_front() {
            return Some(packet);
        }
        match self.read_until(Instant::now() + DEADLINE) {
            Incoming::Packet(packet) => Some(packet),
            Incoming::End => None,
            Incoming::Deadline => panic!("nothing came within {DEADLINE:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn receive(&mut self) -> Packet {
        self.receive_or_end().expect("the broker closed the connection")
    }

    /// What comes within `wait`, `None` when nothing does. For promises about time only.
    #[track_caller]
    pub(crate) fn receive_within(&mut self, wait: Duration) -> Option<Packet> {
        if let Some(packet) = self.set_aside.pop_front() {
            return Some(packet);
        }
        match self.read_until(Instant::now() + wait) {
            Incoming::Packet(packet) => Some(packet),
            Incoming::End => panic!("the broker closed the connection"),
            Incoming::Deadline => None,
        }
    }

    /// Lets that time pass, unless something comes or the connection ends.
    pub(crate) fn receive_nothing_for(&mut self, wait: Duration) {
        self.stream.set_read_timeout(wait);
        let mut chunk = [0; 1024];
        if let Ok(count) = self.stream.read(&mut chunk) {
            self.inbox.extend_from_slice(&chunk[..count]);
        }
    }

    /// Whether the connection lives: a ping is answered, or its end is seen.
    pub(crate) fn probe(&mut self) -> bool {
        self.try_send(PINGREQ);
        loop {
            match self.receive_or_end() {
                Some(Packet::Pingresp) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Whether the connection ended within `wait`: the code of its DISCONNECT, if it had one.
    #[track_caller]
    pub(crate) fn ended_within(&mut self, wait: Duration) -> Option<Option<u8>> {
        let deadline = Instant::now() + wait;
        let mut code = None;
        loop {
            match self.read_until(deadline) {
                Incoming::Packet(Packet::Disconnect { code: said, .. }) => code = Some(said),
                Incoming::Packet(other) => panic!("{other:?}"),
                Incoming::End => return Some(code),
                Incoming::Deadline => return None,
            }
        }
    }

    /// The first packet that `pick` takes; others are set aside in their order.
    #[track_caller]
    pub(crate) fn wait_for<T>(&mut self, mut pick: impl FnMut(&Packet) -> Option<T>) -> T {
        if let Some(at) = self.set_aside.iter().position(|packet| pick(packet).is_some()) {
            let packet = self.set_aside.remove(at).unwrap();
            return pick(&packet).unwrap();
        }
        loop {
            match self.read_until(Instant::now() + DEADLINE) {
                Incoming::Packet(packet) => match pick(&packet) {
                    Some(picked) => return picked,
                    None => self.set_aside.push_back(packet),
                },
                other => panic!("{other:?} instead of what is awaited; came: {:?}", self.set_aside),
            }
        }
    }

    /// The next packet is a PUBLISH; nothing is acknowledged.
    #[track_caller]
    pub(crate) fn receive_publish(&mut self) -> Publish {
        match self.receive() {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?} instead of a PUBLISH"),
        }
    }

    /// The next packet is a PUBLISH, whose delivery is carried to its end.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Publish {
        let publish = self.receive_publish();
        self.acknowledge(&publish);
        publish
    }

    /// Carries the delivery of `publish` to its end.
    #[track_caller]
    pub(crate) fn acknowledge(&mut self, publish: &Publish) {
        match publish.qos {
            0 => {}
            1 => self.send(Ack::Puback.encode(publish.packet_id)),
            _ => {
                self.send(Ack::Pubrec.encode(publish.packet_id));
                assert_eq!(self.ack(Ack::Pubrel, publish.packet_id), 0);
                self.send(Ack::Pubcomp.encode(publish.packet_id));
            }
        }
    }

    /// The topics and payloads of the next `count` messages.
    #[track_caller]
    pub(crate) fn texts(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.message().text()).collect()
    }

    /// Waits for that acknowledgement and returns its Reason Code.
    #[track_caller]
    pub(crate) fn ack(&mut self, kind: Ack, packet_id: u16) -> u8 {
        self.wait_for(|packet| match packet {
            Packet::Ack { kind: k, packet_id: id, code, .. } if *k == kind && *id == packet_id => {
                Some(*code)
            }
            _ => None,
        })
    }

    /// The next packet is that acknowledgement.
    #[track_caller]
    pub(crate) fn expect_ack(&mut self, kind: Ack, packet_id: u16) -> u8 {
        match self.receive() {
            Packet::Ack { kind: k, packet_id: id, code, .. } if k == kind && id == packet_id => {
                code
            }
            other => panic!("{other:?} instead of {kind:?} {packet_id}"),
        }
    }

    pub(crate) fn packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }

    /// Publishes and carries the handshake to its end. The Reason Code of PUBACK or PUBREC.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> u8 {
        self.publish_message(Publish::new(topic, payload).qos(qos, 0))
    }

    /// Publishes that message, with a packet identifier of its own if it has none.
    #[track_caller]
    pub(crate) fn publish_message(&mut self, mut message: Publish) -> u8 {
        if message.qos > 0 && message.packet_id == 0 {
            message.packet_id = self.packet_id();
        }
        let id = message.packet_id;
        self.send(message.encode(self.version));
        match message.qos {
            0 => 0,
            1 => self.ack(Ack::Puback, id),
            _ => {
                let code = self.ack(Ack::Pubrec, id);
                if code < 0x80 {
                    self.send(Ack::Pubrel.encode(id));
                    assert_eq!(self.ack(Ack::Pubcomp, id), 0);
                }
                code
            }
        }
    }

    /// Subscribes to one filter and returns its code.
    #[track_caller]
    pub(crate) fn try_subscribe(&mut self, filter: &str, options: u8) -> u8 {
        let id = self.packet_id();
        let codes = self.suback(&Subscribe::new(id).filter(filter, options), id);
        assert_eq!(codes.len(), 1, "[MQTT-3.8.4-6] one code for one filter");
        codes[0]
    }

    /// Subscribes to one filter and is granted what it asks for.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str, options: u8) {
        assert_eq!(self.try_subscribe(filter, options), options & 3, "SUBSCRIBE {filter}");
    }

    /// Sends it and returns the codes of its SUBACK.
    #[track_caller]
    pub(crate) fn suback(&mut self, subscribe: &Subscribe, packet_id: u16) -> Vec<u8> {
        self.send(subscribe.encode(self.version));
        self.wait_for(|packet| match packet {
            Packet::Suback { packet_id: id, codes, .. } if *id == packet_id => Some(codes.clone()),
            _ => None,
        })
    }

    /// Sends it and returns the codes of its UNSUBACK: none on 3.1.1.
    #[track_caller]
    pub(crate) fn unsuback(&mut self, unsubscribe: &Unsubscribe, packet_id: u16) -> Vec<u8> {
        self.send(unsubscribe.encode(self.version));
        self.wait_for(|packet| match packet {
            Packet::Unsuback { packet_id: id, codes, .. } if *id == packet_id => {
                Some(codes.clone())
            }
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        let id = self.packet_id();
        let codes = self.unsuback(&Unsubscribe::new(id).filter(filter), id);
        assert_eq!(codes, if self.version.is_v5() { vec![0] } else { vec![] });
    }

    /// Pings and returns what came before the answer: all that the broker had for this client.
    #[track_caller]
    pub(crate) fn ping(&mut self) -> Vec<Packet> {
        self.send(PINGREQ);
        let mut before = Vec::new();
        loop {
            match self.receive() {
                Packet::Pingresp => return before,
                packet => before.push(packet),
            }
        }
    }

    /// The connection lives, and the broker had nothing to say on it.
    #[track_caller]
    pub(crate) fn assert_quiet(&mut self) {
        assert_eq!(self.ping(), []);
    }

    /// The broker ends the connection. MQTT 5: after a DISCONNECT with one of `codes`; 3.1.1:
    /// without a word. Messages that were under way are let pass.
    #[track_caller]
    pub(crate) fn expect_end(&mut self, codes: &[u8]) {
        let said = self.rest();
        let code = said.iter().find_map(|packet| match packet {
            Packet::Disconnect { code, .. } => Some(*code),
            _ => None,
        });
        match code {
            Some(code) => assert!(codes.contains(&code), "{code:#04x}, not one of {codes:02x?}"),
            None if codes.is_empty() || !self.version.is_v5() => {}
            None => panic!("[MQTT-4.13.1-1] closed without DISCONNECT ({codes:02x?}): {said:?}"),
        }
        if let (Some(_), Some(last)) = (code, said.last()) {
            assert!(matches!(last, Packet::Disconnect { .. }), "[MQTT-3.14.4-1] {last:?} follows");
        }
    }

    /// The broker refuses the CONNECT that was sent. MQTT 5: by a CONNACK with one of `codes`;
    /// 3.1.1: without a word [MQTT-3.1.4-1]. No DISCONNECT in either [MQTT-3.14.0-1].
    #[track_caller]
    pub(crate) fn expect_refusal(&mut self, codes: &[u8]) {
        let said = self.rest();
        match said.as_slice() {
            [Packet::Connack(connack)] if self.version.is_v5() => {
                assert!(codes.contains(&connack.code), "{connack:?}, not one of {codes:02x?}");
            }
            [] if !self.version.is_v5() || codes.is_empty() || is_foreign() => {}
            _ => panic!("{said:?} instead of a refusal with one of {codes:02x?}"),
        }
    }

    /// All that comes until the connection ends.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<Packet> {
        std::iter::from_fn(|| self.receive_or_end()).collect()
    }

    /// The bytes that come until the connection ends, undecoded.
    #[track_caller]
    pub(crate) fn rest_bytes(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.inbox);
        self.stream.set_read_timeout(DEADLINE);
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("still open after {DEADLINE:?}, sent {bytes:02x?}")
            }
            _ => bytes,
        }
    }

    /// Leaves in the way that drops the Will, and sees the broker close.
    #[track_caller]
    pub(crate) fn disconnect(self) {
        self.disconnect_with(0, &[]);
    }

    /// Leaves with that Reason Code and properties (3.1.1 has neither).
    #[track_caller]
    pub(crate) fn disconnect_with(mut self, code: u8, properties: &[Property]) {
        self.send(super::packet::disconnect(self.version, code, properties));
        while let Some(packet) = self.receive_or_end() {
            assert!(!matches!(packet, Packet::Disconnect { .. }), "{packet:?} to a DISCONNECT");
        }
    }

    /// Cuts the connection without a DISCONNECT and waits until the broker has noticed.
    #[track_caller]
    pub(crate) fn cut(mut self) {
        self.end_sending();
        while self.receive_or_end().is_some() {}
    }
}
