//! `[listeners]`: a section in, checked listeners out.
//! What must not live here: opening them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::config::listener::{
    Bind, ClientCertificate, ClientCertificates, Listener, Source, Tls, Transport, WebSocket,
};
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
        let bind =
            section.parsed("bind", "\"127.0.0.1:1883\"", |text| match text.strip_prefix("unix:") {
                None => parse_address(text).map(Bind::Ip),
                Some("") => Err("behind `unix:` stands a path".to_owned()),
                Some(path) => Ok(Bind::Unix(directory.join(path))),
            });
        // One that could not be read was told already, and clashes with nothing.
        let is_known = bind.is_some() || section.peek("bind").is_none();
        listener.bind = bind.unwrap_or(listener.bind);
        listener.transport = transport(&mut section, name);
        if let Some(mut inner) = section.section("tls") {
            listener.tls = tls(&mut inner, directory, places.tls.entry(name.into()).or_default());
            inner.finish();
        }
        limits(&mut section, &mut listener);
        let same =
            listeners.iter().find(|(_, other)| is_known && other.bind.clashes(&listener.bind));
        if let Some((other, known)) = same {
            section.report(
                Problem::error(if known.bind == listener.bind {
                    format!("listeners `{other}` and `{name}` both bind {}", listener.bind)
                } else {
                    let (one, all) = (&known.bind, &listener.bind);
                    format!("listeners `{other}` ({one}) and `{name}` ({all}) bind one address")
                })
                .at(place.clone(), "this listener")
                .help("give one of them another `bind`"),
            );
        }
        section.finish();
        listeners.insert(name.into(), listener);
    }
    if listeners.is_empty() { Config::default().listeners } else { listeners }
}

/// What a listener bounds, and whom it believes.
fn limits(section: &mut Reader<'_>, listener: &mut Listener) {
    const MOST: u32 = 10_000_000;
    if let Some(most) = section.integer("connections_max", 1..=MOST) {
        listener.connections_max = most;
    }
    listener.connections_per_address_max = section.integer("connections_per_address_max", 1..=MOST);
    listener.connect_rate_max = section.integer("connect_rate_max", 1..=1_000_000);
    listener.connect_timeout_seconds = section.integer("connect_timeout_seconds", 1..=u16::MAX);
    if let Some(mode) = section.integer("unix_mode", 0o000..=0o777) {
        listener.unix_mode = mode;
        if let (Bind::Ip(_), Some(place)) = (&listener.bind, section.place_of("unix_mode")) {
            section.report(
                Problem::error("`unix_mode` has no meaning without a Unix socket")
                    .at(place, "this listener is on an address")
                    .help("bind = \"unix:mqtt.sock\" is one, in the directory of broker.toml"),
            );
        }
    }
    for (text, place) in section.strings("trusted_proxies", "[\"10.0.0.0/8\"]").unwrap_or_default()
    {
        match Source::parse(text) {
            Ok(source) => listener.trusted_proxies.push(source),
            Err(error) => section.report(
                Problem::error(format!("`trusted_proxies` is not usable: {error}"))
                    .at(place.clone(), "this source")
                    .help("write \"10.0.0.1\", \"10.0.0.0/8\", or \"unix\" for Unix sockets"),
            ),
        }
    }
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

/// `transport` and what belongs to one of them.
fn transport(section: &mut Reader<'_>, name: &str) -> Transport {
    let is_web_socket = section.choice("transport", &[("tcp", false), ("ws", true)]);
    if is_web_socket != Some(true) {
        // Of a transport that could not be read nobody knows what belongs to it.
        let is_known = is_web_socket.is_some() || section.peek("transport").is_none();
        for key in ["path", "origins"] {
            let Some(entry) = section.entry(key).filter(|_| is_known) else { continue };
            section.report(
                Problem::error(format!("`{key}` of listener `{name}` has no meaning here"))
                    .at(entry.key.clone(), "only for WebSocket")
                    .help(format!("add `transport = \"ws\"`, or remove `{key}`")),
            );
        }
        return Transport::Tcp;
    }
    let mut web_socket = WebSocket::default();
    if let Some(path) = section.parsed("path", "\"/mqtt\"", parse_path) {
        web_socket.path = path;
    }
    web_socket.origins = origins(section);
    Transport::WebSocket(Arc::new(web_socket))
}

/// A path as it stands in a request.
fn parse_path(text: &str) -> Result<Box<str>, &'static str> {
    if !text.starts_with('/') {
        return Err("it must begin with a slash");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte)) {
        return Err("a path has letters, digits and %XX only, no query");
    }
    Ok(text.into())
}

fn origins(section: &mut Reader<'_>) -> Option<Vec<String>> {
    let texts = section.strings("origins", "[\"https://app.example\"]")?;
    for (text, place) in &texts {
        if is_origin(text) {
            continue;
        }
        section.report(
            Problem::error(format!("\"{text}\" is not an origin"))
                .at((*place).clone(), "this origin")
                .help(
                    "write it as browsers do: \"https://app.example\", with a port if it is not \
                     the scheme's, without a path or a slash at the end",
                ),
        );
    }
    Some(texts.iter().map(|(text, _)| (*text).to_owned()).collect())
}

/// `scheme://host` or `scheme://host:port` [RFC 6454, section 6.2].
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    !scheme.is_empty()
        && scheme.bytes().all(is_scheme)
        && !host.is_empty()
        && host.bytes().all(is_host)
}

/// An address and a port, each with its own message.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(SocketAddr::new(address.ip().to_canonical(), address.port()));
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
