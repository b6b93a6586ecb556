//! Where a broker listens, and a connection to it: what the bytes of a client travel on.
//! What must not live here: MQTT.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::client::DEADLINE;
use super::web_socket::Framed;

/// A listener, as a client sees it.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// With what a client knows and shows; the server is `localhost`.
    Tls(SocketAddr, Arc<ClientConfig>),
    /// The same, after a header of a proxy, which leaves together with the first of TLS.
    BehindProxy(&'static [u8], SocketAddr, Arc<ClientConfig>),
    /// In frames on one of the others.
    WebSocket(Box<Self>),
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<&Self> for Endpoint {
    fn from(endpoint: &Self) -> Self {
        endpoint.clone()
    }
}

/// A connection.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    WebSocket(Box<Framed>),
}

impl Stream {
    pub(crate) fn open(endpoint: &Endpoint) -> Self {
        let tcp = |address| {
            let stream = TcpStream::connect_timeout(address, DEADLINE).expect("connection refused");
            stream.set_nodelay(true).unwrap();
            stream
        };
        let stream = match endpoint {
            Endpoint::Tcp(address) => Self::Tcp(tcp(address)),
            Endpoint::Unix(path) => {
                Self::Unix(UnixStream::connect(path).expect("connection refused"))
            }
            Endpoint::Tls(address, config) => {
                Self::Tls(Box::new(StreamOwned::new(session(config), tcp(address))))
            }
            Endpoint::BehindProxy(header, address, config) => {
                let (mut session, mut stream) = (session(config), tcp(address));
                let mut first = header.to_vec();
                session.write_tls(&mut first).unwrap();
                stream.write_all(&first).unwrap();
                Self::Tls(Box::new(StreamOwned::new(session, stream)))
            }
            Endpoint::WebSocket(below) => Self::WebSocket(Box::new(Framed::open(below))),
        };
        stream.set_write_timeout(DEADLINE);
        stream
    }

    pub(crate) fn set_read_timeout(&self, wait: Duration) {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(wait)),
            Self::Unix(stream) => stream.set_read_timeout(Some(wait)),
            Self::Tls(stream) => stream.sock.set_read_timeout(Some(wait)),
            Self::WebSocket(framed) => return framed.stream.set_read_timeout(wait),
        }
        .unwrap();
    }

    pub(crate) fn set_write_timeout(&self, wait: Duration) {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(wait)),
            Self::Unix(stream) => stream.set_write_timeout(Some(wait)),
            Self::Tls(stream) => stream.sock.set_write_timeout(Some(wait)),
            Self::WebSocket(framed) => return framed.stream.set_write_timeout(wait),
        }
        .unwrap();
    }

    /// Half-closes: the broker sees the end, this side still reads.
    pub(crate) fn end_sending(&mut self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.flush();
                stream.sock.shutdown(Shutdown::Write)
            }
            Self::WebSocket(framed) => return framed.stream.end_sending(),
        };
    }

    /// Reads and forgets whatever comes from here on, beside what the test does.
    pub(crate) fn discard_what_comes(&self) {
        let Self::Tcp(stream) = self else { panic!("only what is on TCP itself is discarded") };
        let mut stream = stream.try_clone().unwrap();
        std::thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
    }

    /// What the handshake found out; `None` without TLS.
    pub(crate) fn tls(&self) -> Option<&ClientConnection> {
        match self {
            Self::Tls(stream) => Some(&stream.conn),
            Self::WebSocket(framed) => framed.stream.tls(),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }
}

fn session(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::clone(config), name).unwrap()
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
            Self::WebSocket(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::WebSocket(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
            Self::WebSocket(stream) => stream.flush(),
        }
    }
}
