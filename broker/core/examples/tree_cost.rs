//! What matching a topic and deciding about access cost, in nanoseconds and bytes.
//! What must not live here: checks; a figure is for people to read.
//!
//! Run with `cargo run --release -p wasmqtt-core --example tree_cost`.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures and prints")]

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use slotmap::SlotMap;
use wasmqtt_core::access::{Actions, Effect, Pattern, Requester, Rule, RuleId, RuleSet, Subject};
use wasmqtt_core::hook::ChainMask;
use wasmqtt_core::ids::{SessionId, SessionSlot, TenantId, WorkerId};
use wasmqtt_core::message::{MessageRef, QoS};
use wasmqtt_core::router::tree::Tree;
use wasmqtt_core::router::{Choice, Presence, Routes, Shared, Subscriber, Subscription};
use wasmqtt_core::store::SubscriptionOptions;
use wasmqtt_core::time::Millis;
use wasmqtt_core::topic::TopicFilter;

const SUBSCRIPTIONS: usize = 50_000;

/// Sessions that have them.
const SESSIONS: usize = 5_000;

/// Workers that have the sessions.
const WORKERS: u16 = 4;

/// Topics that are matched.
const MATCHES: usize = 1_000_000;

/// What is measured at once.
const BATCH: usize = 64;

/// As large as what the broker keeps of a subscription.
type Subscriptions = Tree<(u16, u32, u64), [u64; 4]>;

/// Each part runs in a process of its own: memory that another part gave back would not be seen.
const PARTS: [(&str, fn()); 8] = [
    ("exact", exact_filters),
    ("wildcard", wildcard_filters),
    ("one-filter", one_filter_of_many),
    ("routes", || routes(false)),
    ("routes-groups", || routes(true)),
    ("rules-100", || rules_for_all(100)),
    ("rules-100000", || rules_for_all(100_000)),
    ("rules-of-users", || rules_of_users(100_000, 10)),
];

fn main() -> std::io::Result<()> {
    let Some(part) = std::env::args().nth(1) else {
        for (name, _) in PARTS {
            Command::new(std::env::current_exe()?).arg(name).status()?;
        }
        return Ok(());
    };
    if let Some((_, run)) = PARTS.into_iter().find(|(name, _)| *name == part) {
        run();
    }
    Ok(())
}

fn exact_filters() {
    println!("{SUBSCRIPTIONS} exact filters of 3 to 5 levels and 100 with wildcards");
    let topics: Vec<String> = (0..SUBSCRIPTIONS).map(topic).collect();
    let mut filters: Vec<String> = topics.clone();
    for site in 0..25 {
        filters.push(format!("site/{site}/+/temperature"));
        filters.push(format!("site/{site}/#"));
        filters.push(format!("+/{site}/device-{site}/#"));
        filters.push(format!("alarm/+/{site}"));
    }
    measure_tree(&filters, &topics);
}

fn wildcard_filters() {
    println!("{SUBSCRIPTIONS} filters with a wildcard each");
    let topics: Vec<String> = (0..SUBSCRIPTIONS).map(topic).collect();
    let filters: Vec<String> = topics.iter().map(|topic| format!("{topic}/#")).collect();
    measure_tree(&filters, &topics);
}

fn one_filter_of_many() {
    println!("{SUBSCRIPTIONS} subscribers of one filter");
    let filters = vec!["news/+".to_owned(); SUBSCRIPTIONS];
    measure_tree(&filters, &["other/topic".to_owned()]);
}

/// What a publish costs until its receivers are known.
fn routes(with_groups: bool) {
    let kind = if with_groups { "half of them in groups of four" } else { "all plain" };
    println!("{SUBSCRIPTIONS} subscriptions of {SESSIONS} sessions, {kind}");
    let tenant = Shared::default().add_tenant(TenantId::DEFAULT, "default".into());
    let mut slots: SlotMap<SessionSlot, ()> = SlotMap::default();
    let places: Vec<SessionSlot> = (0..SESSIONS).map(|_| slots.insert(())).collect();
    let presences: Vec<Arc<Presence>> = (0..SESSIONS).map(|_| Arc::default()).collect();
    presences.iter().for_each(|presence| presence.arrive(100));
    let topics: Vec<String> = (0..SUBSCRIPTIONS).map(topic).collect();
    for number in 0..SUBSCRIPTIONS {
        let in_group = with_groups && number % 2 == 0;
        // Four members in a row are of one group.
        let filter = if in_group {
            format!("$share/g/{}", topics[number / 8 * 8])
        } else {
            topics[number].clone()
        };
        let filter = TopicFilter::parse(&filter).expect("it is valid");
        let session = number * 7919 % SESSIONS;
        let worker = WorkerId(u16::try_from(session).unwrap_or(0) % WORKERS);
        let subscriber = Subscriber { worker, slot: places[session] };
        let subscription = Subscription {
            session: SessionId(session as u64),
            options: SubscriptionOptions::default(),
            durable: false,
            presence: in_group.then(|| Arc::clone(&presences[session])),
        };
        tenant.change(|subscriptions| subscriptions.insert(&filter, subscriber, subscription));
    }
    let few: Vec<&String> = (0..MATCHES).map(|n| &topics[n % 300 * 144 % topics.len()]).collect();
    measure("match, not remembered", few.chunks(BATCH), |topic| {
        black_box(tenant.matches(topic, WORKERS));
    });
    let mut routes = Routes::default();
    let bounds = (WORKERS, SUBSCRIPTIONS);
    measure("match, remembered", few.chunks(BATCH), |topic| {
        black_box(routes.find(&tenant, topic, None, bounds, |_| ChainMask::default()).is_ok());
    });
    let mut chosen = 0_u32;
    let mut dice = 1;
    measure("match, remembered, and a member of each group", few.chunks(BATCH), |topic| {
        let found = routes.find(&tenant, topic, None, bounds, |_| ChainMask::default());
        let route = found.ok().and_then(|route| routes.get(route));
        for group in route.map_or(&[][..], |route| route.set.groups()) {
            let message = message(topic);
            let choice = Choice { message, publisher: "publisher", dice: &mut dice, tried: &[] };
            if let Some(at) = group.choose(choice) {
                group.members[at].presence.arrived();
                chosen += 1;
            }
        }
    });
    println!("  {:.2} members chosen a topic", f64::from(chosen) / MATCHES as f64);
}

fn message(topic: &str) -> MessageRef<'_> {
    MessageRef {
        topic,
        payload: b"",
        qos: QoS::AtMostOnce,
        retain: false,
        properties: b"",
        expires_at: Millis::NEVER,
        publisher: None,
    }
}

fn topic(number: usize) -> String {
    let (site, device) = (number % 200, number / 2);
    match number % 3 {
        0 => format!("site/{site}/device-{device}"),
        1 => format!("site/{site}/device-{device}/temperature"),
        _ => format!("site/{site}/device-{device}/status/power"),
    }
}

fn measure_tree(filters: &[String], topics: &[String]) {
    let before = resident_bytes();
    let mut tree = Subscriptions::default();
    let parsed: Vec<TopicFilter> =
        filters.iter().filter_map(|filter| TopicFilter::parse(filter).ok()).collect();
    let with_filters = resident_bytes();
    let keyed: Vec<(u64, &TopicFilter)> = (0..).zip(&parsed).collect();
    measure("insert", keyed.chunks(BATCH), |(key, filter)| {
        tree.insert(filter, (0, 0, *key), [*key; 4]);
    });
    let bytes = (resident_bytes() - with_filters) / tree.len();
    let filter_bytes = (with_filters - before) / tree.len();
    println!("  {bytes} bytes a subscription, {filter_bytes} more for the filter that is shared");

    let mut matches = 0;
    let mut find = |topic: &String| {
        tree.for_each_match(topic, |key, _| {
            black_box(key);
            matches += 1;
        });
    };
    // A topic to match was just read from the network: it is in the cache, the tree is not.
    let any: Vec<&String> = (0..MATCHES).map(|n| &topics[n * 7919 % topics.len()]).collect();
    let copied = |batch: &[&String]| -> Vec<String> { batch.iter().copied().cloned().collect() };
    measure("match, any topic", any.chunks(BATCH).map(copied), &mut find);
    let few: Vec<String> =
        (0..MATCHES).map(|n| topics[n % 300 * 149 % topics.len()].clone()).collect();
    measure("match, one of 300 topics", few.chunks(BATCH), &mut find);
    println!("  {:.2} matches a topic", f64::from(matches) / (2 * MATCHES) as f64);

    measure("remove", keyed.chunks(BATCH), |(key, filter)| {
        tree.remove(filter, (0, 0, *key));
    });
    assert!(tree.is_empty());
}

fn rules_for_all(count: usize) {
    println!("{count} rules for all");
    let rules = (0..count).map(|number| Rule {
        id: RuleId(number as i64),
        effect: if number % 10 == 0 { Effect::Deny } else { Effect::Allow },
        actions: Actions::ALL,
        pattern: pattern(&match number % 4 {
            0 => format!("secret/{number}/+"),
            1 => format!("site/{number}/+/temperature"),
            2 => format!("dev/${{clientid}}/{number}/#"),
            _ => format!("site/{number}/#"),
        }),
        subject: Subject::All,
    });
    measure_rules(rules, |number| {
        let number = number % count / 4 * 4;
        (format!("client-{number}"), format!("site/{}/device/temperature", number + 3))
    });
}

fn rules_of_users(users: usize, rules_each: usize) {
    println!("{users} users with {rules_each} rules each, and 20 for a role");
    let subjects: Vec<Arc<str>> = (0..users).map(|user| name(user).into()).collect();
    let own = (0..users * rules_each).map(|number| Rule {
        id: RuleId(number as i64),
        effect: if number % 10 == 0 { Effect::Deny } else { Effect::Allow },
        actions: Actions::ALL,
        pattern: pattern(&format!("dev/{}/{}/#", number / rules_each, number % rules_each)),
        subject: Subject::User(Arc::clone(&subjects[number / rules_each])),
    });
    let role = (0..20).map(|number| Rule {
        id: RuleId(-1 - number),
        effect: Effect::Allow,
        actions: Actions::PUBLISH,
        pattern: pattern(&format!("shared/{number}/${{username}}/#")),
        subject: Subject::Role("device".into()),
    });
    measure_rules(own.chain(role), |number| {
        let user = number * 7919 % users;
        (name(user), format!("dev/{user}/{}/up", rules_each - 1))
    });
}

fn name(user: usize) -> String {
    format!("user-{user}")
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("the patterns here are valid")
}

fn measure_rules(rules: impl Iterator<Item = Rule>, request: impl Fn(usize) -> (String, String)) {
    let before = resident_bytes();
    let rules: Vec<Rule> = rules.collect();
    let count = rules.len();
    let start = Instant::now();
    let set = RuleSet::compile(rules);
    println!("  {} ms to compile", start.elapsed().as_millis());
    println!("  {} bytes a rule", (resident_bytes().saturating_sub(before)) / count);
    let requests: Vec<(String, String, TopicFilter)> = (0..20_000)
        .map(request)
        .map(|(name, topic)| {
            let filter = TopicFilter::parse(&format!("{topic}/+")).expect("it is valid");
            (name, topic, filter)
        })
        .collect();
    let roles = [Arc::from("device")];
    measure("publish decision", requests.chunks(BATCH), |(name, topic, _)| {
        black_box(set.decide_publish(&requester(name, &roles), topic));
    });
    measure("subscribe decision", requests.chunks(BATCH), |(name, _, filter)| {
        black_box(set.decide_subscribe(&requester(name, &roles), filter));
    });
    let all = TopicFilter::parse("+/+/#").expect("it is valid");
    measure("subscribe decision for +/+/#", requests.chunks(BATCH), |(name, ..)| {
        black_box(set.decide_subscribe(&requester(name, &roles), &all));
    });
}

fn requester<'a>(name: &'a str, roles: &'a [Arc<str>]) -> Requester<'a> {
    Requester { client_id: name, username: Some(name), roles }
}

/// Prints the median over batches: other work on the machine lands in a few of them.
fn measure<T, B: AsRef<[T]>>(
    what: &str,
    batches: impl Iterator<Item = B>,
    mut once: impl FnMut(&T),
) {
    let mut spent: Vec<u128> = batches
        .map(|batch| {
            let start = Instant::now();
            for item in batch.as_ref() {
                once(item);
            }
            start.elapsed().as_nanos() / batch.as_ref().len() as u128
        })
        .collect();
    spent.sort_unstable();
    println!("  {} ns {what}", spent[spent.len() / 2]);
}

/// Linux: the second field of statm, in pages.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
