//! Seeded simulation of whole workers against a naive model: thousands of short runs, each with its
//! own number of workers, clients, bounds, hooks and faults.
//!
//! `WASMQTT_SIM_SEED=n` runs one seed and prints its trace, `WASMQTT_SIM_SEEDS=n` sets how many
//! are run.
//! What must not live here: steps (`world`) and promises (`model`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(clippy::print_stderr, reason = "a failing seed and the seeds per second are for eyes")]
#![allow(clippy::disallowed_methods, reason = "the clock measures the test, never a run")]
#![allow(clippy::cast_possible_truncation, reason = "numbers of a run are small")]
#![allow(clippy::wildcard_enum_match_arm, reason = "the model names what it knows")]
#![allow(clippy::type_complexity, reason = "tables of weights and steps")]

mod act;
mod client;
mod coverage;
mod finish;
mod hooks;
mod model;
mod packet;
mod rng;
mod scenario;
mod shell;
mod store;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use coverage::Coverage;

const SEEDS: u64 = 20_000;
/// Lines of a failing seed's trace that are printed.
const TAIL: usize = 120;

/// What a whole run must have reached: each of these is a path that went wrong once, or could.
const MUST_REACH: &[&str] = &[
    "batch",
    "client exceeds receive maximum",
    "client kicked",
    "user removed",
    "user removed while its session moves",
    "commit failed",
    "congested",
    "connection lost with publishes unacknowledged",
    "delayed message due",
    "delayed message published",
    "delayed will cancelled",
    "delayed will fired",
    "exchange ended by its time",
    "exchange ended by too many steps",
    "exchange refused for what its client sent",
    "fence with an open commit",
    "hook parked",
    "late event",
    "message expired in a queue",
    "message mailed",
    "message refused by a hook",
    "message sent again",
    "message too large",
    "QoS 2 duplicate",
    "QoS 2 publish repeated, outcome unknown",
    "disconnected by a full queue",
    "queue overflow",
    "no room for a session",
    "reading stopped",
    "re-authentication refused",
    "re-authenticated",
    "re-authentication as somebody else",
    "connected by an exchange",
    "replay goes on",
    "replay of what was retained meanwhile",
    "session moved amid a replay",
    "receive maximum reached",
    "release sent again",
    "delivery refused by its client",
    "QoS 2 publish repeated on its connection",
    "retained message replayed",
    "session asked for while it arrives",
    "session expired",
    "session moved with messages in flight",
    "session moved with messages queued",
    "session moved with received set",
    "session resumed with a release",
    "session resumed with messages in flight",
    "shared message",
    "shared message dropped by full queues",
    "shared message mailed",
    "shared message mailed again",
    "shared message unacknowledged, sent to another",
    "shared message waits for its member",
    "subscription not stored",
    "takeover",
    "unsubscribed",
    "will due",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a seed; what is wrong, if something is.
fn check(seed: u64, cover: &mut Coverage) -> Option<String> {
    let report = catch_unwind(AssertUnwindSafe(|| world::run(seed, false)));
    let violation = match report {
        Ok(report) => {
            cover.add(&report.cover);
            report.violation?
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panic: {}", text.unwrap_or("?"))
        }
    };
    Some(violation)
}

fn trace_of(seed: u64) -> Vec<String> {
    catch_unwind(AssertUnwindSafe(|| world::run(seed, true).trace)).unwrap_or_default()
}

/// The fuzzer, which compiles these files too, chooses the steps of a run.
#[test]
fn steps_may_be_chosen_by_bytes() {
    for seed in 1..=200 {
        let choices: Vec<u8> = (0..600).map(|at| rng::mix(&[seed, at]) as u8).collect();
        let report = world::run_choices(seed, &choices, true);
        assert_eq!(report.violation, None, "seed {seed}");
        let again = world::run_choices(seed, &choices, true).trace;
        assert!(again == report.trace, "seed {seed} runs otherwise the second time");
        let others: Vec<u8> = choices.iter().map(|choice| choice ^ 0x55).collect();
        let other = world::run_choices(seed, &others, true).trace;
        assert!(other != report.trace, "seed {seed} runs the same by other bytes");
    }
}

#[test]
fn workers_keep_every_promise_of_the_model() {
    let mut cover = Coverage::default();
    if let Some(seed) = number("WASMQTT_SIM_SEED") {
        let report = world::run(seed, true);
        for line in &report.trace {
            eprintln!("{line}");
        }
        assert_eq!(report.violation, None, "seed {seed}");
        return;
    }
    let seeds = number("WASMQTT_SIM_SEEDS").unwrap_or(SEEDS);
    let begin = Instant::now();
    for seed in 1..=seeds {
        if let Some(violation) = check(seed, &mut cover) {
            let trace = trace_of(seed);
            for line in &trace[trace.len().saturating_sub(TAIL)..] {
                eprintln!("{line}");
            }
            panic!("seed {seed}: {violation}\nWASMQTT_SIM_SEED={seed} runs it again");
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!("{seeds} seeds, {:.0} a second", seeds as f64 / seconds);
    for (what, count) in cover.iter() {
        eprintln!("{count:>9} {what}");
    }
    let missed: Vec<_> = MUST_REACH.iter().filter(|what| cover.count(what) == 0).collect();
    assert!(seeds < SEEDS || missed.is_empty(), "no seed reached {missed:?}");
}
