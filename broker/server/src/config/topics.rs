//! The keys of `[topics]`, `[[rewrite]]` and `[[auto_subscribe]]`.
//! What must not live here: what a rule or a subscription does.

use std::sync::Arc;

use wasmqtt_core::access::Pattern;
use wasmqtt_core::limits::{AUTO_SUBSCRIBE_MAX, REWRITES_MAX};
use wasmqtt_core::message::QoS;
use wasmqtt_core::rewrite::Rewrite;
use wasmqtt_core::topic::check_topic_name;
use wasmqtt_core::worker::auto_subscribe::AutoSubscribe;

use crate::config::Topics;
use crate::config::problem::Problem;
use crate::config::read::{Reader, suggestion};
use crate::config::tree::Place;

/// A day.
const SYS_INTERVAL_SECONDS_MAX: u32 = 86_400;

/// Reads all that is about topics.
pub(crate) fn read(reader: &mut Reader<'_>) -> Topics {
    let mut topics = Topics::default();
    if let Some(mut section) = reader.section("topics") {
        if let Some(seconds) = section.integer("sys_interval_seconds", 0..=SYS_INTERVAL_SECONDS_MAX)
        {
            topics.sys_interval_seconds = seconds;
        }
        topics.check_payload_format = section.boolean("check_payload_format").unwrap_or(false);
        let like = "\"responses/\"";
        topics.response_information = section.parsed("response_information", like, |text| {
            check_topic_name(text).map(|()| Arc::from(text))
        });
        section.finish();
    }
    for (number, (place, section)) in reader.tables("rewrite").into_iter().enumerate() {
        if number == REWRITES_MAX {
            too_many(&section, place, "rewrite", REWRITES_MAX);
        }
        topics.rewrites.extend(rewrite(section, place));
    }
    for (number, (place, section)) in reader.tables("auto_subscribe").into_iter().enumerate() {
        if number == AUTO_SUBSCRIBE_MAX {
            too_many(&section, place, "auto_subscribe", AUTO_SUBSCRIBE_MAX);
        }
        topics.auto_subscribe.extend(auto_subscribe(section, place));
    }
    topics
}

fn too_many(section: &Reader<'_>, place: &Place, key: &str, most: usize) {
    section.report(
        Problem::error(format!("there can be at most {most} of [[{key}]]"))
            .at(place.clone(), "one too many"),
    );
}

fn missing(section: &Reader<'_>, place: &Place, key: &str, like: &str) {
    if section.peek(key).is_none() {
        section.report(
            Problem::error(format!("this section needs `{key}`"))
                .at(place.clone(), "this section")
                .help(format!("write it like {key} = {like}")),
        );
    }
}

fn rewrite(mut section: Reader<'_>, place: &Place) -> Option<Rewrite> {
    let from = section.string("from", "\"old/+/data\"");
    let to = section.string("to", "\"new/$1/data\"");
    missing(&section, place, "from", "\"old/+/data\"");
    missing(&section, place, "to", "\"new/$1/data\"");
    let sides = section.strings("on", "[\"publish\", \"subscribe\"]");
    let mut rule = None;
    if let (Some((from, from_place)), Some((to, to_place))) = (from, to) {
        use wasmqtt_core::rewrite::RewriteError as E;
        match Rewrite::new(from, to) {
            Ok(new) => rule = Some(new),
            Err(error) => {
                let place = match error {
                    E::From(_) | E::Shared => from_place,
                    E::To(_) | E::Capture { .. } => to_place,
                };
                section.report(
                    Problem::error(format!("this rewrite is not usable: {error}"))
                        .at(place.clone(), "this value")
                        .help("write it like from = \"old/+/data\", to = \"new/$1/data\""),
                );
            }
        }
    }
    if let Some(sides) = sides {
        const SIDES: &[&str] = &["publish", "subscribe"];
        for (side, place) in sides.iter().filter(|(side, _)| !SIDES.contains(side)) {
            section.report(
                Problem::error(format!("a rewrite can't be on \"{side}\""))
                    .at((*place).clone(), "not one of the choices")
                    .help(suggestion(side, SIDES, "choices")),
            );
        }
        if let Some(rule) = &mut rule {
            rule.publish = sides.iter().any(|(side, _)| *side == "publish");
            rule.subscribe = sides.iter().any(|(side, _)| *side == "subscribe");
        }
    }
    section.finish();
    rule
}

fn auto_subscribe(mut section: Reader<'_>, place: &Place) -> Option<AutoSubscribe> {
    let like = "\"devices/${clientid}/commands\"";
    missing(&section, place, "filter", like);
    let filter = section.parsed("filter", like, Pattern::parse);
    let qos = section.integer("qos", 0..=2).and_then(QoS::from_u8).unwrap_or_default();
    let no_local = section.boolean("no_local").unwrap_or(false);
    let retain_as_published = section.boolean("retain_as_published").unwrap_or(false);
    let retain_handling = section.integer("retain_handling", 0..=2).unwrap_or(0);
    section.finish();
    let filter = filter?;
    Some(AutoSubscribe { filter, qos, no_local, retain_as_published, retain_handling })
}
