//! Several listeners: addresses of both families, and the limits that each has for itself.
//! What must not live here: what is spoken on them.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{Broker, Case, Client, Endpoint, Instance, Version};

/// A port that nobody has, for a moment.
fn free_port() -> u16 {
    let probe = TcpListener::bind("[::]:0").unwrap();
    probe.local_addr().unwrap().port()
}

/// An instance that lets everybody in, with those settings; its own listener gets out of the way.
fn run(instance: &Instance, settings: &[&str]) -> Broker {
    let open = ["auth.order=[\"anonymous\"]"];
    instance.run(&[&open, settings].concat())
}

#[track_caller]
fn works_at(broker: &Broker, address: &str, port: u16) {
    let ip = address.parse().unwrap();
    let case = Case::at(broker, Version::V5, &Endpoint::Tcp(SocketAddr::new(ip, port)));
    case.client("one").assert_quiet();
}

#[test]
fn every_address_of_ipv6_takes_ipv4_too_where_no_other_listener_does() {
    let instance = Instance::create();
    let broker = run(&instance, &["listeners.all.bind=[::]:0"]);
    let port = broker.address_of("all").port();
    broker.logged(&["takes IPv6 and IPv4"]);
    works_at(&broker, "::1", port);
    works_at(&broker, "127.0.0.1", port);
    broker.logged(&["connected", "listener=\"all\"", "peer=\"127.0.0.1:"]);
}

#[test]
fn every_address_of_both_families_are_two_listeners_on_one_port() {
    let instance = Instance::create();
    let port = free_port();
    let (four, six) =
        (format!("listeners.four.bind=0.0.0.0:{port}"), format!("listeners.six.bind=[::]:{port}"));
    let broker = run(&instance, &[&four, &six]);
    broker.logged(&["takes IPv6 only: another listener has IPv4"]);
    works_at(&broker, "::1", port);
    broker.logged(&["connected", "listener=\"six\"", "peer=\"[::1]:"]);
    works_at(&broker, "127.0.0.1", port);
    broker.logged(&["connected", "listener=\"four\"", "peer=\"127.0.0.1:"]);
}

#[test]
fn listeners_that_clash_are_refused_before_anything_starts() {
    let instance = Instance::create();
    let settings = ["listeners.one.bind=127.0.0.1:18830", "listeners.two.bind=0.0.0.0:18830"];
    let ran = instance.try_run(&settings);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("bind one address"), "{ran:?}");
}

#[test]
fn an_address_that_is_not_to_be_had_is_explained() {
    let instance = Instance::create();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("listeners.taken.bind={}", taken.local_addr().unwrap());
    for (setting, expected) in [
        (taken.as_str(), "is the port taken?"),
        ("listeners.away.bind=192.0.2.1:0", "this machine has no such address"),
    ] {
        let ran = instance.try_run(&[setting]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(expected), "{ran:?}");
    }
}

#[test]
fn an_address_has_so_many_connections_and_a_place_is_free_when_one_ends() {
    let most = "listeners.mqtt.connections_per_address_max=2";
    let broker = Broker::dev_with(&["--set", most, "--set", "log.level=debug"]);
    let case = Case::new(&broker, Version::V5);
    let (first, mut second) = (case.client("1"), case.client("2"));
    assert_eq!(case.dial().rest_bytes(), b"");
    broker.logged(&["refused: too many connections of one address"]);
    first.disconnect();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut next = Client::dial(broker.address, Version::V5);
        if next.try_send(case.connect("3").encode()) && next.receive_or_end().is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "no place became free");
    }
    second.assert_quiet();
}

#[test]
fn behind_a_proxy_the_addresses_of_its_clients_are_counted() {
    let settings = [
        "listeners.mqtt.connections_per_address_max=1",
        "listeners.mqtt.trusted_proxies=[\"127.0.0.1\"]",
    ];
    let broker = Broker::dev_with(&["--set", settings[0], "--set", settings[1]]);
    let case = Case::new(&broker, Version::V5);
    let from = |last: u8, name: &str| {
        let header = format!("PROXY TCP4 192.0.2.{last} 192.0.2.99 1 1883\r\n");
        let mut client = case.dial();
        client.send([header.as_bytes(), &case.connect(name).encode()].concat());
        client
    };
    let (mut one, mut two) = (from(1, "one"), from(2, "two"));
    assert_eq!((one.connack().code, two.connack().code), (0, 0));
    assert_eq!(from(1, "three").rest_bytes(), b"");
    one.assert_quiet();
}

#[test]
fn connections_beyond_the_rate_wait_and_are_served_in_their_time() {
    let broker = Broker::dev_with(&["--set", "listeners.mqtt.connect_rate_max=10"]);
    let case = Case::new(&broker, Version::V5);
    let began = Instant::now();
    let mut clients: Vec<Client> = (0..25).map(|_| case.dial()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(case.connect(&number.to_string()).encode());
    }
    for client in &mut clients {
        assert_eq!(client.connack().code, 0);
    }
    // Ten at once, then one each tenth of a second.
    assert!(began.elapsed() >= Duration::from_millis(1400), "{:?}", began.elapsed());
}

#[test]
fn each_listener_has_its_own_time_for_connect() {
    let own = "listeners.other={ bind = \"127.0.0.1:0\", connect_timeout_seconds = 1 }";
    let broker = Broker::dev_with(&["--set", own]);
    let began = Instant::now();
    let patient = TcpStream::connect(broker.address_of("mqtt")).unwrap();
    let mut hasty = Client::dial(broker.address_of("other"), Version::V5);
    assert_eq!(hasty.rest_bytes(), b"");
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    patient.set_nonblocking(true).unwrap();
    let error = patient.peek(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "still open");
}
