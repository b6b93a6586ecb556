//! Application Messages: what is published, borrowed while it passes and owned when it is kept.
//! What must not live here: wire framing, except for the PUBLISH properties that travel unchanged.

use std::sync::Arc;

use crate::ids::SessionId;
use crate::time::Millis;

pub use crate::properties::{Property, PropertyError, PublishProperties};

/// Quality of Service [MQTT 4.3].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0.
    #[default]
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS of that number; 3 is malformed [MQTT-3.3.1-4].
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// An Application Message while it passes through: everything is borrowed.
#[derive(Clone, Copy, Debug)]
pub struct MessageRef<'a> {
    /// A valid Topic Name.
    pub topic: &'a str,
    /// Opaque bytes.
    pub payload: &'a [u8],
    /// The publisher's QoS.
    pub qos: QoS,
    /// The publisher's RETAIN flag.
    pub retain: bool,
    /// MQTT 5 properties as they are forwarded: validated wire bytes without Topic Alias, Message
    /// Expiry Interval and Subscription Identifiers, order kept [MQTT-3.3.2-18].
    pub properties: &'a [u8],
    /// When the message expires; [`Millis::NEVER`] without a Message Expiry Interval.
    pub expires_at: Millis,
    /// The session that published it, for No Local [MQTT-3.8.3-3].
    pub publisher: Option<SessionId>,
}

impl MessageRef<'_> {
    /// Whether the payload is UTF-8, if the Payload Format Indicator says so [MQTT 3.3.2.3.2].
    #[must_use]
    pub fn keeps_its_format(&self) -> bool {
        let says_text = |property| matches!(property, Property::PayloadFormatIndicator(1));
        self.properties.is_empty()
            || !crate::properties::iter(self.properties).any(says_text)
            || std::str::from_utf8(self.payload).is_ok()
    }
}

/// An Application Message that is kept: queued, retained, in flight or on its way to another
/// worker. One allocation holds topic, properties and payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    bytes: Box<[u8]>,
    topic_length: u32,
    properties_length: u32,
    /// The publisher's QoS.
    pub qos: QoS,
    /// The publisher's RETAIN flag.
    pub retain: bool,
    /// See [`MessageRef::expires_at`].
    pub expires_at: Millis,
    /// See [`MessageRef::publisher`].
    pub publisher: Option<SessionId>,
}

impl Message {
    /// Copies what `message` borrows.
    #[must_use]
    pub fn new(message: MessageRef<'_>) -> Self {
        let MessageRef { topic, payload, qos, retain, properties, expires_at, publisher } = message;
        let mut bytes = Vec::with_capacity(topic.len() + properties.len() + payload.len());
        bytes.extend_from_slice(topic.as_bytes());
        bytes.extend_from_slice(properties);
        bytes.extend_from_slice(payload);
        Self {
            bytes: bytes.into_boxed_slice(),
            topic_length: u32::try_from(topic.len()).expect("a Topic Name is at most 65,535 bytes"),
            properties_length: u32::try_from(properties.len())
                .expect("properties are at most 268,435,455 bytes"),
            qos,
            retain,
            expires_at,
            publisher,
        }
    }

    /// The same message, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> MessageRef<'_> {
        MessageRef {
            topic: self.topic(),
            payload: self.payload(),
            qos: self.qos,
            retain: self.retain,
            properties: self.properties(),
            expires_at: self.expires_at,
            publisher: self.publisher,
        }
    }

    /// The Topic Name.
    #[must_use]
    pub fn topic(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.topic_length as usize])
            .expect("these bytes were copied from a str")
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[(self.topic_length + self.properties_length) as usize..]
    }

    /// See [`MessageRef::properties`].
    #[must_use]
    pub fn properties(&self) -> &[u8] {
        let start = self.topic_length as usize;
        &self.bytes[start..start + self.properties_length as usize]
    }

    /// Bytes that count against a queue's or the retained store's byte limit.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}

/// A message that many hold.
pub type SharedMessage = Arc<Message>;
