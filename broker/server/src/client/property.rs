//! Properties of MQTT 5: their names, where a client may put them, their bytes [MQTT 2.2.2].
//! What must not live here: what a property brings about.

use std::fmt;

/// Where a property may stand in what a client sends; the words of `-D`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Connect,
    Publish,
    Will,
    Subscribe,
    Unsubscribe,
    Disconnect,
}

impl Place {
    const ALL: [(&'static str, Self); 6] = [
        ("connect", Self::Connect),
        ("publish", Self::Publish),
        ("will", Self::Will),
        ("subscribe", Self::Subscribe),
        ("unsubscribe", Self::Unsubscribe),
        ("disconnect", Self::Disconnect),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, place)| *place == self).map_or("", |(name, _)| name)
    }
}

/// The form of a property's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Flag,
    U16,
    U32,
    Variable,
    Text,
    Binary,
    Pair,
}

/// What the specification says of one property.
#[derive(Debug)]
struct Rule {
    id: u8,
    name: &'static str,
    form: Form,
    places: &'static [Place],
}

const fn rule(id: u8, name: &'static str, form: Form, places: &'static [Place]) -> Rule {
    Rule { id, name, form, places }
}

/// A property, by its identifier [MQTT 2.2.2.2].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub(crate) u8);

impl Id {
    pub(crate) const PAYLOAD_FORMAT: Self = Self(0x01);
    pub(crate) const MESSAGE_EXPIRY: Self = Self(0x02);
    pub(crate) const CONTENT_TYPE: Self = Self(0x03);
    pub(crate) const RESPONSE_TOPIC: Self = Self(0x08);
    pub(crate) const CORRELATION_DATA: Self = Self(0x09);
    pub(crate) const SUBSCRIPTION_IDENTIFIER: Self = Self(0x0b);
    pub(crate) const SESSION_EXPIRY: Self = Self(0x11);
    pub(crate) const SERVER_KEEP_ALIVE: Self = Self(0x13);
    pub(crate) const SERVER_REFERENCE: Self = Self(0x1c);
    pub(crate) const AUTHENTICATION_DATA: Self = Self(0x16);
    pub(crate) const REASON_STRING: Self = Self(0x1f);
    pub(crate) const RECEIVE_MAXIMUM: Self = Self(0x21);
    pub(crate) const TOPIC_ALIAS_MAXIMUM: Self = Self(0x22);
    pub(crate) const TOPIC_ALIAS: Self = Self(0x23);
    pub(crate) const MAXIMUM_QOS: Self = Self(0x24);
    pub(crate) const RETAIN_AVAILABLE: Self = Self(0x25);
    pub(crate) const USER: Self = Self(0x26);
    pub(crate) const MAXIMUM_PACKET_SIZE: Self = Self(0x27);

    /// Its name as `-D` and JSON have it.
    pub(crate) fn name(self) -> &'static str {
        self.rule().map_or("unknown", |rule| rule.name)
    }

    fn rule(self) -> Option<&'static Rule> {
        RULES.iter().find(|rule| rule.id == self.0)
    }
}

const RULES: &[Rule] = {
    use Form::{Binary, Flag, Pair, Text, U16, U32, Variable};
    use Place::{Connect, Disconnect, Publish, Subscribe, Unsubscribe, Will};
    &[
        rule(0x01, "payload-format-indicator", Flag, &[Publish, Will]),
        rule(0x02, "message-expiry-interval", U32, &[Publish, Will]),
        rule(0x03, "content-type", Text, &[Publish, Will]),
        rule(0x08, "response-topic", Text, &[Publish, Will]),
        rule(0x09, "correlation-data", Binary, &[Publish, Will]),
        rule(0x0b, "subscription-identifier", Variable, &[Subscribe]),
        rule(0x11, "session-expiry-interval", U32, &[Connect, Disconnect]),
        rule(0x12, "assigned-client-identifier", Text, &[]),
        rule(0x13, "server-keep-alive", U16, &[]),
        rule(0x15, "authentication-method", Text, &[Connect]),
        rule(0x16, "authentication-data", Binary, &[Connect]),
        rule(0x17, "request-problem-information", Flag, &[Connect]),
        rule(0x18, "will-delay-interval", U32, &[Will]),
        rule(0x19, "request-response-information", Flag, &[Connect]),
        rule(0x1a, "response-information", Text, &[]),
        rule(0x1c, "server-reference", Text, &[]),
        rule(0x1f, "reason-string", Text, &[Disconnect]),
        rule(0x21, "receive-maximum", U16, &[Connect]),
        rule(0x22, "topic-alias-maximum", U16, &[Connect]),
        rule(0x23, "topic-alias", U16, &[Publish]),
        rule(0x24, "maximum-qos", Flag, &[]),
        rule(0x25, "retain-available", Flag, &[]),
        rule(
            0x26,
            "user-property",
            Pair,
            &[Connect, Publish, Will, Subscribe, Unsubscribe, Disconnect],
        ),
        rule(0x27, "maximum-packet-size", U32, &[Connect]),
        rule(0x28, "wildcard-subscription-available", Flag, &[]),
        rule(0x29, "subscription-identifier-available", Flag, &[]),
        rule(0x2a, "shared-subscription-available", Flag, &[]),
    ]
};

/// A property's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(out, "{number}"),
            Self::Text(text) => write!(out, "{text}"),
            Self::Binary(bytes) => write!(out, "{}", String::from_utf8_lossy(bytes)),
            Self::Pair(name, value) => write!(out, "{name}:{value}"),
        }
    }
}

/// The properties of a packet, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties(pub(crate) Vec<(Id, Value)>);

/// The largest Variable Byte Integer [MQTT-1.5.5-1].
const VARIABLE_MAX: u32 = 268_435_455;

impl Properties {
    /// The first value of that property.
    pub(crate) fn get(&self, id: Id) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == id).map(|(_, value)| value)
    }

    pub(crate) fn number(&self, id: Id) -> Option<u32> {
        match self.get(id) {
            Some(Value::Number(number)) => Some(*number),
            Some(Value::Text(_) | Value::Binary(_) | Value::Pair(..)) | None => None,
        }
    }

    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Some(Value::Text(text)) => Some(text),
            Some(Value::Number(_) | Value::Binary(_) | Value::Pair(..)) | None => None,
        }
    }

    /// Sets a number, whatever stood there.
    pub(crate) fn set(&mut self, id: Id, number: u32) {
        self.0.retain(|(known, _)| *known != id);
        self.0.push((id, Value::Number(number)));
    }

    /// Writes the section with its length in front.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut section = Vec::new();
        for (id, value) in &self.0 {
            section.push(id.0);
            let form = id.rule().map(|rule| rule.form);
            match value {
                Value::Number(number) => match form {
                    Some(Form::Flag) => section.extend_from_slice(&number.to_be_bytes()[3..]),
                    Some(Form::U16) => section.extend_from_slice(&number.to_be_bytes()[2..]),
                    Some(Form::Variable) => put_variable(&mut section, *number as usize),
                    Some(Form::U32 | Form::Text | Form::Binary | Form::Pair) | None => {
                        section.extend_from_slice(&number.to_be_bytes());
                    }
                },
                Value::Text(text) => put_binary(&mut section, text.as_bytes()),
                Value::Binary(bytes) => put_binary(&mut section, bytes),
                Value::Pair(name, value) => {
                    put_binary(&mut section, name.as_bytes());
                    put_binary(&mut section, value.as_bytes());
                }
            }
        }
        put_variable(out, section.len());
        out.extend_from_slice(&section);
    }

    /// Reads a section with its length in front; nothing there counts as an empty one.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut list = Vec::new();
        if reader.is_empty() {
            return Some(Self(list));
        }
        let length = reader.variable()?;
        let mut section = Reader(reader.take(length as usize)?);
        while !section.is_empty() {
            let id = Id(u8::try_from(section.variable()?).ok()?);
            let value = match id.rule()?.form {
                Form::Flag => Value::Number(section.byte()?.into()),
                Form::U16 => Value::Number(section.u16()?.into()),
                Form::U32 => Value::Number(u32::from_be_bytes(section.take(4)?.try_into().ok()?)),
                Form::Variable => Value::Number(section.variable()?),
                Form::Text => Value::Text(section.text()?),
                Form::Binary => Value::Binary(section.binary()?.to_vec()),
                Form::Pair => Value::Pair(section.text()?, section.text()?),
            };
            list.push((id, value));
        }
        Some(Self(list))
    }
}

/// What `-D PACKET PROPERTY VALUE…` said, each option after the other.
///
/// # Errors
/// What is wrong with the first that can't be, and what could be.
pub(crate) fn parse_options(words: &[String]) -> Result<Vec<(Place, Id, Value)>, String> {
    let mut parsed = Vec::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(place_name) = words.next() {
        let Some((_, place)) = Place::ALL.iter().find(|(name, _)| *name == place_name) else {
            let known = Place::ALL.map(|(name, _)| name).join(", ");
            return Err(format!("-D {place_name}: no packet has that name; there are {known}"));
        };
        let name = words.next().unwrap_or_default();
        let allowed = || RULES.iter().filter(|rule| rule.places.contains(place));
        let Some(rule) = allowed().find(|rule| rule.name == name) else {
            let known: Vec<&str> = allowed().map(|rule| rule.name).collect();
            let known = known.join(", ");
            return Err(format!("-D {place_name} {name}: {place_name} can have {known}"));
        };
        let wrong = |what: &str| Err(format!("-D {place_name} {name}: {what}"));
        let Some(text) = words.next() else {
            return wrong("the value is missing");
        };
        let value = match rule.form {
            Form::Flag => number(text, 1),
            Form::U16 => number(text, u16::MAX.into()),
            Form::U32 => number(text, u32::MAX),
            Form::Variable => number(text, VARIABLE_MAX),
            Form::Text => Ok(Value::Text(text.to_owned())),
            Form::Binary => Ok(Value::Binary(text.as_bytes().to_vec())),
            Form::Pair => match words.next() {
                Some(value) => Ok(Value::Pair(text.to_owned(), value.to_owned())),
                None => return wrong("needs a name and a value"),
            },
        };
        let value = match value {
            Ok(value) => value,
            Err(what) => return wrong(&what),
        };
        let is_twice = rule.form != Form::Pair
            && parsed.iter().any(|(known, id, _)| known == place && *id == Id(rule.id));
        if is_twice {
            return wrong("is given twice");
        }
        if text.len() > usize::from(u16::MAX) {
            return wrong("the value has more than 65535 bytes");
        }
        parsed.push((*place, Id(rule.id), value));
    }
    Ok(parsed)
}

/// Those of one packet.
pub(crate) fn of(place: Place, options: &[(Place, Id, Value)]) -> Properties {
    let own = options.iter().filter(|(known, ..)| *known == place);
    Properties(own.map(|(_, id, value)| (*id, value.clone())).collect())
}

/// Where the first of those options belongs, as it was written.
pub(crate) fn first_place(options: &[(Place, Id, Value)]) -> Option<&'static str> {
    options.first().map(|(place, ..)| place.name())
}

fn number(text: &str, most: u32) -> Result<Value, String> {
    match text.parse::<u32>() {
        Ok(number) if number <= most => Ok(Value::Number(number)),
        Ok(_) | Err(_) => Err(format!("{text} is not a number from 0 to {most}")),
    }
}

/// Writes a Variable Byte Integer [MQTT 1.5.5].
pub(crate) fn put_variable(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        out.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}

/// Writes bytes with their length in front; the callers see to it that it fits into 16 bits.
pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

/// Reads fields from the front; `None` where they are not there.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(crate) fn variable(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn binary(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.binary()?).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(Place, Id, Value)>, String> {
        parse_options(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[track_caller]
    fn refused(text: &str, what: &str) {
        let error = parse(text).unwrap_err();
        assert!(error.contains(what), "{error}");
    }

    #[test]
    fn options_are_read_one_after_the_other() {
        let options =
            parse("publish user-property a b will will-delay-interval 5 publish content-type x");
        let options = options.unwrap();
        let publish = of(Place::Publish, &options);
        let pair = Value::Pair("a".to_owned(), "b".to_owned());
        assert_eq!(publish.0, [(Id::USER, pair), (Id::CONTENT_TYPE, Value::Text("x".to_owned()))]);
        assert_eq!(of(Place::Will, &options).0, [(Id(0x18), Value::Number(5))]);
    }

    #[test]
    fn an_option_that_cannot_be_says_what_could() {
        refused("pubish content-type x", "connect, publish, will");
        refused("publish will-delay-interval 5", "publish can have payload-format-indicator");
        refused("publish topic-alias 65536", "0 to 65535");
        refused("publish payload-format-indicator 2", "0 to 1");
        refused("publish user-property a", "a name and a value");
        refused("publish content-type", "missing");
        refused("publish content-type x publish content-type y", "twice");
        refused("publish subscription-identifier 1", "publish can have");
    }

    /// Whatever a client may send comes back as it was.
    #[test]
    fn properties_round_trip() {
        let all = RULES
            .iter()
            .map(|rule| {
                let value = match rule.form {
                    Form::Flag => Value::Number(1),
                    Form::U16 => Value::Number(0xfffe),
                    Form::U32 => Value::Number(0xffff_fffe),
                    Form::Variable => Value::Number(VARIABLE_MAX),
                    Form::Text => Value::Text("ü".to_owned()),
                    Form::Binary => Value::Binary(vec![0, 255]),
                    Form::Pair => Value::Pair(String::new(), "v".to_owned()),
                };
                (Id(rule.id), value)
            })
            .collect();
        let properties = Properties(all);
        let mut bytes = Vec::new();
        properties.write(&mut bytes);
        let mut reader = Reader(&bytes);
        assert_eq!(Properties::read(&mut reader), Some(properties));
        assert!(reader.is_empty());
        bytes.pop();
        assert_eq!(Properties::read(&mut Reader(&bytes)), None);
    }
}
