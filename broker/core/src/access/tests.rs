//! Tests of access rules: tables of what the rules promise, and a naive evaluator as oracle.
//! What must not live here: anything but tests.

use proptest::prelude::*;

use super::*;
use crate::topic::TopicError;
use crate::topic::tests::{filter_paths, paths};

fn rule(id: i64, text: &str) -> Rule {
    // "allow publish a/b all", "deny all a/# user:x"
    let words: Vec<&str> = text.split(' ').collect();
    let [effect, actions, pattern, subject] = words.try_into().expect(text);
    Rule {
        id: RuleId(id),
        effect: if effect == "allow" { Effect::Allow } else { Effect::Deny },
        actions: match actions {
            "publish" => Actions::PUBLISH,
            "subscribe" => Actions::SUBSCRIBE,
            _ => Actions::ALL,
        },
        pattern: Pattern::parse(pattern).expect(pattern),
        subject: match subject.split_once(':') {
            Some(("user", name)) => Subject::User(name.into()),
            Some((_, name)) => Subject::Role(name.into()),
            None => Subject::All,
        },
    }
}

/// The rules by themselves, and among so many others that there is an index.
fn sets(texts: &[&str]) -> [RuleSet; 2] {
    let rules: Vec<Rule> = (1..).zip(texts).map(|(id, text)| rule(id, text)).collect();
    let mut many = rules.clone();
    let subjects: Vec<Subject> = rules.iter().map(|rule| rule.subject.clone()).collect();
    for (id, number) in (1000..).zip(0..=UNINDEXED_MAX) {
        for (index, subject) in (0_i64..).zip(&subjects) {
            let mut filler = rule(id + 100 * index, "allow all x all");
            filler.pattern = Pattern::parse(&format!("filler/{number}")).unwrap();
            filler.subject = subject.clone();
            many.push(filler);
        }
    }
    let [few, many] = [RuleSet::compile(rules), RuleSet::compile(many)];
    assert!(few.groups(&anonymous("x")).all(|(_, group)| group.indexes.is_none()));
    [few, many]
}

fn anonymous(client_id: &str) -> Requester<'_> {
    Requester { client_id, username: None, roles: &[] }
}

fn user<'a>(client_id: &'a str, username: &'a str) -> Requester<'a> {
    Requester { client_id, username: Some(username), roles: &[] }
}

const YES: fn(Decision) -> bool = |decision| matches!(decision, Decision::Allow(_));

#[track_caller]
fn check_publish(rules: &[&str], requester: Requester<'_>, topic: &str, expected: Decision) {
    for set in sets(rules) {
        assert_eq!(set.decide_publish(&requester, topic), expected, "{topic}");
    }
}

#[track_caller]
fn check_subscribe(rules: &[&str], requester: Requester<'_>, filter: &str, expected: Decision) {
    for filter in [filter.to_owned(), format!("$share/group/{filter}")] {
        for set in sets(rules) {
            let filter = TopicFilter::parse(&filter).unwrap();
            assert_eq!(set.decide_subscribe(&requester, &filter), expected, "{filter}");
        }
    }
}

const ALLOW_1: Decision = Decision::Allow(RuleId(1));
const DENY_2: Decision = Decision::Deny(RuleId(2));

#[test]
fn without_a_rule_that_applies_there_is_no_match() {
    check_publish(&[], anonymous("c"), "a", Decision::NoMatch);
    check_publish(&["allow subscribe # all"], anonymous("c"), "a", Decision::NoMatch);
    check_subscribe(&["allow publish # all"], anonymous("c"), "a", Decision::NoMatch);
    check_publish(&["allow all # user:u"], anonymous("c"), "a", Decision::NoMatch);
    check_publish(&["allow all # user:u"], user("u", "v"), "a", Decision::NoMatch);
    check_publish(&["allow all # role:u"], user("u", "u"), "a", Decision::NoMatch);
    check_publish(&["allow all # all"], anonymous("c"), "$SYS/a", Decision::NoMatch);
}

#[test]
fn rules_reach_their_user_their_role_and_all() {
    let roles = [Arc::from("r"), Arc::from("s")];
    let requester = Requester { client_id: "c", username: Some("u"), roles: &roles };
    for subject in ["user:u", "role:r", "role:s", "all"] {
        let allow = format!("allow all a/+ {subject}");
        check_publish(&[&allow], requester, "a/b", ALLOW_1);
        check_subscribe(&[&allow], requester, "a/+", ALLOW_1);
        for other in ["user:u", "role:r", "role:s", "all"] {
            let deny = format!("deny all a/b {other}");
            check_publish(&[&allow, &deny], requester, "a/b", DENY_2);
            check_publish(&[&allow, &deny], requester, "a/c", ALLOW_1);
            check_subscribe(&[&allow, &deny], requester, "a/+", DENY_2);
            check_subscribe(&[&allow, &deny], requester, "a/c", ALLOW_1);
        }
    }
}

#[test]
fn a_subscription_needs_one_rule_that_covers_all_of_its_filter() {
    let rules = ["allow all a/+/c all", "allow all a/b/# all"];
    check_subscribe(&rules, anonymous("c"), "a/+/c", ALLOW_1);
    check_subscribe(&rules, anonymous("c"), "a/b/#", Decision::Allow(RuleId(2)));
    check_subscribe(&rules, anonymous("c"), "a/+/+", Decision::NoMatch);
    check_subscribe(&rules, anonymous("c"), "a/#", Decision::NoMatch);
    check_subscribe(&rules, anonymous("c"), "#", Decision::NoMatch);
    check_subscribe(&["allow all +/# all"], anonymous("c"), "#", ALLOW_1);
    check_subscribe(&["allow all # all"], anonymous("c"), "$SYS/#", Decision::NoMatch);
}

#[test]
fn a_deny_rule_that_shares_a_topic_with_the_filter_denies_it() {
    let rules = ["allow all # all", "deny subscribe secret/+/key all"];
    for filter in ["#", "+/#", "+/+/+", "secret/#", "secret/a/key", "+/a/#", "secret/+/key/#"] {
        check_subscribe(&rules, anonymous("c"), filter, DENY_2);
    }
    for filter in ["+", "secret", "secret/+", "secret/+/lock", "secret/a/key/+", "/#"] {
        check_subscribe(&rules, anonymous("c"), filter, ALLOW_1);
    }
    check_publish(&rules, anonymous("c"), "secret/a/key", ALLOW_1);
}

#[test]
fn a_variable_is_one_level_with_exactly_that_text() {
    let rules = ["allow all dev/${clientid}/# all"];
    check_publish(&rules, anonymous("c1"), "dev/c1/up", ALLOW_1);
    check_publish(&rules, anonymous("c1"), "dev/c2/up", Decision::NoMatch);
    check_publish(&rules, anonymous("c1"), "dev/${clientid}/up", Decision::NoMatch);
    check_publish(&rules, anonymous("${clientid}"), "dev/${clientid}/up", ALLOW_1);
    check_publish(&rules, anonymous("c1"), "dev/\0clientid/up", Decision::NoMatch);
    check_subscribe(&rules, anonymous("c1"), "dev/c1/#", ALLOW_1);
    check_subscribe(&rules, anonymous("c1"), "dev/+/#", Decision::NoMatch);
    let rules = ["allow all dev/${username}/${clientid} all"];
    check_publish(&rules, user("c", "u"), "dev/u/c", ALLOW_1);
    check_publish(&rules, user("c", "u"), "dev/c/u", Decision::NoMatch);
    check_publish(&rules, anonymous("c"), "dev/u/c", Decision::NoMatch);
}

const HOSTILE: [&str; 7] = ["+", "#", "a/b", "a\0", "", "+/#", "/"];

#[test]
fn a_client_with_a_hostile_name_gains_nothing() {
    for name in HOSTILE {
        for variable in ["${clientid}", "${username}"] {
            let allow = format!("allow all dev/{variable}/# all");
            for topic in ["dev/c/up", "dev/a/b/up", "dev/+/up", "dev//up", "dev/a", "dev/#"] {
                check_publish(&[&allow], user(name, name), topic, Decision::NoMatch);
                let filter = format!("{topic}/x");
                if TopicFilter::parse(&filter).is_ok() {
                    check_subscribe(&[&allow], user(name, name), &filter, Decision::NoMatch);
                }
            }
        }
    }
}

#[test]
fn a_client_does_not_slip_out_of_a_deny_rule_by_its_name() {
    let rules = ["allow all # all", "deny all dev/${clientid}/# all"];
    check_publish(&rules, anonymous("c1"), "dev/c1/up", DENY_2);
    check_publish(&rules, anonymous("c1"), "dev/c2/up", ALLOW_1);
    check_subscribe(&rules, anonymous("c1"), "dev/+/up", DENY_2);
    check_subscribe(&rules, anonymous("c1"), "dev/c2/#", ALLOW_1);
    for name in HOSTILE {
        check_publish(&rules, anonymous(name), "dev/c1/up", DENY_2);
        check_publish(&rules, anonymous(name), "dev//up", DENY_2);
        check_publish(&rules, anonymous(name), "other/c1/up", ALLOW_1);
        check_subscribe(&rules, anonymous(name), "dev/c1/#", DENY_2);
    }
    let rules = ["allow all # all", "deny all dev/${username}/# all"];
    check_publish(&rules, anonymous("c1"), "dev/c1/up", DENY_2);
}

#[test]
fn a_variable_at_the_beginning_does_not_let_into_dollar_topics() {
    let rules = ["allow all ${clientid}/# all"];
    check_publish(&rules, anonymous("c"), "c/x", ALLOW_1);
    check_publish(&rules, anonymous("$SYS"), "$SYS/x", Decision::NoMatch);
    check_subscribe(&rules, anonymous("$SYS"), "$SYS/#", Decision::NoMatch);
    let rules = ["allow all $SYS/# all", "deny all ${clientid}/# all"];
    check_publish(&rules, anonymous("$SYS"), "$SYS/x", DENY_2);
    check_subscribe(&rules, anonymous("$SYS"), "$SYS/+", DENY_2);
    check_subscribe(&rules, anonymous("$SYS"), "#", Decision::NoMatch);
}

#[test]
fn the_set_that_allows_all_does() {
    let set = RuleSet::allow_all();
    assert!(YES(set.decide_publish(&anonymous("c"), "$SYS/x")));
    assert!(YES(set.decide_subscribe(&anonymous("c"), &TopicFilter::parse("#").unwrap())));
    assert!(set.is_empty());
}

#[test]
fn the_index_agrees_with_each_pattern_over_a_small_alphabet() {
    let topics = paths(&["", "a", "$x"], 3);
    let filters = filter_paths(&["", "a", "$x", "+"], 2);
    let filters: Vec<_> = filters.iter().map(|text| TopicFilter::parse(text).unwrap()).collect();
    let mut texts = filter_paths(&["", "a", "$x", "+", "${clientid}"], 2);
    texts.extend(["/+/+/#".into(), "+/+/+/#".into(), "+/a/+".into(), "a/${username}/a".into()]);
    for pattern in texts.iter().map(|text| Pattern::parse(text).unwrap()) {
        let index = Index::new([(0, &pattern)].into_iter());
        for (client_id, username) in [("a", Some("+")), ("$x", Some("a")), ("/", None)] {
            let bindings = Bindings::new(client_id, username);
            let (b, what) = (&bindings, format!("{pattern} {client_id} {username:?}"));
            for t in &topics {
                let allows = pattern.allows_topic(b, t).then_some(0);
                assert_eq!(index.allows_topic(b, t), allows, "allow {what} publish {t}");
                let denies = pattern.denies_topic(b, t).then_some(0);
                assert_eq!(index.denies_topic(b, t), denies, "deny {what} publish {t}");
            }
            for f in &filters {
                let allows = pattern.allows_filter(b, f).then_some(0);
                assert_eq!(index.allows_filter(b, f), allows, "allow {what} subscribe {f}");
                let denies = pattern.denies_filter(b, f).then_some(0);
                assert_eq!(index.denies_filter(b, f), denies, "deny {what} subscribe {f}");
            }
        }
    }
}

#[track_caller]
fn check_pattern(text: &str, expected: PatternError) {
    assert_eq!(Pattern::parse(text), Err(expected));
}

#[test]
fn patterns_that_cannot_mean_what_was_meant_are_refused() {
    check_pattern("", PatternError::Topic(TopicError::Empty));
    check_pattern("a/#/b", PatternError::Topic(TopicError::HashNotLast { level: 2 }));
    check_pattern("$share/g/a", PatternError::Shared);
    for text in ["a/x${clientid}", "a/${clientid}x", "a/${client_id}", "a/${", "a/${tenant}/#"] {
        check_pattern(text, PatternError::Variable { level: 2 });
    }
    assert_eq!(
        Pattern::parse("${user}").unwrap_err().to_string(),
        "level 1: only `${clientid}` and `${username}` are variables, each as a whole level"
    );
    for text in ["#", "$SYS/#", "a/$x", "${clientid}", "a/${username}/+/#", "{clientid}", "$"] {
        assert_eq!(Pattern::parse(text).map(|pattern| pattern.to_string()), Ok(text.into()));
    }
}

#[test]
fn actions_round_trip_through_their_bits() {
    for actions in [Actions::PUBLISH, Actions::SUBSCRIBE, Actions::ALL] {
        assert_eq!(Actions::from_bits(actions.bits()), Some(actions));
    }
    assert_eq!(Actions::PUBLISH | Actions::SUBSCRIBE, Actions::ALL);
    assert_eq!(Actions::from_bits(4), None);
    assert!(!Actions::PUBLISH.contains(Actions::ALL));
}

#[test]
fn an_explanation_names_every_rule_for_the_requester_and_how_it_stands() {
    let rules = [
        "allow publish a/${username} all",
        "deny subscribe a/# all",
        "allow all b user:u",
        "allow publish a/+ user:u",
        "allow publish a/+ user:v",
    ];
    for set in sets(&rules) {
        let explained = set.explain(&anonymous("c"), Request::Publish("a/b"));
        let standings: Vec<(i64, Standing)> = explained
            .iter()
            .filter(|considered| considered.rule.id.0 < 1000)
            .map(|considered| (considered.rule.id.0, considered.standing))
            .collect();
        assert_eq!(standings, [(2, Standing::OtherAction), (1, Standing::Unbound)]);
        let explained = set.explain(&user("c", "u"), Request::Publish("a/b"));
        let applies: Vec<Rule> = explained
            .into_iter()
            .filter(|considered| considered.standing == Standing::Applies)
            .map(|considered| considered.rule)
            .collect();
        assert_eq!(applies, [rule(4, rules[3])]);
    }
}

/// What a deny or allow rule means, in the plainest words: its pattern with the variables written
/// out, as a filter.
fn naive_filter(rule: &Rule, requester: &Requester<'_>) -> Option<TopicFilter> {
    let is_level = |value: &&str| !value.is_empty() && !value.contains(['+', '#', '/', '\0']);
    let mut levels = Vec::new();
    for (place, level) in rule.pattern.as_str().split('/').enumerate() {
        let value = match level {
            "${clientid}" => Some(requester.client_id),
            "${username}" => requester.username,
            text => {
                levels.push(text);
                continue;
            }
        };
        match (value.filter(is_level), rule.effect) {
            (Some(value), Effect::Allow) if place == 0 && value.starts_with('$') => return None,
            (Some(value), _) => levels.push(value),
            (None, Effect::Deny) => levels.push("+"),
            (None, Effect::Allow) => return None,
        }
    }
    Some(TopicFilter::parse(&levels.join("/")).unwrap())
}

/// Every rule in turn: whether some allow rule and some deny rule applies.
fn naive(rules: &[Rule], requester: &Requester<'_>, request: Request<'_>) -> (bool, bool) {
    let (mut allowed, mut denied) = (false, false);
    for rule in rules {
        let is_for = match &rule.subject {
            Subject::All => true,
            Subject::User(name) => requester.username == Some(name),
            Subject::Role(name) => requester.roles.contains(name),
        };
        let Some(pattern) = naive_filter(rule, requester).filter(|_| is_for) else {
            continue;
        };
        let (applies, action) = match (request, rule.effect) {
            (Request::Publish(topic), _) => (pattern.matches(topic), Actions::PUBLISH),
            (Request::Subscribe(f), Effect::Allow) => (pattern.covers(f), Actions::SUBSCRIBE),
            (Request::Subscribe(f), Effect::Deny) => (pattern.intersects(f), Actions::SUBSCRIBE),
        };
        if applies && rule.actions.contains(action) {
            match rule.effect {
                Effect::Allow => allowed = true,
                Effect::Deny => denied = true,
            }
        }
    }
    (allowed, denied)
}

fn levels_of(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    (prop::collection::vec(prop::sample::select(choices), 0..4), 0..3)
        .prop_map(|(mut levels, hash)| {
            if hash == 0 || levels.is_empty() {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("the empty string is no filter", |text| !text.is_empty())
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let pattern = levels_of(&["a", "b", "", "$x", "+", "${clientid}", "${username}"]);
    let subject = prop::sample::select(vec!["all", "all", "user:a", "user:$x", "role:r", "role:s"]);
    (0..10, 1_u8..4, pattern, subject).prop_map(|(effect, actions, pattern, subject)| {
        let effect = if effect < 7 { "allow" } else { "deny" };
        Rule {
            actions: Actions::from_bits(actions).unwrap(),
            ..rule(0, &format!("{effect} all {pattern} {subject}"))
        }
    })
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "a", "b", "$x", "+", "#", "a/b", "a\0", ""])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn decisions_agree_with_a_naive_evaluator_in_any_order_of_rules(
        rules in prop_oneof![
            prop::collection::vec(any_rule(), 0..6),
            prop::collection::vec(any_rule(), 10..50),
        ],
        seed in any::<usize>(),
        client_id in name(),
        username in prop::option::weighted(0.9, name()),
        roles in prop::sample::subsequence(vec![Arc::<str>::from("r"), Arc::from("s")], 0..=2),
        requests in prop::collection::vec(
            (levels_of(&["a", "b", "", "$x", "+"]), prop::bool::ANY), 1..12),
    ) {
        let rules: Vec<Rule> = (1..)
            .zip(rules)
            .map(|(id, rule)| Rule { id: RuleId(id), ..rule })
            .collect();
        let mut shuffled = rules.clone();
        if !rules.is_empty() {
            shuffled.rotate_left(seed % rules.len());
            shuffled[..rules.len() / 2].reverse();
        }
        let set = RuleSet::compile(rules.clone());
        let shuffled = RuleSet::compile(shuffled);
        let requester = Requester { client_id, username, roles: &roles };
        for (text, is_publish) in &requests {
            let filter = TopicFilter::parse(text).unwrap();
            let topic = text.replace(['+', '#'], "a");
            let request = match is_publish {
                true => Request::Publish(&topic),
                false => Request::Subscribe(&filter),
            };
            let decision = set.decide(&requester, request);
            prop_assert_eq!(decision, shuffled.decide(&requester, request));
            let expected = match naive(&rules, &requester, request) {
                (_, true) => "denied",
                (true, false) => "allowed",
                (false, false) => "no match",
            };
            let (said, named) = match decision {
                Decision::Deny(id) => ("denied", Some((id, Effect::Deny))),
                Decision::Allow(id) => ("allowed", Some((id, Effect::Allow))),
                Decision::NoMatch => ("no match", None),
            };
            prop_assert_eq!(said, expected, "{:?} {:?}", requester, request);
            let explained = set.explain(&requester, request);
            let applies: Vec<(RuleId, Effect)> = explained
                .iter()
                .filter(|considered| considered.standing == Standing::Applies)
                .map(|considered| (considered.rule.id, considered.rule.effect))
                .collect();
            match named {
                Some(named) => prop_assert!(applies.contains(&named)),
                None => prop_assert!(applies.is_empty()),
            }
        }
    }
}
