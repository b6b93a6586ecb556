//! How `sub` shows a message: as it is, by a format of mosquitto_sub's, or as JSON.
//! What must not live here: which messages are shown.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use wasmqtt_core::message::QoS;

use crate::cli::output::iso;
use crate::client::packet::Publish;
use crate::client::property::{Id, Properties, Value};

/// One of the ways.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The payload, with a line break unless `bare`.
    Payload { bare: bool },
    /// Topic and payload.
    Verbose { bare: bool },
    /// A JSON object a line.
    Json,
    /// What `-F` says, a line each.
    Pieces(Vec<Piece>),
}

/// A part of `-F`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(Vec<u8>),
    Field(char),
}

const FIELDS: &str = "ACDEFIJPRSUXdjlmpqrtx";

impl Piece {
    /// Reads a format.
    ///
    /// # Errors
    /// What is unknown in it.
    pub(crate) fn parse(format: &str) -> Result<Vec<Self>, String> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        let mut rest = format.chars();
        while let Some(first) = rest.next() {
            match first {
                '%' => match rest.next() {
                    Some('%') => text.push(b'%'),
                    Some(field) if FIELDS.contains(field) => {
                        if !text.is_empty() {
                            pieces.push(Self::Text(std::mem::take(&mut text)));
                        }
                        pieces.push(Self::Field(field));
                    }
                    Some(field) => return Err(format!("%{field} is no field; see sub --help")),
                    None => return Err("a % at the end; write %% for the sign".to_owned()),
                },
                '\\' => text.push(match rest.next() {
                    Some('n') => b'\n',
                    Some('t') => b'\t',
                    Some('r') => b'\r',
                    Some('e') => 0x1b,
                    Some('0') => 0,
                    Some('a') => 7,
                    Some('v') => 0x0b,
                    Some('\\') => b'\\',
                    Some(other) => return Err(format!("\\{other} is unknown; see sub --help")),
                    None => return Err("a \\ at the end; write \\\\ for the sign".to_owned()),
                }),
                other => text.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !text.is_empty() {
            pieces.push(Self::Text(text));
        }
        Ok(pieces)
    }
}

impl Format {
    /// Writes a message that came at that time.
    pub(crate) fn write(&self, out: &mut Vec<u8>, message: &Publish, at: Duration) {
        match self {
            Self::Payload { bare } => {
                // mosquitto_sub shows nothing of an empty message either.
                if !message.payload.is_empty() {
                    out.extend_from_slice(&message.payload);
                    end(out, *bare);
                }
            }
            Self::Verbose { bare } => {
                out.extend_from_slice(message.topic.as_bytes());
                out.push(b' ');
                let empty = &b"(null)"[..];
                let shown = if message.payload.is_empty() { empty } else { &message.payload };
                out.extend_from_slice(shown);
                end(out, *bare);
            }
            Self::Json => {
                put_json(out, message, at, false);
                out.push(b'\n');
            }
            Self::Pieces(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.extend_from_slice(text),
                        Piece::Field(name) => field(out, *name, message, at),
                    }
                }
                out.push(b'\n');
            }
        }
    }
}

fn end(out: &mut Vec<u8>, bare: bool) {
    if !bare {
        out.push(b'\n');
    }
}

fn field(out: &mut Vec<u8>, name: char, message: &Publish, at: Duration) {
    let Publish { topic, payload, qos, retain, dup, packet_id, properties } = message;
    let mut put = |shown: &dyn std::fmt::Display| {
        // Writing to memory can't fail.
        let _ = write!(out, "{shown}");
    };
    let mut property = |id: Id| {
        if let Some(value) = properties.get(id) {
            put(value);
        }
    };
    match name {
        'A' => property(Id::TOPIC_ALIAS),
        'C' => property(Id::CONTENT_TYPE),
        'E' => property(Id::MESSAGE_EXPIRY),
        'F' => property(Id::PAYLOAD_FORMAT),
        'R' => property(Id::RESPONSE_TOPIC),
        'I' => put(&iso(unix_seconds(at), None)),
        'P' => put(&joined(properties, Id::USER, " ")),
        'S' => put(&joined(properties, Id::SUBSCRIPTION_IDENTIFIER, " ")),
        'U' => put(&format!("{}.{:09}", at.as_secs(), at.subsec_nanos())),
        'd' => put(&u8::from(*dup)),
        'l' => put(&payload.len()),
        'm' => put(packet_id),
        'q' => put(&(*qos as u8)),
        'r' => put(&u8::from(*retain)),
        't' => put(topic),
        'x' => payload.iter().for_each(|byte| put(&format_args!("{byte:02x}"))),
        'X' => payload.iter().for_each(|byte| put(&format_args!("{byte:02X}"))),
        'D' => {
            if let Some(Value::Binary(bytes)) = properties.get(Id::CORRELATION_DATA) {
                out.extend_from_slice(bytes);
            }
        }
        'j' => put_json(out, message, at, false),
        'J' => put_json(out, message, at, true),
        _ => out.extend_from_slice(payload),
    }
}

fn joined(properties: &Properties, id: Id, between: &str) -> String {
    let own = properties.0.iter().filter(|(known, _)| *known == id);
    own.map(|(_, value)| value.to_string()).collect::<Vec<_>>().join(between)
}

fn unix_seconds(at: Duration) -> i64 {
    i64::try_from(at.as_secs()).unwrap_or(i64::MAX)
}

/// A message in JSON: the members of mosquitto_sub's `%j`, in its order.
#[derive(Serialize)]
struct JsonMessage<'a> {
    tst: String,
    topic: &'a str,
    qos: u8,
    retain: u8,
    payloadlen: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    mid: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<JsonProperties<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<serde_json::Value>,
    /// Instead of `payload`, where that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

struct JsonProperties<'a>(&'a Properties);

impl Serialize for JsonProperties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (id, value) in &self.0.0 {
            match value {
                Value::Number(_) if *id == Id::SUBSCRIPTION_IDENTIFIER => {}
                Value::Number(number) => map.serialize_entry(id.name(), number)?,
                Value::Text(text) => map.serialize_entry(id.name(), text)?,
                Value::Binary(bytes) => match std::str::from_utf8(bytes) {
                    Ok(text) => map.serialize_entry(id.name(), text)?,
                    Err(_) => map.serialize_entry(&format!("{}-hex", id.name()), &hex(bytes))?,
                },
                Value::Pair(..) => {}
            }
        }
        // These may come several times, and their order counts.
        let all = |id: Id| self.0.0.iter().filter(move |(known, _)| *known == id);
        let pairs: Vec<[&str; 2]> = all(Id::USER)
            .filter_map(|(_, value)| match value {
                Value::Pair(name, value) => Some([name.as_str(), value.as_str()]),
                Value::Number(_) | Value::Text(_) | Value::Binary(_) => None,
            })
            .collect();
        if !pairs.is_empty() {
            map.serialize_entry("user-properties", &pairs)?;
        }
        let identifiers: Vec<u32> = all(Id::SUBSCRIPTION_IDENTIFIER)
            .filter_map(|(_, value)| match value {
                Value::Number(number) => Some(*number),
                Value::Pair(..) | Value::Text(_) | Value::Binary(_) => None,
            })
            .collect();
        if !identifiers.is_empty() {
            map.serialize_entry("subscription-identifiers", &identifiers)?;
        }
        map.end()
    }
}

fn put_json(out: &mut Vec<u8>, message: &Publish, at: Duration, nested: bool) {
    let Publish { topic, payload, qos, retain, packet_id, properties, .. } = message;
    let parsed = if nested { serde_json::from_slice(payload).ok() } else { None };
    let text = || std::str::from_utf8(payload).ok().map(serde_json::Value::from);
    let shown = parsed.or_else(text);
    let json = JsonMessage {
        tst: iso(unix_seconds(at), Some(at.subsec_micros())),
        topic,
        qos: *qos as u8,
        retain: u8::from(*retain),
        payloadlen: payload.len(),
        mid: (*qos > QoS::AtMostOnce).then_some(*packet_id),
        properties: (!properties.0.is_empty()).then_some(JsonProperties(properties)),
        payload_hex: shown.is_none().then(|| hex(payload)),
        payload: shown,
    };
    // Writing to memory can't fail, and all names are texts.
    let _ = serde_json::to_writer(out, &json);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message() -> Publish {
        Publish {
            topic: "a/b".to_owned(),
            payload: Bytes::from_static(b"{\"n\":1}"),
            qos: QoS::AtLeastOnce,
            retain: true,
            dup: false,
            packet_id: 7,
            properties: Properties(vec![
                (Id::CONTENT_TYPE, Value::Text("json".to_owned())),
                (Id::USER, Value::Pair("k".to_owned(), "v".to_owned())),
                (Id::USER, Value::Pair("k".to_owned(), "w".to_owned())),
                (Id::CORRELATION_DATA, Value::Binary(vec![255])),
                (Id::SUBSCRIPTION_IDENTIFIER, Value::Number(9)),
            ]),
        }
    }

    const AT: Duration = Duration::new(1_767_225_599, 5_000);

    #[track_caller]
    fn check(format: &Format, message: &Publish, expected: &str) {
        let mut out = Vec::new();
        format.write(&mut out, message, AT);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn fields_and_escapes_of_a_format() {
        let check = |format: &str, expected: &str| {
            let pieces = Piece::parse(format).unwrap();
            check(&Format::Pieces(pieces), &message(), expected);
        };
        check("%t %q%r %l %m\\t%%", "a/b 11 7 7\t%\n");
        check("%p %C %P %S|%A|", "{\"n\":1} json k:v k:w 9||\n");
        check("%I %U", "2025-12-31T23:59:59Z 1767225599.000005000\n");
        check("%x %X", "7b226e223a317d 7B226E223A317D\n");
        check("ü", "ü\n");
    }

    #[test]
    fn an_unknown_field_or_escape_is_named() {
        for (format, what) in [("%z", "%z"), ("%", "end"), ("\\q", "\\q"), ("\\", "end")] {
            let error = Piece::parse(format).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn json_has_properties_in_their_order_and_says_what_is_no_text() {
        check(
            &Format::Json,
            &message(),
            "{\"tst\":\"2025-12-31T23:59:59.000005Z\",\"topic\":\"a/b\",\"qos\":1,\"retain\":1,\
             \"payloadlen\":7,\"mid\":7,\"properties\":{\"content-type\":\"json\",\
             \"correlation-data-hex\":\"ff\",\"user-properties\":[[\"k\",\"v\"],[\"k\",\"w\"]],\
             \"subscription-identifiers\":[9]},\"payload\":\"{\\\"n\\\":1}\"}\n",
        );
        let binary = Publish {
            payload: Bytes::from_static(&[0xff, 0]),
            properties: Properties::default(),
            qos: QoS::AtMostOnce,
            ..message()
        };
        check(
            &Format::Json,
            &binary,
            "{\"tst\":\"2025-12-31T23:59:59.000005Z\",\"topic\":\"a/b\",\"qos\":0,\"retain\":1,\
             \"payloadlen\":2,\"payload_hex\":\"ff00\"}\n",
        );
        let mut out = Vec::new();
        put_json(&mut out, &message(), AT, true);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["payload"]["n"], 1);
    }

    #[test]
    fn an_empty_message_is_shown_with_its_topic_only() {
        let empty = Publish { payload: Bytes::new(), ..message() };
        check(&Format::Payload { bare: false }, &empty, "");
        check(&Format::Verbose { bare: false }, &empty, "a/b (null)\n");
        check(&Format::Verbose { bare: true }, &message(), "a/b {\"n\":1}");
    }
}
