//! Tests of the retained messages against a list that is searched from end to end.
//! What must not live here: anything but tests.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::message::{Message, MessageRef, QoS};
use crate::topic::TopicFilter;

const UNLIMITED: RetainedLimits = RetainedLimits { messages_max: 1000, bytes_max: 1 << 20 };

fn message(topic: &str, payload: &str, expires_at: Millis) -> SharedMessage {
    Arc::new(Message::new(MessageRef {
        topic,
        payload: payload.as_bytes(),
        qos: QoS::AtMostOnce,
        retain: true,
        properties: &[],
        expires_at,
        publisher: None,
    }))
}

fn matches(retained: &Retained, filter: &str, now: Millis) -> Vec<SharedMessage> {
    let mut found = Vec::new();
    let filter = TopicFilter::parse(filter).expect(filter);
    retained.for_each_match(&filter, now, |message| found.push(Arc::clone(message)));
    found.sort_by(|a, b| a.topic().cmp(b.topic()));
    found
}

#[track_caller]
fn check_empty(retained: &Retained) {
    assert!(retained.is_empty());
    assert_eq!(retained.bytes(), 0);
    assert_eq!(retained.expiring.len(), 0);
    assert_eq!(retained.topics.len(), 0, "every node was pruned");
}

#[test]
fn a_message_replaces_the_one_before_and_can_be_cleared() {
    let mut retained = Retained::default();
    retained.set(message("a/b", "1", Millis(5)), &UNLIMITED).unwrap();
    let second = message("a/b", "22", Millis::NEVER);
    retained.set(Arc::clone(&second), &UNLIMITED).unwrap();
    assert_eq!((retained.len(), retained.bytes()), (1, second.size()));
    assert_eq!(retained.get("a/b"), Some(&second));
    assert_eq!(retained.get("a"), None);
    assert!(!retained.clear("a"));
    assert!(!retained.clear("a/b/c"));
    assert!(retained.clear("a/b"));
    assert!(!retained.clear("a/b"));
    check_empty(&retained);
}

#[test]
fn limits_hold_and_a_refusal_leaves_what_was_there() {
    let size = message("a", "1", Millis::NEVER).size();
    let limits = RetainedLimits { messages_max: 2, bytes_max: 2 * size + 4 };
    let mut retained = Retained::default();
    retained.set(message("a", "1", Millis::NEVER), &limits).unwrap();
    retained.set(message("b", "1", Millis::NEVER), &limits).unwrap();
    let refused = retained.set(message("c", "1", Millis::NEVER), &limits);
    assert_eq!(refused, Err(RetainedError::Messages { messages_max: 2 }));
    let refused = retained.set(message("b", "123456", Millis::NEVER), &limits);
    assert_eq!(refused, Err(RetainedError::Bytes { bytes_max: 2 * size + 4 }));
    assert_eq!(retained.get("b").map(|kept| kept.payload()), Some(b"1".as_slice()));
    retained.set(message("b", "12345", Millis::NEVER), &limits).unwrap();
    assert_eq!((retained.len(), retained.bytes()), (2, 2 * size + 4));
    let tighter = RetainedLimits { messages_max: 1, bytes_max: size };
    retained.set(message("b", "12", Millis::NEVER), &tighter).expect("it takes less than before");
}

#[test]
fn expired_messages_are_skipped_then_purged_a_few_at_a_time() {
    let mut retained = Retained::default();
    for (topic, expires_at) in [("a", 30), ("b", 10), ("c/d", 20), ("e", 40)] {
        retained.set(message(topic, "1", Millis(expires_at)), &UNLIMITED).unwrap();
    }
    retained.set(message("f", "1", Millis::NEVER), &UNLIMITED).unwrap();
    let topics = |now| -> Vec<String> {
        matches(&retained, "#", now).iter().map(|message| message.topic().into()).collect()
    };
    assert_eq!(topics(Millis(29)), ["a", "e", "f"]);
    assert_eq!(topics(Millis(30)), ["e", "f"]);
    assert_eq!(retained.purge_expired(Millis(30), 2), 2);
    assert!(retained.get("a").is_some() && retained.get("c/d").is_none());
    assert_eq!(retained.purge_expired(Millis(30), 2), 1);
    assert_eq!(retained.purge_expired(Millis(30), 2), 0);
    assert_eq!(retained.iter().count(), 2);
    assert_eq!(retained.purge_expired(Millis(u64::MAX - 1), 9), 1);
    assert!(retained.clear("f"));
    check_empty(&retained);
}

fn topic_text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "", "$x"]), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("the empty string is no topic", |text| !text.is_empty())
}

fn filter_text() -> impl Strategy<Value = String> {
    (prop::collection::vec(prop::sample::select(vec!["a", "", "$x", "+", "+"]), 0..4), 0..3)
        .prop_map(|(mut levels, hash)| {
            if hash == 0 || levels.is_empty() {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("the empty string is no filter", |text| !text.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn retained_messages_agree_with_a_list(
        steps in prop::collection::vec((topic_text(), 0_u8..4, 0_u64..20), 1..60),
        filters in prop::collection::vec(filter_text(), 1..10),
        now in (0_u64..20).prop_map(Millis),
    ) {
        let mut retained = Retained::default();
        let mut list: Vec<SharedMessage> = Vec::new();
        for (topic, kind, expires_at) in steps {
            let before = list.len();
            list.retain(|message| message.topic() != topic);
            if kind == 0 {
                prop_assert_eq!(retained.clear(&topic), list.len() < before);
            } else {
                let expires_at = if kind == 1 { Millis::NEVER } else { Millis(expires_at) };
                let message = message(&topic, "payload", expires_at);
                retained.set(Arc::clone(&message), &UNLIMITED).unwrap();
                list.push(message);
            }
            prop_assert_eq!(retained.len(), list.len());
            prop_assert_eq!(retained.bytes(), list.iter().map(|m| m.size()).sum::<usize>());
        }
        list.sort_by(|a, b| a.topic().cmp(b.topic()));
        for filter in &filters {
            let parsed = TopicFilter::parse(filter).unwrap();
            let mut expected = list.clone();
            expected.retain(|m| parsed.matches(m.topic()) && m.expires_at > now);
            prop_assert_eq!(matches(&retained, filter, now), expected, "{}", filter);
        }
        let expired = list.iter().filter(|message| message.expires_at <= now).count();
        prop_assert_eq!(retained.purge_expired(now, usize::MAX), expired);
        prop_assert_eq!(retained.iter().count(), list.len() - expired);
        for message in list.iter().filter(|message| message.expires_at > now) {
            prop_assert!(retained.clear(message.topic()));
        }
        check_empty(&retained);
    }
}

/// A change of what is retained, or a slice of the replay.
#[derive(Clone, Debug)]
enum Change {
    Set(String),
    Clear(String),
    Slice { room: usize, places: usize },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        3 => topic_text().prop_map(Change::Set),
        2 => topic_text().prop_map(Change::Clear),
        3 => (0..4_usize, 1..6_usize).prop_map(|(room, places)| Change::Slice { room, places }),
    ];
    prop::collection::vec(change, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What nobody touches comes once; what is set or cleared meanwhile comes once at most, as it
    /// is when it comes; what was not there at the beginning need not come.
    #[test]
    fn a_replay_in_slices_finds_what_stays_and_nothing_twice(
        before in prop::collection::vec(topic_text(), 0..40),
        changes in changes(),
        filter in filter_text(),
    ) {
        let mut retained = Retained::default();
        for topic in &before {
            retained.set(message(topic, "before", Millis::NEVER), &UNLIMITED).unwrap();
        }
        let filter = TopicFilter::parse(&filter).unwrap();
        let mut untouched: BTreeSet<&str> =
            before.iter().map(String::as_str).filter(|topic| filter.matches(topic)).collect();
        let (mut cursor, mut came, mut complete) = (retained.cursor(), Vec::new(), false);
        let rest = std::iter::repeat_n(Change::Slice { room: 3, places: 4 }, 200);
        let slices: Vec<Change> = changes.iter().cloned().chain(rest).collect();
        for change in &slices {
            match change {
                Change::Set(topic) => {
                    retained.set(message(topic, "after", Millis::NEVER), &UNLIMITED).unwrap();
                    untouched.remove(topic.as_str());
                }
                Change::Clear(topic) => {
                    retained.clear(topic);
                    untouched.remove(topic.as_str());
                }
                Change::Slice { .. } if complete => {}
                Change::Slice { room, places } => {
                    let (mut room, mut places) = (*room, *places);
                    let take = |message: &SharedMessage| {
                        if room == 0 {
                            return Room::None;
                        }
                        room -= 1;
                        came.push(Arc::clone(message));
                        Room::Taken
                    };
                    complete =
                        retained.replay(&filter, Millis(0), &mut cursor, &mut places, take);
                }
            }
        }
        prop_assert!(complete, "200 slices are enough for 40 topics");
        let mut topics: Vec<&str> = came.iter().map(|message| message.topic()).collect();
        topics.sort_unstable();
        let count = topics.len();
        topics.dedup();
        prop_assert_eq!(topics.len(), count, "something came twice");
        for topic in &untouched {
            prop_assert!(topics.contains(topic), "{} never came", topic);
        }
        for message in &came {
            prop_assert!(filter.matches(message.topic()));
        }
    }
}
