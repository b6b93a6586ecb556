//! One listener of the configuration.
//! What must not live here: reading it (`schema`), opening it (`net::listener`).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// One table of `[listeners]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Port 0: the system chooses.
    pub bind: SocketAddr,
    /// What MQTT is carried by.
    pub transport: Transport,
    /// TLS below it.
    pub tls: Option<Tls>,
    /// Further connections are closed at once.
    pub connections_max: u32,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)),
            transport: Transport::default(),
            tls: None,
            connections_max: 100_000,
        }
    }
}

/// `listeners.NAME.transport`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Transport {
    /// The bytes of the socket, or of TLS on it, are MQTT packets.
    #[default]
    Tcp,
    /// They are an HTTP upgrade and WebSocket frames, whose payload is MQTT packets.
    WebSocket(Arc<WebSocket>),
}

/// What a listener asks of an upgrade to WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebSocket {
    /// Where MQTT is, with its slash.
    pub path: Box<str>,
    /// Whose web pages may connect, as browsers name them; `None`: all.
    pub origins: Option<Vec<String>>,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { path: "/mqtt".into(), origins: None }
    }
}

/// `listeners.NAME.tls`: the files that it names, in the PEM format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The server's certificate, then those that signed it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whose certificates clients show; `None`: they are not asked for one.
    pub clients: Option<ClientCertificates>,
    /// TLS 1.2 is spoken.
    pub with_1_2: bool,
    /// TLS 1.3 is spoken.
    pub with_1_3: bool,
}

/// What is asked of clients' certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificates {
    /// `client_ca`: the authorities that sign them.
    pub authorities: PathBuf,
    /// `crl`: what the authorities have revoked.
    pub revoked: Option<PathBuf>,
    /// `client_certificate`
    pub certificate: ClientCertificate,
}

/// Whether a client must show a certificate. One that it shows must be valid in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum ClientCertificate {
    /// Without one, there is no connection.
    #[default]
    Required,
    /// A client without one is known by what CONNECT says.
    Optional,
}
