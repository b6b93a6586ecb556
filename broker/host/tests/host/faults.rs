//! Misbehaving plugins: each fault has its answer, and nobody else notices.
//! What must not live here: repeated faults; see `quarantine`.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use wasmqtt_core::hook::{AccessAction, Denial, PublishVerdict, Verdict};
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_host::active::{ActivateError, OnFault};
use wasmqtt_host::answer::AuthVerdict;
use wasmqtt_host::clock::{Clock, SystemClock};
use wasmqtt_host::fault::FaultKind;
use wasmqtt_host::limits::{CACHE_TTL_MS_MAX, REASON_BYTES_MAX};
use wasmqtt_host::manifest::Hook;
use wasmqtt_host::plugin::Plugin;

use crate::support::{Bench, COST, ENGINE, MINIMAL, MISBEHAVE, setup, with_manifests};

/// A misbehaving plugin between two good ones.
#[track_caller]
fn bench(mode: &str, on_fault: OnFault) -> Bench {
    let mut bad = setup("bad", MISBEHAVE, json!({"mode": mode}));
    bad.on_fault = on_fault;
    Bench::new(vec![setup("good", COST, json!({})), bad, setup("quiet", MINIMAL, json!({}))])
}

fn refusal(code: ReasonCode) -> Denial {
    Denial::new(code)
}

/// A fault in each hook: refused, counted, the next call meets a new instance, others go on.
#[track_caller]
fn check(mode: &str, kind: FaultKind) {
    let mut bench = bench(mode, OnFault::Refuse);
    for call in 1..=2 {
        let answer = bench.authorize("bad", AccessAction::Publish, "t");
        let refused = Verdict::Deny(refusal(ReasonCode::UnspecifiedError));
        assert_eq!((answer.verdict, answer.ttl_ms), (refused, 0));
        assert_eq!(bench.counted("bad", Hook::Authorize), (call, vec![(kind, call)]));
        let answer = bench.authorize("good", AccessAction::Publish, "t");
        assert_eq!(answer.verdict, Verdict::Allow);
    }
    let refused = PublishVerdict::Drop(refusal(ReasonCode::UnspecifiedError));
    assert_eq!(bench.publish("t", b"payload"), refused);
    assert_eq!(bench.counted("bad", Hook::OnPublish), (1, vec![(kind, 1)]));
    let refused = AuthVerdict::Deny(refusal(ReasonCode::ServerUnavailable));
    assert_eq!(bench.authenticate("bad", Some(b"p")), refused);
    assert_eq!(bench.counted("bad", Hook::Authenticate), (1, vec![(kind, 1)]));
    let allowed = bench.authenticate("good", Some(b"p"));
    assert!(matches!(allowed, AuthVerdict::Allow(_)), "{allowed:?}");
    assert_eq!(bench.counted("good", Hook::Authorize), (2, vec![]));
}

#[test]
fn a_loop_is_stopped_by_its_cpu_deadline() {
    check("loop", FaultKind::CpuDeadline);
}

#[test]
fn recursion_is_stopped() {
    // Rust keeps arrays in linear memory: that stack of its own ends first, by a trap.
    check("recurse", FaultKind::Trap);
}

#[test]
fn a_panic_is_a_trap() {
    check("panic", FaultKind::Trap);
}

#[test]
fn a_refusal_with_success_or_a_code_below_0x80_is_a_fault() {
    check("denial-low", FaultKind::BadAnswer);
}

#[test]
fn memory_ends_at_the_limit_of_the_instance() {
    // Filling 32 MiB may take longer than 10 ms of CPU: whatever comes first ends it.
    let mut greedy = setup("bad", MISBEHAVE, json!({"mode": "alloc", "only": "authorize"}));
    greedy.limits.memory_bytes = 4 << 20;
    let mut bench = Bench::new(vec![greedy]);
    let answer = bench.authorize("bad", AccessAction::Publish, "t");
    assert_eq!(answer.verdict, Verdict::Deny(refusal(ReasonCode::UnspecifiedError)));
    assert_eq!(bench.counted("bad", Hook::Authorize).1, [(FaultKind::Memory, 1)]);

    let mut bench = self::bench("alloc", OnFault::Refuse);
    bench.authorize("bad", AccessAction::Publish, "t");
    let (_, faults) = bench.counted("bad", Hook::Authorize);
    let kinds: Vec<_> = faults.iter().map(|(kind, _)| *kind).collect();
    assert!(kinds == [FaultKind::Memory] || kinds == [FaultKind::CpuDeadline], "{kinds:?}");
}

#[test]
fn a_flood_of_log_lines_is_bounded_by_the_deadline() {
    let mut bench = bench("log-flood", OnFault::Refuse);
    bench.authorize("bad", AccessAction::Publish, "t");
    assert_eq!(bench.counted("bad", Hook::Authorize).1, [(FaultKind::CpuDeadline, 1)]);
}

#[test]
fn success_drops_a_message_and_refuses_nothing_else() {
    let mut bench = bench("denial-success", OnFault::Refuse);
    let answer = bench.authorize("bad", AccessAction::Subscribe, "t");
    assert_eq!(answer.verdict, Verdict::Deny(refusal(ReasonCode::UnspecifiedError)));
    let verdict = bench.authenticate("bad", None);
    assert_eq!(verdict, AuthVerdict::Deny(refusal(ReasonCode::ServerUnavailable)));
    let verdict = bench.publish("t", b"payload");
    assert_eq!(verdict, PublishVerdict::Drop(refusal(ReasonCode::Success)));
    assert_eq!(bench.counted("bad", Hook::OnPublish).1, []);
}

#[test]
fn a_long_reason_is_cut_and_the_refusal_stands() {
    let mut bench = bench("long-reason", OnFault::Pass);
    let Verdict::Deny(denial) = bench.authorize("bad", AccessAction::Publish, "t").verdict else {
        panic!("not refused");
    };
    assert_eq!(denial.code, ReasonCode::NotAuthorized);
    assert_eq!(denial.reason.map(|text| text.len()), Some(REASON_BYTES_MAX));
    assert_eq!(bench.counted("bad", Hook::Authorize).1, []);
}

#[test]
fn a_topic_that_is_none_is_a_fault_and_never_gets_out() {
    for mode in ["topic-wildcard", "topic-nul", "topic-empty", "topic-long"] {
        let mut bench = bench(mode, OnFault::Refuse);
        let verdict = bench.publish("t", b"payload");
        let refused = PublishVerdict::Drop(refusal(ReasonCode::UnspecifiedError));
        assert_eq!(verdict, refused, "{mode}");
        assert_eq!(bench.counted("bad", Hook::OnPublish).1, [(FaultKind::BadAnswer, 1)], "{mode}");
    }
}

#[test]
fn a_payload_above_the_limit_is_a_fault() {
    let mut bad = setup("bad", MISBEHAVE, json!({"mode": "payload-huge"}));
    bad.limits.payload_bytes_max = 1 << 20;
    bad.limits.call_cpu *= 10;
    let mut bench = Bench::new(vec![bad]);
    let verdict = bench.publish("t", b"payload");
    assert_eq!(verdict, PublishVerdict::Drop(refusal(ReasonCode::UnspecifiedError)));
    assert_eq!(bench.counted("bad", Hook::OnPublish).1, [(FaultKind::BadAnswer, 1)]);
}

#[test]
fn a_nonsense_principal_is_a_refusal() {
    let bench = bench("grant-nonsense", OnFault::Refuse);
    let verdict = bench.authenticate("bad", None);
    assert_eq!(verdict, AuthVerdict::Deny(refusal(ReasonCode::ServerUnavailable)));
    assert_eq!(bench.counted("bad", Hook::Authenticate).1, [(FaultKind::BadAnswer, 1)]);
}

#[test]
fn a_ttl_is_capped() {
    let mut bench = bench("ttl-max", OnFault::Refuse);
    let answer = bench.authorize("bad", AccessAction::Publish, "t");
    assert_eq!((answer.verdict, answer.ttl_ms), (Verdict::Allow, CACHE_TTL_MS_MAX));
}

#[test]
fn the_declared_policy_passes_messages_but_never_identity_or_access() {
    for mode in ["panic", "loop", "topic-nul"] {
        let mut bench = bench(mode, OnFault::Pass);
        assert_eq!(bench.publish("t", b"payload"), PublishVerdict::Pass, "{mode}");
    }
    let mut bench = bench("panic", OnFault::Pass);
    let answer = bench.authorize("bad", AccessAction::Publish, "t");
    assert!(matches!(answer.verdict, Verdict::Deny(_)), "{answer:?}");
    assert!(matches!(bench.authenticate("bad", None), AuthVerdict::Deny(_)));
}

#[test]
fn a_plugin_that_does_not_start_is_not_activated_and_is_named() {
    for (mode, text) in [
        ("init-error", "this fixture does not start"),
        ("init-panic", "trap: "),
        ("init-loop", "cpu-deadline: "),
    ] {
        let good = setup("good", COST, json!({}));
        let mut bad = setup("bad", MISBEHAVE, json!({"mode": mode}));
        bad.limits.init_cpu /= 20;
        let error = Bench::try_new(vec![good, bad]).err().unwrap();
        let ActivateError::Start { name, text: found } = error else { panic!("{error}") };
        assert_eq!(&*name, "bad");
        assert!(found.starts_with(text), "{found}");
    }
}

/// A component whose one core module has these sections; it does all it does when it is started.
fn hand_made(sections: &[&[u8]]) -> Vec<u8> {
    let module = [b"\0asm\x01\0\0\0", sections.concat().as_slice()].concat();
    let length = u8::try_from(module.len()).unwrap();
    let instantiate = [2, 4, 1, 0, 0, 0];
    let component = [b"\0asm\x0d\0\x01\0", &[1, length][..], &module, &instantiate].concat();
    let manifest = "manifest = 1\nid = \"x\"\nversion = \"1.0.0\"\ndescription = \"d\"\nhooks = []";
    with_manifests(&component, &[manifest])
}

#[test]
fn code_that_runs_before_init_is_bounded_as_well() {
    let types = &[1, 4, 1, 0x60, 0, 0][..];
    let (functions, start) = (&[3, 2, 1, 0][..], &[8, 1, 0][..]);
    // (func $f (call $f))
    let recurses = &[10, 6, 1, 4, 0, 0x10, 0, 0x0b][..];
    // (func (loop (br 0)))
    let loops = &[10, 9, 1, 7, 0, 3, 0x40, 0x0c, 0, 0x0b, 0x0b][..];
    // (memory 1024): 64 MiB
    let memory = &[5, 4, 1, 0, 0x80, 0x08][..];
    for (sections, text) in [
        (&[types, functions, start, recurses][..], "stack: "),
        (&[types, functions, start, loops][..], "cpu-deadline: "),
        (&[memory][..], "memory: "),
    ] {
        let mut bad = setup("bad", MINIMAL, json!({}));
        bad.plugin = Plugin::load(&ENGINE, &hand_made(sections)).unwrap();
        bad.limits.init_cpu /= 20;
        let error = Bench::try_new(vec![bad]).err().unwrap();
        let ActivateError::Start { text: found, .. } = error else { panic!("{error}") };
        assert!(found.starts_with(text), "{found}");
    }
}

#[test]
fn an_instance_with_a_slow_init_is_made_off_the_worker() {
    let mut slow = setup("slow", MISBEHAVE, json!({"mode": "panic", "only": "authorize"}));
    slow.limits.inline_init_cpu = Duration::ZERO;
    let mut bench = Bench::new(vec![slow]);
    bench.authorize("slow", AccessAction::Publish, "t");
    // Meanwhile the policy answers; it may take a while until the new instance is there.
    let refused = PublishVerdict::Drop(refusal(ReasonCode::UnspecifiedError));
    let give_up = SystemClock.monotonic().plus_seconds(60);
    loop {
        let verdict = bench.publish("t", b"payload");
        if verdict == PublishVerdict::Pass {
            break;
        }
        assert_eq!(verdict, refused);
        assert!(SystemClock.monotonic() < give_up, "no instance");
        thread::yield_now();
    }
    let (_, faults) = bench.counted("slow", Hook::OnPublish);
    assert!(faults.iter().all(|(kind, _)| *kind == FaultKind::NotReady), "{faults:?}");
    assert!(!bench.active.stats()[0].is_quarantined);
}

#[test]
fn a_configuration_that_the_schema_refuses_is_not_activated() {
    let bad = setup("bad", COST, json!({"mode": "pass", "colour": 1}));
    let error = Bench::try_new(vec![bad]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "plugin `bad`: its configuration does not fit: `colour` is unknown; there is mode"
    );
    let twice = || setup("same", COST, json!({}));
    let error = Bench::try_new(vec![twice(), twice()]).err().unwrap();
    assert_eq!(error, ActivateError::SameName { name: Arc::from("same") });
}

#[test]
fn many_threads_authenticate_at_once_and_a_fault_of_one_is_nobody_elses() {
    let bench = bench("panic", OnFault::Refuse);
    let bench = &bench;
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                for _ in 0..50 {
                    let verdict = bench.authenticate("good", Some(b"p"));
                    assert!(matches!(verdict, AuthVerdict::Allow(_)), "{verdict:?}");
                    if number == 0 {
                        let verdict = bench.authenticate("bad", None);
                        assert!(matches!(verdict, AuthVerdict::Deny(_)), "{verdict:?}");
                    }
                }
            });
        }
    });
    assert_eq!(bench.counted("good", Hook::Authenticate), (400, vec![]));
}
