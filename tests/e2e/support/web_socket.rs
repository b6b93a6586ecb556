//! A WebSocket client that writes what a test says, also what is wrong, and the frames by which every
//! other client of this suite speaks MQTT over WebSocket.
//! What must not live here: expectations of one chapter.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::client::DEADLINE;
use super::stream::{Endpoint, Stream};

/// The masking key of every frame: any will do for a server.
const MASKING_KEY: [u8; 4] = [0x1f, 0xa2, 0x00, 0x77];

/// What a good request says.
pub(crate) const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\n\
     Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

pub(crate) const BINARY: u8 = 0x82;
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// A client's frame: `first` is its first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length @ ..0x1_0000 => {
            bytes.push(0xfe);
            bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASKING_KEY);
    bytes.extend(payload.iter().zip(MASKING_KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A frame of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The code of a Close.
    pub(crate) fn close_code(&self) -> Option<u16> {
        assert_eq!(self.first, CLOSE, "{self:?}");
        self.payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }
}

/// One connection.
pub(crate) struct WebSocket {
    stream: TcpStream,
    inbox: Vec<u8>,
}

impl WebSocket {
    /// Sends a request and returns the head and what else came if the connection ended.
    #[track_caller]
    pub(crate) fn request(address: SocketAddr, request: &[u8]) -> (Self, String) {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("connection refused");
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut client = Self { stream, inbox: Vec::new() };
        client.send(request);
        let head = client.head();
        (client, head)
    }

    /// A connection that is upgraded.
    #[track_caller]
    pub(crate) fn open(address: SocketAddr) -> Self {
        let (client, head) = Self::request(address, REQUEST.as_bytes());
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the broker does not take the bytes");
    }

    /// Sends MQTT in one frame.
    #[track_caller]
    pub(crate) fn send_binary(&mut self, payload: impl AsRef<[u8]>) {
        self.send(frame(BINARY, payload.as_ref()));
    }

    /// Reads more; whether the connection goes on.
    #[track_caller]
    fn read_more(&mut self) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.inbox.extend_from_slice(&chunk[..count]);
                count > 0
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came within {DEADLINE:?}; {} bytes before", self.inbox.len())
            }
            Err(_) => false,
        }
    }

    #[track_caller]
    fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.inbox.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.inbox.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            if !self.read_more() {
                return String::from_utf8_lossy(&self.inbox).into_owned();
            }
        }
    }

    /// The next frame, `None` when the connection ended. The broker's are whole and not masked.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, taken)) = split(&self.inbox) {
                self.inbox.drain(..taken);
                assert_eq!(frame.first & 0xf0, 0x80, "{frame:?}");
                return Some(frame);
            }
            if !self.read_more() {
                assert!(self.inbox.is_empty(), "the connection ended amid a frame");
                return None;
            }
        }
    }

    /// The payload of the next frame, which is binary [MQTT-6.0.0-1].
    #[track_caller]
    pub(crate) fn binary(&mut self) -> Vec<u8> {
        let frame = self.frame().expect("the broker closed the connection");
        assert_eq!(frame.first, BINARY, "{frame:?}");
        frame.payload
    }

    /// The bytes of an answer that is no WebSocket, to its end.
    #[track_caller]
    pub(crate) fn rest(mut self) -> String {
        while self.read_more() {}
        String::from_utf8(self.inbox).unwrap()
    }
}

fn split(bytes: &[u8]) -> Option<(Frame, usize)> {
    let [first, second, ..] = *bytes else { return None };
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (length, start) = match second {
        126 => (u64::from(u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?), 10),
        length => (u64::from(length), 2),
    };
    let end = start + usize::try_from(length).unwrap();
    Some((Frame { first, payload: bytes.get(start..end)?.to_vec() }, end))
}

/// MQTT's bytes in frames, for a client that knows nothing of them: each write is a message of two
/// fragments that are cut at odd places, with a ping between them now and then.
pub(crate) struct Framed {
    pub(crate) stream: Stream,
    inbox: Vec<u8>,
    /// What came in the frames and was not read.
    payload: VecDeque<u8>,
    written: usize,
}

impl Framed {
    #[track_caller]
    pub(crate) fn open(below: &Endpoint) -> Self {
        let mut stream = Stream::open(below);
        stream.set_read_timeout(DEADLINE);
        stream.write_all(REQUEST.as_bytes()).expect("the broker does not take the request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer to the upgrade");
            head.extend_from_slice(&byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        Self { stream, inbox: Vec::new(), payload: VecDeque::new(), written: 0 }
    }
}

impl Read for Framed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.payload.is_empty() {
            let Some((frame, taken)) = split(&self.inbox) else {
                let mut chunk = [0; 16 * 1024];
                let count = self.stream.read(&mut chunk)?;
                if count == 0 {
                    return Ok(0);
                }
                self.inbox.extend_from_slice(&chunk[..count]);
                continue;
            };
            self.inbox.drain(..taken);
            match frame.first {
                BINARY => self.payload.extend(frame.payload),
                // Answered, after which the broker ends the connection, unless it has.
                CLOSE => {
                    let _ = self.stream.write_all(&self::frame(CLOSE, &frame.payload));
                }
                _ => assert_eq!(frame.first, PONG, "{frame:?}"),
            }
        }
        self.payload.read(bytes)
    }
}

impl Write for Framed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.written += 1;
        let (head, tail) = bytes.split_at(self.written * 7 % bytes.len());
        let mut frames = frame(BINARY & !0x80, head);
        if self.written.is_multiple_of(3) {
            frames.extend(frame(PING, b"between"));
        }
        frames.extend(frame(0x80, tail));
        self.stream.write_all(&frames)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
