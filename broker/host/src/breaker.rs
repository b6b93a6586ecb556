//! The breaker of one plugin: too many faults put it in quarantine, a probe lets it out again.
//! What must not live here: a clock, and what a plugin in quarantine is answered with.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wasmqtt_core::time::Millis;

use crate::limits::{
    BREAKER_BACK_OFF_MS, BREAKER_BACK_OFF_MS_MAX, BREAKER_FAULTS, BREAKER_WINDOW_MS,
};

/// Shared by all instances of a plugin. While all is well a call costs one load.
#[derive(Default)]
pub(crate) struct Breaker {
    is_open: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of the last faults, at most [`BREAKER_FAULTS`].
    faults: VecDeque<Millis>,
    back_off_ms: u64,
    /// When the next probe may run.
    probe_at: Millis,
    closed_at: Option<Millis>,
}

/// Whether a call may enter the plugin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// As usual.
    Call,
    /// As the one call that finds out whether the plugin works again.
    Probe,
    /// Not at all.
    Quarantined,
}

impl Breaker {
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    pub(crate) fn admit(&self, now: impl FnOnce() -> Millis) -> Admission {
        if !self.is_open() {
            return Admission::Call;
        }
        let now = now();
        let mut state = self.state();
        if now < state.probe_at {
            return Admission::Quarantined;
        }
        // Should this probe never report, another one follows after the same time.
        state.probe_at = now + state.back_off_ms;
        Admission::Probe
    }

    /// A fault of the plugin; answers for how many milliseconds it went into quarantine, if so.
    pub(crate) fn fault(&self, admission: Admission, now: Millis) -> Option<u64> {
        let mut state = self.state();
        match admission {
            Admission::Quarantined => return None,
            // A call that was in flight when another one opened the breaker.
            Admission::Call if self.is_open() => return None,
            Admission::Call => {
                state.faults.push_back(now);
                if state.faults.len() < BREAKER_FAULTS {
                    return None;
                }
                let first = state.faults.pop_front().unwrap_or(now);
                if now.since(first) >= BREAKER_WINDOW_MS {
                    return None;
                }
                if state.closed_at.is_none_or(|at| now.since(at) >= BREAKER_WINDOW_MS) {
                    state.back_off_ms = 0;
                }
            }
            Admission::Probe => {}
        }
        state.faults.clear();
        state.back_off_ms =
            (state.back_off_ms * 2).clamp(BREAKER_BACK_OFF_MS, BREAKER_BACK_OFF_MS_MAX);
        state.probe_at = now + state.back_off_ms;
        self.is_open.store(true, Ordering::Release);
        Some(state.back_off_ms)
    }

    /// A probe went well.
    pub(crate) fn close(&self, now: Millis) {
        let mut state = self.state();
        state.faults.clear();
        state.closed_at = Some(now);
        self.is_open.store(false, Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, Breaker};
    use crate::limits::BREAKER_FAULTS;
    use wasmqtt_core::time::Millis;

    #[track_caller]
    fn admits(breaker: &Breaker, now: u64, expected: Admission) {
        assert_eq!(breaker.admit(|| Millis(now)), expected, "at {now}");
    }

    fn open(breaker: &Breaker, now: u64) -> Option<u64> {
        let mut quarantine = None;
        for _ in 0..BREAKER_FAULTS {
            assert_eq!(quarantine, None);
            quarantine = breaker.fault(Admission::Call, Millis(now));
        }
        quarantine
    }

    #[test]
    fn five_faults_within_a_minute_open_it_and_slower_ones_do_not() {
        let breaker = Breaker::default();
        for fault in 0..50 {
            assert_eq!(breaker.fault(Admission::Call, Millis(fault * 15_000)), None);
        }
        admits(&breaker, 750_000, Admission::Call);
        let breaker = Breaker::default();
        for fault in 0..4 {
            assert_eq!(breaker.fault(Admission::Call, Millis(fault * 14_999)), None);
        }
        assert_eq!(breaker.fault(Admission::Call, Millis(59_996)), Some(1_000));
    }

    #[test]
    fn one_probe_at_a_time_and_success_closes_it() {
        let breaker = Breaker::default();
        assert_eq!(open(&breaker, 0), Some(1_000));
        admits(&breaker, 999, Admission::Quarantined);
        admits(&breaker, 1_000, Admission::Probe);
        admits(&breaker, 1_000, Admission::Quarantined);
        assert_eq!(breaker.fault(Admission::Call, Millis(1_000)), None, "a late fault");
        breaker.close(Millis(1_001));
        admits(&breaker, 1_001, Admission::Call);
    }

    #[test]
    fn each_failed_probe_doubles_the_back_off_up_to_a_minute() {
        let breaker = Breaker::default();
        let mut now = 0;
        let mut back_off = open(&breaker, now).unwrap();
        for expected in [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            now += back_off;
            admits(&breaker, now, Admission::Probe);
            back_off = breaker.fault(Admission::Probe, Millis(now)).unwrap();
            assert_eq!(back_off, expected);
        }
    }

    #[test]
    fn a_relapse_soon_after_the_probe_goes_on_doubling_and_a_late_one_starts_over() {
        let breaker = Breaker::default();
        assert_eq!(open(&breaker, 0), Some(1_000));
        breaker.close(Millis(1_000));
        assert_eq!(open(&breaker, 60_999), Some(2_000));
        breaker.close(Millis(63_000));
        assert_eq!(open(&breaker, 123_000), Some(1_000));
    }
}
