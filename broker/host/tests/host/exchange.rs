//! Exchanges of AUTH packets: what a plugin sees and answers at each step, and what becomes of faults.
//! What must not live here: AUTH packets (end-to-end tests).

use std::sync::Arc;

use serde_json::json;
use wasmqtt_core::hook::{Denial, ExchangeRequest, Kept, Principal};
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_host::answer::ExchangeVerdict;
use wasmqtt_host::fault::FaultKind;
use wasmqtt_host::limits::{EXCHANGE_DATA_BYTES_MAX, EXCHANGE_STATE_BYTES_MAX};
use wasmqtt_host::manifest::{Capability, Hook};

use crate::support::{Bench, MISBEHAVE, plugin, setup};

const CHALLENGE: &str = "fixtures/challenge/challenge";

/// Components of contract version 0.1.0, as they were when 0.2.0 came: never built again.
const FROZEN: [(&str, &str); 2] = [
    (
        "fixtures/frozen/0.1.0/cost",
        "34b6b8ad47ac621fca4b1111c0ae6ba4844f452ac74821853378ccb8dfa22ad3",
    ),
    (
        "fixtures/frozen/0.1.0/minimal",
        "9eeb56e024dbf1a4f1c7b227ca6d99749834ac0171fe9f72b99a31a6d2241b0e",
    ),
];

fn request(bench: &Bench, step: u16, data: &[u8], kept: Option<Kept>) -> ExchangeRequest {
    ExchangeRequest {
        connection: Arc::clone(&bench.connection),
        principal: None,
        method: "challenge".into(),
        data: Some(data.into()),
        step,
        kept,
    }
}

fn ask(bench: &Bench, plugin: &str, request: &ExchangeRequest) -> ExchangeVerdict {
    let index = bench.active.find(plugin, Hook::AuthExchange).unwrap();
    bench.active.exchange(index, request)
}

fn kept(state: Box<[u8]>) -> Option<Kept> {
    Some(Kept { asked_by: 0, state })
}

#[test]
fn components_of_the_older_contract_load_bit_for_bit_and_run() {
    use wasmqtt_core::hook::{AccessAction, PublishVerdict, Verdict};
    use wasmqtt_host::answer::AuthVerdict;
    for (name, digest) in FROZEN {
        assert_eq!(plugin(name).digest(), digest, "{name} has been changed");
    }
    let mut bench = Bench::new(vec![setup("old", FROZEN[0].0, json!({}))]);
    assert!(matches!(bench.authenticate("old", Some(b"p")), AuthVerdict::Allow(_)));
    assert_eq!(bench.authorize("old", AccessAction::Publish, "t").verdict, Verdict::Allow);
    assert_eq!(bench.publish("t", b"payload"), PublishVerdict::Pass);
    for capability in ["clock", "kv", "log"] {
        assert!(
            plugin(FROZEN[0].0).manifest().capabilities.iter().any(|one| one.name() == capability)
        );
    }
    let mut bench = Bench::new(vec![setup("old", FROZEN[1].0, json!({}))]);
    assert_eq!(bench.authorize("old", AccessAction::Publish, "t").verdict, Verdict::Next);
}

#[test]
fn a_plugin_of_the_newer_contract_says_so() {
    let plugin = plugin(CHALLENGE);
    assert_eq!(plugin.hooks(), [Hook::AuthExchange]);
    assert_eq!(plugin.manifest().capabilities, [Capability::Random]);
}

#[test]
fn what_a_plugin_kept_comes_back_to_another_instance() {
    let bench = Bench::new(vec![setup("mine", CHALLENGE, json!({}))]);
    let ExchangeVerdict::Continue { data, state } =
        ask(&bench, "mine", &request(&bench, 0, b"alice reader", None))
    else {
        panic!("no challenge");
    };
    assert_eq!(&state[..], [&data[..], b"alice reader"].concat());
    let other = Bench::new(vec![setup("mine", CHALLENGE, json!({}))]);
    let wrong = ask(&other, "mine", &request(&other, 1, b"wrong", kept(state)));
    let reason = Some("the proof is wrong".into());
    let denial = Denial { code: ReasonCode::NotAuthorized, reason };
    assert_eq!(wrong, ExchangeVerdict::Deny(denial));
    let mut method = request(&bench, 0, b"alice", None);
    method.method = "another".into();
    assert_eq!(ask(&bench, "mine", &method), ExchangeVerdict::Next);
    let banned = ask(&bench, "mine", &request(&bench, 0, b"nobody", None));
    assert!(matches!(banned, ExchangeVerdict::Deny(Denial { code: ReasonCode::Banned, .. })));
    assert_eq!(bench.counted("mine", Hook::AuthExchange), (3, vec![]));
}

#[test]
fn an_allow_without_a_name_takes_the_user_name() {
    let bench = Bench::new(vec![setup("bad", MISBEHAVE, json!({}))]);
    let expected = Principal { name: Some("alice".into()), ..Principal::default() };
    let answer = ask(&bench, "bad", &request(&bench, 0, b"", None));
    assert_eq!(answer, ExchangeVerdict::Allow(Arc::new(expected), None));
}

#[track_caller]
fn check(mode: &str, step: u16, kind: FaultKind) {
    let bench = Bench::new(vec![setup("bad", MISBEHAVE, json!({"mode": mode}))]);
    for call in 1..=2 {
        let answer = ask(&bench, "bad", &request(&bench, step, b"x", kept(Box::default())));
        let refused = Denial::new(ReasonCode::ServerUnavailable);
        assert_eq!(answer, ExchangeVerdict::Deny(refused), "{mode}");
        assert_eq!(bench.counted("bad", Hook::AuthExchange), (call, vec![(kind, call)]), "{mode}");
    }
}

#[test]
fn every_fault_in_an_exchange_refuses_and_is_counted() {
    for step in [0, 1] {
        check("loop", step, FaultKind::CpuDeadline);
        check("recurse", step, FaultKind::Trap);
        check("panic", step, FaultKind::Trap);
        check("denial-low", step, FaultKind::BadAnswer);
        check("denial-success", step, FaultKind::BadAnswer);
        check("grant-nonsense", step, FaultKind::BadAnswer);
        check("random-huge", step, FaultKind::BadAnswer);
        const { assert!(EXCHANGE_DATA_BYTES_MAX < 1 << 20) };
        check("data-huge", step, FaultKind::BadAnswer);
        const { assert!(EXCHANGE_STATE_BYTES_MAX < 1 << 20) };
        check("state-huge", step, FaultKind::BadAnswer);
    }
    check("next-later", 1, FaultKind::BadAnswer);
}
