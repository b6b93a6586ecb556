//! The PROXY protocol: who must send a header, who must not, and whose address counts.
//! What must not live here: the header's grammar, which its parser's own tests have.

use std::time::{Duration, Instant};

use crate::support::{Authority, Broker, Case, Client, Endpoint, Version};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 1883\r\n";

/// Version 2, from 192.0.2.8, with something that is skipped.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x11\xc0\x00\x02\x08\xc6\x33\x64\x01\x9c\x40\x07\x5b\x04\x00\x02ab";

const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

fn broker(trusted: &str, more: &[&str]) -> Broker {
    let setting = format!("listeners.mqtt.trusted_proxies=[{trusted}]");
    let own = ["--workers", "2", "--set", "log.level=debug", "--set", &setting];
    Broker::dev_with(&[&own, more].concat())
}

/// Sends a header and CONNECT in one go.
fn connect(case: &Case<'_>, header: &[u8], name: &str) -> Client {
    let mut client = case.dial();
    client.send([header, &case.connect(name).encode()].concat());
    client
}

#[test]
fn the_address_in_the_header_of_a_trusted_proxy_counts() {
    let broker = broker("\"127.0.0.0/8\"", &[]);
    let case = Case::new(&broker, Version::V5);
    for (header, peer) in [(V1, "192.0.2.7:40000"), (V2, "192.0.2.8:40000"), (LOCAL, "127.0.0.1:")]
    {
        let mut client = connect(&case, header, "one");
        assert_eq!(client.connack().code, 0);
        client.assert_quiet();
        broker.logged(&["connected", &format!("peer=\"{peer}")]);
        client.disconnect();
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let broker = broker("\"127.0.0.1\"", &[]);
    let case = Case::new(&broker, Version::V3);
    let mut client = case.dial();
    for byte in [V2, &case.connect("slow").encode()].concat() {
        client.send([byte]);
    }
    assert_eq!(client.connack().code, 0);
}

#[test]
fn a_trusted_proxy_without_a_header_is_refused() {
    let broker = broker("\"127.0.0.1\"", &[]);
    let case = Case::new(&broker, Version::V5);
    assert_eq!(connect(&case, b"", "bare").rest_bytes(), b"");
    broker.logged(&["refused: no PROXY header from a trusted proxy"]);
    // What is in the header comes once.
    assert_eq!(connect(&case, &[V1, V1].concat(), "twice").rest_bytes(), b"");
}

#[test]
fn a_header_from_anybody_else_is_refused_and_without_one_they_connect() {
    let broker = broker("\"192.0.2.0/24\", \"::1\"", &[]);
    let case = Case::new(&broker, Version::V5);
    for header in [V1, V2] {
        assert_eq!(connect(&case, header, "liar").rest_bytes(), b"");
    }
    broker.logged(&["a PROXY header from an address that is not in `trusted_proxies`"]);
    case.client("honest").assert_quiet();
}

#[test]
fn a_proxy_that_sends_half_a_header_is_cut_with_the_time_for_connect() {
    let broker = broker("\"127.0.0.1\"", &["--set", "listeners.mqtt.connect_timeout_seconds=1"]);
    let case = Case::new(&broker, Version::V5);
    let began = Instant::now();
    let mut client = case.dial();
    client.send(&V1[..20]);
    assert_eq!(client.rest_bytes(), b"");
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(connect(&case, V1, "next").connack().code, 0);
}

#[test]
fn a_header_stands_before_tls_and_on_unix_sockets() {
    let authority = Authority::new("root");
    authority.issue("server");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mqtt.sock");
    let tls = format!(
        "listeners.tls={{ bind = \"127.0.0.1:0\", trusted_proxies = [\"127.0.0.1\"], tls = {} }}",
        authority.tls("server", "")
    );
    let unix = format!(
        "listeners.unix={{ bind = \"unix:{}\", trusted_proxies = [\"unix\"] }}",
        path.display()
    );
    let broker = broker("\"::1\"", &["--set", &tls, "--set", &unix]);
    let case = Case::at(&broker, Version::V5, &Endpoint::Unix(path));
    assert_eq!(connect(&case, V1, "unix").connack().code, 0);
    broker.logged(&["connected", "unix", "192.0.2.7:40000"]);

    // The client's hello is in one segment with the header.
    let behind = Endpoint::BehindProxy(V2, broker.address_of("tls"), authority.client());
    let case = Case::at(&broker, Version::V5, &behind);
    case.client("tls").assert_quiet();
    broker.logged(&["connected", "TLSv1.3", "192.0.2.8:40000"]);
}
