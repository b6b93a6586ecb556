//! The HTTP request that a WebSocket begins with, checked, and its answer [RFC 6455, section 4.2].
//! What must not live here: sockets, and frames.

use std::cell::Cell;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ntex::codec::Decoder;
use ntex::util::{Buf, BytesMut};
use sha1::{Digest as _, Sha1};

use crate::config::listener::WebSocket;

/// Bytes of the longest request.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Header fields of the longest request: browsers send about twenty.
const FIELDS_MAX: usize = 64;

/// Sub-protocols that are answered, the one of choice first: MQTT's own [MQTT-6.0.0-3], and what
/// clients of MQTT 3.1 say.
const SUB_PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// What every key is joined with [RFC 6455, section 1.3].
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request that is granted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    /// The answer.
    pub(crate) response: String,
}

/// A request that is not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    status: &'static str,
    fields: &'static str,
    /// One line that says what is wrong and what to do.
    pub(crate) text: String,
}

impl Refused {
    fn new(status: &'static str, text: impl Into<String>) -> Self {
        Self { status, fields: "", text: text.into() }
    }

    fn upgrade(text: impl Into<String>) -> Self {
        let fields = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        Self { status: "426 Upgrade Required", fields, text: text.into() }
    }

    /// The answer, after which the connection ends.
    pub(crate) fn response(&self) -> String {
        let Self { status, fields, text } = self;
        format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{text}\n",
            text.len() + 1
        )
    }
}

/// Reads one request off a stream.
pub(crate) struct Request<'a> {
    terms: &'a WebSocket,
    /// Bytes in which its end was looked for.
    searched: Cell<usize>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(terms: &'a WebSocket) -> Self {
        Self { terms, searched: Cell::new(0) }
    }
}

impl Decoder for Request<'_> {
    type Item = Granted;
    type Error = Refused;

    fn decode(&self, source: &mut BytesMut) -> Result<Option<Granted>, Refused> {
        if source.first().is_some_and(|first| !first.is_ascii_uppercase()) {
            return Err(no_http());
        }
        // From where the last look ended, so that bytes that come one by one cost no more.
        let from = self.searched.get().saturating_sub(3);
        let end = source[from..].windows(4).position(|four| four == b"\r\n\r\n");
        self.searched.set(source.len());
        let length = end.map_or(source.len(), |end| from + end + 4);
        if length > HEAD_BYTES_MAX {
            return Err(too_large());
        }
        if end.is_none() {
            return Ok(None);
        }
        let granted = read(&source[..length], self.terms);
        source.advance(length);
        granted.map(Some)
    }
}

fn no_http() -> Refused {
    Refused::new(
        "400 Bad Request",
        "this is no HTTP request; this port takes MQTT over WebSocket, so use a client's WebSocket \
         transport, or a port without it",
    )
}

fn too_large() -> Refused {
    Refused::new(
        "431 Request Header Fields Too Large",
        "the request is over 8 KiB or 64 header fields; send fewer cookies and fields",
    )
}

/// Checks a whole head.
fn read(head: &[u8], terms: &WebSocket) -> Result<Granted, Refused> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(_) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
        Err(_) => return Err(no_http()),
    }
    let fields = Fields(request.headers);
    if request.method != Some("GET") {
        return Err(Refused {
            status: "405 Method Not Allowed",
            fields: "Allow: GET\r\n",
            text: "a WebSocket begins with GET; connect with a WebSocket client".into(),
        });
    }
    let target = request.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if path != &*terms.path {
        let text = format!("nothing is here; MQTT over WebSocket is at {}", terms.path);
        return Err(Refused::new("404 Not Found", text));
    }
    if !fields.has_token("connection", "upgrade") || !fields.has_token("upgrade", "websocket") {
        return Err(Refused::upgrade(
            "this is MQTT over WebSocket; connect with an MQTT client's WebSocket transport (a \
             proxy on the way must pass on the fields Upgrade and Connection)",
        ));
    }
    if request.version != Some(1) {
        return Err(Refused::new("400 Bad Request", "a WebSocket needs HTTP/1.1"));
    }
    if fields.only("sec-websocket-version") != Some("13") {
        return Err(Refused::upgrade("only version 13 of WebSocket is spoken here"));
    }
    let key = fields.only("sec-websocket-key").filter(|key| is_key(key));
    let Some(key) = key else {
        let text = "Sec-WebSocket-Key must be there once, 16 bytes in base64";
        return Err(Refused::new("400 Bad Request", text));
    };
    check_origin(&fields, terms)?;
    // [MQTT-6.0.0-3] [MQTT-6.0.0-4]
    let offered = |name: &&&str| fields.has("sec-websocket-protocol", |offer| offer == **name);
    let Some(sub_protocol) = SUB_PROTOCOLS.iter().find(offered) else {
        let text = "offer the sub-protocol mqtt: Sec-WebSocket-Protocol: mqtt";
        return Err(Refused::new("400 Bad Request", text));
    };
    let accept = accept(key);
    Ok(Granted {
        response: format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {sub_protocol}\r\n\r\n"
        ),
    })
}

/// Browsers say whose page it is that connects; other clients need not.
fn check_origin(fields: &Fields<'_>, terms: &WebSocket) -> Result<(), Refused> {
    let Some(allowed) = &terms.origins else { return Ok(()) };
    let is_allowed = |origin: &str| allowed.iter().any(|one| one.eq_ignore_ascii_case(origin));
    match fields.values("origin").find(|origin| !origin.is_some_and(is_allowed)) {
        None => Ok(()),
        Some(origin) => {
            let mut text = String::from("web pages of this origin may not connect");
            if let Some(origin) = origin {
                let _ = write!(text, "; \"{origin}\" is not in the listener's `origins`");
            }
            Err(Refused::new("403 Forbidden", text))
        }
    }
}

fn is_key(key: &str) -> bool {
    BASE64_STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// The proof that the request was understood.
fn accept(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize();
    BASE64_STANDARD.encode(digest)
}

/// The fields of a request. Names are compared without regard to case.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl Fields<'_> {
    /// The values of all fields of that name, `None` for what is not text.
    fn values(&self, name: &str) -> impl Iterator<Item = Option<&str>> {
        let named = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| std::str::from_utf8(field.value).ok().map(str::trim))
    }

    /// The value of a field that must stand there once.
    fn only(&self, name: &str) -> Option<&str> {
        let mut values = self.values(name);
        let first = values.next()??;
        values.next().is_none().then_some(first)
    }

    /// Whether a field that is a list has such a member.
    fn has(&self, name: &str, is_it: impl Fn(&str) -> bool) -> bool {
        self.values(name).flatten().any(|value| value.split(',').any(|one| is_it(one.trim())))
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.has(name, |one| one.eq_ignore_ascii_case(token))
    }
}

#[cfg(test)]
mod tests {
    use ntex::codec::Decoder as _;
    use ntex::util::BytesMut;

    use crate::config::listener::WebSocket;

    use super::{Granted, HEAD_BYTES_MAX, Refused, Request};

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

    fn terms() -> WebSocket {
        WebSocket { path: "/mqtt".into(), origins: Some(vec!["https://app.example".into()]) }
    }

    fn decode(head: &str) -> Result<Option<Granted>, Refused> {
        Request::new(&terms()).decode(&mut BytesMut::copy_from_slice(head))
    }

    #[track_caller]
    fn refused(head: &str, status: &str, word: &str) {
        let refused = decode(head).expect_err("refused");
        assert!(refused.status.starts_with(status), "{refused:?}");
        assert!(refused.text.contains(word), "{refused:?}");
        let response = refused.response();
        let (_, body) = response.split_once("\r\n\r\n").expect("a head and a body");
        assert!(response.contains(&format!("Content-Length: {}\r\n", body.len())), "{response}");
    }

    /// The sample key and answer of RFC 6455, section 1.3.
    #[test]
    fn a_good_request_is_granted_with_the_sample_answer() {
        let granted = decode(GOOD).expect("granted").expect("whole");
        assert!(
            granted.response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
        );
        assert!(granted.response.contains("Sec-WebSocket-Protocol: mqtt\r\n"));
        assert!(granted.response.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_request_is_waited_for_and_what_follows_it_is_left() {
        let terms = terms();
        let request = Request::new(&terms);
        let mut bytes = BytesMut::new();
        for byte in GOOD[..GOOD.len() - 1].bytes() {
            bytes.extend_from_slice(&[byte]);
            assert_eq!(request.decode(&mut bytes), Ok(None));
        }
        bytes.extend_from_slice(b"\nrest");
        assert!(request.decode(&mut bytes).expect("granted").is_some());
        assert_eq!(&bytes[..], b"rest");
    }

    /// [MQTT-6.0.0-3] [MQTT-6.0.0-4]
    #[test]
    fn the_sub_protocol_is_chosen_from_what_is_offered() {
        let offer = |offer: &str| decode(&GOOD.replace("Protocol: mqtt", offer));
        for (offered, answered) in [
            ("Protocol: mqttv3.1", "mqttv3.1"),
            ("Protocol: mqttv3.1, mqtt", "mqtt"),
            ("Protocol: chat\r\nSec-WebSocket-Protocol: mqtt", "mqtt"),
        ] {
            let granted = offer(offered).expect("granted").expect("whole");
            let field = format!("Sec-WebSocket-Protocol: {answered}\r\n");
            assert!(granted.response.contains(&field), "{granted:?}");
        }
        refused(&GOOD.replace("Protocol: mqtt", "Protocol: chat"), "400", "sub-protocol mqtt");
        refused(&GOOD.replace("Sec-WebSocket-Protocol: mqtt\r\n", ""), "400", "sub-protocol mqtt");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_status() {
        refused(&GOOD.replace("GET", "POST"), "405", "GET");
        refused(&GOOD.replace("/mqtt", "/other"), "404", "/mqtt");
        refused(&GOOD.replace("Upgrade: websocket\r\n", ""), "426", "WebSocket");
        refused(&GOOD.replace("keep-alive, Upgrade", "close"), "426", "WebSocket");
        refused(&GOOD.replace("Version: 13", "Version: 8"), "426", "13");
        refused(&GOOD.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), "400", "Key");
        refused(&GOOD.replace("HTTP/1.1", "HTTP/1.0"), "400", "HTTP/1.1");
        let twice = "Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: x";
        refused(&GOOD.replace("Key: dGhlIHNhbXBsZSBub25jZQ==", twice), "400", "Key");
    }

    #[test]
    fn what_is_no_http_is_refused_at_its_first_byte() {
        refused("\u{10}", "400", "no HTTP");
        refused("\u{16}\u{3}\u{1}", "400", "no HTTP");
        refused("GET /mqtt\0\r\n\r\n", "400", "no HTTP");
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_fields() {
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_BYTES_MAX));
        refused(&long, "431", "8 KiB");
        let fields = "A: b\r\n".repeat(70);
        refused(&GOOD.replace("Host: h\r\n", &fields), "431", "64");
    }

    #[test]
    fn a_path_may_have_a_query() {
        assert!(decode(&GOOD.replace("/mqtt", "/mqtt?token=x")).is_ok());
        refused(&GOOD.replace("/mqtt", "/mqtt/more"), "404", "/mqtt");
    }

    #[test]
    fn pages_of_other_origins_are_refused_and_clients_without_one_are_not() {
        let with = |origin: &str| GOOD.replace("Host: h", &format!("Host: h\r\nOrigin: {origin}"));
        assert!(decode(&with("https://app.example")).is_ok());
        assert!(decode(&with("HTTPS://App.Example")).is_ok());
        refused(&with("https://evil.example"), "403", "evil");
        refused(&with("https://app.example.evil"), "403", "evil");
        refused(&with("null"), "403", "null");
        refused(&with("https://app.example\r\nOrigin: https://evil.example"), "403", "evil");
    }
}
