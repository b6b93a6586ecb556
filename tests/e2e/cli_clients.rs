//! `wasmqtt pub`, `sub` and `bench` against this broker, and what they make of one that refuses.
//! What must not live here: other people's clients and brokers (`foreign_clients`).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;

use rustix::process::Signal;

use crate::support::broker::is_foreign;
use crate::support::console::{Console, VERSIONS, check, options, options_in, publish};
use crate::support::{Authority, Broker, Case, Instance, Version};

#[test]
fn messages_go_from_pub_to_sub_on_every_version_and_qos() {
    let broker = Broker::dev();
    for version in VERSIONS {
        for qos in 0..3 {
            let topic = format!("cli/{}/{version}/{qos}", std::process::id());
            let sub = format!("sub -V {version} -q {qos} -t {topic}/+ -v -C 4 -W 30");
            let mut sub = Console::subscribed(&options(&broker, &sub));
            publish(&broker, &format!("-V {version} -q {qos} -t {topic}/a -m one"), "");
            publish(&broker, &format!("-V {version} -q {qos} -t {topic}/b -l"), "two\nthr ee\n\n");
            let lines = [
                format!("{topic}/a one"),
                format!("{topic}/b two"),
                format!("{topic}/b thr ee"),
                format!("{topic}/b (null)"),
            ];
            for line in lines {
                assert_eq!(sub.line(), line);
            }
            assert_eq!(sub.ended(), 0);
        }
    }
}

#[test]
fn a_message_comes_from_an_argument_a_file_or_standard_input_and_is_repeated() {
    let broker = Broker::dev();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("message");
    std::fs::write(&file, b"\x00\xffin a file\n").unwrap();
    let file = file.to_str().unwrap();
    let mut sub = Console::subscribed(&options(&broker, "sub -t sources -C 6 -W 30 -F %x -q 1"));
    publish(&broker, "-t sources -m -dash -q 1", "");
    publish(&broker, &format!("-t sources -f {file} -q 1"), "");
    publish(&broker, "-t sources -s -q 1", "a\nb\n");
    publish(&broker, "-t sources -n -q 1", "");
    publish(&broker, "-t sources -m r --repeat 2 --repeat-delay 0.01 -q 1", "");
    let lines = ["2d64617368", "00ff696e20612066696c650a", "610a620a", "", "72", "72"];
    for line in lines {
        assert_eq!(sub.line(), line);
    }
    assert_eq!(sub.ended(), 0);
}

#[test]
fn retained_messages_are_kept_shown_left_out_and_removed() {
    let broker = Broker::dev();
    for version in VERSIONS {
        let topic = format!("kept/{version}");
        publish(&broker, &format!("-V {version} -q 1 -r -t {topic} -m kept"), "");
        let sub = |more: &str| {
            check(&options(&broker, &format!("sub -V {version} -t {topic} {more}")), "")
        };
        let shown = sub("-C 1 -W 30");
        assert_eq!((shown.code, shown.stdout.as_str()), (0, "kept\n"), "{shown:?}");
        let left_out = sub("-R -W 0.3");
        assert_eq!((left_out.code, left_out.stdout.as_str()), (27, ""), "{left_out:?}");
        let mut only = Console::subscribed(&options(
            &broker,
            &format!("sub -V {version} -t {topic} --retained-only -W 30"),
        ));
        assert_eq!(only.line(), "kept");
        publish(&broker, &format!("-V {version} -q 1 -t {topic} -m live"), "");
        assert_eq!(only.ended(), 0, "a message that is not retained ends it");
        publish(&broker, &format!("-V {version} -q 1 -r -n -t {topic}"), "");
        let removed = sub("-C 1 -W 0.3");
        assert_eq!((removed.code, removed.stdout.as_str()), (27, ""), "{removed:?}");
    }
}

#[test]
fn properties_are_sent_and_shown() {
    let broker = Broker::dev();
    let sub = "sub -t p -C 2 -W 30 --json -q 1 -D subscribe subscription-identifier 7";
    let mut sub = Console::subscribed(&options(&broker, sub));
    publish(
        &broker,
        "-t p -m 1 -q 1 -D publish content-type text/plain -D publish user-property a b \
         -D publish response-topic r -D publish correlation-data c \
         -D publish message-expiry-interval 60 -D publish payload-format-indicator 1 \
         -D connect user-property who tests",
        "",
    );
    let message: serde_json::Value = serde_json::from_str(&sub.line()).unwrap();
    assert_eq!((&message["topic"], &message["payload"]), (&"p".into(), &"1".into()));
    let expected = serde_json::json!({
        "content-type": "text/plain",
        "response-topic": "r",
        "correlation-data": "c",
        "message-expiry-interval": 60,
        "payload-format-indicator": 1,
        "user-properties": [["a", "b"]],
        "subscription-identifiers": [7],
    });
    assert_eq!(message["properties"], expected);
    // The second message of an alias has no topic of its own.
    publish(&broker, "-t p -q 1 -m 2 --repeat 2 -D publish topic-alias 3", "");
    let message: serde_json::Value = serde_json::from_str(&sub.line()).unwrap();
    assert_eq!((&message["topic"], &message["payload"]), (&"p".into(), &"2".into()));
    assert_eq!(sub.ended(), 0);
}

#[test]
fn the_will_is_published_when_the_client_is_killed_and_not_when_it_is_interrupted() {
    let broker = Broker::dev();
    for version in VERSIONS {
        let sub = format!("sub -V {version} -t will -q 1 -F %p-%r -C 1 -W 30");
        let mut watcher = Console::subscribed(&options(&broker, &sub));
        let with_will = |text: &str| {
            let words = format!(
                "sub -V {version} -t none --will-topic will --will-payload {text} --will-qos 1"
            );
            Console::subscribed(&options(&broker, &words))
        };
        for signal in [Signal::INT, Signal::TERM] {
            let mut polite = with_will("polite");
            polite.signal(signal);
            assert_eq!(polite.ended(), 0);
        }
        with_will("lost").signal(Signal::KILL);
        assert_eq!(watcher.line(), "lost-0");
        assert_eq!(watcher.ended(), 0);
    }
}

#[test]
fn a_kept_session_gives_each_message_to_one_run_and_none_is_lost() {
    let broker = Broker::dev();
    for version in VERSIONS {
        let session = format!("sub -V {version} -c -i kept-{version} -q 2 -t session/{version}");
        let begun = check(&options(&broker, &format!("{session} -E")), "");
        assert_eq!((begun.code, begun.stdout.as_str()), (0, ""), "{begun:?}");
        for number in 0..4 {
            let qos = 1 + number % 2;
            let words = format!("-V {version} -q {qos} -t session/{version} -m {number}");
            publish(&broker, &words, "");
        }
        for (count, expected) in [(1, "0\n"), (2, "1\n2\n"), (1, "3\n")] {
            let ran = check(&options(&broker, &format!("{session} -C {count} -W 30")), "");
            assert_eq!((ran.code, ran.stdout.as_str()), (0, expected), "{ran:?}");
        }
        let gone = check(&options(&broker, &format!("{session} -U session/{version} -E")), "");
        assert_eq!(gone.code, 0, "{gone:?}");
    }
}

#[test]
fn messages_are_left_out_by_topic_and_their_own_ones_by_the_server() {
    let broker = Broker::dev();
    let sub = "sub -t out/# -T out/+/loud -T out/b/# -C 2 -W 30 -F %t -q 1";
    let mut sub = Console::subscribed(&options(&broker, sub));
    for topic in ["out/a/loud", "out/b/x", "out/a/x", "out/b", "out/a"] {
        publish(&broker, &format!("-t {topic} -m x -q 1"), "");
    }
    assert_eq!([sub.line(), sub.line()], ["out/a/x", "out/a"]);
    assert_eq!(sub.ended(), 0);
}

#[test]
fn a_wait_in_vain_ends_with_27_and_what_came_is_printed() {
    let broker = Broker::dev();
    let mut sub = Console::subscribed(&options(&broker, "sub -t wait -C 2 -W 2 -N -q 1"));
    publish(&broker, "-t wait -m one -q 1", "");
    assert_eq!(sub.line(), "one");
    assert_eq!(sub.ended(), 27);
}

#[test]
fn a_reader_that_has_seen_enough_ends_sub_in_silence() {
    if is_foreign() {
        return;
    }
    let broker = Broker::dev();
    publish(&broker, "-t pipe -r -q 1 -m kept", "");
    let line = format!(
        "set -o pipefail; '{}' sub -p {} -t pipe -W 60 | head -n 1",
        crate::support::broker::binary(),
        broker.address.port()
    );
    let mut shell = std::process::Command::new("bash");
    let output = shell.args(["-c", &line]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "kept\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// An instance where `alice` may do everything under `open/`.
fn instance() -> Option<Instance> {
    if is_foreign() {
        return None;
    }
    let instance = Instance::create();
    instance.user("alice");
    instance.acl("allow all open/# --to user:alice");
    Some(instance)
}

#[test]
fn wrong_passwords_and_denied_topics_are_said_in_words() {
    let Some(instance) = instance() else { return };
    let broker = instance.run(&["access.order=[\"rules\"]"]);
    for version in VERSIONS {
        let run = |words: &str| {
            check(&options(&broker, &format!("{words} -V {version} -u alice -q 1")), "")
        };
        let wrong = run("pub -t open/a -m x -P wrong");
        assert_eq!(wrong.code, 1, "{wrong:?}");
        assert!(wrong.stderr.contains("refused the connection: "), "{wrong:?}");
        assert!(wrong.stderr.contains("hint: look at -u USER"), "{wrong:?}");
        assert_eq!(run("pub -t open/a -m x -P alice-password").code, 0);
        let denied = run("pub -t closed -m x -P alice-password");
        if version == "5" {
            assert_eq!(denied.code, 1, "{denied:?}");
            let told = "error: the message to closed was refused: not authorized (0x87)";
            assert!(denied.stderr.contains(told), "{denied:?}");
        } else {
            assert_eq!(denied.code, 0, "[MQTT-3.3.5-2] {denied:?}");
        }
        if version == "3.1" {
            continue; // it has no word for a subscription that is denied
        }
        let denied = run("sub -t closed -W 30 -P alice-password");
        assert_eq!(denied.code, 1, "{denied:?}");
        assert!(denied.stderr.contains("subscription to closed denied"), "{denied:?}");
        let partly = run("sub -t closed -t open/# -E -P alice-password");
        assert_eq!(partly.code, 0, "{partly:?}");
        assert!(partly.stderr.contains("subscription to closed denied"), "{partly:?}");
    }
}

#[test]
fn a_password_comes_from_a_file_the_environment_or_a_url_and_is_never_shown() {
    let Some(instance) = instance() else { return };
    let broker = instance.run(&["access.order=[\"rules\"]"]);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "alice-password\n").unwrap();
    let port = broker.address.port();
    let all = "pub -t open/a -m x -q 1 -d --will-topic open/w";
    let url = format!("{all} -L mqtt://alice:alice%2Dpassword@127.0.0.1:{port}");
    let cases = [
        (format!("{all} -p {port} -u alice --password-file secret"), ""),
        (format!("{all} -p {port} -u alice"), "alice-password"),
        (url, ""),
    ];
    for (words, variable) in cases {
        let ran = options_in(&words, directory.path(), variable);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stderr.contains("password=***"), "{ran:?}");
        assert!(!ran.stderr.contains("alice-password"), "{ran:?}");
    }
    let without = options_in(&format!("{all} -p {port}"), directory.path(), "alice-password");
    assert_eq!(without.code, 1, "the variable is for whoever logs in: {without:?}");
    assert!(!without.stderr.contains("password=***"), "{without:?}");
}

#[test]
fn sub_connects_again_and_subscribes_again() {
    let Some(instance) = instance() else { return };
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = format!("listeners.mqtt.bind=127.0.0.1:{}", free.local_addr().unwrap().port());
    drop(free);
    let settings = ["auth.order=[\"anonymous\"]", "access.order=[\"rules\"]", bind.as_str()];
    instance.acl("allow all # --to all");
    let mut broker = instance.run(&settings);
    let mut sub = Console::subscribed(&options(&broker, "sub -t again -C 1 -W 60"));
    broker.terminate();
    broker.stopped();
    sub.said("connecting again in 1 s");
    let broker = instance.run(&settings);
    sub.said("connected again");
    sub.said("< SUBACK");
    publish(&broker, "-t again -m back -q 1", "");
    assert_eq!(sub.line(), "back");
    assert_eq!(sub.ended(), 0);
}

#[test]
fn a_takeover_ends_sub_instead_of_fighting_for_the_session() {
    let broker = Broker::dev();
    let case = Case::new(&broker, Version::V5);
    let id = case.client_id("twice");
    let mut sub = Console::subscribed(&options(&broker, &format!("sub -t a -i {id} -W 60")));
    let _second = case.client("twice");
    sub.said("session taken over (0x8e)");
    sub.said("hint: another client");
    assert_eq!(sub.ended(), 1);
}

/// A server that answers the first bytes of a connection with `answer` and closes.
fn answering(answer: &'static [u8]) -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 256];
        let _read = stream.read(&mut buffer).unwrap();
        stream.write_all(answer).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
    });
    (port, server)
}

#[test]
fn a_server_that_does_not_speak_the_version_is_not_asked_for_another_and_the_way_out_is_said() {
    let check = |answer: &'static [u8], told: &str, hint: &str| {
        let (port, server) = answering(answer);
        let words = format!("pub -p {port} -h 127.0.0.1 -t a -m b");
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let ran = check(&words, "");
        server.join().unwrap();
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(told) && ran.stderr.contains(hint), "{ran:?}");
    };
    // A server of 3.1.1, one that closes, one of MQTT 5 that refuses, one of something else.
    check(&[0x20, 2, 0, 1], "unsupported protocol version", "-V 3.1.1");
    check(&[], "closed the connection instead of answering CONNECT of MQTT 5", "-V 3.1.1");
    check(&[0x20, 9, 0, 0x9c, 6, 0x1c, 0, 3, b'b', b':', b'1'], "it names b:1", "");
    check(b"HTTP/1.1 400 Bad Request\r\n\r\n", "sent what MQTT does not allow", "");
    check(&[0x90, 3, 0, 1, 0], "another packet than CONNACK", "");
}

#[test]
fn over_tls_a_client_shows_the_certificate_that_the_listener_wants() {
    if is_foreign() {
        return;
    }
    let authority = Authority::new("root");
    authority.issue("server");
    authority.issue("device");
    let ca = authority.named("ca.crt");
    let tls = authority.tls("server", &format!(", client_ca = \"{ca}\""));
    let listener = format!("listeners.tls={{ bind = \"127.0.0.1:0\", tls = {tls} }}");
    let broker = Broker::dev_with(&["--set", &listener]);
    let port = broker.address_of("tls").port();
    let run = |more: &str| {
        let words = format!("pub -h localhost -p {port} -t a -m b -q 1 --cafile {ca} {more}");
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        check(&words, "")
    };
    let (device, key) = (authority.named("device.crt"), authority.named("device.key"));
    for version in ["tlsv1.2", "tlsv1.3"] {
        let shown = run(&format!("--cert {device} --key {key} --tls-version {version}"));
        assert_eq!((shown.code, shown.stderr.as_str()), (0, ""), "{shown:?}");
        let without = run(&format!("--tls-version {version}"));
        assert_eq!(without.code, 1, "{without:?}");
        assert!(without.stderr.contains("hint: show a certificate: --cert FILE"), "{without:?}");
    }
    let swapped = run(&format!("--cert {key} --key {device}"));
    assert_eq!(swapped.code, 2, "{swapped:?}");
    assert!(swapped.stderr.contains("device.key: no certificate in it"), "{swapped:?}");
}

#[test]
fn messages_that_the_server_said_it_does_not_take_are_not_sent() {
    let broker = Broker::dev();
    let big = "x".repeat(2 * 1024 * 1024);
    let ran = check(&options(&broker, "pub -t a -s"), &big);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("a message of 2097152 bytes: the server accepts"), "{ran:?}");
    let ran = check(&options(&broker, "pub -t a -m x -D publish topic-alias 60000"), "");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("Topic Alias 60000: the server accepts"), "{ran:?}");
}

#[test]
fn bench_counts_every_message_once_and_finds_the_delay() {
    let broker = Broker::dev();
    for (version, qos) in [("5", 0), ("5", 2), ("3.1.1", 1), ("3.1", 2)] {
        let topic = format!("bench/{version}/{qos}");
        let words = format!("bench sub -V {version} -q {qos} -c 2 -t {topic}/# -n 800 -d 60");
        let mut sub = Console::start(&options(&broker, &words));
        while !sub.line().contains(" 2/2 subscribed") {}
        let words =
            format!("bench pub -V {version} -q {qos} -c 4 -I 0 -n 100 -t {topic}/%i --json");
        let ran = check(&options(&broker, &words), "");
        assert_eq!(ran.code, 0, "{ran:?}");
        let sent: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((&sent["sent"], &sent["connected"]), (&400.into(), &4.into()), "{sent}");
        let acknowledged = if qos > 0 { 400.into() } else { serde_json::Value::Null };
        assert_eq!(sent["acknowledged"], acknowledged);
        assert_eq!(sent["delay_microseconds"].is_object(), qos > 0, "{sent}");
        let lines = sub.rest();
        for expected in ["received 800", "lost 0", "duplicated 0", "failed 0", "delay p50"] {
            let is_there = lines.iter().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.join(" ").starts_with(expected)
            });
            assert!(is_there, "{expected:?} in {lines:#?}");
        }
        assert_eq!(sub.ended(), 0);
    }
}

#[test]
fn bench_keeps_its_rate_and_ends_in_time_or_when_it_is_interrupted() {
    let broker = Broker::dev();
    let ran = check(&options(&broker, "bench pub --rate 200 -c 5 -d 1 -q 1 --json"), "");
    let sent: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let count = sent["sent"].as_u64().unwrap();
    // A busy machine sends less, never more: each client one at once, then 40 a second.
    assert!((5..=205).contains(&count), "{sent}");
    let mut conn = Console::start(&options(&broker, "bench conn -c 20 --connect-rate 1000"));
    while !conn.line().contains(" 20/20 connected") {}
    conn.signal(Signal::INT);
    let lines = conn.rest();
    assert!(lines.iter().any(|line| line.ends_with("20 of 20")), "{lines:#?}");
    assert_eq!(conn.ended(), 0);
}

#[test]
fn whoever_sends_as_fast_as_it_can_still_hears_why_it_is_cut_off() {
    for command in ["pub -m x --repeat 4000000000", "bench pub -c 1 -I 0"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 65_536];
            let _connect = stream.read(&mut buffer).unwrap();
            // CONNACK, DISCONNECT: administrative action; it goes on reading all the same.
            stream.write_all(&[0x20, 3, 0, 0, 0, 0xe0, 1, 0x98]).unwrap();
            while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
        });
        let words = format!("{command} -h 127.0.0.1 -p {port} -t a");
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let ran = check(&words, "");
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains("administrative action (0x98)"), "{ran:?}");
        server.join().unwrap();
    }
}

#[test]
fn bench_says_why_clients_failed_and_ends_with_1() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let words = format!("bench conn -h 127.0.0.1 -p {port} -c 3 -d 5");
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let ran = check(&words, "");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.starts_with("error: 3 x can't connect to 127.0.0.1:"), "{ran:?}");
}
