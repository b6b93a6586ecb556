//! What carries the clients' bytes: TCP, unless `WASMQTT_E2E_TRANSPORT` says `tls`, `ws` or `wss`. By
//! that the chapters on the protocol run over every transport as they are.
//! What must not live here: expectations of one transport.

use super::authority::Authority;
use super::broker::Broker;
use super::stream::Endpoint;

/// The variable.
pub(crate) const VARIABLE: &str = "WASMQTT_E2E_TRANSPORT";

/// The listener that is added for it.
const LISTENER: &str = "carried";

/// Another transport than TCP.
pub(crate) struct Carrier {
    /// Whose certificate the broker shows, with TLS.
    authority: Option<Authority>,
    is_web_socket: bool,
}

impl Carrier {
    /// The one that is asked for, if one is.
    pub(crate) fn chosen() -> Option<Self> {
        let (is_tls, is_web_socket) = match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("tcp") => return None,
            Ok("tls") => (true, false),
            Ok("ws") => (false, true),
            Ok("wss") => (true, true),
            Ok(other) => panic!("{VARIABLE} can't be {other:?}"),
        };
        let authority = is_tls.then(|| {
            let authority = Authority::new("root");
            authority.issue("server");
            authority
        });
        Some(Self { authority, is_web_socket })
    }

    /// What a broker is started with so that it is there.
    pub(crate) fn setting(&self) -> String {
        let transport = if self.is_web_socket { "ws" } else { "tcp" };
        let tls = self.authority.as_ref().map(|authority| authority.tls("server", ""));
        let tls = tls.map_or(String::new(), |tls| format!(", tls = {tls}"));
        format!(
            "--set=listeners.{LISTENER}={{ bind = \"127.0.0.1:0\", transport = \"{transport}\"{tls} }}"
        )
    }

    /// Where clients go.
    pub(crate) fn endpoint(&self, broker: &Broker) -> Endpoint {
        let address = broker.address_of(LISTENER);
        let below = match &self.authority {
            None => Endpoint::Tcp(address),
            Some(authority) => Endpoint::Tls(address, authority.client()),
        };
        if self.is_web_socket { Endpoint::WebSocket(Box::new(below)) } else { below }
    }
}
