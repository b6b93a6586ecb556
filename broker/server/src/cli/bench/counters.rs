//! What a thread's clients count, and delays in buckets.
//! What must not live here: how it is shown.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::client::error::ClientError;

/// Different errors that a thread remembers.
const ERRORS_MAX: usize = 16;

/// Written by one thread, read by the one that reports.
#[derive(Default)]
pub(super) struct Counters {
    connections: AtomicU64,
    connected: AtomicU64,
    subscribed: AtomicU64,
    failed: AtomicU64,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    lost: AtomicU64,
    duplicated: AtomicU64,
    delays: Histogram,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// A client that is connected, until it is dropped.
pub(super) struct Here<'a>(&'a Counters);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counters {
    /// A client is connected; the time that took is a delay of `bench conn`.
    pub(super) fn connected(&self, took: Duration, is_delay: bool) -> Here<'_> {
        add(&self.connections, 1);
        add(&self.connected, 1);
        if is_delay {
            self.delays.add(took);
        }
        Here(self)
    }

    /// A client ended by itself.
    pub(super) fn failed(&self, error: &ClientError) {
        add(&self.failed, 1);
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let text = error.to_string();
        if errors.len() < ERRORS_MAX || errors.contains_key(&text) {
            *errors.entry(text).or_default() += 1;
        }
    }

    pub(super) fn subscribed(&self) {
        add(&self.subscribed, 1);
    }

    pub(super) fn sent(&self, count: u64) {
        add(&self.sent, count);
    }

    pub(super) fn acknowledged(&self, delay: Duration) {
        add(&self.acknowledged, 1);
        self.delays.add(delay);
    }

    pub(super) fn refused(&self) {
        add(&self.refused, 1);
    }

    pub(super) fn received(&self, bytes: usize) {
        add(&self.received, 1);
        add(&self.received_bytes, bytes as u64);
    }

    pub(super) fn delay(&self, delay: Duration) {
        self.delays.add(delay);
    }

    pub(super) fn lost(&self, count: u64) {
        add(&self.lost, count);
    }

    pub(super) fn duplicated(&self) {
        add(&self.duplicated, 1);
    }

    /// Messages that all have received.
    pub(super) fn received_of(all: &[Arc<Self>]) -> u64 {
        all.iter().map(|counters| counters.received.load(Ordering::Relaxed)).sum()
    }

    /// Each error and how often it came.
    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The counts of all threads at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Total {
    pub(super) connections: u64,
    pub(super) connected: u64,
    pub(super) subscribed: u64,
    pub(super) failed: u64,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) received: u64,
    pub(super) received_bytes: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) delays: Buckets,
}

impl Total {
    pub(super) fn of(counters: &[Arc<Counters>]) -> Self {
        let mut total = Self::default();
        for counters in counters {
            let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            total.connections += get(&counters.connections);
            total.connected += get(&counters.connected);
            total.subscribed += get(&counters.subscribed);
            total.failed += get(&counters.failed);
            total.sent += get(&counters.sent);
            total.acknowledged += get(&counters.acknowledged);
            total.refused += get(&counters.refused);
            total.received += get(&counters.received);
            total.received_bytes += get(&counters.received_bytes);
            total.lost += get(&counters.lost);
            total.duplicated += get(&counters.duplicated);
            total.delays.add(&counters.delays);
        }
        total
    }

    /// Every client stayed and no message was refused; losses are for whoever measures to judge.
    pub(super) const fn is_clean(&self) -> bool {
        self.failed == 0 && self.refused == 0
    }
}

/// Buckets in each doubling: a percentile is at most a 32nd too high.
const STEPS: u64 = 32;
const BUCKETS: usize = 60 * 32;

/// The bucket of a delay.
fn bucket(delay: Duration) -> usize {
    let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
    let index = if nanos < STEPS {
        nanos
    } else {
        let doubling = u64::from(nanos.ilog2() - STEPS.ilog2());
        doubling * STEPS + (nanos >> doubling)
    };
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The longest delay of a bucket.
fn bucket_end(index: usize) -> Duration {
    let (index, doubling) = (index as u64 % STEPS, index as u64 / STEPS);
    Duration::from_nanos(match doubling {
        0 => index,
        more => ((STEPS + index + 1) << (more - 1)) - 1,
    })
}

/// Delays, counted by one thread.
struct Histogram(Box<[AtomicU64]>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Histogram {
    fn add(&self, delay: Duration) {
        add(&self.0[bucket(delay)], 1);
    }
}

/// Delays of all threads.
#[derive(Clone, Debug, Default)]
pub(super) struct Buckets(Vec<u64>);

impl Buckets {
    fn add(&mut self, histogram: &Histogram) {
        self.0.resize(BUCKETS, 0);
        for (count, more) in self.0.iter_mut().zip(&histogram.0) {
            *count += more.load(Ordering::Relaxed);
        }
    }

    /// Those that came since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = earlier.0.iter().copied().chain(std::iter::repeat(0));
        Self(self.0.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect())
    }

    /// The delay that `percent` of all do not exceed; nothing where there are none.
    pub(super) fn percentile(&self, percent: f64) -> Option<Duration> {
        let all: u64 = self.0.iter().sum();
        if all == 0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank among counts, far below 2^52"
        )]
        let rank = ((all as f64 * percent / 100.0).ceil() as u64).clamp(1, all);
        let mut seen = 0;
        let index = self.0.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        index.map(bucket_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_at_most_a_32nd_less_than_its_end() {
        for nanos in (0..200).chain((8..63).map(|power| (1_u64 << power) + 12345)) {
            let delay = Duration::from_nanos(nanos);
            let end = bucket_end(bucket(delay));
            assert!(end >= delay, "{nanos}: {end:?}");
            assert!(end.as_nanos() <= u128::from(nanos + nanos / 32), "{nanos}: {end:?}");
        }
    }

    #[test]
    fn percentiles_are_those_of_all_threads_and_of_a_span() {
        let counters: [Arc<Counters>; 2] = Default::default();
        for milliseconds in 1..=50 {
            counters[0].delay(Duration::from_millis(milliseconds));
            counters[1].delay(Duration::from_millis(50 + milliseconds));
        }
        let total = Total::of(&counters);
        let close = |percent, expected: u64| {
            let found = total.delays.percentile(percent).unwrap();
            let expected = Duration::from_millis(expected);
            assert!(found >= expected && found <= expected * 33 / 32, "{percent}: {found:?}");
        };
        close(0.0, 1);
        close(50.0, 50);
        close(99.0, 99);
        close(100.0, 100);
        assert_eq!(total.delays.since(&total.delays).percentile(50.0), None);
    }
}
