//! SIGTERM: clients are told, the process ends with success.
//! What must not live here: `startup` and its refusals.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use crate::support::broker::is_foreign;
use crate::support::{Broker, Case, Instance, Publish, Version};

fn cases(workers: &str, run: impl Fn(Broker)) {
    if is_foreign() {
        return;
    }
    run(Broker::dev_with(&["--workers", workers]));
}

#[test]
fn clients_are_told_0x8b_and_the_process_ends_with_success() {
    for workers in ["1", "3"] {
        cases(workers, |mut broker| {
            let mut clients: Vec<_> = [Version::V3, Version::V5]
                .into_iter()
                .flat_map(|version| {
                    let case = Case::new(&broker, version);
                    (0..6).map(|n| case.client(&format!("c{n}"))).collect::<Vec<_>>()
                })
                .collect();
            broker.terminate();
            for client in &mut clients {
                client.expect_end(&[0x8b]);
            }
            let status = broker.stopped();
            assert!(status.success(), "{status}");
            assert!(TcpStream::connect(broker.address).is_err(), "nobody listens");
        });
    }
}

#[test]
fn without_clients_it_ends_at_once() {
    cases("2", |mut broker| {
        broker.terminate();
        assert!(broker.stopped().success());
    });
}

#[test]
fn half_a_request_of_the_command_line_does_not_hold_it_up() {
    if is_foreign() {
        return;
    }
    let instance = Instance::create();
    let mut broker = instance.run(&[]);
    let mut halves = Vec::new();
    for half in [
        "GET /v1/st",
        "PUT /v1/tenants/default/users/x/password HTTP/1.1\r\nhost: x\r\n\
                 content-length: 100\r\n\r\n{",
    ] {
        let mut socket = UnixStream::connect(instance.path().join("admin.sock")).unwrap();
        socket.write_all(half.as_bytes()).unwrap();
        halves.push(socket);
    }
    instance.cli(&["status"]);
    broker.terminate();
    assert!(broker.stopped().success());
}

#[test]
fn clients_that_do_not_read_do_not_hold_it_up() {
    cases("2", |mut broker| {
        let case = Case::new(&broker, Version::V5);
        let slow = case.subscriber("slow", "t", 0);
        let mut publisher = case.client("p");
        let flood = Publish::new(&case.topic("t"), vec![b'x'; 64 * 1024]).encode(case.version);
        publisher.send(flood.repeat(300));
        publisher.ping();
        let half = case.dial();
        let mut amid = case.client("amid");
        amid.send([0x30, 100, 0]);
        broker.terminate();
        assert!(broker.stopped().success());
        drop((slow, half, amid));
    });
}

#[test]
fn what_was_sent_before_arrives_before_the_end() {
    cases("2", |mut broker| {
        let case = Case::new(&broker, Version::V5);
        let mut subscriber = case.subscriber("s", "t", 1);
        let mut publisher = case.client("p");
        for number in 0..50 {
            publisher.publish(&case.topic("t"), number.to_string(), 1);
        }
        broker.terminate();
        let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        let got: Vec<String> = (0..50).map(|_| subscriber.receive_publish().text()).collect();
        assert_eq!(got, expected);
        subscriber.expect_end(&[0x8b]);
        assert!(broker.stopped().success());
    });
}

#[test]
fn a_second_signal_changes_nothing() {
    cases("1", |mut broker| {
        let case = Case::new(&broker, Version::V3);
        let mut client = case.client("a");
        broker.terminate();
        broker.terminate();
        client.expect_end(&[]);
        broker.stopped();
    });
}
