//! The clocks that the host reads: wall and monotonic time behind a trait, CPU time of the thread.
//! What must not live here: deadlines and other uses of time.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use wasmqtt_core::time::Millis;

/// Where time comes from that plugins see and that the breaker counts with; tests bring their own.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn unix_ms(&self) -> u64;
    /// A clock that never goes back.
    fn monotonic(&self) -> Millis;
}

/// The operating system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_ms(&self) -> u64 {
        millis(read(ClockId::Realtime))
    }

    fn monotonic(&self) -> Millis {
        Millis(millis(monotonic()))
    }
}

/// CPU time that the calling thread has used.
pub(crate) fn thread_cpu() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// Wall time that never goes back.
pub(crate) fn monotonic() -> Duration {
    read(ClockId::Monotonic)
}

fn read(clock: ClockId) -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(tv_nsec).unwrap_or(0))
}

fn millis(since: Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
