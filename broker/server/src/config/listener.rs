//! One listener of the configuration.
//! What must not live here: reading it (`schema`), opening it (`net::listener`).

use std::net::{Ipv4Addr, SocketAddr};

/// One table of `[listeners]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Port 0: the system chooses.
    pub bind: SocketAddr,
    /// What MQTT is carried by.
    pub transport: Transport,
    /// Further connections are closed at once.
    pub connections_max: u32,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)),
            transport: Transport::default(),
            connections_max: 100_000,
        }
    }
}

/// `listeners.NAME.transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Transport {
    /// The bytes of the socket, or of TLS on it, are MQTT packets.
    #[default]
    Tcp,
}
