//! Filters that come and go, and topics, against a matcher that looks at one level after the other
//! [MQTT 4.7].
//! What must not live here: who subscribes.

use std::collections::BTreeMap;

use wasmqtt_core::router::tree::Tree;
use wasmqtt_core::topic::{TopicFilter, check_topic_name};

/// What is in the tree: by filter without its share name, and by subscriber.
type Kept = BTreeMap<(String, u8), (TopicFilter, usize)>;

/// Lines: `>filter` comes, `<filter` goes, and topics.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let mut tree = Tree::<u8, usize>::default();
    let mut kept = Kept::new();
    for (number, line) in text.split('\n').enumerate() {
        let key = u8::try_from(number % 3).unwrap_or(0);
        if let Some(filter) = line.strip_prefix(['>', '<']).map(TopicFilter::parse) {
            let Ok(filter) = filter else { continue };
            let place = (filter.filter().to_owned(), key);
            if line.starts_with('>') {
                let replaced = tree.insert(&filter, key, number);
                assert_eq!(replaced, kept.insert(place, (filter, number)).map(|kept| kept.1));
            } else {
                assert_eq!(tree.remove(&filter, key), kept.remove(&place).map(|kept| kept.1));
            }
            assert_eq!(tree.len(), kept.len());
        } else if check_topic_name(line).is_ok() {
            check(&tree, &kept, line);
        }
    }
    for ((_, key), (filter, number)) in kept {
        assert_eq!(tree.remove(&filter, key), Some(number));
    }
    assert!(tree.is_empty());
}

fn check(tree: &Tree<u8, usize>, kept: &Kept, topic: &str) {
    let mut found = Vec::new();
    tree.for_each_match(topic, |key, number| found.push((key, *number)));
    let mut expected = Vec::new();
    for ((filter, key), (parsed, number)) in kept {
        let is_match = matches(filter, topic);
        assert_eq!(parsed.matches(topic), is_match, "{filter} and {topic}");
        if is_match {
            expected.push((*key, *number));
        }
    }
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "for {topic} in {kept:?}");
}

fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['#', '+']) {
        return false; // [MQTT-4.7.2-1]
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    for (index, level) in filter.iter().enumerate() {
        match *level {
            "#" => return true,
            "+" if index < topic.len() => {}
            level if topic.get(index) == Some(&level) => {}
            _ => return false,
        }
    }
    filter.len() == topic.len()
}
