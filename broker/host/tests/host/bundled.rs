//! The bundled plugins do their job behind this host.
//! What must not live here: their details; each is tested beside its source.

use serde_json::json;
use wasmqtt_core::hook::{AccessAction, PublishVerdict, Verdict};
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_host::answer::AuthVerdict;

use crate::support::{Bench, setup};

#[test]
fn token_auth_lets_in_who_has_a_token_until_it_expires() {
    const TOKEN: &str =
        "device-1.1700000060.96fe271ebf6b43a94432bda0072b5bf3502d59845de90d98153b1e76626d7a6b";
    let config = json!({"key": "0123456789abcdef0123456789abcdef"});
    let bench = Bench::new(vec![setup("token", "token-auth/token-auth", config)]);
    let AuthVerdict::Allow(principal) = bench.authenticate("token", Some(TOKEN.as_bytes())) else {
        panic!("a good token");
    };
    assert_eq!(principal.name.as_deref(), Some("device-1"));
    assert_eq!(principal.expires_at_unix_seconds, Some(1_700_000_060));
    assert_eq!(bench.authenticate("token", Some(b"a password")), AuthVerdict::Next);
    assert_eq!(bench.authenticate("token", None), AuthVerdict::Next);

    let denied = |token: &str| {
        let verdict = bench.authenticate("token", Some(token.as_bytes()));
        let AuthVerdict::Deny(denial) = verdict else { panic!("{verdict:?}") };
        denial.code
    };
    assert_eq!(denied(&TOKEN.replace("device-1", "device-2")), ReasonCode::BadUserNameOrPassword);
    bench.clock.advance(60_000);
    assert_eq!(denied(TOKEN), ReasonCode::BadUserNameOrPassword);
}

#[test]
fn own_topics_keeps_clients_to_their_own() {
    let mut bench = Bench::new(vec![setup("own", "own-topics/own-topics", json!({}))]);
    for (action, topic, is_allowed) in [
        (AccessAction::Publish, "devices/device-1/temperature", true),
        (AccessAction::Publish, "devices/device-2/temperature", false),
        (AccessAction::Will, "devices/device-1/gone", true),
        (AccessAction::Subscribe, "commands/device-1/#", true),
        (AccessAction::Subscribe, "commands/#", false),
    ] {
        let answer = bench.authorize("own", action, topic);
        match answer.verdict {
            Verdict::Allow => assert!(is_allowed, "{topic}"),
            Verdict::Deny(denial) => {
                assert!(!is_allowed, "{topic}");
                assert_eq!(denial.code, ReasonCode::NotAuthorized);
            }
            Verdict::Next => panic!("{topic}: no opinion"),
        }
        assert_eq!(answer.ttl_ms, 60_000);
    }
}

#[test]
fn json_stamp_stamps_objects_and_refuses_the_rest() {
    let mut bench = Bench::new(vec![setup("stamp", "json-stamp/json-stamp", json!({}))]);
    let PublishVerdict::Replace(replacement) = bench.publish("t", b"{\"t\":21.50}") else {
        panic!("an object");
    };
    let stamped = br#"{"t":21.50,"received_at":1700000000000,"client_id":"device-1"}"#;
    assert_eq!(replacement.payload.as_deref(), Some(&stamped[..]));
    assert_eq!((replacement.topic, replacement.qos, replacement.retain), (None, None, None));
    let verdict = bench.publish("t", b"{");
    let PublishVerdict::Drop(denial) = verdict else { panic!("{verdict:?}") };
    assert_eq!(denial.code, ReasonCode::PayloadFormatInvalid);
    assert_eq!(bench.publish("t", b""), PublishVerdict::Pass);
}
