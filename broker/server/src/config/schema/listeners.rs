//! `[listeners]`: a section in, checked listeners out.
//! What must not live here: opening them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::config::listener::{Listener, Transport};
use crate::config::problem::Problem;
use crate::config::read::Reader;

pub(super) fn read(reader: &mut Reader<'_>) -> BTreeMap<Arc<str>, Listener> {
    let mut listeners = BTreeMap::<Arc<str>, Listener>::new();
    for (name, place, mut section) in reader.named("listeners") {
        let mut listener = Listener::default();
        let bind = section.parsed("bind", "\"127.0.0.1:1883\"", parse_bind);
        // One that could not be read was told already, and clashes with nothing.
        let is_known = bind.is_some() || section.peek("bind").is_none();
        listener.bind = bind.unwrap_or(listener.bind);
        if let Some(transport) = section.choice("transport", &[("tcp", Transport::Tcp)]) {
            listener.transport = transport;
        }
        if let Some(most) = section.integer("connections_max", 1..=10_000_000) {
            listener.connections_max = most;
        }
        let same = listeners
            .iter()
            .find(|(_, other)| other.bind == listener.bind)
            .filter(|_| is_known && listener.bind.port() != 0);
        if let Some((other, _)) = same {
            section.report(
                Problem::error(format!(
                    "listeners `{other}` and `{name}` both bind {}",
                    listener.bind
                ))
                .at(place.clone(), "this listener")
                .help("give one of them another `bind`"),
            );
        }
        section.finish();
        listeners.insert(name.into(), listener);
    }
    if listeners.is_empty() { Config::default().listeners } else { listeners }
}

/// An address and a port, each with its own message.
fn parse_bind(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("it has no port".to_owned());
    };
    if port.parse::<u16>().is_err() {
        return Err(format!("the port `{port}` is not a number from 0 to 65535"));
    }
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address stands in brackets, like [::1]:1883".to_owned());
    }
    Err(format!("`{host}` is not an IP address (127.0.0.1: this machine only, 0.0.0.0: all)"))
}
