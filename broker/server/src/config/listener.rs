//! One listener of the configuration.
//! What must not live here: reading it (`schema`), opening it (`net::listener`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// One table of `[listeners]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Where it listens.
    pub bind: Bind,
    /// Who may use a Unix socket: its file's mode.
    pub unix_mode: u32,
    /// Proxies, who say for whom they speak; nobody else does.
    pub trusted_proxies: Vec<Source>,
    /// What MQTT is carried by.
    pub transport: Transport,
    /// TLS below it.
    pub tls: Option<Tls>,
    /// Further connections are closed at once.
    pub connections_max: u32,
    /// The same for one address.
    pub connections_per_address_max: Option<u32>,
    /// Connections that are accepted in a second; further ones wait to be.
    pub connect_rate_max: Option<u32>,
    /// In place of the limit for all.
    pub connect_timeout_seconds: Option<u16>,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            bind: Bind::Ip(DEFAULT_ADDRESS),
            unix_mode: 0o600,
            trusted_proxies: Vec::new(),
            transport: Transport::default(),
            tls: None,
            connections_max: 100_000,
            connections_per_address_max: None,
            connect_rate_max: None,
            connect_timeout_seconds: None,
        }
    }
}

/// Where a listener without `bind` listens.
pub(crate) const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);

/// `listeners.NAME.bind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    /// An address; port 0: the system chooses.
    Ip(SocketAddr),
    /// `unix:PATH`, relative to the directory of `broker.toml`.
    Unix(PathBuf),
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Bind {
    /// The address, if it is one.
    pub(crate) const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether both can't be had at once.
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(one), Self::Unix(other)) => one == other,
            (Self::Ip(one), Self::Ip(other)) => {
                let (left, right) = (one.ip(), other.ip());
                one.port() != 0
                    && one.port() == other.port()
                    && one.is_ipv4() == other.is_ipv4()
                    && (left == right || left.is_unspecified() || right.is_unspecified())
            }
            (Self::Ip(_), Self::Unix(_)) | (Self::Unix(_), Self::Ip(_)) => false,
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `"unix"`: somebody on a Unix socket.
    Unix,
    /// `"10.0.0.0/8"`: the addresses that have so many leading bits in common with it.
    Network(IpAddr, u8),
}

impl Source {
    /// Reads `unix`, an address, or a network.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits)),
        };
        let address: IpAddr =
            address.parse().map_err(|_| format!("\"{address}\" is not an IP address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => {
                let bits = bits.parse().ok().filter(|bits| *bits <= most);
                bits.ok_or_else(|| format!("behind / stands a number from 0 to {most}"))?
            }
        };
        Ok(Self::Network(address, bits))
    }

    /// Whether the peer at `address` is meant; `None` is somebody on a Unix socket.
    pub(crate) fn has(&self, address: Option<IpAddr>) -> bool {
        fn prefix(address: u128, width: u32, bits: u8) -> u128 {
            address.checked_shr(width - u32::from(bits)).unwrap_or(0)
        }
        match (self, address) {
            (Self::Unix, None) => true,
            (Self::Network(IpAddr::V4(network), bits), Some(IpAddr::V4(address))) => {
                let number = |ip: &Ipv4Addr| u128::from(ip.to_bits());
                prefix(number(network), 32, *bits) == prefix(number(&address), 32, *bits)
            }
            (Self::Network(IpAddr::V6(network), bits), Some(IpAddr::V6(address))) => {
                prefix(network.to_bits(), 128, *bits) == prefix(address.to_bits(), 128, *bits)
            }
            (Self::Unix | Self::Network(..), _) => false,
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

#[cfg(test)]
mod tests {
    use super::{Bind, Source};

    #[track_caller]
    fn check_source(source: &str, address: &str, expected: bool) {
        let address = (address != "unix").then(|| address.parse().unwrap());
        assert_eq!(Source::parse(source).unwrap().has(address), expected, "{source} {address:?}");
    }

    #[test]
    fn a_network_has_the_addresses_with_its_leading_bits() {
        check_source("10.1.2.3", "10.1.2.3", true);
        check_source("10.1.2.3", "10.1.2.4", false);
        check_source("10.1.2.3/8", "10.255.0.1", true);
        check_source("10.1.2.3/8", "11.1.2.3", false);
        check_source("10.0.0.0/9", "10.128.0.0", false);
        check_source("0.0.0.0/0", "203.0.113.1", true);
        check_source("0.0.0.0/0", "::1", false);
        check_source("::/0", "::1", true);
        check_source("2001:db8::/32", "2001:db8:ffff::1", true);
        check_source("2001:db8::/32", "2001:db9::1", false);
        check_source("unix", "unix", true);
        check_source("unix", "127.0.0.1", false);
        check_source("0.0.0.0/0", "unix", false);
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/x", "lan", "Unix"] {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[track_caller]
    fn check_clash(one: &str, other: &str, expected: bool) {
        let bind = |text: &str| Bind::Ip(text.parse().unwrap());
        assert_eq!(bind(one).clashes(&bind(other)), expected, "{one} {other}");
        assert_eq!(bind(other).clashes(&bind(one)), expected, "{other} {one}");
    }

    #[test]
    fn addresses_clash_on_one_port_of_one_family() {
        check_clash("127.0.0.1:1883", "127.0.0.1:1883", true);
        check_clash("127.0.0.1:0", "127.0.0.1:0", false);
        check_clash("127.0.0.1:1883", "127.0.0.2:1883", false);
        check_clash("127.0.0.1:1883", "0.0.0.0:1883", true);
        check_clash("0.0.0.0:1883", "[::]:1883", false);
        check_clash("[::1]:1883", "[::]:1883", true);
        check_clash("0.0.0.0:1883", "0.0.0.0:8883", false);
    }
}
