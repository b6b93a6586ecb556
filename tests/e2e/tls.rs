//! TLS: handshakes that succeed and fail, certificates of clients, certificates read anew.
//! What must not live here: what MQTT does on every transport (`transports`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::ProtocolVersion;

use crate::support::authority::{replace, uri};
use crate::support::stream::Stream;
use crate::support::{Authority, Broker, Case, Client, Endpoint, Instance, Version};

/// A broker with a listener `tls`, whose `tls` is that.
#[track_caller]
fn broker(tls: &str) -> Broker {
    let listener = format!("listeners.tls={{ bind = \"127.0.0.1:0\", tls = {tls} }}");
    let log = ["--set", "log.level=debug"];
    Broker::dev_with(&[&["--workers", "2", "--set", &listener], &log[..]].concat())
}

fn endpoint(broker: &Broker, client: std::sync::Arc<rustls::ClientConfig>) -> Endpoint {
    Endpoint::Tls(broker.address_of("tls"), client)
}

/// Connects, publishes and receives; the client stays connected.
#[track_caller]
fn works(broker: &Broker, client: std::sync::Arc<rustls::ClientConfig>) -> Client {
    let case = Case::at(broker, Version::V5, &endpoint(broker, client));
    let mut client = case.subscriber("one", "t", 1);
    client.publish(&case.topic("t"), "hello", 1);
    assert_eq!(client.message().text(), "hello");
    client
}

/// The handshake fails, or what follows it; what the client is told.
#[track_caller]
fn refused(broker: &Broker, client: std::sync::Arc<rustls::ClientConfig>) -> String {
    let mut stream = Stream::open(&endpoint(broker, client));
    stream.set_read_timeout(Duration::from_secs(20));
    // With TLS 1.3 the client is done before the server has looked at its certificate.
    if let Err(error) = stream.write_all(&[0xc0, 0x00]) {
        return error.to_string();
    }
    match stream.read(&mut [0; 16]) {
        Ok(count) => panic!("{count} bytes came"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn both_versions_of_tls_carry_mqtt_and_show_the_name_that_was_asked_for() {
    let authority = Authority::new("root");
    authority.issue("server");
    let broker = broker(&authority.tls("server", ""));
    for (version, named) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let client = works(&broker, authority.client_with(None, &[version]));
        assert_eq!(client.tls().unwrap().protocol_version(), Some(named));
        let shown = if named == ProtocolVersion::TLSv1_2 { "TLSv1.2" } else { "TLSv1.3" };
        broker.logged(&["connected", shown, "server_name=\"localhost\""]);
        client.disconnect();
    }
}

#[test]
fn a_version_that_is_not_named_is_refused() {
    let authority = Authority::new("root");
    authority.issue("server");
    let broker = broker(&authority.tls("server", ", versions = [\"1.3\"]"));
    works(&broker, authority.client());
    let told = refused(&broker, authority.client_with(None, &[&rustls::version::TLS12]));
    assert!(told.contains("ProtocolVersion"), "{told}");
}

#[test]
fn a_client_without_a_certificate_is_told_so_where_one_is_required() {
    let authority = Authority::new("root");
    authority.issue("server");
    authority.issue_with("sensor-7", |params| {
        params.subject_alt_names.push(uri("urn:device:7"));
    });
    let ca = format!(", client_ca = \"{}\"", authority.named("ca.crt"));
    let broker = broker(&authority.tls("server", &ca));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let told = refused(&broker, authority.client_with(None, &[version]));
        assert!(told.contains("CertificateRequired") || told.contains("Handshake"), "{told}");
        let client = authority.client_with(Some((&authority, "sensor-7")), &[version]);
        works(&broker, client).disconnect();
    }
    broker.logged(&["no TLS: the client has sent no certificate", "127.0.0.1:"]);
    broker.logged(&["connected", "sensor-7 (SHA-256 "]);
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_be_wrong() {
    let (authority, stranger) = (Authority::new("root"), Authority::new("stranger"));
    authority.issue("server");
    authority.issue("device");
    stranger.issue("device");
    let ca = authority.named("ca.crt");
    let more = format!(", client_ca = \"{ca}\", client_certificate = \"optional\"");
    let broker = broker(&authority.tls("server", &more));
    works(&broker, authority.client()).disconnect();
    works(&broker, authority.client_as(&authority, "device")).disconnect();
    let told = refused(&broker, authority.client_as(&stranger, "device"));
    assert!(told.contains("UnknownCA"), "{told}");
    broker.logged(&["no TLS: the client's certificate is not from an authority"]);
}

#[test]
fn a_revoked_certificate_is_refused_and_one_that_no_list_speaks_of() {
    let authority = Authority::new("root");
    for name in ["server", "good", "stolen"] {
        authority.issue(name);
    }
    authority.revoke("revoked.crl", &["stolen"]);
    let (ca, crl) = (authority.named("ca.crt"), authority.named("revoked.crl"));
    let broker_of = |crl: &str| {
        broker(&authority.tls("server", &format!(", client_ca = \"{ca}\", crl = \"{crl}\"")))
    };
    let first = broker_of(&crl);
    works(&first, authority.client_as(&authority, "good")).disconnect();
    let told = refused(&first, authority.client_as(&authority, "stolen"));
    assert!(told.contains("CertificateRevoked"), "{told}");
    first.logged(&["no TLS: the client's certificate is revoked"]);

    let other = Authority::new("other");
    other.revoke("revoked.crl", &[]);
    let second = broker_of(&other.named("revoked.crl"));
    refused(&second, authority.client_as(&authority, "good"));
    second.logged(&["no list of `crl` is from the authority"]);
}

#[test]
fn an_expired_certificate_of_a_client_is_refused() {
    let authority = Authority::new("root");
    authority.issue("server");
    authority.issue_with("old", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let ca = format!(", client_ca = \"{}\"", authority.named("ca.crt"));
    let broker = broker(&authority.tls("server", &ca));
    let told = refused(&broker, authority.client_as(&authority, "old"));
    assert!(told.contains("CertificateExpired"), "{told}");
}

#[test]
fn plain_mqtt_on_a_tls_listener_and_tls_on_a_plain_one_end_at_once_and_are_logged() {
    let authority = Authority::new("root");
    authority.issue("server");
    let broker = broker(&authority.tls("server", ""));
    let began = Instant::now();
    let plain = Endpoint::Tcp(broker.address_of("tls"));
    let case = Case::at(&broker, Version::V5, &plain);
    let mut client = case.dial();
    client.send(case.connect("plain").encode());
    client.rest_bytes();
    broker.logged(&["no TLS: what the client sends is not TLS"]);

    let mut stream = Stream::open(&Endpoint::Tls(broker.address, authority.client()));
    stream.set_read_timeout(Duration::from_secs(20));
    stream.write_all(&[0xc0, 0x00]).expect_err("no handshake");
    broker.logged(&["the client speaks TLS, this listener does not"]);
    assert!(began.elapsed() < Duration::from_secs(9), "the time for CONNECT was waited for");
    works(&broker, authority.client());
}

#[test]
fn a_handshake_that_stalls_or_comes_byte_by_byte_ends_with_the_time_for_connect() {
    let authority = Authority::new("root");
    authority.issue("server");
    let listener = format!(
        "listeners.tls={{ bind = \"127.0.0.1:0\", tls = {} }}",
        authority.tls("server", "")
    );
    let timeout = "limits.connect_timeout_seconds=1";
    let broker = Broker::dev_with(&["--set", &listener, "--set", timeout]);
    // A ClientHello of 512 bytes that never gets whole.
    let mut hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    hello.resize(400, 0);
    let mut socket = TcpStream::connect(broker.address_of("tls")).unwrap();
    let began = Instant::now();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut sent = hello.iter();
    let ended = loop {
        if let Some(byte) = sent.next() {
            let _ = socket.write_all(&[*byte]);
        }
        match socket.read(&mut [0; 64]) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break true,
        }
        if began.elapsed() > Duration::from_secs(20) {
            break false;
        }
    };
    assert!(ended, "still open");
    works(&broker, authority.client());
}

#[test]
fn certificates_are_read_anew_on_a_signal_and_connections_stay() {
    let authority = Authority::new("root");
    authority.issue("server");
    authority.issue("renewed");
    let broker = broker(&authority.tls("server", ""));
    let serial =
        |client: &Client| client.tls().unwrap().peer_certificates().unwrap()[0].as_ref().to_vec();
    let mut old = works(&broker, authority.client());
    for kind in ["crt", "key"] {
        let file = authority.path(&format!("server.{kind}"));
        replace(&file, &authority.path(&format!("renewed.{kind}")));
    }
    broker.signal(Signal::HUP);
    broker.logged(&["certificates were read anew"]);
    let new = works(&broker, authority.client());
    assert_ne!(serial(&old), serial(&new));
    old.ping();

    authority.write("server.key", "-----BEGIN ");
    broker.signal(Signal::HUP);
    broker.logged(&["certificates stay as they were", "server.key"]);
    let third = works(&broker, authority.client());
    assert_eq!(serial(&new), serial(&third));
    old.ping();
}

#[test]
fn the_reload_command_says_what_was_read_and_what_was_not() {
    let authority = Authority::new("root");
    authority.issue("server");
    let ca = authority.named("ca.crt");
    authority.issue("device");
    authority.revoke("revoked.crl", &[]);
    let more = format!(", client_ca = \"{ca}\", crl = \"{}\"", authority.named("revoked.crl"));
    let tls = authority.tls("server", &more);
    let instance = Instance::create();
    let none = instance.try_cli(&["reload"], "");
    assert_eq!((none.code, none.stderr.contains("no broker runs")), (1, true), "{none:?}");
    instance.user("device");
    instance.acl("allow publish # --to all");
    let listener = format!("listeners.tls={{ bind = \"127.0.0.1:0\", tls = {tls} }}");
    let broker = instance.run(&[&listener]);
    let endpoint = endpoint(&broker, authority.client_as(&authority, "device"));
    let case = Case::at(&broker, Version::V5, &endpoint);
    let connect = case.connect("device").login("device", "device-password");
    let mut client = case.open(&connect);
    assert_eq!(instance.cli(&["reload"]), "listener tls: new connections get what was read\n");

    authority.revoke("revoked.crl", &["device"]);
    assert_eq!(instance.json(&["reload"])[0]["error"], serde_json::Value::Null);
    refused(&broker, authority.client_as(&authority, "device"));
    client.ping();

    authority.write("ca.crt", "nothing");
    let ran = instance.try_cli(&["reload"], "");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("listener tls keeps what it had"), "{ran:?}");
    assert!(ran.stderr.contains("ca.crt is not a certificate in the PEM format"), "{ran:?}");
}

/// Starting with those files stops, and says so.
#[track_caller]
fn does_not_start(tls: &str, expected: &[&str]) {
    let instance = Instance::create();
    let listener = format!("listeners.tls={{ bind = \"127.0.0.1:0\", tls = {tls} }}");
    let ran = instance.try_run(&[&listener]);
    assert_eq!(ran.code, 2, "{ran:?}");
    // Long lines are broken, with a bar before what follows.
    let words: Vec<&str> = ran.stderr.split_whitespace().filter(|word| *word != "│").collect();
    let text = words.join(" ");
    for word in expected {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_to_do() {
    let authority = Authority::new("root");
    authority.issue("server");
    authority.issue("other");
    let tls = |certificate: &str, key: &str, more: &str| {
        let (certificate, key) = (authority.named(certificate), authority.named(key));
        format!("{{ certificate = \"{certificate}\", key = \"{key}\"{more} }}")
    };
    does_not_start(&tls("none.crt", "server.key", ""), &["there is no file", "none.crt"]);
    does_not_start(
        &tls("server.crt", "other.key", ""),
        &["does not belong to the certificate", "other.key", "server.crt"],
    );
    does_not_start(
        &tls("server.key", "server.key", ""),
        &["there is no certificate in", "BEGIN CERTIFICATE"],
    );
    does_not_start(
        &tls("server.crt", "server.crt", ""),
        &["there is no private key in", "BEGIN PRIVATE KEY"],
    );
    authority.write("binary.crt", "\u{1}\u{2}");
    does_not_start(
        &tls("binary.crt", "server.key", ""),
        &["is not a certificate in the PEM format", "openssl x509 -inform DER"],
    );
    authority.write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    does_not_start(
        &tls("server.crt", "locked.key", ""),
        &["is encrypted", "openssl pkey -in OLD -out NEW"],
    );
    does_not_start(
        &tls("server.crt", "server.key", ", client_certificate = \"optional\""),
        &["`client_certificate` has no meaning without `client_ca`"],
    );
}

#[test]
fn an_expired_certificate_of_the_broker_is_worth_a_warning() {
    let authority = Authority::new("root");
    authority.issue_with("server", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let broker = broker(&authority.tls("server", ""));
    broker.logged(&["has expired on 2021-01-01"]);
}
