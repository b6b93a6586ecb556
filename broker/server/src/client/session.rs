//! One connection as a client has it: CONNECT, Keep Alive, acknowledgements, what the server allows.
//! What must not live here: what becomes of messages, when one connects again.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::Version;

use super::error::{ClientError, Reason};
use super::link::Link;
use super::packet::{self, Connect, Packet, Publish, Step};
use super::property::{Id, Properties};
use super::trace;
use super::transport::Target;

/// What happened on a connection.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message came. With QoS 1 and 2 it is to be acknowledged.
    Message(Publish),
    /// A message of ours went all its way, or was refused.
    Published { packet_id: u16, reason: Reason },
    /// The answer to SUBSCRIBE, a code per filter.
    Subscribed { codes: Vec<u8>, reason: Reason },
    /// The answer to UNSUBSCRIBE, a code per filter; none from 3.1.1.
    Unsubscribed { codes: Vec<u8> },
}

/// What the server's CONNACK allows; what it leaves open is as the specification has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) receive_maximum: u16,
    maximum_qos: u32,
    retain_available: bool,
    packet_bytes_max: u32,
    topic_alias_maximum: u32,
}

/// Where one line per packet goes.
pub(crate) type Trace = fn(&str);

/// How far a message of ours has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// PUBACK or PUBREC is awaited.
    Sent(QoS),
    /// PUBCOMP is awaited.
    Released,
}

/// A connection on which CONNACK came.
pub(crate) struct Client {
    link: Link,
    server: String,
    version: Version,
    terms: Terms,
    session_present: bool,
    keep_alive: Option<KeepAlive>,
    last_id: u16,
    outgoing: HashMap<u16, Stage>,
    /// QoS 2 messages that came and are not released yet [MQTT-4.3.3-2].
    incoming: HashSet<u16>,
    /// Topics by the server's aliases.
    aliases: HashMap<u32, String>,
    trace: Option<Trace>,
}

/// Looks twice in a Keep Alive interval whether something was said and heard [MQTT-3.1.2-20]; no
/// clock is read for a message.
struct KeepAlive {
    every: Duration,
    next: Instant,
    /// Something was sent since the last look.
    spoken: bool,
    /// Looks since PINGREQ was sent without an answer.
    asked: u8,
}

impl KeepAlive {
    fn new(seconds: u32) -> Self {
        let every = Duration::from_secs(seconds.into()) / 2;
        Self { every, next: Instant::now() + every, spoken: false, asked: 0 }
    }
}

impl Terms {
    fn new(properties: &Properties) -> Self {
        let number = |id, default| properties.number(id).unwrap_or(default);
        let receive_maximum = number(Id::RECEIVE_MAXIMUM, u16::MAX.into());
        Self {
            receive_maximum: u16::try_from(receive_maximum).unwrap_or(u16::MAX).max(1),
            maximum_qos: number(Id::MAXIMUM_QOS, 2),
            retain_available: number(Id::RETAIN_AVAILABLE, 1) == 1,
            packet_bytes_max: number(Id::MAXIMUM_PACKET_SIZE, u32::MAX),
            topic_alias_maximum: number(Id::TOPIC_ALIAS_MAXIMUM, 0),
        }
    }

    /// [MQTT-3.2.2-11] [MQTT-3.2.2-14] [MQTT-3.2.2-15] [MQTT-3.2.2-17]
    fn check(self, version: Version, message: &Publish) -> Result<(), String> {
        if message.qos as u32 > self.maximum_qos {
            return Err(format!("the server accepts QoS {0} at most: -q {0}", self.maximum_qos));
        }
        if message.retain && !self.retain_available {
            return Err("the server keeps no retained messages: leave out -r".to_owned());
        }
        let alias = message.properties.number(Id::TOPIC_ALIAS).unwrap_or(0);
        if alias > self.topic_alias_maximum {
            let most = self.topic_alias_maximum;
            return Err(format!("Topic Alias {alias}: the server accepts {most} at most"));
        }
        let bytes = packet::publish_bytes(version, message);
        if bytes > self.packet_bytes_max as usize {
            let most = self.packet_bytes_max;
            return Err(format!(
                "a message of {} bytes: the server accepts packets of {most} bytes at most",
                message.payload.len()
            ));
        }
        Ok(())
    }
}

impl Client {
    /// Connects and waits for CONNACK until `deadline` has passed. `incoming` is what the last
    /// connection of the same session left.
    ///
    /// # Errors
    /// What did not come about.
    pub(crate) async fn connect(
        target: &Target,
        connect: &Connect,
        patience: Duration,
        incoming: HashSet<u16>,
        trace: Option<Trace>,
    ) -> Result<Self, ClientError> {
        let server = target.server();
        let deadline = Instant::now() + patience;
        let late = |_| ClientError::Late { server: server.clone(), seconds: patience.as_secs() };
        let mut link = timeout_at(deadline, target.connect()).await.map_err(late)??;
        if let Some(trace) = trace {
            trace(&trace::connect(connect));
        }
        packet::connect(&mut link.output, connect);
        let answer = first_packet(&mut link, &server, connect.version);
        let packet = timeout_at(deadline, answer).await.map_err(late)??;
        if let Some(trace) = trace {
            trace(&trace::received(&packet));
        }
        let Packet::ConnAck { session_present, code, properties } = packet else {
            if packet == Packet::Auth {
                let error = "the server asks for enhanced authentication, which needs a program \
                             that knows its method";
                return Err(ClientError::NotAccepted(error.to_owned()));
            }
            let what = "another packet than CONNACK".to_owned();
            return Err(ClientError::Protocol { server, what });
        };
        if code != 0 {
            let reason = Reason::of_connack(code, &properties);
            return Err(ClientError::Refused { server, version: connect.version, reason });
        }
        let keep_alive = properties
            .number(Id::SERVER_KEEP_ALIVE)
            .unwrap_or_else(|| connect.keep_alive_seconds.into());
        let incoming = if session_present { incoming } else { HashSet::new() };
        Ok(Self {
            link,
            server,
            version: connect.version,
            terms: Terms::new(&properties),
            session_present,
            keep_alive: (keep_alive > 0).then(|| KeepAlive::new(keep_alive)),
            last_id: 0,
            outgoing: HashMap::new(),
            incoming,
            aliases: HashMap::new(),
            trace,
        })
    }

    pub(crate) const fn terms(&self) -> Terms {
        self.terms
    }

    pub(crate) const fn session_present(&self) -> bool {
        self.session_present
    }

    /// Messages of ours that are not acknowledged.
    pub(crate) fn in_flight(&self) -> usize {
        self.outgoing.len()
    }

    /// Bytes that were not sent yet.
    pub(crate) const fn unsent(&self) -> usize {
        self.link.unsent()
    }

    /// What the next connection of this session has to know.
    pub(crate) fn into_incoming(self) -> HashSet<u16> {
        self.incoming
    }

    /// Appends a message to what is sent and gives it a Packet Identifier.
    ///
    /// # Errors
    /// The server has said that it does not accept such messages.
    pub(crate) fn publish(&mut self, message: &mut Publish) -> Result<(), ClientError> {
        self.terms.check(self.version, message).map_err(ClientError::NotAccepted)?;
        if message.qos > QoS::AtMostOnce {
            message.packet_id = self.next_id();
            self.outgoing.insert(message.packet_id, Stage::Sent(message.qos));
        }
        if let Some(trace) = self.trace {
            trace(&format!("> PUBLISH {}", trace::publish(message)));
        }
        packet::publish(&mut self.link.output, self.version, message);
        self.said();
        Ok(())
    }

    /// Appends SUBSCRIBE.
    pub(crate) fn subscribe(&mut self, filters: &[(String, u8)], properties: &Properties) {
        let id = self.next_id();
        if let Some(trace) = self.trace {
            trace(&format!("> SUBSCRIBE id={id} {}", trace::filters(filters)));
        }
        packet::subscribe(&mut self.link.output, self.version, id, filters, properties);
        self.said();
    }

    /// Appends UNSUBSCRIBE.
    pub(crate) fn unsubscribe(&mut self, filters: &[String], properties: &Properties) {
        let id = self.next_id();
        if let Some(trace) = self.trace {
            trace(&format!("> UNSUBSCRIBE id={id} {}", filters.join(", ")));
        }
        packet::unsubscribe(&mut self.link.output, self.version, id, filters, properties);
        self.said();
    }

    /// Appends PUBACK or PUBREC; whoever calls it has done with the message what is to be done.
    pub(crate) fn acknowledge(&mut self, message: &Publish) {
        let step = match message.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => Step::PubAck,
            QoS::ExactlyOnce => {
                self.incoming.insert(message.packet_id);
                Step::PubRec
            }
        };
        self.step(step, message.packet_id);
    }

    /// Sends all that was appended.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn flush(&mut self) -> Result<(), ClientError> {
        self.link.flush().await.map_err(|error| self.broken(error))
    }

    /// Sends all that was appended and takes what has come, for [`Self::next_event`] to tell.
    ///
    /// # Errors
    /// The connection ended; with the server's words where there are some.
    pub(crate) async fn exchange(&mut self) -> Result<(), ClientError> {
        match self.link.exchange().await {
            Ok(true) => Ok(()),
            Ok(false) => {
                // A DISCONNECT may be among what came last.
                while self.next_event()?.is_some() {}
                Err(ClientError::Closed { server: self.server.clone() })
            }
            Err(error) => Err(self.broken(error)),
        }
    }

    /// The next thing that happens; meanwhile what was appended is sent and the connection kept
    /// alive. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) async fn event(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.next_event()? {
                return Ok(event);
            }
            let turned = match &self.keep_alive {
                None => self.link.turn().await,
                Some(keep_alive) => tokio::select! {
                    biased;
                    turned = self.link.turn() => turned,
                    () = sleep_until(keep_alive.next) => {
                        self.keep_alive_passed()?;
                        continue;
                    }
                },
            };
            match turned {
                Ok(true) => {}
                Ok(false) => return Err(ClientError::Closed { server: self.server.clone() }),
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    /// What happened according to the bytes that have come; waits for nothing.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event>, ClientError> {
        while let Some((first, body)) =
            self.link.packet().map_err(|what| self.wrong(format!("a {what}")))?
        {
            let packet = packet::read(first, &body, self.version)
                .map_err(|name| self.wrong(format!("a malformed {name}")))?;
            if let Some(trace) = self.trace {
                trace(&trace::received(&packet));
            }
            if let Some(keep_alive) = &mut self.keep_alive {
                keep_alive.asked = 0;
            }
            if let Some(event) = self.handle(packet)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Sends DISCONNECT and closes.
    pub(crate) async fn disconnect(mut self, properties: &Properties) {
        if let Some(trace) = self.trace {
            trace("> DISCONNECT");
        }
        packet::disconnect(&mut self.link.output, self.version, properties);
        self.link.close().await;
    }

    fn handle(&mut self, packet: Packet) -> Result<Option<Event>, ClientError> {
        match packet {
            Packet::Publish(message) => return self.message(message),
            Packet::Acknowledgement { step, packet_id, code, properties } => {
                return Ok(self.acknowledged(step, packet_id, Reason::new(code, &properties)));
            }
            Packet::SubAck { codes, properties, .. } => {
                let reason = Reason::new(0, &properties);
                return Ok(Some(Event::Subscribed { codes, reason }));
            }
            Packet::UnsubAck { codes, .. } => return Ok(Some(Event::Unsubscribed { codes })),
            Packet::PingResp => {}
            Packet::Disconnect { code, properties } => {
                let reason = Reason::new(code, &properties);
                return Err(ClientError::Disconnected { server: self.server.clone(), reason });
            }
            Packet::ConnAck { .. } => return Err(self.wrong("a second CONNACK".to_owned())),
            Packet::Auth => return Err(self.wrong("AUTH without being asked".to_owned())),
        }
        Ok(None)
    }

    fn message(&mut self, mut message: Publish) -> Result<Option<Event>, ClientError> {
        if let Some(alias) = message.properties.number(Id::TOPIC_ALIAS) {
            if message.topic.is_empty() {
                let Some(topic) = self.aliases.get(&alias) else {
                    return Err(self.wrong(format!("the unknown Topic Alias {alias}")));
                };
                message.topic.clone_from(topic);
            } else {
                self.aliases.insert(alias, message.topic.clone());
            }
        }
        if message.qos == QoS::ExactlyOnce && self.incoming.contains(&message.packet_id) {
            self.step(Step::PubRec, message.packet_id); // [MQTT-4.3.3-10]
            return Ok(None);
        }
        Ok(Some(Event::Message(message)))
    }

    fn acknowledged(&mut self, step: Step, packet_id: u16, reason: Reason) -> Option<Event> {
        let stage = self.outgoing.get(&packet_id).copied();
        match (step, stage) {
            (Step::PubRel, _) => {
                self.incoming.remove(&packet_id);
                self.step(Step::PubComp, packet_id);
                None
            }
            (Step::PubRec, Some(Stage::Sent(QoS::ExactlyOnce))) if reason.code < 0x80 => {
                self.outgoing.insert(packet_id, Stage::Released);
                self.step(Step::PubRel, packet_id);
                None
            }
            (Step::PubAck, Some(Stage::Sent(QoS::AtLeastOnce)))
            | (Step::PubRec, Some(Stage::Sent(QoS::ExactlyOnce)))
            | (Step::PubComp, Some(Stage::Released)) => {
                self.outgoing.remove(&packet_id);
                Some(Event::Published { packet_id, reason })
            }
            (Step::PubAck | Step::PubRec | Step::PubComp, _) => None,
        }
    }

    fn step(&mut self, step: Step, packet_id: u16) {
        if let Some(trace) = self.trace {
            trace(&format!("> {} id={packet_id}", trace::name(step)));
        }
        packet::acknowledgement(&mut self.link.output, step, packet_id);
        self.said();
    }

    /// A Packet Identifier that is not in use [MQTT-2.2.1-3].
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.outgoing.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn said(&mut self) {
        if let Some(keep_alive) = &mut self.keep_alive {
            keep_alive.spoken = true;
        }
    }

    fn keep_alive_passed(&mut self) -> Result<(), ClientError> {
        let Some(keep_alive) = &mut self.keep_alive else { return Ok(()) };
        if keep_alive.asked == 2 {
            return Err(ClientError::Silent(2 * keep_alive.every, self.server.clone()));
        }
        keep_alive.next = Instant::now() + keep_alive.every;
        let spoken = std::mem::take(&mut keep_alive.spoken);
        if keep_alive.asked == 0 && spoken && self.link.unsent() == 0 {
            return Ok(());
        }
        keep_alive.asked += 1;
        if keep_alive.asked == 2 {
            return Ok(());
        }
        if let Some(trace) = self.trace {
            trace("> PINGREQ");
        }
        self.link.output.extend_from_slice(&packet::PINGREQ);
        Ok(())
    }

    fn wrong(&self, what: String) -> ClientError {
        ClientError::Protocol { server: self.server.clone(), what }
    }

    fn broken(&self, error: std::io::Error) -> ClientError {
        ClientError::Broken { server: self.server.clone(), error }
    }
}

/// The answer to CONNECT.
async fn first_packet(
    link: &mut Link,
    server: &str,
    version: Version,
) -> Result<Packet, ClientError> {
    let wrong = |what| ClientError::Protocol { server: server.to_owned(), what };
    loop {
        if let Some((first, body)) = link.packet().map_err(|what| wrong(format!("a {what}")))? {
            return packet::read(first, &body, version)
                .map_err(|name| wrong(format!("a malformed {name}")));
        }
        let server = server.to_owned();
        return Err(match link.turn().await {
            Ok(true) => continue,
            // With TLS 1.3 a server looks at the client's certificate after the handshake.
            Err(error) if error.get_ref().is_some_and(|error| error.is::<rustls::Error>()) => {
                ClientError::Tls { server, error: error.to_string() }
            }
            Ok(false) | Err(_) => {
                ClientError::ClosedAtConnect { server, version: trace::version(version) }
            }
        });
    }
}
