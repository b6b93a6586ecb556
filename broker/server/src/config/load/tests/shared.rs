//! `[[shared]]`, right and wrong.
//! What must not live here: how a group chooses.

use wasmqtt_core::router::Strategy;
use wasmqtt_core::router::group::strategy_of;
use wasmqtt_core::topic::TopicFilter;

use super::{read, refused};

#[test]
fn share_groups_choose_as_the_first_section_says_that_applies() {
    let text = r#"
        [[shared]]
        group = "workers-*"
        filter = "jobs/#"
        strategy = "least-in-flight"
        [[shared]]
        group = "log"
        strategy = "hash-topic"
    "#;
    let rules = read(text, &[]).unwrap().config.shared;
    let strategy = |filter: &str| strategy_of(&rules, &TopicFilter::parse(filter).unwrap());
    for (filter, expected) in [
        ("$share/workers-a/jobs/+", Strategy::LeastInFlight),
        ("$share/workers-/jobs", Strategy::LeastInFlight),
        ("$share/workers-a/#", Strategy::RoundRobin),
        ("$share/log/a", Strategy::HashTopic),
        ("$share/logs/a", Strategy::RoundRobin),
    ] {
        assert_eq!(strategy(filter), expected, "{filter}");
    }
}

#[test]
fn a_strategy_that_is_none_is_refused_with_a_suggestion() {
    refused(
        "[[shared]]\ngroup = \"a\"\nstrategy = \"stiky\"",
        r#"
  × `shared.strategy` can't be "stiky"
   ╭─[broker.toml:3:12]
 2 │ group = "a"
 3 │ strategy = "stiky"
   ·            ───┬───
   ·               ╰── not one of the choices
   ╰────
  help: did you mean `sticky`? choices: hash-client, hash-topic, least-in-flight, random, round-
        robin, sticky
"#,
    );
}

#[test]
fn a_share_name_that_cannot_be_one_is_refused() {
    refused(
        "[[shared]]\ngroup = \"a/b\"\nstrategy = \"random\"",
        r#"
  × `shared.group` is not usable: no share name contains '/'
   ╭─[broker.toml:2:9]
 1 │ [[shared]]
 2 │ group = "a/b"
   ·         ──┬──
   ·           ╰── this value
 3 │ strategy = "random"
   ╰────
  help: write it like "workers-*"
"#,
    );
}
