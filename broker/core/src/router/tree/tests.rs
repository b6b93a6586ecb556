//! Tests of the subscription tree against a list that is searched from end to end.
//! What must not live here: anything but tests.

use proptest::prelude::*;

use super::*;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).expect(text)
}

fn matches(tree: &Tree<u32, u32>, topic: &str) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    tree.for_each_match(topic, |key, value| found.push((key, *value)));
    found.sort_unstable();
    found
}

#[track_caller]
fn check_empty(tree: &Tree<u32, u32>) {
    assert!(tree.is_empty());
    assert_eq!(tree.exact.len(), 0);
    assert_eq!(tree.wildcard.len(), 0, "every node was pruned");
}

#[test]
fn a_second_subscription_to_the_same_filter_replaces_the_first() {
    for text in ["a/b", "a/+", "a/#"] {
        let mut tree = Tree::default();
        assert_eq!(tree.insert(&filter(text), 1, 10), None);
        assert_eq!(tree.insert(&filter(text), 1, 11), Some(10));
        assert_eq!(tree.insert(&filter(text), 2, 20), None);
        assert_eq!(matches(&tree, "a/b"), [(1, 11), (2, 20)]);
        assert_eq!(tree.len(), 2);
        assert_eq!(tree.remove(&filter(text), 3), None);
        assert_eq!(tree.remove(&filter("a"), 1), None);
        assert_eq!(tree.remove(&filter("a/+/#"), 1), None);
        assert_eq!(tree.remove(&filter(text), 1), Some(11));
        assert_eq!(tree.remove(&filter(text), 2), Some(20));
        check_empty(&tree);
    }
}

#[test]
fn wildcards_follow_the_specification() {
    let mut tree = Tree::default();
    let texts = ["#", "+", "/#", "+/+", "/+", "a/#", "a/+/c", "+/b/#", "$SYS/#", "$SYS/+", "a//+"];
    for (key, text) in (0..).zip(texts) {
        tree.insert(&filter(text), key, key);
    }
    for topic in ["a", "/", "a/b", "/b", "a/b/c", "$SYS", "$SYS/b", "a//", "a//x", "b/b", "//"] {
        let found: Vec<&str> =
            matches(&tree, topic).iter().map(|(key, _)| texts[*key as usize]).collect();
        let expected: Vec<&str> =
            texts.into_iter().filter(|text| filter(text).matches(topic)).collect();
        assert_eq!(found, expected, "{topic}");
    }
}

#[test]
fn a_topic_and_a_filter_of_the_greatest_depth_match() {
    let topic = vec!["a"; TOPIC_LEVELS_MAX].join("/");
    let mut tree = Tree::default();
    tree.insert(&filter(&vec!["+"; TOPIC_LEVELS_MAX].join("/")), 1, 1);
    tree.insert(&filter(&topic), 2, 2);
    assert_eq!(matches(&tree, &topic), [(1, 1), (2, 2)]);
    assert_eq!(matches(&tree, &format!("{topic}/a")), []);
}

#[test]
fn many_subscribers_of_one_filter_come_and_go() {
    for text in ["news", "news/#"] {
        let mut tree = Tree::default();
        for key in 0..1000 {
            assert_eq!(tree.insert(&filter(text), key, key), None);
        }
        for key in (0..1000).rev().step_by(2) {
            assert_eq!(tree.insert(&filter(text), key, key + 1), Some(key));
            assert_eq!(tree.remove(&filter(text), key), Some(key + 1));
            assert_eq!(tree.remove(&filter(text), key), None);
        }
        let left: Vec<(u32, u32)> = (0..1000).step_by(2).map(|key| (key, key)).collect();
        assert_eq!(matches(&tree, "news"), left);
        for (key, _) in left {
            assert_eq!(tree.remove(&filter(text), key), Some(key));
        }
        check_empty(&tree);
    }
}

fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "", "$x", "+", "é"])
}

fn filter_text() -> impl Strategy<Value = String> {
    (prop::collection::vec(level(), 1..4), any::<bool>())
        .prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("the empty string is no filter", |text| !text.is_empty())
}

fn topic_text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "", "$x", "é", "z"]), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("the empty string is no topic", |text| !text.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_tree_agrees_with_a_list_while_subscriptions_come_and_go(
        steps in prop::collection::vec((filter_text(), 0_u32..4, any::<bool>()), 1..60),
        topics in prop::collection::vec(topic_text(), 1..12),
    ) {
        let mut tree = Tree::default();
        let mut list: Vec<(TopicFilter, u32, u32)> = Vec::new();
        for (value, (text, key, add)) in (0..).zip(steps) {
            let filter = filter(&text);
            let place = list.iter().position(|(f, k, _)| *f == filter && *k == key);
            let old = place.map(|place| list.remove(place).2);
            if add {
                prop_assert_eq!(tree.insert(&filter, key, value), old);
                list.push((filter, key, value));
            } else {
                prop_assert_eq!(tree.remove(&filter, key), old);
            }
            prop_assert_eq!(tree.len(), list.len());
        }
        for topic in &topics {
            let mut expected: Vec<(u32, u32)> = list
                .iter()
                .filter(|(filter, ..)| filter.matches(topic))
                .map(|(_, key, value)| (*key, *value))
                .collect();
            expected.sort_unstable();
            prop_assert_eq!(matches(&tree, topic), expected, "{}", topic);
        }
        for (filter, key, value) in list {
            prop_assert_eq!(tree.remove(&filter, key), Some(value));
        }
        check_empty(&tree);
    }
}
