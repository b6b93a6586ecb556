//! What one worker counts of one tenant, for the tenant's `$SYS` topics.
//! What must not live here: what is counted when.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// Packets of any type from clients.
    PacketsReceived,
    /// Packets of any type to clients.
    PacketsSent,
    /// Bytes of those from clients.
    BytesReceived,
    /// Bytes of those to clients.
    BytesSent,
    /// PUBLISH packets from clients.
    PublishesReceived,
    /// PUBLISH packets to clients.
    PublishesSent,
}

const COUNTS: usize = 6;

/// Counters of one worker. It alone adds to them, so that a plain load and store do; others read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Traffic([AtomicU64; COUNTS]);

impl Traffic {
    /// Adds to a counter. To be called by its worker alone.
    pub fn add(&self, count: Count, by: u64) {
        let counter = &self.0[count as usize];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize].load(Ordering::Relaxed)
    }
}
