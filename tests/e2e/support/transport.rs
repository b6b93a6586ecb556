//! What carries the clients' bytes: TCP, unless `WASMQTT_E2E_TRANSPORT` says otherwise. By that the
//! chapters on the protocol run over every transport as they are.
//! What must not live here: expectations of one transport.

use std::net::SocketAddr;

use super::broker::Broker;
use super::web_socket;

/// The variable.
pub(crate) const VARIABLE: &str = "WASMQTT_E2E_TRANSPORT";

/// The listener that is added for it.
const LISTENER: &str = "carried";

fn chosen() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|name| name != "tcp")
}

/// What a broker is started with so that the transport is there.
pub(crate) fn settings() -> Vec<String> {
    let transport = match chosen().as_deref() {
        None => return Vec::new(),
        Some("ws") => "ws",
        Some(other) => panic!("{VARIABLE} can't be {other:?}"),
    };
    let set = |key: &str, value: &str| format!("--set=listeners.{LISTENER}.{key}={value}");
    vec![set("bind", "127.0.0.1:0"), set("transport", transport)]
}

/// Where clients go that know nothing of transports.
pub(crate) fn entrance(broker: &Broker) -> SocketAddr {
    match chosen() {
        None => broker.address,
        Some(_) => web_socket::bridge(broker.address_of(LISTENER)),
    }
}
