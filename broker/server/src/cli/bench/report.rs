//! How a benchmark is told: a line each second, the summary for people and in JSON.
//! What must not live here: counting.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::cli::output::note;

use super::counters::{Buckets, Counters, Total};
use super::{Bundle, ERRORS_SAID_MAX, Work};

/// What was done between two moments.
pub(super) fn second(
    bundle: &Bundle,
    start: Instant,
    before: &(Instant, Total),
    now: &(Instant, Total),
) -> String {
    let took = now.0 - before.0;
    let (old, new) = (&before.1, &now.1);
    let mut text = format!("{:>5} s", (now.0 - start).as_secs());
    let (here, word) = match &bundle.work {
        Work::Subscribe { .. } => (new.subscribed.min(new.connections), "subscribed"),
        Work::Publish(_) | Work::Connect => (new.connections, "connected"),
    };
    text.push_str(&format!("  {here}/{} {word}", bundle.clients));
    let per_second = |new: u64, old: u64| thousands(rate(new - old, took));
    match &bundle.work {
        Work::Publish(load) => {
            text.push_str(&format!("  {}/s sent", per_second(new.sent, old.sent)));
            if load.is_acknowledged() {
                let rate = per_second(new.acknowledged, old.acknowledged);
                text.push_str(&format!("  {rate}/s acknowledged"));
            }
        }
        Work::Subscribe { .. } => {
            text.push_str(&format!("  {}/s received", per_second(new.received, old.received)));
        }
        Work::Connect => {
            text.push_str(&format!("  {}/s new", per_second(new.connected, old.connected)));
        }
    }
    if let Some(delays) = delays(&new.delays.since(&old.delays)) {
        text.push_str(&format!("  {delays}"));
    }
    for (count, name) in [
        (new.failed, "failed"),
        (new.refused, "refused"),
        (new.lost, "lost"),
        (new.duplicated, "duplicated"),
    ] {
        if count > 0 {
            text.push_str(&format!("  {} {name}", thousands(count)));
        }
    }
    text
}

/// What was done altogether.
pub(super) fn summary(bundle: &Bundle, took: Duration, total: &Total) -> String {
    let seconds = took.as_secs_f64();
    let mut rows = vec![("clients", format!("{} of {}", total.connected, bundle.clients))];
    let with_rate =
        |count: u64| format!("{} ({}/s)", thousands(count), thousands(rate(count, took)));
    match &bundle.work {
        Work::Publish(load) => {
            rows.push(("sent", with_rate(total.sent)));
            if load.is_acknowledged() {
                rows.push(("acknowledged", with_rate(total.acknowledged)));
                rows.push(("refused", thousands(total.refused)));
            }
        }
        Work::Subscribe { .. } => {
            rows.push(("received", with_rate(total.received)));
            rows.push(("bytes", with_rate(total.received_bytes)));
            rows.push(("lost", thousands(total.lost)));
            rows.push(("duplicated", thousands(total.duplicated)));
        }
        Work::Connect => {}
    }
    rows.push(("failed", thousands(total.failed)));
    if let Some(delays) = delays(&total.delays) {
        rows.push(("delay", delays));
    }
    let lines = rows.iter().map(|(name, value)| format!("{name:<12}  {value}"));
    format!("--- {seconds:.1} s\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// The summary for programs.
#[derive(Serialize)]
pub(super) struct Summary {
    seconds: f64,
    clients: u32,
    connected: u64,
    failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicated: Option<u64>,
    /// None where there was nothing to measure.
    delay_microseconds: Option<BTreeMap<&'static str, u64>>,
}

const PERCENTILES: [(&str, f64); 4] =
    [("p50", 50.0), ("p99", 99.0), ("p999", 99.9), ("max", 100.0)];

pub(super) fn summary_json(bundle: &Bundle, took: Duration, total: &Total) -> Summary {
    let (sends, acknowledged, receives) = match &bundle.work {
        Work::Publish(load) => (true, load.is_acknowledged(), false),
        Work::Subscribe { .. } => (false, false, true),
        Work::Connect => (false, false, false),
    };
    let delays: BTreeMap<&'static str, u64> = PERCENTILES
        .iter()
        .filter_map(|(name, percent)| {
            let delay = total.delays.percentile(*percent)?;
            Some((*name, u64::try_from(delay.as_micros()).unwrap_or(u64::MAX)))
        })
        .collect();
    Summary {
        seconds: took.as_secs_f64(),
        clients: bundle.clients,
        connected: total.connected,
        failed: total.failed,
        sent: sends.then_some(total.sent),
        acknowledged: acknowledged.then_some(total.acknowledged),
        refused: acknowledged.then_some(total.refused),
        received: receives.then_some(total.received),
        received_bytes: receives.then_some(total.received_bytes),
        lost: receives.then_some(total.lost),
        duplicated: receives.then_some(total.duplicated),
        delay_microseconds: (!delays.is_empty()).then_some(delays),
    }
}

/// Says why clients failed.
pub(super) fn errors(counters: &[Arc<Counters>]) {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for counters in counters {
        for (text, count) in counters.errors() {
            *all.entry(text).or_default() += count;
        }
    }
    let mut all: Vec<(String, u64)> = all.into_iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (text, count) in all.into_iter().take(ERRORS_SAID_MAX) {
        note(format!("error: {count} x {text}"));
    }
}

fn delays(buckets: &Buckets) -> Option<String> {
    let list: Option<Vec<String>> = PERCENTILES
        .iter()
        .filter(|(name, _)| *name != "p999")
        .map(|(name, percent)| Some(format!("{name} {}", short(buckets.percentile(*percent)?))))
        .collect();
    Some(list?.join(" "))
}

/// A delay with three digits that count.
fn short(delay: Duration) -> String {
    let microseconds = delay.as_secs_f64() * 1e6;
    let (value, unit) = if microseconds < 1e3 {
        (microseconds, "us")
    } else if microseconds < 1e6 {
        (microseconds / 1e3, "ms")
    } else {
        (microseconds / 1e6, "s")
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

fn rate(count: u64, took: Duration) -> u64 {
    let microseconds = took.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / microseconds).unwrap_or(u64::MAX)
}

/// `1234567` as `1,234,567`.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_to_read() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        let delays = [3, 45_600, 999_000, 1_500_000].map(Duration::from_micros).map(short);
        assert_eq!(delays, ["3.00 us", "45.6 ms", "999 ms", "1.50 s"]);
        assert_eq!(rate(10, Duration::from_millis(500)), 20);
        assert_eq!(rate(10, Duration::ZERO), 10_000_000);
    }
}
