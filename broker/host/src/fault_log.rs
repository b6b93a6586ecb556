//! Faults are logged once per burst: the first one, then how many followed.
//! What must not live here: the log line itself.

use std::sync::{Mutex, PoisonError};

use wasmqtt_core::time::Millis;

use crate::limits::FAULT_LOG_MS;

#[derive(Default)]
pub(crate) struct FaultLog(Mutex<Burst>);

#[derive(Default)]
struct Burst {
    logged_at: Option<Millis>,
    suppressed: u64,
}

impl FaultLog {
    /// None: don't log; else how many were left out since the last line.
    pub(crate) fn admit(&self, now: Millis) -> Option<u64> {
        let mut burst = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if burst.logged_at.is_some_and(|at| now.since(at) < FAULT_LOG_MS) {
            burst.suppressed += 1;
            return None;
        }
        burst.logged_at = Some(now);
        Some(std::mem::take(&mut burst.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::FaultLog;
    use crate::limits::FAULT_LOG_MS;
    use wasmqtt_core::time::Millis;

    #[test]
    fn a_burst_is_one_line_and_the_next_one_says_how_long_it_was() {
        let log = FaultLog::default();
        assert_eq!(log.admit(Millis(0)), Some(0));
        assert_eq!(log.admit(Millis(1)), None);
        assert_eq!(log.admit(Millis(FAULT_LOG_MS - 1)), None);
        assert_eq!(log.admit(Millis(FAULT_LOG_MS)), Some(2));
    }
}
