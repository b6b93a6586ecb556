//! The breaker over whole calls: into quarantine, probed, and out again.
//! What must not live here: the breaker's arithmetic, which is tested beside it.

use serde_json::json;
use wasmqtt_core::hook::{AccessAction, PublishVerdict, Verdict};
use wasmqtt_host::active::OnFault;
use wasmqtt_host::fault::FaultKind;
use wasmqtt_host::manifest::Hook;

use crate::support::{Bench, COST, MISBEHAVE, setup};

#[test]
fn a_broken_plugin_is_quarantined_probed_and_let_out_when_it_works() {
    // Only authorize panics: on-publish is what proves that the plugin works.
    let mut bad = setup("bad", MISBEHAVE, json!({"mode": "panic", "only": "authorize"}));
    bad.on_fault = OnFault::Pass;
    let mut bench = Bench::new(vec![bad, setup("good", COST, json!({}))]);
    let ask = |bench: &mut Bench| {
        let answer = bench.authorize("bad", AccessAction::Publish, "t");
        assert!(matches!(answer.verdict, Verdict::Deny(_)), "{answer:?}");
    };
    for _ in 0..5 {
        ask(&mut bench);
    }
    assert!(bench.active.stats()[0].is_quarantined);

    // Without entering the plugin: no further panic is counted.
    ask(&mut bench);
    assert_eq!(bench.publish("t", b"p"), PublishVerdict::Pass);
    let traps = |bench: &Bench| bench.counted("bad", Hook::Authorize).1;
    assert_eq!(traps(&bench), [(FaultKind::Trap, 5), (FaultKind::Quarantined, 1)]);
    assert_eq!(bench.counted("bad", Hook::OnPublish).1, [(FaultKind::Quarantined, 1)]);

    // The first probe fails and doubles the back-off.
    bench.clock.advance(1_000);
    ask(&mut bench);
    ask(&mut bench);
    assert_eq!(traps(&bench), [(FaultKind::Trap, 6), (FaultKind::Quarantined, 2)]);
    bench.clock.advance(1_999);
    ask(&mut bench);
    assert_eq!(traps(&bench), [(FaultKind::Trap, 6), (FaultKind::Quarantined, 3)]);

    // The second one goes well.
    bench.clock.advance(1);
    assert_eq!(bench.publish("t", b"p"), PublishVerdict::Pass);
    assert_eq!(bench.counted("bad", Hook::OnPublish), (2, vec![(FaultKind::Quarantined, 1)]));
    assert!(!bench.active.stats()[0].is_quarantined);
    let answer = bench.authorize("good", AccessAction::Publish, "t");
    assert_eq!(answer.verdict, Verdict::Allow);
}

#[test]
fn every_worker_of_a_quarantined_plugin_knows() {
    let bad = setup("bad", MISBEHAVE, json!({"mode": "panic"}));
    let mut bench = Bench::new(vec![bad]);
    for _ in 0..5 {
        bench.publish("t", b"p");
    }
    bench.worker = bench.active.worker();
    bench.publish("t", b"p");
    let (calls, faults) = bench.counted("bad", Hook::OnPublish);
    assert_eq!((calls, faults), (6, vec![(FaultKind::Trap, 5), (FaultKind::Quarantined, 1)]));
}
