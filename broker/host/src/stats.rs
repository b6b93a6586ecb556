//! Counters of plugin calls: counted where they happen, added up when somebody asks.
//! What must not live here: what happens after a fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::fault::FaultKind;
use crate::manifest::Hook;

/// What one plugin did since it was activated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PluginStats {
    /// The plugin's name in the broker's configuration.
    pub name: Arc<str>,
    /// In quarantine after too many faults.
    pub is_quarantined: bool,
    /// One entry for each hook that it takes part in.
    pub hooks: Vec<HookStats>,
}

/// What one plugin did in one hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookStats {
    /// The hook.
    pub hook: Hook,
    /// Calls, refused ones too.
    pub calls: u64,
    /// Faults by kind; kinds that did not occur are left out.
    pub faults: Vec<(FaultKind, u64)>,
    /// CPU time of all calls, estimated from the calls that were timed.
    pub cpu: Duration,
}

/// The counters of one caller and plugin. Each worker has its own, so that no two write one line.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Counters([HookCounters; Hook::ALL.len()]);

#[derive(Default)]
struct HookCounters {
    calls: AtomicU64,
    timed_calls: AtomicU64,
    timed_cpu_ns: AtomicU64,
    faults: [AtomicU64; FaultKind::ALL.len()],
}

impl Counters {
    /// Counts a call; answers how many there were before it.
    pub(crate) fn call(&self, hook: Hook) -> u64 {
        self.0[hook.index()].calls.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn fault(&self, hook: Hook, kind: FaultKind) {
        let index = FaultKind::ALL.iter().position(|one| *one == kind);
        if let Some(counter) = index.and_then(|index| self.0[hook.index()].faults.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn timed(&self, hook: Hook, cpu: Duration) {
        let nanoseconds = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.0[hook.index()].timed_calls.fetch_add(1, Ordering::Relaxed);
        self.0[hook.index()].timed_cpu_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// Adds up the counters of all callers.
pub(crate) fn sum<'a>(
    counters: impl Iterator<Item = &'a Counters> + Clone,
    hook: Hook,
) -> HookStats {
    let total = |field: fn(&HookCounters) -> &AtomicU64| -> u64 {
        counters.clone().map(|one| field(&one.0[hook.index()]).load(Ordering::Relaxed)).sum()
    };
    let calls = total(|hook| &hook.calls);
    let timed_calls = total(|hook| &hook.timed_calls);
    let timed_cpu_ns = total(|hook| &hook.timed_cpu_ns);
    let cpu_ns = (u128::from(timed_cpu_ns) * u128::from(calls))
        .checked_div(u128::from(timed_calls))
        .unwrap_or(0);
    let faults = FaultKind::ALL.into_iter().enumerate().filter_map(|(index, kind)| {
        let count: u64 = counters
            .clone()
            .map(|one| one.0[hook.index()].faults[index].load(Ordering::Relaxed))
            .sum();
        (count > 0).then_some((kind, count))
    });
    HookStats {
        hook,
        calls,
        faults: faults.collect(),
        cpu: Duration::from_nanos(u64::try_from(cpu_ns).unwrap_or(u64::MAX)),
    }
}
