//! Plugins that misbehave: what their client sees, and that nobody else notices.
//! What must not live here: plugins that keep the broker from starting (`startup`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::broker::is_foreign;
use crate::support::instance::component;
use crate::support::{
    Ack, Broker, Case, Client, Instance, Packet, Publish, Subscribe, Version, each,
};

/// How long a call that does not end may keep a client waiting, on a loaded machine.
const ANSWER: Duration = Duration::from_secs(10);
/// How long somebody else's round trip may take meanwhile. The budget of a call is 10 ms; the rest
/// is for a machine that runs other tests.
const NOTICED: Duration = Duration::from_secs(3);

/// Those that fault: no answer at all.
const FAULTS: [&str; 4] = ["loop", "alloc", "recurse", "panic"];
/// Those that answer what nobody may answer.
const NONSENSE: [&str; 3] = ["denial-success", "denial-low", "long-reason"];

/// A broker with that plugin, and the instance, whose directory it needs for as long as it runs.
fn misbehave(hook: &str, mode: &str, settings: &[&str]) -> (Instance, Broker) {
    let instance = Instance::create();
    instance.acl("allow all open/# --to all");
    instance.acl("allow subscribe bad/# --to user:watcher");
    instance.user("watcher");
    let file = format!("plugins.bad.file=\"{}\"", component("fixtures/misbehave/misbehave.wasm"));
    let config = format!("plugins.bad.config={{ mode = \"{mode}\", only = \"{hook}\" }}");
    let all = [&[file.as_str(), config.as_str()], settings].concat();
    let broker = instance.run(&all);
    (instance, broker)
}

/// Runs `case` while somebody else publishes and receives all the time.
fn with_witness(case: &Case<'_>, run: impl FnOnce()) {
    let mut witness = case.client("witness");
    let topic = format!("open/{}", case.client_id("witness"));
    witness.subscribe(&topic, 1);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            // Once at least, however soon it is over.
            loop {
                let begun = Instant::now();
                witness.publish(&topic, "x", 1);
                assert_eq!(witness.texts(1), ["x"]);
                slowest = slowest.max(begun.elapsed());
                if done.load(Ordering::Relaxed) {
                    return slowest;
                }
            }
        });
        // The flag must be set even if `run` panics, or the scope waits for ever.
        struct Set<'a>(&'a AtomicBool);
        impl Drop for Set<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        {
            let _set = Set(&done);
            run();
        }
        let slowest = watching.join().unwrap();
        eprintln!("{:?}: the witness's slowest round trip took {slowest:?}", case.version);
        assert!(slowest < NOTICED, "the witness waited {slowest:?}");
    });
}

#[track_caller]
fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = run();
    let took = begun.elapsed();
    eprintln!("{what} was answered after {took:?}");
    assert!(took < ANSWER, "{what} was answered after {took:?}");
    result
}

#[test]
fn authentication_that_faults_or_answers_nonsense_refuses_the_client() {
    if is_foreign() {
        return;
    }
    for mode in FAULTS.iter().chain(&NONSENSE).chain(&["grant-nonsense"]) {
        let order = ["auth.order=[\"anonymous\", \"plugin:bad\"]", "access.order=[\"rules\"]"];
        let (_instance, broker) = misbehave("authenticate", mode, &order);
        each(&broker, |case| {
            with_witness(case, || {
                for _ in 0..3 {
                    let connect = case.connect("refused").login("user", "password");
                    let (mut client, connack) = timed(mode, || case.try_open(&connect));
                    assert_ne!(connack.code, 0, "{mode}");
                    assert_eq!(client.rest(), [], "{mode}");
                }
            });
        });
    }
}

#[test]
fn a_login_storm_on_a_plugin_that_never_answers_stays_bounded() {
    if is_foreign() {
        return;
    }
    let order = ["auth.order=[\"anonymous\", \"plugin:bad\"]", "access.order=[\"rules\"]"];
    let (_instance, broker) = misbehave("authenticate", "loop", &order);
    each(&broker, |case| {
        with_witness(case, || {
            let waiting: Vec<Client> = (0..60)
                .map(|number| {
                    let mut client = case.dial();
                    client.send(case.connect(&number.to_string()).login("u", "p").encode());
                    client
                })
                .collect();
            for mut client in waiting {
                let refused = client.rest();
                let code = match refused.as_slice() {
                    [Packet::Connack(connack)] => connack.code,
                    [] => 0x88,
                    other => panic!("{other:?}"),
                };
                assert_ne!(code, 0);
            }
        });
    });
}

/// Publishes at QoS 1 to a topic that the plugin decides about: it must not be taken.
#[track_caller]
fn publish_refused(case: &Case<'_>, mode: &str) {
    let mut client = case.client("publisher");
    client.send(Publish::new("bad/x", "unseen").qos(1, 5).encode(case.version));
    match timed(mode, || client.receive_or_end()) {
        Some(Packet::Ack { kind: Ack::Puback, code, .. }) => {
            assert!(!case.version.is_v5() || code >= 0x80, "{mode}: {code:#04x}");
        }
        // A fault ends the connection of a 3.1.1 client: there is no other way to tell it.
        None if !case.version.is_v5() => {}
        other => panic!("{mode}: {other:?}"),
    }
}

fn watcher(case: &Case<'_>) -> Client {
    let connect = case.connect("watcher").login("watcher", "watcher-password");
    let mut watcher = case.open(&connect);
    watcher.subscribe("bad/#", 1);
    watcher.subscribe("open/marker", 1);
    watcher
}

/// The watcher's next message is one that is published here: nothing came before it.
#[track_caller]
fn assert_nothing_seen(case: &Case<'_>, watcher: &mut Client) {
    case.client("marker").publish("open/marker", "marker", 1);
    assert_eq!(watcher.texts(1), ["marker"]);
}

#[test]
fn authorization_that_faults_or_answers_nonsense_denies() {
    if is_foreign() {
        return;
    }
    for mode in FAULTS.iter().chain(&NONSENSE) {
        let order = [
            "auth.order=[\"password\", \"anonymous\"]",
            "access.order=[\"rules\", \"plugin:bad\"]",
        ];
        let (_instance, broker) = misbehave("authorize", mode, &order);
        each(&broker, |case| {
            let mut watcher = watcher(case);
            with_witness(case, || {
                for _ in 0..3 {
                    publish_refused(case, mode);
                    let mut client = case.client("subscriber");
                    let subscribe = Subscribe::new(3).filter("bad/x", 1).filter("open/y", 1);
                    client.send(subscribe.encode(case.version));
                    match timed(mode, || client.receive_or_end()) {
                        Some(Packet::Suback { codes, .. }) => {
                            assert!(codes[0] >= 0x80 && codes[1] == 1, "{mode}: {codes:02x?}");
                        }
                        Some(Packet::Disconnect { .. }) | None => {}
                        other => panic!("{mode}: {other:?}"),
                    }
                }
            });
            assert_nothing_seen(case, &mut watcher);
        });
    }
}

const ON_PUBLISH: [&str; 4] = [
    "auth.order=[\"password\", \"anonymous\"]",
    "access.order=[\"rules\"]",
    "publish.order=[\"plugin:bad\"]",
    "plugins.bad.topics=[\"bad/#\", \"open/bad/#\"]",
];

#[test]
fn on_publish_that_faults_or_answers_nonsense_refuses_the_message() {
    if is_foreign() {
        return;
    }
    let nonsense = ["topic-wildcard", "topic-nul", "topic-empty", "topic-long", "payload-huge"];
    for mode in FAULTS.iter().chain(&NONSENSE[1..]).chain(&nonsense) {
        let (_instance, broker) = misbehave("on-publish", mode, &ON_PUBLISH);
        each(&broker, |case| {
            let mut watcher = case.client("watcher");
            watcher.subscribe("open/#", 1);
            with_witness(case, || {
                for _ in 0..3 {
                    let mut client = case.client("publisher");
                    client
                        .send(Publish::new("open/bad/x", "unseen").qos(1, 5).encode(case.version));
                    match timed(mode, || client.receive_or_end()) {
                        Some(Packet::Ack { kind: Ack::Puback, code, .. }) => {
                            assert!(!case.version.is_v5() || code >= 0x80, "{mode}: {code:#04x}");
                        }
                        None if !case.version.is_v5() => {}
                        other => panic!("{mode}: {other:?}"),
                    }
                }
            });
            case.client("marker").publish("open/marker", "marker", 1);
            loop {
                // The witness's own messages come along under `open/`.
                let message = watcher.message();
                assert_ne!(message.text(), "unseen", "{mode}");
                if message.text() == "marker" {
                    break;
                }
            }
        });
    }
}

#[test]
fn a_fault_ends_the_connection_of_a_3_1_1_client_without_an_acknowledgement_4_8_0_2() {
    if is_foreign() {
        return;
    }
    let (_instance, broker) = misbehave("on-publish", "panic", &ON_PUBLISH);
    let check = |case: &Case<'_>| {
        for qos in [1, 2] {
            let mut client = case.client("publisher");
            let publish = Publish::new("open/bad/x", "unseen").qos(qos, 5);
            client.send(publish.encode(case.version));
            assert_eq!(timed("panic", || client.rest()), []);
        }
    };
    Case::run(&broker, Version::V3, &check);
}

#[test]
fn a_drop_with_success_is_acknowledged_and_not_delivered() {
    if is_foreign() {
        return;
    }
    let (_instance, broker) = misbehave("on-publish", "denial-success", &ON_PUBLISH);
    each(&broker, |case| {
        let mut client = case.client("a");
        client.subscribe("open/bad/x", 2);
        client.subscribe("open/y", 2);
        for qos in 0..3 {
            assert!(client.publish("open/bad/x", "dropped", qos) < 0x80);
        }
        client.publish("open/y", "marker", 1);
        assert_eq!(client.texts(1), ["marker"]);
    });
}

#[test]
fn a_fault_lets_the_message_pass_when_the_operator_said_so() {
    if is_foreign() {
        return;
    }
    for mode in FAULTS {
        let settings = [&ON_PUBLISH[..], &["plugins.bad.on_fault=\"pass\""]].concat();
        let (_instance, broker) = misbehave("on-publish", mode, &settings);
        each(&broker, |case| {
            let mut client = case.client("a");
            client.subscribe("open/bad/x", 2);
            for qos in 0..3 {
                client.publish("open/bad/x", qos.to_string(), qos);
            }
            assert_eq!(client.texts(3), ["0", "1", "2"], "{mode}");
        });
    }
}

#[test]
fn topics_that_the_plugin_does_not_want_are_not_touched_by_its_faults() {
    if is_foreign() {
        return;
    }
    let (_instance, broker) = misbehave("on-publish", "panic", &ON_PUBLISH);
    each(&broker, |case| {
        let mut client = case.client("a");
        let topic = format!("open/{}", case.client_id("good"));
        client.subscribe(&topic, 1);
        for number in 0..50 {
            let mut bad = case.client("bad");
            bad.send(Publish::new("open/bad/x", "x").qos(1, 1).encode(case.version));
            client.publish(&topic, number.to_string(), 1);
            assert_eq!(client.texts(1), [number.to_string()]);
        }
    });
}

#[test]
fn a_publisher_whose_calls_never_end_delays_only_itself() {
    if is_foreign() {
        return;
    }
    let (_instance, broker) = misbehave("on-publish", "loop", &ON_PUBLISH);
    each(&broker, |case| {
        with_witness(case, || {
            let mut client = case.client("p");
            let many: Vec<u8> = (1..=50u16)
                .flat_map(|id| Publish::new("open/bad/x", "x").qos(1, id).encode(case.version))
                .collect();
            client.send(many);
            if case.version == Version::V5 {
                for id in 1..=50 {
                    assert!(client.expect_ack(Ack::Puback, id) >= 0x80);
                }
            } else {
                client.probe();
            }
        });
    });
}

#[test]
fn a_plugin_that_floods_the_log_floods_neither_memory_nor_the_log() {
    if is_foreign() {
        return;
    }
    let order = ["auth.order=[\"anonymous\"]", "access.order=[\"rules\", \"plugin:bad\"]"];
    let (_instance, broker) = misbehave("authorize", "log-flood", &order);
    let case = Case::new(&broker, Version::V5);
    with_witness(&case, || {
        let mut client = case.client("p");
        for _ in 0..3 {
            client.publish("bad/x", "x", 1);
        }
    });
    let log = broker.log();
    assert!(log.lines().count() < 5000, "{} lines", log.lines().count());
}
