//! Enhanced authentication: exchanges of AUTH packets before CONNACK and later [MQTT 5.0, 4.12], with
//! the method of `plugins/fixtures/challenge`.
//! What must not live here: what a plugin sees (the host's tests).

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::support::broker::is_foreign;
use crate::support::instance::component;
use crate::support::wire::frame;
use crate::support::{
    Broker, Case, Client, Connect, Instance, Packet, Property, Publish, Version, each,
};

const KEY: &str = "what client and broker share";
const METHOD: &str = "challenge";

const CONTINUE: u8 = 0x18;
const RE_AUTHENTICATE: u8 = 0x19;

/// A broker that knows the method, with rules for roles; the instance, whose directory it needs.
fn broker(settings: &[&str]) -> (Instance, Broker) {
    let instance = Instance::create();
    instance.acl("allow all open/# --to all");
    instance.acl("allow all secret/# --to role:trusted");
    let file = format!("plugins.mine.file=\"{}\"", component("fixtures/challenge/challenge.wasm"));
    let config = format!("plugins.mine.config={{ key = \"{KEY}\" }}");
    let own = [
        "auth.order=[\"anonymous\"]",
        "auth.exchange=[\"plugin:mine\"]",
        "access.order=[\"rules\"]",
        &file,
        &config,
    ];
    let broker = instance.run(&[&own, settings].concat());
    (instance, broker)
}

/// Runs the case for MQTT 5; 3.1.1 has no AUTH.
fn with(settings: &[&str], run: impl Fn(&Case<'_>)) {
    if is_foreign() {
        return;
    }
    let (_instance, broker) = broker(settings);
    each(&broker, |case| {
        if case.version == Version::V5 {
            run(case);
        }
    });
}

fn auth(code: u8, method: &str, data: &[u8]) -> Vec<u8> {
    let method = Property::AuthMethod(method.to_owned());
    let properties = [method, Property::AuthData(data.to_vec())];
    frame(0xf0, &[&[code][..], &crate::support::property::write_section(&properties)].concat())
}

fn connect(case: &Case<'_>, name: &str, who: &str) -> Connect {
    let connect = case.connect(name).property(Property::AuthMethod(METHOD.to_owned()));
    connect.property(Property::AuthData(who.into()))
}

fn proof(key: &str, side: &str, nonce: &[u8], who: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    let mac = mac.chain_update(side).chain_update(nonce).chain_update(who);
    mac.finalize().into_bytes().to_vec()
}

/// Method and data of an AUTH packet or a CONNACK; nothing else is in an AUTH packet.
#[track_caller]
fn method_and_data(properties: &[Property]) -> (Option<&str>, Option<&[u8]>) {
    let (mut method, mut data) = (None, None);
    for property in properties {
        match property {
            Property::AuthMethod(text) => method = Some(text.as_str()),
            Property::AuthData(bytes) => data = Some(bytes.as_slice()),
            _ => {}
        }
    }
    (method, data)
}

/// The nonce of the AUTH packet that comes next.
#[track_caller]
fn challenge(client: &mut Client) -> Vec<u8> {
    match client.receive() {
        Packet::Auth { code: CONTINUE, properties } => {
            assert_eq!(properties.len(), 2, "[MQTT-3.15.2-2] [MQTT-3.15.2-3] {properties:?}");
            let (method, data) = method_and_data(&properties);
            assert_eq!(method, Some(METHOD), "[MQTT-4.12.0-5]");
            data.unwrap().to_vec()
        }
        other => panic!("{other:?} instead of a challenge"),
    }
}

/// Begins and waits for the challenge.
#[track_caller]
fn begin(case: &Case<'_>, connect: &Connect) -> (Client, Vec<u8>) {
    let mut client = case.dial();
    client.send(connect.encode());
    let nonce = challenge(&mut client);
    (client, nonce)
}

/// Connects as `who`: a name, and roles behind it.
#[track_caller]
fn open(case: &Case<'_>, name: &str, who: &str) -> Client {
    let (mut client, nonce) = begin(case, &connect(case, name, who));
    client.send(auth(CONTINUE, METHOD, &proof(KEY, "client", &nonce, who)));
    let connack = client.connack();
    assert_eq!(connack.code, 0, "{connack:?}");
    client
}

/// Authenticates again, with that key.
#[track_caller]
fn again(client: &mut Client, key: &str, who: &str) -> Vec<u8> {
    client.send(auth(RE_AUTHENTICATE, METHOD, who.as_bytes()));
    let nonce = challenge(client);
    client.send(auth(CONTINUE, METHOD, &proof(key, "client", &nonce, who)));
    nonce
}

#[test]
fn a_client_answers_a_challenge_and_connack_carries_the_brokers_proof_4_12_0_2_4_12_0_5() {
    with(&[], |case| {
        let (mut client, nonce) = begin(case, &connect(case, "a", "alice trusted"));
        let answer = proof(KEY, "client", &nonce, "alice trusted");
        client.send(auth(CONTINUE, METHOD, &answer));
        let connack = client.connack();
        assert_eq!((connack.code, connack.session_present), (0, false));
        let expected = proof(KEY, "broker", &nonce, "alice trusted");
        assert_eq!(method_and_data(&connack.properties), (Some(METHOD), Some(&expected[..])));
        let topic = format!("secret/{}", case.client_id("a"));
        client.subscribe(&topic, 1);
        assert_eq!(client.publish(&topic, "x", 1), 0);
        assert_eq!(client.texts(1), ["x"]);
        // A challenge is good for one exchange.
        let (mut other, nonce) = begin(case, &connect(case, "b", "alice trusted"));
        assert_ne!(proof(KEY, "client", &nonce, "alice trusted"), answer);
        other.send(auth(CONTINUE, METHOD, &answer));
        other.expect_refusal(&[0x87]);
    });
}

#[test]
fn a_failed_exchange_is_refused_at_any_step_and_closed_4_12_0_4() {
    with(&[], |case| {
        let mut client = case.dial();
        client.send(connect(case, "a", "nobody").encode());
        client.expect_refusal(&[0x8a]);
        let (mut client, nonce) = begin(case, &connect(case, "a", "alice"));
        client.send(auth(CONTINUE, METHOD, &proof("another key", "client", &nonce, "alice")));
        client.expect_refusal(&[0x87]);
    });
}

#[test]
fn a_method_that_no_plugin_knows_is_refused_4_12_0_1() {
    with(&[], |case| {
        let mut client = case.dial();
        let connect = case.connect("a").property(Property::AuthMethod("SCRAM-UNKNOWN".into()));
        client.send(connect.encode());
        client.expect_refusal(&[0x8c]);
    });
}

#[test]
fn before_connack_only_the_awaited_auth_or_disconnect_may_come() {
    with(&[], |case| {
        let version = case.version;
        let publish = Publish::new("open/x", "x").encode(version);
        let right = |nonce: &[u8]| proof(KEY, "client", nonce, "alice");
        let (mut client, nonce) = begin(case, &connect(case, "a", "alice"));
        client.send([publish, auth(CONTINUE, METHOD, &right(&nonce))].concat());
        client.expect_refusal(&[0x82]);
        let (mut client, nonce) = begin(case, &connect(case, "a", "alice"));
        client.send(auth(CONTINUE, "another", &right(&nonce)));
        client.expect_refusal(&[0x8c]);
        for code in [RE_AUTHENTICATE, 0x00] {
            let (mut client, nonce) = begin(case, &connect(case, "a", "alice"));
            client.send(auth(code, METHOD, &right(&nonce)));
            client.expect_refusal(&[0x82]);
        }
        let (mut client, _) = begin(case, &connect(case, "a", "alice"));
        client.send(crate::support::packet::PINGREQ);
        client.expect_refusal(&[0x82]);
        let (mut client, _) = begin(case, &connect(case, "a", "alice"));
        client.send(crate::support::packet::disconnect(version, 0, &[]));
        assert_eq!(client.rest(), []);
    });
}

#[test]
fn what_follows_the_last_answer_waits_for_connack() {
    with(&[], |case| {
        let topic = format!("open/{}", case.client_id("a"));
        let mut watcher = case.client("watcher");
        watcher.subscribe(&topic, 0);
        let (mut client, nonce) = begin(case, &connect(case, "a", "alice"));
        let answer = auth(CONTINUE, METHOD, &proof(KEY, "client", &nonce, "alice"));
        client.send([answer, Publish::new(&topic, "early").encode(case.version)].concat());
        assert_eq!(client.connack().code, 0);
        assert_eq!(watcher.texts(1), ["early"]);
    });
}

#[test]
fn auth_packets_are_checked_3_15_2_1() {
    with(&[], |case| {
        let method = [&[0x15, 0, 9][..], METHOD.as_bytes()].concat();
        let with_code = |code: u8, properties: &[u8]| {
            let length = u8::try_from(properties.len()).unwrap();
            frame(0xf0, &[&[code, length], properties].concat())
        };
        let data = [0x16, 0, 1, b'x'];
        for (packet, code) in [
            (frame(0xf0, &[]), 0x82),
            (frame(0xf0, &[CONTINUE]), 0x82),
            (with_code(CONTINUE, &[]), 0x82),
            (with_code(CONTINUE, &data), 0x82),
            (with_code(0x01, &method), 0x81),
            (with_code(0x87, &method), 0x81),
            (with_code(CONTINUE, &[&method[..], &method].concat()), 0x82),
            (with_code(CONTINUE, &[&method[..], &data, &data].concat()), 0x82),
            (with_code(CONTINUE, &[&method[..], &[0x11, 0, 0, 0, 1]].concat()), 0x81),
            (with_code(CONTINUE, &method[..5]), 0x81),
            (frame(0xf0, &[&[CONTINUE, 0][..], b"behind"].concat()), 0x81),
            (frame(0xf1, &[CONTINUE, 0]), 0x81),
        ] {
            let (mut client, _) = begin(case, &connect(case, "a", "alice"));
            client.send(&packet);
            client.expect_refusal(&[code]);
            let mut client = open(case, "a", "alice");
            client.send(&packet);
            client.expect_end(&[code]);
        }
    });
}

#[test]
fn without_a_method_in_connect_there_is_no_auth_4_12_0_6() {
    with(&[], |case| {
        for code in [CONTINUE, RE_AUTHENTICATE] {
            let mut client = case.client("a");
            client.send(auth(code, METHOD, b"alice"));
            client.expect_end(&[0x82]);
        }
        let mut client = case.dial();
        client.send(case.connect("a").property(Property::AuthData(b"alice".to_vec())).encode());
        client.expect_refusal(&[0x82]);
    });
}

#[test]
fn a_connected_client_authenticates_again_while_packets_go_on() {
    with(&[], |case| {
        let topic = format!("open/{}", case.client_id("a"));
        let mut client = open(case, "a", "alice");
        client.subscribe(&topic, 1);
        client.send(auth(RE_AUTHENTICATE, METHOD, b"alice"));
        let nonce = challenge(&mut client);
        assert_eq!(client.publish(&topic, "between", 1), 0);
        assert_eq!(client.texts(1), ["between"]);
        client.send(auth(CONTINUE, METHOD, &proof(KEY, "client", &nonce, "alice")));
        match client.receive() {
            Packet::Auth { code: 0, properties } => {
                let expected = proof(KEY, "broker", &nonce, "alice");
                assert_eq!(method_and_data(&properties), (Some(METHOD), Some(&expected[..])));
                assert_eq!(properties.len(), 2, "{properties:?}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(client.publish(&topic, "after", 1), 0);
        assert_eq!(client.texts(1), ["after"]);
    });
}

#[test]
fn what_a_client_may_do_is_decided_anew_when_it_has_authenticated_again() {
    with(&[], |case| {
        let topic = format!("secret/{}", case.client_id("a"));
        let mut owner = open(case, "owner", "owner trusted");
        let mut client = open(case, "a", "alice trusted");
        client.subscribe(&topic, 1);
        assert_eq!(client.publish(&topic, "trusted", 1), 0, "and remembered");
        assert_eq!(client.texts(1), ["trusted"]);
        again(&mut client, KEY, "alice");
        assert!(matches!(client.receive(), Packet::Auth { code: 0, .. }));
        assert_eq!(client.publish(&topic, "no more", 1), 0x87);
        assert_eq!(client.try_subscribe(&topic, 1), 0x87);
        assert_eq!(owner.publish(&topic, "not for alice", 1), 0x10, "her subscription is gone");
        client.assert_quiet();
        again(&mut client, KEY, "alice trusted");
        assert!(matches!(client.receive(), Packet::Auth { code: 0, .. }));
        client.subscribe(&topic, 1);
        assert_eq!(client.publish(&topic, "trusted again", 1), 0);
        assert_eq!(client.texts(1), ["trusted again"]);
    });
}

#[test]
fn a_failed_re_authentication_ends_the_connection_4_12_1_2() {
    with(&[], |case| {
        let mut client = open(case, "a", "alice");
        again(&mut client, "another key", "alice");
        client.expect_end(&[0x87]);
        // What DISCONNECT has no word for is told less exactly.
        let mut client = open(case, "a", "alice");
        client.send(auth(RE_AUTHENTICATE, METHOD, b"nobody"));
        client.expect_end(&[0x87]);
        // A session belongs to who it was.
        let mut client = open(case, "a", "alice");
        again(&mut client, KEY, "bob");
        client.expect_end(&[0x87]);
        let mut client = open(case, "a", "alice");
        client.send(auth(RE_AUTHENTICATE, "another", b"alice"));
        client.expect_end(&[0x8c]);
        let mut client = open(case, "a", "alice");
        client.send(auth(CONTINUE, METHOD, b"alice"));
        client.expect_end(&[0x82]);
        let mut client = open(case, "a", "alice");
        client.send(auth(RE_AUTHENTICATE, METHOD, b"alice"));
        challenge(&mut client);
        client.send(auth(RE_AUTHENTICATE, METHOD, b"alice"));
        client.expect_end(&[0x82]);
    });
}

#[test]
fn whoever_does_not_answer_in_time_is_refused_or_disconnected() {
    with(&["limits.connect_timeout_seconds=1"], |case| {
        let begun = Instant::now();
        let (mut client, _) = begin(case, &connect(case, "a", "alice"));
        client.expect_refusal(&[0x87]);
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(900), "after {took:?}");
        let mut client = open(case, "a", "alice");
        client.send(auth(RE_AUTHENTICATE, METHOD, b"alice"));
        challenge(&mut client);
        client.expect_end(&[0x87]);
    });
}

#[test]
fn a_challenge_that_is_too_large_for_the_client_is_not_sent() {
    with(&[], |case| {
        let mut client = case.dial();
        client.send(connect(case, "a", "alice").property(Property::MaximumPacketSize(40)).encode());
        client.expect_refusal(&[0x95]);
        let roomy = connect(case, "a", "alice").property(Property::MaximumPacketSize(200));
        let (mut client, nonce) = begin(case, &roomy);
        client.send(auth(CONTINUE, METHOD, &proof(KEY, "client", &nonce, "alice")));
        assert_eq!(client.connack().code, 0);
    });
}

#[test]
fn a_client_that_leaves_or_is_replaced_during_its_exchange_leaves_nothing_behind() {
    with(&[], |case| {
        let (client, _) = begin(case, &connect(case, "a", "alice").persistent());
        client.cut();
        // Two at a time: whoever proves itself last has the session.
        let resuming = connect(case, "a", "alice").persistent();
        let (mut first, nonce) = begin(case, &resuming);
        let (mut second, other_nonce) = begin(case, &resuming);
        second.send(auth(CONTINUE, METHOD, &proof(KEY, "client", &other_nonce, "alice")));
        let connack = second.connack();
        assert_eq!((connack.code, connack.session_present), (0, false));
        second.assert_quiet();
        first.send(auth(CONTINUE, METHOD, &proof(KEY, "client", &nonce, "alice")));
        let connack = first.connack();
        assert_eq!((connack.code, connack.session_present), (0, true));
        second.expect_end(&[0x8e]);
        first.assert_quiet();
    });
}

#[test]
fn a_plugin_that_faults_in_an_exchange_refuses_and_never_lets_in() {
    if is_foreign() {
        return;
    }
    let modes = ["loop", "alloc", "recurse", "panic", "denial-success", "denial-low", "data-huge"];
    let nonsense = ["next-later", "state-huge", "random-huge", "grant-nonsense", "endless"];
    for mode in modes.iter().chain(&nonsense) {
        let instance = Instance::create();
        let file =
            format!("plugins.bad.file=\"{}\"", component("fixtures/misbehave/misbehave.wasm"));
        let config =
            format!("plugins.bad.config={{ mode = \"{mode}\", only = \"auth-exchange\" }}");
        let settings = [
            "auth.order=[\"anonymous\"]",
            "auth.exchange=[\"plugin:bad\"]",
            "access.order=[\"rules\"]",
            &file,
            &config,
        ];
        let broker = instance.run(&settings);
        let case = Case::new(&broker, Version::V5);
        let mut witness = case.client("witness");
        for who in ["now", "later"] {
            let mut client = case.dial();
            client.send(connect(&case, "refused", who).encode());
            // At most one more than a broker asks for.
            for _ in 0..20 {
                match client.receive() {
                    Packet::Auth { code: CONTINUE, .. } => {
                        client.send(auth(CONTINUE, METHOD, b"answer"));
                    }
                    Packet::Connack(connack) => {
                        let is_fault = *mode != "endless";
                        let is_foreign_method = *mode == "next-later" && who == "now";
                        let expected = match (is_fault, is_foreign_method) {
                            (_, true) => 0x8c,
                            (true, false) => 0x88,
                            (false, false) => 0x87,
                        };
                        assert_eq!(connack.code, expected, "{mode} {who}");
                        break;
                    }
                    other => panic!("{mode} {who}: {other:?}"),
                }
            }
            assert_eq!(client.rest(), [], "{mode} {who}");
        }
        witness.assert_quiet();
    }
}
