//! `[[shared]]`: how share groups choose the member that gets a message.
//! What must not live here: the choosing.

use wasmqtt_core::router::{GroupRule, Strategy};
use wasmqtt_core::topic::TopicFilter;

use crate::config::problem::Problem;
use crate::config::read::Reader;

/// The first that applies to a group decides.
pub(super) fn read(reader: &mut Reader<'_>) -> Vec<GroupRule> {
    let strategies = [
        ("round-robin", Strategy::RoundRobin),
        ("random", Strategy::Random),
        ("sticky", Strategy::Sticky),
        ("hash-client", Strategy::HashClient),
        ("hash-topic", Strategy::HashTopic),
        ("least-in-flight", Strategy::LeastInFlight),
    ];
    let mut rules = Vec::new();
    for (place, mut section) in reader.tables("shared") {
        let group = section.parsed("group", "\"workers-*\"", parse_group);
        let filter = section.parsed("filter", "\"jobs/#\"", parse_filter);
        let strategy = section.choice("strategy", &strategies);
        if section.peek("strategy").is_none() {
            section.report(
                Problem::error("this `[[shared]]` has no strategy")
                    .at(place.clone(), "here")
                    .help("add `strategy = \"least-in-flight\"`, for example"),
            );
        }
        rules.push(GroupRule {
            group: group.unwrap_or_else(|| "*".into()),
            filter,
            strategy: strategy.unwrap_or_default(),
        });
        section.finish();
    }
    rules
}

/// A share name with `*` for any characters.
fn parse_group(text: &str) -> Result<Box<str>, String> {
    match text.chars().find(|one| matches!(one, '/' | '+' | '#' | '\0')) {
        _ if text.is_empty() => Err("a share name is not empty".to_owned()),
        Some(one) => Err(format!("no share name contains {one:?}")),
        None => Ok(text.into()),
    }
}

fn parse_filter(text: &str) -> Result<TopicFilter, String> {
    let filter = TopicFilter::parse(text).map_err(|error| error.to_string())?;
    if filter.share_group().is_some() {
        return Err("write the filter without `$share/name/`, and the name as `group`".to_owned());
    }
    Ok(filter)
}
