//! What `json-stamp` makes of payloads, as data; no broker.

use wasmqtt_plugin::{Verdict, mock, reason_code};

use super::JsonStamp;

const STAMP: &str = r#""received_at":1700000000000,"client_id":"me""#;

#[track_caller]
fn publish(config: &str, client_id: &str, payload: &[u8]) -> mock::Published {
    let mut plugin: JsonStamp = mock::start(config).expect("the configuration is good");
    let connection = mock::Connection::new(client_id);
    mock::on_publish(&mut plugin, &connection, &mock::Message::new("a/b", payload))
}

/// `@` stands for the stamp.
#[track_caller]
fn check(payload: &str, stamped: &str) {
    let published = publish("{}", "me", payload.as_bytes());
    assert_eq!(published.verdict, Verdict::Pass);
    let payload = String::from_utf8(published.message.payload).expect("text");
    assert_eq!(payload, stamped.replace('@', STAMP));
    serde_json::from_str::<serde::de::IgnoredAny>(&payload).expect("JSON");
}

#[track_caller]
fn check_refused(payload: &[u8]) {
    let published = publish("{}", "me", payload);
    let Verdict::Drop(denial) = published.verdict else { panic!("passed {payload:?}") };
    assert_eq!(denial.code, reason_code::PAYLOAD_FORMAT_INVALID);

    let published = publish(r#"{"not_json": "pass"}"#, "me", payload);
    assert_eq!(published.verdict, Verdict::Pass);
    assert_eq!(published.message.payload, payload);
}

#[test]
fn members_are_added_at_the_end() {
    check(r#"{"t":21.50}"#, r#"{"t":21.50,@}"#);
    check("{}", "{@}");
    check(" { } \n", "{@}");
    check(r#"{"a":{"b":[1,{"c":2}]},"d":"}"}"#, r#"{"a":{"b":[1,{"c":2}]},"d":"}",@}"#);
}

#[test]
fn numbers_order_and_spacing_stay() {
    check(
        r#"{ "z" : 1e400 , "a":12345678901234567890.10,"z":-0, "s":"\u00e9\"," }"#,
        r#"{ "z" : 1e400 , "a":12345678901234567890.10,"z":-0, "s":"\u00e9\"," ,@}"#,
    );
}

#[test]
fn members_of_the_same_name_are_replaced() {
    check(r#"{"client_id":"forged"}"#, "{@}");
    check(r#"{"a":1,"client_id":{"x":[","]},"b":2}"#, r#"{"a":1,"b":2,@}"#);
    check(r#"{"received_at":1,"client_id":2,"client_id":3,"a":4}"#, r#"{"a":4,@}"#);
    check(r#"{"client\u005fid":"forged","a":1}"#, r#"{"a":1,@}"#);
    check(r#"{"a":{"client_id":"inner"}}"#, r#"{"a":{"client_id":"inner"},@}"#);
    check(r#"{"a":"client_id","client_id ":1}"#, r#"{"a":"client_id","client_id ":1,@}"#);
    check(r#"{"\\":"\ud800"}"#, r#"{"\\":"\ud800",@}"#);
}

#[test]
fn a_client_identifier_is_escaped() {
    let published = publish("{}", "a\"b\\\n", b"{}");
    let text = String::from_utf8(published.message.payload).expect("text");
    assert_eq!(text, r#"{"received_at":1700000000000,"client_id":"a\"b\\\n"}"#);
}

#[test]
fn names_are_configurable() {
    let config = r#"{"received_at": "at", "client_id": "by \"whom\""}"#;
    let published = publish(config, "me", br#"{"client_id":1,"at":2}"#);
    let text = String::from_utf8(published.message.payload).expect("text");
    assert_eq!(text, r#"{"client_id":1,"at":1700000000000,"by \"whom\"":"me"}"#);
}

#[test]
fn what_is_not_a_json_object_is_refused_or_passed() {
    for payload in [
        "[1]",
        "1",
        "\"{}\"",
        "null",
        "{",
        "}",
        "{}{}",
        "{} x",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":\"\n\"}",
        " ",
        "\u{feff}{}",
        "{\"a\":1\u{a0}}",
        "{\"a\":NaN}",
    ] {
        check_refused(payload.as_bytes());
    }
    check_refused(b"{\"a\":\"\xff\"}");
    // A name that is no text could be any name.
    check_refused(br#"{"\ud800":1}"#);
    check_refused("{\"a\":1€".as_bytes());
    check_refused("[".repeat(100_000).as_bytes());
}

#[test]
fn deep_nesting_is_no_danger() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let published = publish("{}", "me", deep.as_bytes());
    assert_eq!(published.verdict, Verdict::Pass);
    assert!(published.message.payload.len() > deep.len());
}

#[test]
fn an_empty_payload_still_clears_a_retained_message() {
    let published = publish("{}", "me", b"");
    assert_eq!(published.verdict, Verdict::Pass);
    assert!(published.message.payload.is_empty());
}

#[test]
fn a_bad_configuration_is_told() {
    for (config, word) in [
        (r#"{"received_at": "x", "client_id": "x"}"#, "same name"),
        (r#"{"client_id": ""}"#, "empty"),
        (r#"{"not_json": "drop"}"#, "drop"),
        (r#"{"recieved_at": "x"}"#, "recieved_at"),
    ] {
        let error = mock::start::<JsonStamp>(config).err().expect(config);
        assert!(error.contains(word), "{error}");
    }
}
