//! The on-publish chain: prefilters, order, and what later plugins see.
//! What must not live here: faults.

use std::sync::Arc;

use serde_json::json;
use wasmqtt_core::hook::{ChainMask, PublishVerdict, Replacement};
use wasmqtt_core::topic::TopicFilter;
use wasmqtt_host::active::{ActivateError, ActivePlugins, PluginSetup};
use wasmqtt_host::manifest::Hook;
use wasmqtt_host::services::Services;

use crate::support::{Bench, COST, MINIMAL, setup};

fn on(name: &str, mode: &str, topics: &[&str]) -> PluginSetup {
    let mut setup = setup(name, COST, json!({"mode": mode}));
    let filters = topics.iter().map(|topic| TopicFilter::parse(topic).unwrap());
    setup.topics = (!topics.is_empty()).then(|| filters.collect());
    setup
}

fn replaced(topic: Option<&str>, payload: Option<&[u8]>) -> PublishVerdict {
    PublishVerdict::Replace(Box::new(Replacement {
        topic: topic.map(Box::from),
        payload: payload.map(Box::from),
        qos: None,
        retain: None,
    }))
}

#[test]
fn only_plugins_whose_topics_match_are_called() {
    let mut bench =
        Bench::new(vec![on("all", "pass", &[]), on("some", "pass", &["a/+", "b/#", "$SYS/x"])]);
    for (topic, mask) in
        [("a", 1), ("a/b", 3), ("a/b/c", 1), ("b", 3), ("b/c/d", 3), ("$SYS/x", 2), ("$SYS/y", 0)]
    {
        assert_eq!(bench.active.chain_mask(topic), ChainMask(mask), "{topic}");
        assert_eq!(bench.worker.chain_mask(topic), ChainMask(mask), "{topic}");
        assert_eq!(bench.publish(topic, b"p"), PublishVerdict::Pass, "{topic}");
    }
    assert_eq!(bench.counted("all", Hook::OnPublish).0, 5);
    assert_eq!(bench.counted("some", Hook::OnPublish).0, 4);
}

#[test]
fn a_replacement_carries_only_what_changed() {
    let mut bench =
        Bench::new(vec![on("payload", "set-payload", &["p"]), on("topic", "set-topic", &["t"])]);
    assert_eq!(bench.publish("p", b"\x00z"), replaced(None, Some(b"\x01z")));
    assert_eq!(bench.publish("t", b"z"), replaced(Some("x/t"), None));
    assert_eq!(bench.publish("other", b"z"), PublishVerdict::Pass);
}

#[test]
fn later_plugins_see_what_earlier_ones_changed() {
    let mut bench = Bench::new(vec![
        on("first", "set-payload", &[]),
        on("second", "set-payload", &[]),
        on("third", "set-topic", &[]),
        on("fourth", "set-topic", &[]),
    ]);
    let payload = [&b"\x00"[..], &[7; 100_000]].concat();
    assert_eq!(bench.publish("t", &payload), replaced(Some("x/x/t"), Some(&payload)));
}

#[test]
fn a_rewritten_topic_meets_the_prefilters_of_later_plugins() {
    let mut bench = Bench::new(vec![
        on("rewrites", "set-topic", &["t"]),
        on("old topic", "set-payload", &["t"]),
        on("new topic", "set-payload", &["x/#"]),
    ]);
    assert_eq!(bench.publish("t", b"\x00"), replaced(Some("x/t"), Some(b"\x01")));
    assert_eq!(bench.counted("old topic", Hook::OnPublish).0, 0);
    assert_eq!(bench.counted("new topic", Hook::OnPublish).0, 1);
}

#[test]
fn the_chain_follows_its_own_order_and_takes_32_plugins() {
    let services = Services::new();
    let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<_>>();
    let activate = |setups: Vec<PluginSetup>, order: &[&str]| {
        ActivePlugins::activate(&services, setups, &names(order))
    };
    let two = || vec![on("a", "pass", &["a"]), on("b", "pass", &["b"])];
    assert_eq!(activate(two(), &["b", "a"]).unwrap().chain_mask("b"), ChainMask(1));
    assert_eq!(activate(two(), &["a"]).unwrap().chain_mask("b"), ChainMask::NONE);
    let unknown = ActivateError::NoSuchHook { name: Arc::from("c"), hook: Hook::OnPublish };
    assert_eq!(activate(two(), &["c"]).err(), Some(unknown));
    let not_there = setup("m", MINIMAL, json!({}));
    let unknown = ActivateError::NoSuchHook { name: Arc::from("m"), hook: Hook::OnPublish };
    assert_eq!(activate(vec![not_there], &["m"]).err(), Some(unknown));
    let many: Vec<_> = (0..33).map(|number| number.to_string()).collect();
    let order: Vec<_> = many.iter().map(String::as_str).collect();
    let setups = || many.iter().map(|name| on(name, "pass", &["t"]));
    let full = activate(setups().take(32).collect(), &order[..32]).unwrap();
    assert_eq!(full.chain_mask("t"), ChainMask(u32::MAX));
    assert_eq!(activate(setups().collect(), &order).err(), Some(ActivateError::ChainTooLong));
}
