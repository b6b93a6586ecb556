//! `[listeners]`: a section in, checked listeners out.
//! What must not live here: opening them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::config::listener::{ClientCertificate, ClientCertificates, Listener, Tls, Transport};
use crate::config::problem::Problem;
use crate::config::read::{Reader, suggestion};
use crate::config::schema::Places;
use crate::config::tree::Place;

pub(super) fn read(
    reader: &mut Reader<'_>,
    directory: &Path,
    places: &mut Places,
) -> BTreeMap<Arc<str>, Listener> {
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
        if let Some(mut inner) = section.section("tls") {
            listener.tls = tls(&mut inner, directory, places.tls.entry(name.into()).or_default());
            inner.finish();
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

/// The files that TLS needs; they are opened later.
fn tls(
    section: &mut Reader<'_>,
    directory: &Path,
    places: &mut BTreeMap<&'static str, Place>,
) -> Option<Tls> {
    let mut file = |key: &'static str, like: &str| -> Option<PathBuf> {
        let (path, place) = section.string(key, like)?;
        places.insert(key, place.clone());
        Some(directory.join(path))
    };
    let certificate = file("certificate", "\"server.crt\"");
    let key = file("key", "\"server.key\"");
    let authorities = file("client_ca", "\"clients-ca.crt\"");
    let revoked = file("crl", "\"revoked.crl\"");
    let choices =
        [("required", ClientCertificate::Required), ("optional", ClientCertificate::Optional)];
    let wanted = section.choice("client_certificate", &choices).unwrap_or_default();
    if authorities.is_none() {
        for key in ["client_certificate", "crl"] {
            let Some(place) = section.place_of(key) else { continue };
            section.report(
                Problem::error(format!("`{key}` has no meaning without `client_ca`"))
                    .at(place, "clients are not asked for a certificate")
                    .help("client_ca = \"clients-ca.crt\" names the authorities of theirs"),
            );
        }
    }
    let (with_1_2, with_1_3) = versions(section);
    for key in ["certificate", "key"] {
        if section.place_of(key).is_none() {
            section.report(
                Problem::error(format!("`tls` of a listener needs a `{key}`"))
                    .help("tls = { certificate = \"server.crt\", key = \"server.key\" }"),
            );
        }
    }
    let clients = authorities.map(|authorities| ClientCertificates {
        authorities,
        revoked,
        certificate: wanted,
    });
    Some(Tls { certificate: certificate?, key: key?, clients, with_1_2, with_1_3 })
}

/// TLS 1.2 and 1.3: which of them.
fn versions(section: &mut Reader<'_>) -> (bool, bool) {
    const KNOWN: [&str; 2] = ["1.2", "1.3"];
    let Some(texts) = section.strings("versions", "[\"1.2\", \"1.3\"]") else {
        return (true, true);
    };
    for (text, place) in &texts {
        if !KNOWN.contains(text) {
            section.report(
                Problem::error(format!("there is no TLS \"{text}\" here"))
                    .at((*place).clone(), "not a known version")
                    .help(suggestion(text, &KNOWN, "known versions")),
            );
        }
    }
    if texts.is_empty() {
        let place = section.place_of("versions");
        let problem = Problem::error("`versions` is empty: nobody could connect")
            .help("leave it out for TLS 1.2 and 1.3");
        section.report(match place {
            Some(place) => problem.at(place, "no version"),
            None => problem,
        });
    }
    let has = |version| texts.iter().any(|(text, _)| *text == version);
    (has("1.2"), has("1.3"))
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
