//! Where a server is and how it is reached: TCP or a Unix socket, TLS and WebSocket on top.
//! What must not live here: MQTT.

use std::net::IpAddr;
use std::path::PathBuf;

use tokio::net::{TcpSocket, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::error::ClientError;
use super::link::{Link, Stream};
use super::tls::{self, TlsOptions};
use super::websocket;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// A server and the way to it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: Address,
    /// The local address to connect from.
    pub(crate) bind: Option<IpAddr>,
    pub(crate) tls: Option<(TlsConnector, TlsOptions)>,
    /// The path of WebSocket's request, beginning with `/`.
    pub(crate) websocket: Option<String>,
}

impl Target {
    /// For messages, as in `localhost:1883`.
    pub(crate) fn server(&self) -> String {
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(path) => path.display().to_string(),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// The layer that did not come about.
    pub(crate) async fn connect(&self) -> Result<Link, ClientError> {
        let server = self.server();
        let host = match &self.address {
            Address::Tcp { host, .. } => host.as_str(),
            Address::Unix(_) => "localhost",
        };
        let mut stream = self.dial(&server).await?;
        if let Some((connector, options)) = &self.tls {
            stream = tls::connect(connector, options, host, &server, stream).await?;
        }
        if let Some(path) = &self.websocket {
            let authority =
                if matches!(self.address, Address::Tcp { .. }) { &server } else { host };
            stream = websocket::connect(stream, self.tls.is_some(), authority, path).await?;
        }
        Ok(Link::new(stream))
    }

    async fn dial(&self, server: &str) -> Result<Box<dyn Stream>, ClientError> {
        let failed = |error| ClientError::Connect { server: server.to_owned(), error };
        let (host, port) = match &self.address {
            Address::Tcp { host, port } => (host.as_str(), *port),
            Address::Unix(path) => {
                return Ok(Box::new(UnixStream::connect(path).await.map_err(failed)?));
            }
        };
        let unknown = |error| ClientError::Resolve { host: host.to_owned(), error };
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in lookup_host((host, port)).await.map_err(unknown)? {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            let socket = socket.map_err(failed)?;
            if let Some(local) = self.bind {
                if local.is_ipv4() != address.is_ipv4() {
                    continue;
                }
                socket.bind((local, 0).into()).map_err(failed)?;
            }
            match socket.connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(failed)?;
                    return Ok(Box::new(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }
}
