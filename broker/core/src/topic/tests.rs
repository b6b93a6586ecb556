//! Tests of topic syntax and of the relations between filters, against brute force.
//! What must not live here: anything but tests.

use proptest::prelude::*;

use super::*;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).expect(text)
}

#[track_caller]
fn check_name(topic: &str, expected: Result<(), TopicError>) {
    assert_eq!(check_topic_name(topic), expected, "{topic:?}");
}

#[track_caller]
fn check_filter(text: &str, expected: Result<(Option<&str>, &str), TopicError>) {
    let parsed = TopicFilter::parse(text);
    let found = parsed.as_ref().map(|parsed| (parsed.share_group(), parsed.filter()));
    assert_eq!(found, expected.as_ref().map(|parts| *parts), "{text:?}");
}

#[test]
fn topic_names_have_at_least_one_character_no_null_and_no_wildcard() {
    use TopicError as E;
    for valid in ["a", "/", "//", " ", "a b/C", "$SYS/x", "$share/g/t", "\u{feff}a", "é/日本", "$"]
    {
        check_name(valid, Ok(()));
    }
    check_name("", Err(E::Empty));
    check_name("a/\0", Err(E::Nul { level: 2 }));
    check_name("a/b+/c", Err(E::Wildcard { level: 2, wildcard: '+' }));
    check_name("#", Err(E::Wildcard { level: 1, wildcard: '#' }));
    check_name(&"x".repeat(65_535), Ok(()));
    check_name(&"x".repeat(65_536), Err(E::TooLong { length: 65_536 }));
    check_name(&"/".repeat(TOPIC_LEVELS_MAX - 1), Ok(()));
    check_name(&"/".repeat(TOPIC_LEVELS_MAX), Err(E::TooManyLevels));
}

#[test]
fn wildcards_in_filters_are_whole_levels_and_the_number_sign_is_last() {
    use TopicError as E;
    for valid in ["#", "+", "/", "+/+", "/+/", "a/#", "+/a/#", "$SYS/#", "a/$x", "/#", "$share"] {
        check_filter(valid, Ok((None, valid)));
    }
    check_filter("", Err(E::Empty));
    check_filter("a/b#", Err(E::WildcardPlacement { level: 2, wildcard: '#' }));
    check_filter("a+/b", Err(E::WildcardPlacement { level: 1, wildcard: '+' }));
    check_filter("++", Err(E::WildcardPlacement { level: 1, wildcard: '+' }));
    check_filter("a/#/b", Err(E::HashNotLast { level: 2 }));
    check_filter("#/", Err(E::HashNotLast { level: 1 }));
    check_filter("a/b\0", Err(E::Nul { level: 2 }));
    check_filter(&"+/".repeat(TOPIC_LEVELS_MAX), Err(E::TooManyLevels));
    check_filter(&"x".repeat(65_536), Err(E::TooLong { length: 65_536 }));
}

#[test]
fn filters_of_shared_subscriptions_have_a_share_name_and_a_filter() {
    use TopicError as E;
    check_filter("$share/g/t", Ok((Some("g"), "t")));
    check_filter("$share/g//", Ok((Some("g"), "/")));
    check_filter("$share/é g/+/#", Ok((Some("é g"), "+/#")));
    check_filter("$share/g", Err(E::ShareFilterMissing));
    check_filter("$share/g/", Err(E::ShareFilterMissing));
    check_filter("$share/", Err(E::ShareNameEmpty));
    check_filter("$share//t", Err(E::ShareNameEmpty));
    check_filter("$share/g+/t", Err(E::ShareNameWildcard { wildcard: '+' }));
    check_filter("$share/#/t", Err(E::ShareNameWildcard { wildcard: '#' }));
    check_filter("$share/\0/t", Err(E::Nul { level: 2 }));
    check_filter("$share/g/t/a#", Err(E::WildcardPlacement { level: 4, wildcard: '#' }));
    let deepest = format!("$share/g/{}", vec!["+"; TOPIC_LEVELS_MAX].join("/"));
    assert_eq!(filter(&deepest).levels().count(), TOPIC_LEVELS_MAX);
    assert_eq!(filter("$share/g/t").as_str(), "$share/g/t");
}

#[track_caller]
fn check_matches(text: &str, matching: &[&str], other: &[&str]) {
    for text in [text.to_owned(), format!("$share/g/{text}")] {
        for topic in matching {
            assert!(filter(&text).matches(topic), "{text} should match {topic}");
        }
        for topic in other {
            assert!(!filter(&text).matches(topic), "{text} should not match {topic}");
        }
    }
}

#[test]
fn filters_match_as_the_specification_says() {
    check_matches("sport/#", &["sport", "sport/", "sport/a", "sport/a/b"], &["sports", "Sport"]);
    check_matches("+", &["a", "é"], &["/", "a/b", "$SYS"]);
    check_matches("/+", &["/a", "/", "/$x"], &["a", "/a/b"]);
    check_matches("+/+", &["/", "/a", "a/"], &["a", "//", "$SYS/a"]);
    check_matches("sport/+", &["sport/", "sport/a"], &["sport", "sport/a/b"]);
    check_matches("#", &["a", "/", "a/$SYS"], &["$SYS", "$SYS/a", "$"]);
    check_matches("+/a/#", &["b/a", "b/a/c"], &["$SYS/a/c", "a"]);
    check_matches("$SYS/#", &["$SYS", "$SYS/a"], &["SYS", "a/$SYS"]);
    check_matches("$SYS/+/x", &["$SYS/a/x"], &["$SYS/x"]);
    check_matches("a//b", &["a//b"], &["a/b", "a/x/b"]);
    // [MQTT-4.7.3-4]: no normalisation.
    check_matches("caf\u{e9}", &["caf\u{e9}"], &["cafe\u{301}", "CAFÉ"]);
}

/// Matching in the words of the specification, slowly.
fn naive_matches(filter: &[&str], topic: &[&str], is_first: bool) -> bool {
    let passes_over = is_first && topic.first().is_some_and(|level| level.starts_with('$'));
    match (filter, topic) {
        ([], []) => true,
        (["#"], _) => !passes_over,
        (["+", filter @ ..], [_, topic @ ..]) => {
            !passes_over && naive_matches(filter, topic, false)
        }
        ([wanted, filter @ ..], [level, topic @ ..]) => {
            wanted == level && naive_matches(filter, topic, false)
        }
        _ => false,
    }
}

/// Every path of at most `depth` levels out of `choices`, the empty string (which is no topic)
/// left out.
pub(crate) fn paths(choices: &[&'static str], depth: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut last: Vec<Vec<&str>> = vec![vec![]];
    for _ in 0..depth {
        last = last
            .iter()
            .flat_map(|path| choices.iter().map(|level| [&path[..], &[*level]].concat()))
            .collect();
        all.extend(last.iter().map(|path| path.join("/")));
    }
    all.retain(|path| !path.is_empty());
    all
}

/// Every such path, and every one with `#` after it.
pub(crate) fn filter_paths(choices: &[&'static str], depth: usize) -> Vec<String> {
    let mut texts = paths(choices, depth);
    texts.extend(paths(choices, depth).iter().map(|text| format!("{text}/#")));
    texts.extend(["#".into(), "/#".into()]);
    texts
}

#[test]
fn matches_covers_and_intersects_agree_with_every_topic_over_a_small_alphabet() {
    // `z` is in no filter: it stands for every other text.
    let topics = paths(&["", "a", "$x", "z"], 5);
    let mut texts = paths(&["", "a", "$x", "+"], 3);
    texts.extend(paths(&["", "a", "$x", "+"], 3).iter().map(|text| format!("{text}/#")));
    texts.extend(["#".into(), "/#".into()]);
    let filters: Vec<TopicFilter> = texts.iter().map(|text| filter(text)).collect();
    let matched: Vec<Vec<u64>> = filters
        .iter()
        .map(|filter| {
            let levels: Vec<&str> = filter.filter().split('/').collect();
            let mut bits = vec![0_u64; topics.len().div_ceil(64)];
            for (place, topic) in topics.iter().enumerate() {
                let topic_levels: Vec<&str> = topic.split('/').collect();
                let expected = naive_matches(&levels, &topic_levels, true);
                assert_eq!(filter.matches(topic), expected, "{filter} matches {topic}");
                bits[place / 64] |= u64::from(expected) << (place % 64);
            }
            bits
        })
        .collect();
    for (left, left_bits) in filters.iter().zip(&matched) {
        for (right, right_bits) in filters.iter().zip(&matched) {
            let mut pairs = left_bits.iter().zip(right_bits);
            let covers = pairs.clone().all(|(left, right)| right & !left == 0);
            let intersects = pairs.any(|(left, right)| left & right != 0);
            assert_eq!(left.covers(right), covers, "{left} covers {right}");
            assert_eq!(left.intersects(right), intersects, "{left} intersects {right}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_parsing_panic_and_what_is_valid_keeps_its_text(
        text in "(\\$share/)?[a$+#/\\PC\0]{0,12}",
    ) {
        if check_topic_name(&text).is_ok() {
            let exact = filter(&text.replace("$share", "x"));
            prop_assert!(!exact.has_wildcards() && exact.matches(exact.filter()));
        }
        if let Ok(parsed) = TopicFilter::parse(&text) {
            prop_assert_eq!(parsed.as_str(), &text);
            prop_assert_eq!(parsed.levels().collect::<Vec<_>>().join("/"), parsed.filter());
            prop_assert_eq!(parsed.has_wildcards(), parsed.filter().contains(['+', '#']));
            prop_assert!(parsed.covers(&parsed) && parsed.intersects(&parsed));
            let shared = parsed.share_group().map(|group| format!("$share/{group}/"));
            prop_assert_eq!(shared.unwrap_or_default() + parsed.filter(), text);
        }
    }
}
