//! MQTT 5 properties of PUBLISH: the section's bytes are validated, split and built here.
//! What must not live here: properties of other packets, and what the core does with a value.

use std::borrow::Cow;

use crate::reason::ReasonCode;
use crate::topic::{TopicError, check_topic_name};

const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;

/// The largest Variable Byte Integer [MQTT 1.5.5].
const VARIABLE_BYTE_INTEGER_MAX: u32 = 268_435_455;

/// One property of a PUBLISH [MQTT 3.3.2.3].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Property<'a> {
    /// 0: bytes, 1: UTF-8.
    PayloadFormatIndicator(u8),
    /// Seconds.
    MessageExpiryInterval(u32),
    /// A MIME type, by convention.
    ContentType(&'a str),
    /// Where a response is to be published.
    ResponseTopic(&'a str),
    /// What tells the requester which request a response answers.
    CorrelationData(&'a [u8]),
    /// From server to client only; 1 to 268,435,455.
    SubscriptionIdentifier(u32),
    /// 1 to 65,535.
    TopicAlias(u16),
    /// Name and value; the only property besides Subscription Identifier that may be repeated.
    UserProperty(&'a str, &'a str),
}

/// Why a property section is refused. The fault is the client's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PropertyError {
    /// The section ends inside a property.
    #[error("the property section ends inside property {property:#04x}")]
    Truncated {
        /// Property identifier.
        property: u8,
    },
    /// No property of PUBLISH has that identifier [MQTT 2.2.2.2].
    #[error("property {property:#04x} is not allowed in PUBLISH")]
    Unknown {
        /// Property identifier.
        property: u8,
    },
    /// Not well-formed UTF-8 [MQTT-1.5.4-1].
    #[error("property {property:#04x} is not well-formed UTF-8")]
    Utf8 {
        /// Property identifier.
        property: u8,
    },
    /// U+0000 in a string [MQTT-1.5.4-2].
    #[error("property {property:#04x} contains the null character")]
    Nul {
        /// Property identifier.
        property: u8,
    },
    /// A Payload Format Indicator that is neither 0 nor 1.
    #[error("Payload Format Indicator is {value}, neither 0 nor 1")]
    PayloadFormat {
        /// The value.
        value: u8,
    },
    /// A Variable Byte Integer of more than four bytes, or longer than needed [MQTT-1.5.5-1].
    #[error("property {property:#04x} is not a Variable Byte Integer")]
    VariableByteInteger {
        /// Property identifier.
        property: u8,
    },
    /// More than one of a property that may be there once.
    #[error("property {property:#04x} is there more than once")]
    Duplicate {
        /// Property identifier.
        property: u8,
    },
    /// A Subscription Identifier in a PUBLISH of a client [MQTT-3.3.4-6], or 0 in any.
    #[error("a client may not send a Subscription Identifier in PUBLISH")]
    SubscriptionIdentifier,
    /// A Response Topic that is no Topic Name [MQTT-3.3.2-13, MQTT-3.3.2-14].
    #[error("Response Topic: {0}")]
    ResponseTopic(TopicError),
    /// A Topic Alias of 0 [MQTT-3.3.2-8].
    #[error("Topic Alias is 0")]
    TopicAliasZero,
}

impl PropertyError {
    /// The Reason Code of the DISCONNECT that answers it.
    #[must_use]
    pub const fn reason_code(&self) -> ReasonCode {
        match self {
            Self::Truncated { .. }
            | Self::Unknown { .. }
            | Self::Utf8 { .. }
            | Self::Nul { .. }
            | Self::PayloadFormat { .. }
            | Self::VariableByteInteger { .. } => ReasonCode::MalformedPacket,
            Self::Duplicate { .. } | Self::SubscriptionIdentifier | Self::ResponseTopic(_) => {
                ReasonCode::ProtocolError
            }
            Self::TopicAliasZero => ReasonCode::TopicAliasInvalid,
        }
    }
}

/// The validated properties of a PUBLISH that a client sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PublishProperties<'a> {
    /// Message Expiry Interval.
    pub message_expiry_seconds: Option<u32>,
    /// Topic Alias, not 0.
    pub topic_alias: Option<u16>,
    /// 1: the payload claims to be UTF-8.
    pub payload_format_indicator: Option<u8>,
    /// Every other property as it came, order kept [MQTT-3.3.2-18]; borrowed whenever these bytes
    /// stand together in the section.
    pub forward: Cow<'a, [u8]>,
}

impl<'a> PublishProperties<'a> {
    /// Validates the property section of a PUBLISH from a client; `bytes` is the section without
    /// the length before it.
    ///
    /// # Errors
    /// The first property, from the left, that is not allowed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PropertyError> {
        let mut properties = Self::default();
        if bytes.is_empty() {
            return Ok(properties);
        }
        let mut seen = Seen::default();
        let mut forward = Forward::Together(0, 0);
        let mut reader = Reader { bytes, at: 0 };
        while reader.at < bytes.len() {
            let start = reader.at;
            let property = reader.property()?;
            match property {
                Property::MessageExpiryInterval(seconds) => {
                    seen.once(MESSAGE_EXPIRY_INTERVAL)?;
                    properties.message_expiry_seconds = Some(seconds);
                    continue;
                }
                Property::TopicAlias(alias) => {
                    seen.once(TOPIC_ALIAS)?;
                    properties.topic_alias = Some(alias);
                    continue;
                }
                Property::PayloadFormatIndicator(value) => {
                    seen.once(PAYLOAD_FORMAT_INDICATOR)?;
                    properties.payload_format_indicator = Some(value);
                }
                Property::ContentType(_) => seen.once(CONTENT_TYPE)?,
                Property::ResponseTopic(_) => seen.once(RESPONSE_TOPIC)?,
                Property::CorrelationData(_) => seen.once(CORRELATION_DATA)?,
                Property::SubscriptionIdentifier(_) => {
                    return Err(PropertyError::SubscriptionIdentifier);
                }
                Property::UserProperty(..) => {}
            }
            forward.keep(bytes, start, reader.at);
        }
        properties.forward = forward.into_bytes(bytes);
        Ok(properties)
    }

    /// The properties in [`Self::forward`].
    pub fn iter(&self) -> impl Iterator<Item = Property<'_>> {
        iter(&self.forward)
    }
}

/// The properties in a section that was validated; ends at the first byte that was not.
pub fn iter(bytes: &[u8]) -> impl Iterator<Item = Property<'_>> {
    let mut reader = Reader { bytes, at: 0 };
    std::iter::from_fn(
        move || {
            if reader.at < reader.bytes.len() { reader.property().ok() } else { None }
        },
    )
}

impl Property<'_> {
    /// Appends the property as it goes on the wire. The caller answers for the value: a string or
    /// binary longer than 65,535 bytes is cut, strings at a character's boundary.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::PayloadFormatIndicator(value) => out.extend([PAYLOAD_FORMAT_INDICATOR, value]),
            Self::MessageExpiryInterval(seconds) => {
                out.push(MESSAGE_EXPIRY_INTERVAL);
                out.extend(seconds.to_be_bytes());
            }
            Self::ContentType(text) => encode_string(CONTENT_TYPE, text, out),
            Self::ResponseTopic(topic) => encode_string(RESPONSE_TOPIC, topic, out),
            Self::CorrelationData(data) => {
                out.push(CORRELATION_DATA);
                encode_binary(data, out);
            }
            Self::SubscriptionIdentifier(identifier) => {
                out.push(SUBSCRIPTION_IDENTIFIER);
                encode_variable_byte_integer(identifier, out);
            }
            Self::TopicAlias(alias) => {
                out.push(TOPIC_ALIAS);
                out.extend(alias.to_be_bytes());
            }
            Self::UserProperty(name, value) => {
                encode_string(USER_PROPERTY, name, out);
                encode_binary(cut(value).as_bytes(), out);
            }
        }
    }
}

fn encode_string(property: u8, text: &str, out: &mut Vec<u8>) {
    out.push(property);
    encode_binary(cut(text).as_bytes(), out);
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(usize::from(u16::MAX))]
}

fn encode_binary(data: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(&data[..usize::from(length)]);
}

/// Values above the maximum are written as the maximum.
fn encode_variable_byte_integer(value: u32, out: &mut Vec<u8>) {
    let mut rest = value.min(VARIABLE_BYTE_INTEGER_MAX);
    loop {
        let [low, ..] = (rest & 0x7f).to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Which of the properties that may be there once were there; a bit for each identifier.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    fn once(&mut self, property: u8) -> Result<(), PropertyError> {
        let bit = 1 << property;
        if self.0 & bit != 0 {
            return Err(PropertyError::Duplicate { property });
        }
        self.0 |= bit;
        Ok(())
    }
}

/// The bytes that travel on: a range as long as they stand together, a copy when they do not.
enum Forward {
    Together(usize, usize),
    Copied(Vec<u8>),
}

impl Forward {
    fn keep(&mut self, bytes: &[u8], start: usize, end: usize) {
        match self {
            Self::Together(from, to) if from == to => *self = Self::Together(start, end),
            Self::Together(_, to) if *to == start => *to = end,
            Self::Together(from, to) => {
                let mut copy = Vec::with_capacity(bytes.len());
                copy.extend_from_slice(&bytes[*from..*to]);
                copy.extend_from_slice(&bytes[start..end]);
                *self = Self::Copied(copy);
            }
            Self::Copied(copy) => copy.extend_from_slice(&bytes[start..end]),
        }
    }

    fn into_bytes(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Together(from, to) => Cow::Borrowed(&bytes[from..to]),
            Self::Copied(copy) => Cow::Owned(copy),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next property; its own value is valid then. There must be a byte left.
    fn property(&mut self) -> Result<Property<'a>, PropertyError> {
        let [property] = self.array(0)?;
        Ok(match property {
            PAYLOAD_FORMAT_INDICATOR => match self.array(property)? {
                [value @ (0 | 1)] => Property::PayloadFormatIndicator(value),
                [value] => return Err(PropertyError::PayloadFormat { value }),
            },
            MESSAGE_EXPIRY_INTERVAL => {
                Property::MessageExpiryInterval(u32::from_be_bytes(self.array(property)?))
            }
            CONTENT_TYPE => Property::ContentType(self.string(property)?),
            RESPONSE_TOPIC => {
                let topic = self.string(property)?;
                check_topic_name(topic).map_err(PropertyError::ResponseTopic)?;
                Property::ResponseTopic(topic)
            }
            CORRELATION_DATA => Property::CorrelationData(self.binary(property)?),
            SUBSCRIPTION_IDENTIFIER => match self.variable_byte_integer(property)? {
                0 => return Err(PropertyError::SubscriptionIdentifier),
                identifier => Property::SubscriptionIdentifier(identifier),
            },
            TOPIC_ALIAS => match u16::from_be_bytes(self.array(property)?) {
                0 => return Err(PropertyError::TopicAliasZero),
                alias => Property::TopicAlias(alias),
            },
            USER_PROPERTY => Property::UserProperty(self.string(property)?, self.string(property)?),
            _ => return Err(PropertyError::Unknown { property }),
        })
    }

    fn array<const N: usize>(&mut self, property: u8) -> Result<[u8; N], PropertyError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = rest.first_chunk().ok_or(PropertyError::Truncated { property })?;
        self.at += N;
        Ok(*array)
    }

    fn binary(&mut self, property: u8) -> Result<&'a [u8], PropertyError> {
        let length = usize::from(u16::from_be_bytes(self.array(property)?));
        let data = self
            .bytes
            .get(self.at..self.at + length)
            .ok_or(PropertyError::Truncated { property })?;
        self.at += length;
        Ok(data)
    }

    fn string(&mut self, property: u8) -> Result<&'a str, PropertyError> {
        let text = std::str::from_utf8(self.binary(property)?)
            .map_err(|_| PropertyError::Utf8 { property })?;
        if text.bytes().any(|byte| byte == 0) {
            return Err(PropertyError::Nul { property });
        }
        Ok(text)
    }

    fn variable_byte_integer(&mut self, property: u8) -> Result<u32, PropertyError> {
        let mut value = 0;
        for place in 0..4 {
            let [byte] = self.array(property)?;
            value |= u32::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                let is_minimal = byte != 0 || place == 0;
                return is_minimal
                    .then_some(value)
                    .ok_or(PropertyError::VariableByteInteger { property });
            }
        }
        Err(PropertyError::VariableByteInteger { property })
    }
}

#[cfg(test)]
mod tests;
