//! What `own-topics` answers, as data; no broker.

use wasmqtt_plugin::{Decision, Request, mock, reason_code};

use super::OwnTopics;

const DEFAULT: &str = "{}";

#[track_caller]
fn check(config: &str, client_id: &str, request: Request, allowed: bool) {
    let mut plugin: OwnTopics = mock::start(config).expect("the configuration is good");
    let answer = mock::authorize(&mut plugin, &mock::Connection::new(client_id), &request);
    match answer.decision {
        Decision::Allow => assert!(allowed, "allowed {request:?}"),
        Decision::Deny(denial) => {
            assert!(!allowed, "denied {request:?}: {denial:?}");
            assert_eq!(denial.code, reason_code::NOT_AUTHORIZED);
        }
        Decision::Next => panic!("no opinion on {request:?}"),
    }
}

#[test]
fn publishes_under_its_own_topics_only() {
    check(DEFAULT, "me", mock::publish("devices/me/temperature"), true);
    check(DEFAULT, "me", mock::publish("devices/me/a/b/c"), true);
    check(DEFAULT, "me", mock::publish("devices/me"), true);
    check(DEFAULT, "me", mock::publish("devices/me2/temperature"), false);
    check(DEFAULT, "me", mock::publish("devices/m/temperature"), false);
    check(DEFAULT, "me", mock::publish("devices"), false);
    check(DEFAULT, "me", mock::publish("commands/me/x"), false);
    check(DEFAULT, "me", mock::publish("/devices/me/x"), false);
    check(DEFAULT, "me", mock::publish("$SYS/x"), false);
}

#[test]
fn a_will_is_a_publish() {
    check(DEFAULT, "me", mock::will("devices/me/gone"), true);
    check(DEFAULT, "me", mock::will("devices/you/gone"), false);
}

#[test]
fn a_subscription_is_covered_as_a_whole() {
    check(DEFAULT, "me", mock::subscribe("commands/me/#"), true);
    check(DEFAULT, "me", mock::subscribe("commands/me/+/x"), true);
    check(DEFAULT, "me", mock::subscribe("commands/me/x"), true);
    check(DEFAULT, "me", mock::subscribe("commands/+/x"), false);
    check(DEFAULT, "me", mock::subscribe("commands/#"), false);
    check(DEFAULT, "me", mock::subscribe("+/me/x"), false);
    check(DEFAULT, "me", mock::subscribe("#"), false);
    check(DEFAULT, "me", mock::subscribe("devices/me/#"), false);
}

#[test]
fn a_shared_subscription_counts_as_its_filter() {
    check(DEFAULT, "me", mock::subscribe("$share/g/commands/me/#"), true);
    check(DEFAULT, "me", mock::subscribe("$share/g/commands/+/x"), false);
    check(DEFAULT, "me", mock::subscribe("$share/g"), false);
    check(DEFAULT, "me", mock::subscribe("$share/commands/me/x"), false);
}

#[test]
fn a_client_identifier_that_is_no_level_owns_nothing() {
    for client_id in ["", "+", "#", "a/b", "a+", "nul\0"] {
        check(DEFAULT, client_id, mock::publish(&format!("devices/{client_id}/x")), false);
        check(DEFAULT, client_id, mock::subscribe(&format!("commands/{client_id}/x")), false);
    }
    check(r##"{"subscribe": ["#"]}"##, "+", mock::subscribe("a"), false);
}

#[test]
fn patterns_are_configurable() {
    let config =
        r#"{"publish": ["up/${clientid}", "shared/+/x"], "subscribe": ["+/${clientid}/#"]}"#;
    check(config, "me", mock::publish("up/me"), true);
    check(config, "me", mock::publish("up/me/x"), false);
    check(config, "me", mock::publish("shared/anything/x"), true);
    check(config, "me", mock::publish("shared/x"), false);
    check(config, "me", mock::subscribe("+/me/x"), true);
    check(config, "me", mock::subscribe("$SYS/me/x"), false);
    check(config, "me", mock::subscribe("#"), false);
    check(r#"{"publish": []}"#, "me", mock::publish("devices/me/x"), false);
    check(r##"{"subscribe": ["a/+"]}"##, "me", mock::subscribe("a/#"), false);
}

#[test]
fn a_wildcard_in_a_topic_name_is_refused() {
    check(r##"{"publish": ["#"]}"##, "me", mock::publish("a/+"), false);
}

#[test]
fn the_answer_may_be_cached_for_the_configured_time() {
    for (config, ttl) in [
        ("{}", Some(60_000)),
        (r#"{"cache_ttl_seconds": 5}"#, Some(5_000)),
        (r#"{"cache_ttl_seconds": 0}"#, None),
    ] {
        let mut plugin: OwnTopics = mock::start(config).expect("the configuration is good");
        let connection = mock::Connection::new("me");
        for topic in ["devices/me/x", "devices/you/x"] {
            let answer = mock::authorize(&mut plugin, &connection, &mock::publish(topic));
            assert_eq!(answer.cache_ttl_ms, ttl);
        }
    }
}

#[test]
fn otherwise_next_leaves_other_topics_to_others() {
    let mut plugin: OwnTopics =
        mock::start(r#"{"otherwise": "next"}"#).expect("the configuration is good");
    let connection = mock::Connection::new("me");
    let answer = mock::authorize(&mut plugin, &connection, &mock::publish("other"));
    assert_eq!(answer.decision, Decision::Next);
}

#[test]
fn a_denial_says_what_is_allowed() {
    let mut plugin: OwnTopics = mock::start("{}").expect("the configuration is good");
    let answer =
        mock::authorize(&mut plugin, &mock::Connection::new("me"), &mock::publish("devices/you/x"));
    assert_eq!(answer.decision, Decision::not_authorized("may publish within devices/me/# only"));
}

#[test]
fn a_bad_configuration_is_told() {
    for (config, word) in [
        (r#"{"publish": ["a/${clientid}x"]}"#, "whole level"),
        (r#"{"publish": ["a/${username}"]}"#, "clientid"),
        (r##"{"publish": ["a/#/b"]}"##, "alone"),
        (r#"{"subscribe": [""]}"#, "not empty"),
        (r#"{"publisch": []}"#, "publisch"),
        (r#"{"otherwise": "allow"}"#, "allow"),
        (r#"{"cache_ttl_seconds": 5000000}"#, "too large"),
    ] {
        let error = mock::start::<OwnTopics>(config).err().expect(config);
        assert!(error.contains(word), "{config}: {error}");
    }
}
